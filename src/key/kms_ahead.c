/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Data keys fetched ahead: as many as were needed at once so far. They are fetched
 * only when one was taken, so that a mount at rest costs nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "key/kms_private.h"

#define AHEAD_FIRST 8u
#define AHEAD_MAX 128u
#define AHEAD_SHARED 2u /* one in use, one to follow it */
#define THREADS_MAX 8u

void s3c_kms_ready_free(struct s3c_kms_ready *ready)
{
	if (!ready)
		return;
	s3c_secret_free(ready->key);
	s3c_kms_wrap_put(ready->wrap);
	free(ready);
}

static void remove_locked(struct s3c_kms_keys *keys, struct s3c_kms_ready *ready)
{
	TAILQ_REMOVE(&keys->ready, ready, link);
	keys->ready_count--;
}

int64_t s3c_kms_ready_expire_locked(struct s3c_kms_keys *keys, int64_t now)
{
	struct s3c_kms_ready *ready;

	while ((ready = TAILQ_FIRST(&keys->ready)) && ready->expires_ns <= now) {
		remove_locked(keys, ready);
		s3c_kms_ready_free(ready);
	}
	return ready ? ready->expires_ns : INT64_MAX;
}

static const uint8_t *pool_volume(const struct s3c_kms_keys *keys)
{
	return keys->others ? NULL : keys->volume_id;
}

/* Are objects of that volume and format those that keys are fetched ahead for? */
static bool is_pool(const struct s3c_kms_keys *keys, const uint8_t *volume_id, const char *alg)
{
	return keys->alg && strcmp(alg, keys->alg) == 0 && keys->others == !volume_id &&
	       (!volume_id || memcmp(volume_id, keys->volume_id, S3C_VOLUME_ID_LEN) == 0);
}

/* Do several objects share a key? */
static bool is_shared(const struct s3c_kms_keys *keys, const uint8_t *volume_id)
{
	return keys->reuse && volume_id;
}

static int make_ready(struct s3c_kms_keys *keys, struct s3c_op *op, const uint8_t *volume_id,
		      const char *alg, struct s3c_kms_ready **ret_ready, char *why, size_t why_size)
{
	struct s3c_kms_ready *ready = calloc(1, sizeof(*ready));
	bool shared = is_shared(keys, volume_id);
	struct s3c_kms_bound bound = { .volume_id = volume_id, .alg = alg };
	int r = 0;

	if (!ready)
		return -ENOMEM;
	ready->key = s3c_secret_alloc(S3C_KEY_LEN);
	if (!ready->key)
		r = -ENOMEM;
	ready->left = shared ? keys->reuse : 1;
	s3c_random(ready->file_id, sizeof(ready->file_id));
	bound.file_id = shared ? NULL : ready->file_id;
	if (r == 0)
		r = s3c_kms_make(keys, op, &bound, ready->key, &ready->wrap, why, why_size);
	if (r < 0) {
		s3c_kms_ready_free(ready);
		return r;
	}
	ready->expires_ns = s3c_kms_expiry(keys);
	*ret_ready = ready;
	return 0;
}

static void add_locked(struct s3c_kms_keys *keys, struct s3c_kms_ready *ready)
{
	if (!keys->ready_count++)
		s3c_waitq_wake_all(&keys->wake);
	TAILQ_INSERT_TAIL(&keys->ready, ready, link);
}

static void refill_locked(struct s3c_kms_keys *keys);

static void fetch_ahead(struct s3c_job *base)
{
	struct s3c_kms_job *job = (struct s3c_kms_job *)base;
	struct s3c_kms_keys *keys = job->keys;
	struct s3c_kms_ready *ready;
	char why[512] = "";
	int r = make_ready(keys, &job->op, pool_volume(keys), keys->alg, &ready, why, sizeof(why));
	bool say;

	s3c_mutex_lock(&keys->lock);
	LIST_REMOVE(job, link);
	keys->running--;
	if (r == 0)
		add_locked(keys, ready);
	say = r < 0 && !keys->failing && !keys->stop;
	keys->failing = r < 0;
	/* After a failure whoever needs a key asks himself, and gets the reason. */
	if (r == 0)
		refill_locked(keys);
	s3c_mutex_unlock(&keys->lock);
	if (say)
		s3c_warn("data keys cannot be fetched ahead: %s", why[0] ? why : strerror(-r));
	s3c_op_destroy(&job->op);
	free(job);
}

static void refill_locked(struct s3c_kms_keys *keys)
{
	while (keys->pool && !keys->stop && keys->running < THREADS_MAX &&
	       keys->ready_count + keys->running < keys->target) {
		struct s3c_kms_job *job = calloc(1, sizeof(*job));

		if (!job)
			return;
		job->job.run = fetch_ahead;
		job->keys = keys;
		s3c_op_init(&job->op, INT64_MAX);
		LIST_INSERT_HEAD(&keys->jobs, job, link);
		keys->running++;
		s3c_pool_submit(keys->pool, &job->job);
	}
}

/*
 * One of those at hand, NULL: there is none. A shared one stays for the next, and only its key and
 * wrap are for the caller: *ret_shared.
 */
static struct s3c_kms_ready *take_ready(struct s3c_kms_keys *keys, uint8_t *ret_key,
					struct s3c_kms_wrap **ret_wrap, bool *ret_found)
{
	struct s3c_kms_ready *ready;

