/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/metrics.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"

#define PREFIX "s3cryptfs_"
#define LABEL1_MAX 32
#define LABEL2_MAX 12

/* Of requests of the kernel, as fuse/ calls them. */
static const char *const operations[] = {
	"lookup",   "getattr",  "setattr",   "truncate",    "readlink",        "mknod",
	"mkdir",    "unlink",   "rmdir",     "symlink",     "rename",          "link",
	"open",     "create",   "read",      "write",       "flush",           "fsync",
	"release",  "opendir",  "readdir",   "fsyncdir",    "fallocate",       "lseek",
	"getxattr", "setxattr", "listxattr", "removexattr", "copy_file_range", "exchange",
	"other",    NULL
};
/* In the order of enum s3c_store_opcode; a test compares. */
static const char *const store_operations[] = { "get",
						"head",
						"put",
						"list",
						"copy",
						"delete",
						"delete_many",
						"list_uploads",
						"upload_create",
						"upload_part",
						"upload_part_copy",
						"upload_complete",
						"upload_parts",
						"upload_abort",
						NULL };
static const char *const results[] = { "ok",        "not_found", "exists",  "changed",
				       "denied",    "throttled", "timeout", "connection",
				       "integrity", "no_space",  "other",   NULL };
static const char *const services[] = { "s3", "kms", "sts", "other", NULL };
static const char *const statuses[] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx", NULL };
static const char *const kms_operations[] = { "GenerateDataKey", "Decrypt", "ReEncrypt", "Encrypt",
					      "DescribeKey",     "other",   NULL };
static const char *const levels[] = { "error", "warn", "info", "debug", NULL };

struct label {
	const char *name;
	const char *const *words;
};
static const struct {
	const char *name, *help, *unit;
	struct label labels[2];
} counters[] = {
	[S3C_COUNT_OPERATIONS] = { "operations",
				   "Requests of the kernel that were answered",
				   "",
				   { { "operation", operations }, { "result", results } } },
	[S3C_COUNT_READ_BYTES] = { "read_bytes", "Bytes that programs read", "bytes", { { 0 } } },
	[S3C_COUNT_WRITTEN_BYTES] = { "written_bytes",
				      "Bytes that programs wrote",
				      "bytes",
				      { { 0 } } },
	[S3C_COUNT_STORE_REQUESTS] = { "store_requests",
				       "Requests to the store that ended, repeats not counted",
				       "",
				       { { "operation", store_operations },
					 { "result", results } } },
	[S3C_COUNT_STORE_SENT] = { "store_sent_bytes",
				   "Bytes of bodies sent to the store",
				   "bytes",
				   { { 0 } } },
	[S3C_COUNT_STORE_RECEIVED] = { "store_received_bytes",
				       "Bytes of bodies received from the store",
				       "bytes",
				       { { 0 } } },
	[S3C_COUNT_HTTP_ATTEMPTS] = { "http_attempts",
				      "HTTP requests sent, repeats included",
				      "",
				      { { "service", services }, { "status", statuses } } },
	[S3C_COUNT_KMS_REQUESTS] = { "kms_requests",
				     "Calls of the KMS",
				     "",
				     { { "operation", kms_operations }, { "result", results } } },
	[S3C_COUNT_INTEGRITY] = { "integrity_failures",
				  "Objects or parts of them that were not authentic",
				  "",
				  { { 0 } } },
	[S3C_COUNT_REFUSED] = { "refused_objects",
				"Objects not shown: altered, not accepted, or without their key",
				"",
				{ { 0 } } },
	[S3C_COUNT_LOG_MESSAGES] = { "log_messages",
				     "Lines that were logged",
				     "",
				     { { "level", levels } } },
};
static const struct {
	const char *name, *help;
	struct label label;
} timings[] = {
	[S3C_TIME_OPERATIONS] = { "operation_duration_seconds",
				  "Time from a request of the kernel to its answer",
				  { "operation", operations } },
	[S3C_TIME_STORE_REQUESTS] = { "store_request_duration_seconds",
				      "Time of a request to the store, with its repeats",
				      { "operation", store_operations } },
	[S3C_TIME_KMS_REQUESTS] = { "kms_request_duration_seconds",
				    "Time of a call of the KMS",
				    { "operation", kms_operations } },
};

