/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/records.h"

#define PLENTY (1ull << 30)
#define MIB (1u << 20)

static const uint8_t wrap_key[S3C_KEY_LEN] = { 1, 2, 3 };
static const uint8_t other_key[S3C_KEY_LEN] = { 1, 2, 4 };

/* What SQLite asks of the kernel, instead of libc's: counted, and failing when told so. */
static unsigned wal_syncs;
static bool syncs_fail;
int fdatasync(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	if (__atomic_load_n(&syncs_fail, __ATOMIC_RELAXED)) {
		errno = EIO;
		return -1;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	if (n > 4 && !memcmp(path + n - 4, "-wal", 4))
		__atomic_fetch_add(&wal_syncs, 1, __ATOMIC_RELAXED);
	return (int)syscall(SYS_fdatasync, fd);
}

/* Each test has a folder of its own. */
struct fixture {
	char dir[40], state[64];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/s3cryptfs-records-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
	s3c_log_set_level(S3C_LOG_ERROR);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[80];
	int r;

	umount2(f->state, MNT_DETACH); /* of mount_small */
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	r = system(command);
	free(f);
	return r;
}

static struct s3c_journal *open_with(struct fixture *f, enum s3c_journal_key how,
				     const uint8_t *key, uint64_t size)
{
	struct s3c_journal *journal = NULL;
	struct s3c_err err = { 0 };

	if (s3c_journal_open(f->state, &err, &journal) < 0 ||
	    s3c_journal_unlock(journal, how, key, size, &err) < 0)
		fail_msg("%s", err.text);
	return journal;
}

static struct s3c_journal *open_journal(struct fixture *f)
{
	return open_with(f, S3C_JOURNAL_KEY_WRAPPED, wrap_key, PLENTY);
}

static struct s3c_tx *new_tx(struct s3c_journal *journal)
{
	struct s3c_tx *tx = NULL;

	assert_int_equal(s3c_tx_new(journal, &tx), 0);
	return tx;
}

static int put(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub,
	       const void *data, size_t len)
{
	struct s3c_tx *tx = new_tx(journal);

	assert_int_equal(s3c_tx_put(tx, kind, id, sub, data, len), 0);
	return s3c_tx_commit(tx, S3C_TX_SYNC);
}

static void assert_record(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub,
			  const void *data, size_t len)
{
	uint8_t *got = malloc(len + 1);
	size_t got_len = 0;

	assert_int_equal(s3c_record_get(journal, kind, id, sub, got, len + 1, &got_len), 0);
	assert_int_equal(got_len, len);
	assert_memory_equal(got, data, len);
	free(got);
}

static void assert_none(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub)
{
	uint8_t got[8];
	size_t len;

	assert_int_equal(s3c_record_get(journal, kind, id, sub, got, sizeof(got), &len), -ENOENT);
}

static void assert_amount(struct s3c_journal *journal, uint64_t records, uint64_t bytes)
{
	struct s3c_record_stats stats;
	uint64_t pending_records, pending_bytes;

	s3c_record_stats(journal, &stats);
	assert_int_equal(stats.records, records);
	assert_int_equal(stats.bytes, bytes);
	assert_int_equal(s3c_journal_pending(journal, &pending_records, &pending_bytes), 0);
	assert_int_equal(pending_records, records);
	assert_int_equal(pending_bytes, bytes);
}

static void test_round_trip(void **state)
{
	static const size_t lens[] = { 0, 1, 15, 16, 200, 4096, 65536, S3C_RECORD_MAX };
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	uint8_t *data = malloc(S3C_RECORD_MAX + 1);
	uint64_t bytes = 0;
	struct s3c_tx *tx;
	size_t len = 77;

	s3c_random(data, S3C_RECORD_MAX);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		assert_int_equal(
			put(journal, 7, i, UINT64_MAX, data + i, lens[i] - (lens[i] > 7 ? i : 0)),
			0);
		bytes += lens[i] - (lens[i] > 7 ? i : 0);
	}
	assert_amount(journal, ARRAY_LEN(lens), bytes);
	for (int again = 0; again < 2; again++) {
		for (size_t i = 0; i < ARRAY_LEN(lens); i++)
			assert_record(journal, 7, i, UINT64_MAX, data + i,
				      lens[i] - (lens[i] > 7 ? i : 0));
		assert_none(journal, 7, 0, 0);
		assert_none(journal, 6, 0, UINT64_MAX);
		s3c_journal_close(journal);
		journal = open_journal(f); /* another session */
	}
	assert_int_equal(s3c_record_get(journal, 7, 5, UINT64_MAX, data, 100, &len), -EMSGSIZE);
	assert_int_equal(len, 77);
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_put(tx, 1, 1, 1, data, S3C_RECORD_MAX + 1), -EMSGSIZE);
	assert_int_equal(s3c_tx_put(tx, 1, 1, 1, data, 10), 0);
	assert_int_equal(s3c_tx_bytes(tx), 10);
	s3c_tx_free(tx);
	s3c_tx_free(NULL);
	assert_none(journal, 1, 1, 1);
	s3c_journal_close(journal);
	free(data);
}

