/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "fs/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/encode.h"
#include "base/util.h"
#include "fs/fs.h"

#define BODY_PATH_LEN                                                                              \
	(sizeof(S3C_ENGINE_BODY_PARENT "/" S3C_ENGINE_BODY_DIR "/") + S3C_BODY_NAME_LEN)
#define KEY_NAME_AT sizeof(uint64_t)
#define INO_RESERVED 16 /* numbers that no path may hash to */

/* FNV-1a with a final mix: a file keeps its st_ino as long as it is found at the same path. */
static uint64_t hash_path(const char *path)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (const char *p = path; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	/* Programs put it into signed numbers. */
	return h >> 1;
}

uint64_t s3c_inode_ino_locked(struct s3c_inodes *table, const char *path)
{
	uint64_t ino = hash_path(path);
	struct s3c_inode *other;

	s3c_mutex_assert_held(&table->lock);
	/* Taken when the file that had this path was renamed and is still in use. */
	for (;;) {
		if (ino >= INO_RESERVED) {
			HASH_FIND(by_ino, table->by_ino, &ino, sizeof(ino), other);
			if (!other)
				return ino;
		}
		ino = (ino * 0x5851f42d4c957f2du + 0x14057b7ef767814fu) >> 1;
	}
}

int s3c_inodes_init(struct s3c_inodes *table)
{
	struct s3c_inode *root = s3c_inode_alloc("");

	if (!root)
		return -ENOMEM;
	memset(table, 0, sizeof(*table));
	s3c_mutex_init(&table->lock);
	root->nodeid = S3C_FS_ROOT;
	root->ino = 1;
	root->mode = S_IFDIR | 0755;
	HASH_ADD(by_id, table->by_id, nodeid, sizeof(root->nodeid), root);
	HASH_ADD(by_ino, table->by_ino, ino, sizeof(root->ino), root);
	HASH_ADD_KEYPTR(by_name, table->by_name, root->key, root->key_len, root);
	table->root = root;
	table->next_nodeid = S3C_FS_ROOT + 1;
	/* The tables are made with the first element: from here on an insertion cannot fail. */
	if (!root->by_id.tbl || !root->by_ino.tbl || !root->by_name.tbl) {
		s3c_inodes_free(table);
		return -ENOMEM;
	}
	return 0;
}

void s3c_inodes_free(struct s3c_inodes *table)
{
	struct s3c_inode *inode, *next;

	if (!table->root)
		return;
	if (table->root->by_ino.tbl)
		HASH_CLEAR(by_ino, table->by_ino);
	if (table->root->by_name.tbl)
		HASH_CLEAR(by_name, table->by_name);
	if (table->root->by_id.tbl) {
		HASH_ITER (by_id, table->by_id, inode, next) {
			HASH_DELETE(by_id, table->by_id, inode);
			s3c_inode_discard(inode);
		}
	} else {
		s3c_inode_discard(table->root);
	}
	table->root = NULL;
	s3c_mutex_destroy(&table->lock);
}

struct s3c_inode *s3c_inode_alloc(const char *name)
{
	struct s3c_inode *inode = calloc(1, sizeof(*inode));
	size_t len = strlen(name);

	if (!inode)
		return NULL;
	inode->key = calloc(1, KEY_NAME_AT + len + 1);
	if (!inode->key) {
		free(inode);
		return NULL;
	}
	memcpy(inode->key + KEY_NAME_AT, name, len + 1);
	inode->key_len = KEY_NAME_AT + len;
	inode->refs = 1;
	inode->changed_ns = INT64_MIN;
	return inode;
}

void s3c_inode_discard(struct s3c_inode *inode)
{
	if (!inode)
		return;
	if (inode->pair)
		for (int i = 0; i < 2; i++)
			free(inode->pair->names[i]);
	free(inode->pair);
	free(inode->key);
	free(inode);
}

const char *s3c_inode_name(const struct s3c_inode *inode)
{
	return inode->key + KEY_NAME_AT;
}

struct s3c_inode *s3c_inode_get_locked(struct s3c_inodes *table, uint64_t nodeid)
{
	struct s3c_inode *inode;

	s3c_mutex_assert_held(&table->lock);
	HASH_FIND(by_id, table->by_id, &nodeid, sizeof(nodeid), inode);
	if (inode)
		inode->refs++;
	return inode;
}

void s3c_inode_ref_locked(struct s3c_inodes *table, struct s3c_inode *inode)
{
	s3c_mutex_assert_held(&table->lock);
	inode->refs++;
}

static void pair_drop(struct s3c_inodes *table, struct s3c_inode *inode)
{
	struct s3c_inode_names *pair = steal_ptr(inode->pair);

	if (!pair)
		return;
	for (int i = 0; i < 2; i++) {
		free(pair->names[i]);
		s3c_inode_put_locked(table, pair->parents[i], 0);
	}
	free(pair);
}

