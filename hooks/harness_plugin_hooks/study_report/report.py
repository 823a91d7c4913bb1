"""One study's tables → its report: study_*.md, study_*.html, figures, effects_*.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from harness_plugin.files import write_table, write_text
from harness_plugin.study.plan import Study as Plan
from harness_plugin_hooks.study_report import figures, markdown, page
from harness_plugin_hooks.study_report.analysis import analyse
from harness_plugin_hooks.study_report.document import Section, how_to_read, sections
from harness_plugin_hooks.study_report.reading import Study, read


def write(
    folder: Path,
    plan: Plan,
    numbers: pd.DataFrame,
    estimates: pd.DataFrame,
    parameters: Mapping[str, int],
) -> list[Path]:
    """Every file of the report, the page first. Raises HarnessError for tables it cannot read."""
    study = of_plan(plan, numbers, estimates)
    found = analyse(study)
    folder.mkdir(parents=True, exist_ok=True)
    drawings = figures.draw(study, found, folder, parameters)
    told = sections(study, found, {key: path.name for key, path in drawings.items()}, parameters)
    title = f"Study {study.name}"
    words = title, study.summary, about(study), told, how_to_read(study)
    files = {path.name: path for path in drawings.values()}
    embedded = "embedded" in set(numbers.source)
    html, text = (folder / f"study_{study.name}.{end}" for end in ("html", "md"))
    write_text(html, page.page(*words, files, embedded))
    write_text(text, markdown.page(*words))
    parquet = folder / f"effects_{study.name}.parquet"
    write_table(parquet, [one.row(study.name) for one in found])
    return [html, text, *files.values(), parquet]


def tell(
    plan: Plan, numbers: pd.DataFrame, estimates: pd.DataFrame, parameters: Mapping[str, int]
) -> tuple[str, list[Section]]:
    """The size of a study in a sentence, and its sections without figures."""
    study = of_plan(plan, numbers, estimates)
    return about(study), sections(study, analyse(study), {}, parameters)


def of_plan(plan: Plan, numbers: pd.DataFrame, estimates: pd.DataFrame) -> Study:
    """The numbers of a plan, in its order."""
    levels = {factor.name: factor.names for factor in plan.factors}
    return read(
        plan.name,
        plan.given.summary,
        len(plan.configurations),
        {"task": plan.given.tasks, **levels},
        numbers,
        estimates,
    )


def about(study: Study) -> str:
    """The size of the study in a sentence."""
    configurations = str(study.numbers.configuration.nunique())
    if int(configurations) < study.planned:
        configurations = f"{configurations} of {study.planned}"
    trained = len(study.numbers[["configuration", "seed"]].drop_duplicates())
    sources = ", ".join(sorted(set(study.numbers.source)))
    seeds = ", ".join(map(str, study.seeds))
    factors = "; ".join(f"{name}: {', '.join(study.levels_of(name))}" for name in study.factors)
    return (
        f"{configurations} configurations, {trained} runs, seeds {seeds}; data {sources}. "
        f"Factors: {factors or 'none'}."
    )
