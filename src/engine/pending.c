/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Names that are ahead of the store: their nodes and records. See pending.h for what they mean;
 * pending_send.c brings them to the store, pending_ops.c has the operations that make them.
 *
 * Text of the records, big-endian, texts length-prefixed; "base" as in record.h:
 *
 *	GONE	= version(1) dir(1) path base count(1) *( op-id size(8) )
 *	DIR	= version(1) flags(1) path entry base
 *	flags	= 1 fresh
 *	entry	= base, of the directory as it is to be
 */
#include "engine/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "engine/record.h"

#define RECORD_VERSION 1
#define FLAG_FRESH 1u
#define DELAY_NS (2 * S3C_NSEC_PER_SEC)

void s3c_pending_init(struct s3c_names *names)
{
	TAILQ_INIT(&names->pendings);
	TAILQ_INIT(&names->queue);
	s3c_waitq_init(&names->send_work);
	s3c_waitq_init(&names->pending_done);
}

void s3c_pending_free(struct s3c_pending *p)
{
	if (!p)
		return;
	s3c_entry_put(p->base);
	s3c_entry_put(p->entry);
	free(p);
}

struct s3c_pending *s3c_pending_add(struct s3c_names *names, struct s3c_node *node,
				    enum s3c_slot_key key)
{
	struct s3c_pending *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->key = key;
	p->id = s3c_durable_id(names->engine);
	s3c_pending_drop_back(names, node, p);
	return p;
}

void s3c_pending_drop_back(struct s3c_names *names, struct s3c_node *node, struct s3c_pending *p)
{
	p->node = node;
	p->born = ++names->pending_born;
	node->pending[p->key] = p;
	TAILQ_INSERT_TAIL(&names->pendings, p, all);
	names->pending_count++;
	for (struct s3c_node *at = node->parent; at; at = at->parent)
		at->pending_below++;
	s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns() + DELAY_NS);
	s3c_flights_stale(names, node->path, false);
	if (node->parent)
		s3c_dir_changed(node->parent);
}

void s3c_pending_lift(struct s3c_names *names, struct s3c_pending *p)
{
	struct s3c_node *node = p->node;

	if (p->queued)
		TAILQ_REMOVE(&names->queue, p, queue);
	p->queued = false;
	TAILQ_REMOVE(&names->pendings, p, all);
	names->pending_count--;
	for (struct s3c_node *at = node->parent; at; at = at->parent)
		at->pending_below--;
	node->pending[p->key] = NULL;
	p->node = NULL;
	if (node->parent)
		s3c_dir_changed(node->parent);
	s3c_flights_stale(names, node->path, false);
	s3c_pending_ended(names, node);
	s3c_waitq_wake_all(&names->pending_done);
}

void s3c_pending_free_all(struct s3c_names *names)
{
	struct s3c_pending *p;

	while ((p = TAILQ_FIRST(&names->pendings))) {
		TAILQ_REMOVE(&names->pendings, p, all);
		p->node->pending[p->key] = NULL;
		s3c_pending_free(p);
	}
	TAILQ_INIT(&names->queue);
	names->pending_count = 0;
}

static void landed(void *arg, int result)
{
	struct s3c_landing *landing = arg;

	s3c_mutex_lock(&landing->lock);
	landing->result = result;
	landing->over = true;
	s3c_waitq_wake_all(&landing->q);
	s3c_mutex_unlock(&landing->lock);
}

void s3c_landing_submit_as(struct s3c_landing *landing, struct s3c_tx *tx, enum s3c_tx_mode mode)
{
	landing->over = false;
	s3c_mutex_init(&landing->lock);
	s3c_waitq_init(&landing->q);
	s3c_tx_submit(tx, mode, landed, landing);
}

void s3c_landing_submit(struct s3c_landing *landing, struct s3c_tx *tx)
{
	s3c_landing_submit_as(landing, tx, S3C_TX_LAZY);
}

int s3c_landing_wait(struct s3c_landing *landing)
{
	int r;

	s3c_mutex_lock(&landing->lock);
	while (!landing->over)
		s3c_waitq_wait(&landing->q, &landing->lock, NULL);
	r = landing->result;
	s3c_mutex_unlock(&landing->lock);
	s3c_mutex_destroy(&landing->lock);
	return r;
}

