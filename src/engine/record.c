/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "engine/names.h"

#define RECORD_VERSION 1
#define FLAG_CONTENT 1
#define COVERS_THIS 1u
#define COVERS_LATER 2u

static int put_u8(struct s3c_buf *text, unsigned value)
{
	return s3c_buf_append_char(text, (char)value);
}

static int put_u32(struct s3c_buf *text, uint32_t value)
{
	uint8_t bytes[4];

	s3c_put_be32(bytes, value);
	return s3c_buf_append(text, bytes, sizeof(bytes));
}

static int put_u64(struct s3c_buf *text, uint64_t value)
{
	uint8_t bytes[8];

	s3c_put_be64(bytes, value);
	return s3c_buf_append(text, bytes, sizeof(bytes));
}

static int put_text(struct s3c_buf *text, const char *value)
{
	size_t len = strlen(value);
	int r = put_u32(text, (uint32_t)len);

	return r < 0 ? r : s3c_buf_append(text, value, len);
}

static int put_attrs(struct s3c_buf *text, const struct s3c_attrs *attrs)
{
	int r = put_u32(text, attrs->mode);

	r = r < 0 ? r : put_u32(text, attrs->uid);
	r = r < 0 ? r : put_u32(text, attrs->gid);
	r = r < 0 ? r : put_u64(text, (uint64_t)attrs->mtime_ns);
	r = r < 0 ? r : put_u64(text, (uint64_t)attrs->atime_ns);
	return r < 0 ? r : put_u64(text, (uint64_t)attrs->ctime_ns);
}

int s3c_record_put_entry(struct s3c_buf *text, const struct s3c_entry *entry)
{
	const struct s3c_header *header = entry ? &entry->header : NULL;
	int r = put_u8(text, entry != NULL);

	if (r < 0 || !entry)
		return r;
	r = put_u8(text, header->layout);
	r = r < 0 ? r : put_u8(text, header->attrs_final);
	r = r < 0 ? r : put_attrs(text, &header->attrs);
	r = r < 0 ? r : put_u32(text, header->epoch);
	r = r < 0 ? r : s3c_buf_append(text, header->file_id, sizeof(header->file_id));
	r = r < 0 ? r : s3c_buf_append(text, header->content_id, sizeof(header->content_id));
	r = r < 0 ? r : s3c_buf_append(text, header->op_id, sizeof(header->op_id));
	r = r < 0 ? r : put_u64(text, header->generation);
	r = r < 0 ? r : s3c_buf_append(text, header->salt, sizeof(header->salt));
	r = r < 0 ? r : s3c_buf_append(text, header->commitment, sizeof(header->commitment));
	r = r < 0 ? r : s3c_buf_append(text, header->wrapped, sizeof(header->wrapped));
	r = r < 0 ? r : put_text(text, header->key_id);
	r = r < 0 ? r : put_u64(text, header->size);
	r = r < 0 ? r : put_u64(text, entry->stored_size);
	r = r < 0 ? r : put_text(text, entry->version.etag);
	r = r < 0 ? r : put_u64(text, (uint64_t)entry->version.modified_ns);
	return r < 0 ? r : put_text(text, entry->version.version_id);
}

static int put_op(struct s3c_buf *text, const uint8_t *op_id, uint64_t size, uint64_t visible,
		  unsigned covers)
{
	int r = s3c_buf_append(text, op_id, S3C_OP_ID_LEN);

	r = r < 0 ? r : put_u64(text, size);
	r = r < 0 ? r : put_u64(text, visible);
	return r < 0 ? r : put_u8(text, covers);
}

static int put_ops(struct s3c_buf *text, const struct s3c_object *object)
{
	const struct s3c_saved *saved = &object->saved;
	unsigned count = object->next_op_unused;
	int r;

	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
		count += object->attempts[i].used;
	r = put_u8(text, count);
	if (r == 0 && object->next_op_unused)
		r = put_op(text, object->next_op, saved->size, saved->size, COVERS_THIS);
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts) && r == 0; i++) {
		const struct s3c_attempt *attempt = &object->attempts[i];

		if (attempt->used)
			r = put_op(text, attempt->op_id, attempt->size, attempt->visible,
				   attempt->seq > saved->seq    ? COVERS_LATER
				   : attempt->seq == saved->seq ? COVERS_THIS
								: 0);
	}
	return r;
}

int s3c_record_encode(const struct s3c_object *object, struct s3c_buf *text)
{
	const struct s3c_saved *saved = &object->saved;
	int r = put_u8(text, RECORD_VERSION);

	r = r < 0 ? r : put_u8(text, saved->content ? FLAG_CONTENT : 0);
	r = r < 0 ? r : put_text(text, object->path);
	r = r < 0 ? r : put_u64(text, saved->size);
	r = r < 0 ? r : put_u64(text, saved->base_visible);
	r = r < 0 ? r : put_attrs(text, &saved->attrs);
	r = r < 0 ? r : put_u64(text, object->cid);
	r = r < 0 ? r : s3c_record_put_entry(text, saved->base);
	return r < 0 ? r : put_ops(text, object);
}

int s3c_record_take(struct s3c_record_reader *reader, void *ret_bytes, size_t len)
{
	if (reader->failed || len > reader->left) {
		reader->failed = true;
		memset(ret_bytes, 0, len);
		return -EBADMSG;
	}
	memcpy(ret_bytes, reader->at, len);
	reader->at += len;
	reader->left -= len;
	return 0;
}

