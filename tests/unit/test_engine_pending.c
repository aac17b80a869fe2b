/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Names that are ahead of the store: what is shown, what is sent, what survives. Daemons that die
 * are child processes which end by SIGKILL.
 */
#include "killed_fixture.h"
#include "through_store.h"

#include <sys/mman.h>
#include <time.h>

#include "engine/durable.h"
#include "engine/names.h"

static const struct fx_options ahead = { .prefix = "p/", .writeback = true };

static void put(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
}

static int unlink_of(struct fx *fx, const char *path)
{
	return s3c_engine_unlink(fx->engine, NULL, path);
}

static int mkdir_of(struct fx *fx, const char *path)
{
	return s3c_engine_mkdir(fx->engine, NULL, path, &dir_attrs);
}

static int rmdir_of(struct fx *fx, const char *path)
{
	return s3c_engine_rmdir(fx->engine, NULL, path);
}

static int sync_all(struct fx *fx)
{
	return s3c_engine_sync(fx->engine, NULL);
}

static void fault(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind, int result,
		  unsigned times)
{
	struct s3c_fault_rule rule = { .op = op, .kind = kind, .result = result, .times = times };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static size_t waiting(struct fx *fx)
{
	size_t count = 0;

	s3c_mutex_lock(&fx->engine->lock);
	count = s3c_pending_count(fx->engine);
	s3c_mutex_unlock(&fx->engine->lock);
	return count;
}

/* Nothing is left to be sent, and the journal knows that. */
static void assert_settled(struct fx *fx)
{
	assert_int_equal(sync_all(fx), 0);
	assert_int_equal(waiting(fx), 0);
	assert_int_equal(records(fx), 0);
}

static void test_costs(void **state)
{
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	assert_string_equal(list(&fx, ""), "");
	fx_requests(&fx);
	assert_int_equal(mkdir_of(&fx, "d"), 0);
	assert_int_equal(mkdir_of(&fx, "d"), -EEXIST);
	assert_string_equal(list(&fx, ""), "d/");
	assert_string_equal(list(&fx, "d"), "");
	assert_int_equal(look(&fx, "d/x", NULL), -ENOENT);
	assert_int_equal(look(&fx, "d", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0700);
	assert_int_equal(rmdir_of(&fx, "d"), 0);
	assert_int_equal(look(&fx, "d", NULL), -ENOENT);
	assert_string_equal(list(&fx, ""), "");
	put(&fx, "f", "text");
	assert_reads(&fx, "f", "text");
	assert_int_equal(unlink_of(&fx, "f"), 0);
	assert_int_equal(unlink_of(&fx, "f"), -ENOENT);
	assert_int_equal(rmdir_of(&fx, "f"), -ENOENT);
	assert_string_equal(list(&fx, ""), "");
	assert_settled(&fx);
	assert_requests(&fx, "");
	/* Written under a temporary name. */
	put(&fx, "f.tmp", "one");
	assert_int_equal(move(&fx, "f.tmp", "f"), 0);
	assert_string_equal(list(&fx, ""), "f");
	assert_settled(&fx);
	assert_requests(&fx, "PUT 1");
	assert_content(&fx, "p/f", "one");
	put(&fx, "f.tmp", "two");
	assert_int_equal(move(&fx, "f.tmp", "f"), 0);
	assert_reads(&fx, "f", "two");
	assert_string_equal(list(&fx, ""), "f");
	assert_settled(&fx);
	assert_requests(&fx, "PUT 1");
	assert_content(&fx, "p/f", "two");
	assert_false(hand_exists(&fx, "p/f.tmp"));
	/* Deleted and made again. */
	assert_int_equal(unlink_of(&fx, "f"), 0);
	put(&fx, "f", "three");
	assert_string_equal(list(&fx, ""), "f");
	assert_settled(&fx);
	assert_requests(&fx, "PUT 1");
	assert_content(&fx, "p/f", "three");
	/* A tree: a marker each, and what is made and removed in it costs nothing. */
	assert_int_equal(mkdir_of(&fx, "t"), 0);
	assert_int_equal(mkdir_of(&fx, "t/u"), 0);
	put(&fx, "t/u/a", "a");
	put(&fx, "t/u/b", "b");
	assert_int_equal(unlink_of(&fx, "t/u/b"), 0);
	assert_int_equal(rmdir_of(&fx, "t"), -ENOTEMPTY);
	assert_int_equal(rmdir_of(&fx, "t/u"), -ENOTEMPTY);
	assert_string_equal(list(&fx, "t"), "u/");
	assert_string_equal(list(&fx, "t/u"), "a");
	assert_requests(&fx, "");
	assert_settled(&fx);
	assert_requests(&fx, "PUT 3");
	assert_string_equal(list(&fx, "t/u"), "a");
	/* All of it again: a request for each object. */
	assert_int_equal(unlink_of(&fx, "t/u/a"), 0);
	assert_int_equal(rmdir_of(&fx, "t/u"), 0);
	assert_int_equal(rmdir_of(&fx, "t"), 0);
	assert_string_equal(list(&fx, ""), "f");
	assert_requests(&fx, "");
	assert_settled(&fx);
	assert_requests(&fx, "DELETE 3");
	assert_false(hand_exists(&fx, "p/t/"));
	assert_false(hand_exists(&fx, "p/t/u/a"));
	fx_end(&fx);
}

/* What is pending counts more than what the store says, whatever is asked of it. */
static void test_overlay(void **state)
{
	struct fx_options o = ahead;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	o.ttl_s = -1;
	fx_new(&fx, &o);
	hand_file(&fx, "p/a", "a");
	hand_file(&fx, "p/b", "b");
	hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
	assert_string_equal(list(&fx, ""), "a b d/");
	assert_int_equal(unlink_of(&fx, "a"), 0);
	assert_int_equal(rmdir_of(&fx, "d"), 0);
	assert_int_equal(mkdir_of(&fx, "e"), 0);
	assert_int_equal(mkdir_of(&fx, "e/sub"), 0);
	/* What was made here is known, however long ago. */
	fx_requests(&fx);
	assert_string_equal(list(&fx, "e"), "sub/");
	assert_int_equal(look(&fx, "e/none", NULL), -ENOENT);
	assert_requests(&fx, "");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(look(&fx, "a", NULL), -ENOENT);
		assert_int_equal(look(&fx, "d", NULL), -ENOENT);
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "a", &info), -ENOENT);
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "d", &info), -ENOENT);
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "e", &info), 0);
		assert_int_equal(look(&fx, "b", NULL), 0);
		assert_string_equal(list(&fx, ""), "b e/");
		assert_string_equal(list(&fx, "e"), "sub/");
		s3c_names_invalidate(fx.engine, "", true);
	}
	assert_int_equal(mkdir_of(&fx, "a"), 0);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_true(S_ISDIR(info.mode));
	put(&fx, "a/in", "in");
	assert_string_equal(list(&fx, ""), "a/ b e/");
	assert_true(hand_exists(&fx, "p/a"));
	assert_settled(&fx);
	assert_false(hand_exists(&fx, "p/a"));
	assert_true(hand_exists(&fx, "p/a/"));
	assert_string_equal(list(&fx, ""), "a/ b e/");
	/* The other way round: the marker has to go first. */
	assert_int_equal(rmdir_of(&fx, "e/sub"), 0);
	assert_int_equal(rmdir_of(&fx, "e"), 0);
	put(&fx, "e", "file");
	assert_string_equal(list(&fx, ""), "a/ b e");
	assert_settled(&fx);
	assert_content(&fx, "p/e", "file");
	assert_string_equal(list(&fx, ""), "a/ b e");
	assert_int_equal(look(&fx, "e", &info), 0);
	assert_true(S_ISREG(info.mode));
	fx_end(&fx);
}

