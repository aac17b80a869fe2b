/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "engine/names.h"
#include "engine/upload_journal.h"

#define RECORD_VERSION 1
#define FLAG_CONTENT 1u
#define FLAG_MORE 2u
#define COVERS_THIS 1u
#define COVERS_LATER 2u
#define UPLOAD_ID_MAX 2048
#define BASE_FINAL 1u
#define BASE_KMS 2u
#define BASE_MORE 4u

int s3c_record_put_u8(struct s3c_buf *text, unsigned value)
{
	return s3c_buf_append_char(text, (char)value);
}

int s3c_record_put_u32(struct s3c_buf *text, uint32_t value)
{
	uint8_t bytes[4];

	s3c_put_be32(bytes, value);
	return s3c_buf_append(text, bytes, sizeof(bytes));
}

int s3c_record_put_u64(struct s3c_buf *text, uint64_t value)
{
	uint8_t bytes[8];

	s3c_put_be64(bytes, value);
	return s3c_buf_append(text, bytes, sizeof(bytes));
}

int s3c_record_put_text(struct s3c_buf *text, const char *value)
{
	size_t len = strlen(value);
	int r = s3c_record_put_u32(text, (uint32_t)len);

	return r < 0 ? r : s3c_buf_append(text, value, len);
}

static int put_attrs(struct s3c_buf *text, const struct s3c_attrs *attrs)
{
	/* Modes have 16 bits. */
	int r = s3c_record_put_u32(text, attrs->mode | (uint32_t)attrs->nlink << 16);

	r = r < 0 ? r : s3c_record_put_u32(text, attrs->uid);
	r = r < 0 ? r : s3c_record_put_u32(text, attrs->gid);
	r = r < 0 ? r : s3c_record_put_u64(text, (uint64_t)attrs->mtime_ns);
	r = r < 0 ? r : s3c_record_put_u64(text, (uint64_t)attrs->atime_ns);
	return r < 0 ? r : s3c_record_put_u64(text, (uint64_t)attrs->ctime_ns);
}

/* What most files do not have: written where there is something, so that records of others stay
   what earlier programs read. */
static bool has_more(const struct s3c_attrs *attrs)
{
	return attrs->xattrs || s3c_mode_is_device(attrs->mode);
}

static int put_more(struct s3c_buf *text, const struct s3c_attrs *attrs)
{
	const struct s3c_xattrs *xattrs = attrs->xattrs;
	int r = s3c_record_put_u64(text, attrs->rdev);

	r = r < 0 ? r : s3c_record_put_u32(text, xattrs ? xattrs->len : 0);
	return r < 0 || !xattrs ? r : s3c_buf_append(text, xattrs->text, xattrs->len);
}

static int put_kms(struct s3c_buf *text, const struct s3c_kms_wrap *wrap)
{
	int r = s3c_record_put_u8(text, wrap->reuse);

	r = r < 0 ? r : s3c_record_put_text(text, wrap->arn);
	r = r < 0 ? r : s3c_record_put_text(text, wrap->pairs ? wrap->pairs : "");
	r = r < 0 ? r : s3c_record_put_u32(text, wrap->len);
	return r < 0 ? r : s3c_buf_append(text, wrap->data, wrap->len);
}

