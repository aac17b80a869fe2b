/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Random work on files, in daemons that are killed at random times: of each file the last
 * acknowledged view is there, or a later one. What was acknowledged stands in shared memory.
 * S3C_TEST_RUNS=N: so many kills of each series.
 */
#include "durable_fixture.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/secret.h"

#define FILES 3u
#define FILE_MAX (2 * SEG + 300 * KIB)

struct view {
	uint32_t size;
	uint8_t data[FILE_MAX];
};
/*
 * Beside what was acknowledged a later view may be found: the store is brought up to date in the
 * background with what an open file is at the moment. since: digests of the views after the last
 * acknowledgement, and what each has changed. A write during such a commit may be in it without one
 * that came before, to another chunk.
 */
#define SINCE_MAX 4096u
struct change {
	uint32_t at, end, size; /* of the file after it */
};
struct shared {
	uint32_t since_count[FILES];
	uint8_t since[FILES][SINCE_MAX][S3C_SHA256_LEN];
	struct change changes[FILES][SINCE_MAX];
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

static void note_view(unsigned i, size_t at, size_t end)
{
	struct view *view = now[i];
	uint32_t n = shared->since_count[i];

	assert_true(n < SINCE_MAX);
	shared->changes[i][n] = (struct change){ (uint32_t)at, (uint32_t)end, view->size };
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

	/* Replaced, as by a program that opens it with O_TRUNC, mostly by much. */
	if (what == 1) {
		at = 0;
		len = 1 + (size_t)rand_r(seed) % file_max;
	}
	if (what < 2) {
		uint32_t size = what ? 0 : (uint32_t)(at % (view->size + 1000));

		size = (uint32_t)S3C_MIN((size_t)size, file_max);
		if (size > view->size)
			memset(view->data + view->size, 0, size - view->size);
		at = S3C_MIN(size, view->size);
		view->size = size;
		note_view(i, at, FILE_MAX);
		do
			r = s3c_object_truncate(object, NULL, size);
		while (r < 0 && rough);
		assert_int_equal(r, 0);
	}
	if (what == 0)
		return;
	if (at >= file_max)
		return;
	len = S3C_MIN(len, file_max - at);
	data = pattern(len, (unsigned)rand_r(seed));
	for (size_t done = 0, part, note_from; done < len; done += part) {
		part = S3C_MIN(len - done,
			       rough ? S3C_CHUNK_SIZE - (at + done) % S3C_CHUNK_SIZE : 256 * KIB);
		if (at + done > view->size)
			memset(view->data + view->size, 0, at + done - view->size);
		memcpy(view->data + at + done, data + done, part);
		note_from = S3C_MIN((size_t)view->size, at + done);
		view->size = (uint32_t)S3C_MAX((size_t)view->size, at + done + part);
		note_view(i, note_from, at + done + part);
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

/* now: what was acknowledged, but for what was changed since? */
static bool changed_only(unsigned i)
{
	const struct view *acked = shared->is_acked[i] ? &shared->acked[i] : &shared->trying[i];
	uint32_t count = shared->since_count[i];
	bool sized = now[i]->size == acked->size;

	for (uint32_t n = 0; n < count; n++)
		sized |= now[i]->size == shared->changes[i][n].size;
	for (size_t at = 0; at < now[i]->size && sized; at++) {
		uint32_t n = 0;

		if (at < acked->size && now[i]->data[at] == acked->data[at])
			continue;
		while (n < count &&
		       (at < shared->changes[i][n].at || at >= shared->changes[i][n].end))
			n++;
		if (n == count)
			return false;
	}
	return sized;
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
	return rough && changed_only(i);
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
			/* Uploads that nobody goes on with are aborted in the background. */
			for (unsigned n = 0; n < 5000 && records(&fx); n++)
				usleep(1000);
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_kill_small),
		cmocka_unit_test(test_kill_rough),
	};

	assert_int_equal(s3c_secret_init(), 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
