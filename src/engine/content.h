/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the content half share; nobody else includes it but its tests.
 *
 *	slots.c   the states of chunks, their checker    crypt.c   data keys, salts, targets
 *	object.c  the table of objects, their life       attach.c  what operations on names need
 *	fetch.c   GETs into chunks                       read.c    pinning chunks, reads, read-ahead
 *	foreign.c objects of other clients: verified as a whole before anything is read
 *	write.c   writes, truncation                     room.c    making room: spill, retries
 *	durable.c what the journal keeps of objects      recover.c taking it up again
 *	sync.c    what close and fsync wait for
 *	commit.c  when and how the store is brought up to date; one PUT; metadata alone
 *	clone.c   content that the store copies from another object
 *	exclusive.c names that are in the store when they are made
 *	upload.c  multipart uploads, streams             plan.c    which parts an upload has
 *	whole.c   commits in the formats of other clients
 *	upload_journal.c  uploads that can go on         resume.c  going on with one
 *
 * The view of an object is its size, its attributes, and its chunks; a chunk without a slot (or
 * ABSENT) has the bytes of base as far as base_visible, and zeros past it. base is what the store
 * holds; a truncation lowers base_visible, only a commit raises it.
 *
 * States of a chunk. In memory: slot->page; in the spill file: slot->spill.
 *
 *	state     page   spill  means
 *	ABSENT    -      -      base and base_visible tell its bytes
 *	FETCHING  -      -      slot->fetch brings it; belongs to that fetch
 *	CLEAN     yes    -      equals base; page in the read pool
 *	DIRTY     yes    -      only here; page in the dirty pool
 *	DIRTY     yes    yes    the page is a copy of the spilled one; page in the read pool
 *	DIRTY     -      yes    only in the spill file
 *	SENT      as DIRTY      was sealed into a part or body that the store has not confirmed as
 *	                        an object; a write makes it DIRTY, success CLEAN, failure DIRTY
 *	SENT      -      -      the part is in the store, and there was no room to keep the chunk:
 *	                        whoever needs it has to commit first (upload->dropped)
 *
 *	ABSENT -> FETCHING -> CLEAN -> ABSENT (evicted)      ABSENT, CLEAN -> DIRTY (written)
 *	DIRTY -> SENT -> CLEAN | ABSENT (spilled) | DIRTY     any -> ABSENT (truncated)
 *	FETCHING -> ABSENT (failed, truncated, overwritten as a whole)
 *
 * Other invariants, which s3c_object_check tests:
 *  - a page of a slot has object and chunk set, and page->sent says whether the state is SENT;
 *  - segment counters equal the states of its slots; a segment is freed when nothing is counted;
 *  - busy: the chunk is being read from the spill file, it has no page; page->spilling: it is being
 *    written there, and has no slot in it yet; both keep writers and truncation waiting;
 *  - writing and sealing of a page are never both not 0;
 *  - the bytes of a page past the end of the file are zero while nobody writes;
 *  - upload implies that the object has a path; streamed parts cover segments [0, sent_end).
 *
 * All is guarded by engine->lock unless said otherwise. An object waits on one queue, waitq, for
 * all that happens to it.
 */
#pragma once

#include "engine/memory.h"
#include "engine/private.h"
#include "engine/spill.h"
#include "object/s3ec_body.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define S3C_PIN_MAX 17 /* chunks that 1 MiB can touch */
#define S3C_BATCH 16u  /* chunks that are opened, sealed or pinned at a time */
#define S3C_STALE_TRIES 3u

enum s3c_chunk_state {
	S3C_CHUNK_ABSENT,
	S3C_CHUNK_FETCHING,
	S3C_CHUNK_CLEAN,
	S3C_CHUNK_DIRTY,
	S3C_CHUNK_SENT,
};

struct s3c_fetch;
struct s3c_slot {
	union {
		struct s3c_page *page;
		struct s3c_fetch *fetch; /* FETCHING */
	};
	uint32_t spill;   /* slot in the spill file + 1; 0: none */
	uint16_t waiters; /* readers that are about to use the chunk: it is not evicted */
	uint8_t state;
	bool busy;
	bool journaled; /* DIRTY, SENT: the object's record has these bytes */
};

