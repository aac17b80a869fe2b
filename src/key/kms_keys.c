/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/log.h"
#include "base/secret.h"
#include "key/kms_private.h"

/* Not an id, nor an alias: the service would answer with the same. */
static bool is_key_arn(const char *text)
{
	return strncmp(text, "arn:", 4) == 0 && strstr(text, ":key/");
}

static int add_named(struct s3c_kms_keys *keys, const char *given, size_t len)
{
	struct s3c_kms_named *named =
		reallocarray(keys->named, keys->named_count + 1, sizeof(*named));

	if (!named)
		return -ENOMEM;
	keys->named = named;
	named += keys->named_count;
	*named = (struct s3c_kms_named){ .given = strndup(given, len) };
	if (!named->given)
		return -ENOMEM;
	keys->named_count++;
	if (is_key_arn(named->given)) {
		named->arn = strdup(named->given);
		if (!named->arn)
			return -ENOMEM;
	}
	return 0;
}

static int add_read_keys(struct s3c_kms_keys *keys, const char *list)
{
	int r = 0;

	for (size_t len; list && *list && r == 0; list += len + (list[len] == ';')) {
		len = strcspn(list, ";");
		if (len)
			r = add_named(keys, list, len);
	}
	return r;
}

/* One may use a key without being allowed to look at it: its use tells its ARN. */
static int try_out(struct s3c_kms_keys *keys, struct s3c_kms_named *named, char *why,
		   size_t why_size)
{
	cleanup_kms_blob struct s3c_kms_blob blob = { 0 };
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	int r = key ? s3c_kms_generate(keys->kms, NULL, named->given, keys->pairs, key, &blob, why,
				       why_size)
		    : -ENOMEM;

	if (r == 0) {
		free(named->arn);
		named->arn = steal_ptr(blob.arn);
	}
	return r;
}

/*
 * Asks for ARNs that are not known and, where new objects will be wrapped, whether the key is fit
 * for it.
 */
static int find_out(struct s3c_kms_keys *keys, struct s3c_err *err)
{
	for (size_t i = 0; i < keys->named_count; i++) {
		struct s3c_kms_named *named = &keys->named[i];
		bool active = keys->has_active && i == 0;
		char why[512] = "";
		char *arn = NULL;
		int r;

		if (named->arn && !(active && keys->writes))
			continue;
		r = s3c_kms_describe(keys->kms, NULL, named->given, &arn, why, sizeof(why));
		if (r == 0) {
			free(named->arn);
			named->arn = arn;
		} else if (active && keys->writes && r == -EACCES) {
			r = try_out(keys, named, why, sizeof(why));
		}
		if (r < 0 && active && keys->writes)
			return s3c_err_set(err, r, "%s", why[0] ? why : strerror(-r));
		if (r < 0)
			s3c_warn("KMS key %s: %s; what it wraps is found by its ARN alone",
				 named->given, why[0] ? why : strerror(-r));
	}
	return 0;
}

static int decrypt_foreign(void *arg, const struct s3c_wrapped_key *wrapped, uint8_t *ret_data_key,
			   char *why, size_t why_size);

int s3c_kms_keys_new(const struct s3c_kms_keys_config *config, struct s3c_err *err,
		     struct s3c_kms_keys **ret_keys)
{
	struct s3c_kms_keys *keys = calloc(1, sizeof(*keys));
	int r = 0;

	if (!keys)
		return -ENOMEM;
	s3c_mutex_init(&keys->lock);
	s3c_waitq_init(&keys->wake);
	TAILQ_INIT(&keys->ready);
	TAILQ_INIT(&keys->kept_order);
	LIST_INIT(&keys->jobs);
	keys->kms = config->kms;
	keys->writes = config->writes;
	keys->reuse = config->reuse;
	keys->cache_s = config->cache_s;
	keys->has_active = config->key_id != NULL;
	keys->foreign = (struct s3c_kms_unwrap){ decrypt_foreign, keys };
	if (config->pairs && strcmp(config->pairs, "{}") != 0) {
		keys->pairs = strdup(config->pairs);
		if (!keys->pairs)
			r = -ENOMEM;
	}
	if (r == 0 && config->key_id)
		r = add_named(keys, config->key_id, strlen(config->key_id));
	if (r == 0)
		r = add_read_keys(keys, config->read_keys);
	if (r == 0)
		r = find_out(keys, err);
	if (r == 0)
		r = s3c_kms_kept_start(keys);
	if (r < 0) {
		s3c_kms_keys_free(keys);
		return r;
	}
	*ret_keys = keys;
	return 0;
}

