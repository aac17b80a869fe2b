/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object_fixture.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "object/chunks.h"

#define PACKED_MAX 160

static const uint8_t seal_key[32] = { 1, 2, 3 };
static const char rel_key[] = "dir/name";

/* One object: its metadata and what they were made from. */
struct made {
	struct s3c_keyring *ring;
	struct s3c_volume volume;
	struct s3c_header header;
	struct s3c_meta meta;
	uint8_t data_key[32];
};

static void make(struct made *m, enum s3c_layout layout, uint64_t size)
{
	*m = (struct made){ .ring = keyring_a(), .volume = volume_by_hand(seal_key) };
	m->header = (struct s3c_header){
		.layout = layout,
		.size = size,
		.generation = 77,
		.attrs = { .known = true,
			   .mode = S_IFREG | 0640,
			   .uid = 1,
			   .gid = 2,
			   .mtime_ns = 3000000004,
			   .atime_ns = 5,
			   .ctime_ns = -6 },
	};
	s3c_salt_draw(m->header.salt);
	assert_int_equal(
		s3c_header_new(m->ring, &m->volume, NULL, &m->header, m->data_key, NULL, 0), 0);
	assert_int_equal(s3c_header_encode(&m->header, m->ring, &m->volume, rel_key, &m->meta), 0);
}

static void unmake(struct made *m)
{
	s3c_meta_free(&m->meta);
	s3c_keyring_free(m->ring);
}

static int decode(const struct made *m, uint64_t stored, struct s3c_header *ret)
{
	char why[200] = "";
	int r = s3c_header_decode(&m->meta, &m->volume, rel_key, stored, ret, why, sizeof(why));

	assert_true(r == 0 || why[0]);
	assert_int_equal(s3c_header_decode(&m->meta, &m->volume, rel_key, stored, ret, NULL, 0), r);
	return r;
}

static int decode_only(const struct made *m)
{
	struct s3c_header ignored;

	return decode(m, s3c_chunks_stored_len(m->header.size), &ignored);
}

static void test_round_trip(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 15, 16, 65535, 65536, 65537, 8388607, 8388608 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t stored = s3c_chunks_stored_len(sizes[i]);
		struct s3c_header got;
		uint8_t key[32];
		struct made m;

		make(&m, S3C_LAYOUT_CHUNKS, sizes[i]);
		assert_int_equal(decode(&m, stored, &got), 0);
		assert_int_equal(got.size, sizes[i]);
		assert_int_equal(got.generation, 77);
		assert_int_equal(got.epoch, 1);
		assert_false(got.attrs_final);
		assert_true(got.attrs.known);
		assert_int_equal(got.attrs.mode, S_IFREG | 0640);
		assert_int_equal(got.attrs.ctime_ns, -6);
		assert_string_equal(got.key_id, "a");
		assert_memory_equal(got.salt, m.header.salt, 16);
		assert_memory_equal(got.content_id, m.header.content_id, 16);
		assert_int_equal(s3c_header_unwrap(&got, m.ring, &m.volume, NULL, key, NULL, 0), 0);
		assert_memory_equal(key, m.data_key, 32);
		/* Truncated, extended, by any number of bytes or chunks. */
		for (uint64_t d = 1; d < 40; d++) {
			assert_int_equal(decode(&m, stored + d, &got), -EBADMSG);
			if (d <= stored)
				assert_int_equal(decode(&m, stored - d, &got), -EBADMSG);
		}
		assert_int_equal(decode(&m, stored + S3C_CHUNK_STRIDE, &got), -EBADMSG);
		assert_int_equal(decode(&m, UINT64_MAX, &got), -EBADMSG);
		unmake(&m);
	}
}

