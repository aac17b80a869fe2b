# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/db/cache.c \
	src/db/cache.h \
	src/db/cache_db.c \
	src/db/cache_key.c \
	src/db/cache_private.h \
	src/db/cache_queue.c \
	src/db/cache_read.c \
	src/db/cache_space.c \
	src/db/cache_write.c \
	src/db/generations.c \
	src/db/journal.c \
	src/db/journal.h \
	src/db/journal_private.h \
	src/db/records.c \
	src/db/records.h \
	src/db/records_key.c \
	src/db/records_read.c \
	src/db/schema.c \
	src/db/space.c \
	src/db/writer.c
