/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Objects of other clients: all of them open, and none that was tampered with. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "object/s3ec_body.h"
#include "s3ec_vectors.h"

static char all[VECTORS_MAX][64];
static unsigned all_count;

/* Parse, unwrap, verify; the first error. */
static int open_all(const struct vector *v, const struct s3c_meta *meta, const char *instruction,
		    size_t instruction_len, const uint8_t *body, size_t body_len,
		    struct s3c_s3ec_body **ret_body)
{
	const struct s3c_kms_unwrap kms = { kms_decrypt, (void *)v };
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	uint8_t key[S3C_KEY_LEN];
	char why[256] = "";
	int r = s3c_s3ec_parse(meta, instruction, instruction_len, body_len, &s3ec, why,
			       sizeof(why));

	if (r == 0)
		r = s3c_s3ec_unwrap(s3ec, &v->ring, &kms, key, why, sizeof(why));
	return r < 0 ? r : s3c_s3ec_verify(s3ec, key, body, body_len, ret_body);
}

static int open_vector(const struct vector *v, struct s3c_s3ec_body **ret_body)
{
	return open_all(v, &v->meta, v->instruction, v->instruction_len, v->body, v->body_len,
			ret_body);
}

static void check_chunk(const struct vector *v, const struct s3c_s3ec_body *body, uint64_t chunk)
{
	uint8_t data[S3C_CHUNK_SIZE];
	uint32_t stored = s3c_s3ec_body_stored_len(body, chunk);
	uint32_t plain = s3c_chunk_plain_len(v->size, chunk);

	assert_true(stored >= plain && stored <= sizeof(data));
	assert_true(chunk * S3C_CHUNK_SIZE + stored <= v->body_len);
	memcpy(data, v->body + chunk * S3C_CHUNK_SIZE, stored);
	assert_int_equal(s3c_s3ec_body_open(body, chunk, data), 0);
	assert_memory_equal(data, v->plaintext + chunk * S3C_CHUNK_SIZE, plain);
	assert_int_equal(s3c_s3ec_body_check(body, chunk, data), 0);
	data[plain / 2] ^= 1;
	assert_int_equal(s3c_s3ec_body_check(body, chunk, data), -EBADMSG);
	/* What comes later is compared with what was verified. */
	memcpy(data, v->body + chunk * S3C_CHUNK_SIZE, stored);
	data[stored / 2] ^= 4;
	assert_int_equal(s3c_s3ec_body_open(body, chunk, data), -EBADMSG);
	assert_true(data[0] == 0 && memcmp(data, data + 1, stored - 1) == 0);
}

static void test_all_open(void **state)
{
	unsigned legacy = 0, kms = 0;

	(void)state;
	assert_int_equal(all_count, 23);
	for (unsigned i = 0; i < all_count; i++) {
		cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
		cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
		uint8_t hash[S3C_SHA256_LEN];
		char hex[2 * S3C_SHA256_LEN + 1];
		struct vector v;
		bool old;

		vector_load(&v, all[i]);
		print_message("# %s\n", v.name);
		old = strncmp(v.name, "v1", 2) == 0 || strstr(v.name, "legacy") ||
		      strstr(v.name, "aeswrap") || strstr(v.name, "oaep256");
		assert_int_equal(s3c_s3ec_parse(&v.meta, v.instruction, v.instruction_len,
						v.body_len, &s3ec, NULL, 0),
				 0);
		assert_int_equal(s3ec->version, v.name[1] - '0');
		assert_int_equal(s3ec->legacy, old);
		assert_int_equal(s3ec->instruction, v.instruction != NULL);
		legacy += old;
		kms += strcmp(text_of(v.key, "wrap"), "kms") == 0;
		if (s3ec->size_known)
			assert_int_equal(s3ec->size, v.size);
		assert_int_equal(open_vector(&v, &body), 0);
		assert_int_equal(s3c_s3ec_body_size(body), v.size);
		s3c_sha256(v.plaintext, v.size, hash);
		s3c_hex_encode(hash, sizeof(hash), hex);
		assert_string_equal(hex, text_of(v.plain, "sha256"));
		for (uint64_t chunk = 0; chunk < s3c_chunk_count(v.size); chunk++)
			check_chunk(&v, body, chunk);
		vector_free(&v);
	}
	assert_true(legacy >= 7 && kms >= 6);
}

