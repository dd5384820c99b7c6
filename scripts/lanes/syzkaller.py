#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Are the descriptions below syzkaller/ what the composed uapi headers say?

    syzkaller.py check [FILE...]	they are, and so are their .const files
    syzkaller.py const [FILE...]	write the .const files (else syz-extract does)

Debian has no syzkaller. This reads as much of its language as they use, and has
each architecture's compiler say, of the headers in TREE:

  - each constant exists, and .const has its value;
  - a struct has the size of the C type that the comment above it names, and its
    fields are in this order at these offsets with these sizes; one that is called
    otherwise in C is an error;
  - the number of an ioctl has the size of its argument;
  - nothing is used that is not described, or described and not used.

Resources and kvm_run_ptr come from sys/linux/dev_kvm.txt of syzkaller.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get('BUILD') or os.path.join(TOP, 'build')
TREE = os.environ.get('TREE') or os.path.join(BUILD, 'linux')

# syzkaller's name: the kernel's directory, the compiler, whose machine it is
ARCHES = {'amd64': ('x86', 'x86_64-linux-gnu-', 'x86_64'), 'arm64': ('arm64', 'aarch64-linux-gnu-', 'aarch64'),
          'riscv64': ('riscv', 'riscv64-linux-gnu-', 'riscv64')}
SYSCALLS = {'amd64': {'ioctl': 16}, 'arm64': {'ioctl': 29}, 'riscv64': {'ioctl': 29}}
# Of dev_kvm.txt, and what is built in
RESOURCES = {'fd_kvm': 4, 'fd_kvmvm': 4, 'fd_kvmcpu': 4, 'fd_kvmdev': 4, 'kvm_run_ptr': 8}
INTS = {'int8': 1, 'int16': 2, 'int32': 4, 'int64': 8, 'intptr': 8, 'bool8': 1, 'bool16': 2, 'bool32': 4, 'bool64': 8}
NAME = '[a-zA-Z_][a-zA-Z0-9_]*'


class Wrong(Exception):
    pass


class Type:
    """name[arguments]"""

    def __init__(self, text):
        text = text.strip()
        match = re.fullmatch(rf'({NAME}(?::\d+)?|-?\d\w*|\w+:\w+)(?:\[(.*)\])?', text)
        if not match:
            raise Wrong(f'no type: {text}')
        self.name, inner = match.groups()
        self.bits = None
        if re.fullmatch(r'int\d+:\d+', self.name):
            self.name, bits = self.name.split(':')
            self.bits = int(bits)
        self.args, depth, word = [], 0, ''
        for char in inner or '':
            depth += (char == '[') - (char == ']')
            if char == ',' and depth == 0:
                self.args.append(word.strip())
                word = ''
            else:
                word += char
        if word.strip():
            self.args.append(word.strip())


