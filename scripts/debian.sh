# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced after common.sh: programs of Debian 13 that are not installed, of any
# architecture, with the libraries that they need beside them.

# cached NAME: the newest $CACHE/NAME-VERSION, if there is one
cached()
{
	local dir last=

	for dir in "$CACHE/$1-"*; do
		[ ! -e "$dir/complete" ] || last=$dir
	done
	[ -n "$last" ] && printf '%s\n' "$last"
}

# into_cache NAME TMP PACKAGE: TMP/new is NAME, in the version that PACKAGE has
into_cache()
{
	local dir

	dir=$CACHE/$1-$(sed -n "s/^$3_\(.*\)_[^_]*\.deb$/\1/p" "$2/packages" | sed 's/^[0-9]*%3a//')
	mv -- "$2/packages" "$2/new/complete"
	rm -rf -- "$dir"
	mv -- "$2/new" "$dir"
	rm -rf -- "$2"
	printf '%s\n' "$dir"
}

# fetch_debs WHAT DIR DEBIAN-ARCH ELSE PACKAGE...: PACKAGEs and the libraries that they
# depend on, unpacked in DIR/root; DIR/packages has their names. ELSE is what to do
# without apt.
fetch_debs()
{
	local what=$1 dir=$2 arch=$3 else=$4 deb
	local -a libraries
	shift 4

	command -v apt-get >/dev/null || die "only Debian's apt can fetch $what" "$else"
	mkdir -p "$dir/deb" "$dir/root"
	apt_suites "$dir" "$arch" "$(debian_mirror)" trixie ||
		die "apt knows no Debian archive to fetch $what from" "apt-get update"
	# apt finds all that it depends on; only libraries are of use to what is not installed.
	if ! apt-get "${APT[@]}" -qq update >"$dir/log" 2>&1 ||
	   ! apt-get "${APT[@]}" -y --no-install-recommends --print-uris install "$@" >"$dir/uris" 2>"$dir/log" ||
	   ! mapfile -t libraries < <(sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p" "$dir/uris" | grep -E '^(lib|zlib)') ||
	   ! (cd "$dir/deb" && apt-get "${APT[@]}" -qq download "$@" "${libraries[@]}") >"$dir/log" 2>&1; then
		tail -n 5 "$dir/log" >&2
		die "apt could not fetch $what" "check the network"
	fi
	for deb in "$dir"/deb/*.deb; do
		dpkg-deb -x "$deb" "$dir/root"
	done
	(cd "$dir/deb" && printf '%s\n' *.deb) >"$dir/packages"
}

# libraries_of ROOTS FILE...: where all that these are linked to is, below one of the
# directories of that array
libraries_of()
{
	local -n libraries_roots=$1
	local name path
	local -a todo=("${@:2}")
	local -A seen=()

	while [ ${#todo[@]} -gt 0 ]; do
		while read -r name; do
			[ -z "${seen[$name]:-}" ] || continue
			seen[$name]=1
			path=$(find "${libraries_roots[@]/%//}" -name "$name" ! -type d -path '*/lib/*' -print -quit 2>/dev/null)
			[ -n "$path" ] || die "${todo[0]##*/} needs $name, which is not in ${libraries_roots[*]}" \
				"put it below ${libraries_roots[0]}/usr/lib"
			printf '%s\n' "$path"
			todo+=("$path")
		done < <(readelf -dW "${todo[0]}" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
		todo=("${todo[@]:1}")
	done
}
