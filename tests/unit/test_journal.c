/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/journal.h"

/* Each test has a folder of its own. */
struct fixture {
	char dir[40], state[64], db[80];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/s3cryptfs-journal-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
	snprintf(f->db, sizeof(f->db), "%s/journal.db", f->state);
	s3c_log_set_level(S3C_LOG_ERROR);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[80];
	int r;

	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	r = system(command);
	free(f);
	return r;
}

static struct s3c_journal *open_journal(struct fixture *f)
{
	struct s3c_journal *journal = NULL;
	struct s3c_err err = { 0 };

	if (s3c_journal_open(f->state, &err, &journal) < 0)
		fail_msg("%s", err.text);
	return journal;
}

/* Opens and wants a refusal with these words. */
static void assert_refused(struct fixture *f, int result, const char *words)
{
	struct s3c_journal *journal = NULL;
	struct s3c_err err = { 0 };

	assert_int_equal(s3c_journal_open(f->state, &err, &journal), result);
	assert_null(journal);
	if (!strstr(err.text, words))
		fail_msg("'%s' lacks '%s'", err.text, words);
}

static void sql(struct fixture *f, const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_files(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	char path[96];
	struct stat st;

	assert_int_equal(stat(f->state, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(f->db, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(path, sizeof(path), "%s-wal", f->db);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	s3c_journal_close(journal);
	s3c_journal_close(NULL);
}

static void test_pins(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	const uint8_t one[16] = { 1, 2, 3 }, two[16] = { 0, 0xff };
	uint8_t id[16];
	uint64_t serial = 77;

	assert_int_equal(s3c_journal_pin_get(journal, "a", id, &serial), -ENOENT);
	assert_int_equal(serial, 77);
	assert_int_equal(s3c_journal_pin_set(journal, "a", one, 1), 0);
	assert_int_equal(s3c_journal_pin_set(journal, "b'\"", two, INT64_MAX), 0);
	assert_int_equal(s3c_journal_pin_set(journal, "a", one, 2), 0);
	assert_int_equal(s3c_journal_pin_set(journal, "a", one, UINT64_MAX), -ERANGE);
	s3c_journal_close(journal);

	journal = open_journal(f);
	assert_int_equal(s3c_journal_pin_get(journal, "a", id, &serial), 0);
	assert_memory_equal(id, one, 16);
	assert_int_equal(serial, 2);
	assert_int_equal(s3c_journal_pin_get(journal, "b'\"", id, &serial), 0);
	assert_memory_equal(id, two, 16);
	assert_int_equal(serial, INT64_MAX);
	s3c_journal_close(journal);
}

static void test_caps(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct s3c_store_caps caps = { .put_if_match = true, .copy = true, .crc64nvme = true };
	struct s3c_store_caps got = { .crc32c = true };

	assert_int_equal(s3c_journal_caps_get(journal, "a", "cse-key", 86400, &got), -ENOENT);
	assert_true(got.crc32c);
	assert_int_equal(s3c_journal_caps_set(journal, "a", "cse-key", &caps), 0);
	assert_int_equal(s3c_journal_caps_get(journal, "a", "sse-c", 86400, &got), -ENOENT);
	assert_int_equal(s3c_journal_caps_get(journal, "a", "cse-key", 86400, &got), 0);
	assert_memory_equal(&got, &caps, sizeof(caps));
	assert_int_equal(s3c_journal_caps_get(journal, "a", "cse-key", 0, &got), -ENOENT);
	/* None is forgotten: all of it are flags. */
	memset(&caps, true, sizeof(caps));
	assert_int_equal(s3c_journal_caps_set(journal, "c", "cse-key", &caps), 0);
	assert_int_equal(s3c_journal_caps_get(journal, "c", "cse-key", 86400, &got), 0);
	assert_memory_equal(&got, &caps, sizeof(caps));
	s3c_journal_close(journal);

	sql(f, "UPDATE caps SET checked_at = checked_at - 3600");
	journal = open_journal(f);
	assert_int_equal(s3c_journal_caps_get(journal, "a", "cse-key", 3600, &got), -ENOENT);
	assert_int_equal(s3c_journal_caps_get(journal, "a", "cse-key", 3700, &got), 0);
	s3c_journal_close(journal);
	sql(f, "UPDATE caps SET checked_at = checked_at + 86400"); /* from the future */
	journal = open_journal(f);
	assert_int_equal(s3c_journal_caps_get(journal, "a", "cse-key", 3700, &got), -ENOENT);
	s3c_journal_close(journal);
}

static void assert_generation(struct s3c_journal *journal, const char *key, uint64_t generation,
			      bool deleted)
{
	uint64_t got = 0;
	bool gone = !deleted;

	assert_int_equal(s3c_journal_generation_get(journal, key, &got, &gone), 0);
	assert_true(got == generation);
	assert_int_equal(gone, deleted);
}

static void test_generations(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	uint64_t generation;
	bool deleted;

	assert_int_equal(s3c_journal_use(journal, "source", NULL), 0);
	assert_int_equal(s3c_journal_generation_get(journal, "k", &generation, &deleted), -ENOENT);
	s3c_journal_generation_note(journal, "k", 5, false);
	assert_generation(journal, "k", 5, false);
	s3c_journal_generation_note(journal, "k", 4, true);
	assert_generation(journal, "k", 5, false);
	assert_int_equal(s3c_journal_flush(journal), 0);
	assert_generation(journal, "k", 5, false);
	s3c_journal_generation_note(journal, "k", 3, false); /* in memory, lower than stored */
	assert_generation(journal, "k", 5, false);
	assert_int_equal(s3c_journal_flush(journal), 0);
	assert_generation(journal, "k", 5, false);
	s3c_journal_generation_note(journal, "k", 5, true); /* deleted at what was seen */
	assert_int_equal(s3c_journal_flush(journal), 0);
	assert_generation(journal, "k", 5, true);
	s3c_journal_generation_note(journal, "k", 5, false);
	assert_int_equal(s3c_journal_flush(journal), 0);
	assert_generation(journal, "k", 5, true);
	s3c_journal_generation_note(journal, "k", UINT64_MAX, false); /* no sign is lost */
	s3c_journal_generation_note(journal, "unflushed", 9, true);
	s3c_journal_close(journal);

	journal = open_journal(f);
	assert_int_equal(s3c_journal_generation_get(journal, "k", &generation, &deleted), -ENOENT);
	assert_int_equal(s3c_journal_use(journal, "source", NULL), 0);
	assert_generation(journal, "k", UINT64_MAX, false);
	assert_generation(journal, "unflushed", 9, true);
	s3c_journal_close(journal);
}

struct noter {
	struct s3c_journal *journal;
	unsigned number;
};

static void *note_many(void *arg)
{
	struct noter *noter = arg;

	for (unsigned i = 1; i <= 5000; i++) {
		char key[32];

		snprintf(key, sizeof(key), "%u/%u", noter->number, i % 100);
		s3c_journal_generation_note(noter->journal, key, i, false);
		if (i % 1000 == 0 && s3c_journal_flush(noter->journal) < 0)
			return arg;
		if (i % 100 == 0)
			assert_generation(noter->journal, key, i, false);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct noter noters[4];
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++) {
		noters[i] = (struct noter){ journal, i };
		assert_int_equal(pthread_create(&threads[i], NULL, note_many, &noters[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		void *result;

		pthread_join(threads[i], &result);
		assert_null(result);
	}
	s3c_journal_close(journal);
	journal = open_journal(f);
	assert_generation(journal, "3/99", 4999, false);
	s3c_journal_close(journal);
}

static void test_lock(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f), *reader = NULL;
	cleanup_free char *mountpoint = NULL;
	const uint8_t id[16] = { 9 };
	uint8_t got[16];
	uint64_t serial;
	char words[64];
	pid_t pid = 0;

	snprintf(words, sizeof(words), "in use by process %ld", (long)getpid());
	assert_refused(f, -EBUSY, words);
	assert_int_equal(s3c_journal_set_mountpoint(journal, "/mnt/x"), 0);
	assert_refused(f, -EBUSY, "at /mnt/x");
	assert_int_equal(s3c_journal_holder(f->state, &pid, &mountpoint), 0);
	assert_int_equal(pid, getpid());
	assert_string_equal(mountpoint, "/mnt/x");

	/* A look beside the holder sees what is there and changes nothing. */
	assert_int_equal(s3c_journal_pin_set(journal, "a", id, 3), 0);
	assert_int_equal(s3c_journal_open_readonly(f->state, NULL, &reader), 0);
	assert_int_equal(s3c_journal_pin_get(reader, "a", got, &serial), 0);
	assert_int_equal(serial, 3);
	assert_int_equal(s3c_journal_pin_set(reader, "a", id, 4), 0);
	s3c_journal_generation_note(reader, "k", 1, false);
	assert_int_equal(s3c_journal_flush(reader), 0);
	s3c_journal_close(reader);
	assert_int_equal(s3c_journal_pin_get(journal, "a", got, &serial), 0);
	assert_int_equal(serial, 3);
	s3c_journal_close(journal);

	journal = open_journal(f); /* the lock ends with its holder */
	s3c_journal_close(journal);
}

static void test_readonly_of_nothing(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *reader = NULL;
	uint8_t id[16];
	uint64_t serial;
	struct stat st;

	assert_int_equal(s3c_journal_open_readonly(f->state, NULL, &reader), 0);
	assert_int_equal(s3c_journal_pin_get(reader, "a", id, &serial), -ENOENT);
	s3c_journal_close(reader);
	assert_int_equal(stat(f->state, &st), -1);
}

static void assert_same_file(const char *path, const void *data, size_t len)
{
	char *now = malloc(len + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, now, len + 1), len);
	assert_memory_equal(now, data, len);
	close(fd);
	free(now);
}

static void test_foreign(void **state)
{
	static const char text[] =
		"this is a text of some length and by no means a database of any "
		"kind, let alone one of ours; it has to stay as it is, byte by byte";
	struct fixture *f = *state;
	int fd;

	assert_int_equal(mkdir(f->state, 0700), 0);
	fd = open(f->db, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	close(fd);
	assert_refused(f, -EUCLEAN, "damaged or no database");
	assert_same_file(f->db, text, sizeof(text));

	unlink(f->db);
	sql(f, "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)");
	assert_refused(f, -EMEDIUMTYPE, "another program");
	sql(f, "DELETE FROM mine"); /* still there */
}

static void test_newer(void **state)
{
	struct fixture *f = *state;

	s3c_journal_close(open_journal(f));
	sql(f, "PRAGMA user_version = 99");
	assert_refused(f, -EPROTO, "newer version");
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	uint8_t junk[4096];
	struct stat before, after;
	int fd;

	for (unsigned i = 0; i < 2000; i++) {
		char key[32];

		snprintf(key, sizeof(key), "key %u", i);
		s3c_journal_generation_note(journal, key, i + 1, false);
	}
	s3c_journal_close(journal);
	memset(junk, 0xa5, sizeof(junk));
	fd = open(f->db, O_RDWR | O_CLOEXEC);
	assert_int_equal(fstat(fd, &before), 0);
	assert_true(before.st_size > 6 * 4096);
	assert_int_equal(pwrite(fd, junk, sizeof(junk), before.st_size - 2 * 4096), sizeof(junk));
	close(fd);
	assert_refused(f, -EUCLEAN, "damaged");
	assert_int_equal(stat(f->db, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
}

/* What a pin said stays said when the process is killed. */
static void test_kill(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal;
	const uint8_t id[16] = { 4 };
	uint8_t got[16];
	uint64_t serial;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct s3c_journal *child = NULL;

		if (s3c_journal_open(f->state, NULL, &child) == 0 &&
		    s3c_journal_pin_set(child, "a", id, 6) == 0) {
			s3c_journal_generation_note(child, "k", 8, false);
			if (s3c_journal_flush(child) == 0)
				raise(SIGKILL);
		}
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	journal = open_journal(f);
	assert_int_equal(s3c_journal_pin_get(journal, "a", got, &serial), 0);
	assert_int_equal(serial, 6);
	assert_generation(journal, "k", 8, false);
	s3c_journal_close(journal);
}

/* Keys are found by a hash; another key of the hash finds nothing. */
static void test_no_names(void **state)
{
	static const char *const files[] = { "journal.db", "journal.db-wal" };
	static const uint8_t one[32] = { 1 }, two[32] = { 2 };
	static const char name[] = "a-name-nobody-else-has";
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	uint64_t generation;
	size_t seen = 0;
	bool deleted;

	assert_int_equal(s3c_journal_use(journal, "source", one), 0);
	s3c_journal_generation_note(journal, name, 7, false);
	assert_int_equal(s3c_journal_flush(journal), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cleanup_free char *path = s3c_asprintf("%s/%s", f->state, files[i]);
		cleanup_free char *data = malloc(8u << 20);
		FILE *file = fopen(path, "r");
		size_t len;

		if (!file)
			continue;
		len = fread(data, 1, 8u << 20, file);
		fclose(file);
		seen += len;
		assert_null(memmem(data, len, name, strlen(name)));
		assert_true(i == 1 || len);
	}
	assert_true(seen > 0);
	assert_generation(journal, name, 7, false);
	assert_int_equal(s3c_journal_use(journal, "source", two), 0);
	assert_int_equal(s3c_journal_generation_get(journal, name, &generation, &deleted), -ENOENT);
	s3c_journal_close(journal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_caps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_generations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readonly_of_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_newer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
	};

	assert_int_equal(s3c_secret_init(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
