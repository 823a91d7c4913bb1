"""Predictions made elsewhere: every format gives the run's own numbers, every mistake is named."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from harness_plugin import HarnessError
from harness_plugin.cli import main as cli
from harness_plugin.config.merge import run_config
from harness_plugin.data.dataset import make_split
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin.scoring.files import prediction_files
from harness_plugin.scoring.files.prediction_files import covered, read_answers, read_table

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")


@pytest.fixture(scope="module")
def rows(toy_run):
    """The student's answers of the toy run: id -> (label, probability of each label)."""
    result = {}
    for file in toy_run.output.glob("models/toy-student-*/samples_*.jsonl"):
        for line in file.read_text().splitlines():
            sample = json.loads(line)
            log_probs, answers = zip(*sample["filtered_resps"], strict=True)
            answer = ("negative", "positive")[answers.index("True")]
            result[sample["doc"]["id"]] = (answer, np.exp(np.array(log_probs, float)))
    order = np.random.default_rng(0).permutation(sorted(result))
    return {str(key): result[str(key)] for key in order}


def write(folder, rows, form):
    """The file of one format."""
    ids = list(rows)
    answers = [label for label, _ in rows.values()]
    negative, positive = np.array([p for _, p in rows.values()]).T
    file = folder / f"answers.{form.partition(' ')[0]}"
    if form == "csv label":
        lines = ["pairID,gold_label", *map(",".join, zip(ids, answers, strict=True))]
        file.write_text("\n".join(lines))
    elif form == "tsv probabilities":  # columns named like the labels, in the other order
        lines = ["id\tPositive\tNegative"]
        lines += [f"{i}\t{b}\t{a}" for i, a, b in zip(ids, negative, positive, strict=True)]
        file.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    elif form == "jsonl logits":
        values = [
            {"id": i, "logits": {"positive": np.log(b), "negative": np.log(a)}}
            for i, a, b in zip(ids, negative, positive, strict=True)
        ]
        file.write_text("\n".join(map(json.dumps, values)))
    else:
        pairs = [[b, a] for a, b in zip(negative, positive, strict=True)]
        parquet.write_table(pa.table({"id": ids, "probabilities": pairs}), file)
    return str(file)


FORMS = {
    "csv label": [],
    "tsv probabilities": ["--kind", "probabilities"],
    "jsonl logits": [],
    "parquet probabilities": ["--labels", "positive,negative"],
}
OF_PROBABILITIES = ("ece", "subgroup_auc", "bpsn_auc", "bnsp_auc")


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_numbers_of_the_run(rows, toy_run, tmp_path, form):
    file = write(tmp_path, rows, form)
    words = ["score", "--tasks", TOY, "--predictions", file, "--model_name", "org/mine"]
    words += ["--output_path", str(tmp_path / "out"), "--resamples", "100", *FORMS[form]]
    assert cli.main([*words, "--log_samples"]) == 0
    (scored,) = (tmp_path / "out").glob("models/org__mine/results_*.json")
    (trained,) = toy_run.output.glob("models/toy-student-*/results_*.json")
    ours, theirs = (json.loads(path.read_text())["results"] for path in (scored, trained))
    for name, result in theirs.items():
        for metric, value in result.items():
            mine = ours[name][metric]
            if metric.startswith(OF_PROBABILITIES) and "label" in form:
                value = "N/A" if "stderr" in metric else None
            if not isinstance(value, float):
                assert mine == value, metric
                continue
            assert mine == pytest.approx(value, abs=1e-4), metric
    (record,) = (tmp_path / "out").glob("transfer_toy_*.json")
    record = json.loads(record.read_text())
    assert record["fingerprint"] == toy_run.record()["fingerprint"]
    assert [m["method"] for m in record["models"]] == ["predictions"]
    assert record["config"]["predictions"]["student"][0]["file"] == Path(file).name
    (samples,) = (tmp_path / "out").glob("models/org__mine/samples_toy_swapped_*.jsonl")
    assert len(samples.read_text().splitlines()) == 100


