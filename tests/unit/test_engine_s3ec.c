/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The pass over an object of another client: who waits for it, who ends it, what is left of it. */
#include "engine_fixture.h"

#include <openssl/evp.h>

#define SIZE (20u * S3C_CHUNK_SIZE * 16u + 777u) /* 20 MiB and a little: three pieces */

#define SOON 1.2 /* seconds, after which the pass is at its second piece */

static const struct fx_options options = { .accept = S3C_ACCEPT_SEALED | S3C_ACCEPT_S3EC };
static uint8_t *plain;

static void base64_item(struct s3c_meta *meta, const char *name, const uint8_t *data, size_t len)
{
	char text[128];

	s3c_base64_encode(data, len, text);
	assert_int_equal(s3c_meta_set(meta, name, text), 0);
}

/* GCM under any key; the tag after the ciphertext. */
static void gcm(const uint8_t *key, const uint8_t *iv, const char *aad, const uint8_t *data,
		size_t len, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n;

	assert_int_equal(EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, iv), 1);
	if (aad)
		assert_int_equal(
			EVP_EncryptUpdate(ctx, NULL, &n, (const uint8_t *)aad, (int)strlen(aad)),
			1);
	assert_int_equal(EVP_EncryptUpdate(ctx, out, &n, data, (int)len), 1);
	assert_int_equal(EVP_EncryptFinal_ex(ctx, out + len, &n), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out + len), 1);
	EVP_CIPHER_CTX_free(ctx);
}

/* As a client writes it, V2 with AES/GCM under the active key. */
static void their_put(struct fx *fx, const char *key, size_t len, bool altered)
{
	uint8_t wrapped[60], data_key[32], iv[12], *body = malloc(len + 16);
	struct s3c_meta meta = { 0 };

	s3c_random(data_key, sizeof(data_key));
	s3c_random(iv, sizeof(iv));
	s3c_random(wrapped, 12);
	gcm(s3c_keyring_active(fx->keyring)->secret, wrapped, "AES/GCM/NoPadding", data_key, 32,
	    wrapped + 12);
	gcm(data_key, iv, NULL, plain, len, body);
	body[len] ^= altered;
	base64_item(&meta, "x-amz-key-v2", wrapped, sizeof(wrapped));
	base64_item(&meta, "x-amz-iv", iv, sizeof(iv));
	s3c_meta_set(&meta, "x-amz-wrap-alg", "AES/GCM");
	s3c_meta_set(&meta, "x-amz-cek-alg", "AES/GCM/NoPadding");
	s3c_meta_set(&meta, "x-amz-tag-len", "128");
	s3c_meta_set(&meta, "x-amz-matdesc", "{}");
	hand_put(fx, key, &meta, body, len + 16);
	s3c_meta_free(&meta);
	free(body);
}

static void begin(struct fx *fx, size_t len, bool altered)
{
	fx_open(fx, &options);
	fx_start(fx, &options);
	their_put(fx, "f", len, altered);
	fx_requests(fx);
}

static struct s3c_object *open_f(struct fx *fx)
{
	struct s3c_object *object;
	struct s3c_op op;

	s3c_op_init(&op, s3c_deadline_after(20));
	assert_int_equal(s3c_object_open(fx->engine, &op, "f", &object), 0);
	s3c_op_destroy(&op);
	return object;
}

/* The result; right content is checked. */
static int read_at(struct fx *fx, struct s3c_object *object, uint64_t offset, double seconds)
{
	struct s3c_pages pages = { 0 };
	struct s3c_op op;
	int r;

	s3c_op_init(&op, s3c_deadline_after(seconds));
	r = s3c_object_read(object, &op, offset, 1000, NULL, &pages);
	s3c_op_destroy(&op);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < pages.count; i++) {
		assert_memory_equal(pages.iov[i].iov_base, plain + offset, pages.iov[i].iov_len);
		offset += pages.iov[i].iov_len;
	}
	s3c_pages_release(fx->engine, &pages);
	return 0;
}

