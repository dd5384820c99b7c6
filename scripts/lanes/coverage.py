#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What gcov says of the lines that the series adds or changes.

    coverage.py read ARCH VARIANT CONSOLE	what z_gcov has printed there, into
				$COVERAGE_OUT/ARCH-VARIANT.json
    coverage.py report		the table of all these, and the lines that no test
				reaches; "ARCH VARIANT" of all that there is on
				standard input. Status 1 if a line is neither
				reached nor has a reason, or has a reason and is.

coverage/reasons has lines "REGEX<tab>reason". The regular expression is looked for
in "ARCH FILE:FUNCTION: line", where blanks are single. A file that is not compiled
at all counts as one line, "ARCH FILE:: not compiled".
"""

import base64
import binascii
import json
import os
import re
import subprocess
import sys
import tempfile

import mutants

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get('BUILD') or os.path.join(TOP, 'build')
WORK = os.environ.get('WORK') or os.path.join(BUILD, 'coverage')
OUT = os.environ.get('COVERAGE_OUT') or os.path.join(BUILD, 'coverage-log')
REASONS = os.environ.get('REASONS') or os.path.join(HERE, 'coverage', 'reasons')
GCOV = {'riscv': ('riscv64', 'riscv64-linux-gnu-gcov'), 'arm64': ('aarch64', 'aarch64-linux-gnu-gcov'),
        'x86': ('x86_64', 'x86_64-linux-gnu-gcov')}
# Others are compiled for another architecture, or are no code.
PLACES = ('virt/kvm/', 'include/linux/', 'include/kvm/')


def die(cause, step):
    print(f'error: {cause}\n  next: {step}', file=sys.stderr)
    sys.exit(2)


def git(*args):
    done = subprocess.run(('git', '-C', WORK) + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        die(f'git {" ".join(args)}: {done.stderr.decode().strip()}', 'make tree')
    return done.stdout.decode(errors='replace')


def is_of(arch, path):
    """Is this C that architecture compiles?"""
    if not re.search(r'\.[ch]$', path) or '/uapi/' in path:
        return False
    return path.startswith((f'arch/{arch}/',) + PLACES) and \
        (arch == 'arm64' or not path.startswith('include/kvm/arm_'))


def added(arch):
    """{path: lines} that the series has added or changed"""
    found, path = {}, None
    for line in git('diff', '-U0', '--no-color', 'refs/series/base', 'HEAD', '--').splitlines():
        if line.startswith('+++ '):
            path = line[6:] if line.startswith('+++ b/') and is_of(arch, line[6:]) else None
        elif path and (match := re.match(r'@@ -\S+ \+(\d+)(?:,(\d+))? @@', line)):
            first, number = int(match[1]), int(match[2] or 1)
            if number:
                found.setdefault(path, set()).update(range(first, first + number))
    return found


# --- what came out of the machine -------------------------------------------

def files_of(console):
    """{path: bytes} of what z_gcov has printed"""
    files, path, lines, total, end = {}, None, 0, 0, None
    with open(console, encoding='utf-8', errors='replace') as f:
        for line in f:
            match = re.search(r'z_gcov: gcov: (.*)', line.rstrip('\r\n'))
            if not match:
                continue
            word = match[1].split(' ')
            if word[0] == 'file':
                path = match[1][5:]
                files[path] = b''
            elif word[0] == 'end':
                end = (int(word[1]), int(word[2]))
            else:
                if path is None or int(word[0]) != lines:
                    die(f'{console} lacks line {lines} of what the machine has counted', 'run that variant again')
                try:
                    data = base64.b64decode(word[1], validate=True)
                except (binascii.Error, IndexError):
                    die(f'{console}: line {lines} of what the machine has counted is broken', 'run that variant again')
                files[path] += data
                lines += 1
                total += sum(data)
    if end != (lines, total):
        what = f': {lines} lines, sum {total};\n    the end says {end[0]} lines, sum {end[1]}' if end else ' has no end of the counters'
        die(console + what, 'see there if the machine has ended early, and run that variant again')
    return files


def gcov(arch, path, data):
    """The JSON of gcov for one object. Its .gcno is in the output directory of the kernel."""
    machine, cross = GCOV[arch]
    tool = 'gcov' if os.uname().machine == machine else cross
    notes = path[:-5] + '.gcno'
    if not os.path.exists(notes):
        die(f'{notes} is missing', 'scripts/lanes/coverage.sh builds it')
    with tempfile.TemporaryDirectory() as tmp:
        name = os.path.join(tmp, os.path.basename(path))
        with open(name, 'wb') as f:
            f.write(data)
        os.symlink(notes, name[:-5] + '.gcno')
        done = subprocess.run((tool, '--json-format', '--stdout', name), cwd=tmp, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
    if done.returncode or b'mismatch' in done.stderr:
        die(f'{tool} {path}: {done.stderr.decode().strip()}', 'the tests must run on the kernel that is built')
    return json.loads(done.stdout)


def read(arch, variant, console):
    if not os.path.exists(console):
        die(f'there is no {console}', 'see the log of that run')
    new, counts, top = added(arch), {}, os.path.realpath(WORK)
    objects = files_of(console)
    for path, data in sorted(objects.items()):
        result = gcov(arch, path, data)
        where = result.get('current_working_directory', '.')
        for entry in result['files']:
            name = os.path.relpath(os.path.realpath(os.path.join(where, entry['file'])), top)
            if name not in new:
                continue
            of_file = counts.setdefault(name, {})
            for line in entry['lines']:
                number = line['line_number']
                if number not in new[name]:
                    continue
                of_file[str(number)] = of_file.get(str(number), 0) + line['count']
    with open(os.path.join(OUT, f'{arch}-{variant}.json'), 'w', encoding='utf-8') as f:
        json.dump({'head': git('rev-parse', 'HEAD').strip(), 'objects': len(objects), 'counts': counts}, f)


# --- and what it means ------------------------------------------------------

def reasons():
    out = []
    with open(REASONS, encoding='utf-8') as f:
        for nr, line in enumerate(f, 1):
            line = line.rstrip('\n')
            if not line or line.startswith('#'):
                continue
            regex, tab, reason = line.partition('\t')
            if not tab or not reason.strip():
                die(f'reasons:{nr}: a line without a reason: {line}', 'REGEX<tab>reason')
            try:
                out.append((re.compile(regex), reason.strip()))
            except re.error as error:
                die(f'reasons:{nr}: {error}: {regex}', 'REGEX<tab>reason')
    return out


def head_line(text, start):
    """of the function whose body begins at that offset: behind the last one, or a blank line"""
    before = max(text.rfind('\n}', 0, start), text.rfind('\n\n', 0, start - 1))
    return text.count('\n', 0, before + 2) + 1


def report():
    expected = [tuple(line.split()) for line in sys.stdin.read().splitlines() if line.strip()]
    head = git('rev-parse', 'HEAD').strip()
    arches = list(dict.fromkeys(arch for arch, _ in expected))
    known, used, wrong, whole = reasons(), set(), 0, True
    print(f'{"arch":<6} {"variant":<10} {"lines":>6} {"reached":>8} {"not":>5}')
    for arch in arches:
        new, total, compiled, missing, done = added(arch), {}, set(), [], 0
        for variant in [v for a, v in expected if a == arch]:
            try:
                with open(os.path.join(OUT, f'{arch}-{variant}.json'), encoding='utf-8') as f:
                    data = json.load(f)
            except OSError:
                data = {}
            if data.get('head') != head:
                missing.append(variant)
                continue
            done += 1
            lines = reached = 0
            for path, of_file in data['counts'].items():
                compiled.add(path)
                for number, count in of_file.items():
                    lines += 1
                    reached += count > 0
                    total[path, int(number)] = total.get((path, int(number)), 0) + count
            print(f'{arch:<6} {variant:<10} {lines:6} {reached:8} {lines - reached:5}')
        if not done:
            print(f'{arch:<6} not run')
            whole = False
            continue
        reached = sum(count > 0 for count in total.values())
        print(f'{arch:<6} {"together":<10} {len(total):6} {reached:8} {len(total) - reached:5}  '
              f'{100 * reached / max(1, len(total)):.1f} %' + (f'  without {" ".join(missing)}' if missing else ''))
        whole = whole and not missing
        left = []
        text, names = {}, {}
        for (path, number), count in sorted(total.items()):
            if path not in text:
                whole_text = git('show', f'HEAD:{path}')
                text[path] = whole_text.splitlines()
                names[path] = [(name, head_line(whole_text, start), whole_text.count('\n', 0, end) + 2)
                               for name, start, end in mutants.functions(mutants.blank(whole_text))]
            func = ([name for name, first, last in names[path] if first <= number <= last] or [''])[-1]
            words = ' '.join(text[path][number - 1].split())
            left.append((f'{arch} {path}:{func}: {words}', f'{path}:{number}', count))
        for path in sorted(set(new) - compiled):
            if path.endswith('.c'):
                left.append((f'{arch} {path}:: not compiled', path, 0))
        explained = 0
        for key, where, count in left:
            reason = next(((i, why) for i, (regex, why) in enumerate(known) if regex.search(key)), None)
            if count:
                if reason and not missing:
                    used.add(reason[0])
                    wrong += 1
                    print(f'  {where}: is reached, and has a reason why it is not: {known[reason[0]][1]}')
            elif reason:
                used.add(reason[0])
                explained += 1
                if os.environ.get('V') == '1':
                    print(f'  {where}: {key.split(": ", 1)[1]}\n      {reason[1]}')
            else:
                wrong += not missing
                print(f'  {where}: not reached{"" if not missing else " so far"}: {key.split(" ", 1)[1]}')
        print(f'  {explained} not reached for a reason')
    for i, (regex, why) in enumerate(known):
        # Of an architecture that is not looked at, or was not all run, nothing is known.
        of = re.match(r'\^?\(?([a-z0-9|]+)\)? ', regex.pattern)
        if whole and i not in used and (not of or set(of[1].split('|')) & set(arches)) and \
           (of or set(arches) == set(GCOV)):
            wrong += 1
            print(f'  a reason for no line: {regex.pattern}: {why}')
    print(f'coverage: {wrong} errors' + ('' if whole else ', not all was run'))
    return 1 if wrong else 0


def main(args):
    if args[:1] == ['read'] and len(args) == 4 and args[1] in GCOV:
        read(*args[1:])
        return 0
    if args == ['report']:
        return report()
    die(f'coverage.py knows read and report, not "{" ".join(args)}"', 'scripts/lanes/coverage.sh')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
