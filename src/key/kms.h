/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A client of AWS KMS, and of services that speak its JSON: keys of 32 bytes are
 * made, wrapped, unwrapped and wrapped anew under keys that never leave it.
 *
 * It has an HTTP engine and credentials of its own (the chain of
 * http/credentials.h), so that a key never waits behind contents of files. Calls
 * may be made from any thread and wait; faults and throttling are repeated by the
 * HTTP engine until the time of a call is over.
 *
 * Errors have words in why, and a number each:
 *	-EAGAIN		throttled, or a fault of the service, for as long as was tried
 *	-EKEYREVOKED	the key is disabled
 *	-EKEYEXPIRED	the key waits for its deletion, or is in another state without use
 *	-EACCES		no permission
 *	-ENOKEY		there is no such key
 *	-EBADMSG	the wrapped key was altered, or its encryption context is another
 *	-EKEYREJECTED	wrapped under another key than the one that was named
 *	-EPROTO		a reply that makes no sense
 *	-EINVAL		the service does not take the request
 * and those of struct s3c_http_reply where no answer came. Operations and errors:
 * AWS KMS API Reference.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/crypto.h"
#include "base/err.h"
#include "base/thread.h"

#define S3C_KMS_BLOB_MAX 6144u /* bytes of a CiphertextBlob */
#define S3C_KMS_ID_MAX 2048u   /* bytes of a key id, ARN or alias */

struct s3c_kms;
struct s3c_kms_config {
	const char *endpoint; /* URL; NULL: AWS_ENDPOINT_URL_KMS, the profile, or AWS's own */
	const char *region;   /* NULL: of the environment or the profile */
	const char *profile, *ca_file; /* may be NULL */
	bool allow_http;               /* plain HTTP to a loopback address; to others never */
	unsigned retries;
	double timeout_s; /* bounds a call, with its repeats */
};
/* Loads credentials; sends nothing to the KMS. A sentence. */
int s3c_kms_new(const struct s3c_kms_config *config, struct s3c_err *err, struct s3c_kms **ret_kms);
/* Loads the credentials again and logs what came of it. Any thread. */
void s3c_kms_refresh(struct s3c_kms *kms);
/* Ends calls that are under way (-ECANCELED); whoever made them has returned before. */
void s3c_kms_free(struct s3c_kms *kms);

/* A wrapped key; its key as the service names it, an ARN. */
struct s3c_kms_blob {
	char *arn;
	uint8_t *data;
	size_t len;
};
void s3c_kms_blob_free(struct s3c_kms_blob *blob);
#define cleanup_kms_blob __attribute__((cleanup(s3c_kms_blob_free)))

/*
 * context: a JSON object of strings, or NULL; the same map has to be given again to unwrap. op
 * bounds and interrupts the wait; NULL: the time of the configuration alone. ret_key: secret
 * memory of the caller. *ret_blob is overwritten; why may be NULL.
 */
int s3c_kms_generate(struct s3c_kms *kms, struct s3c_op *op, const char *key_id,
		     const char *context, uint8_t ret_key[static S3C_KEY_LEN],
		     struct s3c_kms_blob *ret_blob, char *why, size_t why_size);
int s3c_kms_encrypt(struct s3c_kms *kms, struct s3c_op *op, const char *key_id, const char *context,
		    const uint8_t key[static S3C_KEY_LEN], struct s3c_kms_blob *ret_blob, char *why,
		    size_t why_size);
/* Under key_id and no other key, whichever the blob names. want_arn (may be NULL): what the reply
 * has to name, else -EKEYREJECTED. */
int s3c_kms_decrypt(struct s3c_kms *kms, struct s3c_op *op, const char *key_id,
		    const char *want_arn, const char *context, const uint8_t *data, size_t len,
		    uint8_t ret_key[static S3C_KEY_LEN], char *why, size_t why_size);
/* From one key and context to another, inside the service. */
int s3c_kms_reencrypt(struct s3c_kms *kms, struct s3c_op *op, const char *from_key_id,
		      const char *from_context, const uint8_t *data, size_t len,
		      const char *to_key_id, const char *to_context, struct s3c_kms_blob *ret_blob,
		      char *why, size_t why_size);
/*
 * The ARN of a key (the caller frees), when the service says that it can encrypt and decrypt; the
 * errors above else. -EACCES: one may use keys without being allowed to look at them.
 */
int s3c_kms_describe(struct s3c_kms *kms, struct s3c_op *op, const char *key_id, char **ret_arn,
		     char *why, size_t why_size);
