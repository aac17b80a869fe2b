/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Commands on a mount. All but save ask its daemon, whose socket an attribute of the mount's root
 * names.
 */
#include "cli/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/control_ask.h"
#include "cli/ctl_mount.h"
#include "cli/progress.h"

#define ANSWER_S 150.0 /* more than a discard may take, with the default timeout= */
#define IO_LEN (1u << 20)
#define SHOWN_MAX 20 /* waiting files that a person is shown */

static int find_socket(const char *mountpoint, struct s3c_err *err, char *ret_path, size_t size)
{
	int r = s3c_control_find(mountpoint, ret_path, size);

	if (r == -ENOTCONN)
		return s3c_err_set(
			err, r,
			"the process of the mount on %s has died: take it away with fusermount3 -u "
			"%s; what it had not sent waits for the next mount or s3cryptfsctl recover",
			mountpoint, mountpoint);
	if (r == -ENODATA)
		return s3c_err_set(err, r, "%s is no mountpoint of s3cryptfs, or of another user's",
				   mountpoint);
	return r < 0 ? s3c_err_set(err, r, "%s: %s", mountpoint, strerror(-r)) : 0;
}

/* The caller closes. */
static int control_open(const char *mountpoint, struct s3c_err *err, int *ret_fd)
{
	char path[PATH_MAX];
	int r = find_socket(mountpoint, err, path, sizeof(path));

	signal(SIGPIPE, SIG_IGN); /* a closed stdout is seen by its error */
	if (r < 0)
		return r;
	r = s3c_control_connect(path, ret_fd);
	if (r < 0)
		return s3c_err_set(err, r, "the mount on %s cannot be asked through %s: %s",
				   mountpoint, path, strerror(-r));
	return 0;
}

static int control_error(struct s3c_err *err, int r, const char *mountpoint)
{
	if (r == -EPIPE)
		return s3c_err_set(err, r, "the mount on %s has ended", mountpoint);
	return s3c_err_set(err, r, "the mount on %s does not answer: %s", mountpoint, strerror(-r));
}

/* Sends request, which it takes over; *ret_answer is one that is not progress, and good. The first
 * argument is the mountpoint. */
static int ask_with(struct s3c_ctl *ctl, json_t *request, const char *path, bool long_wait,
		    struct s3c_progress *progress, struct s3c_err *err, json_t **ret_answer)
{
	cleanup_close int fd = -1;
	const char *mountpoint = ctl->args[0], *text;
	int64_t deadline_ns = long_wait ? INT64_MAX : s3c_deadline_after(ANSWER_S);
	json_t *answer = NULL;
	int r = request ? control_open(mountpoint, err, &fd) : -ENOMEM;

	if (r == 0 && path)
		r = s3c_control_put_path(request, path);
	if (r == 0)
		r = s3c_control_ask(fd, request, deadline_ns, progress, &answer);
	json_decref(request);
	if (r < 0) {
		json_decref(answer);
		return err->text[0] ? r : control_error(err, r, mountpoint);
	}
	if (!json_is_true(json_object_get(answer, "ok"))) {
		text = json_string_value(json_object_get(answer, "error"));
		s3c_err_set(err, -EIO, "%s%s%s", path ? path : "", path ? ": " : "",
			    text ? text : "failed");
		json_decref(answer);
		return -EIO;
	}
	*ret_answer = answer;
	return 0;
}

static int ask(struct s3c_ctl *ctl, const char *path, bool long_wait, struct s3c_progress *progress,
	       struct s3c_err *err, json_t **ret_answer)
{
	return ask_with(ctl, json_pack("{s:s}", "command", ctl->command), path, long_wait, progress,
			err, ret_answer);
}

static int fail(struct s3c_ctl *ctl, struct s3c_err *err, int r)
{
	s3c_ctl_complain(ctl, err, r);
	return S3C_EXIT_FAILED;
}

/* Without empty parts and "."; -EINVAL for "..". */
static int normal_path(const char *text, char **ret_path)
{
	cleanup_free char *path = malloc(strlen(text) + 1);
	char *to = path;

	if (!path)
		return -ENOMEM;
	while (*text) {
		size_t len = strcspn(text, "/");

		if (len == 2 && text[0] == '.' && text[1] == '.')
			return -EINVAL;
		if (len && !(len == 1 && text[0] == '.')) {
			if (to != path)
				*to++ = '/';
			memcpy(to, text, len);
			to += len;
		}
		text += len;
		text += *text == '/';
	}
	*to = '\0';
	*ret_path = steal_ptr(path);
	return 0;
}

