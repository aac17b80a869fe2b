/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/access.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/secret.h"
#include "db/records.h"
#include "engine/private.h"
#include "fuse/session.h"
#include "object/header.h"

#define CAPS_MAX_AGE_S 86400 /* what a store honours is asked again after a day */
#define PROBE_MAX_S 60       /* a mount says sooner than a read that nobody answers */
#define LOCK_POLL_NS (100 * S3C_NSEC_PER_MSEC)

void s3c_access_init(struct s3c_access *access, const struct s3c_options *options,
		     const struct s3c_source *from, bool look)
{
	memset(access, 0, sizeof(*access));
	access->options = options;
	access->from = from;
	access->look = look;
	access->read_only = look || options->read_only;
}

static int64_t deadline_of(const struct s3c_access *access)
{
	return s3c_deadline_after((double)S3C_MIN(access->options->timeout_s, PROBE_MAX_S));
}

/* The region in an ARN is the key's, whatever the bucket's. The caller frees; NULL: no ARN. */
static char *arn_region(const char *key_id)
{
	const char *at = key_id;

	for (unsigned i = 0; at && i < 3; i++)
		at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL;
	return at && !strncmp(key_id, "arn:", 4) ? strndup(at, strcspn(at, ":")) : NULL;
}

static int open_kms(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_options *o = access->options;
	const char *some = o->kms_key_id ? o->kms_key_id : o->kms_read_keys;
	cleanup_free char *region = some ? arn_region(some) : NULL;
	const struct s3c_kms_config config = {
		.endpoint = o->kms_endpoint,
		.region = region ? region : o->region,
		.profile = o->profile,
		.ca_file = o->ca_file,
		.allow_http = o->allow_http,
		.retries = o->retries,
		.timeout_s = (double)o->timeout_s,
	};
	struct s3c_kms_keys_config keys = {
		.key_id = o->kms_key_id,
		.read_keys = o->kms_read_keys,
		.pairs = o->kms_context_json,
		.writes = o->enc == S3C_ENC_CSE_KMS && !access->read_only,
		.reuse = o->kms_reuse,
		.cache_s = o->kms_cache,
	};
	int r;

	if (!some || s3c_enc_family(o->enc) != S3C_FAMILY_CSE)
		return 0;
	r = s3c_kms_new(&config, err, &access->kms);
	keys.kms = access->kms;
	if (r == 0)
		r = s3c_kms_keys_new(&keys, err, &access->kms_keys);
	if (r == 0)
		access->keyring->kms = access->kms_keys;
	return r;
}

static int open_keyring(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_keyring_source source = s3c_options_keyring(access->options);

	/* With KMS keys one is only read where it is named. */
	if (access->options->enc == S3C_ENC_CSE_KMS && !source.keyring && !source.command) {
		access->keyring = s3c_keyring_empty();
		return access->keyring ? 0 : -ENOMEM;
	}
	return s3c_keyring_open(&source, err, &access->keyring);
}

int s3c_access_keys(struct s3c_access *access, struct s3c_err *err)
{
	int r;

	if (s3c_enc_family(access->options->enc) == S3C_FAMILY_PLAIN)
		return 0;
	r = open_keyring(access, err);
	return r < 0 ? r : open_kms(access, err);
}

static enum s3c_sse sse_of(enum s3c_enc enc)
{
	switch (enc) {
	case S3C_ENC_SSE_S3:
		return S3C_SSE_S3;
	case S3C_ENC_SSE_KMS:
		return S3C_SSE_KMS;
	case S3C_ENC_DSSE_KMS:
		return S3C_SSE_DSSE;
	default:
		return S3C_SSE_NONE;
	}
}

