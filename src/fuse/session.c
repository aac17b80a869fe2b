/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The session.
 *
 *	state     workers  mount             ends by
 *	mounted   none     in the tree       s3c_fuse_run
 *	serving   run      in the tree       umount (the kernel ends the connection), a signal
 *	leaving   run      out of the tree   no program uses it any more, or LEAVE_S
 *	draining  ended    gone, or ending   what was parked is done, what is dirty committed
 *
 * The workers only receive, try, and hand over what would wait: a few are enough. They are ended
 * by pthread_cancel, which is enabled while they wait for the kernel alone.
 */
#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/private.h"

#define DATA_THREADS 256
#define META_THREADS 256
#define LEAVE_S 2.0 /* how long programs may go on after a signal */
#define DRAIN_POLL_US 20000
#define DRAIN_RETRY 50u /* polls */

/* What libfuse says while a mount is tried; elsewhere it goes to the log. */
static pthread_mutex_t capture_lock = PTHREAD_MUTEX_INITIALIZER;
static char *capture; /* guarded by capture_lock; S3C_ERR_MAX bytes or NULL */

__attribute__((format(printf, 2, 0))) static void on_fuse_log(enum fuse_log_level level,
							      const char *fmt, va_list args)
{
	char text[S3C_ERR_MAX];
	const char *at = text;
	size_t used;

	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = '\0';
	if (!strncmp(at, "fuse: ", 6))
		at += 6;
	pthread_mutex_lock(&capture_lock);
	if (capture && level <= FUSE_LOG_ERR) {
		/* One sentence may come in pieces. */
		used = strlen(capture);
		snprintf(capture + used, S3C_ERR_MAX - used, "%s", at);
	} else if (at[0]) {
		s3c_log(level <= FUSE_LOG_ERR ? S3C_LOG_ERROR : S3C_LOG_DEBUG, "libfuse: %s", at);
	}
	pthread_mutex_unlock(&capture_lock);
}

static void set_capture(char *text)
{
	pthread_mutex_lock(&capture_lock);
	capture = text;
	pthread_mutex_unlock(&capture_lock);
}

/* Adds "-o NAME=VALUE" (or only one of them) as a single option: libfuse splits at commas. */
static int add_option(struct fuse_args *args, const char *name, const char *value)
{
	cleanup_free char *text = malloc(strlen(name) + 2 * strlen(value) + 1);
	char *to = text;

	if (!text)
		return -ENOMEM;
	to = stpcpy(to, name);
	for (const char *p = value; *p; p++) {
		if (*p == ',' || *p == '\\')
			*to++ = '\\';
		*to++ = *p;
	}
	*to = '\0';
	if (fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, text))
		return -ENOMEM;
	return 0;
}

static bool has_option(const struct s3c_fuse_config *config, const char *name)
{
	const char *const *options = config->fuse_options;

	for (; options && *options; options++)
		if (!strcmp(*options, name))
			return true;
	return false;
}

static int build_args(const struct s3c_fuse_config *config, struct fuse_args *args)
{
	char max_read[32];
	int r = fuse_opt_add_arg(args, "s3cryptfs") ? -ENOMEM : 0;

	snprintf(max_read, sizeof(max_read), "%u", S3C_FUSE_IO_MAX);
	if (r == 0)
		r = add_option(args, "fsname=", config->source);
	if (r == 0)
		r = add_option(args, "subtype=", "s3cryptfs");
	if (r == 0)
		r = add_option(args, "max_read=", max_read);
	if (r == 0)
		r = add_option(args, "default_permissions", "");
	if (r == 0 && config->read_only)
		r = add_option(args, "ro", "");
	if (r == 0 && config->debug)
		r = add_option(args, "debug", "");
	for (const char *const *p = config->fuse_options; r == 0 && p && *p; p++)
		if (strcmp(*p, "nonempty") != 0 && strcmp(*p, "default_permissions") != 0)
			r = add_option(args, "", *p);
	return r;
}

