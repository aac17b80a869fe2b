/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The keyring: customer master keys, in an INI file of mode 0600.
 *
 *	[KEY-ID]		one section a key; the name is the key id
 *	secret = BASE64		16, 24 or 32 bytes; the active key has 32
 *	secret_file = PATH	the same in a file (0600), relative to the keyring
 *	state = active|old	exactly one key is active; without it: old
 *	use = sse-c		sent to the store as it is; refused for all else
 *	rsa_private_key = PATH	for S3EC's RSA wrapping
 *	desc.NAME = VALUE	pairs of the material description
 *
 * Comments ('#' or ';') have lines of their own. The parser is ours, not inih's, which cuts section
 * names after 49 bytes (two keys would become one) and leaves secrets on the stack.
 *
 * Immutable once loaded; any thread may read it. Secrets are in secret memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/crypto.h"
#include "base/err.h"

#define S3C_KEY_ID_MAX 64 /* bytes: [A-Za-z0-9._-] */
#define S3C_MATDESC_KEY_ID "s3cryptfs-key-id"
#define S3C_MATDESC_MAX 768 /* bytes; all metadata of an object must stay under S3's 2 KB */

/* True for a non-empty id of at most S3C_KEY_ID_MAX bytes of the alphabet above. */
bool s3c_key_id_valid(const char *id);

struct s3c_key_desc {
	char *name;
	char *value;
};
struct s3c_master_key {
	char id[S3C_KEY_ID_MAX + 1];
	uint8_t *secret; /* secret memory; NULL for an RSA-only key */
	size_t secret_len;
	bool active;
	bool ssec_shared; /* use = sse-c */
	char *rsa_private_key;
	struct s3c_key_desc *desc;
	size_t desc_count;
};
struct s3c_kms_keys;
struct s3c_keyring {
	struct s3c_master_key *keys; /* in file order */
	size_t count;
	/* KMS keys that the mount may use besides, key/kms_keys.h; borrowed, NULL: none. */
	struct s3c_kms_keys *kms;
};

/* Refuses (with a sentence) a missing file, one that others may read, a bad or missing active key.
 */
int s3c_keyring_load(const char *path, struct s3c_err *err, struct s3c_keyring **ret_keyring);
/*
 * The same from memory (a command's output, a credential): name stands for the file in sentences.
 * Relative paths in it (secret_file, rsa_private_key) are relative to dir; NULL: refused. The text
 * is not kept; the caller wipes it.
 */
int s3c_keyring_parse(const char *text, size_t len, const char *name, const char *dir,
		      struct s3c_err *err, struct s3c_keyring **ret_keyring);
/* One without master keys, for a mount that has KMS keys alone. NULL: no memory. */
struct s3c_keyring *s3c_keyring_empty(void);
void s3c_keyring_free(struct s3c_keyring *keyring);
/*
 * Reads the file of rsa_private_key, which has to be as private as the keyring, into secret memory
 * (the caller frees it). It is read when an object needs it, not with the keyring. A sentence.
 */
int s3c_keyring_rsa_pem(const struct s3c_master_key *key, struct s3c_err *err, char **ret_pem,
			size_t *ret_len);
/* Makes the file, 0600, with one active 32-byte key; id NULL: "key-YYYYMMDD-XXXX". -EEXIST:
 * refused. */
int s3c_keyring_create(const char *path, const char *id, struct s3c_err *err);
/* The active key for wrapping (or for per-object SSE-C keys); NULL in an empty one alone. */
const struct s3c_master_key *s3c_keyring_active(const struct s3c_keyring *keyring);
const struct s3c_master_key *s3c_keyring_find(const struct s3c_keyring *keyring, const char *id);
/* The key marked use = sse-c, preferring the active one; NULL: none. */
const struct s3c_master_key *s3c_keyring_ssec_shared(const struct s3c_keyring *keyring);
/* /etc/s3cryptfs/keyring for root, ${XDG_CONFIG_HOME:-~/.config}/s3cryptfs/keyring for users.
 * Caller frees. */
char *s3c_keyring_default_path(void);
/*
 * The material description as it is stored in x-amz-matdesc: ASCII JSON of the desc pairs and, as
 * S3C_MATDESC_KEY_ID, the key id; at most S3C_MATDESC_MAX bytes. Caller frees.
 */
int s3c_keyring_matdesc(const struct s3c_master_key *key, char **ret_json);
/* The desc pairs alone, for formats that other clients read: "{}" where there are none. */
int s3c_keyring_desc(const struct s3c_master_key *key, char **ret_json);

static inline void s3c_keyring_freep(struct s3c_keyring **p)
{
	s3c_keyring_free(*p);
}
#define cleanup_keyring __attribute__((cleanup(s3c_keyring_freep)))
