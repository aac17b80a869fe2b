/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "contract.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"

#define PART_BYTES S3C_STORE_PART_MIN
#define WRONG_ETAG "\"00000000000000000000000000000000\""

static char *start_upload(const char *key)
{
	struct s3c_meta_item item = { (char *)(uintptr_t) "mode", (char *)(uintptr_t) "7" };
	struct s3c_meta meta = { &item, 1 };
	struct s3c_store_request rq = request(S3C_STORE_UPLOAD_CREATE, key);
	struct s3c_store_reply reply;
	char *id;

	rq.meta = &meta;
	rq.content_type = "application/x-parts";
	expect(&rq, 0, &reply);
	assert_non_null(reply.upload_id);
	id = steal_ptr(reply.upload_id);
	s3c_store_reply_free(&reply);
	return id;
}

static struct s3c_store_part send_part(const char *key, const char *id, unsigned number,
				       const void *data, size_t len)
{
	struct iovec body = { (void *)(uintptr_t)data, len };
	struct s3c_store_request rq = request(S3C_STORE_UPLOAD_PART, key);
	struct s3c_store_reply reply;
	struct s3c_store_part part;

	rq.upload_id = id;
	rq.part_number = number;
	rq.body = &body;
	rq.body_count = 1;
	rq.content = true;
	expect(&rq, 0, &reply);
	part = reply.part;
	assert_int_equal(part.number, number);
	assert_string_not_equal(part.etag, "");
	s3c_store_reply_free(&reply);
	return part;
}

static struct s3c_store_request complete_request(const char *key, const char *id,
						 const struct s3c_store_part *parts, size_t count)
{
	struct s3c_store_request rq = request(S3C_STORE_UPLOAD_COMPLETE, key);

	rq.upload_id = id;
	rq.parts = parts;
	rq.part_count = count;
	return rq;
}

static void test_upload(void **state)
{
	cleanup_free uint8_t *data = malloc(2 * PART_BYTES + 100);
	const char *key = key_of("upload/two parts+");
	cleanup_free char *id = NULL;
	struct s3c_store_part parts[2];
	struct s3c_store_request rq;
	struct s3c_store_reply reply, head;

	(void)state;
	assert_non_null(data);
	s3c_random(data, PART_BYTES + 100);
	id = start_upload(key);
	/* The later one first, and one of them twice: the last counts. */
	parts[1] = send_part(key, id, 7, data + PART_BYTES, 100);
	parts[0] = send_part(key, id, 1, "wrong", 5);
	parts[0] = send_part(key, id, 1, data, PART_BYTES);
	rq = request(S3C_STORE_HEAD, key);
	expect(&rq, -ENOENT, NULL);
	rq = complete_request(key, id, parts, 2);
	expect(&rq, 0, &reply);
	expect_body(key, data, PART_BYTES + 100);
	rq = request(S3C_STORE_HEAD, key);
	expect(&rq, 0, &head);
	assert_string_equal(head.stat.version.etag, reply.stat.version.etag);
	assert_string_equal(s3c_meta_get(&head.stat.meta, "mode"), "7");
	assert_string_equal(head.stat.content_type, "application/x-parts");
	assert_int_equal(head.stat.ssec, contract.ssec != NULL);
	s3c_store_reply_free(&head);
	s3c_store_reply_free(&reply);
}

static void test_part_copy(void **state)
{
	cleanup_free uint8_t *data = malloc(2 * PART_BYTES + 100);
	bool any_key = contract.store->caps.part_copy_any_key;
	const char *source = key_of(any_key ? "upload/source %41" : "upload/source");
	const char *key = key_of("upload/target");
	cleanup_free char *id = NULL;
	struct s3c_store_part parts[2];
	struct s3c_store_request rq;
	struct s3c_store_reply reply;
	char etag[S3C_STORE_ETAG_MAX];

	(void)state;
	if (!contract.store->caps.part_copy)
		skip();
	assert_non_null(data);
	s3c_random(data, 2 * PART_BYTES + 100);
	put_bytes(source, data, 2 * PART_BYTES + 100, etag);
	id = start_upload(key);
	rq = request(S3C_STORE_UPLOAD_PART_COPY, key);
	rq.upload_id = id;
	rq.part_number = 1;
	rq.source_key = source;
	rq.source_ssec = contract.ssec;
	rq.source_if_match = etag;
	rq.offset = 100;
	rq.length = PART_BYTES + 1;
	expect(&rq, 0, &reply);
	parts[0] = reply.part;
	assert_int_equal(parts[0].number, 1);
	s3c_store_reply_free(&reply);
	if (contract.store->caps.part_copy_source_if_match) {
		rq.source_if_match = WRONG_ETAG;
		rq.part_number = 3;
		expect(&rq, -ESTALE, NULL);
	}
	parts[1] = send_part(key, id, 2, data, 10);
	rq = complete_request(key, id, parts, 2);
	expect(&rq, 0, NULL);
	memmove(data, data + 100, PART_BYTES + 1);
	/* What the first bytes were has gone with the move: the second part is looked at alone. */
	{
		cleanup_buf struct s3c_buf body = { 0 };
		char message[256];

		assert_int_equal(s3c_store_get_all(contract.store, key, contract.ssec, 32u << 20,
						   NULL, &body, NULL, message, sizeof(message)),
				 0);
		assert_int_equal(body.len, PART_BYTES + 11);
		assert_memory_equal(body.data, data, PART_BYTES + 1);
	}
}

