/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * usage: journal_bench [FOLDER [SECONDS [ROUNDS]]]
 *
 * Durable commits per second on the disk of FOLDER (default: the current one): SQLite's own (a row
 * of 4 KiB, synchronous=FULL, one connection), with the rollback journal that is its default and
 * with a WAL, which asks the disk once where the other asks it several times; and the journal's
 * (a synced transaction of two records, 200 bytes and 4 KiB) from 1 and from 16 threads. They take
 * turns, so that a disk that is busy or cold at times is so for all; the medians of the rounds are
 * compared.
 *
 * With 0 ROUNDS only SQLite's own, once each.
 *
 * Then what chunks of 64 KiB put through, given without waiting, and how long a synced transaction
 * beside them takes at most.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/records.h"

#define THREADS 16
#define ROUNDS_MAX 99
#define LIMIT (64ull << 30)
#define STREAM 4096 /* chunks */

static const char *folder = ".";
static double seconds = 1;
static unsigned rounds = 5;
static uint8_t large[65536];

static void die(const char *what)
{
	fprintf(stderr, "journal_bench: %s\n", what);
	exit(1);
}

static char *make_dir(void)
{
	char *dir = s3c_asprintf("%s/journal-bench-XXXXXX", folder);

	if (!dir || !mkdtemp(dir))
		die("the folder cannot be written");
	return dir;
}

static void remove_dir(char *dir)
{
	cleanup_free char *command = s3c_asprintf("rm -rf '%s'", dir);

	if (!command || system(command) != 0)
		die("cannot clean up");
	free(dir);
}

struct plain {
	char *dir;
	sqlite3 *db;
	sqlite3_stmt *insert;
};

static void plain_open(struct plain *plain, const char *journal_mode)
{
	cleanup_free char *path = NULL, *setup = NULL;

	plain->dir = make_dir();
	path = s3c_asprintf("%s/plain.db", plain->dir);
	setup = s3c_asprintf("PRAGMA journal_mode = %s; PRAGMA synchronous = FULL;"
			     "CREATE TABLE t (id INTEGER PRIMARY KEY, value BLOB)",
			     journal_mode);
	if (!path || !setup || sqlite3_open(path, &plain->db) != SQLITE_OK ||
	    sqlite3_exec(plain->db, setup, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(plain->db, "INSERT INTO t (value) VALUES (?)", -1, &plain->insert,
			       NULL) != SQLITE_OK)
		die("SQLite cannot be opened");
}

static double plain_run(struct plain *plain)
{
	int64_t start = s3c_clock_monotonic_ns(), now = start;
	unsigned count = 0;

	while (now - start < (int64_t)(seconds * 1e9)) {
		sqlite3_bind_blob(plain->insert, 1, large, 4096, SQLITE_STATIC);
		if (sqlite3_step(plain->insert) != SQLITE_DONE)
			die("SQLite cannot write");
		sqlite3_reset(plain->insert);
		count++;
		now = s3c_clock_monotonic_ns();
	}
	return count / ((double)(now - start) / 1e9);
}

static void plain_close(struct plain *plain)
{
	sqlite3_finalize(plain->insert);
	sqlite3_close(plain->db);
	remove_dir(plain->dir);
}

struct committer {
	pthread_t thread;
	struct s3c_journal *journal;
	uint64_t id, count;
	int64_t start;
};

static void *commit_for_a_while(void *arg)
{
	struct committer *c = arg;

	while (s3c_clock_monotonic_ns() - c->start < (int64_t)(seconds * 1e9)) {
		struct s3c_tx *tx;

		if (s3c_tx_new(c->journal, &tx) < 0 ||
		    s3c_tx_put(tx, 1, c->id, c->count, large, 200) < 0 ||
		    s3c_tx_put(tx, 2, c->id, c->count, large, 4096) < 0 ||
		    s3c_tx_commit(tx, S3C_TX_SYNC) < 0)
			die("the journal cannot write");
		c->count++;
	}
	return NULL;
}

static double journal_run(struct s3c_journal *journal, unsigned threads, double *ret_group)
{
	static uint64_t next_id = 1;
	struct committer c[THREADS] = { 0 };
	struct s3c_record_stats before, after;
	int64_t start = s3c_clock_monotonic_ns();
	uint64_t count = 0;

	s3c_record_stats(journal, &before);
	for (unsigned i = 0; i < threads; i++) {
		c[i] = (struct committer){ .journal = journal, .id = next_id++, .start = start };
		if (pthread_create(&c[i].thread, NULL, commit_for_a_while, &c[i]))
			die("no thread");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(c[i].thread, NULL);
		count += c[i].count;
	}
	s3c_record_stats(journal, &after);
	*ret_group = (double)count / (double)(after.syncs - before.syncs);
	return (double)count / ((double)(s3c_clock_monotonic_ns() - start) / 1e9);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values)
{
	qsort(values, rounds, sizeof(*values), by_size);
	return values[rounds / 2];
}

static void count_done(void *arg, int result)
{
	if (result < 0)
		die("a chunk was refused");
	__atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_RELAXED);
}

