"""Refusals before training: needs, options, models and data that do not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness_plugin.data.dataset import TaskData
from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints
from harness_plugin.models.examination import Examined, Use, examine
from harness_plugin.models.layers import Shape
from harness_plugin.models.transplant import check_families
from harness_plugin.pipeline.prepare.plan import Component, ResolvedRole
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import processor_of
from harness_plugin.plugins.option_facts import check_ranges
from harness_plugin.records import label_spelling
from harness_plugin.training.contracts import NEEDS, Configured, Distiller, Method, missing_needs
from harness_plugin.training.inputs.encode import processor_key
from harness_plugin.training.predict import check_labels

SELECTS_ON = {
    "average": "validation",
    "worst_group": "validation_groups",
    "worst_environment": "validation",
}
"""Needs of model selections: keys of `NEEDS`."""
SAMPLE = 64
"""Rows whose texts a tokenizer is asked about."""


def check_plan(ctx: RunContext) -> None:
    """Refuse roles whose needs, options, models or labels this task and these data do not meet."""
    trust = ctx.config.trust_remote_code
    for role in ctx.plan.roles.values():
        checkpoints.check_settings(role.settings, ctx.task.modality, ctx.plugins, trust)
    check_shared(ctx)
    for role in ctx.plan.roles.values():
        check_method(ctx, role)
        check_augmentations(ctx, role)
        check_compressors(ctx, role)
        if role.trained or not role.compressors:
            check_student(ctx, role)
        check_learning(ctx, role)
    check_options(ctx)


def check_augmentations(ctx: RunContext, role: ResolvedRole) -> None:
    """Refuse further rows that need what the data lack, or a teacher where a role has none.

    And rows that judge as well (`validation_pool`).
    """
    judges = ctx.settings.validation_pool
    own_labels = role.distillation is None or role.kind.from_labels
    for each in role.augmentations:
        where = f"task {ctx.task.task}: {role.name}: augmentation {each.name}"
        if missing := missing_needs(each.cls, available(ctx)):
            raise HarnessError(f"{where} needs {' and '.join(missing)}, which {data_of(ctx)}.")
        if judges and same_file(str(each.options.get("file", "")), judges.file):
            raise HarnessError(
                f"{where} trains on {judges.file}, which is the validation_pool: take other rows."
            )
        if own_labels and not each.cls.labelled(each.options):
            raise HarnessError(
                f"{where} has rows without labels, which {role.name} has no teacher to label: give "
                "it to a student (students.NAME.augmentations), or rows with labels."
            )


def same_file(one: str, other: str) -> bool:
    """Whether two names are of one file that exists."""
    return bool(one) and Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def check_options(ctx: RunContext) -> None:
    """Refuse options that are out of the range that their plugin gives them."""
    chosen: list[tuple[str, Component[Any] | None]] = [
        ("bias_model", ctx.plan.bias_model),
        ("group_inference", ctx.plan.group_inference),
    ]
    for role in ctx.plan.roles.values():
        chosen.append(("method", role.method))
        chosen += [("augmentation", each) for each in role.augmentations]
        if distillation := role.distillation:
            chosen.append(("distiller", distillation.distiller))
            chosen += [("compressor", each) for each in distillation.compressors]
    for kind, component in chosen:
        if component is not None:
            check_ranges(ctx.plugins[kind].offer(component.name), component.options)


def examine_models(ctx: RunContext) -> None:
    """Refuse checkpoints that do not fit themselves or this run: all of them, before any work."""
    for role in ctx.plan.roles.values():
        examined(ctx, role)


def examined(ctx: RunContext, role: ResolvedRole) -> Examined | None:
    """Result of a checkpoint's examination; None for a preset."""
    if role.model.checkpoint is None or role.compressors:  # a compressed teacher is examined as one
        return None
    split = ctx.data.evaluation[0]
    texts: tuple[str, ...] = ()
    if ctx.task.modality == "text":
        rows = split.rows[: min(SAMPLE, len(split))]
        texts = tuple(str(text) for column in ctx.task.inputs for text in rows[column])
    use = Use(not role.trained, role.max_length, texts, json.dumps(dict(role.model_config)))
    return examine(
        role.model,
        ctx.task.modality,
        use,
        role=role.name,
        trust_remote_code=ctx.config.trust_remote_code,
    )


