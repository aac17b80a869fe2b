/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* One set; where the environment and the files have one; opening. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/secret.h"
#include "http/credentials_private.h"

const char *s3c_cred_env(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? value : NULL;
}

static void free_credential(struct s3c_credential *credential)
{
	s3c_secret_free((char *)credential->access_key_id);
	s3c_secret_free((char *)credential->secret_access_key);
	s3c_secret_free((char *)credential->session_token);
	free(credential);
}

int s3c_credential_new(const char *id, const char *secret, const char *token,
		       struct s3c_credential **ret_credential)
{
	struct s3c_credential *credential = calloc(1, sizeof(*credential));

	if (credential == NULL)
		return -ENOMEM;
	credential->refs = 1;
	credential->access_key_id = s3c_secret_strdup(id);
	credential->secret_access_key = s3c_secret_strdup(secret);
	if (token != NULL)
		credential->session_token = s3c_secret_strdup(token);
	if (credential->access_key_id == NULL || credential->secret_access_key == NULL ||
	    (token != NULL && credential->session_token == NULL)) {
		free_credential(credential);
		return -ENOMEM;
	}
	*ret_credential = credential;
	return 0;
}

void s3c_credential_put(struct s3c_credential *credential)
{
	if (credential != NULL && __atomic_sub_fetch(&credential->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free_credential(credential);
}

const char *s3c_cred_value(const struct s3c_cred_sources *sources, const char *name)
{
	const char *value = s3c_profile_get(&sources->credentials, sources->profile, name);

	return value != NULL ? value
			     : s3c_profile_get(&sources->config, sources->config_section, name);
}

static bool has_section(const struct s3c_profile_file *file, const char *section)
{
	for (size_t i = 0; i < file->count; i++)
		if (strcmp(file->items[i].section, section) == 0)
			return true;
	return false;
}

bool s3c_cred_has_profile(const struct s3c_cred_sources *sources)
{
	return has_section(&sources->credentials, sources->profile) ||
	       has_section(&sources->config, sources->config_section);
}

int s3c_cred_load_environment(struct s3c_cred_sources *sources, struct s3c_err *err,
			      struct s3c_credential **ret_credential)
{
	const char *id = s3c_cred_env("AWS_ACCESS_KEY_ID");
	const char *secret = s3c_cred_env("AWS_SECRET_ACCESS_KEY");
	const char *token = s3c_cred_env("AWS_SESSION_TOKEN");
	const char *expiration = s3c_cred_env("AWS_CREDENTIAL_EXPIRATION");
	int64_t expires = 0;
	int r;

	(void)sources;
	if (id == NULL)
		return -ENODATA;
	if (secret == NULL)
		return s3c_err_set(err, -EACCES,
				   "AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not: set "
				   "both or neither");
	if (token == NULL)
		token = s3c_cred_env("AWS_SECURITY_TOKEN");
	if (expiration != NULL && s3c_credential_parse_time(expiration, &expires) < 0)
		return s3c_err_set(err, -EINVAL,
				   "AWS_CREDENTIAL_EXPIRATION is not a time like "
				   "2026-11-24T12:00:00Z");
	r = s3c_credential_new(id, secret, token, ret_credential);
	if (r == 0)
		(*ret_credential)->expires_s = expires;
	return r;
}

static int load_static(const struct s3c_profile_file *file, const char *filename,
		       const char *section, struct s3c_err *err,
		       struct s3c_credential **ret_credential)
{
	const char *id = s3c_profile_get(file, section, "aws_access_key_id");
	const char *secret = s3c_profile_get(file, section, "aws_secret_access_key");
	const char *token = s3c_profile_get(file, section, "aws_session_token");

	if (id == NULL)
		return -ENODATA;
	if (secret == NULL)
		return s3c_err_set(err, -EACCES,
				   "%s: section [%s] has aws_access_key_id but no "
				   "aws_secret_access_key",
				   filename, section);
	if (token == NULL)
		token = s3c_profile_get(file, section, "aws_security_token");
	return s3c_credential_new(id, secret, token, ret_credential);
}

int s3c_cred_load_credentials_file(struct s3c_cred_sources *sources, struct s3c_err *err,
				   struct s3c_credential **ret_credential)
{
	return load_static(&sources->credentials, sources->credentials_path, sources->profile, err,
			   ret_credential);
}

int s3c_cred_load_config_file(struct s3c_cred_sources *sources, struct s3c_err *err,
			      struct s3c_credential **ret_credential)
{
	return load_static(&sources->config, sources->config_path, sources->config_section, err,
			   ret_credential);
}

static const char *home(void)
{
	const char *value = s3c_cred_env("HOME");
	struct passwd *pw;

	if (value != NULL)
		return value;
	pw = getpwuid(getuid());
	return pw != NULL ? pw->pw_dir : "/";
}

/* The variable's path, with a leading ~ for the home folder, or the default below the home. */
static char *file_path(const char *variable, const char *below_home)
{
	const char *value = s3c_cred_env(variable);

	if (value == NULL)
		return s3c_asprintf("%s/%s", home(), below_home);
	if (value[0] == '~' && value[1] == '/')
		return s3c_asprintf("%s%s", home(), value + 1);
	return strdup(value);
}

void s3c_cred_sources_close(struct s3c_cred_sources *sources)
{
	free(sources->config_section);
	if (sources->parent != NULL)
		return;
	free(sources->credentials_path);
	free(sources->config_path);
	s3c_profile_free(&sources->credentials);
	s3c_profile_free(&sources->config);
}

static int set_profile(struct s3c_cred_sources *sources, const char *profile)
{
	sources->profile = profile;
	sources->config_section = s3c_asprintf("profile %s", profile);
	if (sources->config_section == NULL)
		return -ENOMEM;
	/* "[profile default]" is accepted as well, and wins over "[default]". */
	if (strcmp(profile, "default") == 0 && !has_section(&sources->config, "profile default"))
		strcpy(sources->config_section, "default");
	return 0;
}

int s3c_cred_sources_open(struct s3c_cred_sources *sources, const char *profile,
			  struct s3c_err *err)
{
	int r;

	sources->explicit_profile = profile != NULL;
	sources->use_env = profile == NULL;
	if (profile == NULL)
		profile = s3c_cred_env("AWS_PROFILE");
	if (profile == NULL)
		profile = s3c_cred_env("AWS_DEFAULT_PROFILE");
	sources->credentials_path = file_path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
	sources->config_path = file_path("AWS_CONFIG_FILE", ".aws/config");
	if (sources->credentials_path == NULL || sources->config_path == NULL)
		return -ENOMEM;
	r = s3c_profile_read(sources->credentials_path, err, &sources->credentials);
	if (r == 0)
		r = s3c_profile_read(sources->config_path, err, &sources->config);
	return r == 0 ? set_profile(sources, profile != NULL ? profile : "default") : r;
}

int s3c_cred_sources_open_inner(struct s3c_cred_sources *sources,
				const struct s3c_cred_sources *parent, const char *profile)
{
	*sources = *parent;
	sources->parent = parent;
	sources->use_env = false;
	sources->config_section = NULL;
	return set_profile(sources, profile);
}

/*
 * The profile's endpoint_url, and those of the [services x] section that it names, whose pairs are
 * nested: "s3 =", then an indented "endpoint_url = ...".
 */
static int keep_endpoints(const struct s3c_cred_sources *sources,
			  struct s3c_profile_file *endpoints)
{
	static const char suffix[] = ".endpoint_url";
	const char *url = s3c_cred_value(sources, "endpoint_url");
	const char *services = s3c_cred_value(sources, "services");
	cleanup_free char *section = NULL;
	int r = 0;

	if (url != NULL)
		r = s3c_profile_add(endpoints, "", "", url);
	if (r < 0 || services == NULL)
		return r;
	section = s3c_asprintf("services %s", services);
	if (section == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < sources->config.count && r == 0; i++) {
		const struct s3c_profile_item *item = &sources->config.items[i];
		size_t len = strlen(item->name);
		cleanup_free char *service = NULL;

		if (strcmp(item->section, section) != 0 || len <= strlen(suffix) ||
		    strcasecmp(item->name + len - strlen(suffix), suffix) != 0)
			continue;
		service = strndup(item->name, len - strlen(suffix));
		r = service != NULL ? s3c_profile_add(endpoints, "", service, item->value)
				    : -ENOMEM;
	}
	return r;
}

static int copy_string(const char *from, char **to)
{
	if (from == NULL)
		return 0;
	*to = strdup(from);
	return *to != NULL ? 0 : -ENOMEM;
}

static int fill(struct s3c_credentials *credentials, const struct s3c_credentials_config *config,
		const struct s3c_cred_sources *sources)
{
	const char *region = s3c_cred_env("AWS_REGION");
	int r;

	if (region == NULL)
		region = s3c_cred_env("AWS_DEFAULT_REGION");
	if (region == NULL)
		region = s3c_cred_value(sources, "region");
	r = copy_string(region, &credentials->region);
	if (r == 0)
		r = copy_string(config->profile, &credentials->profile);
	if (r == 0)
		r = copy_string(config->region, &credentials->default_region);
	if (r == 0)
		r = copy_string(config->ca_file, &credentials->ca_file);
	if (r == 0)
		r = keep_endpoints(sources, &credentials->endpoints);
	return r;
}

int s3c_credentials_open(const struct s3c_credentials_config *config, struct s3c_err *err,
			 struct s3c_credentials **ret_credentials)
{
	cleanup_cred_sources struct s3c_cred_sources sources = { 0 };
	struct s3c_credentials *credentials;
	int r;

	s3c_credential_wipe_json();
	r = s3c_cred_sources_open(&sources, config->profile, err);
	if (r < 0)
		return r;
	credentials = calloc(1, sizeof(*credentials));
	if (credentials == NULL)
		return -ENOMEM;
	s3c_credentials_init_synced(credentials);
	r = fill(credentials, config, &sources);
	if (r == 0)
		r = s3c_credentials_reload(credentials, err);
	if (r < 0) {
		s3c_credentials_free(credentials);
		return r;
	}
	*ret_credentials = credentials;
	return 0;
}

int s3c_credentials_new(const char *profile, struct s3c_err *err,
			struct s3c_credentials **ret_credentials)
{
	const struct s3c_credentials_config config = { .profile = profile };

	return s3c_credentials_open(&config, err, ret_credentials);
}

struct s3c_credentials *s3c_credentials_new_fixed(struct s3c_credential *credential)
{
	struct s3c_credentials *credentials = calloc(1, sizeof(*credentials));

	if (credentials == NULL)
		return NULL;
	s3c_credentials_init_synced(credentials);
	credentials->fixed = true;
	__atomic_add_fetch(&credential->refs, 1, __ATOMIC_RELAXED);
	credentials->synced.current = credential;
	return credentials;
}

void s3c_credentials_free(struct s3c_credentials *credentials)
{
	if (credentials == NULL)
		return;
	s3c_credentials_destroy_synced(credentials);
	free(credentials->profile);
	free(credentials->region);
	free(credentials->default_region);
	free(credentials->ca_file);
	s3c_profile_free(&credentials->endpoints);
	free(credentials);
}

const char *s3c_credentials_region(const struct s3c_credentials *credentials)
{
	return credentials->region;
}

const char *s3c_credentials_endpoint(const struct s3c_credentials *credentials, const char *service)
{
	char variable[64];
	const char *ignore = s3c_cred_env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
	const char *url;

	if (ignore != NULL && strcasecmp(ignore, "true") == 0)
		return NULL;
	snprintf(variable, sizeof(variable), "AWS_ENDPOINT_URL_%s", service);
	for (char *c = variable; *c != '\0'; c++)
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	/* botocore's order: what names the service comes before what is for all. */
	url = s3c_cred_env(variable);
	if (url == NULL)
		url = s3c_profile_get(&credentials->endpoints, "", service);
	if (url == NULL)
		url = s3c_cred_env("AWS_ENDPOINT_URL");
	if (url == NULL)
		url = s3c_profile_get(&credentials->endpoints, "", "");
	return url;
}
