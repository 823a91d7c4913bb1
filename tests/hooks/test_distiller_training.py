"""Students that learn by every distiller: what is refused, trained, continued and shared."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from stepwise import Distillation

from harness_plugin import HarnessError
from harness_plugin.config.settings import StudentSettings
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.network import last_layer
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_hooks.methods.bias.inference import EIIL

PLUGINS = load_plugins()
NAMES = [offer.name for offer in PLUGINS["distiller"]]


def refused(open_context, sets=(), **student):
    ctx = open_context(*sets)
    with pytest.raises(HarnessError) as error:
        ctx.check_student(StudentSettings(**student))
    return str(error.value)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"distiller": "dkd"}, "alpha x kd with two labels"),
        ({"distiller": "dist"}, "set distiller_options={inter: 0}"),
        ({"distiller": "logit_standardisation"}, "-.707 and .707 with two labels"),
        ({"distiller": "simkd"}, "set ce_weight=0"),
        ({"distiller": "group_dro_kd"}, "students.student.method=erm"),
        ({"distiller": "hints", "distiller_options": {"wait": 1}}, "unknown option of Hints"),
        ({"distiller": "hints", "distiller_options": {"weight": "big"}}, "must be a float"),
        ({"distiller": "hint"}, "Did you mean hints"),
        ({"distiller": "hints", "distiller_options": {"weight": 0, "logits": 0}}, "weigh 0, 0 by"),
        ({"distiller": "hints", "distiller_options": {"weight": -1}}, "weigh -1, 1 by"),
        ({"distiller": "rkd", "distiller_options": {"weight": 0, "logits": 0}}, "weigh 0, 0, 0 by"),
        (
            {"distiller": "rkd", "distiller_options": {"distance": 0, "angle": 0, "logits": 0}},
            "learns nothing, or the opposite",
        ),
        (
            {"distiller": "tinybert", "distiller_options": {"weight": 0, "logits": 0}},
            "weigh 0, 0, 0 by its distiller_options",
        ),
        ({"distiller": "dist", "distiller_options": {"inter": 0, "intra": 0}}, "weigh 0, 0 by"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(open_context, student, message):
    assert message in refused(open_context, method="group_dro", **student)


def test_missing_groups_are_named_with_what_works(open_context):
    message = refused(open_context, ["toy.annotated=false", "method=erm"], distiller="group_dro_kd")
    assert "needs group labels on the training rows" in message
    assert "Distillers that work: " in message
    assert "kd" in message.rpartition("Distillers that work: ")[2]


def test_a_student_of_two_weights_of_0_is_refused(open_context):
    with pytest.raises(ValueError, match="both 0: the student would learn nothing"):
        StudentSettings(ce_weight=0, kd_weight=0)
    with pytest.raises(HarnessError, match="both 0: the student would learn nothing"):
        open_context("students.student.ce_weight=0", "students.student.kd_weight=0")


@pytest.mark.parametrize("name", NAMES)
def test_default_weights_leave_something_to_learn(name):
    cls = PLUGINS["distiller"].offer(name).load()
    weights = cls.term_weights(cls.resolved({}))
    assert min(weights) >= 0
    assert any(weights)


def test_an_intra_term_alone_serves_two_labels(open_context):
    student = StudentSettings(distiller="dist", distiller_options={"inter": 0})
    ctx = open_context()
    ctx.check_student(student)


FACES = ["celeba_bias.n_train=96", "celeba_bias.n_test=800"]
TOY_SETS = {"dist": {"inter": 0}}
PURE = ("simkd",)


def distilled(ctx, name, method="erm", seed=0, **more):
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", seed)
    student = {"distiller": name, "distiller_options": TOY_SETS.get(name, {}), **more}
    student["ce_weight"] = 0.0 if name in PURE else 0.5
    settings = StudentSettings(method=method, **student)
    model = ctx.trained(
        "student", ctx.settings.student, method, seed, Distillation((teacher,), settings)
    )
    return teacher, model


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_every_distiller_trains(open_context, shared_store, name, modality):
    if name in ("dkd", "logit_standardisation"):
        pytest.skip("two labels: refused, tested on three labels by hand")
    sets = ["teacher.epochs=0.2", "student.epochs=0.2"] if modality == "text" else list(FACES)
    if modality == "image" and name in ("pkd", "tinybert", "minilm"):  # of transformers
        sets += [f"{role}.model=vit-pico" for role in ("teacher", "student")]
        sets += ["student.config={num_hidden_layers: 2}"]
    if (modality, name) == ("text", "pkd"):  # which compares layers below the last
        sets += ["student.config.num_hidden_layers=2"]
    sets += ["teacher.epochs=1", "student.epochs=1"] if modality == "image" else []
    task = {} if modality == "text" else {"task": "celeba_bias"}
    ctx = open_context(*sets, store=shared_store, **task)
    _, model = distilled(ctx, name)
    record = json.loads((model.path / "stage.json").read_text())
    assert all(math.isfinite(loss) for _, loss in record["loss"])
    control = ctx.trained("control", ctx.settings.student, "erm", 0)
    mine, theirs = (load_file(m.path / "model.safetensors") for m in (model, control))
    assert mine.keys() == theirs.keys()  # projectors are dropped
    assert any(not torch.equal(mine[key], theirs[key]) for key in mine)


def test_widths_may_differ_and_projectors_learn(open_context, shared_store):
    sets = ["student.config.hidden_size=16", "student.config.num_attention_heads=2"]
    ctx = open_context(*sets, store=shared_store)
    teacher, model = distilled(ctx, "hints", distiller_options={"weight": 1.0})
    wide, narrow = (
        last_layer(load_trained(str(m.path), "text", attention="eager")) for m in (teacher, model)
    )
    assert wide.in_features != narrow.in_features == 16
    record = json.loads((model.path / "stage.json").read_text())
    assert record["loss"][-1][1] > 0


def test_simkd_follows_its_teacher_without_labels(open_context, shared_store):
    ctx = open_context("teacher.epochs=4", "student.epochs=8", store=shared_store)
    teacher, model = distilled(ctx, "simkd", kd_weight=1.0)
    split = ctx.data.train
    theirs, mine = (ctx.predictions(m, split).predicted for m in (teacher, model))
    assert (theirs == mine).mean() > 0.9


@pytest.mark.parametrize("name", ["hints", "group_dro_kd", "simkd", "subspace", "subspace_layers"])
def test_an_interrupted_distillation_continues_to_the_same_bytes(
    open_context, shared_store, monkeypatch, name
):
    from harness_plugin.training import loop

    weights = []
    for store in ("whole", "cut"):
        ctx = open_context("student.epochs=1", store=shared_store / store, checkpoint_steps=4)
        if store == "cut":
            teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
            assert teacher.path.is_dir()
            real = loop.one_update
            seen = []

            def stop(*args, real=real, seen=seen):
                seen.append(1)
                if len(seen) == 11:
                    raise KeyboardInterrupt
                return real(*args)

            monkeypatch.setattr(loop, "one_update", stop)
            with pytest.raises(KeyboardInterrupt):
                distilled(ctx, name)
            monkeypatch.setattr(loop, "one_update", real)
        _, model = distilled(ctx, name)
        weights.append(load_file(model.path / "model.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_students_of_one_teacher_share_its_stored_answers(open_context):
    ctx = open_context("teacher.epochs=0.2", "student.epochs=0.1")
    for name in ("kd", "dist", "hints", "rkd"):
        distilled(ctx, name)
    stages = [path.name for path in ctx.store.root.iterdir() if path.is_dir()]
    train_rows = len(ctx.data.train)
    answers = [
        name
        for name in stages
        if name.startswith(("logits-", "features-"))
        and json.loads((ctx.store.root / name / "stage.json").read_text())["rows"] == train_rows
    ]
    assert sorted(name.partition("-")[0] for name in answers) == ["features", "logits"]


@pytest.mark.parametrize("method", [offer.name for offer in PLUGINS["method"]])
def test_features_are_those_of_the_logits_whatever_the_method(
    open_context, shared_store, monkeypatch, method
):
    monkeypatch.setattr(EIIL, "defaults", {"steps": 100, "learning_rate": 0.01})  # of EVaLS
    sets = ["student.epochs=0.1", "teacher.epochs=0.1", "validation_fraction=0.2"]
    ctx = open_context(*sets, store=shared_store)
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    settings = StudentSettings(method=method, distiller="hints")
    distillation = Distillation((teacher,), settings)
    model = ctx.trained("student", ctx.settings.student, method, 0, distillation)
    assert model.path.is_dir()
