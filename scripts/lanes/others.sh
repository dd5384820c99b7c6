#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# others.sh [ARCH ...]: compile KVM of the architectures that cannot run here,
# loongarch, mips, powerpc and s390, from the base and from the series, and
# report what the series adds in errors and warnings (W=1). Clang has all of
# them as targets. Nothing is linked and nothing is run.

. "$(dirname -- "$0")/../common.sh"

LLVM=${LLVM:--19}
OUT=$BUILD/others
wrong=0

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
	esac
}

# compile TREE ARCH SIDE: the objects of arch/*/kvm and virt/kvm
compile()
{
	local tree=$1 arch=$2 side=$3 out=$OUT/$2-$3 want line make
	make=(env -u MAKEFLAGS -u MAKELEVEL make -s -j"${JOBS:-2}" -C "$tree" "O=$out" "ARCH=$arch" "LLVM=$LLVM")
	[ "${USE_CCACHE:-n}" = n ] || {
		export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
		make+=("CC=ccache clang$LLVM")
	}

	mkdir -p "$out"
	want=$out/wanted.config
	config "$arch" >"$want.new"
	if ! cmp -s "$want.new" "$want"; then
		mv "$want.new" "$want"
		KCONFIG_ALLCONFIG=$want "${make[@]}" allnoconfig >"$OUT/$arch-$side.config.log" 2>&1 || {
			tail -n 5 "$OUT/$arch-$side.config.log" >&2
			rm -f "$want"
			DIE_STATUS=3 die "$arch could not be configured" "see $OUT/$arch-$side.config.log"
		}
	fi
	while read -r line; do
		grep -qx "$line" "$out/.config" ||
			DIE_STATUS=3 die "$arch does not get $line" "adjust config() in scripts/lanes/others.sh"
	done <"$want"
	# What is there from another run doesn't count.
	find "$out/arch/$arch/kvm" "$out/virt/kvm" -name '*.o' -delete 2>/dev/null || :
	"${make[@]}" -k W=1 modules_prepare "arch/$arch/kvm/" >"$OUT/$arch-$side.log" 2>&1 </dev/null || :
	grep -E '(error|warning):|\*\*\*' "$OUT/$arch-$side.log" | sed -e "s,$tree/,,g" -e 's,\.\./,,g' \
		>"$OUT/$arch-$side.complaints" || :
	find "$out/arch/$arch/kvm" "$out/virt/kvm" -name '*.o' 2>/dev/null | wc -l >"$OUT/$arch-$side.objects"
}

[ $# -gt 0 ] || set -- loongarch mips powerpc s390
command -v "clang$LLVM" >/dev/null || die "clang$LLVM is missing" "apt-get install clang$LLVM lld$LLVM llvm$LLVM"
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
mkdir -p "$OUT"
base=$("$TOP/scripts/check.sh" base-path)
for arch; do
	case $arch in
	loongarch|mips|powerpc|s390) ;;
	*) die "others.sh does not know $arch" "one of: loongarch mips powerpc s390" ;;
	esac
	start=$(date +%s)
	compile "$base" "$arch" base
	compile "$TREE" "$arch" series
	awk 'function key(s) { gsub(/:[0-9]+(:[0-9]+)?:/, ":", s); return s }
		FILENAME == ARGV[1] { seen[key($0)]++; next }
		seen[key($0)]-- <= 0' "$OUT/$arch-base.complaints" "$OUT/$arch-series.complaints" >"$OUT/$arch-new"
	objects=$(cat "$OUT/$arch-series.objects")
	printf 'others: %-10s %3d objects of KVM compiled, not run; %d new complaint(s), %d s\n' \
		"$arch" "$objects" "$(wc -l <"$OUT/$arch-new")" $(($(date +%s) - start))
	sed 's/^/  /' "$OUT/$arch-new"
	[ ! -s "$OUT/$arch-new" ] || wrong=1
	if [ "$objects" -eq 0 ] || [ "$objects" -lt "$(cat "$OUT/$arch-base.objects")" ]; then
		say "  fewer objects than on the base ($(cat "$OUT/$arch-base.objects")): see $OUT/$arch-series.log"
		wrong=1
	fi
done
exit "$wrong"
