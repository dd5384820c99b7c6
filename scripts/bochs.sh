#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# bochs.sh: run the x86 selftests on kvm_intel, in Bochs. QEMU without KVM
# emulates SVM only; Bochs emulates VMX with EPT, on one CPU, and slowly.
#
#	bochs.sh get				fetch Bochs, print where it is
#	bochs.sh run KERNEL INITRD DIR		boot, results in DIR
#
# INITRD is what the QEMU runner writes with the target "initrd". init reports on the
# second serial port, "verdict=" on the command line names it. DIR then has
# results.ktap, console.log, and bochs.log for what Bochs says.
#
# Environment: BOOT_TIMEOUT, seconds of the host; MEMORY in MiB.
#
# Two things of VMX do not work in Bochs 3.0. It refuses a posted-interrupt
# descriptor, so APICv is off. And no interrupt ends the run of a guest that was
# entered with RFLAGS.IF = 0: while such a guest spins, the only CPU does nothing
# else, timeouts of init included. set_memory_region_test does that. A guest with
# IF = 1, or one that exits by itself, is fine.
#
# Bochs comes from Debian 13, with its own libraries beside it: nothing is
# installed and no root is needed.
#
# Exit status: 0 every test passed or was skipped, 1 a test failed, 2 usage or
# a missing tool, 4 Bochs could not start or the kernel did not boot, 5 the run
# ended early.

. "$(dirname -- "$0")/common.sh"
. "$TOP/scripts/debian.sh"
export LC_ALL=C

BOOT_TIMEOUT=${BOOT_TIMEOUT:-600}
MEMORY=${MEMORY:-2048}
# Seconds of the host with nothing new on the verdict channel
QUIET_TIMEOUT=600
# A second of the guest, in instructions
IPS=100000000

TMP=
BOCHS_PID=
SCREEN_PID=

clean_up()
{
	[ -z "$BOCHS_PID" ] || kill -KILL "$BOCHS_PID" 2>/dev/null || :
	[ -z "$SCREEN_PID" ] || kill -KILL "$SCREEN_PID" 2>/dev/null || :
	[ -z "$TMP" ] || rm -rf -- "$TMP"
}
trap clean_up EXIT
trap 'exit 5' INT TERM HUP

# ---- get ---------------------------------------------------------------------

get()
{
	local root new plugins file libraries
	local -a roots

	! cached bochs || return 0
	need_space "$CACHE" 400
	trap clean_up EXIT	# $(get) has not inherited it
	TMP=$(mktemp -d "$CACHE/bochs.new.XXXXXX")
	fetch_debs Bochs "$TMP" "$(dpkg --print-architecture)" "use a Debian machine" \
		bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso ncurses-base
	root=$TMP/root
	# shellcheck disable=SC2034 # libraries_of knows its name
	roots=("$root")
	# What runs, and nothing else
	new=$TMP/new
	mkdir -p "$new"/{bin,lib,plugins,share/terminfo/l}
	plugins=$(find "$root/usr/lib" -type d -path '*/bochs/plugins' -print -quit)
	cp -- "$root"/usr/bin/{bochs-bin,xorriso} "$new/bin/"
	cp -L -- "$plugins"/*.so "$new/plugins/"
	libraries=$(libraries_of roots "$new"/bin/* "$new/plugins/libbx_term_gui.so")
	while read -r file; do
		case $file in
		*/ld-linux*) cp -L -- "$file" "$new/lib/ld.so" ;;
		*) cp -L -- "$file" "$new/lib/" ;;
		esac
	done <<<"$libraries"
	cp -L -- "$root/usr/share/bochs/BIOS-bochs-latest" "$root/usr/share/vgabios/vgabios.bin" \
		"$root/usr/lib/ISOLINUX/isolinux.bin" "$root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$new/share/"
	cp -L -- "$(find "$root/usr" -path '*/terminfo/l/linux' -print -quit)" "$new/share/terminfo/l/"
	into_cache bochs "$TMP" bochs
	TMP=
}

# in_bochs PROGRAM ARGUMENT...: a program of Debian 13, with its libraries
in_bochs()
{
	local program=$1

	shift
	exec "$BOCHS/lib/ld.so" --library-path "$BOCHS/lib" "$BOCHS/bin/$program" "$@"
}

