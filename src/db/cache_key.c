/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "db/cache_private.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

#define TEXT(s) s, sizeof(s) - 1

static int subkey_of(struct s3c_cache *cache, const uint8_t salt[static S3C_CACHE_SALT_LEN],
		     uint8_t *ret_subkey)
{
	return s3c_hkdf_sha256(cache->key, S3C_KEY_LEN, salt, S3C_CACHE_SALT_LEN,
			       TEXT("s3cryptfs cache values"), ret_subkey, S3C_KEY_LEN);
}

int s3c_cache_key_set(struct s3c_cache *cache, const uint8_t key[static S3C_KEY_LEN])
{
	cleanup_secret uint8_t *copy = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_secret uint8_t *index_key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_secret uint8_t *subkey = s3c_secret_alloc(S3C_KEY_LEN);
	int r;

	if (!copy || !index_key || !subkey)
		return -ENOMEM;
	memcpy(copy, key, S3C_KEY_LEN);
	r = s3c_hkdf_sha256(key, S3C_KEY_LEN, NULL, 0, TEXT("s3cryptfs cache index"), index_key,
			    S3C_KEY_LEN);
	if (r < 0)
		return r;
	s3c_cache_keys_free(cache);
	cache->key = steal_ptr(copy);
	cache->index_key = steal_ptr(index_key);
	s3c_random(cache->salt, sizeof(cache->salt));
	r = subkey_of(cache, cache->salt, subkey);
	if (r < 0) {
		s3c_cache_keys_free(cache);
		return r;
	}
	cache->subkey = steal_ptr(subkey);
	return 0;
}

void s3c_cache_keys_free(struct s3c_cache *cache)
{
	s3c_secret_free(steal_ptr(cache->key));
	s3c_secret_free(steal_ptr(cache->index_key));
	s3c_secret_free(steal_ptr(cache->subkey));
	while (cache->sealer_count)
		s3c_gcm_free(cache->sealers[--cache->sealer_count]);
}

int s3c_cache_key_check(const uint8_t key[static S3C_KEY_LEN],
			uint8_t ret_check[static S3C_SHA256_LEN])
{
	return s3c_hkdf_sha256(key, S3C_KEY_LEN, NULL, 0, TEXT("s3cryptfs cache check"), ret_check,
			       S3C_SHA256_LEN);
}

/* The context for one wrap: its key is used once, with a nonce of zeros. */
static int wrapping(const uint8_t *wrap_key, const uint8_t *salt, struct s3c_gcm **ret_gcm)
{
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	int r;

	if (!key)
		return -ENOMEM;
	r = s3c_hkdf_sha256(wrap_key, S3C_KEY_LEN, salt, S3C_CACHE_SALT_LEN,
			    TEXT("s3cryptfs cache wrap"), key, S3C_KEY_LEN);
	return r < 0 ? r : s3c_gcm_new(key, ret_gcm);
}

int s3c_cache_key_wrap(const uint8_t wrap_key[static S3C_KEY_LEN],
		       const uint8_t key[static S3C_KEY_LEN],
		       uint8_t ret_wrapped[static S3C_CACHE_WRAPPED_LEN])
{
	static const uint8_t nonce[S3C_NONCE_LEN];
	uint8_t *ct = ret_wrapped + S3C_CACHE_SALT_LEN;
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	int r;

	s3c_random(ret_wrapped, S3C_CACHE_SALT_LEN);
	r = wrapping(wrap_key, ret_wrapped, &gcm);
	return r < 0 ? r
		     : s3c_gcm_seal(gcm, nonce, TEXT("cache.db"), key, S3C_KEY_LEN, ct,
				    ct + S3C_KEY_LEN);
}

int s3c_cache_key_unwrap(const uint8_t wrap_key[static S3C_KEY_LEN],
			 const uint8_t wrapped[static S3C_CACHE_WRAPPED_LEN],
			 uint8_t ret_key[static S3C_KEY_LEN])
{
	static const uint8_t nonce[S3C_NONCE_LEN];
	const uint8_t *ct = wrapped + S3C_CACHE_SALT_LEN;
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	int r = wrapping(wrap_key, wrapped, &gcm);

	return r < 0 ? r
		     : s3c_gcm_open(gcm, nonce, TEXT("cache.db"), ct, S3C_KEY_LEN, ct + S3C_KEY_LEN,
				    ret_key);
}

