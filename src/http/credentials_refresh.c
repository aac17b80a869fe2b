/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The present set, and how it is replaced.
 *
 *   state     loading  what happens
 *   quiet     false    replace answers with the last result: nothing is loaded before
 *                      quiet_until_ns, but by the thread when its time has come
 *   idle      false    the next who wants a load makes it, on his own thread
 *   loading   true     who wants one waits for its end (loads) and shares its result
 *   stopping  any      no load begins; one under way is interrupted
 *
 * current is never NULL after the first load, and is used while the next one runs, fails or stands
 * still. The thread exists once a set from elsewhere that ends was there; it sleeps until due_s,
 * which is a time of the issuer's clock, in slices, because that clock and ours may jump and a
 * machine may be suspended.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "http/credentials_private.h"

#define LOAD_MAX_S 120
#define AHEAD_S (15 * 60)
#define RETRY_MAX_S 64
#define QUIET_FAILED_NS (2 * S3C_NSEC_PER_SEC)
#define QUIET_SAME_NS (5 * S3C_NSEC_PER_SEC)
#define SLICE_NS (60 * S3C_NSEC_PER_SEC)
/* A set that has ended when it comes is used all the same, and asked for again after so long. */
#define EXTENDED_S (10 * 60)

void s3c_credentials_init_synced(struct s3c_credentials *credentials)
{
	s3c_mutex_init(&credentials->synced.lock);
	s3c_waitq_init(&credentials->synced.changed);
	credentials->synced.due_s = INT64_MAX;
}

int64_t s3c_credentials_wait_s(int64_t left_s, unsigned failures)
{
	int64_t wait;

	if (failures > 0) {
		wait = failures < 7 ? 1LL << (failures - 1) : RETRY_MAX_S;
		/* While there is time left it is worth more tries than after the end. */
		return left_s > 1 ? S3C_MIN(wait, left_s / 2) : wait;
	}
	wait = left_s - S3C_MIN((int64_t)AHEAD_S, left_s / 2);
	return S3C_MAX(wait, 1);
}

static int64_t issuer_now(const struct s3c_credential *credential)
{
	return s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC + credential->clock_offset;
}

static void format_time(int64_t seconds, char ret_text[static 32])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(ret_text, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		strcpy(ret_text, "some day");
}

static bool same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool has_ended(const struct s3c_credential *credential)
{
	return credential->expires_s != 0 && credential->expires_s <= issuer_now(credential);
}

/* The end of one that has ended already is not compared: ours may have been put off. */
static bool same_set(const struct s3c_credential *old, const struct s3c_credential *fresh)
{
	return same_text(old->access_key_id, fresh->access_key_id) &&
	       same_text(old->secret_access_key, fresh->secret_access_key) &&
	       same_text(old->session_token, fresh->session_token) &&
	       (old->expires_s == fresh->expires_s || has_ended(fresh));
}

/* The issuer may be late with its next one, or our clock be wrong: the store decides. */
static void put_off_end(struct s3c_credential *fresh)
{
	uint16_t random;

	s3c_random(&random, sizeof(random));
	fresh->expires_s = issuer_now(fresh) + EXTENDED_S + random % EXTENDED_S;
}

static void take_ended(struct s3c_credential *fresh)
{
	char text[32];

	if (!fresh->remote || !has_ended(fresh))
		return;
	format_time(fresh->expires_s, text);
	s3c_warn("the credentials (%s) ended at %s already: they are used as long as the store "
		 "takes them; check their source and the clock of this machine",
		 fresh->source, text);
	put_off_end(fresh);
}

static int load_fresh(struct s3c_credentials *credentials, const char *renewed, struct s3c_op *op,
		      struct s3c_err *err, struct s3c_credential **ret_fresh)
{
	cleanup_cred_sources struct s3c_cred_sources sources = {
		.owner = credentials,
		.op = op,
		.renewed = renewed,
	};
	int r = s3c_cred_sources_open(&sources, credentials->profile, err);

	return r == 0 ? s3c_cred_load(&sources, err, ret_fresh) : r;
}

static void set_due_locked(struct s3c_credentials *credentials)
{
	const struct s3c_credential *current = credentials->synced.current;
	int64_t now;

	credentials->synced.due_s = INT64_MAX;
	if (current == NULL || !current->remote || current->expires_s == 0)
		return;
	now = issuer_now(current);
	credentials->synced.due_s = now + s3c_credentials_wait_s(current->expires_s - now,
								 credentials->synced.failures);
}

