"""Scoring and evaluating need the evaluation sets that are asked for, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness_plugin.cli.main import main
from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.roles.checks import answerable
from harness_plugin.records import Predictions, label_spelling
from harness_plugin_tasks.hans.evaluation import HANS_LABELS, HEURISTICS

HEADER = ["gold_label", "sentence1", "sentence2", "pairID", "heuristic", "subcase", "template"]
EACH = 3
"""Pairs of every template."""


def hans_rows():
    for heuristic in HEURISTICS:
        for label in HANS_LABELS:
            for template in ("temp1", "temp2"):
                for _ in range(EACH):
                    yield label, heuristic, f"{heuristic[0]}{label[0]}", template


def hans_folder(folder):
    lines = ["\t".join(HEADER)]
    for i, (label, *rest) in enumerate(hans_rows()):
        lines.append("\t".join([label, "the cook saw us .", "us saw .", f"ex{i}", *rest]))
    (folder / "heuristics_evaluation_set.txt").write_text("\n".join(lines) + "\n")
    return folder


def nli_file(folder, name):
    rows = [
        f"{label}\tthe cook {i} ran\tthe cook {i} {word}\tp{i}"
        for i, (label, word) in enumerate(
            [("entailment", "ran"), ("neutral", "sang"), ("contradiction", "sat")] * 4
        )
    ]
    text = "gold_label\tsentence1\tsentence2\tpairID\n" + "\n".join(rows)
    (folder / f"multinli_1.0_{name}.txt").write_text(text + "\n")


def load(plugins, path, name="hans", **more):
    return load_data(find_task(name, plugins["task"]), "path", path=path, **more)


def test_hans_alone_is_enough_to_evaluate_and_not_to_train(plugins, tmp_path):
    hans_folder(tmp_path)
    data = load(plugins, tmp_path, training=False)
    assert [split.name for split in data.evaluation] == ["hans"]
    assert data.train_groups == {}
    assert any("training rows were not read" in note for note in data.notes)
    with pytest.raises(HarnessError, match="no training rows were loaded"):
        data.train  # noqa: B018
    with pytest.raises(HarnessError, match=r"found none of multinli_1.0_train.jsonl"):
        load(plugins, tmp_path)


def test_training_files_are_not_opened_and_in_domain_sets_are_read_where_they_lie(
    plugins, tmp_path
):
    hans_folder(tmp_path)
    nli_file(tmp_path, "dev_matched")
    (tmp_path / "multinli_1.0_train.txt").write_text("not a table\n")
    data = load(plugins, tmp_path, training=False)
    assert [split.name for split in data.evaluation] == ["id", "hans"]
    (tmp_path / "multinli_1.0_dev_matched.txt").write_text("not a table\n")
    only = load(plugins, tmp_path, training=False, sets=("hans",))
    assert [split.name for split in only.evaluation] == ["hans"]
    with pytest.raises(HarnessError, match="dev_matched"):
        load(plugins, tmp_path, training=False)


def test_sets_choose_among_those_of_a_training_run_too(plugins):
    task = find_task("cad_nli", plugins["task"])
    small = {"n_train": 300, "n_validation": 60, "n_test": 60}
    data = load_data(task, "embedded", options=small, sets=("revised_premise",))
    assert [split.name for split in data.evaluation] == ["revised_premise"]
    assert len(data.train) > 0
    with pytest.raises(HarnessError, match="unknown evaluation set of task cad_nli 'revized_pre"):
        load_data(task, "embedded", options=small, sets=("revized_premise",))


def test_other_nli_tasks_read_no_training_file_either(plugins, tmp_path):
    nli_file(tmp_path, "dev_matched")
    assert load(plugins, tmp_path, "mnli_negation", training=False).evaluation[0].name == "id"
    with pytest.raises(HarnessError, match=r"R1/test.jsonl"):  # no word of multinli_1.0_train
        load(plugins, tmp_path, "anli", training=False)


def test_a_table_of_ones_own_needs_no_training_rows_to_be_scored(plugins, tmp_path):
    rows = [f"text {i},{'yn'[i % 2]},{'ab'[i // 2 % 2]}" for i in range(8)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label,attribute", *rows]))
    file = tmp_path / "mine.yaml"
    file.write_text("task: mine\nbase: csv_groups\ntable: {test: test.csv}\n")
    task = find_task(str(file), plugins["task"])
    data = load_data(task, "own", training=False)
    assert data.evaluation[0].group_counts.tolist() == [2, 2, 2, 2]
    assert set(data.evaluation[0].aligned.tolist()) == {-1}
    with pytest.raises(HarnessError, match="no training rows; found split test"):
        load_data(task, "own")


# ---- the command


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """`harness score` in a process of its own, on a folder with HANS alone."""
    folder = tmp_path_factory.mktemp("scored")
    hans_folder(folder)
    rows = [f"ex{i},{label}" for i, (label, *_) in enumerate(hans_rows())]
    file = folder / "answers.csv"
    file.write_text("\n".join(["pairID,gold_label", *rows]))
    code = (
        "import sys; from harness_plugin.cli.main import main; rc = main(sys.argv[1:]); "
        "print('IMPORTED', *sorted({'torch', 'transformers', 'accelerate', 'evaluate', 'datasets', "
        "'matplotlib', 'httpx', 'scipy.stats'} & {*sys.modules})); sys.exit(rc)"
    )
    words = ["score", "--tasks", "hans", "--predictions", file, "--data", folder]
    words += ["--output_path", folder / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    return folder, done


def test_hans_is_scored_from_its_own_folder_without_slow_imports(scored):
    folder, done = scored
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED"
    (file,) = (folder / "out").glob("transfer_hans_*.json")
    record = json.loads(file.read_text())
    (known,) = record["sets"]
    assert known["name"] == "hans"
    assert known["train_groups"] == {}
    assert known["clustered"] is True


def test_what_needs_training_rows_is_undefined_with_its_reason(scored):
    folder, _ = scored
    (file,) = (folder / "out").glob("transfer_hans_*.json")
    text = file.read_text()
    assert "training rows were not read" in text


# ---- names of labels


@pytest.mark.parametrize(
    "name",
    ["non-entailment", "not_entailment", "Not-Entailment", "non_entailment", "NON entailment"],
)
def test_not_and_non_are_one_spelling(name):
    assert label_spelling(name) == "non-entailment"


def answer(labels, collapse=None, model=("entailment", "not_entailment")):
    n = 4
    return Predictions(
        task="hans",
        split="hans",
        role="student",
        model="m",
        seed=0,
        ids=np.arange(n).astype(str),
        logits=np.eye(len(model), dtype=np.float32)[np.arange(n) % len(model)],
        model_labels=model,
        label=np.zeros(n, np.int64),
        labels=labels,
        group=np.zeros(n, np.int64),
        groups=("g",),
        aligned=np.zeros(n, np.int64),
        collapse=collapse,
    )


def test_two_way_models_answer_hans_and_three_way_models_the_generated_one(plugins):
    assert answer(("entailment", "non-entailment")).targets.tolist() == [0, 1]
    small = {"n_train": 400, "n_validation": 80, "n_id": 200, "n_hans": 60}
    data = load_data(find_task("hans", plugins["task"]), "embedded", options=small)
    three = ("contradiction", "entailment", "neutral")
    for split in data.evaluation:
        p = answer(split.labels, split.collapse, three)
        assert p.targets.tolist() == [1, 0, 1]


def test_run_files_keep_the_sets(tmp_path):
    assert RunConfig(tasks=("hans",), sets=("hans",)).sets == ("hans",)


def test_an_unknown_set_stops_a_run_before_anything(capsys):
    assert main(["--tasks", "hans", "--sets", "hanz", "--output_path", "nowhere"]) == 2
    assert (
        "unknown evaluation set of task hans 'hanz'. Did you mean hans" in capsys.readouterr().err
    )
    assert not Path("nowhere").exists()


def test_a_set_that_a_checkpoint_cannot_answer_is_left_out_with_a_note(plugins, tmp_path):
    """A two-way model, the released HANS, and an in-domain set of three labels."""
    hans_folder(tmp_path)
    nli_file(tmp_path, "dev_matched")
    data = load(plugins, tmp_path, training=False)
    task = SimpleNamespace(task="hans")

    def loaded(labels, *sets):
        ctx = SimpleNamespace(task=task, data=data, config=SimpleNamespace(sets=sets))
        return answerable(ctx, {"teacher": labels, "student": labels[::-1]})

    two = ("not_entailment", "entailment")
    left = loaded(two)
    assert [split.name for split in left.evaluation] == ["hans"]
    (note,) = [note for note in left.notes if note.startswith("set id left out: ")]
    assert "teacher predicts label non-entailment, but set 'id' of task 'hans' has" in note
    three = loaded(("contradiction", "entailment", "neutral"))
    assert [split.name for split in three.evaluation] == ["id", "hans"]
    with pytest.raises(HarnessError, match="set 'id' of task 'hans'"):
        loaded(two, "id")  # it was asked for by name
    with pytest.raises(HarnessError, match="teacher predicts label cat, dog"):
        loaded(("cat", "dog"))
