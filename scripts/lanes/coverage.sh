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
# report: also into build/coverage.txt, for "make report"
report()
{
	local status=0

	record "$BUILD/coverage.run" "arch: $ARCH"
	expected | python3 "$TOP/scripts/lanes/coverage.py" report | tee "$BUILD/coverage.txt" || status=$?
	recorded "$BUILD/coverage.run"
	return "$status"
}
if [ "${1:-run}" = report ]; then
	report
	exit
fi

for word in ${VARIANTS:-}; do
	VARIANTS='' expected | grep -q " $word\$" || die "VARIANTS=$word is no variant of $ARCH" \
		"one of: $(VARIANTS='' expected | cut -d' ' -f2 | tr '\n' ' ')"
done
head=$(git -C "$TREE" rev-parse HEAD)
worktree "$WORK" "$head" 4096
[ "$(git -C "$WORK" rev-parse HEAD)" = "$head" ] || git -C "$WORK" checkout -q --force "$head"

# edit FILE SED-EXPRESSION...: what there is to it, written only if it is not yet there
edit()
{
	local file=$1 old text
	shift

	old=$(git -C "$WORK" show "HEAD:$file")
	text=$(sed "$@" <<<"$old")
	[ "$text" != "$old" ] || die "$file is not what it was" "adapt scripts/lanes/coverage.sh to it"
	[ "$text" = "$(cat "$WORK/$file")" ] || printf '%s\n' "$text" >"$WORK/$file"
}
# What CONFIG_GCOV_KERNEL does, for KVM alone and without the option: with it, there is
# nothing that ccache could take from the kernel without gcov.
for arch in riscv arm64 x86; do
	# shellcheck disable=SC2016 # make expands it
	edit "arch/$arch/kvm/Makefile" -e '$a ccflags-y += $(CFLAGS_GCOV)'
done
# shellcheck disable=SC2016
edit arch/x86/kernel/fpu/Makefile -e '$a CFLAGS_core.o += $(CFLAGS_GCOV)'
edit kernel/Makefile -e 's/^obj-$(CONFIG_GCOV_KERNEL) += gcov/obj-y += gcov/'
edit include/asm-generic/vmlinux.lds.h -e 's/^\(# *\)ifdef CONFIG_CONSTRUCTORS$/\1if 1/' \
	-e 's/^#if defined(CONFIG_GCOV_KERNEL) /#if 1 /'
edit init/main.c -e 's/^#if defined(CONFIG_CONSTRUCTORS) /#if 1 /'
# The last of the list.
tests=tools/testing/selftests/kvm
edit $tests/Makefile.kvm -e 's/^TEST_GEN_PROGS += $(TEST_GEN_PROGS_$(ARCH))$/& z_gcov/'
cmp -s "$DATA/z_gcov.c" "$WORK/$tests/z_gcov.c" || cp "$DATA/z_gcov.c" "$WORK/$tests/z_gcov.c"

start=$(date +%s)
wrong=0
export SUFFIX=-coverage RESULTS=$COVERAGE_OUT/results
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
report || wrong=1
say "coverage: $(($(date +%s) - start)) s"
exit "$wrong"
