#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# bochs.sh: run the x86 selftests on kvm_intel, in Bochs. QEMU without KVM
# emulates SVM only; Bochs emulates VMX with EPT, on one CPU, and slowly.
#
#	bochs.sh get				fetch Bochs, print where it is
#	bochs.sh run KERNEL CPIO... -- DIR	boot, results in DIR
#
# "run" puts the kernel and the archives, one after the other, on a boot CD.
# The archives are those of the QEMU runner: base.cpio, one for each test, and
# the one with run.conf; with the names TESTS="a b" or SKIP="c" the last one is
# made here. init reports on the second serial port, "verdict=" on the command
# line names it. DIR then has results.ktap, console.log, and bochs.log for what
# Bochs says.
#
# Environment: TESTS; SKIP; TEST_TIMEOUT, seconds of the guest for each of TESTS;
# BOOT_TIMEOUT, QUIET_TIMEOUT (nothing new on the verdict channel) and
# TOTAL_TIMEOUT, seconds of the host; MEMORY in MiB; BOCHS_CPU, a CPU model of
# Bochs; BOCHS_IPS, how many instructions are a second of the guest; CMDLINE,
# added to the kernel's command line.
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
export LC_ALL=C

TESTS=${TESTS:-}
SKIP=${SKIP:-}
TEST_TIMEOUT=${TEST_TIMEOUT:-300}
BOOT_TIMEOUT=${BOOT_TIMEOUT:-600}
QUIET_TIMEOUT=${QUIET_TIMEOUT:-600}
TOTAL_TIMEOUT=${TOTAL_TIMEOUT:-3600}
MEMORY=${MEMORY:-2048}
BOCHS_CPU=${BOCHS_CPU:-tigerlake}
BOCHS_IPS=${BOCHS_IPS:-100000000}
CMDLINE=${CMDLINE:-}

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

# here: the newest complete Bochs in the cache, or nothing
here()
{
	local dir last=

	for dir in "$CACHE"/bochs-*; do
		[ ! -e "$dir/complete" ] || last=$dir
	done
	printf '%s' "$last"
}

