/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "db/journal_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

#define APPLICATION_ID 0x73336366 /* "s3cf" */

/*
 * Step N brings a database of version N to N + 1; PRAGMA user_version holds the version. A step
 * that has been released is never changed. Generations are 8 bytes, big-endian, which sort as
 * numbers do and have no sign.
 *
 * Records: kind, id and sub have no sign either and are moved by 2^63, so that their order is
 * that of the numbers. The index holds all that is asked without the value, which is up to
 * 1 MiB: counting and listing touch nothing else. There is one row for (kind, id, sub): the one
 * thread that writes sees to it.
 *
 *	journal_key  kept 1: value = salt(32) ciphertext(32) tag(16), wrapped by a key from outside
 *	             kept 2: value = a check (32) of the key in state_dir/journal.key
 *	session      one opening that sealed records: its subkey = HKDF(journal key, salt)
 *	record       value = counter(8, big-endian) ciphertext(len) tag(16): AES-256-GCM under the
 *	             subkey of the session, nonce = 0(4) counter(8), AAD = kind(4) id(8) sub(8)
 *	touch        what is written where there is nothing else to be synced
 */
static const char *const migrations[] = {
	"CREATE TABLE pin ("
	" source TEXT PRIMARY KEY,"
	" volume_id BLOB NOT NULL CHECK (length(volume_id) = 16),"
	" serial INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE caps ("
	" source TEXT NOT NULL,"
	" mode TEXT NOT NULL,"
	" checked_at INTEGER NOT NULL," /* seconds since 1970 */
	" bits INTEGER NOT NULL,"
	" PRIMARY KEY (source, mode)) WITHOUT ROWID;"
	"CREATE TABLE generation ("
	" source TEXT NOT NULL,"
	" key TEXT NOT NULL,"
	" generation BLOB NOT NULL CHECK (length(generation) = 8),"
	" deleted INTEGER NOT NULL,"
	" PRIMARY KEY (source, key)) WITHOUT ROWID;",

	"CREATE TABLE journal_key ("
	" one INTEGER PRIMARY KEY CHECK (one = 1),"
	" kept INTEGER NOT NULL,"
	" value BLOB NOT NULL);"
	"CREATE TABLE session ("
	" number INTEGER PRIMARY KEY AUTOINCREMENT,"
	" salt BLOB NOT NULL CHECK (length(salt) = 32));"
	"CREATE TABLE record ("
	" kind INTEGER NOT NULL,"
	" id INTEGER NOT NULL,"
	" sub INTEGER NOT NULL,"
	" session INTEGER NOT NULL,"
	" len INTEGER NOT NULL,"
	" value BLOB NOT NULL);"
	"CREATE INDEX record_key ON record (kind, id, sub, session, len);"
	"CREATE TABLE touch (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL);"
	"INSERT INTO touch VALUES (1, 0);",

	/* Keys were kept as they are; from here on as hashes. */
	"PRAGMA secure_delete = ON; DELETE FROM generation; PRAGMA secure_delete = OFF;",
};

#define WHOLE_MAX (64 << 20)   /* a larger file is not looked through at each opening */
#define VACUUM_MAX (256 << 20) /* a larger one keeps its form */

int s3c_db_error(sqlite3 *db, int rc)
{
	int e;

	if ((rc & 0xff) != SQLITE_IOERR)
		return s3c_db_errno(rc);
	e = sqlite3_system_errno(db);
	return e == ENOSPC || e == EDQUOT || rc == SQLITE_IOERR_SHMSIZE ? -ENOSPC : -EIO;
}

int s3c_db_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	default:
		return -EIO;
	}
}

static int explain(sqlite3 *db, int rc, const char *path, struct s3c_err *err)
{
	int r = s3c_db_errno(rc);

	if (r == -EUCLEAN)
		return s3c_err_set(err, r,
				   "journal %s is damaged (%s): it knows which volume and versions "
				   "were seen here; move it away to start without that knowledge",
				   path, sqlite3_errmsg(db));
	return s3c_err_set(err, r, "journal %s cannot be used: %s", path, sqlite3_errmsg(db));
}

static int query_number(sqlite3 *db, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		*ret_number = sqlite3_column_int64(stmt, 0);
		rc = SQLITE_OK;
	} else if (rc == SQLITE_DONE) {
		rc = SQLITE_CORRUPT;
	}
	sqlite3_finalize(stmt);
	return rc;
}

/* "ok" or the first complaint of a check. */
static int check(sqlite3 *db, const char *sql, const char *path, struct s3c_err *err)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	const char *text;
	int r = 0;

	if (rc != SQLITE_OK)
		return explain(db, rc, path, err);
	rc = sqlite3_step(stmt);
	text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
	if (rc != SQLITE_ROW)
		r = explain(db, rc, path, err);
	else if (!text || strcmp(text, "ok"))
		r = s3c_err_set(
			err, -EUCLEAN,
			"journal %s is damaged (%s): it knows which volume and versions were "
			"seen here; move it away to start without that knowledge",
			path, text ? text : "no answer");
	sqlite3_finalize(stmt);
	return r;
}

