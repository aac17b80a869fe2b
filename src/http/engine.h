/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the engine share. Private to src/http/.
 *
 *   service.c   endpoint, region, clock offset
 *   request.c   copies of requests; address, headers and signature of an attempt
 *   transfer.c  one attempt in curl: options and callbacks
 *   outcome.c   what a reply says about itself
 *   mailbox.c   submission and cancellation from other threads
 *   timers.c    a heap of deadlines
 *   watch.c     curl's sockets and timer
 *   engine.c    the thread: slots, timers, repeats
 */
#pragma once

#include <curl/curl.h>
#include <sys/queue.h>

#include "http/credentials.h"
#include "http/error.h"
#include "http/http.h"
#include "http/resolve.h"
#include "http/retry.h"

#define S3C_HTTP_HOST_MAX 256
#define S3C_HTTP_REGION_MAX 64

/* Where an attempt goes. */
struct s3c_http_target {
	bool tls;
	char host[S3C_HTTP_HOST_MAX]; /* as in a URL: IPv6 addresses in brackets */
	unsigned port;
	char region[S3C_HTTP_REGION_MAX];
	int64_t clock_offset;
};

struct s3c_http_service {
	struct s3c_http_engine *engine;
	char *name;
	struct s3c_credentials *credentials; /* NULL: requests are not signed */
	bool vendor;                         /* the host follows from the region */
	bool tls;
	char host[S3C_HTTP_HOST_MAX];
	unsigned port;
	char *base_path; /* "" or "/x", not encoded */
	unsigned refs;   /* atomic */
	struct {
		struct s3c_mutex lock;
		char region[S3C_HTTP_REGION_MAX];
		int64_t clock_offset;
		bool clock_warned;
	} synced;
};

struct s3c_http_service *s3c_http_service_ref(struct s3c_http_service *service);
/* host of bucket NULL or "": the service's own. -ENAMETOOLONG. */
int s3c_http_service_target(struct s3c_http_service *service, const char *bucket,
			    struct s3c_http_target *ret_target);
/* -EINVAL when the name cannot be one (it may become a part of a host name). */
int s3c_http_service_set_region(struct s3c_http_service *service, const char *region);
void s3c_http_service_set_clock_offset(struct s3c_http_service *service, int64_t offset);

/*
 * How other threads reach the engine's; outlives it while calls do. All fields but the constant
 * wake_fd are guarded by lock.
 */
struct s3c_http_mailbox {
	struct s3c_mutex lock;
	unsigned refs;
	int wake_fd;
	bool poked;  /* wake_fd was written and not read yet */
	bool closed; /* nothing is taken any more */
	bool resolved;
	STAILQ_HEAD(, s3c_http_call) submitted; /* each with the engine's reference */
	STAILQ_HEAD(, s3c_http_call) canceled;  /* each with a reference */
	STAILQ_HEAD(, s3c_http_call) reloaded;  /* each with a reference */
};

enum s3c_http_state {
	S3C_HTTP_NEW,
	S3C_HTTP_RESOLVING,
	S3C_HTTP_READY,
	S3C_HTTP_RUNNING,
	S3C_HTTP_BACKOFF,
	S3C_HTTP_RELOADING,
	S3C_HTTP_DONE,
};

/* An attempt's own data; empty between attempts. */
struct s3c_http_attempt {
	struct s3c_http_target target;
	char *url;
	struct curl_slist *headers; /* hold secrets: wiped */
	struct curl_slist *resolve;
	CURL *easy;
	char error[CURL_ERROR_SIZE];
	bool headers_done;
	bool begun;         /* the sink has begun */
	int callback_error; /* what a callback ended the transfer with */
	unsigned body_index;
	size_t body_offset; /* in body[body_index] */
	uint64_t received;  /* of the reply's body */
	int64_t progress_ns;
	int64_t stall_ns; /* how long it may stand still */
};

struct s3c_http_call {
	unsigned refs; /* atomic */
	struct s3c_http_mailbox *mailbox;
	struct s3c_http_service *service;
	struct s3c_http_request request; /* owned copies; the body is borrowed */
	struct s3c_http_sink sink;
	char payload_hash[65];
	uint64_t body_len;
	s3c_http_done_fn done;
	void *arg;

	STAILQ_ENTRY(s3c_http_call) submit_link; /* the mailbox's lock guards these four */
	STAILQ_ENTRY(s3c_http_call) cancel_link;
	STAILQ_ENTRY(s3c_http_call) reload_link;
	bool cancel_posted;

	struct s3c_job reload_job; /* the pool's; reload_result is handed over by the mailbox */
	int reload_result;

	/* The engine's thread alone from here on. */
	const int64_t *now_ns; /* the engine's, and so is bulk */
	size_t *bulk;
	enum s3c_http_state state;
	TAILQ_ENTRY(s3c_http_call) all_link;
	TAILQ_ENTRY(s3c_http_call) queue_link; /* RESOLVING, READY */
	size_t heap_index;                     /* SIZE_MAX: no timer */
	int64_t wake_ns;
	int64_t retry_ns; /* BACKOFF: when it ends */
	struct s3c_http_attempt attempt;
	struct s3c_credential *credential; /* that the last attempt was signed with */
	struct s3c_http_reply reply;
	int last_result;  /* what the last attempt gave */
	char before[160]; /* the same in words, for a later failure's detail; "" none */
	unsigned repeats;
	bool clock_tried;
	bool credentials_tried;
	bool renewed;  /* its credentials had ended before it was sent: looked at once */
	bool renewing; /* RELOADING for that reason */
	bool region_tried;
	bool redirected;
	bool redirect_virtual;
	struct s3c_http_target redirect; /* host, port and tls count */
};

