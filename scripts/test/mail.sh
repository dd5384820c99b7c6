# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. series.py apply and mbox.

test_apply()
{
	fresh
	local user=$WORK/s/user
	git clone -q "$WORK/s/linux" "$user"
	ok scripts/series.py tree
	ok scripts/series.py apply "$user"
	is "$(git -C "$user" symbolic-ref --short HEAD)" kvm-vcpu-reset
	is "$(git -C "$user" rev-parse "HEAD^{tree}")" "$(git -C "$L" rev-parse "HEAD^{tree}")"
	no 2 "has a branch kvm-vcpu-reset already" scripts/series.py apply "$user"
}

test_apply_conflict_loses_nothing()
{
	fresh
	local user=$WORK/s/user before
	git clone -q "$WORK/s/linux" "$user"
	sed -i 's/^line 30$/line changed/' "$user/virt/kvm/kvm_main.c" && commit "$user" "mine"
	echo untracked >"$user/notes"
	ok scripts/series.py tree
	before=$(git -C "$user" rev-parse HEAD)
	no 1 "0002-KVM-Add-letters.patch does not apply at virt/kvm/kvm_main.c:27" scripts/series.py apply "$user"
	is "$(git -C "$user" rev-parse HEAD)" "$before"
	is "$(git -C "$user" symbolic-ref --short HEAD)" main
	is "$(git -C "$user" branch --list kvm-vcpu-reset)" ""
	is "$(git -C "$user" status --porcelain)" "?? notes"
	# The same from a detached HEAD.
	git -C "$user" checkout -q --detach
	no 1 "is as before" scripts/series.py apply "$user"
	is "$(git -C "$user" rev-parse HEAD)" "$before"
	is "$(git -C "$user" branch --list kvm-vcpu-reset)" ""
}

# More than a pipe holds.
test_many_uncommitted_changes()
{
	fresh
	ok scripts/series.py tree
	git clone -q "$WORK/s/linux" "$WORK/s/user"
	local tree
	for tree in "$L" "$WORK/s/user"; do
		(cd "$tree" && mkdir many && touch many/a-file-with-a-name-that-is-not-short-{1000..4000} && git add many)
	done
	no 2 "has uncommitted changes: many/a-file" scripts/series.py refresh
	no 2 "has uncommitted changes: many/a-file" scripts/series.py apply "$WORK/s/user"
}

test_apply_bad_trees()
{
	fresh
	no 2 "apply needs the tree" scripts/series.py apply
	no 2 "is not a git tree" scripts/series.py apply "$WORK/s/nothing"
	git init -q "$WORK/s/other"
	no 2 "not the top of a Linux source tree" scripts/series.py apply "$WORK/s/other"
	git clone -q "$WORK/s/linux" "$WORK/s/user"
	echo x >>"$WORK/s/user/Makefile"
	no 2 "uncommitted changes: Makefile" scripts/series.py apply "$WORK/s/user"
	is "$(git -C "$WORK/s/user" diff | grep -c '^+x$')" 1
}

test_mbox()
{
	fresh
	local user=$WORK/s/user dir=$BUILD/mbox/numbers/v1 topic t
	ok scripts/series.py mbox
	is "$(ls "$BUILD/mbox")" $'growth\nletters\nnumbers'
	is "$(find "$dir" -name '*.patch' | wc -l)" 2
	has "$(cat "$dir"/0000-*)" "Subject: [PATCH 0/1] A series of numbers"
	has "$(cat "$dir"/0000-*)" "What it is for."
	has "$(cat "$dir"/0000-*)" "Lines: kernel +2 -2"
	has "$(cat "$dir"/0000-*)" "Base: Linux 7.3.4 (tag v7.3.4)"
	has "$(cat "$dir"/0000-*)" "From: A Sender <sender@example.org>"
	has "$(cat "$dir"/0001-*)" "From: A Sender <sender@example.org>"
	has "$(cat "$dir"/0001-*)" "Signed-off-by: A Sender <sender@example.org>"
	has "$(cat "$dir"/0001-*)" "To: A "
	has "$(cat "$dir"/0001-*)" "Cc: list@example.org"
	# Whom the topic names beside those; the tag is there, so its commit is named.
	has "$(cat "$dir"/0001-*)" "someone@example.org"
	has "$(cat "$dir"/0000-*)" "base-commit: $(git -C "$WORK/s/linux" rev-parse v7.3.4)"
	has "$(cat "$BUILD"/mbox/growth/v1/0000-*)" "and the series letters"
	has "$(cat "$BUILD"/mbox/growth/v1/0000-*)" "prerequisite-patch-id: "
	! grep -r "^Topic:" "$BUILD/mbox" || bad "the topic is mailed"
	# git am and quilt take each topic on what it needs, quilt without fuzz.
	for topic in numbers "letters growth"; do
		rm -rf "$user"
		git clone -q "$WORK/s/linux" "$user"
		for t in $topic; do
			ok git -C "$user" am -q "$BUILD/mbox/$t/v1.mbox"
		done
		is "$(git -C "$user" rev-parse "HEAD^{tree}")" "$(git -C "$L" rev-parse "$(compose "${topic##* }")^{tree}")"
		git -C "$user" checkout -q v7.3.4
		mkdir "$user/patches"
		for t in $topic; do
			cp "$BUILD/mbox/$t/v1"/000[1-9]-*.patch "$user/patches/"
			(cd "$BUILD/mbox/$t/v1" && ls 000[1-9]-*.patch) >>"$user/patches/series"
		done
		ok env -C "$user" QUILT_PATCHES=patches quilt --quiltrc - push -q -a --fuzz=0
	done
	# One topic, with what the sender adds.
	ok env TOPIC=letters TRAILERS=$'Assisted-by: TOOL:1\nLink: https://example.org/x' scripts/series.py mbox
	is "$(grep -hE '^(Signed-off-by|Assisted-by|Link):' "$BUILD"/mbox/letters/v1/0001-* | cut -d: -f1 | paste -sd' ')" \
		"Signed-off-by Assisted-by Link"
	no 2 "which is no trailer" env TRAILERS=nonsense scripts/series.py mbox
	no 2 "there is no topic nope" env TOPIC=nope scripts/series.py mbox
	has "$OUT" "TOPIC= one of: numbers letters growth"
}

