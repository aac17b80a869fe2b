/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the cache database keeps of contents and of entries.
 *
 * Sealed content is kept by segment: file id and segment salt name the plaintext of a segment for
 * ever, since whatever is encrypted again gets another salt. So a change of a large file leaves the
 * other segments where they are, and chmod and rename leave all. Plain content is kept by a hash
 * of key and version token, when all of that is known: an ETag alone is not enough. Content of
 * other clients is kept by the id of its envelope, which does not authenticate it: what comes back
 * is compared with what was verified.
 *
 * Entries are kept by path. They are never believed by themselves: a listing that agrees with them,
 * or a HEAD, makes them valid again (see lookup.c).
 */
#include "engine/content.h"
#include "engine/pending.h"
#include "engine/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"

_Static_assert(S3C_CACHE_CHUNK == S3C_CHUNK_SIZE, "chunks of the cache are those of objects");
_Static_assert(S3C_CACHE_ID_LEN == S3C_FILE_ID_LEN + S3C_SALT_LEN, "file id and salt");
_Static_assert(S3C_CACHE_ID_LEN == S3C_SHA256_LEN, "or a hash");

static void sealed_id(const uint8_t *file_id, const uint8_t *salt,
		      uint8_t ret_id[static S3C_CACHE_ID_LEN])
{
	memcpy(ret_id, file_id, S3C_FILE_ID_LEN);
	memcpy(ret_id + S3C_FILE_ID_LEN, salt, S3C_SALT_LEN);
}

/* In the place of a segment salt, which is random. */
static const uint8_t foreign_salt[S3C_SALT_LEN] = "s3cryptfs s3ec";

static bool plain_id(const struct s3c_entry *base, const struct s3c_target *target,
		     uint8_t ret_id[static S3C_CACHE_ID_LEN])
{
	cleanup_free char *text = NULL;

	/* The clock of a store has seconds: two versions of one second may look the same. */
	if (!base->version.etag[0] || !base->version.modified_ns)
		return false;
	text = s3c_asprintf("%s\n%s\n%s\n%jd\n%ju", target->key, base->version.etag,
			    base->version.version_id, (intmax_t)base->version.modified_ns,
			    (uintmax_t)base->stored_size);
	return text && s3c_sha256(text, strlen(text), ret_id) == 0;
}

static bool content_id(const struct s3c_crypt *crypt, const struct s3c_entry *base,
		       const struct s3c_target *target, uint64_t chunk,
		       uint8_t ret_id[static S3C_CACHE_ID_LEN])
{
	if (crypt->body) {
		sealed_id(crypt->file_id, foreign_salt, ret_id);
		return true;
	}
	if (!crypt->key)
		return plain_id(base, target, ret_id);
	sealed_id(crypt->file_id, crypt->salts + chunk / S3C_SEGMENT_CHUNKS * S3C_SALT_LEN, ret_id);
	return true;
}

void s3c_cached_put(struct s3c_engine *engine, const struct s3c_crypt *crypt,
		    const struct s3c_entry *base, const struct s3c_target *target, uint64_t chunk,
		    const uint8_t *data)
{
	uint8_t id[S3C_CACHE_ID_LEN];

	if (engine->config.cache && content_id(crypt, base, target, chunk, id))
		s3c_cache_write(engine->config.cache, id, chunk, data,
				s3c_chunk_plain_len(crypt->size, chunk));
}

void s3c_cached_put_foreign(struct s3c_engine *engine, const uint8_t *file_id, uint64_t chunk,
			    const uint8_t *data, uint32_t len)
{
	uint8_t id[S3C_CACHE_ID_LEN];

	if (!engine->config.cache || !len)
		return;
	sealed_id(file_id, foreign_salt, id);
	s3c_cache_write(engine->config.cache, id, chunk, data, len);
}

/* Takes back what the cache has of a foreign object and is not what was verified. */
static unsigned drop_others(const struct s3c_crypt *crypt, uint64_t chunk, unsigned n,
			    uint8_t *const *data, bool *have)
{
	unsigned dropped = 0;

	for (unsigned i = 0; crypt->body && i < n; i++) {
		if (!have[i] || s3c_s3ec_body_check(crypt->body, chunk + i, data[i]) == 0)
			continue;
		have[i] = false;
		dropped++;
	}
	return dropped;
}

