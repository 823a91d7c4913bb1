"""Does everything in a bundle follow from its parts?

The numbers of every task are computed again from its predictions, by the functions a run uses and
with the bootstrap seed that was recorded; the record that comes out must be the one in the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness_plugin import __version__
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions, RunReport, TrainedModel, VerdictRule
from harness_plugin.scoring.files.prediction_tables import from_csv
from harness_plugin.scoring.files.transfer_record import TransferRecord, record_of
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.score import score_task
from harness_plugin_hooks.leaderboard.bundle import (
    MANIFEST,
    Manifest,
    Problem,
    Refused,
    parsed,
    read_bundle,
    sha256,
    shown,
    strict_json,
)
from harness_plugin_hooks.leaderboard.claims import clones, contradictions
from harness_plugin_hooks.leaderboard.differences import differences
from harness_plugin_hooks.leaderboard.generated import generated_rows
from harness_plugin_hooks.leaderboard.model_files import ModelHashes, check_models, weights_of

OURS = "metrics"
"""The plugin of the metrics that every run computes."""
MAX_RESAMPLES = 10_000
MAX_CELLS = 200_000_000
MAX_VALUES = 1000
"""Rows times columns of one set; values of its bias types. More is an attempt to fill memory."""


@dataclass(frozen=True)
class Verified:
    """A bundle whose every number follows from its predictions."""

    name: str
    digest: str
    """SHA-256 of the hashes of all parts: equal for equal bundles, whatever they are called."""
    records: Mapping[str, TransferRecord]
    """By task."""
    numbers: int
    """How many were computed again."""

    @property
    def embedded(self) -> tuple[str, ...]:
        """The tasks on generated data."""
        return tuple(task for task, r in self.records.items() if r.source == "embedded")


def verify(path: Path, plugins: Plugins, *, allow_embedded: bool = False) -> Verified:
    """The bundle at `path`, checked.

    Raises Refused with every problem found, HarnessError where there is no bundle.
    """
    manifest, parts = read_bundle(path)
    return verify_parts(manifest, parts, plugins, allow_embedded=allow_embedded)


def verify_parts(
    manifest: Manifest,
    parts: Mapping[str, bytes],
    plugins: Plugins,
    *,
    allow_embedded: bool = False,
) -> Verified:
    """The parts of a bundle, checked; Refused with every problem found."""
    names = {"config.json", "environment.json", "models.json"}
    if missing := sorted(names - parts.keys()):
        raise Refused(*(Problem(name, "a part of every bundle", "none") for name in missing))
    tasks = sorted({key.split("/")[1] for key in parts if key.startswith("tasks/")})
    if not tasks:
        raise Refused(Problem("tasks", "the results of a task", "none"))
    hashes: ModelHashes = parsed(ModelHashes, parts["models.json"], "models.json")
    records: dict[str, TransferRecord] = {}
    problems: list[Problem] = []
    for task in tasks:
        try:
            records[task] = stated(task, parts, allow_embedded)
        except Refused as refused:
            problems += refused.problems
    # what is said is compared before anything is computed, which may take minutes
    if not problems:
        problems += check_models(hashes, records)
        for record in records.values():
            problems += attempted(record, partial(contradictions, record, plugins))
    numbers = 0
    if not problems:
        for record in records.values():
            computed = partial(computed_problems, record, parts, hashes, plugins)
            problems += attempted(record, computed)
            numbers += count_numbers(record.model_dump(include={"scores", "transfer"}))
    if problems:
        others = {r.harness_plugin_version for r in records.values()} - {__version__}
        expected = f"results of harness-plugin {__version__}, which checks them"
        raise Refused(*problems, *(Problem(MANIFEST, expected, shown(v)) for v in sorted(others)))
    digest = sha256(json.dumps({key: part.sha256 for key, part in manifest.parts.items()}).encode())
    return Verified(manifest.name, digest, records, numbers)


def stated(task: str, parts: Mapping[str, bytes], allow_embedded: bool) -> TransferRecord:
    """The results of one task as they stand there, on data that may be shown."""
    part = f"tasks/{task}/results.json"
    if part not in parts:
        raise Refused(Problem(part, "the results of the task", "none"))
    record: TransferRecord = parsed(TransferRecord, parts[part], part)
    if record.task != task:
        raise Refused(Problem(f"{part}, task", task, shown(record.task)))
    if record.source == "embedded" and not allow_embedded:
        expected = "real data (--allow_embedded shows how it works)"
        raise Refused(Problem(f"{part}, source", expected, "embedded"))
    for name, value in (("config", record.config), ("environment", record.environment)):
        if strict_json(parts[f"{name}.json"], f"{name}.json") != value:
            raise Refused(Problem(f"{name}.json", f"the {name} in {part}", "another"))
    return record


def attempted(record: TransferRecord, check: Callable[[], Iterable[Problem]]) -> list[Problem]:
    """The problems that a check finds; whatever a stranger's parts make it raise is one."""
    try:
        return list(check())
    except Refused as refused:
        return list(refused.problems)
    except Exception as error:
        problem = str(error) if isinstance(error, HarnessError) else repr(error)
        part = f"tasks/{record.task}/results.json"
        return [Problem(part, "results that can be computed again", shown(problem))]


def computed_problems(
    record: TransferRecord, parts: Mapping[str, bytes], hashes: ModelHashes, plugins: Plugins
) -> Iterator[Problem]:
    """Where the results of one task do not follow from its predictions."""
    part = f"tasks/{record.task}/results.json"
    check_size(record, part)
    predictions = read_predictions(record, record.task, parts)
    again = computed_again(record, predictions, plugins)
    actual, expected = record.model_dump(mode="json"), again.model_dump(mode="json")
    expected["harness_plugin_version"] = record.harness_plugin_version
    yield from differences(expected, actual, part)
    yield from clones(record, predictions, weights_of(record.task, hashes))
    yield from generated_rows(record, predictions, plugins)


