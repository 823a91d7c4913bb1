"""Students by size in a study's report: order, verdicts, groups and the knee."""

import pandas as pd
import pytest
from study_tables import plan, tables

from harness_plugin.study.results import pruned
from harness_plugin_hooks.study.report.ladder import ladder_tables
from harness_plugin_hooks.study.report.report import of_plan

SIZES = {"int8": 8e6, "int4": 4e6, "int3": 3e6, "int2": 2e6}


@pytest.fixture
def read():
    study = plan({"compression": tuple(SIZES)})
    numbers, estimates = tables(study, lambda *_: 0.1, subsets=("", "group=blond/Male"))

    def made(states, sizes=SIZES):
        more = []
        students = estimates[(estimates.role == "student") & (estimates.subset == "")]
        for level, rows in students.groupby("factor_compression", sort=False):
            row = rows.head(1)
            more.append(row.assign(metric="bytes", measure="size", value=sizes[level]))
            more.append(row.assign(measure="gap_size_change", verdict=states[level]))
        every = pd.concat([estimates.assign(verdict=""), *more], ignore_index=True)
        return of_plan(study, numbers, every.fillna({"verdict": ""}))

    return made


@pytest.mark.parametrize(
    ("states", "knee"),
    [
        (("kept", "kept", "undecided", "lost"), "The knee: int4 (4 MB)."),
        (("kept", "lost", "kept", "lost"), "The knee: int3 (3 MB)."),
        (("lost", "lost", "undecided", "lost"), "No size has the verdict kept."),
    ],
)
def test_the_knee_is_the_smallest_that_is_kept(read, states, knee):
    (table,) = ladder_tables(read(dict(zip(SIZES, states, strict=True))))
    assert table.note == knee
    assert [column.title for column in table.columns][:3] == [
        "compression",
        "size, MB",
        "debiasing",
    ]
    assert table.columns[-1].title == "blond/Male"
    assert [(*row[:2], row[2].style) for row in table.rows] == [
        (name, f"{SIZES[name] / 1e6:g}", state) for name, state in zip(SIZES, states, strict=True)
    ]
    assert table.rows[0][3].value == pytest.approx(0.6)  # the worst group
    assert table.rows[0][4].value == pytest.approx(0.8)  # and the group's accuracy


def test_students_of_one_size_are_no_ladder(read):
    same = dict.fromkeys(SIZES, 8e6)
    assert list(ladder_tables(read(dict.fromkeys(SIZES, "kept"), same))) == []


def test_a_weight_that_was_rounded_to_0_is_stored_all_the_same():
    rounding, pruning = {"bits": 2}, {"pruned_weights": 30}
    assert pruned({"zeros": 80, "steps": [rounding]}) == 0
    assert pruned({"zeros": 80, "steps": [pruning, rounding]}) == 30
    assert pruned({"zeros": 31, "steps": [pruning]}) == 31
    assert pruned({}) == 0