static void test_abort(void **state)
{
	const char *key = key_of("upload/aborted");
	cleanup_free char *id = start_upload(key);
	struct s3c_store_request rq = request(S3C_STORE_UPLOAD_ABORT, key);
	struct s3c_store_part part = send_part(key, id, 1, "x", 1);
	struct iovec body = { (void *)(uintptr_t) "y", 1 };

	(void)state;
	rq.upload_id = id;
	expect(&rq, 0, NULL);
	rq = complete_request(key, id, &part, 1);
	expect(&rq, -ENXIO, NULL);
	rq = request(S3C_STORE_UPLOAD_PART, key);
	rq.upload_id = id;
	rq.part_number = 2;
	rq.body = &body;
	rq.body_count = 1;
	expect(&rq, -ENXIO, NULL);
	rq = request(S3C_STORE_HEAD, key);
	expect(&rq, -ENOENT, NULL);
}

static struct s3c_store_request parts_request(const char *key, const char *id, unsigned after)
{
	struct s3c_store_request rq = request(S3C_STORE_UPLOAD_PARTS, key);

	rq.upload_id = id;
	rq.part_number = after;
	rq.ssec = contract.ssec;
	return rq;
}

/* ETags are compared without quotes. */
static void expect_part(const struct s3c_store_part *got, const struct s3c_store_part *sent,
			size_t size)
{
	size_t quote = sent->etag[0] == '"';
	size_t got_quote = got->etag[0] == '"';

	assert_int_equal(got->number, sent->number);
	assert_int_equal(got->size, size);
	assert_int_equal(strcspn(got->etag + got_quote, "\""), strcspn(sent->etag + quote, "\""));
	assert_memory_equal(got->etag + got_quote, sent->etag + quote,
			    strcspn(sent->etag + quote, "\""));
	if (got->checksum[0] && sent->checksum[0])
		assert_string_equal(got->checksum, sent->checksum);
}

static void test_list_parts(void **state)
{
	const char *key = key_of("upload/listed + & <");
	cleanup_free char *id = start_upload(key);
	struct s3c_store_part parts[3];
	struct s3c_store_request rq = parts_request(key, id, 0);
	struct s3c_store_reply reply;

	(void)state;
	expect(&rq, 0, &reply);
	assert_int_equal(reply.parts.count, 0);
	assert_int_equal(reply.parts.next, 0);
	s3c_store_reply_free(&reply);
	parts[2] = send_part(key, id, 700, "seven", 5);
	parts[0] = send_part(key, id, 2, "wrong, and longer", 17);
	/* The times of a folder may be as coarse as the clock's ticks. */
	usleep(20000);
	parts[0] = send_part(key, id, 2, "two", 3);
	parts[1] = send_part(key, id, 3, "three and more", 14);
	expect(&rq, 0, &reply);
	assert_int_equal(reply.parts.count, 3);
	assert_int_equal(reply.parts.next, 0);
	expect_part(&reply.parts.parts[0], &parts[0], 3);
	expect_part(&reply.parts.parts[1], &parts[1], 14);
	expect_part(&reply.parts.parts[2], &parts[2], 5);
	s3c_store_reply_free(&reply);
	rq.part_number = 2;
	expect(&rq, 0, &reply);
	assert_int_equal(reply.parts.count, 2);
	expect_part(&reply.parts.parts[0], &parts[1], 14);
	s3c_store_reply_free(&reply);
	rq = request(S3C_STORE_UPLOAD_ABORT, key);
	rq.upload_id = id;
	expect(&rq, 0, NULL);
	rq = parts_request(key, id, 0);
	expect(&rq, -ENXIO, NULL);
}

/* How many uploads of that key and id are listed below prefix. */
static size_t count_listed(const char *prefix, const char *key, const char *id)
{
	struct s3c_store_request rq = { .op = S3C_STORE_LIST_UPLOADS, .prefix = prefix };
	cleanup_free char *token = NULL;
	size_t found = 0;

	do {
		struct s3c_store_reply reply;

		rq.token = token;
		expect(&rq, 0, &reply);
		for (size_t i = 0; i < reply.uploads.count; i++) {
			const struct s3c_upload_item *item = &reply.uploads.items[i];
			const char *raw = strchr(id, ':') ? strchr(id, ':') + 1 : id;

			assert_int_equal(strncmp(item->key, prefix, strlen(prefix)), 0);
			if (strcmp(item->key, key) != 0 || strcmp(item->id, raw) != 0)
				continue;
			found++;
			/* Clocks of servers are this machine's, within reason. */
			assert_true(item->begun_ns >
				    s3c_clock_realtime_ns() - 3600 * S3C_NSEC_PER_SEC);
			assert_true(item->begun_ns <
				    s3c_clock_realtime_ns() + 3600 * S3C_NSEC_PER_SEC);
		}
		free(token);
		token = steal_ptr(reply.uploads.next_token);
		s3c_store_reply_free(&reply);
	} while (token);
	return found;
}

