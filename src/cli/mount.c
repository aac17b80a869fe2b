/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * s3cryptfs SOURCE MOUNTPOINT: everything happens in one process, which without
 * -f is a child: the parent waits until the mount is up or has failed and takes
 * over the result. The fork comes before the first thread and before curl,
 * SQLite and locked memory, none of which survive it.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/notify.h"
#include "base/secret.h"
#include "cli/access.h"
#include "cli/audit.h"
#include "cli/control.h"
#include "cli/exporter.h"
#include "cli/harden.h"
#include "cli/remount.h"
#include "cli/service.h"
#include "fuse/session.h"

#define HOW "s3cryptfs --help tells the usage"

/* Exit codes of mount(8). */
#define MOUNT_USAGE 1
#define MOUNT_FAILED 32

struct command_line {
	struct s3c_options options;
	struct s3c_source source;
	char *mountpoint; /* as given, then absolute */
	char *given;      /* all -o, joined; NULL: none */
	bool helper;      /* called by mount(8) */
	bool foreground, debug, fake, done;
};

/* What the store does not have. */
struct unsent_count {
	unsigned files, names;
	uint64_t bytes;
};

static void print_usage(FILE *out)
{
	fputs("usage: s3cryptfs SOURCE MOUNTPOINT [-f] [-d] [-o OPTION,...]\n"
	      "\n"
	      "Mounts an object store as a filesystem and keeps every byte in it encrypted.\n"
	      "\n"
	      "SOURCE is s3://BUCKET[/PREFIX], BUCKET[:/PREFIX] or file:///DIR.\n"
	      "\n"
	      "  -f                stay in the foreground\n"
	      "  -d                the same, and print what happens\n"
	      "  -o OPTION,...     mount options, see below; a comma in a value is written \\,\n"
	      "  -h, --help        print this\n"
	      "  -V, --version     print the version\n"
	      "\n",
	      out);
}

static int usage_error(const char *text)
{
	fprintf(stderr, "s3cryptfs: %s\n", text);
	return S3C_EXIT_USAGE;
}

static int take_options(struct command_line *line, const char *list)
{
	struct s3c_err err = { 0 };
	int r = s3c_options_parse(&line->options, list, &err);
	char *given;

	if (r == 0) {
		given = s3c_asprintf("%s%s%s", line->given ? line->given : "",
				     line->given ? "," : "", list);
		r = given ? 0 : -ENOMEM;
	}
	if (r == 0) {
		free(line->given);
		line->given = given;
		return 0;
	}
	return usage_error(s3c_err_text(&err, r));
}

/* mount(8) calls: HELPER SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION,...] */
static int parse_helper_flag(struct command_line *line, int c)
{
	switch (c) {
	case 's':
		line->options.sloppy = true;
		return 0;
	case 'f':
		line->fake = true;
		return 0;
	case 'n':
	case 'v':
	case 't':
	case 'N':
		return 0;
	default:
		return S3C_EXIT_USAGE;
	}
}

static int parse_flags(struct command_line *line, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	const char *shorts = line->helper ? "o:hVsfnvt:N:" : "o:hVfd";
	int c, r = 0;

	/* Before any option, so that the order does not matter. */
	for (int i = 1; line->helper && i < argc; i++)
		if (!strcmp(argv[i], "-s"))
			line->options.sloppy = true;
	while (r == 0 && (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			r = take_options(line, optarg);
			break;
		case 'h':
			line->options.help = true;
			break;
		case 'V':
			printf("s3cryptfs %s\n", PACKAGE_VERSION);
			line->done = true;
			return S3C_EXIT_OK;
		case '?':
			fputs(HOW "\n", stderr);
			return S3C_EXIT_USAGE;
		case 'd':
			line->debug = line->foreground = true;
			break;
		case 'f':
			if (!line->helper) {
				line->foreground = true;
				break;
			}
			/* fallthrough */
		default:
			r = parse_helper_flag(line, c);
		}
	}
	return r;
}