static void test_replace_and_delete(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct s3c_tx *tx = new_tx(journal);

	for (uint64_t sub = 0; sub < 10; sub++)
		assert_int_equal(s3c_tx_put(tx, 1, 5, sub, "0123456789", sub), 0);
	assert_int_equal(s3c_tx_put(tx, 1, 6, 3, "neighbour", 9), 0);
	assert_int_equal(s3c_tx_put(tx, 2, 5, 3, "neighbour", 9), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_LAZY), 0);
	assert_amount(journal, 12, 45 + 18);

	/* Within one transaction the order counts. */
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_put(tx, 1, 5, 2, "a longer one", 12), 0);
	assert_int_equal(s3c_tx_delete(tx, 1, 5, 2), 0);
	assert_int_equal(s3c_tx_put(tx, 1, 5, 2, "last", 4), 0);
	assert_int_equal(s3c_tx_put(tx, 1, 5, 11, "x", 1), 0);
	assert_int_equal(s3c_tx_delete_from(tx, 1, 5, 4), 0);
	assert_int_equal(s3c_tx_put(tx, 1, 5, UINT64_MAX, "y", 1), 0);
	assert_int_equal(s3c_tx_delete(tx, 1, 5, 77), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	assert_amount(journal, 4 + 1 + 2, 0 + 1 + 4 + 3 + 1 + 18);
	assert_record(journal, 1, 5, 2, "last", 4);
	assert_none(journal, 1, 5, 4);
	assert_none(journal, 1, 5, 11);
	assert_record(journal, 1, 5, UINT64_MAX, "y", 1);
	assert_record(journal, 1, 6, 3, "neighbour", 9);
	assert_record(journal, 2, 5, 3, "neighbour", 9);
	s3c_journal_close(journal);
	journal = open_journal(f);
	assert_amount(journal, 7, 27);
	s3c_journal_close(journal);
}

struct seen {
	uint64_t id[8], sub[8];
	size_t len[8];
	int result[8];
	unsigned count, most;
};

static int see(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data, size_t len)
{
	struct seen *seen = arg;

	assert_true(seen->count < 8);
	if (result == 0)
		assert_memory_equal(data, "value", len);
	else
		assert_null(data);
	seen->id[seen->count] = id;
	seen->sub[seen->count] = sub;
	seen->len[seen->count] = len;
	seen->result[seen->count++] = result;
	return seen->count == seen->most ? 99 : 0;
}

static int see_sub(void *arg, uint64_t sub, size_t len)
{
	return see(arg, 0, sub, 0, (const uint8_t *)"value", len);
}

static void test_each(void **state)
{
	static const uint64_t keys[][2] = {
		{ UINT64_MAX, 0 }, { 1, UINT64_MAX }, { 1, 1ull << 63 }, { 0, 5 }, { 1, 7 },
	};
	static const unsigned order[] = { 3, 4, 2, 1, 0 };
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct seen seen = { .most = 100 };
	struct s3c_tx *tx = new_tx(journal);

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(s3c_tx_put(tx, 3, keys[i][0], keys[i][1], "value", i), 0);
	assert_int_equal(s3c_tx_put(tx, 4, 1, 1, "value", 5), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	assert_int_equal(s3c_record_each(journal, 3, see, &seen), 0);
	assert_int_equal(seen.count, ARRAY_LEN(keys));
	for (unsigned i = 0; i < seen.count; i++) {
		assert_true(seen.id[i] == keys[order[i]][0] && seen.sub[i] == keys[order[i]][1]);
		assert_int_equal(seen.len[i], order[i]);
		assert_int_equal(seen.result[i], 0);
	}
	seen = (struct seen){ .most = 2 };
	assert_int_equal(s3c_record_each(journal, 3, see, &seen), 99);
	assert_int_equal(seen.count, 2);
	seen = (struct seen){ .most = 100 };
	assert_int_equal(s3c_record_subs(journal, 3, 1, see_sub, &seen), 0);
	assert_int_equal(seen.count, 3);
	assert_true(seen.sub[0] == 7 && seen.sub[1] == 1ull << 63 && seen.sub[2] == UINT64_MAX);
	assert_int_equal(seen.len[0], 4);
	seen = (struct seen){ .most = 100 };
	assert_int_equal(s3c_record_each(journal, 5, see, &seen), 0);
	assert_int_equal(seen.count, 0);
	s3c_journal_close(journal);
}

/* Numbered ones; their ends come in the order in which they were given. */
struct numbered {
	unsigned next;
	unsigned wrong;
};
struct number {
	struct numbered *all;
	unsigned number;
};

static void note_number(void *arg, int result)
{
	struct number *n = arg;

	n->all->wrong += result != 0 || n->all->next != n->number;
	n->all->next++;
}

static void test_order(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	static struct number numbers[2000];
	struct numbered all = { 0 };
	struct s3c_record_stats stats;

	for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
		struct s3c_tx *tx = new_tx(journal);

		numbers[i] = (struct number){ &all, i };
		assert_int_equal(s3c_tx_put(tx, 1, 1, 1, &i, sizeof(i)), 0);
		assert_int_equal(s3c_tx_put(tx, 1, 2, i, &i, sizeof(i)), 0);
		assert_int_equal(s3c_tx_delete(tx, 1, 2, i - 1), 0);
		s3c_tx_submit(tx, i % 100 ? S3C_TX_LAZY : S3C_TX_SYNC, note_number, &numbers[i]);
	}
	assert_int_equal(s3c_journal_sync(journal), 0);
	assert_int_equal(all.next, ARRAY_LEN(numbers));
	assert_int_equal(all.wrong, 0);
	s3c_record_stats(journal, &stats);
	assert_true(stats.commits < ARRAY_LEN(numbers) / 4);
	assert_true(stats.syncs <= stats.commits);
	assert_amount(journal, 2, 8);
	assert_record(journal, 1, 1, 1, &(unsigned){ 1999 }, 4);
	s3c_journal_close(journal); /* writes what was given */
}

static void test_close_writes(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct numbered all = { 0 };
	struct number numbers[300];

	for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
		struct s3c_tx *tx = new_tx(journal);

		numbers[i] = (struct number){ &all, i };
		assert_int_equal(s3c_tx_put(tx, 1, 1, i, "x", 1), 0);
		s3c_tx_submit(tx, S3C_TX_LAZY, note_number, &numbers[i]);
	}
	s3c_journal_close(journal);
	assert_int_equal(all.next, ARRAY_LEN(numbers));
	journal = open_journal(f);
	assert_amount(journal, ARRAY_LEN(numbers), ARRAY_LEN(numbers));
	s3c_journal_close(journal);
}

