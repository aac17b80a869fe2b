/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The body is JSON and, for cse, a last line with an HMAC over all bytes before
 * it. Order of trust when it is opened: a slot gives a volume key, the key check
 * says that it is the right one, the HMAC under a key from it vouches for the
 * text; only then are the other members believed.
 */
#include "object/volume_private.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"
#include "object/volume_kms.h"

#define LOCAL_LABEL_MAX 32

void s3c_volume_free(struct s3c_volume *volume)
{
	if (!volume)
		return;
	s3c_volume_free(volume->former);
	s3c_volume_epochs_free(atomic_load(&volume->newest));
	s3c_secret_free(volume->keys);
	free(volume->ssec_keys);
	free(volume->ssec_missing);
	free(volume);
}

int s3c_volume_local_key(const struct s3c_volume *volume, const char *label,
			 uint8_t ret_key[static S3C_KEY_LEN])
{
	static const char prefix[] = "s3cryptfs local ";
	char info[sizeof(prefix) + LOCAL_LABEL_MAX];
	size_t len = strlen(label);

	if (volume->family != S3C_FAMILY_CSE || len > LOCAL_LABEL_MAX)
		return -EINVAL;
	memcpy(info, prefix, sizeof(prefix) - 1);
	memcpy(info + sizeof(prefix) - 1, label, len);
	/* HKDF-Expand of RFC 5869, whose first block is all that is needed. */
	info[sizeof(prefix) - 1 + len] = 1;
	return s3c_hmac_sha256(volume->keys + KEYS_LOCAL, S3C_KEY_LEN, info, sizeof(prefix) + len,
			       ret_key);
}

int s3c_volume_xattr_key(const struct s3c_volume *volume, uint32_t epoch,
			 const uint8_t salt[static S3C_XATTR_SALT_LEN],
			 uint8_t ret_key[static S3C_KEY_LEN])
{
	static const char label[] = "s3cryptfs xattr";
	const struct s3c_epoch *of = s3c_volume_epoch_find(volume, epoch);
	uint8_t info[sizeof(label) - 1 + S3C_XATTR_SALT_LEN];

	if (!of)
		return -EINVAL;
	memcpy(info, label, sizeof(label) - 1);
	memcpy(info + sizeof(label) - 1, salt, S3C_XATTR_SALT_LEN);
	return s3c_hkdf_sha256(of->keys + EPOCH_VOLUME, S3C_KEY_LEN, NULL, 0, info, sizeof(info),
			       ret_key, S3C_KEY_LEN);
}

/* The key of encrypted names, from the name key: AES-256-SIV wants two keys. */
static int use_name_key(struct s3c_volume *volume, const uint8_t *name_key)
{
	static const char label[] = "s3cryptfs names";
	int r = s3c_hkdf_sha256(name_key, S3C_KEY_LEN, NULL, 0, label, sizeof(label) - 1,
				volume->keys + KEYS_NAMES, S3C_SIV_KEY_LEN);

	if (r == 0)
		volume->names_key = volume->keys + KEYS_NAMES;
	return r;
}

/* Slots for all keys that there are. */
static int append_slots(json_t *slots, const struct s3c_volume *volume,
			const struct s3c_keyring *keyring, struct s3c_err *err)
{
	const uint8_t *volume_key = atomic_load(&volume->newest)->keys + EPOCH_VOLUME;
	int r = 0;

	for (size_t i = 0; r == 0 && i < keyring->count; i++)
		if (s3c_volume_can_wrap(&keyring->keys[i]))
			r = s3c_volume_append_slot(slots, &keyring->keys[i], volume->id,
						   volume_key);
	if (r == 0 && s3c_volume_kms_writes(keyring))
		r = s3c_volume_kms_append(slots, keyring->kms, volume->id, VOLUME_KEY_ALG,
					  volume_key, err);
	return r;
}

