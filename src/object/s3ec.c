/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/s3ec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "base/encode.h"
#include "base/err.h"
#include "base/secret.h"
#include "object/s3ec_body.h"

#define ALG_GCM "AES/GCM/NoPadding"
#define ALG_CBC "AES/CBC/PKCS5Padding"
#define ALG_COMMIT "115"
#define DESC_MAX 64u
#define VALUE_MAX 16384u /* characters of one value */

enum field {
	F_KEY_V1,
	F_KEY_V2,
	F_IV,
	F_MATDESC,
	F_WRAP_ALG,
	F_CEK_ALG,
	F_TAG_LEN,
	F_LENGTH,
	F_KEY_V3,
	F_SUITE,
	F_WRAP_V3,
	F_COMMITMENT,
	F_MESSAGE_ID,
	F_CONTEXT_V3,
	F_MATDESC_V3,
	FIELDS,
};
static const char *const names[FIELDS] = {
	[F_KEY_V1] = "x-amz-key",
	[F_KEY_V2] = "x-amz-key-v2",
	[F_IV] = "x-amz-iv",
	[F_MATDESC] = "x-amz-matdesc",
	[F_WRAP_ALG] = "x-amz-wrap-alg",
	[F_CEK_ALG] = "x-amz-cek-alg",
	[F_TAG_LEN] = "x-amz-tag-len",
	[F_LENGTH] = "x-amz-unencrypted-content-length",
	[F_KEY_V3] = "x-amz-3",
	[F_SUITE] = "x-amz-c",
	[F_WRAP_V3] = "x-amz-w",
	[F_COMMITMENT] = "x-amz-d",
	[F_MESSAGE_ID] = "x-amz-i",
	[F_CONTEXT_V3] = "x-amz-t",
	[F_MATDESC_V3] = "x-amz-m",
};

struct parser {
	const char *values[FIELDS]; /* NULL: absent; some clients write empty for absent */
	char numbers[FIELDS][24];   /* texts of values that an instruction file has as numbers */
	json_t *file;
	struct s3c_s3ec *s3ec;
	char *why;
	size_t why_size;
};

static int fail(struct parser *p, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct parser *p, int code, const char *fmt, ...)
{
	va_list ap;

	if (p->why && p->why_size) {
		va_start(ap, fmt);
		vsnprintf(p->why, p->why_size, fmt, ap);
		va_end(ap);
	}
	return code;
}

struct s3c_s3ec *s3c_s3ec_ref(struct s3c_s3ec *s3ec)
{
	if (s3ec)
		__atomic_fetch_add(&s3ec->refs, 1, __ATOMIC_RELAXED);
	return s3ec;
}

