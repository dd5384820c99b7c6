#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# setup.sh [ARCH ...]: see that every tool is there, install what is not.
# FULL=1: those of "make check-full" too. VMM=1: those of "make qemu".
#
#	setup.sh list [ARCH ...]	"TOOL PACKAGE" of all that it would see to
#
# Missing tools are named all at once, each with the Debian package that has
# it. As root on Debian they are installed; anyone else gets the one command to
# run as root. A QEMU that is too old in the release comes from the release's
# backports, through an apt configuration that lasts for this run only.

. "$(dirname -- "$0")/common.sh"

# shellcheck source=scripts/progress.sh
. "$TOP/scripts/progress.sh"

LIST=0
[ "${1:-}" != list ] || { LIST=1; shift; }
[ $# -gt 0 ] || set -- riscv arm64 x86
known_arches "$*"
case ${SETUP:-install} in
install|check) ;;
*) die "SETUP=$SETUP is neither install nor check" "make setup SETUP=check" ;;
esac

# What each release is known to lack was seen with Debian 12: QEMU 7.2 prints
# nothing after OpenSBI. 10.0 is the oldest that this was run with.
QEMU_MIN=10.0

MISSING=()	# "what|package|why"

# have TOOL: as a file, for common.sh has a function git. Never with "list".
have() { [ "$LIST" = 0 ] && type -P "$1" >/dev/null; }

# need TOOL PACKAGE WHY
need() { have "$1" || MISSING+=("$1|$2|$3"); }

# need_header PACKAGE WHY CC HEADER: the compiler finds the header. One that is not
# there finds none, and nothing is installed twice.
need_header()
{
	have "$3" || { MISSING+=("$4|$1|$2"); return 0; }
	echo "#include <$4>" | "$3" -E -x c - >/dev/null 2>&1 || MISSING+=("$4|$1|$2")
}

# need_libc PACKAGE CC: static linking works
need_libc()
{
	have "$2" || { MISSING+=("libc for $2|$1|tests"); return 0; }
	[ -f "$("$2" -print-file-name=libc.a)" ] || MISSING+=("libc.a for $2|$1|tests")
}

# need_qemu BINARY PACKAGE
need_qemu()
{
	local have

	if ! have "$1"; then
		MISSING+=("$1|$2|running the tests")
		return 0
	fi
	have=$("$1" --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
	[ "$(printf '%s\n' "$QEMU_MIN" "$have" | sort -V | head -n 1)" = "$QEMU_MIN" ] ||
		MISSING+=("$1 $QEMU_MIN (found $have, too old)|$2|running the tests")
}

probe()
{
	local arch

	MISSING=()
	need git git "the series"
	need make make "everything"
	need curl curl "getting the base"
	[ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] ||
		MISSING+=("CA certificates|ca-certificates|getting the base")
	need xz xz-utils "unpacking the base"
	need gcc gcc "host tools"
	need flex flex "kconfig"
	need bison bison "kconfig"
	need bc bc "the kernel"
	need perl perl "the kernel, get_maintainer.pl"
	# Debian's perl-base has perl, and half of its modules.
	! have perl || perl -MFile::Find -e 1 2>/dev/null || MISSING+=("modules of perl|perl|the kernel, get_maintainer.pl")
	need rsync rsync "installing the selftests"
	need cpio cpio "the initramfs"
	need ccache ccache "building the base and the series only once"
	need flock util-linux "one run at a time"
	need quilt quilt "testing that the patches apply without fuzz"
	need shellcheck shellcheck "testing the scripts"
	need python3 python3 "the series, and what reads results"
	if [ -n "${LLVM:-}" ] || [ "${FULL:-0}" = 1 ]; then
		need "clang${LLVM:--19}" "clang${LLVM:--19}" "building with clang"
		need "ld.lld${LLVM:--19}" "lld${LLVM:--19}" "building with clang"
		need "llvm-ar${LLVM:--19}" "llvm${LLVM:--19}" "building with clang"
	fi
	if [ "${FULL:-0}" = 1 ]; then
		need sparse sparse "make checkers"
		need spatch coccinelle "make checkers"
		need sphinx-build python3-sphinx "make checkers"
		need dot graphviz "make checkers"
	fi
	if [ "${VMM:-0}" = 1 ]; then
		need ninja ninja-build "building QEMU"
		need pkg-config pkg-config "building QEMU"
		# The one that QEMU is configured with.
		if [ "$LIST" = 1 ] || ! /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then
			MISSING+=("ensurepip of python3|python3-venv|building QEMU")
		fi
	fi
	if [ "${BENCH:-0}" = 1 ]; then
		need gnuplot gnuplot-nox "the plots of make bench"
		need gdb-multiarch gdb-multiarch "scripts/bench/profile.sh"
	fi
	[ "${GDB:-0}" != 1 ] || need gdb-multiarch gdb-multiarch "make debug"
	need_header libc6-dev "host tools" gcc stdio.h
	need_header libelf-dev "objtool" gcc gelf.h
	need_header libssl-dev "host tools" gcc openssl/opensslv.h
	for arch; do
		case $arch in
		riscv)
			need riscv64-linux-gnu-gcc gcc-riscv64-linux-gnu "the riscv kernel"
			need_libc libc6-dev-riscv64-cross riscv64-linux-gnu-gcc
			need_qemu qemu-system-riscv64 "$(qemu_package riscv)"
			;;
		arm64)
			need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu "the arm64 kernel"
			need_libc libc6-dev-arm64-cross aarch64-linux-gnu-gcc
			need_qemu qemu-system-aarch64 qemu-system-arm
			;;
		x86)
			if [ "$(uname -m)" = x86_64 ]; then
				need_libc libc6-dev gcc
			else
				need x86_64-linux-gnu-gcc gcc-x86-64-linux-gnu "the x86 kernel"
				need_libc libc6-dev-amd64-cross x86_64-linux-gnu-gcc
			fi
			# KVM's irq_test on x86 links the library of the vfio selftests.
			need_header uuid-dev "the selftests" "$(cross_of x86)gcc" uuid/uuid.h
			need_qemu qemu-system-x86_64 qemu-system-x86
			;;
		esac
	done
}

