/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The answer to "status" (numbers are bytes, counts, or seconds since 1970 in "since"):
 *
 *	version, pid, source, mountpoint, mode, read_only, commit ("close", "fsync", "writeback"),
 *	since, state_dir, cache_dir; key: the id of that under which new objects come
 *	pending	files, names, bytes; failed, parked: how many of them
 *	unsent	list of path, what ("file", "directory", "removal"), state ("waiting", "running",
 *		"failed", "parked"), bytes; where it failed: failures, errno, error; since
 *	unlisted  how many more there are than the list has
 *	recovery  files, names, bytes, done, conflicts, failed: of the journal when it was mounted
 *	journal	records, bytes, limit, errno, error
 *	cache	bytes, limit, chunks, hits, misses, inserts, dropped, evicted, damaged; or null
 *	memory	limit, dirty, clean, transfers, spilled
 *	objects	open, dirty, entries
 *	counters since the mount: operations, read_bytes, written_bytes, store_requests, sent_bytes,
 *		received_bytes, http_attempts, kms_requests, integrity_failures, refused_objects,
 *		audit_dropped
 *	log_level
 */
#include "cli/control_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "cli/audit.h"
#include "db/records.h"

#define SEND_S 20.0      /* for a client to take an answer */
#define PROGRESS_MS 500  /* between two lines of progress */
#define TROUBLED_MAX 500 /* failed and parked ones in a list */
#define ORDINARY_MAX 100 /* others */

#define json_u64(n) json_integer((json_int_t)S3C_MIN((uint64_t)(n), (uint64_t)INT64_MAX))

static int send_to(struct s3c_control_client *client, const json_t *object)
{
	return s3c_control_send(client->fd, object, s3c_deadline_after(SEND_S));
}

/* Takes the answer over; NULL: there was no memory for it. */
static int send_answer(struct s3c_control_client *client, json_t *answer)
{
	int r = answer ? send_to(client, answer) : -ENOMEM;

	json_decref(answer);
	return r;
}

static const char *errno_name(int code)
{
	const char *name = strerrorname_np(-code);

	return name ? name : "?";
}

static int send_failure(struct s3c_control_client *client, int code, const char *text)
{
	return send_answer(client, json_pack("{s:b, s:s, s:s}", "ok", 0, "error", text, "errno",
					     errno_name(code)));
}

/* What the store does not have, as a list of bounded length. */
struct unsent_list {
	json_t *list; /* NULL: only counted */
	unsigned troubled, ordinary, unlisted;
	unsigned files, names, failed, parked;
	uint64_t bytes;
	bool no_memory;
};

static json_t *unsent_json(const struct s3c_unsent *unsent)
{
	static const char *const states[] = {
		[S3C_UNSENT_WAITING] = "waiting",
		[S3C_UNSENT_RUNNING] = "running",
		[S3C_UNSENT_FAILED] = "failed",
		[S3C_UNSENT_PARKED] = "parked",
	};
	static const char *const kinds[] = {
		[S3C_UNSENT_FILE] = "file",
		[S3C_UNSENT_DIR] = "directory",
		[S3C_UNSENT_REMOVAL] = "removal",
	};
	json_t *item = json_pack("{s:s, s:s, s:o}", "what", kinds[unsent->what], "state",
				 states[unsent->state], "bytes", json_u64(unsent->bytes));

	if (!item)
		return NULL;
	if (s3c_control_put_path(item, unsent->path) < 0) {
		json_decref(item);
		return NULL;
	}
	if (unsent->since_ns > 0)
		json_object_set_new(item, "since",
				    json_integer(unsent->since_ns / S3C_NSEC_PER_SEC));
	if (unsent->failures || unsent->result < 0) {
		json_object_set_new(item, "failures", json_integer(unsent->failures));
		json_object_set_new(item, "errno", json_string(errno_name(unsent->result)));
		json_object_set_new(item, "error", json_string(strerror(-unsent->result)));
	}
	return item;
}

/* With the engine's lock held: no more than a copy. */
static void on_unsent(void *arg, const struct s3c_unsent *unsent)
{
	struct unsent_list *all = arg;
	bool trouble = unsent->state == S3C_UNSENT_FAILED || unsent->state == S3C_UNSENT_PARKED;
	unsigned *count = trouble ? &all->troubled : &all->ordinary;
	json_t *item;

	all->files += unsent->what == S3C_UNSENT_FILE;
	all->names += unsent->what != S3C_UNSENT_FILE;
	/* One that has failed counts until it succeeds, also while it is tried again. */
	all->failed += unsent->failures && unsent->state != S3C_UNSENT_PARKED;
	all->parked += unsent->state == S3C_UNSENT_PARKED;
	all->bytes += unsent->bytes;
	if (!all->list)
		return;
	if (*count >= (trouble ? TROUBLED_MAX : ORDINARY_MAX)) {
		all->unlisted++;
		return;
	}
	++*count;
	item = unsent_json(unsent);
	if (!item || json_array_append_new(all->list, item) < 0)
		all->no_memory = true;
}