void s3c_s3ec_put(struct s3c_s3ec *s3ec)
{
	if (!s3ec || __atomic_sub_fetch(&s3ec->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (size_t i = 0; i < s3ec->desc_count; i++) {
		free(s3ec->desc[i].name);
		free(s3ec->desc[i].value);
	}
	free(s3ec->desc);
	free(s3ec->wrapped);
	free(s3ec);
}

bool s3c_s3ec_is_instruction(const char *key, size_t *ret_len)
{
	size_t len = strlen(key), suffix = strlen(S3C_S3EC_SUFFIX);

	if (len <= suffix || strcmp(key + len - suffix, S3C_S3EC_SUFFIX) != 0)
		return false;
	*ret_len = len - suffix;
	return true;
}

static int field_of(const char *name)
{
	for (int i = 0; i < FIELDS; i++)
		if (strcasecmp(name, names[i]) == 0)
			return i;
	return -1;
}

static int take_object(struct parser *p, const struct s3c_meta *meta)
{
	for (size_t i = 0; i < meta->count; i++) {
		const char *value = meta->items[i].value;
		int f = field_of(meta->items[i].name);

		if (f < 0 || !*value)
			continue;
		if (p->values[f])
			return fail(p, -EBADMSG, "%s is there twice", names[f]);
		if (strlen(value) > VALUE_MAX)
			return fail(p, -EBADMSG, "%s is too long", names[f]);
		p->values[f] = value;
	}
	return 0;
}

/* Numbers where other languages write them. */
static int file_value(struct parser *p, int f, json_t *json, const char **ret_value)
{
	if (json_is_integer(json) && (f == F_TAG_LEN || f == F_LENGTH)) {
		snprintf(p->numbers[f], sizeof(p->numbers[f]), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(json));
		*ret_value = p->numbers[f];
		return 0;
	}
	if (!json_is_string(json) || json_string_length(json) > VALUE_MAX)
		return fail(p, -EBADMSG, "%s of its instruction file is no text", names[f]);
	*ret_value = json_string_value(json);
	return 0;
}

/* The object has its share of V3; all of V1 and V2 stands in the file, but perhaps the length. */
static int take_file(struct parser *p, const void *text, size_t len)
{
	bool v3 = p->values[F_SUITE] || p->values[F_COMMITMENT] || p->values[F_MESSAGE_ID];
	const char *name;
	json_t *json;
	int r;

	if (len > S3C_S3EC_INSTRUCTION_MAX)
		return fail(p, -EBADMSG, "its instruction file is too large");
	p->file = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(p->file))
		return fail(p, -EBADMSG, "its instruction file is no JSON object");
	json_object_foreach(p->file, name, json)
	{
		const char *value = NULL;
		int f = field_of(name);

		if (f < 0)
			continue;
		r = file_value(p, f, json, &value);
		if (r < 0)
			return r;
		if (!*value || (f == F_LENGTH && p->values[f] && !strcmp(p->values[f], value)))
			continue;
		if (p->values[f])
			return fail(p, -EBADMSG, "%s is there twice", names[f]);
		if (f == F_SUITE || f == F_COMMITMENT || f == F_MESSAGE_ID)
			return fail(p, -EBADMSG, "%s may not stand in an instruction file",
				    names[f]);
		p->values[f] = value;
	}
	if (v3 ? !p->values[F_KEY_V3] : !p->values[F_KEY_V1] && !p->values[F_KEY_V2])
		return fail(p, -EBADMSG, "its instruction file has no key for it");
	p->s3ec->instruction = true;
	return 0;
}

static int take_base64(struct parser *p, enum field f, void *ret_data, size_t len)
{
	uint8_t data[64];
	size_t got;

	if (!p->values[f])
		return fail(p, -EBADMSG, "%s is missing", names[f]);
	if (len > sizeof(data) ||
	    s3c_base64_decode(p->values[f], strlen(p->values[f]), data, sizeof(data), &got) < 0 ||
	    got != len)
		return fail(p, -EBADMSG, "%s is not the base64 of %zu bytes", names[f], len);
	memcpy(ret_data, data, len);
	return 0;
}

static int take_wrapped(struct parser *p, enum field f)
{
	struct s3c_s3ec *s3ec = p->s3ec;
	uint8_t wrapped[S3C_UNWRAP_MAX];
	size_t len;

	if (s3c_base64_decode(p->values[f], strlen(p->values[f]), wrapped, sizeof(wrapped), &len) <
		    0 ||
	    !len)
		return fail(p, -EBADMSG, "%s is not base64 of a key", names[f]);
	s3ec->wrapped = malloc(len);
	if (!s3ec->wrapped)
		return -ENOMEM;
	memcpy(s3ec->wrapped, wrapped, len);
	s3ec->wrapped_len = len;
	return 0;
}

static int take_desc(struct parser *p, enum field f)
{
	struct s3c_s3ec *s3ec = p->s3ec;
	const char *text = p->values[f], *name;
	json_t *json, *value;
	int r = 0;

	if (!text)
		return 0;
	json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(json) || json_object_size(json) > DESC_MAX)
		r = fail(p, -EBADMSG, "%s is no JSON object", names[f]);
	else
		s3ec->desc = calloc(json_object_size(json) + 1, sizeof(*s3ec->desc));
	if (r == 0 && !s3ec->desc)
		r = -ENOMEM;
	if (r == 0) {
		json_object_foreach(json, name, value)
		{
			struct s3c_key_desc *desc = &s3ec->desc[s3ec->desc_count];

			if (!json_is_string(value)) {
				r = fail(p, -EBADMSG, "%s has a value that is no text", names[f]);
				break;
			}
			desc->name = strdup(name);
			desc->value = strdup(json_string_value(value));
			s3ec->desc_count++; /* half-built is freed like whole */
			if (!desc->name || !desc->value)
				r = -ENOMEM;
		}
	}
	json_decref(json);
	return r;
}

