"""Further training rows for students: what is made, who labels it, what it costs."""

import json

import numpy as np
import pytest
from PIL import Image
from stepwise import Distillation

from harness_plugin import HarnessError
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import StudentSettings
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task
from harness_plugin.pipeline.prepare.open_task import open_task
from harness_plugin.pipeline.roles.augment import additional, cells_of
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.training.inputs.pixels import as_rgb, read_images
from harness_plugin_hooks.augment.rows import Counterfactual, Pool, Upsample, moved
from harness_plugin_hooks.augment.texts import (
    Negation,
    OtherPremise,
    SwapArguments,
    negated,
    swap,
)
from harness_plugin_tasks.cmnist.colours import PALETTE

PLUGINS = load_plugins()
NAMES = [offer.name for offer in PLUGINS["augmentation"]]


def embedded(name, **options):
    task = find_task(name, PLUGINS["task"], ())
    return task, load_data(task, "embedded", options=options).train


def pixels(split):
    return np.stack(read_images(split.rows, "image", 0, len(split), as_rgb))


# ---- texts


@pytest.mark.parametrize(
    ("premise", "hypothesis", "expected"),
    [
        ("The judge saw the doctor .", "The judge saw the doctor .", "The doctor saw the judge ."),
        ("A doctor slept.", "Doctor of the judge", None),
        ("Doctors met the judge.", "Judge met doctors.", "Doctors met judge."),
        ("the the of", "the of the", None),
    ],
)
def test_two_shared_words_change_places(premise, hypothesis, expected):
    assert swap(premise, hypothesis) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The man is asleep.", "The man is not asleep."),
        ("The man is not asleep.", "The man is asleep."),
        ("Nobody Could NOT see it", "Nobody Could see it"),
        ("People ran.", "It is not true that people ran."),
        ("The notary is rich", "The notary is not rich"),
    ],
)
def test_one_negation_more_or_less(text, expected):
    assert negated(text) == expected


def test_a_negation_taken_away_is_put_back():
    text = "The artists were helped by the judge ."
    assert negated(negated(text)) == text


def test_other_premises_are_those_of_other_rows():
    first, second = [f"p{i}" for i in range(9)], [f"h{i}" for i in range(9)]
    changed = OtherPremise.change(first, second, np.random.default_rng(0))
    assert [pair[1] for pair in changed] == second
    assert sorted(pair[0] for pair in changed) == first
    assert all(pair[0][1:] != pair[1][1:] for pair in changed)
    assert OtherPremise.change(["p", "p"], ["a", "b"], np.random.default_rng(0)) == [None, None]


@pytest.mark.parametrize("kind", [SwapArguments, Negation, OtherPremise])
def test_pairs_are_new_rows_of_no_group_that_the_teacher_is_to_label(kind):
    task, train = embedded("hans", n_train=200)
    (made,) = kind.rows(task, train, kind.resolved({"share": 0.5}), seed=0)
    assert not kind.labelled({"share": 0.5})
    assert 0 < len(made) <= 100
    assert not set(made.ids) & set(train.ids)
    assert set(made.group.tolist()) == {-1}
    assert made.rows.features == train.rows.features
    (again,) = kind.rows(task, train, kind.resolved({"share": 0.5}), seed=0)
    assert again.fingerprint == made.fingerprint
    with pytest.raises(HarnessError, match=r"share must be in \(0, 1\], not 2"):
        kind.rows(task, train, kind.resolved({"share": 2}), seed=0)


# ---- rows


