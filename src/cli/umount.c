/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What umount(8) calls for a mount of ours (umount.fuse.s3cryptfs): unmounts, and returns when the
 * daemon has sent what was left and has ended. With -l and -f, and where the daemon is dead, it
 * does not wait. Ctrl-C ends the waiting only.
 *
 * An open socket of the daemon tells who it is: a process number alone may be another's by the time
 * that it is waited for.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/cli.h"
#include "cli/control_ask.h"
#include "db/records.h"

#define EXIT_NOT_DONE 32 /* as umount(8) says it */
#define FIND_S 10        /* for the daemon to say where it is; later it is taken to hang */

struct unmounting {
	char *mountpoint;
	bool lazy, force, verbose;
	bool hangs;             /* the daemon does not answer */
	char control[PATH_MAX]; /* "": the daemon is not known */
	int socket, pidfd;      /* -1: not open */
};

static void unmounting_clear(struct unmounting *u)
{
	free(u->mountpoint);
	if (u->socket >= 0)
		close(u->socket);
	if (u->pidfd >= 0)
		close(u->pidfd);
}

static int usage(void)
{
	fputs("usage: umount.fuse.s3cryptfs MOUNTPOINT [-fnlrv] [-t TYPE]\n", stderr);
	return S3C_EXIT_USAGE;
}

static int parse(struct unmounting *u, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "flnrvt:N:")) != -1) {
		switch (option) {
		case 'f':
			u->force = true;
			break;
		case 'l':
			u->lazy = true;
			break;
		case 'v':
			u->verbose = true;
			break;
		case 'n': /* there is no table to be written */
		case 'r': /* on failure it stays as it is */
		case 't':
			break;
		default:
			return usage();
		}
	}
	if (argc - optind != 1)
		return usage();
	/* A mount whose daemon is dead or hangs cannot be resolved: it is taken as given. */
	u->mountpoint = realpath(argv[optind], NULL);
	if (!u->mountpoint)
		u->mountpoint = strdup(argv[optind]);
	return u->mountpoint ? 0 : S3C_EXIT_FAILED;
}

static void find_daemon(struct unmounting *u)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	int r = s3c_control_find_within(u->mountpoint, FIND_S, u->control, sizeof(u->control));

	if (r == 0)
		r = s3c_control_connect(u->control, &u->socket);
	if (r < 0) {
		u->control[0] = '\0';
		u->hangs = r == -ETIMEDOUT;
		return;
	}
	if (getsockopt(u->socket, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid > 0)
		u->pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0);
}

/* What the set-user-id program of libfuse may do for users who may not unmount. */
static int unmount_as_user(const struct unmounting *u)
{
	const char *const args[] = { "fusermount3", "-u", u->lazy ? "-z" : "--", u->mountpoint,
				     NULL };
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (child == 0) {
		execvp(args[0], (char *const *)args);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECANCELED; /* it said why */
}

static int unmount(const struct unmounting *u)
{
	int flags = UMOUNT_NOFOLLOW | (u->lazy ? MNT_DETACH : 0) | (u->force ? MNT_FORCE : 0);

	if (umount2(u->mountpoint, flags) == 0)
		return 0;
	return errno == EPERM && geteuid() != 0 ? unmount_as_user(u) : -errno;
}

/* Shows how far the daemon is, as long as it answers. */
static void follow(struct unmounting *u)
{
	json_t *request = json_pack("{s:s}", "command", "sync"), *answer = NULL;
	struct s3c_progress progress;

	s3c_progress_begin(&progress);
	s3c_control_ask(u->socket, request, INT64_MAX, &progress, &answer);
	s3c_progress_end(&progress);
	json_decref(request);
	json_decref(answer);
}

static void await_end(struct unmounting *u)
{
	struct pollfd end = { .fd = u->pidfd, .events = POLLIN };

	if (u->socket < 0)
		return;
	follow(u);
	while (u->pidfd >= 0 && poll(&end, 1, -1) < 0 && errno == EINTR)
		continue;
}

/* Says what the store does not have: the journal beside the socket keeps it. */
static void tell_left(struct unmounting *u)
{
	struct s3c_journal *journal = NULL;
	char size[S3C_SIZE_TEXT], *slash = strrchr(u->control, '/');
	uint64_t records = 0, bytes = 0;

	if (!slash)
		return;
	*slash = '\0';
	if (s3c_journal_open_readonly(u->control, NULL, &journal) == 0 &&
	    s3c_journal_pending(journal, &records, &bytes) == 0 && records)
		fprintf(stderr,
			"umount.fuse.s3cryptfs: %s is unmounted, but the store does not have all "
			"of "
			"it: %s wait in %s for the next mount, or for s3cryptfsctl recover\n",
			u->mountpoint, s3c_size_text(bytes, size), u->control);
	s3c_journal_close(journal);
}

int s3c_cli_umount(int argc, char **argv)
{
	__attribute__((cleanup(unmounting_clear))) struct unmounting u = { .socket = -1,
									   .pidfd = -1 };
	int r = parse(&u, argc, argv);

	if (r)
		return r;
	signal(SIGPIPE, SIG_IGN);
	if (!u.lazy && !u.force)
		find_daemon(&u);
	r = unmount(&u);
	if (r < 0) {
		if (r != -ECANCELED)
			fprintf(stderr, "umount.fuse.s3cryptfs: %s: %s\n", u.mountpoint,
				r == -EBUSY ? "it is in use: close its files (fuser -m tells "
					      "which), or "
					      "use umount -l"
					    : strerror(-r));
		return EXIT_NOT_DONE;
	}
	if (u.verbose)
		fprintf(stderr, "umount.fuse.s3cryptfs: %s unmounted\n", u.mountpoint);
	if (u.hangs)
		fprintf(stderr,
			"umount.fuse.s3cryptfs: %s is unmounted, but its process hangs: it is not "
			"waited for; what it has not stored waits in its journal\n",
			u.mountpoint);
	await_end(&u);
	tell_left(&u);
	return S3C_EXIT_OK;
}
