/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/util.h"

#define SLAB_PAGES 64u
#define POOL_MIN 32u
/* Transfers of up to this size share buffers that are kept: a segment and 64 KiB of trailer. */
#define BUFFER_LEN ((size_t)S3C_SEGMENT_STRIDE + 65536)
#define BUFFER_SMALL (1u << 20)
/* What was read ahead and not used for so long is nobody's. */
#define AHEAD_STALE_NS (5 * S3C_NSEC_PER_SEC)

struct s3c_slab {
	struct s3c_slab *next;
	uint8_t *data;
	struct s3c_page pages[SLAB_PAGES];
};

struct s3c_transfer_buffer {
	struct s3c_transfer_buffer *next;
};

void s3c_memory_init(struct s3c_memory *mem, uint64_t bytes, bool (*evict)(struct s3c_page *))
{
	uint64_t rest;

	memset(mem, 0, sizeof(*mem));
	mem->evict = evict;
	bytes = S3C_MIN(bytes, SIZE_MAX / 2);
	mem->transfer_limit = (size_t)S3C_MAX(bytes / 4, (uint64_t)BUFFER_LEN);
	rest = bytes > mem->transfer_limit ? (bytes - mem->transfer_limit) / 2 : 0;
	rest = S3C_MAX(rest / S3C_CHUNK_STRIDE, (uint64_t)POOL_MIN);
	mem->limit[S3C_PAGE_READ] = mem->limit[S3C_PAGE_DIRTY] = (size_t)rest;
	for (unsigned i = 0; i < S3C_LIST_COUNT; i++)
		TAILQ_INIT(&mem->lists[i]);
	TAILQ_INIT(&mem->free);
	s3c_waitq_init(&mem->admit_wait);
	s3c_waitq_init(&mem->read_wait);
	s3c_waitq_init(&mem->dirty_wait);
	s3c_waitq_init(&mem->transfer_wait);
}

void s3c_memory_destroy(struct s3c_memory *mem)
{
	while (mem->slabs) {
		struct s3c_slab *slab = mem->slabs;

		mem->slabs = slab->next;
		munmap(slab->data, (size_t)SLAB_PAGES * S3C_CHUNK_STRIDE);
		free(slab);
	}
	while (mem->spare) {
		struct s3c_transfer_buffer *buffer = mem->spare;

		mem->spare = buffer->next;
		free(buffer);
	}
}

static int slab_add(struct s3c_memory *mem)
{
	size_t len = (size_t)SLAB_PAGES * S3C_CHUNK_STRIDE;
	struct s3c_slab *slab = calloc(1, sizeof(*slab));
	void *data;

	if (!slab)
		return -ENOMEM;
	data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		free(slab);
		return -ENOMEM;
	}
	/* Plaintext of files: none of it in a core dump. */
	madvise(data, len, MADV_DONTDUMP);
	slab->data = data;
	slab->next = mem->slabs;
	mem->slabs = slab;
	for (unsigned i = 0; i < SLAB_PAGES; i++) {
		slab->pages[i].data = slab->data + (size_t)i * S3C_CHUNK_STRIDE;
		TAILQ_INSERT_TAIL(&mem->free, &slab->pages[i], link);
	}
	return 0;
}

static int page_new(struct s3c_memory *mem, enum s3c_page_pool pool, struct s3c_page **ret_page)
{
	struct s3c_page *page = TAILQ_FIRST(&mem->free);
	uint8_t *data;
	uint32_t used;

	if (!page) {
		int r = slab_add(mem);

		if (r < 0)
			return r;
		page = TAILQ_FIRST(&mem->free);
	}
	TAILQ_REMOVE(&mem->free, page, link);
	data = page->data;
	/* What is brought comes from outside, whole; what is written tells how much it was. */
	used = pool == S3C_PAGE_READ ? S3C_CHUNK_STRIDE : page->used;
	*page = (struct s3c_page){ .data = data, .pool = pool, .used = used };
	mem->used[pool]++;
	*ret_page = page;
	return 0;
}

static bool evict_from(struct s3c_memory *mem, enum s3c_page_list list)
{
	struct s3c_page *page;

	TAILQ_FOREACH (page, &mem->lists[list], link)
		if (mem->evict(page))
			return true;
	return false;
}

