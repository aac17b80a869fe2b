/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Records out of the database. Who reads takes an idle connection, or opens one, and gives it back;
 * after an error of the database it is closed instead.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "db/journal_private.h"

struct s3c_reader {
	struct s3c_reader *next;
	sqlite3 *db;
	sqlite3_stmt *get, *salt;
	struct s3c_gcm *gcm; /* of the session that was read last */
	int64_t session;
};

static void reader_free(struct s3c_reader *reader)
{
	sqlite3_finalize(reader->get);
	sqlite3_finalize(reader->salt);
	sqlite3_close(reader->db);
	s3c_gcm_free(reader->gcm);
	free(reader);
}

void s3c_readers_free(struct s3c_journal *journal)
{
	while (journal->readers) {
		struct s3c_reader *reader = journal->readers;

		journal->readers = reader->next;
		reader_free(reader);
	}
}

static int reader_take(struct s3c_journal *journal, struct s3c_reader **ret_reader)
{
	struct s3c_err err = { 0 };
	struct s3c_reader *reader;
	int r;

	s3c_mutex_lock(&journal->spare_lock);
	reader = journal->readers;
	if (reader) {
		journal->readers = reader->next;
		journal->reader_count--;
	}
	s3c_mutex_unlock(&journal->spare_lock);
	if (!reader) {
		reader = calloc(1, sizeof(*reader));
		if (!reader)
			return -ENOMEM;
		r = s3c_db_connect(journal->path, S3C_DB_READER, &err, &reader->db);
		if (r < 0) {
			s3c_error("%s", s3c_err_text(&err, r));
			free(reader);
			return r;
		}
	}
	*ret_reader = reader;
	return 0;
}

/* good: the connection is worth keeping. */
static void reader_give(struct s3c_journal *journal, struct s3c_reader *reader, bool good)
{
	s3c_mutex_lock(&journal->spare_lock);
	if (good && journal->reader_count < S3C_SPARES) {
		reader->next = journal->readers;
		journal->readers = reader;
		journal->reader_count++;
		reader = NULL;
	}
	s3c_mutex_unlock(&journal->spare_lock);
	if (reader)
		reader_free(reader);
}

static int failed(struct s3c_reader *reader, int rc)
{
	s3c_error("journal: cannot be read: %s", sqlite3_errmsg(reader->db));
	return s3c_db_errno(rc);
}

/* -EBADMSG: there is no such session. */
static int use_session(struct s3c_journal *journal, struct s3c_reader *reader, int64_t session)
{
	struct s3c_gcm *gcm = NULL;
	int rc, r = -EBADMSG;

	if (reader->gcm && reader->session == session)
		return 0;
	rc = s3c_db_cached(reader->db, &reader->salt, "SELECT salt FROM session WHERE number = ?");
	if (rc != SQLITE_OK)
		return failed(reader, rc);
	sqlite3_bind_int64(reader->salt, 1, session);
	rc = sqlite3_step(reader->salt);
	if (rc == SQLITE_ROW && sqlite3_column_bytes(reader->salt, 0) == S3C_SALT_LEN)
		r = s3c_unseal_context(journal, sqlite3_column_blob(reader->salt, 0), &gcm);
	else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = failed(reader, rc);
	sqlite3_reset(reader->salt);
	if (r < 0)
		return r;
	s3c_gcm_free(reader->gcm);
	reader->gcm = gcm;
	reader->session = session;
	return 0;
}

/* Columns at, at + 1, ...: session, len, value. ret_data takes size bytes. */
static int open_row(struct s3c_journal *journal, struct s3c_reader *reader, sqlite3_stmt *stmt,
		    int at, const uint64_t key[static 3], void *ret_data, size_t size,
		    size_t *ret_len)
{
	int64_t session = sqlite3_column_int64(stmt, at), len = sqlite3_column_int64(stmt, at + 1);
	const uint8_t *value = sqlite3_column_blob(stmt, at + 2);
	int have = sqlite3_column_bytes(stmt, at + 2), r;

	if (len < 0 || len > (int64_t)S3C_RECORD_MAX || !value || have != len + S3C_SEALED_MORE)
		r = value || sqlite3_errcode(reader->db) != SQLITE_NOMEM ? -EBADMSG : -ENOMEM;
	else
		r = use_session(journal, reader, session);
	if (r == 0 && (size_t)len > size)
		return -EMSGSIZE;
	if (r == 0)
		r = s3c_unseal(reader->gcm, (uint32_t)key[0], key[1], key[2], value, (size_t)len,
			       ret_data);
	if (r == 0)
		*ret_len = (size_t)len;
	else if (r == -EBADMSG)
		s3c_error("journal: record %llu/%llu/%llu is damaged", (unsigned long long)key[0],
			  (unsigned long long)key[1], (unsigned long long)key[2]);
	return r;
}

static bool keeps_connection(int r)
{
	return r >= 0 || r == -ENOENT || r == -EBADMSG || r == -EMSGSIZE;
}

