"""Another setting is another key, for every field of every settings model.

Trainings and predictions are not made: a store that pretends to have built them gives the keys
that a run would look for. A new field must be listed here, as one that changes a key or as one
that does not, with the reason.
"""

import json

import pytest

from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import (
    ImageSettings,
    RoleSettings,
    StudentSettings,
    TaskSettings,
    TeacherSettings,
)
from harness_plugin.pipeline.roles.split_stages import scratch_processor
from harness_plugin.pipeline.run_task import train_models
from harness_plugin.store.stages import Stage, Store, key_of
from harness_plugin.training.inputs.encode import TOKENIZER_STATE, processor_key

IMAGES = {"task": "celeba_bias"}
SMALL = ("celeba_bias.n_train=200", "celeba_bias.n_test=200", "references=false", "control=false")

CHANGES = {
    RoleSettings: {
        "model": "student.model=bert-tiny",
        "config": "student.config={hidden_dropout_prob: 0.3}",
        "max_length": "student.max_length=12",
        "epochs": "student.epochs=5",
        "erm_epochs": "teacher.erm_epochs=1",
        "batch_size": "student.batch_size=8",
        "learning_rate": "student.learning_rate=0.003",
        "erm_learning_rate": ("teacher.erm_epochs=1", "teacher.erm_learning_rate=0.003"),
        "lr_warmup": "student.lr_warmup=0.3",
        "weight_decay": "student.weight_decay=0.2",
        "adam_beta2": "student.adam_beta2=0.9",
        "max_grad_norm": "student.max_grad_norm=0.5",
        "gradient_accumulation_steps": "student.gradient_accumulation_steps=2",
    },
    StudentSettings: {
        "method": "students.student.method=erm",
        "distiller": "students.student.distiller=hints",
        "distiller_options": (
            "students.student.distiller=hints",
            "students.student.distiller_options={weight: 3}",
        ),
        "from_teacher": "students.student.from_teacher=even",
        "augmentations": "students.student.augmentations={upsample: {}}",
        "compress": "students.student.compress={int8: {}}",
        "epochs": "students.student.epochs=5",
        "ce_weight": "students.student.ce_weight=0.25",
        "kd_weight": "students.student.kd_weight=0.75",
        "temperature": "students.student.temperature=3",
        "teachers": "students.student.teachers=[erm_teacher]",
        "combine": (
            "students.student.teachers=[teacher, erm_teacher]",
            "students.student.combine=mean_logit",
        ),
        "biased_teacher": (
            "teachers.teacher_b={}",
            "teachers.teacher_c={}",
            "students.student.teachers=[teacher, teacher_b]",
            "students.student.combine=agre",
            "students.student.biased_teacher=teacher_c",
        ),
        "extrapolation": (
            "students.student.combine=extrapolate",
            "students.student.extrapolation=0.25",
        ),
        "rounds": "students.student.rounds=2",
        "between_rounds": (
            "students.student.rounds=2",
            "students.student.between_rounds=both",
        ),
        "equal_budget": ("students.student.rounds=2", "students.student.equal_budget=false"),
    },
    TeacherSettings: {
        "method": ("teachers.teacher_b.method=erm", "students.student.teachers=[teacher_b]"),
        "changes": (
            "teachers.teacher_b.changes={epochs: 4}",
            "students.student.teachers=[teacher_b]",
        ),
        "distillation": (
            "teachers.teacher_b.distillation={teachers: [teacher]}",
            "students.student.teachers=[teacher_b]",
        ),
    },
    TaskSettings: {
        "method": "method=reweight",
        "method_options": "method_options.group_dro.eta=0.5",
        "augmentations": "augmentations={upsample: {}}",
        "select": ("validation_fraction=0.2", "select=average"),
        "validation_fraction": "validation_fraction=0.2",
        "teacher": "teacher.epochs=5",
        "student": "student.epochs=5",
        "teachers": ("teachers.teacher_b={}", "students.student.teachers=[teacher_b]"),
        "students": "students.student.temperature=3",
        "options": "toy.rows=200",
    },
    RunConfig: {
        "data_seed": "data_seed=1",
        "limit": "limit=100",
        "device": None,  # another device is not here to be tried: it is in `hardware_key`
        "precision": "precision=bf16",
        "attention": "attention=eager",
        "eval_batch_size": "eval_batch_size=16",
        "settings": "student.epochs=5",
    },
}
CHANGES_OF_IMAGES = {
    "size": "image.size=24",
    "center_crop": "image.center_crop=16",
    "mean": "image.mean=[0.4, 0.4, 0.4]",
    "std": "image.std=[0.3, 0.3, 0.3]",
}
HARMLESS = {
    RoleSettings: {
        "init": "decides whether a preset or its hub checkpoint is the model, which is in the key",
        "freeze_encoder": "tests/training/test_frozen_encoder.py: it takes a checkpoint",
        "labels": "names the classes of a checkpoint that is used as it is",
    },
    StudentSettings: {},
    TeacherSettings: {},
    TaskSettings: {
        "bias_model": "counts where a method needs one: its stage is in the training's key",
        "bias_model_options": "as bias_model",
        "group_inference": "its stage is in the training's key",
        "group_inference_options": "as group_inference",
        "control": "decides whether there is a control",
        "references": "decides whether there are ERM references",
        "validation_pool": "test_validation_pool.py: selection and last layers have the rows",
        "image": "below",
        "vocab_size": "below, with enough words",
    },
    RunConfig: {
        "tasks": "each task has its own data, whose fingerprint is in the key",
        "data": "the data's fingerprint is in the key",
        "seeds": "below",
        "eval_only": "trains nothing",
        "threads": "how fast; the order of sums may change the last digit, by intent",
        "workers": "where a training runs; each has the threads that its own number says",
        "compile": "how fast, by intent",
        "checkpoint_steps": "a continued training repeats the uninterrupted one bit for bit",
        "output_path": "where results go",
        "log_samples": "what is written",
        "outputs": "what is written",
        "use_cache": "where the store is",
        "include_path": "where tasks are read from",
        "log_with": "what is told to a tracker",
        "trust_remote_code": "a checkpoint's own code comes with its commit or folder",
        **dict.fromkeys(("margin", "min_seeds", "min_group"), "what verdicts are given by"),
        "resamples": "how scores are computed from predictions",
        "sets": "which sets are predicted; each has a key of its own",
        "analyze": "what is looked at afterwards",
    },
}


