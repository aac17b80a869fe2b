/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Runs a program that prints a secret, and takes what it prints.
 *
 * No shell is involved. The program gets this process's environment, /dev/null
 * as its input, no other open file, and a process group of its own, which is
 * killed when it does not end in time. Thread-safe.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/thread.h"

#define S3C_PROCESS_ARGS_MAX 256

/*
 * Cuts a command into words as a shell does: blanks part them, '...' and "..." hold together, a
 * backslash takes what follows as it is (within "..." before \ and " only). Nothing is expanded.
 * -EINVAL: an open quote, no word at all; -E2BIG.
 */
int s3c_process_split(const char *command, char ***ret_argv);
/* NULL is legal. */
void s3c_process_free_argv(char **argv);

/*
 * ret_text: what it printed, in secret memory, NUL-terminated; the caller frees it. Waits until
 * the program has ended, not for programs that it left behind. -ETIMEDOUT and -EINTR by op (which
 * may be NULL), -EMSGSIZE for more than max bytes (the program is killed), -EIO when it failed (the
 * sentence has its status and the first line of its standard error), else why it was not started.
 */
int s3c_process_run(char *const *argv, size_t max, struct s3c_op *op, struct s3c_err *err,
		    char **ret_text, size_t *ret_len);
/* The same with a program (found by PATH when it has no slash) that argv[0] names otherwise: one
   that looks at the name it was called by. */
int s3c_process_run_file(const char *file, char *const *argv, size_t max, struct s3c_op *op,
			 struct s3c_err *err, char **ret_text, size_t *ret_len);
