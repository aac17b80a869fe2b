/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

static struct s3c_meta_item *meta_find(const struct s3c_meta *meta, const char *name)
{
	for (size_t i = 0; i < meta->count; i++)
		if (strcmp(meta->items[i].name, name) == 0)
			return &meta->items[i];
	return NULL;
}

int s3c_meta_set(struct s3c_meta *meta, const char *name, const char *value)
{
	cleanup_free char *new_name = NULL;
	cleanup_free char *new_value = strdup(value);
	struct s3c_meta_item *item = meta_find(meta, name);

	if (!new_value)
		return -ENOMEM;
	if (item) {
		free(item->value);
		item->value = steal_ptr(new_value);
		return 0;
	}
	new_name = strdup(name);
	if (!new_name)
		return -ENOMEM;
	item = reallocarray(meta->items, meta->count + 1, sizeof(*item));
	if (!item)
		return -ENOMEM;
	meta->items = item;
	item += meta->count++;
	item->name = steal_ptr(new_name);
	item->value = steal_ptr(new_value);
	return 0;
}

const char *s3c_meta_get(const struct s3c_meta *meta, const char *name)
{
	const struct s3c_meta_item *item = meta_find(meta, name);

	return item ? item->value : NULL;
}

void s3c_meta_remove(struct s3c_meta *meta, const char *name)
{
	struct s3c_meta_item *item = meta_find(meta, name);

	if (!item)
		return;
	free(item->name);
	free(item->value);
	*item = meta->items[--meta->count];
}

int s3c_meta_copy(const struct s3c_meta *from, struct s3c_meta *ret_meta)
{
	struct s3c_meta copy = { 0 };

	for (size_t i = 0; i < from->count; i++) {
		int r = s3c_meta_set(&copy, from->items[i].name, from->items[i].value);

		if (r < 0) {
			s3c_meta_free(&copy);
			return r;
		}
	}
	*ret_meta = copy;
	return 0;
}

void s3c_meta_free(struct s3c_meta *meta)
{
	for (size_t i = 0; i < meta->count; i++) {
		free(meta->items[i].name);
		free(meta->items[i].value);
	}
	free(meta->items);
	*meta = (struct s3c_meta){ 0 };
}

void s3c_etag_bare(const char *etag, char ret_bare[static S3C_STORE_ETAG_MAX])
{
	size_t len = strlen(etag);
	bool quoted = len >= 2 && etag[0] == '"' && etag[len - 1] == '"';

	snprintf(ret_bare, S3C_STORE_ETAG_MAX, "%.*s", (int)(quoted ? len - 2 : len),
		 etag + quoted);
}

void s3c_stat_free(struct s3c_stat *st)
{
	s3c_meta_free(&st->meta);
	s3c_meta_free(&st->props);
}

void s3c_list_free(struct s3c_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->entries[i].key);
	free(list->entries);
	free(list->next_token);
	*list = (struct s3c_list){ 0 };
}

void s3c_part_list_free(struct s3c_part_list *list)
{
	free(list->parts);
	*list = (struct s3c_part_list){ 0 };
}

void s3c_upload_list_free(struct s3c_upload_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].key);
		free(list->items[i].id);
	}
	free(list->items);
	free(list->next_token);
	*list = (struct s3c_upload_list){ 0 };
}

void s3c_store_reply_free(struct s3c_store_reply *reply)
{
	s3c_stat_free(&reply->stat);
	s3c_list_free(&reply->list);
	s3c_part_list_free(&reply->parts);
	s3c_upload_list_free(&reply->uploads);
	free(reply->upload_id);
	reply->upload_id = NULL;
}

static int check_key(const char *key)
{
	if (!key || !key[0])
		return -EINVAL;
	return strlen(key) > S3C_STORE_KEY_MAX ? -ENAMETOOLONG : 0;
}

/* Header values lose blanks at their ends on the way, and anything else is a forged header. */
static bool is_header_value(const char *value)
{
	size_t len = strlen(value);

	if (len && (value[0] == ' ' || value[len - 1] == ' '))
		return false;
	for (; *value; value++)
		if (*value < ' ' || *value > '~')
			return false;
	return true;
}

bool s3c_meta_item_valid(const struct s3c_meta_item *item)
{
	return item->name[0] &&
	       !item->name[strspn(item->name, "abcdefghijklmnopqrstuvwxyz0123456789-")] &&
	       is_header_value(item->value);
}

size_t s3c_meta_bytes(const struct s3c_meta *meta)
{
	size_t bytes = 0;

	for (size_t i = 0; i < meta->count; i++)
		bytes += strlen(meta->items[i].name) + strlen(meta->items[i].value);
	return bytes;
}

static int check_meta(const struct s3c_meta *meta)
{
	for (size_t i = 0; meta && i < meta->count; i++)
		if (!s3c_meta_item_valid(&meta->items[i]))
			return -EINVAL;
	return meta && s3c_meta_bytes(meta) > S3C_STORE_META_MAX ? -E2BIG : 0;
}

