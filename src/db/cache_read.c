/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "db/cache_private.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"
#include "base/log.h"

#define SAID_MAX 16 /* lines about damaged rows */

struct found_run {
	int64_t id, used;
	uint32_t have;
};

/* SQLITE_ROW, or SQLITE_DONE: there is none. */
static int find_run(struct s3c_cache_reader *reader, const uint8_t *content, uint64_t place,
		    struct found_run *ret_run)
{
	int rc;

	sqlite3_bind_blob(reader->run, 1, content, 16, SQLITE_STATIC);
	sqlite3_bind_int64(reader->run, 2, (int64_t)place);
	rc = sqlite3_step(reader->run);
	if (rc == SQLITE_ROW) {
		ret_run->id = sqlite3_column_int64(reader->run, 0);
		ret_run->have = (uint32_t)sqlite3_column_int64(reader->run, 1);
		ret_run->used = sqlite3_column_int64(reader->run, 2);
	}
	sqlite3_reset(reader->run);
	return rc;
}

static int begin(struct s3c_cache_reader *reader)
{
	int rc = sqlite3_step(reader->begin);

	sqlite3_reset(reader->begin);
	return rc;
}

static void end(struct s3c_cache_reader *reader)
{
	sqlite3_step(reader->end);
	sqlite3_reset(reader->end);
}

static void note_damage(struct s3c_cache *cache, const char *what)
{
	uint64_t n = S3C_CACHE_COUNT(cache, damaged, 1);

	if (n < SAID_MAX)
		s3c_warn("cache %s: %s is damaged and was dropped%s", cache->path, what,
			 n + 1 == SAID_MAX ? "; further ones are not told" : "");
}

struct read {
	struct s3c_cache *cache;
	struct s3c_cache_reader *reader;
	const uint8_t *id;
	uint8_t content[S3C_CACHE_KEYED];
	const uint32_t *lens;
	uint8_t *const *pages;
	bool *have;
	unsigned got;
};

/* The row of a chunk to pages[i]. */
static void read_chunk(struct read *read, uint64_t chunk, unsigned i)
{
	const uint8_t *value = sqlite3_column_blob(read->reader->chunks, 1);
	size_t len = (size_t)sqlite3_column_bytes(read->reader->chunks, 1);
	uint8_t aad[S3C_CACHE_AAD_MAX];
	size_t aad_len = s3c_cache_aad_chunk(read->id, chunk, read->lens[i], aad);
	int r = -EBADMSG;

	if (!value && sqlite3_errcode(read->reader->db) == SQLITE_NOMEM)
		return;
	if (len == (size_t)read->lens[i] + S3C_CACHE_SEALED_MORE)
		r = s3c_cache_unseal_stored(read->cache, read->reader, aad, aad_len, value, len,
					    read->pages[i]);
	if (r == 0) {
		read->have[i] = true;
		read->got++;
		return;
	}
	if (r == -EBADMSG)
		note_damage(read->cache, "a chunk");
	if (r == -EBADMSG || r == -ESTALE)
		s3c_cache_drop(read->cache, read->content, chunk);
}

