/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The client of a KMS against a scripted server; the JSON of replies; contexts and descriptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http_server.h"
#include "key/kms_json.h"
#include "key/kms_keys.h"
#include "object/s3ec_keys.h"

#define ARN "arn:aws:kms:eu-west-1:111122223333:key/k"
/* 32 bytes, 0xff each: base64 with slashes. */
#define PLAIN "//////////////////////////////////////////8="
#define PLAIN_ESCAPED                                                                              \
	"\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/"  \
	"\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/8="
#define BLOB "AQID" /* 01 02 03 */
#define GENERATED                                                                                  \
	"{\"KeyId\":\"" ARN "\",\"Plaintext\":\"" PLAIN "\",\"CiphertextBlob\":\"" BLOB "\"}"

struct fixture {
	struct test_server server;
	struct s3c_kms *kms;
	pthread_mutex_t lock;
	unsigned count; /* guarded by lock, with those below */
	char target[128], type[64], authorization[512], body[4096];
	/* What it answers: the first so often, then the second. */
	const char *first, *first_status, *second;
	unsigned first_times;
};

static bool answer(struct test_request *request, void *arg)
{
	struct fixture *f = arg;
	char head[256];
	bool first;

	pthread_mutex_lock(&f->lock);
	first = f->count++ < f->first_times;
	snprintf(f->target, sizeof(f->target), "%s", test_header(request, "X-Amz-Target"));
	snprintf(f->type, sizeof(f->type), "%s", test_header(request, "Content-Type"));
	snprintf(f->authorization, sizeof(f->authorization), "%s",
		 test_header(request, "Authorization"));
	snprintf(f->body, sizeof(f->body), "%.*s", (int)request->body_len, request->body);
	pthread_mutex_unlock(&f->lock);
	snprintf(head, sizeof(head), "%s\r\nContent-Type: text/html\r\nx-amzn-RequestId: R1",
		 first ? f->first_status : "200 OK");
	test_reply(request, head, first ? f->first : f->second);
	return true;
}

static void set_up(struct fixture *f, unsigned retries)
{
	struct s3c_kms_config config = {
		.region = "eu-west-1", .allow_http = true, .retries = retries, .timeout_s = 20
	};
	struct s3c_err err = { 0 };
	char endpoint[64];

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	test_server_start(&f->server, answer, f);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", f->server.port);
	config.endpoint = endpoint;
	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SK", 1);
	if (s3c_kms_new(&config, &err, &f->kms) < 0)
		fail_msg("%s", err.text);
}

static void tear_down(struct fixture *f)
{
	s3c_kms_free(f->kms);
	test_server_stop(&f->server);
	pthread_mutex_destroy(&f->lock);
}

static void assert_ones(const uint8_t *key)
{
	for (unsigned i = 0; i < S3C_KEY_LEN; i++)
		assert_int_equal(key[i], 0xff);
}

