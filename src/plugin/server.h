/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* HTTP on a unix socket before the plugin: a thread for each connection, since calls wait. */
#pragma once

#include "base/err.h"
#include "plugin/plugin.h"

struct s3c_plugin_server;

/* fd: a listening socket, which the server closes at its end, also when it does not start. */
int s3c_plugin_server_start(struct s3c_plugin *plugin, int fd, struct s3c_err *err,
			    struct s3c_plugin_server **ret_server);
/* Waits for calls that run: s3c_plugin_stop comes before. NULL is legal. */
void s3c_plugin_server_stop(struct s3c_plugin_server *server);