/* Pieces of any length, and the chunks in their order. */
struct seen {
	const struct vector *v;
	uint64_t next, bytes;
};

static void see(void *arg, uint64_t chunk, const uint8_t *data, uint32_t len)
{
	struct seen *seen = arg;

	assert_int_equal(chunk, seen->next++);
	assert_memory_equal(data, seen->v->plaintext + chunk * S3C_CHUNK_SIZE, len);
	seen->bytes += len;
}

static void test_pieces(void **state)
{
	static const size_t pieces[] = { 1, 15, 16, 4099, 65535, 65536, 65537, 1 << 20 };

	(void)state;
	for (unsigned i = 0; i < all_count; i++) {
		cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
		struct vector v;

		vector_load(&v, all[i]);
		assert_int_equal(s3c_s3ec_parse(&v.meta, v.instruction, v.instruction_len,
						v.body_len, &s3ec, NULL, 0),
				 0);
		for (unsigned p = 0; p < ARRAY_LEN(pieces); p++) {
			cleanup_s3ec_pass struct s3c_s3ec_pass *pass = NULL;
			cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
			struct seen seen = { .v = &v };

			if (v.body_len / pieces[p] > 100000)
				continue;
			assert_int_equal(s3c_s3ec_pass_new(s3ec, v.data_key, see, &seen, &pass), 0);
			for (size_t at = 0; at < v.body_len; at += pieces[p])
				assert_int_equal(
					s3c_s3ec_pass_feed(pass, v.body + at,
							   S3C_MIN(pieces[p], v.body_len - at)),
					0);
			assert_int_equal(s3c_s3ec_pass_feed(pass, "x", 1), -EBADMSG);
			assert_int_equal(s3c_s3ec_pass_end(pass, &body), 0);
			assert_int_equal(seen.bytes, v.size);
			assert_int_equal(seen.next, s3c_chunk_count(v.size));
		}
		vector_free(&v);
	}
}

/* Bytes of the body: every one of the first, the last, the edges of chunks. */
static void tamper_body(struct vector *v)
{
	size_t places[64], count = 0;
	bool cbc = strstr(v->name, "cbc");

	for (size_t i = 0; i < 17 && i < v->body_len; i++)
		places[count++] = v->body_len - 1 - i;
	for (size_t at = 0; at < v->body_len && count < 60; at += 32768 + (at ? 0 : 1))
		places[count++] = at;
	for (size_t i = 0; i < count; i++) {
		struct s3c_s3ec_body *body = NULL;
		int r;

		v->body[places[i]] ^= (uint8_t)(1u << (i % 8));
		r = open_vector(v, &body);
		/* Nothing authenticates CBC: only a broken padding shows. */
		if (!cbc)
			assert_int_equal(r, -EBADMSG);
		s3c_s3ec_body_free(body);
		v->body[places[i]] ^= (uint8_t)(1u << (i % 8));
	}
}

static void tamper_length(struct vector *v)
{
	static const int changes[] = { -1, -15, -16, -17, 1, 16 };
	uint8_t *longer = calloc(1, v->body_len + 16);

	memcpy(longer, v->body, v->body_len);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++) {
		size_t len = v->body_len + (size_t)changes[i];
		struct s3c_s3ec_body *body = NULL;
		int r;

		if (changes[i] < 0 && v->body_len < (size_t)-changes[i])
			continue;
		r = open_all(v, &v->meta, v->instruction, v->instruction_len, longer, len, &body);
		/* Whole blocks of CBC can be cut off; the claimed length shows it, where it is. */
		if (!strstr(v->name, "cbc"))
			assert_int_equal(r, -EBADMSG);
		s3c_s3ec_body_free(body);
	}
	free(longer);
}

