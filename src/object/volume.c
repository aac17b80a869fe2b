/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The body is JSON and, for cse, a last line with an HMAC over all bytes before
 * it. Order of trust when it is opened: a slot gives a volume key, the key check
 * says that it is the right one, the HMAC under a key from it vouches for the
 * text; only then are the other members believed.
 */
#include "object/volume.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "base/encode.h"
#include "base/secret.h"
#include "object/volume_kms.h"

#define BODY_MAX (256u << 10)
#define BODY_FORMAT "s3cryptfs volume"
#define BODY_VERSION 1
#define FIRST_EPOCH 1
#define MAC_PREFIX "\nhmac-sha256 "
#define MAC_LINE_LEN (sizeof(MAC_PREFIX) - 1 + 2 * S3C_SHA256_LEN + 1) /* both line feeds */
#define VOLUME_KEY_ALG "s3cryptfs/volume-key/v1"
#define LOCAL_LABEL_MAX 32
#define NAME_KEY_ALG "s3cryptfs/name-key/v1"

/* Layout of s3c_volume.keys. */
enum { KEYS_VOLUME = 0, KEYS_SEAL = 32, KEYS_NAMES = 64, KEYS_LEN = 64 + S3C_SIV_KEY_LEN };

/* A body taken apart; nothing in it is trusted yet. */
struct parsed {
	json_t *root;
	enum s3c_family family;
	size_t mac_over; /* bytes under the HMAC; 0: there is no such line */
	uint8_t mac[S3C_SHA256_LEN];
	uint8_t id[S3C_VOLUME_ID_LEN];
	uint64_t serial;
};

void s3c_volume_free(struct s3c_volume *volume)
{
	if (!volume)
		return;
	s3c_secret_free(volume->keys);
	free(volume->ssec_keys);
	free(volume->ssec_missing);
	free(volume);
}

static bool can_wrap(const struct s3c_master_key *key)
{
	return key->secret && key->secret_len == S3C_KEY_LEN && !key->ssec_shared;
}

static bool kms_writes(const struct s3c_keyring *keyring)
{
	return keyring->kms && s3c_kms_keys_writes(keyring->kms);
}

/* Keys that the family of this volume uses: they get a slot or a check. */
static bool key_serves(const struct s3c_master_key *key, enum s3c_family family, bool ssec_shared)
{
	return family == S3C_FAMILY_SSEC && ssec_shared ? key->ssec_shared : can_wrap(key);
}

/* HKDF(volume key, -, label | volume id | be32(epoch)) */
static int derive(const uint8_t *volume_key, const char *label, const uint8_t *id, uint32_t epoch,
		  uint8_t ret_key[static S3C_KEY_LEN])
{
	uint8_t info[64 + S3C_VOLUME_ID_LEN + 4];
	size_t len = strlen(label);

	memcpy(info, label, len);
	memcpy(info + len, id, S3C_VOLUME_ID_LEN);
	s3c_put_be32(info + len + S3C_VOLUME_ID_LEN, epoch);
	return s3c_hkdf_sha256(volume_key, S3C_KEY_LEN, NULL, 0, info, len + S3C_VOLUME_ID_LEN + 4,
			       ret_key, S3C_KEY_LEN);
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
	return s3c_hkdf_sha256(volume->keys + KEYS_VOLUME, S3C_KEY_LEN, volume->id,
			       S3C_VOLUME_ID_LEN, info, sizeof(prefix) - 1 + len, ret_key,
			       S3C_KEY_LEN);
}

static int body_mac(const uint8_t *volume_key, const uint8_t *id, const void *text, size_t len,
		    uint8_t ret_mac[static S3C_SHA256_LEN])
{
	uint8_t key[S3C_KEY_LEN];
	int r;

	r = derive(volume_key, "s3cryptfs volume body", id, FIRST_EPOCH, key);
	if (r == 0)
		r = s3c_hmac_sha256(key, sizeof(key), text, len, ret_mac);
	s3c_wipe(key, sizeof(key));
	return r;
}

/* JSON, and with a volume key the line with the HMAC. */
static int body_write(const json_t *root, const uint8_t *volume_key, const uint8_t *id,
		      struct s3c_buf *ret_body)
{
	uint8_t mac[S3C_SHA256_LEN];
	char hex[2 * S3C_SHA256_LEN + 1];
	char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	struct s3c_buf body;
	int r;

