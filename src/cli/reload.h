/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#pragma once

#include "cli/access.h"

/*
 * Reads credentials and keyring again (SIGHUP), while the mount goes on, and logs what has changed.
 * What cannot be read, or does not fit the volume, changes nothing. May wait for programs and for
 * the store. One call at a time, and not beside s3c_access_close.
 */
void s3c_access_reload(struct s3c_access *access);