BEFORE = {}
"""The keys of settings that were asked for before."""


@pytest.fixture
def keys_of(open_context, monkeypatch):
    """The keys of all models that settings would train, by role."""

    def keys(*sets, seed=0, **where):
        known = (sets, seed, tuple(where.items()))
        if known in BEFORE:  # most settings change the same base
            return BEFORE[known]
        ctx = open_context(*sets, **where)
        processor = scratch_processor(ctx).path
        real = Store.run

        def pretend(self, kind, spec, build):
            if kind == "processor":
                return real(self, kind, spec, build)
            return Stage(key_of({"kind": kind, **spec}), processor, {}, reused=True)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "run", pretend)
            BEFORE[known] = {m.role: m.key for m in train_models(ctx, seed)}
        return BEFORE[known]

    return keys


CASES = [
    (model.__name__, field, (sets,) if isinstance(sets, str) else sets)
    for model, fields in CHANGES.items()
    for field, sets in fields.items()
    if sets is not None
]


@pytest.mark.parametrize(
    ("model", "field", "sets"), CASES, ids=[f"{model}.{field}" for model, field, _ in CASES]
)
def test_another_value_is_another_key(keys_of, model, field, sets):
    """All settings but the last are those that make the last one count."""
    before, after = keys_of(*sets[:-1]), keys_of(*sets)
    changed = [role for role in after if after[role] != before.get(role)]
    assert "student" in changed, f"{model}.{field}"


@pytest.mark.parametrize("field", CHANGES_OF_IMAGES)
def test_another_way_to_make_pixels_is_another_key_for_every_model(keys_of, field):
    """The crop was in no model's key: the uncropped model was served, and distilled."""
    before, after = keys_of(*SMALL, **IMAGES), keys_of(*SMALL, CHANGES_OF_IMAGES[field], **IMAGES)
    assert set(before) == {"teacher", "student", "student_ce"}
    assert not {role for role in before if before[role] == after[role]}


def test_another_vocabulary_is_another_key_for_every_model(keys_of):
    sets = ("hans.n_train=200", "hans.n_id=60", "hans.n_hans=60", "references=false")
    before, after = (keys_of(*sets, f"vocab_size={n}", task="hans") for n in (150, 200))
    assert not {role for role in before if before[role] == after[role]}


def test_another_seed_is_another_key(keys_of):
    one, other = keys_of(), keys_of(seed=1)
    assert not set(one.values()) & set(other.values())


def test_every_setting_is_listed():
    for model, harmless in HARMLESS.items():
        assert set(CHANGES[model]) | set(harmless) == set(model.model_fields), model.__name__
        assert all(harmless.values())
    assert set(CHANGES_OF_IMAGES) == set(ImageSettings.model_fields)


def test_everything_of_a_tokenizer_that_shapes_ids_is_in_its_key(open_context):
    """Two tokenizers that pad or truncate on other sides made one key."""
    ctx = open_context()
    tokenizer, _ = ctx.processor(ctx.settings.student)
    before = processor_key(tokenizer)
    tokenizer("one two three", truncation=True, max_length=4, padding="max_length")
    assert processor_key(tokenizer) == before  # what the last call left behind is not its nature
    others = {"padding_side": "left", "truncation_side": "left", "pad_token": "[UNK]"}
    others |= {"model_input_names": ["input_ids"]}
    for name, value in others.items():
        old = getattr(tokenizer, name)
        setattr(tokenizer, name, value)
        assert processor_key(tokenizer) != before, name
        setattr(tokenizer, name, old)
    assert processor_key(tokenizer) == before
    assert set(TOKENIZER_STATE) >= {"padding_side", "truncation_side", "pad_token_id"}


def test_everything_of_an_image_processor_is_in_its_key(open_context):
    ctx = open_context(*SMALL, **IMAGES)
    processor, _ = ctx.processor(ctx.settings.student)
    before = processor_key(processor)
    for name, value in {"image_mean": [0.1] * 3, "resample": 0, "do_normalize": False}.items():
        old = getattr(processor, name)
        setattr(processor, name, value)
        assert processor_key(processor) != before, name
        setattr(processor, name, old)
    assert processor_key(processor) == before


def test_a_spec_is_json_and_its_key_does_not_depend_on_the_order(open_context):
    ctx = open_context()
    for role in ctx.plan.roles.values():
        spec = role.spec()
        assert json.loads(json.dumps(spec)) == spec
        assert key_of(spec) == key_of(dict(reversed(spec.items())))
