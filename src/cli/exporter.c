/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/exporter.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/metrics.h"
#include "cli/audit.h"
#include "cli/control_wire.h"
#include "db/records.h"

#define CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define CONNECTIONS_MAX 16u
#define CONNECTION_S 10u
#define CONNECTION_MEMORY (16u << 10)
#define BACKLOG 16
#define TEXT_MAX (1u << 20)

struct s3c_exporter {
	const struct s3c_access *access;
	const char *mountpoint;
	double started_s; /* since 1970 */
	char *path;       /* of a unix socket; NULL: none */
	int fd;
	struct MHD_Daemon *daemon;
};

struct address {
	const char *path; /* unix; NULL: not */
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t len;
};

static int say(struct s3c_err *err, const char *where, const char *why)
{
	return s3c_err_set(err, -EINVAL,
			   "metrics=%s: %s: give unix:/PATH, PORT, or HOST:PORT with a loopback "
			   "address",
			   where, why);
}

static int parse_host(const char *host, uint16_t port, struct address *a)
{
	if (!*host || !strcmp(host, "localhost"))
		host = "127.0.0.1";
	if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(port);
		a->len = sizeof(a->v4);
		return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127 ? 0 : -EPERM;
	}
	if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_port = htons(port);
		a->len = sizeof(a->v6);
		return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr) ? 0 : -EPERM;
	}
	return -EINVAL;
}

static int parse(const char *where, struct s3c_err *err, struct address *ret_address)
{
	struct address a = { 0 };
	char host[64] = "";
	const char *colon;
	uint64_t port;
	size_t len;
	int r;

	if (!strncmp(where, "unix:", 5)) {
		a.path = where + 5;
		if (a.path[0] != '/')
			return say(err, where, "the path of the socket is not absolute");
		*ret_address = a;
		return 0;
	}
	colon = strrchr(where, ':');
	len = colon ? (size_t)(colon - where) : 0;
	if (len >= sizeof(host))
		return say(err, where, "the host is too long");
	memcpy(host, where, len);
	host[len] = '\0';
	if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		memmove(host, host + 1, len - 1);
	}
	if (s3c_parse_u64(colon ? colon + 1 : where, 65535, &port) < 0 || !port)
		return say(err, where, "there is no port in it");
	r = parse_host(host, (uint16_t)port, &a);
	if (r < 0)
		return say(err, where,
			   r == -EPERM ? "the numbers are given to this machine only"
				       : "the host is no address");
	*ret_address = a;
	return 0;
}

int s3c_exporter_check(const char *where, struct s3c_err *err)
{
	struct address address;

	return parse(where, err, &address);
}

struct unsent_sums {
	uint64_t files, names, bytes, failed, parked;
};

/* With the engine's lock held. */
static void on_unsent(void *arg, const struct s3c_unsent *unsent)
{
	struct unsent_sums *sums = arg;

	sums->files += unsent->what == S3C_UNSENT_FILE;
	sums->names += unsent->what != S3C_UNSENT_FILE;
	sums->bytes += unsent->bytes;
	/* Also while they are tried again: an alarm must not be reset by that. */
	sums->failed += unsent->failures && unsent->state != S3C_UNSENT_PARKED;
	sums->parked += unsent->state == S3C_UNSENT_PARKED;
}

static int put_all(struct s3c_buf *out, const struct s3c_metric_value *values, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = s3c_metrics_put(out, &values[i]);
	return r;
}

#define GAUGE(metric, metric_unit, text, number)                                                   \
	{                                                                                          \
		.name = (metric), .unit = (metric_unit), .help = (text), .kind = S3C_METRIC_GAUGE, \
		.value = (double)(number),                                                         \
	}
#define COUNTER(metric, metric_unit, text, number)                                                 \
	{                                                                                          \
		.name = (metric), .unit = (metric_unit), .help = (text),                           \
		.kind = S3C_METRIC_COUNTER, .value = (double)(number),                             \
	}

