/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Operations that are known again: what the journal has to know before something is sent. Its disk
 * fails under a daemon that lives on; daemons that die are child processes which end by SIGKILL.
 */
#include "failing_journal.h"
#include "killed_fixture.h"

#include <errno.h>

#include "engine/content.h"
#include "engine/durable.h"

static const struct s3c_attrs made_attrs = { .known = true, .mode = S_IFREG | 0644 };

static void fault(struct fx *fx, enum s3c_store_opcode op, const char *key,
		  enum s3c_fault_kind kind, int result)
{
	struct s3c_fault_rule rule = {
		.op = op, .key_substring = key, .kind = kind, .result = result
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void write_text(struct s3c_object *object, const char *text)
{
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
}

/* What a power cut would leave of the journal. */
static void copy_state(struct fx *fx)
{
	cleanup_free char *command =
		s3c_asprintf("cp -r '%s/state' '%s/synced' && rm -f '%s/synced/lock'", fx->dir,
			     fx->dir, fx->dir);

	assert_non_null(command);
	assert_int_equal(system(command), 0);
}

/*
 * path: "one" is in the store, "two" in the journal, on its disk; "three" is written, and the disk
 * does not work any more.
 */
static struct s3c_object *break_journal(struct fx *fx, const char *path)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &made_attrs, &object), 0);
	write_text(object, "one  ");
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(records(fx), 0);
	write_text(object, "two  ");
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	copy_state(fx);
	journal_fails(true);
	write_text(object, "three");
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), -EIO);
	fx_requests(fx);
	return object;
}

static void die_with_broken_journal(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object = break_journal(fx, "f");

	(void)o;
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	assert_requests(fx, "");
}

/* What the journal cannot be told of is not sent: its older view is no conflict later. */
static void test_broken_journal(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_with_broken_journal, &o);
	o.state = "synced";
	fx_new(&fx, &o);
	assert_int_equal(fx.recovery.objects, 1);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_string_equal(list(&fx, ""), "f");
	assert_content(&fx, "f", "two  ");
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* It is sent when the disk works again. */
static void test_mended_journal(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct s3c_object *object, *other;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "g", &made_attrs, &other), 0);
	write_text(other, "known");
	object = break_journal(&fx, "f");
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	assert_true(s3c_object_dirty(object));
	assert_requests(&fx, "");
	/* The journal has nothing of this one that could come back. */
	write_text(other, "newer");
	assert_int_equal(s3c_object_commit(other, NULL), 0);
	journal_fails(false);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_content(&fx, "f", "three");
	assert_content(&fx, "g", "newer");
	s3c_object_close(object);
	s3c_object_close(other);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* The view is in the journal, but not on its disk. */
static void test_lazy_record(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
	write_text(object, "lazy");
	assert_int_equal(s3c_object_persist(object, S3C_TX_LAZY), 0);
	journal_fails(true);
	fx_requests(&fx);
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	assert_requests(&fx, "");
	journal_fails(false);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_content(&fx, "f", "lazy");
	s3c_object_close(object);
	fx_end(&fx);
}

/* A directory is not renamed over the head of a file in it that cannot be sent. */
static void test_rename_dir(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	assert_int_equal(s3c_engine_mkdir(fx.engine, NULL, "d", &dir_attrs), 0);
	object = break_journal(&fx, "d/f");
	assert_int_equal(move(&fx, "d", "e"), -EIO);
	assert_string_equal(list(&fx, ""), "d/");
	assert_content(&fx, "d/f", "one  ");
	journal_fails(false);
	assert_int_equal(move(&fx, "d", "e"), 0);
	assert_content(&fx, "e/f", "three");
	assert_false(hand_exists(&fx, "d/f"));
	s3c_object_close(object);
	fx_end(&fx);
}

/* Without a record there is nothing that could come back. */
static void test_no_record(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	journal_fails(true);
	make_file(&fx, "f", "stored");
	journal_fails(false);
	assert_content(&fx, "f", "stored");
	fx_end(&fx);
}

