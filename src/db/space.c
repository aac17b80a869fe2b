/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The journal's room on the disk.
 *
 * Checkpoints are made by whoever writes, after the transactions were answered: SQLite would make
 * them within a commit. A checkpoint syncs the WAL, then the database; only then does the WAL begin
 * anew, in the blocks that it has. A checkpoint that cannot grow the database is a dead end, then:
 * the WAL cannot begin anew, and has to grow for every delete. So what is put must never be more
 * than the database can take (s3c_space_fits).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "db/journal_private.h"

/*
 * A checkpoint on a full disk may have to grow the database by all that is in the WAL, and the
 * reserve has to be enough for that. Afterwards deletes write into the WAL's own blocks.
 */
#define RESERVE_MAX (32ull << 20)
#define RESERVE_SHARE 8        /* of a small file system at most one part of so many */
#define CHECKPOINT_FRAMES 2000 /* of 4 KiB, when nothing is queued; twice as many otherwise */
#define FRAME_LEN 4096
#define PROBE_NS (2 * S3C_NSEC_PER_SEC)
#define SHRINK_STEP "PRAGMA incremental_vacuum(512)"
#define SHRINK_STEP_FULL "PRAGMA incremental_vacuum(64)" /* it takes room in the WAL first */
#define WAL_KEPT_MAX (16u << 20)
#define FRAME_HEAD 24
#define PAGE_USED 4000 /* bytes of a value in a page, less than there are */
#define PUT_PAGES 3    /* of a record beside its value: table, index, the last page */
#define BATCH_PAGES 64 /* of a transaction: splits, pointer maps, lists of free pages, notes */
#define FREE_KEPT 256  /* pages that stay free in an empty journal */
#define FREE_MORE 4096 /* pages that may be free besides as many as are used */

static bool make_reserve(const char *dir, const char *path, uint64_t *ret_size)
{
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	uint64_t size = RESERVE_MAX, unit;
	struct statvfs fs;
	struct stat st;

	if (fd < 0 || statvfs(dir, &fs) < 0 || fstat(fd, &st) < 0)
		return false;
	unit = fs.f_frsize;
	size = S3C_MIN(size, fs.f_blocks * unit / RESERVE_SHARE);
	*ret_size = size;
	if ((uint64_t)st.st_size >= size && (uint64_t)st.st_blocks * 512 >= size)
		return true;
	if (fs.f_bavail * unit < 2 * size)
		return false;
	return posix_fallocate(fd, 0, (off_t)size) == 0;
}

bool s3c_space_reserve(struct s3c_journal *journal)
{
	cleanup_free char *path = s3c_asprintf("%s/journal.reserve", journal->dir);
	uint64_t size = RESERVE_MAX;
	char limit[64];
	bool made, was;
	int rc;

	/* What a crash left in the WAL counts too. */
	rc = s3c_space_checkpoint(journal);
	made = (rc == SQLITE_OK || rc == SQLITE_BUSY) && path &&
	       make_reserve(journal->dir, path, &size);
	if (path && !made)
		unlink(path);
	journal->checkpoint_frames = (int)(size / FRAME_LEN / 4);
	snprintf(limit, sizeof(limit), "PRAGMA journal_size_limit = %u",
		 (unsigned)S3C_MIN(size, WAL_KEPT_MAX));
	sqlite3_exec(journal->batch, limit, NULL, NULL, NULL);
	s3c_mutex_lock(&journal->lock);
	was = journal->full;
	journal->full = !made;
	journal->probe_ns = s3c_clock_monotonic_ns() + PROBE_NS;
	s3c_waitq_wake_all(&journal->room);
	s3c_mutex_unlock(&journal->lock);
	if (was != !made) {
		if (made)
			s3c_warn("journal: the disk of %s has room again", journal->dir);
		else
			s3c_error("journal: the disk of %s is full: no more changes are accepted "
				  "for later upload",
				  journal->dir);
	}
	return made;
}

bool s3c_space_release(struct s3c_journal *journal)
{
	cleanup_free char *path = s3c_asprintf("%s/journal.reserve", journal->dir);
	bool was;

	s3c_mutex_lock(&journal->lock);
	was = journal->full;
	journal->full = true;
	journal->probe_ns = s3c_clock_monotonic_ns() + PROBE_NS;
	s3c_waitq_wake_all(&journal->room);
	s3c_mutex_unlock(&journal->lock);
	if (was)
		return false;
	s3c_error("journal: the disk of %s is full: no more changes are accepted for later upload",
		  journal->dir);
	if (path)
		unlink(path);
	return true;
}

static int checkpoint(struct s3c_journal *journal)
{
	int frames = 0, done = 0;
	int rc = sqlite3_wal_checkpoint_v2(journal->batch, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames,
					   &done);

	if (rc == SQLITE_OK) {
		journal->wal_frames = frames;
		journal->wal_done = done;
		journal->wal_tried = 0;
		if (frames == done)
			journal->unsynced = false;
	}
	return rc;
}

