/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl key: keyrings. */
#include "cli/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static int fail(struct s3c_ctl *ctl, struct s3c_err *err, int r)
{
	s3c_ctl_complain(ctl, err, r);
	return S3C_EXIT_FAILED;
}

/* Where it is, for a sentence. */
static void print_name(const struct s3c_keyring_source *source)
{
	cleanup_free char *name = s3c_keyring_source_name(source);

	fputs(name ? name : "the keyring", stdout);
}

static int key_new(struct s3c_ctl *ctl, const struct s3c_keyring_source *source)
{
	struct s3c_err err = { 0 };
	char id[S3C_KEY_ID_MAX + 1];
	int r;

	if (source->passphrase && !ctl->protect) {
		fputs("s3cryptfsctl: key new: passphrase_file= is given, and --passphrase is not: "
		      "the keyring would not be protected\n",
		      stderr);
		return S3C_EXIT_USAGE;
	}
	r = s3c_keyring_new(source, ctl->args[1], ctl->protect, &err, id);

	if (r < 0)
		return fail(ctl, &err, r);
	fputs("keyring ", stdout);
	print_name(source);
	printf(" with the key %s\n"
	       "Without this file%s the data cannot be read: keep a copy in a safe place.\n",
	       id, ctl->protect ? " and its passphrase" : "");
	return S3C_EXIT_OK;
}

static void print_key(const struct s3c_master_key *key)
{
	printf("%s\t%s\t%zu bits%s%s", key->id, key->active ? "active" : "old", key->secret_len * 8,
	       key->ssec_shared ? "\tsse-c" : "", key->rsa_private_key ? "\trsa" : "");
	for (size_t i = 0; i < key->desc_count; i++)
		printf("\t%s=%s", key->desc[i].name, key->desc[i].value);
	putchar('\n');
}

static int key_list(struct s3c_ctl *ctl, const struct s3c_keyring_source *source)
{
	cleanup_keyring struct s3c_keyring *keyring = NULL;
	cleanup_free char *name = s3c_keyring_source_name(source);
	const char *only = ctl->args[1];
	struct s3c_err err = { 0 };
	int r = s3c_keyring_open(source, &err, &keyring);

	if (r == 0 && only && !s3c_keyring_find(keyring, only))
		r = s3c_err_set(&err, -ENOENT, "%s has no key %s", name ? name : "the keyring",
				only);
	if (r < 0)
		return fail(ctl, &err, r);
	for (size_t i = 0; i < keyring->count; i++)
		if (!only || strcmp(only, keyring->keys[i].id) == 0)
			print_key(&keyring->keys[i]);
	return S3C_EXIT_OK;
}

static int key_rotate(struct s3c_ctl *ctl, const struct s3c_keyring_source *source)
{
	struct s3c_err err = { 0 };
	char id[S3C_KEY_ID_MAX + 1];
	int r = s3c_keyring_rotate(source, ctl->args[1], &err, id);

	if (r < 0)
		return fail(ctl, &err, r);
	printf("%s is the active key of ", id);
	print_name(source);
	puts(" now, the former one is old\n"
	     "Copy the file to every machine that mounts with it, and keep a copy in a safe place; "
	     "reload\nevery mount (SIGHUP), and s3cryptfsctl rekey brings what is stored under the "
	     "new key.");
	return S3C_EXIT_OK;
}

static int key_retire(struct s3c_ctl *ctl, const struct s3c_keyring_source *source)
{
	(void)source;
	return s3c_ctl_retire(ctl);
}

int s3c_ctl_key(struct s3c_ctl *ctl)
{
	static const struct {
		const char *verb;
		int (*run)(struct s3c_ctl *ctl, const struct s3c_keyring_source *source);
		int min, max; /* arguments after it; max -1: any number */
	} verbs[] = {
		{ "new", key_new, 0, 1 },
		{ "list", key_list, 0, 1 },
		{ "rotate", key_rotate, 0, 1 },
		{ "retire", key_retire, 2, -1 },
	};
	const struct s3c_keyring_source source = s3c_options_keyring(&ctl->options);
	const char *verb = ctl->args[0];

	if (ctl->protect && strcmp(verb, "new") != 0) {
		fprintf(stderr, "s3cryptfsctl: key %s: --passphrase belongs to key new\n", verb);
		return S3C_EXIT_USAGE;
	}
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verb, verbs[i].verb) == 0 && ctl->arg_count > verbs[i].min &&
		    (verbs[i].max < 0 || ctl->arg_count <= verbs[i].max + 1))
			return verbs[i].run(ctl, &source);
	fprintf(stderr,
		"s3cryptfsctl: key %s: wrong usage; usage: s3cryptfsctl key new|list|rotate "
		"[-o keyring=FILE] [ID], or key retire [-o OPTION,...] ID SOURCE...\n",
		verb);
	return S3C_EXIT_USAGE;
}
