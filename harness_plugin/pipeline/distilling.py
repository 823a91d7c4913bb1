"""How a student hears its teacher: which distiller, on which stored answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from harness_plugin.config.roles import Role
from harness_plugin.config.settings import RoleSettings, StudentSettings
from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints, classifiers, processors
from harness_plugin.models.layers import OnlineTeacher, Shape
from harness_plugin.models.network import last_layer
from harness_plugin.models.transplant import Start, check_families, from_teacher
from harness_plugin.records import TrainedModel
from harness_plugin.store.stages import Stage
from harness_plugin.training import contracts, encode
from harness_plugin.training.contracts import Augmentation, Distiller, Method, TrainingMetadata
from harness_plugin.training.encode import EncodedRows
from harness_plugin.training.ensemble import Ensemble
from harness_plugin.training.loss import DistillationLoss, TeacherOutputs

if TYPE_CHECKING:
    from harness_plugin.pipeline.materials import Materials
    from harness_plugin.pipeline.roles import Workshop


FLOW = {
    "method",
    "teachers",
    "biased_teacher",
    "augmentations",
    "rounds",
    "between_rounds",
    "equal_budget",
}
"""Settings that say which trainings there are, not what one of them does."""


@dataclass(frozen=True)
class Distillation:
    """A student's teachers and how they are heard.

    `biased` is the model whose gradient `agre` avoids. `round` counts from 0 where a student is
    trained in several, and `start` are the weights that a round goes on from.
    """

    teachers: tuple[TrainedModel, ...]
    settings: StudentSettings
    biased: TrainedModel | None = None
    round: int = 0
    start: Stage | None = None

    @property
    def teacher(self) -> TrainedModel:
        """The first teacher: whose features and layers are heard, and whose weights are taken."""
        return self.teachers[0]


def distiller_of(shop: Materials, settings: StudentSettings) -> type[Distiller]:
    """The class that a student's settings name."""
    found: type[Distiller] = shop.plugins["distiller"].get(settings.distiller)
    return found


def options_of(shop: Materials, settings: StudentSettings) -> dict[str, Any]:
    """The distiller's options with defaults filled in; HarnessError for an unknown one."""
    return distiller_of(shop, settings).resolved(settings.distiller_options, shop.task.modality)


def needs(shop: Materials, distillation: Distillation | None) -> frozenset[str]:
    """What the distiller needs to know of the training rows."""
    if distillation is None or not distillation.settings.kd_weight:
        return frozenset()
    return distiller_of(shop, distillation.settings).needs


def supervised_by(shop: Materials, distillation: Distillation | None) -> frozenset[str]:
    """What distiller and augmentations are told of the training rows."""
    if distillation is None:
        return frozenset()
    told = needs(shop, distillation)
    for name in distillation.settings.augmentations:
        offered: type[Augmentation] = shop.plugins["augmentation"].get(name)
        told |= offered.needs
    return told


