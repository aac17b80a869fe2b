/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Second names of files in daemons that die: whatever request was the last, each name that was
 * acknowledged is there with its content afterwards, and both are names of one file.
 */
#include "links_fixture.h"

#include <errno.h>

#define STEPS 6u

/* The request that fails, or whose answer is lost, as does everything after it. */
static struct {
	unsigned after;
	enum s3c_fault_kind kind;
	bool unlink;
} how;

static void break_store(struct fx *fx)
{
	static const enum s3c_store_opcode ops[] = { S3C_STORE_PUT, S3C_STORE_COPY,
						     S3C_STORE_DELETE };
	unsigned left = how.after;

	/* Rules count for themselves: the copy is the first of a link, the PUTs follow. */
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		struct s3c_fault_rule rule = {
			.op = ops[i],
			.kind = how.kind,
			.result = -ETIMEDOUT,
			.after = left,
		};

		assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
	}
}

static void broken_link(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_pair(fx);
	break_store(fx);
	s3c_links_settle(fx->engine, NULL, "");
}

static void broken_unlink(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_pair(fx);
	break_store(fx);
	s3c_engine_unlink(fx->engine, NULL, "a");
}

static void next_daemon(struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct s3c_info info;
	struct fx fx;
	int r;

	begin(&fx, o);
	path_equal(&fx, "b", data, LEN);
	r = s3c_engine_lookup(fx.engine, NULL, "a", &info);
	if (how.unlink && r == -ENOENT) {
		info_of(&fx, "b", &info);
		assert_false(info.linked);
	} else {
		one_file(&fx, data);
	}
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	if (r == 0) {
		struct s3c_header header;

		one_file(&fx, data);
		hand_open(&fx, "a", &header, NULL, 0);
		assert_int_equal(header.layout, S3C_LAYOUT_REFERENCE);
		hand_open(&fx, "b", &header, NULL, 0);
		assert_int_equal(header.layout, S3C_LAYOUT_REFERENCE);
	}
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void all_steps(bool writeback, bool unlink)
{
	static const enum s3c_fault_kind kinds[] = { S3C_FAULT_FAIL, S3C_FAULT_LOST };

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		for (unsigned after = 0; after < STEPS; after++) {
			struct fx_options o = {
				.durable = true,
				.writeback = writeback,
				.timeout_s = 1,
				.ttl_s = i ? -1 : 0,
			};
			char dir[64];

			how.after = after;
			how.kind = kinds[i];
			how.unlink = unlink;
			fresh_dir(&o, dir);
			killed(unlink ? broken_unlink : broken_link, &o);
			next_daemon(&o);
		}
	}
}

static void test_link(void **state)
{
	(void)state;
	all_steps(false, false);
	all_steps(true, false);
}

static void test_unlink(void **state)
{
	(void)state;
	all_steps(false, true);
	all_steps(true, true);
}

/* The PUT of a key that fails for ever, as does every DELETE: nothing is tidied up by who dies. */
static struct {
	const char *key;
	unsigned after;
} last;

static struct s3c_store *failing(struct s3c_store *inner)
{
	struct s3c_fault_rule put = {
		.op = S3C_STORE_PUT,
		.key_substring = last.key,
		.result = -ETIMEDOUT,
		.after = last.after,
	};
	struct s3c_fault_rule delete = { .op = S3C_STORE_DELETE, .result = -ETIMEDOUT };
	struct s3c_store *store;

	assert_int_equal(s3c_store_fault_new(inner, &store), 0);
	assert_int_equal(s3c_store_fault_add(store, &put), 0);
	assert_int_equal(s3c_store_fault_add(store, &delete), 0);
	return store;
}

static void link_until(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_pair(fx);
	assert_int_equal(s3c_links_settle(fx->engine, NULL, ""), -ETIMEDOUT);
}

static void again_until(struct fx *fx, struct fx_options *o)
{
	(void)o;
	assert_int_equal(s3c_links_settle(fx->engine, NULL, ""), -ETIMEDOUT);
}