void s3c_inode_put_locked(struct s3c_inodes *table, struct s3c_inode *inode, uint64_t nlookup)
{
	s3c_mutex_assert_held(&table->lock);
	while (inode) {
		struct s3c_inode *parent;

		inode->refs--;
		inode->nlookup -= S3C_MIN(nlookup, inode->nlookup);
		if (inode->refs || inode->nlookup || inode == table->root)
			return;
		pair_drop(table, inode);
		parent = inode->parent;
		if (parent)
			HASH_DELETE(by_name, table->by_name, inode);
		HASH_DELETE(by_id, table->by_id, inode);
		/* One that a newer version has taken the number from is not in there. */
		if (inode->by_ino.tbl)
			HASH_DELETE(by_ino, table->by_ino, inode);
		s3c_inode_discard(inode);
		inode = parent;
		nlookup = 0;
	}
}

void s3c_inode_put(struct s3c_inodes *table, struct s3c_inode *inode)
{
	if (!inode)
		return;
	s3c_mutex_lock(&table->lock);
	s3c_inode_put_locked(table, inode, 0);
	s3c_mutex_unlock(&table->lock);
}

struct s3c_inode *s3c_inode_child_locked(struct s3c_inodes *table, const struct s3c_inode *parent,
					 const char *name)
{
	char key[KEY_NAME_AT + NAME_MAX];
	size_t len = strlen(name);
	struct s3c_inode *inode;

	s3c_mutex_assert_held(&table->lock);
	if (len > NAME_MAX || !len)
		return NULL;
	memcpy(key, &parent->nodeid, KEY_NAME_AT);
	memcpy(key + KEY_NAME_AT, name, len);
	HASH_FIND(by_name, table->by_name, key, KEY_NAME_AT + len, inode);
	return inode;
}

static void enter_name(struct s3c_inodes *table, struct s3c_inode *parent, struct s3c_inode *inode)
{
	struct s3c_inode *old = s3c_inode_child_locked(table, parent, s3c_inode_name(inode));

	/* First, so that detaching does not free it. */
	parent->refs++;
	if (old)
		s3c_inode_detach_locked(table, old);
	memcpy(inode->key, &parent->nodeid, KEY_NAME_AT);
	inode->parent = parent;
	inode->detached = false;
	HASH_ADD_KEYPTR(by_name, table->by_name, inode->key, inode->key_len, inode);
}

void s3c_inode_link_locked(struct s3c_inodes *table, struct s3c_inode *parent, const char *path,
			   uint64_t ino, struct s3c_inode *inode)
{
	struct s3c_inode *other = NULL;

	enter_name(table, parent, inode);
	inode->nodeid = table->next_nodeid++;
	inode->ino = ino ? ino : s3c_inode_ino_locked(table, path);
	HASH_FIND(by_ino, table->by_ino, &inode->ino, sizeof(inode->ino), other);
	if (other) {
		HASH_DELETE(by_ino, table->by_ino, other);
		other->by_ino.tbl = NULL;
	}
	HASH_ADD(by_id, table->by_id, nodeid, sizeof(inode->nodeid), inode);
	HASH_ADD(by_ino, table->by_ino, ino, sizeof(inode->ino), inode);
}

/* Leaves the parent's reference to the caller. */
static struct s3c_inode *leave_name(struct s3c_inodes *table, struct s3c_inode *inode)
{
	s3c_mutex_assert_held(&table->lock);
	HASH_DELETE(by_name, table->by_name, inode);
	inode->detached = true;
	return steal_ptr(inode->parent);
}

void s3c_inode_detach_locked(struct s3c_inodes *table, struct s3c_inode *inode)
{
	if (!inode->parent)
		return;
	s3c_inode_put_locked(table, leave_name(table, inode), 0);
}

int s3c_inode_move_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			  struct s3c_inode *to_parent, const char *to_name)
{
	size_t len = strlen(to_name);
	struct s3c_inode *old_parent;
	char *key = calloc(1, KEY_NAME_AT + len + 1);

	old_parent = leave_name(table, inode);
	if (key) {
		memcpy(key + KEY_NAME_AT, to_name, len + 1);
		free(inode->key);
		inode->key = key;
		inode->key_len = KEY_NAME_AT + len;
		enter_name(table, to_parent, inode);
	}
	s3c_inode_put_locked(table, old_parent, 0);
	return key ? 0 : -ENOMEM;
}

/* A directory without a number that the kernel knows; it stays. */
static struct s3c_inode *add_hidden(struct s3c_inodes *table, struct s3c_inode *parent,
				    const char *path, const char *name)
{
	struct s3c_inode *inode = s3c_inode_alloc(name);

	if (!inode)
		return NULL;
	inode->mode = S_IFDIR;
	s3c_inode_link_locked(table, parent, path, 0, inode);
	return inode;
}

