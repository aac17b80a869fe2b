/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The envelope of objects that the Amazon S3 Encryption Clients wrote: what their metadata, or
 * their instruction file, says. Facts in doc/format-s3ec.md.
 *
 *	V1	x-amz-key, x-amz-iv				CBC, legacy
 *	V2	x-amz-key-v2, x-amz-iv, x-amz-wrap-alg, ..	GCM; CBC, legacy
 *	V3	x-amz-3, x-amz-c, x-amz-w, x-amz-d, x-amz-i	GCM with a commitment to the key
 *
 * Nothing of it is authenticated, but by the seal of objects that we wrote. Pure functions on
 * values; any thread.
 */
#pragma once

#include "key/unwrap.h"
#include "store/store.h"

#define S3C_S3EC_SUFFIX ".instruction"       /* of the key of an instruction file */
#define S3C_S3EC_INSTRUCTION_MAX (64u << 10) /* bytes of one */
#define S3C_S3EC_COMMITMENT_LEN 28u
#define S3C_S3EC_MESSAGE_ID_LEN 28u
#define S3C_S3EC_ID_LEN 16u
/* Plaintext; GCM's limit, kept for CBC too. */
#define S3C_S3EC_SIZE_MAX ((UINT64_C(1) << 36) - 32)

enum s3c_s3ec_suite {
	S3C_S3EC_GCM,    /* V2: AES-256-GCM under the data key */
	S3C_S3EC_COMMIT, /* V3: AES-256-GCM under a key derived from it, with a commitment */
	S3C_S3EC_CBC,    /* V1, V2: AES-256-CBC, nothing is authenticated */
};

/* Immutable, reference-counted (atomically). */
struct s3c_s3ec {
	unsigned refs;
	unsigned version; /* 1..3 */
	enum s3c_s3ec_suite suite;
	enum s3c_unwrap_alg wrap;
	bool legacy;      /* the content or the wrap is: only read when asked for */
	bool instruction; /* the wrapped key came from an instruction file */
	uint8_t iv[S3C_AES_BLOCK];
	uint8_t commitment[S3C_S3EC_COMMITMENT_LEN], message_id[S3C_S3EC_MESSAGE_ID_LEN]; /* V3 */
	uint8_t *wrapped;
	size_t wrapped_len;
	struct s3c_key_desc *desc; /* material description or encryption context */
	size_t desc_count;
	uint64_t stored_size;
	uint64_t size;   /* plaintext; what the envelope claims */
	bool size_known; /* of CBC without a claim only the last block tells */
	/* Hash of all of the above but the description: names the envelope, not the content. */
	uint8_t id[S3C_S3EC_ID_LEN];
};
struct s3c_s3ec *s3c_s3ec_ref(struct s3c_s3ec *s3ec); /* NULL is legal */
void s3c_s3ec_put(struct s3c_s3ec *s3ec);             /* NULL is legal */

/*
 * Reads the envelope from the metadata of an object of stored_size bytes and, where instruction is
 * not NULL, the body of its instruction file. -ENODATA: no envelope (an instruction file may have
 * it); -EREMOTE: half of one, an instruction file has the rest; -EBADMSG: nonsense; -EPROTO: an
 * algorithm that this program does not know. why (may be NULL) gets words for the log.
 */
int s3c_s3ec_parse(const struct s3c_meta *meta, const void *instruction, size_t instruction_len,
		   uint64_t stored_size, struct s3c_s3ec **ret_s3ec, char *why, size_t why_size);
/* "V2 of the Amazon S3 Encryption Client, AES/GCM/NoPadding, key wrapped by AES/GCM" */
void s3c_s3ec_describe(const struct s3c_s3ec *s3ec, char *text, size_t size);
/* Does the key name an instruction file? ret_len: bytes of the key of its object. */
bool s3c_s3ec_is_instruction(const char *key, size_t *ret_len);

/* The data key, checked against the commitment of V3. Errors as s3c_unwrap_data_key. */
int s3c_s3ec_unwrap(const struct s3c_s3ec *s3ec, const struct s3c_keyring *keyring,
		    const struct s3c_kms_unwrap *kms, uint8_t ret_data_key[static S3C_KEY_LEN],
		    char *why, size_t why_size);
/* Likewise, under the master key of that id, which a seal names. */
int s3c_s3ec_unwrap_by(const struct s3c_s3ec *s3ec, const struct s3c_keyring *keyring,
		       const char *key_id, const struct s3c_kms_unwrap *kms,
		       uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size);

/* -EBADMSG: V3 commits to another key than this one. */
int s3c_s3ec_check_key(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		       char *why, size_t why_size);

/* Is it an item of an envelope? */
bool s3c_s3ec_is_item(const char *name);
/* What a wrap of the data key of V2 or V3 is bound to. */
const char *s3c_s3ec_content_alg(unsigned version);
/* The wrapped data key of what is to be written. */
struct s3c_s3ec_wrap {
	enum s3c_unwrap_alg alg; /* AES_GCM, KMS_CONTEXT */
	const uint8_t *wrapped;
	size_t wrapped_len;
	const char *desc; /* JSON, ASCII: material description, or the encryption context */
};
/*
 * Adds the envelope of a new object of version 2 or 3 to *meta: IV or message id are drawn, and so
 * have to be used once. -EINVAL: another version or wrap.
 */
int s3c_s3ec_encode(unsigned version, const uint8_t data_key[static S3C_KEY_LEN],
		    const struct s3c_s3ec_wrap *wrap, struct s3c_meta *meta);

/* The same content with its data key wrapped anew: an envelope of ours, without the items of its
   wrap, to which those of wrap are added. -EINVAL: another wrap. */
int s3c_s3ec_rewrap(const struct s3c_meta *old, const struct s3c_s3ec_wrap *wrap,
		    struct s3c_meta *meta);

static inline void s3c_s3ec_putp(struct s3c_s3ec **p)
{
	s3c_s3ec_put(*p);
}
#define cleanup_s3ec __attribute__((cleanup(s3c_s3ec_putp)))