/* Flips a bit of decoded base64, or changes a letter of anything else. */
static void alter(const char *name, const char *value, size_t which, char *ret_text, size_t size)
{
	uint8_t data[S3C_UNWRAP_MAX];
	size_t len;

	if (strcmp(name, "x-amz-key") && strcmp(name, "x-amz-key-v2") && strcmp(name, "x-amz-iv") &&
	    strcmp(name, "x-amz-3") && strcmp(name, "x-amz-d") && strcmp(name, "x-amz-i")) {
		snprintf(ret_text, size, "%s", value);
		ret_text[which % strlen(value)] ^= 1;
		return;
	}
	assert_int_equal(s3c_base64_decode(value, strlen(value), data, sizeof(data), &len), 0);
	data[which % len] ^= (uint8_t)(1u << (which % 8));
	assert_true(S3C_BASE64_LEN(len) < size);
	s3c_base64_encode(data, len, ret_text);
}

/* May a change of this item go unnoticed? */
static bool unprotected(const struct vector *v, const char *name)
{
	if (strcmp(name, "x-amz-iv") == 0 || strcmp(name, "x-amz-key") == 0)
		return strstr(v->name, "cbc");
	return strncmp(name, "x-amz-", 6) != 0; /* the user's own */
}

static void tamper_meta(struct vector *v)
{
	for (size_t i = 0; i < v->meta.count; i++) {
		for (size_t which = 0; which < 40; which += 3) {
			struct s3c_s3ec_body *body = NULL;
			struct s3c_meta meta;
			char text[8192];
			int r;

			assert_int_equal(s3c_meta_copy(&v->meta, &meta), 0);
			alter(meta.items[i].name, meta.items[i].value, which, text, sizeof(text));
			s3c_meta_set(&meta, meta.items[i].name, text);
			r = open_all(v, &meta, v->instruction, v->instruction_len, v->body,
				     v->body_len, &body);
			if (r == 0 && !unprotected(v, meta.items[i].name))
				fail_msg("%s: a change of %s went unnoticed", v->name,
					 meta.items[i].name);
			s3c_s3ec_body_free(body);
			s3c_meta_free(&meta);
		}
	}
}

static void tamper_file(struct vector *v)
{
	char *again = malloc(v->instruction_len + 1);

	for (size_t at = 0; at < v->instruction_len; at++) {
		struct s3c_s3ec_body *body = NULL;
		int r;

		memcpy(again, v->instruction, v->instruction_len + 1);
		again[at] ^= 1;
		r = open_all(v, &v->meta, again, v->instruction_len, v->body, v->body_len, &body);
		if (r == 0 && !strstr(v->name, "cbc"))
			fail_msg("%s: a change at %zu of the instruction file went unnoticed",
				 v->name, at);
		s3c_s3ec_body_free(body);
	}
	free(again);
}

static void test_tampered(void **state)
{
	(void)state;
	for (unsigned i = 0; i < all_count; i++) {
		struct vector v;

		vector_load(&v, all[i]);
		/* RSA under sanitizers is slow, and a large body says no more than a small one. */
		if (v.body_len < (2u << 20)) {
			tamper_body(&v);
			tamper_length(&v);
		}
		if (v.body_len < (1u << 17)) {
			tamper_meta(&v);
			if (v.instruction)
				tamper_file(&v);
		}
		vector_free(&v);
	}
}

/* Large, once: each kind of place. */
static void test_tampered_large(void **state)
{
	static const size_t places[] = { 0, 65535, 65536, 5242880, 5242881, 5242896 };
	struct vector v;

	(void)state;
	vector_load(&v, "v3-aes256-multipart-5242881");
	assert_int_equal(v.body_len, 5242897);
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		struct s3c_s3ec_body *body = NULL;

		v.body[places[i]] ^= 0x80;
		assert_int_equal(open_vector(&v, &body), -EBADMSG);
		assert_null(body);
		v.body[places[i]] ^= 0x80;
	}
	vector_free(&v);
}

