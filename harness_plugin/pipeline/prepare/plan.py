"""Names become what they stand for, once: settings and plugins → the plan of a run.

`resolve` is the one place that looks up models, methods, distillers and their options. What comes
out is frozen; its `spec()` is JSON, says everything that the settings can change in a training,
and is the settings' part of that training's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

from harness_plugin.config.roles import (
    STUDENTS,
    TEACHERS,
    Role,
    RoleKind,
    behind,
    plan_of_roles,
    start_of,
)
from harness_plugin.config.settings import (
    ImageSettings,
    RoleSettings,
    StudentSettings,
    TaskSettings,
)
from harness_plugin.data.task import Task
from harness_plugin.models.checkpoints import Source, locate
from harness_plugin.plugins.registry import Plugins
from harness_plugin.training.compression import Compressor
from harness_plugin.training.contracts import (
    Augmentation,
    BiasModel,
    Configured,
    Distiller,
    GroupInference,
    Method,
)
from harness_plugin.training.loop import TrainingArgs

Class = TypeVar("Class", bound=Configured)
SELECTS_BY = "eiil"
"""Group inference of validation rows where `group_inference` names none."""


@dataclass(frozen=True)
class Component(Generic[Class]):
    """A plugin's class by name, with every option filled in."""

    name: str
    cls: type[Class]
    options: Mapping[str, Any]

    def spec(self) -> dict[str, Any]:
        """Name and options, as JSON."""
        return {"name": self.name, "options": dict(self.options)}


@dataclass(frozen=True)
class Distillation:
    """How a student learns from its teachers, which are named in order.

    `biased_teacher` is the role that `combine` "agre" and "extrapolate" avoid; "" for other ways.
    """

    distiller: Component[Distiller]
    teachers: tuple[str, ...]
    combine: str
    biased_teacher: str
    extrapolation: float
    ce_weight: float
    kd_weight: float
    temperature: float
    from_teacher: str
    compressors: tuple[Component[Compressor], ...]
    rounds: int
    between_rounds: str
    equal_budget: bool

    @property
    def needs(self) -> frozenset[str]:
        """Metadata that the distiller needs: keys of `NEEDS`."""
        return self.distiller.cls.needs if self.kd_weight else frozenset()

    def spec(self) -> dict[str, Any]:
        """The fields that change one training: neither the number of rounds nor their rows."""
        combined = len(self.teachers) > 1 or self.combine == "extrapolate"
        return {
            "distiller": self.distiller.spec(),
            "combine": self.combine if combined else "",
            "extrapolation": self.extrapolation if self.combine == "extrapolate" else None,
            "ce_weight": self.ce_weight,
            "kd_weight": self.kd_weight,
            "temperature": self.temperature,
            "from_teacher": self.from_teacher,
        }


@dataclass(frozen=True)
class ResolvedRole:
    """One model of a run, with everything that its settings name looked up."""

    name: str
    kind: RoleKind
    init_group: int
    model: Source
    model_config: Mapping[str, Any]
    max_length: int
    args: TrainingArgs
    erm_epochs: float
    erm_learning_rate: float
    """Peak of the ERM epochs, and of the first models that methods train."""
    method: Component[Method]
    trained_by: Component[Method]
    """The method that trains the model: the base of one that only finishes it, else `method`."""
    distillation: Distillation | None
    augmentations: tuple[Component[Augmentation], ...]
    settings: RoleSettings
    """As they were given: what records show."""

    @property
    def learns_from(self) -> tuple[str, ...]:
        """The roles that must be trained before it."""
        chosen = self.distillation
        if chosen is None:
            return ()
        return chosen.teachers + ((chosen.biased_teacher,) if chosen.biased_teacher else ())

    @property
    def compressors(self) -> tuple[Component[Compressor], ...]:
        """Compressors of its first teacher's network; empty for a network of its own."""
        return self.distillation.compressors if self.distillation else ()

    @property
    def start(self) -> str:
        """Origin of its first weights in words: "even layers of teacher", "" for its own."""
        chosen = self.distillation
        if chosen is None:
            return ""
        first, smaller = chosen.teachers[0], bool(chosen.compressors)
        return start_of(chosen.from_teacher, first, compressed=smaller)

    @property
    def trained(self) -> bool:
        """False for a checkpoint, or a compressed teacher, that is taken as it is."""
        return self.args.epochs > 0

    def spec(self) -> dict[str, Any]:
        """Everything of the role that its settings decide, as JSON."""
        chosen = self.distillation
        return {
            "init_group": self.init_group,
            "model": self.model.spec(),
            "model_config": dict(self.model_config),
            "max_length": self.max_length,
            "args": asdict(self.args),
            "erm_epochs": self.erm_epochs,
            "erm_learning_rate": self.erm_learning_rate,
            "method": self.method.spec(),
            "trained_by": self.trained_by.spec(),
            "augmentations": [each.spec() for each in self.augmentations],
            "distillation": chosen
            and {
                **chosen.spec(),
                "compressors": [each.spec() for each in chosen.compressors],
                "rounds": chosen.rounds,
                "between_rounds": chosen.between_rounds,
                "equal_budget": chosen.equal_budget,
            },
        }


@dataclass(frozen=True)
class RunPlan:
    """The roles of one task's run, teachers before students, and the settings they share."""

    roles: Mapping[str, ResolvedRole]
    select: str
    bias_model: Component[BiasModel] | None
    group_inference: Component[GroupInference] | None
    vocab_size: int
    image: ImageSettings
    bias_trainer: ResolvedRole | None = None
    """The small model, as bias models that need a network train it; None where nobody needs one."""
    selection_environments: Component[GroupInference] | None = None
    """Infers the environments of the validation rows; None unless they select the epoch."""


