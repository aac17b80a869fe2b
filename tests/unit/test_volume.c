/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object_fixture.h"

#include "object/volume_private.h"

#define RING_A "[a]\nsecret=" KEY_A "\nstate=active\n"
#define RING_AB RING_A "[b]\nsecret=" KEY_B "\n"
#define RING_B "[b]\nsecret=" KEY_B "\nstate=active\n"
#define RING_LIAR "[a]\nsecret=" KEY_B "\nstate=active\n"
#define RING_AC RING_A "[c]\nsecret=" KEY_C "\n"
#define RING_SHARED "[s]\nuse=sse-c\nsecret=" KEY_C "\nstate=active\n"
#define RING_MIXED "[s]\nuse=sse-c\nsecret=" KEY_C "\n" RING_A

static int open_with(const struct s3c_buf *body, const char *ring_text, struct s3c_volume **ret)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(ring_text);
	struct s3c_err err = { 0 };
	int r;

	r = s3c_volume_open(body->data, body->len, ring, &err, ret);
	assert_true(r == 0 || err.text[0]);
	if (r == 0) /* borrowed from the ring that goes away */
		(*ret)->ssec_key = NULL;
	return r;
}

static int try_open(const struct s3c_buf *body, const char *ring_text)
{
	cleanup_volume struct s3c_volume *volume = NULL;

	return open_with(body, ring_text, &volume);
}

static struct s3c_buf create(enum s3c_family family, bool shared, const char *ring_text,
			     struct s3c_volume **ret_volume)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(ring_text);
	struct s3c_buf body = { 0 };
	struct s3c_volume *volume;

	assert_int_equal(s3c_volume_create(family, shared, false, ring, NULL, &volume, &body), 0);
	volume->ssec_key = NULL;
	if (ret_volume)
		*ret_volume = volume;
	else
		s3c_volume_free(volume);
	return body;
}

static const uint8_t *seal_of(const struct s3c_volume *volume)
{
	return s3c_volume_seal_key(volume, volume->epoch);
}

static void test_cse(void **state)
{
	static const char *const rings[] = { RING_A, RING_AB, RING_B, RING_AC, RING_MIXED };
	struct s3c_volume *made;
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_AB, &made);

	(void)state;
	assert_int_equal(made->serial, 1);
	assert_int_equal(made->epoch, 1);
	for (size_t i = 0; i < ARRAY_LEN(rings); i++) {
		cleanup_volume struct s3c_volume *v = NULL;

		assert_int_equal(open_with(&body, rings[i], &v), 0);
		assert_int_equal(v->family, S3C_FAMILY_CSE);
		assert_int_equal(v->serial, 1);
		assert_memory_equal(v->id, made->id, 16);
		assert_memory_equal(seal_of(v), seal_of(made), 32);
		assert_memory_not_equal(seal_of(v), v->newest->keys, 32);
		assert_true(v->active_slot);
	}
	assert_int_equal(try_open(&body, RING_LIAR), -EKEYREJECTED);
	assert_int_equal(try_open(&body, "[d]\nsecret=" KEY_C "\nstate=active"), -EKEYREJECTED);
	assert_int_equal(try_open(&body, RING_SHARED), -EKEYREJECTED);
	s3c_volume_free(made);
	s3c_buf_free(&body);
}

/* The choice of names stands in the body; their key is kept through changes of the slots. */
static void test_encrypted_names(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_A), *more = keyring_of(RING_AC);
	cleanup_buf struct s3c_buf body = { 0 }, second = { 0 };
	cleanup_volume struct s3c_volume *made = NULL, *again = NULL, *with_c = NULL;
	size_t added;

	(void)state;
	assert_int_equal(s3c_volume_create(S3C_FAMILY_CSE, false, true, ring, NULL, &made, &body),
			 0);
	assert_non_null(strstr(body.data, "\"names\": \"encrypted\""));
	assert_non_null(made->names_key);
	assert_int_equal(open_with(&body, RING_A, &again), 0);
	assert_memory_equal(again->names_key, made->names_key, S3C_SIV_KEY_LEN);
	assert_memory_not_equal(again->names_key, again->names_key + 32, 32);
	assert_int_equal(s3c_volume_add_keys(body.data, body.len, more, NULL, &added, &second), 0);
	assert_int_equal(added, 1);
	assert_int_equal(open_with(&second, RING_AC, &with_c), 0);
	assert_memory_equal(with_c->names_key, made->names_key, S3C_SIV_KEY_LEN);
}

