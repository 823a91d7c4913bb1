"""A document as one HTML file that asks nobody for anything.

The page is built as a tree and written by the standard library, which escapes every text and
attribute; a content security policy allows the page's own style and script, by their hashes, and
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from xml.etree.ElementTree import Element, SubElement, tostring

from harness_plugin_hooks.render.document import (
    Block,
    Card,
    Cards,
    Code,
    Document,
    Figure,
    Folded,
    Inline,
    Items,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
    texts,
)
from harness_plugin_hooks.render.html_table import add_table
from harness_plugin_hooks.render.svg import themed, width_of
from harness_plugin_hooks.render.text import plain, plural

HALF = 360
"""Points: figures no wider than this stand side by side where there is room."""

LONGEST = 10_000
"""Characters of a text in a paragraph, a list or a term."""

MARKS = {
    **dict.fromkeys(("kept", "pass"), "\u2713"),
    **dict.fromkeys(("lost", "regressed"), "\u2717"),
    "undecided": "?",
    "nothing_to_keep": "\u2013",
}
"""Marks of verdicts besides their colour."""

INTERACTIVE = (".//table[@class='sortable']", ".//ol[@class='cards']")
"""XPaths of elements that need the script."""


def page(document: Document) -> str:
    """The whole page."""
    style, script = (
        files(__package__).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js")
    )
    body = Element("body", {"class": "wide"} if document.wide else {})
    header = SubElement(body, "header")
    add(header, "h1", document.title)
    for block in document.introduction:
        write(header, block, 2)
    contents(header, document.contents, document.sections)
    main = SubElement(body, "main")
    for section in document.sections:
        write(main, section, 2)
    write(SubElement(body, "footer"), Paragraph(document.footer, "soft"), 2)
    if any(body.find(path) is not None for path in INTERACTIVE):
        SubElement(body, "script").text = script
    else:
        script = ""
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    scripts = f"script-src {allowed(script)}; " if script else ""
    policy = (
        f"default-src 'none'; style-src {allowed(style)}; {scripts}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "meta", {"name": "color-scheme", "content": "light dark"})
    add(head, "title", document.title)
    SubElement(head, "link", rel="icon", href="data:,")
    SubElement(head, "style").text = style
    html.append(body)
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html") + "\n"


def allowed(source: str) -> str:
    """A source of a content security policy: exactly this text."""
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def add(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    """An element that holds a short text."""
    element = SubElement(parent, tag, attributes)
    element.text = plain(text)
    return element


def anchor(name: str) -> str:
    """A name as an id: letters, digits, "-" and "_" of it."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)


def contents(parent: Element, name: str, blocks: Sequence[Block]) -> None:
    """Where the sections among the blocks are."""
    if not name:
        return
    items = SubElement(SubElement(parent, "nav", {"aria-label": plain(name)}), "ul")
    for section in blocks:
        if isinstance(section, Section):
            item = SubElement(items, "li")
            link = add(item, "a", section.title, href=f"#{anchor(section.anchor)}")
            link.tail = plain(section.listed_as)


def write(parent: Element, block: Block, level: int) -> None:
    """Add one block; `level` is that of a heading in it."""
    match block:
        case Section():
            add_section(parent, block, level)
        case Paragraph():
            runs = texts(block.text)
            state = runs[0].style if block.style == "answer" and runs[0].style in MARKS else ""
            classes = f"{block.style} {state}".strip()
            inline(SubElement(parent, "p", {"class": classes} if classes else {}), block.text)
        case Items():
            items = SubElement(parent, "ul")
            for item in block.items:
                inline(SubElement(items, "li"), item)
        case Terms():
            terms = SubElement(parent, "dl")
            for term, meaning in block.terms:
                add(terms, "dt", term)
                inline(SubElement(terms, "dd"), meaning)
        case Code():
            SubElement(parent, "pre", {"tabindex": "0"}).text = block.text
        case Table():
            add_table(parent, block, level)
        case Figure():
            add_figure(parent, block, level)
        case Folded():
            folded = SubElement(parent, "details", {"open": "open"} if block.opened else {})
            add(folded, "summary", block.title)
            for part in block.blocks:
                write(folded, part, level)
        case Cards():
            cards = SubElement(parent, "ol", {"class": "cards"})
            for card in block.cards:
                add_card(cards, card, level)


