/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Making and removing names. Each operation holds the names it works on, so that
 * no other operation of this machine comes between its look and its change; what
 * has been sent is never interrupted.
 */
#include "engine/links.h"
#include "engine/pending.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DELETE_TRIES 2u /* of a DELETE whose reply was lost */
#define STALE_TRIES 3u

/* A change of path: writable, a legal name that is not the root, and not without waiting. */
static int begin(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	cleanup_free char *key = NULL;
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	return *path ? s3c_key_of(engine, path, true, &key) : -EBUSY;
}

/* -EEXIST, or 0 when nothing has the name. */
static int check_absent(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	if (object) {
		s3c_object_close(object);
		return -EEXIST;
	}
	if (s3c_links_taken(engine, path))
		return -EEXIST;
	r = s3c_names_lookup(engine, op, path, false, &entry);
	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

int s3c_engine_mkdir(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_attrs *attrs)
{
	struct s3c_hold hold = { .path = path };
	cleanup_entry struct s3c_entry *entry = NULL;
	int r = begin(engine, op, path);

	if (r == -EBUSY)
		return -EEXIST;
	if (r == 0)
		r = s3c_hold_begin(engine, op, &hold, 1);
	if (r < 0)
		return r;
	r = check_absent(engine, op, path);
	if (r == 0 && s3c_writeback(engine)) {
		r = s3c_pending_mkdir(engine, path, attrs);
		s3c_hold_end(engine, &hold, 1);
		return r;
	}
	if (r == 0) {
		r = s3c_marker_put(engine, path, attrs, NULL, true, &entry);
		/* Others have made it, or it may have come to be for all the error. */
		if (r < 0)
			s3c_names_invalidate(engine, path, false);
	}
	if (r == 0) {
		s3c_names_set(engine, entry);
		s3c_dir_set_empty(engine, path);
	}
	s3c_hold_end(engine, &hold, 1);
	return r;
}

int s3c_dir_check_empty(struct s3c_engine *engine, const char *path, bool *ret_marker)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free char *prefix = NULL;
	struct s3c_store_request rq = { .op = S3C_STORE_LIST, .max_keys = 2 };
	bool marker = false;
	int r;

	if (s3c_dir_known_nonempty(engine, path))
		return -ENOTEMPTY;
	r = s3c_dir_prefix(engine, path, &prefix);
	if (r < 0)
		return r;
	rq.prefix = prefix;
	r = s3c_request(engine, &rq, NULL, &reply);
	if (r < 0)
		return s3c_engine_fail(engine, "list", prefix, r, reply.message);
	for (size_t i = 0; i < reply.list.count; i++) {
		if (strcmp(reply.list.entries[i].key, prefix) != 0)
			return -ENOTEMPTY;
		marker = true;
	}
	*ret_marker = marker;
	return marker ? 0 : -ENOENT;
}

/* What stands at the key now. */
int s3c_key_head(struct s3c_engine *engine, const char *key, struct s3c_store_reply *reply)
{
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key };
	int r = s3c_unsettled_settle(engine, key, reply);

	if (r == 0)
		r = s3c_ssec_of(engine, key, &ssec, &rq.ssec);
	if (r == 0)
		r = s3c_request(engine, &rq, NULL, reply);
	return r;
}

/* 0: the key is gone; 1: seen stands there; -ESTALE: something else; -EIO: not known. */
static int look_after_delete(struct s3c_engine *engine, const char *key, const char *seen)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = s3c_key_head(engine, key, &reply);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return -EIO;
	return !seen || !*seen || s3c_etag_equal(reply.stat.version.etag, seen) ? 1 : -ESTALE;
}

