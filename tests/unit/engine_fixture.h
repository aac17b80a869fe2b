/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the tests of the engine's names share: an engine on a folder store behind
 * the fault store, whose requests are counted; a hand that writes sealed objects
 * beside it, as another machine would; and a look at what is stored.
 */
#pragma once

#include "object_fixture.h"

#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/cache.h"
#include "db/records.h"
#include "engine/private.h"
#include "object/chunks.h"
#include "object/trailer.h"
#include "store/fault.h"

#define RING_1 "[a]\nsecret = " KEY_A "\nstate = active\n"
#define RING_2 "[b]\nsecret = " KEY_B "\nstate = active\n"

struct fx {
	char dir[64];
	struct s3c_store *store; /* the engine's; NULL: belongs to none yet */
	struct s3c_keyring *keyring;
	struct s3c_volume *volume; /* the engine's */
	struct s3c_journal *journal;
	struct s3c_cache *cache;
	struct s3c_engine *engine;
	char *volume_prefix;
	struct s3c_recovery recovery;
	uint64_t seen[S3C_STORE_UPLOAD_ABORT + 1];
};

struct fx_options {
	enum s3c_enc enc;
	const char *prefix;
	const char *ring;
	unsigned accept;
	enum s3c_format format;
	double ttl_s;
	bool no_caps, read_only, rollback_deny, encrypted_names;
	struct s3c_store *(*wrap)(struct s3c_store *); /* around the folder store */
	const char *dir;                               /* the store of another fixture */
	const char *state;           /* name of the state folder: another machine has another one */
	uint64_t memory, cache_size; /* 0: 64 MiB */
	double timeout_s;            /* 0: 20 */
	bool durable, writeback;     /* the journal keeps what is not stored; recovery runs */
	bool excl_open;
	uint64_t journal_size; /* 0: 1 GiB */
	bool cache;            /* the cache database, 256 MiB */
};

