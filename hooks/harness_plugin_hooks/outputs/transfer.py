"""transfer_*.json: what this project is about, all roles of a task side by side.

The layout is `harness_plugin.scoring.transfer_record.TransferRecord`.
"""

from __future__ import annotations

from pathlib import Path

from harness_plugin.files import timestamp, write_json
from harness_plugin.records import RunReport
from harness_plugin.scoring.transfer_record import record_of


def write(report: RunReport, folder: Path) -> list[Path]:
    """One file a task."""
    files = []
    for scores in report.tasks:
        record = record_of(report, scores)
        file = folder / f"transfer_{scores.task}_{timestamp(report.started)}.json"
        write_json(file, record.model_dump(mode="json"))
        files.append(file)
    return files