struct s3c_segment {
	uint64_t index;
	UT_hash_handle hh;
	unsigned used, dirty, sent, waiters; /* slots not ABSENT, DIRTY, SENT; sum of waiters */
	bool uploaded; /* by a stream, and the part is in the store: its chunks may be dropped */
	bool dropped; /* some were: nothing of it can be sent again before the upload is complete */
	struct s3c_slot slots[S3C_SEGMENT_CHUNKS];
};

/* The key of an object and its customer key. Immutable, reference-counted (atomically). */
struct s3c_target {
	unsigned refs;
	char *path, *key;
	struct s3c_ssec *ssec; /* secret memory; NULL: none */
};

/* What opens the chunks of one stored content. Immutable, reference-counted (atomically). */
struct s3c_crypt {
	unsigned refs;
	enum s3c_layout layout;
	uint64_t size; /* plaintext */
	uint64_t segments;
	uint8_t file_id[S3C_FILE_ID_LEN];
	uint8_t *key;   /* secret memory; NULL: plain */
	uint8_t *salts; /* 16 bytes a segment; NULL: plain */
	/* Non-hole segments before each, when there are holes; NULL: its index. */
	uint32_t *rank;
	struct s3c_s3ec_body *body; /* of a foreign object: it was verified; file_id is its id */
};

/*
 * A daemon has so many whose outcome it does not know before it looks at the store. Each crash adds
 * one to those of a record (the next one may have been sent), so more are kept than that.
 */
#define S3C_ATTEMPTS_OPEN 4u
#define S3C_ATTEMPTS 12u
/* An attempt to write the object, whose outcome may not be known yet. */
struct s3c_attempt {
	uint8_t op_id[S3C_OP_ID_LEN];
	uint64_t size, visible; /* visible: the smallest size of the view since */
	uint64_t seq;           /* of the view that it publishes */
	bool used;
};

/* The view that the journal has of an object; see durable.h. */
struct s3c_saved {
	uint64_t seq, size, base_visible;
	bool content; /* not only attributes differ from base */
	struct s3c_attrs attrs;
	struct s3c_entry *base; /* with a reference; NULL: none */
};

struct s3c_upload;
struct s3c_paused;
struct s3c_mark;
struct s3c_object {
	struct s3c_engine *engine;
	struct s3c_objects *objects;
	LIST_ENTRY(s3c_object) all;
	char *path;
	UT_hash_handle hh; /* by path, while hashed */
	bool hashed;       /* it is what its path means */
	bool detached;     /* it has no path */
	unsigned users;    /* opens */
	unsigned refs;     /* jobs and fetches */
	bool cached;       /* no users, clean, kept for the next open */
	TAILQ_ENTRY(s3c_object) cached_link;
	struct s3c_target *target;

	struct s3c_entry *base; /* NULL: never committed */
	struct s3c_entry *detached_base;
	struct s3c_crypt *crypt; /* of base; NULL: not needed so far */
	uint64_t base_visible;
	uint8_t token[16];

	uint64_t size;
	struct s3c_attrs attrs;
	struct s3c_segment *segments;
	struct s3c_waitq waitq;
	bool preparing, refreshing;
	struct s3c_pass *pass;     /* verifies a foreign base; with a reference while it runs */
	struct s3c_entry *refused; /* a foreign base that is not authentic; with a reference */
	unsigned writing;          /* writes that copy bytes */
	unsigned busy; /* slots that are read from the spill file, pages written there */

	/* dirty: seq != clean_seq; its content: content_seq != content_clean. */
	uint64_t seq, clean_seq, content_seq, content_clean;
	bool committing;
	/* The request that changes the object in the store may have had its effect. */
	bool publishing;
	bool localizing; /* detach brings what base has */
	bool renewing;   /* the next commit writes all of its content anew: renew.c */
	bool claiming;   /* the name is being made exclusively: exclusive.c */
	/* A copy of this version (with a reference; NULL: none) of which not all shows, as it was
	   then: clone.c. */
	struct s3c_entry *clone_of;
	uint64_t clone_seq, clone_content_seq;
	struct s3c_job commit_job;
	uint64_t snap_seq; /* of the running or last commit */
	uint64_t commits_begun, commits_ended;
	int commit_result;  /* of the last */
	int64_t retry_ns;   /* failed after the last close: when to try again */
	int64_t stored_ns;  /* monotonic, of the last commit that the store confirmed; 0: none */
	bool hopeless;      /* trying again cannot help */
	bool lost;          /* chunks were dropped and their upload failed */
	bool unlink_failed; /* and may have been carried out all the same */
	unsigned frozen;
	struct s3c_attempt attempts[S3C_ATTEMPTS];
	unsigned attempt_next;

