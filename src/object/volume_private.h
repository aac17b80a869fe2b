/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the volume object share. Private to src/object/.
 *
 *	volume.c	making and opening one
 *	volume_body.c	its text: JSON, and the line with the HMAC
 *	volume_slots.c	slots and checks
 *	volume_kms.c	slots whose key a KMS wraps
 *	volume_epochs.c	epochs: their keys, and what they are wrapped in
 *	volume_edit.c	bodies with something changed
 */
#pragma once

#include <jansson.h>

#include "object/volume.h"

#define BODY_FORMAT "s3cryptfs volume"
#define BODY_VERSION 1
#define FIRST_EPOCH 1
#define VOLUME_KEY_ALG "s3cryptfs/volume-key/v1"
#define NAME_KEY_ALG "s3cryptfs/name-key/v1"
#define LOCAL_KEY_ALG "s3cryptfs/local-key/v1"
#define FORMER_KEY_ALG "s3cryptfs/former-volume-key/v1"

/* Layout of s3c_volume.keys, and of s3c_epoch.keys. */
enum { KEYS_LOCAL = 0, KEYS_NAMES = 32, KEYS_LEN = 32 + S3C_SIV_KEY_LEN };
enum { EPOCH_VOLUME = 0, EPOCH_SEAL = 32, EPOCH_KEYS_LEN = 64 };

/* A body taken apart; nothing in it is trusted yet. */
struct s3c_volume_parsed {
	json_t *root;
	enum s3c_family family;
	size_t mac_over; /* bytes under the HMAC; 0: there is no such line */
	uint8_t mac[S3C_SHA256_LEN];
	uint8_t id[S3C_VOLUME_ID_LEN];
	uint64_t serial;
};

/* volume_body.c */

/* HKDF(volume key, -, label | volume id | be32(epoch)) */
int s3c_volume_derive(const uint8_t *volume_key, const char *label, const uint8_t *id,
		      uint32_t epoch, uint8_t ret_key[static S3C_KEY_LEN]);
int s3c_volume_mac(const struct s3c_epoch *epoch, const uint8_t *id, const void *text, size_t len,
		   uint8_t ret_mac[static S3C_SHA256_LEN]);
/* JSON, and with an epoch, the newest, the line with the HMAC, appended to ret_body. */
int s3c_volume_write(const json_t *root, const struct s3c_epoch *epoch, const uint8_t *id,
		     struct s3c_buf *ret_body);
/* Form, version and family. The JSON of ret_parsed is the caller's. */
int s3c_volume_parse(const char *body, size_t len, struct s3c_err *err,
		     struct s3c_volume_parsed *ret_parsed);
/* New values; NULL without memory. Of base64 at most S3C_WRAP_LEN bytes, of hex 32. */
json_t *s3c_volume_base64(const void *data, size_t len);
json_t *s3c_volume_hex(const void *data, size_t len);
/* Members; NULL or false, and the output untouched, where there is none of that form. */
const char *s3c_volume_get_string(const json_t *object, const char *name);
bool s3c_volume_get_int(const json_t *object, const char *name, json_int_t max,
			json_int_t *ret_value);
bool s3c_volume_get_hex(const json_t *object, const char *name, void *ret_data, size_t len);
bool s3c_volume_get_wrapped(const json_t *object, const char *name,
			    uint8_t ret_wrapped[static S3C_WRAP_LEN]);
/* Sentences: -EBADMSG and -EPROTO. */
int s3c_volume_damaged(struct s3c_err *err, const char *what);
int s3c_volume_newer(struct s3c_err *err, const char *what);

/* The volume key of the newest epoch; of cse only. */
static inline const uint8_t *s3c_volume_newest_key(const struct s3c_volume *volume)
{
	return atomic_load(&volume->newest)->keys + EPOCH_VOLUME;
}

/* volume_slots.c */

