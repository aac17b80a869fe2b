/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Two names that change places under fs/, on the real engine: who works on one of the files by its
 * path, or looks it up, while that is under way, has that file and no other. The store holds the
 * one request or the other until it is let go.
 */
#include "durable_fixture.h"

#include <errno.h>
#include <fcntl.h>

#include "fs/private.h"

#define LEN_A ((size_t)3000)
#define LEN_B ((size_t)70000)
#define SOON_MS 200

static const struct s3c_fs_caller root = { .uid = 0 };

struct at {
	struct fx fx;
	struct s3c_fs *fs;
	uint64_t a, b; /* nodeids */
};

/* As the kernel does, which forgets it at the end. */
static uint64_t lookup_keep(struct at *at, const char *name)
{
	struct s3c_fs_entry entry;

	assert_int_equal(s3c_fs_lookup(at->fs, NULL, S3C_FS_ROOT, name, &entry), 0);
	return entry.nodeid;
}

static uint64_t lookup(struct at *at, const char *name)
{
	uint64_t nodeid = lookup_keep(at, name);

	s3c_fs_forget(at->fs, nodeid, 1);
	return nodeid;
}

/* fresh: by an engine that knows nothing of them. */
static void begin_at(struct at *at, bool fresh)
{
	struct fx_options o = { .durable = true };
	char dir[64];

	fresh_dir(&o, dir);
	begin(&at->fx, &o);
	create_close(&at->fx, "a", LEN_A, 1);
	create_close(&at->fx, "b", LEN_B, 2);
	if (fresh) {
		fx_stop(&at->fx);
		begin(&at->fx, &o);
	}
	assert_int_equal(s3c_fs_new(at->fx.engine, 60, &at->fs), 0);
	at->a = lookup_keep(at, "a");
	at->b = lookup_keep(at, "b");
	if (fresh)
		s3c_names_invalidate(at->fx.engine, "", true);
	fx_requests(&at->fx);
}

static void end_at(struct at *at)
{
	assert_int_equal(s3c_fs_free(at->fs, NULL), 0);
	fx_end(&at->fx);
}

static int exchange(struct at *at, struct s3c_op *op)
{
	return s3c_fs_exchange(at->fs, op, S3C_FS_ROOT, "a", S3C_FS_ROOT, "b");
}

static uint64_t size_of(struct at *at, uint64_t nodeid)
{
	struct s3c_fs_attr attr;

	assert_int_equal(s3c_fs_getattr(at->fs, NULL, nodeid, &attr), 0);
	return (uint64_t)attr.st.st_size;
}

/* Each inode is the one that it was, and has the other name. */
static void check_done(struct at *at)
{
	assert_int_equal(lookup(at, "a"), at->b);
	assert_int_equal(lookup(at, "b"), at->a);
	assert_int_equal(size_of(at, at->a), LEN_A);
	assert_int_equal(size_of(at, at->b), LEN_B);
}

static void stall(struct at *at, enum s3c_store_opcode op, const char *key, unsigned after)
{
	struct s3c_fault_rule rule = {
		.op = op,
		.key_substring = key,
		.kind = S3C_FAULT_STALL,
		.after = after,
		.times = 1,
	};

	assert_int_equal(s3c_store_fault_add(at->fx.store, &rule), 0);
}

struct work {
	struct at *at;
	int (*run)(struct at *at, struct s3c_op *op);
	pthread_t thread;
	int result;
};

static void *work_main(void *arg)
{
	struct work *work = arg;
	struct s3c_op op;

	s3c_op_init(&op, s3c_deadline_after(20));
	work->result = work->run(work->at, &op);
	s3c_op_destroy(&op);
	return NULL;
}

static void work_begin(struct work *work, struct at *at,
		       int (*run)(struct at *at, struct s3c_op *op))
{
	uint64_t stalled = s3c_store_fault_stalled(at->fx.store);

	*work = (struct work){ .at = at, .run = run };
	assert_int_equal(pthread_create(&work->thread, NULL, work_main, work), 0);
	/* Until it is at the request that is held, or, where the lookup under way has that, in the
	   table of those that work on names. */
	for (bool there = false; !there; usleep(1000)) {
		s3c_mutex_lock(&at->fs->inodes.lock);
		there = run == exchange && stalled && !LIST_EMPTY(&at->fs->uses);
		s3c_mutex_unlock(&at->fs->inodes.lock);
		there |= s3c_store_fault_stalled(at->fx.store) > stalled;
	}
}

static void work_end(struct work *work)
{
	s3c_store_fault_release(work->at->fx.store);
	assert_int_equal(pthread_join(work->thread, NULL), 0);
	assert_int_equal(work->result, 0);
}

/* What does not wait for ever, and is not done in a moment either. */
static void waits(struct at *at, int (*run)(struct at *at, struct s3c_op *op))
{
	struct s3c_op op;

	s3c_op_init(&op, s3c_deadline_after(SOON_MS / 1000.0));
	assert_int_equal(run(at, &op), -ETIMEDOUT);
	s3c_op_destroy(&op);
}

static int look_a(struct at *at, struct s3c_op *op)
{
	struct s3c_fs_entry entry;
	int r = s3c_fs_lookup(at->fs, op, S3C_FS_ROOT, "a", &entry);

	if (r == 0)
		s3c_fs_forget(at->fs, entry.nodeid, 1);
	return r;
}

