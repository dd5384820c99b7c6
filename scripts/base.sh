#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# base.sh: find the base kernel and make it a git commit.
#
# Prints "GITDIR COMMIT". The source is, in this order: KERNEL= (a git tree,
# an unpacked tree or a tarball), the cache, kernel.org, the Debian mirror that
# apt is set up with, Debian's linux-source package. Whatever the source, the
# files that the patches touch must have the content that BASE records.

. "$(dirname -- "$0")/common.sh"

VERSION=$(base_key version)
SERIES=${VERSION%.*}
[ -n "$VERSION" ] || die "$PATCHES/BASE names no version" "restore it: git checkout -- $PATCHES/BASE"

progress() { printf '%s\n' "$*" >&2; }

# is_kernel DIR
is_kernel() { [ -f "$1/Makefile" ] && [ -f "$1/Kbuild" ] && [ -d "$1/virt/kvm" ]; }

# commit_tree GITDIR: commit the index of GITDIR; the same content always
# gives the same commit.
commit_tree()
{
	local tree stamp="1970-01-01T00:00:00Z"

	tree=$(git --git-dir="$1" write-tree)
	GIT_AUTHOR_NAME=$GIT_COMMITTER_NAME GIT_AUTHOR_EMAIL=$GIT_COMMITTER_EMAIL \
	GIT_AUTHOR_DATE=$stamp GIT_COMMITTER_DATE=$stamp \
		git --git-dir="$1" commit-tree -m "Linux $VERSION" "$tree"
}

# import DIR GITDIR [add options]: the content of DIR as one commit. Every file
# goes straight into a pack: 25 s instead of a hundred thousand loose objects.
import()
{
	local dir=$1 gitdir=$2 commit
	shift 2

	[ -d "$gitdir" ] || git init -q --bare "$gitdir"
	git --git-dir="$gitdir" -c core.bare=false -c core.compression=1 \
		-c core.bigFileThreshold=1 --work-tree="$dir" add -A "$@" .
	commit=$(commit_tree "$gitdir")
	git --git-dir="$gitdir" update-ref refs/heads/base "$commit"
}

# import_tarball FILE GITDIR ORIGIN NEXT: only what verify() takes becomes GITDIR
import_tarball()
{
	local tarball=$1 gitdir=$2 tmp top

	need_space "$(dirname -- "$gitdir")" 3072
	tmp=$(mktemp -d "$(dirname -- "$gitdir")/unpack.XXXXXX")
	# shellcheck disable=SC2064 # the directory of now is the one to remove
	trap "rm -rf -- '$tmp' '$gitdir.new'" EXIT
	progress "unpacking $(basename -- "$tarball")"
	mkdir "$tmp/tree"
	tar -C "$tmp/tree" -xf "$tarball" 2>"$tmp/log" ||
		die "$tarball is not a complete tar archive: $(tail -n 1 "$tmp/log")" \
		    "fetch it again, or leave KERNEL= unset"
	top=$tmp/tree
	is_kernel "$top" || top=$(find "$tmp/tree" -mindepth 1 -maxdepth 1 -type d | sed -n 1p)
	is_kernel "$top" || die "$tarball does not hold a Linux source tree" \
		"give KERNEL= a linux-$VERSION tarball"
	progress "importing Linux into git"
	rm -rf -- "$gitdir.new"
	import "$top" "$gitdir.new" -f
	verify "$gitdir.new" refs/heads/base "$3" "$4"
	mv -T -- "$gitdir.new" "$gitdir"
	rm -rf -- "$tmp"
	trap - EXIT
}

# verify GITDIR COMMIT ORIGIN NEXT: name the first file that is not as BASE says.
verify()
{
	local gitdir=$1 commit=$2 origin=$3 next=$4 sum path have

	while read -r sum path; do
		have=$(git --git-dir="$gitdir" cat-file blob "$commit:$path" 2>/dev/null |
		       sha256sum | cut -d' ' -f1) || have=missing
		[ "$have" = "$sum" ] || die \
			"$origin is not Linux $VERSION as the patches need it: $path differs" "$next"
	done < <(base_files)
}

# fetch URL FILE [SHA256]
fetch()
{
	progress "fetching ${2##*/} from $(printf '%s' "$1" | cut -d/ -f3)"
	curl -fsSL --connect-timeout 10 --retry 2 -o "$2.part" "$1" 2>"$2.err" || {
		progress "  $(tail -n 1 "$2.err")"
		rm -f -- "$2.part" "$2.err"
		return 1
	}
	rm -f -- "$2.err"
	if [ -n "${3:-}" ] && ! printf '%s  %s\n' "$3" "$2.part" | sha256sum -c --status; then
		local have
		have=$(sha256sum "$2.part" | cut -d' ' -f1)
		rm -f -- "$2.part"
		die "${2##*/} has sha256 $have, BASE wants $3" \
			"the download was damaged or changed: try again, or give KERNEL= a tarball you trust"
	fi
	mv -- "$2.part" "$2"
}

