/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "key/keyring.h"

static int key_new(struct s3c_ctl *ctl, const char *path)
{
	struct s3c_keyring *keyring;
	struct s3c_err err = { 0 };
	int r = s3c_keyring_create(path, ctl->args[1], &err);

	if (r == 0)
		r = s3c_keyring_load(path, &err, &keyring);
	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_FAILED;
	}
	printf("keyring %s with the key %s\n"
	       "Without this file the data cannot be read: keep a copy in a safe place.\n",
	       path, s3c_keyring_active(keyring)->id);
	s3c_keyring_free(keyring);
	return S3C_EXIT_OK;
}

static int key_list(struct s3c_ctl *ctl, const char *path)
{
	const char *only = ctl->args[1];
	struct s3c_keyring *keyring;
	struct s3c_err err = { 0 };
	int r = s3c_keyring_load(path, &err, &keyring);

	if (r == 0 && only && !s3c_keyring_find(keyring, only)) {
		r = s3c_err_set(&err, -ENOENT, "%s has no key %s", path, only);
		s3c_keyring_free(keyring);
	}
	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_FAILED;
	}
	for (size_t i = 0; i < keyring->count; i++) {
		const struct s3c_master_key *key = &keyring->keys[i];

		if (only && strcmp(only, key->id))
			continue;
		printf("%s\t%s\t%zu bits%s%s", key->id, key->active ? "active" : "old",
		       key->secret_len * 8, key->ssec_shared ? "\tsse-c" : "",
		       key->rsa_private_key ? "\trsa" : "");
		for (size_t k = 0; k < key->desc_count; k++)
			printf("\t%s=%s", key->desc[k].name, key->desc[k].value);
		putchar('\n');
	}
	s3c_keyring_free(keyring);
	return S3C_EXIT_OK;
}

int s3c_ctl_key(struct s3c_ctl *ctl)
{
	const char *verb = ctl->args[0];
	char *path;
	int status;

	if (!strcmp(verb, "rotate") || !strcmp(verb, "retire")) {
		fprintf(stderr, "s3cryptfsctl: key %s is not in this version\n", verb);
		return S3C_EXIT_USAGE;
	}
	if (strcmp(verb, "new") != 0 && strcmp(verb, "list") != 0) {
		fprintf(stderr,
			"s3cryptfsctl: key %s is unknown; usage: s3cryptfsctl key new|list "
			"[-o keyring=FILE] [ID]\n",
			verb);
		return S3C_EXIT_USAGE;
	}
	path = ctl->options.keyring ? strdup(ctl->options.keyring) : s3c_keyring_default_path();
	if (!path) {
		fprintf(stderr,
			"s3cryptfsctl: key: there is no home folder: give -o keyring=FILE\n");
		return S3C_EXIT_FAILED;
	}
	status = !strcmp(verb, "new") ? key_new(ctl, path) : key_list(ctl, path);
	free(path);
	return status;
}
