/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * One bounded request for credentials.
 *
 * It has an engine of its own, for as long as it lasts: fetches are some a day, and whoever waits
 * for one must not depend on an engine whose requests wait for it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http/credentials_private.h"
#include "http/error.h"
#include "http/retry.h"

#define PAUSE_NS S3C_NSEC_PER_SEC

struct collector {
	char *text; /* room for S3C_CRED_TEXT_MAX and a NUL */
	size_t len;
};

static int on_begin(void *arg, int status, const struct s3c_http_headers *headers)
{
	struct collector *collector = arg;

	(void)status;
	(void)headers;
	collector->len = 0;
	return 0;
}

static int on_data(void *arg, const void *data, size_t len)
{
	struct collector *collector = arg;

	if (len > S3C_CRED_TEXT_MAX - collector->len)
		return -EMSGSIZE;
	memcpy(collector->text + collector->len, data, len);
	collector->len += len;
	return 0;
}

static void on_interrupt(void *arg)
{
	s3c_op_interrupt(arg);
}

/* -EINTR, or 0 after the pause. */
static int rest(struct s3c_op *op)
{
	struct s3c_mutex lock;
	struct s3c_waitq never;
	struct s3c_op nap;
	int r = 0;

	s3c_mutex_init(&lock);
	s3c_waitq_init(&never);
	s3c_op_init(&nap, s3c_clock_monotonic_ns() + PAUSE_NS);
	if (op != NULL)
		r = s3c_op_set_interrupt_hook(op, on_interrupt, &nap);
	if (r == 0) {
		s3c_mutex_lock(&lock);
		while (r == 0)
			r = s3c_waitq_wait(&never, &lock, &nap);
		s3c_mutex_unlock(&lock);
		if (op != NULL)
			(void)s3c_op_set_interrupt_hook(op, NULL, NULL);
	}
	s3c_op_destroy(&nap);
	s3c_mutex_destroy(&lock);
	return r == -EINTR ? r : 0;
}

