/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The engine: files and directories by path on an object store, encrypted.
 *
 * Paths are relative to the mount, without leading or trailing slash; "" is the
 * root. The engine knows nothing of inodes or FUSE. It keeps what the store
 * holds (entries, listings) for ttl, and one open object per path that is in
 * use, whose view (dirty data, new size) covers what the store holds.
 *
 * Every call may be made from any thread. Calls that take a struct s3c_op may
 * wait for the store: op bounds the wait and can be interrupted (-EINTR). With
 * op == S3C_NOWAIT they answer from what is known or give -EINPROGRESS, which is
 * how a FUSE worker finds out that the operation has to move to a thread of its
 * own. An interruption ends the waiting, never a commit that has begun.
 *
 * Errors: errno as for the system call; -EIO after authentication failures (the
 * log names the object), -ESTALE when another machine changed the object,
 * -EACCES when its key is missing, -ETIMEDOUT past the deadline.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/thread.h"
#include "db/cache.h"
#include "db/journal.h"
#include "key/keyring.h"
#include "key/unwrap.h"
#include "object/attrs.h"
#include "object/volume.h"
#include "store/store.h"

struct s3c_engine;
struct s3c_object;

#define S3C_PATH_MAX 4096 /* bytes of a path, with the NUL */

/* An op pointer that means "do not wait". */
extern struct s3c_op s3c_op_nowait;
#define S3C_NOWAIT (&s3c_op_nowait)

enum s3c_enc {
	S3C_ENC_CSE_KEY,
	S3C_ENC_CSE_KMS,
	S3C_ENC_SSE_C,
	S3C_ENC_SSE_S3,
	S3C_ENC_SSE_KMS,
	S3C_ENC_DSSE_KMS,
	S3C_ENC_NONE
};
/* What is common to modes: who has keys, and the kind of volume object; of PLAIN there is none. */
enum s3c_family s3c_enc_family(enum s3c_enc enc);
/* Of what a sealed mode writes into files. */
enum s3c_format { S3C_FORMAT_CHUNKED = 0, S3C_FORMAT_S3EC_V2 = 2, S3C_FORMAT_S3EC_V3 = 3 };
#define S3C_ACCEPT_SEALED 1u
#define S3C_ACCEPT_PLAIN 2u
/* Of other S3 encryption clients: authenticated formats, and legacy ones (read-only mounts). */
#define S3C_ACCEPT_S3EC 4u
#define S3C_ACCEPT_S3EC_V1 8u
#define S3C_ACCEPT_FOREIGN (S3C_ACCEPT_S3EC | S3C_ACCEPT_S3EC_V1)

struct s3c_engine_config {
	struct s3c_store *store; /* probed; taken over by a successful s3c_engine_new */
	/* "" or ends in '/'. Where names are encrypted, what is below the volume's is a path. */
	const char *prefix;
	enum s3c_enc enc;
	enum s3c_format format;
	unsigned accept;                   /* S3C_ACCEPT_* */
	const struct s3c_keyring *keyring; /* borrowed; NULL in modes without keys of ours */
	const struct s3c_kms_unwrap *kms;  /* borrowed; for objects of other clients; NULL: none */
	struct s3c_volume *volume;         /* taken over; NULL: none. Opened by s3c_engine_volume */
	const char *volume_prefix;   /* prefix of the volume object: this one's or one above */
	struct s3c_journal *journal; /* borrowed */
	struct s3c_cache *cache;     /* borrowed; NULL: none */
	const char *source;          /* names the store and prefix in the journal */
	/* The journal is unlocked (db/records.h): what is acknowledged and not stored is kept
	 * there. */
	bool durable;
	bool writeback;        /* close, fsync and names are acknowledged by the journal */
	bool commit_fsync;     /* commit=fsync: close only begins the commit */
	const char *cache_dir; /* for the spill file; exists */
	uint64_t memory;       /* bytes of buffers, all pools together */
	uint64_t cache_size;   /* bytes of spill at most */
	unsigned parallel;     /* content transfers at once */
	double timeout_s, ttl_s;
	bool read_only, consistency_open, rollback_deny;
	bool no_hardlinks;
	bool excl_open; /* the store honours If-None-Match on PUT */
	/* For objects without attributes of their own. */
	uid_t default_uid;
	gid_t default_gid;
	mode_t default_file_mode, default_dir_mode; /* permission bits */
};
int s3c_engine_new(const struct s3c_engine_config *config, struct s3c_err *err,
		   struct s3c_engine **ret_engine);
