/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

char *s3c_asprintf(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : text;
}

/*
 * The digits at the start of text, saturated at UINT64_MAX with *ret_over set. strtoull would take
 * white space and signs as well, and turn -1 into the largest number.
 */
static const char *scan_digits(const char *text, uint64_t *ret_value, bool *ret_over)
{
	uint64_t value = 0;
	bool over = false;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			over = true;
		if (over)
			value = UINT64_MAX;
	}
	*ret_value = value;
	*ret_over = over;
	return p;
}

int s3c_parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
	const char *end;
	uint64_t value;
	bool over;

	if (!text)
		return -EINVAL;
	end = scan_digits(text, &value, &over);
	if (end == text || *end)
		return -EINVAL;
	if (over || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

int s3c_parse_size(const char *text, uint64_t max, uint64_t *ret_bytes)
{
	unsigned shift = 0;
	const char *end;
	uint64_t value;
	bool over;

	if (!text)
		return -EINVAL;
	end = scan_digits(text, &value, &over);
	if (end == text)
		return -EINVAL;
	switch (*end) {
	case 'K':
	case 'k':
		shift = 10;
		break;
	case 'M':
	case 'm':
		shift = 20;
		break;
	case 'G':
	case 'g':
		shift = 30;
		break;
	case 'T':
	case 't':
		shift = 40;
		break;
	}
	if (shift)
		end++;
	if (*end)
		return -EINVAL;
	if (over || value > UINT64_MAX >> shift || value << shift > max)
		return -ERANGE;
	*ret_bytes = value << shift;
	return 0;
}