static json_t *journal_json(const struct s3c_access *access)
{
	struct s3c_record_stats stats = { 0 };

	if (!access->unlocked)
		return json_null();
	s3c_record_stats(access->journal, &stats);
	return json_pack("{s:o, s:o, s:o, s:s, s:s}", "records", json_u64(stats.records), "bytes",
			 json_u64(stats.bytes), "limit", json_u64(stats.limit), "errno",
			 stats.last_error ? errno_name(stats.last_error) : "", "error",
			 stats.last_error ? strerror(-stats.last_error) : "");
}

static json_t *cache_json(const struct s3c_access *access)
{
	struct s3c_cache_stats stats = { 0 };

	if (!access->cache)
		return json_null();
	s3c_cache_stats(access->cache, &stats);
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "bytes",
			 json_u64(stats.bytes), "limit", json_u64(stats.limit), "chunks",
			 json_u64(stats.chunks), "hits", json_u64(stats.hits), "misses",
			 json_u64(stats.misses), "inserts", json_u64(stats.inserts), "dropped",
			 json_u64(stats.dropped), "evicted", json_u64(stats.evicted), "damaged",
			 json_u64(stats.damaged));
}

static json_t *counters_json(void)
{
	static const struct {
		const char *name;
		enum s3c_counter counter;
	} told[] = {
		{ "operations", S3C_COUNT_OPERATIONS },
		{ "read_bytes", S3C_COUNT_READ_BYTES },
		{ "written_bytes", S3C_COUNT_WRITTEN_BYTES },
		{ "store_requests", S3C_COUNT_STORE_REQUESTS },
		{ "sent_bytes", S3C_COUNT_STORE_SENT },
		{ "received_bytes", S3C_COUNT_STORE_RECEIVED },
		{ "http_attempts", S3C_COUNT_HTTP_ATTEMPTS },
		{ "kms_requests", S3C_COUNT_KMS_REQUESTS },
		{ "integrity_failures", S3C_COUNT_INTEGRITY },
		{ "refused_objects", S3C_COUNT_REFUSED },
	};
	json_t *counters = json_object();

	for (size_t i = 0; i < ARRAY_LEN(told); i++)
		json_object_set_new(counters, told[i].name,
				    json_u64(s3c_count_sum(told[i].counter)));
	json_object_set_new(counters, "audit_dropped", json_u64(s3c_audit_dropped()));
	return counters;
}

/* What concerns memory and open objects is added to the answer. */
static int add_engine(const struct s3c_access *access, json_t *answer)
{
	struct s3c_engine_stats stats = { 0 };
	json_t *memory, *objects;

	s3c_engine_stats(access->engine, &stats);
	memory = json_pack("{s:o, s:o, s:o, s:o, s:o}", "limit", json_u64(access->options->memory),
			   "dirty", json_u64(stats.dirty_bytes), "clean",
			   json_u64(stats.clean_bytes), "transfers", json_u64(stats.transfer_bytes),
			   "spilled", json_u64(stats.spilled_bytes));
	objects =
		json_pack("{s:o, s:o, s:o}", "open", json_u64(stats.objects_open), "dirty",
			  json_u64(stats.objects_dirty), "entries", json_u64(stats.entries_cached));
	if (json_object_set_new(answer, "memory", memory) < 0) {
		json_decref(objects);
		return -ENOMEM;
	}
	return json_object_set_new(answer, "objects", objects) < 0 ? -ENOMEM : 0;
}

static json_t *mount_json(const struct s3c_control *control)
{
	const struct s3c_access *access = control->access;
	const struct s3c_options *o = access->options;
	json_t *answer = json_pack("{s:b, s:s, s:i, s:s, s:b, s:s, s:I}", "ok", 1, "version",
				   PACKAGE_VERSION, "pid", (int)getpid(), "mode", o->enc_name,
				   "read_only", s3c_engine_read_only(access->engine), "commit",
				   o->writeback      ? "writeback"
				   : o->commit_fsync ? "fsync"
						     : "close",
				   "since", (json_int_t)(control->started_ns / S3C_NSEC_PER_SEC));
	const struct {
		const char *name, *text;
	} texts[] = {
		/* May be no UTF-8: then they are left out. */
		{ "source", access->from->text },
		{ "mountpoint", control->mountpoint },
		{ "state_dir", access->state_dir },
		{ "cache_dir", access->cache_dir },
		{ "key", s3c_engine_active_key(access->engine) },
	};

	for (size_t i = 0; answer && i < ARRAY_LEN(texts); i++)
		if (texts[i].text)
			json_object_set_new(answer, texts[i].name, json_string(texts[i].text));
	return answer;
}