static void test_distinct(void **state)
{
	struct s3c_volume *a, *b;
	struct s3c_buf body_a = create(S3C_FAMILY_CSE, false, RING_A, &a);
	struct s3c_buf body_b = create(S3C_FAMILY_CSE, false, RING_A, &b);

	(void)state;
	assert_memory_not_equal(a->id, b->id, 16);
	assert_memory_not_equal(a->newest->keys, b->newest->keys, 32);
	assert_memory_not_equal(seal_of(a), seal_of(b), 32);
	s3c_volume_free(a);
	s3c_volume_free(b);
	s3c_buf_free(&body_a);
	s3c_buf_free(&body_b);
}

/* Any altered bit of the body is refused, for bodies with an HMAC; every truncation too. */
static void test_bits(void **state)
{
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, NULL);
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_A);
	size_t len = body.len;

	(void)state;
	for (size_t bit = 0; bit < 8 * len; bit++) {
		struct s3c_volume *volume = NULL;
		int r;

		flip_bit(body.data, bit);
		r = s3c_volume_open(body.data, len, ring, NULL, &volume);
		if (r != -EBADMSG && r != -EKEYREJECTED && r != -EPROTO)
			fail_msg("bit %zu: %d", bit, r);
		flip_bit(body.data, bit);
	}
	for (size_t cut = 0; cut < len; cut++) {
		body.len = cut;
		assert_int_not_equal(try_open(&body, RING_A), 0);
	}
	body.len = len;
	assert_int_equal(try_open(&body, RING_A), 0);
	s3c_buf_append_str(&body, " ");
	assert_int_equal(try_open(&body, RING_A), -EBADMSG);
	s3c_buf_free(&body);
}

/* The body with the first occurrence of a text exchanged. */
static struct s3c_buf exchanged(const struct s3c_buf *body, const char *from, const char *to)
{
	const char *at = strstr(body->data, from);
	struct s3c_buf out = { 0 };

	if (!at)
		fail_msg("no %s in the body", from);
	s3c_buf_append(&out, body->data, (size_t)(at - body->data));
	s3c_buf_append_str(&out, to);
	s3c_buf_append_str(&out, at + strlen(from));
	return out;
}

static void test_damage(void **state)
{
	static const struct {
		const char *from, *to;
		int result;
	} cases[] = {
		{ "\"version\": 1", "\"version\": 2", -EPROTO },
		{ "\"version\": 1", "\"version\": \"1\"", -EBADMSG },
		{ "\"serial\": 1", "\"serial\": 2", -EBADMSG },
		{ "\"serial\": 1", "\"serial\": 0", -EBADMSG },
		{ "\"serial\": 1", "\"serial\": 99999999999999999999", -EBADMSG },
		{ "\"names\": \"plain\"", "\"names\": \"encrypted\"", -EBADMSG },
		{ "\"family\": \"cse\"", "\"family\": \"sse-c\"", -EBADMSG },
		{ "\"family\": \"cse\"", "\"family\": \"later\"", -EPROTO },
		{ "\"format\": \"s3cryptfs volume\"", "\"format\": \"x\"", -EBADMSG },
		{ "\"key_id\": \"a\"", "\"key_id\": \"b\"", -EKEYREJECTED },
		{ "\"type\": \"master-key\"", "\"type\": \"kms\"", -EKEYREJECTED },
		{ "\"epoch\": 1,\n  \"epochs\"", "\"epoch\": 2,\n  \"epochs\"", -EBADMSG },
		{ "\"check\": \"", "\"check\": \"0", -EBADMSG },
		{ "\"version\": 1", "\"version\": 1, \"version\": 1", -EBADMSG },
		{ "\"version\": 1", "\"version\": 1, \"more\": 1", -EBADMSG },
		{ "\nhmac-sha256 ", "\nhmac-sha255 ", -EBADMSG },
	};
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_buf other = exchanged(&body, cases[i].from, cases[i].to);

		if (try_open(&other, RING_A) != cases[i].result)
			fail_msg("%s -> %s: %d", cases[i].from, cases[i].to,
				 try_open(&other, RING_A));
		s3c_buf_free(&other);
	}
	s3c_buf_free(&body);
}

