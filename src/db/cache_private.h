/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the cache share.
 *
 *	cache.c         opening, lock, states, readers
 *	cache_db.c      the database's file, schema and key
 *	cache_key.c     derived keys, sealing
 *	cache_read.c    chunks and records out of it
 *	cache_queue.c   what waits to be written
 *	cache_write.c   the thread that writes
 *	cache_space.c   the limit: eviction, WAL
 *
 * Contents of the database:
 *
 *	meta	how the cache key is kept
 *	state	tick, epoch, chunks: written with every batch
 *	session	a random salt for every opening: HKDF(cache key, salt) seals what is written in it
 *	run	32 chunks of one content: which of them are there, and when it was used
 *	chunk	id = run * 32 + place; the sealed bytes
 *	record	attributes, listings
 *
 *	sealed	= be32 session, be64 counter, ciphertext, tag(16)
 *	nonce	= 0x00000000, be64 counter
 *
 * A counter is given once in an opening, and each opening has a salt of its own: no nonce comes
 * twice under a key.
 *
 * Locks, from the outside in: lock, pool_lock, touch_lock. Nothing waits for the disk with one of
 * them held.
 */
#pragma once

#include <sqlite3.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/crypto.h"
#include "base/thread.h"
#include "db/cache.h"

#define S3C_CACHE_RUN 32u /* chunks; bits of run.have */
#define S3C_CACHE_KEYED 24
#define S3C_CACHE_AAD_MAX 64
#define S3C_CACHE_HEAD 12
#define S3C_CACHE_SEALED_MORE (S3C_CACHE_HEAD + S3C_TAG_LEN)
#define S3C_CACHE_RECORD_MAX (1u << 20)
#define S3C_CACHE_WRAPPED_LEN (32 + S3C_KEY_LEN + S3C_TAG_LEN) /* salt, ciphertext, tag */
#define S3C_CACHE_SALT_LEN 32
#define S3C_CACHE_SPARES 32 /* connections and contexts that are kept */
/* Ticks start here: all of them have the same length in a row, which then is changed in place. */
#define S3C_CACHE_TICK0 (INT64_C(1) << 40)

/* For measurements and tests; 0 stands for what s3c_cache_open takes. */
struct s3c_cache_tuning {
	unsigned page_size; /* of a new database */
	int64_t mmap_size;  /* of readers */
	bool sync;          /* synchronous=NORMAL */
	int64_t retry_ns;   /* after a full disk */
	uint64_t queue_max; /* bytes that may wait */
};
int s3c_cache_open_tuned(const struct s3c_cache_config *config,
			 const struct s3c_cache_tuning *tuning, struct s3c_err *err,
			 struct s3c_cache **ret_cache);

/* The table is in cache.c. */
enum s3c_cache_state { S3C_CACHE_OFF, S3C_CACHE_ON, S3C_CACHE_FULL, S3C_CACHE_BROKEN };

/* What an error of SQLite means here. */
enum s3c_cache_fault {
	S3C_CACHE_PASSING, /* memory, a busy database: nothing to be done */
	S3C_CACHE_SPACE,   /* it cannot be written now */
	S3C_CACHE_DAMAGE   /* begin anew */
};

enum s3c_cache_what { S3C_CACHE_WRITE, S3C_CACHE_DROP, S3C_CACHE_FORGET, S3C_CACHE_PUT };

struct s3c_cache_item {
	STAILQ_ENTRY(s3c_cache_item) link;
	UT_hash_handle hh; /* put: in records */
	enum s3c_cache_what what;
	uint8_t key[S3C_CACHE_KEYED]; /* of content (16 bytes) or record */
	uint64_t chunk;
	uint32_t len;    /* of value; 0 with S3C_CACHE_PUT: deletes */
	uint8_t value[]; /* sealed */
};
STAILQ_HEAD(s3c_cache_items, s3c_cache_item);

enum s3c_cache_sql {
	S3C_CACHE_BEGIN,
	S3C_CACHE_COMMIT,
	S3C_CACHE_ROLLBACK,
	S3C_CACHE_SAVE,
	S3C_CACHE_PAGES,
	S3C_CACHE_FREE,
	S3C_CACHE_RUN_FIND,
	S3C_CACHE_RUN_ADD,
	S3C_CACHE_RUN_SET,
	S3C_CACHE_RUN_TOUCH,
	S3C_CACHE_RUN_FORGET,
	S3C_CACHE_RUN_OLDEST,
	S3C_CACHE_RUN_DELETE,
	S3C_CACHE_CHUNK_ADD,
	S3C_CACHE_CHUNK_DELETE,
	S3C_CACHE_CHUNK_SWEEP,
	S3C_CACHE_RECORD_SET,
	S3C_CACHE_RECORD_DELETE,
	S3C_CACHE_RECORD_TOUCH,
	S3C_CACHE_RECORD_OLDEST,
	S3C_CACHE_RECORD_EVICT,
	S3C_CACHE_STATEMENTS
};

