# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
libs3cryptfs_a_SOURCES += \
	src/http/credentials.c \
	src/http/credentials.h \
	src/http/credentials_chain.c \
	src/http/credentials_container.c \
	src/http/credentials_fetch.c \
	src/http/credentials_imds.c \
	src/http/credentials_private.h \
	src/http/credentials_process.c \
	src/http/credentials_refresh.c \
	src/http/credentials_reply.c \
	src/http/credentials_sts.c \
	src/http/engine.c \
	src/http/engine.h \
	src/http/error.c \
	src/http/error.h \
	src/http/headers.c \
	src/http/http.h \
	src/http/mailbox.c \
	src/http/outcome.c \
	src/http/profile.c \
	src/http/profile.h \
	src/http/request.c \
	src/http/resolve.c \
	src/http/resolve.h \
	src/http/retry.c \
	src/http/retry.h \
	src/http/service.c \
	src/http/sigv4.c \
	src/http/sigv4.h \
	src/http/timers.c \
	src/http/transfer.c \
	src/http/watch.c \
	src/http/xml.c \
	src/http/xml.h
