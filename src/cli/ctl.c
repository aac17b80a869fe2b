/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"
#include "base/util.h"
#include "cli/cli.h"

/* Flags of some commands. */
#define TAKES_LONG 1u
#define TAKES_JSON 2u
#define TAKES_DRY_RUN 4u
#define TAKES_PASSPHRASE 8u
#define TAKES_REKEY 16u
#define TAKES_FSCK 32u
#define TAKES_WATCH 64u
#define OPTIONS_MAX 64 /* lists given by -o */
#define TAKES_RANGE 128u
#define TAKES_GRACE 256u
#define GRACE_S 86400.0 /* default */
#define GRACE_MAX_S (UINT64_C(366) * 86400)

struct command {
	const char *name;
	int (*run)(struct s3c_ctl *ctl); /* NULL: not in this version */
	const char *usage;
	const char *help;
	bool on_store; /* SOURCE comes first */
	int min, max;  /* arguments, after it; max -1: any number */
	unsigned takes;
};

static const struct command commands[] = {
	{ "init", s3c_ctl_init, "[-o OPTION,...] SOURCE",
	  "make the volume, also where objects are already", true, 0, 0, 0 },
	{ "ls", s3c_ctl_ls, "[-lR] [-o OPTION,...] SOURCE [PATH...]",
	  "list folders; -l: with attributes, -R: and all below them", true, 0, -1, TAKES_LONG },
	{ "stat", s3c_ctl_stat, "[-o OPTION,...] SOURCE PATH...",
	  "mode, key id, content version, sizes and ETag of objects", true, 1, -1, 0 },
	{ "cat", s3c_ctl_cat, "[--offset N] [--length N] [-o OPTION,...] SOURCE PATH...",
	  "decrypt objects, or a range of each, to standard output", true, 1, -1, TAKES_RANGE },
	{ "key", s3c_ctl_key,
	  "new|list|rotate|retire [-o OPTION,...] [--passphrase] [ID] [SOURCE...]",
	  "make a keyring with one key (new; --passphrase: protected by one), list its keys, make "
	  "a new key the active one (rotate), take one out that nothing in the sources needs "
	  "(retire)",
	  false, 1, -1, TAKES_PASSPHRASE },
	{ "rekey", s3c_ctl_rekey,
	  "[--to KEY | [--reencrypt] [--migrate]] [-o OPTION,...] SOURCE|MOUNTPOINT [PATH...]",
	  "wrap the data keys of what is stored under the active key, or KEY; or encrypt it anew; "
	  "and what is not encrypted; beside mounts, with whose options MOUNTPOINT does it",
	  true, 0, -1, TAKES_REKEY },
	{ "fsck", s3c_ctl_fsck,
	  "[--quick] [--repair [--older AGE]] [--json] [-o OPTION,...] SOURCE [PATH...]",
	  "verify every object: tags, seals, keys, names; list what is left over", true, 0, -1,
	  TAKES_FSCK | TAKES_JSON },
	{ "du", s3c_ctl_du, "[--json] [-o OPTION,...] SOURCE [PATH...]",
	  "sum up sizes, in plaintext and in the store", true, 0, -1, TAKES_JSON },
	{ "volume", s3c_ctl_volume, "export|import [-o OPTION,...] SOURCE FILE",
	  "copy the volume object, whose keys are wrapped, to a new file; put it back where it is "
	  "gone or damaged",
	  false, 3, 3, 0 },
	{ "links", s3c_ctl_links, "[-o OPTION,...] [--dry-run] [--grace SECONDS] SOURCE",
	  "count the names of files that have several (hard links), and remove what has had none "
	  "for a day, or so long; beside mounts",
	  true, 0, 0, TAKES_DRY_RUN | TAKES_GRACE },
	{ "recover", s3c_ctl_recover, "[-o OPTION,...] SOURCE [--dry-run]",
	  "send what a mount that ended left in the journal, or only list it", true, 0, 0,
	  TAKES_DRY_RUN },
	{ "status", s3c_ctl_status, "MOUNTPOINT [--watch] [--json]",
	  "what a mount has not stored yet, what failed, what it holds; --watch: once a second",
	  false, 1, 1, TAKES_JSON | TAKES_WATCH },
	{ "sync", s3c_ctl_sync, "MOUNTPOINT", "wait until everything is in the store", false, 1, 1,
	  0 },
	{ "loglevel", s3c_ctl_loglevel, "MOUNTPOINT [error|warn|info|debug]",
	  "how much a mount logs, or how much it logs from now on", false, 1, 2, 0 },
	{ "retry", s3c_ctl_retry, "MOUNTPOINT [PATH]", "try again now what failed or is parked",
	  false, 1, 2, 0 },
	{ "discard", s3c_ctl_discard, "MOUNTPOINT PATH",
	  "give up what is not stored: the store's version counts again", false, 2, 2, 0 },
	{ "save", s3c_ctl_save, "MOUNTPOINT PATH TO",
	  "copy a file, as this mount reads it, to a new local file", false, 3, 3, 0 },
	{ .name = "adopt" },
};

