/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * An object store that speaks S3.
 *
 * A call is one HTTP request in almost all cases; enum s3c_s3_step has the exceptions. Repeats
 * after faults are the HTTP engine's; only conflicts (409), which it takes as final, are repeated
 * here. Customer keys: every reply to a write must confirm the algorithm and the key's MD5, since
 * there are stores that take the headers and do not encrypt; so must every reply to a read. Replies
 * to writes that ask the store to encrypt by itself must confirm that likewise.
 */
#include "store/s3_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

#define CONFLICT_REPEATS 4
#define META_SLOTS 256
#define PARALLEL_DEFAULT 32

static void call_unref(struct s3c_s3_call *call)
{
	if (atomic_fetch_sub(&call->refs, 1) != 1)
		return;
	s3c_http_call_put(call->http);
	s3c_mutex_destroy(&call->lock);
	s3c_buf_free(&call->xml);
	free(call);
}

static void on_http_done(void *arg, struct s3c_http_reply *http);

/* What the reply gives, of a GET: where the range begins, and what of it is for the caller. */
static int find_range(struct s3c_s3_call *call, int status, const struct s3c_http_headers *headers,
		      uint64_t *ret_offset)
{
	const struct s3c_store_request *rq = &call->rq;
	struct s3c_stat *st = &call->reply.stat;
	const char *text = s3c_http_headers_get(headers, "Content-Range");
	uint64_t first, last, total, length;

	call->skip = 0;
	if (status == 206) {
		if (!text || s3c_s3_parse_range(text, &first, &last, &total) < 0 ||
		    (!rq->suffix && first != rq->offset) || st->size != last - first + 1)
			return -EPROTO;
		st->size = total;
		length = last - first + 1;
		if (rq->suffix ? length > rq->suffix : length > rq->length)
			return -EPROTO;
		*ret_offset = first;
		call->expected = length;
		return 0;
	}
	/* The whole object, whatever was asked for. */
	total = st->size;
	first = rq->suffix ? total - S3C_MIN(rq->suffix, total) : rq->offset;
	length = rq->suffix ? rq->suffix : rq->length;
	if (!total) {
		first = 0;
	} else if (first >= total) {
		return -ERANGE;
	}
	call->skip = first;
	call->expected = S3C_MIN(length, total - first);
	*ret_offset = first;
	return 0;
}

static int on_begin(void *arg, int status, const struct s3c_http_headers *headers)
{
	struct s3c_s3_call *call = arg;
	const struct s3c_store_sink *sink = &call->rq.sink;
	uint64_t offset = 0;
	int r;

	s3c_stat_free(&call->reply.stat);
	call->begun = false;
	call->received = 0;
	call->fault[0] = '\0';
	r = s3c_s3_read_stat(call->rq.ssec, headers, &call->reply.stat);
	if (r == 0 && !s3c_http_headers_get(headers, "Content-Length"))
		r = -EPROTO; /* a range cannot be told without it */
	if (r == 0)
		r = find_range(call, status, headers, &offset);
	if (r == -EPROTO)
		snprintf(call->fault, sizeof(call->fault), "the reply's headers make no sense");
	if (r == 0 && call->rq.ssec && !call->reply.stat.ssec) {
		snprintf(call->fault, sizeof(call->fault),
			 "the reply does not confirm the customer key (SSE-C): the object is not "
			 "encrypted with it");
		r = -EKEYREJECTED;
	}
	if (r == 0 && sink->begin)
		r = sink->begin(sink->arg, &call->reply.stat, offset, call->expected,
				call->reply.stat.size);
	call->sink_result = r < 0 ? r : 0;
	call->begun = r >= 0;
	return r;
}

static int on_data(void *arg, const void *data, size_t len)
{
	struct s3c_s3_call *call = arg;
	const struct s3c_store_sink *sink = &call->rq.sink;
	const char *p = data;
	size_t n = (size_t)S3C_MIN((uint64_t)len, call->skip);
	int r = 0;

	p += n;
	len -= n;
	call->skip -= n;
	len = (size_t)S3C_MIN((uint64_t)len, call->expected - call->received);
	call->received += len;
	if (len && sink->data)
		r = sink->data(sink->arg, p, len);
	if (r < 0)
		call->sink_result = r;
	return r;
}

