/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the journal keeps of contents. Daemons that die are child processes which end by SIGKILL;
 * what they had acknowledged stands in shared memory.
 */
#include "engine_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/secret.h"
#include "engine/content.h"
#include "engine/durable.h"

#define SEG ((size_t)S3C_SEGMENT_SIZE)
#define KIB ((size_t)1024)

static const struct s3c_attrs made_attrs = { .known = true, .mode = S_IFREG | 0644, .uid = 7 };

static void fill(uint8_t *data, uint64_t offset, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t at = offset + i;

		data[i] = (uint8_t)((at * 167 + (at >> 8) * 13 + (at >> 16) * 71 + seed * 29) ^
				    (at >> 23));
	}
}

static uint8_t *pattern(size_t len, unsigned seed)
{
	uint8_t *data = malloc(len + 1);

	assert_non_null(data);
	fill(data, 0, len, seed);
	return data;
}

static void write_all(struct s3c_object *object, uint64_t offset, const uint8_t *data, size_t len)
{
	for (size_t at = 0; at < len; at += 1u << 20)
		assert_int_equal(s3c_object_write(object, NULL, offset + at, data + at,
						  S3C_MIN(len - at, (size_t)1 << 20), false),
				 0);
}

/* 0, or the offset + 1 of the first byte that differs. */
static uint64_t differs(struct fx *fx, struct s3c_object *object, const uint8_t *expect, size_t len)
{
	struct s3c_info info;

	s3c_object_info(object, &info);
	if (info.size != len)
		return UINT64_MAX;
	for (size_t at = 0; at < len;) {
		struct s3c_pages pages;
		size_t part = S3C_MIN(len - at, (size_t)1 << 20), done = 0;

		assert_int_equal(s3c_object_read(object, NULL, at, part, NULL, &pages), 0);
		for (unsigned i = 0; i < pages.count; i++) {
			if (memcmp(pages.iov[i].iov_base, expect + at + done,
				   pages.iov[i].iov_len) != 0) {
				s3c_pages_release(fx->engine, &pages);
				return at + done + 1;
			}
			done += pages.iov[i].iov_len;
		}
		s3c_pages_release(fx->engine, &pages);
		at += part;
	}
	return 0;
}

static void path_equal(struct fx *fx, const char *path, const uint8_t *expect, size_t len)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	if (differs(fx, object, expect, len))
		fail_msg("%s is not what was acknowledged", path);
	s3c_object_close(object);
}

/* Runs body in a process that is then killed. */
static void killed(void (*body)(struct fx *fx, struct fx_options *o), struct fx_options *o)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct fx fx;

		/* A failed assertion ends the child, and not by SIGKILL. */
		setenv("CMOCKA_TEST_ABORT", "1", 1);

		fx_open(&fx, o);
		fx_start(&fx, o);
		body(&fx, o);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Not by a failed assertion. */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void fresh_dir(struct fx_options *o, char dir[64])
{
	strcpy(dir, "/tmp/s3cryptfs-durable.XXXXXX");
	assert_non_null(mkdtemp(dir));
	o->dir = dir;
}

static uint64_t records(struct fx *fx)
{
	uint64_t count, bytes;

	assert_int_equal(s3c_journal_sync(fx->journal), 0);
	assert_int_equal(s3c_journal_pending(fx->journal, &count, &bytes), 0);
	return count;
}

static void begin(struct fx *fx, struct fx_options *o)
{
	fx_open(fx, o);
	fx_start(fx, o);
}

static void fault(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind, int result)
{
	struct s3c_fault_rule rule = { .op = op, .kind = kind, .result = result };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void create_close(struct fx *fx, const char *path, size_t len, unsigned seed)
{
	cleanup_free uint8_t *data = pattern(len, seed);
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &made_attrs, &object), 0);
	write_all(object, 0, data, len);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
}

static void die_after_close(struct fx *fx, struct fx_options *o)
{
	(void)o;
	create_close(fx, "small", 100 * KIB + 5, 1);
	create_close(fx, "empty", 0, 2);
	create_close(fx, "large", SEG + 70 * KIB, 3);
}

