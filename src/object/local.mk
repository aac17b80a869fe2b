# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/object/attrs.c \
	src/object/attrs.h \
	src/object/chunks.c \
	src/object/chunks.h \
	src/object/geometry.c \
	src/object/geometry.h \
	src/object/header.c \
	src/object/header.h \
	src/object/names.c \
	src/object/names.h \
	src/object/s3ec.c \
	src/object/s3ec.h \
	src/object/s3ec_body.c \
	src/object/s3ec_body.h \
	src/object/s3ec_keys.c \
	src/object/s3ec_keys.h \
	src/object/trailer.c \
	src/object/trailer.h \
	src/object/volume.c \
	src/object/volume.h \
	src/object/volume_body.c \
	src/object/volume_edit.c \
	src/object/volume_epochs.c \
	src/object/volume_kms.c \
	src/object/volume_kms.h \
	src/object/volume_private.h \
	src/object/volume_slots.c \
	src/object/xattrs.c \
	src/object/xattrs.h
