/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The thread that writes. One turn: what readers touched, room for a batch, the batch. It sleeps
 * until there is a batch, a small queue is due, or what failed is tried again.
 */
#include "db/cache_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"

#define WRITER_NICE 10
#define REST_FROM 4  /* it waited for a fourth of the turn */
#define REST_TIMES 6 /* as long as a turn that had to wait; doubles with each one in a row */
#define REST_MAX_NS (2 * S3C_NSEC_PER_SEC)
#define REST_LOOK_NS (100 * S3C_NSEC_PER_MSEC) /* how often it looks whether to go on resting */

/* The run that consecutive chunks go to; its row is written once for all of them. */
struct open_run {
	uint8_t content[S3C_CACHE_KEYED];
	uint64_t place;
	int64_t id; /* 0: none is open */
	uint32_t have;
	bool changed;
};

int s3c_cache_commit(struct s3c_cache *cache)
{
	sqlite3_stmt *save = s3c_cache_stmt(cache, S3C_CACHE_SAVE);
	uint64_t epoch = __atomic_load_n(&cache->epoch, __ATOMIC_RELAXED);
	int rc;

	sqlite3_bind_int64(save, 1, cache->tick);
	sqlite3_bind_int64(save, 2, (int64_t)epoch);
	sqlite3_bind_int64(save, 3, (int64_t)cache->chunks);
	rc = s3c_cache_run(cache, S3C_CACHE_SAVE);
	if (rc == SQLITE_OK)
		rc = s3c_cache_run(cache, S3C_CACHE_COMMIT);
	if (rc != SQLITE_OK) {
		if (!sqlite3_get_autocommit(cache->db))
			s3c_cache_run(cache, S3C_CACHE_ROLLBACK);
		return rc;
	}
	cache->saved_epoch = epoch;
	__atomic_store_n(&cache->chunks_shown, cache->chunks, __ATOMIC_RELAXED);
	return SQLITE_OK;
}

static int close_run(struct s3c_cache *cache, struct open_run *run)
{
	sqlite3_stmt *stmt = s3c_cache_stmt(cache, S3C_CACHE_RUN_SET);

	if (!run->id || !run->changed)
		return SQLITE_OK;
	run->changed = false;
	sqlite3_bind_int64(stmt, 1, run->have);
	sqlite3_bind_int64(stmt, 2, cache->tick);
	sqlite3_bind_int64(stmt, 3, run->id);
	return s3c_cache_run(cache, S3C_CACHE_RUN_SET);
}

/* Looks for it, or adds it; run->id 0: there is none. */
static int find_run(struct s3c_cache *cache, const struct s3c_cache_item *item, bool add,
		    struct open_run *run)
{
	sqlite3_stmt *find = s3c_cache_stmt(cache, S3C_CACHE_RUN_FIND);
	sqlite3_stmt *insert = s3c_cache_stmt(cache, S3C_CACHE_RUN_ADD);
	uint64_t place = item->chunk / S3C_CACHE_RUN;
	int rc;

	if (run->id && run->place == place &&
	    !memcmp(run->content, item->key, sizeof(run->content)))
		return SQLITE_OK;
	rc = close_run(cache, run);
	run->id = 0;
	if (rc != SQLITE_OK)
		return rc;
	memcpy(run->content, item->key, sizeof(run->content));
	run->place = place;
	sqlite3_bind_blob(find, 1, item->key, 16, SQLITE_STATIC);
	sqlite3_bind_int64(find, 2, (int64_t)place);
	rc = sqlite3_step(find);
	if (rc == SQLITE_ROW) {
		run->id = sqlite3_column_int64(find, 0);
		run->have = (uint32_t)sqlite3_column_int64(find, 1);
	}
	sqlite3_reset(find);
	if (rc == SQLITE_ROW)
		return SQLITE_OK;
	if (rc != SQLITE_DONE || !add)
		return rc == SQLITE_DONE ? SQLITE_OK : rc;
	sqlite3_bind_blob(insert, 1, item->key, 16, SQLITE_STATIC);
	sqlite3_bind_int64(insert, 2, (int64_t)place);
	sqlite3_bind_int64(insert, 3, cache->tick);
	rc = s3c_cache_run(cache, S3C_CACHE_RUN_ADD);
	if (rc == SQLITE_OK) {
		run->id = sqlite3_last_insert_rowid(cache->db);
		run->have = 0;
	}
	return rc;
}