/* Submits the request of the present step. */
static int submit_step(struct s3c_s3_call *call)
{
	const struct s3c_http_sink sink = { on_begin, on_data, call };
	struct s3c_http_call *http = NULL;
	struct s3c_http_call *former = NULL;
	struct s3c_s3_built built;
	unsigned generation;
	bool cancelled;
	int r;

	if (atomic_load(&call->store->closing))
		return -ECANCELED;
	r = s3c_s3_build(call, &built);
	if (r < 0)
		return r;
	if (call->rq.op == S3C_STORE_GET && call->step == S3C_S3_MAIN)
		built.http.sink = &sink;
	s3c_mutex_lock(&call->lock);
	generation = ++call->generation;
	cancelled = call->cancelled;
	s3c_mutex_unlock(&call->lock);
	/* The answer may be there before this returns, and even the next step begun by it. */
	atomic_fetch_add(&call->refs, 1);
	r = cancelled
		    ? -ECANCELED
		    : s3c_http_submit(call->store->service, &built.http, on_http_done, call, &http);
	s3c_s3_built_free(&built);
	s3c_mutex_lock(&call->lock);
	if (call->generation == generation) {
		former = call->http;
		call->http = http;
	} else {
		former = http;
	}
	cancelled = call->cancelled;
	if (r == 0 && cancelled && call->http)
		s3c_http_cancel(call->http);
	s3c_mutex_unlock(&call->lock);
	s3c_http_call_put(former);
	call_unref(call);
	return r;
}

static void deliver(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	struct s3c_store_reply *reply = &call->reply;

	reply->result = result;
	reply->repeated = http->attempts > 1 || (http->attempts && !http->status);
	if (result < 0)
		s3c_s3_describe(call, http, result, reply->message, sizeof(reply->message));
	s3c_store_count(&call->rq, result, call->begun_ns, call->received);
	call->done(call->arg, reply);
	s3c_store_reply_free(reply);
	call_unref(call);
}

/* Goes on to another step; when it cannot even be sent, that is the result. */
static void next_step(struct s3c_s3_call *call, const struct s3c_http_reply *http,
		      enum s3c_s3_step step)
{
	int r;

	call->step = step;
	r = submit_step(call);
	if (r < 0) {
		snprintf(call->fault, sizeof(call->fault), "%s", strerror(-r));
		deliver(call, http, r);
	}
}

/* The next key from index on that XML cannot hold. */
static bool find_odd_key(struct s3c_s3_call *call, size_t index)
{
	for (; index < call->rq.key_count; index++) {
		if (!s3c_s3_key_fits_xml(call->rq.keys[index])) {
			call->delete_index = index;
			return true;
		}
	}
	return false;
}

static bool has_plain_key(const struct s3c_s3_call *call)
{
	for (size_t i = 0; i < call->rq.key_count; i++)
		if (s3c_s3_key_fits_xml(call->rq.keys[i]))
			return true;
	return false;
}

static void delete_one_done(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	if (result < 0 && result != -ENOENT && http->status != 404) {
		call->reply.failed_index = call->delete_index;
		deliver(call, http, result);
	} else if (find_odd_key(call, call->delete_index + 1)) {
		next_step(call, http, S3C_S3_DELETE_ONE);
	} else if (has_plain_key(call)) {
		next_step(call, http, S3C_S3_MAIN);
	} else {
		deliver(call, http, 0);
	}
}

static int read_body_less(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	s3c_stat_free(&call->reply.stat);
	return s3c_s3_read_stat(call->rq.ssec, &http->headers, &call->reply.stat);
}

static bool checksum_confirmed(const struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	const char *header = s3c_s3_checksum_header(call->sent_checksum);
	const char *value = header ? s3c_http_headers_get(&http->headers, header) : NULL;

	return value && strcmp(value, call->checksum) == 0;
}

static int finish_get(struct s3c_s3_call *call)
{
	if (!call->begun || call->received != call->expected) {
		snprintf(call->fault, sizeof(call->fault), "the body is shorter than announced");
		return -EPROTO;
	}
	return 0;
}

