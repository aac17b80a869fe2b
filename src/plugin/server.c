/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "plugin/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "plugin/request.h"

#define CONNECTIONS_MAX 128u
#define IDLE_S 60u /* of a connection that asks nothing */
#define TYPE "application/vnd.docker.plugins.v1.1+json"

struct s3c_plugin_server {
	struct s3c_plugin *plugin;
	struct MHD_Daemon *daemon;
};

/* One request, while its body comes. */
struct exchange {
	struct s3c_buf body;
	bool too_large; /* the rest is read and dropped, so that the client gets the answer */
};

static bool client_gone(void *arg)
{
	struct pollfd end = { .fd = *(const int *)arg };

	return poll(&end, 1, 0) > 0 && (end.revents & (POLLHUP | POLLERR));
}

static unsigned status_of(int r)
{
	switch (r) {
	case 0:
		return MHD_HTTP_OK;
	case -ENOENT:
		return MHD_HTTP_NOT_FOUND;
	case -EINVAL:
		return MHD_HTTP_BAD_REQUEST;
	case -EMSGSIZE:
		return MHD_HTTP_CONTENT_TOO_LARGE;
	default:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, unsigned status,
				   const json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII);
	struct MHD_Response *response;
	enum MHD_Result done;

	if (!text)
		return MHD_NO;
	response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, TYPE);
	done = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return done;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
	json_t *answer = json_pack("{s:s}", "Err", text);
	enum MHD_Result done = answer ? send_answer(connection, status, answer) : MHD_NO;

	json_decref(answer);
	return done;
}

static enum MHD_Result answer(struct s3c_plugin_server *server, struct MHD_Connection *connection,
			      const char *url, const struct exchange *exchange)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	int fd = info ? info->connect_fd : -1;
	const struct s3c_plugin_client client = { .gone = client_gone, .arg = &fd };
	enum MHD_Result done;
	json_t *object = NULL;
	int r;

	/* The time that an operation takes is no idleness: afterwards it is counted anew. */
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	r = s3c_plugin_answer(server->plugin, url, exchange->body.len ? exchange->body.data : "",
			      exchange->body.len, fd >= 0 ? &client : NULL, &object);
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, IDLE_S);
	if (!object)
		return MHD_NO;
	done = send_answer(connection, status_of(r), object);
	json_decref(object);
	return done;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *data,
			      size_t *data_size, void **request)
{
	struct exchange *exchange = *request;

	(void)version;
	if (!exchange) {
		exchange = calloc(1, sizeof(*exchange));
		if (!exchange)
			return MHD_NO;
		exchange->body.max = S3C_PLUGIN_BODY_MAX;
		*request = exchange;
		return MHD_YES;
	}
	if (*data_size) {
		int r = exchange->too_large ? 0 : s3c_buf_append(&exchange->body, data, *data_size);

		if (r == -ENOMEM)
			return MHD_NO;
		exchange->too_large |= r < 0;
		*data_size = 0;
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_POST) != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
			      "requests of the volume protocol are POST");
	if (exchange->too_large)
		return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "the request is too large");
	return answer(arg, connection, url, exchange);
}

static void completed(void *arg, struct MHD_Connection *connection, void **request,
		      enum MHD_RequestTerminationCode why)
{
	struct exchange *exchange = *request;

	(void)arg, (void)connection, (void)why;
	if (exchange)
		s3c_buf_free(&exchange->body);
	free(exchange);
	*request = NULL;
}

static void log_line(void *arg, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void log_line(void *arg, const char *fmt, va_list ap)
{
	char text[512];

	(void)arg;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	s3c_debug("libmicrohttpd: %s", text);
}

int s3c_plugin_server_start(struct s3c_plugin *plugin, int fd, struct s3c_err *err,
			    struct s3c_plugin_server **ret_server)
{
	struct s3c_plugin_server *server = calloc(1, sizeof(*server));

	if (!server) {
		close(fd);
		return -ENOMEM;
	}
	server->plugin = plugin;
	server->daemon = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
			MHD_USE_ERROR_LOG,
		0, NULL, NULL, handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
		MHD_OPTION_END);
	if (!server->daemon) {
		close(fd);
		free(server);
		return s3c_err_set(err, -EIO, "the HTTP server cannot be started");
	}
	*ret_server = server;
	return 0;
}

void s3c_plugin_server_stop(struct s3c_plugin_server *server)
{
	if (!server)
		return;
	MHD_stop_daemon(server->daemon);
	free(server);
}
