# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/plugin/mounter.c \
	src/plugin/mounter.h \
	src/plugin/plugin.c \
	src/plugin/plugin.h \
	src/plugin/request.c \
	src/plugin/request.h \
	src/plugin/volume.c \
	src/plugin/volume.h

# What needs libmicrohttpd.
if VOLUME_PLUGIN
sbin_PROGRAMS += s3cryptfs-volume-plugin
endif
s3cryptfs_volume_plugin_CPPFLAGS = $(AM_CPPFLAGS) $(MICROHTTPD_CFLAGS)
s3cryptfs_volume_plugin_LDADD = $(S3C_LIBS) $(MICROHTTPD_LIBS)
s3cryptfs_volume_plugin_SOURCES = \
	src/plugin/main.c \
	src/plugin/server.c \
	src/plugin/server.h
