#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Lanes on more than one machine: what there is to run, and what came out.

    results.py matrix NAME...	JSON of these lanes, one entry a job ("make lanes")
    results.py keep DIR LANE STATUS SECONDS COMMAND [VERDICT [LOG]]
				what full.sh has run: DIR/KEY/{lane.json,lane.ktap,log}
    results.py merge DIR...	one verdict of all ("make merge-results")
    results.py check FILE...	JUnit (.xml) and KCIDB (.json) are what they must be
    results.py state		the state of this repository that results are of

The lanes are those of full.sh, scripts/lanes/lanes says what each needs.

lane.ktap is KTAP of one lane, with the tests of check.sh below it if it has run
any: a test that must fail on the base and does is "ok" there. merge nests them
all in one results.ktap, which "kunit.py parse" of the kernel reads too, and makes
JUnit XML and KCIDB JSON of it. The kernel's own JUnit writer (kunit.py parse
--junit) names no class, without which GitLab takes tests of one name in two lanes
for one, and gives neither times nor reasons; its JSON is not KCIDB's.

The last line of merge is "N passed, N failed, N skipped". A lane that was to run
and of which no machine has a result has failed.
"""

import datetime
import fnmatch
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
ARCHES = ('riscv', 'arm64', 'x86')
# What makes a lane do less than all it can.
PART = ('TESTS', 'SKIP', 'SIDES', 'RANGE', 'CHECKERS', 'AFTER', 'QUICK', 'ONLY', 'VERSIONS', 'KINDS', 'VARIANTS')


def die(cause, step):
    print(f'error: {cause}\n  next: {step}', file=sys.stderr)
    sys.exit(2)


# --- what there is ----------------------------------------------------------

def table():
    """[(pattern, arches, minutes, needs)] of scripts/lanes/lanes"""
    rows = []
    with open(os.path.join(HERE, 'lanes'), encoding='utf-8') as f:
        for nr, line in enumerate(f, 1):
            words = line.split('#')[0].split()
            if not words:
                continue
            ok = len(words) == 4 and words[1] in ('each', 'all', 'name') + ARCHES and \
                re.fullmatch(r'[0-9]+(,[0-9]+,[0-9]+)?', words[2])
            if not ok:
                die(f'scripts/lanes/lanes:{nr}: not PATTERN ARCHES MINUTES NEEDS: {line.strip()}',
                    'see the top of that file')
            minutes = [int(m) for m in words[2].split(',')]
            rows.append((words[0], words[1], minutes, words[3].split(',')))
    return rows


def known(rows, lane):
    for row in rows:
        if fnmatch.fnmatchcase(lane, row[0]):
            return row
    die(f'scripts/lanes/lanes has no line for the lane {lane} of full.sh', 'add one')


def arches():
    return (os.environ.get('ARCH') or ' '.join(ARCHES)).split()


def jobs(lanes):
    """One entry for each job that one machine can do by itself."""
    rows = table()
    for lane in lanes:
        _, which, minutes, needs = known(rows, lane)
        if which == 'each':
            parts = [[arch] for arch in arches()]
        elif which == 'all':
            parts = [arches()]
        elif which == 'name':
            parts = [[word for word in lane.split('-') if word in ARCHES][:1]]
        else:
            parts = [[which]]
        for part in parts:
            minute = minutes[ARCHES.index(part[0])] if len(minutes) == 3 else minutes[0]
            command = f'make check-full LANES={lane} ARCH="{" ".join(part)}"'
            # "commits" compiles what is not booted with whatever it runs: once is enough.
            if lane == 'commits' and part != parts[0]:
                command += ' OTHERS='
            yield {'name': f'{lane}-{part[0]}' if which == 'each' else lane, 'lane': lane,
                   'arch': ' '.join(part), 'command': command, 'minutes': minute,
                   # Of a slower machine, or one with other things to do.
                   'timeout': 3 * minute + 15, 'needs': needs}


def matrix(lanes):
    lines = ',\n'.join(json.dumps(job) for job in jobs(lanes))
    print('{"include": [\n' + lines + '\n]}')


# --- KTAP -------------------------------------------------------------------

RESULT = re.compile(r'(not )?ok ([0-9]+) (?:- )?([^#]*?)\s*(?:# ?(.*))?$')


class Test:
    def __init__(self, name, status, why='', seconds=None, notes=()):
        self.name, self.status, self.why = name, status, why
        self.seconds, self.notes = seconds, list(notes)


def read_ktap(text, what):
    """The results of one level, in order; what follows a plan and isn't there is an
    error, as is what has no result line."""
    tests, notes, seconds, plan = [], [], None, None
    for line in text.splitlines():
        match = RESULT.match(line)
        if match:
            bad, nr, name, rest = match.groups()
            rest = rest or ''
            if int(nr) != len(tests) + 1:
                die(f'{what}: result {nr} where {len(tests) + 1} is expected', 'run that lane again')
            if rest.upper().startswith('SKIP'):
                test = Test(name, 'skip', rest[4:].strip())
            elif bad:
                test = Test(name, 'error' if rest.startswith('ended early') else 'fail', rest)
            else:
                test = Test(name, 'pass', rest)
            test.seconds, test.notes = seconds, notes
            tests.append(test)
            notes, seconds = [], None
        elif re.match(r'1\.\.[0-9]+', line):
            plan = int(line[3:].split()[0])
        elif line.startswith('# time '):
            seconds = float(line.split()[-1])
        elif line.startswith('#') and not line.startswith('# Subtest: '):
            notes.append(line[1:].strip())
    if plan != len(tests):
        die(f'{what}: {len(tests)} results, and the plan is {plan}', 'run that lane again')
    return tests


def result_line(nr, test):
    out = [f'# {note}' for note in test.notes]
    if test.seconds is not None:
        out.append(f'# time {test.name} {test.seconds:.3f}')
    word = 'not ok' if test.status in ('fail', 'error') else 'ok'
    # A "#" in a name would begin the directive.
    line = f'{word} {nr} {test.name.replace("#", "")}'
    if test.status == 'skip':
        line += f' # SKIP {test.why}'.rstrip()
    elif test.why:
        line += f' # {test.why}'
    return out + [line]


def write_ktap(lanes):
    """lanes: [(Test, [Test])]"""
    out = ['KTAP version 1', f'1..{len(lanes)}']
    for nr, (lane, tests) in enumerate(lanes, 1):
        if tests:
            out += ['    KTAP version 1', f'    # Subtest: {lane.name}', f'    1..{len(tests)}']
            for number, test in enumerate(tests, 1):
                out += ['    ' + line for line in result_line(number, test)]
        out += result_line(nr, lane)
    return '\n'.join(out) + '\n'


# --- what one machine keeps -------------------------------------------------

def git(*args):
    done = subprocess.run(('git', '-C', TOP) + args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode(errors='replace')


def state():
    """The commit of this repository, and what was edited since."""
    edits = git('diff', 'HEAD') + git('status', '--porcelain')
    commit = git('rev-parse', 'HEAD').strip() or '0' * 40
    return commit + ('' if not edits else '+' + hashlib.sha256(edits.encode()).hexdigest()[:12])


def version():
    with open(os.path.join(os.environ.get('PATCHES') or os.path.join(TOP, 'patches/v7.3'), 'BASE'),
              encoding='utf-8') as f:
        for line in f:
            if line.startswith('version:'):
                return line.split()[1]
    die('patches/v7.3/BASE has no version:', 'git checkout patches/v7.3/BASE')


def keep(where, lane, status, seconds, command, verdict=None, log=None):
    status, seconds = int(status), float(seconds)
    row = known(table(), lane)
    which = row[1]
    mine = [which] if which in ARCHES else \
        [word for word in lane.split('-') if word in ARCHES][:1] if which == 'name' else arches()
    name = f'{lane}-{"-".join(mine)}' if which == 'each' else lane
    tests = []
    if verdict and os.path.exists(verdict):
        with open(verdict, encoding='utf-8', errors='replace') as f:
            tests = read_ktap(f.read(), verdict)
    last = ''
    if log and os.path.exists(log):
        with open(log, encoding='utf-8', errors='replace') as f:
            lines = f.read().splitlines()
        last = next((line for line in reversed(lines) if line.strip()), '')
    top = Test(name, 'pass' if status == 0 else 'fail', '' if status == 0 else f'status {status}', seconds)
    if status != 0 and not any(test.status in ('fail', 'error') for test in tests):
        top.notes = lines[-20:] if log and os.path.exists(log) else []
    elif status == 0 and tests and all(test.status == 'skip' for test in tests):
        top.status = 'skip'
    out = os.path.join(where, name)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, 'lane.ktap'), 'w', encoding='utf-8') as f:
        f.write(write_ktap([(top, tests)]))
    if log and os.path.exists(log):
        with open(log, 'rb') as f, open(os.path.join(out, 'log'), 'wb') as g:
            g.write(f.read())
    end = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    # Last: a directory without it was interrupted.
    with open(os.path.join(out, 'lane.json'), 'w', encoding='utf-8') as f:
        json.dump({'name': name, 'lane': lane, 'arch': mine, 'status': status, 'seconds': seconds,
                   'start': (end - datetime.timedelta(seconds=seconds)).isoformat(), 'command': command,
                   'summary': last, 'part': {word: os.environ[word] for word in PART if os.environ.get(word)},
                   'state': state(), 'version': version(),
                   'machine': f'{platform.machine()}, {os.cpu_count()} CPUs'}, f, indent=1)
        f.write('\n')


# --- all of them ------------------------------------------------------------

def find(dirs):
    found = []
    for top in dirs:
        here = []
        for path, subdirs, files in os.walk(top):
            subdirs.sort()
            if 'lane.json' in files:
                here.append(path)
        if not here:
            die(f'{top} has no results (lane.json) of a lane',
                'DIRS= are copies of build/lanes after "make check-full"')
        found += here
    return sorted(set(os.path.realpath(path) for path in found))


def load(path):
    try:
        with open(os.path.join(path, 'lane.json'), encoding='utf-8') as f:
            info = json.load(f)
        with open(os.path.join(path, 'lane.ktap'), encoding='utf-8', errors='replace') as f:
            text = f.read()
        lane = read_ktap('\n'.join(line for line in text.splitlines() if not line.startswith('    ')), path)[0]
        below = [line[4:] for line in text.splitlines() if line.startswith('    ')]
        tests = read_ktap('\n'.join(below), path) if below else []
        for key in ('name', 'lane', 'arch', 'status', 'seconds', 'start', 'command', 'state', 'version', 'machine', 'part'):
            _ = info[key]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        die(f'{path} is not whole: {type(error).__name__} {error}', 'copy it again, or run that lane again')
    if (info['status'] == 0) != (lane.status in ('pass', 'skip')):
        die(f'{path}: lane.json and lane.ktap are not of one run', 'copy it again, or run that lane again')
    return info, lane, tests


def merge(dirs, out, wanted, origin):
    loaded = [load(path) for path in find(dirs)]
    states = sorted({info['state'] for info, _, _ in loaded})
    if len(states) > 1:
        names = '; '.join(f'{s[:12]}{s[40:]}: ' + ' '.join(i['name'] for i, _, _ in loaded if i['state'] == s)
                          for s in states)
        die(f'the results are of {len(states)} states of this repository: {names}',
            'merge those of one commit, with nothing edited')
    seen = {}
    for info, lane, _ in loaded:
        seen[info['name']] = seen.get(info['name'], 0) + 1
        if seen[info['name']] > 1:
            # Another machine ran it too: both count.
            lane.name = info['name'] = f'{info["name"]}-{seen[info["name"]]}'
    missing = [job for job in wanted
               if not any(info['lane'] == job['lane'] and set(job['arch'].split()) <= set(info['arch'])
                          for info, _, _ in loaded)]
    for job in missing:
        loaded.append((dict(job, arch=job['arch'].split(), status=None, seconds=0, state=states[0],
                            version=loaded[0][0]['version'], machine=None, start=None),
                       Test(job['name'], 'error', 'ended early: no machine has a result of it'), []))
    passed = failed = skipped = 0
    for info, lane, tests in loaded:
        counted = tests
        # Of a lane that has failed although its tests have not, it is the lane that counts.
        if not tests or (lane.status in ('fail', 'error') and
                         not any(test.status in ('fail', 'error') for test in tests)):
            counted = tests + [lane]
        n = {status: sum(test.status == status for test in counted) for status in ('pass', 'fail', 'error', 'skip')}
        passed += n['pass']
        failed += n['fail'] + n['error']
        skipped += n['skip']
        word = {'pass': 'passed', 'skip': 'skipped'}.get(lane.status, 'FAILED')
        print(f'{info["name"]:<24} {word}  {info["seconds"]:6.0f} s  '
              f'{n["pass"]} passed, {n["fail"] + n["error"]} failed, {n["skip"]} skipped'
              + (f'  {lane.why}' if lane.status == 'error' else '')
              + ''.join(f'  only {key}="{value}"' for key, value in info.get('part', {}).items()))
        for test in counted:
            if test.status in ('fail', 'error') and test is not lane:
                print(f'    {test.name}: {test.why or "failed"}')
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, 'results.ktap'), 'w', encoding='utf-8') as f:
        f.write(write_ktap([(lane, tests) for _, lane, tests in loaded]))
    xml, data = junit(loaded), kcidb(loaded, origin)
    for wrong in check_junit(xml) + check_kcidb(data):
        die(f'bug in results.py: {wrong}', 'report it')
    ET.indent(xml)
    ET.ElementTree(xml).write(os.path.join(out, 'junit.xml'), encoding='utf-8', xml_declaration=True)
    with open(os.path.join(out, 'kcidb.json'), 'w', encoding='utf-8') as f:
        json.dump(data, f, indent=1)
        f.write('\n')
    print(f'\n{out}/: results.ktap junit.xml kcidb.json')
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 1 if failed else 0


# XML 1.0 has no other control characters.
def printable(text):
    return re.sub('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]', '?', text)


def junit(loaded):
    top = ET.Element('testsuites', {'name': 'kvm-vcpu-reset'})
    sums = {'tests': 0, 'failures': 0, 'errors': 0}
    for info, lane, tests in loaded:
        cases = list(tests)
        if not tests or (lane.status in ('fail', 'error') and
                         not any(test.status in ('fail', 'error') for test in tests)):
            cases.append(lane)
        counts = {'tests': len(cases), 'failures': sum(t.status == 'fail' for t in cases),
                  'errors': sum(t.status == 'error' for t in cases),
                  'skipped': sum(t.status == 'skip' for t in cases)}
        suite = ET.SubElement(top, 'testsuite', {'name': info['name'], **{k: str(v) for k, v in counts.items()},
                                                 'time': f'{info["seconds"]:.3f}'})
        if info['start']:
            suite.set('timestamp', info['start'])
        properties = ET.SubElement(suite, 'properties')
        for key in ('command', 'state', 'version', 'machine'):
            if info[key]:
                ET.SubElement(properties, 'property', {'name': key, 'value': printable(str(info[key]))})
        for key in sums:
            sums[key] += counts[key]
        for test in cases:
            case = ET.SubElement(suite, 'testcase', {'name': printable(test.name), 'classname': info['name']})
            if test.seconds is not None:
                case.set('time', f'{test.seconds:.3f}')
            tag = {'fail': 'failure', 'error': 'error', 'skip': 'skipped'}.get(test.status)
            if tag:
                element = ET.SubElement(case, tag, {'message': printable(test.why)})
                # GitLab shows the text and not the message.
                element.text = printable('\n'.join([test.why] + test.notes))
            elif test.notes:
                ET.SubElement(case, 'system-out').text = printable('\n'.join(test.notes))
    for key, value in sums.items():
        top.set(key, str(value))
    return top


def dotted(name):
    """A path of KCIDB: words of letters, digits, - and _"""
    return '.'.join(re.sub(r'[^a-zA-Z0-9_-]', '_', part) or '_' for part in name.split('.'))


def kcidb(loaded, origin):
    first = loaded[0][0]
    checkout = f'{origin}:{first["state"]}'
    data = {'version': {'major': 5, 'minor': 3},
            'checkouts': [{'id': checkout, 'origin': origin, 'valid': True,
                           'comment': f'Linux {first["version"]} and the KVM vCPU reset series',
                           'misc': {'series': first['state'], 'base': first['version']}}],
            'builds': [], 'tests': []}
    status = {'pass': 'PASS', 'fail': 'FAIL', 'error': 'ERROR', 'skip': 'SKIP'}
    for info, lane, tests in loaded:
        build = f'{checkout}:{info["name"]}'
        one = {'id': build, 'checkout_id': checkout, 'origin': origin, 'comment': f'lane {info["name"]}',
               'command': info['command'], 'config_name': info['name']}
        if len(info['arch']) == 1:
            # As "uname -m" has it.
            one['architecture'] = {'riscv': 'riscv64', 'arm64': 'aarch64', 'x86': 'x86_64'}[info['arch'][0]]
        if info['start']:
            one['start_time'] = info['start']
        # Tests have run on it. Without tests, what the lane says is a test's result.
        one['status'] = 'PASS' if tests or info['status'] == 0 else 'MISS' if info['status'] is None else 'DONE'
        data['builds'].append(one)
        for test in tests + [lane]:
            path = f'kselftest.kvm.{test.name}' if test is not lane else f'kvm_vcpu_reset.{test.name}'
            entry = {'id': f'{build}:{test.name}', 'build_id': build, 'origin': origin, 'path': dotted(path),
                     'status': status[test.status]}
            if test is lane and info['status'] is None:
                entry['status'] = 'MISS'
            if test.seconds is not None:
                entry['duration'] = test.seconds
            if info['machine']:
                entry['environment'] = {'comment': info['machine']}
            if test.why:
                entry['comment'] = test.why
            if test.notes:
                entry['log_excerpt'] = '\n'.join(test.notes)[-16384:].replace('\0', '')
            data['tests'].append(entry)
    return data


# --- are they what they must be? --------------------------------------------

# The schema of Jenkins' xUnit plugin (junit-10.xsd), as far as it goes here; what
# GitLab reads is a part of it. Element: (needed attributes, others, children).
JUNIT = {
    'testsuites': ((), ('name', 'time', 'tests', 'failures', 'errors'), ('testsuite',)),
    'testsuite': (('name', 'tests', 'failures', 'errors'),
                  ('time', 'skipped', 'timestamp', 'hostname', 'id', 'package', 'group', 'file', 'log', 'url'),
                  ('testsuite', 'properties', 'testcase', 'system-out', 'system-err')),
    'properties': ((), (), ('property',)),
    'property': (('name', 'value'), (), ()),
    'testcase': (('name',), ('time', 'classname', 'group'),
                 ('skipped', 'error', 'failure', 'system-out', 'system-err')),
    'failure': ((), ('type', 'message'), ()), 'error': ((), ('type', 'message'), ()),
    'skipped': ((), ('type', 'message'), ()),
    'system-out': ((), (), ()), 'system-err': ((), (), ()),
}


def check_junit(top):
    wrong = []
    if top.tag != 'testsuites':
        wrong.append(f'the root is {top.tag}, not testsuites')
    names = set()
    for element in top.iter():
        if element.tag not in JUNIT:
            wrong.append(f'no element of JUnit: {element.tag}')
            continue
        needed, others, children = JUNIT[element.tag]
        wrong += [f'{element.tag} without {key}' for key in needed if key not in element.attrib]
        wrong += [f'{element.tag} with {key}' for key in element.attrib if key not in needed + others]
        wrong += [f'{child.tag} in {element.tag}' for child in element if child.tag not in children]
        if element.tag in ('testsuites', 'testsuite') and not \
           re.fullmatch(r'(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?', element.get('time', '')):
            wrong.append(f'time of {element.tag}: {element.get("time")}')
        if element.tag == 'testsuite':
            cases = element.findall('testcase')
            for key, tag in (('failures', 'failure'), ('errors', 'error'), ('skipped', 'skipped')):
                if int(element.get(key, '-1')) != sum(case.find(tag) is not None for case in cases):
                    wrong.append(f'{element.get("name")}: {key}={element.get(key)}, that is not how many there are')
            if int(element.get('tests', '-1')) != len(cases):
                wrong.append(f'{element.get("name")}: tests={element.get("tests")} of {len(cases)}')
        if element.tag == 'testcase':
            # GitLab takes the second for the first.
            key = (element.get('classname'), element.get('name'))
            wrong += [f'twice: {key}'] if key in names else []
            names.add(key)
    return wrong


# Version 5.3 of KCIDB's schema (kcidb_io/schema/v05_03.py): what is required, and the
# form of what is used here; it allows no other properties.
ORIGIN, ID, TEXT = '[a-z0-9_]+', '[a-z0-9_]+:.*', '[^\\0]*'
TIME = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)'
STATUS = '|'.join(('FAIL', 'ERROR', 'MISS', 'PASS', 'DONE', 'SKIP'))
KCIDB = {
    'checkouts': (('id', 'origin'),
                  {'id': ID, 'origin': ORIGIN, 'comment': TEXT, 'valid': bool, 'misc': dict}),
    'builds': (('checkout_id', 'id', 'origin'),
               {'checkout_id': ID, 'id': ID, 'origin': ORIGIN, 'comment': TEXT, 'start_time': TIME,
                'duration': float, 'architecture': '[a-z0-9_]*', 'command': TEXT, 'config_name': TEXT,
                'status': STATUS, 'misc': dict}),
    'tests': (('build_id', 'id', 'origin'),
              {'build_id': ID, 'id': ID, 'origin': ORIGIN, 'environment': dict,
               'path': r'([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?', 'comment': TEXT, 'log_excerpt': TEXT,
               'status': STATUS, 'start_time': TIME, 'duration': float, 'misc': dict}),
}


def check_kcidb(data):
    if not isinstance(data, dict) or data.get('version') != {'major': 5, 'minor': 3}:
        return ['the version is not 5.3']
    wrong = [f'no property of KCIDB: {key}' for key in data if key not in KCIDB and key != 'version']
    ids = {}
    for kind, (required, forms) in KCIDB.items():
        ids[kind] = set()
        for entry in data.get(kind, []):
            wrong += [f'{kind}: without {key}' for key in required if key not in entry]
            for key, value in entry.items():
                form = forms.get(key)
                if form is None:
                    wrong.append(f'{kind}: no property {key}')
                elif isinstance(form, str):
                    if not isinstance(value, str) or not re.fullmatch(form, value, re.DOTALL):
                        wrong.append(f'{kind}: {key} is {value!r}')
                elif not isinstance(value, (int, float) if form is float else form) or \
                        form is float and isinstance(value, bool):
                    wrong.append(f'{kind}: {key} is {value!r}')
            if len(entry.get('log_excerpt', '')) > 16384:
                wrong.append(f'{kind}: log_excerpt is too long')
            wrong += [f'{kind}: environment with {key}' for key in entry.get('environment', {})
                      if key not in ('compatible', 'comment', 'misc')]
            if entry.get('id') in ids[kind]:
                wrong.append(f'{kind}: twice: {entry["id"]}')
            ids[kind].add(entry.get('id'))
    wrong += [f'builds: no checkout {b.get("checkout_id")}' for b in data.get('builds', [])
              if b.get('checkout_id') not in ids['checkouts']]
    wrong += [f'tests: no build {t.get("build_id")}' for t in data.get('tests', [])
              if t.get('build_id') not in ids['builds']]
    return wrong


def check(files):
    status = 0
    for name in files:
        try:
            if name.endswith('.xml'):
                wrong = check_junit(ET.parse(name).getroot())
            else:
                with open(name, encoding='utf-8') as f:
                    wrong = check_kcidb(json.load(f))
        except (OSError, ValueError, ET.ParseError) as error:
            wrong = [str(error)]
        for line in wrong:
            print(f'{name}: {line}')
            status = 1
    return status


def main(args):
    what, args = (args or [''])[0], args[1:]
    if what == 'matrix' and args:
        matrix(args)
        return 0
    if what == 'keep' and 5 <= len(args) <= 7:
        keep(*args)
        return 0
    if what == 'check' and args:
        return check(args)
    if what == 'state' and not args:
        print(state())
        return 0
    if what == 'merge':
        build = os.environ.get('BUILD') or os.path.join(TOP, 'build')
        origin = os.environ.get('ORIGIN') or 'kvm_vcpu_reset'
        if not re.fullmatch(ORIGIN, origin):
            die(f'ORIGIN={origin} is not of a-z, 0-9 and _', 'the name that KCIDB knows the submitter by')
        wanted = os.environ.get('MATRIX')
        if wanted:
            try:
                with open(wanted, encoding='utf-8') as f:
                    wanted = json.load(f)['include']
            except (OSError, ValueError, KeyError, TypeError) as error:
                die(f'MATRIX={wanted} is not what "make lanes" prints: {error}', f'make -s lanes >{wanted}')
        else:
            done = subprocess.run((os.path.join(HERE, 'full.sh'), 'list'), stdout=subprocess.PIPE, check=False)
            if done.returncode:
                return done.returncode
            wanted = json.loads(done.stdout)['include']
        return merge(args or [os.path.join(build, 'lanes')], os.path.join(build, 'merged'), wanted, origin)
    words = ' '.join([what] + args)
    die(f'results.py knows matrix, keep, merge, check and state, not "{words}"', 'make help')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
