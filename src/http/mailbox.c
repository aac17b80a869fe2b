/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* How other threads hand requests and cancellations to the engine's. */
#include <errno.h>
#include <sys/eventfd.h>

#include "http/engine.h"

struct s3c_http_mailbox *s3c_http_mailbox_new(void)
{
	struct s3c_http_mailbox *mailbox = calloc(1, sizeof(*mailbox));

	if (mailbox == NULL)
		return NULL;
	mailbox->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mailbox->wake_fd < 0) {
		free(mailbox);
		return NULL;
	}
	s3c_mutex_init(&mailbox->lock);
	mailbox->refs = 1;
	STAILQ_INIT(&mailbox->submitted);
	STAILQ_INIT(&mailbox->canceled);
	STAILQ_INIT(&mailbox->reloaded);
	return mailbox;
}

void s3c_http_mailbox_put(struct s3c_http_mailbox *mailbox)
{
	if (mailbox == NULL || __atomic_sub_fetch(&mailbox->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	close(mailbox->wake_fd);
	s3c_mutex_destroy(&mailbox->lock);
	free(mailbox);
}

void s3c_http_mailbox_poke_locked(struct s3c_http_mailbox *mailbox)
{
	const uint64_t one = 1;

	s3c_mutex_assert_held(&mailbox->lock);
	if (mailbox->poked)
		return;
	mailbox->poked = true;
	/* Fails only when the counter is full: the engine wakes then as well. */
	(void)!write(mailbox->wake_fd, &one, sizeof(one));
}

struct s3c_http_mailbox *s3c_http_engine_mailbox(struct s3c_http_engine *engine)
{
	__atomic_add_fetch(&engine->mailbox->refs, 1, __ATOMIC_RELAXED);
	return engine->mailbox;
}

int s3c_http_submit(struct s3c_http_service *service, const struct s3c_http_request *request,
		    s3c_http_done_fn done, void *arg, struct s3c_http_call **ret_call)
{
	struct s3c_http_call *call;
	int r;

	r = s3c_http_call_new(service, request, done, arg, &call);
	if (r < 0)
		return r;
	if (ret_call != NULL)
		*ret_call = s3c_http_call_ref(call);
	s3c_mutex_lock(&call->mailbox->lock);
	if (call->mailbox->closed) {
		s3c_mutex_unlock(&call->mailbox->lock);
		if (ret_call != NULL) {
			s3c_http_call_put(*ret_call);
			*ret_call = NULL;
		}
		s3c_http_call_put(call);
		return -ECANCELED;
	}
	STAILQ_INSERT_TAIL(&call->mailbox->submitted, call, submit_link);
	s3c_http_mailbox_poke_locked(call->mailbox);
	s3c_mutex_unlock(&call->mailbox->lock);
	return 0;
}

void s3c_http_cancel(struct s3c_http_call *call)
{
	struct s3c_http_mailbox *mailbox = call->mailbox;

	s3c_mutex_lock(&mailbox->lock);
	if (!call->cancel_posted && !mailbox->closed) {
		call->cancel_posted = true;
		s3c_http_call_ref(call);
		STAILQ_INSERT_TAIL(&mailbox->canceled, call, cancel_link);
		s3c_http_mailbox_poke_locked(mailbox);
	}
	s3c_mutex_unlock(&mailbox->lock);
}

static void run_reload(struct s3c_job *job)
{
	struct s3c_http_call *call = container_of(job, struct s3c_http_call, reload_job);
	int r = s3c_credentials_replace(call->service->credentials, call->credential, NULL);

	s3c_mutex_lock(&call->mailbox->lock);
	call->reload_result = r;
	STAILQ_INSERT_TAIL(&call->mailbox->reloaded, call, reload_link);
	s3c_http_mailbox_poke_locked(call->mailbox);
	s3c_mutex_unlock(&call->mailbox->lock);
}

void s3c_http_mailbox_reload(struct s3c_pool *pool, struct s3c_http_call *call)
{
	s3c_http_call_ref(call);
	call->reload_job.run = run_reload;
	s3c_pool_submit(pool, &call->reload_job);
}
