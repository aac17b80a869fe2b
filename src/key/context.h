/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The encryption context that a person gives for KMS keys: pairs that a key
 * service binds to what it encrypts. They are no secret.
 *
 *	context = pair *( ";" pair )
 *	pair    = name "=" value		; the first "=" ends the name
 */
#pragma once

#include "base/err.h"

/*
 * As a JSON object of strings, ASCII alone, its names in order of bytes. Refused with a sentence:
 * no "=", an empty or repeated name, one that is not UTF-8, and names that begin with
 * "s3cryptfs:", "s3cryptfs-key-id" or "aws:", which are for this program and for AWS. The caller
 * frees *ret_json.
 */
int s3c_kms_context_parse(const char *text, struct s3c_err *err, char **ret_json);
