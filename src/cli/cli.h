/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The two programs. */
#pragma once

/* Exit codes of both. */
#define S3C_EXIT_OK 0
#define S3C_EXIT_FAILED 1
#define S3C_EXIT_USAGE 2

/* s3cryptfs: mounts. Also when called as mount.s3cryptfs or mount.fuse.s3cryptfs by mount(8). */
int s3c_cli_mount(int argc, char **argv);
/* umount.fuse.s3cryptfs and umount.s3cryptfs: the same program under the names that umount(8)
   calls. Exit codes are those of umount(8). */
int s3c_cli_umount(int argc, char **argv);
/* s3cryptfsctl: works on mounts, stores and keyrings. */
int s3c_cli_ctl(int argc, char **argv);
