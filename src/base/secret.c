/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <openssl/crypto.h>

#include "base/log.h"

#define ARENA_LEN (1u << 20) /* a power of two, as OpenSSL wants it */
#define ARENA_MIN 32         /* smallest piece */

int s3c_secret_init(void)
{
	const struct rlimit none = { 0, 0 };
	int r;

	/* Keys pass through ordinary memory as well (key schedules, stacks), therefore no dumps. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	if (CRYPTO_secure_malloc_initialized())
		return 0;
	r = CRYPTO_secure_malloc_init(ARENA_LEN, ARENA_MIN);
	if (r == 0)
		return -ENOMEM;
	if (r == 2)
		s3c_warn("memory for keys cannot be locked and may be swapped out: raise the limit "
			 "on locked memory (ulimit -l) to 1 MiB or more");
	return 0;
}

void *s3c_secret_alloc(size_t len)
{
	/* Without an arena OpenSSL falls back to malloc; that would be no secret memory. */
	if (!CRYPTO_secure_malloc_initialized()) {
		s3c_error("memory for keys was asked for before s3c_secret_init");
		return NULL;
	}
	return OPENSSL_secure_zalloc(len);
}

void s3c_secret_free(void *secret)
{
	OPENSSL_secure_free(secret); /* wipes the whole piece */
}

char *s3c_secret_strdup(const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = s3c_secret_alloc(len);

	if (copy)
		memcpy(copy, text, len);
	return copy;
}

void s3c_wipe(void *data, size_t len)
{
	OPENSSL_cleanse(data, len);
}