	s3c_mutex_lock(&keys->lock);
	(void)s3c_kms_ready_expire_locked(keys, s3c_clock_monotonic_ns());
	ready = TAILQ_FIRST(&keys->ready);
	*ret_found = ready != NULL;
	if (ready) {
		memcpy(ret_key, ready->key, S3C_KEY_LEN);
		*ret_wrap = s3c_kms_wrap_ref(ready->wrap);
		if (--ready->left == 0)
			remove_locked(keys, ready);
		else
			ready = NULL;
	} else if (keys->target && !is_shared(keys, pool_volume(keys))) {
		keys->target = S3C_MIN(2 * keys->target, AHEAD_MAX);
	}
	refill_locked(keys);
	s3c_mutex_unlock(&keys->lock);
	return ready;
}

int s3c_kms_shared_key(struct s3c_kms_keys *keys, struct s3c_op *op,
		       uint8_t ret_key[static S3C_KEY_LEN], struct s3c_kms_wrap **ret_wrap,
		       char *why, size_t why_size)
{
	struct s3c_kms_ready *ready;
	bool found;
	int r;

	ready = take_ready(keys, ret_key, ret_wrap, &found);
	s3c_kms_ready_free(ready);
	if (found)
		return 0;
	r = make_ready(keys, op, keys->volume_id, keys->alg, &ready, why, why_size);
	if (r < 0)
		return r;
	memcpy(ret_key, ready->key, S3C_KEY_LEN);
	*ret_wrap = s3c_kms_wrap_ref(ready->wrap);
	if (--ready->left == 0) {
		s3c_kms_ready_free(ready);
		return 0;
	}
	s3c_mutex_lock(&keys->lock);
	add_locked(keys, ready);
	s3c_mutex_unlock(&keys->lock);
	return 0;
}

static int draw_shared(struct s3c_kms_keys *keys, struct s3c_op *op, uint8_t *ret_file_id,
		       uint8_t *ret_key, uint8_t *ret_local, struct s3c_kms_wrap **ret_wrap,
		       char *why, size_t why_size)
{
	uint8_t file_id[S3C_FILE_ID_LEN], key[S3C_KEY_LEN];
	int r;

	s3c_random(file_id, sizeof(file_id));
	s3c_random(key, sizeof(key));
	r = s3c_kms_keys_seal(keys, op, keys->volume_id, file_id, keys->alg, key, ret_local,
			      ret_wrap, why, why_size);
	if (r == 0) {
		memcpy(ret_file_id, file_id, sizeof(file_id));
		memcpy(ret_key, key, sizeof(key));
	}
	s3c_wipe(key, sizeof(key));
	return r;
}

int s3c_kms_keys_draw(struct s3c_kms_keys *keys, struct s3c_op *op, const uint8_t *volume_id,
		      const char *alg, uint8_t ret_file_id[static S3C_FILE_ID_LEN],
		      uint8_t ret_key[static S3C_KEY_LEN], uint8_t *ret_local,
		      struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size)
{
	struct s3c_kms_ready *ready = NULL;
	bool found = false;
	int r;

	if (!keys->writes || (is_shared(keys, volume_id) && !is_pool(keys, volume_id, alg)))
		return -EINVAL;
	if (is_shared(keys, volume_id))
		return draw_shared(keys, op, ret_file_id, ret_key, ret_local, ret_wrap, why,
				   why_size);
	if (is_pool(keys, volume_id, alg))
		ready = take_ready(keys, ret_key, ret_wrap, &found);
	if (!found) {
		s3c_debug("a new file waits for a data key");
		r = make_ready(keys, op, volume_id, alg, &ready, why, why_size);
		if (r < 0)
			return r;
		memcpy(ret_key, ready->key, S3C_KEY_LEN);
		*ret_wrap = s3c_kms_wrap_ref(ready->wrap);
	}
	memcpy(ret_file_id, ready->file_id, S3C_FILE_ID_LEN);
	s3c_kms_ready_free(ready);
	return 0;
}

int s3c_kms_keys_begin(struct s3c_kms_keys *keys, const uint8_t *volume_id, const char *alg,
		       struct s3c_err *err)
{
	struct s3c_kms_ready *ready;
	char why[512] = "";
	int r;

	if (volume_id)
		memcpy(keys->volume_id, volume_id, sizeof(keys->volume_id));
	else
		keys->reuse = 0;
	keys->others = !volume_id;
	keys->alg = strdup(alg);
	if (!keys->alg)
		return -ENOMEM;
	r = make_ready(keys, NULL, volume_id, alg, &ready, why, sizeof(why));
	if (r < 0)
		return s3c_err_set(err, r, "no data key can be had from the KMS: %s",
				   why[0] ? why : strerror(-r));
	if (!keys->cache_s) {
		s3c_kms_ready_free(ready);
		return 0;
	}
	r = s3c_pool_new("kms", 1, THREADS_MAX, &keys->pool);
	if (r < 0) {
		s3c_kms_ready_free(ready);
		return r;
	}
	s3c_mutex_lock(&keys->lock);
	keys->target = keys->reuse ? AHEAD_SHARED : AHEAD_FIRST;
	add_locked(keys, ready);
	refill_locked(keys);
	s3c_mutex_unlock(&keys->lock);
	return 0;
}
