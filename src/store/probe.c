/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What a store honours is found out by trying, since stores accept headers that they ignore. What
 * can go at the same time does; each line is one step of waiting:
 *
 *   1  PUT source (crc32c)              bucket, credentials, region, mode: the first error speaks
 *   2  GET source; without and with another customer key; PUT target if absent (crc64nvme);
 *      COPY source with the right and with a wrong ETag; create uploads A (of a new key), B (of
 *      target)
 *   3  PUT target if absent, and if it has a wrong ETag; part of A; part of B by copy, with the
 *      right and with a wrong ETag; HEAD copy; COPY onto copy if absent, and if it has a wrong ETag
 *   4  PUT target if it has the right ETag; COPY onto copy if it has the right ETag, and onto a new
 *      key if absent
 *   5  complete A if absent; complete B with a wrong ETag; DELETE source with a wrong ETag
 *   6  complete B if target is absent; DELETE source with the right ETag; HEAD of what was
 * completed where the store is to encrypt by itself 7  complete B with the right ETag (by another
 * upload, where step 6 completed B) 8  everything is removed
 *
 * A condition counts as honoured when the right one succeeds and the wrong one gives the error of
 * the contract. Nothing later depends on an object that an ignored condition may have changed,
 * without using the ETag that it has then.
 */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/encode.h"
#include "base/log.h"

#define WRONG_ETAG "\"00000000000000000000000000000000\""
#define STEP_MAX 10
/* A store that fails on a condition is asked no longer than this, repeats included. */
#define STEP_S 4
#define COMPLETE_S 1.5 /* Ceph 16 answers 500 to one of them for ever */

static const char probe_text[] = "s3cryptfs probe";
static const char copy_text[] = "copy";

struct upload {
	char *id;
	struct s3c_store_part part;
	bool has_part;
	bool gone; /* completed */
};

struct probe {
	struct s3c_store *store;
	const struct s3c_ssec *ssec;
	int64_t deadline_ns;
	struct s3c_store_caps caps;
	char source[S3C_STORE_KEY_MAX + 64];
	char target[S3C_STORE_KEY_MAX + 64];
	char copy[S3C_STORE_KEY_MAX + 64];
	char fresh[S3C_STORE_KEY_MAX + 64];
	char again[S3C_STORE_KEY_MAX + 64];
	char copy_etag[S3C_STORE_ETAG_MAX];
	char source_etag[S3C_STORE_ETAG_MAX];
	char target_etag[S3C_STORE_ETAG_MAX];
	bool written;          /* there is something to remove */
	char unconfirmed[512]; /* of the first write that was not confirmed to be encrypted; "" */
	struct s3c_meta meta;  /* of the copy: tells whether REPLACE was heard */
	struct iovec body;
	struct upload a;
	struct upload b;
};

/* Requests that go at the same time. */
struct step {
	struct s3c_store_request requests[STEP_MAX];
	struct s3c_store_reply replies[STEP_MAX];
	unsigned count;
	struct s3c_mutex lock;
	struct s3c_waitq woken;
	unsigned left; /* guarded by lock */
};

struct step_slot {
	struct step *step;
	unsigned index;
};

static void slot_done(void *arg, struct s3c_store_reply *reply)
{
	struct step_slot *slot = arg;
	struct step *step = slot->step;

	s3c_mutex_lock(&step->lock);
	step->replies[slot->index] = *reply;
	*reply = (struct s3c_store_reply){ 0 };
	step->left--;
	s3c_waitq_wake_all(&step->woken);
	s3c_mutex_unlock(&step->lock);
}

