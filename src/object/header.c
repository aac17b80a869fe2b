/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The packed value, base64 in the item "s3cryptfs"; see doc/format.md for all else:
 *
 *	u8 version, u8 layout, be16 flags, be32 epoch, file id(16), content id(16), op id(16),
 *	be64 generation, [salt(16): chunks], [commitment(32): chunks, trailer, s3ec],
 *	[u8 length, id of a master key or ARN: s3ec], seal(32)
 */
#include "object/header.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/err.h"
#include "base/secret.h"
#include "object/chunks.h"
#include "object/s3ec_keys.h"

#define META_KEY "x-amz-key-v2"
#define META_MATDESC "x-amz-matdesc"
#define META_WRAP_ALG "x-amz-wrap-alg"
#define META_CEK_ALG "x-amz-cek-alg"
#define CEK_FAMILY "s3cryptfs/"

#define PACKED_VERSION 1
#define FLAG_ATTRS_FINAL 0x0001u
#define FLAGS_KNOWN FLAG_ATTRS_FINAL
#define FLAGS_NLINK_SHIFT 4 /* the 12 upper bits: names of a body */

#define FIXED_LEN 64u /* of the packed value, up to the generation */
#define PACKED_MAX (FIXED_LEN + S3C_COMMITMENT_LEN + 1 + S3C_SEALED_ID_MAX + S3C_SHA256_LEN)
#define SEAL_INPUT_MAX 16384u

/* Layout numbers of the format; they are not those of enum s3c_layout. */
enum {
	PACKED_NONE = 1,
	PACKED_CHUNKS = 2,
	PACKED_TRAILER = 3,
	PACKED_S3EC = 4,
	PACKED_REFERENCE = 5
};

static const char seal_label[] = "s3cryptfs seal v1";
static const char commit_label[] = "s3cryptfs commit";

/* What the seal covers, in this order, each as stored or absent. */
static const char *const sealed_items[] = {
	META_KEY, META_MATDESC, META_WRAP_ALG,    META_CEK_ALG, "mode",
	"uid",    "gid",        "mtime",          "atime",      "ctime",
	"xattr",  "rdev",       "s3cryptfs-name",
};
/* After them, of layout s3ec: the rest of what makes an envelope of another client. */
static const char *const sealed_s3ec_items[] = {
	"x-amz-iv",  "x-amz-tag-len", "x-amz-unencrypted-content-length",
	"x-amz-key", "x-amz-3",       "x-amz-c",
	"x-amz-w",   "x-amz-d",       "x-amz-i",
	"x-amz-t",   "x-amz-m",
};

/* be32 length and bytes; absent (NULL) is ff ff ff ff. */
static int append_field(struct s3c_buf *out, const void *data, size_t len)
{
	uint8_t head[4];
	int r;

	if (len >= UINT32_MAX)
		return -EMSGSIZE;
	s3c_put_be32(head, data ? (uint32_t)len : UINT32_MAX);
	r = s3c_buf_append(out, head, sizeof(head));
	if (r == 0 && data)
		r = s3c_buf_append(out, data, len);
	return r;
}

static int append_text(struct s3c_buf *out, const char *text)
{
	return append_field(out, text, text ? strlen(text) : 0);
}

int s3c_header_seal(const struct s3c_volume *volume, const struct s3c_meta *meta,
		    const void *packed, size_t packed_len, const char *rel_key,
		    const uint64_t *size, uint8_t ret_seal[static S3C_SHA256_LEN])
{
	cleanup_buf struct s3c_buf in = { .max = SEAL_INPUT_MAX };
	bool s3ec = ((const uint8_t *)packed)[1] == PACKED_S3EC;
	/* The one that the packed value names. */
	const uint8_t *seal_key =
		s3c_volume_seal_key(volume, s3c_get_be32((const uint8_t *)packed + 4));
	uint8_t size_be[8];
	int r;

	if (!seal_key)
		return -EINVAL;
	s3c_put_be64(size_be, size ? *size : 0);
	r = append_text(&in, seal_label);
	if (r == 0)
		r = append_text(&in, rel_key);
	if (r == 0)
		r = append_field(&in, size ? size_be : NULL, sizeof(size_be));
	if (r == 0)
		r = append_field(&in, packed, packed_len);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(sealed_items); i++)
		r = append_text(&in, s3c_meta_get(meta, sealed_items[i]));
	for (size_t i = 0; s3ec && r == 0 && i < ARRAY_LEN(sealed_s3ec_items); i++)
		r = append_text(&in, s3c_meta_get(meta, sealed_s3ec_items[i]));
	return r < 0 ? r : s3c_hmac_sha256(seal_key, S3C_KEY_LEN, in.data, in.len, ret_seal);
}

