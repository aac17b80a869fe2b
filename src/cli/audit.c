/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "cli/control_wire.h"

#define QUEUE_MAX (4u << 20) /* bytes */
#define BURST_S 10           /* lines that may come at once, in seconds of the rate */
#define RETRY_NS (1 * S3C_NSEC_PER_SEC)

struct s3c_audit {
	char *path;
	unsigned rate;
	pthread_t thread;
	bool running;

	/* The thread's. */
	int fd;
	bool torn, failing;

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_waitq changed;
	struct s3c_buf queue;
	uint64_t queued;   /* lines in it */
	uint64_t dropped;  /* not told yet */
	double tokens;     /* lines that may come now */
	int64_t filled_ns; /* when tokens was right */
	bool reopen, stop;
};

static atomic_uint_fast64_t dropped_total;
static struct s3c_audit *_Atomic running_audit; /* for the signal's side */

static int open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);

	return fd < 0 ? -errno : fd;
}

static void put_time(char text[static 32])
{
	int64_t now = s3c_clock_realtime_ns();
	time_t seconds = (time_t)(now / S3C_NSEC_PER_SEC);
	struct tm tm;
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, 32 - len, ".%03dZ", (int)(now % S3C_NSEC_PER_SEC / S3C_NSEC_PER_MSEC));
}

static json_t *event_json(const struct s3c_fuse_audit *e)
{
	const char *result = e->result ? strerrorname_np(-e->result) : "ok";
	char when[32];
	json_t *line;

	put_time(when);
	line = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "time", when, "operation", e->operation,
			 "result", result ? result : "?", "uid", (json_int_t)e->uid, "gid",
			 (json_int_t)e->gid, "pid", (json_int_t)e->pid);
	if (!line)
		return NULL;
	if (s3c_control_put_path(line, e->path) < 0 ||
	    (e->to && s3c_control_put_bytes(line, "to", e->to) < 0) ||
	    (e->key_id && s3c_control_put_bytes(line, "key", e->key_id) < 0) ||
	    (e->access && json_object_set_new(line, "access", json_string(e->access)) < 0)) {
		json_decref(line);
		return NULL;
	}
	return line;
}

/* Lock held. */
static bool take_token(struct s3c_audit *a)
{
	int64_t now = s3c_clock_monotonic_ns();
	double most = (double)a->rate * BURST_S;

	if (!a->rate)
		return true;
	a->tokens += (double)(now - a->filled_ns) / (double)S3C_NSEC_PER_SEC * a->rate;
	a->tokens = S3C_MIN(a->tokens, most);
	a->filled_ns = now;
	if (a->tokens < 1)
		return false;
	a->tokens -= 1;
	return true;
}

/* Lock held. */
static void drop(struct s3c_audit *a, uint64_t lines)
{
	a->dropped += lines;
	atomic_fetch_add_explicit(&dropped_total, lines, memory_order_relaxed);
}

void s3c_audit_event(void *arg, const struct s3c_fuse_audit *event)
{
	struct s3c_audit *a = arg;
	json_t *line;
	char *text;
	bool may;

	s3c_mutex_lock(&a->lock);
	may = take_token(a);
	if (!may) {
		/* The first alone, so that the thread tells of it a while later. */
		if (!a->dropped)
			s3c_waitq_wake_all(&a->changed);
		drop(a, 1);
	}
	s3c_mutex_unlock(&a->lock);
	if (!may)
		return;
	/* Not with the lock: others would wait for it. */
	line = event_json(event);
	text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	json_decref(line);
	s3c_mutex_lock(&a->lock);
	if (text && a->queue.len + strlen(text) < QUEUE_MAX &&
	    s3c_buf_printf(&a->queue, "%s\n", text) == 0)
		a->queued++;
	else
		drop(a, 1);
	s3c_waitq_wake_all(&a->changed);
	s3c_mutex_unlock(&a->lock);
	free(text);
}

uint64_t s3c_audit_dropped(void)
{
	return atomic_load_explicit(&dropped_total, memory_order_relaxed);
}

/* How many bytes went to the file; the rest failed with *ret_error. */
static size_t write_bytes(int fd, const char *data, size_t len, int *ret_error)
{
	size_t done = 0;

	*ret_error = 0;
	while (done < len) {
		ssize_t n = write(fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*ret_error = n < 0 ? -errno : -EIO;
			break;
		}
		done += (size_t)n;
	}
	return done;
}

static uint64_t count_lines(const char *data, size_t len)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < len; i++)
		lines += data[i] == '\n';
	return lines;
}

/* The thread's; without the lock. What could not be written is gone. told: how many dropped ones
   the first line tells of; 0: it is another. */
