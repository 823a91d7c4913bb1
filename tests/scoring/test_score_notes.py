"""Scores: reasons of undefined numbers, notes, and what is refused."""

from dataclasses import replace

import numpy as np
import planted
import pytest
from four_groups import GROUP, GROUPS, N, predict, score

from harness_plugin.errors import HarnessError
from harness_plugin.scoring import metrics as m


def test_undefined_numbers_have_a_reason(predictions):
    no_groups = [replace(p, groups=(), group=np.full(N, -1)) for p in predictions]
    scores = score(no_groups)
    for s in scores.scores:
        estimates = [*s.metrics.values(), *s.groups.values()]
        estimates += [e for v in s.breakdowns.values() for b in v.values() for e in b.values()]
        for estimate in estimates:
            assert np.isnan(estimate.value) == bool(estimate.reason)
            assert len(estimate.seeds) == len(estimate.errors) == 3
    result = scores.of("student", "hans")
    assert result.metrics["worst_group_acc"].reason == "the set has no groups"
    assert result.groups == {}


def test_an_absent_group_is_named():
    rows = GROUP != 1
    columns = ("ids", "logits", "label", "group", "aligned")

    def without(p):
        kept = {name: getattr(p, name)[rows] for name in columns}
        return replace(p, **kept, breakdowns={})

    scores = score([without(predict("teacher", 0, (9, 7, 8, 5)))])
    result = scores.of("teacher", "hans")
    assert result.metrics["worst_group_acc"].plain == (0.5,)
    assert result.metrics["acc_train_weighted"].reason == "no row of group lexical/non"
    assert without_widths(scores) == (
        "1 of 4 groups of hans have under 1 rows (the smallest, lexical/non, has 0): they steer no "
        "worst group",
    )
    assert result.groups["lexical/non"].n == 0
    assert result.groups["lexical/non"].reason == "no row of group lexical/non"
    assert [result.groups[name].value for name in (GROUPS[0], *GROUPS[2:])] == [0.9, 0.8, 0.5]


def test_constant_predictions_are_noted():
    scores = score([predict("student", 4, (10, 0, 10, 0))], notes=["a note"])
    assert without_widths(scores) == (
        "a note",
        "student predicts entailment for every row of hans (1 of 1 seed(s)): its gaps say nothing "
        "of bias",
    )
    nearly = score([predict("student", 4, (10, 0, 10, 1))])  # 39 of 40 rows
    assert "entailment for 97.5% of rows of hans" in nearly.notes[0]
    assert not without_widths(score([predict("student", 4, (10, 2, 10, 1))]))  # 37 of 40


def without_widths(scores):
    """The notes, but for those that groups of ten rows have."""
    return tuple(note for note in scores.notes if not note.startswith("intervals of the worst"))


@pytest.mark.parametrize("rows", [99, 100])
def test_a_minimum_of_few_rows_is_said_to_have_wide_intervals(rows):
    scores = planted.scored(planted.answered((80, 60, 70, 80), rows=rows))
    note = (
        f"intervals of the worst group of balanced are wider than 95% needs: its smallest group "
        f"has {rows} rows, below 100"
    )
    assert (note in scores.notes) == (rows < 100)


def test_what_clusters_cost_is_said_and_in_every_accuracy(predictions):
    """Ten rows of one rank in four groups; ranks are right or wrong together, or nearly."""
    of_rank = {"cluster": np.arange(N) // 4, "clusters": tuple(f"c{i}" for i in range(10))}
    result = score([replace(p, **of_rank) for p in predictions])
    effect = result.of("teacher", "hans").metrics["acc"].design_effect
    assert effect > 1.5
    (_, note) = [note for note in result.notes if "clusters" in note]
    assert "rows of hans come in 10 clusters, which are resampled whole" in note
    assert "design effect" in note
    assert not [note for note in score(predictions).notes if "clusters" in note]


def test_a_plugin_metric_that_is_nan_says_so(predictions):
    """A row is missing from about a third of the resamples; the interval is not faked."""

    def first_row(p, counts):
        rows = np.zeros((N, 1), dtype=bool)
        rows[0] = True
        return m.rates(p.correct, rows, counts)[:, 0]

    metric = m.Metric("first", first_row, True, "performance", "accuracy of one row")
    result = score(predictions, metrics={"first": metric}).of("teacher", "hans").metrics["first"]
    assert result.value == 1
    assert np.isnan(result.low)
    assert result.reason.startswith("no interval: undefined in ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ps: ps[1:], r"teacher seed 0 has no predictions for set 'hans'"),
        (lambda ps: [*ps, ps[0]], r"teacher seed 0 has two predictions for set 'hans'"),
        (lambda ps: [], r"nothing to score"),
        (lambda ps: [*ps[:-1], replace(ps[-1], split="x")], r"set 'x', which is no evaluation set"),
        (
            lambda ps: [*ps[:-1], replace(ps[-1], label=1 - ps[-1].label)],
            r"erm_student seed 2 and teacher seed 0 have the same ids but other labels",
        ),
        (
            lambda ps: [*ps[:-1], replace(ps[-1], ids=np.array(["ex00"] * N))],
            r"erm_student seed 2, set 'mnli': id 'ex00' is doubled",
        ),
        (
            lambda ps: [
                *ps[:-1],
                replace(ps[-1], ids=np.append(ps[-1].ids[1:], "ex99")),
            ],
            r"erm_student seed 2 has 40 rows and teacher seed 0 40; id 'ex00', for one",
        ),
        (
            lambda ps: [
                *ps[:-1],
                replace(ps[-1], collapse={"neutral": "non-entailment"}, collapse_rule="sum"),
            ],
            r"set 'mnli' collapses labels by 'sum', the scores by 'argmax'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(predictions, change, message):
    with pytest.raises(HarnessError, match=message):
        score(change(predictions))


def test_bad_arguments_are_refused(predictions):
    with pytest.raises(HarnessError, match="metric 'accuracy' is registered as something else"):
        score(predictions, metrics={"accuracy": m.ACC})
    with pytest.raises(HarnessError, match="1 resamples: an interval needs at least 2"):
        score(predictions, resamples=1)
    grouped = [replace(p, breakdowns={"group": p.ids}) for p in predictions]
    with pytest.raises(HarnessError, match="a breakdown may not be called 'group'"):
        score(grouped)
