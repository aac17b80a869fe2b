/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The FUSE session: mounts, answers the kernel with low-level operations until
 * it is unmounted or told to end, and commits what is left.
 */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

/* Something that a program did, for an audit log. Strings end with the call. */
struct s3c_fuse_audit {
	const char *operation; /* "open", "unlink", ... */
	int result;            /* 0 or -errno */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	const char *path;   /* relative to the mount; "" is its root */
	const char *to;     /* rename: the new path; copy_file_range: the copy; else NULL */
	const char *access; /* open, create: "read", "write", "read-write"; else NULL */
	const char *key_id; /* of what wraps the file's data key; NULL: none, or not known here */
};

enum s3c_fuse_event {
	S3C_FUSE_RELOAD,  /* SIGHUP; the log has been opened again */
	S3C_FUSE_LEAVING, /* it ends: by a signal or an unmount. Once */
};

struct s3c_fuse_config {
	struct s3c_engine *engine; /* borrowed */
	const char *source;        /* fsname, verbatim */
	const char *mountpoint;    /* absolute */
	const char *const
		*fuse_options; /* NULL-terminated: "allow_other", "nosuid"... passed to libfuse */
	const char *control;   /* value of *.s3cryptfs.control on the root; NULL: none */
	bool read_only;
	bool nosymfollow;        /* root only */
	double ttl_s;            /* entry and attribute timeouts */
	double timeout_s;        /* deadline of an operation */
	double umount_timeout_s; /* most that the end waits for the store; 0: see drain */
	bool debug;              /* libfuse prints every request */
	/* Told before the program has its answer, from any thread; must not wait. NULL: none. */
	void (*audit)(void *arg, const struct s3c_fuse_audit *what);
	void *audit_arg;
	/* Enter the mount into the table of mount(8), so that umount(8) calls our helper. */
	bool list;
	const char *list_options; /* of the command line, which that table has too; NULL: none */
	/* Told by the thread in s3c_fuse_run; must not wait. NULL: nobody. */
	void (*on_event)(void *arg, enum s3c_fuse_event event);
	void *event_arg;
};

/*
 * What s3c_fuse_mount checks of the place before it mounts, for callers that want to know early:
 * source is not mounted there already, the folder is there and empty (unless nonempty), this
 * machine and this user can mount.
 */
int s3c_mountpoint_check(const char *mountpoint, const char *source, bool nonempty,
			 bool allow_other, struct s3c_err *err);

/* Is the topmost mount right there one of s3cryptfs? Looks into the table of mounts only. */
bool s3c_mountpoint_is_ours(const char *mountpoint);

/* Calls fn for every place with a mount of s3cryptfs, as the table of mounts has them. */
void s3c_mountpoint_each(void (*fn)(void *arg, const char *mountpoint), void *arg);

/*
 * The kernel's part of a remount: read_only, nosymfollow, and words of mount(8) (nosuid, exec...;
 * NULL-terminated, others are passed over) on top of what the mount has. For root. -EBUSY: files
 * are open for writing. A sentence.
 */
int s3c_mountpoint_remount(const char *mountpoint, bool read_only, bool nosymfollow,
			   const char *const *words, struct s3c_err *err);

struct s3c_fuse;
/* Mounts. A sentence for a missing, non-empty or busy mountpoint, no /dev/fuse, no permission. */
int s3c_fuse_mount(const struct s3c_fuse_config *config, struct s3c_err *err,
		   struct s3c_fuse **ret_fuse);
/*
 * Serves until unmount, SIGTERM, SIGINT or SIGHUP-less death of the connection; then commits what
 * is dirty. 0: everything reached the store; else the first error.
 */
int s3c_fuse_run(struct s3c_fuse *fuse);
/* Unmounts when still mounted, frees. NULL is legal. */
void s3c_fuse_free(struct s3c_fuse *fuse);
