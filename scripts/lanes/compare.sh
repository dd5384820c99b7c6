# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by table.sh and qemu.sh: what the same tests came to on the base and on the
# series, side by side.

# check_sides: SIDES names what there is
check_sides()
{
	local on

	for on in ${SIDES:-}; do
		[[ $on == base || $on == series ]] || die "SIDES=$on is neither base nor series" "SIDES=series"
	done
}

# compare_last: when all has run
compare_last()
{
	local status=0

	compare || status=$?
	recorded "${TABLE%.txt}.run"
	return "$status"
}

# ktap_results PREFIX FILE...: "TEST RESULT", pass, fail, skip, or splat: the kernel
# complained. PREFIX of the names is left out.
ktap_results()
{
	local prefix=$1
	shift

	cat -- "$@" 2>/dev/null | sed -nE \
		-e "s/^ok [0-9]+ (- )?(kvm:)?$prefix([^ ]+).*# SKIP.*/\\3 skip/p; t" \
		-e "s/^ok [0-9]+ (- )?(kvm:)?$prefix([^ ]+).*/\\3 pass/p; t" \
		-e "s/^not ok [0-9]+ (- )?(kvm:)?$prefix([^ ]+) # kernel: .*/\\3 splat/p; t" \
		-e "s/^not ok [0-9]+ (- )?(kvm:)?$prefix([^ ]+).*/\\3 fail/p" || :
}

# side_by_side ARCH WIDTH KNOWN BASE SERIES: a line for each test of the two files, whose
# names have WIDTH columns. Both sides are the same and none fails, or KNOWN has "TEST
# BASE SERIES REASON": "any" is known to differ from run to run, and a TEST may have "_*"
# where it has the number of CPUs. BETTER=1: what is only better needs no reason.
# A complaint of the series' kernel is wrong whatever is known.
side_by_side()
{
	LC_ALL=C join -a 1 -a 2 -e none -o 0,1.2,2.2 <(LC_ALL=C sort "$4") <(LC_ALL=C sort "$5") |
	awk -v arch="$1" -v width="$2" -v better="${BETTER:-0}" '
	FILENAME == ARGV[1] {
		test = $1; b[test] = $2; s[test] = $3
		sub(/^[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]*/, ""); why[test] = $0
		next
	}
	{
		key = short = $1
		sub(/_[0-9]+/, "_*", short)
		if (!(key in b)) key = short
		base = $2 == "splat" ? "fail" : $2
		verdict = "ok"
		if ($3 == "splat")
			verdict = "WRONG (the kernel complained)"
		else if ($3 == "none")
			verdict = "WRONG"
		else if (key in b) {
			if ((b[key] != "any" && b[key] != base) || (s[key] != "any" && s[key] != $3))
				verdict = "WRONG (expected " b[key] " and " s[key] ")"
		} else if (better && $3 == "pass" && $2 != "pass" && $2 != "none")
			verdict = "ok, better"
		else if ($2 != $3 || base == "fail")
			verdict = "WRONG"
		printf "%-6s %-" width "s %-6s %-6s %s%s\n", arch, $1, $2, $3, verdict, (key in why) ? ": " why[key] : ""
	}' "$3" -
}
