#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# series.sh: the series as files here, as commits in a git tree, as mail.
#
#	series.sh check			the files agree with each other
#	series.sh tree			files -> commits in $TREE
#	series.sh refresh		commits in $TREE -> files
#	series.sh apply KERNEL		commits on a new branch of another tree
#	series.sh mbox			commits -> mail
#	series.sh saved			is there nothing in $TREE that would be lost?
#
# A line of patches/<version>/series names a patch and the added files that
# belong to its commit. Added files are kept as they are at the end of the
# series; a later patch that changes one has its hunks like any other, and
# composing takes them back to find the file as its own commit added it.
#
# Composing works on git objects alone. It is a pure function of the files
# here and the base, so equal files give equal commit ids, a failure changes
# nothing, and only the files that differ are rewritten in the work tree.

. "$(dirname -- "$0")/common.sh"

AUTHOR="$GIT_COMMITTER_NAME <$GIT_COMMITTER_EMAIL>"
COMPOSED=refs/series/composed	# what the last compose produced
BASE_REF=refs/series/base	# the base it stands on

SCRATCH=$(mktemp -d)
trap 'rm -rf -- "$SCRATCH"' EXIT
export GIT_CEILING_DIRECTORIES=$SCRATCH

tree_git() { git -C "$TREE" "$@"; }

# series_lines: "PATCH [ADDED-FILE ...]", comments and blank lines gone
series_lines() { sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$PATCHES/series"; }

# added_here: every file below the directories for added files
added_here()
{
	local d
	for d in "${ADDED_DIRS[@]}"; do
		[ ! -d "$TOP/$d" ] || (cd -- "$TOP" && find "$d" ! -type d)
	done | LC_ALL=C sort
}

# patch_touches PATCH: the files that have hunks in it
patch_touches() { sed -n 's,^diff --git a/\(.*\) b/.*,\1,p' "$PATCHES/$1"; }

check()
{
	local patch files f
	local -A seen=() owner=()

	[ -f "$PATCHES/series" ] || die "$PATCHES/series is missing" "git checkout -- $PATCHES"
	while read -r patch files; do
		[ -f "$PATCHES/$patch" ] || die "series names $patch, which does not exist" \
			"correct $PATCHES/series"
		[ -z "${seen[$patch]:-}" ] || die "series names $patch twice" "correct $PATCHES/series"
		seen[$patch]=1
		for f in $files; do
			[ -e "$TOP/$f" ] || die "series gives $patch the added file $f, which does not exist" \
				"correct $PATCHES/series, or restore the file"
			[ -z "${owner[$f]:-}" ] || die "$f is added by both ${owner[$f]} and $patch" \
				"name it once in $PATCHES/series"
			owner[$f]=$patch
		done
	done < <(series_lines)
	for f in "$PATCHES"/*.patch; do
		[ ! -e "$f" ] || [ -n "${seen[${f##*/}]:-}" ] || die \
			"${f##*/} is in $PATCHES but not in series" "add a line to $PATCHES/series"
	done
	while read -r f; do
		[ -n "${owner[$f]:-}" ] || die "the added file $f belongs to no patch" \
			"name it in $PATCHES/series, behind the patch whose commit adds it"
	done < <(added_here)
}

