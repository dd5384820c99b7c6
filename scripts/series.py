#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The series as files here, as commits in a git tree, as mail.

    series.py check           the files agree with each other
    series.py topics          the names of the topics, in order
    series.py needs TOPIC     what it needs, directly and indirectly, in order
    series.py apart           each topic applies to what it needs alone
    series.py tree            files -> commits in $TREE; TOPIC=: of what it needs and itself
    series.py refresh         commits in $TREE -> files
    series.py apply KERNEL    commits on a new branch of another tree; TOPIC=
    series.py mbox            commits -> mail, one directory a topic; TOPIC=
    series.py saved           is there nothing in $TREE that would be lost?

patches/<version>/series names the topics in order, and what each needs.
A line of TOPIC/series names a patch and the added files that belong to its commit.
Added files are kept as they are at the end of the series; a later patch that
changes one has its hunks like any other, and composing takes them back to find
the file as its own commit added it.

In the composed tree a commit tells its topic in the trailer "Topic:", which is
neither written to the patch nor mailed. A commit without one belongs to the
topic of the commit before it.

Composing is a pure function of the files here and the base: equal files give
equal commit ids, and a failure changes nothing. What was composed once is known
by its content, see Memo.
"""

import concurrent.futures
import contextlib
import email.header
import email.utils
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD") or os.path.join(TOP, "build")
TREE = os.environ.get("TREE") or os.path.join(BUILD, "linux")
PATCHES = os.environ.get("PATCHES") or os.path.join(TOP, "patches", "v7.3")
TOPIC = os.environ.get("TOPIC", "")
FORCE = os.environ.get("FORCE", "0") == "1"

# Directories that hold added files; anything else at the top is ours.
ADDED_DIRS = ("arch", "include", "virt", "Documentation", "tools")

# The identity on composed commits. A person who sends the series replaces it
# with their own: see cmd_mbox().
NAME, EMAIL = "KVM vCPU reset series", "kvm-vcpu-reset@example.org"

BASE_REF = "refs/series/base"		# the base that $TREE stands on
COMPOSED = "refs/series/composed"	# what was composed last
PERSONAL = re.compile(rb"^((?:Signed-off|Reviewed|Tested|Acked|Reported|Suggested)-by):", re.I | re.M)
TRAILER = re.compile(r"^[A-Za-z][A-Za-z0-9-]*: ?\S")

# The user's git configuration must not change what is composed.
GIT = ["git"] + [word for option in (
    "core.autocrlf=false", "commit.gpgSign=false", "core.quotePath=false", "diff.noprefix=false",
    "advice.detachedHead=false", "core.abbrev=12", "gc.auto=0", "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null", "clone.defaultRemoteName=origin", "protocol.file.allow=always",
    "diff.context=3", "diff.interHunkContext=0", "format.numbered=auto", "format.filenameMaxLength=64") for word in ("-c", option)]
# Nor must the repository of a hook or of "git rebase --exec" that all this runs in.
for _name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX",
              "GIT_NAMESPACE", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_LITERAL_PATHSPECS"):
    os.environ.pop(_name, None)
DIFF = ["--no-renames", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"]


class Failure(Exception):
    def __init__(self, what, then="", status=2):
        super().__init__(what)
        self.then, self.status = then, status


def say(text):
    print(text, flush=True)


def short(path):
    """A path as people here know it."""
    return os.path.relpath(path, TOP) if path.startswith(TOP + "/") else path


def git(*args, where=None, data=None, text=True, env=None, check=True):
    """Run git in $TREE, or in WHERE; its output. A failure is ours unless CHECK is false."""
    done = subprocess.run(GIT + (["-C", where or TREE]) + list(args), input=data, capture_output=True,
                          env={**os.environ, **(env or {})}, check=False)
    if check and done.returncode:
        raise Failure(f"git {args[0]}: {done.stderr.decode(errors='replace').strip()}", "see the line above")
    if not check:
        return done
    return done.stdout.decode().rstrip("\n") if text else done.stdout


def has(rev, where=None):
    return git("rev-parse", "-q", "--verify", rev, where=where, check=False).returncode == 0


def read(path):
    with open(path, "rb") as f:
        return f.read()


def lines(path):
    """The lines of a list, without comments and blank ones, split into words."""
    for line in read(path).decode().splitlines():
        words = line.split("#")[0].split()
        if words:
            yield words


def base_key(key, patches=None):
    found = re.search(rf"^{key}: *(.*)$", read(os.path.join(patches or PATCHES, "BASE")).decode(), re.M)
    return found.group(1).strip() if found else ""


# --- the files ----------------------------------------------------------------

class File:
    """A file as git has it: mode and content."""
    def __init__(self, mode, data):
        self.mode, self.data = mode, data

    def __eq__(self, other):
        return isinstance(other, File) and (self.mode, self.data) == (other.mode, other.data)

    @staticmethod
    def at(path):
        if os.path.islink(path):
            return File("120000", os.readlink(path).encode())
        return File("100755" if os.access(path, os.X_OK) else "100644", read(path))

    def write(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        if self.mode == "120000":
            os.symlink(self.data.decode(), path)
            return
        with open(path, "wb") as f:
            f.write(self.data)
        os.chmod(path, 0o755 if self.mode == "100755" else 0o644)


class Patch:
    """One commit: NAME as TOPIC/NNNN-subject.patch, and the files that it adds."""
    def __init__(self, topic, name, path, added):
        self.topic, self.name, self.path, self.added = topic, f"{topic}/{name}", path, added
        self.raw = read(path)
        head, _, body = self.raw.partition(b"\n\n")
        fields = dict(re.findall(rb"^(From|Date|Subject): (.*)$", head, re.M))
        if len(fields) != 3 or b"\n---\n" not in b"\n" + body:
            raise Failure(f"{self.name} is not a patch mail", "write it with: make refresh")
        text, _, self.diff = (b"\n" + body).partition(b"\n---\n")
        self.diff = self.diff[max(self.diff.find(b"diff --git "), 0):] if b"diff --git " in self.diff else b""
        subject = re.sub(r"^\[PATCH\] ", "", fields[b"Subject"].decode())
        self.author = fields[b"From"].decode()
        when = email.utils.parsedate_tz(fields[b"Date"].decode())
        if not when:
            raise Failure(f"{self.name} has no date", "write it with: make refresh")
        offset = when[9] or 0
        zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02d}{abs(offset) // 60 % 60:02d}"
        self.date = f"{email.utils.mktime_tz(when)} {zone}"
        self.message = f"{subject}\n\n{text.decode().strip()}".strip() + "\n"
        self.touches = [m.decode() for m in re.findall(rb"^diff --git a/(.*) b/", self.diff, re.M)]


class Topic:
    def __init__(self, name, needs, to):
        self.name, self.needs, self.to = name, needs, to
        self.patches = []


class Series:
    """The files below PATCHES and the added ones below TOP."""
    def __init__(self, top=TOP, patches=None):
        self.top, self.dir = top, patches or PATCHES
        self.topics, self.files = {}, {}
        self.read()

    def read(self):
        index = os.path.join(self.dir, "series")
        if not os.path.exists(index):
            raise Failure(f"{short(index)} is missing", f"git checkout -- {short(self.dir)}")
        for name, needs, *to in (words + ["-"] * (2 - len(words)) for words in lines(index)):
            needs = [] if needs == "-" else needs.split(",")
            if name in self.topics:
                raise Failure(f"series names {name} twice", f"correct {short(index)}")
            for need in needs:
                if need not in self.topics:
                    raise Failure(f"{name} needs {need}, which is no topic before it", f"correct {short(index)}")
            self.topics[name] = Topic(name, needs, to)
            self.read_topic(self.topics[name])
        for entry in sorted(os.listdir(self.dir)):
            if os.path.isdir(os.path.join(self.dir, entry)) and entry not in self.topics and entry != "stable":
                raise Failure(f"{entry} is in {short(self.dir)} but not in series", f"add a line to {short(index)}")
        for path in self.added_here():
            if path not in self.files:
                raise Failure(f"the added file {path} belongs to no patch",
                              f"name it in a series of {short(self.dir)}, behind the patch that adds it")

    def read_topic(self, topic):
        where = os.path.join(self.dir, topic.name)
        index = os.path.join(where, "series")
        if not os.path.exists(index):
            # A topic that was just named: refresh fills it.
            return
        seen = set()
        for name, *added in lines(index):
            path = os.path.join(where, name)
            if not os.path.isfile(path):
                raise Failure(f"series names {topic.name}/{name}, which does not exist", f"correct {short(index)}")
            if name in seen:
                raise Failure(f"series names {topic.name}/{name} twice", f"correct {short(index)}")
            seen.add(name)
            patch = Patch(topic.name, name, path, added)
            for f in added:
                if not os.path.lexists(os.path.join(self.top, f)):
                    raise Failure(f"series gives {patch.name} the added file {f}, which does not exist",
                                  f"correct {short(index)}, or restore the file")
                if f in self.files:
                    raise Failure(f"{f} is added by both {self.files[f].name} and {patch.name}",
                                  f"name it once in {short(self.dir)}")
                self.files[f] = patch
            topic.patches.append(patch)
        for entry in sorted(os.listdir(where)):
            if entry.endswith(".patch") and entry not in seen:
                raise Failure(f"{topic.name}/{entry} is in {short(self.dir)} but not in series", f"add a line to {short(index)}")

    def added_here(self):
        for top in ADDED_DIRS:
            for where, _, names in os.walk(os.path.join(self.top, top)):
                for name in names:
                    yield os.path.relpath(os.path.join(where, name), self.top)

    def patches(self, topics=None):
        return [p for t in self.topics.values() if topics is None or t.name in topics for p in t.patches]

    def topic(self, name):
        if name not in self.topics:
            raise Failure(f"there is no topic {name}", f"TOPIC= one of: {' '.join(self.topics)}")
        return self.topics[name]

    def needs(self, name):
        """What NAME needs, and what that needs, in the order of the series."""
        wanted, todo = set(), list(self.topic(name).needs)
        while todo:
            need = todo.pop()
            if need not in wanted:
                wanted.add(need)
                todo += self.topics[need].needs
        return [t for t in self.topics if t in wanted]

    def key(self, *more):
        """A hash of all that composing depends on."""
        sha = hashlib.sha256(read(os.path.abspath(__file__)))
        sha.update("\0".join(p.name for p in self.patches()).encode())
        for path in ([os.path.join(self.dir, "series")] +
                     [os.path.join(self.dir, t, "series") for t in self.topics if self.topics[t].patches]):
            sha.update(read(path))
        for patch in self.patches():
            sha.update(patch.raw)
        for f in sorted(self.files):
            file = File.at(os.path.join(self.top, f))
            sha.update(f"{f} {file.mode} {len(file.data)} ".encode() + file.data)
        sha.update("\0".join(more).encode())
        return sha.hexdigest()


# --- composing ----------------------------------------------------------------

class Memo:
    """What was composed: "KEY COMMIT" lines in the git directory that has the commits."""
    def __init__(self, gitdir):
        self.path = os.path.join(gitdir, "series-composed")
        self.known = {}
        with contextlib.suppress(OSError, ValueError):
            self.known = dict(line.split() for line in read(self.path).decode().splitlines()[-200:])

    def get(self, key, gitdir):
        commit = self.known.get(key)
        return commit if commit and has(f"{commit}^{{commit}}", where=gitdir) else None

    def put(self, key, commit):
        self.known.pop(key, None)
        self.known[key] = commit
        with open(self.path + ".new", "w", encoding="ascii") as f:
            f.writelines(f"{k} {c}\n" for k, c in self.known.items())
        os.replace(self.path + ".new", self.path)


def base_contents(gitdir, base, paths):
    """The files of PATHS that the base has."""
    listing = {}
    out = git("ls-tree", "-r", "-z", base, "--", *paths, where=gitdir) if paths else ""
    for entry in out.split("\0"):
        if entry:
            (mode, _, blob), path = entry.split("\t")[0].split(), entry.split("\t")[1]
            listing[path] = (mode, blob)
    with subprocess.Popen(GIT + ["-C", gitdir, "cat-file", "--batch"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as cat:
        result = {}
        for path, (mode, blob) in listing.items():
            cat.stdin.write(f"{blob}\n".encode())
            cat.stdin.flush()
            size = int(cat.stdout.readline().split()[2])
            result[path] = File(mode, cat.stdout.read(size))
            cat.stdout.read(1)
        cat.stdin.close()
    return result


class Area:
    """A directory with nothing but the files that the series touches: there git apply
    takes milliseconds, where it takes a second with the index of a kernel."""
    def __init__(self, scratch, files):
        self.dir = tempfile.mkdtemp(dir=scratch)
        self.files = dict(files)
        for path, file in files.items():
            file.write(os.path.join(self.dir, path))

    def apply(self, patch, reverse=False, only=None):
        """The error, or None; then the touched files are changed in self.files too."""
        touches = [p for p in patch.touches if only is None or p in only]
        args = ["apply", "--whitespace=nowarn"] + (["-R"] if reverse else [])
        if only is not None:
            args += [f"--include={p}" for p in touches]
        if touches:
            done = git(*args, "-", where=self.dir, data=patch.diff, check=False,
                       env={"GIT_CEILING_DIRECTORIES": os.path.dirname(self.dir), "LC_ALL": "C"})
            if done.returncode:
                errors = re.findall(r"^error: (.*)$", done.stderr.decode(errors="replace"), re.M)
                return errors[0] if errors else done.stderr.decode(errors="replace").strip()
        for path in touches:
            self.look(path)
        return None

    def look(self, path):
        full = os.path.join(self.dir, path)
        if os.path.lexists(full):
            self.files[path] = File.at(full)
        else:
            self.files.pop(path, None)

    def put(self, path, file):
        file.write(os.path.join(self.dir, path))
        self.files[path] = file


def insertions(ours, base, theirs, scratch):
    """Merge, if all that THEIRS does next to something else is to insert lines: what two topics
    insert at one place of a list. None if there is more to it."""
    names = []
    for i, data in enumerate((ours, base, theirs)):
        names.append(os.path.join(scratch, f"merge{i}"))
        with open(names[-1], "wb") as f:
            f.write(data)
    done = git("merge-file", "-p", "-q", "--diff3", *names, where=scratch, check=False)
    if done.returncode < 0 or done.returncode > 127:
        return None
    out, part, parts = [], None, None
    for line in done.stdout.splitlines(keepends=True):
        if line.startswith(b"<<<<<<< "):
            part, parts = 0, ([], [], [])
        elif parts is not None and line.startswith(b"||||||| "):
            part = 1
        elif parts is not None and line.rstrip(b"\n") == b"=======":
            part = 2
        elif parts is not None and line.startswith(b">>>>>>> "):
            mine, was, new = parts
            if new[:len(was)] == was:
                out += mine + new[len(was):]
            elif was and new[-len(was):] == was:
                out += new[:-len(was)] + mine
            else:
                return None
            parts = None
        elif parts is not None:
            parts[part].append(line)
        else:
            out.append(line)
    return b"".join(out)


class Composer:
    """Composes the whole series, or single topics, on a base in GITDIR."""
    def __init__(self, series, gitdir, base, scratch):
        self.series, self.gitdir, self.base, self.scratch = series, gitdir, base, scratch
        self.memo = Memo(gitdir)
        self.steps = None	# PATCH -> (files before, files after) in the whole series

    def prepare(self):
        if self.steps is not None:
            return
        series = self.series
        added = {f: File.at(os.path.join(series.top, f)) for f in series.files}
        touched = {p for patch in series.patches() for p in patch.touches}
        self.upstream = base_contents(self.gitdir, self.base, sorted(touched | set(added)))
        # Each added file as its own commit added it: the hunks of later patches are taken
        # back, last patch first.
        self.first = {}
        area = Area(self.scratch, added)
        for patch in reversed(series.patches()):
            for f in patch.added:
                self.first[f] = area.files[f]
            later = [p for p in patch.touches if p in added and p not in patch.added]
            error = area.apply(patch, reverse=True, only=later) if later else None
            if error:
                raise Failure(f"{patch.name} does not match an added file: {error}",
                              f"change added files in {TREE}, commit there, and run: make refresh")
        self.steps = {}
        self.chain(series.patches(), self.steps)

    def chain(self, patches, steps=None):
        """For each patch the files that it changes, with their new content."""
        area = Area(self.scratch, self.upstream)
        result = []
        for patch in patches:
            for f in patch.added:
                if f in area.files:
                    raise Failure(f"{patch.name} adds {f}, which is there already",
                                  f"commit edits of existing files in {TREE}, then make refresh")
            before = {p: area.files.get(p) for p in patch.touches}
            error = area.apply(patch)
            if error and steps is None:
                self.merge(patch, area, error)
            elif error:
                raise Failure(f"{patch.name} does not apply: {error}",
                              f"rebase the commits of {TREE}, then make refresh;\n        or give the base of {short(self.series.dir)}/BASE")
            for f in patch.added:
                area.put(f, self.first[f])
            after = {p: area.files.get(p) for p in patch.touches + patch.added}
            if all(before.get(p) == after[p] for p in after):
                raise Failure(f"{patch.name} changes nothing", f"drop it from {short(self.series.dir)}/{patch.topic}/series")
            if steps is not None:
                steps[patch] = (before, after)
            result.append((patch, after))
        return result

    def merge(self, patch, area, error):
        """PATCH does not apply to a topic alone as it does to the whole series."""
        before, after = self.steps[patch]
        for path in patch.touches:
            ours, base, theirs = area.files.get(path), before[path], after[path]
            merged = None
            if ours and base and theirs:
                merged = insertions(ours.data, base.data, theirs.data, self.scratch)
            if merged is None:
                raise Failure(f"{patch.name} does not apply without the topics that {patch.topic} does not need:\n    {error}",
                              f"name one more in {short(self.series.dir)}/series, or move the hunk away from theirs")
            area.put(path, File(theirs.mode, merged))

    def compose(self, topic=None, trailers=(), labels=True):
        """The last commit: of the whole series, or of what TOPIC needs and itself. Only the commits
        of TOPIC get TRAILERS. LABELS: each commit says its topic."""
        names = None if topic is None else self.series.needs(topic) + [topic]
        key = self.series.key(self.base, str(names), *trailers, str(labels))
        commit = self.memo.get(key, self.gitdir)
        if commit:
            return commit
        self.prepare()
        if topic is None:
            chain = [(patch, self.steps[patch][1]) for patch in self.series.patches()]
        else:
            chain = self.chain(self.series.patches(names))
        commit = self.write(chain, [] if topic is None else [topic], trailers, labels)
        self.memo.put(key, commit)
        return commit

    def needs(self, topic, labels=True):
        """The commit that compose(TOPIC, ...) stands on."""
        names = self.series.needs(topic)
        if not names:
            return self.base
        key = self.series.key(self.base, "needs", str(names), str(labels))
        commit = self.memo.get(key, self.gitdir)
        if not commit:
            self.prepare()
            commit = self.write(self.chain(self.series.patches(names)), [], (), labels)
            self.memo.put(key, commit)
        return commit

    def write(self, chain, mine, trailers, labels):
        if not chain:
            return self.base
        stream = []
        for mark, (patch, files) in enumerate(chain, 1):
            message = patch.message
            author, committer = patch.author, f"{NAME} <{EMAIL}>"
            if trailers and patch.topic in mine:
                author = committer = trailers[0].partition(": ")[2]
                message = with_trailers(message, trailers)
            if labels:
                message = with_trailers(message, [f"Topic: {patch.topic}"])
            data = message.encode()
            stream.append(f"commit refs/series/composing\nmark :{mark}\nauthor {author} {patch.date}\n"
                          f"committer {committer} {patch.date}\ndata {len(data)}\n".encode() + data +
                          f"from {self.base if mark == 1 else f':{mark - 1}'}\n".encode())
            for path, file in sorted(files.items()):
                if file is None:
                    stream.append(f"D {path}\n".encode())
                else:
                    stream.append(f"M {file.mode} inline {path}\ndata {len(file.data)}\n".encode() + file.data + b"\n")
        stream.append(f"get-mark :{len(chain)}\nreset refs/series/composing\nfrom 0000000000000000000000000000000000000000\n".encode())
        commit = git("fast-import", "--quiet", "--force", "--date-format=raw", where=self.gitdir,
                     data=b"".join(stream)).split()[0]
        return commit


def with_trailers(message, trailers):
    """MESSAGE and more trailers, in a block with those that it has."""
    message = message.rstrip("\n")
    last = message.rsplit("\n\n", 1)[-1].split("\n")
    block = "\n\n" in message and all(TRAILER.match(line) for line in last)
    return message + ("\n" if block else "\n\n") + "\n".join(trailers) + "\n"


def without_topic(message):
    """(MESSAGE without its trailer "Topic:", the topic or None). The last one of the last
    paragraph: what the text says further up is no trailer."""
    text, blank, last = message.rstrip().rpartition("\n\n")
    found = list(re.finditer(r"^Topic:[ \t]*(\S+)[ \t]*(?:\n|\Z)", last, re.M)) if blank else []
    if not found:
        return message, None
    last = last[:found[-1].start()] + last[found[-1].end():]
    return (text + blank + last).rstrip("\n") + "\n", found[-1].group(1)


@contextlib.contextmanager
def scratch_dir():
    where = tempfile.mkdtemp()
    try:
        yield where
    finally:
        shutil.rmtree(where, ignore_errors=True)


# --- the tree -----------------------------------------------------------------

def git_dir():
    return git("rev-parse", "--absolute-git-dir")


def dirty(where=None):
    """The first edit that is not committed."""
    done = git("status", "--porcelain", "--untracked-files=no", where=where)
    return done.splitlines()[0][3:] if done else ""


def under_way(where=None):
    """What git was interrupted in, and waits to have continued."""
    for name, what in (("rebase-merge", "rebase"), ("rebase-apply", "rebase or am"), ("CHERRY_PICK_HEAD", "cherry-pick"),
                       ("REVERT_HEAD", "revert"), ("BISECT_LOG", "bisect")):
        if os.path.exists(os.path.join(git("rev-parse", "--absolute-git-dir", where=where), name)):
            return what
    return ""


def not_under_way():
    what = under_way()
    if what:
        raise Failure(f"a git {what} is under way in {TREE}", "finish it there, or abort it")


def tree_exists():
    return os.path.exists(os.path.join(TREE, ".git"))


def find_base():
    done = subprocess.run([os.path.join(TOP, "scripts", "base.sh")], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.decode().split()


def need_space(where, mib):
    os.makedirs(where, exist_ok=True)
    have = int(subprocess.run(["df", "-Pm", "--", where], capture_output=True, check=True).stdout.splitlines()[1].split()[3])
    if have < mib:
        raise Failure(f"{where} has {have} MiB free, this step needs {mib} MiB",
                      "free some space, or point BUILD= and CACHE= at another disk")


def make_tree(gitdir, base):
    """A git tree at the base. A cache may be emptied at any time: take its objects along (hard
    links). A user's own tree stays: refer to it."""
    new = TREE + ".new"
    need_space(os.path.dirname(TREE), 2560)
    shutil.rmtree(new, ignore_errors=True)
    say(f"checking out {git('log', '-1', '--format=%s', base, where=gitdir)}")
    shared = ["--shared"] if os.environ.get("KERNEL") else []
    git("clone", "-q", *shared, "--no-checkout", gitdir, new, where="/")
    git("remote", "remove", "origin", where=new)
    git("checkout", "-q", "--detach", base, where=new)
    git("update-ref", BASE_REF, base, where=new)
    git("update-ref", COMPOSED, base, where=new)
    for ref in git("for-each-ref", "--format=%(refname)", "refs/heads", where=new).split():
        git("update-ref", "-d", ref, where=new)
    git("switch", "-q", "-c", "series", where=new)
    # Build output of the kernel lives below the tree: see Makefile.
    os.makedirs(os.path.join(new, ".git", "info"), exist_ok=True)
    with open(os.path.join(new, ".git", "info", "exclude"), "a", encoding="ascii") as f:
        f.write("/out-*/\n")
    os.rename(new, TREE)


