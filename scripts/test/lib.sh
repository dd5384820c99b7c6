# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. What the tests of the scripts stand on: a kernel of a few files, stubs, assertions.

# shellcheck disable=SC2034 # run and the tests use what is set here
# A kernel of a few files, as much as base.sh and series.py look at.
make_kernel()
{
	mkdir -p "$1"/{virt/kvm,arch/riscv/kvm,include/linux,scripts,Documentation,tools}
	printf 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n' >"$1/Makefile"
	echo "# Kbuild" >"$1/Kbuild"
	seq 1 40 | sed 's/^/line /' >"$1/virt/kvm/kvm_main.c"
	seq 1 40 | sed 's/^/vcpu /' >"$1/arch/riscv/kvm/vcpu.c"
	echo '*.o' >"$1/.gitignore"
	echo "KVM" >"$1/MAINTAINERS"
	cat >"$1/scripts/get_maintainer.pl" <<-'EOT'
	#!/usr/bin/perl
	print "A Person (Z) <maintainer\@example.org> (maintainer:KVM (x))\nlist\@example.org (open list:KVM)\n";
	EOT
	chmod +x "$1/scripts/get_maintainer.pl"
}

commit() { git -C "$1" add -A && git -C "$1" commit -q -m "$2"; }

# The template: $WORK/t/repo has three topics of a patch each on $WORK/t/linux.
# The first edits two files, the second adds one, the third needs it and changes that.
make_template()
{
	local t=$WORK/t r=$WORK/t/repo

	mkdir -p "$r/patches/v7.3"
	make_kernel "$t/linux"
	git -C "$t/linux" init -q && commit "$t/linux" "Linux 7.3.4"
	git -C "$t/linux" tag v7.3.4
	mkdir -p "$t/mirror/pool/main/l/linux"
	tar -C "$t" -cJf "$t/mirror/pool/main/l/linux/linux_7.3.4.orig.tar.xz" --exclude=.git \
		--transform 's,^linux,linux-7.3.4,' linux
	cp -r "$HERE"/{scripts,Makefile,Kconfig,MAINTAINERS} "$r/"
	cp "$HERE/.gitignore" "$HERE/.shellcheckrc" "$r/"
	cat >"$r/patches/v7.3/BASE" <<-EOT
	version: 7.3.4
	tag: v7.3.4
	sha256: $(sha256sum "$t/mirror/pool/main/l/linux/"*.xz | cut -d' ' -f1) linux_7.3.4.orig.tar.xz
	EOT
	printf '*\talpha\n*\tbeta\tbase=fail\nriscv\tgamma\n' >"$r/patches/v7.3/tests"
	printf 'numbers - someone@example.org\nletters -\ngrowth letters\n' >"$r/patches/v7.3/series"
	git -C "$r" init -q && commit "$r" "empty"

	cd "$r" || exit
	KERNEL=$t/linux BUILD=$r/build scripts/series.py tree >/dev/null || exit
	local l=$r/build/linux topic
	sed -i 's/^line 20$/line twenty/' "$l/virt/kvm/kvm_main.c"
	sed -i 's/^vcpu 3$/vcpu three/' "$l/arch/riscv/kvm/vcpu.c"
	commit "$l" "KVM: Spell numbers

Numbers in digits are hard to read aloud.  Spell them.

Topic: numbers"
	printf 'a\nb\nc\n' >"$l/virt/kvm/vcpu_reset.c"
	mkdir -p "$l/tools"
	printf '#!/bin/sh\n' >"$l/tools/run" && chmod +x "$l/tools/run"
	sed -i 's/^line 30$/line thirty/' "$l/virt/kvm/kvm_main.c"
	commit "$l" "KVM: Add letters

Topic: letters"
	sed -i 's/^b$/B/' "$l/virt/kvm/vcpu_reset.c"
	commit "$l" "KVM: Grow a letter

Topic: growth"
	BUILD=$r/build scripts/series.py refresh >/dev/null || exit
	for topic in numbers letters growth; do
		printf 'A series of %s\n\nWhat it is for.\n\n@LINES@\n' $topic >"$r/patches/v7.3/$topic/cover-letter"
	done
	commit "$r" "three patches"
	rm -rf "$r/build"
}

# fresh: a copy of the template as the current directory
fresh()
{
	rm -rf "$WORK/s"
	cp -a "$WORK/t" "$WORK/s"
	cd "$WORK/s/repo" || exit
	export BUILD=$WORK/s/repo/build CACHE=$WORK/s/cache
	export KERNEL=$WORK/s/linux
	L=$BUILD/linux
	# However little this machine has.
	stub df 'printf "Filesystem 1M Used Available Capacity Mounted\nx 99999 9 99990 1%% /\n"'
}

OUT=
# ok COMMAND...: it succeeds; its output is in OUT
ok() { OUT=$("$@" 2>&1 </dev/null) || { bad "\"$*\" failed ($?): $OUT"; return 1; }; }
# no STATUS TEXT COMMAND...: it fails with that status and says TEXT
no()
{
	local want=$1 text=$2 status=0
	shift 2
	OUT=$("$@" 2>&1 </dev/null) || status=$?
	[ "$status" = "$want" ] || { bad "\"$*\" exited with $status, not $want: $OUT"; return 1; }
	[[ $OUT == *"$text"* ]] || { bad "\"$*\" did not say \"$text\": $OUT"; return 1; }
}
bad() { printf '%s\n' "$*" | sed 's/^/#   /'; FAILED=1; }
skip() { SKIPPED=" # SKIP $*"; }
is() { [ "$1" = "$2" ] || bad "got \"$1\", wanted \"$2\" ${3:-}"; }
has() { [[ $1 == *"$2"* ]] || bad "\"$2\" is missing in: $1"; }
hasnt() { [[ $1 != *"$2"* ]] || bad "\"$2\" should not be in: $1"; }
clean() { is "$(git status --porcelain)" "" "(git status)"; }
# stub NAME BODY: a command found before the real one
stub()
{
	mkdir -p "$WORK/s/bin"
	printf '#!/bin/bash\n%s\n' "$2" >"$WORK/s/bin/$1"
	chmod +x "$WORK/s/bin/$1"
	[[ $PATH == "$WORK/s/bin:"* ]] || PATH=$WORK/s/bin:$PATH
}