void s3c_cached_put_sealed(struct s3c_engine *engine, const uint8_t *file_id, const uint8_t *salt,
			   uint64_t chunk, const uint8_t *data, uint32_t len)
{
	uint8_t id[S3C_CACHE_ID_LEN];

	if (!engine->config.cache || !len)
		return;
	sealed_id(file_id, salt, id);
	s3c_cache_write(engine->config.cache, id, chunk, data, len);
}

unsigned s3c_cached_get(struct s3c_engine *engine, const struct s3c_crypt *crypt,
			const struct s3c_entry *base, const struct s3c_target *target,
			uint64_t first, unsigned count, struct s3c_page *const *pages,
			bool *ret_have)
{
	unsigned found = 0;

	if (!engine->config.cache)
		return 0;
	for (unsigned at = 0, n; at < count; at += n) {
		uint64_t chunk = first + at;
		uint8_t *data[S3C_SEGMENT_CHUNKS], id[S3C_CACHE_ID_LEN];
		uint32_t lens[S3C_SEGMENT_CHUNKS];

		n = (unsigned)S3C_MIN((uint64_t)(count - at),
				      S3C_SEGMENT_CHUNKS - chunk % S3C_SEGMENT_CHUNKS);
		if (!content_id(crypt, base, target, chunk, id))
			return 0;
		for (unsigned i = 0; i < n; i++) {
			data[i] = pages[at + i]->data;
			lens[i] = s3c_chunk_plain_len(crypt->size, chunk + i);
		}
		found += s3c_cache_read(engine->config.cache, id, chunk, n, lens, data,
					ret_have + at);
		found -= drop_others(crypt, chunk, n, data, ret_have + at);
		for (unsigned i = 0; i < n; i++)
			if (ret_have[at + i])
				memset(data[i] + lens[i], 0, S3C_CHUNK_SIZE - lens[i]);
	}
	return found;
}

/*
 *	entry	= version(1) base(of records) tail-length(4) tail
 *
 * The tail is that of a trailer: with it a large file opens without a request for its salts.
 */
#define ENTRY_VERSION 1
#define SETTLED_NS (2 * S3C_NSEC_PER_SEC)
#define RECALL_MAX 48u /* names that are looked for ahead */

void s3c_cached_entry_put(struct s3c_engine *engine, const struct s3c_entry *entry)
{
	bool tail = entry->tail && entry->header.layout == S3C_LAYOUT_TRAILER;
	cleanup_buf struct s3c_buf text = { 0 };
	uint8_t len[4];
	int r;

	/* Of directories a listing tells nothing to compare with; without the time of its change a
	   version is not told apart from one that was copied onto itself. */
	if (!engine->config.cache || entry->is_dir || entry->implicit || entry->extra ||
	    s3c_layout_is_whole(entry->header.layout) || !entry->header.attrs.known ||
	    !entry->version.modified_ns || !entry->version.etag[0])
		return;
	/* Another change of the same second would look the same. */
	if (s3c_clock_realtime_ns() < entry->version.modified_ns + SETTLED_NS)
		return;
	s3c_put_be32(len, tail ? (uint32_t)entry->tail_len : 0);
	r = s3c_buf_append_char(&text, ENTRY_VERSION);
	r = r < 0 ? r : s3c_record_put_entry(&text, entry);
	r = r < 0 ? r : s3c_buf_append(&text, len, sizeof(len));
	if (r == 0 && tail)
		r = s3c_buf_append(&text, entry->tail, entry->tail_len);
	if (r == 0)
		s3c_cache_put(engine->config.cache, S3C_CACHE_ENTRY, entry->path, text.data,
			      text.len);
}

static struct s3c_entry *entry_get(struct s3c_engine *engine, const char *path)
{
	cleanup_free uint8_t *data = NULL;
	cleanup_entry struct s3c_entry *entry = NULL;
	struct s3c_record_reader reader;
	uint8_t version, bytes[4];
	size_t len;

