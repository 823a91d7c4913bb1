"""The configuration of a run: what each setting means, its default, and how they are merged.

Order, later wins: defaults here < the task's recipe for the data source < `--config` file <
command line flags < `--set key=value`. What comes out is written beside the results and can be
given back as `--config`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness_plugin.data.task import HubSet, Loader, Source, Task, merge, read_yaml
from harness_plugin.errors import HarnessError, unknown

NAMED: tuple[Source, ...] = ("embedded", "hub", "own")
"""Sources that `data` names; anything else is a folder."""


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RoleSettings(Strict):
    """One model and how it is trained."""

    model: str = Field(description="a preset (harness ls backbones), a local folder or a hub id")
    init: Literal["scratch", "pretrained"] = Field(
        "pretrained", description="random weights, or the preset's hub checkpoint"
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="overrides of the transformers configuration"
    )
    labels: tuple[str, ...] | None = Field(
        None, description="label names of a checkpoint that does not say them, in logit order"
    )
    max_length: int = Field(128, ge=4, description="text: longer pairs are truncated to it")
    epochs: float = Field(3, ge=0, description="passes over the training rows; 0 = use as it is")
    erm_epochs: float = Field(
        0, ge=0, description="how many of them are plain ERM before the method takes over"
    )
    batch_size: int = Field(
        32, ge=1, description="examples an update sees, over all processes and accumulation steps"
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak, after warm-up, of the method")
    erm_learning_rate: float | None = Field(None, description="peak of the ERM epochs")
    lr_warmup: float = Field(0.1, ge=0, le=1, description="fraction of the updates; then linear")
    weight_decay: float = Field(0.01, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to it")
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="micro-batches that an update's examples are cut into"
    )

    @model_validator(mode="after")
    def _method_has_epochs(self) -> RoleSettings:
        if self.epochs and self.erm_epochs >= self.epochs:
            raise ValueError(f"erm_epochs {self.erm_epochs} leaves nothing of epochs {self.epochs}")
        return self


class StudentSettings(Strict):
    """How one student learns: loss = ce_weight * method + kd_weight * T^2 * distiller."""

    method: str = Field("same", description="method of the label term; 'same' as the teacher")
    distiller: str = Field("kd", description="what it learns from (harness ls distillers)")
    distiller_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the distiller: {beta: 4}"
    )
    from_teacher: Literal["none", "even", "first", "last", "tinybert"] = Field(
        "none", description="start from the teacher's weights: which of its layers"
    )
    augmentations: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="rows it learns from besides (harness ls augmentations): {upsample: {}}",
    )
    ce_weight: float = Field(0.5, ge=0)
    kd_weight: float = Field(0.5, ge=0)
    temperature: float = Field(2.0, gt=0)
    teachers: tuple[str, ...] = Field(
        ("teacher",), min_length=1, description="the roles it learns from; another student may be"
    )
    combine: Literal["mean_prob", "mean_logit", "confidence", "agre"] = Field(
        "mean_prob", description="how several teachers become one"
    )
    biased_teacher: str = Field(
        "erm_teacher", description="combine=agre: the role whose gradient teachers are to avoid"
    )
    rounds: int = Field(1, ge=1, description="trainings in a row; each learns from the one before")
    between_rounds: Literal["teaches", "initialises", "both"] = Field(
        "teaches", description="what a round's student is to the next one's"
    )
    equal_budget: bool = Field(
        True,
        description="rounds and further rows share the student's updates, so that they cost none",
    )

    @field_validator("teachers")
    @classmethod
    def _once(cls, teachers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(teachers)) != len(teachers):
            raise ValueError("a teacher is named twice")
        return teachers


class TeacherSettings(Strict):
    """A further teacher: as the task's teacher, with something changed."""

    method: str = Field("same", description="method; 'same' as the task's teacher")
    changes: dict[str, Any] = Field(
        default_factory=dict, description="settings of `teacher` that differ: {model: bert-small}"
    )
    distillation: StudentSettings | None = Field(
        None, description="what it learns from teachers of its own: it is then an assistant"
    )