# fetch_kernel_org DIR: checked against the list beside the tarball
fetch_kernel_org()
{
	local name="linux-$VERSION.tar.xz" url sum
	url="${KERNEL_ORG:-https://cdn.kernel.org/pub/linux/kernel}/v${VERSION%%.*}.x"

	fetch "$url/sha256sums.asc" "$1/sha256sums" || return 1
	sum=$(awk -v n="$name" '$2 == n { print $1 }' "$1/sha256sums")
	rm -f "$1/sha256sums"
	[ -n "$sum" ] || return 1
	fetch "$url/$name" "$1/$name" "$sum" && printf '%s\n' "$1/$name"
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

fetch_debian()
{
	local mirror name
	name=$(base_key debian)
	[ -n "$name" ] || return 1
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || return 1
	fetch "${mirror}pool/main/l/linux/$name" "$1/$name" "$(base_key debian-sha256)" &&
		printf '%s\n' "$1/$name"
}

# fetch_linux_source DIR: has Debian's patches, so only verify() makes it fit
fetch_linux_source()
{
	command -v apt-get >/dev/null || return 1
	progress "fetching the package linux-source-$SERIES"
	(cd "$1" && apt-get -qq download "linux-source-$SERIES" >/dev/null 2>&1) || return 1
	dpkg-deb --fsys-tarfile "$1"/linux-source-"$SERIES"_*.deb |
		tar -C "$1" -xf - --strip-components=3 "./usr/src/linux-source-$SERIES.tar.xz" || return 1
	rm -f "$1"/linux-source-"$SERIES"_*.deb
	printf '%s\n' "$1/linux-source-$SERIES.tar.xz"
}

from_kernel()
{
	local gitdir="" commit sum
	local next="give KERNEL= an unmodified $VERSION, or unset it to have it fetched"

	[ -e "$KERNEL" ] || die "KERNEL=$KERNEL does not exist" \
		"give a git tree, an unpacked tree or a tarball of Linux $VERSION"
	KERNEL=$(realpath -- "$KERNEL")
	if [ -f "$KERNEL" ]; then
		sum=$(sha256sum "$KERNEL" | cut -c1-16)
		gitdir=$CACHE/$sum.git
		mkdir -p "$CACHE"
		[ -d "$gitdir" ] || import_tarball "$KERNEL" "$gitdir" "KERNEL=$KERNEL" "$next"
		commit=refs/heads/base
	elif ! is_kernel "$KERNEL"; then
		die "KERNEL=$KERNEL is not a Linux source tree (no Makefile, Kbuild and virt/kvm there)" \
			"give the top of a Linux $VERSION tree"
	elif gitdir=$(git -C "$KERNEL" rev-parse --absolute-git-dir 2>/dev/null) &&
	     [ "$(realpath -- "$(git -C "$KERNEL" rev-parse --show-toplevel)")" = "$KERNEL" ]; then
		gitdir=$(cd -- "$KERNEL" && realpath -- "$(git rev-parse --git-common-dir)")
		commit=$(base_key tag)
		git --git-dir="$gitdir" rev-parse -q --verify "$commit^{commit}" >/dev/null ||
			commit=$(git -C "$KERNEL" rev-parse HEAD)
	else
		gitdir=$BUILD/base.git
		mkdir -p "$BUILD"
		progress "importing $KERNEL into git"
		import "$KERNEL" "$gitdir"
		commit=refs/heads/base
	fi
	verify "$gitdir" "$commit" "KERNEL=$KERNEL" "$next"
	commit=$(git --git-dir="$gitdir" rev-parse -q --verify "$commit^{commit}")
	printf '%s %s\n' "$gitdir" "$commit"
}

from_cache()
{
	local gitdir=$CACHE/linux-$VERSION.git tarball="" download status=0

	if [ ! -d "$gitdir" ]; then
		mkdir -p "$CACHE" || die "cannot write to the cache $CACHE" "set CACHE= to a directory of yours"
		exec 8>"$CACHE/lock"
		flock 8
	fi
	if [ ! -d "$gitdir" ]; then
		need_space "$CACHE" 3584
		download=$CACHE/download
		mkdir -p "$download"
		tarball=$(fetch_kernel_org "$download" || fetch_debian "$download" ||
			  fetch_linux_source "$download") || status=$?
		# A hash that is wrong has had its say.
		[ "$status" != 2 ] || exit 2
		[ -n "$tarball" ] || die \
			"Linux $VERSION could be had from neither kernel.org nor the Debian mirror" \
			"check the network, or fetch it elsewhere and run: make KERNEL=/path/to/linux-$VERSION.tar.xz"
		import_tarball "$tarball" "$gitdir" "what was fetched, $(basename -- "$tarball")," \
			"fetch it elsewhere and run: make KERNEL=/path/to/linux-$VERSION.tar.xz"
		rm -rf -- "$download"
	fi
	verify "$gitdir" refs/heads/base "the cache $gitdir" "rm -rf '$gitdir', to have it fetched again"
	printf '%s %s\n' "$gitdir" "$(git --git-dir="$gitdir" rev-parse refs/heads/base)"
}

if [ -n "${KERNEL:-}" ]; then
	from_kernel
else
	from_cache
fi
