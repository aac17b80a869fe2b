/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Going on with an upload that stopped before its end: after a commit that failed, or in the next
 * mount.
 *
 *	a paused upload ...					is
 *	whose completion was asked for				settled (unsettled.h), looked for; there:
 *								done; else aborted, and another one begun
 *	of another key, another master key, an older		aborted, and another one begun
 *	generation, or with copies of another version
 *	that the store does not know any more			forgotten, and another one begun
 *	else							gone on with
 *
 *	a part of it ...					is
 *	that the store lists with the ETag and size that it	kept, if ...
 *	had when it was sent
 *	... and is a copy of what is to be copied		kept
 *	... and has those segments that are to be sent, and	kept
 *	their present bytes, sealed under the same salt, give
 *	the same digest
 *	any other						sent again under new salts, or left
 *								out where the file ends before it
 *
 * What is sealed to be compared never leaves the buffer: under a salt that was sent there is no
 * other ciphertext. Between the parts that are kept others are put, under the numbers that the
 * missing ones had; those that the store has under such numbers do not count.
 */
#include "engine/upload_journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "engine/names.h"

struct resuming {
	struct s3c_commit *c;
	struct s3c_paused *paused;
	struct s3c_upload *upload;
	struct s3c_store_part *listed; /* ascending */
	size_t listed_count;
	uint64_t at;                  /* segments below it are in parts, or holes */
	struct s3c_store_reply reply; /* words for the log */
};

static bool same_source(const struct s3c_commit *c, const struct s3c_paused *paused)
{
	const struct s3c_objects *objects = c->object->objects;

	if (!paused->keep)
		return true;
	if (!c->base || !c->crypt || objects->no_part_copy || !paused->source_etag[0] ||
	    !c->object->engine->store->caps.part_copy ||
	    !s3c_etag_equal(paused->source_etag, c->base->version.etag))
		return false;
	return !c->sealed ||
	       memcmp(c->base->header.file_id, paused->header.file_id, S3C_FILE_ID_LEN) == 0;
}

static bool is_usable(const struct s3c_commit *c, const struct s3c_paused *paused)
{
	const struct s3c_header *header = &paused->header;
	const struct s3c_keyring *ring = s3c_keyring_in_use(&c->object->engine->config);

	if (!paused->upload_id || !paused->key || strcmp(paused->key, c->target->key) != 0 ||
	    paused->sealed != c->sealed || !same_source(c, paused))
		return false;
	if (!c->sealed)
		return header->layout == S3C_LAYOUT_PLAIN;
	return header->layout == S3C_LAYOUT_TRAILER && s3c_header_is_current(header, ring) &&
	       (!c->base || header->generation > c->base->header.generation);
}

/* Was its completion asked for? ret_same: with the view of c. */
static bool was_completed(struct s3c_commit *c, const struct s3c_paused *paused, bool *ret_same)
{
	struct s3c_object *object = c->object;
	bool found = false;

	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts) && !found; i++) {
		const struct s3c_attempt *attempt = &object->attempts[i];

		found = attempt->used &&
			memcmp(attempt->op_id, paused->header.op_id, S3C_OP_ID_LEN) == 0;
		*ret_same = attempt->seq == c->seq && attempt->size == c->size;
	}
	s3c_mutex_unlock(&object->engine->lock);
	return found;
}

/* All that is only here is what was sent, unless it was changed since. */
static bool all_sent(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	struct s3c_segment *segment, *tmp;
	bool same;

	s3c_mutex_lock(&object->engine->lock);
	same = object->seq == c->seq && !object->writing;
	if (same)
		HASH_ITER (hh, object->segments, segment, tmp)
			for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS; i++)
				if (segment->slots[i].state == S3C_CHUNK_DIRTY)
					s3c_slot_set(segment, &segment->slots[i], S3C_CHUNK_SENT);
	s3c_mutex_unlock(&object->engine->lock);
	return same;
}

/* Is what it would have made there? Then that is the new version. */
static bool is_there(struct s3c_commit *c, const struct s3c_paused *paused)
{
	cleanup_entry struct s3c_entry *entry = NULL;

	if (!c->sealed ||
	    s3c_names_lookup(c->object->engine, NULL, c->entry->path, true, &entry) < 0 ||
	    entry->header.layout != S3C_LAYOUT_TRAILER || entry->header.size != c->size ||
	    memcmp(entry->header.content_id, paused->header.content_id, S3C_CONTENT_ID_LEN) != 0 ||
	    !all_sent(c))
		return false;
	s3c_header_set(&c->header, &entry->header);
	c->version = entry->version;
	c->stored = entry->stored_size;
	return true;
}

