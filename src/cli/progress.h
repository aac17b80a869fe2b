/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * How far a long command has come, on standard error: a bar on a terminal, elsewhere a line now
 * and then. One thread, or one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct s3c_progress {
	bool terminal;
	bool shown;                /* a bar is in the line */
	uint64_t most;             /* that was left at any time */
	int64_t begun_ns, line_ns; /* when the last line was printed, or the bar drawn */
	uint64_t last;
};
void s3c_progress_begin(struct s3c_progress *progress);
/* What is left. */
void s3c_progress_left(struct s3c_progress *progress, uint64_t files, uint64_t names,
		       uint64_t bytes);
/*
 * So many of total are done, with rate and time left; total may still grow until it is known. A
 * call may come from any thread, one at a time.
 */
void s3c_progress_done(struct s3c_progress *progress, uint64_t done, uint64_t total, bool known);
/* Takes the bar away. */
void s3c_progress_end(struct s3c_progress *progress);

/* "12.5 MiB" in text of 32 bytes, which is returned. */
#define S3C_SIZE_TEXT 32
const char *s3c_size_text(uint64_t bytes, char text[static S3C_SIZE_TEXT]);
/* "3 files, 1 name, 12.5 MiB"; text of S3C_LEFT_TEXT bytes, which is returned. */
#define S3C_LEFT_TEXT 128
const char *s3c_left_text(uint64_t files, uint64_t names, uint64_t bytes,
			  char text[static S3C_LEFT_TEXT]);
