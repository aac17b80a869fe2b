/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The way from options and a source to a running engine, step by step; a mount
 * and a command take the same one. Each step needs those before it and says in a
 * sentence what is wrong.
 *
 *	keys    the keyring, where the mode has one, and KMS keys that are named
 *	store   the object store; nothing is sent yet
 *	state   local folders, the journal and its lock
 *	probe   is the store there, does it do what the mode needs
 *	volume  which volume is there, do our keys open it
 *	journal what is acknowledged and not stored may be kept, and what was is read
 *	cache
 *	engine
 *	recover what an earlier daemon left in the journal
 *
 * One thread.
 */
#pragma once

#include "cli/options.h"
#include "cli/source.h"
#include "db/cache.h"

#define S3C_ACCESS_MADE_MAX 32

struct s3c_access {
	const struct s3c_options *options; /* borrowed */
	const struct s3c_source *from;     /* borrowed */
	bool read_only;
	bool look;     /* a command that looks: no lock, no local folder, no spill kept */
	bool beside;   /* a command that writes to the store beside a mount: the same */
	bool existing; /* set after init: journal and volume have to be there, none is made */
	struct s3c_keyring *keyring;
	struct s3c_keyring **former; /* that it has replaced, see cli/reload.h */
	size_t former_count;
	struct s3c_kms *kms; /* where KMS keys are named */
	struct s3c_kms_keys *kms_keys;
	struct s3c_store *store; /* the engine's, once there is one */
	char *source;            /* names store and prefix in the journal */
	char *cache_dir, *state_dir;
	struct s3c_journal *journal;
	struct s3c_volume *volume; /* likewise */
	char *volume_prefix;
	char *probe_prefix; /* where the probe works; never what names=encrypted hides */
	bool unlocked;      /* the journal */
	struct s3c_cache *cache;
	struct s3c_engine *engine;
	struct s3c_recovery recovery; /* what was found */
	/* Folders that were made on the way; taken away again when no volume was reached. */
	char *made[S3C_ACCESS_MADE_MAX];
	unsigned made_count;
	bool keep;
};

/* Sets the borrowed fields; look: for a command that changes nothing here. */
void s3c_access_init(struct s3c_access *access, const struct s3c_options *options,
		     const struct s3c_source *from, bool look);
int s3c_access_keys(struct s3c_access *access, struct s3c_err *err);
/* create: a folder that is missing is made (s3cryptfsctl init). */
int s3c_access_store(struct s3c_access *access, bool create, struct s3c_err *err);
/* Waits, up to the timeout, for a predecessor that is unmounted and about to end. */
int s3c_access_state(struct s3c_access *access, struct s3c_err *err);
int s3c_access_probe(struct s3c_access *access, struct s3c_err *err);
/* force_init: also on a prefix that holds objects. */
int s3c_access_volume(struct s3c_access *access, bool force_init, struct s3c_err *err);
/*
 * Unlocks the journal, for what writes. A read-only mount does not: what waits there is counted,
 * for a warning.
 */
int s3c_access_journal(struct s3c_access *access, struct s3c_err *err, uint64_t *ret_waiting);
int s3c_access_cache(struct s3c_access *access, struct s3c_err *err);
int s3c_access_engine(struct s3c_access *access, struct s3c_err *err);
/* Takes up what is in the journal, with a log line; before the engine's first other call. */
int s3c_access_recover(struct s3c_access *access, struct s3c_err *err);
/* The volume object as it is stored; and one that was, put back. Instead of s3c_access_volume. */
int s3c_access_export(struct s3c_access *access, struct s3c_err *err, struct s3c_buf *ret_body);
int s3c_access_import(struct s3c_access *access, const struct s3c_buf *body, struct s3c_err *err);
/*
 * Beside a running engine: opens the volume by another keyring and gives its active key a slot.
 * Nothing is changed when it does not open it.
 */
int s3c_access_try_keyring(const struct s3c_access *access, const struct s3c_keyring *keyring,
			   struct s3c_err *err);
/* The volume has no slot for this key (or ARN) any more; it must not be the active one. listed: it
   may have none; else that is an error. */
int s3c_access_drop_key(struct s3c_access *access, const char *key_id, bool listed,
			struct s3c_err *err);
/* Before s3c_access_volume: a volume of sse-c becomes one of the family that the options name. */
int s3c_access_migrate(struct s3c_access *access, struct s3c_err *err, bool *ret_changed);
/* A new epoch, or the one that was begun, between s3c_access_volume and s3c_access_engine. */
int s3c_access_begin_epoch(struct s3c_access *access, struct s3c_err *err);
/* All epochs but the engine's newest go: no object names them. ret_dropped 0: there were none. */
int s3c_access_drop_epochs(struct s3c_access *access, struct s3c_err *err, size_t *ret_dropped);
/* Frees what there is, the engine (which commits) first. */
void s3c_access_close(struct s3c_access *access);
#define cleanup_access __attribute__((cleanup(s3c_access_close)))

/* True when path is dir or lies below it; both absolute and without symlinks as far as they exist.
 */
bool s3c_path_inside(const char *path, const char *dir);
