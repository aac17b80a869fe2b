/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The instance's metadata service, version 2: a session's token by PUT, then
 * the role's name, then its credentials. Version 1, which any web page that a
 * program on the machine fetches could abuse, is never used.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http/credentials_private.h"

#define FOLDER "/latest/meta-data/iam/security-credentials/"
#define ROLE_MAX 128
#define SESSION_MAX 1024
#define WHAT "the instance metadata service (IMDS)"

static const char *endpoint(const struct s3c_cred_sources *sources)
{
	const char *url = s3c_cred_env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode = s3c_cred_env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

	if (url == NULL)
		url = s3c_cred_value(sources, "ec2_metadata_service_endpoint");
	if (mode == NULL)
		mode = s3c_cred_value(sources, "ec2_metadata_service_endpoint_mode");
	if (url != NULL)
		return url;
	return mode != NULL && strcasecmp(mode, "ipv6") == 0 ? "http://[fd00:ec2::254]"
							     : "http://169.254.169.254";
}

static uint64_t number(const char *variable, uint64_t max, uint64_t otherwise)
{
	const char *text = s3c_cred_env(variable);
	uint64_t value;

	return text != NULL && s3c_parse_u64(text, max, &value) == 0 && value > 0 ? value
										  : otherwise;
}

/* No service, or none that gives tokens: the chain has nothing here. What worked before has to
 * work again, and counts as a fault that passes. */
static int nothing_here(struct s3c_cred_sources *sources, const char *words, struct s3c_err *err)
{
	if (sources->renewed != NULL && strcmp(sources->renewed, "instance") == 0)
		return s3c_err_set(err, -EAGAIN, WHAT " %s", words);
	snprintf(sources->note, sizeof(sources->note), WHAT " %.200s", words);
	return -ENODATA;
}

static int get_session(struct s3c_cred_sources *sources, struct s3c_cred_request *request,
		       struct s3c_err *err)
{
	cleanup_cred_reply struct s3c_cred_reply reply = { 0 };
	int r = s3c_http_headers_add(&request->headers, "x-aws-ec2-metadata-token-ttl-seconds",
				     "21600");

	if (r < 0)
		return r;
	request->method = "PUT";
	request->path = "/latest/api/token";
	r = s3c_cred_fetch(sources, request, err, &reply);
	s3c_http_headers_free(&request->headers);
	if (r == -EINTR || r == -ENOMEM || r == -EINVAL)
		return r;
	/* 403: switched off; 404, 405: only version 1, or something else altogether. */
	if (r < 0 || reply.status == 403 || reply.status == 404 || reply.status == 405 ||
	    reply.status >= 500)
		return nothing_here(sources, reply.words, err);
	if (reply.status >= 300)
		return s3c_err_set(err, -EACCES, WHAT " gives no token: it %s", reply.words);
	if (!s3c_credential_is_token(reply.text, SESSION_MAX) || strlen(reply.text) != reply.len)
		return nothing_here(sources, "gives a token that cannot be one", err);
	return s3c_http_headers_add(&request->headers, "x-aws-ec2-metadata-token", reply.text);
}

/* Makes the path of the role's credentials out of the list of roles. */
static int get_role(struct s3c_cred_sources *sources, struct s3c_cred_request *request,
		    struct s3c_err *err, char **ret_path)
{
	cleanup_cred_reply struct s3c_cred_reply reply = { 0 };
	int r;

	request->method = "GET";
	request->path = FOLDER;
	r = s3c_cred_fetch(sources, request, err, &reply);
	if (r == 0 && reply.status == 404)
		return nothing_here(sources, "knows of no role of this instance", err);
	if (r < 0 || reply.status >= 300) {
		if (r == 0)
			r = reply.status >= 500 ? -EAGAIN : -EACCES;
		return s3c_err_set(err, r, WHAT " %s", reply.words);
	}
	reply.text[strcspn(reply.text, "\r\n")] = '\0';
	if (reply.text[0] == '\0')
		return nothing_here(sources, "knows of no role of this instance", err);
	if (!s3c_credential_is_token(reply.text, ROLE_MAX) || strpbrk(reply.text, "/?#%") != NULL)
		return s3c_err_set(err, -EBADMSG, WHAT " names a role that cannot be one");
	*ret_path = s3c_asprintf("%s%s", FOLDER, reply.text);
	return *ret_path != NULL ? 0 : -ENOMEM;
}

static int get_credential(struct s3c_cred_sources *sources, struct s3c_cred_request *request,
			  struct s3c_err *err, struct s3c_credential **ret_credential)
{
	cleanup_cred_reply struct s3c_cred_reply reply = { 0 };
	cleanup_free char *path = NULL;
	int r = get_session(sources, request, err);

	if (r == 0)
		r = get_role(sources, request, err, &path);
	if (r < 0)
		return r;
	request->path = path;
	r = s3c_cred_fetch_good(sources, request, WHAT, err, &reply);
	if (r == 0)
		r = s3c_credential_parse_json(S3C_CRED_INSTANCE, reply.text, reply.len,
					      "the answer of " WHAT, err, ret_credential);
	if (r == 0)
		(*ret_credential)->clock_offset = reply.clock_offset;
	return r;
}

int s3c_cred_load_instance(struct s3c_cred_sources *sources, struct s3c_err *err,
			   struct s3c_credential **ret_credential)
{
	const char *disabled = s3c_cred_env("AWS_EC2_METADATA_DISABLED");
	struct s3c_cred_request request = {
		.service = "http",
		.endpoint = endpoint(sources),
		.attempts = (unsigned)number("AWS_METADATA_SERVICE_NUM_ATTEMPTS", 10, 1),
		.timeout_ns =
			(int64_t)number("AWS_METADATA_SERVICE_TIMEOUT", 60, 1) * S3C_NSEC_PER_SEC,
	};
	int r;

	if (disabled != NULL && strcasecmp(disabled, "true") == 0)
		return -ENODATA;
	r = get_credential(sources, &request, err, ret_credential);
	s3c_http_headers_free(&request.headers);
	return r;
}