/* Records */

static int put_u8(struct s3c_buf *text, unsigned value)
{
	return s3c_buf_append_char(text, (char)value);
}

static int put_text(struct s3c_buf *text, const char *value)
{
	size_t len = strlen(value);
	uint8_t bytes[4];
	int r;

	s3c_put_be32(bytes, (uint32_t)len);
	r = s3c_buf_append(text, bytes, sizeof(bytes));
	return r < 0 ? r : s3c_buf_append(text, value, len);
}

static int put_sent(struct s3c_buf *text, const struct s3c_pending *p)
{
	int r = put_u8(text, p->sent_count);

	for (unsigned i = 0; i < p->sent_count && r == 0; i++) {
		uint8_t size[8];

		s3c_put_be64(size, p->sent[i].size);
		r = s3c_buf_append(text, p->sent[i].op_id, S3C_OP_ID_LEN);
		r = r < 0 ? r : s3c_buf_append(text, size, sizeof(size));
	}
	return r;
}

static enum s3c_record_kind kind_of(const struct s3c_pending *p)
{
	return p->make ? S3C_RECORD_DIR : S3C_RECORD_GONE;
}

int s3c_pending_put(struct s3c_pending *p, struct s3c_tx *tx)
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = put_u8(&text, RECORD_VERSION);

	r = r < 0 ? r : put_u8(&text, p->make ? p->fresh * FLAG_FRESH : p->key == S3C_KEY_DIR);
	r = r < 0 ? r : put_text(&text, p->node->path);
	if (r == 0 && p->make)
		r = s3c_record_put_entry(&text, p->entry);
	r = r < 0 ? r : s3c_record_put_entry(&text, p->base);
	if (r == 0 && !p->make)
		r = put_sent(&text, p);
	return r < 0 ? r : s3c_tx_put(tx, kind_of(p), p->id, 0, text.data, text.len);
}

int s3c_pending_unput(const struct s3c_pending *p, struct s3c_tx *tx)
{
	return s3c_tx_delete(tx, kind_of(p), p->id, 0);
}

void s3c_pending_forget(struct s3c_engine *engine, const struct s3c_pending *p)
{
	struct s3c_tx *tx;

	/* One that stays is taken up again, and found done. */
	if (s3c_tx_new(engine->config.journal, &tx) < 0)
		return;
	if (s3c_pending_unput(p, tx) == 0)
		s3c_tx_submit(tx, S3C_TX_LAZY, NULL, NULL);
	else
		s3c_tx_free(tx);
}

static unsigned get_u8(struct s3c_record_reader *reader)
{
	uint8_t byte;

	s3c_record_take(reader, &byte, 1);
	return byte;
}

static void get_path(struct s3c_record_reader *reader, char path[static S3C_PATH_MAX])
{
	uint8_t bytes[4];
	uint32_t len;

	s3c_record_take(reader, bytes, sizeof(bytes));
	len = s3c_get_be32(bytes);
	if (len >= S3C_PATH_MAX)
		reader->failed = true;
	else
		s3c_record_take(reader, path, len);
	path[reader->failed ? 0 : len] = '\0';
}

static void get_sent(struct s3c_record_reader *reader, struct s3c_pending *p)
{
	unsigned count = get_u8(reader);

	if (count > S3C_SENT_MAX) {
		reader->failed = true;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		uint8_t size[8];

		s3c_record_take(reader, p->sent[i].op_id, S3C_OP_ID_LEN);
		s3c_record_take(reader, size, sizeof(size));
		p->sent[i].size = s3c_get_be64(size);
	}
	p->sent_count = count;
}

