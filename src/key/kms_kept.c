/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/secret.h"
#include "key/kms_private.h"

#define KEPT_MAX 2048u /* 64 KiB of the 1 MiB of secret memory */

int64_t s3c_kms_expiry(const struct s3c_kms_keys *keys)
{
	return s3c_clock_monotonic_ns() + (int64_t)keys->cache_s * S3C_NSEC_PER_SEC;
}

int s3c_kms_digest(const struct s3c_kms_wrap *wrap, const char *context,
		   uint8_t ret_digest[static S3C_SHA256_LEN])
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = s3c_buf_append(&text, wrap->arn, strlen(wrap->arn) + 1);

	if (r == 0)
		r = s3c_buf_append(&text, context, strlen(context) + 1);
	if (r == 0)
		r = s3c_buf_append(&text, wrap->data, wrap->len);
	return r < 0 ? r : s3c_sha256(text.data, text.len, ret_digest);
}

static void drop_locked(struct s3c_kms_keys *keys, struct s3c_kms_kept *kept)
{
	HASH_DEL(keys->kept, kept);
	TAILQ_REMOVE(&keys->kept_order, kept, link);
	keys->kept_count--;
	s3c_secret_free(kept->key);
	free(kept);
}

bool s3c_kms_kept_get(struct s3c_kms_keys *keys, const uint8_t digest[static S3C_SHA256_LEN],
		      uint8_t ret_key[static S3C_KEY_LEN])
{
	struct s3c_kms_kept *kept;

	s3c_mutex_lock(&keys->lock);
	HASH_FIND(hh, keys->kept, digest, S3C_SHA256_LEN, kept);
	if (kept && kept->expires_ns <= s3c_clock_monotonic_ns())
		kept = NULL;
	if (kept)
		memcpy(ret_key, kept->key, S3C_KEY_LEN);
	s3c_mutex_unlock(&keys->lock);
	return kept != NULL;
}

/* Does without where there is no memory. */
void s3c_kms_kept_put(struct s3c_kms_keys *keys, const uint8_t digest[static S3C_SHA256_LEN],
		      const uint8_t key[static S3C_KEY_LEN])
{
	struct s3c_kms_kept *kept;

	if (!keys->cache_s)
		return;
	s3c_mutex_lock(&keys->lock);
	HASH_FIND(hh, keys->kept, digest, S3C_SHA256_LEN, kept);
	if (kept) /* keeps its time: nothing lives longer for being used */
		goto out;
	while (keys->kept_count >= KEPT_MAX)
		drop_locked(keys, TAILQ_FIRST(&keys->kept_order));
	kept = calloc(1, sizeof(*kept));
	if (!kept)
		goto out;
	kept->key = s3c_secret_alloc(S3C_KEY_LEN);
	if (!kept->key) {
		free(kept);
		goto out;
	}
	memcpy(kept->digest, digest, sizeof(kept->digest));
	memcpy(kept->key, key, S3C_KEY_LEN);
	kept->expires_ns = s3c_kms_expiry(keys);
	if (!keys->kept_count++)
		s3c_waitq_wake_all(&keys->wake);
	HASH_ADD(hh, keys->kept, digest, sizeof(kept->digest), kept);
	TAILQ_INSERT_TAIL(&keys->kept_order, kept, link);
out:
	s3c_mutex_unlock(&keys->lock);
}

static int64_t expire_locked(struct s3c_kms_keys *keys, int64_t now)
{
	struct s3c_kms_kept *kept;

	while ((kept = TAILQ_FIRST(&keys->kept_order)) && kept->expires_ns <= now)
		drop_locked(keys, kept);
	return kept ? kept->expires_ns : INT64_MAX;
}

/* Nothing stays in memory past its time, used or not. */
static void *let_go(void *arg)
{
	struct s3c_kms_keys *keys = arg;

	s3c_mutex_lock(&keys->lock);
	while (!keys->stop) {
		int64_t now = s3c_clock_monotonic_ns();
		int64_t next = expire_locked(keys, now);
		struct s3c_op op;

		next = S3C_MIN(next, s3c_kms_ready_expire_locked(keys, now));
		s3c_op_init(&op, next);
		(void)s3c_waitq_wait(&keys->wake, &keys->lock, &op);
		s3c_op_destroy(&op);
	}
	s3c_mutex_unlock(&keys->lock);
	return NULL;
}

int s3c_kms_kept_start(struct s3c_kms_keys *keys)
{
	int r = s3c_thread_start(&keys->thread, "kms-keys", let_go, keys);

	keys->thread_runs = r == 0;
	return r;
}

void s3c_kms_kept_stop(struct s3c_kms_keys *keys)
{
	s3c_mutex_lock(&keys->lock);
	keys->stop = true;
	s3c_waitq_wake_all(&keys->wake);
	s3c_mutex_unlock(&keys->lock);
	if (keys->thread_runs)
		pthread_join(keys->thread, NULL);
	s3c_mutex_lock(&keys->lock);
	(void)expire_locked(keys, INT64_MAX);
	s3c_mutex_unlock(&keys->lock);
}
