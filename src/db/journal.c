/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Connections to one database in WAL mode. `batch` belongs to the writer thread (writer.c), which
 * writes records and generations. `durable` (synchronous=FULL) answers reads and writes pins and
 * caps, while the writer is kept out. Readers of records have connections of their own.
 */
#include "db/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/journal_private.h"

#define BUSY_WAIT_MS 10000 /* another connection's transaction */

/* One statement: prepared, bound by the caller, run once, finished. */
static int run(sqlite3 *db, sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_finalize(stmt);
	if (rc == SQLITE_DONE || rc == SQLITE_ROW)
		return 0;
	s3c_error("journal: %s", sqlite3_errmsg(db));
	return s3c_db_errno(rc);
}

int s3c_db_statement(sqlite3 *db, const char *sql, sqlite3_stmt **ret_stmt)
{
	int rc = sqlite3_prepare_v2(db, sql, -1, ret_stmt, NULL);

	if (rc == SQLITE_OK)
		return 0;
	s3c_error("journal: %s", sqlite3_errmsg(db));
	return s3c_db_errno(rc);
}

int s3c_db_cached(sqlite3 *db, sqlite3_stmt **stmt, const char *sql)
{
	return *stmt ? SQLITE_OK
		     : sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
}

int s3c_db_run(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int read_holder(int fd, pid_t *ret_pid, char **ret_mountpoint)
{
	char text[4200], *line;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	uint64_t pid = 0;
	char *rest = text, *mountpoint;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	line = strsep(&rest, "\n");
	if (s3c_parse_u64(line, INT32_MAX, &pid) < 0)
		pid = 0;
	line = rest ? strsep(&rest, "\n") : NULL;
	mountpoint = strdup(line ? line : "");
	if (!mountpoint)
		return -ENOMEM;
	*ret_pid = (pid_t)pid;
	*ret_mountpoint = mountpoint;
	return 0;
}

int s3c_journal_holder(const char *state_dir, pid_t *ret_pid, char **ret_mountpoint)
{
	cleanup_free char *path = s3c_asprintf("%s/lock", state_dir);
	cleanup_close int fd = -1;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return read_holder(fd, ret_pid, ret_mountpoint);
}

static int write_holder(int fd, const char *mountpoint)
{
	cleanup_free char *text = s3c_asprintf("%ld\n%s\n", (long)getpid(), mountpoint);

	if (!text)
		return -ENOMEM;
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
		return -errno;
	return 0;
}

static int take_lock(const char *state_dir, struct s3c_err *err, int *ret_fd)
{
	cleanup_free char *path = s3c_asprintf("%s/lock", state_dir);
	cleanup_free char *mountpoint = NULL;
	cleanup_close int fd = -1;
	pid_t pid = 0;
	int r;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return s3c_err_set(err, -errno, "lock %s cannot be opened: %s", path,
				   strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return s3c_err_set(err, -errno, "lock %s cannot be taken: %s", path,
					   strerror(errno));
		if (read_holder(fd, &pid, &mountpoint) < 0)
			pid = 0;
		return s3c_err_set(
			err, -EBUSY,
			"state folder %s is in use by process %ld%s%s: unmount that first (it "
			"goes on while programs have files of it open), or give this mount a "
			"state_dir of its own",
			state_dir, (long)pid, mountpoint && mountpoint[0] ? " at " : "",
			mountpoint ? mountpoint : "");
	}
	r = write_holder(fd, "");
	if (r < 0)
		return s3c_err_set(err, r, "lock %s cannot be written: %s", path, strerror(-r));
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int s3c_journal_set_mountpoint(struct s3c_journal *journal, const char *mountpoint)
{
	return journal->lock_fd < 0 ? 0 : write_holder(journal->lock_fd, mountpoint);
}

/* The database's file is made before SQLite does, with the mode that its companions copy. */
static int make_file(const char *state_dir, const char *path, struct s3c_err *err)
{
	cleanup_close int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (dir < 0 || fd < 0)
		return s3c_err_set(err, -errno, "journal %s cannot be opened: %s", path,
				   strerror(errno));
	if (fsync(fd) < 0 || fsync(dir) < 0)
		return s3c_err_set(err, -errno, "journal %s cannot be synced: %s", path,
				   strerror(errno));
	return 0;
}

int s3c_db_connect(const char *path, const char *pragmas, struct s3c_err *err, sqlite3 **ret_db)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc == SQLITE_OK) {
		sqlite3_extended_result_codes(db, 1);
		rc = sqlite3_busy_timeout(db, BUSY_WAIT_MS);
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, pragmas, NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		int r = s3c_db_errno(rc);

		if (r == -EUCLEAN)
			s3c_err_set(
				err, r,
				"journal %s is damaged or no database (%s): it knows which volume "
				"and versions were seen here; move it away to start without that "
				"knowledge",
				path, db ? sqlite3_errmsg(db) : "no memory");
		else
			s3c_err_set(err, r, "journal %s cannot be opened: %s", path,
				    db ? sqlite3_errmsg(db) : "no memory");
		sqlite3_close(db);
		return r;
	}
	*ret_db = db;
	return 0;
}

