/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * RENAME_EXCHANGE: two files or directories change places. A store replaces one name at a time, so
 * there are three renames (rename.c), by way of a free name beside the first:
 *
 *	step	renames		free after it
 *	0			spare
 *	1	a -> spare	a
 *	2	b -> a		b
 *	3	spare -> b	spare
 *
 * Invariant: one of the three names is free, and each content is whole under one of the others. (A
 * step that fails may leave both of its names: then they are copies.) What fails is taken back. On
 * this machine nobody sees what is in between: opens of the two names, and looks at them and below,
 * wait (s3c_hold.swaps).
 *
 *	EXCHANGE = version(1) a b spare
 *
 * The journal has it until it is over. Where a daemon has died, or could not take back what it had
 * begun, the next one finds out what the record does not say: what stands at spare belongs to
 * whichever of a and b is free. To a, if step 1 was the last: nothing is exchanged then. To b, if
 * it was step 2.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "engine/content.h"
#include "engine/links.h"
#include "engine/pending.h"
#include "engine/record.h"

#define RECORD_VERSION 1
#define SPARE_NAME ".s3cryptfs-exchange-"

struct exchange {
	const char *a, *b, *spare;
};

static int spare_name(const char *path, char **ret_spare)
{
	cleanup_free char *parent = s3c_path_parent(path);
	char hex[2 * 8 + 1];
	uint8_t id[8];

	if (!parent)
		return -ENOMEM;
	s3c_random(id, sizeof(id));
	s3c_hex_encode(id, sizeof(id), hex);
	*ret_spare = s3c_asprintf("%s%s" SPARE_NAME "%s", parent, *parent ? "/" : "", hex);
	return *ret_spare ? 0 : -ENOMEM;
}

static int put_record(struct s3c_engine *engine, const struct exchange *ex, uint64_t *ret_id)
{
	cleanup_buf struct s3c_buf text = { 0 };
	uint64_t id = s3c_durable_id(engine);
	struct s3c_tx *tx = NULL;
	int r = s3c_record_put_u8(&text, RECORD_VERSION);

	r = r < 0 ? r : s3c_record_put_text(&text, ex->a);
	r = r < 0 ? r : s3c_record_put_text(&text, ex->b);
	r = r < 0 ? r : s3c_record_put_text(&text, ex->spare);
	r = r < 0 ? r : s3c_tx_new(engine->config.journal, &tx);
	if (r < 0)
		return r;
	s3c_tx_vital(tx);
	r = s3c_tx_put(tx, S3C_RECORD_EXCHANGE, id, 0, text.data, text.len);
	if (r == 0)
		r = s3c_tx_commit(steal_ptr(tx), S3C_TX_SYNC);
	s3c_tx_free(tx);
	if (r == 0)
		*ret_id = id;
	return r;
}

/* What stays of it is looked at by the next daemon, and found done. */
static void drop_record(struct s3c_engine *engine, uint64_t id)
{
	struct s3c_tx *tx;

	if (!id || s3c_tx_new(engine->config.journal, &tx) < 0)
		return;
	if (s3c_tx_delete(tx, S3C_RECORD_EXCHANGE, id, 0) == 0)
		s3c_tx_commit(steal_ptr(tx), S3C_TX_LAZY);
	s3c_tx_free(tx);
}

/* Both names are held. What a step before this has left to be done at them is done first. */
static int step(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		unsigned flags)
{
	const char *const paths[] = { from, to };
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	for (size_t i = 0; i < ARRAY_LEN(paths) && !s3c_writeback(engine); i++)
		while (r == 0 && s3c_pending_any(engine->names, paths[i]))
			r = s3c_pending_settle(engine->names, op, paths[i]);
	s3c_mutex_unlock(&engine->lock);
	return r < 0 ? r : s3c_rename_held(engine, op, from, to, flags | S3C_RENAME_AT_ONCE);
}

/* 1: something has that name; with what the store has of it, or NULL. */
static int look(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		struct s3c_entry **ret_entry)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	int r;

	if (object) {
		*ret_entry = s3c_object_base(object);
		s3c_object_close(object);
		return 1;
	}
	r = s3c_names_lookup(engine, op, path, false, ret_entry);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* Is one a copy of the other that a rename has made? Nothing is lost with one of the two then. */
