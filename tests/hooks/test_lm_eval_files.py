"""The task files for lm_eval: which there are, what they say, how their numbers are aggregated."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "lm_eval", reason="lm_eval is not installed: pip install 'debias-transfer[lm-eval]'"
)

import lm_eval.caching.cache
from lm_eval.api.registry import (
    get_aggregation,
    get_metric,
    get_metric_aggregation,
    is_higher_better,
)
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from logged import logged

from harness_plugin import HarnessError
from harness_plugin.data.dataset import make_split
from harness_plugin.data.task import find_task
from harness_plugin.plugins.registry import Offer, load_plugins
from harness_plugin_hooks.adapters import lm_eval_metrics as of_items
from harness_plugin_hooks.adapters import lm_eval_tasks
from harness_plugin_hooks.adapters.checkpoints import instruction
from harness_plugin_hooks.adapters.lm_eval_filter import CollapseLabels
from harness_plugin_hooks.adapters.lm_eval_model import (
    interleaved,
)
from harness_plugin_hooks.adapters.lm_eval_rows import (
    LabelLogProbability,
    documents,
    spread,
)
from harness_plugin_hooks.adapters.lm_eval_task import TextTask, answer
from harness_plugin_hooks.adapters.lm_eval_tasks import folder

pytestmark = pytest.mark.usefixtures("lm_eval_files")

TASKS = load_plugins()["task"]
EXAMPLES = Path(__file__).parents[2] / "examples"
TWO, THREE = ("entailment", "non-entailment"), ("entailment", "neutral", "contradiction")


def described():
    """Which set of which task each file is about."""
    return {
        file: load_yaml(file, resolve_func=False)["dataset_kwargs"]
        for file in sorted(folder().glob("*.yaml"))
    }


def test_every_evaluation_set_of_every_text_task_has_a_file():
    there = {}
    for file, of in described().items():
        there.setdefault(of["task"], set()).add(of["set"])
        name = of["set"] if of["set"] == of["task"] else f"{of['task']}_{of['set']}"
        assert file.stem in (name, f"debias_{name}")
    assert len(described()) == 2 * sum(map(len, there.values()))
    texts = [task for offer in TASKS if (task := find_task(offer.name, TASKS)).modality == "text"]
    assert set(there) == {task.task for task in texts if "own" not in task.sources}
    assert sum(map(len, there.values())) == 52
    assert there["fever_symmetric"] >= {"id", "symmetric", "symmetric_v2_test"}
    for task in texts:
        if isinstance(task.primary_gap, dict) and task.task in there:
            assert set(task.primary_gap) <= there[task.task]


def test_every_file_names_its_task_and_version():
    for file, of in described().items():
        config = load_yaml(file, resolve_func=True)
        assert config["task"] == file.stem
        assert config["class"] is TextTask
        assert config["metadata"]["version"] == find_task(of["task"], TASKS).version


def test_the_files_are_made_once_and_again_when_a_task_has_changed(monkeypatch):
    before = folder()
    assert folder() == before
    registry = load_plugins()
    del registry["task"].offers["hans"]
    monkeypatch.setattr(lm_eval_tasks, "load_plugins", lambda: registry)
    assert not {"hans.yaml", "hans_id.yaml"} & {file.name for file in folder().iterdir()}
    assert folder() != before


def test_a_text_task_of_a_plugin_needs_no_second_list(monkeypatch):
    registry, example = load_plugins(), EXAMPLES / "third_party_plugin"
    monkeypatch.syspath_prepend(str(example))
    registry["task"].offers.clear()
    registry["task"].add(
        Offer("task", "reviews", "harness_reviews:reviews.yaml", "of a plugin", "reviews")
    )
    monkeypatch.setattr(lm_eval_tasks, "load_plugins", lambda: registry)
    assert {"reviews_id.yaml", "reviews_balanced.yaml"} <= {f.name for f in folder().iterdir()}


def test_no_name_is_one_of_theirs():
    taken = set()
    for file in Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"):
        head = file.read_bytes()[:2000].decode("utf-8", "replace")
        taken |= set(re.findall(r"^(?:task|group|tag): *[\"']?([\w-]+)", head, re.M))
        taken |= set(re.findall(r"^ *- ([\w-]+)$", head, re.M))
    assert "hellaswag" in taken
    assert "anli" in taken
    known = TaskManager(include_path=str(folder()), include_defaults=False)
    assert not taken & set(known.all_tasks)
    assert {"debias_hans", "hans", "debias_hans_id", "debias_hans_sets"} <= set(known.all_tasks)


def test_every_generated_set_loads_and_opens_with_every_group():
    few = {f"{of['task']}.n_train": 600 for of in described().values()}
    known = TaskManager(include_path=str(folder()), include_defaults=False, metadata=few)
    for name, task in known.load("debias")["tasks"].items():
        assert name.startswith("debias_")  # a set stands in a tag once, not with its short name too
        docs, groups = task.eval_docs, task.facts.groups
        combinations = len(np.unique(task.split.membership, axis=0))
        first = docs[:combinations]
        assert {group for row in first["groups"] for group in row} == set(groups), name
        assert sorted(docs["id"]) == sorted(task.split.ids.tolist())
        assert task.config.metadata["source"] == "embedded"
        assert task.config.metadata["undefined"] == {}
        assert find_task(task.facts.task, TASKS).version == task.VERSION
        assert set(task.aggregation()) == set(task.higher_is_better())
        listed = [metric["metric"] for metric in task.config.metric_list]
        assert listed[0] == "acc"  # readers take the first one for "is correct"
        metrics = of_items.metrics_of_answers()
        for metric in listed:
            for part in ("", "_low", "_high"):
                better = task.higher_is_better()[f"{metric}{part}"]
                assert better is metrics[metric].higher_is_better
        assert ("gap_entailment" in listed) == (task.facts.labels == TWO), name
        assert {"f1", "worst_group_acc", "gap_avg_worst"} <= set(listed)


def test_a_model_that_writes_is_asked_in_words_and_judged_by_the_character():
    """lm-eval's acc_norm: log-likelihoods by characters; those of a classifier as they are."""
    doc = {"labels": ["entailment", "non-entailment"], "first_choice": False}
    shorter, longer = -10.0, -11.0
    assert answer(doc, [(shorter, False), (longer, False)]) == 1  # -1.0 < -11 / 14
    of_labels = [(LabelLogProbability(score), False) for score in (shorter, longer)]
    assert answer(doc, of_labels) == 0
    assert instruction(("premise", "hypothesis"), ("a", "b"), TWO) == (
        "premise: a\nhypothesis: b\n\nWhich label is right: entailment, non-entailment? "
        "Answer with the label alone."
    )