# The riscv emulator left qemu-system-misc for a package of its own in 10.0.
qemu_package()
{
	# apt-cache would take a second to say.
	[ "$LIST" = 0 ] && apt-cache "${APT[@]}" show qemu-system-riscv >/dev/null 2>&1 &&
		echo qemu-system-riscv || echo qemu-system-misc
}

# backports: an apt configuration in $1 that knows the release's backports,
# from the same archive that apt uses already
backports()
{
	local codename uri

	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
		'Label: Debian' "Codename: $codename" 2>/dev/null | sed -n 1p)
	[ -n "$uri" ] || return 1
	mkdir -p "$1/sources.list.d" "$1/lists/partial"
	[ ! -f /etc/apt/sources.list ] || cp /etc/apt/sources.list "$1/"
	touch "$1/sources.list"
	cp -r /etc/apt/sources.list.d/. "$1/sources.list.d/"
	printf 'deb [signed-by=%s] %s %s-backports main\n' \
		/usr/share/keyrings/debian-archive-keyring.gpg "$uri" "$codename" \
		>"$1/sources.list.d/backports.list"
	APT=(-o "Dir::Etc::sourcelist=$1/sources.list" -o "Dir::Etc::sourceparts=$1/sources.list.d"
	     -o "Dir::State::lists=$1/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
	     -t "$codename-backports")
}

report()
{
	local m what package why

	echo "missing:"
	for m in "${MISSING[@]}"; do
		IFS='|' read -r what package why <<<"$m"
		printf '  %s: package %s for %s\n' "$what" "$package" "$why"
	done
}

packages() { printf '%s\n' "${MISSING[@]}" | cut -d'|' -f2 | sort -u; }

# What to run for the same tools.
again="setup$([ "${FULL:-0}" != 1 ] || echo " FULL=1")${LLVM:+ LLVM=$LLVM}"
APT=()
probe "$@"
if [ "$LIST" = 1 ]; then
	printf '%s\n' "${MISSING[@]}" | awk -F '|' '{ sub(/.* for /, "", $1); gsub(/ /, "-", $1); print $1, $2 }'
	exit 0
fi
if [ ${#MISSING[@]} -eq 0 ]; then
	[ "${V:-0}" = 0 ] || say "every tool is there"
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	report >&2
	die "this is not Debian, so nothing was installed" "install the above by your distribution's names"
fi
if [ "$(id -u)" != 0 ]; then
	report >&2
	die "only root can install packages" "sudo make -C '$TOP' $again"
fi
if [ "${SETUP:-install}" = check ]; then
	report >&2
	die "SETUP=check installs nothing" "make $again"
fi

export DEBIAN_FRONTEND=noninteractive
tmp=$(mktemp -d)
trap 'rm -rf -- "$tmp"' EXIT
report
say "installing, log: $tmp/log"
# wanted: can apt, as configured, give a QEMU that is new enough?
mapfile -t wanted < <(packages)
apt-get update >"$tmp/log" 2>&1 || say "  apt-get update complained: $(grep -m 1 -E '^[EW]:' "$tmp/log")"
if printf '%s\n' "${wanted[@]}" | grep -q '^qemu-system-'; then
	candidate=$(apt-cache policy qemu-system-x86 | sed -n 's/.*Candidate: \([0-9]*:\)\?\([0-9.]*\).*/\2/p')
	if [ "$(printf '%s\n' "$QEMU_MIN" "${candidate:-0}" | sort -V | head -n 1)" != "$QEMU_MIN" ]; then
		say "  QEMU $candidate of this release is too old: taking it from backports"
		backports "$tmp/apt" || die "apt knows no Debian archive to take backports from" \
			"install QEMU $QEMU_MIN or newer by hand"
		apt-get "${APT[@]}" update >>"$tmp/log" 2>&1 || :
		probe "$@"
		mapfile -t wanted < <(packages)
	fi
fi
# Only QEMU from backports: the rest as the release has it.
mapfile -t qemu < <(printf '%s\n' "${wanted[@]}" | grep '^qemu-' || :)
mapfile -t rest < <(printf '%s\n' "${wanted[@]}" | grep -v '^qemu-' || :)
install()
{
	progress_start "installing" "$tmp/log"
	without_progress apt-get "$@" >>"$tmp/log" 2>&1 || {
		tail -n 15 "$tmp/log" >&2
		cp "$tmp/log" "${TMPDIR:-/tmp}/kvm-vcpu-reset-setup.log"
		die "apt-get could not install the packages" \
			"see ${TMPDIR:-/tmp}/kvm-vcpu-reset-setup.log, then make $again"
	}
	progress_stop
}
[ ${#rest[@]} -eq 0 ] || install install -y --no-install-recommends "${rest[@]}"
[ ${#qemu[@]} -eq 0 ] || install "${APT[@]}" install -y --no-install-recommends "${qemu[@]}"
probe "$@"
if [ ${#MISSING[@]} -gt 0 ]; then
	report >&2
	die "still missing after installing packages" "see the list above"
fi
say "installed: ${wanted[*]}"
