#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Boot the tests in QEMU and tell how they went.
#
# For use by hand: run.sh takes what make takes (see the Makefile next to it)
# and exits with the number of the result, which make can not do:
#   0 passed  1 a test failed  2 usage or missing tool  3 could not build
#   4 QEMU could not start or the kernel did not boot  5 ended early
#
# The verdict comes on a virtio-serial port, in KTAP.  What is on the console is
# evidence only.  No "# end" on the port means no success, whatever was seen.

set -u -o pipefail
export LC_ALL=C

case ${1-} in
--check|--run|--shell|--debug|--initrd)
	: "${KQ_HERE:?}"
	;;
*)
	here=$(cd "$(dirname "$0")" && pwd -P) || exit 2
	vars=()
	for arg; do
		[[ $arg == *=* ]] && vars+=("$arg")
	done
	status=$(make -s --no-print-directory -C "$here" ${vars[@]+"${vars[@]}"} \
		 print-status-path) || exit 2
	rm -f "$status"
	make --no-print-directory -C "$here" "$@" && exit 0
	read -r code _ 2> /dev/null < "$status" || exit 2
	exit "$code"
	;;
esac

install_dir=$KQ_BUILD/kselftest_install
pieces=$KQ_BUILD/initramfs
results=$KQ_BUILD/results
ktap=$results/$KQ_VARIANT.ktap
console=$results/$KQ_VARIANT.console
qemu_log=$results/$KQ_VARIANT.qemu
initrd=$results/$KQ_VARIANT.initrd

# How long the virtual machine may be silent beyond the timeout of a test: to
# kill the test and to look at the kernel's log.
margin=30

say()
{
	printf '%s\n' "$*"
}

finish()
{
	local code=$1

	shift
	mkdir -p "$results"
	say "$code $*" > "$results/$KQ_VARIANT.status"
	[ "$code" -eq 0 ] || say "result: $* ($code)" >&2
	exit "$code"
}

# ---- what to run -----------------------------------------------------------

