# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. The report: that it shows what was run, and what was not.

# What each script would have left, with results that can be told apart.
leave_results()
{
	local name b=$BUILD state old
	state=$(scripts/lanes/results.py state)
	old=$(git rev-parse HEAD~1)

	mkdir -p "$b"/{results,stress,bench}
	run_of() { printf 'state: %s\nbegan: 2026-01-02T03:04:05Z\narch: riscv\n%s\nended: 2026-01-02T03:05:06Z\n' "$2" "${3:-}" >"$b/$1.run"; }
	printf '%-15s %8s %8s %7s\n' topic patches applies boots numbers 41 yes NO letters 42 yes yes >"$b/topics.txt"
	run_of topics "$state"
	printf 'Linux 6.1.2:\n  %-28s %s\n' "applies as a variant" "KVM: Spell numbers" >"$b/stable.txt"
	printf '  %-10s %-6s %-24s before: %-12s after: %s\n' 6.1.2 riscv old_test "not ok" ok >>"$b/stable.txt"
	run_of stable "$old"
	printf '%s\n' "alpha|pass|1.25|$state|2026-01-02T03:04:05Z|" "beta|fail|2|$state|2026-01-02T03:04:05Z|a < b & c" \
		"gamma|skip||$old|2026-01-02T03:04:05Z|SKIP <no> such" >"$b/results/riscv-aia-series.tests"
	printf '%s\n' "beta|pass|2|$state|2026-01-02T03:04:05Z|fails on the base, as it must" >"$b/results/riscv-aia-base.tests"
	printf '%s\n' "vcpu_reset_test|pass|2|$state|2026-01-02T03:04:05Z|" >"$b/results/x86-debug-shadow-series.tests"
	printf '%s\n' "never|fail|2|$state|2026-01-02T03:04:05Z|" >"$b/results/x86-topic-default-series.tests"
	run_of results/x86-debug-shadow-series "$state" $'kernel: 7.3.4-kvmtest+\ncompiler: cc (Nobody) 1.2.3\nemulator: QEMU 98.7'
	printf 'kvm:vcpu_reset_test: # %s\n' "771 fields of a vCPU compared, 8812 comparisons in 93 cases" \
		"654 of them could be dirtied; the others, and why:" "     8 config.*      <configuration>" >"$b/results/x86-debug-shadow-series.says"
	printf '%s\n' "riscv  reset_test  fail  pass  ok: reproducer of a bug" "riscv  same_test  pass  pass  ok" \
		"x86    worse_test  pass  fail  WRONG" >"$b/table.txt"
	run_of table "$state"
	printf '%s\n' "arm64  save_4  fail  pass  ok, better" >"$b/check-qemu.txt"
	run_of check-qemu "$state"
	printf '%s\n' "arch   variant     lines  reached   not" "riscv  aia           612      580    32" \
		"riscv  together      612      601    11  98.2 %" "  11 not reached for a reason" \
		"  a.c:3: not reached: a.c:f: if (a < b)" "coverage: 1 errors" >"$b/coverage.txt"
	run_of coverage "$state"
	printf '%s\n' "  x86: survived: a.c:3: f: a->b = 0;" \
		"x86: 377 mutants, 360 killed, 16 explained, 1 survived and not explained" >"$b/mutants.txt"
	run_of mutants "$state"
	printf 'kvm:vcpu_reset_storm: # %s\n' "9 VMs, seeds 77 to 85: 8921 resets by userspace, 1078 starts by the guest" \
		>"$b/stress/riscv-aia-series.says"
	printf '%s\n' "vcpu_reset_storm|pass|99|$state|2026-01-02T03:04:05Z|" >"$b/stress/riscv-aia-series.tests"
	run_of stress/stress "$state" $'resets: 10000\nseed: 77'
	printf 'mmio_read 99111\n' >"$b/bench/riscv.now"
	run_of bench/riscv "$state"
	printf '\nBytes\n\n  %-12s %-18s %7s %13s %13s %10s\n' "" "" "" base series more >"$b/bench/bench.txt"
	printf '  %-12s %-18s %7s %13s %13s %10s\n' "arm64 nofwb" kvm_vcpu "" 4800 4816 +16 >>"$b/bench/bench.txt"
	printf 'arch,value\nriscv,12321\n' >"$b/bench/bench.csv"
	run_of bench/bench "$state"
	for name in one two; do
		printf '%s\n' '<?xml version="1.0"?><!DOCTYPE svg SYSTEM "http://x/y.dtd">' \
			"<svg width=\"8\" height=\"5\" xmlns='http://www.w3.org/2000/svg' viewBox=\"0 0 8 5\">" \
			"<defs><g id='dot'/></defs><text>plot $name</text><use xlink:href='#dot'/></svg>" >"$b/bench/$name.svg"
	done
	ARCH=arm64 keep there others 1
	cp -r "$WORK/s/there/lanes" "$b/lanes"
}

