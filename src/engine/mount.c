/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Which volume a mount belongs to. The nearest volume object counts: the prefix's
 * own or one above. Its id is pinned on this machine, so that a store cannot put
 * another, emptier one in its place; so is its serial number, which only rises.
 */
#include "engine/former.h"
#include "engine/volume_store.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "object/header.h"

#define RESERVED ".s3cryptfs/"
#define SEALED_LOOKS 8u /* at objects, whether they are of a volume */

/*
 * Encrypted names: from the bucket's root down, to the first volume that has them. What is below it
 * is a path, which the store is not told. Who may not look further up begins where he may.
 */
static int find_from_above(const struct s3c_volume_request *rq, struct s3c_op *op,
			   struct s3c_err *err, struct s3c_found_volume *found)
{
	for (size_t len = 0;;) {
		cleanup_free char *prefix = strndup(rq->prefix, len);
		bool last = !rq->prefix[len];
		int r = prefix ? s3c_volume_read(rq, op, prefix, last ? err : NULL, found)
			       : s3c_err_set(err, -ENOMEM, "no memory");

		if (r == 0 && s3c_volume_says_encrypted(found->body.data, found->body.len))
			return 0;
		if (r < 0 && r != -ENOENT && (last || (r != -EACCES && r != -EPERM)))
			return last ? r : s3c_volume_read(rq, op, prefix, err, found);
		if (last)
			return 0;
		len += strcspn(rq->prefix + len, "/") + 1;
	}
}

/*
 * The nearest volume object, from prefix up to the root of the bucket. None: found->prefix NULL. Who
 * has rights on the prefix alone is refused further up, whether something is there or not: he does
 * without what is there, as its keys would be of no use to him.
 */
int s3c_volume_find(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		    struct s3c_found_volume *found)
{
	cleanup_free char *prefix = strdup(rq->prefix);
	bool above = false;
	size_t len;

	if (!prefix)
		return s3c_err_set(err, -ENOMEM, "no memory");
	for (;; above = true) {
		struct s3c_err why = { 0 };
		int r = s3c_volume_read(rq, op, prefix, &why, found);

		if (r != -ENOENT && !(above && (r == -EACCES || r == -EPERM)))
			return r < 0 ? s3c_err_set(err, r, "%s", why.text) : r;
		if (r != -ENOENT)
			s3c_info("a volume at %s is not looked for: %s", s3c_prefix_shown(prefix),
				 why.text);
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

/* Was it written into a volume? Not, as far as a look does not tell. */
static bool is_sealed(const struct s3c_volume_request *rq, struct s3c_op *op, const char *key)
{
	struct s3c_store_request head = { .op = S3C_STORE_HEAD, .key = key };
	struct s3c_store_reply reply;
	bool sealed = s3c_store_perform(rq->store, &head, op, &reply) == 0 &&
		      s3c_meta_get(&reply.stat.meta, S3C_META_PACKED);

	s3c_store_reply_free(&reply);
	return sealed;
}

/* 1: there is an object that is no one's bookkeeping; 2: and among the first ones one that was
   sealed; 0: there is none. */
static int has_objects(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err)
{
	cleanup_free char *token = NULL;
	size_t prefix_len = strlen(rq->prefix);
	unsigned looks = 0;
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
			const char *key = reply.list.entries[i].key, *name = key + prefix_len;

			if (!*name || strcmp(name, RESERVED) == 0)
				continue;
			found = S3C_MAX(found, 1);
			if (found == 1 && looks++ < SEALED_LOOKS && is_sealed(rq, op, key))
				found = 2;
		}
		free(token);
		token = steal_ptr(reply.list.next_token);
		s3c_store_reply_free(&reply);
		if (r < 0)
			return s3c_err_prefix(err, r, "cannot list %s",
					      s3c_prefix_shown(rq->prefix));
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

int s3c_volume_check_id(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
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
				   s3c_prefix_shown(prefix), id, other);
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
				   s3c_prefix_shown(prefix), id, other);
	}
	if (r == 0 && volume->serial < serial)
		return s3c_err_set(
			err, -EKEYREJECTED,
			"the volume object at %s is older (serial %llu) than the one "
			"seen before (%llu): the store serves an old copy of it; put the "
			"newer one back",
			s3c_prefix_shown(prefix), (unsigned long long)volume->serial,
			(unsigned long long)serial);
	return 0;
}

