/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Epochs of a volume while it is mounted (doc/format.md). rekey begins one, brings all objects into
 * it, and drops the older ones: an object that names one of those could be read by nobody. What
 * keeps that from happening, whatever other machines do meanwhile:
 *
 *	- Who meets an object of an epoch that he does not know reads the volume object again. An
 *	  epoch is in the volume object before the first object names it.
 *	- Who has written, under an epoch, reads the volume object again before that counts as done:
 *	  when his last look is older than EPOCH_LOOK_S, or the epoch is not the newest that he
 *	  knows. If it is gone he puts it back, as he has its key.
 *	- Older epochs are dropped only by a run over the whole volume that has begun
 *	  S3C_EPOCH_GRACE_S after the newest was, and that saw no object naming them. By then nobody
 *	  writes new ones; what is copied from an old one is what the second rule is for.
 */
#pragma once

#include "engine/engine.h"
#include "object/header.h"
#include "store/store.h"

struct s3c_epochs;
int s3c_epochs_new(struct s3c_epochs **ret_epochs);
void s3c_epochs_free(struct s3c_epochs *epochs);

/* Reads the volume object again, when nobody has since this began. 0: the epoch is known now;
   -ENOKEY: the volume does not have it; -EREMOTEIO: nobody could tell, which is logged. Waits;
   engine->lock not held. */
int s3c_epochs_learn(struct s3c_engine *engine, uint32_t epoch);
/*
 * After an object was written under an epoch, before anyone is told: makes sure that the volume
 * object has it. Mostly nothing is asked. Failures (-EREMOTEIO) are logged: what was written does
 * not count then. Waits; engine->lock not held.
 */
int s3c_epochs_confirm(struct s3c_engine *engine, const struct s3c_header *header);
/* As if the last look was that long ago: for tests. */
void s3c_epochs_age(struct s3c_engine *engine, int64_t seconds);

/* s3c_header_decode under the engine's volume, which learns the epoch where it has to. may_wait
   false: -ENOKEY then, and the caller asks again from where he may. */
int s3c_header_decode_live(struct s3c_engine *engine, const struct s3c_meta *meta, const char *key,
			   uint64_t stored_size, bool may_wait, struct s3c_header *ret_header,
			   char *why, size_t why_size);
