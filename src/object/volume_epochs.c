/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Epochs: the newest has slots, and wraps the volume keys of the older ones, the name key and the
 * local key, so that whoever opens the newest has them all.
 */
#include "object/volume_private.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

#define EPOCHS_MAX 256u /* in one volume object: each takes a run over all of the volume */

void s3c_volume_epochs_free(struct s3c_epoch *newest)
{
	while (newest) {
		struct s3c_epoch *older = newest->older;

		s3c_secret_free(newest->keys);
		free(newest);
		newest = older;
	}
}

static void epochs_freep(struct s3c_epoch **p)
{
	s3c_volume_epochs_free(*p);
}
#define cleanup_epochs __attribute__((cleanup(epochs_freep)))

int s3c_volume_epoch_new(uint32_t number, int64_t begun_s, const uint8_t *volume_key,
			 const uint8_t *id, struct s3c_epoch **ret_epoch)
{
	cleanup_epochs struct s3c_epoch *epoch = calloc(1, sizeof(*epoch));
	int r;

	if (!epoch)
		return -ENOMEM;
	epoch->keys = s3c_secret_alloc(EPOCH_KEYS_LEN);
	if (!epoch->keys)
		return -ENOMEM;
	epoch->number = number;
	epoch->begun_s = begun_s;
	memcpy(epoch->keys + EPOCH_VOLUME, volume_key, S3C_KEY_LEN);
	r = s3c_volume_derive(volume_key, "s3cryptfs seal", id, number, epoch->keys + EPOCH_SEAL);
	if (r < 0)
		return r;
	epoch->seal_key = epoch->keys + EPOCH_SEAL;
	*ret_epoch = steal_ptr(epoch);
	return 0;
}

/* The volume key of an older epoch, which the newest wraps. */
static int open_former(const json_t *item, uint32_t number, const uint8_t *newest_key,
		       const uint8_t *id, struct s3c_err *err, uint8_t *ret_volume_key)
{
	const struct s3c_master_key newest = { .secret_len = S3C_KEY_LEN,
					       .secret = (uint8_t *)newest_key };
	uint8_t wrapped[S3C_WRAP_LEN], check[S3C_KEY_LEN];
	int r;

	if (!s3c_volume_get_hex(item, "check", check, sizeof(check)) ||
	    !s3c_volume_get_wrapped(item, "wrapped", wrapped))
		return s3c_volume_damaged(err, "an older epoch");
	r = s3c_wrap_open(&newest, FORMER_KEY_ALG, id, wrapped, ret_volume_key);
	if (r == 0)
		r = s3c_volume_fits_check(ret_volume_key, id, number, check);
	return r == -EBADMSG ? s3c_volume_damaged(err, "the key of an older epoch") : r;
}

int s3c_volume_epochs_open(const json_t *epochs, const uint8_t *volume_key, const uint8_t *id,
			   struct s3c_err *err, struct s3c_epoch **ret_newest)
{
	cleanup_epochs struct s3c_epoch *newest = NULL;
	struct s3c_epoch *last = NULL, *epoch;
	json_int_t before = INT64_MAX;

	if (json_array_size(epochs) > EPOCHS_MAX)
		return s3c_volume_damaged(err, "too many epochs");
	for (size_t i = 0; i < json_array_size(epochs); i++) {
		const json_t *item = json_array_get(epochs, i);
		json_int_t number, begun = 0;
		uint8_t key[S3C_KEY_LEN];
		int r = 0;

		/* The newest is the first, the others follow by age. */
		if (!s3c_volume_get_int(item, "epoch", UINT32_MAX, &number) || number >= before)
			return s3c_volume_damaged(err, "epochs");
		before = number;
		s3c_volume_get_int(item, "begun", INT64_MAX, &begun);
		if (i)
			r = open_former(item, (uint32_t)number, volume_key, id, err, key);
		if (r == 0)
			r = s3c_volume_epoch_new((uint32_t)number, begun, i ? key : volume_key, id,
						 &epoch);
		s3c_wipe(key, sizeof(key));
		if (r < 0)
			return r;
		if (last)
			last->older = epoch;
		else
			newest = epoch;
		last = epoch;
	}
	if (!newest)
		return s3c_volume_damaged(err, "no epochs");
	*ret_newest = steal_ptr(newest);
	return 0;
}

