/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * usage: crash_workload [-s SEED] [-t THREADS] [-n OPERATIONS] [-l MIB] [-w WEIGHT] [-b MIB]
 * [-k WEIGHT] ROOT LOG
 *
 * Changes files below ROOT at random until it is killed, the filesystem goes away, or OPERATIONS
 * are done by each thread; at SIGTERM threads end what they do, and close their files. Before each
 * operation a line with what is intended goes to LOG, after its return a line with the result; LOG
 * must be where the crash does not reach. crash_model.py reads it and tells what may be found after
 * the crash: it knows each operation of this file, and computes each byte that was written.
 *
 *   -l: large files have up to MIB (40); -w: how often they are chosen, beside about 100 for all
 *   operations (2); -b: a thread keeps at most MIB altogether (96); -k: how often hard links are
 *   made (0)
 *
 * Lines of LOG, one write(2) each, so that their order is the order of events:
 *   S SEED THREADS
 *   I THREAD SEQ OPERATION ARGUMENT...      paths relative to ROOT, files by serial number
 *   A THREAD SEQ RESULT ERRNO
 *   E THREAD                                the thread ends by itself
 *
 * Threads work in folders of their own (ROOT/tN), so that what a thread sees is what it did. Names
 * come from a small set: they are used again, by files and folders, and renames hit existing files.
 * What an operation that failed has touched is left alone from then on. Second names of files have
 * a place of their own, tN/linkINDEX; as git does, links are also made to rename: link, then
 * unlink.
 *
 * The byte at OFFSET of a file, written by operation SEQ of THREAD: table[(shift(SEED, THREAD, SEQ)
 * + OFFSET) % TABLE_LEN]; the table is the same in all runs. A write(2) is shorter than 1 MiB by a
 * page, so that it is one request of the kernel at any alignment, and shorter than the table.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE_LEN 1048583
#define WRITE_MAX ((1 << 20) - 4096)
#define SMALL_MAX 20000
#define NODES 160
#define NAMES 12
#define OPEN_MAX_FILES 6
#define THREADS_MAX 16
#define DEPTH_MAX 5
#define THREAD_PATH_MAX 256
/* Choices in a row that could not be done: after many failures nothing may be left to work with. */
#define IDLE_MAX 100000

enum kind { FREE, DIRECTORY, REGULAR };

struct node {
	enum kind kind;
	int parent; /* -1: has no name any more */
	int name;
	unsigned serial;
	int64_t size;
	int fd; /* -1: closed */
	bool append;
	bool tainted; /* something failed here: its state is not known */
	bool linked;  /* it has a second name, tN/linkINDEX */
};

struct worker {
	pthread_t thread;
	unsigned index;
	uint64_t random;
	uint64_t seq;
	unsigned serials;
	bool gone; /* the filesystem is not there any more */
	struct node nodes[NODES];
	unsigned char buffer[WRITE_MAX];
};

static unsigned char table[TABLE_LEN];
static const char *root;
static volatile sig_atomic_t stopping;
static int log_fd;
static uint64_t seed = 1, operations;
static int64_t large_max = 40LL << 20, bytes_max = 96LL << 20;
static unsigned thread_count = 1, large_weight = 2, link_weight;

static uint64_t mix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t below(struct worker *w, uint64_t limit)
{
	return mix(&w->random) % limit;
}

static void make_table(void)
{
	uint64_t state = 1, word = 0;

	for (size_t i = 0; i < TABLE_LEN; i++) {
		if (i % 8 == 0)
			word = mix(&state);
		table[i] = (unsigned char)(word >> (8 * (i % 8)));
	}
}

static void fill(struct worker *w, int64_t offset, size_t length)
{
	uint64_t state = seed * UINT64_C(0x100000001b3) + ((uint64_t)w->index << 40) + w->seq;
	size_t at = (size_t)((mix(&state) % TABLE_LEN + (uint64_t)offset) % TABLE_LEN);
	size_t first = length < TABLE_LEN - at ? length : TABLE_LEN - at;

	memcpy(w->buffer, table + at, first);
	memcpy(w->buffer + first, table, length - first);
}

__attribute__((format(printf, 1, 2))) static void record(const char *format, ...)
{
	char line[3 * THREAD_PATH_MAX];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(line) ||
	    write(log_fd, line, (size_t)length) != length) {
		perror("crash_workload: log");
		_exit(2);
	}
}

#define INTEND(w, format, ...)                                                                     \
	record("I %u %llu " format "\n", (w)->index, (unsigned long long)++(w)->seq, __VA_ARGS__)

