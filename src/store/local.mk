# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/store/explain.c \
	src/store/fault.c \
	src/store/fault.h \
	src/store/file.c \
	src/store/file_io.c \
	src/store/file_list.c \
	src/store/file_path.c \
	src/store/file_private.h \
	src/store/file_record.c \
	src/store/file_upload.c \
	src/store/probe.c \
	src/store/s3.c \
	src/store/s3_error.c \
	src/store/s3_private.h \
	src/store/s3_reply.c \
	src/store/s3_request.c \
	src/store/s3_sse.c \
	src/store/store.c \
	src/store/store.h