int s3c_cache_key_content(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
			  uint8_t ret_key[static S3C_CACHE_KEYED])
{
	uint8_t text[1 + S3C_CACHE_ID_LEN], mac[S3C_SHA256_LEN];
	int r;

	text[0] = 'c';
	memcpy(text + 1, id, S3C_CACHE_ID_LEN);
	r = s3c_hmac_sha256(cache->index_key, S3C_KEY_LEN, text, sizeof(text), mac);
	if (r == 0)
		memcpy(ret_key, mac, S3C_CACHE_KEYED);
	return r;
}

/*
 * The key begins with 8 bytes that all names of one folder share: what is found together stands
 * together in the index, so that a listing of 1,000 files changes a few of its pages and not one
 * for each. It tells how many names a folder has, which the bucket does as well.
 */
int s3c_cache_key_record(struct s3c_cache *cache, enum s3c_cache_kind kind, const char *name,
			 uint8_t ret_key[static S3C_CACHE_KEYED], uint8_t *ret_aad,
			 size_t *ret_aad_len)
{
	size_t len = strlen(name), folder = len;
	uint8_t mac[S3C_SHA256_LEN], small[512];
	cleanup_free uint8_t *large = NULL;
	uint8_t *text = small;
	int r;

	if (len + 16 > sizeof(small)) {
		large = malloc(len + 16);
		if (!large)
			return -ENOMEM;
		text = large;
	}
	text[0] = 'd';
	text[1] = (uint8_t)kind;
	s3c_put_be64(text + 2, __atomic_load_n(&cache->epoch, __ATOMIC_RELAXED));
	memcpy(text + 10, name, len);
	if (folder && name[folder - 1] == '/')
		folder--;
	while (folder && name[folder - 1] != '/')
		folder--;
	r = s3c_hmac_sha256(cache->index_key, S3C_KEY_LEN, text, 10 + folder, mac);
	if (r < 0)
		return r;
	memcpy(ret_key, mac, 8);
	text[0] = 'r';
	r = s3c_hmac_sha256(cache->index_key, S3C_KEY_LEN, text, 10 + len, mac);
	if (r < 0)
		return r;
	memcpy(ret_key + 8, mac, S3C_CACHE_KEYED - 8);
	ret_aad[0] = 'r';
	memcpy(ret_aad + 1, mac, sizeof(mac));
	*ret_aad_len = 1 + sizeof(mac);
	return 0;
}

size_t s3c_cache_aad_chunk(const uint8_t id[static S3C_CACHE_ID_LEN], uint64_t chunk, uint32_t len,
			   uint8_t ret_aad[static S3C_CACHE_AAD_MAX])
{
	ret_aad[0] = 'c';
	memcpy(ret_aad + 1, id, S3C_CACHE_ID_LEN);
	s3c_put_be64(ret_aad + 33, chunk);
	s3c_put_be32(ret_aad + 41, len);
	return 45;
}

static int sealer_get(struct s3c_cache *cache, struct s3c_gcm **ret_gcm)
{
	struct s3c_gcm *gcm = NULL;

	s3c_mutex_lock(&cache->pool_lock);
	if (cache->sealer_count)
		gcm = cache->sealers[--cache->sealer_count];
	s3c_mutex_unlock(&cache->pool_lock);
	if (!gcm)
		return s3c_gcm_new(cache->subkey, ret_gcm);
	*ret_gcm = gcm;
	return 0;
}

static void sealer_put(struct s3c_cache *cache, struct s3c_gcm *gcm)
{
	s3c_mutex_lock(&cache->pool_lock);
	if (cache->sealer_count < S3C_CACHE_SPARES)
		cache->sealers[cache->sealer_count++] = steal_ptr(gcm);
	s3c_mutex_unlock(&cache->pool_lock);
	s3c_gcm_free(gcm);
}