static void test_versions(void **state)
{
	struct fx_options o = ahead;
	struct fx fx;

	for (int caps = 0; caps < 2; caps++) {
		(void)state;
		o.no_caps = !caps;
		fx_new(&fx, &o);
		hand_file(&fx, "p/a", "old");
		hand_file(&fx, "p/b", "old");
		hand_file(&fx, "p/c", "old");
		hand_file(&fx, "p/gone", "old");
		hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
		list(&fx, "");
		list(&fx, "d");
		assert_int_equal(look(&fx, "a", NULL), 0);
		assert_int_equal(look(&fx, "b", NULL), 0);
		assert_int_equal(look(&fx, "c", NULL), 0);
		assert_int_equal(look(&fx, "gone", NULL), 0);
		assert_int_equal(look(&fx, "d", NULL), 0);
		fx_requests(&fx);
		assert_int_equal(unlink_of(&fx, "a"), 0);
		assert_int_equal(unlink_of(&fx, "b"), 0);
		assert_int_equal(unlink_of(&fx, "c"), 0);
		assert_int_equal(unlink_of(&fx, "gone"), 0);
		assert_int_equal(rmdir_of(&fx, "d"), 0);
		assert_requests(&fx, "");
		/* Another machine: new content, other attributes, a delete. */
		hand_file(&fx, "p/b", "new");
		hand_delete(&fx, "p/gone");
		assert_int_equal(s3c_pending_flush(fx.engine, NULL, "a"), 0);
		assert_requests(&fx, caps ? "DELETE 1" : "HEAD 1 DELETE 1");
		assert_int_equal(waiting(&fx), 4);
		assert_settled(&fx);
		assert_false(hand_exists(&fx, "p/a"));
		assert_false(hand_exists(&fx, "p/c"));
		assert_false(hand_exists(&fx, "p/d/"));
		assert_string_equal(list(&fx, ""), "b");
		assert_reads(&fx, "b", "new");
		fx_end(&fx);
	}
}

/* A chmod by another mount makes no other file of it. */
static void test_attrs_elsewhere(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0640 };
	struct fx_options o = ahead, other = { .prefix = "p/", .state = "state2" };
	struct fx fx, fx2;
	char dir[64];

	(void)state;
	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	hand_file(&fx, "p/a", "a");
	assert_int_equal(look(&fx, "a", NULL), 0);
	assert_int_equal(unlink_of(&fx, "a"), 0);
	other.dir = dir;
	fx_new(&fx2, &other);
	set(&fx2, "a", S3C_SET_MODE, &attrs, 0);
	fx_stop(&fx2);
	assert_settled(&fx);
	assert_false(hand_exists(&fx, "p/a"));
	fx_end(&fx);
}

