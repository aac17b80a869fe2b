/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/rekey.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "engine/names.h"
#include "engine/ssec_store.h"

#define TRIES_MAX 4u          /* of an object that others change */
#define QUEUED_PER_THREAD 64u /* the listing is that far ahead */
#define PARALLEL_MAX 512u

struct rekey {
	struct s3c_engine *engine;
	const struct s3c_rekey_request *rq;
	const struct s3c_master_key *key; /* NULL: kms, or it only counts */
	bool kms;                         /* under the active KMS key */
	struct s3c_pool *pool;

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_rekey_counts counts;
	unsigned queued; /* jobs that did not end */
	struct s3c_waitq ended;

	struct s3c_mutex told; /* one callback at a time; before lock */
};

struct rekey_job {
	struct s3c_job job;
	struct rekey *rk;
	char *key;
};

/* What became of an object. */
enum outcome { CHANGED, MIGRATED, CURRENT, KEYLESS, PLAIN, FOREIGN, GONE, SKIPPED, NEEDING };

static uint64_t *counter(struct s3c_rekey_counts *counts, enum outcome outcome)
{
	switch (outcome) {
	case CHANGED:
		return &counts->changed;
	case MIGRATED:
		return &counts->migrated;
	case CURRENT:
		return &counts->current;
	case KEYLESS:
		return &counts->keyless;
	case PLAIN:
		return &counts->plain;
	case FOREIGN:
		return &counts->foreign;
	case GONE:
		return &counts->gone;
	case NEEDING:
		return &counts->needing;
	default:
		return &counts->skipped;
	}
}

