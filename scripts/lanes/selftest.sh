#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# selftest.sh: does each lane catch what it is there for? Deliberate violations
# on top of the series, on riscv and, for VMX, on x86; each must be caught and
# named.
#
#	selftest.sh fresh	only that of "make fresh", two minutes without a kernel
#
# The others need the kernels: "make build ARCH='riscv x86'", and for the checkers that
# compare "make build ARCH=riscv ON=base".

. "$(dirname -- "$0")/../common.sh"
unset MAKEFLAGS MAKELEVEL

BAD=$BUILD/violations
OUT=$BUILD/violations-log
failed=0
passed=0
skipped=0

case ${1:-} in
''|fresh) ;;
*) die "selftest.sh knows fresh, not \"$1\"" "make lanes-selftest" ;;
esac

# violate MESSAGE: commit what was changed in $BAD
violate() { git -C "$BAD" add -A && git -C "$BAD" -c user.name=x -c user.email=x@example.org commit -q -m "$1"; }
start_over() { git -C "$BAD" reset -q --hard "$HEAD_ID" && git -C "$BAD" clean -q -fd -e '/out-*'; }

# caught LANE TEXT FILE: TEXT is in what the lane said
caught()
{
	if grep -q -- "$2" "$3"; then
		passed=$((passed + 1))
		printf 'caught: %-12s %s\n' "$1" "$(grep -m 1 -- "$2" "$3" | sed 's/^ *//' | cut -c1-110)"
	else
		failed=$((failed + 1))
		printf 'MISSED: %-12s nothing said "%s", see %s\n' "$1" "$2" "$3"
	fi
}

# checker NAME TEXT: run it on $BAD
checker()
{
	TREE=$BAD ARCH=riscv AFTER=$HEAD_ID "$TOP/scripts/lanes/checkers.sh" "$1" >"$OUT/$1" 2>&1 &&
		say "(checker $1 exited with 0)" >"$OUT/$1"
	caught "$1" "$2" "$OUT/$1"
}

runner() { in_runner "$TREE" ARCH=riscv KERNEL_PATH="$BAD" MEMORY=2048M "$@" </dev/null; }

# into FILE FUNCTION CODE: put CODE at the start of a function
into()
{
	awk -v f="$2" -v code="$3" '{ print } index($0, f) && !/;$/ { on = 1 } on && /^{/ { print code; on = 0 }' \
		"$BAD/$1" >"$BAD/new.c"
	mv "$BAD/new.c" "$BAD/$1"
}

# a tool that setup.sh does not install: a clone of what is committed, with one
# line less. One architecture, for the sake of speed.
fresh()
{
	local why clone=$OUT/clone

	why=$("$TOP/scripts/fresh.sh" possible || :)
	if [ -n "$why" ]; then
		skipped=$((skipped + 1))
		say "skipped: fresh        $why"
		return
	fi
	rm -rf -- "$clone"
	git clone -q --no-hardlinks "$TOP" "$clone"
	sed -i '/^\tneed flex flex /d' "$clone/scripts/setup.sh"
	git -C "$clone" -c user.name=x -c user.email=x@example.org commit -q -a -m "setup: Install no flex"
	env -u TREE -u SERIES_LOCKED -u PATCHES BUILD="$BUILD/violations-fresh" ARCH=x86 \
		"$clone/scripts/fresh.sh" >"$OUT/fresh" 2>&1 && say "(exited with 0)" >"$OUT/fresh"
	caught fresh "^ *flex  *flex\|flex: not found\|flex: command not found" "$OUT/fresh"
	caught fresh "^0 passed, 1 failed, 0 skipped" "$OUT/fresh"
	rm -rf -- "$clone" "$BUILD/violations-fresh"
}

mkdir -p "$OUT"
if [ "${1:-}" = fresh ]; then
	fresh
	say "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
	exit
fi

RISCV=arch/riscv/kvm/vcpu.c

for arch in riscv x86; do
	[ -e "$TREE/out-$arch/.config" ] || die "there is no $arch kernel" "make build ARCH=$arch"
