"""A study's results, or archived predictions of a run within a budget → right answers by group.

    python studies/real/collect.py results/small --plan examples/toxicity/small.yaml
        --machine "two CPU cores" --output studies/real/toxicity_small.json
    python studies/real/collect.py FOLDER --plan examples/pretrained_nli/transfer.yaml
        --data ../shared/data --output studies/real/NAME.json

The folder is what `harness study` wrote, or holds `store_*.tar.xz` and `results.tar.xz` as they
came from a machine; the plan is then what the machine ran (its own, if it chose one), and the task
and its data come from it. The counts are small enough to be kept; the predictions are not.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from harness_plugin.data.dataset import Split, load_data
from harness_plugin.data.task import Task, read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_tasks._shared.text.cues import NLI_LABELS


def members(folder: Path) -> dict[str, bytes]:
    """Every small file of the archives, by name."""
    result = {}
    for archive in sorted(folder.glob("*.tar.xz")):
        with tarfile.open(archive) as opened:
            for entry in opened:
                if (stream := opened.extractfile(entry)) is not None:
                    result[entry.name] = stream.read()
    return result


def splits_of(task: Task, options: Mapping[str, Any], data: Path) -> dict[str, tuple[str, Split]]:
    """Fingerprint -> (name, split) of the test sets and of those that settings were chosen by."""
    result = {}
    stages: dict[str, dict[str, Any]] = {"": {}}
    if "evaluate_on" in task.options:
        stages["validation: "] = {"evaluate_on": "validation", "n_hans": 3000}
    for prefix, changes in stages.items():
        loaded = load_data(task, "path", path=data, options={**options, **changes})
        for split in loaded.evaluation:
            result[split.fingerprint] = f"{prefix}{split.name}", split
    return result


def right(split: Split, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N,) whether each row is answered rightly; the likeliest label, then the set's own."""
    answer = logits.argmax(axis=1)
    if split.collapse is not None:
        place = [split.labels.index(split.collapse[label]) for label in NLI_LABELS]
        answer = np.array(place)[answer]
    return answer == split.label


def of_study(numbers: pd.DataFrame, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The counts of what a study scored: a row each model, set and seed."""
    chosen = numbers[
        (numbers["study"] == plan["study"])
        & (numbers["measure"] == "score")
        & (numbers["metric"] == "acc")
        & numbers["subset"].str.startswith("group=")
    ]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in chosen.to_dict("records"):
        levels = {
            name: one.get(f"factor_{name}", next(iter(choices)))
            for name, choices in plan["factors"].items()
        }
        about = {**levels, "role": one["role"], "seed": int(one["seed"]), "set": one["split"]}
        row = rows.setdefault(tuple(about.values()), {**about, "groups": {}})
        group = one["subset"].removeprefix("group=")
        row["groups"][group] = [round(one["value"] * one["n"]), int(one["n"])]
    if not rows:
        raise SystemExit(f"no numbers of a study {plan['study']!r}.")
    return list(rows.values())


def of_archives(
    folder: Path, plan_file: Path, data: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The plan and the counts of archived predictions."""
    files = members(folder)
    plan = yaml.safe_load(files.get(f"results/{plan_file.name}") or plan_file.read_bytes())
    (name,) = plan["tasks"]
    settings = plan["settings"][name]
    task = read_task(resource_path(f"harness_plugin_tasks.{name}:{name}.yaml"))
    options = {option: value for option, value in settings.items() if option in task.options}
    splits = splits_of(task, options, data)
    predicted: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for name, content in files.items():
        if name.startswith("logits-") and name.endswith("stage.json"):
            spec = json.loads(content)["spec"]
            logits = np.load(io.BytesIO(files[name.replace("stage.json", "logits.npy")]))
            predicted.setdefault(spec["model"], {})[spec["split"]] = logits
    rows = []
    for one in json.loads(files["results/index.json"]):
        if one["study"] != plan["study"]:
            continue
        for fingerprint, logits in predicted.get(one["model"], {}).items():
            if fingerprint not in splits:
                continue
            name, split = splits[fingerprint]
            ok = right(split, logits)
            inside = [split.group == g for g in range(len(split.groups))]
            groups = [[int(ok[rows_of].sum()), int(rows_of.sum())] for rows_of in inside]
            rows.append(
                {key: one[key] for key in ("arm", *plan["factors"], "role", "seed") if key in one}
                | {"set": name, "groups": dict(zip(split.groups, groups, strict=True))}
            )
    return plan, rows


def main() -> None:
    """Read, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--machine", default="", help="the card and the date, for the page")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if numbers := sorted(args.folder.glob("numbers_*.parquet")):
        plan = yaml.safe_load(args.plan.read_bytes())
        rows = of_study(pd.concat(map(pd.read_parquet, numbers)), plan)
    else:
        plan, rows = of_archives(args.folder, args.plan, args.data)
    (settings,) = plan["settings"].values()
    rows.sort(key=lambda row: json.dumps(row, sort_keys=True))
    arms = plan["factors"]["arm"]
    content = {"machine": args.machine, "settings": settings, "arms": arms, "rows": rows}
    args.output.write_text(json.dumps(content, indent=None), encoding="utf-8")
    print(f"{args.output}: {len(rows)} predictions counted")


if __name__ == "__main__":
    main()