/* Of an object without an item of ours: its envelope, when it has one, is another client's. */
static enum outcome class_of_others(const struct s3c_meta *meta)
{
	static const char *const names[] = { "x-amz-key-v2", "x-amz-key", "x-amz-3" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (s3c_meta_get(meta, names[i]))
			return FOREIGN;
	return PLAIN;
}

static void extra_putp(struct s3c_extra **p)
{
	s3c_extra_put(*p);
}

/* The envelope in extra with the data key wrapped anew, in the words of other clients. */
static int rewrap_envelope(struct rekey *rk, const struct s3c_stat *st,
			   const struct s3c_header *header, struct s3c_extra *extra, char *why,
			   size_t why_size)
{
	cleanup_secret uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	uint8_t wrapped[S3C_WRAP_GCM_LEN];
	struct s3c_meta meta = { 0 };
	cleanup_free char *desc = NULL;
	struct s3c_s3ec_wrap wrap = {
		.alg = S3C_UNWRAP_AES_GCM,
		.wrapped = wrapped,
		.wrapped_len = sizeof(wrapped),
	};
	int r = data_key ? s3c_s3ec_parse(&extra->meta, NULL, 0, st->size, &s3ec, why, why_size)
			 : -ENOMEM;

	if (r == 0)
		r = s3c_s3ec_unwrap_by(s3ec, rk->engine->config.keyring, header->key_id,
				       rk->engine->config.kms, data_key, why, why_size);
	if (r == 0)
		r = s3c_wrap_gcm(rk->key, s3c_s3ec_content_alg(s3ec->version), data_key, wrapped);
	if (r == 0)
		r = s3c_keyring_desc(rk->key, &desc);
	wrap.desc = desc;
	if (r == 0)
		r = s3c_s3ec_rewrap(&extra->meta, &wrap, &meta);
	if (r < 0) {
		s3c_meta_free(&meta);
		return r;
	}
	s3c_meta_free(&extra->meta);
	extra->meta = meta;
	return 0;
}

static int rewrap_s3ec(struct rekey *rk, const char *key, const struct s3c_stat *st,
		       const struct s3c_header *header, char *why, size_t why_size)
{
	__attribute__((cleanup(extra_putp))) struct s3c_extra *extra = NULL;
	char name[S3C_NAME_LEN_MAX + 1] = "";
	struct s3c_version version;
	struct s3c_copy copy = {
		.from = key,
		.to = key,
		.path = name,
		.old = header,
		.header = *header,
		.source = &st->version,
		.stored_size = st->size,
	};
	int r;

	if (!rk->key) {
		snprintf(why, why_size,
			 "its format has no place for a KMS key: --reencrypt writes "
			 "it anew");
		return -EOPNOTSUPP;
	}
	r = s3c_extra_make(header, false, st, &extra);
	if (r == 0 && s3c_names_encrypted(rk->engine))
		r = s3c_key_last_name(rk->engine, key, &st->meta, name);
	if (r == 0)
		r = rewrap_envelope(rk, st, header, extra, why, why_size);
	if (r < 0)
		return r;
	memcpy(copy.header.key_id, rk->key->id, sizeof(copy.header.key_id));
	copy.extra = extra;
	return s3c_copy_object(rk->engine, &copy, &version);
}

/* A copy onto itself, with the data key wrapped anew. -ESTALE: it has changed. */
static int rewrap(struct rekey *rk, const char *key, const struct s3c_stat *st,
		  const struct s3c_header *header, char *why, size_t why_size)
{
	const struct s3c_keyring *keyring = rk->engine->config.keyring;
	const struct s3c_volume *volume = rk->engine->volume;
	cleanup_secret uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_header struct s3c_header anew = { 0 };
	char name[S3C_NAME_LEN_MAX + 1] = "";
	struct s3c_version version;
	struct s3c_copy copy = {
		.from = key,
		.to = key,
		.path = name,
		.old = header,
		.source = &st->version,
		.stored_size = st->size,
	};
	int r;

	if (!data_key)
		return -ENOMEM;
	s3c_header_set(&anew, header);
	r = s3c_names_encrypted(rk->engine) ? s3c_key_last_name(rk->engine, key, &st->meta, name)
					    : 0;
	if (r == 0 && rk->kms) {
		r = s3c_header_renew(&anew, keyring, volume, NULL, NULL, why, why_size);
	} else if (r == 0) {
		r = s3c_header_unwrap(header, keyring, volume, NULL, data_key, why, why_size);
		if (r == 0)
			r = s3c_header_rewrap(&anew, rk->key, data_key);
	}
	copy.header = anew;
	return r < 0 ? r : s3c_copy_object(rk->engine, &copy, &version);
}

/* The store encrypted it under another key: a copy from that one to the key in use. */
static int recopy(struct rekey *rk, const char *key, const struct s3c_stat *st)
{
	__attribute__((cleanup(extra_putp))) struct s3c_extra *extra = NULL;
	struct s3c_version version;
	cleanup_header struct s3c_header header = { 0 };
	struct s3c_copy copy = {
		.from = key,
		.to = key,
		.old = &header,
		.source = &st->version,
		.stored_size = st->size,
	};
	int r = s3c_header_of(rk->engine, key, st, &header);

	if (r == 0)
		r = s3c_extra_make(&header, key[strlen(key) - 1] == '/', st, &extra);
	if (r < 0)
		return r;
	copy.header = header;
	copy.extra = extra;
	return s3c_copy_object(rk->engine, &copy, &version);
}

/* SSE-C: which key it was, the HEAD has found out. */
static int handle_ssec(struct rekey *rk, const char *key, const struct s3c_stat *st,
		       enum outcome *ret_outcome)
{
	const struct s3c_volume *volume = rk->engine->volume;
	unsigned index = s3c_ssec_store_index(rk->engine->store, key);
	int r = 0;

