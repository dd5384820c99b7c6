#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# locked.sh COMMAND...: run it while holding the build directory's lock, so
# that two runs never write there at once. The second waits and says so.

. "$(dirname -- "$0")/common.sh"

if [ "${SERIES_LOCKED:-}" != "$BUILD" ]; then
	mkdir -p "$BUILD" || die "cannot write to $BUILD" "set BUILD= to a directory of yours"
	exec 9>>"$BUILD/.lock"
	if ! flock -n 9; then
		say "waiting for the run that uses $BUILD (process $(cat "$BUILD/.pid" 2>/dev/null || echo unknown))"
		flock 9
	fi
	echo $$ >"$BUILD/.pid"
	export SERIES_LOCKED=$BUILD
fi
# What the command leaves running must not keep the lock.
"$@" 9>&-
