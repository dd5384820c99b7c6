#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# others.sh [ARCH ...]: compile KVM of the architectures that cannot run here,
# loongarch, mips, powerpc and s390, and for clang's warnings that of riscv,
# arm64 and x86, from the base and from the series, and report what the series
# adds in errors and warnings (W=1). Nothing is linked and nothing is run.

. "$(dirname -- "$0")/../common.sh"
# shellcheck source=scripts/lanes/compile.sh
. "$TOP/scripts/lanes/compile.sh"

wrong=0

known="$COMPILED riscv arm64 x86"
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $known
for arch; do
	[[ " $known " == *" $arch "* ]] || die "others.sh does not know $arch" "one of: $known"
done
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
need_clang
base=$("$TOP/scripts/check.sh" base-path)
for arch; do
	start=$(date +%s)
	compile "$base" "$arch" base
	compile "$TREE" "$arch" series
	new_complaints "$arch" series >"$OTHERS_OUT/$arch-new"
	before=$(objects_of "$arch" base)
	objects=$(objects_of "$arch" series)
	printf 'others: %-10s %3d objects compiled, not run; %d new complaint(s), %d s\n' \
		"$arch" "$objects" "$(wc -l <"$OTHERS_OUT/$arch-new")" $(($(date +%s) - start))
	sed 's/^/  /' "$OTHERS_OUT/$arch-new"
	[ ! -s "$OTHERS_OUT/$arch-new" ] || wrong=1
	if [ "$objects" -lt "$before" ]; then
		say "  fewer objects than on the base ($before): see $OTHERS_OUT/$arch-series.log"
		wrong=1
	fi
done
exit "$wrong"
