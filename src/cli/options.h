/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The mount options: one table says their names, kinds, defaults and help, and
 * --help, the parser and the test of the manual page all read it.
 *
 *	list   = option *( "," option )
 *	option = name [ "=" value ]		; "\," is a comma, "\\" a backslash
 *
 * config=FILE holds one option a line, without escapes; empty lines and lines
 * that begin with '#' are skipped. What is given by -o wins over the file.
 * Parsing happens before any thread exists.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "engine/engine.h"
#include "key/keyring_source.h"

#define S3C_FUSE_OPTIONS_MAX 64

struct s3c_options {
	/* encryption */
	const char *enc_name; /* the word that was given or the default; points into the table */
	enum s3c_enc enc;
	enum s3c_format format;
	unsigned accept; /* S3C_ACCEPT_*; 0: not given */
	bool rollback_deny;
	bool has_volume_id;
	uint8_t volume_id[S3C_VOLUME_ID_LEN];
	char *keyring; /* as struct s3c_keyring_source has it; NULL: the default */
	char *key_command, *passphrase_file;
	bool ssec_shared;
	/* NULL: for sse-kms the account's key for S3 */
	char *kms_key_id;
	char *kms_context;      /* as given, pairs; NULL: none */
	char *kms_context_json; /* the same, made by s3c_options_check */
	char *kms_endpoint, *kms_read_keys;
	unsigned kms_reuse, kms_cache;
	bool bucket_key;
	bool names_encrypted;

	/* store */
	char *endpoint, *region, *profile, *ca_file, *storage_class;
	enum s3c_addressing addressing;
	enum s3c_checksum checksum;
	bool allow_http, requester_pays;

	/* local state; NULL: the default folder */
	char *cache_dir, *state_dir;
	uint64_t cache_size, journal_size, memory;
	int cache_key; /* enum s3c_cache_key; before s3c_options_check also -1: by the mode */
	uint64_t ttl_s, timeout_s;
	bool consistency_open, excl_open, hardlinks;
	bool writeback, commit_fsync;
	unsigned parallel;
	unsigned retries; /* repeats of a request; UINT_MAX: the deadline decides */

	/* running */
	char *log; /* NULL: stderr in the foreground, else syslog */
	enum s3c_log_level log_level;
	char *audit;   /* NULL: none */
	char *metrics; /* as given; NULL: none */
	unsigned audit_rate;
	bool read_only;
	bool has_uid, has_gid, has_umask;
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool sloppy; /* unknown options are left out with a warning (mount -s) */
	bool help;   /* -o help */
	bool nosymfollow;
	bool remount;              /* change a mount that is there */
	uint64_t umount_timeout_s; /* 0: as long as something gets ahead */

	/* What libfuse gets: NULL-terminated, each owned. */
	char *fuse[S3C_FUSE_OPTIONS_MAX + 1];
	unsigned fuse_count;
};

/* Sets the defaults of the table. */
int s3c_options_init(struct s3c_options *options, struct s3c_err *err);
void s3c_options_free(struct s3c_options *options);
#define cleanup_options __attribute__((cleanup(s3c_options_free)))

/*
 * Takes one -o argument; later ones win. config=FILE is read at once, before the others of the
 * same list. A sentence for what is unknown (with the nearest name), malformed, or not in this
 * version.
 */
int s3c_options_parse(struct s3c_options *options, const char *list, struct s3c_err *err);
/* Checks what one option alone cannot: combinations. After the last parse. */
int s3c_options_check(struct s3c_options *options, struct s3c_err *err);

/* Where the keyring comes from; borrows from options. */
static inline struct s3c_keyring_source s3c_options_keyring(const struct s3c_options *options)
{
	return (struct s3c_keyring_source){
		.keyring = options->keyring,
		.command = options->key_command,
		.passphrase = options->passphrase_file,
	};
}

/* Was this flag given to be passed to libfuse? */
bool s3c_options_has_fuse(const struct s3c_options *options, const char *flag);

/* The table, for people: name, meaning, default. */
void s3c_options_print(FILE *out);

/* Number of insertions, deletions, replacements and swaps of neighbours that turn a into b. */
unsigned s3c_edit_distance(const char *a, const char *b);
/* May a name at that distance be what was meant? Less than half of it was to be written anew. */
static inline bool s3c_edit_is_near(const char *name, unsigned distance)
{
	return 2 * (size_t)distance < strlen(name);
}
