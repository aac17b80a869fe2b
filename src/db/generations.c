/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Generations that were seen. Losing the last of them in a power cut costs a warning about a
 * rollback, never data; so they gather, and are written without being synced.
 *
 * A noted generation is in `pending`, then in `writing`, then in the database;
 * readers look in this order, so that none is missed on its way.
 */
#include "db/journal.h"

#include <errno.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/util.h"
#include "db/journal_private.h"

#define GATHER_NS (100 * S3C_NSEC_PER_MSEC) /* notes gather for so long */
#define RETRY_NS (2 * S3C_NSEC_PER_SEC)     /* after a failed batch */
#define PENDING_MAX 1000000u /* notes in memory; past it they are dropped, with a warning */
#define HASH_TEXT (2 * S3C_SHA256_LEN + 1)
#define BESIDE_MAX 1000u /* notes that a transaction of records is kept waiting for */

struct s3c_note {
	char *key;
	uint64_t generation;
	bool deleted;
	UT_hash_handle hh;
};

static bool newer(uint64_t generation, bool deleted, uint64_t than, bool than_deleted)
{
	return generation != than ? generation > than : deleted && !than_deleted;
}

static void note_free(struct s3c_note *note)
{
	if (note)
		free(note->key);
	free(note);
}

static void notes_free(struct s3c_note **notes)
{
	struct s3c_note *note, *next;

	HASH_ITER (hh, *notes, note, next) {
		HASH_DEL(*notes, note);
		note_free(note);
	}
}

void s3c_notes_free(struct s3c_journal *journal)
{
	notes_free(&journal->notes.pending);
	notes_free(&journal->notes.writing);
}

/* Puts note into the map or into the one that is there; takes it over. */
static int notes_merge(struct s3c_note **notes, struct s3c_note *note)
{
	struct s3c_note *old = NULL;
	size_t len = strlen(note->key);

	HASH_FIND(hh, *notes, note->key, len, old);
	if (old) {
		if (newer(note->generation, note->deleted, old->generation, old->deleted)) {
			old->generation = note->generation;
			old->deleted = note->deleted;
		}
		note_free(note);
		return 0;
	}
	HASH_ADD_KEYPTR(hh, *notes, note->key, len, note);
	if (!note->hh.tbl) { /* HASH_NONFATAL_OOM: it was not added */
		note_free(note);
		return -ENOMEM;
	}
	return 0;
}

bool s3c_notes_take_locked(struct s3c_journal *journal, bool all)
{
	struct s3c_notes *notes = &journal->notes;
	struct s3c_note *note, *next;
	unsigned left = BESIDE_MAX;

	s3c_mutex_assert_held(&journal->lock);
	if (!notes->pending)
		return false;
	notes->covers = notes->written;
	if (all || HASH_COUNT(notes->pending) <= BESIDE_MAX) {
		notes->writing = steal_ptr(notes->pending);
		notes->covers = notes->noted;
		return true;
	}
	HASH_ITER (hh, notes->pending, note, next) {
		if (!left--)
			break;
		HASH_DEL(notes->pending, note);
		memset(&note->hh, 0, sizeof(note->hh));
		notes_merge(&notes->writing, note);
	}
	return true;
}

int s3c_notes_apply(struct s3c_journal *journal)
{
	sqlite3_stmt **stmt = &journal->stmt.note;
	int rc = s3c_db_cached(
		journal->batch, stmt,
		"INSERT INTO generation (source, key, generation, deleted) VALUES (?, ?, ?, ?) "
		"ON CONFLICT (source, key) DO UPDATE SET generation = excluded.generation, "
		"deleted = excluded.deleted WHERE excluded.generation > generation.generation "
		"OR (excluded.generation = generation.generation AND "
		"excluded.deleted > generation.deleted)");

	for (struct s3c_note *note = journal->notes.writing; note && rc == SQLITE_OK;
	     note = note->hh.next) {
		uint8_t generation[8];

		s3c_put_be64(generation, note->generation);
		sqlite3_bind_text(*stmt, 1, journal->source, -1, SQLITE_STATIC);
		sqlite3_bind_text(*stmt, 2, note->key, -1, SQLITE_STATIC);
		sqlite3_bind_blob(*stmt, 3, generation, sizeof(generation), SQLITE_STATIC);
		sqlite3_bind_int(*stmt, 4, note->deleted);
		rc = s3c_db_run(*stmt);
	}
	return rc;
}

void s3c_notes_settle_locked(struct s3c_journal *journal, int result)
{
	struct s3c_notes *notes = &journal->notes;
	struct s3c_note *note, *next;

	s3c_mutex_assert_held(&journal->lock);
	if (result == 0) {
		notes_free(&notes->writing);
		notes->written = notes->covers;
		notes->dropped = false;
	} else {
		s3c_error("journal: generations that were seen cannot be written, trying again: %s",
			  strerror(-result));
		/* Back in front of what came since. */
		HASH_ITER (hh, notes->writing, note, next) {
			HASH_DEL(notes->writing, note);
			memset(&note->hh, 0, sizeof(note->hh));
			notes_merge(&notes->pending, note);
		}
		notes->failures++;
		notes->failure = result;
		notes->flushing = 0;
		notes->due_ns = s3c_clock_monotonic_ns() + RETRY_NS;
	}
	s3c_waitq_wake_all(&journal->done);
}