static struct s3c_store_request *add(struct probe *p, struct step *step, enum s3c_store_opcode op,
				     const char *key)
{
	struct s3c_store_request *rq = &step->requests[step->count++];

	*rq = (struct s3c_store_request){
		.op = op,
		.key = key,
		.ssec = p->ssec,
		.deadline_ns = S3C_MIN(p->deadline_ns, s3c_deadline_after(STEP_S)),
		.length = UINT64_MAX,
	};
	if (op == S3C_STORE_PUT || op == S3C_STORE_UPLOAD_PART) {
		rq->body = &p->body;
		rq->body_count = 1;
	}
	if (op == S3C_STORE_COPY || op == S3C_STORE_UPLOAD_PART_COPY) {
		rq->source_key = p->source;
		rq->source_ssec = p->ssec;
		rq->length = p->body.iov_len;
	}
	if (op == S3C_STORE_COPY)
		rq->meta = &p->meta;
	return rq;
}

static struct s3c_store_request *add_for_upload(struct probe *p, struct step *step,
						enum s3c_store_opcode op, const char *key,
						const struct upload *upload, unsigned number)
{
	struct s3c_store_request *rq = add(p, step, op, key);

	rq->upload_id = upload->id;
	rq->part_number = number;
	rq->parts = &upload->part;
	rq->part_count = 1;
	return rq;
}

static void step_run(struct probe *p, struct step *step)
{
	struct step_slot slots[STEP_MAX];

	s3c_mutex_init(&step->lock);
	s3c_waitq_init(&step->woken);
	step->left = step->count;
	for (unsigned i = 0; i < step->count; i++) {
		int r;

		slots[i] = (struct step_slot){ step, i };
		r = s3c_store_submit(p->store, &step->requests[i], slot_done, &slots[i], NULL);
		if (r < 0) {
			struct s3c_store_reply reply = { .result = r };

			slot_done(&slots[i], &reply);
		}
	}
	s3c_mutex_lock(&step->lock);
	while (step->left)
		(void)s3c_waitq_wait(&step->woken, &step->lock, NULL);
	s3c_mutex_unlock(&step->lock);
	s3c_mutex_destroy(&step->lock);
	for (unsigned i = 0; i < step->count; i++) {
		const struct s3c_store_reply *reply = &step->replies[i];

		if (reply->result < 0)
			s3c_debug("probe: %s", reply->message);
		if (reply->result == -EBADE && !p->unconfirmed[0])
			snprintf(p->unconfirmed, sizeof(p->unconfirmed), "%s", reply->message);
	}
}

static void step_clear(struct step *step)
{
	for (unsigned i = 0; i < step->count; i++)
		s3c_store_reply_free(&step->replies[i]);
	*step = (struct step){ 0 };
}

/* Indices of what was added, -1 for what was not. */
static int result_of(const struct step *step, int index)
{
	return index < 0 ? -EOPNOTSUPP : step->replies[index].result;
}

static int last_of(const struct step *step)
{
	return (int)step->count - 1;
}

/* Denied: because of the customer key? Then the same object without one is taken. */
static int explain_denied(struct probe *p, int result, const char *message, struct s3c_err *err)
{
	struct step step = { 0 };
	bool blocked;

	add(p, &step, S3C_STORE_PUT, p->source)->ssec = NULL;
	step_run(p, &step);
	blocked = step.replies[0].result == 0;
	step_clear(&step);
	p->written = p->written || blocked;
	if (!blocked)
		return s3c_store_explain(p->store, result, "Access Denied", err);
	return s3c_err_set(
		err, result,
		"the bucket takes objects, but none with customer keys (SSE-C): new buckets of AWS "
		"block them; allow them by its encryption settings (BlockedEncryptionTypes with "
		"EncryptionType NONE: aws s3api put-bucket-encryption), or use another mode, such "
		"as "
		"enc=cse-key (%s)",
		message);
}

