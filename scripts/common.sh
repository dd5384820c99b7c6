# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by every script here: where things are, how to say what happens.
#
# Paths come from the Makefile through the environment; the defaults below
# make each script usable by hand from any directory.

set -euo pipefail
# A command that fails ends $(...) as well.
shopt -s inherit_errexit

TOP=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=${BUILD:-$TOP/build}
CACHE=${CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kvm-vcpu-reset}
PATCHES=${PATCHES:-$TOP/patches/v7.3}
TREE=${TREE:-$BUILD/linux}
RUNNER=${RUNNER:-tools/testing/selftests/kvm/qemu}

# The identity on the commit of an imported base.
export GIT_COMMITTER_NAME="KVM vCPU reset series"
export GIT_COMMITTER_EMAIL="kvm-vcpu-reset@example.org"

# The user's git configuration must not change what is composed.
git() { command git -c core.autocrlf=false -c commit.gpgSign=false \
	-c core.quotePath=false -c diff.noprefix=false -c advice.detachedHead=false \
	-c core.abbrev=12 -c gc.auto=0 -c core.hooksPath=/dev/null \
	-c core.attributesFile=/dev/null -c core.excludesFile=/dev/null "$@"; }
# Nor must the repository of a hook or of "git rebase --exec" that this runs in.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_PREFIX

say() { printf '%s\n' "$*"; }

# say_list TEXT: one that is long, at 80 columns
say_list() { fold -s -w 76 <<<"$*" | sed 's/ *$//; 2,$s/^/    /'; }

# die MESSAGE [NEXT-STEP]: the cause on one line, then what to do about it.
# The status is 2 unless DIE_STATUS says otherwise; README lists them.
die()
{
	printf 'error: %s\n' "$1" >&2
	[ $# -lt 2 ] || printf '  next: %s\n' "$2" >&2
	exit "${DIE_STATUS:-2}"
}

# known_arches WORDS: they are; said before anything else is looked at
known_arches()
{
	local word

	for word in $1; do
		case $word in
		riscv|arm64|x86) ;;
		*) die "ARCH=$word is not one of: riscv arm64 x86" "ARCH=\"riscv x86\"" ;;
		esac
	done
}

# note_status STATUS: into build/status. make turns every failure into 2, so that
# a 2 does not take the place of what failed below it.
note_status()
{
	[ "$1" = 2 ] && grep -qs '[1-9]' "$BUILD/status" || echo "$1" >"$BUILD/status"
}

# record FILE [LINE...]: for "make report", of which state of this repository a result
# is, when its run began, and what the LINEs ("KEY: VALUE") say; recorded FILE: it is
# complete.
record()
{
	local file=$1

	shift
	mkdir -p "${file%/*}"
	printf '%s\n' "state: $("$TOP/scripts/lanes/results.py" state)" "began: $(date -u +%FT%TZ)" "$@" >"$file"
}
recorded() { printf 'ended: %s\n' "$(date -u +%FT%TZ)" >>"$1"; }

# base_key KEY: the value of a "key: value" line of BASE.
base_key() { sed -n "s/^$1: *//p" "$PATCHES/BASE"; }

# base_files: "BLOB PATH" (git's id of the content) for each upstream file that the patches touch.
base_files() { sed -n 's/^file: *//p' "$PATCHES/BASE"; }

# need_space DIR MIB: refuse before a long step, not in the middle of it.
need_space()
{
	local have

	mkdir -p "$1"
	have=$(df -Pm -- "$1" | awk 'NR == 2 { print $4 }')
	[ "$have" -ge "$2" ] || die \
		"$1 has $have MiB free, this step needs $2 MiB" \
		"free some space, or point BUILD= and CACHE= at another disk"
}

# worktree DIR COMMIT MIB: another work tree of $TREE, if there is none yet
worktree()
{
	[ ! -e "$1/.git" ] || return 0
	need_space "$BUILD" "$3"
	rm -rf -- "$1"
	git -C "$TREE" worktree prune
	git -C "$TREE" worktree add -q --detach "$1" "$2"
}

# cross_of ARCH: the prefix of its tools; empty for the machine's own
cross_of()
{
	case $1 in
	riscv) [ "$(uname -m)" = riscv64 ] || echo riscv64-linux-gnu- ;;
	arm64) [ "$(uname -m)" = aarch64 ] || echo aarch64-linux-gnu- ;;
	x86) [ "$(uname -m)" = x86_64 ] || echo x86_64-linux-gnu- ;;
	esac
}

# use_ccache: succeeds if it is to be used, and says where it is
use_ccache()
{
	[ "${USE_CCACHE:-n}" = y ] || return 1
	export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
}

# in_runner TREE ARGUMENT...: the QEMU runner of that tree. Only what is named here
# reaches it. A lane whose make has a job server of its own unsets MAKEFLAGS first.
in_runner()
{
	local tree=$1
	shift

	! use_ccache || set -- CCACHE=ccache "$@"
	env -u ARCH -u TESTS -u SKIP -u VARIANT -u QEMU -u KERNEL -u BUILD -u VERSION -u SUFFIX -u ON -u PROFILE -u LLVM \
		"$tree/$RUNNER/run.sh" "$@"
}

