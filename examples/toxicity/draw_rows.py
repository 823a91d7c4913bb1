"""Draw sentence templates as rows that debias, as many of every kind of identity and label.

    python examples/toxicity/draw_rows.py toxicity_data 600

Writes `templates_600.csv` into the working directory: text, label and attribute (mention). Larger
files hold the rows of the smaller ones; the 6,000 templates that the plans here are tested on are
not among them. Sentences that name people are what Dixon et al. (2018) add to training.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from harness_plugin.data.dataset import Split, load_data, stratified
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
    args = parser.parse_args()
    quiet_datasets()
    every = templates(args.data)
    tested = stratified(every, TESTED_ON, seed=0)
    texts, kinds = every.rows["text"], np.array(every.rows["attribute"])
    left = ~np.isin(every.ids, tested.ids) & (kinds != NOBODY)
    order = np.random.default_rng(0).permutation(np.flatnonzero(left))
    cells = [order[every.group[order] == group] for group in np.unique(every.group[order])]
    for count in args.rows:
        each, rest = divmod(count, len(cells))
        if rest or each > min(map(len, cells)):
            parser.error(f"{count} rows: a multiple of {len(cells)} cells that hold them is needed")
        with open(f"templates_{count}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label", "attribute"))
            for row in np.concatenate([cell[:each] for cell in cells]):
                writer.writerow((texts[row], LABELS[every.label[row]], MENTION))
        print(f"templates_{count}.csv: {count} rows")


def templates(data: Path, rows: int = 0) -> Split:
    """The task's set `templates` with so many rows, 0 = all."""
    task = find_task("toxicity_identity", load_plugins()["task"])
    return load_data(task, "path", path=data, options={"n_templates": rows}).splits["templates"]


if __name__ == "__main__":
    main()
