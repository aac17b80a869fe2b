/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/rekey.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "engine/epochs.h"
#include "engine/names.h"
#include "engine/ssec_store.h"
#include "engine/walk.h"
#include "object/s3ec_keys.h"

#define TRIES_MAX 4u /* of an object that others change */

struct rekey {
	struct s3c_engine *engine;
	const struct s3c_rekey_request *rq;
	const struct s3c_master_key *key; /* NULL: kms, or it only counts */
	bool kms;                         /* under the active KMS key */

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_rekey_counts counts;

	struct s3c_mutex told; /* one callback at a time; before lock */
};

/* What became of an object. */
enum outcome { CHANGED, MIGRATED, CURRENT, KEYLESS, PLAIN, FOREIGN, GONE, SKIPPED, NEEDING };

static uint64_t *counter(struct s3c_rekey_counts *counts, enum outcome outcome)
{
#define OF(member) offsetof(struct s3c_rekey_counts, member)
	static const size_t offsets[] = {
		[CHANGED] = OF(changed), [MIGRATED] = OF(migrated), [CURRENT] = OF(current),
		[KEYLESS] = OF(keyless), [PLAIN] = OF(plain),       [FOREIGN] = OF(foreign),
		[GONE] = OF(gone),       [SKIPPED] = OF(skipped),   [NEEDING] = OF(needing),
	};
#undef OF
	return (uint64_t *)((char *)counts + offsets[outcome]);
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

/* The same in the words of other clients, whose envelope is an extra. */
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
		.source = &st->version,
		.stored_size = st->size,
	};
	cleanup_header struct s3c_header anew = { 0 };
	int r;

	s3c_header_set(&anew, header);
	r = s3c_extra_make(header, false, st, &extra);
	if (r == 0 && s3c_names_encrypted(rk->engine))
		r = s3c_key_last_name(rk->engine, key, &st->meta, name);
	if (r == 0)
		r = s3c_s3ec_renew(&anew, st->size, rk->engine->config.keyring, rk->key, NULL,
				   &extra->meta, why, why_size);
	if (r < 0)
		return r;
	copy.header = anew;
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

/* SSE-C: under which key it was found, if under any. */
static int handle_ssec(struct rekey *rk, const char *key, const struct s3c_store_reply *reply,
		       enum outcome *ret_outcome)
{
	const struct s3c_master_key *under =
		s3c_ssec_store_key(rk->engine->volume, reply->ssec_index);
	bool change = under ? reply->ssec_index > 0 : rk->rq->migrate;
	int r = 0;

	if (rk->rq->what == S3C_REKEY_COUNT)
		*ret_outcome = !under                                   ? PLAIN
			       : strcmp(under->id, rk->rq->key_id) == 0 ? NEEDING
									: CURRENT;
	else if (!change)
		*ret_outcome = under ? CURRENT : PLAIN;
	else
		r = recopy(rk, key, &reply->stat);
	if (r == 0 && change && rk->rq->what != S3C_REKEY_COUNT)
		*ret_outcome = under ? CHANGED : MIGRATED;
	return r;
}

/* A mode of the store: nothing of it is ours but what it is asked to encrypt with. */
static int handle_sse(struct rekey *rk, const char *key, const struct s3c_stat *st,
		      enum outcome *ret_outcome)
{
	int r = 0;

	/* Its metadata are another client's, to whom they may mean something together. */
	if (s3c_meta_get(&st->meta, S3C_META_PACKED) || class_of_others(&st->meta) == FOREIGN) {
		*ret_outcome = FOREIGN;
	} else if (s3c_sse_is(rk->engine->store->sse, rk->rq->sse_key_id, st)) {
		*ret_outcome = CURRENT;
	} else {
		r = recopy(rk, key, st);
		if (r == 0)
			*ret_outcome = MIGRATED;
	}
	return r;
}

/* Its content, written anew. */
static int renew(struct rekey *rk, const char *key)
{
	cleanup_free char *path = NULL;
	int r = s3c_walk_path(rk->engine, key, &path);

	return r < 0 ? r : s3c_object_renew(rk->engine, NULL, path);
}

/* A marker has no content: it is written as a sealed one. */
static int seal_marker(struct rekey *rk, const char *key)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	cleanup_entry struct s3c_entry *sealed = NULL;
	cleanup_free char *path = NULL;
	int r = s3c_walk_path(rk->engine, key, &path);

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

/* What has no data key is sealed in another epoch, by a copy onto itself. */
static int reseal(struct rekey *rk, const char *key, const struct s3c_stat *st,
		  const struct s3c_header *header, uint32_t epoch)
{
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
	int r = s3c_names_encrypted(rk->engine)
			? s3c_key_last_name(rk->engine, key, &st->meta, name)
			: 0;

	copy.header.epoch = epoch;
	return r < 0 ? r : s3c_copy_object(rk->engine, &copy, &version);
}

static void note_older(struct rekey *rk)
{
	s3c_mutex_lock(&rk->lock);
	rk->counts.older++;
	s3c_mutex_unlock(&rk->lock);
}