def check_size(record: TransferRecord, part: str) -> None:
    """Refuse what would take unreasonable time or memory to compute."""
    resamples = record.config.get("resamples")
    if not isinstance(resamples, int) or not 2 <= resamples <= MAX_RESAMPLES:
        raise Refused(
            Problem(f"{part}, config.resamples", f"2 to {MAX_RESAMPLES:,}", shown(repr(resamples)))
        )
    seed = record.config.get("data_seed")
    if not isinstance(seed, int) or seed < 0:
        raise Refused(
            Problem(f"{part}, config.data_seed", "the bootstrap's seed", shown(repr(seed)))
        )
    if not record.sets:
        raise Refused(Problem(f"{part}, sets", "an evaluation set", "none"))
    for known in record.sets:
        columns = len(known.header()) + len(known.groups) + len(known.labels)
        if (cells := known.rows * columns) > MAX_CELLS:
            raise Refused(Problem(f"{part}, sets", f"at most {MAX_CELLS:,} cells", f"{cells:,}"))


def read_predictions(
    record: TransferRecord, task: str, parts: Mapping[str, bytes]
) -> list[Predictions]:
    """The predictions of all sets; there must be a file of each and no other."""
    folder = f"tasks/{task}"
    files = {f"{folder}/predictions_{known.name}.csv": known for known in record.sets}
    present = {key for key in parts if key.startswith(f"{folder}/predictions_")}
    if odd := sorted(files.keys() ^ present):
        there = "predictions of a set that the results name" if odd[0] in present else "a part"
        in_file = "of another" if odd[0] in present else "none"
        raise Refused(Problem(shown(odd[0]), there, in_file))
    names = {(model.role, model.seed): model.name for model in record.models}
    if len(names) < len(record.models):
        raise Refused(
            Problem(f"{folder}/results.json, models", "one a role and seed", "doubled ones")
        )
    predictions = []
    for file, known in files.items():
        if (present_models := {(a.role, a.seed) for a in known.answers}) != names.keys() or len(
            known.answers
        ) != len(names):
            raise Refused(
                Problem(
                    f"{folder}/results.json, sets",
                    f"answers of {listed(names)}",
                    listed(present_models),
                )
            )
        try:
            text = parts[file].decode("utf-8")
            predictions += from_csv(text, known, task, names, file)
        except UnicodeDecodeError as error:
            raise Refused(Problem(file, "UTF-8 text", str(error))) from None
        except HarnessError as error:
            raise Refused(Problem(file, "one row an example", shown(str(error)))) from None
    return predictions


def listed(models: Any) -> str:
    """Roles and seeds, as messages name them."""
    return shown(", ".join(f"{role} seed {seed}" for role, seed in sorted(models)))


def computed_again(
    record: TransferRecord, predictions: list[Predictions], plugins: Plugins
) -> TransferRecord:
    """The record that the predictions give, with what is not computed taken over."""
    for p in predictions:
        for name, values in p.breakdowns.items():
            if (many := len(set(values.tolist()))) > MAX_VALUES:
                raise HarnessError(f"bias type {name!r} has {many:,} values, more than any has")
    train = record.sets[0].train_groups
    if any(known.train_groups != train for known in record.sets):
        raise HarnessError("the sets name different training sets")
    metrics = {name for scores in record.scores for name in scores.metrics}
    # those of every run, so that none is left out
    metrics |= {offer.name for offer in plugins["metric"] if offer.plugin == OURS}
    scores = score_task(
        predictions,
        task=record.task,
        source=record.source,
        fingerprint=record.fingerprint,
        train_groups=tuple(train),
        train_group_counts=list(train.values()),
        purposes={known.name: known.purpose for known in record.sets},
        metrics={name: plugins["metric"].offer(name).instance(Metric) for name in sorted(metrics)},
        models=tuple(model_of(record.task, model) for model in record.models),
        collapse_rule=record.collapse_rule,
        resamples=record.config["resamples"],
        seed=record.config["data_seed"],
        declared_gap=record.primary,
        rule=VerdictRule(**record.rule.model_dump()),
    )
    # what a run notes of its data comes first, what it notes of the answers last
    noted = record.notes[: len(record.notes) - len(scores.notes)]
    scores = replace(scores, notes=(*noted, *scores.notes))
    return record_of(RunReport(record.config, record.environment, (scores,), 0.0, 0.0), scores)


def model_of(task: str, model: Any) -> TrainedModel:
    """A model of a record, as a run has it."""
    return TrainedModel(
        task,
        model.role,
        model.seed,
        model.name,
        Path(model.path),
        model.model,
        model.method,
        model.settings,
        supervision=model.supervision and model.supervision.model_dump(),
        selection=model.selection and model.selection.model_dump(),
        kind=model.kind,
        start=model.start,
        updates=model.updates,
        seconds=model.seconds,
    )


def count_numbers(value: Any) -> int:
    """How many floats a JSON value holds."""
    if isinstance(value, dict):
        return sum(map(count_numbers, value.values()))
    if isinstance(value, list):
        return sum(map(count_numbers, value))
    return isinstance(value, float)


def summary(verified: Verified) -> str:
    """One line about a bundle that holds."""
    sets = [known for record in verified.records.values() for known in record.sets]
    rows = sum(known.rows * len(known.answers) for known in sets)
    line = (
        f"holds; {verified.numbers:,} numbers of {', '.join(verified.records)} computed again from "
        f"{rows:,} predictions"
    )
    if verified.embedded:
        line += f". A DEMONSTRATION: {', '.join(verified.embedded)} on embedded (generated) data"
    return line