static bool rsa_len(size_t len)
{
	return len >= S3C_UNWRAP_RSA_MIN && len <= S3C_UNWRAP_RSA_MAX;
}

static bool wrapped_len_fits(enum s3c_unwrap_alg alg, size_t len)
{
	switch (alg) {
	case S3C_UNWRAP_AES_GCM:
		return len == 60;
	case S3C_UNWRAP_AES_KW:
		return len == 40;
	case S3C_UNWRAP_AES_ECB:
		return len == 48;
	case S3C_UNWRAP_RSA_OAEP_SHA1:
	case S3C_UNWRAP_RSA_OAEP_SHA256:
	case S3C_UNWRAP_RSA_PKCS1:
		return rsa_len(len);
	default:
		return len <= S3C_UNWRAP_MAX;
	}
}

static int find_wrap(struct parser *p)
{
	static const enum s3c_unwrap_alg named[] = {
		S3C_UNWRAP_AES_GCM, S3C_UNWRAP_RSA_OAEP_SHA1, S3C_UNWRAP_KMS_CONTEXT,
		S3C_UNWRAP_KMS,     S3C_UNWRAP_AES_KW,        S3C_UNWRAP_RSA_OAEP_SHA256,
	};
	const char *text = p->values[F_WRAP_ALG];

	if (!text)
		return fail(p, -EBADMSG, "%s is missing", names[F_WRAP_ALG]);
	for (size_t i = 0; i < ARRAY_LEN(named); i++)
		if (strcmp(text, s3c_unwrap_alg_name(named[i])) == 0) {
			p->s3ec->wrap = named[i];
			return 0;
		}
	return fail(p, -EPROTO, "its key is wrapped by '%.64s', which is not known", text);
}

static int take_v1(struct parser *p)
{
	struct s3c_s3ec *s3ec = p->s3ec;
	int r = take_base64(p, F_IV, s3ec->iv, S3C_AES_BLOCK);

	if (p->values[F_WRAP_ALG] || p->values[F_CEK_ALG])
		return fail(p, -EBADMSG, "it has parts of V1 and of V2");
	s3ec->version = 1;
	s3ec->suite = S3C_S3EC_CBC;
	if (r == 0)
		r = take_wrapped(p, F_KEY_V1);
	if (r == 0)
		r = take_desc(p, F_MATDESC);
	s3ec->wrap = s3ec->wrapped_len <= 48 ? S3C_UNWRAP_AES_ECB : S3C_UNWRAP_RSA_PKCS1;
	return r;
}

static int take_v2(struct parser *p)
{
	struct s3c_s3ec *s3ec = p->s3ec;
	const char *alg = p->values[F_CEK_ALG], *tag = p->values[F_TAG_LEN];
	int r;

	s3ec->version = 2;
	if (!alg)
		return fail(p, -EBADMSG, "%s is missing", names[F_CEK_ALG]);
	if (strcmp(alg, ALG_GCM) == 0)
		s3ec->suite = S3C_S3EC_GCM;
	else if (strcmp(alg, ALG_CBC) == 0)
		s3ec->suite = S3C_S3EC_CBC;
	else
		return fail(p, -EPROTO, "its content is encrypted by '%.64s', which is not known",
			    alg);
	if (s3ec->suite == S3C_S3EC_GCM && (!tag || strcmp(tag, "128") != 0))
		return fail(p, -EBADMSG, "its tag has not 128 bits");
	r = take_base64(p, F_IV, s3ec->iv,
			s3ec->suite == S3C_S3EC_GCM ? S3C_NONCE_LEN : S3C_AES_BLOCK);
	if (r == 0)
		r = find_wrap(p);
	if (r == 0)
		r = take_wrapped(p, F_KEY_V2);
	return r < 0 ? r : take_desc(p, F_MATDESC);
}