static bool evict_stale(struct s3c_memory *mem)
{
	struct s3c_page *page = TAILQ_FIRST(&mem->lists[S3C_LIST_AHEAD]);

	return page && s3c_clock_monotonic_ns() - page->stamp_ns > AHEAD_STALE_NS &&
	       mem->evict(page);
}

int s3c_page_take(struct s3c_memory *mem, enum s3c_page_take how, struct s3c_page **ret_page)
{
	enum s3c_page_pool pool = how == S3C_TAKE_DIRTY ? S3C_PAGE_DIRTY : S3C_PAGE_READ;

	if (mem->used[pool] < mem->limit[pool])
		return page_new(mem, pool, ret_page);
	if (pool == S3C_PAGE_DIRTY)
		return -EAGAIN;
	if (how == S3C_TAKE_AHEAD && !s3c_waitq_empty(&mem->read_wait))
		return -EAGAIN;
	/* More than one: the pool may be over its limit. */
	while (mem->used[pool] >= mem->limit[pool])
		if (!evict_from(mem, S3C_LIST_USED) &&
		    !(how == S3C_TAKE_DEMAND ? evict_from(mem, S3C_LIST_AHEAD) : evict_stale(mem)))
			return -EAGAIN;
	return page_new(mem, pool, ret_page);
}

static void wake_for(struct s3c_memory *mem, enum s3c_page_pool pool)
{
	s3c_waitq_wake_all(pool == S3C_PAGE_DIRTY ? &mem->dirty_wait : &mem->read_wait);
}

void s3c_page_free(struct s3c_memory *mem, struct s3c_page *page)
{
	mem->used[page->pool]--;
	TAILQ_INSERT_HEAD(&mem->free, page, link);
	wake_for(mem, page->pool);
}

static void unlist(struct s3c_memory *mem, struct s3c_page *page)
{
	if (!page->listed)
		return;
	TAILQ_REMOVE(&mem->lists[page->list], page, link);
	mem->listed[page->list]--;
	page->listed = false;
}

void s3c_page_relist(struct s3c_memory *mem, struct s3c_page *page)
{
	unlist(mem, page);
	if (page->pins || !page->object)
		return;
	if (page->pool == S3C_PAGE_DIRTY)
		page->list = page->sent ? S3C_LIST_SENT : S3C_LIST_DIRTY;
	else
		page->list = page->ahead ? S3C_LIST_AHEAD : S3C_LIST_USED;
	TAILQ_INSERT_TAIL(&mem->lists[page->list], page, link);
	mem->listed[page->list]++;
	page->listed = true;
	wake_for(mem, page->pool);
}

void s3c_page_pin(struct s3c_memory *mem, struct s3c_page *page)
{
	if (page->pins++ == 0)
		unlist(mem, page);
}

void s3c_page_unpin(struct s3c_memory *mem, struct s3c_page *page)
{
	if (--page->pins)
		return;
	if (page->object)
		s3c_page_relist(mem, page);
	else
		s3c_page_free(mem, page);
}

int s3c_page_to_dirty(struct s3c_memory *mem, struct s3c_page *page)
{
	if (page->pool == S3C_PAGE_DIRTY)
		return 0;
	if (mem->used[S3C_PAGE_DIRTY] >= mem->limit[S3C_PAGE_DIRTY])
		return -EAGAIN;
	mem->used[S3C_PAGE_READ]--;
	mem->used[S3C_PAGE_DIRTY]++;
	page->pool = S3C_PAGE_DIRTY;
	page->ahead = false;
	wake_for(mem, S3C_PAGE_READ);
	s3c_page_relist(mem, page);
	return 0;
}

void s3c_page_to_read(struct s3c_memory *mem, struct s3c_page *page)
{
	if (page->pool == S3C_PAGE_READ)
		return;
	mem->used[S3C_PAGE_DIRTY]--;
	mem->used[S3C_PAGE_READ]++;
	page->pool = S3C_PAGE_READ;
	page->ahead = false;
	wake_for(mem, S3C_PAGE_DIRTY);
	s3c_page_relist(mem, page);
}