/* Commits what is dirty (logging what fails), waits for what runs, frees with the store. */
void s3c_engine_free(struct s3c_engine *engine);
/* Configured so, held so, or since the store was seen not to encrypt what it was asked to. */
bool s3c_engine_read_only(const struct s3c_engine *engine);
/*
 * Refuses changes (-EROFS) until it is let go again; what was acknowledged before is sent all the
 * same. -EROFS for a letting go of one that is read-only for another reason.
 */
int s3c_engine_hold_read_only(struct s3c_engine *engine, bool hold);

/*
 * Another keyring from now on, which opens the volume and whose active key has a slot there.
 * Borrowed like the former one, which may still be looked at until the engine is freed. Not for
 * sse-c.
 */
void s3c_engine_set_keyring(struct s3c_engine *engine, const struct s3c_keyring *keyring);
/* The id of the key under which new objects come; NULL: there are no keys of ours. */
const char *s3c_engine_active_key(const struct s3c_engine *engine);

/*
 * Finds and opens the volume of prefix (or one above), or makes one when the prefix is empty and
 * create is set; checks the journal's pin and pins. force_init: also on a prefix that holds
 * objects (s3cryptfsctl init). expect_id: volume_id= or NULL. Sentences for: none found on a prefix
 * that holds objects, wrong key, other family or mode, another volume than the pinned one, older
 * serial. For modes that have none: *ret_volume NULL, and a volume that is found is a refusal.
 */
struct s3c_volume_request {
	struct s3c_store *store;
	const char *prefix;
	enum s3c_enc enc;
	bool ssec_shared, encrypted_names, create, force_init, read_only;
	bool accept_plain; /* reads something besides sealed objects */
	const struct s3c_keyring *keyring;
	struct s3c_journal *journal;
	const char *source;
	const uint8_t *expect_id;
	int64_t deadline_ns;
};
int s3c_engine_volume(const struct s3c_volume_request *request, struct s3c_err *err,
		      struct s3c_volume **ret_volume, char **ret_volume_prefix);
/*
 * Where the store may be asked about this source before the volume is open (keys, and its own
 * objects of a probe): prefix, or that of the volume above when names are encrypted there.
 */
int s3c_engine_volume_locate(const struct s3c_volume_request *request, struct s3c_err *err,
			     char **ret_prefix);

/* Takes the slot (or check) of a key, by id or ARN, out of the volume object, when it has one
   (ret_removed): conditionally, and read back. The key must not be the active one. A sentence. */
int s3c_engine_volume_drop_key(const struct s3c_volume_request *request, const char *key_id,
			       struct s3c_err *err, size_t *ret_removed);

/* Begins a new epoch in the volume object, or finds the one that was begun and is not finished, and
   opens it. A sentence. */
int s3c_engine_volume_begin_epoch(const struct s3c_volume_request *request, struct s3c_err *err,
				  struct s3c_volume **ret_volume);
/* Takes all epochs but newest out of the volume object. ret_dropped 0: there are none, or newest is
   not the newest any more. Only when no object names them (engine/epochs.h). A sentence. */
int s3c_engine_volume_drop_epochs(const struct s3c_volume_request *request, uint32_t newest,
				  struct s3c_err *err, size_t *ret_dropped);

/* A volume of sse-c at the prefix becomes one of cse, where that is asked for (engine/former.h).
   All of its keys have to be in the keyring. A sentence. */
int s3c_engine_volume_migrate(const struct s3c_volume_request *request, struct s3c_err *err,
			      bool *ret_changed);

/* The volume object of the prefix (or of one above) as it is stored, opened and checked first: its
   keys are wrapped in it. A sentence. */
int s3c_engine_volume_export(const struct s3c_volume_request *request, struct s3c_err *err,
			     struct s3c_buf *ret_body);
/*
 * Puts back an exported volume object at the prefix where there is none, or one that does not open.
 * Its serial number rises over the last that was seen here. Refused: one that this keyring does not
 * open, another volume than this machine knows there, and where one is in order. A sentence.
 */