test_report()
{
	fresh
	git commit -q --allow-empty -m "another"
	leave_results
	ok make report
	is "$OUT" "$BUILD/report.html"
	ok scripts/test/check-html "$BUILD/report.html"
	local t page
	page=$(<"$BUILD/report.html")
	for t in topics lanes tests base oracle coverage mutants storms bench versions; do
		has "$page" "<h2 id=\"$t\">"
		has "$page" "<a href=\"#$t\">"
	done
	for t in 'numbers 41 yes NO 1 of 1' 'letters 42 yes yes -' 'old_test riscv not ok ok' 'Run 2026-01-02 03:04 UTC on' \
		'others FAIL' 'alpha pass 1.2 s' 'beta FAIL 2.0 s a < b & c' 'fails, as it must 2.0 s' 'skip <no> such †' \
		'riscv: 4 results of 3 tests, 1 failed' 'debug shadow' 'x86 debug shadow series 771 8812 93 654 pass' 'config.* <configuration>' \
		'reset_test riscv fail pass ok: reproducer of a bug' 'worse_test x86 pass fail WRONG' '3 rows: 1 pass on both, 2 differ, 1 are wrong' \
		'save_4 arm64 fail pass ok, better' 'riscv aia 612 580 32' 'together 612 601 11 98.2 %' 'if (a < b)' 'x86 377 360 16 1 0' \
		'survived: a.c:3: f: a->b = 0;' 'riscv aia series make stress 8921 1078 0 77 to 85 99 s pass' 'riscv mmio_read 2868 99111 +96243' \
		'arm64 nofwb kvm_vcpu 4800 4816 +16' 'plot one' 'plot two' 'riscv,12321' 'x86 7.3.4-kvmtest+ cc (Nobody) 1.2.3 QEMU 98.7' \
		"Commit $(git rev-parse HEAD | cut -c1-12) : another" 'On Linux 7.3.4' 'marked there: stable, tests.'; do
		has "$OUT" "$t"
	done
	has "$OUT" "† run on $(git rev-parse HEAD~1 | cut -c1-12), 1 commit before this one"
	[[ $OUT != *never* ]] || bad "results of one topic are among those of the series"
	# All that is wrong is named at the top.
	t=$(sed -n '/<header>/,/<nav/p' "$BUILD/report.html")
	for page in '6 results are not as they must be:' 'topic numbers: boots' 'lane others' 'riscv aia series: beta' 'table: x86 worse_test' 'a.c:3: not reached' \
		'mutants: 1 alive on x86'; do
		has "$t" "$page"
	done
	# A run that has not ended, and one with something edited since
	sed -i '/^ended/d' "$BUILD/mutants.run"
	echo x >>COPYING
	ok make report
	ok scripts/test/check-html "$BUILD/report.html"
	has "$OUT" "ended early or still running"
	has "$OUT" "without the edits, not what is here now"
}

# What was not run is named with what runs it, and is no empty table.
test_report_of_nothing()
{
	fresh
	ok make report
	ok scripts/test/check-html "$BUILD/report.html"
	local t
	for t in topics stable check-full "check ARCH=riscv" "check ARCH=x86" table check-qemu "check TESTS=vcpu_reset_test" \
		coverage mutants stress bench check; do
		has "$OUT" "not run: make $t "
	done
	! grep -q '<tbody></tbody>' "$BUILD/report.html" || bad "a table without a row"
	no 2 "takes the name of a file" scripts/report/report.py a b
}

