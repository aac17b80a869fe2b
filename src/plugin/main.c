/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* s3cryptfs-volume-plugin: volumes of s3cryptfs for Docker and Podman. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/thread.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/control_wire.h"
#include "plugin/plugin.h"
#include "plugin/server.h"

#define NAME "s3cryptfs-volume-plugin"
#define SOCKET "/run/docker/plugins/s3cryptfs.sock"
#define STATE "/var/lib/s3cryptfs/volume-plugin"
#define FIRST_SYSTEMD_FD 3
#define WAIT_MAX_S 86400

struct command_line {
	struct s3c_plugin_config plugin;
	const char *socket, *log;
	enum s3c_log_level level;
};

static void print_usage(FILE *out)
{
	fputs("usage: " NAME " [OPTION]...\n"
	      "\n"
	      "Serves volumes of s3cryptfs to Docker and Podman, and stays in the foreground.\n"
	      "\n"
	      "  --socket PATH       where requests come in (" SOCKET ")\n"
	      "  --state DIR         folder of the volumes and their mountpoints\n"
	      "                      (" STATE ")\n"
	      "  --program FILE      the program that mounts (s3cryptfs)\n"
	      "  --wait SECONDS      how long an unmount waits for uploads; 0: without end (600)\n"
	      "  --log TARGET        FILE, syslog or stderr (stderr)\n"
	      "  --log-level LEVEL   error, warn, info or debug (info)\n"
	      "  -h, --help          print this\n"
	      "  -V, --version       print the version\n",
	      out);
}

static int usage_error(const char *text)
{
	fprintf(stderr, NAME ": %s: " NAME " --help tells the usage\n", text);
	return S3C_EXIT_USAGE;
}

/* Its exit status, or -1: go on. */
static int parse(struct command_line *line, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "state", required_argument, NULL, 'd' },
		{ "program", required_argument, NULL, 'p' },
		{ "wait", required_argument, NULL, 'w' },
		{ "log", required_argument, NULL, 'l' },
		{ "log-level", required_argument, NULL, 'L' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	uint64_t seconds;
	int c;

	while ((c = getopt_long(argc, argv, "hV", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			line->socket = optarg;
			break;
		case 'd':
			line->plugin.state_dir = optarg;
			break;
		case 'p':
			line->plugin.program = optarg;
			break;
		case 'w':
			if (s3c_parse_u64(optarg, WAIT_MAX_S, &seconds) < 0)
				return usage_error("--wait wants seconds, a day at most");
			line->plugin.wait_s = (double)seconds;
			break;
		case 'l':
			line->log = optarg;
			break;
		case 'L':
			if (s3c_log_level_parse(optarg, &line->level) < 0)
				return usage_error("--log-level is error, warn, info or debug");
			break;
		case 'h':
			print_usage(stdout);
			return fflush(stdout) ? S3C_EXIT_FAILED : S3C_EXIT_OK;
		case 'V':
			printf(NAME " %s\n", PACKAGE_VERSION);
			return S3C_EXIT_OK;
		default:
			return S3C_EXIT_USAGE;
		}
	}
	if (optind != argc)
		return usage_error("there are no arguments besides options");
	if (line->socket[0] != '/' || line->plugin.state_dir[0] != '/')
		return usage_error("--socket and --state want whole paths");
	return -1;
}

/* The socket that systemd has opened for us, as sd_listen_fds(3) says; -1: none. */
static int inherited_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t number = 0, count = 0;
	bool ours = s3c_parse_u64(pid, INT32_MAX, &number) == 0 && (pid_t)number == getpid() &&
		    s3c_parse_u64(fds, INT32_MAX, &count) == 0 && count > 0;

	/* Not for the programs that we start. */
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return ours ? FIRST_SYSTEMD_FD : -1;
}

static int open_socket(const char *path, struct s3c_err *err, int *ret_fd)
{
	cleanup_free char *part = strdup(path);
	cleanup_close int other = -1;
	int r;

	if (!part)
		return -ENOMEM;
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		(void)mkdir(part, 0755); /* what is wrong shows at the socket */
		*p = '/';
	}
	if (s3c_control_connect(path, &other) == 0)
		return s3c_err_set(err, -EADDRINUSE,
				   "another program listens on %s: end it, or give this one its "
				   "own --socket",
				   path);
	r = s3c_control_listen(path, ret_fd);
	return r < 0 ? s3c_err_set(err, r, "no socket can be made at %s: %s", path, strerror(-r))
		     : 0;
}

static void *reconcile(void *arg)
{
	s3c_plugin_reconcile(arg);
	return NULL;
}

/* Until a signal says so. */
static void wait_for_end(const sigset_t *signals)
{
	int number = 0;

	while (sigwait(signals, &number) == 0 && number == SIGHUP)
		s3c_log_reopen();
}

static int serve(const struct command_line *line, struct s3c_err *err)
{
	struct s3c_plugin_server *server = NULL;
	struct s3c_plugin *plugin = NULL;
	int fd = inherited_socket();
	bool own = fd < 0;
	pthread_t thread;
	sigset_t signals;
	int r;

	/* Before any thread, which all inherit it. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = s3c_plugin_open(&line->plugin, err, &plugin);
	if (r == 0 && own)
		r = open_socket(line->socket, err, &fd);
	if (r == 0)
		r = s3c_plugin_server_start(plugin, fd, err, &server);
	if (r == 0)
		r = s3c_thread_start(&thread, "reconcile", reconcile, plugin);
	if (r == 0) {
		s3c_info("volumes are served on %s", own ? line->socket : "systemd's socket");
		wait_for_end(&signals);
		s3c_info("the plugin ends; mounts of volumes stay");
		s3c_plugin_stop(plugin);
		pthread_join(thread, NULL);
	}
	if (server && own)
		unlink(line->socket);
	s3c_plugin_server_stop(server);
	s3c_plugin_close(plugin);
	return r;
}

int main(int argc, char **argv)
{
	struct command_line line = {
		.plugin = { .state_dir = STATE,
			    .program = "s3cryptfs",
			    .wait_s = 600,
			    .mounter = &s3c_mounter },
		.socket = SOCKET,
		.log = "stderr",
		.level = S3C_LOG_INFO,
	};
	struct s3c_err err = { 0 };
	int r = parse(&line, argc, argv);

	if (r >= 0)
		return r;
	umask(022);
	s3c_log_set_level(line.level);
	r = s3c_log_open(line.log);
	if (r < 0)
		s3c_err_set(&err, r, "log %s cannot be opened: %s", line.log, strerror(-r));
	/* What a program prints is taken into such memory; relative paths mean nothing here. */
	if (r == 0)
		r = s3c_secret_init();
	if (r == 0 && chdir("/") < 0)
		r = -errno;
	if (r == 0)
		r = serve(&line, &err);
	if (r < 0)
		fprintf(stderr, NAME ": %s\n", s3c_err_text(&err, r));
	s3c_log_close();
	return r < 0 ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}