# first_versions: put each added file, as its own commit added it, into
# $SCRATCH/added, by taking back the hunks of later patches, last patch first.
first_versions()
{
	local -a lines
	local patch files f i touched work=$SCRATCH/work

	rm -rf "$work" "$SCRATCH/added"
	mkdir -p "$work" "$SCRATCH/added"
	while read -r f; do
		mkdir -p "$work/$(dirname "$f")"
		cp -P --preserve=mode "$TOP/$f" "$work/$f"
	done < <(added_here)

	mapfile -t lines < <(series_lines)
	for ((i = ${#lines[@]} - 1; i >= 0; i--)); do
		read -r patch files <<<"${lines[i]}"
		for f in $files; do
			mkdir -p "$SCRATCH/added/$(dirname "$f")"
			mv -- "$work/$f" "$SCRATCH/added/$f"
		done
		touched=()
		while read -r f; do
			[ ! -e "$work/$f" ] || touched+=("--include=$f")
		done < <(patch_touches "$patch")
		[ ${#touched[@]} -gt 0 ] || continue
		(cd "$work" && git apply -R "${touched[@]}" "$PATCHES/$patch") 2>"$SCRATCH/err" ||
			die "$patch does not match an added file: $(head -n 1 "$SCRATCH/err")" \
			    "change added files in $TREE, commit there, and run: make refresh"
	done
}

# compose GITDIR BASE: print the id of the last commit
compose()
{
	local gitdir=$1 parent=$2 patch files f mode blob tree
	local info=$SCRATCH/info msg=$SCRATCH/msg diff=$SCRATCH/diff

	check
	first_versions
	export GIT_INDEX_FILE=$SCRATCH/index GIT_DIR=$gitdir
	git read-tree "$parent"
	while read -r patch files; do
		git mailinfo -b --encoding=UTF-8 "$msg" "$diff" <"$PATCHES/$patch" >"$info" 2>/dev/null ||
			die "$patch is not a patch mail" "write it with: make refresh"
		if grep -q '^diff --git ' "$diff"; then
			git apply --cached --whitespace=nowarn "$diff" 2>"$SCRATCH/err" ||
				die "$patch does not apply: $(sed -n 's/^error: //p' "$SCRATCH/err" | head -n 1)" \
				    "rebase the commits of $TREE and run make refresh, or give the base of $PATCHES/BASE"
		fi
		for f in $files; do
			! git cat-file -e "$parent:$f" 2>/dev/null ||
				die "$patch adds $f, which is there already" \
				    "keep edits to existing files in a patch: commit them in $TREE and run make refresh"
			if [ -L "$SCRATCH/added/$f" ]; then
				mode=120000
				blob=$(readlink -n "$SCRATCH/added/$f" | git hash-object -w --stdin)
			else
				mode=100644
				[ ! -x "$SCRATCH/added/$f" ] || mode=100755
				blob=$(git hash-object -w --no-filters "$SCRATCH/added/$f")
			fi
			git update-index --add --cacheinfo "$mode,$blob,$f"
		done
		tree=$(git write-tree)
		[ "$tree" != "$(git rev-parse "$parent^{tree}")" ] ||
			die "$patch changes nothing" "drop it from $PATCHES/series"
		{ sed -n 's/^Subject: //p' "$info"; echo; cat "$msg"; } | git stripspace >"$msg.all"
		parent=$(
			GIT_AUTHOR_NAME=$(sed -n 's/^Author: //p' "$info")
			GIT_AUTHOR_EMAIL=$(sed -n 's/^Email: //p' "$info")
			GIT_AUTHOR_DATE=$(sed -n 's/^Date: //p' "$info")
			GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
			export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_DATE
			git commit-tree -p "$parent" -F "$msg.all" "$tree"
		)
	done < <(series_lines)
	unset GIT_INDEX_FILE GIT_DIR
	printf '%s\n' "$parent"
}

# compose_other DIR GITDIR BASE: the series of another checkout
compose_other()
{
	local patches=${PATCHES#"$TOP"/}

	TOP=$1 PATCHES=$1/$patches compose "$2" "$3"
}

# tree_dirty: the first edit of $TREE that is not committed
tree_dirty() { tree_git status --porcelain --untracked-files=no | sed -n 1p; }

cmd_tree()
{
	local base gitdir new head composed source

	source=$("$TOP/scripts/base.sh")
	read -r gitdir base <<<"$source"

	if [ ! -e "$TREE/.git" ]; then
		need_space "$(dirname -- "$TREE")" 2560
		rm -rf -- "$TREE.new"
		say "checking out Linux $(base_key version)"
		# A cache may be emptied at any time: take its objects along
		# (hard links). A user's own tree stays: refer to it.
		if [ -n "${KERNEL:-}" ]; then
			git clone -q --shared --no-checkout "$gitdir" "$TREE.new"
		else
			git clone -q --no-checkout "$gitdir" "$TREE.new"
		fi
		git -C "$TREE.new" remote remove origin
		git -C "$TREE.new" checkout -q --detach "$base"
		git -C "$TREE.new" update-ref "$BASE_REF" "$base"
		git -C "$TREE.new" update-ref "$COMPOSED" "$base"
		git -C "$TREE.new" for-each-ref --format='%(refname)' refs/heads |
			xargs -r -n 1 git -C "$TREE.new" update-ref -d
		git -C "$TREE.new" switch -q -c series
		# Build output of the kernel lives below the tree: see Makefile.
		printf '/out-*/\n' >>"$TREE.new/.git/info/exclude"
		mv -T -- "$TREE.new" "$TREE"
	elif ! tree_git cat-file -e "$base^{commit}" 2>/dev/null; then
		die "$TREE stands on another base than the one asked for" \
		    "save your commits with make refresh, then: make distclean"
	fi

	new=$(compose "$(tree_git rev-parse --absolute-git-dir)" "$base")
	head=$(tree_git rev-parse HEAD)
	composed=$(tree_git rev-parse "$COMPOSED")
	if [ "$head" = "$new" ]; then
		:
	elif [ "$head" = "$composed" ] || [ "${FORCE:-0}" = 1 ]; then
		[ "$head" = "$composed" ] || {
			tree_git branch -f "before-$(date +%Y%m%d-%H%M%S)" "$head"
			say "the commits that were in $TREE are kept on a branch before-..."
		}
		tree_git reset -q --keep "$new" 2>"$SCRATCH/err" ||
			die "$TREE has uncommitted edits where the series changed: $(head -n 1 "$SCRATCH/err")" \
			    "commit or stash them in $TREE"
	elif [ "$new" = "$composed" ]; then
		say "$TREE has $(tree_git rev-list --count "$composed..$head" 2>/dev/null || echo some) commit(s) that make refresh has not written yet; left as it is"
		return
	else
		die "both $TREE and the files here changed since they last agreed" \
		    "take the files' side with make tree FORCE=1 (the commits stay on a branch), or git stash the files and make refresh"
	fi
	tree_git update-ref "$COMPOSED" "$new"
	tree_git update-ref "$BASE_REF" "$base"
	say "$TREE: $(tree_git rev-list --count "$base..$new") commits on Linux $(base_key version)"
}

# need_tree: the tree is there and its work is committed
need_tree()
{
	[ -e "$TREE/.git" ] || die "there is no tree at $TREE" "make tree"
	local dirty
	dirty=$(tree_dirty)
	[ -z "$dirty" ] || die "$TREE has uncommitted changes: ${dirty:3}" "commit them there first"
}

# patch_mail COMMIT EXCLUDED-PATH...: the commit as a mail, without the files
# it adds. Nothing of it depends on git's version, configuration or the clock.
patch_mail()
{
	local commit=$1
	shift
	tree_git log -1 --encoding=UTF-8 --date=rfc \
		--format="From $(printf '0%.0s' {1..40}) Mon Sep 17 00:00:00 2001%nFrom: $AUTHOR%nDate: %ad%nSubject: [PATCH] %s%n%n%b" \
		"$commit" | git stripspace
	echo ---
	tree_git diff-tree --no-commit-id --no-renames --no-ext-diff --no-textconv -p --stat=80 \
		--full-index --summary --src-prefix=a/ --dst-prefix=b/ --diff-algorithm=histogram \
		"$commit" -- . "$@"
}

cmd_refresh()
{
	local base head now composed commit n=0 name f subject bad
	local out=$SCRATCH/out
	local -a added exclude

	need_tree
	base=$(tree_git rev-parse "$BASE_REF")
	head=$(tree_git rev-parse HEAD)
	composed=$(tree_git rev-parse "$COMPOSED")
	now=$(compose "$(tree_git rev-parse --absolute-git-dir)" "$base" 2>"$SCRATCH/err") || now=broken
	if [ "$now" = "$head" ]; then
		:
	elif [ "$now" != "$composed" ] && [ "${FORCE:-0}" != 1 ]; then
		[ "$now" != broken ] || sed 's/^/  /' "$SCRATCH/err" >&2
		die "patches or added files were edited here since make tree; refresh would lose that" \
		    "make tree first; or make refresh FORCE=1 to overwrite them with $TREE"
	fi
	bad=$(tree_git rev-list -n 1 --merges "$base..$head")
	[ -z "$bad" ] || die "commit ${bad:0:12} is a merge, a series has none" "git rebase in $TREE"

	mkdir -p "$out/patches" "$out/files"
	cat >"$out/patches/series" <<-'EOT'
	# SPDX-License-Identifier: GPL-2.0-only
	# The order of the series. Behind a patch: the added files of its commit.
	# Written by "make refresh".
	EOT
	for commit in $(tree_git rev-list --reverse "$base..$head"); do
		n=$((n + 1))
		subject=$(tree_git log -1 --format='%h ("%s")' "$commit")
		bad=$(tree_git log -1 --format=%B "$commit" |
		      grep -m 1 -iE '^(Signed-off|Reviewed|Tested|Acked|Reported)-by:' || :)
		[ -z "$bad" ] || die "commit $subject has the trailer \"${bad%%:*}:\"" \
			"drop it; make mbox adds the sender's Signed-off-by, reviewers give their own"
		bad=$(tree_git log -1 --format=%s "$commit" | grep -E '^(fixup|squash|amend)!' || :)
		[ -z "$bad" ] || die "commit $subject waits to be squashed" \
			"git rebase -i --autosquash in $TREE"
		bad=$(tree_git diff-tree -r --no-commit-id --name-only --no-renames --diff-filter=D "$commit" | sed -n 1p)
		if [ -n "$bad" ] && ! tree_git cat-file -e "$base:$bad" 2>/dev/null; then
			die "commit $subject removes $bad, which the series itself adds" \
			    "fold the removal into the commit that adds it"
		fi
		mapfile -t added < <(tree_git diff-tree -r --no-commit-id --name-only --no-renames --diff-filter=A "$commit")
		exclude=()
		for f in "${added[@]}"; do
			case " ${ADDED_DIRS[*]} " in
			*" ${f%%/*} "*) ;;
			*) die "commit $subject adds $f; added files live below ${ADDED_DIRS[*]}" \
				"move it, or see ADDED_DIRS in scripts/common.sh" ;;
			esac
			exclude+=(":(exclude,literal)$f")
		done
		name=$(tree_git log -1 --format=%f "$commit" | cut -c1-52 | sed 's/[-.]*$//')
		name=$(printf '%04d-%s.patch' "$n" "$name")
		patch_mail "$commit" "${exclude[@]}" >"$out/patches/$name"
		printf '%s\n' "$name${added[*]:+ ${added[*]}}" >>"$out/patches/series"
		for f in "${added[@]}"; do
			mkdir -p "$out/files/$(dirname "$f")"
			printf '%s\n' "$f" >>"$out/added"
		done
	done
	touch "$out/added"
	# Added files are kept as the end of the series has them.
	while read -r f; do
		case $(tree_git ls-tree "$head" -- "$f") in
		120000*) ln -s "$(tree_git cat-file blob "$head:$f")" "$out/files/$f" ;;
		100755*) tree_git cat-file blob "$head:$f" >"$out/files/$f"; chmod 755 "$out/files/$f" ;;
		*) tree_git cat-file blob "$head:$f" >"$out/files/$f" ;;
		esac
	done <"$out/added"

	# Everything could be written: only now change the files here.
	{
		grep -v '^file:' "$PATCHES/BASE"
		tree_git diff --name-only --no-renames --diff-filter=MDT "$base" "$head" | while read -r f; do
			printf 'file: %s %s\n' "$(tree_git cat-file blob "$base:$f" | sha256sum | cut -d' ' -f1)" "$f"
		done
	} >"$out/patches/BASE"
	install_changed "$out/patches" "$PATCHES"
	for f in "$PATCHES"/*.patch; do
		[ ! -e "$f" ] || [ -e "$out/patches/${f##*/}" ] || rm -- "$f"
	done
	while read -r f; do
		[ -e "$out/files/$f" ] || [ -L "$out/files/$f" ] || {
			rm -- "$TOP/$f"
			(cd -- "$TOP" && rmdir -p --ignore-fail-on-non-empty "$(dirname "$f")")
		}
	done < <(added_here)
	install_changed "$out/files" "$TOP"

	# What was written must compose to what was read, to the byte.
	now=$(compose "$(tree_git rev-parse --absolute-git-dir)" "$base")
	[ "$(tree_git rev-parse "$now^{tree}")" = "$(tree_git rev-parse "$head^{tree}")" ] ||
		die "the files written do not compose to the tree they came from" \
		    "this is a bug of scripts/series.sh; $TREE is unchanged"
	tree_git reset -q --keep "$now"
	tree_git update-ref "$COMPOSED" "$now"
	say "$n patches in $PATCHES, $(wc -l <"$out/added") added files"
}

