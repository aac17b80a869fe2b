/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Files that hold keys: read when they are private, written whole or not at all. */
#include "key/keyring_private.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"

/* Refuses what others could read or could have written. */
static int check_private(int fd, const char *path, mode_t forbidden, struct s3c_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return s3c_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return s3c_err_set(err, -EINVAL, "%s is not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return s3c_err_set(err, -EPERM,
				   "%s holds keys but belongs to user %u, who could replace them; "
				   "run: chown %u '%s'",
				   path, (unsigned)st.st_uid, (unsigned)geteuid(), path);
	if (st.st_mode & forbidden)
		return s3c_err_set(err, -EPERM,
				   "%s holds keys but others may access it (mode %04o); run: chmod "
				   "600 %s",
				   path, (unsigned)st.st_mode & 07777, path);
	return 0;
}

static int read_file(const char *path, mode_t forbidden, struct s3c_err *err, struct s3c_buf *out)
{
	/* O_NONBLOCK: a FIFO must not hang the mount before it is refused. */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char piece[4096];
	int r;

	if (fd < 0)
		return -errno;
	r = check_private(fd, path, forbidden, err);
	if (r < 0)
		return r;
	for (;;) {
		ssize_t n = read(fd, piece, sizeof(piece));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = s3c_err_set(err, -errno, "%s: %s", path, strerror(errno));
		else if (n > 0)
			r = s3c_buf_append(out, piece, (size_t)n);
		if (r == -EMSGSIZE)
			s3c_err_set(err, r, "%s is too large (over %zu bytes)", path, out->max);
		if (n <= 0 || r < 0)
			break;
	}
	s3c_wipe(piece, sizeof(piece));
	return r;
}

int s3c_private_read(const char *path, struct s3c_err *err, struct s3c_buf *out)
{
	return read_file(path, 077, err, out);
}

int s3c_credential_read(const char *path, struct s3c_err *err, struct s3c_buf *out)
{
	return read_file(path, 037, err, out);
}

/* Missing folders above path, 0700. */
static int make_parents(const char *path)
{
	cleanup_free char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

static int write_all(int fd, const void *data, size_t len)
{
	const char *text = data;

	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int sync_dir_of(const char *path)
{
	cleanup_free char *copy = strdup(path);
	cleanup_close int fd = -1;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* A temporary name, fsync, and a rename that replaces nothing. */
int s3c_private_write_new(const char *path, const void *data, size_t len)
{
	cleanup_free char *tmp = s3c_asprintf("%s.new-XXXXXX", path);
	cleanup_close int fd = -1;
	int r;

	if (!tmp)
		return -ENOMEM;
	r = make_parents(path);
	if (r < 0)
		return r;
	fd = mkostemp(tmp, O_CLOEXEC); /* 0600 */
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	if (r == 0 && renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) < 0) {
		r = -errno;
		/* A filesystem without that flag; link replaces nothing either. */
		if (r == -EINVAL || r == -ENOSYS)
			r = link(tmp, path) < 0 ? -errno : unlink(tmp) < 0 ? -errno : 0;
	}
	if (r < 0)
		unlink(tmp);
	return r < 0 ? r : sync_dir_of(path);
}

int s3c_private_replace(const char *path, const struct stat *old, const void *data, size_t len)
{
	cleanup_free char *tmp = s3c_asprintf("%s.new-XXXXXX", path);
	cleanup_close int fd = -1;
	int r;

	if (!tmp)
		return -ENOMEM;
	fd = mkostemp(tmp, O_CLOEXEC); /* 0600 */
	if (fd < 0)
		return -errno;
	r = fchmod(fd, old->st_mode & 0700) < 0 ? -errno : 0;
	/* Root changes the keyring of a user: it stays the user's. */
	if (r == 0 && fchown(fd, old->st_uid, old->st_gid) < 0)
		r = -errno;
	if (r == 0)
		r = write_all(fd, data, len);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(tmp);
	return r < 0 ? r : sync_dir_of(path);
}
