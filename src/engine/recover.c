/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Taking up what an earlier daemon left in the journal, and what a person can ask about what is
 * not stored yet.
 *
 * A record becomes a dirty object without users: its path, size, attributes and base as they were
 * acknowledged, its chunks DIRTY. Nothing is asked of the store for that. What became of attempts
 * that were under way shows when it is committed: the store refuses the condition, the object
 * there is looked at, and its operation id says whether it is ours (s3c_commit_resolve). Where the
 * store honours no conditions, or a later view was being published, it is looked at first.
 *
 * Chunks go through memory into the spill file when there are many, past cache_size if need be:
 * what was acknowledged has to be seen, and the journal, which has it too, shrinks as it is sent.
 * While one object is loaded it is frozen: half of it must not be sent.
 */
#include "engine/durable.h"
#include "engine/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/names.h"
#include "engine/record.h"
#include "engine/upload_journal.h"

struct recovering {
	struct s3c_engine *engine;
	struct s3c_record *records;
	size_t count, alloc;
	struct s3c_recovery found;
};

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct recovering *all = arg;
	struct s3c_record record;
	int r = result;

	(void)sub;
	if (r == 0)
		r = s3c_record_decode(all->engine, data, len, &record);
	if (r < 0) {
		s3c_error("journal: a record of a file cannot be read and stays where it is: %s",
			  r == -EPROTO ? "a newer version wrote it" : "it is damaged");
		all->found.failed++;
		return r == -ENOMEM ? r : 0;
	}
	record.jid = id;
	if (all->count == all->alloc) {
		size_t alloc = all->alloc ? all->alloc * 2 : 64;
		struct s3c_record *more = reallocarray(all->records, alloc, sizeof(*more));

		if (!more) {
			s3c_record_clear(&record);
			return -ENOMEM;
		}
		all->records = more;
		all->alloc = alloc;
	}
	all->records[all->count++] = record;
	return 0;
}

/* Chunks that no record needs: of views whose last transaction was not made. */
struct orphans {
	struct recovering *all;
	struct s3c_tx *tx;
	bool any;
};

static int on_chunks(void *arg, uint64_t id)
{
	struct orphans *orphans = arg;

	for (size_t i = 0; i < orphans->all->count; i++)
		if (orphans->all->records[i].cid == id)
			return 0;
	orphans->any = true;
	return s3c_tx_delete_from(orphans->tx, S3C_RECORD_CHUNK, id, 0);
}

/* Before anything is taken up, which may write new ones. */
static void drop_orphans(struct recovering *all)
{
	struct s3c_journal *journal = all->engine->config.journal;
	struct orphans orphans = { .all = all };

	/* Whose chunks they are cannot be told when there is a record that cannot be read. */
	if (all->found.failed || s3c_tx_new(journal, &orphans.tx) < 0)
		return;
	if (s3c_record_ids(journal, S3C_RECORD_CHUNK, on_chunks, &orphans) == 0 && orphans.any)
		s3c_tx_commit(orphans.tx, S3C_TX_LAZY);
	else
		s3c_tx_free(orphans.tx);
}

struct subs {
	uint64_t *chunks;
	size_t count, alloc;
};

static int on_sub(void *arg, uint64_t sub, size_t len)
{
	struct subs *subs = arg;

	(void)len;
	if (subs->count == subs->alloc) {
		size_t alloc = subs->alloc ? subs->alloc * 2 : 64;
		uint64_t *chunks = reallocarray(subs->chunks, alloc, sizeof(*chunks));

		if (!chunks)
			return -ENOMEM;
		subs->chunks = chunks;
		subs->alloc = alloc;
	}
	subs->chunks[subs->count++] = sub;
	return 0;
}

/* The bytes of one record become a DIRTY chunk. */
static int load_chunk(struct s3c_object *object, const struct s3c_record *record, uint64_t chunk,
		      uint8_t *buffer)
{
	struct s3c_mutex *lock = &object->engine->lock;
	uint32_t want = s3c_chunk_plain_len(record->saved.size, chunk);
	struct s3c_slot *slot;
	size_t len;
	int r;

	if (!want)
		return 0;
	r = s3c_record_get(object->engine->config.journal, S3C_RECORD_CHUNK, record->cid, chunk,
			   buffer, S3C_CHUNK_SIZE, &len);
	if (r == 0 && len > want)
		len = want;
	/* The file was extended since: zeros, as for the reader then. */
	if (r == 0)
		memset(buffer + len, 0, want - len);
	if (r == 0)
		r = s3c_object_write(object, NULL, chunk * S3C_CHUNK_SIZE, buffer, want, false);
	if (r < 0)
		return r;
	s3c_mutex_lock(lock);
	slot = s3c_slot_find(object, chunk, NULL);
	if (slot && slot->state == S3C_CHUNK_DIRTY)
		slot->journaled = true;
	s3c_mutex_unlock(lock);
	return 0;
}

