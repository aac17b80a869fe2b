/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine_fixture.h"
#include "through_store.h"

#include <stdatomic.h>

static void test_lookup_costs(void **state)
{
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/small", "hello");
	hand_seal(&fx, "p/empty", S_IFREG | 0600, "", 0);
	hand_seal(&fx, "p/dir/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/implicit/file", "x");

	assert_int_equal(look(&fx, "small", &info), 0);
	assert_requests(&fx, "GET 1 LIST 1");
	assert_int_equal(info.size, 5);
	assert_int_equal(info.mode, S_IFREG | 0644);
	assert_int_equal(info.uid, 7);
	assert_int_equal(info.mtime_ns, 1000);
	assert_int_equal(look(&fx, "small", NULL), 0);
	assert_requests(&fx, "");
	assert_int_equal(s3c_engine_lookup(fx.engine, S3C_NOWAIT, "small", &info), 0);
	assert_int_equal(s3c_engine_lookup(fx.engine, S3C_NOWAIT, "dir", &info), -EINPROGRESS);
	/* One more request each than when the listing is known. */
	assert_int_equal(look(&fx, "dir", &info), 0);
	assert_requests(&fx, "GET 1 HEAD 1 LIST 1");
	assert_int_equal(info.mode, S_IFDIR | 0711);
	assert_int_equal(look(&fx, "implicit", &info), 0);
	assert_requests(&fx, "GET 1 LIST 1");
	assert_int_equal(info.mode, S_IFDIR | 0750);
	assert_int_equal(info.uid, 1000);
	assert_int_equal(look(&fx, "missing", NULL), -ENOENT);
	assert_requests(&fx, "GET 1 LIST 1");
	assert_int_equal(look(&fx, "missing", NULL), -ENOENT);
	assert_requests(&fx, "");
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "small", &info), 0);
	assert_requests(&fx, "HEAD 1");
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "dir", &info), 0);
	assert_requests(&fx, "HEAD 1");
	assert_int_equal(look(&fx, "", &info), 0);
	assert_true(S_ISDIR(info.mode));
	fx_end(&fx);
}

/* Lookups one by one in a directory that was never listed: soon one LIST serves them all. */
static void test_lookup_lone(void **state)
{
	struct fx fx;
	char name[16], key[16];

	(void)state;
	fx_new(&fx, &sealed_options);
	for (int i = 0; i < 6; i++) {
		snprintf(key, sizeof(key), "p/f%d", i);
		hand_file(&fx, key, "hello");
	}
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(look(&fx, name, NULL), 0);
	}
	/* Shares the LIST that is under way, or finds it done. */
	assert_string_equal(list(&fx, ""), "f0 f1 f2 f3 f4 f5");
	assert_requests(&fx, "GET 5 LIST 6");
	assert_int_equal(look(&fx, "missing", NULL), -ENOENT);
	assert_requests(&fx, "");
	fx_end(&fx);
}

static void test_lookup_listed(void **state)
{
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "hello");
	hand_seal(&fx, "p/c", S_IFREG | 0600, "", 0);
	hand_seal(&fx, "p/e/", S_IFDIR | 0711, NULL, -1);
	hand_file(&fx, "p/g/file", "x");
	assert_string_equal(list(&fx, ""), "a c e/ g/");
	assert_requests(&fx, "LIST 1");
	assert_string_equal(list(&fx, ""), "a c e/ g/");
	assert_int_equal(look(&fx, "missing", NULL), -ENOENT);
	assert_requests(&fx, "");
	/* Not in listing order: nothing is fetched ahead. */
	assert_int_equal(look(&fx, "g", &info), 0);
	assert_requests(&fx, "HEAD 1");
	assert_int_equal(look(&fx, "e", &info), 0);
	assert_requests(&fx, "HEAD 1");
	assert_int_equal(look(&fx, "c", &info), 0);
	assert_requests(&fx, "HEAD 1");
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_requests(&fx, "GET 1");
	for (const char *const *p = (const char *const[]){ "a", "c", "e", "g", NULL }; *p; p++)
		assert_int_equal(look(&fx, *p, NULL), 0);
	assert_requests(&fx, "");
	fx_end(&fx);
}