class File:
    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)
        self.arches, self.includes, self.defines = [], [], {}
        self.resources, self.calls, self.flags, self.structs = {}, [], {}, {}
        self.uses, self.consts = set(), set()
        comment, struct = '', None
        with open(path, encoding='utf-8') as f:
            for nr, line in enumerate(f, 1):
                line = line.rstrip('\n')
                try:
                    if line.startswith('#'):
                        comment = line[1:].strip()
                        continue
                    if struct:
                        if line in ('}', ']'):
                            struct = None
                        else:
                            self.field(struct, line)
                    elif line:
                        struct = self.line(line, comment)
                except Wrong as wrong:
                    raise Wrong(f'{self.name}:{nr}: {wrong}') from None
                comment = ''
        if not self.arches:
            raise Wrong(f'{self.name}: no meta arches')

    def line(self, line, comment):
        if match := re.fullmatch(r'meta arches\[(.*)\]', line):
            self.arches = [arch.strip('" ') for arch in match[1].split(',')]
            for arch in self.arches:
                if arch not in ARCHES:
                    raise Wrong(f'no compiler for {arch}')
        elif match := re.fullmatch(r'include <(.*)>', line):
            self.includes.append(match[1])
        elif match := re.fullmatch(rf'define ({NAME})\s+(.+)', line):
            self.defines[match[1]] = match[2]
        elif match := re.fullmatch(rf'resource ({NAME})\[({NAME})\]', line):
            self.resources[match[1]] = match[2]
        elif match := re.fullmatch(rf'({NAME}) = (.+)', line):
            if match[1] in self.flags:
                raise Wrong(f'{match[1]} twice')
            self.flags[match[1]] = [value.strip() for value in match[2].split(',')]
            for value in self.flags[match[1]]:
                self.number(value)
        elif match := re.fullmatch(rf'({NAME}(?:\$\w+)?)\((.*)\)(?: ({NAME}))?', line):
            args = Type(f'call[{match[2]}]').args
            self.calls.append((match[1], [tuple(arg.split(' ', 1)) for arg in args]))
            if match[3]:
                self.uses.add(match[3])
            for arg in args:
                if ' ' not in arg:
                    raise Wrong(f'no argument: {arg}')
                self.walk(Type(arg.split(' ', 1)[1]))
        elif match := re.fullmatch(rf'({NAME}) ([{{\[])', line):
            if match[1] in self.structs:
                raise Wrong(f'{match[1]} twice')
            self.structs[match[1]] = {'c': comment, 'union': match[2] == '[', 'fields': []}
            return match[1]
        else:
            raise Wrong(f'not understood: {line}')
        return None

    def field(self, struct, line):
        match = re.fullmatch(rf'\t({NAME})\t+(.*?)(?:\t+\((in|out|inout)\))?', line)
        if not match:
            raise Wrong(f'no field: {line}')
        kind = Type(match[2])
        self.structs[struct]['fields'].append((match[1], kind))
        self.walk(kind)

    def number(self, text):
        if re.fullmatch(r'-?(0x[0-9a-f]+|\d+)', text):
            return
        if not re.fullmatch(NAME, text):
            raise Wrong(f'no number: {text}')
        self.consts.add(text)

    def walk(self, kind):
        """what a type uses"""
        name, args = kind.name, kind.args
        if name in INTS:
            if args:
                for bound in args[0].split(':'):
                    self.number(bound)
        elif name == 'const':
            self.number(args[0])
        elif name == 'flags':
            self.uses.add(args[0])
        elif name in ('ptr', 'ptr64'):
            if args[0] not in ('in', 'out', 'inout'):
                raise Wrong(f'no direction: {args[0]}')
            self.walk(Type(args[1]))
        elif name == 'array':
            self.walk(Type(args[0]))
            if len(args) > 1:
                self.number(args[1])
        elif name not in ('len', 'void'):
            self.uses.add(name)
        if len(args) > 1 and name in ('const', 'flags'):
            self.walk(Type(args[1]))

    # What syzkaller makes of it: the offset of each field and the size

    def base(self, kind):
        """(size, bits) of what ends as a number, else None"""
        if kind.name in INTS:
            return INTS[kind.name], kind.bits
        if kind.name in ('const', 'flags', 'len') and len(kind.args) > 1:
            return self.base(Type(kind.args[-1]))
        return None

    def size(self, kind):
        if number := self.base(kind):
            return number[0]
        if kind.name in ('ptr', 'ptr64', 'const', 'flags', 'len'):
            return 8
        if kind.name == 'array':
            if len(kind.args) < 2:
                raise Wrong('an array of any length has no size')
            return self.size(Type(kind.args[0])) * int(kind.args[1], 0)
        if kind.name in self.structs:
            return self.layout(kind.name)[1]
        name = kind.name
        while name in self.resources:
            name = self.resources[name]
        if name in RESOURCES:
            return RESOURCES[name]
        raise Wrong(f'{kind.name} is not described')

    def align(self, kind):
        if kind.name == 'array':
            return self.align(Type(kind.args[0]))
        if kind.name in self.structs:
            return max(self.align(field) for _, field in self.structs[kind.name]['fields'])
        return self.size(kind)

    def layout(self, name):
        struct = self.structs[name]
        if struct['union']:
            return [], max(self.size(kind) for _, kind in struct['fields'])
        at, out, bit, unit = 0, [], 0, None
        for field, kind in struct['fields']:
            number = self.base(kind)
            if number and number[1]:
                # Of one unit as long as they fit.
                if unit != number[0] or bit + number[1] > 8 * unit:
                    at += -at % number[0]
                    at, bit, unit = at + number[0], 0, number[0]
                bit += number[1]
                out.append((field, None, None))
                continue
            unit = None
            at += -at % self.align(kind)
            out.append((field, at, self.size(kind)))
            at += self.size(kind)
        return out, at + -at % max(self.align(kind) for _, kind in struct['fields'])

    def check(self, others):
        """what can be said without a compiler"""
        for use in sorted(self.uses):
            if not any(use in place for place in (self.flags, self.structs, self.resources, RESOURCES, INTS)) \
               and use != 'fd':
                yield f'{use} is not described'
        for name in list(self.flags) + list(self.structs) + [r for r in self.resources]:
            if name not in self.uses:
                yield f'{name} is not used'
            if any(name in other.flags or name in other.structs for other in others):
                yield f'{name} is described in another file too'
        text = ' '.join(self.defines.values())
        for name in self.defines:
            if name not in self.consts and not re.search(rf'\b{name}\b', text):
                yield f'{name} is not used'
        for name, _ in self.calls:
            if [call for call, _ in self.calls].count(name) > 1 or \
               any(name == call for other in others for call, _ in other.calls):
                yield f'{name} twice'
        for name, struct in self.structs.items():
            if not struct['c']:
                yield f'{name}: the comment above it names no C type'
            # A gap could be a field that is left out.
            fields, size = self.layout(name)
            if not struct['union'] and None not in (length for _, _, length in fields) and \
               sum(length for _, _, length in fields) != size:
                yield f'{name} has a gap'

    def constants(self):
        """those of .const"""
        return sorted(self.consts | {f'__NR_{call.split("$")[0]}' for call, _ in self.calls
                                     if not call.startswith('syz_')})

    def source(self, arch):
        """C that compiles if all of it is true, and whose assembler has the values"""
        out = ['#include <stddef.h>', '#include <linux/ioctl.h>'] + \
            [f'#include <{include.removeprefix("uapi/")}>' for include in self.includes]
        out += [f'#define {name} {value}' for name, value in self.defines.items()]
        for name, struct in self.structs.items():
            fields, size = self.layout(name)
            c_type, say = struct['c'], f'{self.name}: {name}'
            out.append(f'_Static_assert(sizeof({c_type}) == {size}, "{say} has {size} bytes");')
            if struct['union'] or not re.match(r'struct |typeof', c_type):
                continue
            for field, at, length in fields:
                where = f'(({c_type} *)0)->{field}'
                out.append(f'_Static_assert(__builtin_offsetof({c_type}, {field}) == {at}, "{say}.{field} is at {at}");')
                out.append(f'_Static_assert(sizeof({where}) == {length}, "{say}.{field} has {length} bytes");')
        for call, args in self.calls:
            types = dict(args)
            if not call.startswith('ioctl$') or 'cmd' not in types:
                continue
            command, arg = Type(types['cmd']).args[0], Type(types.get('arg', 'const[0]'))
            size = self.size(Type(arg.args[1])) if arg.name == 'ptr' else 0
            out.append(f'_Static_assert(_IOC_SIZE({command}) == {size}, "{self.name}: {call} takes {size} bytes");')
        out.append('void values(void) {')
        for name in self.constants():
            value = name
            if name.startswith('__NR_'):
                value = SYSCALLS[arch][name[5:]]
            # Two halves: not every assembler constraint takes 64 bits.
            out.append(f'\tasm volatile("\\n.ascii \\"->{name} %0 %1\\"" : : '
                       f'"i" ((unsigned)((unsigned long long)({value}) >> 32)), "i" ((unsigned)({value})));')
        return '\n'.join(out + ['}']) + '\n'

    def values(self, arch):
        directory, cross, machine = ARCHES[arch]
        with tempfile.TemporaryDirectory() as tmp:
            # What an architecture has not got is that of asm-generic.
            os.mkdir(os.path.join(tmp, 'asm'))
            uapi = os.path.join(TREE, 'arch', directory, 'include/uapi')
            for header in glob.glob(os.path.join(TREE, 'include/uapi/asm-generic/*.h')):
                header = os.path.basename(header)
                if not os.path.exists(os.path.join(uapi, 'asm', header)):
                    with open(os.path.join(tmp, 'asm', header), 'w', encoding='utf-8') as f:
                        f.write(f'#include <asm-generic/{header}>\n')
            # "make headers" takes these out.
            os.mkdir(os.path.join(tmp, 'linux'))
            for header in ('compiler.h', 'compiler_types.h'):
                with open(os.path.join(tmp, 'linux', header), 'w', encoding='utf-8') as f:
                    f.write('#define __user\n')
            compiler = ('' if os.uname().machine == machine else cross) + 'gcc'
            done = subprocess.run(
                [compiler, '-S', '-O1', '-o', '-', '-x', 'c', '-std=gnu11', '-fno-pie', '-w', f'-I{tmp}', f'-I{uapi}',
                 f'-I{TREE}/include/uapi', '-include', f'{tmp}/linux/compiler.h', '-'],
                input=self.source(arch).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.decode().splitlines() if 'error:' in line]
            raise Wrong('\n'.join(f'{arch}: {re.sub("^.*error: ", "", line)}' for line in errors))
        found = {}
        for match in re.finditer(rf'->({NAME}) [$#]?(-?\d+) [$#]?(-?\d+)', done.stdout.decode()):
            found[match[1]] = ((int(match[2]) & 0xffffffff) << 32) | (int(match[3]) & 0xffffffff)
        return found

    def const(self):
        """The text of .const, in the form of syz-extract"""
        values = {arch: self.values(arch) for arch in self.arches}
        out = ['# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0',
               '# Code generated by syz-sysgen. DO NOT EDIT.', f'arches = {", ".join(sorted(self.arches))}']
        for name in self.constants():
            by_value = {}
            for arch in sorted(self.arches):
                by_value.setdefault(values[arch][name], []).append(arch)
            parts = []
            if len(self.arches) > 1:
                most = max(by_value, key=lambda value: len(by_value[value]))
                parts.append(str(most))
                del by_value[most]
            parts += [':'.join(arches + [str(value)]) for value, arches in sorted(by_value.items(), key=lambda i: i[1])]
            out.append(f'{name} = {", ".join(parts)}')
        return '\n'.join(out) + '\n'


