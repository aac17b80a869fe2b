/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/fsck_private.h"
#include "engine/pending.h"

#define PROBE_NAME S3C_RESERVED_NAME "/probe-"
#define PROBE_AGE_NS (3600 * S3C_NSEC_PER_SEC)
#define MADE_SLACK_NS (10 * S3C_NSEC_PER_SEC)

static int64_t age_of(int64_t since_ns)
{
	int64_t now = s3c_clock_realtime_ns();

	return !since_ns ? -1 : since_ns < now ? now - since_ns : 0;
}

static int put_marker(struct fsck *f, const char *path)
{
	cleanup_entry struct s3c_entry *implicit = NULL;
	cleanup_entry struct s3c_entry *made = NULL;
	struct s3c_attrs attrs;
	int r = s3c_entry_implicit(f->engine, path, &implicit);

	if (r < 0)
		return r;
	attrs = implicit->header.attrs;
	attrs.known = true;
	attrs.mtime_ns = attrs.atime_ns = attrs.ctime_ns = s3c_clock_realtime_ns();
	/* Another machine may have made one meanwhile. */
	r = s3c_marker_put(f->engine, path, &attrs, NULL, true, &made);
	return r == -EEXIST ? 0 : r;
}

void s3c_fsck_no_marker(struct fsck *f, const char *prefix)
{
	cleanup_free char *path = NULL;
	struct s3c_finding finding = {
		.kind = S3C_FSCK_NO_MARKER,
		.key = prefix,
		.why = "a directory without an object: its attributes are the defaults",
		.age_ns = -1,
	};
	int r = s3c_walk_path(f->engine, prefix, &path);

	if (r == 0)
		finding.path = path;
	if (f->rq->repair) {
		if (r == 0)
			r = put_marker(f, path);
		finding.repaired = r == 0;
		if (r < 0)
			finding.not_repaired = r == -ENODATA || r == -EBADMSG
						       ? "its name is not known"
						       : strerror(-r);
	}
	s3c_fsck_tell(f, &finding);
}

void s3c_fsck_reserved(struct fsck *f, const struct s3c_list_entry *entry)
{
	const char *rel = s3c_rel_key(f->engine, entry->key);
	bool probe = strncmp(rel, PROBE_NAME, strlen(PROBE_NAME)) == 0;
	struct s3c_finding finding = {
		.kind = S3C_FSCK_LEFTOVER,
		.key = entry->key,
		.why = probe ? "an object of a mount's probe that was broken off"
			     : "this version knows no use of it",
		.age_ns = age_of(entry->modified_ns),
	};

	if (strcmp(rel, S3C_VOLUME_NAME) == 0 || strcmp(rel, S3C_VOLUME_FORMER_NAME) == 0)
		return;
	if (strcmp(rel, S3C_VOLUME_NEXT_NAME) == 0)
		finding.why = "a migration that has not ended: rekey --migrate goes on with it";
	if (f->rq->repair && probe && finding.age_ns > PROBE_AGE_NS) {
		int r = s3c_delete_key(f->engine, entry->key, entry->etag);

		finding.repaired = r == 0;
		finding.not_repaired = r < 0 ? strerror(-r) : NULL;
	}
	s3c_fsck_tell(f, &finding);
}

/* May the object be what was made of it? A gateway that died had perhaps not put the upload away,
   and to abort it would be to delete the object's parts. */
static bool may_be_made(struct fsck *f, const struct s3c_upload_item *item)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = s3c_key_head(f->engine, item->key, &reply);

	if (r < 0)
		return r != -ENOENT;
	/* S3 gives it the time at which the upload was begun. */
	return (!reply.stat.version.modified_ns ||
		reply.stat.version.modified_ns + MADE_SLACK_NS > item->begun_ns) &&
	       s3c_unsettled_may_be(f->engine, item->key, item->id, reply.stat.version.etag);
}

static int abort_upload(struct fsck *f, const struct s3c_upload_item *item)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_ABORT,
		.key = item->key,
		.upload_id = item->id,
	};
	int r = s3c_request(f->engine, &rq, NULL, &reply);

	return r == -ENXIO ? 0 : r; /* it has ended by itself */
}

static void tell_upload(struct fsck *f, const struct s3c_upload_item *item)
{
	int64_t age_ns = age_of(item->begun_ns);
	cleanup_free char *path = NULL;
	struct s3c_finding finding = {
		.kind = S3C_FSCK_UPLOAD,
		.key = item->key,
		.why = "a multipart upload that is not completed: its parts are paid for",
		.age_ns = age_ns,
	};

	if (!s3c_key_is_reserved(f->engine, item->key) &&
	    s3c_walk_path(f->engine, item->key, &path) == 0)
		finding.path = path;
	if (f->rq->repair && f->rq->upload_age_ns && age_ns > f->rq->upload_age_ns) {
		int r = may_be_made(f, item) ? -EBUSY : abort_upload(f, item);

		finding.repaired = r == 0;
		if (r < 0)
			finding.not_repaired =
				r == -EBUSY ? "the object may be made of its parts" : strerror(-r);
	}
	s3c_fsck_tell(f, &finding);
}

static int uploads_page(struct fsck *f, const char *prefix, size_t exact, char **token)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_LIST_UPLOADS,
		.prefix = prefix,
		.token = *token,
	};
	int r = s3c_request(f->engine, &rq, NULL, &reply);

	/* Some stores cannot, or may not, and have all else in order. */
	if (r == -EACCES || r == -EOPNOTSUPP) {
		s3c_fsck_tell(f, &(struct s3c_finding){ .kind = S3C_FSCK_UPLOAD,
							.key = prefix,
							.why = "the store does not list uploads",
							.age_ns = -1 });
		r = 0;
	}
	if (r < 0)
		return s3c_engine_fail(f->engine, "list the uploads of", prefix, r, reply.message);
	for (size_t i = 0; i < reply.uploads.count; i++) {
		const struct s3c_upload_item *item = &reply.uploads.items[i];

		if (!exact || !item->key[exact] || item->key[exact] == '/')
			tell_upload(f, item);
	}
	free(*token);
	*token = steal_ptr(reply.uploads.next_token);
	return 0;
}

int s3c_fsck_uploads(struct fsck *f)
{
	static const char *const all[] = { "", NULL };
	const char *const *paths = f->rq->paths && f->rq->paths[0] ? f->rq->paths : all;
	int r = 0;

	for (; r == 0 && *paths; paths++) {
		cleanup_free char *prefix = NULL;
		cleanup_free char *token = NULL;

		r = **paths ? s3c_key_of(f->engine, *paths, false, &prefix)
			    : s3c_dir_prefix(f->engine, *paths, &prefix);
		while (r == 0) {
			r = uploads_page(f, prefix, **paths ? strlen(prefix) : 0, &token);
			if (!token)
				break;
		}
	}
	return r;
}
