/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The security token service: AssumeRole and AssumeRoleWithWebIdentity (STS API, 2011-06-15). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/secret.h"
#include "http/credentials_private.h"

#define DURATION_MIN_S 900
#define DURATION_MAX_S 43200
#define ATTEMPTS 3
#define TIMEOUT_NS (10 * S3C_NSEC_PER_SEC)
#define FORM_MAX (128u << 10)

/* Appends "&name=value"; a NULL value is left out. */
static int add(struct s3c_buf *form, const char *name, const char *value)
{
	int r;

	if (value == NULL)
		return 0;
	r = s3c_buf_printf(form, "&%s=", name);
	return r == 0 ? s3c_uri_encode(form, value, strlen(value), false) : r;
}

/* What both actions take from the profile. */
static int begin_form(struct s3c_cred_sources *sources, const char *action, const char *role,
		      const char *session, struct s3c_buf *form, struct s3c_err *err)
{
	const char *duration = s3c_cred_value(sources, "duration_seconds");
	char name[64];
	uint64_t seconds;
	int r;

	if (duration != NULL &&
	    (s3c_parse_u64(duration, DURATION_MAX_S, &seconds) < 0 || seconds < DURATION_MIN_S))
		return s3c_err_set(err, -EINVAL,
				   "profile %s: duration_seconds is a number from %d to %d",
				   sources->profile, DURATION_MIN_S, DURATION_MAX_S);
	snprintf(name, sizeof(name), "s3cryptfs-%lld",
		 (long long)(s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC));
	s3c_buf_init(form, FORM_MAX);
	r = s3c_buf_printf(form, "Action=%s&Version=2011-06-15", action);
	if (r == 0)
		r = add(form, "RoleArn", role);
	if (r == 0)
		r = add(form, "RoleSessionName", session != NULL ? session : name);
	if (r == 0)
		r = add(form, "DurationSeconds", duration);
	return r;
}

/* Regions that have used the global endpoint for long (botocore's LEGACY_GLOBAL_STS_REGIONS). */
static bool is_legacy_region(const char *region)
{
	static const char *const regions[] = {
		"ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
		"eu-central-1",   "eu-north-1", "eu-west-1",      "eu-west-2",      "eu-west-3",
		"sa-east-1",      "us-east-1",  "us-east-2",      "us-west-1",      "us-west-2",
	};

	for (size_t i = 0; i < ARRAY_LEN(regions); i++)
		if (strcmp(region, regions[i]) == 0)
			return true;
	return false;
}

static bool is_loopback(const char *url)
{
	static const char *const hosts[] = { "http://127.", "http://localhost", "http://[::1]" };

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		size_t len = strlen(hosts[i]);

		if (strncasecmp(url, hosts[i], len) != 0)
			continue;
		/* "127.evil.example" is a name, not an address. */
		if (i == 0)
			len += strspn(url + len, "0123456789.");
		if (url[len] == '\0' || url[len] == ':' || url[len] == '/')
			return true;
	}
	return false;
}

static int choose_endpoint(struct s3c_cred_sources *sources, struct s3c_cred_request *request,
			   struct s3c_err *err)
{
	const struct s3c_credentials *owner = sources->owner;
	const char *how = s3c_cred_env("AWS_STS_REGIONAL_ENDPOINTS");

	if (how == NULL)
		how = s3c_cred_value(sources, "sts_regional_endpoints");
	request->region = owner->region != NULL ? owner->region : owner->default_region;
	request->endpoint = s3c_credentials_endpoint(owner, "sts");
	if (request->endpoint != NULL && strncasecmp(request->endpoint, "http://", 7) == 0 &&
	    !is_loopback(request->endpoint))
		return s3c_err_set(err, -EPERM,
				   "the token service's endpoint %s is not encrypted: use https://",
				   request->endpoint);
	if (request->endpoint == NULL &&
	    (request->region == NULL || (how != NULL && strcasecmp(how, "legacy") == 0 &&
					 is_legacy_region(request->region)))) {
		request->endpoint = "https://sts.amazonaws.com";
		request->region = NULL;
	}
	return 0;
}

