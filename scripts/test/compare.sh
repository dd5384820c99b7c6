# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. table.sh and lanes/qemu.sh: base against series.

test_table()
{
	fresh
	local r=$BUILD/table
	mkdir -p "$r"
	printf '# none\nriscv\tdelta\tfail\tfail\tfails on the base for its own reasons\n' >patches/v7.3/results
	printf 'riscv\tbeta\targs\t-b 64M -i 4\n' >>patches/v7.3/results
	printf 'ok 1 kvm:alpha\nnot ok 2 kvm:beta # exit=254\nok 3 kvm:gamma # SKIP no such thing\nnot ok 4 kvm:delta\n' >"$r/riscv-aia-base.ktap"
	printf 'ok 1 kvm:alpha\nok 2 kvm:beta\nok 3 kvm:gamma # SKIP no such thing\nnot ok 4 kvm:delta\n' >"$r/riscv-aia-series.ktap"
	ok env ARCH=riscv scripts/lanes/table.sh compare
	has "$OUT" "4 rows, 1 pass on both, 1 skip on both, 2 named, 0 wrong"
	# A test whose result changes is caught, whichever way.
	sed -i 's/^ok 1 kvm:alpha/not ok 1 kvm:alpha/' "$r/riscv-aia-series.ktap"
	no 1 "alpha" env ARCH=riscv scripts/lanes/table.sh compare
	has "$OUT" "1 wrong"
	sed -i 's/^not ok 1 kvm:alpha/ok 1 kvm:alpha/; s/^ok 3 kvm:gamma.*/ok 3 kvm:gamma/' "$r/riscv-aia-series.ktap"
	no 1 "gamma" env ARCH=riscv scripts/lanes/table.sh compare
	# A test that is missing on one side is no match.
	sed -i '/gamma/d' "$r/riscv-aia-series.ktap"
	no 1 "gamma" env ARCH=riscv scripts/lanes/table.sh compare
	# A reproducer that passes on the base shows nothing, a known failure that is gone is news.
	sed -i 's/^not ok 2 kvm:beta.*/ok 2 kvm:beta/; /gamma/d' "$r/riscv-aia-base.ktap"
	no 1 "expected fail and pass" env ARCH=riscv scripts/lanes/table.sh compare
	sed -i 's/^ok 2 kvm:beta.*/not ok 2 kvm:beta/; s/^not ok 4/ok 4/' "$r"/riscv-aia-{base,series}.ktap
	no 1 "delta" env ARCH=riscv scripts/lanes/table.sh compare
	# What may fail may not make the kernel complain, on the series.
	printf 'riscv\tdelta\tany\tany\tdepends on the load\n' >patches/v7.3/results
	printf 'not ok 1 kvm:delta # kernel: WARNING: x\n' >"$r/riscv-aia-base.ktap"
	printf 'not ok 1 kvm:delta # exit=254\n' >"$r/riscv-aia-series.ktap"
	ok env ARCH=riscv scripts/lanes/table.sh compare
	cp "$r/riscv-aia-base.ktap" "$r/riscv-aia-series.ktap"
	no 1 "the kernel complained" env ARCH=riscv scripts/lanes/table.sh compare
	# Silence on both sides is no success.
	: >"$r/riscv-aia-base.ktap"
	: >"$r/riscv-aia-series.ktap"
	no 1 "0 rows" env ARCH=riscv scripts/lanes/table.sh compare
}

test_table_runs_both()
{
	fresh
	ok scripts/series.py tree
	fake_runner 'ok 1 kvm:alpha\nok 2 kvm:beta\n' 0
	sed -i 's/^echo.*/&; echo "args: $KSELFTEST_ALPHA_ARGS, not: $SKIP"/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	printf 'arm64\talpha\targs\t-b 64M -i 4\nx86,arm64\tbeta\tskip\tskip\ttoo long\n' >patches/v7.3/results
	mkdir -p "$BUILD/arm64"
	printf 'kvm:alpha x\nkvm:beta x\n' >"$BUILD/arm64/tests"
	# This runner does not heed SKIP.
	no 1 "expected skip and skip" env ARCH=arm64 scripts/lanes/table.sh
	has "$OUT" "arm64 base: 1 passed, 1 failed, 0 skipped"
	has "$OUT" "arm64 series: 2 passed, 0 failed, 0 skipped"
	has "$(cat "$BUILD/log/table-arm64-series.log")" "args: -b 64M -i 4, not: beta"
	# One test again: it fails on the series now, the other row stays.
	sed -i '/alpha/d' patches/v7.3/results
	sed -i 's/kvm:alpha\\nok 2 kvm:beta/kvm:alpha/; s/ok 1 kvm:alpha/not &/' "$L/tools/testing/selftests/kvm/qemu/run.sh"
	no 1 "2 rows, 0 pass on both" env TESTS=alpha ARCH=arm64 scripts/lanes/table.sh
	has "$(cat "$BUILD/table.txt")" "beta"
	# What "make check" ran is none of its business.
	mkdir -p "$BUILD/results"
	echo 'not ok 1 kvm:nvhe' >"$BUILD/results/arm64-vhe-series.ktap"
	no 1 "0 pass on both" env ARCH=arm64 scripts/lanes/table.sh compare
	! grep -q nvhe "$BUILD/table.txt" || bad "results of make check are in the table"
}

