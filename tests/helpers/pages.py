"""A page as somebody reads it."""

from __future__ import annotations

from html.parser import HTMLParser


class Reader(HTMLParser):
    """The text outside the hidden elements, tags with attributes, and every table's cells."""

    def __init__(self, page: str, hidden: tuple[str, ...] = ("style", "script")) -> None:
        super().__init__()
        self.hidden = hidden
        self.tags, self.text, self.tables, self.inside = [], "", [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in self.hidden:
            return
        self.text += data
        if self.inside in ("td", "th"):
            self.tables[-1][-1][-1] += data
