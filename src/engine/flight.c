/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Asking the store for one name. All who look the same name up at the same time
 * share one flight. Its requests run side by side; when the last is answered, a
 * worker takes the next step:
 *
 *	what is known			first step		then
 *	nothing				tail of KEY, LIST KEY/	marker, when LIST shows it
 *	listing: a file			tail or HEAD of KEY	LIST when it is gone
 *	listing: a directory		HEAD of KEY/		none: it is implicit
 *	an entry that is too old	HEAD of what it was	all, when that is gone
 *	a trailer seen by HEAD alone	-			tail of KEY
 *	no envelope, accept=s3ec	-			KEY.instruction
 *
 * A flight whose name we changed ourselves meanwhile is stale: its result is not
 * kept, and who waited looks again.
 */
#include "engine/flight.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LONE_UNTIL_LISTING 5u
#define SPECULATIVE_PAGES 10u

static void answer_reset(struct answer *answer)
{
	s3c_stat_free(&answer->st);
	free(answer->tail);
	*answer = (struct answer){ 0 };
}

void s3c_flight_unref(struct s3c_flight *f)
{
	struct s3c_engine *engine = f->engine;
	bool last;

	s3c_mutex_lock(&engine->lock);
	last = --f->refs == 0;
	s3c_mutex_unlock(&engine->lock);
	if (!last)
		return;
	for (unsigned i = 0; i < f->call_count; i++)
		s3c_store_call_put(engine->store, f->calls[i]);
	answer_reset(&f->object);
	answer_reset(&f->list);
	answer_reset(&f->dir);
	answer_reset(&f->instruction);
	s3c_entry_put(f->entry);
	s3c_entry_put(f->prior);
	s3c_secret_free(f->ssec);
	free(f->path);
	free(f->key);
	free(f->dir_key);
	free(f->instruction_key);
	free(f);
}

static int flight_keys(struct s3c_flight *f, const char *path)
{
	struct s3c_engine *engine = f->engine;
	int r;

	f->path = strdup(path);
	if (!f->path)
		return -ENOMEM;
	r = s3c_key_of(engine, path, false, &f->key);
	if (r < 0)
		return r;
	r = s3c_key_of(engine, path, true, &f->dir_key);
	if (r < 0 && r != -ENAMETOOLONG)
		return r;
	if (engine->config.enc != S3C_ENC_SSE_C)
		return 0;
	f->ssec = s3c_secret_alloc(2 * sizeof(*f->ssec));
	if (!f->ssec)
		return -ENOMEM;
	r = s3c_ssec_of(engine, f->key, &f->ssec[0], &f->key_ssec);
	if (r == 0 && f->dir_key)
		r = s3c_ssec_of(engine, f->dir_key, &f->ssec[1], &f->dir_ssec);
	return r;
}

static void flight_run(struct s3c_job *job);

int s3c_flight_new(struct s3c_names *names, struct s3c_node *node, bool prefetch,
		   struct s3c_flight **ret_flight)
{
	struct s3c_flight *f;
	int r;

	if (names->closing)
		return -ECANCELED;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->engine = names->engine;
	f->job.run = flight_run;
	r = flight_keys(f, node->path);
	if (r < 0) {
		s3c_secret_free(f->ssec);
		free(f->path);
		free(f->key);
		free(f->dir_key);
		free(f);
		return r;
	}
	f->started_ns = s3c_clock_monotonic_ns();
	f->prefetch = prefetch;
	f->listed = s3c_listed_find(names, node->path, NULL);
	if (node->known && node->entry)
		f->prior = s3c_entry_ref(node->entry);
	f->refs = 1;
	f->node = node;
	node->pins++;
	node->flight = f;
	s3c_waitq_init(&f->waiters);
	TAILQ_INSERT_TAIL(&names->flights, f, link);
	names->running++;
	names->prefetching += prefetch;
	*ret_flight = f;
	return 0;
}

/* A request ended, or all of a step are submitted. */
static void flight_release(struct s3c_flight *f)
{
	if (atomic_fetch_sub(&f->pending, 1) == 1)
		s3c_pool_submit(f->engine->workers, &f->job);
}

