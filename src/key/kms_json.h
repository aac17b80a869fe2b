/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The JSON of KMS replies and requests. Pure functions.
 *
 * A plaintext key is taken out of the text before the text is parsed: the parser
 * keeps strings in memory that nobody wipes.
 */
#pragma once

#include "base/buf.h"
#include "key/kms.h"

/* What the replies of all operations hold; members that a reply lacks are NULL or 0. */
struct s3c_kms_answer {
	struct s3c_kms_blob blob; /* CiphertextBlob; KeyId, or KeyMetadata.Arn */
	bool has_key;             /* Plaintext was there, with 32 bytes */
	char state[32];           /* KeyMetadata.KeyState, KeyUsage, KeySpec; "" */
	char usage[32];
	char spec[32];
};
void s3c_kms_answer_free(struct s3c_kms_answer *answer);

/*
 * Wipes the plaintext in text. -EPROTO: no JSON, or a member that cannot be.
 * ret_key (secret memory) is written where has_key.
 */
int s3c_kms_answer_parse(char *text, size_t len, uint8_t ret_key[static S3C_KEY_LEN],
			 struct s3c_kms_answer *ret_answer);
/* A JSON string with its quotes, in ASCII. -EINVAL: not UTF-8. */
int s3c_kms_json_string(struct s3c_buf *out, const char *text);