static int journal_new(const char *state_dir, struct s3c_journal **ret_journal)
{
	struct s3c_journal *journal = calloc(1, sizeof(*journal));

	if (!journal)
		return -ENOMEM;
	journal->lock_fd = -1;
	s3c_mutex_init(&journal->db_lock);
	s3c_mutex_init(&journal->lock);
	s3c_mutex_init(&journal->spare_lock);
	s3c_waitq_init(&journal->work);
	s3c_waitq_init(&journal->done);
	s3c_waitq_init(&journal->room);
	STAILQ_INIT(&journal->queue);
	journal->unsynced = true; /* by the one before, that may have been killed */
	journal->dir = strdup(state_dir);
	journal->path = s3c_asprintf("%s/journal.db", state_dir);
	journal->source = strdup("");
	if (!journal->dir || !journal->path || !journal->source) {
		s3c_journal_close(journal);
		return -ENOMEM;
	}
	*ret_journal = journal;
	return 0;
}

static inline void journal_closep(struct s3c_journal **p)
{
	s3c_journal_close(*p);
}
#define cleanup_journal __attribute__((cleanup(journal_closep)))

int s3c_journal_open(const char *state_dir, struct s3c_err *err, struct s3c_journal **ret_journal)
{
	cleanup_journal struct s3c_journal *journal = NULL;
	int r;

	if (mkdir(state_dir, 0700) < 0 && errno != EEXIST)
		return s3c_err_set(err, -errno, "state folder %s cannot be made: %s", state_dir,
				   strerror(errno));
	r = journal_new(state_dir, &journal);
	if (r < 0)
		return r;
	r = take_lock(state_dir, err, &journal->lock_fd);
	if (r < 0)
		return r;
	r = make_file(state_dir, journal->path, err);
	if (r < 0)
		return r;
	/* A foreign database is told before its journal mode is changed. */
	r = s3c_db_connect(journal->path,
			   "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; "
			   "PRAGMA temp_store = MEMORY",
			   err, &journal->durable);
	if (r < 0)
		return r;
	r = s3c_db_prepare(journal->durable, journal->path, err);
	if (r < 0)
		return r;
	if (sqlite3_exec(journal->durable, "PRAGMA journal_mode = WAL", NULL, NULL, NULL) !=
	    SQLITE_OK)
		return s3c_err_set(err, -EIO, "journal %s cannot be switched to WAL: %s",
				   journal->path, sqlite3_errmsg(journal->durable));
	r = s3c_writer_start(journal, err);
	if (r < 0)
		return r;
	*ret_journal = steal_ptr(journal);
	return 0;
}

int s3c_journal_open_readonly(const char *state_dir, struct s3c_err *err,
			      struct s3c_journal **ret_journal)
{
	cleanup_journal struct s3c_journal *journal = NULL;
	struct stat st;
	int r;

	r = journal_new(state_dir, &journal);
	if (r < 0)
		return r;
	journal->readonly = true;
	if (stat(journal->path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		journal->nothing = true;
		r = s3c_db_connect(":memory:", "", err, &journal->durable);
		if (r == 0)
			r = s3c_db_prepare(journal->durable, journal->path, err);
	} else {
		/* Not SQLITE_OPEN_READONLY: reading a WAL needs its index, which is written. */
		r = s3c_db_connect(journal->path, S3C_DB_READER, err, &journal->durable);
		if (r == 0)
			r = s3c_db_check(journal->durable, journal->path, err);
	}
	if (r < 0)
		return r;
	*ret_journal = steal_ptr(journal);
	return 0;
}

int s3c_journal_use(struct s3c_journal *journal, const char *source, const uint8_t *name_key)
{
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	char *copy = strdup(source);

	if (!copy || !key) {
		free(copy);
		return -ENOMEM;
	}
	if (name_key)
		memcpy(key, name_key, S3C_KEY_LEN);
	s3c_mutex_lock(&journal->lock);
	free(journal->source);
	journal->source = copy;
	s3c_secret_free(journal->name_key);
	journal->name_key = steal_ptr(key);
	s3c_mutex_unlock(&journal->lock);
	return 0;
}

void s3c_journal_close(struct s3c_journal *journal)
{
	if (!journal)
		return;
	s3c_writer_stop(journal);
	s3c_notes_free(journal);
	s3c_readers_free(journal);
	s3c_keys_free(journal);
	sqlite3_finalize(journal->get_generation);
	sqlite3_close(journal->durable);
	if (journal->lock_fd >= 0)
		close(journal->lock_fd);
	s3c_mutex_destroy(&journal->spare_lock);
	s3c_mutex_destroy(&journal->lock);
	s3c_mutex_destroy(&journal->db_lock);
	free(journal->dir);
	free(journal->path);
	s3c_secret_free(journal->name_key);
	free(journal->source);
	free(journal);
}

int s3c_journal_pin_get(struct s3c_journal *journal, const char *source,
			uint8_t ret_id[static S3C_VOLUME_ID_LEN], uint64_t *ret_serial)
{
	sqlite3_stmt *stmt;
	int rc, r;

	s3c_mutex_lock(&journal->db_lock);
	r = s3c_db_statement(journal->durable, "SELECT volume_id, serial FROM pin WHERE source = ?",
			     &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, source, -1, SQLITE_STATIC);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW && sqlite3_column_bytes(stmt, 0) == S3C_VOLUME_ID_LEN) {
			memcpy(ret_id, sqlite3_column_blob(stmt, 0), S3C_VOLUME_ID_LEN);
			*ret_serial = (uint64_t)sqlite3_column_int64(stmt, 1);
		} else {
			r = rc == SQLITE_DONE  ? -ENOENT
			    : rc == SQLITE_ROW ? -EUCLEAN
					       : s3c_db_errno(rc);
		}
		sqlite3_finalize(stmt);
	}
	s3c_mutex_unlock(&journal->db_lock);
	return r;
}

