/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Time, in nanoseconds. Thread-safe. */
#pragma once

#include <stdint.h>
#include <time.h>

#define S3C_NSEC_PER_SEC 1000000000LL
#define S3C_NSEC_PER_MSEC 1000000LL

/* Never goes back; for deadlines and ages. */
int64_t s3c_clock_monotonic_ns(void);
/* Since 1970; for what is stored. */
int64_t s3c_clock_realtime_ns(void);
/* Deadline helper: now + seconds on the monotonic clock; INT64_MAX when seconds is 0 (none). */
int64_t s3c_deadline_after(double seconds);
