/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Server-side encryption: what is asked for and by which operations, and which replies confirm it.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "key/context.h"
#include "store/s3_private.h"

#define SSE "x-amz-server-side-encryption"
#define KID SSE "-aws-kms-key-id"
#define CTX SSE "-context"
#define BKE SSE "-bucket-key-enabled"
#define ARN "arn:aws:kms:eu-central-1:111122223333:key/"

static const struct s3c_store_s3_config s3_config = { .sse = S3C_SSE_S3, .sse_key_id = "ignored" };
static const struct s3c_store_s3_config kms_config = {
	.sse = S3C_SSE_KMS,
	.sse_key_id = "1234abcd",
	.sse_context = "{\"team\":\"storage\"}",
	.sse_bucket_key = true,
};
static const struct s3c_store_s3_config own_config = { .sse = S3C_SSE_KMS };
static const struct s3c_store_s3_config dsse_config = { .sse = S3C_SSE_DSSE, .sse_key_id = "k" };

static const char *of(const struct s3c_http_headers *headers, const char *name)
{
	const char *value = s3c_http_headers_get(headers, name);

	return value ? value : "-";
}

static void test_values(void **state)
{
	static const struct {
		const struct s3c_store_s3_config *config;
		const char *sse, *key, *context, *bucket_key;
	} cases[] = {
		{ &s3_config, "AES256", "-", "-", "-" },
		{ &kms_config, "aws:kms", "1234abcd", "eyJ0ZWFtIjoic3RvcmFnZSJ9", "true" },
		{ &own_config, "aws:kms", "-", "-", "false" },
		{ &dsse_config, "aws:kms:dsse", "k", "-", "-" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_http_headers headers = { 0 };
		struct s3c_s3_sse sse = { 0 };

		assert_int_equal(s3c_s3_sse_init(&sse, cases[i].config), 0);
		assert_int_equal(s3c_s3_sse_add(&sse, &headers), 0);
		assert_string_equal(of(&headers, SSE), cases[i].sse);
		assert_string_equal(of(&headers, KID), cases[i].key);
		assert_string_equal(of(&headers, CTX), cases[i].context);
		assert_string_equal(of(&headers, BKE), cases[i].bucket_key);
		s3c_http_headers_free(&headers);
		s3c_s3_sse_free(&sse);
	}
}

/* After the members of each operation's request in Amazon's model. */
static void test_operations(void **state)
{
	static const char *const keys[] = { "a" };
	static const struct s3c_store_part part = { .number = 1, .etag = "\"e\"" };
	static struct iovec body = { (void *)(uintptr_t) "123", 3 };
	static struct s3c_ssec ssec = { { 1 } };
	struct s3c_s3_store store = { .bucket = (char *)(uintptr_t) "bucket", .base.tls = true };

	(void)state;
	assert_int_equal(s3c_s3_sse_init(&store.sse, &kms_config), 0);
	for (int op = S3C_STORE_GET; op <= S3C_STORE_UPLOAD_ABORT; op++) {
		bool takes = op == S3C_STORE_PUT || op == S3C_STORE_COPY ||
			     op == S3C_STORE_UPLOAD_CREATE;

		for (int with_key = 0; with_key < 2; with_key++) {
			struct s3c_s3_call call = {
				.store = &store,
				.rq = {
					.op = (enum s3c_store_opcode)op,
					.key = "key",
					.source_key = "source",
					.length = 3,
					.body = &body,
					.body_count = 1,
					.upload_id = "crc32c:id",
					.part_number = 1,
					.parts = &part,
					.part_count = 1,
					.keys = keys,
					.key_count = 1,
					.ssec = with_key ? &ssec : NULL,
				},
			};
			struct s3c_s3_built built;
			size_t found = 0;

			assert_int_equal(s3c_s3_build(&call, &built), 0);
			for (size_t i = 0; i < built.http.headers.count; i++) {
				const char *name = built.http.headers.items[i].name;

				found += strstr(name, SSE) && !strstr(name, "-customer-");
			}
			if (found != (takes && !with_key ? 4 : 0))
				fail_msg("%s: %zu headers", s3c_s3_op_name(call.rq.op), found);
			s3c_s3_built_free(&built);
			s3c_buf_free(&call.xml);
		}
	}
	s3c_s3_sse_free(&store.sse);
}

struct reply {
	const char *sse, *key, *bucket_key; /* NULL: absent */
};

static bool confirms(struct s3c_s3_sse *sse, enum s3c_store_opcode op, const struct reply *reply,
		     char *ret_why, size_t size)
{
	struct s3c_http_headers headers = { 0 };
	bool r;

	if (reply->sse)
		assert_int_equal(s3c_http_headers_add(&headers, SSE, reply->sse), 0);
	if (reply->key)
		assert_int_equal(s3c_http_headers_add(&headers, KID, reply->key), 0);
	if (reply->bucket_key)
		assert_int_equal(s3c_http_headers_add(&headers, BKE, reply->bucket_key), 0);
	ret_why[0] = '\0';
	r = s3c_s3_sse_confirms(sse, op, &headers, ret_why, size);
	s3c_http_headers_free(&headers);
	return r;
}

static void test_replies(void **state)
{
	static const struct s3c_store_s3_config arn_config = { .sse = S3C_SSE_KMS,
							       .sse_key_id = ARN "1" };
	static const struct s3c_store_s3_config none_config = { 0 };
	static const struct {
		const struct s3c_store_s3_config *config;
		enum s3c_store_opcode op;
		struct reply reply;
		const char *why; /* NULL: it confirms */
	} cases[] = {
		{ &none_config, S3C_STORE_PUT, { NULL, NULL, NULL }, NULL },
		{ &none_config, S3C_STORE_PUT, { "AES256", NULL, NULL }, NULL },
		{ &s3_config, S3C_STORE_PUT, { "AES256", NULL, NULL }, NULL },
		{ &s3_config, S3C_STORE_PUT, { NULL, NULL, NULL }, "nothing instead of AES256" },
		{ &s3_config, S3C_STORE_COPY, { NULL, NULL, NULL }, "nothing instead of AES256" },
		{ &s3_config, S3C_STORE_UPLOAD_CREATE, { NULL, NULL, NULL }, "nothing" },
		{ &s3_config, S3C_STORE_UPLOAD_PART, { NULL, NULL, NULL }, NULL },
		{ &s3_config, S3C_STORE_UPLOAD_PART_COPY, { NULL, NULL, NULL }, NULL },
		{ &s3_config, S3C_STORE_UPLOAD_COMPLETE, { NULL, NULL, NULL }, NULL },
		{ &s3_config, S3C_STORE_UPLOAD_PART, { "aws:kms", NULL, NULL }, "aws:kms instead" },
		{ &s3_config, S3C_STORE_UPLOAD_COMPLETE, { "aws:kms", NULL, NULL }, "aws:kms" },
		{ &s3_config, S3C_STORE_PUT, { "aws:kms", ARN "1", NULL }, "aws:kms instead" },
		{ &kms_config, S3C_STORE_PUT, { "aws:kms", ARN "1234abcd", "true" }, NULL },
		{ &kms_config, S3C_STORE_PUT, { "aws:kms", "1234abcd", "TRUE" }, NULL },
		{ &kms_config,
		  S3C_STORE_PUT,
		  { "AES256", NULL, NULL },
		  "AES256 instead of aws:kms" },
		{ &kms_config, S3C_STORE_PUT, { "aws:kms:dsse", ARN "1234abcd", "true" }, "dsse" },
		{ &kms_config, S3C_STORE_PUT, { "aws:kms", NULL, "true" }, "no key" },
		{ &kms_config, S3C_STORE_PUT, { "aws:kms", ARN "x1234abcd", "true" }, "x1234abcd" },
		{ &kms_config,
		  S3C_STORE_PUT,
		  { "aws:kms", ARN "1234abcd", NULL },
		  "no bucket key" },
		{ &kms_config, S3C_STORE_PUT, { "aws:kms", ARN "1234abcd", "false" }, "no bucket" },
		{ &kms_config, S3C_STORE_UPLOAD_PART, { "aws:kms", ARN "1234abcd", NULL }, NULL },
		{ &kms_config, S3C_STORE_UPLOAD_PART, { "aws:kms", ARN "9", NULL }, "key/9" },
		{ &kms_config, S3C_STORE_UPLOAD_COMPLETE, { "aws:kms", NULL, NULL }, NULL },
		{ &arn_config, S3C_STORE_PUT, { "aws:kms", ARN "1", "false" }, NULL },
		{ &arn_config, S3C_STORE_PUT, { "aws:kms", "1", NULL }, NULL },
		{ &arn_config, S3C_STORE_PUT, { "aws:kms", ARN "1", "true" }, "a bucket key" },
		{ &arn_config,
		  S3C_STORE_PUT,
		  { "aws:kms", "arn:aws:kms:us-east-1:111122223333:key/1", NULL },
		  "us-east-1" },
		{ &own_config, S3C_STORE_PUT, { "aws:kms", ARN "any", NULL }, NULL },
		{ &own_config, S3C_STORE_PUT, { "aws:kms", NULL, NULL }, NULL },
		{ &dsse_config, S3C_STORE_PUT, { "aws:kms:dsse", ARN "k", NULL }, NULL },
		{ &dsse_config, S3C_STORE_PUT, { "aws:kms", ARN "k", NULL }, "instead" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_s3_sse sse = { 0 };
		char why[256];
		bool r;

		assert_int_equal(s3c_s3_sse_init(&sse, cases[i].config), 0);
		r = confirms(&sse, cases[i].op, &cases[i].reply, why, sizeof(why));
		if (r != !cases[i].why || (cases[i].why && !strstr(why, cases[i].why)))
			fail_msg("case %zu: %d '%s'", i, r, why);
		s3c_s3_sse_free(&sse);
	}
}

/* What an alias stands for shows in the first reply, and has to stay. */
static void test_alias(void **state)
{
	static const struct s3c_store_s3_config configs[] = {
		{ .sse = S3C_SSE_KMS, .sse_key_id = "alias/files" },
		{ .sse = S3C_SSE_KMS,
		  .sse_key_id = "arn:aws:kms:eu-central-1:111122223333:alias/files" },
		{ .sse = S3C_SSE_KMS },
	};
	static const struct reply one = { "aws:kms", ARN "1", NULL };
	static const struct reply two = { "aws:kms", ARN "2", NULL };
	char why[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
		struct s3c_s3_sse sse = { 0 };

		assert_int_equal(s3c_s3_sse_init(&sse, &configs[i]), 0);
		assert_true(confirms(&sse, S3C_STORE_PUT, &one, why, sizeof(why)));
		assert_true(confirms(&sse, S3C_STORE_UPLOAD_COMPLETE, &one, why, sizeof(why)));
		assert_false(confirms(&sse, S3C_STORE_PUT, &two, why, sizeof(why)));
		assert_non_null(strstr(why, "key/2 instead of " ARN "1"));
		assert_true(confirms(&sse, S3C_STORE_COPY, &one, why, sizeof(why)));
		s3c_s3_sse_free(&sse);
	}
}

static void test_context(void **state)
{
	static const struct {
		const char *text, *json, *words;
	} cases[] = {
		{ "a=b", "{\"a\":\"b\"}", NULL },
		{ "b=2;a=1=x; c = y ", "{\" c \":\" y \",\"a\":\"1=x\",\"b\":\"2\"}", NULL },
		{ "\xc3\xbc=\"", "{\"\\u00FC\":\"\\\"\"}", NULL },
		{ "a=", "{\"a\":\"\"}", NULL },
		{ "", NULL, "NAME=VALUE" },
		{ "a", NULL, "NAME=VALUE" },
		{ "a=b;", NULL, "NAME=VALUE" },
		{ "=b", NULL, "NAME=VALUE" },
		{ "a=b;a=c", NULL, "'a' twice" },
		{ "aws:s3:arn=x", NULL, "'aws:'" },
		{ "x=y;s3cryptfs:volume=x", NULL, "'s3cryptfs:'" },
		{ "s3cryptfs-key-id=x", NULL, "'s3cryptfs-key-id'" },
		{ "a=\xff", NULL, "not UTF-8" },
		{ "\xff=b", NULL, "not UTF-8" },
	};
	struct s3c_err err = { 0 };
	char long_text[8300] = "a=";
	char *json;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r;

		err.text[0] = '\0';
		r = s3c_kms_context_parse(cases[i].text, &err, &json);

		if (!cases[i].json) {
			assert_int_equal(r, -EINVAL);
			if (!strstr(err.text, cases[i].words))
				fail_msg("'%s' lacks '%s'", err.text, cases[i].words);
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(json, cases[i].json);
		free(json);
	}
	memset(long_text + 2, 'x', sizeof(long_text) - 3);
	assert_int_equal(s3c_kms_context_parse(long_text, &err, &json), -E2BIG);
}

static void test_errors(void **state)
{
	static const struct {
		const char *code, *message;
		int status, want;
		const char *words; /* of the sentence */
	} cases[] = {
		{ "KMS.DisabledException", ARN "1 is disabled.", 400, -EKEYREVOKED, "enable-key" },
		{ "KMS.KMSInvalidStateException", ARN "1 is pending deletion.", 400, -EKEYEXPIRED,
		  "cancel-key-deletion" },
		{ "KMS.NotFoundException", "Key 'x' does not exist", 400, -ENOKEY, "kms_key_id=" },
		{ "KMS.ThrottlingException", "Rate exceeded", 400, -EAGAIN, "bucket_key=on" },
		{ "KMS.KMSInternalException", "", 500, -EAGAIN, "not available now" },
		{ "KMS.InvalidKeyUsageException", "", 400, -EACCES, "symmetric" },
		{ "InvalidAccessKeyId", "Failed to retrieve the actual key, kms-keyid: x", 400,
		  -ENOKEY, "does not find the KMS key" },
		{ "InvalidArgument",
		  "Server Side Encryption with KMS managed key requires HTTP header "
		  "x-amz-server-side-encryption-aws-kms-key-id",
		  400, -EIO, "give kms_key_id=" },
		/* Its words are not those of SSE-C. */
		{ "KMS.InvalidGrantTokenException", "the encryption key", 400, -EACCES, "policy" },
		{ "AccessDenied", "User: arn:x is not authorized to perform: kms:GenerateDataKey",
		  403, -EACCES, "kms:Decrypt" },
	};
	struct s3c_s3_store store = { .base.identity = "https://h|b" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_s3_call call = {
			.store = &store,
			.rq = { .op = cases[i].want == -EIO ? S3C_STORE_PUT : S3C_STORE_GET,
				.key = "k" },
		};
		struct s3c_http_reply http = { .status = cases[i].status };
		struct s3c_err err = { 0 };
		char text[512];
		int r;

		strcpy(http.error_code, cases[i].code);
		strcpy(http.error_message, cases[i].message);
		r = s3c_s3_error(&call, &http);
		if (r != cases[i].want)
			fail_msg("%s: %d, not %d", cases[i].code, r, cases[i].want);
		s3c_s3_describe(&call, &http, r, text, sizeof(text));
		s3c_store_explain(&store.base, r, text, &err);
		if (!strstr(err.text, cases[i].words))
			fail_msg("'%s' lacks '%s'", err.text, cases[i].words);
	}
}

/* Denied with a customer key: the bucket may block SSE-C, which S3's own words do not say. */
static void test_blocked(void **state)
{
	static struct s3c_ssec ssec = { { 1 } };
	struct s3c_s3_store store = { .base.identity = "https://h|b" };
	struct s3c_s3_call call = {
		.store = &store,
		.rq = { .op = S3C_STORE_PUT, .key = "k", .ssec = &ssec },
	};
	struct s3c_http_reply http = { .status = 403, .error_code = "AccessDenied" };
	struct s3c_err err = { 0 };
	char text[512];

	(void)state;
	s3c_s3_describe(&call, &http, -EACCES, text, sizeof(text));
	assert_non_null(strstr(text, "BlockedEncryptionTypes"));
	s3c_store_explain(&store.base, -EACCES, text, &err);
	assert_non_null(strstr(err.text, "EncryptionType NONE"));
	call.rq.ssec = NULL;
	s3c_s3_describe(&call, &http, -EACCES, text, sizeof(text));
	assert_null(strstr(text, "BlockedEncryptionTypes"));
	call.rq.ssec = &ssec;
	call.rq.op = S3C_STORE_GET;
	s3c_s3_describe(&call, &http, -EACCES, text, sizeof(text));
	assert_null(strstr(text, "BlockedEncryptionTypes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),  cmocka_unit_test(test_operations),
		cmocka_unit_test(test_replies), cmocka_unit_test(test_alias),
		cmocka_unit_test(test_context), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_blocked),
	};

	return cmocka_run_group_tests_name("store/s3_sse", tests, NULL, NULL);
}
