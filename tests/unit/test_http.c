/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netdb.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"
#include "http/http.h"
#include "http/sigv4.h"
#include "http_server.h"

#define MS S3C_NSEC_PER_MSEC

/*
 * Stands in for the C library's resolver: "dead.test" is never answered while dns_dead is set,
 * "nowhere.test" does not exist, every other name is this machine.
 */
static pthread_mutex_t dns_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t dns_changed = PTHREAD_COND_INITIALIZER;
static bool dns_dead;
static unsigned dns_lookups, dns_waiting;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **ret_list)
{
	struct addrinfo *info;
	struct sockaddr_in *address;

	(void)service;
	(void)hints;
	pthread_mutex_lock(&dns_lock);
	dns_lookups++;
	dns_waiting++;
	while (dns_dead && strcmp(node, "dead.test") == 0)
		pthread_cond_wait(&dns_changed, &dns_lock);
	dns_waiting--;
	pthread_cond_broadcast(&dns_changed);
	pthread_mutex_unlock(&dns_lock);
	if (strcmp(node, "nowhere.test") == 0)
		return EAI_NONAME;
	info = calloc(1, sizeof(*info));
	address = calloc(1, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	info->ai_family = AF_INET;
	info->ai_addr = (struct sockaddr *)address;
	info->ai_addrlen = sizeof(*address);
	*ret_list = info;
	return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
	free(list->ai_addr);
	free(list);
}

static void set_dns_dead(bool dead)
{
	pthread_mutex_lock(&dns_lock);
	dns_dead = dead;
	pthread_cond_broadcast(&dns_changed);
	while (!dead && dns_waiting > 0)
		pthread_cond_wait(&dns_changed, &dns_lock);
	pthread_mutex_unlock(&dns_lock);
}

struct fixture {
	struct test_server server;
	struct s3c_credentials *credentials;
	struct s3c_http_engine *engine;
	struct s3c_http_service *service;
	unsigned step; /* for handlers: how far the script is */
	pthread_mutex_t lock;
	char seen[16][4096]; /* what handlers noted */
};

static void open_engine(struct fixture *f, unsigned retries, const char *ca_file)
{
	const struct s3c_http_engine_config config = {
		.ca_file = ca_file,
		.content_slots = 32,
		.meta_slots = 4,
		.retries = retries,
		.user_agent = "s3cryptfs-test",
	};

	assert_int_equal(s3c_http_engine_new(&config, NULL, &f->engine), 0);
}

static void open_service(struct fixture *f, const char *scheme, const char *host)
{
	struct s3c_http_service_config config = { .name = "s3", .credentials = f->credentials };
	struct s3c_err err = { 0 };
	char endpoint[256];
	int r;

	snprintf(endpoint, sizeof(endpoint), "%s://%s:%u", scheme, host, f->server.port);
	config.endpoint = endpoint;
	r = s3c_http_service_new(f->engine, &config, &err, &f->service);
	if (r < 0)
		fail_msg("%s", s3c_err_text(&err, r));
}

static void open_credentials(struct fixture *f)
{
	pthread_mutex_init(&f->lock, NULL);
	setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "HUSH", 1);
	setenv("AWS_SESSION_TOKEN", "TOKEN1", 1);
	assert_int_equal(s3c_credentials_new(NULL, NULL, &f->credentials), 0);
}

static void set_up(struct fixture *f, test_handler handler, unsigned retries)
{
	memset(f, 0, sizeof(*f));
	open_credentials(f);
	test_server_start(&f->server, handler, f);
	open_engine(f, retries, NULL);
	open_service(f, "http", "127.0.0.1");
}

static void tear_down(struct fixture *f)
{
	s3c_http_engine_free(f->engine);
	s3c_http_service_free(f->service);
	s3c_credentials_free(f->credentials);
	test_server_stop(&f->server);
	pthread_mutex_destroy(&f->lock);
}

static struct s3c_http_request get_request(const char *path, int64_t timeout_ns)
{
	return (struct s3c_http_request){
		.method = "GET",
		.bucket = "bucket",
		.path = path,
		.class = S3C_HTTP_META,
		.deadline_ns = s3c_clock_monotonic_ns() + timeout_ns,
	};
}

