# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. base.sh: where Linux comes from, bad downloads, no space.

test_base_kinds()
{
	local a b
	fresh
	ok scripts/base.sh			# git tree with the tag
	a=$OUT
	echo "unrelated" >>"$KERNEL/Kbuild" && commit "$KERNEL" later
	ok scripts/base.sh
	is "$OUT" "$a" "(the tag, not HEAD)"
	git -C "$KERNEL" tag -d v7.3.4 >/dev/null
	ok scripts/base.sh			# git tree without it: HEAD
	git -C "$KERNEL" reset -q --hard HEAD~1
	rm -rf "$KERNEL/.git"
	ok scripts/base.sh			# unpacked
	b=$(tail -n 1 <<<"$OUT" | cut -d' ' -f2)
	ok env KERNEL="$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" scripts/base.sh
	is "$(tail -n 1 <<<"$OUT" | cut -d' ' -f2)" "$b" "(tarball and tree: one commit)"
}

test_base_bad_kernel()
{
	fresh
	no 2 "does not exist" env KERNEL=/nonexistent scripts/base.sh
	mkdir "$WORK/s/not"
	no 2 "is not a Linux source tree" env KERNEL="$WORK/s/not" scripts/base.sh
	no 2 "is not a Linux source tree" env KERNEL="$KERNEL/virt" scripts/base.sh
	head -c 200 "$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" >"$WORK/s/cut.tar.xz"
	no 2 "is not a complete tar archive" env KERNEL="$WORK/s/cut.tar.xz" scripts/base.sh
	tar -C "$WORK/s" -cf "$WORK/s/other.tar" not
	no 2 "does not hold a Linux source tree" env KERNEL="$WORK/s/other.tar" scripts/base.sh
	is "$(find "$CACHE" -name 'unpack*' 2>/dev/null)" "" "(nothing half done is left)"
	git -C "$KERNEL" tag -d v7.3.4 >/dev/null
	sed -i 's/^vcpu 9$/patched/' "$KERNEL/arch/riscv/kvm/vcpu.c" && commit "$KERNEL" patched
	no 2 "arch/riscv/kvm/vcpu.c differs" scripts/base.sh
	git -C "$KERNEL" rm -q virt/kvm/kvm_main.c && git -C "$KERNEL" commit -q -m gone
	git -C "$KERNEL" checkout -q HEAD~2 -- arch/riscv/kvm/vcpu.c && git -C "$KERNEL" commit -q -m back
	mkdir -p "$KERNEL/virt/kvm"
	no 2 "virt/kvm/kvm_main.c differs" scripts/base.sh
}

test_base_fetched_once()
{
	fresh
	unset KERNEL
	export KERNEL_ORG="file:///nonexistent" DEBIAN_MIRROR="file://$WORK/s/mirror"
	ok scripts/base.sh
	is "$(ls "$CACHE")" $'linux-7.3.4.git\nlock' "(only the result is kept)"
	DEBIAN_MIRROR=file:///nonexistent
	ok env BUILD="$WORK/s/second" scripts/series.py tree
	is "$(git -C "$WORK/s/second/linux" log --format=%s -1)" "KVM: Grow a letter"
	# A cache that was tampered with is no base either.
	git --git-dir="$CACHE/linux-7.3.4.git" update-ref refs/heads/base \
		"$(git --git-dir="$CACHE/linux-7.3.4.git" -c user.name=x -c user.email=x commit-tree -m x "$(git --git-dir="$CACHE/linux-7.3.4.git" mktree </dev/null)")"
	no 2 "arch/riscv/kvm/vcpu.c, virt/kvm/kvm_main.c differ" scripts/base.sh
	has "$OUT" "next: rm -rf '$CACHE/linux-7.3.4.git'"
	unset KERNEL_ORG DEBIAN_MIRROR
}

test_base_from_kernel_org()
{
	fresh
	unset KERNEL
	mkdir -p "$WORK/s/org/v7.x"
	cp "$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" "$WORK/s/org/v7.x/linux-7.3.4.tar.xz"
	(cd "$WORK/s/org/v7.x" && sha256sum linux-7.3.4.tar.xz >sha256sums.asc)
	ok env KERNEL_ORG="file://$WORK/s/org" DEBIAN_MIRROR=file:///nonexistent scripts/base.sh
	rm -rf "$CACHE"
	echo x >>"$WORK/s/org/v7.x/linux-7.3.4.tar.xz"
	no 2 "linux-7.3.4.tar.xz has sha256" env KERNEL_ORG="file://$WORK/s/org" DEBIAN_MIRROR=file:///nonexistent scripts/base.sh
}

test_base_bad_downloads()
{
	fresh
	unset KERNEL
	stub apt-get 'exit 100'
	no 2 "could be had from neither kernel.org nor the Debian mirror" \
		env KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR=file:///nonexistent scripts/base.sh
	has "$OUT" "make KERNEL=/path/to/linux-7.3.4.tar.xz"
	echo x >>"$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz"
	no 2 "linux_7.3.4.orig.tar.xz has sha256" \
		env KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR="file://$WORK/s/mirror" scripts/base.sh
	is "$(find "$CACHE" -name '*.part' -o -name '*.xz' -o -name '*.git')" ""
	# Another kernel does not get into the cache, with the right hash or as a file of the user.
	sed -i 's/^vcpu 9$/patched/' "$WORK/s/linux/arch/riscv/kvm/vcpu.c"
	tar -C "$WORK/s" -cJf "$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" --exclude=.git linux
	sed -i "s/^sha256: [0-9a-f]*/sha256: $(sha256sum "$WORK/s/mirror/pool/main/l/linux/"*.xz | cut -d' ' -f1)/" \
		patches/v7.3/BASE
	no 2 "what was fetched, linux_7.3.4.orig.tar.xz, is not Linux 7.3.4" \
		env KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR="file://$WORK/s/mirror" scripts/base.sh
	has "$OUT" "make KERNEL=/path/to/linux-7.3.4.tar.xz"
	no 2 "vcpu.c differs" env KERNEL="$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" scripts/base.sh
	is "$(find "$CACHE" -name '*.git*')" ""
}