/* A synced commit is one sync of the WAL; what is not synced is none; and a sync of nothing new. */
static void test_syncs(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct s3c_record_stats before, after;
	struct s3c_tx *tx;
	unsigned syncs;

	assert_int_equal(put(journal, 1, 0, 0, "x", 1), 0);
	s3c_record_stats(journal, &before);
	syncs = wal_syncs;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(put(journal, 1, 0, i, "x", 1), 0);
	assert_int_equal(wal_syncs - syncs, 20);
	s3c_record_stats(journal, &after);
	assert_int_equal(after.syncs - before.syncs, 20);
	assert_int_equal(after.commits - before.commits, 20);

	syncs = wal_syncs;
	assert_int_equal(s3c_journal_sync(journal), 0); /* everything is */
	assert_int_equal(wal_syncs - syncs, 0);
	for (unsigned i = 0; i < 20; i++) {
		tx = new_tx(journal);
		assert_int_equal(s3c_tx_put(tx, 1, 1, i, "x", 1), 0);
		assert_int_equal(s3c_tx_commit(tx, S3C_TX_LAZY), 0);
	}
	assert_int_equal(wal_syncs - syncs, 0);
	assert_int_equal(s3c_journal_sync(journal), 0);
	assert_int_equal(wal_syncs - syncs, 1);
	assert_int_equal(s3c_journal_sync(journal), 0);
	assert_int_equal(wal_syncs - syncs, 1);

	/* One that changes nothing makes the others durable too. */
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_put(tx, 1, 2, 0, "x", 1), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_LAZY), 0);
	assert_int_equal(wal_syncs - syncs, 1);
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_delete(tx, 9, 9, 9), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	assert_int_equal(wal_syncs - syncs, 2);
	s3c_journal_close(journal);
}

/* After a sync that failed nothing is promised before all was written anew. */
static void test_failed_sync(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct s3c_record_stats stats;
	struct s3c_tx *tx;

	assert_int_equal(put(journal, 1, 0, 0, "a", 1), 0);
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_put(tx, 1, 0, 1, "b", 1), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_LAZY), 0);
	s3c_log_open("/dev/null");
	__atomic_store_n(&syncs_fail, true, __ATOMIC_RELAXED);
	assert_int_equal(put(journal, 1, 0, 2, "c", 1), -EIO);
	assert_int_equal(put(journal, 1, 0, 2, "c", 1), -EIO);
	tx = new_tx(journal); /* what would not be synced either */
	assert_int_equal(s3c_tx_put(tx, 1, 0, 2, "c", 1), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_LAZY), -EIO);
	s3c_record_stats(journal, &stats);
	assert_int_equal(stats.last_error, -EIO);
	assert_int_equal(stats.records, 2);
	__atomic_store_n(&syncs_fail, false, __ATOMIC_RELAXED);
	assert_int_equal(put(journal, 1, 0, 3, "d", 1), 0);
	s3c_log_close();
	s3c_record_stats(journal, &stats);
	assert_int_equal(stats.last_error, 0);
	assert_none(journal, 1, 0, 2);
	assert_amount(journal, 3, 3);
	s3c_journal_close(journal);
	journal = open_journal(f);
	assert_record(journal, 1, 0, 1, "b", 1);
	assert_record(journal, 1, 0, 3, "d", 1);
	s3c_journal_close(journal);
}

#define COMMITTERS 16
#define COMMITS 60

struct committer {
	pthread_t thread;
	struct s3c_journal *journal;
	uint64_t id;
	int result;
};

static void *commit_many(void *arg)
{
	struct committer *c = arg;

	for (uint64_t i = 0; i < COMMITS && c->result == 0; i++) {
		uint64_t value[2] = { c->id, i }, got[2] = { 0 };
		struct s3c_tx *tx;
		size_t len = 0;

		c->result = s3c_tx_new(c->journal, &tx);
		if (c->result < 0)
			break;
		c->result = s3c_tx_put(tx, 1, c->id, i, value, sizeof(value));
		if (c->result == 0)
			c->result = s3c_tx_put(tx, 2, c->id, i, value, sizeof(value));
		c->result = s3c_tx_commit(tx, S3C_TX_SYNC);
		if (c->result == 0)
			c->result = s3c_record_get(c->journal, 2, c->id, i, got, sizeof(got), &len);
		if (c->result == 0 && memcmp(got, value, sizeof(got)))
			c->result = -EILSEQ;
		s3c_journal_generation_note(c->journal, "key", i, false);
	}
	return NULL;
}

static void test_group_commit(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	struct committer c[COMMITTERS];
	struct s3c_record_stats stats;
	uint8_t id[S3C_VOLUME_ID_LEN] = { 0 };

	for (unsigned i = 0; i < COMMITTERS; i++) {
		c[i] = (struct committer){ .journal = journal, .id = i };
		assert_int_equal(pthread_create(&c[i].thread, NULL, commit_many, &c[i]), 0);
	}
	for (uint64_t i = 0; i < 10; i++) /* guests get their turn */
		assert_int_equal(s3c_journal_pin_set(journal, "source", id, i), 0);
	for (unsigned i = 0; i < COMMITTERS; i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].result, 0);
	}
	s3c_record_stats(journal, &stats);
	assert_amount(journal, 2 * COMMITTERS * COMMITS, 32 * COMMITTERS * COMMITS);
	assert_true(stats.commits < COMMITTERS * COMMITS / 2);
	assert_true(stats.syncs < COMMITTERS * COMMITS / 2);
	s3c_journal_close(journal);
}

