/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Renaming. A file is copied onto its new key, sealed for it, and the old key is
 * deleted when the copy is known to be right: at every moment one of the two is
 * whole. A file that the store has never seen only changes where its first commit
 * goes. Directories: rename_dir.c.
 *
 * In writeback the latter is a matter of the journal (pending_ops.c); whatever the store has to
 * do is done by it now, after what was pending of the two names.
 */
#include "engine/content.h"
#include "engine/links.h"
#include "engine/pending.h"

#include <errno.h>
#include <string.h>

#define COMMITS_MAX 3
#define COPIES_MAX 3 /* when another machine changes what is copied or replaced */
#define FRESH_NS (5 * S3C_NSEC_PER_SEC)

struct rename {
	struct s3c_engine *engine;
	struct s3c_op *op;
	const char *from, *to;
	bool noreplace;
	/* References; an object is there when its name is open. */
	struct s3c_object *source, *target;
	struct s3c_entry *source_entry, *target_entry; /* as the store has them; NULL: not there */
	struct s3c_entry *copied; /* an earlier copy, in the place of the target by now; or NULL */
	struct s3c_entry *came; /* the copy, of an attempt that was told to have failed; or NULL */
	bool late;              /* there was one */
	bool finish;            /* nothing is to be done but that such a one is finished */
	bool target_detached;
	bool target_shut; /* frozen: nothing has to be kept of it */
	/* Attributes of the source that the store does not have, and the copy will. */
	bool fold;
	struct s3c_attrs attrs;
	uint64_t attrs_seq;
	/* Of the last copy, which may be there, or come yet, although it failed. */
	uint8_t copy_op[S3C_OP_ID_LEN];
	bool copy_unsure;
	bool source_unseen; /* it may have been replaced before that copy was there */
	bool followed;      /* the source is under its new name */
	bool old_unknown;   /* nobody knows of the old name, nor sees to it */
};

static void rename_free(struct rename *rn)
{
	if (rn->source)
		s3c_object_close(steal_ptr(rn->source));
	if (rn->target)
		s3c_object_close(steal_ptr(rn->target));
	s3c_entry_put(steal_ptr(rn->source_entry));
	s3c_entry_put(steal_ptr(rn->target_entry));
	s3c_entry_put(steal_ptr(rn->copied));
	s3c_entry_put(steal_ptr(rn->came));
	s3c_attrs_clear(&rn->attrs);
}

static int find_names(struct rename *rn)
{
	struct s3c_engine *engine = rn->engine;
	int r = 0;

	rn->source = s3c_object_find(engine, rn->from);
	if (!rn->source)
		r = s3c_names_lookup(engine, rn->op, rn->from, false, &rn->source_entry);
	if (r < 0)
		return r;
	rn->target = s3c_object_find(engine, rn->to);
	if (!rn->target)
		r = s3c_names_lookup(engine, rn->op, rn->to, false, &rn->target_entry);
	return r == -ENOENT ? 0 : r;
}

/* Are both names of one file? */
static bool refers_same(const struct rename *rn)
{
	const struct s3c_entry *a = rn->source_entry, *b = rn->target_entry;

	return a && b && s3c_layout_is_reference(a->header.layout) &&
	       s3c_layout_is_reference(b->header.layout) &&
	       memcmp(a->header.file_id, b->header.file_id, S3C_FILE_ID_LEN) == 0;
}

/* Has the target come of this very rename, when it was asked for before? */
static bool is_late(const struct rename *rn)
{
	return refers_same(rn) &&
	       s3c_late_rename_is(rn->engine, rn->source_entry, rn->target_entry);
}

static int check_types(const struct rename *rn)
{
	bool from_dir = rn->source_entry && rn->source_entry->is_dir;
	bool to_dir = rn->target_entry && rn->target_entry->is_dir;

	if (!rn->target && !rn->target_entry)
		return 0;
	if (rn->noreplace && !is_late(rn))
		return -EEXIST;
	if (from_dir && !to_dir)
		return -ENOTDIR;
	return !from_dir && to_dir ? -EISDIR : 0;
}