void s3c_kms_keys_free(struct s3c_kms_keys *keys)
{
	struct s3c_kms_job *job;

	if (!keys)
		return;
	s3c_mutex_lock(&keys->lock);
	keys->stop = true;
	LIST_FOREACH (job, &keys->jobs, link)
		s3c_op_interrupt(&job->op);
	s3c_mutex_unlock(&keys->lock);
	s3c_pool_free(keys->pool);
	s3c_kms_kept_stop(keys);
	s3c_mutex_lock(&keys->lock);
	(void)s3c_kms_ready_expire_locked(keys, INT64_MAX);
	s3c_mutex_unlock(&keys->lock);
	for (size_t i = 0; i < keys->named_count; i++) {
		free(keys->named[i].given);
		free(keys->named[i].arn);
	}
	free(keys->named);
	free(keys->pairs);
	free(keys->alg);
	s3c_mutex_destroy(&keys->lock);
	free(keys);
}

size_t s3c_kms_keys_pairs_len(const struct s3c_kms_keys *keys)
{
	return keys->pairs ? strlen(keys->pairs) : 0;
}

bool s3c_kms_keys_writes(const struct s3c_kms_keys *keys)
{
	return keys->writes;
}

const char *s3c_kms_keys_active(const struct s3c_kms_keys *keys)
{
	return keys->has_active ? keys->named[0].arn : NULL;
}

static int wrap_of(struct s3c_kms_keys *keys, bool reuse, const struct s3c_kms_blob *blob,
		   struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size)
{
	if (blob->len > S3C_KMS_WRAP_MAX)
		return s3c_say(why, why_size, -EMSGSIZE,
			       "the KMS wraps keys to %zu bytes, and the metadata of an object has "
			       "room for %u",
			       blob->len, S3C_KMS_WRAP_MAX);
	return s3c_kms_wrap_new(reuse, blob->arn, keys->pairs, blob->data, blob->len, ret_wrap);
}

/* Keeps what was had, for who opens it next. */
static void keep(struct s3c_kms_keys *keys, const struct s3c_kms_wrap *wrap, const char *context,
		 const uint8_t *key)
{
	uint8_t digest[S3C_SHA256_LEN];

	if (s3c_kms_digest(wrap, context, digest) == 0)
		s3c_kms_kept_put(keys, digest, key);
}

int s3c_kms_make(struct s3c_kms_keys *keys, struct s3c_op *op, const struct s3c_kms_bound *bound,
		 uint8_t *ret_key, struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size)
{
	cleanup_kms_blob struct s3c_kms_blob blob = { 0 };
	cleanup_free char *context = NULL;
	int r = s3c_kms_context(bound->volume_id, bound->volume_id ? bound->file_id : NULL,
				bound->alg, keys->pairs, &context);

	if (r == 0)
		r = s3c_kms_generate(keys->kms, op, keys->named[0].given, context, ret_key, &blob,
				     why, why_size);
	if (r == 0)
		r = wrap_of(keys, !bound->file_id, &blob, ret_wrap, why, why_size);
	if (r == 0)
		keep(keys, *ret_wrap, context, ret_key);
	return r;
}

/* Here, under a key of the KMS. */
static int seal_shared(struct s3c_kms_keys *keys, struct s3c_op *op, const uint8_t *file_id,
		       const char *alg, const uint8_t *key, uint8_t *ret_local,
		       struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size)
{
	cleanup_kms_wrap struct s3c_kms_wrap *wrap = NULL;
	struct s3c_master_key shared = { .secret_len = S3C_KEY_LEN };
	cleanup_secret uint8_t *secret = s3c_secret_alloc(S3C_KEY_LEN);
	int r;

	if (!secret)
		return -ENOMEM;
	r = s3c_kms_shared_key(keys, op, secret, &wrap, why, why_size);
	shared.secret = secret;
	if (r == 0)
		r = s3c_wrap_seal(&shared, alg, file_id, key, ret_local);
	if (r == 0)
		*ret_wrap = steal_ptr(wrap);
	return r;
}