/* Records the result. Errors that say that the filesystem has gone end the thread. */
static bool done(struct worker *w, int64_t result)
{
	int error = result < 0 ? errno : 0;

	record("A %u %llu %lld %d\n", w->index, (unsigned long long)w->seq, (long long)result,
	       error);
	if (error == ENOTCONN || error == ECONNABORTED || error == ENODEV || error == ENXIO)
		w->gone = true;
	return result >= 0;
}

/* The path relative to ROOT. */
static void path_of(const struct worker *w, int index, char path[static THREAD_PATH_MAX])
{
	char part[16], rest[THREAD_PATH_MAX] = "";

	for (; index != 0; index = w->nodes[index].parent) {
		char joined[THREAD_PATH_MAX];

		snprintf(part, sizeof(part), "/n%d", w->nodes[index].name);
		snprintf(joined, sizeof(joined), "%.16s%.200s", part, rest);
		memcpy(rest, joined, sizeof(rest));
	}
	snprintf(path, THREAD_PATH_MAX, "t%u%.230s", w->index, rest);
}

static void path_at(const struct worker *w, int parent, int name, char path[static THREAD_PATH_MAX])
{
	char folder[THREAD_PATH_MAX];

	path_of(w, parent, folder);
	snprintf(path, THREAD_PATH_MAX, "%.230s/n%d", folder, name);
}

struct full {
	char text[4096];
};

static const char *full(const char *path, struct full *ret)
{
	snprintf(ret->text, sizeof(ret->text), "%s/%s", root, path);
	return ret->text;
}

static void path_of_link(const struct worker *w, int index, char path[static THREAD_PATH_MAX])
{
	snprintf(path, THREAD_PATH_MAX, "t%u/link%d", w->index, index);
}

static int child(const struct worker *w, int parent, int name)
{
	for (int i = 1; i < NODES; i++)
		if (w->nodes[i].kind != FREE && w->nodes[i].parent == parent &&
		    w->nodes[i].name == name)
			return i;
	return -1;
}

static bool inside(const struct worker *w, int index, int folder)
{
	for (; index > 0; index = w->nodes[index].parent)
		if (index == folder)
			return true;
	return folder == 0;
}

static int depth(const struct worker *w, int index)
{
	int n = 0;

	for (; index > 0; index = w->nodes[index].parent)
		n++;
	return n;
}

/* Levels of folders below this one. */
static int height(const struct worker *w, int folder)
{
	int most = 0, top = depth(w, folder);

	for (int i = 1; i < NODES; i++)
		if (w->nodes[i].kind != FREE && w->nodes[i].parent >= 0 && inside(w, i, folder) &&
		    depth(w, i) - top > most)
			most = depth(w, i) - top;
	return most;
}

static bool has_children(const struct worker *w, int folder)
{
	for (int i = 1; i < NODES; i++)
		if (w->nodes[i].kind != FREE && w->nodes[i].parent == folder)
			return true;
	return false;
}

static bool tainted_below(const struct worker *w, int folder)
{
	for (int i = 1; i < NODES; i++)
		if (w->nodes[i].kind != FREE && w->nodes[i].tainted && w->nodes[i].parent >= 0 &&
		    inside(w, i, folder))
			return true;
	return false;
}

enum want { A_FOLDER, A_FILE, AN_OPEN_FILE, A_CLOSED_FILE, ANYTHING };

static bool wanted(const struct worker *w, int i, enum want want)
{
	const struct node *n = &w->nodes[i];

	if (n->kind == FREE || n->tainted)
		return false;
	switch (want) {
	case A_FOLDER:
		return n->kind == DIRECTORY;
	case A_FILE:
		return n->kind == REGULAR && n->parent >= 0;
	case AN_OPEN_FILE:
		return n->kind == REGULAR && n->fd >= 0;
	case A_CLOSED_FILE:
		return n->kind == REGULAR && n->fd < 0 && n->parent >= 0;
	case ANYTHING:
		return n->parent >= 0;
	}
	return false;
}

/* A random node of the wanted sort; -1: there is none. */
static int pick(struct worker *w, enum want want)
{
	int found = -1, count = 0;

	for (int i = 0; i < NODES; i++)
		if (wanted(w, i, want) && below(w, (uint64_t)++count) == 0)
			found = i;
	return found;
}

