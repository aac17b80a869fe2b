/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl volume: backups of the volume object. */
#include "cli/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/access.h"
#include "cli/cli.h"
#include "key/keyring_private.h"

#define FILE_MAX (256u << 10) /* bytes of a volume object */

/* All steps before the volume. look: nothing is written to the store. */
static int open_access(struct s3c_ctl *ctl, struct s3c_access *access, bool look,
		       struct s3c_err *err)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (s3c_enc_family(ctl->options.enc) == S3C_FAMILY_PLAIN)
		return s3c_err_set(err, -EINVAL, "enc=%s has no volume", ctl->options.enc_name);
	s3c_access_init(access, &ctl->options, &ctl->source, look);
	access->beside = true;
	access->keep = true;
	r = s3c_access_keys(access, err);
	if (r == 0)
		r = s3c_access_store(access, false, err);
	if (r == 0)
		r = s3c_access_state(access, err);
	return r < 0 ? r : s3c_access_probe(access, err);
}

static int export_to(struct s3c_access *access, const char *path, struct s3c_err *err)
{
	cleanup_buf struct s3c_buf body = { .max = FILE_MAX };
	int r = s3c_access_export(access, err, &body);

	if (r == 0)
		r = s3c_private_write_new(path, body.data, body.len);
	return r < 0 ? s3c_err_set(err, r, "cannot write %s: %s", path, strerror(-r)) : 0;
}

static int read_file(const char *path, struct s3c_buf *body)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char piece[4096];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	while (r == 0 && (n = read(fd, piece, sizeof(piece))) != 0)
		r = n < 0 ? -errno : s3c_buf_append(body, piece, (size_t)n);
	return r;
}

static int import_from(struct s3c_access *access, const char *path, struct s3c_err *err)
{
	cleanup_buf struct s3c_buf body = { .max = FILE_MAX };
	int r = read_file(path, &body);

	if (r < 0)
		return s3c_err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	return s3c_access_import(access, &body, err);
}

int s3c_ctl_volume(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	bool export = strcmp(ctl->args[0], "export") == 0;
	const char *path = ctl->args[2];
	struct s3c_err err = { 0 };
	int r;

	if (!export && strcmp(ctl->args[0], "import") != 0) {
		fprintf(stderr, "s3cryptfsctl: volume %s is unknown; there are export and import\n",
			ctl->args[0]);
		return S3C_EXIT_USAGE;
	}
	r = s3c_source_parse(ctl->args[1], &err, &ctl->source);
	if (r == 0)
		r = open_access(ctl, &access, export, &err);
	if (r == 0)
		r = export ? export_to(&access, path, &err) : import_from(&access, path, &err);
	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_FAILED;
	}
	if (export)
		printf("the volume object is in %s; it opens with the keyring only\n", path);
	else
		printf("the volume object is at %s again\n", ctl->source.text);
	return S3C_EXIT_OK;
}