	if (!text)
		return -ENOMEM;
	s3c_buf_init(&body, BODY_MAX);
	r = s3c_buf_printf(&body, "%s\n", text);
	free(text);
	if (r == 0 && volume_key) {
		r = body_mac(volume_key, id, body.data, body.len, mac);
		if (r == 0) {
			s3c_hex_encode(mac, sizeof(mac), hex);
			/* The line feed of the prefix is there already. */
			r = s3c_buf_printf(&body, "%s%s\n", &MAC_PREFIX[1], hex);
		}
	}
	if (r == 0)
		r = s3c_buf_append(ret_body, body.data, body.len);
	s3c_buf_free(&body);
	return r;
}

static json_t *json_base64(const void *data, size_t len)
{
	char text[S3C_BASE64_LEN(S3C_WRAP_LEN) + 1];

	s3c_base64_encode(data, len, text);
	return json_string(text);
}

static json_t *json_hex(const void *data, size_t len)
{
	char text[2 * S3C_SHA256_LEN + 1];

	s3c_hex_encode(data, len, text);
	return json_string(text);
}

/* Appends the volume key wrapped under one master key. */
static int append_slot(json_t *slots, const struct s3c_master_key *key, const uint8_t *id,
		       const uint8_t *volume_key)
{
	uint8_t wrapped[S3C_WRAP_LEN];
	json_t *slot;
	int r;

	r = s3c_wrap_seal(key, VOLUME_KEY_ALG, id, volume_key, wrapped);
	if (r < 0)
		return r;
	slot = json_pack("{s:s, s:s, s:o}", "type", "master-key", "key_id", key->id, "wrapped",
			 json_base64(wrapped, sizeof(wrapped)));
	return json_array_append_new(slots, slot) < 0 ? -ENOMEM : 0;
}

static int append_check(json_t *checks, const struct s3c_master_key *key, const uint8_t *id)
{
	uint8_t check[S3C_SHA256_LEN];
	json_t *item;
	int r;

	r = s3c_derive_ssec_check(key, id, check);
	if (r < 0)
		return r;
	item = json_pack("{s:s, s:o}", "key_id", key->id, "check", json_hex(check, sizeof(check)));
	return json_array_append_new(checks, item) < 0 ? -ENOMEM : 0;
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

static int create_cse(struct s3c_volume *volume, const struct s3c_keyring *keyring,
		      bool encrypted_names, struct s3c_err *err, struct s3c_buf *ret_body)
{
	uint8_t check[S3C_KEY_LEN], name_key[S3C_KEY_LEN], name_wrapped[S3C_WRAP_LEN];
	struct s3c_master_key volume_master = { .secret_len = S3C_KEY_LEN };
	json_auto_t *slots = json_array(), *root = NULL;
	int r;

	volume->keys = s3c_secret_alloc(KEYS_LEN);
	if (!slots || !volume->keys)
		return -ENOMEM;
	s3c_random(volume->keys + KEYS_VOLUME, S3C_KEY_LEN);
	volume->seal_key = volume->keys + KEYS_SEAL;
	volume->epoch = FIRST_EPOCH;

	r = derive(volume->keys, "s3cryptfs seal", volume->id, volume->epoch,
		   volume->keys + KEYS_SEAL);
	if (r == 0)
		r = derive(volume->keys, "s3cryptfs check", volume->id, volume->epoch, check);
	for (size_t i = 0; r == 0 && i < keyring->count; i++)
		if (can_wrap(&keyring->keys[i]))
			r = append_slot(slots, &keyring->keys[i], volume->id, volume->keys);
	if (r == 0 && kms_writes(keyring))
		r = s3c_volume_kms_append(slots, keyring->kms, volume->id, VOLUME_KEY_ALG,
					  volume->keys, err);
	if (r < 0)
		return r;

	s3c_random(name_key, sizeof(name_key));
	volume_master.secret = volume->keys;
	r = s3c_wrap_seal(&volume_master, NAME_KEY_ALG, volume->id, name_key, name_wrapped);
	if (r == 0 && encrypted_names)
		r = use_name_key(volume, name_key);
	s3c_wipe(name_key, sizeof(name_key));
	if (r < 0)
		return r;
	root = json_pack("{s:s, s:i, s:s, s:o, s:I, s:i, s:s, s:o, s:[{s:i, s:o, s:O}]}", "format",
			 BODY_FORMAT, "version", BODY_VERSION, "family", "cse", "id",
			 json_hex(volume->id, sizeof(volume->id)), "serial",
			 (json_int_t)volume->serial, "epoch", FIRST_EPOCH, "names",
			 encrypted_names ? "encrypted" : "plain", "name_key",
			 json_base64(name_wrapped, sizeof(name_wrapped)), "epochs", "epoch",
			 FIRST_EPOCH, "check", json_hex(check, sizeof(check)), "slots", slots);
	return root ? body_write(root, volume->keys, volume->id, ret_body) : -ENOMEM;
}

static int create_ssec(struct s3c_volume *volume, const struct s3c_keyring *keyring,
		       struct s3c_buf *ret_body)
{
	json_auto_t *checks = json_array(), *root = NULL;
	int r = checks ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < keyring->count; i++)
		if (key_serves(&keyring->keys[i], volume->family, volume->ssec_shared))
			r = append_check(checks, &keyring->keys[i], volume->id);
	if (r < 0)
		return r;
	root = json_pack("{s:s, s:i, s:s, s:o, s:I, s:s, s:O}", "format", BODY_FORMAT, "version",
			 BODY_VERSION, "family", "sse-c", "id",
			 json_hex(volume->id, sizeof(volume->id)), "serial",
			 (json_int_t)volume->serial, "ssec_key",
			 volume->ssec_shared ? "shared" : "per-object", "checks", checks);
	return root ? body_write(root, NULL, NULL, ret_body) : -ENOMEM;
}

