#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The steps of the Makefile next to this file, which sets the KQ_* variables.
# Each step does only what is out of date.  What a step makes is written under
# another name first, so that an interrupted build can go on.

set -u -o pipefail
export LC_ALL=C

: "${KQ_HERE:?start this with make, see the Makefile}"

# Variables of our make's command line are none of kbuild's business.
export MAKEFLAGS="${MAKEFLAGS-}"
MAKEFLAGS="${MAKEFLAGS%% -- *}"
[[ $MAKEFLAGS == "-- "* ]] && MAKEFLAGS=
unset MAKEOVERRIDES MAKELEVEL CFLAGS CPPFLAGS LDFLAGS LDLIBS

ksft_out=$KQ_BUILD/selftests		# O= of the selftests
ksft_dir=$KQ_TREE/tools/testing/selftests
install_dir=$KQ_BUILD/kselftest_install
list_file=$install_dir/kselftest-list.txt
pieces=$KQ_BUILD/initramfs
logs=$KQ_BUILD/logs
results=$KQ_BUILD/results

say()
{
	printf '%s\n' "$*"
}

# finish CODE REASON...: how the run as a whole has ended
finish()
{
	local code=$1

	shift
	mkdir -p "$results"
	say "$code $*" > "$results/$KQ_VARIANT.status"
	[ "$code" -eq 0 ] || say "result: $* ($code)" >&2
	exit "$code"
}

seconds_since()
{
	local us=$(( ${EPOCHREALTIME/./} - ${1/./} ))

	printf '%d.%d s' $((us / 1000000)) $((us % 1000000 / 100000))
}

# logged NAME COMMAND...: output goes to a log, its errors to the terminal too
logged()
{
	local log=$logs/$1.log start=$EPOCHREALTIME rc=0

	shift
	mkdir -p "$logs"
	if [ "$KQ_V" = 1 ]; then
		say "+ $*"
		"$@" < /dev/null 2>&1 | tee "$log" || rc=1
	else
		"$@" < /dev/null > "$log" 2>&1 || rc=1
	fi
	last_time=$(seconds_since "$start")
	return $rc
}

show_errors()
{
	local log=$logs/$1.log

	[ "$KQ_V" = 1 ] ||
		grep -E -m 12 'error|Error|undefined|\*\*\*|not clean|No such' \
			"$log" | sed 's/^/    /' >&2
	say "    log: $log" >&2
}

# ---- tools -----------------------------------------------------------------

missing=()

need()		# need COMMAND DEBIAN-PACKAGE
{
	command -v "${1%% *}" > /dev/null ||
		missing+=("$(printf '%-28s %s' "${1%% *}" "$2")")
}

older_than()	# older_than FOUND NEEDED
{
	[ "$1" != "$2" ] &&
		[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

check_qemu()
{
	local version

	# A QEMU which is there and does not work is for run.sh to tell.
	version=$("$KQ_QEMU" --version 2> /dev/null |
		  sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
	if [ -n "$version" ] && older_than "$version" "$KQ_MIN_QEMU"; then
		say "$KQ_QEMU is version $version, $KQ_ARCH needs $KQ_MIN_QEMU or later" >&2
		say "(a distribution's backports may have it, or set QEMU=)" >&2
		finish 2 "$KQ_QEMU is too old: $version, needed $KQ_MIN_QEMU"
	fi
}

cc_kernel=()		# CC= for kbuild, if it is not the default
cc_user=()		# CC= for the selftests, if it is not the default
ldflags=-static		# for $cc: the virtual machine has no libraries

choose_compiler()
{
	local prefix='' suffix='' clang target

	case $KQ_LLVM in
	'')	cc=${KQ_CC:-${KQ_CROSS}gcc} ;;
	*)	case $KQ_LLVM in
		*/)	prefix=$KQ_LLVM ;;
		-*)	suffix=$KQ_LLVM ;;
		esac
		clang=${KQ_CC:-${prefix}clang$suffix}
		case $KQ_ARCH in
		riscv)	target=riscv64-linux-gnu ;;
		arm64)	target=aarch64-linux-gnu ;;
		*)	target=x86_64-linux-gnu ;;
		esac
		cc="$clang --target=$target -fintegrated-as" ;;
	esac
	strip=${KQ_CROSS}strip
	if [ -n "$KQ_LLVM" ]; then
		strip=${prefix}llvm-strip$suffix
		# GNU ld 2.40 crashes with what clang makes of the tests for riscv.
		ldflags+=' -fuse-ld=lld'
	fi
	if [ -n "$KQ_CC$KQ_CCACHE" ]; then
		cc_user=("CC=${KQ_CCACHE:+$KQ_CCACHE }$cc")
		[ -n "$KQ_LLVM" ] && cc=$clang
		cc_kernel=("CC=${KQ_CCACHE:+$KQ_CCACHE }$cc")
		[ -n "$KQ_LLVM" ] && cc="$clang --target=$target -fintegrated-as"
	fi
	if [ -n "$KQ_CCACHE" ]; then
		# The same objects tomorrow, and on another machine.
		export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970'
		export KBUILD_BUILD_USER=kvm KBUILD_BUILD_HOST=selftests
	fi
}