	if (rk->rq->what == S3C_REKEY_COUNT)
		*ret_outcome = strcmp(volume->ssec_keys[index]->id, rk->rq->key_id) == 0 ? NEEDING
											 : CURRENT;
	else if (!index)
		*ret_outcome = CURRENT;
	else
		r = recopy(rk, key, st);
	if (r == 0 && index && rk->rq->what != S3C_REKEY_COUNT)
		*ret_outcome = CHANGED;
	return r;
}

/* -EBADMSG: it is no name of a file here. The caller frees. */
static int path_of(struct rekey *rk, const char *key, char **ret_path)
{
	struct s3c_list_entry entry = { .key = (char *)key };
	const struct s3c_list list = { .entries = &entry, .count = 1 };
	const char *prefix = rk->engine->config.prefix;
	int r = s3c_key_path(rk->engine, prefix, key, ret_path);

	if (r != -ENODATA)
		return r;
	/* A long name on the way, which the metadata has. */
	r = s3c_key_names_ask(rk->engine, NULL, prefix, &list);
	return r < 0 ? r : s3c_key_path(rk->engine, prefix, key, ret_path);
}

/* Its content, written anew. */
static int renew(struct rekey *rk, const char *key)
{
	cleanup_free char *path = NULL;
	int r = path_of(rk, key, &path);

	return r < 0 ? r : s3c_object_renew(rk->engine, NULL, path);
}

/* A marker has no content: it is written as a sealed one. */
static int seal_marker(struct rekey *rk, const char *key)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	cleanup_entry struct s3c_entry *sealed = NULL;
	cleanup_free char *path = NULL;
	int r = path_of(rk, key, &path);

	if (r == 0)
		r = s3c_names_lookup(rk->engine, NULL, path, true, &entry);
	if (r == 0 && !entry->is_dir)
		r = -ENOTDIR;
	return r < 0 ? r
		     : s3c_marker_put(rk->engine, path, &entry->header.attrs, entry, false,
				      &sealed);
}

static int handle_unsealed(struct rekey *rk, const char *key, const struct s3c_stat *st,
			   enum outcome *ret_outcome)
{
	enum outcome class = class_of_others(&st->meta);
	unsigned accept = rk->engine->config.accept;
	bool accepted = class == PLAIN ? accept & S3C_ACCEPT_PLAIN : accept & S3C_ACCEPT_FOREIGN;
	int r = 0;

	if (rk->rq->migrate && accepted) {
		r = key[strlen(key) - 1] == '/' ? seal_marker(rk, key) : renew(rk, key);
		class = MIGRATED;
	}
	if (r == 0)
		*ret_outcome = class;
	return r;
}

static int handle_sealed(struct rekey *rk, const char *key, const struct s3c_stat *st,
			 enum outcome *ret_outcome, char *why, size_t why_size)
{
	bool count = rk->rq->what == S3C_REKEY_COUNT, named;
	cleanup_header struct s3c_header header = { 0 };
	int r;

	if (!s3c_meta_get(&st->meta, S3C_META_PACKED))
		return handle_unsealed(rk, key, st, ret_outcome);
	r = s3c_header_decode(&st->meta, rk->engine->volume, s3c_rel_key(rk->engine, key), st->size,
			      &header, why, why_size);
	if (r < 0)
		return r;
	named = rk->kms ? s3c_header_is_current(&header, rk->engine->config.keyring)
			: strcmp(s3c_header_key_name(&header), rk->rq->key_id) == 0;
	if (header.layout == S3C_LAYOUT_NONE) {
		*ret_outcome = KEYLESS;
	} else if (rk->rq->what == S3C_REKEY_REENCRYPT) {
		r = renew(rk, key);
		if (r == 0)
			*ret_outcome = CHANGED;
	} else if (named) {
		*ret_outcome = count ? NEEDING : CURRENT;
	} else if (count) {
		*ret_outcome = CURRENT;
	} else {
		r = header.layout == S3C_LAYOUT_S3EC
			    ? rewrap_s3ec(rk, key, st, &header, why, why_size)
			    : rewrap(rk, key, st, &header, why, why_size);
		if (r == 0)
			*ret_outcome = CHANGED;
	}
	return r;
}

