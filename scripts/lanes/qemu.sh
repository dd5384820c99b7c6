#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# qemu.sh: an unmodified QEMU with KVM on the base and on the series. Debian's QEMU
# of each architecture runs in the virtual machine that "make check" boots, and
# boots Linux guests of 2 and 4 CPUs; each row of the table does something else to
# them: reboot, system_reset, CPUs off and on, stop, save and restore at random
# moments, suspend, kexec. A row must be the same or better on the series; one that
# fails on both must be in scripts/lanes/qemu/known, with the reason.
#
# qemu/driver.c does the rows, qemu/guest.c is the guest's init.
#
#	qemu.sh			build and run both, then compare
#	qemu.sh rerun		run what was built last, then compare
#	qemu.sh compare		compare the results that are there
#	qemu.sh short		a few rows on ON, for "make check", with the kernel that
#				is under test as the guest's: it has the rows that it can
#	qemu.sh get ARCH	fetch Debian's QEMU of that architecture, print where it is
#	qemu.sh has ARCH	is it there?
#	qemu.sh rows ARCH	the rows
#	qemu.sh guest-kernel ARCH	build the guest's kernel, print where it is
#
# Environment: ARCH; ROWS, patterns of names of rows, such as "reset_* boot_2*"; COUNT,
# how often a row does what it does, at most; SIDES, of base series: series keeps the
# results of the base; SEED, of the random moments; GUEST_KERNEL, the image to boot
# as the guest, in place of one that is built; VMM_QEMU_DIR, where another QEMU is:
# DIR/usr/bin/qemu-system-ARCH with DIR/usr/lib and DIR/usr/share/qemu, or the same
# below DIR/ARCH; libraries that it has not got are Debian's. If it is one of "make qemu",
# it has rows more, in which it serves starts of CPUs, or is compared with Debian's.

. "$(dirname -- "$0")/../common.sh"
. "$TOP/scripts/lanes/compare.sh"

ARCH=${ARCH:-riscv arm64 x86}
SUFFIX=${SUFFIX:-}
SEED=${SEED:-1}
VMM_QEMU_DIR=${VMM_QEMU_DIR:-}
OUT=$BUILD/check-qemu$SUFFIX
HERE=$TOP/scripts/lanes/qemu
TABLE=$BUILD/check-qemu$SUFFIX.txt
# shellcheck source=scripts/lanes/qemu/get.sh
. "$HERE/get.sh"

# ---- rows --------------------------------------------------------------------

# rows_of ARCH full|short: "NAME ARGUMENTS of driver.c", of qemu/rows. A machine other
# than the first is at the end of the name.
rows_of()
{
	local set cpus rows n row count machine

	while read -r set cpus rows; do
		machine=
		case $set-$2 in
		aia-full|pc-full) machine=$set ;;
		patched-full) ! is_patched "$1" || machine=patched ;;
		esac
		[ "$set" = "$2" ] || [ -n "$machine" ] || continue
		for n in ${cpus//,/ }; do
			for row in $rows; do
				count=${row#*=}
				row=${row%=*}
				[ -z "${COUNT:-}" ] || [ "$COUNT" -ge "$count" ] || count=$COUNT
				printf '%s_%s%s row=%s cpus=%s count=%s%s\n' "${row//-/_}" "$n" "${machine:+_$machine}" \
					"$row" "$n" "$count" "${machine:+ args=/qemu/args-$machine}"
			done
		done
	done < <(lines_of "$HERE/rows" "$1")
}

wanted()	# wanted NAME: does ROWS name it?
{
	local pattern
	local -a patterns

	[ -n "${ROWS:-}" ] || return 0
	read -r -a patterns <<<"$ROWS"
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2053 # a pattern is wanted
		[[ $1 != $pattern ]] || return 0
	done
	return 1
}

# qemu_args ARCH [MACHINE]: one to a line
qemu_args()
{
	local program accel=kvm

	facts "$1"
	program=/usr/bin/$PROGRAM
	case ${2:-} in
	debian) program+=-debian ;;
	patched) accel+=,user-cpu-start=on ;;
	esac
	printf '%s\n' "$program" -nodefaults -no-user-config -display none \
		-accel "$accel" -cpu host -m 128 -kernel /qemu/kernel -L /usr/share/qemu
	case $1-${2:-} in
	riscv-aia) printf '%s\n' -M "virt,aia=aplic-imsic" ;;
	riscv-*) printf '%s\n' -M virt ;;
	arm64-*) printf '%s\n' -M virt,gic-version=3 ;;
	x86-pc) printf '%s\n' -M pc -global PIIX4_PM.disable_s3=0 ;;
	x86-*) printf '%s\n' -M q35 ;;
	esac
	printf 'append=%s panic=-1 loglevel=5 watchdog_thresh=30%s\n' \
		"$(runner "$1" base -s print-CONSOLE_"$1" | sed 's/ early[a-z]*[^ ]*//')" \
		"$([ "$1" != x86 ] || echo ' tsc=reliable no_timer_check')"
}

