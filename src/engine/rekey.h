/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Bringing what is stored under another key, beside live mounts, and counting what needs a key.
 *
 *	rewrap		HEAD, unwrap, wrap, a copy of the object onto itself (copy.c)
 *	SSE-C		HEAD, under each key that it may be; a copy of the object onto itself,
 *			from that key to the one in use (or it is read and written)
 *	reencrypt	HEAD; what is not of the newest epoch yet is read and written under a new
 *			data key (renew.c), and what has none is sealed anew
 *	migrate		likewise, for what is not sealed and is accepted, with both of the former;
 *			in modes of the store, and of what is under no key with SSE-C: HEAD; a
 *			copy of the object onto itself
 *	count		HEAD
 *
 * Nothing about it is kept: what is under the new key, or of the newest epoch, already tells that
 * by itself, so that one which was killed is begun again and goes on. An object that is changed by
 * somebody else in between is looked at again.
 */
#pragma once

#include "engine/engine.h"

enum s3c_rekey_what { S3C_REKEY_REWRAP, S3C_REKEY_REENCRYPT, S3C_REKEY_COUNT };

struct s3c_rekey_counts {
	uint64_t found; /* objects that were listed so far */
	bool all_found; /* that was all */
	uint64_t done;  /* of them: the sum of those below */
	uint64_t changed;
	uint64_t current;  /* COUNT: under other keys */
	uint64_t keyless;  /* folders and the like have no data key */
	uint64_t migrated; /* sealed, or encrypted by the store, and were not so before */
	uint64_t plain;    /* not sealed by this program */
	uint64_t foreign;  /* of another S3 encryption client */
	uint64_t gone;     /* deleted meanwhile */
	uint64_t skipped;  /* each was told */
	uint64_t needing;  /* COUNT: under the key */
	/* How often one was seen to name another epoch than the newest: besides the sum. */
	uint64_t older;
};

struct s3c_rekey_request {
	enum s3c_rekey_what what;
	/* COUNT: the one asked for; else the one that is to wrap, which for what is written anew is
	   the active one, and of a KMS the active one's ARN. */
	const char *key_id;
	/* What is plain or foreign, and accepted, is sealed. In modes of the store: what it does
	   not encrypt so is copied onto itself. Those have nothing else, and no key_id. */
	bool migrate;
	const char *sse_key_id;   /* of such a mode: as in s3c_sse_is */
	const char *const *paths; /* of files or directories, at or below which; NULL ends them */
	unsigned parallel;        /* objects at once */
	/* Both from any thread, one at a time, and neither may call the engine. */
	void (*progress)(void *arg, const struct s3c_rekey_counts *counts);
	void (*skip)(void *arg, const char *key, const char *why);
	void *arg;
};

/*
 * 0 also when objects were skipped: the counts tell. Errors: the key is neither in the keyring nor
 * the active KMS key
 * (-ENOKEY), or cannot wrap, or is not the one in use for SSE-C (-EINVAL); a listing failed; op.
 */
int s3c_engine_rekey(struct s3c_engine *engine, struct s3c_op *op,
		     const struct s3c_rekey_request *request, struct s3c_rekey_counts *ret_counts);