def test_upsampling_makes_groups_as_large_as_asked_for():
    task, train = embedded("celeba_bias", n_train=300, n_validation=40, n_test=40)
    largest = int(train.group_counts.max())
    for share in (0.5, 1.0):
        options = Upsample.resolved({"share": share})
        (made,) = Upsample.rows(task, train, options, seed=0)
        total = train.group_counts + made.group_counts
        assert total.tolist() == [max(int(n), round(share * largest)) for n in train.group_counts]
        assert len(set(made.ids)) == len(made)
    originals = {name: row for row, name in enumerate(train.ids.tolist())}
    source = [originals[name.rpartition("#")[0]] for name in made.ids.tolist()]
    assert made.label.tolist() == train.label[source].tolist()
    mine, theirs = pixels(made), pixels(train)[source]
    changed = (mine != theirs).any(axis=(1, 2, 3)).mean()
    assert 0.5 < changed < 1.0  # one of 25 moves is none
    assert mine.shape == theirs.shape


def test_a_picture_moves_with_its_edge_repeated():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert moved(image, 1, 0, False)[:, 0].tolist() == [image[0, 0].tolist()] * 2
    assert moved(image, 0, -1, False)[0].tolist() == [image[0, 1].tolist()] * 2
    assert moved(image, 0, 0, True).tolist() == image[:, ::-1].tolist()


def test_equal_groups_leave_nothing_to_upsample(open_context):
    ctx = open_context("toy.rows=64")
    train = ctx.data.train
    balanced = train.select(
        np.concatenate([np.flatnonzero(train.group == g)[:2] for g in range(len(train.groups))])
    )
    assert Upsample.rows(ctx.task, balanced, Upsample.resolved({}), seed=0) == []


@pytest.mark.parametrize("task_name", ["cmnist", "dominoes"])
def test_another_attribute_and_the_same_label(task_name):
    sizes = {"n_train": 200, "n_validation": 40, "n_test": 400}
    task, train = embedded(task_name, **sizes)
    (split,) = Counterfactual.rows(task, train, Counterfactual.resolved({"share": 0.5}), seed=0)
    assert len(split) == 100
    rows = [train.ids.tolist().index(name.removesuffix("#other")) for name in split.ids.tolist()]
    assert split.label.tolist() == train.label[rows].tolist()
    own = train.column("attribute")[rows]
    assert (split.column("attribute") != own).all()
    if task_name == "dominoes":
        assert (split.group >= 0).all()
        assert (pixels(split)[:, 32:] == pixels(train)[rows][:, 32:]).all()
        return
    bright = pixels(split).max(axis=(1, 2)).astype(int)
    expected = np.array([PALETTE[name] for name in split.column("attribute")])
    assert np.abs(bright - expected).max() <= 2  # strokes reach the full colour
    ink = pixels(train)[rows].max(axis=3) > 60
    assert ((pixels(split).max(axis=3) > 0)[ink]).all()


def test_recoloured_digits_of_the_binary_design_change_channels():
    task, train = embedded("cmnist", design="irm", n_train=60, n_validation=200, n_test=200)
    (made,) = Counterfactual.rows(task, train, Counterfactual.resolved({"share": 1.0}), seed=0)
    assert (pixels(made)[..., [1, 0, 2]] == pixels(train)).all()


# ---- files


def pool(tmp_path, text, name="pool.csv", **options):
    file = tmp_path / name
    file.write_text(text)
    task, train = embedded("hans", n_train=100)
    options = Pool.resolved({"file": str(file), **options})
    (made,) = Pool.rows(task, train, options, seed=0)
    return train, made


def test_a_file_with_labels_is_taken_at_its_word(tmp_path):
    text = "premise,hypothesis,gold\na man runs,a man moves,Entailment\nx,y,non-entailment\n"
    train, made = pool(tmp_path, text, label="gold")
    assert made.ids.tolist() == ["pool.csv:1", "pool.csv:2"]
    assert [train.labels[y] for y in made.label] == ["entailment", "non-entailment"]
    assert made.rows["hypothesis"] == ["a man moves", "y"]