struct endless {
	struct s3c_journal *journal;
	bool stop;
};

static void *commit_always(void *arg)
{
	struct endless *e = arg;
	struct s3c_tx *tx;

	while (!__atomic_load_n(&e->stop, __ATOMIC_RELAXED) && s3c_tx_new(e->journal, &tx) == 0 &&
	       s3c_tx_put(tx, 1, 1, 1, "x", 1) == 0)
		s3c_tx_commit(tx, S3C_TX_LAZY);
	return NULL;
}

/* A thread that commits all the time leaves room for the rest: notes, in their time, and pins. */
static void test_fairness(void **state)
{
	struct fixture *f = *state;
	struct endless e = { .journal = open_journal(f) };
	const uint8_t id[S3C_VOLUME_ID_LEN] = { 1 };
	struct s3c_journal *reader = NULL;
	uint64_t generation = 0;
	pthread_t thread;
	bool deleted;

	assert_int_equal(pthread_create(&thread, NULL, commit_always, &e), 0);
	s3c_journal_generation_note(e.journal, "late", 5, false);
	assert_int_equal(s3c_journal_open_readonly(f->state, NULL, &reader), 0);
	for (unsigned i = 0; i < 100 && generation == 0; i++) {
		usleep(50000);
		s3c_journal_generation_get(reader, "late", &generation, &deleted);
	}
	assert_int_equal(generation, 5);
	s3c_journal_generation_note(e.journal, "now", 6, false);
	assert_int_equal(s3c_journal_flush(e.journal), 0);
	assert_int_equal(s3c_journal_generation_get(reader, "now", &generation, &deleted), 0);
	assert_int_equal(s3c_journal_pin_set(e.journal, "source", id, 1), 0);
	assert_int_equal(s3c_journal_sync(e.journal), 0);
	__atomic_store_n(&e.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	s3c_journal_close(reader);
	s3c_journal_close(e.journal);
}

static void wipe_records(struct fixture *f)
{
	struct s3c_journal *journal = open_journal(f);
	struct s3c_tx *tx = new_tx(journal);

	for (uint32_t kind = 0; kind < 5; kind++)
		for (uint64_t id = 0; id < 5; id++)
			assert_int_equal(s3c_tx_delete_from(tx, kind, id, 0), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	assert_amount(journal, 0, 0);
	s3c_journal_close(journal);
}

static void assert_rejected(struct fixture *f, enum s3c_journal_key how, const uint8_t *key,
			    const char *words)
{
	struct s3c_journal *journal = NULL;
	struct s3c_err err = { 0 };
	struct s3c_tx *tx;

	assert_int_equal(s3c_journal_open(f->state, NULL, &journal), 0);
	assert_int_equal(s3c_journal_unlock(journal, how, key, PLENTY, &err), -EKEYREJECTED);
	if (!strstr(err.text, words))
		fail_msg("'%s' lacks '%s'", err.text, words);
	assert_int_equal(s3c_tx_new(journal, &tx), -ENOKEY);
	s3c_journal_close(journal);
}

static void test_wrong_key(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	char path[96], away[96];
	struct stat st;

	assert_int_equal(put(journal, 1, 1, 1, "mine", 4), 0);
	s3c_journal_close(journal);
	assert_rejected(f, S3C_JOURNAL_KEY_WRAPPED, other_key, "holds 1 records");
	assert_rejected(f, S3C_JOURNAL_KEY_FILE, NULL, "another key");
	journal = open_journal(f);
	assert_record(journal, 1, 1, 1, "mine", 4);
	s3c_journal_close(journal);

	/* Where nothing depends on the key, there is a new one. */
	wipe_records(f);
	journal = open_with(f, S3C_JOURNAL_KEY_WRAPPED, other_key, PLENTY);
	assert_int_equal(put(journal, 1, 1, 1, "yours", 5), 0);
	s3c_journal_close(journal);
	assert_rejected(f, S3C_JOURNAL_KEY_WRAPPED, wrap_key, "another key");
	journal = open_with(f, S3C_JOURNAL_KEY_WRAPPED, other_key, PLENTY);
	assert_record(journal, 1, 1, 1, "yours", 5);
	s3c_journal_close(journal);
	journal = NULL;

	/* The same with a key file. */
	snprintf(path, sizeof(path), "%s/journal.db", f->state);
	unlink(path);
	journal = open_with(f, S3C_JOURNAL_KEY_FILE, NULL, PLENTY);
	snprintf(path, sizeof(path), "%s/journal.key", f->state);
	snprintf(away, sizeof(away), "%s/away", f->state);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, S3C_KEY_LEN);
	assert_int_equal(put(journal, 1, 1, 1, "file", 4), 0);
	s3c_journal_close(journal);
	journal = open_with(f, S3C_JOURNAL_KEY_FILE, NULL, PLENTY);
	assert_record(journal, 1, 1, 1, "file", 4);
	s3c_journal_close(journal);
	assert_rejected(f, S3C_JOURNAL_KEY_WRAPPED, wrap_key, "another key");
	assert_int_equal(rename(path, away), 0);
	assert_rejected(f, S3C_JOURNAL_KEY_FILE, NULL, "missing or not theirs");
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(rename(away, path), 0);
	journal = open_with(f, S3C_JOURNAL_KEY_FILE, NULL, PLENTY);
	assert_record(journal, 1, 1, 1, "file", 4);
	s3c_journal_close(journal);
}

static void sql(struct fixture *f, const char *text)
{
	char path[96];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/journal.db", f->state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_damage(void **state)
{
	static const char *const harm[] = {
		"UPDATE record SET value = zeroblob(length(value))",
		"UPDATE record SET value = substr(value, 1, length(value) - 1)",
		"UPDATE record SET len = len - 1",
		"UPDATE record SET len = -1",
		"UPDATE record SET len = 5000000000",
		"UPDATE record SET value = zeroblob(0), len = -24",
		"UPDATE record SET kind = 4",
		"UPDATE record SET id = id + 1",
		"UPDATE record SET sub = sub - 1",
		"UPDATE record SET session = session + 7",
		"UPDATE session SET salt = zeroblob(32)",
	};
	struct fixture *f = *state;
	char got[64];
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(harm); i++) {
		struct s3c_journal *journal = open_journal(f);
		struct seen seen = { .most = 100 };
		uint32_t kind = strstr(harm[i], "kind") ? 4 : 3;
		uint64_t id = strstr(harm[i], " id") ? 2 : 1, sub = strstr(harm[i], "sub ") ? 1 : 2;

		assert_int_equal(put(journal, 3, 1, 2, "value", 5), 0);
		s3c_journal_close(journal);
		sql(f, harm[i]);
		journal = open_journal(f);
		s3c_log_open("/dev/null");
		assert_int_equal(s3c_record_get(journal, kind, id, sub, got, sizeof(got), &len),
				 -EBADMSG);
		assert_int_equal(s3c_record_each(journal, kind, see, &seen), 0);
		s3c_log_close();
		assert_int_equal(seen.count, 1);
		assert_int_equal(seen.result[0], -EBADMSG);
		s3c_journal_close(journal);
		wipe_records(f);
		sql(f, "DELETE FROM record");
	}
}

static void count_result(void *arg, int result)
{
	unsigned *counts = arg;

	counts[result == 0 ? 0 : result == -ENOSPC ? 1 : 2]++;
}

static void *free_some(void *arg)
{
	struct s3c_journal *journal = arg;
	struct s3c_tx *tx;

	usleep(50000);
	if (s3c_tx_new(journal, &tx) == 0 && s3c_tx_delete_from(tx, 1, 1, 5) == 0)
		s3c_tx_commit(tx, S3C_TX_LAZY);
	return NULL;
}

static void test_limit(void **state)
{
	static const uint8_t data[1000];
	struct fixture *f = *state;
	struct s3c_journal *journal = open_with(f, S3C_JOURNAL_KEY_WRAPPED, wrap_key, 10000);
	struct s3c_record_stats stats;
	unsigned counts[3] = { 0 };
	struct s3c_tx *tx;
	struct s3c_op op;
	pthread_t thread;

	/* What is queued counts, whether the writer got to it or not. */
	for (unsigned i = 0; i < 15; i++) {
		tx = new_tx(journal);
		assert_int_equal(s3c_tx_put(tx, 1, 1, i, data, sizeof(data)), 0);
		s3c_tx_submit(tx, S3C_TX_LAZY, count_result, counts);
	}
	assert_int_equal(s3c_journal_sync(journal), 0);
	assert_int_equal(counts[0], 10);
	assert_int_equal(counts[1], 5);
	assert_int_equal(counts[2], 0);
	assert_amount(journal, 10, 10000);
	s3c_record_stats(journal, &stats);
	assert_int_equal(stats.limit, 10000);
	assert_int_equal(put(journal, 1, 2, 0, data, 1), -ENOSPC);
	s3c_record_stats(journal, &stats);
	assert_int_equal(stats.last_error, -ENOSPC);

	/* What the backlog needs to go down. */
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_put(tx, 2, 1, 1, data, 100), 0);
	s3c_tx_vital(tx);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	assert_amount(journal, 11, 10100);

	assert_int_equal(s3c_record_room(journal, NULL, 10001), -ENOSPC);
	s3c_op_init(&op, s3c_clock_monotonic_ns() + 20 * S3C_NSEC_PER_MSEC);
	assert_int_equal(s3c_record_room(journal, &op, 1000), -ETIMEDOUT);
	s3c_op_destroy(&op);
	s3c_op_init(&op, INT64_MAX);
	s3c_op_interrupt(&op);
	assert_int_equal(s3c_record_room(journal, &op, 1000), -EINTR);
	s3c_op_destroy(&op);
	assert_int_equal(pthread_create(&thread, NULL, free_some, journal), 0);
	assert_int_equal(s3c_record_room(journal, NULL, 1000), 0);
	pthread_join(thread, NULL);
	assert_amount(journal, 6, 5100);
	assert_int_equal(put(journal, 1, 2, 0, data, 1000), 0);
	s3c_journal_close(journal);
}

