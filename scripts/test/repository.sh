# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. What holds for every file here.

test_every_file_has_a_licence()
{
	cd "$HERE" || exit
	local f files
	files=$(git ls-files -co --exclude-standard)
	[ -n "$files" ] || bad "git lists no file"
	for f in $files; do
		case $f in
		COPYING|.gitignore|*.patch|patches/*/cover-letter) continue ;;
		esac
		head -n 3 "$f" | grep -q SPDX-License-Identifier || bad "$f has no SPDX line"
	done
}

test_shellcheck()
{
	cd "$HERE" || exit
	local f files
	files=$(git ls-files -co --exclude-standard -- scripts .ci tools)
	[ -n "$files" ] || bad "git lists no file"
	for f in $files; do
		[[ $f == *.sh ]] || head -n 1 "$f" | grep -qE '^#!.*\b(ba)?sh$' || continue
		ok shellcheck "$f"
	done
}

# What git does not list was not looked at.
test_no_list_is_no_success()
{
	fresh
	stub git 'exit 128'
	has "$(test_every_file_has_a_licence)" "git lists no file"
	has "$(test_shellcheck)" "git lists no file"
}

test_unknown_tests_fail()
{
	fresh
	no 1 "there is no test nope" "$HERE/scripts/test/run" nope
	no 1 "there is no test nope" "$HERE/scripts/test/mutants" nope
	# which they say before they need git
	only
	no 1 "there is no test nope" env PATH="$WORK/s/only" "$HERE/scripts/test/run" nope
	no 1 "there is no test nope" env PATH="$WORK/s/only" "$HERE/scripts/test/mutants" nope
}

# Of make's command line and of the environment nothing reaches the tests.
test_make_variables_are_unset()
{
	local v unset
	unset=" $(sed -n 's/^unset //p' "$HERE/scripts/test/run" | tr '\n' ' ')"
	while read -r v; do
		has "$unset" " $v "
	done < <(sed -nE 's/^([A-Z_0-9]+) +\?=.*/\1/p; s/^export ([A-Z_0-9 ]+)( :=.*)?$/\1/p' "$HERE/Makefile" | tr ' ' '\n' | sed '/^$/d')
}

test_tests_are_in_the_makefile()
{
	cd "$HERE" || exit
	local name list=$BUILT/tools/testing/selftests/kvm/Makefile.kvm
	[ -e "$list" ] || { skip "there is no tree at $BUILT: make tree"; return; }
	while read -r name; do
		grep -qE "[ /]$name( |\$)" "$list" ||
			bad "patches/v7.3/tests names $name, which Makefile.kvm has not"
	done < <(sed 's/#.*//' patches/v7.3/tests | awk 'NF { print $2 }')
}

test_series_is_consistent()
{
	cd "$HERE" || exit
	ok scripts/series.py check
	local f topic
	for topic in $(scripts/series.py topics); do
		[ -s "patches/v7.3/$topic/cover-letter" ] || bad "$topic has no cover letter"
		grep -q "^| $topic |" README.md || bad "README.md does not have $topic"
	done
	for f in patches/v7.3/*/*.patch; do
		! grep -qE '^(Signed-off|Reviewed|Tested|Acked)-by:' "$f" || bad "$f has a trailer that only a person gives"
	done
}

# A topic that needs more than it says is found here, not by who is sent it.
test_topics_apply_apart()
{
	cd "$HERE" || exit
	[ -e "$BUILT/.git" ] || { skip "there is no tree at $BUILT: make tree"; return; }
	ok env TREE="$BUILT" scripts/series.py apart
}