/* The master key that a volume of this kind writes with; NULL with a sentence. */
static const struct s3c_master_key *writing_key(enum s3c_family family, bool ssec_shared,
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
	if ((key && can_wrap(key)) || (family == S3C_FAMILY_CSE && kms_writes(keyring)))
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

int s3c_volume_create(enum s3c_family family, bool ssec_shared, bool encrypted_names,
		      const struct s3c_keyring *keyring, struct s3c_err *err,
		      struct s3c_volume **ret_volume, struct s3c_buf *ret_body)
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
	key = writing_key(family, volume->ssec_shared, keyring, err);
	if (!key && !(family == S3C_FAMILY_CSE && kms_writes(keyring)))
		return -EKEYREJECTED;
	s3c_random(volume->id, sizeof(volume->id));
	volume->serial = 1;
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

static const char *get_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static bool get_int(const json_t *object, const char *name, json_int_t max, json_int_t *ret_value)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
	    json_integer_value(value) > max)
		return false;
	*ret_value = json_integer_value(value);
	return true;
}

static bool get_hex(const json_t *object, const char *name, void *ret_data, size_t len)
{
	const char *text = get_string(object, name);

	return text && s3c_hex_decode(text, ret_data, len) == 0;
}

static bool get_wrapped(const json_t *object, const char *name,
			uint8_t ret_wrapped[static S3C_WRAP_LEN])
{
	const char *text = get_string(object, name);
	uint8_t wrapped[S3C_WRAP_LEN];
	size_t len;

	if (!text || s3c_base64_decode(text, strlen(text), wrapped, sizeof(wrapped), &len) < 0 ||
	    len != sizeof(wrapped))
		return false;
	memcpy(ret_wrapped, wrapped, sizeof(wrapped));
	return true;
}

static int damaged(struct s3c_err *err, const char *what)
{
	return s3c_err_set(err, -EBADMSG,
			   "the volume object is damaged (%s); put it back from a copy made with "
			   "s3cryptfsctl volume export",
			   what);
}

static int newer(struct s3c_err *err, const char *what)
{
	return s3c_err_set(err, -EPROTO,
			   "the volume was written by a newer version of s3cryptfs (%s); update "
			   "this program",
			   what);
}

