/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/s3_private.h"

/* What S3 calls errors, where the call does not matter. */
static const struct {
	const char *code;
	int error;
} codes[] = {
	{ "NoSuchBucket", -ENODEV },
	{ "NoSuchUpload", -ENXIO },
	{ "AccessDenied", -EACCES },
	{ "AllAccessDisabled", -EACCES },
	{ "AccountProblem", -EACCES },
	{ "InvalidAccessKeyId", -EACCES },
	{ "SignatureDoesNotMatch", -EACCES },
	{ "RequestTimeTooSkewed", -EACCES },
	{ "ExpiredToken", -EACCES },
	{ "InvalidToken", -EACCES },
	{ "SlowDown", -EAGAIN },
	{ "ServiceUnavailable", -EAGAIN },
	{ "InternalError", -EAGAIN },
	{ "RequestTimeout", -EAGAIN },
	{ "OperationAborted", -EAGAIN },
	{ "ConditionalRequestConflict", -EAGAIN },
	{ "NotImplemented", -EOPNOTSUPP },
	{ "MethodNotAllowed", -EOPNOTSUPP },
	{ "KeyTooLongError", -ENAMETOOLONG },
	{ "MetadataTooLarge", -E2BIG },
	{ "EntityTooLarge", -EFBIG },
	{ "InvalidRange", -ERANGE },
	{ "QuotaExceeded", -ENOSPC },
	/* What S3 passes on of its key service. */
	{ "KMS.DisabledException", -EKEYREVOKED },
	{ "KMS.KMSInvalidStateException", -EKEYEXPIRED },
	{ "KMS.NotFoundException", -ENOKEY },
	{ "KMS.ThrottlingException", -EAGAIN },
	{ "KMS.LimitExceededException", -EAGAIN },
	{ "KMS.KMSInternalException", -EAGAIN },
	{ "KMS.KeyUnavailableException", -EAGAIN },
	{ "KMS.DependencyTimeoutException", -EAGAIN },
};

static bool is_of_kms(const char *code)
{
	return strncmp(code, "KMS.", 4) == 0;
}

int s3c_s3_code_error(const char *code)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (strcmp(code, codes[i].code) == 0)
			return codes[i].error;
	/* Whatever else it says: somebody has to change the key or its policy. */
	return is_of_kms(code) ? -EACCES : 0;
}

static bool reads_object(enum s3c_store_opcode op)
{
	return op == S3C_STORE_GET || op == S3C_STORE_HEAD || op == S3C_STORE_COPY ||
	       op == S3C_STORE_UPLOAD_PART_COPY;
}

/* The words of S3, MinIO and Ceph for a customer key that is missing, wrong or too much. */
static bool is_about_customer_key(const struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	static const char *const words[] = {
		"Server Side Encryption", "encryption parameters",
		"correct secret key",     "Customer provided key",
		"customer provided key",  "MD5 hash of the key",
		"encryption key",         "SSE-C",
	};
	bool keyed = call->rq.ssec || call->rq.maybe_ssec;

	/* Ceph, for an empty object: a HEAD has no range. */
	if (call->rq.op == S3C_STORE_HEAD && keyed && http->status == 416)
		return true;
	if (!reads_object(call->rq.op) || (http->status != 400 && http->status != 403) ||
	    is_of_kms(http->error_code))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strstr(http->error_message, words[i]))
			return true;
	/* The answer to a HEAD has no words at all; a right that is missing looks the same. */
	if ((call->rq.ssec || (call->rq.maybe_ssec && http->status == 400)) &&
	    !http->error_code[0] && !http->error_message[0])
		return true;
	/* Ceph leaves the words away. */
	return !http->error_message[0] &&
	       ((http->status == 400 && strcmp(http->error_code, "InvalidRequest") == 0) ||
		(http->status == 400 && strcmp(http->error_code, "InvalidArgument") == 0) ||
		(http->status == 403 && call->rq.ssec &&
		 strcmp(http->error_code, "AccessDenied") == 0));
}

static int not_found(const struct s3c_s3_call *call, const char *code)
{
	bool key = strcmp(code, "NoSuchKey") == 0 || strcmp(code, "NotFound") == 0 ||
		   strcmp(code, "NoSuchVersion") == 0;

	switch (call->rq.op) {
	case S3C_STORE_HEAD:
		/* Without a body, the status is all that there is. */
		return !code[0] || key ? -ENOENT : -EIO;
	case S3C_STORE_GET:
	case S3C_STORE_COPY:
	case S3C_STORE_UPLOAD_PART_COPY:
		return key ? -ENOENT : -EPROTO;
	case S3C_STORE_UPLOAD_COMPLETE:
		if (key && !call->rq.condition.if_match)
			return -ENXIO; /* as Ceph calls it when it was just aborted */
		return key ? -ESTALE : -EIO;
	case S3C_STORE_PUT:
		return key && call->rq.condition.if_match ? -ESTALE : -EIO;
	case S3C_STORE_DELETE:
		return key ? -ENOENT : -EIO;
	case S3C_STORE_UPLOAD_PARTS:
		/* Ceph calls the upload a key here. */
		return key ? -ENXIO : -EIO;
	default:
		return -EIO;
	}
}