/* What follows dir in path, or NULL: not below it. */
static const char *below(const char *path, const char *dir)
{
	size_t len = dir ? strlen(dir) : 0;

	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (!len || strncmp(path, dir, len) != 0)
		return NULL;
	return path[len] == '/' ? path + len : path[len] == '\0' ? "" : NULL;
}

/* A path as given, relative to the mount or absolute below it, as the daemon calls it. */
static int mount_path(const char *mountpoint, const char *text, struct s3c_err *err,
		      char **ret_path)
{
	cleanup_free char *real = text[0] == '/' ? realpath(mountpoint, NULL) : NULL;
	cleanup_free char *path = NULL;
	const char *rest = text;
	int r;

	if (text[0] == '/') {
		rest = below(text, mountpoint);
		if (!rest)
			rest = below(text, real);
		if (!rest)
			return s3c_err_set(err, -EINVAL, "%s is not below %s", text, mountpoint);
	}
	r = normal_path(rest, &path);
	if (r < 0)
		return s3c_err_set(err, r, "%s: %s", text,
				   r == -EINVAL ? "'..' is not followed" : strerror(-r));
	if (!path[0])
		return s3c_err_set(err, -EINVAL, "%s is the mount itself", text);
	*ret_path = steal_ptr(path);
	return 0;
}

uint64_t s3c_ctl_number(const json_t *object, const char *member)
{
	json_int_t value = json_integer_value(json_object_get(object, member));

	return value > 0 ? (uint64_t)value : 0;
}

const char *s3c_ctl_word(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	return text ? text : "?";
}

static void print_unsent(const json_t *item)
{
	cleanup_free char *path = NULL;
	char size[S3C_SIZE_TEXT], when[64] = "";
	time_t since = (time_t)s3c_ctl_number(item, "since");
	struct tm tm;

	if (s3c_control_get_path(item, &path) < 0)
		return;
	if (since && gmtime_r(&since, &tm))
		strftime(when, sizeof(when), ", since %Y-%m-%d %H:%M:%S UTC", &tm);
	printf("  %-8s ", s3c_ctl_word(item, "state"));
	s3c_ctl_print_name(path);
	if (!strcmp(s3c_ctl_word(item, "what"), "file"))
		printf("  %s", s3c_size_text(s3c_ctl_number(item, "bytes"), size));
	else
		printf("  %s", s3c_ctl_word(item, "what"));
	fputs(when, stdout);
	if (json_object_get(item, "error"))
		printf(": %s (%llu times)", s3c_ctl_word(item, "error"),
		       (unsigned long long)s3c_ctl_number(item, "failures"));
	putchar('\n');
}

static void print_pending(const json_t *answer)
{
	const json_t *pending = json_object_get(answer, "pending");
	const json_t *recovery = json_object_get(answer, "recovery");
	const json_t *list = json_object_get(answer, "unsent"), *item;
	uint64_t files = s3c_ctl_number(pending, "files"), names = s3c_ctl_number(pending, "names");
	uint64_t hidden = s3c_ctl_number(answer, "unlisted");
	char text[S3C_LEFT_TEXT];
	unsigned ordinary = 0;
	size_t i;

	if (files || names)
		printf("not in the store: %s; %llu failed, %llu parked\n",
		       s3c_left_text(files, names, s3c_ctl_number(pending, "bytes"), text),
		       (unsigned long long)s3c_ctl_number(pending, "failed"),
		       (unsigned long long)s3c_ctl_number(pending, "parked"));
	else
		puts("everything is in the store");
	json_array_foreach(list, i, item)
	{
		const char *state = s3c_ctl_word(item, "state");

		if (strcmp(state, "failed") != 0 && strcmp(state, "parked") != 0 &&
		    ++ordinary > SHOWN_MAX)
			hidden++;
		else
			print_unsent(item);
	}
	if (hidden)
		printf("  and %llu more\n", (unsigned long long)hidden);
	if (s3c_ctl_number(recovery, "failed"))
		printf("%llu changes of an earlier mount could not be taken up: the log tells "
		       "why\n",
		       (unsigned long long)s3c_ctl_number(recovery, "failed"));
}

