/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The engine's thread.
 *
 * A call is in one of these states; all moves are made by the engine's thread.
 *
 *   state      where it is             slot  wakes at
 *   NEW        mailbox, submitted      no    (its poke)
 *   RESOLVING  engine->resolving       no    deadline, or a lookup that ended
 *   READY      engine->ready[class]    no    deadline, or a slot that became free
 *   RUNNING    in the multi handle     yes   min(deadline, last progress + stall)
 *   BACKOFF    nowhere else            no    retry_ns, which is before the deadline
 *   RELOADING  the pool, then mailbox  no    deadline, or the credentials are loaded
 *   DONE       nowhere                 no    -
 *
 *   NEW, BACKOFF -> RESOLVING -> READY -> RUNNING -> BACKOFF | RELOADING | RESOLVING | DONE
 *   NEW, BACKOFF, RESOLVING -> RELOADING when the credentials have ended before it is sent
 *   RELOADING -> RESOLVING | READY | BACKOFF | DONE; any -> DONE by cancellation or deadline
 *
 * Invariants: attempt.easy is set exactly in RUNNING; running[class] counts the
 * calls of a class in RUNNING and is at most slots[class]; every call that is
 * not NEW or DONE is in engine->all with one reference of the engine, and in
 * timers when its wake_ns is not INT64_MAX. curl's callbacks only note things
 * in the call; states change between calls into curl, never inside.
 */
#include "http/engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/retry.h"

#define DEFAULT_CONTENT_SLOTS 32
#define DEFAULT_META_SLOTS 16
#define EVENTS_MAX 64
#define LEFT_MIN_NS (100 * S3C_NSEC_PER_MSEC) /* too little for another attempt */
#define CLOCK_STEP_S 30                       /* an offset that changes less explains nothing */

static void begin(struct s3c_http_engine *engine, struct s3c_http_call *call);

static void set_wake(struct s3c_http_engine *engine, struct s3c_http_call *call, int64_t wake_ns)
{
	s3c_http_timers_remove(&engine->timers, call);
	call->wake_ns = S3C_MIN(wake_ns, call->request.deadline_ns);
	if (call->wake_ns < INT64_MAX)
		s3c_http_timers_add(&engine->timers, call);
}

/* Its options point into the call: none may stay. */
static void retire_easy(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	curl_easy_reset(call->attempt.easy);
	engine->idle[engine->idle_count++] = call->attempt.easy;
	call->attempt.easy = NULL;
}

/* Takes the call out of the list, slot or curl that its state has it in. */
static void leave_state(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	unsigned class = call->request.class;

	switch (call->state) {
	case S3C_HTTP_RESOLVING:
		TAILQ_REMOVE(&engine->resolving, call, queue_link);
		break;
	case S3C_HTTP_READY:
		TAILQ_REMOVE(&engine->ready[class], call, queue_link);
		break;
	case S3C_HTTP_RUNNING:
		curl_multi_remove_handle(engine->multi, call->attempt.easy);
		retire_easy(engine, call);
		engine->running[class]--;
		s3c_http_attempt_clear(&call->attempt);
		break;
	default:
		break;
	}
}

static void enter_state(struct s3c_http_engine *engine, struct s3c_http_call *call,
			enum s3c_http_state state, int64_t wake_ns)
{
	unsigned class = call->request.class;

	call->state = state;
	if (state == S3C_HTTP_RESOLVING)
		TAILQ_INSERT_TAIL(&engine->resolving, call, queue_link);
	else if (state == S3C_HTTP_READY)
		TAILQ_INSERT_TAIL(&engine->ready[class], call, queue_link);
	else if (state == S3C_HTTP_RUNNING)
		engine->running[class]++;
	set_wake(engine, call, wake_ns);
}

static void finish(struct s3c_http_engine *engine, struct s3c_http_call *call, int result)
{
	struct s3c_http_reply reply;

	leave_state(engine, call);
	s3c_http_timers_remove(&engine->timers, call);
	TAILQ_REMOVE(&engine->all, call, all_link);
	engine->count--;
	call->state = S3C_HTTP_DONE;
	reply = call->reply;
	call->reply = (struct s3c_http_reply){ 0 };
	reply.result = result;
	s3c_debug("http: %s %s%s: result %d, status %d %s, %u attempts", call->request.method,
		  call->request.bucket, call->request.path, result, reply.status, reply.error_code,
		  reply.attempts);
	call->done(call->arg, &reply);
	s3c_http_reply_free(&reply);
	s3c_http_call_put(call);
}