/* Form, version and family. The JSON of ret_parsed is the caller's. */
static int body_parse(const char *body, size_t len, struct s3c_err *err, struct parsed *ret_parsed)
{
	struct parsed p = { 0 };
	json_auto_t *root = NULL;
	const char *format, *family;
	json_int_t number;
	size_t json_len = len;

	if (len > BODY_MAX)
		return damaged(err, "too large");
	if (len > MAC_LINE_LEN && body[len - 1] == '\n' &&
	    memcmp(body + len - MAC_LINE_LEN, MAC_PREFIX, sizeof(MAC_PREFIX) - 1) == 0) {
		char hex[2 * S3C_SHA256_LEN + 1] = "", again[sizeof(hex)];

		memcpy(hex, body + len - 1 - 2 * S3C_SHA256_LEN, 2 * S3C_SHA256_LEN);
		if (s3c_hex_decode(hex, p.mac, sizeof(p.mac)) < 0)
			return damaged(err, "no HMAC in its last line");
		s3c_hex_encode(p.mac, sizeof(p.mac), again);
		if (strcmp(hex, again) != 0) /* one body has one text: lower case */
			return damaged(err, "its last line");
		json_len = len - MAC_LINE_LEN + 1;
		p.mac_over = json_len;
	}
	root = json_loadb(body, json_len, JSON_REJECT_DUPLICATES, NULL);
	format = get_string(root, "format");
	if (!format || strcmp(format, BODY_FORMAT) != 0)
		return damaged(err, "not the JSON of a volume");
	if (!get_int(root, "version", INT32_MAX, &number))
		return damaged(err, "no version");
	if (number != BODY_VERSION)
		return newer(err, "version");
	family = get_string(root, "family");
	if (!family)
		return damaged(err, "no family");
	if (strcmp(family, "cse") == 0)
		p.family = S3C_FAMILY_CSE;
	else if (strcmp(family, "sse-c") == 0)
		p.family = S3C_FAMILY_SSEC;
	else
		return newer(err, "family");
	if ((p.family == S3C_FAMILY_CSE) != (p.mac_over != 0))
		return damaged(err, "HMAC line");
	if (!get_hex(root, "id", p.id, sizeof(p.id)))
		return damaged(err, "no id");
	if (!get_int(root, "serial", INT64_MAX, &number))
		return damaged(err, "no serial");
	p.serial = (uint64_t)number;
	p.root = steal_ptr(root);
	*ret_parsed = p;
	return 0;
}

/* GCM commits to no key, nor does a KMS: the check does. -EBADMSG. */
static int fits_check(const uint8_t *volume_key, const uint8_t *id, const uint8_t *check)
{
	uint8_t got[S3C_KEY_LEN];
	int r = derive(volume_key, "s3cryptfs check", id, FIRST_EPOCH, got);

	return r < 0 || s3c_equal_ct(got, check, sizeof(got)) ? r : -EBADMSG;
}

/* By the KMS, under the keys that are named. -ENOENT: there is no slot for one of them. */
static int open_by_kms(const json_t *slots, const struct s3c_keyring *keyring, const uint8_t *id,
		       const uint8_t *check, struct s3c_err *err, uint8_t *ret_volume_key)
{
	uint8_t volume_key[S3C_KEY_LEN];
	int result = -ENOENT, r;
	size_t at = 0;

	do {
		r = s3c_volume_kms_open(slots, &at, keyring->kms, id, VOLUME_KEY_ALG, err,
					volume_key);
		if (r == 0)
			r = fits_check(volume_key, id, check);
		if (r == 0)
			memcpy(ret_volume_key, volume_key, S3C_KEY_LEN);
		else if (r != -ENOENT)
			result = r == -EBADMSG ? s3c_err_set(err, r, "its key does not open") : r;
	} while (r < 0 && r != -ENOENT);
	s3c_wipe(volume_key, sizeof(volume_key));
	return r == 0 ? 0 : result;
}

