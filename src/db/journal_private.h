/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What journal.c and schema.c share. */
#pragma once

#include <sqlite3.h>

#include "base/err.h"

/* errno for a result of SQLite; logs nothing. */
int s3c_db_errno(int rc);
/*
 * Checks that the database is ours and whole, and brings its schema to this version. path: for the
 * sentence. -EMEDIUMTYPE: another program's; -EUCLEAN: damaged; -EPROTO: of a newer version.
 */
int s3c_db_prepare(sqlite3 *db, const char *path, struct s3c_err *err);
/* Only looks: for a database that another process writes. */
int s3c_db_check(sqlite3 *db, const char *path, struct s3c_err *err);
