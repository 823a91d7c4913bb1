"""`harness remedy`: which remedies are tried, on which rows, how they rank, what they cost."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.config.merge import run_config
from harness_plugin.config.settings import StudentSettings
from harness_plugin.pipeline.remedies import REMEDIES, chosen
from harness_plugin.pipeline.remedy import RANKING, halved, try_remedies
from harness_plugin.pipeline.run import prepare
from harness_plugin.plugins.registry import load_plugins

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
FLAGS = "--seeds 0,1 --threads 1 --precision no --attention sdpa --device cpu --resamples 200"
QUICK = ["teacher.epochs=1", "student.epochs=1", "validation_fraction=0.5", "toy.rows=320"]


def job_of(*sets, **flags):
    flags = {"tasks": (TOY,), "threads": 1, "precision": "no", "attention": "sdpa", **flags}
    config = run_config(None, {"seeds": (0,), "resamples": 100, **flags}, sets)
    plugins = load_plugins()
    return config, plugins, prepare(config, plugins)[0]


def trial_of(tmp_path, names, *sets, budget=9, baseline="student", metric="worst_group_acc"):
    config, plugins, job = job_of(*QUICK, *sets)
    return try_remedies(
        config,
        plugins,
        job,
        tmp_path / "store",
        chosen(names),
        budget=budget,
        baseline=baseline,
        metric=metric,
    )


def test_every_remedy_is_a_student_that_can_be_written_down():
    base = StudentSettings()
    for remedy in REMEDIES:
        changed = remedy.settings(base)
        assert changed != base or remedy.name == "weighted_kd"  # `same` is the default
        assert StudentSettings.model_validate(changed.model_dump()) == changed
    assert len({remedy.name for remedy in REMEDIES}) == len(REMEDIES)


def test_remedies_join_and_keep_what_the_student_has():
    (both,) = chosen(["upsample+pure_kd+teachers_agre"])
    base = StudentSettings(rounds=2, augmentations={"negation": {"share": 0.1}})
    made = both.settings(base)
    assert made.augmentations == {"negation": {"share": 0.1}, "upsample": {}}
    assert (made.ce_weight, made.kd_weight, made.rounds) == (0, 1, 2)
    assert made.teachers == ("teacher", "teacher_second")
    assert set(both.teachers) == {"teacher_second"}
    with pytest.raises(HarnessError, match="remedy 'upsampel'"):
        chosen(["pure_kd+upsampel"])


def test_rows_that_rank_are_no_rows_that_methods_see():
    _, _, (task, _, data) = job_of(*QUICK)
    half = halved(task, data, 0)
    seen, ranking = half.validation, half.splits[RANKING]
    assert half.evaluation == (ranking,)
    assert sorted([*seen.ids, *ranking.ids]) == sorted(data.validation.ids)
    assert np.abs(seen.group_counts - ranking.group_counts).max() <= 1
    test_rows = {name for split in data.evaluation for name in split.ids.tolist()}
    assert not test_rows & set(ranking.ids.tolist())


def test_students_are_ranked_and_gains_are_differences(tmp_path):
    names = ["pure_kd", "teachers_agre", "counterfactual", "upsample", "pure_kd_t4"]
    trial = trial_of(tmp_path, names, budget=3)
    assert {one.remedy for one in trial.tried} == {"none", "pure_kd", "teachers_agre", "upsample"}
    scores = [one.score.value for one in trial.tried]
    assert scores == sorted(scores, reverse=True)
    for one in trial.tried:
        gained = one.score.value - trial.plain.score.value
        assert one.gained.value == pytest.approx(gained)
        lost = trial.teacher.value - trial.plain.score.value
        if lost > 0:
            assert one.kept == pytest.approx(gained / lost)
    assert trial.skipped == (
        (
            "counterfactual",
            "augmentation counterfactual needs a `counterfactual` of the task, which embedded "
            "data of this task do not have.",
        ),
    )
    assert trial.left == ("pure_kd_t4",)
    agre = next(one for one in trial.tried if one.remedy == "teachers_agre")
    assert agre.updates > 2 * trial.plain.updates  # two further teachers are its price
    rows = next(p for p in trial.scores.predictions if p.role == "teacher")
    assert trial.smallest[1] == min(np.bincount(rows.group[rows.group >= 0]))


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(tmp_path):
    first = trial_of(tmp_path, ["pure_kd", "upsample"], budget=1)
    second = trial_of(tmp_path, ["pure_kd", "upsample"], budget=2)
    reused = {m.role: m.reused for m in second.scores.models}
    assert reused["student_pure_kd"]
    assert not reused["student_upsample"]
    same = {one.remedy: one.score.value for one in first.tried}
    assert {o.remedy: o.score.value for o in second.tried if o.remedy in same} == same


def test_what_the_student_does_already_is_no_remedy(tmp_path):
    trial = trial_of(
        tmp_path,
        ["pure_kd", "rounds"],
        "students.student={method: erm, ce_weight: 0, kd_weight: 1}",
    )
    assert trial.skipped[0] == ("pure_kd", "is what the student does already")
    assert trial.skipped[1][0] == "rounds"
    assert "less than one each" in trial.skipped[1][1]
    assert [one.remedy for one in trial.tried] == ["none"]


@pytest.mark.parametrize(
    ("sets", "options", "said"),
    [
        (["validation_fraction=0"], {}, "Hold rows out"),
        (["toy.annotated=false", "method=erm"], {}, "Hold rows out|no example of group"),
        ([], {"baseline": "students"}, "student of task toy 'students'"),
        ([], {"metric": "worst_group"}, "metric to rank by 'worst_group'"),
    ],
)
def test_what_cannot_be_ranked_is_refused(tmp_path, sets, options, said):
    with pytest.raises(HarnessError, match=said):
        trial_of(tmp_path, ["pure_kd"], *sets, **options)


def test_from_the_command_line(tmp_path, capsys):
    words = ["remedy", "--tasks", TOY, *FLAGS.split(), "--remedies", "pure_kd,pure_kd+upsample"]
    words += ["--output_path", str(tmp_path / "out"), "--use_cache", str(tmp_path / "store")]
    words += [word for setting in QUICK for word in ("--set", setting)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "pure_kd+upsample" in said
    assert "rank these students: its accuracy is noise below 30" in said
    assert any(word in said for word in ("BEST", "UNDECIDED", "No remedy"))
    (file,) = (tmp_path / "out").glob("remedies_toy_*.json")
    record = json.loads(file.read_text())
    assert {one["remedy"] for one in record["remedies"]} == {"none", "pure_kd", "pure_kd+upsample"}
    settings = next(o for o in record["remedies"] if o["remedy"] == "pure_kd")["settings"]
    assert StudentSettings.model_validate(settings).kd_weight == 1
    assert record["seeds"] == [0, 1]


def test_wrong_words_and_the_list(capsys):
    assert main(["remedy", "--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(REMEDIES)
    assert main(["remedy", "--task", TOY, "--budget", "0"]) == 2
    assert "expected at least 1 remedy" in capsys.readouterr().err
    assert main(["remedy", "--tasks", TOY, "--remedies", "pure"]) == 2
    assert "pure_kd" in capsys.readouterr().err
    assert main(["remedy", "--tasks", TOY, "--eval_only", "--set", "validation_fraction=.5"]) == 2
    assert "cannot be used with --eval_only" in capsys.readouterr().err
