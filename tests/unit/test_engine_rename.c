/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine_fixture.h"

#include <stdatomic.h>

#include "engine/names.h"

static void test_rename_file(void **state)
{
	struct s3c_info info;
	struct s3c_header before, after;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "hello");
	hand_file(&fx, "p/b", "old");
	list(&fx, "");
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_int_equal(look(&fx, "b", NULL), 0);
	hand_open(&fx, "p/a", &before, NULL, 0);
	fx_requests(&fx);
	assert_int_equal(move(&fx, "a", "c"), 0);
	assert_requests(&fx, "COPY 1 DELETE 1");
	assert_content(&fx, "p/c", "hello");
	hand_open(&fx, "p/c", &after, NULL, 0);
	assert_memory_equal(before.file_id, after.file_id, sizeof(after.file_id));
	assert_memory_equal(before.content_id, after.content_id, sizeof(after.content_id));
	assert_true(after.generation > before.generation);
	assert_int_equal(after.attrs.mtime_ns, 1000);
	assert_true(after.attrs.ctime_ns > before.attrs.ctime_ns);
	assert_string_equal(list(&fx, ""), "b c");
	assert_int_equal(look(&fx, "a", NULL), -ENOENT);
	assert_int_equal(look(&fx, "c", NULL), 0);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "c", "b", true), -EEXIST);
	assert_requests(&fx, "");
	assert_int_equal(move(&fx, "c", "b"), 0);
	assert_requests(&fx, "COPY 1 DELETE 1");
	assert_content(&fx, "p/b", "hello");
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "b", "d", true), 0);
	assert_requests(&fx, "COPY 1 DELETE 1");
	assert_int_equal(move(&fx, "d", "d"), 0);
	assert_int_equal(move(&fx, "missing", "e"), -ENOENT);
	assert_requests(&fx, "");
	/* A target that another machine made meanwhile is not taken for our own copy. */
	hand_file(&fx, "p/new", "theirs");
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "d", "new", true), -EEXIST);
	assert_content(&fx, "p/new", "theirs");
	assert_content(&fx, "p/d", "hello");
	hand_delete(&fx, "p/new");
	/* An empty file has no bytes to copy, and goes the same way. */
	hand_seal(&fx, "p/empty", S_IFREG | 0600, "", 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(move(&fx, "empty", "empty2"), 0);
	assert_content(&fx, "p/empty2", "");
	assert_false(hand_exists(&fx, "p/empty"));
	fx_end(&fx);
}

static void test_rename_rules(void **state)
{
	static const struct {
		const char *from, *to;
		int result;
	} cases[] = {
		{ "file", "dir", -EISDIR },
		{ "dir", "file", -ENOTDIR },
		{ "full", "empty", 0 },
		{ "dir", "full2", -ENOTEMPTY },
		{ "full2", "full2/sub", -EINVAL },
		{ "full2", "full2/sub/x", -EINVAL },
		{ "full2/sub", "full2", -ENOTEMPTY },
		{ "", "x", -EBUSY },
		{ "x", "", -EBUSY },
		{ "file", "implicit", -EISDIR },
		{ "dir", "implicit", -ENOTEMPTY },
		{ "implicit", "dir", 0 },
		{ "file", "file2", 0 },
		{ "full2/sub", "full2/sub2", 0 },
	};
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/file", "x");
	hand_seal(&fx, "p/dir/", S_IFDIR | 0711, NULL, -1);
	hand_seal(&fx, "p/empty/", S_IFDIR | 0711, NULL, -1);
	hand_seal(&fx, "p/full/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/full/x", "x");
	hand_seal(&fx, "p/full2/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/full2/sub/x", "x");
	hand_file(&fx, "p/implicit/x", "in");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = move(&fx, cases[i].from, cases[i].to);

		if (r != cases[i].result)
			fail_msg("%s -> %s: %d", cases[i].from, cases[i].to, r);
	}
	assert_string_equal(list(&fx, ""), "dir/ empty/ file2 full2/");
	assert_string_equal(list(&fx, "dir"), "x");
	assert_content(&fx, "p/dir/x", "in");
	assert_content(&fx, "p/empty/x", "x");
	s3c_names_invalidate(fx.engine, "", true);
	assert_string_equal(list(&fx, ""), "dir/ empty/ file2 full2/");
	assert_string_equal(list(&fx, "full2"), "sub2/");
	fx_end(&fx);
}

