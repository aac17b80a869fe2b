/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Memory for keys: locked (never swapped), left out of core dumps, wiped on free.
 *
 * It is OpenSSL's secure heap, so that EVP objects and ours share one arena.
 * s3c_secret_init comes before the first key and before threads; it disables
 * core dumps (PR_SET_DUMPABLE, RLIMIT_CORE) and warns, once, where memory
 * cannot be locked. Thread-safe after init.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

int s3c_secret_init(void);
/* NULL: the arena (1 MiB) is full, or there was no init; never ordinary memory. It is zeroed. */
void *s3c_secret_alloc(size_t len);
/* Wipes and frees; NULL is legal. */
void s3c_secret_free(void *secret);
/* A copy in secret memory, NUL-terminated; NULL: no memory. */
char *s3c_secret_strdup(const char *text);
/* Wipes ordinary memory in a way that the compiler keeps. */
void s3c_wipe(void *data, size_t len);

static inline void s3c_secret_freep(void *pp)
{
	s3c_secret_free(*(void **)pp);
}
#define cleanup_secret __attribute__((cleanup(s3c_secret_freep)))
