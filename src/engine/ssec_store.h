/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A store as an SSE-C volume with several keys, here or elsewhere, sees it.
 *
 * What is written is under the key in use. What is read may be under another key of the keyring:
 * a GET, a HEAD, or a copy's source that is refused is asked for again under the next one, the key
 * in use first, then in the order of the file, and which one it was is remembered. So nothing above
 * has to know of it, and an object that somebody re-keys meanwhile is found again.
 *
 * Customer keys in requests are replaced, never added: a request without one stays without one.
 */
#pragma once

#include "object/volume.h"
#include "store/store.h"

/* Takes inner over in success. volume is borrowed, as long as the store lives. Caps are inner's. */
int s3c_ssec_store_new(struct s3c_store *inner, const struct s3c_volume *volume,
		       struct s3c_store **ret_store);
/* Frees the wrapper alone and gives inner back; any other store as it is. */
struct s3c_store *s3c_ssec_store_unwrap(struct s3c_store *store);
/* Which of volume->ssec_keys read or wrote the object last, as far as is remembered; 0, the key in
   use, otherwise. store may be any store. */
unsigned s3c_ssec_store_index(struct s3c_store *store, const char *key);