static int probe_source(struct probe *p, struct s3c_err *err)
{
	struct step step = { 0 };
	struct s3c_store_request *rq = add(p, &step, S3C_STORE_PUT, p->source);
	int r;

	/* Unlike the rest it may need repeats: what it meets is told to a person. */
	rq->deadline_ns = p->deadline_ns;
	rq->checksum = S3C_CHECKSUM_CRC32C;
	step_run(p, &step);
	r = step.replies[0].result;
	p->written = r == 0 || r == -EBADE;
	if (r == -EACCES && p->ssec && strstr(step.replies[0].message, "AccessDenied")) {
		explain_denied(p, r, step.replies[0].message, err);
	} else if (r < 0) {
		s3c_store_explain(p->store, r, step.replies[0].message, err);
	} else {
		p->caps.crc32c = step.replies[0].checksum_confirmed;
		memcpy(p->source_etag, step.replies[0].stat.version.etag, S3C_STORE_ETAG_MAX);
	}
	step_clear(&step);
	return r;
}

static int body_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		      uint64_t total)
{
	(void)st;
	(void)offset;
	(void)total;
	s3c_buf_reset(arg);
	return length > sizeof(probe_text) ? -EPROTO : 0;
}

static int body_data(void *arg, const void *data, size_t len)
{
	return s3c_buf_append(arg, data, len);
}

static int check_customer_keys(const struct step *step, int without, int wrong, struct s3c_err *err)
{
	static const char *const remedy =
		"the store does not encrypt with customer keys (SSE-C): it %s; use enc=cse-key";

	if (without >= 0 && result_of(step, without) == 0)
		return s3c_err_set(err, -EOPNOTSUPP, remedy, "gave the object without the key");
	if (wrong >= 0 && result_of(step, wrong) == 0)
		return s3c_err_set(err, -EOPNOTSUPP, remedy, "gave the object for another key");
	return 0;
}

static void take_upload(struct step *step, int index, struct upload *upload)
{
	if (result_of(step, index) == 0)
		upload->id = steal_ptr(step->replies[index].upload_id);
}

static void take_part(const struct step *step, int index, struct upload *upload)
{
	if (result_of(step, index) != 0)
		return;
	upload->part = step->replies[index].part;
	upload->has_part = true;
}

static void take_target(struct probe *p, const struct step *step, int index)
{
	if (result_of(step, index) == 0 && step->replies[index].stat.version.etag[0])
		memcpy(p->target_etag, step->replies[index].stat.version.etag, S3C_STORE_ETAG_MAX);
}

/* What the store says of an object that it was to encrypt. A HEAD that failed says nothing. */
static int check_sse(const struct probe *p, const struct step *step, int index, const char *what,
		     struct s3c_err *err)
{
	const char *word = s3c_sse_word(p->store->sse);

	if (!p->store->sse || result_of(step, index) < 0 ||
	    strcmp(step->replies[index].stat.sse, word) == 0)
		return 0;
	return s3c_err_set(
		err, -EBADE,
		"the store confirms that it encrypts (%s), and the object that it has of "
		"%s says %s: use another mode, such as enc=cse-key",
		word, what,
		step->replies[index].stat.sse[0] ? step->replies[index].stat.sse
						 : "that it is not encrypted");
}

