/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl fsck and du: commands that look at every object. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "cli/access.h"
#include "cli/cli.h"
#include "cli/control_wire.h"
#include "cli/ctl.h"
#include "cli/ctl_rekey.h"
#include "cli/progress.h"
#include "engine/fsck.h"

#define OBJECTS_AT_ONCE 64u /* for sizes: a request each, of some tens of ms */
#define TOLD_MAX 100000u    /* findings in the JSON */

#define json_u64(n) json_integer((json_int_t)S3C_MIN((uint64_t)(n), (uint64_t)INT64_MAX))

struct telling {
	struct s3c_progress progress;
	bool json;
	json_t *findings;
	uint64_t unlisted;
	bool no_memory;
};

static int fail(struct s3c_ctl *ctl, struct s3c_err *err, int r)
{
	s3c_ctl_complain(ctl, err, r);
	return S3C_EXIT_FAILED;
}

/* "90s", "30m", "12h", "7d" in nanoseconds; at least one second. */
static int parse_age(const char *text, int64_t *ret_ns)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	size_t len = strlen(text);
	int64_t seconds = 0;
	char digits[16];
	uint64_t n;

	for (size_t i = 0; len && i < ARRAY_LEN(units); i++)
		if (text[len - 1] == units[i].unit) {
			seconds = units[i].seconds;
			len--;
			break;
		}
	if (!seconds || !len || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, len);
	digits[len] = '\0';
	if (s3c_parse_u64(digits, 36500, &n) < 0 &&
	    (seconds != 1 || s3c_parse_u64(digits, UINT32_MAX, &n) < 0))
		return -EINVAL;
	if (!n)
		return -EINVAL;
	*ret_ns = (int64_t)n * seconds * S3C_NSEC_PER_SEC;
	return 0;
}

static const char *age_text(int64_t age_ns, char text[static 32])
{
	uint64_t s = (uint64_t)(age_ns / S3C_NSEC_PER_SEC);

	if (s >= 2 * 86400)
		snprintf(text, 32, "%llu days", (unsigned long long)(s / 86400));
	else if (s >= 2 * 3600)
		snprintf(text, 32, "%llu hours", (unsigned long long)(s / 3600));
	else if (s >= 120)
		snprintf(text, 32, "%llu minutes", (unsigned long long)(s / 60));
	else
		snprintf(text, 32, "%llu seconds", (unsigned long long)s);
	return text;
}

static void print_finding(const struct s3c_finding *f)
{
	char age[32];

	printf("%s: ", s3c_fsck_word(f->kind));
	if (f->path) {
		s3c_ctl_print_name(f->path[0] ? f->path : "/");
	} else {
		fputs("key ", stdout);
		s3c_ctl_print_name(f->key);
	}
	fputs(": ", stdout);
	s3c_ctl_print_name(f->why);
	if (f->age_ns >= 0)
		printf("; %s old", age_text(f->age_ns, age));
	if (f->repaired)
		fputs("; repaired", stdout);
	if (f->not_repaired)
		printf("; not repaired: %s", f->not_repaired);
	putchar('\n');
}

static void put_key(json_t *item, const char *key)
{
	json_t *text = json_string(key);

	/* Bytes that are no UTF-8: the path, in base64, has them. */
	if (text)
		json_object_set_new(item, "key", text);
}

static void list_finding(struct telling *t, const struct s3c_finding *f)
{
	json_t *item, *why = json_string(f->why);

	if (json_array_size(t->findings) >= TOLD_MAX) {
		json_decref(why);
		t->unlisted++;
		return;
	}
	item = json_pack("{s:s, s:b, s:b, s:o}", "kind", s3c_fsck_word(f->kind), "problem",
			 s3c_fsck_is_problem(f->kind), "repaired", f->repaired, "reason",
			 why ? why : json_string("?"));
	if (item)
		put_key(item, f->key);
	if (item && f->path && s3c_control_put_path(item, f->path) < 0)
		t->no_memory = true;
	if (item && f->age_ns >= 0)
		json_object_set_new(item, "age", json_integer(f->age_ns / S3C_NSEC_PER_SEC));
	if (item && f->not_repaired)
		json_object_set_new(item, "not_repaired", json_string(f->not_repaired));
	if (!item || json_array_append_new(t->findings, item) < 0)
		t->no_memory = true;
}

