"""Further validation rows: what they are, who sees them, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.config.settings import ValidationPool
from harness_plugin.pipeline.prepare.validation_pool import with_pool
from harness_plugin.pipeline.run_task import train_models

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")

ROWS = "gold,cue,template,premise,hypothesis\n" + "".join(
    f"{label},{cue},{label[0]}{cue[0]},the {word},{cue} this\n"
    for label, word in (("Negative", "bad"), ("positive", "good"))
    for cue in ("rain", "sun")
    for _ in range(8)
)


@pytest.fixture
def pool(tmp_path):
    """The setting of a file with 32 rows, 8 of every group; `more` is added, None left out."""

    def setting(text=ROWS, **more):
        file = tmp_path / "rows.csv"
        file.write_text(text)
        options = {"file": str(file), "label": "gold", "attribute": "cue", **more}
        words = ", ".join(f"{key}: {value}" for key, value in options.items() if value is not None)
        return f"validation_pool={{{words}}}"

    return setting


def test_rows_join_those_that_are_held_out(open_context, pool):
    held = open_context("validation_fraction=0.25").data
    data = open_context("validation_fraction=0.25", pool()).data
    before, after = held.validation, data.validation
    assert len(before) == 60
    assert after.ids.tolist() == [*before.ids, *(f"rows.csv:{n}" for n in range(1, 33))]
    new = after.group[60:]
    assert [after.groups[g] for g in new[::8]] == [
        *("negative/rain", "negative/sun"),
        *("positive/rain", "positive/sun"),
    ]
    assert (np.bincount(new) == 8).all()
    assert after.aligned[60::8].tolist() == [1, 0, 0, 1]
    assert data.train.fingerprint == held.train.fingerprint
    assert any(
        note.startswith("validation: 32 rows of ") and note.endswith(" beside 60 of the task")
        for note in data.notes
    )


def test_rows_alone_are_a_validation_split(open_context, pool):
    data = open_context(pool()).data
    assert data.validation.group_counts.tolist() == [8, 8, 8, 8]
    assert len(data.train) == 240


def test_rows_of_a_cluster_are_not_independent(open_context, pool):
    validation = open_context("validation_fraction=0.25", pool(cluster="template")).data.validation
    index, names = validation.clusters
    assert names == ("Nr", "Ns", "pr", "ps")
    assert index[:60].tolist() == [-1] * 60
    assert [names[i] for i in index[60::8]] == ["Nr", "Ns", "pr", "ps"]
    assert open_context("validation_fraction=0.25", pool()).data.validation.clusters is None


def test_a_row_without_a_cluster_stands_alone(open_context, tmp_path):
    row = {"gold": "negative", "cue": "sun", "premise": "the bad", "hypothesis": "sun this"}
    file = tmp_path / "rows.jsonl"
    rows = [row | {"of": "a"}, row | {"of": None}, row | {"of": "a"}, row | {"of": ""}]
    file.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    words = f"validation_pool={{file: {file}, label: gold, attribute: cue, cluster: of}}"
    validation = open_context(words).data.validation
    index, names = validation.clusters
    assert (index.tolist(), names) == ([0, -1, 0, -1], ("a",))


def test_a_limit_is_one_of_these_rows_too(open_context, pool):
    data = open_context("validation_fraction=0.25", pool(), limit=40).data
    assert (len(data.train), len(data.validation)) == (30, 40)


def test_images_are_validated_by_as_well(open_context, tmp_path):
    sizes = "celeba_bias.n_train=200", "celeba_bias.n_validation=60", "celeba_bias.n_test=60"
    lines = ["image,hair,gender"]
    for number in range(4):
        pixels = np.full((8, 8, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,blond_hair,Male")
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    words = f"validation_pool={{file: {tmp_path}/faces.csv, label: hair, attribute: gender}}"
    before = open_context(*sizes, task="celeba_bias").data.validation
    after = open_context(*sizes, words, task="celeba_bias").data.validation
    assert len(after) == len(before) + 4
    group = after.groups.index("blond_hair/Male")
    assert (after.group[-4:] == group).all()
    assert after.rows[-1]["image"].getpixel((3, 3)) == (180, 180, 180)


def test_groups_that_overlap_are_none_of_a_file(open_context, pool, plugins):
    ctx = open_context("validation_fraction=0.25")
    rows = ctx.data.validation.rows.add_column("members", [[0]] * 60)
    splits = {**ctx.data.splits, "validation": replace(ctx.data.validation, content=rows)}
    with pytest.raises(HarnessError, match="groups of this task overlap"):
        with_pool(
            ctx.task,
            replace(ctx.data, splits=splits),
            ValidationPool(file="rows.csv", label="gold"),
            plugins,
        )


def test_trainings_are_others_only_where_validation_rows_have_a_part(open_context, pool):
    def key(*sets):
        own = ("validation_fraction=0.25", "teacher.epochs=0.2", "student.epochs=0.2")
        names = "references=false", "control=false", "students={student: false, student_ce: null}"
        ctx = open_context(*own, *names[:2], *sets)
        return {model.role: model.key for model in train_models(ctx, 0)}

    assert key() == key(pool())
    for method in ("select=average", "method=dfr"):
        assert key(method)["teacher"] != key(method, pool())["teacher"]


def test_rows_that_are_trained_on_judge_nothing(open_context, pool, tmp_path):
    rows = f"{{pool: {{file: {tmp_path}/./rows.csv, label: gold, attribute: cue}}}}"
    for setting in ("augmentations", "students.student.augmentations"):
        with pytest.raises(HarnessError, match=r"trains on .*rows\.csv, which is the validation_p"):
            open_context(pool(), f"{setting}={rows}")


@pytest.mark.parametrize(
    ("more", "text", "message"),
    [
        ({"attribute": None}, ROWS, "32 of 32 rows belong to no group, the first 'rows.csv:1'"),
        ({"cluster": "kind"}, ROWS, "kind"),
        ({}, ROWS.replace("sun,N", "snow,N"), "8 of 32 rows belong to no group"),
        ({}, ROWS.replace("Negative", "maybe"), "row 1: label 'maybe'"),
        ({}, "gold,cue,premise,hypothesis\n", "holds no row"),
        ({"file": "nowhere.csv"}, ROWS, "nowhere.csv: no such file"),
        ({"label": None}, ROWS, "label"),
        ({"label": "''"}, ROWS, "label"),
        ({"file": "''"}, ROWS, "validation_pool.file"),
        ({"cluster": "premise"}, ROWS.replace("the bad", "", 1), "premise is empty in"),
        ({"labels": "gold"}, ROWS, "labels"),
    ],
)
def test_what_does_not_fit_is_one_line(open_context, pool, more, text, message):
    with pytest.raises(HarnessError) as caught:
        open_context(pool(text, **more))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_remedies_are_ranked_and_certified_on_them(pool, tmp_path, capsys):
    rows = pool(ROWS + ROWS.partition("\n")[2] * 3)
    words = f"remedy --tasks {TOY} --seeds 0 --threads 1 --remedies pure_kd --certify 0.95"
    words += " --min_group 5"
    words += f" --use_cache {tmp_path / 'store'} --output_path {tmp_path / 'out'}"
    sets = ["teacher.epochs=0.2", "student.epochs=0.2", rows]
    assert main([*words.split(), *(word for each in sets for word in ("--set", each))]) == 0
    text = capsys.readouterr().out
    assert "1 seed, a certificate needs 3" in text
    assert "32 rows" in text
