"""One study's tables → its report: study_*.md, study_*.html, figures, effects_*.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from harness_plugin.store.files import write_table, write_text
from harness_plugin.study.plan import Study as Plan
from harness_plugin_hooks.render.document import Section
from harness_plugin_hooks.render.html import page
from harness_plugin_hooks.render.markdown import markdown
from harness_plugin_hooks.study.report import figures
from harness_plugin_hooks.study.report.analysis import analyse
from harness_plugin_hooks.study.report.answer import answers
from harness_plugin_hooks.study.report.document import report, sections, size
from harness_plugin_hooks.study.report.reading import Study, read


def write(
    folder: Path,
    plan: Plan,
    numbers: pd.DataFrame,
    estimates: pd.DataFrame,
    parameters: Mapping[str, int],
) -> list[Path]:
    """Every file of the report, the page first. Raises HarnessError for tables it cannot read."""
    study = of_plan(plan, numbers, estimates)
    analysed = analyse(study)
    folder.mkdir(parents=True, exist_ok=True)
    drawings = figures.draw(study, analysed, folder, parameters)
    answer, embedded = answers(study, analysed), "embedded" in set(numbers.source)
    document = report(study, analysed, drawings, parameters, answer, embedded)
    html, text = (folder / f"study_{study.name}.{end}" for end in ("html", "md"))
    write_text(html, page(document))
    write_text(text, markdown(document))
    parquet = folder / f"effects_{study.name}.parquet"
    write_table(parquet, [one.row(study.name) for one in analysed])
    return [html, text, *drawings.values(), parquet]


def size_and_sections(
    plan: Plan, numbers: pd.DataFrame, estimates: pd.DataFrame, parameters: Mapping[str, int]
) -> tuple[str, list[Section]]:
    """The size of a study in a sentence, and its sections without figures."""
    study = of_plan(plan, numbers, estimates)
    return size(study), sections(study, analyse(study), {}, parameters)


def of_plan(plan: Plan, numbers: pd.DataFrame, estimates: pd.DataFrame) -> Study:
    """The numbers of a plan, in its order."""
    levels = {factor.name: factor.names for factor in plan.factors}
    return read(
        plan.name,
        plan.plan.summary,
        len(plan.configurations),
        {"task": plan.plan.tasks, **levels},
        numbers,
        estimates,
    )
