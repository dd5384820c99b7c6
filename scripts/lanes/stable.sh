#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# stable.sh [VERSION ...]: the commits that are marked Cc: stable, in order, onto
# the stable kernels that BASE names ("stable: VERSION ...") and the package
# sources have. For each: it applies, it conflicts and where, or the bug is not
# there, in a kernel older than the one that "Cc: stable@vger.kernel.org # X.Y+" names.
# patches/stable/VERSION/ holds a variant where a hunk had to change, or the file is
# another, found by its subject, as numbers move; it must have the message of the patch
# and be of one that is marked.
#
# With what applied the kernel is built, and the tests marked base=fail are run on
# it and on the stable kernel as it is, with how many of their cases pass where one
# fails; one that passes before and fails after, or in fewer cases, is an error, as is
# a variant that conflicts. BUILDS=0 leaves that out. The matrix is in build/stable.txt.

. "$(dirname -- "$0")/../common.sh"

unset MAKEFLAGS MAKELEVEL
ARCH=${ARCH:-riscv arm64 x86}
WORK=$BUILD/stable
LOG=$BUILD/stable-log
MATRIX=$BUILD/stable.txt
wrong=0

tree_git() { git -C "$TREE" "$@"; }
work_git() { git -C "$WORK" -c merge.conflictStyle=diff3 "$@"; }

for version; do
	[[ $version =~ ^[0-9]+\.[0-9]+(\.[0-9]+)?$ ]] || die "$version is not a version of Linux" "stable.sh 6.12.107"
