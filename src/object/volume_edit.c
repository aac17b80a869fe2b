/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Volume objects with something changed: what is not changed stays as it was read. */
#include "object/volume_private.h"

#include <errno.h>
#include <string.h>

#include "base/secret.h"
#include "object/volume_kms.h"

/* The slots of the newest epoch, or the checks. */
static json_t *entries_of(const struct s3c_volume_parsed *p)
{
	if (p->family == S3C_FAMILY_CSE)
		return json_object_get(json_array_get(json_object_get(p->root, "epochs"), 0),
				       "slots");
	return json_object_get(p->root, "checks");
}

/* A body with a serial number over that one, under the HMAC of epoch; NULL: without. */
static int write_under(const struct s3c_volume_parsed *p, const struct s3c_epoch *epoch,
		       uint64_t serial, struct s3c_buf *ret_body)
{
	if (serial >= INT64_MAX)
		return -EOVERFLOW;
	if (json_object_set_new(p->root, "serial", json_integer((json_int_t)serial + 1)) < 0)
		return -ENOMEM;
	return s3c_volume_write(p->root, epoch, p->id, ret_body);
}

static int write_over(const struct s3c_volume_parsed *p, const struct s3c_volume *volume,
		      uint64_t serial, struct s3c_buf *ret_body)
{
	return write_under(p, atomic_load(&volume->newest), serial, ret_body);
}

int s3c_volume_add_keys(const void *body, size_t len, const struct s3c_keyring *keyring,
			struct s3c_err *err, size_t *ret_added, struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	json_auto_t *root = NULL;
	struct s3c_volume_parsed p;
	json_t *entries;
	size_t added = 0;
	int r;

	r = s3c_volume_open_body(body, len, keyring, err, &p, &volume);
	if (r < 0)
		return r;
	root = p.root;
	if (!(p.family == S3C_FAMILY_CSE && s3c_volume_kms_writes(keyring)) &&
	    !s3c_volume_writing_key(p.family, volume->ssec_shared, keyring, err))
		return -EKEYREJECTED;
	entries = entries_of(&p);
	for (size_t i = 0; r == 0 && i < keyring->count; i++) {
		const struct s3c_master_key *key = &keyring->keys[i];

		if (!s3c_volume_key_serves(key, p.family, volume->ssec_shared) ||
		    s3c_volume_has_entry(entries, key->id))
			continue;
		r = p.family == S3C_FAMILY_CSE
			    ? s3c_volume_append_slot(entries, key, p.id,
						     s3c_volume_newest_key(volume))
			    : s3c_volume_append_check(entries, key, p.id);
		added++;
	}
	if (r == 0 && p.family == S3C_FAMILY_CSE && s3c_volume_kms_writes(keyring) &&
	    !s3c_volume_kms_has(entries, keyring->kms)) {
		r = s3c_volume_kms_append(entries, keyring->kms, p.id, VOLUME_KEY_ALG,
					  s3c_volume_newest_key(volume), err);
		added++;
	}
	if (r == 0 && added)
		r = write_over(&p, volume, p.serial, ret_body);
	if (r == 0)
		*ret_added = added;
	return r;
}

int s3c_volume_raise_serial(const void *body, size_t len, const struct s3c_keyring *keyring,
			    uint64_t over, struct s3c_err *err, bool *ret_raised,
			    struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	json_auto_t *root = NULL;
	struct s3c_volume_parsed p;
	bool raise;
	int r = s3c_volume_open_body(body, len, keyring, err, &p, &volume);

	if (r < 0)
		return r;
	root = p.root;
	raise = p.serial <= over;
	if (raise)
		r = write_over(&p, volume, over, ret_body);
	if (r == 0)
		*ret_raised = raise;
	return r;
}

