# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/key/context.c \
	src/key/context.h \
	src/key/keyring.c \
	src/key/keyring.h \
	src/key/keyring_edit.c \
	src/key/keyring_file.c \
	src/key/keyring_private.h \
	src/key/keyring_protect.c \
	src/key/keyring_source.c \
	src/key/keyring_source.h \
	src/key/passphrase.c \
	src/key/passphrase.h \
	src/key/kms.c \
	src/key/kms.h \
	src/key/kms_ahead.c \
	src/key/kms_json.c \
	src/key/kms_json.h \
	src/key/kms_kept.c \
	src/key/kms_keys.c \
	src/key/kms_keys.h \
	src/key/kms_private.h \
	src/key/kms_wrap.c \
	src/key/kms_wrap.h \
	src/key/unwrap.c \
	src/key/unwrap.h \
	src/key/wrap.c \
	src/key/wrap.h