static int parse_command_line(struct command_line *line, int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	struct s3c_err err = { 0 };
	int r;

	name = name ? name + 1 : argv[0];
	line->helper = !strncmp(name, "mount.", 6);
	r = s3c_options_init(&line->options, &err);
	if (r < 0)
		return usage_error(s3c_err_text(&err, r));
	r = parse_flags(line, argc, argv);
	if (r || line->done)
		return r;
	if (line->options.help) {
		print_usage(stdout);
		s3c_options_print(stdout);
		line->done = true;
		return fflush(stdout) ? S3C_EXIT_FAILED : S3C_EXIT_OK;
	}
	if (argc - optind != 2)
		return usage_error(argc - optind < 2 ? "SOURCE and MOUNTPOINT are needed: " HOW
						     : "too many arguments: " HOW);
	r = s3c_source_parse(argv[optind], &err, &line->source);
	if (r == 0)
		r = s3c_options_check(&line->options, &err);
	/* s3cryptfsctl only reads. */
	if (r == 0 && (line->options.accept & S3C_ACCEPT_S3EC_V1) && !line->options.read_only)
		r = s3c_err_set(&err, -EINVAL,
				"accept=s3ec-v1 reads formats that authenticate nothing: only with "
				"ro");
	if (r < 0)
		return usage_error(s3c_err_text(&err, r));
	line->mountpoint = strdup(argv[optind + 1]);
	return line->mountpoint ? 0 : S3C_EXIT_FAILED;
}

/* Absolute and without symlinks; the caller frees. */
static int resolve_mountpoint(const char *mountpoint, struct s3c_err *err, char **ret_path)
{
	char *path = realpath(mountpoint, NULL);

	if (!path && errno == ENOENT)
		return s3c_err_set(err, -ENOENT, "mountpoint %s does not exist: mkdir -p %s",
				   mountpoint, mountpoint);
	if (!path)
		return s3c_err_set(err, -errno, "mountpoint %s: %s", mountpoint, strerror(errno));
	*ret_path = path;
	return 0;
}

/* A folder below the mountpoint would be hidden by the mount, and reached through it. */
static int check_overlap(const char *mountpoint, const char *what, const char *dir,
			 struct s3c_err *err)
{
	cleanup_free char *real = dir ? realpath(dir, NULL) : NULL;

	if (!dir ||
	    (!s3c_path_inside(dir, mountpoint) && (!real || !s3c_path_inside(real, mountpoint))))
		return 0;
	return s3c_err_set(err, -EINVAL, "%s %s lies below the mountpoint %s: choose another", what,
			   dir, mountpoint);
}

static int open_log(const struct command_line *line, struct s3c_err *err)
{
	const char *target = line->options.log;
	int r;

	if (!target)
		target = line->foreground ? "stderr" : "syslog";
	s3c_log_set_level(line->debug ? S3C_LOG_DEBUG : line->options.log_level);
	r = s3c_log_open(target);
	if (r < 0)
		s3c_err_set(err, r, "log %s cannot be opened: %s", target, strerror(-r));
	return r;
}

/* What the person who mounts has to see, wherever the log goes. */
static void warn_person(void *arg, const char *text)
{
	const struct command_line *line = arg;

	s3c_warn("%s", text);
	if (line->options.log ? strcmp(line->options.log, "stderr") != 0 : !line->foreground)
		fprintf(stderr, "s3cryptfs: warning: %s\n", text);
}

/* From the keys to an engine that knows all that was acknowledged. */
static int open_access(struct command_line *line, struct s3c_access *access, struct s3c_err *err)
{
	cleanup_free char *text = NULL;
	uint64_t waiting = 0;
	int r = s3c_access_keys(access, err);

	if (r == 0)
		r = s3c_access_store(access, false, err);
	if (r == 0)
		r = s3c_access_state(access, err);
	if (r == 0)
		r = s3c_access_probe(access, err);
	if (r == 0)
		r = s3c_access_volume(access, false, err);
	if (r == 0)
		r = s3c_access_journal(access, err, &waiting);
	if (r == 0)
		r = s3c_access_cache(access, err);
	if (r == 0)
		r = s3c_access_engine(access, err);
	if (r == 0)
		r = s3c_access_recover(access, err);
	if (r < 0 || !waiting)
		return r;
	text = s3c_asprintf(
		"this mount is read-only: %llu records of changes wait in the journal in "
		"%s for a writable mount or s3cryptfsctl recover",
		(unsigned long long)waiting, access->state_dir);
	if (!text)
		return -ENOMEM;
	warn_person(line, text);
	return 0;
}

struct daemon {
	struct s3c_access access;
	struct s3c_control *control;
	struct s3c_exporter *exporter; /* NULL: none */
	struct s3c_audit *audit;       /* NULL: none */
	struct s3c_fuse *fuse;
	struct s3c_service *service; /* NULL until the mount is up */
};

