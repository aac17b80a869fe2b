/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Which volume a mount belongs to. The nearest volume object counts: the prefix's
 * own or one above. Its id is pinned on this machine, so that a store cannot put
 * another, emptier one in its place; so is its serial number, which only rises.
 */
#include "engine/engine.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"

#define VOLUME_MAX (256u << 10) /* bytes of a volume object */
#define RESERVED ".s3cryptfs/"

struct found {
	struct s3c_buf body;
	struct s3c_stat st;
	char *prefix; /* NULL: there is none */
};

static void found_free(struct found *found)
{
	s3c_buf_free(&found->body);
	s3c_stat_free(&found->st);
	free(found->prefix);
}

static const char *shown(const char *prefix)
{
	return *prefix ? prefix : "the bucket's root";
}

static int read_volume(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		       struct s3c_err *err, struct found *found)
{
	cleanup_free char *key = s3c_asprintf("%s%s", prefix, S3C_VOLUME_NAME);
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

/*
 * Encrypted names: from the bucket's root down, to the first volume that has them. What is below it
 * is a path, which the store is not told. Who may not look further up begins where he may.
 */
static int find_from_above(const struct s3c_volume_request *rq, struct s3c_op *op,
			   struct s3c_err *err, struct found *found)
{
	for (size_t len = 0;;) {
		cleanup_free char *prefix = strndup(rq->prefix, len);
		bool last = !rq->prefix[len];
		int r = prefix ? read_volume(rq, op, prefix, last ? err : NULL, found)
			       : s3c_err_set(err, -ENOMEM, "no memory");

		if (r == 0 && s3c_volume_says_encrypted(found->body.data, found->body.len))
			return 0;
		if (r < 0 && r != -ENOENT && (last || (r != -EACCES && r != -EPERM)))
			return last ? r : read_volume(rq, op, prefix, err, found);
		if (last)
			return 0;
		len += strcspn(rq->prefix + len, "/") + 1;
	}
}

/* The nearest volume object, from prefix up to the root of the bucket. None: found->prefix NULL. */
static int find_volume(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		       struct found *found)
{
	cleanup_free char *prefix = strdup(rq->prefix);
	size_t len;
	int r;

	if (!prefix)
		return s3c_err_set(err, -ENOMEM, "no memory");
	for (;;) {
		r = read_volume(rq, op, prefix, err, found);
		if (r != -ENOENT)
			return r;
		len = strlen(prefix);
		if (!len)
			return 0;
		while (len && prefix[len - 1] == '/')
			len--;
		while (len && prefix[len - 1] != '/')
			len--;
		prefix[len] = '\0';
	}
}

/* 1: there is an object that is no one's bookkeeping; 0: there is none. */
static int has_objects(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err)
{
	cleanup_free char *token = NULL;
	size_t prefix_len = strlen(rq->prefix);
	int found = 0;

	do {
		struct s3c_store_reply reply;
		struct s3c_store_request list = {
			.op = S3C_STORE_LIST,
			.prefix = rq->prefix,
			.delimiter = true,
			.token = token,
			.max_keys = 100,
		};
		int r = s3c_store_perform(rq->store, &list, op, &reply);

		if (r < 0)
			s3c_store_explain(rq->store, r, reply.message, err);
		for (size_t i = 0; r == 0 && i < reply.list.count; i++) {
			const char *name = reply.list.entries[i].key + prefix_len;

			found |= *name && strcmp(name, RESERVED) != 0;
		}
		free(token);
		token = steal_ptr(reply.list.next_token);
		s3c_store_reply_free(&reply);
		if (r < 0)
			return s3c_err_prefix(err, r, "cannot list %s", shown(rq->prefix));
	} while (token && !found);
	return found;
}

enum s3c_family s3c_enc_family(enum s3c_enc enc)
{
	switch (enc) {
	case S3C_ENC_CSE_KEY:
	case S3C_ENC_CSE_KMS:
		return S3C_FAMILY_CSE;
	case S3C_ENC_SSE_C:
		return S3C_FAMILY_SSEC;
	default:
		return S3C_FAMILY_PLAIN;
	}
}

static const char *enc_of(enum s3c_family family)
{
	return family == S3C_FAMILY_CSE    ? "cse-key or cse-kms"
	       : family == S3C_FAMILY_SSEC ? "sse-c"
					   : "none";
}

static int check_id(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
		    const char *prefix, struct s3c_err *err)
{
	char id[2 * S3C_VOLUME_ID_LEN + 1], other[2 * S3C_VOLUME_ID_LEN + 1];
	uint8_t pinned[S3C_VOLUME_ID_LEN];
	uint64_t serial;
	int r;

	s3c_hex_encode(volume->id, sizeof(volume->id), id);
	if (rq->expect_id && memcmp(rq->expect_id, volume->id, sizeof(volume->id)) != 0) {
		s3c_hex_encode(rq->expect_id, sizeof(volume->id), other);
		return s3c_err_set(err, -EKEYREJECTED,
				   "the volume at %s is %s and volume_id= asks for %s: mount the "
				   "right prefix, or correct the option",
				   shown(prefix), id, other);
	}
	if (!rq->journal)
		return 0;
	r = s3c_journal_pin_get(rq->journal, rq->source, pinned, &serial);
	if (r < 0 && r != -ENOENT)
		return s3c_err_set(err, r, "cannot read the local journal: %s", strerror(-r));
	if (r == 0 && memcmp(pinned, volume->id, sizeof(pinned)) != 0) {
		s3c_hex_encode(pinned, sizeof(pinned), other);
		return s3c_err_set(err, -EKEYREJECTED,
				   "the volume at %s is %s, and this machine knows %s there: "
				   "someone replaced it; if that is right, mount once with a new "
				   "state_dir=",
				   shown(prefix), id, other);
	}
	if (r == 0 && volume->serial < serial)
		return s3c_err_set(
			err, -EKEYREJECTED,
			"the volume object at %s is older (serial %llu) than the one "
			"seen before (%llu): the store serves an old copy of it; put the "
			"newer one back",
			shown(prefix), (unsigned long long)volume->serial,
			(unsigned long long)serial);
	return 0;
}

static int pin(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
	       struct s3c_err *err)
{
	int r = rq->journal
			? s3c_journal_pin_set(rq->journal, rq->source, volume->id, volume->serial)
			: 0;

	return r < 0 ? s3c_err_set(err, r, "cannot write the local journal: %s", strerror(-r)) : 0;
}

static int check_kind(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
		      const char *prefix, struct s3c_err *err)
{
	if (volume->family != s3c_enc_family(rq->enc))
		return s3c_err_set(err, -EINVAL,
				   "the volume at %s was made with enc=%s, not enc=%s: mount it "
				   "with enc=%s",
				   shown(prefix), enc_of(volume->family),
				   enc_of(s3c_enc_family(rq->enc)), enc_of(volume->family));
	if (volume->family == S3C_FAMILY_SSEC && volume->ssec_shared != rq->ssec_shared)
		return s3c_err_set(err, -EINVAL,
				   "the volume at %s was made with ssec_key=%s: mount it so",
				   shown(prefix), volume->ssec_shared ? "shared" : "per-object");
	if (volume->family == S3C_FAMILY_CSE && !volume->names_key != !rq->encrypted_names)
		return s3c_err_set(err, -EINVAL,
				   "the volume at %s was made with names=%s, which never changes: "
				   "mount it with names=%s",
				   shown(prefix), volume->names_key ? "encrypted" : "plain",
				   volume->names_key ? "encrypted" : "plain");
	return 0;
}

static int open_body(const struct s3c_volume_request *rq, const struct found *found,
		     struct s3c_err *err, struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = s3c_volume_open(found->body.data, found->body.len, rq->keyring, err, &volume);

	if (r < 0)
		return s3c_err_prefix(err, r, "the volume at %s", shown(found->prefix));
	r = check_kind(rq, volume, found->prefix, err);
	if (r == 0)
		r = check_id(rq, volume, found->prefix, err);
	if (r == 0)
		*ret_volume = steal_ptr(volume);
	return r;
}

static int put_body(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		    const struct s3c_buf *body, const char *if_match, struct s3c_err *err)
{
	cleanup_free char *key = s3c_asprintf("%s%s", prefix, S3C_VOLUME_NAME);
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

/* Stores a changed body and reads it back. found: in, what was read; out, what stands there. */
static int replace_body(const struct s3c_volume_request *rq, struct s3c_op *op, struct found *found,
			const struct s3c_buf *body, struct s3c_err *err)
{
	cleanup_free char *prefix = strdup(found->prefix);
	int r;

	if (!prefix)
		return s3c_err_set(err, -ENOMEM, "no memory");
	r = put_body(rq, op, prefix, body, found->st.version.etag, err);
	if (r == 0)
		r = read_volume(rq, op, prefix, err, found);
	return r == -ENOENT
		       ? s3c_err_set(err, r, "the volume object at %s has vanished", shown(prefix))
		       : r;
}

/* The keyring has a new active key: it gets a slot before anything is written under it. */
static int add_keys(const struct s3c_volume_request *rq, struct s3c_op *op, struct found *found,
		    struct s3c_err *err, struct s3c_volume **volume)
{
	cleanup_buf struct s3c_buf body = { 0 };
	size_t added = 0;
	int r;

	if ((*volume)->active_slot)
		return 0;
	if (rq->read_only)
		return 0;
	r = s3c_volume_add_keys(found->body.data, found->body.len, rq->keyring, err, &added, &body);
	if (r < 0)
		return r;
	if (!added)
		return 0;
	r = replace_body(rq, op, found, &body, err);
	if (r < 0)
		return r;
	s3c_volume_free(steal_ptr(*volume));
	r = open_body(rq, found, err, volume);
	/* Somebody else changed the volume at the same moment, and ours was not stored. */
	if (r == 0 && !(*volume)->active_slot)
		return s3c_err_set(
			err, -EAGAIN,
			"the volume at %s was changed by another machine while the active "
			"key was added to it: mount again",
			shown(found->prefix));
	return r;
}

static int create_volume(const struct s3c_volume_request *rq, struct s3c_op *op,
			 struct s3c_err *err, struct found *found, struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_buf struct s3c_buf body = { 0 };
	int r = s3c_volume_create(s3c_enc_family(rq->enc), rq->ssec_shared, rq->encrypted_names,
				  rq->keyring, err, &volume, &body);

	if (r == 0)
		r = put_body(rq, op, rq->prefix, &body, NULL, err);
	if (r == 0)
		r = read_volume(rq, op, rq->prefix, err, found);
	if (r == -ENOENT)
		return s3c_err_set(err, -EIO,
				   "the volume object was written to %s and is not there: the "
				   "store does not keep what it is given",
				   shown(rq->prefix));
	if (r < 0)
		return r;
	if (found->body.len != body.len || memcmp(found->body.data, body.data, body.len) != 0)
		s3c_info("another machine made the volume at %s at the same time: using that one",
			 shown(rq->prefix));
	return open_body(rq, found, err, ret_volume);
}

/* There is no volume object at prefix or above. */
static int without_volume(const struct s3c_volume_request *rq, struct s3c_op *op,
			  struct s3c_err *err, struct found *found, struct s3c_volume **ret_volume)
{
	uint8_t pinned[S3C_VOLUME_ID_LEN];
	char id[2 * S3C_VOLUME_ID_LEN + 1];
	uint64_t serial;
	int r;

	if (rq->journal && s3c_journal_pin_get(rq->journal, rq->source, pinned, &serial) == 0) {
		s3c_hex_encode(pinned, sizeof(pinned), id);
		return s3c_err_set(err, -ENOENT,
				   "the volume object %s%s is gone, and this machine has seen "
				   "volume %s there: put it back (s3cryptfsctl volume import); to "
				   "begin anew, use a new state_dir=",
				   rq->prefix, S3C_VOLUME_NAME, id);
	}
	if (rq->expect_id)
		return s3c_err_set(err, -ENOENT,
				   "there is no volume at %s, and volume_id= asks for "
				   "one",
				   shown(rq->prefix));
	if (rq->read_only && rq->accept_plain)
		return 0;
	r = has_objects(rq, op, err);
	if (r < 0)
		return r;
	if (r && !rq->force_init)
		return s3c_err_set(
			err, -ENOENT,
			"%s holds objects and no volume of s3cryptfs: to encrypt new "
			"files beside them, make one with 's3cryptfsctl init'; to read "
			"them as they are, mount with ro,accept=plain; what an Amazon S3 "
			"Encryption Client wrote, with ro,accept=s3ec",
			shown(rq->prefix));
	if (rq->read_only || (!rq->create && !rq->force_init))
		return s3c_err_set(err, -ENOENT,
				   "there is no volume at %s: mount it writable once, or make one "
				   "with 's3cryptfsctl init'",
				   shown(rq->prefix));
	return create_volume(rq, op, err, found, ret_volume);
}

static int settle(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		  struct found *found, struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = rq->encrypted_names ? find_from_above(rq, op, err, found)
				    : find_volume(rq, op, err, found);

	if (r < 0)
		return r;
	if (s3c_enc_family(rq->enc) == S3C_FAMILY_PLAIN)
		return !found->prefix
			       ? 0
			       : s3c_err_set(err, -EINVAL,
					     "%s belongs to an encrypted volume (%s%s): mount it "
					     "with enc=cse-key or sse-c, as it was made",
					     shown(rq->prefix), found->prefix, S3C_VOLUME_NAME);
	if (!rq->keyring)
		return s3c_err_set(err, -EKEYREJECTED,
				   "no keyring is given; make one with 's3cryptfsctl key new'");
	r = found->prefix ? open_body(rq, found, err, &volume)
			  : without_volume(rq, op, err, found, &volume);
	if (r == 0 && volume)
		r = add_keys(rq, op, found, err, &volume);
	if (r == 0 && volume)
		r = pin(rq, volume, err);
	if (r == 0)
		*ret_volume = steal_ptr(volume);
	return r;
}

int s3c_engine_volume_locate(const struct s3c_volume_request *request, struct s3c_err *err,
			     char **ret_prefix)
{
	__attribute__((cleanup(found_free))) struct found found = { 0 };
	const char *prefix = request->prefix;
	struct s3c_op op;
	int r = 0;

	if (request->encrypted_names) {
		s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
		r = find_from_above(request, &op, err, &found);
		s3c_op_destroy(&op);
		if (r < 0)
			return r;
		if (found.prefix)
			prefix = found.prefix;
	}
	*ret_prefix = strdup(prefix);
	return *ret_prefix ? 0 : s3c_err_set(err, -ENOMEM, "no memory");
}

int s3c_engine_volume(const struct s3c_volume_request *request, struct s3c_err *err,
		      struct s3c_volume **ret_volume, char **ret_volume_prefix)
{
	__attribute__((cleanup(found_free))) struct found found = { 0 };
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_free char *prefix = NULL;
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = settle(request, &op, err, &found, &volume);
	s3c_op_destroy(&op);
	if (r < 0)
		return r;
	prefix = strdup(found.prefix ? found.prefix : request->prefix);
	if (!prefix)
		return s3c_err_set(err, -ENOMEM, "no memory");
	*ret_volume = steal_ptr(volume);
	*ret_volume_prefix = steal_ptr(prefix);
	return 0;
}

static int drop_key(const struct s3c_volume_request *rq, struct s3c_op *op, const char *key_id,
		    struct s3c_err *err, struct found *found)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_buf struct s3c_buf body = { 0 }, more = { 0 };
	size_t removed = 0;
	int r = find_volume(rq, op, err, found);

	if (r == 0 && !found->prefix)
		r = -ENOENT;
	if (r == 0)
		r = open_body(rq, found, err, &volume);
	if (r == 0)
		r = s3c_volume_remove_key(found->body.data, found->body.len, rq->keyring, key_id,
					  err, &removed, &body);
	if (r < 0 || !removed)
		return r;
	r = replace_body(rq, op, found, &body, err);
	if (r == 0)
		r = s3c_volume_remove_key(found->body.data, found->body.len, rq->keyring, key_id,
					  err, &removed, &more);
	if (r == 0 && removed)
		return s3c_err_set(err, -EAGAIN,
				   "the volume at %s was changed by another machine at the same "
				   "time: try again",
				   shown(found->prefix));
	return r;
}

int s3c_engine_volume_drop_key(const struct s3c_volume_request *request, const char *key_id,
			       struct s3c_err *err)
{
	__attribute__((cleanup(found_free))) struct found found = { 0 };
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = drop_key(request, &op, key_id, err, &found);
	s3c_op_destroy(&op);
	return r < 0 ? s3c_err_set(err, r, "the volume object cannot be changed: %s", strerror(-r))
		     : 0;
}

static int export_body(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		       struct found *found)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = find_volume(rq, op, err, found);

	if (r == 0 && !found->prefix)
		r = s3c_err_set(err, -ENOENT, "there is no volume at %s", shown(rq->prefix));
	return r < 0 ? r : open_body(rq, found, err, &volume);
}

