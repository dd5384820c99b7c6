#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# qemu.sh: QEMU with the patches of patches/qemu-VERSION, for hosts with KVM.
#
#	qemu.sh tree		the git tree build/qemu/tree, with one commit a patch
#	qemu.sh build ARCH	cross-build it: build/qemu/ARCH/usr/bin/qemu-system-*
#	qemu.sh refresh		write the commits of the tree back to the patches
#	qemu.sh saved		fail if the tree has more than the patches
#
# The source is that of Debian 13's package, with the patches that it has. Programs
# are linked to Debian 13's libraries of their architecture, and build/qemu/ARCH has
# those and the firmware, i.e. all that a virtual machine needs; copied elsewhere,
# it still works. What was fetched stays in the cache. Nothing is installed, and no
# root is needed.
#
# Environment: PATCHED=0 builds the source without the patches, for comparison, in
# build/qemu/ARCH-plain.

. "$(dirname -- "$0")/common.sh"
export LC_ALL=C

QEMU_PATCHES=${QEMU_PATCHES:-$(printf '%s\n' "$TOP"/patches/qemu-* | sort -V | tail -n 1)}
QEMU_VERSION=${QEMU_PATCHES##*/qemu-}
QEMU_CACHE=$CACHE/qemu-$QEMU_VERSION
OUT=$BUILD/qemu
QTREE=$OUT/tree
JOBS=${JOBS:-$(nproc)}
PATCHED=${PATCHED:-1}

# What is linked, and what it takes to compile that
LIBRARIES=(libc6 libgcc-s1 libglib2.0-0t64 libpcre2-8-0 zlib1g libfdt1 libatomic1)
HEADERS=(libc6-dev linux-libc-dev libgio-2.0-dev libpcre2-dev libsysprof-capture-4-dev zlib1g-dev libfdt-dev)

TMP=
trap '[ -z "$TMP" ] || rm -rf -- "$TMP"' EXIT

# ---- what is fetched ---------------------------------------------------------

# in_cache NAME DEBIAN-ARCH COMMAND...: run COMMAND in a new directory, with apt set up
# for Debian 13 of that architecture. If it succeeds, the directory is NAME in the cache.
in_cache()
{
	local name=$1 arch=$2
	shift 2

	[ ! -e "$QEMU_CACHE/$name" ] || return 0
	command -v apt-get >/dev/null || die "only Debian's apt can fetch QEMU" "use a Debian machine"
	need_space "$QEMU_CACHE" 400
	TMP=$(mktemp -d "$QEMU_CACHE/new.XXXXXX")
	mkdir "$TMP/out"
	apt_suites "$TMP/apt" "$arch" "$(debian_mirror)" trixie ||
		die "apt knows no Debian archive to fetch QEMU from" "apt-get update"
	sed 's/^deb /deb-src /' "$TMP/apt/sources.list" >"$TMP/sources"
	cat "$TMP/sources" >>"$TMP/apt/sources.list"
	if ! (apt-get "${APT[@]}" -qq update && cd "$TMP/out" && "$@") >"$TMP/log" 2>&1; then
		tail -n 5 "$TMP/log" >&2
		die "apt could not fetch $name of QEMU" "check the network"
	fi
	mv -- "$TMP/out" "$QEMU_CACHE/$name"
	rm -rf -- "$TMP"
	TMP=
}

get_source()
{
	apt-get "${APT[@]}" -qq --download-only source qemu &&
	mv -- qemu_*.orig.tar.xz orig.tar.xz &&
	mv -- qemu_*.debian.tar.xz debian.tar.xz &&
	find . -name 'qemu_*' -type f -delete
}

# get_packages PACKAGE...: unpacked, all in one directory
get_packages()
{
	local file

	(cd "$TMP" && apt-get "${APT[@]}" -qq download "$@") || return
	for file in "$TMP"/*.deb; do
		dpkg-deb --fsys-tarfile "$file" | tar -x --no-same-owner || return
	done
	# As base-files has it: the linker script of libc says /lib.
	for file in lib lib64; do
		ln -s "usr/$file" "$file"
	done
}

# ---- the tree ----------------------------------------------------------------

qgit() { git -C "$QTREE" -c user.name="$GIT_COMMITTER_NAME" -c user.email="$GIT_COMMITTER_EMAIL" "$@"; }

# Which patches the tree was made of
tree_id() { (cd "$QEMU_PATCHES" && cat series ./*.patch) | sha256sum | cut -c1-16; }

report() { say "$QTREE: $(qgit rev-list --count refs/qemu/base..series) commits on QEMU $(cat "$QTREE/VERSION")"; }

base_tree()
{
	local new=$QTREE.new version patch

	need_space "$OUT" 1500
	rm -rf -- "$QTREE" "$new"
	mkdir -p "$new"
	tar -xf "$QEMU_CACHE/source/orig.tar.xz" -C "$new" --strip-components=1 --no-same-owner
	tar -xf "$QEMU_CACHE/source/debian.tar.xz" -C "$new" --no-same-owner debian/patches
	version=$(cat "$new/VERSION")
	[ "${version%.*}" = "${QEMU_VERSION%.*}" ] || die "the Debian mirror has QEMU $version, the patches are for $QEMU_VERSION" \
		"rebase them, and name their directory patches/qemu-$version"
	git -C "$new" init -q -b base
	while read -r patch; do
		case $patch in ''|'#'*) continue ;; esac
		git -C "$new" apply "debian/patches/$patch" >"$OUT/am.log" 2>&1 ||
			die "Debian's $patch does not apply to QEMU $version" "see $OUT/am.log"
	done <"$new/debian/patches/series"
	rm -rf -- "$new/debian"
	# What QEMU ignores is in its tarball all the same.
	git -C "$new" add -f -A .
	git -C "$new" -c user.name="$GIT_COMMITTER_NAME" -c user.email="$GIT_COMMITTER_EMAIL" commit -q -m "QEMU $version"
	git -C "$new" update-ref refs/qemu/base HEAD
	# What build writes into the tree is no part of a patch.
	echo '/configs/devices/*/kvm.mak' >>"$new/.git/info/exclude"
	mv -- "$new" "$QTREE"
	rm -f -- "$OUT/tree-id"
}

# saved: all that is in the tree is in the patches
saved()
{
	! qgit rev-parse -q --verify refs/qemu/composed >/dev/null ||
	{ [ "$(qgit rev-parse series)" = "$(qgit rev-parse refs/qemu/composed)" ] &&
	  [ -z "$(qgit status --porcelain -uno)" ]; }
}

tree()
{
	local patch

	[ -s "$QEMU_PATCHES/series" ] || die "$QEMU_PATCHES has no series" "git status patches"
	in_cache source amd64 get_source
	mkdir -p "$OUT"
	qgit rev-parse -q --verify refs/qemu/base >/dev/null 2>&1 || base_tree
	if [ "$(cat "$OUT/tree-id" 2>/dev/null)" = "$(tree_id)" ]; then
		report
		return
	fi
	saved || die "$QTREE has changes that are not in $QEMU_PATCHES" "scripts/qemu.sh refresh, or remove $QTREE"
	qgit checkout -q -B series refs/qemu/base
	while read -r patch; do
		case $patch in ''|'#'*) continue ;; esac
		if ! qgit am -q --committer-date-is-author-date "$QEMU_PATCHES/$patch" >"$OUT/am.log" 2>&1; then
			tail -n 5 "$OUT/am.log" >&2
			qgit am -q --abort
			die "$patch does not apply to QEMU $(cat "$QTREE/VERSION")" "rebase $QEMU_PATCHES"
		fi
	done <"$QEMU_PATCHES/series"
	qgit update-ref refs/qemu/composed series
	tree_id >"$OUT/tree-id"
	report
}

