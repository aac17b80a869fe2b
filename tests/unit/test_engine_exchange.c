/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Two names that change places: whatever request fails, or is the last of a daemon, each of the
 * two contents has one of the two names afterwards, the other one where the exchange was answered.
 */
#include "durable_fixture.h"
#include "failing_journal.h"

#include <errno.h>
#include <sys/mman.h>

#include "engine/links.h"
#include "engine/pending.h"

#define LEN_A ((size_t)3000)
#define LEN_B ((size_t)70000)
#define PUTS 6u /* two references over the files, the third name, the two, one too many */

static int exchange(struct fx *fx, const char *a, const char *b)
{
	uint8_t id[16];
	int r = s3c_engine_make_body(fx->engine, NULL, a, id);

	if (r == 0)
		r = s3c_engine_make_body(fx->engine, NULL, b, id);
	return r < 0 ? r : s3c_engine_exchange(fx->engine, NULL, a, b);
}

static void make_both(struct fx *fx)
{
	create_close(fx, "a", LEN_A, 1);
	create_close(fx, "b", LEN_B, 2);
}

static uint64_t size_of(struct fx *fx, const char *path)
{
	struct s3c_info info;

	assert_int_equal(s3c_engine_lookup(fx->engine, NULL, path, &info), 0);
	return info.size;
}

/* Is it exchanged? Both are whole. */
static bool check(struct fx *fx)
{
	cleanup_free uint8_t *a = pattern(LEN_A, 1), *b = pattern(LEN_B, 2);
	bool done = size_of(fx, "a") == LEN_B;

	path_equal(fx, done ? "b" : "a", a, LEN_A);
	path_equal(fx, done ? "a" : "b", b, LEN_B);
	return done;
}

/* As another machine sees it. */
static bool check_stored(struct fx *fx)
{
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	s3c_names_invalidate(fx->engine, "", true);
	return check(fx);
}