	/* durable.c. jid 0: the journal has nothing of the object. */
	uint64_t jid, cid;
	struct s3c_saved saved;
	uint64_t cut;     /* smallest size since: chunk records past it are stale */
	bool persisting;  /* the view is being copied: writes and truncation wait */
	bool recording;   /* a transaction about the record is not confirmed: it is the only one */
	uint64_t old_cid; /* of the record before that one, which goes with it; 0: none */
	bool record_broken;  /* a transaction failed: the next begins anew, under another cid */
	bool record_anew;    /* likewise: the store took chunks of which the record has others */
	uint64_t record_seq; /* of the view whose transaction was confirmed */
	/* In the record: the operation id of the first commit of the saved view. */
	uint8_t next_op[S3C_OP_ID_LEN];
	bool next_op_unused;
	bool next_op_synced; /* and that record is on the disk */
	unsigned failures;   /* commits that failed since the last one that did not */

	struct s3c_upload *upload;
	struct s3c_paused *paused; /* one that the next commit goes on with, or NULL */
	bool stream_off;           /* until the next commit */
	uint64_t seq_end;
};

struct s3c_frozen_path {
	LIST_ENTRY(s3c_frozen_path) link;
	char *path;
};

struct s3c_objects {
	struct s3c_engine *engine;
	LIST_HEAD(, s3c_object) all;
	struct s3c_object *by_path;
	TAILQ_HEAD(s3c_cached_objects, s3c_object) cached; /* oldest first */
	unsigned open, cached_count;
	LIST_HEAD(, s3c_frozen_path) frozen;
	struct s3c_waitq thaw_wait;
	struct s3c_memory mem;
	struct s3c_spill *spill;
	LIST_HEAD(, s3c_fetch) fetches;
	LIST_HEAD(, s3c_pass) passes;
	struct s3c_pool *parts;    /* parts of uploads: they wait for memory and the store alone */
	unsigned uploading;        /* parts and bodies under way */
	struct s3c_paused *paused; /* uploads of an earlier daemon, while objects are taken up */
	bool no_part_copy;         /* the store refused one */
	bool no_clone;             /* the store cannot copy what this mount writes */
	bool guard_warned, closing, stop;
	uint64_t drops, drops_synced; /* removals of records; of those, on the disk */
	struct s3c_waitq idle, retry_wait;
	pthread_t retrier;
	bool retrier_runs, retrier_ends;
};

/* write.c: all from `from` on becomes zeros, and the file gets this size, in one step. */
int s3c_object_cut(struct s3c_object *object, struct s3c_op *op, uint64_t from, uint64_t size);
/* zero.c: a segment that is all here and has only zeros can be a hole of what is committed: its
   chunks count as sent then. Lock held. */
bool s3c_segment_make_hole(struct s3c_object *object, struct s3c_segment *segment);

/* attrs.c */

/* Without references: *to is a copy that ends before what it was copied from, and from. */
void s3c_attrs_apply(struct s3c_attrs *to, unsigned which, const struct s3c_attrs *from);
/* The same with them. */
void s3c_attrs_change(struct s3c_attrs *to, unsigned which, const struct s3c_attrs *from);

/* slots.c. Lock held. */
struct s3c_segment *s3c_segment_find(struct s3c_object *object, uint64_t index);
/* The slot of a chunk, NULL: there is none, it is ABSENT. */
struct s3c_slot *s3c_slot_find(struct s3c_object *object, uint64_t chunk,
			       struct s3c_segment **ret_segment);
int s3c_slot_make(struct s3c_object *object, uint64_t chunk, struct s3c_segment **ret_segment,
		  struct s3c_slot **ret_slot);
/* Changes the state and what is counted; page, fetch and spill are the caller's. */
void s3c_slot_set(struct s3c_segment *segment, struct s3c_slot *slot, enum s3c_chunk_state state);
void s3c_slot_set_page(struct s3c_object *object, uint64_t chunk, struct s3c_slot *slot,
		       struct s3c_page *page);
