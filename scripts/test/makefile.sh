# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. The Makefile and Kconfig.

test_make_bad_values()
{
	fresh
	no 2 "ARCH=mips is not one of: riscv arm64 x86" make ARCH=mips
	no 2 "PROFILE=fast is not one of: debug rt" make check PROFILE=fast
	no 2 "ON=other is neither series nor base" make check ON=other
	no 2 "CHECK_QEMU=no is neither y nor n" make check CHECK_QEMU=no
	no 2 "JOBS=many is not a number" make JOBS=many
	no 2 "MEMORY=-1 is not a number of 1 or more" make MEMORY=-1
	no 2 "no architecture is chosen" make ARCH_RISCV=n ARCH_ARM64=n ARCH_X86=n
	no 2 "CCACHE=perhaps" make CCACHE=perhaps
	no 2 "is for one architecture" make -s image-path
}

test_make_path_with_spaces()
{
	fresh
	mv "$WORK/s/repo" "$WORK/s/a repo"
	cd "$WORK/s/a repo" || exit
	unset BUILD
	no 2 "kbuild cannot build in" make tree
	has "$OUT" "BUILD=/a/path/without/spaces"
	ok make tree BUILD="$WORK/s/b" KERNEL="$WORK/s/linux" CACHE="$CACHE"
	is "$(git -C "$WORK/s/b/linux" log --format=%s -1)" "KVM: Grow a letter"
}

test_make_names_for_scripts()
{
	fresh
	unset KERNEL
	is "$(make -s tree-path)" "$BUILD/linux"
	is "$(make -s image-path ARCH=x86)" "$BUILD/linux/out-x86/arch/x86/boot/bzImage"
	is "$(make -s image-path ARCH=aarch64 PROFILE=debug)" "$BUILD/linux/out-arm64-debug/arch/arm64/boot/Image"
	is "$(make -s kselftest-path ARCH=riscv)" "$BUILD/riscv/kselftest_install"
	is "$(make -s base-path KERNEL="$WORK/s/linux" 2>/dev/null | tail -n 1)" "$BUILD/base"
	is "$(make -s image-path ARCH=x86 ON=base)" "$BUILD/base/out-x86/arch/x86/boot/bzImage"
}

test_make_tree_refresh()
{
	fresh
	ok make tree
	ok make refresh
	clean
	ok make distclean
	[ ! -e "$BUILD" ] || bad "distclean left $BUILD"
	clean
}

test_make_clean()
{
	fresh
	ok make tree
	scripts/check.sh base-path >/dev/null
	local d
	git -C "$L" worktree add -q --detach "$BUILD/commits"
	for d in linux/out-x86 base/out-riscv commits/out-x86 commits-x86 mutants/out-x86 mutants-riscv violations/out-riscv \
		violations-rt others checkers bench htmldocs-base x86-debug log kconfig mbox commits-log mutants-log results; do
		mkdir -p "$BUILD/$d" && touch "$BUILD/$d/x"
	done
	ok make clean
	is "$(ls "$BUILD")" $'base\ncommits-log\nlinux\nmutants-log\nresults\nstatus'
	is "$(ls -d "$BUILD"/*/out-* 2>/dev/null)" ""
	is "$(git -C "$L" worktree list | wc -l)" 2
}

test_make_distclean_keeps_work()
{
	fresh
	ok make tree
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c" && commit "$L" "KVM: Another"
	no 2 "has commits that are not in" make distclean
	[ -e "$L/.git" ] || bad "the tree is gone"
}

test_make_help_is_complete()
{
	fresh
	ok make help
	local t
	for t in $(sed -n 's/^\([a-z][a-z-]*\):.*##.*/\1/p' Makefile) menuconfig; do
		has "$OUT" "make $t"
	done
	while read -r t; do
		has "$OUT" "  $t "
	done < <(sed -n 's/^config //p' Kconfig | grep -vE '^(ARCH_|CC_|PROFILE_)')
}