check_tools()		# check_tools build|boot
{
	local t

	missing=()
	need flock util-linux
	need cpio "cpio"
	need awk mawk
	if [ "$1" = build ]; then
		if [ -n "$KQ_LLVM" ]; then
			need "$cc" clang
			need "${cc/clang/ld.lld}" lld
			need "$strip" llvm
		else
			need "$cc" "gcc${KQ_CROSS:+-$KQ_CROSS_PKG}"
			need "${KQ_CROSS}ld" "binutils${KQ_CROSS:+-$KQ_CROSS_PKG}"
			need "$strip" "binutils${KQ_CROSS:+-$KQ_CROSS_PKG}"
		fi
		[ -z "$KQ_CCACHE" ] || need "$KQ_CCACHE" "${KQ_CCACHE##*/}"
		for t in gcc:gcc flex:flex bison:bison bc:bc rsync:rsync \
			 make:make perl:perl xargs:findutils; do
			need "${t%:*}" "${t#*:}"
		done
		if [ "$KQ_ARCH" = x86 ] && command -v gcc > /dev/null &&
		   ! echo '#include <gelf.h>' | gcc -E - > /dev/null 2>&1; then
			missing+=("$(printf '%-28s %s' gelf.h libelf-dev)")
		fi
	fi
	if [ "$2" = qemu ]; then
		# A QEMU of the user's that is not there: could not start.
		if [ "$KQ_QEMU" = "$KQ_QEMU_DEFAULT" ]; then
			need "$KQ_QEMU" "$KQ_QEMU_PKG"
		elif ! command -v "$KQ_QEMU" > /dev/null; then
			finish 4 "QEMU=$KQ_QEMU could not start: no such program"
		fi
	fi
	if [ "${#missing[@]}" -gt 0 ]; then
		say "These are missing (and the Debian package which has each):" >&2
		printf '  %s\n' "${missing[@]}" >&2
		say "  apt-get install$(printf '%s\n' "${missing[@]}" |
			awk '!seen[$2]++ { printf " %s", $2 }')" >&2
		finish 2 "missing tools"
	fi
	[ "$2" != qemu ] || check_qemu
}

# The compiler in use; and whether it makes static programs, which can not be
# told from a file name.
check_compiler()
{
	local id stamp=$KQ_BUILD/toolchain tmp=$KQ_BUILD/.try

	id="$cc${ldflags#-static} $KQ_CCACHE $($cc --version | head -n 1) $KQ_CROSS"
	mkdir -p "$KQ_BUILD"
	[ "$id" = "$(cat "$stamp" 2> /dev/null)" ] && return
	echo 'int main(void) { return 0; }' > "$tmp.c"
	# shellcheck disable=SC2086 # cc and ldflags have options
	if ! $cc $ldflags -pthread "$tmp.c" -o "$tmp" 2> "$tmp.log"; then
		sed 's/^/    /' "$tmp.log" >&2
		if [ -n "$KQ_CROSS$KQ_LLVM" ]; then
			say "$cc can not make a static program (Debian package: $KQ_LIBC_PKG)" >&2
		else
			say "$cc can not make a static program (Debian package: libc6-dev)" >&2
		fi
		finish 2 "no static C library for $KQ_ARCH"
	fi
	# What another compiler has made is of no use.
	rm -rf "$tmp" "$tmp.c" "$tmp.log" "$ksft_out" "$install_dir" "$pieces"
	say "$id" > "$stamp"
}