int s3c_engine_volume_export(const struct s3c_volume_request *request, struct s3c_err *err,
			     struct s3c_buf *ret_body)
{
	__attribute__((cleanup(found_free))) struct found found = { 0 };
	struct s3c_op op;
	int r;

	s3c_op_init(&op, request->deadline_ns ? request->deadline_ns : INT64_MAX);
	r = export_body(request, &op, err, &found);
	s3c_op_destroy(&op);
	return r < 0 ? r : s3c_buf_append(ret_body, found.body.data, found.body.len);
}

/* Is what stands there in the way? 0: it is gone, or of no use. */
static int check_present(const struct s3c_volume_request *rq, const struct found *found,
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
				   shown(rq->prefix), found->prefix, S3C_VOLUME_NAME);
	return s3c_err_set(err, -EEXIST,
			   "the volume object at %s is in order (serial %llu): there is nothing to "
			   "import",
			   shown(rq->prefix), (unsigned long long)volume->serial);
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
				   shown(rq->prefix));
	*ret_serial = r == 0 ? serial : 0;
	return 0;
}

static int import_body(const struct s3c_volume_request *rq, struct s3c_op *op, struct found *backup,
		       struct s3c_err *err, struct found *found)
{
	cleanup_volume struct s3c_volume *volume = NULL, *stored = NULL;
	cleanup_buf struct s3c_buf raised = { 0 };
	const struct s3c_buf *body = &backup->body;
	bool raise = false;
	uint64_t serial = 0;
	int r = s3c_volume_open(body->data, body->len, rq->keyring, err, &volume);

