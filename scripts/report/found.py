# SPDX-License-Identifier: GPL-2.0-only
"""What the last runs have left in build/. A result is never guessed: what is not there
is None, or not in the list."""

import csv
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import namedtuple

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, 'scripts', 'lanes'))
import results  # noqa: E402  (beside the lanes)

BUILD = os.environ.get('BUILD') or os.path.join(TOP, 'build')
PATCHES = os.environ.get('PATCHES') or os.path.join(TOP, 'patches', 'v7.3')
ARCHES = results.ARCHES

# result: pass, fail, skip; state, date: of the run; why: what the line says
Test = namedtuple('Test', 'result seconds state date why')
# One machine and kernel that tests have run on
Host = namedtuple('Host', 'arch profile variant on')
Lane = namedtuple('Lane', 'name status seconds state date summary command machine passed failed skipped part')


def read(*path):
    """The text of a file below build/, or None"""
    try:
        with open(os.path.join(BUILD, *path), encoding='utf-8', errors='replace') as f:
            return f.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def run_of(*path):
    """{key: value} of a .run, see record in common.sh; None if there is none"""
    found = read(*path)
    return found and dict(line.partition(': ')[::2] for line in found.splitlines() if ': ' in line)


def files(directory, ending):
    where = os.path.join(BUILD, directory)
    names = sorted(os.listdir(where)) if os.path.isdir(where) else []
    return [name[:-len(ending)] for name in names if name.endswith(ending)]


# --- tests ------------------------------------------------------------------

def host_of(name):
    """That of build/results/NAME.*; None for one of a topic"""
    match = re.fullmatch(r'(riscv|arm64|x86)(-debug|-rt)?(-clang)?-([a-z]+)-(base|series)', name)
    return match and Host(match[1], ' '.join(filter(None, ((match[2] or '')[1:], (match[3] or '')[1:]))),
                          match[4], match[5])


def tests():
    """{Host: {name: Test}}, the last of each, of this machine or of another"""
    found = {}
    for name in files('results', '.tests'):
        if host_of(name):
            for line in read('results', name + '.tests').splitlines():
                test, result, seconds, state, date, why = line.split('|', 5)
                found.setdefault(host_of(name), {})[test] = Test(result, seconds, state, date, why)
    for info, _, below in lanes_here():
        kind = info['lane'].split('-')[0]
        if kind not in ('series', 'base', 'variant', 'debug', 'rt', 'clang', 'vmx'):
            continue
        for test in below:
            arch, variant, name = (test.name.split('.', 2) + ['', ''])[:3]
            host = Host(arch, kind if kind in ('debug', 'rt', 'clang') else '', variant,
                        'base' if kind == 'base' else 'series')
            old = found.setdefault(host, {}).get(name)
            if name and (not old or old.date < date_of(info)):
                found[host][name] = Test('fail' if test.status == 'error' else test.status, test.seconds,
                                         info['state'], date_of(info), test.why)
    return found


def hosts():
    """{Host: what .run says}, for versions"""
    return {host_of(name): run_of('results', name + '.run')
            for name in files('results', '.run') if host_of(name)}


def sayings(directory, test):
    """{Host: lines} that a test has printed of itself"""
    found = {}
    for name in files(directory, '.says'):
        lines = [line.split(': # ', 1)[1] for line in read(directory, name + '.says').splitlines()
                 if line.startswith(f'kvm:{test}: # ')]
        if host_of(name) and lines:
            found[host_of(name)] = lines
    return found


# --- lanes ------------------------------------------------------------------

def date_of(info):
    return info['start'].replace('+00:00', 'Z') if info.get('start') else ''


def lanes_here():
    """[(lane.json, Test, [Test])] of build/lanes"""
    where = os.path.join(BUILD, 'lanes')
    found = []
    for path, _, names in sorted(os.walk(where)):
        if 'lane.json' in names:
            found.append(results.load(path))
    return found


