/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the journal share.
 *
 *	journal.c       opening, lock, pins, caps
 *	schema.c        the database's version
 *	generations.c   the notes: generations that were seen
 *	records.c       transactions up to the queue
 *	records_read.c  records out of the database
 *	records_key.c   the key, sessions, sealing
 *	writer.c        the thread that writes
 *	space.c         the reserve, checkpoints, giving space back
 */
#pragma once

#include <sqlite3.h>
#include <sys/queue.h>

#include "base/crypto.h"
#include "base/thread.h"
#include "db/records.h"

/* errno for a result of SQLite; logs nothing. */
int s3c_db_errno(int rc);
/* The same for what just failed on db: a full disk that SQLite calls an I/O error is told apart. */
int s3c_db_error(sqlite3 *db, int rc);
/*
 * Checks that the database is ours and whole, and brings its schema to this version. path: for the
 * sentence. -EMEDIUMTYPE: another program's; -EUCLEAN: damaged; -EPROTO: of a newer version.
 */
int s3c_db_prepare(sqlite3 *db, const char *path, struct s3c_err *err);
/* Only looks: for a database that another process writes. */
int s3c_db_check(sqlite3 *db, const char *path, struct s3c_err *err);
/* Opens, with pragmas. err may be NULL. */
int s3c_db_connect(const char *path, const char *pragmas, struct s3c_err *err, sqlite3 **ret_db);
#define S3C_DB_READER                                                                              \
	"PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "        \
	"PRAGMA cache_size = -512"
#define S3C_DB_WRITER                                                                              \
	"PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "   \
	"PRAGMA secure_delete = OFF; PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 0; "   \
	"PRAGMA journal_size_limit = 16777216"
/* Prepares; a failure is logged. */
int s3c_db_statement(sqlite3 *db, const char *sql, sqlite3_stmt **ret_stmt);
/* Prepares into *stmt unless that was done; runs what was bound, to be used again. SQLite's
   results; s3c_db_run gives SQLITE_OK for SQLITE_DONE. */
int s3c_db_cached(sqlite3 *db, sqlite3_stmt **stmt, const char *sql);
int s3c_db_run(sqlite3_stmt *stmt);
/* Numbers have no sign, SQLite's have: moved, so that their order stays. */
static inline int64_t s3c_db_from_u64(uint64_t v)
{
	return (int64_t)(v ^ (UINT64_C(1) << 63));
}
static inline uint64_t s3c_db_to_u64(int64_t v)
{
	return (uint64_t)v ^ (UINT64_C(1) << 63);
}

struct s3c_note;
struct s3c_reader;

struct s3c_notes {
	struct s3c_note *pending;
	struct s3c_note *writing; /* changed by the writer only, with the journal's lock held */
	int64_t due_ns;           /* pending ones are written then; not before, after a failure */
	uint64_t noted;           /* notes so far */
	uint64_t written;         /* of these: in the database */
	uint64_t covers;          /* what written becomes with the batch under way */
	uint64_t failures;        /* batches that failed */
	int failure;              /* of the last that did */
	unsigned flushing;        /* callers that wait for written */
	bool dropped;             /* some were, and that was said */
};

enum s3c_tx_what { S3C_TX_PUT, S3C_TX_DELETE, S3C_TX_DELETE_FROM };
/* AES-256-GCM: the counter is the nonce's end. */
#define S3C_SEALED_MORE (8 + S3C_TAG_LEN)

struct s3c_tx_op {
	STAILQ_ENTRY(s3c_tx_op) link;
	enum s3c_tx_what what;
	uint32_t kind;
	uint64_t id, sub;
	uint32_t len;    /* of the value, not sealed */
	uint8_t value[]; /* put: be64 counter, ciphertext, tag */
};

STAILQ_HEAD(s3c_tx_list, s3c_tx);

/* One thread that waits for a transaction. It has a lock of its own: those that a batch wakes
   would queue up at the journal's. */
struct s3c_tx_wait {
	struct s3c_mutex lock;
	struct s3c_waitq q;
	bool over;
	int result;
};

struct s3c_tx {
	STAILQ_ENTRY(s3c_tx) link;
	struct s3c_journal *journal;
	STAILQ_HEAD(, s3c_tx_op) ops;
	uint64_t puts, bytes; /* of what it puts */
	bool vital;
	bool counted; /* in queued_records and queued_bytes */
	enum s3c_tx_mode mode;
	int result;
	s3c_tx_done_fn done;
	void *arg;
	struct s3c_tx_wait *wait;         /* s3c_tx_commit: instead of done */
	int64_t more_records, more_bytes; /* what it changed, of the last attempt */
};

#define S3C_SPARES 16 /* contexts and connections that are kept */

struct s3c_journal {
	char *dir, *path;
	int lock_fd; /* -1: read-only */
	bool readonly;
	bool nothing; /* read-only, and there is no database */
	char *source;
	uint8_t *name_key; /* secret memory; NULL: source was not said yet */
	pthread_t writer;
	bool writer_started;

	struct s3c_mutex db_lock; /* guards durable; never taken with lock held */
	sqlite3 *durable;
	sqlite3_stmt *get_generation; /* of durable; prepared once: every lookup asks */