static bool is_copy(const struct s3c_entry *a, const struct s3c_entry *b)
{
	const struct s3c_header *x = a ? &a->header : NULL, *y = b ? &b->header : NULL;

	if (!x || !y || a->is_dir || b->is_dir || x->layout != y->layout ||
	    a->stored_size != b->stored_size || x->attrs.mode != y->attrs.mode ||
	    x->attrs.mtime_ns != y->attrs.mtime_ns)
		return false;
	if (x->layout == S3C_LAYOUT_PLAIN)
		return s3c_etag_equal(a->version.etag, b->version.etag);
	return memcmp(x->file_id, y->file_id, S3C_FILE_ID_LEN) == 0 &&
	       memcmp(x->content_id, y->content_id, S3C_CONTENT_ID_LEN) == 0;
}

/*
 * All three are there: the last step has made its copy and could not delete what that is of. An
 * object that is open is still where it was.
 */
static int end_half_step(struct s3c_engine *engine, struct s3c_op *op, const struct exchange *ex,
			 const struct s3c_entry *a, const struct s3c_entry *b,
			 const struct s3c_entry *spare)
{
	if (is_copy(spare, a))
		return s3c_unlink_held(engine, op, ex->spare);
	if (is_copy(spare, b)) {
		int r = step(engine, op, ex->spare, ex->b, 0);

		return r < 0 ? r : 1;
	}
	return is_copy(a, b) ? step(engine, op, ex->spare, ex->a, 0) : -EEXIST;
}

/*
 * Nothing, or all of it, has happened then: 0 and 1. -EEXIST: what is at spare has to stay there,
 * as others have made what is at a or b.
 */
static int put_right(struct s3c_engine *engine, struct s3c_op *op, const struct exchange *ex)
{
	cleanup_entry struct s3c_entry *a = NULL;
	cleanup_entry struct s3c_entry *b = NULL;
	cleanup_entry struct s3c_entry *spare = NULL;
	int has_a, has_b = 0, r = look(engine, op, ex->spare, &spare);

	if (r <= 0)
		return r;
	has_a = look(engine, op, ex->a, &a);
	if (has_a >= 0)
		has_b = look(engine, op, ex->b, &b);
	if (has_a < 0 || has_b < 0)
		return has_a < 0 ? has_a : has_b;
	if (has_a && has_b)
		return end_half_step(engine, op, ex, a, b, spare);
	r = step(engine, op, ex->spare, has_a ? ex->b : ex->a, S3C_RENAME_NOREPLACE);
	return r < 0 ? r : has_a;
}

/* -EALREADY: both are names of one file. */
static int check_both(struct s3c_engine *engine, struct s3c_op *op, const struct exchange *ex)
{
	cleanup_entry struct s3c_entry *a = NULL;
	cleanup_entry struct s3c_entry *b = NULL;
	int r = look(engine, op, ex->a, &a);

	if (r > 0)
		r = look(engine, op, ex->b, &b);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	return s3c_entries_one_file(a, b) ? -EALREADY : 0;
}

/* What fails is put right without a limit of time, but for that of each request. 0, 1: as of
   put_right; else what that has failed with. */
static int three_steps(struct s3c_engine *engine, struct s3c_op *op, const struct exchange *ex,
		       int *ret_result)
{
	int r = step(engine, op, ex->a, ex->spare, S3C_RENAME_NOREPLACE);

	if (r == 0)
		r = step(engine, op, ex->b, ex->a, S3C_RENAME_NOREPLACE);
	if (r == 0) {
		r = step(engine, op, ex->spare, ex->b, S3C_RENAME_NOREPLACE);
		if (r == 0)
			return 1;
		/* Back, as what kept it from going on may do so again: a name that is too long. */
		step(engine, NULL, ex->a, ex->b, S3C_RENAME_NOREPLACE);
	}
	*ret_result = r;
	return put_right(engine, NULL, ex);
}

static int exchange_held(struct s3c_engine *engine, struct s3c_op *op, const struct exchange *ex)
{
	uint64_t record = 0;
	int done, r = check_both(engine, op, ex);

	if (r == -EALREADY)
		return 0;
	if (r == 0 && s3c_durable(engine))
		r = put_record(engine, ex, &record);
	if (r < 0)
		return r;
	done = three_steps(engine, op, ex, &r);
	if (done < 0)
		s3c_error("%s and %s were to change places, which failed (%s), and so did to take "
			  "it back (%s): what is missing of the two is in %s%s",
			  ex->a, ex->b, strerror(-r), strerror(-done), ex->spare,
			  record && done != -EEXIST ? ", and the next mount moves it"
						    : "; rename it");
	if (done >= 0 || done == -EEXIST)
		drop_record(engine, record);
	return done > 0 ? 0 : r;
}