static inline int fx_unlink(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void fx_caps(struct s3c_store *store)
{
	store->caps = (struct s3c_store_caps){
		.put_if_none_match = true,
		.put_if_match = true,
		.complete_if_none_match = true,
		.complete_if_match = true,
		.copy_source_if_match = true,
		.part_copy_source_if_match = true,
		.delete_if_match = true,
		.copy_if_none_match = true,
		.copy_if_match = true,
		.copy = true,
		.part_copy = true,
	};
}

static inline char *fx_path(const struct fx *fx, const char *name)
{
	return s3c_asprintf("%s/%s", fx->dir, name);
}

static inline struct s3c_store *fx_store_new(const char *root,
					     struct s3c_store *(*wrap)(struct s3c_store *))
{
	struct s3c_store *inner, *store;
	struct s3c_err err = { 0 };

	if (s3c_store_file_new(root, S3C_FILE_CREATE, &err, &inner) < 0)
		fail_msg("%s", err.text);
	if (wrap)
		inner = wrap(inner);
	assert_int_equal(s3c_store_fault_new(inner, &store), 0);
	fx_caps(store);
	return store;
}

/* Makes the folders; the engine starts with fx_start. */
static inline void fx_open(struct fx *fx, const struct fx_options *o)
{
	cleanup_free char *root = NULL;
	cleanup_free char *state = NULL;
	struct s3c_err err = { 0 };

	*fx = (struct fx){ 0 };
	s3c_log_set_level(getenv("S3C_TEST_LOG") ? S3C_LOG_DEBUG : S3C_LOG_ERROR);
	if (!getenv("S3C_TEST_LOG"))
		s3c_log_open("/dev/null");
	if (o->dir) {
		strcpy(fx->dir, o->dir);
	} else {
		strcpy(fx->dir, "/tmp/s3cryptfs-names.XXXXXX");
		assert_non_null(mkdtemp(fx->dir));
	}
	root = fx_path(fx, "store");
	state = fx_path(fx, o->state ? o->state : "state");
	fx->store = fx_store_new(root, o->wrap);
	if (o->no_caps)
		fx->store->caps = (struct s3c_store_caps){ .copy = true, .part_copy = true };
	fx->keyring = keyring_of(o->ring ? o->ring : RING_1);
	if (s3c_journal_open(state, &err, &fx->journal) < 0)
		fail_msg("%s", err.text);
}

static inline int fx_volume(struct fx *fx, const struct fx_options *o, struct s3c_err *err)
{
	struct s3c_volume_request rq = {
		.store = fx->store,
		.prefix = o->prefix ? o->prefix : "",
		.enc = o->enc,
		.create = true,
		.encrypted_names = o->encrypted_names,
		.read_only = o->read_only,
		.accept_plain = o->accept & S3C_ACCEPT_PLAIN,
		.keyring = fx->keyring,
		.journal = fx->journal,
		.source = "test",
	};

	return s3c_engine_volume(&rq, err, &fx->volume, &fx->volume_prefix);
}

static inline void fx_start(struct fx *fx, const struct fx_options *o)
{
	cleanup_free char *cache = fx_path(fx, "cache");
	struct s3c_err err = { 0 };
	struct s3c_engine_config config = {
		.store = fx->store,
		.prefix = o->prefix ? o->prefix : "",
		.enc = o->enc,
		.format = o->format,
		.accept = o->accept ? o->accept : S3C_ACCEPT_SEALED,
		.keyring = fx->keyring,
		.journal = fx->journal,
		.source = "test",
		.cache_dir = cache,
		.memory = o->memory ? o->memory : 64u << 20,
		.cache_size = o->cache_size ? o->cache_size : 64u << 20,
		.parallel = 8,
		.timeout_s = o->timeout_s != 0 ? o->timeout_s : 20,
		.ttl_s = o->ttl_s != 0 ? o->ttl_s : 60,
		.read_only = o->read_only,
		.rollback_deny = o->rollback_deny,
		.default_uid = 1000,
		.default_gid = 1001,
		.default_file_mode = 0640,
		.default_dir_mode = 0750,
		.durable = o->durable || o->writeback,
		.writeback = o->writeback,
		.excl_open = o->excl_open,
	};

	if (o->cache) {
		struct s3c_cache_config cc = {
			.dir = cache,
			.size = 256u << 20,
			.key = S3C_CACHE_KEY_FILE,
		};

		if (s3c_cache_open(&cc, &err, &fx->cache) < 0)
			fail_msg("%s", err.text);
		config.cache = fx->cache;
	}
	if (config.durable &&
	    s3c_journal_unlock(fx->journal, S3C_JOURNAL_KEY_FILE, NULL,
			       o->journal_size ? o->journal_size : 1u << 30, &err) < 0)
		fail_msg("%s", err.text);
	if (config.ttl_s < 0)
		config.ttl_s = 0;
	mkdir(cache, 0700);
	if (fx_volume(fx, o, &err) < 0)
		fail_msg("%s", err.text);
	config.volume = fx->volume;
	config.volume_prefix = fx->volume_prefix;
	if (s3c_engine_new(&config, &err, &fx->engine) < 0)
		fail_msg("%s", err.text);
	fx->volume = config.volume;
	if (config.durable && s3c_engine_recover(fx->engine, &fx->recovery) < 0)
		fail_msg("recovery failed");
	for (int op = 0; op <= S3C_STORE_UPLOAD_ABORT; op++)
		fx->seen[op] = s3c_store_fault_count(fx->store, (enum s3c_store_opcode)op);
}

static inline void fx_stop(struct fx *fx)
{
	if (fx->engine) {
		s3c_engine_free(fx->engine);
	} else {
		s3c_store_free(fx->store);
		s3c_volume_free(fx->volume);
	}
	s3c_cache_close(fx->cache);
	s3c_journal_close(fx->journal);
	s3c_keyring_free(fx->keyring);
	free(fx->volume_prefix);
}

static inline void fx_remove(const struct fx *fx)
{
	nftw(fx->dir, fx_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fx_end(struct fx *fx)
{
	fx_stop(fx);
	fx_remove(fx);
}

/* Requests since the last call, as "GET 1 LIST 1"; "" for none. */
static inline const char *fx_requests(struct fx *fx)
{
	static const char *const names[S3C_STORE_UPLOAD_ABORT + 1] = {
		[S3C_STORE_GET] = "GET",
		[S3C_STORE_HEAD] = "HEAD",
		[S3C_STORE_PUT] = "PUT",
		[S3C_STORE_LIST] = "LIST",
		[S3C_STORE_COPY] = "COPY",
		[S3C_STORE_DELETE] = "DELETE",
		[S3C_STORE_DELETE_MANY] = "MANY",
		[S3C_STORE_LIST_UPLOADS] = "UPLOADS",
		[S3C_STORE_UPLOAD_CREATE] = "CREATE",
		[S3C_STORE_UPLOAD_PART] = "PART",
		[S3C_STORE_UPLOAD_PART_COPY] = "PARTCOPY",
		[S3C_STORE_UPLOAD_COMPLETE] = "COMPLETE",
		[S3C_STORE_UPLOAD_PARTS] = "PARTS",
		[S3C_STORE_UPLOAD_ABORT] = "ABORT",
	};
	static char text[256];
	size_t len = 0;

	text[0] = '\0';
	for (int op = 0; op <= S3C_STORE_UPLOAD_ABORT; op++) {
		uint64_t now = s3c_store_fault_count(fx->store, (enum s3c_store_opcode)op);

		if (now != fx->seen[op])
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %" PRIu64,
						len ? " " : "", names[op], now - fx->seen[op]);
		fx->seen[op] = now;
	}
	return text;
}
#define assert_requests(fx, text) assert_string_equal(fx_requests(fx), text)

static inline void hand_put(struct fx *fx, const char *key, const struct s3c_meta *meta,
			    const void *body, size_t len)
{
	struct iovec iov = { .iov_base = (void *)body, .iov_len = len };
	struct s3c_store_reply reply;
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT,
		.key = key,
		.meta = meta,
		.body = &iov,
		.body_count = !!len,
	};

	assert_int_equal(s3c_store_perform(fx->store, &rq, NULL, &reply), 0);
	s3c_store_reply_free(&reply);
	fx_requests(fx);
}

static inline void hand_get(struct fx *fx, const char *key, struct s3c_buf *body,
			    struct s3c_stat *st)
{
	char message[512];

	assert_int_equal(s3c_store_get_all(fx->store, key, NULL, 64u << 20, NULL, body, st, message,
					   sizeof(message)),
			 0);
	fx_requests(fx);
}

static inline bool hand_exists(struct fx *fx, const char *key)
{
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key };
	struct s3c_store_reply reply;
	int r = s3c_store_perform(fx->store, &rq, NULL, &reply);

	s3c_store_reply_free(&reply);
	fx_requests(fx);
	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

static inline void hand_delete(struct fx *fx, const char *key)
{
	struct s3c_store_request rq = { .op = S3C_STORE_DELETE, .key = key };
	struct s3c_store_reply reply;

	s3c_store_perform(fx->store, &rq, NULL, &reply);
	s3c_store_reply_free(&reply);
	fx_requests(fx);
}

/* The body and metadata of one object under another key: what a thief of places does. */
static inline void hand_move(struct fx *fx, const char *from, const char *to)
{
	struct s3c_buf body = { .max = 64u << 20 };
	struct s3c_stat st;

	hand_get(fx, from, &body, &st);
	hand_put(fx, to, &st.meta, body.data, body.len);
	s3c_stat_free(&st);
	s3c_buf_free(&body);
}

static inline const char *rel_key(const struct fx *fx, const char *key)
{
	return key + strlen(fx->volume_prefix);
}

static inline void seal_segment(const uint8_t *data_key, const uint8_t *file_id, uint64_t segment,
				const uint8_t *salt, const uint8_t *data, size_t len,
				struct s3c_buf *out)
{
	struct s3c_segment_cipher *cipher;
	uint8_t *stored = malloc(S3C_CHUNK_STRIDE);

	assert_non_null(stored);
	assert_int_equal(s3c_segment_cipher_new(data_key, file_id, segment, salt, &cipher), 0);
	for (unsigned chunk = 0; len; chunk++) {
		uint32_t n = (uint32_t)S3C_MIN(len, (size_t)S3C_CHUNK_SIZE);

		assert_int_equal(s3c_chunk_seal(cipher, chunk, data, n, stored), 0);
		assert_int_equal(s3c_buf_append(out, stored, n + S3C_TAG_LEN), 0);
		data += n;
		len -= n;
	}
	s3c_segment_cipher_free(cipher);
	free(stored);
}

/* Writes a sealed file (len >= 0) or directory marker (len < 0) as another machine would. */
static inline void hand_seal(struct fx *fx, const char *key, mode_t mode, const void *data,
			     ssize_t len)
{
	struct s3c_buf body = { .max = 64u << 20 };
	uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	uint64_t segments = len > 0 ? s3c_segment_count((uint64_t)len) : 0;
	cleanup_free uint8_t *salts = calloc(segments + 1, S3C_SALT_LEN);
	struct s3c_meta meta = { 0 };
	struct s3c_header header = {
		.layout = len < 0        ? S3C_LAYOUT_NONE
			  : segments > 1 ? S3C_LAYOUT_TRAILER
					 : S3C_LAYOUT_CHUNKS,
		.attrs = { .known = true,
			   .mode = mode,
			   .uid = 7,
			   .gid = 8,
			   .mtime_ns = 1000,
			   .atime_ns = 2000,
			   .ctime_ns = 3000 },
		.generation = s3c_generation_next(0),
		.size = len < 0 ? 0 : (uint64_t)len,
	};

	assert_non_null(data_key);
	assert_int_equal(s3c_header_new(fx->keyring, fx->volume, NULL, &header, data_key, NULL, 0),
			 0);
	for (uint64_t s = 0; s < segments; s++) {
		s3c_salt_draw(salts + s * S3C_SALT_LEN);
		seal_segment(data_key, header.file_id, s, salts + s * S3C_SALT_LEN,
			     (const uint8_t *)data + s * S3C_SEGMENT_SIZE,
			     s3c_segment_plain_len((uint64_t)len, s), &body);
	}
	if (segments > 1) {
		struct s3c_footer footer = { .size = (uint64_t)len,
					     .mtime_ns = 5000,
					     .segments = segments };

		memcpy(footer.content_id, header.content_id, sizeof(footer.content_id));
		assert_int_equal(
			s3c_trailer_encode(&footer, salts, data_key, &header, fx->volume, &body),
			0);
	} else {
		memcpy(header.salt, salts, S3C_SALT_LEN);
		if (!segments)
			s3c_salt_draw(header.salt);
	}
	assert_int_equal(
		s3c_header_encode(&header, fx->keyring, fx->volume, rel_key(fx, key), &meta), 0);
	hand_put(fx, key, &meta, body.data, body.len);
	s3c_meta_free(&meta);
	s3c_buf_free(&body);
	s3c_secret_free(data_key);
}

/* The header of what is stored, verified; the first chunk of its content when content is given. */
static inline void hand_open(struct fx *fx, const char *key, struct s3c_header *ret_header,
			     char *content, size_t size)
{
	struct s3c_buf body = { .max = 64u << 20 };
	uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	struct s3c_segment_cipher *cipher;
	struct s3c_header header = { .layout = S3C_LAYOUT_PLAIN };
	struct s3c_stat st;
	char why[256] = "";

	hand_get(fx, key, &body, &st);
	if (fx->volume && s3c_header_decode(&st.meta, fx->volume, rel_key(fx, key), st.size,
					    &header, why, sizeof(why)) < 0)
		fail_msg("%s: %s", key, why);
	if (!fx->volume)
		s3c_attrs_decode(&st.meta, &header.attrs);
	if (content) {
		uint32_t len = (uint32_t)S3C_MIN(body.len, (size_t)S3C_CHUNK_STRIDE);

		assert_true(len < size);
		if (fx->volume && len) {
			const uint8_t *salt = header.salt;

			if (header.layout == S3C_LAYOUT_TRAILER)
				fail_msg("%s has a trailer", key);
			assert_int_equal(s3c_header_unwrap(&header, fx->keyring, fx->volume, NULL,
							   data_key, NULL, 0),
					 0);
			assert_int_equal(
				s3c_segment_cipher_new(data_key, header.file_id, 0, salt, &cipher),
				0);
			assert_int_equal(s3c_chunk_open(cipher, 0, body.data, len, body.data), 0);
			s3c_segment_cipher_free(cipher);
			len -= S3C_TAG_LEN;
		}
		memcpy(content, body.data ? body.data : "", len);
		content[len] = '\0';
	}
	s3c_stat_free(&st);
	s3c_buf_free(&body);
	s3c_secret_free(data_key);
	*ret_header = header;
}

static inline void hand_file(struct fx *fx, const char *key, const char *text)
{
	hand_seal(fx, key, S_IFREG | 0644, text, (ssize_t)strlen(text));
}

static inline void assert_content(struct fx *fx, const char *key, const char *text)
{
	cleanup_free char *content = malloc(S3C_CHUNK_STRIDE + 1);
	struct s3c_header header;

	assert_non_null(content);
	hand_open(fx, key, &header, content, S3C_CHUNK_STRIDE + 1);
	assert_string_equal(content, text);
}

static const struct fx_options plain_options = { .enc = S3C_ENC_NONE };
static const struct fx_options sealed_options = { .prefix = "p/" };
static const struct s3c_attrs dir_attrs = {
	.known = true, .mode = S_IFDIR | 0700, .uid = 3, .gid = 4, .mtime_ns = 99
};
static const struct s3c_attrs file_attrs = {
	.known = true, .mode = S_IFREG | 0600, .uid = 3, .gid = 4, .mtime_ns = 99
};

static inline void fx_new(struct fx *fx, const struct fx_options *options)
{
	fx_open(fx, options);
	fx_start(fx, options);
}

static inline int look(struct fx *fx, const char *path, struct s3c_info *info)
{
	struct s3c_info unused;

	return s3c_engine_lookup(fx->engine, NULL, path, info ? info : &unused);
}

/* Names of a directory, a slash after those of directories, joined by blanks. */
static inline const char *list(struct fx *fx, const char *path)
{
	static char text[8192];
	struct s3c_listing *listing;
	size_t len = 0;
	int r = s3c_engine_list(fx->engine, NULL, path, &listing);

	if (r < 0) {
		snprintf(text, sizeof(text), "%d", r);
		return text;
	}
	text[0] = '\0';
	for (size_t i = 0; i < listing->count && len < sizeof(text) - 512; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%s", len ? " " : "",
					listing->items[i].name,
					S_ISDIR(listing->items[i].type) ? "/" : "");
	s3c_listing_put(listing);
	return text;
}

static inline void make_file(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &file_attrs, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
}

static inline void read_object(struct fx *fx, struct s3c_object *object, char *ret_text,
			       size_t size)
{
	struct s3c_pages pages = { 0 };
	size_t len = 0;

	assert_int_equal(s3c_object_read(object, NULL, 0, size - 1, NULL, &pages), 0);
	for (unsigned i = 0; i < pages.count; i++) {
		memcpy(ret_text + len, pages.iov[i].iov_base, pages.iov[i].iov_len);
		len += pages.iov[i].iov_len;
	}
	ret_text[len] = '\0';
	s3c_pages_release(fx->engine, &pages);
}

static inline void assert_reads(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;
	char got[4096];

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	read_object(fx, object, got, sizeof(got));
	s3c_object_close(object);
	assert_string_equal(got, text);
}

static inline int move(struct fx *fx, const char *from, const char *to)
{
	return s3c_engine_rename(fx->engine, NULL, from, to, false);
}

static inline void set(struct fx *fx, const char *path, unsigned which,
		       const struct s3c_attrs *attrs, int result)
{
	struct s3c_info info;

	assert_int_equal(s3c_engine_setattr(fx->engine, NULL, path, NULL, which, attrs, &info),
			 result);
}
