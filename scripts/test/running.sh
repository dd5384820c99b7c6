# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. check.sh and bochs.sh: verdicts, and what goes wrong.

# shellcheck disable=SC2153 # in other files
# Bochs that says what it is given, and a runner that packs it
fake_bochs()
{
	printf '#!/bin/bash\n%s\n' 'echo "bochs: $(cat "$3"), boot: $BOOT_TIMEOUT"; mkdir -p "$4"
		echo "ok 1 kvm:alpha" >"$4/results.ktap"; echo "not ok 2 kvm:beta # did not build" >>"$4/results.ktap"; exit 1' >scripts/bochs.sh
	fake_runner '' 7
	sed -i '/^case/i case "$*" in *" initrd"*) echo "$TESTS, skip: $SKIP, cpus: $NR_CPUS" >"$BUILD_PATH/initrd"; echo "$BUILD_PATH/initrd"; exit ;; esac' \
		"$L/tools/testing/selftests/kvm/qemu/run.sh"
	mkdir -p "$BUILD/x86"
	printf 'kvm:%s x\n' alpha beta scripts >"$BUILD/x86/tests"
}

# A runner that says what the test wants, for check.sh.
fake_runner()
{
	mkdir -p "$L/tools/testing/selftests/kvm/qemu"
	cat >"$L/tools/testing/selftests/kvm/qemu/run.sh" <<-EOT
	#!/bin/bash
	for a; do [[ \$a == *=* ]] && declare "\$a"; done
	case "\$*" in
	*print-VARIANTS_*) echo vhe nvhe; exit ;;
	*print-VARIANT*) echo vhe; exit ;;
	*print-QEMU*) echo qemu-stub; exit ;;
	esac
	echo "\$ARCH: \$TESTS\${SKIP:+, skip: \$SKIP}"
	mkdir -p "\$BUILD_PATH/results"
	printf '%b' "$1" >"\$BUILD_PATH/results/vhe.ktap"
	exit $2
	EOT
	chmod +x "$L/tools/testing/selftests/kvm/qemu/run.sh"
}

test_verdicts()
{
	fresh
	ok scripts/series.py tree
	fake_runner 'ok 1 kvm:alpha\nok 2 kvm:beta # SKIP no such thing\n' 0
	ok env ARCH="arm64 x86" scripts/check.sh run
	is "$(tail -n 1 <<<"$OUT")" "2 passed, 0 failed, 2 skipped"
	has "$OUT" "arm64: alpha beta"
	# What it did not run is said before the last line.
	is "$(awk 'length > 80' <<<"$OUT")" ""
	OUT=$(sed -n '/^left out/,/^  make check-full/p' <<<"$OUT" | paste -sd' ' | tr -s ' ')
	has "$OUT" "left out: the base; PROFILE=debug; PROFILE=rt; PROFILE=vmx; arm64 VARIANT=nvhe; x86"
	has "$OUT" "clang; all tests but those of patches/v7.3/tests"
	ok env ARCH=riscv scripts/check.sh run
	has "$OUT" "riscv: alpha beta gamma"
	# Slow ones are left to other lanes.
	printf '*\tdelta\tcheck=no rt=no\n' >>patches/v7.3/tests
	ok env ARCH=riscv scripts/check.sh run
	hasnt "$OUT" delta
	ok env ARCH=riscv PROFILE=debug scripts/check.sh run
	has "$OUT" "riscv: alpha beta gamma delta"
	fake_runner 'ok 1 kvm:alpha\nnot ok 2 kvm:beta\n' 1
	no 1 "1 passed, 1 failed, 0 skipped" env ARCH=arm64 scripts/check.sh run
	has "$OUT" "wrong: arm64 beta"
	is "$(cat "$BUILD/status")" 1
	for s in 3 4 5; do
		fake_runner 'ok 1 kvm:alpha\n' "$s"
		no "$s" "arm64 (status $s)" env ARCH=arm64 scripts/check.sh run
		is "$(cat "$BUILD/status")" "$s"
	done
	# one test of one architecture
	mkdir -p "$BUILD"/{arm64,riscv}
	echo "kvm:alpha /x/alpha" >"$BUILD/arm64/tests"
	echo "kvm:gamma /x/gamma" >"$BUILD/riscv/tests"
	fake_runner 'ok 1 kvm:alpha\n' 0
	ok env ARCH="arm64 riscv" TESTS="al*" scripts/check.sh run
	has "$OUT" "riscv: has none of al*"
	is "$(tail -n 1 <<<"$OUT")" "1 passed, 0 failed, 0 skipped"
	no 2 "TESTS=omega names no test of arm64 riscv" env ARCH="arm64 riscv" TESTS="alpha omega" scripts/check.sh run
	# silence: a runner that dies without a word, and what an earlier run left
	fake_runner '' 139
	no 5 "arm64 (status 139)" env ARCH=arm64 scripts/check.sh run
}

