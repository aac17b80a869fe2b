/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The text of records, big-endian, strings length-prefixed. They are authenticated by the journal
 * and never leave this machine; a version that is not known is refused.
 *
 *	object	= version(1) flags(1) path size base-visible attrs [more] cid base ops
 *	flags	= 1 content differs, 2 with more
 *	attrs	= mode(4) uid(4) gid(4) mtime(8) atime(8) ctime(8)
 *	base	= 0 | 1 layout(1) flags(1) attrs [more] epoch(4) file-id content-id op-id
 *		  generation(8) salt commitment wrapped key-id [kms] size(8) stored(8) etag
 *		  modified(8) version-id
 *	flags	= 1 its attributes count, not the trailer's, 2 with kms, 4 with more
 *	more	= rdev(8) length(4) xattrs
 *	kms	= reuse(1) arn pairs length(4) blob
 *	ops	= count(1) *( op-id size(8) visible(8) covers(1) )
 *
 *	upload	= version(1) flags(1) path key upload-id source-etag base
 *	flags	= 1 sealed, 2 with file id and data key of what its copies are of
 *	part	= version(1) flags(1) first(8) count(8) bytes(8) etag checksum marks
 *	flags	= 1 a copy
 *	marks	= count(4) *( segment(8) salt digest )
 *
 * base: of an upload the header that it was begun with, as of an object that is not there yet.
 * covers: 1, the attempt published this view; 2, a later one; 0, an earlier one, on which this view
 * stands as well as on base.
 */
#pragma once

#include "engine/content.h"

struct s3c_record_op {
	struct s3c_attempt attempt;
	bool covers, later;
};
/* A record that was read. Release with s3c_record_clear. */
struct s3c_record {
	uint64_t jid, cid;
	char *path;
	struct s3c_saved saved; /* base too */
	struct s3c_record_op ops[S3C_ATTEMPTS + 1];
	unsigned op_count;
};

/* The record of object->saved under the object's path and attempts. Lock held. */
int s3c_record_encode(const struct s3c_object *object, struct s3c_buf *text);
/* -EPROTO: of a version that is not known; -EBADMSG: not a record. */
int s3c_record_decode(struct s3c_engine *engine, const uint8_t *data, size_t len,
		      struct s3c_record *ret_record);
void s3c_record_clear(struct s3c_record *record);
/* The record data of a file that has another path now, and base as its base; into text. Errors as
   of s3c_record_decode. */
int s3c_record_move(struct s3c_engine *engine, const uint8_t *data, size_t len, const char *path,
		    const struct s3c_entry *base, struct s3c_buf *text);

/* Sub 0 and the others of an UPLOAD; see upload_journal.h. Lock held for the first. */
struct s3c_paused;
struct s3c_paused_part;
int s3c_record_encode_upload(const struct s3c_upload *upload, struct s3c_buf *text);
/* Into one that is zero but for what is not read. Errors as below. */
int s3c_record_decode_upload(struct s3c_engine *engine, const uint8_t *data, size_t len,
			     struct s3c_paused *ret_paused);
int s3c_record_encode_part(const struct s3c_paused_part *part, struct s3c_buf *text);
/* The caller frees the marks. */
int s3c_record_decode_part(const uint8_t *data, size_t len, uint64_t number,
			   struct s3c_paused_part *ret_part);

/* Pieces, also for the records of names. Reading past the end sets failed and gives zeros. */
struct s3c_record_reader {
	const uint8_t *at;
	size_t left;
	bool failed;
};
int s3c_record_take(struct s3c_record_reader *reader, void *ret_bytes, size_t len);
uint8_t s3c_record_get_u8(struct s3c_record_reader *reader);
uint32_t s3c_record_get_u32(struct s3c_record_reader *reader);
uint64_t s3c_record_get_u64(struct s3c_record_reader *reader);
/* With a NUL, in size bytes. */
void s3c_record_get_text(struct s3c_record_reader *reader, char *ret_text, size_t size);
int s3c_record_put_u8(struct s3c_buf *text, unsigned value);
int s3c_record_put_u32(struct s3c_buf *text, uint32_t value);
int s3c_record_put_u64(struct s3c_buf *text, uint64_t value);
int s3c_record_put_text(struct s3c_buf *text, const char *value);
int s3c_record_put_entry(struct s3c_buf *text, const struct s3c_entry *entry);
int s3c_record_get_entry(struct s3c_engine *engine, struct s3c_record_reader *reader,
			 const char *path, bool is_dir, struct s3c_entry **ret_entry);
