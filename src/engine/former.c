/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/former.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "engine/volume_store.h"

int s3c_former_read(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		    struct s3c_err *err, struct s3c_volume *volume)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	cleanup_volume struct s3c_volume *former = NULL;
	struct s3c_err why = { 0 };
	int r = s3c_volume_read_named(rq, op, prefix, S3C_VOLUME_FORMER_NAME, err, &found);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	r = s3c_volume_open(found.body.data, found.body.len, rq->keyring, &why, &former);
	if (r == -ENOMEM)
		return s3c_err_set(err, r, "no memory");
	/* The option's check was for enc=sse-c: keys go over no plain HTTP, here either. */
	if (r == 0 && !rq->store->tls)
		r = s3c_err_set(&why, -EPERM,
				"their keys are never sent over plain HTTP: use an "
				"https:// endpoint");
	if (r == 0 && (former->family != S3C_FAMILY_SSEC ||
		       memcmp(former->id, volume->id, sizeof(former->id)) != 0))
		r = s3c_err_set(&why, -EKEYREJECTED, "it is not of this volume");
	/* What it is for is given up, and nothing else. */
	if (r < 0)
		s3c_warn("files of the time when the volume at %s was one of enc=sse-c cannot be "
			 "read: %s%s: %s",
			 s3c_prefix_shown(prefix), prefix, S3C_VOLUME_FORMER_NAME,
			 s3c_err_text(&why, r));
	else
		volume->former = steal_ptr(former);
	return 0;
}

/* The volume of sse-c that is to be followed; NULL: there is nothing to be done. */
static int find_ssec(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		     struct s3c_found_volume *found, struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = s3c_volume_find(rq, op, err, found);

	if (r < 0 || !found->prefix || !s3c_volume_says_ssec(found->body.data, found->body.len))
		return r;
	r = s3c_volume_open(found->body.data, found->body.len, rq->keyring, err, &volume);
	if (r < 0)
		return s3c_err_prefix(err, r, "the volume at %s", s3c_prefix_shown(found->prefix));
	r = s3c_volume_check_id(rq, volume, found->prefix, err);
	if (r < 0)
		return r;
	if (strcmp(found->prefix, rq->prefix) != 0)
		return s3c_err_set(
			err, -EINVAL,
			"%s is only a part of the volume at %s, which is of one mode as a "
			"whole: name all of it",
			s3c_prefix_shown(rq->prefix), s3c_prefix_shown(found->prefix));
	if (volume->ssec_missing)
		return s3c_err_set(err, -EKEYREJECTED,
				   "the volume at %s has objects under keys that the keyring does "
				   "not have (%s): add them first",
				   s3c_prefix_shown(found->prefix), volume->ssec_missing);
	if (!rq->store->tls)
		return s3c_err_set(err, -EPERM,
				   "the objects of enc=sse-c are read with their keys, which are "
				   "never sent over plain HTTP: use an https:// endpoint");
	if (!rq->store->caps.put_if_none_match)
		return s3c_err_set(err, -EOPNOTSUPP,
				   "to change the mode of a volume needs a store that honours "
				   "If-None-Match, and this one does not: copy the files from a "
				   "mount in one mode to a mount of another prefix in the other");
	*ret_volume = steal_ptr(volume);
	return 0;
}

/* The one body that takes the place: this one's, or that of whoever was first. */
static int settle_next(const struct s3c_volume_request *rq, struct s3c_op *op,
		       const struct s3c_volume *ssec, struct s3c_err *err,
		       struct s3c_found_volume *next)
{
	cleanup_volume struct s3c_volume *volume = NULL, *stored = NULL;
	cleanup_buf struct s3c_buf body = { 0 };
	int r = s3c_volume_create_after(ssec, rq->keyring, err, &volume, &body);

	if (r == 0)
		r = s3c_volume_put_named(rq, op, rq->prefix, S3C_VOLUME_NEXT_NAME, &body, NULL,
					 err);
	if (r == 0)
		r = s3c_volume_read_named(rq, op, rq->prefix, S3C_VOLUME_NEXT_NAME, err, next);
	if (r == -ENOENT)
		return s3c_err_set(err, -EAGAIN,
				   "another machine migrates the volume at %s at the same time: "
				   "try again",
				   s3c_prefix_shown(rq->prefix));
	if (r == 0)
		r = s3c_volume_open(next->body.data, next->body.len, rq->keyring, err, &stored);
	if (r < 0)
		return s3c_err_prefix(err, r, "%s%s", rq->prefix, S3C_VOLUME_NEXT_NAME);
	r = s3c_volume_check_kind(rq, stored, rq->prefix, err);
	if (r == 0 && memcmp(stored->id, ssec->id, sizeof(stored->id)) != 0)
		r = s3c_err_set(err, -EKEYREJECTED, "%s%s is not of this volume: delete it",
				rq->prefix, S3C_VOLUME_NEXT_NAME);
	return r;
}