	if (s3c_cache_get(engine->config.cache, S3C_CACHE_ENTRY, path, &data, &len) < 0)
		return NULL;
	reader = (struct s3c_record_reader){ .at = data, .left = len };
	s3c_record_take(&reader, &version, 1);
	if (version != ENTRY_VERSION ||
	    s3c_record_get_entry(engine, &reader, path, false, &entry) < 0 || !entry ||
	    s3c_record_take(&reader, bytes, sizeof(bytes)) < 0 ||
	    s3c_get_be32(bytes) != reader.left || reader.left > S3C_TAIL_LEN)
		return NULL;
	if (reader.left) {
		entry->tail = malloc(reader.left);
		if (!entry->tail)
			return NULL;
		entry->tail_len = reader.left;
		memcpy(entry->tail, reader.at, reader.left);
	}
	return steal_ptr(entry);
}

/* HEAD tells seconds only, LIST often more. */
static bool same_second(int64_t a, int64_t b)
{
	return a / S3C_NSEC_PER_SEC == b / S3C_NSEC_PER_SEC;
}

/* Lock held. */
static void offer(struct s3c_names *names, const char *path, struct s3c_entry *entry)
{
	struct s3c_node *node = s3c_node_make(names, path);
	struct s3c_dir_list *dir = node && node->parent ? node->parent->dir : NULL;
	struct s3c_detail detail;

	if (!node)
		return;
	if (node->known || node->local || node->flight ||
	    s3c_overlay_of(node) != S3C_OVERLAY_NONE) {
		s3c_node_prune(names, node);
		return;
	}
	if (s3c_listed_find(names, path, &detail) == S3C_LISTED_FILE && detail.known_size &&
	    node->change == S3C_CHANGE_NONE && dir && detail.size == entry->stored_size &&
	    same_second(detail.modified_ns, entry->version.modified_ns) &&
	    detail.etag_hash == s3c_hash_etag(entry->version.etag)) {
		entry->fetched_ns = dir->started_ns;
		s3c_node_know(names, node, s3c_entry_ref(entry), dir->started_ns);
	} else {
		s3c_node_know(names, node, s3c_entry_ref(entry), entry->fetched_ns);
	}
}

/* The names after path in a valid listing of which nothing is known. Lock held. */
static unsigned names_after(struct s3c_names *names, const char *path, char **ret_paths)
{
	struct s3c_dir_list *dir;
	unsigned count = 0;
	size_t i;

	dir = s3c_listed_index(names, path, &i);
	if (!dir || i == SIZE_MAX)
		return 0;
	for (i++; i < dir->snap->base.count && count < RECALL_MAX; i++) {
		const char *parent = dir->node->path, *name = dir->snap->base.items[i].name;
		char *next = s3c_asprintf("%s%s%s", parent, *parent ? "/" : "", name);
		struct s3c_node *node = next ? s3c_node_find(names, next) : NULL;

		if (!next || (node && node->known) || dir->snap->details[i].is_dir) {
			free(next);
			if (node && node->known)
				break;
			continue;
		}
		ret_paths[count++] = next;
	}
	return count;
}

void s3c_cached_recall(struct s3c_engine *engine, const char *path)
{
	struct s3c_names *names = engine->names;
	struct s3c_node *node = s3c_node_find(names, path);
	struct s3c_entry *entries[RECALL_MAX];
	char *paths[RECALL_MAX];
	struct s3c_detail detail;
	struct s3c_entry *entry;
	unsigned count = 0;

	if (node && (node->known || node->local || node->flight))
		return;
	s3c_mutex_unlock(&engine->lock);
	entry = entry_get(engine, path);
	s3c_mutex_lock(&engine->lock);
	/* A directory is never kept, and the files beside it may be nevertheless. */
	if (!entry && s3c_listed_find(names, path, &detail) != S3C_LISTED_DIR)
		return;
	if (entry)
		offer(names, path, entry);
	s3c_entry_put(entry);
	/* Where one is known others may be: without them, requests would be sent ahead. */
	count = names_after(names, path, paths);
	s3c_mutex_unlock(&engine->lock);
	for (unsigned i = 0; i < count; i++)
		entries[i] = entry_get(engine, paths[i]);
	s3c_mutex_lock(&engine->lock);
	for (unsigned i = 0; i < count; i++) {
		if (entries[i])
			offer(names, paths[i], entries[i]);
		s3c_entry_put(entries[i]);
		free(paths[i]);
	}
}
