/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http/engine.h"

#define STALL_NS (30 * S3C_NSEC_PER_SEC)
#define CONNECT_TIMEOUT_MS 10000L
#define CONTENT_RECEIVE_BYTES (512L << 10)
#define CONTENT_SEND_BYTES (256L << 10) /* is copied: it should stay in the processor's cache */
#define META_BYTES (64L << 10)
#define ERROR_BODY_MAX (256u << 10)
#define REPLY_HEADERS_MAX 256
#define RESERVE_MAX (1u << 20)
#define BULK_AFTER (1u << 20)   /* what a body has more than that is bulk: nobody waits for it */
#define BULK_ROUND (128u << 10) /* a round with less bulk than that came too early */
#define BULK_PAUSE_NS (500 * 1000)

static bool is_success(int status)
{
	return status >= 200 && status < 300;
}

static void begin_reply(struct s3c_http_call *call, const char *line, size_t len)
{
	struct s3c_http_reply *reply = &call->reply;
	const char *blank = memchr(line, ' ', len);
	int status = 0;

	s3c_http_headers_free(&reply->headers);
	s3c_buf_free_secret(&reply->body);
	for (const char *c = blank; c != NULL && ++c < line + len && *c >= '0' && *c <= '9';)
		status = status < 1000 ? status * 10 + (*c - '0') : status;
	reply->status = status;
	call->attempt.headers_done = false;
	s3c_buf_init(&reply->body, is_success(status)
					   ? call->request.max_reply
					   : S3C_MIN(call->request.max_reply, ERROR_BODY_MAX));
}

static int end_headers(struct s3c_http_call *call)
{
	struct s3c_http_reply *reply = &call->reply;
	curl_off_t length = -1;
	int r = 0;

	if (reply->status < 200) /* 1xx: the reply itself is still to come */
		return 0;
	call->attempt.headers_done = true;
	if (is_success(reply->status) && call->request.sink != NULL) {
		call->attempt.begun = true;
		r = call->sink.begin(call->sink.arg, reply->status, &reply->headers);
		return r < 0 ? r : 0;
	}
	curl_easy_getinfo(call->attempt.easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (length > 0 && strcmp(call->request.method, "HEAD") != 0)
		/* Only saves growing; what is too long is noticed when it comes. */
		(void)s3c_buf_reserve(&reply->body, S3C_MIN((size_t)length, RESERVE_MAX));
	return r;
}

static int add_header(struct s3c_http_call *call, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	cleanup_free char *text = NULL;
	char *value, *end;

	if (colon == NULL || call->reply.headers.count >= REPLY_HEADERS_MAX)
		return 0;
	text = strndup(line, len);
	if (text == NULL)
		return -ENOMEM;
	text[colon - line] = '\0';
	value = text + (colon - line) + 1;
	while (*value == ' ' || *value == '\t')
		value++;
	end = value + strlen(value);
	while (end > value && strchr(" \t\r\n", end[-1]) != NULL)
		*--end = '\0';
	return s3c_http_headers_add(&call->reply.headers, text, value);
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
	struct s3c_http_call *call = arg;
	size_t len = size * count;
	int r = 0;

	call->attempt.progress_ns = *call->now_ns;
	if (len >= 5 && strncmp(data, "HTTP/", 5) == 0)
		begin_reply(call, data, len);
	else if (call->attempt.headers_done)
		; /* a trailer: nothing reads them */
	else if (len > 0 && (data[0] == '\r' || data[0] == '\n'))
		r = end_headers(call);
	else
		r = add_header(call, data, len);
	if (r < 0) {
		call->attempt.callback_error = r;
		return 0;
	}
	return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct s3c_http_call *call = arg;
	struct s3c_buf *body = &call->reply.body;
	size_t len = size * count;
	int r;

	call->attempt.progress_ns = *call->now_ns;
	if (len == 0)
		return 0;
	call->attempt.received += len;
	if (call->attempt.received > BULK_AFTER)
		*call->bulk += len;
	if (call->attempt.begun) {
		r = call->sink.data(call->sink.arg, data, len);
	} else if (is_success(call->reply.status)) {
		r = s3c_buf_append(body, data, len);
	} else {
		/* The start of an error's text is enough. */
		r = s3c_buf_append(body, data, S3C_MIN(len, body->max - body->len));
	}
	if (r < 0) {
		call->attempt.callback_error = r;
		return 0;
	}
	return len;
}

static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
	struct s3c_http_call *call = arg;
	struct s3c_http_attempt *attempt = &call->attempt;
	size_t room = size * count, done = 0;

	attempt->progress_ns = *call->now_ns;
	while (done < room && attempt->body_index < call->request.body_count) {
		const struct iovec *piece = &call->request.body[attempt->body_index];
		size_t n = S3C_MIN(room - done, piece->iov_len - attempt->body_offset);

		if (n > 0)
			memcpy(to + done, (const char *)piece->iov_base + attempt->body_offset, n);
		done += n;
		attempt->body_offset += n;
		if (attempt->body_offset == piece->iov_len) {
			attempt->body_index++;
			attempt->body_offset = 0;
		}
	}
	return done;
}

