/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* format=s3ec-v3: what a commit of a whole object asks of the store, and what its failures leave.
 */
#include "engine_fixture.h"

#include "engine/content.h"

#define LARGE (20u * S3C_CHUNK_SIZE * 16u + 777u) /* three parts */
#define SMALL 5000u

static const struct fx_options options = { .format = S3C_FORMAT_S3EC_V3 };
static uint8_t *plain;

static struct s3c_object *begin_with(struct fx *fx, const struct fx_options *o)
{
	struct s3c_attrs attrs = { .known = true, .mode = S_IFREG | 0600 };
	struct s3c_object *object;
	struct s3c_op op;

	fx_open(fx, o);
	fx_start(fx, o);
	s3c_op_init(&op, s3c_deadline_after(20));
	assert_int_equal(s3c_object_create(fx->engine, &op, "f", &attrs, &object), 0);
	s3c_op_destroy(&op);
	fx_requests(fx);
	return object;
}

static struct s3c_object *begin(struct fx *fx)
{
	return begin_with(fx, &options);
}

static void fill(struct s3c_object *object, uint64_t offset, size_t len)
{
	struct s3c_op op;

	s3c_op_init(&op, s3c_deadline_after(20));
	assert_int_equal(s3c_object_write(object, &op, offset, plain + offset, len, false), 0);
	s3c_op_destroy(&op);
}

static int commit(struct s3c_object *object)
{
	struct s3c_op op;
	int r;

	s3c_op_init(&op, s3c_deadline_after(20));
	r = s3c_object_commit(object, &op);
	s3c_op_destroy(&op);
	return r;
}

static void check_read(struct fx *fx, struct s3c_object *object, uint64_t offset, size_t len)
{
	struct s3c_pages pages = { 0 };
	struct s3c_op op;

	s3c_op_init(&op, s3c_deadline_after(20));
	assert_int_equal(s3c_object_read(object, &op, offset, len, NULL, &pages), 0);
	s3c_op_destroy(&op);
	for (unsigned i = 0; i < pages.count; i++) {
		assert_memory_equal(pages.iov[i].iov_base, plain + offset, pages.iov[i].iov_len);
		offset += pages.iov[i].iov_len;
	}
	s3c_pages_release(fx->engine, &pages);
}

