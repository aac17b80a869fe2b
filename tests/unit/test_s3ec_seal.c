/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Objects in the formats of other clients as we write them: envelope, content, and our seal. */
#include "object_fixture.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "object/s3ec_body.h"

static const uint8_t seal_key[32] = { 9, 8, 7 };
static const uint64_t sizes[] = { 0, 1, 15, 16, 17, 65535, 65536, 65537, 200000 };

struct made {
	struct s3c_keyring *ring;
	struct s3c_meta meta;
	struct s3c_s3ec *s3ec;
	uint8_t data_key[32];
	uint8_t *plain, *body;
	size_t size;
	struct s3c_s3ec_body *content;
};

static void make_envelope(struct made *m, unsigned version, size_t size)
{
	const struct s3c_master_key *key;
	uint8_t wrapped[S3C_WRAP_GCM_LEN];
	cleanup_free char *desc = NULL;
	struct s3c_s3ec_wrap wrap = { S3C_UNWRAP_AES_GCM, wrapped, sizeof(wrapped), NULL };
	char why[200] = "";

	*m = (struct made){ .ring = keyring_a(), .size = size };
	key = s3c_keyring_active(m->ring);
	s3c_random(m->data_key, sizeof(m->data_key));
	assert_int_equal(s3c_wrap_gcm(key, s3c_s3ec_content_alg(version), m->data_key, wrapped), 0);
	assert_int_equal(s3c_keyring_desc(key, &desc), 0);
	assert_string_equal(desc, "{\"team\":\"storage\"}");
	wrap.desc = desc;
	assert_int_equal(s3c_s3ec_encode(version, m->data_key, &wrap, &m->meta), 0);
	if (s3c_s3ec_parse(&m->meta, NULL, 0, size + S3C_TAG_LEN, &m->s3ec, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(m->s3ec->version, version);
	assert_int_equal(m->s3ec->size, size);
	assert_false(m->s3ec->legacy);
}

static void make(struct made *m, unsigned version, size_t size)
{
	cleanup_s3ec_seal struct s3c_s3ec_seal *seal = NULL;

	make_envelope(m, version, size);
	m->plain = malloc(size + 1);
	m->body = malloc(size + S3C_TAG_LEN);
	assert_true(m->plain && m->body);
	s3c_random(m->plain, size + 1);
	assert_int_equal(s3c_s3ec_seal_new(m->s3ec, m->data_key, &seal), 0);
	for (size_t at = 0; at < size; at += S3C_CHUNK_SIZE)
		assert_int_equal(s3c_s3ec_seal_chunk(seal, m->plain + at,
						     s3c_chunk_plain_len(size, at / S3C_CHUNK_SIZE),
						     m->body + at),
				 0);
	assert_int_equal(s3c_s3ec_seal_end(seal, m->body + size, &m->content), 0);
}

static void unmake(struct made *m)
{
	s3c_s3ec_body_free(m->content);
	s3c_s3ec_put(m->s3ec);
	s3c_meta_free(&m->meta);
	s3c_keyring_free(m->ring);
	free(m->plain);
	free(m->body);
}

static void check_chunks(const struct made *m, const struct s3c_s3ec_body *content)
{
	assert_int_equal(s3c_s3ec_body_size(content), m->size);
	for (uint64_t chunk = 0; chunk * S3C_CHUNK_SIZE < m->size; chunk++) {
		uint32_t len = s3c_chunk_plain_len(m->size, chunk);
		uint8_t data[S3C_CHUNK_SIZE];

		memcpy(data, m->body + chunk * S3C_CHUNK_SIZE, len);
		assert_int_equal(s3c_s3ec_body_open(content, chunk, data), 0);
		assert_memory_equal(data, m->plain + chunk * S3C_CHUNK_SIZE, len);
		memcpy(data, m->body + chunk * S3C_CHUNK_SIZE, len);
		flip_bit(data, len);
		assert_int_equal(s3c_s3ec_body_open(content, chunk, data), -EBADMSG);
	}
}

/* What the writer keeps opens the same as what a reader makes, and what neither wrote does not. */
static void test_round_trip(void **state)
{
	(void)state;
	for (unsigned version = 2; version <= 3; version++)
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			cleanup_s3ec_body struct s3c_s3ec_body *read = NULL;
			uint8_t key[32];
			struct made m;

			make(&m, version, sizes[i]);
			assert_int_equal(s3c_s3ec_unwrap(m.s3ec, m.ring, NULL, key, NULL, 0), 0);
			assert_memory_equal(key, m.data_key, sizeof(key));
			assert_int_equal(s3c_s3ec_verify(m.s3ec, key, m.body, m.size + 16, &read),
					 0);
			check_chunks(&m, read);
			check_chunks(&m, m.content);
			flip_bit(m.body, 8 * m.size + 3);
			assert_int_equal(s3c_s3ec_verify(m.s3ec, key, m.body, m.size + 16, &read),
					 -EBADMSG);
			unmake(&m);
		}
}

/* The chunks of another number or length would be another message. */
static void test_order(void **state)
{
	cleanup_s3ec_seal struct s3c_s3ec_seal *seal = NULL;
	uint8_t out[S3C_CHUNK_SIZE], tag[S3C_TAG_LEN];
	struct s3c_s3ec_body *content = NULL;
	struct made m;

	(void)state;
	make_envelope(&m, 3, S3C_CHUNK_SIZE + 5);
	assert_int_equal(s3c_s3ec_seal_new(m.s3ec, m.data_key, &seal), 0);
	assert_int_equal(s3c_s3ec_seal_chunk(seal, out, 5, out), -EINVAL);
	assert_int_equal(s3c_s3ec_seal_chunk(seal, out, S3C_CHUNK_SIZE, out), 0);
	assert_int_equal(s3c_s3ec_seal_end(seal, tag, &content), -EINVAL);
	assert_int_equal(s3c_s3ec_seal_chunk(seal, out, 6, out), -EINVAL);
	assert_int_equal(s3c_s3ec_seal_chunk(seal, out, 5, out), 0);
	assert_int_equal(s3c_s3ec_seal_chunk(seal, out, 1, out), -EINVAL);
	assert_int_equal(s3c_s3ec_seal_end(seal, tag, &content), 0);
	s3c_s3ec_body_free(content);
	/* The key is checked against the commitment before it is used. */
	flip_bit(m.data_key, 7);
	s3c_s3ec_seal_free(steal_ptr(seal));
	assert_int_equal(s3c_s3ec_seal_new(m.s3ec, m.data_key, &seal), -EBADMSG);
	unmake(&m);
}

static void test_encode(void **state)
{
	const uint8_t key[32] = { 1 };
	struct s3c_s3ec_wrap wrap = { S3C_UNWRAP_AES_GCM, key, 32, "{}" };
	struct s3c_meta meta = { 0 };
	struct made a, b;

	(void)state;
	assert_int_equal(s3c_s3ec_encode(1, key, &wrap, &meta), -EINVAL);
	assert_int_equal(s3c_s3ec_encode(4, key, &wrap, &meta), -EINVAL);
	wrap.alg = S3C_UNWRAP_AES_KW;
	assert_int_equal(s3c_s3ec_encode(2, key, &wrap, &meta), -EINVAL);
	assert_int_equal(meta.count, 0);
	wrap.alg = S3C_UNWRAP_AES_GCM;
	assert_int_equal(s3c_s3ec_encode(3, key, &wrap, &meta), 0);
	assert_null(s3c_meta_get(&meta, "x-amz-m")); /* empty is left out */
	s3c_meta_free(&meta);
	wrap.alg = S3C_UNWRAP_KMS_CONTEXT;
	wrap.desc = "{\"aws:x-amz-cek-alg\":\"115\"}";
	assert_int_equal(s3c_s3ec_encode(3, key, &wrap, &meta), 0);
	assert_string_equal(s3c_meta_get(&meta, "x-amz-t"), wrap.desc);
	assert_string_equal(s3c_meta_get(&meta, "x-amz-w"), "12");
	s3c_meta_free(&meta);
	for (unsigned version = 2; version <= 3; version++) {
		const char *drawn = version == 2 ? "x-amz-iv" : "x-amz-i";

		make_envelope(&a, version, 1);
		make_envelope(&b, version, 1);
		assert_string_not_equal(s3c_meta_get(&a.meta, drawn), s3c_meta_get(&b.meta, drawn));
		unmake(&a);
		unmake(&b);
	}
}

static void test_wrap(void **state)
{
	struct s3c_keyring *ring = keyring_of("[a]\nsecret = " KEY_A "\nstate = active\n"
					      "[s]\nsecret = " KEY_B "\nuse = sse-c\n"
					      "[k]\nsecret = AAECAwQFBgcICQoLDA0ODw==\n"
					      "[c]\nsecret = " KEY_C "\ndesc.x = y\n");
	uint8_t key[32] = { 1 }, got[32], wrapped[S3C_WRAP_GCM_LEN];
	struct s3c_wrapped_key w = { .alg = S3C_UNWRAP_AES_GCM,
				     .content_alg = "115",
				     .wrapped = wrapped,
				     .wrapped_len = sizeof(wrapped) };
	uint8_t *one = calloc(1, 1);

	(void)state;
	assert_int_equal(s3c_wrap_gcm(NULL, "115", key, wrapped), -EINVAL);
	assert_int_equal(s3c_wrap_gcm(s3c_keyring_find(ring, "s"), "115", key, wrapped), -EINVAL);
	assert_int_equal(s3c_wrap_gcm(s3c_keyring_find(ring, "k"), "115", key, wrapped), -EINVAL);
	assert_int_equal(s3c_wrap_gcm(s3c_keyring_find(ring, "c"), "115", key, wrapped), 0);
	/* Its description names another key; who knows the id needs none. */
	assert_int_equal(s3c_unwrap_data_key(&w, ring, NULL, got, NULL, 0), -EBADMSG);
	w.key_id = "c";
	assert_int_equal(s3c_unwrap_data_key(&w, ring, NULL, got, NULL, 0), 0);
	assert_memory_equal(got, key, sizeof(key));
	w.content_alg = "AES/GCM/NoPadding";
	assert_int_equal(s3c_unwrap_data_key(&w, ring, NULL, got, NULL, 0), -EBADMSG);
	w.key_id = "gone";
	assert_int_equal(s3c_unwrap_data_key(&w, ring, NULL, got, NULL, 0), -EACCES);
	w.key_id = "c";
	w.wrapped = one;
	w.wrapped_len = 1;
	assert_int_equal(s3c_unwrap_data_key(&w, ring, NULL, got, NULL, 0), -EBADMSG);
	free(one);
	s3c_keyring_free(ring);
}

static const struct s3c_header sample = {
	.layout = S3C_LAYOUT_S3EC,
	.size = 77,
	.epoch = 1,
	.generation = 5,
	.key_id = "a",
	.file_id = { 1, 2 },
	.content_id = { 3, 4 },
	.commitment = { 5, 6 },
	.attrs = { .known = true, .mode = S_IFREG | 0600, .uid = 1, .gid = 2, .mtime_ns = 3 },
};

static int decode(const struct made *m, const struct s3c_meta *meta, uint64_t stored,
		  struct s3c_header *ret_header)
{
	const struct s3c_volume volume = volume_by_hand(seal_key);
	char why[200] = "";
	int r = s3c_header_decode(meta, &volume, "dir/name", stored, ret_header, why, sizeof(why));

	(void)m;
	assert_true(r == 0 || why[0]);
	return r;
}

static void test_sealed(void **state)
{
	const struct s3c_volume volume = volume_by_hand(seal_key);

	(void)state;
	for (unsigned version = 2; version <= 3; version++) {
		struct s3c_header got;
		struct s3c_meta meta;
		struct made m;

		make_envelope(&m, version, 77);
		assert_int_equal(s3c_header_encode(&sample, m.ring, &volume, "dir/name", &m.meta),
				 0);
		assert_int_equal(decode(&m, &m.meta, 77 + 16, &got), 0);
		assert_int_equal(got.layout, S3C_LAYOUT_S3EC);
		assert_int_equal(got.size, 77);
		assert_string_equal(got.key_id, "a");
		assert_memory_equal(got.commitment, sample.commitment, sizeof(got.commitment));
		assert_memory_equal(got.content_id, sample.content_id, sizeof(got.content_id));
		for (uint64_t stored = 0; stored < 100; stored++)
			if (stored != 77 + 16)
				assert_int_equal(decode(&m, &m.meta, stored, &got), -EBADMSG);
		assert_int_equal(decode(&m, &m.meta, S3C_S3EC_SIZE_MAX + 17, &got), -EBADMSG);
		/* Every item of the envelope is sealed: changed, taken away, added. */
		for (size_t i = 0; i < m.meta.count; i++) {
			assert_int_equal(s3c_meta_copy(&m.meta, &meta), 0);
			meta.items[i].value[0] ^= 1;
			assert_int_not_equal(decode(&m, &meta, 77 + 16, &got), 0);
			free(meta.items[i].name);
			meta.items[i].name = strdup("other");
			assert_int_not_equal(decode(&m, &meta, 77 + 16, &got), 0);
			s3c_meta_free(&meta);
		}
		for (const char *const *name = (const char *const[]){ "x-amz-key", "x-amz-t",
								      "x-amz-unencrypted-content-"
								      "length",
								      NULL };
		     *name; name++) {
			assert_int_equal(s3c_meta_copy(&m.meta, &meta), 0);
			assert_int_equal(s3c_meta_set(&meta, *name, "77"), 0);
			assert_int_equal(decode(&m, &meta, 77 + 16, &got), -EBADMSG);
			s3c_meta_free(&meta);
		}
		unmake(&m);
	}
}

static void test_sealed_refuses(void **state)
{
	const struct s3c_volume volume = volume_by_hand(seal_key);
	struct s3c_header header = sample;
	struct s3c_meta bare = { 0 };
	struct made m;

	(void)state;
	make_envelope(&m, 3, 77);
	assert_int_equal(s3c_header_encode(&sample, m.ring, &volume, "x", &bare), -EINVAL);
	s3c_meta_free(&bare);
	header.key_id[0] = '\0';
	assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "x", &m.meta), -EINVAL);
	/* The key is not here: nothing of the header needs it. */
	memset(header.key_id, 'k', S3C_KEY_ID_MAX);
	assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "dir/name", &m.meta), 0);
	assert_int_equal(decode(&m, &m.meta, 77 + 16, &header), 0);
	assert_int_equal(strlen(header.key_id), S3C_KEY_ID_MAX);
	unmake(&m);
}