# ---- building and booting ----------------------------------------------------

# runner ARCH ON ARGUMENT...: the QEMU runner, on a build directory of this lane's
runner()
{
	local arch=$1 tree=$TREE on=$2
	shift 2

	[ "$on" = series ] || tree=$(tree_of "$on")
	in_runner "$TREE" "ARCH=$arch" "KERNEL_PATH=$tree" \
		"LLVM=${LLVM:-}" "KERNEL_BUILD_PATH=$tree/out-$arch$SUFFIX" "BUILD_PATH=$OUT/$arch-$on" \
		"NR_CPUS=${NR_CPUS:-4}" "MEMORY=${MEMORY:-2048}M" "BOOT_TIMEOUT=$((${BOOT_TIMEOUT:-120}))" \
		"V=${V:-0}" ${QEMU:+"QEMU=$QEMU"} "$@"
}

tree_of() { if [ "$1" = base ]; then ON=base "$TOP/scripts/check.sh" base-path; else printf '%s\n' "$TREE"; fi; }

# guest_kernel ARCH: of the series, whose topic riscv-suspend lets a guest of riscv
# resume, with what the rows need
guest_kernel()
{
	local dir

	if [ -n "${GUEST_KERNEL:-}" ]; then
		[ -r "$GUEST_KERNEL" ] || die "GUEST_KERNEL=$GUEST_KERNEL cannot be read" "leave it empty, or name an image"
		printf '%s\n' "$GUEST_KERNEL"
		return
	fi
	dir=$TREE/out-$1$SUFFIX-guest
	cat -- "$HERE/guest.config" >"$OUT/$1-guest.config"
	[ ! -e "$HERE/guest-$1.config" ] || cat -- "$HERE/guest-$1.config" >>"$OUT/$1-guest.config"
	runner "$1" series kernel "KERNEL_BUILD_PATH=$dir" "BUILD_PATH=$OUT/$1-guest" \
		"KCONFIG_FRAGMENT=$OUT/$1-guest.config" >&2 || DIE_STATUS=3 \
		die "the guest's kernel does not build for $1" "see $OUT/$1-guest/logs"
	image_of "$TREE" "$1" "$SUFFIX-guest"
}

pack()		# pack DIRECTORY ARCHIVE
{
	(cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$2.new"
	mv -- "$2.new" "$2"
}

# prepare ARCH ON KERNEL full|short: the build directory of the runner, with a test for each row
prepare()
{
	local arch=$1 dir=$OUT/$1-$2 root=$OUT/$1-$2/root cc name
	local install=$dir/kselftest_install/kvm

	[ -e "$BUILD/$arch$SUFFIX/initramfs/base.cpio" ] || die "nothing is built for $arch" "make build ARCH=$arch"
	cc=$(cross_of "$arch")gcc
	rm -rf -- "$root" "$dir/initramfs" "$dir/kselftest_install"
	mkdir -p "$root/qemu" "$dir/initramfs" "$install" "$dir/guest/dev"
	"$cc" -static -O2 -o "$dir/guest/init" "$HERE/guest.c" -pthread
	"$cc" -static -O2 -s -o "$dir/driver" "$HERE/driver.c"
	"$(cross_of "$arch")strip" "$dir/guest/init"
	root_of "$arch" "$root"
	cp -- "$3" "$root/qemu/kernel"
	pack "$dir/guest" "$root/qemu/initrd"
	if [ "$4" = full ]; then
		cp -- "$3" "$dir/guest/kernel"
		cp -- "$root/qemu/initrd" "$dir/guest/initrd"
		pack "$dir/guest" "$root/qemu/initrd-kexec"
	fi
	qemu_args "$arch" >"$root/qemu/args"
	case $arch in
	riscv) qemu_args "$arch" aia >"$root/qemu/args-aia" ;;
	x86) qemu_args "$arch" pc >"$root/qemu/args-pc" ;;
	esac
	if is_patched "$arch"; then
		qemu_args "$arch" patched >"$root/qemu/args-patched"
		qemu_args "$arch" debian >"$root/qemu/args-debian"
	fi
	pack "$root" "$dir/payload.cpio"
	cat "$BUILD/$arch$SUFFIX/initramfs/base.cpio" "$dir/payload.cpio" >"$dir/initramfs/base.cpio"
	rm -rf -- "$root" "$dir/payload.cpio"
	echo "timeout=1800" >"$install/settings"
	: >"$dir/unbuilt"
	: >"$dir/tests"
	mkdir -p "$root/kselftest/kvm"
	while read -r name _; do
		wanted "$name" || continue
		name=qemu_$name
		echo "kvm:$name $name" >>"$dir/tests"
		cp -- "$dir/driver" "$install/$name"
		cp -- "$dir/driver" "$root/kselftest/kvm/$name"
		pack "$root" "$dir/initramfs/$name.cpio"
		rm -- "$root/kselftest/kvm/$name"
	done < <(rows_of "$arch" "$4")
	rm -rf -- "$root"
}