static int new_session(struct s3c_fuse *fuse, const struct s3c_fuse_config *config,
		       struct s3c_err *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char said[S3C_ERR_MAX] = "";
	int r;

	fuse_set_log_func(on_fuse_log);
	r = build_args(config, &args);
	if (r == 0) {
		set_capture(said);
		fuse->session = fuse_session_new(&args, &s3c_fuse_ops, sizeof(s3c_fuse_ops), fuse);
		if (!fuse->session)
			r = s3c_err_set(err, -EINVAL, "a mount option was not understood: %s",
					said[0] ? said : "no details");
		else if (s3c_mountpoint_mount(fuse->session, fuse->mountpoint, said) < 0)
			r = s3c_err_set(err, -EPERM, "cannot mount on %s: %s", fuse->mountpoint,
					said[0] ? said : "no details");
		else
			r = s3c_wire_attach(fuse);
		if (r == 0 && config->nosymfollow) {
			r = s3c_mountpoint_no_symlinks(fuse->mountpoint);
			if (r < 0)
				s3c_err_set(err, r, "nosymfollow: %s",
					    r == -EPERM ? "only root can" : strerror(-r));
		}
		set_capture(NULL);
		if (r < 0 && fuse->session) {
			fuse_session_unmount(fuse->session);
			fuse_session_destroy(fuse->session);
			fuse->session = NULL;
		}
	}
	fuse_opt_free_args(&args);
	return r;
}

/* The kernel would go by the mode that it has until its time is over. */
static void on_stale(void *arg, uint64_t nodeid)
{
	struct s3c_fuse *fuse = arg;

	/* -1: attributes alone. It may have forgotten the inode. */
	fuse_lowlevel_notify_inval_inode(fuse->session, nodeid, -1, 0);
}

int s3c_fuse_mount(const struct s3c_fuse_config *config, struct s3c_err *err,
		   struct s3c_fuse **ret_fuse)
{
	struct s3c_fuse *fuse;
	int r;

	r = s3c_mountpoint_check(
		config->mountpoint, config->source, has_option(config, "nonempty"),
		has_option(config, "allow_other") || has_option(config, "allow_root"), err);
	if (r < 0)
		return r;
	fuse = calloc(1, sizeof(*fuse));
	if (!fuse)
		return -ENOMEM;
	fuse->engine = config->engine;
	fuse->timeout_s = config->timeout_s;
	fuse->audit = config->audit;
	fuse->audit_arg = config->audit_arg;
	fuse->umount_timeout_s = config->umount_timeout_s;
	fuse->on_event = config->on_event;
	fuse->event_arg = config->event_arg;
	fuse->signal_fd = -1;
	fuse->mount_id = -1;
	s3c_mutex_init(&fuse->calls_lock);
	LIST_INIT(&fuse->parked);
	LIST_INIT(&fuse->signaled);
	s3c_waitq_init(&fuse->watched);
	fuse->mountpoint = strdup(config->mountpoint);
	fuse->control = config->control ? strdup(config->control) : NULL;
	r = fuse->mountpoint && (fuse->control || !config->control)
		    ? s3c_fs_new(config->engine, config->ttl_s, &fuse->fs)
		    : -ENOMEM;
	if (r == 0)
		r = s3c_pool_new("data", 2, DATA_THREADS, &fuse->data_pool);
	if (r == 0)
		r = s3c_pool_new("meta", 2, META_THREADS, &fuse->meta_pool);
	if (r == 0)
		r = s3c_signals_begin(&fuse->signal_fd);
	if (r == 0) {
		s3c_fs_on_stale(fuse->fs, on_stale, fuse);
		r = new_session(fuse, config, err);
	}
	if (r < 0) {
		s3c_fuse_free(fuse);
		return r;
	}
	fuse->listed = config->list;
	if (config->list)
		s3c_utab_add(fuse->mountpoint, config->source, config->list_options);
	*ret_fuse = fuse;
	return 0;
}

struct worker {
	struct s3c_fuse *fuse;
	struct fuse_buf buf;
};

static void worker_end(void *arg)
{
	struct worker *worker = arg;

	s3c_park_set_buffer(NULL);
	free(worker->buf.mem);
	__atomic_sub_fetch(&worker->fuse->alive, 1, __ATOMIC_RELEASE);
	s3c_signals_post(S3C_POST_ENDED);
}

static void *worker_main(void *arg)
{
	struct worker worker = { .fuse = arg };
	struct fuse_session *session = worker.fuse->session;
	int r, old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pthread_cleanup_push(worker_end, &worker);
	s3c_park_set_buffer(&worker.buf);
	while (!fuse_session_exited(session)) {
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
		r = fuse_session_receive_buf(session, &worker.buf);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r < 0)
			s3c_error("reading requests from the kernel: %s", strerror(-r));
		if (r <= 0)
			break;
		fuse_session_process_buf(session, &worker.buf);
	}
	pthread_cleanup_pop(1);
	return NULL;
}