static void test_other_layouts(void **state)
{
	struct s3c_header got;
	uint8_t key[32];
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_NONE, 0);
	assert_null(s3c_meta_get(&m.meta, "x-amz-key-v2"));
	assert_int_equal(decode(&m, 0, &got), 0);
	assert_int_equal(got.layout, S3C_LAYOUT_NONE);
	assert_int_equal(s3c_header_unwrap(&got, m.ring, &m.volume, NULL, key, NULL, 0), -EINVAL);
	assert_int_equal(decode(&m, 1, &got), -EBADMSG);
	s3c_meta_set(&m.meta, "x-amz-key-v2", "");
	assert_int_equal(decode(&m, 0, &got), -EBADMSG);
	unmake(&m);

	make(&m, S3C_LAYOUT_TRAILER, 0);
	assert_int_equal(decode(&m, 12345, &got), 0);
	assert_int_equal(got.layout, S3C_LAYOUT_TRAILER);
	assert_int_equal(got.size, 0);
	assert_int_equal(s3c_header_unwrap(&got, m.ring, &m.volume, NULL, key, NULL, 0), 0);
	m.header.attrs_final = true;
	assert_int_equal(s3c_header_encode(&m.header, m.ring, &m.volume, rel_key, &m.meta), 0);
	assert_int_equal(decode(&m, 1, &got), 0);
	assert_true(got.attrs_final);
	unmake(&m);
}

/* Every bit of the packed value, of each layout. */
static void test_packed_bits(void **state)
{
	static const enum s3c_layout layouts[] = { S3C_LAYOUT_NONE, S3C_LAYOUT_CHUNKS,
						   S3C_LAYOUT_TRAILER };

	(void)state;
	for (size_t l = 0; l < ARRAY_LEN(layouts); l++) {
		char text[S3C_BASE64_LEN(PACKED_MAX) + 1];
		uint8_t packed[PACKED_MAX];
		const char *good;
		struct made m;
		size_t len;

		make(&m, layouts[l], 0);
		good = s3c_meta_get(&m.meta, "s3cryptfs");
		assert_int_equal(
			s3c_base64_decode(good, strlen(good), packed, sizeof(packed), &len), 0);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			int r;

			flip_bit(packed, bit);
			s3c_base64_encode(packed, len, text);
			s3c_meta_set(&m.meta, "s3cryptfs", text);
			r = decode_only(&m);
			/* Another version or layout has another seal: it cannot be compared. */
			if (bit < 16)
				assert_true(r == -EPROTO || r == -EBADMSG);
			else
				assert_int_equal(r, bit >= 32 && bit < 64 ? -ENOKEY : -EBADMSG);
			flip_bit(packed, bit);
		}
		for (size_t cut = 0; cut < len; cut++) {
			s3c_base64_encode(packed, cut, text);
			s3c_meta_set(&m.meta, "s3cryptfs", text);
			assert_int_equal(decode_only(&m), -EBADMSG);
		}
		packed[len] = 0;
		s3c_base64_encode(packed, len + 1, text);
		s3c_meta_set(&m.meta, "s3cryptfs", text);
		assert_int_equal(decode_only(&m), -EBADMSG);
		s3c_base64_encode(packed, len, text);
		s3c_meta_set(&m.meta, "s3cryptfs", text);
		assert_int_equal(decode_only(&m), 0);
		unmake(&m);
	}
}

/* Each sealed item: every bit of every character, emptied, removed, extended, or added. */
static void test_items(void **state)
{
	static const char *const names[] = {
		"x-amz-key-v2", "x-amz-matdesc", "x-amz-wrap-alg", "x-amz-cek-alg", "mode",
		"uid",          "gid",           "mtime",          "atime",         "ctime",
		"xattr",        "rdev",          "s3cryptfs-name",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		cleanup_free char *value = NULL, *more = NULL;
		struct made m;

		make(&m, S3C_LAYOUT_CHUNKS, 100);
		if (!s3c_meta_get(&m.meta, names[i])) {
			s3c_meta_set(&m.meta, names[i], ""); /* absent differs from empty */
			assert_int_equal(decode_only(&m), -EBADMSG);
			unmake(&m);
			continue;
		}
		value = strdup(s3c_meta_get(&m.meta, names[i]));
		for (size_t bit = 0; bit < 8 * strlen(value); bit++) {
			flip_bit(value, bit);
			s3c_meta_set(&m.meta, names[i], value);
			assert_int_equal(decode_only(&m), -EBADMSG);
			flip_bit(value, bit);
		}
		more = s3c_asprintf("%s ", value);
		s3c_meta_set(&m.meta, names[i], more);
		assert_int_equal(decode_only(&m), -EBADMSG);
		s3c_meta_set(&m.meta, names[i], "");
		assert_int_equal(decode_only(&m), -EBADMSG);
		s3c_meta_remove(&m.meta, names[i]);
		assert_int_equal(decode_only(&m), -EBADMSG);
		s3c_meta_set(&m.meta, names[i], value);
		assert_int_equal(decode_only(&m), 0);
		unmake(&m);
	}
}