/* The keys of a new volume. The caller wipes the name key. */
static int draw_cse(struct s3c_volume *volume, bool encrypted_names, uint8_t *ret_name_key)
{
	cleanup_secret uint8_t *volume_key = s3c_secret_alloc(S3C_KEY_LEN);
	struct s3c_epoch *epoch = NULL;
	int r;

	volume->keys = s3c_secret_alloc(KEYS_LEN);
	if (!volume_key || !volume->keys)
		return -ENOMEM;
	s3c_random(volume_key, S3C_KEY_LEN);
	s3c_random(ret_name_key, S3C_KEY_LEN);
	r = s3c_volume_epoch_new(FIRST_EPOCH, 0, volume_key, volume->id, &epoch);
	if (r < 0)
		return r;
	volume->newest = epoch;
	volume->epoch = FIRST_EPOCH;
	r = s3c_volume_local_root(volume_key, volume->id, volume->keys + KEYS_LOCAL);
	return r == 0 && encrypted_names ? use_name_key(volume, ret_name_key) : r;
}

static int create_cse(struct s3c_volume *volume, const struct s3c_keyring *keyring,
		      bool encrypted_names, struct s3c_err *err, struct s3c_buf *ret_body)
{
	cleanup_secret uint8_t *name_key = s3c_secret_alloc(S3C_KEY_LEN);
	json_auto_t *slots = json_array(), *root = NULL;
	const struct s3c_epoch *epoch;
	int r = slots && name_key ? draw_cse(volume, encrypted_names, name_key) : -ENOMEM;

	if (r == 0)
		r = append_slots(slots, volume, keyring, err);
	if (r < 0)
		return r;
	epoch = volume->newest;
	root = json_pack("{s:s, s:i, s:s, s:o, s:I, s:i, s:s, s:[o]}", "format", BODY_FORMAT,
			 "version", BODY_VERSION, "family", "cse", "id",
			 s3c_volume_hex(volume->id, sizeof(volume->id)), "serial",
			 (json_int_t)volume->serial, "epoch", FIRST_EPOCH, "names",
			 encrypted_names ? "encrypted" : "plain", "epochs",
			 s3c_volume_epoch_item(epoch, volume->id, json_incref(slots)));
	r = root ? s3c_volume_set_wrapped(root, "name_key", NAME_KEY_ALG, epoch, volume->id,
					  name_key)
		 : -ENOMEM;
	return r < 0 ? r : s3c_volume_write(root, epoch, volume->id, ret_body);
}

static int create_ssec(struct s3c_volume *volume, const struct s3c_keyring *keyring,
		       struct s3c_buf *ret_body)
{
	json_auto_t *checks = json_array(), *root = NULL;
	int r = checks ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < keyring->count; i++)
		if (s3c_volume_key_serves(&keyring->keys[i], volume->family, volume->ssec_shared))
			r = s3c_volume_append_check(checks, &keyring->keys[i], volume->id);
	if (r < 0)
		return r;
	root = json_pack("{s:s, s:i, s:s, s:o, s:I, s:s, s:O}", "format", BODY_FORMAT, "version",
			 BODY_VERSION, "family", "sse-c", "id",
			 s3c_volume_hex(volume->id, sizeof(volume->id)), "serial",
			 (json_int_t)volume->serial, "ssec_key",
			 volume->ssec_shared ? "shared" : "per-object", "checks", checks);
	return root ? s3c_volume_write(root, NULL, NULL, ret_body) : -ENOMEM;
}

/* The master key that a volume of this kind writes with; NULL with a sentence. */
const struct s3c_master_key *s3c_volume_writing_key(enum s3c_family family, bool ssec_shared,
						    const struct s3c_keyring *keyring,
						    struct s3c_err *err)
{
	const struct s3c_master_key *key;

	if (family == S3C_FAMILY_SSEC && ssec_shared) {
		key = s3c_keyring_ssec_shared(keyring);
		if (!key)
			s3c_err_set(
				err, -EKEYREJECTED,
				"ssec_key=shared needs a key with 'use = sse-c' in the keyring");
		return key;
	}
	key = s3c_keyring_active(keyring);
	if ((key && s3c_volume_can_wrap(key)) ||
	    (family == S3C_FAMILY_CSE && s3c_volume_kms_writes(keyring)))
		return key;
	s3c_err_set(err, -EKEYREJECTED,
		    "the active key %s has 'use = sse-c': it is sent to the store and may encrypt "
		    "nothing else; make another key active, or mount with enc=sse-c,"
		    "ssec_key=shared",
		    key ? key->id : "");
	return NULL;
}