/* Envelopes: metadata pairs, what to set, and what comes of it. */
static int parse_with(const char *name, const char *set, const char *value, const char *file)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	struct s3c_s3ec_body *body = NULL;
	struct vector v;
	int r;

	vector_load(&v, name);
	if (set && value)
		s3c_meta_set(&v.meta, set, value);
	else if (set)
		s3c_meta_remove(&v.meta, set);
	if (file)
		r = open_all(&v, &v.meta, file, strlen(file), v.body, v.body_len, &body);
	else
		r = open_all(&v, &v.meta, v.instruction, v.instruction_len, v.body, v.body_len,
			     &body);
	s3c_s3ec_body_free(body);
	vector_free(&v);
	return r;
}

static void test_envelopes(void **state)
{
	static const struct {
		const char *vector, *name, *value;
		int result;
	} cases[] = {
		{ "v2-aes256-65536", "x-amz-unrelated", "x", 0 },
		{ "v2-aes256-65536", "x-amz-unencrypted-content-length", "", 0 },
		{ "v2-aes256-65536", "x-amz-unencrypted-content-length", "65536", 0 },
		{ "v2-aes256-65536", "x-amz-unencrypted-content-length", "65535", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-unencrypted-content-length", "-1", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-3", "AAAA", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-key", "AAAA", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-i", "AAAA", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-tag-len", "96", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-tag-len", NULL, -EBADMSG },
		{ "v2-aes256-65536", "x-amz-iv", NULL, -EBADMSG },
		{ "v2-aes256-65536", "x-amz-wrap-alg", NULL, -EBADMSG },
		{ "v2-aes256-65536", "x-amz-wrap-alg", "AES/ECB", -EPROTO },
		{ "v2-aes256-65536", "x-amz-wrap-alg", "AESWrap", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-cek-alg", NULL, -EBADMSG },
		{ "v2-aes256-65536", "x-amz-cek-alg", "s3cryptfs/AES256-GCM-64K/v1", -EPROTO },
		{ "v2-aes256-65536", "x-amz-cek-alg", "AES/CBC/PKCS5Padding", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-key-v2", NULL, -EBADMSG },
		{ "v2-aes256-65536", "x-amz-matdesc", "[]", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-matdesc", "{\"a\":1}", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-matdesc", "{\"a\":\"1\",\"a\":\"1\"}", -EBADMSG },
		{ "v2-aes256-65536", "x-amz-matdesc", "{\"a\":\"1\"}", -EACCES },
		{ "v2-aes256-65536", "x-amz-matdesc", "{\"s3cryptfs-key-id\":\"theirs\"}", 0 },
		{ "v2-aes256-65536", "x-amz-matdesc", "{\"s3cryptfs-key-id\":\"x\"}", -EACCES },
		{ "v2-rsa2048-65535", "x-amz-wrap-alg", "AES/GCM", -EBADMSG },
		{ "v2-rsa2048-65535", "x-amz-wrap-alg", "kms+context", -EBADMSG },
		{ "v2-rsa2048-65535", "x-amz-wrap-alg", "RSA/ECB/OAEPWithSHA-256AndMGF1Padding",
		  -EBADMSG },
		{ "v2-rsaoaep256-65536", "x-amz-wrap-alg", "RSA-OAEP-SHA1", -EBADMSG },
		{ "v2-kms-1", "x-amz-wrap-alg", "kms", -EBADMSG + 0 },
		{ "v3-aes256-1", "x-amz-c", "116", -EPROTO },
		{ "v3-aes256-1", "x-amz-c", NULL, -EBADMSG },
		{ "v3-aes256-1", "x-amz-w", "03", -EPROTO },
		{ "v3-aes256-1", "x-amz-d", NULL, -EBADMSG },
		{ "v3-aes256-1", "x-amz-i", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", -EBADMSG },
		{ "v3-aes256-1", "x-amz-key-v2", "AAAA", -EBADMSG },
		{ "v3-aes256-1", "x-amz-3", NULL, -EREMOTE },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int r = parse_with(cases[i].vector, cases[i].name, cases[i].value, NULL);

		/* The table of known answers ignores how KMS is asked. */
		if (strcmp(cases[i].vector, "v2-kms-1") == 0 && r == 0)
			continue;
		if (r != cases[i].result)
			/* V3 without its wrapped key looks for a file, and has w beside it. */
			if (!(cases[i].result == -EREMOTE && r == -EBADMSG))
				fail_msg("%s with %s=%s: %d", cases[i].vector, cases[i].name,
					 cases[i].value ? cases[i].value : "-", r);
	}
}

static void test_instruction_files(void **state)
{
	static const struct {
		const char *vector, *file;
		int result;
	} cases[] = {
		{ "v2-aes256-instr-1", "", -EBADMSG },
		{ "v2-aes256-instr-1", "[]", -EBADMSG },
		{ "v2-aes256-instr-1", "{}", -EBADMSG },
		{ "v2-aes256-instr-1", "{\"x-amz-key-v2\":7}", -EBADMSG },
		{ "v2-aes256-instr-1", "{\"x-amz-c\":\"115\",\"x-amz-3\":\"AAAA\"}", -EBADMSG },
		{ "v2-aes256-instr-1", "{\"x-amz-key\":\"AAAA\",\"x-amz-key-v2\":\"AAAA\"}",
		  -EBADMSG },
		{ "v2-aes256-instr-1", "{\"x-amz-key-v2\":\"AAAA\",\"X-Amz-Key-V2\":\"AAAA\"}",
		  -EBADMSG },
		{ "v3-aes256-instr-65535", "{\"x-amz-3\":\"AAAA\"}", -EBADMSG },
		{ "v3-aes256-instr-65535", "{\"x-amz-key-v2\":\"AAAA\"}", -EBADMSG },
		{ "v3-aes256-instr-65535", "{\"x-amz-c\":\"115\"}", -EBADMSG },
	};
	struct s3c_meta none = { 0 };
	struct s3c_s3ec *s3ec = NULL;
	struct vector v;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(parse_with(cases[i].vector, NULL, NULL, cases[i].file),
				 cases[i].result);
	assert_int_equal(s3c_s3ec_parse(&none, NULL, 0, 100, &s3ec, NULL, 0), -ENODATA);
	vector_load(&v, "v3-aes256-instr-65535");
	assert_int_equal(s3c_s3ec_parse(&v.meta, NULL, 0, v.body_len, &s3ec, NULL, 0), -EREMOTE);
	/* What is in the file must not be able to change what the object commits to. */
	{
		cleanup_buf struct s3c_buf text = { 0 };

		s3c_buf_printf(&text, "{\"x-amz-i\":\"x\",%s", v.instruction + 1);
		assert_int_equal(
			s3c_s3ec_parse(&v.meta, text.data, text.len, v.body_len, &s3ec, NULL, 0),
			-EBADMSG);
	}
	vector_free(&v);
	assert_null(s3ec);
	assert_true(s3c_s3ec_is_instruction("a.instruction", &len));
	assert_int_equal(len, 1);
	assert_false(s3c_s3ec_is_instruction(".instruction", &len));
	assert_false(s3c_s3ec_is_instruction("a.instructions", &len));
}

/* A wrapped key of V3 in an envelope of V2, which commits to nothing. */
static void test_downgrade(void **state)
{
	static const char *const cases[][2] = {
		{ "v3-aes256-65536", "AES/GCM" },
		{ "v3-rsa2048-65536", "RSA-OAEP-SHA1" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
		const char *desc, *wrapped;
		struct s3c_meta meta = { 0 };
		uint8_t key[S3C_KEY_LEN];
		char why[256] = "";
		struct vector v;

		vector_load(&v, cases[i][0]);
		desc = s3c_meta_get(&v.meta, "x-amz-m");
		wrapped = s3c_meta_get(&v.meta, "x-amz-3");
		s3c_meta_set(&meta, "x-amz-key-v2", wrapped);
		s3c_meta_set(&meta, "x-amz-iv", "AQEBAQEBAQEBAQEB");
		s3c_meta_set(&meta, "x-amz-wrap-alg", cases[i][1]);
		s3c_meta_set(&meta, "x-amz-cek-alg", "AES/GCM/NoPadding");
		s3c_meta_set(&meta, "x-amz-tag-len", "128");
		if (desc)
			s3c_meta_set(&meta, "x-amz-matdesc", desc);
		assert_int_equal(
			s3c_s3ec_parse(&meta, NULL, 0, v.body_len, &s3ec, why, sizeof(why)), 0);
		assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, NULL, key, why, sizeof(why)),
				 -EBADMSG);
		s3c_meta_free(&meta);
		vector_free(&v);
	}
}

/* All of V3 in a file: whoever writes files would choose what the object commits to. */
static void test_all_in_a_file(void **state)
{
	cleanup_buf struct s3c_buf text = { 0 };
	struct s3c_meta none = { 0 };
	struct s3c_s3ec *s3ec = NULL;
	struct vector v;

	(void)state;
	vector_load(&v, "v3-aes256-1");
	s3c_buf_append_char(&text, '{');
	for (size_t i = 0; i < v.meta.count; i++)
		s3c_buf_printf(&text, "%s\"%s\":\"%s\"", i ? "," : "", v.meta.items[i].name,
			       v.meta.items[i].value);
	s3c_buf_append_char(&text, '}');
	assert_int_equal(s3c_s3ec_parse(&none, text.data, text.len, v.body_len, &s3ec, NULL, 0),
			 -EBADMSG);
	vector_free(&v);
}

/* Sizes that the store claims. */
static void test_sizes(void **state)
{
	static const struct {
		const char *vector;
		uint64_t stored;
		int result;
	} cases[] = {
		{ "v2-aes256-65536", 0, -EBADMSG },
		{ "v2-aes256-65536", 15, -EBADMSG },
		{ "v2-aes256-65536", S3C_S3EC_SIZE_MAX + 16, 0 },
		{ "v2-aes256-65536", S3C_S3EC_SIZE_MAX + 17, -EPROTO },
		{ "v2-aes256-65536", UINT64_MAX, -EPROTO },
		{ "v2-cbc-kmslegacy-1", 0, -EBADMSG },
		{ "v2-cbc-kmslegacy-1", 17, -EBADMSG },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
		struct vector v;

		vector_load(&v, cases[i].vector);
		assert_int_equal(s3c_s3ec_parse(&v.meta, NULL, 0, cases[i].stored, &s3ec, NULL, 0),
				 cases[i].result);
		vector_free(&v);
	}
}

/* CBC without a claim: its end tells. */
static void test_cbc_size(void **state)
{
	(void)state;
	for (unsigned i = 0; i < all_count; i++) {
		cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
		struct vector v;
		uint64_t size = 0;
		size_t tail;

		if (!strstr(all[i], "cbc"))
			continue;
		vector_load(&v, all[i]);
		s3c_meta_remove(&v.meta, "x-amz-unencrypted-content-length");
		assert_int_equal(s3c_s3ec_parse(&v.meta, v.instruction, v.instruction_len,
						v.body_len, &s3ec, NULL, 0),
				 0);
		assert_false(s3ec->size_known);
		tail = S3C_MIN(v.body_len, (size_t)100 / 16 * 16);
		assert_int_equal(s3c_s3ec_cbc_size(s3ec, v.data_key, v.body + v.body_len - tail,
						   tail, &size),
				 0);
		assert_int_equal(size, v.size);
		assert_int_equal(s3c_s3ec_cbc_size(s3ec, v.data_key, v.body, 15, &size), -EBADMSG);
		vector_free(&v);
	}
}

/* Which key: several of one description, keys for a store, keys of another kind. */
static void test_keys(void **state)
{
	uint8_t wrong[32] = { 9 }, key[S3C_KEY_LEN];
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL, *ecb = NULL;
	struct s3c_master_key keys[3];
	struct s3c_keyring ring = { .keys = keys, .count = 3 };
	struct vector v, old;
	char why[256] = "";

	(void)state;
	vector_load(&v, "v2-aes256-65536");
	vector_load(&old, "v1-cbc-aes256-65535");
	assert_int_equal(s3c_s3ec_parse(&v.meta, NULL, 0, v.body_len, &s3ec, NULL, 0), 0);
	keys[0] = keys[1] = keys[2] = v.master;
	keys[0].secret = wrong;
	keys[1].active = keys[2].active = false;
	keys[1].secret = wrong;
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &ring, NULL, key, why, sizeof(why)), 0);
	assert_memory_equal(key, v.data_key, sizeof(key));
	keys[2].ssec_shared = true;
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &ring, NULL, key, why, sizeof(why)), -EBADMSG);
	keys[0].ssec_shared = keys[1].ssec_shared = true;
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &ring, NULL, key, why, sizeof(why)), -EACCES);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, NULL, NULL, key, why, sizeof(why)), -EACCES);

	/* What cannot tell a wrong key from the right one does not guess. */
	assert_int_equal(s3c_s3ec_parse(&old.meta, NULL, 0, old.body_len, &ecb, NULL, 0), 0);
	keys[0] = keys[1] = keys[2] = old.master;
	ring.count = 2;
	assert_int_equal(s3c_s3ec_unwrap(ecb, &ring, NULL, key, why, sizeof(why)), -EACCES);
	assert_non_null(strstr(why, "2 keys"));
	ring.count = 1;
	assert_int_equal(s3c_s3ec_unwrap(ecb, &ring, NULL, key, why, sizeof(why)), 0);
	vector_free(&v);
	vector_free(&old);
}

