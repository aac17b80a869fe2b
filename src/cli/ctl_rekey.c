/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl rekey, and key retire: which key what is stored is under. */
#include "cli/ctl_rekey.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/ctl_mount.h"
#include "cli/progress.h"
#include "engine/private.h" /* the volume's key in use */
#include "fuse/session.h"

#define OBJECTS_AT_ONCE 64u /* one has a request or two under way, of some tens of ms */

/* What the callbacks need. */
struct telling {
	struct s3c_progress progress;
};

static int fail(struct s3c_ctl *ctl, struct s3c_err *err, int r)
{
	s3c_ctl_complain(ctl, err, r);
	return S3C_EXIT_FAILED;
}

static void on_progress(void *arg, const struct s3c_rekey_counts *counts)
{
	struct telling *telling = arg;

	s3c_progress_done(&telling->progress, counts->done, counts->found, counts->all_found);
}

static void on_skip(void *arg, const char *key, const char *why)
{
	struct telling *telling = arg;

	s3c_progress_end(&telling->progress);
	fputs("skipped ", stdout);
	s3c_ctl_print_name(key);
	printf(": %s\n", why);
}

static int migrate_volume(struct s3c_access *access, struct s3c_err *err)
{
	bool changed = false;
	int r = s3c_access_migrate(access, err, &changed);

	if (changed)
		printf("the volume is one of enc=%s from now on: mount it so, and until all of it "
		       "is "
		       "migrated with accept=sealed:plain\n",
		       access->options->enc_name);
	return r;
}

int s3c_ctl_open_beside(struct s3c_ctl *ctl, const struct s3c_source *source,
			struct s3c_access *access, struct s3c_err *err)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (ctl->options.read_only)
		return s3c_err_set(err, -EINVAL, "this changes the store: leave out ro");
	s3c_access_init(access, &ctl->options, source, false);
	access->beside = true;
	access->existing = true;
	r = s3c_access_keys(access, err);
	if (r == 0)
		r = s3c_access_store(access, false, err);
	if (r == 0)
		r = s3c_access_state(access, err);
	if (r == 0)
		r = s3c_access_probe(access, err);
	if (r == 0 && ctl->migrate)
		r = migrate_volume(access, err);
	if (r == 0)
		r = s3c_access_volume(access, false, err);
	if (r == 0 && ctl->reencrypt)
		r = s3c_access_begin_epoch(access, err);
	return r < 0 ? r : s3c_access_engine(access, err);
}

static void print_count(uint64_t count, const char *one, const char *many)
{
	if (count)
		printf(", %llu %s", (unsigned long long)count, count == 1 ? one : many);
}

/* key_id NULL: a mode of the store. */
static void print_summary(const struct s3c_rekey_counts *c, const char *key_id,
			  const char *enc_name, double seconds)
{
	printf("%llu object%s: ", (unsigned long long)c->done, c->done == 1 ? "" : "s");
	if (key_id)
		printf("%llu brought under %s", (unsigned long long)c->changed, key_id);
	else
		printf("%llu brought to enc=%s", (unsigned long long)c->migrated, enc_name);
	print_count(key_id ? c->migrated : 0, "encrypted that was not", "encrypted that were not");
	print_count(c->current, "was already", "were already");
	print_count(c->keyless, "has no data key", "have no data key");
	print_count(c->plain, "is not encrypted by s3cryptfs", "are not encrypted by s3cryptfs");
	print_count(c->foreign, "is of another client", "are of another client");
	print_count(c->gone, "was deleted meanwhile", "were deleted meanwhile");
	print_count(c->skipped, "was skipped", "were skipped");
	printf("; %.1f s\n", seconds);
}

