/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine_fixture.h"
#include "through_store.h"

/*
 * A store that knows customer keys: it locks what is written with a key (with a hash of it in the
 * metadata), and opens it for that key alone. It encrypts nothing.
 */
#define LOCK "test-lock"

struct locker_call {
	struct s3c_store_request rq;
	s3c_store_done_fn done;
	void *arg;
	struct s3c_store_sink sink;
	struct s3c_meta meta;
	char lock[2 * S3C_SHA256_LEN + 1];
};

static void lock_of(const struct s3c_ssec *ssec, char ret_lock[static 2 * S3C_SHA256_LEN + 1])
{
	uint8_t digest[S3C_SHA256_LEN];

	ret_lock[0] = '\0';
	if (ssec && s3c_sha256(ssec->key, sizeof(ssec->key), digest) == 0)
		s3c_hex_encode(digest, sizeof(digest), ret_lock);
}

static int check_lock(const struct s3c_stat *st, const char *lock)
{
	const char *has = s3c_meta_get(&st->meta, LOCK);

	return strcmp(has ? has : "", lock) == 0 ? 0 : -EKEYREJECTED;
}

static int locker_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
			uint64_t total)
{
	struct locker_call *call = arg;
	int r = check_lock(st, call->lock);

	return r < 0 ? r : call->sink.begin(call->sink.arg, st, offset, length, total);
}

static int locker_data(void *arg, const void *data, size_t len)
{
	struct locker_call *call = arg;

	return call->sink.data(call->sink.arg, data, len);
}

static void locker_done(void *arg, struct s3c_store_reply *reply)
{
	struct locker_call *call = arg;
	bool looks = call->rq.op == S3C_STORE_HEAD || call->rq.op == S3C_STORE_GET;

	if (looks && reply->result == 0)
		reply->result = check_lock(&reply->stat, call->lock);
	reply->stat.ssec = call->rq.ssec;
	call->done(call->arg, reply);
	s3c_meta_free(&call->meta);
	free(call);
}

static int check_source(struct s3c_store *inner, const struct s3c_store_request *rq)
{
	struct s3c_store_request look = { .op = S3C_STORE_HEAD, .key = rq->source_key };
	struct s3c_store_reply reply;
	char lock[2 * S3C_SHA256_LEN + 1];
	int r = s3c_store_perform(inner, &look, NULL, &reply);

	lock_of(rq->source_ssec, lock);
	if (r == 0)
		r = check_lock(&reply.stat, lock);
	s3c_store_reply_free(&reply);
	return r;
}

static int locker_submit(struct s3c_store *store, const struct s3c_store_request *request,
			 s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	struct locker_call *call = calloc(1, sizeof(*call));
	struct s3c_store_request rq = *request;
	int r = 0;

	assert_non_null(call);
	call->rq = *request;
	call->done = done;
	call->arg = arg;
	call->sink = request->sink;
	lock_of(request->ssec, call->lock);
	rq.ssec = rq.source_ssec = NULL;
	if (rq.op == S3C_STORE_COPY || rq.op == S3C_STORE_UPLOAD_PART_COPY)
		r = check_source(through_inner(store), request);
	if (rq.meta) {
		assert_int_equal(s3c_meta_copy(rq.meta, &call->meta), 0);
		rq.meta = &call->meta;
	}
	if (request->ssec && (rq.meta || rq.op == S3C_STORE_PUT)) {
		assert_int_equal(s3c_meta_set(&call->meta, LOCK, call->lock), 0);
		rq.meta = &call->meta;
	}
	if (rq.op == S3C_STORE_GET)
		rq.sink = (struct s3c_store_sink){ locker_begin, locker_data, call };
	if (r == 0)
		r = s3c_store_submit(through_inner(store), &rq, locker_done, call, ret_call);
	if (r < 0) {
		s3c_meta_free(&call->meta);
		free(call);
	}
	return r;
}

static struct s3c_store *locker_new(struct s3c_store *inner)
{
	return through_new(inner, locker_submit);
}

