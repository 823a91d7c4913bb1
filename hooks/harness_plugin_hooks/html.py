"""The shell of a page that asks nobody for anything.

A page is built as a tree and written by the standard library, which escapes every text and
attribute; a content security policy allows the page's own style and script, by their hashes, and
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from xml.etree.ElementTree import Element, SubElement, tostring


class Page:
    """A page with one style and perhaps one script, both written in it; `body` is to be filled."""

    def __init__(self, title: str, style: str, script: str = "") -> None:
        self._script = script
        scripts = f"script-src {allowed(script)}; " if script else ""
        policy = (
            f"default-src 'none'; style-src {allowed(style)}; {scripts}"
            "img-src data:; base-uri 'none'; form-action 'none'"
        )
        self._html = Element("html", lang="en")
        head = SubElement(self._html, "head")
        SubElement(head, "meta", charset="utf-8")
        SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
        SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
        SubElement(head, "meta", {"name": "color-scheme", "content": "light dark"})
        SubElement(head, "title").text = title
        SubElement(head, "link", rel="icon", href="data:,")
        SubElement(head, "style").text = style
        self.body = SubElement(self._html, "body")

    @classmethod
    def of(cls, package: str, title: str) -> Page:
        """A page with the `page.css` and `page.js` of a package."""
        folder = files(package)
        return cls(
            title, *(folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
        )

    def written(self) -> str:
        """The whole page."""
        if self._script:
            SubElement(self.body, "script").text = self._script
        return "<!doctype html>\n" + tostring(self._html, encoding="unicode", method="html") + "\n"


def allowed(source: str) -> str:
    """A source of a content security policy: exactly this text."""
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"
