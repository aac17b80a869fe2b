/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Where a keyring comes from:
 *
 *	PATH			a file (its own folder is the base of relative paths in it)
 *	kernel:DESCRIPTION	a key of type "user" in a keyring of the kernel (keyrings(7))
 *	credential:NAME		a file in $CREDENTIALS_DIRECTORY, where systemd puts credentials
 *	a command		what it prints
 *
 * Each may be protected by a passphrase (keyring_private.h has the form), which is asked for on the
 * terminal or read from a file or descriptor. One thread.
 */
#pragma once

#include "key/keyring.h"

#define S3C_CREDENTIAL_DEFAULT "s3cryptfs.keyring"

struct s3c_keyring_source {
	const char *keyring;    /* as above; NULL: the credential of the default name, else the
				   default path */
	const char *command;    /* goes before keyring; NULL: none */
	const char *passphrase; /* a file or fd:N; NULL: the terminal */
};

/* True for a value of keyring= or passphrase_file= that is no path: WORD:NAME with a known word. */
bool s3c_keyring_is_scheme(const char *value);

/* A sentence for whatever is wrong. */
int s3c_keyring_open(const struct s3c_keyring_source *source, struct s3c_err *err,
		     struct s3c_keyring **ret_keyring);
/* Where it is, for a person; the caller frees. NULL: no memory. */
char *s3c_keyring_source_name(const struct s3c_keyring_source *source);

/*
 * Makes a keyring with one active 32-byte key in a file, which must not exist; id NULL:
 * "key-YYYYMMDD-XXXX". protect: under a passphrase, asked for twice on a terminal. ret_id (may be
 * NULL): its id, S3C_KEY_ID_MAX + 1 bytes.
 */
int s3c_keyring_new(const struct s3c_keyring_source *source, const char *id, bool protect,
		    struct s3c_err *err, char *ret_id);
/* A new key becomes the active one, the former becomes old. Files only; atomically; a second
   change at the same time waits. ret_id as above. */
int s3c_keyring_rotate(const struct s3c_keyring_source *source, const char *id, struct s3c_err *err,
		       char *ret_id);
/* Takes a key out of the file; refuses the active one. */
int s3c_keyring_remove(const struct s3c_keyring_source *source, const char *id,
		       struct s3c_err *err);
