/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What the engine's thread is woken for: curl's sockets and timer, its own timers. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/engine.h"

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct s3c_http_engine *engine = arg;
	struct epoll_event event = { .data.fd = fd };

	(void)easy;
	(void)socket_arg;
	if (what == CURL_POLL_REMOVE) {
		/* It may be closed already. */
		(void)epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(engine->epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0 &&
	    epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		s3c_error("http: a socket cannot be watched: %s", strerror(errno));
	return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct s3c_http_engine *engine = arg;

	(void)multi;
	engine->curl_wake_ns = timeout_ms < 0
				       ? INT64_MAX
				       : s3c_clock_monotonic_ns() + timeout_ms * S3C_NSEC_PER_MSEC;
	return 0;
}

int s3c_http_watch_wait_ms(const struct s3c_http_engine *engine)
{
	int64_t wake = engine->curl_wake_ns;
	int64_t left;

	if (engine->timers.count > 0)
		wake = S3C_MIN(wake, engine->timers.items[0]->wake_ns);
	if (wake == INT64_MAX)
		return -1;
	left = wake - s3c_clock_monotonic_ns();
	if (left <= 0)
		return 0;
	left = DIV_ROUND_UP(left, S3C_NSEC_PER_MSEC);
	return (int)S3C_MIN(left, 60 * 1000);
}

void s3c_http_watch_run_timer(struct s3c_http_engine *engine)
{
	long timeout_ms = -1;
	int running;

	if (engine->now_ns < engine->curl_wake_ns)
		return;
	engine->curl_wake_ns = INT64_MAX;
	curl_multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	/* curl tells a timer only when it has changed. */
	curl_multi_timeout(engine->multi, &timeout_ms);
	if (timeout_ms >= 0)
		on_timer(engine->multi, timeout_ms, engine);
}

int s3c_http_watch_open(struct s3c_http_engine *engine)
{
	unsigned total = engine->slots[S3C_HTTP_META] + engine->slots[S3C_HTTP_CONTENT];
	struct epoll_event event = { .events = EPOLLIN };

	engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (engine->epoll_fd < 0)
		return -errno;
	event.data.fd = engine->mailbox->wake_fd;
	if (epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, engine->mailbox->wake_fd, &event) < 0)
		return -errno;
	/* One more than slots: start() takes a handle before it counts. */
	engine->idle = calloc(total + 1, sizeof(*engine->idle));
	engine->multi = curl_multi_init();
	if (engine->idle == NULL || engine->multi == NULL)
		return -ENOMEM;
	curl_multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine);
	curl_multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine);
	curl_multi_setopt(engine->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS, (long)total);
	return 0;
}