static void test_close(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *small = pattern(100 * KIB + 5, 1);
	cleanup_free uint8_t *large = pattern(SEG + 70 * KIB, 3);
	struct s3c_info info;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_after_close, &o);
	begin(&fx, &o);
	assert_int_equal(fx.recovery.objects, 3);
	assert_int_equal(fx.recovery.failed, 0);
	assert_string_equal(fx_requests(&fx), "");
	assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "small", &info), 0);
	assert_int_equal(info.size, 100 * KIB + 5);
	assert_int_equal(info.mode, S_IFREG | 0644);
	assert_int_equal(info.uid, 7);
	path_equal(&fx, "small", small, 100 * KIB + 5);
	path_equal(&fx, "large", large, SEG + 70 * KIB);
	path_equal(&fx, "empty", small, 0);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_stop(&fx);
	/* Another machine sees it. */
	o.state = "state2";
	begin(&fx, &o);
	assert_int_equal(fx.recovery.objects, 0);
	path_equal(&fx, "small", small, 100 * KIB + 5);
	path_equal(&fx, "large", large, SEG + 70 * KIB);
	fx_end(&fx);
}

#define CHANGED_SIZE (3 * SEG + 12345)

static void store_changed(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	(void)o;
	create_close(fx, "f", CHANGED_SIZE, 9);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(records(fx), 0);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 5, "abc", 3, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, SEG + 65535, "XY", 2, false), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 2 * SEG + 100), 0);
	assert_int_equal(s3c_object_write(object, NULL, 2 * SEG + 200000, "end", 3, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	/* Not acknowledged: none of it may show. */
	assert_int_equal(s3c_object_write(object, NULL, 0, "zzzzzzzz", 8, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, SEG, "zzzzzzzz", 8, false), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 100), 0);
}

static void test_change(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	size_t size = 2 * SEG + 200003;
	cleanup_free uint8_t *expect = pattern(CHANGED_SIZE, 9);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(expect + 5, "abc", 3);
	memcpy(expect + SEG + 65535, "XY", 2);
	memset(expect + 2 * SEG + 100, 0, size - (2 * SEG + 100));
	memcpy(expect + size - 3, "end", 3);
	fresh_dir(&o, dir);
	killed(store_changed, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", expect, size);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	path_equal(&fx, "f", expect, size);
	assert_int_equal(records(&fx), 0);
	fx_stop(&fx);
	o.state = "state2";
	begin(&fx, &o);
	path_equal(&fx, "f", expect, size);
	fx_end(&fx);
}

/* commit=close: the error is told, the bytes are kept. */
static void fail_close(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(200 * KIB, 4);
	struct s3c_object *object;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	assert_int_equal(s3c_object_create(fx->engine, NULL, "kept", &made_attrs, &object), 0);
	write_all(object, 0, data, 200 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), -EIO);
	s3c_object_close(object);
	path_equal(fx, "kept", data, 200 * KIB);
	assert_true(records(fx) > 0);
}

static void test_failed_close(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	cleanup_free uint8_t *data = pattern(200 * KIB, 4);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(fail_close, &o);
	begin(&fx, &o);
	assert_int_equal(fx.recovery.objects, 1);
	path_equal(&fx, "kept", data, 200 * KIB);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_stop(&fx);
	begin(&fx, &o);
	path_equal(&fx, "kept", data, 200 * KIB);
	fx_end(&fx);
}

/* The store has it, and nobody was told. */
static void lose_reply(struct fx *fx, struct fx_options *o)
{
	(void)o;
	create_close(fx, "lost", 70 * KIB, 5);
	fault(fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNRESET);
	fault(fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNRESET);
	assert_true(s3c_engine_sync(fx->engine, NULL) < 0);
}

static void test_lost_reply(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(70 * KIB, 5);
	struct s3c_listing *list;
	char dir[64];
	struct fx fx;

	(void)state;
	for (int caps = 0; caps < 2; caps++) {
		o.no_caps = caps == 1;
		o.state = NULL;
		fresh_dir(&o, dir);
		killed(lose_reply, &o);
		begin(&fx, &o);
		assert_int_equal(fx.recovery.failed, 0);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		path_equal(&fx, "lost", data, 70 * KIB);
		assert_int_equal(records(&fx), 0);
		/* No second file as after a conflict. */
		assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &list), 0);
		assert_int_equal(list->count, 1);
		s3c_listing_put(list);
		fx_end(&fx);
	}
}

