/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * HTTP requests to a service that is signed for: S3, later KMS and STS.
 *
 * One engine owns one thread with one curl_multi (epoll, keep-alive, many
 * requests at once). A service is an endpoint with credentials, a region and a
 * clock offset, shared by all its requests. A request is submitted with a
 * callback; s3c_http_perform is the blocking form of it.
 *
 * The engine repeats a request by itself: transport errors, 5xx, 429, SlowDown
 * and the like, replies cut short, 200 replies that hold an <Error>, skewed
 * clock (offset taken from the reply, once), expired credentials (loaded again,
 * once, and before it is sent when they are known to have ended), wrong region (once). Waiting
 * times grow with full jitter; each attempt is signed anew; the request's deadline bounds all of
 * it. Content transfers and other requests have separate slots, so that a HEAD never waits for a
 * GET.
 *
 * Callbacks run on the engine's thread and must not block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/thread.h"

/* Names are compared without case; values have no surrounding blanks. */
struct s3c_http_header {
	char *name;
	char *value;
};
struct s3c_http_headers {
	struct s3c_http_header *items;
	size_t count;
};
int s3c_http_headers_add(struct s3c_http_headers *headers, const char *name, const char *value);
/* The first value, NULL when there is none. Owned by headers. */
const char *s3c_http_headers_get(const struct s3c_http_headers *headers, const char *name);
/* Values are wiped: they may hold keys. */
void s3c_http_headers_free(struct s3c_http_headers *headers);

struct s3c_http_engine;
struct s3c_http_engine_config {
	const char
		*ca_file; /* PEM bundle besides the system's default when set; NULL: the system's */
	unsigned content_slots; /* S3C_HTTP_CONTENT requests at once (parallel=) */
	unsigned meta_slots;    /* S3C_HTTP_META requests at once */
	unsigned retries;       /* repeats of one request; UINT_MAX: its deadline decides */
	const char *user_agent;
};
/* Starts the thread. Strings are copied. */
int s3c_http_engine_new(const struct s3c_http_engine_config *config, struct s3c_err *err,
			struct s3c_http_engine **ret_engine);
/* Cancels what is under way (callbacks get -ECANCELED), joins, frees. NULL is legal. Services may
 * be freed before or after; credentials after, but s3c_credentials_stop comes before: a load of
 * theirs that is under way is waited for. Never from a callback. */
void s3c_http_engine_free(struct s3c_http_engine *engine);

struct s3c_http_service;
struct s3c_credentials; /* http/credentials.h */
struct s3c_http_service_config {
	const char *name;                    /* "s3" */
	const char *endpoint;                /* URL; NULL: the vendor's for the region */
	const char *region;                  /* NULL: us-east-1 until a reply tells */
	struct s3c_credentials *credentials; /* borrowed, outlives the service and its requests;
						NULL: requests are not signed */
};
int s3c_http_service_new(struct s3c_http_engine *engine,
			 const struct s3c_http_service_config *config, struct s3c_err *err,
			 struct s3c_http_service **ret_service);
void s3c_http_service_free(struct s3c_http_service *service);
/* Seconds to add to our clock; 0 until a reply showed a difference. */
int64_t s3c_http_service_clock_offset(struct s3c_http_service *service);
/* Copies the region in use. */
void s3c_http_service_region(struct s3c_http_service *service, char *ret_region, size_t size);
bool s3c_http_service_is_tls(const struct s3c_http_service *service);

enum s3c_http_class {
	S3C_HTTP_META,    /* small, answered before content */
	S3C_HTTP_CONTENT, /* object bodies */
};

struct s3c_http_reply {
	int result; /* 0: a final HTTP status arrived; else -errno: -ETIMEDOUT (deadline),
		       -ECANCELED, -ECONNREFUSED, -EHOSTUNREACH (name or route), -ECONNRESET,
		       -EPROTO (TLS or HTTP), -EKEYREJECTED (certificate not trusted), -EACCES (no
		       credentials) */
	int status; /* HTTP status, 0 when none arrived */
	struct s3c_http_headers headers; /* of the last attempt */
	struct s3c_buf body; /* of a reply that did not go to the sink (always for status >= 300) */
	char error_code[64]; /* <Code>, or JSON __type; "" when none */
	char error_message[256];
	char request_id[64];
	char detail[256]; /* curl's words on a transport error, "" otherwise */
	unsigned attempts;
	bool late; /* one of them was given up, by us or a proxy, and may be carried out yet */
};
void s3c_http_reply_free(struct s3c_http_reply *reply);

/* Where the body of a 2xx reply goes. begin comes first at every attempt: the position is 0 again.
 */
struct s3c_http_sink {
	/* < 0 ends the request with that result, without repeats. */
	int (*begin)(void *arg, int status, const struct s3c_http_headers *headers);
	int (*data)(void *arg, const void *data, size_t len);
	void *arg;
};

struct s3c_http_request {
	const char *method;
	const char *bucket; /* S3 addressing; NULL or "": none */
	bool virtual_host;  /* bucket in the host name instead of the path */
	const char *path;   /* not encoded, begins with '/', without the bucket; sent as it is */
	struct s3c_http_headers query;   /* not encoded; value "" gives "name=" */
	struct s3c_http_headers headers; /* to be sent and signed; host, date and hash are added */
	const struct iovec *body;        /* stays valid and unchanged until done; NULL: none */
	unsigned body_count;
	bool unsigned_payload; /* over TLS only: no hash of the body is signed */
	bool xml_200_error;    /* a 200 reply may hold an <Error>: look, and treat it as a fault;
				  reply.status is then what the code stands for, 500 if unknown */
	bool no_redirect;      /* holds keys: never another host than the service's */
	enum s3c_http_class class;
	int64_t deadline_ns;              /* monotonic; 0 or INT64_MAX: none */
	size_t max_reply;                 /* bytes of a body that goes to reply.body; 0: 8 MiB */
	const struct s3c_http_sink *sink; /* copied; NULL: body to the reply */
};

struct s3c_http_call; /* a handle for cancellation, reference-counted */
typedef void (*s3c_http_done_fn)(void *arg, struct s3c_http_reply *reply);

/*
 * Submits. Strings and lists of the request are copied, the body is not. done is called exactly
 * once unless this fails; it owns nothing: reply is freed after it returns. ret_call may be NULL;
 * otherwise the caller puts it. A body whose hash is to be signed is hashed here, by the calling
 * thread. -EINVAL: cannot be sent (a line break in a header); -ECANCELED: the engine is stopping.
 */
int s3c_http_submit(struct s3c_http_service *service, const struct s3c_http_request *request,
		    s3c_http_done_fn done, void *arg, struct s3c_http_call **ret_call);
/* Asks for an early end; done still comes, with -ECANCELED or what was faster. From any thread. */
void s3c_http_cancel(struct s3c_http_call *call);
void s3c_http_call_put(struct s3c_http_call *call);

/*
 * Blocking: waits for the end; an interruption of op cancels the request (-ECANCELED in
 * reply->result becomes -EINTR). op may be NULL; its deadline counts, and its interrupt hook is
 * taken. The caller frees the reply. Returns reply->result. Never on the engine's thread.
 */
int s3c_http_perform(struct s3c_http_service *service, const struct s3c_http_request *request,
		     struct s3c_op *op, struct s3c_http_reply *ret_reply);
