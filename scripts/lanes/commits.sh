#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# commits.sh [RANGE]: every commit of the series by itself. For each of the
# architectures that it can affect: the kernel builds with W=1 and has no warning that
# the base does not have, the selftests of that commit build, and the kernel boots
# and passes those of patches/<version>/tests that it has. Where it changes what
# loongarch, mips, powerpc or s390 compile, it compiles there, with clang;
# OTHERS= leaves them out, as SKIP does with tests. RANGE, in the words of git, is
# for a part of the series. BOOTS=last: what a commit changes builds, kernel or
# selftests, and the last one that can affect an architecture boots there.
#
# What passed is remembered in CACHE/commits-passed by the content of the commit,
# the kernel configuration, the compiler and, where it was booted, the runner and
# the list of tests, and not run again unless FORCE=1.

. "$(dirname -- "$0")/../common.sh"
unset MAKEFLAGS MAKELEVEL
# shellcheck source=scripts/lanes/compile.sh
. "$TOP/scripts/lanes/compile.sh"

OTHERS=${OTHERS-$COMPILED}
ARCH=${ARCH:-riscv arm64 x86}
BOOTS=${BOOTS:-all}
WORK=$BUILD/commits
OUT=$BUILD/commits-log
PASSED=$CACHE/commits-passed
wrong=0

tree_git() { git -C "$TREE" "$@"; }

is_other() { [[ " $OTHERS " == *" $1 "* ]]; }

# affected_others COMMIT: the same of OTHERS, where only KVM is compiled
affected_others()
{
	local files arch

	files=$(tree_git diff-tree -r --no-commit-id --name-only "$1" | grep -v '^include/kvm/arm_' || :)
	for arch in $OTHERS; do
		! grep -qE "^(virt|include|arch/$arch)/" <<<"$files" || printf '%s\n' "$arch"
	done
}

# kernel ARCH LOG: build it, with W=1. What a run that was stopped half way has
# compiled, and was told of, is not known any more: then from the start.
kernel()
{
	local started=$WORK/out-$1/.started status=0

	[ ! -e "$started" ] || rm -rf "${WORK:?}/out-$1"
	mkdir -p "$WORK/out-$1"
	touch "$started"
	runner "$1" kernel >"$2" 2>&1 || status=$?
	rm -f "$started"
	return "$status"
}

# warnings ARCH: what W=1 said of those files that were not up to date when the
# kernel was built. What is has been compiled for an earlier commit, which was told.
warnings()
{
	sed -nE '/(warning|error):/ { s,^(\.\./)+,,; s/:[0-9]*:[0-9]*:/:/; p }' "$BUILD/commits-$1/logs/kernel.log" |
		LC_ALL=C sort -u
}

# known_warnings ARCH: the file with those of Linux without the series, and of what
# topics stand on
known_warnings() { printf '%s/%s.w1.%.12s\n' "$OUT" "$1" "$(tree_git rev-parse refs/series/base)"; }

# forget ARCH: have all warnings of KVM come again
forget() { rm -rf "${WORK:?}/out-$1/arch/$1/kvm" "${WORK:?}/out-$1/virt/kvm"; }

runner()
{
	local arch=$1
	shift
	# kbuild's W=1, which the runner does not have
	KBUILD_EXTRA_WARN=1 in_runner "$WORK" ARCH="$arch" KERNEL_PATH="$WORK" KERNEL_BUILD_PATH="$WORK/out-$arch" \
		BUILD_PATH="$BUILD/commits-$arch" NR_CPUS="${NR_CPUS:-4}" MEMORY="${MEMORY:-2048}M" "$@" </dev/null
}

# checkout COMMIT: with the runner of the series' end, whatever the commit has
checkout()
{
	rm -rf "${WORK:?}/$RUNNER"
	git -C "$WORK" checkout -q --force "$1"
	rm -rf "${WORK:?}/$RUNNER"
	mkdir -p "$WORK/$RUNNER"
	git -C "$TREE" archive "$RUNNER_REV" | tar -C "$WORK/$RUNNER" -xf -
}

