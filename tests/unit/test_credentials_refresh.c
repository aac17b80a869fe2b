/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* How credentials stay fresh: ahead of their end, by one load at a time, under running requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>

#include "base/log.h"
#include "credentials_fixture.h"

#define MS S3C_NSEC_PER_MSEC
#define THREADS 16

/* What the endpoint for credentials does with request n; the store's requests are apart. */
enum mode {
	GOOD,
	REFUSE,
	HANG, /* until gate is opened */
	SAME, /* as the first time */
	PAST, /* a new one that has ended long ago */
	AWAY, /* ends the connection */
};

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static enum mode mode;            /* guarded by gate_lock, with all below */
static int64_t lifetime_s;        /* of what is given out */
static int64_t shift_s;           /* of the issuer's clock */
static unsigned fetches, waiting; /* for credentials; that hang */
static unsigned wanted;           /* the store takes TOKENn only; 0: any */
static char seen_token[64];       /* by the store, last */
static char first_end[32];

static void set_mode(enum mode next)
{
	pthread_mutex_lock(&gate_lock);
	mode = next;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&gate_lock);
}

static unsigned fetches_so_far(void)
{
	unsigned n;

	pthread_mutex_lock(&gate_lock);
	n = fetches;
	pthread_mutex_unlock(&gate_lock);
	return n;
}