# boot ARCH ON full|short: run the rows that are prepared
boot()
{
	local name args limit=300 status=0
	local -a environment=()

	[ -s "$OUT/$1-$2/tests" ] || return 0
	[ "$3" = full ] || limit=150
	while read -r name args; do
		name=KSELFTEST_QEMU_${name^^}_ARGS
		environment+=("$name=$args seed=$SEED limit=$limit")
	done < <(rows_of "$1" "$3")
	(
		export "${environment[@]}"
		# On a busy machine the kernel's test of the IO-APIC sees no timer.
		runner "$1" "$2" rerun "CMDLINE=$([ "$1" != x86 ] || echo no_timer_check)" "TIMEOUT=$([ "$3" = full ] && echo 9000 || echo 400)" TIMEOUT_SCALE=1
	) || status=$?
	return "$status"
}

# ---- comparing ---------------------------------------------------------------

# results ARCH ON: "NAME RESULT" of the rows that were to run
results()
{
	local dir=$OUT/$1-$2

	{
		ktap_results qemu_ "$dir/results/"*.ktap
		[ ! -e "$dir/tests" ] || sed 's/^kvm:qemu_\([^ ]*\) .*/\1 none/' "$dir/tests"
	} | awk '!seen[$1]++'
}

# figures: what the rows have measured
figures()
{
	local arch on

	for arch in $ARCH; do
		for on in base series; do
			sed -n "s/\r\$//; s/.*FIGURE \(.*\)/$arch, on the $on, \1/p" "$OUT/$arch-$on/results/"*.console 2>/dev/null || :
		done
	done
}

# known ARCH: what the rows may give
known()
{
	lines_of "$HERE/known" "$1"
	is_patched "$1" || lines_of "$HERE/known" "$1-debian"
}

compare()
{
	local arch

	for arch in $ARCH; do
		BETTER=1 side_by_side "$arch" 24 <(known "$arch") <(results "$arch" base) <(results "$arch" series)
	done >"$TABLE"
	cat "$TABLE"
	figures
	awk '{ n++ } / WRONG/ { wrong++ } $3 == "pass" && $4 == "pass" { both++ } $3 == "skip" && $4 == "skip" { skip++ }
		END { printf "check-qemu: %d rows, %d pass on both, %d skip on both, %d wrong\n", n, both, skip, wrong
		      exit (wrong || !n) }' "$TABLE"
}

known_arches "$ARCH"
[ -z "${COUNT:-}" ] || [ "$COUNT" -ge 1 ] 2>/dev/null ||
	die "COUNT=$COUNT is not a number of 1 or more" "COUNT=5"
for word in ${ROWS:-}; do
	found=
	for arch in $ARCH; do
		while read -r name _; do
			# shellcheck disable=SC2053 # a pattern is wanted
			[[ $name != $word ]] || { found=1; break; }
		done < <(rows_of "$arch" full)
	done
	[ -n "$found" ] || die "ROWS=$word names no row of $ARCH" "scripts/lanes/qemu.sh rows riscv"
done
check_sides
case ${1:-run} in
run|rerun)
	mkdir -p "$BUILD/log" "$OUT"
	record "${TABLE%.txt}.run" "arch: $ARCH" "rows: ${ROWS:-}" "sides: ${SIDES:-}"
	for arch in $ARCH; do
		kernel=$(guest_kernel "$arch")
		for on in ${SIDES:-base series}; do
			[ "${1:-run}" = rerun ] ||
				ON=$on "$TOP/scripts/check.sh" build "$arch" >"$BUILD/log/check-qemu-build-$arch-$on.log" 2>&1 ||
				DIE_STATUS=3 die "$arch does not build on the $on" "see $BUILD/log/check-qemu-build-$arch-$on.log"
			prepare "$arch" "$on" "$kernel" full
			say "$arch, on the $on:"
			status=0
			boot "$arch" "$on" full || status=$?
			[ "$status" -le 1 ] || say "  $arch $on: ended early (status $status)"
		done
	done
	compare_last
	;;
compare)
	compare
	;;
short)
	status=0
	for arch in $ARCH; do
		prepare "$arch" "${ON:-series}" "$(image_of "$(tree_of "${ON:-series}")" "$arch" "$SUFFIX")" short
		boot "$arch" "${ON:-series}" short || status=$?
	done
	exit "$status"
	;;
guest-kernel)
	known_arches "${2:-none}"
	mkdir -p "$OUT"
	guest_kernel "$2"
	;;
get)
	known_arches "${2:-none}"
	get "$2"
	;;
has)
	known_arches "${2:-none}"
	facts "$2"
	[ -n "$VMM_QEMU_DIR" ] || cached "qemu-$DEBIAN" >/dev/null
	;;
rows)
	known_arches "${2:-none}"
	rows_of "$2" "${3:-full}"
	;;
*)
	die "qemu.sh knows rerun, compare, short, get, has, rows, guest-kernel, not \"$1\"" "make check-qemu"
	;;
esac