/* Gives back the slot of the spill file. */
void s3c_slot_unspill(struct s3c_object *object, struct s3c_slot *slot);
/* To ABSENT: lets go of what the slot has. The segment may be pruned after. */
void s3c_slot_drop(struct s3c_object *object, struct s3c_segment *segment, struct s3c_slot *slot);
void s3c_segment_prune(struct s3c_object *object, struct s3c_segment *segment);
void s3c_chunks_drop(struct s3c_object *object, uint64_t from); /* all chunks from that one on */
/* SENT chunks of segments [first, first + count) become DIRTY again or, done, CLEAN. */
void s3c_sent_end(struct s3c_object *object, uint64_t first, uint64_t count, bool done);
bool s3c_slot_evict(struct s3c_page *page);
/* 0, or -EINVAL with a sentence in why: an invariant does not hold. */
int s3c_object_check(struct s3c_object *object, char *why, size_t why_size);
int s3c_objects_check(struct s3c_engine *engine, char *why, size_t why_size);

/* crypt.c */
int s3c_target_new(struct s3c_engine *engine, const char *path, struct s3c_target **ret_target);
struct s3c_target *s3c_target_ref(struct s3c_target *target);
void s3c_target_put(struct s3c_target *target);
struct s3c_crypt *s3c_crypt_ref(struct s3c_crypt *crypt);
void s3c_crypt_put(struct s3c_crypt *crypt);
/* key (may be NULL: plain) and salts are taken over on success. */
int s3c_crypt_new(enum s3c_layout layout, uint64_t size, const uint8_t *file_id, uint8_t *key,
		  uint8_t *salts, struct s3c_crypt **ret_crypt);
/* Of a content in the format of other clients, which body opens; it is taken over on success. */
int s3c_crypt_new_whole(enum s3c_layout layout, const struct s3c_s3ec *s3ec,
			struct s3c_s3ec_body **body, struct s3c_crypt **ret_crypt);
bool s3c_crypt_hole(const struct s3c_crypt *crypt, uint64_t segment);
/* Where the stored bytes of a chunk begin; of one past the last: where its bytes end. */
uint64_t s3c_crypt_offset(const struct s3c_crypt *crypt, uint64_t chunk);
uint64_t s3c_crypt_rank(const struct s3c_crypt *crypt, uint64_t segment);
/* Sees to object->crypt (when there is a base). Lock held, released meanwhile. */
int s3c_object_prepare(struct s3c_object *object, struct s3c_op *op);
/* Asks the store again after -ESTALE: 0 when it is the same content under another ETag, which is
   base then. Lock held, released meanwhile. -ESTALE. */
int s3c_object_refresh(struct s3c_object *object, struct s3c_op *op);
/* A piece of secret memory; lets objects that are only cached give theirs back. Lock not held. */
uint8_t *s3c_objects_secret(struct s3c_objects *objects);
/* -EAGAIN and such to what FUSE gets, logged. Quiet for -EINTR. */
int s3c_object_fail(struct s3c_object *object, const char *what, const struct s3c_target *target,
		    int result, const char *message);

/* object.c. Lock held but for put. */
void s3c_object_hold(struct s3c_object *object);
void s3c_object_release(struct s3c_object *object); /* of hold; may free the object */
bool s3c_object_is_dirty(const struct s3c_object *object);
bool s3c_object_is_frozen(const struct s3c_object *object);
void s3c_object_unhash(struct s3c_object *object);
int s3c_object_hash(struct s3c_object *object, const char *path); /* -EEXIST, -ENOMEM */
void s3c_object_cache_drop(struct s3c_objects *objects, const char *path, bool below);
bool s3c_cache_shrink(struct s3c_objects *objects); /* frees the oldest cached object */
void s3c_object_set_base(struct s3c_object *object, struct s3c_entry *entry);
bool s3c_path_is_below(const char *path, const char *root);
bool s3c_same_content(const struct s3c_entry *a, const struct s3c_entry *b);

/* A new object where nothing has the name. */
int s3c_object_create_locked(struct s3c_engine *engine, const char *path, struct s3c_target *target,
			     const struct s3c_attrs *attrs, struct s3c_object **ret_object);
/* attach.c: s3c_object_rekey with the target's key made before. */
int s3c_object_rekey_locked(struct s3c_object *object, const char *to, struct s3c_target *target,
			    struct s3c_entry *base);

