/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What follows the close of a file where closes go to the store: attributes that wait for the next
 * copy, and the old names of renamed files, which are deleted together. Daemons that die in between
 * are child processes that end by SIGKILL; a power cut is a copy of the journal from before.
 */
#include "killed_fixture.h"

#include <errno.h>

#include "engine/content.h"
#include "engine/durable.h"
#include "engine/pending.h"

#define FILES 6

static const struct s3c_attrs mode_640 = { .mode = 0640 };
static const struct s3c_attrs mtime_7 = { .mtime_ns = 7 };

static void sync_all(struct fx *fx)
{
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
}

static void stored_as(struct fx *fx, const char *key, const char *text, mode_t mode, int64_t mtime)
{
	struct s3c_header header;

	assert_content(fx, key, text);
	hand_open(fx, key, &header, NULL, 0);
	assert_int_equal(header.attrs.mode & 07777, mode);
	assert_int_equal(header.attrs.mtime_ns, mtime);
}

/* As programs that copy do: written, closed, given attributes by two calls. */
static void make_set(struct fx *fx, const char *path, const char *text)
{
	make_file(fx, path, text);
	set(fx, path, S3C_SET_MODE, &mode_640, 0);
	set(fx, path, S3C_SET_MTIME, &mtime_7, 0);
}

static void make_moved(struct fx *fx, unsigned i)
{
	char from[16], to[16];

	snprintf(from, sizeof(from), "t%u", i);
	snprintf(to, sizeof(to), "f%u", i);
	make_set(fx, from, "hello");
	assert_int_equal(move(fx, from, to), 0);
}

static void begin(struct fx *fx, struct fx_options *o)
{
	fx_new(fx, o);
	list(fx, "");
	fx_requests(fx);
}

static void test_attributes(void **state)
{
	static const struct s3c_attrs late = { .mtime_ns = 9 };
	struct fx_options o = { .durable = true };
	struct s3c_info info;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_set(&fx, "f", "hello");
	assert_requests(&fx, "PUT 1");
	assert_int_equal(look(&fx, "f", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0640);
	assert_int_equal(info.mtime_ns, 7);
	sync_all(&fx);
	assert_requests(&fx, "COPY 1");
	stored_as(&fx, "f", "hello", 0640, 7);
	assert_int_equal(records(&fx), 0);
	/* By themselves after a moment. */
	set(&fx, "f", S3C_SET_MTIME, &late, 0);
	assert_requests(&fx, "");
	for (unsigned i = 0; i < 200 && records(&fx); i++)
		usleep(50000);
	assert_requests(&fx, "COPY 1");
	stored_as(&fx, "f", "hello", 0640, 9);
	/* With new content they cost nothing. */
	set(&fx, "f", S3C_SET_MTIME, &mtime_7, 0);
	fx_requests(&fx);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
	assert_requests(&fx, "DELETE 1");
	assert_int_equal(records(&fx), 0);
	assert_int_equal(look(&fx, "f", NULL), -ENOENT);
	fx_end(&fx);
	/* Of what was not just stored here: at once. */
	begin(&fx, &o);
	hand_file(&fx, "f", "theirs");
	s3c_names_invalidate(fx.engine, "", true);
	look(&fx, "f", NULL);
	fx_requests(&fx);
	set(&fx, "f", S3C_SET_MODE, &mode_640, 0);
	assert_requests(&fx, "COPY 1");
	fx_end(&fx);
}

static void test_directories(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	set(&fx, "d", S3C_SET_MODE, &mode_640, 0);
	make_file(&fx, "d/f", "hello");
	set(&fx, "d", S3C_SET_MTIME, &mtime_7, 0);
	assert_requests(&fx, "PUT 2");
	assert_int_equal(look(&fx, "d", &info), 0);
	assert_int_equal(info.mtime_ns, 7);
	sync_all(&fx);
	assert_requests(&fx, "PUT 1");
	hand_open(&fx, "d/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0640);
	assert_int_equal(header.attrs.mtime_ns, 7);
	assert_int_equal(records(&fx), 0);
	/* What works on the directory comes after it. */
	set(&fx, "d", S3C_SET_MODE, &dir_attrs, 0);
	assert_int_equal(move(&fx, "d", "e"), 0);
	hand_open(&fx, "e/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 0700);
	set(&fx, "e", S3C_SET_MODE, &mode_640, 0);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "e/f"), 0);
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "e"), 0);
	assert_false(hand_exists(&fx, "e/"));
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void test_rename(void **state)
{
	struct fx_options o = { .durable = true };
	char name[16];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_moved(&fx, 0);
	assert_requests(&fx, "PUT 1 COPY 1 DELETE 1");
	for (unsigned i = 1; i < FILES; i++)
		make_moved(&fx, i);
	assert_requests(&fx, "PUT 5 COPY 5");
	assert_true(hand_exists(&fx, "t5"));
	assert_int_equal(look(&fx, "t5", NULL), -ENOENT);
	assert_string_equal(list(&fx, ""), "f0 f1 f2 f3 f4 f5");
	fx_requests(&fx);
	sync_all(&fx);
	assert_requests(&fx, "LIST 1 MANY 1");
	assert_int_equal(records(&fx), 0);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		stored_as(&fx, name, "hello", 0640, 7);
		name[0] = 't';
		assert_false(hand_exists(&fx, name));
	}
	/* A name that is wanted again is free first. */
	make_moved(&fx, 6);
	fx_requests(&fx);
	make_file(&fx, "t6", "again");
	assert_requests(&fx, "PUT 1 DELETE 1");
	assert_content(&fx, "t6", "again");
	assert_content(&fx, "f6", "hello");
	fx_end(&fx);
}

