/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * States; changed with lock held, by the thread named.
 *
 *	OFF	there is no database: reads find nothing, writes are dropped. The writer tries again
 *		at retry_ns.
 *	ON	all is well
 *	FULL	it is read, not written; writes are dropped. ON again at retry_ns. (writer)
 *	BROKEN	damage was seen (any thread): reads find nothing. The writer closes the database,
 *		removes it and begins another: ON or OFF.
 *
 * A reader has a connection while it is counted in `active`; none is handed out while `shut`,
 * which the writer sets for the end of a checkpoint and for replacing the database. Readers wait
 * for the former, some milliseconds; nothing else makes them wait.
 */
#include "db/cache_private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#define RETRY_NS (60 * S3C_NSEC_PER_SEC)
#define QUEUE_MAX (16u << 20)
#define TOUCH_NS (5 * S3C_NSEC_PER_SEC) /* touches gather for so long */

void s3c_cache_broken(struct s3c_cache *cache, const char *why)
{
	bool first;

	s3c_mutex_lock(&cache->lock);
	first = s3c_cache_state(cache) == S3C_CACHE_ON || s3c_cache_state(cache) == S3C_CACHE_FULL;
	if (first) {
		__atomic_store_n(&cache->state, S3C_CACHE_BROKEN, __ATOMIC_RELEASE);
		s3c_waitq_wake_all(&cache->work);
	}
	s3c_mutex_unlock(&cache->lock);
	if (first)
		s3c_warn("cache %s is damaged (%s): a new one begins", cache->path, why);
}

static bool readable(struct s3c_cache *cache)
{
	enum s3c_cache_state state = s3c_cache_state(cache);

	return state == S3C_CACHE_ON || state == S3C_CACHE_FULL;
}

struct s3c_cache_reader *s3c_cache_reader_get(struct s3c_cache *cache)
{
	struct s3c_cache_reader *reader = NULL;
	int rc;

	s3c_mutex_lock(&cache->pool_lock);
	while (cache->shut && readable(cache))
		s3c_waitq_wait(&cache->gate, &cache->pool_lock, NULL);
	if (!readable(cache) || cache->shut) {
		s3c_mutex_unlock(&cache->pool_lock);
		return NULL;
	}
	cache->active++;
	reader = SLIST_FIRST(&cache->readers);
	if (reader) {
		SLIST_REMOVE_HEAD(&cache->readers, link);
		cache->reader_count--;
	}
	s3c_mutex_unlock(&cache->pool_lock);
	if (reader)
		return reader;
	rc = s3c_cache_db_prepare_reader(cache, &reader);
	if (rc != SQLITE_OK) {
		s3c_cache_reader_put(cache, NULL, rc);
		return NULL;
	}
	return reader;
}

void s3c_cache_reader_put(struct s3c_cache *cache, struct s3c_cache_reader *reader, int rc)
{
	sqlite3 *db = reader ? reader->db : NULL;

	if (rc != SQLITE_OK && rc != SQLITE_ROW && rc != SQLITE_DONE) {
		s3c_debug("cache %s: read: %s", cache->path, sqlite3_errstr(rc));
		if (s3c_cache_db_fault(db, rc) == S3C_CACHE_DAMAGE)
			s3c_cache_broken(cache, sqlite3_errstr(rc));
	}
	s3c_mutex_lock(&cache->pool_lock);
	if (reader && cache->reader_count < S3C_CACHE_SPARES) {
		SLIST_INSERT_HEAD(&cache->readers, reader, link);
		cache->reader_count++;
		reader = NULL;
	}
	if (!reader && --cache->active == 0)
		s3c_waitq_wake_all(&cache->empty);
	s3c_mutex_unlock(&cache->pool_lock);
	if (!reader)
		return;
	s3c_cache_reader_free(reader);
	s3c_mutex_lock(&cache->pool_lock);
	if (--cache->active == 0)
		s3c_waitq_wake_all(&cache->empty);
	s3c_mutex_unlock(&cache->pool_lock);
}

void s3c_cache_shut(struct s3c_cache *cache)
{
	s3c_mutex_lock(&cache->pool_lock);
	cache->shut = true;
	while (cache->active)
		s3c_waitq_wait(&cache->empty, &cache->pool_lock, NULL);
	s3c_mutex_unlock(&cache->pool_lock);
}