static void test_made_elsewhere(void **state)
{
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	list(&fx, "");
	assert_int_equal(mkdir_of(&fx, "d"), 0);
	put(&fx, "d/ours", "ours");
	hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/d/theirs", "theirs");
	assert_string_equal(list(&fx, "d"), "ours");
	assert_settled(&fx);
	hand_open(&fx, "p/d/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0711);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "d", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0711);
	assert_string_equal(list(&fx, "d"), "ours theirs");
	/* A file that is made over a deleted one, of which there is a new version by now. */
	assert_int_equal(look(&fx, "d/theirs", NULL), 0);
	assert_int_equal(unlink_of(&fx, "d/theirs"), 0);
	put(&fx, "d/theirs", "mine");
	hand_file(&fx, "p/d/theirs", "newer");
	assert_int_equal(sync_all(&fx), -ESTALE);
	assert_content(&fx, "p/d/theirs", "newer");
	fx_end(&fx);
}

static void test_replies(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0755 };
	struct s3c_header header;
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	list(&fx, "");
	put(&fx, "a", "a");
	put(&fx, "b", "b");
	assert_settled(&fx);
	/* Lost replies. */
	fault(&fx, S3C_STORE_DELETE, S3C_FAULT_LOST, -ECONNRESET, 1);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNRESET, 1);
	assert_int_equal(unlink_of(&fx, "a"), 0);
	assert_int_equal(mkdir_of(&fx, "d"), 0);
	assert_settled(&fx);
	assert_false(hand_exists(&fx, "p/a"));
	assert_true(hand_exists(&fx, "p/d/"));
	/* The store is away for a while: nothing here fails, nothing is lost. */
	s3c_store_fault_clear(fx.store);
	fault(&fx, S3C_STORE_DELETE, S3C_FAULT_FAIL, -ECONNREFUSED, 0);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNREFUSED, 0);
	fault(&fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, -ECONNREFUSED, 0);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNREFUSED, 0);
	assert_int_equal(unlink_of(&fx, "b"), 0);
	assert_int_equal(mkdir_of(&fx, "e"), 0);
	assert_int_equal(s3c_pending_flush(fx.engine, NULL, ""), -EIO);
	assert_string_equal(list(&fx, ""), "d/ e/");
	set(&fx, "e", S3C_SET_MODE, &attrs, 0);
	put(&fx, "e/x", "x");
	assert_true(sync_all(&fx) < 0);
	assert_int_equal(unlink_of(&fx, "e/x"), 0);
	put(&fx, "e/x", "again");
	assert_true(sync_all(&fx) < 0);
	assert_reads(&fx, "e/x", "again");
	s3c_store_fault_clear(fx.store);
	s3c_engine_retry(fx.engine, NULL);
	assert_settled(&fx);
	assert_false(hand_exists(&fx, "p/b"));
	assert_content(&fx, "p/e/x", "again");
	/* The marker that was written with the lost reply has the later attributes by now. */
	hand_open(&fx, "p/e/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0755);
	assert_string_equal(list(&fx, "e"), "x");
	fx_end(&fx);
}

struct states {
	unsigned count[4];
	int result;
};

static void count_states(void *arg, const struct s3c_unsent *unsent)
{
	struct states *states = arg;

	states->count[unsent->state]++;
	states->result = unsent->result;
}

/* The store may have a file that was never confirmed: it must not come back. */
static void test_sent_and_gone(void **state)
{
	struct states states = { .result = 0 };
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	list(&fx, "");
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNREFUSED, 0);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNREFUSED, 0);
	put(&fx, "a", "a");
	put(&fx, "b", "b");
	put(&fx, "c", "c");
	assert_true(sync_all(&fx) < 0);
	for (states.count[S3C_UNSENT_FAILED] = 0; states.count[S3C_UNSENT_FAILED] < 3;) {
		usleep(1000);
		states = (struct states){ .result = 0 };
		s3c_engine_unsent(fx.engine, count_states, &states);
	}
	s3c_store_fault_clear(fx.store);
	assert_true(hand_exists(&fx, "p/a"));
	assert_true(hand_exists(&fx, "p/b"));
	assert_true(hand_exists(&fx, "p/c"));
	assert_int_equal(unlink_of(&fx, "a"), 0);
	assert_int_equal(move(&fx, "b", "bb"), 0);
	assert_int_equal(unlink_of(&fx, "c"), 0);
	hand_file(&fx, "p/c", "theirs");
	fx_requests(&fx);
	assert_string_equal(list(&fx, ""), "bb");
	s3c_engine_retry(fx.engine, NULL);
	assert_settled(&fx);
	assert_false(hand_exists(&fx, "p/a"));
	assert_false(hand_exists(&fx, "p/b"));
	assert_content(&fx, "p/bb", "b");
	assert_content(&fx, "p/c", "theirs");
	fx_end(&fx);
}

static void test_parked(void **state)
{
	struct states states = { .result = 0 };
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	list(&fx, "");
	put(&fx, "a", "a");
	put(&fx, "b", "b");
	assert_settled(&fx);
	fault(&fx, S3C_STORE_DELETE, S3C_FAULT_FAIL, -EACCES, 0);
	assert_int_equal(unlink_of(&fx, "a"), 0);
	assert_int_equal(unlink_of(&fx, "b"), 0);
	assert_int_equal(sync_all(&fx), -EACCES);
	while (states.count[S3C_UNSENT_PARKED] < 2) {
		usleep(1000);
		states = (struct states){ .result = 0 };
		s3c_engine_unsent(fx.engine, count_states, &states);
	}
	assert_int_equal(sync_all(&fx), -EACCES);
	assert_int_equal(states.result, -EACCES);
	assert_string_equal(list(&fx, ""), "");
	s3c_store_fault_clear(fx.store);
	fx_requests(&fx);
	assert_int_equal(s3c_engine_retry(fx.engine, "a"), 1);
	assert_int_equal(s3c_pending_flush(fx.engine, NULL, "a"), 0);
	assert_requests(&fx, "DELETE 1");
	assert_int_equal(s3c_engine_discard(fx.engine, NULL, "a"), -ENOENT);
	assert_int_equal(s3c_engine_discard(fx.engine, NULL, "b"), 0);
	assert_string_equal(list(&fx, ""), "b");
	assert_reads(&fx, "b", "b");
	assert_settled(&fx);
	fx_end(&fx);
}

