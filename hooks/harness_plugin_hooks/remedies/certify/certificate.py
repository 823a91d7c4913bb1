"""The certificate of a remedy: a folder with its numbers and the answers they are computed from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness_plugin.config.mappings import problems
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.remedies import CERTIFYING, RANKING
from harness_plugin.records import Predictions
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.measure import Quantity, measure
from harness_plugin.scoring.metrics import WORST_GROUP_ACC
from harness_plugin.scoring.pairing import arrange, erm_twin_of, join
from harness_plugin.scoring.statistics.intervals import components, no_claim
from harness_plugin.store.files import strict, write_json
from harness_plugin_hooks.remedies.certify.rule import Candidate, in_order, steps_of, would_certify
from harness_plugin_hooks.render.text import plural

if TYPE_CHECKING:  # it imports torch, which checking a certificate does not need
    from harness_plugin.pipeline.remedy import RemedyReport

DOCUMENT, ANSWERS = "certificate.json", "answers.npz"
REFERENCES = ("teacher", "erm_teacher")
NO_REFERENCE = "no ERM student starts as it does"
COMPRESSED = "the network of teacher"
"""`TrainedModel.start` of the teacher made smaller: the ERM teacher is its counterpart by ERM."""
MIN_SEEDS = 3
PLAIN = "control"
"""The role of the student without a remedy, among those with one."""


class StepRecord(BaseModel):
    """One remedy that was tested."""

    model_config = ConfigDict(extra="forbid")
    remedy: str
    share: float = Field(description="its part of delta")
    kept_low: float | None = Field(description="lower bound of gain kept - level * teacher's gain")
    gain_low: float | None = Field(description="lower bound of the teacher's gain over ERM")
    fall_high: float | None = Field(description="upper bound of the worst group's fall")
    certified: bool
    reason: str = Field(description="why there are no bounds, or what would certify")


class OrderRecord(BaseModel):
    """One remedy in the order of the tests, which the rows that certify have no part in."""

    model_config = ConfigDict(extra="forbid")
    remedy: str
    value: float = Field(ge=0, le=1, description="retention on the rows that rank")
    cost: float = Field(
        ge=0,
        description="operations of training against the plain student's, or the dearest student's "
        "where that is not trained",
    )
    reference: str = Field(description="the model by ERM that its gain is measured from")
    reason: str = Field(description='why its retention is not defined; "" where it is')


class Certificate(BaseModel):
    """certificate.json."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["debias-certificate/1"] = "debias-certificate/1"
    task: str
    source: str
    fingerprint: str = Field(description="of the task's data, whole")
    baseline: str = Field(description="the student that remedies change; the remedy none is itself")
    certified: str | None = Field(description="the remedy; null: none")
    settings: dict[str, Any] | None = Field(description="of the certified student")
    level: float = Field(gt=0, le=1, description="retention that is certified")
    delta: float = Field(gt=0, lt=1, description="chance of a false certificate, of any remedy")
    margin: float = Field(ge=0, description="how far the worst group may fall, a fraction")
    seeds: list[int]
    rows: int
    groups: dict[str, int] = Field(description="rows that certify, by group")
    min_group: int
    resamples: int
    data_seed: int
    order: list[OrderRecord] = Field(description="all remedies, by expected value per cost")
    steps: list[StepRecord]
    answers: str = Field(description="sha256 of answers.npz")


@dataclass(frozen=True)
class Promise:
    """Facts of a remedy before the certifying rows are looked at."""

    role: str
    value: float
    cost: float
    reference: str
    reason: str = ""


