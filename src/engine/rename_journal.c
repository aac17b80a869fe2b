/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Renames that the store does, in the journal while they are under way, so that none is left half
 * done by a daemon that dies.
 *
 *	RENAME	= version(1) from to started(8) source
 *	source	= "base" of record.h; none: a directory
 *
 * A directory is moved to the end by the next daemon (rename_dir.c). A file was renamed if the copy
 * is there: then the old name goes, and what the journal has of the file that was replaced. Else
 * nothing has happened.
 */
#include "engine/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "engine/record.h"

#define RECORD_VERSION 1

int s3c_rename_record(struct s3c_engine *engine, const char *from, const char *to,
		      const struct s3c_entry *source, uint64_t *ret_id)
{
	cleanup_buf struct s3c_buf text = { 0 };
	uint64_t id = s3c_durable_id(engine);
	struct s3c_tx *tx = NULL;
	uint8_t started[8];
	int r = s3c_buf_append_char(&text, RECORD_VERSION);

	s3c_put_be64(started, (uint64_t)s3c_clock_realtime_ns());
	r = r < 0 ? r : s3c_record_put_text(&text, from);
	r = r < 0 ? r : s3c_record_put_text(&text, to);
	r = r < 0 ? r : s3c_buf_append(&text, started, sizeof(started));
	r = r < 0 ? r : s3c_record_put_entry(&text, source);
	r = r < 0 ? r : s3c_tx_new(engine->config.journal, &tx);
	if (r < 0)
		return r;
	s3c_tx_vital(tx);
	r = s3c_tx_put(tx, S3C_RECORD_RENAME, id, 0, text.data, text.len);
	if (r == 0)
		r = s3c_tx_commit(steal_ptr(tx), S3C_TX_SYNC);
	s3c_tx_free(tx);
	if (r == 0)
		*ret_id = id;
	return r;
}

void s3c_rename_unrecord(struct s3c_engine *engine, uint64_t id, struct s3c_object *replaced)
{
	struct s3c_landing landing;
	struct s3c_tx *tx;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return;
	r = s3c_tx_delete(tx, S3C_RECORD_RENAME, id, 0);
	s3c_mutex_lock(&engine->lock);
	if (replaced)
		s3c_object_wait_persisted(replaced);
	if (r == 0 && replaced)
		r = s3c_object_unrecord(replaced, tx);
	if (r == 0)
		s3c_landing_submit(&landing, steal_ptr(tx));
	s3c_mutex_unlock(&engine->lock);
	s3c_tx_free(tx);
	/* What stays is looked at by the next mount, and found done. */
	if (r == 0)
		s3c_landing_wait(&landing);
}

/* A rename that was found. */
struct found {
	uint64_t id;
	int64_t started_ns;
	struct s3c_entry *source; /* NULL: a directory */
	char from[S3C_PATH_MAX], to[S3C_PATH_MAX];
};
struct found_list {
	struct s3c_engine *engine;
	struct found *items;
	size_t count;
};

static int decode(struct s3c_engine *engine, const uint8_t *data, size_t len, struct found *found)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	uint8_t version, started[8];
	int r;

	s3c_record_take(&reader, &version, 1);
	if (reader.failed || version != RECORD_VERSION)
		return -EPROTO;
	s3c_record_get_text(&reader, found->from, sizeof(found->from));
	s3c_record_get_text(&reader, found->to, sizeof(found->to));
	s3c_record_take(&reader, started, sizeof(started));
	found->started_ns = (int64_t)s3c_get_be64(started);
	r = s3c_record_get_entry(engine, &reader, found->from, false, &found->source);
	if (r < 0)
		return r;
	if (!reader.failed && !reader.left && *found->from && *found->to &&
	    s3c_path_check(found->from) == 0 && s3c_path_check(found->to) == 0)
		return 0;
	s3c_entry_put(found->source);
	return -EBADMSG;
}

static int on_rename(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct found_list *list = arg;
	struct found found = { .id = id };
	struct found *items;
	int r = result < 0 ? result : decode(list->engine, data, len, &found);

	(void)sub;
	if (r < 0) {
		s3c_error("journal: the record of a rename cannot be read and stays where it is");
		return 0;
	}
	items = reallocarray(list->items, list->count + 1, sizeof(*items));
	if (!items) {
		s3c_entry_put(found.source);
		return -ENOMEM;
	}
	list->items = items;
	list->items[list->count++] = found;
	return 0;
}

