/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Names to addresses, by getaddrinfo on threads of our own.
 *
 * libcurl's resolver can block its caller for as long as a name server is
 * silent, also when a request is cancelled; this one never does. One lookup of
 * a name runs at a time; who asks again meanwhile shares it. An answer serves
 * for a short while; after that it still serves while the next lookup runs or
 * fails, so that a resolver that dies under a live mount does no harm.
 * lookup is called by one thread; the rest is internal.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct s3c_resolver;

/* wake(arg) is called from another thread whenever a lookup has ended; it must not block. */
int s3c_resolver_new(void (*wake)(void *arg), void *arg, struct s3c_resolver **ret_resolver);
/* Leaves running lookups behind: their threads end by themselves and call nobody. */
void s3c_resolver_free(struct s3c_resolver *resolver);
/*
 * Appends the addresses of host in the form "1.2.3.4,[2001:db8::1]" (at most 16; each call begins
 * with another one of the preferred family). -EINPROGRESS: a lookup is running, ask again after
 * wake; -EHOSTUNREACH: there is none, detail says why.
 */
int s3c_resolver_lookup(struct s3c_resolver *resolver, const char *host, int64_t now_ns,
			struct s3c_buf *addresses, char *ret_detail, size_t detail_size);
/* The addresses do not answer: look the name up again at the next occasion. */
void s3c_resolver_expire(struct s3c_resolver *resolver, const char *host);