int s3c_header_commitment(const uint8_t data_key[static S3C_KEY_LEN],
			  const uint8_t file_id[static S3C_FILE_ID_LEN],
			  uint8_t ret_commitment[static S3C_COMMITMENT_LEN])
{
	uint8_t info[sizeof(commit_label) - 1 + S3C_FILE_ID_LEN];

	memcpy(info, commit_label, sizeof(commit_label) - 1);
	memcpy(info + sizeof(commit_label) - 1, file_id, S3C_FILE_ID_LEN);
	return s3c_hkdf_sha256(data_key, S3C_KEY_LEN, NULL, 0, info, sizeof(info), ret_commitment,
			       S3C_COMMITMENT_LEN);
}

void s3c_header_set(struct s3c_header *to, const struct s3c_header *from)
{
	struct s3c_xattrs *xattrs = to->attrs.xattrs;
	struct s3c_kms_wrap *former = to->kms;

	*to = *from;
	to->kms = s3c_kms_wrap_ref(from->kms);
	to->attrs.xattrs = s3c_xattrs_ref(from->attrs.xattrs);
	s3c_kms_wrap_put(former);
	s3c_xattrs_put(xattrs);
}

void s3c_header_clear(struct s3c_header *header)
{
	s3c_kms_wrap_put(header->kms);
	header->kms = NULL;
	s3c_attrs_clear(&header->attrs);
}

static bool kms_writes(const struct s3c_keyring *keyring)
{
	return keyring->kms && s3c_kms_keys_writes(keyring->kms);
}

/* Draws file id and data key and wraps it, under whatever wraps new objects. */
static int draw_key(const struct s3c_keyring *keyring, const struct s3c_volume *volume,
		    struct s3c_op *op, struct s3c_header *h, uint8_t *ret_data_key, char *why,
		    size_t why_size)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring);

	if (kms_writes(keyring))
		return s3c_kms_keys_draw(keyring->kms, op, volume->id, S3C_CEK_ALG, h->file_id,
					 ret_data_key, h->wrapped, &h->kms, why, why_size);
	if (!active)
		return -EKEYREJECTED;
	s3c_random(h->file_id, sizeof(h->file_id));
	s3c_random(ret_data_key, S3C_KEY_LEN);
	memcpy(h->key_id, active->id, sizeof(h->key_id));
	return s3c_wrap_seal(active, S3C_CEK_ALG, h->file_id, ret_data_key, h->wrapped);
}

int s3c_header_new(const struct s3c_keyring *keyring, const struct s3c_volume *volume,
		   struct s3c_op *op, struct s3c_header *ret_header,
		   uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size)
{
	cleanup_header struct s3c_header drawn = { 0 };
	uint8_t data_key[S3C_KEY_LEN];
	int r;

	r = draw_key(keyring, volume, op, &drawn, data_key, why, why_size);
	if (r == 0)
		r = s3c_header_commitment(data_key, drawn.file_id, drawn.commitment);
	if (r == 0) {
		ret_header->attrs_final = false;
		ret_header->epoch = volume->epoch;
		memcpy(ret_header->file_id, drawn.file_id, sizeof(drawn.file_id));
		s3c_random(ret_header->content_id, sizeof(ret_header->content_id));
		s3c_random(ret_header->op_id, sizeof(ret_header->op_id));
		memcpy(ret_header->commitment, drawn.commitment, sizeof(drawn.commitment));
		memcpy(ret_header->wrapped, drawn.wrapped, sizeof(drawn.wrapped));
		memcpy(ret_header->key_id, drawn.key_id, sizeof(drawn.key_id));
		ret_header->kms = steal_ptr(drawn.kms);
		memcpy(ret_data_key, data_key, sizeof(data_key));
	}
	s3c_wipe(data_key, sizeof(data_key));
	return r;
}

