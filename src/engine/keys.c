/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Keys of paths, customer keys of objects, metadata of headers, and blocking requests. */
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"

/* Where the attributes of the root are kept when its prefix is empty and no marker can be. */
#define ROOT_MARKER S3C_RESERVED_NAME "/root"

/* In modes without an envelope the operation id stands in metadata of its own. */
#define PLAIN_OP_ID "s3cryptfs-op"

bool s3c_name_valid(const char *name, size_t len, bool root)
{
	if (!s3c_name_possible(name, len))
		return false;
	return !root || len != strlen(S3C_RESERVED_NAME) ||
	       memcmp(name, S3C_RESERVED_NAME, len) != 0;
}

int s3c_path_check(const char *path)
{
	const char *p = path;

	if (strlen(path) >= S3C_PATH_MAX)
		return -ENAMETOOLONG;
	while (*p) {
		size_t len = strcspn(p, "/");

		if (len > S3C_NAME_LEN_MAX)
			return -ENAMETOOLONG;
		if (!s3c_name_valid(p, len, p == path))
			return -EPERM;
		p += len;
		if (*p == '/' && !*++p)
			return -EINVAL;
	}
	return 0;
}

/* NULL, and *ret_result 0: no memory. The slash of a directory may be one byte too many. */
static char *encrypted_key(struct s3c_engine *engine, const char *path, bool dir, int *ret_result)
{
	char key[S3C_STORE_KEY_MAX + 1];

	snprintf(key, sizeof(key), "%s", engine->config.prefix);
	*ret_result = s3c_stored_append(engine, path, key);
	return *ret_result < 0 ? NULL : s3c_asprintf("%s%s", key, dir ? "/" : "");
}

int s3c_key_of(struct s3c_engine *engine, const char *path, bool dir, char **ret_key)
{
	const char *prefix = engine->config.prefix;
	int r = s3c_path_check(path);
	char *key;

	if (r < 0)
		return r;
	if (!*path)
		key = strdup(*prefix ? prefix : ROOT_MARKER);
	else if (s3c_names_encrypted(engine))
		key = encrypted_key(engine, path, dir, &r);
	else
		key = s3c_asprintf("%s%s%s", prefix, path, dir ? "/" : "");
	if (r < 0)
		return r;
	if (!key)
		return -ENOMEM;
	if (strlen(key) > S3C_STORE_KEY_MAX) {
		free(key);
		return -ENAMETOOLONG;
	}
	*ret_key = key;
	return 0;
}

int s3c_dir_prefix(struct s3c_engine *engine, const char *path, char **ret_prefix)
{
	if (*path)
		return s3c_key_of(engine, path, true, ret_prefix);
	*ret_prefix = strdup(engine->config.prefix);
	return *ret_prefix ? 0 : -ENOMEM;
}

const char *s3c_rel_key(struct s3c_engine *engine, const char *key)
{
	const char *prefix = engine->config.volume_prefix;
	size_t len = prefix ? strlen(prefix) : 0;

	return len && strncmp(key, prefix, len) == 0 ? key + len : key;
}

int s3c_ssec_of(struct s3c_engine *engine, const char *key, struct s3c_ssec *ret_ssec,
		const struct s3c_ssec **ret_ptr)
{
	const struct s3c_volume *volume = engine->volume;
	int r;

	if (engine->config.enc != S3C_ENC_SSE_C) {
		*ret_ptr = NULL;
		return 0;
	}
	if (!volume || !volume->ssec_key || volume->ssec_key->secret_len != sizeof(ret_ssec->key))
		return -EACCES;
	if (volume->ssec_shared) {
		memcpy(ret_ssec->key, volume->ssec_key->secret, sizeof(ret_ssec->key));
	} else {
		r = s3c_derive_ssec_key(volume->ssec_key, volume->id, key, ret_ssec->key);
		if (r < 0)
			return r;
	}
	*ret_ptr = ret_ssec;
	return 0;
}

bool s3c_sealed_mode(const struct s3c_engine *engine)
{
	return s3c_enc_family(engine->config.enc) == S3C_FAMILY_CSE;
}

bool s3c_engine_read_only(const struct s3c_engine *engine)
{
	return engine->config.read_only || atomic_load(&engine->store->distrusted);
}

int s3c_writable(const struct s3c_engine *engine)
{
	if (s3c_engine_read_only(engine))
		return -EROFS;
	/* Without a volume there is nothing to seal with: such mounts only read. */
	return s3c_sealed_mode(engine) && !engine->volume ? -EROFS : 0;
}

int s3c_header_to_meta(struct s3c_engine *engine, const struct s3c_header *header,
		       const struct s3c_extra *extra, const char *path, const char *key,
		       struct s3c_meta *ret_meta)
{
	struct s3c_meta meta = { 0 };
	char op_id[2 * S3C_OP_ID_LEN + 1];
	int r = 0;

	if (s3c_layout_is_sealed(header->layout)) {
		if (extra && header->layout == S3C_LAYOUT_S3EC)
			r = s3c_meta_copy(&extra->meta, &meta);
		if (r == 0)
			r = s3c_key_name_item(engine, path, key, &meta);
		if (r == 0)
			r = s3c_header_encode(header, engine->config.keyring, engine->volume,
					      s3c_rel_key(engine, key), &meta);
	} else {
		s3c_hex_encode(header->op_id, S3C_OP_ID_LEN, op_id);
		r = s3c_attrs_encode(&header->attrs, &meta);
		if (r == 0)
			r = s3c_meta_set(&meta, PLAIN_OP_ID, op_id);
	}
	if (r < 0) {
		s3c_meta_free(&meta);
		return r;
	}
	*ret_meta = meta;
	return 0;
}

bool s3c_plain_item(const char *name)
{
	static const char *const names[] = { "mode",  "uid",   "gid",      "mtime",
					     "atime", "ctime", PLAIN_OP_ID };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

void s3c_plain_op_id(const struct s3c_meta *meta, uint8_t ret_op_id[static S3C_OP_ID_LEN])
{
	const char *text = s3c_meta_get(meta, PLAIN_OP_ID);
	uint8_t op_id[S3C_OP_ID_LEN];

	if (text && s3c_hex_decode(text, op_id, sizeof(op_id)) == 0)
		memcpy(ret_op_id, op_id, sizeof(op_id));
}

int s3c_request(struct s3c_engine *engine, struct s3c_store_request *rq, struct s3c_op *op,
		struct s3c_store_reply *ret_reply)
{
	rq->deadline_ns = s3c_engine_deadline(engine);
	return s3c_store_perform(engine->store, rq, op, ret_reply);
}

bool s3c_result_lost(int result)
{
	switch (result) {
	case -ETIMEDOUT:
	case -ECONNRESET:
	case -ECONNREFUSED:
	case -EHOSTUNREACH:
	case -EAGAIN:
	case -EPROTO:
	case -EIO:
		return true;
	default:
		return false;
	}
}