int s3c_access_store(struct s3c_access *access, bool create, struct s3c_err *err)
{
	const struct s3c_options *o = access->options;
	int r;

	if (access->from->dir && sse_of(o->enc))
		return s3c_err_set(err, -EOPNOTSUPP,
				   "enc=%s asks an S3 service to encrypt, and %s is a folder: use "
				   "enc=cse-key",
				   o->enc_name, access->from->text);
	if (access->from->dir) {
		r = s3c_store_file_new(access->from->dir,
				       access->read_only ? S3C_FILE_READ
				       : create          ? S3C_FILE_CREATE
							 : S3C_FILE_WRITE,
				       err, &access->store);
	} else {
		const struct s3c_store_s3_config config = {
			.bucket = access->from->bucket,
			.endpoint = o->endpoint,
			.region = o->region,
			.profile = o->profile,
			.ca_file = o->ca_file,
			.addressing = o->addressing,
			.checksum = o->checksum,
			.allow_http = o->allow_http,
			.requester_pays = o->requester_pays,
			.storage_class = o->storage_class,
			.sse = sse_of(o->enc),
			.sse_key_id = o->kms_key_id,
			.sse_context = o->kms_context_json,
			.sse_bucket_key = o->bucket_key,
			.parallel = o->parallel,
			.retries = o->retries,
		};

		r = s3c_store_s3_new(&config, err, &access->store);
	}
	if (r < 0)
		return r;
	/* The endpoint may have come from the environment or a profile, past the options' check. */
	if (o->enc == S3C_ENC_SSE_C && !access->store->tls)
		return s3c_err_set(err, -EPERM,
				   "enc=sse-c sends the key to the store and never does so over "
				   "plain HTTP: use an https:// endpoint");
	access->source = s3c_asprintf("%s|%s", access->store->identity, access->from->prefix);
	return access->source ? 0 : -ENOMEM;
}

bool s3c_path_inside(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (len == 1 && dir[0] == '/')
		return true;
	return !strncmp(path, dir, len) && (path[len] == '/' || path[len] == '\0');
}

/* root: SYSTEM/s3cryptfs/ID; others: $VARIABLE or ~/HOME_PART, then the same. */
static char *default_dir(const char *system, const char *variable, const char *home_part,
			 const char *id)
{
	const char *base = getenv(variable), *home;
	struct passwd *user;

	if (geteuid() == 0)
		return s3c_asprintf("%s/s3cryptfs/%s", system, id);
	if (base && base[0] == '/') /* relative ones are to be ignored: XDG Base Directory */
		return s3c_asprintf("%s/s3cryptfs/%s", base, id);
	home = getenv("HOME");
	if (!home || home[0] != '/') {
		user = getpwuid(geteuid());
		home = user ? user->pw_dir : NULL;
	}
	return home ? s3c_asprintf("%s/%s/s3cryptfs/%s", home, home_part, id) : NULL;
}

static int choose_dirs(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_options *o = access->options;
	char id[33];
	int r;

	r = s3c_source_id(access->store->identity, access->from->prefix, id);
	if (r < 0)
		return r;
	access->cache_dir = o->cache_dir
				    ? strdup(o->cache_dir)
				    : default_dir("/var/cache", "XDG_CACHE_HOME", ".cache", id);
	if (o->state_dir)
		access->state_dir = strdup(o->state_dir);
	else if (o->cache_dir)
		access->state_dir = s3c_asprintf("%s/state", o->cache_dir);
	else
		access->state_dir = default_dir("/var/lib", "XDG_STATE_HOME", ".local/state", id);
	if (!access->cache_dir || !access->state_dir)
		return s3c_err_set(
			err, -ENOENT,
			"there is no home folder for local state: give cache_dir=DIR and "
			"state_dir=DIR");
	for (unsigned i = 0; i < 2; i++) {
		const char *dir = i ? access->state_dir : access->cache_dir;

		if (access->from->dir && s3c_path_inside(dir, access->from->dir))
			return s3c_err_set(
				err, -EINVAL,
				"local folder %s lies in the store %s: give cache_dir and "
				"state_dir outside of it",
				dir, access->from->dir);
	}
	return 0;
}