static void test_list_uploads(void **state)
{
	cleanup_free char *key = strdup(key_of("upload/begun + & <"));
	cleanup_free char *id = start_upload(key);
	cleanup_free char *other = start_upload(key);
	struct s3c_store_request rq = request(S3C_STORE_UPLOAD_ABORT, key);
	cleanup_free char *prefix = strdup(key_of("upload/begun"));
	cleanup_free char *apart = strdup(key_of("upload/elsewhere"));

	(void)state;
	assert_int_equal(count_listed(prefix, key, id), 1);
	assert_int_equal(count_listed(prefix, key, other), 1);
	assert_int_equal(count_listed(apart, key, id), 0);
	rq.upload_id = id;
	expect(&rq, 0, NULL);
	assert_int_equal(count_listed(prefix, key, id), 0);
	/* Aborted by the id that was listed, which has no prefix of ours. */
	rq.upload_id = strchr(other, ':') ? strchr(other, ':') + 1 : other;
	expect(&rq, 0, NULL);
	assert_int_equal(count_listed(prefix, key, other), 0);
}

/* More than one answer holds. */
static void test_list_many_parts(void **state)
{
	const char *key = key_of("upload/many");
	cleanup_free char *id = NULL;
	struct s3c_store_request rq;
	struct s3c_store_reply reply;

	(void)state;
	/* Servers take a while for so many requests. */
	if (!contract.is_file)
		skip();
	id = start_upload(key);
	for (unsigned i = 1; i <= 1003; i++)
		send_part(key, id, 2 * i, "part", 4);
	rq = parts_request(key, id, 0);
	expect(&rq, 0, &reply);
	assert_int_equal(reply.parts.count, 1000);
	assert_int_equal(reply.parts.parts[0].number, 2);
	assert_int_equal(reply.parts.next, 2000);
	s3c_store_reply_free(&reply);
	rq.part_number = 2000;
	expect(&rq, 0, &reply);
	assert_int_equal(reply.parts.count, 3);
	assert_int_equal(reply.parts.parts[2].number, 2006);
	assert_int_equal(reply.parts.next, 0);
	s3c_store_reply_free(&reply);
}

static void test_bad_parts(void **state)
{
	const char *key = key_of("upload/bad");
	cleanup_free char *id = start_upload(key);
	struct s3c_store_part parts[2];
	struct s3c_store_request rq;

	(void)state;
	parts[0] = send_part(key, id, 1, "small", 5);
	parts[1] = send_part(key, id, 2, "last", 4);
	rq = complete_request(key, id, parts, 2);
	expect(&rq, -EINVAL, NULL); /* EntityTooSmall */
	strcpy(parts[0].etag, WRONG_ETAG);
	rq = complete_request(key, id, parts, 1);
	expect(&rq, -EINVAL, NULL); /* InvalidPart */
	rq = request(S3C_STORE_UPLOAD_ABORT, key);
	rq.upload_id = id;
	expect(&rq, 0, NULL);
}

static void test_complete_conditions(void **state)
{
	const struct s3c_store_caps *caps = &contract.store->caps;
	const char *key = key_of("upload/condition");
	struct s3c_store_request rq;
	struct s3c_store_part part;
	char etag[S3C_STORE_ETAG_MAX];
	cleanup_free char *id = NULL;
	cleanup_free char *id2 = NULL;

	(void)state;
	put_text(key, "present", etag);
	if (caps->complete_if_match) {
		id = start_upload(key);
		part = send_part(key, id, 1, "replaced", 8);
		rq = complete_request(key, id, &part, 1);
		rq.condition.if_match = WRONG_ETAG;
		expect(&rq, -ESTALE, NULL);
		expect_text(key, "present");
		rq.condition.if_match = etag;
		expect(&rq, 0, NULL);
		expect_text(key, "replaced");
	}
	if (caps->complete_if_none_match) {
		id2 = start_upload(key);
		part = send_part(key, id2, 1, "again", 5);
		rq = complete_request(key, id2, &part, 1);
		rq.condition.if_none_match = true;
		expect(&rq, -EEXIST, NULL);
		rq = request(S3C_STORE_DELETE, key);
		expect(&rq, 0, NULL);
		rq = complete_request(key, id2, &part, 1);
		rq.condition.if_none_match = true;
		expect(&rq, 0, NULL);
		expect_text(key, "again");
	}
	if (!caps->complete_if_match && !caps->complete_if_none_match)
		skip();
}

const struct CMUnitTest upload_tests[] = {
	cmocka_unit_test(test_upload),       cmocka_unit_test(test_part_copy),
	cmocka_unit_test(test_abort),        cmocka_unit_test(test_list_parts),
	cmocka_unit_test(test_list_uploads), cmocka_unit_test(test_list_many_parts),
	cmocka_unit_test(test_bad_parts),    cmocka_unit_test(test_complete_conditions),
};
const size_t upload_test_count = ARRAY_LEN(upload_tests);