/* Chunks [first, first + count) lie in one run; i: place of the first in the caller's arrays. */
static int read_run(struct read *read, uint64_t first, unsigned count, unsigned i)
{
	sqlite3_stmt *stmt = read->reader->chunks;
	struct found_run run = { 0 };
	unsigned from = S3C_CACHE_RUN, to = 0, seen;
	uint32_t wanted = 0;
	int rc = find_run(read->reader, read->content, first / S3C_CACHE_RUN, &run);

	if (rc != SQLITE_ROW)
		return rc;
	for (unsigned k = 0; k < count; k++) {
		unsigned bit = (unsigned)(first % S3C_CACHE_RUN) + k;

		if (!read->pages[i + k] || read->lens[i + k] > S3C_CACHE_CHUNK ||
		    !(run.have >> bit & 1))
			continue;
		wanted |= 1u << bit;
		from = S3C_MIN(from, bit);
		to = bit;
	}
	if (!wanted)
		return SQLITE_DONE;
	sqlite3_bind_int64(stmt, 1, run.id * S3C_CACHE_RUN + from);
	sqlite3_bind_int64(stmt, 2, run.id * S3C_CACHE_RUN + to);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		seen = (unsigned)(sqlite3_column_int64(stmt, 0) % S3C_CACHE_RUN);
		if (!(wanted >> seen & 1))
			continue;
		wanted &= ~(1u << seen);
		read_chunk(read, first / S3C_CACHE_RUN * S3C_CACHE_RUN + seen,
			   i + seen - (unsigned)(first % S3C_CACHE_RUN));
		/* An unreadable page is known only when the blob is asked for. */
		rc = sqlite3_errcode(read->reader->db);
		if (rc != SQLITE_ROW && rc != SQLITE_OK)
			break;
	}
	sqlite3_reset(stmt);
	if (rc == SQLITE_DONE) {
		for (unsigned bit = 0; bit < S3C_CACHE_RUN; bit++)
			if (wanted >> bit & 1)
				s3c_cache_drop(read->cache, read->content,
					       first / S3C_CACHE_RUN * S3C_CACHE_RUN + bit);
		s3c_cache_touch(read->cache, run.id, false, run.used);
	}
	return rc;
}

unsigned s3c_cache_read(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
			uint64_t first, unsigned count, const uint32_t *lens, uint8_t *const *pages,
			bool *ret_have)
{
	struct read read = {
		.cache = cache, .id = id, .lens = lens, .pages = pages, .have = ret_have
	};
	unsigned asked = 0, n;
	int rc = SQLITE_NOMEM;

	memset(ret_have, 0, count * sizeof(*ret_have));
	for (unsigned i = 0; i < count; i++)
		asked += pages[i] != NULL;
	read.reader = s3c_cache_reader_get(cache);
	if (!read.reader) {
		S3C_CACHE_COUNT(cache, misses, asked);
		return 0;
	}
	if (s3c_cache_key_content(cache, id, read.content) == 0)
		rc = begin(read.reader); /* both tables as of one moment */
	for (unsigned i = 0; i < count && rc == SQLITE_DONE; i += n) {
		n = S3C_CACHE_RUN - (unsigned)((first + i) % S3C_CACHE_RUN);
		n = S3C_MIN(n, count - i);
		rc = read_run(&read, first + i, n, i);
	}
	end(read.reader);
	s3c_cache_reader_put(cache, read.reader, rc);
	S3C_CACHE_COUNT(cache, hits, read.got);
	S3C_CACHE_COUNT(cache, misses, asked - read.got);
	return read.got;
}

unsigned s3c_cache_count(struct s3c_cache *cache, const uint8_t id[static S3C_CACHE_ID_LEN],
			 uint64_t first, unsigned count)
{
	struct s3c_cache_reader *reader = s3c_cache_reader_get(cache);
	uint8_t content[S3C_CACHE_KEYED];
	unsigned found = 0, n;
	int rc = SQLITE_NOMEM;

	if (!reader)
		return 0;
	if (s3c_cache_key_content(cache, id, content) == 0)
		rc = begin(reader);
	for (unsigned i = 0; i < count && rc == SQLITE_DONE; i += n) {
		unsigned bit = (unsigned)((first + i) % S3C_CACHE_RUN);
		struct found_run run = { 0 };

		n = S3C_MIN(S3C_CACHE_RUN - bit, count - i);
		rc = find_run(reader, content, (first + i) / S3C_CACHE_RUN, &run);
		if (rc != SQLITE_ROW)
			continue;
		rc = SQLITE_DONE;
		found += (unsigned)__builtin_popcountll((uint64_t)(run.have >> bit) &
							((UINT64_C(1) << n) - 1));
	}
	end(reader);
	s3c_cache_reader_put(cache, reader, rc);
	return found;
}