static void reset_reply(struct s3c_http_reply *reply)
{
	unsigned attempts = reply->attempts;
	bool late = reply->late;

	s3c_http_reply_free(reply);
	reply->attempts = attempts;
	reply->late = late;
}

/* The deadline, or a stop, in a state that has no outcome of its own. */
static void finish_with_words(struct s3c_http_engine *engine, struct s3c_http_call *call,
			      int result, const char *words)
{
	reset_reply(&call->reply);
	snprintf(call->reply.detail, sizeof(call->reply.detail), "%.90s%.14s%.150s", words,
		 call->before[0] != '\0' ? "; before that: " : "", call->before);
	finish(engine, call, result);
}

static bool is_address(const char *host)
{
	struct in_addr v4;

	return host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1;
}

/* Addresses for the target, none when it is one itself. */
static int look_up(struct s3c_http_engine *engine, struct s3c_http_call *call,
		   struct s3c_buf *addresses)
{
	const char *host = call->attempt.target.host;

	if (is_address(host))
		return 0;
	return s3c_resolver_lookup(engine->resolver, host, engine->now_ns, addresses,
				   call->reply.detail, sizeof(call->reply.detail));
}

static void note_outcome(struct s3c_http_call *call, int result)
{
	const struct s3c_http_reply *reply = &call->reply;

	call->last_result = result;
	if (result != 0)
		snprintf(call->before, sizeof(call->before), "%.150s",
			 reply->detail[0] != '\0' ? reply->detail : strerror(-result));
	else
		snprintf(call->before, sizeof(call->before), "status %d %s", reply->status,
			 reply->error_code);
}

static void back_off(struct s3c_http_engine *engine, struct s3c_http_call *call, bool throttled)
{
	int64_t left = call->request.deadline_ns - engine->now_ns;
	int64_t delay;
	uint64_t random;

	if (call->repeats >= engine->retries || left < LEFT_MIN_NS) {
		finish(engine, call, call->last_result);
		return;
	}
	call->repeats++;
	s3c_random(&random, sizeof(random));
	delay = s3c_retry_delay_ns(call->repeats, throttled, random);
	/* Half of what is left stays for the attempt itself. */
	delay = S3C_MIN(delay, left / 2);
	call->retry_ns = engine->now_ns + delay;
	s3c_debug("http: %s %s%s: %s; again in %lld ms", call->request.method, call->request.bucket,
		  call->request.path, call->before, (long long)(delay / S3C_NSEC_PER_MSEC));
	enter_state(engine, call, S3C_HTTP_BACKOFF, call->retry_ns);
}

/* Before the attempt begins: no such host, no memory. */
static void fail_early(struct s3c_http_engine *engine, struct s3c_http_call *call, int result)
{
	struct s3c_retry_outcome outcome = { .result = result, .code = "" };
	char detail[sizeof(call->reply.detail)];

	leave_state(engine, call);
	call->state = S3C_HTTP_BACKOFF;
	/* What an earlier attempt left, but for the words about this one. */
	memcpy(detail, call->reply.detail, sizeof(detail));
	reset_reply(&call->reply);
	memcpy(call->reply.detail, detail, sizeof(detail));
	note_outcome(call, result);
	if (s3c_retry_classify(&outcome) == S3C_RETRY_FINAL)
		finish(engine, call, result);
	else
		back_off(engine, call, false);
}

/* The call is in no list; call->credential is the set that is of no use. */
static void start_reload(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	enter_state(engine, call, S3C_HTTP_RELOADING, INT64_MAX);
	s3c_http_mailbox_reload(engine->pool, call);
}

/*
 * A set that has ended is renewed before it would be refused. Once: if that brings nothing, the
 * store has the last word, since clocks may be wrong.
 */
static bool renew_first(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	struct s3c_credentials *credentials = call->service->credentials;

	if (credentials == NULL || call->renewed || !s3c_credentials_ended(credentials))
		return false;
	call->renewed = true;
	call->renewing = true;
	leave_state(engine, call);
	s3c_credential_put(call->credential);
	call->credential = s3c_credentials_get(credentials);
	start_reload(engine, call);
	return true;
}

