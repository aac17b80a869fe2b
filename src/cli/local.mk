# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/cli/access.c \
	src/cli/access.h \
	src/cli/cli.h \
	src/cli/control.c \
	src/cli/control.h \
	src/cli/control_commands.c \
	src/cli/control_private.h \
	src/cli/control_wire.c \
	src/cli/control_wire.h \
	src/cli/ctl.c \
	src/cli/ctl.h \
	src/cli/ctl_key.c \
	src/cli/ctl_mount.c \
	src/cli/ctl_recover.c \
	src/cli/ctl_rekey.c \
	src/cli/ctl_rekey.h \
	src/cli/ctl_store.c \
	src/cli/ctl_volume.c \
	src/cli/mount.c \
	src/cli/options.c \
	src/cli/options.h \
	src/cli/options_table.c \
	src/cli/options_table.h \
	src/cli/progress.c \
	src/cli/progress.h \
	src/cli/source.c \
	src/cli/source.h \
	src/cli/umount.c
