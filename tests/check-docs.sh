#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
# --help, the table of options (which --help prints), the manual pages and the README agree; links
# between the documents lead somewhere. Runs in the folder of the build.
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
complain() {
	echo "$*" >&2
	status=1
}
same() { # WHAT FILE FILE
	diff -u "$2" "$3" >"$work/diff" && return
	complain "$1 differ:"
	cat "$work/diff" >&2
}

./s3cryptfs --help >"$work/help" || complain "s3cryptfs --help failed"
./s3cryptfs -o help >"$work/help-o" || complain "s3cryptfs -o help failed"
same "--help and -o help" "$work/help" "$work/help-o"

# name and placeholder of each option
awk '/^Encryption:/ { on = 1 } on && /^  [a-zA-Z_]/ { print $1 }' "$work/help" | sort >"$work/options"
[ "$(wc -l <"$work/options")" -gt 40 ] || complain "--help lists too few options"
man=$srcdir/doc/man/s3cryptfs.8
awk '/^\.Sh/ { on = /MOUNT OPTIONS/ } on && /^\.It Cm/ && !/^\.It Cm ([cds]+se-[a-z0-9]+|none)$/ {
	print $3 ($4 == "Ns" ? "=" $8 : "") }' "$man" | sort >"$work/man"
same "the options of --help and of s3cryptfs(8)" "$work/options" "$work/man"

# what is refused is said to be
grep '\[not in this version\]' "$work/help" | awk '{ print $1 }' | sort >"$work/later"
awk '/^\.Ss/ { on = /Not in this version/ } /^\.Sh/ { on = 0 } on && /^\.It Cm/ {
	print $3 ($4 == "Ns" ? "=" $8 : "") }' "$man" | sort >"$work/later-man"
same "what --help and s3cryptfs(8) call not in this version" "$work/later" "$work/later-man"

# defaults of a word or number stand in the manual in brackets
awk '/^Encryption:/ { on = 1 } on && /\([0-9A-Za-z-]+\)$/ && /=/ {
	name = $1; sub(/=.*/, "", name); value = $NF; gsub(/[()]/, "", value); print name, value }' \
	"$work/help" | while read -r name value; do
	case $name in format | names | excl | hardlinks) continue ;; esac # one value only
	awk -v name="$name" -v value="$value" '
		/^\.It Cm/ { on = $3 == name }
		on && (index($0, "Bq " value " ") || index($0, "Bq Cm " value)) { found = 1 }
		END { exit !found }' "$man" ||
		echo "s3cryptfs(8) does not say that the default of $name is $value"
done >"$work/defaults"
[ ! -s "$work/defaults" ] || complain "$(cat "$work/defaults")"

# the commands
./s3cryptfsctl --help >"$work/ctl" || complain "s3cryptfsctl --help failed"
awk '/^  [a-z]/ { print $1 }' "$work/ctl" | sort >"$work/commands"
awk '/^\.Sh/ { on = /DESCRIPTION/ } on && /^\.It Cm/ { print $3 }' \
	"$srcdir/doc/man/s3cryptfsctl.1" | sort -u >"$work/commands-man"
same "the commands of --help and of s3cryptfsctl(1)" "$work/commands" "$work/commands-man"
awk -F: '/^Not in this version/ { print $2 }' "$work/ctl" | tr -s ' ' '\n' | sed '/^$/d' |
	while read -r name; do
		grep -qE "(Cm|,) $name( |\$)" "$srcdir/doc/man/s3cryptfsctl.1" ||
			echo "s3cryptfsctl(1) does not say that $name is not in this version"
		./s3cryptfsctl "$name" x >/dev/null 2>"$work/err"
		[ $? -eq 2 ] && grep -q "not in this version" "$work/err" ||
			echo "s3cryptfsctl $name is not refused with status 2"
	done >"$work/refused"
[ ! -s "$work/refused" ] || complain "$(cat "$work/refused")"

# README: each option that it names exists
sed -n 's/^| `\([a-z_]*\)[=`].*/\1/p' "$srcdir/README.md" | sort -u >"$work/readme"
[ -s "$work/readme" ] || complain "README.md has no table of options"
sed 's/=.*//' "$work/options" | sort -u >"$work/names"
unknown=$(comm -23 "$work/readme" "$work/names")
[ -z "$unknown" ] || complain "README.md names options that do not exist: $unknown"

# links and scripts that the documents name
for file in "$srcdir"/*.md "$srcdir"/doc/*.md; do
	[ -e "$file" ] || continue
	grep -oE '\]\([^)#:]+' "$file" | cut -c 3- | while read -r link; do
		[ -e "${file%/*}/$link" ] || echo "${file#"$srcdir"/}: $link does not exist"
	done
	grep -oE '(contrib|tests|src|doc)/[A-Za-z0-9_./-]*[A-Za-z0-9_]' "$file" | sort -u |
		grep -v NAME | while read -r name; do
			[ -e "$srcdir/$name" ] || echo "${file#"$srcdir"/}: $name does not exist"
		done
done >"$work/links"
[ ! -s "$work/links" ] || complain "$(cat "$work/links")"

if command -v mandoc >/dev/null; then
	mandoc -T lint -W warning "$srcdir"/doc/man/* >"$work/lint" || complain "$(cat "$work/lint")"
else
	echo "mandoc is missing: the manual pages were not checked for errors"
fi
exit $status
