# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/base/buf.c \
	src/base/buf.h \
	src/base/clock.c \
	src/base/clock.h \
	src/base/crc.c \
	src/base/crc.h \
	src/base/crypto.c \
	src/base/crypto.h \
	src/base/encode.c \
	src/base/encode.h \
	src/base/err.c \
	src/base/err.h \
	src/base/log.c \
	src/base/log.h \
	src/base/metrics.c \
	src/base/metrics.h \
	src/base/notify.c \
	src/base/notify.h \
	src/base/process.c \
	src/base/process.h \
	src/base/secret.c \
	src/base/secret.h \
	src/base/thread.c \
	src/base/thread.h \
	src/base/util.c \
	src/base/util.h