static void *move_there(void *arg)
{
	return move(arg, "a", "b") == 0 ? NULL : arg;
}

static void *move_back(void *arg)
{
	return move(arg, "b", "a") == 0 ? NULL : arg;
}

/* Who has waited for the name finds it to be deleted: that comes first, or it would hit the file
   that is moved back, which is the very version that was to go. */
static void test_back_and_forth(void **state)
{
	struct s3c_fault_rule rule = { .op = S3C_STORE_COPY,
				       .key_substring = "b",
				       .kind = S3C_FAULT_STALL };
	struct fx_options o = { .durable = true };
	pthread_t there, back;
	void *failed;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_moved(&fx, 0);
	make_set(&fx, "a", "hello");
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(s3c_thread_start(&there, "there", move_there, &fx), 0);
	usleep(100000);
	assert_int_equal(s3c_thread_start(&back, "back", move_back, &fx), 0);
	usleep(100000);
	s3c_store_fault_clear(fx.store);
	s3c_store_fault_release(fx.store);
	pthread_join(there, &failed);
	assert_null(failed);
	pthread_join(back, &failed);
	assert_null(failed);
	sync_all(&fx);
	assert_content(&fx, "a", "hello");
	assert_false(hand_exists(&fx, "b"));
	assert_string_equal(list(&fx, ""), "a f0");
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* A version of another machine is not deleted with the rest, nor one that is gone missed. */
static void test_batch_looks(void **state)
{
	struct fx_options o = { .durable = true };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	for (unsigned i = 0; i < FILES; i++)
		make_moved(&fx, i);
	hand_file(&fx, "t2", "theirs");
	hand_delete(&fx, "t3");
	hand_file(&fx, "t33", "a neighbour");
	fx_requests(&fx);
	sync_all(&fx);
	assert_requests(&fx, "HEAD 2 LIST 1 DELETE 1 MANY 1");
	assert_content(&fx, "t2", "theirs");
	assert_content(&fx, "t33", "a neighbour");
	assert_false(hand_exists(&fx, "t1") || hand_exists(&fx, "t4") || hand_exists(&fx, "t5"));
	assert_reads(&fx, "t2", "theirs");
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* A refused DeleteObjects falls back to single ones; a store that is away is asked again. */
static void test_batch_fails(void **state)
{
	struct s3c_fault_rule rule = {
		.op = S3C_STORE_DELETE_MANY, .kind = S3C_FAULT_FAIL, .result = -EACCES, .times = 1
	};
	struct fx_options o = { .durable = true };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	for (unsigned i = 0; i < FILES; i++)
		make_moved(&fx, i);
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	fx_requests(&fx);
	sync_all(&fx);
	assert_requests(&fx, "LIST 1 DELETE 5");
	assert_int_equal(records(&fx), 0);
	rule.result = -ECONNRESET;
	rule.kind = S3C_FAULT_LOST;
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	for (unsigned i = 0; i < FILES; i++)
		make_moved(&fx, i);
	s3c_engine_sync(fx.engine, NULL);
	sync_all(&fx);
	assert_string_equal(list(&fx, ""), "f0 f1 f2 f3 f4 f5");
	assert_false(hand_exists(&fx, "t5"));
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void test_other_machine(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_header header;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_set(&fx, "f", "hello");
	make_set(&fx, "g", "hello");
	hand_file(&fx, "f", "theirs");
	hand_delete(&fx, "g");
	sync_all(&fx);
	assert_content(&fx, "f", "theirs");
	hand_open(&fx, "f", &header, NULL, 0);
	assert_int_equal(header.attrs.mode & 07777, 0640);
	assert_false(hand_exists(&fx, "g"));
	assert_int_equal(records(&fx), 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_string_equal(list(&fx, ""), "f");
	assert_reads(&fx, "f", "theirs");
	fx_end(&fx);
}

/* Deaths */

static void set_and_die(struct fx *fx, struct fx_options *o)
{
	(void)o;
	list(fx, "");
	make_set(fx, "f", "hello");
}

static void remove_and_die(struct fx *fx, struct fx_options *o)
{
	(void)o;
	set_and_die(fx, o);
	make_set(fx, "g", "hello");
	make_file(fx, "h", "new");
	assert_int_equal(s3c_engine_unlink(fx->engine, NULL, "f"), 0);
	assert_int_equal(move(fx, "h", "g"), 0);
}

static void move_and_die(struct fx *fx, struct fx_options *o)
{
	(void)o;
	list(fx, "");
	for (unsigned i = 0; i < FILES; i++)
		make_moved(fx, i);
}

static void *flush(void *arg)
{
	s3c_engine_sync(((struct fx *)arg)->engine, NULL);
	return NULL;
}

static void stall(struct fx *fx, enum s3c_store_opcode op, const char *key)
{
	struct s3c_fault_rule rule = { .op = op, .key_substring = key, .kind = S3C_FAULT_STALL };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void die_in_batch(struct fx *fx, struct fx_options *o)
{
	pthread_t thread;

	(void)o;
	move_and_die(fx, o);
	stall(fx, S3C_STORE_DELETE_MANY, NULL);
	assert_int_equal(s3c_thread_start(&thread, "flush", flush, fx), 0);
	usleep(300000);
}

static void *move_second(void *arg)
{
	move(arg, "t1", "f1");
	return NULL;
}

/* After the copy was made, before anything else. */
static void die_after_copy(struct fx *fx, struct fx_options *o)
{
	struct s3c_fault_rule lost = { .op = S3C_STORE_COPY,
				       .key_substring = "f1",
				       .kind = S3C_FAULT_LOST,
				       .result = -ECONNRESET };
	pthread_t thread;

	(void)o;
	list(fx, "");
	make_moved(fx, 0);
	make_set(fx, "t1", "hello");
	assert_int_equal(s3c_store_fault_add(fx->store, &lost), 0);
	stall(fx, S3C_STORE_HEAD, "f1");
	assert_int_equal(s3c_thread_start(&thread, "move", move_second, fx), 0);
	usleep(300000);
}

/* The journal knows that the name is gone, the object does not yet. */
static void die_as_moved(struct fx *fx, struct fx_options *o)
{
	struct s3c_pending *p;
	struct s3c_object *object;
	struct s3c_entry *base;

	(void)o;
	set_and_die(fx, o);
	object = s3c_object_find(fx->engine, "f");
	assert_non_null(object);
	base = s3c_object_base(object);
	assert_int_equal(s3c_object_freeze(object, NULL), 0);
	fx->engine->names->moved_ns = s3c_clock_monotonic_ns();
	assert_int_equal(s3c_pending_moved(fx->engine, base, object, false, &p), 0);
}

/* What takes its place was never stored: after the death it is as it was. */
static void die_replaced(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	set_and_die(fx, o);
	assert_int_equal(s3c_object_create(fx->engine, NULL, "t", &file_attrs, &object), 0);
	assert_int_equal(move(fx, "t", "f"), 0);
	records(fx);
}

/* Nobody can tell whether the old name is deleted. */
static void lose_deletes(struct fx *fx, enum s3c_fault_kind kind, enum s3c_fault_kind look)
{
	struct s3c_fault_rule lost = { .op = S3C_STORE_DELETE, .kind = kind, .result = -ETIMEDOUT };
	struct s3c_fault_rule away = {
		.op = S3C_STORE_HEAD, .key_substring = "old", .kind = look, .result = -ETIMEDOUT
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &lost), 0);
	assert_int_equal(s3c_store_fault_add(fx->store, &away), 0);
}

static void unknown_delete(const struct fx_options *o, enum s3c_fault_kind kind)
{
	struct s3c_object *object;
	struct fx fx;

	fx_new(&fx, o);
	make_file(&fx, "old", "hello");
	sync_all(&fx);
	list(&fx, "");
	assert_int_equal(s3c_object_open(fx.engine, NULL, "old", &object), 0);
	lose_deletes(&fx, kind, S3C_FAULT_FAIL);
	assert_int_equal(move(&fx, "old", "new"), 0);
	assert_string_equal(list(&fx, ""), "new");
	assert_int_equal(look(&fx, "old", NULL), -ENOENT);
	/* Who has it open writes on, under the new name. */
	assert_int_equal(s3c_object_write(object, NULL, 4, "O!", 2, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
	s3c_store_fault_clear(fx.store);
	sync_all(&fx);
	assert_content(&fx, "new", "hellO!");
	assert_false(hand_exists(&fx, "old"));
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void die_unknown(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_file(fx, "old", "hello");
	sync_all(fx);
	lose_deletes(fx, S3C_FAULT_FAIL, S3C_FAULT_FAIL);
	assert_int_equal(move(fx, "old", "new"), 0);
}

struct moving {
	struct fx *fx;
	const char *from, *to;
	int result;
};

static void *move_it(void *arg)
{
	struct moving *m = arg;

	m->result = move(m->fx, m->from, m->to);
	return NULL;
}

/* Somebody goes on writing to path, and syncs, while it, or its directory, is renamed: the copies
   are under way. They end with release. */
static void write_meanwhile(struct moving *m, pthread_t *thread, const char *path)
{
	struct fx *fx = m->fx;
	struct s3c_object *object;

	make_file(fx, path, "hello");
	sync_all(fx);
	list(fx, "");
	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	stall(fx, S3C_STORE_COPY, NULL);
	assert_int_equal(s3c_thread_start(thread, "move", move_it, m), 0);
	usleep(300000);
	assert_int_equal(s3c_object_write(object, NULL, 4, "O!", 2, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
}

/* The delete is done, and nobody here has heard of it. */
static void die_written(struct fx *fx, struct fx_options *o)
{
	struct moving m = { fx, "old", "new", 0 };
	pthread_t thread;

	(void)o;
	write_meanwhile(&m, &thread, "old");
	lose_deletes(fx, S3C_FAULT_LOST, S3C_FAULT_STALL);
	s3c_store_fault_release(fx->store);
	usleep(300000);
}

static void die_written_below(struct fx *fx, struct fx_options *o)
{
	struct moving m = { fx, "old", "new", 0 };
	struct s3c_fault_rule lost = { .op = S3C_STORE_DELETE_MANY,
				       .kind = S3C_FAULT_LOST,
				       .result = -ETIMEDOUT };
	pthread_t thread;

	(void)o;
	assert_int_equal(s3c_engine_mkdir(fx->engine, NULL, "old", &dir_attrs), 0);
	write_meanwhile(&m, &thread, "old/f");
	assert_int_equal(s3c_store_fault_add(fx->store, &lost), 0);
	stall(fx, S3C_STORE_LIST, NULL);
	s3c_store_fault_release(fx->store);
	usleep(300000);
}

/* Nobody hears of it, and the rename is done: with what was written meanwhile. */
static void die_written_unknown(struct fx *fx, struct fx_options *o)
{
	struct moving m = { fx, "old", "new", 0 };
	pthread_t thread;

	(void)o;
	write_meanwhile(&m, &thread, "old");
	lose_deletes(fx, S3C_FAULT_LOST, S3C_FAULT_FAIL);
	s3c_store_fault_release(fx->store);
	pthread_join(thread, NULL);
	assert_int_equal(m.result, 0);
	records(fx);
}

/* All is done but for the record of the rename, which was to go after that of the file went over.
 */
static void die_written_followed(struct fx *fx, struct fx_options *o)
{
	struct moving m = { fx, "old", "new", 0 };
	struct s3c_fault_rule away = { .op = S3C_STORE_PUT,
				       .kind = S3C_FAULT_FAIL,
				       .result = -ETIMEDOUT };
	struct s3c_object *object;
	struct s3c_entry *source;
	pthread_t thread;
	uint64_t id;

	(void)o;
	write_meanwhile(&m, &thread, "old");
	object = s3c_object_find(fx->engine, "old");
	source = s3c_object_base(object);
	assert_int_equal(s3c_store_fault_add(fx->store, &away), 0);
	s3c_store_fault_release(fx->store);
	pthread_join(thread, NULL);
	assert_int_equal(m.result, 0);
	assert_int_equal(s3c_rename_record(fx->engine, "old", "new", source, &id), 0);
}

static void test_written_meanwhile(void **state)
{
	static const struct {
		void (*die)(struct fx *fx, struct fx_options *o);
		const char *path, *names;
	} cases[] = {
		{ die_written, "new", "new" },
		{ die_written_below, "new/f", "new/" },
		{ die_written_unknown, "new", "new" },
		{ die_written_followed, "new", "new" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fx_options o = { .durable = true, .writeback = true };
		char dir[64];
		struct fx fx;

		fresh_dir(&o, dir);
		killed(cases[i].die, &o);
		fx_new(&fx, &o);
		assert_reads(&fx, cases[i].path, "hellO!");
		assert_string_equal(list(&fx, ""), cases[i].names);
		sync_all(&fx);
		assert_content(&fx, cases[i].path, "hellO!");
		assert_false(hand_exists(&fx, "old") || hand_exists(&fx, "old/f"));
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

static void test_unknown_delete(void **state)
{
	struct fx_options o = { .durable = true };
	char dir[64];
	struct fx fx;

	(void)state;
	for (int writeback = 0; writeback < 2; writeback++) {
		o.writeback = writeback;
		unknown_delete(&o, S3C_FAULT_LOST);
		unknown_delete(&o, S3C_FAULT_FAIL);
	}
	o.writeback = false;
	fresh_dir(&o, dir);
	killed(die_unknown, &o);
	fx_new(&fx, &o);
	assert_string_equal(list(&fx, ""), "new");
	sync_all(&fx);
	assert_false(hand_exists(&fx, "old"));
	fx_end(&fx);
	/* Without a journal there is nobody who would see to it. */
	fx_new(&fx, &plain_options);
	make_file(&fx, "old", "hello");
	lose_deletes(&fx, S3C_FAULT_FAIL, S3C_FAULT_FAIL);
	assert_int_equal(move(&fx, "old", "new"), -ETIMEDOUT);
	s3c_store_fault_clear(fx.store);
	assert_reads(&fx, "old", "hello");
	assert_reads(&fx, "new", "hello");
	fx_end(&fx);
}

static void test_deaths(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_info info;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(set_and_die, &o);
	fx_new(&fx, &o);
	assert_int_equal(fx.recovery.objects, 1);
	assert_int_equal(look(&fx, "f", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0640);
	assert_int_equal(info.mtime_ns, 7);
	assert_reads(&fx, "f", "hello");
	sync_all(&fx);
	stored_as(&fx, "f", "hello", 0640, 7);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);

	fresh_dir(&o, dir);
	killed(die_replaced, &o);
	fx_new(&fx, &o);
	assert_string_equal(list(&fx, ""), "f");
	sync_all(&fx);
	stored_as(&fx, "f", "hello", 0640, 7);
	fx_end(&fx);

	fresh_dir(&o, dir);
	killed(remove_and_die, &o);
	fx_new(&fx, &o);
	assert_string_equal(list(&fx, ""), "g");
	assert_reads(&fx, "g", "new");
	sync_all(&fx);
	assert_content(&fx, "g", "new");
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void moved_all(struct fx_options *o)
{
	struct fx fx;

	fx_new(&fx, o);
	assert_string_equal(list(&fx, ""), "f0 f1 f2 f3 f4 f5");
	assert_reads(&fx, "f5", "hello");
	sync_all(&fx);
	assert_int_equal(records(&fx), 0);
	stored_as(&fx, "f5", "hello", 0640, 7);
	assert_false(hand_exists(&fx, "t5") || hand_exists(&fx, "t1"));
	fx_end(&fx);
}

static void test_deaths_of_renames(void **state)
{
	struct fx_options o = { .durable = true };
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(move_and_die, &o);
	moved_all(&o);
	fresh_dir(&o, dir);
	killed(die_in_batch, &o);
	moved_all(&o);
	fresh_dir(&o, dir);
	killed(die_as_moved, &o);
	fx_new(&fx, &o);
	assert_int_equal(fx.recovery.objects, 0);
	assert_string_equal(list(&fx, ""), "");
	sync_all(&fx);
	assert_false(hand_exists(&fx, "f"));
	fx_end(&fx);
	/* It was not acknowledged: both are whole, with the attributes that were. */
	fresh_dir(&o, dir);
	killed(die_after_copy, &o);
	fx_new(&fx, &o);
	assert_string_equal(list(&fx, ""), "f0 f1 t1");
	sync_all(&fx);
	stored_as(&fx, "t1", "hello", 0640, 7);
	stored_as(&fx, "f1", "hello", 0640, 7);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* Records whose end a power cut took back tell of what is long past. */
static void test_stale_records(void **state)
{
	static const struct s3c_attrs later = { .mode = 0604 };
	struct fx_options o = { .durable = true };
	cleanup_free char *command = NULL;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	begin(&fx, &o);
	make_set(&fx, "f", "hello");
	make_set(&fx, "g", "hello");
	assert_int_equal(records(&fx), 2);
	command = s3c_asprintf("cp -r '%s/state' '%s/synced' && rm -f '%s/synced/lock'", fx.dir,
			       fx.dir, fx.dir);
	assert_int_equal(system(command), 0);
	set(&fx, "f", S3C_SET_MODE, &later, 0);
	sync_all(&fx);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "g"), 0);
	fx_stop(&fx);
	o.state = "synced";
	fx_new(&fx, &o);
	assert_int_equal(fx.recovery.objects, 0);
	assert_int_equal(fx.recovery.done, 2);
	assert_string_equal(list(&fx, ""), "f");
	sync_all(&fx);
	stored_as(&fx, "f", "hello", 0604, 7);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* In writeback, where the store has no condition on DELETE, all are looked at together. */
static void test_writeback(void **state)
{
	struct fx_options o = { .writeback = true, .no_caps = true };
	char name[16];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		make_file(&fx, name, "hello");
	}
	sync_all(&fx);
	fx_requests(&fx);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, name), 0);
	}
	sync_all(&fx);
	assert_requests(&fx, "LIST 1 MANY 1");
	assert_int_equal(records(&fx), 0);
	assert_false(hand_exists(&fx, "f0"));
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_back_and_forth),
		cmocka_unit_test(test_batch_looks),
		cmocka_unit_test(test_batch_fails),
		cmocka_unit_test(test_other_machine),
		cmocka_unit_test(test_unknown_delete),
		cmocka_unit_test(test_written_meanwhile),
		cmocka_unit_test(test_deaths),
		cmocka_unit_test(test_deaths_of_renames),
		cmocka_unit_test(test_stale_records),
		cmocka_unit_test(test_writeback),
	};

	assert_int_equal(s3c_secret_init(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