/* The file that is replaced lives on for those who have it open. */
static int detach_target(struct rename *rn)
{
	int r;

	if (!rn->target)
		return 0;
	r = s3c_object_freeze(rn->target, rn->op);
	if (r < 0)
		return r;
	rn->target_entry = s3c_object_base(rn->target);
	if (!s3c_writeback(rn->engine) && s3c_object_is_shut(rn->target)) {
		rn->target_shut = true;
		return 0;
	}
	r = s3c_object_detach(rn->target, rn->op);
	s3c_object_thaw(rn->target);
	rn->target_detached = r == 0;
	return r;
}

/* It was replaced, or not. */
static void release_target(struct rename *rn, bool replaced)
{
	if (!rn->target_shut)
		return;
	if (replaced)
		s3c_object_discard(rn->target);
	s3c_object_thaw(rn->target);
	rn->target_shut = false;
}

static void reattach_target(struct rename *rn)
{
	release_target(rn, false);
	/* Its content is sent over the copy then, as over what was sent of it before. */
	if (rn->target_detached && rn->copy_unsure)
		s3c_object_note_attempt(rn->target, rn->copy_op, rn->source_entry->header.size);
	if (rn->target_detached && s3c_object_reattach(rn->target, rn->to) < 0)
		s3c_error("%s: it was to be replaced and was not, and was opened anew meanwhile: "
			  "what the former opening writes is lost",
			  rn->to);
}

/*
 * What the journal alone has of the target is acknowledged, and what takes its place is not: after
 * a crash the target is there as it was before.
 */
static int store_target(struct rename *rn)
{
	bool recorded;

	if (!rn->target)
		return 0;
	s3c_mutex_lock(&rn->engine->lock);
	recorded = rn->target->jid && s3c_object_is_dirty(rn->target);
	s3c_mutex_unlock(&rn->engine->lock);
	return recorded ? s3c_object_commit(rn->target, rn->op) : 0;
}

/* The source is frozen and was never stored. */
static int rename_local(struct rename *rn)
{
	struct s3c_info info;
	bool taken;
	int r = store_target(rn);

	/* Sent, with a reply that was lost: it would come back under the old name. */
	if (r == 0)
		r = s3c_delete_sent(rn->engine, rn->from, rn->source);
	taken = r > 0;
	if (r >= 0)
		r = detach_target(rn);
	if (r < 0)
		return r;
	s3c_object_info(rn->source, &info);
	r = s3c_object_rekey(rn->source, rn->to, rn->target_entry);
	if (r < 0) {
		reattach_target(rn);
		return r;
	}
	release_target(rn, true);
	if (taken)
		s3c_names_taken(rn->engine, rn->from);
	else
		s3c_names_remove(rn->engine, rn->from);
	if (!rn->target_entry)
		s3c_names_add_local(rn->engine, rn->to, info.mode);
	return 0;
}

/* Nothing was known at the target, and that was seen a moment ago: where the store honours no
   condition on copies another look would cost a request, and tell hardly more. */
static bool seen_absent(struct rename *rn)
{
	struct s3c_names *names = rn->engine->names;
	const struct s3c_dir_list *dir;
	const struct s3c_node *node;
	int64_t seen = INT64_MIN;
	size_t index;

	if (rn->noreplace || rn->target_entry || rn->target)
		return false;
	s3c_mutex_lock(&rn->engine->lock);
	node = s3c_node_find(names, rn->to);
	if (node && node->known && !node->entry && !node->refusal)
		seen = node->fetched_ns;
	dir = s3c_listed_index(names, rn->to, &index);
	if (dir && index == SIZE_MAX)
		seen = S3C_MAX(seen, dir->started_ns);
	s3c_mutex_unlock(&rn->engine->lock);
	return seen > s3c_clock_monotonic_ns() - FRESH_NS;
}

static int copy_entry(struct rename *rn, const char *from_key, const char *to_key,
		      struct s3c_entry **ret_entry)
{
	const struct s3c_entry *entry = rn->source_entry, *target = rn->copied ?: rn->target_entry;
	struct s3c_version version;
	struct s3c_copy copy = {
		.from = from_key,
		.to = to_key,
		.path = rn->to,
		.old = &entry->header,
		.header = entry->header,
		.source = &entry->version,
		.stored_size = entry->stored_size,
		.extra = entry->extra,
		.op_given = true,
		.guard = true,
		.looked = !rn->copied && seen_absent(rn),
		.replaces = target ? &target->version : NULL,
		.over = target ? target->header.generation : 0,
		.body = s3c_entry_body(entry),
	};
	int r;

