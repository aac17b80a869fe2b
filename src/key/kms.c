/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/kms.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/metrics.h"
#include "base/secret.h"
#include "http/credentials.h"
#include "http/http.h"
#include "key/kms_json.h"

#define SLOTS 16u
/* The largest blob as base64, an ARN, and what else there may be. With the key that is taken out of
 * it a piece of secret memory, whose sizes are powers of two, is full. */
#define REPLY_MAX (16384u - S3C_KEY_LEN)
#define REQUEST_MAX 65536u

struct s3c_kms {
	struct s3c_http_engine *engine;
	struct s3c_http_service *service;
	struct s3c_credentials *credentials;
	double timeout_s;
};

/* Plain HTTP shows data keys to the network: the option for stores that are trusted is not enough.
 */
static int check_endpoint(const struct s3c_kms_config *config, const char *endpoint,
			  struct s3c_err *err)
{
	static const char *const loopback[] = { "localhost", "127.0.0.1", "[::1]" };
	const char *host;
	size_t len;

	if (!endpoint || strncasecmp(endpoint, "http://", 7))
		return 0;
	host = endpoint + 7;
	len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
	for (size_t i = 0; config->allow_http && i < ARRAY_LEN(loopback); i++)
		if (len == strlen(loopback[i]) && !strncasecmp(host, loopback[i], len))
			return 0;
	return s3c_err_set(
		err, -EPERM,
		"kms_endpoint %s is plain HTTP, over which data keys would be sent for "
		"all to see: use https://; a loopback address is allowed with allow_http",
		endpoint);
}

int s3c_kms_new(const struct s3c_kms_config *config, struct s3c_err *err, struct s3c_kms **ret_kms)
{
	const struct s3c_credentials_config chain = {
		.profile = config->profile,
		.region = config->region,
		.ca_file = config->ca_file,
	};
	const struct s3c_http_engine_config engine = {
		.ca_file = config->ca_file,
		.content_slots = 1,
		.meta_slots = SLOTS,
		.retries = config->retries,
		.user_agent = "s3cryptfs",
	};
	struct s3c_http_service_config service = { .name = "kms", .region = config->region };
	struct s3c_kms *kms = calloc(1, sizeof(*kms));
	int r;

	if (!kms)
		return -ENOMEM;
	kms->timeout_s = config->timeout_s;
	r = s3c_credentials_open(&chain, err, &kms->credentials);
	if (r == 0) {
		service.credentials = kms->credentials;
		service.endpoint = config->endpoint
					   ? config->endpoint
					   : s3c_credentials_endpoint(kms->credentials, "kms");
		if (!service.region)
			service.region = s3c_credentials_region(kms->credentials);
		r = check_endpoint(config, service.endpoint, err);
	}
	if (r == 0)
		r = s3c_http_engine_new(&engine, err, &kms->engine);
	if (r == 0)
		r = s3c_http_service_new(kms->engine, &service, err, &kms->service);
	if (r < 0) {
		s3c_kms_free(kms);
		return r;
	}
	*ret_kms = kms;
	return 0;
}

void s3c_kms_refresh(struct s3c_kms *kms)
{
	s3c_credentials_refresh(kms->credentials, "the KMS");
}

void s3c_kms_free(struct s3c_kms *kms)
{
	if (!kms)
		return;
	s3c_credentials_stop(kms->credentials);
	s3c_http_engine_free(kms->engine);
	s3c_http_service_free(kms->service);
	s3c_credentials_free(kms->credentials);
	free(kms);
}

/*
 * The reply of a good request, in secret memory. It takes its memory when there is something to put
 * into it: of those who wait for a KMS that is slow there may be hundreds, and the 1 MiB that all
 * keys share would be theirs.
 */
struct reply_text {
	char *data; /* REPLY_MAX bytes, and a key; NULL: nothing has come yet */
	size_t len;
};

static int reply_begin(void *arg, int status, const struct s3c_http_headers *headers)
{
	struct reply_text *text = arg;

	(void)status;
	(void)headers;
	text->len = 0;
	if (!text->data)
		text->data = s3c_secret_alloc(REPLY_MAX + S3C_KEY_LEN);
	return text->data ? 0 : -ENOMEM;
}

static int reply_data(void *arg, const void *data, size_t len)
{
	struct reply_text *text = arg;

	if (len > REPLY_MAX - text->len)
		return -EPROTO;
	memcpy(text->data + text->len, data, len);
	text->len += len;
	return 0;
}