static void stall(struct fx *fx, unsigned after)
{
	const struct s3c_fault_rule rule = {
		.op = S3C_STORE_GET,
		.key_substring = "f",
		.kind = S3C_FAULT_STALL,
		.after = after,
		.times = 1,
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void test_reads(void **state)
{
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	fx_requests(&fx);
	assert_int_equal(read_at(&fx, object, SIZE - 1000, 20), 0);
	assert_requests(&fx, "GET 4"); /* three pieces, and the chunk */
	assert_int_equal(read_at(&fx, object, SIZE - 500, 20), 0);
	assert_int_equal(read_at(&fx, object, SIZE / 2, 20), 0);
	assert_requests(&fx, "GET 1");
	/* Closed and opened again: it is known still. */
	s3c_object_close(object);
	object = open_f(&fx);
	assert_int_equal(read_at(&fx, object, 0, 20), 0);
	assert_requests(&fx, "GET 1");
	s3c_object_close(object);
	fx_end(&fx);
}

/* Whoever gives up does not end it. */
static void test_goes_on(void **state)
{
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	fx_requests(&fx);
	stall(&fx, 1);
	assert_int_equal(read_at(&fx, object, 5, SOON), -ETIMEDOUT);
	s3c_store_fault_release(fx.store);
	assert_int_equal(read_at(&fx, object, 5, 20), 0);
	assert_requests(&fx, "GET 4");
	s3c_object_close(object);
	fx_end(&fx);
}

/* Closed, and nobody waits: it ends, and the next reader begins anew. */
static void test_is_given_up(void **state)
{
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	fx_requests(&fx);
	stall(&fx, 1);
	assert_int_equal(read_at(&fx, object, 5, SOON), -ETIMEDOUT);
	s3c_object_close(object);
	s3c_store_fault_release(fx.store);
	usleep(300000);
	assert_requests(&fx, "GET 2");
	object = open_f(&fx);
	assert_int_equal(read_at(&fx, object, 5, 20), 0);
	assert_requests(&fx, "GET 4");
	s3c_object_close(object);
	fx_end(&fx);
}

static void test_engine_ends(void **state)
{
	struct s3c_object *object;
	struct fx fx;
	int64_t begun;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	stall(&fx, 1);
	assert_int_equal(read_at(&fx, object, 5, SOON), -ETIMEDOUT);
	begun = s3c_clock_monotonic_ns();
	s3c_object_close(object);
	fx_end(&fx);
	assert_true(s3c_clock_monotonic_ns() - begun < 5 * S3C_NSEC_PER_SEC);
}

/* A failed request is the reader's error; the next one begins anew. */
static void test_store_fails(void **state)
{
	const struct s3c_fault_rule rule = {
		.op = S3C_STORE_GET,
		.key_substring = "f",
		.kind = S3C_FAULT_FAIL,
		.result = -ECONNRESET,
		.after = 2,
		.times = 1,
	};
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	assert_int_equal(s3c_store_fault_add(fx.store, &rule), 0);
	assert_true(read_at(&fx, object, 5, 20) < 0);
	assert_int_equal(read_at(&fx, object, 5, 20), 0);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Not a byte, and not a second pass over the same version. */
static void test_altered(void **state)
{
	static const size_t sizes[] = { SIZE, 5000 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		struct s3c_object *object;
		struct fx fx;

		begin(&fx, sizes[i], true);
		object = open_f(&fx);
		assert_int_equal(read_at(&fx, object, 5, 20), -EIO);
		fx_requests(&fx);
		assert_int_equal(read_at(&fx, object, 0, 20), -EIO);
		assert_requests(&fx, "");
		s3c_object_close(object);
		fx_end(&fx);
	}
}

/* Another version under way, as another machine writes it. */
static void test_replaced_meanwhile(void **state)
{
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	stall(&fx, 1);
	assert_int_equal(read_at(&fx, object, 5, SOON), -ETIMEDOUT);
	their_put(&fx, "f", SIZE, false);
	s3c_store_fault_release(fx.store);
	assert_int_equal(read_at(&fx, object, 5, 20), -ESTALE);
	s3c_object_close(object);
	object = open_f(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

/* What is known of closed objects is bounded: the oldest is verified again. */
static void test_trim(void **state)
{
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	begin(&fx, SIZE, false);
	object = open_f(&fx);
	assert_int_equal(read_at(&fx, object, 0, 20), 0);
	fx_requests(&fx);
	s3c_mutex_lock(&fx.engine->lock);
	fx.engine->config.memory = 8;
	s3c_mutex_unlock(&fx.engine->lock);
	s3c_object_close(object);
	usleep(200000); /* the fetch lets go of it a moment after its reader has gone on */
	object = open_f(&fx);
	/* What was read is in memory; the rest needs the pass. */
	assert_int_equal(read_at(&fx, object, 0, 20), 0);
	assert_requests(&fx, "");
	assert_int_equal(read_at(&fx, object, SIZE / 2, 20), 0);
	assert_requests(&fx, "GET 4");
	s3c_object_close(object);
	fx_end(&fx);
}

static int make_plain(void **state)
{
	(void)state;
	plain = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		plain[i] = (uint8_t)(i * 2654435761u >> 13);
	return 0;
}

static int free_plain(void **state)
{
	(void)state;
	free(plain);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_is_given_up),
		cmocka_unit_test(test_engine_ends),
		cmocka_unit_test(test_store_fails),
		cmocka_unit_test(test_altered),
		cmocka_unit_test(test_replaced_meanwhile),
		cmocka_unit_test(test_trim),
	};

	if (s3c_secret_init() < 0)
		return 99;
	return cmocka_run_group_tests(tests, make_plain, free_plain);
}