bool s3c_header_is_current(const struct s3c_header *header, const struct s3c_keyring *keyring)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring);

	if (kms_writes(keyring))
		return header->kms && s3c_kms_keys_is_current(keyring->kms, header->kms,
							      header->layout == S3C_LAYOUT_S3EC);
	return !header->kms && active && strcmp(header->key_id, active->id) == 0;
}

/* Under whatever wraps new objects; only wrapped, key_id and kms change. */
static int wrap_key(struct s3c_header *header, const struct s3c_keyring *keyring,
		    const struct s3c_volume *volume, struct s3c_op *op, const uint8_t *data_key,
		    char *why, size_t why_size)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring);
	struct s3c_kms_wrap *kms = NULL;
	uint8_t wrapped[S3C_WRAP_LEN] = { 0 };
	int r;

	if (kms_writes(keyring))
		r = s3c_kms_keys_seal(keyring->kms, op, volume->id, header->file_id, S3C_CEK_ALG,
				      data_key, wrapped, &kms, why, why_size);
	else if (active)
		r = s3c_wrap_seal(active, S3C_CEK_ALG, header->file_id, data_key, wrapped);
	else
		r = -EKEYREJECTED;
	if (r < 0)
		return r;
	memcpy(header->wrapped, wrapped, sizeof(wrapped));
	memset(header->key_id, 0, sizeof(header->key_id));
	if (!kms)
		memcpy(header->key_id, active->id, sizeof(header->key_id));
	s3c_kms_wrap_put(header->kms);
	header->kms = kms;
	return 0;
}

int s3c_header_renew(struct s3c_header *header, const struct s3c_keyring *keyring,
		     const struct s3c_volume *volume, struct s3c_op *op, const uint8_t *data_key,
		     char *why, size_t why_size)
{
	struct s3c_kms_wrap *kms = NULL;
	uint8_t key[S3C_KEY_LEN];
	int r = -EOPNOTSUPP;

	if (s3c_header_is_current(header, keyring))
		return 1;
	if (data_key)
		return wrap_key(header, keyring, volume, op, data_key, why, why_size);
	if (header->kms && kms_writes(keyring))
		r = s3c_kms_keys_reencrypt(keyring->kms, op, header->kms, volume->id,
					   header->file_id, S3C_CEK_ALG, &kms, why, why_size);
	if (r == 0) {
		s3c_kms_wrap_put(header->kms);
		header->kms = kms;
	}
	if (r != -EOPNOTSUPP)
		return r;
	r = s3c_header_unwrap(header, keyring, volume, op, key, why, why_size);
	if (r == 0)
		r = wrap_key(header, keyring, volume, op, key, why, why_size);
	s3c_wipe(key, sizeof(key));
	return r;
}

static bool has_key(enum s3c_layout layout)
{
	return layout != S3C_LAYOUT_NONE && layout != S3C_LAYOUT_REFERENCE;
}

/* Only bodies of files with several names count them. */
static bool is_body_key(const char *rel_key)
{
	return strncmp(rel_key, S3C_BODY_DIR, strlen(S3C_BODY_DIR)) == 0;
}

