/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/verify.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "engine/epochs.h"
#include "engine/names.h"
#include "object/s3ec_body.h"

#define TRIES_MAX 4u /* of an object that others change */

struct verifying {
	struct s3c_engine *engine;
	const char *key;
	uint64_t listed; /* bytes, as the listing told */
	const struct s3c_verify *how;
	struct s3c_verified *out;

	struct s3c_ssec ssec;
	const struct s3c_ssec *ssec_used; /* NULL: none */
	struct s3c_store_reply reply;     /* of the look */
	struct s3c_buf tail;              /* what came with it: the end of the body */
	struct s3c_header header;
	uint8_t *data_key; /* secret memory; NULL: not unwrapped */
};

static void conclude(struct verifying *v, enum s3c_verdict verdict, const char *why)
{
	v->out->verdict = verdict;
	if (why && why != v->out->why)
		snprintf(v->out->why, sizeof(v->out->why), "%s", why);
}

/* What a failed request says of the object. -ESTALE: look again. */
static int request_failed(struct verifying *v, int r, const char *message)
{
	if (r == -ESTALE)
		return r;
	if (r == -ENOENT)
		conclude(v, S3C_VERDICT_GONE, NULL);
	else
		conclude(v, r == -EKEYREJECTED ? S3C_VERDICT_NO_KEY : S3C_VERDICT_UNREADABLE,
			 message[0] ? message : strerror(-r));
	return r;
}

/* Words of the object layer, by what they mean. */
static int refused(struct verifying *v, int r)
{
	bool damaged = r == -EBADMSG || r == -EPROTO;

	conclude(v,
		 damaged        ? S3C_VERDICT_DAMAGED
		 : r == -EACCES ? S3C_VERDICT_NO_KEY
				: S3C_VERDICT_UNREADABLE,
		 v->out->why[0] ? v->out->why : strerror(-r));
	return r;
}

static int damaged(struct verifying *v, const char *why)
{
	conclude(v, S3C_VERDICT_DAMAGED, why);
	return -EBADMSG;
}

static int look(struct verifying *v, bool head)
{
	struct s3c_store_request rq = {
		.op = head ? S3C_STORE_HEAD : S3C_STORE_GET,
		.key = v->key,
		.ssec = v->ssec_used,
		.content = !head,
		.suffix = S3C_TAIL_LEN,
	};
	int r;

	if (!head)
		rq.sink = s3c_store_buf_sink(&v->tail);
	s3c_store_reply_free(&v->reply);
	v->reply = (struct s3c_store_reply){ 0 };
	r = s3c_request(v->engine, &rq, NULL, &v->reply);
	return r < 0 ? request_failed(v, r, v->reply.message) : 0;
}

/* Bytes [offset, offset + len) of the version that was looked at. */
static int get(struct verifying *v, uint64_t offset, uint64_t len, struct s3c_buf *body)
{
	const char *etag = v->reply.stat.version.etag;
	uint64_t size = v->reply.stat.size;
	struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.key = v->key,
		.ssec = v->ssec_used,
		.content = true,
		.offset = offset,
		.length = len,
		.condition.if_match = etag[0] ? etag : NULL,
		.sink = s3c_store_buf_sink(body),
	};
	struct s3c_store_reply reply = { 0 };
	int r;

	s3c_buf_reset(body);
	if (!len)
		return 0;
	if (v->tail.len && offset >= size - v->tail.len)
		return s3c_buf_append(body, v->tail.data + (offset - (size - v->tail.len)),
				      (size_t)len);
	r = s3c_request(v->engine, &rq, NULL, &reply);
	/* Stores that ignore If-Match still tell which version they gave. */
	if (r == 0 && etag[0] && reply.stat.version.etag[0] &&
	    !s3c_etag_equal(reply.stat.version.etag, etag))
		r = -ESTALE;
	if (r == 0 && body->len != len)
		r = -EPROTO;
	if (r < 0)
		r = request_failed(v, r, reply.message);
	s3c_store_reply_free(&reply);
	return r;
}

