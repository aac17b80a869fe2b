/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the tests of keys and objects share: a keyring, a volume made by hand,
 * and the example blocks of doc/format.md.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/encode.h"
#include "base/secret.h"
#include "object/header.h"

#define KEY_A "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" /* 00 01 02 ... */
#define KEY_B "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=" /* 20 21 22 ... */
#define KEY_C "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=" /* 40 41 42 ... */

static inline int fixture_setup(void **state)
{
	(void)state;
	if (s3c_secret_init() < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 1); /* the leak checker attaches to the process */
}

static inline struct s3c_keyring *keyring_of(const char *text)
{
	struct s3c_keyring *keyring = NULL;
	struct s3c_err err = { 0 };

	if (s3c_keyring_parse(text, strlen(text), "test", NULL, &err, &keyring) < 0)
		fail_msg("%s", err.text);
	return keyring;
}

static inline struct s3c_keyring *keyring_a(void)
{
	return keyring_of("[a]\nsecret = " KEY_A "\nstate = active\ndesc.team = storage\n");
}

/* Borrowed key; nothing to free. The last 32 of them work. */
static inline struct s3c_volume volume_by_hand(const uint8_t seal_key[static S3C_KEY_LEN])
{
	static struct s3c_epoch epochs[32];
	static unsigned next;
	struct s3c_epoch *epoch = &epochs[next++ % ARRAY_LEN(epochs)];
	struct s3c_volume volume = { .family = S3C_FAMILY_CSE, .serial = 1, .epoch = 1 };

	*epoch = (struct s3c_epoch){ .number = 1, .seal_key = seal_key };
	volume.newest = epoch;
	return volume;
}

/* start, start + 1, ... */
static inline void count_up(uint8_t *bytes, size_t len, unsigned start)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(start + i);
}

static inline void flip_bit(void *bytes, size_t bit)
{
	((uint8_t *)bytes)[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* The text of doc/format.md; the caller frees. */
static inline char *format_doc(void)
{
	const char *srcdir = getenv("srcdir");
	cleanup_free char *path = s3c_asprintf("%s/doc/format.md", srcdir ? srcdir : ".");
	struct s3c_buf text = { 0 };
	FILE *file = fopen(path, "re");
	char piece[4096];
	size_t n;

	if (!file)
		fail_msg("cannot open %s: %s", path, strerror(errno));
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0)
		assert_int_equal(s3c_buf_append(&text, piece, n), 0);
	fclose(file);
	return s3c_buf_steal(&text);
}

/* The lines of the block ```example-NAME; the caller frees. */
static inline char *example_block(const char *doc, const char *name)
{
	cleanup_free char *fence = s3c_asprintf("\n```example-%s\n", name);
	const char *start = strstr(doc, fence), *end;

	if (!start)
		fail_msg("doc/format.md has no block example-%s", name);
	start += strlen(fence);
	end = strstr(start, "\n```");
	assert_non_null(end);
	return strndup(start, (size_t)(end + 1 - start));
}

/* The value of "NAME = VALUE" in a block; NULL: there is none. The caller frees. */
static inline char *example_value(const char *block, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = block; line && *line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, name, len) != 0 || strncmp(line + len, " =", 2) != 0)
			continue;
		line += len + 2;
		line += *line == ' ';
		return strndup(line, strcspn(line, "\n"));
	}
	return NULL;
}

/* A hex value of the block as bytes, allocated. */
static inline uint8_t *example_bytes(const char *block, const char *name, size_t *ret_len)
{
	cleanup_free char *text = example_value(block, name);
	uint8_t *bytes;

	if (!text)
		fail_msg("the block has no %s", name);
	*ret_len = strlen(text) / 2;
	bytes = malloc(*ret_len + 1);
	if (!bytes || s3c_hex_decode(text, bytes, *ret_len) < 0)
		fail_msg("%s is no hex", name);
	return bytes;
}

static inline void example_fixed(const char *block, const char *name, void *ret_bytes, size_t len)
{
	size_t got;
	cleanup_free uint8_t *bytes = example_bytes(block, name, &got);

	assert_int_equal(got, len);
	memcpy(ret_bytes, bytes, len);
}

static inline uint64_t example_number(const char *block, const char *name)
{
	cleanup_free char *text = example_value(block, name);
	uint64_t number;

	assert_non_null(text);
	assert_int_equal(s3c_parse_u64(text, UINT64_MAX, &number), 0);
	return number;
}
