/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What waits to be written, in order. A put is besides in `records` until it is in the database or
 * a newer one of the same key takes its place there; get looks there first.
 *
 * A put that cannot be queued leaves a record of yesterday in the database. It is deleted then,
 * which takes no room; when even that cannot be queued, a new epoch hides all records.
 */
#include "db/cache_private.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"

#define GATHER_NS (250 * S3C_NSEC_PER_MSEC) /* a small queue is written then */
#define ITEM_COST 128                       /* of memory, beside the value */

static uint64_t cost(const struct s3c_cache_item *item)
{
	return ITEM_COST + item->len;
}

static bool writable(struct s3c_cache *cache)
{
	return s3c_cache_state(cache) == S3C_CACHE_ON;
}

/* Takes item over, unless false. extra: bytes past the bound that it may use. */
static bool enqueue(struct s3c_cache *cache, struct s3c_cache_item *item, uint64_t extra)
{
	struct s3c_cache_item *old = NULL;
	bool wake;

	s3c_mutex_lock(&cache->lock);
	if (cache->stop || s3c_cache_state(cache) == S3C_CACHE_OFF ||
	    s3c_cache_state(cache) == S3C_CACHE_FULL ||
	    cache->queued + cost(item) > cache->tuning.queue_max + extra) {
		s3c_mutex_unlock(&cache->lock);
		return false;
	}
	if (item->what == S3C_CACHE_PUT) {
		HASH_FIND(hh, cache->records, item->key, S3C_CACHE_KEYED, old);
		if (old) {
			HASH_DEL(cache->records, old);
			memset(&old->hh, 0, sizeof(old->hh));
		}
		HASH_ADD(hh, cache->records, key, S3C_CACHE_KEYED, item);
		if (!item->hh.tbl) { /* HASH_NONFATAL_OOM: neither is there now */
			s3c_mutex_unlock(&cache->lock);
			return false;
		}
	}
	wake = cache->due_ns == INT64_MAX;
	if (wake || cache->due_ns > s3c_clock_monotonic_ns() + GATHER_NS) {
		cache->due_ns = s3c_clock_monotonic_ns() + GATHER_NS;
		wake = true;
	}
	STAILQ_INSERT_TAIL(&cache->queue, item, link);
	if (cache->queued < cache->txn_max / 2 && cache->queued + cost(item) >= cache->txn_max / 2)
		wake = true;
	cache->queued += cost(item);
	cache->given++;
	if (wake)
		s3c_waitq_wake_all(&cache->work);
	s3c_mutex_unlock(&cache->lock);
	return true;
}

static struct s3c_cache_item *item_new(enum s3c_cache_what what, const uint8_t *key, uint64_t chunk,
				       size_t len)
{
	struct s3c_cache_item *item = malloc(sizeof(*item) + len);

	if (!item)
		return NULL;
	memset(item, 0, sizeof(*item));
	item->what = what;
	item->chunk = chunk;
	item->len = (uint32_t)len;
	memcpy(item->key, key, S3C_CACHE_KEYED);
	return item;
}

bool s3c_cache_write(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
		     uint64_t chunk, const void *data, uint32_t len)
{
	uint8_t key[S3C_CACHE_KEYED], aad[S3C_CACHE_AAD_MAX];
	cleanup_free struct s3c_cache_item *item = NULL;
	bool room;

	if (!writable(cache) || !len || len > S3C_CACHE_CHUNK)
		goto dropped;
	/* A look before the work: what will be dropped is not sealed. */
	s3c_mutex_lock(&cache->lock);
	room = cache->queued + len <= cache->tuning.queue_max;
	s3c_mutex_unlock(&cache->lock);
	if (!room || s3c_cache_key_content(cache, id, key) < 0)
		goto dropped;
	item = item_new(S3C_CACHE_WRITE, key, chunk, len + S3C_CACHE_SEALED_MORE);
	if (!item || s3c_cache_seal(cache, aad, s3c_cache_aad_chunk(id, chunk, len, aad), data, len,
				    item->value) < 0)
		goto dropped;
	if (!enqueue(cache, item, 0))
		goto dropped;
	item = NULL;
	return true;
dropped:
	S3C_CACHE_COUNT(cache, dropped, 1);
	return false;
}

void s3c_cache_drop(struct s3c_cache *cache, const uint8_t key[static S3C_CACHE_KEYED],
		    uint64_t chunk)
{
	struct s3c_cache_item *item = item_new(S3C_CACHE_DROP, key, chunk, 0);

	/* Not queued: the next reader drops it. */
	if (item && !enqueue(cache, item, cache->tuning.queue_max))
		free(item);
}

