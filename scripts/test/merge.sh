# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. results.py: the results of many machines, and the formats
# that others read.

# keep LANE STATUS [RESULT...]: what full.sh would have kept of a lane in $WORK/s/NAME/lanes
keep()
{
	local where=$1 lane=$2 status=$3
	shift 3
	printf 'some output\nthe last line\n' >"$WORK/s/log"
	rm -f "$WORK/s/verdict"
	[ $# -eq 0 ] || printf '%s\n' "KTAP version 1" "1..$(printf '%s\n' "$@" | grep -c 'ok ')" "$@" >"$WORK/s/verdict"
	ok scripts/lanes/results.py keep "$WORK/s/$where/lanes" "$lane" "$status" 7 "make it" "$WORK/s/verdict" "$WORK/s/log"
}

test_results_are_merged()
{
	fresh
	local m=$BUILD/merged want=$WORK/s/want.json parse=$BUILT/tools/testing/kunit/kunit.py
	is_xml() { python3 -c 'import sys, xml.etree.ElementTree as t; r = t.parse(sys.argv[1]).getroot(); print(*[e.get("name") for e in r.iter() if e.find(sys.argv[2]) is not None])' "$m/junit.xml" "$1"; }
	jobs() { printf '{"include": ['; printf '{"name": "%s", "lane": "%s", "arch": "%s", "command": "make"}' "$@" | sed 's/}{/}, {/g'; printf ']}\n'; }
	ARCH=riscv keep a series 0 "# time riscv.aia.alpha 1.5" "ok 1 riscv.aia.alpha" "ok 2 riscv.aia.beta # SKIP no & such"
	ARCH=x86 keep b series 2 "ok 1 x86.default.alpha" "# kvm:beta: <1 != 2>" "not ok 2 x86.default.beta # exit=1"
	ARCH=riscv keep b scripts 0
	jobs series-riscv series riscv series-x86 series x86 scripts scripts riscv >"$want"
	local -x MATRIX=$want ORIGIN=
	no 1 "3 passed, 1 failed, 1 skipped" scripts/lanes/results.py merge "$WORK/s/a" "$WORK/s/b"
	is "$(tail -n 1 <<<"$OUT")" "3 passed, 1 failed, 1 skipped"
	has "$OUT" "    x86.default.beta: exit=1"
	has "$(cat "$m/results.ktap")" "    ok 2 riscv.aia.beta # SKIP no & such
# time series-riscv 7.000
ok 1 series-riscv"
	is "$(is_xml failure)" "x86.default.beta"
	is "$(is_xml skipped)" "riscv.aia.beta"
	has "$(cat "$m/junit.xml")" 'classname="series-x86"'
	has "$(cat "$m/junit.xml")" "kvm:beta: &lt;1 != 2&gt;"
	ok scripts/lanes/results.py check "$m/junit.xml" "$m/kcidb.json"
	is "$(python3 -c 'import json, sys; print(*sorted(t["status"] for t in json.load(open(sys.argv[1]))["tests"]))' "$m/kcidb.json")" \
		"FAIL FAIL PASS PASS PASS PASS SKIP"
	# The kernel reads the same of it: its plan, and each level.
	if [ -e "$parse" ]; then
		no 1 "tests: passed: 3, failed: 1, skipped: 1" python3 "$parse" parse "$m/results.ktap"
	fi
	# make, with what is in build/lanes
	cp -r "$WORK/s/a/lanes" "$BUILD/lanes"
	jobs series-riscv series riscv >"$want"
	ok make merge-results
	is "$(tail -n 1 <<<"$OUT")" "1 passed, 0 failed, 1 skipped"
}

# Whatever gets lost on the way from a machine is no success.
test_nothing_is_lost_in_a_merge()
{
	fresh
	local want=$WORK/s/want.json a=$WORK/s/a
	local -x MATRIX=$want ORIGIN=
	merge() { scripts/lanes/results.py merge "$@"; }
	ARCH=riscv keep a series 0 "ok 1 riscv.aia.alpha"
	printf '{"include": [{"name": "series-%s", "lane": "series", "arch": "%s", "command": "m"},\n' riscv riscv >"$want"
	printf '{"name": "series-x86", "lane": "series", "arch": "x86", "command": "m"}]}\n' >>"$want"
	# a lane that no machine has run
	no 1 "1 passed, 1 failed, 0 skipped" merge "$a"
	has "$OUT" "no machine has a result of it"
	has "$(cat "$BUILD/merged/kcidb.json")" '"MISS"'
	has "$(cat "$BUILD/merged/results.ktap")" "not ok 2 series-x86 # ended early: no machine"
	# one machine had all of them
	ARCH="riscv x86" keep b series 0 "ok 1 riscv.aia.alpha" "ok 2 x86.default.alpha"
	ok merge "$WORK/s/b"
	# two had the same: both count, and a failure on one stays
	ARCH="riscv x86" keep c series 1 "ok 1 riscv.aia.alpha" "not ok 2 x86.default.alpha"
	no 1 "3 passed, 1 failed, 0 skipped" merge "$WORK/s/b" "$WORK/s/c"
	# it has failed although its tests passed
	ARCH="riscv x86" keep c series 3 "ok 1 riscv.aia.alpha"
	no 1 "1 passed, 1 failed, 0 skipped" merge "$WORK/s/c"
	has "$(cat "$BUILD/merged/junit.xml")" "the last line"
	# a part of the tests is not all of them
	ARCH="riscv x86" TESTS=alpha keep c series 0 "ok 1 riscv.aia.alpha"
	ok merge "$WORK/s/c"
	has "$OUT" 'only TESTS="alpha"'
	no 2 "has no results" merge "$a" "$WORK/s/repo/scripts"
	no 2 "has no results" merge "$WORK/s/nowhere"
	# half a copy
	sed -i '/alpha/d' "$a/lanes/series-riscv/lane.ktap"
	no 2 "0 results, and the plan is 1" merge "$a"
	: >"$a/lanes/series-riscv/lane.ktap"
	no 2 "and the plan is None" merge "$a"
	rm "$a/lanes/series-riscv/lane.ktap"
	no 2 "is not whole" merge "$a"
	ARCH=riscv keep a series 0 "ok 1 riscv.aia.alpha"
	sed -i 's/^ok 1 series-riscv/not ok 1 series-riscv/' "$a/lanes/series-riscv/lane.ktap"
	no 2 "not of one run" merge "$a"
	# another commit
	ARCH=riscv keep a series 0 "ok 1 riscv.aia.alpha"
	echo >>COPYING && commit . "another"
	ARCH=x86 keep b series 0 "ok 1 x86.default.alpha"
	no 2 "are of 2 states of this repository" merge "$a" "$WORK/s/b"
	no 2 "is not what \"make lanes\" prints" env MATRIX="$WORK/s/log" scripts/lanes/results.py merge "$WORK/s/b"
	no 2 "ORIGIN=A B is not of" env ORIGIN="A B" scripts/lanes/results.py merge "$WORK/s/b"
	no 2 "results.py knows matrix" scripts/lanes/results.py nope
}

# What is no JUnit and no KCIDB is found.
test_formats_are_checked()
{
	fresh
	local xml=$WORK/s/j.xml json=$WORK/s/k.json
	local -x MATRIX=$WORK/s/want.json ORIGIN=
	ARCH=riscv keep a series 0 "ok 1 riscv.aia.alpha" "ok 2 riscv.aia.beta # SKIP x"
	printf '{"include": []}\n' >"$MATRIX"
	ok scripts/lanes/results.py merge "$WORK/s/a"
	check() { sed "$2" "$BUILD/merged/$3" >"$1" && ! cmp -s "$1" "$BUILD/merged/$3" || bad "sed $2 changes nothing"
		no 1 "$4" scripts/lanes/results.py check "$1"; }
	check "$xml" 's/ classname="[^"]*"//; s/name="riscv.aia.beta"/name="riscv.aia.alpha"/; s/ classname="[^"]*"//' junit.xml "twice"
	check "$xml" 's/failures="0" errors="0" skipped="1"/failures="0" skipped="1"/' junit.xml "testsuite without errors"
	check "$xml" 's/skipped="1"/skipped="2"/' junit.xml "not how many there are"
	check "$xml" 's/tests="2" failures="0" errors="0" skipped/tests="3" failures="0" errors="0" skipped/' junit.xml "tests=3 of 2"
	check "$xml" 's/<testcase name="riscv.aia.alpha"/<testcase line="1" name="riscv.aia.alpha"/' junit.xml "testcase with line"
	check "$xml" 's/<skipped /<ignored /; s/skipped>/ignored>/' junit.xml "no element of JUnit: ignored"
	check "$xml" 's/time="7.000"/time="soon"/' junit.xml "time of testsuite: soon"
	check "$xml" '$d' junit.xml "no element found"
	check "$json" 's/"minor": 3/"minor": 0/' kcidb.json "the version is not 5.3"
	check "$json" '0,/"origin": "kvm_vcpu_reset",/s///' kcidb.json "checkouts: without origin"
	check "$json" 's/"origin": "kvm_vcpu_reset"/"origin": "KVM"/' kcidb.json "origin is 'KVM'"
	check "$json" 's/"status": "SKIP"/"status": "skipped"/' kcidb.json "status is 'skipped'"
	check "$json" 's/"path": "kselftest.kvm.riscv.aia.alpha"/"path": "kselftest kvm"/' kcidb.json "path is"
	check "$json" 's/"duration": 7.0/"duration": "7"/' kcidb.json "duration is '7'"
	check "$json" 's/"build_id": "[^"]*"/"build_id": "kvm_vcpu_reset:x"/' kcidb.json "tests: no build"
	check "$json" 's/"command"/"commands"/' kcidb.json "builds: no property commands"
	check "$json" 's/:riscv.aia.beta"/:riscv.aia.alpha"/' kcidb.json "twice"
}

# What is in the example of a CI is there, and does what it says.
test_ci_example()
{
	fresh
	local file=$HERE/ci/github-actions.yml t
	[ -e "$file" ] || { bad "$file is missing"; return; }
	! grep -nE '[a-z0-9]\.(io|com|org|net)\b|/(home|root|tmp|work)/' "$file" || bad "a host or a path of one machine"
	while read -r t; do
		grep -q "^$t:.* ## " "$HERE/Makefile" || bad "there is no make $t"
	done < <(grep -v apt-get "$file" | grep -oE '\bmake (-s )?[a-z-]+' | awk '{ print $NF }')
	while read -r t; do
		grep -q "'$t':" "$HERE/scripts/lanes/results.py" || bad "make lanes prints no $t"
	done < <(grep -oE 'matrix\.[a-z]+' "$file" | grep -vx matrix.json | cut -d. -f2 | sort -u)
	# the steps of its jobs, as far as they are ours
	mkdir -p tools/testing/selftests/kvm/qemu
	printf 'print-VARIANTS_%%:\n\t@echo $@ first\n' >tools/testing/selftests/kvm/qemu/Makefile
	touch tools/testing/selftests/kvm/qemu/run.sh
	GITHUB_OUTPUT=$WORK/s/output ok bash -ec "$(sed -n '/run: |/,/GITHUB_OUTPUT/{s/^          //p}' "$file")"
	is "$(sed -n '1p;$p' "$WORK/s/output" | tr '\n' ' ')" "matrix<<END END "
	mkdir shards && mv matrix.json shards/
	while read -r lane arch; do
		ARCH=$arch keep "$arch-$lane" "$lane" 0 "ok 1 $arch.first.alpha"
		cp -r "$WORK/s/$arch-$lane/lanes" "shards/lane-$lane-$arch"
	done < <(python3 -c 'import json; [print(j["lane"], j["arch"].split()[0]) for j in json.load(open("shards/matrix.json"))["include"] if " " not in j["arch"]]')
	for lane in $(python3 -c 'import json; [print(j["lane"]) for j in json.load(open("shards/matrix.json"))["include"] if " " in j["arch"]]'); do
		keep all "$lane" 0
	done
	cp -r "$WORK/s/all/lanes" shards/lane-all
	ok bash -ec "$(sed -n 's/^ *- run: \(make merge.*\)/\1/p' "$file")"
	is "$(tail -n 1 <<<"$OUT")" "$(grep -c '"name"' shards/matrix.json) passed, 0 failed, 0 skipped"
	rm -r shards/lane-vmx-x86
	no 2 "no machine has a result of it" bash -ec "$(sed -n 's/^ *- run: \(make merge.*\)/\1/p' "$file")"
}
