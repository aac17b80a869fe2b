/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* names=encrypted in the engine: keys, what is below a volume, and renames that are cut off
 * anywhere. */
#include "killed_fixture.h"
#include "through_store.h"

#include "engine/names.h"
#include "engine/pending.h"

#include <pthread.h>

#define LONG_A                                                                                     \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"         \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LONG_B LONG_A "b"

static const struct fx_options hidden = { .prefix = "p/", .encrypted_names = true };

/* The key of a path by the codec alone; the caller frees. dir: with a slash. */
static char *key_of(const struct fx *fx, const char *path, bool dir)
{
	char key[S3C_STORE_KEY_MAX + 1] = "";

	for (const char *p = path; *p;) {
		size_t len = strcspn(p, "/");
		struct s3c_stored_name stored;

		assert_int_equal(
			s3c_name_encrypt(fx->engine->volume->names_key, key, p, len, &stored), 0);
		strcat(key, stored.text);
		p += len;
		if (*p++ != '/')
			break;
		strcat(key, "/");
	}
	return s3c_asprintf("p/%s%s", key, dir ? "/" : "");
}

static void write_text(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
}

static void expect_text(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;
	struct s3c_pages pages;

	if (s3c_object_open(fx->engine, NULL, path, &object) < 0)
		fail_msg("%s is not there", path);
	assert_int_equal(s3c_object_read(object, NULL, 0, 4096, NULL, &pages), 0);
	assert_int_equal(pages.len, strlen(text));
	assert_memory_equal(pages.iov[0].iov_base, text, pages.len);
	s3c_pages_release(fx->engine, &pages);
	s3c_object_close(object);
}

static void test_keys(void **state)
{
	static const char *const dirs[] = { "d", "d/" LONG_A, "d/" LONG_A "/" LONG_B };
	static const char *const files[] = { "f", "d/f", "d/" LONG_A "/" LONG_B "/" LONG_A };
	cleanup_free char *odd = NULL;
	struct s3c_meta meta = { 0 };
	struct fx fx;

	(void)state;
	fx_new(&fx, &hidden);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, dirs[i], &dir_attrs), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		write_text(&fx, files[i], files[i]);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		cleanup_free char *key = key_of(&fx, dirs[i], true);

		assert_true(hand_exists(&fx, key));
	}
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cleanup_free char *key = key_of(&fx, files[i], false);

		assert_true(hand_exists(&fx, key));
	}
	/* What is no name of the volume: in other directories, too. */
	odd = key_of(&fx, "d/f", false);
	hand_put(&fx, "p/plain", &meta, "x", 1);
	hand_put(&fx, strrchr(odd, '/') + 1, &meta, "x", 1);
	s3c_names_invalidate(fx.engine, "", true);
	assert_string_equal(list(&fx, ""), "d/ f");
	assert_string_equal(list(&fx, "d"), LONG_A "/ f");
	assert_string_equal(list(&fx, "d/" LONG_A), LONG_B "/");
	assert_int_equal(look(&fx, "plain", NULL), -ENOENT);
	/* A directory with a long name goes after what is below it. */
	fx_requests(&fx);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "d", "e", false), 0);
	assert_non_null(strstr(fx_requests(&fx), "MANY 3"));
	assert_string_equal(list(&fx, "e/" LONG_A "/" LONG_B), LONG_A);
	fx_end(&fx);
}

/* A listing that cannot tell a name fails; it is never without it. */
static void test_name_unknown(void **state)
{
	struct s3c_fault_rule rule = {
		.op = S3C_STORE_HEAD,
		.key_substring = "%",
		.kind = S3C_FAULT_FAIL,
		.result = -EACCES,
		.times = 1,
	};
	struct fx_options o = hidden;
	struct s3c_listing *listing;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	write_text(&fx, LONG_A, "a");
	write_text(&fx, LONG_B, "b");
	fx_stop(&fx);
	fx_new(&fx, &o);
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), -EACCES);
	assert_string_equal(list(&fx, ""), LONG_A " " LONG_B);
	fx_end(&fx);
}