int s3c_journal_pin_set(struct s3c_journal *journal, const char *source,
			const uint8_t id[static S3C_VOLUME_ID_LEN], uint64_t serial)
{
	sqlite3_stmt *stmt;
	int r;

	if (journal->readonly)
		return 0;
	if (serial > INT64_MAX)
		return -ERANGE;
	s3c_writer_enter(journal);
	s3c_mutex_lock(&journal->db_lock);
	r = s3c_db_statement(
		journal->durable,
		"INSERT OR REPLACE INTO pin (source, volume_id, serial) VALUES (?, ?, ?)", &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, source, -1, SQLITE_STATIC);
		sqlite3_bind_blob(stmt, 2, id, S3C_VOLUME_ID_LEN, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, (int64_t)serial);
		r = run(journal->durable, stmt);
	}
	s3c_mutex_unlock(&journal->db_lock);
	s3c_writer_leave(journal);
	return r;
}

#define CAP_PUT_IF_MATCH 1

/* The order of the bits is that of the database: append only. */
#define CAPS(X)                                                                                    \
	X(0, put_if_none_match)                                                                    \
	X(CAP_PUT_IF_MATCH, put_if_match)                                                          \
	X(2, complete_if_none_match)                                                               \
	X(3, complete_if_match)                                                                    \
	X(4, copy_source_if_match)                                                                 \
	X(5, part_copy_source_if_match)                                                            \
	X(6, delete_if_match)                                                                      \
	X(7, copy)                                                                                 \
	X(8, part_copy)                                                                            \
	X(9, crc32c)                                                                               \
	X(10, crc64nvme)                                                                           \
	X(11, copy_if_none_match)                                                                  \
	X(12, copy_if_match)                                                                       \
	X(13, part_copy_any_key)                                                                   \
	X(14, if_match_bare)

int s3c_journal_caps_get(struct s3c_journal *journal, const char *source, const char *mode,
			 int64_t max_age_s, struct s3c_store_caps *ret_caps)
{
	int64_t now = s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC, at = 0, bits = 0;
	sqlite3_stmt *stmt;
	int rc, r;

	s3c_mutex_lock(&journal->db_lock);
	r = s3c_db_statement(journal->durable,
			     "SELECT checked_at, bits FROM caps WHERE source = ? AND mode = ?",
			     &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, source, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, mode, -1, SQLITE_STATIC);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW) {
			at = sqlite3_column_int64(stmt, 0);
			bits = sqlite3_column_int64(stmt, 1);
		} else {
			r = rc == SQLITE_DONE ? -ENOENT : s3c_db_errno(rc);
		}
		sqlite3_finalize(stmt);
	}
	s3c_mutex_unlock(&journal->db_lock);
	if (r < 0)
		return r;
	if (at > now || now - at >= max_age_s) /* a clock that was set back counts as too old */
		return -ENOENT;
	memset(ret_caps, 0, sizeof(*ret_caps));
#define TAKE(bit, name) ret_caps->name = bits >> (bit)&1;
	CAPS(TAKE)
#undef TAKE
	ret_caps->put_if_match |= ret_caps->if_match_bare;
	return 0;
}

int s3c_journal_caps_set(struct s3c_journal *journal, const char *source, const char *mode,
			 const struct s3c_store_caps *caps)
{
	int64_t bits = 0;
	sqlite3_stmt *stmt;
	int r;

	if (journal->readonly)
		return 0;
#define GIVE(bit, name) bits |= (int64_t)caps->name << (bit);
	CAPS(GIVE)
#undef GIVE
	/* A program that knows nothing of bare ETags must not take quoted ones to be honoured. */
	if (caps->if_match_bare)
		bits &= ~((int64_t)1 << CAP_PUT_IF_MATCH);
	s3c_writer_enter(journal);
	s3c_mutex_lock(&journal->db_lock);
	r = s3c_db_statement(journal->durable,
			     "INSERT OR REPLACE INTO caps (source, mode, checked_at, bits) "
			     "VALUES (?, ?, ?, ?)",
			     &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, source, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, mode, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC);
		sqlite3_bind_int64(stmt, 4, bits);
		r = run(journal->durable, stmt);
	}
	s3c_mutex_unlock(&journal->db_lock);
	s3c_writer_leave(journal);
	return r;
}