static int take_v3(struct parser *p)
{
	static const uint8_t zero[S3C_S3EC_MESSAGE_ID_LEN];
	struct s3c_s3ec *s3ec = p->s3ec;
	const char *suite = p->values[F_SUITE], *wrap = p->values[F_WRAP_V3];
	int r;

	s3ec->version = 3;
	s3ec->suite = S3C_S3EC_COMMIT;
	if (!suite || !wrap)
		return fail(p, -EBADMSG, "%s is missing", names[suite ? F_WRAP_V3 : F_SUITE]);
	if (strcmp(suite, ALG_COMMIT) != 0)
		return fail(p, -EPROTO, "its content algorithm '%.16s' is not known", suite);
	if (strcmp(wrap, "02") == 0)
		s3ec->wrap = S3C_UNWRAP_AES_GCM;
	else if (strcmp(wrap, "12") == 0)
		s3ec->wrap = S3C_UNWRAP_KMS_CONTEXT;
	else if (strcmp(wrap, "22") == 0)
		s3ec->wrap = S3C_UNWRAP_RSA_OAEP_SHA1;
	else
		return fail(p, -EPROTO, "its key is wrapped by '%.16s', which is not known", wrap);
	r = take_base64(p, F_COMMITMENT, s3ec->commitment, sizeof(s3ec->commitment));
	if (r == 0)
		r = take_base64(p, F_MESSAGE_ID, s3ec->message_id, sizeof(s3ec->message_id));
	if (r == 0 && memcmp(s3ec->message_id, zero, sizeof(zero)) == 0)
		r = fail(p, -EBADMSG, "%s is all zero", names[F_MESSAGE_ID]);
	if (r == 0)
		r = take_wrapped(p, F_KEY_V3);
	if (r == 0)
		r = take_desc(p,
			      s3ec->wrap == S3C_UNWRAP_KMS_CONTEXT ? F_CONTEXT_V3 : F_MATDESC_V3);
	return r;
}

/* The number that text has, which has to be between the two. */
static int take_number(struct parser *p, enum field f, uint64_t least, uint64_t most,
		       uint64_t *ret_number)
{
	const char *text = p->values[f];
	uint64_t number = 0;

	if (!*text || strlen(text) > 15 || strspn(text, "0123456789") != strlen(text))
		return fail(p, -EBADMSG, "%s is no number", names[f]);
	for (; *text; text++)
		number = number * 10 + (uint64_t)(*text - '0');
	if (number < least || number > most)
		return fail(p, -EBADMSG, "%s contradicts the size of the object", names[f]);
	*ret_number = number;
	return 0;
}

static int take_size(struct parser *p)
{
	struct s3c_s3ec *s3ec = p->s3ec;
	uint64_t stored = s3ec->stored_size;
	bool cbc = s3ec->suite == S3C_S3EC_CBC;

	if (stored < S3C_TAG_LEN || (cbc && stored % S3C_AES_BLOCK))
		return fail(p, -EBADMSG, "an object of %llu bytes cannot be encrypted like this",
			    (unsigned long long)stored);
	if (stored - S3C_TAG_LEN > S3C_S3EC_SIZE_MAX)
		return fail(p, -EPROTO, "it is larger than 64 GiB");
	s3ec->size = stored - S3C_TAG_LEN;
	s3ec->size_known = !cbc;
	if (!p->values[F_LENGTH])
		return 0;
	s3ec->size_known = true;
	return take_number(p, F_LENGTH, stored - S3C_TAG_LEN,
			   cbc ? stored - 1 : stored - S3C_TAG_LEN, &s3ec->size);
}