/* A sealed record to memory of the caller. reader NULL: of this opening. */
static int unseal_record(struct s3c_cache *cache, struct s3c_cache_reader *reader,
			 const uint8_t *aad, size_t aad_len, const uint8_t *value, size_t len,
			 uint8_t **ret_data, size_t *ret_len)
{
	cleanup_free uint8_t *data = NULL;
	int r;

	if (len < S3C_CACHE_SEALED_MORE || len > S3C_CACHE_RECORD_MAX + S3C_CACHE_SEALED_MORE)
		return -EBADMSG;
	data = malloc(S3C_MAX(len - S3C_CACHE_SEALED_MORE, 1));
	if (!data)
		return -ENOMEM;
	if (reader)
		r = s3c_cache_unseal_stored(cache, reader, aad, aad_len, value, len, data);
	else
		r = s3c_cache_unseal(cache, aad, aad_len, value, len, data);
	if (r < 0)
		return r;
	*ret_data = steal_ptr(data);
	*ret_len = len - S3C_CACHE_SEALED_MORE;
	return 0;
}

static int get_stored(struct s3c_cache *cache, const uint8_t *key, const uint8_t *aad,
		      size_t aad_len, uint8_t **ret_data, size_t *ret_len)
{
	struct s3c_cache_reader *reader = s3c_cache_reader_get(cache);
	int r = -ENOENT, rc;

	if (!reader)
		return -ENOENT;
	sqlite3_bind_blob(reader->record, 1, key, S3C_CACHE_KEYED, SQLITE_STATIC);
	rc = sqlite3_step(reader->record);
	if (rc == SQLITE_ROW) {
		const uint8_t *value = sqlite3_column_blob(reader->record, 2);
		size_t len = (size_t)sqlite3_column_bytes(reader->record, 2);
		int blob_rc = sqlite3_errcode(reader->db);

		if (blob_rc == SQLITE_ROW || blob_rc == SQLITE_OK)
			r = unseal_record(cache, reader, aad, aad_len, value, len, ret_data,
					  ret_len);
		else
			rc = blob_rc;
		if (r == 0)
			s3c_cache_touch(cache, sqlite3_column_int64(reader->record, 0), true,
					sqlite3_column_int64(reader->record, 1));
	}
	sqlite3_reset(reader->record);
	s3c_cache_reader_put(cache, reader, rc);
	return r;
}

int s3c_cache_get(struct s3c_cache *cache, enum s3c_cache_kind kind, const char *name,
		  uint8_t **ret_data, size_t *ret_len)
{
	uint8_t key[S3C_CACHE_KEYED], aad[S3C_CACHE_AAD_MAX];
	cleanup_free uint8_t *value = NULL;
	size_t aad_len, len;
	enum s3c_cache_state state = s3c_cache_state(cache);
	int r = -ENOENT;

	if (state != S3C_CACHE_ON && state != S3C_CACHE_FULL)
		goto out;
	if (s3c_cache_key_record(cache, kind, name, key, aad, &aad_len) < 0)
		goto out;
	if (s3c_cache_queued(cache, key, &value, &len) == 0)
		r = len ? unseal_record(cache, NULL, aad, aad_len, value, len, ret_data, ret_len)
			: -ENOENT;
	else
		r = get_stored(cache, key, aad, aad_len, ret_data, ret_len);
	if (r == -EBADMSG)
		note_damage(cache, "a record");
	if (r == -EBADMSG || r == -ESTALE)
		s3c_cache_put(cache, kind, name, NULL, 0);
out:
	if (r == 0)
		S3C_CACHE_COUNT(cache, hits, 1);
	else
		S3C_CACHE_COUNT(cache, misses, 1);
	return r == 0 ? 0 : -ENOENT;
}
