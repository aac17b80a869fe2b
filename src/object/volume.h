/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The volume object, PREFIX.s3cryptfs/volume: who may open this prefix and how.
 * Grammar in doc/format.md. For cse it wraps a random volume key once per master
 * key; the seal key, the key check and others are derived from it. For sse-c it
 * holds the id, ssec_key and a check per key. Immutable once made or opened.
 */
#pragma once

#include "base/buf.h"
#include "key/keyring.h"
#include "key/wrap.h"

#define S3C_VOLUME_NAME ".s3cryptfs/volume"

enum s3c_family { S3C_FAMILY_CSE, S3C_FAMILY_SSEC, S3C_FAMILY_PLAIN };

struct s3c_volume {
	enum s3c_family family;
	uint8_t id[S3C_VOLUME_ID_LEN];
	uint64_t serial; /* rises with every change of the body */
	uint32_t epoch;
	bool ssec_shared; /* sse-c: keys are sent as they are */
	bool active_slot; /* the keyring's active key has a slot (sse-c: the key in use a check) */
	uint8_t *keys; /* secret memory: volume key (32), seal key (32), names key (64); private */
	const uint8_t *seal_key;  /* 32 bytes, cse only */
	const uint8_t *names_key; /* S3C_SIV_KEY_LEN bytes; NULL: names are plain */
	const struct s3c_master_key
		*ssec_key; /* sse-c: the key in use; borrowed from the keyring */
	/* sse-c: all keys that may read, the one in use first, then those that the volume knows, in
	   the order of the file. The array is the volume's. */
	const struct s3c_master_key **ssec_keys;
	unsigned ssec_key_count;
	char *ssec_missing; /* ids that the volume knows and the keyring does not; NULL: none */
};

/* A new volume for family under the keyring's keys (a slot each). Encrypted names: cse only. */
int s3c_volume_create(enum s3c_family family, bool ssec_shared, bool encrypted_names,
		      const struct s3c_keyring *keyring, struct s3c_err *err,
		      struct s3c_volume **ret_volume, struct s3c_buf *ret_body);
/*
 * Opens a body that was read from a store. A wrong key, another family or mode, damage: a sentence.
 * -EKEYREJECTED: no key of the keyring opens it, or the active one is not what its slot was made
 * for; -EBADMSG: damaged; -EPROTO: newer version.
 */
int s3c_volume_open(const void *body, size_t len, const struct s3c_keyring *keyring,
		    struct s3c_err *err, struct s3c_volume **ret_volume);
/* Does a body that nobody has opened yet say that names are encrypted? A hint: it is not verified.
 */
bool s3c_volume_says_encrypted(const void *body, size_t len);
void s3c_volume_free(struct s3c_volume *volume);
/*
 * A body for keys of the keyring that the stored one lacks: their slots (or checks) added, the
 * serial raised, all else kept. ret_added 0: nothing is missing, ret_body is untouched. Whoever
 * writes with a new active key stores this first (conditionally, on the version that was read).
 * Errors as s3c_volume_open; -EKEYREJECTED also when the key to write with can have no slot.
 */
int s3c_volume_add_keys(const void *body, size_t len, const struct s3c_keyring *keyring,
			struct s3c_err *err, size_t *ret_added, struct s3c_buf *ret_body);

/* The same body under a serial number that is over the given one; ret_body untouched, and
   ret_raised false, when it is already. */
int s3c_volume_raise_serial(const void *body, size_t len, const struct s3c_keyring *keyring,
			    uint64_t over, struct s3c_err *err, bool *ret_raised,
			    struct s3c_buf *ret_body);
/* The same, with the slot (or check) of one key taken out. ret_removed 0: there is none. -EBUSY: it
   is the key that writes. */
int s3c_volume_remove_key(const void *body, size_t len, const struct s3c_keyring *keyring,
			  const char *key_id, struct s3c_err *err, size_t *ret_removed,
			  struct s3c_buf *ret_body);

/*
 * A key for what this machine keeps of the volume, of cse only (-EINVAL otherwise), at most 32
 * bytes of label: HKDF(volume key, volume id, "s3cryptfs local " label), doc/format.md. Labels in
 * use: "journal", "cache", "names". The caller wipes it.
 */
int s3c_volume_local_key(const struct s3c_volume *volume, const char *label,
			 uint8_t ret_key[static S3C_KEY_LEN]);

static inline void s3c_volume_freep(struct s3c_volume **p)
{
	s3c_volume_free(*p);
}
#define cleanup_volume __attribute__((cleanup(s3c_volume_freep)))
