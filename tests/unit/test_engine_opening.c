/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Files that are opened while their name goes: before it has, after it has, never in between. And
 * files whose name another machine took for another version: what was written here is kept.
 */
#include "engine_fixture.h"

#include <stdatomic.h>

struct opening {
	struct fx *fx;
	const char *path;
	int result;
	atomic_bool done;
	struct s3c_object *object;
};

static void *open_it(void *arg)
{
	struct opening *o = arg;

	o->result = s3c_object_open(o->fx->engine, NULL, o->path, &o->object);
	atomic_store(&o->done, true);
	return NULL;
}

struct removing {
	struct fx *fx;
	const char *from, *path; /* from NULL: an unlink */
	int result;
};

static void *remove_it(void *arg)
{
	struct removing *rm = arg;

	rm->result = rm->from ? move(rm->fx, rm->from, rm->path)
			      : s3c_engine_unlink(rm->fx->engine, NULL, rm->path);
	return NULL;
}

/* The removal is at the store; an open that comes now is answered when its outcome is known. */
static void opened_meanwhile(bool rename, bool fails)
{
	/* Without conditions there is a look before it, and parts are sent. */
	const enum s3c_store_opcode op = !rename ? S3C_STORE_DELETE
					 : fails ? S3C_STORE_UPLOAD_COMPLETE
						 : S3C_STORE_COPY;
	struct s3c_fault_rule stall = {
		.op = fails ? S3C_STORE_HEAD : op,
		.kind = S3C_FAULT_STALL,
		.times = 1,
	};
	struct s3c_fault_rule fail = {
		.op = op,
		.kind = S3C_FAULT_FAIL,
		.result = -EACCES,
		.times = 1,
	};
	struct removing rm = { .from = rename ? "a" : NULL, .path = "b" };
	struct fx_options options = sealed_options;
	struct opening o = { .path = "b" };
	pthread_t remover, opener;
	struct fx fx;

	options.no_caps = fails;
	fx_new(&fx, &options);
	rm.fx = o.fx = &fx;
	hand_file(&fx, "p/a", "new");
	hand_file(&fx, "p/b", "old");
	list(&fx, "");
	assert_int_equal(look(&fx, "a", NULL), 0);
	assert_int_equal(look(&fx, "b", NULL), 0);
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	if (fails)
		assert_int_equal(s3c_store_fault_add(fx.store, &fail), 0);
	assert_int_equal(s3c_thread_start(&remover, "remove", remove_it, &rm), 0);
	usleep(100000);
	assert_int_equal(s3c_object_open(fx.engine, S3C_NOWAIT, "b", &o.object), -EINPROGRESS);
	assert_int_equal(s3c_thread_start(&opener, "open", open_it, &o), 0);
	usleep(100000);
	assert_false(atomic_load(&o.done));
	s3c_store_fault_release(fx.store);
	pthread_join(remover, NULL);
	pthread_join(opener, NULL);
	assert_int_equal(rm.result, fails ? -EACCES : 0);
	if (!rename && !fails) {
		assert_int_equal(o.result, -ENOENT);
	} else {
		assert_int_equal(o.result, 0);
		assert_int_equal(s3c_object_write(o.object, NULL, 0, "X", 1, false), 0);
		assert_int_equal(s3c_object_commit(o.object, NULL), 0);
		s3c_object_close(o.object);
		assert_content(&fx, "p/b", fails ? "Xld" : "Xew");
	}
	fx_end(&fx);
}

static void test_opened_meanwhile(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		opened_meanwhile(i & 1, i & 2);
}

struct churning {
	struct fx *fx;
	atomic_bool stop;
	atomic_uint opened, conflicts;
};

static void *write_on(void *arg)
{
	struct churning *c = arg;

	while (!atomic_load(&c->stop)) {
		struct s3c_object *object;
		int r = s3c_object_open(c->fx->engine, NULL, "f", &object);

		if (r < 0)
			continue;
		r = s3c_object_write(object, NULL, 0, "x", 1, false);
		if (r == 0)
			r = s3c_object_commit(object, NULL);
		atomic_fetch_add(&c->opened, 1);
		atomic_fetch_add(&c->conflicts, r < 0);
		s3c_object_close(object);
	}
	return NULL;
}

/* Where nobody else works on the store, nothing is ever another machine's. */
static void test_churn(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct fx_options o = sealed_options;
		struct churning c = { .stop = false };
		pthread_t thread;
		struct fx fx;

		o.writeback = i;
		fx_new(&fx, &o);
		c.fx = &fx;
		list(&fx, "");
		assert_int_equal(s3c_thread_start(&thread, "write", write_on, &c), 0);
		for (int n = 0; n < 60 || (!atomic_load(&c.opened) && n < 20000); n++) {
			make_file(&fx, n % 2 ? "f" : "g", "hello");
			if (!(n % 2))
				assert_int_equal(move(&fx, "g", "f"), 0);
			usleep(100);
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
		}
		atomic_store(&c.stop, true);
		pthread_join(thread, NULL);
		assert_true(atomic_load(&c.opened) > 0);
		assert_int_equal(atomic_load(&c.conflicts), 0);
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, ""), "");
		fx_end(&fx);
	}
}

/* However fast one follows the other, and whatever stands in the way. */
static void test_conflicts_are_kept(void **state)
{
	enum { COUNT = 20 };
	struct s3c_listing *listing;
	unsigned kept[COUNT] = { 0 }, n;
	struct s3c_object *object;
	char text[64];
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	for (unsigned i = 0; i < COUNT; i++) {
		hand_file(&fx, "p/f", "before");
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
		snprintf(text, sizeof(text), "mine %u", i);
		assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
		assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
		hand_file(&fx, "p/f", "theirs");
		assert_int_equal(s3c_object_commit(object, NULL), -ESTALE);
		s3c_object_close(object);
	}
	assert_content(&fx, "p/f", "theirs");
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	for (size_t i = 0; i < listing->count; i++) {
		if (strncmp(listing->items[i].name, "f.conflict-", 11) != 0)
			continue;
		assert_int_equal(s3c_object_open(fx.engine, NULL, listing->items[i].name, &object),
				 0);
		read_object(&fx, object, text, sizeof(text));
		s3c_object_close(object);
		assert_int_equal(sscanf(text, "mine %u", &n), 1);
		assert_true(n < COUNT && !kept[n]++);
	}
	s3c_listing_put(listing);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(kept[i], 1);
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opened_meanwhile),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_conflicts_are_kept),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