def test_a_file_without_labels_is_a_pool(tmp_path):
    _, made = pool(tmp_path, "a\tb\nx y\tz\n", "p.tsv", columns={"premise": "a", "hypothesis": "b"})
    assert made.rows["premise"] == ["x y"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("premise,hypothesis,gold\na,b,maybe\n", {"label": "gold"}, "row 1: label 'maybe'"),
        ("premise,gold\na,b\n", {}, "hypothesis"),
        ("premise,hypothesis\n", {}, "holds no row"),
        ("premise,hypothesis\na,b\n", {"columns": {"premis": "a"}}, "premis"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, text, options, message):
    with pytest.raises(HarnessError) as caught:
        pool(tmp_path, text, **options)
    assert message in str(caught.value)


def test_images_of_a_pool_lie_beside_its_file(tmp_path):
    task, train = embedded("celeba_bias", n_train=60, n_validation=40, n_test=40)
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "pool.csv").write_text("image,male\na.png,male\n")
    values = {"file": str(tmp_path / "pool.csv"), "attribute": "male"}
    (made,) = Pool.rows(task, train, Pool.resolved(values), seed=0)
    assert (pixels(made) == 7).all()
    (tmp_path / "pool.csv").write_text("image\nb.png\n")
    with pytest.raises(HarnessError, match=r"row 1: no image .*b\.png"):
        Pool.rows(task, train, Pool.resolved({"file": values["file"]}), seed=0)
    with pytest.raises(HarnessError, match="pool needs a file"):
        Pool.rows(task, train, Pool.resolved({}), seed=0)


def test_groups_of_further_rows_follow_the_training_rows():
    _, train = embedded("celeba_bias", n_train=200, n_validation=40, n_test=40)
    attribute = train.column("attribute").tolist()[0]
    label = train.label[:1]
    split = additional(
        train,
        "more",
        inputs={"image": train.rows.select([0])["image"]},
        ids=["new"],
        label=label,
        attribute=[attribute],
    )
    assert split.group.tolist() == train.group[:1].tolist()
    assert split.aligned.tolist() == train.aligned[:1].tolist()
    assert len(cells_of(train)) == 4


# ---- trainings

QUICK = ("teacher.epochs=1", "student.epochs=1")


def heard(ctx, seed=0, **settings):
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", seed)
    return Distillation((teacher,), StudentSettings(method="erm", **settings))


@pytest.mark.parametrize("name", ["negation", "other_premise", "upsample"])
def test_a_student_learns_from_more_rows_at_the_same_cost(open_context, name):
    ctx = open_context(*QUICK)
    plain = ctx.trained("student", ctx.settings.student, "erm", 0, heard(ctx))
    more = heard(ctx, augmentations={name: {}})
    student = ctx.trained("student", ctx.settings.student, "erm", 0, more)
    added = student.settings["augmented_rows"][name]
    assert added > 0
    assert student.supervision["train_groups"] == (name == "upsample")
    assert abs(student.updates - plain.updates) <= 1
    spec = json.loads((student.path / "stage.json").read_text())["spec"]
    before = json.loads((plain.path / "stage.json").read_text())["spec"]
    one, other = ((m.path / "tokenizer.json").read_bytes() for m in (plain, student))
    assert one == other
    assert spec["split"] != before["split"]
    assert spec["distillation"]["outputs"] != before["distillation"]["outputs"]
    longer = heard(ctx, augmentations={name: {}}, equal_budget=False)
    longer = ctx.trained("student", ctx.settings.student, "erm", 0, longer)
    assert longer.updates > student.updates


def test_labels_of_unlabelled_rows_are_the_teachers_and_doubt_is_left_out(open_context):
    ctx = open_context("teacher.epochs=3")
    every, added = ctx.joined(heard(ctx, augmentations={"negation": {}}))
    rows = np.arange(len(ctx.data.train), len(every))
    assert len(rows) == added["negation"]
    own = every.select(rows)
    teacher = heard(ctx).teacher
    logits = np.load(ctx.logits(teacher, own).path / "logits.npy")
    assert own.label.tolist() == logits.argmax(axis=1).tolist()
    p = np.exp(logits - logits.max(1, keepdims=True))
    sure = (p / p.sum(1, keepdims=True)).max(axis=1)
    limit = float(np.median(sure))
    _, fewer = ctx.joined(heard(ctx, augmentations={"negation": {"confidence": limit}}))
    assert fewer["negation"] == int((sure >= limit).sum()) < added["negation"]
    with pytest.raises(HarnessError, match="negation adds no row"):
        ctx.joined(heard(ctx, augmentations={"negation": {"confidence": 1.1}}))


