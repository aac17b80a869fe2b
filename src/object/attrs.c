/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/attrs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "base/util.h"

static int set_number(struct s3c_meta *meta, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return s3c_meta_set(meta, name, text);
}

static int set_time(struct s3c_meta *meta, const char *name, int64_t ns)
{
	/* In unsigned arithmetic, where -INT64_MIN exists. */
	uint64_t abs = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
	uint64_t sec = abs / S3C_NSEC_PER_SEC, rest = abs % S3C_NSEC_PER_SEC;
	char text[48];

	if (rest)
		snprintf(text, sizeof(text), "%s%" PRIu64 ".%09" PRIu64, ns < 0 ? "-" : "", sec,
			 rest);
	else
		snprintf(text, sizeof(text), "%s%" PRIu64, ns < 0 ? "-" : "", sec);
	return s3c_meta_set(meta, name, text);
}

void s3c_attrs_set(struct s3c_attrs *to, const struct s3c_attrs *from)
{
	struct s3c_xattrs *former = to->xattrs;

	*to = *from;
	to->xattrs = s3c_xattrs_ref(from->xattrs);
	s3c_xattrs_put(former);
}

void s3c_attrs_clear(struct s3c_attrs *attrs)
{
	s3c_xattrs_put(attrs->xattrs);
	attrs->xattrs = NULL;
}

static int set_device(struct s3c_meta *meta, dev_t rdev)
{
	char text[32];

	snprintf(text, sizeof(text), "%u:%u", major(rdev), minor(rdev));
	return s3c_meta_set(meta, "rdev", text);
}

int s3c_attrs_encode(const struct s3c_attrs *attrs, struct s3c_meta *meta)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "mode", attrs->mode },
		{ "uid", attrs->uid },
		{ "gid", attrs->gid },
	};
	const struct {
		const char *name;
		int64_t ns;
	} times[] = {
		{ "mtime", attrs->mtime_ns },
		{ "atime", attrs->atime_ns },
		{ "ctime", attrs->ctime_ns },
	};
	int r;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		r = set_number(meta, numbers[i].name, numbers[i].value);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		r = set_time(meta, times[i].name, times[i].ns);
		if (r < 0)
			return r;
	}
	return s3c_mode_is_device(attrs->mode) ? set_device(meta, attrs->rdev) : 0;
}

static bool get_number(const struct s3c_meta *meta, const char *name, uint64_t max,
		       uint64_t *ret_value)
{
	const char *text = s3c_meta_get(meta, name);

	return text && s3c_parse_u64(text, max, ret_value) == 0;
}

/* SECONDS[.FRACTION]; digits after the ninth are dropped. */
static bool parse_time(const char *text, int64_t *ret_ns)
{
	bool negative = *text == '-';
	uint64_t sec, frac = 0, ns, scale = S3C_NSEC_PER_SEC / 10;
	const char *p = text + negative;
	size_t digits = strspn(p, "0123456789");
	char number[24];

	if (!digits || digits >= sizeof(number))
		return false;
	memcpy(number, p, digits);
	number[digits] = '\0';
	if (s3c_parse_u64(number, INT64_MAX / S3C_NSEC_PER_SEC, &sec) < 0)
		return false;
	p += digits;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
			frac += (uint64_t)(*p - '0') * scale;
	}
	if (*p)
		return false;
	ns = sec * S3C_NSEC_PER_SEC + frac;
	if (ns > (uint64_t)INT64_MAX + negative)
		return false;
	*ret_ns = negative ? (int64_t)-ns : (int64_t)ns;
	return true;
}

static void get_time(const struct s3c_meta *meta, const char *name, int64_t *ns)
{
	const char *text = s3c_meta_get(meta, name);

	if (text)
		parse_time(text, ns);
}

static void get_device(const struct s3c_meta *meta, dev_t *rdev)
{
	const char *text = s3c_meta_get(meta, "rdev");
	const char *colon = text ? strchr(text, ':') : NULL;
	uint64_t numbers[2];
	char first[16];

	if (!colon || (size_t)(colon - text) >= sizeof(first))
		return;
	memcpy(first, text, (size_t)(colon - text));
	first[colon - text] = '\0';
	if (s3c_parse_u64(first, UINT32_MAX, &numbers[0]) == 0 &&
	    s3c_parse_u64(colon + 1, UINT32_MAX, &numbers[1]) == 0)
		*rdev = makedev((unsigned)numbers[0], (unsigned)numbers[1]);
}

void s3c_attrs_decode(const struct s3c_meta *meta, struct s3c_attrs *attrs)
{
	uint64_t value;

	if (get_number(meta, "mode", 0177777, &value)) {
		attrs->known = true;
		attrs->mode = (mode_t)value;
	}
	if (get_number(meta, "uid", UINT32_MAX, &value))
		attrs->uid = (uid_t)value;
	if (get_number(meta, "gid", UINT32_MAX, &value))
		attrs->gid = (gid_t)value;
	get_time(meta, "mtime", &attrs->mtime_ns);
	get_time(meta, "atime", &attrs->atime_ns);
	get_time(meta, "ctime", &attrs->ctime_ns);
	get_device(meta, &attrs->rdev);
}