/* The first step of every attempt: where does it go? */
static void begin(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	cleanup_buf struct s3c_buf addresses = { 0 };
	int r;

	if (renew_first(engine, call))
		return;
	r = s3c_http_call_target(call, &call->attempt.target);
	if (r == 0)
		r = look_up(engine, call, &addresses);
	if (r == -EINPROGRESS && call->state == S3C_HTTP_RESOLVING)
		return;
	if (r < 0 && r != -EINPROGRESS) {
		fail_early(engine, call, r);
		return;
	}
	leave_state(engine, call);
	enter_state(engine, call, r == 0 ? S3C_HTTP_READY : S3C_HTTP_RESOLVING, INT64_MAX);
}

/* Gives a READY call that has a slot to curl. */
static int start(struct s3c_http_engine *engine, struct s3c_http_call *call,
		 const struct s3c_buf *addresses)
{
	CURL *easy;
	int r;

	easy = engine->idle_count > 0 ? engine->idle[--engine->idle_count] : curl_easy_init();
	if (easy == NULL)
		return -ENOMEM;
	call->attempt.easy = easy;
	r = s3c_http_call_build(call);
	if (r == 0)
		r = s3c_http_transfer_prepare(call, &engine->options,
					      addresses->len > 0 ? addresses->data : NULL);
	if (r == 0 && curl_multi_add_handle(engine->multi, easy) != CURLM_OK)
		r = -ENOMEM;
	if (r < 0) {
		retire_easy(engine, call);
		s3c_http_attempt_clear(&call->attempt);
		return r;
	}
	return 0;
}

static void start_ready(struct s3c_http_engine *engine, unsigned class)
{
	struct s3c_http_call *call;

	while (engine->running[class] < engine->slots[class] &&
	       (call = TAILQ_FIRST(&engine->ready[class])) != NULL) {
		cleanup_buf struct s3c_buf addresses = { 0 };
		int r;

		/* While it waited, the region or the addresses may have changed. */
		r = s3c_http_call_target(call, &call->attempt.target);
		if (r == 0)
			r = look_up(engine, call, &addresses);
		if (r == -EINPROGRESS) {
			leave_state(engine, call);
			enter_state(engine, call, S3C_HTTP_RESOLVING, INT64_MAX);
			continue;
		}
		if (r == 0) {
			reset_reply(&call->reply);
			call->reply.attempts++;
			r = start(engine, call, &addresses);
		}
		if (r < 0) {
			fail_early(engine, call, r);
			continue;
		}
		leave_state(engine, call);
		enter_state(engine, call, S3C_HTTP_RUNNING,
			    call->attempt.progress_ns + call->attempt.stall_ns);
	}
}

/*
 * Tries the remedy of a verdict that is worth another attempt. Whether the call has gone on. The
 * first time that the credentials or the clock are mended the attempt follows at once, and counts
 * as no repeat; afterwards it is a repeat like after any fault: they are mended again each time.
 */
static bool remedy(struct s3c_http_engine *engine, struct s3c_http_call *call,
		   enum s3c_retry_verdict verdict, const struct s3c_http_target *target,
		   const struct s3c_http_error *error)
{
	int64_t offset;
	const char *region;
	bool explained;

	switch (verdict) {
	case S3C_RETRY_CLOCK:
		explained = s3c_http_outcome_offset(&call->reply, error, &offset) == 0 &&
			    llabs(offset - target->clock_offset) >= CLOCK_STEP_S;
		if (explained)
			s3c_http_service_set_clock_offset(call->service, offset);
		if (!explained || call->clock_tried) {
			back_off(engine, call, false);
			return true;
		}
		call->clock_tried = true;
		break;
	case S3C_RETRY_CREDENTIALS:
		if (call->credential == NULL ||
		    (call->credentials_tried && call->repeats >= engine->retries))
			return false;
		start_reload(engine, call);
		return true;
	case S3C_RETRY_REGION:
		region = s3c_http_outcome_region(call, target, error);
		if (call->region_tried || region == NULL ||
		    s3c_http_service_set_region(call->service, region) < 0)
			return false;
		call->region_tried = true;
		break;
	case S3C_RETRY_REDIRECT:
		call->attempt.target = *target;
		if (call->redirected || s3c_http_call_follow(call, error) < 0)
			return false;
		break;
	default:
		return false;
	}
	begin(engine, call);
	return true;
}

