# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. fresh.sh and .ci/run.

# .ci/run adds up the totals of both runs, not the lines of each architecture.
test_ci_counts()
{
	fresh
	mkdir -p .ci && cp "$HERE/.ci/run" .ci/run
	stub id 'echo 1000'
	stub make 'case $* in
		"") exit "${MAKE_STATUS:-0}" ;;
		check) printf "9 passed, 0 failed, 0 skipped\n31 passed, 0 failed, 0 skipped\n"; exit 0 ;;
		"check ON=base") printf "$BASE_SAYS"; exit "$BASE_STATUS" ;;
		test-scripts) exit "${SCRIPTS_STATUS:-0}" ;;
		*) exit 99 ;;
		esac'
	ok env BASE_STATUS=0 BASE_SAYS='6 passed, 0 failed, 1 skipped\n25 passed, 0 failed, 6 skipped\n' .ci/run
	is "$(tail -n 1 <<<"$OUT")" "56 passed, 0 failed, 6 skipped"
	has "$OUT" "no bare system: only root can make one"
	no 1 "55 passed, 1 failed, 6 skipped" env BASE_STATUS=2 BASE_SAYS='24 passed, 1 failed, 6 skipped\n' .ci/run
	# Nothing was counted: a failure as well.
	no 1 "31 passed, 1 failed, 0 skipped" env BASE_STATUS=2 BASE_SAYS='error: it does not build\n' .ci/run
	no 1 "56 passed, 1 failed, 6 skipped" env SCRIPTS_STATUS=2 BASE_STATUS=0 BASE_SAYS='25 passed, 0 failed, 6 skipped\n' .ci/run
	no 1 "0 passed, 1 failed, 0 skipped" env MAKE_STATUS=2 .ci/run
	[[ $OUT != *"make check"* ]] || bad "it went on"
	is "$(tail -n 1 <<<"$OUT")" "0 passed, 1 failed, 0 skipped"
}

# A bare system of stubs: its commands run in the directory that it is.
fake_bare()
{
	stub id 'echo 0'
	stub unshare 'while [[ $1 == -* ]]; do [ "$1" = -- ] && { shift; break; }; shift; done
		echo "unshare $*" >>"$WORK/s/log"; exec "$@"'
	stub setpriv 'while [[ $1 == -- || $1 == --pdeathsig || $1 == KILL ]]; do shift; done; exec "$@"'
	stub mount 'echo "mount $*" >>"$WORK/s/log"'
	stub mknod ': >"$1"'
	stub ln 'case $* in */dev/*) ;; *) exec /bin/ln "$@" ;; esac'
	stub chown true
	stub findmnt 'cat "$WORK/s/mounts" 2>/dev/null'
	stub dpkg 'echo amd64'
	stub apt-get 'case $1 in
		indextargets) echo "Debian|http://archive.invalid/debian/ bookworm main"
			echo "Debian-Security|http://archive.invalid/sec/ bookworm-security main"
			echo "Elsewhere|http://elsewhere.invalid/ bookworm main" ;;
		*) echo "apt-get $*" >>"$WORK/s/log" ;;
		esac'
	stub apt-config '[ "$1" = shell ] || echo "Acquire::Retries \"3\";"; [ "$1" = shell ] || echo "APT::Install-Recommends \"1\";"'
	stub debootstrap 'echo "debootstrap $*" >>"$WORK/s/log"
		root=${@: -2:1}; mkdir -p "$root"/{bin,dev,proc,sys,root,var/cache/apt/archives,etc/apt/{sources.list.d,apt.conf.d}}; touch "$root/bin/sh"'
	# chroot ROOT /usr/bin/env -i VAR=... /bin/bash -c ... - CHECKOUT COMMAND...
	stub chroot 'root=$1; shift; [ $root = / ] && exec "$@"
		while [ "$1" != - ]; do shift; done; shift; cd "$root$1" && shift && PATH=$WORK/s/there:$PATH exec "$@"'
	mkdir -p "$WORK/s/there"
	printf '#!/bin/bash\n%s\n' "$1" >"$WORK/s/there/make" && chmod +x "$WORK/s/there/make"
	printf 'ID=debian\n' >"$WORK/s/os-release"
	export WORK OS_RELEASE=$WORK/s/os-release
	: >"$WORK/s/log"
}

test_fresh_runs_both_commands()
{
	fresh
	unset KERNEL
	fake_bare 'echo "make $*: $(git log -1 --format=%s), $(cat edited 2>/dev/null)"; mkdir -p build/log && echo said >build/log/x
		[ "${1:-}" != check ] || echo "3 passed, 0 failed, 1 skipped"'
	ok scripts/fresh.sh
	is "$(grep -E '^(make|==)' <<<"$OUT" | sed 's/, [0-9]* s$//')" "== make
make : three patches, 
== make: status 0
== make check
make check: three patches, 
== make check: status 0
== make check ON=base
make check ON=base: three patches, 
== make check ON=base: status 0
== make test-scripts
make test-scripts: three patches, 
== make test-scripts: status 0"
	is "$(tail -n 1 <<<"$OUT")" "6 passed, 0 failed, 2 skipped"
	has "$(cat "$WORK/s/log")" "debootstrap --variant=minbase --include=make bookworm $BUILD/fresh/root http://archive.invalid/debian/"
	has "$(cat "$WORK/s/log")" "mount --bind $CACHE $BUILD/fresh/root/root/.cache/kvm-vcpu-reset"
	# Every mount is made after unshare, and nothing is left but what was said.
	is "$(grep -vE '^(unshare|mount)' "$WORK/s/log" | cut -d' ' -f1)" debootstrap
	[ ! -e "$BUILD/fresh/root" ] || bad "the system is still there"
	is "$(cat "$BUILD/fresh/log/x")" said
	# What debootstrap made is taken again, for a week. Edits are not in it.
	echo edited >edited
	ok env ARCH=x86 scripts/fresh.sh
	has "$OUT" "what is not committed here is not in it"
	has "$OUT" "make ARCH=x86: three patches, "
	is "$(grep -c debootstrap "$WORK/s/log")" 1
	touch -d '8 days ago' "$CACHE"/bare-bookworm-*.tar.gz
	ok scripts/fresh.sh
	is "$(grep -c debootstrap "$WORK/s/log")" 2
	is "$(find "$CACHE" -name 'bare-*' | wc -l)" 1
	ok make fresh
	unset OS_RELEASE
}