static int count_open(const struct worker *w)
{
	int count = 0;

	for (int i = 0; i < NODES; i++)
		count += w->nodes[i].kind == REGULAR && w->nodes[i].fd >= 0;
	return count;
}

static int64_t total(const struct worker *w)
{
	int64_t bytes = 0;

	for (int i = 0; i < NODES; i++)
		if (w->nodes[i].kind == REGULAR)
			bytes += w->nodes[i].size;
	return bytes;
}

static int take_node(struct worker *w, enum kind kind, int parent, int name)
{
	for (int i = 1; i < NODES; i++) {
		if (w->nodes[i].kind != FREE)
			continue;
		w->nodes[i] =
			(struct node){ .kind = kind, .parent = parent, .name = name, .fd = -1 };
		return i;
	}
	return -1;
}

static bool room_for_node(const struct worker *w)
{
	for (int i = 1; i < NODES; i++)
		if (w->nodes[i].kind == FREE)
			return true;
	return false;
}

/* The second name goes. false: it is not known whether. */
static bool drop_link(struct worker *w, int index)
{
	char path[THREAD_PATH_MAX];
	struct full at;

	if (!w->nodes[index].linked)
		return true;
	path_of_link(w, index, path);
	INTEND(w, "unlink %s", path);
	w->nodes[index].linked = false;
	w->nodes[index].tainted = !done(w, unlink(full(path, &at)));
	return !w->nodes[index].tainted;
}

/* The name goes; an open file lives on without one. */
static void lose_name(struct worker *w, int index)
{
	if (w->nodes[index].fd >= 0)
		w->nodes[index].parent = -1;
	else
		w->nodes[index].kind = FREE;
}

static void make_file(struct worker *w)
{
	int parent = pick(w, A_FOLDER), name = (int)below(w, NAMES);
	mode_t mode = (mode_t)(0600 | below(w, 0100));
	char path[THREAD_PATH_MAX];
	struct full at;
	struct node *n;
	int index;

	if (count_open(w) >= OPEN_MAX_FILES || child(w, parent, name) >= 0 || !room_for_node(w))
		return;
	path_at(w, parent, name, path);
	index = take_node(w, REGULAR, parent, name);
	n = &w->nodes[index];
	n->serial = ++w->serials;
	n->append = below(w, 4) == 0;
	INTEND(w, "create %s %u %o", path, n->serial, mode);
	n->fd = open(full(path, &at),
		     O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | (n->append ? O_APPEND : 0), mode);
	n->tainted = !done(w, n->fd);
}

static void open_file(struct worker *w)
{
	int index = pick(w, A_CLOSED_FILE);
	bool cut = below(w, 3) == 0;
	char path[THREAD_PATH_MAX];
	struct full at;
	struct node *n;

	if (index < 0 || count_open(w) >= OPEN_MAX_FILES)
		return;
	n = &w->nodes[index];
	path_of(w, index, path);
	n->append = below(w, 4) == 0;
	INTEND(w, "open %s %u %d", path, n->serial, cut);
	n->fd = open(full(path, &at),
		     O_RDWR | O_CLOEXEC | (n->append ? O_APPEND : 0) | (cut ? O_TRUNC : 0));
	if (!done(w, n->fd))
		n->tainted = cut;
	else if (cut)
		n->size = 0;
}

static void make_folder(struct worker *w)
{
	int parent = pick(w, A_FOLDER), name = (int)below(w, NAMES);
	mode_t mode = (mode_t)(0700 | below(w, 0100));
	char path[THREAD_PATH_MAX];
	struct full at;
	int index;

	if (child(w, parent, name) >= 0 || depth(w, parent) >= DEPTH_MAX - 1 || !room_for_node(w))
		return;
	path_at(w, parent, name, path);
	index = take_node(w, DIRECTORY, parent, name);
	INTEND(w, "mkdir %s %o", path, mode);
	w->nodes[index].tainted = !done(w, mkdir(full(path, &at), mode));
}

static void remove_folder(struct worker *w)
{
	int index = pick(w, A_FOLDER);
	char path[THREAD_PATH_MAX];
	struct full at;

	if (index <= 0 || has_children(w, index))
		return;
	path_of(w, index, path);
	INTEND(w, "rmdir %s", path);
	if (done(w, rmdir(full(path, &at))))
		w->nodes[index].kind = FREE;
	else
		w->nodes[index].tainted = true;
}

/* The second name becomes the first again. */
static void take_back(struct worker *w, int index, const char *path)
{
	char second[THREAD_PATH_MAX];
	struct full at, then;

	path_of_link(w, index, second);
	INTEND(w, "rename %s %s", second, path);
	w->nodes[index].linked = false;
	w->nodes[index].tainted = !done(w, rename(full(second, &at), full(path, &then)));
}