/* mkdir -p, 0700, that remembers what it made. */
static int make_dirs(struct s3c_access *access, const char *path, struct s3c_err *err)
{
	cleanup_free char *part = strdup(path);
	struct stat st;

	if (!part)
		return -ENOMEM;
	for (char *p = part + 1;; p++) {
		char end = *p;

		if (end != '/' && end != '\0')
			continue;
		*p = '\0';
		if (mkdir(part, 0700) == 0) {
			if (access->made_count < S3C_ACCESS_MADE_MAX) {
				access->made[access->made_count] = strdup(part);
				access->made_count += access->made[access->made_count] != NULL;
			}
		} else if (errno != EEXIST && (stat(part, &st) < 0 || !S_ISDIR(st.st_mode))) {
			return s3c_err_set(
				err, -errno,
				"folder %s cannot be made: %s; make it or name another by "
				"cache_dir and state_dir",
				part, strerror(errno));
		}
		*p = end;
		if (end == '\0')
			break;
	}
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return s3c_err_set(err, -ENOTDIR, "%s is not a folder", path);
	if (!(st.st_mode & (S_IWGRP | S_IWOTH)) || (st.st_mode & S_ISVTX))
		return 0;
	return s3c_err_set(err, -EPERM,
			   "folder %s can be written by others, who could change what is known of "
			   "the store: chmod go-w it or name another",
			   path);
}

static int open_journal(struct s3c_access *access, struct s3c_err *err)
{
	int64_t give_up = s3c_deadline_after((double)access->options->timeout_s);

	for (;;) {
		const struct timespec pause = { .tv_nsec = LOCK_POLL_NS };
		cleanup_free char *mountpoint = NULL;
		struct s3c_err why = { 0 };
		pid_t pid;
		int r = s3c_journal_open(access->state_dir, &why, &access->journal);

		/* A holder without a mount is ending (or beginning: then it soon has one). */
		if (r != -EBUSY || s3c_clock_monotonic_ns() > give_up ||
		    s3c_journal_holder(access->state_dir, &pid, &mountpoint) < 0 ||
		    s3c_mountpoint_is_ours(mountpoint)) {
			if (r < 0)
				s3c_err_set(err, r, "%s", s3c_err_text(&why, r));
			return r;
		}
		nanosleep(&pause, NULL);
	}
}

/* Commands that only finish something begin nothing. */
static int find_journal(const struct s3c_access *access, struct s3c_err *err)
{
	cleanup_free char *path = s3c_asprintf("%s/journal.db", access->state_dir);
	struct stat st;

	if (!path)
		return -ENOMEM;
	if (stat(path, &st) == 0)
		return 0;
	return s3c_err_set(err, -errno, "there is no journal of %s in %s: %s", access->from->text,
			   access->state_dir, strerror(errno));
}

int s3c_access_state(struct s3c_access *access, struct s3c_err *err)
{
	int r = choose_dirs(access, err);

	if (r == 0 && access->existing && !access->beside)
		r = find_journal(access, err);
	if (r < 0)
		return r;
	if (access->look || access->beside) {
		r = s3c_journal_open_readonly(access->state_dir, err, &access->journal);
	} else {
		r = make_dirs(access, access->cache_dir, err);
		if (r == 0)
			r = make_dirs(access, access->state_dir, err);
		if (r == 0)
			r = open_journal(access, err);
	}
	return r < 0 ? r : s3c_journal_use(access->journal, access->source, NULL);
}

static struct s3c_volume_request volume_request(const struct s3c_access *access)
{
	const struct s3c_options *o = access->options;

	return (struct s3c_volume_request){
		.store = access->store ? access->store : access->engine->store,
		.prefix = access->from->prefix,
		.enc = o->enc,
		.ssec_shared = o->ssec_shared,
		.encrypted_names = o->names_encrypted,
		.create = !access->read_only && !access->existing,
		.read_only = access->read_only,
		.accept_plain = o->accept & (S3C_ACCEPT_PLAIN | S3C_ACCEPT_FOREIGN),
		.keyring = access->keyring,
		.journal = access->journal,
		.source = access->source,
		.expect_id = o->has_volume_id ? o->volume_id : NULL,
		.deadline_ns = deadline_of(access),
	};
}

