/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Uploads that stopped and go on: what is sent again is counted, and what the store has in the end
 * is read by an engine that has seen nothing of it. Daemons that die are child processes.
 */
#include "durable_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/mman.h>

#include "engine/record.h"
#include "engine/upload_journal.h"

#define CHUNK ((size_t)S3C_CHUNK_SIZE)
#define SIZE (8 * SEG)

static void check(struct fx *fx)
{
	char why[256] = "";

	if (s3c_objects_check(fx->engine, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

/* What the dying daemon tells the next one. */
struct told {
	uint8_t salts[16][S3C_SALT_LEN];
	unsigned kept; /* parts that were sent, but for the one with the trailer */
};
static struct told here, *told = &here;

/* Killed, with what it tells in memory that both have. */
static void told_killed(void (*body)(struct fx *fx, struct fx_options *o), struct fx_options *o)
{
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	killed(body, o);
}

/* Uploads in the folder store. */
static unsigned uploads(struct fx *fx)
{
	cleanup_free char *path = fx_path(fx, "store/.s3cryptfs-tmp/uploads");
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void fault_after(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind,
			int result, unsigned after)
{
	struct s3c_fault_rule rule = { .op = op, .kind = kind, .result = result, .after = after };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

/* Requests of one kind since the engine started. */
static uint64_t asked(struct fx *fx, enum s3c_store_opcode op)
{
	return s3c_store_fault_count(fx->store, op) - fx->seen[op];
}

static unsigned parts_done(struct s3c_object *object)
{
	unsigned done = 0;

	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; object->upload && i < object->upload->count; i++)
		done += object->upload->parts[i]->state == S3C_PART_DONE &&
			!object->upload->parts[i]->check;
	s3c_mutex_unlock(&object->engine->lock);
	return done;
}

/* Until so many parts are in the store, and what is known of them is in the journal. */
static void wait_parts(struct fx *fx, struct s3c_object *object, unsigned count)
{
	for (unsigned i = 0; i < 20000 && parts_done(object) < count; i++)
		usleep(1000);
	assert_int_equal(parts_done(object), count);
	assert_int_equal(s3c_journal_sync(fx->journal), 0);
	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; i < object->upload->count; i++) {
		const struct s3c_part *part = object->upload->parts[i];

		told->kept += part->state == S3C_PART_DONE && !part->copy && !part->trailer;
	}
	for (uint64_t i = 0; i < S3C_MIN(object->upload->salt_count, UINT64_C(16)); i++)
		memcpy(told->salts[i], object->upload->salts + i * S3C_SALT_LEN, S3C_SALT_LEN);
	s3c_mutex_unlock(&object->engine->lock);
}

static struct s3c_object *stream(struct fx *fx, size_t len, unsigned seed)
{
	cleanup_free uint8_t *data = pattern(len, seed);
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, 0, data, len);
	return object;
}

/* Whose salt of the stored object is that of the upload that stopped? */
static bool same_salt(struct fx *fx, uint64_t segment)
{
	struct s3c_object *object;
	bool same;

	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	s3c_mutex_lock(&fx->engine->lock);
	assert_int_equal(s3c_object_prepare(object, NULL), 0);
	same = memcmp(object->crypt->salts + segment * S3C_SALT_LEN, told->salts[segment],
		      S3C_SALT_LEN) == 0;
	s3c_mutex_unlock(&fx->engine->lock);
	s3c_object_close(object);
	return same;
}

/* Another machine reads it; nothing is left of the upload. */
static void finish(struct fx *fx, struct fx_options *o, const uint8_t *expect, size_t len)
{
	check(fx);
	for (unsigned i = 0; i < 5000 && (uploads(fx) || records(fx)); i++)
		usleep(1000);
	assert_int_equal(records(fx), 0);
	assert_int_equal(uploads(fx), 0);
	path_equal(fx, "f", expect, len);
	fx_stop(fx);
	o->state = "state2";
	o->durable = o->writeback = false;
	begin(fx, o);
	path_equal(fx, "f", expect, len);
	fx_end(fx);
}

static void die_after_four(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	(void)o;
	fault_after(fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_STALL, 0, 4);
	object = stream(fx, SIZE, 1);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	wait_parts(fx, object, 4);
}

/* The segments that are there are not sent again, in every mode. */
static void test_killed(void **state)
{
	static const enum s3c_enc modes[] = { S3C_ENC_CSE_KEY, S3C_ENC_NONE };
	cleanup_free uint8_t *data = pattern(SIZE, 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		struct fx_options o = { .enc = modes[i], .writeback = true };
		char dir[64];
		struct fx fx;

		if (o.enc == S3C_ENC_NONE)
			o.accept = S3C_ACCEPT_PLAIN;
		fresh_dir(&o, dir);
		told_killed(die_after_four, &o);
		begin(&fx, &o);
		assert_int_equal(fx.recovery.objects, 1);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_int_equal(told->kept, 4);
		assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 4);
		assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PARTS), 1);
		assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), 0);
		assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_ABORT), 0);
		if (o.enc == S3C_ENC_CSE_KEY) {
			unsigned same = 0;

			for (uint64_t s = 0; s < 8; s++)
				same += same_salt(&fx, s);
			assert_int_equal(same, 4);
		}
		finish(&fx, &o, data, SIZE);
	}
}