test_fresh_is_like_here()
{
	fresh
	fake_bare 'r=../..; cat $r/etc/apt/sources.list $r/etc/apt/apt.conf.d/99this-machine; exit 3'
	no 1 "0 passed, 1 failed, 0 skipped" scripts/fresh.sh
	is "$(grep -E '^(deb|A)' <<<"$OUT")" 'deb http://archive.invalid/debian/ bookworm main
deb http://archive.invalid/sec/ bookworm-security main
Acquire::Retries "3";'
	has "$OUT" "make: status 3"
	[[ $OUT != *"make check"* ]] || bad "it went on without kernels"
	has "$OUT" "logs: $BUILD/fresh/output-"
	is "$(tail -n 1 <<<"$OUT")" "0 passed, 1 failed, 0 skipped"
	# Of another release of Debian: that of the system at the same place
	sed -i 's/ bookworm main/ trixie main/' "$WORK/s/bin/apt-get"
	no 1 "deb http://archive.invalid/debian/ bookworm main" scripts/fresh.sh
	[[ $OUT != *trixie* ]] || bad "sources of another release: $OUT"
	# debootstrap that fails is no reason to run elsewhere
	stub debootstrap 'echo "E: no such archive"; exit 1'
	rm -f "$CACHE"/bare-*
	no 1 "E: no such archive" scripts/fresh.sh or-here
	[[ $OUT != *"== make"* ]] || bad "it ran nevertheless"
	is "$(tail -n 1 <<<"$OUT")" "0 passed, 1 failed, 0 skipped"
	is "$(find "$CACHE" -name 'bare-*')" ""
	unset OS_RELEASE
}

test_fresh_where_it_cannot_be()
{
	fresh
	fake_bare true
	stub make 'echo "here: make $*"'
	ok scripts/fresh.sh possible
	stub mount 'exit 32'
	no 1 "this machine lets nobody mount" scripts/fresh.sh possible
	no 2 "no bare system: this machine lets nobody mount" scripts/fresh.sh
	ok scripts/fresh.sh or-here
	has "$OUT" "here: make check ON=base"
	stub mount true
	stub mknod 'exit 1'
	no 2 "is no place for device files" scripts/fresh.sh
	stub mknod ': >"$1"'
	echo ID=ubuntu >"$OS_RELEASE"
	no 2 "this is not Debian" scripts/fresh.sh
	stub id 'echo 1000'
	no 2 "only root can make one" scripts/fresh.sh
	is "$(find "$BUILD/fresh" -name 'try*')" ""
	unset OS_RELEASE
}

# By whatever signal it ends, nothing runs on and nothing stays.
test_fresh_interrupted()
{
	fresh
	local signal pid
	for signal in INT TERM HUP; do
		fake_bare 'echo $$ >"$WORK/s/pid"; exec sleep 60'
		rm -f "$WORK/s/pid"
		# Like a terminal, all that it has started get it; it may be ignored here.
		set -m
		env --default-signal=INT,HUP scripts/fresh.sh >"$WORK/s/out" 2>&1 </dev/null &
		pid=$!
		set +m
		until [ -s "$WORK/s/pid" ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
		kill -"$signal" -- "-$pid"
		wait "$pid"
		is "$?" 130 "($signal: $(cat "$WORK/s/out"))"
		is "$(tail -n 1 "$WORK/s/out")" "0 passed, 1 failed, 0 skipped"
		[ ! -e "$BUILD/fresh/root" ] || bad "$signal: the system is still there"
		! kill -0 "$(cat "$WORK/s/pid")" 2>/dev/null || bad "$signal: make runs on"
	done
	unset OS_RELEASE
}

test_fresh_is_removed_with_care()
{
	fresh
	fake_bare true
	mkdir -p "$BUILD/fresh/root/root/.cache" && touch "$BUILD/fresh/root/root/.cache/dear"
	echo "$BUILD/fresh/root/root/.cache" >"$WORK/s/mounts"
	no 2 "something is mounted in $BUILD/fresh: $BUILD/fresh/root/root/.cache" scripts/fresh.sh clean
	no 2 "something is mounted" make clean
	no 2 "something is mounted" make distclean
	no 2 "something is mounted" scripts/fresh.sh
	[ -e "$BUILD/fresh/root/root/.cache/dear" ] || bad "what is mounted there was removed"
	: >"$WORK/s/mounts"
	ok make clean
	[ ! -e "$BUILD/fresh" ] || bad "make clean left it"
	unset OS_RELEASE
}
