/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The contract of an object store (store/store.h), run against the one that is named:
 *
 *   contract [--ssec] file:DIR | fault+file:DIR | s3:BUCKET
 *
 * s3 takes S3C_TEST_ENDPOINT, S3C_TEST_CA and the AWS variables from the environment.
 * S3C_TEST_SERVER=radosgw|versitygw tells which server it is: what is known to be wrong with it
 * must be found by the probe, and what it cannot do at all is left out.
 * Without an argument a folder of its own below $TMPDIR is used.
 */
#include "contract.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"
#include "store/fault.h"

struct contract contract;

const char *key_of(const char *name)
{
	static char keys[4][S3C_STORE_KEY_MAX + 128];
	static unsigned turn;
	char *key = keys[turn++ % 4];

	snprintf(key, sizeof(keys[0]), "%s%s", contract.base, name);
	return key;
}

bool is_server(const char *name)
{
	return strcmp(contract.server, name) == 0;
}

struct s3c_store_request request(enum s3c_store_opcode op, const char *key)
{
	return (struct s3c_store_request){
		.op = op,
		.key = key,
		.ssec = contract.ssec,
		.length = UINT64_MAX,
		.deadline_ns = s3c_deadline_after(30),
	};
}

int perform(const struct s3c_store_request *rq, struct s3c_store_reply *ret_reply)
{
	return s3c_store_perform(contract.store, rq, NULL, ret_reply);
}

void expect(const struct s3c_store_request *rq, int result, struct s3c_store_reply *ret_reply)
{
	struct s3c_store_reply own;
	struct s3c_store_reply *reply = ret_reply ? ret_reply : &own;
	int r = perform(rq, reply);

	if (r != result)
		fail_msg("operation %d: %d (%s), not %d: %s", rq->op, r, strerror(-r), result,
			 reply->message);
	if (r < 0)
		assert_string_not_equal(reply->message, "");
	else
		assert_string_equal(reply->message, "");
	if (!ret_reply)
		s3c_store_reply_free(reply);
}

void put_bytes(const char *key, const void *data, size_t len, char *ret_etag)
{
	struct iovec body = { (void *)(uintptr_t)data, len };
	struct s3c_store_request rq = request(S3C_STORE_PUT, key);
	struct s3c_store_reply reply;

	rq.body = &body;
	rq.body_count = 1;
	expect(&rq, 0, &reply);
	assert_string_not_equal(reply.stat.version.etag, "");
	if (ret_etag)
		strcpy(ret_etag, reply.stat.version.etag);
	s3c_store_reply_free(&reply);
}

void put_text(const char *key, const char *text, char *ret_etag)
{
	put_bytes(key, text, strlen(text), ret_etag);
}

void expect_body(const char *key, const void *data, size_t len)
{
	cleanup_buf struct s3c_buf body = { 0 };
	struct s3c_stat st = { 0 };
	char message[512];
	int r = s3c_store_get_all(contract.store, key, contract.ssec, 64u << 20, NULL, &body, &st,
				  message, sizeof(message));

	if (r < 0)
		fail_msg("get %s: %s (%s)", key, strerror(-r), message);
	assert_int_equal(st.size, len);
	assert_int_equal(body.len, len);
	if (len)
		assert_memory_equal(body.data, data, len);
	s3c_stat_free(&st);
}

void expect_text(const char *key, const char *text)
{
	expect_body(key, text, strlen(text));
}

static const char *yes_no(bool b)
{
	return b ? "yes" : "no";
}

static void print_caps(const struct s3c_store_caps *caps)
{
	printf("# put: if-none-match %s, if-match %s; complete: if-none-match %s, if-match %s\n",
	       yes_no(caps->put_if_none_match), yes_no(caps->put_if_match),
	       yes_no(caps->complete_if_none_match), yes_no(caps->complete_if_match));
	printf("# copy-source-if-match %s, part copy %s; delete if-match %s\n",
	       yes_no(caps->copy_source_if_match), yes_no(caps->part_copy_source_if_match),
	       yes_no(caps->delete_if_match));
	printf("# copy: if-none-match %s, if-match %s\n", yes_no(caps->copy_if_none_match),
	       yes_no(caps->copy_if_match));
	printf("# copy %s, part copy %s (of any key %s), crc32c %s, crc64nvme %s\n",
	       yes_no(caps->copy), yes_no(caps->part_copy), yes_no(caps->part_copy_any_key),
	       yes_no(caps->crc32c), yes_no(caps->crc64nvme));
}

