/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object_fixture.h"

#include "object/trailer.h"

static const uint8_t seal_key[32] = { 1, 2, 3 }, data_key[32] = { 4, 5, 6 };
#define FOOTER_STORED 104

struct made {
	struct s3c_volume volume;
	struct s3c_header header;
	struct s3c_footer footer;
	uint8_t *salts;
	struct s3c_buf trailer;
	uint64_t stored; /* size of the whole object */
};

/* holes: bit i says that segment i is one. */
static void make(struct made *m, uint64_t size, unsigned holes)
{
	*m = (struct made){ .volume = volume_by_hand(seal_key) };
	m->header = (struct s3c_header){ .layout = S3C_LAYOUT_TRAILER, .epoch = 1 };
	count_up(m->header.file_id, 16, 1);
	count_up(m->header.content_id, 16, 2);
	m->footer = (struct s3c_footer){ size, -5, { 0 }, s3c_segment_count(size) };
	memcpy(m->footer.content_id, m->header.content_id, 16);
	m->salts = calloc(m->footer.segments, S3C_SALT_LEN);
	assert_non_null(m->salts);
	for (uint64_t i = 0; i < m->footer.segments; i++) {
		if (i < 32 && holes >> i & 1)
			continue;
		s3c_salt_draw(m->salts + i * S3C_SALT_LEN);
		m->stored += s3c_segment_stored_len(size, i);
	}
	s3c_buf_init(&m->trailer, 64 << 20);
	assert_int_equal(s3c_buf_append_str(&m->trailer, "before"), 0);
	assert_int_equal(s3c_trailer_encode(&m->footer, m->salts, data_key, &m->header, &m->volume,
					    &m->trailer),
			 0);
	assert_int_equal(m->trailer.len, 6 + s3c_trailer_len(m->footer.segments));
	m->stored += s3c_trailer_len(m->footer.segments);
}

static void unmake(struct made *m)
{
	free(m->salts);
	s3c_buf_free(&m->trailer);
}

/* Both checks, as a reader makes them; 1 when only the second one refuses. */
static int check(const struct made *m, const void *trailer, size_t len, uint64_t stored)
{
	const uint8_t *p = trailer;
	struct s3c_footer footer;
	char why[200] = "";
	int r;

	r = s3c_footer_decode(trailer, len, stored, &m->header, &m->volume, &footer, why,
			      sizeof(why));
	assert_true(r == 0 || why[0]);
	if (r < 0)
		return r;
	if (len != s3c_trailer_len(footer.segments))
		return -EBADMSG; /* what a reader fetches follows from the footer */
	r = s3c_table_verify(p, p + len - FOOTER_STORED, &footer, stored, data_key, &m->header, why,
			     sizeof(why));
	assert_true(r == 0 || (r == -EBADMSG && why[0]));
	return r < 0 ? 1 : 0;
}

static void test_round_trip(void **state)
{
	static const struct {
		uint64_t size;
		unsigned holes;
	} cases[] = {
		{ 8388609, 0 },  { 8388609, 1 },  { 8388609, 2 },
		{ 8388609, 3 },  { 16777216, 0 }, { 16777216, 1 },
		{ 16777216, 2 }, { 16777217, 5 }, { 100 * UINT64_C(8388608) + 65536, 0xf0f0f },
	};

	(void)state;
	assert_int_equal(s3c_footer_stored_len, FOOTER_STORED);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_footer footer;
		struct made m;

		make(&m, cases[i].size, cases[i].holes);
		assert_int_equal(check(&m, m.trailer.data + 6, m.trailer.len - 6, m.stored), 0);
		/* The footer alone, and at the end of a longer tail. */
		assert_int_equal(s3c_footer_decode(m.trailer.data + m.trailer.len - FOOTER_STORED,
						   FOOTER_STORED, m.stored, &m.header, &m.volume,
						   &footer, NULL, 0),
				 0);
		assert_int_equal(footer.size, cases[i].size);
		assert_int_equal(footer.mtime_ns, -5);
		assert_int_equal(footer.segments, s3c_segment_count(cases[i].size));
		for (uint64_t d = 1; d < 40; d++) {
			assert_int_not_equal(
				check(&m, m.trailer.data + 6, m.trailer.len - 6, m.stored + d), 0);
			assert_int_not_equal(
				check(&m, m.trailer.data + 6, m.trailer.len - 6, m.stored - d), 0);
		}
		assert_int_not_equal(check(&m, m.trailer.data + 6, m.trailer.len - 6,
					   m.stored + S3C_SEGMENT_STRIDE),
				     0);
		/* All segments have one length: the footer alone tells that this cannot be. */
		if (cases[i].size % S3C_SEGMENT_SIZE == 0)
			assert_int_equal(
				check(&m, m.trailer.data + 6, m.trailer.len - 6, m.stored + 1),
				-EBADMSG);
		assert_int_equal(check(&m, m.trailer.data + 6, m.trailer.len - 6,
				       m.stored + 100 * (uint64_t)S3C_SEGMENT_STRIDE),
				 -EBADMSG);
		unmake(&m);
	}
}

static void test_largest(void **state)
{
	struct made m;

	(void)state;
	make(&m, S3C_FILE_SIZE_MAX, 0);
	assert_int_equal(m.trailer.len, 6 + 2097152 * 16 + FOOTER_STORED);
	assert_int_equal(check(&m, m.trailer.data + 6, m.trailer.len - 6, m.stored), 0);
	unmake(&m);
}