int s3c_engine_volume_import(const struct s3c_volume_request *request, const void *body, size_t len,
			     struct s3c_err *err);

/*
 * The id (or ARN) of the key that the object at path is under, by what is known. Never waits:
 * -EINPROGRESS, it would have to be asked for; -ENODATA: no key of ours; or the lookup's error.
 */
int s3c_engine_key_id(struct s3c_engine *engine, const char *path, char *ret_id, size_t size);

/* What stat needs. */
struct s3c_info {
	mode_t mode; /* with type */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	uint64_t size;   /* directories: 0; symlinks: length of the target */
	uint64_t stored; /* bytes in the store, 0 when not there yet */
	uint64_t taken;  /* there and here; holes take none */
	int64_t mtime_ns, atime_ns, ctime_ns;
	/* Changes exactly when the content does (local changes included: those are ours). Compared
	   by the inode layer to keep or drop kernel caches. */
	uint8_t content_token[16];
	bool unstored; /* not in the store: once it is, the same content may have another token */
	/* The file has a body, which all its names share, with this id; how many names there are,
	   as far as is known, else 1. */
	bool linked;
	uint8_t body[16];
	unsigned nlink;
	int64_t valid_ns; /* monotonic time up to which this may be kept; already past for a dirty
			     object */
};

/* -ENOENT only for a confirmed absence; -EIO for an object that is refused (unsealed, altered). */
int s3c_engine_lookup(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_info *ret_info);
/* A lookup that asks the store whatever ttl says (consistency=open, ESTALE). */
int s3c_engine_revalidate(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			  struct s3c_info *ret_info);

/* A directory as it was at one time: immutable, reference-counted; names sorted by bytes. */
struct s3c_listing_item {
	const char *name;
	/* S_IFDIR, S_IFREG..; 0: a file, perhaps a symlink or special, not known yet */
	mode_t type;
};
struct s3c_listing {
	size_t count;
	const struct s3c_listing_item *items;
};
int s3c_engine_list(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		    struct s3c_listing **ret_listing);
void s3c_listing_put(struct s3c_listing *listing);

/*
 * Objects. Opening gives a reference to the object of that path, shared by all who opened it.
 * Closing the last one frees it once it is clean; a dirty object commits first (in the background).
 */
int s3c_object_open(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		    struct s3c_object **ret_object);
/* A new, empty, dirty file (or symlink, with content given by write): no request before its commit.
   -EEXIST when the name is known to exist; it is looked up when nothing is known. */
int s3c_object_create(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      const struct s3c_attrs *attrs, struct s3c_object **ret_object);
/* The same for O_EXCL: with excl_open the store has the name, as an empty file, when this returns.
   -EEXIST: another machine has made it. */
int s3c_object_create_excl(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			   const struct s3c_attrs *attrs, struct s3c_object **ret_object);
/*
 * Copies bytes [offset, offset + len) of from to the same place of to where the store can do it by
 * itself: from as a whole, larger than a segment, onto a file that is empty and not set-user-id,
 * which then has it, stored. Of more than 4 GiB in several calls in a row. ret_done: bytes, perhaps
 * fewer than len. -EOPNOTSUPP: in all other cases, and when it failed: read and write. Is not
 * interrupted while the store copies.
 */
int s3c_object_clone(struct s3c_object *to, struct s3c_object *from, struct s3c_op *op,
		     uint64_t offset, uint64_t len, uint64_t *ret_done);
void s3c_object_ref(struct s3c_object *object);
void s3c_object_close(struct s3c_object *object);
/* The present view, dirty changes included. Never waits. */
void s3c_object_info(struct s3c_object *object, struct s3c_info *ret_info);

/* Sequential-access state of one handle; zero-initialised, used by one read at a time or torn: it
 * is a hint. */
struct s3c_readahead {
	uint64_t start; /* where the sequence began, or found no memory */
	uint64_t next;  /* offset that continues it */
	uint64_t ahead; /* end of what was asked for ahead */
	unsigned hits;
};
/* Pinned plaintext of a read: iov points into chunks that stay until s3c_pages_release. */
struct s3c_pages {
	struct iovec iov[20];
	void *chunks[20];
	unsigned count;
	size_t len; /* bytes in all; less than asked only at the end of the file */
};
/* len <= 1 MiB. readahead may be NULL. On -EINPROGRESS (S3C_NOWAIT) nothing was pinned. */
int s3c_object_read(struct s3c_object *object, struct s3c_op *op, uint64_t offset, size_t len,
		    struct s3c_readahead *readahead, struct s3c_pages *ret_pages);
