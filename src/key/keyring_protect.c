/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/keyring_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

#define MAGIC "s3cryptfs protected keyring 1\n"
#define SALT_LEN 32u
/* About half a second and 128 MiB: RFC 7914 leaves it to the times. */
#define WRITE_N (UINT64_C(1) << 17)
#define WRITE_R 8
#define WRITE_P 1
/* What a file may make us do. */
#define N_MIN (UINT64_C(1) << 14)
#define N_MAX (UINT64_C(1) << 20)
#define R_MAX 32
#define P_MAX 16
#define MEMORY_MAX (UINT64_C(1) << 30)

struct params {
	uint64_t n, r, p;
	uint8_t salt[SALT_LEN];
};

bool s3c_keyring_is_protected(const void *data, size_t len)
{
	return len >= sizeof(MAGIC) - 1 && memcmp(data, MAGIC, sizeof(MAGIC) - 1) == 0;
}

static int derive(const struct params *params, const char *passphrase,
		  uint8_t ret_key[static S3C_KEY_LEN])
{
	return s3c_scrypt(passphrase, strlen(passphrase), params->salt, SALT_LEN, params->n,
			  (uint32_t)params->r, (uint32_t)params->p, ret_key, S3C_KEY_LEN);
}

/* Seals the text behind the two lines that are in file already. */
static int append_sealed(const struct params *params, const char *passphrase, const void *text,
			 size_t len, struct s3c_buf *file)
{
	static const uint8_t nonce[S3C_NONCE_LEN];
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_free uint8_t *sealed = malloc(len + S3C_TAG_LEN);
	cleanup_free char *base64 = malloc(S3C_BASE64_LEN(len + S3C_TAG_LEN) + 1);
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	int r;

	if (!key || !sealed || !base64)
		return -ENOMEM;
	r = derive(params, passphrase, key);
	if (r == 0)
		r = s3c_gcm_new(key, &gcm);
	if (r == 0)
		r = s3c_gcm_seal(gcm, nonce, file->data, file->len, text, len, sealed,
				 sealed + len);
	if (r < 0)
		return r;
	s3c_base64_encode(sealed, len + S3C_TAG_LEN, base64);
	return s3c_buf_printf(file, "%s\n", base64);
}

int s3c_keyring_protect(const void *text, size_t len, const char *passphrase,
			struct s3c_buf *ret_file)
{
	struct params params = { .n = WRITE_N, .r = WRITE_R, .p = WRITE_P };
	cleanup_buf struct s3c_buf file = { .max = S3C_PROTECTED_MAX };
	char salt[S3C_BASE64_LEN(SALT_LEN) + 1];
	int r;

	if (!len || len > S3C_KEYRING_MAX)
		return -EMSGSIZE;
	s3c_random(params.salt, sizeof(params.salt));
	s3c_base64_encode(params.salt, sizeof(params.salt), salt);
	r = s3c_buf_printf(&file, MAGIC "scrypt N=%llu r=%u p=%u salt=%s\n",
			   (unsigned long long)params.n, WRITE_R, WRITE_P, salt);
	if (r == 0)
		r = append_sealed(&params, passphrase, text, len, &file);
	return r < 0 ? r : s3c_buf_append(ret_file, file.data, file.len);
}

/* NAME=NUMBER from the text at *at, up to a blank. */
static bool take_number(const char **at, const char *name, uint64_t min, uint64_t max,
			uint64_t *ret_value)
{
	size_t name_len = strlen(name), len;
	char number[24];

	if (strncmp(*at, name, name_len) != 0)
		return false;
	*at += name_len;
	len = strspn(*at, "0123456789");
	if (!len || len >= sizeof(number) || (*at)[len] != ' ')
		return false;
	memcpy(number, *at, len);
	number[len] = '\0';
	*at += len + 1;
	return s3c_parse_u64(number, max, ret_value) == 0 && *ret_value >= min;
}

static bool parse_params(const char *line, struct params *params)
{
	static const char salt[] = "salt=";
	size_t len = 0;

	if (!take_number(&line, "scrypt N=", N_MIN, N_MAX, &params->n) ||
	    !take_number(&line, "r=", 1, R_MAX, &params->r) ||
	    !take_number(&line, "p=", 1, P_MAX, &params->p))
		return false;
	if ((params->n & (params->n - 1)) || 128 * params->n * params->r > MEMORY_MAX)
		return false;
	if (strncmp(line, salt, sizeof(salt) - 1) != 0)
		return false;
	line += sizeof(salt) - 1;
	return s3c_base64_decode(line, strlen(line), params->salt, SALT_LEN, &len) == 0 &&
	       len == SALT_LEN;
}

static int damaged(struct s3c_err *err, const char *name)
{
	return s3c_err_set(err, -EBADMSG,
			   "%s is a protected keyring that is damaged, or of a newer version; put "
			   "it back from a copy",
			   name);
}

static int open_sealed(const struct params *params, const char *passphrase, const void *aad,
		       size_t aad_len, const uint8_t *sealed, size_t len, struct s3c_buf *ret_text)
{
	static const uint8_t nonce[S3C_NONCE_LEN];
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t *plain;
	int r;

	if (!key)
		return -ENOMEM;
	r = derive(params, passphrase, key);
	if (r == 0)
		r = s3c_gcm_new(key, &gcm);
	if (r < 0)
		return r;
	len -= S3C_TAG_LEN;
	plain = malloc(len);
	if (!plain)
		return -ENOMEM;
	r = s3c_gcm_open(gcm, nonce, aad, aad_len, sealed, len, sealed + len, plain);
	if (r == 0)
		r = s3c_buf_append(ret_text, plain, len);
	s3c_wipe(plain, len);
	free(plain);
	return r;
}

int s3c_keyring_unprotect(const void *data, size_t len, const char *passphrase, const char *name,
			  struct s3c_err *err, struct s3c_buf *ret_text)
{
	const char *text = data, *end = text + len;
	const char *line = text + sizeof(MAGIC) - 1, *line_end;
	cleanup_free uint8_t *sealed = NULL;
	struct params params;
	char head[256] = "";
	size_t got = 0;
	int r;

	if (!s3c_keyring_is_protected(data, len))
		return damaged(err, name);
	line_end = memchr(line, '\n', (size_t)(end - line));
	if (!line_end || (size_t)(line_end - line) >= sizeof(head))
		return damaged(err, name);
	memcpy(head, line, (size_t)(line_end - line));
	if (!parse_params(head, &params))
		return damaged(err, name);
	line = line_end + 1;
	while (end > line && strchr(" \t\r\n", end[-1]))
		end--;
	sealed = malloc((size_t)(end - line) + 1);
	if (!sealed)
		return -ENOMEM;
	if (s3c_base64_decode(line, (size_t)(end - line), sealed, (size_t)(end - line), &got) < 0 ||
	    got <= S3C_TAG_LEN)
		return damaged(err, name);
	r = open_sealed(&params, passphrase, data, (size_t)(line - text), sealed, got, ret_text);
	if (r == -EBADMSG)
		return s3c_err_set(err, -EKEYREJECTED,
				   "the passphrase of %s is wrong (or the file was altered)", name);
	return r;
}