# image_of TREE ARCH [SUFFIX]: the kernel that is built there
image_of()
{
	local image=arch/$2/boot/Image

	[ "$2" != x86 ] || image=arch/x86/boot/bzImage
	printf '%s\n' "$1/out-$2${3:-}/$image"
}

# Where a Debian mirror may have what the machine's own suites have not: suites of
# the same archive, in the order in which they are asked.
# shellcheck disable=SC2034 # used by what sources this
SUITES=(bookworm-backports trixie trixie-backports stable stable-backports testing unstable)

# apt_suites DIR ARCH URI SUITE...: an apt configuration of its own in DIR, as the
# array APT: SUITEs of the archive URI for a Debian architecture. Nothing is
# installed through it, and apt's own configuration is not touched.
apt_suites()
{
	local dir=$1 arch=$2 uri=$3 suite seen=" "
	shift 3

	[ -n "$uri" ] || return 1
	mkdir -p "$dir/lists/partial" "$dir/parts"
	for suite; do
		[ -n "$suite" ] && [[ $seen != *" $suite "* ]] || continue
		seen+="$suite "
		printf 'deb [signed-by=%s] %s %s main\n' /usr/share/keyrings/debian-archive-keyring.gpg "$uri" "$suite"
	done >"$dir/sources.list"
	# Not as root: apt's sandbox user could not write there.
	# shellcheck disable=SC2034 # used by what sources this
	APT=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o "Dir::Etc::sourceparts=$dir/parts"
	     -o "Dir::State::lists=$dir/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
	     -o "Dir::State::status=/dev/null" -o "APT::Architecture=$arch" -o "APT::Architectures=$arch"
	     -o "APT::Sandbox::User=root" -o "Acquire::Languages=none")
}

# debian_mirror: the archive that apt on this machine uses
debian_mirror()
{
	if [ -n "${DEBIAN_MIRROR:-}" ]; then
		printf '%s\n' "${DEBIAN_MIRROR%/}/"
	elif command -v apt-get >/dev/null; then
		apt-get indextargets --format '$(REPO_URI)' \
			'Created-By: Packages' 'Label: Debian' 2>/dev/null | sed -n 1p
	fi
}

# tests_at COMMIT ARCH: those of patches/<version>/tests that the commit has, but
# for those of SKIP
tests_at()
{
	local name list
	list=$(git -C "$TREE" show "$1:tools/testing/selftests/kvm/Makefile.kvm")
	while read -r name; do
		[[ " ${SKIP:-} " == *" $name "* ]] ||
		! grep -qE "^TEST_(GEN_)?PROGS_(EXTENDED_)?(COMMON \+?= ($name|.* $name)|$2 \+?= ($2/)?$name)( |\$)" <<<"$list" ||
			printf ' %s' "$name"
	done < <(listed_tests "$2")
}

# lines_of FILE ARCH: those of a table that are for that architecture, or for all ("*"),
# without comments and without the first column
lines_of()
{
	sed 's/#.*//' "$1" | awk -v a="$2" '
		$1 == "*" || index("," $1 ",", "," a ",") { sub(/^[ \t]*[^ \t]+[ \t]+/, ""); sub(/[ \t]+$/, ""); print }'
}

# listed_tests ARCH [PROFILE]: the names in patches/<version>/tests
listed_tests()
{
	lines_of "$PATCHES/tests" "$1" | awk -v p="${2:-}" -v v="${VARIANT:-}" \
		'match($0, /[ \t]variant=[^ \t]+/) && substr($0, RSTART + 9, RLENGTH - 9) != v { next }
		!(p != "" && $0 ~ "[ \t]" p "=no") { print $1 }'
}

# reproducers_of ARCH: "TEST VARIANT" of those that must fail on the base
reproducers_of()
{
	lines_of "$PATCHES/tests" "$1" | awk '/[ \t]base=fail/ {
		print $1, match($0, /variant=[^ \t]+/) ? substr($0, RSTART + 8, RLENGTH - 8) : "" }'
}

# affected FROM TO: the architectures of ARCH whose build or behaviour what is
# between these commits of $TREE can change
affected()
{
	local files arch tests=tools/testing/selftests/kvm lines

	files=$(git -C "$TREE" diff-tree -r --name-only "$1" "$2" | grep -v '^Documentation/' |
		sed 's,^include/kvm/arm_,arch/arm64/&,' || :)
	# A line of the Makefile that adds a test of one architecture is as good
	# as a file below its directory.
	lines=$(git -C "$TREE" diff -U0 "$1" "$2" -- "$tests/Makefile.kvm" | grep '^[-+][^-+]' || :)
	if [ -n "$lines" ] && ! grep -qvE '^.TEST_GEN_PROGS_(riscv|arm64|x86|s390|loongarch) \+= ' <<<"$lines"; then
		files=$(grep -vx "$tests/Makefile.kvm" <<<"$files" || :
			sed -E "s,^.TEST_GEN_PROGS_([a-z0-9]*) .*,$tests/\1/Makefile," <<<"$lines")
	fi
	[ -n "$files" ] || return 0
	for arch in ${ARCH:-riscv arm64 x86}; do
		if grep -qvE "^(arch|$tests/(lib/|include/)?(riscv|arm64|x86|s390|loongarch))/" <<<"$files" ||
		   grep -qE "^(arch|$tests|$tests/lib|$tests/include)/$arch/" <<<"$files"; then
			printf '%s\n' "$arch"
		fi
	done
}
