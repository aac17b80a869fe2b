/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The buffers of the engine and their budgets.
 *
 * memory= is split into three pools: dirty (bytes that exist here only), read
 * (bytes that can be had again: from the store or from the spill file) and
 * transfers (bodies of uploads). A transfer gets a quarter, but at least one
 * segment with a trailer; the others share the rest, at least 32 chunks each.
 *
 * All functions want engine->lock held, unless they say otherwise; those that
 * wait release it.
 *
 * Who waits for whom: writers wait for dirty pages, which are freed by uploads
 * and by the spill file; uploads and writers wait for read pages; nobody who
 * holds a read page or a transfer waits for a dirty one. A reader is admitted
 * with the number of chunks that it needs before it takes or pins the first, so
 * that readers together never need more than the pool has.
 */
#pragma once

#include "base/thread.h"
#include "object/geometry.h"

struct s3c_object;

enum s3c_page_pool { S3C_PAGE_READ, S3C_PAGE_DIRTY };
enum s3c_page_take {
	S3C_TAKE_DEMAND, /* of the read pool; takes from what was read ahead, if need be */
	S3C_TAKE_AHEAD,  /* of the read pool; only what is free or was used */
	S3C_TAKE_DIRTY,
};
enum s3c_page_list {
	S3C_LIST_USED,  /* read pool */
	S3C_LIST_AHEAD, /* read pool: read ahead, not used yet */
	S3C_LIST_DIRTY, /* dirty pool */
	S3C_LIST_SENT,  /* dirty pool: in a part of an upload that is not complete */
	S3C_LIST_COUNT
};

/*
 * One chunk in memory. On a list exactly while it is idle (pins == 0) and belongs to a slot
 * (object != NULL); the oldest is the head. Its data has 65,536 valid bytes then, zeros past the
 * end of the file. Many files are small: `used` spares them the rest of the page, which then is
 * neither cleared, nor written to the spill file, nor given memory by the kernel.
 */
struct s3c_page {
	uint8_t *data;             /* S3C_CHUNK_STRIDE bytes: ciphertext is opened in place */
	struct s3c_object *object; /* NULL: belongs to a fetch, or its slot let go of it */
	uint64_t chunk;
	uint32_t used; /* from this byte on the data is zero; in a free page too */
	unsigned pins; /* readers, and one for each writing, sealing and spilling */
	unsigned writing, sealing;
	bool spilling;
	bool fresh;       /* being written for the first time: its bytes are not there yet */
	bool ahead, sent; /* choose the list */
	bool listed;
	enum s3c_page_pool pool;
	enum s3c_page_list list;
	int64_t stamp_ns; /* when it was read ahead */
	TAILQ_ENTRY(s3c_page) link;
};
TAILQ_HEAD(s3c_page_head, s3c_page);

struct s3c_slab;
struct s3c_transfer_buffer;
struct s3c_memory {
	size_t limit[2], used[2]; /* pages, by pool */
	struct s3c_page_head lists[S3C_LIST_COUNT];
	size_t listed[S3C_LIST_COUNT];
	struct s3c_page_head free;
	struct s3c_slab *slabs;
	/* Takes a page of the read pool from its slot; false: somebody is about to use it. */
	bool (*evict)(struct s3c_page *page);

	int64_t ahead_short_ns; /* when somebody last found none to read ahead, 0: never */

	size_t admitted; /* chunks */
	struct s3c_waitq admit_wait, read_wait, dirty_wait;

	size_t transfer_limit, transfer_used;
	uint64_t transfer_next, transfer_turn; /* first come, first served */
	struct s3c_waitq transfer_wait;
	struct s3c_transfer_buffer *spare; /* one segment each */
	size_t spare_count;
};

void s3c_memory_init(struct s3c_memory *mem, uint64_t bytes, bool (*evict)(struct s3c_page *));
void s3c_memory_destroy(struct s3c_memory *mem);

/* -EAGAIN: none to be had now; -ENOMEM. The page is unpinned, on no list. */
int s3c_page_take(struct s3c_memory *mem, enum s3c_page_take how, struct s3c_page **ret_page);
/* A page without slot and pins. */
void s3c_page_free(struct s3c_memory *mem, struct s3c_page *page);
void s3c_page_pin(struct s3c_memory *mem, struct s3c_page *page);
/* The last pin of a page without slot frees it. */
void s3c_page_unpin(struct s3c_memory *mem, struct s3c_page *page);
/* Puts an idle page on the list that its flags name, at the end; takes it off when it has pins. */
void s3c_page_relist(struct s3c_memory *mem, struct s3c_page *page);
/* -EAGAIN: the dirty pool is full. */
int s3c_page_to_dirty(struct s3c_memory *mem, struct s3c_page *page);
/* May leave the read pool over its limit: s3c_memory_trim when the page is on its list. */
void s3c_page_to_read(struct s3c_memory *mem, struct s3c_page *page);
void s3c_memory_trim(struct s3c_memory *mem);
/* Pages that S3C_TAKE_DEMAND can have now, at most. */
size_t s3c_memory_demand_room(const struct s3c_memory *mem);
/* Pages that S3C_TAKE_AHEAD can have now. */
size_t s3c_memory_ahead_room(struct s3c_memory *mem);
bool s3c_memory_dirty_room(const struct s3c_memory *mem, size_t pages);

/* Waits until n chunks more may be needed by readers. */
int s3c_memory_admit(struct s3c_memory *mem, struct s3c_mutex *lock, struct s3c_op *op, size_t n);
void s3c_memory_leave(struct s3c_memory *mem, size_t n);

/* A buffer for an upload; waits for its turn. One that is larger than the pool waits until it is
   alone. Not interrupted. -ENOMEM. */
int s3c_transfer_begin(struct s3c_memory *mem, struct s3c_mutex *lock, size_t len,
		       uint8_t **ret_buffer);
void s3c_transfer_end(struct s3c_memory *mem, uint8_t *buffer, size_t len);