static int delete_next(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err)
{
	cleanup_free char *key = s3c_asprintf("%s%s", rq->prefix, S3C_VOLUME_NEXT_NAME);
	struct s3c_store_request delete = { .op = S3C_STORE_DELETE, .key = key };
	struct s3c_store_reply reply;
	int r;

	if (!key)
		return s3c_err_set(err, -ENOMEM, "no memory");
	r = s3c_store_perform(rq->store, &delete, op, &reply);
	if (r < 0 && r != -ENOENT)
		s3c_store_explain(rq->store, r, reply.message, err);
	s3c_store_reply_free(&reply);
	return r == -ENOENT ? 0 : r;
}

/* What the volume was, for its objects. */
static int keep_former(const struct s3c_volume_request *rq, struct s3c_op *op,
		       const struct s3c_found_volume *found, struct s3c_err *err)
{
	return s3c_volume_put_named(rq, op, rq->prefix, S3C_VOLUME_FORMER_NAME, &found->body, "",
				    err);
}

static int replace(const struct s3c_volume_request *rq, struct s3c_op *op,
		   struct s3c_found_volume *found, const struct s3c_volume *ssec,
		   struct s3c_err *err)
{
	cleanup_found struct s3c_found_volume next = { 0 };
	cleanup_volume struct s3c_volume *again = NULL;
	cleanup_buf struct s3c_buf body = { 0 };
	bool raised = false;
	int r = keep_former(rq, op, found, err);

	if (r == 0)
		r = settle_next(rq, op, ssec, err, &next);
	s3c_found_volume_free(found);
	*found = (struct s3c_found_volume){ 0 };
	if (r == 0)
		r = find_ssec(rq, op, err, found, &again);
	/* Whoever deleted another volume.next before this one had put it in place. */
	if (r < 0 || !again)
		return r;
	/* A mount may have added a key meanwhile. */
	if (again->serial != ssec->serial)
		r = keep_former(rq, op, found, err);
	if (r == 0)
		r = s3c_volume_raise_serial(next.body.data, next.body.len, rq->keyring,
					    again->serial, err, &raised, &body);
	if (r == 0)
		r = s3c_volume_replace(rq, op, found, raised ? &body : &next.body, err);
	/* volume.next stays: it is the one, at the next try. */
	if (r == 0 && s3c_volume_says_ssec(found->body.data, found->body.len))
		r = s3c_err_set(err, -EAGAIN,
				"the volume at %s was changed by another machine at the same time: "
				"try again",
				s3c_prefix_shown(rq->prefix));
	return r;
}

static int migrate(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		   bool *ret_changed)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	cleanup_volume struct s3c_volume *ssec = NULL;
	int r = find_ssec(rq, op, err, &found, &ssec);

	if (r == 0 && ssec && rq->encrypted_names)
		r = s3c_err_set(err, -EINVAL,
				"the volume at %s has plain names, which never changes: leave out "
				"names=encrypted",
				s3c_prefix_shown(rq->prefix));
	if (r < 0 || !found.prefix)
		return r;
	if (ssec)
		r = replace(rq, op, &found, ssec, err);
	/* Of one who was killed, too: in a volume of cse it is of no use to anybody. */
	if (r == 0)
		r = delete_next(rq, op, err);
	*ret_changed = r == 0 && ssec;
	return r;
}

int s3c_engine_volume_migrate(const struct s3c_volume_request *request, struct s3c_err *err,
			      bool *ret_changed)
{
	struct s3c_op op;
	int r;

	*ret_changed = false;
	if (s3c_enc_family(request->enc) != S3C_FAMILY_CSE)
		return 0;
	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = migrate(request, &op, err, ret_changed);
	s3c_op_destroy(&op);
	return r < 0 ? s3c_err_set(err, r, "the volume object cannot be changed: %s", strerror(-r))
		     : 0;
}
