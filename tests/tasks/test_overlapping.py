"""Groups that overlap: membership is a matrix (CivilComments has 16 cells, WILDS)."""

from dataclasses import replace

import numpy as np
import pytest

from harness_plugin import HarnessError
from harness_plugin.data.dataset import TaskData, make_split, stratified
from harness_plugin.records import VerdictRule, predictions_of
from harness_plugin.scoring.metrics import ACC_TRAIN_WEIGHTED, GAP_AVG_WORST, WORST_GROUP_ACC
from harness_plugin.scoring.pairing import take
from harness_plugin.scoring.score import score_task
from harness_plugin_hooks.outputs.lm_eval import documents

GROUPS = ("toxic/female", "toxic/black", "civil/female", "civil/black")
MEMBERS = [["toxic/female", "toxic/black"], ["toxic/female"], [], ["civil/black", "civil/female"]]
MEMBERS += [["civil/black"], ["toxic/black"]]
LABELS = ["toxic", "toxic", "civil", "civil", "civil", "toxic"]


def split(members=MEMBERS, labels=LABELS, **changes):
    n = len(labels)
    values = {
        "purpose": "ood",
        "inputs": {"text": [f"comment {i}" for i in range(n)]},
        "ids": [f"c{i}" for i in range(n)],
        "label_texts": labels,
        "labels": ("civil", "toxic"),
        "member_texts": members,
        "groups": GROUPS,
    }
    return make_split("test", **{**values, **changes})


def predictions(right, data=None, role="teacher", seed=0):
    data = data or split()
    predicted = np.where(right, data.label, 1 - data.label)
    return predictions_of(
        data,
        np.eye(2, dtype=np.float32)[predicted],
        task="comments",
        role=role,
        model=role,
        seed=seed,
        model_labels=("civil", "toxic"),
    )


RIGHT = np.array([True, False, True, False, True, True])


def test_a_row_counts_in_every_group_it_belongs_to():
    data = split()
    assert data.overlapping
    assert data.group.tolist() == [-1] * 6
    assert data.group_counts.tolist() == [2, 2, 1, 2]
    assert data.membership.tolist()[0] == [True, True, False, False]
    assert data.select([3, 2]).membership.tolist() == [[False, False, True, True], [False] * 4]


def test_the_worst_group_is_the_worst_of_all_cells():
    p = predictions(RIGHT)
    # toxic/female rows 0, 1: one of two; toxic/black rows 0, 5: both; civil/female row 3: none
    one = np.ones((1, 6))
    assert WORST_GROUP_ACC.evaluate(p, one).tolist() == [0.0]
    assert GAP_AVG_WORST.evaluate(p, one).tolist() == [pytest.approx(4 / 6)]
    assert "overlap" in ACC_TRAIN_WEIGHTED.applies(p)
    weights = np.array([[1.0, 3, 1, 1, 1, 1]])
    better = predictions(np.array([True, False, True, True, True, True]))
    assert WORST_GROUP_ACC.evaluate(better, weights).tolist() == [0.25]


def test_no_resample_empties_a_cell_and_scores_have_every_group():
    many = split(MEMBERS * 20, LABELS * 20, ids=[f"c{i:03}" for i in range(120)])
    right = np.tile(RIGHT, 20)
    result = [predictions(right, many, role) for role in ("teacher", "student")]
    scores = score_task(
        result,
        task="comments",
        source="embedded",
        fingerprint="0",
        train_groups=(),
        train_group_counts=(),
        purposes={"test": "ood"},
        metrics={m.name: m for m in (WORST_GROUP_ACC, GAP_AVG_WORST, ACC_TRAIN_WEIGHTED)},
        resamples=200,
        rule=VerdictRule(min_group=1),
    )
    of = scores.of("teacher", "test")
    assert {name: (e.value, e.n) for name, e in of.groups.items()} == {
        "toxic/female": (0.5, 40),
        "toxic/black": (1.0, 40),
        "civil/female": (0.0, 20),
        "civil/black": (0.5, 40),
    }
    assert of.metrics["worst_group_acc"].value == 0.0
    assert np.isfinite(of.metrics["gap_avg_worst"].low)
    assert "overlap" in of.metrics["acc_train_weighted"].reason


def test_rows_keep_their_groups_when_they_are_taken_or_written():
    p = predictions(RIGHT)
    assert take(p, np.array([3, 0])).membership.tolist() == [
        [False, False, True, True],
        [True, True, False, False],
    ]
    rows = dict(documents(p, np.arange(len(p))))
    assert rows[0]["groups"] == ["toxic/female", "toxic/black"]
    assert rows[2]["groups"] == []


def test_a_limit_keeps_a_row_of_every_combination():
    many = split(MEMBERS * 20, LABELS * 20, ids=[f"c{i:03}" for i in range(120)])
    some = stratified(many, 12, 0)
    assert len(some) == 12
    assert (some.group_counts > 0).all()


def test_membership_is_part_of_the_fingerprint():
    other = [*MEMBERS[:-1], ["toxic/female"]]
    assert split().fingerprint == split().fingerprint
    assert split().fingerprint != split(other).fingerprint


def test_bad_members_are_named():
    with pytest.raises(
        HarnessError, match=r"test: row 6: unknown group 'toxic/cat'; expected some"
    ):
        split([*MEMBERS[:-1], ["toxic/cat"]])
    with pytest.raises(HarnessError, match="give group_texts or member_texts, not both"):
        split(group_texts=["toxic/female"] * 6)
    with pytest.raises(HarnessError, match="column 'members' has 5 rows, expected 6"):
        split(MEMBERS[:-1])


def test_an_empty_cell_of_an_evaluation_set_is_refused():
    from harness_plugin.data.dataset import check
    from harness_plugin.data.task import Task

    task = Task(
        task="comments",
        summary="",
        bias="",
        modality="text",
        inputs=("text",),
        sources={"embedded": "unused:load"},
    )
    empty = split([m if m != ["civil/black", "civil/female"] else [] for m in MEMBERS])
    train = split(purpose="train")
    with pytest.raises(HarnessError, match="has no example of group civil/female"):
        check(task, TaskData("comments", "embedded", {"train": train, "test": empty}))


def test_a_training_set_with_overlapping_groups_alone_gives_no_groups_to_methods(open_context):
    """A row of several groups has no one weight: methods that need groups are refused."""
    ctx = open_context()
    assert "groups" in ctx.available()
    train = split(purpose="train", inputs={"premise": list("abcdef"), "hypothesis": list("abcdef")})
    splits = {**ctx.data.splits, ctx.data.train.name: train}
    other = ctx.with_data(replace(ctx.data, splits=splits))
    assert "groups" not in other.available()
