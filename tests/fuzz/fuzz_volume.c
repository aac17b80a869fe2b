/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The body of a volume object, under a keyring with keys for all families. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/secret.h"
#include "object/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char ring_text[] =
	"[example-key]\nsecret=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nstate=active\n"
	"[other]\nsecret=ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n"
	"[s]\nuse=sse-c\nsecret=QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct s3c_keyring *ring;
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_buf struct s3c_buf body = { 0 };
	struct s3c_err err = { 0 };
	size_t added;
	int r;

	if (!ring && (s3c_secret_init() < 0 || s3c_keyring_parse(ring_text, strlen(ring_text),
								 "ring", NULL, NULL, &ring) < 0))
		return 0;
	r = s3c_volume_open(data, size, ring, &err, &volume);
	assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -EKEYREJECTED || r == -ENOMEM);
	assert(r == 0 || r == -ENOMEM || err.text[0]);
	if (r == 0 && s3c_volume_add_keys(data, size, ring, NULL, &added, &body) == 0 && added) {
		s3c_volume_free(volume);
		volume = NULL;
		assert(s3c_volume_open(body.data, body.len, ring, NULL, &volume) == 0);
	}
	return 0;
}