/* Somebody else wrote the name while we were away. */
static void test_conflict(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct fx_options other = { .enc = S3C_ENC_CSE_KEY, .state = "other" };
	cleanup_free uint8_t *small = pattern(100 * KIB + 5, 1);
	cleanup_free uint8_t *theirs = pattern(40 * KIB, 8);
	struct s3c_listing *list;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_after_close, &o);
	other.dir = dir;
	begin(&fx, &other);
	create_close(&fx, "small", 40 * KIB, 8);
	fx_stop(&fx);
	begin(&fx, &o);
	/* -ESTALE, unless it was sent before this asked. */
	s3c_engine_sync(fx.engine, NULL);
	path_equal(&fx, "small", theirs, 40 * KIB);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &list), 0);
	assert_int_equal(list->count, 4);
	for (size_t i = 0; i < list->count; i++)
		if (strstr(list->items[i].name, "small.conflict-"))
			path_equal(&fx, list->items[i].name, small, 100 * KIB + 5);
	s3c_listing_put(list);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* Random work, killed at random times: of each file the last acknowledged view or a later one. */

#define FILES 3u
#define FILE_MAX (2 * SEG + 300 * KIB)

struct view {
	uint32_t size;
	uint8_t data[FILE_MAX];
};
/*
 * Beside what was acknowledged a later view may be found: the store is brought up to date in the
 * background with what an open file is at the moment. since: digests of the views after the last
 * acknowledgement.
 */
#define SINCE_MAX 4096u
struct shared {
	uint32_t since_count[FILES];
	uint8_t since[FILES][SINCE_MAX][S3C_SHA256_LEN];
	/* acked: of the last sync that returned. trying: of one that did not return yet. */
	struct view acked[FILES], trying[FILES];
	uint32_t is_acked[FILES], is_trying[FILES];
};
static struct shared *shared;
static struct view *now[FILES];
/*
 * rough: others sync and commit the same files meanwhile, and the store fails now and then. A write
 * is one chunk then, so that all views are known.
 */
static bool rough;
static size_t file_max = FILE_MAX;

static void note_view(unsigned i)
{
	struct view *view = now[i];
	uint32_t n = shared->since_count[i];

	assert_true(n < SINCE_MAX);
	assert_int_equal(s3c_sha256(view->data, view->size, shared->since[i][n]), 0);
	__atomic_store_n(&shared->since_count[i], n + 1, __ATOMIC_SEQ_CST);
}

static void random_change(struct s3c_object *object, unsigned i, unsigned *seed)
{
	struct view *view = now[i];
	unsigned what = (unsigned)rand_r(seed) % 10;
	size_t at = (size_t)rand_r(seed) % (view->size + 70 * KIB);
	size_t len = 1 + (size_t)rand_r(seed) % (what < 8 ? 5000 : file_max / 6);
	cleanup_free uint8_t *data = NULL;
	int r;

	if (what == 0) {
		uint32_t size = (uint32_t)(at % (view->size + 1000));

		size = (uint32_t)S3C_MIN((size_t)size, file_max);
		if (size > view->size)
			memset(view->data + view->size, 0, size - view->size);
		view->size = size;
		note_view(i);
		do
			r = s3c_object_truncate(object, NULL, size);
		while (r < 0 && rough);
		assert_int_equal(r, 0);
		return;
	}
	if (at >= file_max)
		return;
	len = S3C_MIN(len, file_max - at);
	data = pattern(len, (unsigned)rand_r(seed));
	for (size_t done = 0, part; done < len; done += part) {
		part = S3C_MIN(len - done,
			       rough ? S3C_CHUNK_SIZE - (at + done) % S3C_CHUNK_SIZE : 256 * KIB);
		if (at + done > view->size)
			memset(view->data + view->size, 0, at + done - view->size);
		memcpy(view->data + at + done, data + done, part);
		view->size = (uint32_t)S3C_MAX((size_t)view->size, at + done + part);
		note_view(i);
		do
			r = s3c_object_write(object, NULL, at + done, data + done, part, false);
		while (r < 0 && rough);
		assert_int_equal(r, 0);
	}
}

static void copy_view(struct view *to, const struct view *from)
{
	to->size = from->size;
	memcpy(to->data, from->data, from->size);
}

struct rough_work {
	struct fx *fx;
	pthread_mutex_t lock;
	struct s3c_object *objects[FILES];
	unsigned seed;
};