def whole_tree():
    """$TREE, or with TOPIC= the tree of the whole series that it is a worktree of."""
    return os.path.join(BUILD, "linux") if TOPIC else TREE


def cmd_tree():
    global TREE
    gitdir, base = find_base()
    topic_tree, TREE = TREE, whole_tree()
    if not tree_exists():
        make_tree(gitdir, base)
    elif not has(f"{base}^{{commit}}"):
        raise Failure(f"{TREE} stands on another base than the one asked for",
                      "save your commits with make refresh, then: make distclean")
    if TOPIC:
        return tree_of_topic(base, topic_tree)
    not_under_way()
    with scratch_dir() as scratch:
        new = Composer(Series(), git_dir(), base, scratch).compose()
    head, composed = git("rev-parse", "HEAD", COMPOSED).split()
    if head == new:
        pass
    elif head == composed or FORCE:
        if head != composed:
            git("branch", "-f", time.strftime("before-%Y%m%d-%H%M%S"), head)
            say(f"the commits that were in {TREE} are kept on a branch before-...")
        done = git("reset", "-q", "--keep", new, check=False)
        if done.returncode:
            raise Failure(f"{TREE} has uncommitted edits where the series changed: {done.stderr.decode().splitlines()[0]}",
                          f"commit or stash them in {TREE}")
    elif new == composed:
        count = git("rev-list", "--count", f"{composed}..{head}", check=False).stdout.decode().strip() or "some"
        say(f"{TREE} has {count} commit(s) that make refresh has not written yet")
        return
    else:
        raise Failure(f"both {TREE} and the files here changed since they last agreed",
                      "make tree FORCE=1 takes the files, and keeps the commits on a branch;\n"
                      "        git stash, then make refresh, takes the commits")
    git("update-ref", COMPOSED, new)
    git("update-ref", BASE_REF, base)
    say(f"{TREE}: {git('rev-list', '--count', f'{base}..{new}')} commits on {git('log', '-1', '--format=%s', base)}")


