/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A store that injects faults into the one that it wraps, for tests. Rules are
 * matched in order; each counts down. Thread-safe.
 */
#pragma once

#include "store/store.h"

enum s3c_fault_kind {
	S3C_FAULT_FAIL,    /* not passed on; the result given */
	S3C_FAULT_LOST,    /* passed on, then the result given instead of the answer */
	S3C_FAULT_CORRUPT, /* a GET's body: one bit is flipped at offset */
	S3C_FAULT_CUT,     /* a GET's body ends early at offset, with -ECONNRESET */
	S3C_FAULT_STALL,   /* held until s3c_store_fault_release, the deadline, or a cancellation */
};
struct s3c_fault_rule {
	enum s3c_store_opcode op;
	const char *key_substring; /* NULL: any */
	enum s3c_fault_kind kind;
	int result;      /* -errno for FAIL and LOST */
	uint64_t offset; /* in the reply's body */
	unsigned after;  /* let so many matching requests pass first */
	unsigned times;  /* 0: for ever */
};
/* Takes inner over. */
int s3c_store_fault_new(struct s3c_store *inner, struct s3c_store **ret_store);
int s3c_store_fault_add(struct s3c_store *store, const struct s3c_fault_rule *rule);
void s3c_store_fault_clear(struct s3c_store *store);
void s3c_store_fault_release(struct s3c_store *store);
/* Requests that were held so far. */
uint64_t s3c_store_fault_stalled(struct s3c_store *store);
/* Requests passed on so far, by kind. */
uint64_t s3c_store_fault_count(struct s3c_store *store, enum s3c_store_opcode op);
