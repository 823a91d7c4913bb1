"""The context of a run whose steps a test takes one by one, as a run takes them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from harness_plugin.config.roles import STUDENTS, TEACHERS, Role, RoleKind
from harness_plugin.config.settings import RoleSettings, StudentSettings
from harness_plugin.models.checkpoints import locate
from harness_plugin.pipeline.prepare.plan import (
    ResolvedRole,
    resolve,
    resolve_distillation,
    resolve_role,
)
from harness_plugin.pipeline.roles import checks
from harness_plugin.pipeline.roles.augment import augment
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import (
    encoded_rows,
    logits_stage,
    predict_split,
    processor_of,
)
from harness_plugin.pipeline.roles.supervision import (
    TeacherModels,
    output_stages,
    supervision_of,
    teacher_outputs,
    training_metadata,
)
from harness_plugin.pipeline.roles.train_role import checkpoint_model, train_role, train_rounds
from harness_plugin.pipeline.roles.trainer import RoleTrainer, bias_model_trainer
from harness_plugin.pipeline.run_task import train_models
from harness_plugin.records import TrainedModel


@dataclass(frozen=True)
class Distillation:
    """Trained teachers, and how a student learns from them."""

    teachers: tuple[TrainedModel, ...]
    settings: StudentSettings
    biased: TrainedModel | None = None

    @property
    def teacher(self) -> TrainedModel:
        """The first one."""
        return self.teachers[0]


@dataclass(frozen=True)
class StepwiseContext(RunContext):
    """A run's context with the pipeline's functions as methods."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that models are trained on."""
        return self.data.train.labels

    def role(
        self,
        name: str,
        settings: RoleSettings,
        method: str = "erm",
        distillation: Distillation | None = None,
    ) -> ResolvedRole:
        """A role as a plan has it."""
        kinds = {"teacher": RoleKind.TEACHER, "control": RoleKind.CONTROL}
        kind = kinds.get(name, RoleKind.STUDENT)
        group = TEACHERS if kind is RoleKind.TEACHER else STUDENTS
        student = distillation.settings if distillation else None
        if distillation is not None and student is not None:
            student = student.model_copy(
                update={"teachers": tuple(model.role for model in distillation.teachers)}
            )
        rows = student.augmentations if student else {}
        role = Role(name, kind, group, method, settings, student, rows)
        return resolve_role(role, self.settings, self.task.modality, self.plugins)

    def trained(
        self,
        name: str,
        settings: RoleSettings,
        method: str,
        seed: int,
        distillation: Distillation | None = None,
    ) -> TrainedModel:
        """One role's model."""
        role = self.role(name, settings, method, distillation)
        ctx = self.with_bias_trainer()
        if distillation is not None:
            students = {**ctx.settings.students, name: distillation.settings}
            ctx = replace(ctx, settings=ctx.settings.model_copy(update={"students": students}))
        if distillation is None or not role.trained:
            return train_role(ctx, role, seed, {})
        if role.augmentations:
            models = {model.role: model for model in distillation.teachers}
            return train_role(ctx, role, seed, models)
        return train_rounds(
            ctx, role, seed, TeacherModels(distillation.teachers, distillation.biased)
        )

    def trainer(
        self,
        name: str,
        settings: RoleSettings,
        seed: int = 0,
        distillation: Distillation | None = None,
    ) -> RoleTrainer:
        """What a method's first stages are handed."""
        teachers = (
            TeacherModels(distillation.teachers, distillation.biased) if distillation else None
        )
        return RoleTrainer(self, self.role(name, settings, "erm", distillation), seed, teachers)

    def models(self, seed: int) -> dict[str, TrainedModel]:
        """Every role of the plan."""
        return {model.role: model for model in train_models(self, seed)}

    def untrained(self, name: str, settings: RoleSettings, seed: int) -> TrainedModel:
        """A checkpoint that is not trained."""
        return checkpoint_model(self, self.role(name, settings), seed)

    def predictions(self, model: TrainedModel, split: Any) -> Any:
        """What a model predicts."""
        return predict_split(self, model, split)

    def logits(self, model: TrainedModel, split: Any) -> Any:
        """The stage with a model's logits."""
        return logits_stage(self, model, split)

    def outputs(self, distillation: Distillation) -> Any:
        """The stages with the teachers' outputs on the training rows."""
        resolved = resolve_distillation(distillation.settings, self.task.modality, self.plugins)
        assert resolved is not None
        teachers = TeacherModels(distillation.teachers, distillation.biased)
        return output_stages(self, resolved, teachers)

    def teacher_outputs(self, distillation: Distillation) -> Any:
        """What a student would learn from, of all training rows."""
        resolved = resolve_distillation(distillation.settings, self.task.modality, self.plugins)
        assert resolved is not None
        teachers = TeacherModels(distillation.teachers, distillation.biased)
        stages = output_stages(self, resolved, teachers)
        return teacher_outputs(self, resolved, teachers, stages, None)

    def joined(self, distillation: Distillation) -> Any:
        """The training rows with those of the augmentations, and how many each adds."""
        role = self.role("student", self.settings.student, "erm", distillation)
        data, added = augment(self, role, distillation.teacher)
        return data.train, added

    def encoded(self, split: Any, settings: RoleSettings, inputs: Any = None) -> Any:
        """The rows of a split as a role reads them."""
        source = locate(settings, self.task.modality, self.plugins)
        return encoded_rows(self, split, source.checkpoint, settings.max_length, inputs)

    def processor(self, settings: RoleSettings) -> Any:
        """A role's processor and its folder."""
        source = locate(settings, self.task.modality, self.plugins)
        return processor_of(self, source.checkpoint)

    def bias_model(self) -> Any:
        """The stage of the bias model."""
        bias = self.plan.bias_model
        assert bias is not None
        return bias.cls.log_probs(self.bias_trainer(), bias.options)

    def bias_trainer(self) -> RoleTrainer:
        """What bias models are handed, whether or not a role of the plan needs one."""
        return bias_model_trainer(self.with_bias_trainer())

    def with_bias_trainer(self) -> StepwiseContext:
        """The context for methods that the plan has not: it knows how bias models are trained."""
        small = Role("bias_model", RoleKind.STUDENT, STUDENTS, "erm", self.settings.student)
        trainer = resolve_role(small, self.settings, self.task.modality, self.plugins)
        return replace(self, plan=replace(self.plan, bias_trainer=trainer))

    def metadata(self, needs: Any, trainer: Any, prepared: Any) -> Any:
        """What a method may know of the training rows."""
        return training_metadata(
            self,
            needs,
            trainer,
            self.bias_trainer() if "bias_model" in needs else None,
            prepared,
        )

    def supervision(self, method: str) -> Any:
        """Which labels a teacher trained with a method has used."""
        return supervision_of(self, self.role("teacher", self.settings.teacher, method))

    def available(self) -> set[str]:
        """What the data can give a method."""
        return checks.available(self)

    def check_method(self, name: str, settings: RoleSettings) -> None:
        """Refuse a method that does not fit."""
        checks.check_method(self, self.role("teacher", settings, name))

    def check_student(self, student: StudentSettings) -> None:
        """Refuse a student that does not fit, as `students.student`."""
        settings = self.settings.model_copy(update={"students": {"student": student}})
        plan = resolve(self.task, settings, self.plugins)
        ctx = replace(self, settings=settings, plan=plan)
        checks.check_augmentations(ctx, plan.roles["student"])
        checks.check_student(ctx, plan.roles["student"])
        checks.check_learning(ctx, plan.roles["student"])

    def with_data(self, data: Any) -> StepwiseContext:
        """The same with other data."""
        return replace(self, data=data)


def stepwise(ctx: RunContext) -> StepwiseContext:
    """A run's context with the steps as methods."""
    return StepwiseContext(**{field.name: getattr(ctx, field.name) for field in fields(ctx)})
