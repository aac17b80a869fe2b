#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
# Each fuzz target takes the inputs that are kept for it; make fuzz begins with the same ones.
status=0
for dir in "${srcdir:-.}"/tests/fuzz/corpus/*/; do
	target=tests/fuzz/$(basename "$dir")
	echo "$target"
	"$target" "$dir"* || status=1
done
exit $status
