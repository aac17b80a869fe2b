/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What an attempt's outcome means for the request: pure functions over status,
 * error code and transport error. Sources: botocore's retries/standard.py and
 * retries/special.py, S3's and KMS's lists of error codes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum s3c_retry_verdict {
	S3C_RETRY_FINAL,       /* hand it out: success, or repeating cannot help */
	S3C_RETRY_FAULT,       /* wait and repeat */
	S3C_RETRY_THROTTLED,   /* the same, with longer waits */
	S3C_RETRY_CLOCK,       /* take the clock offset from the reply */
	S3C_RETRY_CREDENTIALS, /* load the credentials again */
	S3C_RETRY_REGION,      /* sign for the region that the reply names, once */
	S3C_RETRY_REDIRECT,    /* send to the host that the reply names, once */
};

struct s3c_retry_outcome {
	int result;        /* 0: a status arrived; else -errno of the transport */
	int status;        /* HTTP */
	const char *code;  /* the service's error code, "" none */
	bool other_region; /* the reply names a region that was not signed for */
	bool skewed;       /* the reply's Date is far from the time that was signed */
	bool location;     /* the reply names another address */
};

enum s3c_retry_verdict s3c_retry_classify(const struct s3c_retry_outcome *outcome);

/* The status that an error code inside a 200 reply stands for: 500 where it is not known. */
int s3c_retry_implied_status(const char *code);

/*
 * The wait before repeat number repeat (1, 2, ...): full jitter, a value between 0 and a bound that
 * doubles up to 20 s. random: 64 fresh random bits.
 */
int64_t s3c_retry_delay_ns(unsigned repeat, bool throttled, uint64_t random);
