/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/secret.h"
#include "http/credentials.h"
#include "http/profile.h"

static char dir[] = "/tmp/s3c-credentials-XXXXXX";
static char credentials_path[64], config_path[64];

static const char *const variables[] = {
	"AWS_ACCESS_KEY_ID",
	"AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN",
	"AWS_SECURITY_TOKEN",
	"AWS_PROFILE",
	"AWS_DEFAULT_PROFILE",
	"AWS_REGION",
	"AWS_DEFAULT_REGION",
	"AWS_ENDPOINT_URL",
	"AWS_ENDPOINT_URL_S3",
	"AWS_ENDPOINT_URL_KMS",
	"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
	"AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_ROLE_ARN",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI",
};

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(variables); i++)
		unsetenv(variables[i]);
	unlink(credentials_path);
	unlink(config_path);
	setenv("AWS_SHARED_CREDENTIALS_FILE", credentials_path, 1);
	setenv("AWS_CONFIG_FILE", config_path, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	return 0;
}

static int set_up_group(void **state)
{
	(void)state;
	assert_int_equal(s3c_secret_init(), 0);
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(credentials_path, sizeof(credentials_path), "%s/credentials", dir);
	snprintf(config_path, sizeof(config_path), "%s/config", dir);
	return 0;
}

static int tear_down_group(void **state)
{
	(void)state;
	unlink(credentials_path);
	unlink(config_path);
	return rmdir(dir);
}

struct expected {
	const char *id, *secret, *token;
	const char *region;
	const char *endpoint; /* for s3 */
};

static void check(const char *profile, const struct expected *expected)
{
	struct s3c_err err = { 0 };
	struct s3c_credentials *credentials = NULL;
	struct s3c_credential *credential;
	const char *text;
	int r = s3c_credentials_new(profile, &err, &credentials);

	if (r < 0)
		fail_msg("%s", s3c_err_text(&err, r));
	credential = s3c_credentials_get(credentials);
	assert_string_equal(credential->access_key_id, expected->id);
	assert_string_equal(credential->secret_access_key, expected->secret);
	if (expected->token != NULL)
		assert_string_equal(credential->session_token, expected->token);
	else
		assert_null(credential->session_token);
	s3c_credential_put(credential);
	text = s3c_credentials_region(credentials);
	assert_string_equal(text != NULL ? text : "(none)",
			    expected->region != NULL ? expected->region : "(none)");
	text = s3c_credentials_endpoint(credentials, "s3");
	assert_string_equal(text != NULL ? text : "(none)",
			    expected->endpoint != NULL ? expected->endpoint : "(none)");
	s3c_credentials_free(credentials);
}