def data_of(ctx: RunContext) -> str:
    """The data, for messages."""
    return f"{ctx.data.source} data of this task do not have"


def available(ctx: RunContext) -> set[str]:
    """Needs that this data satisfies: keys of `NEEDS`."""
    task, train, validation = ctx.task, ctx.data.train, ctx.data.validation
    has = set()
    if train.groups and bool((train.group >= 0).any()):
        has.add("groups")
    if any(train.column("attribute")):
        has.add("environments")
    if validation is not None:
        has.add("validation")
        if validation.groups and bool((validation.group >= 0).any()):
            has.add("validation_groups")
    inference = ctx.plan.group_inference
    if inference is not None and not missing_needs(inference.cls, has):
        has |= {"groups", "environments"}
    if task.bias_features is not None:
        has.add("bias_features")
    if task.counterfactual is not None:
        has.add("counterfactual")
    if task.modality == "text" and len(task.inputs) > 1:
        has.add("text_pair")
    bias_model = ctx.plan.bias_model
    if bias_model is not None and not missing_needs(bias_model.cls, has):
        has.add("bias_model")
    return has


def check_shared(ctx: RunContext) -> None:
    """Refuse a model selection, bias model or group inference that this task cannot have."""
    has, where = available(ctx), f"task {ctx.task.task}"
    roles = ctx.plan.roles.values()
    classes: set[type[Configured]] = {role.method.cls for role in roles}
    classes |= {role.distillation.distiller.cls for role in roles if role.distillation}
    chosen: dict[str, Component[Any]] = {}
    if ctx.plan.group_inference is not None:
        chosen["group_inference"] = ctx.plan.group_inference
    if any("bias_model" in cls.needs for cls in classes):
        if ctx.plan.bias_model is None:
            ctx.plugins["bias_model"].offer(ctx.settings.bias_model)  # says what there is
        else:
            chosen["bias_model"] = ctx.plan.bias_model
    for kind, component in chosen.items():
        if missing := missing_needs(component.cls, has):
            raise HarnessError(
                f"{where}: {kind} {component.name} needs {' and '.join(missing)}, which "
                f"{data_of(ctx)}."
            )
    for role in roles:
        if role.distillation is None or role.distillation.ce_weight:
            continue
        if role.method.cls.has_trainable_modules:
            name = role.method.name
            raise HarnessError(
                f"{where}: {role.name} has ce_weight 0, and method {name} trains modules of its "
                f"own with the label term: give it a weight, or students.{role.name}.method=erm."
            )
    select = ctx.plan.select
    needed = SELECTS_ON.get(select)
    if needed and needed not in has:
        raise HarnessError(
            f"{where}: --select {select} needs {NEEDS[needed]}, which {data_of(ctx)}."
        )
    environments = ctx.plan.selection_environments
    if environments is not None and "validation_groups" in environments.cls.needs:
        raise HarnessError(
            f"{where}: --select {select} is for validation rows without groups, and "
            f"group_inference {environments.name} needs theirs: name another, or --select "
            f"worst_group."
        )


def check_method(ctx: RunContext, role: ResolvedRole) -> None:
    """Refuse a method whose needs or model this task does not meet."""
    has, method = available(ctx), role.method
    where = f"task {ctx.task.task}: method {method.name}"
    if reasons := missing_of_method(ctx, method.cls, has):
        works = [
            name
            for name, cls in ctx.plugins["method"].subclasses(Method).items()
            if not missing_of_method(ctx, cls, has)
        ]
        raise HarnessError(
            f"{where} needs {' and '.join(reasons)}, which {data_of(ctx)}. "
            f"Methods that work: {', '.join(works)}."
        )
    model_type = checkpoints.model_type(role.model, ctx.config.trust_remote_code)
    if refusal := method.cls.refusal(ctx.task.modality, model_type):
        raise HarnessError(f"{where} cannot train {role.settings.model}: {refusal}.")


