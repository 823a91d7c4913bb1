"""Draw faces against the bias as rows that debias: as many young men as old women.

    python examples/fairface/draw_rows.py fairface64 600

Writes the images `faces_600/` and `faces_600.csv` (image, label, attribute) into the working
directory. Larger sets hold the faces of the smaller ones; no face of small.yaml is among them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import yaml

from harness_plugin.data.dataset import CONFLICTING, Split, load_data
from harness_plugin.data.task import find_task
from harness_plugin.machine.progress import quiet_datasets
from harness_plugin.plugins.registry import load_plugins

TASK, PLAN = "fairface_bias", Path(__file__).with_name("small.yaml")
OPTIONS = ("n_train", "n_validation", "n_id", "bias_rate", "validation_bias_rate")
BALANCED = {"n_train": 10_000, "n_validation": 8, "n_id": 8, "bias_rate": 0.5}
"""Nearly as many faces of every cell as FairFace's copy at 64 pixels has."""


def main() -> None:
    """Draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder fairface64")
    parser.add_argument("rows", type=int, nargs="+", help="numbers of faces, even")
    args = parser.parse_args()
    quiet_datasets()
    plan = yaml.safe_load(PLAN.read_text(encoding="utf-8"))["settings"][TASK]
    used = {
        str(name)
        for split in splits(args.data, {key: plan[key] for key in OPTIONS if key in plan})
        for name in split.ids
    }
    pool = next(split for split in splits(args.data, BALANCED) if split.purpose == "train")
    rows = [i for i, name in enumerate(pool.ids) if name not in used]
    rows = [row for row in rows if pool.aligned[row] == CONFLICTING]
    by_label = [[row for row in rows if pool.label[row] == y] for y in range(len(pool.labels))]
    for count in args.rows:
        each, rest = divmod(count, len(by_label))
        if rest or each > min(map(len, by_label)):
            parser.error(f"{count} faces: an even number of at most {2 * min(map(len, by_label))}")
        write(f"faces_{count}", pool, [row for cell in by_label for row in cell[:each]])
        print(f"faces_{count}.csv: {count} faces")


def splits(data: Path, options: dict[str, object]) -> list[Split]:
    """Every set of the task by these options."""
    task = find_task(TASK, load_plugins()["task"])
    return list(load_data(task, "path", path=data, options=options).splits.values())


def write(name: str, pool: Split, rows: list[int]) -> None:
    """The images of these rows, and the table that names them."""
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    chosen = pool.rows.select(rows)
    with open(f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "attribute"))
        for row in chosen:
            image = f"{folder}/{row['id']}.png"
            row["image"].save(image)
            writer.writerow((image, pool.labels[row["label"]], row["attribute"]))


if __name__ == "__main__":
    main()
