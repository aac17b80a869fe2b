/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Where credentials come from, and how they stay fresh. Thread-safe.
 *
 * The chain is that of the AWS tools: environment, profile with a role, web
 * identity, credentials file, process, config file, container, instance; the
 * first that has something decides (credentials_chain.c). Sets that end are
 * loaded anew ahead of it by a thread of their own; whoever is refused with a
 * set asks for another one. Either way one load runs at a time, and until it has
 * brought something new the present set serves.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct s3c_credentials;

/* One set, in secret memory; released by s3c_credential_put. */
struct s3c_credential {
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token; /* NULL: none */
	int64_t expires_s;         /* since 1970, by the issuer's clock; 0: it does not end */
	int64_t clock_offset;      /* what the issuer's clock has more than ours, seconds */
	const char *source;        /* the link of the chain that it is from; static */
	bool remote;               /* a load asks somebody else: not to be done too often */
	unsigned refs;             /* private */
};

struct s3c_credentials_config {
	const char *profile; /* NULL: AWS_PROFILE, else "default" */
	const char *region;  /* for the token service where neither environment nor profile names
				one; may be NULL */
	const char *ca_file; /* PEM, besides the system's; may be NULL */
};

/*
 * Loads once, which may take as long as a program or a service does; an error names what was
 * looked at. Strings are copied. Starts a thread when the set ends: not before a fork.
 */
int s3c_credentials_open(const struct s3c_credentials_config *config, struct s3c_err *err,
			 struct s3c_credentials **ret_credentials);
/* The same with a profile alone. */
int s3c_credentials_new(const char *profile, struct s3c_err *err,
			struct s3c_credentials **ret_credentials);
/* Ends a load that is under way and every later one (-ECANCELED), so that whoever waits for one
 * can be joined. The present set stays. NULL is legal. */
void s3c_credentials_stop(struct s3c_credentials *credentials);
void s3c_credentials_free(struct s3c_credentials *credentials);
/* The present set, referenced. Never blocks. */
struct s3c_credential *s3c_credentials_get(struct s3c_credentials *credentials);
void s3c_credential_put(struct s3c_credential *credential);
/* Whether the present set has ended, by the clock of who issued it. Never blocks. */
bool s3c_credentials_ended(struct s3c_credentials *credentials);
/* Loads again (files and environment are read anew). Blocks. */
int s3c_credentials_reload(struct s3c_credentials *credentials, struct s3c_err *err);
/* The same because a person asked for it; logs what came of it. whose: "the store". Blocks. */
void s3c_credentials_refresh(struct s3c_credentials *credentials, const char *whose);
/*
 * The same for who was refused with old: not when another set is there already, and not again
 * within seconds of a load that brought nothing new, or failed (then its error). Joins a load that
 * is under way. 0 may leave the same set, when its source gives no other. Logs.
 */
int s3c_credentials_replace(struct s3c_credentials *credentials, const struct s3c_credential *old,
			    struct s3c_err *err);
/* Region from AWS_REGION, AWS_DEFAULT_REGION or the profile; NULL: none. Owned by credentials. */
const char *s3c_credentials_region(const struct s3c_credentials *credentials);
/* Endpoint for service ("s3") from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile; or NULL.
 */
const char *s3c_credentials_endpoint(const struct s3c_credentials *credentials,
				     const char *service);
