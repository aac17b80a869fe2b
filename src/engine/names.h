/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the names half share. The content half uses its copies, generations and
 * requests as well.
 *
 *	names.c    the tree of what is known of names    listing.c  listings
 *	lookup.c   asking the store for one name         entry.c    building verified entries
 *	keys.c     keys, customer keys, metadata         copy.c     one object onto another key
 *	keynames.c encrypted names
 *	mutate.c   mkdir, rmdir, unlink, links           attrs.c    attribute changes, markers
 *	rename.c   files                                 rename_dir.c  directories
 *	rename_journal.c  finishing them after a crash
 *	pending.c  names that are ahead of the store     pending_send.c  bringing them there
 *	pending_batch.c  many deletes together
 *	pending_ops.c, pending_attrs.c  operations in writeback
 *	pending_moved.c  what comes after the close of a file otherwise
 *
 * What is known stands in a tree of nodes, one a path, found by a hash of the whole path. All of
 * it is guarded by engine->lock. What a node may hold:
 *
 *	known		entry (or NULL: absent, or refused with the reason) as the store was seen to
 *			have it, up to valid_ns
 *	local		the name exists only here: created, not committed. In listings; no entry
 *	change		what we did to the name after the listing of its parent was begun
 *	pending		what the store is to be told of the name: counts more than the rest
 *	dir		its own listing
 *	flight		a lookup under way
 *
 * Invariants: a node's parent exists; a node that holds nothing, has no children and no pins is
 * freed (node_prune); change is not CHANGE_NONE only while the parent has a listing or one is
 * loading; entries of children older than the parent's listing count only if they agree with it.
 */
#pragma once

#include <sys/stat.h>

#include "engine/private.h"

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/secret.h"
#include "object/names.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define S3C_DIR_TYPE "application/x-directory" /* what other clients take for a folder */
#define S3C_LINK_LEN_MAX 4095u                 /* bytes of a symlink's target */
#define S3C_RESERVED_NAME ".s3cryptfs"         /* at the mount's root */

/* Bytes of cached entries and of cached listings at most, estimated. */
#define S3C_NAMES_ENTRY_BYTES (128u << 20)
#define S3C_NAMES_LISTING_BYTES (128u << 20)
#define S3C_PREFETCH_AHEAD 64
#define S3C_PREFETCH_MAX 128

enum s3c_change {
	S3C_CHANGE_NONE,
	S3C_CHANGE_FILE,
	S3C_CHANGE_DIR,
	S3C_CHANGE_ABSENT,
};

/* A listing as the store gave it, or merged with what we did since. Immutable. */
struct s3c_snapshot {
	struct s3c_listing base; /* first: what callers see */
	unsigned refs;           /* atomic */
	struct s3c_detail {
		uint64_t size;
		uint64_t etag_hash;  /* 0: unknown */
		int64_t modified_ns; /* 0: unknown */
		bool is_dir;
		bool known_size;
		bool instruction; /* it has an instruction file, which is not shown */
	} * details;
	char *arena; /* the names */
	size_t bytes;
	bool has_marker;
};

/* The listing of a node. */
struct s3c_dir_list {
	struct s3c_snapshot *snap; /* NULL: none yet */
	struct s3c_snapshot *view; /* snap with changes and local names; NULL: has to be made */
	int64_t started_ns, valid_ns;
	uint64_t serial;               /* of names->serial when its LIST began */
	TAILQ_ENTRY(s3c_dir_list) lru; /* while snap is not NULL */
	struct s3c_node *node;

	bool loading;
	uint64_t load_serial;
	bool load_stale; /* the directory itself was changed meanwhile */
	uint64_t loads;  /* finished ones */
	int load_result; /* of the last */

	/* Lookups in listing order: see lookup.c. */
	size_t last, ahead; /* indexes in snap */
	unsigned hits;
	bool opened; /* files are opened, not only looked at */
};

/* An object that is there and is not shown: not sealed, altered. Of the version that was seen. */
struct s3c_refusal {
	int result; /* -EIO, -EACCES */
	bool is_dir;
	uint64_t size, etag_hash;
};

struct s3c_flight;
struct s3c_pending;
enum s3c_slot_key { S3C_KEY_FILE, S3C_KEY_DIR }; /* a name has two keys: NAME and NAME/ */
struct s3c_node {
	char *path;
	UT_hash_handle hh;
	struct s3c_node *parent; /* NULL: the root */
	LIST_HEAD(, s3c_node) children;
	LIST_ENTRY(s3c_node) sibling;
	unsigned pins;

