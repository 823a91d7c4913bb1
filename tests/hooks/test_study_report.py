"""A study's report: effects by hand, against mixed models and by simulation; what it writes."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted import answered, scored
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from study_tables import plan, tables

from harness_plugin.config.merge import task_settings
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError
from harness_plugin.scoring.verdict import verdicts
from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study
from harness_plugin.study.results import estimates_of
from harness_plugin_hooks.render import document
from harness_plugin_hooks.report.figures.drawing import styled
from harness_plugin_hooks.study.report import figures, write
from harness_plugin_hooks.study.report.analysis import analyse
from harness_plugin_hooks.study.report.answer import answers
from harness_plugin_hooks.study.report.effects import Table, average, contrast, pooled
from harness_plugin_hooks.study.report.findings import filled, requested_tables
from harness_plugin_hooks.study.report.report import of_plan, tell
from harness_plugin_hooks.study.report.tables import verdict_tables

STUDIES = Path(__file__).resolve().parents[2] / "studies"
CELLS = {
    "embedded": {
        "kd_undermines": (5, 120),
        "teacher_helps": (5, 145),
        "relative_scale": (10, 190),
        "bias_types": (4, 120),
        "remedies": (9, 95),
        "remedies_beyond": (14, 115),
        "compression": (10, 65),
    },
    "paper": {
        "kd_undermines": (24, 520),
        "teacher_helps": (24, 640),
        "relative_scale": (21, 340),
        "bias_types": (21, 490),
        "matrix": (2340, 25260),
        "remedies": (14, 145),
        "remedies_beyond": (27, 215),
    },
}
"""Configurations and distinct trainings of each plan, of five seeds."""

LEARNT = ((90, 88, 88, 90), (91, 88, 87, 91), (90, 87, 89, 90))
LOST = ((95, 40, 40, 95), (96, 41, 40, 94), (95, 39, 42, 95))
"""Rows that are right, of 100 in each of four groups, for three seeds of teacher and student."""
HOSTILE = "<script>alert('x')</script>|`*"
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
    (table,) = verdict_tables(of_plan(study, *made))
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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report of two tasks, two students, a scale, a hostile level and undefined values."""
    rng = np.random.default_rng(0)

    def widening(levels, role, seed):
        if (levels["student"], levels["task"], seed) == (HOSTILE, "hans", 3):
            return math.nan
        return 0.1 * (role == "student_ce") + rng.normal(0, 0.01)

    study = plan(
        {"teacher": ("large", "small"), "student": ("small", HOSTILE)},
        tasks=("celeba_bias", "hans"),
        summary=HOSTILE,
    )
    numbers, estimates = tables(study, widening, roles=("student", "student_ce"))
    folder = tmp_path_factory.mktemp("study")
    counts = {"hans: student=small": 12345}
    return folder, write(folder, study, numbers, estimates, counts), (study, numbers, estimates)


def test_the_report_has_a_page_a_text_figures_and_every_number(written):
    folder, files, _ = written
    names = [path.name for path in files]
    assert names == [
        "study_made_up.html",
        "study_made_up.md",
        "effects_made_up.svg",
        "scale_made_up.svg",
        "bias_types_made_up.svg",
        "effects_made_up.parquet",
    ]
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    rows = pq.read_table(folder / "effects_made_up.parquet").to_pandas()
    assert set(rows.kind) == {"mean", "effect", "scale", "bias_type"}
    ce = rows[
        (rows.kind == "effect")
        & (rows.factor == "role")
        & (rows.response == "gap_widening")
        & (rows.task == "celeba_bias")
    ]
    assert len(ce) == 1
    assert 0.08 < ce.low.item() < ce.value.item() < ce.high.item() < 0.12
    assert len(ce.by_seed.item()) == 5
    everywhere = rows[(rows.factor == "role") & (rows.kind == "effect") & (rows.task == "")]
    assert set(everywhere.response) == {
        "gap_widening",
        "retention",
        "contribution",
        "worst_group_acc",
        "acc",
    }


