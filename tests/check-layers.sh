#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
# Each layer includes only what it may.
srcdir=${srcdir:-.}
exec "$srcdir/contrib/layers" "$srcdir"
