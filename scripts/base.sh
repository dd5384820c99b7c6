#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# base.sh [VERSION]: find the base kernel, or another VERSION, and make it a git
# commit.
#
# Prints "GITDIR COMMIT". The source is, in this order: KERNEL= (a git tree,
# an unpacked tree or a tarball), the cache, kernel.org, the Debian mirror that
# apt is set up with, Debian's linux-source package from whatever suite has it.
# A source that has not got it is the next try. Whatever the source, the files
# that the patches touch must have the content that BASE records; if they do,
# another version of the same series is as good.

. "$(dirname -- "$0")/common.sh"

VERSION=${1:-$(base_key version)}
SERIES=${VERSION%.*}
[ -n "$VERSION" ] || die "$PATCHES/BASE names no version" "restore it: git checkout -- $PATCHES/BASE"

# Of another version nothing is known, and neither KERNEL= nor what the cache has of
# its series is it.
EXACT=
if [ $# -gt 0 ]; then
	EXACT=1
	KERNEL=
	base_files() { :; }
	[[ $VERSION =~ ^[0-9]+\.[0-9]+(\.[0-9]+)?$ ]] || die "$VERSION is not a version of Linux" "base.sh 6.12.107"
fi

progress() { printf '%s\n' "$*" >&2; }

# is_kernel DIR
is_kernel() { [ -f "$1/Makefile" ] && [ -f "$1/Kbuild" ] && [ -d "$1/virt/kvm" ]; }

# version_of GITDIR TREE: as its Makefile has it
version_of()
{
	{ git --git-dir="$1" cat-file blob "$2:Makefile" 2>/dev/null || :; } | awk -F ' *= *' '
		/^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)( |=)/ { v[$1] = $2 }
		/^EXTRAVERSION/ { exit }
		END { print v["VERSION"] "." v["PATCHLEVEL"] (v["SUBLEVEL"] ? "." v["SUBLEVEL"] : "") v["EXTRAVERSION"] }'
}

# commit_tree GITDIR: commit the index of GITDIR; the same content always
# gives the same commit.
commit_tree()
{
	local tree stamp="1970-01-01T00:00:00Z"

	tree=$(git --git-dir="$1" write-tree)
	GIT_AUTHOR_NAME=$GIT_COMMITTER_NAME GIT_AUTHOR_EMAIL=$GIT_COMMITTER_EMAIL \
	GIT_AUTHOR_DATE=$stamp GIT_COMMITTER_DATE=$stamp \
		git --git-dir="$1" commit-tree -m "Linux $(version_of "$1" "$tree")" "$tree"
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
	# Debian's lines have git ignore every file that a commit adds.
	sed -i '/^# Debian packaging: ignore everything/,$d' "$top/.gitignore" 2>/dev/null || :
	progress "importing Linux into git"
	rm -rf -- "$gitdir.new"
	import "$top" "$gitdir.new" -f
	verify "$gitdir.new" refs/heads/base "$3" "$4"
	mv -T -- "$gitdir.new" "$gitdir"
	rm -rf -- "$tmp"
	trap - EXIT
}

