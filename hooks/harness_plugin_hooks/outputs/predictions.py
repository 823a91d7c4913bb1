"""predictions_*.csv: what every model answers on one evaluation set, from which all numbers follow.

The layout is that of `harness_plugin.scoring.files.prediction_tables`.
"""

from __future__ import annotations

from pathlib import Path

from harness_plugin.records import RunReport
from harness_plugin.scoring.files.prediction_tables import answers_on, csv_parts, file_name, set_of
from harness_plugin.store.files import timestamp, write_parts


def write(report: RunReport, folder: Path) -> list[Path]:
    """One file an evaluation set, when the run was asked for its predictions."""
    files = []
    for scores in report.tasks if report.config.get("log_samples") else ():
        for split in scores.purposes:
            file = folder / file_name(scores.task, split, timestamp(report.started))
            write_parts(file, csv_parts(set_of(scores, split), answers_on(scores, split)))
            files.append(file)
    return files