static void fail_from(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind,
		      unsigned after, unsigned times)
{
	struct s3c_fault_rule rule = {
		.op = op,
		.kind = kind,
		.result = -ETIMEDOUT,
		.after = after,
		.times = times,
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void test_exchange(void **state)
{
	static const enum s3c_enc encs[] = { S3C_ENC_CSE_KEY, S3C_ENC_NONE };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fx_options o = {
			.enc = encs[i % 2],
			.durable = true,
			.writeback = i & 2,
			.encrypted_names = i % 2 == 0,
		};
		struct fx fx;

		begin(&fx, &o);
		make_both(&fx);
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		assert_true(check(&fx));
		assert_true(check_stored(&fx));
		assert_string_equal(list(&fx, ""), "a b");
		/* From now on it costs the four requests alone, and a look at each name. */
		fx_requests(&fx);
		assert_int_equal(exchange(&fx, "b", "a"), 0);
		assert_string_equal(fx_requests(&fx), "HEAD 2 PUT 3 DELETE 1");
		assert_false(check_stored(&fx));
		assert_string_equal(list(&fx, ""), "a b");
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* Whoever has one of them open has it open still, and writes into it. */
static void test_open(void **state)
{
	cleanup_free uint8_t *a = pattern(LEN_A, 1), *b = pattern(LEN_B, 2);
	struct fx_options o = { .durable = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		o.writeback = i & 1;
		begin(&fx, &o);
		make_both(&fx);
		assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
		/* Before, or after, it has been exchanged. */
		memcpy(a, "12345", 5);
		if (i & 2)
			assert_int_equal(s3c_object_write(object, NULL, 0, a, 5, false), 0);
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		if (!(i & 2))
			assert_int_equal(s3c_object_write(object, NULL, 0, a, 5, false), 0);
		path_equal(&fx, "b", a, LEN_A);
		assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
		s3c_object_close(object);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		s3c_names_invalidate(fx.engine, "", true);
		path_equal(&fx, "a", b, LEN_B);
		path_equal(&fx, "b", a, LEN_A);
		fx_end(&fx);
	}
}

/* What the child found. */
static struct shared {
	int result;
	bool over;
} * shared;

static struct {
	enum s3c_fault_kind kind;
	unsigned after;
	enum s3c_store_opcode op;
} how;

static void broken(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_both(fx);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	fail_from(fx, how.op, how.kind, how.after, 0);
	shared->result = exchange(fx, "a", "b");
	shared->over = true;
}

static void next_daemon(struct fx_options *o)
{
	struct fx fx;
	bool done;

	begin(&fx, o);
	done = check(&fx);
	assert_int_equal(done, shared->result == 0);
	assert_int_equal(check_stored(&fx), done);
	assert_int_equal(records(&fx), 0);
	assert_string_equal(list(&fx, ""), "a b");
	/* And as often as one likes. */
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	assert_int_equal(check_stored(&fx), !done);
	fx_end(&fx);
}

static void test_killed(void **state)
{
	static const enum s3c_fault_kind kinds[] = { S3C_FAULT_FAIL, S3C_FAULT_LOST };
	static const enum s3c_store_opcode ops[] = { S3C_STORE_PUT, S3C_STORE_COPY,
						     S3C_STORE_DELETE };

	(void)state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	for (unsigned i = 0; i < 2 * 2 * (PUTS + 3); i++) {
		unsigned step = i / 4;
		struct fx_options o = {
			.durable = true,
			.writeback = i & 1,
			.timeout_s = 1,
		};
		char dir[64];

		how.kind = kinds[(i / 2) % 2];
		how.op = ops[step < PUTS ? 0 : step < PUTS + 2 ? 1 : 2];
		how.after = step < PUTS ? step : step < PUTS + 2 ? step - PUTS : 0;
		fresh_dir(&o, dir);
		*shared = (struct shared){ 0 };
		killed(broken, &o);
		assert_true(shared->over);
		next_daemon(&o);
	}
	munmap(shared, sizeof(*shared));
}

/* One request fails, or has no answer, and nobody can look: what was answered is what is. */
static void test_failed(void **state)
{
	static const enum s3c_fault_kind kinds[] = { S3C_FAULT_FAIL, S3C_FAULT_LOST };

	(void)state;
	for (unsigned i = 0; i < 2 * 2 * 2 * PUTS; i++) {
		struct fx_options o = { .durable = true, .writeback = i & 1 };
		bool blind = i & 2, done;
		struct fx fx;
		int r;

		begin(&fx, &o);
		make_both(&fx);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		fail_from(&fx, S3C_STORE_PUT, kinds[(i / 4) % 2], i / 8, blind ? 0 : 1);
		if (blind && (i & 4))
			fail_from(&fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, 0, 0);
		r = exchange(&fx, "a", "b");
		/* Here that is so at once, whatever the store has. */
		s3c_names_invalidate(fx.engine, "", true);
		fail_from(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, 0, 0);
		s3c_store_fault_clear(fx.store);
		done = check(&fx);
		assert_int_equal(done, r == 0);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
		assert_int_equal(check(&fx), done);
		assert_int_equal(check_stored(&fx), done);
		assert_int_equal(records(&fx), 0);
		assert_string_equal(list(&fx, ""), "a b");
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		assert_int_equal(check_stored(&fx), !done);
		fx_end(&fx);
	}
}

/* The first name of the list that is neither. */
static void aside_of(struct fx *fx, char ret_path[static S3C_PATH_MAX])
{
	char text[4 * S3C_PATH_MAX], *at = text, *name;

	snprintf(text, sizeof(text), "%s", list(fx, ""));
	*ret_path = '\0';
	while ((name = strsep(&at, " "))) {
		if (strlen(name) > 1)
			strcpy(ret_path, name);
	}
}

/* It has failed half way, and what it has left is changed by others before it can be undone:
   nothing of that is touched, and no content is without a name. */
static void test_changed_meanwhile(void **state)
{
	cleanup_free uint8_t *a = pattern(LEN_A, 1), *b = pattern(LEN_B, 2);
	struct fx_options o = { .durable = true };
	char aside[S3C_PATH_MAX];
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const char *gone = i & 1 ? "a" : "b";

		o.writeback = i & 2;
		begin(&fx, &o);
		make_both(&fx);
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		fail_from(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, 2, 0);
		assert_int_equal(exchange(&fx, "a", "b"), -ETIMEDOUT);
		s3c_store_fault_clear(fx.store);
		hand_delete(&fx, gone);
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
		aside_of(&fx, aside);
		assert_true(strncmp(aside, "a.exchange-", 11) == 0);
		path_equal(&fx, aside, a, LEN_A);
		path_equal(&fx, i & 1 ? "b" : "a", b, LEN_B);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* A request that was given up reaches the store when all is undone: its condition holds no more. */
static void test_late(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_version seen[2];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_both(&fx);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	for (unsigned i = 0; i < 2; i++) {
		cleanup_reply struct s3c_store_reply reply = { 0 };

		if (i) {
			fail_from(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, 1, 1);
			assert_int_equal(exchange(&fx, "a", "b"), -ETIMEDOUT);
			assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
		}
		assert_int_equal(s3c_key_head(fx.engine, "a", &reply), 0);
		seen[i] = reply.stat.version;
	}
	assert_false(s3c_etag_equal(seen[0].etag, seen[1].etag));
	assert_false(check_stored(&fx));
	fx_end(&fx);
}

struct asking {
	struct fx *fx;
	int result;
};

static void *ask(void *arg)
{
	struct asking *asking = arg;

	asking->result = s3c_engine_exchange(asking->fx->engine, NULL, "a", "b");
	return NULL;
}

/* The journal does not take the word that it is done: then it is not, although the store has it. */
static void test_unacknowledged(void **state)
{
	struct fx_options o = { .durable = true };
	struct asking asking;
	pthread_t thread;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_both(&fx);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	/* The last of three references. */
	fail_from(&fx, S3C_STORE_PUT, S3C_FAULT_STALL, 2, 1);
	asking = (struct asking){ .fx = &fx };
	assert_int_equal(s3c_thread_start(&thread, "ask", ask, &asking), 0);
	while (!s3c_store_fault_stalled(fx.store))
		usleep(1000);
	journal_fails(true);
	s3c_store_fault_release(fx.store);
	pthread_join(thread, NULL);
	assert_int_equal(asking.result, -EIO);
	journal_fails(false);
	assert_false(check(&fx));
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
	assert_false(check_stored(&fx));
	fx_end(&fx);
}

static void test_refused(void **state)
{
	struct s3c_attrs dir = { .known = true, .mode = S_IFDIR | 0755 };
	struct s3c_attrs fifo = { .known = true, .mode = S_IFIFO | 0644 };
	struct s3c_attrs link = { .known = true };
	struct fx_options o = { .durable = true };
	char target[64];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_both(&fx);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir), 0);
	assert_int_equal(s3c_engine_mknod(fx.engine, NULL, "p", &fifo), 0);
	assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "l", "target", &link), 0);
	assert_int_equal(exchange(&fx, "a", "d"), -EINVAL);
	assert_int_equal(exchange(&fx, "p", "a"), -EINVAL);
	assert_int_equal(exchange(&fx, "a", "missing"), -ENOENT);
	assert_int_equal(exchange(&fx, "a", "a"), 0);
	assert_int_equal(s3c_engine_exchange(fx.engine, NULL, "a", "b"), -EAGAIN);
	assert_false(check_stored(&fx));
	/* Each is what the other was, links too. */
	assert_int_equal(exchange(&fx, "l", "b"), 0);
	assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "b", target, sizeof(target)), 0);
	assert_string_equal(target, "target");
	assert_int_equal(size_of(&fx, "l"), LEN_B);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "b", target, sizeof(target)), 0);
	fx_end(&fx);

	/* Without a journal, or conditions of the store. */
	for (unsigned i = 0; i < 2; i++) {
		o.durable = i;
		o.no_caps = i;
		begin(&fx, &o);
		make_both(&fx);
		assert_int_equal(exchange(&fx, "a", "b"), -EINVAL);
		assert_false(check_stored(&fx));
		fx_end(&fx);
	}
}

