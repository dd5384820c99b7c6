# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by the scripts here: programs that count instructions, built among the
# selftests of the tree B, in a copy of them, and booted by the runner of B in QEMU
# with -icount shift=0,sleep=off and one CPU: a nanosecond of the guest's clock is
# an instruction, and a boot of the same kernel gives the same result.

. "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"

unset MAKEFLAGS MAKELEVEL
OUT=$BUILD/bench
TESTS_TREE=$BUILD/bench-tree
B=${B:-$TREE}
PROGRAMS=(kvm_run_perf_test kvm_reset_perf_test)

# link TREE ARCH [FLAG]: the linker of riscv makes a call one or two instructions
# long, depending on the distance, and so on unrelated code, unless --no-relax is
# given. Without FLAG, as it was.
link()
{
	local tree=$1 arch=$2 flag=${3:-} cross
	local -a cc=()

	cross=$(cross_of "$arch")
	! use_ccache || cc=(CC="ccache ${cross}gcc")
	make -s -C "$tree" O="$tree/out-$arch" ARCH="$arch" CROSS_COMPILE="$cross" \
		"${cc[@]}" ${flag:+LDFLAGS_vmlinux="-z norelro $flag"} vmlinux Image >"$OUT/link.log" 2>&1 </dev/null ||
		DIE_STATUS=3 die "$tree does not link for $arch" "see $OUT/link.log"
}

# tests: a copy of the selftests of B with the programs that measure
tests()
{
	local dir=tools/testing/selftests/kvm program

	TREE=$B worktree "$TESTS_TREE" HEAD 2560
	git -C "$TESTS_TREE" checkout -q --force --detach "$(git -C "$B" rev-parse HEAD)"
	for program in "${PROGRAMS[@]}"; do
		cp "$TOP/scripts/bench/$program.c" "$TESTS_TREE/$dir/"
	done
	# No other program is built.
	sed -i -E -e '/^TEST_(GEN_)?PROGS(_EXTENDED)?_[A-Za-z0-9]+ \+?= /d' \
		-e "s/^TEST_GEN_PROGS \+= .*/TEST_GEN_PROGS += ${PROGRAMS[*]}/" "$TESTS_TREE/$dir/Makefile.kvm"
	grep -q "^TEST_GEN_PROGS += ${PROGRAMS[*]}\$" "$TESTS_TREE/$dir/Makefile.kvm" ||
		die "Makefile.kvm of $B is not as scripts/bench knows it" "adjust tests() in scripts/bench/common.sh"
}

# runner TREE ARCH TARGET [PROGRAM [ARGUMENT-OF-THE-RUNNER...]]
runner()
{
	local tree=$1 arch=$2 target=$3 program=${4:-}
	shift $(($# < 4 ? $# : 4))

	in_runner "$B" ARCH="$arch" TREE="$TESTS_TREE" KERNEL_PATH="$tree" KERNEL_BUILD_PATH="$tree/out-$arch" LLVM="${LLVM:-}" \
		BUILD_PATH="$OUT/$arch" TESTS="$program" NR_CPUS=1 TIMEOUT_SCALE=3 QEMU_ARGS='-icount shift=0,sleep=off' \
		"$@" "$target" </dev/null
}

# build_programs ARCH
build_programs()
{
	[ -e "$B/out-$1/vmlinux" ] || DIE_STATUS=3 die "$B has no $1 kernel" "make build ARCH=$1"
	{ runner "$B" "$1" selftests && runner "$B" "$1" image; } >"$OUT/$1-build.log" 2>&1 ||
		DIE_STATUS=3 die "the programs do not build for $1" "see $OUT/$1-build.log"
}

# boot TREE ARCH NAME PROGRAM [ARGUMENT...]: what the program has printed, on stdout
boot()
{
	local tree=$1 arch=$2 name=$3 program=$4 console
	shift 4

	runner "$tree" "$arch" rerun "$program" "$@" >"$OUT/$arch-$name.log" 2>&1 ||
		DIE_STATUS=1 die "$program fails on $tree" "see $OUT/$arch-$name.log"
	console=$(sed -n 's/^console: //p' "$OUT/$arch-$name.log")
	tr -d '\r' <"$console"
}

# kvm_run_rows ARCH: "ROW INSTRUCTIONS" from what kvm_run_perf_test prints
kvm_run_rows()
{
	local unit=1

	[ "$1" != riscv ] || unit=100
	sed -nE 's,.*kvm_run/([a-z_]*):? ([0-9.]+) .*,\1 \2,p' |
		awk -v u="$unit" '{ printf "%s %.2f\n", $1, $2 * u }'
}
