/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#pragma once

#include "cli/options.h"

/*
 * mount -o remount: read_only, nosuid and the like of options for what is mounted there; of the
 * others a mount that is there takes no note. Prints what is wrong; an exit code. One thread.
 */
int s3c_cli_remount(const struct s3c_options *options, const char *mountpoint);
