/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define FRESH_NS (15 * S3C_NSEC_PER_SEC)
/* How long a name that has no address is not asked for again. */
#define FAILED_NS (500 * S3C_NSEC_PER_MSEC)
/* How soon a failed refresh is tried again. */
#define REFRESH_NS (5 * S3C_NSEC_PER_SEC)
#define NAMES_MAX 64
#define ADDRESSES_MAX 16
#define NAME_BYTES 256

struct name {
	char host[NAME_BYTES];
	char addresses[ADDRESSES_MAX][INET6_ADDRSTRLEN + 2];
	unsigned count;        /* 0: none known */
	unsigned first_family; /* how many of them, from the start, are of the preferred family */
	unsigned turn;
	int error;        /* of the last lookup, as getaddrinfo tells; 0: fine */
	int64_t fresh_ns; /* no lookup is needed before; 0: at once */
	bool running;
};

struct s3c_resolver {
	struct s3c_mutex lock;
	unsigned refs; /* guarded by lock: the owner and each running lookup */
	void (*wake)(void *arg);
	void *arg; /* NULL wake: the owner is gone */
	struct name names[NAMES_MAX];
	unsigned count;
};

struct lookup {
	struct s3c_resolver *resolver;
	char host[NAME_BYTES];
};

int s3c_resolver_new(void (*wake)(void *arg), void *arg, struct s3c_resolver **ret_resolver)
{
	struct s3c_resolver *resolver = calloc(1, sizeof(*resolver));

	if (resolver == NULL)
		return -ENOMEM;
	s3c_mutex_init(&resolver->lock);
	resolver->refs = 1;
	resolver->wake = wake;
	resolver->arg = arg;
	*ret_resolver = resolver;
	return 0;
}

static void put_and_unlock(struct s3c_resolver *resolver)
{
	bool last = --resolver->refs == 0;

	s3c_mutex_unlock(&resolver->lock);
	if (last) {
		s3c_mutex_destroy(&resolver->lock);
		free(resolver);
	}
}

void s3c_resolver_free(struct s3c_resolver *resolver)
{
	if (resolver == NULL)
		return;
	s3c_mutex_lock(&resolver->lock);
	resolver->wake = NULL;
	put_and_unlock(resolver);
}

static struct name *find_locked(struct s3c_resolver *resolver, const char *host)
{
	for (unsigned i = 0; i < resolver->count; i++)
		if (strcmp(resolver->names[i].host, host) == 0)
			return &resolver->names[i];
	return NULL;
}

static struct name *add_locked(struct s3c_resolver *resolver, const char *host)
{
	struct name *name = NULL;

	if (strlen(host) >= NAME_BYTES)
		return NULL;
	if (resolver->count < NAMES_MAX) {
		name = &resolver->names[resolver->count++];
	} else {
		/* The one that was fresh longest ago goes. */
		for (unsigned i = 0; i < NAMES_MAX; i++)
			if (!resolver->names[i].running &&
			    (name == NULL || resolver->names[i].fresh_ns < name->fresh_ns))
				name = &resolver->names[i];
		if (name == NULL)
			return NULL;
	}
	*name = (struct name){ 0 };
	strcpy(name->host, host);
	return name;
}

static void add_address(struct name *name, const struct addrinfo *info)
{
	char text[INET6_ADDRSTRLEN];
	const void *bytes;

	if (info->ai_family == AF_INET)
		bytes = &((const struct sockaddr_in *)(const void *)info->ai_addr)->sin_addr;
	else if (info->ai_family == AF_INET6)
		bytes = &((const struct sockaddr_in6 *)(const void *)info->ai_addr)->sin6_addr;
	else
		return;
	if (name->count == ADDRESSES_MAX ||
	    inet_ntop(info->ai_family, bytes, text, sizeof(text)) == NULL)
		return;
	snprintf(name->addresses[name->count++], sizeof(name->addresses[0]),
		 info->ai_family == AF_INET6 ? "[%s]" : "%s", text);
}