# install_changed FROM TO: leave files that are the same alone, mtime and all
install_changed()
{
	local f
	(cd "$1" && find . ! -type d) | while read -r f; do
		f=${f#./}
		if [ -L "$1/$f" ]; then
			[ "$(readlink "$2/$f" 2>/dev/null)" = "$(readlink "$1/$f")" ] && continue
		elif [ ! -L "$2/$f" ] && cmp -s "$1/$f" "$2/$f" &&
		     [ "$(test -x "$1/$f"; echo $?)" = "$(test -x "$2/$f"; echo $?)" ]; then
			continue
		fi
		mkdir -p "$(dirname -- "$2/$f")"
		cp -P --preserve=mode --remove-destination "$1/$f" "$2/$f"
	done
}

# composed_range: the base and the end of the series as the files here have it
composed_range()
{
	[ -e "$TREE/.git" ] || cmd_tree >&2
	BASE_ID=$(tree_git rev-parse "$BASE_REF")
	HEAD_ID=$(compose "$(tree_git rev-parse --absolute-git-dir)" "$BASE_ID")
}

cmd_apply()
{
	local kernel=${1:-} branch start n=0 f err line

	[ -n "$kernel" ] || die "apply needs the tree to apply to" "make apply KERNEL=/path/to/linux"
	[ -d "$kernel" ] && git -C "$kernel" rev-parse --git-dir >/dev/null 2>&1 ||
		die "$kernel is not a git tree" "git init and commit there first, or use make mbox with quilt"
	[ -f "$kernel/Kbuild" ] && [ -d "$kernel/virt/kvm" ] ||
		die "$kernel is not the top of a Linux source tree" "give the directory that has virt/kvm"
	f=$(git -C "$kernel" status --porcelain --untracked-files=no | sed -n 1p)
	[ -z "$f" ] || die "$kernel has uncommitted changes: ${f:3}" "commit or stash them there"
	[ ! -d "$(git -C "$kernel" rev-parse --absolute-git-dir)/rebase-apply" ] ||
		die "a git am or rebase is under way in $kernel" "finish it, or git am --abort"
	branch=${BRANCH:-kvm-vcpu-reset}
	! git -C "$kernel" show-ref -q --verify "refs/heads/$branch" ||
		die "$kernel has a branch $branch already" "make apply KERNEL=$kernel BRANCH=another-name"

	KERNEL='' composed_range
	tree_git format-patch -q --no-signature -o "$SCRATCH/am" "$BASE_ID..$HEAD_ID"

	start=$(git -C "$kernel" symbolic-ref -q --short HEAD || git -C "$kernel" rev-parse HEAD)
	git -C "$kernel" switch -q -c "$branch"
	# As it was, also when interrupted; "switch" wants to be told of a bare commit.
	undo_apply()
	{
		git -C "$kernel" am --abort >/dev/null 2>&1 || :
		git -C "$kernel" switch -q "$start" 2>/dev/null ||
			git -C "$kernel" switch -q --detach "$start"
		git -C "$kernel" branch -q -D "$branch"
	}
	trap 'undo_apply; rm -rf -- "$SCRATCH"; exit 130' INT TERM
	for f in "$SCRATCH"/am/*.patch; do
		if ! err=$(git -C "$kernel" am -q --no-gpg-sign "$f" 2>&1); then
			undo_apply
			line=$(sed -n 's/^error: patch failed: //p; s/^error: \(.*already exists.*\)/\1/p' <<<"$err" | head -n 1)
			DIE_STATUS=1 die "${f##*/} does not apply at ${line:-$(head -n 1 <<<"$err")}; $kernel is as before" \
				"apply to Linux $(base_key version), or rebase: see \"Another base\" in README.md"
		fi
		n=$((n + 1))
	done
	trap - INT TERM
	say "$kernel: $n commits on the new branch $branch"
}