def test_answers_are_written_again_where_they_are_asked_for(rows, tmp_path):
    file = write(tmp_path, rows, "csv label")
    words = ["score", "--tasks", TOY, "--predictions", file, "--resamples", "100"]
    assert cli.main([*words, "--output_path", str(tmp_path / "few")]) == 0
    assert cli.main([*words, "--output_path", str(tmp_path / "all"), "--log_samples"]) == 0
    few, every = (
        {file.name.split("_")[0] for file in (tmp_path / name).rglob("*.*")}
        for name in ("few", "all")
    )
    assert every - few == {"predictions", "samples"}


def test_students_and_teachers_made_elsewhere_are_compared_seed_by_seed(rows, tmp_path, capsys):
    file = write(tmp_path, rows, "csv label")
    thirds = ("negative", "negative", "positive")
    wrong = {key: (thirds[i % 3], p) for i, (key, (_, p)) in enumerate(rows.items())}
    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b", wrong, "csv label")
    words = ["score", "--tasks", TOY, "--output_path", str(tmp_path / "out"), "--resamples", "100"]
    words += ["--predictions", file] * 1 + ["--predictions", other]
    words += ["--teacher_predictions", file, "--teacher_predictions", file]
    assert cli.main(words) == 0
    (record,) = (tmp_path / "out").glob("transfer_toy_*.json")
    record = json.loads(record.read_text())
    assert record["seeds"] == [0, 1]
    (change,) = [
        t["number"]
        for t in record["transfer"]
        if (t["split"], t["subset"], t["metric"], t["measure"])
        == ("swapped", "", "acc", "distillability")
    ]
    assert change["seeds"][0] == 0
    assert change["seeds"][1] != 0
    assert any("groups of swapped have under 30 rows" in note for note in record["notes"])
    assert cli.main([*words, "--control_predictions", file]) == 2
    assert "--control_predictions names 1 files, --predictions 2" in capsys.readouterr().err


LABELS = ("entailment", "non-entailment")
COLLAPSE = {"entailment": "entailment"} | dict.fromkeys(
    ("neutral", "contradiction"), "non-entailment"
)


@pytest.fixture
def splits():
    def one(name, ids, **more):
        texts = [LABELS[i % 2] for i in range(len(ids))]
        return make_split(
            name,
            purpose="ood",
            inputs={"text": ids},
            ids=ids,
            label_texts=texts,
            labels=LABELS,
            group_texts=texts,
            groups=LABELS,
            **more,
        )

    return [one("hans", ["ex0", "ex1", "ex2", "ex3"], collapse=COLLAPSE), one("id", ["a", "b"])]


def text_file(folder, text, name="p.csv"):
    file = folder / name
    file.write_text(text)
    return file


def join(answers, split):
    return answers.joined(split, task="t", role="student", model="m", seed=0)


def test_three_way_labels_in_any_order_collapse(splits, tmp_path):
    file = text_file(
        tmp_path,
        "pairID,gold_label\nex3,contradiction\nex1,neutral\nex0,Entailment\nex2,neutral\n",
        "heuristics.txt",
    )
    result = join(read_answers(file, splits), splits[0])
    assert result.correct.tolist() == [True, True, False, True]
    assert result.labels_only
    assert [split.name for split in covered(read_answers(file, splits), splits)] == ["hans"]


def test_a_label_the_set_has_no_place_for_is_refused(splits, tmp_path):
    from dataclasses import replace

    three = replace(
        splits[0], collapse=None, labels=("entailment", "neutral", "contradiction"), name="three"
    )
    other = replace(three.select([0, 1]), labels=LABELS, collapse_rule="restrict", name="two")
    wide = [replace(other, labels=three.labels[:2]), replace(three.select([2, 3]))]
    file = text_file(tmp_path, "id,label\nex0,entailment\nex1,contradiction\nex2,neutral\n")
    with pytest.raises(HarnessError, match=r"1 rows of set 'two' have a label that the set lacks"):
        join(read_answers(file, wide), wide[0])