static void test_attributes(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0640, .mtime_ns = 12345 };
	unsigned which = S3C_SET_MODE | S3C_SET_MTIME;
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	hand_file(&fx, "p/f", "text");
	hand_file(&fx, "p/g", "text");
	hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/i/x", "x");
	list(&fx, "");
	assert_int_equal(look(&fx, "f", NULL), 0);
	assert_int_equal(look(&fx, "g", NULL), 0);
	assert_int_equal(look(&fx, "d", NULL), 0);
	assert_int_equal(look(&fx, "i", NULL), 0);
	assert_int_equal(look(&fx, "", NULL), 0);
	fx_requests(&fx);
	set(&fx, "f", which, &attrs, 0);
	set(&fx, "g", which, &attrs, 0);
	set(&fx, "d", which, &attrs, 0);
	set(&fx, "i", which, &attrs, 0);
	set(&fx, "", which, &attrs, 0);
	assert_int_equal(look(&fx, "f", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0640);
	assert_int_equal(info.mtime_ns, 12345);
	assert_int_equal(look(&fx, "d", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0640);
	assert_int_equal(look(&fx, "", &info), 0);
	assert_int_equal(info.mtime_ns, 12345);
	/* A file that goes takes its attributes along. */
	assert_int_equal(unlink_of(&fx, "g"), 0);
	assert_requests(&fx, "");
	assert_settled(&fx);
	assert_requests(&fx, "PUT 3 COPY 1 DELETE 1");
	hand_open(&fx, "p/f", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFREG | 0640);
	hand_open(&fx, "p/d/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0640);
	assert_int_equal(header.attrs.mtime_ns, 12345);
	hand_open(&fx, "p/i/", &header, NULL, 0);
	hand_open(&fx, "p/", &header, NULL, 0);
	/* The last name of a directory without marker: that gets one. */
	hand_file(&fx, "p/j/x", "x");
	s3c_names_invalidate(fx.engine, "", true);
	list(&fx, "j");
	assert_int_equal(look(&fx, "j", NULL), 0);
	assert_int_equal(look(&fx, "j/x", NULL), 0);
	fx_requests(&fx);
	assert_int_equal(unlink_of(&fx, "j/x"), 0);
	assert_settled(&fx);
	assert_requests(&fx, "PUT 1 DELETE 1");
	assert_true(hand_exists(&fx, "p/j/"));
	/* Made and set while it is sent: the later attributes win. */
	assert_int_equal(mkdir_of(&fx, "k"), 0);
	set(&fx, "k", which, &attrs, 0);
	fx_requests(&fx);
	assert_settled(&fx);
	assert_requests(&fx, "PUT 1");
	hand_open(&fx, "p/k/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0640);
	fx_end(&fx);
}

static void test_open_files(void **state)
{
	struct s3c_object *object;
	struct s3c_info info;
	char text[64];
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	hand_file(&fx, "p/f", "stored");
	hand_file(&fx, "p/t", "target");
	list(&fx, "");
	assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
	assert_int_equal(unlink_of(&fx, "f"), 0);
	put(&fx, "f", "new");
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "stored");
	assert_int_equal(s3c_object_write(object, NULL, 0, "X", 1, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_settled(&fx);
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "Xtored");
	s3c_object_close(object);
	assert_content(&fx, "p/f", "new");
	/* A file that is still written is renamed over an open one. */
	assert_int_equal(s3c_object_open(fx.engine, NULL, "t", &object), 0);
	put(&fx, "n", "n");
	fx_requests(&fx);
	assert_int_equal(move(&fx, "n", "t"), 0);
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "target");
	assert_settled(&fx);
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "target");
	s3c_object_close(object);
	assert_content(&fx, "p/t", "n");
	assert_false(hand_exists(&fx, "p/n"));
	/* What is all new stands on an old version, which goes. */
	assert_int_equal(s3c_object_open(fx.engine, NULL, "t", &object), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "all", 3, false), 0);
	fx_requests(&fx);
	assert_int_equal(move(&fx, "t", "u"), 0);
	assert_int_equal(look(&fx, "t", NULL), -ENOENT);
	assert_int_equal(look(&fx, "u", &info), 0);
	assert_int_equal(info.size, 3);
	assert_requests(&fx, "");
	assert_int_equal(s3c_object_write(object, NULL, 3, " new", 4, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
	assert_settled(&fx);
	assert_requests(&fx, "PUT 1 DELETE 1");
	assert_content(&fx, "p/u", "all new");
	assert_string_equal(list(&fx, ""), "f u");
	/* What the store has is renamed there. */
	assert_int_equal(unlink_of(&fx, "f"), 0);
	fx_requests(&fx);
	assert_int_equal(move(&fx, "u", "f"), 0);
	assert_requests(&fx, "COPY 1 DELETE 2");
	assert_string_equal(list(&fx, ""), "f");
	assert_settled(&fx);
	assert_content(&fx, "p/f", "all new");
	fx_end(&fx);
}

/* Nobody waits: it is sent all the same, after a while. */
static void test_background(void **state)
{
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	hand_file(&fx, "p/f", "text");
	hand_file(&fx, "p/g", "text");
	list(&fx, "");
	assert_int_equal(look(&fx, "f", NULL), 0);
	assert_int_equal(look(&fx, "g", NULL), 0);
	fault(&fx, S3C_STORE_DELETE, S3C_FAULT_FAIL, -EAGAIN, 1);
	fx_requests(&fx);
	assert_int_equal(mkdir_of(&fx, "d"), 0);
	assert_int_equal(unlink_of(&fx, "f"), 0);
	usleep(200000);
	assert_requests(&fx, "");
	assert_int_equal(waiting(&fx), 2);
	for (int i = 0; i < 1000 && waiting(&fx); i++)
		usleep(10000);
	assert_int_equal(waiting(&fx), 0);
	assert_false(hand_exists(&fx, "p/f"));
	assert_true(hand_exists(&fx, "p/d/"));
	assert_settled(&fx);
	fx_end(&fx);
}

/* A directory that is ahead of the store in many ways. */
static void test_rename_dir(void **state)
{
	static const struct s3c_attrs attrs = { .mode = 0604 };
	struct s3c_object *object;
	struct s3c_info info;
	char text[16];
	struct fx fx;

	(void)state;
	fx_new(&fx, &ahead);
	hand_seal(&fx, "p/a/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/a/stored", "stored");
	hand_file(&fx, "p/a/old", "old");
	hand_file(&fx, "p/a/mode", "mode");
	list(&fx, "");
	list(&fx, "a");
	put(&fx, "a/new", "new");
	assert_int_equal(mkdir_of(&fx, "a/sub"), 0);
	assert_int_equal(unlink_of(&fx, "a/old"), 0);
	set(&fx, "a/mode", S3C_SET_MODE, &attrs, 0);
	assert_int_equal(mkdir_of(&fx, "b"), 0);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "a/sub/open", &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "open", 4, false), 0);
	assert_int_equal(move(&fx, "a", "b"), 0);
	assert_string_equal(list(&fx, ""), "b/");
	assert_string_equal(list(&fx, "b"), "mode new stored sub/");
	assert_string_equal(list(&fx, "b/sub"), "open");
	assert_int_equal(look(&fx, "b/mode", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0604);
	assert_int_equal(s3c_object_write(object, NULL, 4, "ed", 2, false), 0);
	read_object(&fx, object, text, sizeof(text));
	assert_string_equal(text, "opened");
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
	assert_settled(&fx);
	assert_content(&fx, "p/b/sub/open", "opened");
	assert_content(&fx, "p/b/new", "new");
	assert_false(hand_exists(&fx, "p/a/"));
	assert_false(hand_exists(&fx, "p/b/old"));
	/* One that was only made here. */
	assert_int_equal(mkdir_of(&fx, "c"), 0);
	assert_int_equal(move(&fx, "c", "d"), 0);
	assert_int_equal(rmdir_of(&fx, "d"), 0);
	assert_int_equal(mkdir_of(&fx, "c"), 0);
	assert_int_equal(move(&fx, "c", "b"), -ENOTEMPTY);
	assert_string_equal(list(&fx, ""), "b/ c/");
	assert_settled(&fx);
	assert_string_equal(list(&fx, ""), "b/ c/");
	fx_end(&fx);
}

static void work(struct fx *fx, struct fx_options *o)
{
	struct s3c_attrs link = { .mode = S_IFLNK | 0777 };
	static const struct s3c_attrs attrs = { .mode = 0604 };

	(void)o;
	list(fx, "");
	assert_int_equal(look(fx, "old", NULL), 0);
	assert_int_equal(look(fx, "over", NULL), 0);
	assert_int_equal(look(fx, "mode", NULL), 0);
	assert_int_equal(look(fx, "dir", NULL), 0);
	assert_string_equal(list(fx, "dir"), "");
	assert_int_equal(mkdir_of(fx, "new"), 0);
	assert_int_equal(mkdir_of(fx, "new/sub"), 0);
	put(fx, "new/file", "file");
	assert_int_equal(unlink_of(fx, "old"), 0);
	assert_int_equal(rmdir_of(fx, "dir"), 0);
	put(fx, "tmp", "over it");
	assert_int_equal(move(fx, "tmp", "over"), 0);
	assert_int_equal(s3c_engine_symlink(fx->engine, NULL, "link", "target", &link), 0);
	assert_int_equal(unlink_of(fx, "again"), 0);
	assert_int_equal(s3c_engine_symlink(fx->engine, NULL, "again", "more", &link), 0);
	put(fx, "brief", "brief");
	assert_int_equal(unlink_of(fx, "brief"), 0);
	assert_int_equal(mkdir_of(fx, "short"), 0);
	assert_int_equal(rmdir_of(fx, "short"), 0);
	set(fx, "mode", S3C_SET_MODE, &attrs, 0);
	set(fx, "new/sub", S3C_SET_MODE, &attrs, 0);
}

static void check_work(struct fx *fx)
{
	struct s3c_info info;
	char target[64];

	assert_string_equal(list(fx, ""), "again link mode new/ over");
	assert_string_equal(list(fx, "new"), "file sub/");
	assert_int_equal(look(fx, "old", NULL), -ENOENT);
	assert_int_equal(look(fx, "dir", NULL), -ENOENT);
	assert_int_equal(look(fx, "mode", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0604);
	assert_int_equal(look(fx, "new/sub", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0604);
	assert_int_equal(s3c_engine_readlink(fx->engine, NULL, "link", target, sizeof(target)), 0);
	assert_string_equal(target, "target");
	assert_int_equal(s3c_engine_readlink(fx->engine, NULL, "again", target, sizeof(target)), 0);
	assert_string_equal(target, "more");
	assert_reads(fx, "over", "over it");
	assert_reads(fx, "new/file", "file");
}

static void check_dies(struct fx *fx, struct fx_options *o)
{
	(void)o;
	check_work(fx);
}

static void test_restart(void **state)
{
	struct fx_options o = ahead;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	hand_file(&fx, "p/old", "old");
	hand_file(&fx, "p/over", "old");
	hand_file(&fx, "p/again", "old");
	hand_file(&fx, "p/mode", "old");
	hand_seal(&fx, "p/dir/", S_IFDIR | 0711, NULL, -1);
	fx_stop(&fx);
	killed(work, &o);
	killed(check_dies, &o);
	fx_new(&fx, &o);
	/* The link is a file here; what was begun for it and for the rest is gone. */
	assert_int_equal(fx.recovery.names, 4);
	check_work(&fx);
	assert_settled(&fx);
	check_work(&fx);
	s3c_names_invalidate(fx.engine, "", true);
	check_work(&fx);
	assert_false(hand_exists(&fx, "p/old"));
	assert_false(hand_exists(&fx, "p/dir/"));
	assert_false(hand_exists(&fx, "p/tmp"));
	assert_true(hand_exists(&fx, "p/new/sub/"));
	fx_end(&fx);
}

/* A mount without writeback finds what one with it has left. */
static void test_other_mode(void **state)
{
	struct fx_options o = ahead;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	hand_file(&fx, "p/old", "old");
	hand_file(&fx, "p/over", "old");
	hand_file(&fx, "p/again", "old");
	hand_file(&fx, "p/mode", "old");
	hand_seal(&fx, "p/dir/", S_IFDIR | 0711, NULL, -1);
	fx_stop(&fx);
	killed(work, &o);
	o.writeback = false;
	o.durable = true;
	fx_new(&fx, &o);
	assert_string_equal(list(&fx, ""), "again link mode new/ over");
	assert_int_equal(mkdir_of(&fx, "dir"), 0);
	make_file(&fx, "old", "made again");
	assert_content(&fx, "p/old", "made again");
	assert_true(hand_exists(&fx, "p/dir/"));
	assert_int_equal(unlink_of(&fx, "old"), 0);
	assert_int_equal(rmdir_of(&fx, "dir"), 0);
	assert_int_equal(s3c_pending_flush(fx.engine, NULL, ""), 0);
	assert_int_equal(sync_all(&fx), 0);
	check_work(&fx);
	fx_end(&fx);
}

static void test_journal_full(void **state)
{
	struct fx_options o = ahead;
	struct s3c_object *object;
	char path[32];
	struct fx fx;
	int made;

	(void)state;
	o.journal_size = 4096;
	fx_new(&fx, &o);
	hand_file(&fx, "p/stored", "x");
	list(&fx, "");
	assert_int_equal(look(&fx, "stored", NULL), 0);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ECONNREFUSED, 0);
	for (made = 0; made < 100; made++) {
		snprintf(path, sizeof(path), "d%02d", made);
		if (mkdir_of(&fx, path) < 0)
			break;
	}
	assert_true(made > 2 && made < 100);
	assert_int_equal(mkdir_of(&fx, path), -ENOSPC);
	assert_int_equal(look(&fx, path, NULL), -ENOENT);
	while (s3c_object_create(fx.engine, NULL, path, &file_attrs, &object) == 0)
		s3c_object_close(object), strcat(path, "x");
	assert_int_equal(s3c_object_create(fx.engine, NULL, path, &file_attrs, &object), -ENOSPC);
	assert_int_equal(look(&fx, path, NULL), -ENOENT);
	assert_null(strstr(list(&fx, ""), path));
	/* What makes room is not refused. */
	assert_int_equal(unlink_of(&fx, "stored"), 0);
	assert_int_equal(rmdir_of(&fx, "d00"), 0);
	assert_int_equal(rmdir_of(&fx, "d01"), 0);
	assert_int_equal(rmdir_of(&fx, "d02"), 0);
	assert_int_equal(mkdir_of(&fx, "again"), 0);
	s3c_store_fault_clear(fx.store);
	s3c_engine_retry(fx.engine, NULL);
	assert_settled(&fx);
	assert_false(hand_exists(&fx, "p/stored"));
	assert_true(hand_exists(&fx, "p/again/"));
	fx_end(&fx);
}

/* A store at which the daemon dies: at the request of that kind. */
static enum s3c_store_opcode deadly = S3C_STORE_UPLOAD_ABORT;
static unsigned deadly_after;

static int dying_submit(struct s3c_store *store, const struct s3c_store_request *request,
			s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	if (request->op == deadly && deadly_after-- == 0)
		kill(getpid(), SIGKILL);
	return s3c_store_submit(through_inner(store), request, done, arg, ret_call);
}

static struct s3c_store *dying_wrap(struct s3c_store *inner)
{
	return through_new(inner, dying_submit);
}

static void rename_tree(struct fx *fx, struct fx_options *o)
{
	(void)o;
	list(fx, "");
	list(fx, "d");
	move(fx, "d", "e");
}

static void rename_dies(enum s3c_store_opcode op, unsigned after)
{
	struct fx_options o = { .prefix = "p/", .durable = true };
	char dir[64], path[64];
	struct fx fx;

	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	hand_seal(&fx, "p/d/", S_IFDIR | 0711, NULL, -1);
	hand_seal(&fx, "p/d/sub/", S_IFDIR | 0711, NULL, -1);
	for (int i = 0; i < 12; i++) {
		snprintf(path, sizeof(path), "p/d/sub/f%02d", i);
		hand_file(&fx, path, path);
	}
	fx_stop(&fx);
	deadly = op;
	deadly_after = after;
	o.wrap = dying_wrap;
	killed(rename_tree, &o);
	o.wrap = NULL;
	/* Another machine was there before us. */
	fx_open(&fx, &o);
	assert_int_equal(fx_volume(&fx, &o, &(struct s3c_err){ 0 }), 0);
	hand_file(&fx, "p/e/sub/f03", "theirs");
	fx_stop(&fx);
	fx_new(&fx, &o);
	assert_int_equal(fx.recovery.names, 1);
	assert_int_equal(records(&fx), 0);
	assert_string_equal(list(&fx, "e/sub"), "f00 f01 f02 f03 f04 f05 f06 f07 f08 f09 f10 f11");
	for (int i = 0; i < 12; i++) {
		char text[64];

		snprintf(path, sizeof(path), "p/e/sub/f%02d", i);
		snprintf(text, sizeof(text), "p/d/sub/f%02d", i);
		assert_content(&fx, path, i == 3 ? "theirs" : text);
	}
	if (op == S3C_STORE_DELETE_MANY || op == S3C_STORE_COPY)
		assert_content(&fx, "p/d/sub/f03", "p/d/sub/f03");
	assert_string_equal(list(&fx, ""), "d/ e/");
	fx_end(&fx);
}

static void test_rename_resumed(void **state)
{
	(void)state;
	rename_dies(S3C_STORE_COPY, 0);
	rename_dies(S3C_STORE_COPY, 7);
	rename_dies(S3C_STORE_DELETE_MANY, 0);
}

#define CHURNERS 4
#define ROUNDS 120

struct churner {
	struct fx *fx;
	unsigned seed;
	char dir[8];
	bool there[8];
	pthread_t thread;
};

static void *churn(void *arg)
{
	struct churner *c = arg;
	struct fx *fx = c->fx;
	char path[32], other[32];

	assert_int_equal(mkdir_of(fx, c->dir), 0);
	for (int i = 0; i < ROUNDS; i++) {
		unsigned n = (unsigned)rand_r(&c->seed) % 8, m = (unsigned)rand_r(&c->seed) % 8;

		snprintf(path, sizeof(path), "%s/%u", c->dir, n);
		snprintf(other, sizeof(other), "%s/%u", c->dir, m);
		switch (rand_r(&c->seed) % 6) {
		case 0:
		case 1:
			if (!c->there[n])
				put(fx, path, path);
			c->there[n] = true;
			break;
		case 2:
			assert_int_equal(unlink_of(fx, path), c->there[n] ? 0 : -ENOENT);
			c->there[n] = false;
			break;
		case 3:
			assert_int_equal(move(fx, path, other), c->there[n] ? 0 : -ENOENT);
			if (c->there[n] && n != m) {
				c->there[n] = false;
				c->there[m] = true;
			}
			break;
		case 4:
			snprintf(path, sizeof(path), "%s/d%u", c->dir, n);
			assert_int_equal(mkdir_of(fx, path), 0);
			if (m & 1)
				assert_int_equal(s3c_pending_flush(fx->engine, NULL, path), 0);
			assert_int_equal(rmdir_of(fx, path), 0);
			break;
		default:
			if (m == 0)
				assert_int_equal(sync_all(fx), 0);
			break;
		}
	}
	return NULL;
}

static void test_churn(void **state)
{
	struct churner churners[CHURNERS];
	struct fx_options o = ahead;
	struct fx fx;

	(void)state;
	o.ttl_s = 0.05;
	fx_new(&fx, &o);
	for (unsigned i = 0; i < CHURNERS; i++) {
		churners[i] = (struct churner){ .fx = &fx, .seed = i };
		snprintf(churners[i].dir, sizeof(churners[i].dir), "t%u", i);
		assert_int_equal(pthread_create(&churners[i].thread, NULL, churn, &churners[i]), 0);
	}
	for (unsigned i = 0; i < CHURNERS; i++)
		pthread_join(churners[i].thread, NULL);
	assert_settled(&fx);
	s3c_names_invalidate(fx.engine, "", true);
	for (unsigned i = 0; i < CHURNERS; i++) {
		char expect[32] = "", name[4];

		for (unsigned n = 0; n < 8; n++) {
			snprintf(name, sizeof(name), "%s%u", *expect ? " " : "", n);
			if (churners[i].there[n])
				strcat(expect, name);
		}
		assert_string_equal(list(&fx, churners[i].dir), expect);
	}
	fx_end(&fx);
}

/*
 * Random operations in a process that is killed at a random time, again and again: what was
 * acknowledged is there, the one under way wholly or not at all.
 */
#define NAMES                                                                                      \
	12u /* the first three are directories, in which the others are, but the last three        \
	     */
#define NOTHING 0
#define DIRECTORY 1 /* more: a file, and which */

struct model {
	int now[NAMES];
	bool under_way;
	struct {
		unsigned name;
		int after;
	} change[2];
	unsigned changes;
	int next;
	unsigned done;
};
static struct model *model;
static unsigned fuzz_seed;

static const char *fuzz_name(unsigned name)
{
	static const char *const names[NAMES] = { "d0",   "d1",   "d2",   "d0/a", "d0/b", "d1/a",
						  "d1/b", "d2/a", "d2/b", "f0",   "f1",   "f2" };

	return names[name];
}

static bool has_parent(unsigned name)
{
	return name < 3 || name > 8 || model->now[(name - 3) / 2] == DIRECTORY;
}

static bool is_empty_dir(unsigned name)
{
	return model->now[3 + 2 * name] == NOTHING && model->now[4 + 2 * name] == NOTHING;
}

static void change(unsigned name, int after)
{
	model->change[model->changes].name = name;
	model->change[model->changes++].after = after;
}

static void change_begin(void)
{
	__atomic_store_n(&model->under_way, true, __ATOMIC_SEQ_CST);
}

static void change_end(void)
{
	for (unsigned i = 0; i < model->changes; i++)
		model->now[model->change[i].name] = model->change[i].after;
	__atomic_store_n(&model->under_way, false, __ATOMIC_SEQ_CST);
	model->changes = 0;
	model->done++;
}

static void fuzz_put(struct fx *fx, unsigned name)
{
	struct s3c_object *object;
	int version = ++model->next + DIRECTORY;
	char text[32];

	snprintf(text, sizeof(text), "%08d", version);
	change(name, version);
	change_begin();
	if (model->now[name] == NOTHING)
		assert_int_equal(
			s3c_object_create(fx->engine, NULL, fuzz_name(name), &file_attrs, &object),
			0);
	else
		assert_int_equal(s3c_object_open(fx->engine, NULL, fuzz_name(name), &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	change_end();
	s3c_object_close(object);
}

static void fuzz_step(struct fx *fx)
{
	static const struct s3c_attrs attrs = { .mode = 0640 };
	unsigned a = (unsigned)rand_r(&fuzz_seed) % NAMES, b = (unsigned)rand_r(&fuzz_seed) % NAMES;

	if (!has_parent(a))
		return;
	if (a < 3) {
		bool there = model->now[a] == DIRECTORY;

		if (there && !is_empty_dir(a)) {
			assert_int_equal(rmdir_of(fx, fuzz_name(a)), -ENOTEMPTY);
			return;
		}
		change(a, there ? NOTHING : DIRECTORY);
		change_begin();
		assert_int_equal(there ? rmdir_of(fx, fuzz_name(a)) : mkdir_of(fx, fuzz_name(a)),
				 0);
		change_end();
		return;
	}
	switch (model->now[a] == NOTHING ? 0 : rand_r(&fuzz_seed) % 4) {
	case 0:
		fuzz_put(fx, a);
		break;
	case 1:
		change(a, NOTHING);
		change_begin();
		assert_int_equal(unlink_of(fx, fuzz_name(a)), 0);
		change_end();
		break;
	case 2:
		set(fx, fuzz_name(a), S3C_SET_MODE, &attrs, 0);
		break;
	default:
		if (b < 3 || b == a || !has_parent(b))
			break;
		change(b, model->now[a]);
		change(a, NOTHING);
		change_begin();
		assert_int_equal(move(fx, fuzz_name(a), fuzz_name(b)), 0);
		change_end();
		break;
	}
}

static void *fuzz_sync(void *arg)
{
	struct fx *fx = arg;

	for (unsigned i = 0;; i++) {
		usleep(3000 * (i % 8));
		sync_all(fx);
	}
	return NULL;
}

static void fuzz_work(struct fx *fx)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, fuzz_sync, fx), 0);
	for (;;)
		fuzz_step(fx);
}

/* What is there under the name: as in the model; -1: an empty file, -2: something else. */
static int fuzz_look(struct fx *fx, unsigned name)
{
	struct s3c_object *object;
	struct s3c_info info;
	char text[32];
	int r = look(fx, fuzz_name(name), &info);

	if (r == -ENOENT)
		return NOTHING;
	assert_int_equal(r, 0);
	if (S_ISDIR(info.mode))
		return DIRECTORY;
	if (!info.size)
		return -1;
	assert_int_equal(s3c_object_open(fx->engine, NULL, fuzz_name(name), &object), 0);
	read_object(fx, object, text, sizeof(text));
	s3c_object_close(object);
	return strlen(text) == 8 ? atoi(text) : -2;
}

/* Is the change that was under way there? An empty file: it was to be made. */
static void fuzz_check(struct fx *fx)
{
	int found[NAMES];
	bool after = false;

	for (unsigned i = 0; i < NAMES; i++)
		found[i] = fuzz_look(fx, i);
	if (model->under_way) {
		unsigned name = model->change[0].name;

		after = found[name] == model->change[0].after;
		if (model->changes == 1 && model->now[name] == NOTHING && found[name] == -1) {
			model->change[0].after = -1;
			after = true;
		}
		for (unsigned i = 0; after && i < model->changes; i++)
			model->now[model->change[i].name] = model->change[i].after;
		model->under_way = false;
	}
	for (unsigned i = 0; i < NAMES; i++)
		if (found[i] != model->now[i])
			fail_msg("%s is %d, not %d; the last change: %s to %d, %s to %d",
				 fuzz_name(i), found[i], model->now[i],
				 fuzz_name(model->change[0].name), model->change[0].after,
				 fuzz_name(model->change[1].name), model->change[1].after);
	model->changes = 0;
}

static void fuzz_check_list(struct fx *fx, const char *path, unsigned first, unsigned count)
{
	char expect[128] = "";

	for (unsigned i = first; i < first + count; i++) {
		const char *name = strrchr(fuzz_name(i), '/');

		if (model->now[i] == NOTHING)
			continue;
		strcat(expect, *expect ? " " : "");
		strcat(expect, name ? name + 1 : fuzz_name(i));
		strcat(expect, model->now[i] == DIRECTORY ? "/" : "");
	}
	assert_string_equal(list(fx, path), expect);
}

static void test_kill(void **state)
{
	const char *runs = getenv("S3C_TEST_RUNS");
	unsigned count = runs ? (unsigned)atoi(runs) : 12;
	struct fx_options o = ahead;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	assert_ptr_not_equal(model, MAP_FAILED);
	for (unsigned run = 0; run < count; run++) {
		pid_t pid;
		int status;

		fuzz_seed = run * 7919 + (unsigned)time(NULL);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			setenv("CMOCKA_TEST_ABORT", "1", 1);
			fx_new(&fx, &o);
			fuzz_check(&fx);
			fuzz_work(&fx);
		}
		usleep(150000 + (unsigned)rand_r(&fuzz_seed) % 400000);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	fx_new(&fx, &o);
	fuzz_check(&fx);
	for (int i = 0; i < 2; i++) {
		/* One that is not there has no names, or is told not to be there. */
		if (model->now[0] || strcmp(list(&fx, "d0"), "-2") != 0)
			fuzz_check_list(&fx, "d0", 3, model->now[0] ? 2 : 0);
		assert_int_equal(sync_all(&fx), 0);
		s3c_names_invalidate(fx.engine, "", true);
		fuzz_check(&fx);
	}
	assert_settled(&fx);
	assert_true(model->done > count);
	print_message("# %u operations\n", model->done);
	munmap(model, sizeof(*model));
	fx_end(&fx);
}

static void make_and_lose_reply(struct fx *fx, struct fx_options *o)
{
	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ETIMEDOUT, 1);
	fault(fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, -ETIMEDOUT, 0);
	assert_int_equal(mkdir_of(fx, "d"), 0);
	assert_int_equal(s3c_engine_sync_names(fx->engine, NULL), 0);
	for (bool failed = false; !failed; usleep(1000)) {
		s3c_mutex_lock(&fx->engine->lock);
		failed = fx->engine->names->pending_failures > 0;
		s3c_mutex_unlock(&fx->engine->lock);
	}
}

