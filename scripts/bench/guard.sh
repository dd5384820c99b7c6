#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# guard.sh [ARCH ...]: is a hot path longer than it was? Count the instructions of
# KVM_RUN, of a reset and of a start on the kernels that are built, and compare with
# those in the file "expected".
#
#	guard.sh record [ARCH ...]	write them there
#
# The same compiler makes the same code, and the count repeats, to SLACK (1), or 20 for
# a start, which takes two vCPUs and varies from boot to boot; what is longer is
# counted in a second boot as well, as all that disturbs makes it longer. Only on
# riscv does it depend on code elsewhere how long a call is, see common.sh: two to
# four instructions there may be for nothing, and have to be recorded. Another
# compiler, or a QEMU whose CPU is another, may differ by PERCENT (4). More is an
# error, less is said: record it, so that it stays.
#
# Exit status: 0, 1 if a path is longer, or a program failed.

. "$(dirname -- "$0")/common.sh"

EXPECTED=${EXPECTED:-$TOP/scripts/bench/expected}
RECORD=0
status=0

# toolchain ARCH: what a count depends on, but for the code
toolchain()
{
	local qemu

	case $1 in
	riscv) qemu='qemu-system-riscv64' ;;
	arm64) qemu='qemu-system-aarch64' ;;
	x86) qemu='qemu-system-x86_64' ;;
	esac
	echo "$("$(cross_of "$1")gcc" --version | head -n 1), $("$qemu" --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/QEMU \1/p')"
}

# count ARCH: "ROW INSTRUCTIONS"
count()
{
	local arch=$1

	KSELFTEST_KVM_RUN_PERF_TEST_ARGS=-q boot "$B" "$arch" quick kvm_run_perf_test MEMORY=512M |
		kvm_run_rows "$arch" | awk '$1 ~ /^(mmio_read|mmio_write|in|out|sbi|immediate_exit|mp_state_reset|hart_start|cpu_on|init_sipi)$/ { printf "%s %.0f\n", $1, $2 }'
}

# compare ARCH SAME: what was counted with what is expected
compare()
{
	local arch=$1 same=$2 slack=${SLACK:-1}

	awk -v arch="$arch" -v same="$same" -v slack="$slack" -v percent="${PERCENT:-4}" '
		FNR == NR { if ($1 == arch && $2 != "toolchain") want[$2] = $3; next }
		{
			limit = !same ? want[$1] * percent / 100 : $1 ~ /^(hart_start|cpu_on|init_sipi)$/ ? 20 : slack
			seen[$1] = 1
			if (!($1 in want))
				printf "  %s %s: %d instructions, none are recorded\n", arch, $1, $2
			else if ($2 > want[$1] + limit)
				bad += tell("longer", $1, $2)
			else if ($2 < want[$1] - limit)
				shorter += tell("shorter", $1, $2)
		}
		function tell(what, row, now) {
			printf "  %s %s: %d instructions, recorded are %d: %s\n", arch, row, now, want[row], what
			return 1
		}
		END {
			for (r in want)
				if (!(r in seen)) {
					printf "  %s %s: was not counted\n", arch, r
					bad++
				}
			if (shorter)
				print "  record what is shorter: scripts/bench/guard.sh record " arch
			exit bad > 0
		}' "$EXPECTED" "$OUT/$arch.now"
}

[ "${1:-}" != record ] || { RECORD=1; shift; }
[ $# -gt 0 ] || { read -r -a all <<<"${ARCH:-riscv arm64 x86}"; set -- "${all[@]}"; }
known_arches "$*"
mkdir -p "$OUT"
tests
for arch; do
	build_programs "$arch"
	record "$OUT/$arch.run" "toolchain: $(toolchain "$arch")"
	count "$arch" >"$OUT/$arch.now"
	[ -s "$OUT/$arch.now" ] || DIE_STATUS=1 die "nothing was counted on $arch" "see $OUT/$arch-quick.log"
	if [ "$RECORD" = 1 ]; then
		{
			grep -v "^$arch " "$EXPECTED" 2>/dev/null || printf "# SPDX-License-Identifier: GPL-2.0-only\n# Instructions, by scripts/bench/guard.sh record\n"
			echo "$arch toolchain $(toolchain "$arch")"
			sed "s/^/$arch /" "$OUT/$arch.now"
		} >"$OUT/expected"
		cp "$OUT/expected" "$EXPECTED"
		continue
	fi
	same=0
	[ "$(sed -n "s/^$arch toolchain //p" "$EXPECTED")" != "$(toolchain "$arch")" ] || same=1
	if ! compare "$arch" "$same" >"$OUT/$arch-first"; then
		mv "$OUT/$arch.now" "$OUT/$arch.first"
		count "$arch" | awk 'FNR == NR { n[$1] = $2; next } { print $1, ($1 in n) && n[$1] < $2 ? n[$1] : $2 }' "$OUT/$arch.first" - >"$OUT/$arch.now"
	fi
	recorded "$OUT/$arch.run"
	compare "$arch" "$same" || { status=1; continue; }
	say "  $arch: $(wc -l <"$OUT/$arch.now") hot paths are no longer than recorded$([ "$same" = 1 ] || echo " + ${PERCENT:-4} %, other tools")"
done
exit "$status"
