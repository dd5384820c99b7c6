#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# fresh.sh: does a fresh machine get along with the two commands of README.md?
# They run in a minimal Debian that has what README.md says to have, i.e. make,
# and a clone of HEAD; then the reproducers on the base, and the tests of the scripts,
# which are not among what the last line counts unless they fail.
#
#	fresh.sh		in such a system, or say why there can't be one
#	fresh.sh or-here	in such a system, or here where there can't be one (CI)
#	fresh.sh possible	can there be one? Says why not.
#	fresh.sh clean		remove what an interrupted run has left
#
# The system is made below build/fresh, from the archive that apt on this machine
# uses, with its proxies and certificates. Brought in from outside: $CACHE, i.e.
# downloads and ccache; with CACHE=/an/empty/directory nothing is. What debootstrap
# makes is kept there for a week, what the commands install is installed each time.
# Everything is mounted in a namespace of its own, which ends with this script, by
# whatever signal: nothing is mounted where "rm -rf build" could get.

. "$(dirname -- "$0")/common.sh"

SUITE=bookworm
HAVE="make"		# beyond Debian's minbase: README.md, Requirements
DIR=$BUILD/fresh
ROOT=$DIR/root
HOME_THERE=/root
CHECKOUT=$HOME_THERE/kvm-vcpu-reset
ALL_ARCHES="riscv arm64 x86"
ARCH=${ARCH:-$ALL_ARCHES}
CHILD=
COUNTED=
. "$TOP/scripts/bare.sh"
exec {SAYS}>&1	# for a trap within what tee reads

