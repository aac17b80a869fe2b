/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/clock.h"

static int64_t now_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts); /* cannot fail for the clocks below */
	return (int64_t)ts.tv_sec * S3C_NSEC_PER_SEC + ts.tv_nsec;
}

int64_t s3c_clock_monotonic_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

int64_t s3c_clock_realtime_ns(void)
{
	return now_ns(CLOCK_REALTIME);
}

int64_t s3c_deadline_after(double seconds)
{
	int64_t now, ns;

	/* Over a century is no deadline either; this keeps the conversion in range. NaN too. */
	if (seconds == 0 || !(seconds < 4e9))
		return INT64_MAX;
	now = s3c_clock_monotonic_ns();
	if (seconds < 0)
		return now;
	ns = (int64_t)(seconds * (double)S3C_NSEC_PER_SEC);
	return ns > INT64_MAX - now ? INT64_MAX : now + ns;
}
