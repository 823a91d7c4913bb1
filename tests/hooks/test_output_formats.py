"""Files for others: cards, records of the hub, leaderboards, a datastore, one tidy table."""

import csv
import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from finished_reports import STAMP, config
from huggingface_hub import ModelCard, parse_eval_result_entries
from planted import planted
from strict_json import lines, loads, read

from harness_plugin.cli.main import main
from harness_plugin.config.run_config import hub_sets_of
from harness_plugin.data.task import find_task
from harness_plugin.pipeline.outputs import write_outputs
from harness_plugin.scoring.files import transfer_record
from harness_plugin_hooks.outputs import (
    eval_results,
    every_eval_ever,
    lm_eval,
    model_card,
    open_llm,
    table,
)


def test_every_file_is_strict_and_says_that_its_data_are_generated(written_files):
    kinds = set()
    for file in written_files.rglob("*"):
        if file.is_file():
            kinds.add(file.suffix)
            if file.suffix == ".json":
                read(file)
            elif file.suffix == ".jsonl":
                lines(file)
            answers = file.suffix == ".jsonl" or file.name.startswith("predictions_")
            assert answers or file.suffix == ".parquet" or "embedded" in file.read_text()
    assert kinds == {".json", ".jsonl", ".csv", ".parquet", ".md", ".yaml"}


def test_the_outputs_of_a_run_can_be_chosen(embedded_report, plugins, tmp_path):
    write_outputs(
        embedded_report, config(tmp_path, outputs=("table", "transfer", "table")), plugins
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"config_{STAMP}.yaml",
        f"scores_{STAMP}.csv",
        f"scores_{STAMP}.parquet",
        f"transfer_made_{STAMP}.json",
    ]


def test_a_run_writes_few_files_unless_more_are_named(embedded_report, plugins, tmp_path):
    few = write_outputs(embedded_report, config(tmp_path / "few"), plugins)
    assert {path.relative_to(tmp_path / "few").parts[0].split("_")[0] for path in few} == {
        *("config", "transfer", "scores", "models", "predictions")
    }
    models = {path.parent.name for path in few if path.name.startswith("results_")}
    assert len(models) == len(embedded_report.tasks[0].models)
    every = write_outputs(embedded_report, config(tmp_path / "all", outputs=("all",)), plugins)
    assert {path.name for path in few} < {path.name for path in every}


def test_without_samples_nothing_holds_single_answers(embedded_report, plugins, tmp_path):
    quiet = replace(embedded_report, config={**embedded_report.config, "log_samples": False})
    files = write_outputs(quiet, config(tmp_path, outputs=("all",)), plugins)
    assert not [file for file in files if file.suffix == ".jsonl" or "predictions" in file.name]


def test_lines_of_samples_are_the_json_of_what_they_hold():
    """They are put together by hand: quotes, control characters and scripts of every kind."""
    odd = ('say "no"\\n', "tab\t\x00\x7f\x1b", "Zoë 東京 \U0001f600", "\u2028\u2029\x85", "")
    p = planted((1, 1, 1, 1), rows=2)
    texts = [odd[i % len(odd)] for i in range(8)]
    p = replace(
        p,
        texts={
            'pre"mise': pa.chunked_array([texts[:3], texts[3:]]),
            "é": pa.chunked_array([odd + odd[:3]]),
        },
        breakdowns={"light": np.array(texts)},
        members=np.arange(32).reshape(8, 4) % 3 == 0,
    )
    digest, hashes = hashlib.sha256(), ""
    for line in lm_eval.sample_lines(p, digest):
        row = loads(line)
        assert line == json.dumps(row) + "\n"
        indented = json.dumps(row["doc"], indent=2, ensure_ascii=False)
        assert row["doc_hash"] == hashlib.sha256(indented.encode()).hexdigest()
        prompt = {name: row["doc"][name] for name in ("groups", "light", *p.texts)}
        assert {each["arg_0"] for each in row["arguments"].values()} == {json.dumps(prompt)}
        hashes += row["doc_hash"] + row["prompt_hash"] + row["target_hash"]
    assert digest.hexdigest() == hashlib.sha256(hashes.encode()).hexdigest()