BAD = {
    "id,label\nex0,entailment\nex0,neutral\nex9,neutral\n": r"1 ids are doubled \(ex0\); 1 ids are "
    r"unknown \(ex9\). The sets are hans \(ex0 …\), id \(a …\).",
    "id,label\nex0,entailmnt\n": "unknown label in 1 rows of .*, first for id ex0 'entailmnt'. Did",
    "id,label,gold_label\nex0,neutral,neutral\n": "gold_label and label are both there",
    "name,label\nex0,neutral\n": r"expected one column of ids \(pairID or id\), there is none; the",
    "id,answer\nex0,neutral\n": "no answers; expected a column gold_label or label or prediction",
    "id,entailment,non-entailment\nex0,.5,.5\n": "may hold probabilities or logits; say which",
    "id,label\n": "no rows",
    "id,label\nex0\n": "cannot be read",
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_a_bad_file_is_named_with_counts_and_examples(splits, tmp_path, text, message):
    with pytest.raises(HarnessError, match=message):
        read_answers(text_file(tmp_path, text), splits)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "ex0,.5,.4",
            r"1 rows are no probabilities, first .* id ex0 \(0.5, 0.4, of sum 0.9\)",
        ),
        ("ex0,1.5,-.5", "are no probabilities"),
        ("ex0,.5,nan", "row 1: non-entailment is 'nan', expected a number"),
        ("ex0,.5,much", "row 1: non-entailment is 'much', expected a number"),
    ],
)
def test_bad_probabilities_are_named(splits, tmp_path, rows, message):
    file = text_file(tmp_path, f"id,entailment,non-entailment\n{rows}\n")
    with pytest.raises(HarnessError, match=message):
        read_answers(file, splits, kind="probabilities")


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        ({"logits": [1, 2]}, {}, "entries of column logits have no names; give them in order"),
        ({"logits": [1, 2]}, {"labels": ("a", "b")}, "labels a, b; the task has entailment, non-"),
        ({"logits": [1, 2, 3]}, {"labels": LABELS}, "row 1: logits has 3 entries, --labels 2"),
        ({"logits": 1}, {}, "column logits holds int64, expected lists"),
        ({"logits": {"yes": 1, "no": 2}}, {}, "labels yes, no; the task has"),
        ({"logits": {"entailment": 1.0}}, {}, "labels entailment; the task has"),
        ({"label": "neutral", "logits": [1, 2]}, {}, "may hold label or logits; say which"),
        ({"label": "neutral"}, {"kind": "logits"}, "no logits; the columns are id, label"),
    ],
)
def test_bad_columns_are_named(splits, tmp_path, row, more, message):
    file = text_file(tmp_path, json.dumps({"id": "ex0", **row}) + "\n", "p.jsonl")
    with pytest.raises(HarnessError, match=message):
        read_answers(file, splits, **more)


WIDE = {
    "p.jsonl": "{" + ",".join(f'"k{i}" :1' for i in range(20_000)) + "}\n",
    "q.jsonl": "".join(f'{{"k{i}":1}}\n' for i in range(5_000)),
    "p.csv": ",".join(f"k{i}" for i in range(20_000)) + "\n",
    "p.tsv": "\t".join(f"k{i}" for i in range(20_000)) + "\n",
}


@pytest.mark.parametrize("name", [*WIDE, "p.parquet"])
def test_files_that_would_fill_the_memory_are_not_read(splits, tmp_path, name):
    file = tmp_path / name
    if name == "p.parquet":
        nothing = pa.nulls(5000, pa.string())
        parquet.write_table(pa.table({f"k{i}": nothing for i in range(900)}), file)
    else:
        file.write_text(WIDE[name])
    before = pa.total_allocated_bytes()
    with pytest.raises(HarnessError, match=r"columns or keys are (more than|[\d,]+ cells)"):
        read_table(file, 10_000)
    assert pa.total_allocated_bytes() - before < 1 << 20


@pytest.mark.parametrize("few", [0, prediction_files.FEW_KEYS])
def test_lines_may_lack_keys_and_are_read_in_blocks(tmp_path, monkeypatch, few):
    monkeypatch.setattr(prediction_files, "FEW_KEYS", few)
    rows = [{"id": f"ex{i}", "logits": [i, 0.5]} for i in range(50)] + [{"id": "a", "label": 'b":'}]
    file = text_file(tmp_path, "".join(json.dumps(row) + "\n" for row in rows) + "\n", "p.jsonl")
    whole = read_table(file, 100)
    monkeypatch.setattr(prediction_files, "BLOCK", 100)
    assert read_table(file, 100).equals(whole)
    assert whole.column("label").to_pylist()[-2:] == [None, 'b":']
    file.write_text(file.read_text() + "{")
    with pytest.raises(HarnessError, match=r"p\.jsonl: from line 5\d: JSON parse error"):
        read_table(file, 100)


