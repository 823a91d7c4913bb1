"""transfer_*.json: what this project is about, all roles of a task side by side.

The layout is `harness_plugin.scoring.files.transfer_record.TransferRecord`.
"""

from __future__ import annotations

from pathlib import Path

from harness_plugin.records import RunReport
from harness_plugin.scoring.files.transfer_record import record_of
from harness_plugin.store.files import portable, timestamp, write_json


def write(report: RunReport, folder: Path) -> list[Path]:
    """One file a task; paths in it are relative to the run's folder."""
    files = []
    for scores in report.tasks:
        record = record_of(report, scores)
        file = folder / f"transfer_{scores.task}_{timestamp(report.started)}.json"
        run = Path(report.config.get("output_path") or folder)
        write_json(file, portable(record.model_dump(mode="json"), run))
        files.append(file)
    return files
