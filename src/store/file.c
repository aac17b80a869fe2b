/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * An object store in a local folder: the body of object KEY is the file DIR/KEY.
 *
 * A body is written to a temporary file, synced, given its record, and gets its name by one
 * rename, after which the folder is synced: a reader sees the old object or the new one, and so
 * does whoever comes after a crash. Names change under a mutex and an flock, so that conditions
 * are decided together with what they guard, by any number of threads and processes.
 */
#include "store/file_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/file.h>

#include "base/log.h"

#define READ_STEP (256u << 10)
#define POOL_THREADS 8
#define LEFTOVER_AGE_S (24 * 3600)
#define OPEN_LOCK_S 10

static int find_range(const struct s3c_store_request *rq, uint64_t size, uint64_t *ret_offset,
		      uint64_t *ret_length)
{
	uint64_t offset = rq->suffix ? size - S3C_MIN(rq->suffix, size) : rq->offset;
	uint64_t length = rq->suffix ? rq->suffix : rq->length;

	if (!size) {
		*ret_offset = *ret_length = 0;
		return 0;
	}
	if (offset >= size)
		return -ERANGE;
	*ret_offset = offset;
	*ret_length = S3C_MIN(length, size - offset);
	return 0;
}

static int send_body(struct s3c_file_call *call, int fd, uint64_t offset, uint64_t length)
{
	const struct s3c_store_sink *sink = &call->rq.sink;
	cleanup_free char *buf = NULL;

	if (!length)
		return 0;
	buf = malloc(READ_STEP);
	if (!buf)
		return -ENOMEM;
	while (length) {
		int r = s3c_file_call_check(call);
		ssize_t n;

		if (r < 0)
			return r;
		n = pread(fd, buf, S3C_MIN(length, (uint64_t)READ_STEP), (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		r = sink->data ? sink->data(sink->arg, buf, (size_t)n) : 0;
		if (r < 0)
			return r;
		call->received += (uint64_t)n;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int run_get(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	const struct s3c_store_request *rq = &call->rq;
	cleanup_file_object struct s3c_file_object object = S3C_FILE_OBJECT_NONE;
	uint64_t offset;
	uint64_t length;
	int r = s3c_file_object_open(call->fs, rq->key, &object);

	if (r < 0)
		return r;
	if (rq->condition.if_match && strcmp(rq->condition.if_match, object.info.version.etag) != 0)
		return -ESTALE;
	reply->stat = object.info;
	object.info.meta = (struct s3c_meta){ 0 };
	object.info.props = (struct s3c_meta){ 0 };
	if (rq->op == S3C_STORE_HEAD)
		return 0;
	r = find_range(rq, reply->stat.size, &offset, &length);
	if (r == 0 && rq->sink.begin)
		r = rq->sink.begin(rq->sink.arg, &reply->stat, offset, length, reply->stat.size);
	return r < 0 ? r : send_body(call, object.fd, offset, length);
}

static int run_put(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	const struct s3c_store_request *rq = &call->rq;
	cleanup_file_temp struct s3c_file_temp temp = S3C_FILE_TEMP_NONE;
	int r = s3c_file_temp_new(call->fs, &temp);

	for (unsigned i = 0; r == 0 && i < rq->body_count; i++)
		r = s3c_file_write(call, temp.fd, rq->body[i].iov_base, rq->body[i].iov_len);
	if (r == 0)
		r = s3c_file_publish(call, &temp, rq->meta, rq->props, rq->content_type, reply);
	/* Nothing is on the way here that a checksum could guard. */
	reply->checksum_confirmed = r == 0;
	return r;
}

static int run_copy(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	const struct s3c_store_request *rq = &call->rq;
	cleanup_file_object struct s3c_file_object source = S3C_FILE_OBJECT_NONE;
	cleanup_file_temp struct s3c_file_temp temp = S3C_FILE_TEMP_NONE;
	int r = s3c_file_object_open(call->fs, rq->source_key, &source);

	if (r < 0)
		return r;
	if (rq->source_if_match && strcmp(rq->source_if_match, source.info.version.etag) != 0)
		return -ESTALE;
	r = s3c_file_temp_new(call->fs, &temp);
	if (r == 0)
		r = s3c_file_copy_range(call, source.fd, 0, source.info.size, temp.fd);
	return r < 0 ? r
		     : s3c_file_publish(call, &temp, rq->meta, rq->props, rq->content_type, reply);
}

/*
 * Removes the object and the folders that it leaves empty; ret_dir becomes the one that is left,
 * to be synced.
 */
static int delete_locked(struct s3c_file_call *call, const char *key,
			 struct s3c_file_object *object, char ret_dir[static S3C_FILE_PATH_MAX])
{
	struct s3c_file_store *fs = call->fs;
	const char *if_match = call->rq.condition.if_match;
	char *slash;
	int r;

	s3c_mutex_assert_held(&fs->names_lock);
	r = s3c_file_object_open(fs, key, object);
	if (r < 0)
		return r;
	if (call->rq.op == S3C_STORE_DELETE && if_match &&
	    strcmp(if_match, object->info.version.etag) != 0)
		return -ESTALE;
	r = s3c_file_call_check(call);
	if (r < 0)
		return r;
	if (unlinkat(fs->dir_fd, object->path, 0) < 0)
		return s3c_file_errno(errno);
	memcpy(ret_dir, object->path, S3C_FILE_PATH_MAX);
	while ((slash = strrchr(ret_dir, '/'))) {
		*slash = '\0';
		if (unlinkat(fs->dir_fd, ret_dir, AT_REMOVEDIR) < 0)
			return 0;
	}
	strcpy(ret_dir, ".");
	return 0;
}

static int delete_key(struct s3c_file_call *call, const char *key, char *ret_dir)
{
	cleanup_file_object struct s3c_file_object object = S3C_FILE_OBJECT_NONE;
	int r = s3c_file_lock(call->fs, call);

	if (r < 0)
		return r;
	r = delete_locked(call, key, &object, ret_dir);
	s3c_file_unlock(call->fs);
	if (r == 0)
		s3c_file_record_drop(call->fs, key, &object);
	if (r == -ENOENT) {
		ret_dir[0] = '\0';
		return 0;
	}
	return r;
}

static int run_delete(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	char dir[S3C_FILE_PATH_MAX];
	int r;

	(void)reply;
	if (call->fs->session_fd < 0)
		return -EACCES;
	r = delete_key(call, call->rq.key, dir);
	if (r == 0 && dir[0])
		r = s3c_file_sync_dir(call->fs->dir_fd, dir);
	return r;
}

static int run_delete_many(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	char dir[S3C_FILE_PATH_MAX];
	char last[S3C_FILE_PATH_MAX] = "";
	int r = 0;

	if (fs->session_fd < 0)
		return -EACCES;
	for (size_t i = 0; r == 0 && i < call->rq.key_count; i++) {
		reply->failed_index = i;
		r = delete_key(call, call->rq.keys[i], dir);
		if (r < 0 || !dir[0])
			continue;
		/* One sync a folder, not one a key. */
		if (last[0] && strcmp(last, dir) != 0)
			r = s3c_file_sync_dir(fs->dir_fd, last);
		strcpy(last, dir);
	}
	if (r == 0 && last[0])
		r = s3c_file_sync_dir(fs->dir_fd, last);
	return r;
}

static const struct {
	const char *name;
	int (*run)(struct s3c_file_call *call, struct s3c_store_reply *reply);
} operations[] = {
	[S3C_STORE_GET] = { "get", run_get },
	[S3C_STORE_HEAD] = { "head", run_get },
	[S3C_STORE_PUT] = { "put", run_put },
	[S3C_STORE_LIST] = { "list", s3c_file_list },
	[S3C_STORE_COPY] = { "copy to", run_copy },
	[S3C_STORE_DELETE] = { "delete", run_delete },
	[S3C_STORE_DELETE_MANY] = { "delete many", run_delete_many },
	[S3C_STORE_LIST_UPLOADS] = { "list uploads of", s3c_file_list_uploads },
	[S3C_STORE_UPLOAD_CREATE] = { "create upload of", s3c_file_upload_create },
	[S3C_STORE_UPLOAD_PART] = { "upload part of", s3c_file_upload_part },
	[S3C_STORE_UPLOAD_PART_COPY] = { "copy to part of", s3c_file_upload_part },
	[S3C_STORE_UPLOAD_COMPLETE] = { "complete", s3c_file_upload_complete },
	[S3C_STORE_UPLOAD_PARTS] = { "list parts of", s3c_file_upload_parts },
	[S3C_STORE_UPLOAD_ABORT] = { "abort", s3c_file_upload_abort },
};

static const char *error_words(int result)
{
	switch (result) {
	case -ENOENT:
		return "no such object";
	case -ENXIO:
		return "no such upload";
	case -ESTALE:
		return "the object was changed by somebody else";
	case -EEXIST:
		return "the object exists";
	default:
		return strerror(-result);
	}
}

static void call_unref(struct s3c_file_call *call)
{
	if (atomic_fetch_sub(&call->refs, 1) == 1)
		free(call);
}

/* A folder that was removed has no objects, and that would be the answer. */
static bool is_gone(const struct s3c_file_store *fs)
{
	struct stat st;

	return fstat(fs->dir_fd, &st) < 0 || st.st_nlink == 0;
}

static void run_call(struct s3c_job *job)
{
	struct s3c_file_call *call = container_of(job, struct s3c_file_call, job);
	const struct s3c_store_request *rq = &call->rq;
	struct s3c_store_reply reply = { 0 };
	int r = s3c_file_call_check(call);

	if (r == 0 && (rq->ssec || rq->source_ssec)) {
		r = -EOPNOTSUPP;
		snprintf(reply.message, sizeof(reply.message), "%s %s: %s", operations[rq->op].name,
			 rq->key, "a folder does not encrypt with customer keys (SSE-C)");
	} else if (r == 0) {
		r = operations[rq->op].run(call, &reply);
	}
	if (r != -ECANCELED && is_gone(call->fs)) {
		r = -EIO;
		snprintf(reply.message, sizeof(reply.message),
			 "the folder of the store was removed: unmount, and mount what takes its "
			 "place");
	}
	reply.result = r;
	if (r < 0 && !reply.message[0])
		snprintf(reply.message, sizeof(reply.message), "%s %s: %s", operations[rq->op].name,
			 rq->key ? rq->key : "", error_words(r));
	s3c_store_count(rq, r, call->begun_ns, call->received);
	call->done(call->arg, &reply);
	s3c_store_reply_free(&reply);
	call_unref(call);
}

static int file_submit(struct s3c_store *store, const struct s3c_store_request *request,
		       s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	struct s3c_file_store *fs = container_of(store, struct s3c_file_store, base);
	struct s3c_file_call *call = calloc(1, sizeof(*call));

	if (!call)
		return -ENOMEM;
	call->job.run = run_call;
	call->fs = fs;
	call->rq = *request;
	call->begun_ns = s3c_clock_monotonic_ns();
	call->done = done;
	call->arg = arg;
	atomic_init(&call->refs, ret_call ? 2 : 1);
	s3c_mutex_lock(&fs->submit_lock);
	if (fs->closing) {
		s3c_mutex_unlock(&fs->submit_lock);
		free(call);
		return -ECANCELED;
	}
	if (ret_call)
		*ret_call = (struct s3c_store_call *)call;
	s3c_pool_submit(request->content ? fs->content_pool : fs->meta_pool, &call->job);
	s3c_mutex_unlock(&fs->submit_lock);
	return 0;
}

static void file_cancel(struct s3c_store *store, struct s3c_store_call *call)
{
	(void)store;
	atomic_store(&((struct s3c_file_call *)call)->cancelled, true);
}

static void file_call_put(struct s3c_store *store, struct s3c_store_call *call)
{
	(void)store;
	call_unref((struct s3c_file_call *)call);
}

void s3c_file_empty_dir(int dir_fd)
{
	/* A description of its own, since reading moves it. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		s3c_cleanup_close(&fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(dir_fd, entry->d_name, 0);
	closedir(dir);
}

/*
 * Removes the temporary files of a store that is dead: its lock is free. Without a lock file (its
 * maker died at once, or somebody else's tool touched it) only when it is old.
 */
static void clean_session(struct s3c_file_store *fs, const char *name)
{
	cleanup_close int fd = openat(fs->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int lock = -1;
	struct stat st;

	if (fd < 0)
		return;
	lock = openat(fd, "lock", O_RDWR | O_CLOEXEC);
	if (lock >= 0) {
		if (flock(lock, LOCK_EX | LOCK_NB) < 0)
			return;
	} else if (errno != ENOENT || fstat(fd, &st) < 0 ||
		   st.st_mtim.tv_sec > time(NULL) - LEFTOVER_AGE_S) {
		return;
	}
	s3c_debug("folder store: removing %s, left by a dead process", name);
	s3c_file_empty_dir(fd);
	(void)unlinkat(fs->tmp_fd, name, AT_REMOVEDIR);
}

static void clean_sessions(struct s3c_file_store *fs)
{
	int fd = openat(fs->tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		s3c_cleanup_close(&fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (strncmp(entry->d_name, "session-", 8) == 0)
			clean_session(fs, entry->d_name);
	closedir(dir);
}

static int open_or_make(int at, const char *name, int *ret_fd)
{
	int fd;

	if (mkdirat(at, name, 0777) < 0 && errno != EEXIST)
		return s3c_file_errno(errno);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return s3c_file_errno(errno);
	*ret_fd = fd;
	return 0;
}

static int open_session(struct s3c_file_store *fs)
{
	char id[S3C_FILE_TOKEN_LEN + 1];
	int r;

	s3c_file_random_name(id);
	snprintf(fs->session, sizeof(fs->session), "session-%s", id);
	r = open_or_make(fs->tmp_fd, fs->session, &fs->session_fd);
	if (r < 0)
		return r;
	fs->session_lock_fd =
		openat(fs->session_fd, "lock", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fs->session_lock_fd < 0 || flock(fs->session_lock_fd, LOCK_EX | LOCK_NB) < 0)
		return s3c_file_errno(errno);
	return 0;
}

/* What writing needs. -EACCES: the folder can only be read. */
static int open_work(struct s3c_file_store *fs)
{
	struct s3c_file_call call = {
		.fs = fs,
		.rq.deadline_ns = s3c_deadline_after(OPEN_LOCK_S),
	};
	int r = open_or_make(fs->dir_fd, S3C_FILE_TMP, &fs->tmp_fd);

	if (r < 0)
		return r;
	fs->lock_fd = openat(fs->tmp_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fs->lock_fd < 0)
		return s3c_file_errno(errno);
	r = s3c_file_lock(fs, &call);
	if (r < 0)
		return r;
	clean_sessions(fs);
	r = open_session(fs);
	s3c_file_unlock(fs);
	if (r == 0)
		r = open_or_make(fs->tmp_fd, "uploads", &fs->uploads_fd);
	return r;
}

static void file_free(struct s3c_store *store)
{
	struct s3c_file_store *fs = container_of(store, struct s3c_file_store, base);
	int meta_fd = atomic_load(&fs->meta_fd);

	s3c_mutex_lock(&fs->submit_lock);
	fs->closing = true;
	s3c_mutex_unlock(&fs->submit_lock);
	atomic_store(&fs->cancel_all, true);
	s3c_pool_free(fs->meta_pool);
	s3c_pool_free(fs->content_pool);
	if (fs->session_fd >= 0) {
		s3c_file_empty_dir(fs->session_fd);
		(void)unlinkat(fs->tmp_fd, fs->session, AT_REMOVEDIR);
	}
	s3c_cleanup_close(&fs->uploads_fd);
	s3c_cleanup_close(&fs->session_lock_fd);
	s3c_cleanup_close(&fs->session_fd);
	s3c_cleanup_close(&fs->lock_fd);
	s3c_cleanup_close(&fs->tmp_fd);
	s3c_cleanup_close(&meta_fd);
	s3c_cleanup_close(&fs->dir_fd);
	s3c_mutex_destroy(&fs->names_lock);
	s3c_mutex_destroy(&fs->submit_lock);
	free(fs->identity);
	free(fs);
}

static const struct s3c_store_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.cancel = file_cancel,
	.call_put = file_call_put,
	.free = file_free,
};

static int open_folder(struct s3c_file_store *fs, const char *dir, bool create, struct s3c_err *err)
{
	cleanup_free char *path = NULL;

	if (create && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return s3c_err_set(err, -errno, "cannot make the folder %s: %s", dir,
				   strerror(errno));
	fs->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs->dir_fd < 0) {
		int error = errno;

		if (error == ENOENT)
			return s3c_err_set(err, -ENOENT,
					   "the folder %s does not exist: make it first", dir);
		return s3c_err_set(err, -error, "cannot open the folder %s: %s", dir,
				   strerror(error));
	}
	path = realpath(dir, NULL);
	if (!path)
		return s3c_err_set(err, -errno, "cannot find the folder %s: %s", dir,
				   strerror(errno));
	fs->identity = s3c_asprintf("file://%s|", path);
	fs->base.identity = fs->identity;
	return fs->identity ? 0 : -ENOMEM;
}

int s3c_store_file_new(const char *dir, enum s3c_file_access access, struct s3c_err *err,
		       struct s3c_store **ret_store)
{
	struct s3c_file_store *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return -ENOMEM;
	fs->base.ops = &file_ops;
	fs->base.tls = true;
	fs->dir_fd = fs->tmp_fd = fs->session_fd = fs->session_lock_fd = -1;
	fs->uploads_fd = fs->lock_fd = -1;
	atomic_init(&fs->meta_fd, -1);
	s3c_mutex_init(&fs->submit_lock);
	s3c_mutex_init(&fs->names_lock);
	r = open_folder(fs, dir, access == S3C_FILE_CREATE, err);
	if (r == 0 && access != S3C_FILE_READ) {
		r = open_work(fs);
		if (r == -EACCES) {
			s3c_info("the folder %s can only be read", dir);
			r = 0;
		} else if (r < 0) {
			s3c_err_set(err, r, "cannot prepare the folder %s: %s", dir, strerror(-r));
		}
	}
	if (r == 0)
		r = s3c_pool_new("s3c-file-meta", 0, POOL_THREADS, &fs->meta_pool);
	if (r == 0)
		r = s3c_pool_new("s3c-file-data", 0, POOL_THREADS, &fs->content_pool);
	if (r < 0) {
		file_free(&fs->base);
		return r;
	}
	*ret_store = &fs->base;
	return 0;
}