/* A slot opens but its key does not give the check: it is not used, not even for the HMAC. */
static void test_check(void **state)
{
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, NULL);
	char *digit = strstr(body.data, "\"check\": \"") + strlen("\"check\": \"");

	(void)state;
	*digit = *digit == '0' ? '1' : '0';
	assert_int_equal(try_open(&body, RING_A), -EKEYREJECTED);
	s3c_buf_free(&body);
}

/*
 * Another key opens the volume, but the active one is not what the slot of its name was made for:
 * what it wraps could be read by no other machine.
 */
static void test_active_liar(void **state)
{
	static const char *const rings[] = {
		"[a]\nsecret=" KEY_C "\nstate=active\n[b]\nsecret=" KEY_B "\n",
		"[b]\nsecret=" KEY_B "\n[a]\nsecret=" KEY_C "\nstate=active\n",
	};
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_AB, NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rings); i++) {
		cleanup_keyring struct s3c_keyring *ring = keyring_of(rings[i]);
		struct s3c_volume *volume = NULL;
		struct s3c_err err = { 0 };

		assert_int_equal(s3c_volume_open(body.data, body.len, ring, &err, &volume),
				 -EKEYREJECTED);
		assert_null(volume);
		assert_non_null(strstr(err.text, "the key a "));
	}
	/* An old key that lies is found out by the objects that name it. */
	assert_int_equal(try_open(&body, RING_B "[a]\nsecret=" KEY_C "\n"), 0);
	s3c_buf_free(&body);
}

/* A slot of another volume, wrapped under the same master key, does not open this one. */
static void test_swapped_slots(void **state)
{
	struct s3c_buf a = create(S3C_FAMILY_CSE, false, RING_A, NULL);
	struct s3c_buf b = create(S3C_FAMILY_CSE, false, RING_A, NULL);
	const char *slot_a = strstr(a.data, "\"wrapped\": \""), *slot_b;

	(void)state;
	slot_b = strstr(b.data, "\"wrapped\": \"");
	memcpy((char *)slot_a + 12, slot_b + 12, S3C_BASE64_LEN(S3C_WRAP_LEN));
	assert_int_equal(try_open(&a, RING_A), -EKEYREJECTED);
	s3c_buf_free(&a);
	s3c_buf_free(&b);
}

static void test_ssec(void **state)
{
	struct s3c_volume *v, *made;
	struct s3c_buf body = create(S3C_FAMILY_SSEC, false, RING_AB, &made), other;

	(void)state;
	assert_null(made->newest);
	assert_int_equal(open_with(&body, RING_A, &v), 0);
	assert_int_equal(v->family, S3C_FAMILY_SSEC);
	assert_memory_equal(v->id, made->id, 16);
	assert_false(v->ssec_shared);
	s3c_volume_free(v);
	assert_int_equal(try_open(&body, RING_LIAR), -EKEYREJECTED);
	assert_int_equal(try_open(&body, RING_SHARED), -EKEYREJECTED);
	other = exchanged(&body, "\"per-object\"", "\"other\"");
	assert_int_equal(try_open(&other, RING_A), -EPROTO);
	s3c_buf_free(&other);
	other = exchanged(&body, "\"sse-c\"", "\"cse\"");
	assert_int_equal(try_open(&other, RING_A), -EBADMSG);
	s3c_buf_free(&other);
	/* Another volume id: the checks are over it. */
	char *digit = strstr(body.data, "\"id\": \"") + 7;
	*digit = *digit == '0' ? '1' : '0';
	assert_int_equal(try_open(&body, RING_A), -EKEYREJECTED);
	s3c_buf_free(&body);
	s3c_volume_free(made);

	body = create(S3C_FAMILY_SSEC, true, RING_MIXED, &made);
	assert_true(made->ssec_shared);
	assert_int_equal(open_with(&body, RING_SHARED, &v), 0);
	assert_true(v->ssec_shared);
	assert_true(v->active_slot);
	s3c_volume_free(v);
	assert_int_equal(try_open(&body, RING_A), -EKEYREJECTED);
	s3c_buf_free(&body);
	s3c_volume_free(made);
}