int s3c_delete_quiet(struct s3c_engine *engine, const char *key, const char *seen,
		     char *ret_message, size_t message_size)
{
	bool conditional = seen && *seen && engine->store->caps.delete_if_match;
	bool lost = false;

	for (unsigned tries = 1;; tries++) {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_request rq = {
			.op = S3C_STORE_DELETE,
			.key = key,
			.condition.if_match = conditional ? seen : NULL,
		};
		int r = s3c_request(engine, &rq, NULL, &reply), now;

		if (r == 0 || r == -ENOENT)
			return 0;
		snprintf(ret_message, message_size, "%s", reply.message);
		if (r != -ESTALE && !s3c_result_lost(r))
			return r;
		/* Below us it may have been sent twice: then -ESTALE is the second's reply. */
		lost |= r != -ESTALE;
		now = look_after_delete(engine, key, seen);
		if (now == 0)
			return 0;
		if (now == -ESTALE)
			return lost ? -EREMCHG : -ESTALE;
		if (now < 0 || tries == DELETE_TRIES)
			return r;
	}
}

int s3c_delete_key(struct s3c_engine *engine, const char *key, const char *seen)
{
	char message[512] = "";
	int r = s3c_delete_quiet(engine, key, seen, message, sizeof(message));

	if (r == 0 || r == -ESTALE || r == -EREMCHG)
		return r;
	return s3c_engine_fail(engine, "delete", key, r, message);
}

int s3c_delete_seen(struct s3c_engine *engine, const char *key, const char *seen)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r;

	if (*seen && !engine->store->caps.delete_if_match) {
		r = s3c_overdue_settle(engine, key, S3C_OVERDUE_DELETE);
		if (r == 0)
			r = s3c_key_head(engine, key, &reply);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return s3c_engine_fail(engine, "look up", key, r, reply.message);
		if (!s3c_etag_equal(reply.stat.version.etag, seen))
			return -ESTALE;
	}
	return s3c_delete_key(engine, key, seen);
}

static int remove_dir(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_free char *key = NULL;
	bool marker = false;
	int r;

	if (object)
		s3c_object_close(object);
	if (object || s3c_links_taken(engine, path))
		return -ENOTDIR;
	r = s3c_names_lookup(engine, op, path, false, &entry);
	if (r < 0)
		return r;
	if (!entry->is_dir)
		return -ENOTDIR;
	r = s3c_dir_check_empty(engine, path, &marker);
	if (r == -ENOTEMPTY) {
		/* Perhaps someone put a file there: what is shown must not contradict that. */
		if (!s3c_dir_known_nonempty(engine, path))
			s3c_names_invalidate(engine, path, true);
		return r;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	r = s3c_key_of(engine, path, true, &key);
	if (r == 0)
		r = s3c_keep_parent(engine, op, path);
	if (r == 0 && marker)
		r = s3c_delete_key(engine, key, NULL);
	if (r < 0)
		return r;
	s3c_note_generation(engine, key, &entry->header, true);
	s3c_names_remove(engine, path);
	return 0;
}

int s3c_engine_rmdir(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_hold hold = { .path = path, .below = true };
	int r = begin(engine, op, path);

	if (r == 0)
		r = s3c_hold_begin(engine, op, &hold, 1);
	if (r < 0)
		return r;
	r = s3c_writeback(engine) ? s3c_pending_rmdir(engine, op, path)
				  : remove_dir(engine, op, path);
	s3c_hold_end(engine, &hold, 1);
	return r;
}

/* Another machine wrote the name after we were done with it. */
static int keep_other(const char *path)
{
	s3c_warn("%s was deleted, and another machine wrote a new file of that name meanwhile: "
		 "that one stays",
		 path);
	return 1;
}

/* 0: the store has the content of *seen, or what object (NULL: none) has sent with a reply that was
   lost, as *ret_now. -ESTALE: another one. 1: nothing is left. */
static int look_at(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_entry *seen,
		   struct s3c_object *object, struct s3c_entry **ret_now)
{
	struct s3c_entry *now;
	int r = s3c_names_lookup(engine, op, seen->path, true, &now);

	if (r < 0)
		return r == -ENOENT ? 1 : r;
	if (now->is_dir || !(s3c_entry_same_content(now, seen) ||
			     (object && s3c_object_sent(object, now->header.op_id)))) {
		s3c_entry_put(now);
		return -ESTALE;
	}
	s3c_entry_put(*ret_now);
	*ret_now = now;
	return 0;
}

/*
 * The version of an object that is not a directory; only content that was looked at is deleted.
 * Where the store honours no condition on DELETE it is looked at right before.
 */
static int delete_seen(struct s3c_engine *engine, struct s3c_op *op, const char *key,
		       const struct s3c_entry *seen, struct s3c_object *object)
{
	cleanup_entry struct s3c_entry *now = s3c_entry_ref((struct s3c_entry *)seen);
	int r = engine->store->caps.delete_if_match ? 0 : look_at(engine, op, seen, object, &now);

	for (unsigned tries = 1; r == 0; tries++) {
		r = s3c_delete_key(engine, key, now->version.etag);
		if (r == 0) {
			s3c_note_generation(engine, key, &now->header, true);
			return 0;
		}
		if (r == -EREMCHG)
			return keep_other(seen->path);
		/* The same content under other attributes is still the file that is meant. */
		if (r == -ESTALE && tries < STALE_TRIES)
			r = look_at(engine, op, seen, object, &now);
	}
	if (r == 1)
		return 0;
	if (r != -ESTALE)
		return r;
	s3c_error("%s was not deleted: another machine has changed it since it was looked at; look "
		  "again, and delete it again if that version is to go too",
		  seen->path);
	/* Not ESTALE, at which the kernel looks the name up and asks again, unseen by anybody. */
	return -EBUSY;
}

/* Deletes what the store has under path, which is not a directory. 1: the name is taken again. */
static int delete_stored(struct s3c_engine *engine, struct s3c_op *op,
			 const struct s3c_entry *entry, struct s3c_object *object)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free char *key = NULL;
	int r = s3c_key_of(engine, entry->path, false, &key);

	if (r == 0)
		r = s3c_keep_parent(engine, op, entry->path);
	if (r < 0)
		return r;
	r = s3c_unsettled_settle(engine, key, &reply);
	if (r < 0)
		return s3c_engine_fail(engine, "delete", key, r, reply.message);
	r = s3c_overdue_settle(engine, key, S3C_OVERDUE_DELETE);
	if (r < 0)
		return r;
	return delete_seen(engine, op, key, entry, object);
}

