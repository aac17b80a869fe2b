/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Where credentials come from: the environment, then the shared files with
 * profiles, in botocore's order. A provider is one link of the chain; links for
 * roles, web identity, processes, containers and instances join the table in
 * credentials.c. Thread-safe.
 */
#pragma once

#include "base/err.h"

struct s3c_credentials;

/* One set, in secret memory; released by s3c_credential_put. */
struct s3c_credential {
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token; /* NULL: none */
	unsigned refs;             /* private */
};

/* profile NULL: AWS_PROFILE, else "default". Loads once; an error names what was looked at. */
int s3c_credentials_new(const char *profile, struct s3c_err *err,
			struct s3c_credentials **ret_credentials);
void s3c_credentials_free(struct s3c_credentials *credentials);
/* The present set, referenced. Never blocks. */
struct s3c_credential *s3c_credentials_get(struct s3c_credentials *credentials);
void s3c_credential_put(struct s3c_credential *credential);
/* Loads again (files and environment are read anew); used when old was refused as expired. */
int s3c_credentials_reload(struct s3c_credentials *credentials, struct s3c_err *err);
/* Region from AWS_REGION, AWS_DEFAULT_REGION or the profile; NULL: none. Owned by credentials. */
const char *s3c_credentials_region(const struct s3c_credentials *credentials);
/* Endpoint for service ("s3") from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile; or NULL.
 */
const char *s3c_credentials_endpoint(const struct s3c_credentials *credentials,
				     const char *service);
