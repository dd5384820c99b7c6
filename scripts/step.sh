#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# step.sh TITLE NEXT COMMAND...: run a long step. One line when it begins and
# one with the elapsed time when it ends; its output goes to a log, and on
# failure the end of the log, its path and the NEXT command to try are shown.
# V=1 shows the command and all it prints.

. "$(dirname -- "$0")/common.sh"

title=$1
next=$2
shift 2
log=$BUILD/log/$(printf '%s' "$title" | tr -c 'a-zA-Z0-9\n' '-').log
mkdir -p "$BUILD/log"
start=$(date +%s)

if [ "${V:-0}" != 0 ]; then
	printf '+'
	printf ' %q' "$@"
	printf '\n'
	status=0
	"$@" 2>&1 | tee "$log" || status=${PIPESTATUS[0]}
else
	printf '  %-34s ...\n' "$title"
	status=0
	"$@" >"$log" 2>&1 || status=$?
fi
elapsed=$(($(date +%s) - start))
if [ "$status" = 0 ]; then
	printf '  %-34s %4d s\n' "$title" "$elapsed"
	exit 0
fi
{
	printf '  %-34s failed after %d s (status %d)\n' "$title" "$elapsed" "$status"
	[ "${V:-0}" != 0 ] || tail -n "${TAIL:-25}" "$log" | sed 's/^/    /'
	printf '  log:  %s\n  next: %s\n' "$log" "$next"
} >&2
note_status "$status"
exit "$status"