#define LARGE (3 * (size_t)S3C_SEGMENT_SIZE)

/* A stream whose attributes have changed since it began: stored, and then corrected by a copy whose
   reply is lost with the daemon. */
static void die_after_correction(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = calloc(1, LARGE);
	struct s3c_object *object;
	struct s3c_info info;

	(void)o;
	assert_non_null(data);
	assert_int_equal(s3c_object_create(fx->engine, NULL, "f", &made_attrs, &object), 0);
	write_text(object, "first");
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	for (size_t at = 0; at < LARGE; at += 1u << 20)
		assert_int_equal(s3c_object_write(object, NULL, at, data + at, 1u << 20, false), 0);
	/* The stream has begun, with the attributes of then. */
	while (s3c_store_fault_count(fx->store, S3C_STORE_UPLOAD_PART) == 0)
		usleep(10000);
	assert_int_equal(s3c_engine_setattr(fx->engine, NULL, "f", object, S3C_SET_MODE,
					    &(struct s3c_attrs){ .mode = 0600 }, &info),
			 0);
	assert_int_equal(s3c_object_persist(object, S3C_TX_SYNC), 0);
	/* The copy is made; then nothing is reached any more. */
	fault(fx, S3C_STORE_COPY, "f", S3C_FAULT_LOST, -ECONNRESET);
	fault(fx, S3C_STORE_HEAD, "f", S3C_FAULT_STALL, 0);
	s3c_mutex_lock(&fx->engine->lock);
	s3c_commit_start(object);
	s3c_mutex_unlock(&fx->engine->lock);
	while (s3c_store_fault_count(fx->store, S3C_STORE_COPY) == 0)
		usleep(10000);
	usleep(200000);
}

static void test_correction(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct s3c_header header;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_after_correction, &o);
	fx_new(&fx, &o);
	assert_int_equal(fx.recovery.objects, 1);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_string_equal(list(&fx, ""), "f");
	hand_open(&fx, "f", &header, NULL, 0);
	assert_int_equal(header.attrs.mode, S_IFREG | 0600);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static int works_again(void **state)
{
	(void)state;
	journal_fails(false);
	return 0;
}

static void has_text(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;
	struct s3c_pages pages;

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	assert_int_equal(s3c_object_read(object, NULL, 0, strlen(text), NULL, &pages), 0);
	assert_memory_equal(pages.iov[0].iov_base, text, strlen(text));
	s3c_pages_release(fx->engine, &pages);
	s3c_object_close(object);
}

/* An unlink that was told to have failed was carried out: what is written to the open file then is
   the file, under its name. */
static void test_unlinked_all_the_same(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int dirty = 0; dirty < 2; dirty++) {
		fx_open(&fx, &o);
		fx_start(&fx, &o);
		assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
		write_text(object, "one  ");
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		if (dirty)
			write_text(object, "two  ");
		fault(&fx, S3C_STORE_DELETE, NULL, S3C_FAULT_LOST, -ETIMEDOUT);
		fault(&fx, S3C_STORE_HEAD, NULL, S3C_FAULT_FAIL, -ETIMEDOUT);
		assert_true(s3c_engine_unlink(fx.engine, NULL, "f") < 0);
		s3c_store_fault_clear(fx.store);
		assert_false(hand_exists(&fx, "f"));
		if (!dirty)
			write_text(object, "three");
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		assert_string_equal(list(&fx, ""), "f");
		has_text(&fx, "f", dirty ? "two  " : "three");
		fx_end(&fx);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_broken_journal, works_again),
		cmocka_unit_test_setup(test_mended_journal, works_again),
		cmocka_unit_test_setup(test_lazy_record, works_again),
		cmocka_unit_test_setup(test_rename_dir, works_again),
		cmocka_unit_test_setup(test_no_record, works_again),
		cmocka_unit_test_setup(test_correction, works_again),
		cmocka_unit_test(test_unlinked_all_the_same),
	};

	assert_int_equal(s3c_secret_init(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