static int apply_chunk(struct s3c_cache *cache, const struct s3c_cache_item *item,
		       struct open_run *run)
{
	bool write = item->what == S3C_CACHE_WRITE;
	uint32_t bit = 1u << item->chunk % S3C_CACHE_RUN;
	enum s3c_cache_sql which = write ? S3C_CACHE_CHUNK_ADD : S3C_CACHE_CHUNK_DELETE;
	sqlite3_stmt *stmt = s3c_cache_stmt(cache, which);
	int rc = find_run(cache, item, write, run);

	/* A content id names its bytes for ever: what is there is the same. */
	if (rc != SQLITE_OK || !run->id || write == !!(run->have & bit))
		return rc;
	sqlite3_bind_int64(stmt, 1,
			   run->id * S3C_CACHE_RUN + (int64_t)(item->chunk % S3C_CACHE_RUN));
	if (write)
		sqlite3_bind_blob(stmt, 2, item->value, (int)item->len, SQLITE_STATIC);
	rc = s3c_cache_run(cache, which);
	if (rc != SQLITE_OK)
		return rc;
	run->have ^= bit;
	run->changed = true;
	if (write) {
		cache->chunks++;
		S3C_CACHE_COUNT(cache, inserts, 1);
	} else {
		cache->chunks -= cache->chunks > 0;
	}
	return SQLITE_OK;
}

static int apply_put(struct s3c_cache *cache, const struct s3c_cache_item *item)
{
	sqlite3_stmt *stmt;

	if (!item->len) {
		stmt = s3c_cache_stmt(cache, S3C_CACHE_RECORD_DELETE);
		sqlite3_bind_blob(stmt, 1, item->key, S3C_CACHE_KEYED, SQLITE_STATIC);
		return s3c_cache_run(cache, S3C_CACHE_RECORD_DELETE);
	}
	stmt = s3c_cache_stmt(cache, S3C_CACHE_RECORD_SET);
	sqlite3_bind_int64(stmt, 1, cache->tick);
	sqlite3_bind_blob(stmt, 2, item->key, S3C_CACHE_KEYED, SQLITE_STATIC);
	sqlite3_bind_blob(stmt, 3, item->value, (int)item->len, SQLITE_STATIC);
	return s3c_cache_run(cache, S3C_CACHE_RECORD_SET);
}

/* Another transaction when this one is as large as one may be. */
static int breathe(struct s3c_cache *cache)
{
	int rc;

	if (!s3c_cache_space_spent(cache))
		return SQLITE_OK;
	rc = s3c_cache_commit(cache);
	if (rc == SQLITE_OK)
		rc = s3c_cache_space_room(cache);
	if (rc == SQLITE_OK)
		rc = s3c_cache_space_wal(cache);
	return rc == SQLITE_OK ? s3c_cache_run(cache, S3C_CACHE_BEGIN) : rc;
}

static int apply_forget(struct s3c_cache *cache, const struct s3c_cache_item *item)
{
	sqlite3_stmt *stmt = s3c_cache_stmt(cache, S3C_CACHE_RUN_FORGET);
	int rc;

	do {
		sqlite3_bind_blob(stmt, 1, item->key, 16, SQLITE_STATIC);
		rc = s3c_cache_run(cache, S3C_CACHE_RUN_FORGET);
	} while (rc == SQLITE_OK && sqlite3_changes(cache->db) > 0 &&
		 (rc = breathe(cache)) == SQLITE_OK);
	return rc;
}

static int apply_items(struct s3c_cache *cache, const struct s3c_cache_items *items)
{
	const struct s3c_cache_item *item;
	struct open_run run = { 0 };
	int rc = SQLITE_OK;

	STAILQ_FOREACH (item, items, link) {
		switch (item->what) {
		case S3C_CACHE_WRITE:
		case S3C_CACHE_DROP:
			rc = apply_chunk(cache, item, &run);
			break;
		case S3C_CACHE_PUT:
			rc = apply_put(cache, item);
			break;
		case S3C_CACHE_FORGET:
			rc = close_run(cache, &run);
			run.id = 0;
			if (rc == SQLITE_OK)
				rc = apply_forget(cache, item);
			break;
		}
		if (rc == SQLITE_OK && s3c_cache_space_spent(cache)) {
			rc = close_run(cache, &run);
			run.id = 0; /* making room may evict it */
			if (rc == SQLITE_OK)
				rc = breathe(cache);
		}
		if (rc != SQLITE_OK)
			return rc;
	}
	return close_run(cache, &run);
}