static void die_after_change(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	(void)o;
	fault_after(fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_STALL, 0, 7);
	object = stream(fx, SIZE, 1);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	wait_parts(fx, object, 7);
	assert_int_equal(s3c_object_write(object, NULL, 3 * SEG + 5 * CHUNK + 1, "new", 3, false),
			 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
}

/* What was changed since is sent again, under another salt. */
static void test_changed(void **state)
{
	static const enum s3c_enc modes[] = { S3C_ENC_CSE_KEY, S3C_ENC_NONE };
	cleanup_free uint8_t *data = pattern(SIZE, 1);

	(void)state;
	memcpy(data + 3 * SEG + 5 * CHUNK + 1, "new", 3);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		struct fx_options o = { .enc = modes[i], .writeback = true };
		char dir[64];
		struct fx fx;

		if (o.enc == S3C_ENC_NONE)
			o.accept = S3C_ACCEPT_PLAIN;
		fresh_dir(&o, dir);
		told_killed(die_after_change, &o);
		begin(&fx, &o);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), 0);
		/* The changed one, and the last with the trailer. */
		assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 2);
		if (o.enc == S3C_ENC_CSE_KEY) {
			for (uint64_t s = 0; s < 7; s++)
				assert_int_equal(same_salt(&fx, s), s != 3);
		}
		finish(&fx, &o, data, SIZE);
	}
}

static void die_after_later_writes(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *more = pattern(4 * SEG, 9);
	struct s3c_object *object;

	(void)o;
	object = stream(fx, 3 * SEG + 5, 1);
	assert_int_equal(s3c_object_persist(object, S3C_TX_SYNC), 0);
	/* Sent, and never acknowledged. */
	write_all(object, 3 * SEG + 5, more, 4 * SEG);
	write_all(object, SEG + 9, more, 100);
	write_all(object, 7 * SEG + 5, more, 1);
	wait_parts(fx, object, 7);
}

/* Parts of what came after the view that counts are not used. */
static void test_view_is_shorter(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(3 * SEG + 5, 1);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	told_killed(die_after_later_writes, &o);
	begin(&fx, &o);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), 0);
	/* All three that were sent before are as they were; the end is new. */
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 1);
	finish(&fx, &o, data, 3 * SEG + 5);
}

/* The store has forgotten it, or has other parts. */
static void test_vanished(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(SIZE, 1);

	(void)state;
	for (int parts_only = 0; parts_only < 2; parts_only++) {
		cleanup_free char *command = NULL;
		char dir[64];
		struct fx fx;

		o.state = NULL;
		o.writeback = true;
		fresh_dir(&o, dir);
		told_killed(die_after_four, &o);
		command = s3c_asprintf("rm -rf %s/store/.s3cryptfs-tmp/uploads/*%s", dir,
				       parts_only ? "/00002.*" : "");
		assert_int_equal(system(command), 0);
		begin(&fx, &o);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PARTS), 1);
		assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), parts_only ? 0 : 1);
		assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART),
				 parts_only ? 5 : 8);
		finish(&fx, &o, data, SIZE);
	}
}

static void die_unacknowledged(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	(void)o;
	object = stream(fx, 3 * SEG, 1);
	wait_parts(fx, object, 2);
}

