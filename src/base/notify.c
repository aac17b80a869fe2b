/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/log.h"

#define TEXT_MAX 2048

static struct sockaddr_un address;
static socklen_t address_len; /* 0: there is no socket */
static uint64_t watchdog_us;

static void take_socket(const char *name)
{
	size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(address.sun_path)) {
		s3c_warn("NOTIFY_SOCKET=%s is no address of a unix socket: nobody is notified",
			 name);
		return;
	}
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, name, len);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

/* The variable may be meant for another process, from which it was inherited. */
static uint64_t take_watchdog(const char *us, const char *pid)
{
	uint64_t value, whose;

	if (s3c_parse_u64(us, UINT64_MAX, &value) < 0)
		return 0;
	if (pid && (s3c_parse_u64(pid, INT32_MAX, &whose) < 0 || (pid_t)whose != getpid()))
		return 0;
	return value;
}

void s3c_notify_init(void)
{
	const char *name = getenv("NOTIFY_SOCKET"), *us = getenv("WATCHDOG_USEC");

	address_len = 0;
	watchdog_us = 0;
	if (name)
		take_socket(name);
	if (us && address_len)
		watchdog_us = take_watchdog(us, getenv("WATCHDOG_PID"));
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

bool s3c_notify_enabled(void)
{
	return address_len != 0;
}

uint64_t s3c_notify_watchdog_us(void)
{
	return watchdog_us;
}

void s3c_notify(const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;
	int n, fd;

	if (!address_len)
		return;
	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
			     (const struct sockaddr *)&address, address_len) < 0)
		s3c_debug("the service manager cannot be notified: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}