/* A record without its node; path has its place. */
static int decode(struct s3c_engine *engine, bool make, const uint8_t *data, size_t len,
		  char path[static S3C_PATH_MAX], struct s3c_pending *p)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	unsigned flags;
	int r = 0;

	if (get_u8(&reader) != RECORD_VERSION)
		return reader.failed ? -EBADMSG : -EPROTO;
	flags = get_u8(&reader);
	get_path(&reader, path);
	p->make = make;
	p->key = make || flags ? S3C_KEY_DIR : S3C_KEY_FILE;
	p->fresh = make && (flags & FLAG_FRESH);
	if (make)
		r = s3c_record_get_entry(engine, &reader, path, true, &p->entry);
	if (r == 0)
		r = s3c_record_get_entry(engine, &reader, path, p->key == S3C_KEY_DIR, &p->base);
	if (r == 0 && !make)
		get_sent(&reader, p);
	if (r < 0)
		return r;
	if (reader.failed || reader.left || flags > 1 || (make && !p->entry) ||
	    s3c_path_check(path) < 0)
		return -EBADMSG;
	/* A marker that was under way when the daemon ended may be there. */
	p->tried = make;
	return 0;
}

struct loading {
	struct s3c_engine *engine;
	bool make;
	unsigned count;
};

static int load_one(struct loading *load, uint64_t id, const uint8_t *data, size_t len)
{
	struct s3c_names *names = load->engine->names;
	struct s3c_pending *p = calloc(1, sizeof(*p));
	char path[S3C_PATH_MAX];
	struct s3c_node *node;
	int r = p ? decode(load->engine, load->make, data, len, path, p) : -ENOMEM;

	if (r < 0) {
		s3c_pending_free(p);
		return r;
	}
	p->id = id;
	s3c_mutex_lock(&load->engine->lock);
	node = s3c_node_make(names, path);
	if (node && !node->pending[p->key]) {
		s3c_pending_drop_back(names, node, steal_ptr(p));
		load->count++;
	}
	s3c_mutex_unlock(&load->engine->lock);
	s3c_pending_free(p);
	return node ? 0 : -ENOMEM;
}

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct loading *load = arg;
	int r = result;

	(void)sub;
	if (r == 0)
		r = load_one(load, id, data, len);
	if (r == -EBADMSG || r == -EPROTO) {
		s3c_error("journal: a record of a name cannot be read and stays where it is: %s",
			  r == -EPROTO ? "a newer version wrote it" : "it is damaged");
		return 0;
	}
	return r;
}

int s3c_pending_load(struct s3c_engine *engine, unsigned *ret_names)
{
	struct loading load = { .engine = engine };
	unsigned renames = 0;
	int r = s3c_record_each(engine->config.journal, S3C_RECORD_GONE, on_record, &load);

	load.make = true;
	if (r == 0)
		r = s3c_record_each(engine->config.journal, S3C_RECORD_DIR, on_record, &load);
	if (r == 0)
		r = s3c_rename_resume(engine, &renames);
	if (r == 0)
		*ret_names = load.count + renames;
	return r;
}

/* A change of what NAME/ is to be */

struct dir_change {
	struct s3c_pending before; /* what it was: references are held */
	bool added;
	uint64_t seq;
};

static struct s3c_entry *ref_or_null(struct s3c_entry *entry)
{
	return entry ? s3c_entry_ref(entry) : NULL;
}

static void keep_before(struct dir_change *change, const struct s3c_pending *p)
{
	change->before = *p;
	ref_or_null(p->base);
	ref_or_null(p->entry);
}

static void drop_before(struct dir_change *change)
{
	s3c_entry_put(change->before.base);
	s3c_entry_put(change->before.entry);
}

/* The entry that the directory answers with; the marker will have the same operation id. */
static int dir_entry(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs,
		     struct s3c_entry **ret_entry)
{
	struct s3c_header header = {
		.layout = s3c_sealed_mode(engine) ? S3C_LAYOUT_NONE : S3C_LAYOUT_PLAIN,
		.attrs = *attrs,
	};
	struct s3c_version version = { 0 };

	header.attrs.known = true;
	header.attrs.mode = S_IFDIR | (attrs->mode & 07777);
	s3c_random(header.file_id, sizeof(header.file_id));
	s3c_random(header.content_id, sizeof(header.content_id));
	s3c_random(header.op_id, sizeof(header.op_id));
	return s3c_entry_local(engine, path, true, &header, &version, 0, NULL, ret_entry);
}

/* The marker that was seen in the store; what was only to be written is none. */
static struct s3c_entry *real_marker(const struct s3c_node *node, struct s3c_entry *seen)
{
	if (seen && seen->version.etag[0])
		return s3c_entry_ref(seen);
	if (node->known && node->entry && node->entry->is_dir && !node->entry->implicit)
		return s3c_entry_ref(node->entry);
	return NULL;
}