# matches NAME PATTERN: PATTERN may leave "kvm:" out
matches()
{
	# shellcheck disable=SC2053 # a pattern is wanted
	[[ $1 == $2 || ${1#*:} == $2 ]]
}

scaled()		# scaled SECONDS
{
	awk -v s="$1" -v f="$KQ_TIMEOUT_SCALE" -v p="$KQ_PROFILE_SCALE" 'BEGIN {
		t = s * f * p
		printf "%d\n", (t > int(t)) ? t + 1 : t
	}'
}

check_number()
{
	[[ $2 =~ ^[0-9]+(\.[0-9]+)?$ && ! $2 =~ ^[0.]+$ ]] ||
		finish 2 "$1=$2 is not a number above 0"
}

check_words()		# check_words VARIABLE WORDS
{
	local var=$1 pattern name found bad=''
	local -a patterns

	read -r -a patterns <<< "$2"
	for pattern in ${patterns[@]+"${patterns[@]}"}; do
		found=
		while read -r name _; do
			matches "$name" "$pattern" && found=1
		done < "$KQ_BUILD/tests"
		[ -n "$found" ] || bad+=" $pattern"
	done
	if [ -n "$bad" ]; then
		say "$var names no test of $KQ_ARCH:$bad" >&2
		say "All tests: make -C $KQ_HERE ARCH=$KQ_ARCH list" >&2
		finish 2 "no such test:$bad"
	fi
}

check_settings()
{
	check_number TIMEOUT_SCALE "$KQ_TIMEOUT_SCALE"
	check_number BOOT_TIMEOUT "$KQ_BOOT_TIMEOUT"
	[[ $KQ_NR_CPUS =~ ^[1-9][0-9]*$ ]] ||
		finish 2 "NR_CPUS=$KQ_NR_CPUS is not a whole number above 0"
	[ -z "$KQ_TIMEOUT" ] || check_number TIMEOUT "$KQ_TIMEOUT"
	check_words TESTS "$KQ_TESTS"
	check_words SKIP "$KQ_SKIP"
}

test_timeout()
{
	local t=$KQ_TIMEOUT

	[ -n "$t" ] || t=$(sed -n 's/^timeout=//p' "$install_dir/kvm/settings" |
			   tail -n 1)
	scaled "${t:-45}"
}

# Arguments as kselftest/runner.sh has them: KSELFTEST_PSCI_TEST_ARGS
test_args()
{
	local var=${1//[^[:alnum:]]/_}

	var=KSELFTEST_${var^^}_ARGS
	say "${!var-}"
}

is_script()
{
	[ "$(head -c 2 "$install_dir/kvm/$1" 2> /dev/null | tr -d '\0')" = '#!' ]
}

# Write run.conf for init, and print the archives that it needs.
choose_tests()		# choose_tests CONF
{
	local name base pattern chosen args piece
	local -a want skip

	read -r -a want <<< "$KQ_TESTS"
	read -r -a skip <<< "$KQ_SKIP"
	say "timeout $(test_timeout)" > "$1"
	[ -z "$KQ_SPARE_CPUS" ] || say "spare $KQ_SPARE_CPUS" >> "$1"
	while read -r name _; do
		base=${name#*:}
		piece=$pieces/$base.cpio
		chosen=
		[ "${#want[@]}" -eq 0 ] && chosen=1
		for pattern in ${want[@]+"${want[@]}"}; do
			matches "$name" "$pattern" && chosen=1
		done
		[ -n "$chosen" ] || continue
		for pattern in ${skip[@]+"${skip[@]}"}; do
			matches "$name" "$pattern" && chosen=skip
		done
		if [ "$chosen" = skip ]; then
			say "skip $name named in SKIP" >> "$1"
		elif [ ! -e "$piece" ] || grep -qxF "$base" "$KQ_BUILD/unbuilt"; then
			say "fail $name did not build" >> "$1"
		elif is_script "$base" && [ -z "$KQ_BUSYBOX" ]; then
			say "skip $name a script, and no BUSYBOX is set" >> "$1"
		else
			args=$(test_args "$base")
			say "run $name${args:+ $args}" >> "$1"
			say "$piece"
		fi
	done < "$KQ_BUILD/tests"
}

make_initrd()		# make_initrd all|chosen
{
	local dir list
	local -a archives

	dir=$(mktemp -d) || finish 4 "no temporary directory"
	list=$(choose_tests "$dir/run.conf")
	mapfile -t archives < <(say "$list" | sed '/^$/d')
	if [ "$1" = all ]; then
		archives=()
		for list in "$pieces"/*.cpio; do
			[ "${list##*/}" = base.cpio ] || archives+=("$list")
		done
	fi
	(cd "$dir" && echo run.conf |
	 cpio --quiet -o -H newc -R 0:0) > "$dir/run.cpio" &&
		cat "$pieces/base.cpio" ${archives[@]+"${archives[@]}"} \
			"$dir/run.cpio" > "$initrd"
	list=$?
	cp "$dir/run.conf" "$results/$KQ_VARIANT.conf"
	rm -rf "$dir"
	[ "$list" -eq 0 ] || finish 4 "could not write $initrd"
}

# ---- QEMU ------------------------------------------------------------------

# A panic ends QEMU at once.  Emulation is slow, and so is what a watchdog sees.
cmdline='panic=-1 loglevel=7 printk.devkmsg=on watchdog_thresh=30'

set_qemu()		# set_qemu ADDITION-TO-KERNEL-COMMAND-LINE
{
	local -a extra

	read -r -a extra <<< "$KQ_QEMU_ARGS"
	qemu=("$KQ_QEMU" -nodefaults -no-user-config -no-reboot
	      -machine "$KQ_MACHINE" -cpu "$KQ_CPU"
	      -smp "$((KQ_NR_CPUS + KQ_SPARE_CPUS))" -m "$KQ_MEMORY"
	      -kernel "$KQ_IMAGE" -initrd "$initrd"
	      -append "$KQ_CMDLINE $cmdline $KQ_CMDLINE_ADD${1:+ $1}"
	      ${extra[@]+"${extra[@]}"})
}

# Without ioeventfd a line is in our hands when the guest's write() returns.
set_channels()
{
	case $KQ_VERDICT in
	*-pci)	qemu+=(-device "$KQ_VERDICT,ioeventfd=off") ;;
	*)	qemu+=(-global virtio-mmio.ioeventfd=off
		       -global virtio-mmio.force-legacy=off
		       -device "$KQ_VERDICT") ;;
	esac
	qemu+=(-device "virtserialport,chardev=verdict,name=org.kernel.kselftest.0"
	       -chardev "file,id=verdict,path=/dev/stdout"
	       -device "virtserialport,chardev=output,name=org.kernel.kselftest.output.0"
	       -chardev "file,id=output,path=$console,append=on"
	       -chardev "file,id=console,path=$console,append=on"
	       -serial chardev:console)
}

qemu_pid=
stub=()

stop_qemu()
{
	[ -n "$qemu_pid" ] || return 0
	kill -KILL "$qemu_pid" 2> /dev/null
	qemu_pid=
}

interrupted()
{
	stop_qemu
	finish 5 "interrupted${current:+ in $current}"
}

# ---- results ---------------------------------------------------------------

plan=-1 passed=0 failed=0 skipped=0
hello='' ended='' bail='' current='' took='' allowed=0
failures=()
notes=()

result()		# result NAME TEXT
{
	printf '  %-36s %8s  %s\n' "$1" "${took:+$took s}" "$2"
}

one_result()		# a line "ok ..." or "not ok ..."
{
	local line=$1 ok=1 name directive='' note

	[[ $line == not\ * ]] && ok=
	line=${line#not }
	line=${line#ok }
	line=${line#* }
	name=${line%% *}
	[[ $line == *" # "* ]] && directive=${line#* \# }
	[ -n "$took" ] && took=$(awk -v t="$took" 'BEGIN { printf "%.1f", t }')
	if [ -n "$ok" ]; then
		case $directive in
		SKIP*)	skipped=$((skipped + 1))
			result "$name" "skip: ${directive#SKIP }" ;;
		XFAIL*)	passed=$((passed + 1))
			result "$name" "xfail" ;;
		*)	passed=$((passed + 1))
			result "$name" "pass" ;;
		esac
	else
		failed=$((failed + 1))
		[ "$name" = boot ] || failures+=("$name")
		case $directive in
		TIMEOUT*)
			result "$name" "timed out after ${directive#TIMEOUT }" ;;
		*)	result "$name" "fail${directive:+: $directive}" ;;
		esac
		for note in ${notes[@]+"${notes[@]}"}; do
			say "      ${note#\# }"
		done
	fi
	notes=()
	current=
	took=
	allowed=$margin
}

