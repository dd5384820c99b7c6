# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. qemu.sh: the patches of QEMU.

# apt, ninja and a compiler of which nothing is asked; the source is two files
fake_qemu()
{
	local q=$WORK/s/qemu-10.0.13

	mkdir -p "$q/configs/devices/riscv64-softmmu" "$WORK/s/debian/patches" patches/qemu-10.0.13
	touch "$q/configs/devices/riscv64-softmmu/default.mak"
	echo "${1:-10.0.13}" >"$q/VERSION"
	seq 1 20 >"$q/kvm.c"
	echo '/kvm.c' >"$q/.gitignore"
	printf '#!/bin/bash\nprintf "%%s\\n" "$@" >options; touch build.ninja\n' >"$q/configure"
	chmod +x "$q/configure"
	printf -- '--- a/kvm.c\n+++ b/kvm.c\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n' >"$WORK/s/debian/patches/two.patch"
	printf '# a comment\ntwo.patch\n' >"$WORK/s/debian/patches/series"
	tar -C "$WORK/s" -cJf "$WORK/s/orig.tar.xz" qemu-10.0.13
	tar -C "$WORK/s" -cJf "$WORK/s/debian.tar.xz" debian
	cat >patches/qemu-10.0.13/0001-ten.patch <<-EOT
	From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
	From: A Developer <developer@example.org>
	Date: Mon, 2 Nov 2026 10:00:00 +0000
	Subject: [PATCH] kvm: Ten

	In words.
	---
	 kvm.c | 2 +-
	 1 file changed, 1 insertion(+), 1 deletion(-)

	diff --git a/kvm.c b/kvm.c
	--- a/kvm.c
	+++ b/kvm.c
	@@ -9,3 +9,3 @@
	 9
	-10
	+ten
	 11
	EOT
	echo 0001-ten.patch >patches/qemu-10.0.13/series
	stub apt-get 'echo "$*" >>"'"$WORK/s/apt.log"'"
		case "$*" in
		*indextargets*) echo file:/nowhere/ ;;
		*source*) cp "'"$WORK/s/orig.tar.xz"'" qemu_10.0.13+ds.orig.tar.xz
			cp "'"$WORK/s/debian.tar.xz"'" qemu_10.0.13+ds-1.debian.tar.xz; touch qemu_10.0.13.dsc ;;
		*download*) for p in "${@:$#}"; do touch "${p}_1.deb"; done ;;
		esac'
	stub dpkg-deb 'd=$(mktemp -d); mkdir -p "$d/usr/lib/riscv64-linux-gnu" && touch "$d"/usr/lib/{ld-linux-riscv64-lp64d.so.1,riscv64-linux-gnu/libc.so.6}
		tar -C "$d" -c usr; rm -rf "$d"'
	stub ninja 'echo "$*" >>"'"$WORK/s/ninja.log"'"; touch "$2/${@: -1}"'
	stub riscv64-linux-gnu-strip 'cp "${@: -1}" "$2"'
}

test_qemu_tree()
{
	fresh
	fake_qemu
	ok scripts/qemu.sh tree
	has "$OUT" "1 commits on QEMU 10.0.13"
	is "$(sed -n '2p;10p' "$BUILD/qemu/tree/kvm.c" | paste -sd' ')" "two ten"
	is "$(cd "$CACHE/qemu-10.0.13/source" && printf "%s " *)" "debian.tar.xz orig.tar.xz "
	# Fetched once.
	rm "$WORK/s/apt.log"
	rm -rf "$BUILD/qemu"
	ok scripts/qemu.sh tree
	[ ! -e "$WORK/s/apt.log" ] || bad "the cache was not used: $(cat "$WORK/s/apt.log")"
	# Work that is only there stays.
	echo more >>"$BUILD/qemu/tree/kvm.c"
	git -C "$BUILD/qemu/tree" commit -qam "kvm: More"
	echo "# changed" >>patches/qemu-10.0.13/series
	no 2 "changes that are not in" scripts/qemu.sh tree
	no 2 "changes that are not in" scripts/qemu.sh saved
	no 2 "has changed since" scripts/qemu.sh refresh
	sed -i '$d' patches/qemu-10.0.13/series
	ok scripts/qemu.sh refresh
	is "$(paste -sd' ' patches/qemu-10.0.13/series)" "# SPDX-License-Identifier: GPL-2.0-only 0001-kvm-Ten.patch 0002-kvm-More.patch"
	ok scripts/qemu.sh tree
	has "$OUT" "2 commits"
	sed -i 's/^ 9$/ nine/' patches/qemu-10.0.13/0001-kvm-Ten.patch
	no 2 "0001-kvm-Ten.patch does not apply" scripts/qemu.sh tree
	rm -rf "$BUILD/qemu" "$CACHE"
	fake_qemu 10.1.0
	no 2 "has QEMU 10.1.0, the patches are for 10.0.13" scripts/qemu.sh tree
	# What could not be fetched is not kept.
	rm -rf "$CACHE"
	stub apt-get 'case "$*" in *indextargets*) echo file:/nowhere/ ;; *source*) touch qemu_1.orig.tar.xz; exit 1 ;; esac'
	no 2 "apt could not fetch source of QEMU" scripts/qemu.sh tree
	is "$(find "$CACHE" -name '*.xz')" ""
}

test_qemu_build()
{
	fresh
	fake_qemu
	ok scripts/qemu.sh tree
	ok scripts/qemu.sh build riscv
	has "$OUT" "build/qemu/riscv/usr/bin/qemu-system-riscv64"
	has "$(cat "$BUILD/qemu/obj-riscv/options")" "--enable-tcg"
	has "$(cat "$BUILD/qemu/obj-riscv/options")" "--enable-kvm"
	has "$(cat "$WORK/s/ninja.log")" "qemu-system-riscv64"
	has "$(cat "$BUILD/qemu/tree/configs/devices/riscv64-softmmu/kvm.mak")" "CONFIG_RISCV_VIRT=y"
	is "$(git -C "$BUILD/qemu/tree" status --porcelain -- configs)" ""
	[ -f "$BUILD/qemu/riscv/lib/ld-linux-riscv64-lp64d.so.1" ] || bad "there is no loader"
	[ -f "$BUILD/qemu/riscv/usr/lib/riscv64-linux-gnu/libc.so.6" ] || bad "there is no libc"
	# The source as it is, beside it.
	ok env PATCHED=0 scripts/qemu.sh build riscv
	is "$(sed -n 10p "$BUILD/qemu/plain/kvm.c")" 10
	[ -e "$BUILD/qemu/riscv-plain/usr/bin/qemu-system-riscv64" ] || bad "there is no riscv-plain"
	stub ninja 'exit 1'
	no 3 "does not build for riscv" scripts/qemu.sh build riscv
	[ -e "$BUILD/qemu/riscv/usr/bin/qemu-system-riscv64" ] || bad "a build that fails has removed the last one"
	no 2 'not "sparc"' scripts/qemu.sh build sparc
	no 2 "qemu.sh knows tree, build, refresh and saved" scripts/qemu.sh nope
}

test_qemu_patches()
{
	cd "$HERE" || exit
	local dir
	for dir in patches/qemu-*; do
		is "$(grep -v "^#" "$dir/series")" "$(cd "$dir" && printf '%s\n' *.patch)"
		! grep -lE '^(Signed-off|Reviewed|Tested|Acked)-by:' "$dir"/*.patch || bad "a trailer that only a person gives"
	done
}