def lanes():
    """{name: Lane} of build/lanes, and what merge-results has of other machines"""
    found = {}
    for info, lane, below in lanes_here():
        count = [sum(t.status in kinds for t in below) for kinds in (('pass',), ('fail', 'error'), ('skip',))]
        found[info['name']] = Lane(info['name'], lane.status, info['seconds'], info['state'], date_of(info),
                                   info.get('summary', ''), info['command'], info['machine'], *count,
                                   ' '.join(f'{key}={value}' for key, value in info['part'].items()))
    merged = os.path.join(BUILD, 'merged', 'junit.xml')
    for suite in ET.parse(merged).getroot() if os.path.exists(merged) else ():
        name = suite.get('name')
        of = {p.get('name'): p.get('value') for p in suite.iter('property')}
        date = (suite.get('timestamp') or '').replace('+00:00', 'Z')
        if name in found and found[name].date >= date:
            continue
        bad, skip = (int(suite.get('failures')) + int(suite.get('errors')), int(suite.get('skipped') or 0))
        good = int(suite.get('tests')) - bad - skip
        why = next((e.get('message') for e in suite.iter() if e.tag in ('failure', 'error')), '')
        found[name] = Lane(name, 'fail' if bad else 'pass' if good else 'skip', float(suite.get('time') or 0),
                           of.get('state'), date, why, of.get('command'), of.get('machine'), good, bad, skip, '')
    return found


def jobs():
    """What "make lanes" prints"""
    done = subprocess.run((os.path.join(TOP, 'scripts', 'lanes', 'full.sh'), 'list'), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, env={**os.environ, 'LANES': ''})
    return json.loads(done.stdout)['include'] if done.returncode == 0 else []


# --- topics -----------------------------------------------------------------

def topics():
    """[name] in the order of patches/v7.3/series"""
    with open(os.path.join(PATCHES, 'series'), encoding='utf-8') as f:
        return [line.split()[0] for line in f if line.strip() and not line.startswith('#')]


def matrix():
    """{topic: {column: cell}} of build/topics.txt, and its columns"""
    lines = (read('topics.txt') or '').splitlines()
    heads = lines[0].split()[1:] if lines else []
    return {line.split()[0]: dict(zip(heads, line.split()[1:])) for line in lines[1:] if line.strip()}, heads


def subjects():
    """{subject: topic} of all patches"""
    found = {}
    for topic in topics():
        where = os.path.join(PATCHES, topic)
        for name in sorted(os.listdir(where)) if os.path.isdir(where) else ():
            if name.endswith('.patch'):
                with open(os.path.join(where, name), encoding='utf-8', errors='replace') as f:
                    match = re.search(r'^Subject: \[PATCH\] (.*(?:\n .*)*)', f.read(), re.MULTILINE)
                if match:
                    found[' '.join(match[1].split())] = topic
    return found


def stable():
    """{version: [(result, subject)]} and {version: [line]} of its tests, of build/stable.txt"""
    commits, runs, version = {}, {}, None
    for line in (read('stable.txt') or '').splitlines():
        if match := re.match(r'Linux ([0-9.]+):$|([0-9.]+): no package', line):
            version = match[1] or match[2]
            commits[version] = []
        elif re.match(r'  [0-9.]+ +(riscv|arm64|x86) ', line):
            runs.setdefault(line.split()[0], []).append(line.split(None, 1)[1])
        elif line.startswith('  ') and version:
            commits[version].append((line[2:30].strip(), line[31:].strip()))
    return commits, runs


# --- the others -------------------------------------------------------------

def compared(name):
    """[(arch, test, base, series, verdict)] of build/NAME.txt, as table.sh and qemu.sh write it"""
    return [tuple(line.split(None, 4)) for line in (read(name) or '').splitlines() if line.strip()]


def bench_tables():
    """[(title, heads, rows)] of build/bench/bench.txt; the last three columns end with their heads"""
    found, cuts = [], ()
    for line in (read('bench', 'bench.txt') or '').splitlines():
        if line and not line.startswith(' '):
            found.append((line, [], []))
        elif line.strip() and found:
            head = not found[-1][1]
            if head:
                ends = [41] + [line.index(word) + len(word) for word in ('base', 'series', 'more')]
                cuts = [(2, 14), (15, 33), (34, 41), *zip(ends, ends[1:])]
            row = [line[a:b].strip() for a, b in cuts]
            if head:
                found[-1][1].extend(row)
            else:
                found[-1][2].append(row)
    return found


def guarded():
    """[(arch, row, recorded, now)] of the hot paths that make check has counted"""
    found = []
    with open(os.path.join(TOP, 'scripts', 'bench', 'expected'), encoding='utf-8') as f:
        want = {tuple(line.split()[:2]): line.split()[2] for line in f if not line.startswith('#')}
    for arch in ARCHES:
        for line in (read('bench', arch + '.now') or '').splitlines():
            row, now = line.split()
            found.append((arch, row, want.get((arch, row)), int(now)))
    return found


def bench_csv():
    found = read('bench', 'bench.csv')
    return list(csv.reader(found.splitlines())) if found else []