struct seen {
	bool found, deleted;
	uint64_t generation;
};

static void seen_add(struct seen *seen, uint64_t generation, bool deleted)
{
	if (seen->found && !newer(generation, deleted, seen->generation, seen->deleted))
		return;
	*seen = (struct seen){ .found = true, .deleted = deleted, .generation = generation };
}

static void seen_in_notes(struct seen *seen, struct s3c_note *notes, const char *key)
{
	struct s3c_note *note = NULL;

	HASH_FIND(hh, notes, key, strlen(key), note);
	if (note)
		seen_add(seen, note->generation, note->deleted);
}

/* What a key is kept under: HMAC-SHA256 in hex. Lock held. */
static int hash_key(const struct s3c_journal *journal, const char *key,
		    char ret_hash[static HASH_TEXT])
{
	static const uint8_t none[S3C_KEY_LEN];
	uint8_t mac[S3C_SHA256_LEN];
	int r = s3c_hmac_sha256(journal->name_key ? journal->name_key : none, S3C_KEY_LEN, key,
				strlen(key), mac);

	if (r == 0)
		s3c_hex_encode(mac, sizeof(mac), ret_hash);
	return r;
}

int s3c_journal_generation_get(struct s3c_journal *journal, const char *name,
			       uint64_t *ret_generation, bool *ret_deleted)
{
	struct seen seen = { 0 };
	char key[HASH_TEXT];
	sqlite3_stmt *stmt;
	int rc, r;

	s3c_mutex_lock(&journal->lock);
	r = hash_key(journal, name, key);
	if (r < 0) {
		s3c_mutex_unlock(&journal->lock);
		return r;
	}
	seen_in_notes(&seen, journal->notes.pending, key);
	seen_in_notes(&seen, journal->notes.writing, key);
	s3c_mutex_unlock(&journal->lock);

	s3c_mutex_lock(&journal->db_lock);
	if (!journal->get_generation)
		r = s3c_db_statement(
			journal->durable,
			"SELECT generation, deleted FROM generation WHERE source = ? AND key = ?",
			&journal->get_generation);
	stmt = journal->get_generation;
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, journal->source, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, key, -1, SQLITE_STATIC);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW && sqlite3_column_bytes(stmt, 0) == 8)
			seen_add(&seen, s3c_get_be64(sqlite3_column_blob(stmt, 0)),
				 sqlite3_column_int(stmt, 1) != 0);
		else if (rc != SQLITE_DONE)
			r = rc == SQLITE_ROW ? -EUCLEAN : s3c_db_errno(rc);
		sqlite3_reset(stmt); /* ends the read transaction */
		sqlite3_clear_bindings(stmt);
	}
	s3c_mutex_unlock(&journal->db_lock);
	if (r < 0)
		return r;
	if (!seen.found)
		return -ENOENT;
	*ret_generation = seen.generation;
	*ret_deleted = seen.deleted;
	return 0;
}

void s3c_journal_generation_note(struct s3c_journal *journal, const char *name, uint64_t generation,
				 bool deleted)
{
	struct s3c_notes *notes = &journal->notes;
	struct s3c_note *note;
	int r = 0;

	if (journal->readonly)
		return;
	note = calloc(1, sizeof(*note));
	if (note)
		note->key = malloc(HASH_TEXT);
	s3c_mutex_lock(&journal->lock);
	if (!note || !note->key) {
		r = -ENOMEM;
	} else if ((r = hash_key(journal, name, note->key)) < 0) {
		;
	} else if (HASH_COUNT(notes->pending) >= PENDING_MAX) {
		r = -ENOBUFS;
	} else {
		bool first = !notes->pending;

		note->generation = generation;
		note->deleted = deleted;
		r = notes_merge(&notes->pending, steal_ptr(note));
		if (r == 0)
			notes->noted++;
		if (r == 0 && first) {
			notes->due_ns = s3c_clock_monotonic_ns() + GATHER_NS;
			s3c_waitq_wake_one(&journal->work);
		}
	}
	if (r < 0 && !notes->dropped) {
		notes->dropped = true;
		s3c_warn("journal: generations are not remembered (%s); rollbacks of these objects "
			 "will not be noticed",
			 strerror(-r));
	}
	s3c_mutex_unlock(&journal->lock);
	note_free(note);
}

int s3c_journal_flush(struct s3c_journal *journal)
{
	struct s3c_notes *notes = &journal->notes;
	uint64_t upto, failures;
	int r = 0;

	if (journal->readonly)
		return 0;
	s3c_mutex_lock(&journal->lock);
	upto = notes->noted;
	failures = notes->failures;
	while (notes->written < upto && r == 0) {
		notes->flushing++;
		s3c_waitq_wake_all(&journal->work);
		s3c_waitq_wait(&journal->done, &journal->lock, NULL);
		if (notes->flushing)
			notes->flushing--;
		if (notes->failures != failures)
			r = notes->failure;
	}
	s3c_mutex_unlock(&journal->lock);
	return r;
}
