/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * cache_dir/cache.db: copies of what the store confirmed, encrypted. Everything in it may be lost
 * at any time; nothing in it is ever believed that does not authenticate.
 *
 * Chunks of content are kept under a content id: what names one version of one object's content
 * for ever. Records (attributes, listings) are kept under a kind and a name. Names and ids go
 * through HMAC-SHA256 under a key derived from the cache key before they touch the database;
 * values are AES-256-GCM under another, with what they are filed under as AAD.
 *
 * Thread-safe. Reads go to the disk on the calling thread, with a connection of its own; writes
 * are sealed by the caller's thread, queued within a bound and written in batches by one thread:
 * a writer that is behind drops what comes, so that no reader ever waits for an insert.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define S3C_CACHE_CHUNK (64u << 10)
#define S3C_CACHE_ID_LEN 32 /* file id and content version id; or a hash of a plain version */

struct s3c_cache;

enum s3c_cache_key {
	S3C_CACHE_KEY_WRAPPED,  /* random, kept in the database, wrapped by wrap_key */
	S3C_CACHE_KEY_FILE,     /* random, in cache_dir/cache.key, 0600 */
	S3C_CACHE_KEY_EPHEMERAL /* random, in memory: what is found is dropped, what is left at
				   the end is of no use */
};
struct s3c_cache_config {
	const char *dir; /* made 0700 when it is missing */
	uint64_t size;   /* bytes of the database with its WAL at most */
	enum s3c_cache_key key;
	const uint8_t *wrap_key; /* 32 bytes, S3C_CACHE_KEY_WRAPPED only; borrowed for the call */
};
/*
 * -EBUSY: another daemon has the folder (with its pid). -EKEYREJECTED: it belongs to another key;
 * nothing was changed. A damaged database, one of another program, of a newer schema: put aside (or
 * dropped), a log line, and a new one is begun. A folder that cannot be used at all (full disk,
 * read-only): a warning, and a cache that holds nothing; it tries again later.
 */
int s3c_cache_open(const struct s3c_cache_config *config, struct s3c_err *err,
		   struct s3c_cache **ret_cache);
/* Writes what is queued, closes. NULL is legal. */
void s3c_cache_close(struct s3c_cache *cache);

/*
 * Chunks [first, first + count) of id, each to pages[i] (S3C_CACHE_CHUNK bytes) unless that is
 * NULL: not asked for, ret_have[i] is false. lens[i] is what the chunk must have; ret_have[i] says
 * whether it was there, authentic and of that length. A chunk that is not authentic is dropped,
 * with a log line. Returns how many were there.
 */
unsigned s3c_cache_read(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
			uint64_t first, unsigned count, const uint32_t *lens, uint8_t *const *pages,
			bool *ret_have);
/* Are all (or any) of the chunks there, as far as the index tells? Touches no content. */
unsigned s3c_cache_count(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
			 uint64_t first, unsigned count);
/* Copies and queues; false: dropped. What is there already is not written again. */
bool s3c_cache_write(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
		     uint64_t chunk, const void *data, uint32_t len);
/* The content is no longer anyone's: its chunks go first. Queued. */
void s3c_cache_forget(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN]);

enum s3c_cache_kind { S3C_CACHE_ENTRY = 1, S3C_CACHE_LISTING = 2 };
/* 0 with a copy that the caller frees, or -ENOENT. What is queued counts as written. */
int s3c_cache_get(struct s3c_cache *cache, enum s3c_cache_kind kind, const char *name,
		  uint8_t **ret_data, size_t *ret_len);
/* data NULL: deletes. Queued; put beats get in order of the calls. At most 1 MiB (less in a cache
   of less than 32 MiB); larger: false. False: not kept, and what was there before is not found any
   more either. */
bool s3c_cache_put(struct s3c_cache *cache, enum s3c_cache_kind kind, const char *name,
		   const void *data, size_t len);
/* Waits until what was queued before is in the database (or was dropped). For tests and ends. */
void s3c_cache_flush(struct s3c_cache *cache);

struct s3c_cache_stats {
	uint64_t bytes, limit; /* of database and WAL */
	uint64_t chunks;       /* estimate */
	uint64_t hits, misses, inserts, dropped, evicted, damaged;
};
void s3c_cache_stats(struct s3c_cache *cache, struct s3c_cache_stats *ret_stats);