done
[ -e "$BUILD/base/out-riscv/.config" ] || die "there is no riscv kernel of the base" "make build ARCH=riscv ON=base"
HEAD_ID=$(git -C "$TREE" rev-parse HEAD)
worktree "$BAD" "$HEAD_ID" 3072
for arch in riscv x86; do
	[ -e "$BAD/out-$arch" ] || cp -a "$TREE/out-$arch" "$BAD/out-$arch"
done
start_over

# --- what only needs to be read or compiled
cat >>"$BAD/arch/riscv/kvm/vcpu.c" <<'EOT'

/**
 * kvm_riscv_violation() - Has a parameter that is not described
 * @nothing: is no parameter
 */
int kvm_riscv_violation(int __user *something)
{
	int uninitialised;
	void *p = kmalloc(8, GFP_KERNEL); 

	if (p)
		kfree(p);
	return *something + uninitialised;
}
EOT
printf '\nSee Documentation/virt/kvm/is-not-there.rst and :ref:`no_such_label`.\n' >>"$BAD/Documentation/virt/kvm/api.rst"
mkdir -p "$BAD/lib/violation"
echo "/* nobody's */" >"$BAD/lib/violation/nobody.c"
violate "lib: Violate what there is to violate"
checker checkpatch TRAILING_WHITESPACE
checker kerneldoc "nothing"
checker w1 "missing-prototypes\|no previous prototype"
checker w1 "uninitialized"
checker sparse "noderef"
checker coccicheck "NULL check before"
checker docs "is-not-there.rst"
start_over
echo "/* nobody's */" >"$BAD/violation.c"
violate "violation: Add a file that KVM does not own"
checker maintainers "no KVM list or maintainer for: violation"

# --- a commit that builds only with the next one; an architecture that is only compiled
start_over
echo 'int kvm_violation(void) { return kvm_not_there; }' >>"$BAD/arch/riscv/kvm/vcpu.c"
violate "RISC-V: KVM: Use what does not exist"
sed -i 's/kvm_not_there/0/' "$BAD/arch/riscv/kvm/vcpu.c"
violate "RISC-V: KVM: Mend it"
TREE=$BAD ARCH=riscv OTHERS='' FORCE=1 "$TOP/scripts/lanes/commits.sh" HEAD~2..HEAD~1 >"$OUT/commits" 2>&1 &&
	say "(exited with 0)" >"$OUT/commits"
caught commits "riscv: does not build" "$OUT/commits"
TREE=$BAD ARCH=riscv OTHERS='' FORCE=1 "$TOP/scripts/lanes/commits.sh" HEAD~1..HEAD >"$OUT/commits" 2>&1 &&
	say "(exited with 0)" >"$OUT/commits"
caught commits "no previous prototype" "$OUT/commits"

start_over
printf '#error "a violation"\n' >>"$BAD/arch/s390/kvm/diag.c"
violate "KVM: s390: Break it"
TREE=$BAD "$TOP/scripts/lanes/others.sh" s390 >"$OUT/others" 2>&1 && say "(exited with 0)" >"$OUT/others"
caught others "a violation" "$OUT/others"
TREE=$BAD ARCH=riscv OTHERS=s390 FORCE=1 "$TOP/scripts/lanes/commits.sh" HEAD~1..HEAD >"$OUT/commits" 2>&1 &&
	say "(exited with 0)" >"$OUT/commits"
caught commits "a violation" "$OUT/commits"

# --- what gcc accepts
start_over
into "$RISCV" kvm_arch_vcpu_create $'\tint violation(void) { return 0; }\n\n\tviolation();\n'
violate "RISC-V: KVM: Define a function in a function"
TREE=$BAD "$TOP/scripts/lanes/others.sh" riscv >"$OUT/clang" 2>&1 && say "(exited with 0)" >"$OUT/clang"
caught clang "function definition is not allowed here" "$OUT/clang"

# --- a test whose result changes: what the table makes of made-up results
"$TOP/scripts/test/run" table >"$OUT/table" 2>&1 || say "(failed)" >"$OUT/table"
caught table "^ok 1 table" "$OUT/table"