#define ARN "arn:aws:kms:eu-west-1:111122223333:key/0123456789abcdef0123456789abcdef"

/* An envelope as one is written under a KMS key, and the header that names it. */
static void make_by_kms(struct made *m, unsigned version, const char *arn, const char *pairs,
			size_t blob_len, struct s3c_header *ret_header)
{
	const char *alg = s3c_s3ec_content_alg(version);
	uint8_t blob[S3C_KMS_WRAP_MAX] = { 1, 2, 3 };
	struct s3c_s3ec_wrap wrap = { S3C_UNWRAP_KMS_CONTEXT, blob, blob_len, NULL };
	cleanup_free char *context = NULL;

	*m = (struct made){ .ring = keyring_a(), .size = 77 };
	assert_int_equal(s3c_kms_context(NULL, NULL, alg, pairs, &context), 0);
	wrap.desc = context;
	assert_int_equal(s3c_s3ec_encode(version, blob, &wrap, &m->meta), 0);
	*ret_header = sample;
	ret_header->key_id[0] = '\0';
	assert_int_equal(s3c_kms_wrap_new(false, arn, pairs, blob, blob_len, &ret_header->kms), 0);
}

static void test_sealed_kms(void **state)
{
	static const char pairs[] = "{\"team\":\"a\"}";
	const struct s3c_volume volume = volume_by_hand(seal_key);

	(void)state;
	for (unsigned version = 2; version <= 3; version++) {
		const char *context = version == 3 ? "x-amz-t" : "x-amz-matdesc";
		cleanup_header struct s3c_header header = { 0 };
		struct s3c_header got = { 0 }, none = { 0 };
		struct s3c_meta meta;
		struct made m;

		make_by_kms(&m, version, ARN, pairs, 184, &header);
		assert_string_equal(s3c_meta_get(&m.meta, context),
				    version == 3 ? "{\"aws:x-amz-cek-alg\":\"115\",\"team\":\"a\"}"
						 : "{\"aws:x-amz-cek-alg\":\"AES/GCM/NoPadding\","
						   "\"team\":\"a\"}");
		assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "dir/name", &m.meta),
				 0);
		assert_int_equal(decode(&m, &m.meta, 77 + 16, &got), 0);
		assert_string_equal(got.key_id, "");
		assert_string_equal(s3c_header_key_name(&got), ARN);
		assert_string_equal(got.kms->pairs, pairs);
		assert_false(got.kms->reuse);
		assert_int_equal(got.kms->len, 184);
		assert_memory_equal(got.kms->data, header.kms->data, 184);
		s3c_header_clear(&got);
		/* What names the KMS is sealed, as all else. */
		for (size_t i = 0; i < m.meta.count; i++) {
			assert_int_equal(s3c_meta_copy(&m.meta, &meta), 0);
			meta.items[i].value[0] ^= 1;
			assert_int_not_equal(decode(&m, &meta, 77 + 16, &none), 0);
			s3c_meta_free(&meta);
		}
		assert_null(none.kms);
		unmake(&m);
	}
}

