/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What a KMS answers, and material descriptions: the first byte chooses. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "key/kms_json.h"
#include "key/kms_wrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_answer(char *text, size_t size)
{
	struct s3c_kms_answer answer = { 0 };
	uint8_t key[S3C_KEY_LEN];
	int r = s3c_kms_answer_parse(text, size, key, &answer);

	assert(r == 0 || r == -EPROTO || r == -ENOMEM);
	assert(r == 0 || (!answer.blob.arn && !answer.blob.data && !answer.has_key));
	assert(answer.blob.len <= S3C_KMS_BLOB_MAX);
	s3c_kms_answer_free(&answer);
}

/* What is taken is made again as the same map. */
static void fuzz_matdesc(const char *text)
{
	static const char alg[] = "s3cryptfs/AES256-GCM-64K/v1";
	static const uint8_t volume[16] = { 0 }, file[16] = { 1 };
	cleanup_kms_wrap struct s3c_kms_wrap *wrap = NULL;
	cleanup_free char *arn = NULL;
	cleanup_free char *pairs = NULL;
	cleanup_free char *again = NULL;
	cleanup_free char *arn2 = NULL;
	cleanup_free char *pairs2 = NULL;

	if (s3c_kms_matdesc_parse(text, volume, file, alg, &arn, &pairs) < 0)
		return;
	if (s3c_kms_wrap_new(false, arn, pairs, volume, sizeof(volume), &wrap) < 0 ||
	    s3c_kms_matdesc(wrap, volume, file, alg, &again) < 0)
		return;
	assert(s3c_kms_matdesc_parse(again, volume, file, alg, &arn2, &pairs2) == 0);
	assert(strcmp(arn, arn2) == 0);
	assert(!pairs == !pairs2 && (!pairs || strcmp(pairs, pairs2) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	char *text;

	if (!ready && s3c_secret_init() < 0)
		return 0;
	ready = true;
	if (!size)
		return 0;
	text = strndup((const char *)data + 1, size - 1);
	if (!text)
		return 0;
	if (data[0] == 'm') {
		fuzz_matdesc(text);
	} else {
		char *copy = malloc(size);

		if (copy) {
			memcpy(copy, data + 1, size - 1);
			fuzz_answer(copy, size - 1);
		}
		free(copy);
	}
	free(text);
	return 0;
}