/* An attempt has ended: the call is no longer RUNNING afterwards. */
static void settle(struct s3c_http_engine *engine, struct s3c_http_call *call, int result)
{
	const struct s3c_http_target target = call->attempt.target;
	bool by_callback = call->attempt.callback_error != 0;
	struct s3c_http_error error;
	struct s3c_retry_outcome outcome;
	enum s3c_retry_verdict verdict;

	leave_state(engine, call);
	call->state = S3C_HTTP_BACKOFF;
	s3c_http_outcome_read(call, &target, result, &outcome, &error);
	s3c_count(S3C_COUNT_HTTP_ATTEMPTS, s3c_label_service(call->service->name),
		  s3c_label_status(result == 0 ? outcome.status : 0), 1);
	note_outcome(call, result);
	if (by_callback) {
		finish(engine, call, result);
		return;
	}
	/* A proxy says so of what the store behind it may be at still. */
	call->reply.late |= result == 0 && (outcome.status == 502 || outcome.status == 504);
	verdict = s3c_retry_classify(&outcome);
	if (result == -ECONNREFUSED || result == -EHOSTUNREACH || result == -ETIMEDOUT)
		s3c_resolver_expire(engine->resolver, target.host);
	if (verdict == S3C_RETRY_FAULT || verdict == S3C_RETRY_THROTTLED)
		back_off(engine, call, verdict == S3C_RETRY_THROTTLED);
	else if (verdict == S3C_RETRY_FINAL || !remedy(engine, call, verdict, &target, &error))
		finish(engine, call, result);
}

static void take_finished(struct s3c_http_engine *engine)
{
	struct CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(engine->multi, &left)) != NULL) {
		struct s3c_http_call *call = NULL;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
		settle(engine, call, s3c_http_transfer_result(call, code));
	}
}

static void accept_call(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	TAILQ_INSERT_TAIL(&engine->all, call, all_link);
	engine->count++;
	call->now_ns = &engine->now_ns;
	call->bulk = &engine->bulk;
	call->state = S3C_HTTP_BACKOFF;
	if (s3c_http_timers_reserve(&engine->timers, engine->count) < 0) {
		finish(engine, call, -ENOMEM);
		return;
	}
	if (call->request.deadline_ns <= engine->now_ns)
		finish_with_words(engine, call, -ETIMEDOUT, "the deadline had passed already");
	else
		begin(engine, call);
}

static void take_reloaded(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	/* Whoever gives credentials may be away for a moment, as the store may. */
	const struct s3c_retry_outcome outcome = { .result = call->reload_result, .code = "" };
	bool failed = call->reload_result < 0;
	bool again = call->credentials_tried;

	if (call->state != S3C_HTTP_RELOADING) {
		/* It ended meanwhile. */
	} else if (call->renewing) {
		call->renewing = false;
		begin(engine, call);
	} else {
		call->credentials_tried = true;
		if (failed && s3c_retry_classify(&outcome) == S3C_RETRY_FINAL)
			finish(engine, call, call->last_result);
		else if (failed || again)
			back_off(engine, call, false);
		else
			begin(engine, call);
	}
	s3c_http_call_put(call);
}

/* Whether the engine goes on. */
static bool take_mail(struct s3c_http_engine *engine)
{
	struct s3c_http_mailbox *mailbox = engine->mailbox;
	STAILQ_HEAD(, s3c_http_call) submitted = STAILQ_HEAD_INITIALIZER(submitted);
	STAILQ_HEAD(, s3c_http_call) canceled = STAILQ_HEAD_INITIALIZER(canceled);
	STAILQ_HEAD(, s3c_http_call) reloaded = STAILQ_HEAD_INITIALIZER(reloaded);
	struct s3c_http_call *call, *next;
	bool resolved, closed;

	s3c_mutex_lock(&mailbox->lock);
	STAILQ_CONCAT(&submitted, &mailbox->submitted);
	STAILQ_CONCAT(&canceled, &mailbox->canceled);
	STAILQ_CONCAT(&reloaded, &mailbox->reloaded);
	resolved = mailbox->resolved;
	mailbox->resolved = false;
	mailbox->poked = false;
	closed = mailbox->closed;
	s3c_mutex_unlock(&mailbox->lock);
	/* What was late when it was submitted is late here, although it came after the events. */
	engine->now_ns = s3c_clock_monotonic_ns();

	while ((call = STAILQ_FIRST(&submitted)) != NULL) {
		STAILQ_REMOVE_HEAD(&submitted, submit_link);
		accept_call(engine, call);
	}
	while ((call = STAILQ_FIRST(&reloaded)) != NULL) {
		STAILQ_REMOVE_HEAD(&reloaded, reload_link);
		take_reloaded(engine, call);
	}
	while ((call = STAILQ_FIRST(&canceled)) != NULL) {
		STAILQ_REMOVE_HEAD(&canceled, cancel_link);
		call->reply.late |= call->state == S3C_HTTP_RUNNING;
		if (call->state != S3C_HTTP_DONE)
			finish_with_words(engine, call, -ECANCELED, "canceled");
		s3c_http_call_put(call);
	}
	if (resolved) {
		/* A call that ends here may only take itself out of the list. */
		for (call = TAILQ_FIRST(&engine->resolving); call != NULL; call = next) {
			next = TAILQ_NEXT(call, queue_link);
			begin(engine, call);
		}
	}
	return !closed;
}