static int answer_status(struct s3c_control_client *client, const json_t *request)
{
	const struct s3c_access *access = client->control->access;
	const struct s3c_recovery *found = &access->recovery;
	struct unsent_list all = { .list = json_array() };
	json_t *answer = mount_json(client->control);
	int r = 0;

	(void)request;
	if (!answer || !all.list)
		r = -ENOMEM;
	if (r == 0)
		s3c_engine_unsent(access->engine, on_unsent, &all);
	if (r == 0 && all.no_memory)
		r = -ENOMEM;
	if (r == 0)
		r = json_object_update_new(
			answer,
			json_pack("{s:{s:i, s:i, s:o, s:i, s:i}, s:O, s:i, s:o, s:o}", "pending",
				  "files", all.files, "names", all.names, "bytes",
				  json_u64(all.bytes), "failed", all.failed, "parked", all.parked,
				  "unsent", all.list, "unlisted", all.unlisted, "journal",
				  journal_json(access), "cache", cache_json(access)));
	if (r == 0)
		r = json_object_set_new(answer, "recovery",
					json_pack("{s:i, s:i, s:o, s:i, s:i, s:i}", "files",
						  found->objects, "names", found->names, "bytes",
						  json_u64(found->bytes), "done", found->done,
						  "conflicts", found->conflicts, "failed",
						  found->failed));
	if (r == 0)
		r = add_engine(access, answer);
	if (r == 0)
		r = json_object_set_new(answer, "counters", counters_json());
	if (r == 0)
		r = json_object_set_new(answer, "log_level",
					json_string(s3c_log_level_name(s3c_log_get_level())));
	json_decref(all.list);
	if (r == 0)
		return send_answer(client, answer);
	json_decref(answer);
	return send_failure(client, -ENOMEM, "no memory for an answer");
}

static int answer_version(struct s3c_control_client *client, const json_t *request)
{
	(void)request;
	return send_answer(client, json_pack("{s:b, s:s, s:i}", "ok", 1, "version", PACKAGE_VERSION,
					     "protocol", S3C_CONTROL_PROTOCOL));
}

/* One s3c_engine_sync on a thread of its own, so that this one can watch the client. */
struct sync {
	struct s3c_engine *engine;
	struct s3c_op *op;
	int event_fd;
	int result; /* once event_fd was written to */
};

static void *sync_main(void *arg)
{
	struct sync *sync = arg;

	sync->result = s3c_engine_sync(sync->engine, sync->op);
	eventfd_write(sync->event_fd, 1);
	return NULL;
}

static int send_progress(struct s3c_control_client *client)
{
	struct unsent_list all = { 0 };

	s3c_engine_unsent(client->control->access->engine, on_unsent, &all);
	return send_answer(client,
			   json_pack("{s:b, s:i, s:i, s:o}", "progress", 1, "files", all.files,
				     "names", all.names, "bytes", json_u64(all.bytes)));
}

/* Until it is done; a client that goes away, or does not take its lines, ends it. */
static void watch_sync(struct s3c_control_client *client, struct sync *sync)
{
	struct pollfd fds[] = {
		{ .fd = sync->event_fd, .events = POLLIN },
		{ .fd = client->fd }, /* POLLHUP and POLLERR */
	};

	while (!(fds[0].revents & POLLIN)) {
		int n = poll(fds, ARRAY_LEN(fds), PROGRESS_MS);

		if (n < 0)
			fds[0].revents = 0;
		else if (n == 0 ? send_progress(client) < 0 : fds[1].revents != 0)
			break;
	}
	if (!(fds[0].revents & POLLIN))
		s3c_op_interrupt(&client->op);
}

static int answer_sync(struct s3c_control_client *client, const json_t *request)
{
	struct sync sync = { .engine = client->control->access->engine, .op = &client->op };
	pthread_t thread;
	int r;

	(void)request;
	sync.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sync.event_fd < 0)
		return send_failure(client, -errno, strerror(errno));
	r = send_progress(client);
	if (r == 0)
		r = s3c_thread_start(&thread, "control-sync", sync_main, &sync);
	if (r == 0) {
		watch_sync(client, &sync);
		pthread_join(thread, NULL);
		r = sync.result;
	}
	close(sync.event_fd);
	if (r == 0)
		return send_answer(client, json_pack("{s:b}", "ok", 1));
	return send_failure(client, r, strerror(-r));
}

