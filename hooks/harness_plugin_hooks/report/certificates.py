"""The report's section on certificates: what `harness remedy --certify` showed, by which bounds."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin.store.files import named
from harness_plugin_hooks.remedies.certify import words
from harness_plugin_hooks.remedies.certify.certificate import DOCUMENT, Certificate
from harness_plugin_hooks.remedies.certify.certificate import read as read_certificate
from harness_plugin_hooks.render.document import Cell, Column, Number, Table, Text
from harness_plugin_hooks.render.text import listed, plural


@dataclass(frozen=True)
class CertificateFile:
    """One certificate and the folder it lies in, with the answers that it follows from."""

    folder: Path
    made: Certificate


def read(folder: Path, of_task: TransferRecord) -> list[CertificateFile]:
    """The newest certificate of each student of a task, in the run's folder or in one beside it.

    Those in the run's folder are of data of the same source, the others of the same data.
    """
    own = {file.resolve() for file in folder.glob(f"certificate_*/{DOCUMENT}")}
    near = folder.resolve().parent.glob(f"*/certificate_{of_task.task}_*/{DOCUMENT}")
    files = own | {file.resolve() for file in near}
    by_student: dict[str, CertificateFile] = {}
    for file in sorted(files, key=lambda file: file.parent.name):
        made = read_certificate(file.parent)
        same = made.task == of_task.task and made.source == of_task.source
        if same and (file in own or made.fingerprint == of_task.fingerprint):
            by_student[made.baseline] = CertificateFile(file.parent, made)
    return list(by_student.values())


def sentences(certificate: CertificateFile) -> tuple[str, ...]:
    """The answer, and what else a reader must know of the rows."""
    made = certificate.made
    groups = [f"{name} {rows:,}" for name, rows in made.groups.items()]
    return (
        words.sentence(made),
        f"Certified on {made.rows:,} validation rows that chose nothing ({listed(groups)}) and "
        f"{plural(len(made.seeds), 'seed')}.",
    )


def notes(certificate: CertificateFile, of_task: TransferRecord) -> Iterator[str]:
    """Notes for a reader of these numbers."""
    made = certificate.made
    yield (
        f"Student {made.baseline} and its remedies, tested in the order of what they keep per cost "
        "up to the first for which every bound holds"
    )
    if made.fingerprint != of_task.fingerprint:
        yield "Made on other data than the run's: their fingerprints differ"
    folder = shlex.quote(named(str(certificate.folder)))
    yield f"Computed again from its answers by: harness verify {folder}"


def table(certificate: CertificateFile) -> Table:
    """A row a remedy, in the order of the tests, with its bounds and what is not shown."""
    made = certificate.made
    steps, why = {step.remedy: step for step in made.steps}, dict(words.reasons(made))
    columns = (
        Column("remedy"),
        Column("kept", f"lower bound of gain kept minus {made.level:.0%} of the teacher's gain"),
        Column("teacher's gain", "lower bound of the teacher's gain over ERM"),
        Column("fall", "upper bound of the worst group's fall from the teacher's"),
        Column("error", f"its part of {made.delta:g}, the chance of any false certificate"),
        Column("cost", "operations of training against those of the student without a remedy"),
        Column("certified", f"kept at least 0, gain above 0, fall at most {100 * made.margin:g}"),
    )
    rows: list[Sequence[Cell]] = []
    for each in made.order:
        step, reason = steps.get(each.remedy), why.get(each.remedy)
        bounds = (step.kept_low, step.gain_low, step.fall_high) if step else (None,) * 3
        rows.append(
            (
                Text(each.remedy, below=(reason,) if reason else ()),
                *(Number(math.nan if b is None else b, signed=True) for b in bounds),
                f"{step.share:.4f}" if step else "",
                f"{each.cost:.2f}\u00d7",
                Text("no", "lost") if reason else Text("yes", "kept"),
            )
        )
    return Table(f"Bounds for {made.baseline}", columns, rows, titled=False, row_header=0)