# --- what needs a kernel that runs
start_over
into "$RISCV" kvm_arch_vcpu_create $'\tstatic DEFINE_RAW_SPINLOCK(violation);\n\n\traw_spin_lock(&violation);\n\tmsleep(1);\n\traw_spin_unlock(&violation);\n'
sed -i '1,/^#include/s,^#include,#include <linux/delay.h>\n#include,' "$BAD/arch/riscv/kvm/vcpu.c"
violate "RISC-V: KVM: Sleep under a spinlock"
runner PROFILE=debug KERNEL_BUILD_PATH="$BAD/out-riscv-debug" BUILD_PATH="$BUILD/violations-debug" \
	TESTS=guest_print_test run >"$OUT/debug" 2>&1 && say "(exited with 0)" >>"$OUT/debug"
caught debug "sleeping function called\|scheduling while atomic" "$OUT/debug"

start_over
into "$RISCV" kvm_arch_vcpu_create $'\tstatic DEFINE_RAW_SPINLOCK(outer);\n\tstatic DEFINE_SPINLOCK(inner);\n\n\traw_spin_lock(&outer);\n\tspin_lock(&inner);\n\tspin_unlock(&inner);\n\traw_spin_unlock(&outer);\n'
violate "RISC-V: KVM: Take a spinlock under a raw spinlock"
runner PROFILE=debug KERNEL_BUILD_PATH="$BAD/out-riscv-debug" BUILD_PATH="$BUILD/violations-debug" \
	TESTS=guest_print_test run >"$OUT/context" 2>&1 && say "(exited with 0)" >>"$OUT/context"
caught debug "Invalid wait context" "$OUT/context"

runner PROFILE=rt KERNEL_BUILD_PATH="$BAD/out-riscv-rt" BUILD_PATH="$BUILD/violations-rt" \
	TESTS=guest_print_test run >"$OUT/rt" 2>&1 && say "(exited with 0)" >>"$OUT/rt"
caught rt "sleeping function called\|scheduling while atomic" "$OUT/rt"

start_over
into "$RISCV" kvm_arch_vcpu_create $'\tWARN_ON(1);\n'
violate "RISC-V: KVM: Warn at every vCPU"
runner KERNEL_BUILD_PATH="$BAD/out-riscv" BUILD_PATH="$BUILD/riscv" VARIANT=noaia \
	TESTS=guest_print_test run >"$OUT/warn" 2>&1 && say "(exited with 0)" >>"$OUT/warn"
caught run "fail: kernel: WARNING" "$OUT/warn"

start_over
sed -i 's/^static int __init riscv_kvm_init(void)$/static int __init violation(void) { BUG(); }\ncore_initcall(violation);\n\n&/' \
	"$BAD/arch/riscv/kvm/main.c"
violate "RISC-V: KVM: BUG() at boot"
status=0
runner KERNEL_BUILD_PATH="$BAD/out-riscv" BUILD_PATH="$BUILD/riscv" VARIANT=noaia BOOT_TIMEOUT=60 \
	TESTS=guest_print_test run >"$OUT/bug" 2>&1 || status=$?
say "(status $status)" >>"$OUT/bug"
caught boot "(status 4)" "$OUT/bug"
caught boot "kernel BUG at" "$OUT/bug"

start_over
into arch/x86/kvm/vmx/vmx.c "int vmx_vcpu_create(" $'\tWARN_ON(1);\n'
violate "KVM: VMX: Warn at every vCPU"
TREE=$BAD BUILD=$BUILD/violations-vmx ARCH=x86 TESTS=set_sregs_test "$TOP/scripts/check.sh" build x86 >"$OUT/vmx" 2>&1 &&
	TREE=$BAD BUILD=$BUILD/violations-vmx ARCH=x86 TESTS=set_sregs_test PROFILE=vmx "$TOP/scripts/check.sh" run >>"$OUT/vmx" 2>&1 &&
	say "(exited with 0)" >>"$OUT/vmx"
caught vmx "FAIL: kernel: WARNING" "$OUT/vmx"

# --- what only runs where it was written
fresh

say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