void s3c_cache_unshut(struct s3c_cache *cache)
{
	s3c_mutex_lock(&cache->pool_lock);
	cache->shut = false;
	s3c_waitq_wake_all(&cache->gate);
	s3c_mutex_unlock(&cache->pool_lock);
}

void s3c_cache_readers_free(struct s3c_cache *cache)
{
	struct s3c_cache_reader *reader;

	while ((reader = SLIST_FIRST(&cache->readers))) {
		SLIST_REMOVE_HEAD(&cache->readers, link);
		s3c_cache_reader_free(reader);
	}
	cache->reader_count = 0;
}

void s3c_cache_touch(struct s3c_cache *cache, int64_t id, bool record, int64_t used)
{
	int64_t touch = id * 2 + record;
	bool first = false;
	size_t at;

	/* What was used a moment ago is young enough. */
	if (used == __atomic_load_n(&cache->tick, __ATOMIC_RELAXED))
		return;
	s3c_mutex_lock(&cache->touch_lock);
	at = (size_t)((uint64_t)touch * UINT64_C(0x9e3779b97f4a7c15) >> 32) % S3C_CACHE_TOUCHES;
	while (cache->touches[at] && cache->touches[at] != touch)
		at = (at + 1) % S3C_CACHE_TOUCHES;
	if (!cache->touches[at] && cache->touch_count < S3C_CACHE_TOUCHES * 3 / 4) {
		cache->touches[at] = touch;
		cache->touch_count++;
		first = cache->touch_count == 1 || cache->touch_count == S3C_CACHE_TOUCHES / 2;
	}
	if (first)
		at = cache->touch_count;
	s3c_mutex_unlock(&cache->touch_lock);
	if (!first)
		return;
	s3c_mutex_lock(&cache->lock);
	if (at > 1)
		cache->due_ns = 0;
	else
		cache->due_ns = S3C_MIN(cache->due_ns, s3c_clock_monotonic_ns() + TOUCH_NS);
	s3c_waitq_wake_all(&cache->work);
	s3c_mutex_unlock(&cache->lock);
}

static struct s3c_cache *cache_new(const struct s3c_cache_config *config,
				   const struct s3c_cache_tuning *tuning)
{
	struct s3c_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->lock_fd = cache->sync_fd = -1;
	cache->size = config->size;
	cache->kind = config->key;
	cache->tuning = *tuning;
	if (!cache->tuning.retry_ns)
		cache->tuning.retry_ns = RETRY_NS;
	if (!cache->tuning.queue_max)
		cache->tuning.queue_max = S3C_MIN(QUEUE_MAX, S3C_MAX(cache->size / 2, 1u << 20));
	cache->wal_max = S3C_MIN(cache->size / 4, 32u << 20);
	cache->txn_max = S3C_MIN(cache->wal_max / 4, 4u << 20);
	cache->cache_max = S3C_MIN(cache->wal_max / 8, 4u << 20);
	cache->due_ns = INT64_MAX;
	STAILQ_INIT(&cache->queue);
	SLIST_INIT(&cache->readers);
	s3c_mutex_init(&cache->lock);
	s3c_mutex_init(&cache->pool_lock);
	s3c_mutex_init(&cache->touch_lock);
	s3c_waitq_init(&cache->work);
	s3c_waitq_init(&cache->done);
	s3c_waitq_init(&cache->gate);
	s3c_waitq_init(&cache->empty);
	cache->dir = strdup(config->dir);
	cache->path = s3c_asprintf("%s/cache.db", config->dir);
	if (cache->kind == S3C_CACHE_KEY_WRAPPED) {
		cache->wrap_key = s3c_secret_alloc(S3C_KEY_LEN);
		if (cache->wrap_key)
			memcpy(cache->wrap_key, config->wrap_key, S3C_KEY_LEN);
	}
	if (!cache->dir || !cache->path ||
	    (cache->kind == S3C_CACHE_KEY_WRAPPED && !cache->wrap_key)) {
		s3c_cache_close(cache);
		return NULL;
	}
	return cache;
}

int s3c_cache_open_tuned(const struct s3c_cache_config *config,
			 const struct s3c_cache_tuning *tuning, struct s3c_err *err,
			 struct s3c_cache **ret_cache)
{
	struct s3c_cache *cache = cache_new(config, tuning);
	int r;

