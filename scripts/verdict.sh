# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by check.sh: what the tests of a run came to, for who reads the terminal, for
# results.py, and for "make report". run() has the variables.

# verdict pass|skip|fail NAME [WHY]: of a test of $id, or with no NAME of the run, for
# verdict.ktap, and for what is remembered of each test. NOTES is what the runner
# says of it.
verdict()
{
	local ok=ok seconds=""

	[ "$1" != fail ] || ok="not ok"
	count[$1]=$((count[$1] + 1))
	[[ ${notes[0]:-} != "# time "* ]] || seconds=${notes[0]##* }
	verdicts+=("${notes[@]}" "$ok $((++nr_verdicts)) $id${2:+.$2}${3:+ # $3}")
	[ -z "$2" ] || last+=("$2|$1|$seconds|$state|$(date -u +%FT%TZ)|${3:-}")
	notes=()
}

# remember FILE: the last verdict of each test, whenever it was
remember()
{
	local old=()

	[ ! -e "$1" ] || mapfile -t old <"$1"
	printf '%s\n' "${last[@]}" "${old[@]}" | awk -F '|' 'NF && !seen[$1]++' >"$1"
	last=()
}

# sayings CONSOLE FILE: what the comparison with a new vCPU and the storm have last said
# of themselves
sayings()
{
	local new before=

	new=$(tr -d '\r\000' 2>/dev/null <"$1" | grep -E '^kvm:vcpu_reset_(test|storm): # ' || :)
	[ ! -e "$2" ] || before=$(<"$2")
	awk 'FNR == NR { said[$1]; print; next } !($1 in said)' <(echo "$new") <(echo "$before") | sed '/^$/d' >"$2"
}

# origin ARCH VARIANT: what has booted, "KEY: VALUE"
origin()
{
	local dir=$BUILD/$1$SUFFIX/results

	tr -d '\r\000' 2>/dev/null <"$dir/$2.console" |
		sed -nE 's/^.*Linux version ([^ ]+) \([^ ]*\) \((.*), [^,]*\) #.*/kernel: \1\ncompiler: \2/p' | head -n 2 || :
	if [ "$2" = vmx ]; then
		sed -nE 's/.*(Bochs x86 Emulator [0-9.]+).*/emulator: \1/p' "$dir/bochs/bochs.log" 2>/dev/null | head -n 1 || :
	else
		"$(runner "$1" -s print-QEMU)" --version 2>/dev/null | sed -n '1s/^/emulator: /p' || :
	fi
}

# came_to ARCH STATUS KTAP: a run that ended with STATUS
came_to()
{
	case $2 in
	0|1) ;;
	2|3|4|5)
		[ "$worst" -ge "$2" ] || worst=$2
		;;
	*) worst=5 ;;
	esac
	if [ "$2" -gt 1 ]; then
		wrong+=("$1 (status $2)")
		verdict fail "" "ended early, status $2"
	fi
	[ ! -e "$3" ] || judge "$1" "$3"
}

# judge ARCH KTAP: the results of a run
judge()
{
	local line bad name why

	while read -r line; do
		[[ $line != "# time "* ]] || notes+=("# time $id.${line#\# time kvm:}")
		[[ $line != "# kvm:"* ]] || notes+=("$line")
		[[ $line =~ ^(not\ )?ok\ ([0-9]+)\ (-\ )?(kvm:)?([^ ]+)(.*)$ ]] || continue
		bad=${BASH_REMATCH[1]}
		name=${BASH_REMATCH[5]}
		why=${BASH_REMATCH[6]# \# }
		if must_fail "$1" "$name" && [[ $why != "did not build"* ]]; then
			if [ -n "$bad" ]; then
				say "  $name fails on the base, as it must"
				# As it must: why is in the runner's own file.
				[[ ${notes[0]:-} == "# time "* ]] && notes=("${notes[0]}") || notes=()
				verdict pass "$name" "fails on the base, as it must"
			else
				verdict fail "$name" "passes on the base: it shows nothing"
				wrong+=("$1 $name passes on the base: it shows nothing")
			fi
		elif [[ $why == SKIP* ]]; then
			verdict skip "$name" "$why"
		elif [ -n "$bad" ]; then
			wrong+=("$1 $name")
			verdict fail "$name" "$why"
		else
			verdict pass "$name" "$why"
		fi
	done <"$2"
}
