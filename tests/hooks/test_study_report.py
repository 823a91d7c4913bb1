"""A study's report: effects by hand, against mixed models and by simulation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import answered, scored
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from study_tables import plan, tables

from harness_plugin.config.merge import task_settings
from harness_plugin.data.task import find_task
from harness_plugin.scoring.verdict import verdicts
from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study
from harness_plugin.study.results import estimates_of
from harness_plugin_hooks.render.document import Text
from harness_plugin_hooks.study.report.analysis import analyse
from harness_plugin_hooks.study.report.effects import Table, average, contrast, pooled
from harness_plugin_hooks.study.report.report import of_plan
from harness_plugin_hooks.study.report.tables import configuration_tables, verdict_tables

STUDIES = Path(__file__).resolve().parents[2] / "studies"
CELLS = {
    "embedded": {
        "kd_undermines": (5, 120),
        "teacher_helps": (5, 145),
        "relative_scale": (10, 190),
        "bias_types": (4, 120),
        "remedies": (9, 105),
        "remedies_beyond": (14, 115),
        "compression": (10, 65),
    },
    "paper": {
        "kd_undermines": (24, 520),
        "teacher_helps": (24, 640),
        "relative_scale": (21, 340),
        "bias_types": (21, 490),
        "matrix": (2340, 25260),
        "remedies": (14, 160),
        "remedies_beyond": (27, 215),
    },
}
"""Configurations and distinct trainings of each plan, of five seeds."""
LEARNT = ((90, 88, 88, 90), (91, 88, 87, 91), (90, 87, 89, 90))
LOST = ((95, 40, 40, 95), (96, 41, 40, 94), (95, 39, 42, 95))
"""Rows that are right, of 100 in each of four groups, for three seeds of teacher and student."""
T4 = 2.7764451051977987
"""Student's t, 4 degrees of freedom, 97.5%."""


def effect(result, **expected):
    expected = {"kind": "effect", "response": "gap_widening"} | expected
    (one,) = [f for f in result if all(getattr(f, k) == v for k, v in expected.items())]
    return one


def crossed(effects, seeds=range(5), common=math.nan, rows_df=99):
    """A table from one row a context; `common` is the rows' variance of every context."""
    values = pd.DataFrame(effects, columns=seeds)
    return Table(values, pd.Series(common, values.index, dtype=float), rows_df)


def test_a_balanced_effect_by_hand():
    # two methods, two sizes, five seeds: poe adds 4 points, and what the seed makes of it
    of_seed = [0.0, 0.01, -0.01, 0.02, -0.02]
    own = [0.01, -0.01, 0.0, 0.02, -0.02]

    def widening(levels, role, seed):
        size = {"small": 0.05, "large": 0.0}[levels["student"]]
        return size + of_seed[seed] + (0.04 + own[seed]) * (levels["method"] == "poe")

    study = plan({"method": ("group_dro", "poe"), "student": ("small", "large")})
    result = analyse(of_plan(study, *tables(study, widening)))
    poe = effect(result, factor="method", level="poe").average
    half = T4 * np.std(own, ddof=1) / math.sqrt(5)
    assert (poe.value, poe.contexts, poe.seeds, poe.missing) == (pytest.approx(0.04), 2, 5, 0)
    assert (poe.low, poe.high) == pytest.approx((0.04 - half, 0.04 + half))
    size = effect(result, factor="student", level="large").average
    assert (size.value, size.sd) == (pytest.approx(-0.05), pytest.approx(0, abs=1e-12))
    means = {
        f.level: f.average.value
        for f in result
        if (f.kind, f.factor, f.response) == ("mean", "student", "gap_widening")
    }
    assert means == pytest.approx({"small": 0.07, "large": 0.02})
    retained = effect(result, factor="method", level="poe", response="retention").average
    assert retained.value == pytest.approx(-0.04 / 0.4)
    assert (retained.high - retained.low) / 2 == pytest.approx(half / 0.4)