	bool known;
	struct s3c_entry *entry; /* known: NULL is a confirmed absence, or a refusal */
	struct s3c_refusal *refusal;
	int64_t fetched_ns, valid_ns;
	uint64_t agreed; /* serial of the parent's listing that the entry was compared with */
	size_t bytes;
	TAILQ_ENTRY(s3c_node) lru; /* while known */
	bool in_tails;
	TAILQ_ENTRY(s3c_node) tails; /* while in_tails: the entry has a tail */

	bool local;
	mode_t local_type;
	enum s3c_change change;
	uint64_t change_serial;

	struct s3c_pending *pending[2]; /* by enum s3c_slot_key */
	size_t pending_below;           /* at names below it */

	struct s3c_dir_list *dir;
	unsigned lone; /* names below it that were looked up one by one */
	struct s3c_flight *flight;
};
TAILQ_HEAD(s3c_node_list, s3c_node);

/* Paths that an operation on names has for itself; see s3c_hold_begin. */
struct s3c_hold {
	const char *path;
	bool below;   /* and all below it */
	bool ahead;   /* what is pending there is not in its way */
	bool removes; /* the file of that name may go: who opens it waits for the outcome */
	TAILQ_ENTRY(s3c_hold) link;
};

/* An open between its look at the name and its object: see s3c_opening_begin. */
struct s3c_opening {
	const char *path;
	bool overtaken;
	TAILQ_ENTRY(s3c_opening) link;
};

struct s3c_names {
	struct s3c_engine *engine;
	struct s3c_node *by_path;
	struct s3c_node *root;
	struct s3c_node_list lru, tails; /* oldest first */
	TAILQ_HEAD(, s3c_dir_list) dir_lru;
	size_t entries, entry_bytes, tail_bytes, tail_max, listing_bytes;
	uint64_t serial; /* of changes and listings */
	int64_t born_ns; /* wall clock: times of directories that have no object */

	TAILQ_HEAD(, s3c_hold) holds;
	TAILQ_HEAD(, s3c_opening) openings;
	struct s3c_waitq holds_free;

	struct s3c_waitq lookups; /* a flight ended */
	struct s3c_waitq loads;   /* a listing ended */
	unsigned running;         /* flights and loads */
	unsigned prefetching;
	bool closing;
	struct s3c_waitq idle; /* running became 0 */
	TAILQ_HEAD(, s3c_flight) flights;
	struct s3c_op load_op; /* interrupted when the engine ends */

	/* pending.c, pending_send.c */
	TAILQ_HEAD(, s3c_pending) pendings;               /* all */
	TAILQ_HEAD(s3c_pending_queue, s3c_pending) queue; /* those that wait, the next first */
	size_t pending_count;
	uint64_t pending_born, pending_attempts, pending_failures; /* counters */
	unsigned sending;
	bool send_stop, send_runs, send_failed;
	int64_t moved_ns; /* of the last rename of a file by the store */
	pthread_t sender;
	struct s3c_waitq send_work;    /* the first of queue changed */
	struct s3c_waitq pending_done; /* a request of one ended, one is gone */

	/* Rings of what was logged once. */
	uint64_t twins[256], refused[1024], hidden[256];
	unsigned twin_next, refused_next, hidden_next;
};

/* names.c. All with the lock held. */
struct s3c_node *s3c_node_find(struct s3c_names *names, const char *path);
/* Found or made, with its parents; NULL: no memory. Pin it or give it something to hold. */
struct s3c_node *s3c_node_make(struct s3c_names *names, const char *path);
/* Frees the node, and then its parents, when they hold nothing. */
void s3c_node_prune(struct s3c_names *names, struct s3c_node *node);
void s3c_node_forget(struct s3c_names *names, struct s3c_node *node);
/* Takes the reference. entry NULL: absent. fetched_ns: when the store was asked. */
void s3c_node_know(struct s3c_names *names, struct s3c_node *node, struct s3c_entry *entry,
		   int64_t fetched_ns);
/* The same for an object that was looked at and is not shown. */
void s3c_node_refuse(struct s3c_names *names, struct s3c_node *node,
		     const struct s3c_refusal *refusal, int64_t fetched_ns);
/* Is what the node knows still valid, and in accord with the listing? Forgets it otherwise (when
   only ttl ended it stays, for the next lookup's use). */
