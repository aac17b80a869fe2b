/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/util.h"
#include "http/retry.h"

#define MS 1000000LL

static const struct {
	struct s3c_retry_outcome outcome;
	enum s3c_retry_verdict verdict;
} cases[] = {
	/* transport */
	{ { .result = -ECONNRESET, .code = "" }, S3C_RETRY_FAULT },
	{ { .result = -ECONNREFUSED, .code = "" }, S3C_RETRY_FAULT },
	{ { .result = -EHOSTUNREACH, .code = "" }, S3C_RETRY_FAULT },
	{ { .result = -ETIMEDOUT, .code = "" }, S3C_RETRY_FAULT },
	{ { .result = -EPROTO, .code = "" }, S3C_RETRY_FAULT },
	{ { .result = -EKEYREJECTED, .code = "" }, S3C_RETRY_FINAL },
	{ { .result = -ENOMEM, .code = "" }, S3C_RETRY_FINAL },
	{ { .result = -EMSGSIZE, .code = "" }, S3C_RETRY_FINAL },
	{ { .result = -EACCES, .code = "" }, S3C_RETRY_FINAL },
	/* answers */
	{ { .status = 200, .code = "" }, S3C_RETRY_FINAL },
	{ { .status = 206, .code = "" }, S3C_RETRY_FINAL },
	{ { .status = 304, .code = "" }, S3C_RETRY_FINAL },
	{ { .status = 400, .code = "InvalidRequest" }, S3C_RETRY_FINAL },
	{ { .status = 401, .code = "" }, S3C_RETRY_FINAL },
	{ { .status = 403, .code = "AccessDenied" }, S3C_RETRY_FINAL },
	{ { .status = 403, .code = "SignatureDoesNotMatch" }, S3C_RETRY_FINAL },
	{ { .status = 403, .code = "InvalidAccessKeyId" }, S3C_RETRY_FINAL },
	{ { .status = 404, .code = "NoSuchKey" }, S3C_RETRY_FINAL },
	{ { .status = 409, .code = "ConditionalRequestConflict" }, S3C_RETRY_FINAL },
	{ { .status = 412, .code = "PreconditionFailed" }, S3C_RETRY_FINAL },
	{ { .status = 416, .code = "InvalidRange" }, S3C_RETRY_FINAL },
	{ { .status = 501, .code = "NotImplemented" }, S3C_RETRY_FINAL },
	/* faults and throttling */
	{ { .status = 500, .code = "InternalError" }, S3C_RETRY_FAULT },
	{ { .status = 500, .code = "" }, S3C_RETRY_FAULT },
	{ { .status = 502, .code = "" }, S3C_RETRY_FAULT },
	{ { .status = 504, .code = "" }, S3C_RETRY_FAULT },
	{ { .status = 503, .code = "" }, S3C_RETRY_THROTTLED },
	{ { .status = 503, .code = "SlowDown" }, S3C_RETRY_THROTTLED },
	{ { .status = 429, .code = "" }, S3C_RETRY_THROTTLED },
	{ { .status = 400, .code = "RequestTimeout" }, S3C_RETRY_FAULT },
	{ { .status = 408, .code = "" }, S3C_RETRY_FAULT },
	{ { .status = 400, .code = "ThrottlingException" }, S3C_RETRY_THROTTLED },
	{ { .status = 400, .code = "KMS.ThrottlingException" }, S3C_RETRY_THROTTLED },
	{ { .status = 400, .code = "LimitExceededException" }, S3C_RETRY_THROTTLED },
	{ { .status = 400, .code = "KMS.DisabledException" }, S3C_RETRY_FINAL },
	{ { .status = 400, .code = "BadDigest" }, S3C_RETRY_FAULT },
	{ { .status = 400, .code = "KeyUnavailableException" }, S3C_RETRY_FAULT },
	/* the clock */
	{ { .status = 403, .code = "RequestTimeTooSkewed" }, S3C_RETRY_CLOCK },
	{ { .status = 403, .code = "", .skewed = true }, S3C_RETRY_CLOCK },
	{ { .status = 403, .code = "" }, S3C_RETRY_FINAL },
	{ { .status = 403, .code = "AccessDenied", .skewed = true }, S3C_RETRY_FINAL },
	{ { .status = 404, .code = "", .skewed = true }, S3C_RETRY_FINAL },
	/* credentials */
	{ { .status = 400, .code = "ExpiredToken" }, S3C_RETRY_CREDENTIALS },
	{ { .status = 400, .code = "InvalidToken" }, S3C_RETRY_CREDENTIALS },
	{ { .status = 400, .code = "TokenRefreshRequired" }, S3C_RETRY_CREDENTIALS },
	{ { .status = 400, .code = "ExpiredTokenException" }, S3C_RETRY_CREDENTIALS },
	/* the region */
	{ { .status = 301, .code = "PermanentRedirect", .other_region = true }, S3C_RETRY_REGION },
	{ { .status = 301, .code = "", .other_region = true }, S3C_RETRY_REGION },
	{ { .status = 301, .code = "PermanentRedirect" }, S3C_RETRY_FINAL },
	{ { .status = 400, .code = "AuthorizationHeaderMalformed", .other_region = true },
	  S3C_RETRY_REGION },
	{ { .status = 400, .code = "AuthorizationHeaderMalformed" }, S3C_RETRY_FINAL },
	{ { .status = 400, .code = "", .other_region = true }, S3C_RETRY_REGION },
	{ { .status = 400, .code = "IllegalLocationConstraintException", .other_region = true },
	  S3C_RETRY_REGION },
	{ { .status = 404, .code = "", .other_region = true }, S3C_RETRY_FINAL },
	{ { .status = 403, .code = "AccessDenied", .other_region = true }, S3C_RETRY_FINAL },
	/* another host */
	{ { .status = 307, .code = "TemporaryRedirect", .location = true }, S3C_RETRY_REDIRECT },
	{ { .status = 307, .code = "" }, S3C_RETRY_FINAL },
	{ { .status = 302, .code = "", .location = true }, S3C_RETRY_FINAL },
};