struct s3c_http_call *s3c_http_call_ref(struct s3c_http_call *call);
struct s3c_http_mailbox *s3c_http_mailbox_new(void);
void s3c_http_mailbox_put(struct s3c_http_mailbox *mailbox);
void s3c_http_mailbox_poke_locked(struct s3c_http_mailbox *mailbox);
/* Has the pool replace call->credential, or find out that it cannot; the call comes back in
 * reloaded with reload_result. */
void s3c_http_mailbox_reload(struct s3c_pool *pool, struct s3c_http_call *call);
struct s3c_http_mailbox *s3c_http_engine_mailbox(struct s3c_http_engine *engine);

/* Copies a request; the call has one reference. -EINVAL for what cannot be sent. */
int s3c_http_call_new(struct s3c_http_service *service, const struct s3c_http_request *request,
		      s3c_http_done_fn done, void *arg, struct s3c_http_call **ret_call);
/* Where the next attempt goes. */
int s3c_http_call_target(struct s3c_http_call *call, struct s3c_http_target *ret_target);
/* Signs and fills url and headers of call->attempt for its target. */
int s3c_http_call_build(struct s3c_http_call *call);
/* Takes the address from a redirecting reply; -EINVAL when there is none that may be followed. */
int s3c_http_call_follow(struct s3c_http_call *call, const struct s3c_http_error *error);

struct s3c_http_transfer_options {
	const char *ca_file;
	const char *user_agent;
};
/* Prepares call->attempt.easy (new or reset) for a built attempt. addresses NULL: the host is one.
 */
int s3c_http_transfer_prepare(struct s3c_http_call *call,
			      const struct s3c_http_transfer_options *options,
			      const char *addresses);
/* What curl's code means; fills reply->detail. 0: a whole reply is there. */
int s3c_http_transfer_result(struct s3c_http_call *call, CURLcode code);
/* Lets more data gather, less than a millisecond, where a round brought little of large bodies;
 * then the next round may begin. */
void s3c_http_transfer_pace(size_t *bulk);
/* Frees all but easy. */
void s3c_http_attempt_clear(struct s3c_http_attempt *attempt);

/* Reads the reply's error (a 200 that holds one becomes the status it stands for) and what it means
 * for the next attempt. ret_outcome->code is the reply's. */
void s3c_http_outcome_read(struct s3c_http_call *call, const struct s3c_http_target *target,
			   int result, struct s3c_retry_outcome *ret_outcome,
			   struct s3c_http_error *ret_error);
/* What the server's clock has more than ours, in seconds; -EINVAL when the reply tells no time. */
int s3c_http_outcome_offset(const struct s3c_http_reply *reply, const struct s3c_http_error *error,
			    int64_t *ret_offset);
/* A region that the reply names and target was not signed for, or NULL. */
const char *s3c_http_outcome_region(const struct s3c_http_call *call,
				    const struct s3c_http_target *target,
				    const struct s3c_http_error *error);

/* A heap of calls by wake_ns. The caller takes a call out before it changes wake_ns. */
struct s3c_http_timers {
	struct s3c_http_call **items;
	size_t count;
	size_t alloc;
};
/* Room for total timers, so that s3c_http_timers_add cannot fail. */
int s3c_http_timers_reserve(struct s3c_http_timers *timers, size_t total);
void s3c_http_timers_add(struct s3c_http_timers *timers, struct s3c_http_call *call);
void s3c_http_timers_remove(struct s3c_http_timers *timers, struct s3c_http_call *call);

#define S3C_HTTP_CLASSES 2
TAILQ_HEAD(s3c_http_call_list, s3c_http_call);

struct s3c_http_engine {
	struct s3c_http_mailbox *mailbox;
	struct s3c_pool *pool; /* loads credentials */
	pthread_t thread;
	unsigned slots[S3C_HTTP_CLASSES];
	unsigned retries;
	struct s3c_http_transfer_options options;

	/* The engine's thread alone from here on. */
	struct s3c_resolver *resolver;
	CURLM *multi;
	int epoll_fd;
	int64_t now_ns;
	size_t bulk; /* bytes of large bodies that came in the present round */
	int64_t curl_wake_ns;
	struct s3c_http_call_list all;
	struct s3c_http_call_list resolving;
	struct s3c_http_call_list ready[S3C_HTTP_CLASSES];
	unsigned running[S3C_HTTP_CLASSES];
	size_t count; /* calls in all */
	struct s3c_http_timers timers;
	CURL **idle; /* easy handles to be used again */
	unsigned idle_count;
};

/* Opens epoll_fd, multi and idle; what was opened is closed with the engine. */
int s3c_http_watch_open(struct s3c_http_engine *engine);
/* For epoll: until the next timer of curl's or of a call. */
int s3c_http_watch_wait_ms(const struct s3c_http_engine *engine);
/* Lets curl act where its timer is over. */
void s3c_http_watch_run_timer(struct s3c_http_engine *engine);