/* What stands in the store, opened as another client opens it. ret_key: its data key. */
static void check_stored(struct fx *fx, size_t len, uint8_t *ret_key)
{
	cleanup_buf struct s3c_buf body = { .max = 64u << 20 };
	cleanup_s3ec_body struct s3c_s3ec_body *content = NULL;
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	uint8_t chunk[S3C_CHUNK_SIZE];
	struct s3c_stat st;
	char why[200] = "";

	hand_get(fx, "f", &body, &st);
	assert_int_equal(st.size, len + S3C_TAG_LEN);
	if (s3c_s3ec_parse(&st.meta, NULL, 0, st.size, &s3ec, why, sizeof(why)) < 0 ||
	    s3c_s3ec_unwrap(s3ec, fx->keyring, NULL, ret_key, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(s3c_s3ec_verify(s3ec, ret_key, body.data, body.len, &content), 0);
	for (uint64_t i = 0; i * S3C_CHUNK_SIZE < len; i++) {
		memcpy(chunk, body.data + i * S3C_CHUNK_SIZE, s3c_chunk_plain_len(len, i));
		assert_int_equal(s3c_s3ec_body_open(content, i, chunk), 0);
		assert_memory_equal(chunk, plain + i * S3C_CHUNK_SIZE, s3c_chunk_plain_len(len, i));
	}
	s3c_stat_free(&st);
}

static void add_fault(struct fx *fx, enum s3c_store_opcode opcode, enum s3c_fault_kind kind,
		      int result, unsigned after)
{
	const struct s3c_fault_rule rule = {
		.op = opcode,
		.key_substring = "f",
		.kind = kind,
		.result = result,
		.after = after,
		.times = 1,
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void test_small(void **state)
{
	uint8_t first[32], second[32];
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	object = begin(&fx);
	assert_int_equal(commit(object), 0); /* empty: the tag alone */
	assert_requests(&fx, "PUT 1");
	check_stored(&fx, 0, first);
	fill(object, 0, SMALL);
	assert_int_equal(commit(object), 0);
	assert_requests(&fx, "PUT 1");
	check_stored(&fx, SMALL, first);
	fill(object, 7, 1);
	assert_int_equal(commit(object), 0);
	assert_requests(&fx, "PUT 1");
	check_stored(&fx, SMALL, second);
	assert_memory_not_equal(first, second, sizeof(first));
	check_read(&fx, object, 0, SMALL);
	assert_requests(&fx, "");
	s3c_object_close(object);
	fx_end(&fx);
}

/* Nothing is sent before the commit, and nothing is asked for after it. */
static void test_large(void **state)
{
	struct s3c_object *object;
	uint8_t key[32];
	struct fx fx;

	(void)state;
	object = begin(&fx);
	fill(object, 0, LARGE);
	assert_requests(&fx, "");
	assert_int_equal(commit(object), 0);
	assert_requests(&fx, "CREATE 1 PART 3 COMPLETE 1");
	check_stored(&fx, LARGE, key);
	/* Of what has left memory the writer kept what opens it: no pass over the whole. */
	s3c_mutex_lock(&fx.engine->lock);
	assert_non_null(object->crypt);
	assert_non_null(object->crypt->body);
	s3c_chunks_drop(object, 0);
	s3c_mutex_unlock(&fx.engine->lock);
	check_read(&fx, object, LARGE - 1000, 1000);
	check_read(&fx, object, 9u << 20, 1000);
	assert_requests(&fx, "GET 2");
	/* Another commit reads what it needs, and writes all. */
	fill(object, 3, 1);
	assert_int_equal(commit(object), 0);
	check_stored(&fx, LARGE, key);
	s3c_object_close(object);
	fx_end(&fx);
}

/* The upload goes, the bytes stay, and the next one has another key. */
static void test_part_fails(void **state)
{
	struct s3c_object *object;
	uint8_t key[32];
	struct fx fx;

	(void)state;
	for (unsigned after = 0; after < 3; after++) {
		object = begin(&fx);
		fill(object, 0, LARGE);
		add_fault(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_LOST, -EACCES, after);
		assert_int_equal(commit(object), -EACCES);
		s3c_store_fault_clear(fx.store);
		assert_false(hand_exists(&fx, "f"));
		assert_int_equal(commit(object), 0);
		check_stored(&fx, LARGE, key);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

/* Done, and nobody was told: one look tells. */
static void test_lost_replies(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		size_t size;
		const char *requests;
	} cases[] = {
		{ S3C_STORE_PUT, SMALL, "GET 1 PUT 1" },
		{ S3C_STORE_UPLOAD_COMPLETE, LARGE, "GET 1 CREATE 1 PART 3 COMPLETE 2" },
	};
	struct s3c_object *object;
	uint8_t key[32];
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		object = begin(&fx);
		fill(object, 0, cases[i].size);
		add_fault(&fx, cases[i].op, S3C_FAULT_LOST, -ECONNRESET, 0);
		assert_int_equal(commit(object), 0);
		assert_requests(&fx, cases[i].requests);
		check_stored(&fx, cases[i].size, key);
		check_read(&fx, object, 0, 1000);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

/* The store forgot the upload: another one is made. */
static void test_upload_is_gone(void **state)
{
	struct s3c_object *object;
	uint8_t key[32];
	struct fx fx;

	(void)state;
	object = begin(&fx);
	fill(object, 0, LARGE);
	add_fault(&fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_FAIL, -ENXIO, 0);
	assert_int_equal(commit(object), 0);
	check_stored(&fx, LARGE, key);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Somebody else's file is there: ours is kept beside it. */
static void test_conflict(void **state)
{
	static const size_t sizes[] = { SMALL, LARGE };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		object = begin(&fx);
		fill(object, 0, sizes[i]);
		assert_int_equal(commit(object), 0);
		hand_seal(&fx, "f", S_IFREG | 0644, "theirs", 6);
		fill(object, 1, 1);
		assert_int_equal(commit(object), -ESTALE);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

static int chmod_f(struct fx *fx, mode_t mode)
{
	const struct s3c_attrs attrs = { .mode = mode };
	struct s3c_info info;
	struct s3c_op op;
	int r;

	s3c_op_init(&op, s3c_deadline_after(20));
	r = s3c_engine_setattr(fx->engine, &op, "f", NULL, S3C_SET_MODE, &attrs, &info);
	s3c_op_destroy(&op);
	return r;
}

/* Other attributes where the store honours no conditions: by parts, of which the store has the
 * bytes. */
static void test_copied_by_parts(void **state)
{
	static const struct fx_options no_caps = { .format = S3C_FORMAT_S3EC_V2, .no_caps = true };
	static const size_t sizes[] = { SMALL, LARGE };
	struct s3c_object *object;
	uint8_t key[32];
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		object = begin_with(&fx, &no_caps);
		fill(object, 0, sizes[i]);
		assert_int_equal(commit(object), 0);
		s3c_object_close(object);
		fx_requests(&fx);
		assert_int_equal(chmod_f(&fx, 0640), 0);
		assert_requests(&fx, "HEAD 1 CREATE 1 PARTCOPY 1 COMPLETE 1");
		check_stored(&fx, sizes[i], key);
		fx_end(&fx);
	}
}

static void test_limit(void **state)
{
	struct s3c_object *object;
	struct s3c_op op;
	struct fx fx;

	(void)state;
	object = begin(&fx);
	s3c_op_init(&op, s3c_deadline_after(20));
	assert_int_equal(s3c_object_truncate(object, &op, S3C_S3EC_SIZE_MAX + 1), -EFBIG);
	assert_int_equal(s3c_object_write(object, &op, S3C_S3EC_SIZE_MAX, plain, 1, false), -EFBIG);
	s3c_op_destroy(&op);
	assert_int_equal(commit(object), 0);
	s3c_object_close(object);
	fx_end(&fx);
}

static int make_plain(void **state)
{
	(void)state;
	plain = malloc(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		plain[i] = (uint8_t)(i * 2654435761u >> 13);
	return fixture_setup(state);
}

static int free_plain(void **state)
{
	(void)state;
	free(plain);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),          cmocka_unit_test(test_large),
		cmocka_unit_test(test_part_fails),     cmocka_unit_test(test_lost_replies),
		cmocka_unit_test(test_upload_is_gone), cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_limit),          cmocka_unit_test(test_copied_by_parts),
	};

	return cmocka_run_group_tests(tests, make_plain, free_plain);
}
