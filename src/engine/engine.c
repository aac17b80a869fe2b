/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The engine as a whole: made, ended, and what all its parts say about a failed request. */
#include "engine/durable.h"
#include "engine/epochs.h"
#include "engine/links.h"
#include "engine/names.h"
#include "engine/ssec_store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/metrics.h"

#define TASKS_MAX 128u
#define TIMEOUT_DEFAULT_S 120.0

/* Never interrupted, its deadline never used: who is handed it must not wait at all. */
struct s3c_op s3c_op_nowait = { .deadline_ns = 0 };

static void config_free(struct s3c_engine_config *config)
{
	free((void *)config->prefix);
	free((void *)config->volume_prefix);
	free((void *)config->source);
	free((void *)config->cache_dir);
}

static int config_copy(const struct s3c_engine_config *from, struct s3c_engine_config *to)
{
	*to = *from;
	to->prefix = strdup(from->prefix ? from->prefix : "");
	to->volume_prefix = strdup(from->volume_prefix ? from->volume_prefix : to->prefix);
	to->source = strdup(from->source ? from->source : "");
	to->cache_dir = from->cache_dir ? strdup(from->cache_dir) : NULL;
	if (to->prefix && to->volume_prefix && to->source && (to->cache_dir || !from->cache_dir))
		return 0;
	config_free(to);
	return -ENOMEM;
}

static int config_check(const struct s3c_engine_config *config, struct s3c_err *err)
{
	const char *prefix = config->prefix ? config->prefix : "";
	const char *above = config->volume_prefix;
	enum s3c_family family = s3c_enc_family(config->enc);
	bool needs_volume =
		family == S3C_FAMILY_SSEC || (family == S3C_FAMILY_CSE && !config->read_only);

	if (*prefix && prefix[strlen(prefix) - 1] != '/')
		return s3c_err_set(err, -EINVAL, "the prefix %s does not end in a slash", prefix);
	if (above && strncmp(prefix, above, strlen(above)) != 0)
		return s3c_err_set(err, -EINVAL, "the volume at %s is not above %s", above, prefix);
	if (needs_volume && !config->volume)
		return s3c_err_set(err, -EINVAL,
				   "there is no volume to encrypt for; make one with s3cryptfsctl "
				   "init");
	return 0;
}

static void parts_free(struct s3c_engine *engine)
{
	/* They look at objects. */
	if (engine->names && engine->objects)
		s3c_links_stop(engine);
	if (engine->names)
		s3c_pending_stop(engine);
	s3c_objects_free(engine, engine->objects);
	s3c_names_free(engine, engine->names);
	s3c_links_free(engine->links);
	engine->unsettled.ending = true;
	s3c_pool_free(engine->tasks);
	s3c_pool_free(engine->workers);
	s3c_keynames_free(engine->keynames);
	s3c_epochs_free(engine->epochs);
	s3c_unsettled_end(engine);
	s3c_unsettled_free(&engine->unsettled);
	s3c_overdue_free(&engine->overdue);
	free(engine->mount_path);
	s3c_mutex_destroy(&engine->lock);
	config_free(&engine->config);
	free(engine);
}

static int use_journal(struct s3c_engine *engine)
{
	struct s3c_engine_config *config = &engine->config;
	cleanup_secret uint8_t *key = NULL;
	int r = 0;

	if (engine->volume && engine->volume->family == S3C_FAMILY_CSE) {
		key = s3c_secret_alloc(S3C_KEY_LEN);
		r = key ? s3c_volume_local_key(engine->volume, "names", key) : -ENOMEM;
	}
	return r < 0 ? r : s3c_journal_use(config->journal, config->source, key);
}

/* The part of the prefix that is below the volume's is a path: from here on the prefix is stored.
 */