# "make check" has the short rows of check-qemu after the tests, if nothing is chosen.
test_guests_of_qemu_are_counted()
{
	fresh
	ok scripts/series.py tree
	fake_runner 'ok 1 kvm:alpha\nok 2 kvm:beta\n' 0
	guests()
	{
		printf '%s\n' '#!/bin/sh' '[ "$1" = short ] || exit 9' "dir=$BUILD/check-qemu/\$ARCH-series/results" \
			'mkdir -p $dir' "printf '$1' >\$dir/vhe.ktap" "exit $2" >scripts/lanes/qemu.sh
	}
	guests 'ok 1 kvm:qemu_reboot_2\nok 2 kvm:qemu_reset_2\n' 0
	ok env ARCH=arm64 WITH_QEMU=y scripts/check.sh run
	is "$(tail -n 1 <<<"$OUT")" "4 passed, 0 failed, 0 skipped"
	grep -q '^ok 4 arm64\.[a-z]*\.qemu_reset_2' "$BUILD/results/verdict.ktap" || bad "$(<"$BUILD/results/verdict.ktap")"
	ok env ARCH=arm64 WITH_QEMU= scripts/check.sh run
	is "$(tail -n 1 <<<"$OUT")" "2 passed, 0 failed, 0 skipped"
	guests 'ok 1 kvm:qemu_reboot_2\nnot ok 2 kvm:qemu_reset_2 # exit=1\n' 1
	no 1 "3 passed, 1 failed, 0 skipped" env ARCH=arm64 WITH_QEMU=y scripts/check.sh run
	has "$OUT" "wrong: arm64 qemu_reset_2"
	has "$OUT" "make check-qemu SHORT=1"
	guests '' 3
	no 3 "2 passed, 1 failed, 0 skipped" env ARCH=arm64 WITH_QEMU=y scripts/check.sh run
	has "$OUT" "wrong: arm64 (status 3)"
	with_qemu() { make -pq help "$@" 2>/dev/null | sed -n 's/^with_qemu := //p'; }
	is "$(with_qemu)" y
	is "$(with_qemu CHECK_QEMU=n)$(with_qemu ON=base)$(with_qemu TESTS=alpha)$(with_qemu PROFILE=debug)$(with_qemu LLVM=-19)" ""
}

# Words of TESTS and SKIP are patterns of tests, not of files here.
test_patterns()
{
	fresh
	ok scripts/series.py tree
	mkdir -p "$BUILD"/{arm64,riscv}
	printf 'kvm:alpha x\nkvm:select x\n' >"$BUILD/arm64/tests"
	printf 'kvm:alpha x\nkvm:gamma x\n' >"$BUILD/riscv/tests"
	fake_runner 'ok 1 kvm:alpha\n' 0
	ok env ARCH="arm64 riscv" TESTS="s* alpha" scripts/check.sh run
	has "$OUT" "arm64: s* alpha"
	# One that has no such test does not hear of it.
	ok env ARCH="arm64 riscv" SKIP="gamma s*" scripts/check.sh run
	has "$OUT" "arm64: alpha beta, skip: s*"
	has "$OUT" "riscv: alpha beta gamma, skip: gamma"
	ok env ARCH="arm64 riscv" SKIP="gamma omega" scripts/check.sh run
	has "$OUT" "SKIP=omega names no test of arm64 riscv"
}

