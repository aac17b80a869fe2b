# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/db/journal.c \
	src/db/journal.h \
	src/db/journal_private.h \
	src/db/schema.c
