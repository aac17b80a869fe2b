/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Rekey, renewing, and epochs while a volume is mounted. */
#include "engine_fixture.h"

#include "engine/content.h"
#include "engine/epochs.h"
#include "engine/rekey.h"

#define RING_1B RING_1 "[b]\nsecret = " KEY_B "\n"

struct told {
	unsigned skips, steps;
	uint64_t done;
};

static void on_progress(void *arg, const struct s3c_rekey_counts *counts)
{
	struct told *told = arg;

	assert_true(counts->done <= counts->found);
	told->steps++;
	told->done = S3C_MAX(told->done, counts->done);
}

static void on_skip(void *arg, const char *key, const char *why)
{
	struct told *told = arg;

	assert_true(*key && *why);
	told->skips++;
}

static int rekey(struct fx *fx, enum s3c_rekey_what what, const char *key_id, bool migrate,
		 const char *const *paths, struct s3c_rekey_counts *ret)
{
	struct told told = { 0 };
	const struct s3c_rekey_request request = {
		.what = what,
		.key_id = key_id,
		.migrate = migrate,
		.paths = paths,
		.parallel = 4,
		.progress = on_progress,
		.skip = on_skip,
		.arg = &told,
	};
	int r;

	*ret = (struct s3c_rekey_counts){ 0 };
	r = s3c_engine_rekey(fx->engine, NULL, &request, ret);
	if (r == 0) {
		assert_true(ret->all_found);
		assert_int_equal(ret->done, ret->found);
		assert_int_equal(ret->done, ret->changed + ret->current + ret->keyless +
						    ret->migrated + ret->plain + ret->foreign +
						    ret->gone + ret->skipped + ret->needing);
		assert_int_equal(told.skips, ret->skipped);
		assert_int_equal(told.steps, ret->done);
		assert_int_equal(told.done, ret->done);
	}
	return r;
}

static void fill(struct fx *fx)
{
	struct s3c_meta meta = { 0 };

	hand_file(fx, "one", "1");
	hand_file(fx, "two", "22");
	hand_file(fx, "d/three", "333");
	hand_seal(fx, "d/", S_IFDIR | 0755, NULL, -1);
	assert_int_equal(s3c_meta_set(&meta, "color", "blue"), 0);
	hand_put(fx, "plain", &meta, "nobody encrypted this", 21);
	s3c_meta_free(&meta);
}

static void test_rewrap(void **state)
{
	static const char *const paths[] = { "d", NULL };
	const struct fx_options o = { .ring = RING_1B };
	struct s3c_rekey_counts c;
	struct s3c_header header;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	fill(&fx);
	assert_int_equal(rekey(&fx, S3C_REKEY_COUNT, "a", false, NULL, &c), 0);
	assert_true(c.needing == 3 && c.keyless == 1 && c.plain == 1 && !c.current);
	assert_requests(&fx, "HEAD 5 LIST 1");
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "b", false, paths, &c), 0);
	assert_true(c.changed == 1 && c.keyless == 1 && c.done == 2);
	assert_requests(&fx, "HEAD 2 LIST 1 COPY 1");
	hand_open(&fx, "d/three", &header, NULL, 0);
	assert_string_equal(header.key_id, "b");
	assert_int_equal(header.epoch, 1);
	s3c_header_clear(&header);
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "b", false, NULL, &c), 0);
	assert_true(c.changed == 2 && c.current == 1 && c.plain == 1);
	assert_int_equal(rekey(&fx, S3C_REKEY_COUNT, "a", false, NULL, &c), 0);
	assert_true(!c.needing && c.current == 3);
	assert_reads(&fx, "two", "22");
	/* What cannot be asked for. */
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "no", false, NULL, &c), -ENOKEY);
	assert_int_equal(rekey(&fx, S3C_REKEY_REENCRYPT, "b", false, NULL, &c), -EINVAL);
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "b", true, NULL, &c), -EINVAL);
	fx_end(&fx);
}

