# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# progress.sh, sourced after common.sh: on a terminal, say every 20 s what a long
# step is at. What it is at is read from its logs: of kbuild and compilers the
# objects, of TAP the tests, of anything else the last line. The number of objects
# of the longest run so far is remembered in $CACHE/steps, by the step's name.

# PROGRESS=y: the terminal is behind a pipe. EVERY: seconds.
on_terminal() { [ -t 1 ] || [ "${PROGRESS:-}" = y ]; }

# step_name TITLE: as part of a file's name
step_name() { printf '%s' "$1" | tr -c 'a-zA-Z0-9\n' '-'; }

# step_at START LOG [DIR]: "NUMBER|OF|WHAT" from LOG and the logs in DIR that were
# written since START; OF is 0 if they don't tell
step_at()
{
	local -a logs=()

	[ -z "${3:-}" ] || mapfile -t logs < <(find "$3" -name '*.log' -newermt "@$1" -printf '%T@ %p\n' 2>/dev/null |
		sort -n | cut -d' ' -f2-)
	[ ! -e "$2" ] || logs=("$2" "${logs[@]}")
	[ ${#logs[@]} -gt 0 ] || return 0
	tr -d '\000' < <(cat -- "${logs[@]}" 2>/dev/null) | LC_ALL=C awk '
		/^  [A-Z][A-Z0-9_]* +(\[[A-Z]\] +)?[^ ]+$/ { n++; what = $NF; next }
		/ -o [^ ]/ { n++; what = $0; sub(/.* -o /, "", what); sub(/ .*/, "", what); next }
		/^1\.\.[0-9]+$/ { of = substr($0, 4); next }
		/^(not )?ok [0-9]+/ { tests++; what = $0; sub(/^(not )?ok [0-9]+ (- )?/, "", what); next }
		NF { last = $0 }
		END {
			if (of) { n = tests; if (!n) what = "" }
			sub(/^ +/, "", last)
			printf "%d|%d|%s\n", n, of, (n || what != "") ? what : last
		}'
}

# step_line TITLE START LOG [DIR]: one line of at most 80 columns
step_line()
{
	local n of what count='' text most=

	IFS='|' read -r n of what < <(step_at "$2" "$3" "${4:-}") || :
	read -r most 2>/dev/null <"$CACHE/steps/$(step_name "$1")" || :
	[ "${of:-0}" -gt 0 ] || { [ "${most:-0}" -lt "${n:-0}" ] || of=$most; }
	[ "${n:-0}" -eq 0 ] || count=$n
	[ -z "$count" ] || [ "${of:-0}" -eq 0 ] || count+=" of $of"
	text=$(printf '  %-34s %4d s  %s' "$1" $(($(date +%s) - $2)) "$count")
	# The end of a path tells more than its beginning.
	what=${count:+ }${what//[^[:print:]]/}
	if [ $((${#text} + ${#what})) -gt 80 ]; then
		[[ $what != */* ]] || while [[ $what == */* && $((${#text} + ${#what})) -gt 80 ]]; do
			what=${count:+ }${what#*/}
		done
	fi
	printf '%.80s\n' "$text$what"
}

# progress_start TITLE LOG [DIR]: until progress_stop, or until the caller ends
progress_start()
{
	PROGRESS_FD=
	on_terminal || return 0
	local start
	start=$(date +%s)
	exec {PROGRESS_FD}> >(
		set +e
		while :; do
			read -r -t "${EVERY:-20}" _
			[ $? -gt 128 ] || exit 0
			step_line "$1" "$start" "$2" "${3:-}"
		done
	)
	PROGRESS_PID=$!
}

progress_stop()
{
	[ -n "${PROGRESS_FD:-}" ] || return 0
	exec {PROGRESS_FD}>&-
	wait "$PROGRESS_PID" 2>/dev/null || :
	PROGRESS_FD=
}

# without_progress COMMAND...: a command that does not keep it going
without_progress()
{
	if [ -n "${PROGRESS_FD:-}" ]; then "$@" {PROGRESS_FD}>&-; else "$@"; fi
}

# step_done TITLE START LOG [DIR]: remember how many objects it was
step_done()
{
	local n of most file

	file=$CACHE/steps/$(step_name "$1")
	IFS='|' read -r n of _ < <(step_at "$2" "$3" "${4:-}") || return 0
	read -r most 2>/dev/null <"$file" || most=0
	if [ "${of:-0}" -eq 0 ] && [ "${n:-0}" -gt "${most:-0}" ]; then
		mkdir -p "$CACHE/steps" 2>/dev/null && echo "$n" >"$file" || :
	fi
}
