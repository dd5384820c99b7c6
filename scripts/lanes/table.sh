#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# table.sh: every KVM selftest on the base and on the series, the same kernel
# configuration and QEMU, side by side. A row must be the same on both, unless
# patches/<version>/results or a "base=fail" in patches/<version>/tests says
# otherwise; a failure on both must be named there too, with its reason.
#
# SKIP leaves tests out, for a quicker look; TESTS runs these alone and keeps the
# results that the others had. SIDES=series runs nothing on the base again.
#
#	table.sh		build and run both, then compare
#	table.sh compare	compare the results that are there

. "$(dirname -- "$0")/../common.sh"
. "$TOP/scripts/lanes/compare.sh"

ARCH=${ARCH:-riscv arm64 x86}
SUFFIX=${SUFFIX:-}
RESULTS=$BUILD/table$SUFFIX
TABLE=$BUILD/table$SUFFIX.txt

# not_run ARCH: tests that take no part, for SKIP, and those of SKIP that exist
not_run()
{
	local word
	for word in ${SKIP:-}; do
		! grep -q "^kvm:$word " "$BUILD/$1$SUFFIX/tests" || printf '%s ' "$word"
	done
	lines_of "$PATCHES/results" "$1" | awk '$2 == "skip" && $3 == "skip" { printf "%s%s", s, $1; s = " " }'
}

# arguments ARCH: of tests, in the variables that the runner takes them from
arguments()
{
	lines_of "$PATCHES/results" "$1" | awk '$2 == "args" {
		test = toupper($1); gsub(/[^A-Z0-9]/, "_", test)
		sub(/^[^ \t]+[ \t]+[^ \t]+[ \t]+/, ""); print "KSELFTEST_" test "_ARGS=" $0 }'
}

# rows ARCH ON, and known ARCH, for side_by_side
rows() { ktap_results "" "$RESULTS/$1$SUFFIX"-*-"$2".ktap; }
known()
{
	reproducers_of "$1" | sed 's/ .*/ fail pass reproducer of a bug of the base/'
	lines_of "$PATCHES/results" "$1" | awk '$2 != "args"'
}

# merge PART WHOLE: results of PART take the place of those of WHOLE
merge()
{
	touch "$2"
	awk '
	function name(line) { sub(/^(not )?ok [0-9]+ (- )?(kvm:)?/, "", line); sub(/ .*/, "", line); return line }
	FILENAME == ARGV[1] { if (/^(not )?ok /) { lines[++n] = $0; part[name($0)] } next }
	!(/^(not )?ok / && name($0) in part)
	END { for (i = 1; i <= n; i++) print lines[i] }' "$1" "$2" >"$2.new"
	mv -- "$2.new" "$2"
}

compare()
{
	local arch

	for arch in $ARCH; do
		side_by_side "$arch" 40 <(known "$arch") <(rows "$arch" base) <(rows "$arch" series)
	done >"$TABLE"
	grep -E ' WRONG' "$TABLE" || :
	awk '{ n[$1]++ } / WRONG/ { wrong++; next }
		{ both += ($3 == "pass" && $4 == "pass"); skip += ($3 == "skip" && $4 == "skip") }
		END { for (a in n) t += n[a]
		      printf "table: %d rows, %d pass on both, %d skip on both, %d named, %d wrong\n",
			t, both, skip, t - both - skip - wrong, wrong; exit (wrong || !t) }' "$TABLE" || {
		say "table: $TABLE"
		return 1
	}
	say "table: $TABLE"
}

known_arches "$ARCH"
check_sides
case ${1:-run} in
run)
	out=$RESULTS
	[ -z "${TESTS:-}" ] || out=$RESULTS/part
	mkdir -p "$BUILD/log" "$out"
	record "${TABLE%.txt}.run" "arch: $ARCH" "tests: ${TESTS:-}" "skip: ${SKIP:-}" "sides: ${SIDES:-}"
	ended=0
	for on in ${SIDES:-base series}; do
		for arch in $ARCH; do
			ON=$on "$TOP/scripts/check.sh" build "$arch" >"$BUILD/log/table-build.log" 2>&1 ||
				DIE_STATUS=3 die "$arch does not build on the $on" "see $BUILD/log/table-build.log"
			rm -f "$out/$arch$SUFFIX"-*-"$on".ktap
			mapfile -t args < <(arguments "$arch")
			status=0
			env "${args[@]}" RESULTS="$out" ON="$on" ARCH="$arch" TESTS="${TESTS:-all}" SKIP="$(not_run "$arch")" \
				"$TOP/scripts/check.sh" run >"$BUILD/log/table-$arch-$on.log" 2>&1 || status=$?
			[ "$status" -le 1 ] || {
				say "  $arch $on: ended early, see $BUILD/log/table-$arch-$on.log"
				ended=1
			}
			[ "$out" = "$RESULTS" ] || for part in "$out/$arch$SUFFIX"-*-"$on".ktap; do
				[ ! -e "$part" ] || merge "$part" "$RESULTS/${part##*/}"
			done
			tail -n 1 "$BUILD/log/table-$arch-$on.log" | sed "s/^/  $arch $on: /"
		done
	done
	compare_last
	[ "$ended" = 0 ] || die "a run ended early, the table lacks rows" "make table TESTS=... SIDES=... for what is missing"
	;;
compare)
	compare
	;;
*)
	die "table.sh knows compare, not \"$1\"" "table.sh, or table.sh compare"
	;;
esac
