#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# profile.sh ARCH [FUNCTION]: where the instructions of one call go, by function of
# the kernel, those that it calls included. FUNCTION is kvm_vcpu_request_reset unless
# given: the one of KVM_MP_STATE_RESET. kvm_run_perf_test runs on the series, gdb stops
# at a call (CALL=, the 20th, when static branches and the like have settled), and has
# QEMU log the address of each instruction until the function returns. It does so for
# 25 calls, and the shortest counts: the one without an interrupt. (Without -icount:
# its clock jumps when gdb has stopped the machine, and each call takes a tick.)
#
# Exit status: 0, or 1 if FUNCTION is not called so often.

. "$(dirname -- "$0")/common.sh"

# Where a function that has just been entered returns to, in the words of gdb
return_of()
{
	case $1 in
	riscv) echo "\$ra" ;;
	arm64) echo "\$x30" ;;
	x86) echo "*(unsigned long *)\$sp" ;;
	esac
}

# commands DIRECTORY: what gdb is told
commands()
{
	local i

	cat <<-END
	set pagination off
	set confirm off
	set language c
	target remote $1/gdb
	break *$function
	ignore 1 $((${CALL:-20} - 1))
	continue
	monitor one-insn-per-tb on
	END
	for i in $(seq 25); do
		cat <<-END
		delete
		break *$(return_of "$arch")
		monitor logfile $1/log.$i
		monitor log exec,nochain
		continue
		monitor log none
		delete
		break *$function
		continue
		END
	done
	echo "monitor quit"
}

# by_function VMLINUX: from the log of QEMU, "INSTRUCTIONS FUNCTION", most first
by_function()
{
	{ "$(cross_of "$arch")nm" "$1" | awk '$2 ~ /^[tTwW]$/ && $3 !~ /^\$/' | LC_ALL=C sort; echo; cat; } | awk '
		function value(hex,    i, v) {
			# The low 48 bits: exact, and all that differs.
			hex = substr(hex, length(hex) - 11)
			for (i = 1; i <= length(hex); i++)
				v = v * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
			return v
		}
		/^$/ { log_starts = 1; next }
		!log_starts { v = value($1); if (n && at[n] == v) next; at[++n] = v; name[n] = $3; next }
		match($0, /\[[0-9a-f]+\/[0-9a-f]+\//) {
			split(substr($0, RSTART + 1), field, "/")
			v = value(field[2]); lo = 1; hi = n
			while (lo < hi) { mid = int((lo + hi + 1) / 2); if (at[mid] <= v) lo = mid; else hi = mid - 1 }
			count[name[lo]]++
		}
		END { for (f in count) print count[f], f }' | LC_ALL=C sort -k1,1nr -k2
}

[ $# -ge 1 ] || die "no architecture is given" "scripts/bench/profile.sh riscv"
arch=$1
function=${2:-kvm_vcpu_request_reset}
known_arches "$arch"
type -P gdb-multiarch >/dev/null || die "gdb-multiarch is missing" "apt-get install gdb-multiarch"
mkdir -p "$OUT"
tests
build_programs "$arch"
vmlinux=$B/out-$arch/vmlinux
symbols=$("$(cross_of "$arch")nm" "$vmlinux")
grep -q " [tTwW] $function\$" <<<"$symbols" ||
	die "the $arch kernel has no function $function" "grep it in $B/out-$arch/System.map"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commands "$work" >"$work/commands"
boot "$B" "$arch" profile kvm_run_perf_test \
	QEMU_ARGS="-gdb unix:$work/gdb,server=on,wait=off -S" >/dev/null 2>&1 &
until [ -S "$work/gdb" ] || ! kill -0 $! 2>/dev/null; do
	sleep 0.2
done
timeout "${TIMEOUT:-600}" gdb-multiarch -q -nx -batch -x "$work/commands" "$vmlinux" >"$OUT/$arch-gdb.log" 2>&1 || :
wait || :
[ -s "$work/log.1" ] || DIE_STATUS=1 die "$function was not called ${CALL:-20} times on $arch" "CALL=1, or see $OUT/$arch-gdb.log"
shortest=$(wc -l "$work"/log.* | awk '$2 != "total" && $1 > 0' | sort -n | awk 'NR == 1 { print $2 }')
by_function "$vmlinux" <"$shortest" | awk -v a="$arch" -v f="$function" '
	{ sum += $1; count[NR] = $1; name[NR] = $2 }
	END {
		printf "%s, %s: %d instructions\n", a, f, sum
		for (i = 1; i <= NR; i++)
			printf "  %6d  %4.1f %%  %s\n", count[i], 100 * count[i] / sum, name[i]
	}'