	if (rn->fold)
		copy.header.attrs = rn->attrs;
	copy.header.attrs.ctime_ns = s3c_clock_realtime_ns();
	copy.header.attrs_final = entry->header.layout == S3C_LAYOUT_TRAILER;
	s3c_random(rn->copy_op, sizeof(rn->copy_op));
	memcpy(copy.header.op_id, rn->copy_op, sizeof(rn->copy_op));
	r = s3c_copy_object(rn->engine, &copy, &version);
	rn->source_unseen = copy.source_unseen;
	rn->copy_unsure = r < 0 && r != -ESTALE && r != -EEXIST && r != -EREMCHG;
	return r < 0 ? r
		     : s3c_entry_local(rn->engine, rn->to, false, &copy.header, &version,
				       entry->stored_size, entry, ret_entry);
}

/* The source was changed by another machine: what it is now, when that can be renamed as well. */
static int look_again(struct rename *rn)
{
	cleanup_entry struct s3c_entry *now = NULL;
	int r = s3c_names_lookup(rn->engine, rn->op, rn->from, true, &now);

	if (r < 0)
		return r;
	if (now->is_dir || (rn->source && !s3c_entry_same_content(now, rn->source_entry)))
		return -ESTALE;
	s3c_entry_put(rn->source_entry);
	rn->source_entry = steal_ptr(now);
	return 0;
}

/* Is it what may be replaced: what was seen, or what was sent from here with a reply that was lost?
 */
static bool may_replace(struct rename *rn, const struct s3c_entry *now)
{
	if (now->is_dir)
		return false;
	return (rn->target_entry && s3c_entry_same_content(now, rn->target_entry)) ||
	       (rn->target && s3c_object_sent(rn->target, now->header.op_id));
}

/* The target is not what was seen: what it is now, when that may be replaced all the same. */
static int look_at_target(struct rename *rn)
{
	cleanup_entry struct s3c_entry *now = NULL;
	int r;

	if (rn->noreplace)
		return -EEXIST;
	r = s3c_names_lookup(rn->engine, rn->op, rn->to, true, &now);
	if (r < 0 && r != -ENOENT)
		return r;
	if (now && !may_replace(rn, now))
		return -EBUSY;
	s3c_entry_put(rn->target_entry);
	rn->target_entry = steal_ptr(now);
	return 0;
}

static int copy_source(struct rename *rn, const char *from_key, const char *to_key,
		       struct s3c_entry **ret_entry)
{
	int r = 0;

	if (rn->came) {
		*ret_entry = steal_ptr(rn->came);
		return 0;
	}
	for (int copies = 0; r == 0 && copies < COPIES_MAX; copies++) {
		r = copy_entry(rn, from_key, to_key, ret_entry);
		if (r == 0)
			return 0;
		if (r == -ESTALE)
			r = look_again(rn);
		else if (r == -EEXIST || r == -EREMCHG)
			r = look_at_target(rn);
	}
	if (r == 0 || r == -ESTALE) {
		s3c_error("%s was not renamed: another machine changes it", rn->from);
		return -ESTALE;
	}
	/* Not ESTALE, at which the kernel looks the names up and asks again, unseen by anybody. */
	if (r == -EBUSY)
		s3c_error("%s was not renamed: another machine has written %s since it was looked "
			  "at; look again, and rename again if that version is to go",
			  rn->from, rn->to);
	return r;
}

/* Who opened the source since it was looked at: frozen with its path. */
static void move_late(struct rename *rn, struct s3c_entry *entry)
{
	struct s3c_object *late = s3c_object_find(rn->engine, rn->from);
	cleanup_entry struct s3c_entry *base = late ? s3c_object_base(late) : NULL;

	if (base && s3c_entry_same_content(base, rn->source_entry))
		s3c_object_moved(late, entry);
	if (late)
		s3c_object_close(late);
}

/* The copy is there: what is written to the open file from here on belongs to it. */
static void follow(struct rename *rn, struct s3c_entry *entry)
{
	if (rn->followed)
		return;
	rn->followed = true;
	if (rn->fold)
		s3c_object_attrs_stored(rn->source, rn->attrs_seq);
	if (rn->source)
		s3c_object_moved(rn->source, entry);
	else
		move_late(rn, entry);
}