static int make_id(struct s3c_s3ec *s3ec)
{
	uint8_t fixed[4 + 8 + S3C_AES_BLOCK + 2 * S3C_S3EC_COMMITMENT_LEN];
	cleanup_buf struct s3c_buf text = { 0 };
	uint8_t hash[S3C_SHA256_LEN], *at = fixed;
	int r;

	*at++ = 's';
	*at++ = (uint8_t)s3ec->version;
	*at++ = (uint8_t)s3ec->suite;
	*at++ = (uint8_t)s3ec->wrap;
	s3c_put_be64(at, s3ec->stored_size);
	memcpy(at + 8, s3ec->iv, sizeof(s3ec->iv));
	memcpy(at + 8 + S3C_AES_BLOCK, s3ec->commitment, sizeof(s3ec->commitment));
	memcpy(at + 8 + S3C_AES_BLOCK + sizeof(s3ec->commitment), s3ec->message_id,
	       sizeof(s3ec->message_id));
	r = s3c_buf_append(&text, fixed, sizeof(fixed));
	if (r == 0)
		r = s3c_buf_append(&text, s3ec->wrapped, s3ec->wrapped_len);
	if (r == 0)
		r = s3c_sha256(text.data, text.len, hash);
	if (r == 0)
		memcpy(s3ec->id, hash, sizeof(s3ec->id));
	return r;
}

/* Is there a wrapped key, or so much of an envelope that it cannot stand in a file? */
static int look_for_key(struct parser *p)
{
	static const enum field never_alone[] = {
		F_IV,      F_MATDESC, F_WRAP_ALG,   F_CEK_ALG,
		F_TAG_LEN, F_WRAP_V3, F_CONTEXT_V3, F_MATDESC_V3
	};
	unsigned keys = !!p->values[F_KEY_V1] + !!p->values[F_KEY_V2] + !!p->values[F_KEY_V3];
	bool v3 = p->values[F_SUITE] || p->values[F_COMMITMENT] || p->values[F_MESSAGE_ID];

	if (keys > 1)
		return fail(p, -EBADMSG, "it has several wrapped keys of different versions");
	if (keys) {
		if (v3 && !p->values[F_KEY_V3])
			return fail(p, -EBADMSG, "it has parts of V3 and of an older version");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(never_alone); i++)
		if (p->values[never_alone[i]])
			return fail(p, -EBADMSG, "it has %s and no wrapped key",
				    names[never_alone[i]]);
	return v3 ? -EREMOTE : -ENODATA;
}

static int take_all(struct parser *p)
{
	struct s3c_s3ec *s3ec = p->s3ec;
	int r;

	if (p->values[F_KEY_V3])
		r = take_v3(p);
	else if (p->values[F_KEY_V2])
		r = take_v2(p);
	else
		r = take_v1(p);
	if (r < 0)
		return r;
	if (!wrapped_len_fits(s3ec->wrap, s3ec->wrapped_len))
		return fail(p, -EBADMSG, "its wrapped key has an impossible length");
	s3ec->legacy = s3ec->suite == S3C_S3EC_CBC || s3c_unwrap_is_legacy(s3ec->wrap);
	r = take_size(p);
	return r < 0 ? r : make_id(s3ec);
}

int s3c_s3ec_parse(const struct s3c_meta *meta, const void *instruction, size_t instruction_len,
		   uint64_t stored_size, struct s3c_s3ec **ret_s3ec, char *why, size_t why_size)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = calloc(1, sizeof(*s3ec));
	struct parser p = { .s3ec = s3ec, .why = why, .why_size = why_size };
	int r;

	if (!s3ec)
		return -ENOMEM;
	s3ec->refs = 1;
	s3ec->stored_size = stored_size;
	r = take_object(&p, meta);
	if (r == 0)
		r = look_for_key(&p);
	if (instruction && (r == -ENODATA || r == -EREMOTE)) {
		r = take_file(&p, instruction, instruction_len);
		/* Once more: the file may have several. */
		if (r == 0)
			r = look_for_key(&p);
	}
	if (r == 0)
		r = take_all(&p);
	json_decref(p.file);
	if (r == 0)
		*ret_s3ec = steal_ptr(s3ec);
	return r;
}