static int explain(const struct s3c_http_reply *reply, const char *key_id, char *why,
		   size_t why_size)
{
	static const struct {
		const char *code;
		int result;
		const char *words;
	} errors[] = {
		{ "DisabledException", -EKEYREVOKED,
		  "the KMS key %s is disabled: it has to be enabled again" },
		{ "KMSInvalidStateException", -EKEYEXPIRED,
		  "the KMS key %s is pending deletion (or import) and cannot be used: its deletion "
		  "has to be cancelled" },
		{ "AccessDeniedException", -EACCES,
		  "no permission to use the KMS key %s: its policy, or the user's, has to allow "
		  "this" },
		{ "NotFoundException", -ENOKEY,
		  "there is no KMS key %s in this region and account: correct kms_key_id, or give "
		  "the key's ARN, or region=" },
		{ "InvalidCiphertextException", -EBADMSG,
		  "it does not open under the KMS key %s: the wrapped key was altered, or its "
		  "encryption context is another one" },
		{ "IncorrectKeyException", -EKEYREJECTED,
		  "it is wrapped under another key than the KMS key %s" },
		{ "InvalidKeyUsageException", -EINVAL,
		  "the KMS key %s is not one for symmetric encryption" },
	};
	const char *id = reply->request_id[0] ? reply->request_id : "none";

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		char words[256];

		if (strcmp(reply->error_code, errors[i].code) != 0)
			continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(words, sizeof(words), errors[i].words, key_id);
#pragma GCC diagnostic pop
		return s3c_say(why, why_size, errors[i].result, "%s (%.80s%srequest %s)", words,
			       reply->error_message, reply->error_message[0] ? ", " : "", id);
	}
	if (strstr(reply->error_code, "Throttl") || strstr(reply->error_code, "LimitExceeded") ||
	    reply->status == 429)
		return s3c_say(
			why, why_size, -EAGAIN,
			"the KMS throttles requests (%s, request %s): they are too many for its "
			"quota; kms_reuse= needs fewer",
			reply->error_code, id);
	if (reply->status >= 500 || strcmp(reply->error_code, "KeyUnavailableException") == 0 ||
	    strcmp(reply->error_code, "DependencyTimeoutException") == 0)
		return s3c_say(why, why_size, -EAGAIN,
			       "the KMS has a fault (%d %s: %.80s, request %s)", reply->status,
			       reply->error_code, reply->error_message, id);
	return s3c_say(why, why_size, -EINVAL,
		       "the KMS refuses the request about the key %s (%d %s: %.80s, request %s)",
		       key_id, reply->status, reply->error_code, reply->error_message, id);
}

/* key (may be NULL) is where a plaintext in the reply goes; it has to be there then. */
static int ask(struct s3c_kms *kms, struct s3c_op *op, const char *operation, const char *key_id,
	       const struct s3c_buf *body, uint8_t *key, struct s3c_kms_answer *ret_answer,
	       char *why, size_t why_size)
{
	const struct iovec iov = { body->data, body->len };
	char target[64];
	struct s3c_http_header headers[] = {
		{ (char *)"Content-Type", (char *)"application/x-amz-json-1.1" },
		{ (char *)"X-Amz-Target", target },
	};
	struct reply_text taken = { 0 };
	const struct s3c_http_sink sink = { reply_begin, reply_data, &taken };
	const struct s3c_http_request request = {
		.method = "POST",
		.path = "/",
		.headers = { headers, ARRAY_LEN(headers) },
		.body = &iov,
		.body_count = 1,
		.no_redirect = true,
		.class = S3C_HTTP_META,
		.deadline_ns = s3c_deadline_after(kms->timeout_s),
		.max_reply = REPLY_MAX,
		.sink = &sink,
	};
	struct s3c_http_reply reply;
	int64_t begun_ns;
	int r;

	snprintf(target, sizeof(target), "TrentService.%s", operation);
	begun_ns = s3c_clock_monotonic_ns();
	r = s3c_http_perform(kms->service, &request, op, &reply);
	if (r == -EPROTO && reply.status / 100 == 2)
		r = s3c_say(why, why_size, -EPROTO, "the reply of the KMS makes no sense");
	else if (r == -ENOMEM)
		s3c_say(why, why_size, r, "no memory for keys is left");
	else if (r < 0)
		s3c_say(why, why_size, r, "the KMS cannot be reached: %s%s%.160s", strerror(-r),
			reply.detail[0] ? ": " : "", reply.detail);
	else if (reply.status != 200)
		r = explain(&reply, key_id, why, why_size);
	else if (!taken.data)
		r = -EPROTO;
	else
		r = s3c_kms_answer_parse(taken.data, taken.len, (uint8_t *)taken.data + REPLY_MAX,
					 ret_answer);
	s3c_count(S3C_COUNT_KMS_REQUESTS, s3c_label_kms(operation), s3c_label_result(r), 1);
	s3c_time(S3C_TIME_KMS_REQUESTS, s3c_label_kms(operation),
		 s3c_clock_monotonic_ns() - begun_ns);
	if (r == 0 && key && !ret_answer->has_key) {
		s3c_kms_answer_free(ret_answer);
		r = -EPROTO;
	}
	if (r == -EPROTO)
		s3c_say(why, why_size, r, "the reply of the KMS makes no sense");
	if (r == 0 && key)
		memcpy(key, taken.data + REPLY_MAX, S3C_KEY_LEN);
	s3c_secret_free(taken.data);
	s3c_http_reply_free(&reply);
	return r;
}