int s3c_space_checkpoint(struct s3c_journal *journal)
{
	int rc = checkpoint(journal);

	if (rc != SQLITE_OK && s3c_db_error(journal->batch, rc) == -ENOSPC &&
	    s3c_space_release(journal))
		rc = checkpoint(journal);
	if (rc != SQLITE_OK && rc != SQLITE_BUSY) {
		if (!journal->wal_tried)
			s3c_error("journal: checkpoint failed: %s", sqlite3_errmsg(journal->batch));
		if (rc == SQLITE_IOERR_FSYNC)
			journal->suspect = true;
		journal->wal_tried = S3C_MAX(journal->wal_frames, 1); /* not for each batch */
	}
	return rc;
}

static int query(sqlite3 *db, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return s3c_db_errno(rc);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_number = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? 0 : -EIO;
}

static uint64_t pages_of(uint64_t puts, uint64_t bytes)
{
	return bytes / PAGE_USED + puts * PUT_PAGES + BATCH_PAGES;
}

static uint64_t frames_behind(const struct s3c_journal *journal)
{
	return (uint64_t)(journal->wal_frames - journal->wal_done);
}

bool s3c_space_ample(const struct s3c_journal *journal, uint64_t puts, uint64_t bytes)
{
	/* Of the reserve, which is four times checkpoint_frames. */
	return frames_behind(journal) + pages_of(puts, bytes) <=
	       3 * (uint64_t)journal->checkpoint_frames;
}

static uint64_t size_of(const char *path, const char *end)
{
	cleanup_free char *name = s3c_asprintf("%s%s", path, end);
	struct stat st;

	return name && stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static bool is_free(struct s3c_journal *journal, uint64_t pages)
{
	int64_t count, unused;
	uint64_t db, wal, db_has, wal_has, need = 0;
	struct statvfs fs;

	if (statvfs(journal->dir, &fs) < 0 ||
	    query(journal->batch, "PRAGMA page_count", &count) < 0 ||
	    query(journal->batch, "PRAGMA freelist_count", &unused) < 0)
		return false;
	db_has = size_of(journal->path, "");
	wal_has = size_of(journal->path, "-wal");
	db = ((uint64_t)count + pages - S3C_MIN(pages, (uint64_t)unused)) * FRAME_LEN;
	wal = frames_behind(journal) ? (uint64_t)journal->wal_frames : 0; /* or it begins anew */
	wal = (wal + pages) * (FRAME_LEN + FRAME_HEAD);
	need += db > db_has ? db - db_has : 0;
	need += wal > wal_has ? wal - wal_has : 0;
	return need <= (uint64_t)fs.f_bavail * fs.f_frsize;
}

bool s3c_space_fits(struct s3c_journal *journal, uint64_t puts, uint64_t bytes)
{
	uint64_t pages = pages_of(puts, bytes);

	if (s3c_space_ample(journal, puts, bytes) || is_free(journal, pages))
		return true;
	if (!frames_behind(journal) || s3c_space_checkpoint(journal) != SQLITE_OK || journal->full)
		return false;
	return s3c_space_ample(journal, puts, bytes) || is_free(journal, pages);
}

/* Gives some pages back to the file system; true: there are more. */
static bool shrink(struct s3c_journal *journal)
{
	int64_t unused = 0, pages = 0, before;
	bool empty, full;

	s3c_mutex_lock(&journal->lock);
	full = journal->full;
	empty = journal->records + journal->queued_records == 0;
	s3c_mutex_unlock(&journal->lock);
	if (query(journal->batch, "PRAGMA freelist_count", &unused) < 0 ||
	    query(journal->batch, "PRAGMA page_count", &pages) < 0)
		return false;
	if (unused <= FREE_KEPT || (!empty && !full && unused < pages - unused + FREE_MORE))
		return false;
	before = unused;
	if (s3c_writer_synchronous(journal, false) != SQLITE_OK ||
	    sqlite3_exec(journal->batch, full ? SHRINK_STEP_FULL : SHRINK_STEP, NULL, NULL, NULL) !=
		    SQLITE_OK ||
	    query(journal->batch, "PRAGMA freelist_count", &unused) < 0 || unused >= before) {
		s3c_space_checkpoint(journal);
		return false;
	}
	journal->unsynced = true;
	if (full || unused <= FREE_KEPT)
		s3c_space_checkpoint(journal); /* cuts the file */
	return unused > FREE_KEPT;
}

static bool wal_is_due(const struct s3c_journal *journal, bool idle)
{
	int due = CHECKPOINT_FRAMES;

	if (journal->checkpoint_frames)
		due = S3C_MIN(due, journal->checkpoint_frames);
	return journal->wal_frames - S3C_MAX(journal->wal_done, journal->wal_tried) >=
	       (idle ? due : 2 * due);
}

bool s3c_space_untidy(const struct s3c_journal *journal)
{
	return wal_is_due(journal, true);
}

void s3c_space_tidy(struct s3c_journal *journal, bool idle)
{
	int64_t now = s3c_clock_monotonic_ns();
	bool more = false;

	if (wal_is_due(journal, idle))
		s3c_space_checkpoint(journal);
	if (journal->full && now >= journal->probe_ns && !s3c_space_reserve(journal))
		journal->freed = true; /* what is unused may be what is missing */
	if (idle && journal->freed && now >= journal->shrink_ns)
		more = journal->freed = shrink(journal);
	if (more) {
		s3c_mutex_lock(&journal->lock);
		journal->tidy = true;
		s3c_mutex_unlock(&journal->lock);
	}
}