def tree_of_topic(base, where):
    """A worktree with what TOPIC needs and itself."""
    with scratch_dir() as scratch:
        composer = Composer(Series(), git_dir(), base, scratch)
        needs, new = composer.needs(TOPIC), composer.compose(TOPIC)
    git("update-ref", f"refs/series/topic/{TOPIC}", new)
    git("update-ref", f"refs/series/needs/{TOPIC}", needs)
    if not os.path.exists(os.path.join(where, ".git")):
        need_space(os.path.dirname(where), 2560)
        shutil.rmtree(where, ignore_errors=True)
        git("worktree", "prune")
        git("worktree", "add", "-q", "--detach", where, new)
    else:
        edit = dirty(where)
        if edit:
            raise Failure(f"{where} has uncommitted edits: {edit}",
                          f"edit in {TREE}; this drops them:\n    git -C {where} checkout .")
        head = git("rev-parse", "HEAD", where=where)
        if has("refs/series/topic-tree") and head not in (git("rev-parse", "refs/series/topic-tree"), new):
            branch = time.strftime("topic-%Y%m%d-%H%M%S")
            git("branch", "-f", branch, head)
            say(f"the commits that were in {where} are kept on the branch {branch} of {TREE}")
        git("checkout", "-q", "--detach", new, where=where)
    git("update-ref", "refs/series/topic-tree", new)
    say(f"{where}: {git('rev-list', '--count', f'{needs}..{new}')} commits of {TOPIC} on "
        f"{git('rev-list', '--count', f'{base}..{needs}')} that it needs")


