/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/retry.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/util.h"

#define BASE_NS (100 * S3C_NSEC_PER_MSEC)
#define THROTTLED_BASE_NS (500 * S3C_NSEC_PER_MSEC)
#define CAP_NS (20 * S3C_NSEC_PER_SEC)

struct code_verdict {
	const char *code;
	enum s3c_retry_verdict verdict;
};

/* Codes whose meaning goes before the status. */
static const struct code_verdict code_verdicts[] = {
	{ "SlowDown", S3C_RETRY_THROTTLED },
	{ "Throttling", S3C_RETRY_THROTTLED },
	{ "ThrottlingException", S3C_RETRY_THROTTLED },
	{ "ThrottledException", S3C_RETRY_THROTTLED },
	{ "RequestThrottled", S3C_RETRY_THROTTLED },
	{ "RequestThrottledException", S3C_RETRY_THROTTLED },
	{ "TooManyRequestsException", S3C_RETRY_THROTTLED },
	{ "ProvisionedThroughputExceededException", S3C_RETRY_THROTTLED },
	{ "TransactionInProgressException", S3C_RETRY_THROTTLED },
	{ "RequestLimitExceeded", S3C_RETRY_THROTTLED },
	{ "BandwidthLimitExceeded", S3C_RETRY_THROTTLED },
	{ "LimitExceededException", S3C_RETRY_THROTTLED },
	{ "PriorRequestNotComplete", S3C_RETRY_THROTTLED },
	{ "EC2ThrottledException", S3C_RETRY_THROTTLED },
	{ "ServiceUnavailable", S3C_RETRY_THROTTLED },
	{ "RequestTimeout", S3C_RETRY_FAULT },
	{ "RequestTimeoutException", S3C_RETRY_FAULT },
	{ "InternalError", S3C_RETRY_FAULT },
	{ "OperationAborted", S3C_RETRY_FAULT },
	/* The body was damaged or cut on its way there. */
	{ "BadDigest", S3C_RETRY_FAULT },
	{ "IncompleteBody", S3C_RETRY_FAULT },
	{ "XAmzContentSHA256Mismatch", S3C_RETRY_FAULT },
	{ "KMSInternalException", S3C_RETRY_FAULT },
	{ "DependencyTimeoutException", S3C_RETRY_FAULT },
	{ "KeyUnavailableException", S3C_RETRY_FAULT },
	{ "IDPCommunicationError", S3C_RETRY_FAULT },
	{ "RequestTimeTooSkewed", S3C_RETRY_CLOCK },
	{ "RequestInTheFuture", S3C_RETRY_CLOCK },
	{ "RequestExpired", S3C_RETRY_CLOCK },
	{ "ExpiredToken", S3C_RETRY_CREDENTIALS },
	{ "ExpiredTokenException", S3C_RETRY_CREDENTIALS },
	{ "InvalidToken", S3C_RETRY_CREDENTIALS },
	{ "TokenRefreshRequired", S3C_RETRY_CREDENTIALS },
};

/* S3 puts "KMS." before what the key service said. */
static const char *plain_code(const char *code)
{
	return strncmp(code, "KMS.", 4) == 0 ? code + 4 : code;
}

static bool transport_may_mend(int result)
{
	switch (result) {
	case -EAGAIN:
	case -ECONNRESET:
	case -ECONNREFUSED:
	case -ECONNABORTED:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -EPIPE:
	case -EPROTO:
	case -ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

/* What a wrong region looks like (botocore's S3RegionRedirectorv2); a HEAD has no code. */
static bool is_wrong_region(const struct s3c_retry_outcome *outcome)
{
	if (!outcome->other_region)
		return false;
	if (strcmp(outcome->code, "AuthorizationHeaderMalformed") == 0 ||
	    strcmp(outcome->code, "PermanentRedirect") == 0 ||
	    strcmp(outcome->code, "IllegalLocationConstraintException") == 0)
		return true;
	if (outcome->status == 301)
		return true;
	return outcome->code[0] == '\0' && (outcome->status == 400 || outcome->status == 307);
}

enum s3c_retry_verdict s3c_retry_classify(const struct s3c_retry_outcome *outcome)
{
	const char *code = plain_code(outcome->code);

	if (outcome->result != 0)
		return transport_may_mend(outcome->result) ? S3C_RETRY_FAULT : S3C_RETRY_FINAL;
	if (outcome->status < 300)
		return S3C_RETRY_FINAL;
	if (is_wrong_region(outcome))
		return S3C_RETRY_REGION;
	for (size_t i = 0; i < ARRAY_LEN(code_verdicts); i++)
		if (strcmp(code, code_verdicts[i].code) == 0)
			return code_verdicts[i].verdict;
	switch (outcome->status) {
	case 307:
		return outcome->location ? S3C_RETRY_REDIRECT : S3C_RETRY_FINAL;
	case 403:
		/* A HEAD has no body that says RequestTimeTooSkewed. */
		return *code == '\0' && outcome->skewed ? S3C_RETRY_CLOCK : S3C_RETRY_FINAL;
	case 429:
	case 503:
		return S3C_RETRY_THROTTLED;
	case 408:
		return S3C_RETRY_FAULT;
	case 501: /* NotImplemented */
	case 505:
		return S3C_RETRY_FINAL;
	default:
		return outcome->status >= 500 ? S3C_RETRY_FAULT : S3C_RETRY_FINAL;
	}
}

int s3c_retry_implied_status(const char *code)
{
	static const struct {
		const char *code;
		int status;
	} known[] = {
		{ "AccessDenied", 403 },
		{ "AuthorizationHeaderMalformed", 400 },
		{ "BadDigest", 400 },
		{ "ConditionalRequestConflict", 409 },
		{ "EntityTooLarge", 400 },
		{ "EntityTooSmall", 400 },
		{ "ExpiredToken", 400 },
		{ "InvalidAccessKeyId", 403 },
		{ "InvalidArgument", 400 },
		{ "InvalidObjectState", 403 },
		{ "InvalidPart", 400 },
		{ "InvalidPartOrder", 400 },
		{ "InvalidRequest", 400 },
		{ "InvalidToken", 400 },
		{ "KMS.DisabledException", 400 },
		{ "KMS.KMSInvalidStateException", 400 },
		{ "KMS.NotFoundException", 400 },
		{ "MalformedXML", 400 },
		{ "MethodNotAllowed", 405 },
		{ "NoSuchBucket", 404 },
		{ "NoSuchKey", 404 },
		{ "NoSuchUpload", 404 },
		{ "NoSuchVersion", 404 },
		{ "NotImplemented", 501 },
		{ "PreconditionFailed", 412 },
		{ "QuotaExceeded", 403 },
		{ "RequestTimeTooSkewed", 403 },
		{ "SignatureDoesNotMatch", 403 },
		{ "ServiceUnavailable", 503 },
		{ "SlowDown", 503 },
		{ "TokenRefreshRequired", 400 },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(code, known[i].code) == 0)
			return known[i].status;
	return 500;
}

int64_t s3c_retry_delay_ns(unsigned repeat, bool throttled, uint64_t random)
{
	int64_t bound = throttled ? THROTTLED_BASE_NS : BASE_NS;

	for (unsigned i = 1; i < repeat && bound < CAP_NS; i++)
		bound *= 2;
	bound = S3C_MIN(bound, CAP_NS);
	return (int64_t)(random % ((uint64_t)bound + 1));
}