/* Neighbours may not trade characters: lengths are part of the input. */
static void test_boundaries(void **state)
{
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	s3c_meta_set(&m.meta, "uid", "");
	s3c_meta_set(&m.meta, "gid", "12");
	assert_int_equal(decode_only(&m), -EBADMSG);
	s3c_meta_set(&m.meta, "uid", "2");
	s3c_meta_set(&m.meta, "gid", "1");
	assert_int_equal(decode_only(&m), -EBADMSG);
	s3c_meta_set(&m.meta, "uid", "1");
	s3c_meta_set(&m.meta, "gid", "2");
	assert_int_equal(decode_only(&m), 0);
	s3c_meta_set(&m.meta, "unrelated", "x");
	assert_int_equal(decode_only(&m), 0);
	unmake(&m);
}

static void test_moved(void **state)
{
	static const char *const keys[] = { "",          "dir/nam", "dir/name/", "dir/namf",
					    "/dir/name", "name",    "dir/name2" };
	const uint8_t other_seal[32] = { 1, 2, 4 };
	struct s3c_volume other = volume_by_hand(other_seal);
	struct s3c_header got;
	struct made m, n;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(s3c_header_decode(&m.meta, &m.volume, keys[i], 116, &got, NULL, 0),
				 -EBADMSG);
	assert_int_equal(s3c_header_decode(&m.meta, &other, rel_key, 116, &got, NULL, 0), -EBADMSG);
	/* The epoch that it names is one that this volume does not have. */
	other.newest->number = 2;
	assert_int_equal(s3c_header_decode(&m.meta, &other, rel_key, 116, &got, NULL, 0), -ENOKEY);

	/* Two objects of one name: no mix of their items decodes. */
	make(&n, S3C_LAYOUT_CHUNKS, 100);
	for (size_t i = 0; i < n.meta.count; i++) {
		const char *name = n.meta.items[i].name;
		cleanup_free char *own = strdup(s3c_meta_get(&m.meta, name));

		if (strcmp(own, n.meta.items[i].value) == 0)
			continue;
		s3c_meta_set(&m.meta, name, n.meta.items[i].value);
		assert_int_equal(decode_only(&m), -EBADMSG);
		s3c_meta_set(&m.meta, name, own);
	}
	unmake(&n);
	unmake(&m);
}

/* Puts a packed value with a good seal back: what another version might have written. */
static void reseal(struct made *m, uint8_t *packed, size_t len)
{
	char text[S3C_BASE64_LEN(PACKED_MAX) + 1];

	assert_int_equal(s3c_header_seal(&m->volume, &m->meta, packed, len, rel_key,
					 &m->header.size, packed + len),
			 0);
	s3c_base64_encode(packed, len + 32, text);
	assert_int_equal(s3c_meta_set(&m->meta, "s3cryptfs", text), 0);
}

