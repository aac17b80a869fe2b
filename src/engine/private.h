/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the engine share. One lock, engine->lock, guards all state
 * that changes: entries, listings, objects, chunks, uploads, budgets. It is
 * never held across a request, a disk access, cryptography or a copy of content;
 * who needs more pins what it needs, lets go, works, and looks again.
 *
 *	names half, see names.h		names, listing, lookup, entry, keys, copy, attrs,
 *					mutate, rename, rename_dir
 *	content half, see content.h	object, memory, spill, fetch, read, write, commit, upload
 *	both				engine.c, mount.c (volume, pins)
 */
#pragma once

#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/overdue.h"
#include "engine/unsettled.h"
#include "object/header.h"
#include "object/s3ec.h"
#include "object/trailer.h"

/*
 * What other programs set on a plain object and copies keep. Immutable, reference-counted
 * (atomically).
 */
struct s3c_extra {
	unsigned refs;
	struct s3c_meta meta;  /* all of it, our items as well */
	struct s3c_meta props; /* standard headers, see store/store.h */
	size_t bytes;          /* of both */
	unsigned unsendable;   /* items that are left out here, for they cannot be sent again */
};
struct s3c_extra *s3c_extra_ref(struct s3c_extra *extra); /* NULL is legal */
void s3c_extra_put(struct s3c_extra *extra);              /* NULL is legal */
static inline void s3c_extra_putp(struct s3c_extra **p)
{
	s3c_extra_put(*p);
}
#define cleanup_extra __attribute__((cleanup(s3c_extra_putp)))

/*
 * What the store holds under one key: an immutable snapshot, reference-counted
 * (atomically). The header is verified (seal; footer for trailers) or, for
 * plain objects, made from the metadata.
 */
struct s3c_entry {
	unsigned refs; /* atomic */
	char *path;    /* relative to the mount; a directory's has no trailing slash */
	bool is_dir;
	bool implicit;            /* a directory that only exists as a prefix: no object */
	struct s3c_header header; /* size and mtime are the effective ones */
	struct s3c_version version;
	uint64_t stored_size;
	int64_t fetched_ns; /* monotonic */
	/* Of unsealed objects; NULL: nothing but our own metadata. Of S3C_LAYOUT_S3EC the envelope.
	 */
	struct s3c_extra *extra;
	/* The envelope of an object in the format of other clients. NULL where the entry was not
	   made from its metadata (a copy, a record): then it has to be looked up. */
	struct s3c_s3ec *s3ec;
	/* Last bytes of the body when a GET brought them: content of small files, trailers. May be
	   NULL. Raw as stored (not authenticated yet). */
	uint8_t *tail;
	size_t tail_len;
};
struct s3c_entry *s3c_entry_ref(struct s3c_entry *entry);
void s3c_entry_put(struct s3c_entry *entry); /* NULL is legal */
/* All stored_size bytes of it, borrowed; NULL: they are not here, or there are none. */
static inline const uint8_t *s3c_entry_body(const struct s3c_entry *entry)
{
	return entry->tail_len == entry->stored_size ? entry->tail : NULL;
}
void s3c_entry_info(struct s3c_engine *engine, const struct s3c_entry *entry,
		    struct s3c_info *ret_info);

/* names.c, lookup.c, entry.c. All take engine->lock themselves. */

/*
 * The entry of a path, from the cache while valid, else from the store (GET of the last
 * S3C_TAIL_LEN bytes beside a LIST of one key; only what is not known from a listing). Failed
 * lookups of names in a listed directory cost nothing. refresh: ask the store whatever is cached.
 */
int s3c_names_lookup(struct s3c_engine *engine, struct s3c_op *op, const char *path, bool refresh,
		     struct s3c_entry **ret_entry);
/* After our own write or copy was confirmed: the entry replaces what is cached; listings of the
   parent learn the name. Takes engine->lock itself. */
void s3c_names_set(struct s3c_engine *engine, struct s3c_entry *entry);
/* The name is known to be absent (deleted by us). Children go too when it was a directory. */
void s3c_names_remove(struct s3c_engine *engine, const char *path);
/* A name that exists only here so far (created, not committed), or no longer. */
void s3c_names_add_local(struct s3c_engine *engine, const char *path, mode_t type);
void s3c_names_drop_local(struct s3c_engine *engine, const char *path);
/* Forget what is cached about a path (and below it): the next lookup asks the store. */
void s3c_names_invalidate(struct s3c_engine *engine, const char *path, bool below);
/* What existed here only is gone, and the store has another file of that name. */
void s3c_names_taken(struct s3c_engine *engine, const char *path);
/* Builds a verified entry from a reply's stat and the tail of the body (NULL when none was read;
   a trailer object then gives -ENODATA: read its tail). Logs a refusal once: -EIO, -EACCES. */
