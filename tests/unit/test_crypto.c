/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/crypto.h"
#include "base/encode.h"
#include "base/secret.h"

/* Decodes a vector's hex; returns its length. */
static size_t unhex(const char *text, uint8_t *out, size_t max)
{
	size_t len = strlen(text) / 2;

	assert_true(len <= max);
	assert_int_equal(s3c_hex_decode(text, out, len), 0);
	return len;
}

static void assert_hex(const void *data, size_t len, const char *want)
{
	char text[2 * 256 + 1];

	assert_true(len <= 256);
	s3c_hex_encode(data, len, text);
	assert_string_equal(text, want);
}

/* FIPS 180-4 examples. */
static void sha256(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	uint8_t out[S3C_SHA256_LEN];
	char *million;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(s3c_sha256(cases[i].text, strlen(cases[i].text), out), 0);
		assert_hex(out, sizeof(out), cases[i].want);
	}
	million = malloc(1000000);
	assert_non_null(million);
	memset(million, 'a', 1000000);
	assert_int_equal(s3c_sha256(million, 1000000, out), 0);
	assert_hex(out, sizeof(out),
		   "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
	assert_int_equal(s3c_sha256(NULL, 0, out), 0);
	assert_hex(out, sizeof(out), cases[0].want);
}

/* RFC 1321 A.5. */
static void md5(void **state)
{
	uint8_t out[S3C_MD5_LEN];

	(void)state;
	assert_int_equal(s3c_md5("abc", 3, out), 0);
	assert_hex(out, sizeof(out), "900150983cd24fb0d6963f7d28e17f72");
}

