/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/util.h"

#define PROGRAM "s3cryptfs"
#define LINE_MAX_LEN 4096 /* with the newline, without the NUL */
#define CUT_MARK "..."

static const struct {
	const char *name;
	int priority;
} levels[] = {
	[S3C_LOG_ERROR] = { "error", LOG_ERR },
	[S3C_LOG_WARN] = { "warn", LOG_WARNING },
	[S3C_LOG_INFO] = { "info", LOG_INFO },
	[S3C_LOG_DEBUG] = { "debug", LOG_DEBUG },
};

/* Held for reading while a line is written, for writing while the target changes. */
static pthread_rwlock_t target_lock = PTHREAD_RWLOCK_INITIALIZER;
/* Guarded by target_lock. */
static struct {
	int fd;       /* -1: syslog */
	char *path;   /* NULL: not a file */
	bool journal; /* standard error goes to the journal of systemd */
} target = { .fd = STDERR_FILENO };

static int max_level = S3C_LOG_INFO; /* atomic */

static int open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);

	return fd < 0 ? -errno : fd;
}

/* As systemd.exec(5) says: it names the device and inode of the stream that it has connected. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* Installs fd and path (which it takes over) and lets go of what was there. */
static void replace_target(int fd, char *path)
{
	char *old_path;
	int old_fd;

	pthread_rwlock_wrlock(&target_lock);
	old_fd = target.fd;
	old_path = target.path;
	target.fd = fd;
	target.path = path;
	target.journal = fd == STDERR_FILENO && !path && is_journal();
	pthread_rwlock_unlock(&target_lock);

	if (old_path)
		close(old_fd);
	else if (old_fd < 0 && fd >= 0)
		closelog();
	free(old_path);
}

int s3c_log_open(const char *where)
{
	cleanup_free char *path = NULL;
	int fd;

	if (!strcmp(where, "stderr")) {
		replace_target(STDERR_FILENO, NULL);
		return 0;
	}
	if (!strcmp(where, "syslog")) {
		openlog(PROGRAM, LOG_PID, LOG_DAEMON);
		replace_target(-1, NULL);
		return 0;
	}
	path = strdup(where);
	if (!path)
		return -ENOMEM;
	fd = open_file(path);
	if (fd < 0)
		return fd;
	replace_target(fd, steal_ptr(path));
	return 0;
}

void s3c_log_close(void)
{
	replace_target(STDERR_FILENO, NULL);
}

void s3c_log_reopen(void)
{
	int fd, r = 0;

	pthread_rwlock_wrlock(&target_lock);
	if (target.path) {
		fd = open_file(target.path);
		if (fd >= 0) {
			close(target.fd);
			target.fd = fd;
		} else {
			r = fd;
		}
	}
	pthread_rwlock_unlock(&target_lock);
	if (r < 0) {
		errno = -r;
		s3c_error("log file cannot be opened again, the old one stays in use: %m");
	}
}

void s3c_log_set_level(enum s3c_log_level level)
{
	__atomic_store_n(&max_level, (int)level, __ATOMIC_RELAXED);
}

int s3c_log_level_parse(const char *name, enum s3c_log_level *ret_level)
{
	for (size_t i = 0; name && i < ARRAY_LEN(levels); i++) {
		if (!strcmp(name, levels[i].name)) {
			*ret_level = (enum s3c_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

enum s3c_log_level s3c_log_get_level(void)
{
	return (enum s3c_log_level)__atomic_load_n(&max_level, __ATOMIC_RELAXED);
}

const char *s3c_log_level_name(enum s3c_log_level level)
{
	return levels[level].name;
}

bool s3c_log_enabled(enum s3c_log_level level)
{
	return (int)level <= __atomic_load_n(&max_level, __ATOMIC_RELAXED);
}

/*
 * Bytes of the printable character at p, which ends with a NUL; 0 for a control character (C0, DEL,
 * C1, line and paragraph separator) and for what is not UTF-8 (RFC 3629: shortest form, no
 * surrogates, at most U+10FFFF). A terminal takes both for commands.
 */
static size_t printable_len(const unsigned char *p)
{
	size_t n;
	uint32_t c;

	if (p[0] < 0x80)
		return p[0] >= 0x20 && p[0] != 0x7f;
	n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	c = p[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < 0xa0 || (n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
	    (c >= 0xd800 && c < 0xe000) || c == 0x2028 || c == 0x2029)
		return 0;
	return n;
}

/*
 * Appends text to line, escaped, and ends it by a newline; returns the length. What does not fit,
 * or was cut before, is replaced by a mark; no character and no escape is cut in two.
 */
static size_t append_escaped(char *line, size_t len, const char *text, bool cut)
{
	const size_t room = LINE_MAX_LEN - 1 - strlen(CUT_MARK);
	const unsigned char *p = (const unsigned char *)text;

	while (*p) {
		size_t n = printable_len(p);

		if (len + (n ? n : 4) > room) {
			cut = true;
			break;
		}
		if (n) {
			memcpy(line + len, p, n);
			len += n;
			p += n;
		} else {
			static const char digits[] = "0123456789abcdef";

			line[len++] = '\\';
			line[len++] = 'x';
			line[len++] = digits[*p >> 4];
			line[len++] = digits[*p & 15];
			p++;
		}
	}
	if (cut) {
		memcpy(line + len, CUT_MARK, strlen(CUT_MARK));
		len += strlen(CUT_MARK);
	}
	line[len++] = '\n';
	line[len] = '\0';
	return len;
}

static size_t put_stamp(char *line, size_t size)
{
	int64_t now = s3c_clock_realtime_ns();
	time_t sec = (time_t)(now / S3C_NSEC_PER_SEC);
	int ms = (int)(now % S3C_NSEC_PER_SEC / S3C_NSEC_PER_MSEC);
	struct tm tm;
	size_t len;

	gmtime_r(&sec, &tm);
	len = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return len + (size_t)snprintf(line + len, size - len, ".%03dZ " PROGRAM " ", ms);
}

static void write_all(int fd, const char *line, size_t len)
{
	while (len) {
		ssize_t n = write(fd, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* there is nobody left to tell */
		line += n;
		len -= (size_t)n;
	}
}

/* With its level as sd-daemon(3) has it; the journal stamps the lines itself. */
static void write_journal(int fd, int priority, const char *text, size_t len)
{
	char line[LINE_MAX_LEN + 8];
	int n = snprintf(line, sizeof(line), "<%d>%.*s", priority, (int)len, text);

	write_all(fd, line, S3C_MIN((size_t)n, sizeof(line) - 1));
}

void s3c_log(enum s3c_log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_LEN], line[LINE_MAX_LEN + 1];
	int saved = errno, n;
	size_t stamp, len;
	va_list ap;

	if (!s3c_log_enabled(level))
		return;
	s3c_count(S3C_COUNT_LOG_MESSAGES, level, 0, 1);
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		text[0] = '\0';

	stamp = put_stamp(line, sizeof(line));
	len = stamp +
	      (size_t)snprintf(line + stamp, sizeof(line) - stamp, "%s: ", levels[level].name);
	len = append_escaped(line, len, text, n >= (int)sizeof(text));

	pthread_rwlock_rdlock(&target_lock);
	if (target.fd < 0)
		syslog(levels[level].priority, "%s", line + stamp); /* it stamps the lines itself */
	else if (target.journal)
		write_journal(target.fd, levels[level].priority, line + stamp, len - stamp);
	else
		write_all(target.fd, line, len);
	pthread_rwlock_unlock(&target_lock);
	errno = saved;
}