/* What is to be done with an object that has a data key. */
static int handle_keyed(struct rekey *rk, const char *key, const struct s3c_stat *st,
			const struct s3c_header *header, bool older, enum outcome *ret_outcome,
			char *why, size_t why_size)
{
	bool count = rk->rq->what == S3C_REKEY_COUNT;
	bool named = rk->kms ? s3c_header_is_current(header, rk->engine->config.keyring)
			     : strcmp(s3c_header_key_name(header), rk->rq->key_id) == 0;
	int r = 0;

	if (count)
		*ret_outcome = named ? NEEDING : CURRENT;
	else if (rk->rq->what == S3C_REKEY_REENCRYPT && older)
		r = renew(rk, key);
	else if (named)
		*ret_outcome = CURRENT;
	else
		r = header->layout == S3C_LAYOUT_S3EC
			    ? rewrap_s3ec(rk, key, st, header, why, why_size)
			    : rewrap(rk, key, st, header, why, why_size);
	if (r == 0 && !count && (!named || (rk->rq->what == S3C_REKEY_REENCRYPT && older)))
		*ret_outcome = CHANGED;
	return r;
}

static int handle_sealed(struct rekey *rk, const char *key, const struct s3c_stat *st,
			 const struct s3c_master_key *under, enum outcome *ret_outcome, char *why,
			 size_t why_size)
{
	cleanup_header struct s3c_header header = { 0 };
	uint32_t epoch;
	bool older;
	int r;

	/* Of the time when it was a volume of sse-c. */
	if (under && rk->rq->what == S3C_REKEY_COUNT) {
		*ret_outcome = strcmp(under->id, rk->rq->key_id) == 0 ? NEEDING : CURRENT;
		return 0;
	}
	if (!s3c_meta_get(&st->meta, S3C_META_PACKED))
		return handle_unsealed(rk, key, st, ret_outcome);
	r = s3c_header_decode_live(rk->engine, &st->meta, key, st->size, true, &header, why,
				   why_size);
	if (r < 0)
		return r;
	epoch = rk->engine->volume->epoch;
	older = header.epoch != epoch;
	if (older)
		note_older(rk);
	if (header.layout != S3C_LAYOUT_NONE && header.layout != S3C_LAYOUT_REFERENCE)
		return handle_keyed(rk, key, st, &header, older, ret_outcome, why, why_size);
	if (older && rk->rq->what == S3C_REKEY_REENCRYPT)
		r = reseal(rk, key, st, &header, epoch);
	if (r == 0)
		*ret_outcome = KEYLESS;
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
	if (!rk->engine->volume)
		return handle_sse(rk, key, &reply.stat, ret_outcome);
	return rq.ssec ? handle_ssec(rk, key, &reply, ret_outcome)
		       : handle_sealed(rk, key, &reply.stat,
				       s3c_ssec_store_key(rk->engine->volume, reply.ssec_index),
				       ret_outcome, why, why_size);
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

static void visit(void *arg, const struct s3c_list_entry *entry)
{
	struct rekey *rk = arg;
	enum outcome outcome = SKIPPED;
	char why[512] = "";
	int r = -ESTALE;

	for (unsigned i = 0; i < TRIES_MAX && r == -ESTALE; i++) {
		why[0] = '\0';
		r = handle(rk, entry->key, &outcome, why, sizeof(why));
	}
	if (r < 0) {
		outcome = SKIPPED;
		tell_skip(rk, entry->key, r, why);
	}
	s3c_mutex_lock(&rk->lock);
	++*counter(&rk->counts, outcome);
	rk->counts.done++;
	s3c_mutex_unlock(&rk->lock);
	tell_progress(rk);
}

static int listed(void *arg, const struct s3c_list_entry *entry)
{
	struct rekey *rk = arg;

	if (s3c_key_is_reserved(rk->engine, entry->key))
		return 1;
	s3c_mutex_lock(&rk->lock);
	rk->counts.found++;
	s3c_mutex_unlock(&rk->lock);
	return 0;
}

static void all_listed(void *arg)
{
	struct rekey *rk = arg;

	s3c_mutex_lock(&rk->lock);
	rk->counts.all_found = true;
	s3c_mutex_unlock(&rk->lock);
}

static int check_key(struct rekey *rk)
{
	const struct s3c_volume *volume = rk->engine->volume;
	const struct s3c_keyring *keyring = rk->engine->config.keyring;
	int r = s3c_writable(rk->engine);

	if (r < 0)
		return r;
	if (!volume)
		return rk->rq->migrate && rk->rq->what == S3C_REKEY_REWRAP ? 0 : -EINVAL;
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
	const struct s3c_walk walk = {
		.name = "rekey",
		.paths = request->paths,
		.parallel = request->parallel,
		.listed = listed,
		.all_listed = all_listed,
		.visit = visit,
		.arg = &rk,
	};
	int r = request->what == S3C_REKEY_COUNT ? 0 : check_key(&rk);

	if (r < 0)
		return r;
	s3c_mutex_init(&rk.lock);
	s3c_mutex_init(&rk.told);
	r = s3c_walk_run(engine, op, &walk);
	*ret_counts = rk.counts;
	s3c_mutex_destroy(&rk.told);
	s3c_mutex_destroy(&rk.lock);
	return r;
}
