/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * RENAME_EXCHANGE: two names change places, or nothing has changed; whatever fails, and whenever
 * the daemon dies.
 */
#include "killed_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/content.h"

#define SPARE ".s3cryptfs-exchange-"

static int swap(struct fx *fx, const char *a, const char *b)
{
	return s3c_engine_exchange(fx->engine, NULL, a, b);
}

static void begin(struct fx *fx, const struct fx_options *o)
{
	fx_new(fx, o);
	list(fx, "");
	fx_requests(fx);
}

static void test_files(void **state)
{
	struct s3c_header before, after;
	struct s3c_object *a, *b;
	char text[16];
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "first");
	hand_file(&fx, "p/b", "second");
	list(&fx, "");
	hand_open(&fx, "p/a", &before, NULL, 0);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &a), 0);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "b", &b), 0);
	fx_requests(&fx);
	assert_int_equal(swap(&fx, "a", "b"), 0);
	assert_requests(&fx, "COPY 3 DELETE 3");
	assert_content(&fx, "p/a", "second");
	assert_content(&fx, "p/b", "first");
	hand_open(&fx, "p/b", &after, NULL, 0);
	assert_memory_equal(before.file_id, after.file_id, sizeof(after.file_id));
	assert_string_equal(list(&fx, ""), "a b");
	/* Who had them open reads and writes on. */
	read_object(&fx, a, text, sizeof(text));
	assert_string_equal(text, "first");
	assert_int_equal(s3c_object_write(b, NULL, 0, "SECOND", 6, false), 0);
	assert_int_equal(s3c_object_sync(b, NULL, S3C_SYNC_CLOSE), 0);
	assert_content(&fx, "p/a", "SECOND");
	assert_content(&fx, "p/b", "first");
	s3c_object_close(a);
	s3c_object_close(b);
	/* And what is not stored yet. */
	assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &a), 0);
	assert_int_equal(s3c_object_write(a, NULL, 0, "dirty!", 6, false), 0);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "new", &file_attrs, &b), 0);
	assert_int_equal(s3c_object_write(b, NULL, 0, "new", 3, false), 0);
	assert_int_equal(swap(&fx, "a", "new"), 0);
	assert_int_equal(s3c_object_sync(a, NULL, S3C_SYNC_CLOSE), 0);
	assert_int_equal(s3c_object_sync(b, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(a);
	s3c_object_close(b);
	assert_content(&fx, "p/new", "dirty!");
	assert_content(&fx, "p/a", "new");
	fx_end(&fx);
}

static void test_rules(void **state)
{
	static const struct {
		const char *a, *b;
		int result;
	} cases[] = {
		{ "file", "missing", -ENOENT }, { "missing", "file", -ENOENT },
		{ "dir", "dir/in", -EINVAL },   { "dir/in", "dir", -EINVAL },
		{ "", "file", -EBUSY },         { "file", "", -EBUSY },
		{ "file", "file", 0 },          { "missing", "missing", -ENOENT },
	};
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/file", "x");
	hand_file(&fx, "p/dir/in/f", "y");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(swap(&fx, cases[i].a, cases[i].b), cases[i].result);
	fx_requests(&fx);
	assert_int_equal(swap(&fx, "file", "file"), 0);
	assert_requests(&fx, "");
	assert_string_equal(list(&fx, ""), "dir/ file");
	assert_content(&fx, "p/file", "x");
	assert_content(&fx, "p/dir/in/f", "y");
	fx_end(&fx);
}

static void test_directories(void **state)
{
	struct s3c_info info;
	struct s3c_object *open;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/file", "x");
	hand_seal(&fx, "p/one/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/one/f", "of one");
	hand_seal(&fx, "p/in/two/", S_IFDIR | 0700, NULL, -1);
	hand_file(&fx, "p/in/two/g", "of two");
	assert_int_equal(s3c_object_open(fx.engine, NULL, "one/f", &open), 0);
	assert_int_equal(swap(&fx, "one", "in/two"), 0);
	assert_reads(&fx, "in/two/f", "of one");
	assert_reads(&fx, "one/g", "of two");
	assert_string_equal(list(&fx, "one"), "g");
	assert_string_equal(list(&fx, "in/two"), "f");
	assert_string_equal(list(&fx, ""), "file in/ one/");
	assert_int_equal(look(&fx, "one", &info), 0);
	assert_int_equal(info.mode & 07777, 0700);
	assert_int_equal(s3c_object_write(open, NULL, 0, "OF", 2, false), 0);
	assert_int_equal(s3c_object_sync(open, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(open);
	assert_content(&fx, "p/in/two/f", "OF one");
	/* A file and a directory. */
	assert_int_equal(swap(&fx, "file", "in"), 0);
	assert_string_equal(list(&fx, ""), "file/ in one/");
	assert_content(&fx, "p/in", "x");
	assert_content(&fx, "p/file/two/f", "OF one");
	fx_end(&fx);
}

static void test_links(void **state)
{
	struct fx_options o = { .durable = true };
	uint8_t body[16];
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_file(&fx, "a", "linked");
	make_file(&fx, "b", "other");
	assert_int_equal(s3c_engine_link(fx.engine, NULL, "a", "a2", body), 0);
	/* Names of one file are the same after it. */
	assert_int_equal(swap(&fx, "a", "a2"), 0);
	assert_int_equal(swap(&fx, "a2", "b"), 0);
	assert_reads(&fx, "a", "linked");
	assert_reads(&fx, "b", "linked");
	assert_reads(&fx, "a2", "other");
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(swap(&fx, "a", "b"), 0);
	assert_string_equal(list(&fx, ""), "a a2 b");
	fx_end(&fx);
}

/* What the store has of the two names, or "A B" with a third. */
static const char *both(struct fx *fx, const char *a, const char *b)
{
	static char text[64];
	struct s3c_object *object;
	char first[16], second[16];

	assert_int_equal(s3c_object_open(fx->engine, NULL, a, &object), 0);
	read_object(fx, object, first, sizeof(first));
	s3c_object_close(object);
	assert_int_equal(s3c_object_open(fx->engine, NULL, b, &object), 0);
	read_object(fx, object, second, sizeof(second));
	s3c_object_close(object);
	snprintf(text, sizeof(text), "%s %s%s", first, second,
		 strstr(list(fx, ""), SPARE) ? " and a third" : "");
	return text;
}

static const enum s3c_store_opcode touched[] = { S3C_STORE_HEAD, S3C_STORE_COPY, S3C_STORE_DELETE,
						 S3C_STORE_LIST, S3C_STORE_DELETE_MANY };

/* Each request of it fails once: nothing has changed, and nothing is left. */
static void test_one_failure(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(touched); i++) {
		for (unsigned n = 0; n < 4; n++) {
			struct s3c_fault_rule rule = { .op = touched[i],
						       .kind = S3C_FAULT_FAIL,
						       .result = -EACCES,
						       .after = n,
						       .times = 1 };
			struct fx_options o = { .durable = true };
			struct fx fx;
			int r;

			begin(&fx, &o);
			make_file(&fx, "a", "first");
			make_file(&fx, "b", "second");
			assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
			r = swap(&fx, "a", "b");
			failed += r < 0;
			s3c_store_fault_clear(fx.store);
			assert_string_equal(both(&fx, "a", "b"),
					    r < 0 ? "first second" : "second first");
			fx_end(&fx);
		}
	}
	assert_true(failed >= 3);
}

/* The store fails for good: what could not be taken back is taken back by the next daemon. */
static void test_dead_store(void **state)
{
	unsigned resumed = 0;

	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct s3c_fault_rule rule = {
			.op = S3C_STORE_COPY, .kind = S3C_FAULT_FAIL, .result = -EACCES, .after = n
		};
		struct fx_options o = { .durable = true };
		char dir[64];
		struct fx fx;
		int r;

		fresh_dir(&o, dir);
		begin(&fx, &o);
		make_file(&fx, "a", "first");
		make_file(&fx, "b", "second");
		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		r = swap(&fx, "a", "b");
		assert_int_equal(r, n < 3 ? -EACCES : 0);
		s3c_store_fault_clear(fx.store);
		fx_stop(&fx);
		fx_new(&fx, &o);
		resumed += fx.recovery.names;
		assert_string_equal(both(&fx, "a", "b"),
				    r < 0 && n != 2 ? "first second" : "second first");
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
	assert_true(resumed >= 2);
}

static struct s3c_fault_rule stall;
static const char *swap_a, *swap_b;

static void *swap_them(void *arg)
{
	s3c_engine_exchange(((struct fx *)arg)->engine, NULL, swap_a, swap_b);
	return NULL;
}

static void make_all(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_file(fx, "a", "first");
	make_file(fx, "b", "second");
	assert_int_equal(s3c_engine_mkdir(fx->engine, NULL, "d", &dir_attrs), 0);
	assert_int_equal(s3c_engine_mkdir(fx->engine, NULL, "e", &dir_attrs), 0);
	make_file(fx, "d/f", "first");
	make_file(fx, "d/g", "first");
	make_file(fx, "e/f", "second");
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
}

/* Until the request that stalls has been made, or all is done. */
static void swap_cut(struct fx *fx, struct fx_options *o)
{
	pthread_t thread;

	(void)o;
	list(fx, "");
	assert_int_equal(s3c_store_fault_add(fx->store, &stall), 0);
	assert_int_equal(pthread_create(&thread, NULL, swap_them, fx), 0);
	for (int i = 0; i < 15 && pthread_tryjoin_np(thread, NULL) != 0; i++)
		usleep(10000);
}

static void cut_at(struct fx_options o, const char *a, const char *b, enum s3c_store_opcode op,
		   unsigned n, unsigned *resumed)
{
	char dir[64];
	const char *found;
	struct fx fx;

	fresh_dir(&o, dir);
	killed(make_all, &o);
	swap_a = a;
	swap_b = b;
	stall = (struct s3c_fault_rule){ .op = op, .kind = S3C_FAULT_STALL, .after = n };
	killed(swap_cut, &o);
	fx_new(&fx, &o);
	*resumed += fx.recovery.names;
	found = both(&fx, *a == 'd' ? "d/f" : a, *a == 'd' ? "e/f" : b);
	if (strcmp(found, "first second") != 0 && strcmp(found, "second first") != 0)
		fail_msg("%s, op %d after %u: %s", a, (int)op, n, found);
	assert_int_equal(look(&fx, *found == 'f' ? "d/g" : "e/g", NULL),
			 *a == 'd' || *found == 'f' ? 0 : -ENOENT);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* The daemon dies at each request: the two have changed places, or not. */
static void test_killed(void **state)
{
	unsigned resumed = 0;

	(void)state;
	for (int writeback = 0; writeback < 2; writeback++) {
		const struct fx_options o = { .durable = true, .writeback = writeback };

		for (size_t i = 0; i < ARRAY_LEN(touched); i++)
			for (unsigned n = 0; n < 4; n++) {
				cut_at(o, "a", "b", touched[i], n, &resumed);
				cut_at(o, "d", "e", touched[i], n, &resumed);
			}
	}
	assert_true(resumed > 20);
}

static void write_close(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
}

/* In writeback, of files that the store has not seen: a matter of the journal. */
static void swap_unsent(struct fx *fx, struct fx_options *o)
{
	struct s3c_fault_rule away = { .kind = S3C_FAULT_FAIL, .result = -ENETUNREACH };

	(void)o;
	list(fx, "");
	for (int op = 0; op <= S3C_STORE_UPLOAD_ABORT; op++) {
		away.op = (enum s3c_store_opcode)op;
		if (op != S3C_STORE_LIST && op != S3C_STORE_HEAD)
			assert_int_equal(s3c_store_fault_add(fx->store, &away), 0);
	}
	write_close(fx, "a", "first");
	write_close(fx, "b", "second");
	assert_int_equal(swap(fx, "a", "b"), 0);
	assert_string_equal(both(fx, "a", "b"), "second first");
	assert_int_equal(s3c_engine_sync_names(fx->engine, NULL), 0);
}

static void test_unsent(void **state)
{
	struct fx_options o = { .durable = true, .writeback = true };
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(swap_unsent, &o);
	fx_new(&fx, &o);
	assert_string_equal(both(&fx, "a", "b"), "second first");
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_content(&fx, "a", "second");
	assert_content(&fx, "b", "first");
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* Who asks for one of the names, or opens it, meanwhile. */
struct asking {
	struct fx *fx;
	atomic_bool stop;
	unsigned asked;
	int worst;
};

static void *ask(void *arg)
{
	struct asking *asking = arg;

	while (!atomic_load(&asking->stop)) {
		struct s3c_object *object;
		struct s3c_info info;
		int r = look(asking->fx, asking->asked % 2 ? "a" : "b", &info);

		if (r == 0)
			r = s3c_object_open(asking->fx->engine, NULL, asking->asked % 2 ? "b" : "a",
					    &object);
		if (r == 0)
			s3c_object_close(object);
		asking->worst = S3C_MIN(asking->worst, r);
		asking->asked++;
	}
	return NULL;
}

static void test_asked_meanwhile(void **state)
{
	struct fx fx;
	struct asking asking = { .fx = &fx };
	pthread_t thread;

	(void)state;
	begin(&fx, &sealed_options);
	make_file(&fx, "a", "first");
	make_file(&fx, "b", "second");
	assert_int_equal(pthread_create(&thread, NULL, ask, &asking), 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(swap(&fx, "a", "b"), 0);
		usleep(100);
	}
	atomic_store(&asking.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(asking.worst, 0);
	assert_true(asking.asked > 20);
	assert_reads(&fx, "a", "first");
	fx_end(&fx);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),           cmocka_unit_test(test_rules),
		cmocka_unit_test(test_directories),     cmocka_unit_test(test_links),
		cmocka_unit_test(test_one_failure),     cmocka_unit_test(test_dead_store),
		cmocka_unit_test(test_killed),          cmocka_unit_test(test_unsent),
		cmocka_unit_test(test_asked_meanwhile),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