/*
 * Whether the old name is gone nobody knows, and the copy is there. An open file must not stay
 * where its content may be no more: it follows, and the journal has what is left to be done. What
 * the journal has of its content is under the new name before it is told that the old one is gone.
 */
static bool keep_deleting(struct rename *rn, struct s3c_entry *entry,
			  struct s3c_pending **ret_later)
{
	int r;

	if (!s3c_durable(rn->engine))
		return false;
	if (rn->source && s3c_object_dirty(rn->source))
		follow(rn, entry);
	r = s3c_pending_moved(rn->engine, rn->source_entry, rn->followed ? NULL : rn->source, true,
			      ret_later);
	if (r < 0 && !rn->followed)
		return false;
	rn->old_unknown = r < 0;
	s3c_warn("%s was renamed to %s; that it is gone under the old name %s", rn->from, rn->to,
		 r < 0 ? "is not known: look, and delete it" : "is seen to later");
	return true;
}

/* The source was replaced by another machine before the copy was there, perhaps long ago: what it
   is now is renamed, over that copy. */
static int copy_newer(struct rename *rn, const char *from_key, const char *to_key,
		      struct s3c_entry **entry)
{
	struct s3c_entry *newer;
	int r = look_again(rn);

	if (r < 0)
		return r;
	s3c_entry_put(rn->copied);
	rn->copied = s3c_entry_ref(*entry);
	r = copy_entry(rn, from_key, to_key, &newer);
	if (r < 0)
		return r;
	s3c_entry_put(*entry);
	*entry = newer;
	return 0;
}

/* -ESTALE: what came after the copy stays. */
static int delete_source(struct rename *rn, const char *from_key, const char *to_key,
			 struct s3c_entry **entry)
{
	int r = -ESTALE;

	for (int copies = 0; r == -ESTALE && copies < COPIES_MAX; copies++) {
		const char *etag = rn->source_entry->version.etag;
		int newer;

		/* What has been written there since is another file. */
		if (rn->late)
			return s3c_delete_seen(rn->engine, from_key, etag);
		if (!rn->source_unseen)
			return s3c_delete_key(rn->engine, from_key, etag);
		r = s3c_delete_seen(rn->engine, from_key, etag);
		newer = r == -ESTALE ? copy_newer(rn, from_key, to_key, entry) : 0;
		if (newer < 0)
			return newer == -ENOENT ? 0 : newer;
	}
	return r;
}

/* A reference under the new name, with this operation id, makes both names those of one file. */
static void note_late(struct rename *rn, const uint8_t op[static S3C_OP_ID_LEN])
{
	if (s3c_layout_is_reference(rn->source_entry->header.layout))
		s3c_late_rename_note(rn->engine, rn->source_entry, rn->to, op, rn->target_entry);
}

/* The target is detached. */
static int rename_recorded(struct rename *rn)
{
	struct s3c_engine *engine = rn->engine;
	cleanup_free char *from_key = NULL;
	cleanup_free char *to_key = NULL;
	cleanup_entry struct s3c_entry *entry = NULL;
	struct s3c_pending *later = NULL;
	bool taken;
	int r = s3c_key_of(engine, rn->from, false, &from_key);

	if (r == 0)
		r = s3c_key_of(engine, rn->to, false, &to_key);
	if (r == 0)
		r = copy_source(rn, from_key, to_key, &entry);
	if (r < 0) {
		if (rn->copy_unsure)
			note_late(rn, rn->copy_op);
		reattach_target(rn);
		s3c_names_invalidate(engine, rn->to, false);
		return r;
	}
	release_target(rn, true);
	r = s3c_pending_moved(engine, rn->source_entry, rn->source, false, &later);
	if (r == -EAGAIN)
		r = delete_source(rn, from_key, to_key, &entry);
	if (s3c_result_lost(r) && keep_deleting(rn, entry, &later))
		r = 0;
	/* The copy is what was to be renamed: what came after it is another file of the old name.
	 */
	taken = r == -ESTALE || r == -EREMCHG;
	if (taken)
		s3c_warn("%s was renamed to %s, and another machine wrote a new %s meanwhile: "
			 "that one stays",
			 rn->from, rn->to, rn->from);
	if (r < 0 && !taken) {
		s3c_error("%s was copied to %s and could not be deleted: both exist", rn->from,
			  rn->to);
		note_late(rn, entry->header.op_id);
		s3c_names_invalidate(engine, rn->from, false);
		s3c_names_set(engine, entry);
		return r;
	}
	if (taken || rn->old_unknown) {
		s3c_names_invalidate(engine, rn->from, false);
	} else {
		if (!later)
			s3c_note_generation(engine, from_key, &rn->source_entry->header, true);
		s3c_names_remove(engine, rn->from);
	}
	s3c_names_set(engine, entry);
	follow(rn, entry);
	if (later)
		s3c_pending_moved_end(engine, later);
	return 0;
}