int s3c_entry_make(struct s3c_engine *engine, const char *path, bool is_dir,
		   const struct s3c_stat *st, const void *tail, size_t tail_len,
		   struct s3c_entry **ret_entry);

/* keys: helpers on prefix, path, SSE-C */

/* Full store key of a path (dir: with trailing slash). -ENAMETOOLONG past 1,024 bytes. Caller
 * frees. */
int s3c_key_of(struct s3c_engine *engine, const char *path, bool dir, char **ret_key);
/* The key relative to the volume's prefix, for the seal: points into key. */
const char *s3c_rel_key(struct s3c_engine *engine, const char *key);
/* Fills ret_ssec and points *ret_ptr to it, or NULL when the mode has no customer keys. */
int s3c_ssec_of(struct s3c_engine *engine, const char *key, struct s3c_ssec *ret_ssec,
		const struct s3c_ssec **ret_ptr);
/* Metadata for the store from a header (sealed modes: envelope; else attributes only). extra: where
   the envelope of a layout of other clients stands; may be NULL for any other. path: that of key,
   of which the last name counts. */
int s3c_header_to_meta(struct s3c_engine *engine, const struct s3c_header *header,
		       const struct s3c_extra *extra, const char *path, const char *key,
		       struct s3c_meta *ret_meta);

/* renew.c */

/*
 * Writes all of the content of path anew, under a new data key and sealed, whatever it was before;
 * attributes and content stay as they are, and so does the content version id: readers on other
 * machines go on. -ESTALE: another machine has changed it, and its version stays; -EBUSY: it has
 * changes that are not stored.
 */
int s3c_object_renew(struct s3c_engine *engine, struct s3c_op *op, const char *path);
/* The content version id of what entry becomes when it is renewed: its own; of a plain object one
   made of ETag and size, so that who knows those knows the content again. */
int s3c_renewed_id(const struct s3c_entry *entry,
		   uint8_t ret_content_id[static S3C_CONTENT_ID_LEN]);
/* Is b a renewed a, the same content under another data key? */
bool s3c_entry_renewed(const struct s3c_entry *a, const struct s3c_entry *b);

/* object.c: what mutate.c needs of open objects */

/* The open object of a path with a reference, or NULL. */
struct s3c_object *s3c_object_find(struct s3c_engine *engine, const char *path);
/* Before its object is deleted or replaced in the store: brings what is needed to keep reading
   (content into memory or spill), waits for a running commit, aborts a running upload. From then on
   the object has no path: commits are nothing, its bytes live until the last close. */
int s3c_object_detach(struct s3c_object *object, struct s3c_op *op);
/* Moves the object to a new path after the store did; its base becomes entry (the copy). Commits
   must be held off by the caller with s3c_object_freeze. */
void s3c_object_moved(struct s3c_object *object, struct s3c_entry *entry);
/* Waits for a running commit and keeps new ones from beginning until thaw. Counts. */
int s3c_object_freeze(struct s3c_object *object, struct s3c_op *op);
void s3c_object_thaw(struct s3c_object *object);
/* Is there an open object at or below path that holds changes the store does not have? Used before
   a directory is renamed: commits them. */
int s3c_objects_commit_below(struct s3c_engine *engine, struct s3c_op *op, const char *path);
/* All open objects below from change their path to below to. */
void s3c_objects_rebase(struct s3c_engine *engine, const char *from, const char *to);

/*
 * Asked for by the names half, implemented by the content half. As all functions
 * above and below they take engine->lock themselves (only s3c_entry_ref and
 * s3c_entry_put may be called with it held). s3c_object_moved with the path that
 * the object has already is how a metadata copy onto itself ends: the object
 * takes entry as its base and its attributes, keeping what was changed locally.
 */

/* A dirty object (one never committed is dirty) takes the attributes with its next commit: true.
   Clean: false, nothing done. Sets ctime to now; a set mtime stays until the next write. A
   detached object takes them in any case. */
