/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The volume object, PREFIX.s3cryptfs/volume: who may open this prefix and how.
 * Grammar in doc/format.md. For cse it wraps a random volume key once per master
 * key; the seal key, the key check and others are derived from it. For sse-c it
 * holds the id, ssec_key and a check per key.
 *
 * Of cse there are epochs, each with a volume key of its own. Once made or opened
 * a volume is immutable, but that it learns epochs (s3c_volume_learn): that may
 * happen beside readers, to whom those they have found stay.
 */
#pragma once

#include <stdatomic.h>

#include "base/buf.h"
#include "key/keyring.h"
#include "key/wrap.h"

#define S3C_VOLUME_NAME ".s3cryptfs/volume"
/* Of a volume of cse that was one of sse-c: what it was then; and, while it is made, what it is to
   be (engine/former.h). */
#define S3C_VOLUME_FORMER_NAME ".s3cryptfs/volume.sse-c"
#define S3C_VOLUME_NEXT_NAME ".s3cryptfs/volume.next"

enum s3c_family { S3C_FAMILY_CSE, S3C_FAMILY_SSEC, S3C_FAMILY_PLAIN };

/* Seconds that an epoch has to be the newest before older ones may go (engine/epochs.h). */
#define S3C_EPOCH_GRACE_S 3600

/* A volume key with what is derived from it, of the objects that name the epoch. */
struct s3c_epoch {
	uint32_t number;
	int64_t begun_s; /* since 1970; 0: with the volume */
	uint8_t *keys;   /* secret memory: volume key (32), seal key (32); private */
	const uint8_t *seal_key;
	_Atomic(struct s3c_epoch *) older; /* NULL: there is none */
	atomic_bool dropped;               /* the volume object does not have it any more */
};

struct s3c_volume {
	enum s3c_family family;
	uint8_t id[S3C_VOLUME_ID_LEN];
	atomic_uint_least64_t serial;       /* rises with every change of the body */
	_Atomic(uint32_t) epoch;            /* the newest: of what is written */
	_Atomic(struct s3c_epoch *) newest; /* cse only */
	uint8_t body_hash[S3C_SHA256_LEN];  /* SHA-256 of the body that was opened; 0: made */
	bool ssec_shared;                   /* sse-c: keys are sent as they are */
	bool active_slot; /* the keyring's active key has a slot (sse-c: the key in use a check) */
	uint8_t *keys;    /* cse, secret memory: local key (32), names key (64); private */
	const uint8_t *names_key; /* S3C_SIV_KEY_LEN bytes; NULL: names are plain */
	const struct s3c_master_key
		*ssec_key; /* sse-c: the key in use; borrowed from the keyring */
	/* sse-c: all keys that may read, the one in use first, then those that the volume knows, in
	   the order of the file. The array is the volume's. */
	const struct s3c_master_key **ssec_keys;
	unsigned ssec_key_count;
	char *ssec_missing; /* ids that the volume knows and the keyring does not; NULL: none */
	/* cse: what it was before, of sse-c, where objects of that time may be read; else NULL */
	struct s3c_volume *former;
};

/* A new volume for family under the keyring's keys (a slot each). Encrypted names: cse only. */
int s3c_volume_create(enum s3c_family family, bool ssec_shared, bool encrypted_names,
		      const struct s3c_keyring *keyring, struct s3c_err *err,
		      struct s3c_volume **ret_volume, struct s3c_buf *ret_body);
/* The same of cse, with plain names, in the place of a volume of sse-c: with its id, and a serial
   number over its own. */
int s3c_volume_create_after(const struct s3c_volume *former, const struct s3c_keyring *keyring,
			    struct s3c_err *err, struct s3c_volume **ret_volume,
			    struct s3c_buf *ret_body);
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
/* Likewise: that it is of sse-c? */
bool s3c_volume_says_ssec(const void *body, size_t len);
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
/* The same, with the slot (or check) of one key, by id or ARN, taken out. ret_removed 0: there is
   none. -EBUSY: it is the key that writes. */
int s3c_volume_remove_key(const void *body, size_t len, const struct s3c_keyring *keyring,
			  const char *key_id, struct s3c_err *err, size_t *ret_removed,
			  struct s3c_buf *ret_body);
/*
 * A body with a new epoch: a random volume key with slots for the keys that had one, which have to
 * be in the keyring; the older epochs are wrapped under it. now_s: seconds since 1970. ret_epoch:
 * its number. Where one was begun already, which older ones stand beside, it is that one and
 * ret_body is untouched: what was begun is finished first. cse only. -EKEYREJECTED, with a
 * sentence: a slot is for a key that is not at hand.
 */
int s3c_volume_begin_epoch(const void *body, size_t len, const struct s3c_keyring *keyring,
			   int64_t now_s, struct s3c_err *err, uint32_t *ret_epoch,
			   struct s3c_buf *ret_body);
/* A body with the newest epoch alone. ret_dropped 0: there is no other, ret_body is untouched. Who
   calls it knows that no object names them (engine/epochs.h). */
int s3c_volume_drop_epochs(const void *body, size_t len, const struct s3c_keyring *keyring,
			   struct s3c_err *err, size_t *ret_dropped, struct s3c_buf *ret_body);
/* A body with that epoch of volume, which has it, among the older ones. False in *ret_missing: it
   is there; ret_body is untouched. */
int s3c_volume_put_back_epoch(const void *body, size_t len, const struct s3c_keyring *keyring,
			      const struct s3c_volume *volume, uint32_t epoch, struct s3c_err *err,
			      bool *ret_missing, struct s3c_buf *ret_body);
/* The volume as it was opened again takes over what is new in other, which is the caller's as
   before: epochs, which of its own are dropped, the serial. -EKEYREJECTED: it is another volume,
   made by who has none of the volume keys. One thread at a time. */
int s3c_volume_learn(struct s3c_volume *volume, struct s3c_volume *other);
/* NULL: there is none. It lives as long as the volume. */
struct s3c_epoch *s3c_volume_epoch_find(const struct s3c_volume *volume, uint32_t epoch);
/* 32 bytes, as long as the volume lives; NULL: it has no such epoch. */
const uint8_t *s3c_volume_seal_key(const struct s3c_volume *volume, uint32_t epoch);

/*
 * A key for what this machine keeps of the volume, of cse only (-EINVAL otherwise), at most 32
 * bytes of label: HKDF(volume key, volume id, "s3cryptfs local " label) with the volume key of the
 * first epoch, doc/format.md: it is the same in all epochs. Labels in use: "journal", "cache",
 * "names". The caller wipes it.
 */
int s3c_volume_local_key(const struct s3c_volume *volume, const char *label,
			 uint8_t ret_key[static S3C_KEY_LEN]);

/* Of an object's extended attributes, of cse only: HKDF(volume key, -, "s3cryptfs xattr" | salt)
 * with the volume key of its epoch. -EINVAL: there is no such epoch. The caller wipes it. */
#define S3C_XATTR_SALT_LEN 32
int s3c_volume_xattr_key(const struct s3c_volume *volume, uint32_t epoch,
			 const uint8_t salt[static S3C_XATTR_SALT_LEN],
			 uint8_t ret_key[static S3C_KEY_LEN]);

static inline void s3c_volume_freep(struct s3c_volume **p)
{
	s3c_volume_free(*p);
}
#define cleanup_volume __attribute__((cleanup(s3c_volume_freep)))
