"""The corrected minimum over groups: bias by simulation beside the plain one, and its limits."""

import numpy as np
import pytest

from harness_plugin.scoring.statistics.intervals import bounds, components
from harness_plugin.scoring.statistics.minimum import correction, minimum, pull

TIED = (0.8, 0.8, 0.8, 0.8)
ONE_LOW = (0.83, 0.83, 0.83, 0.76)


def replicates(rng, groups, seeds, rows, resamples=150, sd=0.01):
    """(S, 1 + B, G) accuracies of groups of `rows` rows, binomial, with seeds' own noise."""
    p = np.clip(np.array(groups) + rng.normal(0, sd, (seeds, len(groups))), 0.01, 0.99)
    right = rng.binomial(rows, p) / rows
    drawn = rng.binomial(rows, np.repeat(right[:, None], resamples, axis=1)) / rows
    return np.concatenate([right[:, None], drawn], axis=1), p.min(axis=1).mean()


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("groups", [TIED, ONE_LOW], ids=["tied", "one low"])
def test_the_bias_is_at_most_about_a_point_at_100_rows(groups, seeds):
    """In 400 worlds, Monte-Carlo error .2 points; the plain minimum of tied groups is 4 too low."""
    rng = np.random.default_rng(7)
    errors, plain = [], []
    for _ in range(400):
        cells, truth = replicates(rng, groups, seeds, 100)
        errors.append(minimum(cells, 0)[:, 0].mean() - truth)
        plain.append(cells[:, 0].min(axis=-1).mean() - truth)
    assert abs(np.mean(errors)) < (0.02 if seeds == 1 else 0.013)
    if groups == TIED:
        assert np.mean(plain) < -0.03
        assert abs(np.mean(errors)) < abs(np.mean(plain)) / 2


@pytest.mark.parametrize("groups", [TIED, ONE_LOW], ids=["tied", "one low"])
def test_its_interval_covers(groups):
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        cells, _ = replicates(rng, groups, 3, 100)
        truth = np.mean(
            [np.clip(np.array(groups) + rng.normal(0, 0.01, 4), 0, 1).min() for _ in range(200)]
        )
        result = bounds(components(minimum(cells, 0), 99.0))
        hits += result.low <= truth <= result.high
    assert hits / 400 >= 0.93


def test_a_group_far_below_is_what_it_is():
    """Where nobody doubts which group is the worst, the corrected minimum is its accuracy."""
    rng = np.random.default_rng(0)
    cells, _ = replicates(rng, (0.95, 0.95, 0.2), 1, 500)
    result = minimum(cells, 0)
    assert result[0, 0] == pytest.approx(cells[0, 0, 2], abs=1e-12)
    assert result[0, 1:].std() == pytest.approx(cells[0, 1:, 2].std(), rel=1e-9)


def test_one_group_is_its_own_minimum():
    cells = np.random.default_rng(0).random((2, 9, 1))
    assert (minimum(cells, 0) == cells[..., 0]).all()


def test_seeds_average_to_the_estimate_and_equal_answers_draw_alike():
    rng = np.random.default_rng(0)
    cells, _ = replicates(rng, TIED, 3, 100)
    assert (minimum(cells, 0) == minimum(cells.copy(), 0)).all()
    assert (minimum(cells, 0) != minimum(cells, 1)).any()  # the seed decides of the draws