/* What is not shown is remembered like what is: for ttl, and as long as it is the same version. */
static void test_refused(void **state)
{
	struct fx_options o = { .prefix = "p/", .ttl_s = 3 };
	struct s3c_meta none = { 0 };
	char name[32], key[32];
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	for (int i = 0; i < 8; i++) {
		snprintf(key, sizeof(key), "p/d/f%d", i);
		hand_put(&fx, key, &none, "plain", 5);
	}
	hand_put(&fx, "p/d/z/", &none, NULL, 0);
	assert_string_equal(list(&fx, "d"), "f0 f1 f2 f3 f4 f5 f6 f7 z/");
	fx_requests(&fx);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 8; i++) {
			snprintf(name, sizeof(name), "d/f%d", i);
			assert_int_equal(look(&fx, name, NULL), -EIO);
		}
		assert_int_equal(look(&fx, "d/z", NULL), -EIO);
		assert_int_equal(look(&fx, "lone", NULL), round ? -EIO : -ENOENT);
		if (!round) {
			/* One for each, ahead or not, and two for the absent name. */
			assert_true(strlen(fx_requests(&fx)) > 0);
			hand_put(&fx, "p/lone", &none, "plain", 5);
			s3c_names_invalidate(fx.engine, "lone", false);
			assert_int_equal(look(&fx, "lone", NULL), -EIO);
			fx_requests(&fx);
		}
		assert_requests(&fx, "");
	}
	/* Asked for anew, and after ttl: another version is looked at. */
	hand_file(&fx, "p/lone", "sealed");
	assert_int_equal(look(&fx, "lone", NULL), -EIO);
	assert_requests(&fx, "");
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "lone", &(struct s3c_info){ 0 }),
			 0);
	hand_file(&fx, "p/d/f3", "sealed");
	sleep(3);
	assert_int_equal(look(&fx, "d/f3", NULL), 0);
	assert_int_equal(look(&fx, "d/f2", NULL), -EIO);
	/* A newer listing that shows the same version leaves it alone; ours is no foreign object.
	 */
	hand_seal(&fx, "p/no-type", 0644, "x", 1);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "no-type", NULL), -EIO);
	make_file(&fx, "d/g", "ours");
	assert_int_equal(look(&fx, "d/g", NULL), 0);
	hand_file(&fx, "p/d/f2", "sealed");
	s3c_names_invalidate(fx.engine, "d", true);
	assert_int_equal(look(&fx, "d/f2", NULL), 0);
	fx_end(&fx);
}

static void test_list_types(void **state)
{
	cleanup_free char *large = calloc(1, 5000);
	struct s3c_listing *listing;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a-small", "x");
	hand_seal(&fx, "p/b-large", S_IFREG | 0600, large, 5000);
	hand_file(&fx, "p/c-dir/x", "x");
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	assert_int_equal(listing->count, 3);
	assert_int_equal(listing->items[0].type, 0); /* it may be a symlink */
	assert_int_equal(listing->items[1].type, S_IFREG);
	assert_int_equal(listing->items[2].type, S_IFDIR);
	s3c_listing_put(listing);
	assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "d", "x", &file_attrs), 0);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	assert_int_equal(listing->items[3].type, S_IFLNK);
	s3c_listing_put(listing);
	fx_end(&fx);
}

static void test_lookup_sequence(void **state)
{
	struct s3c_engine_stats stats = { 0 };
	struct s3c_info info;
	struct fx fx;
	char path[32];

	(void)state;
	fx_new(&fx, &sealed_options);
	for (int i = 0; i < 150; i++) {
		snprintf(path, sizeof(path), "p/d/%03d", i);
		hand_file(&fx, path, "hello");
	}
	list(&fx, "d");
	assert_requests(&fx, "LIST 1");
	for (int i = 0; i < 150; i++) {
		snprintf(path, sizeof(path), "d/%03d", i);
		assert_int_equal(look(&fx, path, &info), 0);
		assert_int_equal(info.size, 5);
		if (i != 1)
			continue;
		/* The names to come are on their way, as many as are looked ahead. */
		for (int wait = 0; wait < 500 && stats.entries_cached < 66; wait++) {
			s3c_engine_stats(fx.engine, &stats);
			usleep(10000);
		}
		assert_int_equal(stats.entries_cached, 66);
	}
	/* Each once, but for the first two by HEAD. */
	assert_requests(&fx, "GET 2 HEAD 148");
	for (int i = 0; i < 150; i++) {
		snprintf(path, sizeof(path), "d/%03d", i);
		assert_int_equal(look(&fx, path, &info), 0);
	}
	assert_requests(&fx, "");
	fx_end(&fx);
}

