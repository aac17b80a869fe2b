/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The worked example of doc/format.md, byte by byte, in both directions. */
#include "object_fixture.h"

#include "key/wrap.h"
#include "object/trailer.h"

#include <sys/stat.h>

struct example {
	char *doc;
	struct s3c_keyring *keyring;
	struct s3c_volume *volume;
};

static int setup(void **state)
{
	static struct example ex;
	cleanup_free char *block = NULL, *id = NULL, *secret = NULL, *body = NULL, *text = NULL;
	cleanup_free char *team = NULL;

	if (fixture_setup(state) < 0)
		return -1;
	ex.doc = format_doc();
	block = example_block(ex.doc, "keyring");
	id = example_value(block, "key-id");
	secret = example_value(block, "secret");
	team = example_value(block, "desc.team");
	text = s3c_asprintf("[%s]\nsecret = %s\nstate = active\ndesc.team = %s\n", id, secret,
			    team);
	ex.keyring = keyring_of(text);
	body = example_block(ex.doc, "volume-body");
	if (s3c_volume_open(body, strlen(body), ex.keyring, NULL, &ex.volume) < 0)
		return -1;
	*state = &ex;
	return 0;
}

static int teardown(void **state)
{
	struct example *ex = *state;

	s3c_volume_free(ex->volume);
	s3c_keyring_free(ex->keyring);
	free(ex->doc);
	return 0;
}

/* The volume key of a volume, by the wrap of its only slot. */
static void test_volume(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "volume");
	cleanup_free char *keys = example_block(ex->doc, "keyring");
	cleanup_free char *body = example_block(ex->doc, "volume-body");
	struct s3c_master_key volume_master = { .secret_len = 32,
						.secret = ex->volume->newest->keys };
	uint8_t want[32], got[32], wrapped[S3C_WRAP_LEN];
	const char *name_key = strstr(body, "\"name_key\": \"");
	size_t len;

	assert_int_equal(ex->volume->family, S3C_FAMILY_CSE);
	assert_int_equal(ex->volume->serial, 1);
	assert_int_equal(ex->volume->epoch, 1);
	assert_null(ex->volume->names_key);
	assert_true(ex->volume->active_slot);
	example_fixed(block, "id", want, 16);
	assert_memory_equal(ex->volume->id, want, 16);
	example_fixed(block, "volume-key", want, 32);
	assert_memory_equal(ex->volume->newest->keys, want, 32);
	example_fixed(block, "seal-key", want, 32);
	assert_memory_equal(s3c_volume_seal_key(ex->volume, 1), want, 32);
	example_fixed(keys, "secret-hex", want, 32);
	assert_memory_equal(s3c_keyring_active(ex->keyring)->secret, want, 32);

	assert_non_null(name_key);
	assert_int_equal(s3c_base64_decode(name_key + 13, S3C_BASE64_LEN(S3C_WRAP_LEN), wrapped,
					   sizeof(wrapped), &len),
			 0);
	assert_int_equal(s3c_wrap_open(&volume_master, "s3cryptfs/name-key/v1", ex->volume->id,
				       wrapped, got),
			 0);
	example_fixed(block, "name-key", want, 32);
	assert_memory_equal(got, want, 32);
}

/* Every meta.NAME of the block, and no more. */
static void expect_meta(const char *block, const struct s3c_meta *meta)
{
	size_t count = 0;

	for (const char *p = strstr(block, "\nmeta."); p; p = strstr(p + 1, "\nmeta."))
		count++;
	assert_int_equal(meta->count, count);
	for (size_t i = 0; i < meta->count; i++) {
		cleanup_free char *name = s3c_asprintf("meta.%s", meta->items[i].name);
		cleanup_free char *want = example_value(block, name);

		if (!want)
			fail_msg("%s is not in the example", name);
		assert_string_equal(meta->items[i].value, want);
	}
}

static struct s3c_meta meta_of(const char *block)
{
	struct s3c_meta meta = { 0 };

