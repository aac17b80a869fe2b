/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The arithmetic of the chunked format. Pure; sizes are checked by the callers
 * against S3C_FILE_SIZE_MAX first, after which nothing here overflows.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define S3C_CHUNK_SIZE 65536u                   /* plaintext bytes */
#define S3C_CHUNK_STRIDE (S3C_CHUNK_SIZE + 16u) /* 65,552: ciphertext and tag */
#define S3C_SEGMENT_CHUNKS 128u
#define S3C_SEGMENT_SIZE (S3C_CHUNK_SIZE * S3C_SEGMENT_CHUNKS)     /* 8 MiB of plaintext */
#define S3C_SEGMENT_STRIDE (S3C_CHUNK_STRIDE * S3C_SEGMENT_CHUNKS) /* 8,390,656 stored bytes */
#define S3C_SALT_LEN 16u
#define S3C_FILE_SIZE_MAX (UINT64_C(1) << 44) /* 16 TiB: 2,097,152 segments, a table of 32 MiB */
#define S3C_TAIL_LEN 69632u                   /* first GET of a large object: 68 KiB from its end */

/* Segments and chunks that hold size bytes (0 for an empty file). */
uint64_t s3c_segment_count(uint64_t size);
uint64_t s3c_chunk_count(uint64_t size);
/* Plaintext bytes in segment (or chunk) index of a file of size bytes. */
uint32_t s3c_segment_plain_len(uint64_t size, uint64_t segment);
uint32_t s3c_chunk_plain_len(uint64_t size, uint64_t chunk);
/* Stored bytes of a segment that is no hole. */
uint32_t s3c_segment_stored_len(uint64_t size, uint64_t segment);
/* Stored bytes of an object of one segment at most (chunks only, no trailer). */
uint64_t s3c_chunks_stored_len(uint64_t size);
/* The other way; false when no plaintext size has this stored size. */
bool s3c_chunks_plain_len(uint64_t stored, uint64_t *ret_size);
