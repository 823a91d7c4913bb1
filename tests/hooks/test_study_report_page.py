"""A study's report as it is written: page, text, figures and tables."""

import math
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from study_tables import plan, tables

from harness_plugin.errors import HarnessError
from harness_plugin_hooks.render import document
from harness_plugin_hooks.report.figures.drawing import styled
from harness_plugin_hooks.study.report import figures, write
from harness_plugin_hooks.study.report.analysis import analyse
from harness_plugin_hooks.study.report.answer import answers
from harness_plugin_hooks.study.report.findings import filled, requested_tables
from harness_plugin_hooks.study.report.report import of_plan, size_and_sections

HOSTILE = "<script>alert('x')</script>|`*"


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
    verdicts, first, second = answers(made, analyse(made))
    assert verdicts == "verdicts: 4 undecided."
    assert first.startswith("remedy: upsample instead of none narrows the gap by 20.0 points (")
    assert second.startswith("size: no effect on the gap is shown (the largest of 1: large instead")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("lost", "lost"), "verdicts: 2 lost (student)."),
        (("kept", "undecided"), "verdicts: 1 kept, 1 undecided."),
        (("nothing_to_keep",) * 2, "verdicts: 2 nothing to keep."),
    ],
)
def test_verdicts_come_first_and_a_student_with_one_kind_is_named(states, expected):
    study = plan({"remedy": ("none", "upsample")})
    numbers, estimates = tables(study, lambda levels, role, seed: 0.1)
    estimates.loc[estimates.verdict != "", "verdict"] = states
    made = of_plan(study, numbers, estimates)
    assert answers(made, analyse(made))[0] == expected


def test_one_seed_has_no_interval_and_says_so():
    study = plan({"remedy": ("none", "upsample")}, seeds=(0,))
    numbers, estimates = tables(study, lambda levels, role, seed: 0.2)
    made = of_plan(study, numbers, estimates)
    *_, only = answers(made, analyse(made))
    assert only.endswith("by 0.0 points (no interval: too few seeds)).")


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
    _, result = size_and_sections(study, numbers, estimates, {})
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
    about, sections = size_and_sections(*values, {})
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