int s3c_record_get(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub,
		   void *ret_data, size_t size, size_t *ret_len)
{
	const uint64_t key[3] = { kind, id, sub };
	struct s3c_reader *reader;
	int rc, r;

	if (journal->nothing)
		return -ENOENT;
	if (!journal->unlocked)
		return -ENOKEY;
	r = reader_take(journal, &reader);
	if (r < 0)
		return r;
	rc = s3c_db_cached(reader->db, &reader->get,
			   "SELECT session, len, value FROM record "
			   "WHERE kind = ? AND id = ? AND sub = ?");
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(reader->get, 1, kind);
		sqlite3_bind_int64(reader->get, 2, s3c_db_from_u64(id));
		sqlite3_bind_int64(reader->get, 3, s3c_db_from_u64(sub));
		rc = sqlite3_step(reader->get);
	}
	if (rc == SQLITE_ROW)
		r = open_row(journal, reader, reader->get, 0, key, ret_data, size, ret_len);
	else
		r = rc == SQLITE_DONE ? -ENOENT : failed(reader, rc);
	sqlite3_reset(reader->get); /* ends the read transaction */
	reader_give(journal, reader, keeps_connection(r));
	return r;
}

int s3c_record_each(struct s3c_journal *journal, uint32_t kind, s3c_record_fn fn, void *arg)
{
	cleanup_free uint8_t *data = NULL;
	sqlite3_stmt *stmt = NULL;
	struct s3c_reader *reader;
	int rc, r;

	if (journal->nothing)
		return 0;
	if (!journal->unlocked)
		return -ENOKEY;
	data = malloc(S3C_RECORD_MAX);
	if (!data)
		return -ENOMEM;
	r = reader_take(journal, &reader);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(reader->db,
				"SELECT id, sub, session, len, value FROM record "
				"WHERE kind = ? ORDER BY id, sub",
				-1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, kind);
		rc = sqlite3_step(stmt);
	}
	for (; rc == SQLITE_ROW && r == 0; rc = r ? rc : sqlite3_step(stmt)) {
		const uint64_t key[3] = { kind, s3c_db_to_u64(sqlite3_column_int64(stmt, 0)),
					  s3c_db_to_u64(sqlite3_column_int64(stmt, 1)) };
		size_t len = 0;

		r = open_row(journal, reader, stmt, 2, key, data, S3C_RECORD_MAX, &len);
		if (r == 0 || r == -EBADMSG)
			r = fn(arg, key[1], key[2], r, r ? NULL : data, len);
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = failed(reader, rc);
	sqlite3_finalize(stmt);
	reader_give(journal, reader, rc == SQLITE_ROW || rc == SQLITE_DONE);
	return r;
}

int s3c_record_subs(struct s3c_journal *journal, uint32_t kind, uint64_t id,
		    int (*fn)(void *arg, uint64_t sub, size_t len), void *arg)
{
	sqlite3_stmt *stmt = NULL;
	struct s3c_reader *reader;
	int rc, r;

	if (journal->nothing)
		return 0;
	r = reader_take(journal, &reader);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(reader->db,
				"SELECT sub, len FROM record WHERE kind = ? AND id = ? "
				"ORDER BY sub",
				-1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, kind);
		sqlite3_bind_int64(stmt, 2, s3c_db_from_u64(id));
		rc = sqlite3_step(stmt);
	}
	for (; rc == SQLITE_ROW && r == 0; rc = r ? rc : sqlite3_step(stmt))
		r = fn(arg, s3c_db_to_u64(sqlite3_column_int64(stmt, 0)),
		       (size_t)sqlite3_column_int64(stmt, 1));
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = failed(reader, rc);
	sqlite3_finalize(stmt);
	reader_give(journal, reader, rc == SQLITE_ROW || rc == SQLITE_DONE);
	return r;
}

int s3c_record_ids(struct s3c_journal *journal, uint32_t kind, int (*fn)(void *arg, uint64_t id),
		   void *arg)
{
	sqlite3_stmt *stmt = NULL;
	struct s3c_reader *reader;
	int rc, r;

	if (journal->nothing)
		return 0;
	r = reader_take(journal, &reader);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(reader->db, "SELECT DISTINCT id FROM record WHERE kind = ?", -1,
				&stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, kind);
		rc = sqlite3_step(stmt);
	}
	for (; rc == SQLITE_ROW && r == 0; rc = r ? rc : sqlite3_step(stmt))
		r = fn(arg, s3c_db_to_u64(sqlite3_column_int64(stmt, 0)));
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = failed(reader, rc);
	sqlite3_finalize(stmt);
	reader_give(journal, reader, rc == SQLITE_ROW || rc == SQLITE_DONE);
	return r;
}

int s3c_journal_pending(struct s3c_journal *journal, uint64_t *ret_records, uint64_t *ret_bytes)
{
	sqlite3_stmt *stmt = NULL;
	struct s3c_reader *reader;
	int rc, r;

	if (journal->nothing) {
		*ret_records = *ret_bytes = 0;
		return 0;
	}
	r = reader_take(journal, &reader);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(reader->db, "SELECT count(*), sum(len) FROM record", -1, &stmt,
				NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		*ret_records = (uint64_t)sqlite3_column_int64(stmt, 0);
		*ret_bytes = (uint64_t)sqlite3_column_int64(stmt, 1);
	} else {
		r = failed(reader, rc);
	}
	sqlite3_finalize(stmt);
	reader_give(journal, reader, rc == SQLITE_ROW);
	return r;
}
