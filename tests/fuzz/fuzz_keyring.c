/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The text of a keyring. Without secret_file, which would open files of the input's choice. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/secret.h"
#include "key/keyring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
	return 0;
}