static void answer_take(struct answer *answer, struct s3c_store_reply *reply)
{
	answer->asked = true;
	answer->result = reply->result;
	if (reply->result < 0) {
		snprintf(answer->message, sizeof(answer->message), "%s", reply->message);
		return;
	}
	answer->st = reply->stat;
	reply->stat.meta = (struct s3c_meta){ 0 };
	reply->stat.props = (struct s3c_meta){ 0 };
}

static void object_done(void *arg, struct s3c_store_reply *reply)
{
	struct s3c_flight *f = arg;

	answer_take(&f->object, reply);
	flight_release(f);
}

static void marker_done(void *arg, struct s3c_store_reply *reply)
{
	struct s3c_flight *f = arg;

	answer_take(&f->dir, reply);
	flight_release(f);
}

static void instruction_done(void *arg, struct s3c_store_reply *reply)
{
	struct s3c_flight *f = arg;

	answer_take(&f->instruction, reply);
	flight_release(f);
}

static void list_done(void *arg, struct s3c_store_reply *reply)
{
	struct s3c_flight *f = arg;

	answer_take(&f->list, reply);
	if (reply->result == 0 && reply->list.count) {
		f->list.found = true;
		f->list.marker = strcmp(reply->list.entries[0].key, f->dir_key) == 0;
	}
	flight_release(f);
}

_Static_assert(S3C_S3EC_INSTRUCTION_MAX <= S3C_TAIL_LEN, "an instruction file fits an answer");

static int tail_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		      uint64_t total)
{
	struct answer *answer = arg;

	(void)st;
	(void)offset;
	(void)total;
	free(answer->tail);
	answer->tail = NULL;
	answer->tail_len = 0;
	if (length > S3C_TAIL_LEN)
		return -EMSGSIZE;
	answer->tail = malloc(length ? (size_t)length : 1);
	return answer->tail ? 0 : -ENOMEM;
}

static int tail_data(void *arg, const void *data, size_t len)
{
	struct answer *answer = arg;

	if (!answer->tail || len > S3C_TAIL_LEN - answer->tail_len)
		return -EMSGSIZE;
	memcpy(answer->tail + answer->tail_len, data, len);
	answer->tail_len += len;
	return 0;
}

static void flight_request(struct s3c_flight *f, unsigned ask, struct s3c_store_request *rq,
			   s3c_store_done_fn *ret_done)
{
	*rq = (struct s3c_store_request){
		.deadline_ns = s3c_engine_deadline(f->engine),
		.op = S3C_STORE_HEAD,
		.key = f->key,
		.ssec = f->key_ssec,
	};
	*ret_done = object_done;
	if (ask == ASK_TAIL) {
		rq->op = S3C_STORE_GET;
		rq->suffix = S3C_TAIL_LEN;
		rq->sink = (struct s3c_store_sink){ tail_begin, tail_data, &f->object };
	} else if (ask == ASK_MARKER) {
		rq->key = f->dir_key;
		rq->ssec = f->dir_ssec;
		*ret_done = marker_done;
	} else if (ask == ASK_INSTRUCTION) {
		rq->op = S3C_STORE_GET;
		rq->key = f->instruction_key;
		rq->suffix = S3C_TAIL_LEN;
		rq->sink = (struct s3c_store_sink){ tail_begin, tail_data, &f->instruction };
		*ret_done = instruction_done;
	} else if (ask == ASK_LIST) {
		rq->op = S3C_STORE_LIST;
		rq->prefix = f->dir_key;
		rq->max_keys = 1;
		*ret_done = list_done;
	}
}

static struct answer *answer_of(struct s3c_flight *f, unsigned ask)
{
	return ask == ASK_LIST          ? &f->list
	       : ask == ASK_MARKER      ? &f->dir
	       : ask == ASK_INSTRUCTION ? &f->instruction
					: &f->object;
}

