/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/secret.h"
#include "http/credentials_private.h"

static void test_time(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds; /* -1: refused */
	} cases[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-11-24T03:00:00Z", 1795489200 },
		{ "2026-11-24T03:00:00.999999Z", 1795489200 },
		{ "2026-11-24T04:30:00+01:30", 1795489200 },
		{ "2026-11-24T01:00:00-0200", 1795489200 },
		{ "2024-02-29T00:00:00Z", 1709164800 },
		{ "9999-12-31T23:59:60Z", 253402300800 },
		{ "2026-02-29T00:00:00Z", -1 },
		{ "2100-02-29T00:00:00Z", -1 },
		{ "2026-13-01T00:00:00Z", -1 },
		{ "2026-00-01T00:00:00Z", -1 },
		{ "2026-04-31T00:00:00Z", -1 },
		{ "2026-11-24T24:00:00Z", -1 },
		{ "2026-11-24T03:60:00Z", -1 },
		{ "2026-11-24T03:00:61Z", -1 },
		{ "2026-11-24T03:00:00", -1 },
		{ "2026-11-24 03:00:00Z", -1 },
		{ "2026-11-24T03:00:00.Z", -1 },
		{ "2026-11-24T03:00:00Zx", -1 },
		{ "2026-11-24T03:00:00+1:00", -1 },
		{ "2026-11-24T03:00:00+24:00", -1 },
		{ "2026-11-24T3:00:00Z", -1 },
		{ "1969-12-31T23:59:59Z", -1 },
		{ "+026-11-24T03:00:00Z", -1 },
		{ "1795489200", -1 },
		{ "tomorrow", -1 },
		{ "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t seconds = -1;
		int r = s3c_credential_parse_time(cases[i].text, &seconds);

		if (seconds != cases[i].seconds || (r == 0) != (seconds >= 0))
			fail_msg("%s: %d %lld", cases[i].text, r, (long long)seconds);
	}
}

#define KEYS "\"AccessKeyId\":\"ID\",\"SecretAccessKey\":\"HUSH\""
#define END "\"Expiration\":\"1970-01-01T00:00:07Z\""

static void test_json(void **state)
{
	static const struct {
		enum s3c_cred_form form;
		const char *text;
		int result;
		const char *token; /* NULL: none; or words of the error */
		int64_t expires;
	} cases[] = {
		{ S3C_CRED_PROCESS, "{\"Version\":1," KEYS "}", 0, NULL, 0 },
		{ S3C_CRED_PROCESS,
		  "{\"Version\":1," KEYS ",\"SessionToken\":null,\"Expiration\":null}", 0, NULL,
		  0 },
		{ S3C_CRED_PROCESS, " {\"Version\":1," KEYS ",\"SessionToken\":\"T=\"," END "}\n",
		  0, "T=", 7 },
		/* A token under the name of another form is none. */
		{ S3C_CRED_PROCESS, "{\"Version\":1," KEYS ",\"Token\":\"T\"}", 0, NULL, 0 },
		{ S3C_CRED_PROCESS, "{\"Version\":\"1\"," KEYS "}", -EBADMSG, "Version", 0 },
		{ S3C_CRED_PROCESS, "{\"Version\":1.0," KEYS "}", -EBADMSG, "Version", 0 },
		{ S3C_CRED_PROCESS, "{\"Version\":1," KEYS "} HUSH", -EBADMSG, "not JSON", 0 },
		{ S3C_CRED_PROCESS, "{\"Version\":1," KEYS ",\"SessionToken\":\"\"}", -EBADMSG,
		  "session token", 0 },
		{ S3C_CRED_CONTAINER, "{" KEYS "}", 0, NULL, 0 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"Token\":\"T\"," END "}", 0, "T", 7 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"Token\":\"a b\"}", -EBADMSG, "session token",
		  0 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"Token\":\"a\\u00e4\"}", -EBADMSG,
		  "session token", 0 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"Token\":\"a\\u0000\"}", -EBADMSG, "not JSON",
		  0 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"Token\":\"a\\r\\nHost: b\"}", -EBADMSG,
		  "session token", 0 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"Token\":[\"HUSH\"]}", -EBADMSG, "not a text",
		  0 },
		{ S3C_CRED_CONTAINER, "{" KEYS ",\"AccessKeyId\":\"X\"}", -EBADMSG, "not JSON", 0 },
		{ S3C_CRED_CONTAINER, "null", -EBADMSG, "not JSON", 0 },
		{ S3C_CRED_INSTANCE, "{\"Code\":\"Success\"," KEYS ",\"Token\":\"T\"," END "}", 0,
		  "T", 7 },
		{ S3C_CRED_INSTANCE, "{" KEYS ",\"Token\":\"T\"," END "}", 0, "T", 7 },
		{ S3C_CRED_INSTANCE, "{" KEYS "," END "}", -EBADMSG, "lacks", 0 },
		{ S3C_CRED_INSTANCE, "{" KEYS ",\"Token\":\"T\"}", -EBADMSG, "lacks", 0 },
		{ S3C_CRED_INSTANCE, "{\"Code\":\"Failed\",\"Message\":\"HUSH\"}", -EACCES,
		  "an error: Failed", 0 },
		{ S3C_CRED_INSTANCE, "{\"Code\":\"a\\nb\"}", -EACCES, "an error: unknown", 0 },
	};
	char *huge = calloc(1, S3C_CRED_TEXT_MAX + 2);
	struct s3c_credential *credential = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_err err = { 0 };
		int r = s3c_credential_parse_json(cases[i].form, cases[i].text,
						  strlen(cases[i].text), "it", &err, &credential);

		if (r != cases[i].result || (r < 0 && strstr(err.text, cases[i].token) == NULL))
			fail_msg("%s: %d %s", cases[i].text, r, err.text);
		assert_null(strstr(err.text, "HUSH"));
		if (r < 0)
			continue;
		assert_string_equal(credential->access_key_id, "ID");
		assert_string_equal(credential->secret_access_key, "HUSH");
		assert_int_equal(credential->expires_s, cases[i].expires);
		if (cases[i].token == NULL)
			assert_null(credential->session_token);
		else
			assert_string_equal(credential->session_token, cases[i].token);
		s3c_credential_put(credential);
	}
	memset(huge, ' ', S3C_CRED_TEXT_MAX + 1);
	assert_int_equal(s3c_credential_parse_json(S3C_CRED_CONTAINER, huge, S3C_CRED_TEXT_MAX + 1,
						   "it", NULL, &credential),
			 -EBADMSG);
	free(huge);
}