static void test_below(void **state)
{
	struct fx_options o = hidden;
	struct s3c_volume_request rq = { .encrypted_names = true };
	struct s3c_err err = { 0 };
	char dir[64], *prefix;
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, LONG_A, &dir_attrs), 0);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, LONG_A "/in", &dir_attrs), 0);
	write_text(&fx, LONG_A "/in/f", "whole");
	fx_stop(&fx);
	o.prefix = "p/" LONG_A "/in/";
	fx_new(&fx, &o);
	rq.store = fx.store;
	rq.prefix = o.prefix;
	assert_int_equal(s3c_engine_volume_locate(&rq, &err, &prefix), 0);
	assert_string_equal(prefix, "p/");
	free(prefix);
	assert_string_equal(fx.volume_prefix, "p/");
	assert_string_equal(list(&fx, ""), "f");
	expect_text(&fx, "f", "whole");
	write_text(&fx, "g", "part");
	fx_stop(&fx);
	/* The root of a mount has a long name, and an object that has it. */
	o.prefix = "p/" LONG_A "/";
	fx_new(&fx, &o);
	assert_int_equal(s3c_engine_setattr(fx.engine, NULL, "", NULL, S3C_SET_MODE,
					    &(struct s3c_attrs){ .mode = S_IFDIR | 0711 },
					    &(struct s3c_info){ 0 }),
			 0);
	fx_stop(&fx);
	o.prefix = "p/";
	fx_new(&fx, &o);
	assert_string_equal(list(&fx, ""), LONG_A "/");
	expect_text(&fx, LONG_A "/in/g", "part");
	fx_end(&fx);
}

/* One that stalls cuts the rename off there. */
static struct s3c_fault_rule stall;

static void *rename_tree(void *arg)
{
	struct fx *fx = arg;

	s3c_engine_rename(fx->engine, NULL, "old", "new", false);
	return NULL;
}

static const char *const tree[] = { "old/a", "old/" LONG_A "/b", "old/" LONG_A "/" LONG_B "/c",
				    "old/" LONG_A "/" LONG_B "/" LONG_A };

static void make_tree(struct fx *fx, struct fx_options *o)
{
	(void)o;
	assert_int_equal(s3c_engine_mkdir(fx->engine, NULL, "old", &dir_attrs), 0);
	assert_int_equal(s3c_engine_mkdir(fx->engine, NULL, "old/" LONG_A, &dir_attrs), 0);
	assert_int_equal(s3c_engine_mkdir(fx->engine, NULL, "old/" LONG_A "/" LONG_B, &dir_attrs),
			 0);
	for (size_t i = 0; i < ARRAY_LEN(tree); i++)
		write_text(fx, tree[i], tree[i]);
}

/* Until the request that stalls has been made, or all is done. */
static void rename_cut(struct fx *fx, struct fx_options *o)
{
	pthread_t thread;

	(void)o;
	assert_int_equal(s3c_store_fault_add(fx->store, &stall), 0);
	assert_int_equal(pthread_create(&thread, NULL, rename_tree, fx), 0);
	for (int i = 0; i < 15 && pthread_tryjoin_np(thread, NULL) != 0; i++)
		usleep(10000);
}

static void test_rename_cut(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		unsigned count;
	} cuts[] = {
		{ S3C_STORE_LIST, 3 }, { S3C_STORE_PUT, 3 },         { S3C_STORE_COPY, 4 },
		{ S3C_STORE_HEAD, 4 }, { S3C_STORE_DELETE_MANY, 3 },
	};
	unsigned resumed = 0;

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(cuts); c++) {
		for (unsigned n = 0; n < cuts[c].count; n++) {
			struct fx_options o = hidden;
			const char *top;
			char dir[64];
			struct fx fx;

			o.durable = true;
			fresh_dir(&o, dir);
			killed(make_tree, &o);
			stall = (struct s3c_fault_rule){ .op = cuts[c].op,
							 .kind = S3C_FAULT_STALL,
							 .after = n };
			killed(rename_cut, &o);
			fx_new(&fx, &o);
			resumed += fx.recovery.names;
			top = list(&fx, "");
			if (strcmp(top, "new/") != 0 && strcmp(top, "old/") != 0)
				fail_msg("op %d after %u: %s", (int)cuts[c].op, n, top);
			for (size_t i = 0; i < ARRAY_LEN(tree); i++) {
				cleanup_free char *path =
					s3c_asprintf("%.3s%s", list(&fx, ""), tree[i] + 3);

				expect_text(&fx, path, tree[i]);
			}
			assert_int_equal(records(&fx), 0);
			fx_end(&fx);
		}
	}
	assert_true(resumed > 8);
}

