/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Slots, each with the volume key wrapped once, and the checks of sse-c. */
#include "object/volume_private.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"
#include "object/volume_kms.h"

bool s3c_volume_can_wrap(const struct s3c_master_key *key)
{
	return key->secret && key->secret_len == S3C_KEY_LEN && !key->ssec_shared;
}

bool s3c_volume_kms_writes(const struct s3c_keyring *keyring)
{
	return keyring->kms && s3c_kms_keys_writes(keyring->kms);
}

/* Keys that the family of this volume uses: they get a slot or a check. */
bool s3c_volume_key_serves(const struct s3c_master_key *key, enum s3c_family family,
			   bool ssec_shared)
{
	return family == S3C_FAMILY_SSEC && ssec_shared ? key->ssec_shared
							: s3c_volume_can_wrap(key);
}

/* Appends the volume key wrapped under one master key. */
int s3c_volume_append_slot(json_t *slots, const struct s3c_master_key *key, const uint8_t *id,
			   const uint8_t *volume_key)
{
	uint8_t wrapped[S3C_WRAP_LEN];
	json_t *slot;
	int r;

	r = s3c_wrap_seal(key, VOLUME_KEY_ALG, id, volume_key, wrapped);
	if (r < 0)
		return r;
	slot = json_pack("{s:s, s:s, s:o}", "type", "master-key", "key_id", key->id, "wrapped",
			 s3c_volume_base64(wrapped, sizeof(wrapped)));
	return json_array_append_new(slots, slot) < 0 ? -ENOMEM : 0;
}

int s3c_volume_append_check(json_t *checks, const struct s3c_master_key *key, const uint8_t *id)
{
	uint8_t check[S3C_SHA256_LEN];
	json_t *item;
	int r;

	r = s3c_derive_ssec_check(key, id, check);
	if (r < 0)
		return r;
	item = json_pack("{s:s, s:o}", "key_id", key->id, "check",
			 s3c_volume_hex(check, sizeof(check)));
	return json_array_append_new(checks, item) < 0 ? -ENOMEM : 0;
}

int s3c_volume_fits_check(const uint8_t *volume_key, const uint8_t *id, uint32_t epoch,
			  const uint8_t *check)
{
	uint8_t got[S3C_KEY_LEN];
	int r = s3c_volume_derive(volume_key, "s3cryptfs check", id, epoch, got);

	return r < 0 || s3c_equal_ct(got, check, sizeof(got)) ? r : -EBADMSG;
}

/* By the KMS, under the keys that are named. -ENOENT: there is no slot for one of them. */
static int open_by_kms(const json_t *slots, uint32_t epoch, const struct s3c_keyring *keyring,
		       const uint8_t *id, const uint8_t *check, struct s3c_err *err,
		       uint8_t *ret_volume_key)
{
	uint8_t volume_key[S3C_KEY_LEN];
	int result = -ENOENT, r;
	size_t at = 0;

	do {
		r = s3c_volume_kms_open(slots, &at, keyring->kms, id, VOLUME_KEY_ALG, err,
					volume_key);
		if (r == 0)
			r = s3c_volume_fits_check(volume_key, id, epoch, check);
		if (r == 0)
			memcpy(ret_volume_key, volume_key, S3C_KEY_LEN);
		else if (r != -ENOENT)
			result = r == -EBADMSG ? s3c_err_set(err, r, "its key does not open") : r;
	} while (r < 0 && r != -ENOENT);
	s3c_wipe(volume_key, sizeof(volume_key));
	return r == 0 ? 0 : result;
}

/* Tries the key's slot; 0 and the volume key, -ENOENT without a slot, -EBADMSG when none opens. */
static int open_slot(const json_t *slots, uint32_t epoch, const struct s3c_master_key *key,
		     const uint8_t *id, const uint8_t *check, uint8_t *ret_volume_key)
{
	const json_t *slot;
	uint8_t wrapped[S3C_WRAP_LEN], volume_key[S3C_KEY_LEN];
	int result = -ENOENT;
	size_t i;

	json_array_foreach(slots, i, slot)
	{
		const char *type = s3c_volume_get_string(slot, "type"),
			   *key_id = s3c_volume_get_string(slot, "key_id");
		int r;

		if (!type || strcmp(type, "master-key") != 0 || !key_id ||
		    strcmp(key_id, key->id) != 0)
			continue;
		result = -EBADMSG;
		if (!s3c_volume_get_wrapped(slot, "wrapped", wrapped))
			continue;
		r = s3c_wrap_open(key, VOLUME_KEY_ALG, id, wrapped, volume_key);
		if (r == 0)
			r = s3c_volume_fits_check(volume_key, id, epoch, check);
		if (r == 0)
			memcpy(ret_volume_key, volume_key, S3C_KEY_LEN);
		s3c_wipe(volume_key, sizeof(volume_key));
		if (r != -EBADMSG)
			return r;
	}
	return result;
}

