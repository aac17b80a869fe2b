/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 *	trailer   = table, footer, table MAC(32), footer seal(32)
 *	table     = salt(16) for each segment
 *	footer    = be64 size, s64 mtime in ns, content id(16), be64 segments
 *	table MAC = HMAC(HKDF(data key, "s3cryptfs trailer" | file id), table | footer)
 *	footer seal = HMAC(seal key, field("s3cryptfs footer v1") | field(file id) | field(footer))
 */
#include "object/trailer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

#define FOOTER_LEN 40u
#define MAC_LEN S3C_SHA256_LEN

static const char trailer_label[] = "s3cryptfs trailer";
static const char footer_label[] = "s3cryptfs footer v1";

const uint32_t s3c_footer_stored_len = FOOTER_LEN + 2 * MAC_LEN;

static int bad(char *why, size_t why_size, const char *words)
{
	if (why && why_size)
		snprintf(why, why_size, "%s", words);
	return -EBADMSG;
}

uint64_t s3c_trailer_len(uint64_t segments)
{
	return segments * S3C_SALT_LEN + s3c_footer_stored_len;
}

static void pack_footer(const struct s3c_footer *footer, uint8_t out[static FOOTER_LEN])
{
	s3c_put_be64(out, footer->size);
	s3c_put_be64(out + 8, (uint64_t)footer->mtime_ns);
	memcpy(out + 16, footer->content_id, S3C_CONTENT_ID_LEN);
	s3c_put_be64(out + 32, footer->segments);
}

/* Size and number of segments as they have to be. */
static bool footer_sane(const struct s3c_footer *footer)
{
	return footer->size <= S3C_FILE_SIZE_MAX && footer->segments >= 2 &&
	       footer->segments == s3c_segment_count(footer->size);
}

/* HMAC over the bytes of table and footer, which follow each other. */
static int table_mac(const uint8_t *data_key, const uint8_t *file_id, const void *bytes, size_t len,
		     uint8_t ret_mac[static MAC_LEN])
{
	uint8_t info[sizeof(trailer_label) - 1 + S3C_FILE_ID_LEN], key[S3C_KEY_LEN];
	int r;

	memcpy(info, trailer_label, sizeof(trailer_label) - 1);
	memcpy(info + sizeof(trailer_label) - 1, file_id, S3C_FILE_ID_LEN);
	r = s3c_hkdf_sha256(data_key, S3C_KEY_LEN, NULL, 0, info, sizeof(info), key, sizeof(key));
	if (r == 0)
		r = s3c_hmac_sha256(key, sizeof(key), bytes, len, ret_mac);
	s3c_wipe(key, sizeof(key));
	return r;
}

static int footer_seal(const struct s3c_volume *volume, const struct s3c_header *header,
		       const uint8_t packed[static FOOTER_LEN], uint8_t ret_mac[static MAC_LEN])
{
	const uint8_t *seal_key = s3c_volume_seal_key(volume, header->epoch);
	const size_t label_len = sizeof(footer_label) - 1;
	uint8_t in[3 * 4 + sizeof(footer_label) - 1 + S3C_FILE_ID_LEN + FOOTER_LEN], *p = in;

	if (!seal_key)
		return -EINVAL;
	s3c_put_be32(p, (uint32_t)label_len);
	p = (uint8_t *)mempcpy(p + 4, footer_label, label_len);
	s3c_put_be32(p, S3C_FILE_ID_LEN);
	p = (uint8_t *)mempcpy(p + 4, header->file_id, S3C_FILE_ID_LEN);
	s3c_put_be32(p, FOOTER_LEN);
	memcpy(p + 4, packed, FOOTER_LEN);
	return s3c_hmac_sha256(seal_key, S3C_KEY_LEN, in, sizeof(in), ret_mac);
}

int s3c_trailer_encode(const struct s3c_footer *footer, const uint8_t *salts,
		       const uint8_t data_key[static S3C_KEY_LEN], const struct s3c_header *header,
		       const struct s3c_volume *volume, struct s3c_buf *out)
{
	uint8_t packed[FOOTER_LEN], mac[2 * MAC_LEN];
	size_t start = out->len;
	int r;

	if (!footer_sane(footer) ||
	    memcmp(footer->content_id, header->content_id, S3C_CONTENT_ID_LEN) != 0)
		return -EINVAL;
	r = s3c_buf_reserve(out, s3c_trailer_len(footer->segments));
	if (r < 0)
		return r;
	pack_footer(footer, packed);
	r = s3c_buf_append(out, salts, footer->segments * S3C_SALT_LEN);
	if (r == 0)
		r = s3c_buf_append(out, packed, sizeof(packed));
	if (r == 0)
		r = table_mac(data_key, header->file_id, out->data + start, out->len - start, mac);
	if (r == 0)
		r = footer_seal(volume, header, packed, mac + MAC_LEN);
	if (r == 0)
		r = s3c_buf_append(out, mac, sizeof(mac));
	if (r < 0 && out->data) {
		out->len = start;
		out->data[start] = '\0';
	}
	return r;
}