static void set_object(struct rough_work *w, unsigned i, struct s3c_object *object)
{
	pthread_mutex_lock(&w->lock);
	w->objects[i] = object;
	pthread_mutex_unlock(&w->lock);
}

/* What nobody waits for to be acknowledged. */
static void *disturb(void *arg)
{
	struct rough_work *w = arg;
	unsigned seed = __atomic_fetch_add(&w->seed, 1, __ATOMIC_SEQ_CST);

	for (;;) {
		struct s3c_object *object;

		usleep((unsigned)rand_r(&seed) % 20000);
		pthread_mutex_lock(&w->lock);
		object = w->objects[(unsigned)rand_r(&seed) % FILES];
		if (object)
			s3c_object_ref(object);
		pthread_mutex_unlock(&w->lock);
		if (!object)
			continue;
		if (rand_r(&seed) % 3)
			s3c_object_commit(object, NULL);
		else
			s3c_object_sync(object, NULL, S3C_SYNC_FSYNC);
		s3c_object_close(object);
	}
	return NULL;
}

static void *break_store(void *arg)
{
	static const enum s3c_store_opcode ops[] = { S3C_STORE_PUT, S3C_STORE_UPLOAD_COMPLETE,
						     S3C_STORE_UPLOAD_PART };
	struct rough_work *w = arg;
	unsigned seed = w->seed + 1000;

	for (;;) {
		struct s3c_fault_rule rule = {
			.op = ops[(unsigned)rand_r(&seed) % ARRAY_LEN(ops)],
			.kind = rand_r(&seed) % 2 ? S3C_FAULT_FAIL : S3C_FAULT_LOST,
			.result = -ECONNRESET,
			.times = 1 + (unsigned)rand_r(&seed) % 6,
		};

		usleep((unsigned)rand_r(&seed) % 100000);
		s3c_store_fault_add(w->fx->store, &rule);
		/* Nor is what became of it told. */
		rule.op = S3C_STORE_GET;
		rule.kind = S3C_FAULT_FAIL;
		rule.times = 1 + (unsigned)rand_r(&seed) % 2;
		if (rand_r(&seed) % 2)
			s3c_store_fault_add(w->fx->store, &rule);
	}
	return NULL;
}

static void work(struct fx *fx, unsigned seed)
{
	static struct rough_work w = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct s3c_object **objects = w.objects;
	char name[] = "f0";
	pthread_t thread;

	w.fx = fx;
	w.seed = seed;
	for (int i = 0; rough && i < 3; i++)
		assert_int_equal(pthread_create(&thread, NULL, i ? disturb : break_store, &w), 0);

	for (;;) {
		unsigned i = (unsigned)rand_r(&seed) % FILES, what = (unsigned)rand_r(&seed) % 12;
		struct s3c_object *object = objects[i];
		int r;

		name[1] = (char)('0' + i);
		if (!object) {
			r = s3c_object_open(fx->engine, NULL, name, &object);
			if (r == -ENOENT)
				r = s3c_object_create(fx->engine, NULL, name, &made_attrs, &object);
			/* A GET that fails. */
			if (r < 0 && rough)
				continue;
			assert_int_equal(r, 0);
			set_object(&w, i, object);
		}
		if (what < 8) {
			random_change(object, i, &seed);
			continue;
		}
		copy_view(&shared->trying[i], now[i]);
		__atomic_store_n(&shared->is_trying[i], 1, __ATOMIC_SEQ_CST);
		r = what == 8 ? s3c_object_commit(object, NULL)
			      : s3c_object_sync(object, NULL, S3C_SYNC_CLOSE);
		if (r < 0 && rough)
			continue;
		assert_int_equal(r, 0);
		/* While this is copied, trying is as good. */
		__atomic_store_n(&shared->is_acked[i], 0, __ATOMIC_SEQ_CST);
		copy_view(&shared->acked[i], now[i]);
		__atomic_store_n(&shared->is_acked[i], 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&shared->is_trying[i], 0, __ATOMIC_SEQ_CST);
		shared->since_count[i] = 0;
		if (what == 9) {
			set_object(&w, i, NULL);
			s3c_object_close(object);
		}
	}
}