def need_tree():
    if not tree_exists():
        raise Failure(f"there is no tree at {TREE}", "make tree")
    not_under_way()
    edit = dirty()
    if edit:
        raise Failure(f"{TREE} has uncommitted changes: {edit}", "commit them there first")


# --- commits to files -----------------------------------------------------------

def patch_mail(commit, parent, author, date, message, added):
    """The commit as a mail, without the files it adds. Nothing of it depends on git's version,
    configuration or the clock."""
    subject, _, body = message.partition("\n")
    diff = git("diff-tree", "--no-commit-id", *DIFF, "-p", "--binary", "--stat=80", "--full-index", "--summary",
               "--diff-algorithm=histogram", parent, commit, "--", ".", *(f":(exclude,literal){f}" for f in added), text=False)
    head = (f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {author}\nDate: {date}\n"
            f"Subject: [PATCH] {subject}\n\n{body.strip()}".rstrip("\n") + ("\n" if body.strip() else "\n\n"))
    return head.encode() + b"---\n" + diff


def file_name(number, subject):
    """As git format-patch names it."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", subject).strip("-")
    name = re.sub(r"\.\.+", ".", name)[:52].rstrip("-.")
    return f"{number:04d}-{name}.patch"


def refuse(commit, subject, message, base, deleted):
    personal = PERSONAL.search(message.encode())
    if personal:
        raise Failure(f"commit {subject} has the trailer \"{personal.group(1).decode()}:\"",
                      "drop it; make mbox adds the sender's, reviewers give their own")
    if re.match(r"(fixup|squash|amend)!", message):
        raise Failure(f"commit {subject} waits to be squashed", f"git rebase -i --autosquash in {TREE}")
    # Where git am sees the end of a message.
    end = re.search(r"^(---(?:[ \t].*)?|diff -.*|Index: .*)$", message, re.M)
    if end:
        raise Failure(f"commit {subject} has the line \"{end.group(1).rstrip()}\", where git am ends a message", "indent it or word it otherwise")
    if message.startswith("["):
        raise Failure(f"commit {subject} begins with what git am drops, words in brackets", "begin with the subsystem")
    for path in deleted:
        if not has(f"{base}:{path}"):
            raise Failure(f"commit {subject} removes {path}, which the series itself adds",
                          "fold the removal into the commit that adds it")


def cmd_refresh():
    if TOPIC:
        raise Failure("make refresh writes the whole series", f"commit in {whole_tree()}, without TOPIC=")
    need_tree()
    base, head, composed = git("rev-parse", BASE_REF, "HEAD", COMPOSED).split()
    with scratch_dir() as scratch:
        try:
            before = Series()
            now = Composer(before, git_dir(), base, scratch).compose()
            trouble = None
        except Failure as failure:
            now, trouble = None, failure
        if now == head:
            say(f"{len(before.patches())} patches of {len(before.topics)} topics in {short(PATCHES)}, nothing changed")
            return
        if now != composed and not FORCE:
            if trouble:
                print(f"  {trouble}", file=sys.stderr)
            raise Failure("files were edited here since make tree; refresh would lose that",
                          f"make tree first; or make refresh FORCE=1 to overwrite them with {TREE}")
        refresh(base, head, scratch)


def commits(base, head):
    """(id, parent, author, date, message) of base..head, oldest first."""
    merge = git("rev-list", "-n", "1", "--merges", f"{base}..{head}")
    if merge:
        raise Failure(f"commit {merge[:12]} is a merge, a series has none", f"git rebase in {TREE}")
    if git("merge-base", base, head, check=False).stdout.decode().strip() != base:
        raise Failure(f"the commits of {TREE} do not stand on {BASE_REF}", 'see "Another base" in README.md')
    out = git("log", "--reverse", "--encoding=UTF-8", "--date=rfc", "--format=%H%x1f%P%x1f%ad%x1f%B%x1e", f"{base}..{head}")
    for entry in out.split("\x1e"):
        if entry.strip():
            commit, parent, date, message = entry.lstrip("\n").split("\x1f")
            yield commit, parent, date, message.rstrip("\n") + "\n"


def refresh(base, head, scratch):
    order = [words[0] for words in lines(os.path.join(PATCHES, "series"))]
    stage = os.path.join(scratch, "stage")
    out = os.path.join(stage, "patches")
    index, owner, topic = {name: [] for name in order}, {}, None
    changed = name_status(base, head)
    for commit, parent, date, message in commits(base, head):
        message, said = without_topic(message)
        subject = f"{commit[:12]} (\"{message.splitlines()[0]}\")"
        added = [p for s, p in changed[commit] if s == "A"]
        refuse(commit, subject, message, base, [p for s, p in changed[commit] if s == "D"])
        if not said and topic is None:
            raise Failure(f"commit {subject} does not say its topic", "add a line \"Topic: NAME\" to the end of its message")
        if said and said not in order:
            raise Failure(f"commit {subject} is of the topic {said}, which\n    {short(PATCHES)}/series does not name",
                          f"add a line there: {said} -")
        if said and topic and order.index(said) < order.index(topic):
            raise Failure(f"commit {subject} of {said} stands behind one of {topic}", f"git rebase -i in {TREE}, to move it")
        topic = said or topic
        for f in added:
            if f.split("/")[0] not in ADDED_DIRS:
                raise Failure(f"commit {subject} adds {f}; added files live below {' '.join(ADDED_DIRS)}",
                              "move it, or see ADDED_DIRS in scripts/series.py")
            if re.search(r"[\s#\"\\]", f):
                raise Failure(f"commit {subject} adds \"{f}\", a name that no list here can hold", "rename it")
            if f in owner:
                raise Failure(f"commit {subject} adds {f} once more", "let one commit add it")
            owner[f] = topic
        name = file_name(len(index[topic]) + 1, message.splitlines()[0])
        path = os.path.join(out, topic, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(patch_mail(commit, parent, f"{NAME} <{EMAIL}>", date, message, added))
        index[topic].append(" ".join([name] + added))
    for name, patches in index.items():
        if patches:
            with open(os.path.join(out, name, "series"), "w", encoding="utf-8") as f:
                f.write("# SPDX-License-Identifier: GPL-2.0-only\n# The order of the topic. Behind a patch: the added files of its commit.\n"
                        "# Written by \"make refresh\".\n")
                f.writelines(f"{line}\n" for line in patches)
    write_base(base, head, out)
    files = base_contents(git_dir(), head, sorted(owner)) if owner else {}

    # What is written must compose to what was read, to the byte.
    for path, file in files.items():
        file.write(os.path.join(stage, path))
    shutil.copyfile(os.path.join(PATCHES, "series"), os.path.join(out, "series"))
    try:
        now = Composer(Series(stage, out), git_dir(), base, scratch).compose()
    except Failure as failure:
        raise Failure(f"the commits of {TREE} can't be a series: {failure}", "change them there; the files here are as before") from None
    if git("rev-parse", f"{now}^{{tree}}") != git("rev-parse", f"{head}^{{tree}}"):
        raise Failure("the files written would not compose to the tree they came from",
                      "this is a bug of scripts/series.py; nothing was changed")

    # Everything could be written: only now change the files here.
    install(out, PATCHES, [os.path.join(t, n) for t in os.listdir(PATCHES) if os.path.isdir(os.path.join(PATCHES, t)) and t != "stable"
                           for n in os.listdir(os.path.join(PATCHES, t)) if n.endswith(".patch") or n == "series"])
    for path, file in files.items():
        here = os.path.join(TOP, path)
        if not os.path.lexists(here) or File.at(here) != file:
            file.write(here)
    for top in ADDED_DIRS:
        for where, _, names in os.walk(os.path.join(TOP, top), topdown=False):
            for name in names:
                path = os.path.relpath(os.path.join(where, name), TOP)
                if path not in files:
                    os.unlink(os.path.join(TOP, path))
            with contextlib.suppress(OSError):
                os.rmdir(where)

    series = Series()
    git("reset", "-q", "--keep", now)
    git("update-ref", COMPOSED, now)
    say(f"{len(series.patches())} patches of {len(series.topics)} topics in {short(PATCHES)}, {len(owner)} added files")


def name_status(base, head):
    """COMMIT -> [(status, path)]"""
    out = git("log", "--no-renames", "--name-status", "-z", "--format=%x1e%H", f"{base}..{head}")
    result = {}
    for entry in out.split("\x1e"):
        if entry:
            commit, *words = [w.lstrip("\n") for w in entry.split("\0")]
            words = [w for w in words if w]
            result[commit.strip()] = list(zip(words[::2], words[1::2]))
    return result


def write_base(base, head, out):
    """BASE, with the content (git's blob id) of each upstream file that is touched."""
    touched = git("diff", "--name-only", "--no-renames", "--diff-filter=MDT", "-z", base, head).split("\0")
    touched = [path for path in touched if path]
    keep = [line for line in read(os.path.join(PATCHES, "BASE")).decode().splitlines() if not line.startswith("file:")]
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "BASE"), "w", encoding="utf-8") as f:
        f.writelines(f"{line}\n" for line in keep)
        if touched:
            for entry in git("ls-tree", "-r", "-z", base, "--", *touched).split("\0"):
                if entry:
                    f.write(f"file: {entry.split()[2]} {entry.split(chr(9))[1]}\n")


