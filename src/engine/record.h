/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The text of records, big-endian, strings length-prefixed. They are authenticated by the journal
 * and never leave this machine; a version that is not known is refused.
 *
 *	object	= version(1) flags(1) path size base-visible attrs cid base ops
 *	flags	= 1 content differs
 *	attrs	= mode(4) uid(4) gid(4) mtime(8) atime(8) ctime(8)
 *	base	= 0 | 1 layout(1) final(1) attrs epoch(4) file-id content-id op-id generation(8)
 *salt commitment wrapped key-id size(8) stored(8) etag modified(8) version-id
 *	ops	= count(1) *( op-id size(8) visible(8) covers(1) )
 *
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
	struct s3c_record_op ops[5];
	unsigned op_count;
};

/* The record of object->saved under the object's path and attempts. Lock held. */
int s3c_record_encode(const struct s3c_object *object, struct s3c_buf *text);
/* -EPROTO: of a version that is not known; -EBADMSG: not a record. */
int s3c_record_decode(struct s3c_engine *engine, const uint8_t *data, size_t len,
		      struct s3c_record *ret_record);
void s3c_record_clear(struct s3c_record *record);

/* Pieces, also for the records of names. Reading past the end sets failed and gives zeros. */
struct s3c_record_reader {
	const uint8_t *at;
	size_t left;
	bool failed;
};
int s3c_record_take(struct s3c_record_reader *reader, void *ret_bytes, size_t len);
int s3c_record_put_entry(struct s3c_buf *text, const struct s3c_entry *entry);
int s3c_record_get_entry(struct s3c_engine *engine, struct s3c_record_reader *reader,
			 const char *path, bool is_dir, struct s3c_entry **ret_entry);
