#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# package.sh DEBIAN-ARCH PACKAGE PATH...: print a file of a Debian package of
# any architecture, the first PATH that it has. Nothing is installed and apt's
# own configuration is not touched. Debian 13 is the first with riscv64.

. "$(dirname -- "$0")/common.sh"

[ $# -ge 3 ] || die "package.sh needs an architecture, a package and a path" "package.sh riscv64 busybox-static ./bin/busybox"
arch=$1
package=$2
shift 2

command -v apt-get >/dev/null || die "only Debian's apt can fetch $package for $arch" \
	"give BUSYBOX=/path/to/a/static/busybox"
tmp=$(mktemp -d)
trap 'rm -rf -- "$tmp"' EXIT
apt_suites "$tmp" "$arch" "$(debian_mirror)" trixie ||
	die "apt knows no Debian archive to fetch $package from" "apt-get update"
if ! (apt-get "${APT[@]}" -qq update && cd "$tmp" && apt-get "${APT[@]}" -qq download "$package") >"$tmp/log" 2>&1; then
	tail -n 5 "$tmp/log" >&2
	die "apt could not fetch $package for $arch" "check the network"
fi
dpkg-deb --fsys-tarfile "$tmp/${package}"_*.deb >"$tmp/data.tar"
for path; do
	tar -tf "$tmp/data.tar" "$path" >/dev/null 2>&1 || continue
	tar -xOf "$tmp/data.tar" "$path"
	exit 0
done
die "$package for $arch has none of: $*"