static void tell_failure_locked(struct s3c_credentials *credentials)
{
	const struct s3c_credential *current = credentials->synced.current;
	const char *words = s3c_err_text(&credentials->synced.err, credentials->synced.result);
	bool ended;
	char text[32];

	if (current == NULL || credentials->synced.result == -ECANCELED)
		return;
	ended = has_ended(current);
	if (ended && !credentials->synced.told_ended) {
		credentials->synced.told_ended = true;
		s3c_error("the credentials (%s) have ended and cannot be renewed: %s",
			  current->source, words);
	} else if (credentials->synced.failures == 1 && current->expires_s != 0 && !ended) {
		format_time(current->expires_s, text);
		s3c_warn("the credentials (%s) cannot be renewed, those that are there serve until "
			 "%s: %s",
			 current->source, text, words);
	} else if (credentials->synced.failures == 1 && current->expires_s == 0) {
		s3c_error("the credentials (%s) were refused and cannot be loaded again: %s",
			  current->source, words);
	}
}

/* Takes fresh over, or what became of the load. */
static void settle_locked(struct s3c_credentials *credentials, int result,
			  struct s3c_credential *fresh)
{
	struct s3c_credential *old = credentials->synced.current;
	int64_t now = s3c_clock_monotonic_ns();
	bool failed_before = credentials->synced.failures > 0;
	char text[32];

	credentials->synced.result = result;
	credentials->synced.quiet_until_ns = 0;
	if (result < 0) {
		credentials->synced.failures++;
		if (old != NULL && old->remote)
			credentials->synced.quiet_until_ns = now + QUIET_FAILED_NS;
		tell_failure_locked(credentials);
		set_due_locked(credentials);
		return;
	}
	credentials->synced.failures = 0;
	credentials->synced.told_ended = false;
	if (old != NULL && fresh->remote && same_set(old, fresh)) {
		/* A new pointer would make every request that was refused ask once more. */
		old->clock_offset = fresh->clock_offset;
		if (has_ended(fresh) && has_ended(old))
			put_off_end(old);
		credentials->synced.quiet_until_ns = now + QUIET_SAME_NS;
		s3c_credential_put(fresh);
		set_due_locked(credentials);
		return;
	}
	take_ended(fresh);
	credentials->synced.current = fresh;
	set_due_locked(credentials);
	if (old != NULL && fresh->remote && fresh->expires_s != 0) {
		format_time(fresh->expires_s, text);
		s3c_info("the credentials (%s) are renewed and serve until %s", fresh->source,
			 text);
	} else if (old != NULL && failed_before) {
		s3c_info("the credentials (%s) are loaded again", fresh->source);
	}
	s3c_credential_put(old);
}

static void *keep_fresh(void *arg);

static void start_thread_locked(struct s3c_credentials *credentials)
{
	int r;

	if (credentials->synced.has_thread || credentials->synced.stopping ||
	    credentials->synced.due_s == INT64_MAX)
		return;
	r = s3c_thread_start(&credentials->thread, "s3c-creds", keep_fresh, credentials);
	if (r < 0)
		s3c_warn("no thread can be made that renews the credentials: they are renewed when "
			 "they are refused (%s)",
			 strerror(-r));
	credentials->synced.has_thread = r == 0;
}

/* One load, by the caller's thread; nobody else loads. The lock is released meanwhile. */
static void load_locked(struct s3c_credentials *credentials)
{
	const struct s3c_credential *current = credentials->synced.current;
	const char *renewed = current != NULL ? current->source : NULL;
	struct s3c_credential *fresh = NULL;
	struct s3c_err err = { 0 };
	int r;

	s3c_mutex_assert_held(&credentials->synced.lock);
	credentials->synced.loading = true;
	s3c_op_init(&credentials->synced.op,
		    s3c_clock_monotonic_ns() + LOAD_MAX_S * S3C_NSEC_PER_SEC);
	s3c_mutex_unlock(&credentials->synced.lock);
	r = load_fresh(credentials, renewed, &credentials->synced.op, &err, &fresh);
	s3c_mutex_lock(&credentials->synced.lock);
	credentials->synced.loading = false;
	s3c_op_destroy(&credentials->synced.op);
	if (credentials->synced.stopping && r < 0)
		r = -ECANCELED;
	credentials->synced.err = err;
	settle_locked(credentials, r, fresh);
	credentials->synced.loads++;
	s3c_waitq_wake_all(&credentials->synced.changed);
	start_thread_locked(credentials);
}

