"""The settings of a task and of its models: the one place for each of them.

A field says its name, type, bounds, default and meaning; the command line, its help and the checks
are made from it (`cli.parser`). Those of a run are in `run_config`; how recipes,
files and flags are put together is in `merge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from harness_plugin.config.fields import (
    LARGEST,
    MANY,
    MODELS,
    Brightness,
    Options,
    Spread,
    Strict,
    flag,
)
from harness_plugin.config.mappings import fitting, problems
from harness_plugin.data.yaml_files import merge


class RoleSettings(Strict):
    """One model and how it is trained."""

    model: str = Field(
        description="a preset (harness ls backbones), a checkpoint folder or a hub id",
        json_schema_extra=flag(MODELS, "MODEL"),
    )
    init: Literal["scratch", "pretrained"] = Field(
        "pretrained",
        description="random weights, or the preset's hub checkpoint",
        json_schema_extra=flag(MODELS),
    )
    freeze_encoder: bool = Field(
        False,
        description="train the classification head alone: the encoder stays as it was pretrained",
    )
    config: Options = Field(
        default_factory=dict, description="overrides of the transformers configuration"
    )
    labels: tuple[str, ...] | None = Field(
        None, description="label names of a checkpoint that does not say them, in logit order"
    )
    max_length: int = Field(
        128, ge=4, le=2**20, description="text: longer pairs are truncated to it"
    )
    epochs: float = Field(
        3, ge=0, le=1e6, description="passes over the training rows; 0 = use as it is"
    )
    erm_epochs: float = Field(
        0, ge=0, le=1e6, description="how many of them are plain ERM before the method takes over"
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=MANY,
        description="examples an update sees, over all processes and accumulation steps",
    )
    learning_rate: float = Field(
        2e-5, gt=0, le=1e6, description="peak, after warm-up, of the method"
    )
    erm_learning_rate: float | None = Field(
        None, gt=0, le=1e6, description="peak of the ERM epochs"
    )
    lr_warmup: float = Field(0.1, ge=0, le=1, description="fraction of the updates; then linear")
    weight_decay: float = Field(0.01, ge=0, le=1e6, description="of AdamW")
    adam_beta2: float = Field(0.999, gt=0, lt=1, description="of AdamW, the second moment's decay")
    max_grad_norm: float = Field(1.0, gt=0, le=LARGEST, description="gradients are clipped to it")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=MANY, description="micro-batches that an update's examples are cut into"
    )

    @model_validator(mode="after")
    def _method_has_epochs(self) -> RoleSettings:
        if self.epochs and self.erm_epochs >= self.epochs:
            raise ValueError(f"erm_epochs {self.erm_epochs} leaves nothing of epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _frozen_is_pretrained(self) -> RoleSettings:
        if self.freeze_encoder and self.init == "scratch":
            raise ValueError("freeze_encoder: the encoder of init=scratch has random weights")
        return self


class StudentSettings(Strict):
    """How one student learns: loss = ce_weight * method + kd_weight * T^2 * distiller."""

    method: str = Field("same", description="method of the label term; 'same' as the teacher")
    distiller: str = Field("kd", description="what it learns from (harness ls distillers)")
    distiller_options: Options = Field(
        default_factory=dict, description="options of the distiller: {beta: 4}"
    )
    from_teacher: Literal["none", "even", "first", "last", "tinybert"] = Field(
        "none", description="start from the teacher's weights: which of its layers"
    )
    compress: dict[str, Options] = Field(
        default_factory=dict,
        description="be the first teacher's network made smaller, step by step (harness ls "
        "compressors): {magnitude: {sparsity: 0.7}}; trained only where `epochs` are given",
    )
    augmentations: dict[str, Options] = Field(
        default_factory=dict,
        description="rows it learns from besides (harness ls augmentations): {upsample: {}}",
    )
    epochs: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="passes over the training rows, where not those of `student`, which its "
        "control has; rounds and further rows share them. With `compress`: none if not given",
    )
    ce_weight: float = Field(0.5, ge=0, le=1e6, description="of the method's loss on the labels")
    kd_weight: float = Field(0.5, ge=0, le=1e6, description="of the distiller's loss")
    temperature: float = Field(2.0, gt=0, le=1e6, description="T, that logits are divided by")
    teachers: tuple[str, ...] = Field(
        ("teacher",), min_length=1, description="the roles it learns from; another student may be"
    )
    combine: Literal["mean_prob", "mean_logit", "confidence", "agre", "extrapolate"] = Field(
        "mean_prob",
        description="how several teachers become one; extrapolate: or one a stronger one",
    )
    biased_teacher: str = Field(
        "erm_teacher", description="combine=agre, extrapolate: the role that teachers are to avoid"
    )
    extrapolation: float = Field(
        0.5,
        ge=0,
        le=100,
        description="combine=extrapolate: how far beyond the teacher, 0 is itself",
    )
    rounds: int = Field(
        1, ge=1, le=1000, description="trainings in a row; each learns from the one before"
    )
    between_rounds: Literal["teaches", "initialises", "both"] = Field(
        "teaches", description="what a round's student is to the next one's"
    )
    equal_budget: bool = Field(
        True,
        description="rounds and further rows share the student's updates, so that they cost none",
    )

    @property
    def avoided(self) -> str:
        """The biased role that it needs besides its teachers; "" where it needs none."""
        return self.biased_teacher if self.combine in ("agre", "extrapolate") else ""

    @model_validator(mode="after")
    def _something_to_learn(self) -> StudentSettings:
        if not self.ce_weight and not self.kd_weight:
            raise ValueError("ce_weight and kd_weight are both 0: the student would learn nothing")
        return self

    @model_validator(mode="after")
    def _one_network(self) -> StudentSettings:
        if self.compress and (self.rounds > 1 or self.from_teacher != "none"):
            raise ValueError("compress is the teacher's network: from_teacher none and one round")
        return self

    @field_validator("teachers")
    @classmethod
    def _once(cls, teachers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(teachers)) != len(teachers):
            raise ValueError("a teacher is named twice")
        return teachers


class TeacherSettings(Strict):
    """A further teacher: as the task's teacher, with something changed."""

    method: str = Field("same", description="method; 'same' as the task's teacher")
    changes: Options = Field(
        default_factory=dict, description="settings of `teacher` that differ: {model: bert-small}"
    )
    distillation: StudentSettings | None = Field(
        None, description="what it learns from teachers of its own: it is then an assistant"
    )


