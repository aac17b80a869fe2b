/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The table of mount options; read by options.c alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum s3c_option_kind {
	S3C_OPTION_FLAG,        /* bool */
	S3C_OPTION_READ_WRITE,  /* takes ro back */
	S3C_OPTION_TEXT,        /* char *, owned */
	S3C_OPTION_PATH,        /* char *, owned, made absolute */
	S3C_OPTION_PLACE,       /* the same, or as it is: kernel:, credential:, fd: */
	S3C_OPTION_LOG,         /* a path, or one of two words */
	S3C_OPTION_SIZE,        /* uint64_t, with a suffix K, M, G, T */
	S3C_OPTION_NUMBER,      /* uint64_t */
	S3C_OPTION_UNSIGNED,    /* unsigned */
	S3C_OPTION_CHOICE,      /* int (an enum): a word's value */
	S3C_OPTION_BOOL_CHOICE, /* bool: a word's value */
	S3C_OPTION_SET,         /* unsigned: words joined by ':' */
	S3C_OPTION_VOLUME_ID,
	S3C_OPTION_UID,
	S3C_OPTION_GID,
	S3C_OPTION_UMASK,
	S3C_OPTION_CONFIG,
	S3C_OPTION_FUSE_FLAG,  /* passed to libfuse */
	S3C_OPTION_FUSE_VALUE, /* passed to libfuse with its value */
	S3C_OPTION_IGNORED,    /* means something to mount(8) or systemd, with or without a value */
};

enum s3c_option_group {
	S3C_GROUP_NONE,
	S3C_GROUP_ENCRYPTION,
	S3C_GROUP_STORE,
	S3C_GROUP_LOCAL,
	S3C_GROUP_BEHAVIOUR,
	S3C_GROUP_GENERIC,
};

struct s3c_choice {
	const char *word; /* NULL ends the list */
	int value;
	bool later; /* known, and not in this version */
};

struct s3c_option {
	const char *name; /* NULL ends the table; a '*' at the end stands for any rest */
	enum s3c_option_group group;
	enum s3c_option_kind kind;
	size_t offset;       /* in struct s3c_options */
	const char *metavar; /* NULL: a flag */
	const char *help;
	const char *preset; /* the default, parsed like a value; NULL: zero */
	const char *shown;  /* the default in words, where there is no preset */
	uint64_t min, max;  /* of numbers */
	const struct s3c_choice *choices;
	const char *later; /* why it is refused: not in this version */
};

extern const struct s3c_option s3c_option_table[];
extern const char *const s3c_option_group_titles[];

static inline bool s3c_option_is_flag(const struct s3c_option *option)
{
	return !option->metavar;
}
