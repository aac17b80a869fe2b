/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The extended attributes of a file as one immutable value, counted by references (atomically):
 * every change makes another one. NULL is "none" everywhere, for functions below too.
 *
 *	text	= *( name-length(1) name value-length(2, big-endian) value )
 *
 * in the order of the bytes of the names, each once. As metadata it is, where the volume has keys
 * of its own, sealed and encrypted (doc/format.md, section 10), else as s3fs writes it.
 * Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "object/volume.h"
#include "store/store.h"

#define S3C_XATTRS_META "xattr" /* the metadata item */
#define S3C_XATTRS_MAX 2048u    /* bytes of a text; metadata have no room for more */
#define S3C_XATTR_NAME_MAX 255u /* bytes of a name */

struct s3c_xattrs {
	unsigned refs;
	uint32_t len;
	uint8_t text[];
};

struct s3c_xattrs *s3c_xattrs_ref(struct s3c_xattrs *xattrs);
void s3c_xattrs_put(struct s3c_xattrs *xattrs);
static inline void s3c_xattrs_cleanup(struct s3c_xattrs **xattrs)
{
	s3c_xattrs_put(*xattrs);
}
#define cleanup_xattrs __attribute__((cleanup(s3c_xattrs_cleanup)))

bool s3c_xattrs_equal(const struct s3c_xattrs *a, const struct s3c_xattrs *b);
/* From a text; an empty one gives NULL. -EBADMSG: it is none. */
int s3c_xattrs_parse(const void *text, size_t len, struct s3c_xattrs **ret_xattrs);
/* The value, which belongs to xattrs; -ENODATA: no such name. */
int s3c_xattrs_get(const struct s3c_xattrs *xattrs, const char *name, const void **ret_value,
		   size_t *ret_len);
/*
 * One name with another value; value NULL: without it. create: it must not be there (-EEXIST),
 * replace: it must (-ENODATA, as for a removal). -ENOSPC: more than S3C_XATTRS_MAX; -ERANGE: an
 * empty or too long name.
 */
int s3c_xattrs_with(const struct s3c_xattrs *xattrs, const char *name, const void *value,
		    size_t len, bool create, bool replace, struct s3c_xattrs **ret_xattrs);
/* Appends all names, each with a NUL. */
int s3c_xattrs_names(const struct s3c_xattrs *xattrs, struct s3c_buf *names);

/* Sets the item, or leaves it absent for NULL. volume NULL, or one without keys: in the clear. */
int s3c_xattrs_encode(const struct s3c_xattrs *xattrs, const struct s3c_volume *volume,
		      uint32_t epoch, const uint8_t file_id[static S3C_FILE_ID_LEN],
		      struct s3c_meta *meta);
/* Of metadata whose seal was compared: -EBADMSG when the item is not what it should be. */
int s3c_xattrs_decode(const struct s3c_meta *meta, const struct s3c_volume *volume, uint32_t epoch,
		      const uint8_t file_id[static S3C_FILE_ID_LEN],
		      struct s3c_xattrs **ret_xattrs);
/* Of unsealed metadata; what is damaged, or not of the namespace user., is passed over. -ENOMEM. */
int s3c_xattrs_decode_plain(const struct s3c_meta *meta, struct s3c_xattrs **ret_xattrs);
/* Bytes of the item with its name; 0 for NULL, SIZE_MAX: it cannot be written so. */
size_t s3c_xattrs_stored_len(const struct s3c_xattrs *xattrs, bool sealed);
