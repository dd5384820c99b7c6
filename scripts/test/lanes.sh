# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. full.sh, and lanes on many machines.

# shellcheck disable=SC2034 # in other files
test_lanes_are_named()
{
	fresh
	ok scripts/series.py tree
	no 2 "make tree" env LANES=table scripts/lanes/full.sh
	mkdir -p "$L/tools/testing/selftests/kvm/qemu"
	printf 'print-VARIANTS_riscv:\n\t@echo aia noaia\nprint-VARIANTS_x86:\n\t@echo default\n' \
		>"$L/tools/testing/selftests/kvm/qemu/Makefile"
	touch "$L/tools/testing/selftests/kvm/qemu/run.sh"
	no 2 "LANES=nope is no lane of riscv x86" env ARCH="riscv x86" LANES="table nope" scripts/lanes/full.sh
	has "$OUT" "variant-riscv-noaia debug-riscv rt-riscv clang-riscv debug-x86 rt-x86 clang-x86 vmx checkers others topics stable commits table qemu mutants coverage selftest"
	no 2 "there is no checker nope" scripts/lanes/checkers.sh nope
	no 2 "there is no commit nope" env AFTER=nope scripts/lanes/checkers.sh checkpatch
	no 2 "nope is not a range of commits" scripts/lanes/commits.sh nope
	no 2 "there is no topic nope" scripts/lanes/topics.sh nope
	no 2 "nope is not a version of Linux" scripts/lanes/stable.sh nope
	no 2 "nope is not a version of Linux" scripts/base.sh nope
	no 2 "BASE names no stable kernel" scripts/lanes/stable.sh
	no 2 "does not know nope" scripts/lanes/others.sh nope
	# "make check-full" says so before it installs anything.
	stub apt-get 'echo "apt-get was called"'
	no 2 "LANES=nope is no lane of x86" make check-full ARCH=x86 LANES=nope
	[[ $OUT != *"apt-get was called"* && $OUT != *missing:* ]] || bad "it looked for tools: $OUT"
}