int s3c_kms_keys_seal(struct s3c_kms_keys *keys, struct s3c_op *op, const uint8_t *volume_id,
		      const uint8_t *file_id, const char *alg,
		      const uint8_t key[static S3C_KEY_LEN], uint8_t *ret_local,
		      struct s3c_kms_wrap **ret_wrap, char *why, size_t why_size)
{
	cleanup_kms_blob struct s3c_kms_blob blob = { 0 };
	cleanup_free char *context = NULL;
	int r;

	if (!keys->has_active)
		return -EINVAL;
	if (keys->reuse && ret_local && file_id && volume_id)
		return seal_shared(keys, op, file_id, alg, key, ret_local, ret_wrap, why, why_size);
	r = s3c_kms_context(volume_id, file_id, alg, keys->pairs, &context);
	if (r == 0)
		r = s3c_kms_encrypt(keys->kms, op, keys->named[0].given, context, key, &blob, why,
				    why_size);
	if (r == 0)
		r = wrap_of(keys, false, &blob, ret_wrap, why, why_size);
	if (r == 0)
		keep(keys, *ret_wrap, context, key);
	return r;
}

/* The name that the user gave to this key; NULL: none. A key id is the end of its ARN. */
static const char *find_named(struct s3c_kms_keys *keys, const char *arn)
{
	const char *found = NULL, *id = strstr(arn, ":key/");

	for (size_t i = 0; i < keys->named_count && !found; i++) {
		const struct s3c_kms_named *named = &keys->named[i];

		if (named->arn ? strcmp(named->arn, arn) == 0
			       : id && strcmp(named->given, id + strlen(":key/")) == 0)
			found = named->given;
	}
	return found;
}

bool s3c_kms_keys_may_open(struct s3c_kms_keys *keys, const char *arn)
{
	return find_named(keys, arn) != NULL;
}

static int not_named(const char *arn, char *why, size_t why_size)
{
	return s3c_say(
		why, why_size, -EACCES,
		"is wrapped under the KMS key %.256s, which is neither kms_key_id nor one of "
		"kms_read_keys",
		arn);
}

int s3c_kms_keys_open(struct s3c_kms_keys *keys, struct s3c_op *op, const struct s3c_kms_wrap *wrap,
		      const uint8_t *local, const uint8_t *volume_id, const uint8_t *file_id,
		      const char *alg, uint8_t ret_key[static S3C_KEY_LEN], char *why,
		      size_t why_size)
{
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	struct s3c_master_key shared = { .secret = key, .secret_len = S3C_KEY_LEN };
	const char *named = find_named(keys, wrap->arn);
	cleanup_free char *context = NULL;
	uint8_t digest[S3C_SHA256_LEN];
	int r;

	if (!key)
		return -ENOMEM;
	if (!named)
		return not_named(wrap->arn, why, why_size);
	r = s3c_kms_context(volume_id, wrap->reuse ? NULL : file_id, alg, wrap->pairs, &context);
	if (r == 0)
		r = s3c_kms_digest(wrap, context, digest);
	if (r == 0 && !s3c_kms_kept_get(keys, digest, key)) {
		r = s3c_kms_decrypt(keys->kms, op, named, wrap->arn, context, wrap->data, wrap->len,
				    key, why, why_size);
		if (r == 0)
			s3c_kms_kept_put(keys, digest, key);
	}
	if (r == 0 && wrap->reuse) {
		r = local && file_id ? s3c_wrap_open(&shared, alg, file_id, local, ret_key)
				     : -EINVAL;
		if (r == -EBADMSG)
			s3c_say(why, why_size, r,
				"its key does not open under the one that the KMS wrapped: "
				"altered");
	} else if (r == 0) {
		memcpy(ret_key, key, S3C_KEY_LEN);
	}
	return r;
}

