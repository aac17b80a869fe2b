/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Names that change places: what the files of exchange.c share. */
#pragma once

#include "engine/links.h"

/* The names of an exchange: the two, and the third that one of the contents has meanwhile. */
enum { S3C_X_FIRST, S3C_X_SECOND, S3C_X_ASIDE, S3C_X_NAMES };

struct s3c_exchange_body {
	uint8_t id[S3C_FILE_ID_LEN]; /* that the name refers to before */
	uint8_t old_op[S3C_OP_ID_LEN], new_op[S3C_OP_ID_LEN];
	mode_t type;
};

struct s3c_exchange {
	TAILQ_ENTRY(s3c_exchange) all;
	char *paths[S3C_X_NAMES];
	struct s3c_exchange_body bodies[2];
	uint64_t record; /* says which it is */
	int64_t due_ns;
	unsigned failures;
	bool done;
	bool sent[2]; /* the name may have been written, or be yet */
};

/* exchange_list.c: records, and the list. */

void s3c_exchange_free(struct s3c_exchange *x); /* NULL is legal; not one that is in the list */
/* Makes the journal have it, on the disk; done: as one that is acknowledged. */
int s3c_exchange_record(struct s3c_engine *engine, const struct s3c_exchange *x, bool done);
/* Found once more, it would be found to be over. */
void s3c_exchange_unrecord(struct s3c_engine *engine, const struct s3c_exchange *x);
/* Takes over; nobody tries it yet. */
void s3c_exchange_enter(struct s3c_engine *engine, struct s3c_exchange *x);
/* Out of the list, and freed. */
void s3c_exchange_remove(struct s3c_engine *engine, struct s3c_exchange *x);
/* It stays in the list, to be tried again. */
void s3c_exchange_postpone(struct s3c_engine *engine, struct s3c_exchange *x);

struct s3c_exchange_holds {
	char paths[S3C_X_NAMES][S3C_PATH_MAX];
	struct s3c_hold holds[S3C_X_NAMES];
	uint64_t record;
};
void s3c_exchange_holds_fill(struct s3c_exchange_holds *held, const struct s3c_exchange *x);

/* exchange_undo.c */

/* Undoes it, or what is left to do of one that is done. The names are held, and it is in the list.
   0: it is over, and freed; else it stays there, postponed. */
int s3c_exchange_end(struct s3c_engine *engine, struct s3c_op *op, struct s3c_exchange *x);