def test_a_set_is_scored_whole_and_files_are_of_known_kinds(splits, tmp_path):
    file = text_file(tmp_path, "id,label\nex0,neutral\nex3,neutral\na,entailment\n")
    answers = read_answers(file, splits)
    with pytest.raises(HarnessError, match=r"2 of the 4 ids of set 'hans' are missing \(ex1, ex2"):
        join(answers, splits[0])
    with pytest.raises(HarnessError, match=r"expected a file that ends in \.csv, \.tsv"):
        read_answers(tmp_path / "p.pkl", splits)
    with pytest.raises(HarnessError, match=r"none.csv: cannot be read"):
        read_answers(tmp_path / "none.csv", splits)
    twice = [splits[0], splits[0].select([0, 1])]
    with pytest.raises(HarnessError, match=r"2 ids stand in several sets \(ex0, .*--sets hans"):
        read_answers(text_file(tmp_path, "id,label\nex0,neutral\nex1,neutral\n"), twice)


def test_an_unknown_set_is_refused(rows, tmp_path, capsys):
    file = write(tmp_path, rows, "csv label")
    words = ["score", "--tasks", TOY, "--predictions", file, "--sets", "swaped"]
    assert cli.main([*words, "--output_path", str(tmp_path / "out")]) == 2
    assert (
        "unknown evaluation set of task toy 'swaped'. Did you mean swapped"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_a_shuffled_hans_submission_scores_as_its_rule_says(real_data, plugins, tmp_path):
    """One label for everything: all right on entailment, all wrong elsewhere."""
    config = run_config(
        ROOT / "examples" / "real_nli.yaml", {"data": str(real_data), "tasks": ("hans",)}, ()
    )
    ((_, _, data),) = load_tasks(config, plugins)
    hans = next(split for split in data.evaluation if split.name == "hans")
    ids = np.random.default_rng(0).permutation(hans.ids)
    lines = ["pairID,gold_label", *(f"{i},entailment" for i in ids)]
    result = join(read_answers(text_file(tmp_path, "\n".join(lines)), [hans]), hans)
    assert len(result) == 30_000
    assert np.array_equal(result.correct, hans.label == hans.labels.index("entailment"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("..", "'..'"), ("a/..", "'a/..'"), ("a/b/c", "'a/b/c'"), ("", "''"), ("x" * 300, "300 char")],
)
def test_a_name_that_no_folder_can_have_is_refused(name, shown, tmp_path, capsys):
    words = ["score", "--tasks", TOY, "--predictions", str(tmp_path / "p.csv")]
    out = tmp_path / "deep" / "out"
    assert cli.main([*words, f"--model_name={name}", "--output_path", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: error: --model_name ")
    assert shown in error
    assert error.count("\n") == 1
    assert not (tmp_path / "deep").exists()


def test_few_bytes_that_stand_for_millions_of_rows_are_refused_unread(
    splits, tmp_path, monkeypatch
):
    many, file = 2_000_000, tmp_path / "p.parquet"
    once = pa.DictionaryArray.from_arrays(pa.array(np.zeros(many, np.int32)), pa.array(["x" * 999]))
    parquet.write_table(pa.table({"id": once, "label": once}), file)
    assert file.stat().st_size < 1_000_000
    monkeypatch.setattr(parquet, "read_table", None)
    with pytest.raises(HarnessError, match="2,000,000 rows are more than twice those of the sets"):
        read_answers(file, splits)


def test_an_id_far_longer_than_those_of_the_sets_is_named_by_its_row(splits, tmp_path):
    file = text_file(tmp_path, f"id,label\nex0,entailment\n{'x' * 100_000},neutral\n", "p.csv")
    with pytest.raises(HarnessError, match=r"the id of row 2 has 100,000 characters") as refused:
        read_answers(file, splits)
    assert len(str(refused.value)) < 300