/* Under a good seal, but not as we write: another's context, no id, a blob that we could not keep.
 */
static void test_sealed_kms_refuses(void **state)
{
	static const struct {
		const char *name, *value; /* NULL: taken away */
	} cases[] = {
		{ "x-amz-t", "{\"aws:x-amz-cek-alg\":\"AES/GCM/NoPadding\"}" },
		{ "x-amz-t", "{\"team\":\"a\"}" },
		{ "x-amz-t", "{\"aws:x-amz-cek-alg\":\"115\",\"n\":1}" },
		{ "x-amz-t", "[]" },
		{ "x-amz-t", NULL },
	};
	const struct s3c_volume volume = volume_by_hand(seal_key);
	cleanup_free char *long_arn = calloc(1, S3C_SEALED_ID_MAX + 2);
	struct s3c_header header, got;
	struct made m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make_by_kms(&m, 3, ARN, NULL, 184, &header);
		if (cases[i].value)
			assert_int_equal(s3c_meta_set(&m.meta, cases[i].name, cases[i].value), 0);
		for (size_t at = 0; !cases[i].value && at < m.meta.count; at++)
			if (strcmp(m.meta.items[at].name, cases[i].name) == 0) {
				free(m.meta.items[at].name);
				m.meta.items[at].name = strdup("other");
			}
		assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "dir/name", &m.meta),
				 0);
		assert_int_equal(decode(&m, &m.meta, 77 + 16, &got), -EBADMSG);
		s3c_header_clear(&header);
		unmake(&m);
	}
	/* The longest id that there is room for, and one more. */
	assert_non_null(long_arn);
	memset(long_arn, 'a', S3C_SEALED_ID_MAX);
	make_by_kms(&m, 3, long_arn, NULL, 184, &header);
	assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "dir/name", &m.meta), 0);
	assert_int_equal(decode(&m, &m.meta, 77 + 16, &got), 0);
	assert_string_equal(got.kms->arn, long_arn);
	s3c_header_clear(&got);
	s3c_header_clear(&header);
	unmake(&m);
	long_arn[S3C_SEALED_ID_MAX] = 'a';
	make_by_kms(&m, 3, long_arn, NULL, 184, &header);
	assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "dir/name", &m.meta), -EINVAL);
	s3c_header_clear(&header);
	unmake(&m);
}