/* 1: the copy is at to. */
static int is_copied(struct s3c_engine *engine, const struct found *found)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	const struct s3c_entry *source = found->source;
	cleanup_free char *key = NULL;
	cleanup_header struct s3c_header header = { 0 };
	int r = s3c_key_of(engine, found->to, false, &key);

	if (r == 0)
		r = s3c_key_head(engine, key, &reply);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (s3c_header_of(engine, key, &reply.stat, &header) < 0 ||
	    header.layout != source->header.layout || reply.stat.size != source->stored_size)
		return 0;
	if (header.layout == S3C_LAYOUT_PLAIN)
		return s3c_etag_equal(reply.stat.version.etag, source->version.etag);
	return memcmp(header.content_id, source->header.content_id, S3C_CONTENT_ID_LEN) == 0;
}

struct search {
	struct s3c_engine *engine;
	const char *path;
	uint64_t jid, cid;
};

static int on_object(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct search *search = arg;
	struct s3c_record record;

	(void)sub;
	if (result < 0 || s3c_record_decode(search->engine, data, len, &record) < 0)
		return 0;
	if (strcmp(record.path, search->path) == 0) {
		search->jid = id;
		search->cid = record.cid;
	}
	s3c_record_clear(&record);
	return 0;
}

/* The file that the renamed one has replaced: what the journal has of it goes. */
static int forget_replaced(struct s3c_engine *engine, const char *path)
{
	struct search search = { .engine = engine, .path = path };
	struct s3c_tx *tx;
	int r = s3c_record_each(engine->config.journal, S3C_RECORD_OBJECT, on_object, &search);

	if (r < 0 || !search.jid)
		return r;
	r = s3c_tx_new(engine->config.journal, &tx);
	if (r < 0)
		return r;
	r = s3c_tx_delete(tx, S3C_RECORD_OBJECT, search.jid, 0);
	if (r == 0)
		r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, search.cid, 0);
	if (r == 0)
		return s3c_tx_commit(tx, S3C_TX_LAZY);
	s3c_tx_free(tx);
	return r;
}

static int resume_file(struct s3c_engine *engine, const struct found *found)
{
	cleanup_free char *key = NULL;
	int r = is_copied(engine, found);

	if (r <= 0)
		return r;
	r = forget_replaced(engine, found->to);
	if (r == 0)
		r = s3c_key_of(engine, found->from, false, &key);
	if (r == 0)
		r = s3c_delete_key(engine, key, found->source->version.etag);
	/* What somebody has written there since is another file. */
	return r == -ESTALE || r == -EREMCHG ? 0 : r;
}

static int resume(struct s3c_engine *engine, const struct found *found)
{
	struct s3c_hold holds[] = {
		{ .path = found->from, .below = true },
		{ .path = found->to, .below = true },
	};
	int r = s3c_hold_begin(engine, NULL, holds, 2);

	if (r < 0)
		return r;
	r = found->source
		    ? resume_file(engine, found)
		    : s3c_rename_tree_resume(engine, found->from, found->to, found->started_ns);
	s3c_names_invalidate(engine, found->from, true);
	s3c_names_invalidate(engine, found->to, true);
	s3c_hold_end(engine, holds, 2);
	return r;
}

int s3c_rename_resume(struct s3c_engine *engine, unsigned *ret_count)
{
	struct found_list list = { .engine = engine };
	unsigned count = 0;
	int r = s3c_record_each(engine->config.journal, S3C_RECORD_RENAME, on_rename, &list);

	for (size_t i = 0; i < list.count; i++) {
		const struct found *found = &list.items[i];

		if (r == 0 && resume(engine, found) == 0) {
			s3c_rename_unrecord(engine, found->id, NULL);
			s3c_info("the renaming of %s to %s, which had been begun, was looked after",
				 found->from, found->to);
			count++;
		}
		s3c_entry_put(found->source);
	}
	free(list.items);
	if (r == 0)
		*ret_count = count;
	return r;
}
