/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/fsck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/fsck_private.h"
#include "engine/names.h"

const char *s3c_fsck_word(enum s3c_fsck_kind kind)
{
	static const char *const words[] = {
		[S3C_FSCK_DAMAGED] = "damaged",      [S3C_FSCK_NO_KEY] = "no-key",
		[S3C_FSCK_REFUSED] = "not-accepted", [S3C_FSCK_WEAKER] = "not-encrypted-so",
		[S3C_FSCK_OLDER] = "older",          [S3C_FSCK_UNREADABLE] = "unreadable",
		[S3C_FSCK_BAD_NAME] = "bad-name",    [S3C_FSCK_HIDDEN] = "hidden",
		[S3C_FSCK_NO_MARKER] = "no-marker",  [S3C_FSCK_LEFTOVER] = "leftover",
		[S3C_FSCK_UPLOAD] = "upload",
	};

	return words[kind];
}

void s3c_fsck_tell(struct fsck *f, const struct s3c_finding *finding)
{
	s3c_mutex_lock(&f->told);
	s3c_mutex_lock(&f->lock);
	f->counts.findings[finding->kind]++;
	f->counts.repaired += finding->repaired;
	s3c_mutex_unlock(&f->lock);
	if (f->rq->found)
		f->rq->found(f->rq->arg, finding);
	s3c_mutex_unlock(&f->told);
}

static void tell_progress(struct fsck *f)
{
	struct s3c_fsck_counts counts;

	if (!f->rq->progress)
		return;
	s3c_mutex_lock(&f->told);
	s3c_mutex_lock(&f->lock);
	counts = f->counts;
	s3c_mutex_unlock(&f->lock);
	f->rq->progress(f->rq->arg, &counts);
	s3c_mutex_unlock(&f->told);
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/*
 * What the order of the keys tells. All keys below "a/" stand together, the marker "a/" first of
 * them; all keys that begin with "a" stand together too, the file "a" before any "a/...".
 */
struct fsck_names {
	size_t start; /* bytes of the prefix that is listed: above it nothing is known */
	char last[S3C_STORE_KEY_MAX + 1]; /* the key before this one */
	/* Files whose keys the present key begins with, each a beginning of the next. */
	struct {
		size_t len;
		bool told;
	} files[S3C_STORE_KEY_MAX];
	size_t file_count;
};

static void tell_hidden(struct fsck *f, const char *key, size_t len)
{
	cleanup_free char *file = strndup(key, len);
	cleanup_free char *path = NULL;

	if (!file)
		return;
	if (s3c_walk_path(f->engine, file, &path) < 0)
		path = NULL;
	s3c_fsck_tell(f, &(struct s3c_finding){
				 .kind = S3C_FSCK_HIDDEN,
				 .key = file,
				 .path = path,
				 .why = "a directory has the same name: the file cannot be reached",
				 .age_ns = -1,
			 });
}

/* The listing's thread, in order. */
static void check_order(struct fsck *f, const char *key)
{
	struct fsck_names *names = f->names;
	bool sealed = s3c_sealed_mode(f->engine) && f->engine->volume;
	size_t len = strlen(key), at = names->start;

	if (len > S3C_STORE_KEY_MAX || at > len)
		return;
	while (names->file_count &&
	       (names->files[names->file_count - 1].len > len ||
		strncmp(key, names->last, names->files[names->file_count - 1].len) != 0))
		names->file_count--;
	for (size_t i = 0; i < names->file_count; i++)
		if (key[names->files[i].len] == '/' && !names->files[i].told) {
			names->files[i].told = true;
			tell_hidden(f, key, names->files[i].len);
		}
	for (const char *slash = strchr(key + at, '/'); slash; slash = strchr(slash + 1, '/')) {
		cleanup_free char *dir = strndup(key, (size_t)(slash + 1 - key));

		if (dir && sealed && slash[1] && !starts_with(names->last, dir))
			s3c_fsck_no_marker(f, dir);
	}
	/* The lengths stay right: each is a beginning of this key. */
	memcpy(names->last, key, len + 1);
	if (len && key[len - 1] != '/' && names->file_count < ARRAY_LEN(names->files)) {
		names->files[names->file_count].len = len;
		names->files[names->file_count++].told = false;
	}
}

static int listed(void *arg, const struct s3c_list_entry *entry)
{
	struct fsck *f = arg;

	if (s3c_key_is_reserved(f->engine, entry->key)) {
		s3c_fsck_reserved(f, entry);
		return 1;
	}
	if (!starts_with(s3c_rel_key(f->engine, entry->key), S3C_RESERVED_NAME "/"))
		check_order(f, entry->key);
	s3c_mutex_lock(&f->lock);
	f->counts.found++;
	s3c_mutex_unlock(&f->lock);
	return 0;
}

static void all_listed(void *arg)
{
	struct fsck *f = arg;

	s3c_mutex_lock(&f->lock);
	f->counts.all_found = true;
	s3c_mutex_unlock(&f->lock);
}

static enum s3c_fsck_kind kind_of(enum s3c_verdict verdict)
{
	switch (verdict) {
	case S3C_VERDICT_DAMAGED:
		return S3C_FSCK_DAMAGED;
	case S3C_VERDICT_NO_KEY:
		return S3C_FSCK_NO_KEY;
	case S3C_VERDICT_REFUSED:
		return S3C_FSCK_REFUSED;
	case S3C_VERDICT_WEAKER:
		return S3C_FSCK_WEAKER;
	case S3C_VERDICT_OLDER:
		return S3C_FSCK_OLDER;
	default:
		return S3C_FSCK_UNREADABLE;
	}
}

/* An instruction file that belongs to an object is no file, where such objects are read. */
static bool is_instruction(struct fsck *f, const char *key)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free char *owner = NULL;
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD };
	size_t len;

	if (!(f->engine->config.accept & S3C_ACCEPT_FOREIGN) || !s3c_s3ec_is_instruction(key, &len))
		return false;
	owner = strndup(key, len);
	rq.key = owner;
	return owner && s3c_request(f->engine, &rq, NULL, &reply) == 0;
}

