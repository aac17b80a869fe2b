/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What the files of the keyring share: the text of one, private files, the protected form. */
#pragma once

#include <sys/stat.h>

#include "base/buf.h"
#include "key/keyring.h"

#define S3C_KEYRING_MAX (256u << 10)                 /* bytes of text */
#define S3C_PROTECTED_MAX (2 * S3C_KEYRING_MAX)      /* of the protected form */
#define S3C_SECRET_LINE_MAX (S3C_KEY_ID_MAX + 256ul) /* of a new section */
#define S3C_HOW_TO_MAKE_KEYS "make a keyring with: s3cryptfsctl key new"

/*
 * keyring_file.c. The whole of a file that only its owner may access, else -EPERM with a sentence;
 * -ENOENT and the like have none yet. The caller frees with s3c_buf_free_secret.
 */
int s3c_private_read(const char *path, struct s3c_err *err, struct s3c_buf *out);
/* The same of a file in a folder that systemd made for this service: an ACL shows as group bits. */
int s3c_credential_read(const char *path, struct s3c_err *err, struct s3c_buf *out);
/* Whole or not at all, 0600: -EEXIST when it is there. Makes the folders above. No sentence. */
int s3c_private_write_new(const char *path, const void *data, size_t len);
/* Whole or not at all, with the owner and mode of old, the file that is replaced. No sentence. */
int s3c_private_replace(const char *path, const struct stat *old, const void *data, size_t len);

/*
 * keyring_protect.c: a keyring under a passphrase. The form, ASCII:
 *
 *	file   = "s3cryptfs protected keyring 1" LF params LF data LF
 *	params = "scrypt N=" number " r=" number " p=" number " salt=" base64(32 bytes)
 *	data   = base64( GCM(key, 12 zero bytes, aad, text of the keyring) )	; with its tag
 *	key    = scrypt(passphrase, salt, N, r, p), 32 bytes		; RFC 7914
 *	aad    = the first two lines with their line feeds
 *
 * The salt is new with every write. N is a power of two from 2^14 to 2^20, r 1 to 32, p 1 to 16,
 * and 128 * N * r at most 1 GiB. Blanks may follow the data.
 */
bool s3c_keyring_is_protected(const void *data, size_t len);
int s3c_keyring_protect(const void *text, size_t len, const char *passphrase,
			struct s3c_buf *ret_file);
/* name: of the file, for sentences. -EKEYREJECTED: the passphrase is wrong, or it was altered. */
int s3c_keyring_unprotect(const void *data, size_t len, const char *passphrase, const char *name,
			  struct s3c_err *err, struct s3c_buf *ret_text);

/*
 * keyring_edit.c: the text with one change; comments, order and spacing stay. Pure.
 *
 * The active key becomes old, and a section for a new active one follows at the end.
 */
int s3c_keyring_text_rotate(const char *text, size_t len, const struct s3c_keyring *keyring,
			    const char *id, struct s3c_buf *ret_text);
/* Without the section of this key. */
int s3c_keyring_text_remove(const char *text, size_t len, const char *id, struct s3c_buf *ret_text);
/* The lines of a new active key. */
int s3c_keyring_text_section(const char *id, bool ssec_shared, struct s3c_buf *text);
