/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A store around another one: a test says what becomes of requests, all else goes through. */
#pragma once

#include "store/store.h"

typedef int (*through_submit_fn)(struct s3c_store *store, const struct s3c_store_request *request,
				 s3c_store_done_fn done, void *arg,
				 struct s3c_store_call **ret_call);

struct through {
	struct s3c_store base;
	struct s3c_store_ops ops;
	struct s3c_store *inner;
};

static inline struct s3c_store *through_inner(struct s3c_store *store)
{
	return container_of(store, struct through, base)->inner;
}

static inline void through_cancel(struct s3c_store *store, struct s3c_store_call *call)
{
	s3c_store_cancel(through_inner(store), call);
}

static inline void through_call_put(struct s3c_store *store, struct s3c_store_call *call)
{
	s3c_store_call_put(through_inner(store), call);
}

static inline void through_free(struct s3c_store *store)
{
	s3c_store_free(through_inner(store));
	free(container_of(store, struct through, base));
}

/* Takes inner over. submit hands on with s3c_store_submit(through_inner(store), ...). */
static inline struct s3c_store *through_new(struct s3c_store *inner, through_submit_fn submit)
{
	struct through *through = calloc(1, sizeof(*through));

	assert_non_null(through);
	through->ops = (struct s3c_store_ops){
		.name = "through",
		.submit = submit,
		.cancel = through_cancel,
		.call_put = through_call_put,
		.free = through_free,
	};
	through->base = *inner;
	through->base.ops = &through->ops;
	through->inner = inner;
	return &through->base;
}
