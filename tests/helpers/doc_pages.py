"""The pages of the documentation and what is read from them."""

import re
from pathlib import Path

from harness_plugin.plugins.registry import load_plugins

ROOT = Path(__file__).resolve().parents[2]
TASKS = "tasks/harness_plugin_tasks/*/"
PAGES = sorted(
    path
    for folder in ("", "docs/", "tasks/", "hooks/", "examples/", "examples/*/", "bench/", TASKS)
    for path in ROOT.glob(f"{folder}*.md")
)
PLUGINS = load_plugins()


def text(page: str) -> str:
    """The text of a page, named from the root."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
