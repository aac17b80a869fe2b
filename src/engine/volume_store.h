/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Reading the volume object and writing it, conditionally. All may wait; with sentences. */
#pragma once

#include "engine/engine.h"

struct s3c_found_volume {
	struct s3c_buf body;
	struct s3c_stat st;
	char *prefix; /* NULL: there is none */
};
void s3c_found_volume_free(struct s3c_found_volume *found);
#define cleanup_found __attribute__((cleanup(s3c_found_volume_free)))

/* For sentences. */
const char *s3c_prefix_shown(const char *prefix);
/* The volume object of that very prefix. -ENOENT: there is none, without a sentence. */
int s3c_volume_read(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		    struct s3c_err *err, struct s3c_found_volume *found);
/* if_match NULL: where there is none. 0 also when the condition was refused: it is to be read back.
 */
int s3c_volume_put(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		   const struct s3c_buf *body, const char *if_match, struct s3c_err *err);
/* The same of another object beside it. */
int s3c_volume_read_named(const struct s3c_volume_request *rq, struct s3c_op *op,
			  const char *prefix, const char *name, struct s3c_err *err,
			  struct s3c_found_volume *found);
int s3c_volume_put_named(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
			 const char *name, const struct s3c_buf *body, const char *if_match,
			 struct s3c_err *err);
/* Stores a changed body and reads it back. found: in, what was read; out, what stands there. */
int s3c_volume_replace(const struct s3c_volume_request *rq, struct s3c_op *op,
		       struct s3c_found_volume *found, const struct s3c_buf *body,
		       struct s3c_err *err);

/* mount.c */

/* The nearest volume object, from the prefix up to the root of the bucket. None: found->prefix
   NULL. */
int s3c_volume_find(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		    struct s3c_found_volume *found);
/* Opened, and of the kind that is asked for, and the one that this machine knows there. */
int s3c_volume_open_found(const struct s3c_volume_request *rq, struct s3c_op *op,
			  const struct s3c_found_volume *found, struct s3c_err *err,
			  struct s3c_volume **ret_volume);
/* Two steps of that. */
int s3c_volume_check_kind(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
			  const char *prefix, struct s3c_err *err);
int s3c_volume_check_id(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
			const char *prefix, struct s3c_err *err);
/* This machine knows it from here on. */
int s3c_volume_pin(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
		   struct s3c_err *err);