	for (const char *p = strstr(block, "\nmeta."); p; p = strstr(p + 1, "\nmeta.")) {
		const char *name = p + 6, *equals = strstr(name, " = ");
		cleanup_free char *n = strndup(name, (size_t)(equals - name));
		cleanup_free char *v = strndup(equals + 3, strcspn(equals + 3, "\n"));

		assert_int_equal(s3c_meta_set(&meta, n, v), 0);
	}
	return meta;
}

/* The header of an example object as a program that writes it would have it. */
static struct s3c_header header_of(const struct example *ex, const char *block,
				   enum s3c_layout layout, const struct s3c_attrs *attrs)
{
	struct s3c_header h = { .layout = layout, .attrs = *attrs, .epoch = 1 };
	cleanup_free char *wrapped = example_value(block, "meta.x-amz-key-v2");
	size_t len;

	h.generation = example_number(block, "generation");
	example_fixed(block, "file-id", h.file_id, sizeof(h.file_id));
	example_fixed(block, "content-id", h.content_id, sizeof(h.content_id));
	example_fixed(block, "operation-id", h.op_id, sizeof(h.op_id));
	if (layout == S3C_LAYOUT_CHUNKS)
		example_fixed(block, "salt", h.salt, sizeof(h.salt));
	if (layout != S3C_LAYOUT_NONE) {
		example_fixed(block, "commitment", h.commitment, sizeof(h.commitment));
		assert_int_equal(s3c_base64_decode(wrapped, strlen(wrapped), h.wrapped,
						   sizeof(h.wrapped), &len),
				 0);
		memcpy(h.key_id, s3c_keyring_active(ex->keyring)->id, sizeof(h.key_id));
	}
	return h;
}

static const struct s3c_attrs file_attrs = {
	.known = true,
	.mode = S_IFREG | 0644,
	.uid = 1000,
	.gid = 1000,
	.mtime_ns = 1700000000123456789,
	.atime_ns = 1700000001000000000,
	.ctime_ns = 1700000002000000005,
};

/* Encodes to the example's metadata and decodes them again; the data key when there is one. */
static struct s3c_header check_header(const struct example *ex, const char *block,
				      const struct s3c_header *h, uint8_t *ret_data_key)
{
	cleanup_free char *rel_key = example_value(block, "relative-key");
	uint64_t stored = example_number(block, "stored-size");
	struct s3c_meta made = { 0 }, meta = meta_of(block);
	uint8_t want[32], packed[144], seal[32];
	struct s3c_header got;
	char why[200] = "";
	size_t len;

	assert_int_equal(s3c_header_encode(h, ex->keyring, ex->volume, rel_key, &made), 0);
	expect_meta(block, &made);
	if (s3c_header_decode(&meta, ex->volume, rel_key, stored, &got, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(got.layout, h->layout);
	assert_int_equal(got.generation, h->generation);
	assert_int_equal(got.size, h->size);
	assert_int_equal(got.attrs.mtime_ns, h->attrs.mtime_ns);
	assert_int_equal(got.attrs.mode, h->attrs.mode);
	assert_memory_equal(got.op_id, h->op_id, sizeof(h->op_id));
	assert_string_equal(got.key_id, h->key_id);
	assert_int_equal(s3c_base64_decode(s3c_meta_get(&meta, "s3cryptfs"),
					   strlen(s3c_meta_get(&meta, "s3cryptfs")), packed,
					   sizeof(packed), &len),
			 0);
	assert_int_equal(s3c_header_seal(ex->volume, &meta, packed, len - 32, rel_key,
					 h->layout == S3C_LAYOUT_CHUNKS ? &h->size : NULL, seal),
			 0);
	example_fixed(block, "seal", want, sizeof(want));
	assert_memory_equal(seal, want, sizeof(want));
	if (ret_data_key) {
		assert_int_equal(s3c_header_unwrap(&got, ex->keyring, ex->volume, NULL,
						   ret_data_key, why, sizeof(why)),
				 0);
		example_fixed(block, "data-key", want, sizeof(want));
		assert_memory_equal(ret_data_key, want, sizeof(want));
	}
	s3c_meta_free(&made);
	s3c_meta_free(&meta);
	return got;
}

static void check_sha256(const char *block, const char *name, const void *data, size_t len)
{
	uint8_t want[32], got[32];

	example_fixed(block, name, want, sizeof(want));
	assert_int_equal(s3c_sha256(data, len, got), 0);
	assert_memory_equal(got, want, sizeof(want));
}

static void test_file(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "file");
	struct s3c_header h = header_of(ex, block, S3C_LAYOUT_CHUNKS, &file_attrs), got;
	struct s3c_segment_cipher *cipher;
	uint8_t data_key[32], made[21], plain[5];
	size_t plain_len, body_len;
	cleanup_free uint8_t *want = example_bytes(block, "plaintext", &plain_len);
	cleanup_free uint8_t *body = example_bytes(block, "body", &body_len);

	assert_int_equal(plain_len, 5);
	assert_int_equal(body_len, 21);
	h.size = plain_len;
	got = check_header(ex, block, &h, data_key);
	assert_memory_equal(got.salt, h.salt, sizeof(h.salt));
	assert_int_equal(s3c_segment_cipher_new(data_key, got.file_id, 0, got.salt, &cipher), 0);
	assert_int_equal(s3c_chunk_open(cipher, 0, body, 21, plain), 0);
	assert_memory_equal(plain, want, 5);
	assert_int_equal(s3c_chunk_seal(cipher, 0, plain, 5, made), 0);
	assert_memory_equal(made, body, 21);
	check_sha256(block, "body-sha256", body, body_len);
	s3c_segment_cipher_free(cipher);
}

static void test_empty(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "empty");
	struct s3c_attrs attrs = file_attrs;
	struct s3c_header h;
	uint8_t data_key[32];

	attrs.mtime_ns = -1500000000;
	attrs.atime_ns = attrs.ctime_ns = 0;
	h = header_of(ex, block, S3C_LAYOUT_CHUNKS, &attrs);
	check_header(ex, block, &h, data_key);
	check_sha256(block, "body-sha256", "", 0);
}

