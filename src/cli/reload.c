/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A keyring that is read again replaces the one in use as a whole. Requests that are under way may
 * still look at that: it is kept until the end of the mount, as are its keys.
 */
#include "cli/reload.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/crypto.h"
#include "engine/private.h"
#include "key/kms.h"

#define CHANGES_MAX 512

static bool same_secret(const struct s3c_master_key *a, const struct s3c_master_key *b)
{
	if (!a->secret || !b->secret)
		return !a->secret && !b->secret;
	return a->secret_len == b->secret_len && s3c_equal_ct(a->secret, b->secret, a->secret_len);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_rest(const struct s3c_master_key *a, const struct s3c_master_key *b)
{
	if (a->ssec_shared != b->ssec_shared || a->desc_count != b->desc_count ||
	    !same_text(a->rsa_private_key, b->rsa_private_key))
		return false;
	for (size_t i = 0; i < a->desc_count; i++)
		if (!same_text(a->desc[i].name, b->desc[i].name) ||
		    !same_text(a->desc[i].value, b->desc[i].value))
			return false;
	return true;
}

__attribute__((format(printf, 2, 3))) static void add(char *changes, const char *fmt, ...)
{
	size_t used = strlen(changes);
	va_list args;

	if (used)
		used += (size_t)snprintf(changes + used, CHANGES_MAX - used, "; ");
	va_start(args, fmt);
	if (used < CHANGES_MAX)
		vsnprintf(changes + used, CHANGES_MAX - used, fmt, args);
	va_end(args);
}

/* What is other in the new keyring, in words; "" when nothing is. */
static int compare(const struct s3c_keyring *old, const struct s3c_keyring *new,
		   char changes[static CHANGES_MAX], struct s3c_err *err)
{
	changes[0] = '\0';
	for (size_t i = 0; i < new->count; i++) {
		const struct s3c_master_key *key = &new->keys[i];
		const struct s3c_master_key *was = s3c_keyring_find(old, key->id);

		if (was && !same_secret(was, key))
			return s3c_err_set(err, -EKEYREJECTED,
					   "key %s has another secret than before: a key never "
					   "changes, a new one gets a name of its own",
					   key->id);
		if (!was)
			add(changes, "%s is new%s", key->id, key->active ? " and active" : "");
		else if (was->active != key->active)
			add(changes, "%s is %s now", key->id, key->active ? "active" : "old");
		else if (!same_rest(was, key))
			add(changes, "%s is described otherwise", key->id);
	}
	for (size_t i = 0; i < old->count; i++)
		if (!s3c_keyring_find(new, old->keys[i].id))
			add(changes, "%s is gone", old->keys[i].id);
	return 0;
}

/* Takes the keyring over when it is put to use. */
static int put_to_use(struct s3c_access *access, struct s3c_keyring **keyring)
{
	struct s3c_keyring **kept = reallocarray(access->former, access->former_count + 1,
						 sizeof(struct s3c_keyring *));

	if (!kept)
		return -ENOMEM;
	access->former = kept;
	access->former[access->former_count++] = access->keyring;
	(*keyring)->kms = access->kms_keys;
	access->keyring = steal_ptr(*keyring);
	s3c_engine_set_keyring(access->engine, access->keyring);
	return 0;
}

static int reload_keyring(struct s3c_access *access, struct s3c_err *err)
{
	const struct s3c_keyring_source source = s3c_options_keyring(access->options);
	cleanup_keyring struct s3c_keyring *keyring = NULL;
	char changes[CHANGES_MAX];
	int r = s3c_keyring_open(&source, err, &keyring);

	if (r < 0)
		return r;
	r = compare(access->keyring, keyring, changes, err);
	if (r < 0)
		return r;
	if (!changes[0]) {
		s3c_info("keyring: read again, nothing has changed");
		return 0;
	}
	/* Its keys are in the store's part of the engine, which is made with the mount. */
	if (s3c_enc_family(access->options->enc) == S3C_FAMILY_SSEC) {
		s3c_warn("keyring: %s; a mount with enc=sse-c takes that up when it is mounted "
			 "again",
			 changes);
		return 0;
	}
	keyring->kms = access->kms_keys;
	r = s3c_access_try_keyring(access, keyring, err);
	if (r == 0)
		r = put_to_use(access, &keyring);
	if (r == 0)
		s3c_info("keyring: read again: %s", changes);
	return r;
}

void s3c_access_reload(struct s3c_access *access)
{
	const struct s3c_options *o = access->options;
	struct s3c_err err = { 0 };
	int r;

	s3c_store_refresh(access->engine->store);
	if (access->kms)
		s3c_kms_refresh(access->kms);
	if (!access->keyring ||
	    (o->enc == S3C_ENC_CSE_KMS && !o->keyring && !o->key_command)) /* there is none */
		return;
	r = reload_keyring(access, &err);
	if (r < 0)
		s3c_error("keyring: the keys that are in use stay, since it cannot be taken up "
			  "again: %s",
			  s3c_err_text(&err, r));
}
