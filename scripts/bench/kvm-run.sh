#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# kvm-run.sh [ARCH ...]: what KVM_RUN costs in instructions, kernel A against
# kernel B, the base against the series by default.
#
#	A=TREE B=TREE kvm-run.sh x86	any two trees with their kernels in out-ARCH
#
# kvm_run_perf_test.c runs on both, see common.sh. The clock of riscv counts in
# 100 ns: with 500 calls to a sample that is exact to 0.2. Kernels of riscv are
# linked with --no-relax, which is undone at the end.
#
# A row is good if both boots of a kernel have the same minimum. What only B can do
# is measured, not compared. Exit status: 0, or 1 if a row is not good, or if one that
# is KVM_RUN and nothing else costs more than LIMIT (4) instructions more on B.

. "$(dirname -- "$0")/common.sh"

status=0

# measure TREE ARCH NAME
measure()
{
	local tree=$1 arch=$2 name=$3 i

	[ -e "$tree/out-$arch/vmlinux" ] || DIE_STATUS=3 die "$tree has no $arch kernel" "make build ARCH=$arch, with ON=base as well"
	[ "$arch" != riscv ] || link "$tree" "$arch" --no-relax
	for i in 1 2; do
		boot "$tree" "$arch" "$name" kvm_run_perf_test | kvm_run_rows "$arch" >"$OUT/$arch-$name.$i"
	done
	[ "$arch" != riscv ] || link "$tree" "$arch"
}

[ $# -gt 0 ] || { read -r -a all <<<"${ARCH:-riscv arm64 x86}"; set -- "${all[@]}"; }
known_arches "$*"
mkdir -p "$OUT"
A=${A:-$(ON=base "$TOP/scripts/check.sh" base-path)}
tests
for arch; do
	build_programs "$arch"
	measure "$A" "$arch" a
	measure "$B" "$arch" b
	awk -v limit="${LIMIT:-4}" -v arch="$arch" '
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
				bad = !same || (d > limit + 0.4 && r ~ /^(mmio_(read|write)|in|out|sbi|immediate_exit)$/)
				wrong += bad
				printf "%-6s %-16s %9.2f %9.2f %+7.2f%s\n", arch, r, v[1, r], v[3, r], d,
					same ? (bad ? "  more than " limit : "") : "  does not repeat"
			}
			exit wrong > 0 || !n
		}' "$OUT/$arch"-{a,b}.{1,2} || status=1
done
exit "$status"
