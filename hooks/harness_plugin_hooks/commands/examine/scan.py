"""`harness scan`: which attributes of the training rows alone tell the label."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from harness_plugin.cli.parser import Parser, comma_list, config_from_flags, run_parser
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from harness_plugin.data.split import Split
    from harness_plugin_hooks.scan.association import Association

EXAMPLES = """\
examples:
  harness scan --tasks hans
  harness scan --tasks celeba_bias --write attribute.csv --attribute 1

What tells the label may be the true signal: the list has candidates, people decide.
"""


def parser() -> Parser:
    """The options of `harness run`, and those of its own."""
    out = run_parser()
    out.prog, out.epilog = "harness scan", EXAMPLES
    out.description = (
        "Rank attributes of the training rows by how well each alone tells the label: words, "
        "length, negation and overlap of texts; brightness, colour, size and corners of images."
    )
    own = out.add_argument_group("scan")
    own.add_argument(
        "--task", dest="tasks", type=comma_list, metavar="NAME", help="the same as --tasks"
    )
    own.add_argument("--top", type=int, default=10, metavar="N", help="lines, default 10")
    own.add_argument("--write", type=Path, metavar="FILE", help="a CSV file: id, label, attribute")
    own.add_argument(
        "--attribute", type=int, default=1, metavar="N", help="which of the list, default 1"
    )
    return out


def main(words: list[str]) -> int:
    """Print the strongest attributes of every task; write one as a column."""
    given = vars(parser().parse_args(words))
    top, file, chosen = (given.pop(name) for name in ("top", "write", "attribute"))
    for name, value in (("top", top), ("attribute", chosen)):
        if value < 1:
            raise HarnessError(f"--{name} {value}: expected at least 1.")
    config = config_from_flags(given)
    if file is not None and len(config.tasks) > 1:
        raise HarnessError("--write: one file holds the attribute of one task: name one.")
    from harness_plugin.cli.startup import installed_plugins
    from harness_plugin.pipeline.prepare.open_task import load_tasks
    from harness_plugin_hooks.scan.association import associations
    from harness_plugin_hooks.scan.attributes import candidates

    for opened in load_tasks(config, installed_plugins()):
        task, train = opened.task, opened.data.train
        has = dict(candidates(train, task.inputs, task.modality))
        found = associations(has.items(), train.label, len(train.labels), config.data_seed)
        print(f"{task.task}: {len(found)} attributes of {len(train):,} training rows")
        for number, one in enumerate(found[:top], start=1):
            print(f"  {number:2}. {line(one, train.labels)}")
        if file is not None:
            if chosen > len(found):
                raise HarnessError(f"--attribute {chosen}: there are {len(found)}.")
            name = found[chosen - 1].name
            write(file, train, [name if yes else f"not {name}" for yes in has[name].tolist()])
            print(f"  {file}")
    return 0


def line(one: Association, labels: tuple[str, ...]) -> str:
    """One attribute: strength, what it says, and whether chance would say it."""
    with_it, without = (100 * rate for rate in one.rates)
    sure = f"p {one.p:.1e}" if one.p < 0.05 else "may be chance"
    return (
        f"{one.strength:.2f} [{one.low:.2f}, {one.high:.2f}] {one.name} ({100 * one.share:.0f}% of "
        f"rows): {labels[one.label]} {with_it:.0f}% with it, {without:.0f}% without ({sure})"
    )


def write(file: Path, train: Split, values: list[str]) -> None:
    """The attribute of every training row, to be joined by id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["id", "label", "attribute"])
        names = (train.labels[label] for label in train.label.tolist())
        out.writerows(zip(train.ids.tolist(), names, values, strict=True))