static void test_rename_dir(void **state)
{
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx;
	char path[64];

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
	hand_seal(&fx, "p/d/sub/", S_IFDIR | 0712, NULL, -1);
	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "p/d/sub/f%02d", i);
		hand_file(&fx, path, "hello");
	}
	hand_seal(&fx, "p/d/empty", S_IFREG | 0600, "", 0);
	list(&fx, "");
	list(&fx, "d");
	list(&fx, "d/sub");
	assert_int_equal(look(&fx, "d", NULL), 0);
	assert_int_equal(look(&fx, "d/sub", NULL), 0);
	assert_int_equal(look(&fx, "d/empty", NULL), 0);
	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "d/sub/f%02d", i);
		assert_int_equal(look(&fx, path, NULL), 0);
	}
	fx_requests(&fx);
	/* Warm: two an object, markers are written anew, deletes go in one batch. */
	assert_int_equal(move(&fx, "d", "e"), 0);
	assert_requests(&fx, "PUT 2 LIST 3 COPY 41 MANY 1");
	assert_string_equal(list(&fx, ""), "e/");
	assert_string_equal(list(&fx, "e"), "empty sub/");
	fx_requests(&fx);
	assert_int_equal(look(&fx, "e", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0711);
	assert_int_equal(look(&fx, "e/sub/f07", &info), 0);
	assert_int_equal(info.size, 5);
	assert_int_equal(look(&fx, "d", NULL), -ENOENT);
	assert_int_equal(look(&fx, "d/sub/f07", NULL), -ENOENT);
	assert_requests(&fx, "GET 1 LIST 1");
	hand_open(&fx, "p/e/sub/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0712);
	assert_content(&fx, "p/e/sub/f39", "hello");
	assert_false(hand_exists(&fx, "p/d/sub/f39"));
	/* Cold: a look at each besides. */
	s3c_names_invalidate(fx.engine, "", true);
	list(&fx, "");
	assert_int_equal(look(&fx, "e", NULL), 0);
	fx_requests(&fx);
	assert_int_equal(move(&fx, "e", "f"), 0);
	assert_requests(&fx, "HEAD 42 PUT 2 LIST 3 COPY 41 MANY 1");
	assert_content(&fx, "p/f/sub/f39", "hello");
	/* Over an empty directory, whose marker is replaced. */
	hand_seal(&fx, "p/g/", S_IFDIR | 0700, NULL, -1);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(move(&fx, "f", "g"), 0);
	hand_open(&fx, "p/g/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0711);
	fx_end(&fx);
}

static void test_rename_dir_fails(void **state)
{
	struct fx_options options = { .prefix = "p/" };
	struct s3c_fault_rule rule = { .op = S3C_STORE_COPY,
				       .key_substring = "f5",
				       .kind = S3C_FAULT_FAIL,
				       .result = -EACCES };
	char deep[1100] = "p/d/", path[64];
	struct fx fx;

	(void)state;
	fx_new(&fx, &options);
	hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "p/d/f%d", i);
		hand_file(&fx, path, "hello");
	}
	/* Nothing was deleted, and the copies are taken back. */
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(move(&fx, "d", "e"), -EACCES);
	s3c_store_fault_clear(fx.store);
	assert_string_equal(list(&fx, ""), "d/");
	assert_string_equal(list(&fx, "d"), "f0 f1 f2 f3 f4 f5 f6 f7");
	assert_int_equal(look(&fx, "e", NULL), -ENOENT);
	/* An object that this volume did not seal cannot be sealed for another name. */
	hand_put(&fx, "p/d/alien", NULL, "x", 1);
	assert_int_equal(move(&fx, "d", "e"), -EIO);
	hand_delete(&fx, "p/d/alien");
	/* Deleting stops half-way: all is somewhere, and the next try ends it. */
	rule = (struct s3c_fault_rule){
		.op = S3C_STORE_DELETE_MANY, .kind = S3C_FAULT_FAIL, .result = -EACCES, .times = 1
	};
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(move(&fx, "d", "e"), -EACCES);
	assert_content(&fx, "p/e/f3", "hello");
	assert_content(&fx, "p/d/f3", "hello");
	assert_string_equal(list(&fx, ""), "d/ e/");
	/* The longest key must fit before anything is touched. */
	for (int i = 0; i < 5; i++) {
		memset(deep + strlen(deep), 'n', 200);
		strcat(deep, "/");
	}
	strcat(deep, "last");
	hand_file(&fx, deep, "deep");
	fx_requests(&fx);
	assert_int_equal(move(&fx, "d", "name-that-is-longer"), -ENAMETOOLONG);
	assert_false(hand_exists(&fx, "p/name-that-is-longer/f0"));
	assert_int_equal(move(&fx, "d", "s"), 0);
	memcpy(deep, "p/s/", 4);
	assert_content(&fx, deep, "deep");
	fx_end(&fx);
}

/* What another machine has written at the new place since it was looked at is not replaced. */
static void test_rename_dir_taken(void **state)
{
	char path[64];
	struct fx fx;

	(void)state;
	for (int caps = 0; caps < 2; caps++) {
		struct fx_options options = { .prefix = "p/", .no_caps = !caps };

		fx_new(&fx, &options);
		hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
		for (int i = 0; i < 8; i++) {
			snprintf(path, sizeof(path), "p/d/f%d", i);
			hand_file(&fx, path, "hello");
		}
		hand_file(&fx, "p/d/sub/x", "hello");
		hand_file(&fx, "p/a", "x");
		assert_string_equal(list(&fx, ""), "a d/");
		assert_int_equal(look(&fx, "e", NULL), -ENOENT);
		hand_file(&fx, "p/e/f3", "theirs");
		assert_int_equal(move(&fx, "d", "e"), -ENOTEMPTY);
		assert_content(&fx, "p/e/f3", "theirs");
		assert_content(&fx, "p/d/f3", "hello");
		assert_content(&fx, "p/d/f7", "hello");
		assert_false(hand_exists(&fx, "p/e/f0"));
		assert_false(hand_exists(&fx, "p/e/sub/x"));
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, "e"), "f3");
		/* Free, the look costs one LIST for all, where no condition can tell. */
		list(&fx, "");
		assert_int_equal(look(&fx, "d", NULL), 0);
		fx_requests(&fx);
		assert_int_equal(move(&fx, "d", "g"), 0);
		assert_requests(&fx, caps ? "HEAD 9 PUT 1 LIST 3 COPY 9 MANY 1"
					  : "GET 9 PUT 1 LIST 4 MANY 1 CREATE 9 PART 9 COMPLETE 9");
		assert_content(&fx, "p/g/f3", "hello");
		assert_content(&fx, "p/g/sub/x", "hello");
		fx_end(&fx);
	}
}