/* A child commits transactions of two records each and says so, until it is killed. */
static void commit_until_killed(struct fixture *f, int fd, unsigned first, bool threads)
{
	struct s3c_journal *journal;
	uint8_t data[6000];

	memset(data, 0x5a, sizeof(data));
	if (s3c_journal_open(f->state, NULL, &journal) < 0 ||
	    s3c_journal_unlock(journal, S3C_JOURNAL_KEY_WRAPPED, wrap_key, PLENTY, NULL) < 0)
		_exit(1);
	for (unsigned i = first;; i++) {
		struct s3c_tx *tx;

		for (unsigned k = 0; k < (threads ? 5 : 0); k++, i++) { /* what nobody waits for */
			if (s3c_tx_new(journal, &tx) < 0 ||
			    s3c_tx_put(tx, 1, 1, i, &i, sizeof(i)) < 0 ||
			    s3c_tx_put(tx, 2, 1, i, data, i % sizeof(data)) < 0)
				_exit(1);
			s3c_tx_submit(tx, S3C_TX_LAZY, NULL, NULL);
		}
		if (s3c_tx_new(journal, &tx) < 0 || s3c_tx_put(tx, 1, 1, i, &i, sizeof(i)) < 0 ||
		    s3c_tx_put(tx, 2, 1, i, data, i % sizeof(data)) < 0 ||
		    s3c_tx_commit(tx, i % 2 ? S3C_TX_SYNC : S3C_TX_LAZY) < 0 ||
		    write(fd, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

struct prefix {
	unsigned next[2];
	unsigned kind;
};

static int is_next(void *arg, uint64_t sub, size_t len)
{
	struct prefix *prefix = arg;

	assert_int_equal(sub, prefix->next[prefix->kind - 1]++);
	assert_int_equal(len, prefix->kind == 1 ? sizeof(unsigned) : sub % 6000);
	return 0;
}

static void test_kill(void **state)
{
	struct fixture *f = *state;
	unsigned first = 0, acknowledged, kills = 0;

	for (unsigned run = 0; run < 50; run++) {
		struct s3c_journal *journal;
		struct prefix prefix = { 0 };
		int fds[2], status;
		bool any = false;
		ssize_t n;
		pid_t pid;

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			commit_until_killed(f, fds[1], first, run % 2);
		close(fds[1]);
		acknowledged = 0;
		/* Killed some time after the first answer, often within a commit. */
		n = read(fds[0], &acknowledged, sizeof(acknowledged));
		assert_int_equal(n, sizeof(acknowledged));
		usleep((useconds_t)(random() % 15000));
		kill(pid, SIGKILL);
		while ((n = read(fds[0], &acknowledged, sizeof(acknowledged))) ==
		       sizeof(acknowledged))
			any = true;
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		kills += any;

		journal = open_journal(f);
		for (prefix.kind = 1; prefix.kind <= 2; prefix.kind++)
			assert_int_equal(s3c_record_subs(journal, prefix.kind, 1, is_next, &prefix),
					 0);
		assert_int_equal(prefix.next[0], prefix.next[1]);
		assert_true(prefix.next[0] > acknowledged);
		first = prefix.next[0];
		assert_record(journal, 1, 1, first - 1, &(unsigned){ first - 1 }, 4);
		s3c_journal_close(journal);
	}
	assert_true(kills > 10); /* else they came too early to prove anything */
}

static bool file_has(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *data;
	bool has;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	data = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	has = memmem(data, (size_t)st.st_size, text, strlen(text));
	free(data);
	return has;
}

static void test_no_plaintext(void **state)
{
	static const char text[] = "a rather conspicuous sentence that nobody else writes";
	struct fixture *f = *state;
	struct s3c_journal *journal = open_with(f, S3C_JOURNAL_KEY_FILE, NULL, PLENTY);
	char db[96], wal[104], big[20000];

	for (size_t i = 0; i + sizeof(text) < sizeof(big); i += sizeof(text))
		memcpy(big + i, text, sizeof(text));
	assert_int_equal(put(journal, 1, 1, 1, text, sizeof(text)), 0);
	assert_int_equal(put(journal, 1, 1, 2, big, sizeof(big)), 0);
	snprintf(db, sizeof(db), "%s/journal.db", f->state);
	snprintf(wal, sizeof(wal), "%s-wal", db);
	assert_true(file_has(wal, "SQLite format"));
	assert_false(file_has(wal, "conspicuous"));
	s3c_journal_close(journal);
	assert_true(file_has(db, "SQLite format"));
	assert_false(file_has(db, "conspicuous"));
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f), *reader = NULL;
	struct seen seen = { .most = 100 };
	struct committer c = { .journal = journal, .id = 50 };
	uint64_t records, bytes;
	struct s3c_err err = { 0 };
	struct s3c_tx *tx;

	assert_int_equal(put(journal, 3, 1, 2, "value", 5), 0);
	assert_int_equal(pthread_create(&c.thread, NULL, commit_many, &c), 0);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(s3c_journal_open_readonly(f->state, &err, &reader), 0);
		assert_int_equal(s3c_journal_pending(reader, &records, &bytes), 0);
		assert_true(records >= 1 && bytes >= 5);
		assert_int_equal(
			s3c_journal_unlock(reader, S3C_JOURNAL_KEY_WRAPPED, other_key, 0, NULL),
			-EKEYREJECTED);
		assert_int_equal(
			s3c_journal_unlock(reader, S3C_JOURNAL_KEY_WRAPPED, wrap_key, 0, &err), 0);
		assert_record(reader, 3, 1, 2, "value", 5);
		seen.count = 0;
		assert_int_equal(s3c_record_each(reader, 3, see, &seen), 0);
		assert_int_equal(seen.count, 1);
		assert_int_equal(s3c_tx_new(reader, &tx), -EROFS);
		assert_int_equal(s3c_journal_sync(reader), 0);
		if (i < 4)
			s3c_journal_close(reader);
	}
	pthread_join(c.thread, NULL);
	assert_int_equal(c.result, 0);
	assert_record(reader, 1, 50, COMMITS - 1, &(uint64_t[]){ 50, COMMITS - 1 }, 16);
	s3c_journal_close(reader);
	s3c_journal_close(journal);

	/* Of nothing. */
	assert_int_equal(s3c_journal_open_readonly("/nonexistent/state", NULL, &reader), 0);
	assert_int_equal(s3c_journal_pending(reader, &records, &bytes), 0);
	assert_int_equal(records, 0);
	assert_int_equal(s3c_journal_unlock(reader, S3C_JOURNAL_KEY_FILE, NULL, 0, NULL), 0);
	assert_none(reader, 1, 1, 1);
	assert_int_equal(s3c_record_each(reader, 3, see, &seen), 0);
	s3c_journal_close(reader);
}

static off_t file_size(struct fixture *f, const char *name)
{
	char path[96];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", f->state, name);
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

/* What was deleted is used again, and given back when nothing is left. */
static void test_space(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal = open_journal(f);
	uint8_t *data = calloc(1, MIB);
	struct s3c_tx *tx;
	off_t size = 0;

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(put(journal, 1, round, i, data, MIB), 0);
		if (round) {
			tx = new_tx(journal);
			assert_int_equal(s3c_tx_delete_from(tx, 1, round - 1, 0), 0);
			assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
		}
		if (round == 1)
			size = file_size(f, "journal.db");
	}
	assert_true(size > 16 * (off_t)MIB);
	assert_true(file_size(f, "journal.db") < size + 18 * (off_t)MIB);
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_delete_from(tx, 1, 3, 0), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_LAZY), 0);
	for (unsigned i = 0; i < 100 && file_size(f, "journal.db") > 2 * (off_t)MIB; i++)
		usleep(100000);
	assert_true(file_size(f, "journal.db") <= 2 * (off_t)MIB);
	assert_true(file_size(f, "journal.db-wal") <= 20 * (off_t)MIB);
	s3c_journal_close(journal);
	free(data);
}