def certificate_of(
    report: RemedyReport, *, level: float, delta: float, resamples: int, data_seed: int
) -> tuple[Certificate, list[Predictions]]:
    """The certificate of a report whose run kept rows apart, and the answers on them."""
    scores = report.scores
    answers = [p for p in scores.predictions if p.split == CERTIFYING]
    roles = {p.role for p in answers}
    if lacking := [role for role in REFERENCES if role not in roles]:
        raise HarnessError(
            f"task {report.task}: a certificate of retention needs {', '.join(lacking)}: "
            "set references=true."
        )
    unit = report.plain.operations or max(one.operations for one in report.results) or 1.0
    promises = {}
    for one in report.results:
        role = role_of(one.remedy)
        own = report.baseline if one.remedy == "none" else role
        reference = reference_of(own, report.starts)
        promises[one.remedy] = Promise(
            role,
            retained(report, one.score.value, reference) if reference else 0.0,
            one.operations / unit,
            reference or "erm_teacher",
            "" if reference else NO_REFERENCE,
        )
    made = computed(
        answers,
        promises,
        level=level,
        delta=delta,
        margin=scores.rule.margin,
        min_group=scores.rule.min_group,
        resamples=resamples,
        data_seed=data_seed,
        about={
            "task": report.task,
            "source": scores.source,
            "fingerprint": report.fingerprint,
            "baseline": report.baseline,
        },
    )
    settings = {one.remedy: one.settings.model_dump(mode="json") for one in report.results}
    return made.model_copy(update={"settings": settings.get(made.certified or "")}), answers


def reference_of(student: str, starts: Mapping[str, str]) -> str:
    """The model by ERM that a student is measured from; "" where there is none.

    The ERM student that starts as it does; the ERM teacher for the teacher made smaller, which has
    its network and no training of its own that ERM could replace.
    """
    if starts.get(student) == COMPRESSED:
        return "erm_teacher"
    return erm_twin_of(student, starts, starts)


def retained(report: RemedyReport, score: float, reference: str) -> float:
    """Share of the teacher's gain over ERM on the rows that rank, in [0, 1]; 0 where undefined."""

    def of(role: str) -> float:
        return report.scores.of(role, RANKING).metrics[WORST_GROUP_ACC.name].value

    possible = of("teacher") - of("erm_teacher")
    share = (score - of(reference)) / possible if possible > 0 else 0.0
    return min(1.0, max(0.0, share)) if not math.isnan(share) else 0.0


def computed(
    answers: Sequence[Predictions],
    promises: Mapping[str, Promise],
    *,
    level: float,
    delta: float,
    margin: float,
    min_group: int,
    resamples: int,
    data_seed: int,
    about: Mapping[str, str],
) -> Certificate:
    """Everything of a certificate that follows from answers and promises."""
    paired = join(arrange(answers, {CERTIFYING: "ood"})[CERTIFYING])
    bootstrap = Bootstrap(about["task"], resamples, data_seed, min_group)
    worst = measure(paired, {WORST_GROUP_ACC.name: WORST_GROUP_ACC}, bootstrap)[""][
        WORST_GROUP_ACC.name
    ]
    ordered = in_order(
        [candidate(worst, remedy, promise, level) for remedy, promise in promises.items()]
    )
    steps = list(steps_of(ordered, delta, margin))
    some = next(iter(paired.values()))
    rows = some[0].membership.sum(axis=0).tolist()
    records = []
    for step, each in zip(steps, ordered, strict=False):
        reason = "" if step.certified else would_certify(each, step.share, margin)
        numbers = {k: v for k, v in asdict(step).items() if k not in ("value", "cost")}
        records.append(StepRecord.model_validate(strict({**numbers, "reason": reason})))
    return Certificate(
        **about,
        certified=next((step.remedy for step in steps if step.certified), None),
        settings=None,
        level=level,
        delta=delta,
        margin=margin,
        seeds=sorted(p.seed for p in some),
        rows=len(some[0]),
        groups=dict(zip(some[0].groups, rows, strict=True)),
        min_group=min_group,
        resamples=resamples,
        data_seed=data_seed,
        order=[
            OrderRecord(
                remedy=each.remedy,
                value=each.value,
                cost=each.cost,
                reference=promises[each.remedy].reference,
                reason=promises[each.remedy].reason,
            )
            for each in ordered
        ],
        steps=records,
        answers="",
    )


def candidate(worst: Quantity, remedy: str, promise: Promise, level: float) -> Candidate:
    """The result of a remedy on the certifying rows."""
    if worst.reason:
        raise HarnessError(f"the rows that certify have no worst group: {worst.reason}.")
    v, df = worst.values, worst.support.df
    gain = v["teacher"] - v["erm_teacher"]
    kept = components(v[promise.role] - v[promise.reference] - level * gain, df)
    fall = components(v["teacher"] - v[promise.role], df)
    few = kept.n_seeds < MIN_SEEDS
    reasons = (
        f"{plural(kept.n_seeds, 'seed')}, a certificate needs {MIN_SEEDS}" if few else "",
        no_claim(kept, worst.support, any_seeds=True),
    )
    reason = promise.reason or "; ".join(filter(None, reasons))
    return Candidate(remedy, promise.value, promise.cost, kept, components(gain, df), fall, reason)