/* A file of two segments: its size and mtime stand in the trailer. */
static void test_large(void **state)
{
	static const struct s3c_attrs attrs = { .mtime_ns = 13 };
	size_t len = S3C_SEGMENT_SIZE + 100000;
	cleanup_free char *data = calloc(1, len);
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_seal(&fx, "p/big", S_IFREG | 0600, data, (ssize_t)len);
	list(&fx, "");
	fx_requests(&fx);
	assert_int_equal(look(&fx, "big", &info), 0);
	assert_requests(&fx, "GET 1");
	assert_int_equal(info.size, len);
	assert_int_equal(info.mtime_ns, 5000);
	/* The same content needs no second look at the trailer. */
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "big", &info), 0);
	assert_requests(&fx, "HEAD 1");
	assert_int_equal(info.size, len);
	assert_int_equal(move(&fx, "big", "big2"), 0);
	assert_requests(&fx, "COPY 1 DELETE 1");
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "big2", &info), 0);
	assert_int_equal(info.mtime_ns, 5000);
	set(&fx, "big2", S3C_SET_MTIME, &attrs, 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "big2", &info), 0);
	assert_int_equal(info.mtime_ns, 13);
	assert_int_equal(info.size, len);
	hand_open(&fx, "p/big2", &header, NULL, 0);
	assert_true(header.attrs_final);
	/* Cold directory rename: the footer is not read, its mtime stays. */
	hand_seal(&fx, "p/d/big", S_IFREG | 0600, data, (ssize_t)len);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(move(&fx, "d", "e"), 0);
	assert_int_equal(look(&fx, "e/big", &info), 0);
	assert_int_equal(info.mtime_ns, 5000);
	assert_int_equal(info.size, len);
	fx_end(&fx);
}

/* Stores that cannot copy encrypted objects, or only parts of them. */
static void test_no_copy(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0600 };
	size_t len = 3 * S3C_SEGMENT_SIZE;
	cleanup_free char *data = calloc(1, len);
	struct s3c_fault_rule rule = { .op = S3C_STORE_COPY,
				       .kind = S3C_FAULT_FAIL,
				       .result = -EOPNOTSUPP };
	struct s3c_info info;
	struct fx fx;

	(void)state;
	for (int part_copy = 0; part_copy < 2; part_copy++) {
		fx_new(&fx, &sealed_options);
		fx.store->caps.copy = false;
		fx.store->caps.part_copy = part_copy;
		s3c_store_fault_add(fx.store, &rule);
		hand_file(&fx, "p/a", "hello");
		hand_seal(&fx, "p/empty", S_IFREG | 0600, "", 0);
		hand_seal(&fx, "p/big", S_IFREG | 0600, data, (ssize_t)len);
		list(&fx, "");
		look(&fx, "a", NULL);
		look(&fx, "big", NULL);
		look(&fx, "empty", NULL);
		fx_requests(&fx);
		set(&fx, "a", S3C_SET_MODE, &attrs, 0);
		assert_requests(&fx, "GET 1 PUT 1");
		assert_content(&fx, "p/a", "hello");
		assert_int_equal(move(&fx, "a", "b"), 0);
		assert_requests(&fx, "GET 1 PUT 1 DELETE 1");
		assert_content(&fx, "p/b", "hello");
		assert_int_equal(move(&fx, "empty", "empty2"), 0);
		assert_content(&fx, "p/empty2", "");
		assert_int_equal(move(&fx, "big", "big2"), 0);
		assert_requests(&fx, part_copy ? "DELETE 1 CREATE 1 PARTCOPY 1 COMPLETE 1"
					       : "GET 2 DELETE 1 CREATE 1 PART 2 COMPLETE 1");
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(look(&fx, "big2", &info), 0);
		assert_int_equal(info.size, len);
		/* A store that was thought to copy falls back as well. */
		fx.store->caps.copy = true;
		set(&fx, "b", S3C_SET_MODE, &attrs, 0);
		assert_content(&fx, "p/b", "hello");
		fx_end(&fx);
	}
}

/* The store did it and its answer was lost: our operation id tells. */
static void test_lost_answers(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0600 };
	static const enum s3c_store_opcode ops[] = { S3C_STORE_COPY, S3C_STORE_PUT };
	struct s3c_fault_rule rule = { .kind = S3C_FAULT_LOST, .result = -ECONNRESET, .times = 1 };
	struct fx fx;

	(void)state;
	for (int plain = 0; plain < 2; plain++) {
		const char *prefix = plain ? "" : "p/";
		cleanup_free char *a = s3c_asprintf("%sa", prefix);
		cleanup_free char *b = s3c_asprintf("%sb", prefix);

		fx_new(&fx, plain ? &plain_options : &sealed_options);
		if (plain)
			hand_put(&fx, a, NULL, "hello", 5);
		else
			hand_file(&fx, a, "hello");
		list(&fx, "");
		for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
			rule.op = ops[i];
			assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		}
		set(&fx, "a", S3C_SET_MODE, &attrs, 0);
		assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
		rule.op = S3C_STORE_COPY;
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_engine_rename(fx.engine, NULL, "a", "b", true), 0);
		assert_content(&fx, b, "hello");
		assert_false(hand_exists(&fx, a));
		/* It was not done: nothing has changed. */
		rule.kind = S3C_FAULT_FAIL;
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		rule.kind = S3C_FAULT_LOST;
		assert_int_equal(move(&fx, "b", "c"), -EIO);
		assert_content(&fx, b, "hello");
		assert_false(hand_exists(&fx, plain ? "c" : "p/c"));
		assert_string_equal(list(&fx, ""), "b d/");
		fx_end(&fx);
	}
}

