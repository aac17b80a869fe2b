/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A scripted HTTP server on loopback, for tests: a handler answers each request
 * by writing bytes, whatever they are. One thread a connection. Included by one
 * test program each, therefore all here.
 */
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct test_server;

struct test_request {
	unsigned number;     /* 1, 2, ... over all connections */
	unsigned connection; /* 1, 2, ... */
	unsigned nth;        /* on its connection: 1, 2, ... */
	const char *head;    /* request line and headers, with their line breaks */
	const char *body;
	size_t body_len;
	struct test_server *server;
	int fd;
	SSL *ssl;
};

/* Answers; false closes the connection. */
typedef bool (*test_handler)(struct test_request *request, void *arg);

struct test_server {
	test_handler handler;
	void *arg;
	unsigned port;
	SSL_CTX *tls; /* NULL: plain */

	int listen_fd;
	pthread_t thread;
	pthread_t workers[512];
	unsigned worker_count;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stop;         /* guarded by lock, with those below */
	unsigned requests; /* so far */
	unsigned hanging;  /* in test_hang now */
	int fds[512];      /* of the workers; -1: closed */
};

#define HEAD_MAX 65536

struct worker {
	struct test_server *server;
	unsigned index;
	int fd;
};

static ssize_t receive(struct test_request *request, void *to, size_t len)
{
	if (request->ssl != NULL) {
		int n = SSL_read(request->ssl, to, (int)len);

		return n > 0 ? n : 0;
	}
	return recv(request->fd, to, len, 0);
}

static void test_send(struct test_request *request, const void *data, size_t len)
{
	const char *from = data;

	while (len > 0) {
		ssize_t n = request->ssl != NULL ? SSL_write(request->ssl, from, (int)len)
						 : send(request->fd, from, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		from += n;
		len -= (size_t)n;
	}
}

static void test_reply(struct test_request *request, const char *status_and_headers,
		       const char *body)
{
	char head[2048];

	snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n",
		 status_and_headers, strlen(body));
	test_send(request, head, strlen(head));
	if (strncmp(request->head, "HEAD ", 5) != 0)
		test_send(request, body, strlen(body));
}

/* Stands still until the server stops; false, to be returned. */
static inline bool test_hang(struct test_request *request)
{
	struct test_server *server = request->server;

	pthread_mutex_lock(&server->lock);
	server->hanging++;
	pthread_cond_broadcast(&server->changed);
	while (!server->stop)
		pthread_cond_wait(&server->changed, &server->lock);
	server->hanging--;
	pthread_mutex_unlock(&server->lock);
	return false;
}

/* Closes with a reset; false, to be returned. */
static inline bool test_reset(struct test_request *request)
{
	const struct linger now = { .l_onoff = 1 };

	setsockopt(request->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	return false;
}

/* The value of a header in the head, "" when there is none; static storage of the thread. */
static const char *test_header(const struct test_request *request, const char *name)
{
	static _Thread_local char value[4096];
	size_t len = strlen(name);

	for (const char *line = strchr(request->head, '\n'); line != NULL;
	     line = strchr(line, '\n')) {
		line++;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
			line += len + 1;
			line += strspn(line, " ");
			snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r\n"), line);
			return value;
		}
	}
	return "";
}

/* One request from the connection; false at its end. */
static bool read_request(struct test_request *request, char *head, char **ret_body)
{
	size_t len = 0;
	char *body;

	do {
		if (len == HEAD_MAX - 1 || receive(request, head + len, 1) <= 0)
			return false;
		head[++len] = '\0';
	} while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0);
	request->head = head;
	request->body_len = strtoul(test_header(request, "content-length"), NULL, 10);
	body = calloc(1, request->body_len + 1);
	for (size_t done = 0; done < request->body_len;) {
		ssize_t n = receive(request, body + done, request->body_len - done);

		if (n <= 0) {
			free(body);
			return false;
		}
		done += (size_t)n;
	}
	request->body = body;
	*ret_body = body;
	return true;
}

static void *serve(void *arg)
{
	struct worker *worker = arg;
	struct test_server *server = worker->server;
	struct test_request request = {
		.server = server,
		.fd = worker->fd,
		.connection = worker->index + 1,
	};
	char *head = malloc(HEAD_MAX);
	bool go_on = true;
	char *body;

	if (server->tls != NULL) {
		request.ssl = SSL_new(server->tls);
		SSL_set_fd(request.ssl, worker->fd);
		go_on = SSL_accept(request.ssl) == 1;
	}
	while (go_on && read_request(&request, head, &body)) {
		pthread_mutex_lock(&server->lock);
		request.number = ++server->requests;
		request.nth++;
		pthread_mutex_unlock(&server->lock);
		go_on = server->handler(&request, server->arg);
		free(body);
	}
	SSL_free(request.ssl);
	pthread_mutex_lock(&server->lock);
	server->fds[worker->index] = -1;
	close(worker->fd);
	pthread_mutex_unlock(&server->lock);
	free(head);
	free(worker);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct test_server *server = arg;

	for (;;) {
		int fd = accept(server->listen_fd, NULL, NULL);
		const int on = 1;
		struct worker *worker;

		if (fd < 0)
			return NULL;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		pthread_mutex_lock(&server->lock);
		if (server->stop || server->worker_count == 512) {
			close(fd);
		} else {
			worker = calloc(1, sizeof(*worker));
			worker->server = server;
			worker->index = server->worker_count;
			worker->fd = fd;
			server->fds[server->worker_count] = fd;
			pthread_create(&server->workers[server->worker_count++], NULL, serve,
				       worker);
		}
		pthread_mutex_unlock(&server->lock);
	}
}

static void test_server_start_tls(struct test_server *server, test_handler handler, void *arg,
				  SSL_CTX *tls)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(address);

	memset(server, 0, sizeof(*server));
	server->handler = handler;
	server->arg = arg;
	server->tls = tls;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->changed, NULL);
	server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server->listen_fd < 0 ||
	    bind(server->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(server->listen_fd, 256) < 0 ||
	    getsockname(server->listen_fd, (struct sockaddr *)&address, &len) < 0) {
		perror("test server");
		abort();
	}
	server->port = ntohs(address.sin_port);
	pthread_create(&server->thread, NULL, accept_all, server);
}

static void test_server_start(struct test_server *server, test_handler handler, void *arg)
{
	test_server_start_tls(server, handler, arg, NULL);
}

static void test_server_stop(struct test_server *server)
{
	pthread_mutex_lock(&server->lock);
	server->stop = true;
	pthread_cond_broadcast(&server->changed);
	for (unsigned i = 0; i < server->worker_count; i++)
		if (server->fds[i] >= 0)
			shutdown(server->fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&server->lock);
	shutdown(server->listen_fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	for (unsigned i = 0; i < server->worker_count; i++)
		pthread_join(server->workers[i], NULL);
	close(server->listen_fd);
	pthread_cond_destroy(&server->changed);
	pthread_mutex_destroy(&server->lock);
}

static inline unsigned test_server_requests(struct test_server *server)
{
	unsigned requests;

	pthread_mutex_lock(&server->lock);
	requests = server->requests;
	pthread_mutex_unlock(&server->lock);
	return requests;
}

/* Waits until so many requests hang. */
static inline void test_server_wait_hanging(struct test_server *server, unsigned count)
{
	pthread_mutex_lock(&server->lock);
	while (server->hanging < count)
		pthread_cond_wait(&server->changed, &server->lock);
	pthread_mutex_unlock(&server->lock);
}