static void remove_file(struct worker *w)
{
	int index = pick(w, A_FILE);
	char path[THREAD_PATH_MAX];
	struct full at;

	if (index < 0)
		return;
	path_of(w, index, path);
	INTEND(w, "unlink %s", path);
	if (!done(w, unlink(full(path, &at))))
		w->nodes[index].tainted = true;
	else if (w->nodes[index].linked)
		take_back(w, index, path);
	else
		lose_name(w, index);
}

/* One write, at the end of files opened to append. */
static bool write_at(struct worker *w, struct node *n, int64_t offset, size_t length)
{
	ssize_t r;

	if (n->append)
		offset = n->size;
	INTEND(w, "write %u %lld %zu", n->serial, (long long)offset, length);
	fill(w, offset, length);
	r = n->append ? write(n->fd, w->buffer, length) : pwrite(n->fd, w->buffer, length, offset);
	/* What a short one has done of the rest is not known either. */
	if (!done(w, r) || (size_t)r != length) {
		n->tainted = true;
		return false;
	}
	if (offset + r > n->size)
		n->size = offset + r;
	return true;
}

static void write_small(struct worker *w, bool at_end)
{
	int index = pick(w, AN_OPEN_FILE);
	size_t length = (size_t)(1 + below(w, below(w, 8) == 0 ? WRITE_MAX : SMALL_MAX));
	struct node *n;
	int64_t offset;

	if (index < 0)
		return;
	n = &w->nodes[index];
	offset = n->size;
	/* Mostly inside of what is there, sometimes with a hole before it. */
	if (!at_end)
		offset = (int64_t)below(w, (uint64_t)n->size + (below(w, 5) == 0 ? 300000 : 1));
	write_at(w, n, offset, length);
}

static void write_large(struct worker *w)
{
	int64_t left = 1 + (int64_t)below(w, (uint64_t)large_max);
	int index = pick(w, AN_OPEN_FILE);
	struct node *n;

	if (index < 0 || left > bytes_max - total(w))
		return;
	n = &w->nodes[index];
	while (left > 0 && !w->gone && !stopping) {
		size_t length = left < WRITE_MAX ? (size_t)left : WRITE_MAX;

		if (!write_at(w, n, n->size, length))
			return;
		left -= (int64_t)length;
	}
}

static int64_t new_size(struct worker *w, const struct node *n)
{
	return (int64_t)below(w, below(w, 3) == 0 ? (uint64_t)n->size + 200000
						  : (uint64_t)n->size + 1);
}

static void cut_open(struct worker *w)
{
	int index = pick(w, AN_OPEN_FILE);
	struct node *n;
	int64_t size;

	if (index < 0)
		return;
	n = &w->nodes[index];
	size = new_size(w, n);
	INTEND(w, "ftruncate %u %lld", n->serial, (long long)size);
	if (done(w, ftruncate(n->fd, size)))
		n->size = size;
	else
		n->tainted = true;
}

static void cut_path(struct worker *w)
{
	int index = pick(w, A_FILE);
	char path[THREAD_PATH_MAX];
	struct full at;
	struct node *n;
	int64_t size;

	if (index < 0)
		return;
	n = &w->nodes[index];
	size = new_size(w, n);
	path_of(w, index, path);
	INTEND(w, "truncate %s %lld", path, (long long)size);
	if (done(w, truncate(full(path, &at), size)))
		n->size = size;
	else
		n->tainted = true;
}

static void sync_file(struct worker *w)
{
	int index = pick(w, AN_OPEN_FILE);

	if (index < 0)
		return;
	INTEND(w, "fsync %u", w->nodes[index].serial);
	done(w, fsync(w->nodes[index].fd));
}

