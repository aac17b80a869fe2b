/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A line in the table that mount(8) keeps (/run/mount/utab). Without one umount(8) does not look
 * for the type of a mount of root's: it sees FUSE by statfs(2), finds no umount.fuse, and unmounts
 * without calling umount.fuse.s3cryptfs, which waits for the store. A line names that helper.
 *
 * It is written with the options of the command line, of which libmount keeps those that it keeps
 * for mount(8), such as _netdev; mount(8) adds none of its own where it finds one.
 */
#include <errno.h>
#include <libmount.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"
#include "fuse/private.h"

#define FS_TYPE "fuse.s3cryptfs"
#define TABLE_DIR "/run/mount"
#define HELPER "uhelper=" FS_TYPE

static void free_update(struct libmnt_update **update)
{
	mnt_free_update(*update);
}
static void unref_fs(struct libmnt_fs **fs)
{
	mnt_unref_fs(*fs);
}

/* Adds fs, or takes the line of target out. */
static int update_table(const char *target, struct libmnt_fs *fs)
{
	__attribute__((cleanup(free_update))) struct libmnt_update *update = mnt_new_update();
	int r = update ? mnt_update_set_fs(update, 0, target, fs) : -ENOMEM;

	/* 1: there is nothing to do. */
	return r ? S3C_MIN(r, 0) : mnt_update_table(update, NULL);
}

void s3c_utab_add(const char *mountpoint, const char *source, const char *options)
{
	__attribute__((cleanup(unref_fs))) struct libmnt_fs *fs = mnt_new_fs();
	int r = fs && geteuid() == 0 ? 0 : -EPERM;

	/* libmount would make it by our umask, and users have to read the table. */
	if (r == 0 && mkdir(TABLE_DIR, 0755) == 0 && chmod(TABLE_DIR, 0755) < 0)
		r = -errno;
	if (r == 0)
		r = update_table(mountpoint, NULL); /* of one that crashed */
	if (r == 0)
		r = mnt_fs_set_source(fs, source);
	if (r == 0)
		r = mnt_fs_set_target(fs, mountpoint);
	if (r == 0)
		r = mnt_fs_set_fstype(fs, FS_TYPE);
	if (r == 0)
		r = mnt_fs_set_options(fs, options && *options ? options : "rw");
	if (r == 0)
		r = mnt_fs_append_options(fs, HELPER);
	if (r == 0)
		r = update_table(NULL, fs);
	if (r < 0) /* umount does not wait then */
		s3c_debug("no line for %s in the table of mount(8): %s", mountpoint, strerror(-r));
}

void s3c_utab_remove(const char *mountpoint)
{
	/* Another mount may be there by now, with a line of its own. */
	if (geteuid() == 0 && !s3c_mountpoint_is_ours(mountpoint))
		update_table(mountpoint, NULL);
}
