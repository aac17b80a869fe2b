/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The checksums that S3 takes in x-amz-checksum-* headers. They guard the way
 * to the store against accidents; tags and TLS guard it against people.
 * Both may be continued: start with crc 0 and pass the former result.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli, RFC 3720 B.4); uses SSE4.2 where the processor has it. */
uint32_t s3c_crc32c(uint32_t crc, const void *data, size_t len);
/* The same without special instructions; for processors that lack them, and to compare. */
uint32_t s3c_crc32c_portable(uint32_t crc, const void *data, size_t len);
/* CRC-64/NVME, reflected polynomial 0x9a6c9329ac4bc9b5; check("123456789") = 0xae8b14860a799888. */
uint64_t s3c_crc64nvme(uint64_t crc, const void *data, size_t len);