static int choose_key(struct s3c_ctl *ctl, const struct s3c_access *access, struct s3c_err *err,
		      const char **ret_id)
{
	const struct s3c_volume *volume = access->engine->volume;
	const struct s3c_master_key *in_use = volume ? volume->ssec_key : NULL, *key;

	if (!volume)
		return 0; /* a mode of the store */
	if (!ctl->to && access->kms_keys && s3c_kms_keys_writes(access->kms_keys)) {
		*ret_id = s3c_kms_keys_active(access->kms_keys);
		return 0;
	}
	key = ctl->to  ? s3c_keyring_find(access->keyring, ctl->to)
	      : in_use ? in_use
		       : s3c_keyring_active(access->keyring);

	if (!key)
		return s3c_err_set(err, -ENOKEY, "the keyring has no key %s",
				   ctl->to ? ctl->to : "that is active");
	if (in_use && key != in_use)
		return s3c_err_set(err, -EINVAL,
				   "with enc=sse-c objects come under the key in use, which is %s: "
				   "make %s the active one",
				   in_use->id, key->id);
	if (!in_use && (key->secret_len != S3C_KEY_LEN || key->ssec_shared))
		return s3c_err_set(err, -EINVAL,
				   "the key %s cannot wrap: that takes a key of 32 bytes without "
				   "'use = sse-c'",
				   key->id);
	*ret_id = key->id;
	return 0;
}

static int check_mode(struct s3c_ctl *ctl, struct s3c_err *err)
{
	return ctl->migrate || s3c_enc_family(ctl->options.enc) != S3C_FAMILY_PLAIN
		       ? 0
		       : s3c_err_set(
				 err, -EOPNOTSUPP,
				 "with enc=%s there are no keys of ours; rekey --migrate brings "
				 "what is stored to this mode",
				 ctl->options.enc_name);
}

static int check_rekey(struct s3c_ctl *ctl, struct s3c_err *err)
{
	bool cse = s3c_enc_family(ctl->options.enc) == S3C_FAMILY_CSE;

	if (ctl->reencrypt && !cse)
		return s3c_err_set(
			err, -EOPNOTSUPP,
			"with enc=%s there are no data keys of ours to draw anew: make a "
			"new key with s3cryptfsctl key rotate, and rekey brings "
			"everything under it",
			ctl->options.enc_name);
	if (ctl->to && (ctl->reencrypt || ctl->migrate))
		return s3c_err_set(err, -EINVAL,
				   "what is encrypted anew comes under the active key: leave out "
				   "--to");
	/* Whoever asks for it knows that there are such objects. */
	if (ctl->migrate)
		ctl->options.accept |= S3C_ACCEPT_PLAIN;
	return 0;
}

/* All of the volume, and not a part of it? */
static bool is_whole(const struct s3c_ctl *ctl, const struct s3c_access *access)
{
	return !ctl->arg_count && access->volume_prefix &&
	       strcmp(access->volume_prefix, ctl->source.prefix) == 0;
}

/*
 * After a run with --reencrypt: the older epochs go where nothing can need them any more, and where
 * something may, a line tells when they can.
 */
static int finish_epoch(struct s3c_ctl *ctl, struct s3c_access *access,
			const struct s3c_rekey_counts *counts, int64_t started_s,
			struct s3c_err *err)
{
	const struct s3c_epoch *newest = atomic_load(&access->engine->volume->newest);
	int64_t from_s = newest->begun_s + S3C_EPOCH_GRACE_S;
	size_t dropped = 0;
	char when[64] = "";
	time_t t = from_s;
	struct tm tm;
	int r;