/* A small file system of its own; root only. */
static bool mount_small(struct fixture *f, const char *size)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mkdir(f->state, 0700) < 0)
		return false;
	return mount("none", f->state, "tmpfs", 0, size) == 0;
}

/* Takes all that is left. */
static void fill(struct fixture *f)
{
	static const uint8_t data[4096];
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/other", f->state);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (write(fd, data, sizeof(data)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal;
	struct s3c_record_stats stats;
	uint8_t *data = calloc(1, MIB);
	char path[96];
	unsigned had = 0, counts[3] = { 0 };
	struct s3c_tx *tx;
	int r = 0;

	if (!mount_small(f, "size=64m")) {
		free(data);
		skip();
	}
	s3c_log_open("/dev/null");
	journal = open_journal(f);
	assert_int_equal(file_size(f, "journal.reserve"), 8 * MIB);
	while (had < 100 && (r = put(journal, 1, 1, had, data, MIB / 4)) == 0)
		had++;
	assert_true(r == 0 && had == 100);
	fill(f);

	/* Puts come to their end, one by one and given together; small ones may still find room. */
	for (unsigned i = 0; i < 40; i++) {
		tx = new_tx(journal);
		assert_int_equal(s3c_tx_put(tx, 2, 1, i, data, MIB / 4), 0);
		s3c_tx_submit(tx, S3C_TX_LAZY, count_result, counts);
	}
	r = s3c_journal_sync(journal);
	assert_true(r == 0 || r == -ENOSPC);
	assert_true(counts[1] > 0);
	assert_int_equal(counts[2], 0);
	s3c_record_stats(journal, &stats);
	assert_int_equal(stats.records, had + counts[0]);
	assert_int_equal(stats.bytes, (had + counts[0]) * (uint64_t)(MIB / 4));
	fill(f);

	/* Deletes always get through. */
	for (unsigned i = 0; i < had; i++) {
		tx = new_tx(journal);
		assert_int_equal(s3c_tx_delete(tx, 1, 1, i), 0);
		assert_int_equal(s3c_tx_commit(tx, i % 2 ? S3C_TX_SYNC : S3C_TX_LAZY), 0);
		assert_none(journal, 1, 1, i);
	}
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_delete_from(tx, 2, 1, 0), 0);
	assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	assert_amount(journal, 0, 0);

	/* With room on the disk everything is as before. */
	snprintf(path, sizeof(path), "%s/other", f->state);
	assert_int_equal(unlink(path), 0);
	for (unsigned i = 0; i < 100 && put(journal, 1, 1, 0, "x", 1) < 0; i++)
		usleep(100000);
	assert_record(journal, 1, 1, 0, "x", 1);
	for (unsigned i = 0; i < 100 && s3c_record_room(journal, NULL, 1) < 0; i++)
		usleep(100000);
	assert_int_equal(put(journal, 1, 1, 1, data, MIB), 0);
	assert_int_equal(file_size(f, "journal.reserve"), 8 * MIB);
	s3c_journal_close(journal);
	journal = open_journal(f);
	assert_amount(journal, 2, MIB + 1);
	s3c_journal_close(journal);
	s3c_log_close();
	free(data);
}

