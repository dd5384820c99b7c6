# SPDX-License-Identifier: GPL-2.0-only
"""HTML of the report: text is escaped unless it is an Html."""

import html
import os
import re

HERE = os.path.dirname(os.path.realpath(__file__))


class Html(str):
    """What needs no escaping."""


def text(*parts):
    """Parts one after the other, escaped"""
    return Html(''.join(part if isinstance(part, Html) else html.escape(str(part)) for part in parts))


def tag(name, *parts, **attributes):
    """An element; class_ is class, and an attribute of None is left out"""
    words = ''.join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
                    for key, value in attributes.items() if value is not None)
    return Html(f'<{name}{words}>{text(*parts)}</{name}>')


def cell(value, kind=None, old=False):
    """One of a table: kind is pass, fail, skip, none, long, or n for a number. What is of
    another commit has a mark, as not everybody sees colours."""
    return tag('td', value, *((' †',) if old else ()), class_=' '.join(filter(None, (kind, 'old' if old else None))) or None)


def numbers(*values):
    return [cell(value, 'n') for value in values]


def table(caption, heads, rows, right=()):
    """rows: lists of cells, or of text; the first of each is its head. right: numbers of
    the columns that have numbers."""
    top = ''.join(tag('th', head, scope='col', class_='n' if i in right else None) for i, head in enumerate(heads))
    lines = [tag('tr', tag('th', row[0], scope='row'),
                 *(one if isinstance(one, Html) and one.startswith('<td') else cell(one) for one in row[1:]))
             for row in rows]
    return tag('div', tag('table', tag('caption', caption), tag('thead', tag('tr', Html(top))), Html('\n'),
                          tag('tbody', Html('\n'.join(lines)))),
               class_='wide', tabindex='0', role='region',
               aria_label=html.unescape(re.sub(r'<[^>]*>', ' ', text(caption))).strip())


def details(title, *parts):
    return tag('details', tag('summary', title), *parts)


def items(lines):
    return tag('ul', *(tag('li', line) for line in lines)) if lines else Html()


def inline_svg(path, name):
    """A picture of gnuplot as a part of this page: its ids are its own, and no text of it
    is an address"""
    with open(path, encoding='utf-8', errors='replace') as f:
        svg = f.read()
    svg = svg[svg.index('<svg'):svg.rindex('</svg>') + 6]
    svg = re.sub(r'<!--.*?-->|<script.*?</script>|\s(xmlns(:\w+)?|on\w+|\w+:space)=("[^"]*"|\'[^\']*\')', '', svg,
                 flags=re.DOTALL)
    svg = re.sub(r'\s(width|height)="[^"]*"', '', svg[:svg.index('>')]) + svg[svg.index('>'):]
    svg = re.sub(r'(\sid=["\']|href=["\']#|url\(\'?#)', rf'\g<1>{name}-', svg)
    return Html(svg.replace('<svg', f'<svg role="img" aria-label="{html.escape(name)}"', 1))


def fill(**values):
    """page.html with these"""
    with open(os.path.join(HERE, 'page.css'), encoding='utf-8') as f:
        values['css'] = f.read()
    with open(os.path.join(HERE, 'page.html'), encoding='utf-8') as f:
        return re.sub(r'@(\w+)@', lambda match: values[match[1]], f.read())