static void check_get(struct fixture *f, const char *path, int status, unsigned attempts)
{
	struct s3c_http_request request = get_request(path, 20000 * MS);
	struct s3c_http_reply reply;

	assert_int_equal(s3c_http_perform(f->service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, status);
	assert_int_equal(reply.attempts, attempts);
	s3c_http_reply_free(&reply);
}

static void note(struct fixture *f, unsigned slot, const char *text)
{
	pthread_mutex_lock(&f->lock);
	snprintf(f->seen[slot % 16], sizeof(f->seen[0]), "%s", text);
	pthread_mutex_unlock(&f->lock);
}

/* Computes the signature again from what has arrived. */
static bool signature_is_right(const struct test_request *request, const char *path,
			       const struct s3c_http_headers *query, const char *region)
{
	const struct s3c_credential credential = { .access_key_id = "AKID",
						   .secret_access_key = "HUSH" };
	struct s3c_http_headers headers = { 0 };
	struct s3c_buf out = { 0 };
	char authorization[2048], names[1024], date[64], hash[128], method[16];
	const char *start;
	struct s3c_sigv4_input in = {
		.method = method,
		.path = path,
		.query = query,
		.headers = &headers,
		.payload_hash = hash,
		.date = date,
		.region = region,
		.service = "s3",
		.credential = &credential,
	};
	char *save, *name;
	bool right;

	snprintf(authorization, sizeof(authorization), "%s", test_header(request, "authorization"));
	snprintf(date, sizeof(date), "%s", test_header(request, "x-amz-date"));
	snprintf(hash, sizeof(hash), "%s", test_header(request, "x-amz-content-sha256"));
	snprintf(method, sizeof(method), "%.*s", (int)strcspn(request->head, " "), request->head);
	start = strstr(authorization, "SignedHeaders=");
	if (start == NULL)
		return false;
	start += strlen("SignedHeaders=");
	snprintf(names, sizeof(names), "%.*s", (int)strcspn(start, ","), start);
	for (name = strtok_r(names, ";", &save); name != NULL; name = strtok_r(NULL, ";", &save))
		s3c_http_headers_add(&headers, name, test_header(request, name));
	right = s3c_sigv4_authorization(&in, &out) == 0 && strcmp(out.data, authorization) == 0;
	s3c_http_headers_free(&headers);
	s3c_buf_free(&out);
	return right;
}

static bool answer_echo(struct test_request *request, void *arg)
{
	struct s3c_http_headers query = { 0 };
	struct fixture *f = arg;
	char body[64];

	note(f, request->number, request->head);
	s3c_http_headers_add(&query, "list-type", "2");
	s3c_http_headers_add(&query, "prefix", "a b/\n");
	snprintf(body, sizeof(body), "connection %u signature %s", request->connection,
		 signature_is_right(request, "/bucket/k+ y/../\xc3\xa4", &query, "us-east-1")
			 ? "right"
			 : "wrong");
	test_reply(request, "200 OK\r\nETag:  \"x\"  \r\nx-amz-request-id: R1\r\nEmpty:", body);
	s3c_http_headers_free(&query);
	return true;
}

static void test_get(void **state)
{
	static struct fixture f;
	struct s3c_http_request request;
	struct s3c_http_reply reply;
	char host[64];

	(void)state;
	set_up(&f, answer_echo, 0);
	for (unsigned i = 1; i <= 2; i++) {
		request = get_request("/k+ y/../\xc3\xa4", 10000 * MS);
		s3c_http_headers_add(&request.query, "prefix", "a b/\n");
		s3c_http_headers_add(&request.query, "list-type", "2");
		s3c_http_headers_add(&request.headers, "x-amz-meta-two", " a   b ");
		s3c_http_headers_add(&request.headers, "x-amz-meta-none", "");
		assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
		assert_int_equal(reply.status, 200);
		/* Both requests go over one connection. */
		assert_string_equal(reply.body.data, "connection 1 signature right");
		assert_string_equal(s3c_http_headers_get(&reply.headers, "etag"), "\"x\"");
		assert_string_equal(s3c_http_headers_get(&reply.headers, "empty"), "");
		assert_null(s3c_http_headers_get(&reply.headers, "absent"));
		assert_string_equal(reply.request_id, "R1");
		assert_string_equal(reply.error_code, "");
		assert_int_equal(reply.attempts, 1);
		s3c_http_reply_free(&reply);
		s3c_http_headers_free(&request.query);
		s3c_http_headers_free(&request.headers);
	}
	assert_non_null(strstr(f.seen[1], "GET /bucket/k%2B%20y/../%C3%A4?list-type=2&prefix=a%20b"
					  "%2F%0A HTTP/1.1\r\n"));
	snprintf(host, sizeof(host), "ost: 127.0.0.1:%u\r\n", f.server.port);
	assert_non_null(strstr(f.seen[1], host));
	assert_non_null(strstr(f.seen[1], "x-amz-security-token: TOKEN1\r\n"));
	assert_non_null(strstr(f.seen[1], "x-amz-meta-none:\r\n"));
	assert_non_null(strstr(f.seen[1], "User-Agent: s3cryptfs-test\r\n"));
	assert_null(strstr(f.seen[1], "Accept"));
	tear_down(&f);
}

static bool answer_hash(struct test_request *request, void *arg)
{
	uint8_t digest[S3C_SHA256_LEN];
	char hex[65];

	note(arg, request->number, request->head);
	s3c_sha256(request->body, request->body_len, digest);
	s3c_hex_encode(digest, sizeof(digest), hex);
	if (strcmp(hex, test_header(request, "x-amz-content-sha256")) != 0)
		hex[0] = '\0';
	test_reply(request, "200 OK", hex);
	return true;
}

static void test_put(void **state)
{
	static struct fixture f;
	static char big[3000000];
	const struct iovec body[] = { { big, 1000000 }, { NULL, 0 }, { big + 1000000, 2000000 } };
	struct s3c_http_request request;
	struct s3c_http_reply reply;

	(void)state;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 251);
	set_up(&f, answer_hash, 0);
	request = get_request("/key", 10000 * MS);
	request.method = "PUT";
	request.class = S3C_HTTP_CONTENT;
	request.body = body;
	request.body_count = 3;
	request.unsigned_payload = true; /* without TLS the hash is sent all the same */
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.body.len, 64);
	s3c_http_reply_free(&reply);
	assert_non_null(strstr(f.seen[1], "PUT /bucket/key HTTP/1.1\r\n"));
	assert_non_null(strstr(f.seen[1], "Content-Length: 3000000\r\n"));
	assert_null(strstr(f.seen[1], "Expect"));
	assert_null(strstr(f.seen[1], "Transfer-Encoding"));
	/* No body: a length of 0 is told. */
	request.body = NULL;
	request.body_count = 0;
	request.method = "POST";
	request.path = "/";
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.body.len, 64);
	s3c_http_reply_free(&reply);
	assert_non_null(strstr(f.seen[2], "POST /bucket HTTP/1.1\r\n"));
	assert_non_null(strstr(f.seen[2], "Content-Length: 0\r\n"));
	tear_down(&f);
}