/* Reads the file as it is into now. Is it a view of after the acknowledgement? */
static bool later_view(struct fx *fx, struct s3c_object *object, unsigned i)
{
	uint8_t digest[S3C_SHA256_LEN];
	struct s3c_info info;

	s3c_object_info(object, &info);
	assert_true(info.size <= FILE_MAX);
	now[i]->size = (uint32_t)info.size;
	for (size_t at = 0; at < info.size;) {
		struct s3c_pages pages;
		size_t part = S3C_MIN((size_t)info.size - at, (size_t)1 << 20);

		assert_int_equal(s3c_object_read(object, NULL, at, part, NULL, &pages), 0);
		for (unsigned k = 0; k < pages.count; k++) {
			memcpy(now[i]->data + at, pages.iov[k].iov_base, pages.iov[k].iov_len);
			at += pages.iov[k].iov_len;
		}
		s3c_pages_release(fx->engine, &pages);
	}
	assert_int_equal(s3c_sha256(now[i]->data, now[i]->size, digest), 0);
	for (uint32_t n = 0; n < shared->since_count[i]; n++)
		if (memcmp(shared->since[i][n], digest, sizeof(digest)) == 0)
			return true;
	return false;
}

static void check_file(struct fx *fx, unsigned i, unsigned run)
{
	char name[] = "f0";
	struct s3c_object *object;
	uint64_t acked = UINT64_MAX, trying = UINT64_MAX;
	int r;

	name[1] = (char)('0' + i);
	r = s3c_object_open(fx->engine, NULL, name, &object);
	if (r == -ENOENT) {
		if (shared->is_acked[i])
			fail_msg("run %u: %s was acknowledged and is gone", run, name);
		now[i]->size = 0;
		return;
	}
	assert_int_equal(r, 0);
	if (shared->is_acked[i])
		acked = differs(fx, object, shared->acked[i].data, shared->acked[i].size);
	if (acked && shared->is_trying[i])
		trying = differs(fx, object, shared->trying[i].data, shared->trying[i].size);
	if (acked && trying && later_view(fx, object, i))
		;
	else if (acked && trying && shared->is_acked[i])
		fail_msg("run %u: %s differs: acked %jx (of %u), trying %jx (%s, %u)", run, name,
			 (uintmax_t)acked, shared->acked[i].size, (uintmax_t)trying,
			 shared->is_trying[i] ? "yes" : "no", shared->trying[i].size);
	if (acked && trying && shared->is_acked[i]) {
		; /* now has it */
	} else if (acked && trying) {
		/* Created, nothing acknowledged: begin anew. */
		assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		now[i]->size = 0;
	} else {
		copy_view(now[i], acked == 0 ? &shared->acked[i] : &shared->trying[i]);
	}
	copy_view(&shared->acked[i], now[i]);
	shared->is_acked[i] = 1;
	shared->is_trying[i] = 0;
	shared->since_count[i] = 0;
	s3c_object_close(object);
}

/* Nothing was taken for somebody else's. */
static void check_names(struct fx *fx, unsigned run)
{
	struct s3c_listing *listing;

	assert_int_equal(s3c_engine_list(fx->engine, NULL, "", &listing), 0);
	for (size_t i = 0; i < listing->count; i++)
		if (strlen(listing->items[i].name) != 2)
			fail_msg("run %u: there is %s", run, listing->items[i].name);
	s3c_listing_put(listing);
}

static void fuzz(struct fx_options *o, unsigned runs, unsigned seed)
{
	char dir[64];
	struct fx fx;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	for (unsigned i = 0; i < FILES; i++) {
		now[i] = calloc(1, sizeof(*now[i]));
		assert_non_null(now[i]);
	}
	fresh_dir(o, dir);
	for (unsigned run = 0; run < runs; run++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			setenv("CMOCKA_TEST_ABORT", "1", 1);
			begin(&fx, o);
			work(&fx, seed + run);
		}
		usleep(100000 + (unsigned)rand_r(&seed) % (run % 5 ? 900000 : 4000000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		begin(&fx, o);
		for (unsigned i = 0; i < FILES; i++)
			check_file(&fx, i, run);
		check_names(&fx, run);
		/* Every other time the rest is left to the next one, by another kill. */
		if (run % 3 == 0) {
			assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
			for (unsigned i = 0; i < FILES; i++)
				check_file(&fx, i, run);
			check_names(&fx, run);
			assert_int_equal(records(&fx), 0);
		}
		fx_stop(&fx);
	}
	begin(&fx, o);
	fx_end(&fx);
	for (unsigned i = 0; i < FILES; i++)
		free(now[i]);
	munmap(shared, sizeof(*shared));
}

static void test_kill(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true, .memory = 64u << 20 };
	const char *runs = getenv("S3C_TEST_RUNS");

	(void)state;
	fuzz(&o, runs ? (unsigned)atoi(runs) : 8, 4711);
}