static void test_ssec(void **state)
{
	struct fx_options options = { .prefix = "p/", .enc = S3C_ENC_SSE_C, .wrap = locker_new };
	static const struct s3c_attrs attrs = { .mode = 0604 };
	struct s3c_info info;
	struct fx fx;
	char target[64], *link, *file;

	(void)state;
	for (int copies = 0; copies < 2; copies++) {
		fx_new(&fx, &options);
		fx.store->caps.copy = fx.store->caps.part_copy = copies;
		list(&fx, "");
		assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
		make_file(&fx, "d/a", "hello");
		assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "d/l", "a", &file_attrs), 0);
		set(&fx, "d", S3C_SET_MODE, &attrs, 0);
		set(&fx, "d/a", S3C_SET_MODE, &attrs, 0);
		assert_int_equal(move(&fx, "d/a", "d/b"), 0);
		assert_int_equal(move(&fx, "d", "e"), 0);
		s3c_names_invalidate(fx.engine, "", true);
		assert_reads(&fx, "e/b", "hello");
		assert_int_equal(look(&fx, "e", &info), 0);
		assert_int_equal(info.mode, S_IFDIR | 0604);
		assert_int_equal(look(&fx, "e/b", &info), 0);
		assert_int_equal(info.mode, S_IFREG | 0604);
		assert_int_equal(s3c_engine_readlink(fx.engine, NULL, "e/l", target, 64), 0);
		assert_string_equal(target, "a");
		/* Every name has a key of its own: an object in another's place does not open. */
		link = fx_path(&fx, "store/p/e/l");
		file = fx_path(&fx, "store/p/e/b");
		assert_int_equal(rename(link, file), 0);
		free(link);
		free(file);
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "e/b", &info), -EACCES);
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "e/l"), 0);
		fx_end(&fx);
	}
}

/* What is under an old key is read, with one request more the first time, and written under the new
   one; what is under a key that is not here is refused. */
static void test_ssec_rotated(void **state)
{
	static const char both[] = "[a]\nsecret = " KEY_A "\n" RING_2;
	struct fx_options options = { .prefix = "p/", .enc = S3C_ENC_SSE_C, .wrap = locker_new };
	struct fx_options rotated = options, only_new = options;
	struct s3c_info info;
	struct fx fx;
	char dir[64];

	(void)state;
	rotated.ring = both;
	only_new.ring = RING_2;
	fx_new(&fx, &options);
	for (const char *name = "abcd"; *name; name++)
		make_file(&fx, (char[]){ *name, '\0' }, "hello");
	strcpy(dir, fx.dir);
	fx_stop(&fx);
	options.dir = rotated.dir = only_new.dir = dir;

	fx_new(&fx, &rotated);
	assert_int_equal(fx.engine->volume->ssec_key_count, 2);
	assert_string_equal(fx.engine->volume->ssec_keys[0]->id, "b");
	assert_string_equal(fx.engine->volume->ssec_keys[1]->id, "a");
	list(&fx, "");
	fx_requests(&fx);
	assert_reads(&fx, "a", "hello");
	assert_string_equal(fx_requests(&fx), "GET 2");
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "b"), 0);
	make_file(&fx, "b", "again");
	assert_int_equal(move(&fx, "c", "moved"), 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_reads(&fx, "a", "hello");
	assert_reads(&fx, "b", "again");
	assert_reads(&fx, "moved", "hello");
	fx_stop(&fx);

	fx_new(&fx, &only_new);
	assert_string_equal(fx.engine->volume->ssec_missing, "a");
	assert_reads(&fx, "b", "again");
	assert_reads(&fx, "moved", "hello");
	assert_int_equal(look(&fx, "a", &info), -EACCES);
	assert_int_equal(look(&fx, "d", &info), -EACCES);
	assert_int_equal(look(&fx, "c", &info), -ENOENT);
	fx_end(&fx);
}

static void test_swapped(void **state)
{
	struct s3c_buf body = { .max = 1 << 20 };
	struct s3c_info info;
	struct s3c_stat st;
	struct fx fx;

	(void)state;
	fx_new(&fx, &sealed_options);
	hand_file(&fx, "p/a", "hello");
	hand_file(&fx, "p/b", "other");
	hand_seal(&fx, "p/d/", S_IFDIR | 0700, NULL, -1);
	hand_seal(&fx, "p/marker-like-file/", S_IFREG | 0700, NULL, -1);
	hand_move(&fx, "p/a", "p/moved");
	hand_move(&fx, "p/d/", "p/moved-dir/");
	hand_move(&fx, "p/d/", "p/dir-as-file");
	hand_get(&fx, "p/a", &body, &st);
	hand_put(&fx, "p/cut", &st.meta, body.data, body.len - 1);
	assert_int_equal(s3c_meta_set(&st.meta, "mode", "33279"), 0);
	hand_put(&fx, "p/a", &st.meta, body.data, body.len);
	s3c_stat_free(&st);
	s3c_buf_free(&body);
	hand_put(&fx, "p/plain", NULL, "x", 1);
	assert_int_equal(look(&fx, "moved", NULL), -EIO);
	assert_int_equal(look(&fx, "moved-dir", NULL), -EIO);
	assert_int_equal(look(&fx, "dir-as-file", NULL), -EIO);
	assert_int_equal(look(&fx, "marker-like-file", NULL), -EIO);
	assert_int_equal(look(&fx, "cut", NULL), -EIO);
	assert_int_equal(look(&fx, "a", NULL), -EIO);
	assert_int_equal(look(&fx, "plain", NULL), -EIO);
	assert_int_equal(look(&fx, "b", &info), 0);
	assert_int_equal(move(&fx, "moved", "x"), -EIO);
	/* The listing shows them all: it says nothing of what can be opened. */
	assert_string_equal(list(&fx, ""),
			    "a b cut d/ dir-as-file marker-like-file/ moved moved-dir/ plain");
	/* A foreign marker of the root does not close the mount. */
	hand_put(&fx, "p/", NULL, "", 0);
	assert_int_equal(look(&fx, "", &info), 0);
	assert_int_equal(info.mode, S_IFDIR | 0750);
	fx_end(&fx);
}

