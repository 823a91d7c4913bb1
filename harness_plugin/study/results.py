"""A finished study → one row a number: of every seed, and over all seeds with intervals."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.machine.progress import worked
from harness_plugin.models.weight_files import WHOLE, parameters
from harness_plugin.pipeline.roles.split_stages import predict_split
from harness_plugin.pipeline.run_task import score_models, train_models
from harness_plugin.scoring.verdict import verdicts
from harness_plugin.store.keys import code_version
from harness_plugin.study.graph import Graph
from harness_plugin.study.scheduler import Progress
from harness_plugin.study.worker import context_for, shared_of

if TYPE_CHECKING:
    from harness_plugin.records import Estimate, TaskScores
    from harness_plugin.study.plan import Configuration


@dataclass
class Rows:
    """The tables of a study, and the configurations that could not be scored."""

    numbers: list[dict[str, Any]] = field(default_factory=list)
    estimates: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


def rows_of_study(graph: Graph, progress: Progress, root: Path, *, quiet: bool = True) -> Rows:
    """All configurations, scored over the seeds in which all their models are there."""
    rows = Rows()
    study = graph.study
    pairs = list(zip(study.configurations, graph.roles, strict=True))
    for configuration, roles in worked(pairs, "scoring", unit="configuration", quiet=quiet):
        seeds = [
            seed
            for seed in configuration.seeds
            if all((node, seed) in progress.done for node in roles)
        ]
        if not seeds:
            continue
        try:
            scores = scores_of(graph, configuration, roles, seeds, progress, root)
        except Exception as error:  # whatever a metric raises: the other configurations go on
            rows.failures.append(
                {
                    "role": "scores",
                    "seed": None,
                    "tries": 1,
                    "error": f"{type(error).__name__}: {error}",
                    "trace": "".join(traceback.format_exception(error)),
                    "configurations": [study.levels_of(configuration)],
                }
            )
            continue
        about = {"study": study.name, "configuration": study.id_of(configuration)} | {
            f"factor_{name}": level for name, level in study.levels_of(configuration).items()
        }
        rows.numbers += [about | row for row in scores["numbers"]]
        rows.estimates += [about | row for row in scores["estimates"]]
    return rows


def scores_of(
    graph: Graph,
    configuration: Configuration,
    roles: Sequence[int],
    seeds: Sequence[int],
    progress: Progress,
    root: Path,
) -> dict[str, Any]:
    """The rows of one configuration: a stage, so that a report does not score twice."""
    study = graph.study
    run = study.run_of(configuration, seeds)
    models = [[graph.nodes[n].key, progress.done[n, s].get("stage")] for n in roles for s in seeds]
    spec = {
        "run": run,
        "models": models,
        "code": code_version(
            "harness_plugin.scoring.score:score_task",
            f"{__name__}:numbers_of",
            f"{__name__}:estimates_of",
            "harness_plugin.scoring.verdict:verdicts",
        ),
    }

    def build(folder: Path) -> dict[str, Any]:
        ctx = context_for(shared_of(run, str(root)))
        models = [model for seed in seeds for model in train_models(ctx, seed)]
        sets = ctx.data.evaluation
        predictions = [predict_split(ctx, model, split) for model in models for split in sets]
        scores = score_models(ctx, models, predictions)
        rows = {
            "numbers": list(numbers_of(scores)),
            "estimates": list(estimates_of(scores)),
        }
        (folder / "rows.json").write_text(json.dumps(rows, allow_nan=False), encoding="utf-8")
        return {}

    from harness_plugin.store.stages import Store

    stage = Store(root).run("study_scores", json.loads(json.dumps(spec, default=str)), build)
    rows: dict[str, Any] = json.loads((stage.path / "rows.json").read_text(encoding="utf-8"))
    return rows


def number(value: float) -> float | None:
    """A number as JSON and tables have it: None where it is undefined."""
    return None if math.isnan(value) else float(value)


def described(
    scores: TaskScores, split: str, subset: str, role: str, metric: str, measure: str
) -> dict[str, Any]:
    """The columns that identify a number."""
    return {
        "task": scores.task,
        "source": scores.source,
        "split": split,
        "purpose": scores.purposes[split],
        "primary_gap": scores.primary.get(split, ""),
        "subset": subset,
        "role": role,
        "start": next((model.start for model in scores.models if model.role == role), ""),
        "metric": metric,
        "measure": measure,
        "higher_is_better": scores.higher_is_better.get(metric, True),
    }


def every(scores: TaskScores) -> Iterator[tuple[dict[str, Any], Estimate]]:
    """Every number, with the columns that identify it."""
    for score in scores.scores:
        for subset, estimates in score.by_subset().items():
            for metric, estimate in estimates.items():
                of = (score.split, subset, score.role, metric, "score")
                yield described(scores, *of), estimate
    for one in scores.transfer:
        of = (one.split, one.subset, one.student, one.metric, one.measure)
        yield described(scores, *of), one.estimate


def numbers_of(scores: TaskScores) -> Iterator[dict[str, Any]]:
    """One row a number and seed. `retention` is a ratio of means over seeds and has none.

    `common` is the part of the variance of the mean over seeds that all seeds share, since they
    answer the same rows, with `rows_df` degrees of freedom; None where it is not known.
    """
    for what, estimate in every(scores):
        parts = estimate.components
        common = math.nan if parts is None else max(0.0, float(parts.rows - parts.own))
        df = math.nan if parts is None else parts.df
        for seed, value in zip(scores.seeds, estimate.seeds, strict=False):
            yield what | {
                "seed": seed,
                "value": number(value),
                "common": number(common),
                "rows_df": number(df),
                "reason": estimate.reason,
                "n": estimate.n,
            }


def estimates_of(scores: TaskScores) -> Iterator[dict[str, Any]]:
    """One row a number over seeds, with its 95% interval over seeds and examples.

    The change of the size of a set's primary gap has the verdict's state and notes besides, every
    row the margin and the seeds that a verdict needs. Also, by student and set, the size of its
    weights and whose answers changed.
    """
    judged = {(v.student, v.split, v.gap): v for v in verdicts(scores)}
    rule: dict[str, Any] = {"margin": scores.rule.margin, "min_seeds": scores.rule.min_seeds}
    for what, estimate in every(scores):
        about = what["role"], what["split"], what["metric"]
        whole = what["measure"] == "gap_size_change" and not what["subset"]
        verdict = judged.get(about) if whole else None
        yield what | {
            **rule,
            "verdict": verdict.state if verdict else "",
            "notes": " ".join(verdict.notes) if verdict else "",
            "value": number(estimate.value),
            "low": number(estimate.low),
            "high": number(estimate.high),
            "sd": number(estimate.sd),
            "seeds": len(scores.seeds),
            "reason": estimate.reason,
            "n": estimate.n,
        }
    plain: dict[str, Any] = rule | dict.fromkeys(("verdict", "notes", "reason"), "")
    plain |= {"low": None, "high": None, "sd": None, "n": 0, "seeds": len(scores.seeds)}
    for split in scores.purposes:
        for role, size in sizes_of(scores).items():
            yield described(scores, split, "", role, "bytes", "size") | plain | {"value": size}
    for flips in scores.flips:
        for name in FLIPS:
            of = (flips.split, flips.subset, flips.student, name, f"flips_{flips.other}")
            own = {"value": getattr(flips, name), "n": flips.n}
            own["higher_is_better"] = name == "repaired"
            yield described(scores, *of) | plain | own


FLIPS = ("changed", "lost", "repaired", "other_wrong", "modal", "expected", "p")
"""What is told of the answers that differ from another model's (`records.Flips`)."""


