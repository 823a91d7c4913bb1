"""Statistical power of a task's data, set by set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.dataset import TaskData
from harness_plugin.data.split import Split
from harness_plugin.data.task import Task
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Evidence, Predictions, SetPlan, predictions_of
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.planning import POWER, SEED_SD, plan_set
from harness_plugin.scoring.score import PRIMARY, declared_on


def plans_of(
    task: Task,
    data: TaskData,
    config: RunConfig,
    plugins: Plugins,
    *,
    effect: float = 0.05,
    power: float = POWER,
    seed_sd: float = SEED_SD,
    earlier: Mapping[str, Evidence] | None = None,
) -> list[SetPlan]:
    """A plan for every evaluation set with a primary gap; fractions.

    `earlier`: evidence of a run on the same sets, from which variances are taken.
    """
    known = plugins["metric"].instances(Metric)
    plans = []
    for split in data.evaluation:
        rows = without_answers(task.task, split)
        declared = declared_on(split.name, task.primary_gap)
        order = [name for name in (declared, *PRIMARY) if name in known]
        if split.purpose == "in_domain":
            order = [name for name in order if not known[name].against_in_domain]
        gap = next((known[name] for name in order if not known[name].applies(rows)), None)
        if gap is None:
            continue
        plans.append(
            plan_set(
                rows,
                gap,
                config.rule,
                seeds=len(config.seeds),
                effect=effect,
                power=power,
                seed_sd=seed_sd,
                earlier=(earlier or {}).get(split.name),
            )
        )
    return plans


def without_answers(task: str, split: Split) -> Predictions:
    """The rows of a set as metrics know them, with no model's answers."""
    nothing = np.zeros((len(split), len(split.labels)), np.float32)
    return predictions_of(
        split, nothing, task=task, role="", model="", seed=0, model_labels=split.labels
    )
