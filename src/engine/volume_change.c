/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Volume objects with something changed: conditionally, and read back. */
#include "engine/volume_store.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

static int drop_key(const struct s3c_volume_request *rq, struct s3c_op *op, const char *key_id,
		    struct s3c_err *err, struct s3c_found_volume *found, size_t *ret_removed)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_buf struct s3c_buf body = { 0 }, more = { 0 };
	size_t removed = 0;
	int r = s3c_volume_find(rq, op, err, found);

	if (r == 0 && !found->prefix)
		r = -ENOENT;
	if (r == 0)
		r = s3c_volume_open_found(rq, op, found, err, &volume);
	if (r == 0)
		r = s3c_volume_remove_key(found->body.data, found->body.len, rq->keyring, key_id,
					  err, &removed, &body);
	if (r < 0 || !removed)
		return r;
	*ret_removed = removed;
	r = s3c_volume_replace(rq, op, found, &body, err);
	if (r == 0)
		r = s3c_volume_remove_key(found->body.data, found->body.len, rq->keyring, key_id,
					  err, &removed, &more);
	if (r == 0 && removed)
		return s3c_err_set(err, -EAGAIN,
				   "the volume at %s was changed by another machine at the same "
				   "time: try again",
				   s3c_prefix_shown(found->prefix));
	return r;
}

int s3c_engine_volume_drop_key(const struct s3c_volume_request *request, const char *key_id,
			       struct s3c_err *err, size_t *ret_removed)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	*ret_removed = 0;
	r = drop_key(request, &op, key_id, err, &found, ret_removed);
	s3c_op_destroy(&op);
	return r < 0 ? s3c_err_set(err, r, "the volume object cannot be changed: %s", strerror(-r))
		     : 0;
}

static int begin_epoch(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		       struct s3c_found_volume *found, struct s3c_volume **ret_volume)
{
	cleanup_buf struct s3c_buf body = { 0 };
	uint32_t epoch = 0;
	int r = s3c_volume_find(rq, op, err, found);

	if (r == 0 && !found->prefix)
		r = s3c_err_set(err, -ENOENT, "there is no volume at %s",
				s3c_prefix_shown(rq->prefix));
	if (r == 0)
		r = s3c_volume_open_found(rq, op, found, err, ret_volume);
	if (r == 0)
		r = s3c_volume_begin_epoch(found->body.data, found->body.len, rq->keyring,
					   s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC, err, &epoch,
					   &body);
	if (r < 0 || !body.len)
		return r;
	r = s3c_volume_replace(rq, op, found, &body, err);
	if (r < 0)
		return r;
	s3c_volume_free(*ret_volume);
	*ret_volume = NULL;
	r = s3c_volume_open_found(rq, op, found, err, ret_volume);
	/* Of another machine, which was faster, it is as good. */
	if (r == 0 && (*ret_volume)->epoch < epoch)
		r = s3c_err_set(err, -EAGAIN,
				"the volume at %s was changed by another machine at the same time: "
				"try again",
				s3c_prefix_shown(found->prefix));
	return r < 0 ? r : s3c_volume_pin(rq, *ret_volume, err);
}

int s3c_engine_volume_begin_epoch(const struct s3c_volume_request *request, struct s3c_err *err,
				  struct s3c_volume **ret_volume)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	cleanup_volume struct s3c_volume *volume = NULL;
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = begin_epoch(request, &op, err, &found, &volume);
	s3c_op_destroy(&op);
	if (r < 0)
		return s3c_err_set(err, r, "the volume object cannot be changed: %s", strerror(-r));
	*ret_volume = steal_ptr(volume);
	return 0;
}

static int drop_epochs(const struct s3c_volume_request *rq, struct s3c_op *op, uint32_t newest,
		       struct s3c_err *err, struct s3c_found_volume *found, size_t *ret_dropped)
{
	cleanup_volume struct s3c_volume *volume = NULL, *after = NULL;
	cleanup_buf struct s3c_buf body = { 0 };
	int r = s3c_volume_find(rq, op, err, found);

	if (r == 0 && !found->prefix)
		r = -ENOENT;
	if (r == 0)
		r = s3c_volume_open_found(rq, op, found, err, &volume);
	/* Another one was begun meanwhile: objects are of this one. */
	if (r == 0 && volume->epoch != newest)
		return 0;
	if (r == 0)
		r = s3c_volume_drop_epochs(found->body.data, found->body.len, rq->keyring, err,
					   ret_dropped, &body);
	if (r < 0 || !body.len)
		return r;
	r = s3c_volume_replace(rq, op, found, &body, err);
	if (r == 0)
		r = s3c_volume_open_found(rq, op, found, err, &after);
	if (r == 0 && atomic_load(&after->newest)->older) {
		*ret_dropped = 0;
		r = s3c_err_set(err, -EAGAIN,
				"the volume at %s was changed by another machine at the same time: "
				"try again",
				s3c_prefix_shown(found->prefix));
	}
	return r;
}

