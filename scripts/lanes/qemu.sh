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
#	qemu.sh rows ARCH	the rows
#	qemu.sh guest-kernel ARCH	build the guest's kernel, print where it is
#
# Environment: ARCH; ROWS, patterns of names of rows, such as "reset_* boot_2*"; COUNT,
# how often a row does what it does, at most; SIDES, of base series: series keeps the
# results of the base; SEED, of the random moments; GUEST_KERNEL, the image to boot
# as the guest, in place of one that is built; VMM_QEMU_DIR, where another QEMU is:
# DIR/usr/bin/qemu-system-ARCH with DIR/usr/lib and DIR/usr/share/qemu, or the same
# below DIR/ARCH; libraries that it has not got are Debian's.

. "$(dirname -- "$0")/../common.sh"

ARCH=${ARCH:-riscv arm64 x86}
RUNNER=${RUNNER:-tools/testing/selftests/kvm/qemu}
SUFFIX=${SUFFIX:-}
SEED=${SEED:-1}
VMM_QEMU_DIR=${VMM_QEMU_DIR:-}
OUT=$BUILD/check-qemu$SUFFIX
HERE=$TOP/scripts/lanes/qemu
TABLE=$BUILD/check-qemu$SUFFIX.txt

# ---- QEMU --------------------------------------------------------------------

facts()		# facts ARCH: DEBIAN, the architecture there; PROGRAM; PACKAGES; FIRMWARE
{
	FIRMWARE=()
	case $1 in
	riscv) DEBIAN=riscv64 PROGRAM=qemu-system-riscv64 PACKAGES=(qemu-system-riscv) ;;
	arm64) DEBIAN=arm64 PROGRAM=qemu-system-aarch64 PACKAGES=(qemu-system-arm) ;;
	x86)
		DEBIAN=amd64 PROGRAM=qemu-system-x86_64 PACKAGES=(qemu-system-x86 qemu-system-data seabios)
		FIRMWARE=(bios-256k.bin linuxboot_dma.bin kvmvapic.bin)
		;;
	esac
}