/* curl begins again when a kept connection turns out to be closed. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct s3c_http_call *call = arg;
	size_t rest = (size_t)offset;
	unsigned index = 0;

	if (origin != SEEK_SET || offset < 0)
		return CURL_SEEKFUNC_FAIL;
	while (index < call->request.body_count && rest >= call->request.body[index].iov_len)
		rest -= call->request.body[index++].iov_len;
	if (index == call->request.body_count && rest > 0)
		return CURL_SEEKFUNC_FAIL;
	call->attempt.body_index = index;
	call->attempt.body_offset = rest;
	return CURL_SEEKFUNC_OK;
}

static void set_method(struct s3c_http_call *call, CURL *easy)
{
	const char *method = call->request.method;

	if (strcmp(method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (call->body_len > 0 || strcmp(method, "PUT") == 0 ||
		   strcmp(method, "POST") == 0) {
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->body_len);
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(easy, CURLOPT_READDATA, call);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(easy, CURLOPT_SEEKDATA, call);
	} else {
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		if (strcmp(method, "GET") != 0)
			curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
	}
}

static void set_connection(CURL *easy, const struct s3c_http_transfer_options *options)
{
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* A proxy of the environment would be resolved by curl itself, which may block. */
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 10L);
	if (options->user_agent != NULL)
		curl_easy_setopt(easy, CURLOPT_USERAGENT, options->user_agent);
	/*
	 * The file takes the place of the system's bundle; the system's folder of certificates
	 * (CURLOPT_CAPATH, which Debian's curl has by default) still counts beside it.
	 */
	if (options->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
}

static int set_addresses(struct s3c_http_call *call, const char *addresses)
{
	struct s3c_http_attempt *attempt = &call->attempt;
	cleanup_free char *entry = NULL;

	if (addresses == NULL)
		return 0;
	entry = s3c_asprintf("%s:%u:%s", attempt->target.host, attempt->target.port, addresses);
	if (entry == NULL)
		return -ENOMEM;
	attempt->resolve = curl_slist_append(NULL, entry);
	if (attempt->resolve == NULL)
		return -ENOMEM;
	curl_easy_setopt(attempt->easy, CURLOPT_RESOLVE, attempt->resolve);
	return 0;
}

/* A copy or a completion may be silent while the server works: half of the time that is left. */
static int64_t stall_limit(const struct s3c_http_call *call)
{
	int64_t left;

	if (!call->request.xml_200_error || call->request.deadline_ns == INT64_MAX)
		return STALL_NS;
	left = call->request.deadline_ns - *call->now_ns;
	return S3C_MAX(STALL_NS, left / 2);
}

int s3c_http_transfer_prepare(struct s3c_http_call *call,
			      const struct s3c_http_transfer_options *options,
			      const char *addresses)
{
	struct s3c_http_attempt *attempt = &call->attempt;
	bool content = call->request.class == S3C_HTTP_CONTENT;
	CURL *easy = attempt->easy;
	int r;

	attempt->error[0] = '\0';
	attempt->progress_ns = *call->now_ns;
	attempt->stall_ns = stall_limit(call);
	set_connection(easy, options);
	set_method(call, easy);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, content ? CONTENT_RECEIVE_BYTES : META_BYTES);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE,
			 content ? CONTENT_SEND_BYTES : META_BYTES);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, attempt->error);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	r = set_addresses(call, addresses);
	if (r < 0)
		return r;
	if (curl_easy_setopt(easy, CURLOPT_URL, attempt->url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, attempt->headers) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

static int connect_error(CURL *easy)
{
	long error = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
	switch (error) {
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EADDRNOTAVAIL:
		return -EHOSTUNREACH;
	case ETIMEDOUT:
		return -ETIMEDOUT;
	default:
		return -ECONNREFUSED;
	}
}

static int transport_error(CURL *easy, CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return connect_error(easy);
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE: /* cut short */
	case CURLE_SEND_FAIL_REWIND:
		return -ECONNRESET;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return -EKEYREJECTED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_URL_MALFORMAT:
		return -EINVAL;
	default:
		return -EPROTO;
	}
}

int s3c_http_transfer_result(struct s3c_http_call *call, CURLcode code)
{
	struct s3c_http_attempt *attempt = &call->attempt;
	struct s3c_http_reply *reply = &call->reply;

	reply->detail[0] = '\0';
	if (code == CURLE_OK && attempt->headers_done)
		return 0;
	if (attempt->callback_error != 0)
		return attempt->callback_error;
	snprintf(reply->detail, sizeof(reply->detail), "%s",
		 attempt->error[0] != '\0' ? attempt->error
		 : code == CURLE_OK        ? "the reply has no header"
					   : curl_easy_strerror(code));
	return code == CURLE_OK ? -EPROTO : transport_error(attempt->easy, code);
}

/*
 * A store that is about as fast as this thread wakes it for each TLS record of 16 KiB, and waking
 * up then costs a quarter of its time. The sockets' buffers hold far more than what comes
 * meanwhile. Replies of up to a read's size never make it pause.
 */
void s3c_http_transfer_pace(size_t *bulk)
{
	struct timespec pause = { .tv_nsec = BULK_PAUSE_NS };

	if (*bulk > 0 && *bulk < BULK_ROUND)
		nanosleep(&pause, NULL);
	*bulk = 0;
}

void s3c_http_attempt_clear(struct s3c_http_attempt *attempt)
{
	CURL *easy = attempt->easy;

	for (struct curl_slist *line = attempt->headers; line != NULL; line = line->next)
		s3c_wipe(line->data, strlen(line->data));
	curl_slist_free_all(attempt->headers);
	curl_slist_free_all(attempt->resolve);
	free(attempt->url);
	*attempt = (struct s3c_http_attempt){ .easy = easy };
}