def install(out, where, stale):
    """Leave files that are the same alone, mtime and all; remove of STALE what is not in OUT."""
    for folder, _, names in os.walk(out):
        for name in names:
            new = os.path.join(folder, name)
            old = os.path.join(where, os.path.relpath(new, out))
            if not os.path.exists(old) or read(old) != read(new):
                os.makedirs(os.path.dirname(old), exist_ok=True)
                shutil.copyfile(new, old)
    for path in stale:
        if not os.path.exists(os.path.join(out, path)):
            os.unlink(os.path.join(where, path))
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(os.path.join(where, path)))


# --- other people's trees, and mail -----------------------------------------------

def composed(scratch, series=None):
    """A composer on the base of $TREE, which is made if it isn't there."""
    global TREE
    TREE = whole_tree()
    if not tree_exists():
        done = subprocess.run([sys.executable, os.path.abspath(__file__), "tree"], check=False,
                              env={**os.environ, "TOPIC": "", "TREE": TREE}, stdout=sys.stderr)
        if done.returncode:
            sys.exit(done.returncode)
    base = git("rev-parse", BASE_REF)
    return Composer(series or Series(), git_dir(), base, scratch)


def cmd_apply(kernel=""):
    if not kernel:
        raise Failure("apply needs the tree to apply to", "make apply KERNEL=/path/to/linux")
    if not os.path.isdir(kernel) or git("rev-parse", "--git-dir", where=kernel, check=False).returncode:
        raise Failure(f"{kernel} is not a git tree", "git init and commit there first, or use make mbox with quilt")
    if not os.path.isfile(os.path.join(kernel, "Kbuild")) or not os.path.isdir(os.path.join(kernel, "virt/kvm")):
        raise Failure(f"{kernel} is not the top of a Linux source tree", "give the directory that has virt/kvm")
    edit = dirty(kernel)
    if edit:
        raise Failure(f"{kernel} has uncommitted changes: {edit}", "commit or stash them there")
    if os.path.isdir(os.path.join(git("rev-parse", "--absolute-git-dir", where=kernel), "rebase-apply")):
        raise Failure(f"a git am or rebase is under way in {kernel}", "finish it, or git am --abort")
    branch = os.environ.get("BRANCH") or "kvm-vcpu-reset"
    if has(f"refs/heads/{branch}", where=kernel):
        raise Failure(f"{kernel} has a branch {branch} already", f"make apply KERNEL={kernel} BRANCH=another-name")
    with scratch_dir() as scratch:
        composer = composed(scratch)
        # One topic goes along with what it needs.
        end = composer.compose(TOPIC or None, labels=False)
        git("format-patch", "-q", "--no-signature", "--no-attach", "-o", os.path.join(scratch, "am"), f"{composer.base}..{end}")
        apply_patches(kernel, branch, os.path.join(scratch, "am"))


