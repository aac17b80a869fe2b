/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/volume_store.h"

#include <errno.h>
#include <string.h>

#define VOLUME_MAX (256u << 10) /* bytes of a volume object */

void s3c_found_volume_free(struct s3c_found_volume *found)
{
	s3c_buf_free(&found->body);
	s3c_stat_free(&found->st);
	free(found->prefix);
}

const char *s3c_prefix_shown(const char *prefix)
{
	return *prefix ? prefix : "the bucket's root";
}

int s3c_volume_read_named(const struct s3c_volume_request *rq, struct s3c_op *op,
			  const char *prefix, const char *name, struct s3c_err *err,
			  struct s3c_found_volume *found)
{
	cleanup_free char *key = s3c_asprintf("%s%s", prefix, name);
	struct s3c_stat st = { 0 };
	char message[512] = "";
	int r;

	if (!key)
		return s3c_err_set(err, -ENOMEM, "no memory");
	if (strlen(key) > S3C_STORE_KEY_MAX)
		return s3c_err_set(err, -ENAMETOOLONG, "the prefix %s is too long", prefix);
	r = s3c_store_get_all(rq->store, key, NULL, VOLUME_MAX, op, &found->body, &st, message,
			      sizeof(message));
	if (r == -ENOENT)
		return r;
	if (r == -EMSGSIZE)
		return s3c_err_set(err, -EBADMSG, "%s is far too large for a volume object", key);
	if (r < 0) {
		s3c_store_explain(rq->store, r, message, err);
		return s3c_err_prefix(err, r, "cannot read %s", key);
	}
	s3c_stat_free(&found->st);
	found->st = st;
	free(found->prefix);
	found->prefix = strdup(prefix);
	return found->prefix ? 0 : s3c_err_set(err, -ENOMEM, "no memory");
}

int s3c_volume_read(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		    struct s3c_err *err, struct s3c_found_volume *found)
{
	return s3c_volume_read_named(rq, op, prefix, S3C_VOLUME_NAME, err, found);
}

int s3c_volume_put_named(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
			 const char *name, const struct s3c_buf *body, const char *if_match,
			 struct s3c_err *err)
{
	cleanup_free char *key = s3c_asprintf("%s%s", prefix, name);
	struct iovec iov = { .iov_base = body->data, .iov_len = body->len };
	struct s3c_store_request put = {
		.op = S3C_STORE_PUT,
		.key = key,
		.body = &iov,
		.body_count = 1,
	};
	struct s3c_store_reply reply;
	int r;

	if (!key)
		return s3c_err_set(err, -ENOMEM, "no memory");
	if (!if_match)
		put.condition.if_none_match = rq->store->caps.put_if_none_match;
	else if (rq->store->caps.put_if_match && *if_match)
		put.condition.if_match = if_match;
	r = s3c_store_perform(rq->store, &put, op, &reply);
	/* Someone else was faster, or a repeat met our own: what stands there is read back. */
	if (r == -EEXIST || r == -ESTALE)
		r = 0;
	if (r < 0) {
		s3c_store_explain(rq->store, r, reply.message, err);
		s3c_err_prefix(err, r, "cannot write %s", key);
	}
	s3c_store_reply_free(&reply);
	return r;
}

int s3c_volume_put(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		   const struct s3c_buf *body, const char *if_match, struct s3c_err *err)
{
	return s3c_volume_put_named(rq, op, prefix, S3C_VOLUME_NAME, body, if_match, err);
}

int s3c_volume_replace(const struct s3c_volume_request *rq, struct s3c_op *op,
		       struct s3c_found_volume *found, const struct s3c_buf *body,
		       struct s3c_err *err)
{
	cleanup_free char *prefix = strdup(found->prefix);
	int r;

	if (!prefix)
		return s3c_err_set(err, -ENOMEM, "no memory");
	r = s3c_volume_put(rq, op, prefix, body, found->st.version.etag, err);
	if (r == 0)
		r = s3c_volume_read(rq, op, prefix, err, found);
	return r == -ENOENT ? s3c_err_set(err, r, "the volume object at %s has vanished",
					  s3c_prefix_shown(prefix))
			    : r;
}
