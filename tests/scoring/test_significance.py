"""Tests of paired answers and of seeds, against SciPy and numbers worked out elsewhere."""

import math

import numpy as np
import pytest
from scipy import stats

from harness_plugin import HarnessError
from harness_plugin.scoring.statistics.significance import (
    holm,
    mcnemar,
    over_seeds,
    power_of_seeds,
    seeds_needed,
    wilson,
)


def answers(b, c, agreed=7):
    """Two models' correctness with b rows right for the first only and c for the second only."""
    first = [True] * b + [False] * c + [True] * agreed + [False] * agreed
    second = [False] * b + [True] * c + [True] * agreed + [False] * agreed
    return first, second


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [(1, 9, 0.021484), (2, 10, 0.038574), (0, 5, 0.0625), (5, 5, 1.0), (0, 0, 1.0)],
)
def test_exact_mcnemar(b, c, p):
    result = mcnemar(*answers(b, c))
    assert result == pytest.approx(p, abs=1e-6)
    assert mcnemar(*reversed(answers(b, c))) == result
    if b + c:
        assert result == pytest.approx(stats.binomtest(b, b + c).pvalue)


def test_mcnemar_of_several_seeds_is_that_of_each():
    seeds = [answers(b, 10 - b) for b in (1, 5, 10)]
    first, second = np.array(seeds).swapaxes(0, 1)
    assert mcnemar(first, second).tolist() == [float(mcnemar(*seed)) for seed in seeds]


def test_mcnemar_sees_what_an_unpaired_test_does_not():
    """220 rows, 14 of 16 changes for the worse: 5 points, lost among unpaired errors."""
    first, second = answers(14, 2, agreed=102)
    table = [[sum(first), 220 - sum(first)], [sum(second), 220 - sum(second)]]
    assert mcnemar(first, second) < 0.01 < 0.1 < stats.fisher_exact(table).pvalue


def test_paired_answers_have_one_shape():
    with pytest.raises(HarnessError, match=r"\(2,\) and \(3,\)"):
        mcnemar([True, False], [True, False, True])


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_p_value_is_a_probability(bad):
    with pytest.raises(HarnessError, match=r"lie in \[0, 1\]"):
        holm([0.1, bad])


def test_holm_keeps_the_family_wise_error():
    """Five true null hypotheses: some rejection in about 5% of families."""
    rng = np.random.default_rng(0)
    rejected = [(holm(rng.random(5)) < 0.05).any() for _ in range(4000)]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.01)


def test_wilson():
    assert wilson(0.8, 100)[0] == pytest.approx(0.711171, abs=1e-6)
    assert wilson(0.8, 100, level=0.9)[0] == pytest.approx(0.726696, abs=1e-6)  # one-sided 95%
    assert wilson(0.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (250, 1000)])
def test_wilson_is_that_of_scipy(k, n):
    ours = wilson(k / n, n)
    theirs = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_seeds_have_the_t_interval_of_scipy():
    values = [0.61, 0.55, 0.70, 0.58]
    result = over_seeds(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((theirs.low, theirs.high))
    assert result.mean == pytest.approx(0.61)
    assert result.sd == pytest.approx(np.std(values, ddof=1))


def test_one_seed_has_no_interval():
    result = over_seeds([0.5])
    assert result.mean == 0.5
    assert math.isnan(result.sd)
    assert (result.low, result.high) == (-math.inf, math.inf)
    with pytest.raises(HarnessError, match="no seeds"):
        over_seeds([])


@pytest.mark.parametrize(
    ("sd", "effect", "seeds"),
    [
        (1.0, 0.2, 199),  # tables of the paired t-test: dz = 0.2, 0.5, 0.8
        (1.0, -0.5, 34),
        (1.0, 0.8, 15),
        (0.12, 0.24, 5),
        (0.0, 0.1, 2),
        (0.001, 10.0, 2),
        (0.5, 0.001, None),
        (0.5, 0.0, None),
        (math.nan, 0.1, None),
    ],
)
def test_seeds_needed_for_80_percent_power(sd, effect, seeds):
    assert seeds_needed(sd, effect) == seeds


def test_more_than_a_thousand_seeds_are_not_told():
    """The effects that a thousand and a thousand and one seeds see four times in five."""
    from scipy.optimize import brentq

    seen = [brentq(lambda e, n=n: power_of_seeds(n, 1.0, e) - 0.8, 0.05, 0.2) for n in (1000, 1001)]
    assert seeds_needed(1.0, seen[0] * 1.0001) == 1000
    assert seeds_needed(1.0, sum(seen) / 2) is None


def test_power_is_the_share_of_experiments_that_see_the_effect():
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.3, 0.2, size=(20_000, 6))
    seen = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert power_of_seeds(6, 0.2, 0.3) == pytest.approx(seen.mean(), abs=0.01)


def test_all_agree_with_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar as exact
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.power import TTestPower
    from statsmodels.stats.proportion import proportion_confint

    for b, c in ((1, 9), (2, 10), (30, 11)):
        table = [[7, b], [c, 7]]
        assert mcnemar(*answers(b, c)) == pytest.approx(exact(table, exact=True).pvalue)
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9]
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])
    for right, n in ((0, 10), (7, 10), (481, 500)):
        expected = proportion_confint(right, n, alpha=0.05, method="wilson")
        assert wilson(right / n, n) == pytest.approx(expected, abs=1e-12)
    for seeds, sd, effect in ((5, 2.0, 1.5), (12, 1.0, 1.0)):
        expected = TTestPower().power(effect / sd, seeds, 0.05, alternative="two-sided")
        assert power_of_seeds(seeds, sd, effect) == pytest.approx(expected, abs=1e-6)
