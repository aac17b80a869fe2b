/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Commands that change a store beside a live mount of it. */
#pragma once

#include "cli/access.h"
#include "cli/ctl.h"
#include "engine/rekey.h"

/*
 * All steps up to an engine that writes, without the lock of the local state, which a mount may
 * hold: generations that this machine has seen are read and none is noted.
 */
int s3c_ctl_open_beside(struct s3c_ctl *ctl, const struct s3c_source *source,
			struct s3c_access *access, struct s3c_err *err);