static void test_accept(void **state)
{
	struct fx_options options = { .prefix = "p/",
				      .accept = S3C_ACCEPT_SEALED | S3C_ACCEPT_PLAIN };
	static const struct s3c_attrs attrs = { .mode = 0604 };
	struct s3c_meta meta = { 0 };
	struct s3c_info info;
	struct s3c_buf body = { .max = 1 << 20 };
	struct s3c_stat st;
	struct fx fx;

	(void)state;
	fx_new(&fx, &options);
	hand_put(&fx, "p/plain", NULL, "hello", 5);
	hand_file(&fx, "p/sealed", "x");
	assert_int_equal(s3c_meta_set(&meta, "x-amz-cek-alg", "AES/GCM/NoPadding"), 0);
	hand_put(&fx, "p/alien", &meta, "hello", 5);
	s3c_meta_free(&meta);
	assert_int_equal(look(&fx, "plain", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0640);
	assert_int_equal(info.uid, 1000);
	assert_int_equal(info.size, 5);
	assert_true(info.mtime_ns > 0);
	assert_int_equal(look(&fx, "sealed", &info), 0);
	assert_int_equal(look(&fx, "alien", &info), -EIO);
	/* Plain objects stay plain when only their name or attributes change. */
	set(&fx, "plain", S3C_SET_MODE, &attrs, 0);
	assert_int_equal(move(&fx, "plain", "plain2"), 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "plain2", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0604);
	hand_get(&fx, "p/plain2", &body, &st);
	assert_string_equal(body.data, "hello");
	s3c_stat_free(&st);
	s3c_buf_free(&body);
	fx_end(&fx);
}

static void test_plain(void **state)
{
	struct s3c_meta meta = { 0 };
	struct s3c_info info, again;
	struct fx sealed, fx;
	static const struct s3c_attrs attrs = { .uid = 44 };
	struct s3c_buf body = { .max = 1 << 20 };
	struct s3c_stat st;

	(void)state;
	fx_new(&fx, &plain_options);
	hand_put(&fx, "bare", NULL, "hello", 5);
	assert_int_equal(s3c_meta_set(&meta, "mode", "33152"), 0);
	assert_int_equal(s3c_meta_set(&meta, "uid", "5"), 0);
	assert_int_equal(s3c_meta_set(&meta, "mtime", "12.5"), 0);
	hand_put(&fx, "s3fs", &meta, "hello", 5);
	s3c_meta_free(&meta);
	assert_int_equal(look(&fx, "bare", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0640);
	assert_int_equal(look(&fx, "s3fs", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0600);
	assert_int_equal(info.uid, 5);
	assert_int_equal(info.gid, 1001);
	assert_int_equal(info.mtime_ns, 12500000000);
	assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "s3fs", &again), 0);
	assert_memory_equal(info.content_token, again.content_token, 16);
	set(&fx, "s3fs", S3C_SET_UID, &attrs, 0);
	/* The root of a bucket has no key of its own, and keeps its attributes all the same. */
	set(&fx, "", S3C_SET_UID, &attrs, 0);
	s3c_names_invalidate(fx.engine, "", true);
	assert_int_equal(look(&fx, "s3fs", &info), 0);
	assert_int_equal(info.uid, 44);
	assert_int_equal(look(&fx, "", &info), 0);
	assert_int_equal(info.uid, 44);
	assert_string_equal(list(&fx, ""), "bare s3fs");
	/* What a client encrypted is not shown as if it were the file. */
	fx_new(&sealed, &sealed_options);
	hand_file(&sealed, "p/x", "secret");
	hand_get(&sealed, "p/x", &body, &st);
	hand_put(&fx, "x", &st.meta, body.data, body.len);
	s3c_stat_free(&st);
	s3c_buf_free(&body);
	s3c_names_invalidate(fx.engine, "x", false);
	assert_int_equal(look(&fx, "x", NULL), -EIO);
	fx_end(&sealed);
	fx_end(&fx);
}

static void test_rollback(void **state)
{
	struct fx_options options = { .prefix = "p/" };
	struct s3c_info info;
	struct fx fx;

	(void)state;
	for (int deny = 0; deny < 2; deny++) {
		options.rollback_deny = deny;
		fx_new(&fx, &options);
		hand_file(&fx, "p/a", "old");
		hand_move(&fx, "p/a", "kept");
		hand_file(&fx, "p/a", "new version");
		assert_int_equal(look(&fx, "a", &info), 0);
		hand_move(&fx, "kept", "p/a");
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "a", &info),
				 deny ? -EIO : 0);
		/* What was deleted comes back. */
		hand_file(&fx, "p/b", "x");
		hand_move(&fx, "p/b", "kept");
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "b"), 0);
		hand_move(&fx, "kept", "p/b");
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "b", &info),
				 deny ? -EIO : 0);
		/* What is made anew is no rollback. */
		hand_file(&fx, "p/b", "x");
		assert_int_equal(s3c_engine_revalidate(fx.engine, NULL, "b", &info), 0);
		fx_end(&fx);
	}
}