/* For a sentence; not all of very many. */
static void list_slots(const json_t *slots, char *ret_text, size_t size)
{
	const json_t *slot;
	size_t i, len = 0;

	*ret_text = '\0';
	json_array_foreach(slots, i, slot)
	{
		const char *id = s3c_volume_get_string(slot, "key_id");
		int n = id ? snprintf(ret_text + len, size - len, "%s%s", len ? ", " : "", id) : 0;

		if (n < 0 || (size_t)n >= size - len)
			break;
		len += (size_t)n;
	}
	ret_text[len] = '\0';
}

int s3c_volume_find_key(const json_t *item, uint32_t epoch, const struct s3c_keyring *keyring,
			const uint8_t *id, struct s3c_err *err, uint8_t *ret_volume_key)
{
	const json_t *slots = json_object_get(item, "slots");
	const struct s3c_master_key *active = s3c_keyring_active(keyring), *wrong = NULL;
	uint8_t check[S3C_KEY_LEN];
	char ids[256];

	if (!s3c_volume_get_hex(item, "check", check, sizeof(check)))
		return s3c_volume_damaged(err, "no key check");
	if (keyring->kms) {
		int r = open_by_kms(slots, epoch, keyring, id, check, err, ret_volume_key);

		/* With the KMS away, or this key of it, another key that is there will do. */
		if (r == 0 || (r != -ENOENT && !active))
			return r;
	}
	for (size_t i = 0; i <= keyring->count; i++) {
		const struct s3c_master_key *key = i ? &keyring->keys[i - 1] : active;
		int r;

		if (!key || !s3c_volume_can_wrap(key) || (i && key == active))
			continue;
		r = open_slot(slots, epoch, key, id, check, ret_volume_key);
		if (r != -ENOENT && r != -EBADMSG)
			return r;
		if (r == -EBADMSG && !wrong)
			wrong = key;
		/* Another key might open the volume; what this one wraps nobody else could open. */
		if (r == -EBADMSG && key == active)
			break;
	}
	if (wrong)
		return s3c_err_set(err, -EKEYREJECTED,
				   "the key %s of the keyring is not the one that this volume was "
				   "made with (same name, other secret), or the volume object is "
				   "damaged",
				   wrong->id);
	list_slots(slots, ids, sizeof(ids));
	return s3c_err_set(err, -EKEYREJECTED, "%s opens this volume: it takes one of %s",
			   keyring->kms ? "no key of kms_key_id, kms_read_keys or a keyring"
					: "no key of the keyring",
			   ids);
}

bool s3c_volume_is_entry_of(const json_t *item, const char *key_id)
{
	const char *id = s3c_volume_get_string(item, "key_id"),
		   *type = s3c_volume_get_string(item, "type");

	return id && strcmp(id, key_id) == 0 && (!type || strcmp(type, "master-key") == 0);
}

bool s3c_volume_has_entry(const json_t *array, const char *key_id)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		if (s3c_volume_is_entry_of(item, key_id))
			return true;
	}
	return false;
}

/* 0: the check of this key fits, -ENOENT: it has none, -EBADMSG: another secret. */
int s3c_volume_ssec_check(const json_t *checks, const struct s3c_master_key *key, const uint8_t *id)
{
	uint8_t want[S3C_SHA256_LEN], got[S3C_SHA256_LEN];
	const json_t *item;
	size_t i;
	int r;

	r = s3c_derive_ssec_check(key, id, want);
	if (r < 0)
		return r;
	json_array_foreach(checks, i, item)
	{
		const char *key_id = s3c_volume_get_string(item, "key_id");

		if (!key_id || strcmp(key_id, key->id) != 0)
			continue;
		if (s3c_volume_get_hex(item, "check", got, sizeof(got)) &&
		    s3c_equal_ct(got, want, sizeof(got)))
			return 0;
		return -EBADMSG;
	}
	return -ENOENT;
}

/* The ids of checks for which the keyring has no key, for people. */
int s3c_volume_list_missing(const json_t *checks, const struct s3c_keyring *keyring,
			    char **ret_missing)
{
	cleanup_buf struct s3c_buf text = { 0 };
	const json_t *item;
	int r = 0;
	size_t i;

	json_array_foreach(checks, i, item)
	{
		const char *id = s3c_volume_get_string(item, "key_id");

		if (r == 0 && id && s3c_key_id_valid(id) && !s3c_keyring_find(keyring, id))
			r = s3c_buf_printf(&text, "%s%s", text.len ? ", " : "", id);
	}
	if (r == 0 && text.len)
		*ret_missing = s3c_buf_steal(&text);
	return r;
}