int s3c_volume_pin(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
		   struct s3c_err *err)
{
	int r = rq->journal
			? s3c_journal_pin_set(rq->journal, rq->source, volume->id, volume->serial)
			: 0;

	return r < 0 ? s3c_err_set(err, r, "cannot write the local journal: %s", strerror(-r)) : 0;
}

int s3c_volume_check_kind(const struct s3c_volume_request *rq, const struct s3c_volume *volume,
			  const char *prefix, struct s3c_err *err)
{
	if (volume->family != s3c_enc_family(rq->enc))
		return s3c_err_set(err, -EINVAL,
				   "the volume at %s was made with enc=%s, not enc=%s: mount it "
				   "with enc=%s",
				   s3c_prefix_shown(prefix), enc_of(volume->family),
				   enc_of(s3c_enc_family(rq->enc)), enc_of(volume->family));
	if (volume->family == S3C_FAMILY_SSEC && volume->ssec_shared != rq->ssec_shared)
		return s3c_err_set(
			err, -EINVAL, "the volume at %s was made with ssec_key=%s: mount it so",
			s3c_prefix_shown(prefix), volume->ssec_shared ? "shared" : "per-object");
	if (volume->family == S3C_FAMILY_CSE && !volume->names_key != !rq->encrypted_names)
		return s3c_err_set(err, -EINVAL,
				   "the volume at %s was made with names=%s, which never changes: "
				   "mount it with names=%s",
				   s3c_prefix_shown(prefix),
				   volume->names_key ? "encrypted" : "plain",
				   volume->names_key ? "encrypted" : "plain");
	return 0;
}

int s3c_volume_open_found(const struct s3c_volume_request *rq, struct s3c_op *op,
			  const struct s3c_found_volume *found, struct s3c_err *err,
			  struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = s3c_volume_open(found->body.data, found->body.len, rq->keyring, err, &volume);

	if (r < 0)
		return s3c_err_prefix(err, r, "the volume at %s", s3c_prefix_shown(found->prefix));
	r = s3c_volume_check_kind(rq, volume, found->prefix, err);
	if (r == 0)
		r = s3c_volume_check_id(rq, volume, found->prefix, err);
	if (r == 0 && rq->accept_plain && volume->family == S3C_FAMILY_CSE)
		r = s3c_former_read(rq, op, found->prefix, err, volume);
	if (r == 0)
		*ret_volume = steal_ptr(volume);
	return r;
}

/* The keyring has a new active key: it gets a slot before anything is written under it. */
static int add_keys(const struct s3c_volume_request *rq, struct s3c_op *op,
		    struct s3c_found_volume *found, struct s3c_err *err, struct s3c_volume **volume)
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
	r = s3c_volume_replace(rq, op, found, &body, err);
	if (r < 0)
		return r;
	s3c_volume_free(steal_ptr(*volume));
	r = s3c_volume_open_found(rq, op, found, err, volume);
	/* Somebody else changed the volume at the same moment, and ours was not stored. */
	if (r == 0 && !(*volume)->active_slot)
		return s3c_err_set(
			err, -EAGAIN,
			"the volume at %s was changed by another machine while the active "
			"key was added to it: mount again",
			s3c_prefix_shown(found->prefix));
	return r;
}