/* Room for all keys that may read, with the one in use. */
static int readers_begin(struct s3c_volume *volume, const struct s3c_keyring *keyring)
{
	volume->ssec_keys = calloc(keyring->count, sizeof(*volume->ssec_keys));
	if (!volume->ssec_keys)
		return -ENOMEM;
	volume->ssec_keys[volume->ssec_key_count++] = volume->ssec_key;
	return 0;
}

static int create(enum s3c_family family, bool ssec_shared, bool encrypted_names,
		  const struct s3c_volume *former, const struct s3c_keyring *keyring,
		  struct s3c_err *err, struct s3c_volume **ret_volume, struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = calloc(1, sizeof(*volume));
	const struct s3c_master_key *key;
	int r;

	if (!volume)
		return -ENOMEM;
	if (family != S3C_FAMILY_CSE && family != S3C_FAMILY_SSEC)
		return -EINVAL; /* the others have no volume object */
	if (encrypted_names && family != S3C_FAMILY_CSE)
		return -EINVAL; /* they have no name key */
	volume->family = family;
	volume->ssec_shared = family == S3C_FAMILY_SSEC && ssec_shared;
	key = s3c_volume_writing_key(family, volume->ssec_shared, keyring, err);
	if (!key && !(family == S3C_FAMILY_CSE && s3c_volume_kms_writes(keyring)))
		return -EKEYREJECTED;
	if (former)
		memcpy(volume->id, former->id, sizeof(volume->id));
	else
		s3c_random(volume->id, sizeof(volume->id));
	volume->serial = former ? former->serial + 1 : 1;
	volume->active_slot = true;
	if (family == S3C_FAMILY_SSEC) {
		volume->ssec_key = key;
		r = readers_begin(volume, keyring);
		if (r < 0)
			return r;
	}
	r = family == S3C_FAMILY_CSE ? create_cse(volume, keyring, encrypted_names, err, ret_body)
				     : create_ssec(volume, keyring, ret_body);
	if (r < 0)
		return r;
	*ret_volume = steal_ptr(volume);
	return 0;
}

int s3c_volume_create(enum s3c_family family, bool ssec_shared, bool encrypted_names,
		      const struct s3c_keyring *keyring, struct s3c_err *err,
		      struct s3c_volume **ret_volume, struct s3c_buf *ret_body)
{
	return create(family, ssec_shared, encrypted_names, NULL, keyring, err, ret_volume,
		      ret_body);
}

int s3c_volume_create_after(const struct s3c_volume *former, const struct s3c_keyring *keyring,
			    struct s3c_err *err, struct s3c_volume **ret_volume,
			    struct s3c_buf *ret_body)
{
	if (former->family != S3C_FAMILY_SSEC || former->serial >= INT64_MAX)
		return -EINVAL;
	return create(S3C_FAMILY_CSE, false, false, former, keyring, err, ret_volume, ret_body);
}

int s3c_volume_open_name_key(const json_t *root, const struct s3c_volume *volume,
			     struct s3c_err *err, uint8_t ret_key[static S3C_KEY_LEN])
{
	const struct s3c_master_key newest = {
		.secret_len = S3C_KEY_LEN,
		.secret = atomic_load(&volume->newest)->keys + EPOCH_VOLUME,
	};
	uint8_t wrapped[S3C_WRAP_LEN];
	int r;

	if (!s3c_volume_get_wrapped(root, "name_key", wrapped))
		return s3c_volume_damaged(err, "no name key");
	r = s3c_wrap_open(&newest, NAME_KEY_ALG, volume->id, wrapped, ret_key);
	return r == -EBADMSG ? s3c_volume_damaged(err, "its name key") : r;
}

/* The choice of names, and the key of encrypted ones. The body is believed. */
static int open_names(const json_t *root, struct s3c_err *err, struct s3c_volume *volume)
{
	const char *names = s3c_volume_get_string(root, "names");
	uint8_t name_key[S3C_KEY_LEN];
	int r;

	if (!names)
		return s3c_volume_damaged(err, "no names");
	if (strcmp(names, "plain") == 0)
		return 0;
	if (strcmp(names, "encrypted") != 0)
		return s3c_volume_newer(err, "names");
	r = s3c_volume_open_name_key(root, volume, err, name_key);
	if (r == 0)
		r = use_name_key(volume, name_key);
	s3c_wipe(name_key, sizeof(name_key));
	return r;
}

