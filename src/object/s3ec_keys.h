/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Data keys of objects in formats of other clients under our seal (S3C_LAYOUT_S3EC): drawn, opened
 * and wrapped anew, by a master key or by a KMS. The envelope has the wrapped key, in the words of
 * those clients; the seal names who wrapped it.
 *
 * Any thread; with a KMS calls wait for it, with the errors of key/kms_keys.h. why (may be NULL)
 * gets words.
 */
#pragma once

#include "object/header.h"
#include "object/s3ec.h"

/*
 * File id, data key and envelope (added to *meta) of a new object, under whatever wraps new ones;
 * the header's key_id and kms become what did, and are not looked at. On an error what was drawn is
 * of no use.
 */
int s3c_s3ec_draw(unsigned version, const struct s3c_keyring *keyring, struct s3c_op *op,
		  struct s3c_header *header, uint8_t ret_data_key[static S3C_KEY_LEN],
		  struct s3c_meta *meta, char *why, size_t why_size);
/* The data key, checked against the header's commitment; errors as s3c_header_unwrap. */
int s3c_s3ec_open(const struct s3c_s3ec *s3ec, const struct s3c_header *header,
		  const struct s3c_keyring *keyring, struct s3c_op *op,
		  uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size);
/*
 * Wraps the data key anew, in *envelope (its items alone) and header: under key, or NULL: under the
 * active KMS key, by the KMS itself where it can. Both stay as they are on an error.
 */
int s3c_s3ec_renew(struct s3c_header *header, uint64_t stored_size,
		   const struct s3c_keyring *keyring, const struct s3c_master_key *key,
		   struct s3c_op *op, struct s3c_meta *envelope, char *why, size_t why_size);
/* For s3c_header_decode: sets key_id or kms by the id that a good seal covers. */
int s3c_s3ec_key_named(const struct s3c_meta *meta, uint64_t stored_size, const char *id,
		       struct s3c_header *header, char *why, size_t why_size);
