/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the KMS key manager share. Private to src/key/.
 *
 *	kms_keys.c	which keys there are; wrapping, unwrapping
 *	kms_ahead.c	data keys fetched ahead
 *	kms_kept.c	unwrapped keys that are kept, and the thread that lets them go in time
 */
#pragma once

#include <sys/queue.h>
#include <uthash.h>

#include "base/thread.h"
#include "key/kms_keys.h"

/* A key that the user named. */
struct s3c_kms_named {
	char *given;
	char *arn; /* NULL: not known */
};

/* Fetched ahead: a data key for a file id or, with reuse, a key for some objects. */
struct s3c_kms_ready {
	TAILQ_ENTRY(s3c_kms_ready) link; /* oldest first */
	uint8_t *key;                    /* secret memory */
	struct s3c_kms_wrap *wrap;
	uint8_t file_id[S3C_FILE_ID_LEN];
	unsigned left; /* objects that it may still serve */
	int64_t expires_ns;
};

struct s3c_kms_kept {
	UT_hash_handle hh;
	TAILQ_ENTRY(s3c_kms_kept) link; /* oldest first */
	uint8_t digest[S3C_SHA256_LEN]; /* of key, context and blob */
	uint8_t *key;                   /* secret memory */
	int64_t expires_ns;
};

struct s3c_kms_job {
	struct s3c_job job;
	LIST_ENTRY(s3c_kms_job) link;
	struct s3c_kms_keys *keys;
	struct s3c_op op;
};

struct s3c_kms_keys {
	struct s3c_kms *kms;
	struct s3c_kms_named *named; /* the active one first, where there is one */
	size_t named_count;
	bool has_active, writes;
	char *pairs;
	unsigned reuse, cache_s;
	struct s3c_kms_unwrap foreign;
	/* Of begin: what is fetched ahead is bound to. */
	uint8_t volume_id[S3C_VOLUME_ID_LEN];
	bool others; /* to no volume, for formats of other clients */
	char *alg;
	struct s3c_pool *pool;

	struct s3c_mutex lock; /* guards all below */
	TAILQ_HEAD(, s3c_kms_ready) ready;
	unsigned ready_count, target;
	LIST_HEAD(, s3c_kms_job) jobs;
	unsigned running;
	struct s3c_kms_kept *kept;
	TAILQ_HEAD(, s3c_kms_kept) kept_order;
	unsigned kept_count;
	bool failing; /* said once that fetching ahead fails */
	bool stop;
	struct s3c_waitq wake; /* the thread that lets go */
	pthread_t thread;
	bool thread_runs;
};

/* What a new key is bound to; volume_id NULL: to alg alone. */
struct s3c_kms_bound {
	const uint8_t *volume_id;
	const uint8_t *file_id; /* NULL: it wraps the keys of many */
	const char *alg;
};

/* kms_keys.c */
int s3c_kms_make(struct s3c_kms_keys *keys, struct s3c_op *op, const struct s3c_kms_bound *bound,
		 uint8_t *ret_key, struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size);

/* kms_ahead.c */
/* A key for many objects (reuse): from those at hand, or made. */
int s3c_kms_shared_key(struct s3c_kms_keys *keys, struct s3c_op *op,
		       uint8_t ret_key[static S3C_KEY_LEN], struct s3c_kms_wrap **ret_wrap,
		       char *why, size_t why_size);
void s3c_kms_ready_free(struct s3c_kms_ready *ready);
/* Drops what is too old; when the next one will be, INT64_MAX: none. */
int64_t s3c_kms_ready_expire_locked(struct s3c_kms_keys *keys, int64_t now);

/* kms_kept.c */
int s3c_kms_digest(const struct s3c_kms_wrap *wrap, const char *context,
		   uint8_t ret_digest[static S3C_SHA256_LEN]);
bool s3c_kms_kept_get(struct s3c_kms_keys *keys, const uint8_t digest[static S3C_SHA256_LEN],
		      uint8_t ret_key[static S3C_KEY_LEN]);
void s3c_kms_kept_put(struct s3c_kms_keys *keys, const uint8_t digest[static S3C_SHA256_LEN],
		      const uint8_t key[static S3C_KEY_LEN]);
int s3c_kms_kept_start(struct s3c_kms_keys *keys);
void s3c_kms_kept_stop(struct s3c_kms_keys *keys);
int64_t s3c_kms_expiry(const struct s3c_kms_keys *keys);