static int look_b(struct at *at, struct s3c_op *op)
{
	struct s3c_fs_entry entry;
	int r = s3c_fs_lookup(at->fs, op, S3C_FS_ROOT, "b", &entry);

	if (r == 0)
		s3c_fs_forget(at->fs, entry.nodeid, 1);
	return r;
}

static int set_mode(struct at *at, struct s3c_op *op, uint64_t nodeid)
{
	const struct s3c_fs_change change = { .which = S3C_SET_MODE, .attrs.mode = 0600 };
	struct s3c_fs_attr attr;

	return s3c_fs_setattr(at->fs, op, nodeid, NULL, &change, &attr);
}

static int set_mode_a(struct at *at, struct s3c_op *op)
{
	return set_mode(at, op, at->a);
}

static int set_mode_b(struct at *at, struct s3c_op *op)
{
	return set_mode(at, op, at->b);
}

/* An exchange is under way, at each of its requests in turn. */
static void test_later(void **state)
{
	static int (*const later[])(
		struct at * at, struct s3c_op * op) = { look_a, look_b, set_mode_a, set_mode_b };

	(void)state;
	for (unsigned step = 0; step < 7; step++) {
		struct work work;
		struct at at;

		begin_at(&at, true);
		/* Two bodies, four references, and the third name. */
		stall(&at, step < 2 ? S3C_STORE_COPY : S3C_STORE_PUT, NULL,
		      step < 2 ? step : step - 2);
		work_begin(&work, &at, exchange);
		for (unsigned i = 0; i < ARRAY_LEN(later); i++)
			waits(&at, later[i]);
		work_end(&work);
		check_done(&at);
		end_at(&at);
	}
}

/* One who works on a file by its path is at work: the exchange begins when that is over. */
static void test_before(void **state)
{
	static int (*const before[])(struct at * at, struct s3c_op * op) = { set_mode_a,
									     set_mode_b };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(before); i++) {
		struct s3c_fs_attr attr;
		struct work work;
		struct at at;

		begin_at(&at, true);
		/* It has to look first. */
		stall(&at, S3C_STORE_GET, i ? "b" : "a", 0);
		stall(&at, S3C_STORE_HEAD, i ? "b" : "a", 0);
		work_begin(&work, &at, before[i]);
		fx_requests(&at.fx);
		waits(&at, exchange);
		assert_string_equal(fx_requests(&at.fx), "");
		work_end(&work);
		s3c_store_fault_clear(at.fx.store);
		assert_int_equal(exchange(&at, NULL), 0);
		check_done(&at);
		assert_int_equal(s3c_fs_getattr(at.fs, NULL, i ? at.b : at.a, &attr), 0);
		assert_int_equal(attr.st.st_mode & 07777, 0600);
		assert_int_equal(s3c_fs_getattr(at.fs, NULL, i ? at.a : at.b, &attr), 0);
		assert_int_equal(attr.st.st_mode & 07777, 0644);
		end_at(&at);
	}
}

static int find_a(struct at *at, struct s3c_op *op)
{
	struct s3c_fs_entry entry;
	int r = s3c_fs_lookup(at->fs, op, S3C_FS_ROOT, "a", &entry);

	if (r < 0)
		return r;
	s3c_fs_forget(at->fs, entry.nodeid, 1);
	return entry.nodeid == at->b && (size_t)entry.attr.st.st_size == LEN_B ? 0 : -EBADMSG;
}

/* A lookup that began before, and ends while the exchange is under way, answers as of after it. */
static void test_overtaken(void **state)
{
	struct work look, work;
	struct at at;

	(void)state;
	begin_at(&at, true);
	stall(&at, S3C_STORE_GET, "a", 0);
	work_begin(&look, &at, find_a);
	stall(&at, S3C_STORE_PUT, NULL, 4);
	work_begin(&work, &at, exchange);
	s3c_store_fault_release(at.fx.store);
	/* At the last reference. */
	while (s3c_store_fault_stalled(at.fx.store) < 2)
		usleep(1000);
	work_end(&work);
	work_end(&look);
	check_done(&at);
	end_at(&at);
}

/* Of files that are open, before they are stored, the handles are those of the same files. */
static void test_open(void **state)
{
	struct s3c_file *files[2];
	struct at at;
	bool keep;

	(void)state;
	begin_at(&at, false);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
			s3c_fs_open(at.fs, NULL, i ? at.b : at.a, O_RDWR, &root, &files[i], &keep),
			0);
	assert_int_equal(s3c_fs_write(files[0], NULL, LEN_A - 4, "tail", 4, false), 0);
	assert_int_equal(exchange(&at, NULL), 0);
	check_done(&at);
	assert_int_equal(s3c_fs_write(files[1], NULL, LEN_B - 4, "tail", 4, false), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct s3c_pages pages;

		assert_int_equal(s3c_fs_read(files[i], NULL, (i ? LEN_B : LEN_A) - 4, 4, &pages),
				 0);
		assert_int_equal(pages.count, 1);
		assert_memory_equal(pages.iov[0].iov_base, "tail", 4);
		s3c_pages_release(at.fx.engine, &pages);
		assert_int_equal(s3c_fs_flush(files[i], NULL), 0);
		s3c_fs_release(files[i], NULL);
	}
	check_done(&at);
	end_at(&at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_later),
		cmocka_unit_test(test_before),
		cmocka_unit_test(test_overtaken),
		cmocka_unit_test(test_open),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
