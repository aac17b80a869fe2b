/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The commands of s3cryptfsctl. Each returns an exit code and has said what failed. */
#pragma once

#include "cli/options.h"
#include "cli/source.h"

struct s3c_ctl {
	const char *command;
	struct s3c_options options;
	struct s3c_source source; /* of commands on a store */
	char **args;              /* what follows it; NULL-terminated */
	int arg_count;
	bool long_list; /* ls -l */
	bool json;      /* --json */
	bool dry_run;   /* --dry-run */
	bool protect;   /* --passphrase */
	const char *to; /* --to; NULL: not given */
	bool reencrypt; /* --reencrypt */
	bool migrate;   /* --migrate */
};

/* Prints "s3cryptfsctl: COMMAND: SENTENCE". */
void s3c_ctl_complain(const struct s3c_ctl *ctl, const struct s3c_err *err, int code);

/* To standard output, escaped: control characters of names would be commands to a terminal. */
void s3c_ctl_print_name(const char *name);

/* "/a/b/" and "a/b" name the same. The caller frees. */
char *s3c_ctl_clean_path(const char *text);

int s3c_ctl_key(struct s3c_ctl *ctl);
/* key retire ID SOURCE... */
int s3c_ctl_retire(struct s3c_ctl *ctl);
int s3c_ctl_rekey(struct s3c_ctl *ctl);
int s3c_ctl_volume(struct s3c_ctl *ctl);
int s3c_ctl_init(struct s3c_ctl *ctl);
int s3c_ctl_ls(struct s3c_ctl *ctl);
int s3c_ctl_stat(struct s3c_ctl *ctl);
int s3c_ctl_cat(struct s3c_ctl *ctl);
int s3c_ctl_recover(struct s3c_ctl *ctl);
int s3c_ctl_status(struct s3c_ctl *ctl);
int s3c_ctl_sync(struct s3c_ctl *ctl);
int s3c_ctl_retry(struct s3c_ctl *ctl);
int s3c_ctl_discard(struct s3c_ctl *ctl);
int s3c_ctl_save(struct s3c_ctl *ctl);