def test_the_question_is_answered_first():
    """The remedy narrows the gap by 20 points in every seed, the size does nothing."""
    study = plan({"size": ("small", "large"), "remedy": ("none", "upsample")})

    def widening(levels, role, seed):
        return 0.3 - 0.2 * (levels["remedy"] == "upsample") + 0.01 * math.sin(7 * seed)

    numbers, estimates = tables(study, widening)
    made = of_plan(study, numbers, estimates)
    first, second = answers(made, analyse(made))
    assert first.startswith("remedy: upsample instead of none narrows the gap by 20.0 points (")
    assert second.startswith("size: no effect on the gap is shown (the largest of 1: large instead")


def test_figures_follow_the_theme_and_share_their_axis(written):
    _, files, (study, numbers, estimates) = written
    page = files[0].read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count("var(--student-1)") > 2
    with styled():
        made = of_plan(study, numbers, estimates)
        drawn = figures.effects(made, analyse(made))
    assert len(drawn.axes) == 4
    assert len({axes.get_xlim() for axes in drawn.axes}) == 1


def test_no_table_has_a_column_twice(written):
    _, _, values = written
    study, numbers, estimates = values
    _, result = tell(study, numbers, estimates, {})
    for table in (
        block for section in result for block in section.blocks if isinstance(block, document.Table)
    ):
        titles = [column.title for column in table.columns]
        assert len(set(titles)) == len(titles), titles


def test_nothing_of_a_stranger_becomes_markup(written):
    folder, _, _ = written
    page = (folder / "study_made_up.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page
    assert not re.findall(r"https?://", re.sub(r"base64,[^\"]*", "", page))
    assert "default-src 'none'" in page
    assert "demonstration: embedded" in page
    text = (folder / "study_made_up.md").read_text(encoding="utf-8")
    assert "<script>" not in text.replace("\\<script\\>", "")
    table = next(line for line in text.splitlines() if "small" in line and line.startswith("| "))
    assert table.count(" | ") >= 5


def test_what_is_undefined_is_counted_and_named(written):
    _, files, (_, numbers, _) = written
    text = files[1].read_text(encoding="utf-8")
    lacking = numbers[(numbers.reason != "") & (numbers.subset == "")].configuration.unique()
    section = text.partition("## What is undefined")[2]
    assert "| hans, balanced | gap widening | 4 | 40 |" in section
    assert all(configuration in section for configuration in lacking)
    assert "| student small (12,345) |" in text


def test_the_same_numbers_give_the_same_files(written, tmp_path):
    _, files, values = written
    again = write(tmp_path, *values, {"hans: student=small": 12345})
    assert [a.read_bytes() for a in again] == [b.read_bytes() for b in files]


def test_a_page_gets_the_tables_that_it_asks_for(written):
    _, _, values = written
    about, sections = tell(*values, {})
    page = (
        "by hand\n<!-- study made_up: By role; Effects of teacher -->\nold\n"
        "<!-- end of study made_up -->\nconclusion\n"
    )
    once = filled(page, "made_up", about, sections)
    assert once.startswith("by hand\n<!-- study")
    assert once.endswith("<!-- end of study made_up -->\nconclusion\n")
    assert "old" not in once
    assert "#### By role" in once
    assert "#### Effects of teacher" in once
    assert filled(once, "made_up", about, sections) == once
    assert requested_tables(once) == ["made_up"]
    with pytest.raises(HarnessError, match="By rule"):
        filled(page.replace("By role", "By rule"), "made_up", about, sections)
    with pytest.raises(HarnessError, match="end of study made_up --> is missing"):
        filled(page.partition("<!-- end")[0], "made_up", about, sections)
    with pytest.raises(HarnessError, match="unmade"):
        filled(page, "unmade", about, sections)


def test_tables_that_cannot_be_read_are_refused(written):
    _, _, (study, numbers, estimates) = written
    with pytest.raises(
        HarnessError, match="study made_up: the table of numbers lacks metric, seed"
    ):
        of_plan(study, numbers.drop(columns=["seed", "metric"]), estimates)
    with pytest.raises(HarnessError, match=r"worst_group_acc .* is there twice"):
        of_plan(study, pd.concat([numbers, numbers.head(1)]), estimates)
    with pytest.raises(HarnessError, match="no student was scored"):
        of_plan(study, numbers[numbers.role == "student"].assign(role="control"), estimates)


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