/* Everything before the seal; 0 for a layout that has no packed value. */
static size_t pack(const struct s3c_header *header, uint8_t out[static PACKED_MAX])
{
	uint8_t *p = out + FIXED_LEN;

	out[0] = PACKED_VERSION;
	switch (header->layout) {
	case S3C_LAYOUT_NONE:
		out[1] = PACKED_NONE;
		break;
	case S3C_LAYOUT_CHUNKS:
		out[1] = PACKED_CHUNKS;
		p = (uint8_t *)mempcpy(p, header->salt, S3C_SALT_LEN);
		break;
	case S3C_LAYOUT_TRAILER:
		out[1] = PACKED_TRAILER;
		break;
	case S3C_LAYOUT_S3EC:
		out[1] = PACKED_S3EC;
		break;
	case S3C_LAYOUT_REFERENCE:
		out[1] = PACKED_REFERENCE;
		break;
	default:
		return 0;
	}
	s3c_put_be16(out + 2, (uint16_t)((header->attrs_final ? FLAG_ATTRS_FINAL : 0) |
					 header->attrs.nlink << FLAGS_NLINK_SHIFT));
	s3c_put_be32(out + 4, header->epoch);
	memcpy(out + 8, header->file_id, S3C_FILE_ID_LEN);
	memcpy(out + 24, header->content_id, S3C_CONTENT_ID_LEN);
	memcpy(out + 40, header->op_id, S3C_OP_ID_LEN);
	s3c_put_be64(out + 56, header->generation);
	if (has_key(header->layout))
		p = (uint8_t *)mempcpy(p, header->commitment, S3C_COMMITMENT_LEN);
	if (header->layout == S3C_LAYOUT_S3EC) {
		const char *id = s3c_header_key_name(header);
		size_t len = strlen(id);

		if (!len || len > S3C_SEALED_ID_MAX)
			return 0;
		*p++ = (uint8_t)len;
		p = (uint8_t *)mempcpy(p, id, len);
	}
	return (size_t)(p - out);
}

/* The four items of the envelope. */
static int set_envelope(struct s3c_meta *meta, const char *wrapped, const char *matdesc,
			const char *wrap_alg)
{
	int r = s3c_meta_set(meta, META_KEY, wrapped);

	if (r == 0)
		r = s3c_meta_set(meta, META_MATDESC, matdesc);
	if (r == 0)
		r = s3c_meta_set(meta, META_WRAP_ALG, wrap_alg);
	if (r == 0)
		r = s3c_meta_set(meta, META_CEK_ALG, S3C_CEK_ALG);
	return r;
}

static int encode_kms(const struct s3c_header *header, const struct s3c_volume *volume,
		      struct s3c_meta *meta)
{
	const struct s3c_kms_wrap *kms = header->kms;
	char text[S3C_BASE64_LEN(S3C_WRAP_LEN + S3C_KMS_WRAP_MAX) + 1];
	uint8_t wrapped[S3C_WRAP_LEN + S3C_KMS_WRAP_MAX];
	size_t local = kms->reuse ? S3C_WRAP_LEN : 0;
	cleanup_free char *matdesc = NULL;
	int r;

	if (kms->len > S3C_KMS_WRAP_MAX)
		return -EINVAL;
	memcpy(wrapped, header->wrapped, local);
	memcpy(wrapped + local, kms->data, kms->len);
	s3c_base64_encode(wrapped, local + kms->len, text);
	r = s3c_kms_matdesc(kms, volume->id, header->file_id, S3C_CEK_ALG, &matdesc);
	return r < 0 ? r
		     : set_envelope(meta, text, matdesc,
				    kms->reuse ? S3C_KMS_REUSE_ALG : S3C_KMS_WRAP_ALG);
}

static int encode_envelope(const struct s3c_header *header, const struct s3c_keyring *keyring,
			   const struct s3c_volume *volume, struct s3c_meta *meta)
{
	const struct s3c_master_key *key = s3c_keyring_find(keyring, header->key_id);
	struct s3c_master_key forgotten = { 0 };
	char wrapped[S3C_BASE64_LEN(S3C_WRAP_LEN) + 1];
	cleanup_free char *matdesc = NULL;
	int r;

	if (header->kms)
		return encode_kms(header, volume, meta);
	if (!key) {
		if (!s3c_key_id_valid(header->key_id))
			return -EINVAL;
		memcpy(forgotten.id, header->key_id, sizeof(forgotten.id));
		key = &forgotten;
	}
	s3c_base64_encode(header->wrapped, sizeof(header->wrapped), wrapped);
	r = s3c_keyring_matdesc(key, &matdesc);
	return r < 0 ? r : set_envelope(meta, wrapped, matdesc, S3C_WRAP_ALG);
}