/* Upper bounds in microseconds, as they are written and as numbers. */
static const struct {
	uint64_t us;
	const char *text;
} bounds[] = {
	{ 50, "5e-05" },      { 100, "0.0001" },      { 500, "0.0005" },  { 1000, "0.001" },
	{ 2500, "0.0025" },   { 5000, "0.005" },      { 10000, "0.01" },  { 25000, "0.025" },
	{ 50000, "0.05" },    { 100000, "0.1" },      { 250000, "0.25" }, { 500000, "0.5" },
	{ 1000000, "1.0" },   { 2500000, "2.5" },     { 5000000, "5.0" }, { 10000000, "10.0" },
	{ 30000000, "30.0" }, { 120000000, "120.0" },
};

static atomic_uint_fast64_t counts[S3C_COUNTERS][LABEL1_MAX][LABEL2_MAX];
static struct {
	atomic_uint_fast64_t buckets[ARRAY_LEN(bounds) + 1]; /* not cumulative */
	atomic_uint_fast64_t sum_ns;
} times[S3C_TIMINGS][LABEL1_MAX];

void s3c_count(enum s3c_counter counter, unsigned label1, unsigned label2, uint64_t n)
{
	if (label1 < LABEL1_MAX && label2 < LABEL2_MAX)
		atomic_fetch_add_explicit(&counts[counter][label1][label2], n,
					  memory_order_relaxed);
}

uint64_t s3c_count_sum(enum s3c_counter counter)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < LABEL1_MAX; i++)
		for (unsigned j = 0; j < LABEL2_MAX; j++)
			sum += atomic_load_explicit(&counts[counter][i][j], memory_order_relaxed);
	return sum;
}

void s3c_time(enum s3c_timing timing, unsigned label1, int64_t ns)
{
	uint64_t us = ns > 0 ? (uint64_t)ns / 1000 : 0;
	size_t i = 0;

	if (label1 >= LABEL1_MAX)
		return;
	while (i < ARRAY_LEN(bounds) && us > bounds[i].us)
		i++;
	atomic_fetch_add_explicit(&times[timing][label1].buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&times[timing][label1].sum_ns, ns > 0 ? (uint64_t)ns : 0,
				  memory_order_relaxed);
}

static unsigned find(const char *const *words, const char *name)
{
	unsigned i = 0;

	while (words[i + 1] && strcmp(words[i], name) != 0)
		i++;
	return i;
}

unsigned s3c_label_operation(const char *name)
{
	return find(operations, name);
}

unsigned s3c_label_service(const char *name)
{
	return find(services, name);
}

unsigned s3c_label_kms(const char *name)
{
	return find(kms_operations, name);
}

unsigned s3c_label_status(int status)
{
	return status >= 100 && status < 600 ? (unsigned)status / 100 : 0;
}

unsigned s3c_label_result(int result)
{
	switch (result < 0 ? -result : 0) {
	case 0:
		return find(results, "ok");
	case ENOENT:
	case ENXIO:
	case ENODATA:
		return find(results, "not_found");
	case EEXIST:
	case ENOTEMPTY:
		return find(results, "exists");
	case ESTALE:
	case EBUSY:
		return find(results, "changed");
	case EACCES:
	case EPERM:
	case EROFS:
	case EKEYREJECTED:
	case ENOKEY:
		return find(results, "denied");
	case EAGAIN:
		return find(results, "throttled");
	case ETIMEDOUT:
	case EINTR:
	case ECANCELED:
		return find(results, "timeout");
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
		return find(results, "connection");
	case EBADMSG:
		return find(results, "integrity");
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return find(results, "no_space");
	default:
		return find(results, "other");
	}
}

static int put_head(struct s3c_buf *out, const char *name, const char *type, const char *unit,
		    const char *help)
{
	int r = s3c_buf_printf(out, "# TYPE " PREFIX "%s %s\n", name, type);

	if (r == 0 && unit[0])
		r = s3c_buf_printf(out, "# UNIT " PREFIX "%s %s\n", name, unit);
	return r == 0 ? s3c_buf_printf(out, "# HELP " PREFIX "%s %s.\n", name, help) : r;
}

