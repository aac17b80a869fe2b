# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/fuse/audit.c \
	src/fuse/interrupt.c \
	src/fuse/mountpoint.c \
	src/fuse/ops.c \
	src/fuse/ops_dir.c \
	src/fuse/ops_file.c \
	src/fuse/ops_name.c \
	src/fuse/ops_xattr.c \
	src/fuse/park.c \
	src/fuse/private.h \
	src/fuse/session.c \
	src/fuse/session.h \
	src/fuse/signals.c \
	src/fuse/utab.c \
	src/fuse/wire.c
