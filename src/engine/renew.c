/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Writing the content of an object anew: a commit of everything, of which nothing has changed. What
 * guards every commit guards this one as well; where it meets a change of another machine it gives
 * way.
 */
#include "engine/content.h"
#include "engine/names.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"

int s3c_renewed_id(const struct s3c_entry *entry, uint8_t ret_content_id[static S3C_CONTENT_ID_LEN])
{
	static const char label[] = "s3cryptfs renewed";
	uint8_t input[sizeof(label) - 1 + 16], digest[S3C_SHA256_LEN];
	cleanup_buf struct s3c_buf text = { .max = 512 };
	const char *etag = entry->version.etag;
	int r;

	if (entry->header.layout != S3C_LAYOUT_PLAIN) {
		memcpy(ret_content_id, entry->header.content_id, S3C_CONTENT_ID_LEN);
		return 0;
	}
	if (!etag[0]) {
		s3c_random(ret_content_id, S3C_CONTENT_ID_LEN);
		return 0;
	}
	memcpy(input, label, sizeof(label) - 1);
	s3c_put_be64(input + sizeof(label) - 1, entry->stored_size);
	r = s3c_buf_append(&text, input, sizeof(label) - 1 + 8);
	/* Stores and clients disagree about quotes. */
	for (; r == 0 && *etag; etag++)
		if (*etag != '"')
			r = s3c_buf_append_char(&text, *etag);
	if (r == 0)
		r = s3c_sha256(text.data, text.len, digest);
	if (r == 0)
		memcpy(ret_content_id, digest, S3C_CONTENT_ID_LEN);
	return r;
}

bool s3c_entry_renewed(const struct s3c_entry *a, const struct s3c_entry *b)
{
	const struct s3c_header *from = &a->header, *to = &b->header;
	uint8_t id[S3C_CONTENT_ID_LEN];

	if (a->is_dir || b->is_dir || from->size != to->size ||
	    (to->layout != S3C_LAYOUT_CHUNKS && to->layout != S3C_LAYOUT_TRAILER) ||
	    (from->layout == to->layout &&
	     memcmp(from->file_id, to->file_id, S3C_FILE_ID_LEN) == 0))
		return false;
	return s3c_renewed_id(a, id) == 0 && memcmp(id, to->content_id, sizeof(id)) == 0;
}

/* Makes all of it look changed, once. Lock held. */
static int begin(struct s3c_object *object, struct s3c_op *op)
{
	int r;

	if (s3c_object_is_dirty(object) || object->committing || object->renewing)
		return -EBUSY;
	if (!object->base)
		return -ESTALE;
	r = s3c_object_prepare(object, op);
	if (r < 0)
		return r;
	object->renewing = true;
	object->seq++;
	object->content_seq = object->seq;
	return 0;
}

/* What was not stored is what it was before. Lock held. */
static void end(struct s3c_object *object)
{
	object->renewing = false;
	object->clean_seq = object->seq;
	object->content_clean = object->content_seq;
	object->retry_ns = 0;
	object->hopeless = false;
}

int s3c_object_renew(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object;
	int r = s3c_writable(engine);

	if (r == 0 && !s3c_sealed_mode(engine))
		r = -EOPNOTSUPP;
	if (r == 0)
		r = s3c_object_open(engine, op, path, &object);
	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	r = begin(object, op);
	s3c_mutex_unlock(&engine->lock);
	if (r == 0) {
		r = s3c_object_commit(object, NULL);
		s3c_mutex_lock(&engine->lock);
		end(object);
		s3c_mutex_unlock(&engine->lock);
	}
	s3c_object_close(object);
	if (r == -ESTALE)
		s3c_names_invalidate(engine, path, false);
	return r;
}