# content COMMIT ARCH: all of it but the documentation, the runner, and what other
# architectures have to themselves
content()
{
	local foreign

	foreign=$(tr ' ' '\n' <<<"riscv arm64 x86 $COMPILED" | grep -vx "$2" | paste -sd'|')
	tree_git ls-tree -r "$1" |
		grep -vE "	(Documentation|arch/($foreign)|tools/testing/selftests/kvm/((lib|include)/)?($foreign))/" |
		grep -v "	$RUNNER/"
}

# key COMMIT ARCH builds|boots: all that this verdict depends on, with what it is
# compared with
key()
{
	{
		content "$1" "$2"
		content "$base" "$2"
		if is_other "$2"; then
			echo "$2"
			config "$2"
			"clang$CLANG" --version | head -n 1
		else
			if [ "$3" = boots ]; then
				tree_git rev-parse "$RUNNER_REV"
			else
				tree_git ls-tree -r "$RUNNER_REV" | grep -E "	(kernel\.config|arch/$2\.config|build\.sh)$"
			fi
			"$(cross_of "$2")gcc" --version | head -n 1
			tests_at "$1" "$2"
		fi
	} | sha256sum | sed -E "s/^(.{40}).*/\1-$3/"
}

# compared ARCH: what W=1 says of the base, for comparison, once a run
compared()
{
	local tree

	[ -z "${BASE_DONE[$1]:-}" ] || return 0
	BASE_DONE[$1]=1
	if is_other "$1"; then
		tree=$("$TOP/scripts/check.sh" base-path)
		compile "$tree" "$1" base
		objects_of "$1" base >/dev/null
		return
	fi
	checkout "$base"
	forget "$1"
	kernel "$1" "$OUT/$1-base.log" ||
		DIE_STATUS=3 die "the base does not build for $1" "see $OUT/$1-base.log"
	# What was up to date, e.g. since the run for another topic, is not told again.
	{ warnings "$1"; cat "$(known_warnings "$1")" 2>/dev/null || :; } | LC_ALL=C sort -u >"$OUT/$1.w1.new"
	mv "$OUT/$1.w1.new" "$(known_warnings "$1")"
}

# compiles ARCH: the commit that is checked out
compiles()
{
	local arch=$1 objects before

	compile "$WORK" "$arch" commit
	new_complaints "$arch" commit >"$OTHERS_OUT/$arch-new"
	before=$(objects_of "$arch" base)
	objects=$(objects_of "$arch" commit)
	if [ -s "$OTHERS_OUT/$arch-new" ] || [ "$objects" -lt "$before" ]; then
		say "  $arch: $objects objects of KVM compile, of $before on the base"
		sed 's/^/    /' "$OTHERS_OUT/$arch-new"
		return 1
	fi
	say "  $arch: $objects objects of KVM compile"
}

# touches COMMIT REGEX: changes a file that REGEX matches
touches() { tree_git diff-tree -r --no-commit-id --name-only "$1" | grep -qE "$2"; }

# verdict COMMIT ARCH: what one() would find out, remembered by its key
verdict()
{
	if [ "$BOOTS" = all ] || is_other "$2" || [ "${LAST[$2]}" = "$1" ]; then
		echo boots
	else
		echo builds
	fi
}

# builds COMMIT ARCH LOG: the selftests, where the commit can change them
builds()
{
	local tests
	tests=$(tests_at "$1" "$2")
	touches "$1" '^tools/|/uapi/' && [ -n "$tests" ] || { say "  $2: builds"; return 0; }
	if ! runner "$2" selftests TESTS="$tests" >>"$3" 2>&1; then
		say "  $2: its selftests do not build, see $3"
		return 1
	fi
	say "  $2: builds, selftests too"
}

