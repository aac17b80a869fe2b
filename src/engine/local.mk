# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/engine/attach.c \
	src/engine/attrs.c \
	src/engine/body.c \
	src/engine/cached.c \
	src/engine/commit.c \
	src/engine/content.h \
	src/engine/copy.c \
	src/engine/crypt.c \
	src/engine/durable.c \
	src/engine/durable.h \
	src/engine/engine.c \
	src/engine/engine.h \
	src/engine/entry.c \
	src/engine/fetch.c \
	src/engine/keys.c \
	src/engine/listing.c \
	src/engine/lookup.c \
	src/engine/memory.c \
	src/engine/memory.h \
	src/engine/mount.c \
	src/engine/mutate.c \
	src/engine/names.c \
	src/engine/names.h \
	src/engine/object.c \
	src/engine/pending.c \
	src/engine/pending.h \
	src/engine/pending_attrs.c \
	src/engine/pending_ops.c \
	src/engine/pending_send.c \
	src/engine/plan.c \
	src/engine/private.h \
	src/engine/read.c \
	src/engine/record.c \
	src/engine/record.h \
	src/engine/recover.c \
	src/engine/rename.c \
	src/engine/rename_dir.c \
	src/engine/rename_journal.c \
	src/engine/room.c \
	src/engine/slots.c \
	src/engine/spill.c \
	src/engine/spill.h \
	src/engine/upload.c \
	src/engine/write.c