static void wait_waiting(void)
{
	pthread_mutex_lock(&gate_lock);
	while (waiting == 0)
		pthread_cond_wait(&gate_changed, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
}

static void reply_set(struct test_request *request, unsigned n, const char *end, time_t server_now)
{
	char body[512], head[128], date[64];
	struct tm tm;

	gmtime_r(&server_now, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	snprintf(head, sizeof(head), "200 OK\r\nDate: %s", date);
	snprintf(body, sizeof(body),
		 "{\"AccessKeyId\": \"ID%u\", \"SecretAccessKey\": \"HUSH%u\", \"Token\": "
		 "\"TOKEN%u\", \"Expiration\": \"%s\"}",
		 n, n, n, end);
	test_reply(request, head, body);
}

static void answer_store(struct test_request *request)
{
	const char *token = test_header(request, "x-amz-security-token");
	unsigned want;

	pthread_mutex_lock(&gate_lock);
	snprintf(seen_token, sizeof(seen_token), "%.60s", token);
	want = wanted;
	pthread_mutex_unlock(&gate_lock);
	if (want == 0 || (unsigned)atoi(token + strcspn(token, "0123456789")) >= want)
		test_reply(request, "200 OK", "");
	else
		test_reply(request, "400 Bad", "<Error><Code>ExpiredToken</Code></Error>");
}

static bool answer(struct test_request *request, void *arg)
{
	char end[32];
	enum mode now;
	unsigned n;

	(void)arg;
	if (strncmp(request->head, "GET /creds ", 11) != 0) {
		answer_store(request);
		return true;
	}
	pthread_mutex_lock(&gate_lock);
	n = ++fetches;
	waiting++;
	pthread_cond_broadcast(&gate_changed);
	while (mode == HANG)
		pthread_cond_wait(&gate_changed, &gate_lock);
	waiting--;
	now = mode;
	snprintf(end, sizeof(end), "%s", time_in((now == PAST ? -3600 : lifetime_s) + shift_s));
	if (n == 1)
		snprintf(first_end, sizeof(first_end), "%s", end);
	pthread_mutex_unlock(&gate_lock);
	if (now == AWAY)
		return test_reset(request);
	if (now == REFUSE)
		test_reply(request, "403 Forbidden", "{\"message\": \"HUSH off\"}");
	else
		reply_set(request, now == SAME ? 1 : n, now == SAME ? first_end : end,
			  time(NULL) + (time_t)shift_s);
	return true;
}

static struct s3c_credentials *open_credentials(enum mode first, int64_t seconds, int64_t shift)
{
	struct s3c_credentials *credentials = NULL;
	struct s3c_err err = { 0 };
	int r;

	mode = first;
	lifetime_s = seconds;
	shift_s = shift;
	fetches = waiting = wanted = 0;
	seen_token[0] = '\0';
	assert_int_equal(s3c_log_open(token_path), 0);
	start_server(answer, 0);
	set_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:%u/creds",
		     fixture.server.port);
	r = s3c_credentials_new(NULL, &err, &credentials);
	if (r < 0)
		fail_msg("%s", s3c_err_text(&err, r));
	return credentials;
}

static void close_credentials(struct s3c_credentials *credentials)
{
	set_mode(GOOD);
	s3c_credentials_free(credentials);
	stop_server();
	s3c_log_close();
	unlink(token_path);
}

static void check_id(struct s3c_credentials *credentials, const char *id)
{
	struct s3c_credential *credential = s3c_credentials_get(credentials);

	assert_string_equal(credential->access_key_id, id);
	s3c_credential_put(credential);
}

/* Lines of the log with these words; no line shows a secret. */
static unsigned logged(const char *words)
{
	static char text[65536];
	unsigned count = 0;
	int fd = open(token_path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		count++;
	for (const char *at = text; (at = strstr(at, "HUSH")) != NULL; at++)
		assert_true(strncmp(at, "HUSH off", 8) == 0);
	return count;
}

static void rest_ms(int64_t ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * MS };

	nanosleep(&pause, NULL);
}

static void wait_fetches(unsigned n, int64_t ms)
{
	for (int64_t waited = 0; fetches_so_far() < n; waited += 20) {
		if (waited > ms)
			fail_msg("%u fetches, not %u", fetches_so_far(), n);
		rest_ms(20);
	}
}

static void test_schedule(void **state)
{
	static const struct {
		int64_t left_s;
		unsigned failures;
		int64_t wait_s;
	} cases[] = {
		{ 6 * 3600, 0, 6 * 3600 - 900 },
		{ 3600, 0, 2700 },
		{ 1800, 0, 900 },
		{ 900, 0, 450 }, /* the shortest that STS gives: not at once */
		{ 10, 0, 5 },
		{ 2, 0, 1 },
		{ 1, 0, 1 },
		{ 0, 0, 1 },
		{ -1000, 0, 1 },
		{ 900, 1, 1 },
		{ 900, 2, 2 },
		{ 900, 7, 64 },
		{ 900, 1000, 64 },
		{ 60, 7, 30 },
		{ 2, 7, 1 },
		{ 1, 7, 64 },
		{ 0, 1, 1 },
		{ -5, 7, 64 },
		{ -5, 4000000000u, 64 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(s3c_credentials_wait_s(cases[i].left_s, cases[i].failures),
				 cases[i].wait_s);
}

/* Nobody asks: the thread does, halfway, and again. */
static void test_ahead(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 4, 0);
	struct s3c_credential *first = s3c_credentials_get(credentials);

	(void)state;
	assert_int_equal(fetches_so_far(), 1);
	wait_fetches(3, 8000);
	assert_false(s3c_credentials_ended(credentials));
	/* Who still holds it has it. */
	assert_string_equal(first->session_token, "TOKEN1");
	s3c_credential_put(first);
	assert_true(logged("are renewed and serve until 20") >= 1);
	close_credentials(credentials);
}

/* While it fails the old ones serve; told once; told again when they have ended; then mended. */
static void test_failing(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 5, 0);

	(void)state;
	set_mode(REFUSE);
	wait_fetches(3, 5000);
	check_id(credentials, "ID1");
	assert_int_equal(logged("cannot be renewed, those that are there serve until"), 1);
	assert_int_equal(logged("status 403: HUSH off"), 1);
	for (unsigned i = 0; !s3c_credentials_ended(credentials); i++) {
		assert_true(i < 300);
		rest_ms(20);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(s3c_credentials_reload(credentials, NULL), -EACCES);
	check_id(credentials, "ID1");
	assert_int_equal(logged("have ended and cannot be renewed"), 1);
	assert_int_equal(logged("those that are there serve until"), 1);
	set_mode(GOOD);
	for (unsigned i = 0; s3c_credentials_ended(credentials); i++) {
		assert_true(i < 1000);
		rest_ms(20);
	}
	assert_int_equal(logged("are renewed"), 1);
	close_credentials(credentials);
}

struct asker {
	pthread_t thread;
	struct s3c_credentials *credentials;
	const struct s3c_credential *old;
	int result;
};

static void *ask(void *arg)
{
	struct asker *asker = arg;

	asker->result = s3c_credentials_replace(asker->credentials, asker->old, NULL);
	return NULL;
}

static void start_asking(struct asker askers[static THREADS], struct s3c_credentials *credentials,
			 const struct s3c_credential *old)
{
	for (unsigned i = 0; i < THREADS; i++) {
		askers[i] = (struct asker){ .credentials = credentials, .old = old };
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
	}
}

static void check_askers(struct asker askers[static THREADS], int result)
{
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(askers[i].thread, NULL);
		assert_int_equal(askers[i].result, result);
	}
}

static void test_single_flight(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 3600, 0);
	struct s3c_credential *old = s3c_credentials_get(credentials);
	struct asker askers[THREADS];
	int64_t start;

	(void)state;
	set_mode(HANG);
	start_asking(askers, credentials, old);
	wait_waiting();
	rest_ms(100);
	/* Nobody who uses what is there waits. */
	start = s3c_clock_monotonic_ns();
	check_id(credentials, "ID1");
	assert_false(s3c_credentials_ended(credentials));
	assert_true(s3c_clock_monotonic_ns() - start < 50 * MS);
	set_mode(GOOD);
	check_askers(askers, 0);
	check_id(credentials, "ID2");
	assert_int_equal(fetches_so_far(), 2);
	/* Who comes late with the old ones gets those that are there. */
	assert_int_equal(s3c_credentials_replace(credentials, old, NULL), 0);
	assert_int_equal(fetches_so_far(), 2);
	s3c_credential_put(old);
	/* One failure for all, and no other attempt right after it. */
	old = s3c_credentials_get(credentials);
	set_mode(REFUSE);
	start_asking(askers, credentials, old);
	check_askers(askers, -EACCES);
	assert_int_equal(s3c_credentials_replace(credentials, old, NULL), -EACCES);
	assert_int_equal(fetches_so_far(), 3);
	s3c_credential_put(old);
	close_credentials(credentials);
}