static int probe_reading(struct probe *p, struct s3c_err *err)
{
	struct step step = { 0 };
	struct s3c_ssec other = { { 0 } };
	cleanup_buf struct s3c_buf body = { .max = 2 * sizeof(probe_text) };
	int without = -1, wrong = -1, put, copy, copy_wrong, create_a, create_b;
	struct s3c_store_request *rq;
	int r;

	rq = add(p, &step, S3C_STORE_GET, p->source);
	rq->deadline_ns = p->deadline_ns;
	rq->sink = (struct s3c_store_sink){ body_begin, body_data, &body };
	if (p->ssec) {
		add(p, &step, S3C_STORE_GET, p->source)->ssec = NULL;
		without = last_of(&step);
		s3c_random(other.key, sizeof(other.key));
		add(p, &step, S3C_STORE_GET, p->source)->ssec = &other;
		wrong = last_of(&step);
	}
	rq = add(p, &step, S3C_STORE_PUT, p->target);
	rq->condition.if_none_match = true;
	rq->checksum = S3C_CHECKSUM_CRC64NVME;
	put = last_of(&step);
	add(p, &step, S3C_STORE_COPY, p->copy)->source_if_match = p->source_etag;
	copy = last_of(&step);
	add(p, &step, S3C_STORE_COPY, p->fresh)->source_if_match = WRONG_ETAG;
	copy_wrong = last_of(&step);
	add(p, &step, S3C_STORE_UPLOAD_CREATE, p->fresh);
	create_a = last_of(&step);
	add(p, &step, S3C_STORE_UPLOAD_CREATE, p->target);
	create_b = last_of(&step);
	step_run(p, &step);

	r = step.replies[0].result;
	if (r < 0)
		s3c_store_explain(p->store, r, step.replies[0].message, err);
	else if (body.len != strlen(probe_text) || memcmp(body.data, probe_text, body.len) != 0)
		r = s3c_err_set(err, -EPROTO, "the store gave back other bytes than were written");
	else
		r = check_customer_keys(&step, without, wrong, err);
	if (r == 0)
		r = check_sse(p, &step, 0, "a write", err);
	p->caps.put_if_none_match = result_of(&step, put) == 0;
	p->caps.crc64nvme = put >= 0 && step.replies[put].checksum_confirmed;
	take_target(p, &step, put);
	p->caps.copy = result_of(&step, copy) == 0;
	p->caps.copy_source_if_match = p->caps.copy && result_of(&step, copy_wrong) == -ESTALE;
	memcpy(p->copy_etag, step.replies[copy].stat.version.etag, S3C_STORE_ETAG_MAX);
	take_upload(&step, create_a, &p->a);
	take_upload(&step, create_b, &p->b);
	step_clear(&step);
	return r;
}

static int probe_parts(struct probe *p, struct s3c_err *err)
{
	struct step step = { 0 };
	int put_absent = -1, put_wrong = -1, part = -1, copied = -1, copied_wrong = -1, head = -1;
	int onto = -1, onto_wrong = -1;
	struct s3c_store_request *rq;
	int r;

	if (p->target_etag[0]) {
		add(p, &step, S3C_STORE_PUT, p->target)->condition.if_none_match = true;
		put_absent = last_of(&step);
		add(p, &step, S3C_STORE_PUT, p->target)->condition.if_match = WRONG_ETAG;
		put_wrong = last_of(&step);
	}
	if (p->a.id) {
		add_for_upload(p, &step, S3C_STORE_UPLOAD_PART, p->fresh, &p->a, 1);
		part = last_of(&step);
	}
	if (p->b.id) {
		rq = add_for_upload(p, &step, S3C_STORE_UPLOAD_PART_COPY, p->target, &p->b, 1);
		rq->source_if_match = p->source_etag;
		copied = last_of(&step);
		rq = add_for_upload(p, &step, S3C_STORE_UPLOAD_PART_COPY, p->target, &p->b, 2);
		rq->source_if_match = WRONG_ETAG;
		copied_wrong = last_of(&step);
	}
	if (p->caps.copy) {
		add(p, &step, S3C_STORE_HEAD, p->copy);
		head = last_of(&step);
		add(p, &step, S3C_STORE_COPY, p->copy)->condition.if_none_match = true;
		onto = last_of(&step);
	}
	if (p->caps.copy && p->copy_etag[0]) {
		add(p, &step, S3C_STORE_COPY, p->copy)->condition.if_match = WRONG_ETAG;
		onto_wrong = last_of(&step);
	}
	step_run(p, &step);
	/* Ignored: then what was written last is there, and that is not known when both were. */
	p->caps.put_if_none_match =
		p->caps.put_if_none_match && result_of(&step, put_absent) == -EEXIST;
	p->caps.put_if_match = result_of(&step, put_wrong) == -ESTALE;
	take_target(p, &step, put_absent);
	take_target(p, &step, put_wrong);
	p->caps.copy_if_none_match = result_of(&step, onto) == -EEXIST;
	p->caps.copy_if_match = result_of(&step, onto_wrong) == -ESTALE;
	take_part(&step, part, &p->a);
	take_part(&step, copied, &p->b);
	p->caps.part_copy = p->caps.part_copy_any_key = result_of(&step, copied) == 0;
	p->caps.part_copy_source_if_match =
		p->caps.part_copy && result_of(&step, copied_wrong) == -ESTALE;
	if (head >= 0) {
		const char *value = s3c_meta_get(&step.replies[head].stat.meta, "probe");

		if (result_of(&step, head) < 0 || !value || strcmp(value, copy_text) != 0)
			p->caps.copy = p->caps.copy_source_if_match = p->caps.copy_if_match =
				p->caps.copy_if_none_match = false;
	}
	r = check_sse(p, &step, head, "a copy", err);
	step_clear(&step);
	return r;
}