static void test_directory(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "directory");
	struct s3c_attrs attrs = file_attrs;
	struct s3c_header h;

	attrs.mode = S_IFDIR | 0755;
	h = header_of(ex, block, S3C_LAYOUT_NONE, &attrs);
	check_header(ex, block, &h, NULL);
}

/* A directory with a long name, where names are encrypted. */
static void test_long_name(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "long-name");
	cleanup_free char *rel_key = example_value(block, "relative-key");
	cleanup_free char *item = example_value(block, "meta.s3cryptfs-name");
	struct s3c_attrs attrs = file_attrs;
	struct s3c_meta made = { 0 };
	struct s3c_header h;

	attrs.mode = S_IFDIR | 0755;
	h = header_of(ex, block, S3C_LAYOUT_NONE, &attrs);
	assert_int_equal(s3c_meta_set(&made, "s3cryptfs-name", item), 0);
	assert_int_equal(s3c_header_encode(&h, ex->keyring, ex->volume, rel_key, &made), 0);
	expect_meta(block, &made);
	s3c_meta_free(&made);
}

/* Seals a segment of the example into *out. */
static void seal_segment(const struct s3c_header *h, const uint8_t *data_key, uint64_t segment,
			 const uint8_t *salt, const uint8_t *plain, size_t len, struct s3c_buf *out)
{
	static uint8_t stored[S3C_CHUNK_STRIDE];
	struct s3c_segment_cipher *cipher;

	assert_int_equal(s3c_segment_cipher_new(data_key, h->file_id, segment, salt, &cipher), 0);
	for (unsigned c = 0; c * S3C_CHUNK_SIZE < len; c++) {
		uint32_t n = s3c_chunk_plain_len(len, c);

		assert_int_equal(s3c_chunk_seal(cipher, c, plain + c * S3C_CHUNK_SIZE, n, stored),
				 0);
		assert_int_equal(s3c_buf_append(out, stored, n + S3C_TAG_LEN), 0);
	}
	s3c_segment_cipher_free(cipher);
}