bool s3c_node_valid(struct s3c_names *names, struct s3c_node *node);
void s3c_node_change(struct s3c_names *names, struct s3c_node *node, enum s3c_change change);
const char *s3c_node_name(const struct s3c_node *node);
/* True the first time that the hash is seen in the ring. */
bool s3c_ring_first(uint64_t *ring, size_t count, unsigned *next, uint64_t hash);
uint64_t s3c_hash_text(const char *text, uint64_t seed);
/* ETags are compared without quotes and weak marks; 0 for an unknown one. */
uint64_t s3c_hash_etag(const char *etag);
bool s3c_etag_equal(const char *a, const char *b);
/* Is path at or below root? */
bool s3c_path_below(const char *path, const char *root);
/* Of a path that is not the root; the caller frees. NULL: no memory. */
char *s3c_path_parent(const char *path);
const char *s3c_path_name(const char *path);

/*
 * Keeps other operations on names off the given paths; waits for its turn. All holds of one
 * operation are taken in one call. Takes the lock itself.
 */
int s3c_hold_begin(struct s3c_engine *engine, struct s3c_op *op, struct s3c_hold *holds,
		   unsigned count);
void s3c_hold_end(struct s3c_engine *engine, struct s3c_hold *holds, unsigned count);
/*
 * Before the look of an open: waits while an operation removes the file of that name. One that
 * begins between this and s3c_opening_end has overtaken it: what was looked at may be gone, and
 * nobody kept its bytes for this open. Lock held; released by begin, which waits like
 * s3c_hold_begin. end: true when the look has to be made again.
 */
int s3c_opening_begin(struct s3c_names *names, struct s3c_op *op, struct s3c_opening *opening);
bool s3c_opening_end(struct s3c_names *names, struct s3c_opening *opening);

/* listing.c */

enum s3c_listed { S3C_LISTED_UNKNOWN, S3C_LISTED_ABSENT, S3C_LISTED_FILE, S3C_LISTED_DIR };
/* What the valid listing of the parent (and what was done since) says. detail may be NULL; it is
   filled for files: known_size tells whether size and etag_hash count. Lock held. */
enum s3c_listed s3c_listed_find(struct s3c_names *names, const char *path,
				struct s3c_detail *ret_detail);
/* The node of the parent when its listing is valid, with the index of name in snap (SIZE_MAX: not
   in it). Lock held. */
struct s3c_dir_list *s3c_listed_index(struct s3c_names *names, const char *path, size_t *ret_index);
void s3c_dir_forget(struct s3c_names *names, struct s3c_node *node);
/* Names change in a directory: its view has to be made again. Lock held. */
void s3c_dir_changed(struct s3c_node *node);
/* The directory was just made: it is known to be empty. Takes the lock itself. */
void s3c_dir_set_empty(struct s3c_engine *engine, const char *path);
/* Starts loading when nothing runs. Lock held. max_pages 0: all. */
int s3c_dir_load(struct s3c_names *names, struct s3c_node *node, unsigned max_pages);
/* Does the valid listing name anything but name? For what the last name of a directory needs. Takes
   the lock itself. */
bool s3c_dir_has_others(struct s3c_engine *engine, const char *path, const char *name);
/* 1: has names, by what is known here (local ones, a valid listing); 0: not known to have. Takes
   the lock itself. */
int s3c_dir_known_nonempty(struct s3c_engine *engine, const char *path);

/* -EAGAIN: unknown; else what s3c_dir_known_nonempty says. Takes the lock itself. */
int s3c_dir_emptiness(struct s3c_engine *engine, const char *path);

/* names.c: as their namesakes in private.h, lock held. */
void s3c_names_set_locked(struct s3c_names *names, struct s3c_entry *entry);
void s3c_names_remove_locked(struct s3c_names *names, const char *path);
void s3c_names_add_local_locked(struct s3c_names *names, const char *path, mode_t type);
void s3c_names_drop_local_locked(struct s3c_names *names, const char *path);
void s3c_names_invalidate_locked(struct s3c_names *names, const char *path, bool below);

/* names.c: after a directory was renamed; entries are not kept, names that exist only here are. */
void s3c_names_rebase(struct s3c_engine *engine, const char *from, const char *to);

/* cached.c */
/* Keeps what the store was seen to have. With or without the lock. */
void s3c_cached_entry_put(struct s3c_engine *engine, const struct s3c_entry *entry);
/* What the cache knows of path, and of the names that follow it in a listing, becomes what is known
   of them: valid where the listing agrees, else what the next request is compared with. Lock held,
   released. */