static int answer_retry(struct s3c_control_client *client, const json_t *request)
{
	struct s3c_engine *engine = client->control->access->engine;
	cleanup_free char *path = NULL;
	int r = s3c_control_get_path(request, &path);
	unsigned count;

	if (r < 0 && r != -ENOENT)
		return send_failure(client, r, "the path is none");
	count = s3c_engine_retry(engine, path);
	if (path && !count)
		return send_failure(client, -ENOENT, "nothing has failed or is parked there");
	return send_answer(client, json_pack("{s:b, s:i}", "ok", 1, "count", count));
}

static int answer_discard(struct s3c_control_client *client, const json_t *request)
{
	const struct s3c_access *access = client->control->access;
	cleanup_free char *path = NULL;
	int r = s3c_control_get_path(request, &path);
	struct s3c_op op;

	if (r < 0)
		return send_failure(client, -EINVAL, "a path is missing");
	s3c_op_init(&op, s3c_deadline_after((double)access->options->timeout_s));
	r = s3c_engine_discard(access->engine, &op, path);
	s3c_op_destroy(&op);
	if (r == -ENOENT)
		return send_failure(client, r, "there is nothing that the store does not have");
	if (r == -EBUSY)
		return send_failure(client, r, "it is open: close it first");
	if (r < 0)
		return send_failure(client, r, strerror(-r));
	s3c_warn("%s: what the store did not have was discarded, as told by s3cryptfsctl", path);
	return send_answer(client, json_pack("{s:b}", "ok", 1));
}

/* Without a level it only tells the present one. */
static int answer_loglevel(struct s3c_control_client *client, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "level"));
	enum s3c_log_level old = s3c_log_get_level(), level = old;

	if (json_object_get(request, "level") && s3c_log_level_parse(name, &level) < 0)
		return send_failure(client, -EINVAL,
				    "there is no such level: error, warn, info or debug");
	if (level != old) {
		/* At whichever of both levels tells it. */
		if (level < S3C_LOG_INFO)
			s3c_info("log_level=%s from now on, as told by s3cryptfsctl",
				 s3c_log_level_name(level));
		s3c_log_set_level(level);
		if (level >= S3C_LOG_INFO)
			s3c_info("log_level=%s from now on, as told by s3cryptfsctl",
				 s3c_log_level_name(level));
	}
	return send_answer(client,
			   json_pack("{s:b, s:s, s:s}", "ok", 1, "level", s3c_log_level_name(level),
				     "before", s3c_log_level_name(old)));
}

/* The kernel's part is the client's, cli/remount.c. */
static int answer_remount(struct s3c_control_client *client, const json_t *request)
{
	const struct s3c_access *access = client->control->access;
	const json_t *wanted = json_object_get(request, "read_only");
	bool was = s3c_engine_read_only(access->engine);

	if (!json_is_boolean(wanted))
		return send_failure(client, -EINVAL, "read_only is missing");
	if (s3c_engine_hold_read_only(access->engine, json_is_true(wanted)) < 0)
		return send_failure(client, -EROFS,
				    access->read_only
					    ? "it was mounted read-only: unmount it, and mount it "
					      "without ro"
					    : "the store was seen not to encrypt what it was asked "
					      "to: it is not written to any more");
	if (was != json_is_true(wanted))
		s3c_info("%s: %s now (remount)", client->control->mountpoint,
			 was ? "writable" : "read-only");
	return send_answer(client, json_pack("{s:b}", "ok", 1));
}

int s3c_control_answer(struct s3c_control_client *client, const json_t *request)
{
	static const struct {
		const char *name;
		int (*answer)(struct s3c_control_client *client, const json_t *request);
	} commands[] = {
		{ "version", answer_version },   { "status", answer_status },
		{ "sync", answer_sync },         { "retry", answer_retry },
		{ "discard", answer_discard },   { "remount", answer_remount },
		{ "loglevel", answer_loglevel },
	};
	const char *name = json_string_value(json_object_get(request, "command"));

	for (size_t i = 0; name && i < ARRAY_LEN(commands); i++)
		if (!strcmp(commands[i].name, name))
			return commands[i].answer(client, request);
	return send_failure(client, -EINVAL, "the command is unknown to this version");
}