/* Nobody was promised anything of the file: its upload is aborted, that of others is not. */
static void test_gone(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	struct s3c_store_request rq = { .op = S3C_STORE_UPLOAD_CREATE, .key = "f" };
	struct s3c_store_reply reply;
	struct s3c_info info;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	told_killed(die_unacknowledged, &o);
	fx_open(&fx, &o);
	assert_int_equal(s3c_store_perform(fx.store, &rq, NULL, &reply), 0);
	s3c_store_reply_free(&reply);
	assert_int_equal(uploads(&fx), 2);
	/* The store is not there at first: the next mount does it. Nor is it aborted where it may be
	   completed right now. */
	fault_after(&fx, S3C_STORE_UPLOAD_ABORT, S3C_FAULT_FAIL, -ETIMEDOUT, 0);
	fx_start(&fx, &o);
	fx_stop(&fx);
	fx_open(&fx, &o);
	fault_after(&fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_FAIL, -EAGAIN, 0);
	fx_start(&fx, &o);
	fx_stop(&fx);
	assert_int_equal(uploads(&fx), 2);
	begin(&fx, &o);
	assert_int_equal(look(&fx, "f", &info), -ENOENT);
	for (unsigned i = 0; i < 5000 && (uploads(&fx) > 1 || records(&fx)); i++)
		usleep(1000);
	assert_int_equal(uploads(&fx), 1);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void die_after_complete(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	(void)o;
	fault_after(fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_LOST, -ETIMEDOUT, 0);
	object = stream(fx, SIZE, 1);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	fault_after(fx, S3C_STORE_GET, S3C_FAULT_STALL, 0, 0);
	s3c_object_close(object);
	for (unsigned i = 0; i < 20000 && (!hand_exists(fx, "f") || uploads(fx)); i++)
		usleep(1000);
}

/* It was completed, and only that it was is not known. */
static void test_completed(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(SIZE, 1);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	told_killed(die_after_complete, &o);
	fx_open(&fx, &o);
	/* While it may be under way yet nothing else is done. */
	fault_after(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -EAGAIN, 0);
	fx_start(&fx, &o);
	assert_true(s3c_engine_sync(fx.engine, NULL) < 0);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_CREATE), 0);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_ABORT), 0);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_PUT), 0);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	/* One that bars completions, of which the store says that there is no upload. */
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 1);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_COMPLETE), 0);
	finish(&fx, &o, data, SIZE);
}

/* The store still knows the upload that it has made the object of: it is not aborted. */
static void test_completed_and_kept(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(SIZE, 1);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	told_killed(die_after_complete, &o);
	fx_open(&fx, &o);
	fault_after(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -EINVAL, 0);
	fault_after(&fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_FAIL, -EINVAL, 0);
	fx_start(&fx, &o);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	for (unsigned i = 0; i < 5000 && records(&fx); i++)
		usleep(1000);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_ABORT), 0);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 0);
	/* It is in nobody's way. */
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_false(hand_exists(&fx, "f"));
	s3c_store_fault_clear(fx.store);
	create_close(&fx, "f", SIZE, 1);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	finish(&fx, &o, data, SIZE);
}

/* What is left may be completed yet: until that is over its key is let alone. */
static void test_in_the_way(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	cleanup_free uint8_t *data = pattern(100, 2);
	struct s3c_object *object;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	told_killed(die_unacknowledged, &o);
	fx_open(&fx, &o);
	fault_after(&fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_FAIL, -EAGAIN, 0);
	fx_start(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, 0, data, 100);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), -EIO);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_PUT), 0);
	assert_int_equal(uploads(&fx), 1);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	assert_int_equal(uploads(&fx), 0);
	s3c_object_close(object);
	fx_stop(&fx);
	/* Its record is dropped by the next mount. */
	begin(&fx, &o);
	finish(&fx, &o, data, 100);
}

/* After an error at close: in the same mount, and in the next one. */
static void test_failed_close(void **state)
{
	cleanup_free uint8_t *data = pattern(SIZE, 1);

	(void)state;
	for (int remount = 0; remount < 2; remount++) {
		struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
		struct s3c_object *object;
		char dir[64];
		struct fx fx;

		fresh_dir(&o, dir);
		begin(&fx, &o);
		fault_after(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -ETIMEDOUT, 5);
		object = stream(&fx, SIZE, 1);
		wait_parts(&fx, object, 5);
		assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), -ETIMEDOUT);
		check(&fx);
		assert_int_equal(uploads(&fx), 1);
		if (remount) {
			s3c_object_close(object);
			fx_stop(&fx);
			begin(&fx, &o);
			assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
			assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 3);
		} else {
			s3c_store_fault_clear(fx.store);
			assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
			s3c_object_close(object);
			assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_PART), 8);
		}
		assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), !remount);
		finish(&fx, &o, data, SIZE);
	}
}

/* A failure that stays, and a file that is removed, leave no upload. */
static void test_given_up(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	fault_after(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -EACCES, 2);
	object = stream(&fx, SIZE, 1);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), -EACCES);
	assert_int_equal(uploads(&fx), 0);
	s3c_store_fault_clear(fx.store);
	fault_after(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -ETIMEDOUT, 3);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), -ETIMEDOUT);
	assert_int_equal(uploads(&fx), 1);
	s3c_object_close(object);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
	for (unsigned i = 0; i < 5000 && (uploads(&fx) || records(&fx)); i++)
		usleep(1000);
	assert_int_equal(uploads(&fx), 0);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* A little of segments 0, 2, 4 with 5, and 7 of eight; the others are copied. */