int s3c_volume_remove_key(const void *body, size_t len, const struct s3c_keyring *keyring,
			  const char *key_id, struct s3c_err *err, size_t *ret_removed,
			  struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	const struct s3c_master_key *writer;
	json_auto_t *root = NULL;
	struct s3c_volume_parsed p;
	json_t *entries;
	size_t removed = 0;
	bool by_kms;
	int r;

	r = s3c_volume_open_body(body, len, keyring, err, &p, &volume);
	if (r < 0)
		return r;
	root = p.root;
	by_kms = p.family == S3C_FAMILY_CSE && s3c_volume_kms_writes(keyring);
	writer = s3c_volume_writing_key(p.family, volume->ssec_shared, keyring, err);
	if (!writer && !by_kms)
		return -EKEYREJECTED;
	entries = entries_of(&p);
	/* Whoever has that key alone could not open the volume any more. */
	if (by_kms ? !s3c_volume_kms_has(entries, keyring->kms) ||
			     strcmp(s3c_kms_keys_active(keyring->kms), key_id) == 0
		   : strcmp(writer->id, key_id) == 0 || !s3c_volume_has_entry(entries, writer->id))
		return s3c_err_set(err, -EBUSY,
				   "the volume object is opened by the key %s alone: mount it "
				   "writable once with the new active key",
				   key_id);
	for (size_t i = json_array_size(entries); i-- > 0;) {
		const char *id = s3c_volume_get_string(json_array_get(entries, i), "key_id");

		if (!id || strcmp(id, key_id) != 0)
			continue;
		json_array_remove(entries, i);
		removed++;
	}
	if (removed)
		r = write_over(&p, volume, p.serial, ret_body);
	if (r == 0)
		*ret_removed = removed;
	return r;
}

/* A slot for each key that has one now: what the former volume key opened for, the new one does. */
static int take_slots(const json_t *former, const struct s3c_keyring *keyring, const uint8_t *id,
		      const struct s3c_epoch *epoch, struct s3c_err *err, json_t *ret_slots)
{
	const char *active =
		s3c_volume_kms_writes(keyring) ? s3c_kms_keys_active(keyring->kms) : NULL;
	const uint8_t *volume_key = epoch->keys + EPOCH_VOLUME;
	const json_t *slot;
	int r = 0;
	size_t i;

	json_array_foreach(former, i, slot)
	{
		const char *key_id = s3c_volume_get_string(slot, "key_id");
		const struct s3c_master_key *key =
			key_id ? s3c_keyring_find(keyring, key_id) : NULL;

		if (r < 0 || (key_id && active && strcmp(active, key_id) == 0))
			continue;
		if (!key || !s3c_volume_can_wrap(key))
			return s3c_err_set(
				err, -EKEYREJECTED,
				"the volume can be opened by the key %.256s as well, "
				"which is not at hand to wrap the new volume key: add it "
				"to the keyring, or take it out of the volume with: "
				"s3cryptfsctl key retire",
				key_id ? key_id : "(unnamed)");
		r = s3c_volume_append_slot(ret_slots, key, id, volume_key);
	}
	if (r == 0 && active)
		r = s3c_volume_kms_append(ret_slots, keyring->kms, id, VOLUME_KEY_ALG, volume_key,
					  err);
	return r;
}

/* Name key and local key stay what they are, under the new volume key. */
static int wrap_lasting(json_t *root, const struct s3c_volume *volume,
			const struct s3c_epoch *epoch, struct s3c_err *err)
{
	uint8_t name_key[S3C_KEY_LEN];
	int r = s3c_volume_open_name_key(root, volume, err, name_key);

	if (r == 0)
		r = s3c_volume_set_wrapped(root, "name_key", NAME_KEY_ALG, epoch, volume->id,
					   name_key);
	if (r == 0)
		r = s3c_volume_set_wrapped(root, "local_key", LOCAL_KEY_ALG, epoch, volume->id,
					   volume->keys + KEYS_LOCAL);
	s3c_wipe(name_key, sizeof(name_key));
	return r;
}

/* The newest epoch and those of older, which it wraps, as the array of the body. */
static int set_epochs(json_t *root, const struct s3c_epoch *epoch, json_t *slots,
		      const struct s3c_epoch *older, const uint8_t *id)
{
	json_t *epochs = json_array();
	int r = json_array_append_new(epochs, s3c_volume_epoch_item(epoch, id, slots));

	for (; r == 0 && older; older = older->older)
		r = json_array_append_new(epochs, s3c_volume_former_item(older, epoch, id));
	if (r == 0)
		r = json_object_set(root, "epochs", epochs);
	if (r == 0)
		r = json_object_set_new(root, "epoch", json_integer(epoch->number));
	json_decref(epochs);
	return r < 0 ? -ENOMEM : 0;
}

