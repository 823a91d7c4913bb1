"""Resamples of rows: sizes, moments, chunks, clusters."""

import numpy as np
import pytest

from harness_plugin.scoring.statistics import resampling


def draw(groups, resamples, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate(list(resampling.group_stratified_counts(groups, resamples, rng)))


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


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of so many cells at most, however few resamples these are."""

    def of(cells):
        monkeypatch.setattr(resampling, "CELLS", cells)
        monkeypatch.setattr(resampling, "LEAST", 1)

    return of


def test_chunks_add_up(small_chunks):
    small_chunks(70)
    chunks = list(resampling.group_stratified_counts(np.zeros(10), 17, np.random.default_rng(0)))
    assert [len(chunk) for chunk in chunks] == [7, 7, 3]
    small_chunks(1)
    assert draw(np.zeros(10), 3).shape == (3, 10)


def test_the_same_seed_draws_the_same():
    groups = np.arange(30) % 4
    assert np.array_equal(draw(groups, 20, seed=5), draw(groups, 20, seed=5))
    assert not np.array_equal(draw(groups, 20, seed=5), draw(groups, 20, seed=6))


def test_strata_are_the_combinations_that_occur():
    codes = resampling.strata_of([0, 0, 1, 1, -1], [0, 1, 0, 0, 1])
    assert len(set(codes.tolist())) == 4
    assert codes[2] == codes[3]


@pytest.mark.parametrize("span", [3, 10**9])
def test_strata_are_numbered_in_the_order_of_their_values(span):
    """As numpy numbers distinct rows, for numbers near to each other and far apart."""
    rng = np.random.default_rng(4)
    columns = [
        rng.integers(-2, 3, 200),
        rng.integers(2, size=200) > 0,
        rng.integers(span, size=200),
    ]
    expected = np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1]
    assert np.array_equal(resampling.strata_of(*columns), expected.reshape(-1))


def test_counts_of_cells_are_those_of_their_rows():
    """Same means, variances and covariances as the sums over rows, which are drawn one by one."""
    groups = np.repeat([3, -1, 7], [30, 8, 1])
    cells = np.concatenate([np.repeat([0, 1, 2], [18, 9, 3]), np.repeat([3, 4], [6, 2]), [5]])
    rng = np.random.default_rng(0)
    order = rng.permutation(len(groups))
    by_cell = np.concatenate(list(resampling.cell_counts(groups[order], cells[order], 40_000, rng)))
    by_row = draw(groups, 40_000) @ np.equal(cells[:, None], np.arange(6))
    assert by_cell.shape == (40_000, 6)
    assert (by_cell[:, :3].sum(axis=1) == 30).all()
    assert (by_cell[:, 5] == 1).all()
    assert by_cell.mean(axis=0) == pytest.approx([18, 9, 3, 6, 2, 1], rel=0.02)
    assert np.cov(by_cell.T) == pytest.approx(np.cov(by_row.T), abs=0.2)
    assert np.var(by_cell[:, 0]) == pytest.approx(30 * 0.6 * 0.4, rel=0.03)


def test_chunks_of_cells_add_up(small_chunks):
    small_chunks(7)
    drawn = resampling.cell_counts([0, 0, 1], [0, 1, 2], 5, np.random.default_rng(0))
    assert [chunk.shape for chunk in drawn] == [(2, 3), (2, 3), (1, 3)]


def test_rows_of_a_cluster_get_one_weight():
    """Exponential weights scaled to their mean: C times Dirichlet(1, …, 1)."""
    clusters = np.array([4, 4, 9, 9, 9, 2])
    sizes = np.array([1, 2, 1, 1, 3, 1])
    rng = np.random.default_rng(0)
    weights = np.concatenate(list(resampling.cluster_counts(clusters, sizes, 60_000, rng)))
    each = weights / sizes
    assert each[:, 0] == pytest.approx(each[:, 1])
    assert each[:, 2] == pytest.approx(each[:, 4])
    assert (each > 0).all()
    one_a_cluster = each[:, [0, 2, 5]]
    assert one_a_cluster.mean() == pytest.approx(1.0, rel=1e-5)
    # Dirichlet(1, 1, 1) times 3: variance 9 * (1/3)(2/3) / 4
    assert one_a_cluster.var(axis=0) == pytest.approx([0.5] * 3, rel=0.02)


def test_chunks_of_cluster_weights_add_up(small_chunks):
    small_chunks(9)
    drawn = resampling.cluster_counts([0, 1, 1], [1, 1, 1], 7, np.random.default_rng(0))
    assert [len(chunk) for chunk in drawn] == [3, 3, 1]
