/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/epochs.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/names.h"
#include "engine/volume_store.h"

#define EPOCH_LOOK_S 300 /* far less than S3C_EPOCH_GRACE_S, with what a request may take */

struct s3c_epochs {
	struct s3c_mutex lock; /* held while the volume object is read: who waits shares the look */
	atomic_int_least64_t looked_ns; /* when the last look began */
	uint8_t hash[S3C_SHA256_LEN];   /* of the body that was seen last; guarded by lock */
	bool missing;                   /* there was none; guarded by lock */
};

/* Goes on while the machine sleeps: what others do meanwhile counts. */
static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * S3C_NSEC_PER_SEC + now.tv_nsec;
}

int s3c_epochs_new(struct s3c_epochs **ret_epochs)
{
	struct s3c_epochs *epochs = calloc(1, sizeof(*epochs));

	if (!epochs)
		return -ENOMEM;
	s3c_mutex_init(&epochs->lock);
	/* The volume was opened for this engine. */
	epochs->looked_ns = now_ns();
	*ret_epochs = epochs;
	return 0;
}

void s3c_epochs_free(struct s3c_epochs *epochs)
{
	if (!epochs)
		return;
	s3c_mutex_destroy(&epochs->lock);
	free(epochs);
}

void s3c_epochs_age(struct s3c_engine *engine, int64_t seconds)
{
	engine->epochs->looked_ns = now_ns() - seconds * S3C_NSEC_PER_SEC;
}

static struct s3c_volume_request request_of(struct s3c_engine *engine)
{
	const struct s3c_engine_config *config = &engine->config;

	return (struct s3c_volume_request){
		.store = engine->store,
		.prefix = config->volume_prefix,
		.enc = config->enc,
		.keyring = s3c_keyring_in_use(config),
		.journal = config->journal,
		.source = config->source,
	};
}

/* Another body than the one that is known. */
static int take_body(struct s3c_engine *engine, const struct s3c_found_volume *found,
		     struct s3c_err *err)
{
	const struct s3c_engine_config *config = &engine->config;
	cleanup_volume struct s3c_volume *fresh = NULL;
	struct s3c_volume *volume = engine->volume;
	int r = s3c_volume_open(found->body.data, found->body.len, s3c_keyring_in_use(config), err,
				&fresh);

	if (r < 0)
		return r;
	if (fresh->family != volume->family ||
	    memcmp(fresh->id, volume->id, sizeof(fresh->id)) != 0)
		return s3c_err_set(err, -EKEYREJECTED, "someone put another volume there");
	if (fresh->serial < volume->serial)
		return s3c_err_set(err, -EKEYREJECTED,
				   "the store serves an old copy of it (serial %llu after %llu)",
				   (unsigned long long)fresh->serial,
				   (unsigned long long)volume->serial);
	r = s3c_volume_learn(volume, fresh);
	if (r < 0)
		return s3c_err_set(err, r, "someone put another volume there, under the same id");
	if (config->journal && !config->read_only &&
	    s3c_journal_pin_set(config->journal, config->source, volume->id, volume->serial) < 0)
		s3c_debug("the serial of the volume object was not noted");
	return 0;
}

/* Reads the volume object. epochs->lock held; found has it then, or, where it has vanished, not. */
static int look_locked(struct s3c_engine *engine, struct s3c_op *op, struct s3c_err *err,
		       struct s3c_found_volume *found)
{
	const struct s3c_volume_request rq = request_of(engine);
	struct s3c_epochs *epochs = engine->epochs;
	uint8_t hash[S3C_SHA256_LEN];
	int64_t started = now_ns();
	int r = s3c_volume_read(&rq, op, rq.prefix, err, found);

	if (r == -ENOENT) {
		/* Nobody can drop an epoch from it; it is put back by volume import. */
		if (!epochs->missing)
			s3c_error("the volume object at %s has vanished: put it back with "
				  "s3cryptfsctl volume import before this mount ends",
				  s3c_prefix_shown(rq.prefix));
		epochs->missing = true;
		epochs->looked_ns = started;
		return 0;
	}
	if (r == 0)
		r = s3c_sha256(found->body.data, found->body.len, hash);
	if (r == 0 && memcmp(hash, epochs->hash, sizeof(hash)) != 0)
		r = take_body(engine, found, err);
	if (r < 0)
		return r;
	memcpy(epochs->hash, hash, sizeof(hash));
	epochs->missing = false;
	epochs->looked_ns = started;
	return 0;
}

