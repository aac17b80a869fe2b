/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/control_ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

#define ANSWER_MAX (64u << 20) /* bytes; a daemon sends far less */

/* A call that waits for a daemon that hangs ends with its process only. */
static void find_and_tell(const char *mountpoint, int fd, char *path, size_t size)
{
	int r = s3c_control_find(mountpoint, path, size);

	if (write(fd, &r, sizeof(r)) != (ssize_t)sizeof(r) ||
	    (r == 0 && write(fd, path, strlen(path)) < 0))
		_exit(1);
	_exit(0);
}

int s3c_control_find_within(const char *mountpoint, unsigned seconds, char *ret_path, size_t size)
{
	struct pollfd pfd = { .events = POLLIN };
	int fds[2], found, r = -ETIMEDOUT;
	ssize_t n;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		find_and_tell(mountpoint, fds[1], ret_path, size);
	close(fds[1]);
	pfd.fd = fds[0];
	if (child < 0)
		r = -errno;
	else if (poll(&pfd, 1, (int)seconds * 1000) > 0)
		r = read(fds[0], &found, sizeof(found)) == (ssize_t)sizeof(found) ? found : -EIO;
	if (r == 0) {
		n = read(fds[0], ret_path, size - 1);
		if (n > 0)
			ret_path[n] = '\0';
		else
			r = -EIO;
	}
	close(fds[0]);
	if (child > 0) {
		kill(child, SIGKILL);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	return r;
}

int s3c_control_ask(int fd, const json_t *request, int64_t deadline_ns,
		    struct s3c_progress *progress, json_t **ret_answer)
{
	struct s3c_control_lines lines = { .fd = fd, .buf = { .max = ANSWER_MAX } };
	json_t *answer = NULL;
	int r = request ? s3c_control_send(fd, request, deadline_ns) : -ENOMEM;

	if (r == -EPIPE) /* who is refused is told so, and not listened to */
		r = 0;
	while (r == 0) {
		r = s3c_control_receive(&lines, deadline_ns, &answer);
		if (r < 0 || !json_is_true(json_object_get(answer, "progress")))
			break;
		if (progress)
			s3c_progress_left(
				progress,
				(uint64_t)json_integer_value(json_object_get(answer, "files")),
				(uint64_t)json_integer_value(json_object_get(answer, "names")),
				(uint64_t)json_integer_value(json_object_get(answer, "bytes")));
		json_decref(answer);
		answer = NULL;
	}
	s3c_buf_free(&lines.buf);
	if (r == 0)
		*ret_answer = answer;
	return r;
}
