/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A folder with the files of the AWS tools, an environment without their
 * variables, and a scripted endpoint on loopback. Included by one test program
 * each, therefore all here.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http/credentials_private.h"
#include "http_server.h"

#define LINES_MAX 64

struct fixture {
	struct test_server server;
	pthread_mutex_t lock;
	unsigned count; /* of requests, with those below guarded by lock */
	char heads[LINES_MAX][2048];
	char bodies[LINES_MAX][4096];
	unsigned step; /* for handlers */
};

static char dir[] = "/tmp/s3c-credentials-XXXXXX";
static char config_path[64], token_path[64];
static struct fixture fixture;

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static inline void __attribute__((format(printf, 1, 2))) write_config(const char *format, ...)
{
	char text[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	write_text(config_path, text);
}

static void __attribute__((format(printf, 2, 3)))
set_variable(const char *name, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	setenv(name, text, 1);
}

static int make_folder(void **state)
{
	(void)state;
	if (s3c_secret_init() < 0 || mkdtemp(dir) == NULL)
		return -1;
	snprintf(config_path, sizeof(config_path), "%s/config", dir);
	snprintf(token_path, sizeof(token_path), "%s/token", dir);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(config_path);
	unlink(token_path);
	return rmdir(dir);
}

/* Nothing of the machine's own counts, and nobody outside of it is asked. */
static int clear_environment(void **state)
{
	char path[80];

	(void)state;
	for (char **entry = environ; *entry != NULL;) {
		char *equals = strchr(*entry, '=');

		if (strncmp(*entry, "AWS_", 4) == 0 && equals != NULL) {
			char *name = strndup(*entry, (size_t)(equals - *entry));

			unsetenv(name);
			free(name);
			entry = environ;
		} else {
			entry++;
		}
	}
	unlink(config_path);
	unlink(token_path);
	snprintf(path, sizeof(path), "%s/none", dir);
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	setenv("AWS_CONFIG_FILE", config_path, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	return 0;
}

/* Keeps the request; its number, from 1. */
static inline unsigned note_request(struct test_request *request)
{
	unsigned n;

	pthread_mutex_lock(&fixture.lock);
	n = ++fixture.count;
	snprintf(fixture.heads[n % LINES_MAX], sizeof(fixture.heads[0]), "%s", request->head);
	snprintf(fixture.bodies[n % LINES_MAX], sizeof(fixture.bodies[0]), "%s", request->body);
	pthread_mutex_unlock(&fixture.lock);
	return n;
}

static inline unsigned requests_so_far(void)
{
	unsigned count;

	pthread_mutex_lock(&fixture.lock);
	count = fixture.count;
	pthread_mutex_unlock(&fixture.lock);
	return count;
}

static void start_server(test_handler handler, unsigned step)
{
	memset(&fixture, 0, sizeof(fixture));
	pthread_mutex_init(&fixture.lock, NULL);
	fixture.step = step;
	test_server_start(&fixture.server, handler, &fixture);
}

static void stop_server(void)
{
	test_server_stop(&fixture.server);
	pthread_mutex_destroy(&fixture.lock);
}

/* seconds from now, as the services write it; static storage of the thread. */
static inline const char *time_in(int64_t seconds)
{
	static _Thread_local char text[32];
	time_t t = time(NULL) + (time_t)seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return text;
}