static void test_operations(void **state)
{
	const uint8_t blob[] = { 1, 2, 3 };
	static struct fixture f;
	cleanup_kms_blob struct s3c_kms_blob got = { 0 };
	cleanup_free char *arn = NULL;
	uint8_t key[S3C_KEY_LEN] = { 0 };

	(void)state;
	set_up(&f, 0);
	f.second = GENERATED;
	assert_int_equal(
		s3c_kms_generate(f.kms, NULL, "alias/\"x", "{\"a\":\"b\"}", key, &got, NULL, 0), 0);
	assert_ones(key);
	assert_string_equal(got.arn, ARN);
	assert_int_equal(got.len, 3);
	assert_memory_equal(got.data, blob, 3);
	assert_string_equal(f.target, "TrentService.GenerateDataKey");
	assert_string_equal(f.type, "application/x-amz-json-1.1");
	assert_non_null(strstr(f.authorization, "/eu-west-1/kms/aws4_request"));
	assert_string_equal(f.body, "{\"KeyId\":\"alias/\\\"x\",\"KeySpec\":\"AES_256\","
				    "\"EncryptionContext\":{\"a\":\"b\"}}");
	s3c_kms_blob_free(&got);

	assert_int_equal(s3c_kms_encrypt(f.kms, NULL, "k", "{\"a\":\"b\"}", key, &got, NULL, 0), 0);
	assert_string_equal(f.target, "TrentService.Encrypt");
	assert_string_equal(f.body, "{\"KeyId\":\"k\",\"EncryptionContext\":{\"a\":\"b\"},"
				    "\"Plaintext\":\"" PLAIN "\"}");
	s3c_kms_blob_free(&got);

	memset(key, 0, sizeof(key));
	assert_int_equal(
		s3c_kms_decrypt(f.kms, NULL, "k", ARN, NULL, blob, sizeof(blob), key, NULL, 0), 0);
	assert_ones(key);
	assert_string_equal(f.target, "TrentService.Decrypt");
	assert_string_equal(f.body, "{\"KeyId\":\"k\",\"CiphertextBlob\":\"" BLOB "\"}");
	assert_int_equal(s3c_kms_decrypt(f.kms, NULL, "k", "arn:other", NULL, blob, sizeof(blob),
					 key, NULL, 0),
			 -EKEYREJECTED);

	assert_int_equal(s3c_kms_reencrypt(f.kms, NULL, "k", "{}", blob, sizeof(blob), "l",
					   "{\"a\":\"b\"}", &got, NULL, 0),
			 0);
	assert_string_equal(f.target, "TrentService.ReEncrypt");
	assert_string_equal(f.body, "{\"SourceKeyId\":\"k\",\"DestinationKeyId\":\"l\","
				    "\"CiphertextBlob\":\"" BLOB "\","
				    "\"SourceEncryptionContext\":{},"
				    "\"DestinationEncryptionContext\":{\"a\":\"b\"}}");

	f.second = "{\"KeyMetadata\":{\"KeyId\":\"k\",\"Arn\":\"" ARN
		   "\",\"KeyState\":\"Enabled\",\"Else\":[1,{}]}}";
	assert_int_equal(s3c_kms_describe(f.kms, NULL, "k", &arn, NULL, 0), 0);
	assert_string_equal(arn, ARN);
	tear_down(&f);
}

static void test_key_states(void **state)
{
	static const struct {
		const char *json;
		int result;
	} cases[] = {
		{ "{\"KeyMetadata\":{\"Arn\":\"a\",\"KeyState\":\"Disabled\"}}", -EKEYREVOKED },
		{ "{\"KeyMetadata\":{\"Arn\":\"a\",\"KeyState\":\"PendingDeletion\"}}",
		  -EKEYEXPIRED },
		{ "{\"KeyMetadata\":{\"Arn\":\"a\",\"KeyState\":\"Unavailable\"}}", -EKEYEXPIRED },
		{ "{\"KeyMetadata\":{\"Arn\":\"a\",\"KeyUsage\":\"SIGN_VERIFY\"}}", -EINVAL },
		{ "{\"KeyMetadata\":{\"Arn\":\"a\",\"KeySpec\":\"RSA_2048\"}}", -EINVAL },
		{ "{\"KeyMetadata\":{}}", -EPROTO },
		{ "{}", -EPROTO },
		{ "[]", -EPROTO },
		{ "", -EPROTO },
	};
	static struct fixture f;

	(void)state;
	set_up(&f, 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char why[256] = "", *arn = NULL;

		f.second = cases[i].json;
		assert_int_equal(s3c_kms_describe(f.kms, NULL, "k", &arn, why, sizeof(why)),
				 cases[i].result);
		assert_true(why[0]);
		assert_null(arn);
	}
	tear_down(&f);
}

