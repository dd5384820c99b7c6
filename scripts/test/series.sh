# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. series.py: tree, refresh, the round trip.

test_tree_has_one_commit_a_patch()
{
	fresh
	ok scripts/series.py tree
	is "$(git -C "$L" log --reverse --format=%s v7.3.4..HEAD 2>/dev/null || git -C "$L" log --reverse --format=%s -3)" \
		$'KVM: Spell numbers\nKVM: Add letters\nKVM: Grow a letter'
	# Each added file is in the commit that adds it, as it was then.
	is "$(git -C "$L" show HEAD~1:virt/kvm/vcpu_reset.c)" $'a\nb\nc'
	is "$(git -C "$L" show HEAD:virt/kvm/vcpu_reset.c)" $'a\nB\nc'
	is "$(git -C "$L" ls-tree HEAD tools/run | cut -c1-6)" 100755
	! git -C "$L" cat-file -e HEAD~2:virt/kvm/vcpu_reset.c 2>/dev/null || bad "the file is added too early"
}

test_round_trip_changes_nothing()
{
	fresh
	ok scripts/series.py tree
	ok scripts/series.py refresh
	clean
	local id
	id=$(git -C "$L" rev-parse HEAD)
	rm -rf build
	ok scripts/series.py tree
	is "$(git -C "$L" rev-parse HEAD)" "$id" "(the same files give the same commits)"
}

test_refresh_writes_new_work()
{
	fresh
	ok scripts/series.py tree
	sed -i 's/^vcpu 30$/vcpu thirty/' "$L/arch/riscv/kvm/vcpu.c"
	mkdir -p "$L/include/linux" && echo new >"$L/include/linux/new.h"
	commit "$L" "RISC-V: KVM: Add a header"
	ok scripts/series.py refresh
	is "$(cat include/linux/new.h)" new
	has "$(cat patches/v7.3/growth/series)" "0002-RISC-V-KVM-Add-a-header.patch include/linux/new.h"
	is "$(git -C "$L" status --porcelain)" ""
	git add -A && git commit -q -m more
	ok scripts/series.py tree
	ok scripts/series.py refresh
	clean
	# And away again, file and patch.
	git -C "$L" reset -q --hard HEAD~1
	ok scripts/series.py refresh
	[ ! -e include ] || bad "the added file stayed"
	is "$(find patches -name '*.patch' | wc -l)" 3
}

test_refresh_keeps_edits_made_here()
{
	fresh
	ok scripts/series.py tree
	echo d >>virt/kvm/vcpu_reset.c
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c"
	commit "$L" "KVM: Another"
	no 2 "refresh would lose that" scripts/series.py refresh
	is "$(tail -n 1 virt/kvm/vcpu_reset.c)" d
	no 2 "both" scripts/series.py tree
	has "$OUT" "FORCE=1"
	ok env FORCE=1 scripts/series.py tree
	is "$(git -C "$L" branch --list 'before-*' | wc -l)" 1
	is "$(git -C "$L" show HEAD:virt/kvm/vcpu_reset.c | tail -n 1)" d
}

test_tree_leaves_commits_alone()
{
	fresh
	ok scripts/series.py tree
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c"
	commit "$L" "KVM: Another"
	ok scripts/series.py tree
	has "$OUT" "1 commit(s) that make refresh has not written yet"
	no 2 "has commits that are not in" scripts/series.py saved
}

test_tree_leaves_edits_alone()
{
	fresh
	ok scripts/series.py tree
	sed -i 's/^line 20$/mine/; s/^line twenty$/mine/' "$L/virt/kvm/kvm_main.c"
	sed -i 's/line twenty/line XX/' patches/v7.3/numbers/0001-*.patch
	no 2 "uncommitted edits" scripts/series.py tree
	has "$(cat "$L/virt/kvm/kvm_main.c")" mine
	no 2 "uncommitted changes: virt/kvm/kvm_main.c" scripts/series.py refresh
}

test_series_and_files_must_agree()
{
	fresh
	echo x >virt/kvm/stray.c
	no 2 "virt/kvm/stray.c belongs to no patch" scripts/series.py check
	rm virt/kvm/stray.c
	cp patches/v7.3/numbers/0001-*.patch patches/v7.3/numbers/0009-x.patch
	no 2 "numbers/0009-x.patch is in" scripts/series.py check
	rm patches/v7.3/numbers/0009-x.patch
	echo 0042-gone.patch >>patches/v7.3/numbers/series
	no 2 "numbers/0042-gone.patch, which does not exist" scripts/series.py check
	git checkout -q .
	echo 0001-KVM-Spell-numbers.patch >>patches/v7.3/numbers/series
	no 2 "twice" scripts/series.py check
	git checkout -q .
	rm virt/kvm/vcpu_reset.c
	no 2 "virt/kvm/vcpu_reset.c, which does not exist" scripts/series.py check
}