/* The body of a reference that stands in the store. */
static void body_of(struct fx *fx, const char *key, uint8_t ret_id[static S3C_FILE_ID_LEN])
{
	struct s3c_header header;

	hand_open(fx, key, &header, NULL, 0);
	assert_int_equal(header.layout, S3C_LAYOUT_REFERENCE);
	memcpy(ret_id, header.file_id, S3C_FILE_ID_LEN);
}

static void third_daemon(struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);
	uint8_t before[S3C_FILE_ID_LEN], a[S3C_FILE_ID_LEN], b[S3C_FILE_ID_LEN];
	struct fx fx;

	begin(&fx, o);
	body_of(&fx, "p/b", before);
	one_file(&fx, data);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	one_file(&fx, data);
	body_of(&fx, "p/a", a);
	body_of(&fx, "p/b", b);
	assert_memory_equal(a, b, sizeof(a));
	assert_memory_equal(b, before, sizeof(b));
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/*
 * Two daemons, one after the other, die with the reference of the second name stored, and that of
 * the first one not. The first of them, or the second, is the one that has stored it: what it leads
 * to stays the body, whoever goes on.
 */
static void test_twice(void **state)
{
	static const char *const first_fails_at[] = { "p/a", "p/b" };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LEN(first_fails_at); i++) {
		struct fx_options o = {
			.prefix = "p/",
			.durable = true,
			.writeback = i % 2,
			.wrap = failing,
		};
		char dir[64];

		fresh_dir(&o, dir);
		last.key = first_fails_at[i / 2];
		/* The file itself is the first that comes under its name. */
		last.after = strcmp(last.key, "p/a") == 0;
		killed(link_until, &o);
		last.key = "p/a";
		last.after = 0;
		killed(again_until, &o);
		o.wrap = NULL;
		third_daemon(&o);
	}
}

static void fail_put(struct fx *fx)
{
	struct s3c_fault_rule rule = {
		.op = S3C_STORE_PUT, .kind = S3C_FAULT_FAIL, .result = -ENOSPC, .times = 1
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

/* Tried again it goes on with the body that is there, unless the file has changed since. */
static void test_body_again(void **state)
{
	static const uint8_t id[S3C_FILE_ID_LEN] = "an id of a body";
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_attrs attrs = { .known = true, .mode = 0600 };
	struct s3c_object *object;
	struct s3c_info info;

	(void)state;
	for (unsigned change = 0; change < 3; change++) {
		cleanup_free uint8_t *data = pattern(LEN, 1);
		struct fx fx;

		begin(&fx, &o);
		create_close(&fx, "a", LEN, 1);
		assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "a", &info), 0);
		fail_put(&fx);
		assert_int_equal(s3c_links_store(fx.engine, NULL, "a", "b", id, S3C_LINKING_AGAIN),
				 -ENOSPC);
		s3c_store_fault_clear(fx.store);
		if (change == 1) {
			assert_int_equal(s3c_engine_setattr(fx.engine, NULL, "a", NULL,
							    S3C_SET_MODE, &attrs, &info),
					 0);
		} else if (change == 2) {
			memcpy(data, "other", 5);
			assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
			assert_int_equal(s3c_object_write(object, NULL, 0, data, 5, false), 0);
			assert_int_equal(s3c_object_commit(object, NULL), 0);
			s3c_object_close(object);
		}
		fx_requests(&fx);
		assert_int_equal(s3c_links_store(fx.engine, NULL, "a", "b", id, S3C_LINKING_AGAIN),
				 0);
		assert_true(!strstr(fx_requests(&fx), "COPY") == !change);
		one_file(&fx, data);
		info_of(&fx, "b", &info);
		assert_int_equal(info.mode & 07777, change == 1 ? 0600 : 0644);
		fx_end(&fx);
	}
}