/* Each error has its number and its words, and permanent ones are asked once. */
static void test_errors(void **state)
{
	static const struct {
		const char *status, *code;
		int result;
		const char *words;
		bool again; /* a repeat may mend it */
	} cases[] = {
		{ "400 Bad", "DisabledException", -EKEYREVOKED, "is disabled", false },
		{ "400 Bad", "KMSInvalidStateException", -EKEYEXPIRED, "pending deletion", false },
		{ "400 Bad", "AccessDeniedException", -EACCES, "no permission", false },
		{ "400 Bad", "com.amazonaws.kms#NotFoundException", -ENOKEY, "there is no KMS key",
		  false },
		{ "400 Bad", "InvalidCiphertextException", -EBADMSG, "encryption context", false },
		{ "400 Bad", "IncorrectKeyException", -EKEYREJECTED, "another key", false },
		{ "400 Bad", "ValidationException", -EINVAL, "refuses", false },
		{ "400 Bad", "ThrottlingException", -EAGAIN, "throttles", true },
		{ "400 Bad", "LimitExceededException", -EAGAIN, "throttles", true },
		{ "500 Oops", "KMSInternalException", -EAGAIN, "fault", true },
		{ "400 Bad", "DependencyTimeoutException", -EAGAIN, "fault", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_kms_blob blob = { 0 };
		static struct fixture f;
		uint8_t key[S3C_KEY_LEN];
		char why[512] = "", json[256];

		for (unsigned retries = 0; retries < 2; retries++) {
			set_up(&f, retries);
			snprintf(json, sizeof(json), "{\"__type\":\"%s\",\"Message\":\"m\"}",
				 cases[i].code);
			f.first = json;
			f.first_status = cases[i].status;
			f.first_times = 1;
			f.second = GENERATED;
			assert_int_equal(s3c_kms_generate(f.kms, NULL, "thekey", NULL, key, &blob,
							  why, sizeof(why)),
					 retries && cases[i].again ? 0 : cases[i].result);
			assert_int_equal(f.count, retries && cases[i].again ? 2 : 1);
			s3c_kms_blob_free(&blob);
			if (!retries && (!strstr(why, cases[i].words) || !strstr(why, "R1")))
				fail_msg("%s: %s", cases[i].code, why);
			tear_down(&f);
		}
	}
}

/* Plaintext is taken out and wiped wherever it stands; what makes no sense is refused. */
static void test_json(void **state)
{
	static const struct {
		const char *json;
		int result;
		bool has_key;
	} cases[] = {
		{ GENERATED, 0, true },
		{ "{ \"Plaintext\" :\n \"" PLAIN_ESCAPED "\" }", 0, true },
		{ "{\"x\":{\"Plaintext\":\"" PLAIN "\"}}", 0, false },
		{ "{\"x\":\"\\\"Plaintext\\\":\"}", 0, false },
		{ "{\"Plaintext\":\"AAAA\"}", -EPROTO, false },
		{ "{\"Plaintext\":\"" PLAIN "AAAA\"}", -EPROTO, false },
		{ "{\"Plaintext\":\"" PLAIN, -EPROTO, false },
		{ "{\"Plaintext\":\"" PLAIN "\"", -EPROTO, false },
		{ "{\"Plaintext\":\"" PLAIN "\",\"Plaintext\":\"" PLAIN "\"}", -EPROTO, false },
		{ "{\"Plaintext\":1}", 0, false },
		{ "{\"CiphertextBlob\":1}", -EPROTO, false },
		{ "{\"CiphertextBlob\":\"\"}", -EPROTO, false },
		{ "{\"CiphertextBlob\":\"!\"}", -EPROTO, false },
		{ "{\"KeyId\":\"\"}", -EPROTO, false },
		{ "", -EPROTO, false },
		{ "{", -EPROTO, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_kms_answer answer = { 0 };
		uint8_t key[S3C_KEY_LEN] = { 0 };
		cleanup_free char *text = strdup(cases[i].json);

		assert_non_null(text);
		assert_int_equal(s3c_kms_answer_parse(text, strlen(text), key, &answer),
				 cases[i].result);
		assert_int_equal(answer.has_key, cases[i].has_key);
		if (cases[i].has_key) {
			assert_ones(key);
			assert_null(strstr(text, "////"));
		}
		s3c_kms_answer_free(&answer);
	}
}

/* The example of doc/format.md; other volumes, files, algorithms do not pass for it. */
static void test_matdesc(void **state)
{
	static const char want[] = "{\"s3cryptfs-key-id\":\"" ARN
				   "\",\"s3cryptfs:alg\":\"s3cryptfs/AES256-GCM-64K/v1\","
				   "\"s3cryptfs:file\":\"101112131415161718191a1b1c1d1e1f\","
				   "\"s3cryptfs:volume\":\"000102030405060708090a0b0c0d0e0f\","
				   "\"team\":\"a\"}";
	static const char alg[] = "s3cryptfs/AES256-GCM-64K/v1";
	cleanup_kms_wrap struct s3c_kms_wrap *wrap = NULL;
	cleanup_free char *json = NULL;
	cleanup_free char *arn = NULL;
	cleanup_free char *pairs = NULL;
	uint8_t volume[16], file[16];
	char *no_arn = NULL, *no_pairs = NULL;

	(void)state;
	for (uint8_t i = 0; i < 16; i++) {
		volume[i] = i;
		file[i] = (uint8_t)(0x10 + i);
	}
	assert_int_equal(
		s3c_kms_wrap_new(false, ARN, "{\"team\":\"a\"}", (const uint8_t *)"x", 1, &wrap),
		0);
	assert_int_equal(s3c_kms_matdesc(wrap, volume, file, alg, &json), 0);
	assert_string_equal(json, want);
	assert_int_equal(s3c_kms_matdesc_parse(json, volume, file, alg, &arn, &pairs), 0);
	assert_string_equal(arn, ARN);
	assert_string_equal(pairs, "{\"team\":\"a\"}");
	/* Not this volume, this file, this algorithm; with reuse there is no file. */
	assert_int_equal(s3c_kms_matdesc_parse(json, file, file, alg, &no_arn, &no_pairs),
			 -EBADMSG);
	assert_int_equal(s3c_kms_matdesc_parse(json, volume, volume, alg, &no_arn, &no_pairs),
			 -EBADMSG);
	assert_int_equal(s3c_kms_matdesc_parse(json, volume, file, "x", &no_arn, &no_pairs),
			 -EBADMSG);
	assert_int_equal(s3c_kms_matdesc_parse(json, volume, NULL, alg, &no_arn, &no_pairs),
			 -EBADMSG);
	assert_int_equal(s3c_kms_matdesc_parse(NULL, volume, file, alg, &no_arn, &no_pairs),
			 -EBADMSG);
	assert_null(no_arn);
	assert_null(no_pairs);
}

static void test_endpoint(void **state)
{
	static const char *const refused[] = { "http://kms.example.com", "http://10.0.0.1",
					       "http://localhost.example.com", "http://127.0.0.11",
					       "HTTP://example.com" };
	struct s3c_kms_config config = { .region = "r", .timeout_s = 1 };
	struct s3c_err err = { 0 };
	struct s3c_kms *kms = NULL;

	(void)state;
	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SK", 1);
	config.endpoint = "http://localhost:1";
	assert_int_equal(s3c_kms_new(&config, &err, &kms), -EPERM);
	config.allow_http = true;
	assert_int_equal(s3c_kms_new(&config, &err, &kms), 0);
	s3c_kms_free(kms);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		config.endpoint = refused[i];
		assert_int_equal(s3c_kms_new(&config, &err, &kms), -EPERM);
	}
}

/* A context is the user's business: that of another client's object has to be the same. */
static void test_foreign(void **state)
{
	struct s3c_key_desc desc[] = { { (char *)"aws:x-amz-cek-alg", (char *)"115" },
				       { (char *)"team", (char *)"a" } };
	const struct s3c_wrapped_key wrapped = { .alg = S3C_UNWRAP_KMS_CONTEXT,
						 .content_alg = "115",
						 .wrapped = (const uint8_t *)"x",
						 .wrapped_len = 1,
						 .desc = desc,
						 .desc_count = 2 };
	static const struct {
		const char *pairs;
		int result;
	} cases[] = { { "{\"team\":\"a\"}", 0 },
		      { "{\"team\":\"b\"}", -EACCES },
		      { "{\"team\":\"a\",\"x\":\"y\"}", -EACCES },
		      { NULL, -EACCES } };
	static struct fixture f;

	(void)state;
	set_up(&f, 0);
	f.second = GENERATED;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct s3c_kms_keys_config config = { .kms = f.kms,
							    .read_keys = ARN,
							    .pairs = cases[i].pairs };
		struct s3c_kms_keys *keys;
		uint8_t key[S3C_KEY_LEN];
		unsigned before = f.count;

		assert_int_equal(s3c_kms_keys_new(&config, NULL, &keys), 0);
		assert_int_equal(s3c_unwrap_data_key(&wrapped, NULL, s3c_kms_keys_foreign(keys),
						     key, NULL, 0),
				 cases[i].result);
		assert_int_equal(f.count - before, cases[i].result == 0);
		s3c_kms_keys_free(keys);
	}
	assert_non_null(strstr(f.body, "{\"aws:x-amz-cek-alg\":\"115\",\"team\":\"a\"}"));
	tear_down(&f);
}