static void test_unsendable(void **state)
{
	static struct fixture f;
	struct s3c_http_request request;
	struct s3c_http_reply reply;

	(void)state;
	set_up(&f, answer_hash, 0);
	request = get_request("/key", 1000 * MS);
	s3c_http_headers_add(&request.headers, "x-amz-meta-a", "b\r\nx-amz-acl: public-read");
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EINVAL);
	s3c_http_headers_free(&request.headers);
	s3c_http_headers_add(&request.headers, "a b", "c");
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EINVAL);
	s3c_http_headers_free(&request.headers);
	request.virtual_host = true;
	request.bucket = "evil.test/";
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EINVAL);
	assert_int_equal(test_server_requests(&f.server), 0);
	tear_down(&f);
}

/* Faults that pass: the first request(s) fail in one way each, the next succeeds. */
enum fault {
	FAULT_503,
	FAULT_500_CODE,
	FAULT_RESET,
	FAULT_CLOSE,
	FAULT_SHORT,
	FAULT_CHUNK_SHORT,
	FAULT_TIMEOUT_CODE,
	FAULT_NO_HTTP,
	FAULT_200_ERROR,
	FAULT_200_ERROR_LATE,
	FAULT_COUNT,
};

static const char *const fault_replies[FAULT_COUNT] = {
	[FAULT_503] = "HTTP/1.1 503 Slow\r\nContent-Length: 0\r\n\r\n",
	[FAULT_500_CODE] = "HTTP/1.1 500 Oops\r\nContent-Length: 47\r\n\r\n"
			   "<Error><Code>InternalError</Code></Error>      ",
	[FAULT_RESET] = "",
	[FAULT_CLOSE] = "",
	[FAULT_SHORT] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
	[FAULT_CHUNK_SHORT] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	[FAULT_TIMEOUT_CODE] = "HTTP/1.1 400 Bad\r\nContent-Length: 42\r\n\r\n"
			       "<Error><Code>RequestTimeout</Code></Error>",
	[FAULT_NO_HTTP] = "HTTP/1.1 what\r\n",
	[FAULT_200_ERROR] = "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n"
			    "<Error><Code>InternalError</Code></Error>",
	[FAULT_200_ERROR_LATE] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				 "18\r\n<?xml version=\"1.0\"?>\n  \r\n2a\r\n"
				 "  <Error><Code>InternalErro</Code></Error>\r\n0\r\n\r\n",
};

static bool answer_fault(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;

	if (request->number > 1) {
		test_reply(request, "200 OK", "fine");
		return true;
	}
	if (f->step == FAULT_RESET)
		return test_reset(request);
	test_send(request, fault_replies[f->step], strlen(fault_replies[f->step]));
	return false;
}

static void test_faults(void **state)
{
	static struct fixture f;

	(void)state;
	for (unsigned fault = 0; fault < FAULT_COUNT; fault++) {
		struct s3c_http_request request;
		struct s3c_http_reply reply;
		int r;

		set_up(&f, answer_fault, 3);
		f.step = fault;
		request = get_request("/key", 20000 * MS);
		request.xml_200_error = true;
		r = s3c_http_perform(f.service, &request, NULL, &reply);
		if (r != 0 || reply.status != 200 || reply.attempts != 2)
			fail_msg("fault %u: %d, status %d, %u attempts, %s", fault, r, reply.status,
				 reply.attempts, reply.detail);
		assert_string_equal(reply.body.data, "fine");
		assert_string_equal(reply.error_code, "");
		s3c_http_reply_free(&reply);
		tear_down(&f);
	}
}

static bool answer_500(struct test_request *request, void *arg)
{
	(void)arg;
	test_reply(request, "500 Oops\r\nx-amz-request-id: R7",
		   "<Error><Code>InternalError</Code><Message>We</Message></Error>");
	return true;
}

static bool answer_reset(struct test_request *request, void *arg)
{
	(void)arg;
	return test_reset(request);
}

static void test_exhausted(void **state)
{
	static struct fixture f;
	struct s3c_http_request request;
	struct s3c_http_reply reply;

	(void)state;
	set_up(&f, answer_500, 2);
	request = get_request("/key", 20000 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 500);
	assert_int_equal(reply.attempts, 3);
	assert_string_equal(reply.error_code, "InternalError");
	assert_string_equal(reply.error_message, "We");
	assert_string_equal(reply.request_id, "R7");
	s3c_http_reply_free(&reply);
	tear_down(&f);

	set_up(&f, answer_reset, 1);
	request = get_request("/key", 20000 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -ECONNRESET);
	assert_int_equal(reply.status, 0);
	assert_int_equal(reply.attempts, 2);
	assert_string_not_equal(reply.detail, "");
	s3c_http_reply_free(&reply);
	/* Nobody listens there. */
	test_server_stop(&f.server);
	request = get_request("/key", 20000 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -ECONNREFUSED);
	assert_int_equal(reply.attempts, 2);
	s3c_http_reply_free(&reply);
	test_server_start(&f.server, answer_500, &f);
	tear_down(&f);
}

