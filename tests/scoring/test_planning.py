"""Plans: the promised power by simulation, limits, words."""

import numpy as np
import pytest

from harness_plugin.cli import main as cli
from harness_plugin.records import VerdictRule
from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.planning import assumed, lines, plan_set, smallest_loss
from harness_plugin.scoring.statistics.intervals import bounds, components
from harness_plugin.scoring.verdict import BY_GAP
from tests.helpers.planted import planted

RULE = VerdictRule()


def plan(rows=1000, **more):
    fields = {"seeds": 5, "effect": 0.10, "seed_sd": 0.02}
    return plan_set(
        planted((0,) * 4, rows=rows), m.GAP_ALIGNED_CONFLICTING, RULE, **(fields | more)
    )


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_smallest_loss_is_called_lost_with_the_power_promised(seeds):
    """Draws from the assumed model: seeds, rows they share, rows of their own."""
    c = assumed(400, seeds, 0.03)
    true = smallest_loss(c, RULE, 0.8)
    rng = np.random.default_rng(seeds)
    common, own = np.sqrt(float(c.rows - c.own)), np.sqrt(float(c.own) * seeds)
    lost = 0
    for _ in range(600):
        number = true + rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, common)
        number = number + rng.normal(0, own, (seeds, 1))
        drawn = rng.normal(0, common, (1, 150)) + rng.normal(0, own, (seeds, 150))
        values = np.hstack([number, number + drawn])
        lost += bounds(components(values, c.df), BY_GAP).low > RULE.margin
    assert lost / 600 == pytest.approx(0.8, abs=0.06)


def test_more_of_everything_shows_more():
    base = plan()
    assert plan(seeds=10).smallest_loss < base.smallest_loss
    assert plan(rows=4000).smallest_loss < base.smallest_loss
    assert plan(seed_sd=0.01).smallest_loss < base.smallest_loss
    assert plan(power=0.9).smallest_loss > base.smallest_loss
    assert base.ever <= base.smallest_loss


def test_needs_agree_with_what_is_shown():
    result = plan(effect=0.08)
    assert result.seeds_for_effect is not None
    at = plan(effect=0.08, seeds=result.seeds_for_effect)
    before = plan(effect=0.08, seeds=result.seeds_for_effect - 1)
    assert at.smallest_loss <= 0.08 < before.smallest_loss


def test_what_can_never_be_shown_says_so():
    few = plan(rows=20)
    assert "20 rows in its smallest cell" not in few.reason  # a gap's cells are of two groups
    assert few.short.startswith("5 seeds show a loss of ")
    none = plan(rows=10)
    assert none.short == "no verdict: 20 rows in its smallest cell, an interval needs 30"
    assert list(lines([none], 0.05)) == [f"balanced: {none.short}"]
    assert plan(seeds=1).short == "1 seed(s) give no verdict, it takes 3"


def test_a_plan_says_that_rows_of_a_cluster_are_not_independent():
    """100 clusters of 20 rows in either cell: t knows of 99 degrees, the variance of none."""
    cluster = np.arange(4000) // 20
    more = {"cluster": cluster, "clusters": tuple(f"c{i:03}" for i in range(200))}
    rows = planted((0,) * 4, rows=1000, **more)
    fields = {"seeds": 5, "effect": 0.10, "seed_sd": 0.02}
    made = plan_set(rows, m.GAP_ALIGNED_CONFLICTING, RULE, **fields)
    assert made.short.endswith(
        " points or more if rows of a cluster were independent (100 clusters; --run DIR plans with "
        "what these cost a run)"
    )
    c = assumed(2000, 5, 0.02, df=99)
    assert c.df == 99
    assert made.smallest_loss == smallest_loss(c, RULE, 0.8) > plan().smallest_loss
    assert "independent" not in plan().short


def test_the_command(capsys):
    assert cli.main(["plan", "--tasks", "hans", "--effect", "12"]) == 0
    output = capsys.readouterr().out
    assert "hans (embedded data), power 0.8:" in output
    assert "3 seeds show a loss of " in output
    assert cli.main(["plan", "--tasks", "hans", "--power", "1"]) == 2
    assert "--power 1: expected more than 0, under 1" in capsys.readouterr().err
