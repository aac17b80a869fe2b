/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The first line that fits speaks; S3's codes come before what follows from the errno alone. */
static const struct {
	const char *word; /* in the message; NULL: any */
	int result;       /* 0: any */
	const char *text; /* %s: the place */
} causes[] = {
	{ "kms-keyid", -ENOKEY, "%s does not find the KMS key: check kms_key_id=" },
	{ "requires HTTP header x-amz-server-side-encryption-aws-kms-key-id", 0,
	  "%s has no KMS key of its own: give kms_key_id=" },
	{ "requires HTTP header x-amz-server-side-encryption", 0,
	  "%s does not know the encryption that enc= asks for: use another mode, such as "
	  "enc=cse-key" },
	{ "InvalidAccessKeyId", 0,
	  "%s does not know the access key id: check AWS_ACCESS_KEY_ID or the profile" },
	{ "provided access key ID", 0,
	  "%s does not know the access key id: check AWS_ACCESS_KEY_ID or the profile" },
	{ "SignatureDoesNotMatch", 0,
	  "%s refuses the signature: the secret access key is wrong (AWS_SECRET_ACCESS_KEY or the "
	  "profile), or a proxy changes the Host header" },
	{ "ExpiredToken", 0, "the session token for %s has expired: log in again" },
	{ "InvalidToken", 0, "%s refuses the session token: check AWS_SESSION_TOKEN" },
	{ "RequestTimeTooSkewed", 0,
	  "this machine's clock is too far from that of %s: set it, e.g. with timedatectl set-ntp "
	  "true" },
	{ "NoSuchBucket", 0, "the bucket does not exist in %s: check its name, or make it" },
	{ "AuthorizationHeaderMalformed", 0, "%s is in another region: give region=" },
	{ "PermanentRedirect", 0, "%s is in another region: give region=" },
	{ "IllegalLocationConstraint", 0, "%s is in another region: give region=" },
	{ "InvalidBucketName", 0, "%s is not a name that a bucket can have" },
	{ "InvalidRequest", -EOPNOTSUPP, "%s does not take this request" },
	{ "confirm the customer key", -EBADE,
	  "the store does not encrypt with customer keys (SSE-C): it ignores the key, at %s; use "
	  "enc=cse-key" },
	{ NULL, -EBADE,
	  "the store does not encrypt as enc= asks it to, at %s: use another mode, such as "
	  "enc=cse-key" },
	{ NULL, -EKEYREVOKED,
	  "the KMS key is disabled, says %s: enable it (aws kms enable-key), or give another with "
	  "kms_key_id=" },
	{ "KMSInvalidState", -EKEYEXPIRED,
	  "the KMS key is about to be deleted or not in use, says %s: cancel its deletion (aws kms "
	  "cancel-key-deletion, then enable-key), or give another with kms_key_id=" },
	{ NULL, -ENOKEY,
	  "the KMS key is not found, says %s: check kms_key_id=, which has to name a key of the "
	  "bucket's region (of another account: by its ARN)" },
	{ "KMS.Throttling", -EAGAIN,
	  "the key service of %s is asked too often: try again later, raise its quota, or use "
	  "bucket_key=on" },
	{ "KMS.", -EAGAIN, "the key service of %s is not available now: try again later" },
	{ "KMS.", -EACCES,
	  "the key service of %s refuses the KMS key: check that it is a symmetric key that "
	  "encrypts, and its policy" },
	{ "kms:", -EACCES,
	  "%s denies the use of the KMS key: the credentials need kms:GenerateDataKey and "
	  "kms:Decrypt on it, by their policy and by the key's" },
	{ "BlockedEncryptionTypes", -EACCES,
	  "%s denies writing with customer keys (SSE-C): buckets of AWS block them unless that is "
	  "changed (BlockedEncryptionTypes in their encryption settings, with EncryptionType NONE: "
	  "aws s3api put-bucket-encryption), or the credentials lack s3:PutObject" },
	{ "certificate is not trusted", -EPROTO,
	  "the certificate of %s is not trusted: give its authority with ca_file=" },
	{ "customer keys", -EOPNOTSUPP,
	  "the store does not encrypt with customer keys (SSE-C), %s; use enc=cse-key" },
	{ "Server Side Encryption", -EACCES, "%s refuses customer keys (SSE-C)" },
	{ NULL, -EKEYREJECTED, "%s refuses the customer key: the keyring has another one" },
	{ NULL, -ECONNREFUSED,
	  "nothing answers at %s: is the server running, is endpoint= right?" },
	{ NULL, -EHOSTUNREACH,
	  "%s cannot be reached: check endpoint=, the name's spelling and the network" },
	{ NULL, -ECONNRESET,
	  "%s ends the connection: is it https:// where it is http://, or the "
	  "reverse?" },
	{ NULL, -ETIMEDOUT, "%s did not answer in time: check the network, or raise timeout=" },
	{ "Access Denied", -EACCES,
	  "%s denies access: the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject, "
	  "s3:ListBucket and s3:AbortMultipartUpload on the bucket" },
	{ NULL, -EACCES,
	  "%s denies access: check the credentials (AWS_ACCESS_KEY_ID, profile=) and the bucket's "
	  "policy" },
	{ NULL, -ENODEV, "the bucket does not exist in %s: check its name, or make it" },
	{ NULL, -EAGAIN, "%s is not available now: try again later" },
	{ NULL, -ENOSPC, "there is no space left in %s" },
	{ NULL, -EPROTO, "%s does not answer as S3 does: is endpoint= right?" },
};

/* "https://host|bucket" as a person reads it. */
static void describe(const struct s3c_store *store, char *ret_place, size_t size)
{
	const char *identity = store->identity ? store->identity : "the store";
	const char *bar = strchr(identity, '|');
	int len = bar ? (int)(bar - identity) : (int)strlen(identity);

	if (bar && bar[1])
		snprintf(ret_place, size, "%.*s (bucket %s)", len, identity, bar + 1);
	else
		snprintf(ret_place, size, "%.*s", len, identity);
}

/* Puts place where the template has its %s; templates are ours, but no formats of printf. */
static void fill(const char *template, const char *place, char *ret_text, size_t size)
{
	const char *mark = strstr(template, "%s");

	snprintf(ret_text, size, "%.*s%s%s", (int)(mark - template), template, place, mark + 2);
}

int s3c_store_explain(struct s3c_store *store, int result, const char *message, struct s3c_err *err)
{
	char place[384];
	char text[768];

	describe(store, place, sizeof(place));
	if (!message)
		message = "";
	for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
		if (causes[i].result && causes[i].result != result)
			continue;
		if (causes[i].word && !strstr(message, causes[i].word))
			continue;
		fill(causes[i].text, place, text, sizeof(text));
		return s3c_err_set(err, result, "%s%s%s%s", text, message[0] ? " (" : "", message,
				   message[0] ? ")" : "");
	}
	return s3c_err_set(err, result, "%s: %s", place, message[0] ? message : strerror(-result));
}
