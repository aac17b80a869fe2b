/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The limit. It is divided once and for all:
 *
 *	wal_max		a quarter, 32 MiB at most: the WAL
 *	the rest	the database (PRAGMA max_page_count)
 *
 * A transaction changes pages that are in the writer's page cache, each of them enters the WAL once
 * (cache_spill=OFF), and the page cache tells its size. Before a transaction it holds at most
 * cache_max = wal_max / 8; a transaction ends when it has grown by txn_max = wal_max / 4, within
 * one more step, which is less than wal_max / 4 (a record of wal_max / 8 with the one that it
 * replaces, one chunk, 16 runs). So a transaction adds less than 5/8 of wal_max, and none begins
 * with more than 3/8 in the WAL: readers are kept out then until the log starts over. Mostly it
 * does so without: it is copied into the database from a quarter of wal_max on.
 *
 * Within the database, pages on the free list count as room. The oldest runs and records leave
 * before a batch is written, in transactions of their own.
 */
#include "db/cache_private.h"

#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/log.h"

#define MIB (UINT64_C(1) << 20)
#define WRITE_OUT (64 * MIB)            /* so much is left to the kernel at most */
#define CAP_NS (600 * S3C_NSEC_PER_SEC) /* how long a full disk is remembered */

/* Measured: doc/performance.md. Small caches cannot afford the waste of large pages. */
unsigned s3c_cache_space_page_size(uint64_t size)
{
	return size < 64 * MIB ? 4096 : size < 512 * MIB ? 16384 : 65536;
}

static int on_commit(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct s3c_cache *cache = arg;

	(void)db;
	(void)name;
	cache->wal_bytes = 32 + (uint64_t)frames * (cache->page_size + 24);
	return SQLITE_OK;
}

void s3c_cache_space_plan(struct s3c_cache *cache, uint64_t page_size)
{
	cache->page_size = page_size;
	cache->max_pages = (cache->size - cache->wal_max) / page_size;
	cache->pages_cap = UINT64_MAX;
	cache->wal_bytes = 0;
	sqlite3_wal_hook(cache->db, on_commit, cache);
}