/* Tries the key's slot; 0 and the volume key, -ENOENT without a slot, -EBADMSG when none opens. */
static int open_slot(const json_t *epoch, const struct s3c_master_key *key, const uint8_t *id,
		     const uint8_t *check, uint8_t *ret_volume_key)
{
	const json_t *slots = json_object_get(epoch, "slots"), *slot;
	uint8_t wrapped[S3C_WRAP_LEN], volume_key[S3C_KEY_LEN];
	int result = -ENOENT;
	size_t i;

	json_array_foreach(slots, i, slot)
	{
		const char *type = get_string(slot, "type"), *key_id = get_string(slot, "key_id");
		int r;

		if (!type || strcmp(type, "master-key") != 0 || !key_id ||
		    strcmp(key_id, key->id) != 0)
			continue;
		result = -EBADMSG;
		if (!get_wrapped(slot, "wrapped", wrapped))
			continue;
		r = s3c_wrap_open(key, VOLUME_KEY_ALG, id, wrapped, volume_key);
		if (r == 0)
			r = fits_check(volume_key, id, check);
		if (r == 0)
			memcpy(ret_volume_key, volume_key, S3C_KEY_LEN);
		s3c_wipe(volume_key, sizeof(volume_key));
		if (r != -EBADMSG)
			return r;
	}
	return result;
}

/* The volume key by a KMS key or any of the keyring, the active one first. */
static int find_volume_key(const json_t *epoch, const struct s3c_keyring *keyring,
			   const uint8_t *id, struct s3c_err *err, uint8_t *ret_volume_key)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring), *wrong = NULL;
	uint8_t check[S3C_KEY_LEN];

	if (!get_hex(epoch, "check", check, sizeof(check)))
		return damaged(err, "no key check");
	if (keyring->kms) {
		int r = open_by_kms(json_object_get(epoch, "slots"), keyring, id, check, err,
				    ret_volume_key);

		/* With the KMS away, or this key of it, another key that is there will do. */
		if (r == 0 || (r != -ENOENT && !active))
			return r;
	}
	for (size_t i = 0; i <= keyring->count; i++) {
		const struct s3c_master_key *key = i ? &keyring->keys[i - 1] : active;
		int r;

		if (!key || !can_wrap(key) || (i && key == active))
			continue;
		r = open_slot(epoch, key, id, check, ret_volume_key);
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
	return s3c_err_set(err, -EKEYREJECTED,
			   keyring->kms ? "neither kms_key_id and kms_read_keys nor a keyring "
					  "name a key that opens this volume: its slots are for "
					  "others"
					: "no key of the keyring opens this volume; add the key "
					  "that it was made with (its slots are for other keys "
					  "than these)");
}

static bool is_entry_of(const json_t *item, const char *key_id)
{
	const char *id = get_string(item, "key_id"), *type = get_string(item, "type");

	return id && strcmp(id, key_id) == 0 && (!type || strcmp(type, "master-key") == 0);
}

static bool has_entry(const json_t *array, const char *key_id)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		if (is_entry_of(item, key_id))
			return true;
	}
	return false;
}

/* The choice of names, and the key of encrypted ones. The body is believed. */
static int open_names(const json_t *root, struct s3c_err *err, struct s3c_volume *volume)
{
	const struct s3c_master_key volume_master = { .secret_len = S3C_KEY_LEN,
						      .secret = volume->keys };
	const char *names = get_string(root, "names");
	uint8_t wrapped[S3C_WRAP_LEN], name_key[S3C_KEY_LEN];
	int r;

	if (!names)
		return damaged(err, "no names");
	if (strcmp(names, "plain") == 0)
		return 0;
	if (strcmp(names, "encrypted") != 0)
		return newer(err, "names");
	if (!get_wrapped(root, "name_key", wrapped))
		return damaged(err, "no name key");
	r = s3c_wrap_open(&volume_master, NAME_KEY_ALG, volume->id, wrapped, name_key);
	if (r == -EBADMSG)
		return damaged(err, "its name key");
	if (r == 0)
		r = use_name_key(volume, name_key);
	s3c_wipe(name_key, sizeof(name_key));
	return r;
}

static int open_cse(const char *body, const struct parsed *p, const struct s3c_keyring *keyring,
		    struct s3c_err *err, struct s3c_volume *volume)
{
	const json_t *epochs = json_object_get(p->root, "epochs"), *epoch;
	const struct s3c_master_key *active = s3c_keyring_active(keyring);
	uint8_t mac[S3C_SHA256_LEN];
	json_int_t number;
	int r;