# ---- kernel ----------------------------------------------------------------

jobs_arg()
{
	case " $MAKEFLAGS " in
	*" -j"*|*jobserver*)	;;
	*)	say "-j$KQ_JOBS" ;;
	esac
}

kbuild()		# kbuild TREE OUTPUT GOALS AND VARIABLES...
{
	local tree=$1 out=$2

	shift 2
	# shellcheck disable=SC2046 # nothing or one word
	make $(jobs_arg) -C "$tree" O="$out" ARCH="$KQ_ARCH" \
		CROSS_COMPILE="$KQ_CROSS" LLVM="$KQ_LLVM" \
		"${cc_kernel[@]}" "$@"
}

fragments()
{
	say "$KQ_HERE/kernel.config"
	say "$KQ_HERE/arch/$KQ_ARCH.config"
	[ -z "$KQ_PROFILE" ] || say "$KQ_HERE/$KQ_PROFILE.config"
	if [ -n "$KQ_PROFILE" ] &&
	   [ -e "$KQ_HERE/arch/$KQ_ARCH-$KQ_PROFILE.config" ]; then
		say "$KQ_HERE/arch/$KQ_ARCH-$KQ_PROFILE.config"
	fi
	[ -z "$KQ_GDB" ] || say "$KQ_HERE/gdb.config"
	[ -z "$KQ_FRAGMENT" ] || realpath -e "$KQ_FRAGMENT" ||
		finish 2 "KCONFIG_FRAGMENT=$KQ_FRAGMENT: no such file"
}