/* A link to a stored file that fails leaves nothing of it. */
static void test_stored(void **state)
{
	static const enum s3c_store_opcode ops[] = { S3C_STORE_COPY, S3C_STORE_PUT };
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_info info;
	uint8_t id[16];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	create_close(&fx, "a", LEN, 1);
	for (unsigned step = 0; step < 3; step++) {
		struct s3c_fault_rule rule = {
			.op = ops[step > 0],
			.kind = S3C_FAULT_FAIL,
			.result = -ENOSPC,
			.after = step > 1,
			.times = 1,
		};

		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), -ENOSPC);
		s3c_store_fault_clear(fx.store);
		path_equal(&fx, "a", data, LEN);
		info_of(&fx, "a", &info);
		assert_false(info.linked);
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "b", &info), -ENOENT);
	}
	assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), 0);
	one_file(&fx, data);
	/* The two names are one file: nothing is to be done. */
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "a", "b", false), 0);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "a", "b", true), -EEXIST);
	one_file(&fx, data);
	assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), -EEXIST);
	assert_int_equal(s3c_engine_link(fx.engine, NULL, "missing", "c", id), -ENOENT);
	fx_end(&fx);
}

/* The record of the file is gone from the disk before something else stands under its name: found
   again after a crash it would take the reference for another machine's. */
static void test_record_goes_first(void **state)
{
	struct fx_options o = { .writeback = true };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_pair(&fx);
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
	s3c_mutex_lock(&fx.engine->lock);
	assert_true(fx.engine->objects->drops > 0);
	assert_int_equal(fx.engine->objects->drops_synced, fx.engine->objects->drops);
	s3c_mutex_unlock(&fx.engine->lock);
	fx_end(&fx);
}

/* Nobody knows whether a reference came to be, or will: the body that it refers to stays. */
static void test_unsure(void **state)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	const struct s3c_fault_rule blind = { .op = S3C_STORE_HEAD,
					      .kind = S3C_FAULT_FAIL,
					      .result = -ECONNRESET };
	struct s3c_info a, b;
	uint8_t id[16];

	(void)state;
	for (unsigned step = 0; step < 2; step++) {
		const struct s3c_fault_rule rule = {
			.op = S3C_STORE_PUT,
			.kind = S3C_FAULT_LOST,
			.result = -ECONNRESET,
			.after = step,
			.times = 1,
		};
		struct fx fx;

		begin(&fx, &o);
		create_close(&fx, "a", LEN, 1);
		info_of(&fx, "a", &a);
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &blind), 0);
		assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), -EIO);
		s3c_store_fault_clear(fx.store);
		path_equal(&fx, "a", data, LEN);
		info_of(&fx, "a", &a);
		assert_int_equal(a.linked, step);
		if (step) {
			assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "b", &b), -ENOENT);
		} else {
			path_equal(&fx, "b", data, LEN);
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "b"), 0);
		}
		assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), 0);
		path_equal(&fx, "a", data, LEN);
		path_equal(&fx, "b", data, LEN);
		/* Of one with several names: the count is not taken back. */
		assert_int_equal(s3c_store_fault_add(
					 fx.store, &(struct s3c_fault_rule){ .op = S3C_STORE_PUT,
									     .kind = S3C_FAULT_LOST,
									     .result = -ECONNRESET,
									     .times = 1 }),
				 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &blind), 0);
		info_of(&fx, "b", &b);
		assert_int_equal(s3c_engine_link(fx.engine, NULL, "b", "c", id), -EIO);
		s3c_store_fault_clear(fx.store);
		path_equal(&fx, "c", data, LEN);
		info_of(&fx, "c", &a);
		assert_int_equal(a.nlink, b.nlink + 1);
		fx_end(&fx);
	}
}

/* What takes the place of one of several names reads in order before it is stored: the reference
   that it is to replace has no key to open it with. */