test_added_file_must_be_new()
{
	fresh
	mkdir -p arch/riscv/kvm && echo x >arch/riscv/kvm/vcpu.c
	sed -i '$s/$/ arch\/riscv\/kvm\/vcpu.c/' patches/v7.3/growth/series
	no 2 "vcpu.c" scripts/series.py tree
	has "$OUT" "next:"
}

test_broken_patch_is_named()
{
	fresh
	sed -i 's/^-line 20$/-line 21/' patches/v7.3/numbers/0001-*.patch
	no 2 "numbers/0001-KVM-Spell-numbers.patch does not apply: patch failed: virt/kvm/kvm_main.c:17" scripts/series.py tree
	[ ! -e "$L/.git" ] || is "$(git -C "$L" log --format=%s -1)" "Linux 7.3.4"
	git checkout -q .
	echo garbage >patches/v7.3/growth/0001-KVM-Grow-a-letter.patch
	no 2 "growth/0001-KVM-Grow-a-letter.patch" scripts/series.py tree
}

test_refresh_refuses_what_is_not_a_series()
{
	fresh
	ok scripts/series.py tree
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c"
	git -C "$L" commit -q -a -s -m "KVM: Signed"
	no 2 "Signed-off-by" scripts/series.py refresh
	git -C "$L" commit -q --amend -m "fixup! KVM: Spell numbers"
	no 2 "waits to be squashed" scripts/series.py refresh
	git -C "$L" commit -q --amend -m "KVM: Plain"
	echo x >"$L/lib.c" && commit "$L" "lib: Add a file"
	no 2 "adds lib.c; added files live below" scripts/series.py refresh
	git -C "$L" reset -q --hard HEAD~1
	git -C "$L" checkout -q -b side HEAD~1 && echo 1 >"$L/virt/side.c" && commit "$L" side
	git -C "$L" checkout -q series && git -C "$L" merge -q side -m merge
	no 2 "is a merge" scripts/series.py refresh
	clean
}

# What git am would cut or drop is refused, and what only looks like a trailer stays.
test_messages_survive()
{
	fresh
	ok scripts/series.py tree
	sed -i 's/^vcpu 30$/vcpu thirty/' "$L/arch/riscv/kvm/vcpu.c"
	commit "$L" $'KVM: Dash\n\nbefore\n---\nafter'
	no 2 'has the line "---"' scripts/series.py refresh
	git -C "$L" commit -q --amend -m $'KVM: Diff\n\nbefore\ndiff --git a/x b/x\nafter'
	no 2 'has the line "diff --git a/x b/x"' scripts/series.py refresh
	git -C "$L" commit -q --amend -m "[PATCH] KVM: Brackets"
	no 2 "words in brackets" scripts/series.py refresh
	clean
	git -C "$L" commit -q --amend -m $'KVM: Topics\n\nWhat is a\nTopic: letters are hard\n\nTo read.\n\nTopic: growth'
	ok scripts/series.py refresh
	ok scripts/series.py tree
	is "$(git -C "$L" log -1 --format=%B)" $'KVM: Topics\n\nWhat is a\nTopic: letters are hard\n\nTo read.\n\nTopic: growth'
	[ -e patches/v7.3/growth/0002-KVM-Topics.patch ] || bad "it is of another topic"
}

test_a_refresh_that_fails_changes_nothing()
{
	fresh
	ok scripts/series.py tree
	git -C "$L" commit -q --allow-empty -m "KVM: Nothing"
	no 2 "0002-KVM-Nothing.patch changes nothing" scripts/series.py refresh
	clean
	git -C "$L" reset -q --hard HEAD~1
	git -C "$L" rm -q arch/riscv/kvm/vcpu.c && commit "$L" "KVM: Remove a file"
	mkdir -p "$L/arch/riscv/kvm" && echo x >"$L/arch/riscv/kvm/vcpu.c" && commit "$L" "KVM: Add it"
	no 2 "the files here are as before" scripts/series.py refresh
	clean
}

test_apply_keeps_carriage_returns()
{
	fresh
	git clone -q "$WORK/s/linux" "$WORK/s/user"
	ok scripts/series.py tree
	printf 'x\r\n' >>"$L/arch/riscv/kvm/vcpu.c" && commit "$L" "KVM: A line of DOS"
	ok scripts/series.py refresh
	ok scripts/series.py apply "$WORK/s/user"
	is "$(git -C "$WORK/s/user" rev-parse "HEAD^{tree}")" "$(git -C "$L" rev-parse "HEAD^{tree}")"
}

