"""Draw sentence templates as rows that debias, as many of every kind of identity and label.

    python examples/toxicity/draw_rows.py toxicity_data 600 --validation 4800

Writes `templates_600.csv` into the working directory: text, label, attribute (mention) and sentence
(the text without the term). Larger files hold the rows of the smaller ones; the 6,000 templates
that the plans here are tested on are not among them. Sentences that name people are what Dixon et
al. (2018) add to training. `templates_validation.csv` has further ones, of other sentences, for
`validation_pool`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness_plugin.data.dataset import Ints, Split, load_data, stratified
from harness_plugin.data.task import find_task
from harness_plugin.machine.progress import quiet_datasets
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_tasks.toxicity_identity.sets import LABELS, MENTION, NOBODY

TESTED_ON = 6000
"""Sentence templates that the plans keep (`n_templates`), drawn with the data seed 0."""


def main() -> None:
    """Draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder toxicity_data")
    parser.add_argument("rows", type=int, nargs="+", help="numbers of rows, multiples of 12")
    parser.add_argument(
        "--validation", type=int, default=0, metavar="N", help="further rows, to validate by"
    )
    args = parser.parse_args()
    quiet_datasets()
    every = templates(args.data)
    tested = stratified(every, TESTED_ON, seed=0)
    kinds = np.array(every.rows["attribute"])
    left = ~np.isin(every.ids, tested.ids) & (kinds != NOBODY)
    order = np.random.default_rng(0).permutation(np.flatnonzero(left))
    cells = [order[every.group[order] == group] for group in np.unique(every.group[order])]
    for count in (*args.rows, args.validation):
        if count % len(cells):
            parser.error(f"{count} rows: a multiple of {len(cells)}, the cells, is needed")
    check_size(parser, max(args.rows), cells)
    for count in args.rows:
        write(every, first(cells, count), f"templates_{count}.csv")
    if args.validation:
        sentences = np.array(every.rows["cluster"])
        trained = sentences[np.concatenate(first(cells, max(args.rows)))]
        other = [cell[~np.isin(sentences[cell], trained)] for cell in cells]
        check_size(parser, args.validation, other)
        write(every, first(other, args.validation), "templates_validation.csv")


def first(cells: Sequence[Ints], count: int) -> list[Ints]:
    """As many rows of every cell, `count` in all."""
    return [cell[: count // len(cells)] for cell in cells]


def check_size(parser: argparse.ArgumentParser, count: int, cells: Sequence[Ints]) -> None:
    """Refuse more rows than the cells hold."""
    if count > (most := min(map(len, cells)) * len(cells)):
        parser.error(f"{count} rows: there are {most}")


def write(every: Split, cells: Sequence[Ints], name: str) -> None:
    """Rows as a file in the layout of `augmentations.pool` and `validation_pool`."""
    texts, sentences = every.rows["text"], every.rows["cluster"]
    rows = np.concatenate(cells).tolist()
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "attribute", "sentence"))
        for row in rows:
            writer.writerow((texts[row], LABELS[every.label[row]], MENTION, sentences[row]))
    print(f"{name}: {len(rows)} rows")


def templates(data: Path, rows: int = 0) -> Split:
    """The task's set `templates` with so many rows, 0 = all."""
    task = find_task("toxicity_identity", load_plugins()["task"])
    return load_data(task, "path", path=data, options={"n_templates": rows}).splits["templates"]


if __name__ == "__main__":
    main()