int s3c_engine_exchange(struct s3c_engine *engine, struct s3c_op *op, const char *a, const char *b)
{
	cleanup_free char *spare = NULL;
	struct s3c_hold holds[] = {
		{ .path = a, .below = true, .removes = true, .swaps = true },
		{ .path = b, .below = true, .removes = true, .swaps = true },
		{ .below = true },
	};
	struct s3c_info info;
	int r = s3c_rename_check(engine, a, b);

	if (r == 0)
		r = s3c_rename_check(engine, b, a);
	if (r == 0)
		r = spare_name(a, &spare);
	if (r == 0)
		r = s3c_rename_check(engine, a, spare);
	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (strcmp(a, b) == 0 || s3c_links_same_pair(engine, a, b))
		return s3c_engine_lookup(engine, op, a, &info);
	holds[2].path = spare;
	r = s3c_rename_hold(engine, op, holds, ARRAY_LEN(holds));
	if (r < 0)
		return r;
	r = exchange_held(engine, op, &(struct exchange){ a, b, spare });
	s3c_hold_end(engine, holds, ARRAY_LEN(holds));
	return r;
}

/* After a crash */

struct found {
	uint64_t id;
	char a[S3C_PATH_MAX], b[S3C_PATH_MAX], spare[S3C_PATH_MAX];
};
struct found_list {
	struct found *items;
	size_t count;
};

static bool is_path(const char *path)
{
	return *path && s3c_path_check(path) == 0;
}

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct found_list *list = arg;
	struct found *found;

	(void)sub;
	found = reallocarray(list->items, list->count + 1, sizeof(*found));
	if (!found)
		return -ENOMEM;
	list->items = found;
	found += list->count;
	found->id = id;
	if (result == 0 && s3c_record_get_u8(&reader) == RECORD_VERSION) {
		s3c_record_get_text(&reader, found->a, sizeof(found->a));
		s3c_record_get_text(&reader, found->b, sizeof(found->b));
		s3c_record_get_text(&reader, found->spare, sizeof(found->spare));
		if (!reader.failed && !reader.left && is_path(found->a) && is_path(found->b) &&
		    is_path(found->spare)) {
			list->count++;
			return 0;
		}
	}
	s3c_error("journal: the record of an exchange cannot be read and stays where it is");
	return 0;
}

static int resume(struct s3c_engine *engine, const struct found *found)
{
	struct s3c_hold holds[] = {
		{ .path = found->a, .below = true },
		{ .path = found->b, .below = true },
		{ .path = found->spare, .below = true },
	};
	struct s3c_op op;
	int r;

	s3c_op_init(&op, s3c_engine_deadline(engine));
	r = s3c_rename_hold(engine, &op, holds, ARRAY_LEN(holds));
	if (r == 0) {
		r = put_right(engine, &op, &(struct exchange){ found->a, found->b, found->spare });
		s3c_hold_end(engine, holds, ARRAY_LEN(holds));
	}
	s3c_op_destroy(&op);
	if (r >= 0)
		s3c_info("the exchange of %s and %s, which had been begun, was looked after",
			 found->a, found->b);
	else if (r == -EEXIST)
		s3c_error("%s and %s were changing places when the daemon ended, and both are "
			  "there: what stands in %s is kept, rename it",
			  found->a, found->b, found->spare);
	else
		s3c_error("%s and %s were changing places when the daemon ended, and what stands "
			  "in %s cannot be moved now (%s): the next mount does it",
			  found->a, found->b, found->spare, strerror(-r));
	return r;
}

int s3c_exchange_resume(struct s3c_engine *engine, unsigned *ret_count)
{
	struct found_list list = { 0 };
	unsigned count = 0;
	int r = s3c_record_each(engine->config.journal, S3C_RECORD_EXCHANGE, on_record, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++) {
		int done = resume(engine, &list.items[i]);

		if (done >= 0 || done == -EEXIST)
			drop_record(engine, list.items[i].id);
		count += done >= 0;
	}
	free(list.items);
	if (r == 0)
		*ret_count = count;
	return r;
}
