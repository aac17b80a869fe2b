/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl links: counts the names of files that have several, and removes what has none. */
#include "cli/ctl.h"

#include <errno.h>
#include <stdio.h>

#include "cli/access.h"
#include "cli/cli.h"
#include "cli/ctl_rekey.h"
#include "engine/sweep.h"

static void tell(void *arg, const char *key, const char *what)
{
	(void)arg;
	s3c_ctl_print_name(key);
	printf(": %s\n", what);
}

static void print_counts(const struct s3c_sweep_counts *c, bool dry_run)
{
	printf("%llu objects, %llu files with %llu names; %s%llu counts put right, %llu without a "
	       "name removed, %llu wait",
	       (unsigned long long)c->objects, (unsigned long long)c->bodies,
	       (unsigned long long)c->names, dry_run ? "would be: " : "",
	       (unsigned long long)c->counted, (unsigned long long)c->removed,
	       (unsigned long long)c->waiting);
	if (c->broken)
		printf("; %llu names without a file", (unsigned long long)c->broken);
	if (c->failed)
		printf("; %llu skipped, nothing was removed", (unsigned long long)c->failed);
	putchar('\n');
}

int s3c_ctl_links(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	struct s3c_sweep_request request = {
		.dry_run = ctl->dry_run,
		.grace_s = ctl->grace_s,
		.tell = tell,
	};
	struct s3c_sweep_counts counts = { 0 };
	struct s3c_err err = { 0 };
	int r = s3c_ctl_open_beside(ctl, &ctl->source, &access, &err);

	if (r == 0) {
		r = s3c_engine_sweep_links(access.engine, NULL, &request, &counts);
		if (r == -EXDEV)
			s3c_err_set(&err, r,
				    "names may be anywhere in the volume: give its whole prefix "
				    "as SOURCE");
	}
	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_FAILED;
	}
	print_counts(&counts, ctl->dry_run);
	return counts.failed || counts.broken ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}
