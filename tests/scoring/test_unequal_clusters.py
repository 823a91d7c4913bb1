"""Clusters of different sizes are worth fewer equal ones, and an interval knows it."""

from dataclasses import replace

import numpy as np
import planted
import pytest

from harness_plugin.scoring.statistics.intervals import Support, effective_clusters


@pytest.mark.parametrize(
    ("sizes", "worth"),
    [
        ([7] * 30, 30.0),
        ([1] * 4 + [2], 8**2 / 20),
        ([1] * 200 + [200], (200 + 200**2) ** 2 / (200 + 200**4)),
        ([5], 1.0),
        ([], 0.0),
    ],
)
def test_what_clusters_are_worth_by_hand(sizes, worth):
    assert effective_clusters(sizes) == pytest.approx(worth, rel=1e-12)


def test_they_are_the_degrees_of_freedom_of_the_variance_they_show():
    """A sum of squares of normal totals, n_g times N(0, 1), has 2 mean^2 / var of them."""
    sizes = np.array([1] * 40 + [3] * 10 + [8] * 6)
    totals = sizes * np.random.default_rng(0).standard_normal((200_000, len(sizes)))
    shown = np.square(totals).sum(axis=1)
    assert effective_clusters(sizes) == pytest.approx(2 * shown.mean() ** 2 / shown.var(), rel=0.03)


def test_fewest_of_rows_and_clusters_and_their_worth_are_the_degrees_of_freedom():
    assert Support(500, 300, 420, effective=22.5).df == 21.5
    assert Support(500, 300, 40, effective=40.0).df == 39
    assert Support(500, 30, 420, effective=400.0).df == 29
    assert Support(500, 300).df == 299


def clustered(sizes):
    """The scores of answers whose rows come in clusters of `sizes`; all other rows stand alone."""
    made = planted.answered((80, 60, 70, 80), (79, 62, 71, 80), (82, 60, 69, 78))
    cluster = np.full(len(made[0]), -1)
    cluster[: sum(sizes)] = np.repeat(np.arange(len(sizes)), sizes)
    names = tuple(f"c{i:03}" for i in range(len(sizes)))
    return planted.scored([replace(p, cluster=cluster, clusters=names) for p in made])


def test_one_large_cluster_among_many_rows_claims_nothing():
    """There are 201 clusters, but one makes the variance (docs/verdicts.md: coverage)."""
    acc = clustered([200]).of("student", "balanced").metrics["acc"]
    assert acc.reason == (
        "no interval: 201 clusters of rows of such different sizes that they are worth 1.0 equal "
        "ones, an interval needs 10"
    )
    assert np.isnan([acc.low, acc.high]).all()


def test_clusters_that_differ_less_have_an_interval_and_are_said():
    scores = clustered([10] * 20)
    acc = scores.of("student", "balanced").metrics["acc"]
    assert acc.low < acc.value < acc.high
    said = "rows of balanced come in 220 clusters (worth 24 equal ones), which are resampled"
    assert [note for note in scores.notes if said in note]