case ${1:-} in
''|or-here|possible|clean|inside) ;;
*) die "fresh.sh knows or-here, possible and clean, not \"$1\"" "make fresh" ;;
esac
[ "${1:-}" = inside ] || [ $# -le 1 ] || die "fresh.sh takes one word, not: $*" "make fresh"
known_arches "$ARCH"

# remove: what is below $ROOT, unless somebody has mounted something there. Those
# who are being killed may still write.
remove()
{
	local dir mounts seconds

	for dir in "$DIR" "$BUILD/violations-fresh/fresh"; do
		[ -e "$dir/root" ] || continue
		mounts=$(findmnt -rn -o TARGET | grep -F "$(realpath -- "$dir/root")" || :)
		[ -z "$mounts" ] || die "something is mounted in $dir: $(head -n 1 <<<"$mounts")" "umount it"
		for seconds in 0 1 5; do
			sleep "$seconds"
			! rm -rf --one-file-system -- "$dir/root" 2>/dev/null || break
		done
		[ ! -e "$dir/root" ] || die "$dir/root can't be removed" "rm -rf '$dir/root', and see what it says"
	done
}

clean_up()
{
	trap - EXIT
	trap '' INT TERM HUP
	if [ -n "$CHILD" ]; then
		kill -KILL "$CHILD" 2>/dev/null || :
		wait "$CHILD" 2>/dev/null || :
	fi
	# What the kernels and tests said is wanted after all that.
	if [ -d "$ROOT$CHECKOUT/build" ]; then
		rm -rf -- "$DIR/log" "$DIR/results"
		cp -a "$ROOT$CHECKOUT/build/log" "$DIR/log" 2>/dev/null || :
		cp -a "$ROOT$CHECKOUT/build/results" "$DIR/results" 2>/dev/null || :
	fi
	if [ -n "$COUNTED" ]; then
		remove
	else
		(remove) || :
		printf '\n0 passed, 1 failed, 0 skipped\n' >&"$SAYS"
	fi
}

check_out()
{
	local head

	head=$(git -C "$TOP" rev-parse --verify -q HEAD) || die "$TOP is no git checkout" "git clone it"
	[ -z "$(git -C "$TOP" status --porcelain)" ] || say "what is not committed here is not in it"
	git clone -q --no-hardlinks --no-checkout "$TOP" "$ROOT$CHECKOUT"
	git -C "$ROOT$CHECKOUT" remote remove origin
	git -C "$ROOT$CHECKOUT" checkout -q --detach "$head"
	chown -R 0:0 "$ROOT$CHECKOUT"
}

# inside COMMAND...: called in the namespace
inside()
{
	local d v
	local -a vars=()

	mount -t proc proc "$ROOT/proc"
	mount -t sysfs -o ro sysfs "$ROOT/sys"
	mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
	for d in null zero full random urandom tty; do
		: >"$ROOT/dev/$d"
		mount --bind "/dev/$d" "$ROOT/dev/$d"
	done
	mkdir -p "$ROOT/dev/pts" "$ROOT/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$ROOT/dev/pts"
	mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
	while read -r d v; do
		ln -sf "$v" "$ROOT/dev/$d"
	done <<-END
		ptmx pts/ptmx
		fd /proc/self/fd
		stdin /proc/self/fd/0
		stdout /proc/self/fd/1
		stderr /proc/self/fd/2
	END
	mount --bind "$CACHE" "$ROOT$HOME_THERE/.cache/kvm-vcpu-reset"
	for v in TERM http_proxy https_proxy ftp_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PROGRESS; do
		[ -z "${!v:-}" ] || vars+=("$v=${!v}")
	done
	# Words of the inner shell
	# shellcheck disable=SC2016
	# What is started in the background ignores SIGINT; they are not to know.
	exec chroot "$ROOT" /usr/bin/env -i --default-signal=INT,QUIT "HOME=$HOME_THERE" \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${vars[@]}" \
		/bin/bash -c 'cd "$1" && shift && "$@"' - "$CHECKOUT" "$@"
}

# bare COMMAND...: in the system, where all that it started ends with it
bare()
{
	local status=0

	# Not in the foreground: a trap would wait for it.
	setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child -- "$TOP/scripts/fresh.sh" inside "$@" \
		</dev/null &
	CHILD=$!
	wait "$CHILD" || status=$?
	CHILD=
	return "$status"
}

here() { (cd -- "$TOP" && "$@" </dev/null); }

# commands WHERE: the two commands, the base and the scripts; then the count of all
commands()
{
	local where=$1 n=0 status start out tee failed=0 line
	local -a args=() words

	[ "$ARCH" = "$ALL_ARCHES" ] || args=("ARCH=$ARCH")
	mkdir -p "$DIR"
	rm -f -- "$DIR"/output-*
	for line in make "make check" "make check ON=base" "make test-scripts"; do
		n=$((n + 1))
		read -r -a words <<<"$line"
		printf '\n== %s\n' "$line"
		start=$(date +%s)
		status=0
		exec {out}> >(exec tee "$DIR/output-$n")
		tee=$!
		"$where" "${words[@]}" "${args[@]}" >&"$out" 2>&1 {out}>&- || status=$?
		exec {out}>&-
		wait "$tee" || :
		printf '== %s: status %d, %d s\n' "$line" "$status" $(($(date +%s) - start))
		[ "$status" = 0 ] || failed=1
		# Without the kernels there is nothing to check.
		[ "$status" = 0 ] || [ "$n" != 1 ] || break
	done
	[ "$failed" = 0 ] || [ "$where" = here ] || say "logs: $DIR/output-*, $DIR/log/, $DIR/results/"
	# Each architecture has such a line, the last one is the total. A run that
	# ended before it could count anything is one failure.
	for line in "$DIR"/output-*; do
		grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$line" | tail -n 1 || :
	done |
	awk -v status="$failed" '
		{ passed += $1; failed += $3; skipped += $5 }
		END {
			if (status && !failed)
				failed = 1
			printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
		}'
	COUNTED=1
	return "$failed"
}

if [ "${1:-}" = inside ]; then
	shift
	inside "$@"
fi
if [ "${1:-}" = clean ]; then
	remove
	rm -rf -- "$DIR"
	exit
fi
# A function, for bash reads what is outside of one while it runs.
main()
{
	local why status=0

	why=$(why_not)
	if [ "${1:-}" = possible ]; then
		[ -z "$why" ] || say "$why"
		[ -z "$why" ]
		exit
	fi
	if [ -n "$why" ]; then
		[ "${1:-}" = or-here ] || die "no bare system: $why" "as root on Debian, on a disk: make fresh"
		say "no bare system: $why."
		say "The commands run here, where more may be installed than README.md says."
		commands here || exit 1
		exit 0
	fi
	trap clean_up EXIT
	trap 'exit 130' INT TERM HUP
	[ ! -t 1 ] || export PROGRESS=y
	remove
	bare_system
	like_here
	check_out
	commands bare || status=1
	exit "$status"
}
main "$@"
exit
