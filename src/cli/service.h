/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The mount as a service: tells the service manager how it is (base/notify.h) and reads keyring and
 * credentials again when it is told to. Threads: one that notifies, where somebody listens, and one
 * while something is read again. All functions are for the thread that runs the session.
 */
#pragma once

#include "cli/access.h"

struct s3c_service;

/* The mount is up. mountpoint is borrowed. */
int s3c_service_start(struct s3c_access *access, const char *mountpoint,
		      struct s3c_service **ret_service);
/* SIGHUP: never waits. While one reload runs, another one is remembered. */
void s3c_service_reload(struct s3c_service *service);
/* The end has begun. */
void s3c_service_leaving(struct s3c_service *service);
/* Waits for a reload that runs. NULL is legal. */
void s3c_service_stop(struct s3c_service *service);