/* A source that gives the same again is not asked by everyone who is refused. */
static void test_same_again(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 3600, 0);
	struct s3c_credential *old = s3c_credentials_get(credentials);

	(void)state;
	set_mode(SAME);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(s3c_credentials_replace(credentials, old, NULL), 0);
	assert_int_equal(fetches_so_far(), 2);
	set_mode(GOOD);
	/* A reload is a reload. */
	assert_int_equal(s3c_credentials_reload(credentials, NULL), 0);
	check_id(credentials, "ID3");
	s3c_credential_put(old);
	close_credentials(credentials);
}

static void test_stop(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 3600, 0);
	struct s3c_credential *old = s3c_credentials_get(credentials);
	struct asker askers[THREADS];
	int64_t start;

	(void)state;
	set_mode(HANG);
	start_asking(askers, credentials, old);
	wait_waiting();
	start = s3c_clock_monotonic_ns();
	s3c_credentials_stop(credentials);
	check_askers(askers, -ECANCELED);
	assert_true(s3c_clock_monotonic_ns() - start < 1500 * MS);
	assert_int_equal(s3c_credentials_reload(credentials, NULL), -ECANCELED);
	check_id(credentials, "ID1");
	s3c_credential_put(old);
	assert_int_equal(logged("cannot be"), 0);
	close_credentials(credentials);
}

/* Clocks: the issuer's counts; a set that comes ended is tried all the same. */
static void test_clocks(void **state)
{
	static const struct {
		enum mode first;
		int64_t lifetime_s, shift_s;
		unsigned warnings;
	} cases[] = {
		{ GOOD, 3600, 7200, 0 },
		{ GOOD, 3600, -7200, 0 },
		{ PAST, 3600, 0, 1 },
		{ PAST, 3600, 7200, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_credentials *credentials =
			open_credentials(cases[i].first, cases[i].lifetime_s, cases[i].shift_s);

		assert_false(s3c_credentials_ended(credentials));
		rest_ms(300);
		/* Neither of them makes it ask on and on. */
		assert_int_equal(fetches_so_far(), 1);
		assert_int_equal(logged("ended at 20"), cases[i].warnings);
		close_credentials(credentials);
	}
}

struct client {
	struct s3c_http_engine *engine;
	struct s3c_http_service *service;
};

static void open_client(struct client *client, struct s3c_credentials *credentials)
{
	const struct s3c_http_engine_config config = { .meta_slots = 8, .retries = 8 };
	struct s3c_http_service_config service = { .name = "s3", .credentials = credentials };
	char endpoint[64];

	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", fixture.server.port);
	service.endpoint = endpoint;
	assert_int_equal(s3c_http_engine_new(&config, NULL, &client->engine), 0);
	assert_int_equal(s3c_http_service_new(client->engine, &service, NULL, &client->service), 0);
}

static void close_client(struct client *client, struct s3c_credentials *credentials)
{
	s3c_credentials_stop(credentials);
	s3c_http_engine_free(client->engine);
	s3c_http_service_free(client->service);
}

/* Status of a GET, and how often it was sent. */
static int get(struct client *client, unsigned *ret_attempts)
{
	const struct s3c_http_request request = {
		.method = "GET",
		.bucket = "bucket",
		.path = "/key",
		.deadline_ns = s3c_clock_monotonic_ns() + 20000 * MS,
	};
	struct s3c_http_reply reply;
	int status;

	(void)s3c_http_perform(client->service, &request, NULL, &reply);
	status = reply.status;
	*ret_attempts = reply.attempts;
	s3c_http_reply_free(&reply);
	return status;
}

static void *get_in_thread(void *arg)
{
	unsigned attempts;

	return (void *)(intptr_t)get(arg, &attempts);
}

/* Refused with ExpiredToken: one fetch for all requests, each signed anew. */
static void test_refused_requests(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 3600, 0);
	pthread_t threads[THREADS];
	struct client client;
	unsigned attempts;

	(void)state;
	open_client(&client, credentials);
	assert_int_equal(get(&client, &attempts), 200);
	pthread_mutex_lock(&gate_lock);
	wanted = 2;
	pthread_mutex_unlock(&gate_lock);
	set_mode(HANG);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, get_in_thread, &client), 0);
	wait_waiting();
	rest_ms(200);
	/* Others pass meanwhile: the engine's thread does not wait. */
	pthread_mutex_lock(&gate_lock);
	wanted = 0;
	pthread_mutex_unlock(&gate_lock);
	assert_int_equal(get(&client, &attempts), 200);
	assert_int_equal(attempts, 1);
	pthread_mutex_lock(&gate_lock);
	assert_string_equal(seen_token, "TOKEN1");
	wanted = 2;
	pthread_mutex_unlock(&gate_lock);
	set_mode(GOOD);
	for (unsigned i = 0; i < THREADS; i++) {
		void *status;

		pthread_join(threads[i], &status);
		assert_int_equal((int)(intptr_t)status, 200);
	}
	assert_int_equal(fetches_so_far(), 2);
	assert_int_equal(get(&client, &attempts), 200);
	assert_int_equal(attempts, 1);
	close_client(&client, credentials);
	close_credentials(credentials);
}

