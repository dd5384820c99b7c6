# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by scripts/test/run. Topics: what each stands on, composing and checking one.

test_topic_stands_on_what_it_needs()
{
	fresh
	local t=$BUILD/topic
	ok make tree TOPIC=numbers
	is "$(git -C "$t" log --format=%s -2)" $'KVM: Spell numbers\nLinux 7.3.4'
	ok make tree TOPIC=growth
	is "$(git -C "$t" log --format=%s -3)" $'KVM: Grow a letter\nKVM: Add letters\nLinux 7.3.4'
	is "$(git -C "$t" log --format=%s -1 refs/series/needs/growth)" "KVM: Add letters"
	is "$(scripts/series.py topics)" $'numbers\nletters\ngrowth'
	is "$(scripts/series.py needs growth)" letters
	no 2 "there is no topic nope" make tree TOPIC=nope
	no 2 "make refresh writes the whole series" make refresh TOPIC=growth
	# It is no place to work in.
	echo x >>"$t/virt/kvm/kvm_main.c"
	no 2 "has uncommitted edits: virt/kvm/kvm_main.c" make tree TOPIC=numbers
	git clone -q "$WORK/s/linux" "$WORK/s/user"
	ok make apply KERNEL="$WORK/s/user" TOPIC=growth
	is "$(git -C "$WORK/s/user" log --format=%s -3)" $'KVM: Grow a letter\nKVM: Add letters\nLinux 7.3.4'
}

# Its tests are those that it has; without it, those fail that it has changed.
test_check_of_one_topic()
{
	fresh
	local k=tools/testing/selftests/kvm
	ok scripts/series.py tree
	mkdir -p "$L/$k"
	printf 'TEST_GEN_PROGS_COMMON = alpha\nTEST_GEN_PROGS_COMMON += beta\n' >"$L/$k/Makefile.kvm"
	commit "$L" $'KVM: selftests: Add a list\n\nTopic: growth'
	echo x >"$L/$k/beta.c" && commit "$L" $'KVM: selftests: Add a test\n\nTopic: growth'
	ok scripts/series.py refresh
	ok make tree TOPIC=growth
	fake_runner 'ok 1 kvm:alpha\nnot ok 2 kvm:beta\n' 1
	export TOPIC=growth TREE=$BUILD/topic SUFFIX=-topic ARCH=riscv
	ok env ON=base scripts/check.sh run
	has "$OUT" "riscv: alpha beta"
	has "$OUT" "beta fails on the base, as it must"
	is "$(git -C "$BUILD/needs" log --format=%s -1)" "KVM: Add letters"
	no 1 "wrong: riscv beta" scripts/check.sh run
	# Who only needs the topic that has the test does not have it fail.
	unset TOPIC TREE SUFFIX ARCH
	echo 'fourth growth' >>patches/v7.3/series
	sed -i 's/^vcpu 30$/vcpu thirty/' "$L/arch/riscv/kvm/vcpu.c" && commit "$L" $'KVM: Another\n\nTopic: fourth'
	ok scripts/series.py refresh
	ok make tree TOPIC=fourth
	no 1 "wrong: riscv beta" env TOPIC=fourth TREE="$BUILD/topic" SUFFIX=-topic ARCH=riscv ON=base scripts/check.sh run
}

# Two topics insert at one place of a list: each alone has its own line, all have both.
test_topics_that_insert_at_one_place()
{
	fresh
	ok scripts/series.py tree
	sed -i 's/^line 35$/&\nnumbers/' "$L/virt/kvm/kvm_main.c" && commit "$L" $'KVM: List numbers\n\nTopic: numbers'
	git -C "$L" tag n
	git -C "$L" reset -q --hard HEAD~3 && git -C "$L" cherry-pick n n~2 n~1 >/dev/null 2>&1
	sed -i 's/^numbers$/&\ngrowth/' "$L/virt/kvm/kvm_main.c" && commit "$L" $'KVM: List growth\n\nTopic: growth'
	ok scripts/series.py refresh
	is "$(git -C "$L" show HEAD:virt/kvm/kvm_main.c | sed -n '35,38p')" $'line 35\nnumbers\ngrowth\nline 36'
	ok make tree TOPIC=growth
	is "$(sed -n '35,37p' "$BUILD/topic/virt/kvm/kvm_main.c")" $'line 35\ngrowth\nline 36'
	# What changes the line of another topic needs it.
	sed -i 's/^numbers$/NUMBERS/' "$L/virt/kvm/kvm_main.c" && commit "$L" $'KVM: Shout\n\nTopic: growth'
	ok scripts/series.py refresh
	no 2 "growth/0003-KVM-Shout.patch does not apply without the topics that growth does not need" make tree TOPIC=growth
	no 2 "growth/0003-KVM-Shout.patch does not apply without the topics that growth does not need" scripts/series.py apart
	sed -i 's/^growth letters/growth letters,numbers/' patches/v7.3/series
	ok make tree TOPIC=growth
}

test_topic_of_a_commit()
{
	fresh
	ok scripts/series.py tree
	# A commit that does not say it is of the topic of the one before.
	sed -i 's/^line 1$/line one/' "$L/virt/kvm/kvm_main.c" && commit "$L" "KVM: Another"
	ok scripts/series.py refresh
	has "$(cat patches/v7.3/growth/series)" 0002-KVM-Another.patch
	sed -i 's/^line 2$/line two/' "$L/virt/kvm/kvm_main.c" && commit "$L" $'KVM: Late\n\nTopic: numbers'
	no 2 "of numbers stands behind one of growth" scripts/series.py refresh
	git -C "$L" commit -q --amend -m $'KVM: Late\n\nTopic: fourth'
	no 2 "patches/v7.3/series does not name" scripts/series.py refresh
	echo 'fourth -' >>patches/v7.3/series
	ok scripts/series.py refresh
	has "$(cat patches/v7.3/fourth/series)" 0001-KVM-Late.patch
	! grep -r "^Topic:" patches || bad "the topic is in a patch"
	echo 'fifth sixth' >>patches/v7.3/series
	no 2 "fifth needs sixth, which is no topic before it" scripts/series.py check
	sed -i '$d' patches/v7.3/series && sed -i '/^numbers/d' patches/v7.3/series
	no 2 "numbers is in patches/v7.3 but not in series" scripts/series.py check
}

# What was composed once is known by its content.
test_composed_once()
{
	fresh
	local id
	ok scripts/series.py tree
	id=$(git -C "$L" rev-parse HEAD)
	stub git "[[ \"\$*\" != *fast-import* ]] || exit 1; exec $(type -P git) \"\$@\""
	ok scripts/series.py tree
	ok scripts/series.py refresh
	has "$OUT" "nothing changed"
	sed -i 's/read aloud/say/' patches/v7.3/numbers/0001-*.patch
	no 2 "git fast-import" scripts/series.py tree
	is "$(git -C "$L" rev-parse HEAD)" "$id"
}
