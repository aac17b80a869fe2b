/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of fuse/ share: the session and the call, which is one request
 * of the kernel until it is answered.
 *
 *	session.c  mount, workers, end       signals.c     SIGTERM and others
 *	park.c     calls that have to wait   mountpoint.c  checks before the mount
 *	ops*.c     the operations             wire.c        what libfuse does not pass on
 *	audit.c    what an audit log is told
 */
#pragma once

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>
#include <sys/queue.h>

#include "base/err.h"
#include "base/thread.h"
#include "fs/fs.h"
#include "fuse/session.h"

#define S3C_FUSE_IO_MAX (1u << 20) /* bytes of one read or write */
#define S3C_FUSE_WORKERS_MAX 4
#define S3C_AUDIT_KEY_MAX 256 /* bytes of a key id or ARN, with the NUL */

struct s3c_fuse {
	struct s3c_engine *engine;
	struct s3c_fs *fs;
	struct fuse_session *session;
	char *mountpoint;
	char *control; /* NULL: none */
	double timeout_s, umount_timeout_s;
	void (*audit)(void *arg, const struct s3c_fuse_audit *what); /* may be NULL */
	void *audit_arg;
	void (*on_event)(void *arg, enum s3c_fuse_event event); /* NULL: nobody */
	void *event_arg;
	bool left;                  /* S3C_FUSE_LEAVING was told */
	bool listed;                /* by s3c_utab_add */
	struct s3c_pool *data_pool; /* reads, writes, commits */
	struct s3c_pool *meta_pool; /* everything else */
	bool detached;              /* taken out of the tree by us, while programs still used it */
	bool rejected;              /* by init: this kernel cannot serve us */
	bool seen;                  /* atomic: the first request after INIT has come */
	int signal_fd;              /* -1: none */
	int mount_id;               /* atomic: of our mount, see proc(5); -1: not known */
	uint32_t init_offer;        /* atomic, and init_unique: see wire.c */
	uint64_t init_unique;
	unsigned alive; /* workers that run, atomic */
	pthread_t workers[S3C_FUSE_WORKERS_MAX];
	unsigned worker_count;

	struct s3c_mutex calls_lock;
	LIST_HEAD(, s3c_call) parked; /* guarded by calls_lock, as the rest */
	LIST_HEAD(, s3c_call) signaled;
	struct s3c_waitq watched; /* that changes, or watcher_ends */
	bool watcher_ends, watcher_runs;
	pthread_t watcher;
};

/* Bytes in the pipe of signals.c that are not signals. */
#define S3C_POST_ENDED 0  /* a worker has ended */
#define S3C_POST_SEEN 255 /* the first request has come */

struct s3c_call;
struct s3c_call_type {
	const char *name;
	/* Does it. -EINPROGRESS with S3C_NOWAIT: to be called again by a thread that may wait. */
	int (*run)(struct s3c_call *call, struct s3c_op *op);
	/* Answers a run that gave 0; NULL: with an error of 0. */
	void (*answer)(struct s3c_call *call);
	bool data;    /* waits in the data pool */
	bool direct;  /* always asks the store: does not try without waiting */
	bool store;   /* brings data into safety: is not interrupted by the end of the session */
	bool goes_on; /* a program that ends does not wait for it: interrupt.c */
};

/*
 * A request. On the stack of the worker while it does not wait: pointers into the worker's buffer
 * are borrowed. Parked, it is on the heap and owns them.
 */
struct s3c_call {
	struct s3c_job job;
	LIST_ENTRY(s3c_call) link; /* in parked */
	struct s3c_op op;          /* parked */
	LIST_ENTRY(s3c_call) signaled_link;
	bool signaled, answered, done; /* parked: interrupt.c; guarded by calls_lock */
	struct s3c_fuse *fuse;
	fuse_req_t req;
	const struct s3c_call_type *type;
	int64_t begun_ns; /* monotonic */

	uint64_t ino, ino2;
	const char *name, *name2;
	const void *data; /* write, setxattr: size bytes; removexattr: NULL */
	void *owned_data; /* the buffer that data points into, when it is ours */
	size_t size;
	uint64_t offset, length; /* length: of fallocate, copy_file_range; what lseek answers */
	mode_t mode;
	dev_t rdev;
	int flags; /* open, create: of open(2); rename: of renameat2(2); setxattr: of it */
	bool append, plus;
	pid_t pid;
	struct s3c_fs_caller caller;
	struct s3c_fs_change change;
	struct s3c_file *file, *from_file; /* from_*: of copy_file_range */
	uint64_t from_offset;
	struct s3c_dir *dir;