static void on_found(void *arg, const struct s3c_finding *finding)
{
	struct telling *t = arg;

	s3c_progress_end(&t->progress);
	if (t->json)
		list_finding(t, finding);
	else
		print_finding(finding);
}

static void on_progress(void *arg, const struct s3c_fsck_counts *counts)
{
	struct telling *t = arg;

	s3c_progress_done(&t->progress, counts->done, counts->found, counts->all_found);
}

static uint64_t count_problems(const struct s3c_fsck_counts *counts)
{
	uint64_t sum = 0;

	for (int kind = 0; kind < S3C_FSCK_KINDS; kind++)
		if (s3c_fsck_is_problem((enum s3c_fsck_kind)kind))
			sum += counts->findings[kind];
	return sum;
}

static void print_summary(const struct s3c_fsck_counts *counts, bool quick, double seconds)
{
	char size[S3C_SIZE_TEXT], stored[S3C_SIZE_TEXT];

	printf("%llu object%s, %s of content in %s, %s: %llu good",
	       (unsigned long long)counts->done, counts->done == 1 ? "" : "s",
	       s3c_size_text(counts->size, size), s3c_size_text(counts->stored, stored),
	       quick ? "metadata looked at" : "all of it verified",
	       (unsigned long long)counts->good);
	for (int kind = 0; kind < S3C_FSCK_KINDS; kind++)
		if (counts->findings[kind])
			printf(", %llu %s", (unsigned long long)counts->findings[kind],
			       s3c_fsck_word((enum s3c_fsck_kind)kind));
	if (counts->repaired)
		printf(", %llu repaired", (unsigned long long)counts->repaired);
	printf("; %.1f s\n", seconds);
}

static int print_json(struct s3c_ctl *ctl, struct telling *t, const struct s3c_fsck_counts *counts,
		      double seconds)
{
	json_t *kinds = json_object(), *answer;

	for (int kind = 0; kinds && kind < S3C_FSCK_KINDS; kind++)
		json_object_set_new(kinds, s3c_fsck_word((enum s3c_fsck_kind)kind),
				    json_u64(counts->findings[kind]));
	answer = json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:o, s:f}", "source",
			   ctl->source.text, "quick", ctl->quick, "objects", json_u64(counts->done),
			   "good", json_u64(counts->good), "bytes", json_u64(counts->size),
			   "stored_bytes", json_u64(counts->stored), "problems",
			   json_u64(count_problems(counts)), "repaired", json_u64(counts->repaired),
			   "counts", kinds, "findings", t->findings, "unlisted",
			   json_u64(t->unlisted), "seconds", seconds);
	if (!answer || t->no_memory) {
		json_decref(answer);
		return -ENOMEM;
	}
	json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(answer);
	return 0;
}

static int check_options(struct s3c_ctl *ctl, struct s3c_err *err, int64_t *ret_age_ns)
{
	if (!ctl->older)
		return 0;
	if (!ctl->repair)
		return s3c_err_set(err, -EINVAL,
				   "--older says which uploads --repair aborts: give both");
	if (parse_age(ctl->older, ret_age_ns) < 0)
		return s3c_err_set(err, -EINVAL,
				   "--older=%s is no age: a number with s, m, h or d, like 7d",
				   ctl->older);
	return 0;
}