static void write_lines(struct s3c_audit *a, const struct s3c_buf *lines, uint64_t told)
{
	size_t done = 0;
	uint64_t lost;
	int error = 0;

	/* The rest of a line that was cut by a full disk must not spoil the next. */
	if (a->torn && write_bytes(a->fd, "\n", 1, &error) == 1)
		a->torn = false;
	if (!a->torn)
		done = write_bytes(a->fd, lines->data, lines->len, &error);
	if (done && lines->data[done - 1] != '\n')
		a->torn = true;
	if (error && !a->failing)
		s3c_error("the audit log %s cannot be written: %s: what happens is not recorded "
			  "until it can",
			  a->path, strerror(-error));
	if (!error && a->failing)
		s3c_warn("the audit log %s is written again", a->path);
	a->failing = error != 0;
	if (!error)
		return;
	lost = count_lines(lines->data + done, lines->len - done);
	s3c_mutex_lock(&a->lock);
	/* The line that told a count did not get there: it is told again, and counts for nothing.
	 */
	if (told && !count_lines(lines->data, done)) {
		lost--;
		a->dropped += told;
	}
	drop(a, lost);
	s3c_mutex_unlock(&a->lock);
}

static void do_reopen(struct s3c_audit *a)
{
	int fd = open_file(a->path);

	if (fd < 0) {
		s3c_error("the audit log %s cannot be opened again, the old one stays in use: %s",
			  a->path, strerror(-fd));
		return;
	}
	close(a->fd);
	a->fd = fd;
	a->torn = false;
}

/* How many were dropped, as a line before the next ones. Lock held. */
static void tell_dropped(struct s3c_audit *a, struct s3c_buf *lines)
{
	char when[32];

	put_time(when);
	if (a->dropped &&
	    s3c_buf_printf(lines, "{\"time\":\"%s\",\"operation\":\"dropped\",\"count\":%llu}\n",
			   when, (unsigned long long)a->dropped) == 0)
		a->dropped = 0;
}

static void *audit_main(void *arg)
{
	struct s3c_audit *a = arg;

	for (;;) {
		cleanup_buf struct s3c_buf lines = { .max = QUEUE_MAX + 4096 };
		bool stop, reopen;
		uint64_t told;

		s3c_mutex_lock(&a->lock);
		/* A count that nothing follows is written too, a while later. */
		while (!a->queue.len && !a->stop && !a->reopen)
			if (s3c_waitq_wait_until(&a->changed, &a->lock, NULL,
						 a->dropped ? s3c_clock_monotonic_ns() + RETRY_NS
							    : INT64_MAX) == -EAGAIN)
				break;
		stop = a->stop;
		reopen = a->reopen;
		a->reopen = false;
		told = a->dropped;
		tell_dropped(a, &lines);
		told = a->dropped ? 0 : told;
		if (a->queue.len && s3c_buf_append(&lines, a->queue.data, a->queue.len) < 0)
			drop(a, a->queued);
		s3c_buf_reset(&a->queue);
		a->queued = 0;
		s3c_mutex_unlock(&a->lock);
		if (reopen)
			do_reopen(a);
		if (lines.len)
			write_lines(a, &lines, told);
		if (stop)
			return NULL;
	}
}

int s3c_audit_start(const char *path, unsigned rate, struct s3c_err *err,
		    struct s3c_audit **ret_audit)
{
	struct s3c_audit *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	s3c_mutex_init(&a->lock);
	s3c_waitq_init(&a->changed);
	a->queue.max = QUEUE_MAX;
	a->rate = rate;
	a->tokens = (double)rate * BURST_S;
	a->filled_ns = s3c_clock_monotonic_ns();
	a->path = strdup(path);
	a->fd = a->path ? open_file(path) : -ENOMEM;
	r = a->fd < 0 ? a->fd : s3c_thread_start(&a->thread, "audit", audit_main, a);
	a->running = r == 0;
	if (r < 0) {
		s3c_err_set(err, r, "the audit log %s cannot be opened: %s", path, strerror(-r));
		s3c_audit_stop(a);
		return r;
	}
	atomic_store(&running_audit, a);
	*ret_audit = a;
	return 0;
}

void s3c_audit_reopen(void)
{
	struct s3c_audit *a = atomic_load(&running_audit);

	if (!a)
		return;
	s3c_mutex_lock(&a->lock);
	a->reopen = true;
	s3c_waitq_wake_all(&a->changed);
	s3c_mutex_unlock(&a->lock);
}

void s3c_audit_stop(struct s3c_audit *a)
{
	if (!a)
		return;
	atomic_store(&running_audit, NULL);
	if (a->running) {
		s3c_mutex_lock(&a->lock);
		a->stop = true;
		s3c_waitq_wake_all(&a->changed);
		s3c_mutex_unlock(&a->lock);
		pthread_join(a->thread, NULL);
	}
	if (a->fd >= 0)
		close(a->fd);
	s3c_buf_free(&a->queue);
	s3c_mutex_destroy(&a->lock);
	free(a->path);
	free(a);
}