one_line()
{
	local line=$1
	local -a word

	say "$line" >&4
	case $line in
	'# hello '*)
		read -r -a word <<< "$line"
		hello=1
		say "  booted     Linux ${word[2]} ${word[3]}, ${word[4]} CPUs, in ${word[6]} s"
		allowed=$margin
		;;
	'1..'*)
		plan=${line#1..}
		;;
	'# start '*)
		read -r -a word <<< "$line"
		current=${word[2]}
		allowed=$((word[3] + margin))
		;;
	'# time '*)
		took=${line##* }
		;;
	'# end')
		ended=1
		;;
	'ok '*|'not ok '*)
		one_result "$line"
		;;
	'# the kernel has oopsed'*)
		say "  ${line#\# }"
		;;
	'Bail out!'*)
		bail=${line#Bail out! }
		;;
	'#'*)
		notes+=("$line")
		;;
	esac
}

# What the kernel says if something is wrong with it.
trouble='Kernel panic|kernel BUG|BUG: |Oops|Unable to handle|Internal error'
trouble+='|HYP panic|hyp BUG|WARNING: |stall'

console_since()		# console_since TEST
{
	tr -d '\r\000' < "$console" 2> /dev/null |
	awk -v test="$1" '
	test != "" && index($0, "kselftest: " test " starts") {
		n = 0
		next
	}
	{ line[++n] = $0 }
	END {
		for (i = 1; i <= n; i++)
			print line[i]
	}'
}