static void test_unknown(void **state)
{
	uint8_t packed[PACKED_MAX];
	const char *text;
	struct made m;
	size_t len;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	text = s3c_meta_get(&m.meta, "s3cryptfs");
	assert_int_equal(s3c_base64_decode(text, strlen(text), packed, sizeof(packed), &len), 0);
	len -= 32;
	for (unsigned bit = 1; bit < 16; bit++) { /* flags; bit 0 is known */
		s3c_put_be16(packed + 2, (uint16_t)(1u << bit));
		reseal(&m, packed, len);
		assert_int_equal(decode_only(&m), -EPROTO);
	}
	s3c_put_be16(packed + 2, 1);
	reseal(&m, packed, len);
	assert_int_equal(decode_only(&m), 0);
	packed[0] = 2;
	reseal(&m, packed, len);
	assert_int_equal(decode_only(&m), -EPROTO);
	packed[0] = 1;
	packed[1] = 9;
	reseal(&m, packed, len);
	assert_int_equal(decode_only(&m), -EPROTO);
	packed[1] = 2;
	s3c_meta_set(&m.meta, "x-amz-wrap-alg", "s3cryptfs/other");
	reseal(&m, packed, len);
	assert_int_equal(decode_only(&m), -EPROTO);
	s3c_meta_set(&m.meta, "x-amz-wrap-alg", S3C_WRAP_ALG);
	s3c_meta_set(&m.meta, "x-amz-cek-alg", "s3cryptfs/AES256-GCM-64K/v2");
	reseal(&m, packed, len);
	assert_int_equal(decode_only(&m), -EPROTO);
	s3c_meta_set(&m.meta, "x-amz-cek-alg", S3C_CEK_ALG);
	memset(packed + 64, 0, 16); /* the salt of a hole, for content */
	reseal(&m, packed, len);
	assert_int_equal(decode_only(&m), -EBADMSG);
	unmake(&m);
}

/* Material descriptions under a good seal. */
static void test_matdesc(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "{\"s3cryptfs-key-id\":\"a\"}", 0 },
		{ "{\"other\":\"x\",\"s3cryptfs-key-id\":\"b.-_9\"}", 0 },
		{ "", -EBADMSG },
		{ "{}", -EBADMSG },
		{ "[]", -EBADMSG },
		{ "{\"s3cryptfs-key-id\":1}", -EBADMSG },
		{ "{\"s3cryptfs-key-id\":\"\"}", -EBADMSG },
		{ "{\"s3cryptfs-key-id\":\"a/b\"}", -EBADMSG },
		{ "{\"s3cryptfs-key-id\":\"a\",\"s3cryptfs-key-id\":\"b\"}", -EBADMSG },
		{ "{\"s3cryptfs-key-id\":\"0123456789012345678901234567890123456789012345678901234"
		  "5678901234\"}",
		  -EBADMSG },
	};
	uint8_t packed[PACKED_MAX];
	const char *text;
	struct made m;
	size_t len;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	text = s3c_meta_get(&m.meta, "s3cryptfs");
	assert_int_equal(s3c_base64_decode(text, strlen(text), packed, sizeof(packed), &len), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		s3c_meta_set(&m.meta, "x-amz-matdesc", cases[i].text);
		reseal(&m, packed, len - 32);
		assert_int_equal(decode_only(&m), cases[i].result);
	}
	unmake(&m);
}

static void test_foreign(void **state)
{
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	s3c_meta_remove(&m.meta, "s3cryptfs");
	assert_int_equal(decode_only(&m), -EBADMSG); /* its cek-alg says that it was ours */
	s3c_meta_set(&m.meta, "x-amz-cek-alg", "AES/GCM/NoPadding");
	assert_int_equal(decode_only(&m), -ENODATA);
	s3c_meta_free(&m.meta);
	m.meta = (struct s3c_meta){ 0 };
	assert_int_equal(decode_only(&m), -ENODATA);
	s3c_meta_set(&m.meta, "s3cryptfs", "no base64!");
	assert_int_equal(decode_only(&m), -EBADMSG);
	unmake(&m);
}

static void test_unwrap(void **state)
{
	cleanup_keyring struct s3c_keyring *other =
		keyring_of("[b]\nsecret=" KEY_A "\nstate=active\n");
	cleanup_keyring struct s3c_keyring *liar =
		keyring_of("[a]\nsecret=" KEY_B "\nstate=active\n");
	cleanup_keyring struct s3c_keyring *unfit =
		keyring_of("[b]\nsecret=" KEY_B "\nstate=active\n[a]\nuse=sse-c\nsecret=" KEY_A);
	struct s3c_header got;
	uint8_t key[32] = { 0 }, zero[32] = { 0 };
	char why[200];
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	assert_int_equal(decode(&m, 116, &got), 0);
	assert_int_equal(s3c_header_unwrap(&got, other, &m.volume, NULL, key, why, sizeof(why)),
			 -EACCES);
	assert_non_null(strstr(why, "master key a,"));
	assert_int_equal(s3c_header_unwrap(&got, liar, &m.volume, NULL, key, why, sizeof(why)),
			 -EBADMSG);
	assert_int_equal(s3c_header_unwrap(&got, unfit, &m.volume, NULL, key, why, sizeof(why)),
			 -EACCES);
	for (size_t bit = 0; bit < 256; bit++) {
		flip_bit(got.commitment, bit);
		assert_int_equal(s3c_header_unwrap(&got, m.ring, &m.volume, NULL, key, NULL, 0),
				 -EBADMSG);
		flip_bit(got.commitment, bit);
	}
	flip_bit(got.file_id, 0);
	assert_int_equal(s3c_header_unwrap(&got, m.ring, &m.volume, NULL, key, NULL, 0), -EBADMSG);
	assert_memory_equal(key, zero, 32);
	unmake(&m);
}