# What a row may be on the base and on the series.
test_qemu_compare()
{
	fresh
	local r=$BUILD/check-qemu b s
	b=$r/riscv-base/results/aia.ktap
	s=$r/riscv-series/results/aia.ktap
	mkdir -p "${b%/*}" "${s%/*}"
	compare() { env ARCH=riscv scripts/lanes/qemu.sh compare; }
	printf 'riscv\tsave_start_*\tfail\tfail\tQEMU does not save what matters\n' >scripts/lanes/qemu/known
	printf 'ok 1 kvm:qemu_boot_2\nnot ok 2 kvm:qemu_reset_4 # exit=1\nok 3 kvm:qemu_suspend_2 # SKIP no\nnot ok 4 kvm:qemu_save_start_2\n' >"$b"
	printf 'ok 1 kvm:qemu_boot_2\nok 2 kvm:qemu_reset_4\nok 3 kvm:qemu_suspend_2 # SKIP no\nnot ok 4 kvm:qemu_save_start_2\n' >"$s"
	ok compare
	has "$OUT" "4 rows, 1 pass on both, 1 skip on both, 0 wrong"
	has "$OUT" "QEMU does not save what matters"
	[[ $OUT =~ reset_4\ +fail\ +pass\ +ok,\ better ]] || bad "better is not said: $OUT"
	# Worse; the same failure on both that nobody has named; one that is named and gone.
	sed -i 's/^ok 1/not ok 1/' "$s"
	no 1 "1 wrong" compare
	sed -i 's/^ok 1/not ok 1/' "$b"
	no 1 "1 wrong" compare
	sed -i 's/^not ok 1/ok 1/' "$b" "$s"
	sed -i 's/^not ok 4/ok 4/' "$s"
	no 1 "expected fail and fail" compare
	# What Debian's QEMU lacks, one of "make qemu" may have.
	sed -i 's/^riscv/riscv-debian/' scripts/lanes/qemu/known
	no 1 "expected fail and fail" compare
	mkdir -p "$WORK/s/qemu/usr/bin"
	echo user-cpu-start >"$WORK/s/qemu/usr/bin/qemu-system-riscv64"
	chmod +x "$WORK/s/qemu/usr/bin/qemu-system-riscv64"
	ok env VMM_QEMU_DIR="$WORK/s/qemu" ARCH=riscv scripts/lanes/qemu.sh compare
	[[ $OUT =~ save_start_2\ +fail\ +pass\ +ok,\ better ]] || bad "$OUT"
	sed -i 's/^ok 4/not ok 4/; s/^ok 3.*/not ok 3 kvm:qemu_suspend_2 # kernel: WARNING: x/' "$s"
	no 1 "1 wrong" compare
	# What passed and is skipped now, and what is missing.
	sed -i 's/^not ok 3.*/ok 3 kvm:qemu_suspend_2 # SKIP no/; s/^ok 1.*/ok 1 kvm:qemu_boot_2 # SKIP no/' "$s"
	no 1 "1 wrong" compare
	sed -i 's/^ok 1.*/ok 1 kvm:qemu_boot_2/; /suspend/d' "$s"
	no 1 "1 wrong" compare
	# The virtual machine ended in the midst of it, on both.
	sed -i '/suspend/d' "$b"
	printf 'kvm:qemu_boot_2 x\nkvm:qemu_stop_2 x\n' | tee "$r/riscv-base/tests" >"$r/riscv-series/tests"
	no 1 "1 wrong" compare
	[[ $OUT =~ stop_2\ +none\ +none\ +WRONG ]] || bad "a row without a result is not said: $OUT"
	rm "$r"/riscv-{base,series}/tests
	: >"$b"
	: >"$s"
	no 1 "0 rows" compare
}

