#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# coverage.sh: which lines that the series adds or changes does no test reach? gcov
# counts in arch/*/kvm, virt/kvm and the one file of x86's FPU, in a kernel of its own
# that runs the tests of patches/v7.3/tests in each VARIANT, and x86 in Bochs too;
# the last test brings the counters out (coverage/z_gcov.c, coverage.py).
#
# coverage/reasons says why a line is not reached. A line that is not and has no
# reason is an error, and so is a reason for a line that is.
#
#	coverage.sh		build, run, report
#	coverage.sh report	what the last runs have found
#
# VARIANTS= names some of them ("vmx" is Bochs). What was left out of them has left
# lines out: they are printed, and are no error. V=1 prints those with a reason too.

. "$(dirname -- "$0")/../common.sh"

ARCH=${ARCH:-riscv arm64 x86}
RUNNER=${RUNNER:-tools/testing/selftests/kvm/qemu}
WORK=$BUILD/coverage
COVERAGE_OUT=$BUILD/coverage-log
DATA=$TOP/scripts/lanes/coverage
export BUILD TREE RUNNER WORK COVERAGE_OUT
unset ON PROFILE LLVM TOPIC TESTS

case ${1:-run} in
run|report) ;;
*) die "coverage.sh knows report, not \"$1\"" "coverage.sh or coverage.sh report" ;;
esac
known_arches "$ARCH"
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
[ -e "$TREE/$RUNNER/run.sh" ] || die "$TREE has no $RUNNER" "make tree"

# variants ARCH: all of them, or those of VARIANTS that it has
variants()
{
	local all variant wanted=${VARIANTS:-}

	all=$(env -u ARCH make -s -C "$TREE/$RUNNER" ARCH="$1" "print-VARIANTS_$1")
	[ "$1" != x86 ] || all+=" vmx"
	for variant in $all; do
		[ -z "$wanted" ] || [[ " $wanted " == *" $variant "* ]] || continue
		printf '%s\n' "$variant"
	done
}

# expected: "ARCH VARIANT" of all that there is
expected()
{
	local arch variant

	for arch in $ARCH; do
		for variant in $(VARIANTS='' variants "$arch"); do printf '%s %s\n' "$arch" "$variant"; done
	done
}

mkdir -p "$COVERAGE_OUT"
if [ "${1:-run}" = report ]; then
	expected | python3 "$TOP/scripts/lanes/coverage.py" report
	exit
fi

for word in ${VARIANTS:-}; do
	VARIANTS='' expected | grep -q " $word\$" || die "VARIANTS=$word is no variant of $ARCH" \
		"one of: $(VARIANTS='' expected | cut -d' ' -f2 | tr '\n' ' ')"
done
head=$(git -C "$TREE" rev-parse HEAD)
if [ ! -e "$WORK/.git" ]; then
	need_space "$BUILD" 4096
	rm -rf "$WORK"
	git -C "$TREE" worktree prune
	git -C "$TREE" worktree add -q --detach "$WORK" "$head"
fi
[ "$(git -C "$WORK" rev-parse HEAD)" = "$head" ] || git -C "$WORK" checkout -q --force "$head"

# add FILE LINE...: at its end, once
add()
{
	local file=$WORK/$1 text
	shift

	text=$(git -C "$WORK" show "HEAD:${file#"$WORK"/}"; printf '%s\n' "$@")
	[ "$text" = "$(cat "$file")" ] || printf '%s\n' "$text" >"$file"
}
for arch in riscv arm64 x86; do add "arch/$arch/kvm/Makefile" "GCOV_PROFILE := y"; done
add arch/x86/kernel/fpu/Makefile "GCOV_PROFILE_core.o := y"
# Modules have constructors too, of which there are none. Without this line in a header
# that everything includes, ccache has all but KVM from the kernel without gcov.
file=include/linux/module.h
text=$(git -C "$WORK" show "HEAD:$file" | sed 's/^#ifdef CONFIG_CONSTRUCTORS$/#if 0/')
[ "$text" = "$(cat "$WORK/$file")" ] || printf '%s\n' "$text" >"$WORK/$file"
tests=tools/testing/selftests/kvm
cmp -s "$DATA/z_gcov.c" "$WORK/$tests/z_gcov.c" || cp "$DATA/z_gcov.c" "$WORK/$tests/z_gcov.c"
# The last of the list, in Bochs of the alphabet.
text=$(git -C "$WORK" show "HEAD:$tests/Makefile.kvm" |
	sed 's/^TEST_GEN_PROGS += \$(TEST_GEN_PROGS_\$(ARCH))$/& z_gcov/')
grep -q ' z_gcov$' <<<"$text" || die "$tests/Makefile.kvm has no TEST_GEN_PROGS += of an architecture" \
	"adapt scripts/lanes/coverage.sh to it"
[ "$text" = "$(cat "$WORK/$tests/Makefile.kvm")" ] || printf '%s\n' "$text" >"$WORK/$tests/Makefile.kvm"

start=$(date +%s)
wrong=0
export KCONFIG_FRAGMENT=$DATA/gcov.config SUFFIX=-coverage RESULTS=$COVERAGE_OUT/results
for arch in $ARCH; do
	list=$(variants "$arch")
	[ -n "$list" ] || continue
	TREE=$WORK "$TOP/scripts/check.sh" build "$arch" >"$COVERAGE_OUT/build-$arch.log" 2>&1 ||
		DIE_STATUS=3 die "the kernel with gcov does not build for $arch" "see $COVERAGE_OUT/build-$arch.log"
	for variant in $list; do
		profile=
		[ "$variant" != vmx ] || profile=vmx
		names=$(VARIANT=$variant listed_tests "$arch" "$profile" | tr '\n' ' ')
		begin=$(date +%s)
		status=0
		rm -f "$COVERAGE_OUT/$arch-$variant.json"
		env TREE="$WORK" ARCH="$arch" PROFILE="$profile" VARIANT="${variant#vmx}" TESTS="${names}z_gcov" \
			TIMEOUT_SCALE="${TIMEOUT_SCALE:-3}" "$TOP/scripts/check.sh" run \
			>"$COVERAGE_OUT/run-$arch-$variant.log" 2>&1 </dev/null || status=$?
		say "  $arch $variant: $(tail -n 1 "$COVERAGE_OUT/run-$arch-$variant.log"), $(($(date +%s) - begin)) s"
		if [ "$status" != 0 ]; then
			sed -n 's/^wrong: /    /p' "$COVERAGE_OUT/run-$arch-$variant.log"
			wrong=1
		fi
		python3 "$TOP/scripts/lanes/coverage.py" read "$arch" "$variant" \
			"$RESULTS/$arch$SUFFIX-$variant-series.console" || wrong=1
	done
done
expected | python3 "$TOP/scripts/lanes/coverage.py" report || wrong=1
say "coverage: $(($(date +%s) - start)) s"
exit "$wrong"
