/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/xattrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/encode.h"
#include "base/secret.h"
#include "base/util.h"

#define SEALED_MAX (S3C_XATTR_SALT_LEN + S3C_XATTRS_MAX + S3C_TAG_LEN)
#define NAMESPACE "user."

static const uint8_t zero_nonce[S3C_NONCE_LEN];

struct s3c_xattrs *s3c_xattrs_ref(struct s3c_xattrs *xattrs)
{
	if (xattrs)
		__atomic_add_fetch(&xattrs->refs, 1, __ATOMIC_RELAXED);
	return xattrs;
}

void s3c_xattrs_put(struct s3c_xattrs *xattrs)
{
	if (xattrs && __atomic_sub_fetch(&xattrs->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(xattrs);
}

bool s3c_xattrs_equal(const struct s3c_xattrs *a, const struct s3c_xattrs *b)
{
	if (!a || !b)
		return a == b;
	return a == b || (a->len == b->len && memcmp(a->text, b->text, a->len) == 0);
}

struct item {
	const uint8_t *name, *value;
	size_t name_len, value_len;
};

/* The item at `at`, and behind it in *at. False: the text ends. Of a text that was checked. */
static bool next_item(const struct s3c_xattrs *xattrs, size_t *at, struct item *ret_item)
{
	const uint8_t *p = xattrs ? xattrs->text + *at : NULL;

	if (!xattrs || *at >= xattrs->len)
		return false;
	ret_item->name_len = p[0];
	ret_item->name = p + 1;
	ret_item->value_len = s3c_get_be16(p + 1 + p[0]);
	ret_item->value = p + 1 + p[0] + 2;
	*at += 3 + ret_item->name_len + ret_item->value_len;
	return true;
}

static int compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int order = memcmp(a, b, S3C_MIN(a_len, b_len));

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static bool is_text(const uint8_t *text, size_t len)
{
	const uint8_t *former = NULL;
	size_t former_len = 0, at = 0;

	while (at < len) {
		size_t name_len = text[at], value_len;

		if (!name_len || len - at < 3 + name_len || memchr(text + at + 1, 0, name_len))
			return false;
		if (former && compare(former, former_len, text + at + 1, name_len) >= 0)
			return false;
		former = text + at + 1;
		former_len = name_len;
		value_len = s3c_get_be16(former + name_len);
		at += 3 + name_len;
		if (len - at < value_len)
			return false;
		at += value_len;
	}
	return true;
}

int s3c_xattrs_parse(const void *text, size_t len, struct s3c_xattrs **ret_xattrs)
{
	struct s3c_xattrs *xattrs = NULL;

	if (len > S3C_XATTRS_MAX || !is_text(text, len))
		return -EBADMSG;
	if (len) {
		xattrs = malloc(sizeof(*xattrs) + len);
		if (!xattrs)
			return -ENOMEM;
		xattrs->refs = 1;
		xattrs->len = (uint32_t)len;
		memcpy(xattrs->text, text, len);
	}
	*ret_xattrs = xattrs;
	return 0;
}

int s3c_xattrs_get(const struct s3c_xattrs *xattrs, const char *name, const void **ret_value,
		   size_t *ret_len)
{
	size_t len = strlen(name), at = 0;
	struct item item;

	while (next_item(xattrs, &at, &item)) {
		if (compare(item.name, item.name_len, name, len) != 0)
			continue;
		*ret_value = item.value;
		*ret_len = item.value_len;
		return 0;
	}
	return -ENODATA;
}

static int append_item(struct s3c_buf *text, const struct item *item)
{
	uint8_t len[2];
	int r = s3c_buf_append_char(text, (char)item->name_len);

	s3c_put_be16(len, (uint16_t)item->value_len);
	r = r < 0 ? r : s3c_buf_append(text, item->name, item->name_len);
	r = r < 0 ? r : s3c_buf_append(text, len, sizeof(len));
	return r < 0 ? r : s3c_buf_append(text, item->value, item->value_len);
}

int s3c_xattrs_with(const struct s3c_xattrs *xattrs, const char *name, const void *value,
		    size_t len, bool create, bool replace, struct s3c_xattrs **ret_xattrs)
{
	struct item item, added = {
		.name = (const uint8_t *)name,
		.name_len = strlen(name),
		.value = value,
		.value_len = len,
	};
	cleanup_buf struct s3c_buf text = { .max = 2 * S3C_XATTRS_MAX };
	bool pending = value != NULL, found = false;
	size_t at = 0;
	int r = 0;

	if (!added.name_len || added.name_len > S3C_XATTR_NAME_MAX)
		return -ERANGE;
	if (len > S3C_XATTRS_MAX)
		return -ENOSPC;
	while (r == 0 && next_item(xattrs, &at, &item)) {
		int order = compare(item.name, item.name_len, name, added.name_len);

		found |= order == 0;
		if (pending && order >= 0) {
			r = append_item(&text, &added);
			pending = false;
		}
		if (r == 0 && order != 0)
			r = append_item(&text, &item);
	}
	if (r == 0 && pending)
		r = append_item(&text, &added);
	if (r < 0)
		return r == -EMSGSIZE ? -ENOSPC : r;
	if (found && create)
		return -EEXIST;
	if (!found && (replace || !value))
		return -ENODATA;
	if (text.len > S3C_XATTRS_MAX)
		return -ENOSPC;
	return s3c_xattrs_parse(text.data, text.len, ret_xattrs);
}

int s3c_xattrs_names(const struct s3c_xattrs *xattrs, struct s3c_buf *names)
{
	struct item item;
	size_t at = 0;
	int r = 0;

	while (r == 0 && next_item(xattrs, &at, &item)) {
		r = s3c_buf_append(names, item.name, item.name_len);
		r = r < 0 ? r : s3c_buf_append_char(names, '\0');
	}
	return r;
}

static bool has_keys(const struct s3c_volume *volume)
{
	return volume && atomic_load(&volume->newest);
}

static int item_gcm(const struct s3c_volume *volume, uint32_t epoch, const uint8_t *salt,
		    struct s3c_gcm **ret_gcm)
{
	uint8_t key[S3C_KEY_LEN];
	int r = s3c_volume_xattr_key(volume, epoch, salt, key);

	if (r == 0)
		r = s3c_gcm_new(key, ret_gcm);
	s3c_wipe(key, sizeof(key));
	return r;
}

/* As s3fs has it: a JSON object of values in base64, percent-encoded. */
static int encode_plain(const struct s3c_xattrs *xattrs, struct s3c_meta *meta)
{
	cleanup_buf struct s3c_buf json = { .max = 8 * S3C_XATTRS_MAX };
	cleanup_buf struct s3c_buf text = { .max = 32 * S3C_XATTRS_MAX };
	char value[S3C_BASE64_LEN(S3C_XATTRS_MAX) + 1];
	struct item item;
	size_t at = 0;
	int r = 0;

	while (r == 0 && next_item(xattrs, &at, &item)) {
		cleanup_free char *name = NULL;
		json_t *string = json_stringn_nocheck((const char *)item.name, item.name_len);

		name = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
		json_decref(string);
		/* A name that is not UTF-8 has no place in JSON. */
		if (!name)
			return -EOPNOTSUPP;
		s3c_base64_encode(item.value, item.value_len, value);
		r = s3c_buf_printf(&json, "%s%s:\"%s\"", json.len ? "," : "{", name, value);
	}
	r = r < 0 ? r : s3c_buf_append_char(&json, '}');
	r = r < 0 ? r : s3c_uri_encode(&text, (const char *)json.data, json.len, false);
	r = r < 0 ? r : s3c_buf_append_char(&text, '\0');
	return r < 0 ? r : s3c_meta_set(meta, S3C_XATTRS_META, (const char *)text.data);
}

int s3c_xattrs_encode(const struct s3c_xattrs *xattrs, const struct s3c_volume *volume,
		      uint32_t epoch, const uint8_t file_id[static S3C_FILE_ID_LEN],
		      struct s3c_meta *meta)
{
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	char text[S3C_BASE64_LEN(SEALED_MAX) + 1];
	uint8_t sealed[SEALED_MAX], *at = sealed + S3C_XATTR_SALT_LEN;
	int r;

	if (!xattrs)
		return 0;
	if (!has_keys(volume))
		return encode_plain(xattrs, meta);
	s3c_random(sealed, S3C_XATTR_SALT_LEN);
	r = item_gcm(volume, epoch, sealed, &gcm);
	if (r == 0)
		r = s3c_gcm_seal(gcm, zero_nonce, file_id, S3C_FILE_ID_LEN, xattrs->text,
				 xattrs->len, at, at + xattrs->len);
	if (r < 0)
		return r;
	s3c_base64_encode(sealed, S3C_XATTR_SALT_LEN + xattrs->len + S3C_TAG_LEN, text);
	return s3c_meta_set(meta, S3C_XATTRS_META, text);
}

int s3c_xattrs_decode(const struct s3c_meta *meta, const struct s3c_volume *volume, uint32_t epoch,
		      const uint8_t file_id[static S3C_FILE_ID_LEN], struct s3c_xattrs **ret_xattrs)
{
	const char *item = s3c_meta_get(meta, S3C_XATTRS_META);
	uint8_t sealed[SEALED_MAX], text[S3C_XATTRS_MAX];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	size_t len;
	int r;

	*ret_xattrs = NULL;
	if (!item)
		return 0;
	if (s3c_base64_decode(item, strlen(item), sealed, sizeof(sealed), &len) < 0 ||
	    len <= S3C_XATTR_SALT_LEN + S3C_TAG_LEN)
		return -EBADMSG;
	len -= S3C_XATTR_SALT_LEN + S3C_TAG_LEN;
	r = item_gcm(volume, epoch, sealed, &gcm);
	if (r == 0)
		r = s3c_gcm_open(gcm, zero_nonce, file_id, S3C_FILE_ID_LEN,
				 sealed + S3C_XATTR_SALT_LEN, len,
				 sealed + S3C_XATTR_SALT_LEN + len, text);
	if (r == 0)
		r = s3c_xattrs_parse(text, len, ret_xattrs);
	s3c_wipe(text, sizeof(text));
	return r;
}

int s3c_xattrs_decode_plain(const struct s3c_meta *meta, struct s3c_xattrs **ret_xattrs)
{
	const char *item = s3c_meta_get(meta, S3C_XATTRS_META), *name;
	cleanup_buf struct s3c_buf text = { .max = 8 * S3C_XATTRS_MAX };
	cleanup_xattrs struct s3c_xattrs *xattrs = NULL;
	json_auto_t *map = NULL;
	json_t *value;

	*ret_xattrs = NULL;
	if (!item)
		return 0;
	if (s3c_uri_decode(&text, item, strlen(item)) < 0)
		return 0;
	map = json_loadb((const char *)text.data, text.len, 0, NULL);
	json_object_foreach(map, name, value)
	{
		const char *base64 = json_string_value(value);
		struct s3c_xattrs *more = NULL;
		uint8_t bytes[S3C_XATTRS_MAX];
		size_t len;
		int r;

		if (!base64 || strncmp(name, NAMESPACE, strlen(NAMESPACE)) != 0 ||
		    s3c_base64_decode(base64, strlen(base64), bytes, sizeof(bytes), &len) < 0)
			continue;
		r = s3c_xattrs_with(xattrs, name, bytes, len, false, false, &more);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			continue;
		s3c_xattrs_put(xattrs);
		xattrs = more;
	}
	*ret_xattrs = steal_ptr(xattrs);
	return 0;
}

size_t s3c_xattrs_stored_len(const struct s3c_xattrs *xattrs, bool sealed)
{
	__attribute__((cleanup(s3c_meta_free))) struct s3c_meta meta = { 0 };

	if (!xattrs)
		return 0;
	if (sealed)
		return strlen(S3C_XATTRS_META) +
		       S3C_BASE64_LEN(S3C_XATTR_SALT_LEN + xattrs->len + S3C_TAG_LEN);
	return encode_plain(xattrs, &meta) < 0 ? SIZE_MAX : s3c_meta_bytes(&meta);
}
