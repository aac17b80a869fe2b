/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Attribute changes, and the markers that hold a directory's attributes. */
#include "engine/epochs.h"
#include "engine/links.h"
#include "engine/pending.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/content.h"

bool s3c_attrs_same(const struct s3c_attrs *a, const struct s3c_attrs *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
	       a->mtime_ns == b->mtime_ns && a->atime_ns == b->atime_ns &&
	       s3c_xattrs_equal(a->xattrs, b->xattrs);
}

/* 1: what stands at key is what this operation wrote, ret_found; 0: it is not; below 0: nothing is
   known. One that is repeated may have written other attributes earlier, and has drawn another
   generation and ids than it did then. */
static int marker_is_ours(struct s3c_engine *engine, const char *key, const struct s3c_ssec *ssec,
			  const struct s3c_header *header, bool repeated,
			  struct s3c_header *ret_found, struct s3c_version *ret_version)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key, .ssec = ssec };
	int r = s3c_request(engine, &rq, NULL, &reply);

	if (r < 0)
		return s3c_result_lost(r) ? r : 0;
	if (s3c_header_of(engine, key, &reply.stat, ret_found) < 0 ||
	    memcmp(ret_found->op_id, header->op_id, S3C_OP_ID_LEN) != 0 ||
	    (repeated && !s3c_attrs_same(&ret_found->attrs, &header->attrs)))
		return 0;
	*ret_version = reply.stat.version;
	return 1;
}

/* op_id NULL: one is drawn. */
static void marker_header(struct s3c_engine *engine, const char *key, const struct s3c_attrs *attrs,
			  const struct s3c_entry *prior, const uint8_t *op_id,
			  struct s3c_header *ret_header)
{
	struct s3c_header header = {
		.layout = s3c_sealed_mode(engine) ? S3C_LAYOUT_NONE : S3C_LAYOUT_PLAIN,
		.attrs = *attrs,
		.epoch = engine->volume ? engine->volume->epoch : 0,
	};

	header.attrs.known = true;
	header.attrs.mode = S_IFDIR | (attrs->mode & 07777);
	if (prior && !prior->implicit && header.layout == prior->header.layout)
		memcpy(header.file_id, prior->header.file_id, sizeof(header.file_id));
	else
		s3c_random(header.file_id, sizeof(header.file_id));
	s3c_random(header.content_id, sizeof(header.content_id));
	if (op_id)
		memcpy(header.op_id, op_id, sizeof(header.op_id));
	else
		s3c_random(header.op_id, sizeof(header.op_id));
	header.generation = s3c_next_generation(engine, key, prior ? prior->header.generation : 0);
	*ret_header = header;
}

/* The store's result as it is; message (of 512 bytes) has its words. */
static int marker_write(struct s3c_engine *engine, const char *path, const char *key,
			const struct s3c_attrs *attrs, const struct s3c_entry *prior,
			bool exclusive, const uint8_t *op_id, struct s3c_entry **ret_entry,
			struct s3c_store_reply *reply)
{
	__attribute__((cleanup(s3c_meta_free))) struct s3c_meta meta = { 0 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_version version;
	struct s3c_header header;
	cleanup_header struct s3c_header found = { 0 };
	const struct s3c_header *stored = &header;
	struct s3c_store_request rq = { .op = S3C_STORE_PUT, .meta = &meta };
	int ours, r = s3c_ssec_of(engine, key, &ssec, &rq.ssec);

	if (r < 0)
		return r;
	marker_header(engine, key, attrs, prior, op_id, &header);
	r = s3c_header_to_meta(engine, &header, NULL, path, key, &meta);
	if (r == 0 && prior && prior->extra && header.layout == S3C_LAYOUT_PLAIN) {
		rq.props = &prior->extra->props;
		r = s3c_extra_apply(prior->extra, key, true, &meta);
	}
	if (r < 0)
		return r;
	rq.key = key;
	rq.condition.if_none_match = exclusive && engine->store->caps.put_if_none_match;
	rq.content_type = S3C_DIR_TYPE;
	r = s3c_request(engine, &rq, NULL, reply);
	version = reply->stat.version;
	if (r == -EEXIST || r == -ESTALE || s3c_result_lost(r)) {
		ours = marker_is_ours(engine, key, rq.ssec, &header, op_id, &found, &version);
		if (ours > 0)
			stored = &found;
		/* Refused for its own first time, perhaps: nobody knows. */
		if (ours)
			r = ours > 0 ? 0 : s3c_result_lost(r) ? r : ours;
	}
	if (r == 0)
		r = s3c_epochs_confirm(engine, stored);
	if (r < 0)
		return r;
	s3c_note_generation(engine, key, stored, false);
	return s3c_entry_local(engine, path, true, stored, &version, 0, rq.props ? prior : NULL,
			       ret_entry);
}

int s3c_marker_put(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs,
		   const struct s3c_entry *prior, bool exclusive, struct s3c_entry **ret_entry)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free char *key = NULL;
	int r = s3c_key_of(engine, path, true, &key);