int s3c_ctl_fsck(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	struct telling telling = { .json = ctl->json };
	struct s3c_fsck_counts counts = { 0 };
	struct s3c_fsck_request request = {
		.parallel = S3C_MAX(ctl->options.parallel, ctl->quick ? OBJECTS_AT_ONCE : 1u),
		.quick = ctl->quick,
		.repair = ctl->repair,
		.progress = on_progress,
		.found = on_found,
		.arg = &telling,
	};
	int64_t started = s3c_clock_monotonic_ns();
	struct s3c_err err = { 0 };
	char **paths = NULL;
	double seconds;
	int r = check_options(ctl, &err, &request.upload_age_ns);

	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_USAGE;
	}
	telling.findings = json_array();
	paths = s3c_ctl_clean_paths(ctl);
	if (!telling.findings || !paths)
		r = -ENOMEM;
	if (r == 0)
		r = ctl->repair ? s3c_ctl_open_beside(ctl, &ctl->source, &access, &err)
				: s3c_ctl_open_engine(ctl, &access, &err);
	if (r == 0) {
		request.paths = (const char *const *)paths;
		s3c_progress_begin(&telling.progress);
		r = s3c_engine_fsck(access.engine, &request, &counts);
		s3c_progress_end(&telling.progress);
		if (r == -ENOENT && counts.missing)
			s3c_err_set(&err, r, "%s: nothing is there", counts.missing);
	}
	s3c_ctl_free_paths(paths);
	seconds = (double)(s3c_clock_monotonic_ns() - started) / S3C_NSEC_PER_SEC;
	if (r == 0 && ctl->json)
		r = print_json(ctl, &telling, &counts, seconds);
	else if (r == 0)
		print_summary(&counts, ctl->quick, seconds);
	json_decref(telling.findings);
	if (r < 0)
		return fail(ctl, &err, r);
	return count_problems(&counts) ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}

static void on_unknown(void *arg, const char *key, const char *why)
{
	(void)arg;
	fflush(stdout);
	fputs("s3cryptfsctl: du: ", stderr);
	s3c_ctl_print_name_to(stderr, key);
	fputs(": ", stderr);
	s3c_ctl_print_name_to(stderr, why);
	fputc('\n', stderr);
}

static json_t *usage_json(const char *path, const struct s3c_usage *u)
{
	json_t *item =
		json_pack("{s:o, s:o, s:o, s:o, s:o}", "bytes", json_u64(u->size), "stored_bytes",
			  json_u64(u->stored), "files", json_u64(u->files), "directories",
			  json_u64(u->directories), "unknown", json_u64(u->unknown));

	if (item && s3c_control_put_path(item, path) < 0) {
		json_decref(item);
		return NULL;
	}
	return item;
}

static void print_usage_row(const char *path, const struct s3c_usage *u)
{
	char size[S3C_SIZE_TEXT], stored[S3C_SIZE_TEXT];

	printf("%11s %11s %9llu %9llu  ", s3c_size_text(u->size, size),
	       s3c_size_text(u->stored, stored), (unsigned long long)u->files,
	       (unsigned long long)u->directories);
	s3c_ctl_print_name(path[0] ? path : "/");
	putchar('\n');
}

int s3c_ctl_du(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	char **paths = s3c_ctl_clean_paths(ctl);
	json_t *rows = json_array();
	struct s3c_err err = { 0 };
	uint64_t unknown = 0;
	int r = paths && rows ? s3c_ctl_open_engine(ctl, &access, &err) : -ENOMEM;

	if (r == 0 && !ctl->json)
		printf("%11s %11s %9s %9s  %s\n", "size", "stored", "files", "folders", "path");
	for (int i = 0; r == 0 && i < S3C_MAX(ctl->arg_count, 1); i++) {
		const char *path = ctl->arg_count ? paths[i] : "";
		struct s3c_usage usage;

		r = s3c_engine_usage(access.engine, path,
				     S3C_MAX(OBJECTS_AT_ONCE, ctl->options.parallel), on_unknown,
				     NULL, &usage);
		if (r == 0 && path[0] && !usage.files && !usage.directories)
			r = s3c_err_set(&err, -ENOENT, "%s: nothing is there", path);
		if (r < 0)
			break;
		unknown += usage.unknown;
		if (!ctl->json)
			print_usage_row(path, &usage);
		else if (json_array_append_new(rows, usage_json(path, &usage)) < 0)
			r = -ENOMEM;
	}
	s3c_ctl_free_paths(paths);
	if (r == 0 && ctl->json) {
		json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
		putchar('\n');
	}
	json_decref(rows);
	if (r < 0)
		return fail(ctl, &err, r);
	return unknown ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}
