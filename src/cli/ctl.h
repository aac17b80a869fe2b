/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The commands of s3cryptfsctl. Each returns an exit code and has said what failed. */
#pragma once

#include <stdio.h>

#include "cli/options.h"
#include "cli/source.h"

struct s3c_ctl {
	const char *command;
	struct s3c_options options;
	struct s3c_source source; /* of commands on a store */
	char **args;              /* what follows it; NULL-terminated */
	int arg_count;
	bool long_list;          /* ls -l */
	bool recursive;          /* ls -R */
	uint64_t offset, length; /* cat: --offset, --length; UINT64_MAX: to the end */
	bool json;               /* --json */
	bool watch;              /* --watch */
	bool dry_run;            /* --dry-run */
	bool protect;            /* --passphrase */
	const char *to;          /* --to; NULL: not given */
	bool reencrypt;          /* --reencrypt */
	bool migrate;            /* --migrate */
	bool quick;              /* --quick */
	bool repair;             /* --repair */
	const char *older;       /* --older; NULL: not given */
	double grace_s;          /* --grace */
};

/* Prints "s3cryptfsctl: COMMAND: SENTENCE". */
void s3c_ctl_complain(const struct s3c_ctl *ctl, const struct s3c_err *err, int code);

/* To standard output, escaped: control characters of names would be commands to a terminal. */
void s3c_ctl_print_name(const char *name);

void s3c_ctl_print_name_to(FILE *out, const char *name);

/* "/a/b/" and "a/b" name the same. The caller frees. */
char *s3c_ctl_clean_path(const char *text);
/* Of all arguments, ended by NULL; NULL: no memory. Freed by the other. */
char **s3c_ctl_clean_paths(struct s3c_ctl *ctl);
void s3c_ctl_free_paths(char **paths);

struct s3c_access;
/* All steps up to an engine that reads; nothing is made or locked here. A sentence. */
int s3c_ctl_open_engine(struct s3c_ctl *ctl, struct s3c_access *access, struct s3c_err *err);

/* Is it a live mountpoint of ours? What looks like a bucket is none. */
bool s3c_ctl_is_mount(const char *text);
/* Adds the options that the mount was started with, from its process, and its source (the caller
   frees). A sentence. */
int s3c_ctl_mount_options(const char *mountpoint, struct s3c_options *options, char **ret_source,
			  struct s3c_err *err);

int s3c_ctl_key(struct s3c_ctl *ctl);
/* key retire ID SOURCE... */
int s3c_ctl_retire(struct s3c_ctl *ctl);
int s3c_ctl_rekey(struct s3c_ctl *ctl);
int s3c_ctl_volume(struct s3c_ctl *ctl);
int s3c_ctl_links(struct s3c_ctl *ctl);
int s3c_ctl_init(struct s3c_ctl *ctl);
int s3c_ctl_ls(struct s3c_ctl *ctl);
int s3c_ctl_stat(struct s3c_ctl *ctl);
int s3c_ctl_cat(struct s3c_ctl *ctl);
int s3c_ctl_fsck(struct s3c_ctl *ctl);
int s3c_ctl_du(struct s3c_ctl *ctl);
int s3c_ctl_recover(struct s3c_ctl *ctl);
int s3c_ctl_status(struct s3c_ctl *ctl);
int s3c_ctl_loglevel(struct s3c_ctl *ctl);
int s3c_ctl_sync(struct s3c_ctl *ctl);
int s3c_ctl_retry(struct s3c_ctl *ctl);
int s3c_ctl_discard(struct s3c_ctl *ctl);
int s3c_ctl_save(struct s3c_ctl *ctl);
