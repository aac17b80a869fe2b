/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The text of a keyring. Without secret_file, which would open files of the input's choice. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/secret.h"
#include "key/keyring_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What can be read can be changed, and read again. */
static void change(const char *text, size_t size, const struct s3c_keyring *ring)
{
	cleanup_keyring struct s3c_keyring *rotated = NULL, *removed = NULL;
	struct s3c_buf more = { .max = S3C_KEYRING_MAX }, less = { .max = S3C_KEYRING_MAX };
	const char *id = "fuzz.new";
	struct s3c_err err = { 0 };

	if (ring->count > 100 || s3c_keyring_find(ring, id) || size > S3C_KEYRING_MAX / 2)
		return;
	assert(s3c_keyring_text_rotate(text, size, ring, id, &more) == 0);
	assert(s3c_keyring_parse(more.data, more.len, "fuzz", NULL, &err, &rotated) == 0);
	assert(rotated->count == ring->count + 1);
	assert(!strcmp(s3c_keyring_active(rotated)->id, id));
	id = s3c_keyring_active(ring)->id;
	assert(s3c_keyring_text_remove(more.data, more.len, id, &less) == 0);
	assert(s3c_keyring_parse(less.data, less.len, "fuzz", NULL, &err, &removed) == 0);
	assert(removed->count == ring->count && !s3c_keyring_find(removed, id));
	s3c_buf_free_secret(&more);
	s3c_buf_free_secret(&less);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	cleanup_keyring struct s3c_keyring *ring = NULL;
	struct s3c_err err = { 0 };
	int r;

	if (!ready && s3c_secret_init() < 0)
		return 0;
	ready = true;
	if (memmem(data, size, "secret_file", strlen("secret_file")))
		return 0;
	r = s3c_keyring_parse((const char *)data, size, "fuzz", NULL, &err, &ring);
	assert(r == 0 || r == -ENOMEM || err.text[0]);
	if (r < 0)
		return 0;
	assert(s3c_keyring_active(ring));
	for (size_t i = 0; i < ring->count; i++) {
		cleanup_free char *json = NULL;

		assert(s3c_key_id_valid(ring->keys[i].id));
		assert(s3c_keyring_matdesc(&ring->keys[i], &json) == 0);
		assert(strlen(json) <= S3C_MATDESC_MAX);
	}
	change((const char *)data, size, ring);
	return 0;
}