/* Known to have ended: renewed before it is sent at all; if that is in vain the store decides. */
static void test_ended_requests(void **state)
{
	struct s3c_credentials *credentials;
	struct client client;
	unsigned attempts;

	(void)state;
	setenv("AWS_ACCESS_KEY_ID", "ID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "HUSH", 1);
	setenv("AWS_SESSION_TOKEN", "T1", 1);
	setenv("AWS_CREDENTIAL_EXPIRATION", "today", 1);
	assert_int_equal(s3c_credentials_new(NULL, NULL, &credentials), -EINVAL);
	setenv("AWS_CREDENTIAL_EXPIRATION", time_in(-60), 1);
	credentials = open_credentials(GOOD, 3600, 0);
	assert_true(s3c_credentials_ended(credentials));
	open_client(&client, credentials);
	assert_int_equal(get(&client, &attempts), 200);
	assert_int_equal(attempts, 1);
	setenv("AWS_CREDENTIAL_EXPIRATION", time_in(60), 1);
	setenv("AWS_SESSION_TOKEN", "T2", 1);
	wanted = 2;
	assert_int_equal(get(&client, &attempts), 200);
	assert_int_equal(attempts, 1);
	assert_false(s3c_credentials_ended(credentials));
	close_client(&client, credentials);
	close_credentials(credentials);
}

/* A source that is away for a moment does not fail the request. */
static void test_source_away(void **state)
{
	struct s3c_credentials *credentials = open_credentials(GOOD, 3600, 0);
	struct client client;
	pthread_t thread;
	void *status;

	(void)state;
	open_client(&client, credentials);
	wanted = 2;
	set_mode(AWAY);
	assert_int_equal(pthread_create(&thread, NULL, get_in_thread, &client), 0);
	/* All attempts of one load. */
	wait_fetches(4, 8000);
	set_mode(GOOD);
	pthread_join(thread, &status);
	assert_int_equal((int)(intptr_t)status, 200);
	assert_int_equal(logged("cannot be renewed, those that are there serve until"), 1);
	/* Told after those who wait have been woken. */
	for (unsigned i = 0; !logged("are renewed") && i < 250; i++)
		rest_ms(20);
	assert_int_equal(logged("are renewed"), 1);
	close_client(&client, credentials);
	close_credentials(credentials);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_schedule),
		cmocka_unit_test_setup(test_ahead, clear_environment),
		cmocka_unit_test_setup(test_failing, clear_environment),
		cmocka_unit_test_setup(test_single_flight, clear_environment),
		cmocka_unit_test_setup(test_same_again, clear_environment),
		cmocka_unit_test_setup(test_stop, clear_environment),
		cmocka_unit_test_setup(test_clocks, clear_environment),
		cmocka_unit_test_setup(test_refused_requests, clear_environment),
		cmocka_unit_test_setup(test_ended_requests, clear_environment),
		cmocka_unit_test_setup(test_source_away, clear_environment),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