/* Two names of one file are exchanged when nothing is done. */
static void test_same(void **state)
{
	struct fx_options o = { .durable = true };
	uint8_t id[16];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	create_close(&fx, "a", LEN_A, 1);
	assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "b", id), 0);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	assert_int_equal(size_of(&fx, "a"), LEN_A);
	assert_int_equal(size_of(&fx, "b"), LEN_A);
	fx_end(&fx);
}

/* The store is as step says, and nothing of that is undone yet: the store is not there. */
static void half(struct fx *fx, unsigned step)
{
	make_both(fx);
	assert_int_equal(exchange(fx, "a", "b"), 0);
	assert_int_equal(exchange(fx, "a", "b"), 0);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	fail_from(fx, S3C_STORE_PUT, S3C_FAULT_LOST, step - 1, 1);
	fail_from(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, step - 1, 0);
	/* After both names have been looked at. */
	fail_from(fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, 2, 0);
	fail_from(fx, S3C_STORE_GET, S3C_FAULT_FAIL, 0, 0);
	assert_true(exchange(fx, "a", "b") < 0);
	s3c_store_fault_clear(fx->store);
	s3c_names_invalidate(fx->engine, "", true);
}

/* Until it is undone each name is that of its own file: what is written, set or removed by it is
   that file's. */