@pytest.mark.parametrize("mixed", [True, False])
def test_retention_by_seed_is_measured_from_the_erm_student_of_the_students_start(mixed):
    """Its mean is the estimate; where all students start from the teacher no other is there."""
    study = plan({"method": ("group_dro", "poe")})
    numbers, estimates = tables(study, lambda levels, role, seed: 0.1 + 0.01 * seed)
    starts = {"student": "even layers of teacher", "erm_student_even": "even layers of erm_teacher"}
    of_even = numbers[numbers.role == "erm_student"].assign(role="erm_student_even")
    of_even = of_even.assign(value=of_even.value + 0.1)
    numbers = pd.concat([numbers if mixed else numbers[numbers.role != "erm_student"], of_even])
    numbers = numbers.assign(start=numbers.role.map(starts).fillna(""))
    kept = estimates.measure == "retention"
    estimates = estimates.assign(value=estimates.value - 0.25 * kept)
    read = of_plan(study, numbers, estimates).numbers
    by_seed = read[(read.measure == "retention") & (read.configuration == read.configuration[0])]
    # (0.7 - widening - 0.4) / 0.4 in every seed
    assert by_seed.value.tolist() == pytest.approx([0.5 - 0.025 * seed for seed in range(5)])


def test_the_effect_is_that_of_a_mixed_model():
    # seed and seed x level as random effects, two configurations a level
    rng = np.random.default_rng(7)
    rows, tables_ = [], {}
    for level, shift in (("a", 0.0), ("b", 0.5)):
        values = np.zeros((3, 8))
        for seed in range(8):
            values[:, seed] = shift + rng.normal(0, 0.6) + rng.normal(0, 0.2, 3)
        tables_[level] = crossed(values, range(8))
        rows += [
            {"y": values[context, seed], "b": float(level == "b"), "seed": seed}
            for context in range(3)
            for seed in range(8)
        ]
    frame = pd.DataFrame(rows)
    exog = np.column_stack([np.ones(len(frame)), frame.b])
    fit = MixedLM(frame.y, exog, frame.seed, exog_re=exog).fit(reml=True)
    ours = contrast(tables_["b"], tables_["a"])
    assert ours.value == pytest.approx(fit.fe_params.iloc[1], abs=1e-6)
    assert ours.sd / math.sqrt(ours.seeds) == pytest.approx(fit.bse_fe.iloc[1], rel=0.01)


def test_intervals_of_five_seeds_hold_what_they_promise():
    # the seed's own reaction to the level is shared by all configurations of that seed
    rng = np.random.default_rng(3)
    held, held_percentiles, runs = 0, 0, 600
    for _ in range(runs):
        shared = rng.normal(0, 0.03, 5)
        effects = 0.05 + shared + rng.normal(0, 0.02, (4, 5))
        result = average(crossed(effects))
        held += result.low <= 0.05 <= result.high
        drawn = effects.mean(axis=0)[rng.integers(5, size=(400, 5))].mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        held_percentiles += low <= 0.05 <= high
    assert 0.93 <= held / runs <= 0.97
    assert held_percentiles / runs < 0.90  # what percentiles of five resampled seeds would do


def test_undefined_values_are_left_out_with_their_pair_and_counted():
    table = crossed([[1, 2, 3, 4, 5], [9, 9, math.nan, 9, 9]])
    result = average(table)
    assert (result.value, result.contexts, result.seeds, result.missing) == (3, 1, 5, 1)
    only = average(crossed([[9, 9, math.nan, 9, 9]]))
    assert (only.value, only.seeds, only.missing) == (9, 4, 1)
    nothing = average(crossed([[math.nan] * 5]))
    assert nothing.reason == "undefined in every configuration"
    assert math.isnan(nothing.value)
    one = average(crossed([[0.1]], seeds=[0]))
    assert (one.value, one.reason) == (0.1, "one seed: no interval")
    assert math.isnan(one.low)
    apart = contrast(crossed([[1] * 5]), Table(pd.DataFrame([[1] * 5], [7]), pd.Series([0.0], [7])))
    assert apart.reason == "no two configurations differ in this alone"
    part = average(crossed([[1, 2, 3, 4, 5]]))
    assert pooled([part, average(crossed([[3, 4, 5, 6, 7]]))]).value == 4
    assert pooled([]).reason == "no seed that all sets share"