/*
 * What the reply does not confirm is not encrypted. Completions say nothing; copies to a part say
 * nothing on Ceph, where the upload's start has confirmed the key for all parts.
 */
static bool confirms_key(const struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	if (call->reply.stat.ssec || call->rq.op == S3C_STORE_UPLOAD_COMPLETE)
		return true;
	return call->rq.op == S3C_STORE_UPLOAD_PART_COPY &&
	       !s3c_http_headers_get(&http->headers, S3C_S3_SSEC_ALGORITHM) &&
	       !s3c_http_headers_get(&http->headers, S3C_S3_SSEC_MD5);
}

/* 0, or -EBADE with the reason in call->fault. */
static int check_write_echo(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	char why[256] = "";

	if (call->rq.ssec) {
		if (confirms_key(call, http))
			return 0;
		snprintf(call->fault, sizeof(call->fault),
			 "the store does not confirm the customer key (SSE-C): it did not encrypt "
			 "with it");
	} else {
		if (s3c_s3_sse_confirms(&call->store->sse, call->rq.op, &http->headers, why,
					sizeof(why)))
			return 0;
		snprintf(call->fault, sizeof(call->fault),
			 "the store does not confirm the encryption: it says %s", why);
	}
	return -EBADE;
}

static int finish_write(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct s3c_store_reply *reply = &call->reply;
	int r = read_body_less(call, http);

	reply->stat.size = 0; /* of the reply's body, that was */
	if (r < 0)
		return r;
	switch (call->rq.op) {
	case S3C_STORE_PUT:
		for (unsigned i = 0; i < call->rq.body_count; i++)
			reply->stat.size += call->rq.body[i].iov_len;
		reply->checksum_confirmed = checksum_confirmed(call, http);
		r = reply->stat.version.etag[0] ? 0 : -EPROTO;
		break;
	case S3C_STORE_UPLOAD_PART:
		memcpy(reply->part.etag, reply->stat.version.etag, sizeof(reply->part.etag));
		if (call->sent_checksum != S3C_CHECKSUM_OFF)
			snprintf(reply->part.checksum, sizeof(reply->part.checksum), "%s",
				 call->checksum);
		r = reply->part.etag[0] ? 0 : -EPROTO;
		break;
	case S3C_STORE_UPLOAD_CREATE:
		r = s3c_s3_read_upload_id(call, http);
		break;
	default:
		r = s3c_s3_read_result(call, http);
		break;
	}
	reply->part.number = call->rq.part_number;
	return r == 0 && !call->rq.unchecked ? check_write_echo(call, http) : r;
}

/* Of a reply with a 2xx status. */
static int finish(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	switch (call->rq.op) {
	case S3C_STORE_GET:
		return finish_get(call);
	case S3C_STORE_LIST:
		return s3c_s3_read_list(call, http);
	case S3C_STORE_LIST_UPLOADS:
		return s3c_s3_read_uploads(call, http);
	case S3C_STORE_UPLOAD_PARTS:
		return s3c_s3_read_parts(call, http);
	case S3C_STORE_DELETE_MANY:
		return s3c_s3_read_deleted(call, http);
	case S3C_STORE_DELETE:
	case S3C_STORE_UPLOAD_ABORT:
		return 0;
	case S3C_STORE_HEAD:
		return read_body_less(call, http);
	default:
		return finish_write(call, http);
	}
}

static int check_read_echo(struct s3c_s3_call *call)
{
	if (!call->rq.ssec || call->reply.stat.ssec)
		return 0;
	snprintf(call->fault, sizeof(call->fault),
		 "the reply does not confirm the customer key (SSE-C): the object is not encrypted "
		 "with it");
	return -EKEYREJECTED;
}