	/* The writer's alone. */
	sqlite3 *batch;
	struct {
		sqlite3_stmt *begin, *commit, *note, *find, *insert, *update, *delete_one,
			*count_from, *delete_from, *touch;
	} stmt;
	bool sync_full;        /* synchronous is FULL now */
	bool unsynced;         /* something was committed that was not synced since */
	bool suspect;          /* a sync failed: what is in the WAL may not be on the disk */
	bool freed;            /* records were deleted since space was given back */
	int wal_frames;        /* in the WAL after the last commit */
	int wal_done;          /* of these: in the database too */
	int wal_tried;         /* wal_frames when a checkpoint failed; 0: it did not */
	int checkpoint_frames; /* at most so many, for the reserve to be enough; 0: there is none */
	int64_t shrink_ns;     /* with freed: not before */

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_notes notes;
	struct s3c_tx_list queue;
	bool stop;
	bool busy;       /* `batch` is in use: by the writer, or by a thread that commits alone */
	bool stuck;      /* the writer waits for space: nothing but guests */
	bool tidy;       /* there is something for s3c_space_tidy */
	unsigned guests; /* others that want to write, or do */
	bool unlocked;
	bool full;                             /* no reserve on the disk: puts are refused */
	int64_t probe_ns;                      /* then it is tried again */
	uint64_t records, bytes;               /* in the database */
	uint64_t queued_records, queued_bytes; /* of puts that were given and not applied */
	uint64_t limit;
	uint64_t commits, syncs;
	int last_error;
	struct s3c_waitq work, done, room;

	struct s3c_mutex spare_lock; /* guards what follows; innermost */
	struct s3c_gcm *sealers[S3C_SPARES];
	unsigned sealer_count;
	struct s3c_reader *readers; /* idle ones */
	unsigned reader_count;

	/* Set by unlock. */
	uint8_t *key;    /* of the journal; secret memory; NULL: none */
	uint8_t *subkey; /* of this session; likewise */
	int64_t session;
	uint64_t counter; /* next nonce; atomic */
};

/* Another thread than the writer's writes to the database: between these, and then synced. */
void s3c_writer_enter(struct s3c_journal *journal);
void s3c_writer_leave(struct s3c_journal *journal);
/* The connection and the thread; what is queued is written before it ends. */
int s3c_writer_start(struct s3c_journal *journal, struct s3c_err *err);
void s3c_writer_stop(struct s3c_journal *journal);
/* Queues it, with done or wait set; takes it over. */
void s3c_writer_submit(struct s3c_journal *journal, struct s3c_tx *tx);
/* Submits and waits, or commits it on this thread when nothing is under way. */
int s3c_writer_commit(struct s3c_journal *journal, struct s3c_tx *tx);
/* FULL from now on, or NORMAL; SQLite's result. */
int s3c_writer_synchronous(struct s3c_journal *journal, bool full);

/* Takes what is due (all: whatever there is) to be written with the batch; is there anything? */
bool s3c_notes_take_locked(struct s3c_journal *journal, bool all);
/* SQLite's result; within a transaction of the writer. */
int s3c_notes_apply(struct s3c_journal *journal);
/* The batch ended so; what could not be written waits for another. */
void s3c_notes_settle_locked(struct s3c_journal *journal, int result);
void s3c_notes_free(struct s3c_journal *journal);

/* SQLite's result; within a transaction of the writer. */
int s3c_tx_apply(struct s3c_journal *journal, struct s3c_tx *tx);
static inline bool s3c_tx_only_deletes(const struct s3c_tx *tx)
{
	return tx->puts == 0;
}

int s3c_seal(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub,
	     const void *data, size_t len, uint8_t *ret_value);
/* The context for what was sealed in a session with this salt. */
int s3c_unseal_context(struct s3c_journal *journal, const void *salt, struct s3c_gcm **ret_gcm);
#define S3C_SALT_LEN 32
/* value: len + S3C_SEALED_MORE bytes. */
int s3c_unseal(struct s3c_gcm *gcm, uint32_t kind, uint64_t id, uint64_t sub, const uint8_t *value,
	       size_t len, void *ret_data);
void s3c_readers_free(struct s3c_journal *journal);
void s3c_keys_free(struct s3c_journal *journal);

/*
 * The reserve: state_dir/journal.reserve, some MiB of nothing. It is given up when a delete does
 * not fit on a full disk (a delete needs some pages of WAL before it frees any); from then on puts
 * are refused until the reserve can be had again.
 */
/* Makes it, when the WAL is in the database and the disk has room for it and as much again; false:
   not. */
bool s3c_space_reserve(struct s3c_journal *journal);
/* From now on the disk counts as full. False: it did before. */
bool s3c_space_release(struct s3c_journal *journal);
/*
 * May so much be put? Yes, when the database could grow by this and by all that is in the WAL and
 * not in the database: with the reserve (that is ample), or with what is free now. May make a
 * checkpoint.
 */
bool s3c_space_fits(struct s3c_journal *journal, uint64_t puts, uint64_t bytes);
bool s3c_space_ample(const struct s3c_journal *journal, uint64_t puts, uint64_t bytes);
/* WAL into the database, as far as readers allow. SQLite's result. */
int s3c_space_checkpoint(struct s3c_journal *journal);
/* Is there enough to do for s3c_space_tidy? Whoever has the connection may ask. */
bool s3c_space_untidy(const struct s3c_journal *journal);
/* Between batches; idle: nothing is queued. */
void s3c_space_tidy(struct s3c_journal *journal, bool idle);