# Print what .config says otherwise than the fragments asked.
config_differs()	# config_differs WANTED GOT
{
	awk '
	function name(line) {
		sub(/^# /, "", line)
		sub(/[= ].*/, "", line)
		return line
	}
	function value(line) {
		if (line ~ / is not set$/)
			return "n"
		sub(/^[^=]*=/, "", line)
		return line
	}
	!/^(# )?CONFIG_[A-Za-z0-9_]+(=| is not set$)/ { next }
	FNR == NR { want[name($0)] = value($0); next }
	{ got[name($0)] = value($0) }
	END {
		for (n in want) {
			g = (n in got) ? got[n] : "n"
			if (g != want[n])
				printf "%s: asked for %s, got %s\n", n, want[n], g
		}
	}' "$1" "$2" | sort
}

kconfig_changed()	# since the configuration was made
{
	local cmd=$KQ_KERNEL_BUILD/include/config/auto.conf.cmd

	[ -e "$cmd" ] || return 1
	[ -n "$(cd "$KQ_KERNEL_PATH" &&
		grep -o '[^ ]*Kconfig[^ ]*' "$cmd" | grep -v '[$]' | sort -u |
		xargs -r -I{} find {} -newer "$1" 2>&1 | head -n 1)" ]
}

do_config()
{
	local dir=$KQ_KERNEL_BUILD want stamp id list diff

	want=$dir/.config.wanted
	stamp=$dir/.config.stamp
	mapfile -t list < <(fragments)
	id="$KQ_KERNEL_PATH $(cat "$KQ_BUILD/toolchain") $(cat "${list[@]}" | cksum)"
	if [ -e "$dir/.config" ] && [ "$id" = "$(cat "$stamp" 2> /dev/null)" ] &&
	   ! kconfig_changed "$stamp"; then
		return
	fi
	mkdir -p "$dir"
	rm -f "$stamp"
	if ! (cd "$dir" && : > .config.base && KCONFIG_CONFIG=$want \
	      "$KQ_KERNEL_PATH/scripts/kconfig/merge_config.sh" \
		-m -Q .config.base "${list[@]}") > "$dir/.config.log" 2>&1; then
		sed 's/^/    /' "$dir/.config.log" >&2
		finish 3 "could not merge the configuration"
	fi
	if ! logged config kbuild "$KQ_KERNEL_PATH" "$dir" \
		KCONFIG_ALLCONFIG="$want" allnoconfig; then
		show_errors config
		finish 3 "could not configure the kernel"
	fi
	diff=$(config_differs "$want" "$dir/.config")
	if [ -n "$diff" ]; then
		say "These options did not end up as the configuration asks:" >&2
		say "$diff" | sed 's/^/    /' >&2
		finish 3 "could not configure the kernel as asked"
	fi
	say "$id" > "$stamp"
	say "  config     $dir/.config"
}

do_kernel()
{
	do_config
	say "  kernel     building ..."
	logged kernel kbuild "$KQ_KERNEL_PATH" "$KQ_KERNEL_BUILD" \
		"${KQ_IMAGE##*/}" || {
		show_errors kernel
		finish 3 "could not build the kernel"
	}
	say "  kernel     $last_time"
}

# ---- selftests -------------------------------------------------------------

ksft()			# ksft DIRECTORY GOALS AND VARIABLES...
{
	local dir=$1

	shift
	# shellcheck disable=SC2046 # nothing or one word
	make $(jobs_arg) -C "$dir" TARGETS=kvm O="$ksft_out" \
		ARCH="$KQ_ARCH" CROSS_COMPILE="$KQ_CROSS" LLVM="$KQ_LLVM" \
		USERLDFLAGS="$ldflags" abs_objdir="$ksft_out" \
		KSFT_INSTALL_PATH="$install_dir" "${cc_user[@]}" "$@"
}

# The Makefile of the tests alone: no detour over the one of all selftests.
ksft_kvm()
{
	ksft "$ksft_dir/kvm" OUTPUT="$ksft_out/kselftest/kvm" \
		KHDR_INCLUDES="-isystem $ksft_out/usr/include" "$@"
}

# Every test that there ought to be, as "name path", for programs and scripts.
do_list()
{
	local names=$KQ_BUILD/tests f

	if [ -s "$names" ]; then
		for f in "$ksft_dir/kvm/Makefile" "$ksft_dir/kvm/Makefile.kvm" \
			 "$ksft_dir/lib.mk" "$KQ_BUILD/toolchain"; do
			[ "$f" -nt "$names" ] && break
			f=
		done
		[ -z "$f" ] && return
	fi
	# shellcheck disable=SC2016 # make expands them
	if ! MAKEFLAGS='' ksft_kvm -s --no-print-directory --eval='kq-list: ;
		@printf "%s\n" $(TEST_GEN_PROGS) $(TEST_CUSTOM_PROGS) $(TEST_PROGS)' \
		kq-list 2> "$names.log" |
		awk 'NF { n = $1; sub(/.*\//, "", n); print "kvm:" n, $1 }' \
		> "$names.tmp" || [ ! -s "$names.tmp" ]; then
		sed 's/^/    /' "$names.log" >&2
		finish 3 "could not list the tests"
	fi
	mv "$names.tmp" "$names"
}

do_headers()
{
	local stamp=$ksft_out/.headers

	if [ -e "$stamp" ] &&
	   [ -z "$(find "$KQ_TREE/include/uapi" "$KQ_TREE/arch/$KQ_ARCH/include/uapi" \
			"$KQ_TREE/Makefile" -newer "$stamp" -print -quit)" ]; then
		return
	fi
	rm -f "$stamp"
	mkdir -p "$ksft_out"
	touch "$stamp.new"
	logged headers kbuild "$KQ_TREE" "$ksft_out" headers || {
		show_errors headers
		finish 3 "could not make the headers of $KQ_TREE"
	}
	mv "$stamp.new" "$stamp"
	say "  headers    $last_time"
}

# drop_stale PROGRAM...: remove those that are older than their sources.  What
# is not built from the source at hand must not give a verdict.
drop_stale()
{
	local half=$(($# / 2))

	[ $# -gt 0 ] || return
	MAKEFLAGS='' ksft_kvm -q "$@" > /dev/null 2>&1 && return
	if [ $# -eq 1 ]; then
		rm -f "$1" "$install_dir/kvm/${1##*/}"
		unbuilt+=("${1##*/}")
		return
	fi
	drop_stale "${@:1:half}"
	drop_stale "${@:half+1}"
}

find_unbuilt()
{
	local path old=()

	while read -r _ path; do
		case $path in
		/*)	;;
		*)	continue ;;	# a script
		esac
		if [ -e "$path" ]; then
			old+=("$path")
		else
			unbuilt+=("${path##*/}")
		fi
	done < "$KQ_BUILD/tests"
	drop_stale ${old[@]+"${old[@]}"}
}

do_selftests()
{
	local stamp=$install_dir/.stamp rc=0 good t args=() path start

	do_headers
	do_list
	start=$EPOCHREALTIME
	mkdir -p "$ksft_out/kselftest/kvm" "$ksft_out/tools"
	logged selftests ksft_kvm -k all || rc=1
	unbuilt=()
	if [ $rc -ne 0 ]; then
		find_unbuilt
		# Without the tests that did not build.  An override, for
		# TEST_GEN_PROGS itself has a rewrite in lib.mk.
		good=
		while read -r _ path; do
			for t in "${unbuilt[@]}"; do
				[ "${path##*/}" = "$t" ] && continue 2
			done
			case $path in
			/*)	good+=" ${path#"$ksft_out/kselftest/kvm/"}" ;;
			esac
		done < "$KQ_BUILD/tests"
		if [ -z "$good" ] && [ "${#unbuilt[@]}" -gt 0 ]; then
			show_errors selftests
			finish 3 "could not build the tests"
		fi
		args=("TEST_GEN_PROGS_$KQ_ARCH=$good")
	fi
	printf '%s\n' "${unbuilt[@]}" > "$KQ_BUILD/unbuilt"
	if [ ! -e "$stamp" ] || ! cmp -s "$KQ_BUILD/unbuilt" "$stamp" ||
	   [ -n "$(find "$ksft_out/kselftest/kvm" "$KQ_BUILD/tests" \
			"$ksft_dir/kvm/settings" "$ksft_dir/kvm/config" \
			"$ksft_dir/run_kselftest.sh" "$ksft_dir/kselftest" \
			"$ksft_dir"/kvm/*/*.sh \
			-type f ! -name '*.o' ! -name '*.d' -newer "$stamp" \
			-print -quit 2> /dev/null)" ]; then
		cp "$KQ_BUILD/unbuilt" "$KQ_BUILD/.stamp.new"
		logged install ksft "$ksft_dir" "${args[@]}" install || {
			show_errors install
			finish 3 "could not install the tests"
		}
		mv "$KQ_BUILD/.stamp.new" "$stamp"
	fi
	say "  selftests  $(seconds_since "$start")"
	if [ "${#unbuilt[@]}" -gt 0 ]; then
		say "  selftests  did not build: ${unbuilt[*]}"
		show_errors selftests
	fi
}

# ---- initramfs -------------------------------------------------------------

# One cpio archive for each test, and one for all else.  The kernel takes them
# one after the other, so run.sh picks the archives of the tests it wants.
pack()			# pack DIRECTORY ARCHIVE
{
	(cd "$1" && find . -mindepth 1 | sort |
	 cpio --quiet -o -H newc -R 0:0) > "$2.tmp" && mv "$2.tmp" "$2"
}

do_image()
{
	local root=$pieces/root one=$pieces/one init=$pieces/init f name start=$EPOCHREALTIME
	local base_files=() listed=' ' n=0

	mkdir -p "$pieces"
	if [ "$KQ_HERE/init.c" -nt "$init" ]; then
		# Not $strip: llvm-strip can't do it with static binaries.
		# shellcheck disable=SC2086 # cc has options
		$cc -D_GNU_SOURCE -std=gnu11 -O2 -Wall $ldflags -s \
			-I"$KQ_TREE/tools/include" "$KQ_HERE/init.c" -o "$init.tmp" ||
			finish 3 "could not build init"
		mv "$init.tmp" "$init"
	fi
	while IFS=: read -r _ name; do
		listed+="$name "
	done < "$list_file"

	for f in "$install_dir"/kvm/*; do
		name=${f##*/}
		case $listed in
		*" $name "*)	;;
		*)		base_files+=("$f"); continue ;;
		esac
		[ "$pieces/$name.cpio" -nt "$f" ] && continue
		rm -rf "$one"
		mkdir -p "$one/kselftest/kvm"
		$strip -o "$one/kselftest/kvm/$name" "$f" 2> /dev/null ||
			cp "$f" "$one/kselftest/kvm/$name"
		chmod 755 "$one/kselftest/kvm/$name"
		pack "$one" "$pieces/$name.cpio" || finish 3 "cpio failed"
		n=$((n + 1))
	done
	rm -rf "$one"
	# Tests that are gone, or did not build
	for f in "$pieces"/*.cpio; do
		name=${f##*/}
		name=${name%.cpio}
		case "$listed base run " in
		*" $name "*)	;;
		*)		rm -f "$f" ;;
		esac
	done

	rm -rf "$root"
	mkdir -p "$root/kselftest/kvm" "$root/bin" "$root/etc" "$root/dev" \
		"$root/proc" "$root/sys" "$root/tmp"
	cp "$init" "$root/init"
	# For whoami(1) in the scripts
	echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
	echo 'passwd: files' > "$root/etc/nsswitch.conf"
	for f in "${base_files[@]}"; do
		$strip -o "$root/kselftest/kvm/${f##*/}" "$f" 2> /dev/null ||
			cp "$f" "$root/kselftest/kvm/"
	done
	if [ -n "$KQ_BUSYBOX" ]; then
		[ -r "$KQ_BUSYBOX" ] || finish 2 "BUSYBOX=$KQ_BUSYBOX: no such file"
		cp "$KQ_BUSYBOX" "$root/bin/busybox"
		chmod 755 "$root/bin/busybox"
	fi
	pack "$root" "$pieces/base.cpio" || finish 3 "cpio failed"
	rm -rf "$root"
	[ $n -eq 0 ] || say "  image      $n tests packed, $(seconds_since "$start")"
}