static void test_kill_small(void **state)
{
	/* Memory that does not hold the files: spill and journal. */
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true, .memory = 20u << 20 };
	const char *runs = getenv("S3C_TEST_RUNS");

	(void)state;
	fuzz(&o, runs ? (unsigned)atoi(runs) : 5, 99);
}

static void test_kill_rough(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true, .memory = 64u << 20 };
	const char *runs = getenv("S3C_TEST_RUNS");

	(void)state;
	rough = true;
	file_max = 700 * KIB;
	fuzz(&o, runs ? (unsigned)atoi(runs) : 8, 1234);
	o.no_caps = true;
	fuzz(&o, runs ? (unsigned)atoi(runs) : 4, 5678);
	file_max = FILE_MAX;
	o.no_caps = false;
	o.memory = 20u << 20;
	fuzz(&o, runs ? (unsigned)atoi(runs) : 4, 910);
	rough = false;
}

/* A commit publishes what the journal has not, while the writer goes on. */

static void *commit_thread(void *arg)
{
	s3c_object_commit(arg, NULL);
	return NULL;
}

static void stale_chunks(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(300 * KIB, 11);
	struct s3c_object *object;
	pthread_t thread;

	(void)o;
	assert_int_equal(s3c_object_create(fx->engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, 0, data, 300 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_object_write(object, NULL, 10, "second", 6, false), 0);
	fault(fx, S3C_STORE_PUT, S3C_FAULT_STALL, 0);
	assert_int_equal(pthread_create(&thread, NULL, commit_thread, object), 0);
	usleep(300000);
	assert_int_equal(s3c_object_write(object, NULL, 200 * KIB, "third", 5, false), 0);
	if (o->state) /* acknowledged on what is about to be replaced */
		assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	s3c_store_fault_clear(fx->store);
	s3c_store_fault_release(fx->store);
	pthread_join(thread, NULL);
	assert_int_equal(s3c_object_write(object, NULL, 130 * KIB, "fourth", 6, false), 0);
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
}

static void test_stale_chunks(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *expect = pattern(300 * KIB, 11);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(expect + 10, "second", 6);
	memcpy(expect + 130 * KIB, "fourth", 6);
	memcpy(expect + 200 * KIB, "third", 5);
	for (int i = 0; i < 2; i++) {
		o.state = i ? "state" : NULL;
		fresh_dir(&o, dir);
		killed(stale_chunks, &o);
		begin(&fx, &o);
		path_equal(&fx, "f", expect, 300 * KIB);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		path_equal(&fx, "f", expect, 300 * KIB);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* The journal refuses a view: what it has stays as it was. */

static uint64_t *measured; /* bytes of records, shared */

static void fill_journal(struct fx *fx, struct fx_options *o)
{
	struct s3c_record_stats stats;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	create_close(fx, "f", 128 * KIB, 12);
	s3c_record_stats(fx->journal, &stats);
	*measured = stats.bytes;
}

static void overfill_journal(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(64 * KIB, 13);
	struct s3c_object *object;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 128 * KIB, data, 64 * KIB, false), 0);
	/* Neither the journal nor the store takes it. */
	assert_true(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC) < 0);
	assert_true(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC) < 0);
}