/* What is pending of NAME/ becomes MAKE with entry, whose reference is taken. Lock held. */
static void become_make(struct s3c_pending *p, struct s3c_entry *entry, bool fresh)
{
	if (p->make) {
		memcpy(entry->header.op_id, p->entry->header.op_id, S3C_OP_ID_LEN);
		s3c_entry_put(p->entry);
	} else {
		/* What was sent of a marker before is of the same operation. */
		if (p->sent_count)
			memcpy(entry->header.op_id, p->sent[0].op_id, S3C_OP_ID_LEN);
		p->tried = p->sent_count > 0;
		p->sent_count = 0;
		p->fresh = fresh;
	}
	p->make = true;
	p->entry = entry;
	p->failures = 0;
	p->seq++;
}

/* Lock held. On success the transaction was given away. */
static int dir_begin(struct s3c_engine *engine, const char *path, struct s3c_entry *entry,
		     struct s3c_entry *base, bool fresh, struct dir_change *change,
		     struct s3c_tx **tx, struct s3c_landing *landing)
{
	struct s3c_names *names = engine->names;
	struct s3c_node *node = s3c_node_make(names, path);
	struct s3c_pending *p = node ? node->pending[S3C_KEY_DIR] : NULL;
	int r = 0;

	if (!node)
		return -ENOMEM;
	change->added = !p;
	if (!p) {
		p = s3c_pending_add(names, node, S3C_KEY_DIR);
		if (!p) {
			s3c_node_prune(names, node);
			return -ENOMEM;
		}
		p->base = fresh ? NULL : real_marker(node, base);
		p->fresh = fresh;
	} else {
		keep_before(change, p);
		if (!p->make)
			r = s3c_pending_unput(p, *tx);
	}
	if (r == 0)
		become_make(p, s3c_entry_ref(entry), fresh);
	change->seq = p->seq;
	if (r == 0)
		r = s3c_pending_put(p, *tx);
	if (r == 0) {
		p->commits++;
		if (p->state == S3C_PENDING_PARKED)
			s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns() + DELAY_NS);
		s3c_landing_submit(landing, steal_ptr(*tx));
		s3c_node_forget(names, node);
		s3c_flights_stale(names, path, false);
		if (node->parent)
			s3c_dir_changed(node->parent);
	}
	return r;
}

/* As it was, unless somebody has changed it since. Lock held. */
static void dir_undo(struct s3c_names *names, const char *path, struct dir_change *change)
{
	struct s3c_node *node = s3c_node_find(names, path);
	struct s3c_pending *p = node ? node->pending[S3C_KEY_DIR] : NULL;

	if (!p || p->seq != change->seq || p->state == S3C_PENDING_RUNNING || p->commits)
		return;
	if (change->added) {
		s3c_pending_lift(names, p);
		s3c_pending_free(p);
		s3c_node_prune(names, node);
		return;
	}
	s3c_entry_put(p->entry);
	s3c_entry_put(p->base);
	p->make = change->before.make;
	p->entry = steal_ptr(change->before.entry);
	p->base = steal_ptr(change->before.base);
	p->fresh = change->before.fresh;
	p->tried = change->before.tried;
	memcpy(p->sent, change->before.sent, sizeof(p->sent));
	p->sent_count = change->before.sent_count;
	p->seq++;
	if (node->parent)
		s3c_dir_changed(node->parent);
}

/* The transaction that dir_begin or no_dir_begin has given away. Lock held, released. */
static int dir_land(struct s3c_engine *engine, const char *path, struct s3c_landing *landing)
{
	struct s3c_pending *p;
	int r;

	s3c_mutex_unlock(&engine->lock);
	r = s3c_landing_wait(landing);
	s3c_mutex_lock(&engine->lock);
	/* Nobody takes it away meanwhile. */
	p = s3c_node_find(engine->names, path)->pending[S3C_KEY_DIR];
	p->commits--;
	if (r == 0)
		s3c_pending_unblock(engine->names, p);
	return r;
}

