/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Uploads that stopped before their end and can go on: what is known of them, in memory and in the
 * journal. Whether, and with what, one goes on is decided by the next commit: resume.c.
 *
 * The records are written as parts are sent and never waited for: they save sending something
 * again, and nothing else depends on them. One is removed when its upload was completed, was
 * aborted, or is gone; so a record without a file says what has to be aborted, and no upload of
 * somebody else ever is.
 *
 * A part says for each of its segments what it was sealed under and a digest of what it holds. The
 * file's present content counts, not what became of it since: a part is used when that content,
 * looked at again, has the same digest.
 */
#pragma once

#include "base/crypto.h"
#include "engine/content.h"

/* One segment of a part. */
struct s3c_mark {
	uint64_t segment;
	uint8_t salt[S3C_SALT_LEN]; /* plain: zero */
	uint8_t digest[S3C_SHA256_LEN];
};

struct s3c_paused_part {
	struct s3c_store_part done; /* with its size */
	uint64_t first, count;      /* segments; those without a mark are holes */
	bool copy;
	struct s3c_mark *marks; /* ascending; of a copy: none */
	unsigned mark_count;
};

struct s3c_paused {
	struct s3c_job job; /* to abort it */
	struct s3c_engine *engine;
	struct s3c_paused *next;
	uint64_t record;
	char *path, *key, *upload_id; /* upload_id NULL: not known, its record is only to go */
	bool sealed, keep;
	bool asked; /* left by a daemon that may have asked for its completion: it is unsettled */
	struct s3c_header header;
	char source_etag[S3C_STORE_ETAG_MAX]; /* of what its copies are of */
	struct s3c_paused_part *parts;        /* by number, ascending */
	size_t count, alloc;
};
void s3c_paused_free(struct s3c_paused *paused);
/* Takes over the marks of the part. */
int s3c_paused_add(struct s3c_paused *paused, const struct s3c_paused_part *part);
/* It is not in the store any more: its record goes as well. Without the lock. */
void s3c_paused_forget(struct s3c_paused *paused);
/* In the background: aborts it, then forgets it. While the store is not there the record stays, and
   the next mount does it. With or without the lock. */
void s3c_paused_abort(struct s3c_paused *paused);
/* The object does not go on with its upload, if there is one. Lock held. */
void s3c_paused_drop(struct s3c_object *object);
void s3c_paused_free_all(struct s3c_objects *objects);

/* At the start of a mount. Reads what the journal has. */
int s3c_paused_load(struct s3c_engine *engine);
/* An object that was taken up, with its attempts, goes on with its upload. Lock held. */
void s3c_paused_attach(struct s3c_object *object);
/* Aborts what nobody goes on with. */
void s3c_paused_abort_rest(struct s3c_engine *engine);

/* Of stored bytes: their tags, which no other plaintext has; or, plain, all of them. */
int s3c_mark_digest(bool sealed, const uint8_t *stored, size_t len,
		    uint8_t ret_digest[static S3C_SHA256_LEN]);

/* The store has made the upload. Without the lock. */
void s3c_upload_record(struct s3c_upload *upload);
/* The store has the part. Lock held. */
void s3c_upload_record_part(const struct s3c_part *part);
/* The upload has ended. Without the lock. */
void s3c_upload_unrecord(struct s3c_upload *upload);
/* After a commit that failed with r: true, the next one goes on with what is in the store. Without
   the lock. */
bool s3c_upload_pause(struct s3c_upload *upload, int r);

/*
 * resume.c. Goes on with the paused upload of c's object: *ret_upload, which is the object's, or
 * NULL: there is none that can be used. 1: it was completed before, with the view of c, which is
 * filled. Errors: the store cannot be asked now. Without the lock, in a commit.
 */
int s3c_upload_resume(struct s3c_commit *c, struct s3c_upload **ret_upload);