/* Sends the form; signer NULL: it speaks for itself. Empties the form. */
static int call(struct s3c_cred_sources *sources, const char *action, struct s3c_credential *signer,
		struct s3c_buf *form, struct s3c_err *err, struct s3c_credential **ret_credential)
{
	cleanup_cred_reply struct s3c_cred_reply reply = { 0 };
	struct s3c_cred_request request = {
		.service = "sts",
		.signer = signer,
		.method = "POST",
		.path = "/",
		.body = form->data,
		.body_len = form->len,
		.attempts = ATTEMPTS,
		.timeout_ns = TIMEOUT_NS,
	};
	int r = choose_endpoint(sources, &request, err);

	if (r == 0)
		r = s3c_http_headers_add(&request.headers, "Content-Type",
					 "application/x-www-form-urlencoded; charset=utf-8");
	if (r == 0)
		r = s3c_cred_fetch_good(sources, &request, "the token service (STS)", err, &reply);
	s3c_http_headers_free(&request.headers);
	s3c_buf_free_secret(form);
	if (r < 0)
		return s3c_err_prefix(err, r, "profile %s, %s", sources->profile, action);
	r = s3c_credential_parse_sts(action, reply.text, reply.len,
				     "the answer of the token service (STS)", err, ret_credential);
	if (r == 0)
		(*ret_credential)->clock_offset = reply.clock_offset;
	return r;
}

int s3c_cred_load_role(struct s3c_cred_sources *sources, struct s3c_err *err,
		       struct s3c_credential **ret_credential)
{
	const char *role = s3c_cred_value(sources, "role_arn");
	struct s3c_credential *base = NULL;
	struct s3c_buf form = { 0 };
	int r;

	if (role == NULL || s3c_cred_value(sources, "web_identity_token_file") != NULL)
		return -ENODATA;
	if (s3c_cred_value(sources, "mfa_serial") != NULL)
		return s3c_err_set(err, -EOPNOTSUPP,
				   "profile %s uses a one-time password (mfa_serial), which a "
				   "mount cannot ask for: use a role without it",
				   sources->profile);
	r = begin_form(sources, "AssumeRole", role, s3c_cred_value(sources, "role_session_name"),
		       &form, err);
	if (r == 0)
		r = add(&form, "ExternalId", s3c_cred_value(sources, "external_id"));
	if (r == 0)
		r = s3c_cred_load_base(sources, err, &base);
	if (r == 0)
		r = call(sources, "AssumeRole", base, &form, err, ret_credential);
	s3c_buf_free_secret(&form);
	s3c_credential_put(base);
	return r;
}

int s3c_cred_load_web_identity(struct s3c_cred_sources *sources, struct s3c_err *err,
			       struct s3c_credential **ret_credential)
{
	static const char *const names[][2] = {
		{ "AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file" },
		{ "AWS_ROLE_ARN", "role_arn" },
		{ "AWS_ROLE_SESSION_NAME", "role_session_name" },
	};
	cleanup_secret char *token = NULL;
	struct s3c_buf form = { 0 };
	const char *values[3];
	int r;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		values[i] = sources->use_env ? s3c_cred_env(names[i][0]) : NULL;
		if (values[i] == NULL)
			values[i] = s3c_cred_value(sources, names[i][1]);
	}
	if (values[0] == NULL)
		return -ENODATA;
	if (values[1] == NULL)
		return s3c_err_set(err, -EINVAL,
				   "there is a web identity's token file, %s, but no role: set "
				   "AWS_ROLE_ARN, or role_arn in profile %s",
				   values[0], sources->profile);
	/* Read each time: whoever issues tokens replaces the file. */
	r = s3c_credential_read_token(values[0], "the web identity's token file", err, &token);
	if (r == 0)
		r = begin_form(sources, "AssumeRoleWithWebIdentity", values[1], values[2], &form,
			       err);
	if (r == 0)
		r = add(&form, "WebIdentityToken", token);
	if (r == 0)
		r = call(sources, "AssumeRoleWithWebIdentity", NULL, &form, err, ret_credential);
	s3c_buf_free_secret(&form);
	return r;
}
