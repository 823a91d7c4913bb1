"""Tables of a study that nobody trained: known numbers, in the shape of docs/studies.md."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

GAP = "gap_avg_worst"


@dataclass(frozen=True)
class Plan:
    """What the report needs of a plan."""

    study: str = "made_up"
    summary: str = "numbers by hand"
    tasks: tuple[str, ...] = ("celeba_bias",)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    factors: Mapping[str, Sequence[str]] = field(default_factory=dict)


Widening = Callable[[Mapping[str, str], str, int], float]


def tables(
    plan: Plan,
    widening: Widening,
    roles: Sequence[str] = ("student",),
    subsets: Sequence[str] = ("", "gender=Male"),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """numbers, estimates: gap widening from `widening(levels, role, seed)`, the rest from it."""
    rows = []
    cells = itertools.product(plan.tasks, *plan.factors.values())
    for task, *levels in cells:
        named = {"task": task, **dict(zip(plan.factors, levels, strict=True))}
        configuration = f"{zlib.crc32(repr(named).encode()):012x}"
        for seed, role in itertools.product(plan.seeds, roles):
            value = widening(named, role, seed)
            for subset in subsets:
                for metric, measure, shown in (
                    (GAP, "gap_widening", value),
                    (GAP, "score", value + 0.1),
                    ("worst_group_acc", "score", 0.7 - value),
                    ("worst_group_acc", "retention", 1 - value),
                    ("worst_group_acc", "contribution", -value / 2),
                    ("acc", "score", 0.8),
                    ("acc", "distillability", -value / 3),
                ):
                    if subset and metric == "worst_group_acc":
                        continue
                    undefined = math.isnan(shown)
                    rows.append(
                        {
                            "study": plan.study,
                            "configuration": configuration,
                            "seed": seed,
                            "task": task,
                            "source": "embedded",
                            "split": "balanced",
                            "split_role": "ood",
                            "subset": subset,
                            "role": role,
                            "metric": metric,
                            "measure": measure,
                            "value": None if undefined else shown,
                            "reason": "undefined on this set" if undefined else "",
                            "n": 500,
                            "higher_is_better": metric != GAP,
                            **{f"factor_{name}": level for name, level in named.items()},
                        }
                    )
    numbers = pd.DataFrame(rows)
    keys = [c for c in numbers.columns if c not in ("seed", "value", "reason")]
    grouped = numbers.groupby(keys, sort=False).value
    estimates = grouped.agg(value="mean", sd="std", seeds="count").reset_index()
    estimates = estimates.assign(low=estimates.value - 0.01, high=estimates.value + 0.01, reason="")
    return numbers, estimates