def apply_patches(kernel, branch, where):
    start = git("symbolic-ref", "-q", "--short", "HEAD", where=kernel, check=False).stdout.decode().strip()
    back = [start] if start else ["--detach", git("rev-parse", "HEAD", where=kernel)]
    git("switch", "-q", "-c", branch, where=kernel)
    names = sorted(os.listdir(where))
    try:
        for name in names:
            done = git("am", "-q", "--no-gpg-sign", "--keep-cr", os.path.join(where, name), where=kernel, check=False)
            if done.returncode:
                text = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
                found = re.search(r"^error: (?:patch failed: (.*)|(.*already exists.*))$", text, re.M)
                at = next((g for g in found.groups() if g), "") if found else text.splitlines()[0]
                raise Failure(f"{name} does not apply at {at}; {kernel} is as before",
                              f"apply to Linux {base_key('version')}, or rebase: see \"Another base\" in README.md", status=1)
    except BaseException:
        # As it was, also when interrupted.
        git("am", "--abort", where=kernel, check=False)
        git("switch", "-q", *back, where=kernel, check=False)
        git("branch", "-q", "-D", branch, where=kernel, check=False)
        raise
    say(f"{kernel}: {len(names)} commits on the new branch {branch}")


def sender():
    who = [subprocess.run(["git", "-C", TOP, "config", key], capture_output=True, check=False).stdout.decode().strip()
           for key in ("user.name", "user.email")]
    if not all(who):
        raise Failure("git does not know who sends the series",
                      'git config user.name "Your Name", and user.email')
    return who