/* Looks at one object and does what is to be done. -ESTALE: once more. */
static int handle(struct rekey *rk, const char *key, enum outcome *ret_outcome, char *why,
		  size_t why_size)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key };
	int r = s3c_ssec_of(rk->engine, key, &ssec, &rq.ssec);

	if (r == 0)
		r = s3c_request(rk->engine, &rq, NULL, &reply);
	if (r == -ENOENT) {
		*ret_outcome = GONE;
		return 0;
	}
	if (r < 0) {
		snprintf(why, why_size, "%s", reply.message);
		return r;
	}
	return rq.ssec ? handle_ssec(rk, key, &reply.stat, ret_outcome)
		       : handle_sealed(rk, key, &reply.stat, ret_outcome, why, why_size);
}

static void tell_skip(struct rekey *rk, const char *key, int result, const char *why)
{
	if (!*why)
		why = result == -ESTALE ? "another machine changes it all the time"
					: strerror(-result);
	s3c_mutex_lock(&rk->told);
	if (rk->rq->skip)
		rk->rq->skip(rk->rq->arg, key, why);
	s3c_mutex_unlock(&rk->told);
}

static void tell_progress(struct rekey *rk)
{
	struct s3c_rekey_counts counts;

	if (!rk->rq->progress)
		return;
	s3c_mutex_lock(&rk->told);
	s3c_mutex_lock(&rk->lock);
	counts = rk->counts;
	s3c_mutex_unlock(&rk->lock);
	rk->rq->progress(rk->rq->arg, &counts);
	s3c_mutex_unlock(&rk->told);
}

static void job_run(struct s3c_job *job)
{
	struct rekey_job *rj = container_of(job, struct rekey_job, job);
	struct rekey *rk = rj->rk;
	enum outcome outcome = SKIPPED;
	char why[512] = "";
	int r = -ESTALE;

	for (unsigned i = 0; i < TRIES_MAX && r == -ESTALE; i++) {
		why[0] = '\0';
		r = handle(rk, rj->key, &outcome, why, sizeof(why));
	}
	if (r < 0) {
		outcome = SKIPPED;
		tell_skip(rk, rj->key, r, why);
	}
	s3c_mutex_lock(&rk->lock);
	++*counter(&rk->counts, outcome);
	rk->counts.done++;
	s3c_mutex_unlock(&rk->lock);
	tell_progress(rk);
	s3c_mutex_lock(&rk->lock);
	rk->queued--;
	s3c_waitq_wake_all(&rk->ended);
	s3c_mutex_unlock(&rk->lock);
	free(rj->key);
	free(rj);
}

/* Hands one object to the pool; waits where the pool has enough. */
static int add(struct rekey *rk, struct s3c_op *op, const char *key)
{
	unsigned most = rk->rq->parallel * QUEUED_PER_THREAD;
	struct rekey_job *rj = calloc(1, sizeof(*rj));
	int r = 0;

	if (rj)
		rj->key = strdup(key);
	if (!rj || !rj->key) {
		free(rj);
		return -ENOMEM;
	}
	rj->job.run = job_run;
	rj->rk = rk;
	s3c_mutex_lock(&rk->lock);
	while (r == 0 && rk->queued >= most)
		r = s3c_waitq_wait(&rk->ended, &rk->lock, op);
	if (r == 0) {
		rk->queued++;
		rk->counts.found++;
	}
	s3c_mutex_unlock(&rk->lock);
	if (r == 0) {
		s3c_pool_submit(rk->pool, &rj->job);
		return 0;
	}
	free(rj->key);
	free(rj);
	return r;
}

/* What the filesystem keeps for itself is no object of a file, but for the root's attributes. */
static bool is_reserved(struct rekey *rk, const char *key)
{
	const char *rel = s3c_rel_key(rk->engine, key);
	size_t len = strlen(S3C_RESERVED_NAME);

	return strncmp(rel, S3C_RESERVED_NAME "/", len + 1) == 0 &&
	       strcmp(rel + len + 1, "root") != 0;
}

