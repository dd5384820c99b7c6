# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by fresh.sh: a minimal Debian in $ROOT, and whether there can be one here.

# shellcheck disable=SC2153 # in fresh.sh

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