/* fetch.c. Lock held but for submit. */
/*
 * Begins to fetch count ABSENT chunks that are stored one after the other; object->crypt is there.
 * Makes them FETCHING. The caller submits it without the lock, and puts the reference.
 * -EAGAIN: no memory now.
 */
int s3c_fetch_new(struct s3c_object *object, uint64_t first, unsigned count, enum s3c_page_take how,
		  struct s3c_fetch **ret_fetch);
void s3c_fetch_submit(struct s3c_fetch *fetch);
struct s3c_fetch *s3c_fetch_ref(struct s3c_fetch *fetch);
void s3c_fetch_put(struct s3c_fetch *fetch);
/* 0: running or all went well. ret_base: the entry that it asked for. */
int s3c_fetch_result(const struct s3c_fetch *fetch, const struct s3c_entry **ret_base);
/* It failed because its time was over: who has more may ask again. */
bool s3c_fetch_late(const struct s3c_fetch *fetch);
/* Releases the lock meanwhile. */
void s3c_fetch_cancel_all(struct s3c_objects *objects);
/* The slot is FETCHING: takes it away from the fetch, to ABSENT. */
void s3c_fetch_disown(struct s3c_object *object, struct s3c_segment *segment,
		      struct s3c_slot *slot);

/* foreign.c. Lock held, released meanwhile. */
/*
 * Sees to object->crypt of a foreign base: the whole object is read once and verified, which goes
 * on when who waits has given up, as long as the object is open. 0: look again; -ESTALE.
 */
int s3c_foreign_prepare(struct s3c_object *object, struct s3c_op *op);
void s3c_foreign_cancel_all(struct s3c_objects *objects);
/* An object with a verified content was closed: of closed ones the newest stay, as far as there is
   room; others are verified again when they are opened. Lock held, not released. */
void s3c_foreign_trim(struct s3c_objects *objects);

/* cached.c. Lock not held. Nothing where there is no cache. */
/* A chunk of a foreign object that may turn out not to be authentic: it is checked when it comes
   back. */
void s3c_cached_put_foreign(struct s3c_engine *engine, const uint8_t *file_id, uint64_t chunk,
			    const uint8_t *data, uint32_t len);
/* Copies one opened chunk into the cache: data has all its bytes. */
void s3c_cached_put(struct s3c_engine *engine, const struct s3c_crypt *crypt,
		    const struct s3c_entry *base, const struct s3c_target *target, uint64_t chunk,
		    const uint8_t *data);
/* A chunk of a segment that is being sealed under salt: it can be found from when the store has it
   on. */
void s3c_cached_put_sealed(struct s3c_engine *engine, const uint8_t *file_id, const uint8_t *salt,
			   uint64_t chunk, const uint8_t *data, uint32_t len);
/* Fills pages with what the cache has of [first, first + count), zeros after the last byte; how
   many. */
unsigned s3c_cached_get(struct s3c_engine *engine, const struct s3c_crypt *crypt,
			const struct s3c_entry *base, const struct s3c_target *target,
			uint64_t first, unsigned count, struct s3c_page *const *pages,
			bool *ret_have);

/* read.c. Lock held, released meanwhile unless op is S3C_NOWAIT. */
/* Pins chunks [first, first + n), n <= S3C_PIN_MAX, bringing what is not in memory. A page is NULL
   where all is zeros. */
int s3c_chunks_pin(struct s3c_object *object, struct s3c_op *op, uint64_t first, unsigned n,
		   struct s3c_page **ret_pages);
void s3c_chunks_unpin(struct s3c_object *object, struct s3c_page **pages, unsigned n);
/* Begins to fetch what is missing of [first, end), as far as there is memory to spare. Lock held,
   released. */
void s3c_chunks_prefetch(struct s3c_object *object, uint64_t first, uint64_t end);
/* 1: zeros, 0: no, -EAGAIN: crypt is needed to tell. */
int s3c_chunk_is_zero(const struct s3c_object *object, uint64_t chunk);
extern const uint8_t s3c_zero_chunk[S3C_CHUNK_SIZE];

/* room.c */
/* Waits until a page of the dirty pool may be free. Lock held, released. -ENOSPC. */
int s3c_room_wait(struct s3c_object *object, struct s3c_op *op);
int s3c_retrier_start(struct s3c_objects *objects);
void s3c_retrier_stop(struct s3c_objects *objects);