/* An object whose master key left the keyring can still be renamed; its key id stays. */
static void test_forgotten_key(void **state)
{
	cleanup_keyring struct s3c_keyring *other =
		keyring_of("[b]\nsecret=" KEY_B "\nstate=active\n");
	struct s3c_header got;
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	assert_int_equal(s3c_header_encode(&m.header, other, &m.volume, rel_key, &m.meta), 0);
	assert_string_equal(s3c_meta_get(&m.meta, "x-amz-matdesc"), "{\"s3cryptfs-key-id\":\"a\"}");
	assert_int_equal(decode(&m, 116, &got), 0);
	assert_string_equal(got.key_id, "a");
	unmake(&m);
}

static void test_new(void **state)
{
	struct s3c_header h = { .layout = S3C_LAYOUT_TRAILER, .generation = 5, .size = 6 };
	cleanup_keyring struct s3c_keyring *shared =
		keyring_of("[a]\nuse=sse-c\nsecret=" KEY_A "\nstate=active\n");
	struct s3c_header before;
	uint8_t key[32];
	struct made m, n;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	make(&n, S3C_LAYOUT_CHUNKS, 100);
	assert_memory_not_equal(m.data_key, n.data_key, 32);
	assert_memory_not_equal(m.header.file_id, n.header.file_id, 16);
	assert_memory_not_equal(m.header.content_id, n.header.content_id, 16);
	assert_memory_not_equal(m.header.op_id, n.header.op_id, 16);
	assert_int_equal(s3c_header_new(m.ring, &m.volume, NULL, &h, key, NULL, 0), 0);
	assert_int_equal(h.layout, S3C_LAYOUT_TRAILER);
	assert_int_equal(h.generation, 5);
	assert_int_equal(h.size, 6);
	memcpy(&before, &h, sizeof(h));
	assert_int_equal(s3c_header_new(shared, &m.volume, NULL, &h, key, NULL, 0), -EINVAL);
	assert_memory_equal(&before, &h, sizeof(h));
	unmake(&n);
	unmake(&m);
}

static void test_encode_refuses(void **state)
{
	struct s3c_header h;
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_CHUNKS, 100);
	h = m.header;
	h.layout = S3C_LAYOUT_PLAIN;
	assert_int_equal(s3c_header_encode(&h, m.ring, &m.volume, rel_key, &m.meta), -EINVAL);
	h = m.header;
	h.size = S3C_SEGMENT_SIZE + 1;
	assert_int_equal(s3c_header_encode(&h, m.ring, &m.volume, rel_key, &m.meta), -EINVAL);
	h = m.header;
	memset(h.salt, 0, sizeof(h.salt));
	assert_int_equal(s3c_header_encode(&h, m.ring, &m.volume, rel_key, &m.meta), -EINVAL);
	h.size = 0;
	assert_int_equal(s3c_header_encode(&h, m.ring, &m.volume, rel_key, &m.meta), 0);
	h = m.header;
	h.epoch = 2;
	assert_int_equal(s3c_header_encode(&h, m.ring, &m.volume, rel_key, &m.meta), -EINVAL);
	unmake(&m);
}

