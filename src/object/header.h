/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The header of an object: all that its metadata says, packed, sealed, and back.
 *
 * A sealed header cannot be moved to another key, mixed with another version or
 * altered. Grammar in doc/format.md, next to a worked example that a test checks
 * byte by byte. Pure functions on values; any thread.
 */
#pragma once

#include "key/kms_keys.h"
#include "object/attrs.h"
#include "object/geometry.h"
#include "object/volume.h"

#define S3C_CEK_ALG "s3cryptfs/AES256-GCM-64K/v1"
#define S3C_META_PACKED "s3cryptfs" /* the item that every sealed object has */
#define S3C_CONTENT_ID_LEN 16       /* content version id: new with every new content */
#define S3C_OP_ID_LEN 16
#define S3C_COMMITMENT_LEN 32
#define S3C_SEALED_ID_MAX 255u /* of the key that the packed value of LAYOUT_S3EC names */

enum s3c_layout {
	S3C_LAYOUT_PLAIN,   /* not ours: the body is the content */
	S3C_LAYOUT_NONE,    /* sealed, no content: directory or special file */
	S3C_LAYOUT_CHUNKS,  /* up to one segment: chunks only */
	S3C_LAYOUT_TRAILER, /* two segments or more: ends in a trailer */
	S3C_LAYOUT_FOREIGN, /* not ours: another S3 encryption client encrypted it, object/s3ec.h */
	S3C_LAYOUT_S3EC,    /* sealed, and the body and its envelope are as those clients write */
	S3C_LAYOUT_REFERENCE,       /* sealed: a name of the body whose id file_id is */
	S3C_LAYOUT_PLAIN_REFERENCE, /* the same, not sealed */
};
#define S3C_LAYOUT_LAST S3C_LAYOUT_PLAIN_REFERENCE
/*
 * What a reference has in its body, and then random bytes, without which all references would have
 * one ETag, and a condition on it would hold for each of them. The sizes are such as nothing else
 * has that is sealed.
 */
#define S3C_REFERENCE_BODY "link\n"
#define S3C_REFERENCE_MIN (sizeof(S3C_REFERENCE_BODY) - 1)
#define S3C_REFERENCE_LEN 15u
/* Those of before had none. */
static inline bool s3c_reference_size(uint64_t stored_size)
{
	return stored_size == S3C_REFERENCE_MIN || stored_size == S3C_REFERENCE_LEN;
}
/* Where bodies are, relative to the volume; then 32 hex digits. */
#define S3C_BODY_DIR ".s3cryptfs/links/"
/* Is it ours, with a seal? */
static inline bool s3c_layout_is_sealed(enum s3c_layout layout)
{
	return layout == S3C_LAYOUT_NONE || layout == S3C_LAYOUT_CHUNKS ||
	       layout == S3C_LAYOUT_TRAILER || layout == S3C_LAYOUT_S3EC ||
	       layout == S3C_LAYOUT_REFERENCE;
}
static inline bool s3c_layout_is_reference(enum s3c_layout layout)
{
	return layout == S3C_LAYOUT_REFERENCE || layout == S3C_LAYOUT_PLAIN_REFERENCE;
}
/* Is the body one message with an envelope of other clients? */
static inline bool s3c_layout_is_whole(enum s3c_layout layout)
{
	return layout == S3C_LAYOUT_FOREIGN || layout == S3C_LAYOUT_S3EC;
}

struct s3c_header {
	enum s3c_layout layout;
	struct s3c_attrs attrs; /* with a trailer and !attrs_final, mtime is the footer's */
	bool attrs_final;       /* set by metadata copies: attrs.mtime counts, not the footer's */
	uint32_t epoch;
	uint8_t file_id[S3C_FILE_ID_LEN]; /* of a reference: of its body, as is content_id */
	uint8_t content_id[S3C_CONTENT_ID_LEN];
	uint8_t op_id[S3C_OP_ID_LEN];
	uint64_t generation;
	uint8_t salt[S3C_SALT_LEN]; /* LAYOUT_CHUNKS: of the only segment */
	uint8_t commitment[S3C_COMMITMENT_LEN];
	/* By a master key, or by the key in a kms with reuse; not of LAYOUT_S3EC, whose envelope
	   has it. */
	uint8_t wrapped[S3C_WRAP_LEN];
	char key_id[S3C_KEY_ID_MAX + 1]; /* master key that wrapped; "" where kms */
	/* By a KMS; with a reference; NULL: not. Of LAYOUT_S3EC what the envelope says of it. */
	struct s3c_kms_wrap *kms;
	uint64_t size; /* plaintext; with a trailer 0 until its footer was read */
};