static int begin_epoch(const struct s3c_volume_parsed *p, const struct s3c_volume *volume,
		       const struct s3c_keyring *keyring, int64_t now_s, struct s3c_err *err,
		       struct s3c_buf *ret_body)
{
	cleanup_secret uint8_t *volume_key = s3c_secret_alloc(S3C_KEY_LEN);
	const struct s3c_epoch *former = atomic_load(&volume->newest);
	json_auto_t *slots = json_array();
	struct s3c_epoch *epoch = NULL;
	int r = volume_key && slots ? 0 : -ENOMEM;

	if (r == 0 && former->number == UINT32_MAX)
		r = -EOVERFLOW;
	if (r == 0) {
		s3c_random(volume_key, S3C_KEY_LEN);
		r = s3c_volume_epoch_new(former->number + 1, now_s, volume_key, volume->id, &epoch);
	}
	if (r == 0)
		r = take_slots(entries_of(p), keyring, volume->id, epoch, err, slots);
	if (r == 0)
		r = wrap_lasting(p->root, volume, epoch, err);
	if (r == 0)
		r = set_epochs(p->root, epoch, json_incref(slots), former, volume->id);
	if (r == 0)
		r = write_under(p, epoch, p->serial, ret_body);
	s3c_volume_epochs_free(epoch);
	return r;
}

int s3c_volume_begin_epoch(const void *body, size_t len, const struct s3c_keyring *keyring,
			   int64_t now_s, struct s3c_err *err, uint32_t *ret_epoch,
			   struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	json_auto_t *root = NULL;
	struct s3c_volume_parsed p;
	uint32_t epoch;
	int r = s3c_volume_open_body(body, len, keyring, err, &p, &volume);

	if (r < 0)
		return r;
	root = p.root;
	if (p.family != S3C_FAMILY_CSE)
		return -EINVAL;
	epoch = volume->epoch;
	if (!atomic_load(&volume->newest)->older) {
		r = begin_epoch(&p, volume, keyring, now_s, err, ret_body);
		epoch++;
	}
	if (r == 0)
		*ret_epoch = epoch;
	return r;
}

int s3c_volume_drop_epochs(const void *body, size_t len, const struct s3c_keyring *keyring,
			   struct s3c_err *err, size_t *ret_dropped, struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	json_auto_t *root = NULL;
	struct s3c_volume_parsed p;
	json_t *epochs;
	size_t dropped = 0;
	int r = s3c_volume_open_body(body, len, keyring, err, &p, &volume);

	if (r < 0)
		return r;
	root = p.root;
	epochs = json_object_get(root, "epochs");
	for (; r == 0 && json_array_size(epochs) > 1; dropped++)
		r = json_array_remove(epochs, json_array_size(epochs) - 1) < 0 ? -ENOMEM : 0;
	if (r == 0 && dropped)
		r = write_over(&p, volume, p.serial, ret_body);
	if (r == 0)
		*ret_dropped = dropped;
	return r;
}

int s3c_volume_put_back_epoch(const void *body, size_t len, const struct s3c_keyring *keyring,
			      const struct s3c_volume *volume, uint32_t number, struct s3c_err *err,
			      bool *ret_missing, struct s3c_buf *ret_body)
{
	const struct s3c_epoch *epoch = s3c_volume_epoch_find(volume, number), *newest;
	cleanup_volume struct s3c_volume *stored = NULL;
	json_auto_t *root = NULL;
	struct s3c_volume_parsed p;
	json_t *epochs;
	size_t at = 0;
	int r = s3c_volume_open_body(body, len, keyring, err, &p, &stored);

	if (r < 0)
		return r;
	root = p.root;
	newest = stored->newest;
	if (s3c_volume_epoch_find(stored, number)) {
		*ret_missing = false;
		return 0;
	}
	/* Without its key nothing can be put back, and no former epoch is newer than the newest. */
	if (!epoch || !newest || number > newest->number)
		return -EINVAL;
	epochs = json_object_get(root, "epochs");
	for (const struct s3c_epoch *e = newest; e && e->number > number; e = e->older)
		at++;
	if (json_array_insert_new(epochs, at, s3c_volume_former_item(epoch, newest, stored->id)) <
	    0)
		return -ENOMEM;
	r = write_over(&p, stored, p.serial, ret_body);
	if (r == 0)
		*ret_missing = true;
	return r;
}
