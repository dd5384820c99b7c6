#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Leave out each statement of the code that resets a vCPU, one at a time.

A mutant is the kernel without one statement, see mutants/kvm_mutant.h: all of
them are in one kernel, and a parameter, which can be changed at run time, says
which one is left out.  KINDS are "statements", barriers among them, "conditions",
i.e. an "if" that asks for the contrary, written "if (...)", and "locks", written
"lock(...)": all that a function does to one lock is left out at once, if it both
takes and releases it.  mutants.sh makes the work tree and calls this:

  mutants.py list ARCH...     the statements, with their numbers
  mutants.py instrument       put them all into the work tree
  mutants.py run ARCH         run what is not known yet, in few boots
  mutants.py report ARCH...   what is known; status 1 if a survivor has no
                              explanation or something was not run

What only runs at boot (__init) is left alone, and so are declarations, guard(), and
conditions that the compiler has to know (IS_ENABLED()).  VARIANT= is another host to
try on: what one of them kills is killed, what one lets live is tried on the others.

A mutant is tried with the tests that execute the statement, until one fails:
"killed".  One that no test fails for is a survivor, which either has no effect
that a test can see, and then mutants/explained says why, or shows that a test
is missing.  What is explained is only tried again with EXPLAINED=1.

mutants/ARCH.spec has "tests NAME...", "variant NAME TEST...", i.e. another VARIANT to
try what is not killed, with these tests, "cmdline WORD...", "cpus N", "until TEST CASE", i.e.
what is behind that case of the test takes long, and is only tried on survivors
that are not explained, and lines FILE:FUNCTION.
FILE:* is for all functions of a file, FILE:@added and FILE:FUNCTION@added for
those lines that the series has added or changed, FILE:FUNCTION~REGEX for the
statements that the regular expression is found in.  mutants/explained has lines
"REGEX<tab>reason"; the regular expression is looked for in "ARCH FILE:FUNCTION:
STATEMENT".
"""
import argparse, hashlib, json, os, re, signal, subprocess, sys, time
from collections import Counter, namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, 'mutants')
ARCHES = ('riscv', 'arm64', 'x86')
KVM = {'riscv': 'arch/riscv', 'arm64': 'arch/arm64', 'x86': 'arch/x86'}
TESTS = 'tools/testing/selftests/kvm'
DRIVER = 'kvm_mutants'

# Not a statement that can be left out: the code would not compile, or a lock
# would be left held, or it only checks what is true anyway.
SKIP = re.compile(r'^(case\b|default\b|else\b|static\b|extern\b|typedef\b|BUILD_BUG_ON|static_assert|'
                  r'lockdep_assert|KVM_BUG_ON|WARN_ON|might_sleep|guard\(|'
                  r'(raw_)?(spin|read|write)_(un)?lock|mutex_(un)?lock|(rcu_read|srcu_read)_(un)?lock|'
                  r'(local_irq|preempt)_(save|restore|enable|disable)|(get|put)_cpu\b)')
LOCK = re.compile(r'^(?P<what>(?:raw_)?(?:spin|read|write)_|mutex_|rcu_read_|local_irq_|preempt_)'
                  r'(?P<un>unlock|lock|disable|enable|save|restore)(?:_irq\w*|_bh)?\((?P<arg>[^,;]*?)(?:,.*)?\);$')
# Which of them the compiler decides: what they keep out need not even link.
CONSTANT = re.compile(r'IS_(ENABLED|BUILTIN|REACHABLE)\(|BUILD_BUG|__builtin_constant|^\s*(WARN_ON|KVM_BUG_ON|unlikely\(WARN)|'
                      r'^\s*(true|false|[01])\s*$')
KINDS = ('statements', 'conditions', 'locks')
DECL = re.compile(r'^((const|volatile|unsigned|signed|struct|union|enum)\s|bool\b|int\b|char\b|'
                  r'short\b|long\b|[us](8|16|32|64)\b|__[us](8|16|32|64)\b|gpa_t\b|gfn_t\b|gva_t\b|hva_t\b|'
                  r'size_t\b|ktime_t\b|cpumask_var_t\b|void\s*\*|DECLARE_|DEFINE_)')
JUMP = re.compile(r'^(return|goto|break|continue)\b')
CONTROL = re.compile(r'(if|while|for|switch|do|else|scoped_guard|\w*for_each\w*)\b\s*')
LABEL = re.compile(r'(case\b[^:;]*:|default\s*:|\w+\s*:(?!:))')

# spans: offsets, of the statement, of the condition, of all that is done to a lock
Mutant = namedtuple('Mutant', 'nr path func line spans kind text key')


def die(message, after=None):
    print(f'error: {message}', file=sys.stderr)
    if after:
        print(f'  next: {after}', file=sys.stderr)
    sys.exit(2)


# ---- C -----------------------------------------------------------------------

def blank(text):
    """Comments, strings and preprocessor lines become blanks, offsets stay."""
    def spaces(m):
        return re.sub(r'[^\n]', ' ', m.group(0))
    text = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', spaces, text, flags=re.S)
    return re.sub(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', spaces, text, flags=re.M)


def matching(text, i):
    """The offset behind the parenthesis that closes the one at i."""
    depth = 0
    while i < len(text):
        depth += {'(': 1, ')': -1}.get(text[i], 0)
        i += 1
        if depth == 0:
            break
    return i


def functions(clean):
    """(name, start, end) of the bodies of functions."""
    for m in re.finditer(r'^\{', clean, flags=re.M):
        head = clean[:m.start()].rstrip()
        if not head.endswith(')'):
            continue
        depth, i = 0, len(head) - 1
        while i >= 0:
            depth += {')': 1, '(': -1}.get(head[i], 0)
            if depth == 0:
                break
            i -= 1
        name = re.search(r'(\w+)\s*$', head[max(0, i - 100):i])
        # __init code runs before anything can be chosen
        before = head[max(head.rfind(';', 0, i), head.rfind('}', 0, i)) + 1:i]
        end = clean.find('\n}', m.start())
        if name and end > 0 and '__init' not in before:
            yield name.group(1), m.start() + 1, end


def statements(clean, start, end):
    """(start, end, conditional) of the simple statements between two offsets.

    conditional: it depends on an "if" and on nothing else, i.e. a jump can be
    left out and there is code to go on with.
    """
    blocks = ['function']
    control = None
    i = start
    while i < end:
        c = clean[i]
        if c.isspace():
            i += 1
        elif c == '{':
            blocks.append(control or 'plain')
            control = None
            i += 1
        elif c == '}':
            if len(blocks) > 1:
                blocks.pop()
            control = None
            i += 1
        elif c == ';':
            control = None
            i += 1
        elif m := CONTROL.match(clean, i, end):
            word = m.group(1)
            control = 'if' if word in ('if', 'else') else word
            i = m.end()
            if i < end and clean[i] == '(':
                i = matching(clean, i)
        elif m := LABEL.match(clean, i, end):
            i = m.end()
        else:
            depth, begin = 0, i
            while i < end:
                depth += {'(': 1, '{': 1, ')': -1, '}': -1}.get(clean[i], 0)
                i += 1
                if clean[i - 1] == ';' and depth <= 0:
                    break
            yield begin, i, (control or blocks[-1]) == 'if'
            control = None


def conditions(clean, start, end):
    """(start, end) of what is within the parentheses of an "if"."""
    for m in re.finditer(r'\bif\s*(\()', clean[start:end]):
        s = start + m.start(1)
        e = matching(clean, s)
        if not CONSTANT.search(clean[s + 1:e - 1]):
            yield s + 1, e - 1


def locks(clean, start, end):
    """[(start, end)] of the statements that take and release one lock."""
    groups = {}
    for s, e, _ in statements(clean, start, end):
        m = LOCK.match(' '.join(clean[s:e].split()))
        if m:
            what = m.group('what')
            key = (what, m.group('arg').strip() if what not in ('local_irq_', 'preempt_', 'rcu_read_') else '')
            groups.setdefault(key, []).append((s, e, m.group('un')))
    for (what, arg), found in groups.items():
        takes = [f for f in found if f[2] in ('lock', 'disable', 'save')]
        if takes and len(takes) < len(found):
            yield f'{what.rstrip("_")}({arg})', [(s, e) for s, e, _ in found]


# ---- what there is to leave out ------------------------------------------------

def git(tree, *args):
    p = subprocess.run(['git', '-C', tree, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        die(f'git {" ".join(args)}: {p.stderr.decode().strip()}')
    return p.stdout.decode()


def added_lines(tree, base, head, path):
    """The lines of path that are not in commit base."""
    lines = set()
    for m in re.finditer(r'^@@ .*? \+(\d+)(?:,(\d+))? @@',
                         git(tree, 'diff', '-U0', base, head, '--', path), flags=re.M):
        first, nr = int(m.group(1)), int(m.group(2) or 1)
        lines.update(range(first, first + nr))
    return lines


class Spec:
    def __init__(self, arch):
        self.tests, self.cmdline, self.places, self.until, self.variants = [], [], [], {}, {}
        self.cpus = os.environ.get('NR_CPUS') or '4'
        name = os.path.join(DATA, arch + '.spec')
        try:
            lines = open(name).read().split('\n')
        except FileNotFoundError:
            die(f'there is no {name}')
        for line in lines:
            word = line.split('#')[0].split()
            if not word:
                continue
            if word[0] == 'tests':
                self.tests += word[1:]
            elif word[0] == 'variant' and len(word) > 2:
                self.variants[word[1]] = word[2:]
            elif word[0] == 'cmdline':
                self.cmdline += word[1:]
            elif word[0] == 'cpus' and len(word) == 2:
                self.cpus = word[1]
            elif word[0] == 'until' and len(word) > 2:
                self.until[word[1]] = '_'.join(word[2:])
            elif len(word) == 1 and ':' in word[0]:
                self.places.append(word[0])
            else:
                die(f'{name} has a line that is neither tests, cmdline nor FILE:FUNCTION:\n    {line}')
        self.tests = self.variants.get(os.environ.get('VARIANT'), self.tests)


def collect(places, read, added):
    """The mutants of FILE:FUNCTION..., in the order of the files."""
    want = {}
    for place in places:
        path, _, func = place.partition(':')
        want.setdefault(path, []).append(func)
    for path in sorted(want):
        text = read(path)
        if text is None:
            die(f'{path} does not exist')
        clean = blank(text)
        bodies = list(functions(clean))
        for func in want[path]:
            name = re.split('[@~]', func)[0]
            if name not in ('', '*') and name not in [b[0] for b in bodies]:
                die(f'{path} has no function {name}')
        seen = Counter()
        new = None
        for name, start, end in bodies:
            some = [f.partition('~')[2] for f in want[path] if f.partition('~')[0] == name and '~' in f]
            if name in want[path] or '*' in want[path] or some:
                everything = True
            elif '@added' in want[path] or name + '@added' in want[path]:
                everything = False
                if new is None:
                    new = added(path)
            else:
                continue
            found = []
            for s, e, conditional in statements(clean, start, end):
                stmt = ' '.join(text[s:e].split())
                if SKIP.match(stmt) or DECL.match(stmt) or (JUMP.match(stmt) and not conditional):
                    continue
                found.append(('statements', stmt, [(s, e)]))
            within = [spans[0] for _, _, spans in found]
            for s, e in conditions(clean, start, end):
                # Not one that a statement is made of
                if not any(a <= s < b for a, b in within):
                    found.append(('conditions', f'if ({" ".join(text[s:e].split())})', [(s, e)]))
            found += [('locks', f'lock({lock})', spans) for lock, spans in locks(clean, start, end)]
            for kind, stmt, spans in sorted(found, key=lambda f: f[2][0]):
                if kind not in kinds():
                    continue
                line = text.count('\n', 0, spans[0][0]) + 1
                if some and not any(re.search(rx, stmt) for rx in some):
                    continue
                if not everything and not any(new.intersection(range(text.count('\n', 0, s) + 1,
                                                                     text.count('\n', 0, e) + 2)) for s, e in spans):
                    continue
                stmt = ' '.join(re.sub(r'/\*.*?\*/', ' ', stmt).split())
                seen[name, stmt] += 1
                times = seen[name, stmt]
                key = f'{path}:{name}: {stmt}' + (f' #{times}' if times > 1 else '')
                yield Mutant(0, path, name, line, spans, kind, stmt, key)


def kinds():
    wanted = (os.environ.get('KINDS') or ' '.join(KINDS)).split()
    for kind in wanted:
        if kind not in KINDS:
            die(f'KINDS={kind} is not one of: {" ".join(KINDS)}')
    return wanted


def instrumented(text, mutants):
    """The text of a file with all of its mutants in it, on the same lines."""
    out, at = [], 0
    for (s, e), m in sorted((span, m) for m in mutants for span in m.spans):
        out.append(text[at:s])
        if m.kind == 'conditions':
            out.append(f'kvm_mutant_is({m.nr}, !!({text[s:e]}))')
        else:
            out.append(f'if (kvm_mutant_runs({m.nr})) ' + text[s:e] + ' else (void)0;')
        at = e
    # Behind the first comment, on its last line
    text = ''.join(out) + text[at:]
    return re.sub(r'^(//[^\n]*)?', r'#include <linux/kvm_mutant.h> \1', text, count=1)


class Lane:
    def __init__(self):
        top = os.path.dirname(os.path.dirname(HERE))
        self.build = os.environ.get('BUILD') or os.path.join(top, 'build')
        self.tree = os.environ.get('TREE') or os.path.join(self.build, 'linux')
        self.work = os.path.join(self.build, 'mutants')
        self.out = os.path.join(self.build, 'mutants-log')
        self.runner = os.path.join(self.work, os.environ.get('RUNNER') or TESTS + '/qemu', 'run.sh')
        self.head = git(self.tree, 'rev-parse', 'HEAD').strip()
        self.base = git(self.tree, 'rev-parse', 'refs/series/base').strip()
        self.specs = {arch: Spec(arch) for arch in ARCHES}
        # One set of numbers for all, they share files
        places = [p for arch in ARCHES for p in self.specs[arch].places]
        self.text = {}
        self.crashes = Counter()
        # (mutant, test) that an earlier boot has got to
        self.passed = {arch: set() for arch in ARCHES}
        self.mutants = [m._replace(nr=n) for n, m in
                        enumerate(collect(sorted(set(places)), self.read, self.added), 1)]
        self.by_nr = {m.nr: m for m in self.mutants}

    def read(self, path):
        if path not in self.text:
            self.text[path] = git(self.tree, 'show', f'{self.head}:{path}')
        return self.text[path]

    def added(self, path):
        return added_lines(self.tree, self.base, self.head, path)

    def of(self, arch):
        files = {p.partition(':')[0] for p in self.specs[arch].places}
        only = os.environ.get('ONLY') or ''
        return [m for m in self.mutants if m.path in files and re.search(only, f'{arch} {m.key}')]

    def write(self, path, text):
        full = os.path.join(self.work, path)
        try:
            if open(full).read() == text:
                return
        except FileNotFoundError:
            pass
        open(full, 'w').write(text)

    def instrument(self):
        done = set()
        for path in sorted({m.path for m in self.mutants}):
            self.write(path, instrumented(self.read(path), [m for m in self.mutants if m.path == path]))
            done.add(path)
        self.write('include/linux/kvm_mutant.h', open(os.path.join(DATA, 'kvm_mutant.h')).read())
        self.write('lib/kvm_mutant.c', f'#define KVM_NR_MUTANTS {len(self.mutants)}\n' +
                   open(os.path.join(DATA, 'kvm_mutant.c')).read())
        self.write('lib/Makefile', self.read('lib/Makefile') + 'obj-y += kvm_mutant.o\n')
        self.write(f'{TESTS}/{DRIVER}.c', open(os.path.join(DATA, 'kvm_mutants.c')).read())
        # First, so that the tests that follow show whether it leaves anything behind
        name = f'{TESTS}/Makefile.kvm'
        text, nr = re.subn(r'^(TEST_GEN_PROGS_COMMON = )', r'\g<1>' + DRIVER + ' ', self.read(name), flags=re.M)
        if nr != 1:
            die(f'{name} has no TEST_GEN_PROGS_COMMON')
        self.write(name, text)
        done |= {'lib/Makefile', name}
        # What was instrumented by another spec
        for path in git(self.work, 'diff', '--name-only', 'HEAD').split():
            if path not in done:
                self.write(path, self.read(path))

    # ---- results -------------------------------------------------------------

    def kernel_id(self, arch):
        """What a verdict depends on, but for the tests"""
        ids = git(self.tree, 'rev-parse', f'{self.head}:{KVM[arch]}', f'{self.head}:virt/kvm',
                  f'{self.head}:include', f'{self.head}:{TESTS}/qemu/kernel.config',
                  f'{self.head}:{TESTS}/qemu/arch/{arch}.config')
        return hashlib.sha256((arch + ids).encode()).hexdigest()[:16]

    def tests_id(self, arch):
        """The tests, but for those of other architectures"""
        others = [a for a in (*ARCHES, 's390', 'loongarch') if a != arch]
        files = [line for line in git(self.tree, 'ls-tree', '-r', f'{self.head}:{TESTS}').split('\n')
                 if not re.search(rf'\t((lib/|include/)?({"|".join(others)})|qemu)/', line)]
        return hashlib.sha256('\n'.join(files).encode()).hexdigest()[:16]

    def results_name(self, arch):
        return os.path.join(self.out, arch + '.results')

    def known(self, arch, anywhere=False):
        """What was seen of this kernel, with these tests: on this VARIANT, or
        anywhere.  Who was killed on one of them is dead."""
        kernel, tests = self.kernel_id(arch), self.tests_id(arch)
        known, dead = {}, {}
        try:
            lines = open(self.results_name(arch)).read().split('\n')
        except FileNotFoundError:
            return known
        for line in lines:
            f = line.split('\t')
            if len(f) != 7 or f[0] != kernel or f[1].partition('@')[0] != tests:
                continue
            here = f[1] == tests + host()
            if f[2] == 'passed':
                if here:
                    self.passed[arch].add((f[3], f[4]))
            elif f[2] == 'doubtful':
                dead.get(f[3], {}).pop(f[1], None)
                if here or anywhere:
                    known.pop(f[3], None)
            elif f[2] == 'killed':
                dead.setdefault(f[3], {})[f[1]] = f[2:]
            elif here or anywhere:
                known[f[3]] = f[2:]
        known.update({key: list(where.values())[0] for key, where in dead.items() if where})
        return known

    def remember(self, arch, verdict, m, test, ms, why):
        os.makedirs(self.out, exist_ok=True)
        with open(self.results_name(arch), 'a') as f:
            f.write('\t'.join((self.kernel_id(arch), self.tests_id(arch) + host(), verdict, m.key, test, str(ms),
                               why.replace('\t', ' '))) + '\n')

    # ---- running ---------------------------------------------------------------

    def boot(self, arch, args, tests, stalled=0, each=None):
        """Run the driver; each() gets what it says.

        stalled: seconds without a word after which there is no hope.  Returns
        the number of run.sh, 0 if the driver got to its end, or None if the
        machine stalled."""
        console = os.path.join(self.build, f'mutants-{arch}', 'results',
                               os.environ.get('VARIANT') or self.variant(arch)) + '.console'
        if os.path.exists(console):
            os.remove(console)
        env = {k: v for k, v in os.environ.items() if k not in
               ('ARCH', 'TESTS', 'VARIANT', 'QEMU', 'KERNEL', 'BUILD', 'VERSION', 'SUFFIX', 'ON', 'SKIP',
                'TIMEOUT', 'MAKEFLAGS', 'MAKELEVEL', 'PROFILE')}
        env[f'KSELFTEST_{DRIVER.upper()}_ARGS'] = args
        cmd = self.command(arch) + [f'TESTS={DRIVER} {" ".join(tests)}', 'TIMEOUT=7200', 'TIMEOUT_SCALE=1',
                                    'BOOT_TIMEOUT=180', f'CMDLINE={" ".join(self.specs[arch].cmdline)}',
                                    'rerun']
        log = open(os.path.join(self.out, f'{arch}.log'), 'w')
        p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env,
                             start_new_session=True)
        heard, at, code = time.time(), 0, None
        try:
            while True:
                code = p.poll()
                try:
                    with open(console, 'rb') as f:
                        f.seek(at)
                        new = f.read()
                except FileNotFoundError:
                    new = b''
                new = new[:new.rfind(b'\n') + 1]
                at += len(new)
                for m in re.finditer(rb': mutants: ([^\r\n]*)', new):
                    heard = time.time()
                    if m.group(1) in (b'end', b'again'):
                        return 0
                    if each:
                        each(m.group(1).decode(errors='replace'))
                if code is not None:
                    break
                if stalled and time.time() - heard > stalled:
                    return None
                time.sleep(0.3)
        finally:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGTERM)
                p.wait()
            log.close()
        status = os.path.join(self.build, f'mutants-{arch}', 'results',
                              os.environ.get('VARIANT') or self.variant(arch)) + '.status'
        try:
            return int(open(status).read().split()[0])
        except (OSError, ValueError, IndexError):
            return code

    def command(self, arch):
        cmd = [self.runner, f'ARCH={arch}', f'KERNEL_PATH={self.work}',
               f'KERNEL_BUILD_PATH={self.work}/out-{arch}', f'BUILD_PATH={self.build}/mutants-{arch}',
               f'NR_CPUS={self.specs[arch].cpus}', f'MEMORY={os.environ.get("MEMORY") or 2048}M']
        if os.environ.get('VARIANT'):
            cmd.append(f'VARIANT={os.environ["VARIANT"]}')
        return cmd

    def variant(self, arch):
        out = subprocess.run(['make', '-s', '-C', os.path.dirname(self.runner), f'ARCH={arch}', 'print-VARIANT'],
                             stdout=subprocess.PIPE, env={'PATH': os.environ['PATH']}).stdout.decode()
        return out.strip()

    def reach(self, arch):
        """Which statements each test executes, from a run without a mutant."""
        tests = self.specs[arch].tests
        name = os.path.join(self.out, arch + '.ran')
        # With the numbers of the statements, which depend on all specs
        state = (os.environ.get('VARIANT') or '') + self.kernel_id(arch) + self.tests_id(arch) + ' '.join(tests) + '\n'.join(m.key for m in self.mutants)
        state = hashlib.sha256(state.encode()).hexdigest()
        try:
            saved = json.load(open(name))
            if saved['state'] == state and os.environ.get('FORCE') != '1':
                return {t: set(nrs) for t, nrs in saved['ran'].items()}, saved['gap']
        except (OSError, ValueError, KeyError):
            pass
        ran = {t: set() for t in tests}
        gap, verdict, took, why = {}, {}, {}, {}

        def each(line):
            word = line.split()
            if word[0] == 'ran' and word[1] in ran:
                ran[word[1]].update(int(n) for n in word[2:] if n.isdigit())
            elif word[0] == 'case' and os.environ.get('V') == '1':
                print('   ', line)
            elif word[0] == 'test':
                verdict[word[1]], took[word[1]], gap[word[1]] = map(int, word[2:5])
                why[word[1]] = ' '.join(word[5:])
        # QEMU may crash by itself
        for _ in range(3):
            code = self.boot(arch, 'ran ' + ' '.join(tests), tests, stalled=900, each=each)
            if len(verdict) == len(tests):
                break
        for t in tests:
            print(f'  {arch} without a mutant: {t} '
                  f'{("passed", "failed", "skipped", "failed")[verdict[t]] if t in verdict else "did not run"}, '
                  f'{took.get(t, 0) / 1000:.1f} s, executes {len(ran[t])} statements' +
                  (f': {why[t]}' if why.get(t) else ''), flush=True)
        if code != 0 or [t for t in tests if verdict.get(t) != 0]:
            die(f'the tests do not pass without a mutant on {arch}',
                f'see {self.build}/mutants-{arch}/results, and {self.out}/{arch}.log')
        json.dump({'state': state, 'ran': {t: sorted(nrs) for t, nrs in ran.items()}, 'gap': gap}, open(name, 'w'))
        return ran, gap

    def batch(self, arch, todo, ran, limit, quick=False):
        """Boot and try mutants, each with the tests that execute it.

        Returns those that are still to be run: the boot ended before."""
        state = {'at': None, 'left': False, 'error': None}
        survived, killed, tried = {}, [], set()
        spec = self.specs[arch]

        def until(t):
            return spec.until.get(t, '-') if quick else '-'

        def mine(m):
            return [t for t in spec.tests if m.nr in ran[t] and (m.key, f'{t} {until(t)}') not in self.passed[arch]]

        def each(line):
            word = line.split()
            if word[0] == 'start':
                state['at'] = (int(word[1]), word[2])
            elif word[0] in ('killed', 'survived', 'skipped'):
                nr, test, ms, why = int(word[1]), word[2], int(word[3]), ' '.join(word[4:])
                tried.add((nr, test))
                state['at'] = None
                if word[0] == 'killed':
                    killed.append(nr)
                    self.verdict(arch, 'killed', self.by_nr[nr], test, ms, why)
                else:
                    survived[nr] = survived.get(nr, 0) + ms
                    name = f'{test} {until(test)}'
                    self.passed[arch].add((self.by_nr[nr].key, name))
                    self.remember(arch, 'passed', self.by_nr[nr], name, ms, '')
            elif word[0] == 'after':
                state['left'] |= word[1] != '0'
            elif word[0] == 'error:':
                state['error'] = line
        args = []
        for t in spec.tests:
            nrs = [m.nr for m in todo if t in mine(m)]
            if nrs:
                args.append(f'{t} {limit[t]} {until(t)} {",".join(map(str, nrs))}')
        code = None
        if args:
            code = self.boot(arch, ' '.join(args), spec.tests, stalled=max(limit.values()) + 120, each=each)
        todo = list(todo)
        if state['at']:
            nr, test = state['at']
            self.crashes[nr] += 1
            if self.crashes[nr] > 1:
                killed.append(nr)
                self.verdict(arch, 'killed', self.by_nr[nr], test, 0,
                             'the machine hangs' if code is None else 'the machine crashes')
            else:
                # It may have been the one before, or QEMU: again, as the first one
                todo.sort(key=lambda m: m.nr != nr)
        elif state['error'] or (not tried and args):
            die(f'{arch} does not run the tests: {state["error"] or code}', f'see {self.out}/{arch}.log')
        elif state['left'] and killed and len(todo) > 1:
            # Who was killed after something was left behind may be innocent
            print(f'  {arch}: the tests fail afterwards, each one again in a boot of its own', flush=True)
            for m in [m for m in todo if m.nr in killed]:
                self.remember(arch, 'doubtful', m, '', 0, '')
                self.batch(arch, [m], ran, limit, quick=quick)
        rest = []
        for m in todo:
            if m.nr in killed:
                continue
            if not mine(m):
                self.verdict(arch, 'quick' if quick else 'survived', m, '', survived.get(m.nr, 0), '')
            else:
                rest.append(m)
        return rest

    def verdict(self, arch, verdict, m, test, ms, why):
        self.remember(arch, verdict, m, test, ms, why)
        self.count += 1
        print(f'  [{self.count}/{self.total}] {verdict:9s} {ms / 1000:5.1f} s {m.path}:{m.line} {m.func}:\n'
              f'      {m.text[:74]}' + (f'\n      <- {why[:71]}' if why else ''), flush=True)

    def run(self, arch):
        os.makedirs(self.out, exist_ok=True)
        known = {} if os.environ.get('FORCE') == '1' else self.known(arch)
        explained = explanations()

        def is_explained(m):
            return any(re.search(rx, f'{arch} {m.key}') for rx, _ in explained)
        again = os.environ.get('EXPLAINED') == '1'
        todo = [m for m in self.of(arch) if (m.key not in known and (again or not is_explained(m))) or
                (m.key in known and known[m.key][0] == 'quick' and not is_explained(m))]
        self.count, self.total = 0, len(todo)
        print(f'{arch}: {len(self.of(arch))} mutants, {len(todo)} to run', flush=True)
        if not todo:
            return
        ran, gap = self.reach(arch)
        # Silence that tells a test that hangs from one on a busy machine
        limit = {t: 10 + 4 * gap[t] // 1000 for t in self.specs[arch].tests}
        reached = set().union(*ran.values())
        for m in todo:
            if m.nr not in reached:
                self.verdict(arch, 'unreached', m, '', 0, '')
        size = int(os.environ.get("BATCH") or 60)
        rest = [m for m in todo if m.nr in reached]
        slow = [m for m in rest if m.key in known]
        rest = [m for m in rest if m.key not in known]
        while rest:
            left = self.batch(arch, rest[:size], ran, limit, quick=True)
            rest = left + rest[size:]
        if os.environ.get('QUICK') == '1':
            return
        # What takes long, for those that it may make a difference for
        known = self.known(arch)
        slow += [m for m in todo if known.get(m.key, ('',))[0] == 'quick' and not is_explained(m)]
        self.total += len(slow)
        while slow:
            left = self.batch(arch, slow[:size], ran, limit)
            slow = left + slow[size:]

    # ---- report --------------------------------------------------------------

    def report(self, arch):
        explained = explanations()
        known = self.known(arch, anywhere=True)
        count, bad = Counter(), 0
        for m in self.of(arch):
            verdict = known.get(m.key, ['not run'])[0]
            if verdict == 'killed':
                count['killed'] += 1
                continue
            reason = next((r for rx, r in explained if re.search(rx, f'{arch} {m.key}')), None)
            kind = 'explained' if reason else 'not run' if verdict == 'not run' else 'unexplained'
            count[kind] += 1
            if kind != 'explained' or os.environ.get('V') == '1':
                print(f'  {arch}: {verdict}: {m.path}:{m.line}: {m.func}: {m.text}' +
                      (f'\n      {reason}' if reason else ''))
            bad += kind != 'explained'
        print(f'{arch}: {sum(count.values())} mutants, {count["killed"]} killed, '
              f'{count["explained"]} explained, {count["unexplained"]} survived and not explained' +
              (f', {count["not run"]} not run' if count['not run'] else ''), flush=True)
        return bad


def host():
    """What another VARIANT than the default adds to the name of the tests."""
    return f'@{os.environ["VARIANT"]}' if os.environ.get('VARIANT') else ''


def explanations():
    result = []
    try:
        lines = open(os.path.join(DATA, 'explained')).read().split('\n')
    except FileNotFoundError:
        lines = []
    for line in lines:
        if not line or line.startswith('#'):
            continue
        rx, tab, reason = line.partition('\t')
        if not tab or not reason.strip():
            die(f'mutants/explained has a line without a reason: {line}')
        result.append((rx, reason.strip()))
    return result


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', choices=('list', 'instrument', 'run', 'report', 'variants'))
    ap.add_argument('arch', nargs='*')
    args = ap.parse_args()
    for arch in args.arch:
        if arch not in ARCHES:
            die(f'{arch} is none of: {" ".join(ARCHES)}')
    try:
        re.compile(os.environ.get('ONLY') or '')
    except re.error as e:
        die(f'ONLY is no regular expression: {e}')
    # So that what was started ends as well
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    lane = Lane()
    if args.what == 'instrument':
        lane.instrument()
        print(f'{len(lane.mutants)} mutants in {len({m.path for m in lane.mutants})} files')
        return 0
    if os.environ.get('ONLY') and not any(lane.of(arch) for arch in args.arch):
        die(f'ONLY={os.environ["ONLY"]} matches no statement of {" ".join(args.arch)}', 'scripts/lanes/mutants.sh list')
    bad = 0
    for arch in args.arch:
        if args.what == 'list':
            known = lane.known(arch)
            for m in lane.of(arch):
                print(f'{m.nr:4d} {known.get(m.key, ["-"])[0]:9s} {m.path}:{m.line} {m.func}: {m.text}')
        elif args.what == 'run':
            lane.run(arch)
        elif args.what == 'variants':
            print(*lane.specs[arch].variants)
        else:
            bad += lane.report(arch)
    # Of what an explanation is for, all must be looked at.
    if args.what == 'report' and set(args.arch) == set(ARCHES) and set(kinds()) == set(KINDS) and \
       not os.environ.get('ONLY'):
        keys = [f'{arch} {m.key}' for arch in ARCHES for m in lane.of(arch)]
        for rx, reason in explanations():
            if not any(re.search(rx, key) for key in keys):
                print(f'explained, and there is no such statement: {rx}: {reason}')
                bad += 1
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
