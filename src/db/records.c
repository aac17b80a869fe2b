/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "db/records.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "db/journal_private.h"

int s3c_tx_new(struct s3c_journal *journal, struct s3c_tx **ret_tx)
{
	struct s3c_tx *tx;

	if (journal->readonly)
		return -EROFS;
	if (!journal->subkey)
		return -ENOKEY;
	tx = calloc(1, sizeof(*tx));
	if (!tx)
		return -ENOMEM;
	tx->journal = journal;
	STAILQ_INIT(&tx->ops);
	*ret_tx = tx;
	return 0;
}

void s3c_tx_free(struct s3c_tx *tx)
{
	struct s3c_tx_op *op;

	if (!tx)
		return;
	while ((op = STAILQ_FIRST(&tx->ops))) {
		STAILQ_REMOVE_HEAD(&tx->ops, link);
		free(op);
	}
	free(tx);
}

static int add_delete(struct s3c_tx *tx, enum s3c_tx_what what, uint32_t kind, uint64_t id,
		      uint64_t sub)
{
	struct s3c_tx_op *op = malloc(sizeof(*op));

	if (!op)
		return -ENOMEM;
	*op = (struct s3c_tx_op){ .what = what, .kind = kind, .id = id, .sub = sub };
	STAILQ_INSERT_TAIL(&tx->ops, op, link);
	return 0;
}

int s3c_tx_put(struct s3c_tx *tx, uint32_t kind, uint64_t id, uint64_t sub, const void *data,
	       size_t len)
{
	cleanup_free struct s3c_tx_op *op = NULL;
	int r;

	if (len > S3C_RECORD_MAX)
		return -EMSGSIZE;
	op = malloc(sizeof(*op) + len + S3C_SEALED_MORE);
	if (!op)
		return -ENOMEM;
	*op = (struct s3c_tx_op){
		.what = S3C_TX_PUT, .kind = kind, .id = id, .sub = sub, .len = (uint32_t)len
	};
	r = s3c_seal(tx->journal, kind, id, sub, data, len, op->value);
	if (r < 0)
		return r;
	STAILQ_INSERT_TAIL(&tx->ops, op, link);
	op = NULL;
	tx->puts++;
	tx->bytes += len;
	return 0;
}

int s3c_tx_delete(struct s3c_tx *tx, uint32_t kind, uint64_t id, uint64_t sub)
{
	return add_delete(tx, S3C_TX_DELETE, kind, id, sub);
}

int s3c_tx_delete_from(struct s3c_tx *tx, uint32_t kind, uint64_t id, uint64_t from)
{
	return add_delete(tx, S3C_TX_DELETE_FROM, kind, id, from);
}

uint64_t s3c_tx_bytes(const struct s3c_tx *tx)
{
	return tx->bytes;
}

void s3c_tx_vital(struct s3c_tx *tx)
{
	tx->vital = true;
}

void s3c_tx_submit(struct s3c_tx *tx, enum s3c_tx_mode mode, s3c_tx_done_fn done, void *arg)
{
	tx->mode = mode;
	tx->done = done;
	tx->arg = arg;
	s3c_writer_submit(tx->journal, tx);
}

int s3c_tx_commit(struct s3c_tx *tx, enum s3c_tx_mode mode)
{
	tx->mode = mode;
	return s3c_writer_commit(tx->journal, tx);
}

int s3c_journal_sync(struct s3c_journal *journal)
{
	struct s3c_tx *tx;
	int r;

	if (journal->readonly)
		return 0;
	r = s3c_tx_new(journal, &tx);
	return r < 0 ? r : s3c_tx_commit(tx, S3C_TX_SYNC);
}

void s3c_record_stats(struct s3c_journal *journal, struct s3c_record_stats *ret_stats)
{
	s3c_mutex_lock(&journal->lock);
	*ret_stats = (struct s3c_record_stats){
		.records = journal->records + journal->queued_records,
		.bytes = journal->bytes + journal->queued_bytes,
		.limit = journal->limit,
		.commits = journal->commits,
		.syncs = journal->syncs,
		.last_error = journal->last_error,
	};
	s3c_mutex_unlock(&journal->lock);
}

int s3c_record_room(struct s3c_journal *journal, struct s3c_op *op, uint64_t bytes)
{
	int r = 0;

	s3c_mutex_lock(&journal->lock);
	while (r == 0) {
		uint64_t used = journal->bytes + journal->queued_bytes;

		if (bytes > journal->limit || journal->full)
			r = -ENOSPC;
		else if (used <= journal->limit && bytes <= journal->limit - used)
			break;
		else
			r = s3c_waitq_wait(&journal->room, &journal->lock, op);
	}
	s3c_mutex_unlock(&journal->lock);
	return r;
}

static void bind_key(sqlite3_stmt *stmt, int at, const struct s3c_tx_op *op)
{
	sqlite3_bind_int64(stmt, at, op->kind);
	sqlite3_bind_int64(stmt, at + 1, s3c_db_from_u64(op->id));
	sqlite3_bind_int64(stmt, at + 2, s3c_db_from_u64(op->sub));
}