struct s3c_cache_reader {
	SLIST_ENTRY(s3c_cache_reader) link;
	sqlite3 *db;
	sqlite3_stmt *begin, *end, *run, *chunks, *record, *salt;
	struct {
		uint32_t session; /* 0: none */
		struct s3c_gcm *gcm;
	} context[4];
	unsigned next; /* context that is replaced */
};

#define S3C_CACHE_TOUCHES 1024 /* places; a power of two */

struct s3c_cache {
	char *dir, *path;
	uint64_t size;
	enum s3c_cache_key kind;
	struct s3c_cache_tuning tuning;
	pthread_t writer;
	bool writer_started;
	uint64_t wal_max, txn_max, cache_max; /* bytes; constant */
	int state; /* enum s3c_cache_state; atomic; changed with lock held */

	/* Set before the state is ON for the first time, constant from then on. */
	uint8_t *key, *index_key, *subkey; /* secret memory */
	uint8_t salt[S3C_CACHE_SALT_LEN];
	uint32_t session;
	uint8_t wrapped[S3C_CACHE_WRAPPED_LEN]; /* with S3C_CACHE_KEY_WRAPPED */

	uint64_t counter; /* of the last nonce; atomic */
	uint64_t epoch;   /* of records; atomic: those of others are not found */
	int64_t tick;     /* of the last batch; atomic, changed by the writer */

	/* The writer's alone, and s3c_cache_open's before there is one. */
	uint8_t *wrap_key; /* secret memory, until there is a key */
	int lock_fd;       /* -1: not locked yet */
	int sync_fd;       /* the database's file, for syncs */
	bool suspect;      /* it was not closed, and the machine has been started since */
	sqlite3 *db;
	sqlite3_stmt *stmt[S3C_CACHE_STATEMENTS];
	uint64_t page_size, max_pages, pages_cap, chunks, saved_epoch;
	uint64_t wal_bytes; /* in the WAL after the last commit */
	uint64_t unsynced;  /* bytes since write-out was started */
	int64_t anew_ns, cap_ns;
	bool warned; /* that it cannot be written */

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_cache_items queue;
	struct s3c_cache_item *records; /* newest put of each key, queued or being written */
	uint64_t queued;                /* bytes */
	uint64_t given, settled;        /* items */
	uint64_t turn, turned;          /* of the writer: begun, ended */
	int64_t due_ns;                 /* when a small queue is written; INT64_MAX: nothing */
	int64_t retry_ns;               /* OFF, FULL: tried again then */
	unsigned flushing;
	bool stop;
	struct s3c_waitq work, done;

	struct s3c_mutex pool_lock; /* guards what follows */
	SLIST_HEAD(, s3c_cache_reader) readers;
	struct s3c_gcm *sealers[S3C_CACHE_SPARES];
	unsigned reader_count, sealer_count;
	unsigned active; /* readers at work */
	bool shut;       /* none begins */
	struct s3c_waitq gate, empty;

	struct s3c_mutex touch_lock;        /* guards what follows */
	int64_t touches[S3C_CACHE_TOUCHES]; /* 2 * run, 2 * record + 1; 0: none */
	unsigned touch_count;

	/* Atomic. */
	uint64_t chunks_shown, hits, misses, inserts, dropped, evicted, damaged;
};

#define S3C_CACHE_COUNT(cache, what, n)                                                            \
	__atomic_fetch_add(&(cache)->what, (uint64_t)(n), __ATOMIC_RELAXED)

static inline enum s3c_cache_state s3c_cache_state(const struct s3c_cache *cache)
{
	return (enum s3c_cache_state)__atomic_load_n(&cache->state, __ATOMIC_ACQUIRE);
}

/* The database was seen to be damaged: no reads from it, the writer begins another. */
void s3c_cache_broken(struct s3c_cache *cache, const char *why);
/* A connection for the calling thread; NULL: there is nothing to be read. */
struct s3c_cache_reader *s3c_cache_reader_get(struct s3c_cache *cache);
/* rc: what SQLite said last; damage is dealt with. */
void s3c_cache_reader_put(struct s3c_cache *cache, struct s3c_cache_reader *reader, int rc);
/* No reader is at work between these. */
void s3c_cache_shut(struct s3c_cache *cache);
void s3c_cache_unshut(struct s3c_cache *cache);
/* Shut. Closes the connections that are kept. */
void s3c_cache_readers_free(struct s3c_cache *cache);
void s3c_cache_touch(struct s3c_cache *cache, int64_t id, bool record, int64_t used);

/*
 * Opens, makes or replaces the database; all of the writer's own is set. -EKEYREJECTED, -EBUSY with
 * sentence; other errors: it cannot be had now.
 */
