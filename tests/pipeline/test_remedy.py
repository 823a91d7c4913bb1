"""`harness remedy`: which remedies are tried, on which rows, how they rank, what they cost."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.config.merge import run_config
from harness_plugin.config.roles import plan_of_roles
from harness_plugin.config.settings import StudentSettings
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin.pipeline.remedy import halved, try_remedies
from harness_plugin.plugins.registry import Offer, Registry, load_plugins
from harness_plugin.plugins.remedies import (
    CERTIFYING,
    RANKING,
    Remedy,
    RemedyChange,
    load_remedy,
    select_remedies,
)

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
FLAGS = "--seeds 0,1 --threads 1 --precision no --attention sdpa --device cpu --resamples 200"
QUICK = ["teacher.epochs=1", "student.epochs=1", "validation_fraction=0.5", "toy.rows=320"]


def job_of(*sets, **flags):
    flags = {"tasks": (TOY,), "threads": 1, "precision": "no", "attention": "sdpa", **flags}
    config = run_config(None, {"seeds": (0,), "resamples": 100, **flags}, sets)
    plugins = load_plugins()
    return config, plugins, load_tasks(config, plugins)[0]


@pytest.fixture(scope="module")
def offered():
    """The registered remedies."""
    return load_plugins()["remedy"]


def report_of(store, names, *sets, budget=9, baseline="student", metric="worst_group_acc"):
    config, plugins, job = job_of(*QUICK, *sets)
    return try_remedies(
        config,
        plugins,
        job,
        store,
        select_remedies(names, plugins["remedy"]),
        budget=budget,
        baseline=baseline,
        metric=metric,
    )


def test_every_remedy_is_a_student_that_can_be_written_down(offered):
    base = StudentSettings()
    for remedy in select_remedies((), offered):
        changed = remedy.change(base).applied_to(base)
        assert changed != base or remedy.name == "weighted_kd"  # `same` is the default
        assert StudentSettings.model_validate(changed.model_dump()) == changed


def test_remedies_come_in_the_order_of_promise(offered):
    built_in = [offer.name for offer in offered if offer.plugin == "remedies"]
    every = [remedy.name for remedy in select_remedies((), offered)]
    assert [name for name in every if name in built_in] == [
        *("pure_kd", "pure_kd_t4", "pure_kd_t1", "pure_kd_t10", "weighted_kd", "group_dro_kd"),
        *("last_layer", "simkd", "bias_aware_kd", "teachers_mean_prob", "teachers_confidence"),
        *("teachers_agre", "upsample", "counterfactual", "swap_arguments", "other_premise"),
        *("negation", "hints", "minilm", "from_teacher", "rounds"),
        *("extrapolated", "disagree", "subspace", "int8"),
    ]


def test_remedies_join_and_keep_what_the_student_has(offered):
    (both,) = select_remedies(["upsample+pure_kd+teachers_agre"], offered)
    base = StudentSettings(rounds=2, augmentations={"negation": {"share": 0.1}})
    change = both.change(base)
    made = change.applied_to(base)
    assert made.augmentations == {"negation": {"share": 0.1}, "upsample": {}}
    assert (made.ce_weight, made.kd_weight, made.rounds) == (0, 1, 2)
    assert made.teachers == ("teacher", "teacher_second")
    assert set(change.teachers) == {"teacher_second"}
    assert both.cost == "a second teacher and an ERM teacher"
    with pytest.raises(HarnessError, match="remedy 'upsampel'"):
        select_remedies(["pure_kd+upsampel"], offered)


def test_what_is_registered_as_a_remedy_and_is_none_is_named(monkeypatch):
    registry = Registry("remedy")
    registry.add(Offer("remedy", "mine", "my_remedies:MINE", "", "my_plugin"))
    for wrong in (StudentSettings, Remedy("other", "", lambda _: RemedyChange(), order=1)):
        monkeypatch.setattr(Offer, "load", lambda self, wrong=wrong: wrong)
        with pytest.raises(HarnessError, match="remedy 'mine' of plugin 'my_plugin': my_remedies"):
            load_remedy(registry, "mine")


def test_a_remedy_says_itself_where_it_is_not_applicable(tmp_path):
    def never(student, data):
        return f"not for {student.distiller} on {data.task}"

    mine = Remedy("mine", "", lambda _: RemedyChange({"rounds": 2}), 5, why_not_applicable=never)
    config, plugins, job = job_of(*QUICK)
    report = try_remedies(
        config,
        plugins,
        job,
        tmp_path / "store",
        [mine],
        budget=1,
        baseline="student",
        metric="worst_group_acc",
    )
    assert report.skipped == (("mine", "not for kd on toy"),)


def test_a_student_that_is_not_trained_has_no_training_to_change(shared_store):
    small = "students.student_small={compress: {int8: {}}}"
    report = report_of(shared_store, ["pure_kd", "rounds"], small, baseline="student_small")
    assert [one.remedy for one in report.results] == ["none"]
    assert dict(report.skipped) == {
        "pure_kd": "changes the training of a student that has none: give it epochs",
        "rounds": "compress is the teacher's network: from_teacher none and one round",
    }


def test_rows_that_rank_are_no_rows_that_methods_see():
    _, _, (task, _, data) = job_of(*QUICK)
    half = halved(task, data, 0)
    seen, ranking = half.validation, half.splits[RANKING]
    assert half.evaluation == (ranking,)
    assert sorted([*seen.ids, *ranking.ids]) == sorted(data.validation.ids)
    assert np.abs(seen.group_counts - ranking.group_counts).max() <= 1
    test_rows = {name for split in data.evaluation for name in split.ids.tolist()}
    assert not test_rows & set(ranking.ids.tolist())


def test_no_template_of_rows_that_certify_ranks_or_is_refitted_on():
    _, _, (task, _, data) = job_of(*QUICK)
    whole = data.validation
    names = [f"t{int(name.removeprefix('train')) % 40}" for name in whole.ids]
    content = whole.rows.add_column("cluster", names)
    clustered = replace(whole, content=content)
    data = replace(data, splits={**data.splits, whole.name: clustered})
    parts = halved(task, data, 0, certify=True)
    sides = [parts.validation, parts.splits[RANKING], parts.splits[CERTIFYING]]
    assert sorted(name for side in sides for name in side.ids) == sorted(whole.ids)
    templates = [set(side.rows["cluster"]) for side in sides]
    assert sum(map(len, templates)) == len(set(names))


def test_a_group_of_hardly_any_rows_does_not_stand_in_the_way():
    """Of three rows of a group one part may have none: it is no group of that part."""
    _, _, (task, _, data) = job_of(*QUICK)
    whole = data.validation
    rare = np.flatnonzero(whole.group == 1)
    rows = np.sort([*np.flatnonzero(whole.group != 1), *rare[:2]])
    data = replace(data, splits={**data.splits, whole.name: whole.select(rows)})
    parts = halved(task, data, 0, certify=True)
    lacking = [part for part in parts.evaluation if len(part.groups) == 3]
    assert lacking
    for part in parts.evaluation:
        assert part.group_counts.min() > 0
        of = dict(zip(whole.ids, whole.group, strict=True))
        groups = [part.groups[g] for g in part.group]
        assert groups == [whole.groups[of[name]] for name in part.ids]
    assert parts.validation.groups == whole.groups


def bert_operations(config, tokens):
    """A forward pass of one row by hand: layers, pooler and head."""
    width, wide = config["hidden_size"], config["intermediate_size"]
    matrices = 2 * tokens * (4 * width * width + 2 * width * wide)
    attention = 2 * 2 * tokens * tokens * width
    head = 2 * width * (width + len(config["id2label"]))
    return config["num_hidden_layers"] * (matrices + attention) + head


def test_students_are_ranked_and_gains_are_differences(shared_store):
    names = ["pure_kd", "teachers_agre", "counterfactual", "upsample", "pure_kd_t4"]
    report = report_of(shared_store, names, budget=3)
    assert {one.remedy for one in report.results} == {
        "none",
        "pure_kd",
        "teachers_agre",
        "upsample",
    }
    scores = [one.score.value for one in report.results]
    assert scores == sorted(scores, reverse=True)
    for one in report.results:
        gained = one.score.value - report.plain.score.value
        assert one.gained.value == pytest.approx(gained)
        lost = report.teacher.value - report.plain.score.value
        if lost > 0:
            assert one.kept == pytest.approx(gained / lost)
    assert report.skipped == (
        (
            "counterfactual",
            "augmentation counterfactual needs a `counterfactual` of the task, which embedded "
            "data of this task do not have.",
        ),
    )
    assert report.beyond_budget == ("pure_kd_t4",)
    agre = next(one for one in report.results if one.remedy == "teachers_agre")
    assert agre.updates > 2 * report.plain.updates  # two further teachers are its price
    prices = {one.remedy: one.operations for one in report.results}
    assert prices["pure_kd"] == prices["none"]  # the same network, updates and rows
    assert prices["teachers_agre"] > 2 * prices["none"]
    student = next(m for m in report.scores.models if m.role == "student_pure_kd")
    size = json.loads((student.path / "config.json").read_text())
    rows_seen = student.updates * student.settings["batch_size"]
    assert prices["none"] / (3 * rows_seen) in {bert_operations(size, t) for t in range(4, 64)}
    rows = next(p for p in report.scores.predictions if p.role == "teacher")
    assert report.smallest[1] == min(np.bincount(rows.group[rows.group >= 0]))


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(tmp_path):
    first = report_of(tmp_path, ["pure_kd", "upsample"], budget=1)
    second = report_of(tmp_path, ["pure_kd", "upsample"], budget=2)
    reused = {m.role: m.reused for m in second.scores.models}
    assert reused["student_pure_kd"]
    assert not reused["student_upsample"]
    same = {one.remedy: one.score.value for one in first.results}
    assert {o.remedy: o.score.value for o in second.results if o.remedy in same} == same


def test_what_the_student_does_already_is_no_remedy(shared_store):
    report = report_of(
        shared_store,
        ["pure_kd", "rounds"],
        "students.student={method: erm, ce_weight: 0, kd_weight: 1}",
    )
    assert report.skipped[0] == ("pure_kd", "is what the student does already")
    assert report.skipped[1][0] == "rounds"
    assert "less than one each" in report.skipped[1][1]
    assert [one.remedy for one in report.results] == ["none"]


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        (["validation_fraction=0"], {}, "Hold rows out"),
        (["toy.annotated=false", "method=erm"], {}, "Hold rows out|no example of group"),
        ([], {"baseline": "students"}, "student of task toy 'students'"),
        ([], {"metric": "worst_group"}, "metric to rank by 'worst_group'"),
    ],
)
def test_what_cannot_be_ranked_is_refused(tmp_path, sets, options, message):
    with pytest.raises(HarnessError, match=message):
        report_of(tmp_path, ["pure_kd"], *sets, **options)


def test_a_remedy_whose_augmentation_adds_no_row_is_skipped_and_the_others_go_on(
    tmp_path, monkeypatch
):
    from harness_plugin_hooks.augment.rows import Upsample

    monkeypatch.setattr(Upsample, "rows", classmethod(lambda *_: []))
    report = report_of(tmp_path, ["upsample", "pure_kd", "pure_kd_t4"], budget=1)
    assert report.skipped == (("upsample", "augmentation upsample adds no row."),)
    assert {one.remedy for one in report.results} == {"none", "pure_kd"}
    assert report.beyond_budget == ("pure_kd_t4",)
    # the student as it is has no remedy that could be left out
    with pytest.raises(HarnessError, match="student: augmentation upsample adds no row"):
        report_of(tmp_path, ["pure_kd"], "students={student: {augmentations: {upsample: {}}}}")


def test_a_remedy_can_train_longer(shared_store):
    config, plugins, job = job_of(*QUICK)
    longer = Remedy("longer", "more epochs", lambda _: RemedyChange({"epochs": 2.0}), order=1)
    choices = {"budget": 1, "baseline": "student", "metric": "acc"}
    report = try_remedies(config, plugins, job, shared_store, [longer], **choices)
    updates = {one.remedy: one.updates for one in report.results}
    assert updates["longer"] == 2 * updates["none"]


def test_epochs_of_a_student_leave_some_for_its_method():
    erm = ("student.epochs=4", "student.erm_epochs=2", "students={student: {epochs: 2}}")
    with pytest.raises(HarnessError, match="student: erm_epochs 2 leaves nothing of epochs 2"):
        plan_of_roles(job_of(*QUICK, *erm)[2].settings)


def test_from_the_command_line(tmp_path, capsys):
    words = ["remedy", "--tasks", TOY, *FLAGS.split(), "--remedies", "pure_kd,pure_kd+upsample"]
    words += ["--output_path", str(tmp_path / "out"), "--use_cache", str(tmp_path / "store")]
    words += [word for setting in QUICK for word in ("--set", setting)]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "pure_kd+upsample" in output
    table = output[output.index("toy, student with remedies") : output.index("  time, FLOP: ")]
    assert max(map(len, table.splitlines())) <= 80
    assert "rank these students: its accuracy is noise below 30" in output
    assert any(word in output for word in ("BEST", "UNDECIDED", "No remedy"))
    (file,) = (tmp_path / "out").glob("remedies_toy_*.json")
    record = json.loads(file.read_text())
    assert {one["remedy"] for one in record["remedies"]} == {"none", "pure_kd", "pure_kd+upsample"}
    settings = next(o for o in record["remedies"] if o["remedy"] == "pure_kd")["settings"]
    assert StudentSettings.model_validate(settings).kd_weight == 1
    assert record["seeds"] == [0, 1]


def test_wrong_words_and_the_list(capsys, offered):
    assert main(["remedy", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [remedy.name for remedy in select_remedies((), offered)]
    assert main(["remedy", "--tasks", TOY, "--budget", "0"]) == 2
    assert "expected at least 1 remedy" in capsys.readouterr().err
    assert main(["remedy", "--tasks", TOY, "--remedies", "pure"]) == 2
    assert "pure_kd" in capsys.readouterr().err
    assert main(["remedy", "--tasks", TOY, "--eval_only", "--set", "validation_fraction=.5"]) == 2
    assert "cannot be used with --eval_only" in capsys.readouterr().err


def test_workers_that_a_remedy_would_not_have_are_refused(tmp_path, capsys):
    assert main(["remedy", "--tasks", TOY, "--workers", "2"]) == 2
    assert "unknown option '--workers'" in capsys.readouterr().err
    file = tmp_path / "run.yaml"
    file.write_text(f"tasks: ['{TOY}']\nworkers: 2\n")
    assert main(["remedy", "--config", str(file)]) == 2
    assert f"workers: 2 in {file}: remedies are trained one after the other" in (
        capsys.readouterr().err
    )


HANS = [
    "teacher.epochs=.5",
    "student.epochs=2",
    "teacher.erm_epochs=.1",
    "student.erm_epochs=.1",
    "vocab_size=300",
    "teacher.model=bert-pico",
    "student.model=bert-pico",
    "method=poe",
    "hans.n_train=256",
    "hans.n_validation=200",
    "hans.n_hans=60",
    "hans.n_id=60",
]
"""The task that can have every remedy of texts, as small as can be."""
CMNIST = [
    "teacher.epochs=.5",
    "student.epochs=.5",
    "teacher.model=resnet-pico",
    "student.model=resnet-pico",
    "cmnist.n_train=200",
    "cmnist.n_validation=400",
    "cmnist.n_test=200",
]
OF_IMAGES = ("counterfactual",)
UNTRAINED = ("int8",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "sets", "baseline", "of_images"),
    [
        ("hans", HANS, "student_ce", False),
        ("cmnist", CMNIST, "student", True),
    ],
    ids=["hans", "cmnist"],
)
def test_every_remedy_starts_from_the_weights_and_sees_the_batches_of_the_student(
    tmp_path, offered, task, sets, baseline, of_images
):
    """What is compared differs by the remedy alone: first weights and order of rows are the same.

    Read from what the run leaves: the seed of the first training of each student, found through
    the stages that its last one was made from, without those that made the teachers.
    """
    trained = [o.name for o in offered if o.name not in UNTRAINED]
    names = [name for name in trained if (name in OF_IMAGES) == of_images]
    config, plugins, job = job_of(*sets, tasks=(task,))
    report = try_remedies(
        config,
        plugins,
        job,
        tmp_path,
        select_remedies(names, offered),
        budget=99,
        baseline=baseline,
        metric="worst_group_acc",
    )
    stages = {
        record["key"]: record["spec"]
        for file in tmp_path.glob("*/stage.json")
        for record in [json.loads(file.read_text())]
    }
    models = {
        model.role: json.loads((model.path / "stage.json").read_text())["key"]
        for model in report.scores.models
    }
    is_student = {role: role.startswith(("student", "control")) for role in models}
    of_teachers = set().union(
        *(made_from(key, stages) for role, key in models.items() if not is_student[role])
    )
    first_seeds = {
        role: {
            spec["args"]["seed"]
            for key in made_from(models[role], stages) - of_teachers
            for spec in first_round(stages[key], stages)
            if "args" in spec and not spec["start"]
        }
        for role in models
        if is_student[role]
    }
    assert not report.skipped
    (seed,) = first_seeds[baseline]
    others = {role: seeds for role, seeds in first_seeds.items() if seed not in seeds}
    assert not others


def made_from(key, stages):
    """The keys of a stage and of all stages that its spec names, directly or not."""
    result, waiting = set(), [key]
    while waiting:
        current = waiting.pop()
        if current not in result:
            result.add(current)
            waiting += [text for text in texts_in(stages[current]) if text in stages]
    return result


def first_round(spec, stages):
    """The stage that a later round of the same training began with; the stage itself of others."""
    if not (spec.get("distillation") or {}).get("round"):
        return [spec]
    return [
        other
        for other in stages.values()
        if other.get("distillation")
        and other["distillation"]["round"] == 0
        and without_round(other) == without_round(spec)
    ]


def without_round(spec):
    """What two rounds of one training have in common."""
    later = {"round": None, "outputs": None, "teachers": None}
    return {
        **spec,
        "args": {**spec["args"], "seed": None},
        "distillation": {**spec["distillation"], **later},
    }


def texts_in(value):
    """All texts in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in texts_in(part)]
    return [value] if isinstance(value, str) else []