void s3c_memory_trim(struct s3c_memory *mem)
{
	while (mem->used[S3C_PAGE_READ] > mem->limit[S3C_PAGE_READ])
		if (!evict_from(mem, S3C_LIST_USED))
			return;
}

size_t s3c_memory_demand_room(const struct s3c_memory *mem)
{
	size_t used = mem->used[S3C_PAGE_READ], limit = mem->limit[S3C_PAGE_READ];
	size_t room = limit + mem->listed[S3C_LIST_USED] + mem->listed[S3C_LIST_AHEAD];

	return room > used ? room - used : 0;
}

size_t s3c_memory_ahead_room(struct s3c_memory *mem)
{
	size_t used = mem->used[S3C_PAGE_READ], limit = mem->limit[S3C_PAGE_READ];
	size_t room = used < limit ? limit - used : 0;

	/* Those who wait for what they need come first. */
	if (!s3c_waitq_empty(&mem->read_wait))
		return 0;
	while (room < limit / 2 && evict_stale(mem))
		room++;
	room += mem->listed[S3C_LIST_USED];
	return used > limit && room < used - limit ? 0 : room - (used > limit ? used - limit : 0);
}

bool s3c_memory_dirty_room(const struct s3c_memory *mem, size_t pages)
{
	return mem->used[S3C_PAGE_DIRTY] + pages <= mem->limit[S3C_PAGE_DIRTY];
}

int s3c_memory_admit(struct s3c_memory *mem, struct s3c_mutex *lock, struct s3c_op *op, size_t n)
{
	while (mem->admitted && mem->admitted + n > mem->limit[S3C_PAGE_READ]) {
		int r = s3c_waitq_wait(&mem->admit_wait, lock, op);

		if (r < 0)
			return r;
	}
	mem->admitted += n;
	return 0;
}

void s3c_memory_leave(struct s3c_memory *mem, size_t n)
{
	mem->admitted -= n;
	s3c_waitq_wake_all(&mem->admit_wait);
}

static bool is_kept(size_t len)
{
	return len > BUFFER_SMALL && len <= BUFFER_LEN;
}

int s3c_transfer_begin(struct s3c_memory *mem, struct s3c_mutex *lock, size_t len,
		       uint8_t **ret_buffer)
{
	uint64_t turn = mem->transfer_next++;
	struct s3c_transfer_buffer *spare = NULL;
	uint8_t *buffer;

	while (turn != mem->transfer_turn ||
	       (mem->transfer_used && mem->transfer_used + len > mem->transfer_limit))
		s3c_waitq_wait(&mem->transfer_wait, lock, NULL);
	mem->transfer_turn++;
	mem->transfer_used += len;
	if (is_kept(len) && mem->spare) {
		spare = mem->spare;
		mem->spare = spare->next;
		mem->spare_count--;
	}
	while (mem->spare &&
	       mem->transfer_used + mem->spare_count * BUFFER_LEN > mem->transfer_limit) {
		struct s3c_transfer_buffer *buf = mem->spare;

		mem->spare = buf->next;
		mem->spare_count--;
		free(buf);
	}
	s3c_waitq_wake_all(&mem->transfer_wait);
	buffer = (uint8_t *)spare;
	if (!buffer)
		buffer = malloc(is_kept(len) ? BUFFER_LEN : S3C_MAX(len, sizeof(*spare)));
	if (!buffer) {
		mem->transfer_used -= len;
		s3c_waitq_wake_all(&mem->transfer_wait);
		return -ENOMEM;
	}
	*ret_buffer = buffer;
	return 0;
}

void s3c_transfer_end(struct s3c_memory *mem, uint8_t *buffer, size_t len)
{
	struct s3c_transfer_buffer *spare = (struct s3c_transfer_buffer *)buffer;

	mem->transfer_used -= len;
	if (is_kept(len) &&
	    mem->transfer_used + (mem->spare_count + 1) * BUFFER_LEN <= mem->transfer_limit) {
		spare->next = mem->spare;
		mem->spare = spare;
		mem->spare_count++;
	} else {
		free(buffer);
	}
	s3c_waitq_wake_all(&mem->transfer_wait);
}
