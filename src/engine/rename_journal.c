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
 * nothing has happened. While a file is renamed it can be written to, and that be acknowledged, by
 * a record under the old name: such records follow.
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
	uint8_t started[8];
	int r = s3c_buf_append_char(&text, RECORD_VERSION);

	s3c_put_be64(started, (uint64_t)s3c_clock_realtime_ns());
	r = r < 0 ? r : s3c_record_put_text(&text, from);
	r = r < 0 ? r : s3c_record_put_text(&text, to);
	r = r < 0 ? r : s3c_buf_append(&text, started, sizeof(started));
	r = r < 0 ? r : s3c_record_put_entry(&text, source);
	r = r < 0 ? r : s3c_durable_put(engine, S3C_RECORD_RENAME, id, &text, S3C_TX_SYNC);
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

/* Do both stand for the same content? */
static bool same_content(const struct s3c_entry *a, const struct s3c_entry *b)
{
	const struct s3c_header *x = &a->header, *y = &b->header;

	if (x->layout != y->layout || a->stored_size != b->stored_size)
		return false;
	if (x->layout == S3C_LAYOUT_PLAIN)
		return s3c_etag_equal(a->version.etag, b->version.etag);
	return memcmp(x->content_id, y->content_id, S3C_CONTENT_ID_LEN) == 0;
}

/* 1: the copy is at to, and is *ret_copy. */
static int find_copy(struct s3c_engine *engine, const struct found *found,
		     struct s3c_entry **ret_copy)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	int r = s3c_names_lookup(engine, NULL, found->to, true, &entry);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (entry->is_dir || !same_content(entry, found->source))
		return 0;
	*ret_copy = steal_ptr(entry);
	return 1;
}

/* What the journal has of files with one of the two names, or below that of a directory. */
struct settled {
	uint64_t id;
	uint8_t *data;
	size_t len;
};
struct settling {
	struct s3c_engine *engine;
	const struct found *found;
	const struct s3c_entry *copy; /* of a file */
	struct settled *items;
	size_t count;
	struct s3c_tx *tx;
};

static void settling_free(struct settling *st)
{
	for (size_t i = 0; i < st->count; i++)
		free(st->items[i].data);
	free(st->items);
	s3c_tx_free(st->tx);
}

static bool concerns(const struct found *found, const char *path)
{
	if (found->source)
		return strcmp(path, found->from) == 0 || strcmp(path, found->to) == 0;
	return s3c_path_below(path, found->from);
}

static int on_object(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct settling *st = arg;
	struct settled *items;
	struct s3c_record record;
	bool wanted;

	(void)sub;
	if (result < 0 || s3c_record_decode(st->engine, data, len, &record) < 0)
		return 0;
	wanted = concerns(st->found, record.path);
	s3c_record_clear(&record);
	if (!wanted)
		return 0;
	items = reallocarray(st->items, st->count + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	st->items = items;
	items += st->count++;
	*items = (struct settled){ .id = id, .data = malloc(len), .len = len };
	if (!items->data)
		return -ENOMEM;
	memcpy(items->data, data, len);
	return 0;
}

static int move_record(struct settling *st, const struct settled *item, const char *to,
		       const struct s3c_entry *copy)
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = s3c_record_move(st->engine, item->data, item->len, to, copy, &text);

	return r < 0 ? r : s3c_tx_put(st->tx, S3C_RECORD_OBJECT, item->id, 0, text.data, text.len);
}

/* Of a file below a directory: where it is now, if it has been moved. */
static int follow_directory(struct settling *st, const struct settled *item,
			    const struct s3c_record *record)
{
	const char *below = record->path + strlen(st->found->from);
	cleanup_free char *to = s3c_asprintf("%s%s", st->found->to, below);
	cleanup_entry struct s3c_entry *copy = NULL;
	int r;

	if (!to)
		return -ENOMEM;
	if (!record->saved.base || s3c_path_check(to) < 0)
		return 0;
	r = s3c_names_lookup(st->engine, NULL, to, true, &copy);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (copy->is_dir || !same_content(record->saved.base, copy))
		return 0;
	return move_record(st, item, to, copy);
}

/* Is it of the copy, and not of what that has replaced? */
static bool is_of_copy(const struct settling *st, const struct s3c_entry *base)
{
	return base && same_content(base, st->copy) &&
	       memcmp(base->header.op_id, st->copy->header.op_id, S3C_OP_ID_LEN) == 0;
}

static int follow_file(struct settling *st, const struct settled *item,
		       const struct s3c_record *record)
{
	const struct s3c_entry *base = record->saved.base;
	int r = 0;

	if (strcmp(record->path, st->found->from) == 0)
		return base && same_content(base, st->found->source)
			       ? move_record(st, item, st->found->to, st->copy)
			       : 0;
	if (!is_of_copy(st, base)) {
		r = s3c_tx_delete(st->tx, S3C_RECORD_OBJECT, item->id, 0);
		if (r == 0)
			r = s3c_tx_delete_from(st->tx, S3C_RECORD_CHUNK, record->cid, 0);
	}
	return r;
}

static int settle(struct settling *st, const struct settled *item)
{
	struct s3c_record record;
	int r = s3c_record_decode(st->engine, item->data, item->len, &record);

	if (r < 0)
		return r;
	r = st->found->source ? follow_file(st, item, &record)
			      : follow_directory(st, item, &record);
	s3c_record_clear(&record);
	return r;
}

/*
 * The file that was replaced: what the journal has of it goes. Those that were renamed: what was
 * written to them meanwhile, and acknowledged, stands on the copies from now on. The record of the
 * rename goes with that: else the next mount would take the latter for the former.
 */
static int settle_records(struct s3c_engine *engine, const struct found *found,
			  const struct s3c_entry *copy)
{
	__attribute__((cleanup(settling_free))) struct settling st = {
		.engine = engine,
		.found = found,
		.copy = copy,
	};
	int r = s3c_tx_new(engine->config.journal, &st.tx);

	if (r < 0)
		return r;
	s3c_tx_vital(st.tx);
	r = s3c_record_each(engine->config.journal, S3C_RECORD_OBJECT, on_object, &st);
	for (size_t i = 0; i < st.count && r == 0; i++)
		r = settle(&st, &st.items[i]);
	if (r == 0)
		r = s3c_tx_delete(st.tx, S3C_RECORD_RENAME, found->id, 0);
	return r < 0 ? r : s3c_tx_commit(steal_ptr(st.tx), S3C_TX_SYNC);
}

static int resume_file(struct s3c_engine *engine, const struct found *found)
{
	cleanup_entry struct s3c_entry *copy = NULL;
	cleanup_free char *key = NULL;
	int r = find_copy(engine, found, &copy);

	if (r <= 0)
		return r;
	r = s3c_key_of(engine, found->from, false, &key);
	if (r == 0)
		r = s3c_delete_seen(engine, key, found->source->version.etag);
	/* What somebody has written there since is another file. */
	if (r < 0 && r != -ESTALE && r != -EREMCHG)
		return r;
	return settle_records(engine, found, copy);
}

static int resume_directory(struct s3c_engine *engine, const struct found *found)
{
	int r = s3c_rename_tree_resume(engine, found->from, found->to, found->started_ns);

	return r < 0 ? r : settle_records(engine, found, NULL);
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
	r = found->source ? resume_file(engine, found) : resume_directory(engine, found);
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
