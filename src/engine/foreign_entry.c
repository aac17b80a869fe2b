/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Objects of other S3 encryption clients as entries: which are read, which are refused and in what
 * words, and how large they are.
 *
 * Their size is told by nobody who can be believed before the content was verified: from the size
 * of the body or, for CBC, from a claim in the metadata or the last block. A read of content that
 * turns out otherwise fails. An empty file is never read, so that one is verified here.
 */
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "object/s3ec_body.h"

#define SEALED_ALG "s3cryptfs/"

bool s3c_meta_is_ours(const struct s3c_meta *meta)
{
	const char *alg = s3c_meta_get(meta, "x-amz-cek-alg");

	return s3c_meta_get(meta, "s3cryptfs") ||
	       (alg && strncmp(alg, SEALED_ALG, strlen(SEALED_ALG)) == 0);
}

const char *s3c_foreign_remedy(const struct s3c_engine *engine, const struct s3c_s3ec *s3ec)
{
	unsigned accept = engine->config.accept;

	if (!s3c_sealed_mode(engine))
		return s3ec->legacy ? "a read-only mount with enc=cse-key,accept=s3ec-v1 reads it"
				    : "a mount with enc=cse-key,accept=s3ec reads it";
	if (s3ec->legacy && !(accept & S3C_ACCEPT_S3EC_V1))
		return "a read-only mount with accept=s3ec-v1, and s3cryptfsctl cat, read it";
	if (!s3ec->legacy && !(accept & S3C_ACCEPT_S3EC))
		return "a mount with accept=s3ec reads it";
	if (s3ec->legacy && !engine->config.read_only)
		return "only a read-only mount reads it";
	/* A rename or an unlink would leave the file behind. */
	if (s3ec->instruction && !engine->config.read_only)
		return "its key stands in an instruction file: only a read-only mount reads it";
	return NULL;
}

static int refuse_with(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		       const char *what, const char *why)
{
	char words[512];

	snprintf(words, sizeof(words), "%s: %s", what, why);
	return s3c_entry_refuse(engine, key, st, -EIO, words);
}

static int find_known(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		      struct s3c_s3ec **s3ec, struct s3c_s3ec **ret_s3ec)
{
	const char *why = s3c_foreign_remedy(engine, *s3ec);
	char what[256];

	if (!why) {
		*ret_s3ec = steal_ptr(*s3ec);
		return 0;
	}
	s3c_s3ec_describe(*s3ec, what, sizeof(what));
	return refuse_with(engine, key, st, what, why);
}

int s3c_foreign_find(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		     const struct s3c_instruction *instruction, struct s3c_s3ec **ret_s3ec)
{
	bool file = instruction && instruction->asked && instruction->data;
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	unsigned accept = engine->config.accept;
	char why[256] = "";
	int r;

	if (s3c_meta_is_ours(&st->meta))
		return s3c_entry_refuse(
			engine, key, st, -EIO,
			s3c_sealed_mode(engine) && !engine->volume
				? "it is sealed by a volume of s3cryptfs, and there "
				  "is none here to open it with"
				: "it is sealed by another volume of s3cryptfs");
	r = s3c_s3ec_parse(&st->meta, file ? instruction->data : NULL, file ? instruction->len : 0,
			   st->size, &s3ec, why, sizeof(why));
	if (r == 0)
		return find_known(engine, key, st, &s3ec, ret_s3ec);
	if (r == -ENOMEM)
		return r;
	if (r != -ENODATA && r != -EREMOTE)
		return refuse_with(engine, key, st, "another client encrypted it", why);
	/* No body is shorter than a tag. */
	if (st->size >= S3C_TAG_LEN && (accept & S3C_ACCEPT_FOREIGN) && instruction &&
	    !instruction->asked)
		return -EREMOTE;
	if (r == -ENODATA)
		return r;
	return refuse_with(
		engine, key, st, "V3 of the Amazon S3 Encryption Client",
		accept & S3C_ACCEPT_FOREIGN
			? "its key should stand in an instruction file, which is missing"
			: "its key stands in an instruction file: a read-only mount with "
			  "enc=cse-key,accept=s3ec reads it");
}

static int refuse_unwrap(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			 int r, const char *why)
{
	if (r != -EACCES && r != -EBADMSG && r != -EPROTO)
		return r;
	return s3c_entry_refuse(engine, key, st, r == -EACCES ? r : -EIO, why);
}

/* From the last block of CBC. */
static int find_size(struct s3c_engine *engine, const struct s3c_s3ec *s3ec, const void *tail,
		     size_t tail_len, uint64_t *ret_size, char *why, size_t why_size)
{
	cleanup_secret uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	int r;

	if (!data_key)
		return -ENOMEM;
	r = s3c_s3ec_unwrap(s3ec, s3c_keyring_in_use(&engine->config), engine->config.kms, data_key,
			    why, why_size);
	if (r < 0)
		return r;
	snprintf(why, why_size,
		 "its last block has no padding: it was altered, or the key is "
		 "another one");
	return s3c_s3ec_cbc_size(s3ec, data_key, tail, tail_len, ret_size);
}

static int check_empty(struct s3c_engine *engine, const struct s3c_s3ec *s3ec, const void *tail,
		       size_t tail_len, char *why, size_t why_size)
{
	cleanup_secret uint8_t *data_key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
	int r;

	if (!data_key)
		return -ENOMEM;
	r = s3c_s3ec_unwrap(s3ec, s3c_keyring_in_use(&engine->config), engine->config.kms, data_key,
			    why, why_size);
	if (r < 0)
		return r;
	snprintf(why, why_size, "it is not authentic: it was altered, or cut");
	return s3c_s3ec_verify(s3ec, data_key, tail, tail_len, &body);
}

int s3c_foreign_take(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		     const void *tail, size_t tail_len, const struct s3c_entry *prior,
		     struct s3c_entry *entry)
{
	const struct s3c_s3ec *s3ec = entry->s3ec;
	struct s3c_header *header = &entry->header;
	char why[256] = "";
	int r = 0;

	if (s3ec->size_known && header->size)
		return 0;
	if (!tail || !tail_len) {
		/* Of the same version it is known. */
		if (!prior || prior->header.layout != S3C_LAYOUT_FOREIGN || !st->version.etag[0] ||
		    !s3c_etag_equal(prior->version.etag, st->version.etag) ||
		    memcmp(prior->header.content_id, header->content_id, S3C_CONTENT_ID_LEN) != 0)
			return -ENODATA;
		header->size = prior->header.size;
		return 0;
	}
	if (!s3ec->size_known)
		r = find_size(engine, s3ec, tail, tail_len, &header->size, why, sizeof(why));
	if (r == 0 && !header->size)
		r = check_empty(engine, s3ec, tail, tail_len, why, sizeof(why));
	return r < 0 ? refuse_unwrap(engine, key, st, r, why) : 0;
}
