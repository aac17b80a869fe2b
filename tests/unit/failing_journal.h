/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A disk that fails under the journal of a daemon that lives on. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

/* What SQLite asks of the kernel for the journal, instead of libc's. */
static bool syncs_fail;
int fdatasync(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[S3C_MAX(n, (ssize_t)0)] = '\0';
	if (__atomic_load_n(&syncs_fail, __ATOMIC_RELAXED) && strstr(path, "journal.db")) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static void journal_fails(bool fails)
{
	__atomic_store_n(&syncs_fail, fails, __ATOMIC_RELAXED);
}