static void test_ssec_key_used(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_MIXED);
	cleanup_volume struct s3c_volume *shared = NULL, *derived = NULL;
	cleanup_buf struct s3c_buf body = { 0 }, other = { 0 };

	(void)state;
	assert_int_equal(
		s3c_volume_create(S3C_FAMILY_SSEC, true, false, ring, NULL, &shared, &body), 0);
	assert_string_equal(shared->ssec_key->id, "s");
	assert_int_equal(
		s3c_volume_create(S3C_FAMILY_SSEC, false, false, ring, NULL, &derived, &other), 0);
	assert_string_equal(derived->ssec_key->id, "a");
}

static void test_create_refuses(void **state)
{
	cleanup_keyring struct s3c_keyring *shared = keyring_of(RING_SHARED);
	cleanup_keyring struct s3c_keyring *plain = keyring_of(RING_A);
	struct s3c_volume *v = NULL;
	struct s3c_buf body = { 0 };
	struct s3c_err err = { 0 };

	(void)state;
	assert_int_equal(s3c_volume_create(S3C_FAMILY_CSE, false, false, shared, &err, &v, &body),
			 -EKEYREJECTED);
	assert_non_null(strstr(err.text, "use = sse-c"));
	assert_int_equal(s3c_volume_create(S3C_FAMILY_SSEC, true, false, plain, NULL, &v, &body),
			 -EKEYREJECTED);
	assert_int_equal(s3c_volume_create(S3C_FAMILY_PLAIN, false, false, plain, NULL, &v, &body),
			 -EINVAL);
	assert_int_equal(s3c_volume_create(S3C_FAMILY_SSEC, false, true, plain, NULL, &v, &body),
			 -EINVAL);
	assert_null(v);
	assert_int_equal(body.len, 0);
}

/* A new active key gets a slot; the old one and members of later versions stay. */
static void test_add_keys(void **state)
{
	struct s3c_volume *made, *v;
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, &made), more = { 0 };
	cleanup_keyring struct s3c_keyring *same = keyring_of(RING_A);
	cleanup_keyring struct s3c_keyring *rotated = keyring_of(
		RING_B "[a]\nsecret=" KEY_A "\nstate=old\n[s]\nuse=sse-c\nsecret=" KEY_C);
	cleanup_keyring struct s3c_keyring *stranger = keyring_of(RING_B);
	size_t added = 99;

	(void)state;
	assert_int_equal(s3c_volume_add_keys(body.data, body.len, same, NULL, &added, &more), 0);
	assert_int_equal(added, 0);
	assert_int_equal(more.len, 0);
	assert_int_equal(s3c_volume_add_keys(body.data, body.len, stranger, NULL, &added, &more),
			 -EKEYREJECTED);
	assert_int_equal(s3c_volume_open(body.data, body.len, rotated, NULL, &v), 0);
	assert_false(v->active_slot);
	s3c_volume_free(v);

	assert_int_equal(s3c_volume_add_keys(body.data, body.len, rotated, NULL, &added, &more), 0);
	assert_int_equal(added, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(open_with(&more, i ? RING_A : RING_B, &v), 0);
		assert_int_equal(v->serial, 2);
		assert_true(v->active_slot);
		assert_memory_equal(v->id, made->id, 16);
		assert_memory_equal(seal_of(v), seal_of(made), 32);
		s3c_volume_free(v);
	}
	s3c_buf_free(&more);
	s3c_buf_free(&body);
	s3c_volume_free(made);

	body = create(S3C_FAMILY_SSEC, false, RING_A, &made);
	assert_int_equal(s3c_volume_add_keys(body.data, body.len, rotated, NULL, &added, &more), 0);
	assert_int_equal(added, 1);
	assert_int_equal(open_with(&more, RING_B, &v), 0);
	assert_int_equal(v->serial, 2);
	s3c_volume_free(v);
	s3c_buf_free(&more);
	s3c_buf_free(&body);
	s3c_volume_free(made);
}

