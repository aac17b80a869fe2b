/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The log: one line an event, to stderr, a file or syslog.
 *
 * Log once, at the boundary that decides what an error means; below that only
 * at debug level. Never log a secret, a key, file content or an Authorization
 * header. Control characters in a message are escaped, so that an object's
 * name cannot forge a line. All functions may be called from any thread.
 */
#pragma once

#include <stdbool.h>

enum s3c_log_level { S3C_LOG_ERROR, S3C_LOG_WARN, S3C_LOG_INFO, S3C_LOG_DEBUG };

/* Where lines go. target: "stderr", "syslog" or a file's path (opened for append, 0600). */
int s3c_log_open(const char *target);
void s3c_log_close(void);
/* Opens the file again, for rotation (SIGHUP). */
void s3c_log_reopen(void);

void s3c_log_set_level(enum s3c_log_level level);
/* -EINVAL when the name is none of error, warn, info, debug. */
int s3c_log_level_parse(const char *name, enum s3c_log_level *ret_level);
enum s3c_log_level s3c_log_get_level(void);
const char *s3c_log_level_name(enum s3c_log_level level);
bool s3c_log_enabled(enum s3c_log_level level);

void s3c_log(enum s3c_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define s3c_error(...) s3c_log(S3C_LOG_ERROR, __VA_ARGS__)
#define s3c_warn(...) s3c_log(S3C_LOG_WARN, __VA_ARGS__)
#define s3c_info(...) s3c_log(S3C_LOG_INFO, __VA_ARGS__)
#define s3c_debug(...)                                                                             \
	do {                                                                                       \
		if (s3c_log_enabled(S3C_LOG_DEBUG))                                                \
			s3c_log(S3C_LOG_DEBUG, __VA_ARGS__);                                       \
	} while (0)