static void test_expiry(void **state)
{
	struct fx_options options = { .prefix = "p/", .ttl_s = 0.05 };
	struct s3c_info info, again;
	struct fx fx;

	(void)state;
	fx_new(&fx, &options);
	hand_file(&fx, "p/a", "hello");
	assert_int_equal(look(&fx, "a", &info), 0);
	fx_requests(&fx);
	usleep(80000);
	assert_int_equal(look(&fx, "a", &again), 0);
	assert_requests(&fx, "HEAD 1");
	assert_memory_equal(info.content_token, again.content_token, 16);
	hand_file(&fx, "p/a", "hello!");
	usleep(80000);
	assert_int_equal(look(&fx, "a", &again), 0);
	assert_memory_not_equal(info.content_token, again.content_token, 16);
	assert_int_equal(again.size, 6);
	hand_delete(&fx, "p/a");
	usleep(80000);
	assert_int_equal(look(&fx, "a", NULL), -ENOENT);
	assert_requests(&fx, "HEAD 1 LIST 1");
	fx_end(&fx);
	/* Nothing is kept at all. */
	options.ttl_s = -1;
	fx_new(&fx, &options);
	hand_file(&fx, "p/a", "hello");
	assert_string_equal(list(&fx, ""), "a");
	assert_string_equal(list(&fx, ""), "a");
	assert_requests(&fx, "LIST 2");
	assert_int_equal(look(&fx, "a", NULL), 0);
	assert_int_equal(look(&fx, "a", NULL), 0);
	assert_requests(&fx, "GET 1 HEAD 1 LIST 1");
	fx_end(&fx);
}

static void test_changed_elsewhere(void **state)
{
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "one");
	hand_file(&fx, "p/b", "two");
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_int_equal(look(&fx, "b", &info), 0);
	hand_file(&fx, "p/a", "three");
	hand_delete(&fx, "p/b");
	/* Within ttl what is known counts, until a listing shows something else. */
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_int_equal(info.size, 3);
	assert_string_equal(list(&fx, ""), "a");
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_int_equal(info.size, 5);
	assert_int_equal(look(&fx, "b", NULL), -ENOENT);
	/* The other way: the listing is old, the name is gone or has become a directory. */
	hand_delete(&fx, "p/a");
	hand_file(&fx, "p/a/inside", "x");
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "a", &info), 0);
	assert_true(S_ISDIR(info.mode));
	assert_string_equal(list(&fx, ""), "a/");
	fx_end(&fx);
}

static void test_odd_keys(void **state)
{
	char longest[256], too_long[257], key[300];
	struct fx fx;

	(void)state;
	memset(longest, 'l', 255);
	longest[255] = '\0';
	memset(too_long, 't', 256);
	too_long[256] = '\0';
	fx_new(&fx, &plain_options);
	hand_put(&fx, "good", NULL, "x", 1);
	hand_put(&fx, "d//double", NULL, "x", 1);
	hand_put(&fx, "d/./dot", NULL, "x", 1);
	hand_put(&fx, "d/../dotdot", NULL, "x", 1);
	hand_put(&fx, "d/good", NULL, "x", 1);
	hand_put(&fx, "d/", NULL, "", 0);
	snprintf(key, sizeof(key), "d/%s", longest);
	hand_put(&fx, key, NULL, "x", 1);
	snprintf(key, sizeof(key), "d/%s", too_long);
	hand_put(&fx, key, NULL, "x", 1);
	hand_put(&fx, "d/.s3cryptfs", NULL, "x", 1);
	hand_put(&fx, ".s3cryptfs/secret", NULL, "x", 1);
	hand_put(&fx, "/", NULL, "x", 1);
	hand_put(&fx, "back\\slash\n", NULL, "x", 1);
	assert_string_equal(list(&fx, ""), "back\\slash\n d/ good");
	snprintf(key, sizeof(key), ".s3cryptfs good %s", longest);
	assert_string_equal(list(&fx, "d"), key);
	assert_int_equal(look(&fx, ".s3cryptfs", NULL), -ENOENT);
	assert_int_equal(look(&fx, ".s3cryptfs/secret", NULL), -ENOENT);
	assert_int_equal(look(&fx, "d/.s3cryptfs", NULL), 0);
	assert_int_equal(look(&fx, too_long, NULL), -ENAMETOOLONG);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, ".s3cryptfs", &dir_attrs), -EPERM);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "good", ".s3cryptfs/x", false), -EPERM);
	assert_int_equal(look(&fx, "back\\slash\n", NULL), 0);
	fx_end(&fx);
}