/* All of the body in order, to fn (NULL: it is only read). */
static int each_piece(struct verifying *v, int (*fn)(void *arg, const void *data, size_t len),
		      void *arg)
{
	cleanup_buf struct s3c_buf piece = { .max = v->how->memory };
	uint64_t size = v->reply.stat.size;
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < size; at += piece.len) {
		r = get(v, at, S3C_MIN(size - at, (uint64_t)v->how->memory), &piece);
		if (r == 0 && fn)
			r = fn(arg, piece.data, piece.len);
	}
	return r;
}

struct tally {
	uint64_t all, bad, first_bad; /* chunks */
};

/* Stored chunks of one segment from which on, as many as piece has. */
static int check_chunks(struct verifying *v, struct s3c_segment_cipher *cipher, uint64_t first,
			unsigned count, struct s3c_buf *piece, struct tally *tally)
{
	uint8_t *at = (uint8_t *)piece->data;

	for (unsigned i = 0; i < count; i++) {
		uint32_t len = s3c_chunk_plain_len(v->header.size, first + i) + S3C_TAG_LEN;
		int r = s3c_chunk_open(cipher, (first + i) % S3C_SEGMENT_CHUNKS, at, len, at);

		if (r < 0 && r != -EBADMSG)
			return r;
		if (r < 0 && !tally->bad++)
			tally->first_bad = first + i;
		tally->all++;
		at += len;
	}
	return 0;
}

static int check_segment(struct verifying *v, uint64_t segment, const uint8_t *salt,
			 uint64_t offset, struct tally *tally)
{
	__attribute__((cleanup(s3c_segment_cipher_freep))) struct s3c_segment_cipher *cipher = NULL;
	cleanup_buf struct s3c_buf piece = { .max = S3C_SEGMENT_STRIDE };
	unsigned most = S3C_MIN(v->how->memory / S3C_CHUNK_STRIDE, S3C_SEGMENT_CHUNKS);
	uint64_t stored = s3c_segment_stored_len(v->header.size, segment);
	unsigned chunks = (unsigned)DIV_ROUND_UP(stored, (uint64_t)S3C_CHUNK_STRIDE);
	int r = s3c_segment_cipher_new(v->data_key, v->header.file_id, segment, salt, &cipher);

	for (unsigned done = 0; r == 0 && done < chunks;) {
		unsigned n = S3C_MIN(chunks - done, most);
		uint64_t at = (uint64_t)done * S3C_CHUNK_STRIDE;

		r = get(v, offset + at, S3C_MIN((uint64_t)n * S3C_CHUNK_STRIDE, stored - at),
			&piece);
		if (r < 0)
			return r;
		r = check_chunks(v, cipher, segment * S3C_SEGMENT_CHUNKS + done, n, &piece, tally);
		done += n;
	}
	return r;
}

/* salts: one a segment. */
static int check_content(struct verifying *v, const uint8_t *salts)
{
	uint64_t segments = s3c_segment_count(v->header.size), offset = 0;
	bool trailer = v->header.layout == S3C_LAYOUT_TRAILER;
	struct tally tally = { 0 };
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < segments; i++) {
		const uint8_t *salt = salts + i * S3C_SALT_LEN;

		if (trailer && s3c_salt_is_hole(salt))
			continue;
		r = check_segment(v, i, salt, offset, &tally);
		offset += s3c_segment_stored_len(v->header.size, i);
	}
	if (r < 0 || !tally.bad)
		return r == -ENOMEM ? refused(v, r) : r;
	snprintf(v->out->why, sizeof(v->out->why),
		 "%llu of %llu chunks are not authentic, the first at byte %llu: they were altered",
		 (unsigned long long)tally.bad, (unsigned long long)tally.all,
		 (unsigned long long)(tally.first_bad * S3C_CHUNK_SIZE));
	return damaged(v, v->out->why);
}

/* At least want bytes of the end, in v->tail. */
static int need_tail(struct verifying *v, uint64_t want)
{
	uint64_t size = v->reply.stat.size;
	struct s3c_buf tail = { 0 };
	int r;

	if (want > size)
		return damaged(v, "it is shorter than what should stand at its end");
	if (v->tail.len >= want)
		return 0;
	want = S3C_MIN(S3C_MAX(want, (uint64_t)S3C_TAIL_LEN), size);
	s3c_buf_init(&tail, (size_t)want);
	r = get(v, size - want, want, &tail);
	if (r < 0) {
		s3c_buf_free(&tail);
		return r;
	}
	s3c_buf_free(&v->tail);
	v->tail = tail;
	return 0;
}