test_bochs_gets_names()
{
	fresh
	ok scripts/series.py tree
	fake_bochs
	export ARCH=x86 PROFILE=vmx BOOT_TIMEOUT=120 TIMEOUT_SCALE=3
	# One that did not build is no success, on the base neither.
	no 1 "bochs: , skip: , cpus: 1, boot: 720" env TESTS=all scripts/check.sh run
	has "$OUT" "1 passed, 1 failed, 0 skipped"
	has "$(cat "$BUILD/results/verdict.ktap")" "not ok 2 x86.vmx.beta # did not build"
	no 1 "bochs: s* kvm:a*, skip: b*," env TESTS="s* kvm:a*" SKIP="b* omega" scripts/check.sh run
	no 1 "1 passed, 1 failed" env ON=base scripts/check.sh run
	[ ! -e "$BUILD/x86/initrd" ] || bad "the initrd is left"
	# What can't be packed is not booted.
	sed -i 's/ initrd"\*) echo.*; exit ;;/ initrd"*) exit 2 ;;/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	no 2 "x86 (status 2)" scripts/check.sh run
	unset ARCH PROFILE BOOT_TIMEOUT TIMEOUT_SCALE
}

# A file that could not be fetched is not kept for the next time.
test_failed_fetch_is_not_kept()
{
	fresh
	ok scripts/series.py tree
	fake_runner '' 0
	printf '#!/bin/bash\nexit 2\n' >scripts/package.sh
	no 2 "" env ARCH=x86 scripts/check.sh shell
	[ ! -e "$CACHE/busybox-x86" ] || bad "an empty busybox is in the cache"
	# The same of Bochs: here cp fails, on the way to a complete one.
	stub apt-get 'case "$*" in
		*indextargets*) echo file:/nowhere/ ;;
		*download*) touch bochs_3.0-1_all.deb ;;
		*install*) echo "'"'file:/libc6_1.deb'"' libc6_1.deb" ;;
		esac'
	stub dpkg 'echo all'
	stub dpkg-deb 'mkdir -p "$3/usr/lib/bochs/plugins" "$3/usr/bin" && touch "$3/usr/lib/ld-linux.so.2"'
	no 1 "bochs-bin" scripts/bochs.sh run "$0" "$0" "$WORK/s/results"
	is "$(find "$CACHE" -name 'bochs*')" ""
}

test_base_must_fail_reproducers()
{
	fresh
	ok scripts/series.py tree
	fake_runner 'ok 1 kvm:alpha\nnot ok 2 kvm:beta\n' 1
	ok env ON=base ARCH=arm64 scripts/check.sh run
	has "$OUT" "beta fails on the base, as it must"
	is "$(tail -n 1 <<<"$OUT")" "2 passed, 0 failed, 0 skipped"
	fake_runner 'ok 1 kvm:alpha\nok 2 kvm:beta\n' 0
	no 1 "beta passes on the base: it shows nothing" env ON=base ARCH=arm64 scripts/check.sh run
	is "$(git -C "$BUILD/base" log --format=%s -1)" "Linux 7.3.4"
}

test_base_tree_asked_for_twice_at_once()
{
	fresh
	ok scripts/series.py tree
	local i
	for i in 1 2 3 4; do
		scripts/check.sh base-path >"$WORK/s/base.$i" 2>&1 &
	done
	wait
	for i in 1 2 3 4; do
		is "$(cat "$WORK/s/base.$i")" "$BUILD/base"
	done
	is "$(git -C "$BUILD/base" log --format=%s -1)" "Linux 7.3.4"
}

