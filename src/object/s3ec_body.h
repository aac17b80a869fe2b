/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The content of objects that the Amazon S3 Encryption Clients wrote.
 *
 * Such an object is one GCM message, whose tag stands at its end: nothing of it may be given out
 * before all of it was seen. So there is a pass over the whole object, in pieces of any length and
 * with two chunks of memory. What it leaves, when the tag is right, is a MAC of every 64 KiB of
 * plaintext, under a key that was drawn for the pass. From then on any chunk can be read by itself,
 * decrypted in counter mode, and is checked against the MAC that the pass made of the bytes which
 * the tag covers: whatever the store gives later, it is those bytes or it is refused.
 *
 * CBC has no tag. Its pass finds the size, and makes later reads give what it has seen.
 *
 * Memory: 16 bytes a chunk (CBC: 32), so 16 MiB for the largest object of 64 GiB.
 */
#pragma once

#include "object/geometry.h"
#include "object/s3ec.h"

/* The commitment to data_key under message_id, of V3. */
int s3c_s3ec_commit(const uint8_t data_key[static S3C_KEY_LEN],
		    const uint8_t message_id[static S3C_S3EC_MESSAGE_ID_LEN],
		    uint8_t ret_commitment[static S3C_S3EC_COMMITMENT_LEN]);
/* -EBADMSG: the data key is not the one that a V3 object commits to. Constant time. */
int s3c_s3ec_check_commitment(const struct s3c_s3ec *s3ec,
			      const uint8_t data_key[static S3C_KEY_LEN]);

/*
 * Every chunk of plaintext as the pass comes to it. NOT AUTHENTICATED YET: only for places whose
 * bytes go through s3c_s3ec_body_check before they are used.
 */
typedef void (*s3c_s3ec_chunk_fn)(void *arg, uint64_t chunk, const uint8_t *data, uint32_t len);

/* One thread at a time. */
struct s3c_s3ec_pass;
/* fn may be NULL. s3ec and data_key are not needed after. */
int s3c_s3ec_pass_new(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		      s3c_s3ec_chunk_fn fn, void *arg, struct s3c_s3ec_pass **ret_pass);
void s3c_s3ec_pass_free(struct s3c_s3ec_pass *pass);
/* The next stored bytes. -EBADMSG: more than the object has. */
int s3c_s3ec_pass_feed(struct s3c_s3ec_pass *pass, const void *stored, size_t len);
/* After the last byte: checks the tag (CBC: the padding) and, where the envelope told the size, the
   size. -EBADMSG: not authentic, or not all was fed. The pass can only be freed then. */
struct s3c_s3ec_body;
int s3c_s3ec_pass_end(struct s3c_s3ec_pass *pass, struct s3c_s3ec_body **ret_body);

/* Immutable: any thread. */
void s3c_s3ec_body_free(struct s3c_s3ec_body *body);
uint64_t s3c_s3ec_body_size(const struct s3c_s3ec_body *body); /* plaintext */
size_t s3c_s3ec_body_memory(const struct s3c_s3ec_body *body);
/* Bytes that are stored for a chunk, from chunk * 64 KiB on: those of its plaintext, for CBC up to
   the end of the last block. */
uint32_t s3c_s3ec_body_stored_len(const struct s3c_s3ec_body *body, uint64_t chunk);
/* Opens those bytes in place. -EBADMSG: not what the pass has seen; data is wiped. */
int s3c_s3ec_body_open(const struct s3c_s3ec_body *body, uint64_t chunk, uint8_t *data);
/* Plaintext from elsewhere: is it that of the chunk? 0, -EBADMSG. */
int s3c_s3ec_body_check(const struct s3c_s3ec_body *body, uint64_t chunk, const uint8_t *data);

/* The size of a CBC object from its last two blocks (of one block: the IV and it), unverified. */
int s3c_s3ec_cbc_size(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		      const uint8_t *tail, size_t tail_len, uint64_t *ret_size);
/* The whole object from memory: all of the above at once. */
int s3c_s3ec_verify(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		    const void *stored, size_t len, struct s3c_s3ec_body **ret_body);

/*
 * The way back: content of the envelope's size is encrypted from its first chunk to its last. One
 * thread at a time. s3ec is GCM, V2 or V3, that was encoded for this content alone.
 */
struct s3c_s3ec_seal;
int s3c_s3ec_seal_new(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		      struct s3c_s3ec_seal **ret_seal);
void s3c_s3ec_seal_free(struct s3c_s3ec_seal *seal);
/* The next chunk, into len bytes of out. -EINVAL: not as long as that chunk is. */
int s3c_s3ec_seal_chunk(struct s3c_s3ec_seal *seal, const void *data, uint32_t len, uint8_t *out);
/* After the last: the tag that follows, and what opens the chunks. -EINVAL: it was not the last. */
int s3c_s3ec_seal_end(struct s3c_s3ec_seal *seal, uint8_t ret_tag[static S3C_TAG_LEN],
		      struct s3c_s3ec_body **ret_body);

static inline void s3c_s3ec_pass_freep(struct s3c_s3ec_pass **p)
{
	s3c_s3ec_pass_free(*p);
}
static inline void s3c_s3ec_body_freep(struct s3c_s3ec_body **p)
{
	s3c_s3ec_body_free(*p);
}
static inline void s3c_s3ec_seal_freep(struct s3c_s3ec_seal **p)
{
	s3c_s3ec_seal_free(*p);
}
#define cleanup_s3ec_seal __attribute__((cleanup(s3c_s3ec_seal_freep)))
#define cleanup_s3ec_pass __attribute__((cleanup(s3c_s3ec_pass_freep)))
#define cleanup_s3ec_body __attribute__((cleanup(s3c_s3ec_body_freep)))
