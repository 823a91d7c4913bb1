"""The documents as a site with search and the API's reference: `make docs`.

    python docs/build_site.py --output_path results/site

Pages keep their places and their relative links; a link that leads nowhere, and a name without a
docstring page, end the build. Needs the extra `docs` (mkdocs-material, mkdocstrings).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "",
    "docs/",
    "tasks/",
    "tasks/*/*/",
    "hooks/",
    "examples/",
    "examples/*/",
    "studies/",
    "bench/",
)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
FIRST = (
    ("Start", "README.md"),
    ("Concepts", "docs/concepts.md"),
    ("Verdicts", "docs/verdicts.md"),
    ("Running", "docs/running.md"),
    ("Data", "docs/data.md"),
    ("Methods", "docs/methods.md"),
    ("Distillation", "docs/distillation.md"),
    ("Remedies", "docs/remedies.md"),
    ("Analyses", "docs/analysis.md"),
    ("Report", "docs/report.md"),
    ("Studies", "docs/studies.md"),
    ("Past one machine", "docs/scale.md"),
    ("Python", "docs/python_api.md"),
    ("Reference", "docs/reference.md"),
    ("All pages", "docs/index.md"),
)
"""The pages of the navigation; the others are reached from "All pages"."""

REFERENCE = """# Reference

Made from the docstrings.

::: harness_plugin.api.functions
    options: {show_root_heading: true}

::: harness_plugin.api.results
    options: {show_root_heading: true}

::: harness_plugin.plugins.hookspecs
    options: {show_root_heading: true}
"""

SETTINGS = """site_name: harness-plugin
site_url: ""
use_directory_urls: false
theme:
  name: material
  font: false
  palette:
    - {media: "(prefers-color-scheme: light)", scheme: default}
    - {media: "(prefers-color-scheme: dark)", scheme: slate}
plugins:
  - search
  - mkdocstrings:
      handlers:
        python:
          paths: [PATHS]
          options: {show_source: false, heading_level: 2, members_order: source}
markdown_extensions:
  - tables
  - toc: {permalink: true, slugify: SLUGIFY}
  - pymdownx.superfences
validation: {nav: {omitted_files: ignore}, links: {not_found: warn, anchors: warn}}
"""


def main() -> int:
    """Build the site; 1 where a page has a fault."""
    out = argparse.ArgumentParser(description="Build the documents as a site.")
    out.add_argument("--output_path", type=Path, default=ROOT / "results/site", metavar="DIR")
    values = out.parse_args()
    try:
        import material  # noqa: F401
        import mkdocstrings  # noqa: F401
    except ImportError as error:
        print(f"{error.name} is not installed: pip install '.[docs]'", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "pages"
        stage(staged)
        settings = Path(folder) / "mkdocs.yml"
        settings.write_text(settings_of(staged), encoding="utf-8")
        words = ["mkdocs", "build", "--strict", "--config-file", str(settings)]
        words += ["--site-dir", str(values.output_path.resolve())]
        quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        return subprocess.run([sys.executable, "-m", *words], check=False, env=quiet).returncode


def settings_of(staged: Path) -> str:
    """mkdocs.yml."""
    # the anchors of GitHub, which the pages are written for
    slugify = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
    paths = ", ".join(f'"{ROOT / part}"' for part in (".", "hooks", "tasks"))
    nav = "".join(f"  - {title}: {page}\n" for title, page in FIRST)
    filled = SETTINGS.replace("PATHS", paths).replace("SLUGIFY", slugify)
    return f"{filled}docs_dir: {staged}\nnav:\n{nav}"


def stage(staged: Path) -> None:
    """Copy every page, and the files that pages link to, to where they lie in the repository."""
    pages = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}*.md"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for link in LINK.finditer(text):
            target = (page.parent / link[1]).resolve()
            if "://" in link[1] or target.suffix == ".md" or ROOT not in target.parents:
                continue
            if target.is_file():
                copied(target, staged)
            elif target.is_dir():  # a site has no listings of folders
                readme = target / "README.md"
                shown = f"{link[1].rstrip('/')}/README.md" if readme.is_file() else None
                whole = f"]({link[1]}{link[2] or ''})"
                text = text.replace(whole, f"]({shown})" if shown else "]")
        place = staged / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    (staged / "docs" / "reference.md").write_text(REFERENCE, encoding="utf-8")


def copied(file: Path, staged: Path) -> None:
    """One file that a page links to."""
    place = staged / file.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


if __name__ == "__main__":
    sys.exit(main())
