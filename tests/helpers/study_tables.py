"""Tables of a study that nobody trained: known numbers, in the shape of docs/studies.md."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness_plugin.study.plan import Factor, Level, Study, StudyFile

GAP = "gap_avg_worst"


def plan(
    factors: Mapping[str, Sequence[str]],
    tasks: Sequence[str] = ("celeba_bias",),
    seeds: Sequence[int] = range(5),
    **more: Any,
) -> Study:
    """A plan of named levels without settings."""
    values = StudyFile(study="made_up", tasks=tuple(tasks), seeds=tuple(seeds), **more)
    named = [Factor(name, tuple(Level(x, {}) for x in levels)) for name, levels in factors.items()]
    return Study(Path("made_up.yaml"), values, tuple(named), ())


Widening = Callable[[Mapping[str, str], str, int], float]


def tables(
    study: Study,
    widening: Widening,
    roles: Sequence[str] = ("student",),
    subsets: Sequence[str] = ("", "gender=Male"),
    common: float = math.nan,
    verdict: Callable[[Mapping[str, str], str], str] = lambda levels, role: "undecided",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """numbers, estimates: gap widening from `widening(levels, role, seed)`, the rest from it.

    The teacher's worst group is 0.7 and gains 0.4 over ERM, the student's gains 0.4 less the
    widening: it retains 1 - widening / 0.4. `common`: what rows add to the variance of each.
    `verdict(levels, role)`: the state of a configuration.
    """
    rows = []
    names = ["task", *(factor.name for factor in study.factors)]
    levels_of_all = [study.plan.tasks, *(factor.names for factor in study.factors)]
    for combination in itertools.product(*levels_of_all):
        named = dict(zip(names, combination, strict=True))
        configuration = f"{zlib.crc32(repr(named).encode()):012x}"
        for seed in study.plan.seeds:
            scores = dict.fromkeys(("teacher", "erm_teacher", "erm_student"), 0.3)
            scores["teacher"] = 0.7
            result = [("worst_group_acc", "score", role, "", x) for role, x in scores.items()]
            for role in roles:
                value = widening(named, role, seed)
                for subset in subsets:
                    result += [
                        (GAP, "gap_widening", role, subset, value),
                        (GAP, "score", role, subset, value + 0.1),
                        ("acc", "score", role, subset, 0.8),
                        ("acc", "distillability", role, subset, -value / 3),
                        (GAP, "gap_size_change", role, subset, value),
                    ]
                result += [
                    ("worst_group_acc", "score", role, "", 0.7 - value),
                    ("worst_group_acc", "contribution", role, "", -value / 2),
                ]
            for metric, measure, role, subset, value in result:
                undefined = math.isnan(value)
                rows.append(
                    {
                        "study": study.name,
                        "configuration": configuration,
                        "seed": seed,
                        "task": named["task"],
                        "source": "embedded",
                        "split": "balanced",
                        "purpose": "ood",
                        "primary_gap": GAP,
                        "subset": subset,
                        "role": role,
                        "metric": metric,
                        "measure": measure,
                        "value": None if undefined else value,
                        "reason": "undefined on this set" if undefined else "",
                        "common": common,
                        "rows_df": 499.0,
                        "n": 500,
                        "higher_is_better": metric != GAP,
                        **{f"factor_{name}": level for name, level in named.items()},
                    }
                )
    numbers = pd.DataFrame(rows)
    keys = [c for c in numbers.columns if c not in ("seed", "value", "reason", "common", "rows_df")]
    grouped = numbers.groupby(keys, sort=False).value
    estimates = grouped.agg(value="mean", sd="std", seeds="count").reset_index()
    worst = estimates[(estimates.metric == "worst_group_acc") & (estimates.measure == "score")]
    worst = worst[worst.role.isin(roles)]
    kept = worst.assign(measure="retention", value=(worst.value - 0.3) / 0.4)
    estimates = pd.concat([estimates, kept], ignore_index=True)
    judged = (estimates.measure == "gap_size_change") & (estimates.subset == "")
    states = [
        verdict({name: row[f"factor_{name}"] for name in names}, row["role"]) if yes else ""
        for yes, row in zip(judged, estimates.to_dict("records"), strict=True)
    ]
    estimates["verdict"] = states
    estimates["notes"] = ["no_reference" if state == "lost" else "" for state in states]
    return numbers, estimates.assign(
        low=estimates.value - 0.01,
        high=estimates.value + 0.01,
        reason="",
        margin=0.05,
        min_seeds=3,
    )
