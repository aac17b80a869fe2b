/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/kms_wrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/encode.h"

#define CONTEXT_VOLUME "s3cryptfs:volume"
#define CONTEXT_FILE "s3cryptfs:file"
#define CONTEXT_ALG "s3cryptfs:alg"
#define CONTEXT_ALG_OTHERS "aws:x-amz-cek-alg"
#define DUMP (JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII)

int s3c_kms_wrap_new(bool reuse, const char *arn, const char *pairs, const uint8_t *data,
		     size_t len, struct s3c_kms_wrap **ret_wrap)
{
	bool some = pairs && *pairs && strcmp(pairs, "{}") != 0;
	struct s3c_kms_wrap *wrap;

	if (!len || len > S3C_KMS_BLOB_MAX)
		return -EMSGSIZE;
	wrap = calloc(1, sizeof(*wrap) + len);
	if (!wrap)
		return -ENOMEM;
	wrap->refs = 1;
	wrap->reuse = reuse;
	wrap->len = (uint16_t)len;
	memcpy(wrap->data, data, len);
	wrap->arn = strdup(arn);
	wrap->pairs = some ? strdup(pairs) : NULL;
	if (!wrap->arn || (some && !wrap->pairs)) {
		s3c_kms_wrap_put(wrap);
		return -ENOMEM;
	}
	*ret_wrap = wrap;
	return 0;
}

struct s3c_kms_wrap *s3c_kms_wrap_ref(struct s3c_kms_wrap *wrap)
{
	if (wrap)
		__atomic_add_fetch(&wrap->refs, 1, __ATOMIC_RELAXED);
	return wrap;
}

void s3c_kms_wrap_put(struct s3c_kms_wrap *wrap)
{
	if (!wrap || __atomic_sub_fetch(&wrap->refs, 1, __ATOMIC_ACQ_REL))
		return;
	free(wrap->arn);
	free(wrap->pairs);
	free(wrap);
}

static int set_hex(json_t *object, const char *name, const uint8_t *data, size_t len)
{
	char hex[2 * S3C_SHA256_LEN + 1];

	s3c_hex_encode(data, len, hex);
	return json_object_set_new(object, name, json_string(hex)) < 0 ? -ENOMEM : 0;
}

/* The context as an object, NULL: no memory, or pairs is none. */
static json_t *make_context(const uint8_t *volume_id, const uint8_t *file_id, const char *alg,
			    const char *pairs)
{
	json_t *object = pairs ? json_loads(pairs, JSON_REJECT_DUPLICATES, NULL) : json_object();

	if (!json_is_object(object) ||
	    (volume_id && set_hex(object, CONTEXT_VOLUME, volume_id, S3C_VOLUME_ID_LEN) < 0) ||
	    (file_id && set_hex(object, CONTEXT_FILE, file_id, S3C_FILE_ID_LEN) < 0) ||
	    json_object_set_new(object, volume_id ? CONTEXT_ALG : CONTEXT_ALG_OTHERS,
				json_string(alg)) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static int dump(json_t *object, char **ret_json)
{
	char *json = object ? json_dumps(object, DUMP) : NULL;

	json_decref(object);
	if (!json)
		return -ENOMEM;
	*ret_json = json;
	return 0;
}

int s3c_kms_context(const uint8_t *volume_id, const uint8_t *file_id, const char *alg,
		    const char *pairs, char **ret_json)
{
	return dump(make_context(volume_id, file_id, alg, pairs), ret_json);
}

int s3c_kms_matdesc(const struct s3c_kms_wrap *wrap,
		    const uint8_t volume_id[static S3C_VOLUME_ID_LEN], const uint8_t *file_id,
		    const char *alg, char **ret_json)
{
	json_t *object = make_context(volume_id, wrap->reuse ? NULL : file_id, alg, wrap->pairs);

	if (object && json_object_set_new(object, S3C_MATDESC_KEY_ID, json_string(wrap->arn)) < 0) {
		json_decref(object);
		object = NULL;
	}
	return dump(object, ret_json);
}

/* Takes a member out of the object; true: it was want. */
static bool take(json_t *object, const char *name, const char *want)
{
	const char *text = json_string_value(json_object_get(object, name));
	bool same = want ? text && strcmp(text, want) == 0 : !json_object_get(object, name);

	json_object_del(object, name);
	return same;
}

static bool take_hex(json_t *object, const char *name, const uint8_t *data, size_t len)
{
	char hex[2 * S3C_SHA256_LEN + 1];

	if (!data)
		return take(object, name, NULL);
	s3c_hex_encode(data, len, hex);
	return take(object, name, hex);
}

/* What is left of a context: the user's. */
static int take_pairs(json_t *object, char **ret_pairs)
{
	char *pairs = NULL;
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value)
	{
		if (!json_is_string(value))
			return -EBADMSG;
	}
	if (json_object_size(object)) {
		pairs = json_dumps(object, DUMP);
		if (!pairs)
			return -ENOMEM;
	}
	*ret_pairs = pairs;
	return 0;
}

int s3c_kms_context_pairs(const char *text, const char *alg, char **ret_pairs)
{
	json_auto_t *object = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

	return take(object, CONTEXT_ALG_OTHERS, alg) ? take_pairs(object, ret_pairs) : -EBADMSG;
}

int s3c_kms_matdesc_parse(const char *text, const uint8_t volume_id[static S3C_VOLUME_ID_LEN],
			  const uint8_t *file_id, const char *alg, char **ret_arn, char **ret_pairs)
{
	json_auto_t *object = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *id = json_string_value(json_object_get(object, S3C_MATDESC_KEY_ID));
	cleanup_free char *arn = NULL;
	int r;

	if (!id || !*id || strlen(id) > S3C_KMS_ID_MAX)
		return -EBADMSG;
	arn = strdup(id);
	if (!arn)
		return -ENOMEM;
	json_object_del(object, S3C_MATDESC_KEY_ID);
	if (!take_hex(object, CONTEXT_VOLUME, volume_id, S3C_VOLUME_ID_LEN) ||
	    !take_hex(object, CONTEXT_FILE, file_id, S3C_FILE_ID_LEN) ||
	    !take(object, CONTEXT_ALG, alg))
		return -EBADMSG;
	r = take_pairs(object, ret_pairs);
	if (r == 0)
		*ret_arn = steal_ptr(arn);
	return r;
}
