/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Deleting many keys by few requests: a LIST that says which of them still stand in the version
 * that is to go, and right after it one DELETE of those. DeleteObjects has no condition that
 * stores honour, so this is for what has none one by one either, and for the names that files of
 * this machine had for a moment (pending.h, `moved`).
 */
#include "engine/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 1000u
/* LISTs that a batch may take: a LIST costs more than a HEAD. */
#define PAGES_LEAST 4u
#define LOOKS_A_PAGE 16u /* and one more for so many keys */

static int by_key(const void *a, const void *b)
{
	const struct s3c_gone *left = a, *right = b;

	return strcmp(left->key, right->key);
}

/* The first len bytes of a key, or fewer where that would cut a character. NULL: no memory. */
static char *head_of(const char *key, size_t len)
{
	while (len && ((unsigned char)key[len] & 0xc0) == 0x80)
		len--;
	return strndup(key, len);
}

/* What all keys begin with: they are in order, so first and last tell. */
static char *common_prefix(const struct s3c_gone *items, size_t count)
{
	const char *first = items[0].key, *last = items[count - 1].key;
	size_t len = 0;

	while (first[len] && first[len] == last[len])
		len++;
	return head_of(first, len);
}

/* Compares a page with the items from *at on. The others of its keys are nobody's business. */
static void look_at_page(const struct s3c_list *list, struct s3c_gone *items, size_t count,
			 size_t *at)
{
	for (size_t i = 0; i < list->count && *at < count; i++) {
		const struct s3c_list_entry *found = &list->entries[i];
		int order = strcmp(items[*at].key, found->key);

		for (; order < 0; order = strcmp(items[*at].key, found->key)) {
			items[*at].state = S3C_GONE_DONE;
			if (++*at == count)
				return;
		}
		if (order > 0)
			continue;
		if (items[*at].base && s3c_etag_equal(items[*at].base->version.etag, found->etag))
			items[*at].state = S3C_GONE_STANDS;
		++*at;
	}
}

int s3c_keys_look(struct s3c_engine *engine, struct s3c_gone *items, size_t count)
{
	unsigned pages = PAGES_LEAST + (unsigned)(count / LOOKS_A_PAGE);
	cleanup_free char *prefix = NULL;
	size_t at = 0;

	qsort(items, count, sizeof(*items), by_key);
	prefix = common_prefix(items, count);
	if (!prefix)
		return -ENOMEM;
	while (at < count && pages--) {
		cleanup_free char *place = head_of(items[at].key, strlen(items[at].key) - 1);
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_request rq = {
			.op = S3C_STORE_LIST,
			.prefix = prefix,
			.start_after = place && *place ? place : NULL,
			.max_keys = PAGE,
		};
		int r = place ? s3c_request(engine, &rq, NULL, &reply) : -ENOMEM;

		if (r < 0)
			return r;
		look_at_page(&reply.list, items, count, &at);
		if (reply.list.next_token)
			continue;
		for (; at < count; at++)
			items[at].state = S3C_GONE_DONE;
	}
	return 0;
}

/* Is it the request that failed, not one of its keys? */
static bool all_failed(int r)
{
	return r == -ENOMEM || (s3c_result_lost(r) && r != -EPROTO && r != -EIO);
}

static int delete_standing(struct s3c_engine *engine, struct s3c_gone *items, size_t count)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	const char *keys[S3C_GONE_BATCH];
	struct s3c_store_request rq = { .op = S3C_STORE_DELETE_MANY, .keys = keys };
	int r;

	for (size_t i = 0; i < count; i++)
		if (items[i].state == S3C_GONE_STANDS)
			keys[rq.key_count++] = items[i].key;
	if (!rq.key_count)
		return 0;
	r = s3c_request(engine, &rq, NULL, &reply);
	if (r < 0)
		s3c_debug("delete of %zu keys: %s", rq.key_count, reply.message);
	for (size_t i = 0; i < count; i++)
		if (items[i].state == S3C_GONE_STANDS)
			items[i].state = r < 0 ? S3C_GONE_UNDECIDED : S3C_GONE_DONE;
	/* Which keys it was about is not told: each is asked for alone. */
	return all_failed(r) ? r : 0;
}

int s3c_gone_batch(struct s3c_engine *engine, struct s3c_gone *items, size_t count,
		   const char **ret_what)
{
	int r;

	*ret_what = "list";
	r = s3c_keys_look(engine, items, count);
	if (r < 0)
		return r;
	/* What is not there yet may come, and what is there is not to be deleted before that: by
	   itself it is settled first. */
	for (size_t i = 0; i < count; i++)
		if ((items[i].state == S3C_GONE_DONE && s3c_unsettled_at(engine, items[i].key)) ||
		    s3c_overdue_at(engine, items[i].key))
			items[i].state = S3C_GONE_UNDECIDED;
	*ret_what = "delete";
	return delete_standing(engine, items, count);
}