static void print_local(const json_t *answer)
{
	const json_t *journal = json_object_get(answer, "journal");
	const json_t *cache = json_object_get(answer, "cache");
	const json_t *memory = json_object_get(answer, "memory");
	const json_t *objects = json_object_get(answer, "objects");
	char a[S3C_SIZE_TEXT], b[S3C_SIZE_TEXT], c[S3C_SIZE_TEXT], d[S3C_SIZE_TEXT];

	if (json_is_object(journal)) {
		const char *error = s3c_ctl_word(journal, "error");

		printf("journal: %s of %s in %llu records%s%s\n",
		       s3c_size_text(s3c_ctl_number(journal, "bytes"), a),
		       s3c_size_text(s3c_ctl_number(journal, "limit"), b),
		       (unsigned long long)s3c_ctl_number(journal, "records"), error[0] ? ": " : "",
		       error);
	}
	if (json_is_object(cache))
		printf("cache: %s of %s, %llu chunks found, %llu not, %llu damaged\n",
		       s3c_size_text(s3c_ctl_number(cache, "bytes"), a),
		       s3c_size_text(s3c_ctl_number(cache, "limit"), b),
		       (unsigned long long)s3c_ctl_number(cache, "hits"),
		       (unsigned long long)s3c_ctl_number(cache, "misses"),
		       (unsigned long long)s3c_ctl_number(cache, "damaged"));
	printf("memory: %s to be written, %s read, %s in transfers, of %s;",
	       s3c_size_text(s3c_ctl_number(memory, "dirty"), a),
	       s3c_size_text(s3c_ctl_number(memory, "clean"), b),
	       s3c_size_text(s3c_ctl_number(memory, "transfers"), c),
	       s3c_size_text(s3c_ctl_number(memory, "limit"), d));
	printf(" %s spilled to disk\n", s3c_size_text(s3c_ctl_number(memory, "spilled"), a));
	printf("%llu files in use, %llu names known\n",
	       (unsigned long long)s3c_ctl_number(objects, "open"),
	       (unsigned long long)s3c_ctl_number(objects, "entries"));
}

int s3c_ctl_ask_status(struct s3c_ctl *ctl, struct s3c_err *err, json_t **ret_answer)
{
	return ask(ctl, NULL, false, NULL, err, ret_answer);
}

int s3c_ctl_status(struct s3c_ctl *ctl)
{
	struct s3c_err err = { 0 };
	const json_t *pending;
	json_t *answer;
	bool trouble;
	int r;

	if (ctl->watch)
		return s3c_ctl_watch(ctl);
	r = s3c_ctl_ask_status(ctl, &err, &answer);
	if (r < 0)
		return fail(ctl, &err, r);
	pending = json_object_get(answer, "pending");
	trouble = s3c_ctl_number(pending, "failed") || s3c_ctl_number(pending, "parked") ||
		  s3c_ctl_number(json_object_get(answer, "recovery"), "failed");
	if (ctl->json) {
		json_object_del(answer, "ok");
		json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
		putchar('\n');
	} else {
		const char *commit = s3c_ctl_word(answer, "commit");
		bool writeback = !strcmp(commit, "writeback");

		printf("%s on %s: %s, %s%s, process %llu, version %s\n",
		       s3c_ctl_word(answer, "source"), s3c_ctl_word(answer, "mountpoint"),
		       s3c_ctl_word(answer, "mode"),
		       json_is_true(json_object_get(answer, "read_only")) ? "read-only, " : "",
		       writeback                  ? "writeback"
		       : !strcmp(commit, "fsync") ? "commit=fsync"
						  : "commit=close",
		       (unsigned long long)s3c_ctl_number(answer, "pid"),
		       s3c_ctl_word(answer, "version"));
		print_pending(answer);
		print_local(answer);
	}
	json_decref(answer);
	return trouble ? S3C_EXIT_FAILED : S3C_EXIT_OK;
}