static void test_twins(void **state)
{
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &plain_options);
	/* The file store keeps both under one path: these are what it escapes. */
	hand_put(&fx, "a", NULL, "file", 4);
	hand_put(&fx, "a/b", NULL, "x", 1);
	hand_put(&fx, "a-b", NULL, "x", 1);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_true(S_ISDIR(info.mode));
	assert_string_equal(list(&fx, ""), "a/ a-b");
	assert_int_equal(look(&fx, "a-b", &info), 0);
	assert_true(S_ISREG(info.mode));
	fx_end(&fx);
}

static void test_mkdir(void **state)
{
	struct s3c_info info;
	struct fx fx;
	struct s3c_header header;

	(void)state;
	fx_new(&fx, &sealed_options);
	assert_string_equal(list(&fx, ""), "");
	fx_requests(&fx);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	assert_requests(&fx, "PUT 1");
	assert_int_equal(look(&fx, "d", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0700);
	assert_string_equal(list(&fx, "d"), "");
	assert_int_equal(look(&fx, "d/x", NULL), -ENOENT);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d/e", &dir_attrs), 0);
	assert_string_equal(list(&fx, "d"), "e/");
	assert_string_equal(list(&fx, ""), "d/");
	assert_requests(&fx, "PUT 1");
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), -EEXIST);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "", &dir_attrs), -EEXIST);
	assert_requests(&fx, "");
	hand_open(&fx, "p/d/e/", &header, NULL, 0);
	assert_int_equal(header.layout, S3C_LAYOUT_NONE);
	assert_int_equal(header.attrs.uid, 3);
	/* Another machine was faster, and this one does not know yet. */
	hand_seal(&fx, "p/other/", S_IFDIR | 0711, NULL, -1);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "other", &dir_attrs), -EEXIST);
	assert_int_equal(look(&fx, "other", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0711);
	fx_end(&fx);
}

/* Made, the reply lost, asked for again, and refused for its own first time. */
static void test_mkdir_refused_by_itself(void **state)
{
	struct s3c_fault_rule rule = {
		.op = S3C_STORE_PUT, .kind = S3C_FAULT_LOST, .result = -EEXIST, .times = 1
	};
	struct s3c_fault_rule blind = { .op = S3C_STORE_HEAD,
					.kind = S3C_FAULT_FAIL,
					.result = -ETIMEDOUT };
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	assert_string_equal(list(&fx, ""), "");
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "seen", &dir_attrs), 0);
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_int_equal(s3c_store_fault_add(fx.store, &blind), 0);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "unseen", &dir_attrs), -ETIMEDOUT);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(look(&fx, "unseen", &info), 0);
	assert_true(S_ISDIR(info.mode));
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "unseen", &dir_attrs), -EEXIST);
	fx_end(&fx);
}

static void test_rmdir(void **state)
{
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d/e", &dir_attrs), 0);
	hand_file(&fx, "p/f", "x");
	hand_file(&fx, "p/d/e/hidden", "x");
	fx_requests(&fx);
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d"), -ENOTEMPTY);
	assert_requests(&fx, "");
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, ""), -EBUSY);
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "missing"), -ENOENT);
	/* What another machine put there is in the way, and shows from then on. */
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d/e"), -ENOTEMPTY);
	assert_string_equal(list(&fx, "d/e"), "hidden");
	hand_delete(&fx, "p/d/e/hidden");
	s3c_names_invalidate(fx.engine, "d/e", true);
	look(&fx, "d/e", NULL);
	fx_requests(&fx);
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d/e"), 0);
	assert_requests(&fx, "LIST 1 DELETE 1");
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d"), 0);
	assert_string_equal(list(&fx, ""), "");
	assert_int_equal(look(&fx, "d", NULL), -ENOENT);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	assert_requests(&fx, "PUT 1 LIST 1 DELETE 1");
	fx_end(&fx);
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/f", "x");
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "f"), -ENOTDIR);
	fx_end(&fx);
}