/* After 416: an empty object has no range, any other one was asked past its end. */
static void size_done(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	const struct s3c_store_sink *sink = &call->rq.sink;

	if (result == 0)
		result = read_body_less(call, http);
	if (result == 0)
		result = check_read_echo(call);
	/* It was empty, and another one has come in its place since. */
	if (result == 0 && (call->rq.suffix || call->rq.offset < call->reply.stat.size) &&
	    call->reply.stat.size && call->repeats++ < CONFLICT_REPEATS) {
		s3c_stat_free(&call->reply.stat);
		call->reply.stat = (struct s3c_stat){ 0 };
		next_step(call, http, S3C_S3_MAIN);
		return;
	}
	if (result == 0 && call->reply.stat.size)
		result = -ERANGE;
	if (result == 0 && sink->begin)
		result = sink->begin(sink->arg, &call->reply.stat, 0, 0, 0);
	deliver(call, http, result);
}

/* After a HEAD that was refused: the GET says why, or gives what was asked for. */
static void why_done(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	const char *range = s3c_http_headers_get(&http->headers, "Content-Range");
	uint64_t first, last, total;

	if (result == 0)
		result = read_body_less(call, http);
	if (result == 0 && http->status == 206) {
		if (range && s3c_s3_parse_range(range, &first, &last, &total) == 0)
			call->reply.stat.size = total;
		else
			result = -EPROTO;
	}
	if (result == 0)
		result = check_read_echo(call);
	deliver(call, http, result);
}

/* The object is there, or was; which version it is, is not known when this look at it fails: as if
   the reply of the completion had been lost. Without an ETag nothing could be made conditional. */
static void after_done(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	if (result == 0)
		result = read_body_less(call, http);
	deliver(call, http, result < 0 ? -EAGAIN : 0);
}

static void parts_done(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	/* Ceph calls the upload a key here. */
	bool gone = result == -ENXIO ||
		    (http->status == 404 && strcmp(http->error_code, "NoSuchKey") == 0);

	deliver(call, http, gone ? -ENXIO : call->main_result);
}

/* Another request where the first reply does not say enough. */
static bool needs_step(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result,
		       enum s3c_s3_step *ret_step)
{
	enum s3c_store_opcode op = call->rq.op;

	if (http->result < 0)
		return false;
	/* Two writers met; whose condition still holds is told by the next try. */
	if (http->status == 409 && result == -EAGAIN && call->repeats++ < CONFLICT_REPEATS) {
		*ret_step = S3C_S3_MAIN;
		return true;
	}
	if (op == S3C_STORE_GET && http->status == 416) {
		*ret_step = S3C_S3_SIZE;
		return true;
	}
	if (op == S3C_STORE_HEAD &&
	    (http->status == 400 || (http->status == 403 && call->rq.ssec))) {
		*ret_step = S3C_S3_WHY;
		return true;
	}
	if (op == S3C_STORE_UPLOAD_COMPLETE && http->status == 500) {
		*ret_step = S3C_S3_PARTS;
		call->main_result = result;
		s3c_s3_fault(call, http, result);
		return true;
	}
	return false;
}

static void main_done(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	enum s3c_store_opcode op = call->rq.op;
	enum s3c_s3_step step;

	if (needs_step(call, http, result, &step)) {
		next_step(call, http, step);
		return;
	}
	if (op == S3C_STORE_DELETE && result == -ENOENT)
		result = 0;
	if (result == 0 && http->status < 300)
		result = finish(call, http);
	if (result == 0 && op == S3C_STORE_HEAD)
		result = check_read_echo(call);
	if (result == -EPROTO && !call->fault[0] && http->result == 0 && http->status < 300)
		snprintf(call->fault, sizeof(call->fault), "the reply makes no sense");
	if (result == -EBADE && op == S3C_STORE_UPLOAD_CREATE && call->reply.upload_id) {
		call->main_result = result;
		next_step(call, http, S3C_S3_DROP);
		return;
	}
	if (result == 0 && op == S3C_STORE_UPLOAD_COMPLETE && !call->reply.stat.version.etag[0]) {
		next_step(call, http, S3C_S3_AFTER);
		return;
	}
	deliver(call, http, result);
}