static void daemon_free(struct daemon *daemon)
{
	s3c_service_stop(daemon->service);
	s3c_fuse_free(daemon->fuse);
	s3c_audit_stop(daemon->audit);
	s3c_exporter_stop(daemon->exporter);
	s3c_control_stop(daemon->control);
	s3c_access_close(&daemon->access);
}

static void on_event(void *arg, enum s3c_fuse_event event)
{
	struct daemon *daemon = arg;

	if (event == S3C_FUSE_RELOAD) {
		s3c_audit_reopen();
		s3c_service_reload(daemon->service);
	} else {
		s3c_service_leaving(daemon->service);
	}
}

/* Until the mount is up. */
static int bring_up(struct command_line *line, struct daemon *daemon, struct s3c_err *err)
{
	const struct s3c_options *o = &line->options;
	struct s3c_access *access = &daemon->access;
	cleanup_free char *mountpoint = NULL;
	struct s3c_fuse_config fuse = { 0 };
	int r;

	r = open_log(line, err);
	if (r < 0)
		return r;
	r = s3c_secret_init();
	if (r < 0)
		return s3c_err_set(err, r, "memory for keys cannot be had: %s", strerror(-r));
	r = resolve_mountpoint(line->mountpoint, err, &mountpoint);
	if (r == 0) /* now, and not only when it is mounted: nothing has been made or sent yet */
		r = s3c_mountpoint_check(mountpoint, line->source.text,
					 s3c_options_has_fuse(o, "nonempty"),
					 s3c_options_has_fuse(o, "allow_other") ||
						 s3c_options_has_fuse(o, "allow_root"),
					 err);
	if (r < 0)
		return r;
	free(line->mountpoint);
	line->mountpoint = steal_ptr(mountpoint);

	r = check_overlap(line->mountpoint, "the store", line->source.dir, err);
	if (r == 0)
		r = check_overlap(line->mountpoint, "cache_dir", o->cache_dir, err);
	if (r == 0)
		r = check_overlap(line->mountpoint, "state_dir", o->state_dir, err);
	if (r == 0)
		r = check_overlap(line->mountpoint, "audit", o->audit, err);
	if (r == 0)
		r = open_access(line, access, err);
	if (r == 0)
		r = s3c_control_start(access, line->mountpoint, err, &daemon->control);
	if (r == 0 && o->metrics)
		r = s3c_exporter_start(o->metrics, access, line->mountpoint, err,
				       &daemon->exporter);
	if (r == 0 && o->audit)
		r = s3c_audit_start(o->audit, o->audit_rate, err, &daemon->audit);
	if (r < 0)
		return r;

	fuse = (struct s3c_fuse_config){
		.engine = access->engine,
		.source = line->source.text,
		.mountpoint = line->mountpoint,
		.control = s3c_control_path(daemon->control),
		.fuse_options = (const char *const *)o->fuse,
		.read_only = o->read_only,
		.nosymfollow = o->nosymfollow,
		.ttl_s = (double)o->ttl_s,
		.timeout_s = (double)o->timeout_s,
		.umount_timeout_s = (double)o->umount_timeout_s,
		.debug = line->debug,
		.audit = daemon->audit ? s3c_audit_event : NULL,
		.audit_arg = daemon->audit,
		/* In the foreground whoever started the process waits for it. */
		.list = !line->foreground,
		.list_options = line->given,
		.on_event = on_event,
		.event_arg = daemon,
	};
	r = s3c_fuse_mount(&fuse, err, &daemon->fuse);
	if (r == 0)
		r = s3c_journal_set_mountpoint(access->journal, line->mountpoint);
	return r;
}

/* Lets go of the terminal, which a passphrase may have been asked on, and of the folder that we
   were started in. */
static int detach(const struct command_line *line)
{
	cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	bool keep_stderr = line->options.log && !strcmp(line->options.log, "stderr");

	setsid();
	if (null < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(null, STDOUT_FILENO) < 0 || (!keep_stderr && dup2(null, STDERR_FILENO) < 0))
		return -errno;
	return 0;
}

static void count_unsent(void *arg, const struct s3c_unsent *unsent)
{
	struct unsent_count *count = arg;

	count->files += unsent->what == S3C_UNSENT_FILE;
	count->names += unsent->what != S3C_UNSENT_FILE;
	count->bytes += unsent->bytes;
}

