/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Asking a mount, for the commands that do. */
#pragma once

#include <jansson.h>

#include "cli/ctl.h"

/* The answer of the mount that the first argument names, to be released with json_decref. */
int s3c_ctl_ask_status(struct s3c_ctl *ctl, struct s3c_err *err, json_t **ret_answer);
/* A member that is a number (else 0), or a text (else "?"). object may be NULL. */
uint64_t s3c_ctl_number(const json_t *object, const char *member);
const char *s3c_ctl_word(const json_t *object, const char *member);

/* status --watch; ends with SIGINT or SIGTERM, or the mount. */
int s3c_ctl_watch(struct s3c_ctl *ctl);