def check_student(shop: Materials, role: Role, roles: Mapping[str, Role]) -> None:
    """Refuse a distiller whose needs, options or labels this task and student do not meet.

    And one that cannot compare the student's layers with its teacher's.
    """
    if role.distillation is None:
        return
    name, student = role.name, role.distillation
    kind = distiller_of(shop, student)
    options = options_of(shop, student)
    where = f"task {shop.task.task}: {name}: distiller {student.distiller}"
    available = shop.available()
    if missing := contracts.missing_needs(kind, available):
        work = [o.name for o in shop.plugins["distiller"] if o.load().needs <= available]
        raise HarnessError(
            f"{where} needs {' and '.join(missing)}, which {shop.data.source} data of this task "
            f"do not have. Distillers that work: {', '.join(work)}."
        )
    if refusal := kind.refusal(options, student, len(shop.labels)):
        raise HarnessError(f"{where} {refusal}.")
    for chosen, given in student.augmentations.items():
        offered: type[Augmentation] = shop.plugins["augmentation"].get(chosen)
        offered.resolved(given, shop.task.modality)
        if missing := contracts.missing_needs(offered, available):
            raise HarnessError(
                f"task {shop.task.task}: {name}: augmentation {chosen} needs "
                f"{' and '.join(missing)}, which {shop.data.source} data of this task do not have."
            )
    teacher = roles[student.teachers[0]]
    ours, theirs = shape_of(shop, role.settings), shape_of(shop, teacher.settings)
    if student.from_teacher != "none":
        check_families(ours.model_type, theirs.model_type, student.from_teacher)
    if kind.teacher_outputs != {"logits"} and len(student.teachers) > 1:
        raise HarnessError(
            f"{where} learns from what is inside one teacher, and {len(student.teachers)} are "
            f"named: name one, or take a distiller on logits."
        )
    if student.combine == "agre" and student.biased_teacher in student.teachers:
        raise HarnessError(
            f"{where}: biased_teacher {student.biased_teacher} is one of the teachers; "
            "combine=agre weighs teachers by how little they pull like it."
        )
    if "layers" in kind.teacher_outputs:
        reason = kind.mismatch(options, ours, theirs) or other_inputs(shop, role, teacher)
        if reason:
            raise HarnessError(f"{where} cannot compare {name} with {teacher.name}: {reason}.")
    method: type[Method] = shop.plugins["method"].get(role.method)
    if kind.weighs_examples and method.weighs_examples:
        raise HarnessError(
            f"{where} weighs groups itself, and so does method {role.method}: they would count "
            f"twice. Set students.{name}.method=erm."
        )
    if student.rounds > 1 and student.equal_budget and role.settings.epochs < student.rounds:
        raise HarnessError(
            f"{where}: {student.rounds} rounds share {role.settings.epochs:g} epochs, which is "
            "less than one each: give the student more epochs, or set equal_budget=false."
        )


def shape_of(shop: Materials, role: RoleSettings) -> Shape:
    """The measures of a role's model."""
    source = checkpoints.locate(role, shop.task.modality, shop.plugins)
    config = checkpoints.config_of(source, role, shop.config.trust_remote_code)
    if source.model_type:
        config = checkpoints.read_as(source, config)
    return Shape.of(config)


def other_inputs(shop: Materials, student: Role, teacher: Role) -> str:
    """Why the positions of two models do not correspond, "" when they do."""
    ours, theirs = (shop.processor(role.settings)[0] for role in (student, teacher))
    if encode.processor_key(ours) != encode.processor_key(theirs):
        what = "tokenizer" if shop.task.modality == "text" else "image processor"
        return f"they do not have the same {what}, so that their positions do not correspond"
    if student.settings.max_length != teacher.settings.max_length:
        return (
            f"their texts are cut to {student.settings.max_length} and "
            f"{teacher.settings.max_length} tokens; give both the same max_length"
        )
    return ""


def signals(shop: Workshop, distillation: Distillation) -> tuple[Stage, ...]:
    """The teachers' answers on the training rows, computed once for all their students.

    Those of the biased model come last.
    """
    if "features" in distiller_of(shop, distillation.settings).teacher_outputs:
        teacher = distillation.teacher
        return (shop.answers(teacher.path, role_of(teacher), shop.data.train, None),)
    asked = distillation.teachers + ((distillation.biased,) if distillation.biased else ())
    return tuple(shop.logits(model, shop.data.train) for model in asked)


def identity(shop: Workshop, distillation: Distillation, heard: Sequence[Stage]) -> dict[str, Any]:
    """What makes two distillations the same training."""
    settings = distillation.settings
    left_out = FLOW if len(distillation.teachers) > 1 else FLOW | {"combine"}
    return {
        **settings.model_dump(exclude=set(left_out)),
        "distiller_options": options_of(shop, settings),
        "signals": [stage.key for stage in heard],
        "round": distillation.round,
    }


def role_of(model: TrainedModel) -> RoleSettings:
    """The settings a model was trained with."""
    return RoleSettings.model_validate(
        {key: model.settings[key] for key in RoleSettings.model_fields}
    )


