"""Several teachers, chains of them, rounds of one student: plans and trainings."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stepwise import Distillation

from harness_plugin import HarnessError
from harness_plugin.config.roles import plan_of_roles
from harness_plugin.config.settings import StudentSettings, TeacherSettings
from harness_plugin.models.processors import train_tokenizer
from harness_plugin.training.trainer import TrainingSpec

# ---- the plan


def planned(ctx, teachers=None, **students):
    settings = ctx.settings.model_copy(
        update={
            "teachers": {k: TeacherSettings(**v) for k, v in (teachers or {}).items()},
            "students": {k: StudentSettings(**v) for k, v in students.items()},
        }
    )
    return plan_of_roles(settings)


def test_teachers_come_before_those_that_learn_from_them(open_context):
    ctx = open_context()
    roles = planned(
        ctx,
        {"teacher_b": {"distillation": StudentSettings(teachers=("student_last",))}},
        student={"teachers": ("teacher", "teacher_b")},
        student_last={"teachers": ("control",)},
    )
    order = ["teacher", "erm_teacher", "control", "student_last", "teacher_b", "student"]
    assert list(roles) == [*order, "erm_student"]
    with pytest.raises(HarnessError, match="student <- student_b <- student"):
        planned(ctx, student={"teachers": ("student_b",)}, student_b={"teachers": ("student",)})
    with pytest.raises(HarnessError, match="teacher of student 'teacher_x'"):
        planned(ctx, student={"teachers": ("teacher_x",)})


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["teachers.other={}"], "a teacher's name begins with 'teacher_'"),
        (["teachers.teacher_b.changes.epoch=3"], "epoch"),
        (["students.student.teachers=[teacher, teacher]"], "a teacher is named twice"),
        (
            ["students.student={combine: agre, teachers: [teacher, erm_teacher]}"],
            "biased_teacher erm_teacher is one of the teachers",
        ),
        (
            ["students.student={combine: extrapolate, biased_teacher: teacher}"],
            "combine=extrapolate leads away from it: name another",
        ),
        (
            ["students.student={combine: extrapolate, distiller: hints}"],
            "learns from what is inside a teacher, which combine=extrapolate does not change",
        ),
        (["students.student={combine: extrapolate}", "references=false"], "erm_teacher"),
        (["students.student.rounds=3"], "3 rounds share 2 epochs"),
        (["students.student={combine: agre}", "references=false"], "erm_teacher"),
    ],
)
def test_plans_that_cannot_be_are_refused_before_any_training(open_context, sets, message):
    with pytest.raises(HarnessError) as caught:
        open_context(*sets)
    assert message in str(caught.value)


# ---- trainings


def weights(model):
    return load_file(model.path / "model.safetensors")


def same(a, b, tolerance=0.0):
    return all(torch.allclose(a[key], b[key], atol=tolerance, rtol=0) for key in a)


QUICK = ("teacher.epochs=0.5", "student.epochs=1", "references=false", "control=false")


def test_further_teachers_are_others_and_an_assistant_stands_between(open_context):
    ctx = open_context(
        *QUICK,
        "method=erm",
        "teachers.teacher_b={}",
        "teachers.teacher_ta={changes: {config: {num_hidden_layers: 1}}, "
        "distillation: {ce_weight: 0, kd_weight: 1}}",
        "students.student.teachers=[teacher, teacher_b]",
        "students.student_ta.teachers=[teacher_ta]",
    )
    models = ctx.models(0)
    assert not same(weights(models["teacher"]), weights(models["teacher_b"]))
    assistant = models["teacher_ta"].settings
    assert assistant["distillation"]["teachers"] == ("teacher",)
    assert len([k for k in weights(models["teacher_ta"]) if ".query.weight" in k]) == 1
    assert not same(weights(models["student"]), weights(models["student_ta"]))


@pytest.mark.parametrize("how", ["mean_prob", "mean_logit", "confidence", "agre"])
def test_a_teacher_twice_teaches_as_it_does_alone(open_context, how):
    ctx = open_context(*QUICK)
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    biased = ctx.trained("teacher", ctx.settings.teacher, "erm", 1)
    once, twice = (
        ctx.trained(
            "student",
            ctx.settings.student,
            "erm",
            0,
            Distillation(
                (teacher,) * many,
                StudentSettings(method="erm", combine=how, ce_weight=0.2, temperature=3.0),
                biased if how == "agre" and many > 1 else None,
            ),
        )
        for many in (1, 2)
    )
    assert once.path != twice.path
    assert same(weights(once), weights(twice), 1e-4)


def test_a_student_learns_from_an_extrapolated_teacher(open_context):
    """One teacher and the biased one are enough; at 0 it is plain distillation."""
    ctx = open_context(*QUICK)
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    biased = ctx.trained("teacher", ctx.settings.teacher, "erm", 1)

    def student(**how):
        settings = StudentSettings(method="erm", ce_weight=0, kd_weight=1, **how)
        avoided = biased if how else None
        result = Distillation((teacher,), settings, avoided)
        return weights(ctx.trained("student", ctx.settings.student, "erm", 0, result))

    plain = student()
    assert same(plain, student(combine="extrapolate", extrapolation=0.0), 1e-6)
    assert not same(plain, student(combine="extrapolate", extrapolation=1.0), 1e-4)


def test_teachers_of_different_tokenizers(open_context, tmp_path):
    ctx = open_context(*QUICK)
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 1)
    foreign = tmp_path / "foreign"
    shutil.copytree(model.path, foreign)
    train_tokenizer(["the words here " * 3], 300, foreign)
    ctx = open_context(
        *QUICK,
        f"teachers.teacher_b.changes={{model: {foreign}, epochs: 0}}",
        "students.student.teachers=[teacher, teacher_b]",
    )
    models = ctx.models(0)
    distillation = Distillation(
        (models["teacher"], models["teacher_b"]), ctx.settings.students["student"]
    )
    first, second = (np.load(s.path / "logits.npy") for s in ctx.outputs(distillation))
    assert first.shape == second.shape
    assert not np.allclose(first, second)
    assert models["student"].settings["distillation"]["teachers"] == ("teacher", "teacher_b")


@pytest.mark.parametrize("between", ["teaches", "initialises", "both"])
def test_rounds_share_the_budget_and_build_on_each_other(open_context, between):
    ctx = open_context(*QUICK, "student.epochs=4")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)

    def student(**settings):
        distillation = Distillation((teacher,), StudentSettings(method="erm", **settings))
        return ctx.trained("student", ctx.settings.student, "erm", 0, distillation)

    once = student()
    rounds = student(rounds=2, between_rounds=between)
    assert rounds.updates == once.updates
    assert len(rounds.settings["rounds"]) == 2
    first, second = (
        json.loads((ctx.store.root / f"model-{key}" / "stage.json").read_text())["spec"]
        for key in rounds.settings["rounds"]
    )
    assert first["distillation"]["round"] == 0
    assert second["distillation"]["round"] == 1
    taught = first["distillation"]["outputs"] != second["distillation"]["outputs"]
    assert taught == (between != "initialises")
    assert (second["start"] == rounds.settings["rounds"][0]) == (between != "teaches")
    longer = student(rounds=2, between_rounds=between, equal_budget=False)
    assert longer.updates == 2 * once.updates


def test_a_chain_continues_where_it_was_interrupted(open_context, monkeypatch):
    from harness_plugin.training import loop

    result = []
    for store in ("whole", "cut"):
        ctx = open_context(*QUICK, "student.epochs=3", store=store)
        teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
        distillation = Distillation((teacher,), StudentSettings(method="erm", rounds=3))
        ask = ("student", ctx.settings.student, "erm", 0, distillation)
        if store == "cut":
            real, seen = loop.one_update, []

            def stop(*args, real=real, seen=seen):
                seen.append(1)
                if len(seen) == 20:  # of 15 a round
                    raise KeyboardInterrupt
                return real(*args)

            monkeypatch.setattr(loop, "one_update", stop)
            with pytest.raises(KeyboardInterrupt):
                ctx.trained(*ask)
            monkeypatch.setattr(loop, "one_update", real)
            built = []
            run = type(ctx.store).run

            def note(self, kind, spec, build, built=built, run=run):
                stage = run(self, kind, spec, build)
                if kind == "model" and not stage.reused:
                    built.append(spec["distillation"]["round"])
                return stage

            monkeypatch.setattr(type(ctx.store), "run", note)
        result.append(weights(ctx.trained(*ask)))
    assert built == [1, 2]  # the first round was whole
    assert same(*result)


def test_a_training_on_some_rows_hears_the_teacher_of_those_rows(open_context):
    """AFR trains on 80% of the rows: its row 7 is another row of the whole set."""
    ctx = open_context("teacher.epochs=3", "student.epochs=8")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    settings = StudentSettings(method="erm", ce_weight=0.0, kd_weight=1.0)
    place = ctx.trainer("student", ctx.settings.student, 0, Distillation((teacher,), settings))
    split = ctx.data.train
    rows = np.arange(len(split))[::-1][: len(split) * 4 // 5].copy()
    stage = place.fit(TrainingSpec("erm", rows=rows, distilled=True))
    theirs = ctx.predictions(teacher, split).predicted
    assert (place.predict(stage).logits.argmax(axis=1) == theirs).mean() > 0.9


@pytest.mark.parametrize("method", ["dfr", "afr", "self"])
def test_the_last_layer_is_refitted_after_distillation(open_context, method):
    ctx = open_context(*QUICK, "validation_fraction=0.3", f"students.student.method={method}")
    models = ctx.models(0)
    student = models["student"]
    assert student.method == method
    assert student.settings["distillation"]["kd_weight"] == 0.5


def test_stored_answers_are_asked_anew_after_every_change_that_matters(open_context):
    """Weights, data, preprocessing, the adapted rows; and not after one that does not matter."""
    ctx = open_context(*QUICK)
    settings = ctx.settings.students["student"]
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)

    def key(ctx, model):
        (stage,) = ctx.outputs(Distillation((model,), settings))
        return stage.key, stage.reused

    first, reused = key(ctx, teacher)
    assert not reused
    assert key(ctx, teacher) == (first, True)
    assert key(open_context(*QUICK, "student.learning_rate=0.01"), teacher) == (first, True)
    other_weights = ctx.trained("teacher", ctx.settings.teacher, "erm", 1)
    shorter = replace(teacher, max_length=8)
    result = [
        key(ctx, other_weights)[0],
        key(open_context(*QUICK, "toy.rows=200"), teacher)[0],
        key(ctx, shorter)[0],
    ]
    more = StudentSettings(augmentations={"negation": {}})
    larger, _ = ctx.joined(Distillation((teacher,), more))
    splits = {**ctx.data.splits, ctx.data.train.name: larger}
    result.append(key(ctx.with_data(replace(ctx.data, splits=splits)), teacher)[0])
    assert len({first, *result}) == 5


@pytest.mark.parametrize("distiller", ["kd", "hints"])
@pytest.mark.parametrize(
    ("task", "sets"),
    [
        (None, ["teacher.model=t5-pico", "teacher.config={}"]),
        ("celeba_bias", ["teacher.model=vit-pico", "celeba_bias.n_train=96"]),
    ],
)
def test_a_student_of_another_architecture_hears_its_teacher(open_context, task, sets, distiller):
    """T5 teaches BERT, ViT teaches ResNet: what is heard is kept by row, not by token."""
    more = {} if task is None else {"task": task}
    ctx = open_context(*QUICK, *sets, **more)
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    settings = StudentSettings(method="erm", distiller=distiller)
    student, control = (
        ctx.trained(role, ctx.settings.student, "erm", 0, distillation)
        for role, distillation in (
            ("student", Distillation((teacher,), settings)),
            ("control", None),
        )
    )
    assert not same(weights(student), weights(control))