static int load_chunks(struct s3c_object *object, const struct s3c_record *record, uint64_t *bytes)
{
	cleanup_free uint8_t *buffer = malloc(S3C_CHUNK_SIZE);
	struct subs subs = { 0 };
	int r = buffer ? 0 : -ENOMEM;

	if (r == 0)
		r = s3c_record_subs(object->engine->config.journal, S3C_RECORD_CHUNK, record->cid,
				    on_sub, &subs);
	for (size_t i = 0; i < subs.count && r == 0; i++) {
		r = load_chunk(object, record, subs.chunks[i], buffer);
		*bytes += s3c_chunk_plain_len(record->saved.size, subs.chunks[i]);
	}
	free(subs.chunks);
	return r;
}

/* As it was when it was acknowledged. Lock held. */
static void settle_view(struct s3c_object *object, struct s3c_record *record)
{
	object->jid = record->jid;
	object->cid = record->cid;
	object->size = record->saved.size;
	s3c_attrs_set(&object->attrs, &record->saved.attrs);
	object->seq = object->record_seq = record->saved.seq = 2;
	object->clean_seq = 0;
	object->content_seq = 1;
	object->content_clean = record->saved.content ? 0 : 1;
	object->cut = UINT64_MAX;
	object->retry_ns = s3c_clock_monotonic_ns();
	s3c_entry_put(object->saved.base);
	s3c_attrs_clear(&object->saved.attrs);
	object->saved = record->saved;
	s3c_xattrs_ref(object->saved.attrs.xattrs);
	object->saved.base = object->base ? s3c_entry_ref(object->base) : NULL;
	/* The first is the last to be forgotten. */
	for (unsigned i = S3C_MIN(record->op_count, (unsigned)ARRAY_LEN(object->attempts));
	     i-- > 0;) {
		struct s3c_attempt *attempt = &object->attempts[object->attempt_next++];

		*attempt = record->ops[i].attempt;
		attempt->seq = record->ops[i].covers ? object->seq : 0;
		/* What a later view had past the end of this one must not show. */
		attempt->visible = S3C_MIN(attempt->visible, object->size);
	}
}

/*
 * The store may have what was attempted: where no condition will tell, where a later view is not to
 * be mixed with this one, or before there are more attempts than are kept. 1: it has, the record is
 * done.
 */
static int look_first(struct s3c_engine *engine, struct s3c_record *record)
{
	const struct s3c_store_caps *caps = &engine->store->caps;
	bool told = record->saved.base ? caps->put_if_match && caps->complete_if_match
				       : caps->put_if_none_match && caps->complete_if_none_match;
	cleanup_entry struct s3c_entry *entry = NULL;
	bool attrs = !record->saved.content && record->saved.base, later = false;
	int r;

	for (unsigned i = 0; i < record->op_count; i++)
		later |= record->ops[i].later;
	/* No condition tells of attributes, and a file that was removed must not show again. */
	if ((told && !later && !attrs && record->op_count <= S3C_ATTEMPTS_OPEN + 1) ||
	    !record->op_count)
		return 0;
	r = s3c_names_lookup(engine, NULL, record->path, true, &entry);
	if (r == -ENOENT && attrs)
		return 1;
	/* What was acknowledged is there all the same; the commit sees to the rest. */
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	for (unsigned i = 0; i < record->op_count; i++) {
		const struct s3c_record_op *op = &record->ops[i];

		if (memcmp(entry->header.op_id, op->attempt.op_id, S3C_OP_ID_LEN) != 0)
			continue;
		if (op->covers)
			return 1;
		s3c_entry_put(record->saved.base);
		record->saved.base = steal_ptr(entry);
		return 0;
	}
	/* Written since, by us (the removal of the record was not on the disk) or by somebody else:
	   those attributes came later. */
	return attrs &&
	       memcmp(entry->header.op_id, record->saved.base->header.op_id, S3C_OP_ID_LEN) != 0;
}