def test_rows_that_all_seeds_share_are_in_the_interval():
    """Squares of half-widths add up; where seeds agree it is the rows' interval, p too."""
    values = [0.02, 0.05, 0.04, 0.08, 0.06]
    seeds, rows = stats.t.ppf(0.975, [4, 99])
    result = average(crossed([values], common=0.03**2))
    half = math.hypot(seeds * np.std(values, ddof=1) / math.sqrt(5), rows * 0.03)
    assert (result.low, result.high) == pytest.approx((0.05 - half, 0.05 + half))
    agree = average(crossed([[0.05] * 5], common=0.03**2))
    assert agree.high == pytest.approx(0.05 + rows * 0.03)
    assert agree.p == pytest.approx(2 * stats.t.sf(0.05 / 0.03, 99))
    alone = average(crossed([values]))  # not known
    assert alone.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    # two configurations on the same rows: at most the mean of their deviations
    assert average(crossed([values, values], common=0.03**2)).common == pytest.approx(0.03**2)
    # a difference on the same rows: at most the sum; sets have rows of their own
    both = contrast(crossed([values], common=0.03**2), crossed([values], common=0.04**2))
    assert both.common == pytest.approx(0.05**2)
    parts = [average(crossed([values], common=c**2, rows_df=df)) for c, df in ((3, 99), (4, 50))]
    assert (pooled(parts).common, pooled(parts).rows_df) == (pytest.approx(25 / 4), 50)


@pytest.mark.parametrize("factors", [{"method": ("erm", "poe")}, {}], ids=["method", "task"])
def test_what_a_run_has_too_few_rows_for_has_no_interval_in_a_study(factors):
    """Seeds alone would call a worst group of 6 templates certain; other numbers are as before."""
    why = "no interval: 6 clusters of rows, an interval needs 20"
    study = plan(factors, tasks=("celeba_bias", "hans"))
    numbers, estimates = tables(study, lambda levels, role, seed: 0.1 + 0.01 * seed)
    before = analyse(of_plan(study, numbers, estimates))
    few = (numbers.metric == "worst_group_acc") & numbers.measure.isin(("score", "contribution"))
    numbers.loc[few & (numbers.task == "hans"), "reason"] = why
    after = analyse(of_plan(study, numbers, estimates))
    assert len(before) == len(after)
    of_few = 0
    for known, now in zip(before, after, strict=True):
        assert known.average.value == pytest.approx(now.average.value, nan_ok=True)
        if now.average.reason == why:
            of_few += 1
            assert known.average.low <= known.average.value <= known.average.high
            assert np.isnan([now.average.low, now.average.high, now.average.p]).all()
            assert now.response in ("contribution", "worst_group_acc")
            assert now.rank is None
        else:
            ends = (known.average.low, known.average.high)
            assert (now.average.low, now.average.high) == pytest.approx(ends, nan_ok=True)
    assert of_few >= 2
    # a difference, and a mean with a set that has rows enough, are no better
    lacking, enough = replace(crossed([[1, 2, 3, 4, 5]]), too_few=why), crossed([[2, 3, 3, 4, 5]])
    assert contrast(lacking, enough).reason == contrast(enough, lacking).reason == why
    assert pooled([average(enough), average(lacking)]).reason == why


