/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object_fixture.h"

#include "key/wrap.h"

static const uint8_t id_a[16] = { 1, 2, 3 }, id_b[16] = { 1, 2, 4 };

static struct s3c_keyring *two_keys(void)
{
	return keyring_of("[a]\nsecret=" KEY_A "\nstate=active\n[b]\nsecret=" KEY_B "\n"
			  "[shared]\nuse=sse-c\nsecret=" KEY_C "\n"
			  "[short]\nsecret=AAECAwQFBgcICQoLDA0ODw==\n");
}

static void test_round_trip(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = two_keys();
	const struct s3c_master_key *a = s3c_keyring_find(ring, "a");
	uint8_t data_key[32], got[32] = { 0 }, w1[S3C_WRAP_LEN], w2[S3C_WRAP_LEN];

	(void)state;
	count_up(data_key, 32, 7);
	assert_int_equal(s3c_wrap_seal(a, "alg", id_a, data_key, w1), 0);
	assert_int_equal(s3c_wrap_seal(a, "alg", id_a, data_key, w2), 0);
	assert_memory_not_equal(w1, w2, S3C_WRAP_LEN);
	assert_memory_not_equal(w1 + 32, w2 + 32, 32);
	assert_int_equal(s3c_wrap_open(a, "alg", id_a, w1, got), 0);
	assert_memory_equal(got, data_key, 32);
}

static void test_refused(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = two_keys();
	const struct s3c_master_key *a = s3c_keyring_find(ring, "a");
	const struct s3c_master_key *b = s3c_keyring_find(ring, "b");
	uint8_t data_key[32] = { 5 }, got[32], before[32], w[S3C_WRAP_LEN];

	(void)state;
	memset(before, 0xee, sizeof(before));
	memcpy(got, before, sizeof(got));
	assert_int_equal(s3c_wrap_seal(a, "alg", id_a, data_key, w), 0);
	for (size_t bit = 0; bit < 8 * sizeof(w); bit++) {
		flip_bit(w, bit);
		assert_int_equal(s3c_wrap_open(a, "alg", id_a, w, got), -EBADMSG);
		flip_bit(w, bit);
	}
	assert_int_equal(s3c_wrap_open(b, "alg", id_a, w, got), -EBADMSG);
	assert_int_equal(s3c_wrap_open(a, "alh", id_a, w, got), -EBADMSG);
	assert_int_equal(s3c_wrap_open(a, "al", id_a, w, got), -EBADMSG);
	assert_int_equal(s3c_wrap_open(a, "alg", id_b, w, got), -EBADMSG);
	assert_memory_equal(got, before, sizeof(got));
	assert_int_equal(s3c_wrap_open(a, "alg", id_a, w, got), 0);
}

/* Keys that must not wrap: sent to the store, too short. */
static void test_unfit_keys(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = two_keys();
	const struct s3c_master_key *shared = s3c_keyring_find(ring, "shared");
	const struct s3c_master_key *brief = s3c_keyring_find(ring, "short");
	uint8_t key[32] = { 5 }, w[S3C_WRAP_LEN] = { 0 };

	(void)state;
	assert_int_equal(s3c_wrap_seal(shared, "alg", id_a, key, w), -EINVAL);
	assert_int_equal(s3c_wrap_open(shared, "alg", id_a, w, key), -EINVAL);
	assert_int_equal(s3c_derive_ssec_key(shared, id_a, "k", key), -EINVAL);
	assert_int_equal(s3c_derive_ssec_check(shared, id_a, key), 0);
	assert_int_equal(s3c_wrap_seal(brief, "alg", id_a, key, w), -EINVAL);
	assert_int_equal(s3c_derive_ssec_key(brief, id_a, "k", key), -EINVAL);
	assert_int_equal(s3c_derive_ssec_check(brief, id_a, key), -EINVAL);
}

static void test_ssec(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = two_keys();
	const struct s3c_master_key *a = s3c_keyring_find(ring, "a");
	const struct s3c_master_key *b = s3c_keyring_find(ring, "b");
	static const char *const names[] = { "", "k", "k2", "p/k", " check" };
	uint8_t keys[ARRAY_LEN(names) + 3][32];
	char longest[1026];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(s3c_derive_ssec_key(a, id_a, names[i], keys[i]), 0);
	assert_int_equal(s3c_derive_ssec_key(a, id_b, "k", keys[ARRAY_LEN(names)]), 0);
	assert_int_equal(s3c_derive_ssec_key(b, id_a, "k", keys[ARRAY_LEN(names) + 1]), 0);
	assert_int_equal(s3c_derive_ssec_check(a, id_a, keys[ARRAY_LEN(names) + 2]), 0);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(keys[i], keys[j], 32);
	memset(longest, 'x', sizeof(longest));
	longest[1024] = '\0';
	assert_int_equal(s3c_derive_ssec_key(a, id_a, longest, keys[0]), 0);
	longest[1024] = 'x';
	longest[1025] = '\0';
	assert_int_equal(s3c_derive_ssec_key(a, id_a, longest, keys[0]), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_unfit_keys),
		cmocka_unit_test(test_ssec),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
