/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What a service manager is told, sd_notify(3): datagrams of NAME=VALUE lines to the socket that
 * $NOTIFY_SOCKET names. The protocol is stable and documented for programs that do not link
 * libsystemd, which would be the one library here that most containers have no other use for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Takes the variables out of the environment, so that programs that are run do not speak for us.
 * Once, in the process that serves, before it has threads. Without a socket the others do nothing.
 */
void s3c_notify_init(void);
bool s3c_notify_enabled(void);
/* Within how many microseconds "WATCHDOG=1" has to come, again and again; 0: it need not. */
uint64_t s3c_notify_watchdog_us(void);

/* Sends lines; quiet where they cannot be sent, and never waits. Any thread. */
void s3c_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
