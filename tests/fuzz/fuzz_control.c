/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Lines of the control socket, from a client or from a daemon: the input, until its end. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/control_wire.h"

#define LINE_MAX_BYTES 4096u
#define INPUT_MAX 65536u /* what a socket takes at once */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_object(const json_t *object)
{
	char *path = NULL;
	enum s3c_log_level level;
	json_t *again;
	int r;

	assert(json_is_object(object));
	r = s3c_log_level_parse(json_string_value(json_object_get(object, "level")), &level);
	assert(r == -EINVAL || (r == 0 && level <= S3C_LOG_DEBUG));
	r = s3c_control_get_path(object, &path);
	assert(r == 0 || r == -ENOENT || r == -EINVAL || r == -ENOMEM);
	if (r < 0)
		return;
	again = json_object();
	if (s3c_control_put_path(again, path) == 0) {
		char *same;

		assert(s3c_control_get_path(again, &same) == 0);
		assert(strcmp(path, same) == 0);
		free(same);
	}
	json_decref(again);
	free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3c_control_lines lines = { .buf = { .max = LINE_MAX_BYTES } };
	int fds[2], bytes = 4 * (int)INPUT_MAX, r = 0;
	ssize_t sent;

	if (size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return 0;
	(void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	sent = size ? send(fds[0], data, size, MSG_DONTWAIT) : 0;
	close(fds[0]);
	lines.fd = fds[1];
	while (sent >= 0 && r == 0) {
		json_t *object = NULL;

		r = s3c_control_receive(&lines, s3c_clock_monotonic_ns() + S3C_NSEC_PER_SEC,
					&object);
		assert(r == 0 || r == -EPIPE || r == -EMSGSIZE || r == -EBADMSG || r == -ENOMEM);
		if (r == 0)
			check_object(object);
		json_decref(object);
	}
	s3c_buf_free(&lines.buf);
	close(fds[1]);
	return 0;
}
