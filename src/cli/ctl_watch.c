/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl status --watch: what changes, once a second; see ctl_mount.c for status itself. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/ctl_mount.h"
#include "cli/progress.h"

#define PAUSE_MS 1000

static volatile sig_atomic_t ended;

static void on_end(int number)
{
	(void)number;
	ended = 1;
}

/* Escapes of a terminal, or nothing. */
struct look {
	bool terminal; /* drawn over itself */
	const char *bold, *red, *green, *plain;
};

/* https://no-color.org: set and not empty, whatever to. */
static struct look find_look(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	bool terminal = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
	bool color = terminal && (!no_color || !no_color[0]);

	return (struct look){
		.terminal = terminal,
		.bold = color ? "\033[1m" : "",
		.red = color ? "\033[31m" : "",
		.green = color ? "\033[32m" : "",
		.plain = color ? "\033[0m" : "",
	};
}

/* What was told at a moment. */
struct sample {
	int64_t at_ns;
	uint64_t files, names, bytes, failed, parked;
	uint64_t read, written, sent, received, requests, operations, kms;
	uint64_t hits, misses, integrity, refused;
};

static struct sample take(const json_t *answer)
{
	const json_t *p = json_object_get(answer, "pending");
	const json_t *c = json_object_get(answer, "counters");
	const json_t *cache = json_object_get(answer, "cache");

	return (struct sample){
		.at_ns = s3c_clock_monotonic_ns(),
		.files = s3c_ctl_number(p, "files"),
		.names = s3c_ctl_number(p, "names"),
		.bytes = s3c_ctl_number(p, "bytes"),
		.failed = s3c_ctl_number(p, "failed"),
		.parked = s3c_ctl_number(p, "parked"),
		.read = s3c_ctl_number(c, "read_bytes"),
		.written = s3c_ctl_number(c, "written_bytes"),
		.sent = s3c_ctl_number(c, "sent_bytes"),
		.received = s3c_ctl_number(c, "received_bytes"),
		.requests = s3c_ctl_number(c, "store_requests"),
		.operations = s3c_ctl_number(c, "operations"),
		.kms = s3c_ctl_number(c, "kms_requests"),
		.hits = s3c_ctl_number(cache, "hits"),
		.misses = s3c_ctl_number(cache, "misses"),
		.integrity = s3c_ctl_number(c, "integrity_failures"),
		.refused = s3c_ctl_number(c, "refused_objects"),
	};
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return seconds > 0 && now > before ? (double)(now - before) / seconds : 0;
}

static const char *speed(uint64_t now, uint64_t before, double seconds,
			 char text[static S3C_SIZE_TEXT])
{
	return s3c_size_text((uint64_t)rate(now, before, seconds), text);
}

/* A line a second, for a file or a pipe. */
static void print_line(const struct sample *s, const struct sample *before, double seconds)
{
	char left[S3C_LEFT_TEXT], a[S3C_SIZE_TEXT], b[S3C_SIZE_TEXT], c[S3C_SIZE_TEXT],
		d[S3C_SIZE_TEXT];

	printf("unsent %s, failed %llu, parked %llu; read %s/s, written %s/s; received %s/s, sent "
	       "%s/s, %.0f requests/s\n",
	       s3c_left_text(s->files, s->names, s->bytes, left), (unsigned long long)s->failed,
	       (unsigned long long)s->parked, speed(s->read, before->read, seconds, a),
	       speed(s->written, before->written, seconds, b),
	       speed(s->received, before->received, seconds, c),
	       speed(s->sent, before->sent, seconds, d),
	       rate(s->requests, before->requests, seconds));
	fflush(stdout);
}

#define ROW "%s%-22s%s "
#define TITLE(look, text) (look)->bold, (text), (look)->plain
#define END "\033[K\n"

static void print_sums(const struct look *look, const json_t *answer)
{
	const json_t *cache = json_object_get(answer, "cache");
	const json_t *journal = json_object_get(answer, "journal");
	const json_t *memory = json_object_get(answer, "memory");
	char a[S3C_SIZE_TEXT], b[S3C_SIZE_TEXT], c[S3C_SIZE_TEXT], d[S3C_SIZE_TEXT];

	printf(ROW "%s of %s" END, TITLE(look, "journal"),
	       s3c_size_text(s3c_ctl_number(journal, "bytes"), a),
	       s3c_size_text(s3c_ctl_number(journal, "limit"), b));
	printf(ROW "%s of %s" END, TITLE(look, "cache"),
	       s3c_size_text(s3c_ctl_number(cache, "bytes"), a),
	       s3c_size_text(s3c_ctl_number(cache, "limit"), b));
	printf(ROW "%s to be written, %s read, %s in transfers, of %s" END, TITLE(look, "memory"),
	       s3c_size_text(s3c_ctl_number(memory, "dirty"), a),
	       s3c_size_text(s3c_ctl_number(memory, "clean"), b),
	       s3c_size_text(s3c_ctl_number(memory, "transfers"), c),
	       s3c_size_text(s3c_ctl_number(memory, "limit"), d));
}

