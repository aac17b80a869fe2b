/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "db/journal_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

#define APPLICATION_ID 0x73336366 /* "s3cf" */

/*
 * Step N brings a database of version N to N + 1; PRAGMA user_version holds the version. A step
 * that has been released is never changed. Generations are 8 bytes, big-endian, which sort as
 * numbers do and have no sign.
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
};

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

/* "ok" or the first complaint of PRAGMA quick_check. */
static int quick_check(sqlite3 *db, const char *path, struct s3c_err *err)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
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
		r = quick_check(db, path, err);
		if (r < 0)
			return r;
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
	return 0;
}
