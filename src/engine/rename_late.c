/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Renames of references that failed, and may come to be all the same: the request that gives the
 * new name its reference had no reply.
 *
 * When it has its effect, both names are those of one file. To rename the one to the other once
 * more, as who was told of a failure does, is by POSIX to do nothing, and the kernel does it
 * without asking. So what is found under the new name, when somebody looks, is told by its
 * operation id from a link that somebody made, and the rename is finished: the old name goes.
 *
 * What has come under one of the two names since is another file, and stays.
 *
 * The kernel knows the old name until its time is over (ttl=), as one that another machine has
 * removed. In memory alone: after the end of the mount both names stay.
 */
#include "engine/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_S 10
#define LATE_MAX 64u /* the oldest is forgotten: what did not come by then comes no more */

struct s3c_late_rename {
	TAILQ_ENTRY(s3c_late_rename) all;
	char *from, *to;
	uint8_t source_op[S3C_OP_ID_LEN]; /* of the reference under the old name */
	uint8_t op[S3C_OP_ID_LEN];        /* of the one that may come */
	struct s3c_entry *target;         /* what that replaces; NULL: nothing */
	int64_t due_ns;                   /* monotonic: not finished before */
};

static void late_free(struct s3c_late_rename *late)
{
	if (!late)
		return;
	free(late->from);
	free(late->to);
	s3c_entry_put(late->target);
	free(late);
}

/* Lock held. */
static void late_drop(struct s3c_links *links, struct s3c_late_rename *late)
{
	TAILQ_REMOVE(&links->late, late, all);
	links->late_count--;
	late_free(late);
}

void s3c_late_renames_free(struct s3c_links *links)
{
	struct s3c_late_rename *late;

	while ((late = TAILQ_FIRST(&links->late)))
		late_drop(links, late);
}

void s3c_late_rename_note(struct s3c_engine *engine, const struct s3c_entry *source, const char *to,
			  const uint8_t op[static S3C_OP_ID_LEN], struct s3c_entry *target)
{
	struct s3c_links *links = engine->links;
	struct s3c_late_rename *late = calloc(1, sizeof(*late));

	if (!late)
		return;
	late->from = strdup(source->path);
	late->to = strdup(to);
	late->target = target ? s3c_entry_ref(target) : NULL;
	memcpy(late->source_op, source->header.op_id, sizeof(late->source_op));
	memcpy(late->op, op, sizeof(late->op));
	if (!late->from || !late->to) {
		late_free(late);
		return;
	}
	s3c_mutex_lock(&engine->lock);
	TAILQ_INSERT_TAIL(&links->late, late, all);
	if (++links->late_count > LATE_MAX)
		late_drop(links, TAILQ_FIRST(&links->late));
	s3c_mutex_unlock(&engine->lock);
}

/* What is under the new name came late of it. Lock held. */
static struct s3c_late_rename *find(const struct s3c_links *links, const struct s3c_entry *now)
{
	struct s3c_late_rename *late;

	TAILQ_FOREACH (late, &links->late, all)
		if (strcmp(late->to, now->path) == 0 &&
		    memcmp(late->op, now->header.op_id, sizeof(late->op)) == 0)
			break;
	return late;
}

/* Lock held. */
static struct s3c_late_rename *find_of(const struct s3c_links *links,
				       const struct s3c_entry *source, const struct s3c_entry *now)
{
	struct s3c_late_rename *late = find(links, now);

	if (late && (strcmp(late->from, source->path) != 0 ||
		     memcmp(late->source_op, source->header.op_id, sizeof(late->source_op)) != 0))
		late = NULL;
	return late;
}

bool s3c_late_rename_is(struct s3c_engine *engine, const struct s3c_entry *source,
			const struct s3c_entry *now)
{
	bool is;

	s3c_mutex_lock(&engine->lock);
	is = find_of(engine->links, source, now);
	s3c_mutex_unlock(&engine->lock);
	return is;
}

bool s3c_late_rename_take(struct s3c_engine *engine, const struct s3c_entry *source,
			  const struct s3c_entry *now, struct s3c_entry **ret_target)
{
	struct s3c_late_rename *late;
	bool taken;

	s3c_mutex_lock(&engine->lock);
	late = find_of(engine->links, source, now);
	taken = late;
	if (taken) {
		*ret_target = steal_ptr(late->target);
		late_drop(engine->links, late);
	}
	s3c_mutex_unlock(&engine->lock);
	return taken;
}

/* What failed for now is tried with a later look; anything else is forgotten. */
static void end_finish(struct s3c_engine *engine, const struct s3c_entry *now, int r)
{
	struct s3c_late_rename *late;

	s3c_mutex_lock(&engine->lock);
	late = find(engine->links, now);
	if (late && s3c_result_lost(r))
		late->due_ns = s3c_clock_monotonic_ns() + RETRY_S * S3C_NSEC_PER_SEC;
	else if (late && r != -EINTR)
		late_drop(engine->links, late);
	s3c_mutex_unlock(&engine->lock);
}

int s3c_late_rename_finish(struct s3c_engine *engine, struct s3c_op *op,
			   const struct s3c_entry *now)
{
	const struct s3c_late_rename *late;
	char from[S3C_PATH_MAX];
	int r;

	s3c_mutex_lock(&engine->lock);
	late = find(engine->links, now);
	if (late && late->due_ns > s3c_clock_monotonic_ns())
		late = NULL;
	if (late)
		strcpy(from, late->from);
	s3c_mutex_unlock(&engine->lock);
	if (!late)
		return 0;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = s3c_rename_finish(engine, op, from, now->path);
	if (r == 0)
		s3c_info("%s was renamed to %s after all", from, now->path);
	end_finish(engine, now, r);
	return 0;
}