static void test_unlink(void **state)
{
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "x");
	hand_file(&fx, "p/i/one", "x");
	hand_file(&fx, "p/i/two", "x");
	assert_string_equal(list(&fx, ""), "a i/");
	fx_requests(&fx);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_requests(&fx, "GET 1");
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), 0);
	assert_requests(&fx, "DELETE 1");
	assert_int_equal(look(&fx, "a", NULL), -ENOENT);
	assert_string_equal(list(&fx, ""), "i/");
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), -ENOENT);
	assert_requests(&fx, "");
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, ""), -EISDIR);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "i"), -EISDIR);
	/* An implicit directory stays when its last name goes. */
	assert_string_equal(list(&fx, "i"), "one two");
	fx_requests(&fx);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "i/one"), 0);
	assert_requests(&fx, "GET 1 DELETE 1");
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "i/two"), 0);
	assert_requests(&fx, "GET 1 PUT 1 DELETE 1");
	assert_true(hand_exists(&fx, "p/i/"));
	s3c_names_invalidate(fx.engine, "", true);
	assert_string_equal(list(&fx, ""), "i/");
	assert_string_equal(list(&fx, "i"), "");
	fx_end(&fx);
}

static void test_setattr(void **state)
{
	static const struct s3c_attrs attrs = {
		.mode = 04751, .uid = 11, .gid = 12, .mtime_ns = 13, .atime_ns = 14
	};
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "hello");
	hand_seal(&fx, "p/empty", S_IFREG | 0600, "", 0);
	hand_seal(&fx, "p/d/", S_IFDIR | 0700, NULL, -1);
	hand_file(&fx, "p/i/x", "x");
	list(&fx, "");
	assert_int_equal(look(&fx, "a", NULL), 0);
	assert_int_equal(look(&fx, "empty", NULL), 0);
	assert_int_equal(look(&fx, "d", NULL), 0);
	assert_int_equal(look(&fx, "i", NULL), 0);
	fx_requests(&fx);
	set(&fx, "a", S3C_SET_MODE, &attrs, 0);
	assert_requests(&fx, "COPY 1");
	set(&fx, "a", S3C_SET_UID | S3C_SET_MTIME, &attrs, 0);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_requests(&fx, "COPY 1");
	assert_int_equal(info.mode, S_IFREG | 04751);
	assert_int_equal(info.uid, 11);
	assert_int_equal(info.gid, 8);
	assert_int_equal(info.mtime_ns, 13);
	hand_open(&fx, "p/a", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFREG | 04751);
	assert_int_equal(header.attrs.mtime_ns, 13);
	assert_content(&fx, "p/a", "hello");
	set(&fx, "empty", S3C_SET_GID | S3C_SET_ATIME, &attrs, 0);
	assert_content(&fx, "p/empty", "");
	set(&fx, "d", S3C_SET_MODE, &attrs, 0);
	set(&fx, "i", S3C_SET_UID, &attrs, 0);
	fx_requests(&fx);
	assert_int_equal(look(&fx, "i", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0750);
	assert_int_equal(info.uid, 11);
	hand_open(&fx, "p/i/", &header, NULL, 0);
	assert_int_equal(header.attrs.uid, 11);
	hand_open(&fx, "p/d/", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFDIR | 04751);
	/* The root, with a marker as any other directory. */
	set(&fx, "", S3C_SET_MODE, &attrs, 0);
	assert_int_equal(look(&fx, "", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 04751);
	set(&fx, "missing", S3C_SET_MODE, &attrs, -ENOENT);
	/* Changed by another machine: the attributes go onto what there is now. */
	hand_file(&fx, "p/a", "other");
	set(&fx, "a", S3C_SET_MODE, &attrs, 0);
	assert_content(&fx, "p/a", "other");
	fx_end(&fx);
}

static void test_store_errors(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		int result, code;
	} cases[] = {
		{ S3C_STORE_LIST, -EACCES, -EACCES },
		{ S3C_STORE_GET, -EAGAIN, -EIO },
		{ S3C_STORE_GET, -ECONNREFUSED, -EIO },
		{ S3C_STORE_GET, -ETIMEDOUT, -ETIMEDOUT },
		{ S3C_STORE_GET, -EKEYREJECTED, -EACCES },
		{ S3C_STORE_LIST, -EPROTO, -EIO },
	};
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "x");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_fault_rule rule = { .op = cases[i].op,
					       .kind = S3C_FAULT_FAIL,
					       .result = cases[i].result,
					       .times = 1 };

		assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
		assert_int_equal(look(&fx, "a", NULL), cases[i].code);
		s3c_store_fault_clear(fx.store);
	}
	/* An error is never kept as an absence. */
	assert_int_equal(look(&fx, "a", NULL), 0);
	fx_end(&fx);
}