static void expire(struct s3c_http_engine *engine, struct s3c_http_call *call)
{
	bool over = engine->now_ns >= call->request.deadline_ns;
	char words[128];
	int64_t stalled_ns;

	switch (call->state) {
	case S3C_HTTP_RESOLVING:
		snprintf(words, sizeof(words), "no answer to the name lookup of %.80s",
			 call->attempt.target.host);
		finish_with_words(engine, call, -EHOSTUNREACH, words);
		break;
	case S3C_HTTP_READY:
		if (call->reply.attempts == 0)
			finish_with_words(engine, call, -ETIMEDOUT,
					  "other requests took the time: none could be begun");
		else
			finish(engine, call, call->last_result);
		break;
	case S3C_HTTP_RUNNING:
		stalled_ns = call->attempt.progress_ns + call->attempt.stall_ns;
		call->reply.late |= over || engine->now_ns >= stalled_ns;
		if (over) {
			snprintf(words, sizeof(words), "no complete reply in time, attempt %u",
				 call->reply.attempts);
			finish_with_words(engine, call, -ETIMEDOUT, words);
		} else if (engine->now_ns >= stalled_ns) {
			snprintf(call->reply.detail, sizeof(call->reply.detail),
				 "no progress for %lld s",
				 (long long)(call->attempt.stall_ns / S3C_NSEC_PER_SEC));
			settle(engine, call, -ETIMEDOUT);
		} else {
			set_wake(engine, call, stalled_ns);
		}
		break;
	case S3C_HTTP_BACKOFF:
		begin(engine, call);
		break;
	case S3C_HTTP_RELOADING:
		if (call->reply.attempts == 0)
			finish_with_words(engine, call, -ETIMEDOUT,
					  "no new credentials came in time");
		else
			finish(engine, call, call->last_result);
		break;
	default:
		finish(engine, call, call->last_result);
		break;
	}
}

static void expire_timers(struct s3c_http_engine *engine)
{
	while (engine->timers.count > 0 && engine->timers.items[0]->wake_ns <= engine->now_ns)
		expire(engine, engine->timers.items[0]);
}

static void run_events(struct s3c_http_engine *engine)
{
	struct epoll_event events[EVENTS_MAX];
	int running, n;

	s3c_http_transfer_pace(&engine->bulk);
	n = epoll_wait(engine->epoll_fd, events, EVENTS_MAX, s3c_http_watch_wait_ms(engine));
	engine->now_ns = s3c_clock_monotonic_ns();
	for (int i = 0; i < n; i++) {
		unsigned what = 0;
		uint64_t drained;

		if (events[i].data.fd == engine->mailbox->wake_fd) {
			(void)!read(engine->mailbox->wake_fd, &drained, sizeof(drained));
			continue;
		}
		if (events[i].events & (EPOLLIN | EPOLLRDHUP))
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_ERR;
		curl_multi_socket_action(engine->multi, events[i].data.fd, (int)what, &running);
	}
	s3c_http_watch_run_timer(engine);
}

/*
 * On the engine's thread where there is one: ending TLS connections may write to a closed socket,
 * and this thread has SIGPIPE blocked.
 */
static void close_curl(struct s3c_http_engine *engine)
{
	for (; engine->idle_count > 0; engine->idle_count--)
		curl_easy_cleanup(engine->idle[engine->idle_count - 1]);
	curl_multi_cleanup(engine->multi);
	engine->multi = NULL;
}

static void *run(void *arg)
{
	struct s3c_http_engine *engine = arg;
	struct s3c_http_call *call;
	bool go_on = true;

	while (go_on) {
		run_events(engine);
		take_finished(engine);
		go_on = take_mail(engine);
		expire_timers(engine);
		for (unsigned class = 0; go_on && class < S3C_HTTP_CLASSES; class ++)
			start_ready(engine, class);
	}
	while ((call = TAILQ_FIRST(&engine->all)) != NULL)
		finish_with_words(engine, call, -ECANCELED, "the engine is stopping");
	close_curl(engine);
	return NULL;
}