/* A header owns what kms and attrs.xattrs point to: copies are made by s3c_header_set, which lets
 * go of what *to had. Neither is needed for a copy that ends before its source does. */
void s3c_header_set(struct s3c_header *to, const struct s3c_header *from);
void s3c_header_clear(struct s3c_header *header);
#define cleanup_header __attribute__((cleanup(s3c_header_clear)))

/*
 * Draws file id, content id, data key (secret memory of the caller), commitment, wrap under the
 * active key; op id. attrs, layout, salt, generation, size are the caller's and are left as they
 * are, set before or after. What kms was is not looked at. With a KMS it may wait for it, and why
 * (may be NULL) gets words.
 */
int s3c_header_new(const struct s3c_keyring *keyring, const struct s3c_volume *volume,
		   struct s3c_op *op, struct s3c_header *ret_header,
		   uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size);
/* Is it wrapped as s3c_header_new would? */
bool s3c_header_is_current(const struct s3c_header *header, const struct s3c_keyring *keyring);
/*
 * Wraps its data key so. data_key NULL: not known; then the KMS wraps it anew by itself where it
 * can, or it is unwrapped for it. 0: changed; 1: it was so already. May wait.
 */
int s3c_header_renew(struct s3c_header *header, const struct s3c_keyring *keyring,
		     const struct s3c_volume *volume, struct s3c_op *op, const uint8_t *data_key,
		     char *why, size_t why_size);
/* Who wrapped it: id of a master key, or ARN. */
static inline const char *s3c_header_key_name(const struct s3c_header *header)
{
	return header->kms ? header->kms->arn : header->key_id;
}
/*
 * rel_key: the object's key relative to the volume's prefix. Adds to *meta, where s3cryptfs-name,
 * if it is set before, is sealed too, and, of LAYOUT_S3EC, the envelope, which
 * has to be. -EINVAL: a plain layout, a size over one segment in LAYOUT_CHUNKS, an all-zero salt
 * for content there, an ARN over S3C_SEALED_ID_MAX in LAYOUT_S3EC, or names counted
 * (attrs.nlink) of what is no body. A master key that is not in
 * the keyring any more leaves its id as the whole material description: its desc pairs are not
 * known.
 */
int s3c_header_encode(const struct s3c_header *header, const struct s3c_keyring *keyring,
		      const struct s3c_volume *volume, const char *rel_key, struct s3c_meta *meta);
/*
 * Checks the seal over metadata, key and (one segment) stored size. -EBADMSG: altered, moved, of
 * another volume; -ENOKEY: of an epoch that volume does not have (yet); -ENODATA: no envelope of
 * ours (a plain or foreign object); -EPROTO: version or flag that this program does not know. why
 * (may be NULL) gets words for the log.
 */
int s3c_header_decode(const struct s3c_meta *meta, const struct s3c_volume *volume,
		      const char *rel_key, uint64_t stored_size, struct s3c_header *ret_header,
		      char *why, size_t why_size);
/* The epoch that the packed value names; nothing is verified. -EBADMSG: there is no such value. */
int s3c_header_epoch(const struct s3c_meta *meta, uint32_t *ret_epoch);
/*
 * The data key: -EACCES when the keyring lacks the key that the header names (why names it),
 * -EBADMSG when it does not open or does not fit the commitment. One that a KMS wrapped may wait
 * for it (op may be NULL), with the errors of key/kms.h.
 */
int s3c_header_unwrap(const struct s3c_header *header, const struct s3c_keyring *keyring,
		      const struct s3c_volume *volume, struct s3c_op *op,
		      uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size);
/* The data key under another master key; all else stays. -EINVAL: a key that cannot wrap. */
int s3c_header_rewrap(struct s3c_header *header, const struct s3c_master_key *key,
		      const uint8_t data_key[static S3C_KEY_LEN]);
/*
 * The seal over a packed value (without its seal), the metadata as stored, the key and, where size
 * is not NULL, the plaintext size. For tools that check or make seals; the two above use it.
 */
int s3c_header_seal(const struct s3c_volume *volume, const struct s3c_meta *meta,
		    const void *packed, size_t packed_len, const char *rel_key,
		    const uint64_t *size, uint8_t ret_seal[static S3C_SHA256_LEN]);
/* HKDF(data key, "s3cryptfs commit" | file id) */
int s3c_header_commitment(const uint8_t data_key[static S3C_KEY_LEN],
			  const uint8_t file_id[static S3C_FILE_ID_LEN],
			  uint8_t ret_commitment[static S3C_COMMITMENT_LEN]);
/* max(seen + 1, clock in ns). */
uint64_t s3c_generation_next(uint64_t seen);