/* Permanent answers are not repeated; a hidden one becomes the status that it stands for. */
static bool answer_permanent(struct test_request *request, void *arg)
{
	(void)arg;
	if (strstr(request->head, "/hidden") != NULL)
		test_reply(request, "200 OK",
			   "\n\n<?xml "
			   "version=\"1.0\"?><Error><Code>PreconditionFailed</Code></Error>");
	else if (strstr(request->head, "/missing") != NULL)
		test_reply(request, "404 No", "<Error><Code>NoSuchKey</Code></Error>");
	else if (strstr(request->head, "/unable") != NULL)
		test_reply(request, "501 No", "");
	else
		test_reply(request, "204 Gone", "");
	return true;
}

static void test_permanent(void **state)
{
	static struct fixture f;
	struct s3c_http_request request;
	struct s3c_http_reply reply;

	(void)state;
	set_up(&f, answer_permanent, 3);
	check_get(&f, "/missing", 404, 1);
	check_get(&f, "/unable", 501, 1);
	check_get(&f, "/hidden", 200, 1);
	request = get_request("/hidden", 10000 * MS);
	request.xml_200_error = true;
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 412);
	assert_int_equal(reply.attempts, 1);
	assert_string_equal(reply.error_code, "PreconditionFailed");
	s3c_http_reply_free(&reply);
	request.xml_200_error = false;
	request.method = "HEAD";
	request.path = "/missing";
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 404);
	s3c_http_reply_free(&reply);
	request.method = "DELETE";
	request.path = "/key";
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 204);
	assert_int_equal(test_server_requests(&f.server), 6);
	s3c_http_reply_free(&reply);
	tear_down(&f);
}

struct sink_state {
	unsigned begins;
	int begin_result, data_result;
	int status;
	char length[32];
	struct s3c_buf data;
};

static int sink_begin(void *arg, int status, const struct s3c_http_headers *headers)
{
	struct sink_state *sink = arg;
	const char *length = s3c_http_headers_get(headers, "content-length");

	sink->begins++;
	sink->status = status;
	snprintf(sink->length, sizeof(sink->length), "%s", length != NULL ? length : "");
	s3c_buf_reset(&sink->data);
	return sink->begin_result;
}

static int sink_data(void *arg, const void *data, size_t len)
{
	struct sink_state *sink = arg;

	return sink->data_result < 0 ? sink->data_result : s3c_buf_append(&sink->data, data, len);
}

static bool answer_sink(struct test_request *request, void *arg)
{
	static char body[200001];

	(void)arg;
	if (request->number == 1) {
		test_send(request, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nwrong", 46);
		usleep(50000);
		return test_reset(request);
	}
	if (request->number == 2) {
		test_reply(request, "503 Slow", "<Error><Code>SlowDown</Code></Error>");
		return true;
	}
	memset(body, 'd', 200000);
	test_reply(request, "200 OK", body);
	return true;
}

static void test_sink(void **state)
{
	static struct fixture f;
	struct sink_state sink = { 0 };
	const struct s3c_http_sink into = { sink_begin, sink_data, &sink };
	struct s3c_http_request request;
	struct s3c_http_reply reply;

	(void)state;
	set_up(&f, answer_sink, 3);
	request = get_request("/key", 20000 * MS);
	request.class = S3C_HTTP_CONTENT;
	request.sink = &into;
	request.max_reply = 10; /* is about what goes to the reply alone */
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 200);
	assert_int_equal(reply.attempts, 3);
	assert_int_equal(reply.body.len, 0);
	assert_int_equal(sink.begins, 2);
	assert_int_equal(sink.status, 200);
	assert_string_equal(sink.length, "200000");
	assert_int_equal(sink.data.len, 200000);
	assert_int_equal(sink.data.data[0], 'd');
	s3c_http_reply_free(&reply);
	/* What the sink says is final. */
	sink.begin_result = -ERANGE;
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -ERANGE);
	assert_int_equal(reply.attempts, 1);
	s3c_http_reply_free(&reply);
	sink.begin_result = 0;
	sink.data_result = -ECONNRESET;
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -ECONNRESET);
	assert_int_equal(reply.attempts, 1);
	s3c_http_reply_free(&reply);
	/* A body that is larger than was said. */
	request.sink = NULL;
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EMSGSIZE);
	assert_int_equal(reply.attempts, 1);
	s3c_http_reply_free(&reply);
	s3c_buf_free(&sink.data);
	tear_down(&f);
}

static bool answer_never(struct test_request *request, void *arg)
{
	(void)arg;
	if (strstr(request->head, "/quick") != NULL) {
		test_reply(request, "200 OK", "quick");
		return true;
	}
	return test_hang(request);
}

static void check_elapsed(int64_t start_ns, int64_t at_least, int64_t at_most)
{
	int64_t elapsed = s3c_clock_monotonic_ns() - start_ns;

	if (elapsed < at_least || elapsed > at_most)
		fail_msg("took %lld ms, not %lld to %lld", (long long)(elapsed / MS),
			 (long long)(at_least / MS), (long long)(at_most / MS));
}

static void test_deadline(void **state)
{
	static struct fixture f;
	struct s3c_http_request request;
	struct s3c_http_reply reply;
	int64_t start = s3c_clock_monotonic_ns();

	(void)state;
	set_up(&f, answer_never, 8);
	request = get_request("/key", 300 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -ETIMEDOUT);
	check_elapsed(start, 290 * MS, 1500 * MS);
	assert_int_equal(reply.attempts, 1);
	s3c_http_reply_free(&reply);
	/* Past already. */
	request = get_request("/key", -MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -ETIMEDOUT);
	s3c_http_reply_free(&reply);
	tear_down(&f);
	/* Many repeats: the deadline bounds them, and the last answer is what is told. */
	set_up(&f, answer_500, 1000);
	start = s3c_clock_monotonic_ns();
	request = get_request("/key", 800 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 500);
	assert_true(reply.attempts > 1);
	check_elapsed(start, 0, 2000 * MS);
	s3c_http_reply_free(&reply);
	tear_down(&f);
}

struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned done;
	int results[64];
};

static void count_done(void *arg, struct s3c_http_reply *reply)
{
	struct waiting *waiting = arg;

	pthread_mutex_lock(&waiting->lock);
	waiting->results[waiting->done++ % 64] = reply->result;
	pthread_cond_broadcast(&waiting->cond);
	pthread_mutex_unlock(&waiting->lock);
}

static void wait_done(struct waiting *waiting, unsigned count)
{
	pthread_mutex_lock(&waiting->lock);
	while (waiting->done < count)
		pthread_cond_wait(&waiting->cond, &waiting->lock);
	pthread_mutex_unlock(&waiting->lock);
}

static void submit_stalled(struct fixture *f, struct waiting *waiting, unsigned count,
			   struct s3c_http_call **calls)
{
	for (unsigned i = 0; i < count; i++) {
		struct s3c_http_request request = get_request("/stalled", 60000 * MS);

		request.class = S3C_HTTP_CONTENT;
		assert_int_equal(s3c_http_submit(f->service, &request, count_done, waiting,
						 calls != NULL ? &calls[i] : NULL),
				 0);
	}
}

static void test_classes(void **state)
{
	static struct fixture f;
	struct waiting waiting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, { 0 } };
	int64_t start;

	(void)state;
	set_up(&f, answer_never, 8);
	/* All 32 slots stand still, and some more wait for one. */
	submit_stalled(&f, &waiting, 40, NULL);
	test_server_wait_hanging(&f.server, 32);
	start = s3c_clock_monotonic_ns();
	check_get(&f, "/quick", 200, 1);
	check_elapsed(start, 0, 500 * MS);
	assert_int_equal(waiting.done, 0);
	/* Ending the engine ends them all. */
	start = s3c_clock_monotonic_ns();
	s3c_http_engine_free(f.engine);
	f.engine = NULL;
	check_elapsed(start, 0, 1000 * MS);
	assert_int_equal(waiting.done, 40);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(waiting.results[i], -ECANCELED);
	tear_down(&f);
}

static void test_cancel(void **state)
{
	static struct fixture f;
	struct waiting waiting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, { 0 } };
	struct s3c_http_call *calls[33];
	int64_t start;

	(void)state;
	set_up(&f, answer_never, 8);
	submit_stalled(&f, &waiting, 33, calls);
	test_server_wait_hanging(&f.server, 32);
	start = s3c_clock_monotonic_ns();
	s3c_http_cancel(calls[32]); /* queued */
	wait_done(&waiting, 1);
	s3c_http_cancel(calls[0]); /* running */
	s3c_http_cancel(calls[0]);
	wait_done(&waiting, 2);
	check_elapsed(start, 0, 500 * MS);
	assert_int_equal(waiting.results[0], -ECANCELED);
	assert_int_equal(waiting.results[1], -ECANCELED);
	s3c_http_cancel(calls[0]); /* done */
	for (unsigned i = 0; i < 33; i++) {
		s3c_http_cancel(calls[i]);
		s3c_http_call_put(calls[i]);
	}
	wait_done(&waiting, 33);
	tear_down(&f);
	assert_int_equal(waiting.done, 33);
}

static void *interrupt_soon(void *arg)
{
	usleep(100000);
	s3c_op_interrupt(arg);
	return NULL;
}

static void test_interrupt(void **state)
{
	static struct fixture f;
	struct s3c_http_request request;
	struct s3c_http_reply reply;
	struct s3c_op op;
	pthread_t thread;
	int64_t start = s3c_clock_monotonic_ns();

	(void)state;
	set_up(&f, answer_never, 8);
	s3c_op_init(&op, INT64_MAX);
	request = get_request("/key", 60000 * MS);
	pthread_create(&thread, NULL, interrupt_soon, &op);
	assert_int_equal(s3c_http_perform(f.service, &request, &op, &reply), -EINTR);
	s3c_http_reply_free(&reply);
	pthread_join(thread, NULL);
	/* Interrupted before it began. */
	assert_int_equal(s3c_http_perform(f.service, &request, &op, &reply), -EINTR);
	s3c_http_reply_free(&reply);
	s3c_op_destroy(&op);
	/* The operation's deadline counts too. */
	s3c_op_init(&op, s3c_clock_monotonic_ns() + 100 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, &op, &reply), -ETIMEDOUT);
	s3c_http_reply_free(&reply);
	s3c_op_destroy(&op);
	check_elapsed(start, 0, 3000 * MS);
	tear_down(&f);
}

static bool answer_expired(struct test_request *request, void *arg)
{
	(void)arg;
	if (strcmp(test_header(request, "x-amz-security-token"), "TOKEN2") == 0)
		test_reply(request, "200 OK", "");
	else
		test_reply(request, "400 Bad", "<Error><Code>ExpiredToken</Code></Error>");
	return true;
}

static void test_expired(void **state)
{
	static struct fixture f;

	(void)state;
	set_up(&f, answer_expired, 0);
	/* Loading again brings the same: told after one more try. */
	check_get(&f, "/key", 400, 2);
	setenv("AWS_SESSION_TOKEN", "TOKEN2", 1);
	check_get(&f, "/key", 200, 2);
	check_get(&f, "/key", 200, 1);
	tear_down(&f);
	/* Nothing can be loaded: the answer that there was. */
	set_up(&f, answer_expired, 0);
	unsetenv("AWS_SECRET_ACCESS_KEY");
	check_get(&f, "/key", 400, 1);
	tear_down(&f);
}