void s3c_cached_recall(struct s3c_engine *engine, const char *path);

/* lookup.c */
void s3c_flights_stale(struct s3c_names *names, const char *path, bool below);
void s3c_flights_close(struct s3c_names *names);

/* keys.c */
/* Is it a name that a directory entry can have? root: of the mount's root. */
bool s3c_name_valid(const char *name, size_t len, bool root);
/*
 * A file with several names has one object of its own, its body, which the objects under its names
 * refer to. Inside of the engine the body is a file like any other, under a path that no program
 * can name. See links.h.
 */
#define S3C_BODY_PATH (sizeof(S3C_BODY_DIR) + 2 * (size_t)S3C_FILE_ID_LEN)
void s3c_body_path(const uint8_t id[static S3C_FILE_ID_LEN], char ret_path[static S3C_BODY_PATH]);
bool s3c_body_id(const char *path, uint8_t ret_id[static S3C_FILE_ID_LEN]);
bool s3c_path_is_body(const char *path);
/* What the metadata of an object without envelope say of names: layout, id, count. */
void s3c_plain_link(const struct s3c_stat *st, struct s3c_header *header);
/* -ENAMETOOLONG a name, -EPERM one that is not allowed, -EINVAL a slash too many. */
int s3c_path_check(const char *path);
/* Prefix of the keys in a directory: ends in '/', or is empty. The caller frees. */
int s3c_dir_prefix(struct s3c_engine *engine, const char *path, char **ret_prefix);
/* keynames.c */
static inline bool s3c_names_encrypted(const struct s3c_engine *engine)
{
	return engine->volume && engine->volume->names_key;
}
int s3c_keynames_new(struct s3c_keynames **ret_keynames);
void s3c_keynames_free(struct s3c_keynames *keynames);
/* Appends the stored names of a path to key, which is empty or ends in '/'. -ENAMETOOLONG. */
int s3c_stored_append(struct s3c_engine *engine, const char *path,
		      char key[static S3C_STORE_KEY_MAX + 1]);
/* Is the last name of the key a long one? */
bool s3c_key_is_long(const char *key);
/* Adds the item s3cryptfs-name, where the object at key, whose path that is, has one. */
int s3c_key_name_item(struct s3c_engine *engine, const char *path, const char *key,
		      struct s3c_meta *meta);
/* The last name of a key, from the metadata of its object, where names are encrypted. -EBADMSG. */
int s3c_key_last_name(struct s3c_engine *engine, const char *key, const struct s3c_meta *meta,
		      char ret_name[static S3C_NAME_LEN_MAX + 1]);
/*
 * The name that a component of a key stands for, in either choice of names. dir: what is before it,
 * the whole key of the directory. -EBADMSG: it is no name of a file here; -ENODATA: a long one that
 * has to be asked for.
 */
int s3c_key_name(struct s3c_engine *engine, const char *dir, const char *stored, size_t len,
		 char ret_name[static S3C_NAME_LEN_MAX + 1]);
/* Asks the store for the names below dir in a listing that need it, side by side, once. Those whose
   object is not there, or does not have the name, stay unknown. Logs what fails. */
int s3c_key_names_ask(struct s3c_engine *engine, struct s3c_op *op, const char *dir,
		      const struct s3c_list *list);
/* " (PATH)" for a log line about key, where names are encrypted and it is known; else NULL. The
   caller frees. */
char *s3c_key_shown(struct s3c_engine *engine, const char *key);
/* The path of a key relative to dir, by what is known. As s3c_key_name. The caller frees. */
int s3c_key_path(struct s3c_engine *engine, const char *dir, const char *key, char **ret_path);

/* Does this mount write sealed objects? */
bool s3c_sealed_mode(const struct s3c_engine *engine);
int s3c_writable(const struct s3c_engine *engine);
static inline void s3c_ssec_wipe(struct s3c_ssec *ssec)
{
	s3c_wipe(ssec, sizeof(*ssec));
}
#define cleanup_ssec __attribute__((cleanup(s3c_ssec_wipe)))
#define cleanup_reply __attribute__((cleanup(s3c_store_reply_free)))
static inline void s3c_entry_putp(struct s3c_entry **p)
{
	s3c_entry_put(*p);
}
#define cleanup_entry __attribute__((cleanup(s3c_entry_putp)))
/* Is it an item that this program writes on plain objects? */
bool s3c_plain_item(const char *name);
/* The operation id of an object without envelope, when it has one. */
void s3c_plain_op_id(const struct s3c_meta *meta, uint8_t ret_op_id[static S3C_OP_ID_LEN]);
/* Blocking request with the deadline of an operation from now on. The op of a change must be NULL:
   what has begun is not interrupted. */
