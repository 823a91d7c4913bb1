"""What a run left behind, as the two sides of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions
from harness_plugin.scoring.comparison import Evaluated, numbers
from harness_plugin.scoring.gate import Comparison, Thresholds, compare
from harness_plugin.scoring.prediction_tables import (
    EvaluationSet,
    file_name,
    from_csv,
    rows_sha256,
)
from harness_plugin.scoring.transfer_record import TransferRecord, read_record


@dataclass(frozen=True)
class Selected:
    """Which models of two results are compared; empty `tasks` and `seeds` mean all."""

    baseline: Path
    candidate: Path
    role: str = "student"
    baseline_role: str | None = None
    """The baseline's role, where it is another one."""
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def compare_outputs(
    selected: Selected, thresholds: Thresholds, plugins: Plugins
) -> tuple[Comparison, ...]:
    """One comparison a task.

    Raises HarnessError for results that cannot be read or compared, for tasks that only one side
    has, and for gates on tasks that nobody compares.
    """
    known = {offer.name: offer.load() for offer in plugins["metric"]}
    sides = {path: records_in(path) for path in (selected.baseline, selected.candidate)}
    tasks = selected.tasks or tuple(sides[selected.candidate])
    for path, records in sides.items():
        for task in tasks:
            if task not in records:
                raise HarnessError(f"{path}: has no results of task {task!r}; {found_in(records)}.")
        if not selected.tasks and (more := [task for task in records if task not in tasks]):
            raise HarnessError(
                f"{path}: has results of task {more[0]!r}, the other side has none; name the tasks "
                f"to compare with --tasks."
            )
    for gate in thresholds.gates:
        if gate.task is not None and gate.task not in tasks:
            raise unknown("task of a gate", gate.task, tasks)
    found = []
    for task in tasks:
        baseline, candidate = (
            evaluated(*sides[path][task], role=role, seeds=selected.seeds)
            for path, role in (
                (selected.baseline, selected.baseline_role or selected.role),
                (selected.candidate, selected.role),
            )
        )
        found.append(compare(baseline, candidate, thresholds, known))
    return tuple(found)


def found_in(records: dict[str, tuple[Path, TransferRecord]]) -> str:
    """The tasks there are, as a part of a sentence."""
    return f"it has {', '.join(records)}"


def records_in(path: Path) -> dict[str, tuple[Path, TransferRecord]]:
    """Task -> its transfer_*.json, in a results folder or for one such file.

    Raises HarnessError where there is none, or several of one task.
    """
    files = sorted(path.glob("transfer_*.json")) if path.is_dir() else [path]
    if not files:
        raise HarnessError(f"{path}: has no transfer_*.json; expected the results of a run.")
    found: dict[str, tuple[Path, TransferRecord]] = {}
    for file in files:
        record = read_record(file)
        if other := found.get(record.task):
            raise HarnessError(
                f"{path}: has several results of task {record.task!r}, {other[0].name} and "
                f"{file.name}; name the file to compare."
            )
        found[record.task] = file, record
    return found


def evaluated(
    file: Path, record: TransferRecord, *, role: str, seeds: Sequence[int] = ()
) -> Evaluated:
    """One role's side of a comparison, with its predictions.

    Raises HarnessError for a role or seed that the record lacks, and for predictions that are
    missing, damaged or not those of the record.
    """
    roles = list(dict.fromkeys(model.role for model in record.models))
    if role not in roles:
        raise HarnessError(f"{file}: has no role {role!r}; it has {', '.join(roles)}.")
    if lacking := set(seeds) - set(record.seeds):
        raise HarnessError(f"{file}: has no seed {min(lacking)}; it has {numbers(record.seeds)}.")
    predictions = tuple(
        p
        for known in record.sets
        for p in read_predictions(file, record, known)
        if p.role == role and p.seed in (seeds or record.seeds)
    )
    return Evaluated(
        where=str(file.parent),
        task=record.task,
        role=role,
        source=record.source,
        fingerprint=record.fingerprint,
        collapse_rule=record.collapse_rule,
        split_roles={known.name: known.role for known in record.sets},
        primary={verdict.split: verdict.gap for verdict in record.verdicts},
        predictions=predictions,
    )


def read_predictions(
    file: Path, record: TransferRecord, known: EvaluationSet
) -> Iterator[Predictions]:
    """Every model's predictions on one set, from the file beside the record."""
    stamp = file.stem.removeprefix(f"transfer_{record.task}_")
    beside = file.with_name(file_name(record.task, known.name, stamp))
    try:
        text = beside.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HarnessError(
            f"{file}: {beside.name} is not beside it; models are compared example by example, so "
            f"run with --log_samples and keep the file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{beside}: cannot be read: {error}.") from None
    names = {(model.role, model.seed): model.name for model in record.models}
    found = from_csv(text, known, record.task, names, str(beside))
    if rows_sha256(found[0]) != known.rows_sha256:
        raise HarnessError(f"{beside}: its rows are not those that {file.name} was made from.")
    yield from found