def add_section(parent: Element, section: Section, level: int) -> None:
    """A section under its heading."""
    name = anchor(section.anchor)
    part = SubElement(parent, "section", {"id": name, "aria-labelledby": f"{name}-title"})
    heading = SubElement(part, f"h{level}", id=f"{name}-title")
    add(heading, "bdi", section.title)
    if section.badge:
        add(heading, "strong", section.badge, **{"class": "badge"})
    blocks = list(section.blocks)
    first = next((i for i, block in enumerate(blocks) if isinstance(block, Section)), len(blocks))
    for block in blocks[:first]:
        write(part, block, level + 1)
    contents(part, section.contents, blocks)
    for block in blocks[first:]:
        write(part, block, level + 1)


def inline(parent: Element, line: Inline) -> None:
    """Texts in a row, each in its style; each styled one isolated in its direction."""
    for run in texts(line):
        text = plain(run.text, LONGEST)
        attributes: dict[str, str] = {"title": plain(run.about, LONGEST)} if run.about else {}
        if run.target:
            SubElement(parent, "a", {**attributes, "href": run.target}).text = text
        elif run.style in MARKS:
            state = SubElement(parent, "strong", {**attributes, "class": f"state {run.style}"})
            state.text = f"{MARKS[run.style]}\u00a0"
            SubElement(state, "bdi").text = text
        elif run.style == "code":
            SubElement(parent, "code", attributes).text = text
        elif run.style == "strong":
            SubElement(parent, "strong", attributes).text = text
        elif run.style:
            attributes["class"] = run.style
            SubElement(parent, "span", attributes).text = text
        else:
            SubElement(parent, "bdi", attributes).text = text


def add_figure(parent: Element, block: Figure, level: int) -> None:
    """A figure, what to see in it, and its numbers."""
    prefix = anchor(block.file)
    part = SubElement(parent, "figure", id=prefix)
    if width_of(block.svg) <= HALF:
        part.set("class", "half")
    if block.about:
        caption = SubElement(part, "figcaption")
        texts = (Text(block.title, "strong"), Text(block.caption), Text(block.about, "soft"))
        for text in texts:
            if text.text:
                inline(SubElement(caption, "p"), text)
    # a narrow screen scrolls it
    frame = {"class": "plot", "role": "region", "tabindex": "0", "aria-label": plain(block.title)}
    plot = SubElement(part, "div", frame)
    if block.theme:
        words = plain(block.title), plain(block.about, LONGEST)
        plot.append(themed(block.svg, prefix, *words, block.theme))
    else:
        data = base64.b64encode(block.svg.encode()).decode()
        alt = f"{plain(block.title)}: the numbers are in the tables below"
        source = f"data:image/svg+xml;base64,{data}"
        SubElement(plot, "img", {"src": source, "alt": alt, "class": "figure"})
    if block.table:
        rows = plural(len(block.table.rows), "row")
        write(part, Folded(f"Numbers ({rows})", (block.table,)), level)


def add_card(parent: Element, card: Card, level: int) -> None:
    """One example: what was shown, what is right, what each role says."""
    filters: Mapping[str, str] = {key: plain(value) for key, value in card.filters.items()}
    attributes = {
        "data-facets": json.dumps(filters),
        "data-distance": f"{card.distance:.6f}",
        "data-id": plain(card.id),
    }
    item = SubElement(parent, "li", attributes)
    if card.image:
        SubElement(item, "img", src=card.image, alt=plain(card.image_about))
    inside = SubElement(item, "div")
    for block in card.blocks:
        write(inside, block, level)