/* A KMS that gives another data key for a wrap than the one that it wrapped: nothing is opened. */
static void test_liar(void **state)
{
	const struct s3c_volume volume = { .id = { 1 } };
	struct s3c_keyring ring = { 0 };
	cleanup_header struct s3c_header header = { .layout = S3C_LAYOUT_CHUNKS, .file_id = { 2 } };
	struct s3c_header other = { .layout = S3C_LAYOUT_S3EC, .file_id = { 2 } };
	const struct s3c_s3ec envelope = { .version = 2, .suite = S3C_S3EC_GCM };
	uint8_t ones[S3C_KEY_LEN], key[S3C_KEY_LEN] = { 0 };
	struct s3c_kms_keys_config config = { .read_keys = ARN };
	static const uint8_t nothing[S3C_KEY_LEN];
	struct s3c_kms_keys *keys;
	static struct fixture f;
	char why[256] = "";

	(void)state;
	set_up(&f, 0);
	f.second = GENERATED;
	config.kms = f.kms;
	assert_int_equal(s3c_kms_keys_new(&config, NULL, &keys), 0);
	ring.kms = keys;
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(s3c_kms_wrap_new(false, ARN, NULL, (const uint8_t *)"x", 1, &header.kms),
			 0);
	other.kms = header.kms;
	/* As it was wrapped. */
	assert_int_equal(s3c_header_commitment(ones, header.file_id, header.commitment), 0);
	memcpy(other.commitment, header.commitment, sizeof(other.commitment));
	assert_int_equal(s3c_header_unwrap(&header, &ring, &volume, NULL, key, why, sizeof(why)),
			 0);
	assert_ones(key);
	assert_int_equal(s3c_s3ec_open(&envelope, &other, &ring, NULL, key, why, sizeof(why)), 0);
	assert_ones(key);
	/* Of another key. */
	memset(key, 0, sizeof(key));
	header.commitment[0] ^= 1;
	other.commitment[31] ^= 1;
	assert_int_equal(s3c_header_unwrap(&header, &ring, &volume, NULL, key, why, sizeof(why)),
			 -EBADMSG);
	assert_non_null(strstr(why, "commitment"));
	why[0] = '\0';
	assert_int_equal(s3c_s3ec_open(&envelope, &other, &ring, NULL, key, why, sizeof(why)),
			 -EBADMSG);
	assert_non_null(strstr(why, "commitment"));
	assert_memory_equal(key, nothing, sizeof(key));
	s3c_kms_keys_free(keys);
	tear_down(&f);
}