void s3c_ctl_complain(const struct s3c_ctl *ctl, const struct s3c_err *err, int code)
{
	fflush(stdout);
	fprintf(stderr, "s3cryptfsctl: %s: %s\n", ctl->command, s3c_err_text(err, code));
}

static void print_usage(FILE *out)
{
	fputs("usage: s3cryptfsctl COMMAND ...\n"
	      "\n"
	      "Works on mounts, and without a mount on stores and keyrings.\n"
	      "\n",
	      out);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (commands[i].run)
			fprintf(out, "  %s %s\n        %s\n", commands[i].name, commands[i].usage,
				commands[i].help);
	fputs("\n"
	      "SOURCE and OPTION are those of s3cryptfs; s3cryptfs --help lists them. A PATH on a\n"
	      "mount is relative to it, or absolute and below it.\n"
	      "  -h, --help     print this\n"
	      "  -V, --version  print the version\n"
	      "Exit: 0 good, 1 failed (status, fsck: something has, or was found), 2 wrong usage.\n"
	      "Not in this version:",
	      out);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (!commands[i].run)
			fprintf(out, " %s", commands[i].name);
	fputc('\n', out);
}

static int usage_error(const struct command *command, const char *text)
{
	if (command)
		fprintf(stderr, "s3cryptfsctl: %s; usage: s3cryptfsctl %s %s\n", text,
			command->name, command->usage);
	else
		fprintf(stderr, "s3cryptfsctl: %s (s3cryptfsctl --help tells the usage)\n", text);
	return S3C_EXIT_USAGE;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *best = "";
	unsigned least = ~0u;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		unsigned distance = s3c_edit_distance(name, commands[i].name);

		if (distance < least) {
			least = distance;
			best = commands[i].name;
		}
	}
	if (s3c_edit_is_near(name, least))
		fprintf(stderr,
			"s3cryptfsctl: unknown command '%s': did you mean '%s'? (--help lists "
			"all)\n",
			name, best);
	else
		fprintf(stderr, "s3cryptfsctl: unknown command '%s' (--help lists all)\n", name);
	return S3C_EXIT_USAGE;
}

static int parse_grace(struct s3c_ctl *ctl, const char *text, struct s3c_err *err)
{
	uint64_t seconds;

	if (s3c_parse_u64(text, GRACE_MAX_S, &seconds) < 0)
		return s3c_err_set(err, -EINVAL, "'%s' is no number of seconds up to a year", text);
	ctl->grace_s = (double)seconds;
	return 0;
}

/* What the mount was started with comes before what is given here. */
static int parse_source(struct s3c_ctl *ctl, const struct command *command, const char *text,
			char *const *lists, int count, struct s3c_err *err)
{
	cleanup_free char *source = NULL;
	int r = 0;

	if ((command->takes & TAKES_REKEY) && s3c_ctl_is_mount(text)) {
		s3c_options_free(&ctl->options);
		r = s3c_options_init(&ctl->options, err);
		if (r == 0)
			r = s3c_ctl_mount_options(text, &ctl->options, &source, err);
		ctl->options.sloppy = false;
		for (int i = 0; r == 0 && i < count; i++)
			r = s3c_options_parse(&ctl->options, lists[i], err);
		text = source;
	}
	if (r == 0)
		r = s3c_options_check(&ctl->options, err);
	return r < 0 ? r : s3c_source_parse(text, err, &ctl->source);
}

static int parse_bytes(uint64_t *field, const char *text, struct s3c_err *err)
{
	return s3c_parse_u64(text, INT64_MAX, field) < 0
		       ? s3c_err_set(err, -EINVAL, "'%s' is no number of bytes", text)
		       : 0;
}

/* One flag with its value in optarg. 1: the command does not take it. */
static int take_flag(struct s3c_ctl *ctl, const struct command *command, int c, struct s3c_err *err)
{
	if (c == 'o')
		return s3c_options_parse(&ctl->options, optarg, err);
	else if (c == 'h')
		ctl->options.help = true;
	else if (c == 'l' && (command->takes & TAKES_LONG))
		ctl->long_list = true;
	else if (c == 'R' && (command->takes & TAKES_LONG))
		ctl->recursive = true;
	else if ((c == 'A' || c == 'L') && (command->takes & TAKES_RANGE))
		return parse_bytes(c == 'A' ? &ctl->offset : &ctl->length, optarg, err);
	else if (c == 'j' && (command->takes & TAKES_JSON))
		ctl->json = true;
	else if (c == 'n' && (command->takes & TAKES_DRY_RUN))
		ctl->dry_run = true;
	else if (c == 'p' && (command->takes & TAKES_PASSPHRASE))
		ctl->protect = true;
	else if (c == 't' && (command->takes & TAKES_REKEY))
		ctl->to = optarg;
	else if ((c == 'w' || c == 'e') && (command->takes & TAKES_REKEY))
		ctl->reencrypt = c == 'e';
	else if (c == 'm' && (command->takes & TAKES_REKEY))
		ctl->migrate = true;
	else if (c == 'W' && (command->takes & TAKES_WATCH))
		ctl->watch = true;
	else if (c == 'q' && (command->takes & TAKES_FSCK))
		ctl->quick = true;
	else if (c == 'r' && (command->takes & TAKES_FSCK))
		ctl->repair = true;
	else if (c == 'O' && (command->takes & TAKES_FSCK))
		ctl->older = optarg;
	else if (c == 'g' && (command->takes & TAKES_GRACE))
		return parse_grace(ctl, optarg, err);
	else
		return 1;
	return 0;
}

