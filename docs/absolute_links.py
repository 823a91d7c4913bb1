"""Make a page's relative links absolute, for where it is read outside of the repository.

    python docs/absolute_links.py README.md REPOSITORY_ADDRESS v1.0.0

The release workflow does so before it builds: a package index shows README.md alone. Pages lead to
`blob`, pictures to `raw` at that tag.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

LINK = re.compile(
    r"(?P<picture>!?)(?P<text>\[[^\]]*\])\((?!https?://|mailto:|#)(?P<target>[^)\s]+)\)"
)


def absolute(page: str, repository: str, tag: str) -> str:
    """The page with every relative link and picture at `repository`, as it was at `tag`."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match["picture"] else "blob"
        place = f"{repository.rstrip('/')}/{kind}/{tag}/{match['target']}"
        return f"{match['picture']}{match['text']}({place})"

    return LINK.sub(link, page)


def main() -> None:
    """Write the page in place."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("repository", help="its address")
    parser.add_argument("tag")
    args = parser.parse_args()
    page = args.page.read_text(encoding="utf-8")
    args.page.write_text(absolute(page, args.repository, args.tag), encoding="utf-8")


if __name__ == "__main__":
    main()
