/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define CIPHERTEXT_MAX (S3C_NAME_LEN_MAX + S3C_TAG_LEN)
#define LONG_MARK '%'
#define ESCAPE_MARK "%~"
#define LONG_LEN (1 + S3C_BASE32_LEN(S3C_SHA256_LEN))

bool s3c_name_possible(const char *name, size_t len)
{
	if (!len || len > S3C_NAME_LEN_MAX || memchr(name, '/', len) || memchr(name, '\0', len))
		return false;
	return name[0] != '.' || (len != 1 && (len != 2 || name[1] != '.'));
}

bool s3c_name_is_long(const char *stored)
{
	return *stored == LONG_MARK;
}

/* "/" | parent: never empty. The caller frees. */
static char *aad_of(const char *parent)
{
	return s3c_asprintf("/%s", parent);
}

static int long_name(const uint8_t *ciphertext, size_t len, char ret_text[static LONG_LEN + 1])
{
	uint8_t digest[S3C_SHA256_LEN];
	int r = s3c_sha256(ciphertext, len, digest);

	if (r < 0)
		return r;
	ret_text[0] = LONG_MARK;
	s3c_base32_encode(digest, sizeof(digest), ret_text + 1);
	return 0;
}

int s3c_name_encrypt(const uint8_t key[static S3C_SIV_KEY_LEN], const char *parent,
		     const char *name, size_t len, struct s3c_stored_name *ret_stored)
{
	uint8_t ciphertext[CIPHERTEXT_MAX];
	cleanup_free char *aad = aad_of(parent);
	size_t ct_len = len + S3C_TAG_LEN;
	int r;

	if (!s3c_name_possible(name, len))
		return -EINVAL;
	if (!aad)
		return -ENOMEM;
	r = s3c_siv_seal(key, aad, strlen(aad), name, len, ciphertext);
	if (r < 0)
		return r;
	ret_stored->item[0] = '\0';
	if (S3C_BASE32_LEN(ct_len) <= S3C_STORED_NAME_MAX) {
		s3c_base32_encode(ciphertext, ct_len, ret_stored->text);
		return 0;
	}
	s3c_base64_encode(ciphertext, ct_len, ret_stored->item);
	return long_name(ciphertext, ct_len, ret_stored->text);
}

/* The ciphertext of a stored name, in the only form that it may have. */
static int take_ciphertext(const char *stored, size_t len, const char *item,
			   uint8_t ret_ct[static CIPHERTEXT_MAX], size_t *ret_len)
{
	char text[LONG_LEN + 1];
	size_t ct_len;
	int r;

	if (!len || len > S3C_STORED_NAME_MAX)
		return -EBADMSG;
	if (!s3c_name_is_long(stored)) {
		r = s3c_base32_decode(stored, len, ret_ct, CIPHERTEXT_MAX, ret_len);
		return r < 0 ? -EBADMSG : 0;
	}
	if (len != LONG_LEN)
		return -EBADMSG;
	if (!item)
		return -ENODATA;
	if (s3c_base64_decode(item, strlen(item), ret_ct, CIPHERTEXT_MAX, &ct_len) < 0 ||
	    S3C_BASE32_LEN(ct_len) <= S3C_STORED_NAME_MAX)
		return -EBADMSG;
	r = long_name(ret_ct, ct_len, text);
	if (r < 0)
		return r;
	*ret_len = ct_len;
	return memcmp(text, stored, len) == 0 ? 0 : -EBADMSG;
}

int s3c_name_decrypt(const uint8_t key[static S3C_SIV_KEY_LEN], const char *parent,
		     const char *stored, size_t len, const char *item,
		     char ret_name[static S3C_NAME_LEN_MAX + 1])
{
	uint8_t ciphertext[CIPHERTEXT_MAX];
	char name[S3C_NAME_LEN_MAX + 1];
	cleanup_free char *aad = aad_of(parent);
	size_t ct_len;
	int r;

	if (!aad)
		return -ENOMEM;
	r = take_ciphertext(stored, len, item, ciphertext, &ct_len);
	if (r == 0)
		r = s3c_siv_open(key, aad, strlen(aad), ciphertext, ct_len, name);
	if (r < 0)
		return r;
	ct_len -= S3C_TAG_LEN;
	if (!s3c_name_possible(name, ct_len))
		return -EBADMSG;
	name[ct_len] = '\0';
	memcpy(ret_name, name, ct_len + 1);
	return 0;
}

static bool has_mark(const char *name)
{
	return strncmp(name, ESCAPE_MARK, strlen(ESCAPE_MARK)) == 0;
}

static bool fits_xml(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;
	size_t len;

	for (; *p; p += len) {
		len = s3c_xml_char(p);
		if (!len)
			return false;
	}
	return true;
}

void s3c_name_escape(const char *name, char ret_stored[static S3C_ESCAPED_MAX + 1])
{
	const unsigned char *p = (const unsigned char *)name;
	char *to = ret_stored;

	if (!has_mark(name) && fits_xml(name)) {
		strcpy(ret_stored, name);
		return;
	}
	to = stpcpy(to, ESCAPE_MARK);
	while (*p) {
		size_t len = *p == '%' ? 0 : s3c_xml_char(p);

		if (len) {
			to = mempcpy(to, p, len);
			p += len;
		} else {
			to += sprintf(to, "%%%02X", *p++);
		}
	}
	*to = '\0';
}

int s3c_name_unescape(const char *stored, size_t len, char ret_name[static S3C_NAME_LEN_MAX + 1])
{
	cleanup_buf struct s3c_buf name = { .max = S3C_NAME_LEN_MAX };
	char again[S3C_ESCAPED_MAX + 1];
	const size_t mark = strlen(ESCAPE_MARK);
	bool escaped = len >= mark && strncmp(stored, ESCAPE_MARK, mark) == 0;

	if (len > S3C_ESCAPED_MAX || memchr(stored, 0, len))
		return -EBADMSG;
	if (escaped ? s3c_uri_decode(&name, stored + mark, len - mark) < 0
		    : s3c_buf_append(&name, stored, len) < 0)
		return -EBADMSG;
	if (!s3c_name_possible((const char *)name.data, name.len))
		return -EBADMSG;
	memcpy(ret_name, name.data, name.len);
	ret_name[name.len] = '\0';
	/* Each name is stored in one way: any other would be a second file of that name. */
	s3c_name_escape(ret_name, again);
	return strlen(again) == len && memcmp(again, stored, len) == 0 ? 0 : -EBADMSG;
}