def main(args):
    what = (args or [''])[0]
    if what not in ('check', 'const'):
        print(f'error: syzkaller.py knows check and const, not "{what}"',
              '  next: syzkaller.py check', sep='\n', file=sys.stderr)
        return 2
    names = args[1:] or sorted(glob.glob(os.path.join(TOP, 'syzkaller/*.txt')))
    if not os.path.exists(os.path.join(TREE, 'include/uapi/linux/kvm.h')):
        print(f'error: there is no tree at {TREE}\n  next: make tree', file=sys.stderr)
        return 2
    wrong, files = [], []
    for name in names:
        try:
            files.append(File(name))
        except (Wrong, OSError) as error:
            wrong.append(str(error))
    for file in files:
        try:
            file.source(file.arches[0])
        except Wrong as error:
            wrong.append(f'{file.name}: {error}')
            continue
        wrong += [f'{file.name}: {line}' for line in file.check([other for other in files if other is not file])]
    for file in files if not wrong else ():
        path = file.path + '.const'
        try:
            text = file.const()
        except Wrong as error:
            wrong.append(f'{file.name}: {error}')
            continue
        if what == 'const':
            with open(path, 'w', encoding='utf-8') as f:
                f.write(text)
            continue
        have = ''
        if os.path.exists(path):
            with open(path, encoding='utf-8') as f:
                have = f.read()
        if have != text:
            lines = set(text.splitlines()) ^ set(have.splitlines())
            wrong.append(f'{file.name}.const: ' + '; '.join(sorted(lines)[:6]) + ' (syzkaller.py const writes it)')
    for line in wrong:
        print(line)
    if not wrong:
        print(f'{len(files)} files, {sum(len(f.calls) for f in files)} calls, '
              f'{sum(len(f.structs) for f in files)} structs and unions, '
              f'{len(set().union(*(f.consts for f in files)))} constants')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
