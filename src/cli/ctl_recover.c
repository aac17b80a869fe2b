/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfsctl recover: what a mount left in its journal goes to the store, without a mount. */
#include "cli/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "cli/access.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "db/records.h"
#include "engine/durable.h"
#include "engine/record.h"

#define POLL_US 100000

static int fail(struct s3c_ctl *ctl, struct s3c_err *err, int r)
{
	s3c_ctl_complain(ctl, err, r);
	return S3C_EXIT_FAILED;
}

/* To where the journal can be read. dry: the store is only looked at. *ret_waiting: records. */
static int open_journal(struct s3c_ctl *ctl, struct s3c_access *access, struct s3c_err *err,
			uint64_t *ret_waiting)
{
	uint64_t waiting = 0, bytes = 0;
	int r;

	signal(SIGPIPE, SIG_IGN);
	s3c_access_init(access, &ctl->options, &ctl->source, false);
	access->existing = true;
	r = s3c_access_keys(access, err);
	if (r == 0)
		r = s3c_access_store(access, false, err);
	if (r == 0)
		r = s3c_access_state(access, err);
	if (r == 0)
		r = s3c_journal_pending(access->journal, &waiting, &bytes);
	*ret_waiting = waiting;
	if (r < 0 || !waiting)
		return r;
	access->read_only = ctl->dry_run;
	r = s3c_access_probe(access, err);
	if (r == 0)
		r = s3c_access_volume(access, false, err);
	access->read_only = false;
	return r < 0 ? r : s3c_access_journal(access, err, &waiting);
}

struct item {
	uint32_t kind;
	char *path; /* NULL: cannot be read */
};

struct listing {
	struct item *items;
	size_t count, alloc;
	uint32_t kind;
};

static void listing_free(struct listing *listing)
{
	for (size_t i = 0; i < listing->count; i++)
		free(listing->items[i].path);
	free(listing->items);
}

/* All of these records begin alike: version(1) flags(1) path, a rename's without flags, a second
   name's with an id and the first name instead. NULL: not so, or no memory. */
static char *path_of(uint32_t kind, const uint8_t *data, size_t len)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	uint8_t version = s3c_record_get_u8(&reader);
	char path[S3C_PATH_MAX];

	if (kind == S3C_RECORD_LINK) {
		uint8_t id[S3C_FILE_ID_LEN];

		s3c_record_take(&reader, id, sizeof(id));
		s3c_record_get_text(&reader, path, sizeof(path));
	} else if (kind != S3C_RECORD_RENAME) {
		s3c_record_get_u8(&reader);
	}
	s3c_record_get_text(&reader, path, sizeof(path));
	return reader.failed || version != 1 ? NULL : strdup(path);
}

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct listing *listing = arg;
	struct item item = { .kind = listing->kind };

	(void)id;
	(void)sub;
	if (listing->count == listing->alloc) {
		size_t alloc = listing->alloc ? 2 * listing->alloc : 64;
		struct item *items = reallocarray(listing->items, alloc, sizeof(*items));

		if (!items)
			return -ENOMEM;
		listing->items = items;
		listing->alloc = alloc;
	}
	item.path = result == 0 ? path_of(listing->kind, data, len) : NULL;
	listing->items[listing->count++] = item;
	return 0;
}

/* What is to be done in the store, one line each. */
static void print_item(const struct item *item)
{
	static const char *const kinds[] = {
		[S3C_RECORD_OBJECT] = "file",    [S3C_RECORD_GONE] = "removal",
		[S3C_RECORD_DIR] = "directory",  [S3C_RECORD_RENAME] = "rename",
		[S3C_RECORD_LINK] = "hard link", [S3C_RECORD_EXCHANGE] = "exchange",
	};

	printf("%-10s", kinds[item->kind]);
	if (item->path)
		s3c_ctl_print_name(item->path[0] ? item->path : "/");
	else
		fputs("(cannot be read)", stdout);
	putchar('\n');
}

static int dry_run(struct s3c_ctl *ctl, struct s3c_access *access)
{
	static const uint32_t kinds[] = { S3C_RECORD_RENAME, S3C_RECORD_EXCHANGE, S3C_RECORD_DIR,
					  S3C_RECORD_OBJECT, S3C_RECORD_LINK,     S3C_RECORD_GONE };
	struct listing listing = { 0 };
	struct s3c_record_stats stats;
	char size[S3C_SIZE_TEXT];
	struct s3c_err err = { 0 };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(kinds) && r == 0; i++) {
		listing.kind = kinds[i];
		r = s3c_record_each(access->journal, kinds[i], on_record, &listing);
	}
	if (r == 0) {
		for (size_t i = 0; i < listing.count; i++)
			print_item(&listing.items[i]);
		s3c_record_stats(access->journal, &stats);
		printf("%s in %llu records wait in %s\n", s3c_size_text(stats.bytes, size),
		       (unsigned long long)stats.records, access->state_dir);
	}
	listing_free(&listing);
	if (r == 0)
		return S3C_EXIT_OK;
	s3c_err_set(&err, r, "the journal in %s cannot be read: %s", access->state_dir,
		    strerror(-r));
	return fail(ctl, &err, r);
}

struct left {
	uint64_t files, names, bytes;
	uint64_t under_way; /* of files and names: may still succeed without anybody's doing */
	bool tell;
};

