/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/engine.h"

#define CLOCK_WARN_S 300

static bool is_region(const char *region)
{
	size_t len = strlen(region);

	return len > 0 && len < S3C_HTTP_REGION_MAX &&
	       strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && region[0] != '-' &&
	       region[len - 1] != '-';
}

static char *url_part(CURLU *url, CURLUPart part, unsigned flags)
{
	char *text = NULL;
	char *copy = NULL;

	if (curl_url_get(url, part, &text, flags) == CURLUE_OK && text != NULL)
		copy = strdup(text);
	curl_free(text);
	return copy;
}

static int parse_endpoint(struct s3c_http_service *service, const char *endpoint,
			  struct s3c_err *err)
{
	cleanup_free char *scheme = NULL;
	cleanup_free char *host = NULL;
	cleanup_free char *port = NULL;
	cleanup_free char *user = NULL;
	cleanup_free char *query = NULL;
	cleanup_free char *path = NULL;
	CURLU *url = curl_url();
	size_t len;

	if (url == NULL)
		return -ENOMEM;
	if (curl_url_set(url, CURLUPART_URL, endpoint, 0) != CURLUE_OK) {
		curl_url_cleanup(url);
		return s3c_err_set(err, -EINVAL,
				   "endpoint %s is not a URL: it looks like https://HOST[:PORT]",
				   endpoint);
	}
	scheme = url_part(url, CURLUPART_SCHEME, 0);
	host = url_part(url, CURLUPART_HOST, 0);
	port = url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	user = url_part(url, CURLUPART_USER, 0);
	query = url_part(url, CURLUPART_QUERY, 0);
	path = url_part(url, CURLUPART_PATH, CURLU_URLDECODE);
	curl_url_cleanup(url);
	if (scheme == NULL || host == NULL || port == NULL || path == NULL)
		return s3c_err_set(err, -EINVAL, "endpoint %s is not a usable URL", endpoint);
	if (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)
		return s3c_err_set(err, -EINVAL, "endpoint %s: only https and http are supported",
				   endpoint);
	if (user != NULL || query != NULL)
		return s3c_err_set(err, -EINVAL,
				   "the endpoint must hold neither a user name nor a query: give "
				   "https://HOST[:PORT] alone");
	if (strlen(host) >= sizeof(service->host))
		return s3c_err_set(err, -EINVAL, "endpoint %s: the host name is too long",
				   endpoint);
	len = strlen(path);
	while (len > 0 && path[len - 1] == '/')
		path[--len] = '\0';
	service->tls = strcmp(scheme, "https") == 0;
	service->port = (unsigned)strtoul(port, NULL, 10);
	service->base_path = steal_ptr(path);
	for (size_t i = 0; i <= strlen(host); i++)
		service->host[i] =
			host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] - 'A' + 'a') : host[i];
	return 0;
}

int s3c_http_service_new(struct s3c_http_engine *engine,
			 const struct s3c_http_service_config *config, struct s3c_err *err,
			 struct s3c_http_service **ret_service)
{
	struct s3c_http_service *service;
	const char *region = config->region != NULL ? config->region : "us-east-1";
	int r = 0;

	if (!is_region(region))
		return s3c_err_set(err, -EINVAL,
				   "region \"%s\" cannot be one: it has lower-case letters, digits "
				   "and hyphens",
				   region);
	service = calloc(1, sizeof(*service));
	if (service == NULL)
		return -ENOMEM;
	service->refs = 1;
	service->engine = engine;
	service->credentials = config->credentials;
	service->name = strdup(config->name);
	s3c_mutex_init(&service->synced.lock);
	strcpy(service->synced.region, region);
	if (config->endpoint != NULL) {
		r = parse_endpoint(service, config->endpoint, err);
	} else {
		service->vendor = true;
		service->tls = true;
		service->port = 443;
		service->base_path = strdup("");
	}
	if (r == 0 && (service->name == NULL || service->base_path == NULL))
		r = -ENOMEM;
	if (r < 0) {
		s3c_http_service_free(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

struct s3c_http_service *s3c_http_service_ref(struct s3c_http_service *service)
{
	__atomic_add_fetch(&service->refs, 1, __ATOMIC_RELAXED);
	return service;
}

void s3c_http_service_free(struct s3c_http_service *service)
{
	if (service == NULL || __atomic_sub_fetch(&service->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	s3c_mutex_destroy(&service->synced.lock);
	free(service->name);
	free(service->base_path);
	free(service);
}

int64_t s3c_http_service_clock_offset(struct s3c_http_service *service)
{
	int64_t offset;

	s3c_mutex_lock(&service->synced.lock);
	offset = service->synced.clock_offset;
	s3c_mutex_unlock(&service->synced.lock);
	return offset;
}

void s3c_http_service_region(struct s3c_http_service *service, char *ret_region, size_t size)
{
	s3c_mutex_lock(&service->synced.lock);
	snprintf(ret_region, size, "%s", service->synced.region);
	s3c_mutex_unlock(&service->synced.lock);
}

bool s3c_http_service_is_tls(const struct s3c_http_service *service)
{
	return service->tls;
}

int s3c_http_service_target(struct s3c_http_service *service, const char *bucket,
			    struct s3c_http_target *ret_target)
{
	struct s3c_http_target target = { .tls = service->tls, .port = service->port };
	const char *dot = bucket != NULL && *bucket != '\0' ? "." : "";
	int n;

	s3c_mutex_lock(&service->synced.lock);
	strcpy(target.region, service->synced.region);
	target.clock_offset = service->synced.clock_offset;
	s3c_mutex_unlock(&service->synced.lock);
	if (*dot == '\0')
		bucket = "";
	if (service->vendor)
		n = snprintf(target.host, sizeof(target.host), "%s%s%s.%s.amazonaws.com%s", bucket,
			     dot, service->name, target.region,
			     strncmp(target.region, "cn-", 3) == 0 ? ".cn" : "");
	else
		n = snprintf(target.host, sizeof(target.host), "%s%s%s", bucket, dot,
			     service->host);
	if (n < 0 || (size_t)n >= sizeof(target.host))
		return -ENAMETOOLONG;
	*ret_target = target;
	return 0;
}

int s3c_http_service_set_region(struct s3c_http_service *service, const char *region)
{
	if (!is_region(region))
		return -EINVAL;
	s3c_mutex_lock(&service->synced.lock);
	if (strcmp(service->synced.region, region) != 0)
		s3c_info("the bucket is in region %s, not in %s: requests are signed for it from "
			 "now on",
			 region, service->synced.region);
	strcpy(service->synced.region, region);
	s3c_mutex_unlock(&service->synced.lock);
	return 0;
}

void s3c_http_service_set_clock_offset(struct s3c_http_service *service, int64_t offset)
{
	bool warn = false;

	s3c_mutex_lock(&service->synced.lock);
	service->synced.clock_offset = offset;
	if ((offset > CLOCK_WARN_S || offset < -CLOCK_WARN_S) && !service->synced.clock_warned) {
		service->synced.clock_warned = true;
		warn = true;
	}
	s3c_mutex_unlock(&service->synced.lock);
	if (warn)
		s3c_warn("the clock of this machine is %lld seconds %s the store's: requests are "
			 "signed with the store's time; set the clock right",
			 (long long)(offset < 0 ? -offset : offset),
			 offset < 0 ? "ahead of" : "behind");
}