static void change_some(struct s3c_object *object, const uint8_t *data)
{
	static const uint64_t at[] = { 5, 2 * SEG + CHUNK, 5 * SEG - 100, 7 * SEG + 77 };

	for (size_t i = 0; i < ARRAY_LEN(at); i++)
		write_all(object, at[i], data + at[i], 300);
}

static void die_while_copying(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(SIZE, 2);
	struct s3c_object *object = stream(fx, SIZE, 1);

	(void)o;
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	fault_after(fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_STALL, 0, 2);
	change_some(object, data);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_ref(object);
	s3c_object_close(object);
	s3c_mutex_lock(&fx->engine->lock);
	s3c_commit_start(object);
	s3c_mutex_unlock(&fx->engine->lock);
	/* 0, [1], 2, [3], 4, 5, [6], 7: two of the five that are sent, and three copies. */
	wait_parts(fx, object, 5);
}

static void test_copies(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(SIZE, 1), *changed = pattern(SIZE, 2);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(data + 5, changed + 5, 300);
	memcpy(data + 2 * SEG + CHUNK, changed + 2 * SEG + CHUNK, 300);
	memcpy(data + 5 * SEG - 100, changed + 5 * SEG - 100, 300);
	memcpy(data + 7 * SEG + 77, changed + 7 * SEG + 77, 300);
	fresh_dir(&o, dir);
	told_killed(die_while_copying, &o);
	begin(&fx, &o);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), 0);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART_COPY), 0);
	/* 0, 2, 4 and 5 each, and 7 with the trailer. */
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 5 - told->kept);
	finish(&fx, &o, data, SIZE);
}

static void die_sparse(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(SIZE, 3);
	struct s3c_object *object;

	(void)o;
	fault_after(fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_STALL, 0, 2);
	assert_int_equal(s3c_object_create(fx->engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, SEG + 5, data + SEG + 5, 10);
	write_all(object, 4 * SEG - 5, data + 4 * SEG - 5, 10);
	write_all(object, SIZE - 10, data + SIZE - 10, 10);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_mutex_lock(&fx->engine->lock);
	s3c_commit_start(object);
	s3c_mutex_unlock(&fx->engine->lock);
	wait_parts(fx, object, 2);
}

/* Holes stay holes. */
static void test_sparse(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = calloc(1, SIZE), *written = pattern(SIZE, 3);
	static const uint8_t none[S3C_SALT_LEN];
	struct s3c_object *object;
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(data + SEG + 5, written + SEG + 5, 10);
	memcpy(data + 4 * SEG - 5, written + 4 * SEG - 5, 10);
	memcpy(data + SIZE - 10, written + SIZE - 10, 10);
	fresh_dir(&o, dir);
	told_killed(die_sparse, &o);
	begin(&fx, &o);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(asked(&fx, S3C_STORE_UPLOAD_CREATE), 0);
	/* 1, 3, 4, and 7 with the trailer. */
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART), 4 - told->kept);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
	s3c_mutex_lock(&fx.engine->lock);
	assert_int_equal(s3c_object_prepare(object, NULL), 0);
	for (uint64_t s = 0; s < 8; s++)
		assert_int_equal(
			memcmp(object->crypt->salts + s * S3C_SALT_LEN, none, S3C_SALT_LEN) == 0,
			s == 0 || s == 2 || s == 5 || s == 6);
	s3c_mutex_unlock(&fx.engine->lock);
	s3c_object_close(object);
	finish(&fx, &o, data, SIZE);
}