int s3c_request(struct s3c_engine *engine, struct s3c_store_request *rq, struct s3c_op *op,
		struct s3c_store_reply *ret_reply);
/* The outcome of a change is not known: the answer was lost. */
bool s3c_result_lost(int result);

/* entry.c */
#define S3C_BUILD_QUIET_ROLLBACK 1u /* -EREMCHG instead of a log line: look again first */
#define S3C_BUILD_NOWAIT 2u         /* -ENOKEY instead of asking for an epoch that is not known */
/*
 * s3c_entry_make with the entry that was known before (or NULL): a trailer need not be read again
 * while the content is the same, and content that was brought once stays.
 */
int s3c_entry_build(struct s3c_engine *engine, const char *path, bool is_dir,
		    const struct s3c_stat *st, const void *tail, size_t tail_len,
		    const struct s3c_entry *prior, unsigned flags, struct s3c_entry **ret_entry);
/*
 * The same where an instruction file can be asked for: -EREMOTE, then it has to be, and the build
 * is repeated with what was found.
 */
struct s3c_instruction {
	bool asked;
	const void *data; /* NULL: there is none */
	size_t len;
};
int s3c_entry_build_with(struct s3c_engine *engine, const char *path, bool is_dir,
			 const struct s3c_stat *st, const void *tail, size_t tail_len,
			 const struct s3c_entry *prior, unsigned flags,
			 const struct s3c_instruction *instruction, struct s3c_entry **ret_entry);
/* The verified header of an object by its key; of a trailer only what the metadata says. */
int s3c_header_of(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		  struct s3c_header *ret_header);
int s3c_entry_implicit(struct s3c_engine *engine, const char *path, struct s3c_entry **ret_entry);
/* An entry for what we wrote ourselves. tail_of: what it is a copy of, whose tail and extra are
   taken over; may be NULL. */
int s3c_entry_local(struct s3c_engine *engine, const char *path, bool is_dir,
		    const struct s3c_header *header, const struct s3c_version *version,
		    uint64_t stored_size, const struct s3c_entry *tail_of,
		    struct s3c_entry **ret_entry);
/* Is it the key of a directory's object? */
bool s3c_key_is_dir(const char *key);
/* What the seal cannot know: does the header make sense where it stands? NULL: it does; else words.
 */
const char *s3c_header_misfit(const struct s3c_header *header, bool is_dir);
/* Says once per version of an object why it is not shown; gives code. */
int s3c_entry_refuse(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		     int code, const char *why);

/* foreign_entry.c */
/* Ours, of a volume that this mount does not have: of metadata that no seal of this one opens. */
bool s3c_meta_is_ours(const struct s3c_meta *meta);
/* What a mount would have to be like to read it. NULL: this one does. */
const char *s3c_foreign_remedy(const struct s3c_engine *engine, const struct s3c_s3ec *s3ec);
/*
 * Is it an object of another S3 encryption client that this mount reads? 0 with its envelope;
 * -ENODATA: it has none; -EREMOTE: an instruction file has to be asked for first (instruction may
 * be NULL: it cannot be); -EIO: it is refused, which was logged.
 */
int s3c_foreign_find(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		     const struct s3c_instruction *instruction, struct s3c_s3ec **ret_s3ec);
/* Size and content of a foreign entry, with what was read of its end. -ENODATA: the end is needed;
   -EIO, -EACCES: refused. */
int s3c_foreign_take(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		     const void *tail, size_t tail_len, const struct s3c_entry *prior,
		     struct s3c_entry *entry);

/* What others set on an object with that header; NULL when there is nothing. */
int s3c_extra_make(const struct s3c_header *header, bool is_dir, const struct s3c_stat *st,
		   struct s3c_extra **ret_extra);
/* What of it goes with new content: type, caching and the like. Metadata that another program made
   up may describe the bytes that go. NULL: nothing, or no memory. */
struct s3c_extra *s3c_extra_of_content(const struct s3c_extra *extra);
/*
 * Adds what others set to the metadata of a copy of key. Where both do not fit into what a store
 * takes: theirs alone, 1, or, when attributes are what is to be changed, -ENOSPC. Logs that.
 */