static void on_http_done(void *arg, struct s3c_http_reply *http)
{
	struct s3c_s3_call *call = arg;
	int result = 0;

	call->reply.late |= http->late;
	if (call->sink_result < 0)
		result = call->sink_result;
	else if (http->result < 0 || http->status < 200 || http->status >= 300)
		result = s3c_s3_error(call, http);
	switch (call->step) {
	case S3C_S3_MAIN:
		main_done(call, http, result);
		break;
	case S3C_S3_SIZE:
		size_done(call, http, result);
		break;
	case S3C_S3_WHY:
		why_done(call, http, result);
		break;
	case S3C_S3_AFTER:
		after_done(call, http, result);
		break;
	case S3C_S3_PARTS:
		parts_done(call, http, result);
		break;
	case S3C_S3_DELETE_ONE:
		delete_one_done(call, http, result);
		break;
	case S3C_S3_DROP:
		deliver(call, http, call->main_result);
		break;
	}
}

static int s3_submit(struct s3c_store *store, const struct s3c_store_request *request,
		     s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	struct s3c_s3_store *s3 = container_of(store, struct s3c_s3_store, base);
	struct s3c_s3_call *call;
	int r;

	/* A customer key never travels in the clear, whatever allow_http says. */
	if ((request->ssec || request->source_ssec) && !store->tls)
		return -EOPNOTSUPP;
	/* Ceph 16 decodes this one name twice: it would copy another object, or crash. */
	if (request->op == S3C_STORE_UPLOAD_PART_COPY && store->caps.part_copy &&
	    !store->caps.part_copy_any_key && strchr(request->source_key, '%'))
		return -EOPNOTSUPP;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->store = s3;
	call->rq = *request;
	call->begun_ns = s3c_clock_monotonic_ns();
	call->done = done;
	call->arg = arg;
	s3c_mutex_init(&call->lock);
	atomic_init(&call->refs, ret_call ? 2 : 1);
	if (request->op == S3C_STORE_DELETE_MANY && find_odd_key(call, 0))
		call->step = S3C_S3_DELETE_ONE;
	if (ret_call)
		*ret_call = (struct s3c_store_call *)call;
	r = submit_step(call);
	if (r < 0) {
		if (ret_call) {
			*ret_call = NULL;
			call_unref(call);
		}
		call_unref(call);
	}
	return r;
}

static void s3_cancel(struct s3c_store *store, struct s3c_store_call *handle)
{
	struct s3c_s3_call *call = (struct s3c_s3_call *)handle;

	(void)store;
	s3c_mutex_lock(&call->lock);
	call->cancelled = true;
	if (call->http)
		s3c_http_cancel(call->http);
	s3c_mutex_unlock(&call->lock);
}

static void s3_call_put(struct s3c_store *store, struct s3c_store_call *handle)
{
	(void)store;
	call_unref((struct s3c_s3_call *)handle);
}

static void s3_free(struct s3c_store *store)
{
	struct s3c_s3_store *s3 = container_of(store, struct s3c_s3_store, base);

	atomic_store(&s3->closing, true);
	s3c_credentials_stop(s3->credentials);
	s3c_http_engine_free(s3->engine);
	s3c_http_service_free(s3->service);
	s3c_credentials_free(s3->credentials);
	free(s3->bucket);
	free(s3->identity);
	free(s3->storage_class);
	s3c_s3_sse_free(&s3->sse);
	free(s3);
}

static void s3_refresh(struct s3c_store *store)
{
	struct s3c_s3_store *s3 = container_of(store, struct s3c_s3_store, base);

	s3c_credentials_refresh(s3->credentials, "the store");
}

static const struct s3c_store_ops s3_ops = {
	.name = "s3",
	.submit = s3_submit,
	.cancel = s3_cancel,
	.call_put = s3_call_put,
	.free = s3_free,
	.refresh = s3_refresh,
};

