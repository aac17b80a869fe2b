/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The spill file: where chunks that exist nowhere else go when memory is short.
 *
 * One unlinked file, never synced, in slots of S3C_CHUNK_SIZE bytes: AES-256-GCM
 * under a key that is drawn for this file and kept in secret memory only, nonce =
 * a 96-bit counter that no two writes share, AAD = the slot's number. So nobody
 * can read it, and what comes back is what was written. The tags stay in memory:
 * what is written then is whole pages of the file, which the kernel takes without
 * looking at what the page had before. Zeros at a chunk's end are not written.
 *
 * Slots are guarded by engine->lock; write and read want it released.
 */
#pragma once

#include "base/crypto.h"
#include "object/geometry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct s3c_spill;

/* limit: bytes of the file at most. The file is made with the first write. */
int s3c_spill_new(const char *dir, uint64_t limit, struct s3c_spill **ret_spill);
void s3c_spill_free(struct s3c_spill *spill);
/* Another limit. What is above it already stays until it is given back. */
void s3c_spill_limit(struct s3c_spill *spill, uint64_t limit);
/* A slot and the nonce of the write that must follow. -ENOSPC: full; -EAGAIN: being shrunk. */
int s3c_spill_take(struct s3c_spill *spill, uint32_t *ret_slot, uint64_t *ret_nonce);
void s3c_spill_give(struct s3c_spill *spill, uint32_t slot);
/* What a slot needs besides its bytes. No two writes have the same nonce. */
struct s3c_spill_seal {
	uint64_t nonce;
	uint32_t len; /* bytes in the file; the rest of the chunk is zero */
	uint8_t tag[S3C_TAG_LEN];
};
/* Of the write that is in the slot. */
struct s3c_spill_seal s3c_spill_seal(const struct s3c_spill *spill, uint32_t slot);
/* The write of `len` bytes into the slot has ended well, with that tag. */
void s3c_spill_set_tag(struct s3c_spill *spill, uint32_t slot, uint32_t len,
		       const uint8_t tag[static S3C_TAG_LEN]);
/* How much to write of a chunk that is zero from byte `used` on. */
uint32_t s3c_spill_len(uint32_t used);
uint64_t s3c_spill_used(const struct s3c_spill *spill); /* bytes */
/* The space of a file without used slots goes back to the disk. Lock held; false: nothing to do.
   Then s3c_spill_shrink without it, then s3c_spill_shrink_end with it. */
bool s3c_spill_shrink_begin(struct s3c_spill *spill);
void s3c_spill_shrink(struct s3c_spill *spill);
void s3c_spill_shrink_end(struct s3c_spill *spill);

/* len: as s3c_spill_len has it. -ENOSPC: the disk is full. Without the lock. */
int s3c_spill_write(struct s3c_spill *spill, uint32_t slot, uint64_t nonce, const void *data,
		    uint32_t len, uint8_t ret_tag[static S3C_TAG_LEN]);
/* All S3C_CHUNK_SIZE bytes of data. -EIO, logged: not what was written. Without the lock. */
int s3c_spill_read(struct s3c_spill *spill, uint32_t slot, const struct s3c_spill_seal *seal,
		   void *data);
