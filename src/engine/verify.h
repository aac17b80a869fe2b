/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Is an object what it should be? By its key, without the caches, views and read-ahead of open
 * files: what the store has is looked at, and what is wrong is told and not logged.
 *
 *	metadata  one HEAD (quick), or the GET of its end that a lookup makes: seal, place, kind of
 *		  object, generation, footer
 *	key	  the data key is unwrapped and fits the commitment; quick: not where a KMS has to
 *		  be asked
 *	content	  not quick: every chunk is authenticated; one tag over all, of objects in the
 *		  formats of other clients; what is not encrypted by us is read to its end
 */
#pragma once

#include "engine/private.h"

enum s3c_verdict {
	S3C_VERDICT_GOOD,
	S3C_VERDICT_DAMAGED,    /* altered, moved, cut, of another volume, or of another version */
	S3C_VERDICT_NO_KEY,     /* the keyring lacks its key, or the store wants another one */
	S3C_VERDICT_REFUSED,    /* not what accept= names */
	S3C_VERDICT_WEAKER,     /* the store did not encrypt it as the mode asks */
	S3C_VERDICT_OLDER,      /* than what this machine has seen: a rollback */
	S3C_VERDICT_UNREADABLE, /* a request failed: nothing is known of it */
	S3C_VERDICT_GONE,       /* deleted meanwhile */
};

struct s3c_verified {
	enum s3c_verdict verdict;
	char why[512];   /* unless it is good or gone */
	uint64_t size;   /* plaintext, where the metadata were right; 0 for directories */
	uint64_t stored; /* bytes in the store */
	bool is_dir;
};

struct s3c_verify {
	bool quick;
	bool sizes;      /* no more than the sizes are wanted: the key is not looked at either */
	uint32_t memory; /* bytes for content at most, at least S3C_CHUNK_STRIDE */
};
/* Any thread. stored: its bytes as a listing told, a hint. Each request has the engine's timeout.
 */
void s3c_verify_object(struct s3c_engine *engine, const char *key, uint64_t stored,
		       const struct s3c_verify *how, struct s3c_verified *ret_verified);