	if (!get_int(p->root, "epoch", UINT32_MAX, &number))
		return damaged(err, "no epoch");
	if (number != FIRST_EPOCH || json_array_size(epochs) > 1)
		return newer(err, "epochs");
	epoch = json_array_get(epochs, 0);
	if (!get_int(epoch, "epoch", UINT32_MAX, &number) || number != FIRST_EPOCH)
		return damaged(err, "epochs");
	volume->keys = s3c_secret_alloc(KEYS_LEN);
	if (!volume->keys)
		return -ENOMEM;
	r = find_volume_key(epoch, keyring, p->id, err, volume->keys + KEYS_VOLUME);
	if (r == 0)
		r = body_mac(volume->keys, p->id, body, p->mac_over, mac);
	if (r < 0)
		return r;
	if (!s3c_equal_ct(mac, p->mac, sizeof(mac)))
		return damaged(err, "its HMAC does not fit: it was altered");

	r = open_names(p->root, err, volume);
	if (r < 0)
		return r;
	r = derive(volume->keys, "s3cryptfs seal", p->id, FIRST_EPOCH, volume->keys + KEYS_SEAL);
	if (r < 0)
		return r;
	volume->seal_key = volume->keys + KEYS_SEAL;
	volume->epoch = FIRST_EPOCH;
	volume->active_slot =
		kms_writes(keyring)
			? s3c_volume_kms_has(json_object_get(epoch, "slots"), keyring->kms)
			: active && has_entry(json_object_get(epoch, "slots"), active->id);
	return 0;
}

/* 0: the check of this key fits, -ENOENT: it has none, -EBADMSG: another secret. */
static int ssec_check(const json_t *checks, const struct s3c_master_key *key, const uint8_t *id)
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
		const char *key_id = get_string(item, "key_id");

		if (!key_id || strcmp(key_id, key->id) != 0)
			continue;
		if (get_hex(item, "check", got, sizeof(got)) &&
		    s3c_equal_ct(got, want, sizeof(got)))
			return 0;
		return -EBADMSG;
	}
	return -ENOENT;
}

/* The ids of checks for which the keyring has no key, for people. */
static int list_missing(const json_t *checks, const struct s3c_keyring *keyring, char **ret_missing)
{
	cleanup_buf struct s3c_buf text = { 0 };
	const json_t *item;
	int r = 0;
	size_t i;

	json_array_foreach(checks, i, item)
	{
		const char *id = get_string(item, "key_id");

		if (r == 0 && id && s3c_key_id_valid(id) && !s3c_keyring_find(keyring, id))
			r = s3c_buf_printf(&text, "%s%s", text.len ? ", " : "", id);
	}
	if (r == 0 && text.len)
		*ret_missing = s3c_buf_steal(&text);
	return r;
}

static int open_ssec(const struct parsed *p, const struct s3c_keyring *keyring, struct s3c_err *err,
		     struct s3c_volume *volume)
{
	const json_t *checks = json_object_get(p->root, "checks");
	const char *ssec_key = get_string(p->root, "ssec_key");
	bool opened = false;
	int r;

	if (!ssec_key || !json_is_array(checks))
		return damaged(err, "no checks");
	volume->ssec_shared = strcmp(ssec_key, "shared") == 0;
	if (!volume->ssec_shared && strcmp(ssec_key, "per-object") != 0)
		return newer(err, "ssec_key");
	volume->ssec_key = writing_key(p->family, volume->ssec_shared, keyring, err);
	if (!volume->ssec_key)
		return -EKEYREJECTED;
	r = readers_begin(volume, keyring);
	if (r < 0)
		return r;
	for (size_t i = 0; i < keyring->count; i++) {
		const struct s3c_master_key *key = &keyring->keys[i];

		if (!key_serves(key, p->family, volume->ssec_shared))
			continue;
		r = ssec_check(checks, key, p->id);
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
	return list_missing(checks, keyring, &volume->ssec_missing);
}

/* The volume; ret_parsed (the caller's to release) is filled in success only. */
static int open_body(const void *body, size_t len, const struct s3c_keyring *keyring,
		     struct s3c_err *err, struct parsed *ret_parsed, struct s3c_volume **ret_volume)
{
	cleanup_volume struct s3c_volume *volume = calloc(1, sizeof(*volume));
	struct parsed p;
	int r;

