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
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)
[ -n "$uri" ] || die "apt knows no Debian archive to fetch $package from" "apt-get update"

tmp=$(mktemp -d)
trap 'rm -rf -- "$tmp"' EXIT
mkdir -p "$tmp/lists/partial" "$tmp/parts"
printf 'deb [signed-by=%s] %s trixie main\n' \
	/usr/share/keyrings/debian-archive-keyring.gpg "$uri" >"$tmp/sources.list"
# Not as root: apt's sandbox user could not write there.
apt=(-qq -o "Dir::Etc::sourcelist=$tmp/sources.list" -o "Dir::Etc::sourceparts=$tmp/parts"
     -o "Dir::State::lists=$tmp/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
     -o "Dir::State::status=/dev/null" -o "APT::Architecture=$arch" -o "APT::Architectures=$arch"
     -o "APT::Sandbox::User=root" -o "Acquire::Languages=none")
if ! (apt-get "${apt[@]}" update && cd "$tmp" && apt-get "${apt[@]}" download "$package") >"$tmp/log" 2>&1; then
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