	if (r < 0)
		return r;
	r = marker_write(engine, path, key, attrs, prior, exclusive, NULL, ret_entry, &reply);
	if (r == 0 || r == -EEXIST)
		return r;
	return s3c_engine_fail(engine, "write the directory", key, r, reply.message);
}

int s3c_marker_send(struct s3c_engine *engine, const struct s3c_entry *entry,
		    const struct s3c_entry *prior, bool exclusive, struct s3c_entry **ret_entry,
		    char *ret_message, size_t message_size)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free char *key = NULL;
	int r = s3c_key_of(engine, entry->path, true, &key);

	if (r == 0)
		r = marker_write(engine, entry->path, key, &entry->header.attrs, prior, exclusive,
				 entry->header.op_id, ret_entry, &reply);
	if (r < 0)
		snprintf(ret_message, message_size, "%s", reply.message);
	return r;
}

int s3c_keep_parent(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	cleanup_free char *parent = NULL;
	cleanup_entry struct s3c_entry *entry = NULL;
	cleanup_entry struct s3c_entry *marked = NULL;
	struct s3c_node *node;
	int r;

	parent = *path ? s3c_path_parent(path) : NULL;
	if (!parent)
		return *path ? -ENOMEM : 0;
	if (!*parent)
		return 0;
	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(engine->names, parent);
	if (node && s3c_overlay_of(node) == S3C_OVERLAY_DIR) {
		s3c_mutex_unlock(&engine->lock);
		return 0; /* it is about to get one */
	}
	/* What was known is good enough, however old: markers do not go by themselves. */
	if (node && node->known && node->entry)
		entry = s3c_entry_ref(node->entry);
	s3c_mutex_unlock(&engine->lock);
	if (!entry) {
		r = s3c_names_lookup(engine, op, parent, false, &entry);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
	}
	if (!entry->implicit || s3c_dir_has_others(engine, parent, s3c_path_name(path)))
		return 0;
	if (s3c_writeback(engine))
		return s3c_pending_dir(engine, parent, &entry->header.attrs, NULL, false, NULL);
	r = s3c_marker_put(engine, parent, &entry->header.attrs, entry, false, &marked);
	if (r == 0)
		s3c_names_set(engine, marked);
	return r;
}

void s3c_attrs_apply(struct s3c_attrs *to, unsigned which, const struct s3c_attrs *from)
{
	to->known = true;
	if (which & S3C_SET_MODE)
		to->mode = (to->mode & S_IFMT) | (from->mode & 07777);
	if (which & S3C_SET_UID)
		to->uid = from->uid;
	if (which & S3C_SET_GID)
		to->gid = from->gid;
	if (which & S3C_SET_MTIME)
		to->mtime_ns = from->mtime_ns;
	if (which & S3C_SET_ATIME)
		to->atime_ns = from->atime_ns;
	if (which & S3C_SET_NLINK)
		to->nlink = from->nlink;
	if (which & S3C_SET_XATTRS)
		to->xattrs = from->xattrs;
	to->ctime_ns = s3c_clock_realtime_ns();
}

void s3c_attrs_change(struct s3c_attrs *to, unsigned which, const struct s3c_attrs *from)
{
	struct s3c_attrs changed = *to;

	s3c_attrs_apply(&changed, which, from);
	s3c_attrs_set(to, &changed);
}

static int set_dir(struct s3c_engine *engine, const struct s3c_entry *entry, unsigned which,
		   const struct s3c_attrs *attrs, struct s3c_entry **ret_entry)
{
	struct s3c_attrs all = entry->header.attrs;

	s3c_attrs_apply(&all, which, attrs);
	return s3c_marker_put(engine, entry->path, &all, entry, false, ret_entry);
}

static int set_file(struct s3c_engine *engine, const struct s3c_entry *entry, unsigned which,
		    const struct s3c_attrs *attrs, struct s3c_entry **ret_entry)
{
	cleanup_entry struct s3c_entry *bare = NULL;
	cleanup_free char *key = NULL;
	struct s3c_version version;
	struct s3c_copy copy = {
		.path = entry->path,
		.old = &entry->header,
		.header = entry->header,
		.source = &entry->version,
		.stored_size = entry->stored_size,
		.extra = entry->extra,
	};
	int r = s3c_key_of(engine, entry->path, false, &key);

	if (r < 0)
		return r;
	copy.from = key;
	copy.to = key;
	s3c_attrs_apply(&copy.header.attrs, which, attrs);
	copy.header.attrs_final = entry->header.layout == S3C_LAYOUT_TRAILER;
	r = s3c_copy_object(engine, &copy, &version);
	if (r == 0 && copy.source_unseen)
		bare = s3c_entry_without_tail(entry);
	if (r == 0 && copy.source_unseen && !bare)
		r = -ENOMEM;
	return r < 0 ? r
		     : s3c_entry_local(engine, entry->path, false, &copy.header, &version,
				       entry->stored_size, bare ?: entry, ret_entry);
}