int s3c_delete_sent(struct s3c_engine *engine, const char *path, struct s3c_object *object)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free char *key = NULL;
	cleanup_header struct s3c_header header = { 0 };
	int r;

	if (!s3c_object_tried(object))
		return 0;
	r = s3c_key_of(engine, path, false, &key);
	if (r == 0)
		r = s3c_overdue_settle(engine, key, S3C_OVERDUE_DELETE);
	if (r < 0)
		return r;
	r = s3c_key_head(engine, key, &reply);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return s3c_engine_fail(engine, "look up", key, r, reply.message);
	r = s3c_header_of(engine, key, &reply.stat, &header);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || !s3c_object_sent(object, header.op_id))
		return keep_other(path);
	r = s3c_delete_key(engine, key, reply.stat.version.etag);
	return r == -ESTALE || r == -EREMCHG ? keep_other(path) : r;
}

/* The bytes of an open file live on; one that the store never saw costs no request. */
static int unlink_object(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			 struct s3c_object *object)
{
	cleanup_entry struct s3c_entry *base = NULL;
	int r = s3c_object_freeze(object, op);

	if (r < 0)
		return r;
	base = s3c_object_base(object);
	if (s3c_object_is_shut(object)) {
		r = delete_stored(engine, op, base, object);
		if (r >= 0)
			s3c_object_discard(object);
		else
			s3c_object_unlink_failed(object);
		s3c_object_thaw(object);
		return r;
	}
	r = s3c_object_detach(object, op);
	if (r == 0) {
		r = base ? delete_stored(engine, op, base, object)
			 : s3c_delete_sent(engine, path, object);
		if (r < 0)
			s3c_object_unlink_failed(object);
		if (r < 0 && s3c_object_reattach(object, path) < 0)
			s3c_error("%s: could not be deleted, and was opened anew meanwhile: what "
				  "the former opening writes is lost",
				  path);
	}
	s3c_object_thaw(object);
	return r;
}