bool s3c_object_fold_attrs(struct s3c_object *object, unsigned which,
			   const struct s3c_attrs *attrs);
/* What the store holds at the object's path as far as the object knows, with a reference: what the
   next commit replaces. NULL: nothing, it was never committed (nor re-keyed onto something). */
struct s3c_entry *s3c_object_base(struct s3c_object *object);
/* A frozen object without base gets another path, nothing was asked of the store: its commit goes
   there and replaces base (NULL: the name must not exist). An object of that path was detached. */
int s3c_object_rekey(struct s3c_object *object, const char *to, struct s3c_entry *base);
/* Something else was sent there, of that size, and may be there: a commit replaces it. */
void s3c_object_note_attempt(struct s3c_object *object, const uint8_t op_id[static S3C_OP_ID_LEN],
			     uint64_t size);
/* Was it sent to its present path, so that the store may have it although no reply said so? */
bool s3c_object_tried(struct s3c_object *object);
/* Was it sent with that operation id, lately? */
bool s3c_object_sent(struct s3c_object *object, const uint8_t op_id[static S3C_OP_ID_LEN]);
bool s3c_object_sent_locked(const struct s3c_object *object,
			    const uint8_t op_id[static S3C_OP_ID_LEN]);
/* The opposite of detach when the delete failed: the object has path again, with the base it had.
   -EEXIST: another object was opened there meanwhile. */
int s3c_object_reattach(struct s3c_object *object, const char *path);
/* Its unlink is told to have failed, and may be carried out all the same. */
void s3c_object_unlink_failed(struct s3c_object *object);
/* Like freeze, for all objects at or below path and those opened there until thaw_below. */
int s3c_objects_freeze_below(struct s3c_engine *engine, struct s3c_op *op, const char *path);
void s3c_objects_thaw_below(struct s3c_engine *engine, const char *path);
/* Fills all but entries_cached. */
void s3c_objects_stats(struct s3c_engine *engine, struct s3c_engine_stats *ret_stats);

/* the engine itself */

struct s3c_names;    /* names.c */
struct s3c_epochs;   /* epochs.c */
struct s3c_keynames; /* keynames.c */
struct s3c_links;    /* links.h */
struct s3c_objects;  /* object.c: table, memory, spill, fetch state */

struct s3c_engine {
	struct s3c_engine_config config; /* strings are copies */
	struct s3c_store *store;
	struct s3c_volume *volume;
	atomic_bool held;          /* read-only until it is let go, s3c_engine_hold_read_only */
	struct s3c_epochs *epochs; /* of a sealed volume; NULL: there is none. It has a lock */
	/* Where names are encrypted: config.prefix is as stored; this is the path of the mount's
	   root in the volume. */
	char *mount_path;
	struct s3c_keynames *keynames; /* has a lock of its own */
	char host[65];                 /* this machine, for names of conflicts and logs */
	struct s3c_mutex lock;
	struct s3c_names *names;     /* guarded by lock */
	struct s3c_links *links;     /* guarded by lock */
	struct s3c_objects *objects; /* guarded by lock */
	struct s3c_unsettled_all unsettled;
	struct s3c_overdue_all overdue;
	struct s3c_pool *workers; /* short jobs that compute: sealing, opening. Never wait */
	struct s3c_pool *tasks;   /* jobs that wait for the store: commits, prefetches */
};

/* config.keyring, which s3c_engine_set_keyring may change: once for what belongs together. */
static inline const struct s3c_keyring *s3c_keyring_in_use(const struct s3c_engine_config *config)
{
	return __atomic_load_n(&config->keyring, __ATOMIC_ACQUIRE);
}
int s3c_names_new(struct s3c_engine *engine, struct s3c_names **ret_names);
void s3c_names_free(struct s3c_engine *engine, struct s3c_names *names);
int s3c_objects_new(struct s3c_engine *engine, struct s3c_objects **ret_objects);
/* Commits what is dirty, waits for transfers, frees. */
void s3c_objects_free(struct s3c_engine *engine, struct s3c_objects *objects);
int64_t s3c_engine_deadline(const struct s3c_engine *engine);
/* Logs a failed request at error level, once, with the key; gives the errno for FUSE. */
int s3c_engine_fail(struct s3c_engine *engine, const char *what, const char *key, int result,
		    const char *message);
