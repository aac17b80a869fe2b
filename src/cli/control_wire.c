/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/control_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/encode.h"

#define BACKLOG 16
#define PART 4096

int s3c_control_find(const char *mountpoint, char *ret_path, size_t size)
{
	ssize_t n = getxattr(mountpoint, S3C_CONTROL_XATTR, ret_path, size - 1);

	if (n < 0)
		return errno == EOPNOTSUPP ? -ENODATA : -errno;
	ret_path[n] = '\0';
	return 0;
}

/*
 * The address of a path, however long that is: a longer one goes through a descriptor of its
 * folder, which has to stay open while the address is used.
 */
static int make_address(const char *path, struct sockaddr_un *ret_address, int *ret_dir_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *name = strrchr(path, '/');
	cleanup_free char *dir = NULL;
	int n, fd;

	if (!name || name == path)
		return -EINVAL;
	if (strlen(path) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, path);
		*ret_address = address;
		*ret_dir_fd = -1;
		return 0;
	}
	dir = strndup(path, (size_t)(name - path));
	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d%s", fd, name);
	if (n < 0 || (size_t)n >= sizeof(address.sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	*ret_address = address;
	*ret_dir_fd = fd;
	return 0;
}

static int new_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int s3c_control_listen(const char *path, int *ret_fd)
{
	cleanup_close int fd = new_socket(), dir_fd = -1;
	struct sockaddr_un address;
	int r = fd < 0 ? -errno : make_address(path, &address, &dir_fd);

	if (r < 0)
		return r;
	/* One that was left by a daemon that died: the folder is ours alone by its lock. */
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	/* Nobody can connect before it listens. */
	if (chmod(path, 0600) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int s3c_control_connect(const char *path, int *ret_fd)
{
	cleanup_close int fd = new_socket(), dir_fd = -1;
	struct sockaddr_un address;
	int r = fd < 0 ? -errno : make_address(path, &address, &dir_fd);

	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* Until fd is ready for events. */
static int wait_ready(int fd, short events, int64_t deadline_ns)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		int64_t left_ms = -1;
		int n;

		if (deadline_ns != INT64_MAX) {
			int64_t left = deadline_ns - s3c_clock_monotonic_ns();

			if (left <= 0)
				return -ETIMEDOUT;
			left_ms = S3C_MIN(left / S3C_NSEC_PER_MSEC + 1, (int64_t)INT_MAX);
		}
		n = poll(&pfd, 1, (int)left_ms);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int receive_more(struct s3c_control_lines *lines, int64_t deadline_ns)
{
	char part[PART];
	ssize_t n;
	int r;

	for (;;) {
		n = recv(lines->fd, part, sizeof(part), MSG_DONTWAIT);
		if (n > 0)
			return s3c_buf_append(&lines->buf, part, (size_t)n);
		if (n == 0)
			return -EPIPE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return errno == ECONNRESET ? -EPIPE : -errno;
		r = wait_ready(lines->fd, POLLIN, deadline_ns);
		if (r < 0)
			return r;
	}
}

int s3c_control_receive(struct s3c_control_lines *lines, int64_t deadline_ns, json_t **ret_object)
{
	struct s3c_buf *buf = &lines->buf;
	json_error_t error;
	json_t *object;
	size_t len;
	char *end;
	int r;

	if (lines->used) {
		buf->len -= lines->used;
		memmove(buf->data, buf->data + lines->used, buf->len);
		lines->used = 0;
	}
	while (!(end = buf->len ? memchr(buf->data, '\n', buf->len) : NULL)) {
		r = receive_more(lines, deadline_ns);
		if (r < 0)
			return r;
	}
	len = (size_t)(end - buf->data);
	lines->used = len + 1;
	object = json_loadb(buf->data, len, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(object)) {
		json_decref(object);
		return -EBADMSG;
	}
	*ret_object = object;
	return 0;
}

int s3c_control_send(int fd, const json_t *object, int64_t deadline_ns)
{
	cleanup_free char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t len, sent = 0;

	if (!text)
		return -ENOMEM;
	len = strlen(text);
	text[len++] = '\n'; /* takes the NUL's place: the length is known */
	while (sent < len) {
		ssize_t n = send(fd, text + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		int r;

		if (n >= 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return errno == ECONNRESET ? -EPIPE : -errno;
		r = wait_ready(fd, POLLOUT, deadline_ns);
		if (r < 0)
			return r;
	}
	return 0;
}

int s3c_control_put_bytes(json_t *object, const char *name, const char *text)
{
	cleanup_free char *base64 = NULL, *member = NULL;
	json_t *value = json_string(text);

	if (value)
		return json_object_set_new(object, name, value) < 0 ? -ENOMEM : 0;
	base64 = malloc(S3C_BASE64_LEN(strlen(text)) + 1);
	member = s3c_asprintf("%s_base64", name);
	if (!base64 || !member)
		return -ENOMEM;
	s3c_base64_encode(text, strlen(text), base64);
	return json_object_set_new(object, member, json_string(base64)) < 0 ? -ENOMEM : 0;
}

int s3c_control_put_path(json_t *object, const char *path)
{
	return s3c_control_put_bytes(object, "path", path);
}

int s3c_control_get_path(const json_t *object, char **ret_path)
{
	const char *text = json_string_value(json_object_get(object, "path"));
	cleanup_free char *path = NULL;
	size_t len = 0;
	int r;

	if (text) {
		path = strdup(text);
		if (!path)
			return -ENOMEM;
		*ret_path = steal_ptr(path);
		return 0;
	}
	if (json_object_get(object, "path"))
		return -EINVAL;
	text = json_string_value(json_object_get(object, "path_base64"));
	if (!text)
		return json_object_get(object, "path_base64") ? -EINVAL : -ENOENT;
	path = malloc(strlen(text) + 1);
	if (!path)
		return -ENOMEM;
	r = s3c_base64_decode(text, strlen(text), path, strlen(text), &len);
	if (r < 0)
		return -EINVAL;
	path[len] = '\0';
	if (strlen(path) != len)
		return -EINVAL;
	*ret_path = steal_ptr(path);
	return 0;
}
