"""Resampling: sizes, coverage, analytic standard errors, degenerate cases."""

import numpy as np
import pytest

from harness_plugin.errors import HarnessError
from harness_plugin.scoring import stats


def draw(groups, resamples, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate(list(stats.group_stratified_counts(groups, resamples, rng)))


def test_every_resample_keeps_every_group_size():
    groups = np.array([0] * 50 + [2] + [5] * 3 + [-1] * 10)
    counts = draw(np.random.default_rng(1).permutation(groups), 300)
    shuffled = np.random.default_rng(1).permutation(groups)
    assert counts.shape == (300, 64)
    for group, size in {0: 50, 2: 1, 5: 3, -1: 10}.items():
        assert (counts[:, shuffled == group].sum(axis=1) == size).all()


def test_counts_are_multinomial():
    """Mean 1 and variance 1 - 1/n in a stratum of n, as drawing with replacement gives."""
    counts = draw(np.zeros(20), 40_000)
    assert counts.mean() == pytest.approx(1.0)
    assert counts.var(axis=0).mean() == pytest.approx(1 - 1 / 20, rel=0.01)


def test_chunks_add_up(monkeypatch):
    monkeypatch.setattr(stats, "CELLS", 70)
    chunks = list(stats.group_stratified_counts(np.zeros(10), 17, np.random.default_rng(0)))
    assert [len(chunk) for chunk in chunks] == [7, 7, 3]
    monkeypatch.setattr(stats, "CELLS", 1)
    assert draw(np.zeros(10), 3).shape == (3, 10)


def test_the_same_seed_draws_the_same():
    groups = np.arange(30) % 4
    assert np.array_equal(draw(groups, 20, seed=5), draw(groups, 20, seed=5))
    assert not np.array_equal(draw(groups, 20, seed=5), draw(groups, 20, seed=6))


def test_bootstrap_interval_matches_the_analytic_standard_error():
    """Stratified mean: variance = sum of (n_g / n)^2 p_g (1 - p_g) / n_g."""
    groups = np.repeat([0, 1], [400, 100])
    correct = np.concatenate([np.arange(400) < 360, np.arange(100) < 50])
    replicates = draw(groups, 4000) @ correct / 500
    low, high = stats.interval(replicates)
    se = np.sqrt(0.8**2 * 0.9 * 0.1 / 400 + 0.2**2 * 0.5 * 0.5 / 100)
    assert replicates.std() == pytest.approx(se, rel=0.05)
    assert (low, high) == pytest.approx((0.82 - 1.96 * se, 0.82 + 1.96 * se), abs=0.004)


def test_bootstrap_interval_covers():
    """About 95 of 100 intervals of a mean contain the true mean."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        correct = rng.random(200) < 0.7
        counts = np.concatenate(list(stats.group_stratified_counts(np.zeros(200), 300, rng)))
        low, high = stats.interval(counts @ correct / 200)
        hits += low <= 0.7 <= high
    assert 0.91 <= hits / 300 <= 0.98


def test_strata_are_the_combinations_that_occur():
    codes = stats.strata_of([0, 0, 1, 1, -1], [0, 1, 0, 0, 1])
    assert len(set(codes.tolist())) == 4
    assert codes[2] == codes[3]


def test_seed_shares():
    shares = stats.seed_shares(4, 1000, np.random.default_rng(0))
    assert shares.shape == (4, 1001)
    assert shares.sum(axis=0) == pytest.approx(np.ones(1001))
    assert shares[:, 0].tolist() == [0.25] * 4
    assert (stats.seed_shares(1, 10, np.random.default_rng(0)) == 1).all()


def test_hierarchical_adds_the_seed_variance():
    """No variance over examples: the interval is that of a mean of 5 seeds alone."""
    seeds = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    shares = stats.seed_shares(5, 20_000, np.random.default_rng(0))
    found = stats.hierarchical(np.repeat(seeds[:, None], 20_001, axis=1), shares, n=10)
    se = seeds.std() / np.sqrt(5)
    assert found.value == pytest.approx(0.3)
    assert found.sd == pytest.approx(np.std(seeds, ddof=1))
    assert found.seeds == pytest.approx(tuple(seeds))
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * se, rel=0.05)
    assert found.n == 10


def test_one_seed_is_the_bootstrap_over_examples():
    values = np.random.default_rng(0).normal(size=(1, 1001))
    found = stats.hierarchical(values, np.ones((1, 1001)), n=3)
    assert (found.low, found.high) == stats.interval(values[0, 1:])
    assert np.isnan(found.sd)
    assert found.reason == ""


def test_every_seed_has_the_interval_of_its_own_resamples():
    values = np.random.default_rng(0).normal(size=(3, 1001))
    values[2, 7] = np.nan
    shares = stats.seed_shares(3, 1000, np.random.default_rng(0))
    found = stats.hierarchical(values, shares, n=5).intervals
    assert found[:2] == tuple(stats.interval(row[1:]) for row in values[:2])
    assert np.isnan(found[2]).all()
    assert np.isnan(stats.undefined(2, 5, "no rows").intervals).shape == (2, 2)


def test_what_is_undefined_has_a_reason():
    shares = stats.seed_shares(2, 3, np.random.default_rng(0))
    values = np.full((2, 4), 0.5)
    values[1] = np.nan
    found = stats.hierarchical(values, shares, n=1)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.reason == "undefined for 1 of 2 seeds"
    one = stats.estimate(np.array([0.5, np.nan, 0.5, 0.5]), n=1)
    assert (one.value, one.reason) == (0.5, "no interval: undefined in 1 of 3 resamples")
    with pytest.raises(HarnessError, match="differ in shape"):
        stats.hierarchical(values, np.ones((2, 5)), n=1)


def test_counts_of_cells_are_those_of_their_rows():
    """Same means, variances and covariances as the sums over rows, which are drawn one by one."""
    groups = np.repeat([3, -1, 7], [30, 8, 1])
    cells = np.concatenate([np.repeat([0, 1, 2], [18, 9, 3]), np.repeat([3, 4], [6, 2]), [5]])
    rng = np.random.default_rng(0)
    order = rng.permutation(len(groups))
    by_cell = np.concatenate(list(stats.cell_counts(groups[order], cells[order], 40_000, rng)))
    by_row = draw(groups, 40_000) @ np.equal(cells[:, None], np.arange(6))
    assert by_cell.shape == (40_000, 6)
    assert (by_cell[:, :3].sum(axis=1) == 30).all()
    assert (by_cell[:, 5] == 1).all()
    assert by_cell.mean(axis=0) == pytest.approx([18, 9, 3, 6, 2, 1], rel=0.02)
    assert np.cov(by_cell.T) == pytest.approx(np.cov(by_row.T), abs=0.2)
    assert np.var(by_cell[:, 0]) == pytest.approx(30 * 0.6 * 0.4, rel=0.03)


def test_chunks_of_cells_add_up(monkeypatch):
    monkeypatch.setattr(stats, "CELLS", 7)
    drawn = stats.cell_counts([0, 0, 1], [0, 1, 2], 5, np.random.default_rng(0))
    assert [chunk.shape for chunk in drawn] == [(2, 3), (2, 3), (1, 3)]