# The package linux-source, from whatever suite has it, the right version first.
test_base_from_linux_source()
{
	fresh
	unset KERNEL
	export KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR="file://$WORK/s/none"
	mkdir -p "$WORK/s/deb/usr/src"
	printf '*.o\n#\n# Debian packaging: ignore everything at the top level\n#\n/*\n!/debian/\n' >"$WORK/s/linux/.gitignore"
	tar -C "$WORK/s" -cJf "$WORK/s/deb/usr/src/linux-source-7.3.tar.xz" --exclude=.git linux
	rm "$WORK/s/linux/.gitignore"
	stub apt-get "case \"\$*\" in
		*indextargets*) exit 0 ;;
		*\" update\") exit 100 ;;
		*download*) [[ \"\$*\" == *linux-source-7.3=7.3.4-1~bpo13+1 ]] && touch linux-source-7.3_7.3.4-1~bpo13+1_all.deb ;;
		esac"
	stub apt-cache 'echo " linux-source-7.3 | 7.3.9-1 | somewhere"; echo " linux-source-7.3 | 7.3.4-1~bpo13+1 | elsewhere"'
	stub dpkg 'echo amd64'
	stub dpkg-deb "tar -C '$WORK/s/deb' -cf - ./usr"
	ok scripts/base.sh
	has "$OUT" "version 7.3.4-1~bpo13+1"
	is "$(ls "$CACHE")" $'linux-7.3.4.git\nlock'
	is "$(git --git-dir="$CACHE/linux-7.3.4.git" show base:.gitignore)" $'*.o\n#' "(what a commit adds isn't ignored)"
	grep -q trixie-backports "$CACHE"/download/apt/sources.list 2>/dev/null && bad "the download was left"
	# There is no such package.
	rm -rf "$CACHE"
	stub apt-cache true
	no 2 "could be had from neither" scripts/base.sh
	has "$OUT" "no suite has linux-source-7.3"
	unset KERNEL_ORG DEBIAN_MIRROR
}

# Another version is as good if no file differs that the series touches.
test_base_of_another_version()
{
	fresh
	git -C "$KERNEL" tag -d v7.3.4 >/dev/null
	sed -i 's/SUBLEVEL = 4/SUBLEVEL = 5/' "$KERNEL/Makefile"
	echo more >>"$KERNEL/Kbuild" && commit "$KERNEL" "Linux 7.3.5"
	ok scripts/base.sh
	has "$OUT" "is Linux 7.3.5, the series was made on 7.3.4: no file that it touches differs"
	# As a tarball it gets into the cache under its name, and is found there.
	tar -C "$WORK/s" -cJf "$WORK/s/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" --exclude=.git linux
	sed -i "s/^sha256: [0-9a-f]*/sha256: $(sha256sum "$WORK/s/mirror/pool/main/l/linux/"*.xz | cut -d' ' -f1)/" \
		patches/v7.3/BASE
	ok env -u KERNEL KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR="file://$WORK/s/mirror" scripts/base.sh
	is "$(ls "$CACHE")" $'linux-7.3.5.git\nlock'
	ok env -u KERNEL KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR=file:///nonexistent scripts/base.sh
	# Who asks for a version gets none but that.
	no 2 "could be had from neither" env KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR=file:///nonexistent scripts/base.sh 7.3.9
	ok env KERNEL_ORG=file:///nonexistent DEBIAN_MIRROR=file:///nonexistent scripts/base.sh 7.3.5
	# All files that differ, and what to do.
	sed -i 's/^vcpu 9$/patched/' "$KERNEL/arch/riscv/kvm/vcpu.c"
	sed -i 's/^line 9$/patched/' "$KERNEL/virt/kvm/kvm_main.c" && commit "$KERNEL" patched
	no 2 "arch/riscv/kvm/vcpu.c, virt/kvm/kvm_main.c differ" scripts/base.sh
	has "$OUT" "next: rebase the series on 7.3.5: see \"Another base\" in README.md"
}

test_no_space()
{
	fresh
	unset KERNEL
	stub df 'printf "Filesystem 1M Used Available Capacity Mounted\nx 9 9 17 99%% /\n"'
	no 2 "has 17 MiB free" env DEBIAN_MIRROR="file://$WORK/s/mirror" KERNEL_ORG=file:///nonexistent scripts/base.sh
	has "$OUT" "free some space"
	export KERNEL=$WORK/s/linux
	no 2 "has 17 MiB free" scripts/series.py tree
}

test_interrupted_checkout_resumes()
{
	fresh
	mkdir -p "$BUILD/linux.new/.git" && echo half >"$BUILD/linux.new/x"
	ok scripts/series.py tree
	is "$(git -C "$L" status --porcelain)" ""
}