/* Over what was drawn before, and nothing below it. */
static void print_table(const struct look *look, const json_t *answer, const struct sample *s,
			const struct sample *before, double seconds)
{
	bool trouble = s->failed || s->parked;
	char left[S3C_LEFT_TEXT], a[S3C_SIZE_TEXT], b[S3C_SIZE_TEXT];
	uint64_t hits = s->hits - before->hits, misses = s->misses - before->misses;

	fputs("\033[H", stdout);
	printf("%s%s%s on %s, %s, process %llu" END END, look->bold, s3c_ctl_word(answer, "source"),
	       look->plain, s3c_ctl_word(answer, "mountpoint"), s3c_ctl_word(answer, "mode"),
	       (unsigned long long)s3c_ctl_number(answer, "pid"));
	if (s->files || s->names)
		printf(ROW "%s" END, TITLE(look, "not in the store"),
		       s3c_left_text(s->files, s->names, s->bytes, left));
	else
		printf(ROW "%snothing%s" END, TITLE(look, "not in the store"), look->green,
		       look->plain);
	printf(ROW "%s%llu failed, %llu parked%s" END, TITLE(look, ""), trouble ? look->red : "",
	       (unsigned long long)s->failed, (unsigned long long)s->parked,
	       trouble ? look->plain : "");
	printf(ROW "%10s/s read, %10s/s written" END, TITLE(look, "programs"),
	       speed(s->read, before->read, seconds, a),
	       speed(s->written, before->written, seconds, b));
	printf(ROW "%10s/s received, %10s/s sent" END, TITLE(look, "store"),
	       speed(s->received, before->received, seconds, a),
	       speed(s->sent, before->sent, seconds, b));
	printf(ROW "%.0f/s of programs, %.0f/s to the store, %.0f/s to the KMS" END,
	       TITLE(look, "requests"), rate(s->operations, before->operations, seconds),
	       rate(s->requests, before->requests, seconds), rate(s->kms, before->kms, seconds));
	printf(ROW "%llu found, %llu not" END, TITLE(look, "chunks in the cache"),
	       (unsigned long long)hits, (unsigned long long)misses);
	print_sums(look, answer);
	printf(ROW "%s%llu not authentic, %llu refused%s" END, TITLE(look, "objects"),
	       s->integrity || s->refused ? look->red : "", (unsigned long long)s->integrity,
	       (unsigned long long)s->refused, s->integrity || s->refused ? look->plain : "");
	fputs("\033[J", stdout);
	fflush(stdout);
}

/* Until the time is over, or a signal. */
static void pause_for(int64_t since_ns)
{
	int64_t left = since_ns + PAUSE_MS * S3C_NSEC_PER_MSEC - s3c_clock_monotonic_ns();

	if (left > 0 && !ended)
		poll(NULL, 0, (int)(left / S3C_NSEC_PER_MSEC));
}

int s3c_ctl_watch(struct s3c_ctl *ctl)
{
	const struct sigaction action = { .sa_handler = on_end };
	const struct look look = find_look();
	struct sample before = { 0 };
	bool first = true;
	int r = 0;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (look.terminal)
		fputs("\033[?25l\033[H\033[2J", stdout); /* the cursor goes, all is blank */
	while (!ended) {
		struct s3c_err err = { 0 };
		struct sample now;
		double seconds;
		json_t *answer;

		r = s3c_ctl_ask_status(ctl, &err, &answer);
		if (r < 0) {
			if (look.terminal)
				fputs("\033[?25h", stdout);
			s3c_ctl_complain(ctl, &err, r);
			return S3C_EXIT_FAILED;
		}
		now = take(answer);
		if (first)
			before = now;
		seconds = (double)(now.at_ns - before.at_ns) / (double)S3C_NSEC_PER_SEC;
		if (ctl->json) {
			json_object_del(answer, "ok");
			json_dumpf(answer, stdout, JSON_COMPACT | JSON_SORT_KEYS);
			putchar('\n');
			fflush(stdout);
		} else if (look.terminal) {
			print_table(&look, answer, &now, &before, seconds);
		} else {
			print_line(&now, &before, seconds);
		}
		json_decref(answer);
		if (ferror(stdout))
			return S3C_EXIT_FAILED;
		first = false;
		before = now;
		pause_for(now.at_ns);
	}
	if (look.terminal)
		fputs("\033[?25h", stdout);
	return S3C_EXIT_OK;
}
