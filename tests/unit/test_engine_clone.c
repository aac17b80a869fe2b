/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Whole files that the store copies: what both are afterwards, and everything that stops it. */
#include "durable_fixture.h"

#include <errno.h>
#include <pthread.h>

#define LEN (SEG + 70 * KIB)
#define HUGE_PART (((uint64_t)1 << 32) - S3C_CHUNK_SIZE) /* what one answer can tell */
#define HUGE_LEN (((uint64_t)9 << 29) + 9)

static const char *const texts[] = { "of the copy", "of the source" };

struct pair {
	struct fx fx;
	struct s3c_object *from, *to;
	uint8_t *data;
};

static void create(struct fx *fx, const char *path, struct s3c_object **ret_object)
{
	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &made_attrs, ret_object), 0);
}

/* A stored source, open, and a new empty file. */
static void pair_new(struct pair *p, struct fx_options *o)
{
	p->data = pattern(LEN, 1);
	begin(&p->fx, o);
	create_close(&p->fx, "from", LEN, 1);
	assert_int_equal(s3c_engine_sync(p->fx.engine, NULL), 0);
	assert_int_equal(s3c_object_open(p->fx.engine, NULL, "from", &p->from), 0);
	create(&p->fx, "to", &p->to);
	fx_requests(&p->fx);
}

static void pair_close(struct pair *p)
{
	s3c_object_close(p->from);
	s3c_object_close(p->to);
}

static void pair_end(struct pair *p)
{
	pair_close(p);
	fx_end(&p->fx);
	free(p->data);
}

static int clone_range(struct pair *p, uint64_t offset, uint64_t len)
{
	uint64_t done = 0;
	int r = s3c_object_clone(p->to, p->from, NULL, offset, len, &done);

	assert_int_equal(done, r == 0 ? S3C_MIN(len, LEN - offset) : 0);
	return r;
}

static int copy_all(struct pair *p)
{
	return clone_range(p, 0, LEN);
}