static void test_half(void **state)
{
	cleanup_free uint8_t *a = pattern(LEN_A, 1), *b = pattern(LEN_B, 2),
			     *other = pattern(500, 9);
	struct s3c_attrs attrs = { .known = true, .mode = 0600 };
	struct s3c_object *object;
	struct s3c_info info;
	uint8_t id[16];

	(void)state;
	for (unsigned i = 0; i < 2 * 2 * 6; i++) {
		struct fx_options o = { .durable = true, .writeback = i & 1 };
		unsigned what = i / 4;
		struct fx fx;

		begin(&fx, &o);
		half(&fx, i & 2 ? 2 : 3);
		assert_false(check(&fx));
		if (what == 0) {
			assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
			assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
			write_all(object, 0, other, 500);
			assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
			s3c_object_close(object);
		} else if (what == 1) {
			assert_int_equal(s3c_engine_setattr(fx.engine, NULL, "b", NULL,
							    S3C_SET_MODE, &attrs, &info),
					 0);
		} else if (what < 4) {
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, what == 2 ? "a" : "b"),
					 0);
		} else if (what == 4) {
			assert_int_equal(s3c_engine_rename(fx.engine, NULL, "a", "b", false), 0);
		} else {
			assert_int_equal(s3c_engine_link(fx.engine, NULL, "b", "c", id), 0);
		}
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, ""), what < 2    ? "a b"
						   : what == 5 ? "a b c"
						   : what == 3 ? "a"
							       : "b");
		if (what == 0)
			path_equal(&fx, "a", other, 500);
		else if (what == 1 || what == 3 || what == 5)
			path_equal(&fx, "a", a, LEN_A);
		if (what == 4)
			path_equal(&fx, "b", a, LEN_A);
		else if (what != 3)
			path_equal(&fx, "b", b, LEN_B);
		if (what == 1)
			assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "b", &info), 0);
		if (what == 1)
			assert_int_equal(info.mode & 07777, 0600);
		if (what == 5)
			path_equal(&fx, "c", b, LEN_B);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* Another machine has removed the third name, and the first, or replaced it, when the second alone
   refers to the first body: it is not taken from that. */
static void test_last_name(void **state)
{
	cleanup_free uint8_t *a = pattern(LEN_A, 1), *b = pattern(LEN_B, 2);
	struct fx_options o = { .durable = true };
	char aside[S3C_PATH_MAX];
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin(&fx, &o);
		half(&fx, 3);
		aside_of(&fx, aside);
		hand_delete(&fx, aside);
		hand_delete(&fx, "a");
		if (i)
			hand_file(&fx, "a", "new");
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
		s3c_names_invalidate(fx.engine, "", true);
		path_equal(&fx, "b", b, LEN_B);
		aside_of(&fx, aside);
		path_equal(&fx, aside, a, LEN_A);
		if (i)
			assert_reads(&fx, "a", "new");
		fx_end(&fx);
	}
}

/* Others have put there what this mount does not read, or something else where the third name was:
   it ends all the same, and nothing waits for it any more. */
static void test_refused_name(void **state)
{
	struct s3c_meta meta = { 0 };
	struct fx_options o = { .durable = true };
	char aside[S3C_PATH_MAX];
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		begin(&fx, &o);
		half(&fx, 3);
		aside_of(&fx, aside);
		if (i < 2)
			hand_put(&fx, i ? "b" : "a", &meta, "plain", 5);
		if (i == 2) {
			hand_delete(&fx, "a");
			hand_delete(&fx, aside);
			hand_put(&fx, aside, &meta, "plain", 5);
		}
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_int_equal(records(&fx), 0);
		assert_int_equal(size_of(&fx, i == 0   ? "b"
					      : i == 1 ? "a"
						       : "b"),
				 i == 0   ? LEN_B
				 : i == 1 ? LEN_B
					  : LEN_A);
		if (i < 2)
			assert_int_equal(size_of(&fx, aside), LEN_A);
		fx_end(&fx);
	}
}

/* What another machine has replaced since it was looked at here is not exchanged for what it was.
 */
static void test_replaced(void **state)
{
	struct fx_options o = { .durable = true };
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin(&fx, &o);
		make_both(&fx);
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		hand_file(&fx, i ? "b" : "a", "new");
		assert_int_equal(s3c_engine_exchange(fx.engine, NULL, "a", "b"), -EAGAIN);
		assert_int_equal(records(&fx), 0);
		/* As a whole it is done with what is there. */
		assert_int_equal(exchange(&fx, "a", "b"), 0);
		assert_reads(&fx, i ? "a" : "b", "new");
		assert_int_equal(size_of(&fx, i ? "b" : "a"), i ? LEN_A : LEN_B);
		assert_string_equal(list(&fx, ""), "a b");
		fx_end(&fx);
	}
}

