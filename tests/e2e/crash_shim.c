/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Loaded into the daemon by LD_PRELOAD: kills it at the Nth change of certain files, or takes their
 * syncs away. Built by the tests (cc -shared -fPIC), no part of the program.
 *
 *   CRASH_SHIM_MATCH=TEXT   files whose path holds TEXT: "/journal.db", or the folder of a store
 *   CRASH_SHIM_CALLS=LIST   which calls count, of write,sync,truncate,rename,unlink; all when unset
 *   CRASH_SHIM_AT=N         the Nth such call kills the process by SIGKILL; 0 or unset: none
 *   CRASH_SHIM_WHEN=before|half|after
 *                           before the call, after half of a write (before, for other calls), after
 * it CRASH_SHIM_NOSYNC=TEXT  fsync, fdatasync and syncfs of files whose path holds TEXT do nothing
 *   CRASH_SHIM_COUNT=FILE   how many calls counted: a native 64-bit number at the start of FILE
 *
 * SQLite calls write, pwrite64, fdatasync, ftruncate64 and unlink; the other functions are for
 * stores in folders. Stores through a mapping (SQLite's wal-index) are not seen: they are lost with
 * the process or need not survive.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

enum moment { BEFORE, HALF, AFTER };

static const char *match, *calls, *nosync;
static uint64_t kill_at;
static enum moment moment;
static _Atomic uint64_t own_count;
static _Atomic uint64_t *count = &own_count;

__attribute__((constructor)) static void start(void)
{
	const char *at = getenv("CRASH_SHIM_AT"), *when = getenv("CRASH_SHIM_WHEN"),
		   *path = getenv("CRASH_SHIM_COUNT");
	void *map;
	int fd;

	match = getenv("CRASH_SHIM_MATCH");
	calls = getenv("CRASH_SHIM_CALLS");
	nosync = getenv("CRASH_SHIM_NOSYNC");
	kill_at = at ? strtoull(at, NULL, 10) : 0;
	moment = when && !strcmp(when, "half")    ? HALF
		 : when && !strcmp(when, "after") ? AFTER
						  : BEFORE;
	fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return;
	if (ftruncate(fd, 8) == 0) {
		map = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED)
			count = map;
	}
	close(fd);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

static bool fd_holds(int fd, const char *text)
{
	char link[40], path[PATH_MAX + 1];
	ssize_t length;
	int error = errno;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	errno = error;
	if (length < 0)
		return false;
	path[length] = '\0';
	return strstr(path, text) != NULL;
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* Counts a call on a file that matches; whether it is the one. */
static bool counted(bool matches, const char *call)
{
	if (!matches || (calls && !strstr(calls, call)))
		return false;
	return atomic_fetch_add(count, 1) + 1 == kill_at;
}

static bool is_it(int fd, const char *call)
{
	return counted(match && fd_holds(fd, match), call);
}

static bool is_path(const char *path, const char *call)
{
	return counted(match && path && strstr(path, match), call);
}

/* A relative path: below the folder that dir is. */
static bool is_at(int dir, const char *path, const char *call)
{
	return counted(
		match && ((path && strstr(path, match)) || (dir >= 0 && fd_holds(dir, match))),
		call);
}

static void before(bool it)
{
	if (it && moment != AFTER)
		die();
}

static void after(bool it)
{
	int error = errno;

	if (it)
		die();
	errno = error;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	bool it = is_it(fd, "write");
	ssize_t r;

	if (it && moment == HALF && size > 1)
		size /= 2;
	else
		before(it);
	r = REAL(pwrite64)(fd, data, size, offset);
	after(it);
	return r;
}

ssize_t write(int fd, const void *data, size_t size)
{
	bool it = is_it(fd, "write");
	ssize_t r;

	if (it && moment == HALF && size > 1)
		size /= 2;
	else
		before(it);
	r = REAL(write)(fd, data, size);
	after(it);
	return r;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int parts_count, off64_t offset)
{
	bool it = is_it(fd, "write");
	ssize_t r;

	before(it);
	r = REAL(pwritev64)(fd, parts, parts_count, offset);
	after(it);
	return r;
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	bool it = is_it(fd, "write");
	int r;

	before(it);
	r = REAL(fsetxattr)(fd, name, value, size, flags);
	after(it);
	return r;
}

static int sync_call(int fd, int (*call)(int fd))
{
	bool it = is_it(fd, "sync");
	int r = 0;

	before(it);
	if (!nosync || !fd_holds(fd, nosync))
		r = call(fd);
	after(it);
	return r;
}

int fsync(int fd)
{
	return sync_call(fd, REAL(fsync));
}

int fdatasync(int fd)
{
	return sync_call(fd, REAL(fdatasync));
}

int syncfs(int fd)
{
	return sync_call(fd, REAL(syncfs));
}

int ftruncate64(int fd, off64_t size)
{
	bool it = is_it(fd, "truncate");
	int r;

	before(it);
	r = REAL(ftruncate64)(fd, size);
	after(it);
	return r;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	bool it = is_at(to_dir, to, "rename");
	int r;

	before(it);
	r = REAL(renameat2)(from_dir, from, to_dir, to, flags);
	after(it);
	return r;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	bool it = is_at(to_dir, to, "rename");
	int r;

	before(it);
	r = REAL(renameat)(from_dir, from, to_dir, to);
	after(it);
	return r;
}

int rename(const char *from, const char *to)
{
	bool it = is_path(to, "rename");
	int r;

	before(it);
	r = REAL(rename)(from, to);
	after(it);
	return r;
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	bool it = is_at(to_dir, to, "rename");
	int r;

	before(it);
	r = REAL(linkat)(from_dir, from, to_dir, to, flags);
	after(it);
	return r;
}

int unlink(const char *path)
{
	bool it = is_path(path, "unlink");
	int r;

	before(it);
	r = REAL(unlink)(path);
	after(it);
	return r;
}

int unlinkat(int dir, const char *path, int flags)
{
	bool it = is_at(dir, path, "unlink");
	int r;

	before(it);
	r = REAL(unlinkat)(dir, path, flags);
	after(it);
	return r;
}