static int list_parts(struct resuming *re)
{
	const struct s3c_paused *paused = re->paused;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PARTS,
		.upload_id = paused->upload_id,
	};
	int r;

	do {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_part *all;

		r = s3c_commit_request(re->c, &rq, "list the parts of the upload of", &reply);
		if (r < 0)
			return r;
		rq.part_number = reply.parts.next;
		if (!reply.parts.count)
			return 0;
		all = reallocarray(re->listed, re->listed_count + reply.parts.count, sizeof(*all));
		if (!all)
			return -ENOMEM;
		memcpy(all + re->listed_count, reply.parts.parts, reply.parts.count * sizeof(*all));
		re->listed = all;
		re->listed_count += reply.parts.count;
	} while (rq.part_number);
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	const struct s3c_store_part *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static bool is_listed(const struct resuming *re, const struct s3c_paused_part *part)
{
	const struct s3c_store_part *found =
		re->listed_count ? bsearch(&part->done, re->listed, re->listed_count,
					   sizeof(*re->listed), compare_numbers)
				 : NULL;

	return found && found->size == part->done.size &&
	       s3c_etag_equal(found->etag, part->done.etag);
}

/* Is it what a part of the view would be, as far as that can be told without its bytes? */
static bool fits(const struct resuming *re, const struct s3c_paused_part *part, uint64_t segments)
{
	const struct s3c_upload *upload = re->upload;
	struct s3c_part like = {
		.upload = re->upload,
		.first = part->first,
		.count = part->count,
		.copy = part->copy,
	};
	unsigned k = 0;

	if ((!part->copy && !part->marks) || part->first < re->at || part->first >= segments ||
	    part->count > segments - part->first)
		return false;
	for (uint64_t i = part->first; i < part->first + part->count; i++) {
		bool marked = k < part->mark_count && part->marks[k].segment == i;
		enum s3c_segment_kind sent = part->copy ? S3C_KIND_COPY : S3C_KIND_SEND;

		if (upload->kinds[i] != S3C_KIND_HOLE && upload->kinds[i] != sent)
			return false;
		if (!part->copy && marked != (upload->kinds[i] == S3C_KIND_SEND))
			return false;
		k += marked;
	}
	return k == part->mark_count && s3c_part_len(&like) == part->done.size;
}

/* What is missing before segment to, in parts whose numbers are below number. */
static bool fill(struct resuming *re, uint64_t to, unsigned number)
{
	struct s3c_upload *upload = re->upload;
	const struct s3c_part *last = upload->count ? upload->parts[upload->count - 1] : NULL;
	unsigned used = last ? last->done.number : 0, free = number - used - 1, count;
	uint64_t most = s3c_part_segments(re->c->object->objects, used + 1);
	uint64_t cap = S3C_MAX(most, s3c_part_segments(re->c->object->objects, number));

	if (number <= used)
		return false;
	for (;; most++) {
		s3c_plan_range(upload, re->c, re->at, to, most, &count);
		if (count <= free)
			break;
		if (most >= cap)
			return false;
	}
	return s3c_plan_range(upload, re->c, re->at, to, most, NULL) == 0;
}

/* Takes the part over, to be compared. Lock held. */
static int keep_part(struct resuming *re, struct s3c_paused_part *kept)
{
	struct s3c_upload *upload = re->upload;
	struct s3c_part *part;
	int r = s3c_upload_add_part(upload, kept->first, kept->count, &part);

	if (r < 0)
		return r;
	part->done = kept->done;
	part->copy = kept->copy;
	part->check = !kept->copy;
	part->marks = steal_ptr(kept->marks);
	part->mark_count = kept->mark_count;
	part->state = kept->copy ? S3C_PART_DONE : S3C_PART_NEW;
	for (uint64_t i = kept->first; kept->copy && i < kept->first + kept->count; i++)
		if (re->c->sealed)
			s3c_plan_salt(upload, re->c, i);
	for (unsigned i = 0; i < part->mark_count; i++)
		memcpy(upload->salts + part->marks[i].segment * S3C_SALT_LEN, part->marks[i].salt,
		       S3C_SALT_LEN);
	re->at = kept->first + kept->count;
	return 0;
}

/* Lock held. */
static int place_parts(struct resuming *re)
{
	struct s3c_upload *upload = re->upload;
	uint64_t segments = s3c_segment_count(re->c->size);
	int r = s3c_plan_kinds(upload, re->c, segments);

	if (r == 0)
		r = s3c_upload_grow_salts(upload, segments);
	upload->size = re->c->size;
	for (size_t i = 0; i < re->paused->count && r == 0; i++) {
		struct s3c_paused_part *part = &re->paused->parts[i];

		if (is_listed(re, part) && fits(re, part, segments) &&
		    fill(re, part->first, part->done.number))
			r = keep_part(re, part);
	}
	upload->sent_end = re->at;
	return r;
}