def test_augmentations_compose_with_each_other_rounds_and_methods(open_context):
    ctx = open_context(*QUICK, "student.epochs=3")
    more = {"augmentations": {"upsample": {}, "other_premise": {}, "negation": {}}, "rounds": 2}
    settings = StudentSettings(method="group_dro", **more)
    teacher = heard(ctx).teacher
    student = ctx.trained(
        "student", ctx.settings.student, "group_dro", 0, Distillation((teacher,), settings)
    )
    assert list(student.settings["augmented_rows"]) == list(more["augmentations"])
    assert len(student.settings["rounds"]) == 2


def test_rows_of_the_method_reach_those_who_learn_by_it_and_nobody_else(open_context):
    by_hand = {"method": "erm", "ce_weight": 1, "kd_weight": 0, "augmentations": {"upsample": {}}}
    students = {"student": {"method": "erm"}, "student_same": {}, "student_by_hand": by_hand}
    ctx = open_context(
        *QUICK, "method=erm", "augmentations={upsample: {}}", f"students={json.dumps(students)}"
    )
    models = ctx.models(seed=0)
    rows = {name: model.settings.get("augmented_rows") for name, model in models.items()}
    added = rows["teacher"]
    assert added["upsample"] > 0
    plain = dict.fromkeys(("erm_teacher", "erm_student", "student"))
    more = dict.fromkeys(("teacher", "control", "student_same", "student_by_hand"), added)
    assert rows == {**plain, **more}
    for name, model in models.items():
        assert abs(model.updates - models["erm_student"].updates) <= 1
        assert model.supervision["train_groups"] == (name in more)
    control, same = (models[name].path for name in ("control", "student_by_hand"))
    weights = [(path / "model.safetensors").read_bytes() for path in (control, same)]
    assert weights[0] == weights[1]


def test_rows_of_the_method_need_labels_or_a_teacher(open_context):
    with pytest.raises(HarnessError, match=r"teacher: augmentation negation .* no teacher to"):
        open_context(*QUICK, "augmentations={negation: {}}")
    open_context(*QUICK, "students={student: {augmentations: {negation: {}}}}")


@pytest.mark.parametrize(
    ("sets", "augmentations", "message"),
    [
        ([], {"upsampling": {}}, "augmentation 'upsampling'"),
        ([], {"upsample": {"shar": 1}}, "option of Upsample 'shar'"),
        (["toy.annotated=false"], {"upsample": {}}, "needs group labels"),
        ([], {"counterfactual": {}}, "needs a `counterfactual` of the task"),
    ],
)
def test_what_cannot_be_added_is_refused_before_any_training(
    open_context, sets, augmentations, message
):
    ctx = open_context(*sets, "method=erm")
    student = StudentSettings(augmentations=augmentations)
    with pytest.raises(HarnessError) as caught:
        ctx.check_student(student)
    assert message in str(caught.value)


def test_every_offer_is_tested_and_serves_the_task_it_needs():
    assert set(NAMES) == {
        "upsample",
        "pool",
        "counterfactual",
        "swap_arguments",
        "negation",
        "other_premise",
    }


def test_overlapping_groups_take_further_rows():
    task = find_task("civilcomments", PLUGINS["task"], ())
    config = RunConfig(tasks=("civilcomments",))
    train = open_task(task, config).data.train
    split = additional(
        train,
        "more",
        inputs={name: ["a"] for name in task.inputs},
        ids=["new"],
        label=np.zeros(1, np.int64),
    )
    assert split.membership.sum() == 0
    assert split.rows.features == train.rows.features
