/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A data key as a KMS has wrapped it, with what is needed to ask for it again.
 *
 *	context = { "s3cryptfs:volume": hex, "s3cryptfs:file": hex, "s3cryptfs:alg": text, user's }
 *	matdesc = context and "s3cryptfs-key-id": ARN
 *
 * s3cryptfs:file is absent where the wrapped key is one that wraps data keys of several objects
 * (reuse): their file ids are in the AAD of the local wrap. Grammar in doc/format.md.
 *
 * Of an object in a format of other clients, which have to be able to make it themselves:
 *
 *	context = { "aws:x-amz-cek-alg": text, user's }
 */
#pragma once

#include "key/kms.h"
#include "key/wrap.h"

#define S3C_KMS_WRAP_ALG "s3cryptfs/kms"
#define S3C_KMS_REUSE_ALG "s3cryptfs/kms-reuse"
/* Bytes of a blob that is stored with an object, whose metadata has 2 KB in all. AWS's have 184. */
#define S3C_KMS_WRAP_MAX 512u
/* Bytes of the user's pairs as JSON, for the same reason. */
#define S3C_KMS_PAIRS_MAX 480u

/* Immutable, reference-counted. */
struct s3c_kms_wrap {
	unsigned refs; /* atomic */
	bool reuse;
	uint16_t len;
	char *arn;      /* the KMS key */
	char *pairs;    /* the user's part of the context, canonical JSON; NULL: none */
	uint8_t data[]; /* the blob */
};

/* Copies. pairs NULL or "{}": none. -EMSGSIZE: too long. */
int s3c_kms_wrap_new(bool reuse, const char *arn, const char *pairs, const uint8_t *data,
		     size_t len, struct s3c_kms_wrap **ret_wrap);
struct s3c_kms_wrap *s3c_kms_wrap_ref(struct s3c_kms_wrap *wrap); /* NULL is legal */
void s3c_kms_wrap_put(struct s3c_kms_wrap *wrap);

/* JSON, the caller frees. file_id NULL: without; volume_id NULL: that of other clients. */
int s3c_kms_context(const uint8_t *volume_id, const uint8_t *file_id, const char *alg,
		    const char *pairs, char **ret_json);
/* The user's pairs in a context of other clients. -EBADMSG: it is none, or of another algorithm.
 * *ret_pairs NULL: none. */
int s3c_kms_context_pairs(const char *text, const char *alg, char **ret_pairs);
int s3c_kms_matdesc(const struct s3c_kms_wrap *wrap,
		    const uint8_t volume_id[static S3C_VOLUME_ID_LEN], const uint8_t *file_id,
		    const char *alg, char **ret_json);
/*
 * Takes a material description apart. -EBADMSG: not one of this volume, file and algorithm, or one
 * without a key. *ret_pairs NULL: none.
 */
int s3c_kms_matdesc_parse(const char *text, const uint8_t volume_id[static S3C_VOLUME_ID_LEN],
			  const uint8_t *file_id, const char *alg, char **ret_arn,
			  char **ret_pairs);

static inline void s3c_kms_wrap_putp(struct s3c_kms_wrap **p)
{
	s3c_kms_wrap_put(*p);
}
#define cleanup_kms_wrap __attribute__((cleanup(s3c_kms_wrap_putp)))