static int create_volume(const struct s3c_volume_request *rq, struct s3c_op *op,
			 struct s3c_err *err, struct s3c_found_volume *found,
			 struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_buf struct s3c_buf body = { 0 };
	int r = s3c_volume_create(s3c_enc_family(rq->enc), rq->ssec_shared, rq->encrypted_names,
				  rq->keyring, err, &volume, &body);

	if (r == 0)
		r = s3c_volume_put(rq, op, rq->prefix, &body, NULL, err);
	if (r == 0)
		r = s3c_volume_read(rq, op, rq->prefix, err, found);
	if (r == -ENOENT)
		return s3c_err_set(err, -EIO,
				   "the volume object was written to %s and is not there: the "
				   "store does not keep what it is given",
				   s3c_prefix_shown(rq->prefix));
	if (r < 0)
		return r;
	if (found->body.len != body.len || memcmp(found->body.data, body.data, body.len) != 0)
		s3c_info("another machine made the volume at %s at the same time: using that one",
			 s3c_prefix_shown(rq->prefix));
	return s3c_volume_open_found(rq, op, found, err, ret_volume);
}

/* There is no volume object at prefix or above. */
static int without_volume(const struct s3c_volume_request *rq, struct s3c_op *op,
			  struct s3c_err *err, struct s3c_found_volume *found,
			  struct s3c_volume **ret_volume)
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
				   "begin anew, use a new state_dir= and cache_dir=",
				   rq->prefix, S3C_VOLUME_NAME, id);
	}
	if (rq->expect_id)
		return s3c_err_set(err, -ENOENT,
				   "there is no volume at %s, and volume_id= asks for "
				   "one",
				   s3c_prefix_shown(rq->prefix));
	if (rq->read_only && rq->accept_plain)
		return 0;
	r = has_objects(rq, op, err);
	if (r < 0)
		return r;
	if (r == 2)
		return s3c_err_set(err, -ENOENT,
				   "%s holds files of a volume of s3cryptfs, and the volume object "
				   "%s%s is gone, without which nobody can read them: put it back "
				   "(s3cryptfsctl volume import, or a former version of it); a new "
				   "volume needs another prefix",
				   s3c_prefix_shown(rq->prefix), rq->prefix, S3C_VOLUME_NAME);
	if (r && !rq->force_init)
		return s3c_err_set(
			err, -ENOENT,
			"%s holds objects and no volume of s3cryptfs: to encrypt new "
			"files beside them, make one with 's3cryptfsctl init'; to read "
			"them as they are, mount with ro,accept=plain; what an Amazon S3 "
			"Encryption Client wrote, with ro,accept=s3ec",
			s3c_prefix_shown(rq->prefix));
	if (rq->read_only || (!rq->create && !rq->force_init))
		return s3c_err_set(err, -ENOENT,
				   "there is no volume at %s: mount it writable once, or make one "
				   "with 's3cryptfsctl init'",
				   s3c_prefix_shown(rq->prefix));
	return create_volume(rq, op, err, found, ret_volume);
}

static int settle(const struct s3c_volume_request *rq, struct s3c_op *op, struct s3c_err *err,
		  struct s3c_found_volume *found, struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	int r = rq->encrypted_names ? find_from_above(rq, op, err, found)
				    : s3c_volume_find(rq, op, err, found);

	if (r < 0)
		return r;
	if (s3c_enc_family(rq->enc) == S3C_FAMILY_PLAIN)
		return !found->prefix
			       ? 0
			       : s3c_err_set(err, -EINVAL,
					     "%s belongs to an encrypted volume (%s%s): mount it "
					     "with enc=cse-key or sse-c, as it was made",
					     s3c_prefix_shown(rq->prefix), found->prefix,
					     S3C_VOLUME_NAME);
	if (!rq->keyring)
		return s3c_err_set(err, -EKEYREJECTED,
				   "no keyring is given; make one with 's3cryptfsctl key new'");
	r = found->prefix ? s3c_volume_open_found(rq, op, found, err, &volume)
			  : without_volume(rq, op, err, found, &volume);
	if (r == 0 && volume)
		r = add_keys(rq, op, found, err, &volume);
	if (r == 0 && volume)
		r = s3c_volume_pin(rq, volume, err);
	if (r == 0)
		*ret_volume = steal_ptr(volume);
	return r;
}

int s3c_engine_volume_locate(const struct s3c_volume_request *request, struct s3c_err *err,
			     char **ret_prefix)
{
	cleanup_found struct s3c_found_volume found = { 0 };
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
	cleanup_found struct s3c_found_volume found = { 0 };
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