/* One attempt with what is known, one more with what the store has when that is something else. */
static int set_stored(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_entry *base, unsigned which, const struct s3c_attrs *attrs,
		      struct s3c_entry **ret_entry)
{
	cleanup_entry struct s3c_entry *entry = base ? s3c_entry_ref(base) : NULL;
	int r = 0;

	for (int attempt = 0; attempt < 2; attempt++) {
		if (!entry)
			r = s3c_names_lookup(engine, op, path, attempt > 0, &entry);
		if (r < 0)
			return r;
		if (s3c_layout_is_reference(entry->header.layout))
			return S3C_IS_REFERENCE;
		r = entry->is_dir ? set_dir(engine, entry, which, attrs, ret_entry)
				  : set_file(engine, entry, which, attrs, ret_entry);
		if (r != -ESTALE)
			return r;
		s3c_names_invalidate(engine, path, false);
		s3c_entry_put(steal_ptr(entry));
	}
	s3c_error("%s: its attributes were not changed: another machine changes it", path);
	return r;
}

int s3c_attrs_store(struct s3c_engine *engine, const char *path, unsigned which,
		    const struct s3c_attrs *attrs)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	s3c_names_invalidate(engine, path, false);
	r = set_stored(engine, NULL, path, NULL, which, attrs, &entry);
	if (r == 0)
		s3c_names_set(engine, entry);
	return r;
}

/* Of an open object: with its next commit when it has one to make, else at once. */
static int set_object(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		      struct s3c_info *ret_info)
{
	cleanup_entry struct s3c_entry *base = NULL;
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	r = s3c_object_freeze(object, op);
	if (r < 0)
		return r;
	if (s3c_object_fold_attrs(object, which, attrs)) {
		s3c_object_thaw(object);
		s3c_object_info(object, ret_info);
		return 0;
	}
	base = s3c_object_base(object);
	r = set_stored(engine, op, path, base, which, attrs, &entry);
	if (r == 0) {
		s3c_names_set(engine, entry);
		if (!base || s3c_entry_same_content(base, entry))
			s3c_object_moved(object, entry);
		/* Written to meanwhile: the next commit must not take the change back. */
		s3c_object_fold_attrs(object, which, attrs);
	}
	s3c_object_thaw(object);
	if (r == 0)
		s3c_entry_info(engine, entry, ret_info);
	return r;
}

static int set_attrs(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		     struct s3c_info *ret_info)
{
	struct s3c_object *found = object ? NULL : s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	if (!object)
		object = found;
	r = s3c_late_setattr(engine, op, path, object, which, attrs, ret_info);
	if (r != -EAGAIN) {
		if (found)
			s3c_object_close(found);
		return r;
	}
	if (object) {
		r = set_object(engine, op, path, object, which, attrs, ret_info);
		if (found)
			s3c_object_close(found);
		return r;
	}
	r = set_stored(engine, op, path, NULL, which, attrs, &entry);
	if (r < 0)
		return r;
	s3c_names_set(engine, entry);
	s3c_entry_info(engine, entry, ret_info);
	return 0;
}

static int setattr_at(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		      struct s3c_info *ret_info)
{
	struct s3c_hold hold = { .path = path, .ahead = true };
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (s3c_writeback(engine))
		return s3c_pending_setattr(engine, op, path, object, which, attrs, ret_info);
	/* What the journal has of it is to have them too. */
	if (object && !s3c_object_recorded(object) && s3c_object_fold_attrs(object, which, attrs)) {
		s3c_object_info(object, ret_info);
		return 0;
	}
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = s3c_hold_begin(engine, op, &hold, 1);
	if (r < 0)
		return r;
	r = set_attrs(engine, op, path, object, which, attrs, ret_info);
	s3c_hold_end(engine, &hold, 1);
	return r;
}

int s3c_engine_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		       struct s3c_info *ret_info)
{
	int r = S3C_IS_REFERENCE;

	for (unsigned tries = 0; tries < S3C_RESOLVE_TRIES; tries++) {
		char at[S3C_PATH_MAX];
		bool again = false;

		r = s3c_links_resolve(engine, op, path, object, at);
		if (r == 0)
			r = setattr_at(engine, op, at, object, which, attrs, ret_info);
		if (r == 0)
			s3c_links_mark(engine, at, ret_info);
		if (r == -ENOENT)
			again = s3c_links_moved(engine, op, path, at);
		if (r != S3C_IS_REFERENCE && !again)
			return r;
	}
	return r == S3C_IS_REFERENCE ? -EIO : r;
}
