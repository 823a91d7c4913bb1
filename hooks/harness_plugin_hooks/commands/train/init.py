"""`harness init`: a look at a user's table, and the task's file that it seems to need."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.cli.parser import Parser
from harness_plugin.errors import HarnessError
from harness_plugin.store.files import write_text


def parser() -> Parser:
    """Every option of `harness init`."""
    out = Parser(
        "harness init",
        description="Look at a table (or a folder with tables) and write the YAML file that makes "
        "it a task: guesses, with comments that say what to check.",
    )
    out.add_argument(
        "path", type=Path, metavar="FILE|FOLDER", help="csv, tsv, jsonl or parquet, or their folder"
    )
    out.add_argument("--force", action="store_true", help="overwrite a file that is there")
    return out


def main(words: list[str]) -> int:
    """Write the file beside the table and show it."""
    args = parser().parse_args(words)
    from harness_plugin_tasks._shared.own.propose import propose

    proposal = propose(args.path)
    if proposal.file.exists() and not args.force:
        raise HarnessError(f"{proposal.file} exists already; --force overwrites it.")
    write_text(proposal.file, proposal.text)
    print(f"{proposal.file}:\n\n{proposal.text}")
    print("Check each line, then:")
    print(f"  harness validate {proposal.file}")
    print(f"  harness --tasks {proposal.file}")
    return 0
