/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * state_dir/journal.db: what must outlive the daemon. The schema version, the pinned volume of each
 * source, what its store was seen to honour, the highest generation seen of each object (and
 * deletions); and the records of what was acknowledged and is not in the store yet (db/records.h).
 * Thread-safe.
 *
 * Generations are queued and written in batches by a thread of their own; pins are
 * durable when the call returns.
 */
#pragma once

#include "base/err.h"
#include "object/volume.h"
#include "store/store.h"

struct s3c_journal;

/* Makes the folder (0700) and the database (0600), takes the lock (-EBUSY: another daemon, with its
 * pid). */
int s3c_journal_open(const char *state_dir, struct s3c_err *err, struct s3c_journal **ret_journal);
/*
 * To look at what is known while a daemon may hold the lock: nothing is made or changed, what is
 * set or noted is forgotten. A folder without a journal counts as an empty one.
 */
int s3c_journal_open_readonly(const char *state_dir, struct s3c_err *err,
			      struct s3c_journal **ret_journal);
/*
 * The source (as for pins) that keys of generations belong to from now on; "" until it is said.
 * name_key: 32 bytes under which keys are hashed before they are kept, so that the file tells no
 * names; NULL where the store's names have no key either. Before the first generation is asked for
 * or noted.
 */
int s3c_journal_use(struct s3c_journal *journal, const char *source, const uint8_t *name_key);
/* Says in the lock file where the holder is mounted. */
int s3c_journal_set_mountpoint(struct s3c_journal *journal, const char *mountpoint);
/* Who holds the lock of state_dir: pid 0 and "" where the file does not tell. The caller frees. */
int s3c_journal_holder(const char *state_dir, pid_t *ret_pid, char **ret_mountpoint);
/* Writes what is queued, closes. NULL is legal. */
void s3c_journal_close(struct s3c_journal *journal);

/* -ENOENT: none. source: store identity and prefix. */
int s3c_journal_pin_get(struct s3c_journal *journal, const char *source,
			uint8_t ret_id[static S3C_VOLUME_ID_LEN], uint64_t *ret_serial);
int s3c_journal_pin_set(struct s3c_journal *journal, const char *source,
			const uint8_t id[static S3C_VOLUME_ID_LEN], uint64_t serial);

/* Remembered caps younger than max_age_s seconds for this source and mode; -ENOENT otherwise. */
int s3c_journal_caps_get(struct s3c_journal *journal, const char *source, const char *mode,
			 int64_t max_age_s, struct s3c_store_caps *ret_caps);
int s3c_journal_caps_set(struct s3c_journal *journal, const char *source, const char *mode,
			 const struct s3c_store_caps *caps);

/* Highest generation seen of a key; deleted: we saw or made it disappear at that generation. */
int s3c_journal_generation_get(struct s3c_journal *journal, const char *key,
			       uint64_t *ret_generation, bool *ret_deleted);
/* Queues; keeps the maximum. Never waits for the disk. */
void s3c_journal_generation_note(struct s3c_journal *journal, const char *key, uint64_t generation,
				 bool deleted);
/* Waits until what was queued before is in the database. */
int s3c_journal_flush(struct s3c_journal *journal);