static int status_error(const struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	switch (http->status) {
	case 400:
		/* Parts that are not as it says: that is so whenever it comes. */
		return call->rq.op == S3C_STORE_UPLOAD_COMPLETE ? -EINVAL : -EIO;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return not_found(call, http->error_code);
	case 405:
	case 501:
		return -EOPNOTSUPP;
	case 412:
		return call->rq.condition.if_none_match ? -EEXIST : -ESTALE;
	case 416:
		return -ERANGE;
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		return -EAGAIN;
	case 507:
		return -ENOSPC;
	default:
		return -EIO;
	}
}

int s3c_s3_error(const struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	int r = http->result;

	/* The contract has -EKEYREJECTED for customer keys. */
	if (r == -EKEYREJECTED)
		return -EPROTO;
	if (r < 0)
		return r;
	if (is_about_customer_key(call, http))
		return -EKEYREJECTED;
	if (call->rq.op == S3C_STORE_UPLOAD_COMPLETE && http->status == 409 &&
	    strcmp(http->error_code, "OperationAborted") != 0)
		return -ESTALE;
	/* Of Ceph, which has no code for it. */
	if (strstr(http->error_message, "kms-keyid"))
		return -ENOKEY;
	r = s3c_s3_code_error(http->error_code);
	return r ? r : status_error(call, http);
}

const char *s3c_s3_op_name(enum s3c_store_opcode op)
{
	static const char *const names[] = {
		[S3C_STORE_GET] = "GET",
		[S3C_STORE_HEAD] = "HEAD",
		[S3C_STORE_PUT] = "PUT",
		[S3C_STORE_LIST] = "LIST",
		[S3C_STORE_COPY] = "COPY to",
		[S3C_STORE_DELETE] = "DELETE",
		[S3C_STORE_DELETE_MANY] = "DELETE of many",
		[S3C_STORE_LIST_UPLOADS] = "list uploads of",
		[S3C_STORE_UPLOAD_CREATE] = "create upload of",
		[S3C_STORE_UPLOAD_PART] = "upload part of",
		[S3C_STORE_UPLOAD_PART_COPY] = "copy to part of",
		[S3C_STORE_UPLOAD_COMPLETE] = "complete upload of",
		[S3C_STORE_UPLOAD_PARTS] = "list parts of",
		[S3C_STORE_UPLOAD_ABORT] = "abort upload of",
	};

	return names[op];
}

static const char *subject(const struct s3c_s3_call *call)
{
	const struct s3c_store_request *rq = &call->rq;

	if (rq->op == S3C_STORE_LIST || rq->op == S3C_STORE_LIST_UPLOADS)
		return rq->prefix ? rq->prefix : "";
	if (rq->op != S3C_STORE_DELETE_MANY)
		return rq->key;
	return rq->keys[S3C_MIN(call->reply.failed_index, rq->key_count - 1)];
}

void s3c_s3_fault(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result)
{
	snprintf(call->fault, sizeof(call->fault), "%d %s%s%.200s", http->status,
		 http->error_code[0] ? http->error_code : strerror(-result),
		 http->error_message[0] ? ": " : "", http->error_message);
}

/* Amazon refuses SSE-C in new buckets, and its reply does not say that this is the reason. */
static const char *hint(const struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	bool writes = call->rq.op == S3C_STORE_PUT || call->rq.op == S3C_STORE_COPY ||
		      call->rq.op == S3C_STORE_UPLOAD_CREATE;

	return call->rq.ssec && writes && http->status == 403 &&
			       strcmp(http->error_code, "AccessDenied") == 0
		       ? " (BlockedEncryptionTypes of the bucket may block SSE-C)"
		       : "";
}

void s3c_s3_describe(const struct s3c_s3_call *call, const struct s3c_http_reply *http, int result,
		     char *ret_text, size_t size)
{
	const char *name = s3c_s3_op_name(call->rq.op);
	/* The rest has to fit, too. */
	const char *key = subject(call);
	size_t key_len = strlen(key);
	const char *dots = key_len > 200 ? "..." : "";

	if (key_len > 200)
		key += key_len - 200;
	if (call->fault[0])
		snprintf(ret_text, size, "%s %s%s: %s%s%s%s", name, dots, key, call->fault,
			 http->request_id[0] ? " (request id " : "", http->request_id,
			 http->request_id[0] ? ")" : "");
	else if (http->result == -EKEYREJECTED)
		snprintf(ret_text, size, "%s %s%s: the server's certificate is not trusted: %s",
			 name, dots, key, http->detail);
	else if (http->result < 0)
		snprintf(ret_text, size, "%s %s%s: %s%s%s", name, dots, key, strerror(-result),
			 http->detail[0] ? ": " : "", http->detail);
	else
		snprintf(ret_text, size, "%s %s%s: %d %s%s%s%s (request id %s)", name, dots, key,
			 http->status, http->error_code[0] ? http->error_code : strerror(-result),
			 http->error_message[0] ? ": " : "", http->error_message, hint(call, http),
			 http->request_id[0] ? http->request_id : "none");
}
