/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/sweep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/links.h"
#include "engine/pending.h"

struct body {
	UT_hash_handle hh;
	uint8_t id[S3C_FILE_ID_LEN];
	bool listed;
	int64_t modified_ns;
	uint64_t names;
	bool doomed;      /* to be deleted, if the second look does not find a name */
	uint64_t again;   /* names that it found */
	char example[64]; /* of the key of a name, for messages */
};

struct sweep {
	struct s3c_engine *engine;
	struct s3c_op *op;
	const struct s3c_sweep_request *rq;
	struct s3c_sweep_counts counts;
	struct body *bodies;
	bool second;
};

static void tell(struct sweep *sw, const char *key, const char *what)
{
	if (sw->rq->tell)
		sw->rq->tell(sw->rq->arg, key, what);
}

static void tell_body(struct sweep *sw, const struct body *body, const char *what)
{
	char path[S3C_BODY_PATH];

	s3c_body_path(body->id, path);
	tell(sw, path, what);
}

static void tell_failed(struct sweep *sw, const char *key, int result)
{
	char text[128];

	snprintf(text, sizeof(text), "skipped: %s", strerror(-result));
	tell(sw, key, text);
	sw->counts.failed++;
}

static struct body *body_of(struct sweep *sw, const uint8_t *id)
{
	struct body *body;

	HASH_FIND(hh, sw->bodies, id, S3C_FILE_ID_LEN, body);
	if (body)
		return body;
	body = calloc(1, sizeof(*body));
	if (!body)
		return NULL;
	memcpy(body->id, id, S3C_FILE_ID_LEN);
	HASH_ADD(hh, sw->bodies, id, sizeof(body->id), body);
	if (!body->hh.tbl) {
		free(body);
		return NULL;
	}
	return body;
}

/* 0: header filled; -ENOENT. */
static int look(struct sweep *sw, const char *key, struct s3c_header *ret_header,
		struct s3c_version *ret_version)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = s3c_key_head(sw->engine, key, &reply);

	if (r == 0)
		r = s3c_header_of(sw->engine, key, &reply.stat, ret_header);
	if (r == 0)
		*ret_version = reply.stat.version;
	return r;
}

static int add_name(struct sweep *sw, const char *key)
{
	cleanup_header struct s3c_header header = { 0 };
	struct s3c_version version;
	struct body *body;
	int r = look(sw, key, &header, &version);

	if (r == -ENOENT)
		return 0;
	/* What cannot be read may be a name: of which body is not known. */
	if (r < 0) {
		tell_failed(sw, key, r);
		return 0;
	}
	if (!s3c_layout_is_reference(header.layout))
		return 0;
	body = body_of(sw, header.file_id);
	if (!body)
		return -ENOMEM;
	if (sw->second) {
		body->again++;
		return 0;
	}
	sw->counts.names++;
	body->names++;
	snprintf(body->example, sizeof(body->example), "%s", key);
	return 0;
}

static int add_entry(struct sweep *sw, const struct s3c_list_entry *entry)
{
	const struct s3c_engine *engine = sw->engine;
	const char *rel = entry->key + strlen(engine->config.prefix);
	uint8_t id[S3C_FILE_ID_LEN];
	struct body *body;

	/* The prefix is the volume's, or there is no volume. */
	sw->counts.objects += !sw->second;
	if (s3c_body_id(rel, id)) {
		body = sw->second ? NULL : body_of(sw, id);
		if (!body)
			return sw->second ? 0 : -ENOMEM;
		body->listed = true;
		body->modified_ns = entry->modified_ns;
		sw->counts.bodies++;
		return 0;
	}
	if (!s3c_reference_size(entry->size) || entry->key[strlen(entry->key) - 1] == '/' ||
	    strncmp(rel, S3C_RESERVED_NAME "/", sizeof(S3C_RESERVED_NAME)) == 0)
		return 0;
	return add_name(sw, entry->key);
}

static int list_all(struct sweep *sw)
{
	cleanup_free char *token = NULL;
	int r = 0;

	do {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_request list = {
			.op = S3C_STORE_LIST,
			.prefix = sw->engine->config.prefix,
			.token = token,
		};

		r = s3c_request(sw->engine, &list, sw->op, &reply);
		if (r < 0)
			return s3c_engine_fail(sw->engine, "list", list.prefix, r, reply.message);
		for (size_t i = 0; r == 0 && i < reply.list.count; i++)
			r = add_entry(sw, &reply.list.entries[i]);
		free(token);
		token = steal_ptr(reply.list.next_token);
	} while (r == 0 && token);
	return r;
}