/* Waits for a load under way, or makes one. */
static int renew_locked(struct s3c_credentials *credentials, struct s3c_err *err)
{
	uint64_t loads = credentials->synced.loads;

	if (credentials->fixed)
		return s3c_err_set(err, -EACCES, "these credentials are not loaded again");
	if (credentials->synced.stopping)
		return s3c_err_set(err, -ECANCELED, "the mount is ending");
	if (!credentials->synced.loading)
		load_locked(credentials);
	while (loads == credentials->synced.loads)
		(void)s3c_waitq_wait(&credentials->synced.changed, &credentials->synced.lock, NULL);
	if (credentials->synced.result < 0 && err != NULL)
		*err = credentials->synced.err;
	return credentials->synced.result;
}

static void *keep_fresh(void *arg)
{
	struct s3c_credentials *credentials = arg;

	s3c_mutex_lock(&credentials->synced.lock);
	while (!credentials->synced.stopping) {
		int64_t left_ns = SLICE_NS;
		struct s3c_op op;

		if (credentials->synced.due_s != INT64_MAX) {
			int64_t left_s =
				credentials->synced.due_s - issuer_now(credentials->synced.current);

			if (left_s <= 0) {
				(void)renew_locked(credentials, NULL);
				continue;
			}
			left_ns = S3C_MIN(left_s, SLICE_NS / S3C_NSEC_PER_SEC) * S3C_NSEC_PER_SEC;
		}
		s3c_op_init(&op, s3c_clock_monotonic_ns() + left_ns);
		(void)s3c_waitq_wait(&credentials->synced.changed, &credentials->synced.lock, &op);
		s3c_op_destroy(&op);
	}
	s3c_mutex_unlock(&credentials->synced.lock);
	return NULL;
}

int s3c_credentials_reload(struct s3c_credentials *credentials, struct s3c_err *err)
{
	int r;

	s3c_mutex_lock(&credentials->synced.lock);
	r = renew_locked(credentials, err);
	s3c_mutex_unlock(&credentials->synced.lock);
	return r;
}

void s3c_credentials_refresh(struct s3c_credentials *credentials, const char *whose)
{
	struct s3c_credential *old = s3c_credentials_get(credentials), *now;
	struct s3c_err err = { 0 };
	int r = credentials->fixed ? 0 : s3c_credentials_reload(credentials, &err);

	now = s3c_credentials_get(credentials);
	if (r < 0)
		s3c_error("credentials of %s: the present ones stay, others cannot be had: %s",
			  whose, s3c_err_text(&err, r));
	else if (now == old || same_set(old, now))
		s3c_info("credentials of %s: looked for again, nothing has changed (%s)", whose,
			 now->source);
	else
		s3c_info("credentials of %s: others are used now (%s)", whose, now->source);
	s3c_credential_put(old);
	s3c_credential_put(now);
}

int s3c_credentials_replace(struct s3c_credentials *credentials, const struct s3c_credential *old,
			    struct s3c_err *err)
{
	int r = 0;

	s3c_mutex_lock(&credentials->synced.lock);
	if (credentials->synced.current == old) {
		if (s3c_clock_monotonic_ns() >= credentials->synced.quiet_until_ns ||
		    credentials->synced.loading) {
			r = renew_locked(credentials, err);
		} else {
			r = credentials->synced.result;
			if (r < 0 && err != NULL)
				*err = credentials->synced.err;
		}
	}
	s3c_mutex_unlock(&credentials->synced.lock);
	return r;
}

struct s3c_credential *s3c_credentials_get(struct s3c_credentials *credentials)
{
	struct s3c_credential *credential;

	s3c_mutex_lock(&credentials->synced.lock);
	credential = credentials->synced.current;
	__atomic_add_fetch(&credential->refs, 1, __ATOMIC_RELAXED);
	s3c_mutex_unlock(&credentials->synced.lock);
	return credential;
}

bool s3c_credentials_ended(struct s3c_credentials *credentials)
{
	bool ended;

	s3c_mutex_lock(&credentials->synced.lock);
	ended = has_ended(credentials->synced.current);
	s3c_mutex_unlock(&credentials->synced.lock);
	return ended;
}

void s3c_credentials_stop(struct s3c_credentials *credentials)
{
	if (credentials == NULL)
		return;
	s3c_mutex_lock(&credentials->synced.lock);
	credentials->synced.stopping = true;
	if (credentials->synced.loading)
		s3c_op_interrupt(&credentials->synced.op);
	s3c_waitq_wake_all(&credentials->synced.changed);
	s3c_mutex_unlock(&credentials->synced.lock);
}

void s3c_credentials_destroy_synced(struct s3c_credentials *credentials)
{
	s3c_credentials_stop(credentials);
	/* Nobody sets it any more. */
	if (credentials->synced.has_thread)
		pthread_join(credentials->thread, NULL);
	s3c_credential_put(credentials->synced.current);
	s3c_mutex_destroy(&credentials->synced.lock);
}
