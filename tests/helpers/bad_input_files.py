"""Bad files that people write: YAML, tables of their own, predictions."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import yaml
from bad_input_parts import OBJECTS, TOY, VALUES, Case, Good, base_run, mangled, quiet_main, write


def yaml_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A run file, a task's file, gates or a study's plan that something is wrong with."""
    which = rng.choice(["run", "task", "field", "thresholds", "study"])
    if which == "run":
        text = yaml.safe_dump({"tasks": [str(TOY / "toy.yaml")], "seeds": [0], "settings": {
            "method": "group_dro", "teacher": {"epochs": 1, "config": {}}}})  # fmt: skip
        write(place / "run.yaml", mangled(rng, text))
        flags = base_run(place)[2:]
        return Case("yaml", ("run", "--config", str(place / "run.yaml"), *flags))
    if which == "study":
        text = yaml.safe_dump({"study": "s", "tasks": [str(TOY / "toy.yaml")], "seeds": [0, 1],
            "settings": {"teacher": {"epochs": 1}}})  # fmt: skip
        write(place / "plan.yaml", mangled(rng, text))
        cache = ("--use_cache", str(place.parent / "store"))
        return Case("yaml", ("study", str(place / "plan.yaml"), "--dry_run", *cache))
    if which == "thresholds":
        text = "gates:\n  - metric: acc\n    max_drop: 0.02\n  - metric: worst_group_acc\n"
        write(place / "gates.yaml", mangled(rng, text))
        run = str(good.get("run", results_folder))
        return Case("yaml", ("compare", run, run, "--thresholds", str(place / "gates.yaml")))
    shutil.copy(TOY / "toy_data.py", place)
    text, wrong = (TOY / "toy.yaml").read_text(encoding="utf-8"), ""
    if which == "task":
        text = mangled(rng, text)
    else:
        field, value, wrong = rng.choice(NAMES_NOTHING)
        task = yaml.safe_load(text)
        task[field] = value
        text = yaml.safe_dump(task)
    write(place / "toy.yaml", text)
    if rng.random() < 0.5:
        return Case("yaml", ("validate", str(place / "toy.yaml")), wrong)
    return Case("yaml", tuple(base_run(place, str(place / "toy.yaml"))), wrong)


NAMES_NOTHING = [
    ("primary_gap", "no_such_gap", "a gap that no metric computes"),
    ("bias_features", "toy_data:absent", "a function that does not exist"),
    ("bias_features", "nowhere:x", "a module that does not exist"),
    ("counterfactual", "toy_data:absent", "a function that does not exist"),
    ("sources", {"embedded": "os:system"}, "no loader"),
    ("sources", {"embedded": "os:getcwd"}, "no loader"),
    ("sources", {"embedded": "toy_data"}, "no function"),
    ("inputs", ["premise", "premise"], "one column twice"),
    ("inputs", ["premise", "label"], "the label as an input"),
    ("inputs", ["absent"], "a column that does not exist"),
]
"""Keys of a task's file whose value names nothing that could work."""

TABLE = "text,label,attribute,split\n" + "".join(
    f"words {n} of a row,{'ab'[n % 2]},{'xy'[n // 2 % 2]},{'train' if n % 3 else 'test'}\n"
    for n in range(48)
)


def table_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A table of one's own, or its task, that something is wrong with."""
    task = {"task": "mine", "base": "csv_groups", "table": "table.csv"}
    small = {"model": "bert-pico", "init": "scratch", "config": {}}
    task["recipe"] = {"all": {"teacher": small, "student": small}}  # type: ignore[assignment]
    text, name, wrong = TABLE, "table.csv", ""
    how = rng.randrange(8)
    if how == 0:
        option = rng.choice(["label", "attribute", "split", "id", "delimiter", "table", "labels",
            "purposes", "aligned", "breakdowns", "quoted"])  # fmt: skip
        task[option] = rng.choice([rng.choice(OBJECTS), rng.choice(VALUES)])
    elif how == 1:
        option, value, wrong = rng.choice([
            ("labels", ["a", "b", "c"], "a label that no row has"),
            ("inputs", ["text", "text"], "one column twice"),
            ("attribute", "label", "the label as its own attribute"),
            ("labels", ["a", "a"], "a label twice"),
        ])  # fmt: skip
        task[option] = value
    elif how == 2:
        rows = [dict(zip(("text", "label", "attribute", "split"), line.split(","), strict=True))
            for line in TABLE.split("\n")[1:-1]]  # fmt: skip
        name = task["table"] = rng.choice(["table.jsonl", "table.parquet", "table.tsv"])
        spot = rng.randrange(len(rows))
        rows[spot][rng.choice(list(rows[spot]))] = rng.choice(OBJECTS)
        text = "\n".join(json.dumps(row) for row in rows)
        if rng.random() < 0.3:
            text = text.replace("words 3 ", rng.choice(['"', "[" * 100_000, "\x00"]), 1)
    elif how == 3:
        blob = bytearray(TABLE.encode())
        for _ in range(rng.randrange(1, 5)):
            blob[rng.randrange(len(blob))] = rng.randrange(256)
        write(place / name, bytes(blob))
        text = ""
    else:
        text = mangled(rng, TABLE)
    if text:
        write(place / name, text)
    write(place / "mine.yaml", yaml.safe_dump(task))
    if wrong or rng.random() < 0.3:
        return Case("tables", tuple(base_run(place, str(place / "mine.yaml"))), wrong)
    return Case("tables", ("validate", str(place / "mine.yaml")))