static void test_probe(void **state)
{
	const struct s3c_store_caps *caps = &contract.store->caps;
	struct s3c_store_request rq = request(S3C_STORE_LIST, NULL);
	struct s3c_store_reply reply;
	struct s3c_err err = { 0 };
	int64_t start = s3c_clock_monotonic_ns();
	int r;

	(void)state;
	r = s3c_store_probe(contract.store, contract.base, contract.ssec, s3c_deadline_after(30),
			    &err);
	if (r < 0)
		fail_msg("probe: %s", s3c_err_text(&err, r));
	printf("# probe took %lld ms\n",
	       (long long)((s3c_clock_monotonic_ns() - start) / S3C_NSEC_PER_MSEC));
	print_caps(caps);
	if (contract.is_file) {
		assert_true(caps->put_if_none_match && caps->put_if_match);
		assert_true(caps->complete_if_none_match && caps->complete_if_match);
		assert_true(caps->copy_source_if_match && caps->part_copy_source_if_match);
		assert_true(caps->delete_if_match && caps->copy && caps->part_copy_any_key);
		assert_true(caps->copy_if_match && caps->copy_if_none_match);
	}
	if (is_server("radosgw")) {
		assert_true(caps->put_if_none_match && caps->put_if_match);
		assert_true(caps->if_match_bare);
		assert_false(caps->complete_if_match || caps->complete_if_none_match);
		assert_false(caps->copy_source_if_match || caps->delete_if_match);
		assert_int_equal(caps->copy, !contract.ssec);
		assert_true(caps->part_copy);
		assert_false(caps->part_copy_any_key); /* decodes the source's name twice */
	}
	if (is_server("versitygw")) {
		assert_true(caps->put_if_none_match && caps->put_if_match);
		assert_true(caps->complete_if_match && caps->copy_source_if_match);
		assert_true(caps->copy && caps->part_copy && caps->crc32c);
	}
	/* It leaves nothing behind. */
	rq.prefix = contract.base;
	expect(&rq, 0, &reply);
	assert_int_equal(reply.list.count, 0);
	s3c_store_reply_free(&reply);
	r = s3c_store_probe_read(contract.store, contract.base, s3c_deadline_after(30), &err);
	assert_int_equal(r, 0);
}

static void test_clean_up(void **state)
{
	(void)state;
	for (unsigned tries = 0;; tries++) {
		struct s3c_store_request rq = request(S3C_STORE_LIST, NULL);
		struct s3c_store_reply reply;
		const char *keys[1000];
		size_t count;

		rq.prefix = contract.base;
		expect(&rq, 0, &reply);
		count = reply.list.count;
		assert_true(!count || tries < 10);
		for (size_t i = 0; i < count; i++)
			keys[i] = reply.list.entries[i].key;
		rq = request(S3C_STORE_DELETE_MANY, NULL);
		rq.keys = keys;
		rq.key_count = count;
		if (count)
			expect(&rq, 0, NULL);
		s3c_store_reply_free(&reply);
		if (!count)
			return;
	}
}

static int open_file(const char *dir, struct s3c_store **ret_store)
{
	struct s3c_err err = { 0 };
	int r = s3c_store_file_new(dir, S3C_FILE_CREATE, &err, ret_store);

	contract.is_file = true;
	if (r < 0)
		fprintf(stderr, "contract: %s\n", s3c_err_text(&err, r));
	return r;
}

static int open_s3(const char *bucket, struct s3c_store **ret_store)
{
	struct s3c_store_s3_config config = {
		.bucket = bucket,
		.endpoint = getenv("S3C_TEST_ENDPOINT"),
		.ca_file = getenv("S3C_TEST_CA"),
		.allow_http = true,
		.parallel = 16,
		.retries = 3,
	};
	struct s3c_err err = { 0 };
	int r = s3c_store_s3_new(&config, &err, ret_store);

	if (r < 0)
		fprintf(stderr, "contract: %s\n", s3c_err_text(&err, r));
	return r;
}

static int open_store(const char *url)
{
	struct s3c_store *inner;
	int r;

	if (strncmp(url, "file:", 5) == 0)
		return open_file(url + 5, &contract.store);
	if (strncmp(url, "s3:", 3) == 0)
		return open_s3(url + 3, &contract.store);
	if (strncmp(url, "fault+file:", 11) != 0)
		return -EINVAL;
	r = open_file(url + 11, &inner);
	if (r == 0)
		r = s3c_store_fault_new(inner, &contract.store);
	return r;
}

static int run_groups(void)
{
	struct CMUnitTest tests[128];
	size_t count = 0;
	const struct {
		const struct CMUnitTest *tests;
		size_t count;
	} groups[] = {
		{ object_tests, object_test_count },
		{ list_tests, list_test_count },
		{ upload_tests, upload_test_count },
		{ call_tests, call_test_count },
	};

	tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_probe);
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		for (size_t j = 0; j < groups[i].count; j++)
			tests[count++] = groups[i].tests[j];
	tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_clean_up);
	return _cmocka_run_group_tests("contract", tests, count, NULL, NULL);
}

int main(int argc, char **argv)
{
	static struct s3c_ssec key;
	char dir[256] = "";
	cleanup_free char *url = NULL;
	uint8_t id[8];
	char hex[17];
	int result;
	int i = 1;

	if (s3c_secret_init() < 0)
		return 1;
	s3c_log_open("stderr");
	if (i < argc && strcmp(argv[i], "--ssec") == 0) {
		s3c_random(key.key, sizeof(key.key));
		contract.ssec = &key;
		i++;
	}
	contract.server = getenv("S3C_TEST_SERVER") ? getenv("S3C_TEST_SERVER") : "";
	s3c_random(id, sizeof(id));
	s3c_hex_encode(id, sizeof(id), hex);
	snprintf(contract.base, sizeof(contract.base), "contract-%s/", hex);
	if (i < argc) {
		url = strdup(argv[i]);
	} else {
		snprintf(dir, sizeof(dir), "%s/s3c-contract-%s",
			 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", hex);
		url = s3c_asprintf("file:%s", dir);
	}
	if (!url || open_store(url) < 0) {
		fprintf(stderr, "usage: contract [--ssec] file:DIR | fault+file:DIR | s3:BUCKET\n");
		return 2;
	}
	result = run_groups();
	s3c_store_free(contract.store);
	if (dir[0]) {
		/* What the tests left was deleted by the last of them: only the frame is there. */
		cleanup_free char *command = s3c_asprintf("rm -rf '%s'", dir);

		if (command && system(command) != 0)
			return 1;
	}
	return result;
}
