"""A finished study → one row a number: of every seed, and over all seeds with intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from harness_plugin import metrics, score, stats
from harness_plugin.errors import HarnessError
from harness_plugin.run import models_of, scored
from harness_plugin.stages import code_version
from harness_plugin.study.execute import Progress
from harness_plugin.study.graph import Graph
from harness_plugin.study.work import shop_of

if TYPE_CHECKING:
    from harness_plugin.records import Estimate, TaskScores
    from harness_plugin.study.plan import Configuration


def rows_of_study(
    graph: Graph, progress: Progress, root: Path, *, quiet: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(numbers, estimates) of all configurations, from the seeds in which all models are there."""
    numbers, estimates = list[dict[str, Any]](), list[dict[str, Any]]()
    study = graph.study
    pairs = list(zip(study.configurations, graph.roles, strict=True))
    for configuration, roles in tqdm(pairs, desc="scoring", disable=quiet, leave=False):
        seeds = [
            seed
            for seed in configuration.seeds
            if all((node, seed) in progress.done for node in roles)
        ]
        if not seeds:
            continue
        found = scores_of(graph, configuration, roles, seeds, progress, root)
        about = {"study": study.name, "configuration": study.id_of(configuration)} | {
            f"factor_{name}": level for name, level in study.levels_of(configuration).items()
        }
        numbers += [about | row for row in found["numbers"]]
        estimates += [about | row for row in found["estimates"]]
    return numbers, estimates


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
        "code": [code_version(module) for module in (metrics, score, stats)],
    }
    shop = None

    def build(folder: Path) -> dict[str, Any]:
        nonlocal shop
        shop = shop_of(run, str(root))
        trained = [model for seed in seeds for model in models_of(shop, seed)]
        answers = [shop.predictions(m, split) for m in trained for split in shop.data.evaluation]
        scores = scored(shop, trained, answers)
        rows = {
            "numbers": list(numbers_of(scores)),
            "estimates": list(estimates_of(scores)),
        }
        (folder / "rows.json").write_text(json.dumps(rows, allow_nan=False), encoding="utf-8")
        return {}

    from harness_plugin.stages import Store

    stage = Store(root).run("study_scores", json.loads(json.dumps(spec, default=str)), build)
    rows: dict[str, Any] = json.loads((stage.path / "rows.json").read_text(encoding="utf-8"))
    return rows


def number(value: float) -> float | None:
    """A number as JSON and tables have it: None where it is undefined."""
    return None if math.isnan(value) else float(value)


def every(scores: TaskScores) -> Iterator[tuple[dict[str, Any], Estimate]]:
    """What a number is of, and the number."""

    def about(split: str, subset: str, role: str, metric: str, measure: str) -> dict[str, Any]:
        return {
            "task": scores.task,
            "source": scores.source,
            "split": split,
            "split_role": scores.split_roles[split],
            "primary_gap": scores.primary.get(split, ""),
            "subset": subset,
            "role": role,
            "metric": metric,
            "measure": measure,
            "higher_is_better": scores.higher_is_better.get(metric, True),
        }

    for found in scores.scores:
        for subset, estimates in found.by_subset().items():
            for metric, estimate in estimates.items():
                yield about(found.split, subset, found.role, metric, "score"), estimate
    for one in scores.transfer:
        what = about(one.split, one.subset, one.student, one.metric, one.measure)
        yield what, one.estimate


def numbers_of(scores: TaskScores) -> Iterator[dict[str, Any]]:
    """One row a number and seed. `retention` is a ratio of means over seeds and has none."""
    for what, estimate in every(scores):
        for seed, value in zip(scores.seeds, estimate.seeds, strict=False):
            yield what | {
                "seed": seed,
                "value": number(value),
                "reason": estimate.reason,
                "n": estimate.n,
            }


def estimates_of(scores: TaskScores) -> Iterator[dict[str, Any]]:
    """One row a number over seeds, with its 95% interval over seeds and examples."""
    for what, estimate in every(scores):
        yield what | {
            "value": number(estimate.value),
            "low": number(estimate.low),
            "high": number(estimate.high),
            "sd": number(estimate.sd),
            "seeds": len(scores.seeds),
            "reason": estimate.reason,
            "n": estimate.n,
        }


def write(
    graph: Graph,
    progress: Progress,
    numbers: Sequence[Mapping[str, Any]],
    estimates: Sequence[Mapping[str, Any]],
    folder: Path,
) -> list[Path]:
    """The two tables, what failed, and the plan as it was read.

    Raises HarnessError when nothing is finished yet.
    """
    from harness_plugin.analysis.writing import write_table
    from harness_plugin.stages import write_json

    study = graph.study
    if not numbers:
        raise HarnessError(f"study {study.name}: no configuration is finished in any seed yet.")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{kind}_{study.name}.parquet" for kind in ("numbers", "estimates")]
    write_table(files[0], numbers)
    write_table(files[1], estimates)
    failures = [
        {
            "role": graph.nodes[failure.node].role,
            "seed": failure.seed,
            "tries": failure.tries,
            "error": failure.error,
            "trace": failure.trace,
            "configurations": [
                study.levels_of(configuration)
                for configuration, roles in zip(study.configurations, graph.roles, strict=True)
                if failure.node in roles
            ],
        }
        for failure in progress.failed.values()
    ]
    files.append(folder / f"failures_{study.name}.json")
    write_json(files[-1], failures)
    return files