	if (!newest->older)
		return 0;
	if (is_whole(ctl, access) && !counts->skipped && !counts->older && started_s >= from_s) {
		r = s3c_access_drop_epochs(access, err, &dropped);
		if (r == 0 && dropped)
			printf("epoch %u is finished: the former volume key%s out of the volume "
			       "object\n",
			       newest->number, dropped == 1 ? " is" : "s are");
		return r;
	}
	if (gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M UTC", &tm);
	printf("epoch %u is not finished: former volume keys stay in the volume object until rekey "
	       "--reencrypt of all of it finds nothing that needs them, begun at %s or later\n",
	       newest->number, when);
	return 0;
}

/* One with a mistake in it would be brought under the key for ever, and its objects never. */
static int check_paths(struct s3c_access *access, char **paths, struct s3c_err *err)
{
	struct s3c_info info;

	for (; *paths; paths++)
		if (**paths && s3c_engine_lookup(access->engine, NULL, *paths, &info) == -ENOENT)
			return s3c_err_set(err, -ENOENT, "%s: nothing is there", *paths);
	return 0;
}

int s3c_ctl_rekey(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	struct telling telling = { 0 };
	struct s3c_rekey_counts counts = { 0 };
	struct s3c_rekey_request request = {
		.what = ctl->reencrypt ? S3C_REKEY_REENCRYPT : S3C_REKEY_REWRAP,
		.migrate = ctl->migrate,
		.sse_key_id = ctl->options.kms_key_id,
		.parallel = S3C_MAX(OBJECTS_AT_ONCE, ctl->options.parallel),
		.progress = on_progress,
		.skip = on_skip,
		.arg = &telling,
	};
	int64_t started_s = s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC;
	int64_t started = s3c_clock_monotonic_ns();
	struct s3c_err err = { 0 };
	char **paths = s3c_ctl_clean_paths(ctl);
	int r = check_mode(ctl, &err);

	if (r == 0)
		r = check_rekey(ctl, &err);
	if (r == 0)
		r = s3c_ctl_open_beside(ctl, &ctl->source, &access, &err);
	if (r == 0)
		r = choose_key(ctl, &access, &err, &request.key_id);
	if (r == 0) {
		r = check_paths(&access, paths, &err);
	}
	if (r == 0) {
		request.paths = (const char *const *)paths;
		s3c_progress_begin(&telling.progress);
		r = s3c_engine_rekey(access.engine, NULL, &request, &counts);
		s3c_progress_end(&telling.progress);
		print_summary(&counts, request.key_id, ctl->options.enc_name,
			      (double)(s3c_clock_monotonic_ns() - started) / S3C_NSEC_PER_SEC);
		if (r == 0 && ctl->reencrypt)
			r = finish_epoch(ctl, &access, &counts, started_s, &err);
	}
	s3c_ctl_free_paths(paths);
	if (r < 0)
		return fail(ctl, &err, r);
	return counts.skipped ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}

/* 0: nothing at this source needs the key, and its volume has no slot for it any more. */
static int retire_from(struct s3c_ctl *ctl, const struct s3c_source *source, const char *id,
		       bool listed, struct s3c_err *err)
{
	cleanup_access struct s3c_access access = { 0 };
	struct telling telling = { 0 };
	struct s3c_rekey_counts counts = { 0 };
	struct s3c_rekey_request request = {
		.what = S3C_REKEY_COUNT,
		.key_id = id,
		.parallel = S3C_MAX(OBJECTS_AT_ONCE, ctl->options.parallel),
		.progress = on_progress,
		.skip = on_skip,
		.arg = &telling,
	};
	int r = s3c_ctl_open_beside(ctl, source, &access, err);

	if (r < 0)
		return r;
	/* The volume's slot and the keyring's section are those of all of it. */
	if (access.volume_prefix && strcmp(access.volume_prefix, source->prefix) != 0)
		return s3c_err_set(err, -EINVAL,
				   "%s is only a part of the volume at prefix '%s', whose other "
				   "objects may need the key %s: name all of it",
				   source->text, access.volume_prefix, id);
	s3c_progress_begin(&telling.progress);
	r = s3c_engine_rekey(access.engine, NULL, &request, &counts);
	s3c_progress_end(&telling.progress);
	if (r < 0)
		return r;
	if (counts.needing)
		return s3c_err_set(err, -EBUSY,
				   "%llu object%s in %s still need%s the key %s: bring them under "
				   "the active key with: s3cryptfsctl rekey",
				   (unsigned long long)counts.needing,
				   counts.needing == 1 ? "" : "s", source->text,
				   counts.needing == 1 ? "s" : "", id);
	if (counts.skipped)
		return s3c_err_set(
			err, -EBUSY,
			"%llu object%s in %s could not be looked at (see above), and may "
			"need the key %s",
			(unsigned long long)counts.skipped, counts.skipped == 1 ? "" : "s",
			source->text, id);
	if (counts.foreign)
		return s3c_err_set(
			err, -EBUSY,
			"%llu object%s in %s of other S3 encryption clients may need the "
			"key %s: if they do not, take its section out of the keyring by "
			"hand",
			(unsigned long long)counts.foreign, counts.foreign == 1 ? "" : "s",
			source->text, id);
	r = s3c_access_drop_key(&access, id, listed, err);
	if (r == 0)
		printf("%s: none of %llu objects needs the key %s\n", source->text,
		       (unsigned long long)counts.done, id);
	return r;
}

/*
 * Of the keyring file itself: is it there to be taken out, and not the one that writes? A KMS key,
 * by its ARN, is in none; ret_listed tells.
 */
static int check_old(const struct s3c_keyring_source *from, const char *id, struct s3c_err *err,
		     bool *ret_listed)
{
	cleanup_keyring struct s3c_keyring *keyring = NULL;
	const struct s3c_master_key *key;
	int r;

	*ret_listed = false;
	if (strncmp(id, "arn:", 4) == 0)
		return 0;
	r = s3c_keyring_open(from, err, &keyring);
	if (r < 0)
		return r;
	key = s3c_keyring_find(keyring, id);
	/* One that is in the volume alone: of another machine's keyring. */
	if (!key)
		return s3c_key_id_valid(id) ? 0
					    : s3c_err_set(err, -EINVAL, "%s is no id of a key", id);
	*ret_listed = true;
	if (key->active)
		return s3c_err_set(err, -EBUSY,
				   "%s is the active key: make another one first, with: "
				   "s3cryptfsctl key rotate",
				   id);
	return 0;
}

/* A mount of this machine that still writes under the key. */
struct user {
	const struct s3c_source *source;
	const char *id;
	char *mountpoint; /* NULL: none was found */
	uint64_t pid;
};

/* Is one of the sources the other, or in it? */
static bool overlap(const char *a, const char *b)
{
	size_t len = S3C_MIN(strlen(a), strlen(b));

	while (len > 1 && a[len - 1] == '/')
		len--;
	return !strncmp(a, b, len) && (!a[len] || a[len] == '/') && (!b[len] || b[len] == '/');
}

static void look_at_mount(void *arg, const char *mountpoint)
{
	char *args[] = { (char *)mountpoint, NULL };
	struct s3c_ctl status = { .command = "status", .args = args, .arg_count = 1 };
	struct user *user = arg;
	struct s3c_err err = { 0 };
	json_t *answer = NULL;

	/* Of others, or dead. */
	if (user->mountpoint || s3c_ctl_ask_status(&status, &err, &answer) < 0)
		return;
	if (!strcmp(s3c_ctl_word(answer, "key"), user->id) &&
	    overlap(s3c_ctl_word(answer, "source"), user->source->text)) {
		user->mountpoint = strdup(mountpoint);
		user->pid = s3c_ctl_number(answer, "pid");
	}
	json_decref(answer);
}

/* What it writes after this could be read by nobody. */
static int check_mounts(const struct s3c_source *source, const char *id, struct s3c_err *err)
{
	struct user user = { .source = source, .id = id };
	int r = 0;

	s3c_mountpoint_each(look_at_mount, &user);
	if (user.mountpoint)
		r = s3c_err_set(err, -EBUSY,
				"the mount on %s still writes under the key %s: have it read the "
				"keyring again (kill -HUP %llu, or systemctl reload), rekey, and "
				"then retire the key",
				user.mountpoint, id, (unsigned long long)user.pid);
	free(user.mountpoint);
	return r;
}

int s3c_ctl_retire(struct s3c_ctl *ctl)
{
	const struct s3c_keyring_source from = s3c_options_keyring(&ctl->options);
	const char *id = ctl->args[1];
	struct s3c_err err = { 0 };
	bool listed = false;
	int r = check_mode(ctl, &err);

	if (r == 0)
		r = check_old(&from, id, &err, &listed);
	for (int i = 2; r == 0 && i < ctl->arg_count; i++) {
		struct s3c_source source = { 0 };

		r = s3c_source_parse(ctl->args[i], &err, &source);
		if (r == 0)
			r = check_mounts(&source, id, &err);
		if (r == 0)
			r = retire_from(ctl, &source, id, listed, &err);
		s3c_source_free(&source);
	}
	if (r == 0 && listed)
		r = s3c_keyring_remove(&from, id, &err);
	if (r < 0)
		return fail(ctl, &err, r);
	if (listed)
		printf("the key %s is out of the keyring; copies of the old file still have it\n",
		       id);
	return S3C_EXIT_OK;
}