/* A look that has begun at wanted or later. lock held. */
static int look_since_locked(struct s3c_engine *engine, int64_t wanted, const char *why)
{
	cleanup_found struct s3c_found_volume found = { 0 };
	struct s3c_err err = { 0 };
	struct s3c_op op;
	int r;

	if (engine->epochs->looked_ns >= wanted)
		return 0;
	s3c_op_init(&op, s3c_engine_deadline(engine));
	r = look_locked(engine, &op, &err, &found);
	s3c_op_destroy(&op);
	if (r < 0)
		s3c_error("%s: the volume object at %s cannot be read again: %s", why,
			  s3c_prefix_shown(engine->config.volume_prefix), s3c_err_text(&err, r));
	return r < 0 ? -EREMOTEIO : 0;
}

int s3c_epochs_learn(struct s3c_engine *engine, uint32_t number)
{
	struct s3c_epochs *epochs = engine->epochs;
	int64_t wanted = now_ns();
	int r;

	if (!epochs)
		return -ENOKEY;
	s3c_mutex_lock(&epochs->lock);
	r = s3c_volume_seal_key(engine->volume, number)
		    ? 0
		    : look_since_locked(engine, wanted, "an object is of a new epoch");
	s3c_mutex_unlock(&epochs->lock);
	if (r < 0)
		return r;
	return s3c_volume_seal_key(engine->volume, number) ? 0 : -ENOKEY;
}

/* Somebody dropped it and had not seen what was written just now. lock held. */
static int put_back_locked(struct s3c_engine *engine, struct s3c_epoch *epoch)
{
	const struct s3c_volume_request rq = request_of(engine);
	struct s3c_err err = { 0 };
	struct s3c_op op;
	int r = 0;

	s3c_op_init(&op, s3c_engine_deadline(engine));
	for (unsigned tries = 0; r == 0 && epoch->dropped && tries < 5; tries++) {
		cleanup_found struct s3c_found_volume found = { 0 }, after = { 0 };
		cleanup_buf struct s3c_buf body = { 0 };
		bool missing = false;

		r = look_locked(engine, &op, &err, &found);
		if (r == 0 && epoch->dropped && found.prefix)
			r = s3c_volume_put_back_epoch(found.body.data, found.body.len, rq.keyring,
						      engine->volume, epoch->number, &err, &missing,
						      &body);
		if (r == 0 && missing)
			r = s3c_volume_put(&rq, &op, rq.prefix, &body, found.st.version.etag, &err);
		if (r == 0 && missing)
			r = look_locked(engine, &op, &err, &after);
	}
	s3c_op_destroy(&op);
	if (r == 0 && !epoch->dropped) {
		s3c_info("epoch %u is in the volume object again: an object needs it",
			 epoch->number);
		return 0;
	}
	s3c_error("epoch %u was taken out of the volume object and cannot be put back: %s",
		  epoch->number, r < 0 ? s3c_err_text(&err, r) : "others change it all the time");
	return -EREMOTEIO;
}

int s3c_epochs_confirm(struct s3c_engine *engine, const struct s3c_header *header)
{
	struct s3c_epochs *epochs = engine->epochs;
	int64_t wrote = now_ns();
	struct s3c_epoch *epoch;
	int r;

	if (!epochs || !s3c_layout_is_sealed(header->layout))
		return 0;
	if (header->epoch == engine->volume->epoch &&
	    wrote - epochs->looked_ns < EPOCH_LOOK_S * S3C_NSEC_PER_SEC)
		return 0;
	epoch = s3c_volume_epoch_find(engine->volume, header->epoch);
	if (!epoch)
		return -EIO; /* it could not have been sealed */
	s3c_mutex_lock(&epochs->lock);
	r = look_since_locked(engine, wrote, "something was written");
	if (r == 0 && epoch->dropped)
		r = put_back_locked(engine, epoch);
	s3c_mutex_unlock(&epochs->lock);
	return r;
}

int s3c_header_decode_live(struct s3c_engine *engine, const struct s3c_meta *meta, const char *key,
			   uint64_t stored_size, bool may_wait, struct s3c_header *ret_header,
			   char *why, size_t why_size)
{
	const char *rel = s3c_rel_key(engine, key);
	uint32_t epoch = 0;
	int r = s3c_header_decode(meta, engine->volume, rel, stored_size, ret_header, why,
				  why_size);

	if (r != -ENOKEY || !may_wait || s3c_header_epoch(meta, &epoch) < 0)
		return r;
	r = s3c_epochs_learn(engine, epoch);
	return r < 0 ? r
		     : s3c_header_decode(meta, engine->volume, rel, stored_size, ret_header, why,
					 why_size);
}
