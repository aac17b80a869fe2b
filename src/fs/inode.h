/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The table of inodes, private to fs/. Three indexes: nodeid, (parent, name),
 * st_ino. Everything here is guarded by the lock of the table, which is innermost
 * but for the engine's: only calls of the engine that never wait are made under
 * it.
 *
 *	state      by_id  by_name  parent  what it is
 *	linked     yes    yes      set     reachable by a path (the root has neither name nor
 *	                                   parent)
 *	stale      yes    yes      set     linked, but its content is no longer the store's: the
 *	                                   next lookup of the name detaches it
 *	detached   yes    no       NULL    unlinked, replaced or stale: no path; handles go on
 *
 * A file with several names (struct s3c_info's linked) has one inode, which is the child of a
 * directory that no program can name, under the name of its body: its path is that which the engine
 * takes for the body. While the engine has not stored such a file under two names yet, and may find
 * that it has only one after all, the inode remembers the two.
 *
 * An inode is freed when nlookup and refs are both 0; the root never.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/thread.h"
#include "engine/engine.h"

struct s3c_inode_names {
	struct s3c_inode *parents[2]; /* references */
	char *names[2];
};

struct s3c_inode {
	uint64_t nodeid;
	uint64_t ino; /* st_ino */
	uint64_t nlookup;
	unsigned refs; /* children, handles, operations that run */
	bool detached, stale;
	bool replacement;         /* of a stale one, and not opened yet */
	bool unstored;            /* the commit at its last close failed; holds one of the refs */
	struct s3c_inode *parent; /* holds one of its refs */
	char *key;                /* parent's nodeid (8 bytes), then the name with a NUL */
	size_t key_len;           /* without the NUL */
	struct s3c_inode_names *pair; /* of one with a body; NULL: not known, or not needed */

	/* As last seen. */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t changed_ns; /* directories: when their entries changed here last, INT64_MIN: not */

	/* The content. While object is set it says which version this is; otherwise token does. */
	struct s3c_object *object; /* shared by all handles */
	unsigned opens;            /* users of object */
	unsigned writers;          /* handles for writing */
	unsigned execs;            /* handles of running programs */
	unsigned object_seq;       /* changes with object */
	bool token_known;
	bool drop_cache; /* at the next open the kernel's pages go */
	uint8_t token[16];

	UT_hash_handle by_id, by_name, by_ino;
};

struct s3c_inodes {
	struct s3c_mutex lock;
	uint64_t next_nodeid;
	struct s3c_inode *by_id, *by_name, *by_ino; /* uthash heads */
	struct s3c_inode *root;
	struct s3c_inode *bodies; /* parent of those with a body; NULL: there was none yet */
	unsigned joins;           /* how many became files of one name again */
	unsigned exchanges;       /* how often two names changed places */
};

int s3c_inodes_init(struct s3c_inodes *table);
/* Frees all inodes; objects must be gone. */
void s3c_inodes_free(struct s3c_inodes *table);

/* With a reference; NULL: unknown number. */
struct s3c_inode *s3c_inode_get_locked(struct s3c_inodes *table, uint64_t nodeid);
void s3c_inode_ref_locked(struct s3c_inodes *table, struct s3c_inode *inode);
/* Drops a reference and nlookup counts; frees what is over, parents too. NULL is legal. */
void s3c_inode_put_locked(struct s3c_inodes *table, struct s3c_inode *inode, uint64_t nlookup);
void s3c_inode_put(struct s3c_inodes *table, struct s3c_inode *inode);

/* The child of that name, without a reference; NULL. */
struct s3c_inode *s3c_inode_child_locked(struct s3c_inodes *table, const struct s3c_inode *parent,
					 const char *name);
/* An unlinked inode with one reference, in no index; NULL: no memory. No lock needed. */
struct s3c_inode *s3c_inode_alloc(const char *name);
void s3c_inode_discard(struct s3c_inode *inode);
/* Makes inode (from s3c_inode_alloc) the child of that name: gives it numbers and enters it; who
   had the name is detached. ino: st_ino to have, 0: from path. */
void s3c_inode_link_locked(struct s3c_inodes *table, struct s3c_inode *parent, const char *path,
			   uint64_t ino, struct s3c_inode *inode);
/* Takes the name away. */
void s3c_inode_detach_locked(struct s3c_inodes *table, struct s3c_inode *inode);
/* Moves a linked inode; who had the name is detached. -ENOMEM: it is detached too. */
int s3c_inode_move_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			  struct s3c_inode *to_parent, const char *to_name);

/* The inode of a body; -ENOENT: none yet. -ENOMEM. Without a reference. */
int s3c_inode_body_locked(struct s3c_inodes *table, const uint8_t id[static 16],
			  struct s3c_inode **ret_inode);
/* An inode of a name becomes that of a body. -ENOMEM: it is detached. */
int s3c_inode_to_body_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			     const uint8_t id[static 16]);
/* s3c_inode_link_locked for a body; inode is from s3c_inode_alloc with s3c_inode_body_name. */
int s3c_inode_link_body_locked(struct s3c_inodes *table, const uint8_t id[static 16], uint64_t ino,
			       struct s3c_inode *inode);
/* st_ino of a body. */
uint64_t s3c_inode_body_ino_locked(struct s3c_inodes *table, const uint8_t id[static 16]);
#define S3C_BODY_NAME_LEN 33
void s3c_inode_body_name(const uint8_t id[static 16], char ret_name[static S3C_BODY_NAME_LEN]);
bool s3c_inode_is_body_locked(const struct s3c_inodes *table, const struct s3c_inode *inode);
/* Its two names; no memory: they are not remembered. */
void s3c_inode_pair_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			   struct s3c_inode *parent, const char *name, struct s3c_inode *parent2,
			   const char *name2);
/* It has only one name again, for the other, name in parent, was removed: the inode is that of the
   name that is left, when that is remembered and nobody has it; else detached. */
void s3c_inode_join_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			   const struct s3c_inode *parent, const char *name);

/* Path of an inode, or with name of a child of it. -ESTALE: it has none any more. -ENAMETOOLONG. */
int s3c_inode_path_locked(const struct s3c_inode *inode, const char *name,
			  char ret_path[static S3C_PATH_MAX]);
/* The st_ino that a lookup of path would give now. */
uint64_t s3c_inode_ino_locked(struct s3c_inodes *table, const char *path);
const char *s3c_inode_name(const struct s3c_inode *inode);
