/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Bodies and references in the store, in an order in which every crash leaves each name that was
 * acknowledged with its content:
 *
 *	first link	copy of the object as the body, with a count of 2; reference at the new
 *			name, which must be free; reference over the object, which must be the one
 *			that was copied
 *	further ones	count + 1; reference at the new name
 *	unlink		the reference goes; count - 1
 *
 * So the count is never too low after a crash, and a body without a name is all that can be left.
 *
 * A request whose reply was lost may have its effect yet. A body goes only when none of a reference
 * to it can: the name would have lost its content, the first name that of the file. What stays in
 * vain is swept later.
 */
#include "engine/links.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/content.h"
#include "engine/epochs.h"
#include "engine/pending.h"

#define COMMITS_MAX 3

struct s3c_counting {
	TAILQ_ENTRY(s3c_counting) link;
	const uint8_t *id;
};

static void reference_header(struct s3c_engine *engine, const struct s3c_reference *ref,
			     const char *key, struct s3c_header *ret_header)
{
	struct s3c_header header = {
		.layout =
			s3c_sealed_mode(engine) ? S3C_LAYOUT_REFERENCE : S3C_LAYOUT_PLAIN_REFERENCE,
		.attrs = *ref->attrs,
		.epoch = engine->volume ? engine->volume->epoch : 0,
	};

	header.attrs.known = true;
	header.attrs.nlink = 0;
	header.attrs.rdev = 0;
	header.attrs.xattrs = NULL;
	if (!(header.attrs.mode & S_IFMT))
		header.attrs.mode |= S_IFREG;
	memcpy(header.file_id, ref->id, sizeof(header.file_id));
	memcpy(header.content_id, ref->id, sizeof(header.content_id));
	if (ref->op_id)
		memcpy(header.op_id, ref->op_id, sizeof(header.op_id));
	else
		s3c_random(header.op_id, sizeof(header.op_id));
	header.generation = s3c_next_generation(
		engine, key, ref->replaces ? ref->replaces->header.generation : 0);
	*ret_header = header;
}

/* Right before a write without a condition: -EEXIST, -ESTALE. */
static int look_before(struct s3c_engine *engine, const struct s3c_reference *ref, const char *key)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = s3c_key_head(engine, key, &reply);

	if (r == -ENOENT)
		return ref->replaces ? -ESTALE : 0;
	if (r < 0)
		return r;
	if (!ref->replaces)
		return -EEXIST;
	return s3c_etag_equal(reply.stat.version.etag, ref->replaces->version.etag) ? 0 : -ESTALE;
}

/* Is what stands there what was sent? Negative: nobody can tell. */
static int is_ours(struct s3c_engine *engine, const char *key, const struct s3c_header *header,
		   struct s3c_version *ret_version)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_header struct s3c_header found = { 0 };
	int r = s3c_key_head(engine, key, &reply);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (s3c_header_of(engine, key, &reply.stat, &found) < 0 ||
	    memcmp(found.op_id, header->op_id, S3C_OP_ID_LEN) != 0)
		return 0;
	*ret_version = reply.stat.version;
	return 1;
}

/* What a PUT that was refused, or whose reply was lost, has come to. */
static int put_resolve(struct s3c_engine *engine, struct s3c_reference *ref, const char *key,
		       const struct s3c_header *header, int result, struct s3c_version *ret_version)
{
	bool lost = s3c_result_lost(result);
	int r;

	if (!lost && result != -EEXIST && result != -ESTALE)
		return result;
	r = is_ours(engine, key, header, ret_version);
	ref->unsure = r < 0 || (lost && !r);
	if (r > 0)
		return 0;
	/* Refused for its own first time, perhaps. */
	return r < 0 && s3c_result_lost(r) ? r : result;
}