static void hand_foreign(struct fx *fx, const char *key, size_t padding)
{
	cleanup_free char *pad = calloc(1, padding + 1);
	struct s3c_meta meta = { 0 }, props = { 0 };
	struct iovec iov = { (void *)(uintptr_t) "hello", 5 };
	struct s3c_store_reply reply;
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT, .key = key, .body = &iov, .body_count = 1
	};

	rq.meta = &meta;
	rq.props = &props;
	memset(pad, 'p', padding);
	s3c_meta_set(&meta, "author", "somebody");
	if (padding)
		s3c_meta_set(&meta, "padding", pad);
	s3c_meta_set(&props, "content-type", "text/html");
	s3c_meta_set(&props, "cache-control", "max-age=5");
	assert_int_equal(s3c_store_perform(fx->store, &rq, NULL, &reply), 0);
	s3c_store_reply_free(&reply);
	s3c_meta_free(&meta);
	s3c_meta_free(&props);
	fx_requests(fx);
}

static void assert_foreign(struct fx *fx, const char *key, const char *mode, size_t padding)
{
	struct s3c_buf body = { .max = 4096 };
	struct s3c_stat st;
	const char *text;

	hand_get(fx, key, &body, &st);
	assert_int_equal(body.len, 5);
	text = s3c_meta_get(&st.meta, "author");
	assert_string_equal(text ? text : "(none)", "somebody");
	text = s3c_meta_get(&st.meta, "padding");
	assert_int_equal(text ? strlen(text) : 0, padding);
	text = s3c_meta_get(&st.meta, "mode");
	assert_string_equal(text ? text : "(none)", mode);
	text = s3c_meta_get(&st.props, "content-type");
	assert_string_equal(text ? text : "(none)", "text/html");
	text = s3c_meta_get(&st.props, "cache-control");
	assert_string_equal(text ? text : "(none)", "max-age=5");
	s3c_stat_free(&st);
	s3c_buf_free(&body);
}

/* What other programs set on a plain object stays with it, however it is copied. */
static void test_foreign_metadata(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0600 };
	struct fx_options accepting = { .prefix = "p/",
					.accept = S3C_ACCEPT_SEALED | S3C_ACCEPT_PLAIN };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *p = i ? "p/" : "";
		char key[64];

#define KEY(name) (snprintf(key, sizeof(key), "%s%s", p, name), key)
		fx_new(&fx, i ? &accepting : &plain_options);
		hand_foreign(&fx, KEY("d/a"), 0);
		hand_foreign(&fx, KEY("d/full"), 2000);
		set(&fx, "d/a", S3C_SET_MODE, &attrs, 0);
		assert_foreign(&fx, KEY("d/a"), "33152", 0);
		assert_int_equal(move(&fx, "d/a", "d/b"), 0);
		assert_foreign(&fx, KEY("d/b"), "33152", 0);
		/* By a listing alone, and by what is known then; not written to, with an open file.
		 */
		assert_int_equal(move(&fx, "d", "e"), 0);
		assert_foreign(&fx, KEY("e/b"), "33152", 0);
		assert_int_equal(s3c_object_open(fx.engine, NULL, "e/b", &object), 0);
		set(&fx, "e/b", S3C_SET_MODE, &file_attrs, 0);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		assert_foreign(&fx, KEY("e/b"), "33152", 0);
		/* A store that cannot copy. */
		fx.store->caps.copy = false;
		assert_int_equal(move(&fx, "e/b", "b"), 0);
		fx.store->caps.copy = true;
		assert_foreign(&fx, KEY("b"), "33152", 0);
		/* No room for both: theirs stay, and attributes cannot be changed. */
		assert_foreign(&fx, KEY("e/full"), "(none)", 2000);
		set(&fx, "e/full", S3C_SET_MODE, &attrs, -ENOSPC);
		assert_int_equal(move(&fx, "e/full", "full"), 0);
		assert_foreign(&fx, KEY("full"), "(none)", 2000);
		assert_reads(&fx, "full", "hello");
		fx_end(&fx);
	}
}

/* The answer of a DELETE was lost: another look tells, and other versions stay. */
static void test_lost_deletes(void **state)
{
	static const enum s3c_fault_kind kinds[] = { S3C_FAULT_LOST, S3C_FAULT_FAIL };
	struct s3c_fault_rule rule = { .op = S3C_STORE_DELETE, .result = -ECONNRESET, .times = 1 };
	struct fx fx;

	(void)state;
	for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
		rule.op = S3C_STORE_DELETE;
		rule.kind = kinds[kind];
		fx_new(&fx, kind ? &plain_options : &sealed_options);
		list(&fx, "");
		for (const char *const *p = (const char *const[]){ "a", "u", NULL }; *p; p++)
			make_file(&fx, *p, "hello");
		assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
		fx_requests(&fx);
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(move(&fx, "a", "b"), 0);
		assert_requests(&fx, "HEAD 1 COPY 1 DELETE 1");
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "u"), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d"), 0);
		assert_string_equal(list(&fx, ""), "b");
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, ""), "b");
		/* Neither the reply nor a look: the error. */
		rule.times = 0;
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		rule.op = S3C_STORE_HEAD;
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "b"), -EIO);
		s3c_store_fault_clear(fx.store);
		rule.times = 1;
		/* Of a directory with files. */
		s3c_names_invalidate(fx.engine, "", true);
		for (const char *const *p = (const char *const[]){ "e/a", "e/b", NULL }; *p; p++)
			make_file(&fx, *p, "hello");
		rule.op = S3C_STORE_DELETE_MANY;
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(move(&fx, "e", "f"), 0);
		assert_string_equal(list(&fx, "f"), "a b");
		assert_int_equal(look(&fx, "e", NULL), -ENOENT);
		fx_end(&fx);
	}
}

struct changer {
	struct fx *fx;
	const char *key;
};