static int start_workers(struct s3c_fuse *fuse)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned count = (unsigned)S3C_MIN(S3C_MAX(cpus, 2), S3C_FUSE_WORKERS_MAX);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < count; i++) {
		__atomic_add_fetch(&fuse->alive, 1, __ATOMIC_RELAXED);
		r = s3c_thread_start(&fuse->workers[i], "fuse", worker_main, fuse);
		if (r == 0)
			fuse->worker_count++;
		else
			__atomic_sub_fetch(&fuse->alive, 1, __ATOMIC_RELAXED);
	}
	/* One is enough. */
	return fuse->worker_count ? 0 : r;
}

static void stop_workers(struct s3c_fuse *fuse)
{
	fuse_session_exit(fuse->session);
	for (unsigned i = 0; i < fuse->worker_count; i++)
		pthread_cancel(fuse->workers[i]);
	for (unsigned i = 0; i < fuse->worker_count; i++)
		pthread_join(fuse->workers[i], NULL);
	fuse->worker_count = 0;
}

static void tell(struct s3c_fuse *fuse, enum s3c_fuse_event event)
{
	if (event == S3C_FUSE_LEAVING && fuse->left)
		return;
	fuse->left = event == S3C_FUSE_LEAVING;
	if (fuse->left && fuse->listed)
		s3c_utab_remove(fuse->mountpoint);
	if (fuse->on_event)
		fuse->on_event(fuse->event_arg, event);
}

/* False: no more patience. */
static bool on_post(struct s3c_fuse *fuse, unsigned char byte, int64_t *leave_ns)
{
	switch (byte) {
	case S3C_POST_ENDED:
		/* Where one has found the connection dead the others will. */
		if (*leave_ns == INT64_MAX)
			*leave_ns = s3c_deadline_after(LEAVE_S);
		break;
	case S3C_POST_SEEN:
		__atomic_store_n(&fuse->mount_id, s3c_mountpoint_id(fuse->mountpoint),
				 __ATOMIC_RELAXED);
		s3c_mountpoint_raise_readahead(fuse->mountpoint);
		break;
	case SIGHUP:
		s3c_log_reopen();
		tell(fuse, S3C_FUSE_RELOAD);
		break;
	default:
		if (*leave_ns != INT64_MAX)
			return false;
		s3c_info("signal %d: leaving %s", byte, fuse->mountpoint);
		*leave_ns = s3c_deadline_after(LEAVE_S);
		fuse->detached = s3c_mountpoint_detach(fuse->mountpoint) == 0;
		tell(fuse, S3C_FUSE_LEAVING);
	}
	return true;
}

/* Until all workers have ended or may be ended. */
static void serve(struct s3c_fuse *fuse)
{
	struct pollfd pfd = { .fd = fuse->signal_fd, .events = POLLIN };
	int64_t leave_ns = INT64_MAX;
	bool go_on = true;

	while (go_on && __atomic_load_n(&fuse->alive, __ATOMIC_ACQUIRE)) {
		int64_t left_ms = -1;
		unsigned char byte;

		if (leave_ns != INT64_MAX) {
			left_ms = (leave_ns - s3c_clock_monotonic_ns()) / S3C_NSEC_PER_MSEC;
			if (left_ms <= 0)
				break;
		}
		if (poll(&pfd, 1, (int)left_ms) <= 0)
			continue;
		while (go_on && read(pfd.fd, &byte, 1) == 1)
			go_on = on_post(fuse, byte, &leave_ns);
	}
}

struct unsent {
	unsigned all, parked;
	uint64_t bytes;
};

static void count_unsent(void *arg, const struct s3c_unsent *unsent)
{
	struct unsent *count = arg;

	count->all++;
	count->bytes += unsent->bytes;
	count->parked += unsent->state == S3C_UNSENT_PARKED;
}

/*
 * Until the store has everything, or nothing is left but what waits for a decision: also after
 * failures, which are tried again while there is time.
 */
