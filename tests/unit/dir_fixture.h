/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A folder of its own for each test that needs files; *state is its path. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

static inline int make_dir(void **state)
{
	char *dir = strdup("/tmp/s3cryptfs-keyring-XXXXXX");

	*state = dir;
	return dir && mkdtemp(dir) ? 0 : -1;
}

static inline int remove_dir(void **state)
{
	cleanup_free char *command = s3c_asprintf("rm -rf '%s'", (char *)*state);
	int r = system(command);

	free(*state);
	return r;
}

static inline char *write_file(const char *dir, const char *name, mode_t mode, const char *text)
{
	char *path = s3c_asprintf("%s/%s", dir, name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	return path;
}
