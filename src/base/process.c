/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/util.h"

#define COMPLAINT_MAX 300 /* of its standard error */

void s3c_process_free_argv(char **argv)
{
	for (char **arg = argv; arg != NULL && *arg != NULL; arg++)
		free(*arg);
	free(argv);
}

/* Takes one word off the text into word, which has room for all of it. */
static int take_word(const char **text, char *word)
{
	const char *from = *text;
	char quote = '\0';

	for (; *from != '\0'; from++) {
		if (quote == '\0' && strchr(" \t\r\n", *from) != NULL)
			break;
		if (quote == '\0' && (*from == '"' || *from == '\''))
			quote = *from;
		else if (quote != '\0' && *from == quote)
			quote = '\0';
		else if (*from == '\\' && quote == '\0' && from[1] == '\0')
			return -EINVAL;
		else if (*from == '\\' && (quote == '\0' || (quote == '"' && from[1] != '\0' &&
							     strchr("\\\"", from[1]) != NULL)))
			*word++ = *++from;
		else
			*word++ = *from;
	}
	*word = '\0';
	*text = from;
	return quote != '\0' ? -EINVAL : 0;
}

int s3c_process_split(const char *command, char ***ret_argv)
{
	char **argv = calloc(S3C_PROCESS_ARGS_MAX + 1, sizeof(*argv));
	cleanup_free char *word = malloc(strlen(command) + 1);
	size_t count = 0;
	int r = argv != NULL && word != NULL ? 0 : -ENOMEM;

	while (r == 0) {
		command += strspn(command, " \t\r\n");
		if (*command == '\0')
			break;
		r = count < S3C_PROCESS_ARGS_MAX ? take_word(&command, word) : -E2BIG;
		if (r == 0) {
			argv[count] = strdup(word);
			r = argv[count++] != NULL ? 0 : -ENOMEM;
		}
	}
	if (r == 0 && count == 0)
		r = -EINVAL;
	if (r < 0) {
		s3c_process_free_argv(argv);
		return r;
	}
	*ret_argv = argv;
	return 0;
}

