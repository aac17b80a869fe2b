/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/snapshot.h"

#include <errno.h>
#include <string.h>

/* Names are offsets until the draft is finished. */
struct s3c_draft_item {
	size_t name;
	mode_t type;
	struct s3c_detail detail;
};

struct s3c_snapshot *s3c_snapshot_ref(struct s3c_snapshot *snap)
{
	__atomic_fetch_add(&snap->refs, 1, __ATOMIC_RELAXED);
	return snap;
}

void s3c_snapshot_put(struct s3c_snapshot *snap)
{
	if (!snap || __atomic_sub_fetch(&snap->refs, 1, __ATOMIC_ACQ_REL))
		return;
	free((void *)snap->base.items);
	free(snap->details);
	free(snap->arena);
	free(snap);
}

void s3c_listing_put(struct s3c_listing *listing)
{
	if (listing)
		s3c_snapshot_put(container_of(listing, struct s3c_snapshot, base));
}

void s3c_draft_init(struct s3c_draft *draft)
{
	*draft = (struct s3c_draft){ 0 };
	s3c_buf_init(&draft->names, SIZE_MAX / 2);
}

void s3c_draft_free(struct s3c_draft *draft)
{
	free(draft->items);
	s3c_buf_free(&draft->names);
}

int s3c_draft_add(struct s3c_draft *draft, const char *name, size_t len, mode_t type,
		  const struct s3c_detail *detail)
{
	struct s3c_draft_item *item;
	int r;

	if (draft->count == draft->alloc) {
		size_t alloc = draft->alloc ? draft->alloc * 2 : 32;

		item = reallocarray(draft->items, alloc, sizeof(*item));
		if (!item)
			return -ENOMEM;
		draft->items = item;
		draft->alloc = alloc;
	}
	item = &draft->items[draft->count];
	item->name = draft->names.len;
	item->type = type;
	item->detail = *detail;
	r = s3c_buf_append(&draft->names, name, len);
	if (r == 0)
		r = s3c_buf_append_char(&draft->names, '\0');
	if (r == 0)
		draft->count++;
	return r;
}

/* A directory comes before a file of the same name, which is then dropped. */
static int compare_items(const void *a, const void *b, void *arena)
{
	const struct s3c_draft_item *x = a;
	const struct s3c_draft_item *y = b;
	int r = strcmp((const char *)arena + x->name, (const char *)arena + y->name);

	return r ? r : (int)y->detail.is_dir - (int)x->detail.is_dir;
}

static int compare_names(const void *name, const void *item)
{
	return strcmp(name, ((const struct s3c_listing_item *)item)->name);
}

/* An instruction file sorts after its object: notes it there. */
static bool is_instruction(const char *name, const struct s3c_listing_item *items,
			   struct s3c_detail *details, size_t count)
{
	const struct s3c_listing_item *found;
	cleanup_free char *stem = NULL;
	size_t len;

	if (!s3c_s3ec_is_instruction(name, &len))
		return false;
	stem = strndup(name, len);
	found = stem ? bsearch(stem, items, count, sizeof(*items), compare_names) : NULL;
	if (!found || details[found - items].is_dir)
		return false;
	details[found - items].instruction = true;
	return true;
}

int s3c_draft_finish(struct s3c_draft *draft, struct s3c_snapshot **ret_snap)
{
	struct s3c_snapshot *snap = calloc(1, sizeof(*snap));
	struct s3c_listing_item *items = calloc(draft->count + 1, sizeof(*items));
	size_t count = 0;

	if (snap)
		snap->details = calloc(draft->count + 1, sizeof(*snap->details));
	if (!snap || !items || !snap->details) {
		if (snap)
			free(snap->details);
		free(snap);
		free(items);
		return -ENOMEM;
	}
	if (draft->count)
		qsort_r(draft->items, draft->count, sizeof(*draft->items), compare_items,
			draft->names.data);
	snap->bytes = sizeof(*snap) + draft->names.len +
		      draft->count * (sizeof(*items) + sizeof(*snap->details));
	snap->arena = steal_ptr(draft->names.data);
	for (size_t i = 0; i < draft->count; i++) {
		const struct s3c_draft_item *from = &draft->items[i];
		const char *name = snap->arena + from->name;

		if (count && strcmp(items[count - 1].name, name) == 0)
			continue;
		if (draft->pairs && !from->detail.is_dir &&
		    is_instruction(name, items, snap->details, count))
			continue;
		items[count].name = name;
		items[count].type = from->type;
		snap->details[count++] = from->detail;
	}
	snap->base.items = items;
	snap->base.count = count;
	snap->refs = 1;
	snap->has_marker = draft->has_marker;
	draft->names = (struct s3c_buf){ 0 };
	*ret_snap = snap;
	return 0;
}

size_t s3c_snapshot_find(const struct s3c_snapshot *snap, const char *name)
{
	size_t low = 0, high = snap->base.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int r = strcmp(snap->base.items[mid].name, name);

		if (r == 0)
			return mid;
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return SIZE_MAX;
}