static int check_footer(struct verifying *v, struct s3c_footer *ret_footer)
{
	int r = need_tail(v, s3c_footer_stored_len);

	if (r < 0)
		return r;
	r = s3c_footer_decode(v->tail.data, v->tail.len, v->reply.stat.size, &v->header,
			      v->engine->volume, ret_footer, v->out->why, sizeof(v->out->why));
	if (r < 0)
		return refused(v, r);
	v->header.size = ret_footer->size;
	return 0;
}

/* The caller frees what salts points to. */
static int check_table(struct verifying *v, const struct s3c_footer *footer, uint8_t **ret_salts)
{
	uint64_t len = s3c_trailer_len(footer->segments);
	size_t table_len = (size_t)footer->segments * S3C_SALT_LEN;
	const uint8_t *table;
	int r = need_tail(v, len);

	if (r < 0)
		return r;
	table = (const uint8_t *)v->tail.data + (v->tail.len - len);
	r = s3c_table_verify(table, table + table_len, footer, v->reply.stat.size, v->data_key,
			     &v->header, v->out->why, sizeof(v->out->why));
	if (r < 0)
		return refused(v, r);
	*ret_salts = malloc(table_len);
	if (!*ret_salts)
		return refused(v, -ENOMEM);
	memcpy(*ret_salts, table, table_len);
	return 0;
}

static int unwrap(struct verifying *v)
{
	int r;

	if (v->how->sizes || (v->how->quick && v->header.kms))
		return 0;
	v->data_key = s3c_secret_alloc(S3C_KEY_LEN);
	r = v->data_key ? s3c_header_unwrap(&v->header, s3c_keyring_in_use(&v->engine->config),
					    v->engine->volume, NULL, v->data_key, v->out->why,
					    sizeof(v->out->why))
			: -ENOMEM;
	if (r < 0) {
		s3c_secret_free(steal_ptr(v->data_key));
		return refused(v, r);
	}
	return 0;
}

static int check_chunked(struct verifying *v)
{
	cleanup_free uint8_t *salts = NULL;
	struct s3c_footer footer;
	int r = 0;

	if (v->header.layout == S3C_LAYOUT_TRAILER)
		r = check_footer(v, &footer);
	v->out->size = v->header.size;
	if (r == 0)
		r = unwrap(v);
	if (r < 0 || !v->data_key)
		return r;
	if (v->header.layout == S3C_LAYOUT_TRAILER)
		r = check_table(v, &footer, &salts);
	if (r < 0 || v->how->quick)
		return r;
	return check_content(v, salts ? salts : v->header.salt);
}

static int feed(void *arg, const void *data, size_t len)
{
	return s3c_s3ec_pass_feed(arg, data, len);
}

/* One tag over all of it. by: the master key that a seal names, or NULL. */
static int check_whole(struct verifying *v, const struct s3c_s3ec *s3ec, const char *by)
{
	cleanup_secret uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_s3ec_pass struct s3c_s3ec_pass *pass = NULL;
	cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
	const struct s3c_engine_config *config = &v->engine->config;
	char *why = v->out->why;
	size_t why_size = sizeof(v->out->why);
	int r = data_key ? 0 : -ENOMEM;

	if (v->out->size == 0)
		v->out->size = s3ec->size;
	if (v->how->sizes)
		return 0;
	if (r == 0)
		r = by ? s3c_s3ec_unwrap_by(s3ec, s3c_keyring_in_use(config), by, config->kms,
					    data_key, why, why_size)
		       : s3c_s3ec_unwrap(s3ec, s3c_keyring_in_use(config), config->kms, data_key,
					 why, why_size);
	if (r == 0 && !v->how->quick)
		r = s3c_s3ec_pass_new(s3ec, data_key, NULL, NULL, &pass);
	if (r < 0)
		return refused(v, r);
	if (!pass)
		return 0;
	r = each_piece(v, feed, pass);
	if (r < 0 && v->out->verdict != S3C_VERDICT_GOOD)
		return r; /* a request failed */
	if (r == -ESTALE)
		return r;
	if (r == 0)
		r = s3c_s3ec_pass_end(pass, &body);
	if (r == 0)
		return 0;
	if (r == -EBADMSG)
		snprintf(why, why_size, "it is not authentic: it was altered, or cut");
	return refused(v, r);
}