const char *const s3c_prop_names[] = { "content-type",
				       "cache-control",
				       "content-disposition",
				       "content-encoding",
				       "content-language",
				       "expires",
				       NULL };

static int check_props(const struct s3c_meta *props)
{
	for (size_t i = 0; props && i < props->count; i++) {
		const char *const *name = s3c_prop_names;

		while (*name && strcmp(*name, props->items[i].name) != 0)
			name++;
		if (!*name || !is_header_value(props->items[i].value))
			return -EINVAL;
	}
	return 0;
}

static int check_upload(const struct s3c_store_request *rq)
{
	bool part = rq->op == S3C_STORE_UPLOAD_PART || rq->op == S3C_STORE_UPLOAD_PART_COPY;

	if (rq->op < S3C_STORE_UPLOAD_PART)
		return 0;
	if (!rq->upload_id || !rq->upload_id[0])
		return -EINVAL;
	if (rq->part_number > 10000 || (part && rq->part_number < 1))
		return -EINVAL;
	if (rq->op != S3C_STORE_UPLOAD_COMPLETE)
		return 0;
	if (!rq->part_count || !rq->parts || rq->part_count > 10000)
		return -EINVAL;
	for (size_t i = 0; i < rq->part_count; i++)
		if (rq->parts[i].number < 1 || rq->parts[i].number > 10000 ||
		    (i && rq->parts[i].number <= rq->parts[i - 1].number))
			return -EINVAL;
	return 0;
}

static int check_source(const struct s3c_store_request *rq)
{
	if (rq->op != S3C_STORE_COPY && rq->op != S3C_STORE_UPLOAD_PART_COPY)
		return 0;
	if (rq->source_if_match && !is_header_value(rq->source_if_match))
		return -EINVAL;
	if (rq->op == S3C_STORE_UPLOAD_PART_COPY &&
	    (!rq->length || rq->length == UINT64_MAX || rq->offset > UINT64_MAX - rq->length))
		return -EINVAL;
	return check_key(rq->source_key);
}

static int check_request(const struct s3c_store_request *rq)
{
	int r;

	if (rq->op == S3C_STORE_LIST)
		return rq->max_keys > 1000 ? -EINVAL : 0;
	if (rq->op == S3C_STORE_LIST_UPLOADS)
		return 0;
	if (rq->op == S3C_STORE_DELETE_MANY) {
		if (!rq->key_count || rq->key_count > 1000)
			return -EINVAL;
		for (size_t i = 0; i < rq->key_count; i++) {
			r = check_key(rq->keys[i]);
			if (r < 0)
				return r;
		}
		return 0;
	}
	r = check_key(rq->key);
	if (r < 0)
		return r;
	if (rq->condition.if_match &&
	    (rq->condition.if_none_match || !is_header_value(rq->condition.if_match)))
		return -EINVAL;
	if (rq->op == S3C_STORE_GET && !rq->suffix && !rq->length)
		return -EINVAL;
	if (rq->content_type && !is_header_value(rq->content_type))
		return -EINVAL;
	r = check_source(rq);
	if (r < 0)
		return r;
	r = check_upload(rq);
	if (r < 0)
		return r;
	r = check_props(rq->props);
	return r < 0 ? r : check_meta(rq->meta);
}

void s3c_store_count(const struct s3c_store_request *request, int result, int64_t begun_ns,
		     uint64_t received)
{
	bool body = request->op == S3C_STORE_PUT || request->op == S3C_STORE_UPLOAD_PART;
	uint64_t sent = 0;

	for (unsigned i = 0; body && i < request->body_count; i++)
		sent += request->body[i].iov_len;
	s3c_count(S3C_COUNT_STORE_REQUESTS, request->op, s3c_label_result(result), 1);
	s3c_time(S3C_TIME_STORE_REQUESTS, request->op, s3c_clock_monotonic_ns() - begun_ns);
	s3c_count(S3C_COUNT_STORE_SENT, 0, 0, sent);
	s3c_count(S3C_COUNT_STORE_RECEIVED, 0, 0, received);
}

int s3c_store_submit(struct s3c_store *store, const struct s3c_store_request *request,
		     s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	int r = check_request(request);

	return r < 0 ? r : store->ops->submit(store, request, done, arg, ret_call);
}

void s3c_store_cancel(struct s3c_store *store, struct s3c_store_call *call)
{
	store->ops->cancel(store, call);
}

void s3c_store_call_put(struct s3c_store *store, struct s3c_store_call *call)
{
	if (call)
		store->ops->call_put(store, call);
}

void s3c_store_refresh(struct s3c_store *store)
{
	if (store->ops->refresh)
		store->ops->refresh(store);
}

void s3c_store_free(struct s3c_store *store)
{
	if (store)
		store->ops->free(store);
}

struct waiting {
	struct s3c_mutex lock;
	struct s3c_waitq woken; /* guarded by lock, as the rest */
	bool done;
	struct s3c_store_reply *reply;
};

