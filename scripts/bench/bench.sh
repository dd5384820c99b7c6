#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# bench.sh [ARCH ...]: what the series costs and saves, in instructions, next to the
# base: KVM_RUN, resets, starts, pauses, against the number of vCPUs and guest
# memory, and what it adds to the kernel.
#
# build/bench/ has the result: bench.csv with everything, bench.txt with the tables
# that are printed, and *.svg. Every machine boots twice (RUNS=), and a value that
# is not the same both times is marked with a "~".
#
# arm64 is measured with FWB, and as nofwb without: where KVM has to clean the
# guest's memory from the caches by itself.
#
# Exit status: 0, 1 if a program failed.

. "$(dirname -- "$0")/common.sh"

RUNS=${RUNS:-2}
CSV=$OUT/bench.csv

# hosts ARCH: the machines
hosts() { if [ "$1" = arm64 ]; then echo default nofwb; else echo default; fi; }

# host_args HOST: added to the options of QEMU; the last -cpu counts
host_args() { [ "$1" != nofwb ] || echo "-cpu neoverse-n1"; }

# values PROGRAM ARCH: "ROW X INSTRUCTIONS" from what a program prints
values()
{
	case $1 in
	kvm_run_perf_test) kvm_run_rows "$2" | awk '{ print $1, 1, $2 }' ;;
	kvm_reset_perf_test) sed -nE 's,.*kvm_reset/([a-z_]+) ([0-9]+) ([0-9.]+) .*,\1 \2 \3,p' ;;
	esac
}

# measure TREE ARCH KERNEL
measure()
{
	local tree=$1 arch=$2 kernel=$3 host program run extra

	[ -e "$tree/out-$arch/vmlinux" ] || DIE_STATUS=3 die "$tree has no $arch kernel" "make build ARCH=$arch, with ON=base as well"
	[ "$arch" != riscv ] || link "$tree" "$arch" --no-relax
	for host in $(hosts "$arch"); do
		extra=$(host_args "$host")
		for program in "${PROGRAMS[@]}"; do
			# The rows of KVM_RUN are about the code, not the machine.
			[ "$host" = default ] || [ "$program" = kvm_reset_perf_test ] || continue
			for run in $(seq "$RUNS"); do
				say "  $arch $host $kernel $program, boot $run" >&2
				boot "$tree" "$arch" "$host-$kernel" "$program" MEMORY=2048M BOOT_TIMEOUT=300 TIMEOUT=900 \
					QEMU_ARGS="-icount shift=0,sleep=off${extra:+ $extra}" |
					values "$program" "$arch" |
					awk -v p="$arch,$host,$kernel,$run" '{ printf "%s,%s,%s,%s\n", p, $1, $2, $3 }' >>"$CSV"
			done
		done
	done
	sizes "$tree" "$arch" "$kernel"
	[ "$arch" != riscv ] || link "$tree" "$arch"
}

# sizes TREE ARCH KERNEL: of the kernel, and of struct kvm_vcpu, which is compiled as
# kvm_main.c is
sizes()
{
	local tree=$1 arch=$2 kernel=$3 out=$1/out-$2 cross command n what value

	cross=$(cross_of "$arch")
	"${cross}size" "$out/vmlinux" | awk 'NR == 2 { print "text", $1; print "data", $2; print "bss", $3 }' >"$OUT/sizes"
	command=$(find "$out" -name .kvm_main.o.cmd -exec sed -n 's/^savedcmd_[^ ]* := //p' {} + | head -n 1)
	echo '#include <linux/kvm_host.h>
char size_of_kvm_vcpu[sizeof(struct kvm_vcpu)];' >"$OUT/size.c"
	command=$(sed -E "s,-o [^ ]+ [^ ]+kvm_main\.c.*,-o $OUT/size.o $OUT/size.c," <<<"$command")
	if [ -n "$command" ] && (cd "$out" && eval "$command") >"$OUT/size.log" 2>&1; then
		n=$("${cross}nm" -S "$OUT/size.o" | awk '/size_of_kvm_vcpu/ { print $2 }')
		echo "kvm_vcpu $((16#$n))" >>"$OUT/sizes"
	fi
	while read -r what value; do
		echo "$arch,default,$kernel,1,$what,1,$value"
	done <"$OUT/sizes" >>"$CSV"
	rm -f "$OUT"/size.{c,o} "$OUT/sizes"
}

