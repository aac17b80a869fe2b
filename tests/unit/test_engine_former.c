/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A volume of sse-c becomes one of cse, also when two do it at once, or one was killed. */
#include "engine/former.h"
#include "engine_fixture.h"
#include "through_store.h"

#define BOTH "[a]\nsecret = " KEY_A "\n" RING_2
#define VOLUME "p/" S3C_VOLUME_NAME
#define NEXT "p/" S3C_VOLUME_NEXT_NAME
#define FORMER "p/" S3C_VOLUME_FORMER_NAME

/* A store where another machine does something right before one request. */
static struct {
	struct s3c_store *inner;
	enum s3c_store_opcode op;
	const char *key; /* NULL: it was done */
	unsigned passes; /* of such requests first */
	void (*meddle)(struct fx *fx);
	struct fx *fx;
} meddler;

static int meddler_submit(struct s3c_store *store, const struct s3c_store_request *rq,
			  s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	if (meddler.key && rq->op == meddler.op && strcmp(rq->key, meddler.key) == 0 &&
	    meddler.passes-- == 0) {
		meddler.key = NULL;
		meddler.meddle(meddler.fx);
	}
	return s3c_store_submit(through_inner(store), rq, done, arg, ret_call);
}

static struct s3c_store *meddler_new(struct s3c_store *inner)
{
	meddler.inner = inner;
	meddler.key = NULL;
	return through_new(inner, meddler_submit);
}

/* By the store past the meddler, or through it. Fails with these words; NULL: it does not; "": it
   may, with any. */
static int migrate(struct fx *fx, struct s3c_store *store, const char *words)
{
	const struct s3c_volume_request rq = {
		.store = store,
		.prefix = "p/",
		.enc = S3C_ENC_CSE_KEY,
		.keyring = fx->keyring,
	};
	struct s3c_err err = { 0 };
	bool changed;
	int r = s3c_engine_volume_migrate(&rq, &err, &changed);

	if (words ? (r == 0 && *words) || !strstr(err.text, words) : r < 0)
		fail_msg("'%s' for '%s'", err.text, words ? words : "");
	return r;
}

/* The seal key that another machine found, which may have sealed objects with it at once. */
static uint8_t seen[S3C_KEY_LEN];
static bool has_seen;

static void open_volume(struct fx *fx, struct s3c_volume **ret_volume)
{
	const struct s3c_volume_request rq = {
		.store = meddler.inner,
		.prefix = "p/",
		.enc = S3C_ENC_CSE_KEY,
		.accept_plain = true,
		.keyring = fx->keyring,
	};
	cleanup_free char *prefix = NULL;
	struct s3c_err err = { 0 };

	if (s3c_engine_volume(&rq, &err, ret_volume, &prefix) < 0)
		fail_msg("%s", err.text);
}

static void look_at_key(struct fx *fx)
{
	cleanup_volume struct s3c_volume *volume = NULL;

	open_volume(fx, &volume);
	memcpy(seen, s3c_volume_seal_key(volume, 1), sizeof(seen));
	has_seen = true;
}

static void migrate_beside(struct fx *fx)
{
	migrate(fx, meddler.inner, NULL);
	look_at_key(fx);
}

static void begin(struct fx *fx, uint8_t *ret_id)
{
	static const struct fx_options ssec = { .prefix = "p/",
						.enc = S3C_ENC_SSE_C,
						.wrap = meddler_new };

	fx_open(fx, &ssec);
	fx_caps(meddler.inner);
	assert_int_equal(fx_volume(fx, &ssec, NULL), 0);
	memcpy(ret_id, fx->volume->id, S3C_VOLUME_ID_LEN);
	s3c_volume_free(steal_ptr(fx->volume));
	free(steal_ptr(fx->volume_prefix));
	has_seen = false;
}

static void end(struct fx *fx, const uint8_t *id)
{
	cleanup_volume struct s3c_volume *volume = NULL;

	migrate(fx, fx->store, NULL);
	open_volume(fx, &volume);
	assert_int_equal(volume->family, S3C_FAMILY_CSE);
	assert_memory_equal(volume->id, id, S3C_VOLUME_ID_LEN);
	assert_int_equal(volume->serial, 2);
	assert_non_null(volume->former);
	assert_memory_equal(volume->former->id, id, S3C_VOLUME_ID_LEN);
	assert_int_equal(volume->former->ssec_key_count, 1);
	if (has_seen)
		assert_memory_equal(seen, s3c_volume_seal_key(volume, 1), sizeof(seen));
	assert_false(hand_exists(fx, NEXT));
	fx_end(fx);
}

static void meddle(struct fx *fx, enum s3c_store_opcode op, const char *key, unsigned passes)
{
	meddler.op = op;
	meddler.key = key;
	meddler.passes = passes;
	meddler.meddle = migrate_beside;
	meddler.fx = fx;
}

static void test_migrate(void **state)
{
	uint8_t id[S3C_VOLUME_ID_LEN];
	struct fx fx;

	(void)state;
	begin(&fx, id);
	migrate(&fx, fx.store, NULL);
	look_at_key(&fx);
	end(&fx, id);
}