/* The longest of everything stays under S3's 2 KB, with the prefix of each name counted too. */
static void test_metadata_size(void **state)
{
	char id[S3C_KEY_ID_MAX + 1] = "", text[2048];
	struct s3c_volume volume = volume_by_hand(seal_key);
	struct s3c_header h = { .layout = S3C_LAYOUT_CHUNKS, .size = 1, .generation = UINT64_MAX };
	struct s3c_keyring *ring;
	struct s3c_meta meta = { 0 };
	size_t total = 0;
	uint8_t key[32];

	(void)state;
	memset(id, 'k', S3C_KEY_ID_MAX);
	snprintf(text, sizeof(text),
		 "[%s]\nsecret=" KEY_A "\nstate=active\n"
		 "desc.department-name=%0100d\ndesc.b=%0100d\ndesc.c=%0100d\ndesc.d=%0100d\n",
		 id, 1, 2, 3, 4);
	ring = keyring_of(text);
	assert_int_equal(s3c_header_new(ring, &volume, NULL, &h, key, NULL, 0), 0);
	s3c_salt_draw(h.salt);
	h.attrs = (struct s3c_attrs){ true,      0177777,   UINT32_MAX, UINT32_MAX, INT64_MIN,
				      INT64_MIN, INT64_MIN, 0,          NULL,       0 };
	assert_int_equal(s3c_header_encode(&h, ring, &volume, rel_key, &meta), 0);
	for (size_t i = 0; i < meta.count; i++) {
		total += strlen("x-amz-meta-") + strlen(meta.items[i].name) +
			 strlen(meta.items[i].value);
		for (const char *c = meta.items[i].value; *c; c++)
			assert_in_range(*c, ' ', '~');
	}
	assert_true(strlen(s3c_meta_get(&meta, "x-amz-matdesc")) > 500);
	assert_true(total + S3C_MATDESC_MAX - strlen(s3c_meta_get(&meta, "x-amz-matdesc")) < 2048);
	s3c_meta_free(&meta);
	s3c_keyring_free(ring);
}

static void test_attrs(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} times[] = {
		{ 0, "0" },
		{ 1, "0.000000001" },
		{ -1, "-0.000000001" },
		{ 1000000000, "1" },
		{ -1000000000, "-1" },
		{ -1500000000, "-1.500000000" },
		{ 1700000000123456789, "1700000000.123456789" },
		{ INT64_MAX, "9223372036.854775807" },
		{ INT64_MIN, "-9223372036.854775808" },
	};
	static const struct {
		const char *text;
		int64_t ns; /* 42: refused */
	} foreign[] = {
		{ "1.5", 1500000000 },
		{ "1.", 1000000000 },
		{ "1.0000000019", 1000000001 },
		{ "", 42 },
		{ "-", 42 },
		{ ".5", 42 },
		{ "1 ", 42 },
		{ "+1", 42 },
		{ "1e3", 42 },
		{ "9223372037", 42 },
		{ "9223372036.854775808", 42 },
		{ "-9223372036.854775809", 42 },
		{ "99999999999999999999999999", 42 },
	};
	struct s3c_meta meta = { 0 };
	struct s3c_attrs a = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		a.mtime_ns = times[i].ns;
		assert_int_equal(s3c_attrs_encode(&a, &meta), 0);
		assert_string_equal(s3c_meta_get(&meta, "mtime"), times[i].text);
		a.mtime_ns = 42;
		s3c_attrs_decode(&meta, &a);
		assert_int_equal(a.mtime_ns, times[i].ns);
	}
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		s3c_meta_set(&meta, "mtime", foreign[i].text);
		a.mtime_ns = 42;
		s3c_attrs_decode(&meta, &a);
		assert_int_equal(a.mtime_ns, foreign[i].ns);
	}
	a = (struct s3c_attrs){ .uid = 7 };
	s3c_meta_set(&meta, "mode", "0x81a4");
	s3c_meta_set(&meta, "uid", "-1");
	s3c_meta_set(&meta, "gid", "4294967296");
	s3c_attrs_decode(&meta, &a);
	assert_false(a.known);
	assert_int_equal(a.uid, 7);
	assert_int_equal(a.gid, 0);
	s3c_meta_free(&meta);
}