	if (!cache)
		return -ENOMEM;
	if (cache->size < S3C_CACHE_SIZE_MIN) {
		s3c_warn("cache %s: %llu bytes are too few, nothing is cached", cache->path,
			 (unsigned long long)cache->size);
		cache->retry_ns = INT64_MAX;
		*ret_cache = cache;
		return 0;
	}
	r = s3c_cache_db_open(cache, err);
	if (r == -EBUSY && cache->lock_fd >= 0)
		r = -EAGAIN; /* SQLite's */
	if (r == -EKEYREJECTED || r == -EBUSY || r == -ENOMEM) {
		s3c_cache_close(cache);
		return r;
	}
	if (r < 0) {
		s3c_warn("cache folder %s cannot be used, nothing is cached for now: %s",
			 cache->dir, strerror(-r));
		cache->retry_ns = s3c_clock_monotonic_ns() + cache->tuning.retry_ns;
		cache->warned = true;
	} else {
		s3c_secret_free(steal_ptr(cache->wrap_key));
		cache->state = S3C_CACHE_ON;
	}
	r = s3c_thread_start(&cache->writer, "cache", s3c_cache_writer_main, cache);
	if (r < 0) {
		s3c_cache_close(cache);
		return r;
	}
	cache->writer_started = true;
	*ret_cache = cache;
	return 0;
}

/* After the fork into the background: it starts a thread, and SQLite must not be forked. */
int s3c_cache_open(const struct s3c_cache_config *config, struct s3c_err *err,
		   struct s3c_cache **ret_cache)
{
	const struct s3c_cache_tuning none = { 0 };

	return s3c_cache_open_tuned(config, &none, err, ret_cache);
}

void s3c_cache_close(struct s3c_cache *cache)
{
	if (!cache)
		return;
	if (cache->writer_started) {
		s3c_mutex_lock(&cache->lock);
		cache->stop = true;
		s3c_waitq_wake_all(&cache->work);
		s3c_mutex_unlock(&cache->lock);
		pthread_join(cache->writer, NULL);
	}
	s3c_mutex_lock(&cache->lock);
	s3c_cache_settle_locked(cache, &cache->queue);
	s3c_mutex_unlock(&cache->lock);
	s3c_cache_readers_free(cache);
	/* With the epoch not written down, records of before would be found again. */
	s3c_cache_db_close(cache, s3c_cache_state(cache) != S3C_CACHE_BROKEN &&
					  cache->kind != S3C_CACHE_KEY_EPHEMERAL &&
					  cache->saved_epoch == cache->epoch);
	s3c_cache_keys_free(cache);
	s3c_secret_free(cache->wrap_key);
	if (cache->lock_fd >= 0)
		close(cache->lock_fd);
	s3c_mutex_destroy(&cache->lock);
	s3c_mutex_destroy(&cache->pool_lock);
	s3c_mutex_destroy(&cache->touch_lock);
	free(cache->dir);
	free(cache->path);
	free(cache);
}

void s3c_cache_stats(struct s3c_cache *cache, struct s3c_cache_stats *ret_stats)
{
	static const char *const ends[] = { "", "-wal" };
	struct s3c_cache_stats stats = { .limit = cache->size };
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		cleanup_free char *path = s3c_asprintf("%s%s", cache->path, ends[i]);

		if (path && s3c_cache_state(cache) != S3C_CACHE_OFF && stat(path, &st) == 0)
			stats.bytes += (uint64_t)st.st_size;
	}
	stats.chunks = __atomic_load_n(&cache->chunks_shown, __ATOMIC_RELAXED);
	stats.hits = __atomic_load_n(&cache->hits, __ATOMIC_RELAXED);
	stats.misses = __atomic_load_n(&cache->misses, __ATOMIC_RELAXED);
	stats.inserts = __atomic_load_n(&cache->inserts, __ATOMIC_RELAXED);
	stats.dropped = __atomic_load_n(&cache->dropped, __ATOMIC_RELAXED);
	stats.evicted = __atomic_load_n(&cache->evicted, __ATOMIC_RELAXED);
	stats.damaged = __atomic_load_n(&cache->damaged, __ATOMIC_RELAXED);
	*ret_stats = stats;
}
