#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""One page of what the last runs have found: build/report.html ("make report").

It runs nothing. found.py reads what the lanes have left in build/, page.py makes HTML
of it, page.html and page.css are its frame. The page needs no other file and no
script. What was not run is named with the command that runs it; what was run on
another state of this repository is marked.
"""

import datetime
import os
import re
import sys

import found
from found import results
from page import Html, cell, details, fill, inline_svg, items, numbers, table, tag, text

NOW = results.state()
WORDS = {'pass': 'pass', 'fail': 'FAIL', 'error': 'FAIL', 'skip': 'skip'}


class Sums:
    """What the top of the page says"""
    failed, old = [], set()


def many(number, word):
    return f'{number} {word}{"" if number == 1 else "s"}'


def code(command):
    return tag('code', command)


def not_run(what, command):
    return tag('p', f'{what} not run: ', code(command), class_='none')


def is_old(state):
    return state != NOW


def state_name(state):
    if not state:
        return 'an unknown commit'
    sha, now = state[:40], NOW[:40]
    edits = ' with edits' if len(state) > 40 else ''
    if sha == now:
        return (f'{sha[:12]}{edits}' if state == NOW else
                f'{sha[:12]}{edits or " without the edits"}, not what is here now')
    count = results.git('rev-list', '--count', f'{sha}..{now}').strip()
    if count and not results.git('rev-list', '-n', '1', f'{now}..{sha}').strip():
        return f'{sha[:12]}{edits}, {many(int(count), "commit")} before this one'
    return f'{sha[:12]}{edits}, which is not before this one'


def when(date):
    return f'{date[:16].replace("T", " ")} UTC' if date else 'at an unknown time'


def origin(run, what):
    """When, and on which commit; marked if it is not this one"""
    run = run or {}
    words = [f'Run {when(run.get("began"))} on ']
    if is_old(run.get('state')):
        Sums.old.add(what)
        words += [tag('strong', state_name(run.get('state')))]
    else:
        words += ['this commit']
    words += [', ended early or still running'] if run and 'ended' not in run else []
    parts = [f'{key}={run[key]}' for key in ('arch', 'tests', 'skip', 'sides', 'rows', 'only', 'kinds') if run.get(key)]
    words += [f'; {", ".join(parts)}'] if parts else []
    return tag('p', *words, '.', class_='note old' if is_old(run.get('state')) else 'note')


def verdict(status, seconds='', why=''):
    """PASS or the like, the time, and why"""
    small = [Html(' ') + tag('small', seconds)] if seconds else []
    return text(WORDS.get(status, status), *map(Html, small), tag('small', why, class_='why') if why else '')


# --- the sections -----------------------------------------------------------

def of_topics():
    """Topics by what is asked of each, and by stable kernel"""
    known, heads = found.matrix()
    commits, runs = found.stable()
    topic_of = found.subjects()
    rows = []
    for topic in found.topics():
        line = known.get(topic)
        cells = []
        for head in heads:
            value = (line or {}).get(head, 'not run' if not line else '')
            kind = {'yes': 'pass', 'NO': 'fail', 'not run': 'none', '-': 'none'}.get(value)
            if kind == 'fail':
                Sums.failed.append(f'topic {topic}: {head}')
            cells.append(cell(value, kind or 'n'))
        for version, lines in commits.items():
            mine = [result for result, subject in lines if topic_of.get(subject) == topic]
            bad = [result for result in mine if result.startswith(('CONFLICT', 'conflicts'))]
            good = [result for result in mine if result.startswith(('applies', 'there already'))]
            if any(result.startswith('CONFLICT') for result in bad):
                Sums.failed.append(f'stable {version}: {topic}')
            cells.append(cell(f'{len(good)} of {len(mine)}' + (f', {len(bad)} conflict' if bad else '') if mine else '-',
                              'fail' if any(r.startswith('CONFLICT') for r in bad) else
                              'skip' if bad else 'pass' if mine else 'none'))
        rows.append([topic, *cells])
    out = []
    if heads:
        out.append(origin(found.run_of('topics.run'), 'topics'))
    left = [topic for topic in found.topics() if topic not in known]
    if left:
        out.append(not_run('All topics were' if len(left) == len(rows) else 'One topic was' if len(left) == 1 else
                           f'{len(left)} topics were',
                           'make topics' + (f' TOPIC={left[0]}' if len(left) == 1 else '')))
    if commits:
        out += [tag('p', 'A column of a stable kernel has how many of the patches marked for stable '
                    'apply there; a patch whose bug is not there does not.'),
                origin(found.run_of('stable.run'), 'stable')]
    else:
        out.append(not_run('Stable kernels were', 'make stable'))
    if heads or commits:
        out.append(table(f'{len(rows)} topics', ['topic', *heads, *(f'on {version}' for version in commits)], rows, right=(1,) if heads else ()))
    for version, lines in runs.items():
        bad = [line for line in lines if re.search('before: ok +after: not ok|does not build', line)]
        Sums.failed.extend(f'stable {version}: {line}' for line in bad)
        cells = [re.match(r'(\S+) +(\S+) +before: (.*?) +after: (.*)', line) for line in lines]
        out.append(details(f'Reproducers on Linux {version}: {len(lines)}, {len(bad)} wrong', table(
            f'Linux {version}, before and after what applies', ['test', 'architecture', 'before', 'after'],
            [[m[2], m[1], m[3], cell(m[4], 'pass' if m[4] == 'ok' else None)] for m in cells if m]),
            items([line for line, m in zip(lines, cells) if not m])))
    return out


def of_lanes():
    known, jobs = found.lanes(), found.jobs()
    rows, seen = [], set()
    for name, lane in known.items():
        if lane.status in ('fail', 'error'):
            Sums.failed.append(f'lane {name}')
        if is_old(lane.state):
            Sums.old.add('lanes')
        rows.append([name, cell(verdict(lane.status), 'fail' if lane.status == 'error' else lane.status),
                     *numbers(*(lane[8:11] if any(lane[8:11]) else ['-'] * 3), f'{lane.seconds:.0f} s'),
                     cell(when(lane.date)), cell(state_name(lane.state), old=True) if is_old(lane.state) else 'this commit',
                     cell(f'{lane.part} {lane.summary}'.strip(), 'long')])
        seen.add(name)
        # One machine may have had all architectures of a lane, named after them.
        seen |= {f'{name.split("-")[0]}-{arch}' for arch in found.ARCHES if arch in name.split('-')[1:]}
    left = [job for job in jobs if job['name'] not in seen]
    out = []
    if rows:
        out.append(table(f'{many(len(rows), "lane")} of make check-full',
                         ['lane', 'result', 'passed', 'failed', 'skipped', 'time', 'run', 'on', 'it says'],
                         rows, right=(2, 3, 4, 5)))
    if not rows:
        out.append(not_run('All lanes were', 'make check-full'))
    elif left:
        out.append(not_run('One lane was' if len(left) == 1 else f'{len(left)} lanes were', 'make check-full'))
    if left:
        show = table(f'{len(left)} lanes that were not run', ['lane', 'command', 'minutes, with nothing compiled'],
                     [[job['name'], code(job['command']), cell(job['minutes'], 'n')] for job in left], right=(2,))
        out.append(details('The command of each', show))
    return out


def of_tests():
    out, known = [], found.tests()
    for arch in found.ARCHES:
        mine = sorted((host for host in known if host.arch == arch),
                      key=lambda host: (host.on == 'base', host.profile, host.variant not in ('aia', 'vhe', 'default'), host.variant == 'vmx', host.variant))
        if not mine:
            out += [tag('h3', arch), not_run('Its tests were', f'make check ARCH={arch}')]
            continue
        names = list(dict.fromkeys(name for host in mine for name in known[host]))
        rows, marked = [], set()
        for name in names:
            cells = []
            for host in mine:
                test = known[host].get(name)
                if not test:
                    cells.append(cell('-', 'none'))
                    continue
                if test.result == 'fail':
                    Sums.failed.append(f'{arch} {" ".join(filter(None, host[1:]))}: {name}')
                if is_old(test.state):
                    marked.add(test.state)
                    Sums.old.add('tests')
                word = 'fails, as it must' if 'as it must' in test.why else WORDS[test.result]
                seconds = f'{float(test.seconds):.1f} s' if test.seconds else ''
                why = test.why if test.result in ('fail', 'skip') else ''
                cells.append(cell(verdict(word, seconds, re.sub('^SKIP ?', '', why)), test.result, is_old(test.state)))
            rows.append([name, *cells])
        heads = [' '.join(filter(None, (host.profile, host.variant, 'on the base' if host.on == 'base' else '')))
                 for host in mine]
        bad = sum(t.result == 'fail' for host in mine for t in known[host].values())
        all_of = sum(len(known[host]) for host in mine)
        out += [tag('h3', arch),
                table(text(f'{arch}: {many(all_of, "result")} of {many(len(names), "test")}, {bad} failed'), ['test', *heads], rows)]
        if marked:
            out.append(tag('p', '† run on ', '; '.join(sorted(state_name(state) for state in marked)), '.',
                           class_='note old'))
        for on, profile, command in (('base', '', 'make check ON=base'), ('series', 'debug', 'make check PROFILE=debug'),
                                     ('series', 'rt', 'make check PROFILE=rt')):
            if not any(host.on == on and host.profile == profile for host in mine):
                out.append(not_run(f'Of {arch}, {profile or "the base"} was', f'{command} ARCH={arch}'))
        if arch == 'x86' and not any(host.variant == 'vmx' for host in mine):
            out.append(not_run('kvm_intel was', 'make check PROFILE=vmx'))
    return out


def of_base():
    out = []
    for name, command, what in (('table', 'make table', 'KVM selftests'),
                                ('check-qemu', 'make check-qemu', 'guests of an unmodified QEMU')):
        rows = found.compared(name + '.txt')
        if not rows:
            out.append(not_run(f'{what[0].upper()}{what[1:]} on both were', command))
            continue
        out += [tag('h3', what[0].upper() + what[1:]), origin(found.run_of(name + '.run'), name)]
        wrong = [row for row in rows if row[4].startswith('WRONG')]
        Sums.failed.extend(f'{name}: {row[0]} {row[1]}' for row in wrong)

        def line(row):
            kind = {'pass': 'pass', 'fail': 'fail', 'splat': 'fail', 'none': 'fail', 'skip': 'skip'}
            bad = row[4].startswith('WRONG')
            # A failure that is known is none of ours.
            return [row[1], row[0], row[2], cell(row[3], kind.get(row[3]) if bad or row[3] != 'fail' else 'skip'),
                    cell(row[4], 'fail long' if bad else 'long')]

        heads = ['test', 'architecture', 'base', 'series', 'verdict']
        differ = [row for row in rows if row[2] != row[3] or row in wrong]
        both = sum(row[2] == row[3] == 'pass' for row in rows)
        out.append(tag('p', f'{len(rows)} rows: {both} pass on both, {len(differ)} differ, {len(wrong)} are wrong.'))
        if differ:
            out.append(table(f'{what[0].upper()}{what[1:]}: what differs', heads, map(line, differ)))
        out.append(details(f'All {len(rows)} rows', table(f'{what[0].upper()}{what[1:]}: all', heads, map(line, rows))))
    return out


def host_name(host):
    return ' '.join(filter(None, host))


def of_oracle():
    """The comparison of a vCPU that was reset with a new one, its twin"""
    said, rows, fields = found.sayings('results', 'vcpu_reset_test'), [], {}
    known = found.tests()
    for host, lines in said.items():
        all_of = [re.match('([0-9]+) fields of a vCPU compared, ([0-9]+) comparisons in ([0-9]+) cases', line)
                  for line in lines]
        all_of = [match for match in all_of if match]
        dirty = [match[1] for match in (re.match('([0-9]+) of them could be dirtied', line) for line in lines) if match]
        test = known.get(host, {}).get('vcpu_reset_test')
        for i, match in enumerate(all_of):
            rows.append([host_name(host), *numbers(*match.groups(), dirty[i] if i < len(dirty) else ''),
                         cell(verdict(test.result), test.result, is_old(test.state)) if test else cell('-', 'none')])
        left = [line.split(None, 1)[1] for line in lines if re.match(r'     *[0-9]+ \S', line)]
        allowed = [line.strip() for line in lines if re.match(r'   \S', line)]
        if left or allowed:
            lines = tuple(dict.fromkeys(' '.join(line.split()) for line in left + allowed))
            fields.setdefault(lines, []).append(host_name(host))
    if not rows:
        return [not_run('The comparison with a new vCPU was', 'make check TESTS=vcpu_reset_test')]
    return [tag('p', 'vcpu_reset_test compares a vCPU that was reset with one that is new: its twin in another VM. '
                'A field counts if the test has seen it differ before the reset.'),
            table('Comparison with a new vCPU', ['host', 'fields', 'comparisons', 'cases', 'could be dirtied', 'result'],
                  rows, right=(1, 2, 3, 4)),
            *(details(f'Fields that no test can dirty, and differences that may be: {"; ".join(hosts)}', items(lines))
              for lines, hosts in fields.items())]


def of_coverage():
    lines = (found.read('coverage.txt') or '').splitlines()
    if not lines:
        return [not_run('Line coverage was', 'make coverage')]
    rows, notes = [], []
    for line in lines[1:]:
        words = line.split()
        if line.startswith('  ') or words[0] == 'a' or line.startswith('coverage:'):
            notes.append(line.strip())
        elif words[1:3] == ['not', 'run']:
            rows.append([words[0], cell('not run', 'none'), *[''] * 4])
        elif len(words) >= 5:
            extra = ' '.join(words[5:])
            rows.append([words[0], words[1], *numbers(*words[2:5]), extra])
    bad = [line for line in notes if 'not reached:' in line or 'and has a reason' in line or line.startswith('a reason for')]
    Sums.failed.extend(f'coverage: {line}' for line in bad)
    return [origin(found.run_of('coverage.run'), 'coverage'),
            table('Lines that the series adds or changes', ['architecture', 'host', 'lines', 'reached', 'not', ''],
                  rows, right=(2, 3, 4)), items(notes)]


def of_mutants():
    lines = (found.read('mutants.txt') or '').splitlines()
    rows, left = [], []
    for line in lines:
        match = re.match(r'(\w+): (\d+) mutants, (\d+) killed, (\d+) explained, (\d+) survived and not explained'
                         r'(?:, (\d+) not run)?', line)
        if match:
            arch, total, killed, explained, alive, rest = match.groups()
            if int(alive):
                Sums.failed.append(f'mutants: {alive} alive on {arch}')
            rows.append([arch, *numbers(total, killed, explained), cell(alive, 'fail n' if int(alive) else 'n'),
                         cell(rest or 0, 'none n' if int(rest or 0) else 'n')])
        elif line.strip():
            left.append(line.strip())
    if not rows:
        return [not_run('Mutants were', 'make mutants')]
    return [origin(found.run_of('mutants.run'), 'mutants'),
            tag('p', 'Each is the kernel without one statement, condition or lock of the reset path. A test has to '
                'fail, or scripts/lanes/mutants/explained says why none can.'),
            table('Mutants', ['architecture', 'tried', 'killed', 'explained', 'alive', 'not run'], rows,
                  right=(1, 2, 3, 4, 5)),
            details(f'{len(left)} that are not killed', items(left)) if left else Html()]


def of_storms():
    out, rows, known = [], [], found.tests()
    run = found.run_of('stress', 'stress.run')
    for directory, what in (('stress', 'make stress'), ('results', 'make check')):
        states = {found.host_of(name): dict((row.split('|')[0], row.split('|'))
                                            for row in found.read(directory, name + '.tests').splitlines())
                  for name in found.files(directory, '.tests') if found.host_of(name)}
        for host, lines in found.sayings(directory, 'vcpu_reset_storm').items():
            matches = [re.match(r'(\d+) VMs, seeds (\d+) to (\d+): (\d+) resets by userspace, (\d+) starts', line)
                       for line in lines]
            matches = [match for match in matches if match]
            twins = sum(int(n) for line in lines for n in re.findall(r'(\d+) compared with a new vCPU', line))
            row = states.get(host, {}).get('vcpu_reset_storm')
            if matches and row:
                if row[1] == 'fail' and directory == 'stress':
                    Sums.failed.append(f'{what}: {host_name(host)}')
                rows.append([host_name(host), what, *numbers(
                    sum(int(m[4]) for m in matches), sum(int(m[5]) for m in matches), twins),
                    f'{matches[0][2]} to {matches[-1][3]}', cell(f'{float(row[2]):.0f} s' if row[2] else '', 'n'),
                    cell(verdict(row[1], '', row[5] if row[1] == 'fail' else ''), row[1], is_old(row[3]))])
    if run:
        out.append(tag('p', f'make stress: {run.get("resets")} resets on each, from seed {run.get("seed")} on.'))
        out.append(origin(run, 'storms'))
    else:
        out.append(not_run('A million resets on each architecture were', 'make stress'))
    if rows:
        out.append(table('Storms of resets', ['host', 'by', 'resets', 'starts', 'compared with a new vCPU', 'seeds', 'time',
                                              'result'], rows, right=(2, 3, 4, 6)))
    elif not known:
        out.append(not_run('The short one was', 'make check TESTS=vcpu_reset_storm'))
    return out


def of_bench():
    out, rows = [], []
    slack = {'hart_start': 20, 'cpu_on': 20, 'init_sipi': 20}
    runs = {arch: found.run_of('bench', arch + '.run') or {} for arch in found.ARCHES}
    for arch, row, want, now in found.guarded():
        more = now - int(want) if want else 0
        old = is_old(runs[arch].get('state'))
        if old:
            Sums.old.add('hot paths')
        rows.append([f'{arch} {row}', *numbers(want or '-'), cell(now, 'n', old),
                     cell(f'{more:+d}' if more else '0' if want else '-', 'skip n' if more > slack.get(row, 1) else 'n')])
    if rows:
        out += [table('Hot paths that make check counts, instructions', ['path', 'recorded', 'now', 'more'], rows,
                      right=(1, 2, 3)),
                items([f'{arch}: on {state_name(run.get("state"))}, {when(run.get("began"))}, {run.get("toolchain", "")}'
                       for arch, run in runs.items() if any(row[0].startswith(arch) for row in rows)])]
    else:
        out.append(not_run('Hot paths were', 'make check'))
    tables = found.bench_tables()
    if not tables:
        return out + [not_run('The benchmarks were', 'make bench')]
    out.append(origin(found.run_of('bench', 'bench.run'), 'bench'))
    for title, heads, lines in tables:
        if not lines:
            continue
        # Without an x, that column is empty.
        use = [i for i in range(6) if any(line[i] for line in lines)]
        show = table(title, [['machine', 'what', *heads[2:]][i] for i in use],
                     [[line[0], *(cell(line[i], 'n' if i > 1 else None) for i in use[1:])] for line in lines],
                     right=[n for n, i in enumerate(use) if i > 1])
        # These are what the plots show.
        out.append(details(title, show) if 2 in use else show)
    out.append(tag('p', 'A "~" marks what was not the same in both boots.'))
    plots = found.files('bench', '.svg')
    if plots:
        out.append(tag('div', *(tag('figure', inline_svg(os.path.join(found.BUILD, 'bench', name + '.svg'), name),
                                    tag('figcaption', name)) for name in plots), class_='plots'))
    else:
        out.append(not_run('There are no plots, as gnuplot was missing; they were', 'make bench'))
    values = found.bench_csv()
    if values:
        out.append(details(f'All {len(values) - 1} values as CSV',
                           tag('pre', '\n'.join(','.join(line) for line in values), tabindex='0')))
    return out


def of_versions():
    groups = {}
    for host, run in found.hosts().items():
        key = tuple(run.get(word, 'unknown') for word in ('kernel', 'compiler', 'emulator'))
        groups.setdefault((host.arch, *key), []).append(host_name(host[1:]))
    machines = sorted({lane.machine for lane in found.lanes().values() if lane.machine})
    out = [table('What the tests have run on', ['architecture', 'kernel', 'compiler', 'emulator', 'hosts'],
                 [[*key, cell(', '.join(hosts), 'long')] for key, hosts in groups.items()])] if groups else \
        [not_run('No tests were', 'make check')]
    return out + ([tag('p', f'Machines of the lanes: {"; ".join(machines)}.')] if machines else [])


SECTIONS = (
    ('topics', 'Topics', of_topics), ('lanes', 'Lanes', of_lanes), ('tests', 'Tests', of_tests),
    ('base', 'Base against series', of_base), ('oracle', 'Comparison with a new vCPU', of_oracle),
    ('coverage', 'Line coverage', of_coverage), ('mutants', 'Mutants', of_mutants), ('storms', 'Storms', of_storms),
    ('bench', 'Benchmarks', of_bench), ('versions', 'Versions', of_versions),
)


def head():
    sha = NOW[:40]
    subject = results.git('log', '-1', '--format=%s, %cs', sha).strip()
    edits = ' with edits that are not committed' if len(NOW) > 40 else ''
    failed = list(dict.fromkeys(Sums.failed))
    out = [tag('p', 'Commit ', code(sha[:12]), f'{edits}: {subject}. On Linux {results.version()}.'),
           tag('p', 'One result is not as it must be:' if len(failed) == 1 else
               f'{len(failed)} results are not as they must be:' if failed else
               'Nothing that was run has failed.', class_='note fail' if failed else 'note pass'),
           items([tag('span', line, class_='fail') for line in failed[:20]] +
                 ([f'and {len(failed) - 20} more'] if len(failed) > 20 else []))]
    if Sums.old:
        out.append(tag('p', f'Of another commit, or of other edits, and marked there: {", ".join(sorted(Sums.old))}.',
                       class_='note old'))
    return out


def main(args):
    if len(args) > 1:
        results.die(f'report.py takes the name of a file, not: {" ".join(args)}', 'make report')
    out = args[0] if args else os.path.join(found.BUILD, 'report.html')
    body = [tag('section', tag('h2', title, id=name), *section()) for name, title, section in SECTIONS]
    date = datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M UTC')
    page = fill(title='KVM vCPU reset: what the last runs have found', head='\n'.join(head()), date=date,
                nav='\n'.join(tag('li', tag('a', title, href=f'#{name}')) for name, title, _ in SECTIONS),
                main='\n'.join(body))
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(out + '.new', 'w', encoding='utf-8') as f:
        f.write(page)
    os.replace(out + '.new', out)
    print(out)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