/* After a failure: whatever is there can go on. Lock held. */
static void dir_settle(struct s3c_names *names, const char *path)
{
	struct s3c_node *node = s3c_node_find(names, path);

	if (node && node->pending[S3C_KEY_DIR])
		s3c_pending_unblock(names, node->pending[S3C_KEY_DIR]);
}

int s3c_pending_dir(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs,
		    struct s3c_entry *base, bool fresh, struct s3c_entry **ret_entry)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	struct dir_change change = { .added = false };
	struct s3c_landing landing;
	struct s3c_tx *tx = NULL;
	int r = dir_entry(engine, path, attrs, &entry);

	if (r == 0)
		r = s3c_tx_new(engine->config.journal, &tx);
	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	r = dir_begin(engine, path, entry, base, fresh, &change, &tx, &landing);
	if (r == 0)
		r = dir_land(engine, path, &landing);
	if (r < 0) {
		dir_undo(engine->names, path, &change);
		dir_settle(engine->names, path);
	}
	s3c_mutex_unlock(&engine->lock);
	drop_before(&change);
	s3c_tx_free(tx);
	if (r == 0 && ret_entry)
		*ret_entry = steal_ptr(entry);
	return r;
}

/* It was made here, and nothing of it has left: nothing is left of it. Lock held, released. */
static int undo_mkdir(struct s3c_engine *engine, struct s3c_node *node, struct s3c_pending *p,
		      struct s3c_tx **tx)
{
	struct s3c_names *names = engine->names;
	struct s3c_landing landing;
	int r = s3c_pending_unput(p, *tx);

	if (r < 0)
		return r;
	s3c_pending_lift(names, p);
	s3c_names_remove_locked(names, node->path);
	s3c_landing_submit(&landing, steal_ptr(*tx));
	s3c_mutex_unlock(&engine->lock);
	r = s3c_landing_wait(&landing);
	s3c_mutex_lock(&engine->lock);
	if (r == 0)
		s3c_pending_free(p);
	else
		s3c_pending_drop_back(names, node, p);
	return r;
}

/* MAKE becomes GONE. Lock held. */
static int become_gone(struct s3c_pending *p, struct s3c_tx *tx)
{
	int r = s3c_pending_unput(p, tx);

	if (r < 0)
		return r;
	p->make = p->fresh = false;
	p->sent_count = p->tried;
	if (p->tried)
		p->sent[0] = (struct s3c_sent){ 0 };
	memcpy(p->sent[0].op_id, p->entry->header.op_id, S3C_OP_ID_LEN);
	s3c_entry_put(steal_ptr(p->entry));
	p->failures = 0;
	p->seq++;
	return 0;
}

/* Lock held, released. */
static int no_dir(struct s3c_engine *engine, struct s3c_node *node, struct s3c_entry *marker,
		  struct dir_change *change, struct s3c_tx **tx)
{
	struct s3c_names *names = engine->names;
	struct s3c_pending *p = node->pending[S3C_KEY_DIR];
	struct s3c_landing landing;
	int r = 0;

	if (p && p->make && !p->tried && !p->base && !p->commits && !node->pending_below)
		return undo_mkdir(engine, node, p, tx);
	marker = p ? NULL : real_marker(node, marker);
	if (!p && !marker && !node->pending_below) {
		s3c_names_remove_locked(names, node->path);
		return 0;
	}
	change->added = !p;
	if (p) {
		keep_before(change, p);
		r = p->make ? become_gone(p, *tx) : 0;
	} else {
		p = s3c_pending_add(names, node, S3C_KEY_DIR);
		if (!p) {
			s3c_entry_put(marker);
			return -ENOMEM;
		}
		p->base = marker;
	}
	change->seq = p->seq;
	if (r == 0)
		r = s3c_pending_put(p, *tx);
	if (r == 0) {
		p->commits++;
		if (p->state == S3C_PENDING_PARKED)
			s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns() + DELAY_NS);
		s3c_names_remove_locked(names, node->path);
		s3c_landing_submit(&landing, steal_ptr(*tx));
		r = dir_land(engine, node->path, &landing);
	}
	if (r < 0) {
		dir_undo(names, node->path, change);
		dir_settle(names, node->path);
		s3c_names_invalidate_locked(names, node->path, true);
	}
	return r;
}