/* write.c. Lock held, released meanwhile. */
/* Makes an existing chunk writable for the caller's zeroing or marks it DIRTY as it is. */
int s3c_chunk_make_dirty(struct s3c_object *object, struct s3c_op *op, uint64_t chunk,
			 struct s3c_page **ret_page);
void s3c_object_changed(struct s3c_object *object, bool content);

/* commit.c, body.c, conflict.c, upload.c, plan.c */
struct s3c_commit {
	struct s3c_object *object;
	/* The view when it began. */
	uint64_t size, base_visible, seq, content_seq;
	bool content; /* has to be written, not only attributes */
	bool renewing;
	struct s3c_attrs attrs;
	struct s3c_entry *base;
	/* Of base; there when base_visible. Of a clone: of the new version, or NULL. */
	struct s3c_crypt *crypt;
	bool cloned; /* the content is another object's, copied by the store: clone.c */
	struct s3c_target *target;
	bool sealed;
	/* The new version. */
	struct s3c_header header;
	uint8_t *key; /* data key, secret memory; NULL: plain */
	struct s3c_version version;
	uint64_t stored;
	uint8_t *salts;             /* for new_crypt */
	struct s3c_s3ec_body *body; /* likewise, of a format of one message; NULL: not known */
	struct s3c_entry *entry;    /* made before anything is sent, filled at the end */
};
/* The view as it is. Lock held. */
int s3c_commit_snapshot(struct s3c_commit *c);
void s3c_commit_clear(struct s3c_commit *c);
/* The store has confirmed header, version, stored. */
void s3c_commit_succeed(struct s3c_commit *c);
/* A commit that is given up waiting for at op's deadline; it goes on. Lock not held. */
int s3c_object_commit_within(struct s3c_object *object, struct s3c_op *op);

/* durable.c. Lock held for the first two. */
/* Is the view being copied into the journal? Then the writer waits on waitq. */
static inline bool s3c_object_persisting(const struct s3c_object *object)
{
	return object->persisting;
}
/* Does the journal have all of the present view, which the store has not? */
static inline bool s3c_object_kept(const struct s3c_object *object)
{
	return object->jid && !object->detached && !object->record_broken &&
	       object->seq != object->clean_seq && object->saved.seq == object->seq &&
	       object->record_seq >= object->seq;
}
/* The record follows the object onto another path; nothing where it has none. */
void s3c_object_record_moved(struct s3c_object *object);
/* When that was not possible at once: waits until it is so. Lock not held. */
void s3c_object_record_follow(struct s3c_object *object);
/*
 * Before a request that publishes the object under op_id: the record, where there is one, tells of
 * it on the disk. When it does not, nothing may be sent (logged): should this daemon end, the next
 * one would take up an earlier view and not know the later one in the store as ours. Lock not held.
 */
int s3c_object_record_attempt(struct s3c_object *object, const uint8_t op_id[static S3C_OP_ID_LEN]);
/* Before a request that puts something else under the key of a file that was stored from here:
   records that were removed do not come back (logged when they may). Lock not held. */
void s3c_records_sync_drops(struct s3c_engine *engine);
/* After a commit: the record goes when nothing is left to be stored; or what is left is kept there.
   Lock held, released. r: of the commit. */
void s3c_object_record_committed(struct s3c_object *object, int r);
/* Without waiting: the object is gone for good. Lock held. */
void s3c_object_record_drop(struct s3c_object *object);
/* When a closed object of a writeback mount is sent. Lock held. */
void s3c_object_schedule(struct s3c_object *object, bool closed);
/* A failure that trying again does not mend. */
bool s3c_failure_is_final(int result);
/* An object as a record has it, without users and chunks: dirty. entry NULL: no base. Lock held. */
int s3c_object_restore(struct s3c_engine *engine, const char *path, struct s3c_target *target,
		       const struct s3c_saved *saved, struct s3c_object **ret_object);

/* Starts a commit in the background when the object is dirty and nobody runs one. Lock held. */
void s3c_commit_start(struct s3c_object *object);
/* Lock not held from here on, but where said. */
/* Gives header and key of new content; keep: with file id and data key of crypt. */
int s3c_commit_header(struct s3c_commit *c, enum s3c_layout layout, bool keep);
int s3c_commit_small(struct s3c_commit *c);
int s3c_commit_large(struct s3c_commit *c);
/* Attributes alone, of entry, by a copy onto itself under the operation id of c's header: version
   and header of c. */
