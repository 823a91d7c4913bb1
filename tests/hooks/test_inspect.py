"""inspect_ai: our tasks, metrics and checkpoints in it give the numbers of a run, offline."""

import asyncio
import gc
import importlib
import json
import socket
from pathlib import Path

import numpy as np
import pytest
from inspect_ai import Task, eval
from inspect_ai._util.registry import registry_info, registry_lookup
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageUser, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import SampleScore, Score
from inspect_ai.solver import generate
from strict_json import read

from harness_plugin import HarnessError
from harness_plugin.data.task import find_task
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_hooks.adapters import (
    checkpoints,
    inspect_registry,
    inspect_scoring,
)

# inspect_ai's own: a parameter of tenacity that has another name now, streams it leaves to the
# garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")


@pytest.fixture(scope="module", autouse=True)
def _isolated_inspect(tmp_path_factory):
    """inspect_ai's traces stay out of the user's folders; nothing reaches the network."""

    def connect(self, address):
        assert self.family == socket.AF_UNIX, f"connects to {address}"
        return plain(self, address)

    plain = socket.socket.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp("home")))
        yield


def run(task, folder, model, **more):
    """The log of one evaluation, written as JSON and read back."""
    options = {"log_format": "json", "display": "none", **more}
    (log,) = eval(task, model=model, log_dir=str(folder), **options)
    gc.collect()  # while what is collected may warn
    (file,) = folder.glob("*.json")
    assert log.status == "success", log.error
    return read_eval_log(str(file)), file


def numbers(log):
    (score,) = log.results.scores
    return {name: metric.value for name, metric in score.metrics.items()}


@pytest.fixture(scope="module")
def toy_log(toy_run, tmp_path_factory):
    task = registry_lookup("task", "harness_plugin/task_file")(file=TOY, resamples=100)
    model = get_model(f"seqcls/{toy_run.checkpoint('teacher')}", max_length=16, memoize=False)
    return run(task, tmp_path_factory.mktemp("log"), model)


def test_the_numbers_are_those_of_the_run(toy_run, toy_log):
    result = numbers(toy_log[0])
    expected = {}
    for scores in toy_run.record()["scores"]:
        if scores["role"] == "teacher":
            for name, number in scores["metrics"].items():
                full = f"{scores['split']}_{name}"
                ends = {"": number["value"]} | {f"_{e}": number[e] for e in ("low", "high")}
                ends |= {"_plain": number["plain"][0]} if number["plain"] else {}
                expected |= {f"{full}{e}": x for e, x in ends.items() if x is not None}
            for group, number in scores["groups"].items():
                expected[f"{scores['split']}_acc_{group}"] = number["value"]
                expected[f"{scores['split']}_n_{group}"] = number["n"]
            expected[f"{scores['split']}_unanswered"] = 0
    assert set(result) == set(expected)
    for name, value in expected.items():
        # confidences are float32 and a batch is padded; labels are the same to the last row. Rows
        # that are drawn one by one come in another order here
        exact, ends = "_ece" not in name, name.endswith(("_ece_low", "_ece_high"))
        near = pytest.approx(value, abs=0.02 if ends else 1e-6)
        assert result[name] == (value if exact else near), name


def test_the_log_says_which_data_and_which_rows(toy_run, toy_log):
    log, file = toy_log
    assert "embedded data" in log.eval.dataset.name
    assert log.eval.metadata["source"] == "embedded"
    assert log.eval.metadata["fingerprint"] == toy_run.record()["fingerprint"]
    assert log.eval.scorers[0].name == "label"
    ids = [sample.id for sample in log.samples]
    assert len(ids) == len(set(ids)) == 220
    read(file)
    assert all(len(sample.messages) == 2 for sample in log.samples)  # one answer a sample


def test_every_text_task_is_offered_by_name_and_no_image_task():
    registry = load_plugins()["task"]
    for offer in registry:
        text = find_task(offer.name, registry).modality == "text"
        assert (registry_lookup("task", f"harness_plugin/{offer.name}") is not None) == text
    for thing in (inspect_scoring.label, inspect_registry.seqcls, inspect_scoring.group_counts):
        assert registry_info(thing).name.startswith("harness_plugin/")


def test_rows_are_limited_by_group_and_sets_are_chosen():
    task = registry_lookup("task", "harness_plugin/hans")
    (few,) = {task(data="embedded", split="hans", limit=24, n_train=200, n_hans=120)}
    groups = [sample.metadata["group"] for sample in few.dataset]
    assert {groups.count(group) for group in set(groups)} == {4}
    assert len(set(groups)) == 6
    with pytest.raises(
        HarnessError, match=r"evaluation set of task hans 'hnas'. Did you mean hans"
    ):
        task(split="hnas", n_train=200)
    with pytest.raises(HarnessError, match=r"option of task hans 'n_hnas'. Did you mean n_hans"):
        task(n_hnas=1)
    with pytest.raises(HarnessError, match="reads images"):
        registry_lookup("task", "harness_plugin/task_file")(file="celeba_bias")