int s3c_header_encode(const struct s3c_header *header, const struct s3c_keyring *keyring,
		      const struct s3c_volume *volume, const char *rel_key, struct s3c_meta *meta)
{
	bool chunks = header->layout == S3C_LAYOUT_CHUNKS;
	bool s3ec = header->layout == S3C_LAYOUT_S3EC;
	uint8_t packed[PACKED_MAX];
	char text[S3C_BASE64_LEN(PACKED_MAX) + 1];
	size_t len = pack(header, packed);
	int r;

	if (!len || header->attrs.nlink > (is_body_key(rel_key) ? S3C_NLINK_MAX : 0))
		return -EINVAL;
	if (chunks &&
	    (header->size > S3C_SEGMENT_SIZE || (header->size && s3c_salt_is_hole(header->salt))))
		return -EINVAL;
	if (s3ec && ((!header->kms && !s3c_key_id_valid(header->key_id)) ||
		     (!s3c_meta_get(meta, META_KEY) && !s3c_meta_get(meta, "x-amz-3"))))
		return -EINVAL;
	/* Of an epoch that the volume object does not have it would not be found again. */
	if (!s3c_volume_seal_key(volume, header->epoch))
		return -EINVAL;
	r = s3c_attrs_encode(&header->attrs, meta);
	if (r == 0)
		r = s3c_xattrs_encode(header->attrs.xattrs, volume, header->epoch, header->file_id,
				      meta);
	if (r == 0 && (chunks || header->layout == S3C_LAYOUT_TRAILER))
		r = encode_envelope(header, keyring, volume, meta);
	if (r == 0)
		r = s3c_header_seal(volume, meta, packed, len, rel_key,
				    chunks || s3ec ? &header->size : NULL, packed + len);
	if (r < 0)
		return r;
	s3c_base64_encode(packed, len + S3C_SHA256_LEN, text);
	return s3c_meta_set(meta, S3C_META_PACKED, text);
}

/*
 * Takes the packed value apart. No item is believed yet, but for what tells how the seal is made:
 * version, layout, epoch, and the size that layout and stored size give. ret_id: of LAYOUT_S3EC.
 */
static int unpack(const char *text, const struct s3c_volume *volume, uint64_t stored_size,
		  struct s3c_header *h, uint8_t packed[static PACKED_MAX], size_t *ret_len,
		  unsigned *ret_flags, char ret_id[static S3C_SEALED_ID_MAX + 1], char *why,
		  size_t why_size)
{
	size_t len, want = FIXED_LEN + S3C_SHA256_LEN;
	const uint8_t *p = packed + FIXED_LEN;
	size_t id_len = 0;

	if (s3c_base64_decode(text, strlen(text), packed, PACKED_MAX, &len) < 0 || len < want)
		return s3c_say(why, why_size, -EBADMSG, "its item " S3C_META_PACKED " is damaged");
	if (packed[0] != PACKED_VERSION)
		return s3c_say(why, why_size, -EPROTO,
			       "format version %u, which this program does not know", packed[0]);
	switch (packed[1]) {
	case PACKED_NONE:
		h->layout = S3C_LAYOUT_NONE;
		break;
	case PACKED_CHUNKS:
		h->layout = S3C_LAYOUT_CHUNKS;
		want += S3C_SALT_LEN + S3C_COMMITMENT_LEN;
		break;
	case PACKED_TRAILER:
		h->layout = S3C_LAYOUT_TRAILER;
		want += S3C_COMMITMENT_LEN;
		break;
	case PACKED_S3EC:
		h->layout = S3C_LAYOUT_S3EC;
		want += S3C_COMMITMENT_LEN + 1;
		id_len = len >= want ? p[S3C_COMMITMENT_LEN] : 0;
		want += id_len;
		break;
	case PACKED_REFERENCE:
		h->layout = S3C_LAYOUT_REFERENCE;
		break;
	default:
		return s3c_say(why, why_size, -EPROTO,
			       "layout %u, which this program does not know", packed[1]);
	}
	if (len != want)
		return s3c_say(why, why_size, -EBADMSG, "its item " S3C_META_PACKED " is damaged");
	*ret_flags = s3c_get_be16(packed + 2);
	h->epoch = s3c_get_be32(packed + 4);
	if (!s3c_volume_seal_key(volume, h->epoch))
		return s3c_say(why, why_size, -ENOKEY,
			       "sealed in epoch %u, which this volume does not have", h->epoch);
	memcpy(h->file_id, packed + 8, S3C_FILE_ID_LEN);
	memcpy(h->content_id, packed + 24, S3C_CONTENT_ID_LEN);
	memcpy(h->op_id, packed + 40, S3C_OP_ID_LEN);
	h->generation = s3c_get_be64(packed + 56);
	if (h->layout == S3C_LAYOUT_CHUNKS) {
		memcpy(h->salt, p, S3C_SALT_LEN);
		p += S3C_SALT_LEN;
	}
	if (has_key(h->layout))
		memcpy(h->commitment, p, S3C_COMMITMENT_LEN);
	memcpy(ret_id, p + S3C_COMMITMENT_LEN + 1, id_len);
	ret_id[id_len] = '\0';
	if (h->layout == S3C_LAYOUT_S3EC)
		h->size = stored_size - S3C_TAG_LEN;
	if ((h->layout == S3C_LAYOUT_NONE && stored_size) ||
	    (h->layout == S3C_LAYOUT_REFERENCE && !s3c_reference_size(stored_size)) ||
	    (h->layout == S3C_LAYOUT_S3EC &&
	     (stored_size < S3C_TAG_LEN || h->size > S3C_S3EC_SIZE_MAX)) ||
	    (h->layout == S3C_LAYOUT_CHUNKS &&
	     (!s3c_chunks_plain_len(stored_size, &h->size) || h->size > S3C_SEGMENT_SIZE)))
		return s3c_say(why, why_size, -EBADMSG,
			       "its size cannot be: truncated or extended");
	*ret_len = len - S3C_SHA256_LEN;
	return 0;
}