static void *change_while_stalled(void *arg)
{
	struct changer *changer = arg;

	usleep(200000);
	hand_file(changer->fx, changer->key, "newer");
	s3c_store_fault_release(changer->fx->store);
	return NULL;
}

/* Another machine writes between our look and our DELETE: its version is never taken away unseen.
 */
static void test_others_stay(void **state)
{
	struct s3c_fault_rule stall = { .op = S3C_STORE_DELETE,
					.kind = S3C_FAULT_STALL,
					.times = 1 };
	struct s3c_fault_rule lost = {
		.op = S3C_STORE_DELETE, .kind = S3C_FAULT_FAIL, .result = -ECONNRESET, .times = 1
	};
	struct changer changer;
	pthread_t thread;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	make_file(&fx, "a", "hello");
	/* After the copy: the old name is the other's new file. */
	changer = (struct changer){ &fx, "p/a" };
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	assert_int_equal(s3c_thread_start(&thread, "changer", change_while_stalled, &changer), 0);
	assert_int_equal(move(&fx, "a", "b"), 0);
	pthread_join(thread, NULL);
	assert_content(&fx, "p/b", "hello");
	assert_content(&fx, "p/a", "newer");
	assert_string_equal(list(&fx, ""), "a b");
	assert_reads(&fx, "a", "newer");
	/* A version that was not seen stays. From then on it was. */
	hand_file(&fx, "p/b", "newer");
	fx_requests(&fx);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "b"), -EBUSY);
	assert_true(hand_exists(&fx, "p/b"));
	assert_reads(&fx, "b", "newer");
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "b"), 0);
	assert_false(hand_exists(&fx, "p/b"));
	/* The reply was lost, and another file is there: who knows when it came. */
	hand_file(&fx, "p/a", "again");
	assert_int_equal(s3c_store_fault_add(fx.store, &lost), 0);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), 0);
	assert_content(&fx, "p/a", "again");
	assert_reads(&fx, "a", "again");
	fx_end(&fx);
}

/* A file that was sent, with a reply that was lost: not what stands in its place. */
static void test_sent_or_not(void **state)
{
	struct s3c_fault_rule put = { .op = S3C_STORE_PUT, .result = -ECONNRESET, .times = 1 };
	struct s3c_fault_rule get = {
		.op = S3C_STORE_GET, .kind = S3C_FAULT_FAIL, .result = -ECONNRESET, .times = 1
	};
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int i = 0; i < 4; i++) {
		bool sent = i & 1, unlink = i & 2;

		put.kind = sent ? S3C_FAULT_LOST : S3C_FAULT_FAIL;
		fx_new(&fx, &sealed_options);
		list(&fx, "");
		assert_int_equal(s3c_object_create(fx.engine, NULL, "a", &file_attrs, &object), 0);
		assert_int_equal(s3c_object_write(object, NULL, 0, "x", 1, false), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &put), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &get), 0);
		assert_int_equal(s3c_object_commit(object, NULL), -EIO);
		s3c_store_fault_clear(fx.store);
		assert_int_equal(hand_exists(&fx, "p/a"), sent);
		if (!sent)
			hand_file(&fx, "p/a", "other");
		if (unlink)
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), 0);
		else
			assert_int_equal(move(&fx, "a", "b"), 0);
		if (sent)
			assert_false(hand_exists(&fx, "p/a"));
		else
			assert_content(&fx, "p/a", "other");
		if (!unlink)
			assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		if (!unlink)
			assert_content(&fx, "p/b", "x");
		fx_end(&fx);
	}
}

/* The next version of a file was sent, with a reply that was lost: that is the file, too. */
static void test_unlink_sent(void **state)
{
	struct s3c_fault_rule put = { .op = S3C_STORE_PUT, .result = -ECONNRESET, .times = 1 };
	struct s3c_fault_rule get = {
		.op = S3C_STORE_GET, .kind = S3C_FAULT_FAIL, .result = -ECONNRESET, .times = 1
	};
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct fx_options options = { .prefix = "p/", .no_caps = i & 1 };
		bool sent = i & 2;

		put.kind = sent ? S3C_FAULT_LOST : S3C_FAULT_FAIL;
		fx_new(&fx, &options);
		make_file(&fx, "a", "one");
		assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
		assert_int_equal(s3c_object_write(object, NULL, 0, "two", 3, false), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &put), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &get), 0);
		assert_int_equal(s3c_object_commit(object, NULL), -EIO);
		s3c_store_fault_clear(fx.store);
		if (!sent)
			hand_file(&fx, "p/a", "other");
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), sent ? 0 : -EBUSY);
		assert_int_equal(hand_exists(&fx, "p/a"), !sent);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

/* A store that ignores the conditions of copies, and another machine that writes just then. */
static void test_no_conditions(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0600 };
	struct fx_options options = { .prefix = "p/", .no_caps = true };
	struct s3c_fault_rule stall = { .op = S3C_STORE_UPLOAD_COMPLETE,
					.kind = S3C_FAULT_STALL,
					.times = 1 };
	struct changer changer;
	pthread_t thread;
	struct fx fx;

	(void)state;
	fx_new(&fx, &options);
	hand_file(&fx, "p/a", "hello");
	list(&fx, "");
	look(&fx, "a", NULL);
	fx_requests(&fx);
	/* No request that would do harm when it is made late. */
	set(&fx, "a", S3C_SET_MODE, &attrs, 0);
	assert_requests(&fx, "HEAD 1 CREATE 1 PARTCOPY 1 COMPLETE 1");
	assert_int_equal(move(&fx, "a", "b"), 0);
	assert_requests(&fx, "HEAD 1 DELETE 1 CREATE 1 PART 1 COMPLETE 1");
	assert_content(&fx, "p/b", "hello");
	/* What came after what was copied is renamed instead. */
	changer = (struct changer){ &fx, "p/b" };
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	assert_int_equal(s3c_thread_start(&thread, "changer", change_while_stalled, &changer), 0);
	assert_int_equal(move(&fx, "b", "c"), 0);
	pthread_join(thread, NULL);
	assert_content(&fx, "p/c", "newer");
	assert_false(hand_exists(&fx, "p/b"));
	/* And what came before, since it was looked at. */
	assert_int_equal(look(&fx, "c", NULL), 0);
	hand_file(&fx, "p/c", "newest");
	assert_int_equal(move(&fx, "c", "d"), 0);
	assert_content(&fx, "p/d", "newest");
	assert_false(hand_exists(&fx, "p/c"));
	assert_reads(&fx, "d", "newest");
	fx_end(&fx);
}