/* Whether some choice of holes gives this stored size. */
static bool stored_size_possible(const struct s3c_footer *footer, uint64_t stored_size)
{
	uint64_t trailer = s3c_trailer_len(footer->segments), full = footer->segments - 1, rest;
	uint32_t last = s3c_segment_stored_len(footer->size, full);

	if (stored_size < trailer)
		return false;
	rest = stored_size - trailer;
	if (rest % S3C_SEGMENT_STRIDE == 0 && rest / S3C_SEGMENT_STRIDE <= full)
		return true; /* the last segment is a hole */
	return rest >= last && (rest - last) % S3C_SEGMENT_STRIDE == 0 &&
	       (rest - last) / S3C_SEGMENT_STRIDE <= full;
}

int s3c_footer_decode(const void *tail, size_t tail_len, uint64_t stored_size,
		      const struct s3c_header *header, const struct s3c_volume *volume,
		      struct s3c_footer *ret_footer, char *why, size_t why_size)
{
	struct s3c_footer footer;
	const uint8_t *p;
	uint8_t mac[MAC_LEN];
	int r;

	if (header->layout != S3C_LAYOUT_TRAILER)
		return -EINVAL;
	if (tail_len < s3c_footer_stored_len || stored_size < tail_len)
		return bad(why, why_size, "too short for its footer: truncated");
	p = (const uint8_t *)tail + tail_len - s3c_footer_stored_len;
	r = footer_seal(volume, header, p, mac);
	if (r < 0)
		return r;
	if (!s3c_equal_ct(mac, p + FOOTER_LEN + MAC_LEN, sizeof(mac)))
		return bad(why, why_size,
			   "the seal of its footer does not fit: altered, truncated or extended");
	footer.size = s3c_get_be64(p);
	footer.mtime_ns = (int64_t)s3c_get_be64(p + 8);
	memcpy(footer.content_id, p + 16, S3C_CONTENT_ID_LEN);
	footer.segments = s3c_get_be64(p + 32);
	if (memcmp(footer.content_id, header->content_id, S3C_CONTENT_ID_LEN) != 0)
		return bad(why, why_size, "footer and metadata are of different versions");
	if (!footer_sane(&footer) || !stored_size_possible(&footer, stored_size))
		return bad(why, why_size, "its size cannot be: truncated or extended");
	*ret_footer = footer;
	return 0;
}

/* Bytes of the segments that are no holes, and the trailer. */
static uint64_t stored_size_of(const struct s3c_footer *footer, const uint8_t *table)
{
	uint64_t size = s3c_trailer_len(footer->segments);

	for (uint64_t i = 0; i < footer->segments; i++)
		if (!s3c_salt_is_hole(table + i * S3C_SALT_LEN))
			size += s3c_segment_stored_len(footer->size, i);
	return size;
}

int s3c_table_verify(const uint8_t *table, const uint8_t *footer_stored,
		     const struct s3c_footer *footer, uint64_t stored_size,
		     const uint8_t data_key[static S3C_KEY_LEN], const struct s3c_header *header,
		     char *why, size_t why_size)
{
	uint8_t packed[FOOTER_LEN], mac[MAC_LEN];
	cleanup_free uint8_t *copy = NULL;
	size_t table_len;
	int r;

	if (!footer_sane(footer))
		return bad(why, why_size, "its size cannot be");
	/* The caller trusts *footer, so that is what must have been authenticated. */
	pack_footer(footer, packed);
	if (memcmp(packed, footer_stored, FOOTER_LEN) != 0)
		return bad(why, why_size, "its footer changed while it was read");
	if (memcmp(footer->content_id, header->content_id, S3C_CONTENT_ID_LEN) != 0)
		return bad(why, why_size, "footer and metadata are of different versions");
	table_len = footer->segments * S3C_SALT_LEN;
	if (footer_stored != table + table_len) { /* a table can be large: no copy without need */
		copy = malloc(table_len + FOOTER_LEN);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, table, table_len);
		memcpy(copy + table_len, packed, FOOTER_LEN);
	}
	r = table_mac(data_key, header->file_id, copy ? copy : table, table_len + FOOTER_LEN, mac);
	if (r < 0)
		return r;
	if (!s3c_equal_ct(mac, footer_stored + FOOTER_LEN, sizeof(mac)))
		return bad(why, why_size,
			   "the table of its segments is not authentic: altered, or of another "
			   "version");
	if (stored_size_of(footer, table) != stored_size)
		return bad(why, why_size, "its size does not fit its table: truncated or extended");
	return 0;
}