/* What went wrong, without what the answer holds but the service's own words about it. */
static void describe(const struct s3c_http_reply *reply, int result, char *ret_words, size_t size)
{
	char message[160];
	size_t len = 0;

	for (const char *c = reply->error_message; *c != '\0' && len < sizeof(message) - 1; c++)
		message[len++] = (unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c;
	message[len] = '\0';
	if (result == -EMSGSIZE)
		snprintf(ret_words, size, "gives an answer that is too long");
	else if (result < 0)
		snprintf(ret_words, size, "does not answer (%s)",
			 reply->detail[0] != '\0' ? reply->detail : strerror(-result));
	else
		snprintf(ret_words, size, "answers with status %d%s%s%s%s", reply->status,
			 reply->error_code[0] != '\0' ? " " : "", reply->error_code,
			 message[0] != '\0' ? ": " : "", message);
}

static void keep_offset(const struct s3c_http_reply *reply, struct s3c_cred_reply *to)
{
	const char *date = s3c_http_headers_get(&reply->headers, "date");
	int64_t seconds;

	to->clock_offset = 0;
	if (date != NULL && s3c_http_parse_time(date, &seconds) == 0)
		to->clock_offset = seconds - s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC;
	/* Headers have whole seconds. */
	if (to->clock_offset >= -2 && to->clock_offset <= 2)
		to->clock_offset = 0;
}

/* One attempt. Whether another one may help. */
static bool attempt(struct s3c_http_service *service, const struct s3c_http_request *request,
		    struct s3c_op *op, struct s3c_cred_reply *to, int *ret_result)
{
	struct s3c_http_reply reply;
	struct s3c_retry_outcome outcome = { 0 };
	enum s3c_retry_verdict verdict;
	int r = s3c_http_perform(service, request, op, &reply);

	outcome.result = r;
	outcome.status = reply.status;
	outcome.code = reply.error_code;
	to->status = r == 0 ? reply.status : 0;
	to->words[0] = '\0';
	if (r < 0 || reply.status < 200 || reply.status >= 300)
		describe(&reply, r, to->words, sizeof(to->words));
	snprintf(to->error_code, sizeof(to->error_code), "%s", reply.error_code);
	keep_offset(&reply, to);
	verdict = s3c_retry_classify(&outcome);
	s3c_http_reply_free(&reply);
	*ret_result = r;
	return verdict == S3C_RETRY_FAULT || verdict == S3C_RETRY_THROTTLED;
}

static int perform(struct s3c_cred_sources *sources, struct s3c_http_service *service,
		   const struct s3c_cred_request *from, struct s3c_cred_reply *to)
{
	struct collector collector = { .text = s3c_secret_alloc(S3C_CRED_TEXT_MAX + 1) };
	const struct s3c_http_sink sink = { on_begin, on_data, &collector };
	const struct iovec body = { (void *)from->body, from->body_len };
	struct s3c_http_request request = {
		.method = from->method,
		.path = from->path,
		.query = from->query,
		.headers = from->headers,
		.body = from->body != NULL ? &body : NULL,
		.body_count = from->body != NULL ? 1 : 0,
		.no_redirect = true,
		.max_reply = S3C_CRED_TEXT_MAX,
		.sink = &sink,
	};
	bool again = true;
	int r = -ENOMEM;

	for (unsigned n = 0; collector.text != NULL && again && n < from->attempts; n++) {
		if (n > 0 && rest(sources->op) < 0) {
			r = -EINTR;
			break;
		}
		request.deadline_ns = s3c_clock_monotonic_ns() + from->timeout_ns;
		again = attempt(service, &request, sources->op, to, &r);
	}
	if (r < 0 || to->status >= 300) {
		s3c_secret_free(collector.text);
		return r;
	}
	collector.text[collector.len] = '\0';
	to->text = collector.text;
	to->len = collector.len;
	return 0;
}

int s3c_cred_fetch(struct s3c_cred_sources *sources, const struct s3c_cred_request *request,
		   struct s3c_err *err, struct s3c_cred_reply *ret_reply)
{
	const struct s3c_http_engine_config engine_config = {
		.ca_file = sources->owner->ca_file,
		.content_slots = 1,
		.meta_slots = 1,
		.user_agent = "s3cryptfs",
	};
	struct s3c_http_service_config service_config = {
		.name = request->service,
		.endpoint = request->endpoint,
		.region = request->region,
	};
	struct s3c_credentials *signer = NULL;
	struct s3c_http_service *service = NULL;
	struct s3c_http_engine *engine = NULL;
	struct s3c_cred_reply reply = { 0 };
	int r = 0;

	if (request->signer != NULL) {
		signer = s3c_credentials_new_fixed(request->signer);
		if (signer == NULL)
			return -ENOMEM;
		service_config.credentials = signer;
	}
	r = s3c_http_engine_new(&engine_config, err, &engine);
	if (r == 0)
		r = s3c_http_service_new(engine, &service_config, err, &service);
	if (r == 0)
		r = perform(sources, service, request, &reply);
	s3c_http_engine_free(engine);
	s3c_http_service_free(service);
	s3c_credentials_free(signer);
	*ret_reply = reply;
	return r;
}

int s3c_cred_fetch_good(struct s3c_cred_sources *sources, const struct s3c_cred_request *request,
			const char *what, struct s3c_err *err, struct s3c_cred_reply *ret_reply)
{
	int r = s3c_cred_fetch(sources, request, err, ret_reply);

	if (r == 0 && ret_reply->status < 300)
		return 0;
	if (r == 0)
		r = ret_reply->status >= 500 || ret_reply->status == 429 ? -EAGAIN : -EACCES;
	if (ret_reply->words[0] == '\0')
		return r; /* the sentence is there, or there was no memory */
	return s3c_err_set(err, r, "%s %s", what, ret_reply->words);
}

void s3c_cred_reply_free(struct s3c_cred_reply *reply)
{
	s3c_secret_free(reply->text);
	*reply = (struct s3c_cred_reply){ 0 };
}
