#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# fresh.sh: does a fresh machine get along with the two commands of README.md?
# They run in a minimal Debian that has what README.md says to have, i.e. make,
# and a clone of HEAD; then the reproducers on the base. The last line counts.
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
	local dir mounts

	for dir in "$DIR" "$BUILD/violations-fresh/fresh"; do
		[ -e "$dir/root" ] || continue
		mounts=$(findmnt -rn -o TARGET | grep -F "$(realpath -- "$dir/root")" || :)
		[ -z "$mounts" ] || die "something is mounted in $dir: $(head -n 1 <<<"$mounts")" "umount it"
		rm -rf --one-file-system -- "$dir/root" 2>/dev/null ||
			{ sleep 1 && rm -rf --one-file-system -- "$dir/root" 2>/dev/null; } ||
			{ sleep 5 && rm -rf --one-file-system -- "$dir/root" 2>/dev/null; } || :
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

# why_not: nothing if there can be a bare system here
why_not()
{
	local try

	[ "$(id -u)" = 0 ] || { echo "only root can make one"; return; }
	if ! command -v apt-get >/dev/null || ! grep -qsx 'ID=debian' "${OS_RELEASE:-/etc/os-release}"; then
		echo "this is not Debian"
		return
	fi
	mkdir -p "$DIR"
	try=$(mktemp -d "$DIR/try.XXXXXX")
	# Words of the inner shell
	# shellcheck disable=SC2016
	if ! unshare --mount --pid --fork --kill-child -- sh -c 'mount -t proc proc "$1" && mount -t tmpfs tmpfs "$1"' - "$try" >/dev/null 2>&1; then
		echo "this machine lets nobody mount"
	elif ! mknod "$try/null" c 1 3 2>/dev/null || ! { : >"$try/null"; } 2>/dev/null; then
		echo "$BUILD is no place for device files"
	elif ! chroot / true 2>/dev/null; then
		echo "this machine lets nobody chroot"
	fi
	rm -rf -- "$try"
}

# archives: "URI SUITE COMPONENT" of the Debian archives that apt uses
archives()
{
	apt-get indextargets --format '$(LABEL)|$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		sed -n 's/^Debian\(-Security\)\?|//p' | awk '!seen[$0]++'
}

# sources: those of $SUITE, or where this is another release, $SUITE at the same place
sources()
{
	archives >"$DIR/archives"
	if grep -qE "^[^ ]+ $SUITE " "$DIR/archives"; then
		grep -E "^[^ ]+ $SUITE(-updates|-security)? " "$DIR/archives"
	else
		sed -n "1s/^\([^ ]*\) .*/\1 $SUITE main/p" "$DIR/archives"
	fi
}

# proxy SCHEME: that of apt for SCHEME://
proxy()
{
	local P=

	eval "$(apt-config shell P "Acquire::$1::Proxy")"
	[ "$P" = DIRECT ] || printf '%s' "$P"
}

# bare_system: $ROOT, as debootstrap leaves it
bare_system()
{
	local mirror have=$HAVE key tarball

	[ -n "$(archives)" ] || apt-get update >/dev/null 2>&1 || :
	sources >"$DIR/sources"
	[ -s "$DIR/sources" ] || die "apt knows no Debian archive" "apt-get update"
	# apt can do nothing over https without.
	! grep -q '^https:' "$DIR/sources" || have+=,ca-certificates
	mirror=$(sed -n '1s/ .*//p' "$DIR/sources")
	key=$(printf '%s\n' "$SUITE" "$have" "$mirror" "$(dpkg --print-architecture)" | sha256sum | cut -c1-12)
	tarball=$CACHE/bare-$SUITE-$key.tar.gz
	mkdir -p "$ROOT" "$CACHE"
	need_space "$DIR" 12288
	if [ -n "$(find "$tarball" -mtime -7 2>/dev/null)" ]; then
		"$TOP/scripts/step.sh" "Debian $SUITE, made $(date -r "$tarball" +%F)" "rm '$tarball'" \
			tar -C "$ROOT" --numeric-owner -xpzf "$tarball"
		return
	fi
	if ! command -v debootstrap >/dev/null; then
		[ "${SETUP:-install}" != check ] || die "debootstrap is missing" "apt-get install debootstrap"
		"$TOP/scripts/step.sh" "installing debootstrap" "apt-get update" \
			apt-get install -y --no-install-recommends debootstrap
	fi
	http_proxy=${http_proxy:-$(proxy http)} https_proxy=${https_proxy:-$(proxy https)} \
	"$TOP/scripts/step.sh" "Debian $SUITE, minimal, and $have" "see that log" \
		debootstrap --variant=minbase --include="$have" "$SUITE" "$ROOT" "$mirror"
	rm -f -- "$CACHE/bare-$SUITE"-*.tar.gz*
	rm -f -- "$ROOT"/var/cache/apt/archives/*.deb
	tar -C "$ROOT" --numeric-owner -cpf - . | gzip -1 >"$tarball.new"
	mv -- "$tarball.new" "$tarball"
}

# like_here: how this machine gets at its archive, and nothing else of it
like_here()
{
	local etc=$ROOT/etc f

	sed 's/^/deb /' "$DIR/sources" >"$etc/apt/sources.list"
	rm -f -- "$etc/apt/sources.list.d"/*
	apt-config dump | grep -E '^Acquire::' | grep -vE ' "";$|AutoDetect|Auto-Detect|^Acquire::(IndexTargets|CompressionTypes|Changelogs|cdrom)' \
		>"$etc/apt/apt.conf.d/99this-machine" || :
	for f in trusted.gpg.d keyrings; do
		[ ! -d "/etc/apt/$f" ] || { mkdir -p "$etc/apt/$f" && cp -r "/etc/apt/$f/." "$etc/apt/$f/"; }
	done
	for f in hosts resolv.conf; do
		[ ! -e "/etc/$f" ] || cp -L --remove-destination "/etc/$f" "$etc/$f"
	done
	f=/usr/local/share/ca-certificates
	[ ! -d "$f" ] || { mkdir -p "$ROOT$f" && cp -r "$f/." "$ROOT$f/"; }
	# Ours, and no question is asked.
	mkdir -p "$ROOT$HOME_THERE/.cache/kvm-vcpu-reset"
}

check_out()
{
	local head

	head=$(git -C "$TOP" rev-parse --verify -q HEAD) || die "$TOP is no git checkout" "git clone it"
	[ -z "$(git -C "$TOP" status --porcelain)" ] || say "not in it: what is not committed here"
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
	ln -sf pts/ptmx "$ROOT/dev/ptmx"
	ln -sf /proc/self/fd "$ROOT/dev/fd"
	ln -sf /proc/self/fd/0 "$ROOT/dev/stdin"
	ln -sf /proc/self/fd/1 "$ROOT/dev/stdout"
	ln -sf /proc/self/fd/2 "$ROOT/dev/stderr"
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

# commands WHERE: the two commands, and the base; then the count of all
commands()
{
	local where=$1 n=0 status start out tee failed=0 line
	local -a args=() words

	[ "$ARCH" = "$ALL_ARCHES" ] || args=("ARCH=$ARCH")
	mkdir -p "$DIR"
	rm -f -- "$DIR"/output-*
	for line in make "make check" "make check ON=base"; do
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
		say "no bare system: $why. The commands run here, where more may be installed than README.md says."
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