int s3c_record_put_entry(struct s3c_buf *text, const struct s3c_entry *entry)
{
	const struct s3c_header *header = entry ? &entry->header : NULL;
	int r = s3c_record_put_u8(text, entry != NULL);

	if (r < 0 || !entry)
		return r;
	r = s3c_record_put_u8(text, header->layout);
	r = r < 0 ? r
		  : s3c_record_put_u8(text, (header->attrs_final ? BASE_FINAL : 0) |
						    (header->kms ? BASE_KMS : 0) |
						    (has_more(&header->attrs) ? BASE_MORE : 0));
	r = r < 0 ? r : put_attrs(text, &header->attrs);
	r = r < 0 || !has_more(&header->attrs) ? r : put_more(text, &header->attrs);
	r = r < 0 ? r : s3c_record_put_u32(text, header->epoch);
	r = r < 0 ? r : s3c_buf_append(text, header->file_id, sizeof(header->file_id));
	r = r < 0 ? r : s3c_buf_append(text, header->content_id, sizeof(header->content_id));
	r = r < 0 ? r : s3c_buf_append(text, header->op_id, sizeof(header->op_id));
	r = r < 0 ? r : s3c_record_put_u64(text, header->generation);
	r = r < 0 ? r : s3c_buf_append(text, header->salt, sizeof(header->salt));
	r = r < 0 ? r : s3c_buf_append(text, header->commitment, sizeof(header->commitment));
	r = r < 0 ? r : s3c_buf_append(text, header->wrapped, sizeof(header->wrapped));
	r = r < 0 ? r : s3c_record_put_text(text, header->key_id);
	r = r < 0 || !header->kms ? r : put_kms(text, header->kms);
	r = r < 0 ? r : s3c_record_put_u64(text, header->size);
	r = r < 0 ? r : s3c_record_put_u64(text, entry->stored_size);
	r = r < 0 ? r : s3c_record_put_text(text, entry->version.etag);
	r = r < 0 ? r : s3c_record_put_u64(text, (uint64_t)entry->version.modified_ns);
	return r < 0 ? r : s3c_record_put_text(text, entry->version.version_id);
}

#define OP_LEN (S3C_OP_ID_LEN + 8 + 8 + 1)

static int put_op(struct s3c_buf *text, const uint8_t *op_id, uint64_t size, uint64_t visible,
		  unsigned covers)
{
	int r = s3c_buf_append(text, op_id, S3C_OP_ID_LEN);

	r = r < 0 ? r : s3c_record_put_u64(text, size);
	r = r < 0 ? r : s3c_record_put_u64(text, visible);
	return r < 0 ? r : s3c_record_put_u8(text, covers);
}