	union {
		struct s3c_fs_entry entry;
		struct s3c_fs_attr attr;
		struct s3c_pages pages;
	};
	bool keep_cache;
	char *reply; /* malloc'ed, freed with the call */
	size_t reply_len;
};

/* park.c */

/* Fills what every call has. */
void s3c_call_init(struct s3c_call *call, fuse_req_t req, const struct s3c_call_type *type,
		   uint64_t ino);
/* Does and answers, or parks: call may be gone (or not) when this returns and is not to be used. */
void s3c_call_start(struct s3c_call *call);
/* The buffer that the calling worker has received its request in; see park.c. */
void s3c_park_set_buffer(struct fuse_buf *buf);
/* The session ends: ends the waits of what no one will hear the answer of. */
void s3c_park_interrupt_all(struct s3c_fuse *fuse);

/* interrupt.c */

/* A signal came to the program that waits. */
void s3c_call_signaled(struct s3c_call *call);
/* Do these masks of proc(5) have one that ends a program? */
bool s3c_ended_by(uint64_t pending, uint64_t blocked, uint64_t ignored, uint64_t caught);
/* The thread that looks at signals. It outlives the pools. */
int s3c_watcher_start(struct s3c_fuse *fuse);
void s3c_watcher_stop(struct s3c_fuse *fuse);

/* audit.c */

/* What of a call that ended with r an audit log wants to know, is told. Before its answer. */
void s3c_call_audit(struct s3c_call *call, int r);
/* The same for an operation that is refused without a call. */
void s3c_audit_refused(fuse_req_t req, const char *operation, uint64_t ino, const char *name,
		       int r);

/* ops.c: the table, and answers that several operations have. */
extern const struct fuse_lowlevel_ops s3c_fuse_ops;
void s3c_answer_entry(struct s3c_call *call);
void s3c_answer_attr(struct s3c_call *call);
struct fuse_entry_param s3c_entry_param(const struct s3c_fs_entry *entry);

/* ops_name.c */
void s3c_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void s3c_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void s3c_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void s3c_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void s3c_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void s3c_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void s3c_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
		   const char *to_name, unsigned int flags);
void s3c_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);

/* ops_file.c */
void s3c_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void s3c_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		   struct fuse_file_info *fi);
void s3c_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		 struct fuse_file_info *fi);
void s3c_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		  struct fuse_file_info *fi);
void s3c_op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset,
			    struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_offset,
			    struct fuse_file_info *to_fi, size_t len, int flags);
void s3c_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		      struct fuse_file_info *fi);
void s3c_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		  struct fuse_file_info *fi);
void s3c_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void s3c_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void s3c_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops_xattr.c */
void s3c_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void s3c_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void s3c_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		     size_t size, int flags);
void s3c_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops_dir.c */
void s3c_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void s3c_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi);
void s3c_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			struct fuse_file_info *fi);
void s3c_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void s3c_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* wire.c */

/* How the session, which is mounted already, reads and writes from now on. */
int s3c_wire_attach(struct s3c_fuse *fuse);
/* May whoever sent the request that this thread is processing not keep set-user-id bits? */
bool s3c_wire_drops_privs(void);
/* For tests; userdata is the struct s3c_fuse. */
extern const struct fuse_custom_io s3c_wire_io;

/* mountpoint.c */

/*
 * Mounts. What fusermount3 has to say of a failure, on standard error, is appended to said
 * (S3C_ERR_MAX bytes, a text).
 */
int s3c_mountpoint_mount(struct fuse_session *session, const char *mountpoint, char *said);
/* The mount's number in mountinfo and fdinfo, proc(5); -1: not known. */
int s3c_mountpoint_id(const char *mountpoint);
/* Raises the kernel's read-ahead, which FUSE alone cannot lift above 128 KiB. Root only; quiet. */
void s3c_mountpoint_raise_readahead(const char *mountpoint);
/* The kernel follows no symbolic links there from now on: nosymfollow, which libfuse does not know.
 */
int s3c_mountpoint_no_symlinks(const char *mountpoint);
/* Takes the mount out of the tree; programs that use it go on. */
int s3c_mountpoint_detach(const char *mountpoint);

/* utab.c; both for root, quiet, and of no consequence where they fail */

/* Has umount(8) call umount.fuse.s3cryptfs. options: those of the command line; may be NULL. */
void s3c_utab_add(const char *mountpoint, const char *source, const char *options);
/* Unless something of ours is mounted there. */
void s3c_utab_remove(const char *mountpoint);

/* signals.c */

/* A pipe that SIGTERM, SIGINT and SIGHUP write a byte of their number to, from now on. */
int s3c_signals_begin(int *ret_fd);
/* Writes a byte as a signal does. */
void s3c_signals_post(unsigned char byte);
void s3c_signals_end(void);