/* The source's entry is known; its object, when there is one, is frozen. */
static int rename_stored(struct rename *rn)
{
	uint64_t record = 0;
	int r = s3c_keep_parent(rn->engine, rn->op, rn->from);

	if (r == 0)
		r = detach_target(rn);
	if (r < 0)
		return r;
	if (s3c_writeback(rn->engine)) {
		r = s3c_rename_record(rn->engine, rn->from, rn->to, rn->source_entry, &record);
		if (r < 0) {
			reattach_target(rn);
			return r;
		}
	}
	r = rename_recorded(rn);
	if (record)
		s3c_rename_unrecord(rn->engine, record, r == 0 ? rn->target : NULL);
	return r;
}

static int rename_closed(struct rename *rn)
{
	int r = s3c_objects_freeze_below(rn->engine, rn->op, rn->from);

	if (r < 0)
		return r;
	r = rename_stored(rn);
	s3c_objects_thaw_below(rn->engine, rn->from);
	return r;
}

/*
 * The open source is brought into the store first, so that nothing is on its way to the old key.
 * What is written after that goes to the new one with the next commit; attributes alone go with
 * the copy.
 */
static int rename_open(struct rename *rn)
{
	/* What was never stored and did not fit into the journal. */
	bool first = s3c_writeback(rn->engine);
	int r;

	for (int commits = 0;; commits++) {
		r = s3c_object_freeze(rn->source, rn->op);
		if (r < 0)
			return r;
		rn->source_entry = s3c_object_base(rn->source);
		rn->fold = s3c_object_attrs_only(rn->source, &rn->attrs, &rn->attrs_seq);
		if ((!rn->source_entry && !first) || commits == COMMITS_MAX || rn->fold ||
		    !s3c_object_dirty(rn->source))
			break;
		s3c_object_thaw(rn->source);
		s3c_entry_put(steal_ptr(rn->source_entry));
		r = s3c_object_commit(rn->source, rn->op);
		if (r < 0)
			return r;
	}
	r = rn->source_entry ? rename_stored(rn) : rename_local(rn);
	s3c_object_thaw(rn->source);
	return r;
}

static int find_checked(struct rename *rn)
{
	int r = find_names(rn);

	return r < 0 ? r : check_types(rn);
}

/* 0: done; -EAGAIN: the store has to do it, and nothing is pending that is in its way. */
static int rename_ahead(struct rename *rn)
{
	int r = -EAGAIN;

	if (rn->source) {
		r = s3c_object_freeze(rn->source, rn->op);
		if (r < 0)
			return r;
		r = s3c_object_is_unsent(rn->source)
			    ? s3c_pending_rename(rn->engine, rn->op, rn->from, rn->to, rn->source,
						 rn->target, rn->target_entry)
			    : -EAGAIN;
		s3c_object_thaw(rn->source);
	}
	if (r != -EAGAIN)
		return r;
	r = s3c_pending_flush(rn->engine, rn->op, rn->from);
	if (r == 0)
		r = s3c_pending_flush(rn->engine, rn->op, rn->to);
	if (r < 0)
		return r;
	rename_free(rn);
	r = find_checked(rn);
	return r < 0 ? r : -EAGAIN;
}

/* The target that has come of this very rename is the copy. */
static bool came_late(struct rename *rn)
{
	struct s3c_entry *target;

	if (!s3c_late_rename_take(rn->engine, rn->source_entry, rn->target_entry, &target))
		return false;
	rn->came = rn->target_entry;
	rn->target_entry = target;
	rn->late = true;
	return true;
}