/* The active key can have no slot: reading is possible, writing is refused before it begins. */
/* The slot of an old key goes; not that of the key which writes, nor the last one. */
static void test_remove_key(void **state)
{
	cleanup_keyring struct s3c_keyring *both =
		keyring_of("[b]\nsecret = " KEY_B "\nstate = active\n[a]\nsecret = " KEY_A "\n");
	cleanup_keyring struct s3c_keyring *only_a =
		keyring_of("[a]\nsecret = " KEY_A "\nstate = active\n");
	cleanup_keyring struct s3c_keyring *only_b =
		keyring_of("[b]\nsecret = " KEY_B "\nstate = active\n");
	static const enum s3c_family families[] = { S3C_FAMILY_CSE, S3C_FAMILY_SSEC };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		cleanup_buf struct s3c_buf body = { 0 }, less = { 0 }, old = { 0 };
		cleanup_volume struct s3c_volume *volume = NULL, *again = NULL, *none = NULL;
		struct s3c_err err = { 0 };
		size_t removed = 9;

		assert_int_equal(
			s3c_volume_create(families[i], false, false, both, NULL, &volume, &body),
			0);
		assert_int_equal(s3c_volume_remove_key(body.data, body.len, both, "b", &err,
						       &removed, &less),
				 -EBUSY);
		assert_int_equal(s3c_volume_remove_key(body.data, body.len, both, "c", NULL,
						       &removed, &less),
				 0);
		assert_int_equal(removed, 0);
		assert_int_equal(less.len, 0);
		assert_int_equal(s3c_volume_remove_key(body.data, body.len, both, "a", NULL,
						       &removed, &less),
				 0);
		assert_int_equal(removed, 1);
		assert_int_equal(s3c_volume_open(less.data, less.len, only_b, NULL, &again), 0);
		assert_int_equal(again->serial, volume->serial + 1);
		assert_true(again->active_slot);
		assert_int_equal(s3c_volume_open(less.data, less.len, only_a, NULL, &none),
				 -EKEYREJECTED);
		/* A keyring whose active key the volume does not know yet. */
		s3c_volume_free(steal_ptr(volume));
		assert_int_equal(
			s3c_volume_create(families[i], false, false, only_a, NULL, &volume, &old),
			0);
		s3c_buf_reset(&less);
		assert_int_equal(
			s3c_volume_remove_key(old.data, old.len, both, "a", &err, &removed, &less),
			-EBUSY);
		assert_int_equal(less.len, 0);
	}
}

static void test_add_unfit(void **state)
{
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, NULL), more = { 0 };
	cleanup_keyring struct s3c_keyring *ring =
		keyring_of(RING_SHARED "[a]\nsecret=" KEY_A "\n");
	struct s3c_err err = { 0 };
	struct s3c_volume *v;
	size_t added = 99;

	(void)state;
	assert_int_equal(s3c_volume_open(body.data, body.len, ring, NULL, &v), 0);
	assert_false(v->active_slot);
	s3c_volume_free(v);
	assert_int_equal(s3c_volume_add_keys(body.data, body.len, ring, &err, &added, &more),
			 -EKEYREJECTED);
	assert_non_null(strstr(err.text, "use = sse-c"));
	assert_int_equal(added, 99);
	assert_int_equal(more.len, 0);
	s3c_buf_free(&body);
}