# ---- run ---------------------------------------------------------------------

make_cd()	# make_cd KERNEL INITRD: $TMP/boot.iso
{
	local cd=$TMP/cd

	mkdir -p "$cd"
	cp -- "$1" "$cd/kernel"
	cp -- "$2" "$cd/initrd"
	cp -- "$BOCHS/share/isolinux.bin" "$BOCHS/share/ldlinux.c32" "$cd/"
	# Bochs ends at a triple fault, which reboot=t makes of a reboot and of
	# a panic. Its TSC counts instructions, whatever its CPUID says.
	cat >"$cd/isolinux.cfg" <<-END
		default kvm
		prompt 0
		label kvm
		kernel kernel
		initrd initrd
		append console=ttyS0,115200 verdict=/dev/ttyS1 tsc_early_khz=$((IPS / 1000)) kvm_intel.enable_apicv=0 reboot=t panic=-1 loglevel=7 printk.devkmsg=on watchdog_thresh=30
	END
	(in_bochs xorriso -as mkisofs -quiet -o "$TMP/boot.iso" -b isolinux.bin -c boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$cd") >"$TMP/log" 2>&1 || {
		tail -n 5 "$TMP/log" >&2
		DIE_STATUS=4 die "xorriso could not write the boot CD" "see the lines above"
	}
	rm -rf -- "$cd"
}

# No stop, no question: what Bochs would ask about ends it.
write_bochsrc()
{
	cat >"$TMP/bochsrc" <<-END
		config_interface: textconfig
		display_library: term
		cpu: model=tigerlake, count=1, ips=$IPS, reset_on_triple_fault=0, ignore_bad_msrs=1
		memory: guest=$MEMORY, host=$MEMORY
		romimage: file="$BOCHS/share/BIOS-bochs-latest", options=fastboot
		vgaromimage: file="$BOCHS/share/vgabios.bin"
		pci: enabled=1, chipset=i440fx
		ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
		ata0-master: type=cdrom, path="$TMP/boot.iso", status=inserted
		boot: cdrom
		clock: sync=none, time0=utc
		com1: enabled=1, mode=file, dev="$DIR/console.log"
		com2: enabled=1, mode=file, dev="$DIR/results.ktap"
		log: "$DIR/bochs.log"
		panic: action=fatal
		error: action=report
		info: action=report
		debug: action=ignore
	END
}

plan=-1 passed=0 failed=0 skipped=0
booted='' ended='' bail='' current='' took=''