static void test_rsa_file(void **state)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	uint8_t key[S3C_KEY_LEN];
	char why[256] = "";
	struct vector v;
	FILE *f;

	(void)state;
	vector_load(&v, "v3-rsa2048-65536");
	assert_int_equal(s3c_s3ec_parse(&v.meta, NULL, 0, v.body_len, &s3ec, NULL, 0), 0);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, NULL, key, why, sizeof(why)), 0);
	assert_memory_equal(key, v.data_key, sizeof(key));
	chmod(v.pem, 0644);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, NULL, key, why, sizeof(why)), -EACCES);
	assert_non_null(strstr(why, "chmod"));
	chmod(v.pem, 0600);
	f = fopen(v.pem, "w");
	fputs("no key\n", f);
	fclose(f);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, NULL, key, why, sizeof(why)), -EACCES);
	unlink(v.pem);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, NULL, key, why, sizeof(why)), -EACCES);
	vector_free(&v);
}

static void test_kms(void **state)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL, *moved = NULL;
	uint8_t key[S3C_KEY_LEN];
	struct s3c_kms_unwrap kms;
	char why[256] = "";
	struct vector v;

	(void)state;
	vector_load(&v, "v3-kms-65535");
	kms = (struct s3c_kms_unwrap){ kms_decrypt, &v };
	assert_int_equal(s3c_s3ec_parse(&v.meta, NULL, 0, v.body_len, &s3ec, NULL, 0), 0);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, &kms, key, why, sizeof(why)), 0);
	assert_int_equal(s3c_s3ec_unwrap(s3ec, &v.ring, NULL, key, why, sizeof(why)), -EACCES);
	assert_non_null(strstr(why, "KMS"));
	/* The context has to name the algorithm; KMS is not even asked. */
	s3c_meta_set(&v.meta, "x-amz-t", "{\"aws:x-amz-cek-alg\":\"AES/GCM/NoPadding\"}");
	assert_int_equal(s3c_s3ec_parse(&v.meta, NULL, 0, v.body_len, &moved, NULL, 0), 0);
	assert_int_equal(s3c_s3ec_unwrap(moved, &v.ring, &kms, key, why, sizeof(why)), -EBADMSG);
	assert_non_null(strstr(why, "context"));
	vector_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_open),      cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_tampered),      cmocka_unit_test(test_tampered_large),
		cmocka_unit_test(test_envelopes),     cmocka_unit_test(test_instruction_files),
		cmocka_unit_test(test_sizes),         cmocka_unit_test(test_cbc_size),
		cmocka_unit_test(test_keys),          cmocka_unit_test(test_rsa_file),
		cmocka_unit_test(test_kms),           cmocka_unit_test(test_downgrade),
		cmocka_unit_test(test_all_in_a_file),
	};

	if (s3c_secret_init() < 0)
		return 99;
	all_count = vector_names(all);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
