"""Tables of studies in a page that is otherwise written by hand.

A page asks for tables by title, between two markers that stay:

    <!-- study relative_scale: By student; Effects of teacher -->
    <!-- end of study relative_scale -->
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness_plugin.errors import HarnessError, unknown
from harness_plugin_hooks.render import markdown
from harness_plugin_hooks.render.document import Section, Table, tables

START = re.compile(r"<!-- study (?P<name>[a-z0-9_]+): (?P<titles>[^\n]*?) -->\n")


def requested_tables(page: str) -> list[str]:
    """The studies that a page has tables of, in its order."""
    return list(dict.fromkeys(match["name"] for match in START.finditer(page)))


def filled(page: str, study: str, about: str, sections: Sequence[Section]) -> str:
    """The page with the tables of one study replaced; what stands outside its markers is kept.

    A title names every table that it is the beginning of. Raises HarnessError for a study or a
    table that does not exist and for a marker without an end.
    """
    known = list(tables(sections))
    marks = [mark for mark in START.finditer(page) if mark["name"] == study]
    if not marks:
        raise unknown("study of the page", study, requested_tables(page))
    for mark in reversed(marks):
        end = f"<!-- end of study {study} -->"
        stop = page.find(end, mark.end())
        if stop < 0:
            raise HarnessError(f"the tables of study {study} have no end: {end} is missing.")
        lines = ["", *([markdown.escaped(about), ""] if mark is marks[0] else [])]
        for title in (part.strip() for part in mark["titles"].split(";")):
            for table in chosen(known, title):
                lines += [*markdown.table(table, level=4), ""]
        page = page[: mark.end()] + "\n".join([*lines, page[stop:]])
    return page


def chosen(known: Sequence[Table], title: str) -> list[Table]:
    """The tables whose titles begin with `title`."""
    tables = [table for table in known if table.title.startswith(title)]
    if not tables:
        raise unknown("table", title, [table.title for table in known if table.title])
    return tables