# copy_closure FROM PROGRAM TO ROOT...: a program, what it needs of FROM or of the
# ROOTs, and its loader
copy_closure()
{
	local from=$1 to=$3 file name path loader
	local -a roots=("$1" "${@:4}") todo=("$2")
	local -A seen=()

	mkdir -p "$to/usr/bin" "$to/usr/lib"
	cp -L -- "$from/usr/bin/$2" "$to/usr/bin/"
	loader=$(readelf -lW "$to/usr/bin/$2" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
	[ -n "$loader" ] || return 0	# static
	todo=("$to/usr/bin/$2" "$loader")
	while [ ${#todo[@]} -gt 0 ]; do
		file=${todo[0]}
		todo=("${todo[@]:1}")
		if [ "$file" = "$loader" ]; then
			path=$(find "${roots[@]/%//}" -name "${loader##*/}" ! -type d -print -quit 2>/dev/null)
			[ -n "$path" ] || die "$from has no ${loader##*/}" "it needs its libc there, or Debian's"
			mkdir -p "$to${loader%/*}"
			cp -L -- "$path" "$to$loader"
			continue
		fi
		while read -r name; do
			[ -z "${seen[$name]:-}" ] && [ "$name" != "${loader##*/}" ] || continue
			seen[$name]=1
			path=$(find "${roots[@]/%//}" -name "$name" ! -type d -path '*/lib/*' -print -quit 2>/dev/null)
			[ -n "$path" ] || die "$2 needs $name, which is not in ${roots[*]}" "put it below $from/usr/lib"
			cp -L -- "$path" "$to/usr/lib/$name"
			todo+=("$to/usr/lib/$name")
		done < <(readelf -dW "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
	done
}

# copy_firmware FROM TO NAME...
copy_firmware()
{
	local from=$1 to=$2 name path
	shift 2

	mkdir -p "$to/usr/share/qemu"
	for name; do
		path=$(find "$from/usr/share/" -name "$name" -type f -print -quit 2>/dev/null || :)
		[ -z "$path" ] || cp -L -- "$path" "$to/usr/share/qemu/"
	done
}

# get ARCH: Debian's
get()
{
	local dir tmp version
	local -a libraries

	facts "$1"
	for dir in "$CACHE/qemu-$DEBIAN-"*; do
		[ ! -e "$dir/complete" ] || { printf '%s\n' "$dir"; return; }
	done
	command -v apt-get >/dev/null || die "only Debian's apt can fetch QEMU for $DEBIAN" \
		"give VMM_QEMU_DIR=/a/directory/with/usr/bin/$PROGRAM"
	need_space "$CACHE" 600
	tmp=$(mktemp -d "$CACHE/qemu.new.XXXXXX")
	# shellcheck disable=SC2064 # now
	trap "rm -rf -- '$tmp'" EXIT
	mkdir -p "$tmp/deb" "$tmp/root" "$tmp/new"
	apt_suites "$tmp" "$DEBIAN" "$(debian_mirror)" trixie ||
		die "apt knows no Debian archive to fetch QEMU from" "apt-get update"
	# apt finds all that it depends on; only libraries are of use to what is not installed.
	if ! apt-get "${APT[@]}" -qq update >"$tmp/log" 2>&1 ||
	   ! apt-get "${APT[@]}" -y --no-install-recommends --print-uris install "${PACKAGES[@]}" >"$tmp/uris" 2>"$tmp/log" ||
	   ! mapfile -t libraries < <(sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p" "$tmp/uris" | grep -E '^(lib|zlib)') ||
	   ! (cd "$tmp/deb" && apt-get "${APT[@]}" -qq download "${PACKAGES[@]}" "${libraries[@]}") >"$tmp/log" 2>&1; then
		tail -n 5 "$tmp/log" >&2
		die "apt could not fetch QEMU for $DEBIAN" "check the network, or give VMM_QEMU_DIR="
	fi
	for dir in "$tmp"/deb/*.deb; do
		dpkg-deb -x "$dir" "$tmp/root"
	done
	copy_closure "$tmp/root" "$PROGRAM" "$tmp/new"
	copy_firmware "$tmp/root" "$tmp/new" "${FIRMWARE[@]}"
	(cd "$tmp/deb" && printf '%s\n' *.deb) >"$tmp/new/complete"
	version=$(sed -n "s/^${PACKAGES[0]}_\(.*\)_$DEBIAN\.deb$/\1/p" "$tmp/new/complete" | sed 's/^[0-9]*%3a//')
	dir=$CACHE/qemu-$DEBIAN-$version
	rm -rf -- "$dir"
	mv -- "$tmp/new" "$dir"
	rm -rf -- "$tmp"
	trap - EXIT
	printf '%s\n' "$dir"
}

# root_of ARCH TO: what the virtual machine gets
root_of()
{
	local dir from debian

	facts "$1"
	if [ -z "$VMM_QEMU_DIR" ]; then
		dir=$(get "$1")
		mkdir -p "$2"
		cp -r -- "$dir/." "$2"
		rm -f "$2/complete"
		return
	fi
	for from in "$VMM_QEMU_DIR/$1" "$VMM_QEMU_DIR"; do
		[ ! -x "$from/usr/bin/$PROGRAM" ] || break
	done
	[ -x "$from/usr/bin/$PROGRAM" ] || die "VMM_QEMU_DIR=$VMM_QEMU_DIR has no usr/bin/$PROGRAM" "make qemu"
	debian=$(get "$1")
	copy_closure "$from" "$PROGRAM" "$2" "$debian"
	copy_firmware "$debian" "$2" "${FIRMWARE[@]}"
	copy_firmware "$from" "$2" "${FIRMWARE[@]}"
}

# ---- rows --------------------------------------------------------------------

# rows_of ARCH full|short: "NAME ARGUMENTS of driver.c". A machine other than the
# first is at the end of the name.
rows_of()
{
	local cpus machine row count

	if [ "$2" = short ]; then
		while read -r row cpus count; do
			[ "$1-$row" != riscv-save-load ] || cpus=1
			printf '%s_%s row=%s cpus=%s count=%s\n' "${row//-/_}" "$cpus" "$row" "$cpus" "$count"
		done <<-END
			reboot 2 1
			reset 2 2
			save-load 2 1
		END
		return
	fi
	# QEMU does not save which CPUs of riscv are started: one has to do.
	if [ "$1" = riscv ]; then
		printf '%s row=%s cpus=1 count=%s\n' \
			save_boot_1 save-boot "${COUNT:-20}" save_load_1 save-load "${COUNT:-20}"
	fi
	for cpus in 2 4; do
		for machine in '' $([ "$1" != riscv ] || echo aia); do
			while read -r row count; do
				[ -z "${COUNT:-}" ] || [ "$COUNT" -ge "$count" ] || count=$COUNT
				printf '%s_%s%s row=%s cpus=%s count=%s%s\n' "${row//-/_}" "$cpus" "${machine:+_$machine}" \
					"$row" "$cpus" "$count" "${machine:+ args=/qemu/args-$machine}"
			done <<-END
				boot 3
				reboot 10
				reset 20
				hotplug 10
				stop 20
				suspend 5
				kexec 5
				save-boot 20
				save-start 20
				save-load 20
			END
		done
	done
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
	facts "$1"
	printf '%s\n' "/usr/bin/$PROGRAM" -nodefaults -no-user-config -display none \
		-accel kvm -cpu host -m 128 -kernel /qemu/kernel -L /usr/share/qemu
	case $1-${2:-} in
	riscv-) printf '%s\n' -M virt ;;
	riscv-aia) printf '%s\n' -M "virt,aia=aplic-imsic" ;;
	arm64-) printf '%s\n' -M virt,gic-version=3 ;;
	x86-) printf '%s\n' -M q35 -global ICH9-LPC.disable_s3=0 ;;
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
	env -u ARCH -u TESTS -u SKIP -u VARIANT -u QEMU -u KERNEL -u BUILD -u VERSION -u SUFFIX -u ON -u PROFILE \
		"$TREE/$RUNNER/run.sh" "ARCH=$arch" "KERNEL_PATH=$tree" \
		"KERNEL_BUILD_PATH=$tree/out-$arch$SUFFIX" "BUILD_PATH=$OUT/$arch-$on" \
		"NR_CPUS=${NR_CPUS:-4}" "MEMORY=${MEMORY:-2048}M" "BOOT_TIMEOUT=$((${BOOT_TIMEOUT:-120}))" \
		"V=${V:-0}" ${QEMU:+"QEMU=$QEMU"} "$@"
}

tree_of() { if [ "$1" = base ]; then ON=base "$TOP/scripts/check.sh" base-path; else printf '%s\n' "$TREE"; fi; }

image_of() { ON=$2 ARCH=$1 "$TOP/scripts/check.sh" image-path; }

# guest_kernel ARCH: of the base, with what the rows need
guest_kernel()
{
	local tree dir

	if [ -n "${GUEST_KERNEL:-}" ]; then
		[ -r "$GUEST_KERNEL" ] || die "GUEST_KERNEL=$GUEST_KERNEL can not be read"
		printf '%s\n' "$GUEST_KERNEL"
		return
	fi
	tree=$(tree_of base)
	dir=$tree/out-$1$SUFFIX-guest
	if [ "${USE_CCACHE:-n}" = y ]; then
		export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
	fi
	runner "$1" base kernel "KERNEL_BUILD_PATH=$dir" "BUILD_PATH=$OUT/$1-guest" \
		"KCONFIG_FRAGMENT=$HERE/guest.config" ${CCACHE_DIR:+CCACHE=ccache} >&2 || DIE_STATUS=3 \
		die "the guest's kernel does not build for $1" "see $OUT/$1-guest/logs"
	case $1 in
	x86) say "$dir/arch/x86/boot/bzImage" ;;
	*) say "$dir/arch/$1/boot/Image" ;;
	esac
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
	[ "$arch" != riscv ] || qemu_args "$arch" aia >"$root/qemu/args-aia"
	pack "$root" "$dir/payload.cpio"
	cat "$BUILD/$arch$SUFFIX/initramfs/base.cpio" "$dir/payload.cpio" >"$dir/initramfs/base.cpio"
	rm -rf -- "$root" "$dir/payload.cpio"
	echo "timeout=600" >"$install/settings"
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
		runner "$1" "$2" rerun "CMDLINE=$([ "$1" != x86 ] || echo no_timer_check)" "TIMEOUT=$([ "$3" = full ] && echo 3000 || echo 400)" TIMEOUT_SCALE=1
	) || status=$?
	return "$status"
}

# ---- comparing ---------------------------------------------------------------

# results ARCH ON: "NAME RESULT" of the rows that were to run
results()
{
	local file dir=$OUT/$1-$2

	{
		for file in "$dir/results/"*.ktap; do
			[ ! -e "$file" ] || sed -nE \
				-e 's/^ok [0-9]+ (- )?(kvm:)?qemu_([^ ]+).*# SKIP.*/\3 skip/p; t' \
				-e 's/^ok [0-9]+ (- )?(kvm:)?qemu_([^ ]+).*/\3 pass/p; t' \
				-e 's/^not ok [0-9]+ (- )?(kvm:)?qemu_([^ ]+) # kernel: .*/\3 splat/p; t' \
				-e 's/^not ok [0-9]+ (- )?(kvm:)?qemu_([^ ]+).*/\3 fail/p' "$file"
		done
		[ ! -e "$dir/tests" ] || sed 's/^kvm:qemu_\([^ ]*\) .*/\1 none/' "$dir/tests"
	} | awk '!seen[$1]++' | LC_ALL=C sort
}

compare()
{
	local arch

	: >"$TABLE"
	for arch in $ARCH; do
		LC_ALL=C join -a 1 -a 2 -e none -o 0,1.2,2.2 <(results "$arch" base) <(results "$arch" series) |
		awk -v arch="$arch" '
		function mine(list) { return list == "*" || index("," list ",", "," arch ",") }
		FILENAME == ARGV[1] {
			line = $0; sub(/#.*/, "", line); n = split(line, f, /[ \t]+/)
			if (n >= 4 && mine(f[1])) {
				b[f[2]] = f[3]; s[f[2]] = f[4]
				sub(/^[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]*/, "", line); why[f[2]] = line
			}
			next
		}
		{
			key = ($1 in b) ? $1 : ""
			short = $1; sub(/_[0-9]+/, "_*", short)
			if (key == "" && (short in b)) key = short
			verdict = "ok"
			if ($3 == "splat" || $3 == "none")
				verdict = "WRONG"
			else if (key != "") {
				if ((b[key] != "any" && b[key] != $2) || (s[key] != "any" && s[key] != $3))
					verdict = "WRONG (expected " b[key] " and " s[key] ")"
			} else if ($3 == "fail" || ($3 == "skip" && $2 != "skip") || $2 == "none")
				verdict = "WRONG"
			else if ($2 != $3)
				verdict = "ok, better"
			printf "%-6s %-24s %-6s %-6s %s%s\n", arch, $1, $2, $3, verdict, key != "" ? ": " why[key] : ""
		}' "$HERE/known" - >>"$TABLE"
	done
	cat "$TABLE"
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
for on in ${SIDES:-}; do
	[[ $on == base || $on == series ]] || die "SIDES=$on is neither base nor series" "SIDES=series"
done
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
	status=0
	compare || status=$?
	recorded "${TABLE%.txt}.run"
	exit "$status"
	;;
compare)
	compare
	;;
short)
	status=0
	for arch in $ARCH; do
		prepare "$arch" "${ON:-series}" "$(image_of "$arch" "${ON:-series}")" short
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
rows)
	known_arches "${2:-none}"
	rows_of "$2" "${3:-full}"
	;;
*)
	die "qemu.sh knows rerun, compare, short, get, rows and guest-kernel, not \"$1\"" "make check-qemu"
	;;
esac