/* Names of general-purpose buckets, and what other servers take besides. */
static int check_bucket(const char *bucket, struct s3c_err *err)
{
	size_t len = bucket ? strlen(bucket) : 0;

	if (len < 3 || len > 255 ||
	    bucket[strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789.-_:")] ||
	    strcmp(bucket, "...") == 0)
		return s3c_err_set(err, -EINVAL,
				   "%s is not a bucket's name: it has 3 to 63 characters of a-z, "
				   "0-9, '-' and '.'",
				   bucket && bucket[0] ? bucket : "\"\"");
	return 0;
}

static bool is_http(const char *endpoint)
{
	return endpoint && strncasecmp(endpoint, "http://", 7) == 0;
}

/* The endpoint without what does not matter, so that one store has one identity. */
static int set_identity(struct s3c_s3_store *s3, const char *endpoint)
{
	size_t len;

	if (!endpoint)
		endpoint = "https://s3.amazonaws.com";
	len = strlen(endpoint);
	while (len && endpoint[len - 1] == '/')
		len--;
	s3->identity = s3c_asprintf("%.*s|%s", (int)len, endpoint, s3->bucket);
	if (!s3->identity)
		return -ENOMEM;
	for (char *p = s3->identity; *p && *p != '|'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	s3->base.identity = s3->identity;
	return 0;
}

static bool wants_virtual_host(const struct s3c_store_s3_config *config, const char *endpoint)
{
	switch (config->addressing) {
	case S3C_ADDRESSING_PATH:
		return false;
	case S3C_ADDRESSING_VIRTUAL:
		return true;
	default:
		/* The vendor's certificate covers one label; other servers need not know names. */
		return !endpoint && !strchr(config->bucket, '.') &&
		       !config->bucket[strspn(config->bucket,
					      "abcdefghijklmnopqrstuvwxyz0123456789-")];
	}
}

static int connect_service(struct s3c_s3_store *s3, const struct s3c_store_s3_config *config,
			   struct s3c_err *err)
{
	const struct s3c_http_engine_config engine = {
		.ca_file = config->ca_file,
		.content_slots = config->parallel ? config->parallel : PARALLEL_DEFAULT,
		.meta_slots = META_SLOTS,
		.retries = config->retries,
		.user_agent = "s3cryptfs",
	};
	struct s3c_http_service_config service = {
		.name = "s3",
		.endpoint = config->endpoint,
		.region = config->region,
	};
	const struct s3c_credentials_config credentials = {
		.profile = config->profile,
		.region = config->region,
		.ca_file = config->ca_file,
	};
	int r = s3c_credentials_open(&credentials, err, &s3->credentials);

	if (r < 0)
		return r;
	if (!service.endpoint)
		service.endpoint = s3c_credentials_endpoint(s3->credentials, "s3");
	if (!service.region)
		service.region = s3c_credentials_region(s3->credentials);
	service.credentials = s3->credentials;
	if (is_http(service.endpoint) && !config->allow_http)
		return s3c_err_set(err, -EPERM,
				   "%s is not encrypted: use https://, or allow_http where the way "
				   "to it is safe",
				   service.endpoint);
	s3->virtual_host = wants_virtual_host(config, service.endpoint);
	r = set_identity(s3, service.endpoint);
	if (r == 0)
		r = s3c_http_engine_new(&engine, err, &s3->engine);
	if (r == 0)
		r = s3c_http_service_new(s3->engine, &service, err, &s3->service);
	if (r == 0)
		s3->base.tls = s3c_http_service_is_tls(s3->service);
	return r;
}

int s3c_store_s3_new(const struct s3c_store_s3_config *config, struct s3c_err *err,
		     struct s3c_store **ret_store)
{
	struct s3c_s3_store *s3;
	int r = check_bucket(config->bucket, err);

	if (r < 0)
		return r;
	s3 = calloc(1, sizeof(*s3));
	if (!s3)
		return -ENOMEM;
	s3->base.ops = &s3_ops;
	s3->base.sse = config->sse;
	s3->bucket = strdup(config->bucket);
	s3->checksum = config->checksum;
	s3->requester_pays = config->requester_pays;
	r = s3->bucket ? 0 : -ENOMEM;
	if (r == 0 && config->storage_class) {
		s3->storage_class = strdup(config->storage_class);
		r = s3->storage_class ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = s3c_s3_sse_init(&s3->sse, config);
	if (r == 0)
		r = connect_service(s3, config, err);
	if (r < 0) {
		s3_free(&s3->base);
		return r;
	}
	*ret_store = &s3->base;
	return 0;
}