static void sync_folder(struct worker *w)
{
	int index = pick(w, A_FOLDER), fd;
	char path[THREAD_PATH_MAX];
	struct full at;

	path_of(w, index, path);
	fd = open(full(path, &at), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	INTEND(w, "fsyncdir %s", path);
	done(w, fsync(fd));
	close(fd);
}

static void close_node(struct worker *w, struct node *n)
{
	int fd = n->fd;

	INTEND(w, "close %u", n->serial);
	n->fd = -1;
	done(w, close(fd));
	if (n->parent < 0)
		n->kind = FREE;
}

static void close_file(struct worker *w)
{
	int index = pick(w, AN_OPEN_FILE);

	if (index >= 0)
		close_node(w, &w->nodes[index]);
}

/* A write that failed: closing is tried once. */
static void close_tainted(struct worker *w)
{
	for (int i = 0; i < NODES && !w->gone; i++)
		if (w->nodes[i].kind == REGULAR && w->nodes[i].tainted && w->nodes[i].fd >= 0)
			close_node(w, &w->nodes[i]);
}

static void rename_one(struct worker *w, int index)
{
	int parent = pick(w, A_FOLDER), name = (int)below(w, NAMES), old;
	struct node *n = &w->nodes[index];
	char from[THREAD_PATH_MAX], to[THREAD_PATH_MAX];
	struct full at, then;
	bool folder = n->kind == DIRECTORY;

	old = child(w, parent, name);
	if (folder && (old >= 0 || inside(w, parent, index) || tainted_below(w, index) ||
		       depth(w, parent) + 1 + height(w, index) > DEPTH_MAX))
		return;
	if (old == index ||
	    (old >= 0 && (w->nodes[old].kind != REGULAR || w->nodes[old].tainted)) ||
	    !room_for_node(w))
		return;
	if (old >= 0 && !drop_link(w, old))
		return;
	path_of(w, index, from);
	path_at(w, parent, name, to);
	INTEND(w, "rename %s %s", from, to);
	if (!done(w, rename(full(from, &at), full(to, &then)))) {
		for (int i = 1; i < NODES; i++)
			if (w->nodes[i].kind != FREE && w->nodes[i].parent >= 0 &&
			    inside(w, i, index))
				w->nodes[i].tainted = true;
		if (old < 0)
			old = take_node(w, REGULAR, parent, name);
		w->nodes[old].tainted = true;
		return;
	}
	if (old >= 0)
		lose_name(w, old);
	n->parent = parent;
	n->name = name;
}

static void link_file(struct worker *w)
{
	int index = pick(w, A_FILE);
	char from[THREAD_PATH_MAX], to[THREAD_PATH_MAX];
	struct full at, then;

	if (index < 0)
		return;
	if (w->nodes[index].linked) {
		drop_link(w, index);
		return;
	}
	path_of(w, index, from);
	path_of_link(w, index, to);
	INTEND(w, "link %s %s", from, to);
	w->nodes[index].linked = true;
	if (!done(w, link(full(from, &at), full(to, &then))))
		w->nodes[index].tainted = true;
}

/* link and unlink: what git does with each object. */
static void relink_file(struct worker *w)
{
	int parent = pick(w, A_FOLDER), name = (int)below(w, NAMES), index = pick(w, A_FILE);
	char from[THREAD_PATH_MAX], to[THREAD_PATH_MAX];
	struct full at, then;
	struct node *n;

	if (index < 0 || child(w, parent, name) >= 0 || !room_for_node(w))
		return;
	n = &w->nodes[index];
	path_of(w, index, from);
	path_at(w, parent, name, to);
	INTEND(w, "link %s %s", from, to);
	if (!done(w, link(full(from, &at), full(to, &then)))) {
		w->nodes[take_node(w, REGULAR, parent, name)].tainted = true;
		n->tainted = true;
		return;
	}
	INTEND(w, "unlink %s", from);
	if (!done(w, unlink(full(from, &at)))) {
		w->nodes[take_node(w, REGULAR, parent, name)].tainted = true;
		n->tainted = true;
		return;
	}
	n->parent = parent;
	n->name = name;
}

static void rename_file(struct worker *w)
{
	int index = pick(w, A_FILE);

	if (index >= 0)
		rename_one(w, index);
}

static void rename_folder(struct worker *w)
{
	int index = pick(w, A_FOLDER);

	if (index > 0)
		rename_one(w, index);
}

static void change_mode(struct worker *w)
{
	int index = pick(w, ANYTHING);
	mode_t mode;
	char path[THREAD_PATH_MAX];
	struct full at;

	if (index < 0)
		return;
	mode = (mode_t)(0700 | below(w, 0100));
	path_of(w, index, path);
	INTEND(w, "chmod %s %o", path, mode);
	/* The top folder stays in use: without it there is nothing to do. */
	if (!done(w, chmod(full(path, &at), mode)) && index != 0)
		w->nodes[index].tainted = true;
}

static void change_times(struct worker *w)
{
	int index = pick(w, A_FILE);
	struct timespec times[2] = { 0 };
	char path[THREAD_PATH_MAX];
	struct full at;

	if (index < 0)
		return;
	times[0].tv_sec = times[1].tv_sec = (time_t)(1000000000 + below(w, 700000000));
	times[0].tv_nsec = times[1].tv_nsec = (long)below(w, 1000000000);
	path_of(w, index, path);
	INTEND(w, "utimens %s %lld %ld", path, (long long)times[1].tv_sec, times[1].tv_nsec);
	if (!done(w, utimensat(AT_FDCWD, full(path, &at), times, 0)))
		w->nodes[index].tainted = true;
}

static void append_small(struct worker *w)
{
	write_small(w, true);
}

static void write_inside(struct worker *w)
{
	write_small(w, false);
}

static void one_operation(struct worker *w)
{
	const struct {
		unsigned weight;
		void (*call)(struct worker *w);
	} choices[] = {
		{ 14, make_file },
		{ 7, open_file },
		{ 18, write_inside },
		{ 10, append_small },
		{ large_weight, write_large },
		{ 3, cut_open },
		{ 3, cut_path },
		{ 6, sync_file },
		{ 1, sync_folder },
		{ 18, close_file },
		{ 5, remove_file },
		{ 7, rename_file },
		{ 2, rename_folder },
		{ link_weight, link_file },
		{ link_weight, relink_file },
		{ 4, make_folder },
		{ 3, remove_folder },
		{ 4, change_mode },
		{ 4, change_times },
	};
	unsigned sum = 0, chosen;
	size_t i;

	for (i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
		sum += choices[i].weight;
	chosen = (unsigned)below(w, sum);
	for (i = 0; chosen >= choices[i].weight; i++)
		chosen -= choices[i].weight;
	choices[i].call(w);
	close_tainted(w);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	char path[THREAD_PATH_MAX];
	unsigned idle = 0;
	struct full at;

	w->nodes[0] = (struct node){ .kind = DIRECTORY, .parent = 0, .fd = -1 };
	path_of(w, 0, path);
	INTEND(w, "mkdir %s %o", path, 0755);
	if (!done(w, mkdir(full(path, &at), 0755)))
		w->gone = true;
	while (!w->gone && !stopping && (!operations || w->seq < operations) && idle < IDLE_MAX) {
		uint64_t before = w->seq;

		one_operation(w);
		idle = w->seq == before ? idle + 1 : 0;
	}
	for (int i = 0; i < NODES && !w->gone; i++)
		if (w->nodes[i].kind == REGULAR && w->nodes[i].fd >= 0)
			close_node(w, &w->nodes[i]);
	record("E %u\n", w->index);
	return NULL;
}

static void stop(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

static int usage(void)
{
	fprintf(stderr, "usage: crash_workload [-s SEED] [-t THREADS] [-n OPERATIONS] [-l MIB] [-w "
			"WEIGHT] [-b MIB] [-k WEIGHT] "
			"ROOT LOG\n");
	return 2;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	int option;

	while ((option = getopt(argc, argv, "s:t:n:l:w:b:k:")) != -1) {
		uint64_t value = option == '?' ? 0 : strtoull(optarg, NULL, 10);

		switch (option) {
		case 's':
			seed = value;
			break;
		case 't':
			thread_count = (unsigned)value;
			break;
		case 'n':
			operations = value;
			break;
		case 'l':
			large_max = (int64_t)value << 20;
			break;
		case 'w':
			large_weight = (unsigned)value;
			break;
		case 'k':
			link_weight = (unsigned)value;
			break;
		case 'b':
			bytes_max = (int64_t)value << 20;
			break;
		default:
			return usage();
		}
	}
	if (argc - optind != 2 || thread_count < 1 || thread_count > THREADS_MAX || large_max < 1)
		return usage();
	root = argv[optind];
	log_fd = open(argv[optind + 1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (log_fd < 0) {
		perror(argv[optind + 1]);
		return 2;
	}
	umask(0);
	/* A test that was stopped leaves a mountpoint without its mount: each operation fails at
	 * once, for ever. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = stop, .sa_flags = SA_RESTART }, NULL);
	make_table();
	record("S %llu %u\n", (unsigned long long)seed, thread_count);
	for (unsigned i = 0; i < thread_count; i++) {
		uint64_t state = seed + i;

		workers[i].index = i;
		workers[i].random = mix(&state) + i;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			return 2;
	}
	for (unsigned i = 0; i < thread_count; i++)
		pthread_join(workers[i].thread, NULL);
	return 0;
}