static int put(struct s3c_engine *engine, struct s3c_reference *ref, const char *key,
	       const struct s3c_header *header)
{
	const struct s3c_store_caps *caps = &engine->store->caps;
	__attribute__((cleanup(s3c_meta_free))) struct s3c_meta meta = { 0 };
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_version version;
	char body[S3C_REFERENCE_LEN] = S3C_REFERENCE_BODY;
	struct iovec iov = { .iov_base = body, .iov_len = sizeof(body) };
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT,
		.key = key,
		.meta = &meta,
		.content = true,
		.body = &iov,
		.body_count = 1,
	};
	int r = s3c_ssec_of(engine, key, &ssec, &rq.ssec);

	r = r < 0 ? r : s3c_header_to_meta(engine, header, NULL, ref->path, key, &meta);
	if (r < 0)
		return r;
	s3c_random(body + S3C_REFERENCE_MIN, sizeof(body) - S3C_REFERENCE_MIN);
	if (!ref->replaces)
		rq.condition.if_none_match = caps->put_if_none_match;
	else if (caps->put_if_match && ref->replaces->version.etag[0])
		rq.condition.if_match = ref->replaces->version.etag;
	if (!rq.condition.if_none_match && !rq.condition.if_match)
		r = look_before(engine, ref, key);
	if (r < 0)
		return r;
	r = s3c_request(engine, &rq, NULL, &reply);
	version = reply.stat.version;
	if (r < 0)
		r = put_resolve(engine, ref, key, header, r, &version);
	if (r == -EEXIST || r == -ESTALE || r == -ENOENT)
		return ref->replaces ? -ESTALE : -EEXIST;
	if (r < 0)
		return s3c_engine_fail(engine, "write", key, r, reply.message);
	/* It is there, whatever fails from here on. */
	ref->unsure = true;
	r = s3c_epochs_confirm(engine, header);
	if (r < 0)
		return r == -EREMOTEIO ? -EIO : r;
	s3c_note_generation(engine, key, header, false);
	r = s3c_entry_local(engine, ref->path, false, header, &version, S3C_REFERENCE_LEN, NULL,
			    &ref->entry);
	ref->unsure = r < 0;
	return r;
}

int s3c_reference_put(struct s3c_engine *engine, struct s3c_reference *ref)
{
	cleanup_free char *key = NULL;
	struct s3c_header header;
	int r = s3c_key_of(engine, ref->path, false, &key);

	if (r < 0)
		return r;
	reference_header(engine, ref, key, &header);
	return put(engine, ref, key, &header);
}

bool s3c_reference_delete(struct s3c_engine *engine, const struct s3c_entry *entry)
{
	cleanup_free char *key = NULL;

	if (!entry)
		return true;
	if (s3c_key_of(engine, entry->path, false, &key) < 0 ||
	    s3c_delete_key(engine, key, entry->version.etag) < 0)
		return false;
	s3c_note_generation(engine, key, &entry->header, true);
	return true;
}

/* A file on its way to a body. */
struct linking {
	struct s3c_engine *engine;
	struct s3c_op *op;
	const char *from, *to;
	const uint8_t *id;
	enum s3c_linking how;
	char body_path[S3C_BODY_PATH];
	struct s3c_object *object; /* a reference, and frozen; NULL: not open */
	bool shut;                 /* all at from is frozen */
	struct s3c_entry *source, *body;
};

static bool is_again(const struct linking *ln)
{
	return ln->how == S3C_LINKING_AGAIN;
}

static void linking_end(struct linking *ln)
{
	if (ln->object) {
		s3c_object_thaw(ln->object);
		s3c_object_close(ln->object);
	}
	if (ln->shut)
		s3c_objects_thaw_below(ln->engine, ln->from);
	s3c_entry_put(ln->source);
	s3c_entry_put(ln->body);
}

bool s3c_refers_to(const struct s3c_entry *entry, const uint8_t *id)
{
	return !entry->is_dir && s3c_layout_is_reference(entry->header.layout) &&
	       memcmp(entry->header.file_id, id, S3C_FILE_ID_LEN) == 0;
}

static int source_closed(struct linking *ln)
{
	int r = s3c_objects_freeze_below(ln->engine, ln->op, ln->from);

	if (r < 0)
		return r;
	ln->shut = true;
	r = s3c_names_lookup(ln->engine, ln->op, ln->from, is_again(ln), &ln->source);
	if (r < 0)
		return r;
	return ln->source->is_dir ? -EPERM : 0;
}

/* Bodies of attempts are told by their operation ids from what others have made of them since. */
#define OURS_LEN 8

static void body_op_id(const struct linking *ln, uint8_t ret_op_id[static S3C_OP_ID_LEN])
{
	s3c_random(ret_op_id, S3C_OP_ID_LEN);
	memcpy(ret_op_id, ln->id, OURS_LEN);
}

static bool is_of_attempt(const struct linking *ln, const struct s3c_entry *there)
{
	return memcmp(there->header.op_id, ln->id, OURS_LEN) == 0 || !there->header.attrs.nlink;
}

