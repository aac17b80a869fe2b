/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the folder store share; nobody else includes it but its tests.
 *
 * Layout of DIR:
 *   KEY, escaped (file_path.c)            body of an object; xattr user.s3cryptfs its record
 *   .s3cryptfs-meta/HH/SHA256KEY-MTIME    record of an object without an xattr (file_record.c)
 *   .s3cryptfs-tmp/lock                   flock: whoever changes names holds it
 *   .s3cryptfs-tmp/session-ID/            temporary files of one open store
 *   .s3cryptfs-tmp/session-ID/lock        flock: that store is alive
 *   .s3cryptfs-tmp/uploads/ID/meta        record and key of a multipart upload
 *   .s3cryptfs-tmp/uploads/ID/NNNNN.ETAG  a part
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "store/store.h"

#define S3C_FILE_TMP ".s3cryptfs-tmp"
#define S3C_FILE_META ".s3cryptfs-meta"
#define S3C_FILE_XATTR "user.s3cryptfs"
#define S3C_FILE_PATH_MAX 4096
#define S3C_FILE_TOKEN_LEN 32 /* hex digits of a random name */

struct s3c_file_store {
	struct s3c_store base;
	int dir_fd;
	int tmp_fd;
	int session_fd;
	int session_lock_fd;
	int uploads_fd;
	atomic_int meta_fd; /* -1 until the first sidecar is needed */
	char session[64];
	char *identity;
	atomic_ullong temp_serial;
	struct s3c_pool *meta_pool;
	struct s3c_pool *content_pool;

	struct s3c_mutex submit_lock;
	bool closing; /* guarded by submit_lock */
	atomic_bool cancel_all;

	/* Names change under both, in this order: threads of this store, other stores. */
	struct s3c_mutex names_lock;
	int lock_fd;
};

struct s3c_file_call {
	struct s3c_job job;
	struct s3c_file_store *fs;
	struct s3c_store_request rq;
	int64_t begun_ns;  /* monotonic */
	uint64_t received; /* bytes that the sink was given */
	s3c_store_done_fn done;
	void *arg;
	atomic_uint refs;
	atomic_bool cancelled;
};

/* -ECANCELED, -ETIMEDOUT or 0: asked between pieces of work. */
int s3c_file_call_check(struct s3c_file_call *call);
/* Waits for the names lock until the call's end. */
int s3c_file_lock(struct s3c_file_store *fs, struct s3c_file_call *call);
void s3c_file_unlock(struct s3c_file_store *fs);
/* Quiet errno of the system as the contract has it: -EIO for what it does not name. */
int s3c_file_errno(int error);
void s3c_file_random_name(char ret_name[static S3C_FILE_TOKEN_LEN + 1]);
int s3c_file_sync_dir(int dir_fd, const char *path);
/* Removes the files in it, no folders. Best effort. */
void s3c_file_empty_dir(int dir_fd);
static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

/* Paths: see file_path.c. */
int s3c_file_path(const char *key, char ret_path[static S3C_FILE_PATH_MAX]);
/* The other name of the object at path, for when a folder has its name. */
int s3c_file_path_clash(const char *path, char ret_path[static S3C_FILE_PATH_MAX]);
enum s3c_file_name_kind {
	S3C_FILE_NAME_FOREIGN, /* not a name that this store gives */
	S3C_FILE_NAME_WHOLE,   /* a component */
	S3C_FILE_NAME_PIECE,   /* a folder: the beginning of a component */
};
enum s3c_file_place { S3C_FILE_AT_TOP, S3C_FILE_IN_FOLDER, S3C_FILE_IN_PIECE };
/* Decodes one name of a folder; is_dir as found there. ret_name points into name. */
enum s3c_file_name_kind s3c_file_name_decode(const char *name, bool is_dir,
					     enum s3c_file_place place, const char **ret_name);

/* An object as found. */
struct s3c_file_object {
	int fd;
	struct stat st;
	char path[S3C_FILE_PATH_MAX];
	struct s3c_stat info; /* size, version, metadata, type */
	bool sidecar;         /* the record is in a file of its own */
};
#define S3C_FILE_OBJECT_NONE                                                                       \
	{                                                                                          \
		.fd = -1                                                                           \
	}
/* -ENOENT: there is none. */
int s3c_file_object_open(struct s3c_file_store *fs, const char *key,
			 struct s3c_file_object *ret_object);
void s3c_file_object_close(struct s3c_file_object *object);
#define cleanup_file_object __attribute__((cleanup(s3c_file_object_close)))

/* Records: see file_record.c. */
int s3c_file_record_encode(const struct s3c_stat *info, struct s3c_buf *out);
int s3c_file_record_decode(const char *text, size_t len, struct s3c_stat *ret_info);
/* Fills info of an open file; -EAGAIN: a sidecar that should be there is not (it was replaced). */
int s3c_file_record_read(struct s3c_file_store *fs, const char *key,
			 struct s3c_file_object *object);
/* Stores the record with the file of a temporary name; may set its mtime. */
int s3c_file_record_write(struct s3c_file_store *fs, const char *key, int fd,
			  const struct s3c_stat *info);
/* Removes the sidecar of a file that is gone or replaced. */
void s3c_file_record_drop(struct s3c_file_store *fs, const char *key,
			  const struct s3c_file_object *object);

/* A temporary file in the session's folder; it is removed unless its name was cleared. */
struct s3c_file_temp {
	struct s3c_file_store *fs;
	int fd;
	char name[40];
};
#define S3C_FILE_TEMP_NONE                                                                         \
	{                                                                                          \
		.fd = -1                                                                           \
	}
int s3c_file_temp_new(struct s3c_file_store *fs, struct s3c_file_temp *ret_temp);
void s3c_file_temp_free(struct s3c_file_temp *temp);
#define cleanup_file_temp __attribute__((cleanup(s3c_file_temp_free)))
int s3c_file_write(struct s3c_file_call *call, int fd, const void *data, size_t len);
/* Appends [offset, offset + length) of from to the end of to, in the kernel where it can. */
int s3c_file_copy_range(struct s3c_file_call *call, int from, uint64_t offset, uint64_t length,
			int to);
/*
 * Gives the temporary file the object's record and, in one step under the condition, its name.
 * Fills reply->stat. The temporary file has been used up on success.
 */
int s3c_file_publish(struct s3c_file_call *call, struct s3c_file_temp *temp,
		     const struct s3c_meta *meta, const struct s3c_meta *props,
		     const char *content_type, struct s3c_store_reply *reply);

int s3c_file_list(struct s3c_file_call *call, struct s3c_store_reply *reply);

int s3c_file_list_uploads(struct s3c_file_call *call, struct s3c_store_reply *reply);
int s3c_file_upload_create(struct s3c_file_call *call, struct s3c_store_reply *reply);
int s3c_file_upload_part(struct s3c_file_call *call, struct s3c_store_reply *reply);
int s3c_file_upload_complete(struct s3c_file_call *call, struct s3c_store_reply *reply);
int s3c_file_upload_parts(struct s3c_file_call *call, struct s3c_store_reply *reply);
int s3c_file_upload_abort(struct s3c_file_call *call, struct s3c_store_reply *reply);