static void perform_done(void *arg, struct s3c_store_reply *reply)
{
	struct waiting *w = arg;

	s3c_mutex_lock(&w->lock);
	*w->reply = *reply;
	/* All of it is taken: nothing is left for the store to free. */
	reply->stat.meta = (struct s3c_meta){ 0 };
	reply->stat.props = (struct s3c_meta){ 0 };
	reply->list = (struct s3c_list){ 0 };
	reply->parts = (struct s3c_part_list){ 0 };
	reply->uploads = (struct s3c_upload_list){ 0 };
	reply->upload_id = NULL;
	w->done = true;
	s3c_waitq_wake_all(&w->woken);
	s3c_mutex_unlock(&w->lock);
}

static bool changes_objects(enum s3c_store_opcode op)
{
	switch (op) {
	case S3C_STORE_GET:
	case S3C_STORE_HEAD:
	case S3C_STORE_LIST:
	case S3C_STORE_LIST_UPLOADS:
	case S3C_STORE_UPLOAD_PARTS:
	case S3C_STORE_UPLOAD_ABORT: /* what it has of us goes */
		return false;
	default:
		return true;
	}
}

static void distrust(struct s3c_store *store, const char *message)
{
	if (atomic_exchange(&store->distrusted, true))
		return;
	s3c_error("%s: what it stored may not be encrypted: nothing more is written, this mount is "
		  "read-only from now on; check the store and what it has under that key, then "
		  "mount again",
		  message);
}

int s3c_store_perform(struct s3c_store *store, const struct s3c_store_request *request,
		      struct s3c_op *op, struct s3c_store_reply *ret_reply)
{
	struct s3c_store_request rq = *request;
	struct waiting w = { .reply = ret_reply };
	struct s3c_store_call *call = NULL;
	int ended = 0;
	int r;

	*ret_reply = (struct s3c_store_reply){ 0 };
	if (op && (!rq.deadline_ns || op->deadline_ns < rq.deadline_ns))
		rq.deadline_ns = op->deadline_ns;
	s3c_mutex_init(&w.lock);
	s3c_waitq_init(&w.woken);
	r = atomic_load(&store->distrusted) && changes_objects(rq.op)
		    ? -EROFS
		    : s3c_store_submit(store, &rq, perform_done, &w, &call);
	if (r < 0) {
		ret_reply->result = r;
		snprintf(ret_reply->message, sizeof(ret_reply->message), "%s: refused: %s",
			 rq.key ? rq.key : "request", strerror(-r));
		goto out;
	}
	s3c_mutex_lock(&w.lock);
	while (!w.done) {
		r = s3c_waitq_wait(&w.woken, &w.lock, ended ? NULL : op);
		if (r == 0)
			continue;
		/* The callback still comes, and soon: what it uses stands on our stack. */
		ended = r;
		s3c_mutex_unlock(&w.lock);
		s3c_store_cancel(store, call);
		s3c_mutex_lock(&w.lock);
	}
	s3c_mutex_unlock(&w.lock);
	if (ended && ret_reply->result == -ECANCELED)
		ret_reply->result = ended;
	r = ret_reply->result;
	if (r == -EBADE)
		distrust(store, ret_reply->message);
out:
	s3c_store_call_put(store, call);
	s3c_mutex_destroy(&w.lock);
	return r;
}

static int buf_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		     uint64_t total)
{
	struct s3c_buf *body = arg;

	(void)st;
	(void)offset;
	(void)total;
	s3c_buf_reset(body);
	if (length > (body->max ? body->max : S3C_BUF_DEFAULT_MAX))
		return -EMSGSIZE;
	return s3c_buf_reserve(body, (size_t)length);
}

static int buf_data(void *arg, const void *data, size_t len)
{
	return s3c_buf_append(arg, data, len);
}

struct s3c_store_sink s3c_store_buf_sink(struct s3c_buf *body)
{
	return (struct s3c_store_sink){ buf_begin, buf_data, body };
}

int s3c_store_get_all(struct s3c_store *store, const char *key, const struct s3c_ssec *ssec,
		      size_t max, struct s3c_op *op, struct s3c_buf *ret_body,
		      struct s3c_stat *ret_stat, char *ret_message, size_t message_size)
{
	cleanup_buf struct s3c_buf body = { 0 };
	struct s3c_store_reply reply;
	struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.key = key,
		.ssec = ssec,
		.length = UINT64_MAX,
		.sink = s3c_store_buf_sink(&body),
	};
	int r;

	if (!max)
		return -EINVAL;
	s3c_buf_init(&body, max);
	r = s3c_store_perform(store, &rq, op, &reply);
	if (ret_message && message_size)
		snprintf(ret_message, message_size, "%s", reply.message);
	if (r == 0) {
		s3c_buf_free(ret_body);
		*ret_body = body;
		body = (struct s3c_buf){ 0 };
		if (ret_stat) {
			*ret_stat = reply.stat;
			reply.stat.meta = (struct s3c_meta){ 0 };
			reply.stat.props = (struct s3c_meta){ 0 };
		}
	}
	s3c_store_reply_free(&reply);
	return r;
}