# tables: from the CSV
tables()
{
	awk -F, '
	NR == 1 { next }
	{
		h = $1 ($2 == "default" ? "" : " " $2)
		if (!(h in hosts)) { hosts[h] = 1; host[++nh] = h }
		k = h SUBSEP $3 SUBSEP $5 SUBSEP $6
		if (k in v) { if (v[k] != $7) differs[k] = 1; if ($7 < v[k]) v[k] = $7 } else v[k] = $7
		if (!(($5, $6) in rows)) { rows[$5, $6] = 1; row[++nr] = $5; x[nr] = $6 }
	}
	function cell(h, kernel, r, n,    k) {
		k = h SUBSEP kernel SUBSEP r SUBSEP n
		return k in v ? sprintf("%.0f%s", v[k], k in differs ? "~" : "") : "-"
	}
	function one(title, pattern, with_x,    i, j, b, s, d) {
		printf "\n%s\n\n  %-12s %-18s %7s %13s %13s %10s\n", title, "", "", with_x, "base", "series", "more"
		for (j = 1; j <= nh; j++)
			for (i = 1; i <= nr; i++) {
				if (row[i] !~ pattern)
					continue
				b = cell(host[j], "base", row[i], x[i]); s = cell(host[j], "series", row[i], x[i])
				if (b == "-" && s == "-")
					continue
				d = b == "-" || s == "-" ? "" : sprintf("%+.0f", s - b)
				printf "  %-12s %-18s %7s %13s %13s %10s\n", host[j], row[i], with_x == "" ? "" : x[i], b, s, d
			}
	}
	END {
		one("KVM_RUN, pauses, starts and one reset, instructions", "^(mmio_read|mmio_write|in|out|sbi|immediate_exit|pause_.*|hart_start|cpu_on|init_sipi|toggle|mp_state|mp_state_reset|set_state)$", "")
		one("Reset of all vCPUs, instructions", "_vcpus$", "vCPUs")
		one("Reset of one vCPU, guest memory in use, instructions", "_mib$", "MiB")
		one("Reset of all vCPUs that share 64 MiB, instructions", "_shared$", "vCPUs")
		one("ioctls of QEMU for a reset", "^ioctls$", "")
		one("Bytes", "^(text|data|bss|kvm_vcpu)$", "")
	}' "$CSV"
}

# series NAME ARCH HOST KERNEL ROW: a data file for gnuplot, and its piece of "plot"
series()
{
	local file=$OUT/plot-$2-$3-$4-$5.dat

	awk -F, -v a="$2" -v h="$3" -v k="$4" -v r="$5" '$1 == a && $2 == h && $3 == k && $4 == 1 && $5 == r { print $6, $7 }' "$CSV" >"$file"
	[ ! -s "$file" ] || printf "'%s' with linespoints title '%s', " "$file" "$1"
}

# plot NAME TITLE XLABEL PIECES
plot()
{
	[ -n "$4" ] || return 0
	gnuplot <<-END 2>"$OUT/gnuplot.log" || DIE_STATUS=1 die "gnuplot fails" "see $OUT/gnuplot.log"
		set terminal svg size 800,500 noenhanced background "white"
		set output "$OUT/$1.svg"
		set title "$2"
		set xlabel "$3"
		set ylabel "instructions"
		set logscale xy
		set key left top
		set grid
		plot ${4%, }
	END
}

plots()
{
	local arch host

	if ! type -P gnuplot >/dev/null; then
		say "gnuplot is missing, there are no plots (package gnuplot-nox)"
		return
	fi
	for arch; do
		for host in $(hosts "$arch"); do
			plot "vcpus-$arch-$host" "Reset of a machine, $arch, $host" "vCPUs" \
				"$(series "ioctls of QEMU, base" "$arch" "$host" base qemu_vcpus
				series "what KVM had before, base" "$arch" "$host" base init_vcpus
				series "KVM_MP_STATE_RESET" "$arch" "$host" series request_vcpus)"
			plot "memory-$arch-$host" "Reset of a vCPU, $arch, $host" "MiB in use" \
				"$(series "what KVM had before, base" "$arch" "$host" base init_mib
				series "KVM_MP_STATE_RESET" "$arch" "$host" series request_mib)"
		done
	done
	rm -f "$OUT"/plot-*.dat
}

[ $# -gt 0 ] || { read -r -a all <<<"${ARCH:-riscv arm64 x86}"; set -- "${all[@]}"; }
known_arches "$*"
mkdir -p "$OUT"
A=${A:-$(ON=base "$TOP/scripts/check.sh" base-path)}
tests
record "$OUT/bench.run" "arch: $*"
echo "arch,host,kernel,run,row,x,value" >"$CSV"
for arch; do
	build_programs "$arch"
	measure "$A" "$arch" base
	measure "$B" "$arch" series
done
tables | tee "$OUT/bench.txt"
plots "$@"
recorded "$OUT/bench.run"
say ""
say "values: $CSV"
[ -z "$(compgen -G "$OUT/*.svg")" ] || say "plots:  $OUT/*.svg"
