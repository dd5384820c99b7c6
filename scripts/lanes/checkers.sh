#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# checkers.sh [CHECKER ...]: the kernel's own checkers on what the series
# touches. Without arguments all of: checkpatch maintainers kerneldoc w1 sparse
# coccicheck docs.
#
# Where a checker looks at whole files, the same files are checked on the base
# and only what is new is reported: each complaint without its line number, as
# many times as it is there. Kernels of both are built first: "make build" and
# "make build ON=base". AFTER=COMMIT leaves out what no later one touched.

. "$(dirname -- "$0")/../common.sh"

ARCH=${ARCH:-riscv arm64 x86}
OUT=$BUILD/checkers
FOUND=0
declare -A COUNT=()

tree_git() { git -C "$TREE" "$@"; }

# complain CHECKER FILE: its lines are new; empty is fine
complain()
{
	COUNT[$1]=$((${COUNT[$1]:-0} + $(grep -c . "$2" || :)))
	[ -s "$2" ] || return 0
	FOUND=1
	sed "s/^/$1: /" "$2"
}

# touched GLOB...: files of the series' end that it touched or added
touched() { tree_git diff --name-only --no-renames --diff-filter=AM "$BASE" "$HEAD" -- "$@"; }

# new_lines BEFORE AFTER: the lines of AFTER that BEFORE has fewer of, line
# numbers aside
new_lines()
{
	awk '
	function key(s) { gsub(/:[0-9]+(:[0-9]+)?(-[0-9]+)?[: ]/, ":", s); gsub(/line [0-9]+/, "line", s); return s }
	FILENAME == ARGV[1] { seen[key($0)]++; next }
	{ k = key($0); if (seen[k]-- <= 0) print }' "$1" "$2"
}

