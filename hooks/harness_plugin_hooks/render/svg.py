"""SVG of matplotlib as a part of a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, fromstring


def themed(svg: str, prefix: str, title: str, about: str, theme: Mapping[str, str]) -> Element:
    """The drawing as an element of a page: in the page's colours and face, ids of its own.

    A page that allows no inline styles cannot have what matplotlib writes, so that styles become
    attributes. `theme` are colours of the drawing with the names of the page's.
    """
    root = fromstring(svg)
    for element in list(root):
        styles = [part for part in element if local(part.tag) == "style"]
        if local(element.tag) == "metadata" or styles:
            root.remove(element)  # RDF, and a style for the whole page
    for element in root.iter():
        element.tag = local(element.tag)
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            if local(name) == "style":
                element.attrib.update(attributes_of(value, theme))
            else:
                element.attrib[local(name)] = value
        for name, value in element.attrib.items():
            if name == "id":
                element.attrib[name] = f"{prefix}-{value}"
            else:
                value = re.sub(r"url\(#", f"url(#{prefix}-", value)
                points = name == "href" and value.startswith("#")
                element.attrib[name] = f"#{prefix}-{value[1:]}" if points else value
    drop_unused(root)
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": f"{width * 4 / 3:.0f}",
        "height": f"{height * 4 / 3:.0f}",
        "class": "figure",
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-about",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for tag, name, text in (("desc", "about", about), ("title", "title", title)):
        node = Element(tag, id=f"{prefix}-{name}")
        node.text = text
        root.insert(0, node)
    return root


def width_of(svg: str) -> float:
    """Points, as matplotlib writes them; infinite where there is no width."""
    match = re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)
    return float(match[1]) if match else math.inf


def local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2]


def drop_unused(root: Element) -> None:
    """Ids that nothing points to."""
    used = {
        match
        for element in root.iter()
        for name, value in element.attrib.items()
        if name != "id"
        for match in re.findall(r"#([\w.-]+)", value)
    }
    for element in root.iter():
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)


def attributes_of(style: str, theme: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """A style as presentation attributes; colours of the theme as the page's variables."""
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            weight, size = re.fullmatch(r"(?:(\w+) )?([\d.]+)px .*", value).groups()  # type: ignore[union-attr]
            yield "font-size", size
            if weight:
                yield "font-weight", weight
        elif name == "font-family":
            continue
        elif name:
            yield name, f"var({theme[value]})" if value in theme else value