# ---- main ------------------------------------------------------------------

lock()
{
	mkdir -p "$KQ_BUILD" || finish 2 "can not write to $KQ_BUILD"
	exec 9> "$KQ_BUILD/.lock"
	if ! flock -n 9; then
		say "waiting for another run on $KQ_BUILD ..."
		flock 9
	fi
}

unbuilt=()
last_time=
choose_compiler

case $1 in
help)
	;;
clean)
	check_tools boot none
	lock
	# Nothing but what these scripts have made: the paths may be anybody's.
	case $KQ_KERNEL_BUILD in
	"$KQ_BUILD"/*)	rm -rf "$KQ_KERNEL_BUILD" ;;
	*)		say "not removed: $KQ_KERNEL_BUILD" ;;
	esac
	rm -rf "$ksft_out" "$install_dir" "$pieces" "$logs" "$results"
	rm -f "$KQ_BUILD"/{toolchain,tests,tests.log,unbuilt,.stamp.new,.lock}
	rmdir "$KQ_BUILD" 2> /dev/null
	;;
list)
	check_tools build none
	lock
	check_compiler
	do_list
	cut -d ' ' -f 1 "$KQ_BUILD/tests"
	;;
config|kernel|selftests|image|build)
	check_tools build none
	lock
	check_compiler
	case $1 in
	config)		do_config ;;
	kernel)		do_kernel ;;
	selftests)	do_selftests ;;
	image)		do_selftests; do_image ;;
	build)		do_kernel; do_selftests; do_image ;;
	esac
	;;
run|shell|debug)
	check_tools build qemu
	lock
	check_compiler
	do_list
	"$KQ_HERE/run.sh" --check || exit
	do_kernel
	do_selftests
	do_image
	# It keeps the lock, and gets the signals that make sends.
	exec "$KQ_HERE/run.sh" "--$1"
	;;
rerun|initrd)
	check_tools boot "$([ "$1" = initrd ] && echo none || echo qemu)"
	lock
	if [ ! -e "$KQ_IMAGE" ] || [ ! -e "$pieces/base.cpio" ]; then
		say "Nothing is built yet: use \"make run\"" >&2
		finish 2 "nothing to rerun"
	fi
	[ "$1" = initrd ] || set -- run
	exec "$KQ_HERE/run.sh" "--$1"
	;;
*)
	say "unknown step $1" >&2
	exit 2
	;;
esac