static int use_encrypted_names(struct s3c_engine *engine)
{
	struct s3c_engine_config *config = &engine->config;
	char key[S3C_STORE_KEY_MAX + 1];
	const char *below = s3c_rel_key(engine, config->prefix);
	size_t len = strlen(below);
	char *prefix;
	int r;

	if (!s3c_names_encrypted(engine))
		return 0;
	r = s3c_keynames_new(&engine->keynames);
	engine->mount_path = r < 0 ? NULL : strndup(below, len - (len > 0));
	if (!engine->mount_path)
		return -ENOMEM;
	if (strlen(config->volume_prefix) > S3C_STORE_KEY_MAX)
		return -ENAMETOOLONG;
	strcpy(key, config->volume_prefix);
	r = s3c_path_check(engine->mount_path);
	if (r == 0)
		r = s3c_stored_append(engine, engine->mount_path, key);
	if (r < 0)
		return r;
	prefix = s3c_asprintf("%s%s", key, len ? "/" : "");
	if (!prefix)
		return -ENOMEM;
	free((void *)config->prefix);
	config->prefix = prefix;
	return 0;
}

static int parts_new(struct s3c_engine *engine)
{
	unsigned cpus = (unsigned)S3C_MAX(get_nprocs(), 1);
	int r = use_encrypted_names(engine);

	if (r == 0 && engine->volume && engine->volume->family == S3C_FAMILY_CSE)
		r = s3c_epochs_new(&engine->epochs);
	if (r < 0)
		return r;
	if (engine->config.journal && *engine->config.source) {
		r = use_journal(engine);
		if (r < 0)
			return r;
	}
	r = s3c_pool_new("s3c-work", 1, S3C_MAX(cpus, 2u), &engine->workers);
	if (r == 0)
		r = s3c_pool_new("s3c-task", 1, TASKS_MAX + engine->config.parallel,
				 &engine->tasks);
	if (r == 0)
		r = s3c_links_new(engine, &engine->links);
	if (r == 0)
		r = s3c_names_new(engine, &engine->names);
	if (r == 0)
		r = s3c_objects_new(engine, &engine->objects);
	return r;
}

/* Is there more than one customer key that an object may be under, or need there be none? */
static bool wants_keys_tried(const struct s3c_engine *engine)
{
	const struct s3c_volume *volume = engine->volume;
	bool plain = engine->config.accept & S3C_ACCEPT_PLAIN;

	if (!volume)
		return false;
	if (volume->family != S3C_FAMILY_SSEC)
		return volume->former && plain;
	return volume->ssec_key_count > 1 || volume->ssec_missing || plain;
}

int s3c_engine_new(const struct s3c_engine_config *config, struct s3c_err *err,
		   struct s3c_engine **ret_engine)
{
	struct s3c_engine *engine;
	int r = config_check(config, err);

	if (r < 0)
		return r;
	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return s3c_err_set(err, -ENOMEM, "no memory");
	r = config_copy(config, &engine->config);
	if (r < 0) {
		free(engine);
		return s3c_err_set(err, r, "no memory");
	}
	if (engine->config.timeout_s <= 0)
		engine->config.timeout_s = TIMEOUT_DEFAULT_S;
	s3c_mutex_init(&engine->lock);
	s3c_unsettled_init(&engine->unsettled);
	s3c_overdue_init(&engine->overdue);
	if (gethostname(engine->host, sizeof(engine->host) - 1) < 0)
		strcpy(engine->host, "localhost");
	engine->store = config->store;
	engine->volume = config->volume;
	r = wants_keys_tried(engine)
		    ? s3c_ssec_store_new(config->store, engine->volume,
					 config->accept & S3C_ACCEPT_PLAIN, &engine->store)
		    : 0;
	if (r == 0)
		r = parts_new(engine);
	if (r < 0) {
		s3c_ssec_store_unwrap(engine->store); /* config->store stays the caller's */
		parts_free(engine);
		return s3c_err_set(err, r, "cannot start: %s", strerror(-r));
	}
	*ret_engine = engine;
	return 0;
}

void s3c_engine_free(struct s3c_engine *engine)
{
	struct s3c_store *store;
	struct s3c_volume *volume;

	if (!engine)
		return;
	store = engine->store;
	volume = engine->volume;
	parts_free(engine);
	s3c_store_free(store);
	s3c_volume_free(volume);
}