static int put_ops(struct s3c_buf *text, const struct s3c_object *object)
{
	const struct s3c_saved *saved = &object->saved;
	unsigned count = object->next_op_unused;
	int r;

	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
		count += object->attempts[i].used;
	r = s3c_record_put_u8(text, count);
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

/* All but the operations. */
static int put_view(struct s3c_buf *text, const char *path, const struct s3c_saved *saved,
		    uint64_t cid, const struct s3c_entry *base)
{
	int r = s3c_record_put_u8(text, RECORD_VERSION);

	r = r < 0 ? r
		  : s3c_record_put_u8(text, (saved->content ? FLAG_CONTENT : 0) |
						    (has_more(&saved->attrs) ? FLAG_MORE : 0));
	r = r < 0 ? r : s3c_record_put_text(text, path);
	r = r < 0 ? r : s3c_record_put_u64(text, saved->size);
	r = r < 0 ? r : s3c_record_put_u64(text, saved->base_visible);
	r = r < 0 ? r : put_attrs(text, &saved->attrs);
	r = r < 0 || !has_more(&saved->attrs) ? r : put_more(text, &saved->attrs);
	r = r < 0 ? r : s3c_record_put_u64(text, cid);
	return r < 0 ? r : s3c_record_put_entry(text, base);
}

int s3c_record_encode(const struct s3c_object *object, struct s3c_buf *text)
{
	const struct s3c_saved *saved = &object->saved;
	int r = put_view(text, object->path, saved, object->cid, saved->base);

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

uint8_t s3c_record_get_u8(struct s3c_record_reader *reader)
{
	uint8_t byte;

	s3c_record_take(reader, &byte, 1);
	return byte;
}

uint32_t s3c_record_get_u32(struct s3c_record_reader *reader)
{
	uint8_t bytes[4];

	s3c_record_take(reader, bytes, sizeof(bytes));
	return s3c_get_be32(bytes);
}

uint64_t s3c_record_get_u64(struct s3c_record_reader *reader)
{
	uint8_t bytes[8];

	s3c_record_take(reader, bytes, sizeof(bytes));
	return s3c_get_be64(bytes);
}

/* With a NUL, in size bytes. */
void s3c_record_get_text(struct s3c_record_reader *reader, char *ret_text, size_t size)
{
	uint32_t len = s3c_record_get_u32(reader);

	if (len >= size)
		reader->failed = true;
	else
		s3c_record_take(reader, ret_text, len);
	ret_text[reader->failed ? 0 : len] = '\0';
}

static void get_attrs(struct s3c_record_reader *reader, struct s3c_attrs *attrs)
{
	*attrs = (struct s3c_attrs){ .known = true };
	attrs->mode = s3c_record_get_u32(reader);
	attrs->nlink = attrs->mode >> 16;
	attrs->mode &= 0xffff;
	if (attrs->nlink > S3C_NLINK_MAX)
		reader->failed = true;
	attrs->uid = s3c_record_get_u32(reader);
	attrs->gid = s3c_record_get_u32(reader);
	attrs->mtime_ns = (int64_t)s3c_record_get_u64(reader);
	attrs->atime_ns = (int64_t)s3c_record_get_u64(reader);
	attrs->ctime_ns = (int64_t)s3c_record_get_u64(reader);
}

static int get_more(struct s3c_record_reader *reader, struct s3c_attrs *attrs)
{
	uint8_t text[S3C_XATTRS_MAX];
	uint32_t len;

	attrs->rdev = s3c_record_get_u64(reader);
	len = s3c_record_get_u32(reader);
	if (reader->failed || len > sizeof(text))
		return -EBADMSG;
	s3c_record_take(reader, text, len);
	return reader->failed ? -EBADMSG : s3c_xattrs_parse(text, len, &attrs->xattrs);
}

static int get_kms(struct s3c_record_reader *reader, struct s3c_kms_wrap **ret_wrap)
{
	char arn[S3C_KMS_ID_MAX + 1], pairs[S3C_MATDESC_MAX + 1];
	bool reuse = s3c_record_get_u8(reader) != 0;
	uint8_t data[S3C_KMS_WRAP_MAX];
	uint32_t len;

	s3c_record_get_text(reader, arn, sizeof(arn));
	s3c_record_get_text(reader, pairs, sizeof(pairs));
	len = s3c_record_get_u32(reader);
	if (reader->failed || !len || len > sizeof(data))
		return -EBADMSG;
	s3c_record_take(reader, data, len);
	return reader->failed ? -EBADMSG : s3c_kms_wrap_new(reuse, arn, pairs, data, len, ret_wrap);
}

int s3c_record_get_entry(struct s3c_engine *engine, struct s3c_record_reader *reader,
			 const char *path, bool is_dir, struct s3c_entry **ret_entry)
{
	cleanup_header struct s3c_header header = { 0 };
	struct s3c_version version = { 0 };
	struct s3c_entry *entry;
	unsigned flags;
	uint64_t stored;
	int r = 0;

	if (!s3c_record_get_u8(reader)) {
		*ret_entry = NULL;
		return reader->failed ? -EBADMSG : 0;
	}
	header.layout = s3c_record_get_u8(reader);
	flags = s3c_record_get_u8(reader);
	header.attrs_final = flags & BASE_FINAL;
	get_attrs(reader, &header.attrs);
	if (flags & BASE_MORE)
		r = get_more(reader, &header.attrs);
	if (r < 0)
		return r;
	header.epoch = s3c_record_get_u32(reader);
	s3c_record_take(reader, header.file_id, sizeof(header.file_id));
	s3c_record_take(reader, header.content_id, sizeof(header.content_id));
	s3c_record_take(reader, header.op_id, sizeof(header.op_id));
	header.generation = s3c_record_get_u64(reader);
	s3c_record_take(reader, header.salt, sizeof(header.salt));
	s3c_record_take(reader, header.commitment, sizeof(header.commitment));
	s3c_record_take(reader, header.wrapped, sizeof(header.wrapped));
	s3c_record_get_text(reader, header.key_id, sizeof(header.key_id));
	if (flags & BASE_KMS)
		r = get_kms(reader, &header.kms);
	if (r < 0)
		return r;
	header.size = s3c_record_get_u64(reader);
	stored = s3c_record_get_u64(reader);
	s3c_record_get_text(reader, version.etag, sizeof(version.etag));
	version.modified_ns = (int64_t)s3c_record_get_u64(reader);
	s3c_record_get_text(reader, version.version_id, sizeof(version.version_id));
	if (reader->failed || (flags & ~(BASE_FINAL | BASE_KMS | BASE_MORE)) ||
	    header.layout > S3C_LAYOUT_LAST)
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
	unsigned count = s3c_record_get_u8(reader);

	if (count > ARRAY_LEN(record->ops)) {
		reader->failed = true;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		struct s3c_record_op *op = &record->ops[i];
		unsigned covers;

		op->attempt.used = true;
		s3c_record_take(reader, op->attempt.op_id, S3C_OP_ID_LEN);
		op->attempt.size = s3c_record_get_u64(reader);
		op->attempt.visible = s3c_record_get_u64(reader);
		covers = s3c_record_get_u8(reader);
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
	s3c_attrs_clear(&record->saved.attrs);
	*record = (struct s3c_record){ 0 };
}

int s3c_record_decode(struct s3c_engine *engine, const uint8_t *data, size_t len,
		      struct s3c_record *ret_record)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct s3c_record record = { 0 };
	char path[S3C_PATH_MAX];
	unsigned flags;
	int r = 0;

	if (s3c_record_get_u8(&reader) != RECORD_VERSION)
		return reader.failed ? -EBADMSG : -EPROTO;
	flags = s3c_record_get_u8(&reader);
	s3c_record_get_text(&reader, path, sizeof(path));
	record.path = strdup(path);
	record.saved.content = flags & FLAG_CONTENT;
	record.saved.size = s3c_record_get_u64(&reader);
	record.saved.base_visible = s3c_record_get_u64(&reader);
	get_attrs(&reader, &record.saved.attrs);
	if (flags & FLAG_MORE)
		r = get_more(&reader, &record.saved.attrs);
	record.cid = s3c_record_get_u64(&reader);
	if (r == 0 && !record.path)
		r = -ENOMEM;
	if (r == 0)
		r = s3c_record_get_entry(engine, &reader, path, false, &record.saved.base);
	if (r == 0)
		get_ops(&reader, &record);
	if (r == 0 && (reader.failed || reader.left || (flags & ~(FLAG_CONTENT | FLAG_MORE)) ||
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

int s3c_record_move(struct s3c_engine *engine, const uint8_t *data, size_t len, const char *path,
		    const struct s3c_entry *base, struct s3c_buf *text)
{
	struct s3c_record record;
	size_t ops_len;
	int r = s3c_record_decode(engine, data, len, &record);

	if (r < 0)
		return r;
	ops_len = 1 + record.op_count * OP_LEN;
	r = put_view(text, path, &record.saved, record.cid, base);
	r = r < 0 ? r : s3c_buf_append(text, data + len - ops_len, ops_len);
	s3c_record_clear(&record);
	return r;
}

#define UPLOAD_SEALED 1u
#define UPLOAD_KEEP 2u
#define PART_COPY 1u

int s3c_record_encode_upload(const struct s3c_upload *upload, struct s3c_buf *text)
{
	struct s3c_entry entry = { .header = upload->header };
	unsigned flags = (upload->key ? UPLOAD_SEALED : 0) | (upload->keep ? UPLOAD_KEEP : 0);
	int r = s3c_record_put_u8(text, RECORD_VERSION);

	r = r < 0 ? r : s3c_record_put_u8(text, flags);
	r = r < 0 ? r : s3c_record_put_text(text, upload->object->path);
	r = r < 0 ? r : s3c_record_put_text(text, upload->target->key);
	r = r < 0 ? r : s3c_record_put_text(text, upload->id);
	r = r < 0 ? r : s3c_record_put_text(text, upload->source_etag);
	return r < 0 ? r : s3c_record_put_entry(text, &entry);
}

int s3c_record_decode_upload(struct s3c_engine *engine, const uint8_t *data, size_t len,
			     struct s3c_paused *ret_paused)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct s3c_entry *entry = NULL;
	char path[S3C_PATH_MAX], key[S3C_STORE_KEY_MAX + 1], id[UPLOAD_ID_MAX];
	unsigned flags;
	int r;

	if (s3c_record_get_u8(&reader) != RECORD_VERSION)
		return reader.failed ? -EBADMSG : -EPROTO;
	flags = s3c_record_get_u8(&reader);
	s3c_record_get_text(&reader, path, sizeof(path));
	s3c_record_get_text(&reader, key, sizeof(key));
	s3c_record_get_text(&reader, id, sizeof(id));
	s3c_record_get_text(&reader, ret_paused->source_etag, sizeof(ret_paused->source_etag));
	r = s3c_record_get_entry(engine, &reader, path, false, &entry);
	if (r == 0 && (!entry || reader.failed || reader.left || !*path || !*key || !*id ||
		       (flags & ~(UPLOAD_SEALED | UPLOAD_KEEP))))
		r = -EBADMSG;
	if (r == 0) {
		ret_paused->sealed = flags & UPLOAD_SEALED;
		ret_paused->keep = flags & UPLOAD_KEEP;
		s3c_header_set(&ret_paused->header, &entry->header);
		ret_paused->path = strdup(path);
		ret_paused->key = strdup(key);
		if (ret_paused->path && ret_paused->key)
			ret_paused->upload_id = strdup(id);
		r = ret_paused->upload_id ? 0 : -ENOMEM;
	}
	s3c_entry_put(entry);
	return r;
}

int s3c_record_encode_part(const struct s3c_paused_part *part, struct s3c_buf *text)
{
	int r = s3c_record_put_u8(text, RECORD_VERSION);

	r = r < 0 ? r : s3c_record_put_u8(text, part->copy ? PART_COPY : 0);
	r = r < 0 ? r : s3c_record_put_u64(text, part->first);
	r = r < 0 ? r : s3c_record_put_u64(text, part->count);
	r = r < 0 ? r : s3c_record_put_u64(text, part->done.size);
	r = r < 0 ? r : s3c_record_put_text(text, part->done.etag);
	r = r < 0 ? r : s3c_record_put_text(text, part->done.checksum);
	r = r < 0 ? r : s3c_record_put_u32(text, part->mark_count);
	for (unsigned i = 0; r == 0 && i < part->mark_count; i++) {
		const struct s3c_mark *mark = &part->marks[i];

		r = s3c_record_put_u64(text, mark->segment);
		r = r < 0 ? r : s3c_buf_append(text, mark->salt, sizeof(mark->salt));
		r = r < 0 ? r : s3c_buf_append(text, mark->digest, sizeof(mark->digest));
	}
	return r;
}

static int get_marks(struct s3c_record_reader *reader, struct s3c_paused_part *part)
{
	const size_t each = 8 + S3C_SALT_LEN + S3C_SHA256_LEN;
	uint64_t next = part->first;

	part->mark_count = s3c_record_get_u32(reader);
	if (reader->failed || reader->left != part->mark_count * each ||
	    (part->mark_count == 0) != part->copy)
		return -EBADMSG;
	part->marks = part->copy ? NULL : calloc(part->mark_count, sizeof(*part->marks));
	if (!part->copy && !part->marks)
		return -ENOMEM;
	for (unsigned i = 0; i < part->mark_count; i++) {
		struct s3c_mark *mark = &part->marks[i];

		mark->segment = s3c_record_get_u64(reader);
		s3c_record_take(reader, mark->salt, sizeof(mark->salt));
		s3c_record_take(reader, mark->digest, sizeof(mark->digest));
		if (mark->segment < next || mark->segment - part->first >= part->count)
			return -EBADMSG;
		next = mark->segment + 1;
	}
	return 0;
}

int s3c_record_decode_part(const uint8_t *data, size_t len, uint64_t number,
			   struct s3c_paused_part *ret_part)
{
	const uint64_t most = S3C_FILE_SIZE_MAX / S3C_SEGMENT_SIZE + 1;
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct s3c_paused_part part = { 0 };
	unsigned flags;
	int r = 0;

	if (s3c_record_get_u8(&reader) != RECORD_VERSION)
		return reader.failed ? -EBADMSG : -EPROTO;
	flags = s3c_record_get_u8(&reader);
	part.copy = flags & PART_COPY;
	part.first = s3c_record_get_u64(&reader);
	part.count = s3c_record_get_u64(&reader);
	part.done.size = s3c_record_get_u64(&reader);
	s3c_record_get_text(&reader, part.done.etag, sizeof(part.done.etag));
	s3c_record_get_text(&reader, part.done.checksum, sizeof(part.done.checksum));
	part.done.number = (unsigned)number;
	if (reader.failed || (flags & ~PART_COPY) || number < 1 || number > 10000 || !part.count ||
	    part.first > most || part.count > most || !part.done.etag[0])
		r = -EBADMSG;
	if (r == 0)
		r = get_marks(&reader, &part);
	if (r < 0) {
		free(part.marks);
		return r;
	}
	*ret_part = part;
	return 0;
}