static void write_text(struct s3c_object *object, uint64_t at, const char *text)
{
	assert_int_equal(s3c_object_write(object, NULL, at, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
}

/* Each goes its own way, and the next machine reads what was written. */
static void diverge(struct pair *p, struct fx_options *o)
{
	cleanup_free uint8_t *mine = pattern(LEN, 1);
	struct fx_options other = *o;
	struct fx next;

	memcpy(mine + 100, texts[0], strlen(texts[0]));
	memcpy(p->data + SEG + 5, texts[1], strlen(texts[1]));
	write_text(p->to, 100, texts[0]);
	write_text(p->from, SEG + 5, texts[1]);
	assert_int_equal(differs(&p->fx, p->to, mine, LEN), 0);
	assert_int_equal(differs(&p->fx, p->from, p->data, LEN), 0);
	other.dir = p->fx.dir;
	other.state = "other";
	begin(&next, &other);
	path_equal(&next, "to", mine, LEN);
	path_equal(&next, "from", p->data, LEN);
	fx_stop(&next);
}

static void test_copied(void **state)
{
	struct fx_options o[] = {
		{ .enc = S3C_ENC_CSE_KEY },
		{ .enc = S3C_ENC_CSE_KEY, .durable = true },
		{ .enc = S3C_ENC_CSE_KEY, .encrypted_names = true },
		{ .enc = S3C_ENC_CSE_KEY, .writeback = true },
		{ .enc = S3C_ENC_NONE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		struct s3c_info info;
		uint64_t count, bytes;
		struct pair p;

		pair_new(&p, &o[i]);
		assert_int_equal(s3c_object_clone(p.to, p.from, S3C_NOWAIT, 0, LEN, &bytes),
				 -EINPROGRESS);
		assert_int_equal(copy_all(&p), 0);
		assert_requests(&p.fx, "COPY 1");
		assert_false(s3c_object_dirty(p.to));
		assert_int_equal(differs(&p.fx, p.to, p.data, LEN), 0);
		assert_int_equal(s3c_engine_lookup(p.fx.engine, NULL, "to", &info), 0);
		assert_int_equal(info.size, LEN);
		assert_int_equal(info.uid, 7);
		assert_true(info.mtime_ns > 0);
		if (p.fx.journal && o[i].durable) {
			assert_int_equal(s3c_journal_sync(p.fx.journal), 0);
			assert_int_equal(s3c_journal_pending(p.fx.journal, &count, &bytes), 0);
			assert_int_equal(count, 0);
		}
		diverge(&p, &o[i]);
		pair_end(&p);
	}
}

/* One that replaces an emptied file. */
static void test_replaces(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct pair p;

	(void)state;
	pair_new(&p, &o);
	write_text(p.to, 0, "former");
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_int_equal(s3c_object_truncate(p.to, NULL, 0), 0);
	fx_requests(&p.fx);
	assert_int_equal(copy_all(&p), 0);
	assert_requests(&p.fx, "COPY 1");
	diverge(&p, &o);
	pair_end(&p);
}

/* Nothing is asked of the store for what it cannot do. */
static void test_not_for(void **state)
{
	const struct s3c_attrs suid = { .known = true, .mode = S_IFREG | 04755 };
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_object *small;
	uint64_t done;
	struct pair p;

	(void)state;
	pair_new(&p, &o);
	assert_int_equal(clone_range(&p, 0, LEN - 1), -EOPNOTSUPP);
	assert_int_equal(clone_range(&p, 4096, LEN), -EOPNOTSUPP);
	assert_int_equal(s3c_object_clone(p.from, p.from, NULL, 0, LEN, &done), -EOPNOTSUPP);
	create(&p.fx, "small", &small);
	write_text(small, 0, "text");
	fx_requests(&p.fx);
	assert_int_equal(s3c_object_clone(p.to, small, NULL, 0, LEN, &done), -EOPNOTSUPP);
	s3c_object_close(small);
	/* A rename of its folder is under way, say. */
	assert_int_equal(s3c_object_freeze(p.to, NULL), 0);
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	s3c_object_thaw(p.to);
	assert_true(s3c_object_fold_attrs(p.to, S3C_SET_MODE, &suid));
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_true(s3c_object_fold_attrs(p.to, S3C_SET_MODE, &made_attrs));
	assert_int_equal(s3c_object_write(p.from, NULL, 9, "dirty", 5, false), 0);
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_requests(&p.fx, "");
	assert_int_equal(s3c_object_commit(p.from, NULL), 0);
	fx_requests(&p.fx);
	assert_int_equal(copy_all(&p), 0);
	assert_requests(&p.fx, "COPY 1");
	pair_end(&p);
}

/* A copy that could have its effect when nobody waits for it any more is made of parts. */
static void test_without_condition(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct pair p;

	(void)state;
	pair_new(&p, &o);
	p.fx.store->caps.copy_if_none_match = false;
	assert_int_equal(copy_all(&p), 0);
	assert_requests(&p.fx, "CREATE 1 PARTCOPY 1 COMPLETE 1");
	diverge(&p, &o);
	pair_end(&p);

	pair_new(&p, &o);
	p.fx.store->caps.copy_if_none_match = p.fx.store->caps.part_copy = false;
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_requests(&p.fx, "");
	pair_end(&p);
}

/* A new file would be under another key. */
static void test_former_key(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct fx_options rotated = { .enc = S3C_ENC_CSE_KEY,
				      .ring = "[a]\nsecret = " KEY_A "\n" RING_2 };
	char dir[sizeof(((struct fx *)0)->dir)];
	struct pair p;

	(void)state;
	pair_new(&p, &o);
	pair_close(&p);
	strcpy(dir, p.fx.dir);
	rotated.dir = dir;
	fx_stop(&p.fx);
	begin(&p.fx, &rotated);
	assert_int_equal(s3c_object_open(p.fx.engine, NULL, "from", &p.from), 0);
	create(&p.fx, "anew", &p.to);
	assert_int_equal(differs(&p.fx, p.from, p.data, LEN), 0);
	fx_requests(&p.fx);
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_requests(&p.fx, "");
	pair_end(&p);
}

static void store_fails(struct pair *p, bool blind, const struct s3c_fault_rule *rule)
{
	assert_int_equal(s3c_store_fault_add(p->fx.store, rule), 0);
	if (blind)
		fault(&p->fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, -ECONNRESET);
}

/* Refused, or nobody knows: then it is written, over what has come all the same. */
static void test_failed(void **state)
{
	struct fx_options o[] = { { .enc = S3C_ENC_CSE_KEY, .durable = true },
				  { .enc = S3C_ENC_NONE, .durable = true } };
	const struct s3c_fault_rule rules[] = {
		{ .op = S3C_STORE_COPY, .kind = S3C_FAULT_FAIL, .result = -EACCES, .times = 1 },
		{ .op = S3C_STORE_COPY, .kind = S3C_FAULT_LOST, .result = -ECONNRESET, .times = 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(o) * ARRAY_LEN(rules); i++) {
		cleanup_free uint8_t *other = pattern(LEN / 2, 3);
		struct pair p;

		pair_new(&p, &o[i / 2]);
		store_fails(&p, true, &rules[i % 2]);
		assert_int_equal(copy_all(&p), -EOPNOTSUPP);
		s3c_store_fault_clear(p.fx.store);
		assert_int_equal(copy_all(&p), -EOPNOTSUPP);
		write_all(p.to, 0, other, LEN / 2);
		assert_int_equal(s3c_object_commit(p.to, NULL), 0);
		assert_int_equal(differs(&p.fx, p.to, other, LEN / 2), 0);
		pair_close(&p);
		s3c_names_invalidate(p.fx.engine, "", true);
		assert_string_equal(list(&p.fx, ""), "from to");
		path_equal(&p.fx, "to", other, LEN / 2);
		path_equal(&p.fx, "from", p.data, LEN);
		fx_end(&p.fx);
		free(p.data);
	}
}

/* With a reply that was lost the copy is known again. */
static void test_lost(void **state)
{
	struct fx_options o[] = { { .enc = S3C_ENC_CSE_KEY }, { .enc = S3C_ENC_NONE } };
	const struct s3c_fault_rule rule = {
		.op = S3C_STORE_COPY, .kind = S3C_FAULT_LOST, .result = -ECONNRESET, .times = 1
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		struct pair p;

		pair_new(&p, &o[i]);
		store_fails(&p, false, &rule);
		assert_int_equal(copy_all(&p), 0);
		diverge(&p, &o[i]);
		pair_end(&p);
	}
}

/* Other machines: the source is another version, the name is taken. */
static void test_changed(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct pair p;

	(void)state;
	pair_new(&p, &o);
	hand_file(&p.fx, "from", "theirs");
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_false(hand_exists(&p.fx, "to"));
	pair_end(&p);

	pair_new(&p, &o);
	hand_file(&p.fx, "to", "theirs");
	assert_int_equal(copy_all(&p), -EOPNOTSUPP);
	assert_content(&p.fx, "to", "theirs");
	pair_end(&p);
}

static void *clone_thread(void *arg)
{
	assert_int_equal(copy_all(arg), -EOPNOTSUPP);
	return NULL;
}

/* What is written while the store copies is what the file is: nothing of the copy shows. */
static void test_written_meanwhile(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	const size_t at = 3 * S3C_CHUNK_SIZE;
	cleanup_free uint8_t *expect = calloc(at + 4, 1);
	pthread_t thread;
	struct pair p;

	(void)state;
	assert_non_null(expect);
	memcpy(expect + at, "mine", 4);
	pair_new(&p, &o);
	fault(&p.fx, S3C_STORE_COPY, S3C_FAULT_STALL, 0);
	assert_int_equal(pthread_create(&thread, NULL, clone_thread, &p), 0);
	while (!s3c_object_tried(p.to))
		usleep(1000);
	assert_int_equal(s3c_object_write(p.to, NULL, at, "mine", 4, false), 0);
	assert_int_equal(differs(&p.fx, p.to, expect, at + 4), 0);
	s3c_store_fault_clear(p.fx.store);
	s3c_store_fault_release(p.fx.store);
	pthread_join(thread, NULL);
	assert_int_equal(differs(&p.fx, p.to, expect, at + 4), 0);
	assert_int_equal(s3c_object_commit(p.to, NULL), 0);
	pair_close(&p);
	s3c_names_invalidate(p.fx.engine, "", true);
	assert_string_equal(list(&p.fx, ""), "from to");
	path_equal(&p.fx, "to", expect, at + 4);
	path_equal(&p.fx, "from", p.data, LEN);
	fx_end(&p.fx);
	free(p.data);
}

/* Holes, and a few bytes where it matters. */
static const uint64_t marks[] = { 0, 2 * SEG + 1, HUGE_PART - 2, HUGE_PART + SEG, HUGE_LEN - 4 };

static void write_marks(struct s3c_object *object)
{
	assert_int_equal(s3c_object_truncate(object, NULL, HUGE_LEN), 0);
	for (size_t i = 0; i < ARRAY_LEN(marks); i++)
		assert_int_equal(s3c_object_write(object, NULL, marks[i], "mark", 4, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
}

static void read_mark(struct fx *fx, struct s3c_object *object, uint64_t at, const char *expect)
{
	struct s3c_pages pages;
	char text[5] = "";
	size_t len = 0;

	assert_int_equal(s3c_object_read(object, NULL, at, 4, NULL, &pages), 0);
	for (unsigned i = 0; i < pages.count; i++) {
		memcpy(text + len, pages.iov[i].iov_base, pages.iov[i].iov_len);
		len += pages.iov[i].iov_len;
	}
	s3c_pages_release(fx->engine, &pages);
	assert_int_equal(len, strlen(expect));
	assert_string_equal(text, expect);
}

static void assert_size(struct s3c_object *object, uint64_t size, bool dirty)
{
	struct s3c_info info;

	s3c_object_info(object, &info);
	assert_int_equal(info.size, size);
	assert_int_equal(s3c_object_dirty(object), dirty);
}

/* More than an answer can tell: each shows what was asked for by then, and nothing is sent again.
 */
static void test_huge(void **state)
{
	static const struct {
		enum { ALL, ENOUGH, WRITTEN, CHANGED, STORED } how;
		uint64_t more; /* of the second request */
		int result;
		uint64_t size;
	} cases[] = {
		{ ALL, HUGE_LEN, 0, HUGE_LEN },
		{ ENOUGH, SEG + 5, 0, HUGE_PART + SEG },
		{ ENOUGH, 5, -EOPNOTSUPP, HUGE_PART },
		{ WRITTEN, HUGE_LEN, -EOPNOTSUPP, HUGE_PART },
		{ CHANGED, HUGE_LEN, -EOPNOTSUPP, HUGE_PART },
		{ STORED, HUGE_LEN, -EOPNOTSUPP, HUGE_PART },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
		uint64_t done = 0;
		struct pair p;

		pair_new(&p, &o);
		write_marks(p.from);
		fx_requests(&p.fx);
		assert_int_equal(s3c_object_clone(p.to, p.from, NULL, 0, HUGE_LEN, &done), 0);
		assert_requests(&p.fx, "COPY 1");
		assert_int_equal(done, HUGE_PART);
		assert_size(p.to, HUGE_PART, true);
		read_mark(&p.fx, p.to, HUGE_PART - 2, "ma");
		if (cases[i].how == WRITTEN)
			write_text(p.to, 0, "mark");
		else if (cases[i].how == CHANGED)
			write_text(p.from, 0, "mark");
		else if (cases[i].how == STORED)
			assert_int_equal(s3c_object_commit(p.to, NULL), 0);
		assert_int_equal(
			s3c_object_clone(p.to, p.from, NULL, HUGE_PART, cases[i].more, &done),
			cases[i].result);
		assert_size(p.to, cases[i].size, cases[i].how == ENOUGH || cases[i].how == CHANGED);
		fx_requests(&p.fx);
		assert_int_equal(s3c_object_sync(p.to, NULL, S3C_SYNC_CLOSE), 0);
		if (cases[i].how == ALL)
			assert_requests(&p.fx, "");
		pair_close(&p);
		s3c_names_invalidate(p.fx.engine, "", true);
		assert_int_equal(s3c_object_open(p.fx.engine, NULL, "to", &p.to), 0);
		assert_size(p.to, cases[i].size, false);
		for (size_t n = 0; n < ARRAY_LEN(marks); n++)
			if (marks[n] + 4 <= cases[i].size)
				read_mark(&p.fx, p.to, marks[n], "mark");
		s3c_object_close(p.to);
		fx_end(&p.fx);
		free(p.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copied),  cmocka_unit_test(test_replaces),
		cmocka_unit_test(test_not_for), cmocka_unit_test(test_former_key),
		cmocka_unit_test(test_failed),  cmocka_unit_test(test_lost),
		cmocka_unit_test(test_changed), cmocka_unit_test(test_written_meanwhile),
		cmocka_unit_test(test_huge),    cmocka_unit_test(test_without_condition),
	};

	assert_int_equal(s3c_secret_init(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