class ImageSettings(Strict):
    """How images become pixels, for models built from scratch."""

    size: int = Field(224, ge=8, description="side in pixels")
    center_crop: int | None = Field(None, description="square cut out first (CelebA: 178)")
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class TaskSettings(Strict):
    """Everything about one task that can be set; a recipe and a run file hold the same keys."""

    method: str = Field("group_dro", description="method (harness ls methods)")
    method_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of each method: {group_dro: {eta: 0.05}}"
    )
    bias_model: str = Field(
        "features", description="of the methods that need one (harness ls bias_models)"
    )
    bias_model_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of each bias model: {subset: {rows: 1000}}"
    )
    group_inference: str = Field(
        "none",
        description="find the training groups instead of reading them "
        "(harness ls group_inferences); 'none' = the data's own",
    )
    group_inference_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of each: {error_set: {epochs: 1}}"
    )
    select: Literal["none", "average", "worst_group"] = Field(
        "none", description="which epoch's weights count: the last, or the best on validation"
    )
    validation_fraction: float = Field(
        0, ge=0, lt=1, description="share of the training rows held out where data have no such set"
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
    )
    references: bool = Field(True, description="train ERM twins; retention needs them")
    students: dict[str, StudentSettings] = Field(
        default_factory=lambda: {"student": StudentSettings()},
        description="the ways the student is distilled; names begin with 'student', null = none",
    )
    vocab_size: int = Field(8000, ge=100, description="of a tokenizer trained on the task's text")
    image: ImageSettings = ImageSettings()
    options: dict[str, Any] = Field(default_factory=dict, description="the task's own options")

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

    @field_validator("students", mode="before")
    @classmethod
    def _without_those_left_out(cls, students: object) -> object:
        """`student_ce: null` in a file or a flag leaves a student of the recipe out."""
        if not isinstance(students, Mapping):
            return students
        return {name: given for name, given in students.items() if given is not None}

    @field_validator("students")
    @classmethod
    def _names(cls, students: dict[str, StudentSettings]) -> dict[str, StudentSettings]:
        for name in students:
            if not name.startswith("student"):
                raise ValueError(f"a student's name begins with 'student', {name!r} does not")
        return students