static void drop_record(struct s3c_engine *engine, const struct s3c_record *record)
{
	struct s3c_tx *tx;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return;
	r = s3c_tx_delete(tx, S3C_RECORD_OBJECT, record->jid, 0);
	if (r == 0)
		r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, record->cid, 0);
	if (r == 0)
		s3c_tx_commit(tx, S3C_TX_LAZY);
	else
		s3c_tx_free(tx);
}

static int take_up(struct s3c_engine *engine, struct s3c_record *record, struct s3c_recovery *found)
{
	struct s3c_target *target = NULL;
	struct s3c_object *object = NULL;
	int r = look_first(engine, record);

	if (r == 1) {
		drop_record(engine, record);
		found->done++;
		return 0;
	}
	if (r == 0)
		r = s3c_target_new(engine, record->path, &target);
	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	r = s3c_object_restore(engine, record->path, target, &record->saved, &object);
	if (r == 0)
		object->frozen++;
	s3c_mutex_unlock(&engine->lock);
	s3c_target_put(target);
	if (r < 0)
		return r;
	r = load_chunks(object, record, &found->bytes);
	s3c_mutex_lock(&engine->lock);
	if (r == 0) {
		settle_view(object, record);
		s3c_paused_attach(object);
	} else {
		/* The record stays; the name shows what the store has. */
		s3c_object_unhash(object);
		object->detached = true;
	}
	object->frozen--;
	s3c_mutex_unlock(&engine->lock);
	if (r == 0 && !object->base)
		s3c_names_add_local(engine, record->path, object->attrs.mode & S_IFMT);
	found->objects += r == 0;
	s3c_object_close(object);
	return r;
}

static void set_spill_limit(struct s3c_engine *engine, uint64_t limit)
{
	s3c_mutex_lock(&engine->lock);
	s3c_spill_limit(engine->objects->spill, limit);
	s3c_mutex_unlock(&engine->lock);
}

static int load_objects(struct recovering *all)
{
	struct s3c_engine *engine = all->engine;
	int r = s3c_record_each(engine->config.journal, S3C_RECORD_OBJECT, on_record, all);

	if (r == 0)
		drop_orphans(all);
	set_spill_limit(engine, UINT64_MAX);
	for (size_t i = 0; i < all->count; i++) {
		struct s3c_record *record = &all->records[i];
		int result = r < 0 ? r : take_up(engine, record, &all->found);

		if (r == 0 && result < 0) {
			s3c_error("journal: %s cannot be taken up (%s): it stays in the journal",
				  record->path, strerror(-result));
			all->found.failed++;
		}
		s3c_record_clear(record);
	}
	free(all->records);
	set_spill_limit(engine, engine->config.cache_size);
	return r;
}

int s3c_engine_recover(struct s3c_engine *engine, struct s3c_recovery *ret_recovery)
{
	struct recovering all = { .engine = engine };
	int r = 0;

	if (s3c_durable(engine)) {
		r = s3c_pending_load(engine, &all.found.names);
		if (r == 0)
			r = s3c_paused_load(engine);
		if (r == 0)
			r = load_objects(&all);
		/* What could not be taken up now may be taken up later. */
		if (r == 0 && !all.found.failed)
			s3c_paused_abort_rest(engine);
		if (r == 0)
			r = s3c_links_load(engine, all.found.failed > 0);
		if (r == 0)
			r = s3c_pending_start(engine);
	}
	if (ret_recovery)
		*ret_recovery = all.found;
	return r;
}

/* What a person sees of it */

static uint64_t dirty_bytes(const struct s3c_object *object)
{
	const struct s3c_segment *segment, *tmp;
	uint64_t bytes = 0;

	HASH_ITER (hh, object->segments, segment, tmp)
		bytes += (uint64_t)(segment->dirty + segment->sent) * S3C_CHUNK_SIZE;
	return S3C_MIN(bytes, object->size);
}