def recipients(scratch, topic):
    """(To, Cc): people who maintain what is touched, and the rest of what get_maintainer.pl says.
    By file: keywords would add everybody whose word a test happens to contain."""
    files = sorted({f for patch in topic.patches for f in patch.touches + patch.added})
    mpath = os.path.join(scratch, "mpath", topic.name)
    os.makedirs(mpath)
    shutil.copyfile(os.path.join(TREE, "MAINTAINERS"), os.path.join(mpath, "kernel"))
    shutil.copyfile(os.path.join(TOP, "MAINTAINERS"), os.path.join(mpath, "series"))
    script = os.path.join(TREE, "scripts/get_maintainer.pl")
    sha = hashlib.sha256("\0".join(files).encode() + b"".join(read(f) for f in (script, mpath + "/kernel", mpath + "/series")))
    memo = os.path.join(git_dir(), "series-recipients", sha.hexdigest())
    if not os.path.exists(memo):
        done = subprocess.run([script, "--mpath", mpath + "/", "--no-tree", "--nogit", "--nogit-fallback", "--nokeywords",
                               "--roles", "--norolestats", "-f", *files], cwd=TREE, capture_output=True, check=False)
        if done.returncode or not done.stdout.strip():
            why = done.stderr.decode().splitlines()
            raise Failure(f"get_maintainer.pl names nobody to send {topic.name} to: {why[0] if why else ''}",
                          f"see that it runs: {script}")
        os.makedirs(os.path.dirname(memo), exist_ok=True)
        with open(memo + ".new", "wb") as f:
            f.write(done.stdout)
        os.replace(memo + ".new", memo)
    to, cc = [], []
    for line in read(memo).decode().splitlines():
        found = re.match(r"(.*<[^>]*>|\S+) \((.*)\)$", line)
        if found:
            (to if found.group(2).startswith(("maintainer", "supporter")) else cc).append(found.group(1))
    return to, cc


def cmd_mbox():
    version = os.environ.get("VERSION") or "1"
    if not re.fullmatch(r"[1-9][0-9]*", version):
        raise Failure(f"VERSION={version} is not a version number", "make mbox VERSION=2")
    name, mail = sender()
    if not shutil.which("perl"):
        raise Failure("get_maintainer.pl needs perl", "apt-get install perl")
    trailers = [f"Signed-off-by: {name} <{mail}>"]
    more = [t.strip() for t in os.environ.get("TRAILERS", "").splitlines() if t.strip()]
    for trailer in more:
        if not TRAILER.match(trailer):
            raise Failure(f"TRAILERS= has \"{trailer}\", which is no trailer", "TRAILERS='Assisted-by: NAME:VERSION'")
    with scratch_dir() as scratch:
        composer = composed(scratch)
        if TOPIC:
            composer.series.topic(TOPIC)
        topics = [t for t in composer.series.topics.values() if t.patches and TOPIC in ("", t.name)]
        ready = [mail_topic(composer, t, int(version), trailers + more, scratch) for t in topics]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for line in pool.map(lambda mail: mail(), ready):
                say(line)