refresh()
{
	qgit rev-parse -q --verify refs/qemu/composed >/dev/null 2>&1 || die "there is no $QTREE" "make qemu"
	[ -z "$(qgit status --porcelain -uno)" ] || die "$QTREE has uncommitted changes" "git -C $QTREE commit"
	[ "$(cat "$OUT/tree-id")" = "$(tree_id)" ] ||
		die "$QEMU_PATCHES has changed since $QTREE was made of it" "make qemu"
	find "$QEMU_PATCHES" -name '*.patch' -delete
	qgit format-patch -q --no-signature --zero-commit -N --no-renames -o "$QEMU_PATCHES" refs/qemu/base..series
	(cd "$QEMU_PATCHES" && printf '%s\n' '# SPDX-License-Identifier: GPL-2.0-only' [0-9]*.patch >series)
	qgit update-ref refs/qemu/composed series
	tree_id >"$OUT/tree-id"
	say "$QEMU_PATCHES: $(grep -c "^[^#]" "$QEMU_PATCHES/series") patches"
}

# ---- building ----------------------------------------------------------------

build()
{
	local arch=$1 debian target triplet boards cross cc sys src=$QTREE obj=$OUT/obj-$1 root=$OUT/$1 device file
	local -a options flags

	case $arch in
	riscv) debian=riscv64 target=riscv64 triplet=riscv64-linux-gnu boards=RISCV_VIRT ;;
	arm64) debian=arm64 target=aarch64 triplet=aarch64-linux-gnu boards=ARM_VIRT ;;
	x86) debian=amd64 target=x86_64 triplet=x86_64-linux-gnu boards="Q35 I440FX MICROVM" ;;
	*) die "qemu.sh builds for riscv, arm64 or x86, not \"$arch\"" "make qemu ARCH=riscv" ;;
	esac
	cross=$(cross_of "$arch")
	in_cache "lib-$debian" "$debian" get_packages "${LIBRARIES[@]}" "${HEADERS[@]}"
	in_cache meson amd64 get_packages meson
	[ "$arch" != x86 ] || in_cache firmware amd64 get_packages seabios qemu-system-data
	sys=$QEMU_CACHE/lib-$debian
	need_space "$OUT" 500
	if [ "$PATCHED" = 0 ]; then
		src=$OUT/plain
		obj+=-plain
		root+=-plain
		[ -e "$src/.git" ] || qgit worktree add -q --detach "$src" refs/qemu/base
	fi

	# The boards that have KVM, with little to put into them: a fraction of QEMU.
	for device in $boards VIRTIO_PCI VIRTIO_BLK VIRTIO_NET VIRTIO_SERIAL VIRTIO_RNG; do
		printf 'CONFIG_%s=y\n' "$device"
	done >"$src/configs/devices/$target-softmmu/kvm.mak"
	# riscv does not compile without TCG.
	options=("--target-list=$target-softmmu" --prefix=/usr --python=/usr/bin/python3
		--without-default-features --without-default-devices "--with-devices-$target=kvm"
		--enable-kvm "--$([ "$arch" = riscv ] && echo enable || echo disable)-tcg"
		--enable-trace-backends=log --audio-drv-list= --disable-docs --disable-tools
		--disable-guest-agent --disable-download --disable-install-blobs --disable-debug-info)
	[ "$arch" = x86 ] || options+=(--enable-fdt=system)
	# The compiler's own libc is older than these libraries: theirs first.
	flags=("--sysroot=$sys" "-B$sys/usr/lib/$triplet")
	cc=${cross}gcc
	if [ "${USE_CCACHE:-n}" = y ]; then
		cc="ccache $cc"
		export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_BASEDIR=$OUT
	fi
	export PYTHONPATH=$QEMU_CACHE/meson/usr/lib/python3/dist-packages
	mkdir -p "$obj"
	[ -e "$obj/build.ninja" ] || (
		cd "$obj"
		PKG_CONFIG=pkg-config PKG_CONFIG_SYSROOT_DIR=$sys \
		PKG_CONFIG_LIBDIR=$sys/usr/lib/$triplet/pkgconfig:$sys/usr/share/pkgconfig \
			"$src/configure" "--cross-prefix=$cross" "--cc=$cc" "${options[@]}" \
			--extra-cflags="${flags[*]} -isystem $sys/usr/include/$triplet -isystem $sys/usr/include" \
			--extra-ldflags="${flags[*]} -L$sys/usr/lib/$triplet"
	) || DIE_STATUS=3 die "QEMU cannot be configured for $arch" "see $obj/meson-logs"
	ninja -C "$obj" -j "$JOBS" "qemu-system-$target" || DIE_STATUS=3 die "QEMU does not build for $arch" "make qemu ARCH=$arch V=1"

	rm -rf -- "$root.new"
	mkdir -p "$root.new/usr/bin" "$root.new/usr/lib/$triplet" "$root.new/usr/share/qemu"
	"${cross}strip" -o "$root.new/usr/bin/qemu-system-$target" "$obj/qemu-system-$target"
	for file in "$sys/usr/lib/$triplet"/{lib{c,m,gcc_s,glib-2.0,gmodule-2.0,pcre2-8,z,fdt,atomic}.so.*,ld-linux*} \
		"$sys"/usr/lib{,64}/ld-linux*; do
		[ -e "$file" ] || continue
		mkdir -p "$root.new/${file#"$sys/"}"
		rmdir -- "$root.new/${file#"$sys/"}"
		cp -L -- "$file" "$root.new/${file#"$sys/"}"
	done
	for file in lib lib64; do
		[ ! -e "$root.new/usr/$file" ] || ln -s "usr/$file" "$root.new/$file"
	done
	# The firmware of a PC; the others start a kernel without any.
	[ "$arch" != x86 ] || cp -L -- "$QEMU_CACHE"/firmware/usr/share/seabios/bios-256k.bin \
		"$QEMU_CACHE"/firmware/usr/share/qemu/{linuxboot_dma,kvmvapic}.bin "$root.new/usr/share/qemu/"
	rm -rf -- "$root"
	mv -- "$root.new" "$root"
	say "$root/usr/bin/qemu-system-$target"
}

case ${1:-} in
tree)
	tree
	;;
build)
	build "${2:-}"
	;;
refresh)
	refresh
	;;
saved)
	[ ! -e "$QTREE/.git" ] || saved || die "$QTREE has changes that are not in $QEMU_PATCHES" "scripts/qemu.sh refresh"
	;;
*)
	die "qemu.sh knows tree, build, refresh and saved, not \"${1:-}\"" "make qemu"
	;;
esac
