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
# series fixes, and a pass would mean that it shows nothing.
#
# Exit status: 0 as expected, 1 a test failed, 3 build failed, 4 QEMU could not
# start, 5 the run ended early; the worst of all architectures. It is also
# written to build/status, since make turns every failure into 2. What each test
# came to is in build/results/verdict.ktap: "ok" is as expected.

. "$(dirname -- "$0")/common.sh"

RUNNER=${RUNNER:-tools/testing/selftests/kvm/qemu}
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

# names TEST PATTERN...: does one of them name it?
names()
{
	local test=$1 pattern
	shift

	for pattern; do
		# shellcheck disable=SC2053 # a pattern is wanted
		[[ $test != ${pattern#kvm:} ]] || return 0
	done
	return 1
}

# boot ARCH TESTS VARIANT: results go to the runner's directory
boot()
{
	local test skip dir=$BUILD/$1$SUFFIX cpios=() wanted="" left="" missing="" n status=0
	local -a patterns skips

	skip=$(chosen "$1" "${SKIP:-}")
	# Races last longer where the kernel checks itself: look for more of them.
	[ "$(profile)" != debug ] ||
		export KSELFTEST_VCPU_RESET_STORM_ARGS="${KSELFTEST_VCPU_RESET_STORM_ARGS:--n 10000}"
	if [ "${PROFILE:-}" != vmx ]; then
		runner "$1" rerun "TESTS=$2" "SKIP=$skip" ${TIMEOUT_SCALE:+"TIMEOUT_SCALE=$TIMEOUT_SCALE"}
		return
	fi
	[ -e "$dir/initramfs/base.cpio" ] || die "nothing is built for $1" "make build ARCH=$1"
	read -r -a patterns <<<"${2:-*}"
	read -r -a skips <<<"$skip"
	for test in "$dir"/initramfs/*.cpio; do
		test=$(basename "$test" .cpio)
		[ "$test" != base ] && [ "$test" != run ] || continue
		names "$test" "${patterns[@]}" || continue
		if names "$test" "${skips[@]}"; then
			left+=" $test"
		else
			cpios+=("$dir/initramfs/$test.cpio")
			wanted+=" $test"
		fi
	done
	# A test that is wanted and isn't there has failed.
	for test in $(sed -E 's/^kvm:([^ ]*).*/\1/' "$dir/tests") "${patterns[@]}"; do
		[[ $test != *[*?[]* && " $wanted$left$missing " != *" ${test#kvm:} "* ]] || continue
		! names "${test#kvm:}" "${patterns[@]}" || missing+=" ${test#kvm:}"
	done
	# Bochs takes longer to boot than QEMU, for which BOOT_TIMEOUT is meant.
	TESTS=$wanted SKIP=$left BOOT_TIMEOUT=$((${BOOT_TIMEOUT:-120} * ${TIMEOUT_SCALE:-3} * 2)) \
	"$TOP/scripts/bochs.sh" run "$(ARCH=$1 "$0" image-path)" \
		"$dir/initramfs/base.cpio" "${cpios[@]}" -- "$dir/results/bochs" || status=$?
	cp "$dir/results/bochs/results.ktap" "$dir/results/$3.ktap" 2>/dev/null || :
	cp "$dir/results/bochs/console.log" "$dir/results/$3.console" 2>/dev/null || :
	n=$(grep -cE '^(not )?ok ' "$dir/results/$3.ktap" 2>/dev/null) || :
	for test in $missing; do
		n=$((n + 1))
		say "  kvm:$test  fail: did not build"
		echo "not ok $n kvm:$test # did not build" >>"$dir/results/$3.ktap"
		[ "$status" != 0 ] || status=1
	done
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
	if [ "${USE_CCACHE:-n}" = y ]; then
		export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
		set -- "$@" CCACHE=ccache
	fi
	[ -z "${VARIANT:-}" ] || set -- "$@" "VARIANT=$VARIANT"
	[ -z "${QEMU:-}" ] || set -- "$@" "QEMU=$QEMU"
	# Only what is named here reaches the runner.
	env -u ARCH -u TESTS -u SKIP -u VARIANT -u QEMU -u KERNEL -u BUILD -u VERSION -u SUFFIX -u ON \
		"$from/$RUNNER/run.sh" "ARCH=$arch" "KERNEL_PATH=$tree" \
		"KERNEL_BUILD_PATH=$tree/out-$arch$SUFFIX" "BUILD_PATH=$BUILD/$arch$SUFFIX" \
		"PROFILE=$(profile)" "LLVM=${LLVM:-}" "NR_CPUS=${NR_CPUS:-4}" \
		"MEMORY=${MEMORY:-2048}M" "BOOT_TIMEOUT=${BOOT_TIMEOUT:-120}" "V=${V:-0}" \
		"BUSYBOX=${BUSYBOX:-}" "$@"
}

# tests_of ARCH: the names
tests_of()
{
	case $TESTS in
	'')
		# A topic has not got them all.
		if [ -n "${TOPIC:-}" ]; then
			comm -12 <(listed_tests "$1" "${PROFILE:-}" | LC_ALL=C sort) <(tests_at HEAD "$1" | tr ' ' '\n' | LC_ALL=C sort)
		else
			listed_tests "$1" "${PROFILE:-}"
		fi | awk 'NF { printf "%s%s", s, $1; s = " " }' ;;
	all) ;;
	*) chosen "$1" "$TESTS" ;;
	esac
}

# chosen ARCH WORDS: those that name a test of this architecture
chosen()
{
	local word name out=
	local -a words

	read -r -a words <<<"$2"
	for word in "${words[@]}"; do
		while read -r name _; do
			# shellcheck disable=SC2053 # a pattern is wanted
			[[ $name == $word || ${name#kvm:} == $word ]] || continue
			out+="${out:+ }$word"
			break
		done <"$BUILD/$1$SUFFIX/tests"
	done
	printf '%s' "$out"
}

# known VARIABLE WORDS: every word is a test of some architecture of ARCH. What is
# not there need not be left out: SKIP may be meant for another architecture.
known()
{
	local arch word all=
	local -a words

	read -r -a words <<<"$2"
	[ ${#words[@]} -gt 0 ] || return 0
	for arch in $ARCH; do
		[ -e "$BUILD/$arch$SUFFIX/tests" ] || die "nothing is built for $arch" "make build ARCH=$arch"
		all+=" $(chosen "$arch" "$2") "
	done
	for word in "${words[@]}"; do
		[[ $all != *" $word "* ]] || continue
		[ "$1" != SKIP ] || { say "SKIP=$word names no test of $ARCH"; continue; }
		die "$1=$word names no test of $ARCH" "make -C $TREE/$RUNNER ARCH=${ARCH%% *} list"
	done
}

# must_fail ARCH TEST: is it a reproducer of what the base does wrong? For one topic,
# of what is wrong without it, i.e. only if it has changed the test.
must_fail()
{
	[ "$ON" = base ] || return 1
	[ -z "${TOPIC:-}" ] || git -C "$TREE" diff --name-only "refs/series/needs/$TOPIC" HEAD |
		grep -qE "^tools/testing/selftests/kvm/($1/)?$2\.c$" || return 1
	sed 's/#.*//' "$PATCHES/tests" | awk -v a="$1" -v t="$2" \
		'$2 == t && $3 == "base=fail" && ($1 == "*" || index("," $1 ",", "," a ",")) { found = 1 }
		 END { exit !found }'
}

variant_of()
{
	if [ "${PROFILE:-}" = vmx ]; then
		echo vmx
	else
		printf '%s\n' "${VARIANT:-$(runner "$1" -s print-VARIANT 2>/dev/null || echo default)}"
	fi
}

# left_out: what "make check-full" would run and this did not
left_out()
{
	local arch profile variant out=()

	[ "$ON" = series ] && out+=("the base") || out+=("the series")
	[ -z "${PROFILE:-}" ] || out+=("no PROFILE")
	for profile in debug rt vmx; do
		[ "$profile" = "${PROFILE:-}" ] || out+=("PROFILE=$profile")
	done
	if [ "${PROFILE:-}" != vmx ]; then
		for arch in $ARCH; do
			for variant in $(runner "$arch" -s "print-VARIANTS_$arch" 2>/dev/null); do
				[ "$variant" = "$(variant_of "$arch")" ] || out+=("$arch VARIANT=$variant")
			done
		done
	fi
	[ -n "${LLVM:-}" ] && out+=("gcc") || out+=("clang")
	[ "$TESTS" = all ] || out+=("all tests but ${TESTS:-those of ${PATCHES#"$TOP"/}/tests}")
	for arch in riscv arm64 x86; do
		[[ " $ARCH " == *" $arch "* ]] || out+=("$arch")
	done
	out+=("the table of base and series" "single commits" "mutants" "coverage" "checkers" "other architectures" "the lanes' own tests" "a bare system")
	printf 'left out:'
	printf ' %s;' "${out[@]}" | sed 's/;$/\n/'
	say "  make check-full runs them"
}

# verdict pass|skip|fail NAME [WHY]: of a test of $id, or with no NAME of the run, for
# verdict.ktap, and for what is remembered of each test. NOTES is what the runner
# says of it.
verdict()
{
	local ok=ok seconds=""

	[ "$1" != fail ] || ok="not ok"
	count[$1]=$((count[$1] + 1))
	[[ ${notes[0]:-} != "# time "* ]] || seconds=${notes[0]##* }
	verdicts+=("${notes[@]}" "$ok $((++nr_verdicts)) $id${2:+.$2}${3:+ # $3}")
	[ -z "$2" ] || last+=("$2|$1|$seconds|$state|$(date -u +%FT%TZ)|${3:-}")
	notes=()
}

# remember FILE: the last verdict of each test, whenever it was
remember()
{
	local old=()

	[ ! -e "$1" ] || mapfile -t old <"$1"
	printf '%s\n' "${last[@]}" "${old[@]}" | awk -F '|' 'NF && !seen[$1]++' >"$1"
	last=()
}

# sayings CONSOLE FILE: what the comparison with a new vCPU and the storm have last said
# of themselves
sayings()
{
	local new before=

	new=$(tr -d '\r\000' <"$1" 2>/dev/null | grep -E '^kvm:vcpu_reset_(test|storm): # ' || :)
	[ ! -e "$2" ] || before=$(<"$2")
	awk 'FNR == NR { said[$1]; print; next } !($1 in said)' <(echo "$new") <(echo "$before") | sed '/^$/d' >"$2"
}

# origin ARCH VARIANT: what has booted, "KEY: VALUE"
origin()
{
	local dir=$BUILD/$1$SUFFIX/results

	tr -d '\r\000' <"$dir/$2.console" 2>/dev/null |
		sed -nE 's/^.*Linux version ([^ ]+) \([^ ]*\) \((.*), [^,]*\) #.*/kernel: \1\ncompiler: \2/p' | head -n 2 || :
	if [ "$2" = vmx ]; then
		sed -nE 's/.*(Bochs x86 Emulator [0-9.]+).*/emulator: \1/p' "$dir/bochs/bochs.log" 2>/dev/null | head -n 1 || :
	else
		"$(runner "$1" -s print-QEMU)" --version 2>/dev/null | sed -n '1s/^/emulator: /p' || :
	fi
}

run()
{
	local arch status worst=0 line bad name why out variant tests notes=() verdicts=() nr_verdicts=0 id state last=()
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
		for line in ktap console status; do
			cp "$BUILD/$arch$SUFFIX/results/$variant.$line" "$out.$line" 2>/dev/null || rm -f "$out.$line"
		done
		case $status in
		0|1) ;;
		2|3|4|5)
			[ "$worst" -ge "$status" ] || worst=$status
			;;
		*) worst=5 ;;
		esac
		id=$arch.$variant
		if [ "$status" -gt 1 ]; then
			wrong+=("$arch (status $status)")
			verdict fail "" "ended early, status $status"
		fi
		[ -e "$out.ktap" ] || continue
		while read -r line; do
			[[ $line != "# time "* ]] || notes+=("# time $id.${line#\# time kvm:}")
			[[ $line != "# kvm:"* ]] || notes+=("$line")
			[[ $line =~ ^(not\ )?ok\ ([0-9]+)\ (-\ )?(kvm:)?([^ ]+)(.*)$ ]] || continue
			bad=${BASH_REMATCH[1]}
			name=${BASH_REMATCH[5]}
			why=${BASH_REMATCH[6]# \# }
			if must_fail "$arch" "$name" && [[ $why != "did not build"* ]]; then
				if [ -n "$bad" ]; then
					say "  $name fails on the base, as it must"
					# As it must: why is in the runner's own file.
					[[ ${notes[0]:-} == "# time "* ]] && notes=("${notes[0]}") || notes=()
					verdict pass "$name" "fails on the base, as it must"
				else
					verdict fail "$name" "passes on the base: it shows nothing"
					wrong+=("$arch $name passes on the base: it shows nothing")
				fi
			elif [[ $why == SKIP* ]]; then
				verdict skip "$name" "$why"
			elif [ -n "$bad" ]; then
				wrong+=("$arch $name")
				verdict fail "$name" "$why"
			else
				verdict pass "$name" "$why"
			fi
		done <"$out.ktap"
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
		say "next:  make rerun ARCH=... TESTS=... to run one again, make shell ARCH=... to look around"
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
	say "next: make check (boots them and passes the tests), make shell ARCH=${ARCH%% *}, make help"
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
	case $ARCH in
	x86) image=arch/x86/boot/bzImage ;;
	*) image=arch/$ARCH/boot/Image ;;
	esac
	if [ "$ON" = base ]; then tree=$BUILD/base; else tree=$TREE; fi
	say "$tree/out-$ARCH$SUFFIX/$image"
	;;
kselftest-path)
	one_arch "make -s kselftest-path ARCH=x86"
	say "$BUILD/$ARCH$SUFFIX/kselftest_install"
	;;
*)
	die "check.sh knows build, run, summary, shell, debug, base-path, image-path and kselftest-path, not \"${1:-}\"" "make help"
	;;
esac