static void set_count(struct sweep *sw, const struct body *body, unsigned had)
{
	struct s3c_attrs attrs = { .known = true,
				   .nlink = (unsigned)S3C_MIN(body->names, S3C_NLINK_MAX) };
	char path[S3C_BODY_PATH], text[96];
	int r = 0;

	s3c_body_path(body->id, path);
	if (!sw->rq->dry_run)
		r = s3c_attrs_store(sw->engine, path, S3C_SET_NLINK, &attrs);
	if (r < 0) {
		tell_failed(sw, path, r);
		return;
	}
	snprintf(text, sizeof(text), "has %u name%s and was counted %u", attrs.nlink,
		 attrs.nlink == 1 ? "" : "s", had);
	tell(sw, path, text);
	sw->counts.counted++;
}

static void judge(struct sweep *sw, struct body *body)
{
	int64_t grace_ns = (int64_t)(sw->rq->grace_s * (double)S3C_NSEC_PER_SEC);
	bool settled = s3c_clock_realtime_ns() - body->modified_ns > grace_ns;
	cleanup_header struct s3c_header header = { 0 };
	cleanup_free char *key = NULL;
	struct s3c_version version;
	char path[S3C_BODY_PATH];
	int r;

	s3c_body_path(body->id, path);
	r = s3c_key_of(sw->engine, path, false, &key);
	if (r == 0)
		r = look(sw, key, &header, &version);
	if (r == -ENOENT) {
		/* Not one that was removed since the LIST: only we remove any. */
		if (body->names) {
			tell(sw, body->example, "is a name of a file whose body is not there");
			sw->counts.broken += body->names;
		}
	} else if (r < 0) {
		tell_failed(sw, path, r);
	} else if (!body->listed) {
		/* Made since. */
	} else if (body->names) {
		if (header.attrs.nlink != S3C_MIN(body->names, S3C_NLINK_MAX) && settled)
			set_count(sw, body, header.attrs.nlink);
	} else if (!settled) {
		sw->counts.waiting++;
	} else if (header.attrs.nlink) {
		/* Nobody has said that the last name was removed: from now on its time runs. */
		set_count(sw, body, header.attrs.nlink);
		sw->counts.waiting++;
	} else {
		body->doomed = true;
	}
}

static void delete (struct sweep *sw, const struct body *body)
{
	cleanup_header struct s3c_header header = { 0 };
	cleanup_free char *key = NULL;
	struct s3c_version version;
	char path[S3C_BODY_PATH];
	int r;

	s3c_body_path(body->id, path);
	r = s3c_key_of(sw->engine, path, false, &key);
	if (r == 0)
		r = look(sw, key, &header, &version);
	if (r == 0 && header.attrs.nlink)
		return;
	if (r == 0 && !sw->rq->dry_run) {
		r = s3c_delete_key(sw->engine, key, version.etag);
		if (r == 0)
			s3c_note_generation(sw->engine, key, &header, true);
	}
	if (r < 0 && r != -ENOENT) {
		tell_failed(sw, path, r);
		return;
	}
	tell_body(sw, body, "has no name any more: removed");
	sw->counts.removed++;
}

static int run(struct sweep *sw)
{
	struct body *body, *next;
	bool doomed = false;
	int r = list_all(sw);

	if (r < 0)
		return r;
	HASH_ITER (hh, sw->bodies, body, next) {
		judge(sw, body);
		doomed |= body->doomed;
	}
	/* A name that could not be read may be that of any of them. */
	if (!doomed || sw->counts.failed)
		return 0;
	sw->second = true;
	r = list_all(sw);
	if (r < 0 || sw->counts.failed)
		return r;
	HASH_ITER (hh, sw->bodies, body, next)
		if (body->doomed && !body->again)
			delete (sw, body);
	return 0;
}

int s3c_engine_sweep_links(struct s3c_engine *engine, struct s3c_op *op,
			   const struct s3c_sweep_request *request,
			   struct s3c_sweep_counts *ret_counts)
{
	struct sweep sw = { .engine = engine, .op = op, .rq = request };
	struct body *body, *next;
	int r = s3c_writable(engine);

	if (r == 0 && engine->volume && *s3c_rel_key(engine, engine->config.prefix))
		r = -EXDEV;
	if (r < 0)
		return r;
	r = run(&sw);
	HASH_ITER (hh, sw.bodies, body, next) {
		HASH_DEL(sw.bodies, body);
		free(body);
	}
	*ret_counts = sw.counts;
	return r;
}
