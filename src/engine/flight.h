/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A flight: the store is asked for one name, once for all who look it up at that time. lookup.c
 * decides when and with what it begins; flight.c has its steps. For those two alone.
 */
#pragma once

#include "engine/pending.h"

#include <stdatomic.h>

/* What is asked: sets of these. */
#define ASK_TAIL 1u
#define ASK_HEAD 2u
#define ASK_LIST 4u
#define ASK_MARKER 8u
#define ASK_INSTRUCTION 16u
#define ASK_KINDS 5u
#define STEPS_MAX 6u

struct answer {
	bool asked;
	int result;
	struct s3c_stat st;
	uint8_t *tail; /* of a GET */
	size_t tail_len;
	bool found, marker; /* of a LIST */
	char message[512];
};

struct s3c_flight {
	struct s3c_job job;
	struct s3c_engine *engine;
	char *path, *key, *dir_key; /* dir_key NULL: too long for a directory */
	char *instruction_key;      /* NULL: not asked for */
	struct s3c_ssec *ssec;      /* two of them, or NULL */
	const struct s3c_ssec *key_ssec, *dir_ssec;
	int64_t started_ns;
	bool prefetch;
	enum s3c_listed listed;
	struct s3c_entry *prior;

	/* Guarded by engine->lock. */
	struct s3c_node *node; /* pinned */
	unsigned refs;
	TAILQ_ENTRY(s3c_flight) link;
	struct s3c_waitq waiters;
	unsigned waiting;
	bool done, stale, cancelled;
	int result;
	struct s3c_entry *entry;
	struct s3c_refusal refusal; /* result 0: none; what the result says of the object */
	struct s3c_store_call *calls[ASK_KINDS * STEPS_MAX];
	unsigned call_count;

	/* Belongs to the worker, or to the requests while some are under way. */
	atomic_uint pending;
	unsigned steps;
	bool looked_again; /* after a rollback */
	bool new_epoch;    /* an object is of one that is not known */
	bool may_wait;     /* it runs as a task, for that */
	struct answer object, list, dir, instruction;
};

/* A flight at the node, counted and with one reference, without a request. Lock held. */
int s3c_flight_new(struct s3c_names *names, struct s3c_node *node, bool prefetch,
		   struct s3c_flight **ret_flight);
/* Sends the requests of a step; the flight ends by itself. Lock not held. */
void s3c_flight_ask(struct s3c_flight *f, unsigned asks);
/* Lock not held. */
void s3c_flight_unref(struct s3c_flight *f);