int s3c_engine_volume_drop_epochs(const struct s3c_volume_request *request, uint32_t newest,
				  struct s3c_err *err, size_t *ret_dropped)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	size_t dropped = 0;
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = drop_epochs(request, &op, newest, err, &found, &dropped);
	s3c_op_destroy(&op);
	if (r < 0)
		return s3c_err_set(err, r, "the volume object cannot be changed: %s", strerror(-r));
	*ret_dropped = dropped;
	return 0;
}

static int export_body(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		       struct s3c_found_volume *found)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = s3c_volume_find(rq, op, err, found);

	if (r == 0 && !found->prefix)
		r = s3c_err_set(err, -ENOENT, "there is no volume at %s",
				s3c_prefix_shown(rq->prefix));
	return r < 0 ? r : s3c_volume_open_found(rq, op, found, err, &volume);
}

int s3c_engine_volume_export(const struct s3c_volume_request *request, struct s3c_err *err,
			     struct s3c_buf *ret_body)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = export_body(request, &op, err, &found);
	s3c_op_destroy(&op);
	return r < 0 ? r : s3c_buf_append(ret_body, found.body.data, found.body.len);
}

/* Is what stands there in the way? 0: it is gone, or of no use. */
static int check_present(const struct s3c_volume_request *rq, const struct s3c_found_volume *found,
			 const struct s3c_volume *backup, struct s3c_err *err)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r;

	if (!found->prefix)
		return 0;
	r = s3c_volume_open(found->body.data, found->body.len, rq->keyring, NULL, &volume);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return 0;
	if (memcmp(volume->id, backup->id, sizeof(volume->id)) != 0)
		return s3c_err_set(err, -EEXIST,
				   "another volume is at %s, and this keyring opens it: to put the "
				   "exported one there, delete %s%s first",
				   s3c_prefix_shown(rq->prefix), found->prefix, S3C_VOLUME_NAME);
	return s3c_err_set(err, -EEXIST,
			   "the volume object at %s is in order (serial %llu): there is nothing to "
			   "import",
			   s3c_prefix_shown(rq->prefix), (unsigned long long)volume->serial);
}

/* The serial number that this machine has seen of this volume; 0: none. */
static int seen_serial(const struct s3c_volume_request *rq, const struct s3c_volume *backup,
		       struct s3c_err *err, uint64_t *ret_serial)
{
	uint8_t pinned[S3C_VOLUME_ID_LEN];
	uint64_t serial = 0;
	int r = rq->journal ? s3c_journal_pin_get(rq->journal, rq->source, pinned, &serial)
			    : -ENOENT;

	if (r < 0 && r != -ENOENT)
		return s3c_err_set(err, r, "cannot read the local journal: %s", strerror(-r));
	if (r == 0 && memcmp(pinned, backup->id, sizeof(pinned)) != 0)
		return s3c_err_set(err, -EKEYREJECTED,
				   "this is not the volume that this machine knows at %s: import "
				   "the right one, or use a new state_dir=",
				   s3c_prefix_shown(rq->prefix));
	*ret_serial = r == 0 ? serial : 0;
	return 0;
}

static int import_body(const struct s3c_volume_request *rq, struct s3c_op *op,
		       struct s3c_found_volume *backup, struct s3c_err *err,
		       struct s3c_found_volume *found)
{
	cleanup_volume struct s3c_volume *volume = NULL, *stored = NULL;
	cleanup_buf struct s3c_buf raised = { 0 };
	const struct s3c_buf *body = &backup->body;
	bool raise = false;
	uint64_t serial = 0;
	int r = s3c_volume_open(body->data, body->len, rq->keyring, err, &volume);

	if (r < 0)
		return r;
	r = s3c_volume_check_kind(rq, volume, rq->prefix, err);
	if (r == 0)
		r = seen_serial(rq, volume, err, &serial);
	if (r == 0)
		r = s3c_volume_read(rq, op, rq->prefix, err, found);
	if (r == 0 || r == -ENOENT)
		r = check_present(rq, found, volume, err);
	if (r == 0)
		r = s3c_volume_raise_serial(body->data, body->len, rq->keyring, serial, err, &raise,
					    &raised);
	if (r == 0)
		r = s3c_volume_put(rq, op, rq->prefix, raise ? &raised : body,
				   found->prefix ? found->st.version.etag : NULL, err);
	if (r == 0)
		r = s3c_volume_read(rq, op, rq->prefix, err, found);
	if (r == 0)
		r = s3c_volume_open(found->body.data, found->body.len, rq->keyring, err, &stored);
	if (r == 0 && memcmp(stored->id, volume->id, sizeof(stored->id)) != 0)
		r = s3c_err_set(err, -EAGAIN,
				"another machine wrote the volume object at %s at the same time",
				s3c_prefix_shown(rq->prefix));
	return r;
}

int s3c_engine_volume_import(const struct s3c_volume_request *request, const void *body, size_t len,
			     struct s3c_err *err)
{
	cleanup_found struct s3c_found_volume found = { 0 }, backup = { 0 };
	struct s3c_op op;
	int r = s3c_buf_append(&backup.body, body, len);

	if (r < 0)
		return r;
	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = import_body(request, &op, &backup, err, &found);
	s3c_op_destroy(&op);
	return r < 0 ? s3c_err_set(err, r, "the volume object cannot be put there: %s",
				   strerror(-r))
		     : 0;
}