int64_t s3c_engine_deadline(const struct s3c_engine *engine)
{
	return s3c_deadline_after(engine->config.timeout_s);
}

/* What programs may see of a store's error; the rest is an I/O error. */
static const struct {
	int result, code;
	enum s3c_log_level level;
} failures[] = {
	{ -ENOENT, -ENOENT, S3C_LOG_WARN },        { -ESTALE, -ESTALE, S3C_LOG_ERROR },
	{ -EEXIST, -EEXIST, S3C_LOG_ERROR },       { -EACCES, -EACCES, S3C_LOG_ERROR },
	{ -EPERM, -EACCES, S3C_LOG_ERROR },        { -EKEYREJECTED, -EACCES, S3C_LOG_ERROR },
	{ -ETIMEDOUT, -ETIMEDOUT, S3C_LOG_ERROR }, { -EINTR, -EINTR, S3C_LOG_DEBUG },
	{ -ECANCELED, -EINTR, S3C_LOG_DEBUG },     { -ENAMETOOLONG, -ENAMETOOLONG, S3C_LOG_WARN },
	{ -EFBIG, -EFBIG, S3C_LOG_ERROR },         { -ENOMEM, -ENOMEM, S3C_LOG_ERROR },
	{ -ENOSPC, -ENOSPC, S3C_LOG_ERROR },       { -EDQUOT, -EDQUOT, S3C_LOG_ERROR },
	{ -EROFS, -EROFS, S3C_LOG_ERROR },         { -EKEYREVOKED, -EKEYREVOKED, S3C_LOG_ERROR },
	{ -ENOKEY, -ENOKEY, S3C_LOG_ERROR },       { -EKEYEXPIRED, -EKEYEXPIRED, S3C_LOG_ERROR },
};

int s3c_engine_fail(struct s3c_engine *engine, const char *what, const char *key, int result,
		    const char *message)
{
	enum s3c_log_level level = S3C_LOG_ERROR;
	cleanup_free char *path = NULL;
	int code = -EIO;

	if (result == -EINPROGRESS)
		return result;
	if (result == -EBADMSG)
		s3c_count(S3C_COUNT_INTEGRITY, 0, 0, 1);
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		if (failures[i].result != result)
			continue;
		code = failures[i].code;
		level = failures[i].level;
	}
	path = s3c_key_shown(engine, key);
	s3c_log(level, "cannot %s %s%s: %s%s%s", what, key && *key ? key : "(the bucket's root)",
		path ? path : "", strerror(-result), message && *message ? ": " : "",
		message ? message : "");
	return code;
}

int s3c_engine_key_id(struct s3c_engine *engine, const char *path, char *ret_id, size_t size)
{
	const struct s3c_volume *volume = engine->volume;
	cleanup_entry struct s3c_entry *entry = NULL;
	cleanup_free char *key = NULL;
	const struct s3c_master_key *under;
	const char *id = NULL;
	int r = s3c_names_lookup(engine, S3C_NOWAIT, path, false, &entry);

	if (r < 0)
		return r;
	if (volume && volume->family == S3C_FAMILY_SSEC) {
		r = s3c_key_of(engine, path, entry->is_dir, &key);
		if (r < 0)
			return r;
		under = s3c_ssec_store_key(volume, s3c_ssec_store_index(engine->store, key));
		id = under ? under->id : NULL;
	} else if (s3c_layout_is_sealed(entry->header.layout) &&
		   entry->header.layout != S3C_LAYOUT_NONE) {
		id = s3c_header_key_name(&entry->header);
	}
	if (!id || !id[0])
		return -ENODATA;
	snprintf(ret_id, size, "%s", id);
	return 0;
}

void s3c_engine_stats(struct s3c_engine *engine, struct s3c_engine_stats *ret_stats)
{
	struct s3c_engine_stats stats = { 0 };

	s3c_objects_stats(engine, &stats);
	s3c_mutex_lock(&engine->lock);
	stats.entries_cached = engine->names->entries;
	s3c_mutex_unlock(&engine->lock);
	*ret_stats = stats;
}