/* The same when it is over but for the third name. */
static void test_third_stays(void **state)
{
	cleanup_free uint8_t *a = pattern(LEN_A, 1);
	struct fx_options o = { .durable = true };
	char aside[S3C_PATH_MAX];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_both(&fx);
	fail_from(&fx, S3C_STORE_DELETE, S3C_FAULT_FAIL, 0, 0);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	assert_true(check(&fx));
	s3c_store_fault_clear(fx.store);
	hand_delete(&fx, "b");
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
	aside_of(&fx, aside);
	path_equal(&fx, aside, a, LEN_A);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* Nobody asks: the thread does it, in the daemon that has failed and in the next. */
static void test_thread(void **state)
{
	struct fx_options o = { .durable = true };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	half(&fx, 2);
	for (unsigned tries = 0; records(&fx); tries++) {
		assert_true(tries < 1000);
		usleep(10000);
	}
	assert_string_equal(list(&fx, ""), "a b");
	assert_false(check(&fx));
	fx_end(&fx);
}

static void half_killed(struct fx *fx, struct fx_options *o)
{
	(void)o;
	half(fx, 2);
}

static void test_thread_of_next(void **state)
{
	struct fx_options o = { .durable = true, .timeout_s = 1 };
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(half_killed, &o);
	fx_open(&fx, &o);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EACCES);
	fx_start(&fx, &o);
	assert_false(check(&fx));
	s3c_store_fault_clear(fx.store);
	for (unsigned tries = 0; records(&fx); tries++) {
		assert_true(tries < 1000);
		usleep(10000);
	}
	assert_false(check_stored(&fx));
	assert_string_equal(list(&fx, ""), "a b");
	fx_end(&fx);
}

/* No two references are the same to a condition. */
static void test_bodies_differ(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_stat st = { 0 };
	struct s3c_buf bodies[2] = { { .max = 64 }, { .max = 64 } };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_both(&fx);
	assert_int_equal(exchange(&fx, "a", "b"), 0);
	for (unsigned i = 0; i < 2; i++) {
		hand_get(&fx, i ? "b" : "a", &bodies[i], &st);
		s3c_stat_free(&st);
		assert_int_equal(bodies[i].len, S3C_REFERENCE_LEN);
		assert_memory_equal(bodies[i].data, S3C_REFERENCE_BODY, S3C_REFERENCE_MIN);
	}
	assert_memory_not_equal(bodies[0].data, bodies[1].data, S3C_REFERENCE_LEN);
	s3c_buf_free(&bodies[0]);
	s3c_buf_free(&bodies[1]);
	fx_end(&fx);
}

/* The third name of a name that is as long as one may be, or whose key is. */
static void test_long(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_attrs dir = { .known = true, .mode = S_IFDIR | 0755 };
	char names[2][NAME_MAX + 1], deep[1024] = "";
	struct fx fx;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		memset(names[i], 'a' + (int)i, NAME_MAX);
		names[i][NAME_MAX] = '\0';
	}
	begin(&fx, &o);
	create_close(&fx, names[0], LEN_A, 1);
	create_close(&fx, names[1], LEN_B, 2);
	assert_int_equal(exchange(&fx, names[0], names[1]), 0);
	assert_int_equal(size_of(&fx, names[0]), LEN_B);
	assert_int_equal(size_of(&fx, names[1]), LEN_A);
	for (unsigned i = 0; i < 4; i++) {
		memset(deep + strlen(deep), 'd', 253);
		if (i < 3) {
			assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, deep, &dir), 0);
			strcat(deep, "/");
		}
	}
	create_close(&fx, deep, LEN_A, 1);
	create_close(&fx, "b", LEN_B, 2);
	assert_int_equal(exchange(&fx, deep, "b"), 0);
	assert_int_equal(size_of(&fx, deep), LEN_B);
	assert_int_equal(exchange(&fx, "b", deep), 0);
	assert_int_equal(size_of(&fx, deep), LEN_A);
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_unacknowledged),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_changed_meanwhile),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_half),
		cmocka_unit_test(test_last_name),
		cmocka_unit_test(test_third_stays),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_thread_of_next),
		cmocka_unit_test(test_bodies_differ),
		cmocka_unit_test(test_refused_name),
		cmocka_unit_test(test_replaced),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