/* Computed by another implementation of RFC 5869, from the derivation in doc/format.md. */
static void test_local_key(void **state)
{
	static const struct {
		const char *label, *hex;
	} cases[] = {
		{ "journal", "2916a73992aacde86439f2a6ea80b028afce7544057117e93ae2f725ae2bd8e1" },
		{ "cache", "38311b4ab40df64e2ad7dc1633218ce87176f6a3b0d70734320c54a51d6dfb46" },
	};
	uint8_t volume_key[S3C_KEY_LEN], local_key[S3C_KEY_LEN], key[S3C_KEY_LEN];
	struct s3c_volume volume = { .family = S3C_FAMILY_CSE, .keys = local_key };
	char hex[2 * S3C_KEY_LEN + 1];

	(void)state;
	for (size_t i = 0; i < S3C_KEY_LEN; i++)
		volume_key[i] = (uint8_t)i;
	for (size_t i = 0; i < S3C_VOLUME_ID_LEN; i++)
		volume.id[i] = (uint8_t)(0xa0 + i);
	assert_int_equal(s3c_volume_local_root(volume_key, volume.id, local_key), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(s3c_volume_local_key(&volume, cases[i].label, key), 0);
		s3c_hex_encode(key, sizeof(key), hex);
		assert_string_equal(hex, cases[i].hex);
	}
	assert_int_equal(s3c_volume_local_key(&volume, "a label of more than 32 characters", key),
			 -EINVAL);
	/* There is no volume key. */
	volume.family = S3C_FAMILY_SSEC;
	volume.keys = NULL;
	assert_int_equal(s3c_volume_local_key(&volume, "journal", key), -EINVAL);
}

/* The body with its serial over that one, and all else as it was. */
static void test_raise_serial(void **state)
{
	static const struct {
		uint64_t over, serial;
	} cases[] = { { 0, 1 }, { 1, 2 }, { 5, 6 }, { INT64_MAX - 1, INT64_MAX } };
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_A);
	struct s3c_volume *made;
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, &made);
	bool raised = true;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_volume struct s3c_volume *again = NULL;
		cleanup_buf struct s3c_buf other = { 0 };

		assert_int_equal(s3c_volume_raise_serial(body.data, body.len, ring, cases[i].over,
							 NULL, &raised, &other),
				 0);
		assert_int_equal(raised, cases[i].serial != 1);
		assert_int_equal(other.len > 0, raised);
		if (!raised)
			continue;
		assert_int_equal(open_with(&other, RING_A, &again), 0);
		assert_int_equal(again->serial, cases[i].serial);
		assert_memory_equal(again->id, made->id, 16);
		assert_memory_equal(seal_of(again), seal_of(made), 32);
	}
	raised = true;
	assert_int_equal(s3c_volume_raise_serial(body.data, body.len, ring, INT64_MAX, NULL,
						 &raised, &(struct s3c_buf){ 0 }),
			 -EOVERFLOW);
	assert_true(raised);
	s3c_volume_free(made);
	s3c_buf_free(&body);
}

static struct s3c_buf begin(const struct s3c_buf *body, const char *ring_text, uint32_t want)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(ring_text);
	struct s3c_buf next = { 0 };
	uint32_t epoch = 0;

	assert_int_equal(
		s3c_volume_begin_epoch(body->data, body->len, ring, 1234, NULL, &epoch, &next), 0);
	assert_int_equal(epoch, want);
	return next;
}

