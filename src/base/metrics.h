/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Counters and histograms of the process, for whoever watches it from outside.
 *
 * A layer counts where something happens; what it is called outside, and in which words, stands in
 * one table in metrics.c. Counting is one atomic addition, from any thread, and cannot fail. The
 * numbers are of the process, from its start: a mount is a process.
 *
 * Names and labels are a contract: dashboards and alarms are made of them. No label ever has a path
 * or a key.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"

/* Counters; in brackets the labels, each an index into the words of the table. */
enum s3c_counter {
	S3C_COUNT_OPERATIONS,     /* [operation, result] requests of the kernel */
	S3C_COUNT_READ_BYTES,     /* given to programs */
	S3C_COUNT_WRITTEN_BYTES,  /* taken from programs */
	S3C_COUNT_STORE_REQUESTS, /* [store operation, result] */
	S3C_COUNT_STORE_SENT,     /* bytes of bodies */
	S3C_COUNT_STORE_RECEIVED,
	S3C_COUNT_HTTP_ATTEMPTS, /* [service, status] repeats included */
	S3C_COUNT_KMS_REQUESTS,  /* [KMS operation, result] */
	S3C_COUNT_INTEGRITY,     /* what the store gave was not authentic */
	S3C_COUNT_REFUSED,       /* objects that are not shown, and why was logged */
	S3C_COUNT_LOG_MESSAGES,  /* [level] written to the log */
	S3C_COUNTERS
};
enum s3c_timing {
	S3C_TIME_OPERATIONS,     /* [operation] */
	S3C_TIME_STORE_REQUESTS, /* [store operation] repeats included */
	S3C_TIME_KMS_REQUESTS,   /* [KMS operation] */
	S3C_TIMINGS
};

void s3c_count(enum s3c_counter counter, unsigned label1, unsigned label2, uint64_t n);
/* The sum over all labels. */
uint64_t s3c_count_sum(enum s3c_counter counter);
void s3c_time(enum s3c_timing timing, unsigned label1, int64_t ns);

/* What became of something, as a label: 0 or more is good, else by -errno. */
unsigned s3c_label_result(int result);
/* The index of a word among those of a label; the last one, "other", when it is none of them. */
unsigned s3c_label_operation(const char *name);
unsigned s3c_label_service(const char *name);
unsigned s3c_label_kms(const char *name);
/* HTTP status; 0: none arrived. */
unsigned s3c_label_status(int status);

/*
 * Text in the format of OpenMetrics 1.0, without the line that ends it. A gauge or a counter that
 * is only known when it is asked for is written by the second; unit may be "", label_name NULL.
 */
int s3c_metrics_write(struct s3c_buf *out);
enum s3c_metric_kind { S3C_METRIC_GAUGE, S3C_METRIC_COUNTER, S3C_METRIC_INFO };
struct s3c_metric_value {
	const char *name; /* without the prefix and without "_total" */
	const char *help;
	const char *unit;
	enum s3c_metric_kind kind;
	double value;
};
int s3c_metrics_put(struct s3c_buf *out, const struct s3c_metric_value *value);
/* INFO: pairs of names and values, ended by NULL. */
int s3c_metrics_put_info(struct s3c_buf *out, const char *name, const char *help,
			 const char *const *pairs);