/*
 * What an earlier attempt has made. 1: it is what is wanted, the linking's. 0 with an entry: it is
 * of the file as it was then, and replaced under a condition, as a request of that attempt may be
 * under way still; 0 without: there is none. -EEXIST: somebody has written to it, by the second
 * name; both go on for themselves. One that the sweep has found without a name is as good as none.
 */
static int body_find(struct linking *ln, struct s3c_entry **ret_there)
{
	const struct s3c_entry *source = ln->source;
	cleanup_entry struct s3c_entry *there = NULL;
	int r;

	s3c_names_invalidate(ln->engine, ln->body_path, false);
	r = s3c_names_lookup(ln->engine, ln->op, ln->body_path, true, &there);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = s3c_same_content(there, source) && there->header.attrs.nlink &&
	    s3c_attrs_same(&there->header.attrs, &source->header.attrs);
	if (!r && !is_of_attempt(ln, there))
		return -EEXIST;
	*(r ? &ln->body : ret_there) = steal_ptr(there);
	return r;
}

static int body_make(struct linking *ln)
{
	const struct s3c_entry *source = ln->source;
	cleanup_entry struct s3c_entry *there = NULL;
	cleanup_free char *from = NULL;
	cleanup_free char *to = NULL;
	struct s3c_version version;
	struct s3c_copy copy = {
		.path = ln->body_path,
		.old = &source->header,
		.header = source->header,
		.source = &source->version,
		.stored_size = source->stored_size,
		.extra = source->extra,
		/* A key of its own that nobody else can know. */
		.guard = true,
		.looked = true,
		.op_given = true,
		.body = s3c_entry_body(source),
	};
	int r = is_again(ln) ? body_find(ln, &there) : 0;

	if (r > 0)
		return 0;
	if (there) {
		copy.replaces = &there->version;
		copy.looked = false;
	}
	r = r < 0 ? r : s3c_key_of(ln->engine, ln->from, false, &from);
	r = r < 0 ? r : s3c_key_of(ln->engine, ln->body_path, false, &to);
	if (r < 0)
		return r;
	copy.from = from;
	copy.to = to;
	body_op_id(ln, copy.header.op_id);
	copy.header.attrs.nlink = ln->to ? 2 : 1;
	copy.header.attrs.ctime_ns = s3c_clock_realtime_ns();
	copy.header.attrs_final = source->header.layout == S3C_LAYOUT_TRAILER;
	r = s3c_copy_object(ln->engine, &copy, &version);
	/* The copy of an earlier attempt has come meanwhile: nobody else knows that key. */
	if (r == -EEXIST || r == -EREMCHG)
		r = -EAGAIN;
	/* It was looked for in vain. */
	s3c_names_invalidate(ln->engine, ln->body_path, false);
	return r < 0 ? r
		     : s3c_entry_local(ln->engine, ln->body_path, false, &copy.header, &version,
				       source->stored_size, source, &ln->body);
}

/* The new name: what an earlier attempt has put there is replaced. */
static int second_put(struct linking *ln, struct s3c_reference *ref)
{
	cleanup_entry struct s3c_entry *there = NULL;
	int r = s3c_reference_put(ln->engine, ref);

	if (r != -EEXIST || !is_again(ln))
		return r;
	s3c_names_invalidate(ln->engine, ref->path, false);
	r = s3c_names_lookup(ln->engine, ln->op, ref->path, true, &there);
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r;
	if (s3c_refers_to(there, ln->id)) {
		ref->entry = steal_ptr(there);
		return 0;
	}
	/* A copy under the new name whose original was to go: the same file still. */
	if (there->is_dir || !s3c_same_content(there, ln->source))
		return -EEXIST;
	ref->replaces = there;
	r = s3c_reference_put(ln->engine, ref);
	ref->replaces = NULL;
	return r;
}

/* What is written to the open file from here on belongs to its body. */
static void follow(struct s3c_object *object, struct s3c_entry *body)
{
	struct s3c_engine *engine = object->engine;

	/* First, as what the journal has of it is written under its new path. */
	s3c_mutex_lock(&engine->lock);
	object->attrs.nlink = body->header.attrs.nlink;
	object->saved.attrs.nlink = body->header.attrs.nlink;
	s3c_mutex_unlock(&engine->lock);
	s3c_object_moved(object, body);
}