def test_a_result_that_cannot_be_written_fails_the_run(toy_run, tmp_path, capsys):
    """And nothing is left half-written, nor under a name that a reader would take for whole."""
    (file,) = toy_run.output.glob("config_*.yaml")
    (tmp_path / "models").touch()  # where a folder is to be made
    command = ["--config", str(file), "--output_path", str(tmp_path), "--outputs", "lm_eval,table"]
    capsys.readouterr()
    assert main([*command, "--use_cache", str(toy_run.store)]) != 0
    error = capsys.readouterr().err
    assert f"{tmp_path}/models" in error
    assert error.count("\n") == 1
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        if file.suffix == ".json":
            read(file)


def test_the_model_card_holds_the_numbers_of_its_model(embedded_report, written_files):
    (scores,) = embedded_report.tasks
    for role, seed in (("student", 2), ("teacher", 0)):
        card = ModelCard.load(
            written_files / f"hub_{STAMP}" / f"made-{role}-seed{seed}" / "README.md"
        )
        assert card.data.model_name == f"made-{role}-seed{seed}"
        results = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
        for split in ("id", "swapped"):
            metrics = scores.of(role, split).metrics
            assert results.pop((split, "accuracy")) == metrics["acc"].seeds[seed]
            for name, estimate in metrics.items():
                if name != "acc" and not math.isnan(estimate.seeds[seed]):
                    assert results.pop((split, name)) == estimate.seeds[seed]
        assert results == {}
        for result in card.data.eval_results:
            assert "embedded data" in result.dataset_name
            assert "embedded data" in result.metric_name
            assert result.dataset_type == "made-embedded-data"
        assert "numbers are of embedded data" in card.text
        assert "| gap_entailment | undefined: the labels are not" in card.text
        low, high = scores.of(role, "id").metrics["acc"].intervals[seed]
        assert f"| {low:.4f} to {high:.4f} | 160 |" in card.text


def test_cards_of_hub_data_name_the_data_set(hub_report, tmp_path):
    file = model_card.write(hub_report, tmp_path)[0]
    data = ModelCard.load(file).data
    assert data.datasets == ["org/pairs"]
    sets = {(r.dataset_type, r.dataset_config, r.dataset_split) for r in data.eval_results}
    assert sets == {("org/pairs", None, "validation_matched"), ("org/pairs", "other", "test")}
    assert "embedded" not in file.read_text()


def test_the_hub_s_records_are_read_back(hub_report, tmp_path):
    files = eval_results.write(hub_report, tmp_path)
    assert len(files) == 15
    assert files[0].relative_to(tmp_path).parts[2:] == (".eval_results", "made.yaml")
    (scores,) = hub_report.tasks
    entries = parse_eval_result_entries(yaml.safe_load(files[0].read_text()))
    result = {(entry.dataset_id, entry.task_id): entry.value for entry in entries}
    assert len(result) == len(entries)
    teacher = scores.of("teacher", "swapped").metrics
    assert (
        result["org/pairs", "made_swapped_worst_group_acc"] == teacher["worst_group_acc"].seeds[0]
    )
    assert ("org/pairs", "made_id_gap_entailment") not in result
    assert {entry.date for entry in entries} == {"1970-01-01T00:00:00Z"}
    assert all("95% interval" in entry.notes for entry in entries)


