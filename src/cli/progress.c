/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define LINE_S 5.0         /* between two lines */
#define DRAW_S 0.1         /* between two bars that tell a rate */
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
		.begun_ns = s3c_clock_monotonic_ns(),
		.line_ns = s3c_clock_monotonic_ns(),
	};
}

/* share: of all that is to be done, 0 to 1. */
static void show_bar(struct s3c_progress *progress, double share, const char *text)
{
	char bar[BAR_WIDTH + 1];
	unsigned done = S3C_MIN((unsigned)(share * BAR_WIDTH), (unsigned)BAR_WIDTH);

	memset(bar, '#', done);
	memset(bar + done, '.', BAR_WIDTH - done);
	bar[BAR_WIDTH] = '\0';
	/* Back to the start of the line, and what is behind the new text goes. */
	fprintf(stderr, "\r[%s] %s\033[K", bar, text);
	fflush(stderr);
	progress->shown = true;
}

void s3c_progress_left(struct s3c_progress *progress, uint64_t files, uint64_t names,
		       uint64_t bytes)
{
	uint64_t left = bytes + (files + names) * ITEM_BYTES;
	int64_t now = s3c_clock_monotonic_ns();
	char text[S3C_LEFT_TEXT + sizeof(" left")];

	progress->most = S3C_MAX(progress->most, left);
	s3c_left_text(files, names, bytes, text);
	if (progress->terminal) {
		strcat(text, " left");
		show_bar(progress,
			 progress->most ? (double)(progress->most - left) / (double)progress->most
					: 0,
			 text);
	} else if (now - progress->line_ns >= (int64_t)(LINE_S * S3C_NSEC_PER_SEC) &&
		   left != progress->last) {
		fprintf(stderr, "%s left\n", text);
		progress->line_ns = now;
		progress->last = left;
	}
}

void s3c_progress_done(struct s3c_progress *progress, uint64_t done, uint64_t total, bool known)
{
	int64_t now = s3c_clock_monotonic_ns();
	double seconds = (double)(now - progress->begun_ns) / S3C_NSEC_PER_SEC;
	double rate = seconds > 0 ? (double)done / seconds : 0;
	uint64_t left = known && rate > 0 ? (uint64_t)((double)(total - done) / rate) : 0;
	double pause = progress->terminal ? DRAW_S : LINE_S;
	char text[128], end[32] = "";

	if (now - progress->line_ns < (int64_t)(pause * S3C_NSEC_PER_SEC))
		return;
	progress->line_ns = now;
	if (known)
		snprintf(end, sizeof(end), ", %llu:%02u left", (unsigned long long)left / 60,
			 (unsigned)(left % 60));
	snprintf(text, sizeof(text), "%llu of %llu%s objects, %.0f/s%s", (unsigned long long)done,
		 (unsigned long long)total, known ? "" : "+", rate, end);
	if (progress->terminal)
		show_bar(progress, total ? (double)done / (double)total : 0, text);
	else
		fprintf(stderr, "%s\n", text);
}

void s3c_progress_end(struct s3c_progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
