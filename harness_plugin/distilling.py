"""How a student hears its teacher: which distiller, on which stored answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from harness_plugin import encode, methods, models
from harness_plugin.config import RoleSettings, StudentSettings
from harness_plugin.errors import HarnessError
from harness_plugin.initialise import Start, check_families, from_teacher
from harness_plugin.methods import Debiaser, Distiller, TrainingFacts
from harness_plugin.network import last_layer
from harness_plugin.objective import Objective, Signals
from harness_plugin.records import TrainedModel
from harness_plugin.stages import Stage

if TYPE_CHECKING:
    from harness_plugin.materials import Materials
    from harness_plugin.roles import Workshop


@dataclass(frozen=True)
class Distillation:
    """A student's teacher and how it is heard."""

    teacher: TrainedModel
    settings: StudentSettings


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


def check_student(shop: Materials, name: str, student: StudentSettings) -> None:
    """Refuse a distiller whose needs, options or labels this task and student do not meet."""
    kind = distiller_of(shop, student)
    options = options_of(shop, student)
    where = f"task {shop.task.task}: {name}: distiller {student.distiller}"
    available = shop.available()
    if missing := methods.missing_needs(kind, available):
        work = [o.name for o in shop.plugins["distiller"] if o.load().needs <= available]
        raise HarnessError(
            f"{where} needs {' and '.join(missing)}, which {shop.data.source} data of this task "
            f"do not have. Distillers that work: {', '.join(work)}."
        )
    if refusal := kind.refusal(options, student, len(shop.labels)):
        raise HarnessError(f"{where} {refusal}.")
    if student.from_teacher != "none":
        theirs, ours = (
            models.model_type(models.locate(role, shop.task.modality, shop.plugins))
            for role in (shop.settings.teacher, shop.settings.student)
        )
        check_families(ours, theirs, student.from_teacher)
    method = shop.settings.method if student.method == "same" else student.method
    debiaser: type[Debiaser] = shop.plugins["debiaser"].get(method)
    if kind.weighs and debiaser.weights is not Debiaser.weights:
        raise HarnessError(
            f"{where} weighs groups itself, and so does method {method}: they would count twice. "
            f"Set students.{name}.method=erm."
        )


def signals(shop: Workshop, distillation: Distillation) -> Stage:
    """The teacher's answers on the training rows, computed once for all its students."""
    teacher = distillation.teacher
    if "features" not in distiller_of(shop, distillation.settings).hears:
        return shop.logits(teacher, shop.data.train)
    role = RoleSettings.model_validate(
        {key: teacher.settings[key] for key in RoleSettings.model_fields}
    )
    return shop.answers(teacher.path, role, shop.data.train, None)


def objective(
    shop: Workshop,
    debiaser: Debiaser,
    facts: TrainingFacts,
    distillation: Distillation | None,
    stage: Stage | None,
) -> Objective:
    """The loss of a training; `stage` are the signals."""
    if distillation is None or stage is None:
        return Objective(debiaser)
    settings = distillation.settings
    kind, options = distiller_of(shop, settings), options_of(shop, settings)
    return Objective(
        debiaser,
        kind(settings.temperature, facts, **options),
        heard(shop, kind, distillation.teacher, stage),
        ce_weight=settings.ce_weight,
        kd_weight=settings.kd_weight,
    )


def heard(shop: Workshop, kind: type[Distiller], teacher: TrainedModel, stage: Stage) -> Signals:
    """The stored answers that `kind` learns from."""
    order = label_order(teacher, shop.labels)
    logits = torch.from_numpy(np.load(stage.path / "logits.npy")[:, order])
    logits = logits.to(shop.accelerator.device)
    if "features" not in kind.hears:
        return Signals(logits)
    head = last_layer(load_teacher(shop, teacher))
    bias = torch.zeros(len(order)) if head.bias is None else head.bias.detach()[order]
    features = np.load(stage.path / "features.npy", mmap_mode="r")
    return Signals(logits, features, head.weight.detach()[order].float(), bias.float())


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
    theirs = models.load_processor(str(teacher.path), shop.task.modality)
    same = encode.processor_key(processor) == encode.processor_key(theirs)
    order = label_order(teacher, shop.labels)
    return from_teacher(student, model, layers, same_vocabulary=same, label_order=order)


def load_teacher(shop: Workshop, teacher: TrainedModel) -> PreTrainedModel:
    """The teacher's weights, on the CPU."""
    trust = shop.config.trust_remote_code
    return models.load_trained(
        str(teacher.path), shop.task.modality, attention="eager", trust_remote_code=trust
    )


def labels_of(model: TrainedModel) -> tuple[str, ...]:
    """The labels of a model's logits, in order."""
    given: tuple[str, ...] | None = model.settings.get("labels")
    return tuple(given) if given else models.checkpoint_labels(str(model.path))


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
