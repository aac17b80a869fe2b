/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Extended attributes: with the other attributes in all that is stored, sent and journaled. */
#include <errno.h>
#include <string.h>

#include "engine/content.h"
#include "engine/links.h"
#include "engine/pending.h"
#include "key/kms_keys.h"

/*
 * Of the 2,048 bytes of metadata: the packed value, the six attributes, and an envelope; see
 * doc/format.md. What a KMS wraps is counted with 256 bytes (those of AWS have 184).
 */
#define FIXED_BYTES 480u
#define MASTER_BYTES 120u
#define KMS_BYTES 768u
#define NAME_BYTES 380u

static size_t envelope_bytes(const struct s3c_keyring *keyring)
{
	cleanup_free char *matdesc = NULL;

	if (keyring->kms && s3c_kms_keys_writes(keyring->kms))
		return KMS_BYTES + s3c_kms_keys_pairs_len(keyring->kms);
	if (s3c_keyring_matdesc(s3c_keyring_active(keyring), &matdesc) < 0)
		return MASTER_BYTES + S3C_MATDESC_MAX;
	return MASTER_BYTES + strlen(matdesc);
}

/* Bytes of the item with its name, whatever else the object will have. */
static size_t room(const struct s3c_engine *engine)
{
	size_t used = FIXED_BYTES;

	if (s3c_sealed_mode(engine))
		used += envelope_bytes(s3c_keyring_in_use(&engine->config));
	if (s3c_names_encrypted(engine))
		used += NAME_BYTES;
	return used < S3C_STORE_META_MAX ? S3C_STORE_META_MAX - used : 0;
}

/* Lock not held. entry: what the store has of it, NULL: nothing yet. */
static int check(struct s3c_engine *engine, const struct s3c_entry *entry,
		 const struct s3c_xattrs *xattrs)
{
	bool sealed = s3c_sealed_mode(engine);
	size_t bytes = s3c_xattrs_stored_len(xattrs, sealed);

	/* Only the seal's key encrypts them: they would stand in the clear beside the file. */
	if (sealed && entry && !entry->implicit && !s3c_layout_is_sealed(entry->header.layout))
		return -EOPNOTSUPP;
	if (bytes == SIZE_MAX)
		return -EOPNOTSUPP;
	return bytes > room(engine) ? -ENOSPC : 0;
}

static int of_object(struct s3c_object *object, struct s3c_entry **ret_base,
		     struct s3c_xattrs **ret_xattrs)
{
	s3c_mutex_lock(&object->engine->lock);
	*ret_xattrs = s3c_xattrs_ref(object->attrs.xattrs);
	*ret_base = object->base ? s3c_entry_ref(object->base) : NULL;
	s3c_mutex_unlock(&object->engine->lock);
	return 0;
}

static int find(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		struct s3c_object *object, struct s3c_entry **ret_entry,
		struct s3c_xattrs **ret_xattrs)
{
	struct s3c_object *found;
	char at[S3C_PATH_MAX];
	int r = s3c_links_resolve(engine, op, path, object, at);

	if (r < 0)
		return r;
	found = object ? NULL : s3c_object_find(engine, at);
	if (object || found) {
		r = of_object(object ? object : found, ret_entry, ret_xattrs);
		if (found)
			s3c_object_close(found);
		return r;
	}
	r = s3c_names_lookup(engine, op, at, false, ret_entry);
	if (r == 0)
		*ret_xattrs = s3c_xattrs_ref((*ret_entry)->header.attrs.xattrs);
	return r;
}

int s3c_engine_xattrs(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object, struct s3c_xattrs **ret_xattrs)
{
	cleanup_entry struct s3c_entry *entry = NULL;

	return find(engine, op, path, object, &entry, ret_xattrs);
}

int s3c_engine_setxattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_object *object, const char *name, const void *value, size_t len,
			int flags, struct s3c_info *ret_info)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	cleanup_xattrs struct s3c_xattrs *now = NULL;
	cleanup_xattrs struct s3c_xattrs *changed = NULL;
	struct s3c_attrs attrs = { .known = true };
	int r = s3c_writable(engine);

	if (r == 0)
		r = find(engine, op, path, object, &entry, &now);
	if (r == 0)
		r = s3c_xattrs_with(now, name, value, len, flags & S3C_XATTR_CREATE,
				    flags & S3C_XATTR_REPLACE, &changed);
	if (r == 0 && value)
		r = check(engine, entry, changed);
	if (r < 0)
		return r;
	attrs.xattrs = changed;
	return s3c_engine_setattr(engine, op, path, object, S3C_SET_XATTRS, &attrs, ret_info);
}
