/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "store/file_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>

#include "base/crypto.h"
#include "base/encode.h"

#define IO_STEP (1u << 20)
#define LOCK_RETRY_NS (2 * S3C_NSEC_PER_MSEC)

int s3c_file_errno(int error)
{
	switch (error) {
	case ENOMEM:
	case ENOSPC:
	case ENAMETOOLONG:
		return -error;
	case EDQUOT:
		return -ENOSPC;
	case EACCES:
	case EPERM:
	case EROFS:
		return -EACCES;
	case EMFILE:
	case ENFILE:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

int s3c_file_call_check(struct s3c_file_call *call)
{
	if (atomic_load(&call->cancelled) || atomic_load(&call->fs->cancel_all))
		return -ECANCELED;
	if (call->rq.deadline_ns && s3c_clock_monotonic_ns() >= call->rq.deadline_ns)
		return -ETIMEDOUT;
	return 0;
}

int s3c_file_lock(struct s3c_file_store *fs, struct s3c_file_call *call)
{
	struct timespec pause = { .tv_nsec = LOCK_RETRY_NS };
	int r;

	s3c_mutex_lock(&fs->names_lock);
	/* Polled, since a process that was stopped while it holds the lock must not take us along
	 * past our deadline. */
	while (fs->lock_fd >= 0 && flock(fs->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK || errno == EINTR ? 0 : -EIO;
		if (r == 0)
			r = s3c_file_call_check(call);
		if (r < 0) {
			s3c_mutex_unlock(&fs->names_lock);
			return r;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

void s3c_file_unlock(struct s3c_file_store *fs)
{
	if (fs->lock_fd >= 0)
		flock(fs->lock_fd, LOCK_UN);
	s3c_mutex_unlock(&fs->names_lock);
}

void s3c_file_random_name(char ret_name[static S3C_FILE_TOKEN_LEN + 1])
{
	uint8_t bytes[S3C_FILE_TOKEN_LEN / 2];

	s3c_random(bytes, sizeof(bytes));
	s3c_hex_encode(bytes, sizeof(bytes), ret_name);
}

int s3c_file_sync_dir(int dir_fd, const char *path)
{
	cleanup_close int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* Removed meanwhile: then the folder above is what counts, and whoever removed it syncs. */
	if (fd < 0)
		return errno == ENOENT ? 0 : s3c_file_errno(errno);
	return fsync(fd) < 0 ? -EIO : 0;
}

/* -ENOENT also for a folder of that name. */
static int open_regular(struct s3c_file_store *fs, const char *path, int *ret_fd,
			struct stat *ret_st)
{
	cleanup_close int fd = -1;

	fd = openat(fs->dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ENOENT : s3c_file_errno(errno);
	if (fstat(fd, ret_st) < 0)
		return -EIO;
	if (!S_ISREG(ret_st->st_mode))
		return S_ISDIR(ret_st->st_mode) ? -ENOENT : -EIO;
	*ret_fd = steal_fd(&fd);
	return 0;
}

int s3c_file_object_open(struct s3c_file_store *fs, const char *key,
			 struct s3c_file_object *ret_object)
{
	struct s3c_file_object object = S3C_FILE_OBJECT_NONE;
	char path[S3C_FILE_PATH_MAX];
	struct stat st;
	int r;

	do {
		s3c_file_object_close(&object);
		r = s3c_file_path(key, path);
		if (r < 0)
			return r;
		memcpy(object.path, path, sizeof(path));
		r = open_regular(fs, object.path, &object.fd, &object.st);
		if (r == -ENOENT && s3c_file_path_clash(path, object.path) == 0)
			r = open_regular(fs, object.path, &object.fd, &object.st);
		if (r == 0)
			r = s3c_file_record_read(fs, key, &object);
	} while (r == -EAGAIN && object.fd >= 0);
	if (r < 0) {
		s3c_file_object_close(&object);
		/* A folder that was removed under us has no objects, but that is no answer. */
		if (r == -ENOENT && (fstat(fs->dir_fd, &st) < 0 || st.st_nlink == 0))
			return -ENODEV;
		return r;
	}
	*ret_object = object;
	return 0;
}

void s3c_file_object_close(struct s3c_file_object *object)
{
	s3c_cleanup_close(&object->fd);
	object->fd = -1;
	s3c_stat_free(&object->info);
}

int s3c_file_temp_new(struct s3c_file_store *fs, struct s3c_file_temp *ret_temp)
{
	struct s3c_file_temp temp = { .fs = fs };

	if (fs->session_fd < 0)
		return -EACCES;
	snprintf(temp.name, sizeof(temp.name), "t%llu", atomic_fetch_add(&fs->temp_serial, 1));
	temp.fd = openat(fs->session_fd, temp.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (temp.fd < 0)
		return s3c_file_errno(errno);
	*ret_temp = temp;
	return 0;
}

void s3c_file_temp_free(struct s3c_file_temp *temp)
{
	if (temp->fd < 0)
		return;
	close(temp->fd);
	temp->fd = -1;
	if (temp->name[0])
		unlinkat(temp->fs->session_fd, temp->name, 0);
}

int s3c_file_write(struct s3c_file_call *call, int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n;
		int r = s3c_file_call_check(call);

		if (r < 0)
			return r;
		n = write(fd, p, S3C_MIN(len, (size_t)IO_STEP));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return s3c_file_errno(errno);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_by_hand(struct s3c_file_call *call, int from, uint64_t offset, uint64_t length,
			int to)
{
	cleanup_free char *buf = malloc(IO_STEP);

	if (!buf)
		return -ENOMEM;
	while (length) {
		ssize_t n = pread(from, buf, S3C_MIN(length, (uint64_t)IO_STEP), (off_t)offset);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		r = s3c_file_write(call, to, buf, (size_t)n);
		if (r < 0)
			return r;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

int s3c_file_copy_range(struct s3c_file_call *call, int from, uint64_t offset, uint64_t length,
			int to)
{
	off_t position = (off_t)offset;

	while (length) {
		ssize_t n;
		int r = s3c_file_call_check(call);

		if (r < 0)
			return r;
		n = copy_file_range(from, &position, to, NULL,
				    S3C_MIN(length, (uint64_t)IO_STEP * 64), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return s3c_file_errno(errno);
		/* Whatever else it has against these files, or 0 where there should be bytes. */
		if (n <= 0)
			return copy_by_hand(call, from, (uint64_t)position, length, to);
		length -= (uint64_t)n;
	}
	return 0;
}

/* Makes the folder at path; an object that has its name moves to its other name. */
static int make_dir(struct s3c_file_store *fs, const char *path)
{
	const char *slash = strrchr(path, '/');
	char other[S3C_FILE_PATH_MAX];
	struct stat st;
	int r;

	if (mkdirat(fs->dir_fd, path, 0777) < 0) {
		if (errno != EEXIST)
			return s3c_file_errno(errno);
		if (fstatat(fs->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -EIO;
		if (S_ISDIR(st.st_mode))
			return 0;
		if (!S_ISREG(st.st_mode) || strncmp(slash ? slash + 1 : path, "%+", 2) == 0)
			return -EIO;
		r = s3c_file_path_clash(path, other);
		if (r < 0)
			return r;
		if (renameat(fs->dir_fd, path, fs->dir_fd, other) < 0 ||
		    mkdirat(fs->dir_fd, path, 0777) < 0)
			return s3c_file_errno(errno);
	}
	if (!slash)
		return fsync(fs->dir_fd) < 0 ? -EIO : 0;
	memcpy(other, path, (size_t)(slash - path));
	other[slash - path] = '\0';
	return s3c_file_sync_dir(fs->dir_fd, other);
}

/* Opens the folder that path is in, made where it is missing. */
static int make_parents(struct s3c_file_store *fs, const char *path, int *ret_fd)
{
	char dir[S3C_FILE_PATH_MAX];
	const char *end = strrchr(path, '/');
	cleanup_close int fd = -1;

	if (!end) {
		*ret_fd = fcntl(fs->dir_fd, F_DUPFD_CLOEXEC, 0);
		return *ret_fd < 0 ? s3c_file_errno(errno) : 0;
	}
	memcpy(dir, path, (size_t)(end - path));
	dir[end - path] = '\0';
	fd = openat(fs->dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
		return s3c_file_errno(errno);
	if (fd < 0) {
		for (char *p = dir; p; p = p ? p + 1 : NULL) {
			int r;

			p = strchr(p, '/');
			if (p)
				*p = '\0';
			r = make_dir(fs, dir);
			if (r < 0)
				return r;
			if (p)
				*p = '/';
		}
		fd = openat(fs->dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return s3c_file_errno(errno);
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int check_condition(const struct s3c_condition *condition,
			   const struct s3c_file_object *present)
{
	bool exists = present->fd >= 0;

	if (condition->if_none_match)
		return exists ? -EEXIST : 0;
	if (!condition->if_match)
		return 0;
	return exists && strcmp(present->info.version.etag, condition->if_match) == 0 ? 0 : -ESTALE;
}

static int publish_locked(struct s3c_file_call *call, struct s3c_file_temp *temp,
			  struct s3c_file_object *ret_old, int *ret_dir_fd)
{
	struct s3c_file_store *fs = call->fs;
	char plain[S3C_FILE_PATH_MAX];
	char other[S3C_FILE_PATH_MAX];
	const char *target = plain;
	cleanup_close int dir_fd = -1;
	struct stat st;
	int r;

	s3c_mutex_assert_held(&fs->names_lock);
	r = s3c_file_path(call->rq.key, plain);
	if (r == 0)
		r = s3c_file_path_clash(plain, other);
	if (r < 0)
		return r;
	r = s3c_file_object_open(fs, call->rq.key, ret_old);
	if (r < 0 && r != -ENOENT)
		return r;
	r = check_condition(&call->rq.condition, ret_old);
	if (r == 0)
		r = s3c_file_call_check(call);
	if (r == 0)
		r = make_parents(fs, plain, &dir_fd);
	if (r < 0)
		return r;
	if (ret_old->fd >= 0)
		target = ret_old->path;
	else if (fstatat(fs->dir_fd, plain, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		target = other;
	if (renameat(fs->session_fd, temp->name, fs->dir_fd, target) < 0)
		return s3c_file_errno(errno);
	temp->name[0] = '\0';
	*ret_dir_fd = steal_fd(&dir_fd);
	return 0;
}

int s3c_file_publish(struct s3c_file_call *call, struct s3c_file_temp *temp,
		     const struct s3c_meta *meta, const struct s3c_meta *props,
		     const char *content_type, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	cleanup_file_object struct s3c_file_object old = S3C_FILE_OBJECT_NONE;
	struct s3c_file_object made = { .fd = temp->fd, .sidecar = true };
	cleanup_close int dir_fd = -1;
	struct s3c_stat info = { 0 };
	char token[S3C_FILE_TOKEN_LEN + 1];
	int r;

	s3c_file_random_name(token);
	snprintf(info.version.etag, sizeof(info.version.etag), "\"%s\"", token);
	snprintf(info.content_type, sizeof(info.content_type), "%s",
		 content_type ? content_type : "application/octet-stream");
	if (meta)
		info.meta = *meta; /* borrowed, not freed here */
	if (props)
		info.props = *props; /* likewise */
	r = s3c_file_record_write(fs, call->rq.key, temp->fd, &info);
	if (r == 0 && (fsync(temp->fd) < 0 || fstat(temp->fd, &made.st) < 0))
		r = -EIO;
	if (r < 0)
		return r;
	r = s3c_file_lock(fs, call);
	if (r == 0) {
		r = publish_locked(call, temp, &old, &dir_fd);
		s3c_file_unlock(fs);
	}
	if (r < 0) {
		s3c_file_record_drop(fs, call->rq.key, &made);
		return r;
	}
	if (fsync(dir_fd) < 0)
		return -EIO;
	s3c_file_record_drop(fs, call->rq.key, &old);
	reply->stat.version = info.version;
	reply->stat.version.modified_ns =
		made.st.st_mtim.tv_sec * S3C_NSEC_PER_SEC + made.st.st_mtim.tv_nsec;
	reply->stat.size = (uint64_t)made.st.st_size;
	return 0;
}