/* What became of it all, in one line. */
static void say_end(const struct command_line *line, const struct unsent_count *left, bool kept,
		    int result)
{
	if (result == 0)
		s3c_info("%s is unmounted, everything is in the store", line->source.text);
	else if (kept && (left->files || left->names))
		s3c_warn("%s is unmounted: %u files, %llu bytes%s wait in the journal for the next "
			 "mount or s3cryptfsctl recover",
			 line->source.text, left->files, (unsigned long long)left->bytes,
			 left->names ? ", and changes of names" : "");
	else
		s3c_error("%s: unmounted, but not everything reached the store: %s",
			  line->source.text, strerror(-result));
}

/* status_fd: where the parent waits for one byte, the exit code; -1 in the foreground. */
static int serve(struct command_line *line, int status_fd)
{
	struct unsent_count left = { 0 };
	struct daemon daemon = { 0 };
	struct s3c_err err = { 0 };
	uint8_t status = S3C_EXIT_OK;
	bool kept;
	int r;

	signal(SIGPIPE, SIG_IGN);
	umask(077);
	s3c_notify_init();
	s3c_harden();
	s3c_access_init(&daemon.access, &line->options, &line->source, false);
	r = bring_up(line, &daemon, &err);
	if (r == 0)
		s3c_warn_weak(&daemon.access, warn_person, line);
	if (r == 0 && status_fd >= 0) {
		r = detach(line);
		if (r == 0 && write(status_fd, &status, 1) != 1)
			r = -EPIPE;
		close(status_fd);
	}
	if (r == 0)
		r = s3c_service_start(&daemon.access, line->mountpoint, &daemon.service);
	if (r < 0) {
		daemon_free(&daemon);
		s3c_notify("STATUS=%s\nERRNO=%d", s3c_err_text(&err, r), -r);
		fprintf(stderr, "s3cryptfs: %s\n", s3c_err_text(&err, r));
		s3c_log_close();
		return S3C_EXIT_FAILED;
	}
	s3c_info("%s is mounted on %s, enc=%s", line->source.text, line->mountpoint,
		 line->options.enc_name);
	r = s3c_fuse_run(daemon.fuse);
	if (r < 0)
		s3c_engine_unsent(daemon.access.engine, count_unsent, &left);
	kept = daemon.access.unlocked;
	daemon_free(&daemon);
	say_end(line, &left, kept, r);
	s3c_log_close();
	return r < 0 ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}

/* The parent: waits for the byte, or for the child's end. */
static int await(pid_t child, int status_fd)
{
	uint8_t byte;
	ssize_t n;
	int status;

	do {
		n = read(status_fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		return byte;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return S3C_EXIT_FAILED;
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status); /* it has said why */
	fprintf(stderr,
		"s3cryptfs: the process in the background ended before it was mounted%s%s\n",
		WIFSIGNALED(status) ? ": " : "",
		WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "");
	return S3C_EXIT_FAILED;
}

static int serve_in_background(struct command_line *line)
{
	int status_pipe[2];
	pid_t child;

	if (pipe2(status_pipe, O_CLOEXEC) < 0) {
		fprintf(stderr, "s3cryptfs: %m\n");
		return S3C_EXIT_FAILED;
	}
	fflush(NULL);
	child = fork();
	if (child < 0) {
		fprintf(stderr, "s3cryptfs: %m\n");
		return S3C_EXIT_FAILED;
	}
	if (child > 0) {
		close(status_pipe[1]);
		return await(child, status_pipe[0]);
	}
	close(status_pipe[0]);
	return serve(line, status_pipe[1]);
}

/* A closed standard stream would be given to the first file that is opened. */
static void fill_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int s3c_cli_mount(int argc, char **argv)
{
	struct command_line line = { 0 };
	int status;

	fill_streams();
	status = parse_command_line(&line, argc, argv);
	if (status == 0 && !line.done && !line.fake)
		status = line.options.remount ? s3c_cli_remount(&line.options, line.mountpoint)
			 : line.foreground    ? serve(&line, -1)
					      : serve_in_background(&line);
	/* mount(8) hands the status of its helper on: it has numbers of its own. */
	if (line.helper && status)
		status = status == S3C_EXIT_USAGE ? MOUNT_USAGE : MOUNT_FAILED;
	s3c_options_free(&line.options);
	s3c_source_free(&line.source);
	free(line.mountpoint);
	free(line.given);
	return status;
}