static const char *content_alg(const struct s3c_s3ec *s3ec)
{
	return s3ec->suite == S3C_S3EC_CBC   ? ALG_CBC
	       : s3ec->suite == S3C_S3EC_GCM ? ALG_GCM
					     : ALG_COMMIT;
}

void s3c_s3ec_describe(const struct s3c_s3ec *s3ec, char *text, size_t size)
{
	snprintf(text, size, "V%u of the Amazon S3 Encryption Client, %s, key wrapped by %s%s",
		 s3ec->version,
		 s3ec->suite == S3C_S3EC_COMMIT ? "AES/GCM with key commitment" : content_alg(s3ec),
		 s3c_unwrap_alg_name(s3ec->wrap), s3ec->instruction ? ", instruction file" : "");
}

int s3c_s3ec_unwrap(const struct s3c_s3ec *s3ec, const struct s3c_keyring *keyring,
		    const struct s3c_kms_unwrap *kms, uint8_t ret_data_key[static S3C_KEY_LEN],
		    char *why, size_t why_size)
{
	return s3c_s3ec_unwrap_by(s3ec, keyring, NULL, kms, ret_data_key, why, why_size);
}

int s3c_s3ec_check_key(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		       char *why, size_t why_size)
{
	int r = s3ec->suite == S3C_S3EC_COMMIT ? s3c_s3ec_check_commitment(s3ec, data_key) : 0;

	return r == -EBADMSG
		       ? s3c_say(why, why_size, r, "its key is not the one that it commits to")
		       : r;
}

int s3c_s3ec_unwrap_by(const struct s3c_s3ec *s3ec, const struct s3c_keyring *keyring,
		       const char *key_id, const struct s3c_kms_unwrap *kms,
		       uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size)
{
	const struct s3c_wrapped_key wrapped = {
		.alg = s3ec->wrap,
		.content_alg = content_alg(s3ec),
		.wrapped = s3ec->wrapped,
		.wrapped_len = s3ec->wrapped_len,
		.desc = s3ec->desc,
		.desc_count = s3ec->desc_count,
		.key_id = key_id,
	};
	uint8_t key[S3C_KEY_LEN];
	int r = s3c_unwrap_data_key(&wrapped, keyring, kms, key, why, why_size);

	if (r == 0)
		r = s3c_s3ec_check_key(s3ec, key, why, why_size);
	if (r == 0)
		memcpy(ret_data_key, key, sizeof(key));
	s3c_wipe(key, sizeof(key));
	return r;
}

bool s3c_s3ec_is_item(const char *name)
{
	return field_of(name) >= 0;
}

const char *s3c_s3ec_content_alg(unsigned version)
{
	return version == 3 ? ALG_COMMIT : ALG_GCM;
}

static int put(struct s3c_meta *meta, enum field f, const char *value)
{
	return s3c_meta_set(meta, names[f], value);
}

static int put_base64(struct s3c_meta *meta, enum field f, const void *data, size_t len)
{
	cleanup_free char *text = malloc(S3C_BASE64_LEN(len) + 1);

	if (!text)
		return -ENOMEM;
	s3c_base64_encode(data, len, text);
	return put(meta, f, text);
}

