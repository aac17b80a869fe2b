/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * struct s3c_err: a sentence for a person, beside the errno that programs read.
 *
 * Functions that act on what a person gave (command line, configuration, keys,
 * the probe of a store) take a struct s3c_err, which may be NULL. FUSE
 * operations do not: they log. The first sentence that is set stays, so that
 * the place nearest to the cause speaks; s3c_err_prefix adds what was attempted.
 * Not shared between threads.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#define S3C_ERR_MAX 1024

struct s3c_err {
	char text[S3C_ERR_MAX]; /* empty: nothing to say */
};

/* Sets the sentence (cause and remedy, no full stop, no newline) unless one is set; returns code.
 */
int s3c_err_set(struct s3c_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Words for the log, in a buffer of the caller; why may be NULL, what does not fit is cut. Returns
 * code. */
int s3c_say(char *why, size_t why_size, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts "WHAT: " before the sentence that is there; with none, WHAT and strerror(-code). Returns
 * code. */
int s3c_err_prefix(struct s3c_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The sentence, or strerror(-code) when none was set. Never NULL; may use static thread storage. */
const char *s3c_err_text(const struct s3c_err *err, int code);