/* Ceph honours If-Match on PUT, but compares what is sent with an ETag that it keeps without the
   quotes which RFC 9110, section 8.8.3, gives it: but for "*" none is ever the right one. */
static void probe_bare(struct probe *p)
{
	struct step step = { 0 };
	char right[S3C_STORE_ETAG_MAX], wrong[S3C_STORE_ETAG_MAX];

	s3c_etag_bare(p->target_etag, right);
	s3c_etag_bare(WRONG_ETAG, wrong);
	add(p, &step, S3C_STORE_PUT, p->target)->condition.if_match = right;
	add(p, &step, S3C_STORE_PUT, p->target)->condition.if_match = wrong;
	step_run(p, &step);
	p->caps.put_if_match = p->caps.if_match_bare =
		result_of(&step, 0) == 0 && result_of(&step, 1) == -ESTALE;
	take_target(p, &step, 0);
	take_target(p, &step, 1);
	step_clear(&step);
}

static void probe_replace(struct probe *p)
{
	bool refused;
	struct step step = { 0 };
	int put = -1, copy = -1, part = -1, part_copy = -1, onto = -1, anew = -1;

	if (p->caps.put_if_match && p->target_etag[0]) {
		add(p, &step, S3C_STORE_PUT, p->target)->condition.if_match = p->target_etag;
		put = last_of(&step);
	}
	if (p->caps.copy_if_match) {
		add(p, &step, S3C_STORE_COPY, p->copy)->condition.if_match = p->copy_etag;
		onto = last_of(&step);
	}
	if (p->caps.copy_if_none_match) {
		add(p, &step, S3C_STORE_COPY, p->again)->condition.if_none_match = true;
		anew = last_of(&step);
	}
	/* Was it the condition that the store cannot do, or the key, or the copy? */
	if (!p->caps.copy) {
		add(p, &step, S3C_STORE_COPY, p->copy);
		copy = last_of(&step);
	}
	if (p->b.id && !p->caps.part_copy) {
		add_for_upload(p, &step, S3C_STORE_UPLOAD_PART_COPY, p->target, &p->b, 2)
			->source_key = p->target;
		part_copy = last_of(&step);
		add_for_upload(p, &step, S3C_STORE_UPLOAD_PART, p->target, &p->b, 1);
		part = last_of(&step);
	}
	if (step.count)
		step_run(p, &step);
	p->caps.put_if_match = result_of(&step, put) == 0;
	refused = put >= 0 && result_of(&step, put) == -ESTALE;
	take_target(p, &step, put);
	p->caps.copy_if_match = result_of(&step, onto) == 0;
	p->caps.copy_if_none_match = result_of(&step, anew) == 0;
	if (copy >= 0)
		p->caps.copy = result_of(&step, copy) == 0;
	if (part_copy >= 0)
		p->caps.part_copy = result_of(&step, part_copy) == 0;
	take_part(&step, part, &p->b);
	step_clear(&step);
	if (refused)
		probe_bare(p);
}