first_trouble()		# first_trouble TEST
{
	console_since "$1" | grep -E -m 1 "$trouble" | sed 's/^\[[ 0-9.]*\] //'
}

# The part of the console log that tells most about an early end.
quote_console()		# quote_console TEST
{
	console_since "$1" |
	awk -v bad="$trouble" '
	{ line[++n] = $0 }
	!hit && $0 ~ bad { hit = n }
	END {
		from = hit ? hit : n - 9
		if (from < 1)
			from = 1
		to = hit ? hit + 19 : n
		for (i = from; i <= n && i <= to; i++)
			print "      " line[i]
		for (; i <= n; i++)
			if (line[i] ~ /Kernel panic/)
				print "      " line[i]
	}' >&2
}

again()			# again TESTS...
{
	say "    make -C $KQ_HERE $KQ_HINT${*:+ TESTS='$*'} rerun"
}

summary()		# summary CODE TEXT
{
	local missed=''

	if [ -n "$hello" ]; then
		[ "$plan" -lt 0 ] || missed=$((plan - passed - failed - skipped))
		[ "${missed:-0}" -le 0 ] && missed=
		missed=${missed:+, $missed without a result}
		say "$passed passed, $failed failed, $skipped skipped$missed"
	fi
	say "verdict: $ktap"
	say "console: $console"
	if [ "$1" -ne 0 ]; then
		say "to try again:"
		if [ "${#failures[@]}" -gt 0 ] || [ -n "$current" ]; then
			again ${failures[@]+"${failures[@]}"} ${current:+"$current"}
		else
			again ${KQ_TESTS:+"$KQ_TESTS"}
		fi
	fi
	finish "$1" "$2"
}