class RunConfig(Strict):
    """One run: which tasks, on which data, how often, on what, and where the results go."""

    tasks: tuple[str, ...] = Field(min_length=1)
    data: str | None = Field(
        None, description="embedded, hub, or a folder; what a task has of its own by default"
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    data_seed: int = 0
    limit: int | None = Field(None, ge=1)
    eval_only: bool = False
    eval_batch_size: int = Field(
        64, ge=1, description="larger ones are slower on a CPU (bench/evaluate.py), not on a GPU"
    )
    device: str | None = None
    threads: int | Literal["auto"] = "auto"
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    compile: bool = False
    checkpoint_steps: int = Field(500, ge=0, description="0 = no checkpoints inside a training")
    output_path: str = "results"
    log_samples: bool = False
    outputs: tuple[str, ...] | None = Field(
        None, description="writers of result files (harness ls outputs); all by default"
    )
    use_cache: str | None = None
    include_path: tuple[str, ...] = ()
    log_with: str | None = None
    trust_remote_code: bool = False
    resamples: int = Field(1000, ge=100, description="bootstrap resamples")
    analyze: tuple[str, ...] = Field(
        (), description="analyses made of the run's models (harness ls analyses); 'all' = all"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="task settings for all tasks, or under a task's name"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @model_validator(mode="after")
    def _one_seed_a_checkpoint(self) -> RunConfig:
        if self.eval_only and len(self.seeds) > 1:
            raise ValueError("eval_only scores one checkpoint a role: give one seed")
        return self

    def source_of(self, task: Task) -> Source:
        """The kind of data source that `data` names, or the one that the task has of its own."""
        if self.data is None:
            return task.default_source
        return next((name for name in NAMED if name == self.data), "path")

    @property
    def data_path(self) -> Path | None:
        """The folder of the source `path`."""
        if self.data is None or self.data in NAMED:
            return None
        return Path(self.data)


def hub_sets_of(
    task: Task, options: Mapping[str, Any], source: str, config: RunConfig
) -> dict[str, HubSet]:
    """The evaluation sets that are a hub split row for row: not under a limit or other options."""
    changed = [name for name, value in options.items() if task.options[name].default != value]
    if source != "hub" or config.limit is not None or changed:
        return {}
    return dict(task.hub_sets)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["hans.collapse=sum", "teacher.epochs=3"]` as nested mappings; values are YAML."""
    out: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not all(key.split(".")):
            raise HarnessError(f"--set {assignment!r}: expected key=value, e.g. teacher.epochs=3.")
        try:
            value = yaml.load(text, Loader=Loader)
        except yaml.YAMLError:
            raise HarnessError(f"--set {assignment!r}: {text!r} is not a YAML value.") from None
        for part in reversed(key.split(".")):
            value = {part: value}
        out = merge(out, value)
    return out


def over_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: what it sets for all tasks wins over what `base` sets for one."""
    general = {key: value for key, value in over.items() if key in TaskSettings.model_fields}
    tasks = {
        key: merge(value, general)
        for key, value in base.items()
        if key not in TaskSettings.model_fields and isinstance(value, Mapping)
    }
    return merge(merge(merge(dict(base), tasks), general), over)


def task_settings(
    task: Task, source: Source, tasks: Iterable[str], given: Mapping[str, Any]
) -> TaskSettings:
    """The settings of `task`: its recipe, then `given` for all tasks, then `given[task]`.

    `given` may hold setting names, names of `tasks`, and below a task's name also that task's
    own options. Raises HarnessError naming the key and near matches.
    """
    known = set(TaskSettings.model_fields)
    names = set(tasks)
    for key in given:
        if key not in known | names:
            raise unknown("setting", key, known | names)
    own = dict(given.get(task.task, {}))
    for option in [key for key in own if key in task.options]:
        own["options"] = {**own.get("options", {}), option: own.pop(option)}
    for key in own:
        if key not in known:
            raise unknown(f"setting of task {task.task}", key, known | set(task.options))
    wanted = merge({key: value for key, value in given.items() if key in known}, own)
    recipe = merge(dict(task.recipe.get("all", {})), task.recipe.get(source, {}))
    merged = merge(fitting(recipe, wanted), wanted)
    for role in ("teacher", "student"):
        if isinstance(merged.get(role), dict):
            check_names(f"{task.task}.{role}", merged[role], RoleSettings)
    try:
        return TaskSettings.model_validate(merged)
    except ValidationError as error:
        raise HarnessError(problems(f"task {task.task}", error)) from None


def fitting(recipe: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without the `config` of a model that is replaced by one of another family.

    `config` holds arguments of one architecture: a BERT's dropout is no setting of a T5's.
    """
    out = copy.deepcopy(dict(recipe))
    for role in ("teacher", "student"):
        named = wanted.get(role, {}).get("model") if isinstance(wanted.get(role), dict) else None
        if isinstance(named, str) and isinstance(out.get(role), dict):
            old = str(out[role].get("model", ""))
            if named.partition("-")[0] != old.partition("-")[0]:
                out[role].pop("config", None)
    return out


def check_names(where: str, given: Mapping[str, Any], model: type[BaseModel]) -> None:
    """Refuse keys `model` does not have, with near matches."""
    for key in given:
        if key not in model.model_fields:
            raise unknown(f"setting of {where}", key, model.model_fields)


def problems(where: str, error: ValidationError) -> str:
    """Every problem of a validation, one line each: key, message, value."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            lines.append(f"{where}: setting {key!r} is missing.")
        else:
            value = repr(problem.get("input"))[:80]
            lines.append(f"{where}: {key}: {problem['msg']} (got {value}).")
    return "\n".join(lines)


def run_config(
    file: Path | None,
    flags: Mapping[str, Any],
    sets: Iterable[str] | Mapping[str, Any],
    where: str = "command line",
) -> RunConfig:
    """The configuration from a file, flags (those that are not None) and assignments.

    `sets`: `key=value` texts, or the nested mapping that they stand for. `where` the flags come
    from, for messages.
    """
    base: dict[str, Any] = {}
    if file is not None:
        base, _ = read_yaml(file)
        check_names(str(file), base, RunConfig)
    merged = merge(base, {key: value for key, value in flags.items() if value is not None})
    assigned = dict(sets) if isinstance(sets, Mapping) else parse_assignments(sets)
    top = {key: assigned.pop(key) for key in list(assigned) if key in RunConfig.model_fields}
    merged = merge(merged, top)
    if merged.get("eval_only"):  # a checkpoint is one model, of one seed
        merged.setdefault("seeds", (0,))
    settings = dict(merged.get("settings") or {})
    for task in set(base.get("tasks") or ()) - set(merged.get("tasks") or ()):
        settings.pop(task, None)  # the file has more tasks than this run
    merged["settings"] = over_settings(settings, assigned)
    if not merged.get("tasks"):
        raise HarnessError("no task given: --tasks NAME[,NAME] (see `harness ls tasks`).")
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        raise HarnessError(problems(str(file) if file else where, error)) from None
