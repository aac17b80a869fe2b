/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A growing byte buffer with a maximum, for what comes from outside.
 *
 * Zero-initialise or use s3c_buf_init; s3c_buf_free leaves it empty and usable.
 * An append that does not fit gives -EMSGSIZE and leaves the buffer as it was;
 * -ENOMEM likewise. The data is followed by a NUL byte that does not count, so
 * text can be read as a string. Not shared between threads.
 */
#pragma once

#include <stddef.h>

#include "base/util.h"

struct s3c_buf {
	char *data;   /* NULL while nothing was ever appended */
	size_t len;   /* bytes used, without the NUL */
	size_t alloc; /* bytes allocated */
	size_t max;   /* largest len; 0 counts as S3C_BUF_DEFAULT_MAX */
};

#define S3C_BUF_DEFAULT_MAX (16u << 20)

void s3c_buf_init(struct s3c_buf *buf, size_t max);
void s3c_buf_free(struct s3c_buf *buf);
/* Wipes the bytes before it frees them. */
void s3c_buf_free_secret(struct s3c_buf *buf);
void s3c_buf_reset(struct s3c_buf *buf);
int s3c_buf_reserve(struct s3c_buf *buf, size_t more);
int s3c_buf_append(struct s3c_buf *buf, const void *data, size_t len);
int s3c_buf_append_str(struct s3c_buf *buf, const char *text);
int s3c_buf_append_char(struct s3c_buf *buf, char c);
int s3c_buf_printf(struct s3c_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The text ("" when empty); the caller frees; the buffer is empty afterwards. NULL: no memory. */
char *s3c_buf_steal(struct s3c_buf *buf);

#define cleanup_buf __attribute__((cleanup(s3c_buf_free)))
