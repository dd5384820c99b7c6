# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. scripts/bench.

# bench_tree: a tree whose runner boots nothing, and "prints" what is in $WORK/s/prints
bench_tree()
{
	local kvm=tools/testing/selftests/kvm

	mkdir -p "$L/$kvm/qemu" "$L/out-x86"
	git -C "$L" init -q 2>/dev/null
	printf 'TEST_GEN_PROGS_COMMON = a_test\nTEST_GEN_PROGS_x86 = $(TEST_GEN_PROGS_COMMON)\nTEST_GEN_PROGS += $(TEST_GEN_PROGS_$(ARCH))\n' >"$L/$kvm/Makefile.kvm"
	cat >"$L/$kvm/qemu/run.sh" <<-EOT
	#!/bin/bash
	echo "\$*" >>"$WORK/s/runs"
	[[ \$* != *rerun ]] || echo "console: $WORK/s/prints"
	EOT
	chmod +x "$L/$kvm/qemu/run.sh"
	commit "$L" "a tree"
	touch "$L/out-x86/vmlinux"
	stub gcc 'echo "gcc 1"'
	stub qemu-system-x86_64 'echo "QEMU emulator version 10.0.2 (Debian)"'
}

test_guard()
{
	fresh
	bench_tree
	export EXPECTED=$WORK/s/expected
	printf 'kvm_run/mmio_read 2000.4 ticks (x)\nkvm_run/out 1000.0 ticks (x)\nkvm_run/pause_set 5.0 ticks (x)\n' >"$WORK/s/prints"
	ok scripts/bench/guard.sh record x86
	is "$(grep -v '^#' "$EXPECTED")" $'x86 toolchain gcc 1, QEMU 10.0.2\nx86 mmio_read 2000\nx86 out 1000'
	has "$(tail -n 1 "$WORK/s/runs")" "-icount shift=0,sleep=off"
	is "$(grep '^TEST_GEN_PROGS' "$BUILD/bench-tree/tools/testing/selftests/kvm/Makefile.kvm")" "TEST_GEN_PROGS += kvm_run_perf_test kvm_reset_perf_test"
	ok scripts/bench/guard.sh x86
	has "$OUT" "x86: 2 hot paths are no longer than recorded"
	# Three instructions, for this compiler and for another one.
	sed -i 's/2000.4/2003.4/' "$WORK/s/prints"
	no 1 "x86 mmio_read: 2003 instructions, recorded are 2000: longer" scripts/bench/guard.sh x86
	sed -i 's/gcc 1/gcc 2/' "$EXPECTED"
	ok scripts/bench/guard.sh x86
	has "$OUT" "no longer than recorded + 4 %, other tools"
	sed -i 's/2003.4/2100/' "$WORK/s/prints"
	no 1 "longer" scripts/bench/guard.sh x86
	sed -i 's/2100/1900/' "$WORK/s/prints"
	ok scripts/bench/guard.sh x86
	has "$OUT" "1900 instructions, recorded are 2000: shorter"
	# One that isn't counted is no success.
	sed -i /out/d "$WORK/s/prints"
	no 1 "x86 out: was not counted" scripts/bench/guard.sh x86
	: >"$WORK/s/prints"
	no 1 "nothing was counted" scripts/bench/guard.sh x86
	rm "$L/out-x86/vmlinux"
	no 3 "has no x86 kernel" scripts/bench/guard.sh x86
	unset EXPECTED
}

test_bench()
{
	fresh
	bench_tree
	export A=$L
	stub size 'printf "text data bss\n100 20 3\n"'
	stub gnuplot 'sed -n "s/^.*set output \"\(.*\)\"/\1/p" >"$WORK/plots"; cat "$WORK/plots" | xargs -r touch'
	export WORK
	printf 'kvm_run/out 1000.0 ticks (x)\nkvm_reset/qemu_vcpus 1 50000 (x)\nkvm_reset/qemu_vcpus 64 3200000 (x)\n' >"$WORK/s/prints"
	ok scripts/bench/bench.sh x86
	has "$OUT" "KVM_RUN, pauses, starts and one reset"
	is "$(grep -c '^x86,default,base,[12],out,1,1000.00$' "$BUILD/bench/bench.csv")" 2
	is "$(grep -c '^x86,default,series,[12],qemu_vcpus,64,3200000$' "$BUILD/bench/bench.csv")" 2
	grep -qE '^  x86 +qemu_vcpus +64 +3200000 +3200000 +\+0$' "$BUILD/bench/bench.txt" || bad "no such row: $(cat "$BUILD/bench/bench.txt")"
	grep -qE '^  x86 +text +100 +100 +\+0$' "$BUILD/bench/bench.txt" || bad "no size: $(cat "$BUILD/bench/bench.txt")"
	[ -e "$BUILD/bench/vcpus-x86-default.svg" ] || bad "no plot"
	rm "$WORK/s/bin/gnuplot"
	if ! type -P gnuplot >/dev/null; then
		ok env RUNS=1 scripts/bench/bench.sh x86
		has "$OUT" "package gnuplot-nox"
	fi
	unset A
}

test_profile()
{
	fresh
	bench_tree
	export WORK
	stub nm 'printf "%s\n" "ffffffff81000010 T ask" "ffffffff81000020 t reset" "ffffffff81000040 T memset"'
	# One instruction of the first, two of the second; the second sample has a tick.
	stub gdb-multiarch '
	n=0
	log=$(sed -n "s/^monitor logfile //p" "$5" | head -n 2)
	for f in $log; do
		n=$((n + 1))
		for pc in 010 024 028 $([ $n = 1 ] || echo 040 044 048); do
			echo "Trace 0: 0x7f0000000000 [00000000/ffffffff81000$pc/00000003/ff000000] x"
		done >$f
	done
	cp "$5" "$WORK/s/commands"'
	ok scripts/bench/profile.sh x86 ask
	is "$OUT" $'x86, ask: 3 instructions\n       2  66.7 %  reset\n       1  33.3 %  ask'
	has "$(cat "$WORK/s/commands")" "break *ask"
	has "$(tail -n 1 "$WORK/s/runs")" "-gdb unix:"
	no 2 "has no function nobody" scripts/bench/profile.sh x86 nobody
	stub gdb-multiarch 'true'
	no 1 "ask was not called 20 times on x86" scripts/bench/profile.sh x86 ask
	no 2 "no architecture is given" scripts/bench/profile.sh
}
