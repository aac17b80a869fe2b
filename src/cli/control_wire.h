/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Both ends of the control socket: its address, lines, paths. No state; any thread. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* The attribute of a mount's root that has the path of its socket. */
/* The kernel asks for no permissions, and so for no attributes, before it reads one of system.: a
   mount whose store is away can still be asked, and that of another user by root. */
#define S3C_CONTROL_XATTR "system.s3cryptfs.control"
/* Its value: -ENOTCONN where the daemon has died, -ENODATA where it is no mount of ours, or not for
 * this user. */
int s3c_control_find(const char *mountpoint, char *ret_path, size_t size);

/* A listening socket at path, which is made anew (0600), or one that is connected to it. */
int s3c_control_listen(const char *path, int *ret_fd);
int s3c_control_connect(const char *path, int *ret_fd);

/* Lines that come through fd, one after the other. */
struct s3c_control_lines {
	int fd;             /* borrowed */
	struct s3c_buf buf; /* max: of a line with what follows it. Freed by the caller */
	size_t used;        /* of it: the line given out before */
};
/*
 * The next line as JSON, to be released with json_decref. deadline_ns: monotonic; INT64_MAX: none.
 * -EPIPE: the other end is gone, -ETIMEDOUT, -EMSGSIZE: longer than the buffer may be, -EBADMSG:
 * no JSON object.
 */
int s3c_control_receive(struct s3c_control_lines *lines, int64_t deadline_ns, json_t **ret_object);
int s3c_control_send(int fd, const json_t *object, int64_t deadline_ns);

/* Paths are bytes: what is no UTF-8 goes as base64, in NAME_base64. */
int s3c_control_put_bytes(json_t *object, const char *name, const char *text);
int s3c_control_put_path(json_t *object, const char *path);
/* -ENOENT: there is none; -EINVAL: it is none. The caller frees. */
int s3c_control_get_path(const json_t *object, char **ret_path);
