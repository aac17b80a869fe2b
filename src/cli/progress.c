/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define LINE_S 5.0         /* between two lines */
#define BAR_WIDTH 30       /* characters */
#define ITEM_BYTES 4096ull /* what a file or name counts beside its bytes */

const char *s3c_size_text(uint64_t bytes, char text[static S3C_SIZE_TEXT])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(text, S3C_SIZE_TEXT, "%u B", (unsigned)bytes);
		return text;
	}
	for (value /= 1024; value >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
		value /= 1024;
	snprintf(text, S3C_SIZE_TEXT, "%.1f %s", value, units[unit]);
	return text;
}

const char *s3c_left_text(uint64_t files, uint64_t names, uint64_t bytes,
			  char text[static S3C_LEFT_TEXT])
{
	char size[S3C_SIZE_TEXT];

	s3c_size_text(bytes, size);
	if (names)
		snprintf(text, S3C_LEFT_TEXT, "%llu file%s, %llu name%s, %s",
			 (unsigned long long)files, files == 1 ? "" : "s",
			 (unsigned long long)names, names == 1 ? "" : "s", size);
	else
		snprintf(text, S3C_LEFT_TEXT, "%llu file%s, %s", (unsigned long long)files,
			 files == 1 ? "" : "s", size);
	return text;
}

void s3c_progress_begin(struct s3c_progress *progress)
{
	*progress = (struct s3c_progress){
		.terminal = isatty(STDERR_FILENO),
		.line_ns = s3c_clock_monotonic_ns(),
	};
}

static void show_bar(struct s3c_progress *progress, uint64_t left, const char *text)
{
	char bar[BAR_WIDTH + 1];
	unsigned done = 0;

	if (progress->most)
		done = (unsigned)((double)(progress->most - left) / (double)progress->most *
				  BAR_WIDTH);
	done = S3C_MIN(done, (unsigned)BAR_WIDTH);
	memset(bar, '#', done);
	memset(bar + done, '.', BAR_WIDTH - done);
	bar[BAR_WIDTH] = '\0';
	/* Back to the start of the line, and what is behind the new text goes. */
	fprintf(stderr, "\r[%s] %s left\033[K", bar, text);
	fflush(stderr);
	progress->shown = true;
}

void s3c_progress_left(struct s3c_progress *progress, uint64_t files, uint64_t names,
		       uint64_t bytes)
{
	uint64_t left = bytes + (files + names) * ITEM_BYTES;
	int64_t now = s3c_clock_monotonic_ns();
	char text[S3C_LEFT_TEXT];

	progress->most = S3C_MAX(progress->most, left);
	s3c_left_text(files, names, bytes, text);
	if (progress->terminal) {
		show_bar(progress, left, text);
	} else if (now - progress->line_ns >= (int64_t)(LINE_S * S3C_NSEC_PER_SEC) &&
		   left != progress->last) {
		fprintf(stderr, "%s left\n", text);
		progress->line_ns = now;
		progress->last = left;
	}
}

void s3c_progress_end(struct s3c_progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
