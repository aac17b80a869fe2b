/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * READY=1 when the mount is up and after a reload, RELOADING=1 at the beginning of one, STOPPING=1
 * at the end, a STATUS= whenever what waits for the store has changed. WATCHDOG=1 is sent twice in
 * each period and only after the engine has told its numbers: one that has locked itself up is
 * not heard of, and is started again by the manager. The end may take long, with a large journal:
 * as long as it goes on it asks for more time.
 */
#include "cli/service.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/notify.h"
#include "base/thread.h"
#include "cli/progress.h"
#include "cli/reload.h"

#define STATUS_NS (5 * S3C_NSEC_PER_SEC)
#define LEAVING_NS S3C_NSEC_PER_SEC
#define EXTEND_US 30000000u
#define STATUS_MAX 512

struct s3c_service {
	struct s3c_access *access;
	const char *mountpoint;
	char status[STATUS_MAX]; /* sent last; of the thread that notifies */
	pthread_t ticker, reloader;
	bool ticking; /* the thread is there */

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_waitq changed;
	bool stop, leaving;
	bool has_reloader; /* a thread that has to be joined */
	bool reloading, again;
};

struct unsent_sum {
	unsigned files, names, failed;
	uint64_t bytes;
};

static void on_unsent(void *arg, const struct s3c_unsent *unsent)
{
	struct unsent_sum *sum = arg;

	sum->files += unsent->what == S3C_UNSENT_FILE;
	sum->names += unsent->what != S3C_UNSENT_FILE;
	sum->failed += unsent->state == S3C_UNSENT_FAILED || unsent->state == S3C_UNSENT_PARKED;
	sum->bytes += unsent->bytes;
}

static void tell_status(struct s3c_service *service, bool leaving)
{
	const char *source = service->access->from->text;
	char left[S3C_LEFT_TEXT], failed[64] = "", text[STATUS_MAX];
	struct unsent_sum sum = { 0 };

	/* Waits where the engine has locked itself up. */
	s3c_engine_unsent(service->access->engine, on_unsent, &sum);
	if (sum.failed)
		snprintf(failed, sizeof(failed), ", %u failed: see s3cryptfsctl status",
			 sum.failed);
	if (sum.files || sum.names)
		snprintf(text, sizeof(text), "%s%s on %s: %s to be stored%s",
			 leaving ? "ending: " : "", source, service->mountpoint,
			 s3c_left_text(sum.files, sum.names, sum.bytes, left), failed);
	else
		snprintf(text, sizeof(text), "%s%s on %s: everything is in the store",
			 leaving ? "ending: " : "", source, service->mountpoint);
	if (strcmp(text, service->status) != 0) {
		strcpy(service->status, text);
		s3c_notify("STATUS=%s", text);
	}
	if (leaving)
		s3c_notify("EXTEND_TIMEOUT_USEC=%u", EXTEND_US);
	if (s3c_notify_watchdog_us())
		s3c_notify("WATCHDOG=1");
}

static void *ticker_main(void *arg)
{
	const int64_t watchdog_ns =
		(int64_t)S3C_MIN(s3c_notify_watchdog_us(), UINT64_C(1) << 50) * 1000 / 2;
	struct s3c_service *service = arg;
	struct s3c_op op;

	s3c_mutex_lock(&service->lock);
	while (!service->stop) {
		bool leaving = service->leaving;
		int64_t pause = leaving ? LEAVING_NS : STATUS_NS;

		if (watchdog_ns)
			pause = S3C_MIN(pause, watchdog_ns);
		s3c_mutex_unlock(&service->lock);
		tell_status(service, leaving);
		s3c_mutex_lock(&service->lock);
		if (service->stop || leaving != service->leaving)
			continue;
		s3c_op_init(&op, s3c_clock_monotonic_ns() + pause);
		s3c_waitq_wait(&service->changed, &service->lock, &op);
		s3c_op_destroy(&op);
	}
	s3c_mutex_unlock(&service->lock);
	return NULL;
}

int s3c_service_start(struct s3c_access *access, const char *mountpoint,
		      struct s3c_service **ret_service)
{
	struct s3c_service *service = calloc(1, sizeof(*service));
	int r = 0;

	if (!service)
		return -ENOMEM;
	service->access = access;
	service->mountpoint = mountpoint;
	s3c_mutex_init(&service->lock);
	s3c_waitq_init(&service->changed);
	if (s3c_notify_enabled()) {
		s3c_notify("READY=1");
		r = s3c_thread_start(&service->ticker, "notify", ticker_main, service);
		service->ticking = r == 0;
	}
	if (r < 0) {
		s3c_service_stop(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

static void *reloader_main(void *arg)
{
	struct s3c_service *service = arg;
	bool leaving;

	s3c_mutex_lock(&service->lock);
	do {
		service->again = false;
		leaving = service->leaving;
		s3c_mutex_unlock(&service->lock);
		s3c_notify("RELOADING=1\nMONOTONIC_USEC=%lld",
			   (long long)(s3c_clock_monotonic_ns() / 1000));
		s3c_access_reload(service->access);
		s3c_mutex_lock(&service->lock);
		/* Not after STOPPING=1. */
		leaving |= service->leaving;
		if (!leaving)
			s3c_notify("READY=1");
	} while (service->again && !leaving);
	service->reloading = false;
	s3c_mutex_unlock(&service->lock);
	return NULL;
}

void s3c_service_reload(struct s3c_service *service)
{
	bool start;
	int r;

	s3c_mutex_lock(&service->lock);
	start = !service->reloading && !service->leaving;
	service->again = service->reloading;
	service->reloading |= start;
	s3c_mutex_unlock(&service->lock);
	if (!start)
		return;
	if (service->has_reloader) /* it is at its end */
		pthread_join(service->reloader, NULL);
	r = s3c_thread_start(&service->reloader, "reread", reloader_main, service);
	service->has_reloader = r == 0;
	if (r == 0)
		return;
	s3c_error("keyring and credentials are not read again: %s", strerror(-r));
	s3c_mutex_lock(&service->lock);
	service->reloading = false;
	s3c_mutex_unlock(&service->lock);
}

void s3c_service_leaving(struct s3c_service *service)
{
	s3c_mutex_lock(&service->lock);
	service->leaving = true;
	s3c_notify("STOPPING=1");
	s3c_waitq_wake_all(&service->changed);
	s3c_mutex_unlock(&service->lock);
}

void s3c_service_stop(struct s3c_service *service)
{
	if (!service)
		return;
	s3c_mutex_lock(&service->lock);
	service->stop = service->leaving = true;
	s3c_waitq_wake_all(&service->changed);
	s3c_mutex_unlock(&service->lock);
	if (service->has_reloader)
		pthread_join(service->reloader, NULL);
	if (service->ticking)
		pthread_join(service->ticker, NULL);
	s3c_mutex_destroy(&service->lock);
	free(service);
}