/* 0: good; 1: it was told what is not. */
static int check_object(struct fsck *f, const struct s3c_list_entry *entry,
			struct s3c_verified *ret_verified)
{
	cleanup_free char *path = NULL;
	struct s3c_finding finding = { .key = entry->key, .age_ns = -1 };
	int named = s3c_walk_path(f->engine, entry->key, &path);
	bool nameless = named == -EBADMSG || named == -ENODATA || named == -ENAMETOOLONG;

	s3c_verify_object(f->engine, entry->key, entry->size, &f->how, ret_verified);
	finding.path = named < 0 ? NULL : path;
	if (ret_verified->verdict == S3C_VERDICT_GONE)
		return 0;
	if (ret_verified->verdict == S3C_VERDICT_REFUSED && is_instruction(f, entry->key))
		return 0;
	if (nameless) {
		finding.kind = S3C_FSCK_BAD_NAME;
		finding.why =
			named == -ENODATA
				? "its name is too long for a key, and the object that should "
				  "tell it is gone"
			: s3c_names_encrypted(f->engine)
				? "it is no encrypted name of this volume in this directory"
				: "no file can have such a name";
	} else if (ret_verified->verdict != S3C_VERDICT_GOOD) {
		finding.kind = kind_of(ret_verified->verdict);
		finding.why = ret_verified->why;
	} else if (named < 0) {
		finding.kind = S3C_FSCK_UNREADABLE;
		finding.why = strerror(-named);
	} else {
		return 0;
	}
	s3c_fsck_tell(f, &finding);
	return 1;
}

static void visit(void *arg, const struct s3c_list_entry *entry)
{
	struct fsck *f = arg;
	struct s3c_verified verified;
	int r = check_object(f, entry, &verified);

	s3c_mutex_lock(&f->lock);
	f->counts.done++;
	f->counts.good += r == 0;
	f->counts.size += verified.size;
	f->counts.stored += verified.stored;
	s3c_mutex_unlock(&f->lock);
	tell_progress(f);
}

static uint32_t piece_memory(const struct s3c_engine *engine, unsigned parallel)
{
	uint64_t share = engine->config.memory / (parallel ? parallel : 1);

	return (uint32_t)S3C_MIN(S3C_MAX(share, (uint64_t)S3C_CHUNK_STRIDE),
				 (uint64_t)S3C_SEGMENT_STRIDE);
}

