/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/walk.h"

#include <errno.h>
#include <string.h>

#include "engine/names.h"

#define QUEUED_PER_THREAD 64u /* the listing is that far ahead */

struct walker {
	struct s3c_engine *engine;
	const struct s3c_walk *walk;
	struct s3c_pool *pool;

	struct s3c_mutex lock; /* guards what follows */
	unsigned queued;       /* jobs that did not end */
	struct s3c_waitq ended;
};

struct walk_job {
	struct s3c_job job;
	struct walker *walker;
	struct s3c_list_entry entry; /* its key is the job's */
};

static void job_free(struct walk_job *wj)
{
	free(wj->entry.key);
	free(wj);
}

static void job_run(struct s3c_job *job)
{
	struct walk_job *wj = container_of(job, struct walk_job, job);
	struct walker *w = wj->walker;

	w->walk->visit(w->walk->arg, &wj->entry);
	job_free(wj);
	s3c_mutex_lock(&w->lock);
	w->queued--;
	s3c_waitq_wake_all(&w->ended);
	s3c_mutex_unlock(&w->lock);
}

/* Hands one object to the pool; waits where the pool has enough. */
static int add(struct walker *w, struct s3c_op *op, const struct s3c_list_entry *entry)
{
	unsigned most = w->walk->parallel * QUEUED_PER_THREAD;
	struct walk_job *wj;
	int r = w->walk->listed(w->walk->arg, entry);

	if (r != 0)
		return r < 0 ? r : 0;
	wj = calloc(1, sizeof(*wj));
	if (!wj)
		return -ENOMEM;
	wj->job.run = job_run;
	wj->walker = w;
	wj->entry = *entry;
	wj->entry.key = strdup(entry->key);
	r = wj->entry.key ? 0 : -ENOMEM;
	s3c_mutex_lock(&w->lock);
	while (r == 0 && w->queued >= most)
		r = s3c_waitq_wait(&w->ended, &w->lock, op);
	if (r == 0)
		w->queued++;
	s3c_mutex_unlock(&w->lock);
	if (r == 0)
		s3c_pool_submit(w->pool, &wj->job);
	else
		job_free(wj);
	return r;
}

bool s3c_key_is_reserved(struct s3c_engine *engine, const char *key)
{
	const char *rel = s3c_rel_key(engine, key);
	size_t len = strlen(S3C_RESERVED_NAME);

	return strncmp(rel, S3C_RESERVED_NAME "/", len + 1) == 0 &&
	       strcmp(rel + len + 1, "root") != 0 && !s3c_path_is_body(rel);
}

int s3c_walk_path(struct s3c_engine *engine, const char *key, char **ret_path)
{
	struct s3c_list_entry entry = { .key = (char *)(uintptr_t)key };
	const struct s3c_list list = { .entries = &entry, .count = 1 };
	const char *prefix = engine->config.prefix;
	const char *rel = s3c_rel_key(engine, key);
	int r;

	if (s3c_path_is_body(rel)) {
		*ret_path = strdup(rel);
		return *ret_path ? 0 : -ENOMEM;
	}
	if (strcmp(s3c_rel_key(engine, key), S3C_RESERVED_NAME "/root") == 0) {
		*ret_path = strdup("");
		return *ret_path ? 0 : -ENOMEM;
	}
	r = s3c_key_path(engine, prefix, key, ret_path);
	if (r != -ENODATA)
		return r;
	/* A long name on the way, which the metadata has. */
	r = s3c_key_names_ask(engine, NULL, prefix, &list);
	return r < 0 ? r : s3c_key_path(engine, prefix, key, ret_path);
}

/* One page of the listing. *token: in and out, the caller's. */
static int add_page(struct walker *w, struct s3c_op *op, const char *prefix, size_t exact,
		    char **token)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request list = {
		.op = S3C_STORE_LIST,
		.prefix = prefix,
		.token = *token,
	};
	int r = s3c_request(w->engine, &list, op, &reply);

	if (r < 0)
		return s3c_engine_fail(w->engine, "list", prefix, r, reply.message);
	for (size_t i = 0; r == 0 && i < reply.list.count; i++) {
		const struct s3c_list_entry *entry = &reply.list.entries[i];

		/* "dir" finds "dir" and "dir/...", and not "dirt". */
		if (!exact || !entry->key[exact] || entry->key[exact] == '/')
			r = add(w, op, entry);
	}
	free(*token);
	*token = steal_ptr(reply.list.next_token);
	return r;
}

static int add_path(struct walker *w, struct s3c_op *op, const char *path)
{
	cleanup_free char *prefix = NULL;
	cleanup_free char *token = NULL;
	int r = *path ? s3c_key_of(w->engine, path, false, &prefix)
		      : s3c_dir_prefix(w->engine, path, &prefix);
	size_t exact = r == 0 && *path ? strlen(prefix) : 0;

	while (r == 0) {
		r = add_page(w, op, prefix, exact, &token);
		if (!token)
			break;
	}
	return r;
}

static int run(struct walker *w, struct s3c_op *op)
{
	static const char *const all[] = { "", NULL };
	const char *const *paths = w->walk->paths && w->walk->paths[0] ? w->walk->paths : all;
	int r = 0;

	for (; r == 0 && *paths; paths++)
		r = add_path(w, op, *paths);
	if (r == 0 && w->walk->all_listed)
		w->walk->all_listed(w->walk->arg);
	/* What has begun ends, also after an interruption. */
	s3c_mutex_lock(&w->lock);
	while (w->queued)
		s3c_waitq_wait(&w->ended, &w->lock, NULL);
	s3c_mutex_unlock(&w->lock);
	return r;
}

int s3c_walk_run(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_walk *walk)
{
	struct walker w = { .engine = engine, .walk = walk };
	int r;

	if (!walk->parallel || walk->parallel > S3C_WALK_PARALLEL_MAX)
		return -EINVAL;
	r = s3c_pool_new(walk->name, 1, walk->parallel, &w.pool);
	if (r < 0)
		return r;
	s3c_mutex_init(&w.lock);
	s3c_waitq_init(&w.ended);
	r = run(&w, op);
	s3c_pool_free(w.pool);
	s3c_mutex_destroy(&w.lock);
	return r;
}
