#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# step.sh TITLE NEXT COMMAND...: run a long step. One line with the elapsed time
# when it ends; on a terminal also one when it begins, and every 20 s one with
# what it is at. Its output goes to a log, and on failure the end of the log, its
# path and the NEXT command to try are shown. STEP_LOGS names a directory where
# COMMAND keeps logs of its own. V=1 shows the command and all it prints.

. "$(dirname -- "$0")/common.sh"
# shellcheck source=scripts/progress.sh
. "$TOP/scripts/progress.sh"

[ $# -ge 3 ] || die "step.sh needs a title, what to do next, and a command" 'step.sh "a step" "make again" true'
title=$1
next=$2
shift 2
log=$BUILD/log/$(step_name "$title").log
log_dir=${STEP_LOGS:-}
unset STEP_LOGS
mkdir -p "$BUILD/log"
start=$(date +%s)

status=0
if [ "${V:-0}" != 0 ]; then
	printf '+'
	printf ' %q' "$@"
	printf '\n'
	"$@" 2>&1 | tee "$log" || status=${PIPESTATUS[0]}
else
	! on_terminal || printf '  %-34s ...\n' "$title"
	: >"$log"
	progress_start "$title" "$log" "$log_dir"
	unset PROGRESS
	without_progress "$@" >"$log" 2>&1 || status=$?
	progress_stop
fi
elapsed=$(($(date +%s) - start))
if [ "$status" = 0 ]; then
	step_done "$title" "$start" "$log" "$log_dir"
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