def sizes_of(scores: TaskScores) -> dict[str, float]:
    """Student -> bytes of its weights without those that were pruned, the mean over seeds.

    32 bits a parameter, or what its compressors say.
    """
    by_role: dict[str, list[float]] = {}
    for model in scores.models:
        weights = model.path / WHOLE
        if model.role.startswith("student") and weights.is_file():
            known = model.settings.get("compression") or {}
            left = 1.0 - pruned(known) / max(1, known.get("parameters", 0))
            size = known.get("bytes") or 4 * parameters(weights)
            by_role.setdefault(model.role, []).append(size * left)
    return {role: sum(sizes) / len(sizes) for role, sizes in by_role.items()}


def pruned(compression: Mapping[str, Any]) -> int:
    """How many weights need not be stored: a weight that was rounded to 0 takes its bits."""
    steps = compression.get("steps", ())
    if any("bits" in step for step in steps):
        return sum(int(step.get("pruned_weights", 0)) for step in steps)
    return int(compression.get("zeros", 0))


def write(graph: Graph, progress: Progress, rows: Rows, folder: Path) -> list[Path]:
    """The two tables and what failed; no tables where no configuration is finished."""
    from harness_plugin.store.files import write_json, write_table

    study = graph.study
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for kind, table in (("numbers", rows.numbers), ("estimates", rows.estimates)):
        if table:
            files.append(folder / f"{kind}_{study.name}.parquet")
            write_table(files[-1], table)
    configurations: dict[int, list[dict[str, str]]] = {f.node: [] for f in progress.failed.values()}
    pairs = zip(study.configurations, graph.roles, strict=True) if configurations else ()
    for configuration, roles in pairs:
        for node in configurations.keys() & set(roles):
            configurations[node].append(study.levels_of(configuration))
    failures = [
        *rows.failures,
        *(
            {
                "role": graph.nodes[failure.node].role,
                "seed": failure.seed,
                "tries": failure.tries,
                "error": failure.error,
                "trace": failure.trace,
                "configurations": configurations[failure.node],
            }
            for failure in progress.failed.values()
        ),
    ]
    files.append(folder / f"failures_{study.name}.json")
    write_json(files[-1], failures)
    return files
