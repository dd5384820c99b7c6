# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by lanes/qemu.sh: Debian's QEMU of an architecture, or that of VMM_QEMU_DIR,
# with all that it needs to run elsewhere.

. "$TOP/scripts/debian.sh"

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
	local from=$1 to=$3 path loader libraries
	local -a roots=("$1" "${@:4}")

	mkdir -p "$to/usr/bin" "$to/usr/lib"
	cp -L -- "$from/usr/bin/$2" "$to/usr/bin/"
	loader=$(readelf -lW "$to/usr/bin/$2" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
	[ -n "$loader" ] || return 0	# static
	path=$(find "${roots[@]/%//}" -name "${loader##*/}" ! -type d -print -quit 2>/dev/null)
	[ -n "$path" ] || die "$from has no ${loader##*/}" "it needs its libc there, or Debian's"
	mkdir -p "$to${loader%/*}"
	cp -L -- "$path" "$to$loader"
	libraries=$(libraries_of roots "$to/usr/bin/$2")
	while read -r path; do
		[ -z "$path" ] || [ "${path##*/}" = "${loader##*/}" ] || cp -L -- "$path" "$to/usr/lib/"
	done <<<"$libraries"
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
	local tmp

	facts "$1"
	! cached "qemu-$DEBIAN" || return 0
	need_space "$CACHE" 600
	tmp=$(mktemp -d "$CACHE/qemu.new.XXXXXX")
	# shellcheck disable=SC2064 # now
	trap "rm -rf -- '$tmp'" EXIT
	fetch_debs "QEMU for $DEBIAN" "$tmp" "$DEBIAN" "give VMM_QEMU_DIR=/a/directory/with/usr/bin/$PROGRAM" "${PACKAGES[@]}"
	copy_closure "$tmp/root" "$PROGRAM" "$tmp/new"
	copy_firmware "$tmp/root" "$tmp/new" "${FIRMWARE[@]}"
	into_cache "qemu-$DEBIAN" "$tmp" "${PACKAGES[0]}"
	trap - EXIT
}

# vmm_dir ARCH: what VMM_QEMU_DIR has of it
vmm_dir()
{
	local from

	for from in "$VMM_QEMU_DIR/$1" "$VMM_QEMU_DIR"; do
		[ ! -x "$from/usr/bin/$PROGRAM" ] || break
	done
	[ -x "$from/usr/bin/$PROGRAM" ] || die "VMM_QEMU_DIR=$VMM_QEMU_DIR has no usr/bin/$PROGRAM" "make qemu"
	printf '%s\n' "$from"
}

# is_patched ARCH: is VMM_QEMU_DIR a QEMU of "make qemu"?
is_patched()
{
	local from

	[ -n "$VMM_QEMU_DIR" ] || return 1
	facts "$1"
	from=$(vmm_dir "$1")
	grep -q user-cpu-start "$from/usr/bin/$PROGRAM"
}

# root_of ARCH TO: what the virtual machine gets
root_of()
{
	local from debian

	facts "$1"
	debian=$(get "$1")
	mkdir -p "$2"
	if [ -z "$VMM_QEMU_DIR" ] || is_patched "$1"; then
		cp -r -- "$debian/." "$2"
		rm -f "$2/complete"
	fi
	[ -n "$VMM_QEMU_DIR" ] || return 0
	! is_patched "$1" || mv -- "$2/usr/bin/$PROGRAM" "$2/usr/bin/$PROGRAM-debian"
	from=$(vmm_dir "$1")
	copy_closure "$from" "$PROGRAM" "$2" "$debian"
	copy_firmware "$debian" "$2" "${FIRMWARE[@]}"
	copy_firmware "$from" "$2" "${FIRMWARE[@]}"
}