/* Open objects follow the file to its body. */
static void object_follow(struct linking *ln)
{
	struct s3c_engine *engine = ln->engine;
	struct s3c_object *object = ln->object;
	cleanup_entry struct s3c_entry *base = NULL;

	if (object)
		s3c_object_ref(object);
	else
		object = s3c_object_find(engine, ln->from);
	if (!object)
		return;
	base = s3c_object_base(object);
	if (base && s3c_entry_same_content(base, ln->source))
		follow(object, ln->body);
	s3c_object_close(object);
}

/* Is no other object open under the path? */
static bool may_move(struct s3c_object *object, const char *path)
{
	struct s3c_engine *engine = object->engine;
	struct s3c_object *other;
	bool may;

	s3c_mutex_lock(&engine->lock);
	/* What the journal is given is one view, with its base. */
	while (object->persisting)
		s3c_waitq_wait(&object->waitq, &engine->lock, NULL);
	HASH_FIND_STR(engine->objects->by_path, path, other);
	may = !object->detached &&
	      (!other || (!other->users && !other->committing && !s3c_object_is_dirty(other)));
	s3c_mutex_unlock(&engine->lock);
	return may;
}

/* The frozen object of a name: has that become a reference to what the object stands on, by a request
   of an earlier attempt? Then the object goes on there: 1. */
static int follow_late(struct linking *ln, struct s3c_object *object)
{
	struct s3c_engine *engine = ln->engine;
	cleanup_entry struct s3c_entry *base = s3c_object_base(object);
	cleanup_entry struct s3c_entry *there = NULL, *body = NULL;
	char path[S3C_BODY_PATH];
	int r;

	if (!base)
		return 0;
	r = s3c_names_lookup(engine, ln->op, ln->from, true, &there);
	if (r < 0 || there->is_dir || !s3c_layout_is_reference(there->header.layout))
		return r == -ENOENT ? 0 : S3C_MIN(r, 0);
	s3c_body_path(there->header.file_id, path);
	r = s3c_names_lookup(engine, ln->op, path, true, &body);
	if (r < 0 || !s3c_same_content(base, body))
		return r == -ENOENT ? 0 : S3C_MIN(r, 0);
	if (!may_move(object, path))
		return 0;
	follow(object, body);
	return 1;
}

/* What is to be copied is in the store, and nothing is on its way there. */
static int source_find(struct linking *ln)
{
	struct s3c_engine *engine = ln->engine;
	struct s3c_object *object = s3c_object_find(engine, ln->from);
	int r = 0;

	if (!object)
		return source_closed(ln);
	if (is_again(ln)) {
		r = s3c_object_freeze(object, ln->op);
		if (r == 0) {
			r = follow_late(ln, object);
			s3c_object_thaw(object);
		}
	}
	if (r) {
		s3c_object_close(object);
		return r < 0 ? r : source_closed(ln);
	}
	for (int commits = 0;; commits++) {
		r = s3c_object_freeze(object, ln->op);
		if (r < 0)
			break;
		ln->source = s3c_object_base(object);
		if (ln->source && (commits == COMMITS_MAX || !s3c_object_dirty(object))) {
			ln->object = object;
			return 0;
		}
		s3c_object_thaw(object);
		s3c_entry_put(steal_ptr(ln->source));
		if (commits == COMMITS_MAX) {
			r = -EBUSY;
			break;
		}
		r = s3c_object_commit(object, ln->op);
		if (r < 0)
			break;
	}
	s3c_object_close(object);
	return r;
}

static void publish(struct linking *ln, const struct s3c_reference *first,
		    const struct s3c_reference *second)
{
	struct s3c_engine *engine = ln->engine;

	s3c_mutex_lock(&engine->lock);
	s3c_object_cache_drop(engine->objects, ln->from, false);
	s3c_names_set_locked(engine->names, ln->body);
	if (second->entry)
		s3c_names_set_locked(engine->names, second->entry);
	s3c_names_set_locked(engine->names, first->entry);
	s3c_mutex_unlock(&engine->lock);
	object_follow(ln);
}

