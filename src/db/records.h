/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The durable half of journal.db: sealed records, and transactions of them.
 *
 * A record is a value under (kind, id, sub). What it means is the engine's affair (engine/log.h);
 * here it is bytes, sealed by AES-256-GCM under the journal's key with kind, id and sub as AAD, so
 * that the file tells nothing of names or content and no record can take the place of another.
 *
 * A transaction is put together in memory by one thread and then given to the writer thread, which
 * applies all that are queued, in the order in which they were given, in one SQLite transaction:
 * group commit. Either all of a transaction is in the database after a crash, or nothing of it, and
 * nothing of those given after it.
 *
 *	S3C_TX_LAZY	done when SQLite has committed: survives kill -9 and, from the next sync of
 *			anything on, a power cut
 *	S3C_TX_SYNC	done when the disk has it (synchronous=FULL), with all that was given before
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/thread.h"
#include "db/journal.h"

#define S3C_RECORD_MAX (1u << 20) /* bytes of a value */

enum s3c_journal_key {
	S3C_JOURNAL_KEY_WRAPPED, /* random, in the database, wrapped by wrap_key */
	S3C_JOURNAL_KEY_FILE     /* random, in state_dir/journal.key, 0600 */
};
/*
 * Before anything below. Makes the key with the first use of the folder. size: bytes of records at
 * most (journal_size). -EKEYREJECTED: the records were made under another key: nothing is changed,
 * and the sentence says so.
 */
int s3c_journal_unlock(struct s3c_journal *journal, enum s3c_journal_key key,
		       const uint8_t *wrap_key, uint64_t size, struct s3c_err *err);
/* Are there records? Needs no key. For what must not be forgotten (another key, ctl). */
int s3c_journal_pending(struct s3c_journal *journal, uint64_t *ret_records, uint64_t *ret_bytes);

struct s3c_tx;
enum s3c_tx_mode { S3C_TX_LAZY, S3C_TX_SYNC };

int s3c_tx_new(struct s3c_journal *journal, struct s3c_tx **ret_tx);
/* Seals a copy now, on the calling thread. Replaces what is there. */
int s3c_tx_put(struct s3c_tx *tx, uint32_t kind, uint64_t id, uint64_t sub, const void *data,
	       size_t len);
int s3c_tx_delete(struct s3c_tx *tx, uint32_t kind, uint64_t id, uint64_t sub);
/* All subs from `from` on. */
int s3c_tx_delete_from(struct s3c_tx *tx, uint32_t kind, uint64_t id, uint64_t from);
uint64_t s3c_tx_bytes(const struct s3c_tx *tx); /* of what it puts */
/* Small, and needed for the backlog to go down (an upload under way): the limit does not hold for
   it, and on a full disk it may use what is kept back for deletes. */
void s3c_tx_vital(struct s3c_tx *tx);
/* Of one that was not given. NULL is legal. */
void s3c_tx_free(struct s3c_tx *tx);
/*
 * Gives it to the writer and takes it over in any case. done is called once, from the writer's
 * thread, without locks: 0, -ENOSPC (the disk or the limit), -EIO. done must not wait. Transactions
 * given by one thread, or under one lock, are applied in that order. A transaction that only
 * deletes is refused for space only when there is none for anything (others have taken the reserve
 * too) and it is vital, or is waited for by s3c_tx_commit, or the journal is closed; else it is
 * tried until there is.
 */
typedef void (*s3c_tx_done_fn)(void *arg, int result);
void s3c_tx_submit(struct s3c_tx *tx, enum s3c_tx_mode mode, s3c_tx_done_fn done, void *arg);
/* The same, waiting. Not interrupted: what is being acknowledged is certain. */
int s3c_tx_commit(struct s3c_tx *tx, enum s3c_tx_mode mode);
/* All that was given before is on the disk. */
int s3c_journal_sync(struct s3c_journal *journal);

/* One record into a buffer of the caller: -ENOENT, -EBADMSG (damaged: logged), -EMSGSIZE. What was
   given but not applied yet is not seen. From any thread, with a connection of its own. */
int s3c_record_get(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub,
		   void *ret_data, size_t size, size_t *ret_len);
/* All of a kind in the order of (id, sub); a damaged one: result -EBADMSG, data NULL. fn returns
   not 0 to end; that is returned. Not from fn: other calls of this file. */
typedef int (*s3c_record_fn)(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
			     size_t len);
int s3c_record_each(struct s3c_journal *journal, uint32_t kind, s3c_record_fn fn, void *arg);
/* Subs (not values) of one id, ascending. */
int s3c_record_subs(struct s3c_journal *journal, uint32_t kind, uint64_t id,
		    int (*fn)(void *arg, uint64_t sub, size_t len), void *arg);

/* Ids of a kind, each once. */
int s3c_record_ids(struct s3c_journal *journal, uint32_t kind, int (*fn)(void *arg, uint64_t id),
		   void *arg);

struct s3c_record_stats {
	uint64_t records, bytes, limit; /* with what was given and not applied */
	uint64_t commits, syncs;
	int last_error; /* of the last transaction */
};
void s3c_record_stats(struct s3c_journal *journal, struct s3c_record_stats *ret_stats);
/* Waits until there is room for bytes more, or op ends. -ENOSPC: larger than the limit. */
int s3c_record_room(struct s3c_journal *journal, struct s3c_op *op, uint64_t bytes);
