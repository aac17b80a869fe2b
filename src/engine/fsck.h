/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Looking at all that a source has (verify.h says what of an object), and at what is left over.
 *
 * A finding is a problem: somebody cannot have a file, or cannot have it as it should be; or a
 * note, which costs money or attributes and no byte.
 *
 * What a repair does, and why it is safe:
 *
 *	marker	  an object for a directory that has none: added on the condition that there is
 *		  none. Nothing that exists is changed
 *	leftover  an object of a mount's probe, .s3cryptfs/probe-*, is deleted once it is older than
 *		  FSCK_PROBE_AGE: a probe takes seconds, and its objects hold no data of anybody
 *	upload	  a multipart upload is aborted that began longer ago than the caller says. What it
 *		  has was never acknowledged by being there: whoever still wants to go on with it
 *		  finds it gone and sends the file anew, from where it was acknowledged
 *
 * Objects of files are never changed or deleted.
 */
#pragma once

#include "engine/engine.h"

enum s3c_fsck_kind {
	/* problems */
	S3C_FSCK_DAMAGED,
	S3C_FSCK_NO_KEY,
	S3C_FSCK_REFUSED,
	S3C_FSCK_WEAKER,
	S3C_FSCK_OLDER,
	S3C_FSCK_UNREADABLE,
	S3C_FSCK_BAD_NAME, /* no file can have the name that its key stands for */
	S3C_FSCK_HIDDEN,   /* a directory has its name */
	/* notes */
	S3C_FSCK_NO_MARKER, /* a directory without an object: its attributes are the defaults */
	S3C_FSCK_LEFTOVER,  /* below .s3cryptfs/, and nothing that is in use */
	S3C_FSCK_UPLOAD,    /* a multipart upload that is not completed */
	S3C_FSCK_KINDS
};
static inline bool s3c_fsck_is_problem(enum s3c_fsck_kind kind)
{
	return kind < S3C_FSCK_NO_MARKER;
}
/* "damaged", "no-key", ...: what --json calls it. */
const char *s3c_fsck_word(enum s3c_fsck_kind kind);

struct s3c_finding {
	enum s3c_fsck_kind kind;
	const char *key;
	const char *path; /* NULL: not known, or it is not about a file */
	const char *why;
	int64_t age_ns; /* LEFTOVER, UPLOAD; -1: not known */
	bool repaired;
	const char *not_repaired; /* why a repair that was asked for failed; NULL: it did not */
};

struct s3c_fsck_counts {
	uint64_t found; /* objects that were listed so far */
	bool all_found; /* that was all */
	uint64_t done, good;
	uint64_t size, stored; /* bytes of those whose metadata are right */
	uint64_t findings[S3C_FSCK_KINDS];
	uint64_t repaired;
	const char *missing; /* -ENOENT: the path at and below which nothing is */
};

struct s3c_fsck_request {
	const char *const *paths; /* at or below which; NULL ends them. NULL, or none: all */
	unsigned parallel;        /* objects at once */
	bool quick;               /* metadata only */
	bool repair;
	int64_t upload_age_ns; /* repair: uploads older than that are aborted; 0: none is */
	/* Both from any thread, one at a time, and neither may call the engine. */
	void (*progress)(void *arg, const struct s3c_fsck_counts *counts);
	void (*found)(void *arg, const struct s3c_finding *finding);
	void *arg;
};
/* 0 also when something was found: the counts tell. Errors: a listing failed; -EINVAL. */
int s3c_engine_fsck(struct s3c_engine *engine, const struct s3c_fsck_request *request,
		    struct s3c_fsck_counts *ret_counts);

/* What the files of a source take, at or below each path. */
struct s3c_usage {
	uint64_t files, directories; /* objects */
	uint64_t size, stored;       /* plaintext and stored bytes */
	uint64_t unknown;            /* objects whose size cannot be told: told, and in stored */
};
/* skip: from any thread, one at a time; may be NULL. */
int s3c_engine_usage(struct s3c_engine *engine, const char *path, unsigned parallel,
		     void (*skip)(void *arg, const char *key, const char *why), void *arg,
		     struct s3c_usage *ret_usage);