static int find_bodies(struct s3c_inodes *table)
{
	struct s3c_inode *parent;

	if (table->bodies)
		return 0;
	parent = s3c_inode_child_locked(table, table->root, S3C_ENGINE_BODY_PARENT);
	if (!parent)
		parent = add_hidden(table, table->root, S3C_ENGINE_BODY_PARENT,
				    S3C_ENGINE_BODY_PARENT);
	if (parent)
		table->bodies =
			add_hidden(table, parent, S3C_ENGINE_BODY_PARENT "/" S3C_ENGINE_BODY_DIR,
				   S3C_ENGINE_BODY_DIR);
	return table->bodies ? 0 : -ENOMEM;
}

void s3c_inode_body_name(const uint8_t id[static 16], char ret_name[static S3C_BODY_NAME_LEN])
{
	s3c_hex_encode(id, 16, ret_name);
}

bool s3c_inode_is_body_locked(const struct s3c_inodes *table, const struct s3c_inode *inode)
{
	return table->bodies && inode->parent == table->bodies;
}

int s3c_inode_body_locked(struct s3c_inodes *table, const uint8_t id[static 16],
			  struct s3c_inode **ret_inode)
{
	char name[S3C_BODY_NAME_LEN];
	struct s3c_inode *inode;

	s3c_mutex_assert_held(&table->lock);
	if (!table->bodies)
		return -ENOENT;
	s3c_inode_body_name(id, name);
	inode = s3c_inode_child_locked(table, table->bodies, name);
	if (!inode)
		return -ENOENT;
	*ret_inode = inode;
	return 0;
}

int s3c_inode_to_body_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			     const uint8_t id[static 16])
{
	char name[S3C_BODY_NAME_LEN];
	int r = find_bodies(table);

	if (r < 0) {
		s3c_inode_detach_locked(table, inode);
		return r;
	}
	s3c_inode_body_name(id, name);
	return s3c_inode_move_locked(table, inode, table->bodies, name);
}

static void body_path(const uint8_t *id, char ret_path[static BODY_PATH_LEN])
{
	strcpy(ret_path, S3C_ENGINE_BODY_PARENT "/" S3C_ENGINE_BODY_DIR "/");
	s3c_inode_body_name(id, ret_path + strlen(ret_path));
}

uint64_t s3c_inode_body_ino_locked(struct s3c_inodes *table, const uint8_t id[static 16])
{
	char path[BODY_PATH_LEN];
	struct s3c_inode *inode;

	if (s3c_inode_body_locked(table, id, &inode) == 0)
		return inode->ino;
	body_path(id, path);
	return s3c_inode_ino_locked(table, path);
}

int s3c_inode_link_body_locked(struct s3c_inodes *table, const uint8_t id[static 16], uint64_t ino,
			       struct s3c_inode *inode)
{
	char path[BODY_PATH_LEN];
	int r = find_bodies(table);

	if (r < 0)
		return r;
	body_path(id, path);
	s3c_inode_link_locked(table, table->bodies, path, ino, inode);
	return 0;
}

void s3c_inode_pair_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			   struct s3c_inode *parent, const char *name, struct s3c_inode *parent2,
			   const char *name2)
{
	struct s3c_inode_names *pair = calloc(1, sizeof(*pair));
	char *names[] = { strdup(name), strdup(name2) };

	pair_drop(table, inode);
	if (!pair || !names[0] || !names[1]) {
		free(pair);
		free(names[0]);
		free(names[1]);
		return;
	}
	*pair = (struct s3c_inode_names){ { parent, parent2 }, { names[0], names[1] } };
	parent->refs++;
	parent2->refs++;
	inode->pair = pair;
}

void s3c_inode_join_locked(struct s3c_inodes *table, struct s3c_inode *inode,
			   const struct s3c_inode *parent, const char *name)
{
	struct s3c_inode_names *pair = inode->pair;
	int left;

	table->joins++;
	/* With a reference, for moving and detaching may be its end. */
	inode->refs++;
	left = pair && pair->parents[0] == parent && !strcmp(pair->names[0], name) ? 1 : 0;
	if (pair && !pair->parents[left]->detached &&
	    !s3c_inode_child_locked(table, pair->parents[left], pair->names[left]))
		s3c_inode_move_locked(table, inode, pair->parents[left], pair->names[left]);
	else
		s3c_inode_detach_locked(table, inode);
	pair_drop(table, inode);
	s3c_inode_put_locked(table, inode, 0);
}

int s3c_inode_path_locked(const struct s3c_inode *inode, const char *name,
			  char ret_path[static S3C_PATH_MAX])
{
	char path[S3C_PATH_MAX];
	size_t at = sizeof(path) - 1;

	path[at] = '\0';
	/* From the last component to the first. */
	for (;;) {
		size_t len;

		if (name) {
			bool last = path[at] == '\0';

			len = strlen(name);
			if (len + !last > at)
				return -ENAMETOOLONG;
			if (!last)
				path[--at] = '/';
			at -= len;
			memcpy(path + at, name, len);
		}
		if (inode->nodeid == S3C_FS_ROOT)
			break;
		if (!inode->parent)
			return -ESTALE;
		name = s3c_inode_name(inode);
		inode = inode->parent;
	}
	memcpy(ret_path, path + at, sizeof(path) - at);
	return 0;
}