static int put_engine(const struct s3c_access *access, struct s3c_buf *out)
{
	struct s3c_engine_stats stats = { 0 };
	struct unsent_sums sums = { 0 };

	s3c_engine_stats(access->engine, &stats);
	s3c_engine_unsent(access->engine, on_unsent, &sums);
	{
		const struct s3c_metric_value values[] = {
			GAUGE("dirty_bytes", "bytes", "Bytes in memory that the store lacks",
			      stats.dirty_bytes),
			GAUGE("clean_bytes", "bytes", "Bytes in memory that can be read again",
			      stats.clean_bytes),
			GAUGE("transfer_bytes", "bytes", "Bytes in buffers of transfers",
			      stats.transfer_bytes),
			GAUGE("spilled_bytes", "bytes", "Bytes in the spill file",
			      stats.spilled_bytes),
			GAUGE("memory_limit_bytes", "bytes", "Most that buffers take (memory=)",
			      access->options->memory),
			GAUGE("open_objects", "", "Files in use", stats.objects_open),
			GAUGE("known_names", "", "Names that are known without asking",
			      stats.entries_cached),
			GAUGE("unsent_files", "", "Files that the store does not have as they are",
			      sums.files),
			GAUGE("unsent_names", "", "Names that the store does not have as they are",
			      sums.names),
			GAUGE("unsent_bytes", "bytes", "Bytes that the store does not have",
			      sums.bytes),
			GAUGE("unsent_failed", "", "Uploads that failed and are tried again",
			      sums.failed),
			GAUGE("unsent_parked", "", "Uploads that the store refuses for good",
			      sums.parked),
			GAUGE("read_only", "", "1: nothing is written to the store",
			      s3c_engine_read_only(access->engine)),
		};

		return put_all(out, values, ARRAY_LEN(values));
	}
}

static int put_cache(const struct s3c_access *access, struct s3c_buf *out)
{
	struct s3c_cache_stats s = { 0 };

	if (access->cache)
		s3c_cache_stats(access->cache, &s);
	{
		const struct s3c_metric_value values[] = {
			GAUGE("cache_bytes", "bytes", "Bytes that the cache takes", s.bytes),
			GAUGE("cache_limit_bytes", "bytes", "Most that it takes", s.limit),
			GAUGE("cache_chunks", "", "Chunks in the cache", s.chunks),
			COUNTER("cache_hits", "", "Chunks found in the cache", s.hits),
			COUNTER("cache_misses", "", "Chunks not found in the cache", s.misses),
			COUNTER("cache_inserts", "", "Chunks put into the cache", s.inserts),
			COUNTER("cache_dropped", "", "Chunks not put in: the disk was behind",
				s.dropped),
			COUNTER("cache_evicted", "", "Chunks taken out for others", s.evicted),
			COUNTER("cache_damaged", "", "Chunks that were damaged", s.damaged),
		};

		return put_all(out, values, ARRAY_LEN(values));
	}
}

static int put_journal(const struct s3c_access *access, struct s3c_buf *out)
{
	struct s3c_record_stats s = { 0 };

	if (access->unlocked)
		s3c_record_stats(access->journal, &s);
	{
		const struct s3c_metric_value values[] = {
			GAUGE("journal_bytes", "bytes", "Bytes that wait in the journal", s.bytes),
			GAUGE("journal_limit_bytes", "bytes", "Most that may wait there", s.limit),
			GAUGE("journal_records", "", "Records in the journal", s.records),
			GAUGE("journal_failing", "", "1: its disk refuses writes",
			      s.last_error != 0),
			COUNTER("audit_dropped", "", "Lines that the audit log did not take",
				s3c_audit_dropped()),
		};

		return put_all(out, values, ARRAY_LEN(values));
	}
}

