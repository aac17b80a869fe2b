# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/key/keyring.c \
	src/key/keyring.h \
	src/key/unwrap.c \
	src/key/unwrap.h \
	src/key/wrap.c \
	src/key/wrap.h