# needed PROGRAM...: the libraries of programs that were unpacked in $TMP/root
needed()
{
	local program dirs

	dirs=$(find "$TMP/root/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
	for program; do
		if ! "$LOADER" --library-path "$dirs" --list "$program" >"$TMP/list" 2>&1 ||
		   grep -q 'not found' "$TMP/list"; then
			grep 'not found' "$TMP/list" >&2 || tail -n 3 "$TMP/list" >&2
			die "a library of $(basename -- "$program") was not among the packages"
		fi
		sed -n 's/^.* => \([^ ]*\) (.*$/\1/p' "$TMP/list"
	done | sort -u
}

get()
{
	local uri arch version plugins new library dir
	local -a apt names

	dir=$(here)
	if [ -n "$dir" ]; then
		printf '%s\n' "$dir"
		return
	fi
	command -v apt-get >/dev/null || die "only Debian's apt can fetch Bochs" "use a Debian machine"
	# shellcheck disable=SC2016 # apt expands it
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)
	[ -n "$uri" ] || die "apt knows no Debian archive to fetch Bochs from" "apt-get update"
	arch=$(dpkg --print-architecture)
	need_space "$CACHE" 400

	trap clean_up EXIT	# $(get) has not inherited it
	TMP=$(mktemp -d "$CACHE/bochs.new.XXXXXX")
	mkdir -p "$TMP/lists/partial" "$TMP/parts" "$TMP/deb" "$TMP/root"
	printf 'deb [signed-by=%s] %s trixie main\n' \
		/usr/share/keyrings/debian-archive-keyring.gpg "$uri" >"$TMP/sources.list"
	apt=(-qq -o "Dir::Etc::sourcelist=$TMP/sources.list" -o "Dir::Etc::sourceparts=$TMP/parts"
	     -o "Dir::State::lists=$TMP/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
	     -o "Dir::Cache::archives=$TMP/deb" -o "Dir::State::status=/dev/null"
	     -o "APT::Architecture=$arch" -o "APT::Architectures=$arch"
	     -o "APT::Sandbox::User=root" -o "Acquire::Languages=none")

	# apt finds all that these depend on. Of the rest, only libraries are of
	# use to programs which are not installed.
	names=(bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso ncurses-base)
	if ! apt-get "${apt[@]}" update >"$TMP/log" 2>&1 ||
	   ! apt-get "${apt[@]}" -y --no-install-recommends --print-uris install "${names[@]}" >"$TMP/uris" 2>"$TMP/log" ||
	   ! sed "s/^'[^']*' \([^_ ]*\)_.*/\1/" "$TMP/uris" | grep -E '^(lib|zlib)' >"$TMP/libraries" ||
	   ! (cd "$TMP/deb" && xargs apt-get "${apt[@]}" download "${names[@]}" <"$TMP/libraries") >"$TMP/log" 2>&1; then
		tail -n 5 "$TMP/log" >&2
		die "apt could not fetch Bochs" "check the network"
	fi
	for library in "$TMP"/deb/*.deb; do
		dpkg-deb --fsys-tarfile "$library" | tar -x -C "$TMP/root"
	done

	# What runs, and nothing else
	new=$TMP/new
	mkdir -p "$new/bin" "$new/lib" "$new/plugins" "$new/share/terminfo/l"
	LOADER=$(find "$TMP/root/usr" -name 'ld-linux*.so.*' -print -quit)
	[ -n "$LOADER" ] || die "libc6 for $arch has no ld.so"
	plugins=$(find "$TMP/root/usr/lib" -type d -path '*/bochs/plugins' -print -quit)
	cp -L -- "$LOADER" "$new/lib/ld.so"
	cp -- "$TMP/root/usr/bin/bochs-bin" "$TMP/root/usr/bin/xorriso" "$new/bin/"
	cp -L -- "$plugins"/*.so "$new/plugins/"
	needed "$new/bin/bochs-bin" "$new/bin/xorriso" "$new/plugins/libbx_term_gui.so" >"$TMP/needed"
	while read -r library; do
		case $library in
		*/ld-linux*) ;;
		*) cp -L -- "$library" "$new/lib/" ;;
		esac
	done <"$TMP/needed"
	cp -L -- "$TMP/root/usr/share/bochs/BIOS-bochs-latest" "$TMP/root/usr/share/vgabios/vgabios.bin" \
		"$TMP/root/usr/lib/ISOLINUX/isolinux.bin" \
		"$TMP/root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$new/share/"
	cp -L -- "$(find "$TMP/root/usr" -path '*/terminfo/l/linux' -print -quit)" "$new/share/terminfo/l/"
	(cd "$TMP/deb" && printf '%s\n' *.deb) >"$new/complete"
	version=$(sed -n 's/^bochs_\(.*\)_[^_]*\.deb$/\1/p' "$new/complete")
	dir=$CACHE/bochs-$version
	rm -rf -- "$dir"
	mv -- "$new" "$dir"
	rm -rf -- "$TMP"
	TMP=
	printf '%s\n' "$dir"
}

# in_bochs PROGRAM ARGUMENT...: a program of Debian 13, with its libraries
in_bochs()
{
	local program=$1

	shift
	exec "$BOCHS/lib/ld.so" --library-path "$BOCHS/lib" "$BOCHS/bin/$program" "$@"
}

# ---- run ---------------------------------------------------------------------