test_qemu_rows()
{
	fresh
	ok scripts/lanes/qemu.sh rows riscv
	has "$OUT" "reset_4_aia row=reset cpus=4 count=20 args=/qemu/args-aia"
	has "$OUT" "save_load_1 row=save-load cpus=1 count=20"
	is "$(printf '%s\n' "$OUT" | cut -d' ' -f1 | sort | uniq -d)" "" "(a row twice)"
	hasnt "$OUT" _pc
	ok env COUNT=4 scripts/lanes/qemu.sh rows x86
	has "$OUT" "suspend_2_pc row=suspend cpus=2 count=4 args=/qemu/args-pc"
	hasnt "$OUT" "row=suspend cpus=2 count=4"$'\n'
	has "$OUT" "reset_4 row=reset cpus=4 count=4"
	has "$OUT" "boot_2 row=boot cpus=2 count=3"
	[[ $OUT != *aia* && $OUT != *_1\ * ]] || bad "x86 has rows of riscv: $OUT"
	ok scripts/lanes/qemu.sh rows riscv short
	[[ $OUT != *save* ]] || bad "$OUT"
}

# The rows are tests to the runner, their arguments are in its environment.
test_qemu_boots()
{
	fresh
	ok scripts/series.py tree
	fake_runner 'ok 1 kvm:qemu_boot_2\n' 0
	sed -i '/^case/i case "$*" in *print-CONSOLE*) echo "console=ttyS0 earlycon"; exit ;; esac
		/^echo/i echo "$KSELFTEST_QEMU_BOOT_2_ARGS"; cut -d" " -f1 "$BUILD_PATH/tests"' \
		"$L/tools/testing/selftests/kvm/qemu/run.sh"
	local base=$BUILD/x86/initramfs/base.cpio dir=$BUILD/check-qemu/x86-series list
	mkdir -p "${base%/*}" "$WORK/s/qemu/usr/bin" "$WORK/s/qemu/usr/share/qemu" "$CACHE/qemu-amd64-1/usr/bin"
	touch "$CACHE/qemu-amd64-1/complete"
	: >"$base"
	run() { env ARCH=x86 ROWS="boot_2 stop_4" GUEST_KERNEL="$L/Kbuild" SEED=7 "$@" scripts/lanes/qemu.sh rerun; }
	# Another QEMU, where it is and where it isn't.
	no 2 "has no usr/bin/qemu-system-x86_64" run VMM_QEMU_DIR="$WORK/s/qemu"
	printf 'int main(void) { return 0; }' | gcc -x c -static -o "$WORK/s/qemu/usr/bin/qemu-system-x86_64" -
	echo mine >"$WORK/s/qemu/usr/share/qemu/bios-256k.bin"
	no 1 "2 rows, 1 pass on both, 0 skip on both, 1 wrong" run VMM_QEMU_DIR="$WORK/s/qemu"
	has "$OUT" "row=boot cpus=2 count=3 seed=7 limit="
	has "$OUT" $'kvm:qemu_boot_2\nkvm:qemu_stop_4'
	has "$(cpio --quiet -t <"$dir/initramfs/qemu_boot_2.cpio")" "kselftest/kvm/qemu_boot_2"
	list=$(cd "$WORK/s" && cpio -i --quiet --to-stdout qemu/args usr/share/qemu/bios-256k.bin <"$dir/initramfs/base.cpio")
	has "$list" $'\n-accel\nkvm\n'
	has "$list" "append=console=ttyS0 panic=-1"
	has "$list" $'\nmine'
	hasnt "$list" "args-debian"
	# One of "make qemu" has rows more, and is compared with Debian's.
	hasnt "$(env VMM_QEMU_DIR="$WORK/s/qemu" scripts/lanes/qemu.sh rows x86)" patched
	printf 'char s[] = "user-cpu-start"; int main(int n, char **v) { return s[n]; }' |
		gcc -x c -static -o "$WORK/s/qemu/usr/bin/qemu-system-x86_64" -
	cp "$WORK/s/qemu/usr/bin/qemu-system-x86_64" "$CACHE/qemu-amd64-1/usr/bin/"
	ok env VMM_QEMU_DIR="$WORK/s/qemu" scripts/lanes/qemu.sh rows x86
	has "$OUT" "start_2_patched row=start cpus=2 count=5 args=/qemu/args-patched"
	hasnt "$OUT" suspend_refuse
	hasnt "$(env VMM_QEMU_DIR="$WORK/s/qemu" scripts/lanes/qemu.sh rows x86 short)" patched
	printf 'FIGURE stops: 2 -> 1\r\nno figure\n' >"$WORK/s/console"
	mkdir -p "$BUILD/check-qemu/x86-base/results"
	cp "$WORK/s/console" "$BUILD/check-qemu/x86-base/results/default.console"
	no 1 "x86, on the base, stops: 2 -> 1" run VMM_QEMU_DIR="$WORK/s/qemu"
	hasnt "$OUT" "no figure"
	has "$(cd "$WORK/s" && cpio -i --quiet --to-stdout qemu/args-pc <"$dir/initramfs/base.cpio")" $'\n-M\npc\n'
	list=$(cd "$WORK/s" && cpio -i --quiet --to-stdout qemu/args-patched <"$dir/initramfs/base.cpio")
	has "$list" $'/usr/bin/qemu-system-x86_64\n'
	has "$list" $'\n-accel\nkvm,user-cpu-start=on\n'
	list=$(cd "$WORK/s" && cpio -i --quiet --to-stdout qemu/args-debian <"$dir/initramfs/base.cpio")
	has "$list" $'/usr/bin/qemu-system-x86_64-debian\n'
	has "$list" $'\n-accel\nkvm\n'
	has "$(cpio --quiet -t <"$dir/initramfs/base.cpio")" usr/bin/qemu-system-x86_64-debian
	# What it does without a kernel, and for "make check".
	rm "$base"
	no 2 "nothing is built for x86" run
}