static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f) {
		if (fscanf(f, "%*u %llu", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count > 3 ? count - 3 : 0; /* ".", "..", and this one */
}

static int put_process(const struct s3c_exporter *e, struct s3c_buf *out)
{
	const char *const pairs[] = {
		"version",    PACKAGE_VERSION, "source", e->access->from->text,
		"mountpoint", e->mountpoint,   "mode",   e->access->options->enc_name,
		NULL,
	};
	const struct s3c_metric_value values[] = {
		GAUGE("resident_memory_bytes", "bytes", "Resident memory", resident_bytes()),
		GAUGE("open_files", "", "File descriptors in use", open_files()),
		GAUGE("start_time_seconds", "seconds", "When it was mounted, since 1970",
		      e->started_s),
	};
	int r = put_all(out, values, ARRAY_LEN(values));

	return r == 0 ? s3c_metrics_put_info(out, "mount", "What is mounted", pairs) : r;
}

static int write_text(const struct s3c_exporter *e, struct s3c_buf *out)
{
	int r = s3c_metrics_write(out);

	if (r == 0)
		r = put_engine(e->access, out);
	if (r == 0)
		r = put_cache(e->access, out);
	if (r == 0)
		r = put_journal(e->access, out);
	if (r == 0)
		r = put_process(e, out);
	return r == 0 ? s3c_buf_append_str(out, "# EOF\n") : r;
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type,
			     char *text)
{
	struct MHD_Response *response =
		text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE)
		     : NULL;
	enum MHD_Result result = MHD_NO;

	if (!response) {
		free(text);
		return MHD_NO;
	}
	if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES)
		result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_size, void **state)
{
	static int begun;
	cleanup_buf struct s3c_buf out = { .max = TEXT_MAX };

	(void)version;
	(void)upload;
	/* First with the headers alone; a body is not looked at. */
	if (!*state) {
		*state = &begun;
		return MHD_YES;
	}
	if (*upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain",
			     strdup("only GET\n"));
	if (strcmp(url, "/metrics") != 0)
		return reply(connection, MHD_HTTP_NOT_FOUND, "text/plain",
			     strdup("the numbers are at /metrics\n"));
	if (write_text(arg, &out) < 0)
		return reply(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "text/plain",
			     strdup("no memory\n"));
	return reply(connection, MHD_HTTP_OK, CONTENT_TYPE, s3c_buf_steal(&out));
}

/* Nothing is taken away but a socket that nobody listens at any more. */
static int check_place(const char *path)
{
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	r = s3c_control_connect(path, &fd);
	if (r == 0)
		close(fd);
	return r == -ECONNREFUSED ? 0 : -EADDRINUSE;
}

static int listen_at(struct s3c_exporter *e, const struct address *a)
{
	int one = 1;

	if (a->path) {
		int r = check_place(a->path);

		if (r < 0)
			return r;
		e->path = strdup(a->path);
		return e->path ? s3c_control_listen(e->path, &e->fd) : -ENOMEM;
	}
	e->fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (e->fd < 0)
		return -errno;
	setsockopt(e->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(e->fd, &a->any, a->len) < 0 || listen(e->fd, BACKLOG) < 0 ? -errno : 0;
}

/* Its thread must not take the signals of the session. */
static struct MHD_Daemon *start_daemon(struct s3c_exporter *e)
{
	struct MHD_Daemon *daemon;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, e,
		MHD_OPTION_LISTEN_SOCKET, e->fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_MEMORY, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return daemon;
}

int s3c_exporter_start(const char *where, const struct s3c_access *access, const char *mountpoint,
		       struct s3c_err *err, struct s3c_exporter **ret_exporter)
{
	struct s3c_exporter *e;
	struct address address;
	int r = parse(where, err, &address);

	if (r < 0)
		return r;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->access = access;
	e->mountpoint = mountpoint;
	e->started_s = (double)s3c_clock_realtime_ns() / (double)S3C_NSEC_PER_SEC;
	e->fd = -1;
	r = listen_at(e, &address);
	if (r == 0) {
		e->daemon = start_daemon(e);
		r = e->daemon ? 0 : -EIO;
	}
	if (r < 0) {
		s3c_err_set(err, r, "metrics=%s cannot be listened at: %s", where, strerror(-r));
		s3c_exporter_stop(e);
		return r;
	}
	*ret_exporter = e;
	return 0;
}

void s3c_exporter_stop(struct s3c_exporter *e)
{
	if (!e)
		return;
	if (e->daemon)
		MHD_stop_daemon(e->daemon); /* closes the socket */
	else if (e->fd >= 0)
		close(e->fd);
	if (e->path && e->fd >= 0)
		unlink(e->path);
	free(e->path);
	free(e);
}