done
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(base_key stable)
[ $# -gt 0 ] || die "$PATCHES/BASE names no stable kernel" "add a line \"stable: VERSION ...\""
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"

# older A B: is version A before B?
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# subject COMMIT, and message COMMIT, less what says where the patch goes
subject() { tree_git log -1 --format='Subject: [PATCH] %s' "$1"; }
message() { tree_git log -1 --format=%B "$1" | sed '/^Topic: /d; /^Cc: .*stable@/d'; }

# put COMMIT VERSION: onto $WORK, and what came of it
put()
{
	local commit=$1 version=$2 since variant
	since=$(tree_git log -1 --format=%B "$commit" | sed -nE 's/^Cc: .*stable@vger\.kernel\.org.*# *([0-9.]+).*/\1/p')
	if [ -n "$since" ] && older "${version%.*}" "$since"; then
		echo "not there before $since"
		return
	fi
	variant=$(grep -slFx "$(subject "$commit")" "$TOP/patches/stable/$version"/*.patch | head -n 1 || :)
	if [ -n "$variant" ]; then
		if ! work_git am -q --no-gpg-sign "$variant" >/dev/null 2>&1; then
			work_git am --abort
			echo "CONFLICT: its variant"
		elif [ "$(message "$commit")" != "$(message "$(work_git rev-parse HEAD)")" ]; then
			echo "CONFLICT: its message"
		else
			echo "applies as a variant"
		fi
	elif work_git cherry-pick --strategy=recursive -Xno-renames "$commit" >/dev/null 2>&1; then
		echo applies
	elif work_git diff --quiet HEAD 2>/dev/null; then
		work_git cherry-pick --skip
		echo "there already"
	else
		echo "conflicts: $(work_git diff --name-only --diff-filter=U | sed 's,.*/,,' | paste -sd' ')"
		work_git cherry-pick --abort
	fi
}

# without ARCH: of the options that the runner asks for, those that this kernel does not
# know, left out. SYSCTL has no prompt before 7.3.
without()
{
	LC_ALL=C comm -23 <(sed -nE 's/^CONFIG_([A-Za-z0-9_]+)=.*/\1/p' "$TREE/$RUNNER/kernel.config" "$TREE/$RUNNER/arch/$1.config" | LC_ALL=C sort -u) \
		<(work_git grep -hoE '^[[:space:]]*(menu)?config [A-Za-z0-9_]+' -- '*Kconfig*' | awk '{ print $2 }' | LC_ALL=C sort -u) |
		sed 's/.*/# CONFIG_& is not set/'
	! work_git grep -q '^config PROC_SYSCTL$' -- fs/proc/Kconfig || echo CONFIG_PROC_SYSCTL=y
}

# boot ARCH REV NAME: the reproducers of the series on the kernel REV; its KTAP. Older
# kernels patch their own code in a way that QEMU without KVM sometimes runs half of: one
# that does not boot is booted once more.
boot()
{
	local arch=$1 fragment=$LOG/$3.config goal status=0
	work_git checkout -q --detach "$2"
	without "$arch" >"$fragment"
	for goal in run rerun; do
		status=0
		in_runner "$TREE" ARCH="$arch" KERNEL_PATH="$WORK" KERNEL_BUILD_PATH="$WORK/out-$arch" BUILD_PATH="$BUILD/stable-$arch" \
			KCONFIG_FRAGMENT="$fragment" NR_CPUS="${NR_CPUS:-4}" MEMORY="${MEMORY:-2048}M" TESTS="$(reproducers_of "$arch" | cut -d' ' -f1 | paste -sd' ')" \
			"$goal" >"$LOG/$3.log" 2>&1 </dev/null || status=$?
		[ "$status" = 4 ] || break
	done
	grep -hE '^(not )?ok ' "$BUILD/stable-$arch"/results/*.ktap >"$LOG/$3.ktap" 2>/dev/null
}

# verdict TEST FILE: ok, not ok, skipped or did not run
verdict()
{
	sed -nE "s/^((not )?ok) [0-9]+ (- )?(kvm:)?$1( # SKIP)?.*/\1\5/p" "$2" | sed -E 's/^ok # SKIP/skipped/' | head -n 1 | grep . ||
		echo "did not run"
}

# cases TEST LOG: "P/N", how many of the cases of a test that failed have passed
cases()
{
	sed -nE "s/.*kvm:$1: # Totals: pass:([0-9]+) fail:([0-9]+) .* skip:([0-9]+) .*/\1 \2 \3/p" "$2" |
		awk '$2 { printf "%d/%d", $1, $1 + $2 + $3; exit }'
}

# reproducers VERSION: which fail before and pass after
reproducers()
{
	local version=$1 arch test before after passed_before passed_after
	for arch in $ARCH; do
		rm -f "$BUILD/stable-$arch"/results/*.ktap
		boot "$arch" "refs/series/stable/$version" "$version-$arch-before" || :
		rm -f "$BUILD/stable-$arch"/results/*.ktap
		if ! boot "$arch" "refs/series/stable/$version-fixed" "$version-$arch-after"; then
			printf '  %-10s %-6s does not build or boot: %s\n' "$version" "$arch" "$LOG/$version-$arch-after.log"
			wrong=1
			continue
		fi
		while read -r test; do
			before=$(verdict "$test" "$LOG/$version-$arch-before.ktap")
			after=$(verdict "$test" "$LOG/$version-$arch-after.ktap")
			passed_before=$(cases "$test" "$LOG/$version-$arch-before.log")
			passed_after=$(cases "$test" "$LOG/$version-$arch-after.log")
			printf '  %-10s %-6s %-24s before: %-16s after: %s\n' "$version" "$arch" "$test" \
				"$before${passed_before:+ $passed_before}" "$after${passed_after:+ $passed_after}"
			: "${passed_before:=0}" "${passed_after:=0}"
			[ "$before $after" != "ok not ok" ] || wrong=1
			# A test of what isn't marked fails after it, too, but in no more cases; one
			# that ended early has passed none.
			[ "$after" = ok ] || [ "${passed_before%/*}" -le "${passed_after%/*}" ] || wrong=1
		done < <(sed -E 's/^(not )?ok [0-9]+ (- )?(kvm:)?([^ ]+).*/\4/' "$LOG/$version-$arch-after.ktap")
	done
}

mkdir -p "$LOG"
: >"$MATRIX"
record "${MATRIX%.txt}.run" "arch: $ARCH" "builds: ${BUILDS:-1}"
mapfile -t commits < <(tree_git log --reverse --format=%H --grep='^Cc: .*stable@vger\.kernel\.org' refs/series/base..refs/series/composed)
[ ${#commits[@]} -gt 0 ] || die "no commit of the series is marked Cc: stable" "see Documentation/process/stable-kernel-rules.rst"
for version; do
	found=$("$TOP/scripts/base.sh" "$version") || {
		say "$version: no package source has it" | tee -a "$MATRIX"
		continue
	}
	read -r gitdir commit <<<"$found"
	tree_git fetch -q "$gitdir" "$commit"
	tree_git update-ref "refs/series/stable/$version" "$commit"
	worktree "$WORK" "$commit" 2560
	work_git checkout -q --force --detach "$commit"
	say "$(tree_git log -1 --format=%s "$commit"):" | tee -a "$MATRIX"
	for c in "${commits[@]}"; do
		result=$(put "$c" "$version")
		[[ $result != CONFLICT* ]] || wrong=1
		printf '  %-28s %s\n' "${result:0:28}" "$(tree_git log -1 --format=%s "$c")" | tee -a "$MATRIX"
	done
	while read -r variant; do
		say "  CONFLICT: of nothing marked  patches/stable/$version/$variant" | tee -a "$MATRIX"
		wrong=1
	done < <(cd "$TOP/patches/stable/$version" 2>/dev/null &&
		 grep -LFxf <(for c in "${commits[@]}"; do subject "$c"; done) ./*.patch | sed 's,^\./,,')
	tree_git update-ref "refs/series/stable/$version-fixed" "$(work_git rev-parse HEAD)"
	[ "${BUILDS:-1}" = 0 ] || reproducers "$version" > >(tee -a "$MATRIX")
done
recorded "${MATRIX%.txt}.run"
say "stable: ${#commits[@]} commits, see $MATRIX"
exit "$wrong"
