/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Stored names as listings and metadata have them: a line with the stored path of the directory,
 * one with the stored name, the item s3cryptfs-name. What is read is written the same again. The
 * lines as a name: it is read back.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "object/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The names key of the example in doc/format.md. */
	static const char key_text[] = "4e023b9bfe41f920e1e642e1d201120c166e3366e3991ce22fee2ddc25"
				       "fcb310237d8d8297666a5aae960b3a2c3fe573da84d9adb6305abc5ff5"
				       "56ba785b6ded";
	cleanup_free char *text = strndup((const char *)data, size);
	char name[S3C_NAME_LEN_MAX + 1], again[S3C_NAME_LEN_MAX + 1];
	char *rest = text, *parent, *stored, *item;
	uint8_t key[S3C_SIV_KEY_LEN];
	struct s3c_stored_name made;
	int r;

	if (!text || s3c_hex_decode(key_text, key, sizeof(key)) < 0)
		return 0;
	parent = strsep(&rest, "\n");
	stored = strsep(&rest, "\n");
	item = rest;
	if (stored) {
		r = s3c_name_decrypt(key, parent, stored, strlen(stored), item, name);
		assert(r == 0 || r == -EBADMSG || r == -ENODATA || r == -ENOMEM);
		if (r == 0) {
			assert(s3c_name_encrypt(key, parent, name, strlen(name), &made) == 0);
			assert(strcmp(made.text, stored) == 0);
			assert(!s3c_name_is_long(stored) || strcmp(made.item, item) == 0);
		}
	}
	if (s3c_name_possible((const char *)data, size)) {
		assert(s3c_name_encrypt(key, "", (const char *)data, size, &made) == 0);
		assert(s3c_name_decrypt(key, "", made.text, strlen(made.text), made.item, again) ==
		       0);
		assert(strlen(again) == size && memcmp(again, data, size) == 0);
	}
	return 0;
}