/* Sends the requests of a step. Without the lock. */
void s3c_flight_ask(struct s3c_flight *f, unsigned asks)
{
	struct s3c_engine *engine = f->engine;

	/* One for ourselves: the step begins when all are submitted. */
	atomic_store(&f->pending, 1);
	for (unsigned ask = 1; ask <= ASK_INSTRUCTION; ask <<= 1) {
		struct answer *answer = answer_of(f, ask);
		struct s3c_store_call *call = NULL;
		struct s3c_store_request rq;
		s3c_store_done_fn done;
		bool closing;
		int r;

		if (!(asks & ask))
			continue;
		answer_reset(answer);
		flight_request(f, ask, &rq, &done);
		atomic_fetch_add(&f->pending, 1);
		r = s3c_store_submit(engine->store, &rq, done, f, &call);
		if (r < 0) {
			answer->asked = true;
			answer->result = r;
			flight_release(f);
			continue;
		}
		s3c_mutex_lock(&engine->lock);
		f->calls[f->call_count++] = call;
		closing = engine->names->closing;
		s3c_mutex_unlock(&engine->lock);
		if (closing)
			s3c_store_cancel(engine->store, call);
	}
	flight_release(f);
}

/* What the listing says may have been disproved. Lock held. */
static void listing_correct(struct s3c_flight *f, const struct s3c_entry *entry)
{
	enum s3c_listed now = !entry          ? S3C_LISTED_ABSENT
			      : entry->is_dir ? S3C_LISTED_DIR
					      : S3C_LISTED_FILE;
	static const enum s3c_change changes[] = {
		[S3C_LISTED_ABSENT] = S3C_CHANGE_ABSENT,
		[S3C_LISTED_DIR] = S3C_CHANGE_DIR,
		[S3C_LISTED_FILE] = S3C_CHANGE_FILE,
	};

	if (f->listed != S3C_LISTED_UNKNOWN && f->listed != now)
		s3c_node_change(f->engine->names, f->node, changes[now]);
}

static void flight_finish(struct s3c_flight *f, int result, struct s3c_entry *entry)
{
	struct s3c_engine *engine = f->engine;
	struct s3c_names *names = engine->names;
	struct s3c_node *node = f->node;

	s3c_mutex_lock(&engine->lock);
	if (node->flight == f)
		node->flight = NULL;
	if (!f->stale && (result == 0 || result == -ENOENT || f->refusal.result)) {
		if (f->refusal.result) {
			s3c_node_refuse(names, node, &f->refusal, f->started_ns);
		} else {
			s3c_node_know(names, node, result == 0 ? s3c_entry_ref(entry) : NULL,
				      f->started_ns);
			listing_correct(f, entry);
			if (result == 0)
				s3c_cached_entry_put(engine, entry);
		}
		/* Each lone lookup costs a GET and a LIST: soon one LIST of all is cheaper. */
		if (node->parent && f->listed == S3C_LISTED_UNKNOWN && !f->prior && !f->prefetch &&
		    engine->config.ttl_s > 0 && ++node->parent->lone >= LONE_UNTIL_LISTING) {
			node->parent->lone = 0;
			s3c_dir_load(names, node->parent, SPECULATIVE_PAGES);
		}
	}
	f->done = true;
	f->result = result;
	f->entry = entry;
	s3c_waitq_wake_all(&f->waiters);
	TAILQ_REMOVE(&names->flights, f, link);
	names->prefetching -= f->prefetch;
	f->node = NULL;
	node->pins--;
	s3c_node_prune(names, node);
	s3c_mutex_unlock(&engine->lock);
	s3c_flight_unref(f);
	/* Last: from here on the engine may go. */
	s3c_mutex_lock(&engine->lock);
	if (--names->running == 0)
		s3c_waitq_wake_all(&names->idle);
	s3c_mutex_unlock(&engine->lock);
}

static int flight_fail(struct s3c_flight *f, const struct answer *answer, const char *key)
{
	bool heard;

	s3c_mutex_lock(&f->engine->lock);
	heard = f->waiting > 0;
	s3c_mutex_unlock(&f->engine->lock);
	/* A prefetch that nobody waits for is no one's error. */
	return heard ? s3c_engine_fail(f->engine, "look up", key, answer->result, answer->message)
		     : answer->result;
}