/* One transaction of mib MiB, as the engine's for a large file. */
static struct s3c_tx *large_tx(struct s3c_journal *journal, uint64_t id, unsigned mib)
{
	static const uint8_t data[MIB / 16];
	struct s3c_tx *tx = new_tx(journal);

	for (unsigned i = 0; i < 16 * mib; i++)
		assert_int_equal(s3c_tx_put(tx, 2, id, i, data, sizeof(data)), 0);
	return tx;
}

static struct s3c_tx *delete_tx(struct s3c_journal *journal, uint64_t id)
{
	struct s3c_tx *tx = new_tx(journal);

	assert_int_equal(s3c_tx_delete_from(tx, 2, id, 0), 0);
	return tx;
}

/* Transactions that are large for the disk: what is accepted leaves the database room to grow. */
static void test_small_disk(void **state)
{
	static const char *const sizes[] = { "size=24m", "size=40m" };
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		struct s3c_journal *journal;
		unsigned accepted = 0;
		char path[96];

		if (i)
			assert_int_equal(umount2(f->state, 0) + rmdir(f->state), 0);
		if (!mount_small(f, sizes[i]))
			skip();
		s3c_log_open("/dev/null");
		journal = open_journal(f);
		alarm(60); /* it must not hang */
		for (uint64_t id = 0; id < 12; id++) {
			unsigned mib = id % 3 == 2 ? 1 : 8 - (unsigned)(id % 3);
			int r = s3c_tx_commit(large_tx(journal, id, mib),
					      id % 2 ? S3C_TX_SYNC : S3C_TX_LAZY);

			assert_true(r == 0 || r == -ENOSPC);
			accepted += r == 0;
			assert_int_equal(s3c_journal_sync(journal), 0);
		}
		assert_true(accepted > 0);
		fill(f);
		assert_int_equal(s3c_tx_commit(large_tx(journal, 100, 8), S3C_TX_SYNC), -ENOSPC);
		/* A sync fails, too. */
		__atomic_store_n(&syncs_fail, true, __ATOMIC_RELAXED);
		assert_int_equal(s3c_tx_commit(delete_tx(journal, 0), S3C_TX_SYNC), -EIO);
		assert_int_equal(s3c_tx_commit(delete_tx(journal, 0), S3C_TX_SYNC), -EIO);
		__atomic_store_n(&syncs_fail, false, __ATOMIC_RELAXED);
		for (uint64_t id = 0; id < 12; id++)
			assert_int_equal(s3c_tx_commit(delete_tx(journal, id), S3C_TX_SYNC), 0);
		assert_amount(journal, 0, 0);
		snprintf(path, sizeof(path), "%s/other", f->state);
		assert_int_equal(unlink(path), 0);
		for (unsigned n = 0; n < 100 && s3c_record_room(journal, NULL, 1) < 0; n++)
			usleep(100000);
		assert_int_equal(s3c_tx_commit(large_tx(journal, 1, 1), S3C_TX_SYNC), 0);
		s3c_journal_close(journal);
		alarm(0);
		s3c_log_close();
	}
}

