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
	sed 's/#.*//' "$PATCHES/results" | awk -v a="$1" \
		'NF && $3 == "skip" && $4 == "skip" && ($1 == "*" || index("," $1 ",", "," a ",")) { printf "%s%s", s, $2; s = " " }'
}

# arguments ARCH: of tests, in the variables that the runner takes them from
arguments()
{
	sed 's/#.*//' "$PATCHES/results" | awk -v a="$1" \
		'NF && $3 == "args" && ($1 == "*" || index("," $1 ",", "," a ",")) {
			test = toupper($2); gsub(/[^A-Z0-9]/, "_", test)
			sub(/^[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]+/, ""); print "KSELFTEST_" test "_ARGS=" $0 }'
}

# rows ARCH ON: "TEST RESULT", pass, fail, skip, or splat: the kernel complained
rows()
{
	cat "$RESULTS/$1$SUFFIX"-*-"$2".ktap 2>/dev/null | sed -nE \
		-e 's/^ok [0-9]+ (- )?(kvm:)?([^ ]+).*# SKIP.*/\3 skip/p; t' \
		-e 's/^ok [0-9]+ (- )?(kvm:)?([^ ]+).*/\3 pass/p; t' \
		-e 's/^not ok [0-9]+ (- )?(kvm:)?([^ ]+) # kernel: .*/\3 splat/p; t' \
		-e 's/^not ok [0-9]+ (- )?(kvm:)?([^ ]+).*/\3 fail/p' | LC_ALL=C sort
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

	: >"$TABLE"
	for arch in $ARCH; do
		LC_ALL=C join -a 1 -a 2 -e none -o 0,1.2,2.2 <(rows "$arch" base) <(rows "$arch" series) |
		awk -v arch="$arch" '
		function mine(list) { return list == "*" || index("," list ",", "," arch ",") }
		FILENAME == ARGV[1] {
			line = $0; sub(/#.*/, "", line); n = split(line, f, /[ \t]+/)
			if (n >= 2 && mine(f[1]) && f[3] == "base=fail") { b[f[2]] = "fail"; s[f[2]] = "pass"; why[f[2]] = "reproducer of a bug of the base" }
			next
		}
		FILENAME == ARGV[2] {
			line = $0; sub(/#.*/, "", line); n = split(line, f, /[ \t]+/)
			if (n >= 4 && f[3] != "args" && mine(f[1])) {
				b[f[2]] = f[3]; s[f[2]] = f[4]
				sub(/^[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]*/, "", line); why[f[2]] = line
			}
			next
		}
		{
			verdict = "ok"
			base = $2 == "splat" ? "fail" : $2
			if ($3 == "splat")
				# Whatever the test is known for
				verdict = "WRONG (the kernel complained)"
			else if ($1 in b) {
				# "any": known to differ from run to run under emulation
				if ((b[$1] != "any" && b[$1] != base) || (s[$1] != "any" && s[$1] != $3))
					verdict = "WRONG (expected " b[$1] " and " s[$1] ")"
			} else if ($2 != $3 || base == "fail" || $2 == "none")
				verdict = "WRONG"
			printf "%-6s %-40s %-5s %-6s %s%s\n", arch, $1, $2, $3, verdict, ($1 in why) ? ": " why[$1] : ""
		}' "$PATCHES/tests" "$PATCHES/results" - >>"$TABLE"
	done
	grep -E ' WRONG' "$TABLE" || :
	awk '{ n[$1]++ } / WRONG/ { wrong++; next }
		{ both += ($3 == "pass" && $4 == "pass"); skip += ($3 == "skip" && $4 == "skip") }
		END { for (a in n) t += n[a]
		      printf "table: %d rows, %d pass on both, %d skip on both, %d named differences or failures, %d wrong\n",
			t, both, skip, t - both - skip - wrong, wrong; exit (wrong || !t) }' "$TABLE" || {
		say "table: $TABLE"
		return 1
	}
	say "table: $TABLE"
}

known_arches "$ARCH"
for on in ${SIDES:-}; do
	[[ $on == base || $on == series ]] || die "SIDES=$on is neither base nor series" "SIDES=series"
done
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
	status=0
	compare || status=$?
	recorded "${TABLE%.txt}.run"
	[ "$status" = 0 ] || exit "$status"
	[ "$ended" = 0 ] || die "a run ended early, the table lacks rows" "make table TESTS=... SIDES=... for what is missing"
	;;
compare)
	compare
	;;
*)
	die "table.sh knows compare, not \"$1\"" "table.sh, or table.sh compare"
	;;
esac
