#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh: drive the series' own QEMU runner (tools/testing/selftests/kvm/qemu)
# for the architectures of ARCH, on the series or on the base (ON).
#
#	check.sh build ARCH	kernel and selftests of one architecture
#	check.sh run		boot each, run the tests, say what came out
#	check.sh summary	where things are and what to type next
#	check.sh shell		a shell in the virtual machine
#	check.sh debug		the same for gdb, with a kernel that has debug info
#	check.sh base-path | image-path | kselftest-path
#
# Which tests: TESTS, or those of patches/<version>/tests. On the base, a test
# marked there as "base=fail" must fail: it is the reproducer of a bug that the
# series fixes, and a pass would mean that it shows nothing. WITH_QEMU=y: the short
# rows of "make check-qemu", too.
#
# Exit status: 0 as expected, 1 a test failed, 3 build failed, 4 QEMU could not
# start, 5 the run ended early; the worst of all architectures. It is also
# written to build/status, since make turns every failure into 2. What each test
# came to is in build/results/verdict.ktap: "ok" is as expected.

. "$(dirname -- "$0")/common.sh"
. "$TOP/scripts/tests.sh"
. "$TOP/scripts/verdict.sh"

ON=${ON:-series}
ARCH=${ARCH:-riscv arm64 x86}
SUFFIX=${SUFFIX:-}
TESTS=${TESTS:-}