static void test_generation(void **state)
{
	uint64_t now = (uint64_t)s3c_clock_realtime_ns();

	(void)state;
	assert_true(s3c_generation_next(0) >= now);
	assert_int_equal(s3c_generation_next(now + (1ull << 50)), now + (1ull << 50) + 1);
	assert_int_equal(s3c_generation_next(UINT64_MAX), UINT64_MAX);
}

/* Names of a file that has several. */
static void test_reference(void **state)
{
	struct s3c_header got;
	struct made m;

	(void)state;
	make(&m, S3C_LAYOUT_REFERENCE, 0);
	assert_null(s3c_meta_get(&m.meta, "x-amz-key-v2"));
	assert_int_equal(decode(&m, S3C_REFERENCE_LEN, &got), 0);
	assert_int_equal(got.layout, S3C_LAYOUT_REFERENCE);
	assert_memory_equal(got.file_id, m.header.file_id, 16);
	assert_int_equal(got.size, 0);
	for (uint64_t size = 0; size < 100; size++)
		if (size != 5 && size != S3C_REFERENCE_LEN)
			assert_int_equal(decode(&m, size, &got), -EBADMSG);
	assert_int_equal(s3c_header_decode(&m.meta, &m.volume, "dir/other", S3C_REFERENCE_LEN, &got,
					   NULL, 0),
			 -EBADMSG);
	unmake(&m);
}

static void test_nlink(void **state)
{
	static const char body[] = S3C_BODY_DIR "00112233445566778899aabbccddeeff";
	static const unsigned counts[] = { 0, 1, 2, S3C_NLINK_MAX };
	uint8_t packed[S3C_BASE64_LEN(PACKED_MAX)], seal[32];
	struct s3c_header got;
	char text[256];
	struct made m;
	uint64_t size;
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		make(&m, S3C_LAYOUT_CHUNKS, 10);
		m.header.attrs.nlink = counts[i];
		assert_int_equal(s3c_header_encode(&m.header, m.ring, &m.volume, body, &m.meta), 0);
		assert_int_equal(s3c_header_decode(&m.meta, &m.volume, body, 26, &got, NULL, 0), 0);
		assert_int_equal(got.attrs.nlink, counts[i]);
		s3c_header_clear(&got);
		m.header.attrs.nlink = S3C_NLINK_MAX + 1;
		assert_int_equal(s3c_header_encode(&m.header, m.ring, &m.volume, body, &m.meta),
				 -EINVAL);
		/* Under any other name it is no count, but a flag that nobody knows. */
		m.header.attrs.nlink = 1;
		assert_int_equal(s3c_header_encode(&m.header, m.ring, &m.volume, rel_key, &m.meta),
				 -EINVAL);
		unmake(&m);
	}
	make(&m, S3C_LAYOUT_CHUNKS, 10);
	assert_int_equal(s3c_base64_decode(s3c_meta_get(&m.meta, "s3cryptfs"),
					   strlen(s3c_meta_get(&m.meta, "s3cryptfs")), packed,
					   sizeof(packed), &len),
			 0);
	packed[3] |= 0x10;
	size = 10;
	assert_int_equal(
		s3c_header_seal(&m.volume, &m.meta, packed, len - 32, rel_key, &size, seal), 0);
	memcpy(packed + len - 32, seal, 32);
	s3c_base64_encode(packed, len, text);
	s3c_meta_set(&m.meta, "s3cryptfs", text);
	assert_int_equal(decode(&m, 26, &got), -EPROTO);
	unmake(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_other_layouts),
		cmocka_unit_test(test_packed_bits),    cmocka_unit_test(test_items),
		cmocka_unit_test(test_boundaries),     cmocka_unit_test(test_moved),
		cmocka_unit_test(test_unknown),        cmocka_unit_test(test_matdesc),
		cmocka_unit_test(test_foreign),        cmocka_unit_test(test_unwrap),
		cmocka_unit_test(test_forgotten_key),  cmocka_unit_test(test_new),
		cmocka_unit_test(test_encode_refuses), cmocka_unit_test(test_metadata_size),
		cmocka_unit_test(test_attrs),          cmocka_unit_test(test_generation),
		cmocka_unit_test(test_reference),      cmocka_unit_test(test_nlink),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
