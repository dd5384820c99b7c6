# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. step.sh, progress.sh and locked.sh: what a long run says,
# and two of them.

# shellcheck disable=SC2153 # in other files

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