/* One page of the listing. *token: in and out, the caller's. */
static int add_page(struct rekey *rk, struct s3c_op *op, const char *prefix, size_t exact,
		    char **token)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request list = {
		.op = S3C_STORE_LIST,
		.prefix = prefix,
		.token = *token,
	};
	int r = s3c_request(rk->engine, &list, op, &reply);

	if (r < 0)
		return s3c_engine_fail(rk->engine, "list", prefix, r, reply.message);
	for (size_t i = 0; r == 0 && i < reply.list.count; i++) {
		const char *key = reply.list.entries[i].key;

		/* "dir" finds "dir" and "dir/...", and not "dirt". */
		if (exact && key[exact] && key[exact] != '/')
			continue;
		if (!is_reserved(rk, key))
			r = add(rk, op, key);
	}
	free(*token);
	*token = steal_ptr(reply.list.next_token);
	return r;
}

static int add_path(struct rekey *rk, struct s3c_op *op, const char *path)
{
	cleanup_free char *prefix = NULL;
	cleanup_free char *token = NULL;
	int r = *path ? s3c_key_of(rk->engine, path, false, &prefix)
		      : s3c_dir_prefix(rk->engine, path, &prefix);
	size_t exact = r == 0 && *path ? strlen(prefix) : 0;

	while (r == 0) {
		r = add_page(rk, op, prefix, exact, &token);
		if (!token)
			break;
	}
	return r;
}

static int run(struct rekey *rk, struct s3c_op *op)
{
	static const char *const all[] = { "", NULL };
	const char *const *paths = rk->rq->paths && rk->rq->paths[0] ? rk->rq->paths : all;
	int r = 0;

	for (; r == 0 && *paths; paths++)
		r = add_path(rk, op, *paths);
	s3c_mutex_lock(&rk->lock);
	rk->counts.all_found = r == 0;
	/* What has begun ends, also after an interruption. */
	while (rk->queued)
		s3c_waitq_wait(&rk->ended, &rk->lock, NULL);
	s3c_mutex_unlock(&rk->lock);
	return r;
}

static int check_key(struct rekey *rk)
{
	const struct s3c_volume *volume = rk->engine->volume;
	const struct s3c_keyring *keyring = rk->engine->config.keyring;
	int r = s3c_writable(rk->engine);

	if (r < 0)
		return r;
	rk->key = s3c_keyring_find(keyring, rk->rq->key_id);
	if (!rk->key && keyring->kms && s3c_kms_keys_writes(keyring->kms)) {
		const char *active = s3c_kms_keys_active(keyring->kms);

		rk->kms = active && strcmp(active, rk->rq->key_id) == 0;
	}
	if (!rk->key)
		return rk->kms ? 0 : -ENOKEY;
	if (volume->family == S3C_FAMILY_SSEC)
		return rk->key == volume->ssec_key ? 0 : -EINVAL;
	if ((rk->rq->what == S3C_REKEY_REENCRYPT || rk->rq->migrate) && !rk->key->active)
		return -EINVAL;
	return rk->key->secret_len == S3C_KEY_LEN && !rk->key->ssec_shared ? 0 : -EINVAL;
}

int s3c_engine_rekey(struct s3c_engine *engine, struct s3c_op *op,
		     const struct s3c_rekey_request *request, struct s3c_rekey_counts *ret_counts)
{
	struct rekey rk = { .engine = engine, .rq = request };
	int r;

	if (!request->parallel || request->parallel > PARALLEL_MAX)
		return -EINVAL;
	r = request->what == S3C_REKEY_COUNT ? 0 : check_key(&rk);
	if (r < 0)
		return r;
	r = s3c_pool_new("rekey", 1, request->parallel, &rk.pool);
	if (r < 0)
		return r;
	s3c_mutex_init(&rk.lock);
	s3c_mutex_init(&rk.told);
	s3c_waitq_init(&rk.ended);
	r = run(&rk, op);
	s3c_pool_free(rk.pool);
	*ret_counts = rk.counts;
	s3c_mutex_destroy(&rk.told);
	s3c_mutex_destroy(&rk.lock);
	return r;
}