/* Series that were never counted are left out where there are labels. */
static int put_counter(struct s3c_buf *out, enum s3c_counter c)
{
	const struct label *one = &counters[c].labels[0], *two = &counters[c].labels[1];
	int r = put_head(out, counters[c].name, "counter", counters[c].unit, counters[c].help);

	for (unsigned i = 0; r == 0 && (one->words ? one->words[i] != NULL : i < 1); i++) {
		for (unsigned j = 0; r == 0 && (two->words ? two->words[j] != NULL : j < 1); j++) {
			uint64_t n = atomic_load_explicit(&counts[c][i][j], memory_order_relaxed);

			if (!one->words)
				r = s3c_buf_printf(out, PREFIX "%s_total %llu\n", counters[c].name,
						   (unsigned long long)n);
			else if (!two->words)
				r = s3c_buf_printf(out, PREFIX "%s_total{%s=\"%s\"} %llu\n",
						   counters[c].name, one->name, one->words[i],
						   (unsigned long long)n);
			else if (n)
				r = s3c_buf_printf(out,
						   PREFIX "%s_total{%s=\"%s\",%s=\"%s\"} %llu\n",
						   counters[c].name, one->name, one->words[i],
						   two->name, two->words[j], (unsigned long long)n);
		}
	}
	return r;
}

static int put_timing(struct s3c_buf *out, enum s3c_timing t, unsigned i)
{
	const struct label *label = &timings[t].label;
	uint64_t seen[ARRAY_LEN(bounds) + 1], sum = 0;
	uint64_t ns = atomic_load_explicit(&times[t][i].sum_ns, memory_order_relaxed);
	int r = 0;

	/* The count is that of the buckets that were read: they agree whatever comes meanwhile. */
	for (size_t b = 0; b <= ARRAY_LEN(bounds); b++) {
		sum += atomic_load_explicit(&times[t][i].buckets[b], memory_order_relaxed);
		seen[b] = sum;
	}
	if (!sum)
		return 0;
	for (size_t b = 0; r == 0 && b <= ARRAY_LEN(bounds); b++)
		r = s3c_buf_printf(out, PREFIX "%s_bucket{%s=\"%s\",le=\"%s\"} %llu\n",
				   timings[t].name, label->name, label->words[i],
				   b < ARRAY_LEN(bounds) ? bounds[b].text : "+Inf",
				   (unsigned long long)seen[b]);
	if (r == 0)
		r = s3c_buf_printf(out, PREFIX "%s_count{%s=\"%s\"} %llu\n", timings[t].name,
				   label->name, label->words[i], (unsigned long long)sum);
	if (r == 0)
		r = s3c_buf_printf(out, PREFIX "%s_sum{%s=\"%s\"} %.9f\n", timings[t].name,
				   label->name, label->words[i],
				   (double)ns / (double)S3C_NSEC_PER_SEC);
	return r;
}

int s3c_metrics_write(struct s3c_buf *out)
{
	int r = 0;

	for (unsigned c = 0; r == 0 && c < S3C_COUNTERS; c++)
		r = put_counter(out, (enum s3c_counter)c);
	for (unsigned t = 0; r == 0 && t < S3C_TIMINGS; t++) {
		r = put_head(out, timings[t].name, "histogram", "seconds", timings[t].help);
		for (unsigned i = 0; r == 0 && timings[t].label.words[i]; i++)
			r = put_timing(out, (enum s3c_timing)t, i);
	}
	return r;
}

int s3c_metrics_put(struct s3c_buf *out, const struct s3c_metric_value *value)
{
	bool counter = value->kind == S3C_METRIC_COUNTER;
	int r = put_head(out, value->name, counter ? "counter" : "gauge", value->unit, value->help);

	return r == 0 ? s3c_buf_printf(out, PREFIX "%s%s %.17g\n", value->name,
				       counter ? "_total" : "", value->value)
		      : r;
}

/* Label values: backslash, quote and line break are escaped; what is no text is a '?'. */
static int put_escaped(struct s3c_buf *out, const char *text)
{
	int r = 0;

	for (; r == 0 && *text; text++) {
		if (*text == '\\' || *text == '"')
			r = s3c_buf_printf(out, "\\%c", *text);
		else if (*text == '\n')
			r = s3c_buf_append_str(out, "\\n");
		else
			r = s3c_buf_append_char(out, *text >= ' ' && *text <= '~' ? *text : '?');
	}
	return r;
}

int s3c_metrics_put_info(struct s3c_buf *out, const char *name, const char *help,
			 const char *const *pairs)
{
	int r = put_head(out, name, "info", "", help);

	if (r == 0)
		r = s3c_buf_printf(out, PREFIX "%s_info{", name);
	for (size_t i = 0; r == 0 && pairs[i]; i += 2) {
		r = s3c_buf_printf(out, "%s%s=\"", i ? "," : "", pairs[i]);
		if (r == 0)
			r = put_escaped(out, pairs[i + 1]);
		if (r == 0)
			r = s3c_buf_append_char(out, '"');
	}
	return r == 0 ? s3c_buf_append_str(out, "} 1\n") : r;
}