int s3c_kms_keys_reencrypt(struct s3c_kms_keys *keys, struct s3c_op *op,
			   const struct s3c_kms_wrap *wrap, const uint8_t *volume_id,
			   const uint8_t *file_id, const char *alg, struct s3c_kms_wrap **ret_wrap,
			   char *why, size_t why_size)
{
	const char *named = find_named(keys, wrap->arn);
	cleanup_kms_blob struct s3c_kms_blob blob = { 0 };
	cleanup_free char *from = NULL;
	cleanup_free char *to = NULL;
	int r;

	if (!keys->has_active)
		return -EINVAL;
	if (wrap->reuse || (keys->reuse && file_id && volume_id))
		return -EOPNOTSUPP;
	if (!named)
		return not_named(wrap->arn, why, why_size);
	r = s3c_kms_context(volume_id, file_id, alg, wrap->pairs, &from);
	if (r == 0)
		r = s3c_kms_context(volume_id, file_id, alg, keys->pairs, &to);
	if (r == 0)
		r = s3c_kms_reencrypt(keys->kms, op, named, from, wrap->data, wrap->len,
				      keys->named[0].given, to, &blob, why, why_size);
	return r < 0 ? r : wrap_of(keys, false, &blob, ret_wrap, why, why_size);
}

bool s3c_kms_keys_is_current(const struct s3c_kms_keys *keys, const struct s3c_kms_wrap *wrap,
			     bool own)
{
	const char *arn = s3c_kms_keys_active(keys);

	return arn && strcmp(arn, wrap->arn) == 0 && wrap->reuse == (keys->reuse && !own) &&
	       strcmp(wrap->pairs ? wrap->pairs : "", keys->pairs ? keys->pairs : "") == 0;
}

const struct s3c_kms_unwrap *s3c_kms_keys_foreign(struct s3c_kms_keys *keys)
{
	return &keys->foreign;
}

/* What the other clients put into a context themselves. */
static bool added_by_client(const char *name)
{
	return strcmp(name, "aws:x-amz-cek-alg") == 0 || strcmp(name, "kms_cmk_id") == 0;
}

/* The whole context as JSON; -EACCES where the user's part is not what the mount was given. */
static int foreign_context(const struct s3c_kms_keys *keys, const struct s3c_wrapped_key *wrapped,
			   char **ret_json, char *why, size_t why_size)
{
	json_auto_t *whole = json_object(), *user = json_object();
	json_auto_t *want = keys->pairs ? json_loads(keys->pairs, 0, NULL) : json_object();

	if (!whole || !user || !want)
		return -ENOMEM;
	for (size_t i = 0; i < wrapped->desc_count; i++) {
		const struct s3c_key_desc *pair = &wrapped->desc[i];

		if (json_object_set_new(whole, pair->name, json_string(pair->value)) < 0 ||
		    (!added_by_client(pair->name) &&
		     json_object_set_new(user, pair->name, json_string(pair->value)) < 0))
			return -ENOMEM;
	}
	if (!json_equal(user, want)) {
		cleanup_free char *text =
			json_dumps(user, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);

		return s3c_say(why, why_size, -EACCES,
			       "its encryption context %.200s is not that of kms_context=",
			       text ? text : "");
	}
	*ret_json = json_dumps(whole, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	return *ret_json ? 0 : -ENOMEM;
}

/* These objects name no key that would bind us: each of the user's is tried. */
static int decrypt_foreign(void *arg, const struct s3c_wrapped_key *wrapped, uint8_t *ret_data_key,
			   char *why, size_t why_size)
{
	struct s3c_kms_keys *keys = arg;
	cleanup_free char *context = NULL;
	int r = foreign_context(keys, wrapped, &context, why, why_size);

	if (r < 0)
		return r;
	r = s3c_say(why, why_size, -EACCES,
		    "a KMS key wraps its data key, and none is given: "
		    "kms_key_id=, kms_read_keys=");
	for (size_t i = 0; i < keys->named_count; i++) {
		r = s3c_kms_decrypt(keys->kms, NULL, keys->named[i].given, NULL, context,
				    wrapped->wrapped, wrapped->wrapped_len, ret_data_key, why,
				    why_size);
		if (r != -EKEYREJECTED && r != -EBADMSG && r != -ENOKEY && r != -EACCES)
			break;
	}
	return r;
}
