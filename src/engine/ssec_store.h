/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A store where objects may be under one of several customer keys, or under none.
 *
 * What is written is under the key in use. What is read, a GET, a HEAD, or a copy's source, may be
 * under another one: where it is refused it is asked for again under the next, and which one it was
 * is remembered. So nothing above has to know of it, and an object that somebody re-keys meanwhile
 * is found again. Which are tried, in this order:
 *
 *	a volume of sse-c	the key in use, the others in the order of the keyring, and none at
 *				all where plain objects are accepted
 *	one that was of sse-c	none at all, then the keys of that time, but for what a copy reads:
 *	before			its target would be under no key (exact_key, COPY)
 */
#pragma once

#include "object/volume.h"
#include "store/store.h"

/* Takes inner over in success. volume is borrowed, as long as the store lives: of sse-c, or with a
   former one. plain: objects under no key are read as well. Caps are inner's. */
int s3c_ssec_store_new(struct s3c_store *inner, const struct s3c_volume *volume, bool plain,
		       struct s3c_store **ret_store);
/* Frees the wrapper alone and gives inner back; any other store as it is. */
struct s3c_store *s3c_ssec_store_unwrap(struct s3c_store *store);
/* The key at that place in the order (ssec_index of a reply); NULL: none at all. store may be any
   store, of which the place is 0, and volume its volume. */
const struct s3c_master_key *s3c_ssec_store_key(const struct s3c_volume *volume, unsigned index);
/* At which place the key is that read or wrote the object last, as far as is remembered; else 0. */
unsigned s3c_ssec_store_index(struct s3c_store *store, const char *key);
