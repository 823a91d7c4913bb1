"""The report of a study: effects of its factors, ranks, scale maps, bias types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from harness_plugin.study.plan import Study


def write(
    folder: Path,
    plan: Study,
    numbers: pd.DataFrame,
    estimates: pd.DataFrame,
    parameters: Mapping[str, int] = MappingProxyType({}),
) -> list[Path]:
    """The report of one study: Markdown, a page, figures, and every number as Parquet.

    `numbers` has one row per number of each configuration and seed, `estimates` one per number
    over seeds (docs/studies.md); `parameters` are the models' by "TASK: teacher=LEVEL" and
    "TASK: student=LEVEL", where they are known. Returns the files, the page first.
    """
    from harness_plugin_hooks.study.report.report import write as write_report

    return write_report(folder, plan, numbers, estimates, parameters)
