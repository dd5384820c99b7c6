#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# mutants.sh: leave out each statement of the code that resets a vCPU, one at a
# time, and see that a test fails. mutants.py explains how, mutants/ARCH.spec
# says which code and which tests, mutants/explained why some of the statements
# can't be missed by any test.
#
# What is known about a statement is remembered in build/mutants-log, by the
# content of the kernel and of the tests, and not run again unless FORCE=1: an
# interrupted run goes on where it stopped. ONLY=REGEX is for a part of it, QUICK=1
# leaves out what takes long, EXPLAINED=1 tries what is explained as well, V=1
# shows it.
#
#	mutants.sh		build, run and report
#	mutants.sh list		the statements, and what is known about them
#	mutants.sh report	what is known

. "$(dirname -- "$0")/../common.sh"

unset MAKEFLAGS MAKELEVEL
ARCH=${ARCH:-riscv arm64 x86}
WORK=$BUILD/mutants
OUT=$BUILD/mutants-log
export BUILD TREE RUNNER

mutants() { python3 "$TOP/scripts/lanes/mutants.py" "$@"; }

# runner ARCH TARGET: on the work tree
runner()
{
	local arch=$1
	shift
	in_runner "$WORK" ARCH="$arch" KERNEL_PATH="$WORK" KERNEL_BUILD_PATH="$WORK/out-$arch" LLVM="${LLVM:-}" \
		BUILD_PATH="$BUILD/mutants-$arch" "$@" </dev/null
}

case ${1:-run} in
list|report|run) ;;
*) die "mutants.sh knows list and report, not \"$1\"" "mutants.sh, mutants.sh list or mutants.sh report" ;;
esac
known_arches "$ARCH"
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
git -C "$TREE" rev-parse -q --verify refs/series/base >/dev/null ||
	die "$TREE has no refs/series/base" "make tree"
# report: also into build/mutants.txt, for "make report"
report()
{
	local status=0

	record "$BUILD/mutants.run" "arch: $ARCH" "only: ${ONLY:-}" "kinds: ${KINDS:-}"
	# shellcheck disable=SC2086 # words
	mutants report $ARCH | tee "$BUILD/mutants.txt" || status=$?
	recorded "$BUILD/mutants.run"
	return "$status"
}
# shellcheck disable=SC2086 # words
case ${1:-run} in
list) mutants list $ARCH; exit ;;
report) report; exit ;;
esac

mkdir -p "$OUT"
head=$(git -C "$TREE" rev-parse HEAD)
worktree "$WORK" "$head" 3072
[ "$(git -C "$WORK" rev-parse HEAD)" = "$head" ] || git -C "$WORK" checkout -q --force "$head"
mutants instrument

start=$(date +%s)
for arch in $ARCH; do
	runner "$arch" build >"$OUT/build-$arch.log" 2>&1 ||
		DIE_STATUS=3 die "the kernel with all mutants does not build for $arch" "see $OUT/build-$arch.log"
	mutants run "$arch"
	# What that has let live, on the other hosts that may tell
	[ -z "${VARIANT:-}" ] || continue
	for variant in $(mutants variants "$arch"); do
		VARIANT=$variant mutants run "$arch"
	done
done
wrong=0
report || wrong=1
say "mutants: $(($(date +%s) - start)) s"
exit "$wrong"