bool s3c_volume_can_wrap(const struct s3c_master_key *key);
bool s3c_volume_kms_writes(const struct s3c_keyring *keyring);
/* Does the family of this volume use the key? Then it gets a slot or a check. */
bool s3c_volume_key_serves(const struct s3c_master_key *key, enum s3c_family family,
			   bool ssec_shared);
/* Appends the volume key wrapped under one master key. */
int s3c_volume_append_slot(json_t *slots, const struct s3c_master_key *key, const uint8_t *id,
			   const uint8_t *volume_key);
int s3c_volume_append_check(json_t *checks, const struct s3c_master_key *key, const uint8_t *id);
/* GCM commits to no key, nor does a KMS: the check does. -EBADMSG. */
int s3c_volume_fits_check(const uint8_t *volume_key, const uint8_t *id, uint32_t epoch,
			  const uint8_t *check);
/* The volume key of the newest epoch, by a KMS key or any of the keyring, the active one first. */
int s3c_volume_find_key(const json_t *item, uint32_t epoch, const struct s3c_keyring *keyring,
			const uint8_t *id, struct s3c_err *err, uint8_t *ret_volume_key);
/* Is it the slot, or check, of that master key? */
bool s3c_volume_is_entry_of(const json_t *item, const char *key_id);
bool s3c_volume_has_entry(const json_t *array, const char *key_id);
/* 0: the check of this key fits, -ENOENT: it has none, -EBADMSG: another secret. */
int s3c_volume_ssec_check(const json_t *checks, const struct s3c_master_key *key,
			  const uint8_t *id);
/* The ids of checks for which the keyring has no key, for people; untouched: none. */
int s3c_volume_list_missing(const json_t *checks, const struct s3c_keyring *keyring,
			    char **ret_missing);

/* volume_epochs.c */

void s3c_volume_epochs_free(struct s3c_epoch *newest);
/* An epoch with the seal key of its volume key. */
int s3c_volume_epoch_new(uint32_t number, int64_t begun_s, const uint8_t *volume_key,
			 const uint8_t *id, struct s3c_epoch **ret_epoch);
/* The newest and all older ones, from members that are believed but for the newest's check, which
   has been compared. */
int s3c_volume_epochs_open(const json_t *epochs, const uint8_t *volume_key, const uint8_t *id,
			   struct s3c_err *err, struct s3c_epoch **ret_newest);
/* A new item of the array: check, and either slots, taken over, or the key wrapped under newest. */
json_t *s3c_volume_epoch_item(const struct s3c_epoch *epoch, const uint8_t *id, json_t *slots);
json_t *s3c_volume_former_item(const struct s3c_epoch *epoch, const struct s3c_epoch *newest,
			       const uint8_t *id);
/* The member: a key that is the same in all epochs, wrapped under the newest. */
int s3c_volume_set_wrapped(json_t *root, const char *name, const char *alg,
			   const struct s3c_epoch *newest, const uint8_t *id, const uint8_t *key);
/* HMAC(volume id, volume key): what keys of this machine are derived from. */
int s3c_volume_local_root(const uint8_t *volume_key, const uint8_t *id,
			  uint8_t ret_key[static S3C_KEY_LEN]);

/* volume.c */

/* The name key, whatever the choice of names; the body is believed. The caller wipes it. */
int s3c_volume_open_name_key(const json_t *root, const struct s3c_volume *volume,
			     struct s3c_err *err, uint8_t ret_key[static S3C_KEY_LEN]);

/* The master key that a volume of this kind writes with; NULL with a sentence. */
const struct s3c_master_key *s3c_volume_writing_key(enum s3c_family family, bool ssec_shared,
						    const struct s3c_keyring *keyring,
						    struct s3c_err *err);
/* The volume; ret_parsed (the caller's to release) is filled in success only. */
int s3c_volume_open_body(const void *body, size_t len, const struct s3c_keyring *keyring,
			 struct s3c_err *err, struct s3c_volume_parsed *ret_parsed,
			 struct s3c_volume **ret_volume);