/* What another daemon has sent already is known as the store has it: what this one would have sent
   has a later generation, and the store's would count as older than one that was seen. */
static void test_sent_by_former(void **state)
{
	struct fx_options o = ahead;
	struct s3c_header header;
	struct s3c_object *object;
	char dir[64];
	struct fx fx;

	(void)state;
	o.rollback_deny = true;
	fresh_dir(&o, dir);
	killed(make_and_lose_reply, &o);
	fx_new(&fx, &o);
	assert_int_equal(sync_all(&fx), 0);
	hand_open(&fx, "p/d/", &header, NULL, 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "d", NULL), 0);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "d/f", &file_attrs, &object), 0);
	s3c_object_close(object);
	assert_settled(&fx);
	fx_end(&fx);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_costs),          cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_versions),       cmocka_unit_test(test_attrs_elsewhere),
		cmocka_unit_test(test_made_elsewhere), cmocka_unit_test(test_replies),
		cmocka_unit_test(test_sent_and_gone),  cmocka_unit_test(test_parked),
		cmocka_unit_test(test_attributes),     cmocka_unit_test(test_open_files),
		cmocka_unit_test(test_background),     cmocka_unit_test(test_rename_dir),
		cmocka_unit_test(test_restart),        cmocka_unit_test(test_other_mode),
		cmocka_unit_test(test_journal_full),   cmocka_unit_test(test_rename_resumed),
		cmocka_unit_test(test_churn),          cmocka_unit_test(test_kill),
		cmocka_unit_test(test_sent_by_former),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