class ImageSettings(Strict):
    """How images become pixels, for models built from scratch."""

    size: int = Field(224, ge=8, le=2**14, description="side in pixels")
    center_crop: int | None = Field(
        None, ge=1, le=2**14, description="side in pixels of a square cut out first (CelebA: 178)"
    )
    mean: tuple[Brightness, Brightness, Brightness] = Field(
        (0.485, 0.456, 0.406), description="of red, green and blue in [0, 1], subtracted"
    )
    std: tuple[Spread, Spread, Spread] = Field(
        (0.229, 0.224, 0.225), description="of red, green and blue, divided by"
    )


class ValidationPool(Strict):
    """A file of further validation rows, in the layout of the augmentation `pool`."""

    file: str = Field(
        min_length=1, description="CSV, TSV, JSON lines or Parquet with the task's inputs"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="the file's name of a column, by the task's"
    )
    label: str = Field(min_length=1, description="its column of labels")
    attribute: str = Field("", description="its column of the attribute: groups need it")
    cluster: str = Field(
        "", description="its column of clusters: rows of one template or person are not independent"
    )


class TaskSettings(Strict):
    """Everything about one task that can be set; a recipe and a run file hold the same keys."""

    method: str = Field(
        "group_dro",
        description="debiasing method (harness ls methods)",
        json_schema_extra=flag(MODELS, "NAME"),
    )
    method_options: dict[str, Options] = Field(
        default_factory=dict, description="options of each method: {group_dro: {eta: 0.05}}"
    )
    augmentations: dict[str, Options] = Field(
        default_factory=dict,
        description="labelled rows that all who learn by the method learn from besides (teacher, "
        "control, students of method 'same'), ERM twins do not: {upsample: {}}",
    )
    bias_model: str = Field(
        "features",
        description="of methods that need one (harness ls bias_models)",
        json_schema_extra=flag(MODELS, "NAME"),
    )
    bias_model_options: dict[str, Options] = Field(
        default_factory=dict, description="options of each bias model: {subset: {rows: 1000}}"
    )
    group_inference: str = Field(
        "none",
        description="find the training groups instead of reading them "
        "(harness ls group_inferences); 'none' = the data's own",
        json_schema_extra=flag(MODELS, "NAME"),
    )
    group_inference_options: dict[str, Options] = Field(
        default_factory=dict, description="options of each: {error_set: {epochs: 1}}"
    )
    select: Literal["none", "average", "worst_group", "worst_environment"] = Field(
        "none",
        description="which epoch's weights count: the last, or the best on the validation split; "
        "worst_environment finds its environments by group_inference, or eiil",
        json_schema_extra=flag(MODELS),
    )
    validation_fraction: float = Field(
        0, ge=0, lt=1, description="share of the training rows held out where data have no such set"
    )
    validation_pool: ValidationPool | None = Field(
        None,
        description="further validation rows, from a file: {file: rows.csv, label: gold, "
        "attribute: cue}",
    )
    teacher: RoleSettings
    student: RoleSettings
    teachers: dict[str, TeacherSettings] = Field(
        default_factory=dict,
        description="further teachers, for students that name them; names begin with 'teacher_'",
    )
    control: bool | str = Field(
        True,
        description="train the student's twin without a teacher; or its checkpoint (eval_only)",
        json_schema_extra=flag(MODELS, "MODEL"),
    )
    references: bool = Field(True, description="train ERM twins; retention needs them")
    students: dict[str, StudentSettings] = Field(
        default_factory=lambda: {"student": StudentSettings()},
        description="the ways the student is distilled; names begin with 'student'. null leaves "
        "one out, false does whether or not there is one",
    )
    vocab_size: int = Field(
        8000, ge=100, le=10**7, description="of a tokenizer trained on the task's text"
    )
    image: ImageSettings = Field(
        default_factory=ImageSettings, description="how images become pixels"
    )
    options: Options = Field(default_factory=dict, description="the task's own options")
    _left_out: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("teachers")
    @classmethod
    def _teacher_names(cls, teachers: dict[str, TeacherSettings]) -> dict[str, TeacherSettings]:
        for name in teachers:
            if not name.startswith("teacher_"):
                raise ValueError(f"a teacher's name begins with 'teacher_', {name!r} does not")
        return teachers

    @model_validator(mode="after")
    def _teachers_differ_by_known_settings(self) -> TaskSettings:
        for name, teacher in self.teachers.items():
            try:
                self.changed_teacher(teacher)
            except ValidationError as error:
                raise ValueError(problems(f"teachers.{name}.changes", error)) from None
        return self

    def changed_teacher(self, teacher: TeacherSettings) -> RoleSettings:
        """The settings of a further teacher. A model of another family drops `config`."""
        base = {"teacher": self.teacher.model_dump()}
        changes = {"teacher": teacher.changes}
        return RoleSettings.model_validate(merge(fitting(base, changes), changes)["teacher"])

    @model_validator(mode="wrap")
    @classmethod
    def _remember_what_is_left_out(
        cls, raw: Any, handler: ModelWrapValidatorHandler[TaskSettings]
    ) -> TaskSettings:
        """Students that are null or false are none; they are kept for what is written down."""
        students = raw.get("students") if isinstance(raw, Mapping) else None
        if not isinstance(students, Mapping):
            return handler(raw)
        left_out = [name for name, one in students.items() if one is None or one is False]
        kept = {name: one for name, one in students.items() if name not in left_out}
        settings = handler({**raw, "students": kept})
        settings._left_out = tuple(left_out)
        return settings

    @field_serializer("students")
    def _with_those_left_out(self, students: dict[str, StudentSettings]) -> dict[str, Any]:
        """A recipe's student that was left out is so again when the settings are read back."""
        trained = {name: one.model_dump() for name, one in students.items()}
        return {**trained, **dict.fromkeys(self._left_out, False)}

    @field_validator("students")
    @classmethod
    def _names(cls, students: dict[str, StudentSettings]) -> dict[str, StudentSettings]:
        for name in students:
            if not name.startswith("student"):
                raise ValueError(f"a student's name begins with 'student', {name!r} does not")
        return students
