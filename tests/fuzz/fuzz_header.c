/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Metadata from a store. Input: a byte of choices, then NAME NUL VALUE NUL pairs. With bit 0 the
 * packed value gets a good seal, so that what is behind the seal is reached as well.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"
#include "object/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t seal_key[32] = { 1, 2, 3 };

static void reseal(struct s3c_meta *meta, const struct s3c_volume *volume, const char *rel_key,
		   uint64_t stored)
{
	const char *text = s3c_meta_get(meta, "s3cryptfs");
	char again[S3C_BASE64_LEN(512) + 1];
	uint8_t packed[512];
	uint64_t plain = 0, whole = stored - S3C_TAG_LEN;
	const uint64_t *sealed;
	size_t len;

	if (!text || s3c_base64_decode(text, strlen(text), packed, sizeof(packed), &len) < 0 ||
	    len < 64 + 32 || (packed[1] != 5 && !s3c_chunks_plain_len(stored, &plain)))
		return;
	sealed = packed[1] == 2 ? &plain : packed[1] == 4 ? &whole : NULL;
	if (s3c_header_seal(volume, meta, packed, len - 32, rel_key, sealed, packed + len - 32) < 0)
		return;
	s3c_base64_encode(packed, len, again);
	s3c_meta_set(meta, "s3cryptfs", again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3c_epoch epoch = { .number = 1, .seal_key = seal_key };
	struct s3c_volume volume = { .family = S3C_FAMILY_CSE, .epoch = 1, .newest = &epoch };
	struct s3c_header header = { 0 };
	struct s3c_meta meta = { 0 };
	struct s3c_keyring ring = { 0 };
	uint8_t key[S3C_KEY_LEN];
	cleanup_free char *text = NULL;
	const char *p, *end, *rel_key;
	char why[128];
	uint64_t stored;
	unsigned choices;
	int r;

	if (!size)
		return 0;
	choices = *data;
	text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = text[size] = '\0';
	end = text + size - 1;
	for (p = text; p < end && meta.count < 32;) {
		const char *value = p + strlen(p) + 1;

		if (value > end)
			break;
		s3c_meta_set(&meta, p, value);
		p = value + strlen(value) + 1;
	}
	stored = choices & 2 ? 21 : choices & 4 ? UINT64_MAX : choices & 8 ? S3C_REFERENCE_LEN : 0;
	rel_key = choices & 16 ? S3C_BODY_DIR "00112233445566778899aabbccddeeff" : "key";
	if (choices & 1)
		reseal(&meta, &volume, rel_key, stored);
	r = s3c_header_decode(&meta, &volume, rel_key, stored, &header, why, sizeof(why));
	/* -ENOKEY: of an epoch that the volume does not have. */
	assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -ENODATA || r == -ENOMEM ||
	       r == -ENOKEY);
	assert(r != 0 || header.attrs.nlink <= (choices & 16 ? S3C_NLINK_MAX : 0));
	if (r == 0 && header.layout != S3C_LAYOUT_NONE && !s3c_layout_is_reference(header.layout)) {
		bool s3ec = header.layout == S3C_LAYOUT_S3EC;

		assert(header.kms ? header.kms->len : s3c_key_id_valid(header.key_id));
		assert(s3c_header_unwrap(&header, &ring, &volume, NULL, key, why, sizeof(why)) ==
		       (s3ec ? -EINVAL : -EACCES));
	}
	if (r == 0)
		s3c_header_clear(&header);
	s3c_meta_free(&meta);
	return 0;
}