def predictions_good(place: Path) -> None:
    """The rows of the toy task's first evaluation set, answered."""
    from harness_plugin.data.dataset import load_data
    from harness_plugin.data.task import read_task

    split = load_data(read_task(TOY / "toy.yaml"), "embedded").evaluation[0]
    rows = ["id,label"] + [
        f"{i},{split.labels[k]}" for i, k in zip(split.ids, split.label, strict=True)
    ]
    write(place / "answers.csv", "\n".join(rows) + "\n")
    write(place / "split.txt", split.name)
    write(place / "labels.json", json.dumps(split.labels))


def prediction_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A file of predictions that something is wrong with."""
    base = good.get("predictions", predictions_good)
    text = (base / "answers.csv").read_text(encoding="utf-8")
    split, labels = (base / "split.txt").read_text(), json.loads((base / "labels.json").read_text())
    lines = text.strip().split("\n")
    name, wrong, more = "answers.csv", "", []
    how = rng.randrange(9)
    if how == 0:
        text = mangled(rng, text)
    elif how == 1:
        spot = rng.randrange(1, len(lines))
        change = rng.choice(["gone", "twice", "label", "id"])
        wrong = f"a row: {change}"
        identity, _, _ = lines[spot].partition(",")
        replaced = {"gone": [], "twice": [lines[spot]] * 2, "label": [f"{identity},no such label"],
            "id": [f"nobody,{labels[0]}"]}[change]  # fmt: skip
        text = "\n".join([*lines[:spot], *replaced, *lines[spot + 1 :]])
    elif how == 2:
        name = "answers.jsonl"
        rows = [dict(zip(("id", "label"), line.split(","), strict=True)) for line in lines[1:]]
        spot = rng.randrange(len(rows))
        rows[spot][rng.choice(["id", "label", "logits", "text"])] = rng.choice(OBJECTS)
        text = "\n".join(json.dumps(row) for row in rows)
        if rng.random() < 0.4:
            text = (
                rng.choice(["[" * 100_000, '{"id": ' * 50_000, "\x00" * 9, "3", '"a"'])
                + "\n"
                + text
            )
    elif how == 3:
        name = "answers.csv"
        head = rng.choice(["id,prob_{0},prob_{1}", "id,logit_{0},logit_{1}"]).format(*labels)
        rows = [f"{line.partition(',')[0]},0.25,0.75" for line in lines[1:]]
        spot = rng.randrange(len(rows))
        values = rng.choice(["nan,nan", "inf,0", ",", "x,y", "-1,2", "0.9,0.9", "1e400,0", "0.5"])
        rows[spot] = f"{rows[spot].partition(',')[0]},{values}"
        text = "\n".join([head, *rows])
        wrong = "a probability that is none" if head.startswith("id,prob") else ""
        wrong = wrong or ("a logit that is no number" if values not in ("-1,2", "0.9,0.9") else "")
    elif how == 4:
        name = rng.choice(
            ["answers.parquet", "answers.npy", "answers.json", "answers", "answers.csv.gz"]
        )
    elif how == 5:
        more = [f"--model_name={rng.choice([*VALUES, '..', 'a/b', 'x' * 300, '/'])}"]
    elif how == 6:
        more = [
            "--labels",
            rng.choice(VALUES),
            "--kind",
            rng.choice(["label", "logits", "probabilities"]),
        ]
    elif how == 7:
        blob = bytearray(text.encode())
        for _ in range(rng.randrange(1, 9)):
            blob[rng.randrange(len(blob))] = rng.choice([0, 10, 34, 44, 255, rng.randrange(256)])
        write(place / name, bytes(blob))
        text = ""
    else:
        name = rng.choice(["/dev/zero", "/dev/null", ".", "absent.csv", "/proc/self/mem"])
        wrong = "no file of predictions"
    file = place / name
    if text and wrong != "no file of predictions":
        write(file, text)
    out = ["--output_path", str(place / "out"), "--resamples", "100", "--sets", split]
    argv = ("score", "--tasks", str(TOY / "toy.yaml"), "--predictions", str(file), *out, *more)
    return Case("predictions", argv, wrong)


def results_folder(place: Path) -> None:
    """What `harness score` writes of the toy task's answers."""
    predictions_good(place / "given")
    split = (place / "given" / "split.txt").read_text()
    file = str(place / "given" / "answers.csv")
    argv = ["score", "--tasks", str(TOY / "toy.yaml"), "--predictions", file, "--sets", split]
    argv += ["--teacher_predictions", file, "--output_path", str(place), "--resamples", "100"]
    argv += ["--log_samples"]
    quiet_main(argv)