int s3c_pending_no_dir(struct s3c_engine *engine, const char *path, struct s3c_entry *marker)
{
	struct s3c_names *names = engine->names;
	struct dir_change change = { .added = false };
	struct s3c_tx *tx = NULL;
	struct s3c_node *node;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return r;
	/* Small, and what makes room: also on a full disk. */
	s3c_tx_vital(tx);
	s3c_mutex_lock(&engine->lock);
	node = s3c_node_make(names, path);
	if (node) {
		node->pins++;
		r = no_dir(engine, node, marker, &change, &tx);
		node->pins--;
		s3c_node_prune(names, node);
	} else {
		r = -ENOMEM;
	}
	s3c_mutex_unlock(&engine->lock);
	drop_before(&change);
	s3c_tx_free(tx);
	return r;
}

/* The contract of durable.h */

int s3c_pending_take(struct s3c_engine *engine, const char *path, struct s3c_tx *tx,
		     struct s3c_entry **ret_base)
{
	struct s3c_node *node = s3c_node_find(engine->names, path);
	struct s3c_pending *p = node ? node->pending[S3C_KEY_FILE] : NULL;
	int r;

	if (node && node->pending[S3C_KEY_DIR])
		return -EBUSY;
	if (!p) {
		*ret_base = NULL;
		return 0;
	}
	if (p->state == S3C_PENDING_RUNNING || p->commits)
		return -EBUSY;
	r = s3c_pending_unput(p, tx);
	if (r < 0)
		return r;
	*ret_base = steal_ptr(p->base);
	s3c_pending_lift(engine->names, p);
	s3c_pending_free(p);
	s3c_node_prune(engine->names, node);
	return 0;
}

size_t s3c_pending_count(struct s3c_engine *engine)
{
	return engine->names->pending_count;
}

void s3c_pending_each(struct s3c_engine *engine,
		      void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg)
{
	struct s3c_pending *p;

	TAILQ_FOREACH (p, &engine->names->pendings, all) {
		struct s3c_unsent unsent = {
			.path = p->node->path,
			.what = p->make ? S3C_UNSENT_DIR : S3C_UNSENT_REMOVAL,
			.state = p->state == S3C_PENDING_PARKED    ? S3C_UNSENT_PARKED
				 : p->state == S3C_PENDING_RUNNING ? S3C_UNSENT_RUNNING
				 : p->failures                     ? S3C_UNSENT_FAILED
								   : S3C_UNSENT_WAITING,
			.failures = p->failures,
			.result = p->failures ? p->result : 0,
		};

		fn(arg, &unsent);
	}
}

unsigned s3c_pending_retry(struct s3c_engine *engine, const char *path)
{
	struct s3c_names *names = engine->names;
	struct s3c_pending *p;
	unsigned count = 0;

	TAILQ_FOREACH (p, &names->pendings, all) {
		bool failed = p->state == S3C_PENDING_PARKED ||
			      (p->state == S3C_PENDING_WAITING && p->failures);

		if (!failed || (path && strcmp(p->node->path, path) != 0))
			continue;
		s3c_pending_enqueue(names, p, 0);
		count++;
	}
	s3c_waitq_wake_all(&names->send_work);
	return count;
}

int s3c_pending_discard(struct s3c_engine *engine, const char *path, struct s3c_tx *tx)
{
	struct s3c_names *names = engine->names;
	struct s3c_node *node = s3c_node_find(names, path);
	bool any = false;
	int r = 0;

	for (unsigned key = 0; node && key < 2; key++) {
		const struct s3c_pending *p = node->pending[key];

		if (!p)
			continue;
		any = true;
		if (p->state == S3C_PENDING_RUNNING || p->commits)
			return -EBUSY;
		r = s3c_pending_unput(p, tx);
		if (r < 0)
			return r;
	}
	if (!any)
		return -ENOENT;
	node->pins++;
	for (unsigned key = 0; key < 2; key++) {
		struct s3c_pending *p = node->pending[key];

		if (!p)
			continue;
		s3c_pending_lift(names, p);
		s3c_pending_free(p);
	}
	s3c_names_invalidate_locked(names, path, true);
	node->pins--;
	s3c_node_prune(names, node);
	return 0;
}
