"""Claims of a record, checked against the configuration that it comes with.

Numbers follow from predictions; how the models were trained, with how many seeds and with which
labels, does not. But all of it is said twice: in the resolved configuration, which a leaderboard
shows, and with every model. Where the two differ, where a model that the configuration trains is
missing, or where one training stands for several, the bundle does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from harness_plugin._version import DISTRIBUTION, EXTRA_OF
from harness_plugin.config.roles import Role, plan_of_roles, start_of
from harness_plugin.config.run_config import NAMED, RunConfig
from harness_plugin.config.settings import RoleSettings, TaskSettings
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.needs import needs_of
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions
from harness_plugin.scoring.files.transfer_record import Model, TransferRecord
from harness_plugin.store.files import strict
from harness_plugin_hooks.leaderboard.bundle import Problem, shown
from harness_plugin_hooks.leaderboard.differences import differences

BUDGET = ("epochs", "erm_epochs")
"""Settings that an equal budget shortens; `labels` are resolved from the data."""


def contradictions(record: TransferRecord, plugins: Plugins) -> Iterator[Problem]:
    """Every place where a record contradicts its configuration."""
    part = f"tasks/{record.task}/results.json"
    yield from of_the_run(record, part)
    if all(model.method == "predictions" for model in record.models):  # made elsewhere
        return
    trained = [model for model in record.models if model.supervision or model.updates]
    settings = record.config.get("settings")
    own = settings.get(record.task) if isinstance(settings, Mapping) else None
    updated = [model.name for model in record.models if model.updates]
    if record.config.get("eval_only"):
        if updated:
            actual = shown(f"true, with updates of {', '.join(updated)}")
            yield Problem(f"{part}, config.eval_only", "false for models that were trained", actual)
        return
    if not (trained or own):
        return
    if not isinstance(own, Mapping):
        yield Problem(f"{part}, config.settings", f"the settings of task {record.task}", "none")
        return
    try:
        config = RunConfig.model_validate(record.config)
        chosen = TaskSettings.model_validate(own)
        roles = plan_of_roles(chosen)
    except (ValidationError, HarnessError) as error:
        problem = " ".join(str(error).split())
        yield Problem(f"{part}, config", "the configuration of a run", shown(problem))
        return
    # every setting is there: what is left out would be read as its default
    for stated, whole, where in (
        (record.config, config, "config"),
        (own, chosen, f"config.settings.{record.task}"),
    ):
        resolved = strict(whole.model_dump(mode="json"))
        yield from differences(resolved, strict(dict(stated)), f"{part}, {where}")
    yield from left_out(record.environment, part)
    yield from of_the_models(record, roles, part)
    for model in record.models:
        if (role := roles.get(model.role)) is not None:
            where = f"{part}, models[{shown(model.name)}]"
            yield from of_a_model(model, role, chosen, plugins, where)


def of_the_run(record: TransferRecord, part: str) -> Iterator[Problem]:
    """Machine, data, sets, seeds, rule of verdicts, limit, collapse rule."""
    config = record.config
    if (data := config.get("data")) is not None:
        source = data if data in NAMED else "path"
        if record.source != source:
            actual = shown(str(data))
            yield Problem(f"{part}, config.data", f"the source, {record.source}", actual)
    scored = sorted(known.name for known in record.sets)
    if (sets := config.get("sets")) and sorted(map(str, sets)) != scored:
        yield Problem(f"{part}, config.sets", shown(str(scored)), shown(str(sets)))
    yield from of_the_machine(record, part)
    if "seeds" in config and sorted(record.seeds) != sorted(config["seeds"]):
        yield Problem(
            f"{part}, seeds", f"those of the config, {config['seeds']}", str(record.seeds)
        )
    for name, value in record.rule.model_dump(mode="json").items():
        if name in config and strict(config[name]) != strict(value):
            stated = shown(json.dumps(strict(value)))
            yield Problem(f"{part}, rule.{name}", shown(json.dumps(strict(config[name]))), stated)
    limit = config.get("limit")
    noted = [note for note in record.notes if note.startswith("limited to ")]
    expected = [] if limit is None else [f"limited to {limit} rows a split"]
    if noted != expected:
        yield Problem(f"{part}, notes", shown(f"{expected} of limit {limit}"), shown(str(noted)))
    for known in record.sets:
        if isinstance(limit, int) and known.rows > limit:
            yield Problem(f"{part}, sets", f"at most {limit} rows, the limit", f"{known.rows}")
    rules = {known.collapse_rule for known in record.sets if known.collapse is not None}
    rules = rules or {known.collapse_rule for known in record.sets}
    if rules and record.collapse_rule not in rules:
        yield Problem(f"{part}, collapse_rule", " or ".join(rules), shown(record.collapse_rule))


def left_out(environment: Mapping[str, Any], part: str) -> Iterator[Problem]:
    """A run's statements on its machine: this software's version, and what it computed with."""
    required = {
        **dict.fromkeys(("versions", "python", "platform", "cpu", "gpu", "choices"), environment),
        f"versions.{DISTRIBUTION}": environment.get("versions"),
    }
    for name, place in required.items():
        key = name.removeprefix("versions.")
        if not isinstance(place, Mapping) or key not in place or place[key] in ({}, ""):
            yield Problem(f"{part}, environment.{name}", "what every run says", "none")


def of_the_machine(record: TransferRecord, part: str) -> Iterator[Problem]:
    """One version of this software; what a run was asked to compute with is what it used."""
    versions, version = record.environment.get("versions"), record.harness_plugin_version
    if isinstance(versions, Mapping) and versions.get(DISTRIBUTION, version) != version:
        there = shown(str(versions[DISTRIBUTION]))
        yield Problem(f"{part}, environment.versions.{DISTRIBUTION}", shown(version), there)
    choices = record.environment.get("choices")
    for modality, choice in choices.items() if isinstance(choices, Mapping) else ():
        if not isinstance(choice, Mapping):
            place = f"{part}, environment.choices.{shown(modality)}"
            yield Problem(place, "device, precision and attention", shown(json.dumps(choice)))
            continue
        for name in ("device", "precision", "attention"):
            setting, used = record.config.get(name), choice.get(name)
            if setting not in (None, "auto", used):
                yield Problem(f"{part}, config.{name}", shown(str(used)), shown(str(setting)))


def of_the_models(
    record: TransferRecord, roles: Mapping[str, Role], part: str
) -> Iterator[Problem]:
    """Every role of the configuration is there with every seed, and no other."""
    expected = {(role, seed) for role in roles for seed in record.seeds}
    present = {(model.role, model.seed) for model in record.models}
    for role, seed in sorted(expected - present):
        yield Problem(f"{part}, models", f"{role} seed {seed}, which the config trains", "none")
    for role, seed in sorted(present - expected):
        yield Problem(f"{part}, models", "roles of the config", shown(f"{role} seed {seed}"))


def of_a_model(
    model: Model, role: Role, chosen: TaskSettings, plugins: Plugins, where: str
) -> Iterator[Problem]:
    """Kind, method, settings, distillation and supervision of one model."""
    distilled = role.distillation
    shortened = role.augmentations or (distilled is not None and distilled.rounds > 1)
    expected: dict[str, Any] = {
        name: value
        for name, value in role.settings.model_dump(mode="json").items()
        if name != "labels" and not (shortened and name in BUDGET)
    }
    learned = None if role.kind.from_labels else distilled
    if learned is not None:
        expected["distillation"] = learned.model_dump(mode="json")
    recorded = {name: model.settings.get(name) for name in RoleSettings.model_fields
        if name in expected}  # fmt: skip
    if recorded["model"] == expected["model"]:  # said twice
        recorded["model"] = model.model
    if learned is not None:
        recorded["distillation"] = model.settings.get("distillation")
    own: dict[str, Any] = {"kind": model.kind, "method": model.method, "start": model.start}
    own["augmented_rows"] = list(model.settings.get("augmented_rows", {}))
    stated: dict[str, Any] = {"kind": role.kind.value, "method": role.method, "start": ""}
    stated["augmented_rows"] = list(role.augmentations)
    if distilled is not None:
        first, smaller = distilled.teachers[0], bool(distilled.compress)
        stated["start"] = start_of(distilled.from_teacher, first, compressed=smaller)
    try:
        stated["supervision"] = supervision_of(role, chosen, plugins)
        own["supervision"] = model.supervision.model_dump() if model.supervision else None
    except ModuleNotFoundError as error:  # its package says it in its class alone, beside torch
        if error.name not in EXTRA_OF:
            raise
    except HarnessError as error:
        yield Problem(where, "a method and a distillation that there are", shown(str(error)))
        return
    for name, value in {**expected, **stated}.items():
        other = {**recorded, **own}.get(name)
        if strict(value) != strict(other):
            texts = (shown(json.dumps(strict(each), sort_keys=True)) for each in (value, other))
            yield Problem(f"{where}.{name}", *texts)


def supervision_of(role: Role, chosen: TaskSettings, plugins: Plugins) -> dict[str, Any]:
    """Which labels the settings train and choose a role with (`checks.supervision_of`)."""
    named = [("method", role.method), *(("augmentation", name) for name in role.augmentations)]
    if role.distillation is not None:
        named.append(("distiller", role.distillation.distiller))
    needs = {need for kind, name in named for need in needs_of(plugins[kind].offer(name))}
    wants = bool(needs & {"groups", "environments"})
    inferred = wants and chosen.group_inference != "none"
    held = {"validation_groups"} & needs
    if inferred:
        inference = plugins["group_inference"].offer(chosen.group_inference)
        held |= {"validation_groups"} & needs_of(inference)
    return {
        "train_groups": wants and not inferred,
        "validation_groups": bool(held) or chosen.select == "worst_group",
        "group_inference": chosen.group_inference if inferred else None,
        "bias_model": chosen.bias_model if "bias_model" in needs else None,
        "select": chosen.select,
    }


def clones(
    record: TransferRecord,
    predictions: Sequence[Predictions],
    weights: Mapping[tuple[str, int], frozenset[str]],
) -> Iterator[Problem]:
    """Seeds of one role that are one training: the same weights, or the same answers everywhere.

    `weights`: SHA-256 of the weight files, or of files of answers, by role and seed.
    """
    answers: dict[tuple[str, int], list[bytes]] = {}
    for p in sorted(predictions, key=lambda p: p.split):
        answers.setdefault((p.role, p.seed), []).append(p.logits.tobytes())
    for what, content in (("weights", weights), ("answers", answers)):
        seen: dict[tuple[str, Any], int] = {}
        for (role, seed), value in sorted(content.items()):
            key = (role, value if isinstance(value, frozenset) else tuple(value))
            if value and key in seen:
                first = f"{role} seed {seen[key]}"
                yield Problem(
                    f"tasks/{record.task}/results.json, seeds",
                    "a training of its own for every seed",
                    shown(f"the {what} of {first} again as seed {seed}"),
                )
            seen.setdefault(key, seed)
