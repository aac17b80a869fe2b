/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/volume_kms.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"

int s3c_volume_kms_append(json_t *slots, struct s3c_kms_keys *kms,
			  const uint8_t id[static S3C_VOLUME_ID_LEN], const char *alg,
			  const uint8_t volume_key[static S3C_KEY_LEN], struct s3c_err *err)
{
	char base64[S3C_BASE64_LEN(S3C_KMS_WRAP_MAX) + 1], why[512] = "";
	cleanup_kms_wrap struct s3c_kms_wrap *wrap = NULL;
	json_t *slot;
	int r;

	r = s3c_kms_keys_seal(kms, NULL, id, NULL, alg, volume_key, NULL, &wrap, why, sizeof(why));
	if (r < 0)
		return s3c_err_set(err, r, "the volume's key cannot be wrapped: %s",
				   why[0] ? why : strerror(-r));
	s3c_base64_encode(wrap->data, wrap->len, base64);
	slot = json_pack("{s:s, s:s, s:s}", "type", "kms", "key_id", wrap->arn, "wrapped", base64);
	if (slot && wrap->pairs &&
	    json_object_set_new(slot, "context", json_loads(wrap->pairs, 0, NULL)) < 0) {
		json_decref(slot);
		slot = NULL;
	}
	return json_array_append_new(slots, slot) < 0 ? -ENOMEM : 0;
}

static const char *kms_key_id(const json_t *slot)
{
	const char *type = json_string_value(json_object_get(slot, "type"));
	const char *arn = json_string_value(json_object_get(slot, "key_id"));

	return type && strcmp(type, "kms") == 0 && arn && strlen(arn) <= S3C_KMS_ID_MAX ? arn
											: NULL;
}

/* -EBADMSG: it makes no sense. */
static int slot_wrap(const json_t *slot, const char *arn, struct s3c_kms_wrap **ret_wrap)
{
	const char *text = json_string_value(json_object_get(slot, "wrapped"));
	const json_t *context = json_object_get(slot, "context");
	cleanup_free char *pairs = NULL;
	uint8_t data[S3C_KMS_WRAP_MAX];
	size_t len;

	if (!text || s3c_base64_decode(text, strlen(text), data, sizeof(data), &len) < 0 || !len ||
	    (context && !json_is_object(context)))
		return -EBADMSG;
	if (context) {
		pairs = json_dumps(context, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
		if (!pairs)
			return -ENOMEM;
	}
	return s3c_kms_wrap_new(false, arn, pairs, data, len, ret_wrap);
}

int s3c_volume_kms_open(const json_t *slots, size_t *at, struct s3c_kms_keys *kms,
			const uint8_t id[static S3C_VOLUME_ID_LEN], const char *alg,
			struct s3c_err *err, uint8_t ret_volume_key[static S3C_KEY_LEN])
{
	for (; *at < json_array_size(slots); (*at)++) {
		const json_t *slot = json_array_get(slots, *at);
		const char *arn = kms_key_id(slot);
		cleanup_kms_wrap struct s3c_kms_wrap *wrap = NULL;
		char why[512] = "it makes no sense";
		int r;

		if (!arn || !s3c_kms_keys_may_open(kms, arn))
			continue;
		(*at)++;
		r = slot_wrap(slot, arn, &wrap);
		if (r == 0)
			r = s3c_kms_keys_open(kms, NULL, wrap, NULL, id, NULL, alg, ret_volume_key,
					      why, sizeof(why));
		return r < 0 ? s3c_err_set(err, r, "its key does not open: %s", why) : 0;
	}
	return -ENOENT;
}

bool s3c_volume_kms_has(const json_t *slots, struct s3c_kms_keys *kms)
{
	const char *active = s3c_kms_keys_active(kms);
	const json_t *slot;
	size_t i;

	json_array_foreach(slots, i, slot)
	{
		const char *arn = kms_key_id(slot);

		if (arn && active && strcmp(arn, active) == 0)
			return true;
	}
	return false;
}