static int apply_touches(struct s3c_cache *cache)
{
	int64_t touches[S3C_CACHE_TOUCHES];
	int rc = SQLITE_OK;

	s3c_mutex_lock(&cache->touch_lock);
	memcpy(touches, cache->touches, sizeof(touches));
	memset(cache->touches, 0, sizeof(cache->touches));
	cache->touch_count = 0;
	s3c_mutex_unlock(&cache->touch_lock);
	for (size_t i = 0; i < S3C_CACHE_TOUCHES && rc == SQLITE_OK; i++) {
		enum s3c_cache_sql which =
			touches[i] & 1 ? S3C_CACHE_RECORD_TOUCH : S3C_CACHE_RUN_TOUCH;

		if (!touches[i])
			continue;
		sqlite3_bind_int64(s3c_cache_stmt(cache, which), 1, cache->tick);
		sqlite3_bind_int64(s3c_cache_stmt(cache, which), 2, touches[i] >> 1);
		rc = s3c_cache_run(cache, which);
		if (rc == SQLITE_OK && s3c_cache_space_spent(cache)) {
			rc = s3c_cache_commit(cache);
			if (rc == SQLITE_OK)
				rc = s3c_cache_space_wal(cache);
			if (rc == SQLITE_OK)
				rc = s3c_cache_run(cache, S3C_CACHE_BEGIN);
		}
	}
	return rc;
}

/* SQLite's result. Touches come first, or what was just read would be evicted. */
static int apply(struct s3c_cache *cache, const struct s3c_cache_items *items)
{
	int rc = s3c_cache_space_wal(cache);

	__atomic_add_fetch(&cache->tick, 1, __ATOMIC_RELAXED);
	if (rc == SQLITE_OK)
		rc = s3c_cache_run(cache, S3C_CACHE_BEGIN);
	if (rc == SQLITE_OK)
		rc = apply_touches(cache);
	if (rc == SQLITE_OK)
		rc = s3c_cache_commit(cache);
	if (rc != SQLITE_OK || STAILQ_EMPTY(items))
		return rc;
	rc = s3c_cache_space_room(cache);
	if (rc == SQLITE_OK)
		rc = s3c_cache_space_wal(cache);
	if (rc == SQLITE_OK)
		rc = s3c_cache_run(cache, S3C_CACHE_BEGIN);
	if (rc == SQLITE_OK)
		rc = apply_items(cache, items);
	if (rc == SQLITE_OK)
		rc = s3c_cache_commit(cache);
	return rc == SQLITE_OK ? s3c_cache_space_checkpoint(cache) : rc;
}

/* Items that will not be written. */
static void count_dropped(struct s3c_cache *cache, const struct s3c_cache_items *items)
{
	const struct s3c_cache_item *item;
	bool records = false;

	STAILQ_FOREACH (item, items, link) {
		records |= item->what == S3C_CACHE_PUT;
		if (item->what == S3C_CACHE_WRITE || item->what == S3C_CACHE_PUT)
			S3C_CACHE_COUNT(cache, dropped, 1);
	}
	if (records)
		s3c_cache_records_lost(cache);
}

static void set_state(struct s3c_cache *cache, enum s3c_cache_state state, int64_t retry_ns)
{
	s3c_mutex_lock(&cache->lock);
	__atomic_store_n(&cache->state, state, __ATOMIC_RELEASE);
	cache->retry_ns = retry_ns;
	s3c_mutex_unlock(&cache->lock);
}

/* The disk is full, or something else keeps the database from being written. */
static void pause_writing(struct s3c_cache *cache, int rc)
{
	bool own;

	s3c_cache_space_full(cache, &own);
	if (rc == SQLITE_FULL && own)
		return;
	if (!cache->warned)
		s3c_warn("cache %s cannot be written, nothing is added for now: %s", cache->path,
			 rc == SQLITE_FULL ? "the disk is full" : sqlite3_errstr(rc));
	cache->warned = true;
	/* What the failed transaction took of the disk is given back. */
	s3c_cache_shut(cache);
	if (sqlite3_wal_checkpoint_v2(cache->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) ==
	    SQLITE_OK)
		cache->wal_bytes = 0;
	s3c_cache_unshut(cache);
	set_state(cache, S3C_CACHE_FULL, s3c_clock_monotonic_ns() + cache->tuning.retry_ns);
}