static void test_replaced(void **state)
{
	enum { CHUNKS = 8 };
	const size_t len = CHUNKS * (size_t)S3C_CHUNK_SIZE;
	cleanup_free uint8_t *data = pattern(len, 2);
	struct fx_options o = { .writeback = true };
	struct s3c_readahead ahead = { 0 };
	struct s3c_object *object;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_pair(&fx);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	create_close(&fx, "new", len, 2);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "new", "a", false), 0);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
	for (size_t chunk = 0; chunk < CHUNKS; chunk++) {
		struct s3c_pages pages;

		assert_int_equal(s3c_object_read(object, NULL, chunk * S3C_CHUNK_SIZE,
						 S3C_CHUNK_SIZE, &ahead, &pages),
				 0);
		s3c_pages_release(fx.engine, &pages);
	}
	s3c_object_close(object);
	path_equal(&fx, "a", data, len);
	info_of(&fx, "b", &info);
	assert_int_equal(info.nlink, 1);
	fx_end(&fx);
}

/* A request that was asked for again is refused for its own first time, and nobody can look: the
   name that was acknowledged stays. */
static void test_refused_by_itself(void **state)
{
	static const struct s3c_fault_rule rules[] = {
		{ .op = S3C_STORE_COPY, .key_substring = "links/" },
		{ .op = S3C_STORE_PUT, .key_substring = "b" },
	};
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct fx_options o = { .writeback = true };
	struct fx fx;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		struct s3c_fault_rule rule = rules[i], blind = rules[i];

		begin(&fx, &o);
		make_pair(&fx);
		rule.kind = S3C_FAULT_LOST;
		rule.result = -EEXIST;
		rule.times = 1;
		blind.op = S3C_STORE_HEAD;
		blind.kind = S3C_FAULT_FAIL;
		blind.result = -ETIMEDOUT;
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &blind), 0);
		assert_true(s3c_links_settle(fx.engine, NULL, "") < 0);
		s3c_store_fault_clear(fx.store);
		one_file(&fx, data);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_false(s3c_links_any(fx.engine, ""));
		one_file(&fx, data);
		fx_end(&fx);
	}
}

/* The last step came to be and had no reply. What the next attempt finds done is as good as what it
   does: the second name is asked for in the store when what is known of it has grown old. */
static void test_found_done(void **state)
{
	static const struct s3c_fault_rule down = { .op = S3C_STORE_COPY,
						    .kind = S3C_FAULT_FAIL,
						    .result = -EAGAIN };
	static const struct s3c_fault_rule lost = { .op = S3C_STORE_PUT,
						    .kind = S3C_FAULT_LOST,
						    .result = -ETIMEDOUT,
						    .after = 1,
						    .times = 1 };
	static const struct s3c_fault_rule blind = {
		.op = S3C_STORE_HEAD, .kind = S3C_FAULT_FAIL, .result = -ETIMEDOUT, .after = 1
	};
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct fx_options o = { .durable = true, .ttl_s = -1 };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_pair(&fx);
	/* What of it is in the store is not known any more: the next attempts look. */
	assert_int_equal(s3c_store_fault_add(fx.store, &down), 0);
	assert_true(s3c_engine_unlink(fx.engine, NULL, "a") < 0);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_store_fault_add(fx.store, &lost), 0);
	assert_int_equal(s3c_store_fault_add(fx.store, &blind), 0);
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), -ETIMEDOUT);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
	one_file(&fx, data);
	fx_end(&fx);
}

/* A DELETE that had no reply would take away what the next attempt makes or finds. */
static void test_nothing_is_taken_back(void **state)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct fx_options o = { .durable = true };

	(void)state;
	for (unsigned step = 0; step < 2; step++) {
		const struct s3c_fault_rule rule = { .op = S3C_STORE_PUT,
						     .kind = S3C_FAULT_FAIL,
						     .result = -ENOSPC,
						     .after = step,
						     .times = 1 };
		struct fx fx;

		begin(&fx, &o);
		make_pair(&fx);
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_true(s3c_links_settle(fx.engine, NULL, "") < 0);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
		one_file(&fx, data);
		assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_DELETE), 0);
		fx_end(&fx);
	}
}