test_defaults_are_those_of_kconfig()
{
	cd "$HERE" || exit
	[ -e "$BUILT/Makefile" ] || { skip "there is no tree at $BUILT: make tree"; return; }
	ok make -s -C "$BUILT" O="$WORK/kconfig" ARCH=x86 KBUILD_KCONFIG="$HERE/Kconfig" \
		KCONFIG_CONFIG="$WORK/kconfig.out" alldefconfig
	is "$(grep '^CONFIG' "$WORK/kconfig.out")" "$(grep '^CONFIG' scripts/defconfig)"
}

test_config_file()
{
	fresh
	sed 's/^CONFIG_ARCH_X86=y/# CONFIG_ARCH_X86 is not set/; s/^CONFIG_MEMORY=.*/CONFIG_MEMORY=3000/' \
		scripts/defconfig >.config
	ok make help
	has "$OUT" "riscv arm64  "
	has "$OUT" "3000"
	ok make help MEMORY=4000 ARCH_X86=y
	has "$OUT" "riscv arm64 x86"
	has "$OUT" "4000"
}

# gcov's counters of a program here, as those of a kernel: what the last test prints,
# what is made of it, and what reasons are worth.
test_coverage()
{
	fresh
	local -x WORK_HERE=$WORK/s/cov COVERAGE_OUT=$WORK/s/cov-log REASONS=$WORK/s/reasons
	local w=$WORK_HERE c=$WORK/s/console
	mkdir -p "$w/arch/x86/kvm" "$w/include/linux" "$COVERAGE_OUT"
	cover() { WORK=$WORK_HERE "$HERE/scripts/lanes/coverage.py" "$@"; }
	local also=
	report() { printf 'x86 %s\n' default ${also:+"$also"} | cover report; }
	printf 'static int old(int n)\n{\n\treturn n;\n}\nint main(int n, char **v)\n{\n\treturn old(0);\n}\n' >"$w/arch/x86/kvm/a.c"
	git -C "$w" init -q && commit "$w" base
	git -C "$w" update-ref refs/series/base HEAD
	cat >"$w/arch/x86/kvm/a.c" <<'EOT'
#include "../../../include/linux/h.h"
static volatile int seven;
static int old(int n)
{
	if (n == 7)
		seven = never(n);
	return n;
}
int main(int n, char **v)
{
	return old(header(n) - 1);
}
EOT
	printf 'static inline int header(int n)\n{\n\treturn n > 0 ?\n\t\tn : 0;\n}\nstatic inline int never(int n)\n{\n\treturn n + 1;\n}\n' >"$w/include/linux/h.h"
	echo "int not_compiled;" >"$w/arch/x86/kvm/b.c"
	mkdir -p "$w/arch/arm64" && echo "int other;" >"$w/arch/arm64/c.c"
	commit "$w" series
	mkdir "$w/out" "$WORK/s/gcov" && cd "$w/out" || exit
	ok gcc -O1 --coverage -o a ../arch/x86/kvm/a.c
	ok ./a
	# as the kernel has them: by the name of the object
	mkdir -p "$WORK/s/gcov$w/out" && cp a.gcda "$WORK/s/gcov$w/out/a.gcda"
	ok gcc -Wall -Werror -DGCOV="\"$WORK/s/gcov\"" -o z_gcov "$HERE/scripts/lanes/coverage/z_gcov.c"
	{ ./z_gcov | sed 's/^/kvm:z_gcov: /' | sed '2s/^/[   1.0] a line of the kernel that ends here /'; } >"$c"
	: >"$REASONS"
	ok cover read x86 default "$c"
	no 1 "3 errors" report
	has "$OUT" "arch/x86/kvm/a.c:6: not reached: arch/x86/kvm/a.c:old: seven = never(n);"
	has "$OUT" "include/linux/h.h:8: not reached: include/linux/h.h:never: return n + 1;"
	has "$OUT" "arch/x86/kvm/b.c: not reached: arch/x86/kvm/b.c:: not compiled"
	[[ $OUT != *arm64* && $OUT != *"h.h:3: not"* && $OUT != *"a.c:5: not"* ]] || bad "$OUT"
	local lines
	lines=$(sed -n 's/^x86 *default *\([0-9]*\) *\([0-9]*\) *\([0-9]*\)$/\1 \2 \3/p' <<<"$OUT")
	# shellcheck disable=SC2086 # three words
	set -- $lines
	is "$3" $(($1 - $2))
	[ "$3" -ge 2 ] || bad "$lines"
	printf '^x86 .*:(old: seven = never|never: )\tseven is not tried\nb.c:: not compiled\tis for another machine\n' >"$REASONS"
	ok report
	has "$OUT" "not reached for a reason"
	has "$(V=1 report)" "seven is not tried"
	# a reason for what is reached, for nothing, and none
	printf 'header: \tis never called\n' >>"$REASONS"
	no 1 "is reached, and has a reason why it is not: is never called" report
	sed -i '$d' "$REASONS"; printf '^x86 nowhere\twas there once\n' >>"$REASONS"
	no 1 "a reason for no line: ^x86 nowhere: was there once" report
	sed -i '$d' "$REASONS"; echo 'no reason' >>"$REASONS"
	no 2 "a line without a reason: no reason" report
	sed -i '$d' "$REASONS"
	# not all that there is was run: nothing is wrong so far
	: >"$REASONS"
	also=shadow
	ok report
	also=
	has "$OUT" "not reached so far"
	has "$OUT" "without shadow"
	has "$OUT" "not all was run"
	# counters that come out damaged
	sed '2s/ 0 / 1 /' "$c" >"$c.bad"
	no 2 "lacks line" cover read x86 default "$c.bad"
	sed '$d' "$c" >"$c.bad"
	no 2 "has no end of the counters" cover read x86 default "$c.bad"
	sed '2s/ 0 [A-Za-z0-9]/ 0 !/' "$c" >"$c.bad"
	no 2 "is broken" cover read x86 default "$c.bad"
	sed '2s/ 0 \([A-Za-z0-9]\)\([A-Za-z0-9]\)/ 0 \2\1/' "$c" >"$c.bad"
	cmp -s "$c" "$c.bad" || no 2 "the end says" cover read x86 default "$c.bad"
	rm "$w/out/a.gcno"
	no 2 "a.gcno is missing" cover read x86 default "$c"
	no 2 "there is no" cover read x86 default "$WORK/s/nowhere"
	# another commit
	echo >>"$w/arch/x86/kvm/b.c" && commit "$w" more
	ok report
	has "$OUT" "not run"
	no 2 "coverage.py knows read and report" cover nope
}