def missing_of_method(ctx: RunContext, cls: type[Method], has: Iterable[str]) -> list[str]:
    """Unsatisfied needs of a method and of the one that trains its base, in words."""
    base = [ctx.plugins["method"].offer(cls.base).subclass(Method)] if cls.base else []
    return [word for each in (cls, *base) for word in missing_needs(each, set(has))]


def check_student(ctx: RunContext, role: ResolvedRole) -> None:
    """Refuse a distiller whose needs, options or labels this task and student do not meet.

    And one that cannot compare the student's layers with its teacher's.
    """
    distillation = role.distillation
    if distillation is None:
        return
    cls, options, has = distillation.distiller.cls, distillation.distiller.options, available(ctx)
    where = f"task {ctx.task.task}: {role.name}: distiller {distillation.distiller.name}"
    if missing := missing_needs(cls, has):
        every = ctx.plugins["distiller"].subclasses(Distiller)
        works = [name for name, other in every.items() if other.needs <= has]
        raise HarnessError(
            f"{where} needs {' and '.join(missing)}, which {data_of(ctx)}. "
            f"Distillers that work: {', '.join(works)}."
        )
    if refusal := cls.refusal(options, distillation.ce_weight, len(ctx.data.train.labels)):
        raise HarnessError(f"{where} {refusal}.")
    teacher = ctx.plan.roles[distillation.teachers[0]]
    if distillation.from_teacher != "none":
        trust = ctx.config.trust_remote_code
        ours, theirs = (checkpoints.model_type(each.model, trust) for each in (role, teacher))
        check_families(ours, theirs, distillation.from_teacher)
    if cls.teacher_outputs != {"logits"} and distillation.combine == "extrapolate":
        raise HarnessError(
            f"{where} learns from what is inside a teacher, which combine=extrapolate does not "
            f"change: take a distiller on logits, or another combine."
        )
    if cls.teacher_outputs != {"logits"} and len(distillation.teachers) > 1:
        raise HarnessError(
            f"{where} learns from what is inside one teacher, and {len(distillation.teachers)} are "
            f"named: name one, or take a distiller on logits."
        )
    if distillation.biased_teacher in distillation.teachers:
        raise HarnessError(
            f"{where}: biased_teacher {distillation.biased_teacher} is one of the teachers; "
            f"combine={distillation.combine} leads away from it: name another."
        )
    if "layers" in cls.teacher_outputs:
        shapes = shape_of(ctx, role), shape_of(ctx, teacher)
        reason = cls.mismatch(options, *shapes) or other_inputs(ctx, role, teacher)
        if reason:
            raise HarnessError(f"{where} cannot compare {role.name} with {teacher.name}: {reason}.")
    if cls.weighs_examples and role.method.cls.weighs_examples:
        raise HarnessError(
            f"{where} weighs groups itself, and so does method {role.method.name}: they would "
            f"count twice. Set students.{role.name}.method=erm."
        )
    if (
        distillation.rounds > 1
        and distillation.equal_budget
        and role.args.epochs < distillation.rounds
    ):
        raise HarnessError(
            f"{where}: {distillation.rounds} rounds share {role.args.epochs:g} epochs, which is "
            "less than one each: give the student more epochs, or set equal_budget=false."
        )


CALIBRATED_BY = {"balanced": "groups", "conflicting": "environments"}
"""Column that training rows must have to be calibration rows of a kind."""


def check_compressors(ctx: RunContext, role: ResolvedRole) -> None:
    """Refuse compressors that this model, these rows or this device do not allow."""
    answering, has = [], available(ctx)
    for each in role.compressors:
        where = f"task {ctx.task.task}: {role.name}: compressor {each.name}"
        model_type = checkpoints.model_type(role.model, ctx.config.trust_remote_code)
        if refusal := each.cls.refusal(each.options, model_type):
            raise HarnessError(f"{where} {refusal}.")
        calibration = str(each.options["calibration"]) if each.cls.calibrated else ""
        need = CALIBRATED_BY.get(calibration)
        if need is not None and need not in has:
            raise HarnessError(
                f"{where}: {calibration} calibration rows need {NEEDS[need]}, which {data_of(ctx)}."
            )
        if each.cls.cpu_only and ctx.hardware.device != "cpu":
            raise HarnessError(f"{where} runs on the CPU alone: add --device cpu.")
        answering += [each.name] if each.cls.answers else []
    if len(answering) > 1:
        raise HarnessError(
            f"task {ctx.task.task}: {role.name}: {' and '.join(answering)} both answer in the "
            "model's place: name one."
        )