static void warn_twin(struct s3c_flight *f)
{
	struct s3c_names *names = f->engine->names;
	bool first;

	s3c_mutex_lock(&f->engine->lock);
	first = s3c_ring_first(names->twins, ARRAY_LEN(names->twins), &names->twin_next,
			       s3c_hash_text(f->key, 0));
	s3c_mutex_unlock(&f->engine->lock);
	if (first)
		s3c_warn("object %s is hidden: the directory %s has the same name", f->key,
			 f->dir_key);
}

/* Does the valid listing, of the very version that was answered, say that there is none? */
static bool no_instruction(struct s3c_flight *f)
{
	struct s3c_detail detail;
	bool none;

	if (!(f->engine->config.accept & S3C_ACCEPT_FOREIGN))
		return true;
	s3c_mutex_lock(&f->engine->lock);
	none = s3c_listed_find(f->engine->names, f->path, &detail) == S3C_LISTED_FILE &&
	       detail.known_size && !detail.instruction &&
	       detail.etag_hash == s3c_hash_etag(f->object.st.version.etag);
	s3c_mutex_unlock(&f->engine->lock);
	return none;
}

/* The object has no envelope, or half of one: there may be a file that has it. */
static int step_instruction(struct s3c_flight *f, unsigned *asks)
{
	if (!f->instruction_key)
		f->instruction_key = s3c_asprintf("%s%s", f->key, S3C_S3EC_SUFFIX);
	if (!f->instruction_key)
		return -ENOMEM;
	/* No object can have that key. */
	f->instruction.asked = strlen(f->instruction_key) > S3C_STORE_KEY_MAX;
	f->instruction.result = -ENOENT;
	*asks = f->instruction.asked ? 0 : ASK_INSTRUCTION;
	return 0;
}

static int build(struct s3c_flight *f, bool is_dir, struct s3c_entry **ret_entry)
{
	const struct s3c_instruction instruction = {
		.asked = f->instruction.asked || (!is_dir && no_instruction(f)),
		.data = f->instruction.result == 0 ? f->instruction.tail : NULL,
		.len = f->instruction.tail_len,
	};
	const struct answer *answer = is_dir ? &f->dir : &f->object;
	const struct s3c_entry *prior = f->prior && f->prior->is_dir == is_dir ? f->prior : NULL;
	int r = s3c_entry_build_with(f->engine, f->path, is_dir, &answer->st, answer->tail,
				     answer->tail_len, prior,
				     (f->looked_again ? 0 : S3C_BUILD_QUIET_ROLLBACK) |
					     (f->may_wait ? 0 : S3C_BUILD_NOWAIT),
				     is_dir ? NULL : &instruction, ret_entry);

	f->new_epoch |= r == -ENOKEY;
	if (r == -EIO || r == -EACCES)
		f->refusal = (struct s3c_refusal){
			.result = r,
			.is_dir = is_dir,
			.size = answer->st.size,
			.etag_hash = s3c_hash_etag(answer->st.version.etag),
		};
	return r;
}

/* The name is a directory, whose marker was asked for when there is one. */
static int step_dir(struct s3c_flight *f, unsigned *asks, struct s3c_entry **ret_entry)
{
	bool root = !*f->path;
	int r;

	if (!f->dir.asked || f->dir.result == -ENOENT)
		return s3c_entry_implicit(f->engine, f->path, ret_entry);
	if (f->dir.result == -EKEYREJECTED) {
		s3c_warn("directory %s: its attributes do not open with the keys of this mount",
			 f->dir_key);
		return s3c_entry_implicit(f->engine, f->path, ret_entry);
	}
	if (f->dir.result < 0)
		return flight_fail(f, &f->dir, f->dir_key);
	r = build(f, true, ret_entry);
	if (r == -EREMCHG) {
		f->looked_again = true;
		*asks = ASK_MARKER;
		return 0;
	}
	/* A foreign marker of the root must not make everything below it unreachable. */
	if (!root || r != -EIO)
		return r;
	f->refusal.result = 0;
	return s3c_entry_implicit(f->engine, f->path, ret_entry);
}