static int parse(struct s3c_ctl *ctl, const struct command *command, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "passphrase", no_argument, NULL, 'p' },
		{ "to", required_argument, NULL, 't' },
		{ "rewrap", no_argument, NULL, 'w' },
		{ "reencrypt", no_argument, NULL, 'e' },
		{ "migrate", no_argument, NULL, 'm' },
		{ "watch", no_argument, NULL, 'W' },
		{ "offset", required_argument, NULL, 'A' },
		{ "length", required_argument, NULL, 'L' },
		{ "quick", no_argument, NULL, 'q' },
		{ "repair", no_argument, NULL, 'r' },
		{ "older", required_argument, NULL, 'O' },
		{ "grace", required_argument, NULL, 'g' },
		{ 0 },
	};
	char *lists[OPTIONS_MAX];
	struct s3c_err err = { 0 };
	int c, r, count = 0;

	ctl->length = UINT64_MAX;
	r = s3c_options_init(&ctl->options, &err);
	while (r == 0 && (c = getopt_long(argc, argv, "o:hlR", longs, NULL)) != -1) {
		if (c == 'o' && count == OPTIONS_MAX)
			return usage_error(command, "there are too many -o");
		if (c == 'o')
			lists[count++] = optarg;
		r = take_flag(ctl, command, c, &err);
		if (r > 0)
			return usage_error(command, "wrong usage");
	}
	if (r == 0 && ctl->options.help)
		return S3C_EXIT_OK;
	if (r == 0 && !command->on_store)
		r = s3c_options_check(&ctl->options, &err);
	if (r == 0 && command->on_store) {
		if (optind == argc)
			return usage_error(command, "SOURCE is missing");
		r = parse_source(ctl, command, argv[optind++], lists, count, &err);
	}
	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_USAGE;
	}
	ctl->args = argv + optind;
	ctl->arg_count = argc - optind;
	if (ctl->arg_count < command->min)
		return usage_error(command, "something is missing");
	if (command->max >= 0 && ctl->arg_count > command->max)
		return usage_error(command, "too many arguments");
	return S3C_EXIT_OK;
}

/* Sentences go to stderr anyway; of the log only what they do not tell. */
static int prepare(struct s3c_ctl *ctl)
{
	const struct s3c_options *o = &ctl->options;
	int r = 0;

	s3c_log_set_level(o->log_level == S3C_LOG_INFO ? S3C_LOG_WARN : o->log_level);
	if (o->log)
		r = s3c_log_open(o->log);
	if (r == 0)
		r = s3c_secret_init();
	if (r < 0)
		s3c_ctl_complain(ctl, NULL, r);
	return r;
}

int s3c_cli_ctl(int argc, char **argv)
{
	const struct command *command;
	struct s3c_ctl ctl = { .grace_s = GRACE_S };
	int status;

	if (argc < 2)
		return usage_error(NULL, "a command is missing");
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		print_usage(stdout);
		return fflush(stdout) ? S3C_EXIT_FAILED : S3C_EXIT_OK;
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		printf("s3cryptfsctl %s\n", PACKAGE_VERSION);
		return S3C_EXIT_OK;
	}
	command = find_command(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	if (!command->run) {
		fprintf(stderr, "s3cryptfsctl: %s is not in this version\n", command->name);
		return S3C_EXIT_USAGE;
	}
	ctl.command = command->name;
	status = parse(&ctl, command, argc - 1, argv + 1);
	if (status == S3C_EXIT_OK && ctl.options.help)
		printf("usage: s3cryptfsctl %s %s\n", command->name, command->usage);
	else if (status == S3C_EXIT_OK)
		status = prepare(&ctl) < 0 ? S3C_EXIT_FAILED : command->run(&ctl);
	s3c_options_free(&ctl.options);
	s3c_source_free(&ctl.source);
	if (fflush(stdout) && status == S3C_EXIT_OK) {
		s3c_ctl_complain(&ctl, NULL, -errno);
		status = S3C_EXIT_FAILED;
	}
	return status;
}