static void test_read_only(void **state)
{
	struct fx_options options = { .prefix = "p/", .read_only = true };
	struct s3c_info info;
	struct fx first, fx;

	(void)state;
	fx_new(&first, &sealed_options);
	hand_file(&first, "p/a", "x");
	options.dir = first.dir;
	options.state = "state-ro";
	fx_new(&fx, &options);
	assert_int_equal(look(&fx, "a", &info), 0);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), -EROFS);
	assert_int_equal(s3c_engine_rmdir(fx.engine, NULL, "d"), -EROFS);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), -EROFS);
	assert_int_equal(move(&fx, "a", "b"), -EROFS);
	assert_int_equal(s3c_engine_symlink(fx.engine, NULL, "l", "a", &file_attrs), -EROFS);
	set(&fx, "a", S3C_SET_MODE, &file_attrs, -EROFS);
	fx_stop(&fx);
	fx_end(&first);
}

static void expect_volume(struct fx *fx, const struct fx_options *o, const char *words)
{
	struct s3c_err err = { 0 };
	int r;

	fx->volume = NULL;
	r = fx_volume(fx, o, &err);
	if (!words) {
		if (r < 0)
			fail_msg("%s", err.text);
	} else {
		assert_true(r < 0);
		if (!strstr(err.text, words))
			fail_msg("no '%s' in '%s'", words, err.text);
	}
	s3c_volume_free(fx->volume);
	fx->volume = NULL;
	free(fx->volume_prefix);
	fx->volume_prefix = NULL;
}

static void test_volume(void **state)
{
	struct fx_options o = { .prefix = "p/" };
	struct fx_options below = { .prefix = "p/q/r/", .state = "state2" };
	struct fx_options other = { .prefix = "p/", .state = "state3", .ring = RING_2 };
	struct fx_options ssec = { .prefix = "p/", .state = "state4", .enc = S3C_ENC_SSE_C };
	struct fx_options none = { .prefix = "p/", .state = "state5", .enc = S3C_ENC_NONE };
	struct fx_options ro = { .prefix = "empty/", .state = "state6", .read_only = true };
	struct fx_options plain = {
		.prefix = "data/", .state = "state7", .read_only = true, .accept = S3C_ACCEPT_PLAIN
	};
	struct fx_options wild = { .prefix = "data/", .state = "state8" };
	struct fx a, b;

	(void)state;
	fx_open(&a, &o);
	expect_volume(&a, &o, NULL); /* made */
	expect_volume(&a, &o, NULL); /* found */
	hand_put(&a, "data/x", NULL, "x", 1);
	struct fx_options *const others[] = { &below, &other, &ssec, &none, &ro, &plain, &wild };
	static const char *const words[] = {
		NULL,
		"the volume at p/",
		"made with enc=cse-key",
		"encrypted volume",
		"s3cryptfsctl init",
		NULL,
		"s3cryptfsctl init",
	};
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		others[i]->dir = a.dir;
		fx_open(&b, others[i]);
		expect_volume(&b, others[i], words[i]);
		fx_stop(&b);
	}
	/* The one below has the prefix of the one above. */
	fx_open(&b, &below);
	assert_int_equal(fx_volume(&b, &below, NULL), 0);
	assert_string_equal(b.volume_prefix, "p/");
	fx_stop(&b);
	/* It is gone, or another one stands there: this machine knows better. */
	hand_move(&a, "p/.s3cryptfs/volume", "kept");
	hand_delete(&a, "p/.s3cryptfs/volume");
	expect_volume(&a, &o, "is gone");
	fx_open(&b, &(struct fx_options){ .prefix = "elsewhere/", .dir = a.dir, .state = "s9" });
	expect_volume(&b, &(struct fx_options){ .prefix = "elsewhere/" }, NULL);
	fx_stop(&b);
	hand_move(&a, "elsewhere/.s3cryptfs/volume", "p/.s3cryptfs/volume");
	expect_volume(&a, &o, "someone replaced it");
	hand_move(&a, "kept", "p/.s3cryptfs/volume");
	expect_volume(&a, &o, NULL);
	/* Damage. */
	hand_put(&a, "p/.s3cryptfs/volume", NULL, "{}", 2);
	expect_volume(&a, &o, "the volume at p/");
	/* The wrong id by option. */
	hand_move(&a, "kept", "p/.s3cryptfs/volume");
	fx_end(&a);
}

