/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Slots of the volume object whose key a KMS wraps. Private to src/object/.
 *
 *	slot = { "type": "kms", "key_id": ARN, "wrapped": base64, ["context": the user's pairs] }
 *
 * The encryption context has the volume and the algorithm besides the pairs (key/kms_wrap.h).
 */
#pragma once

#include <jansson.h>

#include "key/kms_keys.h"

/* Appends the volume key wrapped under the active KMS key. May wait; a sentence. */
int s3c_volume_kms_append(json_t *slots, struct s3c_kms_keys *kms,
			  const uint8_t id[static S3C_VOLUME_ID_LEN], const char *alg,
			  const uint8_t volume_key[static S3C_KEY_LEN], struct s3c_err *err);
/*
 * Opens a slot that a named key wraps; *at is where to begin in slots, and the next one then. Which
 * key it is tells its check. -ENOENT: there is none any more; others with a sentence. May wait.
 */
int s3c_volume_kms_open(const json_t *slots, size_t *at, struct s3c_kms_keys *kms,
			const uint8_t id[static S3C_VOLUME_ID_LEN], const char *alg,
			struct s3c_err *err, uint8_t ret_volume_key[static S3C_KEY_LEN]);
/* Is there a slot for the active KMS key? */
bool s3c_volume_kms_has(const json_t *slots, struct s3c_kms_keys *kms);