def test_the_correction_and_its_spread_for_two_equal_groups():
    """One seed; T, the weight of the worst group and the correction's own error, written out."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.04, (4000, 2))
    noise -= noise.mean(axis=0)
    cells = np.concatenate([[[0.8, 0.8]], 0.8 + noise])[None]
    result = minimum(cells, 0)[0]
    h1, h2 = 0.8, 0.8 + np.minimum(noise[:, 0], noise[:, 1]).mean()
    assert result[0] == pytest.approx(h1 + (1 + 0.5**0.5) * (h1 - h2), abs=1e-12)
    first = float((noise[:, 0] <= noise[:, 1]).mean())  # how often the first one is the lowest
    more = 0.3 * (1 + 0.5**0.5)
    linear = (1 + more * (1 - first)) * noise[:, 0] - more * (1 - first) * noise[:, 1]
    expected = np.sqrt(linear.var() + (1.3 * (h1 - h2)) ** 2)
    assert (result[1:] - result[0]).std() == pytest.approx(expected, rel=0.05)


def test_profiles_of_seeds_are_pulled_as_far_as_their_spread_is_noise_of_rows():
    """Three seeds, two groups: (S - 1)(G - 1) = 2 degrees of freedom, by loops."""
    plain = np.array([[0.9, 0.5], [0.8, 0.6], [0.7, 0.64]])
    noise = np.random.default_rng(0).normal(0, 0.06, (3, 500, 2))
    noise -= noise.mean(axis=1, keepdims=True)

    def rest_of(profiles):
        out = np.empty((3, 2))
        for s in range(3):
            for g in range(2):
                both = profiles[:, g].mean() + profiles[s].mean() - profiles.mean()
                out[s, g] = profiles[s, g] - both
        return out

    rest = rest_of(plain)
    seen = (rest**2).sum() / 2
    rows = np.mean([(rest_of(noise[:, b]) ** 2).sum() / 2 for b in range(500)])
    share = np.sqrt(1 - rows / seen)
    assert 0.3 < share < 0.95
    pulled, pulled_noise, c = pull(plain, noise)
    assert pulled == pytest.approx(plain - (1 - share) * rest, abs=1e-12)
    # what is left of the seeds' spread is true: the noise that is doubled is the common profile's
    one = noise[:, 7] - rest_of(noise[:, 7])
    assert pulled_noise[:, 7] == pytest.approx(one, abs=1e-12)
    common = np.mean([noise[:, b].mean(axis=0).var(ddof=1) for b in range(500)])
    true = seen - rows
    root = np.sqrt(true + np.array([0, common, 2 * common]))
    assert c == pytest.approx((root[1] - root[0]) / (root[2] - root[1]), rel=1e-9)
    both = [np.stack([plain, plain[::-1]]), np.stack([noise, noise[::-1]])]
    for one, other in zip(pull(*both), (pulled, pulled_noise, c), strict=True):
        assert one[0] == pytest.approx(other)
        assert one[1] == pytest.approx(other[::-1])


@pytest.mark.parametrize("true", [0.0, 0.5, 1.0, 4.0])
def test_the_correction_is_exact_for_equal_groups(true):
    """By integration of the minimum of four normal numbers: its bias is gone, whatever they are."""
    rng = np.random.default_rng(0)
    lowest = float(rng.standard_normal((200_000, 4)).min(axis=1).mean())
    noise = 0.5
    minima = [lowest * np.sqrt(true + k * noise) for k in (0, 1, 2)]
    c = float(correction(np.array(true), np.array(noise)))
    assert minima[1] + c * (minima[1] - minima[2]) == pytest.approx(minima[0], abs=1e-12)


def test_the_correction_is_the_bootstraps_where_seeds_differ_by_far_more_than_rows():
    assert correction(np.array(0.0), np.array(1.0)) == pytest.approx(1 / (np.sqrt(2) - 1))
    assert correction(np.array(1e5), np.array(1.0)) == pytest.approx(1.0, abs=1e-4)
    assert correction(np.array(1.0), np.array(0.0)) == 1.0


@pytest.mark.parametrize("sd", [0.04, 0.08])
def test_seeds_that_truly_differ_are_not_corrected_twice(sd):
    """Ten seeds, 100 rows: with the noise of each seed's own profile doubled it is 1 point high."""
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(150):
        cells, truth = replicates(rng, TIED, 10, 100, resamples=100, sd=sd)
        errors.append(minimum(cells, 0)[:, 0].mean() - truth)
    assert abs(np.mean(errors)) < 0.005


def test_near_one_the_correction_does_not_step_over_it():
    rng = np.random.default_rng(0)
    groups = np.full((1, 201, 3), 0.995)
    groups[:, 1:] += rng.normal(0, 0.02, (1, 200, 3))
    assert minimum(groups, 0)[0, 0] == 1.0
    assert minimum(groups - 0.5, 0)[0, 0] > 0.505  # where there is room, it corrects