static void *look_up(void *arg)
{
	struct s3c_info info;
	struct fx *fx = arg;

	return (void *)(intptr_t)s3c_engine_lookup(fx->engine, NULL, "a", &info);
}

/* Many who look at once share the requests; one who gives up leaves the others alone. */
static void test_shared(void **state)
{
	struct s3c_fault_rule stall = { .op = S3C_STORE_GET, .kind = S3C_FAULT_STALL, .times = 1 };
	struct s3c_info info;
	pthread_t threads[8];
	struct s3c_op op;
	struct fx fx;
	void *r;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "x");
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(s3c_thread_start(&threads[i], "look", look_up, &fx), 0);
	s3c_op_init(&op, s3c_deadline_after(0.2));
	assert_int_equal(s3c_engine_lookup(fx.engine, &op, "a", &info), -ETIMEDOUT);
	s3c_op_destroy(&op);
	s3c_store_fault_release(fx.store);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		pthread_join(threads[i], &r);
		assert_int_equal((intptr_t)r, 0);
	}
	assert_requests(&fx, "GET 1 LIST 1");
	/* The end does not wait for a store that is silent. */
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	s3c_names_invalidate(fx.engine, "", true);
	s3c_op_init(&op, s3c_deadline_after(0.1));
	assert_int_equal(s3c_engine_lookup(fx.engine, &op, "a", &info), -ETIMEDOUT);
	s3c_op_destroy(&op);
	fx_end(&fx);
}

static void test_symlink(void **state)
{
	struct s3c_info info;
	struct fx fx;
	char target[4096];

	(void)state;
	for (int plain = 0; plain < 2; plain++) {
		fx_new(&fx, plain ? &plain_options : &sealed_options);
		list(&fx, "");
		fx_requests(&fx);
		assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "l", "../target", &file_attrs),
				 0);
		assert_requests(&fx, "PUT 1");
		assert_int_equal(look(&fx, "l", &info), 0);
		assert_int_equal(info.mode, S_IFLNK | 0777);
		assert_int_equal(info.size, 9);
		assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "l", target, sizeof(target)),
				 0);
		assert_string_equal(target, "../target");
		assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "l", "x", &file_attrs),
				 -EEXIST);
		assert_requests(&fx, "");
		s3c_names_invalidate(fx.engine, "", true);
		assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "l", target, sizeof(target)),
				 0);
		assert_string_equal(target, "../target");
		assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "l", target, 9),
				 -ENAMETOOLONG);
		make_file(&fx, "f", "x");
		assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "f", target, sizeof(target)),
				 -EINVAL);
		assert_int_equal(move(&fx, "l", "m"), 0);
		assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "m", target, sizeof(target)),
				 0);
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "m"), 0);
		assert_string_equal(list(&fx, ""), "f");
		fx_end(&fx);
	}
}

static void *churn(void *arg)
{
	static atomic_int serial;
	int me = atomic_fetch_add(&serial, 1) % 4;
	struct fx *fx = arg;
	struct s3c_listing *listing;
	char mine[32], next[32];
	struct s3c_info info;

	for (int i = 0; i < 15; i++) {
		snprintf(mine, sizeof(mine), "d%d", (me + i) % 4);
		snprintf(next, sizeof(next), "d%d", (me + i + 1) % 4);
		switch (i % 5) {
		case 0:
			s3c_engine_mkdir(fx->engine, NULL, mine, &dir_attrs);
			break;
		case 1:
			s3c_engine_rename(fx->engine, NULL, mine, next, false);
			break;
		case 2:
			if (s3c_engine_list(fx->engine, NULL, "", &listing) == 0)
				s3c_listing_put(listing);
			s3c_engine_lookup(fx->engine, NULL, next, &info);
			break;
		case 3:
			s3c_engine_setattr(fx->engine, NULL, next, NULL, S3C_SET_UID, &dir_attrs,
					   &info);
			break;
		default:
			s3c_engine_rmdir(fx->engine, NULL, mine);
		}
	}
	return NULL;
}