int s3c_extra_apply(const struct s3c_extra *extra, const char *key, bool change,
		    struct s3c_meta *meta);
struct s3c_entry *s3c_entry_without_tail(const struct s3c_entry *entry);
/* Is it the same content under perhaps other attributes? Of plain objects only the size tells. */
bool s3c_entry_same_content(const struct s3c_entry *a, const struct s3c_entry *b);
/* The generation for the next header of key, after one with seen. */
uint64_t s3c_next_generation(struct s3c_engine *engine, const char *key, uint64_t seen);
void s3c_note_generation(struct s3c_engine *engine, const char *key,
			 const struct s3c_header *header, bool deleted);

/* The id of the operation that wrote an object: of a plain one in an item of its own, if anywhere
   (zeros: not told); a sealed header has it inside. */
#define S3C_OP_META "s3cryptfs-op"
void s3c_op_id_of(const struct s3c_header *header, const struct s3c_meta *meta,
		  uint8_t ret_op[static S3C_OP_ID_LEN]);
/* Puts it where that looks; -ENOMEM. */
int s3c_op_id_set(const struct s3c_header *header, struct s3c_meta *meta);

/* copy.c */
/* So many bytes travel in less time than the requests of a multipart upload take. */
#define S3C_COPY_FEW (1u << 20)
struct s3c_copy {
	const char *from, *to;            /* full keys; may be the same */
	const char *path;                 /* of to; its last name is enough */
	const struct s3c_header *old;     /* verified, of the source */
	struct s3c_header header;         /* for the target; op id and generation are drawn */
	bool op_given;                    /* but for the op id, which is that of header */
	const struct s3c_version *source; /* ETag of the source */
	uint64_t stored_size;
	const struct s3c_extra *extra; /* of the source; may be NULL */
	const uint8_t *body; /* all stored_size bytes of it, when they are here, or NULL */
	/* Onto another key: only what stands there as replaces (NULL: nothing) is replaced, as far
	   as the store honours conditions. Where it does not, there is a look right before, unless
	   the caller has just had one. */
	bool guard, looked;
	const struct s3c_version *replaces;
	uint64_t over; /* generation of that */
	bool by_store; /* or not at all; no failure is logged. With guard, onto another key */
	/* Set: the target is what the source was when it was last looked at, and only another look
	   tells whether that still stands there. Of a copy onto itself: it may have other bytes. */
	bool source_unseen;
};
/* Blocking; not interrupted. -ESTALE: the source is another one by now; -EEXIST: guard, and the
   target is there; -EREMCHG: guard, and it is not replaces. Nothing was logged yet for those. */
int s3c_copy_object(struct s3c_engine *engine, struct s3c_copy *copy,
		    struct s3c_version *ret_version);

/* attrs.c */
/* Writes the marker of a directory. prior: its present entry or NULL. exclusive: it must not exist
   (-EEXIST). */
int s3c_marker_put(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs,
		   const struct s3c_entry *prior, bool exclusive, struct s3c_entry **ret_entry);
/* Before the last name of a directory goes: a directory without an object gets one. */
int s3c_keep_parent(struct s3c_engine *engine, struct s3c_op *op, const char *path);

/* mutate.c */
/* -ENOTEMPTY, -ENOENT (no directory at all), 0. ret_marker: there is a marker. */
int s3c_dir_check_empty(struct s3c_engine *engine, const char *path, bool *ret_marker);
/*
 * DELETE of one key. seen: ETag of the version that may go, as far as the store honours the
 * condition; NULL or "": any may. After a reply that was lost, and one that refused the condition,
 * the key is looked at, and the DELETE sent once more where that version still stands. Not logged
 * yet: -ESTALE, another version stands there, and nothing was deleted; -EREMCHG, the reply was lost
 * and another version stands there now: seen is gone.
 */
int s3c_delete_key(struct s3c_engine *engine, const char *key, const char *seen);
/* Likewise, after a look where the store does not honour that condition: for what was seen a while
   ago. */
int s3c_delete_seen(struct s3c_engine *engine, const char *key, const char *seen);
/* A file that the store never confirmed may be there all the same: what this object sent there
   goes. 1: what stands there was written by somebody else and stays. */
int s3c_delete_sent(struct s3c_engine *engine, const char *path, struct s3c_object *object);

/* rename_dir.c. The target, when it exists, is a directory. Logs what it leaves half done. */
int s3c_rename_dir(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		   const struct s3c_entry *source, bool target_exists);
