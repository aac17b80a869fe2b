/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"

#define BUF_FIRST_ALLOC 64

void s3c_buf_init(struct s3c_buf *buf, size_t max)
{
	*buf = (struct s3c_buf){ .max = max };
}

void s3c_buf_free(struct s3c_buf *buf)
{
	free(buf->data);
	s3c_buf_init(buf, buf->max);
}

void s3c_buf_free_secret(struct s3c_buf *buf)
{
	if (buf->data)
		s3c_wipe(buf->data, buf->alloc);
	s3c_buf_free(buf);
}

void s3c_buf_reset(struct s3c_buf *buf)
{
	buf->len = 0;
	if (buf->data)
		buf->data[0] = '\0';
}

int s3c_buf_reserve(struct s3c_buf *buf, size_t more)
{
	size_t max = buf->max ? buf->max : S3C_BUF_DEFAULT_MAX;
	size_t alloc;
	char *data;

	if (buf->len > max || more > max - buf->len || max == SIZE_MAX)
		return -EMSGSIZE;
	if (buf->data && buf->len + more < buf->alloc)
		return 0;

	alloc = S3C_MAX(buf->len + more + 1, (size_t)BUF_FIRST_ALLOC);
	if (buf->alloc <= max / 2)
		alloc = S3C_MAX(alloc, buf->alloc * 2);
	else
		alloc = S3C_MAX(alloc, max + 1);

	/* Not realloc: it may leave the bytes behind, and s3c_buf_free_secret promises that no
	 * copy stays. */
	data = malloc(alloc);
	if (!data)
		return -ENOMEM;
	if (buf->data) {
		memcpy(data, buf->data, buf->len);
		s3c_wipe(buf->data, buf->len);
		free(buf->data);
	}
	data[buf->len] = '\0';
	buf->data = data;
	buf->alloc = alloc;
	return 0;
}

int s3c_buf_append(struct s3c_buf *buf, const void *data, size_t len)
{
	int r = s3c_buf_reserve(buf, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return 0;
}

int s3c_buf_append_str(struct s3c_buf *buf, const char *text)
{
	return s3c_buf_append(buf, text, strlen(text));
}

int s3c_buf_append_char(struct s3c_buf *buf, char c)
{
	return s3c_buf_append(buf, &c, 1);
}

int s3c_buf_printf(struct s3c_buf *buf, const char *fmt, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EMSGSIZE;
	r = s3c_buf_reserve(buf, (size_t)n);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	buf->len += (size_t)n;
	return 0;
}

char *s3c_buf_steal(struct s3c_buf *buf)
{
	char *text = buf->data ? buf->data : calloc(1, 1);

	if (!text)
		return NULL;
	s3c_buf_init(buf, buf->max);
	return text;
}