def test_five_seeds_on_one_sample_of_rows_hold_a_known_mean():
    """400 rows that all five seeds answer: seeds alone hold the accuracy far less often."""
    rng = np.random.default_rng(5)
    held, held_by_seeds, runs = 0, 0, 500
    for _ in range(runs):
        of_row, of_seed = rng.normal(0, 1, 400), rng.normal(0, 0.02, 5)
        right = of_row + rng.normal(0, 1, (5, 400)) > 0  # true with probability 1/2
        values = right.mean(axis=1) + of_seed
        common = np.cov(right)[np.triu_indices(5, 1)].mean() / 400
        result = average(crossed([values], common=max(0, common), rows_df=399))
        held += result.low <= 0.5 <= result.high
        by_seeds = average(crossed([values]))
        held_by_seeds += by_seeds.low <= 0.5 <= by_seeds.high
    assert 0.93 <= held / runs <= 0.985
    assert held_by_seeds / runs < 0.92


def test_the_report_takes_the_rows_variance_from_the_tables():
    study = plan({"method": ("group_dro", "poe")})
    widening = lambda levels, role, seed: 0.04 * (levels["method"] == "poe")  # noqa: E731
    result = analyse(of_plan(study, *tables(study, widening, common=0.01**2)))
    poe = effect(result, factor="method", level="poe").average
    half = stats.t.ppf(0.975, 499) * 0.01 * math.sqrt(2)
    assert (poe.low, poe.high) == pytest.approx((0.04 - half, 0.04 + half))
    retained = effect(result, factor="method", level="poe", response="retention").average
    assert math.isnan(retained.common)


def test_the_mean_of_a_score_ends_where_scores_do():
    study = plan({"method": ("group_dro", "poe")})
    swings = lambda levels, role, seed: 0.45 * (-1) ** seed  # noqa: E731
    result = [f for f in analyse(of_plan(study, *tables(study, swings))) if f.kind == "mean"]
    scores = [f.average for f in result if f.response in ("acc", "worst_group_acc")]
    assert {(a.low >= 0, a.high <= 1) for a in scores} == {(True, True)}
    assert any(a.low == 0 or a.high == 1 for a in scores)
    assert any(abs(f.average.low) > 0.5 for f in result if f.response == "gap_widening")


def test_ranks_are_those_that_intervals_allow():
    base = {"none": 0.2, "upsample": 0.05, "rounds": 0.19}

    def widening(levels, role, seed):
        return base[levels["remedy"]] + 0.01 * (seed - 2)

    study = plan({"remedy": ("none", "upsample", "rounds")})
    result = analyse(of_plan(study, *tables(study, widening)))
    ranks = {
        response: {f.level: f.rank for f in result if (f.kind, f.response) == ("mean", response)}
        for response in ("gap_widening", "worst_group_acc")
    }
    assert ranks["gap_widening"] == {"none": (2, 3), "upsample": (1, 1), "rounds": (2, 3)}
    assert ranks["worst_group_acc"] == ranks["gap_widening"]
    # two seeds rank nothing
    few = plan({"remedy": ("none", "upsample", "rounds")}, seeds=(0, 1))
    assert all(f.rank is None for f in analyse(of_plan(few, *tables(few, widening))))
    # the seed moves all levels alike: effects are paired and exact, ranks are careful
    assert effect(result, level="rounds").average.clear
    assert effect(result, level="rounds").p_holm < 0.05


def test_the_tables_have_the_verdicts_of_the_run():
    """One row a student and set, that of its primary gap's size; no other row has a state."""
    result = scored([*answered(*LOST), *answered(*LEARNT, role="teacher")])
    rows = [row for row in estimates_of(result) if row["verdict"]]
    expected = {(r["role"], r["split"], r["metric"]): r["verdict"] for r in rows}
    assert expected == {(v.student, v.split, v.gap): v.state for v in verdicts(result)}
    assert sorted(expected.values()) == ["kept", "lost"]  # in domain all answer alike
    assert {(r["measure"], r["subset"]) for r in rows} == {("gap_size_change", "")}
    assert {(r["margin"], r["min_seeds"]) for r in rows} == {(0.02, 3)}
    assert {(r["split"], r["notes"]) for r in rows} == {
        (v.split, " ".join(v.notes)) for v in verdicts(result)
    }