/* The key of what this machine keeps: of volumes whose first epoch is gone it is a member. */
static int open_local(const json_t *root, struct s3c_err *err, struct s3c_volume *volume)
{
	const uint8_t *volume_key = atomic_load(&volume->newest)->keys + EPOCH_VOLUME;
	const struct s3c_master_key newest = { .secret_len = S3C_KEY_LEN,
					       .secret = (uint8_t *)volume_key };
	uint8_t wrapped[S3C_WRAP_LEN];
	int r;

	if (!json_object_get(root, "local_key"))
		return volume->epoch == FIRST_EPOCH
			       ? s3c_volume_local_root(volume_key, volume->id,
						       volume->keys + KEYS_LOCAL)
			       : s3c_volume_damaged(err, "no local key");
	if (!s3c_volume_get_wrapped(root, "local_key", wrapped))
		return s3c_volume_damaged(err, "its local key");
	r = s3c_wrap_open(&newest, LOCAL_KEY_ALG, volume->id, wrapped, volume->keys + KEYS_LOCAL);
	return r == -EBADMSG ? s3c_volume_damaged(err, "its local key") : r;
}

/* The newest epoch by a slot, then the HMAC under it, then what it wraps. */
static int open_epochs(const char *body, const struct s3c_volume_parsed *p, uint32_t number,
		       const struct s3c_keyring *keyring, struct s3c_err *err,
		       struct s3c_volume *volume)
{
	const json_t *epochs = json_object_get(p->root, "epochs");
	cleanup_secret uint8_t *volume_key = s3c_secret_alloc(S3C_KEY_LEN);
	struct s3c_epoch *newest = NULL, *all = NULL;
	uint8_t mac[S3C_SHA256_LEN];
	int r = volume_key ? s3c_volume_find_key(json_array_get(epochs, 0), number, keyring, p->id,
						 err, volume_key)
			   : -ENOMEM;

	if (r == 0)
		r = s3c_volume_epoch_new(number, 0, volume_key, p->id, &newest);
	if (r == 0)
		r = s3c_volume_mac(newest, p->id, body, p->mac_over, mac);
	if (r == 0 && !s3c_equal_ct(mac, p->mac, sizeof(mac)))
		r = s3c_volume_damaged(err, "its HMAC does not fit: it was altered");
	if (r == 0)
		r = s3c_volume_epochs_open(epochs, volume_key, p->id, err, &all);
	s3c_volume_epochs_free(newest);
	if (r < 0)
		return r;
	volume->newest = all;
	volume->epoch = number;
	return 0;
}

static int open_cse(const char *body, const struct s3c_volume_parsed *p,
		    const struct s3c_keyring *keyring, struct s3c_err *err,
		    struct s3c_volume *volume)
{
	const json_t *epoch = json_array_get(json_object_get(p->root, "epochs"), 0), *slots;
	const struct s3c_master_key *active = s3c_keyring_active(keyring);
	json_int_t number, of_item;
	int r;

	if (!s3c_volume_get_int(p->root, "epoch", UINT32_MAX, &number))
		return s3c_volume_damaged(err, "no epoch");
	if (!s3c_volume_get_int(epoch, "epoch", UINT32_MAX, &of_item) || of_item != number)
		return s3c_volume_damaged(err, "epochs");
	volume->keys = s3c_secret_alloc(KEYS_LEN);
	if (!volume->keys)
		return -ENOMEM;
	r = open_epochs(body, p, (uint32_t)number, keyring, err, volume);
	if (r == 0)
		r = open_names(p->root, err, volume);
	if (r == 0)
		r = open_local(p->root, err, volume);
	if (r < 0)
		return r;
	slots = json_object_get(epoch, "slots");
	volume->active_slot = s3c_volume_kms_writes(keyring)
				      ? s3c_volume_kms_has(slots, keyring->kms)
				      : active && s3c_volume_has_entry(slots, active->id);
	return 0;
}