void s3c_engine_unsent(struct s3c_engine *engine,
		       void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg)
{
	struct s3c_object *object;

	s3c_mutex_lock(&engine->lock);
	LIST_FOREACH (object, &engine->objects->all, all) {
		struct s3c_unsent unsent = {
			.path = object->path,
			.what = S3C_UNSENT_FILE,
			.failures = object->failures,
			.since_ns = object->attrs.ctime_ns,
			.result = object->failures ? object->commit_result : 0,
		};

		if (!s3c_object_is_dirty(object))
			continue;
		unsent.bytes = dirty_bytes(object);
		unsent.state = object->hopeless || object->lost ? S3C_UNSENT_PARKED
			       : object->committing             ? S3C_UNSENT_RUNNING
			       : object->failures               ? S3C_UNSENT_FAILED
								: S3C_UNSENT_WAITING;
		fn(arg, &unsent);
	}
	s3c_pending_each(engine, fn, arg);
	s3c_links_each(engine, fn, arg);
	s3c_mutex_unlock(&engine->lock);
}

unsigned s3c_engine_retry(struct s3c_engine *engine, const char *path)
{
	struct s3c_object *object;
	unsigned count = 0;

	s3c_mutex_lock(&engine->lock);
	LIST_FOREACH (object, &engine->objects->all, all) {
		if (!s3c_object_is_dirty(object) || object->lost || !object->failures ||
		    (path && strcmp(object->path, path) != 0))
			continue;
		object->hopeless = false;
		object->retry_ns = 0;
		s3c_commit_start(object);
		count++;
	}
	count += s3c_pending_retry(engine, path);
	s3c_mutex_unlock(&engine->lock);
	return count;
}

void s3c_engine_hasten(struct s3c_engine *engine)
{
	struct s3c_object *object;

	s3c_mutex_lock(&engine->lock);
	LIST_FOREACH (object, &engine->objects->all, all)
		if (object->failures && !object->hopeless)
			s3c_commit_start(object);
	s3c_mutex_unlock(&engine->lock);
}

static int discard_object(struct s3c_engine *engine, struct s3c_op *op, struct s3c_object *object)
{
	bool local;
	int r = s3c_object_freeze(object, op);

	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	/* Ours is one user. */
	if (object->users > 1) {
		r = -EBUSY;
	} else {
		local = !object->base;
		s3c_object_record_drop(object);
		s3c_object_unhash(object);
		object->detached = true;
		s3c_chunks_drop(object, 0);
	}
	s3c_mutex_unlock(&engine->lock);
	if (r == 0 && local)
		s3c_names_drop_local(engine, object->path);
	if (r == 0)
		s3c_names_invalidate(engine, object->path, false);
	s3c_object_thaw(object);
	return r;
}

int s3c_engine_discard(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_hold hold = { .path = path };
	struct s3c_object *object;
	struct s3c_tx *tx = NULL;
	int r = s3c_hold_begin(engine, op, &hold, 1);

	if (r < 0)
		return r;
	object = s3c_object_find(engine, path);
	if (object && !s3c_object_dirty(object)) {
		s3c_object_close(object);
		object = NULL;
	}
	if (object) {
		r = discard_object(engine, op, object);
		s3c_object_close(object);
	} else if (s3c_durable(engine)) {
		r = s3c_tx_new(engine->config.journal, &tx);
		if (r == 0) {
			s3c_mutex_lock(&engine->lock);
			r = s3c_pending_discard(engine, path, tx);
			s3c_mutex_unlock(&engine->lock);
		}
		if (r == 0)
			r = s3c_tx_commit(steal_ptr(tx), S3C_TX_SYNC);
		s3c_tx_free(tx);
	} else {
		r = -ENOENT;
	}
	s3c_hold_end(engine, &hold, 1);
	return r;
}

/* Everything at once, whatever its delay. */
int s3c_engine_sync(struct s3c_engine *engine, struct s3c_op *op)
{
	struct s3c_object *object;
	int r, names;

	s3c_mutex_lock(&engine->lock);
	LIST_FOREACH (object, &engine->objects->all, all)
		if (!object->failures)
			object->retry_ns = 0;
	s3c_mutex_unlock(&engine->lock);
	/* Names that cannot be settled keep no content from being stored. */
	names = s3c_links_settle(engine, op, "");
	r = s3c_objects_commit_below(engine, op, "");
	if (r == 0 && s3c_durable(engine))
		r = s3c_pending_flush(engine, op, "");
	return names < 0 ? names : r;
}