static int link_source(struct linking *ln)
{
	struct s3c_reference second = {
		.path = ln->to,
		.id = ln->id,
		.attrs = &ln->source->header.attrs,
	};
	struct s3c_reference first = second;
	int r = body_make(ln);

	if (r == 0 && ln->to)
		r = second_put(ln, &second);
	if (r == 0) {
		first.path = ln->from;
		first.replaces = ln->source;
		/* The file was stored from here, perhaps a moment ago: a record of it that came
		   back would take the reference for another machine's. */
		s3c_records_sync_drops(ln->engine);
		r = s3c_reference_put(ln->engine, &first);
		/* Attributes were changed elsewhere, or the content: once more with what is there.
		 */
		if (r == -ESTALE)
			s3c_names_invalidate(ln->engine, ln->from, false);
		/* Of a pair the next attempt goes on with what is there: a DELETE that came late
		   would take it away then. */
		if (r < 0 && ln->how == S3C_LINKING_ONCE)
			second.unsure |= !s3c_reference_delete(ln->engine, second.entry);
	}
	/* Nor goes the body of one, unless that ends here. */
	if (r < 0 && (ln->how == S3C_LINKING_ONCE || (r == -EEXIST && !is_again(ln))) &&
	    !first.unsure && !second.unsure)
		s3c_reference_delete(ln->engine, ln->body);
	if (first.unsure)
		s3c_names_invalidate(ln->engine, ln->from, false);
	if (second.unsure && ln->to)
		s3c_names_invalidate(ln->engine, ln->to, false);
	if (r == 0)
		publish(ln, &first, &second);
	s3c_entry_put(first.entry);
	s3c_entry_put(second.entry);
	return r;
}

/* The first name was made a reference before, and nobody was told. */
static int link_rest(struct linking *ln)
{
	const uint8_t *id = ln->source->header.file_id;
	cleanup_entry struct s3c_entry *there = NULL;
	struct s3c_reference ref = { .path = ln->to, .id = id, .attrs = &ln->source->header.attrs };
	int r = s3c_names_lookup(ln->engine, ln->op, ln->to, true, &there);

	if (r == 0)
		return s3c_refers_to(there, id) ? 0 : -EEXIST;
	if (r != -ENOENT)
		return r;
	r = memcmp(id, ln->id, S3C_FILE_ID_LEN) == 0 ? 0
						     : s3c_links_count(ln->engine, ln->op, id, 1);
	if (r == 0)
		r = s3c_reference_put(ln->engine, &ref);
	if (r == 0)
		s3c_names_set(ln->engine, ref.entry);
	s3c_entry_put(ref.entry);
	if (r != -EEXIST)
		return r;
	/* That of an earlier attempt, perhaps, which has come since it was looked for. */
	s3c_names_invalidate(ln->engine, ln->to, false);
	r = s3c_names_lookup(ln->engine, ln->op, ln->to, true, &there);
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r;
	return s3c_refers_to(there, id) ? 0 : -EEXIST;
}

/* What an open file stands on was changed elsewhere: the next attempt begins with what is there. */
static void refresh_open(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object = s3c_object_find(engine, path);

	if (!object)
		return;
	s3c_mutex_lock(&engine->lock);
	s3c_object_refresh(object, op);
	s3c_mutex_unlock(&engine->lock);
	s3c_object_close(object);
}

int s3c_links_store(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		    const uint8_t id[static S3C_FILE_ID_LEN], enum s3c_linking how)
{
	struct linking ln = {
		.engine = engine,
		.op = op,
		.from = from,
		.to = to,
		.id = id,
		.how = how,
	};
	int r;

	s3c_body_path(id, ln.body_path);
	r = source_find(&ln);
	if (r == 0)
		r = !s3c_layout_is_reference(ln.source->header.layout) ? link_source(&ln)
		    : to                                               ? link_rest(&ln)
								       : -ESTALE;
	linking_end(&ln);
	if (r == -ESTALE)
		refresh_open(engine, op, from);
	/* Of a look at what is there, which nobody has put into words that programs know. */
	if (r == -ECONNRESET || r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -EPROTO)
		r = s3c_engine_fail(engine, "link", to ? to : from, r, NULL);
	return r;
}

