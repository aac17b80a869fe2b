/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>

#include "http/engine.h"

int s3c_http_timers_reserve(struct s3c_http_timers *timers, size_t total)
{
	struct s3c_http_call **items;
	size_t alloc = timers->alloc > 0 ? timers->alloc : 64;

	if (total <= timers->alloc)
		return 0;
	while (alloc < total)
		alloc *= 2;
	items = reallocarray(timers->items, alloc, sizeof(*items));
	if (items == NULL)
		return -ENOMEM;
	timers->items = items;
	timers->alloc = alloc;
	return 0;
}

static void place(struct s3c_http_timers *timers, size_t index, struct s3c_http_call *call)
{
	timers->items[index] = call;
	call->heap_index = index;
}

static void sift_up(struct s3c_http_timers *timers, size_t index, struct s3c_http_call *call)
{
	while (index > 0 && timers->items[(index - 1) / 2]->wake_ns > call->wake_ns) {
		place(timers, index, timers->items[(index - 1) / 2]);
		index = (index - 1) / 2;
	}
	place(timers, index, call);
}

static void sift_down(struct s3c_http_timers *timers, size_t index, struct s3c_http_call *call)
{
	for (;;) {
		size_t child = 2 * index + 1;

		if (child + 1 < timers->count &&
		    timers->items[child + 1]->wake_ns < timers->items[child]->wake_ns)
			child++;
		if (child >= timers->count || timers->items[child]->wake_ns >= call->wake_ns)
			break;
		place(timers, index, timers->items[child]);
		index = child;
	}
	place(timers, index, call);
}

void s3c_http_timers_add(struct s3c_http_timers *timers, struct s3c_http_call *call)
{
	timers->count++;
	sift_up(timers, timers->count - 1, call);
}

void s3c_http_timers_remove(struct s3c_http_timers *timers, struct s3c_http_call *call)
{
	size_t index = call->heap_index;
	struct s3c_http_call *last;

	if (index == SIZE_MAX)
		return;
	call->heap_index = SIZE_MAX;
	last = timers->items[--timers->count];
	if (last == call)
		return;
	if (index > 0 && timers->items[(index - 1) / 2]->wake_ns > last->wake_ns)
		sift_up(timers, index, last);
	else
		sift_down(timers, index, last);
}
