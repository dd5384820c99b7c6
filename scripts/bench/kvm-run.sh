#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# kvm-run.sh [ARCH ...]: what KVM_RUN costs in instructions, kernel A against
# kernel B, the base against the series by default.
#
#	A=TREE B=TREE kvm-run.sh x86	any two trees with their kernels in out-ARCH
#
# kvm_run_perf_test.c, which is built among the selftests of B, in a copy of them,
# runs on both, booted by the runner of B in QEMU with -icount shift=0,sleep=off and one CPU: a nanosecond of the guest's clock is an
# instruction, and a boot of the same kernel gives the same result. The clock
# of riscv counts in 100 ns: with 500 calls to a sample that is exact to 0.2.
#
# Kernels of riscv are linked with --no-relax. The linker makes a call one or two
# instructions long, depending on the distance, and so on unrelated code. The
# link is undone at the end.
#
# A row is good if both boots of a kernel have the same minimum. What only B can do
# is measured, not compared. Exit status: 0, or 1 if a row is not good, or if one that
# is KVM_RUN and nothing else costs more than LIMIT (12) instructions more on B.

. "$(dirname -- "$0")/../common.sh"

RUNNER=${RUNNER:-tools/testing/selftests/kvm/qemu}
OUT=$BUILD/bench
TESTS_TREE=$BUILD/bench-tree
B=${B:-$TREE}
status=0

# link TREE ARCH [FLAG]
link()
{
	local tree=$1 arch=$2 flag=${3:-} cross
	local -a cc=()

	cross=$(cross_of "$arch")
	[ "${USE_CCACHE:-n}" = n ] || cc=(CC="ccache ${cross}gcc")
	env -u MAKEFLAGS -u MAKELEVEL make -s -C "$tree" O="$tree/out-$arch" ARCH="$arch" CROSS_COMPILE="$cross" \
		"${cc[@]}" ${flag:+LDFLAGS_vmlinux="-z norelro $flag"} vmlinux Image >"$OUT/link.log" 2>&1 </dev/null ||
		DIE_STATUS=3 die "$tree does not link for $arch" "see $OUT/link.log"
}

# tests: a copy of the selftests of B with the program that measures
tests()
{
	local dir=tools/testing/selftests/kvm

	if [ ! -e "$TESTS_TREE/.git" ]; then
		need_space "$BUILD" 2560
		rm -rf -- "$TESTS_TREE"
		git -C "$B" worktree prune
		git -C "$B" worktree add -q --detach "$TESTS_TREE" HEAD
	fi
	git -C "$TESTS_TREE" checkout -q --force --detach "$(git -C "$B" rev-parse HEAD)"
	cp "$TOP/scripts/bench/kvm_run_perf_test.c" "$TESTS_TREE/$dir/"
	sed -i '1,/^TEST_GEN_PROGS_COMMON +=/s/^TEST_GEN_PROGS_COMMON +=.*/TEST_GEN_PROGS_COMMON += kvm_run_perf_test\n&/' \
		"$TESTS_TREE/$dir/Makefile.kvm"
	grep -q kvm_run_perf_test "$TESTS_TREE/$dir/Makefile.kvm" ||
		die "Makefile.kvm of $B is not as kvm-run.sh knows it" "adjust tests() there"
}

# runner TREE ARCH TARGET
runner()
{
	[ "${USE_CCACHE:-n}" = n ] || export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
	env -u ARCH -u TESTS -u VARIANT -u QEMU -u KERNEL -u BUILD -u VERSION -u SUFFIX -u ON -u PROFILE -u MAKEFLAGS -u MAKELEVEL \
		"$B/$RUNNER/run.sh" ARCH="$2" TREE="$TESTS_TREE" KERNEL_PATH="$1" KERNEL_BUILD_PATH="$1/out-$2" BUILD_PATH="$OUT/$2" \
		TESTS=kvm_run_perf_test NR_CPUS=1 QEMU_ARGS='-icount shift=0,sleep=off' TIMEOUT_SCALE=3 \
		"$3" </dev/null
}

# measure TREE ARCH NAME
measure()
{
	local tree=$1 arch=$2 name=$3 i console unit=1

	[ -e "$tree/out-$arch/vmlinux" ] || DIE_STATUS=3 die "$tree has no $arch kernel" "make build ARCH=$arch, with ON=base as well"
	[ "$arch" != riscv ] || { unit=100; link "$tree" "$arch" --no-relax; }
	for i in 1 2; do
		runner "$tree" "$arch" rerun >"$OUT/$arch-$name.log" 2>&1 ||
			DIE_STATUS=1 die "kvm_run_perf_test fails on $tree" "see $OUT/$arch-$name.log"
		console=$(sed -n 's/^console: //p' "$OUT/$arch-$name.log")
		tr -d '\r' <"$console" | sed -nE 's,.*kvm_run/([a-z_]*):? ([0-9.]+) .*,\1 \2,p' |
			awk -v u="$unit" '{ printf "%s %.2f\n", $1, $2 * u }' >"$OUT/$arch-$name.$i"
	done
	[ "$arch" != riscv ] || link "$tree" "$arch"
}

[ $# -gt 0 ] || { read -r -a all <<<"${ARCH:-riscv arm64 x86}"; set -- "${all[@]}"; }
known_arches "$*"
mkdir -p "$OUT"
A=${A:-$(ON=base "$TOP/scripts/check.sh" base-path)}
tests
for arch; do
	[ -e "$B/out-$arch/vmlinux" ] || DIE_STATUS=3 die "$B has no $arch kernel" "make build ARCH=$arch, with ON=base as well"
	runner "$B" "$arch" build >"$OUT/$arch-build.log" 2>&1 || DIE_STATUS=3 die "the program does not build for $arch" "see $OUT/$arch-build.log"
	measure "$A" "$arch" a
	measure "$B" "$arch" b
	awk -v limit="${LIMIT:-12}" -v arch="$arch" '
		FNR == 1 { file++ }
		{ v[file, $1] = $2; if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } }
		END {
			for (i = 1; i <= n; i++) {
				r = order[i]
				same = v[1, r] == v[2, r] && v[3, r] == v[4, r] && v[3, r] != ""
				if (same && v[1, r] == "") {
					printf "%-6s %-16s %9s %9.2f\n", arch, r, "-", v[3, r]
					continue
				}
				d = v[3, r] - v[1, r]
				bad = !same || (d > limit + 0.4 && r !~ /^(hart_start|cpu_on|init_sipi|mp_state|set_state|mp_state_reset)$/)
				wrong += bad
				printf "%-6s %-16s %9.2f %9.2f %+7.2f%s\n", arch, r, v[1, r], v[3, r], d,
					same ? (bad ? "  more than " limit : "") : "  does not repeat"
			}
			exit wrong > 0 || !n
		}' "$OUT/$arch"-{a,b}.{1,2} || status=1
done
exit "$status"