static void keep_locked(struct name *name, const struct addrinfo *list)
{
	name->count = 0;
	name->first_family = 0;
	for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
		unsigned before = name->count;

		add_address(name, info);
		if (info->ai_family == list->ai_family && name->first_family == before)
			name->first_family = name->count;
	}
}

static void *run_lookup(void *arg)
{
	struct lookup *lookup = arg;
	struct s3c_resolver *resolver = lookup->resolver;
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_ADDRCONFIG,
	};
	struct addrinfo *list = NULL;
	struct name *name;
	int64_t now;
	int error;

	error = getaddrinfo(lookup->host, NULL, &hints, &list);
	s3c_mutex_lock(&resolver->lock);
	now = s3c_clock_monotonic_ns();
	name = find_locked(resolver, lookup->host);
	if (name != NULL) {
		name->running = false;
		name->error = error;
		if (error == 0)
			keep_locked(name, list);
		if (error == 0 && name->count > 0)
			name->fresh_ns = now + FRESH_NS;
		else
			name->fresh_ns = now + (name->count > 0 ? REFRESH_NS : FAILED_NS);
	}
	if (resolver->wake != NULL)
		resolver->wake(resolver->arg);
	put_and_unlock(resolver);
	if (list != NULL)
		freeaddrinfo(list);
	free(lookup);
	return NULL;
}

static int start_locked(struct s3c_resolver *resolver, struct name *name)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	pthread_t thread;
	int r;

	if (lookup == NULL)
		return -ENOMEM;
	lookup->resolver = resolver;
	strcpy(lookup->host, name->host);
	resolver->refs++;
	r = s3c_thread_start(&thread, "s3c-resolve", run_lookup, lookup);
	if (r < 0) {
		resolver->refs--;
		free(lookup);
		return r;
	}
	pthread_detach(thread);
	name->running = true;
	return 0;
}

/* Each call begins with another address of the preferred family: load goes to all of them. */
static int append_addresses(struct name *name, struct s3c_buf *out)
{
	unsigned turn = name->first_family > 0 ? name->turn++ % name->first_family : 0;
	int r = 0;

	for (unsigned i = 0; i < name->count && r == 0; i++) {
		unsigned index = i;

		if (i < name->first_family)
			index = (i + turn) % name->first_family;
		r = s3c_buf_printf(out, "%s%s", i > 0 ? "," : "", name->addresses[index]);
	}
	return r;
}

int s3c_resolver_lookup(struct s3c_resolver *resolver, const char *host, int64_t now_ns,
			struct s3c_buf *addresses, char *ret_detail, size_t detail_size)
{
	struct name *name;
	int r = 0;

	s3c_mutex_lock(&resolver->lock);
	name = find_locked(resolver, host);
	if (name == NULL)
		name = add_locked(resolver, host);
	if (name == NULL) {
		r = -EHOSTUNREACH;
		snprintf(ret_detail, detail_size, "the host name cannot be looked up");
		goto out;
	}
	if (!name->running && now_ns >= name->fresh_ns)
		r = start_locked(resolver, name);
	if (name->count > 0) {
		r = append_addresses(name, addresses);
	} else if (name->running) {
		r = -EINPROGRESS;
	} else {
		snprintf(ret_detail, detail_size, "cannot resolve host %s: %s", host,
			 r < 0              ? strerror(-r)
			 : name->error != 0 ? gai_strerror(name->error)
					    : "it has no address");
		r = -EHOSTUNREACH;
	}
out:
	s3c_mutex_unlock(&resolver->lock);
	return r;
}

void s3c_resolver_expire(struct s3c_resolver *resolver, const char *host)
{
	struct name *name;

	s3c_mutex_lock(&resolver->lock);
	name = find_locked(resolver, host);
	if (name != NULL)
		name->fresh_ns = 0;
	s3c_mutex_unlock(&resolver->lock);
}