/* A new volume key; the old one inside; names, keys of this machine and slots as before. */
static void test_begin_epoch(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_AB), *a = keyring_of(RING_A);
	cleanup_buf struct s3c_buf body = { 0 }, second = { 0 }, same = { 0 }, no = { 0 };
	cleanup_volume struct s3c_volume *made = NULL, *v = NULL;
	uint8_t key[2][S3C_KEY_LEN];
	struct s3c_err err = { 0 };
	uint32_t epoch = 0;

	(void)state;
	assert_int_equal(s3c_volume_create(S3C_FAMILY_CSE, false, true, ring, NULL, &made, &body),
			 0);
	assert_int_equal(s3c_volume_local_key(made, "journal", key[0]), 0);
	second = begin(&body, RING_AB, 2);
	assert_int_equal(open_with(&second, RING_B, &v), 0);
	assert_int_equal(v->epoch, 2);
	assert_int_equal(v->serial, 2);
	assert_int_equal(v->newest->begun_s, 1234);
	assert_memory_equal(v->id, made->id, 16);
	assert_memory_equal(v->names_key, made->names_key, S3C_SIV_KEY_LEN);
	assert_memory_equal(s3c_volume_seal_key(v, 1), seal_of(made), 32);
	assert_memory_not_equal(s3c_volume_seal_key(v, 2), seal_of(made), 32);
	assert_memory_not_equal(v->newest->keys, made->newest->keys, 32);
	assert_null(s3c_volume_seal_key(v, 3));
	assert_int_equal(s3c_volume_local_key(v, "journal", key[1]), 0);
	assert_memory_equal(key[0], key[1], S3C_KEY_LEN);
	/* One that was begun is gone on with. */
	same = begin(&second, RING_AB, 2);
	assert_int_equal(same.len, 0);
	/* Nobody could open it with b any more. */
	assert_int_equal(s3c_volume_begin_epoch(body.data, body.len, a, 1, &err, &epoch, &no),
			 -EKEYREJECTED);
	assert_non_null(strstr(err.text, "the key b"));
	assert_int_equal(no.len, 0);
}

static void test_drop_epochs(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_A);
	struct s3c_volume *made;
	struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, &made);
	cleanup_buf struct s3c_buf second = begin(&body, RING_A, 2), one = { 0 }, none = { 0 },
				   third = { 0 }, back = { 0 };
	cleanup_volume struct s3c_volume *v = NULL, *w = NULL, *both = NULL, *again = NULL;
	uint8_t key[2][S3C_KEY_LEN];
	size_t dropped = 0;
	bool missing = false;

	(void)state;
	assert_int_equal(s3c_volume_drop_epochs(body.data, body.len, ring, NULL, &dropped, &none),
			 0);
	assert_int_equal(dropped, 0);
	assert_int_equal(none.len, 0);
	assert_int_equal(
		s3c_volume_drop_epochs(second.data, second.len, ring, NULL, &dropped, &one), 0);
	assert_int_equal(dropped, 1);
	assert_int_equal(open_with(&one, RING_A, &v), 0);
	assert_int_equal(v->serial, 3);
	assert_null(s3c_volume_seal_key(v, 1));
	assert_non_null(s3c_volume_seal_key(v, 2));
	s3c_volume_local_key(made, "cache", key[0]);
	s3c_volume_local_key(v, "cache", key[1]);
	assert_memory_equal(key[0], key[1], S3C_KEY_LEN);
	third = begin(&one, RING_A, 3);
	/* Who has the first one's key puts it back, where it belongs. */
	assert_int_equal(s3c_volume_put_back_epoch(third.data, third.len, ring, made, 1, NULL,
						   &missing, &back),
			 0);
	assert_true(missing);
	assert_int_equal(open_with(&back, RING_A, &w), 0);
	assert_memory_equal(s3c_volume_seal_key(w, 1), seal_of(made), 32);
	assert_memory_equal(s3c_volume_seal_key(w, 2), seal_of(v), 32);
	assert_int_equal(w->epoch, 3);
	assert_int_equal(s3c_volume_put_back_epoch(back.data, back.len, ring, made, 1, NULL,
						   &missing, &none),
			 0);
	assert_false(missing);
	assert_int_equal(s3c_volume_put_back_epoch(third.data, third.len, ring, made, 2, NULL,
						   &missing, &none),
			 0); /* it is there */
	assert_int_equal(
		s3c_volume_put_back_epoch(body.data, body.len, ring, v, 2, NULL, &missing, &none),
		-EINVAL);
	/* A live volume learns what is new, and keeps what is gone. */
	assert_int_equal(open_with(&third, RING_A, &both), 0);
	assert_int_equal(s3c_volume_learn(made, both), 0);
	assert_int_equal(made->epoch, 3);
	assert_int_equal(made->serial, 4);
	assert_true(s3c_volume_epoch_find(made, 1)->dropped);
	assert_false(s3c_volume_epoch_find(made, 2)->dropped);
	assert_memory_equal(s3c_volume_seal_key(made, 2), seal_of(v), 32);
	assert_non_null(s3c_volume_seal_key(made, 3));
	assert_int_equal(s3c_volume_learn(made, w), 0);
	assert_false(s3c_volume_epoch_find(made, 1)->dropped);
	/* One that was opened while the first was gone learns that it is back. */
	assert_int_equal(open_with(&back, RING_A, &again), 0);
	assert_int_equal(s3c_volume_learn(v, again), 0);
	assert_int_equal(v->epoch, 3);
	assert_int_equal(v->newest->number, 3);
	assert_non_null(s3c_volume_seal_key(v, 1));
	assert_memory_equal(s3c_volume_seal_key(v, 1), s3c_volume_seal_key(made, 1), 32);
	s3c_volume_free(made);
	s3c_buf_free(&body);
}