# The base is checked out beside the series when it is first asked for; two
# architectures may ask at once. That of one topic is what the topic needs.
base_tree()
{
	local lock dir=$BUILD/base ref=refs/series/base

	[ -z "${TOPIC:-}" ] || { dir=$BUILD/needs; ref=refs/series/needs/$TOPIC; }
	mkdir -p "$BUILD"
	exec {lock}>>"$BUILD/.base.lock"
	flock "$lock"
	if [ ! -e "$dir/.git" ]; then
		[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
		need_space "$BUILD" 2048
		rm -rf -- "$dir.new"
		git -C "$TREE" worktree prune
		git -C "$TREE" worktree add -q -f -f --detach "$dir.new" "$ref"
		git -C "$TREE" worktree move "$dir.new" "$dir"
	fi
	[ "$(git -C "$dir" rev-parse HEAD)" = "$(git -C "$TREE" rev-parse "$ref^{commit}")" ] ||
		git -C "$dir" checkout -q --detach "$ref"
	exec {lock}>&-
	printf '%s\n' "$dir"
}

kernel_tree() { if [ "$ON" = base ]; then base_tree; else printf '%s\n' "$TREE"; fi; }

one_arch()
{
	[ "$(wc -w <<<"$ARCH")" = 1 ] || die "this is for one architecture, ARCH has: $ARCH" "$1"
}

# profile: of the kernel; "vmx" is the plain one on another machine
profile() { if [ "${PROFILE:-}" = vmx ]; then echo; else printf '%s\n' "${PROFILE:-}"; fi; }

# boot ARCH TESTS VARIANT: results go to the runner's directory
boot()
{
	local skip initrd dir=$BUILD/$1$SUFFIX status=0

	skip=$(chosen "$1" "${SKIP:-}")
	# Races last longer where the kernel checks itself: look for more of them.
	[ "$(profile)" != debug ] ||
		export KSELFTEST_VCPU_RESET_STORM_ARGS="${KSELFTEST_VCPU_RESET_STORM_ARGS:--n 10000}"
	set -- "$@" "TESTS=$2" "SKIP=$skip" ${TIMEOUT_SCALE:+"TIMEOUT_SCALE=$TIMEOUT_SCALE"}
	if [ "${PROFILE:-}" != vmx ]; then
		runner "$1" rerun "${@:4}"
		return
	fi
	initrd=$(runner "$1" -s initrd "${@:4}" NR_CPUS=1) || return
	# Bochs takes longer to boot than QEMU, for which BOOT_TIMEOUT is meant.
	BOOT_TIMEOUT=$((${BOOT_TIMEOUT:-120} * ${TIMEOUT_SCALE:-3} * 2)) \
		"$TOP/scripts/bochs.sh" run "$(ARCH=$1 "$0" image-path)" "$initrd" "$dir/results/bochs" || status=$?
	rm -f -- "$initrd"
	cp "$dir/results/bochs/results.ktap" "$dir/results/$3.ktap" 2>/dev/null || :
	cp "$dir/results/bochs/console.log" "$dir/results/$3.console" 2>/dev/null || :
	return "$status"
}

# runner ARCH ARGUMENT...: the output directory of the kernel is a direct child
# of its tree; kbuild's paths are then relative, and ccache finds for the series
# what it compiled for the base.
runner()
{
	local arch=$1 tree from=$TREE
	shift

	tree=$(kernel_tree)
	# A topic has it from the whole series.
	[ -z "${TOPIC:-}" ] || { from=$BUILD/linux; set -- "$@" "TREE=$TREE"; }
	[ -e "$from/$RUNNER/run.sh" ] || die "$from has no $RUNNER" "make tree"
	[ -z "${VARIANT:-}" ] || set -- "$@" "VARIANT=$VARIANT"
	[ -z "${QEMU:-}" ] || set -- "$@" "QEMU=$QEMU"
	in_runner "$from" "ARCH=$arch" "KERNEL_PATH=$tree" \
		"KERNEL_BUILD_PATH=$tree/out-$arch$SUFFIX" "BUILD_PATH=$BUILD/$arch$SUFFIX" \
		"PROFILE=$(profile)" "LLVM=${LLVM:-}" "NR_CPUS=${NR_CPUS:-4}" \
		"MEMORY=${MEMORY:-2048}M" "BOOT_TIMEOUT=${BOOT_TIMEOUT:-120}" "V=${V:-0}" \
		"BUSYBOX=${BUSYBOX:-}" "$@"
}

# guests ARCH OUT: those of Debian's QEMU, on the kernel that has run the tests
guests()
{
	local kind status=0 from=$BUILD/check-qemu/$1-series/results

	say "  Debian's QEMU with KVM, and its guests:"
	rm -f "$from"/*.{ktap,console} "$2".{ktap,console}
	ARCH=$1 "$TOP/scripts/lanes/qemu.sh" short || status=$?
	for kind in ktap console; do
		cp "$from"/*."$kind" "$2.$kind" 2>/dev/null || :
	done
	came_to "$1" "$status" "$2.ktap"
}

variant_of()
{
	if [ "${PROFILE:-}" = vmx ]; then
		echo vmx
	else
		printf '%s\n' "${VARIANT:-$(runner "$1" -s print-VARIANT 2>/dev/null || echo default)}"
	fi
}

run()
{
	local arch status worst=0 file out variant tests notes=() verdicts=() nr_verdicts=0 id state last=()
	local -A count=([pass]=0 [fail]=0 [skip]=0)
	local results=${RESULTS:-$BUILD/results}
	local -a wrong=()
	local -A pids=()

	mkdir -p "$results"
	rm -f "$results/verdict.ktap"
	[ "$TESTS" = all ] || known TESTS "$TESTS"
	known SKIP "${SKIP:-}"
	kernel_tree >/dev/null
	state=$("$TOP/scripts/lanes/results.py" state)
	# All at once if there are enough processors, else one after the other.
	for arch in $ARCH; do
		tests=$(tests_of "$arch")
		[ -n "$tests" ] || [ "$TESTS" = all ] || continue
		variant=$(variant_of "$arch")
		rm -f "$BUILD/$arch$SUFFIX/results/$variant".{ktap,console,status}
		# Tests that race threads against each other starve without
		# processors of their own.
		[ "$(nproc)" -ge $((2 * $(wc -w <<<"$ARCH"))) ] && [ "$(wc -w <<<"$ARCH")" -gt 1 ] || continue
		# A process group of its own, for the trap to end with all its children.
		set -m
		boot "$arch" "$tests" "$variant" >"$results/$arch$SUFFIX.out" 2>&1 </dev/null &
		pids[$arch]=$!
		set +m
	done
	trap 'for arch in "${!pids[@]}"; do kill -TERM -- "-${pids[$arch]}" 2>/dev/null || :; done; exit 130' INT TERM HUP
	for arch in $ARCH; do
		say ""
		tests=$(tests_of "$arch")
		if [ -z "$tests" ] && [ "$TESTS" != all ]; then
			say "$arch: has none of $TESTS"
			continue
		fi
		say "$arch, ${PROFILE:+$PROFILE profile, }on the $ON:"
		variant=$(variant_of "$arch")
		out=$results/$arch$SUFFIX-$variant-$ON
		status=0
		record "$out.run" "arch: $arch" "on: $ON" "variant: $variant" "profile: $(profile)" "llvm: ${LLVM:-}" \
			"topic: ${TOPIC:-}" "tests: $TESTS" "skip: ${SKIP:-}"
		if [ -n "${pids[$arch]:-}" ]; then
			wait "${pids[$arch]}" || status=$?
			cat "$results/$arch$SUFFIX.out"
		else
			boot "$arch" "$tests" "$variant" || status=$?
		fi
		recorded "$out.run"
		origin "$arch" "$variant" >>"$out.run"
		for file in ktap console status; do
			cp "$BUILD/$arch$SUFFIX/results/$variant.$file" "$out.$file" 2>/dev/null || rm -f "$out.$file"
		done
		id=$arch.$variant
		came_to "$arch" "$status" "$out.ktap"
		[ "${WITH_QEMU:-}" != y ] || guests "$arch" "$out-qemu"
		[ -e "$out.ktap" ] || continue
		remember "$out.tests"
		sayings "$out.console" "$out.says"
	done
	trap - INT TERM HUP
	printf '%s\n' "KTAP version 1" "1..$nr_verdicts" "${verdicts[@]}" >"$results/verdict.ktap"
	[ "${count[fail]}" -eq 0 ] || [ "$worst" -gt 0 ] || worst=1
	echo "$worst" >"$BUILD/status"
	say ""
	if [ "${count[fail]}" -gt 0 ]; then
		printf 'wrong: %s\n' "${wrong[@]}"
		say "logs:  $results/"
		say "next:  make rerun ARCH=... TESTS=... to run one again; make shell, make debug"
		[[ "${wrong[*]}" != *" qemu_"* ]] ||
			say "       make check-qemu SHORT=1 ARCH=... ROWS=reset_2 for qemu_reset_2"
	fi
	left_out
	say "${count[pass]} passed, ${count[fail]} failed, ${count[skip]} skipped"
	return "$worst"
}

# busybox ARCH: a static one of that architecture, from Debian
busybox()
{
	local arch debian file=$CACHE/busybox-$1

	case $1 in riscv) debian=riscv64 ;; arm64) debian=arm64 ;; x86) debian=amd64 ;; esac
	if [ ! -x "$file" ]; then
		mkdir -p "$CACHE"
		"$TOP/scripts/package.sh" "$debian" busybox-static ./bin/busybox ./usr/bin/busybox >"$file.new"
		chmod 755 "$file.new"
		mv -- "$file.new" "$file"
	fi
	printf '%s\n' "$file"
}

known_arches "$ARCH"
case $ON in
series|base) ;;
*) die "ON=$ON is neither series nor base" "ON=base" ;;
esac
case ${1:-} in
build)
	known_arches "${2:-none}"
	runner "$2" build
	;;
run)
	run
	;;
summary)
	for arch in $ARCH; do
		say "$arch kernel:    $(ARCH=$arch "$0" image-path)"
		say "$arch selftests: $BUILD/$arch$SUFFIX/kselftest_install/"
	done
	say ""
	say "next: make check (boots and tests them), make shell ARCH=${ARCH%% *}, make help"
	echo 0 >"$BUILD/status"
	;;
shell|debug)
	one_arch "make $1 ARCH=riscv"
	BUSYBOX=${BUSYBOX:-$(busybox "$ARCH")}
	# Beside the kernel without debug info, which is not built anew.
	[ "$1" = shell ] || set -- debug "KERNEL_BUILD_PATH=$(kernel_tree)/out-$ARCH$SUFFIX-gdb" "WAIT=${WAIT:-0}"
	runner "$ARCH" "$@"
	;;
base-path)
	[ -e "$TREE/.git" ] || "$TOP/scripts/locked.sh" "$TOP/scripts/series.py" tree >&2
	base_tree
	;;
image-path)
	one_arch "make -s image-path ARCH=x86"
	[ "$ON" = series ] || TREE=$BUILD/base
	image_of "$TREE" "$ARCH" "$SUFFIX"
	;;
kselftest-path)
	one_arch "make -s kselftest-path ARCH=x86"
	say "$BUILD/$ARCH$SUFFIX/kselftest_install"
	;;
*)
	die "check.sh knows build, run, summary, shell, debug and *-path, not \"${1:-}\"" "make help"
	;;
esac