static int step_file(struct s3c_flight *f, unsigned *asks, struct s3c_entry **ret_entry)
{
	int r;

	if (f->instruction.asked && f->instruction.result < 0 && f->instruction.result != -ENOENT)
		return flight_fail(f, &f->instruction, f->instruction_key);
	r = build(f, false, ret_entry);
	if (r == -EREMOTE)
		return step_instruction(f, asks);
	if (r == -ENODATA && !f->object.tail_len)
		*asks = ASK_TAIL;
	else if (r == -EREMCHG)
		*asks = f->object.tail_len ? ASK_TAIL : ASK_HEAD;
	else
		return r == -ENODATA ? -EIO : r;
	f->looked_again |= r == -EREMCHG;
	return 0;
}

/* What the answers so far mean: an entry, an error, or what else to ask. */
static int flight_step(struct s3c_flight *f, unsigned *asks, struct s3c_entry **ret_entry)
{
	bool gone = f->dir.asked && f->dir.result == -ENOENT;

	if (f->list.asked && f->list.result < 0)
		return flight_fail(f, &f->list, f->dir_key);
	if (f->list.found) {
		if (f->object.asked && f->object.result == 0)
			warn_twin(f);
		if (f->list.marker && (!f->dir.asked || (gone && f->steps < 3))) {
			*asks = ASK_MARKER;
			return 0;
		}
		return step_dir(f, asks, ret_entry);
	}
	if (f->dir.asked && (!gone || !*f->path || f->listed == S3C_LISTED_DIR))
		return step_dir(f, asks, ret_entry);
	if (f->object.asked && f->object.result == 0)
		return step_file(f, asks, ret_entry);
	if (f->object.asked && f->object.result != -ENOENT)
		return flight_fail(f, &f->object, f->key);
	if (!f->object.asked)
		*asks |= ASK_TAIL;
	if (!f->list.asked && f->dir_key)
		*asks |= ASK_LIST;
	return *asks ? 0 : -ENOENT;
}

static void flight_run(struct s3c_job *job)
{
	struct s3c_flight *f = container_of(job, struct s3c_flight, job);
	struct s3c_entry *entry = NULL;
	unsigned asks = 0;
	int r = flight_step(f, &asks, &entry);

	/* The volume object has to be read again, and workers never wait. */
	if (f->new_epoch) {
		f->new_epoch = false;
		f->may_wait = true;
		s3c_pool_submit(f->engine->tasks, &f->job);
		return;
	}
	/* For one step: the next may be a worker's again. */
	f->may_wait = false;
	if (r == 0 && !entry && ++f->steps == STEPS_MAX) {
		s3c_error("object %s: the store's answers contradict each other", f->key);
		r = -EIO;
	}
	if (r == 0 && !entry)
		s3c_flight_ask(f, asks);
	else
		flight_finish(f, r, entry);
}

void s3c_flights_stale(struct s3c_names *names, const char *path, bool below)
{
	struct s3c_flight *f;

	TAILQ_FOREACH (f, &names->flights, link)
		if (strcmp(f->path, path) == 0 || (below && s3c_path_below(f->path, path))) {
			f->stale = true;
			if (f->node && f->node->flight == f)
				f->node->flight = NULL;
		}
}

void s3c_flights_close(struct s3c_names *names)
{
	struct s3c_engine *engine = names->engine;
	struct s3c_flight *f = TAILQ_FIRST(&names->flights);

	while (f) {
		struct s3c_store_call *calls[ARRAY_LEN(f->calls)];
		unsigned count = f->call_count;

		if (f->cancelled) {
			f = TAILQ_NEXT(f, link);
			continue;
		}
		f->cancelled = true;
		f->refs++;
		memcpy(calls, f->calls, sizeof(calls));
		s3c_mutex_unlock(&engine->lock);
		for (unsigned i = 0; i < count; i++)
			s3c_store_cancel(engine->store, calls[i]);
		s3c_flight_unref(f);
		s3c_mutex_lock(&engine->lock);
		f = TAILQ_FIRST(&names->flights);
	}
}