# signed GITDIR BASE HEAD: the same commits, by the sender
signed()
{
	local parent=$2 commit
	export GIT_DIR=$1
	for commit in $(git rev-list --reverse "$2..$3"); do
		git log -1 --format=%B "$commit" |
			git interpret-trailers --trailer "Signed-off-by: $SENDER_NAME <$SENDER_EMAIL>" >"$SCRATCH/msg"
		parent=$(
			GIT_AUTHOR_NAME=$SENDER_NAME GIT_AUTHOR_EMAIL=$SENDER_EMAIL \
			GIT_AUTHOR_DATE=$(git log -1 --format=%aI "$commit") \
			GIT_COMMITTER_NAME=$SENDER_NAME GIT_COMMITTER_EMAIL=$SENDER_EMAIL \
			GIT_COMMITTER_DATE=$(git log -1 --format=%cI "$commit") \
			git commit-tree -p "$parent" -F "$SCRATCH/msg" "$commit^{tree}")
	done
	unset GIT_DIR
	printf '%s\n' "$parent"
}

# maintainers PATCH...: "to: ADDRESS" and "cc: ADDRESS". People and lists that
# maintain what is touched are To, the rest of what get_maintainer.pl says Cc.
maintainers()
{
	mkdir -p "$SCRATCH/mpath"
	cp "$TREE/MAINTAINERS" "$SCRATCH/mpath/kernel"
	cp "$TOP/MAINTAINERS" "$SCRATCH/mpath/series"
	(cd "$TREE" && ./scripts/get_maintainer.pl --mpath "$SCRATCH/mpath/" --no-tree \
		--nogit --nogit-fallback --no-rolestats --no-n --no-l --no-r --m "$@" 2>>"$SCRATCH/err") |
		sed 's/^/to: /'
	(cd "$TREE" && ./scripts/get_maintainer.pl --mpath "$SCRATCH/mpath/" --no-tree \
		--nogit --nogit-fallback --no-rolestats --no-n --no-m --l --r "$@" 2>>"$SCRATCH/err") |
		sed 's/^/cc: /'
}