static int unlink_path(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	if (object) {
		r = unlink_object(engine, op, path, object);
		s3c_object_close(object);
	} else {
		r = s3c_names_lookup(engine, op, path, false, &entry);
		if (r == 0)
			r = entry->is_dir ? -EISDIR : delete_stored(engine, op, entry, NULL);
	}
	if (r == 0)
		s3c_names_remove(engine, path);
	else if (r > 0)
		s3c_names_taken(engine, path);
	return S3C_MIN(r, 0);
}

int s3c_unlink_name(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_hold hold = { .path = path, .removes = true };
	uint8_t body[S3C_FILE_ID_LEN];
	bool refers = false;
	int r = begin(engine, op, path);

	if (r == -EBUSY)
		return -EISDIR;
	/* A file's key may be one byte longer than that of a directory. */
	if (r == 0 || r == -ENAMETOOLONG)
		r = s3c_hold_begin(engine, op, &hold, 1);
	if (r < 0)
		return r;
	if (s3c_links_same_pair(engine, path, path) || s3c_exchanges_any(engine, path)) {
		r = S3C_IS_REFERENCE;
	} else {
		refers = s3c_links_refers(engine, op, path, body);
		r = s3c_writeback(engine) ? s3c_pending_unlink(engine, op, path)
					  : unlink_path(engine, op, path);
	}
	s3c_hold_end(engine, &hold, 1);
	if (r == 0 && refers)
		s3c_links_lost_name(engine, body);
	return r;
}

/* What is whole when it is made: a link with its target, or a special file, without one (""). */
static int make_whole(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      const char *target, const struct s3c_attrs *attrs)
{
	struct s3c_object *object;
	int r;

	if (s3c_writeback(engine))
		return s3c_pending_whole(engine, op, path, target, attrs);
	r = s3c_object_create(engine, op, path, attrs, &object);
	if (r < 0)
		return r;
	if (*target)
		r = s3c_object_write(object, op, 0, target, strlen(target), false);
	if (r == 0)
		r = s3c_object_claim(object, op, path);
	else if (s3c_object_detach(object, NULL) == 0)
		s3c_names_drop_local(engine, path);
	s3c_object_close(object);
	return r;
}

int s3c_engine_symlink(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const char *target, const struct s3c_attrs *attrs)
{
	struct s3c_attrs link = *attrs;
	size_t len = strlen(target);
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (!len || len > S3C_LINK_LEN_MAX)
		return len ? -ENAMETOOLONG : -ENOENT;
	link.mode = S_IFLNK | 0777;
	return make_whole(engine, op, path, target, &link);
}

int s3c_engine_mknod(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_attrs *attrs)
{
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (!s3c_mode_is_special(attrs->mode))
		return -EINVAL;
	return op == S3C_NOWAIT ? -EINPROGRESS : make_whole(engine, op, path, "", attrs);
}

int s3c_engine_readlink(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			char *ret_target, size_t size)
{
	struct s3c_pages pages = { .count = 0 };
	struct s3c_object *object;
	struct s3c_info info;
	size_t len = 0;
	int r = s3c_object_open(engine, op, path, &object);

	if (r < 0)
		return r;
	s3c_object_info(object, &info);
	if (!S_ISLNK(info.mode))
		r = -EINVAL;
	else if (info.size > S3C_LINK_LEN_MAX || info.size >= size)
		r = -ENAMETOOLONG;
	else
		r = s3c_object_read(object, op, 0, (size_t)info.size, NULL, &pages);
	if (r == 0) {
		for (unsigned i = 0; i < pages.count; i++) {
			size_t part = S3C_MIN(pages.iov[i].iov_len, size - 1 - len);

			memcpy(ret_target + len, pages.iov[i].iov_base, part);
			len += part;
		}
		ret_target[len] = '\0';
		s3c_pages_release(engine, &pages);
	}
	s3c_object_close(object);
	return r;
}