static void turn(struct s3c_cache *cache, const struct s3c_cache_items *items)
{
	int rc;

	if (s3c_cache_state(cache) != S3C_CACHE_ON) {
		count_dropped(cache, items);
		return;
	}
	rc = apply(cache, items);
	if (rc == SQLITE_OK) {
		if (cache->warned && !STAILQ_EMPTY(items)) {
			s3c_info("cache %s is written again", cache->path);
			cache->warned = false;
		}
		return;
	}
	if (cache->db && !sqlite3_get_autocommit(cache->db))
		s3c_cache_run(cache, S3C_CACHE_ROLLBACK);
	count_dropped(cache, items);
	s3c_debug("cache %s: write: %s", cache->path, sqlite3_errstr(rc));
	switch (s3c_cache_db_fault(cache->db, rc)) {
	case S3C_CACHE_DAMAGE:
		s3c_cache_broken(cache, sqlite3_errstr(rc));
		break;
	case S3C_CACHE_SPACE:
		pause_writing(cache, rc);
		break;
	case S3C_CACHE_PASSING:
		break;
	}
}

static void try_open(struct s3c_cache *cache)
{
	int64_t later = s3c_clock_monotonic_ns() + cache->tuning.retry_ns;
	struct s3c_err err = { 0 };
	int r = s3c_cache_db_open(cache, &err);

	if (r == 0) {
		s3c_secret_free(steal_ptr(cache->wrap_key));
		s3c_info("cache %s is in use", cache->path);
		set_state(cache, S3C_CACHE_ON, 0);
		return;
	}
	if (!cache->warned || r == -EKEYREJECTED)
		s3c_warn("cache folder %s cannot be used, nothing is cached for now: %s",
			 cache->dir, s3c_err_text(&err, r));
	cache->warned = true;
	set_state(cache, S3C_CACHE_OFF, r == -EKEYREJECTED ? INT64_MAX : later);
}

static void begin_anew(struct s3c_cache *cache)
{
	int64_t now = s3c_clock_monotonic_ns();
	bool again = cache->anew_ns && now - cache->anew_ns < cache->tuning.retry_ns;

	cache->anew_ns = now;
	s3c_cache_shut(cache);
	s3c_cache_readers_free(cache);
	s3c_cache_db_close(cache, false);
	/* A disk that damages everything is not written all the time. */
	if (again)
		set_state(cache, S3C_CACHE_OFF, now + cache->tuning.retry_ns);
	else
		try_open(cache);
	s3c_cache_unshut(cache);
}

static void tend(struct s3c_cache *cache, enum s3c_cache_state state)
{
	if (state == S3C_CACHE_BROKEN)
		begin_anew(cache);
	else if (state == S3C_CACHE_OFF)
		try_open(cache);
	else
		set_state(cache, S3C_CACHE_ON, 0);
}

static void wait_locked(struct s3c_cache *cache, int64_t until_ns)
{
	struct s3c_op op;

	if (until_ns == INT64_MAX) {
		s3c_waitq_wait(&cache->work, &cache->lock, NULL);
		return;
	}
	s3c_op_init(&op, until_ns);
	s3c_waitq_wait(&cache->work, &cache->lock, &op);
	s3c_op_destroy(&op);
}

/*
 * Nanoseconds that the thread was ready to run and did not get a processor so far (Linux,
 * Documentation/scheduler/sched-stats.rst: the second field of /proc/<pid>/schedstat). 0 where the
 * kernel does not tell.
 */
static int64_t waited_ns(int fd)
{
	char text[96];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	uint64_t used, waited;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return sscanf(text, "%" SCNu64 " %" SCNu64, &used, &waited) == 2 ? (int64_t)waited : 0;
}

/* Whether the processors have time for the writer. */
struct pace {
	int stat_fd;
	unsigned short_turns; /* in a row that had to wait for a processor */
	int64_t rest_ns;      /* nothing is done before */
	int64_t looked_ns, idle_ns;
};

/*
 * Nanoseconds that the processors had nothing to do, all together, since the machine was started
 * (Linux, Documentation/filesystems/proc.rst: the fourth and fifth number of /proc/stat, in clock
 * ticks). 0 where the kernel does not tell.
 */
