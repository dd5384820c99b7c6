# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# compile.sh, sourced after common.sh: compile KVM with clang, which has all
# architectures as targets. Nothing is linked. COMPILED are those that cannot run
# here.

# shellcheck disable=SC2034 # used by what sources this
COMPILED="loongarch mips powerpc s390"
OTHERS_OUT=$BUILD/others
# Not LLVM, which make may have exported: gcc is used as well.
CLANG=${LLVM:--19}

need_clang()
{
	local t

	for t in clang ld.lld llvm-ar; do
		command -v "$t$CLANG" >/dev/null ||
			die "$t$CLANG is missing" "apt-get install clang$CLANG lld$CLANG llvm$CLANG"
	done
}

# config ARCH: as much of KVM as one configuration can have. An option that
# kconfig does not grant is an error.
config()
{
	echo CONFIG_VIRTUALIZATION=y
	echo CONFIG_MODULES=y
	case $1 in
	loongarch) printf 'CONFIG_%s\n' 64BIT=y MACH_LOONGSON64=y KVM=m ;;
	mips) printf 'CONFIG_%s\n' MACH_LOONGSON64=y CPU_LOONGSON64=y KVM=m ;;
	powerpc) printf 'CONFIG_%s\n' PPC64=y PPC_BOOK3S_64=y PPC_PSERIES=y PPC_POWERNV=y ALTIVEC=y VSX=y \
			KVM_BOOK3S_64=m KVM_BOOK3S_64_HV=m KVM_BOOK3S_64_PR=m ;;
	s390) printf 'CONFIG_%s\n' KVM=m ;;
	riscv) printf 'CONFIG_%s\n' ARCH_RV64I=y MMU=y SMP=y RISCV_SBI=y FPU=y RISCV_ISA_V=y PERF_EVENTS=y \
			RISCV_PMU=y RISCV_PMU_SBI=y KVM=m ;;
	arm64) printf 'CONFIG_%s\n' PERF_EVENTS=y ARM_PMU=y HW_PERF_EVENTS=y ARM_PMUV3=y KVM=y ;;
	x86) printf 'CONFIG_%s\n' 64BIT=y SMP=y PCI=y KVM=m KVM_INTEL=m KVM_AMD=m KVM_SMM=y KVM_HYPERV=y KVM_XEN=y \
			KVM_IOAPIC=y X86_USER_SHADOW_STACK=y ;;
	esac
}

# compile TREE ARCH SIDE: the objects of arch/*/kvm and virt/kvm. Leaves log,
# complaints and the number of objects in $OTHERS_OUT/ARCH-SIDE.*
compile()
{
	local tree=$1 arch=$2 side=$3 out=$OTHERS_OUT/$2-$3 want line make
	mkdir -p "$out"
	make=(env -u MAKEFLAGS -u MAKELEVEL make -s -j"${JOBS:-2}" -C "$tree" "O=$out" "ARCH=$arch" "LLVM=$CLANG")
	! use_ccache || make+=("CC=ccache clang$CLANG")

	want=$out/wanted.config
	config "$arch" >"$want.new"
	if ! cmp -s "$want.new" "$want"; then
		KCONFIG_ALLCONFIG=$want.new "${make[@]}" allnoconfig >"$OTHERS_OUT/$arch-$side.config.log" 2>&1 || {
			tail -n 5 "$OTHERS_OUT/$arch-$side.config.log" >&2
			DIE_STATUS=3 die "$arch could not be configured" "see $OTHERS_OUT/$arch-$side.config.log"
		}
		mv "$want.new" "$want"
	fi
	while read -r line; do
		grep -qx "$line" "$out/.config" ||
			DIE_STATUS=3 die "$arch does not get $line" "adjust config() in scripts/lanes/compile.sh"
	done <"$want"
	# What is there from another run doesn't count.
	find "$out/arch/$arch/kvm" "$out/virt/kvm" -name '*.o' -delete 2>/dev/null || :
	"${make[@]}" -k W=1 modules_prepare "arch/$arch/kvm/" >"$OTHERS_OUT/$arch-$side.log" 2>&1 </dev/null || :
	# Errors wherever they are, warnings of KVM: not those of what modules_prepare
	# happens to compile again.
	sed -e "s,$tree/,,g" -e 's,\.\./,,g' "$OTHERS_OUT/$arch-$side.log" |
		grep -E 'error:|\*\*\*|^(arch/[a-z0-9]*/kvm|virt/kvm|include)/.*warning:' \
		>"$OTHERS_OUT/$arch-$side.complaints" || :
	find "$out" -path "*/kvm/*" -name '*.o' | wc -l >"$OTHERS_OUT/$arch-$side.objects"
}

# objects_of ARCH SIDE: how many it compiled. None on the base means that there is
# nothing to compare with.
objects_of()
{
	local n

	n=$(cat "$OTHERS_OUT/$1-$2.objects")
	[ "$n" -gt 0 ] || [ "$2" != base ] ||
		DIE_STATUS=3 die "nothing of KVM compiles for $1 on the base" "see $OTHERS_OUT/$1-base.log"
	echo "$n"
}

# new_complaints ARCH SIDE: those that the base doesn't have, line numbers aside
new_complaints()
{
	awk 'function key(s) { gsub(/:[0-9]+(:[0-9]+)?:/, ":", s); return s }
		FILENAME == ARGV[1] { seen[key($0)]++; next }
		seen[key($0)]-- <= 0' "$OTHERS_OUT/$1-base.complaints" "$OTHERS_OUT/$1-$2.complaints"
}