static bool answer_skewed(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;
	time_t server_now = time(NULL) - 7200, signed_at;
	struct tm tm = { 0 };
	char head[256], body[256], text[64];

	strptime(test_header(request, "x-amz-date"), "%Y%m%dT%H%M%SZ", &tm);
	signed_at = timegm(&tm);
	gmtime_r(&server_now, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	if (labs(signed_at - server_now) < 60) {
		snprintf(head, sizeof(head), "200 OK\r\nDate: %s", text);
		test_reply(request, head, "");
		return true;
	}
	if (f->step == 1) {
		/* A HEAD's reply has no body; the Date header tells. */
		snprintf(head, sizeof(head), "403 Forbidden\r\nDate: %s", text);
		test_reply(request, head, "");
		return true;
	}
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(body, sizeof(body),
		 "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>%s</ServerTime></Error>",
		 text);
	test_reply(request, "403 Forbidden", body);
	return true;
}

static void test_skew(void **state)
{
	static struct fixture f;

	(void)state;
	for (unsigned step = 0; step < 2; step++) {
		set_up(&f, answer_skewed, 0);
		f.step = step;
		check_get(&f, "/key", 200, 2);
		assert_true(llabs(s3c_http_service_clock_offset(f.service) + 7200) < 60);
		check_get(&f, "/key", 200, 1);
		tear_down(&f);
	}
}

/* The first requests are refused, whatever they were signed with. */
static bool answer_refused_often(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;

	if (request->number > 4)
		test_reply(request, "200 OK", "");
	else if (f->step == 0)
		test_reply(request, "400 Bad", "<Error><Code>ExpiredToken</Code></Error>");
	else
		test_reply(request, "403 Forbidden",
			   "<Error><Code>RequestTimeTooSkewed</Code></Error>");
	return true;
}

/* Several in a row are repeats like after any fault, as many as there may be. */
static void test_refused_often(void **state)
{
	static struct fixture f;

	(void)state;
	for (unsigned step = 0; step < 2; step++) {
		set_up(&f, answer_refused_often, 4);
		f.step = step;
		check_get(&f, "/key", 200, 5);
		tear_down(&f);
		/* The first time that credentials are loaded again is not counted. */
		set_up(&f, answer_refused_often, 1);
		f.step = step;
		check_get(&f, "/key", step == 0 ? 400 : 403, step == 0 ? 3 : 2);
		tear_down(&f);
	}
}

static bool answer_two_clocks(struct test_request *request, void *arg)
{
	time_t server_now = time(NULL) + (request->number == 1 ? 7200 : 14400);
	struct tm tm;
	char text[64], body[256];

	(void)arg;
	gmtime_r(&server_now, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(body, sizeof(body),
		 "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>%s</ServerTime></Error>",
		 text);
	if (request->number > 2)
		test_reply(request, "200 OK", "");
	else
		test_reply(request, "403 Forbidden", body);
	return true;
}

/* The clock is corrected each time, also the second. */
static void test_two_clocks(void **state)
{
	static struct fixture f;

	(void)state;
	set_up(&f, answer_two_clocks, 1);
	check_get(&f, "/key", 200, 3);
	assert_true(llabs(s3c_http_service_clock_offset(f.service) - 14400) < 60);
	tear_down(&f);
}

static bool answer_region(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;

	if (strstr(test_header(request, "authorization"), "/eu-west-9/s3/") != NULL)
		test_reply(request, "200 OK", "");
	else if (f->step == 0)
		test_reply(request, "301 Moved\r\nx-amz-bucket-region: eu-west-9", "");
	else if (f->step == 1)
		test_reply(request, "400 Bad",
			   "<Error><Code>AuthorizationHeaderMalformed</Code>"
			   "<Region>eu-west-9</Region></Error>");
	else if (f->step == 2)
		test_reply(request, "301 Moved\r\nx-amz-bucket-region: evil.example/", "");
	else
		test_reply(request, "301 Moved", "<Error><Code>PermanentRedirect</Code></Error>");
	return true;
}

static void test_region(void **state)
{
	static struct fixture f;
	char region[64];

	(void)state;
	for (unsigned step = 0; step < 4; step++) {
		set_up(&f, answer_region, 0);
		f.step = step;
		if (step < 2) {
			check_get(&f, "/key", 200, 2);
			check_get(&f, "/key", 200, 1);
		} else {
			check_get(&f, "/key", 301, 1);
		}
		s3c_http_service_region(f.service, region, sizeof(region));
		assert_string_equal(region, step < 2 ? "eu-west-9" : "us-east-1");
		tear_down(&f);
	}
}

static bool answer_target(struct test_request *request, void *arg)
{
	struct fixture *f = arg;
	const char *path =
		strncmp(test_header(request, "host"), "bucket.", 7) == 0 ? "/key" : "/bucket/key";

	note(f, 0, signature_is_right(request, path, NULL, "us-east-1") ? "right" : "wrong");
	note(f, 1, request->head);
	test_reply(request, "200 OK", "there");
	return true;
}

static bool answer_redirect(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;
	char head[256];

	snprintf(head, sizeof(head), "307 Temporary\r\nLocation: http://%s:%u/key",
		 f->step == 0 ? "bucket.other.test" : "127.0.0.1",
		 ((const struct test_server *)(const void *)f->seen[2])->port);
	test_reply(request, head, "<Error><Code>TemporaryRedirect</Code></Error>");
	return true;
}

static void test_redirect(void **state)
{
	static struct fixture f;
	static struct test_server other;
	struct s3c_http_request request;
	struct s3c_http_reply reply;
	char line[128];

	(void)state;
	for (unsigned step = 0; step < 2; step++) {
		set_up(&f, answer_redirect, 0);
		test_server_start(&other, answer_target, &f);
		memcpy(f.seen[2], &other, sizeof(other));
		f.step = step;
		check_get(&f, "/key", 200, 2);
		assert_string_equal(f.seen[0], "right");
		snprintf(line, sizeof(line), "GET %s HTTP/1.1\r\nHost: %s:%u\r\n",
			 step == 0 ? "/key" : "/bucket/key",
			 step == 0 ? "bucket.other.test" : "127.0.0.1", other.port);
		assert_true(strncasecmp(f.seen[1], line, strlen(line)) == 0);
		/* Never with keys. */
		request = get_request("/key", 10000 * MS);
		request.no_redirect = true;
		assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
		assert_int_equal(reply.status, 307);
		assert_int_equal(reply.attempts, 1);
		s3c_http_reply_free(&reply);
		assert_int_equal(test_server_requests(&other), 1);
		test_server_stop(&other);
		tear_down(&f);
	}
}

static void test_resolver(void **state)
{
	static struct fixture f;
	struct s3c_http_service *plain;
	struct waiting waiting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, { 0 } };
	struct s3c_http_request request;
	struct s3c_http_reply reply;
	struct s3c_http_call *call;
	int64_t start;

	(void)state;
	set_up(&f, answer_never, 2);
	plain = f.service;
	/* Virtual host: bucket.some.test is looked up, once. */
	open_service(&f, "http", "some.test");
	dns_lookups = 0;
	request = get_request("/quick", 10000 * MS);
	request.virtual_host = true;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
		assert_int_equal(reply.status, 200);
		s3c_http_reply_free(&reply);
	}
	assert_int_equal(dns_lookups, 1);
	s3c_http_service_free(f.service);
	/* No such name. */
	open_service(&f, "http", "nowhere.test");
	request = get_request("/quick", 10000 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EHOSTUNREACH);
	assert_non_null(strstr(reply.detail, "nowhere.test"));
	s3c_http_reply_free(&reply);
	s3c_http_service_free(f.service);
	/* A silent resolver: neither other requests nor a cancellation wait for it. */
	set_dns_dead(true);
	open_service(&f, "http", "dead.test");
	start = s3c_clock_monotonic_ns();
	request = get_request("/quick", 60000 * MS);
	assert_int_equal(s3c_http_submit(f.service, &request, count_done, &waiting, &call), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(s3c_http_perform(plain, &request, NULL, &reply), 0);
		s3c_http_reply_free(&reply);
	}
	s3c_http_cancel(call);
	s3c_http_call_put(call);
	wait_done(&waiting, 1);
	assert_int_equal(waiting.results[0], -ECANCELED);
	check_elapsed(start, 0, 1000 * MS);
	start = s3c_clock_monotonic_ns();
	request = get_request("/quick", 200 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EHOSTUNREACH);
	assert_non_null(strstr(reply.detail, "dead.test"));
	check_elapsed(start, 190 * MS, 1000 * MS);
	s3c_http_reply_free(&reply);
	/* Once it answers, all goes on. */
	request = get_request("/quick", 10000 * MS);
	assert_int_equal(s3c_http_submit(f.service, &request, count_done, &waiting, NULL), 0);
	set_dns_dead(false);
	wait_done(&waiting, 2);
	assert_int_equal(waiting.results[1], 0);
	s3c_http_service_free(plain);
	tear_down(&f);
}