int s3c_ctl_loglevel(struct s3c_ctl *ctl)
{
	const char *level = ctl->arg_count > 1 ? ctl->args[1] : NULL;
	json_t *request = json_pack("{s:s, s:s*}", "command", ctl->command, "level", level);
	struct s3c_err err = { 0 };
	json_t *answer;
	int r = ask_with(ctl, request, NULL, false, NULL, &err, &answer);

	if (r < 0)
		return fail(ctl, &err, r);
	if (level)
		printf("%s, before: %s\n", s3c_ctl_word(answer, "level"),
		       s3c_ctl_word(answer, "before"));
	else
		puts(s3c_ctl_word(answer, "level"));
	json_decref(answer);
	return S3C_EXIT_OK;
}

bool s3c_ctl_is_mount(const char *text)
{
	char path[PATH_MAX];

	/* A bucket may have the name of a folder here, but hardly that of a mount. */
	return !strstr(text, "://") && s3c_control_find(text, path, sizeof(path)) == 0;
}

/* The arguments of a process, each with a NUL, and one more at the end. */
static int read_arguments(pid_t pid, struct s3c_buf *ret_text)
{
	char path[64], piece[4096];
	cleanup_close int fd = -1;
	ssize_t n;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (r == 0 && (n = read(fd, piece, sizeof(piece))) != 0)
		r = n < 0 ? -errno : s3c_buf_append(ret_text, piece, (size_t)n);
	return r == 0 ? s3c_buf_append_char(ret_text, '\0') : r;
}

/* "-o LIST", "-oLIST", and "-fo LIST". */
static int take_arguments(const struct s3c_buf *text, struct s3c_options *options,
			  struct s3c_err *err)
{
	const char *arg = (const char *)text->data, *end = arg + text->len;
	int r = 0;

	for (; r == 0 && arg < end; arg += strlen(arg) + 1) {
		size_t len = strlen(arg);
		bool apart = len > 1 && arg[0] == '-' && arg[1] != '-' && arg[len - 1] == 'o';

		if (strncmp(arg, "-o", 2) == 0 && len > 2) {
			r = s3c_options_parse(options, arg + 2, err);
		} else if (apart && arg + len + 1 < end) {
			arg += len + 1;
			r = s3c_options_parse(options, arg, err);
		}
	}
	return r;
}

int s3c_ctl_mount_options(const char *mountpoint, struct s3c_options *options, char **ret_source,
			  struct s3c_err *err)
{
	char *args[] = { (char *)mountpoint, NULL };
	struct s3c_ctl status = { .command = "status", .args = args, .arg_count = 1 };
	cleanup_buf struct s3c_buf text = { .max = 1u << 20 };
	json_t *answer = NULL;
	const char *source;
	int r = ask(&status, NULL, false, NULL, err, &answer);

	if (r < 0)
		return r;
	source = json_string_value(json_object_get(answer, "source"));
	r = source ? read_arguments((pid_t)s3c_ctl_number(answer, "pid"), &text) : -ENODATA;
	if (r < 0)
		r = s3c_err_set(
			err, r,
			"the mount on %s does not tell how it was started: name its SOURCE, "
			"with its options",
			mountpoint);
	options->sloppy = true; /* it was taken with them */
	if (r == 0)
		r = take_arguments(&text, options, err);
	if (r == 0) {
		*ret_source = strdup(source);
		r = *ret_source ? 0 : -ENOMEM;
	}
	json_decref(answer);
	return r;
}

int s3c_ctl_sync(struct s3c_ctl *ctl)
{
	struct s3c_progress progress;
	struct s3c_err err = { 0 };
	json_t *answer;
	int r;

	s3c_progress_begin(&progress);
	r = ask(ctl, NULL, true, &progress, &err, &answer);
	s3c_progress_end(&progress);
	if (r < 0) {
		s3c_err_prefix(&err, r, "not everything is in the store");
		return fail(ctl, &err, r);
	}
	json_decref(answer);
	puts("everything is in the store");
	return S3C_EXIT_OK;
}