static int rename_held(struct rename *rn)
{
	int r = find_checked(rn);

	if (r == 0 && rn->finish && !is_late(rn))
		return -ENOENT;
	if (r == 0 && s3c_writeback(rn->engine)) {
		r = rename_ahead(rn);
		if (r != -EAGAIN)
			return r;
		r = 0;
	}
	if (r < 0)
		return r;
	/* Both names are the file's, and stay. */
	if (refers_same(rn) && !came_late(rn))
		return rn->finish ? -ENOENT : 0;
	if (rn->finish && !rn->late)
		return -ENOENT;
	if (rn->source)
		return rename_open(rn);
	if (!rn->source_entry->is_dir)
		return rename_closed(rn);
	return s3c_rename_dir(rn->engine, rn->op, rn->from, rn->to, rn->source_entry,
			      rn->target_entry);
}

/* The names of a pair, of which the first goes. */
int s3c_rename_held(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to)
{
	struct rename rn = { .engine = engine, .op = op, .from = from, .to = to };
	int r = rename_held(&rn);

	rename_free(&rn);
	return r;
}

/* Has a file lost a name, by having been replaced? Not by a rename over a new file that has the
   place of a reference which the store has still: that name was counted when it was removed. */
static bool lost_name(const struct rename *rn, uint8_t ret_body[static S3C_FILE_ID_LEN])
{
	const struct s3c_entry *target = rn->target_entry;

	if (!target || rn->target || !s3c_layout_is_reference(target->header.layout))
		return false;
	memcpy(ret_body, target->header.file_id, S3C_FILE_ID_LEN);
	return true;
}

/* Pairs are stored as what they are before a rename has to do with them. */
static int hold_settled(struct s3c_engine *engine, struct s3c_op *op, struct s3c_hold *holds)
{
	for (unsigned tries = 0; tries < S3C_RESOLVE_TRIES; tries++) {
		int r = s3c_links_settle(engine, op, holds[0].path);

		if (r == 0)
			r = s3c_links_settle(engine, op, holds[1].path);
		if (r == 0)
			r = s3c_hold_begin(engine, op, holds, 2);
		if (r < 0)
			return r;
		if (!s3c_links_any(engine, holds[0].path) && !s3c_links_any(engine, holds[1].path))
			return 0;
		s3c_hold_end(engine, holds, 2);
	}
	return -EBUSY;
}

static int check_paths(struct s3c_engine *engine, const char *from, const char *to)
{
	cleanup_free char *key = NULL;
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (!*from || !*to)
		return -EBUSY;
	if (strcmp(from, to) != 0 && s3c_path_below(to, from))
		return -EINVAL;
	return s3c_key_of(engine, to, false, &key);
}

static int rename_names(struct rename *rn)
{
	struct s3c_engine *engine = rn->engine;
	struct s3c_hold holds[] = {
		{ .path = rn->from, .below = true },
		{ .path = rn->to, .below = true, .removes = true },
	};
	uint8_t body[S3C_FILE_ID_LEN];
	bool lost;
	int r = hold_settled(engine, rn->op, holds);

	if (r < 0)
		return r;
	r = rename_held(rn);
	if (r < 0 && rn->came)
		note_late(rn, rn->came->header.op_id);
	lost = r == 0 && lost_name(rn, body) && !refers_same(rn);
	rename_free(rn);
	s3c_hold_end(engine, holds, 2);
	if (lost)
		s3c_links_lost_name(engine, body);
	return r;
}

int s3c_engine_rename(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		      const char *to, bool noreplace)
{
	struct rename rn = {
		.engine = engine,
		.op = op,
		.from = from,
		.to = to,
		.noreplace = noreplace,
	};
	struct s3c_info info;
	int r = check_paths(engine, from, to);

	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (strcmp(from, to) == 0 || s3c_links_same_pair(engine, from, to)) {
		r = s3c_engine_lookup(engine, op, from, &info);
		return r == 0 && noreplace ? -EEXIST : r;
	}
	return rename_names(&rn);
}

int s3c_rename_finish(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		      const char *to)
{
	struct rename rn = { .engine = engine, .op = op, .from = from, .to = to, .finish = true };
	int r = check_paths(engine, from, to);

	return r < 0 ? r : rename_names(&rn);
}