static void on_unsent(void *arg, const struct s3c_unsent *unsent)
{
	struct left *left = arg;

	left->files += unsent->what == S3C_UNSENT_FILE;
	left->names += unsent->what != S3C_UNSENT_FILE;
	left->bytes += unsent->bytes;
	left->under_way +=
		unsent->state == S3C_UNSENT_WAITING || unsent->state == S3C_UNSENT_RUNNING;
	if (!left->tell)
		return;
	s3c_ctl_print_name(unsent->path);
	printf(": not in the store: %s\n",
	       unsent->result < 0 ? strerror(-unsent->result) : "not tried");
}

static struct left count_left(struct s3c_engine *engine, struct s3c_progress *progress)
{
	struct left left = { 0 };

	s3c_engine_unsent(engine, on_unsent, &left);
	s3c_progress_left(progress, left.files, left.names, left.bytes);
	return left;
}

struct sync {
	struct s3c_engine *engine;
	struct s3c_op op;
	int result;
	bool done; /* atomic */
};

static void *sync_main(void *arg)
{
	struct sync *sync = arg;

	sync->result = s3c_engine_sync(sync->engine, &sync->op);
	__atomic_store_n(&sync->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* After a first failure the others go on: until nothing moves any more for as long as one operation
   may take. */
static void wait_for_rest(struct s3c_engine *engine, struct s3c_progress *progress,
			  double timeout_s)
{
	int64_t give_up = s3c_deadline_after(timeout_s);
	struct left before = { 0 };

	for (;;) {
		struct left left = count_left(engine, progress);

		if (!left.under_way || s3c_clock_monotonic_ns() > give_up)
			return;
		if (left.bytes != before.bytes || left.files != before.files ||
		    left.names != before.names)
			give_up = s3c_deadline_after(timeout_s);
		before = left;
		usleep(POLL_US);
	}
}

static int send_all(struct s3c_ctl *ctl, struct s3c_engine *engine)
{
	struct sync sync = { .engine = engine };
	struct s3c_progress progress;
	pthread_t thread;
	int r;

	s3c_op_init(&sync.op, INT64_MAX);
	s3c_progress_begin(&progress);
	r = s3c_thread_start(&thread, "sync", sync_main, &sync);
	if (r == 0) {
		while (!__atomic_load_n(&sync.done, __ATOMIC_ACQUIRE)) {
			count_left(engine, &progress);
			usleep(POLL_US);
		}
		pthread_join(thread, NULL);
		r = sync.result;
	}
	if (r < 0)
		wait_for_rest(engine, &progress, (double)ctl->options.timeout_s);
	s3c_progress_end(&progress);
	s3c_op_destroy(&sync.op);
	return r;
}

static int recover(struct s3c_ctl *ctl, struct s3c_access *access)
{
	const struct s3c_recovery *found = &access->recovery;
	struct left left = { .tell = true };
	char text[S3C_LEFT_TEXT];
	struct s3c_err err = { 0 };
	int r = s3c_access_engine(access, &err);

	if (r == 0)
		r = s3c_access_recover(access, &err);
	if (r < 0)
		return fail(ctl, &err, r);
	printf("found in the journal: %s",
	       s3c_left_text(found->objects, found->names, found->bytes, text));
	if (found->done)
		printf("; %u more were in the store already", found->done);
	if (found->conflicts)
		printf("; %u kept as NAME.conflict-HOST-TIME", found->conflicts);
	putchar('\n');
	fflush(stdout);
	r = send_all(ctl, access->engine);
	s3c_engine_unsent(access->engine, on_unsent, &left);
	if (left.files || left.names)
		printf("left in the journal: %s\n",
		       s3c_left_text(left.files, left.names, left.bytes, text));
	if (found->failed)
		printf("left in the journal: %u that could not be taken up\n", found->failed);
	if (left.files || left.names || found->failed)
		return S3C_EXIT_FAILED;
	if (r < 0)
		return fail(ctl, &err, r);
	puts("everything is in the store");
	return S3C_EXIT_OK;
}

/* Instead of what a second mount is told. */
static void say_busy(const char *state_dir, struct s3c_err *err)
{
	cleanup_free char *mountpoint = NULL;
	pid_t pid;

	if (s3c_journal_holder(state_dir, &pid, &mountpoint) < 0 || !mountpoint[0])
		return;
	err->text[0] = '\0';
	s3c_err_set(err, -EBUSY,
		    "process %ld has %s mounted with this journal and sends what waits in it; "
		    "s3cryptfsctl sync %s waits for that",
		    (long)pid, mountpoint, mountpoint);
}

int s3c_ctl_recover(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	struct s3c_err err = { 0 };
	uint64_t waiting = 0;
	int r;

	if (ctl->options.read_only && !ctl->dry_run) {
		s3c_err_set(&err, -EINVAL, "it writes to the store: leave out ro");
		s3c_ctl_complain(ctl, &err, -EINVAL);
		return S3C_EXIT_USAGE;
	}
	/* What a mount with writeback left is finished as it would. */
	ctl->options.writeback = true;
	r = open_journal(ctl, &access, &err, &waiting);
	if (r == -ENOENT && !access.journal && access.state_dir) {
		printf("nothing waits: there is no journal in %s\n", access.state_dir);
		return S3C_EXIT_OK;
	}
	if (r == -EBUSY && !access.journal)
		say_busy(access.state_dir, &err);
	if (r < 0)
		return fail(ctl, &err, r);
	if (!waiting) {
		printf("nothing waits in %s\n", access.state_dir);
		return S3C_EXIT_OK;
	}
	return ctl->dry_run ? dry_run(ctl, &access) : recover(ctl, &access);
}