/*
 * A backlog of many GiB is not read at each opening: its records tell damage by themselves when
 * they are read. The tables beside them have nothing of that kind.
 */
static int quick_check(sqlite3 *db, int64_t version, const char *path, struct s3c_err *err)
{
	static const char *const tables[] = {
		"PRAGMA quick_check('pin')",        "PRAGMA quick_check('caps')",
		"PRAGMA quick_check('generation')", "PRAGMA quick_check('journal_key')",
		"PRAGMA quick_check('session')",
	};
	int64_t pages = 0, size = 0;
	int rc = query_number(db, "PRAGMA page_count", &pages);
	int r = 0;

	if (rc == SQLITE_OK)
		rc = query_number(db, "PRAGMA page_size", &size);
	if (rc != SQLITE_OK)
		return explain(db, rc, path, err);
	if (version < 2 || pages <= WHOLE_MAX / size)
		return check(db, "PRAGMA quick_check(1)", path, err);
	for (size_t i = 0; i < ARRAY_LEN(tables) && r == 0; i++)
		r = check(db, tables[i], path, err);
	return r;
}

/*
 * Pages that are free can be given back without rewriting the file only if it was made for that.
 * One that was not (schema 1) is rewritten, once; where that fails it never shrinks, that is all.
 */
static void make_shrinkable(sqlite3 *db)
{
	int64_t mode = 0, pages = 0, size = 0;

	if (query_number(db, "PRAGMA auto_vacuum", &mode) != SQLITE_OK || mode == 2 ||
	    query_number(db, "PRAGMA page_count", &pages) != SQLITE_OK ||
	    query_number(db, "PRAGMA page_size", &size) != SQLITE_OK || pages > VACUUM_MAX / size)
		return;
	if (sqlite3_exec(db, "PRAGMA auto_vacuum = INCREMENTAL; VACUUM", NULL, NULL, NULL) !=
	    SQLITE_OK)
		s3c_info("journal: the file cannot be rewritten and keeps its size: %s",
			 sqlite3_errmsg(db));
}

/* Which version; 0 for a database without any table. */
static int identify(sqlite3 *db, const char *path, struct s3c_err *err, int64_t *ret_version)
{
	int64_t application = 0, version = 0, tables = 0;
	int rc = query_number(db, "PRAGMA application_id", &application);

	if (rc == SQLITE_OK)
		rc = query_number(db, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK)
		rc = query_number(db, "SELECT count(*) FROM sqlite_master", &tables);
	if (rc != SQLITE_OK)
		return explain(db, rc, path, err);
	if (tables == 0 && application == 0 && version == 0) {
		*ret_version = 0;
		return 0;
	}
	if (application != APPLICATION_ID)
		return s3c_err_set(err, -EMEDIUMTYPE,
				   "%s is a database of another program: give another state_dir",
				   path);
	if (version > (int64_t)ARRAY_LEN(migrations))
		return s3c_err_set(
			err, -EPROTO,
			"journal %s was written by a newer version (schema %lld, this one "
			"knows %zu): use that version",
			path, (long long)version, ARRAY_LEN(migrations));
	*ret_version = version;
	return 0;
}

int s3c_db_check(sqlite3 *db, const char *path, struct s3c_err *err)
{
	int64_t version;
	int r = identify(db, path, err, &version);

	if (r < 0)
		return r;
	if (version != (int64_t)ARRAY_LEN(migrations))
		return s3c_err_set(
			err, -EPROTO,
			"journal %s has schema %lld, this version needs %zu: mount once to "
			"bring it up to date",
			path, (long long)version, ARRAY_LEN(migrations));
	return 0;
}

int s3c_db_prepare(sqlite3 *db, const char *path, struct s3c_err *err)
{
	int64_t version;
	int rc, r;

	r = identify(db, path, err, &version);
	if (r < 0)
		return r;
	if (version) {
		r = quick_check(db, version, path, err);
		if (r < 0)
			return r;
	} else if (sqlite3_exec(db, "PRAGMA auto_vacuum = INCREMENTAL", NULL, NULL, NULL) !=
		   SQLITE_OK) {
		return explain(db, sqlite3_errcode(db), path, err);
	}
	while (version < (int64_t)ARRAY_LEN(migrations)) {
		char stamp[96];

		snprintf(stamp, sizeof(stamp),
			 "PRAGMA application_id = %d; PRAGMA user_version = %lld; COMMIT;",
			 APPLICATION_ID, (long long)version + 1);
		rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, migrations[version], NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, stamp, NULL, NULL, NULL);
		if (rc != SQLITE_OK) {
			r = explain(db, rc, path, err);
			sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
			return r;
		}
		version++;
	}
	make_shrinkable(db);
	return 0;
}