int s3c_links_add(struct s3c_engine *engine, struct s3c_op *op, const char *to,
		  const uint8_t id[static S3C_FILE_ID_LEN])
{
	char body[S3C_BODY_PATH];
	struct s3c_attrs attrs = { 0 };
	struct s3c_reference ref = { .path = to, .id = id, .attrs = &attrs };
	struct s3c_info info;
	int r;

	s3c_body_path(id, body);
	r = s3c_engine_lookup(engine, op, body, &info);
	if (r < 0)
		return r;
	attrs = (struct s3c_attrs){
		.known = true,
		.mode = info.mode,
		.uid = info.uid,
		.gid = info.gid,
		.mtime_ns = info.mtime_ns,
		.atime_ns = info.atime_ns,
		.ctime_ns = s3c_clock_realtime_ns(),
	};
	r = s3c_links_count(engine, op, id, 1);
	if (r < 0)
		return r;
	r = s3c_reference_put(engine, &ref);
	if (ref.unsure)
		s3c_names_invalidate(engine, to, false);
	else if (r < 0)
		s3c_links_lost_name(engine, id);
	if (r < 0)
		return r;
	s3c_names_set(engine, ref.entry);
	s3c_entry_put(ref.entry);
	return 0;
}

/* One at a time for each body. */
static int counting_begin(struct s3c_engine *engine, struct s3c_op *op, struct s3c_counting *self)
{
	struct s3c_links *links = engine->links;
	struct s3c_counting *other;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	do {
		TAILQ_FOREACH (other, &links->counting, link)
			if (memcmp(other->id, self->id, S3C_FILE_ID_LEN) == 0)
				break;
		if (other)
			r = s3c_waitq_wait(&links->counted, &engine->lock, op);
	} while (other && r == 0);
	if (r == 0)
		TAILQ_INSERT_TAIL(&links->counting, self, link);
	s3c_mutex_unlock(&engine->lock);
	return r;
}

static void counting_end(struct s3c_engine *engine, struct s3c_counting *self)
{
	s3c_mutex_lock(&engine->lock);
	TAILQ_REMOVE(&engine->links->counting, self, link);
	s3c_waitq_wake_all(&engine->links->counted);
	s3c_mutex_unlock(&engine->lock);
}

int s3c_links_count(struct s3c_engine *engine, struct s3c_op *op,
		    const uint8_t id[static S3C_FILE_ID_LEN], int by)
{
	struct s3c_counting self = { .id = id };
	struct s3c_attrs attrs = { .known = true };
	char body[S3C_BODY_PATH];
	struct s3c_info info;
	int r = counting_begin(engine, op, &self);

	if (r < 0)
		return r;
	s3c_body_path(id, body);
	r = s3c_engine_lookup(engine, op, body, &info);
	/* Removed by its last name: nobody may bring it back. */
	if (r == 0 && by > 0 && !info.nlink)
		r = -ENOENT;
	if (r == 0 && by > 0 && info.nlink >= S3C_NLINK_MAX)
		r = -EMLINK;
	if (r == 0 && (by > 0 || info.nlink)) {
		attrs.nlink = info.nlink + (unsigned)by;
		r = s3c_engine_setattr(engine, op, body, NULL, S3C_SET_NLINK, &attrs, &info);
	}
	counting_end(engine, &self);
	return r;
}

void s3c_links_lost_name(struct s3c_engine *engine, const uint8_t id[static S3C_FILE_ID_LEN])
{
	char body[S3C_BODY_PATH];
	int r = s3c_links_count(engine, NULL, id, -1);

	s3c_body_path(id, body);
	if (r < 0)
		s3c_warn(
			"%s: a name of it was removed, and the count of its names could not be "
			"stored (%s): stat shows one too many until s3cryptfsctl links counts them",
			body, strerror(-r));
}

bool s3c_links_refers(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      uint8_t ret_id[static S3C_FILE_ID_LEN])
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;

	if (object) {
		s3c_object_close(object);
		return false;
	}
	if (s3c_names_lookup(engine, op, path, false, &entry) < 0 ||
	    !s3c_layout_is_reference(entry->header.layout))
		return false;
	memcpy(ret_id, entry->header.file_id, S3C_FILE_ID_LEN);
	return true;
}

int s3c_links_broken(struct s3c_engine *engine, const struct s3c_entry *reference)
{
	struct s3c_names *names = engine->names;
	char body[S3C_BODY_PATH];
	bool first;

	s3c_body_path(reference->header.file_id, body);
	s3c_mutex_lock(&engine->lock);
	first = s3c_ring_first(names->refused, ARRAY_LEN(names->refused), &names->refused_next,
			       s3c_hash_text(body, s3c_hash_text(reference->path, 0)));
	s3c_mutex_unlock(&engine->lock);
	if (first)
		s3c_error("%s: its content should be in the object %s, which is not there: removed "
			  "by other means, or this is a mount of another folder than that where "
			  "the file was linked",
			  reference->path, body);
	return -ENOLINK;
}