static json_t *item_of(const struct s3c_epoch *epoch, const uint8_t *id)
{
	uint8_t check[S3C_KEY_LEN];
	json_t *item;

	if (s3c_volume_derive(epoch->keys + EPOCH_VOLUME, "s3cryptfs check", id, epoch->number,
			      check) < 0)
		return NULL;
	item = json_pack("{s:I, s:o}", "epoch", (json_int_t)epoch->number, "check",
			 s3c_volume_hex(check, sizeof(check)));
	if (item && epoch->begun_s > 0 &&
	    json_object_set_new(item, "begun", json_integer(epoch->begun_s)) < 0) {
		json_decref(item);
		return NULL;
	}
	return item;
}

json_t *s3c_volume_epoch_item(const struct s3c_epoch *epoch, const uint8_t *id, json_t *slots)
{
	json_t *item = item_of(epoch, id);

	if (json_object_set_new(item, "slots", slots) == 0)
		return item;
	json_decref(item);
	return NULL;
}

int s3c_volume_set_wrapped(json_t *root, const char *name, const char *alg,
			   const struct s3c_epoch *newest, const uint8_t *id, const uint8_t *key)
{
	const struct s3c_master_key master = { .secret_len = S3C_KEY_LEN,
					       .secret = newest->keys + EPOCH_VOLUME };
	uint8_t wrapped[S3C_WRAP_LEN];
	int r = s3c_wrap_seal(&master, alg, id, key, wrapped);

	if (r < 0)
		return r;
	return json_object_set_new(root, name, s3c_volume_base64(wrapped, sizeof(wrapped))) < 0
		       ? -ENOMEM
		       : 0;
}

json_t *s3c_volume_former_item(const struct s3c_epoch *epoch, const struct s3c_epoch *newest,
			       const uint8_t *id)
{
	json_t *item = item_of(epoch, id);

	if (item && s3c_volume_set_wrapped(item, "wrapped", FORMER_KEY_ALG, newest, id,
					   epoch->keys + EPOCH_VOLUME) == 0)
		return item;
	json_decref(item);
	return NULL;
}

/* HKDF-Extract of RFC 5869: who has this has no volume key. */
int s3c_volume_local_root(const uint8_t *volume_key, const uint8_t *id,
			  uint8_t ret_key[static S3C_KEY_LEN])
{
	return s3c_hmac_sha256(id, S3C_VOLUME_ID_LEN, volume_key, S3C_KEY_LEN, ret_key);
}

struct s3c_epoch *s3c_volume_epoch_find(const struct s3c_volume *volume, uint32_t number)
{
	struct s3c_epoch *epoch = atomic_load(&volume->newest);

	while (epoch && epoch->number != number)
		epoch = epoch->older;
	return epoch;
}

const uint8_t *s3c_volume_seal_key(const struct s3c_volume *volume, uint32_t number)
{
	const struct s3c_epoch *epoch = s3c_volume_epoch_find(volume, number);

	return epoch ? epoch->seal_key : NULL;
}

/* Beside readers: at any time they find all that were there. */
static void insert(struct s3c_volume *volume, struct s3c_epoch *epoch)
{
	_Atomic(struct s3c_epoch *) *where = &volume->newest;
	struct s3c_epoch *next;

	while ((next = *where) && next->number > epoch->number)
		where = &next->older;
	epoch->older = next;
	*where = epoch;
	if (epoch->number > volume->epoch)
		volume->epoch = epoch->number;
}

/* Those of a list that volume does not have, the oldest first; other keeps the rest. */
static void take_missing(struct s3c_volume *volume, struct s3c_volume *other,
			 struct s3c_epoch *from)
{
	if (!from)
		return;
	take_missing(volume, other, from->older);
	if (!s3c_volume_epoch_find(volume, from->number)) {
		insert(volume, from);
	} else {
		from->older = other->newest;
		other->newest = from;
		other->epoch = from->number;
	}
}

int s3c_volume_learn(struct s3c_volume *volume, struct s3c_volume *other)
{
	struct s3c_epoch *all = other->newest;

	/* The id is for all to see, and the HMAC is of a volume key that its maker may have drawn:
	 * who may wrap with the KMS key needs no more. The local key is the same in all epochs,
	 * and only who has a former volume key can have put it there. */
	if (!volume->keys || !other->keys ||
	    !s3c_equal_ct(volume->keys + KEYS_LOCAL, other->keys + KEYS_LOCAL, S3C_KEY_LEN))
		return -EKEYREJECTED;
	/* The dropped ones of a volume may be in the body again. */
	for (struct s3c_epoch *own = volume->newest; own; own = own->older)
		own->dropped = !s3c_volume_epoch_find(other, own->number);
	other->newest = NULL;
	/* Also older ones: dropped before this volume was opened, and put back since. */
	take_missing(volume, other, all);
	atomic_store(&volume->serial, atomic_load(&other->serial));
	return 0;
}