/* The longest of everything stays under S3's 2 KB. */
static void test_kms_metadata_size(void **state)
{
	const struct s3c_volume volume = volume_by_hand(seal_key);
	char pairs[S3C_KMS_PAIRS_MAX + 1], arn[S3C_SEALED_ID_MAX + 1] = "";
	cleanup_header struct s3c_header header = { 0 };
	size_t total = 0;
	struct made m;

	(void)state;
	memset(arn, 'a', S3C_SEALED_ID_MAX);
	memset(pairs, 'a', sizeof(pairs));
	memcpy(pairs, "{\"a\":\"", 6);
	strcpy(pairs + S3C_KMS_PAIRS_MAX - 2, "\"}");
	make_by_kms(&m, 2, arn, pairs, 184, &header);
	header.attrs = (struct s3c_attrs){ .known = true,
					   .mode = 0177777,
					   .uid = UINT32_MAX,
					   .gid = UINT32_MAX,
					   .mtime_ns = INT64_MIN,
					   .atime_ns = INT64_MIN,
					   .ctime_ns = INT64_MIN };
	assert_int_equal(s3c_header_encode(&header, m.ring, &volume, "dir/name", &m.meta), 0);
	for (size_t i = 0; i < m.meta.count; i++)
		total += strlen("x-amz-meta-") + strlen(m.meta.items[i].name) +
			 strlen(m.meta.items[i].value);
	assert_in_range(total, 1500, 2047);
	unmake(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_sealed_refuses),
		cmocka_unit_test(test_sealed_kms),
		cmocka_unit_test(test_sealed_kms_refuses),
		cmocka_unit_test(test_kms_metadata_size),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