	if (!volume)
		return -ENOMEM;
	r = body_parse(body, len, err, &p);
	if (r < 0)
		return r;
	volume->family = p.family;
	volume->serial = p.serial;
	memcpy(volume->id, p.id, sizeof(volume->id));
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
	struct parsed p;
	int r;

	r = open_body(body, len, keyring, err, &p, ret_volume);
	if (r == 0)
		json_decref(p.root);
	return r;
}

bool s3c_volume_says_encrypted(const void *body, size_t len)
{
	struct parsed p;
	const char *names;
	bool says;

	if (body_parse(body, len, NULL, &p) < 0)
		return false;
	names = get_string(p.root, "names");
	says = names && strcmp(names, "encrypted") == 0;
	json_decref(p.root);
	return says;
}

/* The slots of the newest epoch, or the checks. */
static json_t *entries_of(const struct parsed *p)
{
	if (p->family == S3C_FAMILY_CSE)
		return json_object_get(json_array_get(json_object_get(p->root, "epochs"), 0),
				       "slots");
	return json_object_get(p->root, "checks");
}

/* A body with a serial number over that one. */
static int write_over(const struct parsed *p, const struct s3c_volume *volume, uint64_t serial,
		      struct s3c_buf *ret_body)
{
	if (serial >= INT64_MAX)
		return -EOVERFLOW;
	if (json_object_set_new(p->root, "serial", json_integer((json_int_t)serial + 1)) < 0)
		return -ENOMEM;
	return body_write(p->root, volume->keys, volume->id, ret_body);
}

int s3c_volume_add_keys(const void *body, size_t len, const struct s3c_keyring *keyring,
			struct s3c_err *err, size_t *ret_added, struct s3c_buf *ret_body)
{
	cleanup_volume struct s3c_volume *volume = NULL;
	json_auto_t *root = NULL;
	struct parsed p;
	json_t *entries;
	size_t added = 0;
	int r;

	r = open_body(body, len, keyring, err, &p, &volume);
	if (r < 0)
		return r;
	root = p.root;
	if (!(p.family == S3C_FAMILY_CSE && kms_writes(keyring)) &&
	    !writing_key(p.family, volume->ssec_shared, keyring, err))
		return -EKEYREJECTED;
	entries = entries_of(&p);
	for (size_t i = 0; r == 0 && i < keyring->count; i++) {
		const struct s3c_master_key *key = &keyring->keys[i];

		if (!key_serves(key, p.family, volume->ssec_shared) || has_entry(entries, key->id))
			continue;
		r = p.family == S3C_FAMILY_CSE ? append_slot(entries, key, p.id, volume->keys)
					       : append_check(entries, key, p.id);
		added++;
	}
	if (r == 0 && p.family == S3C_FAMILY_CSE && kms_writes(keyring) &&
	    !s3c_volume_kms_has(entries, keyring->kms)) {
		r = s3c_volume_kms_append(entries, keyring->kms, p.id, VOLUME_KEY_ALG, volume->keys,
					  err);
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
	struct parsed p;
	bool raise;
	int r = open_body(body, len, keyring, err, &p, &volume);

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
	struct parsed p;
	json_t *entries;
	size_t removed = 0;
	bool by_kms;
	int r;

	r = open_body(body, len, keyring, err, &p, &volume);
	if (r < 0)
		return r;
	root = p.root;
	by_kms = p.family == S3C_FAMILY_CSE && kms_writes(keyring);
	writer = writing_key(p.family, volume->ssec_shared, keyring, err);
	if (!writer && !by_kms)
		return -EKEYREJECTED;
	entries = entries_of(&p);
	/* Whoever has that key alone could not open the volume any more. */
	if (by_kms ? !s3c_volume_kms_has(entries, keyring->kms)
		   : strcmp(writer->id, key_id) == 0 || !has_entry(entries, writer->id))
		return s3c_err_set(err, -EBUSY,
				   "the volume object is opened by the key %s alone: mount it "
				   "writable once with the new active key",
				   key_id);
	for (size_t i = json_array_size(entries); i-- > 0;) {
		if (!is_entry_of(json_array_get(entries, i), key_id))
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