void s3c_pages_release(struct s3c_engine *engine, struct s3c_pages *pages);
/* 0: all len bytes. More than 0: so many, then an error, which the next write will meet. append: at
 * the present end, whatever offset says. Sets mtime and ctime. */
int s3c_object_write(struct s3c_object *object, struct s3c_op *op, uint64_t offset,
		     const void *data, size_t len, bool append);
int s3c_object_truncate(struct s3c_object *object, struct s3c_op *op, uint64_t size);
/* Bytes that the file has become zeros, and where they can holes; its size stays. */
int s3c_object_zero(struct s3c_object *object, struct s3c_op *op, uint64_t offset, uint64_t len);
/* The first byte from offset on that is data, or in a hole (which the end of the file is, too).
   Chunks are told apart, not bytes. -ENXIO: there is none, or offset is not in the file. */
int s3c_object_seek(struct s3c_object *object, struct s3c_op *op, uint64_t offset, bool data,
		    uint64_t *ret_offset);
/*
 * Makes the store hold the present view: returns when the store confirmed, or with the reason why
 * not. Clean: 0 at once. One commit at a time per object; later callers wait for one that began
 * after their call. A failure leaves the object dirty: the next commit tries again.
 */
int s3c_object_commit(struct s3c_object *object, struct s3c_op *op);
bool s3c_object_dirty(struct s3c_object *object);
/* Is all of it in the store, or in writeback on the disk? Names that were changed may not be. */
bool s3c_object_settled(struct s3c_object *object);

#define S3C_SET_MODE 1u
#define S3C_SET_UID 2u
#define S3C_SET_GID 4u
#define S3C_SET_MTIME 8u
#define S3C_SET_ATIME 16u
#define S3C_SET_XATTRS 32u /* all of them, as they are to be */
#define S3C_SET_NLINK 64u  /* the engine's own */
/* Which of attrs to set. A dirty object takes them with its commit; otherwise the store is asked
 * now. */
int s3c_engine_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       struct s3c_object *object_or_null, unsigned which,
		       const struct s3c_attrs *attrs, struct s3c_info *ret_info);

/* The extended attributes, with a reference; NULL: none. object as above. */
int s3c_engine_xattrs(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object_or_null, struct s3c_xattrs **ret_xattrs);
/*
 * Sets one, as s3c_engine_setattr; value NULL: takes it away. The caller keeps others from doing
 * so at the same time. -EEXIST, -ENODATA; -ENOSPC: more than the metadata of an object have room
 * for; -EOPNOTSUPP: of an object that is not sealed, in a mode that seals.
 */
#define S3C_XATTR_CREATE 1
#define S3C_XATTR_REPLACE 2
int s3c_engine_setxattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_object *object_or_null, const char *name, const void *value,
			size_t len, int flags, struct s3c_info *ret_info);

/* Names. attrs: with type bits. */
int s3c_engine_mkdir(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_attrs *attrs);
int s3c_engine_rmdir(struct s3c_engine *engine, struct s3c_op *op, const char *path);
int s3c_engine_unlink(struct s3c_engine *engine, struct s3c_op *op, const char *path);
/*
 * The same. ret_joined: the file had one more name and was not stored under both yet; it is a file
 * of that one name again, and id is that of no body any more.
 */
struct s3c_joined {
	bool joined;
	uint8_t id[16];
};
int s3c_engine_unlink_joined(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			     struct s3c_joined *ret_joined);
/*
 * Another name of a file, of a symlink too: from (a name, or s3c_engine_body_path of a body) is
 * looked up, to must not exist. ret_body: the id that both have in struct s3c_info from now on.
 * -EPERM: hard links are off, or from is a directory; -EMLINK; -EEXIST; -ENOENT: no name is left.
 */
int s3c_engine_link(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		    uint8_t ret_body[static 16]);
/* The body of what has that name, as far as that is known. Never waits. */
bool s3c_engine_body_known(struct s3c_engine *engine, const char *path,
			   uint8_t ret_body[static 16]);