static int take_key(const struct resuming *re)
{
	struct s3c_object *object = re->c->object;
	struct s3c_upload *upload = re->upload;
	char why[256] = "";
	int r;

	if (!re->c->sealed)
		return 0;
	upload->key = s3c_objects_secret(object->objects);
	if (!upload->key)
		return -ENOMEM;
	r = s3c_header_unwrap(&upload->header, s3c_keyring_in_use(&object->engine->config),
			      object->engine->volume, NULL, upload->key, why, sizeof(why));
	if (r == 0 && upload->keep && !s3c_equal_ct(upload->key, re->c->crypt->key, S3C_KEY_LEN))
		r = -EBADMSG;
	return r;
}

static int build(struct resuming *re)
{
	struct s3c_object *object = re->c->object;
	struct s3c_paused *paused = re->paused;
	struct s3c_upload *upload;
	int r = s3c_upload_new(object, &re->upload);

	if (r < 0)
		return r;
	upload = re->upload;
	upload->id = steal_ptr(paused->upload_id);
	upload->record = paused->record;
	s3c_header_set(&upload->header, &paused->header);
	upload->keep = paused->keep;
	memcpy(upload->source_etag, paused->source_etag, sizeof(upload->source_etag));
	/* Attributes that differ from its header's are corrected after it. */
	upload->stream = upload->resumed = true;
	r = take_key(re);
	if (r == 0) {
		s3c_mutex_lock(&object->engine->lock);
		r = place_parts(re);
		s3c_mutex_unlock(&object->engine->lock);
	}
	if (r == 0)
		return 0;
	paused->upload_id = steal_ptr(upload->id);
	s3c_upload_free(steal_ptr(re->upload));
	return r;
}

/* Compares what the parts have with what the file has now. */
static void check_parts(struct s3c_object *object, struct s3c_upload *upload)
{
	struct s3c_mutex *lock = &object->engine->lock;
	unsigned kept = 0;
	uint64_t bytes = 0;

	s3c_mutex_lock(lock);
	object->upload = upload;
	for (unsigned i = 0; i < upload->count; i++)
		if (upload->parts[i]->check)
			s3c_part_start(upload->parts[i]);
	s3c_upload_wait(upload);
	for (unsigned i = 0; i < upload->count; i++)
		if (upload->parts[i]->state == S3C_PART_DONE) {
			kept++;
			bytes += s3c_part_len(upload->parts[i]);
		}
	s3c_mutex_unlock(lock);
	s3c_info("%s: its upload goes on: %u parts with %ju bytes are there", upload->target->key,
		 kept, (uintmax_t)bytes);
}

/* Does a later request get another answer? Else the upload is of no use. */
static bool is_away(int r)
{
	return r == -ETIMEDOUT || r == -ECONNRESET || r == -ECONNREFUSED || r == -EHOSTUNREACH ||
	       r == -EAGAIN || r == -ENOMEM;
}

/* Its completion was asked for, by a daemon that died perhaps: then it is settled first. */
static int after_completion(struct resuming *re, bool same)
{
	bool usable = is_usable(re->c, re->paused);
	int r = re->paused->asked
			? s3c_unsettled_settle(re->c->object->engine, re->paused->key, &re->reply)
			: 0;

	if (r < 0)
		return is_away(r) ? r : -EAGAIN;
	return usable && same && is_there(re->c, re->paused) ? 1 : -EINVAL;
}

static int resume(struct resuming *re)
{
	struct s3c_commit *c = re->c;
	bool same = false;
	int r;

	if (was_completed(c, re->paused, &same) || re->paused->asked)
		return after_completion(re, same);
	if (!is_usable(c, re->paused))
		return -EINVAL;
	r = list_parts(re);
	return r == 0 ? build(re) : r;
}

int s3c_upload_resume(struct s3c_commit *c, struct s3c_upload **ret_upload)
{
	struct s3c_object *object = c->object;
	struct s3c_mutex *lock = &object->engine->lock;
	struct resuming re = { .c = c };
	int r;

	*ret_upload = NULL;
	s3c_mutex_lock(lock);
	re.paused = steal_ptr(object->paused);
	s3c_mutex_unlock(lock);
	if (!re.paused)
		return 0;
	r = resume(&re);
	free(re.listed);
	if (is_away(r)) {
		s3c_mutex_lock(lock);
		object->paused = re.paused;
		s3c_mutex_unlock(lock);
		return s3c_object_fail(object, "look after the former upload of", c->target, r,
				       re.reply.message);
	}
	if (r == 0) {
		s3c_paused_free(re.paused);
		check_parts(object, re.upload);
		*ret_upload = re.upload;
		return 0;
	}
	/* A completed one is aborted too: a folder store whose process died right then has its
	 * parts. */
	if (r == -ENXIO)
		s3c_paused_forget(re.paused);
	else
		s3c_paused_abort(re.paused);
	return r == 1;
}