static uint8_t get_u8(struct s3c_record_reader *reader)
{
	uint8_t byte;

	s3c_record_take(reader, &byte, 1);
	return byte;
}

static uint32_t get_u32(struct s3c_record_reader *reader)
{
	uint8_t bytes[4];

	s3c_record_take(reader, bytes, sizeof(bytes));
	return s3c_get_be32(bytes);
}

static uint64_t get_u64(struct s3c_record_reader *reader)
{
	uint8_t bytes[8];

	s3c_record_take(reader, bytes, sizeof(bytes));
	return s3c_get_be64(bytes);
}

/* With a NUL, in size bytes. */
static void get_text(struct s3c_record_reader *reader, char *ret_text, size_t size)
{
	uint32_t len = get_u32(reader);

	if (len >= size)
		reader->failed = true;
	else
		s3c_record_take(reader, ret_text, len);
	ret_text[reader->failed ? 0 : len] = '\0';
}

static void get_attrs(struct s3c_record_reader *reader, struct s3c_attrs *attrs)
{
	*attrs = (struct s3c_attrs){ .known = true };
	attrs->mode = get_u32(reader);
	attrs->uid = get_u32(reader);
	attrs->gid = get_u32(reader);
	attrs->mtime_ns = (int64_t)get_u64(reader);
	attrs->atime_ns = (int64_t)get_u64(reader);
	attrs->ctime_ns = (int64_t)get_u64(reader);
}

int s3c_record_get_entry(struct s3c_engine *engine, struct s3c_record_reader *reader,
			 const char *path, bool is_dir, struct s3c_entry **ret_entry)
{
	struct s3c_header header = { 0 };
	struct s3c_version version = { 0 };
	struct s3c_entry *entry;
	uint64_t stored;
	int r;

	if (!get_u8(reader)) {
		*ret_entry = NULL;
		return reader->failed ? -EBADMSG : 0;
	}
	header.layout = get_u8(reader);
	header.attrs_final = get_u8(reader);
	get_attrs(reader, &header.attrs);
	header.epoch = get_u32(reader);
	s3c_record_take(reader, header.file_id, sizeof(header.file_id));
	s3c_record_take(reader, header.content_id, sizeof(header.content_id));
	s3c_record_take(reader, header.op_id, sizeof(header.op_id));
	header.generation = get_u64(reader);
	s3c_record_take(reader, header.salt, sizeof(header.salt));
	s3c_record_take(reader, header.commitment, sizeof(header.commitment));
	s3c_record_take(reader, header.wrapped, sizeof(header.wrapped));
	get_text(reader, header.key_id, sizeof(header.key_id));
	header.size = get_u64(reader);
	stored = get_u64(reader);
	get_text(reader, version.etag, sizeof(version.etag));
	version.modified_ns = (int64_t)get_u64(reader);
	get_text(reader, version.version_id, sizeof(version.version_id));
	if (reader->failed || header.layout > S3C_LAYOUT_TRAILER)
		return -EBADMSG;
	r = s3c_entry_local(engine, path, is_dir, &header, &version, stored, NULL, &entry);
	if (r < 0)
		return r;
	/* Long ago: who needs to be sure asks. */
	entry->fetched_ns = INT64_MIN / 2;
	*ret_entry = entry;
	return 0;
}

static void get_ops(struct s3c_record_reader *reader, struct s3c_record *record)
{
	unsigned count = get_u8(reader);

	if (count > ARRAY_LEN(record->ops)) {
		reader->failed = true;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		struct s3c_record_op *op = &record->ops[i];
		unsigned covers;

		op->attempt.used = true;
		s3c_record_take(reader, op->attempt.op_id, S3C_OP_ID_LEN);
		op->attempt.size = get_u64(reader);
		op->attempt.visible = get_u64(reader);
		covers = get_u8(reader);
		if (covers > COVERS_LATER)
			reader->failed = true;
		op->covers = covers > 0;
		op->later = covers == COVERS_LATER;
	}
	record->op_count = count;
}

void s3c_record_clear(struct s3c_record *record)
{
	free(record->path);
	s3c_entry_put(record->saved.base);
	*record = (struct s3c_record){ 0 };
}

int s3c_record_decode(struct s3c_engine *engine, const uint8_t *data, size_t len,
		      struct s3c_record *ret_record)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct s3c_record record = { 0 };
	char path[S3C_STORE_KEY_MAX + 1];
	unsigned flags;
	int r = 0;

	if (get_u8(&reader) != RECORD_VERSION)
		return reader.failed ? -EBADMSG : -EPROTO;
	flags = get_u8(&reader);
	get_text(&reader, path, sizeof(path));
	record.path = strdup(path);
	record.saved.content = flags & FLAG_CONTENT;
	record.saved.size = get_u64(&reader);
	record.saved.base_visible = get_u64(&reader);
	get_attrs(&reader, &record.saved.attrs);
	record.cid = get_u64(&reader);
	if (!record.path)
		r = -ENOMEM;
	if (r == 0)
		r = s3c_record_get_entry(engine, &reader, path, false, &record.saved.base);
	if (r == 0)
		get_ops(&reader, &record);
	if (r == 0 && (reader.failed || reader.left || (flags & ~(unsigned)FLAG_CONTENT) ||
		       !*path || record.saved.size > S3C_FILE_SIZE_MAX ||
		       record.saved.base_visible > record.saved.size))
		r = -EBADMSG;
	if (r < 0) {
		s3c_record_clear(&record);
		return r;
	}
	*ret_record = record;
	return 0;
}
