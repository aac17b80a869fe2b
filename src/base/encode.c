/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/encode.h"

#include <errno.h>
#include <string.h>

static const char hex_lower[] = "0123456789abcdef";
static const char hex_upper[] = "0123456789ABCDEF";
static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

void s3c_hex_encode(const void *data, size_t len, char *ret_text)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++) {
		*ret_text++ = hex_lower[p[i] >> 4];
		*ret_text++ = hex_lower[p[i] & 15];
	}
	*ret_text = '\0';
}

int s3c_hex_decode(const char *text, void *ret_data, size_t len)
{
	uint8_t *out = ret_data;

	if (len > SIZE_MAX / 2)
		return -EINVAL;
	/* Looked through first: outputs stay untouched on failure. The NUL is no digit. */
	for (size_t i = 0; i < 2 * len; i++)
		if (hex_digit(text[i]) < 0)
			return -EINVAL;
	if (text[2 * len])
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
	return 0;
}

void s3c_base64_encode(const void *data, size_t len, char *ret_text)
{
	const uint8_t *p = data;

	while (len) {
		size_t n = S3C_MIN(len, (size_t)3);
		uint32_t v = (uint32_t)p[0] << 16;

		if (n > 1)
			v |= (uint32_t)p[1] << 8;
		if (n > 2)
			v |= p[2];
		*ret_text++ = base64_digits[v >> 18];
		*ret_text++ = base64_digits[v >> 12 & 63];
		*ret_text++ = n > 1 ? base64_digits[v >> 6 & 63] : '=';
		*ret_text++ = n > 2 ? base64_digits[v & 63] : '=';
		p += n;
		len -= n;
	}
	*ret_text = '\0';
}

int s3c_base64_decode(const char *text, size_t text_len, void *ret_data, size_t max,
		      size_t *ret_len)
{
	uint8_t *out = ret_data;
	size_t digits = text_len, len;

	if (text_len % 4)
		return -EINVAL;
	while (digits && text_len - digits < 2 && text[digits - 1] == '=')
		digits--;
	for (size_t i = 0; i < digits; i++)
		if (base64_digit(text[i]) < 0)
			return -EINVAL;
	/* The bits of the last digit that mean nothing must be 0: one text for each value. */
	if (text_len - digits == 1 && base64_digit(text[digits - 1]) & 3)
		return -EINVAL;
	if (text_len - digits == 2 && base64_digit(text[digits - 1]) & 15)
		return -EINVAL;
	len = digits / 4 * 3 + (digits % 4 ? digits % 4 - 1 : 0);
	if (len > max)
		return -EMSGSIZE;

	for (size_t i = 0, o = 0; o < len; i += 4, o += 3) {
		uint32_t v = 0;

		for (size_t j = 0; j < 4; j++)
			v = v << 6 | (i + j < digits ? (uint32_t)base64_digit(text[i + j]) : 0);
		out[o] = (uint8_t)(v >> 16);
		if (o + 1 < len)
			out[o + 1] = (uint8_t)(v >> 8);
		if (o + 2 < len)
			out[o + 2] = (uint8_t)v;
	}
	*ret_len = len;
	return 0;
}

void s3c_base32_encode(const void *data, size_t len, char *ret_text)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	const uint8_t *in = data;
	unsigned bits = 0, have = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | in[i];
		for (have += 8; have >= 5; have -= 5)
			*ret_text++ = digits[bits >> (have - 5) & 31];
	}
	if (have)
		*ret_text++ = digits[bits << (5 - have) & 31];
	*ret_text = '\0';
}

static int base32_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'v' ? c - 'a' + 10 : -1;
}

int s3c_base32_decode(const char *text, size_t text_len, void *ret_data, size_t max,
		      size_t *ret_len)
{
	size_t len = text_len / 8 * 5 + text_len % 8 * 5 / 8, o = 0;
	uint8_t *out = ret_data;
	unsigned bits = 0, have = 0;

	/* The last digits that no number of bytes needs; and the bits that mean nothing are 0. */
	if (S3C_BASE32_LEN(len) != text_len)
		return -EINVAL;
	for (size_t i = 0; i < text_len; i++) {
		int digit = base32_digit(text[i]);

		if (digit < 0 ||
		    (i + 1 == text_len && digit & ((1 << (text_len * 5 - len * 8)) - 1)))
			return -EINVAL;
	}
	if (len > max)
		return -EMSGSIZE;
	for (size_t i = 0; i < text_len; i++) {
		bits = bits << 5 | (unsigned)base32_digit(text[i]);
		have += 5;
		if (have < 8)
			continue;
		have -= 8;
		out[o++] = (uint8_t)(bits >> have);
	}
	*ret_len = len;
	return 0;
}

static bool uri_unreserved(char c, bool keep_slash)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash);
}

int s3c_uri_encode(struct s3c_buf *out, const char *data, size_t len, bool keep_slash)
{
	size_t need = 0;
	char *p;
	int r;

	for (size_t i = 0; i < len; i++) {
		need += uri_unreserved(data[i], keep_slash) ? 1 : 3;
		if (need > SIZE_MAX - 3)
			return -EMSGSIZE;
	}
	r = s3c_buf_reserve(out, need);
	if (r < 0)
		return r;
	p = out->data + out->len;
	for (size_t i = 0; i < len; i++) {
		if (uri_unreserved(data[i], keep_slash)) {
			*p++ = data[i];
		} else {
			*p++ = '%';
			*p++ = hex_upper[(uint8_t)data[i] >> 4];
			*p++ = hex_upper[(uint8_t)data[i] & 15];
		}
	}
	*p = '\0';
	out->len += need;
	return 0;
}

int s3c_uri_decode(struct s3c_buf *out, const char *text, size_t len)
{
	size_t need = 0;
	char *p;
	int r;

	for (size_t i = 0; i < len; i++, need++) {
		if (text[i] != '%')
			continue;
		if (len - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
			return -EINVAL;
		i += 2;
	}
	r = s3c_buf_reserve(out, need);
	if (r < 0)
		return r;
	p = out->data + out->len;
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '%') {
			*p++ = text[i];
		} else {
			*p++ = (char)(hex_digit(text[i + 1]) << 4 | hex_digit(text[i + 2]));
			i += 2;
		}
	}
	*p = '\0';
	out->len += need;
	return 0;
}

static size_t utf8_next(const unsigned char *text, uint32_t *ret_char)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = text;
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);

	if (!len || p[0] >= 0xf8)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[len] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
		return 0;
	*ret_char = c;
	return len;
}

size_t s3c_xml_char(const unsigned char *text)
{
	uint32_t c = 0;
	size_t len = utf8_next(text, &c);

	return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0xfffe || c == 0xffff
		       ? 0
		       : len;
}