make_cd()	# make_cd KERNEL CPIO...: $TMP/boot.iso
{
	local cd=$TMP/cd test

	mkdir -p "$cd"
	cp -- "$1" "$cd/kernel"
	shift
	if [ -n "$TESTS$SKIP" ]; then
		command -v cpio >/dev/null || die "cpio is missing" "make setup"
		{
			echo "timeout $TEST_TIMEOUT"
			for test in $TESTS; do
				echo "run kvm:${test#kvm:}"
			done
			for test in $SKIP; do
				echo "skip kvm:${test#kvm:} named in SKIP"
			done
		} >"$TMP/run.conf"
		(cd "$TMP" && echo run.conf | cpio --quiet -o -H newc -R 0:0) >"$TMP/run.cpio"
		set -- "$@" "$TMP/run.cpio"
	fi
	cat -- "$@" >"$cd/initrd"
	cp -- "$BOCHS/share/isolinux.bin" "$BOCHS/share/ldlinux.c32" "$cd/"
	# Bochs ends at a triple fault, which reboot=t makes of a reboot and of
	# a panic. Its TSC counts instructions, whatever its CPUID says.
	cat >"$cd/isolinux.cfg" <<-END
		default kvm
		prompt 0
		label kvm
		kernel kernel
		initrd initrd
		append console=ttyS0,115200 verdict=/dev/ttyS1 tsc_early_khz=$((BOCHS_IPS / 1000)) kvm_intel.enable_apicv=0 reboot=t panic=-1 loglevel=7 printk.devkmsg=on watchdog_thresh=30${CMDLINE:+ $CMDLINE}
	END
	(in_bochs xorriso -as mkisofs -quiet -o "$TMP/boot.iso" -b isolinux.bin -c boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$cd") >"$TMP/log" 2>&1 || {
		tail -n 5 "$TMP/log" >&2
		DIE_STATUS=4 die "xorriso could not write the boot CD"
	}
	rm -rf -- "$cd"
}

# No stop, no question: what Bochs would ask about ends it.
write_bochsrc()
{
	cat >"$TMP/bochsrc" <<-END
		config_interface: textconfig
		display_library: term
		cpu: model=$BOCHS_CPU, count=1, ips=$BOCHS_IPS, reset_on_triple_fault=0, ignore_bad_msrs=1
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
	'# end')	ended=$SECONDS ;;
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
	local line part='' alive=1 status=0 log hang=''
	local -a cpios=()
	local kernel=${1:-}

	[ $# -ge 3 ] || die "bochs.sh run needs a kernel, archives, -- and a directory" "bochs.sh run bzImage base.cpio psci_test.cpio run.cpio -- results"
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		cpios+=("$1")
		shift
	done
	{ [ $# -eq 2 ] && [ ${#cpios[@]} -gt 0 ]; } || die "bochs.sh run needs archives, then --, then one directory"
	for line in "$kernel" "${cpios[@]}"; do
		[ -r "$line" ] || die "$line can not be read" "make build ARCH=x86"
	done
	mkdir -p -- "$2"
	DIR=$(cd -- "$2" && pwd -P)
	BOCHS=$(get)
	TMP=$(mktemp -d "$DIR/tmp.XXXXXX")
	for log in console.log results.ktap bochs.log; do
		: >"$DIR/$log"
	done
	make_cd "$kernel" "${cpios[@]}"
	write_bochsrc

	start=$SECONDS
	began=$SECONDS
	heard=$SECONDS
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

	# Bochs flushes each character; read up to the end of the file, again
	# and again. What is read after it has ended is all.
	exec 3<"$DIR/results.ktap"
	while [ -n "$alive" ]; do
		kill -0 "$BOCHS_PID" 2>/dev/null || alive=
		while IFS= read -r line <&3 || { part+=$line; false; }; do
			line=$part${line%$'\r'}
			part=
			heard=$SECONDS
			one_line "$line"
		done
		[ -n "$alive" ] || break
		if [ -z "$booted" ] && [ $((SECONDS - start)) -ge "$BOOT_TIMEOUT" ]; then
			hang="the kernel did not boot within $BOOT_TIMEOUT s"
		elif [ $((SECONDS - start)) -ge "$TOTAL_TIMEOUT" ]; then
			hang="the run took more than $TOTAL_TIMEOUT s${current:+, it was in $current}"
		elif [ -n "$booted" ] && [ -z "$ended" ] && [ $((SECONDS - heard)) -ge "$QUIET_TIMEOUT" ]; then
			hang="the run hung${current:+ in $current}: nothing was heard for $QUIET_TIMEOUT s"
		elif [ -n "$ended" ] && [ $((SECONDS - ended)) -ge 60 ]; then
			break
		fi
		[ -z "$hang" ] || break
		sleep 1
	done
	[ -z "$alive" ] || kill -KILL "$BOCHS_PID" 2>/dev/null || :
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