boot()
{
	local line partial='' status=0 rc start=$SECONDS deadline waited what n

	mkdir -p "$results"
	rm -f "$results/$KQ_VARIANT.status"
	: > "$console"
	: > "$ktap"
	make_initrd chosen
	allowed=$(scaled "$KQ_BOOT_TIMEOUT")
	margin=$(scaled $margin)
	set_qemu ''
	qemu+=(-display none -monitor none)
	set_channels
	[ "$KQ_V" = 1 ] && say "+ ${qemu[*]}"
	n=$(grep -c '^run ' "$results/$KQ_VARIANT.conf")
	say "  boot       $KQ_ARCH${KQ_PROFILE:+, $KQ_PROFILE}, $KQ_VARIANT, $n tests"

	trap interrupted INT TERM HUP
	exec 4> "$ktap"
	exec 3< <(exec "${qemu[@]}" < /dev/null 2> "$qemu_log" 9>&-)
	qemu_pid=$!
	deadline=$((SECONDS + allowed))

	while :; do
		waited=$((deadline - SECONDS))
		[ $waited -gt 0 ] || waited=1
		if IFS= read -r -t $waited -u 3 line; then
			one_line "$partial${line%$'\r'}"
			partial=
			deadline=$((SECONDS + allowed))
			continue
		else
			rc=$?
		fi
		partial+=$line
		[ $rc -gt 128 ] || break
		if [ $SECONDS -ge $deadline ]; then
			status=hang
			break
		fi
	done
	if [ $status = hang ]; then
		stop_qemu
		wait 2> /dev/null
	else
		wait "$qemu_pid"
		status=$?
		qemu_pid=
	fi
	trap - INT TERM HUP
	rm -f "$initrd"

	if [ -z "$hello" ]; then
		if [ "$status" = hang ]; then
			what="the kernel did not boot within $allowed s"
		elif [ "$status" -eq 0 ]; then
			what="the kernel did not boot: it ended after $((SECONDS - start)) s"
		else
			what="QEMU could not start: it exited with status $status"
		fi
		say "$what" >&2
		sed 's/^/      /' "$qemu_log" | head -n 10 >&2
		quote_console ''
		summary 4 "$what"
	fi

	if [ -z "$ended" ] || [ "$plan" -ne $((passed + failed + skipped)) ]; then
		if [ -n "$bail" ]; then
			what="the run ended early: $bail"
		elif [ "$status" = hang ]; then
			what="the run hung${current:+ in $current}:"
			what+=" nothing was heard for $allowed s"
		elif [ -n "$ended" ]; then
			what="the run ended early: $plan tests were announced"
		elif [ "$status" -ne 0 ]; then
			what="the run ended early${current:+ in $current}: QEMU"
			what+=" ended with status $status"
		elif grep -q 'terminating on signal' "$qemu_log"; then
			what="the run ended early${current:+ in $current}: QEMU was"
			what+=" told to by $(sed -n 's/.*terminating on //p' "$qemu_log")"
		else
			what=$(first_trouble "$current")
			what=": ${what:-panic or reset}"
			what="the run ended early${current:+ in $current}$what"
		fi
		[ -z "$current" ] || result "$current" "ended early"
		say "$what" >&2
		sed 's/^/      /' "$qemu_log" | head -n 10 >&2
		quote_console "$current"
		summary 5 "$what"
	fi

	[ $failed -eq 0 ] || summary 1 "$failed failed"
	summary 0 "passed"
}

shell()			# shell [ADDITION-TO-KERNEL-COMMAND-LINE]
{
	[ -n "$KQ_BUSYBOX" ] ||
		finish 2 "a shell needs BUSYBOX=/path/to/a/static/busybox for $KQ_ARCH"
	mkdir -p "$results"
	make_initrd all
	# The kernel itself as well, e.g. for vcpu_reset_vmm -k /Image.
	(cd "${KQ_IMAGE%/*}" && echo "${KQ_IMAGE##*/}" |
	 cpio --quiet -o -H newc -R 0:0) >> "$initrd" ||
		finish 4 "could not write $initrd"
	set_qemu "quiet${1:+ $1} -- shell"
	say "exit ends the virtual machine, Ctrl-a x kills it"
	"${qemu[@]}" -nographic -serial mon:stdio ${stub[@]+"${stub[@]}"}
	rm -f "$initrd"
}

# The same with gdb.  A socket needs no port that may be taken, and a short path.
debug()
{
	local socket=$results/$KQ_VARIANT.gdb

	[ "${#socket}" -le 100 ] || socket=$(mktemp -u)
	stub=(-gdb "unix:$socket,server=on,wait=off")
	[ "$KQ_WAIT" != 1 ] || stub+=(-S)
	say "For gdb, in another terminal:"
	say "  gdb-multiarch -ex 'target remote $socket' \\"
	say "    $KQ_KERNEL_BUILD/vmlinux"
	say "There, e.g. \"break kvm_vcpu_ioctl\" and \"continue\"; here, run a test.  When"
	say "gdb is left with \"quit\", the machine goes on."
	[ "$KQ_WAIT" != 1 ] || say "Nothing runs until gdb says \"continue\"."
	shell nokaslr
	rm -f "$socket"
}

case $1 in
--check)	check_settings ;;
--run)		check_settings; boot ;;
--shell)	shell ;;
--debug)	debug ;;
--initrd)	check_settings
		mkdir -p "$results"
		make_initrd chosen
		say "$initrd" ;;
esac