static int64_t idle_ns(void)
{
	cleanup_close int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	long ticks = sysconf(_SC_CLK_TCK);
	uint64_t idle, disk;
	char text[256];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0 || ticks <= 0)
		return 0;
	text[n] = '\0';
	if (sscanf(text, "cpu %*u %*u %*u %" SCNu64 " %" SCNu64, &idle, &disk) != 2)
		return 0;
	return (int64_t)(idle + disk) * (S3C_NSEC_PER_SEC / ticks);
}

static bool looks_due(const struct pace *pace, int64_t now)
{
	return pace->rest_ns > now && now - pace->looked_ns >= REST_LOOK_NS;
}

/* Ends the rest when one processor was idle for half of the time. */
static void look(struct pace *pace, int64_t now)
{
	int64_t idle = idle_ns();

	if (idle - pace->idle_ns >= (now - pace->looked_ns) / 2)
		pace->rest_ns = pace->short_turns = 0;
	pace->idle_ns = idle;
	pace->looked_ns = now;
}

/*
 * Does a turn, and notes until when to rest after it. Where the turn had to wait for a processor,
 * it kept others from theirs: what readers do comes first, the queue fills meanwhile, and what
 * comes then is dropped before it is sealed. A stream that keeps all processors busy soon pays for
 * little more than a look now and then whether that is still so. Waiting for the disk is no reason
 * to rest.
 */
static void paced_turn(struct s3c_cache *cache, struct s3c_cache_items *items, struct pace *pace)
{
	int64_t began = s3c_clock_monotonic_ns(), waited = waited_ns(pace->stat_fd), now, wall;
	int64_t rest;

	turn(cache, items);
	now = s3c_clock_monotonic_ns();
	wall = now - began;
	waited = waited_ns(pace->stat_fd) - waited;
	if (waited * REST_FROM <= wall) {
		pace->short_turns = 0;
		pace->rest_ns = 0;
		return;
	}
	rest = S3C_MIN(wall * REST_TIMES, REST_MAX_NS) << S3C_MIN(pace->short_turns, 8u);
	pace->short_turns++;
	pace->rest_ns = now + S3C_MIN(rest, REST_MAX_NS);
	pace->looked_ns = now;
	pace->idle_ns = idle_ns();
}

void *s3c_cache_writer_main(void *arg)
{
	struct s3c_cache *cache = arg;
	struct s3c_cache_items items;
	cleanup_close int stat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	struct pace pace = { .stat_fd = stat_fd };
	bool last = false;

	/* Where the processor is short, who waits for bytes comes first, and the queue drops more.
	 */
	setpriority(PRIO_PROCESS, (id_t)gettid(), WRITER_NICE);
	s3c_mutex_lock(&cache->lock);
	for (;;) {
		enum s3c_cache_state state = s3c_cache_state(cache);
		int64_t now = s3c_clock_monotonic_ns(), due = cache->due_ns;

		/* One more turn at the end: what was touched, and the epoch. */
		if (cache->stop && (last || state != S3C_CACHE_ON))
			break;
		if (state == S3C_CACHE_BROKEN ||
		    (state != S3C_CACHE_ON && now >= cache->retry_ns)) {
			s3c_mutex_unlock(&cache->lock);
			tend(cache, state);
			s3c_mutex_lock(&cache->lock);
			continue;
		}
		if (cache->stop || cache->flushing || cache->queued >= cache->txn_max / 2)
			due = now;
		if (!cache->stop && !cache->flushing)
			due = S3C_MAX(due, S3C_MIN(pace.rest_ns, now + REST_LOOK_NS));
		if (looks_due(&pace, now)) {
			s3c_mutex_unlock(&cache->lock);
			look(&pace, now);
			s3c_mutex_lock(&cache->lock);
			continue;
		}
		if (due > now) {
			if (state != S3C_CACHE_ON)
				due = S3C_MIN(due, cache->retry_ns);
			wait_locked(cache, due);
			continue;
		}
		cache->due_ns = INT64_MAX;
		cache->turn++;
		s3c_cache_take_locked(cache, &items);
		s3c_mutex_unlock(&cache->lock);
		paced_turn(cache, &items, &pace);
		s3c_mutex_lock(&cache->lock);
		s3c_cache_settle_locked(cache, &items);
		cache->turned = cache->turn;
		last = cache->stop && STAILQ_EMPTY(&cache->queue);
		if (!STAILQ_EMPTY(&cache->queue))
			cache->due_ns = 0;
		s3c_waitq_wake_all(&cache->done);
	}
	s3c_mutex_unlock(&cache->lock);
	return NULL;
}