def resolve(
    task: Task, settings: TaskSettings, plugins: Plugins, *, only: str | None = None
) -> RunPlan:
    """The plan that settings describe; `only` = of one role and those that it learns from.

    Raises HarnessError for names and options that do not exist, and for a model that is none.
    """
    declared = plan_of_roles(settings)
    if only is not None:
        declared = behind(declared, only)
    modality = task.modality
    roles = {
        name: resolve_role(role, settings, modality, plugins) for name, role in declared.items()
    }

    def named(kind: str, base: type[Class]) -> Component[Class]:
        name: str = getattr(settings, kind)
        options = getattr(settings, f"{kind}_options").get(name, {})
        return component(plugins, modality, kind, base, name, options)

    plain = all(
        role.method == "erm" and role.distillation is None and not role.augmentations
        for role in declared.values()
    )
    inferred = settings.group_inference != "none" and not (only is not None and plain)
    classes: list[type[Configured]] = [role.method.cls for role in roles.values()]
    classes += [role.distillation.distiller.cls for role in roles.values() if role.distillation]
    bias_trainer = None
    if any("bias_model" in cls.needs for cls in classes):
        small = Role("bias_model", RoleKind.STUDENT, STUDENTS, "erm", settings.student)
        bias_trainer = resolve_role(small, settings, modality, plugins)
    environments = None
    if settings.select == "worst_environment":
        name = SELECTS_BY if settings.group_inference == "none" else settings.group_inference
        options = settings.group_inference_options.get(name, {})
        environments = component(
            plugins, modality, "group_inference", GroupInference, name, options
        )
    return RunPlan(
        roles,
        settings.select,
        named("bias_model", BiasModel) if settings.bias_model in plugins["bias_model"] else None,
        named("group_inference", GroupInference) if inferred else None,
        settings.vocab_size,
        settings.image,
        bias_trainer,
        environments,
    )


def resolve_checkpoints(task: Task, settings: TaskSettings, plugins: Plugins) -> RunPlan:
    """The plan of an evaluation: teacher, student and control are checkpoints, used as they are."""
    declared = [
        Role("teacher", RoleKind.TEACHER, TEACHERS, "erm", settings.teacher),
        Role("student", RoleKind.STUDENT, STUDENTS, "erm", settings.student),
    ]
    if isinstance(settings.control, str):
        twin = settings.student.model_copy(update={"model": settings.control})
        declared.append(Role("control", RoleKind.CONTROL, STUDENTS, "erm", twin))
    roles = {}
    for role in declared:
        resolved = resolve_role(role, settings, task.modality, plugins)
        roles[role.name] = replace(resolved, args=replace(resolved.args, epochs=0))
    return RunPlan(roles, "none", None, None, settings.vocab_size, settings.image)


def resolve_role(
    role: Role, settings: TaskSettings, modality: str, plugins: Plugins
) -> ResolvedRole:
    """One role, with its model, method and distillation looked up."""
    chosen = role.settings

    def method_of(name: str) -> Component[Method]:
        options = settings.method_options.get(name, {})
        return component(plugins, modality, "method", Method, name, options)

    method = method_of(role.method)
    return ResolvedRole(
        name=role.name,
        kind=role.kind,
        init_group=role.init_group,
        model=locate(chosen, modality, plugins),
        model_config=chosen.config,
        max_length=chosen.max_length,
        args=training_args(chosen),
        erm_epochs=chosen.erm_epochs,
        erm_learning_rate=chosen.erm_learning_rate or chosen.learning_rate,
        method=method,
        trained_by=method_of(method.cls.base) if method.cls.base else method,
        distillation=resolve_distillation(role.distillation, modality, plugins),
        augmentations=tuple(
            component(plugins, modality, "augmentation", Augmentation, name, options)
            for name, options in role.augmentations.items()
        ),
        settings=chosen,
    )


def resolve_distillation(
    chosen: StudentSettings | None, modality: str, plugins: Plugins
) -> Distillation | None:
    """How a student is distilled, with its distiller and compressors looked up."""
    if chosen is None:
        return None
    return Distillation(
        distiller=component(
            plugins, modality, "distiller", Distiller, chosen.distiller, chosen.distiller_options
        ),
        teachers=chosen.teachers,
        combine=chosen.combine,
        biased_teacher=chosen.avoided,
        extrapolation=chosen.extrapolation,
        ce_weight=chosen.ce_weight,
        kd_weight=chosen.kd_weight,
        temperature=chosen.temperature,
        from_teacher=chosen.from_teacher,
        compressors=tuple(
            component(plugins, modality, "compressor", Compressor, name, options)
            for name, options in chosen.compress.items()
        ),
        rounds=chosen.rounds,
        between_rounds=chosen.between_rounds,
        equal_budget=chosen.equal_budget,
    )


def component(
    plugins: Plugins,
    modality: str,
    kind: str,
    base: type[Class],
    name: str,
    options: Mapping[str, Any],
) -> Component[Class]:
    """A plugin's class by name, with its options filled in; HarnessError for unknown ones."""
    cls = plugins[kind].offer(name).subclass(base)
    return Component(name, cls, cls.resolved(options, modality))


def training_args(settings: RoleSettings) -> TrainingArgs:
    """How a role's model is trained; its seed is set where a training starts."""
    return TrainingArgs(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_warmup=settings.lr_warmup,
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        seed=0,
        freeze_encoder=settings.freeze_encoder,
    )
