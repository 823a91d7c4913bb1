"""Fill the tables of docs/methods.md that are facts of data files: `make docs-tables`.

The defaults and their sources come from hooks/harness_plugin_hooks/defaults.yaml, the settings of
papers from published.yaml beside it, what each method is checked against from
tests/hooks/checked_against.yaml. `--check` changes nothing and fails where the page is not what the
files say.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "methods.md"
DEFAULTS = ROOT / "hooks" / "harness_plugin_hooks" / "defaults.yaml"
PUBLISHED = ROOT / "hooks" / "harness_plugin_hooks" / "published.yaml"
CHECKED = ROOT / "tests" / "hooks" / "checked_against.yaml"
END = "<!-- end of table -->"
KINDS = {
    "method": "method",
    "bias_model": "bias model",
    "group_inference": "group inference",
    "distiller": "distiller",
}


def read(file: Path) -> dict[str, Any]:
    """A data file."""
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def shown(value: Any) -> str:
    """A value as it is set; of one that differs by modality both."""
    if isinstance(value, Mapping):
        return ", ".join(f"{modality} {shown(each)}" for modality, each in value.items())
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value}`" if value == "" else str(value)


def defaults() -> list[str]:
    """Every option with its default, the source's value, and where that stands or why not."""
    lines = ["| name | option | default | source's value | where |", "|---|---|---|---|---|"]
    for kind, components in read(DEFAULTS).items():
        for name, options in components.items():
            for option, fact in options.items():
                default = fact.get("ours", fact["source"])
                words = [
                    fact.get("where", ""),
                    f"ours: {fact['because']}" if "ours" in fact else "",
                ]
                lines.append(
                    f"| `{name}` ({KINDS[kind]}) | `{option}` | {shown(default)} | "
                    f"{shown(fact['source'])} | {'; '.join(word for word in words if word)} |"
                )
    return lines


def published() -> list[str]:
    """The settings that papers publish for pretrained models."""
    lines = ["| task | method | `--set` | source |", "|---|---|---|---|"]
    for task, methods in read(PUBLISHED).items():
        for method, fact in methods.items():
            sets = " ".join(f"`{key}={shown(value)}`" for key, value in fact["set"].items())
            lines.append(f"| `{task}` | `{method}` | {sets} | {fact['source']} |")
    return lines


def checked() -> list[str]:
    """What every method, bias model and group inference is checked against."""
    lines = ["| name | checked against | tests |", "|---|---|---|"]
    for kind, components in read(CHECKED).items():
        for name, fact in components.items():
            tests = ", ".join(f"`{file}`" for file in fact["tests"])
            lines.append(f"| `{name}` ({KINDS[kind]}) | {fact['against']} | {tests} |")
    return lines


TABLES = {"defaults": defaults, "published": published, "checked": checked}


def filled(page: str) -> str:
    """The page with every table made anew; what stands outside of the marks is kept."""
    for name, made in TABLES.items():
        start = f"<!-- table: make docs-tables, {name} -->"
        before, mark, rest = page.partition(start)
        if not mark or END not in rest:
            raise SystemExit(f"{PAGE.name}: no table {name} between {start} and {END}.")
        page = "\n".join([before + start, "", *made(), "", END + rest.partition(END)[2]])
    return page


def main() -> None:
    """Write the page, or compare it."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="fail where the page is not current")
    page = PAGE.read_text(encoding="utf-8")
    made = filled(page)
    if not options.parse_args().check:
        PAGE.write_text(made, encoding="utf-8")
    elif made != page:
        raise SystemExit(f"{PAGE.name} is not what the data files say: make docs-tables")


if __name__ == "__main__":
    main()
