/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The KMS keys that a mount may use, data keys fetched ahead, and unwrapped keys
 * that are kept for a while.
 *
 * New objects get data keys of the active KMS key. Some are fetched ahead, each
 * with the file id that it is for, so that a new file does not wait for the KMS.
 * With reuse=N one key of the KMS wraps the data keys of N objects here.
 *
 * Wrapped keys are opened under the keys that the user named and no others,
 * whatever an object says. What was unwrapped, fetched ahead, or is reused stays in
 * secret memory for cache_s seconds at most.
 *
 * Thread-safe. Calls wait for the KMS, but where they say otherwise; errors as in
 * key/kms.h, and -EACCES for a key that the user did not name.
 */
#pragma once

#include "key/kms_wrap.h"
#include "key/unwrap.h"

struct s3c_kms_keys;
struct s3c_kms_keys_config {
	struct s3c_kms *kms;   /* borrowed */
	const char *key_id;    /* the active key: id, ARN or alias; NULL: none */
	const char *read_keys; /* further ones, joined by ';'; NULL: none */
	const char *pairs;     /* the user's part of the context, JSON; NULL: none */
	bool writes;           /* new objects are wrapped by the active key */
	unsigned reuse;        /* objects that share a key of the KMS; 0: none do */
	unsigned cache_s;      /* 0: nothing is kept */
};
/* Strings are copied. Asks the KMS about the active key, where it is needed to. A sentence. */
int s3c_kms_keys_new(const struct s3c_kms_keys_config *config, struct s3c_err *err,
		     struct s3c_kms_keys **ret_keys);
/* Ends what runs; wipes. NULL is legal. */
void s3c_kms_keys_free(struct s3c_kms_keys *keys);
/* Are new data keys wrapped by the KMS? */
bool s3c_kms_keys_writes(const struct s3c_kms_keys *keys);
/* Bytes of the user's part of the context of what they wrap. */
size_t s3c_kms_keys_pairs_len(const struct s3c_kms_keys *keys);
/* The active key's ARN, owned by keys; NULL: there is none, or nobody may tell. */
const char *s3c_kms_keys_active(const struct s3c_kms_keys *keys);

/*
 * What follows binds keys to volume, file and alg. volume_id NULL: the key of an object in a format
 * of other clients, whose context knows neither volume nor file, and which is never reused.
 */

/*
 * Gets the first data key for this volume and begins to fetch ahead: says at mount time, in a
 * sentence, whether the KMS lets us. Before the first draw, once.
 */
int s3c_kms_keys_begin(struct s3c_kms_keys *keys, const uint8_t *volume_id, const char *alg,
		       struct s3c_err *err);
/*
 * A new data key with its file id, which waits only where none was fetched ahead; they are for the
 * volume and alg of begin. ret_local is written where (*ret_wrap)->reuse; it may be NULL where
 * volume_id is.
 */
int s3c_kms_keys_draw(struct s3c_kms_keys *keys, struct s3c_op *op, const uint8_t *volume_id,
		      const char *alg, uint8_t ret_file_id[static S3C_FILE_ID_LEN],
		      uint8_t ret_key[static S3C_KEY_LEN], uint8_t *ret_local,
		      struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size);
/*
 * Wraps a key of a volume (file_id NULL), or an object's that exists, under the active key. Several
 * objects share a key of the KMS only where ret_local is given.
 */
int s3c_kms_keys_seal(struct s3c_kms_keys *keys, struct s3c_op *op, const uint8_t *volume_id,
		      const uint8_t *file_id, const char *alg,
		      const uint8_t key[static S3C_KEY_LEN], uint8_t *ret_local,
		      struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size);
/* local: of a wrap with reuse. Waits unless the key is kept. */
int s3c_kms_keys_open(struct s3c_kms_keys *keys, struct s3c_op *op, const struct s3c_kms_wrap *wrap,
		      const uint8_t *local, const uint8_t *volume_id, const uint8_t *file_id,
		      const char *alg, uint8_t ret_key[static S3C_KEY_LEN], char *why,
		      size_t why_size);
/* From the key that wrapped it to the active one, by ReEncrypt: the data key does not leave the
 * KMS. -EOPNOTSUPP: with reuse, before or after; open and seal it instead. */
int s3c_kms_keys_reencrypt(struct s3c_kms_keys *keys, struct s3c_op *op,
			   const struct s3c_kms_wrap *wrap, const uint8_t *volume_id,
			   const uint8_t *file_id, const char *alg, struct s3c_kms_wrap **ret_wrap,
			   char *why, size_t why_size);
/* Is it wrapped as a new object would be: key, pairs, reuse? own: it is never reused, as keys of a
 * volume and of formats of other clients are not. */
bool s3c_kms_keys_is_current(const struct s3c_kms_keys *keys, const struct s3c_kms_wrap *wrap,
			     bool own);
/* May this mount open what is wrapped under that key? */
bool s3c_kms_keys_may_open(struct s3c_kms_keys *keys, const char *arn);
/* For objects of other clients: their contexts without what they add themselves have to be the
 * user's pairs. Lives as long as keys. */
const struct s3c_kms_unwrap *s3c_kms_keys_foreign(struct s3c_kms_keys *keys);