# The descriptions for syzkaller against the composed headers, and that no such
# error goes unseen.
test_syzkaller_descriptions()
{
	fresh
	[ -e "$BUILT/include/uapi/linux/kvm.h" ] || { skip "there is no tree at $BUILT: make tree"; return; }
	local d=$WORK/s/syz reset riscv64
	local -x TREE=$BUILT
	cp -r "$HERE/syzkaller" "$d"
	reset=$d/dev_kvm_vcpu_reset.txt riscv64=$d/dev_kvm_riscv64_state.txt
	ok "$HERE/scripts/lanes/syzkaller.py" check
	# Every new number of the series is in there.
	local number
	for number in KVM_MP_STATE_RESET KVM_CAP_MP_STATE_RESET KVM_CAP_EXIT_ON_VCPU_RESET KVM_CAP_NEEDS_COMPLETION \
		KVM_RUN_NEEDS_COMPLETION KVM_EXIT_X86_INIT_SIPI KVM_X86_INIT_SIPI_EVENT_INIT KVM_X86_INIT_SIPI_EVENT_SIPI \
		KVM_VCPUEVENT_VALID_SIPI KVM_EXIT_ON_VCPU_RESET_INIT_SIPI KVM_EXIT_ON_VCPU_RESET_HART_START \
		KVM_EXIT_ON_VCPU_RESET_SUSP; do
		grep -q "^$number = " "$d"/*.const || bad "no description has $number"
	done
	# wrong FILE SED TEXT: edited like this, it is refused with these words
	wrong() { cp -f "$HERE/syzkaller/${1##*/}" "$1"; sed -i "$2" "$1"
		! cmp -s "$1" "$HERE/syzkaller/${1##*/}" || bad "sed $2 changes nothing"
		no 1 "$3" "$HERE/scripts/lanes/syzkaller.py" check "${4:-${1%.const}}" ${4:+"${1%.const}"}; cp -f "$HERE/syzkaller/${1##*/}" "$1"; }
	wrong "$reset" 's/KVM_CAP_MP_STATE_RESET/KVM_CAP_MP_STATE_REST/' "'KVM_CAP_MP_STATE_REST' undeclared"
	wrong "$reset.const" 's/^KVM_MP_STATE_RESET = 11/KVM_MP_STATE_RESET = 10/' "KVM_MP_STATE_RESET = 10; KVM_MP_STATE_RESET = 11"
	wrong "$reset.const" '/^KVM_RUN_NEEDS/d' "KVM_RUN_NEEDS_COMPLETION = 32768"
	wrong "$reset" 's/KVM_SET_MP_STATE\], arg ptr\[in, const\[KVM_MP_STATE_RESET, int32/KVM_SET_MP_STATE], arg ptr[in, const[KVM_MP_STATE_RESET, int64/' "KVM_SET_MP_STATE_reset takes 8 bytes"
	wrong "$reset" 's/array\[int64\[0:7\], 4\]/array[int64[0:7], 5]/' "has 112 bytes"
	wrong "$reset" '/^\tflags\tint32/d' "has a gap"
	wrong "$reset" 's/fd_kvm, cmd/fd_kvn, cmd/' "fd_kvn is not described"
	wrong "$reset" 's/flags\[kvm_run_completion_flags, int16\]/int16/' "kvm_run_completion_flags is not used"
	wrong "$reset" 's/^# struct kvm_enable_cap//' "names no C type"
	wrong "$reset" 's/^meta.*//' "no meta arches"
	wrong "$reset" 's/"amd64", "arm64"/"amd64", "vax"/' "no compiler for vax"
	wrong "$reset" 's/^include/includes/' "not understood: includes"
	wrong "$reset" 's/ptr\[in, flags/ptr[into, flags/' "no direction: into"
	wrong "$d/dev_kvm_vcpu_reset_amd64.txt" 's/^\tvector\tint8/\tvektor\tint8/' "has no member named 'vektor'"
	wrong "$d/dev_kvm_vcpu_reset_amd64.txt" '/^\tdiscard/{N;s/\(.*\)\n\(.*\)/\2\n\1/}' "is at"
	wrong "$d/dev_kvm_vcpu_reset_amd64.txt" 's/reserved\t\tarray\[const\[0, int8\], 25/reserved\t\tarray[const[0, int8], 26/' "dev_kvm_vcpu_reset_amd64.txt: kvm_vcpu_events_sipi"
	wrong "$d/dev_kvm_vcpu_reset_amd64.txt" 's/ioctl$KVM_SET_MP_STATE_amd64/ioctl$KVM_SET_MP_STATE_reset/' "ioctl\$KVM_SET_MP_STATE_reset twice" "$reset"
	wrong "$riscv64" 's/int32:20\]/int32:24]/' "kvm_one_reg_riscv64_config has a gap"
	wrong "$riscv64" 's/^kvm_gpa_bits_riscv64 = 34/kvm_gpa_bits_riscv64 = 3x/' "no number: 3x"
	wrong "$riscv64" 's/sizeof(struct kvm_riscv_core)/sizeof(struct kvm_riscv_kore)/' "kvm_riscv_kore"
	no 2 "syzkaller.py knows check and const" "$HERE/scripts/lanes/syzkaller.py" nope
	no 2 "make tree" env TREE="$WORK/nowhere" "$HERE/scripts/lanes/syzkaller.py" check
}