# What full.sh would run on one machine, as jobs for many.
test_lanes_for_many_machines()
{
	fresh
	local out=$WORK/s/matrix
	mkdir -p "tools/testing/selftests/kvm/qemu"
	printf 'print-VARIANTS_%%:\n\t@echo $@ first other\n' >tools/testing/selftests/kvm/qemu/Makefile
	touch tools/testing/selftests/kvm/qemu/run.sh
	# no tree, and what this machine can't do another can
	stub unshare 'exit 1'
	ok make -s lanes
	printf '%s\n' "$OUT" >"$out"
	ok python3 -c '
import json, sys
jobs = json.load(open(sys.argv[1]))["include"]
for job in jobs:
    assert set(job) == {"name", "lane", "arch", "command", "minutes", "timeout", "needs"}, job
    assert job["timeout"] > job["minutes"] > 0 and job["needs"], job
names = [job["name"] for job in jobs]
assert len(set(names)) == len(names)
by = {job["name"]: job for job in jobs}
print(*names)
print(by["series-x86"]["command"], by["commits-riscv"]["command"], by["commits-x86"]["command"], sep="; ")
print(by["variant-riscv-other"]["arch"], by["vmx"]["arch"], by["checkers"]["arch"], sep="; ")
' "$out"
	has "$OUT" "scripts scripts-mutants series-riscv series-arm64 series-x86 base-riscv"
	has "$OUT" "fresh"
	has "$OUT" 'make check-full LANES=series ARCH="x86"; make check-full LANES=commits ARCH="riscv"; make check-full LANES=commits ARCH="x86" OTHERS='
	has "$OUT" "riscv; x86; riscv arm64 x86"
	# Every lane of one list is in the other, and its command is one that full.sh knows.
	no 2 "no lane of" env LANES=nope scripts/lanes/full.sh list
	local lanes
	lanes=${OUT##*one of: }
	is "$(sed -n 's/.*"lane": "\([^"]*\)".*/\1/p' "$out" | uniq | tr '\n' ' ')" "$lanes "
	# Not every machine can do "fresh".
	ok env LANES="$(sed -nE 's/.*"command": "make check-full LANES=([^ ]*) .*/\1/p' "$out" | grep -vx fresh | tr '\n' ' ')" \
		scripts/lanes/full.sh check
	# a lane by its own name is that lane, "debug" all of them
	ok make -s lanes LANES=scripts ARCH=riscv
	is "$(grep -c '"name"' <<<"$OUT")" 1
	ok make -s lanes LANES="debug table" ARCH="riscv x86"
	is "$(sed -n 's/.*"name": "\([^"]*\)".*/\1/p' <<<"$OUT" | tr '\n' ' ')" "debug-riscv debug-x86 table-riscv table-x86 "
	sed -i '/^debug-/d' scripts/lanes/lanes
	no 2 "has no line for the lane debug-riscv" make -s lanes
	echo "series each soon root" >>scripts/lanes/lanes
	no 2 "not PATTERN ARCHES MINUTES NEEDS: series each soon root" make -s lanes
}

# How many resets, from which seed on, and the time that it takes.
test_stress()
{
	fresh
	stub make 'echo "make $*; storm: $KSELFTEST_VCPU_RESET_STORM_ARGS; hostile: $KSELFTEST_VCPU_HOSTILE_TEST_ARGS; $TIMEOUT s"'
	ok env ARCH="riscv x86" N=5000 SEED=7 scripts/lanes/stress.sh
	has "$OUT" "again: make stress N=5000 SEED=7"
	has "$OUT" "_lane ON=series ARCH=riscv x86 TESTS=vcpu_hostile_test vcpu_reset_storm; storm: -n 5000 -s 7; hostile: -n 105 -s 7; 1100 s"
	ok env ARCH=arm64 scripts/lanes/stress.sh
	has "$OUT" "storm: -n 1000000 -s 1"
}

# The debug kernel looks for longer, unless it is told for how long.
test_storm_of_the_debug_kernel()
{
	fresh
	ok scripts/series.py tree
	fake_runner 'ok 1 kvm:alpha\nok 2 kvm:beta\n' 0
	sed -i 's/^echo.*/&; echo "args: $KSELFTEST_VCPU_RESET_STORM_ARGS."/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	ok env ARCH=arm64 PROFILE=debug SUFFIX=-debug scripts/check.sh run
	has "$OUT" "args: -n 10000."
	ok env ARCH=arm64 PROFILE=debug SUFFIX=-debug KSELFTEST_VCPU_RESET_STORM_ARGS="-n 7" scripts/check.sh run
	has "$OUT" "args: -n 7."
	ok env ARCH=arm64 scripts/check.sh run
	has "$OUT" "args: ."
}

# With no tree and hardly a tool, a bad word is what every script speaks of.
test_bad_words_come_first()
{
	fresh
	only
	says() { no 2 "$1" env PATH="$WORK/s/only" "${@:2}"; }
	says "ARCH=mips is not one of" scripts/setup.sh x86 mips
	says "SETUP=maybe is neither" env SETUP=maybe scripts/setup.sh
	says "check.sh knows build" scripts/check.sh nope
	says "ARCH=mips is not one of" scripts/check.sh build mips
	says "ARCH=mips is not one of" env ARCH=mips scripts/check.sh run
	says "ON=nope is neither" env ON=nope scripts/check.sh run
	says "bochs.sh knows get and run" scripts/bochs.sh nope
	says "needs a kernel, an initrd" scripts/bochs.sh run nope
	says "package.sh needs an architecture" scripts/package.sh riscv64
	says "step.sh needs a title" scripts/step.sh nope
	says "locked.sh needs a command" scripts/locked.sh
	says "fresh.sh knows or-here" scripts/fresh.sh nope
	says "ARCH=mips is not one of" env ARCH=mips scripts/fresh.sh
	says "there is no checker nope" scripts/lanes/checkers.sh nope
	says "OTHERS=nope is not one of" env OTHERS=nope scripts/lanes/commits.sh
	says "ARCH=mips is not one of" env ARCH=mips scripts/lanes/commits.sh
	says "full.sh knows check and list" scripts/lanes/full.sh nope
	says "coverage.sh knows report" scripts/lanes/coverage.sh nope
	says "mutants.sh knows list" scripts/lanes/mutants.sh nope
	says "does not know nope" scripts/lanes/others.sh s390 nope
	says "N=nope is not a whole number" env N=nope scripts/lanes/stress.sh
	says "SEED=0 is not a whole number" env SEED=0 scripts/lanes/stress.sh
	says "ARCH=mips is not one of" env ARCH=mips scripts/lanes/stress.sh
	says "selftest.sh knows fresh" scripts/lanes/selftest.sh nope
	says "table.sh knows compare" scripts/lanes/table.sh nope
	says "SIDES=nope is neither" env SIDES="base nope" scripts/lanes/table.sh
	says "qemu.sh knows rerun" scripts/lanes/qemu.sh nope
	says "SIDES=nope is neither" env SIDES=nope scripts/lanes/qemu.sh
	says "COUNT=0 is not a number of 1 or more" env COUNT=0 scripts/lanes/qemu.sh
	says "ROWS=nope names no row of riscv" env ARCH=riscv ROWS="boot_2 nope" scripts/lanes/qemu.sh
	says "ARCH=mips is not one of" scripts/lanes/qemu.sh get mips
	says "ARCH=mips is not one of" scripts/bench/kvm-run.sh mips
	says "ARCH=mips is not one of" scripts/bench/bench.sh mips
	says "ARCH=mips is not one of" scripts/bench/guard.sh mips
	[ ! -e "$BUILD" ] || bad "one has begun: $(ls -R "$BUILD")"
}

# A stable kernel that has one file by another name, with and without the fixes.
test_stable_kernels()
{
	local old=$WORK/s/old dir here=$PWD
	fresh
	ok scripts/series.py tree
	sed -i 's/^line 5$/line five/' "$L/virt/kvm/kvm_main.c"
	commit "$L" $'KVM: Mend five\n\nCc: stable@vger.kernel.org\nTopic: growth'
	sed -i 's/^vcpu 9$/vcpu nine/' "$L/arch/riscv/kvm/vcpu.c"
	commit "$L" $'KVM: Mend nine\n\nCc: stable@vger.kernel.org\nTopic: growth'
	sed -i 's/^line 12$/line twelve/' "$L/virt/kvm/kvm_main.c"
	commit "$L" $'KVM: Mend twelve\n\nCc: stable@vger.kernel.org # 7.0+\nTopic: growth'
	ok scripts/series.py refresh
	make_kernel "$old"
	mv "$old/arch/riscv/kvm/vcpu.c" "$old/arch/riscv/kvm/old.c"
	printf 'config KVM\n' >"$old/Kconfig"
	git -C "$old" init -q && commit "$old" "Linux 6.1.2"
	printf '#!/bin/sh\necho %s %s\n' "$old/.git" "$(git -C "$old" rev-parse HEAD)" >scripts/base.sh
	ok env BUILDS=0 scripts/lanes/stable.sh 6.1.2
	has "$OUT" "applies                      KVM: Mend five"
	# The bug may well be there, elsewhere.
	has "$OUT" "conflicts: vcpu.c            KVM: Mend nine"
	has "$OUT" "not there before 7.0         KVM: Mend twelve"

	mkdir -p patches/stable/6.1.2
	sed -i 's/^vcpu 9$/vcpu nine/' "$old/arch/riscv/kvm/old.c"
	commit "$old" "KVM: Mend 9"
	git -C "$old" format-patch -q -1 -o "$PWD/patches/stable/6.1.2"
	no 1 "CONFLICT: of nothing marked  patches/stable/6.1.2/0001-KVM-Mend-9.patch" env BUILDS=0 scripts/lanes/stable.sh 6.1.2
	sed -i 's/^Subject: .*/Subject: [PATCH] KVM: Mend nine/' patches/stable/6.1.2/*.patch
	ok env BUILDS=0 scripts/lanes/stable.sh 6.1.2
	has "$OUT" "applies as a variant         KVM: Mend nine"

	# "beta" has 6 cases, and fails before. The first kernel does not boot the first time.
	dir=$L/tools/testing/selftests/kvm/qemu
	fake_runner '' 0
	mkdir -p "$dir/arch"
	printf 'CONFIG_KVM=y\nCONFIG_NEWER=y\n' >"$dir/kernel.config"
	: >"$dir/arch/riscv.config"
	cat >"$dir/run.sh" <<-'EOT'
	#!/bin/bash
	for word; do [[ $word != *=* ]] || declare "${word%%=*}=${word#*=}"; done
	[ "$word" != run ] || [ -e "$BUILD_PATH/once" ] || { mkdir -p "$BUILD_PATH" && : >"$BUILD_PATH/once"; exit 4; }
	mkdir -p "$BUILD_PATH/results"
	grep -q "${FIXED_BY:-five}" "$KERNEL_PATH/virt/kvm/kvm_main.c" && not= || not="not "
	echo "${not}ok 1 kvm:$TESTS" >"$BUILD_PATH/results/aia.ktap"
	[ -z "$not" ] || echo "   kvm:$TESTS: # Totals: pass:2 fail:3 xfail:0 xpass:0 skip:1 error:0"
	EOT
	ok env ARCH=riscv scripts/lanes/stable.sh 6.1.2
	has "$OUT" "6.1.2      riscv  beta                     before: not ok 2/6       after: ok"
	is "$(cat "$BUILD/stable-log/6.1.2-riscv-after.config")" "# CONFIG_NEWER is not set"
	no 1 "before: ok               after: not ok 2/6" env ARCH=riscv FIXED_BY='line 5$' scripts/lanes/stable.sh 6.1.2
	cd "$here" || exit
}