static int check_envelope(struct verifying *v)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	int r = s3c_s3ec_parse(&v->reply.stat.meta, NULL, 0, v->reply.stat.size, &s3ec, v->out->why,
			       sizeof(v->out->why));

	if (r == -ENODATA || r == -EREMOTE || (r == 0 && s3ec->legacy))
		return damaged(v, "its envelope is not as this program writes it");
	if (r < 0)
		return refused(v, r);
	v->out->size = v->header.size;
	return check_whole(v, s3ec, v->header.key_id);
}

/* Is the version older than one that this machine has seen? */
static int check_generation(struct verifying *v)
{
	struct s3c_journal *journal = v->engine->config.journal;
	uint64_t seen;
	bool deleted;

	if (!journal || s3c_journal_generation_get(journal, s3c_rel_key(v->engine, v->key), &seen,
						   &deleted) < 0)
		return 0;
	if (v->header.generation > seen || (v->header.generation == seen && !deleted))
		return 0;
	conclude(v, S3C_VERDICT_OLDER,
		 deleted ? "it was deleted, as this machine has seen, and is there again"
			 : "this machine has seen a newer version of it");
	return -EREMCHG;
}

static int check_sealed(struct verifying *v)
{
	const char *odd = s3c_header_misfit(&v->header, v->out->is_dir);
	int r;

	if (odd)
		return damaged(v, odd);
	switch (v->header.layout) {
	case S3C_LAYOUT_CHUNKS:
	case S3C_LAYOUT_TRAILER:
		r = check_chunked(v);
		break;
	case S3C_LAYOUT_S3EC:
		r = check_envelope(v);
		break;
	default:
		r = 0;
	}
	return r < 0 || v->how->sizes ? r : check_generation(v);
}

/* The instruction file that may have the rest of an envelope: 0 with its bytes, or none. */
static int get_instruction(struct verifying *v, struct s3c_buf *body, bool *ret_found)
{
	cleanup_free char *key = s3c_asprintf("%s%s", v->key, S3C_S3EC_SUFFIX);
	char message[512] = "";
	int r;

	*ret_found = false;
	if (!key)
		return refused(v, -ENOMEM);
	if (strlen(key) > S3C_STORE_KEY_MAX)
		return 0;
	r = s3c_store_get_all(v->engine->store, key, NULL, S3C_S3EC_INSTRUCTION_MAX, NULL, body,
			      NULL, message, sizeof(message));
	*ret_found = r == 0;
	return r == 0 || r == -ENOENT ? 0 : request_failed(v, r, message);
}

/* An object of another client; -ENODATA: it is none. */
static int check_foreign(struct verifying *v)
{
	const struct s3c_stat *st = &v->reply.stat;
	bool accepted = v->engine->config.accept & S3C_ACCEPT_FOREIGN, found = false;
	cleanup_buf struct s3c_buf file = { 0 };
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	char *why = v->out->why, what[256];
	size_t why_size = sizeof(v->out->why);
	const char *remedy;
	int r = s3c_s3ec_parse(&st->meta, NULL, 0, st->size, &s3ec, why, why_size);

	if ((r == -EREMOTE || r == -ENODATA) && accepted && st->size >= S3C_TAG_LEN) {
		int got = get_instruction(v, &file, &found);

		if (got < 0)
			return got;
		if (found)
			r = s3c_s3ec_parse(&st->meta, file.data ? file.data : "", file.len,
					   st->size, &s3ec, why, why_size);
	}
	if (r == -ENODATA)
		return r;
	if (r == -EREMOTE && accepted)
		return damaged(v, "its key should stand in an instruction file, which is missing");
	if (r == -EREMOTE) {
		conclude(v, S3C_VERDICT_REFUSED,
			 "another S3 encryption client encrypted it, with an instruction file: "
			 "accept=s3ec reads it");
		return r;
	}
	if (r < 0)
		return refused(v, r);
	remedy = s3c_foreign_remedy(v->engine, s3ec);
	if (remedy) {
		s3c_s3ec_describe(s3ec, what, sizeof(what));
		snprintf(why, why_size, "%s: %s", what, remedy);
		conclude(v, S3C_VERDICT_REFUSED, why);
		return -EACCES;
	}
	return check_whole(v, s3ec, NULL);
}