/* Another machine does all of it before each request of this one's. */
static void test_beside(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		const char *key, *words;
		unsigned passes;
	} places[] = {
		{ S3C_STORE_GET, VOLUME, NULL, 0 },  { S3C_STORE_PUT, FORMER, NULL, 0 },
		{ S3C_STORE_PUT, NEXT, NULL, 0 },    { S3C_STORE_GET, NEXT, "at the same time", 0 },
		{ S3C_STORE_GET, VOLUME, NULL, 1 },  { S3C_STORE_PUT, VOLUME, NULL, 0 },
		{ S3C_STORE_DELETE, NEXT, NULL, 0 },
	};

	(void)state;
	for (int caps = 0; caps < 2; caps++) {
		for (size_t i = 0; i < ARRAY_LEN(places); i++) {
			uint8_t id[S3C_VOLUME_ID_LEN];
			struct fx fx;

			begin(&fx, id);
			/* Some stores have a condition for what is not there alone. */
			fx.store->caps.put_if_match = caps;
			meddle(&fx, places[i].op, places[i].key, places[i].passes);
			migrate(&fx, fx.store, places[i].words);
			assert_null(meddler.key);
			assert_true(has_seen);
			end(&fx, id);
		}
	}
}

/* One is killed before a request, or after it, and another one goes on. */
static void test_killed(void **state)
{
	static const enum s3c_store_opcode ops[] = { S3C_STORE_GET, S3C_STORE_PUT,
						     S3C_STORE_DELETE };
	unsigned failures = 0;

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_LEN(ops); i++) {
		struct s3c_fault_rule rule = {
			.op = ops[i / 2],
			.kind = i & 1 ? S3C_FAULT_LOST : S3C_FAULT_FAIL,
			.result = -EIO,
		};
		int r = -1;

		for (rule.after = 0; r < 0; rule.after++) {
			uint8_t id[S3C_VOLUME_ID_LEN];
			struct fx fx;

			begin(&fx, id);
			s3c_store_fault_add(fx.store, &rule);
			r = migrate(&fx, fx.store, "");
			failures += r < 0;
			s3c_store_fault_clear(fx.store);
			end(&fx, id);
		}
	}
	assert_int_equal(failures, 2 * (4 + 3 + 1));
}

static void use_ring(struct fx *fx, const char *text)
{
	s3c_keyring_free(fx->keyring);
	fx->keyring = keyring_of(text);
}

/* A mount of sse-c with a new active key, by this keyring. */
static void add_key(struct fx *fx)
{
	const struct s3c_volume_request rq = {
		.store = meddler.inner,
		.prefix = "p/",
		.enc = S3C_ENC_SSE_C,
		.keyring = fx->keyring,
	};
	cleanup_volume struct s3c_volume *volume = NULL;
	cleanup_free char *prefix = NULL;

	assert_int_equal(s3c_engine_volume(&rq, NULL, &volume, &prefix), 0);
	assert_int_equal(volume->ssec_key_count, 2);
}

/* A key that is added to the volume of sse-c meanwhile is one of the former ones. */
static void test_key_added(void **state)
{
	uint8_t id[S3C_VOLUME_ID_LEN];
	cleanup_volume struct s3c_volume *volume = NULL;
	struct fx fx;

	(void)state;
	begin(&fx, id);
	use_ring(&fx, BOTH);
	meddle(&fx, S3C_STORE_PUT, NEXT, 0);
	meddler.meddle = add_key;
	migrate(&fx, fx.store, NULL);
	open_volume(&fx, &volume);
	assert_int_equal(volume->former->ssec_key_count, 2);
	fx_end(&fx);
}

/* The same right before the volume is replaced: nothing is, and volume.next waits for the next try.
 */
static void test_key_added_late(void **state)
{
	uint8_t id[S3C_VOLUME_ID_LEN];
	cleanup_volume struct s3c_volume *volume = NULL;
	struct fx fx;

	(void)state;
	begin(&fx, id);
	use_ring(&fx, BOTH);
	meddle(&fx, S3C_STORE_PUT, VOLUME, 0);
	meddler.meddle = add_key;
	migrate(&fx, fx.store, "at the same time");
	assert_true(hand_exists(&fx, NEXT));
	migrate(&fx, fx.store, NULL);
	open_volume(&fx, &volume);
	assert_int_equal(volume->former->ssec_key_count, 2);
	/* Over that of the volume with the key, which machines may have seen. */
	assert_int_equal(volume->serial, 3);
	fx_end(&fx);
}

/* Customer keys go over TLS alone, also those of the time before. */
static void test_plain_http(void **state)
{
	uint8_t id[S3C_VOLUME_ID_LEN];
	cleanup_volume struct s3c_volume *volume = NULL;
	struct fx fx;

	(void)state;
	begin(&fx, id);
	fx.store->tls = false;
	migrate(&fx, fx.store, "plain HTTP");
	fx.store->tls = true;
	migrate(&fx, fx.store, NULL);
	meddler.inner->tls = false;
	open_volume(&fx, &volume);
	assert_null(volume->former);
	fx_end(&fx);
}

/* What was not done: without the keys, of a part, on a store without a condition. */
static void test_refused(void **state)
{
	uint8_t id[S3C_VOLUME_ID_LEN];
	struct fx fx;

	(void)state;
	begin(&fx, id);
	use_ring(&fx, BOTH);
	add_key(&fx);
	use_ring(&fx, RING_2);
	migrate(&fx, fx.store, "does not have (a)");
	use_ring(&fx, BOTH);
	fx.store->caps.put_if_none_match = false;
	migrate(&fx, fx.store, "If-None-Match");
	assert_false(hand_exists(&fx, NEXT) || hand_exists(&fx, FORMER));
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_migrate),        cmocka_unit_test(test_beside),
		cmocka_unit_test(test_killed),         cmocka_unit_test(test_key_added),
		cmocka_unit_test(test_key_added_late), cmocka_unit_test(test_plain_http),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
