/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What one component of a path is called in the store. Grammar in doc/format.md.
 *
 * Plain names are stored as they are but for those that S3's keys, which are UTF-8, and its XML
 * cannot carry:
 *
 *	stored name = "%~" *( byte of a character of XML but '%' | '%' HEX HEX )
 *
 * and those that begin with "%~" themselves. Encrypted names:
 *
 *	ciphertext = AES-256-SIV(names key, aad = "/" | stored path of the parent, name)
 *	stored name = base32hex(ciphertext), when that has at most 200 bytes
 *	            | "%" base32hex(SHA-256(ciphertext)); the ciphertext is in the item
 *	                                                  s3cryptfs-name
 *
 * The stored path of the parent is its key relative to the volume: "", or ends in '/'. So equal
 * names in two directories have nothing in common, and one in the same directory is always the
 * same: who knows the path knows the key. Pure functions; any thread.
 */
#pragma once

#include "base/crypto.h"
#include "base/encode.h"

#define S3C_NAME_LEN_MAX 255
#define S3C_STORED_NAME_MAX 200
#define S3C_NAME_ITEM "s3cryptfs-name"

struct s3c_stored_name {
	char text[S3C_STORED_NAME_MAX + 1];
	/* Value of the item s3cryptfs-name. "": text has all of it. */
	char item[S3C_BASE64_LEN(S3C_NAME_LEN_MAX + S3C_TAG_LEN) + 1];
};

/* Bytes of an escaped name, without the NUL. */
#define S3C_ESCAPED_MAX (2 + 3 * S3C_NAME_LEN_MAX)
/* The plain name as it is stored. */
void s3c_name_escape(const char *name, char ret_stored[static S3C_ESCAPED_MAX + 1]);
/* And back. -EBADMSG: no name is stored like that. */
int s3c_name_unescape(const char *stored, size_t len, char ret_name[static S3C_NAME_LEN_MAX + 1]);
/* Could a directory entry have it? Not empty, "." or "..", no '/' or zero byte, not too long. */
bool s3c_name_possible(const char *name, size_t len);
/* -EINVAL: not a possible name. */
int s3c_name_encrypt(const uint8_t key[static S3C_SIV_KEY_LEN], const char *parent,
		     const char *name, size_t len, struct s3c_stored_name *ret_stored);
/* A stored name that needs the item of its object's metadata. */
bool s3c_name_is_long(const char *stored);
/*
 * item: of a long one, or NULL. -EBADMSG: no name of this volume in this directory (a key of
 * another program; moved or altered); -ENODATA: a long one without its item.
 */
int s3c_name_decrypt(const uint8_t key[static S3C_SIV_KEY_LEN], const char *parent,
		     const char *stored, size_t len, const char *item,
		     char ret_name[static S3C_NAME_LEN_MAX + 1]);
