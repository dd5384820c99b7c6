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
PATCHES=${PATCHES:-$TOP/patches/v7.2}
TREE=${TREE:-$BUILD/linux}

# Directories that hold added files; anything else at the top is ours.
# shellcheck disable=SC2034 # used by series.sh
ADDED_DIRS=(arch include virt Documentation tools)

# The identity on composed commits. A person who sends the series replaces
# it with their own: see "make mbox".
export GIT_COMMITTER_NAME="KVM vCPU reset series"
export GIT_COMMITTER_EMAIL="kvm-vcpu-reset@example.org"

# The user's git configuration must not change what is composed.
git() { command git -c core.autocrlf=false -c commit.gpgSign=false \
	-c core.quotePath=false -c diff.noprefix=false -c advice.detachedHead=false \
	-c core.abbrev=12 -c gc.auto=0 "$@"; }

say() { printf '%s\n' "$*"; }

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

# base_key KEY: the value of a "key: value" line of BASE.
base_key() { sed -n "s/^$1: *//p" "$PATCHES/BASE"; }

# base_files: "SHA256 PATH" for each upstream file that the patches touch.
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

# cross_of ARCH: the prefix of its tools; empty for the machine's own
cross_of()
{
	case $1 in
	riscv) [ "$(uname -m)" = riscv64 ] || echo riscv64-linux-gnu- ;;
	arm64) [ "$(uname -m)" = aarch64 ] || echo aarch64-linux-gnu- ;;
	x86) [ "$(uname -m)" = x86_64 ] || echo x86_64-linux-gnu- ;;
	esac
}