/*
 * A store that looks at what DELETE_MANY takes: a directory with a long name only when nothing is
 * below it any more. Before the first LIST after a copy it changes a file, as another machine
 * would.
 */
static struct watch {
	struct fx *fx;
	struct s3c_store *inner;
	const char *change;
	bool copied;
	int lists, long_markers; /* lists: after the first copy */
} watch;

static void check_gone_below(const char *key)
{
	struct s3c_store_request rq = { .op = S3C_STORE_LIST, .prefix = key };
	struct s3c_store_reply reply;

	assert_int_equal(s3c_store_perform(watch.inner, &rq, NULL, &reply), 0);
	for (size_t i = 0; i < reply.list.count; i++)
		if (strcmp(reply.list.entries[i].key, key) != 0)
			fail_msg("%s is deleted before %s", key, reply.list.entries[i].key);
	s3c_store_reply_free(&reply);
	watch.long_markers++;
}

static int watch_submit(struct s3c_store *store, const struct s3c_store_request *request,
			s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	watch.copied = watch.copied || request->op == S3C_STORE_COPY;
	if (request->op == S3C_STORE_LIST && watch.copied && !watch.lists++ && watch.change) {
		cleanup_free char *key = key_of(watch.fx, watch.change, false);

		hand_seal(watch.fx, key, S_IFREG | 0600, "changed", 7);
	}
	for (size_t i = 0; request->op == S3C_STORE_DELETE_MANY && i < request->key_count; i++) {
		const char *key = request->keys[i];

		if (key[strlen(key) - 1] == '/' && s3c_key_is_long(key))
			check_gone_below(key);
	}
	return s3c_store_submit(through_inner(store), request, done, arg, ret_call);
}

static struct s3c_store *watch_new(struct s3c_store *inner)
{
	watch.inner = inner;
	return through_new(inner, watch_submit);
}

/* Who lists the old tree meanwhile, or after a crash, can tell the path of all that is left. */
static void test_markers_last(void **state)
{
	struct fx_options o = hidden;
	struct fx fx;

	(void)state;
	o.wrap = watch_new;
	for (int changes = 0; changes < 2; changes++) {
		watch = (struct watch){ .fx = &fx };
		fx_new(&fx, &o);
		make_tree(&fx, &o);
		watch.copied = false;
		watch.lists = 0;
		watch.change = changes ? tree[2] : NULL;
		assert_int_equal(s3c_engine_rename(fx.engine, NULL, "old", "new", false), 0);
		assert_int_equal(watch.long_markers, 2);
		assert_int_equal(watch.lists, 2 + changes); /* a round more */
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, ""), "new/");
		for (size_t i = 0; i < ARRAY_LEN(tree); i++) {
			cleanup_free char *path = s3c_asprintf("new%s", tree[i] + 3);

			expect_text(&fx, path, changes && i == 2 ? "changed" : tree[i]);
		}
		fx_end(&fx);
	}
}

/* What stays for good, in a rename that is taken up again, keeps the directories above it. */
static void test_markers_stay(void **state)
{
	static const char *const kept[] = { "old/" LONG_A, "old/" LONG_A "/" LONG_B };
	struct fx_options o = hidden;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	fx_new(&fx, &o);
	make_tree(&fx, &o);
	write_text(&fx, "new/" LONG_A "/" LONG_B "/c", "of another machine");
	assert_int_equal(s3c_rename_tree_resume(fx.engine, "old", "new", s3c_clock_realtime_ns()),
			 0);
	fx_stop(&fx);
	fx_new(&fx, &o);
	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		cleanup_free char *key = key_of(&fx, kept[i], true);

		assert_true(hand_exists(&fx, key));
	}
	assert_string_equal(list(&fx, "old/" LONG_A), LONG_B "/");
	assert_string_equal(list(&fx, "old/" LONG_A "/" LONG_B), "c");
	expect_text(&fx, tree[2], tree[2]);
	expect_text(&fx, "new/" LONG_A "/" LONG_B "/c", "of another machine");
	expect_text(&fx, "new/" LONG_A "/b", tree[1]);
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),         cmocka_unit_test(test_name_unknown),
		cmocka_unit_test(test_below),        cmocka_unit_test(test_rename_cut),
		cmocka_unit_test(test_markers_last), cmocka_unit_test(test_markers_stay),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
