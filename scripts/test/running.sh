# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. check.sh and bochs.sh: verdicts, steps, what goes wrong.

# shellcheck disable=SC2153 # in other files
# Bochs that says what it is given, and what x86 is built of.
fake_bochs()
{
	printf '#!/bin/bash\n%s\n' 'echo "bochs:$TESTS, skip:$SKIP, boot: $BOOT_TIMEOUT"; mkdir -p "${@: -1}"
		echo "ok 1 kvm:alpha" >"${@: -1}/results.ktap"' >scripts/bochs.sh
	mkdir -p "$BUILD/x86/initramfs"
	touch "$BUILD/x86/initramfs"/{base,alpha,beta,scripts}.cpio
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
	has "$(tail -n 3 <<<"$OUT" | head -n 1)" "left out: the base; PROFILE=debug; PROFILE=rt; PROFILE=vmx; arm64 VARIANT=nvhe; x86"
	has "$OUT" "clang; all tests but those of patches/v7.3/tests"
	ok env ARCH=riscv scripts/check.sh run
	has "$OUT" "riscv: alpha beta gamma"
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
	ok env TESTS=all scripts/check.sh run
	has "$OUT" "bochs: alpha beta scripts, skip:, boot: 720"
	ok env TESTS="s* kvm:a*" scripts/check.sh run
	has "$OUT" "bochs: alpha scripts, skip:,"
	ok env SKIP="b*" scripts/check.sh run
	has "$OUT" "bochs: alpha, skip: beta,"
	# One that did not build is no success, on the base neither.
	rm "$BUILD/x86/initramfs/beta.cpio"
	no 1 "kvm:beta  fail: did not build" scripts/check.sh run
	has "$OUT" "1 passed, 1 failed, 0 skipped"
	no 1 "1 passed, 1 failed" env ON=base scripts/check.sh run
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
	stub dpkg-deb 'mkdir -p "$PWD/usr/lib/bochs/plugins" usr/bin && touch usr/lib/ld-linux.so.2 &&
		tar -c usr; rm -rf usr'
	no 1 "bochs-bin" scripts/bochs.sh run "$0" "$0" -- "$WORK/s/results"
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

test_a_step_that_fails_says_where()
{
	fresh
	no 7 "boom" scripts/step.sh "a step" "make again" bash -c 'echo boom; exit 7'
	has "$OUT" "log:  $BUILD/log/a-step.log"
	has "$OUT" "next: make again"
	ok scripts/step.sh "a step" "make again" echo quiet
	[[ $OUT != *quiet* ]] || bad "output without V=1"
	ok env V=1 scripts/step.sh "a step" "make again" echo loud
	has "$OUT" "+ echo loud"
}

# on_a_terminal COMMAND...: its output, and that of nothing else
on_a_terminal()
{
	python3 -c '
import os, pty, sys
pid, fd = pty.fork()
if not pid:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    os.write(1, data.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' "$@"
}

test_a_step_says_how_far_it_is()
{
	fresh
	export EVERY=0.2 STEP_LOGS=$BUILD/riscv/logs
	local build='mkdir -p "$BUILD/riscv/logs"; exec >"$BUILD/riscv/logs/kernel.log"; echo "  SYNC    include/config/auto.conf"
		for i in 1 2 3 4; do echo "  CC      arch/riscv/kvm/vcpu$i.o"; sleep 0.1; done
		echo "  CC [M]  a/directory/whose/name/is/far/too/long/for/a/line/of/eighty/columns/last.o"; sleep 1'
	ok on_a_terminal scripts/step.sh "riscv series: kernel, selftests" "again" bash -c "$build"
	is "$(head -n 1 <<<"$OUT")" "  riscv series: kernel, selftests    ..."
	has "$OUT" "/columns/last.o"
	[[ $(tail -n 1 <<<"$OUT") =~ ^"  riscv series: kernel, selftests "\ +[0-9]+" s"$ ]] || bad "no line at the end: $OUT"
	[ "$(grep -c 'last.o' <<<"$OUT")" -ge 2 ] || bad "less than a line every 0.2 s: $OUT"
	is "$(awk 'length > 80' <<<"$OUT")" ""
	# The next time it is known how many there were, by whatever checkout.
	rm -rf "$BUILD"
	ok on_a_terminal scripts/step.sh "riscv series: kernel, selftests" "again" bash -c "$build"
	has "$OUT" " s  6 of 6 "
	# One that has less to do does not take the place of that, one that fails neither.
	ok on_a_terminal scripts/step.sh "riscv series: kernel, selftests" "again" true
	is "$(cat "$CACHE/steps/riscv-series--kernel--selftests")" 6
	# Tests are counted as well, and anything else says its last line.
	unset STEP_LOGS
	no 4 "1 of 3 alpha" on_a_terminal scripts/step.sh "tests" "again" bash -c 'echo 1..3; echo ok 1 alpha; sleep 0.7; exit 4'
	has "$OUT" "next: again"
	ok on_a_terminal scripts/step.sh "installing" "again" bash -c 'echo Unpacking it; sleep 0.7'
	has "$OUT" " s  Unpacking it"
	# Not on a terminal: one line, when it is finished. On one behind a pipe: as on one.
	ok scripts/step.sh "a step" "again" sleep 0.7
	is "$(wc -l <<<"$OUT")" 1
	ok env PROGRESS=y scripts/step.sh "a step" "again" bash -c 'echo at it; sleep 0.7; scripts/step.sh inner again sleep 0.5'
	has "$OUT" " s  at it"
	is "$(wc -l <"$BUILD/log/a-step.log")" 2 "(the inner step has no terminal)"
	# What it leaves running doesn't keep it from ending.
	ok timeout 5 env PROGRESS=y scripts/step.sh "a step" "again" bash -c 'sleep 60 >/dev/null 2>&1 & echo $! >"$BUILD/pid"'
	kill "$(cat "$BUILD/pid")"
	unset EVERY
}

test_a_build_that_fails_says_how_to_repeat_it()
{
	fresh
	ok scripts/series.py tree
	fake_runner '' 3
	no 2 "next: make build ARCH=arm64 PROFILE=debug LLVM=-18 ON=series V=1" \
		make _build-arm64 ARCH=arm64 PROFILE=debug LLVM=-18
	# Where the runner has its logs, the step finds what it compiled.
	fake_runner '' 0
	sed -i 's,^echo,mkdir -p "$BUILD_PATH/logs"; echo "  CC      a/b.o" >"$BUILD_PATH/logs/kernel.log"\n&,' \
		"$L/tools/testing/selftests/kvm/qemu/run.sh"
	ok make _build-arm64 ARCH=arm64 PROFILE=debug
	is "$(cat "$CACHE/steps/arm64-series-debug--kernel--selftests")" 1
}

test_two_runs_at_once()
{
	fresh
	mkdir -p "$BUILD"
	scripts/locked.sh bash -c 'touch "$BUILD/held"; sleep 1; echo first >>"$BUILD/order"' &
	until [ -e "$BUILD/held" ]; do sleep 0.05; done
	ok scripts/locked.sh bash -c 'echo second >>"$BUILD/order"'
	has "$OUT" "waiting for the run that uses $BUILD"
	wait
	is "$(cat "$BUILD/order")" $'first\nsecond'
	# nested: a target that calls another does not wait for itself
	ok timeout 5 scripts/locked.sh scripts/locked.sh true
	# The lanes write there too, and what cleans. A lock that was removed is none.
	scripts/locked.sh bash -c 'touch "$BUILD/held2"; until [ -e "$CACHE" ]; do sleep 0.05; done; rm -rf "$BUILD"' &
	until [ -e "$BUILD/held2" ]; do sleep 0.05; done
	make table >"$WORK/s/out1" 2>&1 &
	make clean >"$WORK/s/out2" 2>&1 &
	scripts/locked.sh cp "$BUILD/.pid" "$WORK/s/pid" >"$WORK/s/out3" 2>&1 &
	local i
	for ((i = 0; i < 600; i++)); do
		[ "$(cat "$WORK"/s/out[123] | grep -c "^waiting for the run")" != 3 ] || break
		sleep 0.05
	done
	is "$(cut -c1-19 "$WORK"/s/out[123])" $'waiting for the run\nwaiting for the run\nwaiting for the run'
	touch "$CACHE"
	wait
	[ -s "$WORK/s/pid" ] || bad "it did not run: $(cat "$WORK/s/out3")"
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