static int open_ssec(const struct s3c_volume_parsed *p, const struct s3c_keyring *keyring,
		     struct s3c_err *err, struct s3c_volume *volume)
{
	const json_t *checks = json_object_get(p->root, "checks");
	const char *ssec_key = s3c_volume_get_string(p->root, "ssec_key");
	bool opened = false;
	int r;

	if (!ssec_key || !json_is_array(checks))
		return s3c_volume_damaged(err, "no checks");
	volume->ssec_shared = strcmp(ssec_key, "shared") == 0;
	if (!volume->ssec_shared && strcmp(ssec_key, "per-object") != 0)
		return s3c_volume_newer(err, "ssec_key");
	volume->ssec_key = s3c_volume_writing_key(p->family, volume->ssec_shared, keyring, err);
	if (!volume->ssec_key)
		return -EKEYREJECTED;
	r = readers_begin(volume, keyring);
	if (r < 0)
		return r;
	for (size_t i = 0; i < keyring->count; i++) {
		const struct s3c_master_key *key = &keyring->keys[i];

		if (!s3c_volume_key_serves(key, p->family, volume->ssec_shared))
			continue;
		r = s3c_volume_ssec_check(checks, key, p->id);
		/* Every key is tried on objects later: one that lies about its name is refused. */
		if (r == -EBADMSG)
			return s3c_err_set(err, -EKEYREJECTED,
					   "the key %s of the keyring is not the one that this "
					   "volume was made with (same name, other secret)",
					   key->id);
		if (r < 0 && r != -ENOENT)
			return r;
		opened |= r == 0;
		volume->active_slot |= r == 0 && key == volume->ssec_key;
		if (r == 0 && key != volume->ssec_key)
			volume->ssec_keys[volume->ssec_key_count++] = key;
	}
	if (!opened)
		return s3c_err_set(
			err, -EKEYREJECTED,
			"no key of the keyring is known to this volume; add the key that "
			"it was made with");
	return s3c_volume_list_missing(checks, keyring, &volume->ssec_missing);
}

/* The volume; ret_parsed (the caller's to release) is filled in success only. */
int s3c_volume_open_body(const void *body, size_t len, const struct s3c_keyring *keyring,
			 struct s3c_err *err, struct s3c_volume_parsed *ret_parsed,
			 struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = calloc(1, sizeof(*volume));
	struct s3c_volume_parsed p;
	int r;

	if (!volume)
		return -ENOMEM;
	r = s3c_volume_parse(body, len, err, &p);
	if (r < 0)
		return r;
	volume->family = p.family;
	volume->serial = p.serial;
	memcpy(volume->id, p.id, sizeof(volume->id));
	r = s3c_sha256(body, len, volume->body_hash);
	if (r == 0)
		r = p.family == S3C_FAMILY_CSE ? open_cse(body, &p, keyring, err, volume)
					       : open_ssec(&p, keyring, err, volume);
	if (r < 0) {
		json_decref(p.root);
		return r;
	}
	*ret_parsed = p;
	*ret_volume = steal_ptr(volume);
	return 0;
}

int s3c_volume_open(const void *body, size_t len, const struct s3c_keyring *keyring,
		    struct s3c_err *err, struct s3c_volume **ret_volume)
{
	struct s3c_volume_parsed p;
	int r;

	r = s3c_volume_open_body(body, len, keyring, err, &p, ret_volume);
	if (r == 0)
		json_decref(p.root);
	return r;
}

bool s3c_volume_says_encrypted(const void *body, size_t len)
{
	struct s3c_volume_parsed p;
	const char *names;
	bool says;

	if (s3c_volume_parse(body, len, NULL, &p) < 0)
		return false;
	names = s3c_volume_get_string(p.root, "names");
	says = names && strcmp(names, "encrypted") == 0;
	json_decref(p.root);
	return says;
}

bool s3c_volume_says_ssec(const void *body, size_t len)
{
	struct s3c_volume_parsed p;

	if (s3c_volume_parse(body, len, NULL, &p) < 0)
		return false;
	json_decref(p.root);
	return p.family == S3C_FAMILY_SSEC;
}
