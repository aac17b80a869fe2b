/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * One thread listens; each connection is a job of a pool, straight-line code that waits for its
 * client within bounds of time: one that hangs costs a thread until then and delays nobody, and
 * past CLIENTS_MAX others are told to come back. Nothing here is on the way of a request of the
 * filesystem; of the engine's lock it takes what s3c_engine_stats and s3c_engine_unsent take.
 */
#include "cli/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "cli/control_private.h"

#define CLIENTS_MAX 16
#define REQUEST_MAX (64u << 10) /* bytes */
#define REQUEST_S 20.0          /* from the connection, or the last answer, to a whole request */
#define REFUSE_S 0.1            /* the listener does not wait for a client */
#define PAUSE_MS 100            /* after a failure that may stay for a while */

static void close_client(struct s3c_control_client *client)
{
	struct s3c_control *control = client->control;

	/* Closed under the lock: the number may be another file's at once. */
	s3c_mutex_lock(&control->lock);
	LIST_REMOVE(client, link);
	control->client_count--;
	close(client->fd);
	s3c_mutex_unlock(&control->lock);
	s3c_op_destroy(&client->op);
	free(client);
}

static void refuse(int fd, int code, const char *text)
{
	json_t *answer = json_pack("{s:b, s:s, s:s}", "ok", 0, "error", text, "errno",
				   strerrorname_np(-code));

	if (answer)
		s3c_control_send(fd, answer, s3c_deadline_after(REFUSE_S));
	json_decref(answer);
}

static void serve_client(struct s3c_job *job)
{
	struct s3c_control_client *client = container_of(job, struct s3c_control_client, job);
	struct s3c_control_lines lines = { .fd = client->fd, .buf = { .max = REQUEST_MAX } };
	int r = 0;

	while (r == 0) {
		json_t *request = NULL;

		r = s3c_control_receive(&lines, s3c_deadline_after(REQUEST_S), &request);
		if (r == 0)
			r = s3c_control_answer(client, request);
		else if (r == -EBADMSG || r == -EMSGSIZE)
			refuse(client->fd, r, "this is no request: one JSON object a line");
		json_decref(request);
	}
	s3c_debug("control: a client is served: %s", strerror(-r));
	s3c_buf_free(&lines.buf);
	close_client(client);
}

static bool is_trusted(int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && len == sizeof(who) &&
	       (who.uid == 0 || who.uid == geteuid());
}

/* Takes fd over. */
static void accept_client(struct s3c_control *control, int fd)
{
	struct s3c_control_client *client;
	bool room;

	if (!is_trusted(fd)) {
		refuse(fd, -EPERM, "only root and the user of the mount are answered");
		close(fd);
		return;
	}
	client = calloc(1, sizeof(*client));
	s3c_mutex_lock(&control->lock);
	room = client && control->client_count < CLIENTS_MAX;
	if (room) {
		client->control = control;
		client->fd = fd;
		client->job.run = serve_client;
		s3c_op_init(&client->op, INT64_MAX);
		LIST_INSERT_HEAD(&control->clients, client, link);
		control->client_count++;
	}
	s3c_mutex_unlock(&control->lock);
	if (room) {
		s3c_pool_submit(control->pool, &client->job);
		return;
	}
	free(client);
	refuse(fd, -EBUSY, "too many ask at once: try again");
	close(fd);
}

static void *listen_main(void *arg)
{
	struct s3c_control *control = arg;
	struct pollfd fds[] = {
		{ .fd = control->stop_fd, .events = POLLIN },
		{ .fd = control->listen_fd, .events = POLLIN },
	};

	for (;;) {
		int fd;

		if (poll(fds, ARRAY_LEN(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			accept_client(control, fd);
		else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			poll(fds, 1, PAUSE_MS); /* no more descriptors, say */
	}
}

static int start(struct s3c_control *control)
{
	int r = s3c_pool_new("control", 1, CLIENTS_MAX, &control->pool);

	if (r == 0)
		r = s3c_control_listen(control->path, &control->listen_fd);
	if (r < 0)
		return r;
	control->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->stop_fd < 0)
		return -errno;
	r = s3c_thread_start(&control->listener, "control", listen_main, control);
	control->listening = r == 0;
	return r;
}

int s3c_control_start(const struct s3c_access *access, const char *mountpoint, struct s3c_err *err,
		      struct s3c_control **ret_control)
{
	struct s3c_control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	control->access = access;
	control->mountpoint = mountpoint;
	control->started_ns = s3c_clock_realtime_ns();
	control->listen_fd = control->stop_fd = -1;
	s3c_mutex_init(&control->lock);
	LIST_INIT(&control->clients);
	control->path = s3c_asprintf("%s/%s", access->state_dir, S3C_CONTROL_NAME);
	r = control->path ? start(control) : -ENOMEM;
	if (r < 0) {
		s3c_err_set(err, r, "the control socket in %s cannot be made: %s",
			    access->state_dir, strerror(-r));
		s3c_control_stop(control);
		return r;
	}
	*ret_control = control;
	return 0;
}

const char *s3c_control_path(const struct s3c_control *control)
{
	return control->path;
}

void s3c_control_stop(struct s3c_control *control)
{
	struct s3c_control_client *client;

	if (!control)
		return;
	if (control->listening) {
		eventfd_write(control->stop_fd, 1);
		pthread_join(control->listener, NULL);
	}
	s3c_mutex_lock(&control->lock);
	LIST_FOREACH (client, &control->clients, link) {
		s3c_op_interrupt(&client->op);
		shutdown(client->fd, SHUT_RDWR);
	}
	s3c_mutex_unlock(&control->lock);
	s3c_pool_free(control->pool);
	if (control->listen_fd >= 0) {
		unlink(control->path);
		close(control->listen_fd);
	}
	if (control->stop_fd >= 0)
		close(control->stop_fd);
	s3c_mutex_destroy(&control->lock);
	free(control->path);
	free(control);
}