# objects ARCH: what the touched C files compile to, where this kernel has it, by
# kbuild's own record, which outlives an object that w1() has removed
objects()
{
	local f cmd

	touched '*.c' | while read -r f; do
		case $f in
		tools/*|Documentation/*) continue ;;
		arch/"$1"/*) ;;
		arch/*) continue ;;
		esac
		cmd=$(dirname -- "$f")/.$(basename -- "$f" .c).o.cmd
		[ ! -e "$TREE/out-$1/$cmd" ] || printf '%s\n' "${f%.c}.o"
	done
}

# both CHECKER FUNCTION: FUNCTION TREE ARCH OBJECT... prints complaints; on the
# base and on the series for each architecture, and report what is new
both()
{
	local checker=$1 function=$2 arch
	local -a objs here

	for arch in $ARCH; do
		mapfile -t objs < <(objects "$arch")
		[ ${#objs[@]} -gt 0 ] || DIE_STATUS=3 die "nothing that the series touches is compiled for $arch" \
			"make build ARCH=$arch"
		# An added file has no base.
		here=()
		for f in "${objs[@]}"; do
			[ ! -e "$BUILD/base/${f%.o}.c" ] || here+=("$f")
		done
		: >"$OUT/$checker-$arch.base"
		[ ${#here[@]} -eq 0 ] || "$function" "$BUILD/base" "$arch" "${here[@]}" >"$OUT/$checker-$arch.base"
		"$function" "$TREE" "$arch" "${objs[@]}" >"$OUT/$checker-$arch.series"
		new_lines "$OUT/$checker-$arch.base" "$OUT/$checker-$arch.series" >"$OUT/$checker-$arch.new"
		complain "$checker" "$OUT/$checker-$arch.new"
	done
}

# kbuild TREE ARCH ARGUMENT...: with the tools that the kernel was built with
kbuild()
{
	local tree=$1 arch=$2 cross
	shift 2

	[ -e "$tree/out-$arch/.config" ] || die "there is no $arch kernel of $tree" \
		"make build ARCH=$arch$([ "$tree" = "$TREE" ] || echo ' ON=base')"
	cross=$(cross_of "$arch")
	[ "${USE_CCACHE:-n}" = n ] || set -- CC="ccache ${cross}gcc" "$@"
	env -u MAKEFLAGS -u MAKELEVEL -u LLVM make -s -C "$tree" O="$tree/out-$arch" ARCH="$arch" CROSS_COMPILE="$cross" \
		"$@" 2>&1 </dev/null
}

# warnings TREE: the complaints, with paths relative to the tree. A checker that
# kbuild does not call, or a file that does not compile, is no success.
warnings()
{
	local out
	out=$(cat)
	if grep -qE 'is not available or not up to date|^make.*\*\*\*' <<<"$out"; then
		grep -E -m 3 'is not available or not up to date|\*\*\*|rror' <<<"$out" >&2
		DIE_STATUS=3 die "$checker could not check $1" "make checkers CHECKERS=$checker V=1"
	fi
	grep -E '^(\.\./|/)?[^ ]+:[0-9]+(:[0-9]+)?(-[0-9]+)?:? ' <<<"$out" | grep -vE ': note: ' |
		sed -e "s,^$1/,," -e 's,^\.\./,,' -e 's,^\./,,' || :
}

check_checkpatch()
{
	local commit status

	# FILE_PATH_CHANGES: MAINTAINERS of the kernel covers these directories
	# UNKNOWN_COMMIT_ID, GIT_COMMIT_ID: the base is one commit, without history
	# AVOID_EXTERNS: the tests name labels of their assembly so
	# NO_AUTHOR_SIGN_OFF, MISSING_SIGN_OFF: a person adds theirs in "make mbox"
	# CAMELCASE: names that the kernel has, e.g. MSR_MTRRcap
	# MACRO_ARG_*: an architecture's hooks and the tests' asserts are macros
	# Only there: OPEN_ENDED_LINE, which TRACE_EVENT() is made of; BIT_MACRO in the
	# uapi, which has no BIT(); in the tests USLEEP_RANGE, of a guest's udelay(),
	# ENOSYS, of KVM_RUN on arm64, and SPACING of FIXTURE_DATA(name) *self;
	# MISSING_FIXES_TAG of the dirty log of riscv: Link: has the thread, but no
	# public index that was searched has the id of the commit
	: >"$OUT/checkpatch"
	for commit in $(tree_git rev-list --reverse "$BASE..$HEAD"); do
		tree_git format-patch -q -1 --stdout "$commit" >"$OUT/checkpatch.patch"
		status=0
		(cd "$TREE" && ./scripts/checkpatch.pl --strict --no-signoff --terse --showfile --no-summary \
			--show-types --ignore FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID,GIT_COMMIT_ID,CAMELCASE,MACRO_ARG_REUSE,MACRO_ARG_PRECEDENCE,MACRO_ARG_UNUSED,AVOID_EXTERNS \
			- <"$OUT/checkpatch.patch") >"$OUT/checkpatch.one" 2>"$OUT/checkpatch.log" || status=$?
		[ "$status" -le 1 ] || DIE_STATUS=3 die "checkpatch.pl ended with $status" "see $OUT/checkpatch.log"
		grep -vE '^include/trace/.* CHECK:OPEN_ENDED_LINE:|/uapi/.* CHECK:BIT_MACRO:|^tools/testing/.*:(USLEEP_RANGE|ENOSYS|SPACING: .*\(ctx:WxV)|^arch/riscv/kvm/mmu\.c:.*:MISSING_FIXES_TAG:' \
			"$OUT/checkpatch.one" |
			sed "s|^|$(tree_git log -1 --format=%s "$commit" | cut -c1-60 | tr '|&' '..'): |" >>"$OUT/checkpatch" || :
	done
	complain checkpatch "$OUT/checkpatch"
}

check_maintainers()
{
	local commit

	: >"$OUT/maintainers"
	for commit in $(tree_git rev-list --reverse "$BASE..$HEAD"); do
		tree_git format-patch -q -1 --stdout "$commit" |
			(cd "$TREE" && ./scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats) 2>/dev/null |
			grep -qE 'kvm|selftest|x86@kernel' ||
			tree_git log -1 --format='no KVM list or maintainer for: %s' "$commit" >>"$OUT/maintainers"
	done
	complain maintainers "$OUT/maintainers"
}

check_kerneldoc()
{
	local f

	: >"$OUT/kerneldoc.base"
	: >"$OUT/kerneldoc.series"
	while read -r f; do
		[ ! -e "$BUILD/base/$f" ] || (cd "$BUILD/base" && ./scripts/kernel-doc -none "$f") >>"$OUT/kerneldoc.base" 2>&1 || :
		(cd "$TREE" && ./scripts/kernel-doc -none "$f") >>"$OUT/kerneldoc.series" 2>&1 || :
	done < <(touched '*.c' '*.h')
	new_lines "$OUT/kerneldoc.base" "$OUT/kerneldoc.series" >"$OUT/kerneldoc.new"
	complain kerneldoc "$OUT/kerneldoc.new"
}

# The object is removed, for kbuild compiles only what is out of date.
w1() { local t=$1 a=$2; shift 2; (cd "$t/out-$a" && rm -f "$@"); kbuild "$t" "$a" W=1 "$@" | warnings "$t"; }
sparse()
{
	local t=$1 a=$2
	shift 2
	kbuild "$t" "$a" C=2 "CHECK=$TOP/scripts/lanes/sparse.sh" CF=-D__CHECK_ENDIAN__ "$@" | warnings "$t"
}

# cocci TREE SIDE FILE...: every semantic patch that reports and needs no OCaml,
# JOBS at a time. scripts/coccicheck would stop at the first that does.
cocci()
{
	local t=$1 out=$OUT/coccicheck.out-$2 f
	local -a options patches
	shift 2
	cd "$t"
	mkdir "$out"
	mapfile -t patches < <(grep -rlE '^virtual .*report' scripts/coccinelle |
		xargs grep -LE '^(script|initialize|finalize):ocaml|^@ *(script|initialize|finalize):ocaml' | LC_ALL=C sort)
	trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
	for f in "${patches[@]}"; do
		read -r -a options < <(sed -nE 's,^/+ *Options: *,,p' "$f") || :
		while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-2}" ]; do
			wait -n || :
		done
		{
			# One that needs a Python module, or that spatch can't parse, fails.
			spatch -D report --no-show-diff --very-quiet --cocci-file "$f" "${options[@]}" \
				-I include "$@" >"$out/${f//\//_}" 2>>"$OUT/coccicheck.log" ||
				rm "$out/${f//\//_}"
		} &
	done
	wait
	trap - INT TERM
	[ -n "$(ls "$out")" ] || DIE_STATUS=3 die "spatch fails with every semantic patch" "see $OUT/coccicheck.log"
	cat "$out"/* | warnings "$t"
}

check_w1() { both w1 w1; }
check_sparse()
{
	command -v sparse >/dev/null || die "sparse is missing" "apt-get install sparse"
	both sparse sparse
}
check_coccicheck()
{
	local -a files here=()
	local checker=coccicheck f

	command -v spatch >/dev/null || die "coccinelle is missing" "apt-get install coccinelle"
	# It doesn't compile, i.e. can look at all architectures and the tests.
	mapfile -t files < <(touched '*.c')
	# An added file has no base.
	for f in "${files[@]}"; do
		[ ! -e "$BUILD/base/$f" ] || here+=("$f")
	done
	rm -rf "$OUT"/coccicheck.out-*
	: >"$OUT/coccicheck.log"
	: >"$OUT/coccicheck.base"
	[ ${#here[@]} -eq 0 ] || (cocci "$BUILD/base" base "${here[@]}") >"$OUT/coccicheck.base"
	(cocci "$TREE" series "${files[@]}") >"$OUT/coccicheck.series"
	f=$(comm -23 <(ls "$OUT/coccicheck.out-base" 2>/dev/null) <(ls "$OUT/coccicheck.out-series"))
	[ -z "$f" ] || DIE_STATUS=3 die "spatch fails on the series alone: $f" "see $OUT/coccicheck.log"
	new_lines "$OUT/coccicheck.base" "$OUT/coccicheck.series" >"$OUT/coccicheck.new"
	complain coccicheck "$OUT/coccicheck.new"
}

check_docs()
{
	local t side

	if [ -z "$(touched Documentation)" ]; then
		say "docs: the series touches none"
		return
	fi
	command -v sphinx-build >/dev/null || die "Sphinx is missing" "apt-get install python3-sphinx"
	for t in "$BUILD/base" "$TREE"; do
		side=series
		[ "$t" = "$TREE" ] || side=base
		rm -rf "$BUILD/htmldocs-$side"
		env -u MAKEFLAGS -u MAKELEVEL -u ARCH make -s -C "$t" O="$BUILD/htmldocs-$side" \
			SPHINXDIRS=virt/kvm htmldocs </dev/null >"$OUT/docs.log" 2>&1 ||
			DIE_STATUS=3 die "htmldocs fails in $t" "see $OUT/docs.log"
		grep -E 'WARNING|ERROR' "$OUT/docs.log" | sed -e "s,$t/,,g" -e 's,^\.\./,,' >"$OUT/docs.$side" || :
		(cd "$t" && ./tools/docs/documentation-file-ref-check 2>&1 |
			grep -E '^(Documentation/virt/kvm|virt/kvm|arch/[a-z0-9]*/kvm|include|tools/testing/selftests/kvm)' ||
			:) >>"$OUT/docs.$side"
	done
	new_lines "$OUT/docs.base" "$OUT/docs.series" >"$OUT/docs.new"
	complain docs "$OUT/docs.new"
}

ALL=(checkpatch maintainers kerneldoc w1 sparse coccicheck docs)
[ $# -gt 0 ] || set -- "${ALL[@]}"
for checker; do
	case " ${ALL[*]} " in
	*" $checker "*) ;;
	*) die "there is no checker $checker" "one of: ${ALL[*]}" ;;
	esac
done
known_arches "$ARCH"
[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
BASE=$(tree_git rev-parse --verify -q "${AFTER:-refs/series/base}^{commit}") ||
	die "there is no commit ${AFTER:-refs/series/base} in $TREE" "AFTER= is what git calls a commit, e.g. HEAD~3"
HEAD=$(tree_git rev-parse HEAD)
mkdir -p "$OUT"
ON=base "$TOP/scripts/check.sh" base-path >/dev/null
for checker; do
	start=$(date +%s)
	"check_$checker"
	say "checker $checker: ${COUNT[$checker]:-0} new, $(($(date +%s) - start)) s"
done
exit "$FOUND"
