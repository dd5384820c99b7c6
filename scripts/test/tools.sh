# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. setup.sh: missing and old tools.

# only TOOL...: a PATH with these and what the scripts themselves need
only()
{
	local t
	mkdir -p "$WORK/s/only"
	for t in bash env cat sed awk grep sort head tail tr cut dirname mktemp rm mkdir cp mv id df \
		 uname printf touch tee date make flock "$@"; do
		ln -sf "$(type -P "$t")" "$WORK/s/only/$t"
	done
}

test_missing_tools_all_at_once()
{
	fresh
	only git curl gcc
	no 2 "flex" env -i PATH="$WORK/s/only" scripts/setup.sh riscv
	has "$OUT" "bison"
	has "$OUT" "package gcc-riscv64-linux-gnu"
	has "$OUT" "qemu-system-riscv64"
	has "$OUT" "rsync"
}

# Once for all: what a tool is needed for to look for another is missing as well.
test_missing_on_a_bare_system()
{
	fresh
	only
	no 2 "package git " env -i PATH="$WORK/s/only" scripts/setup.sh x86
	has "$OUT" "package gcc "
	has "$OUT" "package libelf-dev "
	has "$OUT" "package libssl-dev "
	has "$OUT" "package libc6-dev "
	# perl-base
	printf '#!/bin/sh\nexit 2\n' >"$WORK/s/only/perl" && chmod +x "$WORK/s/only/perl"
	no 2 "modules of perl" env -i PATH="$WORK/s/only" scripts/setup.sh x86
	has "$(scripts/setup.sh list riscv)" "riscv64-linux-gnu-gcc libc6-dev-riscv64-cross"
	! scripts/setup.sh list | grep -qE 'clang|lld|sparse|aarch64.*riscv' || bad "the list has more than make check needs"
}

test_not_root_gets_the_command()
{
	fresh
	only git curl gcc
	ln -s "$(type -P true)" "$WORK/s/only/apt-get"
	ln -s "$(type -P true)" "$WORK/s/only/apt-cache"
	rm "$WORK/s/only/id"
	printf '#!/bin/bash\necho 1000\n' >"$WORK/s/only/id" && chmod +x "$WORK/s/only/id"
	no 2 "only root can install packages" env -i PATH="$WORK/s/only" scripts/setup.sh x86
	has "$OUT" "next: sudo make -C '$PWD' setup"
	no 2 "only root can install packages" env -i PATH="$WORK/s/only" FULL=1 LLVM=-18 scripts/setup.sh x86
	has "$OUT" "next: sudo make -C '$PWD' setup FULL=1 LLVM=-18"
	# which is what make takes
	no 2 "package coccinelle" env PATH="$WORK/s/only" make setup ARCH=x86 FULL=1 LLVM=-18
	has "$OUT" "package clang-18"
}

test_old_qemu_is_missing()
{
	fresh
	stub qemu-system-x86_64 'echo "QEMU emulator version 7.2.19 (Debian)"'
	stub id 'echo 1000'
	no 2 "found 7.2.19, too old" scripts/setup.sh x86
}

# The tests' own PATH: nothing of this machine that "make setup" would not bring.
test_path_is_what_setup_installs()
{
	fresh
	[ -d "$WORK/path" ] || { skip "only dpkg knows what a bare Debian has"; return; }
	local t
	mkdir -p "$WORK/s/extra"
	for t in ld.lld-19 clang-19 no-such-tool; do
		printf '#!/bin/sh\n' >"$WORK/s/extra/$t" && chmod +x "$WORK/s/extra/$t"
	done
	ok env PATH="$WORK/s/extra:$PATH_OUTSIDE" "$HERE/scripts/test/bare-path" "$WORK/s/path"
	for t in ld.lld-19 clang-19 no-such-tool spatch sparse sphinx-build debootstrap ps; do
		[ ! -e "$WORK/s/path/$t" ] || bad "$t is there"
		[ ! -e "$WORK/path/$t" ] || bad "the tests have $t"
	done
	for t in bash sed awk find tar flock setsid perl make apt-get; do
		[ -e "$WORK/s/path/$t" ] || bad "$t is not there"
	done
	# What setup.sh no longer installs is gone, if nothing else depends on it.
	sed -i '/need shellcheck/d' scripts/setup.sh
	cp "$HERE/scripts/test/bare-path" scripts/test/
	ok env PATH="$PATH_OUTSIDE" scripts/test/bare-path "$WORK/s/path2"
	[ ! -e "$WORK/s/path2/shellcheck" ] || bad "shellcheck is there"
	[ -e "$WORK/s/path2/git" ] || bad "git is not there"
}