KNOWN = {
    "purpose": "ood",
    "labels": ["entailment", "non-entailment"],
    "groups": ["a", "b"],
    "overlapping": False,
    "collapse": {
        "entailment": "entailment",
        "neutral": "non-entailment",
        "contradiction": "non-entailment",
    },
    "collapse_rule": "argmax",
    "train_groups": {"a": 3, "b": 1},
}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("entailment", "entailment"),
        (" Non-Entailment.", "non-entailment"),
        ("The answer is: neutral", "neutral"),
        ("**contradiction**", "contradiction"),
        ("non-entailment, not entailment", None),
        ("entailments", None),
        ("", None),
    ],
)
def test_a_text_names_one_label_or_none(text, label):
    labels = [*KNOWN["labels"], *KNOWN["collapse"]]
    assert inspect_scoring.named(text, labels) == label


@pytest.mark.parametrize(("rule", "label"), [("argmax", 0), ("sum", 1)])
def test_three_labels_become_two_by_the_rule_of_the_set(rule, label):
    logits = dict(zip(KNOWN["collapse"], np.log([0.4, 0.3, 0.3]), strict=True))
    row = inspect_scoring.Row(logits, "entailment", ["a"], 1)
    p = inspect_scoring.predictions("hans", {**KNOWN, "collapse_rule": rule}, [row])
    assert p.predicted.tolist() == [label]


def scored(number, answer, group, gold, **more):
    """One sample's score, as inspect_ai hands it to a metric."""
    facts = {"set": "hans", "label": gold, "groups": [group], "aligned": int(group == "a")}
    score = Score(value="C" if answer == gold else "I", answer=answer)
    return SampleScore(score=score, sample_id=number, sample_metadata={**facts, **more})


def test_metrics_by_hand():
    """Group a: 2 of 3 right; group b: 1 of 2, and one answer that names no label."""
    yes, no = KNOWN["labels"]
    sets = {"hans": KNOWN}
    rows = [
        scored(0, yes, "a", yes),
        scored(1, no, "a", no),
        scored(2, no, "a", yes),
        scored(3, no, "b", no),
        scored(4, None, "b", yes),
    ]
    few = {"task": "task", "resamples": 1000, "min_group": 2}
    result = inspect_scoring.performance(sets, few)(rows)
    assert result["hans_acc"] == pytest.approx(3 / 5)
    assert result["hans_acc_train_weighted"] == pytest.approx(3 / 4 * 2 / 3 + 1 / 4 * 1 / 2)
    assert result["hans_worst_group_acc_plain"] == 0.5
    assert result["hans_worst_group_acc"] > 0.5  # corrected for having been looked for
    assert result["hans_acc_low"] < 3 / 5 < result["hans_acc_high"]
    gaps = inspect_scoring.spurious_gaps(sets, few)(rows)
    assert gaps["hans_gap_aligned_conflicting"] == pytest.approx(2 / 3 - 1 / 2)
    assert gaps["hans_gap_avg_worst_plain"] == pytest.approx(0.1)
    assert gaps["hans_gap_entailment"] == pytest.approx(1 / 3 - 1)
    # groups under 30 rows steer no minimum, and give no interval
    assert set(inspect_scoring.performance(sets)(rows)) == {"hans_acc", "hans_acc_train_weighted"}
    accuracies = inspect_scoring.group_accuracies(sets)(rows)
    assert accuracies == {"hans_acc_a": pytest.approx(2 / 3), "hans_acc_b": 0.5}
    counts = inspect_scoring.group_counts(sets)(rows)
    assert counts == {"hans_n_a": 3, "hans_n_b": 2, "hans_unanswered": 1}
    # without a row of group b its accuracy is left out, and it is no worst group: not 0
    part = inspect_scoring.performance(sets, few)(rows[:3])
    assert part["hans_worst_group_acc"] == pytest.approx(2 / 3)
    assert inspect_scoring.group_accuracies(sets)(rows[:3]) == {"hans_acc_a": pytest.approx(2 / 3)}
    assert inspect_scoring.group_counts(sets)(rows[:3])["hans_n_b"] == 0