test_names_that_no_list_holds()
{
	fresh
	ok scripts/series.py tree
	echo x >"$L/tools/a b" && commit "$L" "tools: Add a file"
	no 2 'adds "tools/a b"' scripts/series.py refresh
	clean
}

test_binary_edits()
{
	fresh
	printf 'a\0b' >"$WORK/s/linux/virt/blob" && commit "$WORK/s/linux" blob
	git -C "$WORK/s/linux" tag -f v7.3.4 >/dev/null
	ok scripts/series.py tree
	printf 'a\0c' >"$L/virt/blob" && commit "$L" "KVM: Edit a blob"
	ok scripts/series.py refresh
	is "$(git -C "$L" show HEAD:virt/blob | tr '\0' 0)" a0c
}

# Half of the series is in the tree then.
test_refresh_waits_for_the_rebase()
{
	fresh
	ok scripts/series.py tree
	ok git -C "$L" -c sequence.editor="sed -i 1s/pick/edit/" rebase -i HEAD~3
	no 2 "a git rebase is under way" scripts/series.py refresh
	no 2 "a git rebase is under way" env FORCE=1 scripts/series.py tree
	clean
	ok git -C "$L" rebase --continue
	ok scripts/series.py refresh
}

test_distclean_of_a_topic_keeps_work()
{
	fresh
	ok make -s tree
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c" && commit "$L" "KVM: Another"
	no 2 "has commits that are not in" make -s distclean TOPIC=numbers
	[ -e "$L/.git" ] || bad "the tree is gone"
}

test_commits_in_the_tree_of_a_topic_are_kept()
{
	fresh
	ok make -s tree TOPIC=numbers
	sed -i 's/^line 1$/line one/' "$BUILD/topic/virt/kvm/kvm_main.c" && commit "$BUILD/topic" "KVM: Another"
	ok make -s tree TOPIC=letters
	has "$OUT" "are kept on the branch topic-"
	is "$(git -C "$L" log -1 --format=%s "$(git -C "$L" branch --list --format='%(refname)' 'topic-*')")" "KVM: Another"
	ok make -s tree TOPIC=growth
	[[ $OUT != *"are kept"* ]] || bad "$OUT"
}

# Nothing but the name of the topic changes.
test_a_topic_is_renamed_to_one_without_patches()
{
	fresh
	printf 'numbers -\nletters -\nempty letters\ngrowth letters\n' >patches/v7.3/series
	ok scripts/series.py tree
	mv patches/v7.3/growth patches/v7.3/empty
	ok scripts/series.py tree
	is "$(git -C "$L" log -1 --format=%B | sed -n 's/^Topic: //p')" empty
}

# mails: their content, without what is of the clock
mails() { (cd "$BUILD/mbox" && find . -name '*.patch' | LC_ALL=C sort | xargs grep -vE '^(Date|Message-I[dD]|In-Reply-To|References):'); }

test_configuration_of_the_user()
{
	local config want id
	fresh
	ok scripts/series.py tree
	id=$(git -C "$L" rev-parse HEAD)
	ok scripts/series.py mbox
	want=$(mails)
	rm -rf build
	cp "$GIT_CONFIG_GLOBAL" "$WORK/s/config"
	mkdir "$WORK/s/hooks"
	printf '#!/bin/sh\nexit 3\n' | tee "$WORK/s/hooks/post-checkout" >"$WORK/s/hooks/reference-transaction"
	chmod +x "$WORK"/s/hooks/*
	printf '*.c -diff text eol=crlf\n' >"$WORK/s/attributes"
	for config in "core.hooksPath $WORK/s/hooks" "core.attributesFile $WORK/s/attributes" "core.autocrlf true" \
		"clone.defaultRemoteName other" "protocol.file.allow never" "diff.context 9" "diff.noprefix true" \
		"format.subjectPrefix RFC" "format.numbered false" "format.suffix .txt" "format.to x@example.org" \
		"format.headers X-A:b" "format.filenameMaxLength 10" "commit.gpgSign true"; do
		git config --global "${config% *}" "${config#* }"
	done
	# As in a hook.
	ok env GIT_DIR="$PWD/.git" GIT_INDEX_FILE="$PWD/.git/index" GIT_DIFF_OPTS=-u9 scripts/series.py tree
	is "$(git -C "$L" rev-parse HEAD)" "$id"
	ok scripts/series.py mbox
	is "$(mails)" "$want"
	cp "$WORK/s/config" "$GIT_CONFIG_GLOBAL"
	clean
}