/* A program that runs, and what was read of it so far. */
struct child {
	const char *name;
	pid_t pid; /* 0: none */
	int out_fd, err_fd, pid_fd, wake_fd;
	char *out; /* secret memory, room for max and a NUL */
	size_t out_len, max;
	char complaint[COMPLAINT_MAX + 1];
	size_t complaint_len;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int spawn(const char *file, char *const *argv, int out, int err, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	if (posix_spawn_file_actions_init(&actions) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	/* Threads have their signals blocked: the program must not inherit that. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0);
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, out, 1);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, err, 2);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	if (r == 0)
		r = posix_spawnp(ret_pid, file, &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int start(struct child *child, const char *file, char *const *argv)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };
	pid_t pid = 0;
	int r = 0;

	child->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	child->out = s3c_secret_alloc(child->max + 1);
	if (child->out == NULL)
		return -ENOMEM;
	if (child->wake_fd < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		r = -errno;
	if (r == 0)
		r = spawn(file, argv, out[1], err[1], &pid);
	child->out_fd = out[0];
	child->err_fd = err[0];
	close_fd(&out[1]);
	close_fd(&err[1]);
	if (r < 0)
		return r;
	child->pid = pid;
	child->pid_fd = pidfd_open(pid, 0);
	if (child->pid_fd < 0 || fcntl(child->out_fd, F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(child->err_fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/* All that is there now; closes fd at its end. -EMSGSIZE. */
static int read_output(struct child *child)
{
	while (child->out_fd >= 0) {
		/* One byte more than may be, to see that there is more. */
		ssize_t n = read(child->out_fd, child->out + child->out_len,
				 child->max + 1 - child->out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			close_fd(&child->out_fd);
			return 0;
		}
		child->out_len += (size_t)n;
		if (child->out_len > child->max)
			return -EMSGSIZE;
	}
	return 0;
}

static void read_complaint(struct child *child)
{
	char text[512];

	while (child->err_fd >= 0) {
		ssize_t n = read(child->err_fd, text, sizeof(text));
		size_t room = COMPLAINT_MAX - child->complaint_len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close_fd(&child->err_fd);
			return;
		}
		/* The rest is read and dropped, so that the program does not wait for us. */
		room = S3C_MIN(room, (size_t)n);
		memcpy(child->complaint + child->complaint_len, text, room);
		child->complaint_len += room;
	}
}

/* Until the program has ended and all that it wrote is read. */
static int follow(struct child *child, struct s3c_op *op)
{
	bool ended = false;
	int r = 0;

	while (r == 0 && !ended) {
		struct pollfd fds[] = {
			{ .fd = child->out_fd, .events = POLLIN },
			{ .fd = child->err_fd, .events = POLLIN },
			{ .fd = child->pid_fd, .events = POLLIN },
			{ .fd = child->wake_fd, .events = POLLIN },
		};
		int wait_ms = -1;

		if (op != NULL && op->deadline_ns < INT64_MAX) {
			int64_t left = op->deadline_ns - s3c_clock_monotonic_ns();

			if (left <= 0)
				return -ETIMEDOUT;
			left = DIV_ROUND_UP(left, S3C_NSEC_PER_MSEC);
			wait_ms = (int)S3C_MIN(left, 60 * 1000);
		}
		if (poll(fds, ARRAY_LEN(fds), wait_ms) < 0 && errno != EINTR)
			return -errno;
		if (op != NULL && s3c_op_interrupted(op))
			return -EINTR;
		ended = (fds[2].revents & POLLIN) != 0;
		r = read_output(child);
		read_complaint(child);
	}
	return r;
}

/* Whatever became of it: no zombie stays. */
static void reap(struct child *child, bool kill_it, siginfo_t *ret_info)
{
	if (kill_it)
		(void)kill(-child->pid, SIGKILL);
	while (waitid(P_PID, (id_t)child->pid, ret_info, WEXITED) < 0 && errno == EINTR)
		;
}

static void first_line(struct child *child)
{
	char *text = child->complaint;
	size_t len;

	text[child->complaint_len] = '\0';
	len = strspn(text, " \t\r\n");
	memmove(text, text + len, strlen(text + len) + 1);
	text[strcspn(text, "\r\n")] = '\0';
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

static int judge(struct child *child, const siginfo_t *info, struct s3c_err *err)
{
	const char *words = child->complaint[0] != '\0' ? ": " : "";

	if (info->si_code != CLD_EXITED)
		return s3c_err_set(err, -EIO, "%s was ended by signal %d%s%s", child->name,
				   info->si_status, words, child->complaint);
	if (info->si_status != 0)
		return s3c_err_set(err, -EIO, "%s failed with status %d%s%s", child->name,
				   info->si_status, words, child->complaint);
	return 0;
}

static void wake(void *arg)
{
	const uint64_t one = 1;

	(void)!write(*(const int *)arg, &one, sizeof(one));
}

int s3c_process_run(char *const *argv, size_t max, struct s3c_op *op, struct s3c_err *err,
		    char **ret_text, size_t *ret_len)
{
	return s3c_process_run_file(argv[0], argv, max, op, err, ret_text, ret_len);
}

int s3c_process_run_file(const char *file, char *const *argv, size_t max, struct s3c_op *op,
			 struct s3c_err *err, char **ret_text, size_t *ret_len)
{
	struct child child = { .name = file, .max = max };
	siginfo_t info = { 0 };
	int r;

	child.out_fd = child.err_fd = child.pid_fd = child.wake_fd = -1;
	r = start(&child, file, argv);
	if (r < 0)
		s3c_err_set(err, r, "%s cannot be run: %s", child.name, strerror(-r));
	if (r == 0 && op != NULL)
		r = s3c_op_set_interrupt_hook(op, wake, &child.wake_fd);
	if (r == 0) {
		r = follow(&child, op);
		if (op != NULL)
			(void)s3c_op_set_interrupt_hook(op, NULL, NULL);
	}
	if (child.pid > 0)
		reap(&child, r < 0, &info);
	first_line(&child);
	if (r == -ETIMEDOUT)
		s3c_err_set(err, r, "%s did not end in time and was killed", child.name);
	else if (r == -EMSGSIZE)
		s3c_err_set(err, r, "%s printed more than %zu bytes", child.name, max);
	else if (r == 0)
		r = judge(&child, &info, err);
	close_fd(&child.out_fd);
	close_fd(&child.err_fd);
	close_fd(&child.pid_fd);
	close_fd(&child.wake_fd);
	if (r < 0) {
		s3c_secret_free(child.out);
		return r;
	}
	child.out[child.out_len] = '\0';
	*ret_text = child.out;
	*ret_len = child.out_len;
	return 0;
}