one_line()
{
	local line=$1 ok name directive=''

	case $line in
	'# hello '*)
		booted=1
		say "  booted after $((SECONDS - start)) s: ${line#\# hello }"
		;;
	'1..'*)		plan=${line#1..} ;;
	'# start '*)	current=${line#\# start }; current=${current% *}; began=$SECONDS ;;
	'# time '*)	took=${line##* } ;;
	'# end')	ended=1 ;;
	'Bail out!'*)	bail=${line#Bail out! } ;;
	'ok '*|'not ok '*)
		ok=pass
		[[ $line != not\ * ]] || ok=FAIL
		line=${line#not }
		line=${line#ok }
		line=${line#* }
		name=${line%% *}
		[[ $line != *" # "* ]] || directive=${line#* # }
		case $ok-$directive in
		pass-SKIP*)	skipped=$((skipped + 1)); ok=skip; directive=${directive#SKIP } ;;
		pass-*)		passed=$((passed + 1)) ;;
		*)		failed=$((failed + 1)) ;;
		esac
		printf '  %-44s %5d s %10s  %s%s\n' "${name#kvm:}" $((SECONDS - began)) \
			"${took:+($took)}" "$ok" "${directive:+: $directive}"
		current=
		took=
		began=$SECONDS
		;;
	esac
}

# finish STATUS SENTENCE
finish()
{
	say "$passed passed, $failed failed, $skipped skipped"
	# What Bochs did not like in a VMCS tells more than a failed VM entry.
	[ "$1" -eq 0 ] || sed -n 's/^[0-9]*e\[CPU0 *\] \(VM[A-Z]*FAIL.*\)/bochs: \1/p' "$DIR/bochs.log" |
		sort | uniq -c | sort -rn | head -n 5
	say "verdict: $DIR/results.ktap"
	say "console: $DIR/console.log"
	[ "$1" -eq 0 ] || say "result: $2 ($1)" >&2
	exit "$1"
}

run()
{
	local line status=0 limit hang='' log

	[ $# = 3 ] || die "bochs.sh run needs a kernel, an initrd and a directory" "bochs.sh run bzImage initrd results"
	for line in "$1" "$2"; do
		[ -r "$line" ] || die "$line cannot be read" "make build ARCH=x86"
	done
	mkdir -p -- "$3"
	DIR=$(cd -- "$3" && pwd -P)
	BOCHS=$(get)
	TMP=$(mktemp -d "$DIR/tmp.XXXXXX")
	for log in console.log results.ktap bochs.log; do
		: >"$DIR/$log"
	done
	make_cd "$1" "$2"
	write_bochsrc

	start=$SECONDS
	began=$SECONDS
	LTDL_LIBRARY_PATH=$BOCHS/plugins BXSHARE=$BOCHS/share TERM=linux \
		TERMINFO=$BOCHS/share/terminfo HOME=$TMP \
		in_bochs bochs-bin -q -f "$TMP/bochsrc" </dev/null >"$TMP/stdout" 2>&1 &
	BOCHS_PID=$!

	# The screen is a pty that Bochs opens. Somebody has to read it, or Bochs
	# waits when it is full, and must not echo, or Bochs sees keys.
	(
		while ! pty=$(grep -a -o -m 1 '/dev/pts/[0-9]*' "$TMP/stdout" 2>/dev/null); do
			kill -0 "$BOCHS_PID" 2>/dev/null || exit 0
			sleep 0.2
		done
		stty raw -echo <"$pty"
		exec cat "$pty"
	) </dev/null >/dev/null 2>&1 &
	SCREEN_PID=$!

	exec 3< <(exec tail -f -n +1 --pid="$BOCHS_PID" -- "$DIR/results.ktap" 2>/dev/null)
	while :; do
		limit=$QUIET_TIMEOUT
		[ -n "$booted" ] || limit=$BOOT_TIMEOUT
		# It has nothing to do any more.
		[ -z "$ended" ] || limit=60
		if IFS= read -r -t "$limit" line <&3; then
			one_line "${line%$'\r'}"
			continue
		elif [ $? -gt 128 ] && [ -z "$ended" ]; then
			hang="the run hung${current:+ in $current}: nothing was heard for $limit s"
			[ -n "$booted" ] || hang="the kernel did not boot within $limit s"
		fi
		break
	done
	kill -KILL "$BOCHS_PID" 2>/dev/null || :
	{ wait "$BOCHS_PID" || status=$?; } 2>/dev/null
	BOCHS_PID=
	kill -KILL "$SCREEN_PID" 2>/dev/null || :
	{ wait "$SCREEN_PID" || :; } 2>/dev/null
	SCREEN_PID=
	exec 3<&-

	if [ -z "$booted" ]; then
		grep -a -E '>>PANIC<<|[0-9]p\[' "$DIR/bochs.log" | tail -n 3 >&2 || :
		tail -n 5 "$DIR/console.log" >&2
		[ -s "$DIR/bochs.log" ] || tail -n 5 "$TMP/stdout" >&2
		finish 4 "${hang:-the kernel did not boot: Bochs ended with status $status}"
	fi
	if [ -z "$ended" ] || [ "$plan" -ne $((passed + failed + skipped)) ]; then
		grep -a -E '>>PANIC<<|[0-9]p\[' "$DIR/bochs.log" | tail -n 3 >&2 || :
		tail -n 15 "$DIR/console.log" >&2
		finish 5 "${hang:-the run ended early${current:+ in $current}${bail:+: $bail}}"
	fi
	[ "$failed" -eq 0 ] || finish 1 "$failed failed"
	finish 0
}

case ${1:-} in
get)
	get
	;;
run)
	shift
	run "$@"
	;;
*)
	die "bochs.sh knows get and run, not \"${1:-}\"" "bochs.sh get"
	;;
esac
