/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What the files of the contract suite share: the store under test and short forms. */
#pragma once

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/util.h"
#include "store/store.h"

struct contract {
	struct s3c_store *store;
	const struct s3c_ssec *ssec; /* NULL: without customer keys */
	char base[64];               /* all keys begin so; ends in '/' */
	const char *server;          /* S3C_TEST_SERVER; "" */
	bool is_file;
};
extern struct contract contract;

/* The key under the base; four buffers in turn. */
const char *key_of(const char *name);
struct s3c_store_request request(enum s3c_store_opcode op, const char *key);
/* Performs and fails the test with the message when the result is another. Frees reply if NULL. */
void expect(const struct s3c_store_request *rq, int result, struct s3c_store_reply *ret_reply);
int perform(const struct s3c_store_request *rq, struct s3c_store_reply *ret_reply);
void put_bytes(const char *key, const void *data, size_t len, char *ret_etag);
void put_text(const char *key, const char *text, char *ret_etag);
/* Compares the whole body. */
void expect_body(const char *key, const void *data, size_t len);
void expect_text(const char *key, const char *text);
bool is_server(const char *name);

extern const struct CMUnitTest object_tests[];
extern const size_t object_test_count;
extern const struct CMUnitTest list_tests[];
extern const size_t list_test_count;
extern const struct CMUnitTest upload_tests[];
extern const size_t upload_test_count;
extern const struct CMUnitTest call_tests[];
extern const size_t call_test_count;