	if (r < 0)
		return r;
	r = check_kind(rq, volume, rq->prefix, err);
	if (r == 0)
		r = seen_serial(rq, volume, err, &serial);
	if (r == 0)
		r = read_volume(rq, op, rq->prefix, err, found);
	if (r == 0 || r == -ENOENT)
		r = check_present(rq, found, volume, err);
	if (r == 0)
		r = s3c_volume_raise_serial(body->data, body->len, rq->keyring, serial, err, &raise,
					    &raised);
	if (r == 0)
		r = put_body(rq, op, rq->prefix, raise ? &raised : body,
			     found->prefix ? found->st.version.etag : NULL, err);
	if (r == 0)
		r = read_volume(rq, op, rq->prefix, err, found);
	if (r == 0)
		r = s3c_volume_open(found->body.data, found->body.len, rq->keyring, err, &stored);
	if (r == 0 && memcmp(stored->id, volume->id, sizeof(stored->id)) != 0)
		r = s3c_err_set(err, -EAGAIN,
				"another machine wrote the volume object at %s at the same time",
				shown(rq->prefix));
	return r;
}

int s3c_engine_volume_import(const struct s3c_volume_request *request, const void *body, size_t len,
			     struct s3c_err *err)
{
	__attribute__((cleanup(found_free))) struct found found = { 0 }, backup = { 0 };
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