# one COMMIT ARCH
one()
{
	local commit=$1 arch=$2 log=$OUT/$2.log tests status=0

	if is_other "$arch"; then
		compiles "$arch"
		return
	fi
	: >"$log"
	if [ "$(verdict "$commit" "$arch")" = builds ] && ! touches "$commit" '^(arch|drivers|include|init|kernel|lib|mm|virt|tools/(include|lib|arch))/'; then
		builds "$commit" "$arch" "$log"
		return
	fi
	kernel "$arch" "$log" || { say "  $arch: does not build, see $log"; return 1; }
	comm -13 "$(known_warnings "$arch")" <(warnings "$arch") >"$OUT/$arch.w1.new"
	[ ! -s "$OUT/$arch.w1.new" ] || {
		say "  $arch: new warnings with W=1:"
		sed 's/^/    /' "$OUT/$arch.w1.new"
		forget "$arch"
		status=1
	}
	if [ "$(verdict "$commit" "$arch")" = builds ]; then
		builds "$commit" "$arch" "$log" || status=1
		return "$status"
	fi
	tests=$(tests_at "$commit" "$arch")
	if ! runner "$arch" run TESTS="$tests" >>"$log" 2>&1; then
		say "  $arch: $(grep -E '^result: ' "$log" | tail -n 1)"
		grep -E '  (fail|timed out)' "$log" | sed 's/^/  /'
		cp "$log" "$OUT/$arch-${commit:0:12}.log"
		status=1
	fi
	[ "$status" != 0 ] || say "  $arch: builds, boots, $(grep -E '^[0-9]+ passed' "$log" | tail -n 1)"
	return "$status"
}

known_arches "$ARCH"
for arch in $OTHERS; do
	[[ " $COMPILED " == *" $arch "* ]] || die "OTHERS=$arch is not one of: $COMPILED" "OTHERS=s390"
done
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
# What new warnings are compared with: for one topic, what it stands on.
base=$(tree_git rev-parse "refs/series/${TOPIC:+needs/}${TOPIC:-base}")
# The runner of the series' end, whatever the commit has.
RUNNER_REV=refs/series/composed:$RUNNER
tree_git rev-parse -q --verify "$RUNNER_REV" >/dev/null || RUNNER_REV=HEAD:$RUNNER
range=${1:-$base..HEAD}
tree_git rev-list "$range" >/dev/null 2>&1 || die "$range is not a range of commits in $TREE" "commits.sh HEAD~3..HEAD"
[ -z "$OTHERS" ] || need_clang
mkdir -p "$OUT" "$CACHE"
worktree "$WORK" "$base" 3072

case $BOOTS in
all|last) ;;
*) die "BOOTS=$BOOTS is neither all nor last" "BOOTS=last" ;;
esac

start=$(date +%s)
declare -A BASE_DONE=() LAST=()
for commit in $(tree_git rev-list --reverse "$range"); do
	for arch in $(affected "$commit^" "$commit"); do
		LAST[$arch]=$commit
	done
done
ran=0
before=0
touch "$PASSED"
for commit in $(tree_git rev-list --reverse "$range"); do
	say "$(tree_git log -1 --format='%h %s' "$commit")"
	archs=$(affected "$commit^" "$commit")
	archs+=" $(affected_others "$commit")"
	[ "$archs" != " " ] || say "  nothing that $ARCH${OTHERS:+ $OTHERS} compile"
	for arch in $archs; do
		key=$(key "$commit" "$arch" boots)
		booted=$key
		[ "$(verdict "$commit" "$arch")" = boots ] || key=$(key "$commit" "$arch" builds)
		if [ "${FORCE:-0}" != 1 ] && grep -qxF -e "$key" -e "$booted" "$PASSED"; then
			say "  $arch: passed before"
			before=$((before + 1))
			continue
		fi
		compared "$arch"
		checkout "$commit"
		ran=$((ran + 1))
		if one "$commit" "$arch"; then
			echo "$key" >>"$PASSED"
		else
			wrong=1
		fi
	done
done
say "commits: $(tree_git rev-list --count "$range"), $ran built, $before passed before, $(($(date +%s) - start)) s"
exit "$wrong"