static void on_resolved(void *arg)
{
	struct s3c_http_mailbox *mailbox = arg;

	s3c_mutex_lock(&mailbox->lock);
	mailbox->resolved = true;
	s3c_http_mailbox_poke_locked(mailbox);
	s3c_mutex_unlock(&mailbox->lock);
}

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready = CURLE_FAILED_INIT;

static void init_curl(void)
{
	curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int copy_string(const char *from, const char **to)
{
	if (from == NULL)
		return 0;
	*to = strdup(from);
	return *to != NULL ? 0 : -ENOMEM;
}

/* Everything but the thread. */
static void free_engine(struct s3c_http_engine *engine)
{
	if (engine->multi != NULL)
		close_curl(engine);
	s3c_resolver_free(engine->resolver);
	if (engine->epoll_fd >= 0)
		close(engine->epoll_fd);
	s3c_http_mailbox_put(engine->mailbox);
	free(engine->idle);
	free(engine->timers.items);
	free((char *)engine->options.ca_file);
	free((char *)engine->options.user_agent);
	free(engine);
}

int s3c_http_engine_new(const struct s3c_http_engine_config *config, struct s3c_err *err,
			struct s3c_http_engine **ret_engine)
{
	struct s3c_http_engine *engine;
	int r;

	pthread_once(&curl_once, init_curl);
	if (curl_ready != CURLE_OK)
		return s3c_err_set(err, -EIO, "libcurl cannot be initialised: %s",
				   curl_easy_strerror(curl_ready));
	if (config->ca_file != NULL && access(config->ca_file, R_OK) < 0) {
		r = -errno;
		return s3c_err_set(err, r, "ca_file %s cannot be read: %s", config->ca_file,
				   strerror(-r));
	}
	engine = calloc(1, sizeof(*engine));
	if (engine == NULL)
		return -ENOMEM;
	engine->epoll_fd = -1;
	engine->curl_wake_ns = INT64_MAX;
	TAILQ_INIT(&engine->all);
	TAILQ_INIT(&engine->resolving);
	for (unsigned class = 0; class < S3C_HTTP_CLASSES; class ++)
		TAILQ_INIT(&engine->ready[class]);
	engine->slots[S3C_HTTP_META] =
		config->meta_slots > 0 ? config->meta_slots : DEFAULT_META_SLOTS;
	engine->slots[S3C_HTTP_CONTENT] =
		config->content_slots > 0 ? config->content_slots : DEFAULT_CONTENT_SLOTS;
	engine->retries = config->retries;
	engine->mailbox = s3c_http_mailbox_new();
	r = engine->mailbox != NULL ? 0 : -ENOMEM;
	if (r == 0)
		r = copy_string(config->ca_file, &engine->options.ca_file);
	if (r == 0)
		r = copy_string(config->user_agent, &engine->options.user_agent);
	if (r == 0)
		r = s3c_http_watch_open(engine);
	if (r == 0)
		r = s3c_resolver_new(on_resolved, engine->mailbox, &engine->resolver);
	if (r == 0)
		r = s3c_pool_new("s3c-reload", 0, 1, &engine->pool);
	if (r == 0) {
		r = s3c_thread_start(&engine->thread, "s3c-http", run, engine);
		if (r < 0)
			s3c_pool_free(engine->pool);
	}
	if (r < 0) {
		free_engine(engine);
		return s3c_err_set(err, r, "the network engine cannot be started: %s",
				   strerror(-r));
	}
	*ret_engine = engine;
	return 0;
}

void s3c_http_engine_free(struct s3c_http_engine *engine)
{
	struct s3c_http_call *call;

	if (engine == NULL)
		return;
	s3c_mutex_lock(&engine->mailbox->lock);
	engine->mailbox->closed = true;
	s3c_http_mailbox_poke_locked(engine->mailbox);
	s3c_mutex_unlock(&engine->mailbox->lock);
	pthread_join(engine->thread, NULL);
	s3c_pool_free(engine->pool);
	/* What came after the thread's last look: closed keeps new calls out, these are done. */
	while ((call = STAILQ_FIRST(&engine->mailbox->canceled)) != NULL) {
		STAILQ_REMOVE_HEAD(&engine->mailbox->canceled, cancel_link);
		s3c_http_call_put(call);
	}
	while ((call = STAILQ_FIRST(&engine->mailbox->reloaded)) != NULL) {
		STAILQ_REMOVE_HEAD(&engine->mailbox->reloaded, reload_link);
		s3c_http_call_put(call);
	}
	free_engine(engine);
}
