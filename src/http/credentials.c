/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/credentials.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/secret.h"
#include "base/thread.h"
#include "http/profile.h"

struct s3c_credentials {
	char *profile; /* as named by the caller; NULL: by the environment. Constant */
	char *region;  /* constant */
	/* Endpoints of the profile by service ("s3"), "" for all services. Constant. */
	struct s3c_profile_file endpoints;
	struct {
		struct s3c_mutex lock;
		struct s3c_credential *current;
	} synced;
};

/* What one load looks at: read anew each time. */
struct sources {
	const char *profile;
	bool profile_explicit; /* named by the caller: the environment's keys do not count */
	char *credentials_path;
	char *config_path;
	char *config_section; /* "default" or "profile NAME" */
	struct s3c_profile_file credentials;
	struct s3c_profile_file config;
};

/*
 * One link of the chain. -ENODATA: nothing here, ask the next; any other error ends the search
 * with the sentence in err.
 */
struct provider {
	const char *name;
	int (*load)(const struct sources *sources, struct s3c_err *err,
		    struct s3c_credential **ret_credential);
};

static const char *env(const char *name)
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

static int new_credential(const char *id, const char *secret, const char *token,
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

static void release(struct s3c_credential *credential)
{
	if (credential != NULL && __atomic_sub_fetch(&credential->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free_credential(credential);
}

void s3c_credential_put(struct s3c_credential *credential)
{
	release(credential);
}

/* Credentials-file values win over those of the config file. */
static const char *profile_value(const struct sources *sources, const char *name)
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

static int load_environment(const struct sources *sources, struct s3c_err *err,
			    struct s3c_credential **ret_credential)
{
	const char *id = env("AWS_ACCESS_KEY_ID");
	const char *secret = env("AWS_SECRET_ACCESS_KEY");
	const char *token = env("AWS_SESSION_TOKEN");

	if (sources->profile_explicit || id == NULL)
		return -ENODATA;
	if (secret == NULL)
		return s3c_err_set(err, -EACCES,
				   "AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not: set "
				   "both or neither");
	if (token == NULL)
		token = env("AWS_SECURITY_TOKEN");
	return new_credential(id, secret, token, ret_credential);
}

/* A profile's key whose kind of credentials is not served: refused, not passed over. */
static int refuse_key(const struct sources *sources, struct s3c_err *err, const char *name,
		      const char *what)
{
	if (profile_value(sources, name) == NULL)
		return -ENODATA;
	return s3c_err_set(
		err, -EOPNOTSUPP,
		"profile %s uses %s (%s), which is not supported yet: use a profile with "
		"aws_access_key_id and aws_secret_access_key, or set AWS_ACCESS_KEY_ID, "
		"AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
		sources->profile, what, name);
}

static int load_role(const struct sources *sources, struct s3c_err *err,
		     struct s3c_credential **ret_credential)
{
	int r;

	(void)ret_credential;
	r = refuse_key(sources, err, "mfa_serial", "a one-time password");
	if (r == -ENODATA && profile_value(sources, "web_identity_token_file") == NULL)
		r = refuse_key(sources, err, "role_arn", "an assumed role");
	return r;
}

static int load_web_identity(const struct sources *sources, struct s3c_err *err,
			     struct s3c_credential **ret_credential)
{
	(void)ret_credential;
	if (!sources->profile_explicit && env("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL &&
	    env("AWS_ROLE_ARN") != NULL)
		return s3c_err_set(err, -EOPNOTSUPP,
				   "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are set, but web "
				   "identities are not supported yet: set AWS_ACCESS_KEY_ID, "
				   "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN");
	return refuse_key(sources, err, "web_identity_token_file", "a web identity");
}

static int load_sso(const struct sources *sources, struct s3c_err *err,
		    struct s3c_credential **ret_credential)
{
	static const char *const keys[] = { "sso_session", "sso_start_url", "sso_account_id",
					    "login_session" };
	int r = -ENODATA;

	(void)ret_credential;
	for (size_t i = 0; i < ARRAY_LEN(keys) && r == -ENODATA; i++)
		r = refuse_key(sources, err, keys[i], "a login by browser");
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
	return new_credential(id, secret, token, ret_credential);
}

static int load_credentials_file(const struct sources *sources, struct s3c_err *err,
				 struct s3c_credential **ret_credential)
{
	return load_static(&sources->credentials, sources->credentials_path, sources->profile, err,
			   ret_credential);
}

static int load_process(const struct sources *sources, struct s3c_err *err,
			struct s3c_credential **ret_credential)
{
	(void)ret_credential;
	return refuse_key(sources, err, "credential_process", "a program");
}

static int load_config_file(const struct sources *sources, struct s3c_err *err,
			    struct s3c_credential **ret_credential)
{
	return load_static(&sources->config, sources->config_path, sources->config_section, err,
			   ret_credential);
}

static int load_container(const struct sources *sources, struct s3c_err *err,
			  struct s3c_credential **ret_credential)
{
	(void)ret_credential;
	if (sources->profile_explicit || (env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") == NULL &&
					  env("AWS_CONTAINER_CREDENTIALS_FULL_URI") == NULL))
		return -ENODATA;
	return s3c_err_set(
		err, -EOPNOTSUPP,
		"the environment names a container's credentials (AWS_CONTAINER_"
		"CREDENTIALS_*_URI), which are not supported yet: set AWS_ACCESS_KEY_ID, "
		"AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN");
}

/* The instance's metadata service is asked last; it is no part of the chain yet. */
static int load_instance(const struct sources *sources, struct s3c_err *err,
			 struct s3c_credential **ret_credential)
{
	(void)sources;
	(void)err;
	(void)ret_credential;
	return -ENODATA;
}

/* botocore's order (create_credential_resolver): the first that has something decides. */
static const struct provider providers[] = {
	{ "environment", load_environment },
	{ "assumed role", load_role },
	{ "web identity", load_web_identity },
	{ "single sign-on", load_sso },
	{ "credentials file", load_credentials_file },
	{ "process", load_process },
	{ "config file", load_config_file },
	{ "container", load_container },
	{ "instance", load_instance },
};

static const char *home(void)
{
	const char *value = env("HOME");
	struct passwd *pw;

	if (value != NULL)
		return value;
	pw = getpwuid(getuid());
	return pw != NULL ? pw->pw_dir : "/";
}

/* The variable's path, with a leading ~ for the home folder, or the default below the home. */
static char *file_path(const char *variable, const char *below_home)
{
	const char *value = env(variable);

	if (value == NULL)
		return s3c_asprintf("%s/%s", home(), below_home);
	if (value[0] == '~' && value[1] == '/')
		return s3c_asprintf("%s%s", home(), value + 1);
	return strdup(value);
}

static void sources_free(struct sources *sources)
{
	free(sources->credentials_path);
	free(sources->config_path);
	free(sources->config_section);
	s3c_profile_free(&sources->credentials);
	s3c_profile_free(&sources->config);
}
#define cleanup_sources __attribute__((cleanup(sources_free)))

static int sources_open(const char *profile, struct s3c_err *err, struct sources *sources)
{
	int r;

	sources->profile_explicit = profile != NULL;
	if (profile == NULL)
		profile = env("AWS_PROFILE");
	if (profile == NULL)
		profile = env("AWS_DEFAULT_PROFILE");
	sources->profile = profile != NULL ? profile : "default";
	sources->credentials_path = file_path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
	sources->config_path = file_path("AWS_CONFIG_FILE", ".aws/config");
	sources->config_section = s3c_asprintf("profile %s", sources->profile);
	if (sources->credentials_path == NULL || sources->config_path == NULL ||
	    sources->config_section == NULL)
		return -ENOMEM;
	r = s3c_profile_read(sources->credentials_path, err, &sources->credentials);
	if (r == 0)
		r = s3c_profile_read(sources->config_path, err, &sources->config);
	if (r < 0)
		return r;
	/* "[profile default]" is accepted as well, and wins over "[default]". */
	if (strcmp(sources->profile, "default") == 0 &&
	    !has_section(&sources->config, "profile default"))
		strcpy(sources->config_section, "default");
	return 0;
}

static int load(const struct sources *sources, struct s3c_err *err,
		struct s3c_credential **ret_credential)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++) {
		int r = providers[i].load(sources, err, ret_credential);

		if (r == -ENOMEM)
			return s3c_err_set(err, r, "no memory is left for credentials");
		if (r != -ENODATA)
			return r;
	}
	if ((sources->profile_explicit || strcmp(sources->profile, "default") != 0) &&
	    !has_section(&sources->credentials, sources->profile) &&
	    !has_section(&sources->config, sources->config_section))
		return s3c_err_set(err, -EACCES, "there is no profile %s in %s or %s",
				   sources->profile, sources->credentials_path,
				   sources->config_path);
	return s3c_err_set(err, -EACCES,
			   "no credentials found: looked at %sprofile %s in %s and %s; set "
			   "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or write them there",
			   sources->profile_explicit ? ""
						     : "AWS_ACCESS_KEY_ID in the environment and ",
			   sources->profile, sources->credentials_path, sources->config_path);
}

/*
 * The profile's endpoint_url, and those of the [services x] section that it names, whose pairs are
 * nested: "s3 =", then an indented "endpoint_url = ...".
 */
static int keep_endpoints(const struct sources *sources, struct s3c_profile_file *endpoints)
{
	static const char suffix[] = ".endpoint_url";
	const char *url = profile_value(sources, "endpoint_url");
	const char *services = profile_value(sources, "services");
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

int s3c_credentials_new(const char *profile, struct s3c_err *err,
			struct s3c_credentials **ret_credentials)
{
	cleanup_sources struct sources sources = { 0 };
	struct s3c_credentials *credentials;
	const char *region;
	int r;

	r = sources_open(profile, err, &sources);
	if (r < 0)
		return r;
	credentials = calloc(1, sizeof(*credentials));
	if (credentials == NULL)
		return -ENOMEM;
	s3c_mutex_init(&credentials->synced.lock);
	region = env("AWS_REGION");
	if (region == NULL)
		region = env("AWS_DEFAULT_REGION");
	if (region == NULL)
		region = profile_value(&sources, "region");
	if (profile != NULL)
		credentials->profile = strdup(profile);
	if (region != NULL)
		credentials->region = strdup(region);
	if ((profile != NULL && credentials->profile == NULL) ||
	    (region != NULL && credentials->region == NULL))
		r = -ENOMEM;
	if (r == 0)
		r = keep_endpoints(&sources, &credentials->endpoints);
	if (r == 0)
		r = load(&sources, err, &credentials->synced.current);
	if (r < 0) {
		s3c_credentials_free(credentials);
		return r;
	}
	*ret_credentials = credentials;
	return 0;
}

void s3c_credentials_free(struct s3c_credentials *credentials)
{
	if (credentials == NULL)
		return;
	release(credentials->synced.current);
	s3c_mutex_destroy(&credentials->synced.lock);
	free(credentials->profile);
	free(credentials->region);
	s3c_profile_free(&credentials->endpoints);
	free(credentials);
}

struct s3c_credential *s3c_credentials_get(struct s3c_credentials *credentials)
{
	struct s3c_credential *credential;

	s3c_mutex_lock(&credentials->synced.lock);
	credential = credentials->synced.current;
	__atomic_add_fetch(&credential->refs, 1, __ATOMIC_RELAXED);
	s3c_mutex_unlock(&credentials->synced.lock);
	return credential;
}

int s3c_credentials_reload(struct s3c_credentials *credentials, struct s3c_err *err)
{
	cleanup_sources struct sources sources = { 0 };
	struct s3c_credential *fresh, *old;
	int r;

	r = sources_open(credentials->profile, err, &sources);
	if (r == 0)
		r = load(&sources, err, &fresh);
	if (r < 0)
		return r;
	s3c_mutex_lock(&credentials->synced.lock);
	old = credentials->synced.current;
	credentials->synced.current = fresh;
	s3c_mutex_unlock(&credentials->synced.lock);
	release(old);
	return 0;
}

const char *s3c_credentials_region(const struct s3c_credentials *credentials)
{
	return credentials->region;
}

const char *s3c_credentials_endpoint(const struct s3c_credentials *credentials, const char *service)
{
	char variable[64];
	const char *ignore = env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
	const char *url;

	if (ignore != NULL && strcasecmp(ignore, "true") == 0)
		return NULL;
	snprintf(variable, sizeof(variable), "AWS_ENDPOINT_URL_%s", service);
	for (char *c = variable; *c != '\0'; c++)
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	/* botocore's order: what names the service comes before what is for all. */
	url = env(variable);
	if (url == NULL)
		url = s3c_profile_get(&credentials->endpoints, "", service);
	if (url == NULL)
		url = env("AWS_ENDPOINT_URL");
	if (url == NULL)
		url = s3c_profile_get(&credentials->endpoints, "", "");
	return url;
}