def test_the_tables_have_the_changed_answers_of_the_run():
    """By hand: of 400 rows a student of `LOST` answers 5 + 48 + 48 + 5 otherwise in seed 0."""
    result = scored([*answered(*LOST[:1]), *answered(*LEARNT[:1], role="teacher")])
    rows = {
        (r["subset"], r["metric"]): r
        for r in estimates_of(result)
        if (r["measure"], r["split"]) == ("flips_teacher", "balanced")
    }
    whole = {metric: row["value"] for (subset, metric), row in rows.items() if not subset}
    assert whole["changed"] == pytest.approx(106 / 400)
    assert (whole["lost"], whole["repaired"]) == pytest.approx((96 / 400, 10 / 400))
    assert rows["group=a-against", "lost"]["value"] == pytest.approx(0.48)
    assert rows["group=a-against", "lost"]["n"] == 100
    flips = [f for f in result.flips if f.split == "balanced"]
    assert {subset for subset, _ in rows} == {f.subset for f in flips}
    assert {row["higher_is_better"] for (_, m), row in rows.items() if m == "repaired"} == {True}


def test_verdicts_are_counted_by_hand():
    """Two students on three remedies of two teachers: six configurations a student."""
    states = {
        ("small", "none"): "lost",
        ("small", "upsample"): "kept",
        ("small", "rounds"): "undecided",
        ("large", "none"): "lost",
        ("large", "upsample"): "kept",
        ("large", "rounds"): "nothing_to_keep",
    }
    study = plan({"teacher": ("small", "large"), "remedy": ("none", "upsample", "rounds")})
    made = tables(
        study,
        lambda levels, role, seed: 0.1,
        roles=("student", "student_ce"),
        verdict=lambda x, role: (
            "lost" if role == "student_ce" else states[x["teacher"], x["remedy"]]
        ),
    )
    read = of_plan(study, *made)
    assert read.rules == ((0.05, 3),)
    (table,) = verdict_tables(read)
    titles = ("kept", "lost", "nothing to keep", "undecided", "of")
    assert tuple(column.title for column in table.columns) == ("role", "factor", "level", *titles)
    counts = {row[:3]: row[3:] for row in table.rows}
    assert counts["student", "all", ""] == (2, 2, 1, 1, 6)
    assert counts["student", "teacher", "small"] == (1, 1, 0, 1, 3)
    assert counts["student", "teacher", "large"] == (1, 1, 1, 0, 3)
    assert counts["student", "remedy", "none"] == (0, 2, 0, 0, 2)
    assert counts["student", "remedy", "upsample"] == (2, 0, 0, 0, 2)
    assert counts["student", "remedy", "rounds"] == (0, 0, 1, 1, 2)
    assert counts["student_ce", "all", ""] == (0, 6, 0, 0, 6)
    assert len(counts) == 2 * (1 + 2 + 3)
    (each,) = configuration_tables(read)
    at = [column.title for column in each.columns].index("debiasing")
    cells = {row[:3]: row[at] for row in each.rows}
    assert cells["large", "rounds", "student"] == Text("nothing to keep", "nothing_to_keep")
    lost = Text("lost", "lost", below=("no reference",))
    assert cells["small", "none", "student"] == lost
    (each,) = configuration_tables(of_plan(study, made[0], made[1].drop(columns="notes")))
    assert Text("lost", "lost") in {row[at] for row in each.rows}


@pytest.mark.parametrize("plan_file", sorted(STUDIES.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_the_plans_of_the_repository_expand(plan_file, plugins):
    study = read_study(plan_file)
    graph = graph_of(study, plugins)
    configurations, trainings = CELLS[plan_file.parent.name][plan_file.stem]
    assert (len(study.configurations), graph.trainings) == (configurations, trainings)
    assert study.plan.seeds == (0, 1, 2, 3, 4)
    assert study.name == plan_file.stem + "_paper" * (plan_file.parent.name == "paper")


def test_a_student_of_the_recipe_can_be_left_out(plugins):
    task = find_task("hans", plugins["task"])
    values = {"students": {"student": None}}
    assert set(task_settings(task, "embedded", ["hans"], values).students) == {"student_ce"}