int s3c_cache_db_open(struct s3c_cache *cache, struct s3c_err *err);
/* Closes; keep: synced and marked as whole; else its files are removed. */
void s3c_cache_db_close(struct s3c_cache *cache, bool keep);
enum s3c_cache_fault s3c_cache_db_fault(sqlite3 *db, int rc);
/* Runs what was bound, to be used again; SQLITE_OK for SQLITE_DONE. */
int s3c_cache_run(struct s3c_cache *cache, enum s3c_cache_sql which);
/* The next row: SQLITE_ROW, SQLITE_DONE; reset it afterwards. */
sqlite3_stmt *s3c_cache_stmt(struct s3c_cache *cache, enum s3c_cache_sql which);
int s3c_cache_db_prepare_reader(struct s3c_cache *cache, struct s3c_cache_reader **ret_reader);
void s3c_cache_reader_free(struct s3c_cache_reader *reader);

/* Cache key -> keys in use. The session's salt is drawn. */
int s3c_cache_key_set(struct s3c_cache *cache, const uint8_t key[static S3C_KEY_LEN]);
int s3c_cache_key_check(const uint8_t key[static S3C_KEY_LEN],
			uint8_t ret_check[static S3C_SHA256_LEN]);
int s3c_cache_key_wrap(const uint8_t wrap_key[static S3C_KEY_LEN],
		       const uint8_t key[static S3C_KEY_LEN],
		       uint8_t ret_wrapped[static S3C_CACHE_WRAPPED_LEN]);
/* -EBADMSG: another key. */
int s3c_cache_key_unwrap(const uint8_t wrap_key[static S3C_KEY_LEN],
			 const uint8_t wrapped[static S3C_CACHE_WRAPPED_LEN],
			 uint8_t ret_key[static S3C_KEY_LEN]);
int s3c_cache_key_content(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
			  uint8_t ret_key[static S3C_CACHE_KEYED]);
/* aad: of S3C_CACHE_AAD_MAX bytes. */
int s3c_cache_key_record(struct s3c_cache *cache, enum s3c_cache_kind kind, const char *name,
			 uint8_t ret_key[static S3C_CACHE_KEYED], uint8_t *ret_aad,
			 size_t *ret_aad_len);
size_t s3c_cache_aad_chunk(const uint8_t id[static S3C_CACHE_ID_LEN], uint64_t chunk, uint32_t len,
			   uint8_t ret_aad[static S3C_CACHE_AAD_MAX]);
/* ret_value: len + S3C_CACHE_SEALED_MORE bytes. */
int s3c_cache_seal(struct s3c_cache *cache, const void *aad, size_t aad_len, const void *data,
		   size_t len, uint8_t *ret_value);
/* With the key of this opening, for what is still queued. */
int s3c_cache_unseal(struct s3c_cache *cache, const void *aad, size_t aad_len, const uint8_t *value,
		     size_t len, void *ret_data);
/* len: of the value. -EBADMSG; -ESTALE: of an opening that is forgotten. */
int s3c_cache_unseal_stored(struct s3c_cache *cache, struct s3c_cache_reader *reader,
			    const void *aad, size_t aad_len, const uint8_t *value, size_t len,
			    void *ret_data);
void s3c_cache_keys_free(struct s3c_cache *cache);

/* Records that are in the database may be of yesterday: none of them is found any more. */
void s3c_cache_records_lost(struct s3c_cache *cache);
/* A chunk that is no good; queued. */
void s3c_cache_drop(struct s3c_cache *cache, const uint8_t key[static S3C_CACHE_KEYED],
		    uint64_t chunk);
/* A copy of the newest queued value, to be freed: 0 (len 0: deleted) or -ENOENT. */
int s3c_cache_queued(struct s3c_cache *cache, const uint8_t key[static S3C_CACHE_KEYED],
		     uint8_t **ret_value, size_t *ret_len);
/* Takes about a transaction's worth of the queue. */
void s3c_cache_take_locked(struct s3c_cache *cache, struct s3c_cache_items *ret_items);
/* They are in the database, or will never be; frees them. */
void s3c_cache_settle_locked(struct s3c_cache *cache, struct s3c_cache_items *items);
void *s3c_cache_writer_main(void *arg);

/* With another database: its part of the limit. */
void s3c_cache_space_plan(struct s3c_cache *cache, uint64_t page_size);
unsigned s3c_cache_space_page_size(uint64_t size);
#define S3C_CACHE_SIZE_MIN (4u << 20)
/* Before a transaction: the WAL has room for it. SQLite's result. */
int s3c_cache_space_wal(struct s3c_cache *cache);
/* Evicts until there is room for a transaction. SQLITE_FULL: there is nothing left to evict. */
int s3c_cache_space_room(struct s3c_cache *cache);
/* Has the transaction become as large as one may be? */
bool s3c_cache_space_spent(struct s3c_cache *cache);
/* A write found no space: less is used from now on. ret_own: it was the limit, not the disk. */
void s3c_cache_space_full(struct s3c_cache *cache, bool *ret_own);
/* After a commit. */
int s3c_cache_space_checkpoint(struct s3c_cache *cache);
/* Commits with the state row; rolls back on failure. */
int s3c_cache_commit(struct s3c_cache *cache);