int s3c_cache_seal(struct s3c_cache *cache, const void *aad, size_t aad_len, const void *data,
		   size_t len, uint8_t *ret_value)
{
	uint8_t nonce[S3C_NONCE_LEN] = { 0 };
	struct s3c_gcm *gcm;
	int r = sealer_get(cache, &gcm);

	if (r < 0)
		return r;
	s3c_put_be64(nonce + 4, __atomic_add_fetch(&cache->counter, 1, __ATOMIC_RELAXED));
	s3c_put_be32(ret_value, cache->session);
	memcpy(ret_value + 4, nonce + 4, 8);
	r = s3c_gcm_seal(gcm, nonce, aad, aad_len, data, len, ret_value + S3C_CACHE_HEAD,
			 ret_value + S3C_CACHE_HEAD + len);
	sealer_put(cache, gcm);
	return r;
}

static int unseal_with(struct s3c_gcm *gcm, const void *aad, size_t aad_len, const uint8_t *value,
		       size_t len, void *ret_data)
{
	uint8_t nonce[S3C_NONCE_LEN] = { 0 };

	memcpy(nonce + 4, value + 4, 8);
	return s3c_gcm_open(gcm, nonce, aad, aad_len, value + S3C_CACHE_HEAD,
			    len - S3C_CACHE_SEALED_MORE, value + len - S3C_TAG_LEN, ret_data);
}

int s3c_cache_unseal(struct s3c_cache *cache, const void *aad, size_t aad_len, const uint8_t *value,
		     size_t len, void *ret_data)
{
	struct s3c_gcm *gcm;
	int r;

	if (len < S3C_CACHE_SEALED_MORE)
		return -EBADMSG;
	r = sealer_get(cache, &gcm);
	if (r < 0)
		return r;
	r = unseal_with(gcm, aad, aad_len, value, len, ret_data);
	sealer_put(cache, gcm);
	return r;
}

static int context_of(struct s3c_cache *cache, struct s3c_cache_reader *reader, uint32_t session,
		      struct s3c_gcm **ret_gcm)
{
	cleanup_secret uint8_t *subkey = NULL;
	uint8_t salt[S3C_CACHE_SALT_LEN];
	struct s3c_gcm *gcm = NULL;
	bool found;
	int r;

	for (size_t i = 0; i < ARRAY_LEN(reader->context); i++)
		if (session && reader->context[i].session == session) {
			*ret_gcm = reader->context[i].gcm;
			return 0;
		}
	sqlite3_bind_int64(reader->salt, 1, session);
	found = sqlite3_step(reader->salt) == SQLITE_ROW &&
		sqlite3_column_bytes(reader->salt, 0) == sizeof(salt);
	if (found)
		memcpy(salt, sqlite3_column_blob(reader->salt, 0), sizeof(salt));
	sqlite3_reset(reader->salt);
	if (!session || !found)
		return -ESTALE;
	subkey = s3c_secret_alloc(S3C_KEY_LEN);
	if (!subkey)
		return -ENOMEM;
	r = subkey_of(cache, salt, subkey);
	if (r == 0)
		r = s3c_gcm_new(subkey, &gcm);
	if (r < 0)
		return r;
	s3c_gcm_free(reader->context[reader->next].gcm);
	reader->context[reader->next].gcm = gcm;
	reader->context[reader->next].session = session;
	reader->next = (reader->next + 1) % ARRAY_LEN(reader->context);
	*ret_gcm = gcm;
	return 0;
}

int s3c_cache_unseal_stored(struct s3c_cache *cache, struct s3c_cache_reader *reader,
			    const void *aad, size_t aad_len, const uint8_t *value, size_t len,
			    void *ret_data)
{
	struct s3c_gcm *gcm;
	int r;

	if (!value || len < S3C_CACHE_SEALED_MORE)
		return -EBADMSG;
	r = context_of(cache, reader, s3c_get_be32(value), &gcm);
	return r < 0 ? r : unseal_with(gcm, aad, aad_len, value, len, ret_data);
}
