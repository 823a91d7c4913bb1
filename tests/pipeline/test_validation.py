"""What `harness validate` warns of: thin and absent cells, rows that stand in two splits."""

from harness_plugin.data.dataset import TaskData, make_split
from harness_plugin.pipeline.prepare.open_task import warnings

GROUPS = ("a/x", "b/x")


def split(name, purpose, texts, group="a/x"):
    label = group[0]
    n = len(texts)
    return make_split(
        name,
        purpose=purpose,
        inputs={"text": texts},
        ids=[f"{name}{i}" for i in range(n)],
        label_texts=[label] * n,
        labels=("a", "b"),
        group_texts=[group] * n,
        groups=GROUPS,
    )


def data(*splits):
    return TaskData("t", "embedded", {s.name: s for s in splits})


def test_rows_in_two_splits_are_counted_in_a_line_a_split():
    result = warnings(
        data(
            split("train", "train", ["one", "two", "three"]),
            split("validation", "validation", ["three", "four"]),
            split("id", "in_domain", ["four", "five"]),
            split("ood", "ood", ["one", "two", "five"]),
        ),
        ("text",),
    )
    assert [w for w in result if "stand in" in w] == [
        "rows that also stand in train: validation 1, ood 2",
        "rows that also stand in validation: id 1",
    ]


def test_a_cell_may_be_both_thin_and_absent_from_training():
    result = warnings(
        data(split("train", "train", ["one"]), split("ood", "ood", ["two"], group="b/x")), ("text",)
    )
    assert "ood: 2 of 2 groups have under 30 rows, smallest a/x (0)" in result
    assert "test groups without a training row: ood b/x" in result