test_status()
{
	fresh
	is_status() { is "$(cat "$BUILD/status" 2>/dev/null)" "$1" "(build/status)"; }
	ok make tree
	is_status 0
	no 2 "does not exist" make tree KERNEL=/nonexistent
	is_status 2
	ok make tree
	no 2 "no is not one of" make tree ARCH=no
	is_status 2
	ok make tree
	fake_runner '' 3
	# two levels of make above the build that fails
	no 2 "(status 3)" scripts/locked.sh scripts/step.sh "builds" "again" \
		make ARCH=arm64 _build-arm64
	is_status 3
	no 2 "nothing is built" make rerun ARCH=arm64 TESTS=alpha
	is_status 2
	# It has no real tree: that of the lanes is enough.
	printf 'lane() { return 1; }\nlanes() { go series lane; }\n' >"$WORK/s/lanes"
	sed -i "/^runner=/i . '$WORK/s/lanes'" scripts/lanes/full.sh
	no 2 "0 passed, 1 failed" scripts/locked.sh bash -c 'echo 0 >"$BUILD/status"; scripts/lanes/full.sh || exit 2'
	is_status 1
	# "apply" says 1 for a patch that does not apply
	git clone -q "$WORK/s/linux" "$WORK/s/user"
	sed -i 's/^line 30$/line changed/' "$WORK/s/user/virt/kvm/kvm_main.c" && commit "$WORK/s/user" "mine"
	no 2 "does not apply at" make apply KERNEL="$WORK/s/user"
	is_status 1
}

# A kernel of its own, of either side; the shell has that of the tests.
test_debug()
{
	fresh
	ok scripts/series.py tree
	fake_runner '' 0
	sed -i 's/^echo.*/echo "$KERNEL_BUILD_PATH, $WAIT: $*"; exit/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	ok env ARCH=arm64 BUSYBOX=/b BUILD="$BUILD" scripts/check.sh debug
	has "$OUT" "/linux/out-arm64-gdb, 0: "
	has "$OUT" " debug"
	ok env ARCH=arm64 BUSYBOX=/b ON=base PROFILE=debug SUFFIX=-debug WAIT=1 scripts/check.sh debug
	has "$OUT" "/base/out-arm64-debug-gdb, 1: "
	has "$OUT" "PROFILE=debug"
	ok env ARCH=arm64 BUSYBOX=/b scripts/check.sh shell
	has "$OUT" "/linux/out-arm64, : "
	no 2 "this is for one architecture" env ARCH="arm64 x86" scripts/check.sh debug
}

# What check.sh says of each test, for the merge.
test_verdict_of_each_test()
{
	fresh
	ok scripts/series.py tree
	fake_runner '# time kvm:alpha 1.5\nok 1 kvm:alpha\n# kvm:beta: why\nnot ok 2 kvm:beta # exit=1\nok 3 kvm:gamma # SKIP no such\n' 1
	no 1 "1 passed, 1 failed, 1 skipped" env ARCH=arm64 scripts/check.sh run
	is "$(cat "$BUILD/results/verdict.ktap")" "KTAP version 1
1..3
# time arm64.vhe.alpha 1.5
ok 1 arm64.vhe.alpha
# kvm:beta: why
not ok 2 arm64.vhe.beta # exit=1
ok 3 arm64.vhe.gamma # SKIP no such"
	git -C "$L" update-ref refs/series/base HEAD
	fake_runner '# kvm:beta: why\nnot ok 1 kvm:beta # exit=1\n' 1
	ok env ARCH=arm64 ON=base scripts/check.sh run
	is "$(tail -n 1 "$BUILD/results/verdict.ktap")" "ok 1 arm64.vhe.beta # fails on the base, as it must"
	fake_runner 'ok 1 kvm:beta\n' 0
	no 1 "passes on the base" env ARCH=arm64 ON=base scripts/check.sh run
	has "$(cat "$BUILD/results/verdict.ktap")" "not ok 1 arm64.vhe.beta # passes on the base"
	fake_runner 'ok 1 kvm:alpha\n' 5
	no 5 "1 failed" env ARCH=arm64 scripts/check.sh run
	has "$(cat "$BUILD/results/verdict.ktap")" "not ok 1 arm64.vhe # ended early, status 5
ok 2 arm64.vhe.alpha"
}