int s3c_commit_attrs(struct s3c_commit *c, const struct s3c_entry *entry);
/* A commit of attributes alone found another file there, or none: they go to what is there, for the
   last writer of attributes wins. 0; -ESTALE: it is not about attributes. */
int s3c_commit_attrs_elsewhere(struct s3c_object *object);
/* whole.c: formats that are one message, which is written anew with every change. */
bool s3c_whole_format(const struct s3c_engine *engine);
int s3c_commit_whole(struct s3c_commit *c);
/* One PUT with all of body, under c's header. */
int s3c_commit_put(struct s3c_commit *c, uint8_t *body, size_t len);
/* Gives the chunks of one segment of a file of size bytes to fn, in order; DIRTY chunks become
   SENT. fn must not wait for anything. */
typedef int (*s3c_chunk_sink)(void *arg, uint64_t chunk, const uint8_t *data, uint32_t len);
int s3c_segment_each(struct s3c_object *object, uint64_t segment, uint64_t size, s3c_chunk_sink fn,
		     void *arg);
/* Seals (plain: copies) one segment of a file of size bytes; key NULL: plain. DIRTY chunks become
   SENT. */
int s3c_seal_segment(struct s3c_object *object, const uint8_t *key, const uint8_t *file_id,
		     uint64_t segment, const uint8_t *salt, uint64_t size, uint8_t *out,
		     size_t *ret_len);
/* The condition under which the object may be written: of PUT or COMPLETE. */
struct s3c_condition s3c_commit_condition(const struct s3c_commit *c, bool complete);
/* Where the store honours no condition: a look right before the write. 0: base is still there (no
   base: the name is free); -ESTALE; S3C_AGAIN as of s3c_commit_resolve. */
int s3c_commit_guard(struct s3c_commit *c, const struct s3c_condition *condition);
/* Before a commit: the next attempt would make one be forgotten whose outcome is not known. Asks
   the store. S3C_AGAIN: one was done; -ESTALE: somebody else's is there. */
int s3c_commit_settle(struct s3c_commit *c);
/* Draws the operation id of the header, or takes the one under which the view was sent before or
   is in the journal. */
void s3c_commit_draw_op(struct s3c_commit *c);
/* Before a request that writes: its operation id is one of ours, and readers that find the object
   changed wait for the outcome. Errors: of s3c_object_record_attempt; nothing may be sent then. */
int s3c_commit_attempt(struct s3c_commit *c);
/* An earlier commit, whose reply was lost, took effect: its content becomes base. Lock held. */
bool s3c_object_adopt(struct s3c_object *object, struct s3c_entry *entry,
		      const uint8_t op[static S3C_OP_ID_LEN]);
/* Begin the commit anew: base is another entry by now. No errno of a store. */
#define S3C_AGAIN (-ERESTART)
/* After it failed: 0 when a look shows that it was done all the same (version is filled);
   S3C_AGAIN: an earlier attempt was, and is base now; -ESTALE: somebody else's; else result. */
int s3c_commit_resolve(struct s3c_commit *c, int result);
int s3c_commit_meta(struct s3c_commit *c, struct s3c_meta *ret_meta);
int s3c_commit_request(struct s3c_commit *c, struct s3c_store_request *rq, const char *what,
		       struct s3c_store_reply *ret_reply);
/* PATH, word, -HOST-TIME: a name for what is kept beside PATH. The caller frees; NULL: no memory.
 */
char *s3c_kept_path(const struct s3c_engine *engine, const char *path, const char *word,
		    int64_t ns);
/* After a refused commit: was what it stands on removed by an unlink that was told to have failed? Then
   0, and the file is made anew; else -ESTALE. */
int s3c_object_removed(struct s3c_object *object);
/* Somebody else changed the object: what is here becomes an object of its own beside it. */
int s3c_conflict_rename(struct s3c_object *object);
/* Brings all that base has as chunks that are only here. Lock held, released. */
int s3c_object_localize(struct s3c_object *object, struct s3c_op *op);
/* Segments in the part of that number. */
uint64_t s3c_part_segments(const struct s3c_objects *objects, unsigned number);