/* One path after the other, so that the order of the keys begins anew with each. */
static int check_path(struct fsck *f, const char *path, bool last)
{
	const char *const paths[] = { path, NULL };
	const struct s3c_walk walk = {
		.name = "fsck",
		.paths = paths,
		.parallel = f->rq->parallel,
		.listed = listed,
		.all_listed = last ? all_listed : NULL,
		.visit = visit,
		.arg = f,
	};
	cleanup_free char *prefix = NULL;
	int r = *path ? s3c_key_of(f->engine, path, false, &prefix)
		      : s3c_dir_prefix(f->engine, path, &prefix);

	if (r < 0)
		return r;
	memset(f->names, 0, sizeof(*f->names));
	f->names->start = strlen(prefix);
	return s3c_walk_run(f->engine, NULL, &walk);
}

int s3c_engine_fsck(struct s3c_engine *engine, const struct s3c_fsck_request *request,
		    struct s3c_fsck_counts *ret_counts)
{
	struct fsck f = {
		.engine = engine,
		.rq = request,
		.how = { .quick = request->quick,
			 .memory = piece_memory(engine, request->parallel) },
		.names = calloc(1, sizeof(*f.names)),
	};
	static const char *const all[] = { "", NULL };
	const char *const *paths = request->paths && request->paths[0] ? request->paths : all;
	int r = 0;

	if (!f.names)
		return -ENOMEM;
	s3c_mutex_init(&f.lock);
	s3c_mutex_init(&f.told);
	for (; r == 0 && *paths; paths++) {
		uint64_t before = f.counts.found;

		r = check_path(&f, *paths, !paths[1]);
		if (r == 0 && **paths && f.counts.found == before)
			f.counts.missing = *paths;
	}
	if (r == 0)
		r = s3c_fsck_uploads(&f);
	/* A path with a mistake in it would be found good for ever. */
	if (r == 0 && f.counts.missing && !f.counts.findings[S3C_FSCK_UPLOAD])
		r = -ENOENT;
	*ret_counts = f.counts;
	s3c_mutex_destroy(&f.told);
	s3c_mutex_destroy(&f.lock);
	free(f.names);
	return r;
}

struct measuring {
	struct s3c_engine *engine;
	struct s3c_verify how;
	void (*skip)(void *arg, const char *key, const char *why);
	void *arg;
	struct s3c_mutex lock; /* guards what follows, and calls of skip */
	struct s3c_usage usage;
};

static int measure_listed(void *arg, const struct s3c_list_entry *entry)
{
	struct measuring *m = arg;

	return s3c_key_is_reserved(m->engine, entry->key) ? 1 : 0;
}

static void measure(void *arg, const struct s3c_list_entry *entry)
{
	struct measuring *m = arg;
	struct s3c_verified verified;
	bool known;

	s3c_verify_object(m->engine, entry->key, entry->size, &m->how, &verified);
	if (verified.verdict == S3C_VERDICT_GONE)
		return;
	known = verified.verdict == S3C_VERDICT_GOOD;
	s3c_mutex_lock(&m->lock);
	m->usage.files += !verified.is_dir;
	m->usage.directories += verified.is_dir;
	m->usage.size += known ? verified.size : 0;
	m->usage.stored += known ? verified.stored : entry->size;
	m->usage.unknown += !known;
	if (!known && m->skip)
		m->skip(m->arg, entry->key, verified.why);
	s3c_mutex_unlock(&m->lock);
}

int s3c_engine_usage(struct s3c_engine *engine, const char *path, unsigned parallel,
		     void (*skip)(void *arg, const char *key, const char *why), void *arg,
		     struct s3c_usage *ret_usage)
{
	struct measuring m = {
		.engine = engine,
		.how = { .quick = true, .sizes = true, .memory = S3C_CHUNK_STRIDE },
		.skip = skip,
		.arg = arg,
	};
	const char *const paths[] = { path, NULL };
	const struct s3c_walk walk = {
		.name = "du",
		.paths = paths,
		.parallel = parallel,
		.listed = measure_listed,
		.visit = measure,
		.arg = &m,
	};
	int r;

	s3c_mutex_init(&m.lock);
	r = s3c_walk_run(engine, NULL, &walk);
	*ret_usage = m.usage;
	s3c_mutex_destroy(&m.lock);
	return r;
}