int s3c_cache_space_checkpoint(struct s3c_cache *cache)
{
	int frames = 0, copied = 0, rc;

	if (cache->wal_bytes <= cache->wal_max / 4)
		return SQLITE_OK;
	rc = sqlite3_wal_checkpoint_v2(cache->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames,
				       &copied);
	if (rc != SQLITE_OK)
		return rc == SQLITE_BUSY || rc == SQLITE_LOCKED ? SQLITE_OK : rc;
	cache->unsynced += cache->wal_bytes;
	if (cache->unsynced > WRITE_OUT) {
		/* Not for safety: so that the sync at the end finds little left to do. */
		sync_file_range(cache->sync_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		cache->unsynced = 0;
	}
	return SQLITE_OK;
}

static uint64_t cached(struct s3c_cache *cache)
{
	int used = 0, high;

	sqlite3_db_status(cache->db, SQLITE_DBSTATUS_CACHE_USED, &used, &high, 0);
	return (uint64_t)used;
}

int s3c_cache_space_wal(struct s3c_cache *cache)
{
	int rc = s3c_cache_space_checkpoint(cache);

	/* Mostly it has shrunk by itself with the last commit. */
	if (cached(cache) > cache->cache_max + cache->txn_max / 2)
		sqlite3_db_release_memory(cache->db);
	if (rc != SQLITE_OK || cache->wal_bytes <= cache->wal_max / 8 * 3)
		return rc;
	s3c_cache_shut(cache);
	rc = sqlite3_wal_checkpoint_v2(cache->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
	s3c_cache_unshut(cache);
	if (rc == SQLITE_OK)
		cache->wal_bytes = 0;
	return rc;
}

bool s3c_cache_space_spent(struct s3c_cache *cache)
{
	return cached(cache) > cache->cache_max + cache->txn_max;
}

static int one_number(struct s3c_cache *cache, enum s3c_cache_sql which, uint64_t *ret_number)
{
	sqlite3_stmt *stmt = s3c_cache_stmt(cache, which);
	int rc = sqlite3_step(stmt);

	if (rc == SQLITE_ROW)
		*ret_number = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

/* Pages that a transaction may still take; pages that it must be able to take. */
static int measure(struct s3c_cache *cache, uint64_t *ret_room, uint64_t *ret_need)
{
	uint64_t limit = S3C_MIN(cache->max_pages, cache->pages_cap);
	uint64_t pages, free_pages = 0;
	int rc = one_number(cache, S3C_CACHE_PAGES, &pages);

	if (rc == SQLITE_OK)
		rc = one_number(cache, S3C_CACHE_FREE, &free_pages);
	if (rc != SQLITE_OK)
		return rc;
	if (cache->pages_cap != UINT64_MAX && s3c_clock_monotonic_ns() > cache->cap_ns)
		cache->pages_cap = UINT64_MAX;
	pages -= S3C_MIN(free_pages, pages);
	*ret_room = limit > pages ? limit - pages : 0;
	*ret_need = (cache->txn_max + cache->txn_max / 4) / cache->page_size + 32;
	return SQLITE_OK;
}

void s3c_cache_space_full(struct s3c_cache *cache, bool *ret_own)
{
	uint64_t pages, room, need;

	*ret_own = false;
	if (measure(cache, &room, &need) != SQLITE_OK ||
	    one_number(cache, S3C_CACHE_PAGES, &pages) != SQLITE_OK)
		return;
	/* The estimate of the room was wrong; or the disk has less than was allowed. */
	*ret_own = pages + 2 * need >= cache->max_pages;
	cache->pages_cap = pages > 4 * need ? pages - 2 * need : UINT64_MAX;
	cache->cap_ns = s3c_clock_monotonic_ns() + CAP_NS;
}

/* A row that an index names was changed, or the index is wrong: that would never end. */
static int run_on_row(struct s3c_cache *cache, enum s3c_cache_sql which)
{
	int rc = s3c_cache_run(cache, which);

	return rc == SQLITE_OK && sqlite3_changes(cache->db) != 1 ? SQLITE_CORRUPT : rc;
}

/* The chunks of a run; what is left of them when the transaction is spent stays. */
static int evict_run(struct s3c_cache *cache, int64_t id, uint32_t have, uint64_t *freed)
{
	sqlite3_stmt *stmt = s3c_cache_stmt(cache, S3C_CACHE_CHUNK_DELETE);
	int rc = SQLITE_OK;

	while (have && rc == SQLITE_OK && !s3c_cache_space_spent(cache)) {
		unsigned bit = (unsigned)__builtin_ctz(have);

		sqlite3_bind_int64(stmt, 1, id * S3C_CACHE_RUN + bit);
		rc = s3c_cache_run(cache, S3C_CACHE_CHUNK_DELETE);
		have &= have - 1;
		cache->chunks -= cache->chunks > 0;
		S3C_CACHE_COUNT(cache, evicted, 1);
		*freed += S3C_CACHE_CHUNK;
	}
	if (rc != SQLITE_OK)
		return rc;
	if (have) {
		stmt = s3c_cache_stmt(cache, S3C_CACHE_RUN_SET);
		sqlite3_bind_int64(stmt, 1, have);
		sqlite3_bind_int64(stmt, 2, 0);
		sqlite3_bind_int64(stmt, 3, id);
		return run_on_row(cache, S3C_CACHE_RUN_SET);
	}
	stmt = s3c_cache_stmt(cache, S3C_CACHE_CHUNK_SWEEP);
	sqlite3_bind_int64(stmt, 1, id * S3C_CACHE_RUN);
	sqlite3_bind_int64(stmt, 2, id * S3C_CACHE_RUN + S3C_CACHE_RUN - 1);
	rc = s3c_cache_run(cache, S3C_CACHE_CHUNK_SWEEP);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(s3c_cache_stmt(cache, S3C_CACHE_RUN_DELETE), 1, id);
		rc = run_on_row(cache, S3C_CACHE_RUN_DELETE);
	}
	return rc;
}

struct oldest {
	bool found;
	int64_t used, id;
	uint32_t have;
};

static int oldest(struct s3c_cache *cache, enum s3c_cache_sql which, struct oldest *ret_oldest)
{
	sqlite3_stmt *stmt = s3c_cache_stmt(cache, which);
	int rc = sqlite3_step(stmt);

	*ret_oldest = (struct oldest){ .found = rc == SQLITE_ROW };
	if (rc == SQLITE_ROW) {
		ret_oldest->used = sqlite3_column_int64(stmt, 0);
		ret_oldest->id = sqlite3_column_int64(stmt, 1);
		if (which == S3C_CACHE_RUN_OLDEST)
			ret_oldest->have = (uint32_t)sqlite3_column_int64(stmt, 2);
	}
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* One step of eviction; *any: was there something? */
static int evict_one(struct s3c_cache *cache, uint64_t *freed, bool *any)
{
	struct oldest run, record;
	int rc = oldest(cache, S3C_CACHE_RUN_OLDEST, &run);

	if (rc == SQLITE_OK)
		rc = oldest(cache, S3C_CACHE_RECORD_OLDEST, &record);
	if (rc != SQLITE_OK)
		return rc;
	*any = run.found || record.found;
	if (run.found && (!record.found || run.used <= record.used))
		return evict_run(cache, run.id, run.have, freed);
	if (!record.found)
		return SQLITE_OK;
	*freed += 256;
	S3C_CACHE_COUNT(cache, evicted, 1);
	sqlite3_bind_int64(s3c_cache_stmt(cache, S3C_CACHE_RECORD_EVICT), 1, record.id);
	return run_on_row(cache, S3C_CACHE_RECORD_EVICT);
}

int s3c_cache_space_room(struct s3c_cache *cache)
{
	uint64_t room = 0, need = 0;
	int rc = measure(cache, &room, &need);

	while (rc == SQLITE_OK && room < need) {
		uint64_t wanted = S3C_MIN((need - room) * cache->page_size, cache->txn_max);
		uint64_t freed = 0;
		bool any = true, some = false;

		rc = s3c_cache_space_wal(cache);
		if (rc == SQLITE_OK)
			rc = s3c_cache_run(cache, S3C_CACHE_BEGIN);
		if (rc != SQLITE_OK)
			return rc;
		while (any && rc == SQLITE_OK && freed < wanted && !s3c_cache_space_spent(cache)) {
			rc = evict_one(cache, &freed, &any);
			some |= any;
		}
		if (rc != SQLITE_OK) {
			s3c_cache_run(cache, S3C_CACHE_ROLLBACK);
			return rc;
		}
		rc = s3c_cache_commit(cache);
		if (rc == SQLITE_OK && !some)
			return SQLITE_FULL;
		if (rc == SQLITE_OK)
			rc = measure(cache, &room, &need);
	}
	return rc;
}