/* "NAME":"VALUE" after what is there: the first member follows an empty buffer. */
static int add_text(struct s3c_buf *body, const char *name, const char *value)
{
	int r = s3c_buf_printf(body, "%c\"%s\":", body->len ? ',' : '{', name);

	return r < 0 ? r : s3c_kms_json_string(body, value);
}

static int add_raw(struct s3c_buf *body, const char *name, const char *json)
{
	return json ? s3c_buf_printf(body, ",\"%s\":%s", name, json) : 0;
}

static int add_bytes(struct s3c_buf *body, const char *name, const uint8_t *data, size_t len)
{
	size_t size = S3C_BASE64_LEN(len) + 1;
	char *text = malloc(size);
	int r = text ? 0 : -ENOMEM;

	if (r == 0) {
		s3c_base64_encode(data, len, text);
		r = add_text(body, name, text);
		s3c_wipe(text, size);
	}
	free(text);
	return r;
}

/* Of an operation that wraps. */
static int take_blob(int r, struct s3c_kms_answer *answer, struct s3c_kms_blob *ret_blob, char *why,
		     size_t why_size)
{
	if (r < 0)
		return r;
	if (!answer->blob.data || !answer->blob.arn) {
		s3c_kms_answer_free(answer);
		return s3c_say(why, why_size, -EPROTO,
			       "the reply of the KMS lacks the wrapped key");
	}
	*ret_blob = answer->blob;
	return 0;
}

int s3c_kms_generate(struct s3c_kms *kms, struct s3c_op *op, const char *key_id,
		     const char *context, uint8_t ret_key[static S3C_KEY_LEN],
		     struct s3c_kms_blob *ret_blob, char *why, size_t why_size)
{
	cleanup_buf struct s3c_buf body = { .max = REQUEST_MAX };
	struct s3c_kms_answer answer = { 0 };
	int r = add_text(&body, "KeyId", key_id);

	if (r == 0)
		r = add_text(&body, "KeySpec", "AES_256");
	if (r == 0)
		r = add_raw(&body, "EncryptionContext", context);
	if (r == 0)
		r = s3c_buf_append_char(&body, '}');
	if (r == 0)
		r = ask(kms, op, "GenerateDataKey", key_id, &body, ret_key, &answer, why, why_size);
	return take_blob(r, &answer, ret_blob, why, why_size);
}

int s3c_kms_encrypt(struct s3c_kms *kms, struct s3c_op *op, const char *key_id, const char *context,
		    const uint8_t key[static S3C_KEY_LEN], struct s3c_kms_blob *ret_blob, char *why,
		    size_t why_size)
{
	char base64[S3C_BASE64_LEN(S3C_KEY_LEN) + 1];
	struct s3c_buf body = { .max = REQUEST_MAX };
	struct s3c_kms_answer answer = { 0 };
	/* Room for all of it: a buffer that grows leaves copies. */
	int r = s3c_buf_reserve(&body, 6 * strlen(key_id) + (context ? strlen(context) : 0) + 256);

	if (r == 0)
		r = add_text(&body, "KeyId", key_id);
	if (r == 0)
		r = add_raw(&body, "EncryptionContext", context);
	s3c_base64_encode(key, S3C_KEY_LEN, base64);
	if (r == 0)
		r = s3c_buf_append_str(&body, ",\"Plaintext\":\"");
	if (r == 0)
		r = s3c_buf_append_str(&body, base64);
	if (r == 0)
		r = s3c_buf_append_str(&body, "\"}");
	s3c_wipe(base64, sizeof(base64));
	if (r == 0)
		r = ask(kms, op, "Encrypt", key_id, &body, NULL, &answer, why, why_size);
	s3c_buf_free_secret(&body);
	return take_blob(r, &answer, ret_blob, why, why_size);
}