static void test_bits(void **state)
{
	struct made m;
	uint8_t *t;
	size_t len;

	(void)state;
	make(&m, 2 * 8388608 + 5, 2);
	t = (uint8_t *)m.trailer.data + 6;
	len = m.trailer.len - 6;
	for (size_t bit = 0; bit < 8 * len; bit++) {
		flip_bit(t, bit);
		/* The table and its MAC are under the data key, all else under the seal key. */
		if (bit / 8 < 48 || (bit / 8 >= 88 && bit / 8 < 120))
			assert_int_equal(check(&m, t, len, m.stored), 1);
		else
			assert_int_equal(check(&m, t, len, m.stored), -EBADMSG);
		flip_bit(t, bit);
	}
	for (size_t cut = 0; cut < len; cut++) {
		assert_int_equal(check(&m, t, cut, m.stored), -EBADMSG);
		if (cut)
			assert_int_equal(check(&m, t + cut, len - cut, m.stored), -EBADMSG);
	}
	assert_int_equal(check(&m, t, len, m.stored), 0);
	unmake(&m);
}

static void test_mixed(void **state)
{
	const uint8_t other_seal[32] = { 3 }, other_key[32] = { 7 };
	struct s3c_footer footer;
	struct made m;
	uint8_t *t;
	size_t len;

	(void)state;
	make(&m, 3 * 8388608, 0);
	t = (uint8_t *)m.trailer.data + 6;
	len = m.trailer.len - 6;
	m.volume = volume_by_hand(other_seal);
	assert_int_equal(check(&m, t, len, m.stored), -EBADMSG);
	m.volume = volume_by_hand(seal_key);
	m.header.file_id[3] ^= 1;
	assert_int_equal(check(&m, t, len, m.stored), -EBADMSG);
	m.header.file_id[3] ^= 1;
	m.header.content_id[3] ^= 1; /* metadata of another version */
	assert_int_equal(check(&m, t, len, m.stored), -EBADMSG);
	m.header.content_id[3] ^= 1;
	assert_int_equal(
		s3c_footer_decode(t, len, m.stored, &m.header, &m.volume, &footer, NULL, 0), 0);
	assert_int_equal(
		s3c_table_verify(t, t + 48, &footer, m.stored, other_key, &m.header, NULL, 0),
		-EBADMSG);
	assert_int_equal(
		s3c_table_verify(t, t + 48, &footer, m.stored, data_key, &m.header, NULL, 0), 0);
	/* The caller's footer is not the one that the MAC is over. */
	footer.mtime_ns++;
	assert_int_equal(
		s3c_table_verify(t, t + 48, &footer, m.stored, data_key, &m.header, NULL, 0),
		-EBADMSG);
	/* Two salts exchanged. */
	memcpy(t, m.salts + 16, 16);
	memcpy(t + 16, m.salts, 16);
	assert_int_equal(check(&m, t, len, m.stored), 1);
	unmake(&m);
}

/* The table need not lie before the footer in memory. */
static void test_apart(void **state)
{
	struct s3c_footer footer;
	uint8_t tail[FOOTER_STORED];
	struct made m;

	(void)state;
	make(&m, 3 * 8388608, 0);
	memcpy(tail, m.trailer.data + m.trailer.len - FOOTER_STORED, sizeof(tail));
	assert_int_equal(s3c_footer_decode(tail, sizeof(tail), m.stored, &m.header, &m.volume,
					   &footer, NULL, 0),
			 0);
	assert_int_equal(
		s3c_table_verify(m.salts, tail, &footer, m.stored, data_key, &m.header, NULL, 0),
		0);
	m.salts[0] ^= 1;
	assert_int_equal(
		s3c_table_verify(m.salts, tail, &footer, m.stored, data_key, &m.header, NULL, 0),
		-EBADMSG);
	unmake(&m);
}

static void test_encode_refuses(void **state)
{
	static const struct s3c_footer wrong[] = {
		{ .size = 8388608, .segments = 1 },
		{ .size = 8388609, .segments = 1 },
		{ .size = 8388609, .segments = 3 },
		{ .size = 0, .segments = 0 },
		{ .size = S3C_FILE_SIZE_MAX + 1, .segments = 2097153 },
		{ .size = UINT64_MAX, .segments = 2 },
	};
	struct s3c_footer footer;
	struct s3c_buf small = { .max = 150 };
	struct made m;

	(void)state;
	make(&m, 4 * 8388608, 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		footer = wrong[i];
		memcpy(footer.content_id, m.header.content_id, 16);
		assert_int_equal(s3c_trailer_encode(&footer, m.salts, data_key, &m.header,
						    &m.volume, &small),
				 -EINVAL);
	}
	footer = m.footer;
	footer.content_id[0] ^= 1;
	assert_int_equal(
		s3c_trailer_encode(&footer, m.salts, data_key, &m.header, &m.volume, &small),
		-EINVAL);
	assert_int_equal(
		s3c_trailer_encode(&m.footer, m.salts, data_key, &m.header, &m.volume, &small),
		-EMSGSIZE);
	assert_int_equal(small.len, 0);
	s3c_buf_free(&small);
	unmake(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_largest),
		cmocka_unit_test(test_bits),       cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_apart),      cmocka_unit_test(test_encode_refuses),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
