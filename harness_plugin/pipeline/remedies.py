"""What can be done for a student that lost its teacher's debiasing, in the order of promise.

The order is that of the evidence in the literature: nearly pure distillation first (labels bring
the bias back), then the method's weights on the distillation term, the last layer, the teacher's
targets, more teachers, more data, features, and repeated distillation last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from harness_plugin.config.settings import StudentSettings, TeacherSettings
from harness_plugin.errors import unknown

Change: TypeAlias = Callable[[StudentSettings], Mapping[str, Any]]
SECOND = "teacher_second"
"""A further teacher: as the task's own, from other first weights."""


@dataclass(frozen=True)
class Remedy:
    """A change of a student's settings, in words, and the further teachers that it needs."""

    name: str
    words: str
    change: Change
    teachers: Mapping[str, TeacherSettings] = field(default_factory=dict)

    def settings(self, base: StudentSettings) -> StudentSettings:
        """The student with the remedy."""
        return StudentSettings.model_validate({**base.model_dump(), **self.change(base)})


PURE = {"method": "erm", "ce_weight": 0.0, "kd_weight": 1.0}


def plain(**changes: Any) -> Change:
    """The same settings whatever the student's are."""
    return lambda _: changes


def with_rows(name: str, **options: Any) -> Change:
    """Further rows besides those the student has."""
    return lambda base: {"augmentations": {**base.augmentations, name: options}}


def pure(distiller: str = "kd", **changes: Any) -> Change:
    """The distillation term alone, of a distiller with its default options."""
    return plain(**PURE, distiller=distiller, distiller_options={}, **changes)


def several(combine: str) -> Remedy:
    """Two teachers that started from different weights."""
    words = {
        "mean_prob": "mean probability of two teachers",
        "confidence": "two teachers, each where it is right",
        "agre": "two teachers, each where it pulls away from the ERM teacher",
    }
    return Remedy(
        f"teachers_{combine}",
        words[combine],
        plain(teachers=("teacher", SECOND), combine=combine),
        {SECOND: TeacherSettings()},
    )


REMEDIES = (
    Remedy("pure_kd", "learn from the teacher alone, not from labels", pure()),
    Remedy("pure_kd_t4", "the same at temperature 4", pure(temperature=4.0)),
    Remedy("pure_kd_t1", "the same at temperature 1", pure(temperature=1.0)),
    Remedy("pure_kd_t10", "the same at temperature 10", pure(temperature=10.0)),
    Remedy("weighted_kd", "the method's weights on labels and teacher", plain(method="same")),
    Remedy("group_dro_kd", "group DRO over divergences from the teacher", pure("group_dro_kd")),
    Remedy(
        "last_layer",
        "refit the last layer on balanced validation rows (DFR) after distillation",
        plain(method="dfr"),
    ),
    Remedy("simkd", "the teacher's last layer on projected features", pure("simkd")),
    Remedy(
        "bias_aware_kd",
        "teacher smoothed where a bias-only model is sure",
        plain(method="erm", distiller="bias_aware_kd", distiller_options={}),
    ),
    several("mean_prob"),
    several("confidence"),
    several("agre"),
    Remedy("upsample", "rows of small groups again", with_rows("upsample")),
    Remedy("counterfactual", "rows with another attribute", with_rows("counterfactual")),
    Remedy("swap_arguments", "pairs with two words exchanged", with_rows("swap_arguments")),
    Remedy("other_premise", "hypotheses with another premise", with_rows("other_premise")),
    Remedy("negation", "negated hypotheses", with_rows("negation")),
    Remedy("hints", "the teacher's last features", plain(distiller="hints", distiller_options={})),
    Remedy("minilm", "relations among tokens", plain(distiller="minilm", distiller_options={})),
    Remedy("from_teacher", "start from the teacher's weights", plain(from_teacher="even")),
    Remedy("rounds", "two rounds, the first student teaches the second", plain(rounds=2)),
)
"""In the order in which they are tried."""


def chosen(names: Iterable[str]) -> list[Remedy]:
    """The remedies called `names`, each a name or several joined by "+"; all without names."""
    known = {remedy.name: remedy for remedy in REMEDIES}
    names = list(names)
    if not names:
        return list(REMEDIES)
    out = []
    for name in names:
        parts = name.split("+")
        for part in parts:
            if part not in known:
                raise unknown("remedy", part, known)
        out.append(together([known[part] for part in parts]))
    return out


def together(parts: list[Remedy]) -> Remedy:
    """Several remedies at once; the later one decides where two set the same."""
    if len(parts) == 1:
        return parts[0]

    def change(base: StudentSettings) -> Mapping[str, Any]:
        changed = base
        for part in parts:
            changed = part.settings(changed)
        return changed.model_dump()

    teachers = {name: given for part in parts for name, given in part.teachers.items()}
    return Remedy(
        "+".join(part.name for part in parts),
        "; ".join(part.words for part in parts),
        change,
        teachers,
    )