int s3c_header_epoch(const struct s3c_meta *meta, uint32_t *ret_epoch)
{
	const char *text = s3c_meta_get(meta, S3C_META_PACKED);
	uint8_t packed[PACKED_MAX];
	size_t len;

	if (!text || s3c_base64_decode(text, strlen(text), packed, PACKED_MAX, &len) < 0 ||
	    len < FIXED_LEN)
		return -EBADMSG;
	*ret_epoch = s3c_get_be32(packed + 4);
	return 0;
}

static int decode_key_id(const char *matdesc, char ret_id[static S3C_KEY_ID_MAX + 1])
{
	json_auto_t *map = matdesc ? json_loads(matdesc, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *id = json_string_value(json_object_get(map, S3C_MATDESC_KEY_ID));

	if (!id || !s3c_key_id_valid(id))
		return -EBADMSG;
	memcpy(ret_id, id, strlen(id) + 1);
	return 0;
}

/* x-amz-key-v2 into wrapped and what a KMS wrapped. */
static int decode_kms(const struct s3c_meta *meta, const struct s3c_volume *volume, bool reuse,
		      struct s3c_header *h, char *why, size_t why_size)
{
	uint8_t wrapped[S3C_WRAP_LEN + S3C_KMS_WRAP_MAX];
	const char *text = s3c_meta_get(meta, META_KEY);
	size_t len, local = reuse ? S3C_WRAP_LEN : 0;
	cleanup_free char *pairs = NULL;
	cleanup_free char *arn = NULL;
	int r;

	if (!text || s3c_base64_decode(text, strlen(text), wrapped, sizeof(wrapped), &len) < 0 ||
	    len <= local || len - local > S3C_KMS_WRAP_MAX)
		return s3c_say(why, why_size, -EBADMSG, "its wrapped key is damaged");
	r = s3c_kms_matdesc_parse(s3c_meta_get(meta, META_MATDESC), volume->id,
				  reuse ? NULL : h->file_id, S3C_CEK_ALG, &arn, &pairs);
	if (r == -EBADMSG)
		return s3c_say(why, why_size, r,
			       "its material description is not that of this volume and file");
	if (r < 0)
		return r;
	memcpy(h->wrapped, wrapped, local);
	return s3c_kms_wrap_new(reuse, arn, pairs, wrapped + local, len - local, &h->kms);
}

static int decode_master(const struct s3c_meta *meta, struct s3c_header *h, char *why,
			 size_t why_size)
{
	const char *wrapped = s3c_meta_get(meta, META_KEY);
	size_t len;

	if (!wrapped ||
	    s3c_base64_decode(wrapped, strlen(wrapped), h->wrapped, sizeof(h->wrapped), &len) < 0 ||
	    len != sizeof(h->wrapped))
		return s3c_say(why, why_size, -EBADMSG, "its wrapped key is damaged");
	if (decode_key_id(s3c_meta_get(meta, META_MATDESC), h->key_id) < 0)
		return s3c_say(why, why_size, -EBADMSG, "its material description names no key");
	return 0;
}

/* Under a good seal: what does not fit here was written by another program, not altered. On an
 * error the caller clears h. */
static int decode_envelope(const struct s3c_meta *meta, const struct s3c_volume *volume,
			   struct s3c_header *h, char *why, size_t why_size)
{
	const char *wrap_alg = s3c_meta_get(meta, META_WRAP_ALG);
	const char *cek_alg = s3c_meta_get(meta, META_CEK_ALG);
	int r;

	if (!cek_alg || strcmp(cek_alg, S3C_CEK_ALG) != 0)
		return s3c_say(why, why_size, -EPROTO,
			       "content algorithm %s, which this program does not know",
			       cek_alg ? cek_alg : "(none)");
	if (wrap_alg && strcmp(wrap_alg, S3C_WRAP_ALG) == 0)
		r = decode_master(meta, h, why, why_size);
	else if (wrap_alg && strcmp(wrap_alg, S3C_KMS_WRAP_ALG) == 0)
		r = decode_kms(meta, volume, false, h, why, why_size);
	else if (wrap_alg && strcmp(wrap_alg, S3C_KMS_REUSE_ALG) == 0)
		r = decode_kms(meta, volume, true, h, why, why_size);
	else
		return s3c_say(why, why_size, -EPROTO,
			       "its key is wrapped by %s, which this program does not know",
			       wrap_alg ? wrap_alg : "(nothing)");
	if (r == 0 && h->layout == S3C_LAYOUT_CHUNKS && h->size && s3c_salt_is_hole(h->salt))
		r = s3c_say(why, why_size, -EBADMSG, "its salt is zero");
	return r;
}

int s3c_header_decode(const struct s3c_meta *meta, const struct s3c_volume *volume,
		      const char *rel_key, uint64_t stored_size, struct s3c_header *ret_header,
		      char *why, size_t why_size)
{
	const char *text = s3c_meta_get(meta, S3C_META_PACKED);
	const char *cek_alg = s3c_meta_get(meta, META_CEK_ALG);
	uint8_t packed[PACKED_MAX], seal[S3C_SHA256_LEN];
	char id[S3C_SEALED_ID_MAX + 1];
	struct s3c_header h = { 0 };
	unsigned flags = 0;
	size_t len = 0;
	int r;

	if (!text && cek_alg && strncmp(cek_alg, CEK_FAMILY, strlen(CEK_FAMILY)) == 0)
		return s3c_say(why, why_size, -EBADMSG, "its seal was removed");
	if (!text)
		return s3c_say(why, why_size, -ENODATA, "not written by s3cryptfs");
	r = unpack(text, volume, stored_size, &h, packed, &len, &flags, id, why, why_size);
	if (r < 0)
		return r;
	r = s3c_header_seal(volume, meta, packed, len, rel_key,
			    h.layout == S3C_LAYOUT_CHUNKS || h.layout == S3C_LAYOUT_S3EC ? &h.size
											 : NULL,
			    seal);
	if (r < 0 && r != -EMSGSIZE)
		return r;
	if (r < 0 || !s3c_equal_ct(seal, packed + len, sizeof(seal)))
		return s3c_say(
			why, why_size, -EBADMSG,
			"its seal does not fit: altered, truncated, moved from another name, or "
			"of another volume");
	h.attrs.nlink = flags >> FLAGS_NLINK_SHIFT;
	if (is_body_key(rel_key))
		flags &= (1u << FLAGS_NLINK_SHIFT) - 1;
	if (flags & ~FLAGS_KNOWN)
		return s3c_say(why, why_size, -EPROTO,
			       "flags %04x, which this program does not know",
			       flags & ~FLAGS_KNOWN);
	h.attrs_final = flags & FLAG_ATTRS_FINAL;
	if (h.layout == S3C_LAYOUT_S3EC)
		r = s3c_s3ec_key_named(meta, stored_size, id, &h, why, why_size);
	else if (has_key(h.layout))
		r = decode_envelope(meta, volume, &h, why, why_size);
	if (r < 0) {
		s3c_header_clear(&h);
		return r;
	}
	s3c_attrs_decode(meta, &h.attrs);
	r = s3c_xattrs_decode(meta, volume, h.epoch, h.file_id, &h.attrs.xattrs);
	if (r < 0) {
		s3c_header_clear(&h);
		return r == -ENOMEM ? r
				    : s3c_say(why, why_size, -EBADMSG,
					      "its extended attributes do not open");
	}
	*ret_header = h;
	return 0;
}

/* By a master key of the keyring. */
static int open_master(const struct s3c_header *header, const struct s3c_keyring *keyring,
		       uint8_t *ret_data_key, char *why, size_t why_size)
{
	const struct s3c_master_key *key = s3c_keyring_find(keyring, header->key_id);
	int r;

	if (!key)
		return s3c_say(why, why_size, -EACCES,
			       "needs the master key %s, which the keyring does not have",
			       header->key_id);
	r = s3c_wrap_open(key, S3C_CEK_ALG, header->file_id, header->wrapped, ret_data_key);
	if (r == -EINVAL)
		return s3c_say(
			why, why_size, -EACCES,
			"needs the master key %s, which in the keyring is no key for encrypting "
			"(32 bytes, without 'use = sse-c')",
			header->key_id);
	if (r == -EBADMSG)
		s3c_say(why, why_size, r,
			"its key does not open under the master key %s: altered, or the keyring "
			"has "
			"another secret under this id",
			header->key_id);
	return r;
}

int s3c_header_unwrap(const struct s3c_header *header, const struct s3c_keyring *keyring,
		      const struct s3c_volume *volume, struct s3c_op *op,
		      uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size)
{
	uint8_t data_key[S3C_KEY_LEN], commitment[S3C_COMMITMENT_LEN];
	int r;

	if (header->layout != S3C_LAYOUT_CHUNKS && header->layout != S3C_LAYOUT_TRAILER)
		return -EINVAL;
	if (!header->kms)
		r = open_master(header, keyring, data_key, why, why_size);
	else if (keyring->kms)
		r = s3c_kms_keys_open(keyring->kms, op, header->kms, header->wrapped, volume->id,
				      header->file_id, S3C_CEK_ALG, data_key, why, why_size);
	else
		return s3c_say(why, why_size, -EACCES,
			       "needs the KMS key %.256s: mount with kms_key_id= or kms_read_keys=",
			       header->kms->arn);
	if (r == 0)
		r = s3c_header_commitment(data_key, header->file_id, commitment);
	if (r == 0 && !s3c_equal_ct(commitment, header->commitment, sizeof(commitment)))
		r = s3c_say(why, why_size, -EBADMSG, "its key does not fit its commitment");
	if (r == 0)
		memcpy(ret_data_key, data_key, sizeof(data_key));
	s3c_wipe(data_key, sizeof(data_key));
	return r;
}

int s3c_header_rewrap(struct s3c_header *header, const struct s3c_master_key *key,
		      const uint8_t data_key[static S3C_KEY_LEN])
{
	uint8_t wrapped[S3C_WRAP_LEN];
	int r = s3c_wrap_seal(key, S3C_CEK_ALG, header->file_id, data_key, wrapped);

	if (r < 0)
		return r;
	s3c_kms_wrap_put(steal_ptr(header->kms));
	memcpy(header->wrapped, wrapped, sizeof(wrapped));
	memcpy(header->key_id, key->id, sizeof(header->key_id));
	return 0;
}

uint64_t s3c_generation_next(uint64_t seen)
{
	int64_t now = s3c_clock_realtime_ns();
	uint64_t next = seen == UINT64_MAX ? seen : seen + 1;

	return now > 0 && (uint64_t)now > next ? (uint64_t)now : next;
}