def test_fairness_is_left_out_where_an_answer_names_no_label_or_nothing_is_positive():
    yes, no = KNOWN["labels"]
    groups = [f"{label}/{word}" for label in KNOWN["labels"] for word in "ab"]
    sets = {"hans": {**KNOWN, "groups": groups}}
    rows = [
        scored(n, no, f"{gold}/{word}", gold)
        for n, (gold, word) in enumerate([(yes, "a"), (no, "a"), (yes, "b"), (no, "b")])
    ]
    gaps, values = inspect_scoring.spurious_gaps(sets), inspect_scoring.performance(sets)
    assert gaps(rows)["hans_tpr_gap"] == 0
    assert "hans_demographic_parity_ratio" not in values(rows)  # nothing is called positive
    rows[0] = scored(0, yes, f"{yes}/a", yes)
    assert gaps(rows)["hans_tpr_gap"] == 1
    assert values(rows)["hans_demographic_parity_ratio"] == 0
    rows[3] = scored(3, None, f"{no}/b", no)
    assert "hans_tpr_gap" not in gaps(rows)


def test_a_sample_without_its_group_is_named():
    bare = scored(7, "entailment", "a", "entailment")
    bare.sample_metadata.pop("groups")
    with pytest.raises(ValueError, match="sample 7 has no 'groups' in its metadata"):
        inspect_scoring.group_accuracies({"hans": KNOWN})([bare])
    twice = {"x": {**KNOWN, "groups": ["n_a"]}, "x_n": {**KNOWN, "groups": ["a"]}}
    rows = [
        scored(0, "entailment", "n_a", "entailment", set="x"),
        scored(1, "entailment", "a", "entailment", set="x_n"),
    ]
    with pytest.raises(ValueError, match="two numbers are called 'x_n_n_a'"):
        inspect_scoring.group_counts(twice)(rows)


def test_a_language_model_is_asked_in_words(tmp_path):
    """Its answers are texts; three labels collapse onto the set's two."""
    rows = [("entailment", "a"), ("non-entailment", "a"), ("entailment", "b")]
    samples = [
        Sample(
            input="?",
            id=str(i),
            target=gold,
            metadata={"set": "hans", "label": gold, "groups": [group], "aligned": -1},
        )
        for i, (gold, group) in enumerate(rows)
    ]
    task = Task(
        dataset=MemoryDataset(samples),
        solver=generate(),
        scorer=inspect_scoring.label({"hans": KNOWN}),
        metrics=[
            inspect_scoring.performance(
                {"hans": KNOWN}, {"task": "task", "resamples": 100, "min_group": 1}
            ),
            inspect_scoring.group_counts({"hans": KNOWN}),
        ],
    )
    answers = ["Entailment!", "I would say neutral.", "who knows"] * 2
    # usage is given: counting tokens would fetch a vocabulary
    outputs = [ModelOutput.from_content("mockllm", text) for text in answers]
    for output in outputs:
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    model = get_model("mockllm/model", custom_outputs=outputs)
    log, _ = run(task, tmp_path, model, epochs=2, max_connections=1)
    assert numbers(log)["hans_acc"] == pytest.approx(2 / 3)
    assert numbers(log)["hans_unanswered"] == 2
    assert numbers(log)["hans_worst_group_acc_plain"] == 0


def test_labels_without_a_name_are_refused(toy_run, tmp_path):
    import shutil

    folder = tmp_path / "nameless"
    shutil.copytree(toy_run.checkpoint("student"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    config |= {"label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(HarnessError, match="calls its classes LABEL_0, LABEL_1"):
        get_model(f"seqcls/{folder}", memoize=False)
    with pytest.raises(HarnessError, match=r"3 labels were given, .* has 2 classes"):
        get_model(f"seqcls/{folder}", labels="a,b,c", memoize=False)
    with pytest.raises(HarnessError, match="unknown argument max_lenght"):
        get_model(f"seqcls/{folder}", max_lenght=3, memoize=False)
    model = get_model(f"seqcls/{folder}", labels="negative,positive", memoize=False)
    assert model.api.labels == ("negative", "positive")
    # a text that is not of our tasks is one input
    question = model.api.generate([ChatMessageUser(content="a good one")], [], "auto", None)
    output = asyncio.run(question)
    logits = output.metadata["logits"]
    assert output.completion == max(logits, key=logits.get)
    assert output.usage.input_tokens == asyncio.run(model.api.count_text_tokens("a good one"))


def test_the_entry_point_is_ours():
    from importlib.metadata import entry_points

    result = [e for e in entry_points(group="inspect_ai") if e.name == "harness_plugin"]
    assert {entry.value for entry in result} == {"harness_plugin_hooks.adapters.inspect_registry"}
    importlib.import_module(result[0].value)
    assert checkpoints.TEXTS == "texts"