enum s3c_part_state { S3C_PART_NEW, S3C_PART_RUNNING, S3C_PART_DONE, S3C_PART_FAILED };
struct s3c_part {
	struct s3c_job job;
	struct s3c_upload *upload;
	uint64_t first, count; /* segments; of holes among them nothing is sent */
	bool copy, trailer;
	enum s3c_part_state state;
	bool check;      /* it was sent before: has the view what it holds? Nothing is sent */
	uint64_t stored; /* bytes sent */
	struct s3c_store_part done;
	struct s3c_mark *marks; /* of the segments sent; NULL: not wanted, or no memory */
	unsigned mark_count;
};
enum s3c_segment_kind { S3C_KIND_HOLE, S3C_KIND_SEND, S3C_KIND_COPY };
struct s3c_upload {
	struct s3c_object *object;
	/* Constant once made. */
	uint64_t serial; /* of all uploads of this process: an address may come again */
	struct s3c_target *target;
	struct s3c_header header;
	uint8_t *key;
	char *id;
	bool keep; /* file id and data key are base's */
	bool stream;
	bool resumed;    /* its first parts are those of an earlier commit */
	uint64_t record; /* in the journal, see upload_journal.h; 0: none */

	struct s3c_op op; /* of the requests for parts: cancel interrupts it */

	/* Guarded by engine->lock. */
	bool creating, cancel;
	bool dropped;            /* chunks of it are only in its parts */
	struct s3c_job job;      /* makes a stream */
	struct s3c_part **parts; /* by number - 1 */
	unsigned count, alloc, running;
	uint64_t sent_end; /* segments of a stream that are in parts */
	int64_t moved_ns;  /* when it was begun, made, or a part of it came to the store */
	uint8_t *salts;    /* 16 bytes each, of segments below salt_count; zero: hole */
	uint64_t salt_count;
	int result; /* of the first part that failed */
	char message[560];

	/* The commit's, constant while its parts run. */
	uint8_t *kinds; /* by segment; NULL: all are sent */
	uint64_t size;  /* UINT64_MAX while it streams: segments are full */
	struct s3c_buf trailer;
	struct s3c_crypt *source; /* what parts are copied from */
	char source_etag[S3C_STORE_ETAG_MAX];
};
int s3c_upload_new(struct s3c_object *object, struct s3c_upload **ret_upload);
/* Is the object's upload still the one with that number? Lock held. */
bool s3c_upload_is(const struct s3c_object *object, uint64_t serial);
void s3c_upload_free(struct s3c_upload *upload);
/* Lock held. */
int s3c_upload_add_part(struct s3c_upload *upload, uint64_t first, uint64_t count,
			struct s3c_part **ret_part);
int s3c_upload_draw_salts(struct s3c_upload *upload, uint64_t first, uint64_t count);
int s3c_upload_grow_salts(struct s3c_upload *upload, uint64_t count);
void s3c_part_start(struct s3c_part *part);
/* Until no part runs, and it is made. */
void s3c_upload_wait(struct s3c_upload *upload);
uint64_t s3c_part_len(const struct s3c_part *part);
/* Ends a stream: waits for what runs, aborts it in the store, SENT chunks are DIRTY again. One with
   dropped chunks has to be committed instead: -EBUSY. Lock held, released. */
int s3c_stream_abort(struct s3c_object *object, struct s3c_op *op);
/* After a write: sends what is complete. Lock held. */
void s3c_stream_advance(struct s3c_object *object);
/* Is the chunk among those that a stream sends next, and was there something new from the store not
   long ago? Then until when to wait for the stream. Lock held. */
bool s3c_stream_due(struct s3c_object *object, uint64_t chunk, int64_t *ret_until_ns);
/* In the store. Lock not held. */
int s3c_upload_create(struct s3c_upload *upload);
void s3c_upload_abort(struct s3c_upload *upload);

/* plan.c: the kinds of the segments of a commit, and its parts. Lock held. */
int s3c_plan_make(struct s3c_upload *upload, const struct s3c_commit *c);
/* Its steps, for one that goes on: the kinds; the salt of a segment of which nothing is in the
   store, by its kind; and parts for segments [from, to), in sends of at most most (or only their
   number). */
int s3c_plan_kinds(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t segments);
void s3c_plan_salt(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t segment);
int s3c_plan_range(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t from,
		   uint64_t to, uint64_t most, unsigned *ret_count);