/* The path under which the engine takes a body: a directory of its own, and hex digits. */
#define S3C_ENGINE_BODY_PARENT ".s3cryptfs"
#define S3C_ENGINE_BODY_DIR "links"
int s3c_engine_symlink(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const char *target, const struct s3c_attrs *attrs);
/* A fifo, a socket or a device node, in the store (writeback: in the journal) when it returns. */
int s3c_engine_mknod(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_attrs *attrs);
int s3c_engine_readlink(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			char *ret_target, size_t size);
/* Files and whole directories. noreplace: RENAME_NOREPLACE. POSIX rules for the target's type. */
int s3c_engine_rename(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		      const char *to, bool noreplace);

/*
 * RENAME_EXCHANGE of files and symlinks, in two steps, between which the caller's own tables may
 * learn of the first: each name becomes one of a body (ret_body, as of link), then the two change
 * places. -EINVAL: a directory or a special file, hard links are off, there is no journal, or
 * the store honours no condition on PUT; -EAGAIN: one is no name of a body any more, begin anew;
 * -EBUSY: others change them. After an error the names are what they were, in the store as soon as
 * that can be asked.
 */
int s3c_engine_make_body(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			 uint8_t ret_body[static 16]);
int s3c_engine_exchange(struct s3c_engine *engine, struct s3c_op *op, const char *first,
			const char *second);

/* What close (flush) and fsync mean in this mount: the store, or the journal (writeback), confirmed
   it; commit=fsync: a close only begins to. */
enum s3c_sync { S3C_SYNC_CLOSE, S3C_SYNC_FSYNC };
int s3c_object_sync(struct s3c_object *object, struct s3c_op *op, enum s3c_sync what);
/* Changes of names that were answered are durable: for fsync of folders and of unchanged files.
   They are in the store already but for writeback, where the journal is synced. */
int s3c_engine_sync_names(struct s3c_engine *engine, struct s3c_op *op);
/* All that this mount has acknowledged is in the store, or the first error. */
int s3c_engine_sync(struct s3c_engine *engine, struct s3c_op *op);

/*
 * Loads what an earlier daemon left in the journal: names and contents are as acknowledged when it
 * returns; uploads begin. Before the first other call. progress may be NULL.
 */
struct s3c_recovery {
	unsigned objects, names; /* taken up */
	unsigned done;           /* were in the store already */
	unsigned conflicts;      /* kept under the name of a conflict */
	unsigned failed;         /* left in the journal, with a log line */
	uint64_t bytes;
};
int s3c_engine_recover(struct s3c_engine *engine, struct s3c_recovery *ret_recovery);

/* A file or name that the store does not have yet as it is here. Strings end with the call. */
struct s3c_unsent {
	const char *path;
	uint64_t bytes; /* dirty */
	enum { S3C_UNSENT_WAITING, S3C_UNSENT_RUNNING, S3C_UNSENT_FAILED, S3C_UNSENT_PARKED } state;
	enum { S3C_UNSENT_FILE, S3C_UNSENT_DIR, S3C_UNSENT_REMOVAL } what;
	unsigned failures;
	int result;       /* of the last attempt */
	int64_t since_ns; /* of its last change, realtime; 0: not known */
};
/* fn must not call the engine. */
void s3c_engine_unsent(struct s3c_engine *engine,
		       void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg);
/* Tries again now what failed or is parked: at path, or all where it is NULL. How many. */
unsigned s3c_engine_retry(struct s3c_engine *engine, const char *path);
/* What has failed, and trying again may mend, is sent now and not when it would be due. */
void s3c_engine_hasten(struct s3c_engine *engine);
/* Gives up what is not stored of path: the store's version is what counts again. -ENOENT: nothing
   is unsent there; -EBUSY: it is open. */
int s3c_engine_discard(struct s3c_engine *engine, struct s3c_op *op, const char *path);

/* Counters for status and tests. */
struct s3c_engine_stats {
	uint64_t dirty_bytes, spilled_bytes, clean_bytes, transfer_bytes;
	uint64_t objects_open, objects_dirty, entries_cached;
};
void s3c_engine_stats(struct s3c_engine *engine, struct s3c_engine_stats *ret_stats);
