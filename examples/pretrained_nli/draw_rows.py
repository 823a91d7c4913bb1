"""Draw rows of HANS' training file for `augmentations.pool`, as many of every heuristic and label.

    python examples/pretrained_nli/draw_rows.py nli_data 120 600 2400

Writes `hans_120.csv` … into the working directory: premise, hypothesis, label (what does not
follow is called neutral) and attribute (word overlap). Larger files hold the rows of the smaller
ones. Rows that search.yaml judges by (the first 3,000 that the task draws) are not among them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from harness_plugin_tasks._shared.text.cues import OVERLAP_CUE
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
    args = parser.parse_args()
    table = hans_rows(args.data, HANS_TRAINING_FILE)
    _, others = drawn(table, JUDGED_BY, seed=0)
    rest = table.select(others)
    for count in args.rows:
        chosen, _ = drawn(rest, count, seed=0)
        pairs = as_training_pairs(rest.select(chosen)).columns
        columns = [pairs["premise"], pairs["hypothesis"], pairs["label"]]
        columns.append([OVERLAP_CUE.of(a, b) for a, b in zip(*columns[:2], strict=True)])
        with open(f"hans_{count}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("premise", "hypothesis", "label", "attribute"))
            writer.writerows(zip(*columns, strict=True))
        print(f"hans_{count}.csv: {count} rows")


if __name__ == "__main__":
    main()
