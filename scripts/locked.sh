#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# locked.sh COMMAND...: run it while holding the build directory's lock, so
# that two runs never write there at once. The second waits and says so. "make
# shell" takes no lock, it would have it for hours.
#
# build/status is of the last run that had the lock.

. "$(dirname -- "$0")/common.sh"

[ $# -gt 0 ] || die "locked.sh needs a command" "locked.sh make _check"
[ "${SERIES_LOCKED:-}" != "$BUILD" ] || exec "$@"
while :; do
	mkdir -p "$BUILD" || die "cannot write to $BUILD" "set BUILD= to a directory of yours"
	exec 9>>"$BUILD/.lock"
	if ! flock -n 9; then
		say "waiting for the run that uses $BUILD (process $(cat "$BUILD/.pid" 2>/dev/null || echo unknown))"
		flock 9
	fi
	# Not if "make distclean" had it, and removed it.
	[ ! "$BUILD/.lock" -ef /dev/fd/9 ] || break
done
echo $$ >"$BUILD/.pid"
rm -f "$BUILD/status"
export SERIES_LOCKED=$BUILD
status=0
# What the command leaves running must not keep the lock.
"$@" 9>&- || status=$?
[ ! -d "$BUILD" ] || note_status "$status"
exit "$status"
