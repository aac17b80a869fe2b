#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
# Every source under src/ and every test is named once in its local.mk: what is
# forgotten there is neither built nor shipped.
srcdir=${srcdir:-.}
cd "$srcdir" || exit 1
status=0
complain() {
	echo "$1" >&2
	status=1
}
for file in src/*/*.[ch]; do
	case $file in
	src/cli/s3cryptfs.c | src/cli/s3cryptfsctl.c) continue ;; # the mains: Makefile.am
	esac
	count=$(grep -cE "^[[:space:]]*$file( \\\\)?\$" "${file%/*}/local.mk")
	[ "$count" -eq 1 ] || complain "$file: named $count times in ${file%/*}/local.mk, not once"
done
for file in tests/unit/test_*.c tests/contract/test_*.c tests/fuzz/fuzz_*.c; do
	[ -e "$file" ] || continue
	grep -qE "${file%.c}( |\$)" tests/local.mk || complain "$file: not named in tests/local.mk"
done
for file in tests/unit/*.h tests/e2e/*.py tests/bench/*.py tests/servers/*.py; do
	grep -qE "^[[:space:]]*$file( \\\\)?\$" tests/local.mk || complain "$file: not shipped by tests/local.mk"
done
exit $status