static void test_refused(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *expect = pattern(128 * KIB, 12);
	char dir[64];
	struct fx fx;

	(void)state;
	measured = mmap(NULL, sizeof(*measured), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	assert_ptr_not_equal(measured, MAP_FAILED);
	fresh_dir(&o, dir);
	killed(fill_journal, &o);
	/* The chunk fits, what comes with it does not. */
	o.journal_size = *measured + 64 * KIB + 10;
	killed(overfill_journal, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", expect, 128 * KIB);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	path_equal(&fx, "f", expect, 128 * KIB);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
	munmap(measured, sizeof(*measured));
}

/* Killed between the chunks of a large view and the transaction that makes them count. */
static void leave_orphans(struct fx *fx, struct fx_options *o)
{
	struct s3c_tx *tx;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	create_close(fx, "f", 70 * KIB, 14);
	for (uint64_t i = 0; i < 5; i++) {
		assert_int_equal(s3c_tx_new(fx->journal, &tx), 0);
		assert_int_equal(s3c_tx_put(tx, S3C_RECORD_CHUNK, 4711 + i % 2, i, "x", 1), 0);
		assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	}
}

static void test_orphans(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *expect = pattern(70 * KIB, 14);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(leave_orphans, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", expect, 70 * KIB);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* The store took a view that is later than the acknowledged one: all of it, or nothing. */
static void publish_later(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(300 * KIB, 15);
	struct s3c_object *object;
	pthread_t thread;

	create_close(fx, "f", 300 * KIB, 15);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	/* All of it is here: the commit needs no GET. */
	assert_int_equal(differs(fx, object, data, 300 * KIB), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "one", 3, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "two", 3, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, 100 * KIB, "two", 3, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, 300 * KIB, "more", 4, false), 0);
	fault(fx, S3C_STORE_PUT, o->state ? S3C_FAULT_FAIL : S3C_FAULT_LOST, -ECONNRESET);
	/* Killed while it asks what became of it. */
	fault(fx, S3C_STORE_GET, S3C_FAULT_STALL, 0);
	assert_int_equal(pthread_create(&thread, NULL, commit_thread, object), 0);
	usleep(300000);
}

static void test_later_view(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *one = pattern(300 * KIB, 15), *two = pattern(300 * KIB + 4, 15);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(one, "one", 3);
	memcpy(two, "two", 3);
	memcpy(two + 100 * KIB, "two", 3);
	memcpy(two + 300 * KIB, "more", 4);
	for (int i = 0; i < 4; i++) {
		o.state = i & 1 ? "state" : NULL;
		o.no_caps = i & 2;
		fresh_dir(&o, dir);
		killed(publish_later, &o);
		for (int k = 0; k < 2; k++) {
			struct s3c_object *object;

			begin(&fx, &o);
			assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
			if (differs(&fx, object, one, 300 * KIB) &&
			    differs(&fx, object, two, 300 * KIB + 4))
				fail_msg("neither of the views");
			s3c_object_close(object);
			assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
			assert_int_equal(records(&fx), 0);
			fx_stop(&fx);
		}
		begin(&fx, &o);
		fx_end(&fx);
	}
}

/* A long outage begins with a reply that is lost: the write is known again after any number of
   attempts. */
static void test_outage(void **state)
{
	struct s3c_fault_rule lost = {
		.op = S3C_STORE_PUT,
		.kind = S3C_FAULT_LOST,
		.result = -ECONNRESET,
		.times = 1,
	};
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(70 * KIB, 16);
	struct s3c_object *object;
	struct s3c_listing *listing;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, 0, data, 70 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_store_fault_add(fx.store, &lost), 0);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ECONNRESET);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNRESET);
	for (int i = 0; i < 7; i++)
		assert_true(s3c_object_commit(object, NULL) < 0);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_int_equal(differs(&fx, object, data, 70 * KIB), 0);
	s3c_object_close(object);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	assert_int_equal(listing->count, 1);
	s3c_listing_put(listing);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* A stored file that is cut, and gets more than a transaction takes. */

static void replace_large(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(SEG + 70 * KIB, 18);
	struct s3c_object *object;

	(void)o;
	create_close(fx, "f", 100 * KIB, 17);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(records(fx), 0);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
	write_all(object, 0, data, SEG + 70 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
}

static void test_replace_large(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(SEG + 70 * KIB, 18);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(replace_large, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", data, SEG + 70 * KIB);
	fx_end(&fx);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close),        cmocka_unit_test(test_change),
		cmocka_unit_test(test_failed_close), cmocka_unit_test(test_lost_reply),
		cmocka_unit_test(test_conflict),     cmocka_unit_test(test_kill),
		cmocka_unit_test(test_kill_small),   cmocka_unit_test(test_kill_rough),
		cmocka_unit_test(test_stale_chunks), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_orphans),      cmocka_unit_test(test_later_view),
		cmocka_unit_test(test_outage),       cmocka_unit_test(test_replace_large),
	};

	assert_int_equal(s3c_secret_init(), 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