int s3c_ctl_retry(struct s3c_ctl *ctl)
{
	cleanup_free char *path = NULL;
	struct s3c_err err = { 0 };
	json_t *answer;
	uint64_t count;
	int r = 0;

	if (ctl->arg_count > 1)
		r = mount_path(ctl->args[0], ctl->args[1], &err, &path);
	if (r == 0)
		r = ask(ctl, path, false, NULL, &err, &answer);
	if (r < 0)
		return fail(ctl, &err, r);
	count = s3c_ctl_number(answer, "count");
	json_decref(answer);
	if (count)
		printf("%llu tried again\n", (unsigned long long)count);
	else
		puts("nothing has failed or is parked");
	return S3C_EXIT_OK;
}

int s3c_ctl_discard(struct s3c_ctl *ctl)
{
	cleanup_free char *path = NULL;
	struct s3c_err err = { 0 };
	json_t *answer;
	int r = mount_path(ctl->args[0], ctl->args[1], &err, &path);

	if (r == 0)
		r = ask(ctl, path, false, NULL, &err, &answer);
	if (r < 0)
		return fail(ctl, &err, r);
	json_decref(answer);
	s3c_ctl_print_name(path);
	puts(": discarded");
	return S3C_EXIT_OK;
}

/* All of from, from where it is. */
static int copy_content(int from, int to, uint64_t *ret_bytes)
{
	cleanup_free char *buf = malloc(IO_LEN);
	uint64_t bytes = 0;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read(from, buf, IO_LEN);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		for (ssize_t done = 0; done < n;) {
			ssize_t m = write(to, buf + done, (size_t)(n - done));

			if (m < 0 && errno != EINTR)
				return -errno;
			done += m < 0 ? 0 : m;
		}
		bytes += (uint64_t)n;
	}
	*ret_bytes = bytes;
	return 0;
}

static int sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	cleanup_close int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (!dir)
		return -ENOMEM;
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Into a new file: nothing that exists is touched, nothing half is left. */
static int save(int from, const struct stat *st, const char *to, struct s3c_err *err,
		uint64_t *ret_bytes)
{
	const struct timespec times[] = { st->st_atim, st->st_mtim };
	cleanup_close int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat there;
	int r = 0;

	if (fd < 0)
		return s3c_err_set(err, -errno, "%s cannot be made: %s", to, strerror(errno));
	if (fstat(fd, &there) < 0)
		r = s3c_err_set(err, -errno, "%s: %s", to, strerror(errno));
	else if (there.st_dev == st->st_dev)
		r = s3c_err_set(err, -EINVAL, "%s lies on the mount itself: save to a local folder",
				to);
	if (r == 0) {
		r = copy_content(from, fd, ret_bytes);
		if (r == 0 && (fchmod(fd, st->st_mode & 0777) < 0 || futimens(fd, times) < 0 ||
			       fsync(fd) < 0))
			r = -errno;
		if (r == 0)
			r = sync_folder(to);
		if (r < 0)
			s3c_err_set(err, r, "cannot copy to %s: %s", to, strerror(-r));
	}
	if (r < 0)
		unlink(to);
	return r;
}

int s3c_ctl_save(struct s3c_ctl *ctl)
{
	const char *mountpoint = ctl->args[0], *to = ctl->args[2];
	cleanup_free char *path = NULL, *inside = NULL;
	cleanup_close int from = -1;
	char size[S3C_SIZE_TEXT];
	struct s3c_err err = { 0 };
	uint64_t bytes = 0;
	struct stat st;
	char socket_path[PATH_MAX];
	int r = mount_path(mountpoint, ctl->args[1], &err, &path);

	if (r == 0) /* a dead mount, or none, is said to be that */
		r = find_socket(mountpoint, &err, socket_path, sizeof(socket_path));
	if (r < 0)
		return fail(ctl, &err, r);
	inside = s3c_asprintf("%s/%s", mountpoint, path);
	if (!inside)
		return fail(ctl, &err, -ENOMEM);
	from = open(inside, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		r = s3c_err_set(&err, -errno, "%s: %s", inside, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		r = s3c_err_set(&err, -EINVAL, "%s is no file", inside);
	else
		r = save(from, &st, to, &err, &bytes);
	if (r < 0)
		return fail(ctl, &err, r);
	s3c_ctl_print_name(path);
	printf(": %s saved to %s\n", s3c_size_text(bytes, size), to);
	return S3C_EXIT_OK;
}