def objective(
    shop: Workshop,
    method: Method,
    facts: TrainingMetadata,
    distillation: Distillation | None,
    stages: Sequence[Stage],
    rows: NDArray[np.int64] | None = None,
) -> DistillationLoss:
    """The loss of a training on all training rows or `rows` (R,) of them; `stages`: `signals`."""
    if distillation is None:
        return DistillationLoss(method)
    settings = distillation.settings
    kind, options = distiller_of(shop, settings), options_of(shop, settings)
    found = heard(shop, kind, distillation, stages, rows)
    return DistillationLoss(
        method,
        kind(settings.temperature, facts, **options),
        found if rows is None else found.select(torch.from_numpy(rows)),
        ce_weight=settings.ce_weight,
        kd_weight=settings.kd_weight,
    )


def heard(
    shop: Workshop,
    kind: type[Distiller],
    distillation: Distillation,
    stages: Sequence[Stage],
    rows: NDArray[np.int64] | None,
) -> TeacherOutputs:
    """What `kind` learns from: the stored answers, and the teacher itself for its layers."""
    teacher, settings = distillation.teacher, distillation.settings

    def logits_of(model: TrainedModel, stage: Stage) -> Tensor:
        order = label_order(model, shop.labels)
        logits = torch.from_numpy(np.load(stage.path / "logits.npy")[:, order])
        return logits.to(shop.accelerator.device)

    if len(distillation.teachers) > 1:
        every = zip(distillation.teachers, stages, strict=False)  # the biased one is the last
        stacked = torch.stack([logits_of(model, stage) for model, stage in every], dim=1)
        biased = distillation.biased
        avoided = None if biased is None else logits_of(biased, stages[-1])
        ensemble = Ensemble(settings.combine, settings.temperature, avoided)
        return TeacherOutputs(stacked, ensemble=ensemble)
    logits = logits_of(teacher, stages[0])
    if "layers" in kind.teacher_outputs:
        model = load_teacher(shop, teacher, shop.choice.attention)
        encoded = shop.encoded(shop.data.train, role_of(teacher))
        return TeacherOutputs(
            logits,
            live=OnlineTeacher(model, encoded if rows is None else EncodedRows(encoded, rows)),
        )
    if "features" not in kind.teacher_outputs:
        return TeacherOutputs(logits)
    head = last_layer(load_teacher(shop, teacher))
    weight = head.weight.detach()[label_order(teacher, shop.labels)].float()
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().float()
    bias = bias if head.bias is None else bias[label_order(teacher, shop.labels)]
    features = np.load(stages[0].path / "features.npy", mmap_mode="r")
    return TeacherOutputs(logits, features, weight, bias)


def begin(
    shop: Workshop, student: PreTrainedModel, processor: Any, distillation: Distillation
) -> Start | None:
    """Put the teacher's weights into a student that starts from them; how much came over."""
    layers = distillation.settings.from_teacher
    if layers == "none":
        return None
    teacher = distillation.teacher
    model = load_teacher(shop, teacher)
    check_families(student.config.model_type, model.config.model_type, layers)
    theirs = processors.load_processor(str(teacher.path), shop.task.modality)
    same = encode.processor_key(processor) == encode.processor_key(theirs)
    order = label_order(teacher, shop.labels)
    return from_teacher(student, model, layers, same_vocabulary=same, label_order=order)


def load_teacher(
    shop: Workshop, teacher: TrainedModel, attention: str = "eager"
) -> PreTrainedModel:
    """The teacher's weights, on the CPU."""
    trust = shop.config.trust_remote_code
    return classifiers.load_trained(
        str(teacher.path), shop.task.modality, attention=attention, trust_remote_code=trust
    )


def labels_of(model: TrainedModel) -> tuple[str, ...]:
    """The labels of a model's logits, in order."""
    given: tuple[str, ...] | None = model.settings.get("labels")
    return tuple(given) if given else checkpoints.checkpoint_labels(str(model.path))


def label_order(teacher: TrainedModel, labels: tuple[str, ...]) -> list[int]:
    """Columns of the teacher's logits in the order of `labels`; matched by name, never position."""
    theirs = [name.lower() for name in labels_of(teacher)]
    wanted = [name.lower() for name in labels]
    if sorted(theirs) != sorted(wanted):
        raise HarnessError(
            f"teacher {teacher.name} predicts {', '.join(labels_of(teacher))}, its student "
            f"{', '.join(labels)}: distillation needs the same labels."
        )
    return [theirs.index(name) for name in wanted]
