"""A task opened for a test: single roles are trained and asked as a run does it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from harness_plugin.config.roles import STUDENTS, TEACHERS, Role, RoleKind
from harness_plugin.config.settings import RoleSettings, StudentSettings
from harness_plugin.models.checkpoints import locate
from harness_plugin.pipeline import checks
from harness_plugin.pipeline.augment import augment
from harness_plugin.pipeline.context import RunContext
from harness_plugin.pipeline.plan import (
    ResolvedRole,
    resolve,
    resolve_distillation,
    resolve_role,
)
from harness_plugin.pipeline.run_task import train_models
from harness_plugin.pipeline.split_stages import (
    encoded_rows,
    logits_stage,
    predict_split,
    processor_of,
)
from harness_plugin.pipeline.supervision import (
    TeacherModels,
    output_stages,
    supervision_of,
    teacher_outputs,
    training_metadata,
)
from harness_plugin.pipeline.train_role import checkpoint_model, train_role, train_rounds
from harness_plugin.pipeline.trainer import RoleTrainer, bias_model_trainer
from harness_plugin.records import TrainedModel


@dataclass(frozen=True)
class Taught:
    """Trained teachers, and how a student learns from them."""

    teachers: tuple[TrainedModel, ...]
    settings: StudentSettings
    biased: TrainedModel | None = None

    @property
    def teacher(self) -> TrainedModel:
        """The first one."""
        return self.teachers[0]


@dataclass(frozen=True)
class OpenedTask:
    """One task of a run; `ctx` is what the pipeline's functions take."""

    ctx: RunContext

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "ctx"), name)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that models are trained on."""
        return self.ctx.data.train.labels

    def role(
        self, name: str, settings: RoleSettings, method: str = "erm", taught: Taught | None = None
    ) -> ResolvedRole:
        """A role as a plan has it."""
        kinds = {"teacher": RoleKind.TEACHER, "control": RoleKind.CONTROL}
        kind = kinds.get(name, RoleKind.STUDENT)
        group = TEACHERS if kind is RoleKind.TEACHER else STUDENTS
        student = taught.settings if taught else None
        if taught is not None and student is not None:
            student = student.model_copy(
                update={"teachers": tuple(model.role for model in taught.teachers)}
            )
        role = Role(name, kind, group, method, settings, student)
        return resolve_role(role, self.ctx.settings, self.ctx.task.modality, self.ctx.plugins)

    def trained(
        self,
        name: str,
        settings: RoleSettings,
        method: str,
        seed: int,
        taught: Taught | None = None,
    ) -> TrainedModel:
        """One role's model."""
        role = self.role(name, settings, method, taught)
        ctx = self.ctx_of_any_method()
        if taught is not None:
            students = {**ctx.settings.students, name: taught.settings}
            ctx = replace(ctx, settings=ctx.settings.model_copy(update={"students": students}))
        if taught is None or not role.trained:
            return train_role(ctx, role, seed, {})
        if taught.settings.augmentations:
            models = {model.role: model for model in taught.teachers}
            return train_role(ctx, role, seed, models)
        return train_rounds(ctx, role, seed, TeacherModels(taught.teachers, taught.biased))

    def trainer(
        self, name: str, settings: RoleSettings, seed: int = 0, taught: Taught | None = None
    ) -> RoleTrainer:
        """What a method's first stages are handed."""
        teachers = TeacherModels(taught.teachers, taught.biased) if taught else None
        return RoleTrainer(self.ctx, self.role(name, settings, "erm", taught), seed, teachers)

    def models(self, seed: int) -> dict[str, TrainedModel]:
        """Every role of the plan."""
        return {model.role: model for model in train_models(self.ctx, seed)}

    def as_it_is(self, name: str, settings: RoleSettings, seed: int) -> TrainedModel:
        """A checkpoint that is not trained."""
        return checkpoint_model(self.ctx, self.role(name, settings), seed)

    def predictions(self, model: TrainedModel, split: Any) -> Any:
        """What a model predicts."""
        return predict_split(self.ctx, model, split)

    def logits(self, model: TrainedModel, split: Any) -> Any:
        """The stage with a model's logits."""
        return logits_stage(self.ctx, model, split)

    def outputs(self, taught: Taught) -> Any:
        """The stages with the teachers' outputs on the training rows."""
        distillation = resolve_distillation(
            taught.settings, self.ctx.task.modality, self.ctx.plugins
        )
        assert distillation is not None
        teachers = TeacherModels(taught.teachers, taught.biased)
        return output_stages(self.ctx, distillation, teachers)

    def teacher_outputs(self, taught: Taught) -> Any:
        """What a student would learn from, of all training rows."""
        distillation = resolve_distillation(
            taught.settings, self.ctx.task.modality, self.ctx.plugins
        )
        assert distillation is not None
        teachers = TeacherModels(taught.teachers, taught.biased)
        stages = output_stages(self.ctx, distillation, teachers)
        return teacher_outputs(self.ctx, distillation, teachers, stages, None)

    def joined(self, taught: Taught) -> Any:
        """The training rows with those of the augmentations, and how many each adds."""
        role = self.role("student", self.ctx.settings.student, "erm", taught)
        data, added = augment(self.ctx, role, taught.teacher)
        return data.train, added

    def encoded(self, split: Any, settings: RoleSettings, inputs: Any = None) -> Any:
        """The rows of a split as a role reads them."""
        source = locate(settings, self.ctx.task.modality, self.ctx.plugins)
        return encoded_rows(self.ctx, split, source.checkpoint, settings.max_length, inputs)

    def processor(self, settings: RoleSettings) -> Any:
        """A role's processor and its folder."""
        source = locate(settings, self.ctx.task.modality, self.ctx.plugins)
        return processor_of(self.ctx, source.checkpoint)

    def bias_model(self) -> Any:
        """The stage of the bias model."""
        bias = self.ctx.plan.bias_model
        assert bias is not None
        return bias.cls.log_probs(self.bias_trainer(), bias.options)

    def bias_trainer(self) -> RoleTrainer:
        """What bias models are handed, whether or not a role of the plan needs one."""
        return bias_model_trainer(self.ctx_of_any_method())

    def ctx_of_any_method(self) -> RunContext:
        """The context for methods that the plan has not: it knows how bias models are trained."""
        ctx, settings = self.ctx, self.ctx.settings
        small = Role("bias_model", RoleKind.STUDENT, STUDENTS, "erm", settings.student)
        trainer = resolve_role(small, settings, ctx.task.modality, ctx.plugins)
        return replace(ctx, plan=replace(ctx.plan, bias_trainer=trainer))

    def facts(self, needs: Any, trainer: Any, prepared: Any) -> Any:
        """What a method may know of the training rows."""
        return training_metadata(
            self.ctx,
            needs,
            trainer,
            self.bias_trainer() if "bias_model" in needs else None,
            prepared,
        )

    def supervision(self, method: str) -> Any:
        """Which labels a teacher trained with a method has been told."""
        return supervision_of(self.ctx, self.role("teacher", self.ctx.settings.teacher, method))

    def available(self) -> set[str]:
        """What the data can give a method."""
        return checks.available(self.ctx)

    def check_method(self, name: str, settings: RoleSettings) -> None:
        """Refuse a method that does not fit."""
        checks.check_method(self.ctx, self.role("teacher", settings, name))

    def check_student(self, student: StudentSettings) -> None:
        """Refuse a student that does not fit, as `students.student`."""
        settings = self.ctx.settings.model_copy(update={"students": {"student": student}})
        plan = resolve(self.ctx.task, settings, self.ctx.plugins)
        ctx = replace(self.ctx, settings=settings, plan=plan)
        checks.check_student(ctx, plan.roles["student"])

    def with_data(self, data: Any) -> OpenedTask:
        """The same with other data."""
        return OpenedTask(replace(self.ctx, data=data))