def test_every_beginning_of_the_documents_holds_every_group():
    names = ["rare"] * 3 + ["common"] * 90 + ["none"] * 7
    split = make_split(
        "s",
        purpose="ood",
        inputs={"text": [str(i) for i in range(100)]},
        ids=[str(i) for i in range(100)],
        label_texts=["x"] * 100,
        labels=("x",),
        group_texts=[name if name != "none" else "" for name in names],
        groups=("common", "rare"),
    )
    order = spread(split, 0)
    assert sorted(order.tolist()) == list(range(100))
    for size in range(3, 101):
        there = [names[i] for i in order[:size]]
        assert set(there) == {"rare", "common", "none"}
        assert abs(there.count("common") - 0.9 * size) <= 3
    assert not np.array_equal(order, spread(split, 1))
    assert documents(split, ["text"], 0)["groups"][0] in ([], ["rare"], ["common"])


def of_metric(name, items):
    """What the registered aggregation of that harness gives."""
    assert get_metric(f"debias_{name}")(items[0]) is items[0]
    assert get_metric_aggregation(f"debias_{name}") is get_aggregation(f"debias_{name}")
    better = of_items.metrics_of_answers()[name].higher_is_better
    assert is_higher_better(f"debias_{name}") is better
    return get_aggregation(f"debias_{name}")(items)


def test_groups_at_0_and_1_have_a_worst_of_0():
    items = [("x", "x", ["a"], 1)] * 270 + [("y", "x", ["b"], 0)] * 30
    assert of_metric("worst_group_acc", items) == 0.0
    assert of_metric("gap_avg_worst", items) == pytest.approx(0.9)
    assert of_metric("gap_aligned_conflicting", items) == 1.0


def test_aggregations_by_hand_and_by_name():
    names = ["entailment", "non-entailment"]
    items = [
        (names[s], names[g], [group], -1)
        for s, g, group in [(0, 0, "p"), (0, 1, "p"), (1, 1, "q"), (0, 0, "q"), (0, 1, "q")]
    ]
    with logged() as messages:
        assert of_metric("worst_group_acc", items) is None
    assert "no group has rows enough to steer a minimum, the largest has 3" in "".join(messages)
    items *= 40  # p: 40 of 80 right, q: 80 of 120; the lower one, corrected for being looked for
    assert 0.5 <= of_metric("worst_group_acc", items) < 0.52
    assert of_metric("gap_entailment", items) == pytest.approx(1 - 1 / 3)
    assert of_metric("f1", items) == pytest.approx(2 * 2 / (2 + 4))
    both = [(0, 0, ["p", "q"], -1), (1, 0, ["q"], -1)] * 30
    assert of_metric("worst_group_acc", both) == pytest.approx(0.5)
    with logged() as messages:
        assert of_metric("gap_aligned_conflicting", items) is None
    assert "gap_aligned_conflicting is not defined: no bias-aligned row" in "".join(messages)
    assert of_items.group_acc([1.0, None, 0.0]) == 0.5
    assert of_items.group_acc([None]) is None


def test_what_ranks_hold_is_merged_into_document_order():
    ranks = [{"hans": {"acc": [0, 2, 4]}}, {"hans": {"acc": [1, 3]}}, {"hans": {}}]
    assert interleaved(ranks) == {"hans": {"acc": [0, 1, 2, 3, 4]}}
    assert interleaved([{"hans": [0]}, {"hans": []}]) == {"hans": [0]}


def test_the_filter_reads_written_labels():
    filter_ = CollapseLabels(
        {"entailment": "entailment", "neutral": "non-entailment", "contradiction": "non-entailment"}
    )
    answers = [[" Neutral."], ["**Contradiction**, because"], ["entailment"], ["Perhaps"]]
    assert filter_.apply(answers, [{}] * 4) == [
        ["non-entailment"],
        ["non-entailment"],
        ["entailment"],
        ["Perhaps"],
    ]
    with pytest.raises(HarnessError, match="needs `collapse"):
        CollapseLabels()