/*
 * Somebody else takes the reserve's blocks as well: nothing can be written, deletes neither. They
 * wait, but nobody who asks for a sync or a put waits behind them.
 */
static void test_stuck(void **state)
{
	struct fixture *f = *state;
	static const uint8_t data[MIB / 2];
	struct s3c_journal *journal;
	unsigned counts[3] = { 0 }, puts[3] = { 0 };
	struct s3c_tx *tx;
	char path[96];

	if (!mount_small(f, "size=24m"))
		skip();
	s3c_log_open("/dev/null");
	alarm(60);
	journal = open_journal(f);
	assert_int_equal(put(journal, 1, 1, 1, "a", 1), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(put(journal, 2, 1, i, "b", 1), 0);
	/* In the WAL, and the database has no room for it any more. */
	assert_int_equal(put(journal, 1, 1, 2, data, MIB / 2), 0);
	snprintf(path, sizeof(path), "%s/journal.reserve", f->state);
	assert_int_equal(unlink(path), 0);
	fill(f);
	tx = new_tx(journal);
	assert_int_equal(s3c_tx_delete_from(tx, 2, 1, 0), 0);
	s3c_tx_submit(tx, S3C_TX_LAZY, count_result, counts);
	for (unsigned i = 0; i < 10; i++) {
		tx = new_tx(journal);
		assert_int_equal(s3c_tx_put(tx, 2, 3, i, "c", 1), 0);
		s3c_tx_submit(tx, S3C_TX_LAZY, count_result, puts);
	}
	assert_int_equal(s3c_journal_sync(journal), -ENOSPC);
	assert_int_equal(puts[1], 10);
	assert_int_equal(counts[0] + counts[1] + counts[2], 0);
	assert_int_equal(put(journal, 2, 3, 1, "c", 1), -ENOSPC);

	snprintf(path, sizeof(path), "%s/other", f->state);
	assert_int_equal(unlink(path), 0);
	for (unsigned i = 0; i < 100 && put(journal, 2, 3, 1, "c", 1) < 0; i++)
		usleep(100000);
	assert_int_equal(counts[0], 1);
	assert_none(journal, 2, 1, 0);
	assert_record(journal, 1, 1, 1, "a", 1);
	assert_record(journal, 2, 3, 1, "c", 1);
	s3c_journal_close(journal);
	alarm(0);
	s3c_log_close();
}

/* A database of the first schema becomes one of this, and one that shrinks. */
static void test_migration(void **state)
{
	struct fixture *f = *state;
	struct s3c_journal *journal;
	uint8_t id[S3C_VOLUME_ID_LEN];
	uint64_t serial = 0;
	char path[96];
	sqlite3_stmt *stmt;
	sqlite3 *db;

	assert_int_equal(mkdir(f->state, 0700), 0);
	sql(f, "PRAGMA journal_mode = WAL;"
	       "CREATE TABLE pin (source TEXT PRIMARY KEY,"
	       " volume_id BLOB NOT NULL CHECK (length(volume_id) = 16),"
	       " serial INTEGER NOT NULL) WITHOUT ROWID;"
	       "CREATE TABLE caps (source TEXT NOT NULL, mode TEXT NOT NULL,"
	       " checked_at INTEGER NOT NULL, bits INTEGER NOT NULL,"
	       " PRIMARY KEY (source, mode)) WITHOUT ROWID;"
	       "CREATE TABLE generation (source TEXT NOT NULL, key TEXT NOT NULL,"
	       " generation BLOB NOT NULL CHECK (length(generation) = 8),"
	       " deleted INTEGER NOT NULL, PRIMARY KEY (source, key)) WITHOUT ROWID;"
	       "INSERT INTO pin VALUES ('s', zeroblob(16), 42);"
	       "PRAGMA application_id = 1932747622; PRAGMA user_version = 1");
	journal = open_journal(f);
	assert_int_equal(s3c_journal_pin_get(journal, "s", id, &serial), 0);
	assert_int_equal(serial, 42);
	assert_int_equal(put(journal, 1, 1, 1, "new", 3), 0);
	s3c_journal_close(journal);
	snprintf(path, sizeof(path), "%s/journal.db", f->state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA auto_vacuum", -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	assert_int_equal(sqlite3_column_int(stmt, 0), 2);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace_and_delete, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_syncs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_group_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fairness, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_plaintext, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readonly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_migration, setup, teardown),
		/* Last: their mounts. */
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stuck, setup, teardown),
	};

	if (s3c_secret_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