# What the check of the page is worth
test_check_of_the_page()
{
	fresh
	local page=$WORK/s/page.html
	wrong() { printf '<html>%s</html>\n' "$1" >"$page"; no 1 "$2" scripts/test/check-html "$page"; }
	printf '<html><p id="a">1 &lt; 2<br><a href="#a">x</a></p></html>\n' >"$page"
	ok scripts/test/check-html "$page"
	is "$OUT" "1 < 2 x"
	wrong '<p>x' "</html> at line 1 closes ['p']"
	wrong '<script>1</script>' "is active"
	wrong '<p onclick="x">1</p>' "is active"
	wrong '<img src="x.png">' "leads out of the page"
	wrong '<a href="//host/">x</a>' "leads out of the page"
	wrong '<style>@import "x"</style>' "the style fetches"
	wrong '<a href="#b">x</a>' "#b leads nowhere"
	wrong '<p id="a">1</p><p id="a">2</p>' "id a twice"
	wrong '<table><tbody></tbody></table>' "a table without a caption"
	wrong '<table><caption>x</caption><tr><th>x</th></tr></table>' "<th> without a scope"
	wrong '<svg></svg>' "<svg> without a name"
}

# check.sh keeps the last verdict of each test, whichever run had it, and says of what.
test_results_are_kept_for_the_report()
{
	fresh
	ok scripts/series.py tree
	stub qemu-stub 'echo "QEMU emulator version 98.7"; echo more'
	fake_runner '# time kvm:alpha 1.5\nok 1 kvm:alpha\nnot ok 2 kvm:beta # exit=1\nok 3 kvm:vcpu_reset_test\n' 1
	sed -i 's/^echo.*/&; cat "$WORK_CONSOLE" >"$BUILD_PATH\/results\/vhe.console"/; s/^mkdir.*/&/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	sed -i 's/^echo/mkdir -p "$BUILD_PATH\/results"; echo/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	export WORK_CONSOLE=$WORK/s/console
	printf '[ 0.0] Linux version 7.3.4-x (a@b) (gcc (Debian 1) 1.2.3, GNU ld (x) 2) #3 SMP\r\nkvm:vcpu_reset_test: # 7 fields\r\nkvm:alpha: # no\r\n' >"$WORK_CONSOLE"
	no 1 "2 passed, 1 failed" env ARCH=arm64 scripts/check.sh run
	local r=$BUILD/results/arm64-vhe-series
	is "$(cut -d'|' -f1-3,6 "$r.tests")" "alpha|pass|1.5|
beta|fail||exit=1
vcpu_reset_test|pass||"
	is "$(cut -d'|' -f4 "$r.tests" | sort -u)" "$(git rev-parse HEAD)"
	is "$(cat "$r.says")" "kvm:vcpu_reset_test: # 7 fields"
	has "$(cat "$r.run")" "state: $(git rev-parse HEAD)"
	has "$(cat "$r.run")" $'kernel: 7.3.4-x\ncompiler: gcc (Debian 1) 1.2.3\nemulator: QEMU emulator version 98.7'
	has "$(cat "$r.run")" "ended: "
	# one of them again, on another commit; the others stay
	git commit -q --allow-empty -m "another"
	fake_runner 'ok 1 kvm:beta # SKIP no\n' 0
	mkdir -p "$BUILD/arm64" && printf 'kvm:beta x\n' >"$BUILD/arm64/tests"
	ok env ARCH=arm64 TESTS=beta scripts/check.sh run
	is "$(cut -d'|' -f1-3,6 "$r.tests")" "beta|skip||SKIP no
alpha|pass|1.5|
vcpu_reset_test|pass||"
	is "$(cut -d'|' -f4 "$r.tests" | sort -u | wc -l)" 2
	is "$(cat "$r.says")" "kvm:vcpu_reset_test: # 7 fields"
	unset WORK_CONSOLE
}