def check_learning(ctx: RunContext, role: ResolvedRole) -> None:
    """Refuse a role whose method or distiller, as it is configured, teaches nothing."""
    if not role.trained:
        return
    where, distillation = f"task {ctx.task.task}: {role.name}", role.distillation
    components: list[tuple[str, Component[Any]]] = []
    if distillation is None or distillation.ce_weight or role.method.cls.base:
        components.append(("method", role.method))
    if distillation is not None and distillation.kd_weight:
        components.append(("distiller", distillation.distiller))
    updates = updates_of_method(ctx, role)
    for kind, chosen in components:
        if reason := chosen.cls.cannot_learn(chosen.options, updates):
            raise HarnessError(f"{where}: {kind} {chosen.name} {reason}.")


def updates_of_method(ctx: RunContext, role: ResolvedRole) -> int:
    """Optimiser updates of one round of a role, those of plain ERM before the method left out."""
    distillation, share = role.distillation, 1.0
    if distillation is not None and distillation.equal_budget:
        share = 1 / distillation.rounds
    plain_student = distillation is not None and role.method.name == "erm"
    before = role.erm_epochs if role.method.cls.warm and not plain_student else 0.0
    args = replace(role.args, epochs=share * (role.args.epochs - before))
    return args.updates(len(ctx.data.train))


def shape_of(ctx: RunContext, role: ResolvedRole) -> Shape:
    """The measures of a role's model."""
    config = checkpoints.config_of(role.model, role.settings, ctx.config.trust_remote_code)
    if role.model.model_type:
        config = checkpoints.read_as(role.model, config)
    return Shape.of(config)


def other_inputs(ctx: RunContext, student: ResolvedRole, teacher: ResolvedRole) -> str:
    """Why the positions of two models do not correspond, "" when they do."""
    ours, theirs = (processor_of(ctx, role.model.checkpoint)[0] for role in (student, teacher))
    if processor_key(ours) != processor_key(theirs):
        what = "tokenizer" if ctx.task.modality == "text" else "image processor"
        return f"they do not have the same {what}, so that their positions do not correspond"
    if student.max_length != teacher.max_length:
        return (
            f"their texts are cut to {student.max_length} and "
            f"{teacher.max_length} tokens; give both the same max_length"
        )
    return ""


def answerable(ctx: RunContext, labels: dict[str, tuple[str, ...]]) -> TaskData:
    """The data without the sets that a checkpoint's labels do not fit, each with a note.

    `labels` are each role's, in logit order. Raises HarnessError where no set is left, for a set
    that `--sets` names, and for checkpoints of other labels, which are not compared.
    """
    refused: dict[str, HarnessError] = {}
    for role, names in labels.items():
        for split in ctx.data.evaluation:
            try:
                check_labels(split, ctx.task.task, role, names)
            except HarnessError as error:
                refused.setdefault(split.name, error)
    if refused and (ctx.config.sets or len(refused) == len(ctx.data.evaluation)):
        raise next(iter(refused.values()))
    sets = {role: frozenset(map(label_spelling, names)) for role, names in labels.items()}
    for role in sets:
        if sets[role] != sets["teacher"]:
            raise HarnessError(
                f"teacher predicts {', '.join(labels['teacher'])}, {role} "
                f"{', '.join(labels[role])}: models with different label sets are not compared."
            )
    return replace(
        ctx.data,
        splits={name: s for name, s in ctx.data.splits.items() if name not in refused},
        notes=(*ctx.data.notes, *(f"set {name} left out: {e}" for name, e in refused.items())),
    )