static struct s3c_store_request *add_complete(struct probe *p, struct step *step, const char *key,
					      const struct upload *upload)
{
	struct s3c_store_request *rq;

	if (!upload->has_part || upload->gone)
		return NULL;
	rq = add_for_upload(p, step, S3C_STORE_UPLOAD_COMPLETE, key, upload, 0);
	rq->deadline_ns = S3C_MIN(p->deadline_ns, s3c_deadline_after(COMPLETE_S));
	return rq;
}

static int probe_complete(struct probe *p, struct s3c_err *err)
{
	struct step step = { 0 };
	int absent = -1, wrong = -1, head = -1, r;
	struct s3c_store_request *rq;

	rq = add_complete(p, &step, p->fresh, &p->a);
	if (rq) {
		rq->condition.if_none_match = true;
		absent = last_of(&step);
	}
	rq = p->target_etag[0] ? add_complete(p, &step, p->target, &p->b) : NULL;
	if (rq) {
		rq->condition.if_match = WRONG_ETAG;
		wrong = last_of(&step);
	}
	add(p, &step, S3C_STORE_DELETE, p->source)->condition.if_match = WRONG_ETAG;
	step_run(p, &step);
	p->caps.complete_if_none_match = result_of(&step, absent) == 0;
	p->a.gone = result_of(&step, absent) == 0;
	p->caps.complete_if_match = result_of(&step, wrong) == -ESTALE;
	p->b.gone = result_of(&step, wrong) == 0;
	take_target(p, &step, wrong);
	p->caps.delete_if_match = step.replies[step.count - 1].result == -ESTALE;
	step_clear(&step);

	rq = p->caps.complete_if_none_match ? add_complete(p, &step, p->target, &p->b) : NULL;
	absent = rq ? last_of(&step) : -1;
	if (rq)
		rq->condition.if_none_match = true;
	wrong = -1;
	if (p->caps.delete_if_match) {
		add(p, &step, S3C_STORE_DELETE, p->source)->condition.if_match = p->source_etag;
		wrong = last_of(&step);
	}
	if (p->store->sse && (p->a.gone || p->b.gone)) {
		add(p, &step, S3C_STORE_HEAD, p->a.gone ? p->fresh : p->target);
		head = last_of(&step);
	}
	if (step.count)
		step_run(p, &step);
	p->caps.complete_if_none_match = result_of(&step, absent) == -EEXIST;
	p->b.gone = p->b.gone || result_of(&step, absent) == 0;
	take_target(p, &step, absent);
	p->caps.delete_if_match = result_of(&step, wrong) == 0;
	r = check_sse(p, &step, head, "an upload", err);
	step_clear(&step);
	return r;
}

/* Gives b a new upload with a part, when an ignored condition has completed the former. */
static void renew_upload(struct probe *p)
{
	struct step step = { 0 };

	if (!p->b.gone)
		return;
	free(p->b.id);
	p->b = (struct upload){ 0 };
	add(p, &step, S3C_STORE_UPLOAD_CREATE, p->target);
	step_run(p, &step);
	take_upload(&step, 0, &p->b);
	step_clear(&step);
	if (!p->b.id)
		return;
	add_for_upload(p, &step, S3C_STORE_UPLOAD_PART, p->target, &p->b, 1);
	step_run(p, &step);
	take_part(&step, 0, &p->b);
	step_clear(&step);
}

static void probe_complete_right(struct probe *p)
{
	struct step step = { 0 };
	struct s3c_store_request *rq;

	if (!p->caps.complete_if_match)
		return;
	renew_upload(p);
	rq = add_complete(p, &step, p->target, &p->b);
	if (rq) {
		rq->condition.if_match = p->target_etag;
		step_run(p, &step);
	}
	p->caps.complete_if_match = rq && step.replies[0].result == 0;
	p->b.gone = p->b.gone || p->caps.complete_if_match;
	step_clear(&step);
}