int s3c_kms_decrypt(struct s3c_kms *kms, struct s3c_op *op, const char *key_id,
		    const char *want_arn, const char *context, const uint8_t *data, size_t len,
		    uint8_t ret_key[static S3C_KEY_LEN], char *why, size_t why_size)
{
	cleanup_buf struct s3c_buf body = { .max = REQUEST_MAX };
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	struct s3c_kms_answer answer = { 0 };
	int r = key ? 0 : -ENOMEM;

	if (r == 0)
		r = add_text(&body, "KeyId", key_id);
	if (r == 0)
		r = add_bytes(&body, "CiphertextBlob", data, len);
	if (r == 0)
		r = add_raw(&body, "EncryptionContext", context);
	if (r == 0)
		r = s3c_buf_append_char(&body, '}');
	if (r == 0)
		r = ask(kms, op, "Decrypt", key_id, &body, key, &answer, why, why_size);
	if (r < 0)
		return r;
	if (want_arn && (!answer.blob.arn || strcmp(answer.blob.arn, want_arn) != 0))
		r = s3c_say(why, why_size, -EKEYREJECTED,
			    "the KMS opened it under the key %s, and it says to be under %s",
			    answer.blob.arn ? answer.blob.arn : "(none)", want_arn);
	if (r == 0)
		memcpy(ret_key, key, S3C_KEY_LEN);
	s3c_kms_answer_free(&answer);
	return r;
}

int s3c_kms_reencrypt(struct s3c_kms *kms, struct s3c_op *op, const char *from_key_id,
		      const char *from_context, const uint8_t *data, size_t len,
		      const char *to_key_id, const char *to_context, struct s3c_kms_blob *ret_blob,
		      char *why, size_t why_size)
{
	cleanup_buf struct s3c_buf body = { .max = REQUEST_MAX };
	struct s3c_kms_answer answer = { 0 };
	int r = add_text(&body, "SourceKeyId", from_key_id);

	if (r == 0)
		r = add_text(&body, "DestinationKeyId", to_key_id);
	if (r == 0)
		r = add_bytes(&body, "CiphertextBlob", data, len);
	if (r == 0)
		r = add_raw(&body, "SourceEncryptionContext", from_context);
	if (r == 0)
		r = add_raw(&body, "DestinationEncryptionContext", to_context);
	if (r == 0)
		r = s3c_buf_append_char(&body, '}');
	if (r == 0)
		r = ask(kms, op, "ReEncrypt", to_key_id, &body, NULL, &answer, why, why_size);
	return take_blob(r, &answer, ret_blob, why, why_size);
}

/* What is not told is not held against the key: using it will show. */
static int check_key(const struct s3c_kms_answer *answer, const char *key_id, char *why,
		     size_t why_size)
{
	if (strcmp(answer->state, "Disabled") == 0)
		return s3c_say(why, why_size, -EKEYREVOKED,
			       "the KMS key %s is disabled: it has to be enabled again", key_id);
	if (strcmp(answer->state, "PendingDeletion") == 0)
		return s3c_say(
			why, why_size, -EKEYEXPIRED,
			"the KMS key %s is pending deletion: its deletion has to be cancelled, "
			"and what it encrypts be moved to another key",
			key_id);
	if (answer->state[0] && strcmp(answer->state, "Enabled") != 0)
		return s3c_say(why, why_size, -EKEYEXPIRED,
			       "the KMS key %s cannot be used: its state is %s", key_id,
			       answer->state);
	if ((answer->usage[0] && strcmp(answer->usage, "ENCRYPT_DECRYPT") != 0) ||
	    (answer->spec[0] && strcmp(answer->spec, "SYMMETRIC_DEFAULT") != 0))
		return s3c_say(why, why_size, -EINVAL,
			       "the KMS key %s is not one for symmetric encryption (%s, %s)",
			       key_id, answer->usage, answer->spec);
	return 0;
}

int s3c_kms_describe(struct s3c_kms *kms, struct s3c_op *op, const char *key_id, char **ret_arn,
		     char *why, size_t why_size)
{
	cleanup_buf struct s3c_buf body = { .max = REQUEST_MAX };
	struct s3c_kms_answer answer = { 0 };
	int r = add_text(&body, "KeyId", key_id);

	if (r == 0)
		r = s3c_buf_append_char(&body, '}');
	if (r == 0)
		r = ask(kms, op, "DescribeKey", key_id, &body, NULL, &answer, why, why_size);
	if (r < 0)
		return r;
	r = check_key(&answer, key_id, why, why_size);
	if (r == 0 && !answer.blob.arn)
		r = s3c_say(why, why_size, -EPROTO, "the reply of the KMS names no key");
	if (r == 0)
		*ret_arn = steal_ptr(answer.blob.arn);
	s3c_kms_answer_free(&answer);
	return r;
}
