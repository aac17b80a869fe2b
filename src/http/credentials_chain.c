/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The order in which sources are asked (botocore's create_credential_resolver). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "http/credentials_private.h"

struct provider {
	const char *name; /* for the log */
	bool remote;
	s3c_cred_load_fn load;
};

static int load_environment(struct s3c_cred_sources *sources, struct s3c_err *err,
			    struct s3c_credential **ret_credential)
{
	return sources->explicit_profile ? -ENODATA
					 : s3c_cred_load_environment(sources, err, ret_credential);
}

/* A login by browser is nothing for a daemon: refused, not passed over. */
static int load_sso(struct s3c_cred_sources *sources, struct s3c_err *err,
		    struct s3c_credential **ret_credential)
{
	static const char *const keys[] = { "sso_session", "sso_start_url", "sso_account_id",
					    "login_session" };

	(void)ret_credential;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (s3c_cred_value(sources, keys[i]) != NULL)
			return s3c_err_set(
				err, -EOPNOTSUPP,
				"profile %s uses a login by browser (%s), which is not supported: "
				"give it credential_process = aws configure export-credentials "
				"--profile %s",
				sources->profile, keys[i], sources->profile);
	return -ENODATA;
}

static const struct provider whole_chain[] = {
	{ "environment", false, load_environment },
	{ "assumed role", true, s3c_cred_load_role },
	{ "web identity", true, s3c_cred_load_web_identity },
	{ "single sign-on", true, load_sso },
	{ "credentials file", false, s3c_cred_load_credentials_file },
	{ "process", true, s3c_cred_load_process },
	{ "config file", false, s3c_cred_load_config_file },
	{ "container", true, s3c_cred_load_container },
	{ "instance", true, s3c_cred_load_instance },
};

/* Of a source profile that has keys of its own, or no role. */
static const struct provider profile_chain[] = {
	{ "web identity", true, s3c_cred_load_web_identity },
	{ "single sign-on", true, load_sso },
	{ "credentials file", false, s3c_cred_load_credentials_file },
	{ "process", true, s3c_cred_load_process },
	{ "config file", false, s3c_cred_load_config_file },
};

static const struct {
	const char *name; /* of credential_source */
	s3c_cred_load_fn load;
} named_sources[] = {
	{ "Environment", s3c_cred_load_environment },
	{ "EcsContainer", s3c_cred_load_container },
	{ "Ec2InstanceMetadata", s3c_cred_load_instance },
};

static int ask(const struct provider *chain, size_t count, struct s3c_cred_sources *sources,
	       struct s3c_err *err, struct s3c_credential **ret_credential)
{
	for (size_t i = 0; i < count; i++) {
		int r = chain[i].load(sources, err, ret_credential);

		if (r == -ENODATA)
			continue;
		if (r == 0) {
			(*ret_credential)->source = chain[i].name;
			(*ret_credential)->remote = chain[i].remote;
		}
		return r;
	}
	return -ENODATA;
}

int s3c_cred_load(struct s3c_cred_sources *sources, struct s3c_err *err,
		  struct s3c_credential **ret_credential)
{
	bool named = sources->explicit_profile || strcmp(sources->profile, "default") != 0;
	bool known = s3c_cred_has_profile(sources);
	int r;

	/* The last two know of no profile: not what the machine may do, where a name is misspelt.
	 */
	r = ask(whole_chain, ARRAY_LEN(whole_chain) - (named && !known ? 2 : 0), sources, err,
		ret_credential);
	if (r == -ENOMEM)
		return s3c_err_set(err, r, "no memory is left for credentials");
	if (r != -ENODATA)
		return r;
	if (named && !known)
		return s3c_err_set(err, -EACCES, "there is no profile %s in %s or %s",
				   sources->profile, sources->credentials_path,
				   sources->config_path);
	return s3c_err_set(err, -EACCES,
			   "no credentials found: looked at %sprofile %s in %s and %s%s%s; set "
			   "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or write them there",
			   sources->explicit_profile ? ""
						     : "AWS_ACCESS_KEY_ID in the environment and ",
			   sources->profile, sources->credentials_path, sources->config_path,
			   sources->note[0] != '\0' ? "; " : "", sources->note);
}

/* A profile that is asked for itself again has to have keys, and to end there. */
static int check_cycle(const struct s3c_cred_sources *sources, const char *name, bool has_keys,
		       struct s3c_err *err)
{
	for (const struct s3c_cred_sources *s = sources; s != NULL; s = s->parent)
		if (strcmp(s->profile, name) == 0 && (s != sources || !has_keys))
			return s3c_err_set(err, -EINVAL,
					   "profile %s: its source_profile leads back to %s", name,
					   name);
	return 0;
}

static int load_source_profile(struct s3c_cred_sources *sources, const char *name,
			       struct s3c_err *err, struct s3c_credential **ret_credential)
{
	cleanup_cred_sources struct s3c_cred_sources inner = { .parent = sources };
	int r = s3c_cred_sources_open_inner(&inner, sources, name);
	bool has_keys;

	if (r < 0)
		return r;
	if (!s3c_cred_has_profile(&inner))
		return s3c_err_set(err, -EINVAL,
				   "profile %s names the source_profile %s, which is in neither %s "
				   "nor %s",
				   sources->profile, name, sources->credentials_path,
				   sources->config_path);
	has_keys = s3c_cred_value(&inner, "aws_access_key_id") != NULL;
	r = check_cycle(sources, name, has_keys, err);
	if (r < 0)
		return r;
	r = has_keys ? -ENODATA : s3c_cred_load_role(&inner, err, ret_credential);
	if (r == -ENODATA)
		r = ask(profile_chain, ARRAY_LEN(profile_chain), &inner, err, ret_credential);
	if (r == -ENODATA)
		r = s3c_err_set(err, -EACCES,
				"the source_profile %s of profile %s has no credentials", name,
				sources->profile);
	return r;
}

static int load_named_source(struct s3c_cred_sources *sources, const char *name,
			     struct s3c_err *err, struct s3c_credential **ret_credential)
{
	for (size_t i = 0; i < ARRAY_LEN(named_sources); i++) {
		int r;

		if (strcmp(named_sources[i].name, name) != 0)
			continue;
		r = named_sources[i].load(sources, err, ret_credential);
		if (r == -ENODATA)
			r = s3c_err_set(err, -EACCES,
					"profile %s names credential_source = %s, which has no "
					"credentials%s%s",
					sources->profile, name,
					sources->note[0] != '\0' ? ": " : "", sources->note);
		return r;
	}
	return s3c_err_set(err, -EINVAL,
			   "profile %s: credential_source is Environment, EcsContainer or "
			   "Ec2InstanceMetadata, not %s",
			   sources->profile, name);
}

int s3c_cred_load_base(struct s3c_cred_sources *sources, struct s3c_err *err,
		       struct s3c_credential **ret_credential)
{
	const char *profile = s3c_cred_value(sources, "source_profile");
	const char *source = s3c_cred_value(sources, "credential_source");

	if ((profile == NULL) == (source == NULL))
		return s3c_err_set(err, -EINVAL,
				   "profile %s has role_arn and %s: give one of source_profile and "
				   "credential_source",
				   sources->profile, profile == NULL ? "neither" : "both");
	return profile != NULL ? load_source_profile(sources, profile, err, ret_credential)
			       : load_named_source(sources, source, err, ret_credential);
}