/* sse-c: any key shows whether the store encrypts; the objects of a probe are removed again. */
static int probe_write(struct s3c_access *access, struct s3c_err *err)
{
	cleanup_secret struct s3c_ssec *ssec = NULL;

	if (access->options->enc == S3C_ENC_SSE_C) {
		ssec = s3c_secret_alloc(sizeof(*ssec));
		if (!ssec)
			return -ENOMEM;
		s3c_random(ssec->key, sizeof(ssec->key));
	}
	return s3c_store_probe(access->store, access->probe_prefix, ssec, deadline_of(access), err);
}

/* What the options need of a store that is written to. */
static int check_caps(const struct s3c_access *access, struct s3c_err *err)
{
	if (access->options->excl_open && !access->store->caps.put_if_none_match)
		return s3c_err_set(err, -EOPNOTSUPP,
				   "excl=open needs a store that honours If-None-Match, and this "
				   "one does not: use excl=close");
	return 0;
}

static int find_caps(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_options *o = access->options;
	cleanup_free char *mode = NULL;
	struct s3c_store_caps caps;
	int r;

	/* Another key is tried anew. */
	mode = sse_of(o->enc) && (o->kms_key_id || o->kms_context_json || o->bucket_key)
		       ? s3c_asprintf("%s %d %s %s", o->enc_name, o->bucket_key,
				      o->kms_key_id ? o->kms_key_id : "",
				      o->kms_context_json ? o->kms_context_json : "")
		       : strdup(o->enc_name);
	if (!mode)
		return -ENOMEM;

	if (s3c_journal_caps_get(access->journal, access->source, mode, CAPS_MAX_AGE_S, &caps) ==
	    0) {
		access->store->caps = caps;
		return s3c_store_probe_read(access->store, access->probe_prefix,
					    deadline_of(access), err);
	}
	r = probe_write(access, err);
	if (r < 0)
		return r;
	return s3c_journal_caps_set(access->journal, access->source, mode, &access->store->caps);
}

int s3c_access_probe(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_volume_request request = volume_request(access);
	int r = s3c_engine_volume_locate(&request, err, &access->probe_prefix);

	if (r < 0)
		return r;
	if (access->read_only)
		return s3c_store_probe_read(access->store, access->probe_prefix,
					    deadline_of(access), err);
	r = find_caps(access, err);
	return r < 0 ? r : check_caps(access, err);
}

int s3c_access_volume(struct s3c_access *access, bool force_init, struct s3c_err *err)
{
	struct s3c_volume_request request = volume_request(access);
	int r;

	request.force_init = force_init;
	r = s3c_engine_volume(&request, err, &access->volume, &access->volume_prefix);
	if (r < 0)
		return r;
	access->keep = true; /* from here on there is something to remember */
	if (access->volume && access->kms_keys && s3c_kms_keys_writes(access->kms_keys))
		r = access->options->format == S3C_FORMAT_CHUNKED
			    ? s3c_kms_keys_begin(access->kms_keys, access->volume->id, S3C_CEK_ALG,
						 err)
			    : s3c_kms_keys_begin(access->kms_keys, NULL,
						 s3c_s3ec_content_alg(access->options->format),
						 err);
	return r;
}

int s3c_access_try_keyring(const struct s3c_access *access, const struct s3c_keyring *keyring,
			   struct s3c_err *err)
{
	struct s3c_volume_request request = volume_request(access);
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_free char *prefix = NULL;
	int r;

	if (!access->engine->volume)
		return 0;
	request.keyring = keyring;
	request.create = false;
	request.read_only = s3c_engine_read_only(access->engine);
	r = s3c_engine_volume(&request, err, &volume, &prefix);
	if (r < 0)
		return r;
	if (!volume || memcmp(volume->id, access->engine->volume->id, sizeof(volume->id)) != 0)
		return s3c_err_set(err, -ESTALE, "another volume is there now");
	/* A mount that may become writable must not write under a key without a slot. */
	if (!volume->active_slot && !access->read_only && keyring->count)
		return s3c_err_set(err, -EROFS,
				   "the new active key has no slot in the volume, and the mount is "
				   "read-only: make it writable first");
	return 0;
}

