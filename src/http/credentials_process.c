/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A profile's credential_process: a program that prints credentials. */
#include <errno.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/secret.h"
#include "http/credentials_private.h"

int s3c_cred_load_process(struct s3c_cred_sources *sources, struct s3c_err *err,
			  struct s3c_credential **ret_credential)
{
	const char *command = s3c_cred_value(sources, "credential_process");
	cleanup_secret char *text = NULL;
	char **argv;
	size_t len;
	int r;

	if (command == NULL)
		return -ENODATA;
	r = s3c_process_split(command, &argv);
	if (r < 0)
		return s3c_err_set(err, r,
				   "profile %s: credential_process is not a command: is a quote "
				   "left open?",
				   sources->profile);
	r = s3c_process_run(argv, S3C_CRED_TEXT_MAX, sources->op, err, &text, &len);
	s3c_process_free_argv(argv);
	/* Programs fail for good reasons of their own, at times for passing ones. */
	if (r == -EIO)
		r = -EAGAIN;
	if (r < 0)
		return s3c_err_prefix(err, r, "credential_process of profile %s", sources->profile);
	r = s3c_credential_parse_json(S3C_CRED_PROCESS, text, len,
				      "what credential_process printed", err, ret_credential);
	return r < 0 ? s3c_err_prefix(err, r, "profile %s", sources->profile) : 0;
}