def write(made: Certificate, answers: Sequence[Predictions], folder: Path) -> Path:
    """The folder: numbers, and the answers that they follow from."""
    folder.mkdir(parents=True, exist_ok=True)
    first = answers[0]
    arrays: dict[str, Any] = {
        "ids": first.ids,
        "label": first.label,
        "group": first.group,
        "aligned": first.aligned,
        "labels": np.array(first.labels),
        "model_labels": np.array(first.model_labels),
        "groups": np.array(first.groups),
        "train_groups": np.array(json.dumps(first.train_groups)),
    }
    if first.members is not None:
        arrays["members"] = first.members
    if first.cluster is not None:
        arrays |= {"cluster": first.cluster, "clusters": np.array(first.clusters)}
    for p in answers:
        arrays[f"logits {p.role} {p.seed}"] = p.logits
    with (folder / ANSWERS).open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    made = made.model_copy(update={"answers": hash_of(folder / ANSWERS)})
    write_json(folder / DOCUMENT, made.model_dump(mode="json"))
    return folder / DOCUMENT


def read_answers(folder: Path, task: str) -> list[Predictions]:
    """The answers in a certificate's folder. Raises HarnessError for what is no such file."""
    try:
        with np.load(folder / ANSWERS, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = [name.split(" ") for name in arrays if name.startswith("logits ")]
        members, cluster = arrays.get("members"), arrays.get("cluster")
        return [
            Predictions(
                task=task,
                split=CERTIFYING,
                role=role,
                model=role,
                seed=int(seed),
                ids=arrays["ids"],
                logits=arrays[f"logits {role} {seed}"],
                model_labels=tuple(arrays["model_labels"].tolist()),
                label=arrays["label"],
                labels=tuple(arrays["labels"].tolist()),
                group=arrays["group"],
                groups=tuple(arrays["groups"].tolist()),
                aligned=arrays["aligned"],
                train_groups=json.loads(str(arrays["train_groups"])),
                members=members,
                cluster=cluster,
                clusters=tuple(arrays["clusters"].tolist()) if cluster is not None else (),
            )
            for _, role, seed in names
        ]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise HarnessError(f"{folder / ANSWERS}: cannot be read: {error}.") from error


def read(folder: Path) -> Certificate:
    """The certificate in a folder, as it stands there; HarnessError for what is none."""
    file = folder / DOCUMENT
    try:
        return Certificate.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise HarnessError(problems(str(file), error)) from None
    except (OSError, ValueError) as error:
        raise HarnessError(f"{file}: cannot be read: {error}.") from error


def verified(folder: Path) -> tuple[Certificate, list[str]]:
    """A certificate and what in it does not follow from its answers, in words."""
    certificate = read(folder)
    promises = {
        each.remedy: Promise(
            role_of(each.remedy), each.value, each.cost, each.reference, each.reason
        )
        for each in certificate.order
    }
    again = computed(
        read_answers(folder, certificate.task),
        promises,
        level=certificate.level,
        delta=certificate.delta,
        margin=certificate.margin,
        min_group=certificate.min_group,
        resamples=certificate.resamples,
        data_seed=certificate.data_seed,
        about=certificate.model_dump(include={"task", "source", "fingerprint", "baseline"}),
    )
    again = again.model_copy(update={"answers": hash_of(folder / ANSWERS)})
    return certificate, list(differences(certificate, again))


def hash_of(file: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def role_of(remedy: str) -> str:
    """The role of a remedy's student."""
    return PLAIN if remedy == "none" else f"student_{remedy}"


def differences(certificate: Certificate, again: Certificate) -> Iterator[str]:
    """Lines on values of a certificate that differ from those of its predictions."""
    theirs, ours = certificate.model_dump(mode="json"), again.model_dump(mode="json")
    for name in ours:
        if name != "settings" and not alike(theirs[name], ours[name]):
            yield f"{name}: {theirs[name]} in the certificate, {ours[name]} by its answers"
    if (certificate.settings is None) != (certificate.certified is None):
        yield "settings: they belong to a certified remedy, and to no other"


def alike(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, numbers to nine digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)
