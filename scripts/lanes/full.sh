#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# full.sh: every lane, one after the other, whatever fails on the way; then one
# line for each with its time. LANES= names some of them, "debug" all that begin
# with "debug-".
#
#	full.sh check	only see that LANES names lanes
#	full.sh list	print these lanes for more than one machine ("make lanes")

. "$(dirname -- "$0")/../common.sh"

ARCH=${ARCH:-riscv arm64 x86}
# Each lane has its own.
unset ON PROFILE SUFFIX VARIANT
passed=0
failed=0
skipped=0
summary=$BUILD/check-full.txt

has() { [[ " $ARCH " == *" $1 "* ]]; }

# chosen LANE: does LANES name it, or what it begins with, if that is no lane itself?
chosen()
{
	[ -z "${LANES:-}" ] || [[ " $LANES " == *" $1 "* ||
		( " $LANES " == *" ${1%%-*} "* && "$names " != *" ${1%%-*} "* ) ]]
}

# go LANE COMMAND...: run it, unless LANES leaves it out
go()
{
	local lane=$1 start line status=0
	shift

	if [ "$listing" = 1 ]; then
		names+=" $lane"
		return
	fi

	if ! chosen "$lane"; then
		skipped=$((skipped + 1))
		printf '%-18s left out by LANES\n' "$lane" >>"$summary"
		return
	fi
	start=$(date +%s)
	rm -f "$BUILD/results/verdict.ktap"
	"$@" >"$BUILD/log/full-$lane.log" 2>&1 </dev/null || status=$?
	if [ "$status" = 0 ]; then
		passed=$((passed + 1))
		line=$(printf '%-18s passed  %5d s  %s' "$lane" $(($(date +%s) - start)) \
			"$(tail -n 1 "$BUILD/log/full-$lane.log")")
	else
		failed=$((failed + 1))
		line=$(printf '%-18s FAILED  %5d s  log: %s' "$lane" $(($(date +%s) - start)) "$BUILD/log/full-$lane.log")
	fi
	say "$line" | tee -a "$summary"
	# For "make merge-results".
	"$TOP/scripts/lanes/results.py" keep "$BUILD/lanes" "$lane" "$status" $(($(date +%s) - start)) \
		"make check-full LANES=$lane ARCH=\"$ARCH\"" "$BUILD/results/verdict.ktap" "$BUILD/log/full-$lane.log" ||
		{ failed=$((failed + 1)); say "$lane: its results could not be kept" | tee -a "$summary"; }
}

# Nor does a lane take them from .config.
lane() { make -C "$TOP" --no-print-directory _lane ON=series PROFILE= VARIANT= LLVM= "$@"; }

lanes()
{
	local arch variant variants profile
	go scripts "$TOP/scripts/test/run"
	go scripts-mutants "$TOP/scripts/test/mutants"
	go series lane
	go base lane ON=base
	for arch in $ARCH; do
		# The first is the default, which the lane "series" runs.
		variants=$(env -u ARCH make -s -C "$runner" ARCH="$arch" "print-VARIANTS_$arch" | cut -s -d' ' -f2-)
		for variant in $variants; do
			go "variant-$arch-$variant" lane ARCH="$arch" VARIANT="$variant"
		done
		for profile in debug rt; do
			go "$profile-$arch" lane ARCH="$arch" PROFILE="$profile"
		done
		go "clang-$arch" lane ARCH="$arch" LLVM="${LLVM:--19}"
	done
	has x86 && go vmx lane ARCH=x86 PROFILE=vmx
	go checkers "$TOP/scripts/lanes/checkers.sh"
	go others "$TOP/scripts/lanes/others.sh"
	go topics "$TOP/scripts/lanes/topics.sh"
	go stable "$TOP/scripts/lanes/stable.sh"
	go commits "$TOP/scripts/lanes/commits.sh"
	go table "$TOP/scripts/lanes/table.sh"
	go qemu "$TOP/scripts/lanes/qemu.sh"
	go mutants "$TOP/scripts/lanes/mutants.sh"
	go coverage "$TOP/scripts/lanes/coverage.sh"
	has riscv && go selftest "$TOP/scripts/lanes/selftest.sh"
	[ -n "$no_fresh" ] || go fresh "$TOP/scripts/fresh.sh"
}

case ${1:-} in
''|check|list) ;;
*) die "full.sh knows check and list, not \"$1\"" "make check-full" ;;
esac
known_arches "$ARCH"
# The variants are those of the tree, or before it is made, of the same files here.
runner=$TREE/$RUNNER
[ -e "$runner/run.sh" ] || runner=$TOP/$RUNNER
[ -e "$runner/run.sh" ] || die "$TREE has no $RUNNER" "make tree"
no_fresh=
# Another machine can do what this one can't.
[ "${1:-}" = list ] || no_fresh=$("$TOP/scripts/fresh.sh" possible || :)
names=
wanted=()
listing=1
lanes
for word in ${LANES:-}; do
	[[ "$names " == *" $word "* || $names == *" $word-"* ]] ||
		die "LANES=$word is no lane of $ARCH" "one of:$names"
done
[ "${1:-}" != check ] || exit 0
if [ "${1:-}" = list ]; then
	read -r -a list <<<"$names"
	for word in "${list[@]}"; do ! chosen "$word" || wanted+=("$word"); done
	ARCH=$ARCH exec "$TOP/scripts/lanes/results.py" matrix "${wanted[@]}"
fi
[ -e "$TREE/$RUNNER/run.sh" ] || die "$TREE has no $RUNNER" "make tree"
mkdir -p "$BUILD/log"
listing=0
: >"$summary"
lanes

say ""
cat "$summary"
left="real hardware; SEV, TDX; running loongarch, mips, powerpc and s390 (they are compiled)"
for word in riscv arm64 x86; do
	has "$word" || left+="; $word"
done
has riscv || left+="; the lanes' own tests, which need riscv"
[ -z "$no_fresh" ] || left+="; make fresh: $no_fresh"
for word in LANES TESTS SKIP SIDES RANGE CHECKERS AFTER QUICK KINDS VARIANTS; do
	[ -z "${!word:-}" ] || left+="; what $word=\"${!word}\" leaves out"
done
say_list "left out: $left"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] || { note_status 1; exit 1; }