cmd_mbox()
{
	local version=${VERSION:-1} gitdir head out line prev prev_tag prev_dir
	local -a opts=() who=()

	case $version in
	''|*[!0-9]*|0) die "VERSION=$version is not a version number" "make mbox VERSION=2" ;;
	esac
	SENDER_NAME=$(command git -C "$TOP" config user.name || :)
	SENDER_EMAIL=$(command git -C "$TOP" config user.email || :)
	[ -n "$SENDER_NAME" ] && [ -n "$SENDER_EMAIL" ] ||
		die "git does not know who sends the series" \
		    "git config user.name \"Your Name\" && git config user.email you@example.org"
	command -v perl >/dev/null || die "get_maintainer.pl needs perl" "apt-get install perl"
	[ -f "$PATCHES/cover-letter" ] || die "$PATCHES/cover-letter is missing" "git checkout -- $PATCHES"
	composed_range
	gitdir=$(tree_git rev-parse --absolute-git-dir)
	head=$(signed "$gitdir" "$BASE_ID" "$HEAD_ID")

	if [ "$version" -gt 1 ]; then
		prev_tag=${SINCE:-sent/v$((version - 1))}
		git -C "$TOP" rev-parse -q --verify "$prev_tag^{commit}" >/dev/null ||
			die "VERSION=$version needs the commit that version $((version - 1)) was sent from; there is no $prev_tag" \
			    "git tag $prev_tag <commit>, or make mbox VERSION=$version SINCE=<commit>"
		prev_dir=$SCRATCH/prev
		mkdir -p "$prev_dir"
		git -C "$TOP" archive "$prev_tag" | tar -C "$prev_dir" -xf -
		prev=$(compose_other "$prev_dir" "$gitdir" "$BASE_ID")
		prev=$(signed "$gitdir" "$BASE_ID" "$prev")
		opts+=("--range-diff=$BASE_ID..$prev")
	fi

	tree_git format-patch -q --no-signature -o "$SCRATCH/plain" "$BASE_ID..$head"
	: >"$SCRATCH/err"
	while read -r line; do
		case $line in
		to:*) who+=(--to="${line#to: }") ;;
		cc:*) who+=(--cc="${line#cc: }") ;;
		esac
	done < <(maintainers "$SCRATCH"/plain/*.patch)
	[ ${#who[@]} -gt 0 ] || die "get_maintainer.pl names nobody to send it to: $(head -n 1 "$SCRATCH/err")" \
		"see that it runs: $TREE/scripts/get_maintainer.pl"
	out=$BUILD/mbox/v$version
	rm -rf -- "$out" "$out.mbox"
	mkdir -p "$out"
	{
		# The first line of the file is the subject.
		cat "$PATCHES/cover-letter"
		printf '\nBase: Linux %s (tag %s)\n' "$(base_key version)" "$(base_key tag)"
	} >"$SCRATCH/cover"
	[ "$version" = 1 ] || opts+=(-v "$version")
	# The cover letter is from who commits.
	GIT_COMMITTER_NAME=$SENDER_NAME GIT_COMMITTER_EMAIL=$SENDER_EMAIL \
	tree_git -c format.attach=false -c format.pretty=email \
		format-patch -q --no-signature --thread=shallow --cover-letter \
		--cover-from-description=none "${opts[@]}" "${who[@]}" -o "$out" "$BASE_ID..$head"
	cover "$SCRATCH/cover" "$out"/*0000-cover-letter.patch
	find "$out" -name '*.patch' ! -name '*0000-cover-letter.patch' -print0 | LC_ALL=C sort -z |
		xargs -0 cat >"$out.mbox"
	say "$out/: cover letter and $(tree_git rev-list --count "$BASE_ID..$head") patches, for git send-email or b4"
	say "$out.mbox: the patches in one file, for git am"
}

# cover TEXT MAIL: the first line of TEXT is the subject, the rest the body
cover()
{
	awk -v text="$1" '
		BEGIN { getline subject <text }
		/^Subject: / { sub(/\*\*\* SUBJECT HERE \*\*\*/, subject) }
		/^\*\*\* BLURB HERE \*\*\*$/ {
			getline line <text
			while ((getline line <text) > 0)
				print line
			next
		}
		{ print }' "$2" >"$2.new"
	mv -- "$2.new" "$2"
}

# saved: refuse when $TREE has work that is not in the files here
cmd_saved()
{
	[ -e "$TREE/.git" ] || return 0
	need_tree
	[ "$(tree_git rev-parse HEAD)" = "$(tree_git rev-parse "$COMPOSED")" ] ||
		die "$TREE has commits that are not in $PATCHES" \
		    "make refresh, or throw them away with FORCE=1"
}

case ${1:-} in
check) check && say "series: $(series_lines | wc -l) patches" ;;
tree) cmd_tree ;;
refresh) cmd_refresh ;;
apply) shift; cmd_apply "$@" ;;
mbox) cmd_mbox ;;
saved) cmd_saved ;;
*) die "series.sh knows check, tree, refresh, apply, mbox and saved, not \"${1:-}\"" "make help" ;;
esac
