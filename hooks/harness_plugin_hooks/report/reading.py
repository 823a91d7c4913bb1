"""The files of a run → what the report is made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness_plugin._version import EXTRA_OF, install_command
from harness_plugin.analysis.run_data import read_data
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records.run_folder import run_folder, start_of
from harness_plugin.scoring.files.transfer_record import TransferRecord, read_record
from harness_plugin.store.files import read_json
from harness_plugin_hooks.report import certificates, remedies
from harness_plugin_hooks.report.examples import Disagreements, disagreements

WHEN = r"\d{4}-[0-9T.-]+"


@dataclass(frozen=True)
class Analysis:
    """One analysis of one task, and the file it stands in."""

    file: Path
    split: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class TaskPage:
    """All that is known of one task of a run."""

    record: TransferRecord
    analyses: Mapping[str, Analysis]
    examples: Sequence[Disagreements] = field(default_factory=tuple)
    without_examples: str = ""
    """Why there are none."""
    remedies: Sequence[remedies.RemedyFile] = ()
    certificates: Sequence[certificates.CertificateFile] = ()


@dataclass(frozen=True)
class RunPages:
    """A run, as it is reported."""

    folder: Path
    started: str
    tasks: Sequence[TaskPage]


def read_run(
    folder: Path,
    plugins: Plugins,
    *,
    started: str | None = None,
    tasks: Sequence[str] = (),
    examples: int = 24,
) -> RunPages:
    """The run in `folder`; of several the one that `started`, of its tasks only `tasks`.

    `examples` are shown of each student and set; 0 opens neither data nor models.
    """
    folder = run_folder(folder)
    time = start_of(folder, started)
    records = {
        record.task: record
        for file in sorted(folder.glob(f"transfer_*_{time}.json"))
        for record in [read_record(file)]
    }
    for task in tasks:
        if task not in records:
            raise unknown(f"task of the run in {folder}", task, records)
    pages = []
    for name in [name for name in records if not tasks or name in tasks]:
        record = records[name]
        examples_of_task, reason = examples_of(folder, plugins, time, record, examples)
        pages.append(
            TaskPage(
                record,
                analyses_of(folder, time, record),
                examples_of_task,
                reason,
                remedies.read(folder, record),
                certificates.read(folder, record),
            )
        )
    return RunPages(folder, time, pages)


def analyses_of(folder: Path, time: str, record: TransferRecord) -> dict[str, Analysis]:
    """Name -> the newest analysis of that name made of this run's models."""
    name = re.compile(rf"analysis_{re.escape(record.task)}_{WHEN}\.json")
    analyses: dict[str, Analysis] = {}
    for file in sorted(folder.iterdir()):
        if not name.fullmatch(file.name):
            continue
        made = read_json(file)
        if not isinstance(made, dict):
            raise HarnessError(f"{file}: expected an analysis, found a {type(made).__name__}.")
        if made.get("run") != time or made.get("fingerprint") != record.fingerprint:
            continue
        for key, part in made.items():
            if isinstance(part, dict) and key not in ("groups", "options"):
                analyses[key] = Analysis(
                    file, str(part.get("split") or made.get("split", "")), part
                )
    return analyses


def examples_of(
    folder: Path, plugins: Plugins, time: str, record: TransferRecord, most: int
) -> tuple[Sequence[Disagreements], str]:
    """Where teacher and students disagree on each set, or why it cannot be shown."""
    roles = {model.role for model in record.models}
    students = sorted(role for role in roles if role.startswith("student"))
    if most == 0:
        return (), "None were asked for (--examples 0)."
    if "teacher" not in roles or not students:
        return (), "There is no teacher and student to disagree."
    try:
        (data,) = read_data(folder, plugins, started=time, tasks=[record.task])
        return disagreements(data, plugins, record, folder, students, most), ""
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA_OF:
            raise
        return (), f"They need what reads models and data: {install_command('train')}."
    except HarnessError as error:  # the numbers stand on their own: the page says what is missing
        return (), f"They need the run's data and predictions: {error}"