/* One of two names, which another machine has made a file of its own since: that moves, and the
   count of names is not about it. */
static void test_name_no_conditions(void **state)
{
	struct fx_options options = { .prefix = "p/", .no_caps = true };
	struct s3c_info info;
	uint8_t id[16];
	struct fx fx;

	(void)state;
	fx_new(&fx, &options);
	make_file(&fx, "a", "hello");
	assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), 0);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_int_equal(info.nlink, 2);
	hand_file(&fx, "p/a", "newer");
	assert_int_equal(move(&fx, "a", "c"), 0);
	assert_content(&fx, "p/c", "newer");
	assert_false(hand_exists(&fx, "p/a"));
	assert_reads(&fx, "b", "hello");
	assert_int_equal(look(&fx, "b", &info), 0);
	assert_int_equal(info.nlink, 2);
	fx_end(&fx);
}

/* The same of what is too large to be sent: the parts are of the version that the header is of. */
static void test_parts_no_conditions(void **state)
{
	struct fx_options options = { .prefix = "p/", .no_caps = true };
	struct s3c_fault_rule stall = {
		.op = S3C_STORE_HEAD, .key_substring = "p/b", .kind = S3C_FAULT_STALL, .times = 1
	};
	cleanup_free char *text = malloc(S3C_COPY_FEW + 2);
	struct s3c_object *object;
	struct changer changer;
	pthread_t thread;
	char got[1000];
	struct fx fx;

	(void)state;
	memset(text, 'x', S3C_COPY_FEW + 1);
	text[S3C_COPY_FEW + 1] = '\0';
	fx_new(&fx, &options);
	make_file(&fx, "a", text);
	list(&fx, "");
	fx_requests(&fx);
	assert_int_equal(move(&fx, "a", "b"), 0);
	assert_requests(&fx, "HEAD 2 DELETE 1 CREATE 1 PARTCOPY 1 COMPLETE 1");
	assert_int_equal(s3c_object_open(fx.engine, NULL, "b", &object), 0);
	read_object(&fx, object, got, sizeof(got));
	s3c_object_close(object);
	assert_memory_equal(got, text, sizeof(got) - 1);
	/* Its bytes were copied before it is another file: that one is what is renamed. */
	changer = (struct changer){ &fx, "p/b" };
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	assert_int_equal(s3c_thread_start(&thread, "changer", change_while_stalled, &changer), 0);
	assert_int_equal(move(&fx, "b", "c"), 0);
	pthread_join(thread, NULL);
	assert_content(&fx, "p/c", "newer");
	assert_false(hand_exists(&fx, "p/b"));
	/* And when it was looked at long before. */
	make_file(&fx, "e", text);
	hand_file(&fx, "p/e", "short");
	assert_int_equal(move(&fx, "e", "g"), 0);
	assert_content(&fx, "p/g", "short");
	assert_false(hand_exists(&fx, "p/e"));
	fx_end(&fx);
}

/* What another machine has written since it was looked at is not replaced, nor given attributes
   with which nobody could read it; neither with conditions nor with looks. */
static void test_others_replaced(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0600 };
	struct fx_options options = { .prefix = "p/" };
	struct s3c_header header;
	struct fx fx;

	(void)state;
	for (int caps = 0; caps < 2; caps++) {
		options.no_caps = !caps;
		fx_new(&fx, &options);
		hand_file(&fx, "p/a", "hello");
		hand_file(&fx, "p/b", "old");
		list(&fx, "");
		assert_int_equal(look(&fx, "a", NULL), 0);
		assert_int_equal(look(&fx, "b", NULL), 0);
		hand_file(&fx, "p/b", "theirs");
		assert_int_equal(move(&fx, "a", "b"), -EBUSY);
		assert_content(&fx, "p/a", "hello");
		assert_content(&fx, "p/b", "theirs");
		/* From then on it was seen. */
		assert_int_equal(look(&fx, "b", NULL), 0);
		fx_requests(&fx);
		assert_int_equal(move(&fx, "a", "b"), 0);
		assert_requests(&fx, caps ? "COPY 1 DELETE 1"
					  : "HEAD 2 DELETE 1 CREATE 1 PART 1 COMPLETE 1");
		assert_content(&fx, "p/b", "hello");
		/* Gone since: nothing is lost. */
		hand_file(&fx, "p/c", "old");
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(look(&fx, "b", NULL), 0);
		assert_int_equal(look(&fx, "c", NULL), 0);
		hand_delete(&fx, "p/c");
		assert_int_equal(move(&fx, "b", "c"), 0);
		assert_content(&fx, "p/c", "hello");
		/* Made since: where a condition tells, but not a moment after a look. */
		list(&fx, "");
		hand_file(&fx, "p/d", "theirs");
		assert_int_equal(move(&fx, "c", "d"), caps ? -EBUSY : 0);
		assert_content(&fx, "p/d", caps ? "theirs" : "hello");
		hand_file(&fx, "p/e", "old");
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(look(&fx, "e", NULL), 0);
		hand_file(&fx, "p/e", "theirs");
		set(&fx, "e", S3C_SET_MODE, &attrs, 0);
		assert_content(&fx, "p/e", "theirs");
		hand_open(&fx, "p/e", &header, NULL, 0);
		assert_int_equal(header.attrs.mode & 07777, 0600);
		fx_end(&fx);
	}
}