def previous(topic, version, composer, trailers, scratch):
    """The last commit of the version before VERSION of TOPIC, for a range-diff."""
    tag = os.environ.get("SINCE") or f"sent/{topic.name}/v{version - 1}"
    if not has(f"{tag}^{{commit}}", where=TOP):
        raise Failure(f"there is no {tag}, the commit that version {version - 1} was sent from",
                      f"git tag {tag} <commit>, or make mbox with SINCE=<commit>")
    top = os.path.join(scratch, "previous")
    if not os.path.isdir(top):
        os.makedirs(top)
        archive = git("archive", tag, where=TOP, text=False)
        subprocess.run(["tar", "-C", top, "-xf", "-"], input=archive, check=True)
    old = Series(top, os.path.join(top, os.path.relpath(PATCHES, TOP)))
    if topic.name not in old.topics:
        raise Failure(f"{tag} has no topic {topic.name}", "name the commit with SINCE=")
    other = Composer(old, composer.gitdir, composer.base, scratch)
    return other.needs(topic.name, labels=False), other.compose(topic.name, trailers, labels=False)


def mail_topic(composer, topic, version, trailers, scratch):
    """Compose TOPIC by the sender; what then writes the mails."""
    letter = os.path.join(PATCHES, topic.name, "cover-letter")
    if not os.path.isfile(letter):
        raise Failure(f"{short(letter)} is missing", f"git checkout -- {short(PATCHES)}, or write it")
    start, end = composer.needs(topic.name, labels=False), composer.compose(topic.name, trailers, labels=False)
    options = []
    if version > 1:
        old_start, old_end = previous(topic, version, composer, trailers, scratch)
        options += [f"--range-diff={old_start}..{old_end}", "-v", str(version)]
    return functools.partial(write_mails, composer, topic, version, (start, end), trailers[0], options, scratch)


def write_mails(composer, topic, version, ends, signed, options, scratch):
    start, end = ends
    to, cc = recipients(scratch, topic)
    cc += [a for a in topic.to if a not in to + cc]
    out = os.path.join(BUILD, "mbox", topic.name, f"v{version}")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    name, _, mail = signed.partition(": ")[2].rpartition(" ")
    git("-c", "format.pretty=email", "format-patch", "-q", "--no-signature", "--no-attach", "--thread=shallow",
        "--cover-letter", "--cover-from-description=none", f"--base={composer.base}", *options,
        "--subject-prefix=PATCH", "--suffix=.patch", "--no-to", "--no-cc", "--no-add-header",
        *(f"--to={a}" for a in to), *(f"--cc={a}" for a in cc), "-o", out, f"{start}..{end}",
        env={"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": mail.strip("<>")})
    names = sorted(os.listdir(out))
    letter = read(os.path.join(PATCHES, topic.name, "cover-letter")).decode()
    finish_cover(os.path.join(out, names[0]), letter, composer, topic, ends)
    with open(out + ".mbox", "wb") as f:
        for patch in names[1:]:
            f.write(read(os.path.join(out, patch)))
    return f"{out}/: cover letter and {len(names) - 1} patches, to {len(to)}, cc {len(cc)}, for git send-email or b4; {out}.mbox for git am"


def line_counts(start, end):
    """How many lines the topic adds and removes, by what they are."""
    kinds = {}
    for line in git("diff", "--numstat", "--no-renames", start, end).splitlines():
        added, removed, path = line.split("\t")
        kind = ("documentation" if path.startswith("Documentation/") else
                "selftests" if path.startswith("tools/testing/") else "kernel")
        count = kinds.setdefault(kind, [0, 0])
        if added != "-":
            count[0] += int(added)
            count[1] += int(removed)
    return "Lines: " + ", ".join(f"{k} +{kinds[k][0]} -{kinds[k][1]}" for k in ("kernel", "documentation", "selftests") if k in kinds)


def finish_cover(path, letter, composer, topic, ends):
    subject, _, body = letter.partition("\n")
    text = read(path).decode()
    needs = composer.series.needs(topic.name)
    body = body.strip("\n") + f"\n\nBase: Linux {base_key('version')} (tag {base_key('tag')})" + \
        (f" and the series {', '.join(needs)}\n" if needs else "\n")
    body = body.replace("@LINES@", line_counts(*ends))
    if not subject.isascii():
        subject = email.header.Header(subject, "utf-8").encode()
    text = text.replace("*** SUBJECT HERE ***", subject).replace("*** BLURB HERE ***\n", body)
    if not text.isascii() and "\nContent-Type:" not in text.partition("\n\n")[0]:
        text = text.replace("\n\n", "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
                            "Content-Transfer-Encoding: 8bit\n\n", 1)
    # The commit of an imported tarball is of use to nobody else.
    if not has(f"{base_key('tag')}^{{commit}}") or git("rev-parse", f"{base_key('tag')}^{{commit}}") != composer.base:
        text = text.replace(f"base-commit: {composer.base}", f"base: {base_key('tag')}")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def cmd_saved():
    """Refuse when $TREE has work that is not in the files here."""
    global TREE
    TREE = whole_tree()
    if not tree_exists():
        return
    need_tree()
    if git("rev-parse", "HEAD") != git("rev-parse", COMPOSED):
        raise Failure(f"{TREE} has commits that are not in {short(PATCHES)}",
                      "make refresh, or throw them away with FORCE=1")


def cmd_check():
    series = Series()
    say(f"series: {len(series.patches())} patches of {len(series.topics)} topics")


def cmd_topics():
    for topic in Series().topics.values():
        if topic.patches:
            say(topic.name)


def cmd_needs(name=""):
    say(" ".join(Series().needs(name)))


def cmd_apart():
    series, failures = Series(), []
    if not tree_exists():
        raise Failure(f"there is no tree at {TREE}", "make tree")
    with scratch_dir() as scratch:
        composer = Composer(series, git_dir(), git("rev-parse", BASE_REF), scratch)
        for topic in series.topics.values():
            try:
                composer.compose(topic.name)
            except Failure as failure:
                failures.append(failure)
    for failure in failures[:-1]:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        raise failures[-1]
    say(f"{len(series.topics)} topics apply to what they need alone")


COMMANDS = {"check": cmd_check, "topics": cmd_topics, "needs": cmd_needs, "apart": cmd_apart, "tree": cmd_tree, "refresh": cmd_refresh,
            "apply": cmd_apply, "mbox": cmd_mbox, "saved": cmd_saved}


def main(args):
    try:
        if not args or args[0] not in COMMANDS:
            raise Failure(f"series.py knows {', '.join(COMMANDS)}, not \"{args[0] if args else ''}\"", "make help")
        COMMANDS[args[0]](*args[1:])
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        if failure.then:
            print(f"  next: {failure.then}", file=sys.stderr)
        return failure.status
    except OSError as error:
        print(f"error: {error.filename or 'series.py'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