/* Nothing to check but that what is known in the end is what is stored. */
static void test_churn(void **state)
{
	cleanup_free char *known = NULL;
	pthread_t threads[4];
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(s3c_thread_start(&threads[i], "churn", churn, &fx), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	known = strdup(list(&fx, ""));
	s3c_names_invalidate(fx.engine, "", true);
	assert_string_equal(list(&fx, ""), known);
	fx_end(&fx);
}

static void *revalidate(void *arg)
{
	struct s3c_info info;
	struct fx *fx = arg;

	return (void *)(intptr_t)s3c_engine_revalidate(fx->engine, NULL, "a", &info);
}

/* Those who want to know anew do not starve each other. */
static void test_revalidate_shared(void **state)
{
	pthread_t threads[40];
	struct fx fx;
	void *r;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "x");
	look(&fx, "a", NULL);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(s3c_thread_start(&threads[i], "look", revalidate, &fx), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		pthread_join(threads[i], &r);
		assert_int_equal((intptr_t)r, 0);
	}
	fx_end(&fx);
}

/* A look that began before our own change does not bring back what was before. */
static void test_stale_look(void **state)
{
	struct s3c_fault_rule stall = { .op = S3C_STORE_GET, .kind = S3C_FAULT_STALL, .times = 1 };
	struct s3c_info info;
	pthread_t thread;
	struct fx fx;
	void *r;

	(void)state;
	fx_new(&fx, &sealed_options);
	list(&fx, "");
	assert_int_equal(s3c_store_fault_add(fx.store, &stall), 0);
	assert_int_equal(s3c_thread_start(&thread, "look", revalidate, &fx), 0);
	usleep(200000);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "a", &dir_attrs), 0);
	s3c_store_fault_release(fx.store);
	pthread_join(thread, &r);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_true(S_ISDIR(info.mode));
	fx_end(&fx);
}

/* A store that shows an object without its metadata while it is copied onto itself. */
static struct {
	struct fx *fx;
	unsigned looks, bare; /* at p/f; from the first on so many see it bare */
} copied;

static int copied_submit(struct s3c_store *store, const struct s3c_store_request *rq,
			 s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	if (copied.bare && (rq->op == S3C_STORE_HEAD || rq->op == S3C_STORE_GET) &&
	    strcmp(rq->key, "p/f") == 0) {
		if (copied.looks++ == 0)
			hand_put(copied.fx, "p/f", NULL, "hello", 5);
		if (copied.looks == copied.bare + 1)
			hand_file(copied.fx, "p/f", "hello");
	}
	return s3c_store_submit(through_inner(store), rq, done, arg, ret_call);
}

static struct s3c_store *copied_new(struct s3c_store *inner)
{
	copied.bare = copied.looks = 0;
	return through_new(inner, copied_submit);
}

static void test_copied_onto_itself(void **state)
{
	struct fx_options o = sealed_options;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	o.wrap = copied_new;
	copied.fx = &fx;
	fx_new(&fx, &o);
	hand_file(&fx, "p/f", "hello");
	assert_int_equal(look(&fx, "f", &info), 0);
	copied.bare = 1;
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "f", &info), 0);
	assert_int_equal(info.size, 5);
	assert_int_equal(copied.looks, 2);
	/* Bare for good: refused, and not looked at again and again. */
	copied.looks = 0;
	copied.bare = 100;
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "f", &info), -EIO);
	assert_int_equal(copied.looks, 2);
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "f", &info), -EIO);
	assert_int_equal(copied.looks, 3);
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookup_costs),
		cmocka_unit_test(test_lookup_lone),
		cmocka_unit_test(test_lookup_listed),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_list_types),
		cmocka_unit_test(test_lookup_sequence),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_changed_elsewhere),
		cmocka_unit_test(test_odd_keys),
		cmocka_unit_test(test_twins),
		cmocka_unit_test(test_mkdir),
		cmocka_unit_test(test_mkdir_refused_by_itself),
		cmocka_unit_test(test_rmdir),
		cmocka_unit_test(test_unlink),
		cmocka_unit_test(test_setattr),
		cmocka_unit_test(test_store_errors),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_revalidate_shared),
		cmocka_unit_test(test_stale_look),
		cmocka_unit_test(test_symlink),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_copied_onto_itself),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