/* The text of records: what was put in, and nothing of one that is cut or altered. */
static void test_text(void **state)
{
	struct s3c_mark marks[2] = { { .segment = 5, .salt = { 1 }, .digest = { 2 } },
				     { .segment = 7, .salt = { 3 }, .digest = { 4 } } };
	struct s3c_paused_part part = {
		.done = { .number = 9, .etag = "\"e\"", .checksum = "AAAA", .size = 12345 },
		.first = 5,
		.count = 3,
		.marks = marks,
		.mark_count = 2,
	};
	struct s3c_object object = { .path = (char *)(uintptr_t) "dir/f" };
	struct s3c_target target = { .key = (char *)(uintptr_t) "p/dir/f" };
	struct s3c_upload upload = {
		.object = &object,
		.target = &target,
		.id = (char *)(uintptr_t) "crc32c:id",
		.keep = true,
		.source_etag = "\"s\"",
		.header = { .layout = S3C_LAYOUT_TRAILER, .generation = 77, .key_id = "a" },
	};
	struct s3c_buf text = { 0 }, head = { 0 };
	struct s3c_paused_part got;
	struct s3c_paused *paused;

	(void)state;
	assert_int_equal(s3c_record_encode_part(&part, &text), 0);
	assert_int_equal(s3c_record_decode_part((uint8_t *)text.data, text.len, 9, &got), 0);
	assert_memory_equal(got.marks, marks, sizeof(marks));
	assert_memory_equal(&got.done, &part.done, sizeof(got.done));
	assert_true(got.first == 5 && got.count == 3 && got.mark_count == 2 && !got.copy);
	free(got.marks);
	assert_int_equal(s3c_record_decode_part((uint8_t *)text.data, text.len, 0, &got), -EBADMSG);
	for (size_t len = 0; len < text.len; len++)
		assert_true(s3c_record_decode_part((uint8_t *)text.data, len, 9, &got) < 0);
	for (size_t i = 0; i < text.len * 8; i++) {
		text.data[i / 8] ^= (char)(1 << i % 8);
		if (s3c_record_decode_part((uint8_t *)text.data, text.len, 9, &got) == 0)
			free(got.marks);
		text.data[i / 8] ^= (char)(1 << i % 8);
	}
	text.data[0]++;
	assert_int_equal(s3c_record_decode_part((uint8_t *)text.data, text.len, 9, &got), -EPROTO);
	assert_int_equal(s3c_record_encode_upload(&upload, &head), 0);
	for (size_t len = 0; len <= head.len; len++) {
		int r;

		paused = calloc(1, sizeof(*paused));
		r = s3c_record_decode_upload(NULL, (uint8_t *)head.data, len, paused);
		assert_int_equal(r, len == head.len ? 0 : -EBADMSG);
		if (r == 0) {
			assert_string_equal(paused->path, "dir/f");
			assert_string_equal(paused->key, "p/dir/f");
			assert_string_equal(paused->upload_id, "crc32c:id");
			assert_string_equal(paused->source_etag, "\"s\"");
			assert_true(paused->keep && !paused->sealed);
			assert_int_equal(paused->header.generation, 77);
		}
		s3c_paused_free(paused);
	}
	s3c_buf_free(&text);
	s3c_buf_free(&head);
}

static uint64_t rng_state = 88172645463325252u;
static uint64_t rng(uint64_t below)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (rng_state >> 11) % below;
}

/* Writes and cuts between commits that fail somewhere: the store has the view in the end. */
static void test_random(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	cleanup_free uint8_t *shadow = calloc(1, SIZE), *data = pattern(SIZE, 4);
	struct s3c_object *object;
	uint64_t size = 5 * SEG;
	unsigned gone_on = 0;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
	memcpy(shadow, data, size);
	write_all(object, 0, shadow, size);
	for (unsigned round = 0; round < 40; round++) {
		uint64_t before = asked(&fx, S3C_STORE_UPLOAD_PARTS);

		fault_after(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -ETIMEDOUT,
			    (unsigned)rng(4));
		s3c_object_commit(object, NULL);
		s3c_store_fault_clear(fx.store);
		check(&fx);
		for (uint64_t n = rng(3); n; n--) {
			uint64_t at = rng(SIZE - CHUNK), len = 1 + rng(CHUNK);

			memcpy(shadow + at, data + rng(SIZE - CHUNK), len);
			write_all(object, at, shadow + at, len);
			size = S3C_MAX(size, at + len);
		}
		if (!rng(6)) {
			size = SEG + 1 + rng(SIZE - SEG - 1);
			memset(shadow + size, 0, SIZE - size);
			assert_int_equal(s3c_object_truncate(object, NULL, size), 0);
		}
		if (!rng(4))
			assert_int_equal(s3c_object_commit(object, NULL), 0);
		gone_on += asked(&fx, S3C_STORE_UPLOAD_PARTS) != before;
		check(&fx);
	}
	assert_true(gone_on > 5);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_int_equal(differs(&fx, object, shadow, size), 0);
	s3c_object_close(object);
	{
		cleanup_free char *dir = strdup(fx.dir);

		o.dir = dir;
		finish(&fx, &o, shadow, size);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_view_is_shorter),
		cmocka_unit_test(test_vanished),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_completed),
		cmocka_unit_test(test_completed_and_kept),
		cmocka_unit_test(test_in_the_way),
		cmocka_unit_test(test_failed_close),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_random),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