static int check_plain(struct verifying *v)
{
	const struct s3c_engine_config *config = &v->engine->config;
	const char *want = s3c_sse_word(v->engine->store->sse);
	bool sealed = s3c_sealed_mode(v->engine);

	v->out->why[0] = '\0';
	v->out->size = v->out->is_dir ? 0 : v->reply.stat.size;
	if (sealed && !(config->accept & S3C_ACCEPT_PLAIN)) {
		conclude(v, S3C_VERDICT_REFUSED,
			 "it is not encrypted by s3cryptfs, and accept= does not name plain");
		return -EACCES;
	}
	if (!sealed && strcmp(want, v->reply.stat.sse) != 0 && want[0]) {
		snprintf(v->out->why, sizeof(v->out->why),
			 "the store has it encrypted as %s, and the mode asks for %s",
			 v->reply.stat.sse[0] ? v->reply.stat.sse : "nothing", want);
		conclude(v, S3C_VERDICT_WEAKER, v->out->why);
		return -EACCES;
	}
	return v->how->quick || v->how->sizes ? 0 : each_piece(v, NULL, NULL);
}

static int check_unsealed(struct verifying *v)
{
	int r;

	if (s3c_meta_is_ours(&v->reply.stat.meta))
		return damaged(v, s3c_sealed_mode(v->engine) && v->engine->volume
					  ? "it is sealed by another volume of s3cryptfs"
					  : "it is sealed by a volume of s3cryptfs, and there is "
					    "none here to open it with");
	r = check_foreign(v);
	return r == -ENODATA ? check_plain(v) : r;
}

static int check(struct verifying *v)
{
	const struct s3c_stat *st = &v->reply.stat;
	/* The footer of a large object is wanted in any case. */
	bool head = (v->how->quick || v->how->sizes) && v->listed <= S3C_SEGMENT_STRIDE;
	int r = look(v, head);

	if (r < 0)
		return r;
	v->out->stored = st->size;
	if (!s3c_sealed_mode(v->engine) || !v->engine->volume)
		return check_unsealed(v);
	r = s3c_header_decode_live(v->engine, &st->meta, v->key, st->size, true, &v->header,
				   v->out->why, sizeof(v->out->why));
	if (r == -ENODATA)
		return check_unsealed(v);
	/* Of an epoch that the volume does not have, which nobody can open. */
	if (r == -ENOKEY)
		r = -EBADMSG;
	return r < 0 ? refused(v, r) : check_sealed(v);
}

static void clear(struct verifying *v)
{
	s3c_secret_free(steal_ptr(v->data_key));
	s3c_header_clear(&v->header);
	v->header = (struct s3c_header){ 0 };
	s3c_store_reply_free(&v->reply);
	v->reply = (struct s3c_store_reply){ 0 };
	s3c_buf_free(&v->tail);
	s3c_buf_init(&v->tail, S3C_TAIL_LEN);
}

void s3c_verify_object(struct s3c_engine *engine, const char *key, uint64_t stored,
		       const struct s3c_verify *how, struct s3c_verified *ret_verified)
{
	struct verifying v = {
		.engine = engine,
		.key = key,
		.listed = stored,
		.how = how,
		.out = ret_verified,
	};
	int r = s3c_ssec_of(engine, key, &v.ssec, &v.ssec_used);

	*ret_verified = (struct s3c_verified){ .is_dir = s3c_key_is_dir(key) };
	if (r < 0)
		request_failed(&v, r == -EACCES ? -EKEYREJECTED : r, "");
	for (unsigned i = 0; i < TRIES_MAX && (i == 0 ? r == 0 : r == -ESTALE); i++) {
		*ret_verified = (struct s3c_verified){ .is_dir = s3c_key_is_dir(key) };
		clear(&v);
		r = check(&v);
	}
	if (r == -ESTALE)
		conclude(&v, S3C_VERDICT_UNREADABLE, "another machine changes it all the time");
	clear(&v);
	s3c_ssec_wipe(&v.ssec);
}
