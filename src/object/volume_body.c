/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The text of a volume object: JSON, what is in it, and the line with the HMAC. */
#include "object/volume_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

#define BODY_MAX (256u << 10)
#define MAC_PREFIX "\nhmac-sha256 "
#define MAC_LINE_LEN (sizeof(MAC_PREFIX) - 1 + 2 * S3C_SHA256_LEN + 1) /* both line feeds */

/* HKDF(volume key, -, label | volume id | be32(epoch)) */
int s3c_volume_derive(const uint8_t *volume_key, const char *label, const uint8_t *id,
		      uint32_t epoch, uint8_t ret_key[static S3C_KEY_LEN])
{
	uint8_t info[64 + S3C_VOLUME_ID_LEN + 4];
	size_t len = strlen(label);

	memcpy(info, label, len);
	memcpy(info + len, id, S3C_VOLUME_ID_LEN);
	s3c_put_be32(info + len + S3C_VOLUME_ID_LEN, epoch);
	return s3c_hkdf_sha256(volume_key, S3C_KEY_LEN, NULL, 0, info, len + S3C_VOLUME_ID_LEN + 4,
			       ret_key, S3C_KEY_LEN);
}

int s3c_volume_mac(const struct s3c_epoch *epoch, const uint8_t *id, const void *text, size_t len,
		   uint8_t ret_mac[static S3C_SHA256_LEN])
{
	uint8_t key[S3C_KEY_LEN];
	int r;

	r = s3c_volume_derive(epoch->keys + EPOCH_VOLUME, "s3cryptfs volume body", id,
			      epoch->number, key);
	if (r == 0)
		r = s3c_hmac_sha256(key, sizeof(key), text, len, ret_mac);
	s3c_wipe(key, sizeof(key));
	return r;
}

/* JSON, and with a volume key the line with the HMAC. */
int s3c_volume_write(const json_t *root, const struct s3c_epoch *epoch, const uint8_t *id,
		     struct s3c_buf *ret_body)
{
	uint8_t mac[S3C_SHA256_LEN];
	char hex[2 * S3C_SHA256_LEN + 1];
	char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	struct s3c_buf body;
	int r;

	if (!text)
		return -ENOMEM;
	s3c_buf_init(&body, BODY_MAX);
	r = s3c_buf_printf(&body, "%s\n", text);
	free(text);
	if (r == 0 && epoch) {
		r = s3c_volume_mac(epoch, id, body.data, body.len, mac);
		if (r == 0) {
			s3c_hex_encode(mac, sizeof(mac), hex);
			/* The line feed of the prefix is there already. */
			r = s3c_buf_printf(&body, "%s%s\n", &MAC_PREFIX[1], hex);
		}
	}
	if (r == 0)
		r = s3c_buf_append(ret_body, body.data, body.len);
	s3c_buf_free(&body);
	return r;
}

json_t *s3c_volume_base64(const void *data, size_t len)
{
	char text[S3C_BASE64_LEN(S3C_WRAP_LEN) + 1];

	s3c_base64_encode(data, len, text);
	return json_string(text);
}

json_t *s3c_volume_hex(const void *data, size_t len)
{
	char text[2 * S3C_SHA256_LEN + 1];

	s3c_hex_encode(data, len, text);
	return json_string(text);
}

const char *s3c_volume_get_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

bool s3c_volume_get_int(const json_t *object, const char *name, json_int_t max,
			json_int_t *ret_value)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
	    json_integer_value(value) > max)
		return false;
	*ret_value = json_integer_value(value);
	return true;
}

bool s3c_volume_get_hex(const json_t *object, const char *name, void *ret_data, size_t len)
{
	const char *text = s3c_volume_get_string(object, name);

	return text && s3c_hex_decode(text, ret_data, len) == 0;
}

bool s3c_volume_get_wrapped(const json_t *object, const char *name,
			    uint8_t ret_wrapped[static S3C_WRAP_LEN])
{
	const char *text = s3c_volume_get_string(object, name);
	uint8_t wrapped[S3C_WRAP_LEN];
	size_t len;

	if (!text || s3c_base64_decode(text, strlen(text), wrapped, sizeof(wrapped), &len) < 0 ||
	    len != sizeof(wrapped))
		return false;
	memcpy(ret_wrapped, wrapped, sizeof(wrapped));
	return true;
}

int s3c_volume_damaged(struct s3c_err *err, const char *what)
{
	return s3c_err_set(err, -EBADMSG,
			   "the volume object is damaged (%s); put it back from a copy made with "
			   "s3cryptfsctl volume export",
			   what);
}

int s3c_volume_newer(struct s3c_err *err, const char *what)
{
	return s3c_err_set(err, -EPROTO,
			   "the volume was written by a newer version of s3cryptfs (%s); update "
			   "this program",
			   what);
}

/* Form, version and family. The JSON of ret_parsed is the caller's. */
int s3c_volume_parse(const char *body, size_t len, struct s3c_err *err,
		     struct s3c_volume_parsed *ret_parsed)
{
	struct s3c_volume_parsed p = { 0 };
	json_auto_t *root = NULL;
	const char *format, *family;
	json_int_t number;
	size_t json_len = len;

	if (len > BODY_MAX)
		return s3c_volume_damaged(err, "too large");
	if (len > MAC_LINE_LEN && body[len - 1] == '\n' &&
	    memcmp(body + len - MAC_LINE_LEN, MAC_PREFIX, sizeof(MAC_PREFIX) - 1) == 0) {
		char hex[2 * S3C_SHA256_LEN + 1] = "", again[sizeof(hex)];

		memcpy(hex, body + len - 1 - 2 * S3C_SHA256_LEN, 2 * S3C_SHA256_LEN);
		if (s3c_hex_decode(hex, p.mac, sizeof(p.mac)) < 0)
			return s3c_volume_damaged(err, "no HMAC in its last line");
		s3c_hex_encode(p.mac, sizeof(p.mac), again);
		if (strcmp(hex, again) != 0) /* one body has one text: lower case */
			return s3c_volume_damaged(err, "its last line");
		json_len = len - MAC_LINE_LEN + 1;
		p.mac_over = json_len;
	}
	root = json_loadb(body, json_len, JSON_REJECT_DUPLICATES, NULL);
	format = s3c_volume_get_string(root, "format");
	if (!format || strcmp(format, BODY_FORMAT) != 0)
		return s3c_volume_damaged(err, "not the JSON of a volume");
	if (!s3c_volume_get_int(root, "version", INT32_MAX, &number))
		return s3c_volume_damaged(err, "no version");
	if (number != BODY_VERSION)
		return s3c_volume_newer(err, "version");
	family = s3c_volume_get_string(root, "family");
	if (!family)
		return s3c_volume_damaged(err, "no family");
	if (strcmp(family, "cse") == 0)
		p.family = S3C_FAMILY_CSE;
	else if (strcmp(family, "sse-c") == 0)
		p.family = S3C_FAMILY_SSEC;
	else
		return s3c_volume_newer(err, "family");
	if ((p.family == S3C_FAMILY_CSE) != (p.mac_over != 0))
		return s3c_volume_damaged(err, "HMAC line");
	if (!s3c_volume_get_hex(root, "id", p.id, sizeof(p.id)))
		return s3c_volume_damaged(err, "no id");
	if (!s3c_volume_get_int(root, "serial", INT64_MAX, &number))
		return s3c_volume_damaged(err, "no serial");
	p.serial = (uint64_t)number;
	p.root = steal_ptr(root);
	*ret_parsed = p;
	return 0;
}