/* Who may not look above the prefix makes a volume there; who may not look at it does not. */
static void test_volume_rights(void **state)
{
	struct fx_options o = { .prefix = "p/q/" };
	struct s3c_fault_rule above = { .op = S3C_STORE_GET,
					.key_substring = "p/.s3cryptfs/volume",
					.kind = S3C_FAULT_FAIL,
					.result = -EACCES };
	struct s3c_fault_rule own = above;
	struct fx a;

	(void)state;
	own.key_substring = "p/q/.s3cryptfs/volume";
	fx_open(&a, &o);
	s3c_store_fault_add(a.store, &own);
	expect_volume(&a, &o, "cannot read p/q/.s3cryptfs/volume");
	s3c_store_fault_clear(a.store);
	above.result = -ETIMEDOUT;
	s3c_store_fault_add(a.store, &above);
	expect_volume(&a, &o, "cannot read p/.s3cryptfs/volume");
	s3c_store_fault_clear(a.store);
	assert_false(hand_exists(&a, "p/q/.s3cryptfs/volume"));
	above.result = -EACCES;
	s3c_store_fault_add(a.store, &above);
	expect_volume(&a, &o, NULL);
	assert_true(hand_exists(&a, "p/q/.s3cryptfs/volume"));
	fx_end(&a);
}

/* Two machines make the volume at the same moment: both use the one that is there. */
static void test_volume_race(void **state)
{
	struct fx_options o = { .prefix = "p/" };
	struct s3c_fault_rule lost = {
		.op = S3C_STORE_PUT, .kind = S3C_FAULT_LOST, .result = -EEXIST, .times = 1
	};
	struct fx a, b;

	(void)state;
	fx_open(&a, &o);
	s3c_store_fault_add(a.store, &lost);
	assert_int_equal(fx_volume(&a, &o, NULL), 0);
	o.dir = a.dir;
	o.state = "state2";
	fx_open(&b, &o);
	assert_int_equal(fx_volume(&b, &o, NULL), 0);
	assert_memory_equal(a.volume->id, b.volume->id, sizeof(a.volume->id));
	fx_stop(&b);
	fx_end(&a);
}

static void test_new_key(void **state)
{
	static const char both[] =
		"[a]\nsecret = " KEY_A "\n[b]\nsecret = " KEY_B "\nstate = active\n";
	struct fx_options o = { .prefix = "p/" };
	struct fx a;

	(void)state;
	fx_open(&a, &o);
	expect_volume(&a, &o, NULL);
	s3c_keyring_free(a.keyring);
	a.keyring = keyring_of(both);
	expect_volume(&a, &o, NULL);
	/* The new key alone opens it now. */
	s3c_keyring_free(a.keyring);
	a.keyring = keyring_of(RING_2);
	expect_volume(&a, &o, NULL);
	fx_end(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ssec),          cmocka_unit_test(test_ssec_rotated),
		cmocka_unit_test(test_swapped),       cmocka_unit_test(test_accept),
		cmocka_unit_test(test_plain),         cmocka_unit_test(test_rollback),
		cmocka_unit_test(test_read_only),     cmocka_unit_test(test_volume),
		cmocka_unit_test(test_volume_rights), cmocka_unit_test(test_volume_race),
		cmocka_unit_test(test_new_key),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
