#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# topics.sh [TOPIC ...]: each topic by itself, on the base and what it needs. Its
# patches apply there; every commit builds with W=1 and, of each architecture, the last
# one boots and passes the tests that it has (commits.sh with BOOTS=last, which
# remembers what passed by its content); the tests that it adds or changes and that
# reproduce a bug fail on what it needs; checkpatch has no error that is not excused.
# The matrix is what it prints last, and build/topics.txt.
#
# QUICK=1: of each topic only the last commit, and without W=1.

. "$(dirname -- "$0")/../common.sh"

ARCH=${ARCH:-riscv arm64 x86}
LOG=$BUILD/topics-log
MATRIX=$BUILD/topics.txt
wrong=0

mapfile -t known < <("$TOP/scripts/series.py" topics)
[ $# -gt 0 ] || set -- "${known[@]}"
for topic; do
	[[ " ${known[*]} " == *" $topic "* ]] || die "there is no topic $topic" "one of: ${known[*]}"
done

# column NAME COMMAND...: one cell of the matrix, and its log
column()
{
	local name=$1 status=0
	shift

	"$@" >"$LOG/$topic-$name" 2>&1 </dev/null || status=$?
	if [ "$status" = 0 ]; then
		cell=yes
	else
		cell=NO
		wrong=1
		failures+=("$topic $name: $LOG/$topic-$name")
	fi
}

# last: the last commit of the topic builds, boots and passes
last()
{
	local arch status=0

	for arch in $(affected "refs/series/needs/$topic" "refs/series/topic/$topic"); do
		make -C "$TOP" --no-print-directory _lane TOPIC="$topic" ARCH="$arch" ON=series TESTS= PROFILE= VARIANT= LLVM= || status=1
	done
	return "$status"
}

# of_commits TEXT: what commits.sh says of a step
of_commits() { if grep -q "$1" "$LOG/$topic-commits"; then echo NO; else echo yes; fi; }

# reproducers: those of the topic fail without it, and with it pass on the variant of
# the host that commits.sh does not have
reproducers()
{
	local arch test variant status=0 n=0

	for arch in $ARCH; do
		while read -r test variant; do
			n=$((n + 1))
			make -C "$TOP" --no-print-directory _lane TOPIC="$topic" ARCH="$arch" ON=base TESTS="$test" PROFILE= \
				VARIANT="$variant" LLVM= </dev/null || status=1
			[ -z "$variant" ] ||
				make -C "$TOP" --no-print-directory _lane TOPIC="$topic" ARCH="$arch" ON=series TESTS="$test" PROFILE= \
					VARIANT="$variant" LLVM= </dev/null || status=1
		done < <(of_topic "$arch")
	done
	say "$n reproducers"
	return "$status"
}

# of_topic ARCH: the tests that reproduce a bug and that the topic adds or changes,
# and the variant of the host where they do; none if it fixes nothing: what a topic adds
# to a test of an earlier one passes, or is skipped, without it
of_topic()
{
	local test variant

	git -C "$TREE" log --format=%B "refs/series/needs/$topic..refs/series/topic/$topic" |
		grep '^Fixes: ' >/dev/null || return 0
	while read -r test variant; do
		git -C "$TREE" diff --name-only "refs/series/needs/$topic" "refs/series/topic/$topic" |
			grep -qE "^tools/testing/selftests/kvm/($1/)?$test\.c$" && printf '%s %s\n' "$test" "$variant"
	done < <(reproducers_of "$1")
	return 0
}

mkdir -p "$LOG"
record "${MATRIX%.txt}.run" "arch: $ARCH" "quick: ${QUICK:-0}"
printf '%-15s %8s %8s %7s %7s %7s %11s %10s\n' topic patches applies builds boots passes reproduces checkpatch >"$MATRIX"
failures=()
for topic; do
	say "$topic"
	column applies env TOPIC="$topic" TREE="$BUILD/topic" "$TOP/scripts/series.py" tree
	applies=$cell
	if [ "$applies" = NO ]; then
		tail -n 2 "$LOG/$topic-applies"
		printf '%-15s %8s %8s\n' "$topic" "" "$applies" >>"$MATRIX"
		continue
	fi
	range=refs/series/needs/$topic..refs/series/topic/$topic
	patches=$(git -C "$TREE" rev-list --count "$range")
	if [ "${QUICK:-0}" = 1 ]; then
		column commits last
	else
		column commits env TOPIC="$topic" BOOTS=last "$TOP/scripts/lanes/commits.sh" "$range"
	fi
	builds=$(of_commits 'do not build\|does not build\|new warnings\|do not compile\|could not build\|result: .*(3)')
	boots=$(of_commits 'result: .*(4)\|result: .*(5)')
	passes=$cell
	reproduces=-
	if [ "$(for arch in $ARCH; do of_topic "$arch"; done | wc -l)" -gt 0 ]; then
		column reproduces reproducers
		reproduces=$cell
	fi
	column checkpatch env TOPIC="$topic" TREE="$BUILD/topic" AFTER="refs/series/needs/$topic" "$TOP/scripts/lanes/checkers.sh" checkpatch maintainers
	printf '%-15s %8s %8s %7s %7s %7s %11s %10s\n' "$topic" "$patches" "$applies" "$builds" "$boots" "$passes" "$reproduces" "$cell" |
		tee -a "$MATRIX" | tail -n 1
done

say ""
cat "$MATRIX"
recorded "${MATRIX%.txt}.run"
[ ${#failures[@]} -eq 0 ] || printf 'wrong: %s\n' "${failures[@]}"
exit "$wrong"
