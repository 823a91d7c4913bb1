"""What a bundle says of itself, against its configuration, its weights and our generators."""

import contextlib
import io
import json
import random
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import bad_input_results
import pytest

from harness_plugin.cli.main import main
from harness_plugin_hooks.leaderboard.bundle import Refused, values_in
from harness_plugin_hooks.leaderboard.verify import verify

pytestmark = pytest.mark.usefixtures("scored_once")

RESULTS = "tasks/toy/results.json"
TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")


@pytest.fixture(scope="module")
def parts(toy_run, tmp_path_factory):
    """The parts of a bundle of a trained run."""
    folder = tmp_path_factory.mktemp("bundle") / "b"
    assert (
        main(["submit", str(toy_run.output), "--output_path", str(folder), "--allow_embedded"]) == 0
    )
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def packed(path, parts):
    """A zip file of parts, with a manifest that fits them."""
    parts = {**parts, "manifest.json": bad_input_results.manifest_for(parts)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def problems(parts, tmp_path, plugins):
    """What verify says of a bundle after `change(results)`; the parts that repeat them follow."""

    def verify_changed(change, more=None):
        results = json.loads(parts[RESULTS])
        change(results)
        own = {RESULTS: json.dumps(results).encode()}
        own["config.json"] = json.dumps(results["config"]).encode()
        files = [each["files"] for each in json.loads(parts["models.json"])]
        own["models.json"] = json.dumps(
            [
                {
                    "task": "toy",
                    "fingerprint": results["fingerprint"],
                    **repeated,
                    "files": its_files,
                }
                for repeated, its_files in zip(results["models"], files, strict=False)
            ]
        ).encode()
        file = packed(tmp_path / "b.zip", {**parts, **own, **(more or {})})
        try:
            verify(file, plugins, allow_embedded=True)
        except Refused as refused:
            return "\n".join(map(str, refused.problems))
        return ""

    return verify_changed


def settings_of(results):
    return results["config"]["settings"]["toy"]


def model(results, role):
    return next(m for m in results["models"] if m["role"] == role)


def without_role(role):
    def change(results):
        for name in ("models", "scores"):
            results[name] = [each for each in results[name] if each["role"] != role]

    return change


CHANGES = {
    "rows of a method that no model saw": lambda r: settings_of(r).update(
        augmentations={"upsample": {}}
    ),
    "rows that the settings do not name": lambda r: model(r, "teacher")["settings"].update(
        augmented_rows={"upsample": 3}
    ),
    "another method": lambda r: settings_of(r).update(method="erm"),
    "what a model says of its epochs": lambda r: model(r, "control")["settings"].update(epochs=9),
    "no group labels": lambda r: model(r, "teacher")["supervision"].update(train_groups=False),
    "no supervision": lambda r: model(r, "teacher").update(supervision=None),
    "another selection": lambda r: settings_of(r).update(select="worst_group"),
    "inferred groups": lambda r: settings_of(r).update(group_inference="error_set"),
    "a seed more": lambda r: r.update(seeds=[0, 1]),
    "a setting of a model": lambda r: model(r, "control")["settings"].pop("epochs"),
    "the model that its settings name": lambda r: model(r, "control")["settings"].update(model="x"),
    "a method that nobody offers": lambda r: settings_of(r).update(method="mine"),
    "a limit in the notes alone": lambda r: r["notes"].insert(0, "limited to 50 rows a split"),
    "no settings": lambda r: r["config"].update(settings={}),
    "settings that are none": lambda r: settings_of(r).update(teacher=3),
    "a student that is not there": lambda r: settings_of(r)["students"].update(student_b={}),
    "what a role starts from": lambda r: model(r, "student").update(start="the network of teacher"),
    "the kind of a role": lambda r: model(r, "control").update(kind="erm_student"),
    "the collapse rule": lambda r: r.update(collapse_rule="sum"),
    "references": lambda r: settings_of(r).update(references=False),
    "a metric": lambda r: [s["metrics"].pop("ece") for s in r["scores"]],
    "an unfavourable measure": lambda r: r["transfer"].pop(),
    "a verdict": lambda r: r["verdicts"].pop(),
    "a score": lambda r: r["scores"].pop(),
    "the source": lambda r: r.update(source="path"),
}


def test_the_bundle_itself_holds(problems):
    assert problems(lambda results: None) == ""


@pytest.mark.parametrize("control", ["true", "false"])
def test_a_run_whose_students_start_from_the_teacher_holds(control, tmp_path, plugins):
    """Its control and its ERM student have layers to start from, and learn from labels alone."""
    words = f"--tasks {TOY} --seeds 0 --threads 1 --precision no --attention sdpa --device cpu"
    words += f" --resamples 100 --log_samples --output_path {tmp_path / 'run'}"
    words += f" --use_cache {tmp_path / 'store'} --set teacher.epochs=0.1 --set student.epochs=0.1"
    sets = [f"control={control}", "students={student: {from_teacher: even}}"]
    assert main([*words.split(), *(word for each in sets for word in ("--set", each))]) == 0
    bundle = tmp_path / "b"
    assert (
        main(["submit", str(tmp_path / "run"), "--output_path", str(bundle), "--allow_embedded"])
        == 0
    )
    verify(bundle, plugins, allow_embedded=True)
    roles = {m["role"]: m for m in json.loads((bundle / RESULTS).read_text())["models"]}
    assert ("control_even" in roles) == (control == "true")
    assert roles["erm_student_even"]["start"] == "even layers of erm_teacher"


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_that_matters_is_refused(problems, change):
    assert problems(CHANGES[change])


def test_supervision_is_compared_where_no_class_can_be_imported(problems, monkeypatch):
    def without_torch(offer):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("harness_plugin.plugins.needs.needs_of_class", without_torch)
    assert ".supervision: expected " in problems(CHANGES["no group labels"])


def test_a_trained_model_has_a_hash_of_its_weights(problems, parts):
    models = json.loads(parts["models.json"])
    del models[0]["files"]["model.safetensors"]
    message = problems(lambda results: None, {"models.json": json.dumps(models).encode()})
    assert "weights, which were trained" in message


def test_copied_weights_are_no_further_seed(parts, tmp_path, finished_run, plugins, capsys):
    right = {"teacher": 0.9, "student": 0.7}
    run = finished_run(tmp_path / "run", right)
    weights = run / "checkpoint-student-1" / "model.safetensors"
    weights.write_bytes((run / "checkpoint-student-0" / "model.safetensors").read_bytes())
    assert main(["submit", str(run), "--output_path", str(tmp_path / "b.zip")]) != 0
    output = capsys.readouterr().err
    assert "the weights of student seed 0 again as seed 1" in output


def test_copied_answers_are_no_further_seed(tmp_path, finished_run, plugins):
    run = finished_run(tmp_path / "run", {"student": 0.7}, seeds=2)
    assert main(["submit", str(run), "--output_path", str(tmp_path / "b.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in [name for name in parts if name.endswith(".csv")]:
        head, *rows = parts[name].decode().splitlines()
        places = [head.split(",").index(f"logit: student/{s}/a") for s in (0, 1)]
        cells = [row.split(",") for row in rows]
        for row in cells:
            row[places[1] : places[1] + 2] = row[places[0] : places[0] + 2]
        parts[name] = "\n".join([head, *map(",".join, cells)]).encode()
    with pytest.raises(Refused) as refused:
        verify(packed(tmp_path / "c.zip", parts), plugins)
    assert any("the answers of student seed 0 again" in str(p) for p in refused.value.problems)


def test_generated_rows_are_recognised_under_another_name(tmp_path, plugins):
    from harness_plugin.data.dataset import load_data
    from harness_plugin.data.task import find_task

    split = load_data(find_task("hans", plugins["task"]), "embedded").evaluation[0]
    rows = [f"{i},{split.labels[y]}" for i, y in zip(split.ids, split.label, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["id,label", *rows]))
    score = ["score", "--tasks", "hans", "--predictions", str(tmp_path / "a.csv")]
    score += ["--sets", split.name, "--output_path", str(tmp_path / "out"), "--resamples", "100"]
    assert main([*score, "--log_samples"]) == 0
    (file,) = (tmp_path / "out").glob("transfer_*.json")
    file.write_text(file.read_text().replace('"embedded"', '"path"'))
    output = io.StringIO()
    with contextlib.redirect_stderr(output):
        status = main(["submit", str(tmp_path / "out"), "--output_path", str(tmp_path / "b.zip")])
    assert status == 2
    assert "embedded, for rows that this software generates" in output.getvalue()


BOMBS = {
    "lists": {"config.json": b"[" + b"[]," * 400_000 + b"[]]"},
    "mappings": {"config.json": b"[" + b'{"a":{}},' * 150_000 + b"1]"},
    "zeros": {"config.json": bytes(100_000_000)},
    "depth": {"config.json": b"[" * 3_000_000},
    "cells": {"tasks/toy/predictions_id.csv": b"a," * 3_000_000},
    "one long line": {"tasks/toy/predictions_id.csv": b"a\n" * 90_000 + b"b" * 3_000_000},
}
REPEATED = ("verdicts", "scores")
"""Entries of a record that are repeated until a bundle may hold no more."""
MEMORY = """
import re, sys
from harness_plugin.cli.main import main
def memory(what):
    return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
main(["verify", sys.argv[1], "--allow_embedded"])  # a small bundle that holds: idle is after it
for bundle in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    idle = memory("VmRSS")
    assert main(["verify", bundle, "--allow_embedded"]) == 1
    print("MB", memory("VmHWM") - idle)
"""


def repeated(path, parts, name):
    """A bundle of 1 MB with as many entries of that name as it may hold; noise fills it up."""
    record = json.loads(parts[RESULTS])
    once = json.dumps(record[name]).encode()
    times = min(680_000 // values_in(RESULTS, once), 18_000_000 // len(once))
    times = min(times, 700_000 // len(zlib.compress(once)))
    record[name] *= times
    size = len(zlib.compress(json.dumps(record).encode()))
    record["notes"].append(random.Random(0).randbytes(int(0.87 * (1_000_000 - size))).hex())
    return packed(path, {**parts, RESULTS: json.dumps(record).encode()})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_a_megabyte_never_takes_300(parts, tmp_path):
    bundles = [packed(tmp_path / "good.zip", parts)]
    bundles += [packed(tmp_path / f"{n}.zip", {**parts, **own}) for n, own in BOMBS.items()]
    bundles += [repeated(tmp_path / f"{name}.zip", parts, name) for name in REPEATED]
    assert all(bundle.stat().st_size < 1_100_000 for bundle in bundles)
    command = [sys.executable, "-c", MEMORY, *map(str, bundles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    used = [float(line[3:]) for line in done.stdout.splitlines() if line.startswith("MB ")]
    assert max(used) < 300, dict(zip([*BOMBS, *REPEATED], used, strict=True))