/* "a" and "b" are names of one file; a rename of "a" to "c", another file, failed and came to be. */
static void rename_late(struct fx *fx, struct fx_options *o)
{
	static const struct s3c_fault_rule rules[] = {
		{ .op = S3C_STORE_COPY, .kind = S3C_FAULT_LOST, .times = 1 },
		{ .op = S3C_STORE_PUT, .kind = S3C_FAULT_LOST, .times = 1 },
		{ .op = S3C_STORE_HEAD, .kind = S3C_FAULT_FAIL },
		{ .op = S3C_STORE_GET, .kind = S3C_FAULT_FAIL },
	};
	uint8_t id[16];

	begin(fx, o);
	create_close(fx, "a", LEN, 1);
	create_close(fx, "c", LEN, 2);
	assert_int_equal(s3c_engine_link(fx->engine, NULL, "a", "b", id), 0);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		struct s3c_fault_rule rule = rules[i];

		rule.key_substring = "c";
		rule.result = -ETIMEDOUT;
		assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
	}
	assert_int_equal(s3c_engine_rename(fx->engine, NULL, "a", "c", false), -ETIMEDOUT);
	s3c_store_fault_clear(fx->store);
	assert_true(hand_exists(fx, "a"));
}

static void one_file_at_c(struct fx *fx)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct s3c_info b, c, none;

	info_of(fx, "b", &b);
	info_of(fx, "c", &c);
	assert_memory_equal(b.body, c.body, sizeof(b.body));
	assert_int_equal(b.nlink, 2);
	path_equal(fx, "b", data, LEN);
	path_equal(fx, "c", data, LEN);
	assert_int_equal(s3c_engine_revalidate(fx->engine, NULL, "a", &none), -ENOENT);
	assert_false(hand_exists(fx, "a"));
}

/* It is finished when it is asked for again, or the new name is looked at. */
static void test_late_rename(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_info info;
	struct fx fx;

	(void)state;
	for (int noreplace = 0; noreplace < 2; noreplace++) {
		rename_late(&fx, &o);
		assert_int_equal(s3c_engine_rename(fx.engine, NULL, "a", "c", noreplace), 0);
		one_file_at_c(&fx);
		fx_end(&fx);
	}
	rename_late(&fx, &o);
	assert_int_equal(s3c_engine_lookup(fx.engine, S3C_NOWAIT, "c", &info), -EINPROGRESS);
	info_of(&fx, "c", &info);
	one_file_at_c(&fx);
	fx_end(&fx);
}

/* What has the old name by then is another file, and keeps it; what cannot be finished is no error
   of who looks. */
static void test_late_rename_over(void **state)
{
	cleanup_free uint8_t *data = pattern(LEN, 3);
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_info info;
	struct fx fx;

	(void)state;
	rename_late(&fx, &o);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), 0);
	create_close(&fx, "a", LEN, 3);
	info_of(&fx, "c", &info);
	info_of(&fx, "c", &info);
	path_equal(&fx, "a", data, LEN);
	assert_int_equal(s3c_engine_lookup(fx.engine, S3C_NOWAIT, "c", &info), 0);
	fx_end(&fx);

	rename_late(&fx, &o);
	fault(&fx, S3C_STORE_DELETE, S3C_FAULT_FAIL, -EACCES);
	info_of(&fx, "c", &info);
	assert_true(hand_exists(&fx, "a"));
	/* It is not asked for with each look. */
	fx_requests(&fx);
	info_of(&fx, "c", &info);
	assert_string_equal(fx_requests(&fx), "");
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link),
		cmocka_unit_test(test_unlink),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_body_again),
		cmocka_unit_test(test_stored),
		cmocka_unit_test(test_unsure),
		cmocka_unit_test(test_record_goes_first),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_refused_by_itself),
		cmocka_unit_test(test_found_done),
		cmocka_unit_test(test_nothing_is_taken_back),
		cmocka_unit_test(test_late_rename),
		cmocka_unit_test(test_late_rename_over),
	};

	assert_int_equal(s3c_secret_init(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