static int encode_v2(const struct s3c_s3ec_wrap *wrap, struct s3c_meta *meta)
{
	uint8_t iv[S3C_NONCE_LEN];
	int r;

	s3c_random(iv, sizeof(iv));
	r = put_base64(meta, F_KEY_V2, wrap->wrapped, wrap->wrapped_len);
	r = r < 0 ? r : put_base64(meta, F_IV, iv, sizeof(iv));
	r = r < 0 ? r : put(meta, F_WRAP_ALG, s3c_unwrap_alg_name(wrap->alg));
	r = r < 0 ? r : put(meta, F_CEK_ALG, ALG_GCM);
	r = r < 0 ? r : put(meta, F_TAG_LEN, "128");
	return r < 0 ? r : put(meta, F_MATDESC, wrap->desc);
}

static const char *code_v3(enum s3c_unwrap_alg alg)
{
	return alg == S3C_UNWRAP_KMS_CONTEXT ? "12" : "02";
}

static int encode_v3(const uint8_t *data_key, const struct s3c_s3ec_wrap *wrap,
		     struct s3c_meta *meta)
{
	bool kms = wrap->alg == S3C_UNWRAP_KMS_CONTEXT;
	uint8_t id[S3C_S3EC_MESSAGE_ID_LEN], commitment[S3C_S3EC_COMMITMENT_LEN];
	int r;

	s3c_random(id, sizeof(id));
	r = s3c_s3ec_commit(data_key, id, commitment);
	r = r < 0 ? r : put(meta, F_SUITE, ALG_COMMIT);
	r = r < 0 ? r : put_base64(meta, F_KEY_V3, wrap->wrapped, wrap->wrapped_len);
	r = r < 0 ? r : put(meta, F_WRAP_V3, code_v3(wrap->alg));
	r = r < 0 ? r : put_base64(meta, F_COMMITMENT, commitment, sizeof(commitment));
	r = r < 0 ? r : put_base64(meta, F_MESSAGE_ID, id, sizeof(id));
	if (r == 0 && strcmp(wrap->desc, "{}") != 0)
		r = put(meta, kms ? F_CONTEXT_V3 : F_MATDESC_V3, wrap->desc);
	return r;
}

int s3c_s3ec_encode(unsigned version, const uint8_t data_key[static S3C_KEY_LEN],
		    const struct s3c_s3ec_wrap *wrap, struct s3c_meta *meta)
{
	if (wrap->alg != S3C_UNWRAP_AES_GCM && wrap->alg != S3C_UNWRAP_KMS_CONTEXT)
		return -EINVAL;
	if (version == 2)
		return encode_v2(wrap, meta);
	return version == 3 ? encode_v3(data_key, wrap, meta) : -EINVAL;
}

int s3c_s3ec_rewrap(const struct s3c_meta *old, const struct s3c_s3ec_wrap *wrap,
		    struct s3c_meta *meta)
{
	bool v3 = s3c_meta_get(old, names[F_KEY_V3]) != NULL;
	bool kms = wrap->alg == S3C_UNWRAP_KMS_CONTEXT;
	int r = 0;

	if (wrap->alg != S3C_UNWRAP_AES_GCM && !kms)
		return -EINVAL;
	for (size_t i = 0; i < old->count && r == 0; i++) {
		int f = field_of(old->items[i].name);

		if (f >= 0 && f != F_KEY_V2 && f != F_KEY_V3 && f != F_MATDESC &&
		    f != F_MATDESC_V3 && f != F_CONTEXT_V3)
			r = s3c_meta_set(meta, old->items[i].name, old->items[i].value);
	}
	r = r < 0 ? r
		  : put_base64(meta, v3 ? F_KEY_V3 : F_KEY_V2, wrap->wrapped, wrap->wrapped_len);
	r = r < 0 ? r
		  : put(meta, v3 ? F_WRAP_V3 : F_WRAP_ALG,
			v3 ? code_v3(wrap->alg) : s3c_unwrap_alg_name(wrap->alg));
	if (r == 0 && (!v3 || strcmp(wrap->desc, "{}") != 0))
		r = put(meta, !v3 ? F_MATDESC : kms ? F_CONTEXT_V3 : F_MATDESC_V3, wrap->desc);
	return r;
}