/* The engine ends although a lookup does not. */
static void test_resolver_end(void **state)
{
	static struct fixture f;
	struct waiting waiting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, { 0 } };
	struct s3c_http_request request = get_request("/quick", 60000 * MS);
	int64_t start = s3c_clock_monotonic_ns();

	(void)state;
	set_up(&f, answer_never, 2);
	s3c_http_service_free(f.service);
	set_dns_dead(true);
	open_service(&f, "http", "dead.test");
	assert_int_equal(s3c_http_submit(f.service, &request, count_done, &waiting, NULL), 0);
	usleep(50000);
	tear_down(&f);
	assert_int_equal(waiting.done, 1);
	assert_int_equal(waiting.results[0], -ECANCELED);
	check_elapsed(start, 0, 1500 * MS);
	set_dns_dead(false);
}

/* A kept connection that ends when it is used again: the body is sent once more from its start. */
static bool answer_once(struct test_request *request, void *arg)
{
	return request->nth == 1 && answer_hash(request, arg);
}

static void test_stale_connection(void **state)
{
	static struct fixture f;
	static char data[300000];
	const struct iovec body[] = { { data, 1 }, { data + 1, sizeof(data) - 1 } };
	struct s3c_http_request request;
	struct s3c_http_reply reply;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i % 253);
	set_up(&f, answer_once, 0);
	for (unsigned i = 0; i < 3; i++) {
		request = get_request("/key", 10000 * MS);
		request.method = "PUT";
		request.body = body;
		request.body_count = 2;
		assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
		assert_int_equal(reply.attempts, 1);
		assert_int_equal(reply.body.len, 64);
		s3c_http_reply_free(&reply);
	}
	assert_int_equal(test_server_requests(&f.server), 5);
	tear_down(&f);
}

