# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/fs/attr.c \
	src/fs/dir.c \
	src/fs/file.c \
	src/fs/fs.c \
	src/fs/fs.h \
	src/fs/inode.c \
	src/fs/inode.h \
	src/fs/names.c \
	src/fs/private.h \
	src/fs/use.c \
	src/fs/xattr.c
