"""Our text tasks in lm-evaluation-harness 0.4.13: the real evaluator, and the numbers of a run."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip(
    "lm_eval", reason="lm_eval is not installed: pip install 'debias-transfer[lm-eval]'"
)

import lm_eval.caching.cache
from lm_eval.tasks import TaskManager
from lm_eval_runs import SMALL, TASKS, TWO, build, evaluate
from logged import logged

from harness_plugin import HarnessError
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task
from harness_plugin.models import classifiers, processors
from harness_plugin.models.checkpoints import checkpoint_labels
from harness_plugin.records import predictions_of
from harness_plugin.scoring import score
from harness_plugin.store.stages import Store
from harness_plugin.training import predict
from harness_plugin.training.inputs.encode import encode
from harness_plugin_hooks.adapters import lm_eval_metrics as of_items
from harness_plugin_hooks.adapters.lm_eval_model import (
    Alone,
)
from harness_plugin_hooks.adapters.lm_eval_rows import (
    LabelLogProbability,
)
from harness_plugin_hooks.adapters.lm_eval_task import answer
from harness_plugin_hooks.adapters.lm_eval_tasks import folder

pytestmark = pytest.mark.usefixtures("quiet_lm_eval")
OF_TRAINING = "acc_train_weighted"
"""Weighs groups as the training rows have them, which that harness does not see."""


def ours(split, inputs, checkpoint, tmp_path, task="hans"):
    """What a run of ours predicts and scores: metric -> estimate."""
    tokenizer = processors.load_processor(str(checkpoint), "text")
    model = classifiers.load_trained(str(checkpoint), "text", attention="sdpa")
    encoded = encode(split, inputs, tokenizer, Store(tmp_path / "ours"), max_length=128)
    logits = predict.predict(Alone(torch.device("cpu")), model, encoded, batch_size=64)
    predicted = predictions_of(
        split,
        logits,
        task=task,
        role="teacher",
        model="m",
        seed=0,
        model_labels=checkpoint_labels(str(checkpoint)),
    )
    result = score.score_task(
        [predicted],
        task=task,
        source="embedded",
        fingerprint="f",
        train_groups=(),
        train_group_counts=(),
        purposes={split.name: "in_domain"},
        metrics={k: m for k, m in of_items.metrics_of_answers().items() if k != OF_TRAINING},
        collapse_rule=split.collapse_rule,
    )
    (scores,) = result.scores
    return predicted, scores


def same(theirs, ours):
    """Equal but for the rounding of float32 counts; what is undefined is null there."""
    return theirs is None if math.isnan(ours) else theirs == pytest.approx(ours, abs=1e-7)


def test_the_numbers_are_those_of_a_run_to_the_digit(checkpoints, hans, tmp_path):
    result = evaluate(checkpoints["teacher"], batch_size=7)
    row = result["results"]["hans"]
    answers, scores = ours(
        hans.splits["hans"], ("premise", "hypothesis"), checkpoints["teacher"], tmp_path
    )
    assert len(set(answers.predicted.tolist())) == 2
    for name, estimate in scores.metrics.items():
        assert row[f"{name},none"] == estimate.value, name
        assert row[f"{name}_low,none"] == estimate.low, name
        assert row[f"{name}_high,none"] == estimate.high, name
    for name, estimate in scores.groups.items():
        assert row[f"acc_{name},none".replace("/", ":")] == estimate.value, name
    assert 0 < row["worst_group_acc,none"] < row["acc,none"] < 1
    assert row["gap_entailment,none"] != 0
    assert row["acc_stderr,none"] == pytest.approx(
        math.sqrt(row["acc,none"] * (1 - row["acc,none"]) / 599)
    )
    assert result["higher_is_better"]["hans"]["gap_avg_worst_low"] is False
    metadata = result["configs"]["hans"]["metadata"]
    assert metadata["fingerprint"] == hans.splits["hans"].fingerprint
    config = result["config"]
    assert config["model_device"] == "cpu"
    assert config["model_labels"] == list(TWO)
    assert config["model_sha"]
    json.dumps(result["results"], allow_nan=False)
    by_id = {s["doc"]["id"]: s for s in result["samples"]["hans"]}
    for i, name in enumerate(answers.ids.tolist()):
        assert by_id[name]["acc"] == answers.correct[i]
        assert by_id[name]["target"] == answers.labels[answers.label[i]]


def test_groups_that_overlap_give_the_numbers_of_a_run(tmp_path):
    task = find_task("civilcomments", TASKS)
    sizes = {"n_train": 400, "n_validation": 200, "n_id": 400, "n_balanced": 400}
    split = load_data(task, "embedded", options=sizes).splits["balanced"]
    texts = list(processors.texts_of(split, task.inputs))
    checkpoint = build(tmp_path / "model", split.labels, 5, texts)
    options = {f"civilcomments.{name}": value for name, value in sizes.items()}
    row = evaluate(checkpoint, ["civilcomments_balanced"], options)["results"]
    row = row["civilcomments_balanced"]
    _, scores = ours(split, task.inputs, checkpoint, tmp_path, "civilcomments")
    assert len(scores.groups) == 16
    for name, estimate in [
        *scores.metrics.items(),
        *((f"acc_{g}", e) for g, e in scores.groups.items()),
    ]:
        if name != "gap_entailment":
            assert same(row[f"{name},none".replace("/", ":")], estimate.value), name


def test_the_first_choice_counts_only_where_the_rule_says_so():
    p = LabelLogProbability
    results = [(p(math.log(0.4)), True), (p(math.log(0.6)), False)]  # .4 against .3 + .3
    assert answer({"first_choice": True}, results) == 0
    assert answer({"first_choice": False}, results) == 1
    assert answer({"first_choice": True}, [(p(-1.0), True), (p(-0.5), True)]) == 1


def test_real_hans_with_a_head_of_three_labels(checkpoints, real_data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(real_data / "fixtures" / "multi_nli", copy)  # a few training pairs
    lines = (real_data / "hans" / "heuristics_evaluation_set.txt").read_text("utf-8").splitlines()
    part = "\n".join([lines[0], *lines[1::100]])
    (copy / "heuristics_evaluation_set.txt").write_text(part + "\n", encoding="utf-8")
    result = evaluate(checkpoints["three"], metadata={"data": str(copy), "hans.collapse": "sum"})
    split = load_data(
        find_task("hans", TASKS), "path", path=copy, options={"collapse": "sum"}
    ).splits["hans"]
    assert len(split) == 300
    _, scores = ours(split, ("premise", "hypothesis"), checkpoints["three"], tmp_path)
    for name, estimate in scores.metrics.items():
        assert same(result["results"]["hans"][f"{name},none"], estimate.value), name
    assert result["configs"]["hans"]["metadata"]["source"] == "path"
    assert result["configs"]["hans"]["metadata"]["collapse_rule"] == "sum"


def test_cached_requests_belong_to_their_data(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(lm_eval.caching.cache, "PATH", str(tmp_path))
    first = evaluate(checkpoints["teacher"], limit=60, cache_requests=True)
    again = evaluate(checkpoints["teacher"], limit=60, cache_requests=True)
    assert len(list(tmp_path.iterdir())) == 1
    assert again["results"] == first["results"]
    other = {**SMALL, "data_seed": 1}
    fresh = evaluate(checkpoints["teacher"], metadata=other, limit=60, cache_requests=True)
    assert len(list(tmp_path.iterdir())) == 2
    plain = evaluate(checkpoints["teacher"], metadata=other, limit=60)
    assert fresh["results"] == plain["results"]
    arguments = [[s["arguments"][0][0] for s in run["samples"]["hans"]] for run in (fresh, plain)]
    assert arguments[0] == arguments[1]


def test_a_limit_never_empties_a_group(checkpoints):
    result = evaluate(checkpoints["teacher"], limit=6)
    names = {name.replace("/", ":") for name in result["configs"]["hans"]["metadata"]["groups"]}
    groups = {k: v for k, v in result["results"]["hans"].items() if k[4:-5] in names}
    assert len(groups) == 6
    assert set(groups.values()) <= {0.0, 1.0}
    with logged() as messages:
        result = evaluate(checkpoints["teacher"], limit=5)
    row = result["results"]["hans"]
    assert row["worst_group_acc,none"] is None
    assert row["gap_avg_worst_low,none"] is None
    assert row["acc,none"] is not None
    reason = result["configs"]["hans"]["metadata"]["undefined"]["worst_group_acc"]
    assert reason.startswith("no group has rows enough")
    assert f"hans: worst_group_acc is not defined: {reason}" in "".join(messages)
    json.dumps(result["results"], allow_nan=False)


def test_a_rank_without_documents_asks_but_is_not_scored(checkpoints):
    manager = TaskManager(include_path=str(folder()), include_defaults=False, metadata=dict(SMALL))
    task = manager.load("hans")["tasks"]["hans"]
    task.build_all_requests(limit=1, rank=1, world_size=2)
    assert [instance.doc_id for instance in task.instances] == [0, 0]
    assert not list(task.doc_iterator(limit=1, rank=1, world_size=2))


def test_answers_to_padding_are_dropped(checkpoints):
    manager = TaskManager(include_path=str(folder()), include_defaults=False, metadata=dict(SMALL))
    task = manager.load("hans")["tasks"]["hans"]
    task.build_all_requests(limit=1)
    for instance in task.instances:
        instance.resps += [(-1.0, True), (-2.0, False), (-3.0, False)]
    task.apply_filters()
    assert [instance.resps for instance in task.instances] == [[(-1.0, True)]] * 2


def test_a_task_and_a_prompt_of_ones_own(tmp_path, toy_run):
    toy = Path(__file__).parents[1] / "toy" / "toy.yaml"
    (tmp_path / "toy.yaml").write_text(
        "class: !function harness_plugin_hooks.adapters.lm_eval_task.TextTask\ntask: my_toy\n"
        f"dataset_kwargs: {{task: {toy}, set: swapped}}\n"
    )
    result = evaluate(toy_run.checkpoint("teacher"), ["my_toy"], {}, [tmp_path])
    record = toy_run.record()
    (numbers,) = [
        s["metrics"] for s in record["scores"] if (s["role"], s["split"]) == ("teacher", "swapped")
    ]
    for name in ("acc", "worst_group_acc", "gap_avg_worst", "f1"):
        assert result["results"]["my_toy"][f"{name},none"] == numbers[name]["value"], name


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"hans.n_hanss": 3}, "unknown option of task hans 'n_hanss'. Did you mean n_hans"),
        ({"data": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_data_are_named(checkpoints, metadata, message):
    with pytest.raises(HarnessError, match=message):
        evaluate(checkpoints["teacher"], metadata=metadata)
    with pytest.raises(HarnessError, match=r"'hard'\. Known: balanced, id"):
        evaluate(checkpoints["teacher"], ["snli_hard_hard"], metadata={})


def test_predictions_without_metrics(checkpoints):
    result = evaluate(checkpoints["teacher"], limit=12, predict_only=True)
    assert len(result["samples"]["hans"]) == 12
    assert "worst_group_acc,none" not in result["results"]["hans"]
