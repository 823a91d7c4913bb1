"""Draw rows of HANS' training file for `augmentations.pool`, as many of every heuristic and label.

    python examples/pretrained_nli/draw_rows.py nli_data 120 600 2400 --validation

Writes `hans_120.csv` … into the working directory: premise, hypothesis, label (what does not
follow is called neutral), attribute (word overlap) and template. Larger files hold the rows of the
smaller ones. Rows that search.yaml judges by (the first 3,000 that the task draws) are not among
them; with --validation they are written as `hans_validation.csv`, for `validation_pool`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from harness_plugin_tasks._shared.text.cues import OVERLAP_CUE
from harness_plugin_tasks._shared.text.tables import Table
from harness_plugin_tasks.hans.evaluation import clusters_of
from harness_plugin_tasks.nli_challenge.challenge_sets import (
    HANS_TRAINING_FILE,
    as_training_pairs,
    drawn,
    hans_rows,
)

JUDGED_BY = 3000
"""Rows that search.yaml keeps (`n_hans`), drawn with the data seed 0."""


def main() -> None:
    """Draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder nli_data")
    parser.add_argument("rows", type=int, nargs="+", help="numbers of rows, multiples of 6")
    parser.add_argument("--validation", action="store_true", help="rows to validate by as well")
    args = parser.parse_args()
    table = hans_rows(args.data, HANS_TRAINING_FILE)
    judged, others = drawn(table, JUDGED_BY, seed=0)
    rest = table.select(others)
    for count in args.rows:
        chosen, _ = drawn(rest, count, seed=0)
        write(rest.select(chosen), f"hans_{count}.csv")
    if args.validation:
        write(table.select(judged), "hans_validation.csv")


def write(table: Table, name: str) -> None:
    """Rows of HANS as a file in the layout of `augmentations.pool` and `validation_pool`."""
    pairs = as_training_pairs(table).columns
    columns = [pairs["premise"], pairs["hypothesis"], pairs["label"]]
    columns.append([OVERLAP_CUE.of(a, b) for a, b in zip(*columns[:2], strict=True)])
    columns.append(clusters_of("template", table.columns["template"], table.columns["subcase"]))
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("premise", "hypothesis", "label", "attribute", "template"))
        writer.writerows(zip(*columns, strict=True))
    print(f"{name}: {len(table)} rows")


if __name__ == "__main__":
    main()