static int init(void **state)
{
	(void)state;
	return s3c_secret_init();
}

/* More than have a piece of secret memory each: keys of everything else are in the same MiB. */
#define WAITERS 48

static bool stand_still(struct test_request *request, void *arg)
{
	(void)arg;
	return test_hang(request);
}

static void *wait_for_kms(void *arg)
{
	const uint8_t blob[] = { 1, 2, 3 };
	uint8_t key[S3C_KEY_LEN];
	struct s3c_op op;
	intptr_t r;

	s3c_op_init(&op, s3c_deadline_after(1.0));
	r = s3c_kms_decrypt(arg, &op, "k", NULL, NULL, blob, sizeof(blob), key, NULL, 0);
	s3c_op_destroy(&op);
	return (void *)r;
}

static void test_many_wait(void **state)
{
	static struct fixture f;
	pthread_t threads[WAITERS];
	void *result;

	(void)state;
	set_up(&f, 0);
	f.server.handler = stand_still;
	for (unsigned i = 0; i < WAITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_for_kms, f.kms), 0);
	for (unsigned i = 0; i < WAITERS; i++) {
		pthread_join(threads[i], &result);
		assert_int_not_equal((intptr_t)result, -ENOMEM);
		assert_int_not_equal((intptr_t)result, 0);
	}
	tear_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations), cmocka_unit_test(test_key_states),
		cmocka_unit_test(test_errors),     cmocka_unit_test(test_json),
		cmocka_unit_test(test_matdesc),    cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_foreign),    cmocka_unit_test(test_liar),
		cmocka_unit_test(test_many_wait),
	};

	return cmocka_run_group_tests(tests, init, NULL);
}