/* One that is altered is skipped, and told; the others are done. */
static void test_skips(void **state)
{
	const struct fx_options o = { .ring = RING_1B };
	struct s3c_rekey_counts c;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	fill(&fx);
	hand_move(&fx, "one", "elsewhere");
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "b", false, NULL, &c), 0);
	assert_true(c.skipped == 1 && c.changed == 3 && c.done == 6);
	fx_end(&fx);
}

static void test_migrate(void **state)
{
	const struct fx_options o = { .accept = S3C_ACCEPT_SEALED | S3C_ACCEPT_PLAIN };
	struct s3c_rekey_counts c;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	fill(&fx);
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "a", true, NULL, &c), 0);
	assert_true(c.migrated == 1 && c.current == 3 && c.keyless == 1);
	assert_content(&fx, "plain", "nobody encrypted this");
	assert_int_equal(rekey(&fx, S3C_REKEY_REWRAP, "a", true, NULL, &c), 0);
	assert_true(!c.migrated && c.current == 4);
	fx_end(&fx);
}

static void begin_epoch(struct fx *fx)
{
	struct s3c_volume_request rq = {
		.store = fx->store,
		.prefix = "",
		.enc = S3C_ENC_CSE_KEY,
		.keyring = fx->keyring,
		.source = "test",
	};
	cleanup_volume struct s3c_volume *volume = NULL;
	struct s3c_err err = { 0 };

	if (s3c_engine_volume_begin_epoch(&rq, &err, &volume) < 0)
		fail_msg("%s", err.text);
	fx_requests(fx);
}

/* An engine that knows of no new epoch meets an object that is of it, and writes in it from then.
 */
static void test_epoch(void **state)
{
	const struct fx_options o = { .ttl_s = -1 };
	struct fx_options o2 = { .state = "state2" };
	struct s3c_rekey_counts c;
	struct s3c_header header;
	struct s3c_info info;
	struct fx fx, other;

	(void)state;
	fx_new(&fx, &o);
	fill(&fx);
	begin_epoch(&fx);
	o2.dir = fx.dir;
	fx_open(&other, &o2);
	fx_start(&other, &o2);
	assert_int_equal(other.volume->epoch, 2);
	assert_int_equal(rekey(&other, S3C_REKEY_REENCRYPT, "a", false, NULL, &c), 0);
	assert_true(c.changed == 3 && c.keyless == 1 && c.plain == 1 && c.older == 4);
	assert_int_equal(rekey(&other, S3C_REKEY_REENCRYPT, "a", false, NULL, &c), 0);
	assert_true(!c.changed && c.current == 3 && !c.older);

	assert_int_equal(fx.volume->epoch, 1);
	make_file(&fx, "before", "b");
	fx_requests(&fx);
	assert_int_equal(look(&fx, "one", &info), 0);
	assert_int_equal(fx.volume->epoch, 2);
	assert_reads(&fx, "one", "1");
	assert_reads(&fx, "d/three", "333");
	make_file(&fx, "after", "a");
	hand_open(&fx, "before", &header, NULL, 0);
	assert_int_equal(header.epoch, 1);
	s3c_header_clear(&header);
	hand_open(&fx, "after", &header, NULL, 0);
	assert_int_equal(header.epoch, 2);
	s3c_header_clear(&header);
	assert_int_equal(rekey(&other, S3C_REKEY_COUNT, "a", false, NULL, &c), 0);
	assert_true(c.older == 1);
	fx_stop(&other);
	fx_end(&fx);
}