static void test_large(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "large");
	struct s3c_header h = header_of(ex, block, S3C_LAYOUT_TRAILER, &file_attrs), got;
	uint64_t size = example_number(block, "size");
	struct s3c_footer footer = { .size = size, .segments = 3 }, read;
	struct s3c_buf body = { .max = 32u << 20 };
	uint8_t data_key[32], salts[48];
	size_t trailer_len, seg0;
	cleanup_free uint8_t *trailer = example_bytes(block, "trailer", &trailer_len);
	uint8_t *plain = malloc(size);
	char why[200] = "";

	footer.mtime_ns = (int64_t)example_number(block, "footer-mtime-ns");
	memcpy(footer.content_id, h.content_id, sizeof(h.content_id));
	got = check_header(ex, block, &h, data_key);
	example_fixed(block, "salt-0", salts, 16);
	example_fixed(block, "salt-1", salts + 16, 16);
	example_fixed(block, "salt-2", salts + 32, 16);
	assert_true(s3c_salt_is_hole(salts + 16));
	assert_int_equal(s3c_segment_count(size), 3);
	for (size_t i = 0; i < size; i++)
		plain[i] = i / S3C_SEGMENT_SIZE == 1 ? 0 : (uint8_t)(i % 251);
	check_sha256(block, "plaintext-sha256", plain, size);

	seal_segment(&h, data_key, 0, salts, plain, S3C_SEGMENT_SIZE, &body);
	seg0 = body.len;
	assert_int_equal(seg0, example_number(block, "segment-0-size"));
	check_sha256(block, "segment-0-sha256", body.data, seg0);
	seal_segment(&h, data_key, 2, salts + 32, plain + 2 * S3C_SEGMENT_SIZE,
		     size - 2 * S3C_SEGMENT_SIZE, &body);
	assert_int_equal(body.len - seg0, example_number(block, "segment-2-size"));
	check_sha256(block, "segment-2-sha256", body.data + seg0, body.len - seg0);
	assert_int_equal(s3c_trailer_encode(&footer, salts, data_key, &h, ex->volume, &body), 0);
	assert_int_equal(body.len, example_number(block, "stored-size"));
	assert_int_equal(trailer_len, s3c_trailer_len(3));
	assert_memory_equal(body.data + body.len - trailer_len, trailer, trailer_len);
	check_sha256(block, "body-sha256", body.data, body.len);

	if (s3c_footer_decode(trailer, trailer_len, body.len, &got, ex->volume, &read, why,
			      sizeof(why)) < 0 ||
	    s3c_table_verify(trailer, trailer + 48, &read, body.len, data_key, &got, why,
			     sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(read.size, size);
	assert_int_equal(read.mtime_ns, footer.mtime_ns);
	s3c_buf_free(&body);
	free(plain);
}

static void test_ssec(void **state)
{
	struct example *ex = *state;
	cleanup_free char *block = example_block(ex->doc, "ssec");
	cleanup_free char *body = example_block(ex->doc, "ssec-volume-body");
	cleanup_free char *object_key = example_value(block, "object-key");
	cleanup_free char *md5_text = example_value(block, "customer-key-md5");
	const struct s3c_master_key *key = s3c_keyring_active(ex->keyring);
	uint8_t got[32], want[32], md5[16];
	char base64[S3C_BASE64_LEN(16) + 1];
	struct s3c_volume *volume;

	assert_int_equal(s3c_derive_ssec_key(key, ex->volume->id, object_key, got), 0);
	example_fixed(block, "customer-key", want, 32);
	assert_memory_equal(got, want, 32);
	assert_int_equal(s3c_md5(got, 32, md5), 0);
	s3c_base64_encode(md5, 16, base64);
	assert_string_equal(base64, md5_text);
	assert_int_equal(s3c_derive_ssec_check(key, ex->volume->id, got), 0);
	example_fixed(block, "check", want, 32);
	assert_memory_equal(got, want, 32);
	assert_int_equal(s3c_volume_open(body, strlen(body), ex->keyring, NULL, &volume), 0);
	assert_int_equal(volume->family, S3C_FAMILY_SSEC);
	assert_false(volume->ssec_shared);
	assert_true(volume->active_slot);
	assert_ptr_equal(volume->ssec_key, key);
	s3c_volume_free(volume);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_volume),    cmocka_unit_test(test_file),
		cmocka_unit_test(test_empty),     cmocka_unit_test(test_directory),
		cmocka_unit_test(test_long_name), cmocka_unit_test(test_large),
		cmocka_unit_test(test_ssec),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
