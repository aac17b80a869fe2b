/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Small helpers that every layer uses: ownership macros and checked sizes.
 *
 * A function that owns something on its way out declares the variable with a
 * cleanup macro (cleanup_free, cleanup_x beside each x_free) and hands it to
 * its caller with steal_ptr().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define S3C_MIN(a, b) ((a) < (b) ? (a) : (b))
#define S3C_MAX(a, b) ((a) > (b) ? (a) : (b))
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))

/* The struct of type that has ptr as its member. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Gives the pointer away: the variable becomes NULL. */
#define steal_ptr(p)                                                                               \
	({                                                                                         \
		__auto_type _stolen = (p);                                                         \
		(p) = NULL;                                                                        \
		_stolen;                                                                           \
	})

static inline void s3c_cleanup_free(void *pp)
{
	free(*(void **)pp);
}

static inline void s3c_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define cleanup_free __attribute__((cleanup(s3c_cleanup_free)))
#define cleanup_close __attribute__((cleanup(s3c_cleanup_close)))

/* Formats into newly allocated memory, NULL when there is none. The caller frees. */
char *s3c_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Parses a whole decimal number of at most max; 0, -EINVAL (no number, trailing bytes) or -ERANGE.
 */
int s3c_parse_u64(const char *text, uint64_t max, uint64_t *ret_value);

/* The same, or with a suffix K, M, G or T in either case (powers of 1,024). */
int s3c_parse_size(const char *text, uint64_t max, uint64_t *ret_bytes);