static void stream_chunks(struct s3c_journal *journal)
{
	unsigned given = 0, done = 0;
	int64_t start = s3c_clock_monotonic_ns(), longest = 0;

	while (given < STREAM) {
		struct s3c_tx *tx;
		int64_t at;

		/* Some are queued at all times, as many as a writer that is throttled has. */
		while (given < STREAM && given - __atomic_load_n(&done, __ATOMIC_RELAXED) < 128) {
			if (s3c_tx_new(journal, &tx) < 0 ||
			    s3c_tx_put(tx, 3, 1, given++, large, sizeof(large)) < 0)
				die("no memory");
			s3c_tx_submit(tx, S3C_TX_LAZY, count_done, &done);
		}
		if (s3c_tx_new(journal, &tx) < 0 || s3c_tx_put(tx, 1, 0, 0, large, 200) < 0)
			die("no memory");
		at = s3c_clock_monotonic_ns();
		if (s3c_tx_commit(tx, S3C_TX_SYNC) < 0)
			die("the journal cannot write");
		longest = S3C_MAX(longest, s3c_clock_monotonic_ns() - at);
	}
	if (s3c_journal_sync(journal) < 0)
		die("the journal cannot sync");
	printf("chunks of 64 KiB: %.0f MiB/s; a synced transaction behind up to 8 MiB of them: "
	       "%.1f ms at most\n",
	       STREAM / 16 / ((double)(s3c_clock_monotonic_ns() - start) / 1e9),
	       (double)longest / 1e6);
}

static void tell_plain(double rollback, double wal)
{
	printf("SQLite, rollback journal: %8.0f/s\n", rollback);
	printf("SQLite, WAL:              %8.0f/s\n", wal);
}

int main(int argc, char **argv)
{
	static double rollback_rate[ROUNDS_MAX], wal_rate[ROUNDS_MAX], one_rate[ROUNDS_MAX],
		many_rate[ROUNDS_MAX];
	const uint8_t wrap_key[S3C_KEY_LEN] = { 1 };
	double group = 0, base, wal_base, one, many;
	struct plain rollback, wal;
	struct s3c_journal *journal;
	struct s3c_err err = { 0 };
	char *dir;

	if (argc > 1)
		folder = argv[1];
	if (argc > 2)
		seconds = atof(argv[2]);
	if (argc > 3)
		rounds = (unsigned)atoi(argv[3]);
	if (rounds > ROUNDS_MAX || seconds <= 0)
		die("usage: journal_bench [FOLDER [SECONDS [ROUNDS]]]");
	s3c_random(large, sizeof(large));
	if (s3c_secret_init() < 0)
		die("no secret memory");
	plain_open(&rollback, "DELETE");
	plain_open(&wal, "WAL");
	if (!rounds) {
		tell_plain(plain_run(&rollback), plain_run(&wal));
		plain_close(&rollback);
		plain_close(&wal);
		return 0;
	}
	dir = make_dir();
	if (s3c_journal_open(dir, &err, &journal) < 0 ||
	    s3c_journal_unlock(journal, S3C_JOURNAL_KEY_WRAPPED, wrap_key, LIMIT, &err) < 0)
		die(err.text);

	for (unsigned i = 0; i < rounds; i++) {
		double unused;

		rollback_rate[i] = plain_run(&rollback);
		wal_rate[i] = plain_run(&wal);
		one_rate[i] = journal_run(journal, 1, &unused);
		many_rate[i] = journal_run(journal, THREADS, &group);
	}
	base = median(rollback_rate);
	wal_base = median(wal_rate);
	one = median(one_rate);
	many = median(many_rate);
	tell_plain(base, wal_base);
	printf("journal, 1 thread:        %8.0f/s  ratio %.2f (wanted: 0.85), to a WAL %.2f\n", one,
	       one / base, one / wal_base);
	printf("journal, %d threads:      %8.0f/s  ratio %.2f (wanted: 4), to a WAL %.2f, %.1f a "
	       "sync\n",
	       THREADS, many, many / base, many / wal_base, group);
	stream_chunks(journal);
	s3c_journal_close(journal);
	plain_close(&rollback);
	plain_close(&wal);
	remove_dir(dir);
	return one / base >= 0.85 && many / base >= 4 ? 0 : 1;
}