/* The row of a record and the length of its value; SQLITE_DONE: none. */
static int find(struct s3c_journal *journal, const struct s3c_tx_op *op, int64_t *ret_row,
		int64_t *ret_len)
{
	sqlite3_stmt **stmt = &journal->stmt.find;
	int rc = s3c_db_cached(journal->batch, stmt,
			       "SELECT rowid, len FROM record "
			       "WHERE kind = ? AND id = ? AND sub = ?");

	if (rc != SQLITE_OK)
		return rc;
	bind_key(*stmt, 1, op);
	rc = sqlite3_step(*stmt);
	if (rc == SQLITE_ROW) {
		*ret_row = sqlite3_column_int64(*stmt, 0);
		*ret_len = sqlite3_column_int64(*stmt, 1);
	}
	sqlite3_reset(*stmt);
	return rc;
}

static int apply_put(struct s3c_journal *journal, struct s3c_tx *tx, const struct s3c_tx_op *op)
{
	int64_t row = 0, len = 0;
	int found = find(journal, op, &row, &len), rc;
	sqlite3_stmt **stmt;

	if (found == SQLITE_ROW) {
		stmt = &journal->stmt.update;
		rc = s3c_db_cached(
			journal->batch, stmt,
			"UPDATE record SET session = ?, len = ?, value = ? WHERE rowid = ?");
	} else if (found == SQLITE_DONE) {
		stmt = &journal->stmt.insert;
		rc = s3c_db_cached(journal->batch, stmt,
				   "INSERT INTO record (session, len, value, kind, id, sub) "
				   "VALUES (?, ?, ?, ?, ?, ?)");
	} else {
		return found;
	}
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_int64(*stmt, 1, journal->session);
	sqlite3_bind_int64(*stmt, 2, op->len);
	sqlite3_bind_blob(*stmt, 3, op->value, (int)(op->len + S3C_SEALED_MORE), SQLITE_STATIC);
	if (found == SQLITE_ROW)
		sqlite3_bind_int64(*stmt, 4, row);
	else
		bind_key(*stmt, 4, op);
	tx->more_records += found == SQLITE_DONE;
	tx->more_bytes += (int64_t)op->len - len;
	return s3c_db_run(*stmt);
}

static int apply_delete(struct s3c_journal *journal, struct s3c_tx *tx, const struct s3c_tx_op *op)
{
	sqlite3_stmt **stmt = &journal->stmt.delete_one;
	int64_t row, len;
	int rc = find(journal, op, &row, &len);

	if (rc != SQLITE_ROW)
		return rc == SQLITE_DONE ? SQLITE_OK : rc;
	rc = s3c_db_cached(journal->batch, stmt, "DELETE FROM record WHERE rowid = ?");
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_int64(*stmt, 1, row);
	tx->more_records--;
	tx->more_bytes -= len;
	return s3c_db_run(*stmt);
}

static int apply_delete_from(struct s3c_journal *journal, struct s3c_tx *tx,
			     const struct s3c_tx_op *op)
{
	sqlite3_stmt **count = &journal->stmt.count_from, **stmt = &journal->stmt.delete_from;
	int64_t records, bytes;
	int rc = s3c_db_cached(journal->batch, count,
			       "SELECT count(*), sum(len) FROM record "
			       "WHERE kind = ? AND id = ? AND sub >= ?");

	if (rc == SQLITE_OK)
		rc = s3c_db_cached(journal->batch, stmt,
				   "DELETE FROM record WHERE kind = ? AND id = ? AND sub >= ?");
	if (rc != SQLITE_OK)
		return rc;
	bind_key(*count, 1, op);
	rc = sqlite3_step(*count);
	records = rc == SQLITE_ROW ? sqlite3_column_int64(*count, 0) : 0;
	bytes = rc == SQLITE_ROW ? sqlite3_column_int64(*count, 1) : 0;
	sqlite3_reset(*count);
	if (rc != SQLITE_ROW || records == 0)
		return rc == SQLITE_ROW ? SQLITE_OK : rc;
	bind_key(*stmt, 1, op);
	tx->more_records -= records;
	tx->more_bytes -= bytes;
	return s3c_db_run(*stmt);
}

int s3c_tx_apply(struct s3c_journal *journal, struct s3c_tx *tx)
{
	struct s3c_tx_op *op;
	int rc = SQLITE_OK;

	tx->more_records = tx->more_bytes = 0;
	STAILQ_FOREACH (op, &tx->ops, link) {
		switch (op->what) {
		case S3C_TX_PUT:
			rc = apply_put(journal, tx, op);
			break;
		case S3C_TX_DELETE:
			rc = apply_delete(journal, tx, op);
			break;
		case S3C_TX_DELETE_FROM:
			rc = apply_delete_from(journal, tx, op);
			break;
		}
		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}
