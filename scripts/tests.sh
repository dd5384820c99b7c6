# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by check.sh: which tests there are to run, which of them must fail, and what
# is left out.

# shellcheck disable=SC2153 # in check.sh

# tests_of ARCH: the names
tests_of()
{
	case $TESTS in
	'')
		# A topic has not got them all.
		if [ -n "${TOPIC:-}" ]; then
			comm -12 <(listed_tests "$1" "${PROFILE:-}" | LC_ALL=C sort) <(tests_at HEAD "$1" | tr ' ' '\n' | LC_ALL=C sort)
		else
			listed_tests "$1" "${PROFILE:-check}"
		fi | awk 'NF { printf "%s%s", s, $1; s = " " }' ;;
	all) ;;
	*) chosen "$1" "$TESTS" ;;
	esac
}

# chosen ARCH WORDS: those that name a test of this architecture
chosen()
{
	local word name out=
	local -a words

	read -r -a words <<<"$2"
	for word in "${words[@]}"; do
		while read -r name _; do
			# shellcheck disable=SC2053 # a pattern is wanted
			[[ $name == $word || ${name#kvm:} == $word ]] || continue
			out+="${out:+ }$word"
			break
		done <"$BUILD/$1$SUFFIX/tests"
	done
	printf '%s' "$out"
}

# known VARIABLE WORDS: every word is a test of some architecture of ARCH. What is
# not there need not be left out: SKIP may be meant for another architecture.
known()
{
	local arch word all=
	local -a words

	read -r -a words <<<"$2"
	[ ${#words[@]} -gt 0 ] || return 0
	for arch in $ARCH; do
		[ -e "$BUILD/$arch$SUFFIX/tests" ] || die "nothing is built for $arch" "make build ARCH=$arch"
		all+=" $(chosen "$arch" "$2") "
	done
	for word in "${words[@]}"; do
		[[ $all != *" $word "* ]] || continue
		[ "$1" != SKIP ] || { say "SKIP=$word names no test of $ARCH"; continue; }
		die "$1=$word names no test of $ARCH" "make -C $TREE/$RUNNER ARCH=${ARCH%% *} list"
	done
}

# must_fail ARCH TEST: is it a reproducer of what the base does wrong? For one topic,
# of what is wrong without it, i.e. only if it has changed the test.
must_fail()
{
	[ "$ON" = base ] || return 1
	[ -z "${TOPIC:-}" ] || git -C "$TREE" diff --name-only "refs/series/needs/$TOPIC" HEAD |
		grep -qE "^tools/testing/selftests/kvm/($1/)?$2\.c$" || return 1
	grep -q "^$2 " < <(reproducers_of "$1")
}

# left_out: what "make check-full" would run and this did not
left_out()
{
	local arch profile variant out=()

	[ "$ON" = series ] && out+=("the base") || out+=("the series")
	[ -z "${PROFILE:-}" ] || out+=("no PROFILE")
	for profile in debug rt vmx; do
		[ "$profile" = "${PROFILE:-}" ] || out+=("PROFILE=$profile")
	done
	if [ "${PROFILE:-}" != vmx ]; then
		for arch in $ARCH; do
			for variant in $(runner "$arch" -s "print-VARIANTS_$arch" 2>/dev/null); do
				[ "$variant" = "$(variant_of "$arch")" ] || out+=("$arch VARIANT=$variant")
			done
		done
	fi
	[ -n "${LLVM:-}" ] && out+=("gcc") || out+=("clang")
	[ "$TESTS" = all ] || out+=("all tests but ${TESTS:-those of ${PATCHES#"$TOP"/}/tests}")
	for arch in riscv arm64 x86; do
		[[ " $ARCH " == *" $arch "* ]] || out+=("$arch")
	done
	out+=("the table of base and series" "single commits" "mutants" "coverage" "checkers" "other architectures" "the lanes' own tests" "a bare system")
	say_list "left out:$(printf ' %s;' "${out[@]}" | sed 's/;$//')"
	say "  make check-full runs them"
}