# differing GITDIR COMMIT: the files that are not as BASE says
differing()
{
	local -a paths

	mapfile -t paths < <(base_files | cut -d' ' -f2-)
	[ ${#paths[@]} -gt 0 ] || return 0
	LC_ALL=C comm -23 <(base_files | LC_ALL=C sort) \
		<(git --git-dir="$1" ls-tree -r "$2" -- "${paths[@]}" | awk -F '\t' '{ split($1, f, " "); print f[3], $2 }' |
		  LC_ALL=C sort) | cut -d' ' -f2- | LC_ALL=C sort
}

# verify GITDIR COMMIT ORIGIN NEXT: refuse what the patches were not made for
verify()
{
	local gitdir=$1 commit=$2 origin=$3 next=$4 have differ

	differ=$(differing "$gitdir" "$commit")
	have=$(version_of "$gitdir" "$commit")
	if [ -n "$differ" ]; then
		[ "$have" = "$VERSION" ] || [ "${have%.*}" != "$SERIES" ] || next="rebase the series on $have: see \"Another base\" in README.md; or $next"
		die "$origin is not Linux $VERSION as the patches need it: $(paste -sd, <<<"$differ" | sed 's/,/, /g; s/$/ /')differ$([ "$(wc -l <<<"$differ")" -gt 1 ] || echo s)" "$next"
	fi
	[ "$have" != "$VERSION" ] || return 0
	if [ -n "$(base_files)" ]; then
		progress "$origin is Linux $have, the series was made on $VERSION: no file that it touches differs"
	else
		progress "$origin is Linux $have, taken for $VERSION"
	fi
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
		die "${2##*/} has sha256"$'\n'"    $have, and BASE wants"$'\n'"    $3" \
			"try again, or give KERNEL= a tarball that you trust"
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

# fetch_debian DIR: the upstream tarball. A pool is not signed; without a hash in
# BASE what the patches touch is all that is known to be right.
fetch_debian()
{
	local mirror name sum
	name=linux_$VERSION.orig.tar.xz
	sum=$(sed -nE "s/^sha256: *([0-9a-f]+) +$name$/\1/p" "$PATCHES/BASE")
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || return 1
	fetch "${mirror}pool/main/l/linux/$name" "$1/$name" "$sum" && printf '%s\n' "$1/$name"
}

# fetch_linux_source DIR: has Debian's patches, so only verify() makes it fit. The
# suites are those of this machine, and what the same mirror has beside them.
fetch_linux_source()
{
	local name=linux-source-$SERIES version

	command -v apt-get >/dev/null || return 1
	progress "fetching the package $name"
	apt_suites "$1/apt" "$(dpkg --print-architecture)" "$(debian_mirror)" \
		"$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" "${SUITES[@]}" || return 1
	apt-get "${APT[@]}" update >"$1/log" 2>&1 || :	# not every archive has every suite
	# The version that the series was made on, or the newest.
	version=$(apt-cache "${APT[@]}" madison "$name" 2>>"$1/log" | awk -v v="$VERSION-" -F ' *[|] *' '
		index($2, v) == 1 && !exact { exact = $2 }
		!any { any = $2 }
		END { print exact ? exact : any }')
	[ -n "$version" ] || { progress "  no suite has $name"; return 1; }
	progress "  version $version"
	(cd "$1" && apt-get "${APT[@]}" -qq download "$name=$version" >>log 2>&1) ||
		{ progress "  $(tail -n 1 "$1/log")"; return 1; }
	dpkg-deb --fsys-tarfile "$1/$name"_*.deb |
		tar -C "$1" -xf - --strip-components=3 "./usr/src/$name.tar.xz" || return 1
	rm -f "$1/$name"_*.deb
	printf '%s\n' "$1/$name.tar.xz"
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
		die "KERNEL=$KERNEL is not a Linux source tree" \
			"give the top of a Linux $VERSION tree: Makefile, Kbuild, virt/kvm"
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

# cached: the git directory in the cache that fits: of the very version, or of the
# newest other one of the series
cached()
{
	local dir

	[ ! -d "$CACHE/linux-$VERSION.git" ] || { printf '%s\n' "$CACHE/linux-$VERSION.git"; return; }
	[ -z "$EXACT" ] || return 0
	for dir in $(cd "$CACHE" 2>/dev/null && printf '%s\n' "linux-$SERIES".*.git | sort -rV); do
		[ -d "$CACHE/$dir" ] && [ -z "$(differing "$CACHE/$dir" refs/heads/base)" ] || continue
		printf '%s\n' "$CACHE/$dir"
		return
	done
}

from_cache()
{
	local gitdir tarball="" download status=0 next

	next="fetch it elsewhere and run: make KERNEL=/path/to/linux-$VERSION.tar.xz"
	gitdir=$(cached)
	if [ -z "$gitdir" ]; then
		mkdir -p "$CACHE" || die "cannot write to the cache $CACHE" "set CACHE= to a directory of yours"
		exec 8>"$CACHE/lock"
		flock 8
		gitdir=$(cached)
	fi
	if [ -z "$gitdir" ]; then
		need_space "$CACHE" 3584
		download=$CACHE/download
		rm -rf -- "$download"
		mkdir -p "$download"
		tarball=$(fetch_kernel_org "$download" || fetch_debian "$download" ||
			  fetch_linux_source "$download") || status=$?
		# A hash that is wrong has had its say.
		[ "$status" != 2 ] || exit 2
		[ -n "$tarball" ] || die \
			"Linux $VERSION could be had from neither kernel.org nor the Debian mirror" "check the network, or $next"
		import_tarball "$tarball" "$CACHE/new.git" "what was fetched, $(basename -- "$tarball")," "$next"
		gitdir=$CACHE/linux-$(version_of "$CACHE/new.git" refs/heads/base).git
		rm -rf -- "$gitdir"
		mv -T -- "$CACHE/new.git" "$gitdir"
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