static SSL_CTX *make_tls(const char *cert_path)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
	X509_EXTENSION *names;
	FILE *out;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
				   0);
	X509_set_issuer_name(cert, name);
	names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:tls.test");
	X509_add_ext(cert, names, -1);
	X509_EXTENSION_free(names);
	X509_sign(cert, key, EVP_sha256());
	SSL_CTX_use_certificate(tls, cert);
	SSL_CTX_use_PrivateKey(tls, key);
	out = fopen(cert_path, "w");
	assert_non_null(out);
	PEM_write_X509(out, cert);
	fclose(out);
	X509_free(cert);
	EVP_PKEY_free(key);
	return tls;
}

static void test_tls(void **state)
{
	static struct fixture f;
	char path[] = "/tmp/s3c-http-cert-XXXXXX";
	const struct s3c_http_engine_config missing = { .ca_file = "/nonexistent/ca.pem" };
	const struct iovec body = { path, sizeof(path) };
	struct s3c_err err = { 0 };
	struct s3c_http_engine *none = NULL;
	struct s3c_http_request request;
	struct s3c_http_reply reply;
	SSL_CTX *tls;

	(void)state;
	close(mkstemp(path));
	tls = make_tls(path);
	memset(&f, 0, sizeof(f));
	open_credentials(&f);
	test_server_start_tls(&f.server, answer_echo, &f, tls);
	/* Nobody vouches for the certificate. */
	open_engine(&f, 3, NULL);
	open_service(&f, "https", "tls.test");
	assert_true(s3c_http_service_is_tls(f.service));
	request = get_request("/key", 10000 * MS);
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EKEYREJECTED);
	assert_int_equal(reply.attempts, 1);
	assert_string_not_equal(reply.detail, "");
	s3c_http_reply_free(&reply);
	s3c_http_engine_free(f.engine);
	s3c_http_service_free(f.service);
	/* With it as ca_file all is well, for the name that it has. */
	open_engine(&f, 3, path);
	open_service(&f, "https", "tls.test");
	request = get_request("/key", 10000 * MS);
	request.method = "PUT";
	request.body = &body;
	request.body_count = 1;
	request.unsigned_payload = true;
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), 0);
	assert_int_equal(reply.status, 200);
	s3c_http_reply_free(&reply);
	assert_non_null(strstr(f.seen[1], "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"));
	s3c_http_service_free(f.service);
	open_service(&f, "https", "other.test");
	assert_int_equal(s3c_http_perform(f.service, &request, NULL, &reply), -EKEYREJECTED);
	s3c_http_reply_free(&reply);
	tear_down(&f);
	unlink(path);
	SSL_CTX_free(tls);
	assert_int_equal(s3c_http_engine_new(&missing, &err, &none), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/ca.pem"));
}

static void test_endpoints(void **state)
{
	static const struct {
		const char *endpoint, *region;
		int result;
		const char *words;
	} cases[] = {
		{ "https://host", NULL, 0, "" },
		{ "HTTP://Host:80/base/", "eu-west-1", 0, "" },
		{ "http://[::1]:9000", NULL, 0, "" },
		{ NULL, NULL, 0, "" },
		{ NULL, "cn-north-1", 0, "" },
		{ "localhost:9000", NULL, -EINVAL, "https://HOST" },
		{ "ftp://host", NULL, -EINVAL, "only https and http" },
		{ "https://me:pw@host", NULL, -EINVAL, "neither a user name" },
		{ "https://host/?a=b", NULL, -EINVAL, "nor a query" },
		{ "", NULL, -EINVAL, "not a URL" },
		{ "https://host", "Evil.example/", -EINVAL, "cannot be one" },
	};
	static struct fixture f;

	(void)state;
	set_up(&f, answer_hash, 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct s3c_http_service_config config = { .name = "s3",
								.endpoint = cases[i].endpoint,
								.region = cases[i].region };
		struct s3c_http_service *service = NULL;
		struct s3c_err err = { 0 };

		assert_int_equal(s3c_http_service_new(f.engine, &config, &err, &service),
				 cases[i].result);
		if (strstr(err.text, cases[i].words) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].words);
		assert_null(strstr(err.text, "pw"));
		s3c_http_service_free(service);
	}
	tear_down(&f);
}

static int set_up_group(void **state)
{
	(void)state;
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
	setenv("AWS_CONFIG_FILE", "/nonexistent/config", 1);
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_DEFAULT_PROFILE");
	signal(SIGPIPE, SIG_IGN); /* the TLS server writes to clients that went away */
	/* Errors that are provoked here would only confuse. */
	s3c_log_open("/dev/null");
	return s3c_secret_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get),          cmocka_unit_test(test_put),
		cmocka_unit_test(test_unsendable),   cmocka_unit_test(test_faults),
		cmocka_unit_test(test_exhausted),    cmocka_unit_test(test_permanent),
		cmocka_unit_test(test_sink),         cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_classes),      cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_interrupt),    cmocka_unit_test(test_expired),
		cmocka_unit_test(test_skew),         cmocka_unit_test(test_refused_often),
		cmocka_unit_test(test_two_clocks),   cmocka_unit_test(test_region),
		cmocka_unit_test(test_redirect),     cmocka_unit_test(test_resolver),
		cmocka_unit_test(test_resolver_end), cmocka_unit_test(test_stale_connection),
		cmocka_unit_test(test_tls),          cmocka_unit_test(test_endpoints),
	};

	return cmocka_run_group_tests(tests, set_up_group, NULL);
}