static void test_classify(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum s3c_retry_verdict verdict = s3c_retry_classify(&cases[i].outcome);

		if (verdict != cases[i].verdict)
			fail_msg("case %zu (%d %d %s): %d, wanted %d", i, cases[i].outcome.result,
				 cases[i].outcome.status, cases[i].outcome.code, (int)verdict,
				 (int)cases[i].verdict);
	}
}

static void test_implied_status(void **state)
{
	(void)state;
	assert_int_equal(s3c_retry_implied_status("InternalError"), 500);
	assert_int_equal(s3c_retry_implied_status("SlowDown"), 503);
	assert_int_equal(s3c_retry_implied_status("PreconditionFailed"), 412);
	assert_int_equal(s3c_retry_implied_status("NoSuchUpload"), 404);
	assert_int_equal(s3c_retry_implied_status("Unheard"), 500);
	assert_int_equal(s3c_retry_implied_status(""), 500);
}

static void test_delay(void **state)
{
	static const struct {
		unsigned repeat;
		bool throttled;
		int64_t bound;
	} bounds[] = {
		{ 1, false, 100 * MS },   { 2, false, 200 * MS },   { 5, false, 1600 * MS },
		{ 8, false, 12800 * MS }, { 9, false, 20000 * MS }, { 1, true, 500 * MS },
		{ 3, true, 2000 * MS },   { 8, true, 20000 * MS },  { 1000000, true, 20000 * MS },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
		uint64_t bound = (uint64_t)bounds[i].bound;

		assert_int_equal(s3c_retry_delay_ns(bounds[i].repeat, bounds[i].throttled, 0), 0);
		/* Full jitter: every value up to the bound, none past it. */
		assert_int_equal(s3c_retry_delay_ns(bounds[i].repeat, bounds[i].throttled, bound),
				 bound);
		assert_int_equal(
			s3c_retry_delay_ns(bounds[i].repeat, bounds[i].throttled, bound + 1), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_implied_status),
		cmocka_unit_test(test_delay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