static void check_refused(const char *profile, int result, const char *words)
{
	struct s3c_err err = { 0 };
	struct s3c_credentials *credentials = NULL;

	assert_int_equal(s3c_credentials_new(profile, &err, &credentials), result);
	assert_null(credentials);
	if (strstr(err.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	/* No error ever shows a secret. */
	assert_null(strstr(err.text, "HUSH"));
}

static void test_environment(void **state)
{
	(void)state;
	setenv("AWS_ACCESS_KEY_ID", "ID", 1);
	check_refused(NULL, -EACCES, "AWS_SECRET_ACCESS_KEY is not");
	setenv("AWS_SECRET_ACCESS_KEY", "HUSH", 1);
	check(NULL, &(struct expected){ .id = "ID", .secret = "HUSH" });
	setenv("AWS_SECURITY_TOKEN", "OLD", 1);
	setenv("AWS_DEFAULT_REGION", "eu-west-1", 1);
	setenv("AWS_ENDPOINT_URL", "http://all", 1);
	check(NULL, &(struct expected){ "ID", "HUSH", "OLD", "eu-west-1", "http://all" });
	setenv("AWS_SESSION_TOKEN", "TOKEN", 1);
	setenv("AWS_REGION", "eu-west-2", 1);
	setenv("AWS_ENDPOINT_URL_S3", "http://s3", 1);
	check(NULL, &(struct expected){ "ID", "HUSH", "TOKEN", "eu-west-2", "http://s3" });
	setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
	check(NULL, &(struct expected){ "ID", "HUSH", "TOKEN", "eu-west-2", NULL });
}

static void test_files(void **state)
{
	char text[4096];
	char token[1200];

	(void)state;
	memset(token, 'T', sizeof(token) - 1);
	token[sizeof(token) - 1] = '\0';
	snprintf(text, sizeof(text),
		 "\xef\xbb\xbf# comment\n"
		 "[default]\r\naws_access_key_id = ID1\r\naws_secret_access_key=HUSH/+1=\r\n"
		 "; another\n\n[work]\nAWS_ACCESS_KEY_ID=ID2\naws_secret_access_key = HUSH2#;\n"
		 "aws_session_token = %s",
		 token);
	write_file(credentials_path, text);
	write_file(config_path, "[default]\nregion = us-west-1\n"
				"[profile  work]\nregion = us-west-2\nservices = dev\n"
				"endpoint_url = http://all\ns3 =\n  region = nested\n"
				"[profile \"in config\"]\naws_access_key_id = ID3\n"
				"aws_secret_access_key = HUSH3\nendpoint_url = http://mine\n"
				"[services dev]\nkms =\n  endpoint_url = http://kms\n"
				"s3 =\n  endpoint_url = http://nested\n  other = x\n");
	check(NULL, &(struct expected){ "ID1", "HUSH/+1=", NULL, "us-west-1", NULL });
	check("work", &(struct expected){ "ID2", "HUSH2#;", token, "us-west-2", "http://nested" });
	setenv("AWS_PROFILE", "in config", 1);
	check(NULL, &(struct expected){ "ID3", "HUSH3", NULL, NULL, "http://mine" });
	check("default", &(struct expected){ "ID1", "HUSH/+1=", NULL, "us-west-1", NULL });
	/* The environment's keys win, but not over a profile that was asked for by option. */
	setenv("AWS_ACCESS_KEY_ID", "ID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "HUSH", 1);
	check(NULL, &(struct expected){ "ID", "HUSH", NULL, NULL, "http://mine" });
	check("work", &(struct expected){ "ID2", "HUSH2#;", token, "us-west-2", "http://nested" });
	/* What names the service goes before what is for all, wherever it stands. */
	setenv("AWS_ENDPOINT_URL", "http://env", 1);
	check("work", &(struct expected){ "ID2", "HUSH2#;", token, "us-west-2", "http://nested" });
	check("default", &(struct expected){ "ID1", "HUSH/+1=", NULL, "us-west-1", "http://env" });
}

static void test_home(void **state)
{
	char path[128];

	(void)state;
	setenv("HOME", dir, 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "~/credentials", 1);
	write_file(credentials_path,
		   "[default]\naws_access_key_id = A\naws_secret_access_key = B\n");
	check(NULL, &(struct expected){ .id = "A", .secret = "B" });
	unsetenv("AWS_SHARED_CREDENTIALS_FILE");
	check_refused(NULL, -EACCES, "/.aws/credentials");
	snprintf(path, sizeof(path), "%s/.aws", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/.aws/credentials", dir);
	write_file(path, "[default]\naws_access_key_id = C\naws_secret_access_key = D\n");
	check(NULL, &(struct expected){ .id = "C", .secret = "D" });
	unlink(path);
	snprintf(path, sizeof(path), "%s/.aws", dir);
	assert_int_equal(rmdir(path), 0);
}

static void test_refused(void **state)
{
	static const struct {
		const char *config;
		int result;
		const char *words;
	} cases[] = {
		{ "[profile p]\nrole_arn = r\nmfa_serial = m\n", -EOPNOTSUPP, "mfa_serial" },
		{ "[profile p]\nrole_arn = r\nweb_identity_token_file = /none\n", -ENOENT,
		  "token file /none" },
		{ "[profile p]\nsso_session = s\n", -EOPNOTSUPP, "sso_session" },
		{ "[profile p]\nlogin_session = s\n", -EOPNOTSUPP, "login_session" },
		{ "[profile p]\ncredential_process = /none/x\n", -ENOENT, "/none/x cannot be run" },
		/* A role beside static keys: signing as someone else would be wrong. */
		{ "[profile p]\nrole_arn = r\naws_access_key_id = A\n"
		  "aws_secret_access_key = HUSH\n",
		  -EINVAL, "role_arn" },
		{ "[profile p]\naws_access_key_id = A\n", -EACCES, "no aws_secret_access_key" },
		{ "[profile q]\nregion = x\n", -EACCES, "there is no profile p in" },
		{ "[profile p]\nregion = x\n", -EACCES, "no credentials found" },
		{ "[profile p]\nHUSH\n", -EINVAL, "config, line 2" },
		{ "a = HUSH\n", -EINVAL, "line 1" },
		{ "[profile p\na = b\n", -EINVAL, "line 1" },
		{ "[profile p]\n = HUSH\n", -EINVAL, "line 2" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_file(config_path, cases[i].config);
		check_refused("p", cases[i].result, cases[i].words);
	}
	unlink(config_path);
	check_refused(NULL, -EACCES, "no credentials found");
	assert_int_equal(mkdir(config_path, 0700), 0);
	check_refused(NULL, -EISDIR, "cannot read");
	assert_int_equal(rmdir(config_path), 0);
}

static void test_reload(void **state)
{
	struct s3c_credentials *credentials;
	struct s3c_credential *before, *after;
	struct s3c_err err = { 0 };

	(void)state;
	write_file(credentials_path, "[default]\naws_access_key_id = A\n"
				     "aws_secret_access_key = B\naws_session_token = 1\n");
	assert_int_equal(s3c_credentials_new(NULL, NULL, &credentials), 0);
	before = s3c_credentials_get(credentials);
	write_file(credentials_path, "[default]\naws_access_key_id = A\n"
				     "aws_secret_access_key = B\naws_session_token = 2\n");
	assert_int_equal(s3c_credentials_reload(credentials, &err), 0);
	after = s3c_credentials_get(credentials);
	assert_string_equal(before->session_token, "1");
	assert_string_equal(after->session_token, "2");
	s3c_credential_put(before);
	s3c_credential_put(after);
	/* A failed load leaves what there was. */
	unlink(credentials_path);
	assert_int_equal(s3c_credentials_reload(credentials, &err), -EACCES);
	assert_non_null(strstr(err.text, credentials_path));
	after = s3c_credentials_get(credentials);
	assert_string_equal(after->session_token, "2");
	s3c_credential_put(after);
	s3c_credentials_free(credentials);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_environment, set_up),
		cmocka_unit_test_setup(test_files, set_up),
		cmocka_unit_test_setup(test_home, set_up),
		cmocka_unit_test_setup(test_refused, set_up),
		cmocka_unit_test_setup(test_reload, set_up),
	};

	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