def test_other_data_than_the_hub_s_whole_sets_have_no_record_there(
    embedded_report, tmp_path, plugins
):
    assert eval_results.write(embedded_report, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    task = find_task("hans", plugins["task"])
    defaults = {name: option.default for name, option in task.options.items()}
    assert set(hub_sets_of(task, defaults, "hub", config(tmp_path))) == {
        "id",
        "id_mismatched",
        "hans",
    }
    assert hub_sets_of(task, defaults, "path", config(tmp_path)) == {}
    assert hub_sets_of(task, defaults, "hub", config(tmp_path, limit=50)) == {}
    assert hub_sets_of(task, {**defaults, "collapse": "sum"}, "hub", config(tmp_path)) == {}


def test_the_table_holds_every_number_of_the_run(embedded_report, written_files):
    rows = pq.read_table(written_files / f"scores_{STAMP}.parquet").to_pylist()
    with (written_files / f"scores_{STAMP}.csv").open(newline="") as stream:
        plain = list(csv.DictReader(stream))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == plain
    keys = ("split", "subset", "role", "metric", "measure")
    means = {tuple(row[k] for k in keys): row for row in rows if row["seed"] is None}
    assert len(means) == sum(row["seed"] is None for row in rows)
    record = transfer_record.record_of(embedded_report, embedded_report.tasks[0])
    expected = {}
    for s in record.scores:
        subsets = {"": s.metrics, **{f"group={g}": {"acc": x} for g, x in s.groups.items()}}
        for name, values in s.breakdowns.items():
            subsets |= {f"{name}={value}": metrics for value, metrics in values.items()}
        expected |= {
            (s.split, subset, s.role, metric, "score"): number
            for subset, metrics in subsets.items()
            for metric, number in metrics.items()
        }
    expected |= {
        (t.split, t.subset, t.student, t.metric, t.measure): t.number for t in record.transfer
    }
    assert set(means) == set(expected)
    for key, number in expected.items():
        row = means[key]
        for column in ("value", "low", "high", "sd", "n", "reason"):
            assert row[column] == getattr(number, column)
        assert (row["source"], row["seeds"]) == ("embedded", 3)
        of_seeds = [r["value"] for r in rows if r["seed"] is not None and key == tuple_of(r, keys)]
        assert of_seeds == number.seeds


def tuple_of(row, keys):
    return tuple(row[key] for key in keys)


def scanned(folder):
    """(model_name, sha, dtype, numbers) of every model that a leaderboard's scan would find."""
    for root, _, names in os.walk(folder):
        if not names or any(not name.endswith(".json") for name in names):
            continue
        for name in names:
            result = read(Path(root) / name)
            settings = result["config"]
            yield (
                settings["model_name"],
                settings["model_sha"],
                settings["model_dtype"],
                {(task, m): v for task, row in result["results"].items() for m, v in row.items()},
            )


def test_a_scan_for_results_finds_every_model_even_beside_samples(
    embedded_report, written_files, tmp_path
):
    result = list(scanned(written_files / f"open_llm_{STAMP}"))
    assert len(result) == 15
    (scores,) = embedded_report.tasks
    for name, sha, dtype, numbers in result:
        _, role, seed = name.split("-")
        expected = scores.of(role, "id").metrics["acc"].seeds[int(seed[-1])]
        assert numbers["made_id", "acc,none"] == expected
        assert (sha, dtype) == ("s", "float32")
    # samples lie beside results where that harness puts them, which hides the model from a scan
    assert list(scanned(written_files / "made-student-seed0")) == []
    quiet = replace(embedded_report, config={**embedded_report.config, "log_samples": False})
    assert all(list(scanned(file.parent)) for file in lm_eval.write(quiet, tmp_path))


def test_checkpoints_of_one_name_have_files_of_their_own(hub_report, tmp_path):
    (scores,) = hub_report.tasks
    same = tuple(replace(model, name="org/final") for model in scores.models)
    report = replace(hub_report, tasks=(replace(scores, models=same),))
    for output in (model_card, eval_results, open_llm, every_eval_ever):
        files = output.write(report, tmp_path / output.__name__)
        assert len(set(files)) == len(files)
        assert all(file.is_file() for file in files)
    names = {file.name for file in table.write(report, tmp_path)}
    assert names == {f"scores_{STAMP}.csv", f"scores_{STAMP}.parquet"}
