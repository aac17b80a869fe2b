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
/* And what is in the packed value otherwise: the body of a reference, the names of a body. */
#define PLAIN_LINK "s3cryptfs-link"
#define PLAIN_NLINK "s3cryptfs-nlink"

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
	if (s3c_path_is_body(path))
		return 0;
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

void s3c_body_path(const uint8_t id[static S3C_FILE_ID_LEN], char ret_path[static S3C_BODY_PATH])
{
	memcpy(ret_path, S3C_BODY_DIR, sizeof(S3C_BODY_DIR) - 1);
	s3c_hex_encode(id, S3C_FILE_ID_LEN, ret_path + sizeof(S3C_BODY_DIR) - 1);
}

bool s3c_body_id(const char *path, uint8_t ret_id[static S3C_FILE_ID_LEN])
{
	const char *hex = path + sizeof(S3C_BODY_DIR) - 1;
	uint8_t id[S3C_FILE_ID_LEN];

	if (strncmp(path, S3C_BODY_DIR, sizeof(S3C_BODY_DIR) - 1) != 0 ||
	    strlen(hex) != 2 * sizeof(id) || strspn(hex, "0123456789abcdef") != 2 * sizeof(id) ||
	    s3c_hex_decode(hex, id, sizeof(id)) < 0)
		return false;
	memcpy(ret_id, id, sizeof(id));
	return true;
}

bool s3c_path_is_body(const char *path)
{
	uint8_t id[S3C_FILE_ID_LEN];

	return s3c_body_id(path, id);
}

/* All mounts of a volume find them at the same place. */
static const char *body_prefix(struct s3c_engine *engine)
{
	const struct s3c_engine_config *config = &engine->config;

	return engine->volume && config->volume_prefix ? config->volume_prefix : config->prefix;
}

/* NULL, and *ret_result 0: no memory. The slash of a directory may be one byte too many. */
/* NULL: no memory. A component that is too long for a name makes the key too long as well. */
static char *plain_key(const char *prefix, const char *path, bool dir)
{
	cleanup_buf struct s3c_buf key = { .max = 4 * S3C_PATH_MAX };
	int r = s3c_buf_append_str(&key, prefix);

	while (r == 0) {
		size_t len = strcspn(path, "/");
		char name[S3C_NAME_LEN_MAX + 1], stored[S3C_ESCAPED_MAX + 1];

		if (len > S3C_NAME_LEN_MAX) {
			r = s3c_buf_append(&key, path, len);
		} else {
			memcpy(name, path, len);
			name[len] = '\0';
			s3c_name_escape(name, stored);
			r = s3c_buf_append_str(&key, stored);
		}
		path += len;
		if (!*path)
			break;
		path++;
		r = r < 0 ? r : s3c_buf_append_char(&key, '/');
	}
	if (r == 0 && dir)
		r = s3c_buf_append_char(&key, '/');
	return r == 0 ? s3c_buf_steal(&key) : NULL;
}

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
	if (s3c_path_is_body(path)) {
		/* It is a file in any case. */
		if (dir)
			return -ENAMETOOLONG;
		key = s3c_asprintf("%s%s", body_prefix(engine), path);
	} else if (!*path)
		key = strdup(*prefix ? prefix : ROOT_MARKER);
	else if (s3c_names_encrypted(engine))
		key = encrypted_key(engine, path, dir, &r);
	else
		key = plain_key(prefix, path, dir);
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
	return engine->config.read_only || atomic_load(&engine->held) ||
	       atomic_load(&engine->store->distrusted);
}

int s3c_engine_hold_read_only(struct s3c_engine *engine, bool hold)
{
	if (!hold && (engine->config.read_only || atomic_load(&engine->store->distrusted)))
		return -EROFS;
	atomic_store(&engine->held, hold);
	return 0;
}

void s3c_engine_set_keyring(struct s3c_engine *engine, const struct s3c_keyring *keyring)
{
	__atomic_store_n(&engine->config.keyring, keyring, __ATOMIC_RELEASE);
}

const char *s3c_engine_active_key(const struct s3c_engine *engine)
{
	const struct s3c_keyring *keyring = s3c_keyring_in_use(&engine->config);
	const struct s3c_master_key *key = keyring ? s3c_keyring_active(keyring) : NULL;

	return key ? key->id : NULL;
}

int s3c_writable(const struct s3c_engine *engine)
{
	if (s3c_engine_read_only(engine))
		return -EROFS;
	/* Without a volume there is nothing to seal with: such mounts only read. */
	return s3c_sealed_mode(engine) && !engine->volume ? -EROFS : 0;
}

static int plain_link_items(const struct s3c_header *header, const char *key, struct s3c_meta *meta)
{
	char text[2 * S3C_FILE_ID_LEN + 1];

	if (header->layout == S3C_LAYOUT_PLAIN_REFERENCE) {
		s3c_hex_encode(header->file_id, S3C_FILE_ID_LEN, text);
		return s3c_meta_set(meta, PLAIN_LINK, text);
	}
	if (!header->attrs.nlink || !strstr(key, S3C_BODY_DIR))
		return 0;
	snprintf(text, sizeof(text), "%u", header->attrs.nlink);
	return s3c_meta_set(meta, PLAIN_NLINK, text);
}

void s3c_plain_link(const struct s3c_stat *st, struct s3c_header *header)
{
	const char *link = s3c_meta_get(&st->meta, PLAIN_LINK);
	const char *count = s3c_meta_get(&st->meta, PLAIN_NLINK);
	uint8_t id[S3C_FILE_ID_LEN];
	uint64_t nlink;

	if (count && s3c_parse_u64(count, S3C_NLINK_MAX, &nlink) == 0)
		header->attrs.nlink = (unsigned)nlink;
	/* Of other sizes it is a file that was written over one, or a copy by somebody else. */
	if (!link || !s3c_reference_size(st->size) || s3c_hex_decode(link, id, sizeof(id)) < 0)
		return;
	header->layout = S3C_LAYOUT_PLAIN_REFERENCE;
	header->size = 0;
	memcpy(header->file_id, id, sizeof(id));
	memcpy(header->content_id, id, sizeof(id));
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
			r = s3c_header_encode(header, s3c_keyring_in_use(&engine->config),
					      engine->volume, s3c_rel_key(engine, key), &meta);
	} else {
		s3c_hex_encode(header->op_id, S3C_OP_ID_LEN, op_id);
		r = s3c_attrs_encode(&header->attrs, &meta);
		if (r == 0)
			r = s3c_xattrs_encode(header->attrs.xattrs, NULL, 0, header->file_id,
					      &meta);
		if (r == 0)
			r = s3c_meta_set(&meta, PLAIN_OP_ID, op_id);
		if (r == 0)
			r = plain_link_items(header, key, &meta);
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
	static const char *const names[] = { "mode",      "uid",      "gid",      "mtime",
					     "atime",     "ctime",    "rdev",     "xattr",
					     PLAIN_OP_ID, PLAIN_LINK, PLAIN_NLINK };

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
	int r = s3c_overdue_before(engine, rq, op);

	if (r == 0)
		r = s3c_unsettled_before(engine, rq, op, ret_reply);
	if (r)
		return S3C_MIN(r, 0);
	rq->deadline_ns = s3c_engine_deadline(engine);
	r = s3c_store_perform(engine->store, rq, op, ret_reply);
	if (rq->op == S3C_STORE_UPLOAD_COMPLETE)
		s3c_unsettled_after(engine, rq, r, ret_reply);
	s3c_overdue_after(engine, rq, ret_reply);
	return r;
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
