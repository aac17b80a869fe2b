/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl rekey, and key retire: which key what is stored is under. */
#include "cli/ctl_rekey.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "engine/private.h" /* the volume's key in use */

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
	if (r == 0)
		r = s3c_access_volume(access, false, err);
	return r < 0 ? r : s3c_access_engine(access, err);
}

static void print_count(uint64_t count, const char *one, const char *many)
{
	if (count)
		printf(", %llu %s", (unsigned long long)count, count == 1 ? one : many);
}

static void print_summary(const struct s3c_rekey_counts *c, const char *key_id, double seconds)
{
	printf("%llu object%s: %llu brought under %s", (unsigned long long)c->done,
	       c->done == 1 ? "" : "s", (unsigned long long)c->changed, key_id);
	print_count(c->migrated, "encrypted that was not", "encrypted that were not");
	print_count(c->current, "was already", "were already");
	print_count(c->keyless, "has no data key", "have no data key");
	print_count(c->plain, "is not encrypted by s3cryptfs", "are not encrypted by s3cryptfs");
	print_count(c->foreign, "is of another client", "are of another client");
	print_count(c->gone, "was deleted meanwhile", "were deleted meanwhile");
	print_count(c->skipped, "was skipped", "were skipped");
	printf("; %.1f s\n", seconds);
}

/* The paths without slashes around them. The caller frees the array and its strings. */
static char **clean_paths(struct s3c_ctl *ctl)
{
	char **paths = calloc((size_t)ctl->arg_count + 1, sizeof(*paths));

	for (int i = 0; paths && i < ctl->arg_count; i++) {
		paths[i] = s3c_ctl_clean_path(ctl->args[i]);
		if (!paths[i])
			break;
	}
	return paths;
}

static void free_paths(char **paths)
{
	for (char **path = paths; path && *path; path++)
		free(*path);
	free(paths);
}

static int choose_key(struct s3c_ctl *ctl, const struct s3c_access *access, struct s3c_err *err,
		      const char **ret_id)
{
	const struct s3c_master_key *in_use = access->engine->volume->ssec_key, *key;

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
	return s3c_enc_family(ctl->options.enc) != S3C_FAMILY_PLAIN
		       ? 0
		       : s3c_err_set(err, -EOPNOTSUPP, "with enc=%s there are no keys of ours",
				     ctl->options.enc_name);
}

static int check_rekey(struct s3c_ctl *ctl, struct s3c_err *err)
{
	bool cse = s3c_enc_family(ctl->options.enc) == S3C_FAMILY_CSE;

	if (ctl->to && (ctl->reencrypt || ctl->migrate))
		return s3c_err_set(err, -EINVAL,
				   "what is encrypted anew comes under the active key: leave out "
				   "--to");
	if (ctl->migrate && !cse)
		return s3c_err_set(err, -EINVAL, "--migrate encrypts by enc=cse-key");
	/* Whoever asks for it knows that there are such objects. */
	if (ctl->migrate)
		ctl->options.accept |= S3C_ACCEPT_PLAIN;
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
		.parallel = S3C_MAX(OBJECTS_AT_ONCE, ctl->options.parallel),
		.progress = on_progress,
		.skip = on_skip,
		.arg = &telling,
	};
	int64_t started = s3c_clock_monotonic_ns();
	struct s3c_err err = { 0 };
	char **paths = clean_paths(ctl);
	int r = check_mode(ctl, &err);

	if (r == 0)
		r = check_rekey(ctl, &err);
	if (r == 0)
		r = s3c_ctl_open_beside(ctl, &ctl->source, &access, &err);
	if (r == 0)
		r = choose_key(ctl, &access, &err, &request.key_id);
	if (r == 0) {
		request.paths = (const char *const *)paths;
		s3c_progress_begin(&telling.progress);
		r = s3c_engine_rekey(access.engine, NULL, &request, &counts);
		s3c_progress_end(&telling.progress);
		print_summary(&counts, request.key_id,
			      (double)(s3c_clock_monotonic_ns() - started) / S3C_NSEC_PER_SEC);
	}
	free_paths(paths);
	if (r < 0)
		return fail(ctl, &err, r);
	return counts.skipped ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}

/* 0: nothing at this source needs the key, and its volume has no slot for it any more. */
static int retire_from(struct s3c_ctl *ctl, const struct s3c_source *source, const char *id,
		       struct s3c_err *err)
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
	r = s3c_access_drop_key(&access, id, err);
	if (r == 0)
		printf("%s: none of %llu objects needs the key %s\n", source->text,
		       (unsigned long long)counts.done, id);
	return r;
}

/* Of the keyring file itself: is it there to be taken out, and not the one that writes? */
static int check_old(const struct s3c_keyring_source *from, const char *id, struct s3c_err *err)
{
	cleanup_keyring struct s3c_keyring *keyring = NULL;
	const struct s3c_master_key *key;
	int r = s3c_keyring_open(from, err, &keyring);

	if (r < 0)
		return r;
	key = s3c_keyring_find(keyring, id);
	if (!key)
		return s3c_err_set(err, -ENOENT, "the keyring has no key %s", id);
	if (key->active)
		return s3c_err_set(err, -EBUSY,
				   "%s is the active key: make another one first, with: "
				   "s3cryptfsctl key rotate",
				   id);
	return 0;
}

int s3c_ctl_retire(struct s3c_ctl *ctl)
{
	const struct s3c_keyring_source from = s3c_options_keyring(&ctl->options);
	const char *id = ctl->args[1];
	struct s3c_err err = { 0 };
	int r = check_mode(ctl, &err);

	if (r == 0)
		r = check_old(&from, id, &err);
	for (int i = 2; r == 0 && i < ctl->arg_count; i++) {
		struct s3c_source source = { 0 };

		r = s3c_source_parse(ctl->args[i], &err, &source);
		if (r == 0)
			r = retire_from(ctl, &source, id, &err);
		s3c_source_free(&source);
	}
	if (r == 0)
		r = s3c_keyring_remove(&from, id, &err);
	if (r < 0)
		return fail(ctl, &err, r);
	printf("the key %s is out of the keyring; copies of the old file still have it\n", id);
	return S3C_EXIT_OK;
}