# compose TOPIC: its commit on what it needs
compose()
{
	TOPIC=$1 TREE=$BUILD/topic scripts/series.py tree >/dev/null && git -C "$BUILD/linux" rev-parse "refs/series/topic/$1"
}

test_mbox_later_version()
{
	fresh
	no 2 "VERSION=0 is not a version number" env VERSION=0 scripts/series.py mbox
	no 2 "VERSION=x is not a version number" env VERSION=x scripts/series.py mbox
	no 2 "there is no sent/numbers/v1" env TOPIC=numbers VERSION=2 scripts/series.py mbox
	git tag sent/letters/v1
	ok scripts/series.py tree
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c" && commit "$L" $'KVM: Another\n\nTopic: letters'
	git -C "$L" tag another
	git -C "$L" reset -q --hard HEAD~2 && git -C "$L" cherry-pick another >/dev/null
	git -C "$L" cherry-pick another~1 >/dev/null
	ok scripts/series.py refresh
	ok env TOPIC=letters VERSION=2 scripts/series.py mbox
	has "$(cat "$BUILD"/mbox/letters/v2/v2-0000-*)" "Subject: [PATCH v2 0/2] A series of letters"
	has "$(cat "$BUILD"/mbox/letters/v2/v2-0000-*)" "Range-diff"
	has "$(cat "$BUILD"/mbox/letters/v2/v2-0000-*)" "KVM: Another"
}

test_cover_letter_beyond_ascii()
{
	fresh
	ok scripts/series.py tree
	printf 'Letters in \303\274\n\nF\303\274r alle.\n' >patches/v7.3/letters/cover-letter
	ok env TOPIC=letters scripts/series.py mbox
	has "$(cat build/mbox/letters/v1/0000-*)" "Content-Type: text/plain; charset=UTF-8"
	has "$(cat build/mbox/letters/v1/0000-*)" "=?utf-8?"
}

# KERNEL= is the base, as everywhere but in apply.
test_mbox_without_a_tree()
{
	fresh
	stub curl 'exit 6'
	stub apt-get 'exit 1'
	ok make -s mbox TOPIC=letters KERNEL="$KERNEL"
	[ -e "$BUILD/mbox/letters/v1.mbox" ] || bad "no mail"
}

test_mbox_wants_an_identity()
{
	fresh
	: >"$WORK/s/empty"
	no 2 "git does not know who sends the series" env GIT_CONFIG_GLOBAL="$WORK/s/empty" scripts/series.py mbox
	has "$OUT" "git config user.name"
}

test_mbox_wants_maintainers()
{
	fresh
	ok scripts/series.py tree
	printf '#!/bin/sh\necho no such luck >&2\nexit 1\n' >"$L/scripts/get_maintainer.pl"
	no 2 "names nobody to send numbers to: no such luck" scripts/series.py mbox
	[ ! -e "$BUILD/mbox/numbers/v1/0001-KVM-Spell-numbers.patch" ] || bad "there is mail"
}

test_another_base()
{
	fresh
	ok scripts/series.py tree
	# 7.3.5: a line above what the series edits
	sed -i '1s/^/line 0\n/' "$WORK/s/linux/virt/kvm/kvm_main.c"
	sed -i 's/SUBLEVEL = 4/SUBLEVEL = 5/' "$WORK/s/linux/Makefile"
	commit "$WORK/s/linux" "Linux 7.3.5" && git -C "$WORK/s/linux" tag v7.3.5
	no 2 "virt/kvm/kvm_main.c differs" env KERNEL="$WORK/s/mirror/../linux" bash -c \
		'git -C "$KERNEL" tag -d v7.3.4 >/dev/null; scripts/base.sh'
	# the words of README.md
	git -C "$L" fetch -q "$WORK/s/linux" v7.3.5
	git -C "$L" rebase -q --onto FETCH_HEAD refs/series/base series
	git -C "$L" update-ref refs/series/base FETCH_HEAD
	sed -i 's/7\.3\.4$/7.3.5/' patches/v7.3/BASE
	ok env FORCE=1 scripts/series.py refresh
	ok env KERNEL="$WORK/s/linux" scripts/base.sh
	ok env KERNEL="$WORK/s/linux" BUILD="$WORK/s/b2" scripts/series.py tree
	is "$(git -C "$WORK/s/b2/linux" show HEAD:virt/kvm/kvm_main.c | sed -n '1p;21p')" $'line 0\nline twenty'
}