/* By one who may wrap under a key that opens the volume, and has not the volume's own. */
static void test_learn_forged(void **state)
{
	cleanup_keyring struct s3c_keyring *ring = keyring_of(RING_A);
	struct s3c_volume seen = { .family = S3C_FAMILY_SSEC, .serial = 5 };
	cleanup_volume struct s3c_volume *made = NULL, *forger = NULL, *forged = NULL;
	cleanup_buf struct s3c_buf body = create(S3C_FAMILY_CSE, false, RING_A, &made);
	cleanup_buf struct s3c_buf first = { 0 }, second = { 0 };

	(void)state;
	memcpy(seen.id, made->id, sizeof(seen.id));
	assert_int_equal(s3c_volume_create_after(&seen, ring, NULL, &forger, &first), 0);
	second = begin(&first, RING_A, 2);
	assert_int_equal(open_with(&second, RING_A, &forged), 0);
	assert_memory_equal(forged->id, made->id, sizeof(made->id));
	assert_int_equal(s3c_volume_learn(made, forged), -EKEYREJECTED);
	assert_int_equal(made->epoch, 1);
	assert_int_equal(made->serial, 1);
	assert_null(s3c_volume_seal_key(made, 2));
}

static void test_garbage(void **state)
{
	static const char *const texts[] = {
		"", "\n", "{}", "[]", "null", "{{{{", "\"text\"", "{\"a\":1}", "\xff\xfe", "<xml/>"
	};
	struct s3c_buf large = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct s3c_buf body = { 0 };

		s3c_buf_append_str(&body, texts[i]);
		assert_int_equal(try_open(&body, RING_A), -EBADMSG);
		s3c_buf_free(&body);
	}
	for (size_t i = 0; i <= 256 << 10; i++)
		s3c_buf_append_char(&large, '[');
	assert_int_equal(try_open(&large, RING_A), -EBADMSG);
	s3c_buf_free(&large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cse),
		cmocka_unit_test(test_encrypted_names),
		cmocka_unit_test(test_distinct),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_active_liar),
		cmocka_unit_test(test_swapped_slots),
		cmocka_unit_test(test_ssec),
		cmocka_unit_test(test_ssec_key_used),
		cmocka_unit_test(test_create_refuses),
		cmocka_unit_test(test_add_keys),
		cmocka_unit_test(test_remove_key),
		cmocka_unit_test(test_add_unfit),
		cmocka_unit_test(test_local_key),
		cmocka_unit_test(test_raise_serial),
		cmocka_unit_test(test_begin_epoch),
		cmocka_unit_test(test_drop_epochs),
		cmocka_unit_test(test_learn_forged),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