/* RFC 4231; case 5 is of a shortened output, which nothing here uses. */
static void hmac(void **state)
{
	static const struct {
		const char *key, *data, *want;
	} cases[] = {
		{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ "4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "dddddddddddddddddddddddddddddddddddddddddddddddddd"
		  "dddddddddddddddddddddddddddddddddddddddddddddddddd",
		  "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
		{ "0102030405060708090a0b0c0d0e0f10111213141516171819",
		  "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
		  "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
		  "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
	};
	/* Cases 6 and 7: a key of 131 bytes 0xaa. */
	static const struct {
		const char *text, *want;
	} long_cases[] = {
		{ "Test Using Larger Than Block-Size Key - Hash Key First",
		  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
		{ "This is a test using a larger than block-size key and a larger than block-size "
		  "data. The key needs to be hashed before being used by the HMAC algorithm.",
		  "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
	};
	uint8_t key[131], data[64], out[S3C_SHA256_LEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t key_len = unhex(cases[i].key, key, sizeof(key));
		size_t len = unhex(cases[i].data, data, sizeof(data));

		assert_int_equal(s3c_hmac_sha256(key, key_len, data, len, out), 0);
		assert_hex(out, sizeof(out), cases[i].want);
	}
	memset(key, 0xaa, sizeof(key));
	for (size_t i = 0; i < ARRAY_LEN(long_cases); i++) {
		assert_int_equal(s3c_hmac_sha256(key, sizeof(key), long_cases[i].text,
						 strlen(long_cases[i].text), out),
				 0);
		assert_hex(out, sizeof(out), long_cases[i].want);
	}
	/* HMAC-SHA256("", ""), a known value too; NULL stands for empty. */
	assert_int_equal(s3c_hmac_sha256(NULL, 0, NULL, 0, out), 0);
	assert_hex(out, sizeof(out),
		   "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* RFC 5869 A.1 to A.3. */
static void hkdf(void **state)
{
	static const struct {
		const char *key, *salt, *info, *want;
	} cases[] = {
		{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
		  "f0f1f2f3f4f5f6f7f8f9",
		  "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
		  "34007208d5b887185865" },
		{ "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		  "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
		  "404142434445464748494a4b4c4d4e4f",
		  "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
		  "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
		  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
		  "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
		  "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
		  "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
		  "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
		  "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
		  "cc30c58179ec3e87c14c01d5c1f3434f1d87" },
		{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
		  "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
		  "9d201395faa4b61a96c8" },
	};
	static uint8_t big[255 * 32 + 1];
	uint8_t key[80], salt[80], info[80], out[82];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t key_len = unhex(cases[i].key, key, sizeof(key));
		size_t salt_len = unhex(cases[i].salt, salt, sizeof(salt));
		size_t info_len = unhex(cases[i].info, info, sizeof(info));
		size_t len = strlen(cases[i].want) / 2;

		assert_int_equal(s3c_hkdf_sha256(key, key_len, salt_len ? salt : NULL, salt_len,
						 info_len ? info : NULL, info_len, out, len),
				 0);
		assert_hex(out, len, cases[i].want);
	}
	assert_int_equal(s3c_hkdf_sha256(key, 32, NULL, 0, NULL, 0, big, 255 * 32), 0);
	assert_int_equal(s3c_hkdf_sha256(key, 32, NULL, 0, NULL, 0, big, 255 * 32 + 1), -EINVAL);
	assert_int_equal(s3c_hkdf_sha256(key, 32, NULL, 0, NULL, 0, big, 0), -EINVAL);
	assert_int_equal(s3c_hkdf_sha256(key, 0, NULL, 0, NULL, 0, out, 32), -EINVAL);
	assert_int_equal(s3c_hkdf_sha256(key, 32, NULL, 0, big, 2048, out, 32), 0);
	assert_int_equal(s3c_hkdf_sha256(key, 32, NULL, 0, big, 2049, out, 32), -EINVAL);
}

/* Test cases 13 to 16 of the GCM submission to NIST (McGrew, Viega). */
static const struct {
	const char *key, *nonce, *aad, *plain, *ct, *tag;
} gcm_cases[] = {
	{ "0000000000000000000000000000000000000000000000000000000000000000",
	  "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b" },
	{ "0000000000000000000000000000000000000000000000000000000000000000",
	  "000000000000000000000000", "", "00000000000000000000000000000000",
	  "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919" },
	{ "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
	  "cafebabefacedbaddecaf888", "",
	  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
	  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
	  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
	  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
	  "b094dac5d93471bdec1a502270e3cc6c" },
	{ "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
	  "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
	  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
	  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
	  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
	  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
	  "76fc6ece0f4e1768cddf8853bb2d551b" },
};

struct gcm_case {
	uint8_t key[32], nonce[12], aad[32], plain[64], ct[64], tag[16];
	size_t aad_len, len;
};

static void load_gcm_case(size_t i, struct gcm_case *c)
{
	unhex(gcm_cases[i].key, c->key, sizeof(c->key));
	unhex(gcm_cases[i].nonce, c->nonce, sizeof(c->nonce));
	unhex(gcm_cases[i].tag, c->tag, sizeof(c->tag));
	c->aad_len = unhex(gcm_cases[i].aad, c->aad, sizeof(c->aad));
	c->len = unhex(gcm_cases[i].plain, c->plain, sizeof(c->plain));
	assert_int_equal(unhex(gcm_cases[i].ct, c->ct, sizeof(c->ct)), c->len);
}

static void gcm_known(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(gcm_cases); i++) {
		cleanup_gcm struct s3c_gcm *gcm = NULL;
		uint8_t out[64], tag[16];
		struct gcm_case c;

		load_gcm_case(i, &c);
		assert_int_equal(s3c_gcm_new(c.key, &gcm), 0);
		/* Twice, both ways in turn: the context serves many messages. */
		for (int round = 0; round < 2; round++) {
			assert_int_equal(s3c_gcm_seal(gcm, c.nonce, c.aad_len ? c.aad : NULL,
						      c.aad_len, c.plain, c.len, out, tag),
					 0);
			assert_memory_equal(out, c.ct, c.len);
			assert_memory_equal(tag, c.tag, sizeof(tag));
			assert_int_equal(s3c_gcm_open(gcm, c.nonce, c.aad_len ? c.aad : NULL,
						      c.aad_len, c.ct, c.len, c.tag, out),
					 0);
			assert_memory_equal(out, c.plain, c.len);
		}
		/* A context that is first used to open. */
		s3c_gcm_free(steal_ptr(gcm));
		assert_int_equal(s3c_gcm_new(c.key, &gcm), 0);
		assert_int_equal(
			s3c_gcm_open(gcm, c.nonce, c.aad, c.aad_len, c.ct, c.len, c.tag, out), 0);
		assert_memory_equal(out, c.plain, c.len);
	}
}

static void gcm_in_place(void **state)
{
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t buf[64], tag[16];
	struct gcm_case c;

	(void)state;
	load_gcm_case(3, &c);
	assert_int_equal(s3c_gcm_new(c.key, &gcm), 0);
	memcpy(buf, c.plain, c.len);
	assert_int_equal(s3c_gcm_seal(gcm, c.nonce, c.aad, c.aad_len, buf, c.len, buf, tag), 0);
	assert_memory_equal(buf, c.ct, c.len);
	assert_memory_equal(tag, c.tag, sizeof(tag));
	assert_int_equal(s3c_gcm_open(gcm, c.nonce, c.aad, c.aad_len, buf, c.len, tag, buf), 0);
	assert_memory_equal(buf, c.plain, c.len);
}

/* One wrong bit anywhere: no byte comes out, and the context goes on working. */
static void gcm_tampered(void **state)
{
	static const uint8_t zero[64];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	struct gcm_case good, c;
	uint8_t out[64];
	struct {
		uint8_t *data;
		size_t len;
	} fields[3];

	(void)state;
	load_gcm_case(3, &good);
	assert_int_equal(s3c_gcm_new(good.key, &gcm), 0);
	fields[0].data = c.ct;
	fields[0].len = good.len;
	fields[1].data = c.aad;
	fields[1].len = good.aad_len;
	fields[2].data = c.tag;
	fields[2].len = sizeof(c.tag);
	for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
		for (size_t bit = 0; bit < fields[f].len * 8; bit++) {
			c = good;
			fields[f].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			memset(out, 0x55, sizeof(out));
			assert_int_equal(s3c_gcm_open(gcm, c.nonce, c.aad, c.aad_len, c.ct, c.len,
						      c.tag, out),
					 -EBADMSG);
			assert_memory_equal(out, zero, c.len);
			assert_int_equal(out[c.len], 0x55);
		}
	}
	c = good;
	c.nonce[0] ^= 1;
	assert_int_equal(s3c_gcm_open(gcm, c.nonce, c.aad, c.aad_len, c.ct, c.len, c.tag, c.ct),
			 -EBADMSG);
	assert_memory_equal(c.ct, zero, c.len);
	c = good;
	assert_int_equal(s3c_gcm_open(gcm, c.nonce, c.aad, c.aad_len, c.ct, c.len - 1, c.tag, out),
			 -EBADMSG);
	/* Nothing stays in the thread's error queue. */
	assert_int_equal(ERR_peek_error(), 0);
	assert_int_equal(s3c_gcm_open(gcm, c.nonce, c.aad, c.aad_len, c.ct, c.len, c.tag, out), 0);
	assert_memory_equal(out, c.plain, c.len);
}

/* A chunk of 64 KiB under its index as the nonce, as objects have them. */
static void gcm_chunks(void **state)
{
	enum { LEN = 65536, CHUNKS = 5 };
	cleanup_free uint8_t *plain = malloc(LEN), *ct = malloc((size_t)LEN * CHUNKS);
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t key[32], nonce[12] = { 0 }, tags[CHUNKS][16];

	(void)state;
	assert_non_null(plain);
	assert_non_null(ct);
	s3c_random(key, sizeof(key));
	s3c_random(plain, LEN);
	assert_int_equal(s3c_gcm_new(key, &gcm), 0);
	for (uint32_t i = 0; i < CHUNKS; i++) {
		s3c_put_be32(nonce + 8, i);
		assert_int_equal(
			s3c_gcm_seal(gcm, nonce, NULL, 0, plain, LEN, ct + i * LEN, tags[i]), 0);
	}
	assert_memory_not_equal(ct, ct + LEN, LEN);
	for (uint32_t i = CHUNKS; i-- > 0;) {
		s3c_put_be32(nonce + 8, i);
		assert_int_equal(
			s3c_gcm_open(gcm, nonce, NULL, 0, ct + i * LEN, LEN, tags[i], ct + i * LEN),
			0);
		assert_memory_equal(ct + i * LEN, plain, LEN);
	}
	s3c_gcm_free(NULL);
}

/* RFC 5297's own vectors have shorter keys; this one is OpenSSL's, made by another library too. */
static void siv(void **state)
{
	uint8_t key[S3C_SIV_KEY_LEN], aad[24], plain[14], want[30], got[30], back[14];

	(void)state;
	unhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f06f6e6d6c6b6a69686766656463626160f0f1f2f3f4f5f6f7f8f9"
	      "fafbfcfdfeff000102030405060708090a0b0c0d0e0f",
	      key, sizeof(key));
	unhex("101112131415161718191a1b1c1d1e1f2021222324252627", aad, sizeof(aad));
	unhex("112233445566778899aabbccddee", plain, sizeof(plain));
	unhex("f125274c598065cfc26b0e71575029088b035217e380cac8919ee800c126", want, sizeof(want));
	assert_int_equal(s3c_siv_seal(key, aad, sizeof(aad), plain, sizeof(plain), got), 0);
	assert_memory_equal(got, want, sizeof(want));
	assert_int_equal(s3c_siv_open(key, aad, sizeof(aad), want, sizeof(want), back), 0);
	assert_memory_equal(back, plain, sizeof(plain));
	for (size_t bit = 0; bit < 8 * sizeof(want); bit++) {
		want[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(s3c_siv_open(key, aad, sizeof(aad), want, sizeof(want), back),
				 -EBADMSG);
		for (size_t i = 0; i < sizeof(back); i++)
			assert_int_equal(back[i], 0);
		want[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(s3c_siv_open(key, aad, sizeof(aad) - 1, want, sizeof(want), back),
			 -EBADMSG);
	assert_int_equal(s3c_siv_open(key, aad, sizeof(aad), want, S3C_TAG_LEN, back), -EBADMSG);
	assert_int_equal(s3c_siv_seal(key, aad, 0, plain, sizeof(plain), got), -EINVAL);
	assert_int_equal(s3c_siv_seal(key, aad, sizeof(aad), plain, 0, got), -EINVAL);
}

static void random_and_equal(void **state)
{
	uint8_t a[1000] = { 0 }, b[1000] = { 0 };

	(void)state;
	s3c_random(a, sizeof(a));
	s3c_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_memory_not_equal(a, a + 500, 500);
	s3c_random(NULL, 0);

	memcpy(b, a, sizeof(a));
	assert_true(s3c_equal_ct(a, b, sizeof(a)));
	b[999] ^= 0x80;
	assert_false(s3c_equal_ct(a, b, sizeof(a)));
	assert_true(s3c_equal_ct(a, b, 999));
	assert_true(s3c_equal_ct(NULL, NULL, 0));
}

static void secret(void **state)
{
	enum { MANY = 2000, PIECE = 1024 };
	static uint8_t *pieces[MANY];
	struct rlimit core;
	uint8_t *p;
	char *text;
	int n = 0;

	(void)state;
	/* There is no way to ordinary memory. */
	assert_null(s3c_secret_alloc(32));
	assert_int_equal(s3c_secret_init(), 0);
	assert_int_equal(s3c_secret_init(), 0);
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
	assert_int_equal(core.rlim_cur, 0);

	text = s3c_secret_strdup("a pass phrase");
	assert_non_null(text);
	assert_string_equal(text, "a pass phrase");
	assert_true(CRYPTO_secure_allocated(text));
	s3c_secret_free(text);
	s3c_secret_free(NULL);

	/* Until the arena is full; what was used is zero when it is given out again. */
	for (int round = 0; round < 2; round++) {
		n = 0;
		while (n < MANY && (p = s3c_secret_alloc(PIECE))) {
			assert_true(CRYPTO_secure_allocated(p));
			for (size_t i = 0; i < PIECE; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xa5, PIECE);
			pieces[n++] = p;
		}
		assert_in_range(n, 900, 1024);
		for (int i = 0; i < n; i++)
			s3c_secret_free(pieces[i]);
	}
	assert_null(s3c_secret_alloc(2 << 20));

	{
		cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);

		assert_non_null(key);
		assert_true(CRYPTO_secure_used() >= S3C_KEY_LEN);
	}
	assert_int_equal(CRYPTO_secure_used(), 0);
	/* The leak checker of a sanitizer attaches to the process at its end. */
	prctl(PR_SET_DUMPABLE, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256),       cmocka_unit_test(md5),
		cmocka_unit_test(hmac),         cmocka_unit_test(hkdf),
		cmocka_unit_test(gcm_known),    cmocka_unit_test(gcm_in_place),
		cmocka_unit_test(gcm_tampered), cmocka_unit_test(gcm_chunks),
		cmocka_unit_test(siv),          cmocka_unit_test(random_and_equal),
		cmocka_unit_test(secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
