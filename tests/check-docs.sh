#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
# --help, the table of options (which --help prints), the manual pages and the README agree; links
# between the documents lead somewhere, and the tests that they name exist. Runs in the folder of the build.
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
	case $name in format | names | excl) continue ;; esac # one value only
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

# the helpers' flags; every page is installed and named by another one
for page in mount umount; do
	file=$srcdir/doc/man/$page.s3cryptfs.8
	ln -sf "$PWD/s3cryptfs" "$work/$page.fuse.s3cryptfs"
	awk '/^\.Sh/ { on = /SYNOPSIS/ } on && /^\.Op Fl [a-z]+$/ { print $3 } on && /^\.Op Fl [a-zA-Z] / { print $3 }' "$file" |
		tr -d '\n' | fold -w 1 | sort | tr -d '\n' >"$work/flags-synopsis"
	awk '/^\.Sh/ { on = /DESCRIPTION/ } on && /^\.It Fl/ { gsub(/Ar [a-z]+|Op .*|Fl|Ns|,|\.It| /, ""); print }' "$file" |
		tr -d '\n' | fold -w 1 | sort | tr -d '\n' >"$work/flags-text"
	[ "$(tr -d o <"$work/flags-synopsis")" = "$(tr -d o <"$work/flags-text")" ] ||
		complain "$page.s3cryptfs(8): the synopsis has the flags $(cat "$work/flags-synopsis"), the text $(cat "$work/flags-text")"
	for flag in $(fold -w 1 "$work/flags-synopsis"); do
		case $flag in
		o | t | N) value=ro ;;
		*) value= ;;
		esac
		# An unknown flag is complained of by getopt.
		"$work/$page.fuse.s3cryptfs" "-$flag" $value 2>&1 </dev/null | grep -q "invalid option" &&
			complain "$page.fuse.s3cryptfs does not know the flag -$flag of its manual page"
	done
done
# the volume plugin, where it is built
if [ -x ./s3cryptfs-volume-plugin ]; then
	./s3cryptfs-volume-plugin --help | awk '/^  --/ { print substr($1, 3), $2 == toupper($2) ? $2 : "" }' | tr A-Z a-z |
		sort >"$work/plugin"
	awk '/^\.It Fl -/ { print substr($3, 2), $5 }' "$srcdir/doc/man/s3cryptfs-volume-plugin.8" | sort >"$work/plugin-man"
	[ "$(wc -l <"$work/plugin")" -ge 6 ] || complain "s3cryptfs-volume-plugin --help lists too few options"
	same "the options of --help and of s3cryptfs-volume-plugin(8)" "$work/plugin" "$work/plugin-man"
fi
for file in "$srcdir"/doc/man/*; do
	name=${file##*/} section=${file##*.}
	grep -q "doc/man/$name" "$srcdir/Makefile.am" || complain "doc/man/$name is not installed"
	grep -qrF "Xr ${name%."$section"} $section" "$srcdir"/doc/man || complain "no page of the manual names $name"
done
for file in "$srcdir"/doc/*.md; do
	grep -q "doc/${file##*/}" "$srcdir/Makefile.am" || complain "${file#"$srcdir"/} is not installed"
done

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
	# tests, as FILE::FUNCTION
	grep -oE 'tests/[A-Za-z0-9_/]+\.(py|c)::[A-Za-z0-9_]+' "$file" | sort -u | while read -r test; do
		grep -qE "^(def|static void) ${test##*:}\(" "$srcdir/${test%%::*}" 2>/dev/null ||
			echo "${file#"$srcdir"/}: there is no test $test"
	done
done >"$work/links"
[ ! -s "$work/links" ] || complain "$(cat "$work/links")"

if command -v mandoc >/dev/null; then
	mandoc -T lint -W warning "$srcdir"/doc/man/* >"$work/lint" || complain "$(cat "$work/lint")"
else
	echo "mandoc is missing: the manual pages were not checked for errors"
fi
exit $status
