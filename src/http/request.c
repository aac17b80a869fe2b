/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/encode.h"
#include "base/secret.h"
#include "http/engine.h"
#include "http/sigv4.h"

#define DEFAULT_MAX_REPLY (8u << 20)

static int copy_headers(const struct s3c_http_headers *from, struct s3c_http_headers *to)
{
	int r = 0;

	for (size_t i = 0; i < from->count && r == 0; i++)
		r = s3c_http_headers_add(to, from->items[i].name, from->items[i].value);
	return r;
}

/* A line break would end the header and begin another one. */
static bool header_is_sendable(const struct s3c_http_header *header)
{
	static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789!#$%&'*+-.^_`|~";
	size_t len = strlen(header->name);

	return len > 0 && strspn(header->name, token) == len &&
	       strpbrk(header->value, "\r\n") == NULL;
}

static bool request_is_sendable(const struct s3c_http_request *request)
{
	if (request->method == NULL || request->path == NULL || request->path[0] != '/')
		return false;
	if (request->virtual_host &&
	    (request->bucket == NULL ||
	     strspn(request->bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") !=
		     strlen(request->bucket)))
		return false;
	for (size_t i = 0; i < request->headers.count; i++)
		if (!header_is_sendable(&request->headers.items[i]))
			return false;
	return true;
}

static int hash_body(const struct iovec *body, unsigned count, char ret_hex[static 65])
{
	uint8_t digest[S3C_SHA256_LEN];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok;

	if (ctx == NULL)
		return -ENOMEM;
	ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
	for (unsigned i = 0; i < count && ok == 1; i++)
		ok = EVP_DigestUpdate(ctx, body[i].iov_base, body[i].iov_len);
	if (ok == 1)
		ok = EVP_DigestFinal_ex(ctx, digest, NULL);
	EVP_MD_CTX_free(ctx);
	if (ok != 1)
		return -EIO;
	s3c_hex_encode(digest, sizeof(digest), ret_hex);
	return 0;
}

/* Done once, by the submitting thread: all attempts send the same bytes. */
static int fill_payload(struct s3c_http_call *call)
{
	const struct s3c_http_request *request = &call->request;

	for (unsigned i = 0; i < request->body_count; i++)
		call->body_len += request->body[i].iov_len;
	/* Without TLS nothing else would guard the body on its way. */
	if (request->unsigned_payload && call->service->tls)
		strcpy(call->payload_hash, S3C_SIGV4_UNSIGNED);
	else if (call->body_len == 0)
		strcpy(call->payload_hash, S3C_SIGV4_EMPTY_SHA256);
	else
		return hash_body(request->body, request->body_count, call->payload_hash);
	return 0;
}

static void free_call(struct s3c_http_call *call)
{
	free((char *)call->request.method);
	free((char *)call->request.bucket);
	free((char *)call->request.path);
	s3c_http_headers_free(&call->request.query);
	s3c_http_headers_free(&call->request.headers);
	s3c_http_attempt_clear(&call->attempt);
	s3c_credential_put(call->credential);
	s3c_http_reply_free(&call->reply);
	s3c_http_service_free(call->service);
	s3c_http_mailbox_put(call->mailbox);
	free(call);
}

struct s3c_http_call *s3c_http_call_ref(struct s3c_http_call *call)
{
	__atomic_add_fetch(&call->refs, 1, __ATOMIC_RELAXED);
	return call;
}

void s3c_http_call_put(struct s3c_http_call *call)
{
	if (call != NULL && __atomic_sub_fetch(&call->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free_call(call);
}

int s3c_http_call_new(struct s3c_http_service *service, const struct s3c_http_request *request,
		      s3c_http_done_fn done, void *arg, struct s3c_http_call **ret_call)
{
	struct s3c_http_call *call;
	int r;

	if (!request_is_sendable(request))
		return -EINVAL;
	call = calloc(1, sizeof(*call));
	if (call == NULL)
		return -ENOMEM;
	call->refs = 1;
	call->mailbox = s3c_http_engine_mailbox(service->engine);
	call->service = s3c_http_service_ref(service);
	call->done = done;
	call->arg = arg;
	call->heap_index = SIZE_MAX;
	call->request = *request;
	call->request.method = strdup(request->method);
	call->request.path = strdup(request->path);
	call->request.bucket = strdup(request->bucket != NULL ? request->bucket : "");
	call->request.query = (struct s3c_http_headers){ 0 };
	call->request.headers = (struct s3c_http_headers){ 0 };
	if (request->sink != NULL) {
		call->sink = *request->sink;
		call->request.sink = &call->sink;
	}
	if (call->request.max_reply == 0)
		call->request.max_reply = DEFAULT_MAX_REPLY;
	if (call->request.deadline_ns == 0)
		call->request.deadline_ns = INT64_MAX;
	r = call->request.method != NULL && call->request.path != NULL &&
			    call->request.bucket != NULL
		    ? 0
		    : -ENOMEM;
	if (r == 0)
		r = copy_headers(&request->query, &call->request.query);
	if (r == 0)
		r = copy_headers(&request->headers, &call->request.headers);
	if (r == 0)
		r = fill_payload(call);
	if (r < 0) {
		s3c_http_call_put(call);
		return r;
	}
	*ret_call = call;
	return 0;
}

static bool in_virtual_host(const struct s3c_http_call *call)
{
	return call->redirected ? call->redirect_virtual : call->request.virtual_host;
}

int s3c_http_call_target(struct s3c_http_call *call, struct s3c_http_target *ret_target)
{
	struct s3c_http_target target;
	int r;

	r = s3c_http_service_target(
		call->service, call->request.virtual_host ? call->request.bucket : NULL, &target);
	if (r < 0)
		return r;
	if (call->redirected) {
		memcpy(target.host, call->redirect.host, sizeof(target.host));
		target.port = call->redirect.port;
		target.tls = call->redirect.tls;
	}
	*ret_target = target;
	return 0;
}

/* The path as it is signed: not encoded, with the bucket where it belongs there. */
static int append_path(const struct s3c_http_call *call, struct s3c_buf *out)
{
	const char *path = call->request.path;
	int r = s3c_buf_append_str(out, call->service->base_path);

	if (*call->request.bucket != '\0' && !in_virtual_host(call)) {
		if (r == 0)
			r = s3c_buf_printf(out, "/%s", call->request.bucket);
		/* The bucket itself is "/bucket". */
		if (strcmp(path, "/") == 0)
			path = "";
	}
	return r == 0 ? s3c_buf_append_str(out, path) : r;
}

static int build_url(struct s3c_http_call *call, const char *path)
{
	const struct s3c_http_target *target = &call->attempt.target;
	cleanup_buf struct s3c_buf url = { 0 };
	int r;

	r = s3c_buf_printf(&url, "%s://%s:%u", target->tls ? "https" : "http", target->host,
			   target->port);
	if (r == 0)
		r = s3c_uri_encode(&url, path, strlen(path), true);
	if (r == 0 && call->request.query.count > 0)
		r = s3c_buf_append_char(&url, '?');
	if (r == 0)
		r = s3c_sigv4_query(&call->request.query, &url);
	if (r < 0)
		return r;
	call->attempt.url = s3c_buf_steal(&url);
	return call->attempt.url != NULL ? 0 : -ENOMEM;
}

/* Headers that hops and proxies change. */
static bool is_signed(const char *name)
{
	static const char *const unsigned_names[] = { "connection", "expect", "user-agent",
						      "transfer-encoding", "x-amzn-trace-id" };

	for (size_t i = 0; i < ARRAY_LEN(unsigned_names); i++)
		if (strcasecmp(name, unsigned_names[i]) == 0)
			return false;
	return true;
}

static int append_line(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (longer == NULL)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static int append_header(struct curl_slist **list, const char *name, const char *value)
{
	struct s3c_buf line = { 0 };
	int r;

	/* "Name;" is how curl is told to send a header without a value. */
	r = *value != '\0' ? s3c_buf_printf(&line, "%s: %s", name, value)
			   : s3c_buf_printf(&line, "%s;", name);
	if (r == 0)
		r = append_line(list, line.data);
	s3c_buf_free_secret(&line);
	return r;
}

static int host_header(const struct s3c_http_target *target, char *ret_host, size_t size)
{
	bool standard = target->port == (target->tls ? 443 : 80);
	int n = standard ? snprintf(ret_host, size, "%s", target->host)
			 : snprintf(ret_host, size, "%s:%u", target->host, target->port);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static void format_date(int64_t clock_offset, char ret_date[static 17])
{
	time_t now = (time_t)(s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC + clock_offset);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(ret_date, 17, "%Y%m%dT%H%M%SZ", &tm);
}

/* The headers that are signed, besides those of the request. */
static int collect_signed(const struct s3c_http_call *call, const char *date,
			  struct s3c_http_headers *headers)
{
	const struct s3c_http_headers *own = &call->request.headers;
	const char *token = call->credential->session_token;
	char host[S3C_HTTP_HOST_MAX + 8];
	int r = host_header(&call->attempt.target, host, sizeof(host));

	if (r == 0)
		r = s3c_http_headers_add(headers, "host", host);
	if (r == 0)
		r = s3c_http_headers_add(headers, "x-amz-date", date);
	if (r == 0)
		r = s3c_http_headers_add(headers, "x-amz-content-sha256", call->payload_hash);
	if (r == 0 && token != NULL)
		r = s3c_http_headers_add(headers, "x-amz-security-token", token);
	for (size_t i = 0; i < own->count && r == 0; i++)
		if (is_signed(own->items[i].name))
			r = s3c_http_headers_add(headers, own->items[i].name, own->items[i].value);
	return r;
}

static int add_signature(struct s3c_http_call *call, const char *path)
{
	struct s3c_http_headers headers = { 0 };
	cleanup_buf struct s3c_buf authorization = { 0 };
	char date[17];
	const struct s3c_sigv4_input in = {
		.method = call->request.method,
		.path = path,
		.query = &call->request.query,
		.headers = &headers,
		.payload_hash = call->payload_hash,
		.date = date,
		.region = call->attempt.target.region,
		.service = call->service->name,
		.credential = call->credential,
	};
	int r;

	format_date(call->attempt.target.clock_offset, date);
	r = collect_signed(call, date, &headers);
	if (r == 0)
		r = s3c_sigv4_authorization(&in, &authorization);
	for (size_t i = 0; i < headers.count && r == 0; i++)
		r = append_header(&call->attempt.headers, headers.items[i].name,
				  headers.items[i].value);
	if (r == 0)
		r = append_header(&call->attempt.headers, "Authorization", authorization.data);
	s3c_http_headers_free(&headers);
	return r;
}

int s3c_http_call_build(struct s3c_http_call *call)
{
	const struct s3c_http_headers *own = &call->request.headers;
	bool sign = call->service->credentials != NULL;
	cleanup_buf struct s3c_buf path = { 0 };
	int r;

	s3c_credential_put(call->credential);
	call->credential = sign ? s3c_credentials_get(call->service->credentials) : NULL;
	if (sign && call->credential == NULL)
		return -EACCES;
	r = append_path(call, &path);
	if (r == 0)
		r = build_url(call, path.data);
	if (r == 0 && sign)
		r = add_signature(call, path.data);
	for (size_t i = 0; i < own->count && r == 0; i++)
		if (!sign || !is_signed(own->items[i].name))
			r = append_header(&call->attempt.headers, own->items[i].name,
					  own->items[i].value);
	/* Neither is wanted: the one costs a round trip, the other would not be signed. */
	if (r == 0)
		r = append_line(&call->attempt.headers, "Expect:");
	if (r == 0)
		r = append_line(&call->attempt.headers, "Accept:");
	return r;
}

/* Parses "https://host[:port]/..." or a bare host name as the body's <Endpoint> has it. */
static int parse_address(const char *address, const struct s3c_http_target *from,
			 struct s3c_http_target *ret_target)
{
	CURLU *url = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL;
	struct s3c_http_target target = { 0 };
	cleanup_free char *whole = NULL;
	int r = -EINVAL;

	if (strstr(address, "://") == NULL)
		whole = s3c_asprintf("%s://%s", from->tls ? "https" : "http", address);
	if (url != NULL &&
	    curl_url_set(url, CURLUPART_URL, whole != NULL ? whole : address, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
	    strlen(host) < sizeof(target.host)) {
		target.tls = strcmp(scheme, "https") == 0;
		strcpy(target.host, host);
		target.port = (unsigned)strtoul(port, NULL, 10);
		/* Never from TLS to plain text. */
		if (target.tls || (strcmp(scheme, "http") == 0 && !from->tls))
			r = 0;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(url);
	if (r == 0)
		*ret_target = target;
	return r;
}

int s3c_http_call_follow(struct s3c_http_call *call, const struct s3c_http_error *error)
{
	const char *address = s3c_http_headers_get(&call->reply.headers, "location");
	const char *bucket = call->request.bucket;
	size_t len = strlen(bucket);
	int r;

	if (call->request.no_redirect)
		return -EPERM;
	if (address == NULL || *address == '/')
		address = error->endpoint;
	if (*address == '\0')
		return -EINVAL;
	r = parse_address(address, &call->attempt.target, &call->redirect);
	if (r < 0)
		return r;
	call->redirect_virtual = len > 0 && strncmp(call->redirect.host, bucket, len) == 0 &&
				 call->redirect.host[len] == '.';
	call->redirected = true;
	return 0;
}

struct waiter {
	struct s3c_mutex lock;
	struct s3c_waitq done_q;
	bool done;
	struct s3c_http_reply *reply;
};

static void on_performed(void *arg, struct s3c_http_reply *reply)
{
	struct waiter *waiter = arg;

	s3c_mutex_lock(&waiter->lock);
	*waiter->reply = *reply;
	*reply = (struct s3c_http_reply){ 0 };
	waiter->done = true;
	s3c_waitq_wake_all(&waiter->done_q);
	s3c_mutex_unlock(&waiter->lock);
}

static void on_interrupt(void *arg)
{
	s3c_http_cancel(arg);
}

int s3c_http_perform(struct s3c_http_service *service, const struct s3c_http_request *request,
		     struct s3c_op *op, struct s3c_http_reply *ret_reply)
{
	struct s3c_http_request copy = *request;
	struct waiter waiter = { .reply = ret_reply };
	struct s3c_http_call *call = NULL;
	int r;

	*ret_reply = (struct s3c_http_reply){ 0 };
	if (op != NULL && (copy.deadline_ns == 0 || op->deadline_ns < copy.deadline_ns))
		copy.deadline_ns = op->deadline_ns;
	s3c_mutex_init(&waiter.lock);
	s3c_waitq_init(&waiter.done_q);
	r = s3c_http_submit(service, &copy, on_performed, &waiter, &call);
	if (r < 0) {
		ret_reply->result = r;
		goto out;
	}
	if (op != NULL && s3c_op_set_interrupt_hook(op, on_interrupt, call) == -EINTR)
		s3c_http_cancel(call);
	s3c_mutex_lock(&waiter.lock);
	/* Not on behalf of op: whatever ends the request makes its callback come at once. */
	while (!waiter.done)
		(void)s3c_waitq_wait(&waiter.done_q, &waiter.lock, NULL);
	s3c_mutex_unlock(&waiter.lock);
	if (op != NULL) {
		(void)s3c_op_set_interrupt_hook(op, NULL, NULL);
		if (ret_reply->result == -ECANCELED && s3c_op_interrupted(op))
			ret_reply->result = -EINTR;
	}
	s3c_http_call_put(call);
out:
	s3c_mutex_destroy(&waiter.lock);
	return ret_reply->result;
}