static void clean_up(struct probe *p)
{
	const char *const keys[] = { p->source, p->target, p->copy, p->fresh, p->again };
	struct step step = { 0 };
	struct s3c_store_request *rq = add(p, &step, S3C_STORE_DELETE_MANY, NULL);

	rq->keys = keys;
	rq->key_count = ARRAY_LEN(keys);
	rq->deadline_ns = s3c_deadline_after(2 * STEP_S);
	if (p->a.id && !p->a.gone)
		add_for_upload(p, &step, S3C_STORE_UPLOAD_ABORT, p->fresh, &p->a, 0);
	if (p->b.id && !p->b.gone)
		add_for_upload(p, &step, S3C_STORE_UPLOAD_ABORT, p->target, &p->b, 0);
	step_run(p, &step);
	if (step.replies[0].result < 0)
		s3c_warn("objects of the mount's probe are left in the store: %s",
			 step.replies[0].message);
	step_clear(&step);
}

static int name_objects(struct probe *p, const char *prefix)
{
	uint8_t bytes[8];
	char id[2 * sizeof(bytes) + 1];
	const struct {
		char *key;
		const char *suffix;
	} names[] = {
		{ p->source, "-%41" }, /* who decodes twice is found out */
		{ p->target, "-target" }, { p->copy, "-copy" },
		{ p->fresh, "-fresh" },   { p->again, "-again" },
	};

	if (strlen(prefix) > S3C_STORE_KEY_MAX - 48)
		return -ENAMETOOLONG;
	s3c_random(bytes, sizeof(bytes));
	s3c_hex_encode(bytes, sizeof(bytes), id);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		snprintf(names[i].key, sizeof(p->source), "%s.s3cryptfs/probe-%s%s", prefix, id,
			 names[i].suffix);
	return 0;
}

int s3c_store_probe(struct s3c_store *store, const char *prefix, const struct s3c_ssec *ssec,
		    int64_t deadline_ns, struct s3c_err *err)
{
	struct probe p = {
		.store = store,
		.ssec = ssec,
		.deadline_ns = deadline_ns ? deadline_ns : INT64_MAX,
		.body = { (void *)(uintptr_t)probe_text, strlen(probe_text) },
	};
	int r = name_objects(&p, prefix);

	if (r < 0)
		return s3c_err_set(err, r, "the prefix is too long");
	r = s3c_meta_set(&p.meta, "probe", copy_text);
	if (r < 0)
		return r;
	r = probe_source(&p, err);
	if (r == 0)
		r = probe_reading(&p, err);
	if (r == 0)
		r = probe_parts(&p, err);
	if (r == 0) {
		probe_replace(&p);
		r = probe_complete(&p, err);
	}
	if (r == 0)
		probe_complete_right(&p);
	/* Whichever it was: a mount would meet it as well. */
	if (r == 0 && p.unconfirmed[0])
		r = s3c_store_explain(store, -EBADE, p.unconfirmed, err);
	/* A store that ignored the encryption has the object all the same. */
	if (p.written)
		clean_up(&p);
	if (r == 0)
		store->caps = p.caps;
	free(p.a.id);
	free(p.b.id);
	s3c_meta_free(&p.meta);
	return r;
}

int s3c_store_probe_read(struct s3c_store *store, const char *prefix, int64_t deadline_ns,
			 struct s3c_err *err)
{
	struct s3c_store_request rq = {
		.op = S3C_STORE_LIST,
		.prefix = prefix,
		.max_keys = 1,
		.deadline_ns = deadline_ns,
	};
	struct s3c_store_reply reply;
	int r = s3c_store_perform(store, &rq, NULL, &reply);

	if (r < 0)
		s3c_store_explain(store, r, reply.message, err);
	s3c_store_reply_free(&reply);
	return r;
}
