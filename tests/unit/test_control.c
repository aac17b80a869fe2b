/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Lines, paths and addresses of the control socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/control_wire.h"

#define SOON s3c_deadline_after(0.05)

static void test_paths(void **state)
{
	static const struct {
		const char *path, *member;
	} cases[] = {
		{ "a/b c", "path" },        { "", "path" },
		{ "\xc3\xa4\n\"", "path" }, { "\xff\xfe", "path_base64" },
		{ "\xc3", "path_base64" },  { "a/\xed\xa0\x80", "path_base64" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_free char *path = NULL;
		json_t *object = json_object();

		assert_int_equal(s3c_control_put_path(object, cases[i].path), 0);
		assert_non_null(json_object_get(object, cases[i].member));
		assert_int_equal(json_object_size(object), 1);
		assert_int_equal(s3c_control_get_path(object, &path), 0);
		assert_string_equal(path, cases[i].path);
		json_decref(object);
	}
}

static void test_bad_paths(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "{}", -ENOENT },
		{ "{\"path\":1}", -EINVAL },
		{ "{\"path\":null}", -EINVAL },
		{ "{\"path_base64\":[]}", -EINVAL },
		{ "{\"path_base64\":\"a\"}", -EINVAL },
		{ "{\"path_base64\":\"YQBi\"}", -EINVAL }, /* a NUL in it */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *object = json_loads(cases[i].text, 0, NULL);
		char *path = NULL;

		assert_int_equal(s3c_control_get_path(object, &path), cases[i].result);
		assert_null(path);
		json_decref(object);
	}
}

static int number_of(struct s3c_control_lines *lines)
{
	json_t *object = NULL;
	int r = s3c_control_receive(lines, SOON, &object);

	if (r == 0)
		r = (int)json_integer_value(json_object_get(object, "n"));
	json_decref(object);
	return r;
}

static void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void test_lines(void **state)
{
	struct s3c_control_lines lines = { .buf = { .max = 8192 } };
	char part[4097];
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	lines.fd = fds[0];
	put(fds[1], "{\"n\":1}\n{\"n\":2}\n{\"n\"");
	assert_int_equal(number_of(&lines), 1);
	assert_int_equal(number_of(&lines), 2);
	assert_int_equal(number_of(&lines), -ETIMEDOUT);
	put(fds[1], ":3}\n[4]\nnonsense\n\n{\"n\":5}\n");
	assert_int_equal(number_of(&lines), 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(number_of(&lines), -EBADMSG);
	assert_int_equal(number_of(&lines), 5);

	memset(part, ' ', sizeof(part) - 1);
	part[sizeof(part) - 1] = '\0';
	for (int i = 0; i < 3; i++)
		put(fds[1], part);
	assert_int_equal(number_of(&lines), -EMSGSIZE);
	close(fds[1]);
	s3c_buf_free(&lines.buf);
	assert_int_equal(number_of(&lines), -EPIPE);
	close(fds[0]);
	s3c_buf_free(&lines.buf);
}

/* A reader that reads nothing does not hold the writer for ever. */
static void test_full(void **state)
{
	json_t *object = json_object();
	cleanup_free char *text = malloc(1 << 20);
	int fds[2];

	(void)state;
	assert_non_null(text);
	memset(text, 'x', (1 << 20) - 1);
	text[(1 << 20) - 1] = '\0';
	json_object_set_new(object, "text", json_string(text));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(s3c_control_send(fds[0], object, SOON), -ETIMEDOUT);
	close(fds[1]);
	assert_int_equal(s3c_control_send(fds[0], object, SOON), -EPIPE);
	close(fds[0]);
	json_decref(object);
}

static void try_address(const char *dir)
{
	cleanup_free char *path = s3c_asprintf("%s/control", dir);
	int listener, one, two;
	struct stat st;

	for (int i = 0; i < 2; i++) { /* the second time over the one that was left */
		assert_int_equal(s3c_control_listen(path, &listener), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_true(S_ISSOCK(st.st_mode));
		assert_int_equal(st.st_mode & 0777, 0600);
		assert_int_equal(s3c_control_connect(path, &one), 0);
		two = accept(listener, NULL, NULL);
		assert_true(two >= 0);
		close(one);
		close(two);
		close(listener);
		assert_int_equal(s3c_control_connect(path, &one), -ECONNREFUSED);
	}
	unlink(path);
	assert_int_equal(s3c_control_connect(path, &one), -ENOENT);
}

static void test_address(void **state)
{
	char dir[] = "/tmp/s3cryptfs-control-XXXXXX", deep[256];

	(void)state;
	assert_non_null(mkdtemp(dir));
	try_address(dir);
	snprintf(deep, sizeof(deep), "%s/%0200d", dir, 0);
	assert_int_equal(mkdir(deep, 0700), 0);
	try_address(deep);
	rmdir(deep);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),   cmocka_unit_test(test_bad_paths),
		cmocka_unit_test(test_lines),   cmocka_unit_test(test_full),
		cmocka_unit_test(test_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
