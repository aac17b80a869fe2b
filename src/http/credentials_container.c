/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What a container is told to ask: the task role's endpoint of ECS, EKS Pod Identity's agent. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http/credentials_private.h"

#define TASK_HOST "http://169.254.170.2"
#define ATTEMPTS 3
#define TIMEOUT_NS (2 * S3C_NSEC_PER_SEC)
#define HEADER_MAX (16u << 10)

struct place {
	char *endpoint, *path;
	struct s3c_http_headers query;
};

static void place_free(struct place *place)
{
	free(place->endpoint);
	free(place->path);
	s3c_http_headers_free(&place->query);
}
#define cleanup_place __attribute__((cleanup(place_free)))

/* Without TLS the token and the answer are readable on the way: only where that is this machine,
 * or the two addresses that the agents have (link-local). */
static bool may_be_plain(const char *host)
{
	char text[INET6_ADDRSTRLEN + 2];
	size_t len = strlen(host);
	struct in6_addr v6, agent;
	struct in_addr v4;

	if (strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127 || strcmp(host, "169.254.170.2") == 0 ||
		       strcmp(host, "169.254.170.23") == 0;
	if (host[0] != '[' || len < 3 || len > sizeof(text))
		return false;
	memcpy(text, host + 1, len - 2);
	text[len - 2] = '\0';
	if (inet_pton(AF_INET6, text, &v6) != 1 || inet_pton(AF_INET6, "fd00:ec2::23", &agent) != 1)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&v6) || memcmp(&v6, &agent, sizeof(v6)) == 0;
}

static int decode(const char *text, size_t len, char **ret_text)
{
	char *decoded;
	int decoded_len;

	*ret_text = NULL;
	decoded = curl_easy_unescape(NULL, text, (int)len, &decoded_len);
	if (decoded == NULL)
		return -ENOMEM;
	/* A NUL in it would cut it. */
	if (strlen(decoded) == (size_t)decoded_len)
		*ret_text = strdup(decoded);
	curl_free(decoded);
	return *ret_text != NULL ? 0 : -EINVAL;
}

static int parse_query(const char *text, struct s3c_http_headers *query)
{
	int r = 0;

	while (r == 0 && *text != '\0') {
		size_t len = strcspn(text, "&");
		size_t name_len = S3C_MIN(strcspn(text, "="), len);
		size_t skip = name_len < len ? name_len + 1 : name_len;
		cleanup_free char *name = NULL;
		cleanup_free char *value = NULL;

		r = decode(text, name_len, &name);
		if (r == 0)
			r = decode(text + skip, len - skip, &value);
		if (r == 0)
			r = s3c_http_headers_add(query, name, value);
		text += len;
		text += *text == '&';
	}
	return r;
}

static int parse_parts(const char *uri, CURLU *url, struct place *place, struct s3c_err *err)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *path = NULL, *query = NULL;
	int r = 0;

	if (strlen(uri) > 4096 || curl_url_set(url, CURLUPART_URL, uri, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_PATH, &path, CURLU_URLDECODE) != CURLUE_OK ||
	    (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		r = s3c_err_set(err, -EINVAL,
				"AWS_CONTAINER_CREDENTIALS_FULL_URI is not the URL of a server");
	else if (strcmp(scheme, "http") == 0 && !may_be_plain(host))
		r = s3c_err_set(err, -EPERM,
				"AWS_CONTAINER_CREDENTIALS_FULL_URI names %s, which may be asked "
				"over https only: plain http is for loopback and the agents' "
				"addresses",
				host);
	if (r == 0 && curl_url_get(url, CURLUPART_QUERY, &query, 0) == CURLUE_OK)
		r = parse_query(query, &place->query);
	if (r == 0) {
		place->endpoint = s3c_asprintf("%s://%s:%s", scheme, host, port);
		place->path = strdup(path);
		r = place->endpoint != NULL && place->path != NULL ? 0 : -ENOMEM;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(path);
	curl_free(query);
	return r;
}

static int find_place(const char *relative, const char *full, struct place *place,
		      struct s3c_err *err)
{
	cleanup_free char *whole = NULL;
	CURLU *url;
	int r;

	if (relative != NULL && relative[0] != '/')
		return s3c_err_set(err, -EINVAL,
				   "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is a path that begins "
				   "with /");
	if (relative != NULL) {
		whole = s3c_asprintf("%s%s", TASK_HOST, relative);
		if (whole == NULL)
			return -ENOMEM;
	}
	url = curl_url();
	if (url == NULL)
		return -ENOMEM;
	r = parse_parts(whole != NULL ? whole : full, url, place, err);
	curl_url_cleanup(url);
	return r;
}

/* The file is read each time: the agent's token is replaced long before it ends. */
static int add_token(struct s3c_http_headers *headers, struct s3c_err *err)
{
	const char *file = s3c_cred_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *value = s3c_cred_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	cleanup_secret char *token = NULL;
	int r;

	if (file != NULL) {
		r = s3c_credential_read_token(file, "the container's token file", err, &token);
		if (r < 0)
			return r;
		value = token;
	}
	if (value == NULL)
		return 0;
	/* Printable, but with blanks, as in "Basic abc": the variable may hold a whole header. */
	for (const char *c = value; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			return s3c_err_set(err, -EINVAL,
					   "AWS_CONTAINER_AUTHORIZATION_TOKEN holds a character "
					   "that no header may have");
	if (strlen(value) > HEADER_MAX)
		return s3c_err_set(err, -EMSGSIZE,
				   "the container's authorization token is too long");
	return s3c_http_headers_add(headers, "Authorization", value);
}

int s3c_cred_load_container(struct s3c_cred_sources *sources, struct s3c_err *err,
			    struct s3c_credential **ret_credential)
{
	const char *relative = s3c_cred_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = s3c_cred_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	cleanup_cred_reply struct s3c_cred_reply reply = { 0 };
	cleanup_place struct place place = { 0 };
	struct s3c_cred_request request = {
		.service = "http",
		.method = "GET",
		.attempts = ATTEMPTS,
		.timeout_ns = TIMEOUT_NS,
	};
	char what[320];
	int r;

	if (relative == NULL && full == NULL)
		return -ENODATA;
	r = find_place(relative, full, &place, err);
	if (r < 0)
		return r;
	snprintf(what, sizeof(what), "the container's credentials endpoint %.250s", place.endpoint);
	request.endpoint = place.endpoint;
	request.path = place.path;
	request.query = place.query;
	r = s3c_http_headers_add(&request.headers, "Accept", "application/json");
	if (r == 0)
		r = add_token(&request.headers, err);
	if (r == 0)
		r = s3c_cred_fetch_good(sources, &request, what, err, &reply);
	s3c_http_headers_free(&request.headers);
	if (r == 0)
		r = s3c_credential_parse_json(S3C_CRED_CONTAINER, reply.text, reply.len,
					      "the answer of the container's credentials endpoint",
					      err, ret_credential);
	if (r == 0)
		(*ret_credential)->clock_offset = reply.clock_offset;
	return r;
}