void s3c_cache_forget(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN])
{
	uint8_t key[S3C_CACHE_KEYED];
	struct s3c_cache_item *item;

	if (!writable(cache) || s3c_cache_key_content(cache, id, key) < 0)
		return;
	item = item_new(S3C_CACHE_FORGET, key, 0, 0);
	/* Not queued: it leaves when it is the oldest. */
	if (item && !enqueue(cache, item, cache->tuning.queue_max))
		free(item);
}

void s3c_cache_records_lost(struct s3c_cache *cache)
{
	__atomic_add_fetch(&cache->epoch, 1, __ATOMIC_RELAXED);
}

static struct s3c_cache_item *seal_put(struct s3c_cache *cache, const uint8_t *key,
				       const uint8_t *aad, size_t aad_len, const void *data,
				       size_t len)
{
	cleanup_free struct s3c_cache_item *item = NULL;

	if (len > S3C_CACHE_RECORD_MAX || len > cache->wal_max / 8)
		return NULL;
	item = item_new(S3C_CACHE_PUT, key, 0, len + S3C_CACHE_SEALED_MORE);
	if (!item || s3c_cache_seal(cache, aad, aad_len, data, len, item->value) < 0)
		return NULL;
	return steal_ptr(item);
}

bool s3c_cache_put(struct s3c_cache *cache, enum s3c_cache_kind kind, const char *name,
		   const void *data, size_t len)
{
	uint8_t key[S3C_CACHE_KEYED], aad[S3C_CACHE_AAD_MAX];
	cleanup_free struct s3c_cache_item *item = NULL;
	size_t aad_len;
	int r = -EAGAIN;

	if (writable(cache))
		r = s3c_cache_key_record(cache, kind, name, key, aad, &aad_len);
	if (r == 0 && data) {
		item = seal_put(cache, key, aad, aad_len, data, len);
		if (item && enqueue(cache, item, 0)) {
			item = NULL;
			return true;
		}
		free(item);
	}
	if (data)
		S3C_CACHE_COUNT(cache, dropped, 1);
	item = r == 0 ? item_new(S3C_CACHE_PUT, key, 0, 0) : NULL;
	if (item && enqueue(cache, item, cache->tuning.queue_max)) {
		item = NULL;
		return !data;
	}
	s3c_cache_records_lost(cache);
	return false;
}

int s3c_cache_queued(struct s3c_cache *cache, const uint8_t key[static S3C_CACHE_KEYED],
		     uint8_t **ret_value, size_t *ret_len)
{
	struct s3c_cache_item *item = NULL;
	uint8_t *copy = NULL;
	size_t len = 0;
	int r = -ENOENT;

	s3c_mutex_lock(&cache->lock);
	HASH_FIND(hh, cache->records, key, S3C_CACHE_KEYED, item);
	if (item) {
		len = item->len;
		copy = malloc(len + 1);
		if (copy && len)
			memcpy(copy, item->value, len);
		r = 0;
	}
	s3c_mutex_unlock(&cache->lock);
	if (r == 0) {
		*ret_value = copy;
		*ret_len = copy ? len : 0; /* no memory: as if there were none */
	}
	return r;
}

void s3c_cache_take_locked(struct s3c_cache *cache, struct s3c_cache_items *ret_items)
{
	uint64_t bytes = 0;
	struct s3c_cache_item *item;

	s3c_mutex_assert_held(&cache->lock);
	STAILQ_INIT(ret_items);
	while ((item = STAILQ_FIRST(&cache->queue)) && bytes < cache->txn_max) {
		STAILQ_REMOVE_HEAD(&cache->queue, link);
		STAILQ_INSERT_TAIL(ret_items, item, link);
		bytes += cost(item);
	}
}

void s3c_cache_settle_locked(struct s3c_cache *cache, struct s3c_cache_items *items)
{
	struct s3c_cache_item *item;

	s3c_mutex_assert_held(&cache->lock);
	while ((item = STAILQ_FIRST(items))) {
		STAILQ_REMOVE_HEAD(items, link);
		if (item->what == S3C_CACHE_PUT && item->hh.tbl)
			HASH_DEL(cache->records, item);
		cache->queued -= cost(item);
		cache->settled++;
		free(item);
	}
	if (cache->flushing)
		s3c_waitq_wake_all(&cache->done);
}

void s3c_cache_flush(struct s3c_cache *cache)
{
	uint64_t upto, turn;

	s3c_mutex_lock(&cache->lock);
	upto = cache->given;
	turn = cache->turn + 1; /* one that begins from now on: what was touched counts as well */
	cache->flushing++;
	s3c_waitq_wake_all(&cache->work);
	while (cache->writer_started && (cache->settled < upto || cache->turned < turn))
		s3c_waitq_wait(&cache->done, &cache->lock, NULL);
	cache->flushing--;
	s3c_mutex_unlock(&cache->lock);
}