int s3c_access_export(struct s3c_access *access, struct s3c_err *err, struct s3c_buf *ret_body)
{
	const struct s3c_volume_request request = volume_request(access);

	return s3c_engine_volume_export(&request, err, ret_body);
}

int s3c_access_import(struct s3c_access *access, const struct s3c_buf *body, struct s3c_err *err)
{
	const struct s3c_volume_request request = volume_request(access);

	return s3c_engine_volume_import(&request, body->data ? body->data : "", body->len, err);
}

int s3c_access_drop_key(struct s3c_access *access, const char *key_id, bool listed,
			struct s3c_err *err)
{
	const struct s3c_volume_request request = volume_request(access);
	size_t removed = 0;
	int r = s3c_engine_volume_drop_key(&request, key_id, err, &removed);

	if (r == 0 && !removed && !listed)
		return s3c_err_set(err, -ENOENT,
				   "neither the keyring nor the volume at %s has a key %s",
				   access->from->text, key_id);
	return r;
}

int s3c_access_migrate(struct s3c_access *access, struct s3c_err *err, bool *ret_changed)
{
	const struct s3c_volume_request request = volume_request(access);

	return s3c_engine_volume_migrate(&request, err, ret_changed);
}

int s3c_access_begin_epoch(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_volume_request request = volume_request(access);
	struct s3c_volume *volume = NULL;
	int r = s3c_engine_volume_begin_epoch(&request, err, &volume);

	if (r < 0)
		return r;
	s3c_volume_free(access->volume);
	access->volume = volume;
	return 0;
}

int s3c_access_drop_epochs(struct s3c_access *access, struct s3c_err *err, size_t *ret_dropped)
{
	const struct s3c_volume_request request = volume_request(access);

	return s3c_engine_volume_drop_epochs(&request, access->engine->volume->epoch, err,
					     ret_dropped);
}

/* Derived from the volume's key; NULL in *ret_key: the mode has none. The caller frees. */
static int local_key(const struct s3c_access *access, const char *label, uint8_t **ret_key)
{
	uint8_t *key = NULL;
	int r = 0;

	if (access->volume && access->volume->family == S3C_FAMILY_CSE) {
		key = s3c_secret_alloc(S3C_KEY_LEN);
		r = key ? s3c_volume_local_key(access->volume, label, key) : -ENOMEM;
	}
	if (r < 0)
		s3c_secret_free(key);
	else
		*ret_key = key;
	return r;
}

int s3c_access_journal(struct s3c_access *access, struct s3c_err *err, uint64_t *ret_waiting)
{
	uint64_t records = 0, bytes = 0;
	uint8_t *key = NULL;
	int r;

	if (access->read_only) {
		r = s3c_journal_pending(access->journal, &records, &bytes);
		if (r < 0)
			return s3c_err_set(err, r, "the journal in %s cannot be read: %s",
					   access->state_dir, strerror(-r));
		*ret_waiting = records;
		return 0;
	}
	r = local_key(access, "journal", &key);
	if (r == 0)
		r = s3c_journal_unlock(access->journal,
				       key ? S3C_JOURNAL_KEY_WRAPPED : S3C_JOURNAL_KEY_FILE, key,
				       access->options->journal_size, err);
	s3c_secret_free(key);
	if (r < 0)
		return r;
	access->unlocked = true;
	*ret_waiting = 0;
	return 0;
}

int s3c_access_cache(struct s3c_access *access, struct s3c_err *err)
{
	struct s3c_cache_config config = {
		.dir = access->cache_dir,
		.size = access->options->cache_size,
		.key = (enum s3c_cache_key)access->options->cache_key,
	};
	uint8_t *key = NULL;
	int r = 0;

	if (config.key == S3C_CACHE_KEY_WRAPPED) {
		r = local_key(access, "cache", &key);
		/* Read-only without a volume: there is nothing to derive from. */
		if (r == 0 && !key)
			config.key = S3C_CACHE_KEY_EPHEMERAL;
	}
	config.wrap_key = key;
	if (r == 0)
		r = s3c_cache_open(&config, err, &access->cache);
	s3c_secret_free(key);
	return r;
}

