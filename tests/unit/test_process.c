/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/secret.h"

#define MS S3C_NSEC_PER_MSEC

static void test_split(void **state)
{
	static const struct {
		const char *command;
		int result;
		const char *words[5];
	} cases[] = {
		{ "a", 0, { "a" } },
		{ "  a\tb \n c ", 0, { "a", "b", "c" } },
		{ "a 'b  c' \"d  e\"", 0, { "a", "b  c", "d  e" } },
		{ "a'b'\"c\"d ''", 0, { "abcd", "" } },
		{ "a\\ b \\'c \\\\", 0, { "a b", "'c", "\\" } },
		{ "'a\\b' \"c\\d\\\"\\\\\"", 0, { "a\\b", "c\\d\"\\" } },
		{ "$HOME `x` ~ *", 0, { "$HOME", "`x`", "~", "*" } },
		{ "", -EINVAL, { NULL } },
		{ " \t", -EINVAL, { NULL } },
		{ "a 'b", -EINVAL, { NULL } },
		{ "a \"b", -EINVAL, { NULL } },
		{ "a \"b\\", -EINVAL, { NULL } },
		{ "a\\", -EINVAL, { NULL } },
	};
	char many[4096];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char **argv = NULL;
		unsigned n = 0;

		assert_int_equal(s3c_process_split(cases[i].command, &argv), cases[i].result);
		for (; argv != NULL && argv[n] != NULL; n++)
			assert_string_equal(argv[n], cases[i].words[n]);
		assert_null(cases[i].words[n]);
		s3c_process_free_argv(argv);
	}
	for (size_t i = 0; i < sizeof(many) - 1; i++)
		many[i] = i % 2 == 0 ? 'a' : ' ';
	many[2 * S3C_PROCESS_ARGS_MAX] = '\0';
	{
		char **argv = NULL;

		assert_int_equal(s3c_process_split(many, &argv), 0);
		s3c_process_free_argv(argv);
		many[2 * S3C_PROCESS_ARGS_MAX] = 'a';
		many[2 * S3C_PROCESS_ARGS_MAX + 1] = '\0';
		assert_int_equal(s3c_process_split(many, &argv), -E2BIG);
	}
}

static int run_script(const char *script, size_t max, struct s3c_op *op, struct s3c_err *err,
		      char **text)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
	size_t len;
	int r = s3c_process_run(argv, max, op, err, text, &len);

	if (r == 0)
		assert_int_equal(strlen(*text), len);
	return r;
}

static void test_run(void **state)
{
	static const struct {
		const char *script;
		int result;
		const char *text; /* of its output, or of the error */
	} cases[] = {
		{ "printf abc", 0, "abc" },
		{ "true", 0, "" },
		{ "cat; printf x", 0, "x" },
		/* Nothing but the three files is open, and the folder that is listed. */
		{ "ls /proc/self/fd | tr -d '\\n'", 0, "0123" },
		/* What it leaves behind is not waited for. */
		{ "sleep 30 & printf y", 0, "y" },
		{ "printf 12345678", 0, "12345678" },
		{ "printf 123456789", -EMSGSIZE, "more than 8 bytes" },
		{ "yes", -EMSGSIZE, "more than 8 bytes" },
		{ "yes >&2 & printf z; kill $!", 0, "z" },
		{ "printf '\\n  one\\007two\\nthree' >&2; exit 7", -EIO,
		  "sh failed with status 7: one two" },
		{ "exit 7", -EIO, "sh failed with status 7" },
		{ "kill -TERM $$", -EIO, "sh was ended by signal 15" },
	};

	int leak = dup(2);

	(void)state;
	assert_true(leak > 2);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_err err = { 0 };
		char *text = NULL;
		int r = run_script(cases[i].script, 8, NULL, &err, &text);

		if (r != cases[i].result)
			fail_msg("%s: %d %s", cases[i].script, r, err.text);
		if (r == 0)
			assert_string_equal(text, cases[i].text);
		else if (strstr(err.text, cases[i].text) == NULL)
			fail_msg("%s: %s", cases[i].script, err.text);
		s3c_secret_free(text);
	}
	close(leak);
}

/* Threads of ours block signals; a program expects to get them. Not by a shell: some mend it. */
static void test_signals(void **state)
{
	char *const argv[] = { (char *)"sed", (char *)"-n", (char *)"s/^Sig\\(Blk\\|Ign\\):.//p",
			       (char *)"/proc/self/status", NULL };
	sigset_t set, before;
	char *text = NULL;
	size_t len;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	signal(SIGUSR2, SIG_IGN);
	assert_int_equal(s3c_process_run(argv, 100, NULL, NULL, &text, &len), 0);
	signal(SIGUSR2, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* Blocked, ignored: two of the C library's own may stay ignored. */
	assert_int_equal(strtoull(text, NULL, 16), 0);
	assert_int_equal(strtoull(text + 17, NULL, 16) >> (SIGUSR2 - 1) & 1, 0);
	s3c_secret_free(text);
}

static void test_not_run(void **state)
{
	char *const argv[] = { (char *)"/none/such", NULL };
	struct s3c_err err = { 0 };
	char *text = NULL;
	size_t len;

	(void)state;
	assert_int_equal(s3c_process_run(argv, 8, NULL, &err, &text, &len), -ENOENT);
	assert_non_null(strstr(err.text, "/none/such cannot be run"));
}

static void *interrupt(void *arg)
{
	const struct timespec pause = { .tv_nsec = 50 * MS };

	nanosleep(&pause, NULL);
	s3c_op_interrupt(arg);
	return NULL;
}

/* A program that hangs is killed, with all that it has started. */
static void test_hanging(void **state)
{
	char script[128], path[] = "/tmp/s3c-process-XXXXXX";
	const struct timespec pause = { .tv_nsec = 700 * MS };
	struct s3c_err err = { 0 };
	char *text = NULL;
	struct s3c_op op;
	pthread_t thread;
	int64_t start = s3c_clock_monotonic_ns();

	(void)state;
	close(mkstemp(path));
	unlink(path);
	snprintf(script, sizeof(script), "(sleep 0.5; echo > %s; sleep 60) & wait; exit 1", path);
	s3c_op_init(&op, start + 100 * MS);
	assert_int_equal(run_script(script, 8, &op, &err, &text), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "did not end in time"));
	s3c_op_destroy(&op);
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(pthread_create(&thread, NULL, interrupt, &op), 0);
	assert_int_equal(run_script(script, 8, &op, &err, &text), -EINTR);
	pthread_join(thread, NULL);
	/* It stays interrupted. */
	assert_int_equal(run_script(script, 8, &op, &err, &text), -EINTR);
	s3c_op_destroy(&op);
	assert_true(s3c_clock_monotonic_ns() - start < 10000 * MS);
	assert_null(text);
	nanosleep(&pause, NULL);
	assert_int_equal(access(path, F_OK), -1);
}

static int set_up_group(void **state)
{
	(void)state;
	return s3c_secret_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),   cmocka_unit_test(test_run),
		cmocka_unit_test(test_signals), cmocka_unit_test(test_not_run),
		cmocka_unit_test(test_hanging),
	};

	return cmocka_run_group_tests(tests, set_up_group, NULL);
}