static void test_local_names(void **state)
{
	struct s3c_object *object, *other;
	struct s3c_info info;
	struct fx fx;
	char text[64];

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	fx_requests(&fx);
	make_file(&fx, "a", "hello");
	assert_requests(&fx, "PUT 1");
	assert_reads(&fx, "a", "hello");
	assert_requests(&fx, "");
	/* Made and removed: the store never hears of it. */
	assert_int_equal(s3c_object_create(fx.engine, NULL, "t", &file_attrs, &object), 0);
	assert_string_equal(list(&fx, ""), "a t");
	assert_int_equal(look(&fx, "t", &info), 0);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "t", &dir_attrs), -EEXIST);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "t"), 0);
	assert_string_equal(list(&fx, ""), "a");
	assert_int_equal(s3c_object_write(object, NULL, 0, "bytes", 5, false), 0);
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "bytes");
	s3c_object_close(object);
	assert_requests(&fx, "");
	/* Made and renamed at once: one PUT, under the new name. */
	assert_int_equal(s3c_object_create(fx.engine, NULL, "t", &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "new", 3, false), 0);
	assert_int_equal(move(&fx, "t", "u"), 0);
	assert_requests(&fx, "");
	assert_string_equal(list(&fx, ""), "a u");
	assert_int_equal(look(&fx, "t", NULL), -ENOENT);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "PUT 1");
	s3c_object_close(object);
	assert_content(&fx, "p/u", "new");
	/* The same over a file that exists: the commit replaces it. */
	assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &other), 0);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "t", &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "newer", 5, false), 0);
	assert_int_equal(move(&fx, "t", "a"), 0);
	fx_requests(&fx);
	assert_string_equal(list(&fx, ""), "a u");
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "PUT 1");
	s3c_object_close(object);
	assert_content(&fx, "p/a", "newer");
	read_object(&fx, other, text, sizeof(text));
	assert_string_equal(text, "hello");
	s3c_object_close(other);
	assert_reads(&fx, "a", "newer");
	fx_end(&fx);
}

static void test_open_files(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0604 };
	struct s3c_object *object;
	struct s3c_info info;
	struct fx fx;
	char text[64];

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	make_file(&fx, "a", "hello");
	fx_requests(&fx);
	/* Attributes of a changed file go with its commit. */
	assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 5, "!", 1, false), 0);
	assert_int_equal(
		s3c_engine_setattr(fx.engine, NULL, "a", object, S3C_SET_MODE, &attrs, &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0604);
	assert_requests(&fx, "");
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "PUT 1");
	/* Of an unchanged one by a copy; its next commit replaces that copy. */
	set(&fx, "a", S3C_SET_UID, &attrs, 0);
	assert_requests(&fx, "COPY 1");
	assert_int_equal(s3c_object_write(object, NULL, 6, "!", 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "PUT 1");
	assert_content(&fx, "p/a", "hello!!");
	/* It follows a rename, also of its directory. */
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	assert_int_equal(move(&fx, "a", "d/b"), 0);
	assert_int_equal(s3c_object_write(object, NULL, 7, "!", 1, false), 0);
	assert_int_equal(move(&fx, "d", "e"), 0);
	assert_int_equal(s3c_object_write(object, NULL, 8, "!", 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_content(&fx, "p/e/b", "hello!!!!");
	assert_string_equal(list(&fx, ""), "e/");
	assert_string_equal(list(&fx, "e"), "b");
	assert_false(hand_exists(&fx, "p/a"));
	assert_false(hand_exists(&fx, "p/d/b"));
	/* Deleted, it can still be read. */
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "e/b"), 0);
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "hello!!!!");
	assert_int_equal(s3c_object_write(object, NULL, 0, "J", 1, false), 0);
	s3c_object_close(object);
	assert_false(hand_exists(&fx, "p/e/b"));
	fx_end(&fx);
}

