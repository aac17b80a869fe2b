/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/geometry.h"

#include "base/util.h"

uint64_t s3c_segment_count(uint64_t size)
{
	return size / S3C_SEGMENT_SIZE + (size % S3C_SEGMENT_SIZE != 0);
}

uint64_t s3c_chunk_count(uint64_t size)
{
	return size / S3C_CHUNK_SIZE + (size % S3C_CHUNK_SIZE != 0);
}

/* Bytes of the index-th piece of size bytes; 0 past the end. */
static uint32_t piece_len(uint64_t size, uint64_t index, uint32_t piece)
{
	if (index > size / piece)
		return 0;
	return (uint32_t)S3C_MIN(size - index * piece, (uint64_t)piece);
}

uint32_t s3c_segment_plain_len(uint64_t size, uint64_t segment)
{
	return piece_len(size, segment, S3C_SEGMENT_SIZE);
}

uint32_t s3c_chunk_plain_len(uint64_t size, uint64_t chunk)
{
	return piece_len(size, chunk, S3C_CHUNK_SIZE);
}

uint32_t s3c_segment_stored_len(uint64_t size, uint64_t segment)
{
	return (uint32_t)s3c_chunks_stored_len(s3c_segment_plain_len(size, segment));
}

uint64_t s3c_chunks_stored_len(uint64_t size)
{
	return size + s3c_chunk_count(size) * (S3C_CHUNK_STRIDE - S3C_CHUNK_SIZE);
}

bool s3c_chunks_plain_len(uint64_t stored, uint64_t *ret_size)
{
	const uint32_t tag = S3C_CHUNK_STRIDE - S3C_CHUNK_SIZE;
	uint32_t rest = (uint32_t)(stored % S3C_CHUNK_STRIDE);

	if (rest && rest <= tag) /* no chunk is empty */
		return false;
	*ret_size = stored / S3C_CHUNK_STRIDE * S3C_CHUNK_SIZE + (rest ? rest - tag : 0);
	return true;
}
