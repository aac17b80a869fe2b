/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#pragma once

#include "cli/access.h"

/*
 * Limits of the process that serves, before it has threads; also for the programs that it runs.
 * s3c_secret_init has turned core dumps off. Quiet: what cannot be had is done without.
 */
void s3c_harden(void);

/* Calls warn with a sentence for each setting that is weaker than it may look; after the mount. */
void s3c_warn_weak(const struct s3c_access *access, void (*warn)(void *arg, const char *text),
		   void *arg);