static void test_dir_with_local_files(void **state)
{
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "d/x", &file_attrs, &object), 0);
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d"), -ENOTEMPTY);
	assert_int_equal(move(&fx, "d", "e"), 0);
	assert_string_equal(list(&fx, "e"), "x");
	assert_int_equal(s3c_object_write(object, NULL, 0, "x", 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	assert_content(&fx, "p/e/x", "x");
	assert_false(hand_exists(&fx, "p/d/x"));
	fx_end(&fx);
}

static void test_failed_mutations(void **state)
{
	struct s3c_fault_rule rule = {
		.op = S3C_STORE_DELETE, .kind = S3C_FAULT_FAIL, .result = -EACCES, .times = 1
	};
	struct s3c_object *object;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	make_file(&fx, "a", "hello");
	assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
	/* A file that could not be deleted keeps its name, and what is written into it. */
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), -EACCES);
	assert_int_equal(s3c_object_write(object, NULL, 0, "J", 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_content(&fx, "p/a", "Jello");
	/* A rename whose delete fails leaves both. */
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(move(&fx, "a", "b"), -EACCES);
	assert_content(&fx, "p/a", "Jello");
	assert_content(&fx, "p/b", "Jello");
	assert_string_equal(list(&fx, ""), "a b");
	assert_int_equal(s3c_object_write(object, NULL, 0, "C", 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_content(&fx, "p/a", "Cello");
	s3c_object_close(object);
	/* A link that could not be stored does not come later. */
	rule.op = S3C_STORE_PUT;
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "l", "x", &file_attrs), -EACCES);
	assert_int_equal(look(&fx, "l", &info), -ENOENT);
	assert_string_equal(list(&fx, ""), "a b");
	fx_end(&fx);
}

struct writing {
	struct fx *fx;
	struct s3c_object *object;
	atomic_bool stop;
	int last;
};

static void *write_on(void *arg)
{
	struct writing *w = arg;
	char text[16];

	while (!atomic_load(&w->stop)) {
		snprintf(text, sizeof(text), "%08d", ++w->last);
		assert_int_equal(s3c_object_write(w->object, NULL, 0, text, 8, false), 0);
		assert_int_equal(s3c_object_commit(w->object, NULL), 0);
	}
	return NULL;
}

/* What is committed while its directory moves is in the new place, all of it. */
static void test_rename_while_written(void **state)
{
	struct writing w = { .last = 0 };
	pthread_t thread;
	struct fx fx;
	char text[16];

	(void)state;
	fx_new(&fx, &sealed_options);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d0", &dir_attrs), 0);
	make_file(&fx, "d0/f", "00000000");
	w.fx = &fx;
	assert_int_equal(s3c_object_open(fx.engine, NULL, "d0/f", &w.object), 0);
	assert_int_equal(s3c_thread_start(&thread, "writer", write_on, &w), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(move(&fx, i % 2 ? "d1" : "d0", i % 2 ? "d0" : "d1"), 0);
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	s3c_object_close(w.object);
	snprintf(text, sizeof(text), "%08d", w.last);
	assert_content(&fx, "p/d0/f", text);
	assert_string_equal(list(&fx, ""), "d0/");
	s3c_names_invalidate(fx.engine, "", true);
	assert_string_equal(list(&fx, ""), "d0/");
	fx_end(&fx);
}

static void *set_on(void *arg)
{
	struct writing *w = arg;
	struct s3c_info info;

	for (int i = 0; !atomic_load(&w->stop); i++)
		s3c_engine_setattr(w->fx->engine, NULL, i % 2 ? "d0" : "d1", NULL, S3C_SET_UID,
				   &dir_attrs, &info);
	return NULL;
}

/* An attribute change does not bring back a directory that is being renamed. */
static void test_rename_while_set(void **state)
{
	struct writing w = { .last = 0 };
	pthread_t thread;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d0", &dir_attrs), 0);
	w.fx = &fx;
	assert_int_equal(s3c_thread_start(&thread, "setter", set_on, &w), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(move(&fx, i % 2 ? "d1" : "d0", i % 2 ? "d0" : "d1"), 0);
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	assert_true(hand_exists(&fx, "p/d0/"));
	assert_false(hand_exists(&fx, "p/d1/"));
	fx_end(&fx);
}

/* The target has bytes that the store does not: they go over a copy that came to be although the
   rename failed, and nothing is taken for another machine's. */
static void test_target_after_lost_copy(void **state)
{
	struct s3c_fault_rule lost = {
		.op = S3C_STORE_COPY, .kind = S3C_FAULT_LOST, .result = -ECONNRESET, .times = 1
	};
	struct s3c_fault_rule blind = { .op = S3C_STORE_HEAD,
					.kind = S3C_FAULT_FAIL,
					.result = -ECONNRESET };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int stored = 0; stored < 2; stored++) {
		fx_new(&fx, &sealed_options);
		hand_file(&fx, "p/from", "source");
		if (stored)
			hand_file(&fx, "p/to", "former");
		list(&fx, "");
		assert_int_equal(look(&fx, "from", NULL), 0);
		if (stored)
			assert_int_equal(s3c_object_open(fx.engine, NULL, "to", &object), 0);
		else
			assert_int_equal(
				s3c_object_create(fx.engine, NULL, "to", &file_attrs, &object), 0);
		assert_int_equal(s3c_object_write(object, NULL, 0, "target", 6, false), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &lost), 0);
		assert_int_equal(s3c_store_fault_add(fx.store, &blind), 0);
		assert_int_equal(move(&fx, "from", "to"), -EIO);
		s3c_store_fault_clear(fx.store);
		assert_content(&fx, "p/to", "source");
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, ""), "from to");
		assert_content(&fx, "p/to", "target");
		assert_content(&fx, "p/from", "source");
		fx_end(&fx);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rename_file),
		cmocka_unit_test(test_rename_rules),
		cmocka_unit_test(test_rename_dir),
		cmocka_unit_test(test_rename_dir_fails),
		cmocka_unit_test(test_rename_dir_taken),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_no_copy),
		cmocka_unit_test(test_lost_answers),
		cmocka_unit_test(test_lost_deletes),
		cmocka_unit_test(test_foreign_metadata),
		cmocka_unit_test(test_others_stay),
		cmocka_unit_test(test_sent_or_not),
		cmocka_unit_test(test_unlink_sent),
		cmocka_unit_test(test_no_conditions),
		cmocka_unit_test(test_name_no_conditions),
		cmocka_unit_test(test_parts_no_conditions),
		cmocka_unit_test(test_others_replaced),
		cmocka_unit_test(test_local_names),
		cmocka_unit_test(test_open_files),
		cmocka_unit_test(test_dir_with_local_files),
		cmocka_unit_test(test_failed_mutations),
		cmocka_unit_test(test_rename_while_written),
		cmocka_unit_test(test_rename_while_set),
		cmocka_unit_test(test_target_after_lost_copy),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