static void test_lengths(void **state)
{
	char text[2100];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_true(s3c_credential_is_token(text, sizeof(text) - 1));
	assert_false(s3c_credential_is_token(text, sizeof(text) - 2));
	assert_false(s3c_credential_is_token("", 10));
	assert_true(s3c_credential_is_token("a", 1));
	assert_false(s3c_credential_is_token("a ", 10));
	assert_false(s3c_credential_is_token("\x7f", 10));
	assert_false(s3c_credential_is_token("\xc3\xa4", 10));
}

#define HEAD "<AssumeRoleResponse xmlns='x'><AssumeRoleResult><Credentials>"
#define TAIL "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
#define FIELDS                                                                                     \
	"<SecretAccessKey>HUSH</SecretAccessKey><SessionToken>T</SessionToken>"                    \
	"<Expiration>1970-01-01T00:00:07Z</Expiration>"

static void test_sts(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *words;
	} cases[] = {
		{ HEAD "<AccessKeyId>ID</AccessKeyId>" FIELDS TAIL, 0, "" },
		{ "\n<?xml version='1.0'?>" HEAD FIELDS
		  "<New>x</New><AccessKeyId>ID</AccessKeyId>" TAIL,
		  0, "" },
		{ HEAD FIELDS TAIL, -EBADMSG, "AccessKeyId" },
		{ HEAD "<AccessKeyId> ID</AccessKeyId>" FIELDS TAIL, -EBADMSG, "AccessKeyId" },
		{ HEAD "<AccessKeyId>ID</AccessKeyId>" FIELDS "<SessionToken>U</SessionToken>" TAIL,
		  -EBADMSG, "is not what" },
		{ HEAD "<AccessKeyId>ID</AccessKeyId>" FIELDS, -EBADMSG, "is not what" },
		{ "<!DOCTYPE x [<!ENTITY a 'b'>]>" HEAD
		  "<AccessKeyId>&a;</AccessKeyId>" FIELDS TAIL,
		  -EBADMSG, "is not what" },
		{ "<AssumeRoleResponse><Credentials>" FIELDS "</Credentials></AssumeRoleResponse>",
		  -EBADMSG, "lacks" },
		{ "<Other/>", -EBADMSG, "lacks" },
		{ "", -EBADMSG, "is not what" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_credential *credential = NULL;
		struct s3c_err err = { 0 };
		int r = s3c_credential_parse_sts("AssumeRole", cases[i].text, strlen(cases[i].text),
						 "it", &err, &credential);

		if (r != cases[i].result || strstr(err.text, cases[i].words) == NULL)
			fail_msg("%s: %d %s", cases[i].text, r, err.text);
		assert_null(strstr(err.text, "HUSH"));
		if (r < 0)
			continue;
		assert_string_equal(credential->access_key_id, "ID");
		assert_string_equal(credential->session_token, "T");
		assert_int_equal(credential->expires_s, 7);
		s3c_credential_put(credential);
	}
}

static int set_up_group(void **state)
{
	(void)state;
	return s3c_secret_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_sts),
	};

	return cmocka_run_group_tests(tests, set_up_group, NULL);
}