# Debian's, of another architecture: the program, what it needs and nothing else.
test_qemu_is_fetched()
{
	fresh
	local deb=$WORK/s/deb
	mkdir -p "$deb/usr/bin" "$deb/usr/lib/a" "$deb/usr/share/seabios"
	printf 'int f(void) { return 0; }' | gcc -x c -shared -fPIC -Wl,-soname,libf.so.1 -o "$deb/usr/lib/a/libf.so.1" -
	printf 'int g(void) { return 0; }' | gcc -x c -shared -fPIC -Wl,-soname,libg.so.1 -o "$deb/usr/lib/a/libg.so.1" -
	printf 'int f(void); int main(void) { return f(); }' |
		gcc -nostdlib -Wl,-e,main -Wl,--dynamic-linker,/lib64/ld-x.so.2 -o "$deb/usr/bin/qemu-system-x86_64" \
			-x c - -x none "$deb/usr/lib/a/libf.so.1"
	mkdir -p "$deb/usr/lib64" && echo loader >"$deb/usr/lib64/ld-x.so.2"
	echo bios >"$deb/usr/share/seabios/bios-256k.bin"
	stub apt-get "case \"\$*\" in
		*print-uris*) echo \"'http://x/libf1_1_amd64.deb' libf1_1_amd64.deb 1 x\"; echo \"'http://x/adduser_1_all.deb' adduser_1_all.deb 1 x\" ;;
		*download*) [[ \"\$*\" != *adduser* ]] && touch libf1_1_amd64.deb qemu-system-x86_1%3a10.0.13+ds_amd64.deb ;;
		esac"
	stub dpkg-deb "cp -r '$deb/.' \"\$3\""
	ok env DEBIAN_MIRROR=file:///none scripts/lanes/qemu.sh get x86
	is "$OUT" "$CACHE/qemu-amd64-10.0.13+ds"
	is "$(cd "$OUT" && find . -type f | LC_ALL=C sort | tr '\n' ' ')" \
		"./complete ./lib64/ld-x.so.2 ./usr/bin/qemu-system-x86_64 ./usr/lib/libf.so.1 ./usr/share/qemu/bios-256k.bin "
	# It is there now.
	stub apt-get 'exit 100'
	ok env DEBIAN_MIRROR=file:///none scripts/lanes/qemu.sh get x86
	rm -rf "$CACHE"
	no 2 "apt could not fetch QEMU for amd64" env DEBIAN_MIRROR=file:///none scripts/lanes/qemu.sh get x86
	is "$(ls "$CACHE")" "" "(what was begun is removed)"
	# A library that no package has.
	stub apt-get "case \"\$*\" in *download*) touch qemu-system-x86_1%3a10.0.13+ds_amd64.deb ;; esac"
	rm "$deb/usr/lib/a/libf.so.1"
	no 2 "needs libf.so.1, which is not in" env DEBIAN_MIRROR=file:///none scripts/lanes/qemu.sh get x86
}
