/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/err.h"

#include <stdio.h>
#include <string.h>

static const char *errno_text(int code)
{
	static _Thread_local char text[128];

	/* The GNU variant: it returns the text, in our buffer or in a constant. */
	return strerror_r(code < 0 ? -code : code, text, sizeof(text));
}

int s3c_err_set(struct s3c_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err || err->text[0])
		return code;
	va_start(ap, fmt);
	if (vsnprintf(err->text, sizeof(err->text), fmt, ap) < 0)
		err->text[0] = '\0';
	va_end(ap);
	return code;
}

int s3c_say(char *why, size_t why_size, int code, const char *fmt, ...)
{
	va_list ap;

	if (why && why_size) {
		va_start(ap, fmt);
		vsnprintf(why, why_size, fmt, ap);
		va_end(ap);
	}
	return code;
}

/* Appends what fits and keeps the NUL; returns the new length. */
static size_t append(char *text, size_t len, const char *more)
{
	size_t n = strlen(more);

	if (n > S3C_ERR_MAX - 1 - len)
		n = S3C_ERR_MAX - 1 - len;
	memcpy(text + len, more, n);
	text[len + n] = '\0';
	return len + n;
}

int s3c_err_prefix(struct s3c_err *err, int code, const char *fmt, ...)
{
	char text[S3C_ERR_MAX];
	va_list ap;
	size_t len;
	int n;

	if (!err)
		return code;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		text[0] = '\0';
	len = append(text, strlen(text), ": ");
	append(text, len, s3c_err_text(err, code));
	memcpy(err->text, text, sizeof(text));
	return code;
}

const char *s3c_err_text(const struct s3c_err *err, int code)
{
	return err && err->text[0] ? err->text : errno_text(code);
}