static int wait_clean(struct s3c_fuse *fuse, struct s3c_op *op)
{
	int r = s3c_engine_sync(fuse->engine, op);

	for (unsigned polls = 1; r < 0; polls++) {
		struct unsent left = { 0 };

		s3c_engine_unsent(fuse->engine, count_unsent, &left);
		if (!left.all)
			return 0;
		if (left.all == left.parked || s3c_clock_monotonic_ns() >= op->deadline_ns)
			return r;
		/* By itself it may be due after the end. */
		if (polls % DRAIN_RETRY == 0)
			s3c_engine_hasten(fuse->engine);
		usleep(DRAIN_POLL_US);
	}
	return r;
}

/* Is less left than ever before? Of a file that is being sent the memory gets less. */
static bool got_ahead(struct s3c_fuse *fuse, uint64_t *least)
{
	struct s3c_engine_stats stats = { 0 };
	struct unsent left = { 0 };
	uint64_t now;

	s3c_engine_unsent(fuse->engine, count_unsent, &left);
	s3c_engine_stats(fuse->engine, &stats);
	now = left.bytes + stats.dirty_bytes + stats.spilled_bytes + left.all - left.parked;
	if (left.all == left.parked || now >= *least)
		return false;
	*least = now;
	return true;
}

/*
 * The end is bounded: a store that is away must not keep the daemon for ever. Without a limit of
 * its own it goes on as long as each timeout_s brings something into the store.
 */
static int drain(struct s3c_fuse *fuse)
{
	int64_t end_ns =
		fuse->umount_timeout_s > 0 ? s3c_deadline_after(fuse->umount_timeout_s) : INT64_MAX;
	uint64_t least = UINT64_MAX;
	struct s3c_op op;
	int first, r;

	s3c_park_interrupt_all(fuse);
	s3c_pool_free(steal_ptr(fuse->meta_pool));
	s3c_pool_free(steal_ptr(fuse->data_pool));
	s3c_watcher_stop(fuse);
	got_ahead(fuse, &least);
	s3c_op_init(&op, S3C_MIN(end_ns, s3c_deadline_after(fuse->timeout_s)));
	first = s3c_fs_free(steal_ptr(fuse->fs), &op);
	r = wait_clean(fuse, &op);
	s3c_op_destroy(&op);
	while (r < 0 && s3c_clock_monotonic_ns() < end_ns &&
	       (got_ahead(fuse, &least) || end_ns != INT64_MAX)) {
		struct unsent left = { 0 };

		s3c_engine_unsent(fuse->engine, count_unsent, &left);
		if (left.all == left.parked)
			break;
		s3c_op_init(&op, S3C_MIN(end_ns, s3c_deadline_after(fuse->timeout_s)));
		r = wait_clean(fuse, &op);
		s3c_op_destroy(&op);
	}
	/* What failed at first and is in the store now did not fail. */
	return r < 0 && first < 0 ? first : r;
}

int s3c_fuse_run(struct s3c_fuse *fuse)
{
	sigset_t set, old;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_UNBLOCK, &set, &old);
	r = s3c_watcher_start(fuse);
	if (r == 0)
		r = start_workers(fuse);
	if (r == 0)
		serve(fuse);
	tell(fuse, S3C_FUSE_LEAVING);
	stop_workers(fuse);
	if (fuse->rejected)
		r = -EPROTONOSUPPORT;
	if (r == 0)
		r = drain(fuse);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

/*
 * Ends the connection of a mount that is out of the tree. libfuse would unmount whatever is at the
 * path by now, unless it finds the connection dead: a pipe without a reader looks like that.
 */
static void close_connection(struct fuse_session *session)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	close(fds[0]);
	if (dup3(fds[1], fuse_session_fd(session), O_CLOEXEC) >= 0)
		fuse_session_unmount(session);
	close(fds[1]);
}

void s3c_fuse_free(struct s3c_fuse *fuse)
{
	if (!fuse)
		return;
	if (fuse->session && fuse->detached)
		close_connection(fuse->session);
	else if (fuse->session)
		fuse_session_unmount(fuse->session);
	s3c_pool_free(fuse->meta_pool);
	s3c_pool_free(fuse->data_pool);
	s3c_watcher_stop(fuse);
	s3c_fs_free(fuse->fs, NULL);
	if (fuse->session)
		fuse_session_destroy(fuse->session);
	if (fuse->signal_fd >= 0)
		s3c_signals_end();
	s3c_mutex_destroy(&fuse->calls_lock);
	free(fuse->mountpoint);
	free(fuse->control);
	free(fuse);
}
