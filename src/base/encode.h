/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Text encodings. Pure functions, thread-safe. Decoders accept only canonical
 * input of the exact alphabet and give -EINVAL otherwise.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Lower-case hex; ret_text holds 2 * len + 1 bytes. */
void s3c_hex_encode(const void *data, size_t len, char *ret_text);
/* A string of exactly 2 * len digits, either case. */
int s3c_hex_decode(const char *text, void *ret_data, size_t len);

#define S3C_BASE64_LEN(n) (((n) + 2) / 3 * 4) /* characters, without the NUL */
/* RFC 4648 section 4, padded; ret_text holds S3C_BASE64_LEN(len) + 1 bytes. */
void s3c_base64_encode(const void *data, size_t len, char *ret_text);
/* Decodes text_len characters into at most max bytes; -EINVAL, or -EMSGSIZE when they do not fit.
 */
int s3c_base64_decode(const char *text, size_t text_len, void *ret_data, size_t max,
		      size_t *ret_len);

#define S3C_BASE32_LEN(n) (((n)*8 + 4) / 5) /* characters, without the NUL */
/* RFC 4648 section 7 (base32hex) in lower case, not padded; ret_text holds S3C_BASE32_LEN(len) + 1
   bytes. */
void s3c_base32_encode(const void *data, size_t len, char *ret_text);
/* As s3c_base64_decode. */
int s3c_base32_decode(const char *text, size_t text_len, void *ret_data, size_t max,
		      size_t *ret_len);

/* Appends bytes with everything outside A-Za-z0-9-._~ as %XX (upper case); keep_slash leaves '/'.
 */
int s3c_uri_encode(struct s3c_buf *out, const char *data, size_t len, bool keep_slash);
/* Appends the decoded bytes; '+' stays '+'. */
int s3c_uri_decode(struct s3c_buf *out, const char *text, size_t len);

/* Big-endian numbers, as every format of ours has them. */
/* Bytes of the character at the beginning of a text that ends with a NUL; 0: it is not UTF-8 (RFC
   3629), or one that XML 1.0 has no place for. */
size_t s3c_xml_char(const unsigned char *text);

static inline void s3c_put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void s3c_put_be32(uint8_t *p, uint32_t v)
{
	s3c_put_be16(p, (uint16_t)(v >> 16));
	s3c_put_be16(p + 2, (uint16_t)v);
}
static inline void s3c_put_be64(uint8_t *p, uint64_t v)
{
	s3c_put_be32(p, (uint32_t)(v >> 32));
	s3c_put_be32(p + 4, (uint32_t)v);
}
static inline uint16_t s3c_get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t s3c_get_be32(const uint8_t *p)
{
	return (uint32_t)s3c_get_be16(p) << 16 | s3c_get_be16(p + 2);
}
static inline uint64_t s3c_get_be64(const uint8_t *p)
{
	return (uint64_t)s3c_get_be32(p) << 32 | s3c_get_be32(p + 4);
}