/* What a write costs that the volume object has to be read for. */
static void test_confirm(void **state)
{
	const struct fx_options o = { 0 };
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	list(&fx, "");
	make_file(&fx, "f", "f");
	fx_requests(&fx);
	make_file(&fx, "g", "g");
	assert_requests(&fx, "PUT 1");
	s3c_epochs_age(fx.engine, 301);
	make_file(&fx, "h", "h");
	assert_requests(&fx, "GET 1 PUT 1");
	make_file(&fx, "i", "i");
	assert_requests(&fx, "PUT 1");
	/* Of an epoch that is not the newest any more: each time. */
	begin_epoch(&fx);
	s3c_epochs_age(fx.engine, 301);
	make_file(&fx, "j", "j");
	fx_requests(&fx);
	assert_int_equal(fx.volume->epoch, 2);
	assert_int_equal(move(&fx, "f", "renamed"), 0);
	assert_requests(&fx, "GET 1 COPY 1 DELETE 1");
	make_file(&fx, "k", "k");
	assert_requests(&fx, "PUT 1");
	assert_reads(&fx, "renamed", "f");
	/* While it cannot be read nothing is acknowledged. */
	s3c_epochs_age(fx.engine, 301);
	hand_put(&fx, ".s3cryptfs/volume", NULL, "damaged", 7);
	{
		struct s3c_object *object;
		const struct s3c_attrs attrs = { .known = true, .mode = S_IFREG | 0600 };

		assert_int_equal(s3c_object_create(fx.engine, NULL, "l", &attrs, &object), 0);
		assert_int_equal(s3c_object_write(object, NULL, 0, "l", 1, false), 0);
		assert_int_equal(s3c_object_commit(object, NULL), -EREMOTEIO);
		assert_true(s3c_object_dirty(object));
		s3c_object_close(object);
	}
	fx_end(&fx);
}

static void test_renew(void **state)
{
	struct s3c_entry plain = { .header = { .layout = S3C_LAYOUT_PLAIN, .size = 3 },
				   .stored_size = 3 };
	struct s3c_entry sealed = { .header = { .layout = S3C_LAYOUT_CHUNKS, .size = 3 } };
	uint8_t quoted[S3C_CONTENT_ID_LEN], bare[S3C_CONTENT_ID_LEN];
	const struct fx_options o = { 0 };
	struct s3c_header before, after;
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	strcpy(plain.version.etag, "\"0123\"");
	assert_int_equal(s3c_renewed_id(&plain, quoted), 0);
	strcpy(plain.version.etag, "0123");
	assert_int_equal(s3c_renewed_id(&plain, bare), 0);
	assert_memory_equal(quoted, bare, sizeof(bare));
	memcpy(sealed.header.content_id, bare, sizeof(bare));
	assert_true(s3c_entry_renewed(&plain, &sealed));
	sealed.header.size = 4;
	assert_false(s3c_entry_renewed(&plain, &sealed));
	sealed.header.size = 3;
	strcpy(plain.version.etag, "0124");
	assert_false(s3c_entry_renewed(&plain, &sealed));
	assert_false(s3c_entry_renewed(&sealed, &sealed)); /* the same bytes */

	fx_new(&fx, &o);
	hand_file(&fx, "f", "content");
	hand_open(&fx, "f", &before, NULL, 0);
	assert_int_equal(s3c_object_renew(fx.engine, NULL, "f"), 0);
	hand_open(&fx, "f", &after, NULL, 0);
	assert_memory_equal(before.content_id, after.content_id, S3C_CONTENT_ID_LEN);
	assert_memory_not_equal(before.file_id, after.file_id, S3C_FILE_ID_LEN);
	assert_memory_not_equal(before.salt, after.salt, S3C_SALT_LEN);
	assert_int_equal(before.attrs.mtime_ns, after.attrs.mtime_ns);
	assert_content(&fx, "f", "content");
	assert_int_equal(s3c_object_renew(fx.engine, NULL, "none"), -ENOENT);
	/* With changes that are not stored it is left alone. */
	assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "C", 1, false), 0);
	assert_int_equal(s3c_object_renew(fx.engine, NULL, "f"), -EBUSY);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	assert_content(&fx, "f", "Content");
	s3c_header_clear(&before);
	s3c_header_clear(&after);
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrap),  cmocka_unit_test(test_skips),
		cmocka_unit_test(test_migrate), cmocka_unit_test(test_epoch),
		cmocka_unit_test(test_confirm), cmocka_unit_test(test_renew),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