int s3c_access_recover(struct s3c_access *access, struct s3c_err *err)
{
	struct s3c_recovery *found = &access->recovery;
	int r;

	if (!access->unlocked)
		return 0;
	r = s3c_engine_recover(access->engine, found);
	if (r < 0)
		return s3c_err_set(err, r, "what waits in the journal in %s cannot be taken up: %s",
				   access->state_dir, strerror(-r));
	if (found->objects || found->names || found->done || found->conflicts || found->failed)
		s3c_info("journal: %u files (%llu bytes) and %u names of an earlier mount taken "
			 "up, %u were in the store already, %u kept as conflicts, %u left in the "
			 "journal",
			 found->objects, (unsigned long long)found->bytes, found->names,
			 found->done, found->conflicts, found->failed);
	return 0;
}

int s3c_access_engine(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_options *o = access->options;
	const mode_t mask = o->has_umask ? o->umask : 022;
	const struct s3c_engine_config config = {
		.store = access->store,
		.prefix = access->from->prefix,
		.enc = o->enc,
		.accept = o->accept,
		.format = o->format,
		.keyring = access->keyring,
		.kms = access->kms_keys ? s3c_kms_keys_foreign(access->kms_keys) : NULL,
		.volume = access->volume,
		.volume_prefix = access->volume_prefix ? access->volume_prefix : "",
		.journal = access->journal,
		.source = access->source,
		.durable = access->unlocked,
		.writeback = access->unlocked && o->writeback,
		.commit_fsync = o->commit_fsync,
		.cache = access->cache,
		.cache_dir = access->look || access->beside ? "/tmp" : access->cache_dir,
		.memory = o->memory,
		.cache_size = o->cache_size,
		.parallel = o->parallel,
		.timeout_s = (double)o->timeout_s,
		.ttl_s = (double)o->ttl_s,
		.read_only = access->read_only,
		.consistency_open = o->consistency_open,
		.excl_open = o->excl_open,
		.no_hardlinks = !o->hardlinks,
		.rollback_deny = o->rollback_deny,
		.default_uid = o->has_uid ? o->uid : getuid(),
		.default_gid = o->has_gid ? o->gid : getgid(),
		.default_file_mode = 0666 & ~mask,
		.default_dir_mode = 0777 & ~mask,
	};
	int r = s3c_engine_new(&config, err, &access->engine);

	if (r == 0) {
		access->store = NULL;
		access->volume = NULL;
	}
	return r;
}

/* Journal and folders that a failed mount made: nothing was learned that is worth keeping. */
static void remove_made(struct s3c_access *access)
{
	static const char *const files[] = { "journal.db", "journal.db-wal", "journal.db-shm",
					     "lock" };

	for (unsigned i = access->made_count; i-- > 0;) {
		const char *dir = access->made[i];

		if (access->state_dir && !strcmp(dir, access->state_dir)) {
			for (unsigned k = 0; k < ARRAY_LEN(files); k++) {
				cleanup_free char *path = s3c_asprintf("%s/%s", dir, files[k]);

				if (path)
					unlink(path);
			}
		}
		rmdir(dir);
	}
}

void s3c_access_close(struct s3c_access *access)
{
	s3c_engine_free(access->engine);
	s3c_cache_close(access->cache);
	s3c_volume_free(access->volume);
	s3c_store_free(access->store);
	s3c_journal_close(access->journal);
	s3c_keyring_free(access->keyring);
	while (access->former_count)
		s3c_keyring_free(access->former[--access->former_count]);
	free(access->former);
	s3c_kms_keys_free(access->kms_keys);
	s3c_kms_free(access->kms);
	if (!access->keep)
		remove_made(access);
	while (access->made_count)
		free(access->made[--access->made_count]);
	free(access->source);
	free(access->cache_dir);
	free(access->state_dir);
	free(access->volume_prefix);
	free(access->probe_prefix);
	memset(access, 0, sizeof(*access));
}
