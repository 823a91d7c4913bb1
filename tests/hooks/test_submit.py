"""Bundles: a run is packed whole, the same way every time, and what cannot be is said."""

import hashlib
import json
import os

from bundles import ANSWERS, RESULTS

from harness_plugin.cli.main import main
from harness_plugin_hooks.leaderboard import bundle as b
from harness_plugin_hooks.leaderboard.bundle import read_bundle
from harness_plugin_hooks.leaderboard.verify import verify


def submit(run, out, *more):
    return main(["submit", str(run), "--output_path", str(out), *more])


def test_a_run_is_packed_and_every_number_follows(bundle, plugins, capsys):
    verified = verify(bundle, plugins)
    assert (verified.name, verified.embedded) == ("Ours", ())
    record = verified.records["made"]
    assert record.source == "path"
    assert verified.numbers > 1000
    assert record.notes[0] == "made up"
    assert main(["verify", str(bundle)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{bundle}: holds; {verified.numbers:,} numbers of ma")


def test_every_part_is_there_and_none_names_a_folder_of_the_machine(bundle_parts, answered_run):
    assert set(bundle_parts) == {
        "manifest.json",
        "config.json",
        "environment.json",
        "models.json",
        RESULTS,
        ANSWERS,
        "tasks/made/predictions_swapped.csv",
    }
    assert not [
        key for key, content in bundle_parts.items() if str(answered_run).encode() in content
    ]
    models = json.loads(bundle_parts["models.json"])
    assert len(models) == 15
    sha = hashlib.sha256(b"made teacher 0").hexdigest()
    assert models[0]["files"] == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "model.safetensors": sha,
    }
    manifest = json.loads(bundle_parts["manifest.json"])
    assert manifest["parts"][ANSWERS]["sha256"] == hashlib.sha256(bundle_parts[ANSWERS]).hexdigest()


def test_the_same_run_gives_the_same_bytes(answered_run, bundle, tmp_path):
    assert submit(answered_run, tmp_path / "b.zip", "--name", "Ours") == 0
    assert (tmp_path / "b.zip").read_bytes() == bundle.read_bytes()
    assert os.listdir(tmp_path) == ["b.zip"]


def test_a_folder_is_a_bundle_too(answered_run, tmp_path, plugins, bundle_parts):
    assert submit(answered_run, tmp_path / "deep" / "b") == 0
    assert verify(tmp_path / "deep" / "b", plugins).name == "b"
    assert read_bundle(tmp_path / "deep" / "b")[1] == {
        key: content for key, content in bundle_parts.items() if key != b.MANIFEST
    }


def test_a_trained_run_on_embedded_data_is_a_demonstration_only(
    toy_run, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "toy.zip"
    assert main(["submit", str(toy_run.output), "--output_path", str(out)]) == 2
    assert "expected real data (--allow_embedded" in capsys.readouterr().err
    assert not out.exists()
    assert main(["submit", str(toy_run.output), "--output_path", str(out), "--allow_embedded"]) == 0
    assert "A DEMONSTRATION: toy on embedded" in capsys.readouterr().out
    assert main(["verify", str(out)]) == 1
    assert "source: expected real data" in capsys.readouterr().err
    assert main(["verify", str(out), "--allow_embedded"]) == 0
    assert "A DEMONSTRATION: toy on embedded" in capsys.readouterr().out


def test_predictions_made_elsewhere_can_be_submitted(tmp_path, plugins):
    from harness_plugin.config.merge import run_config
    from harness_plugin.pipeline.prepare.open_task import load_tasks

    toy = "tests/toy/toy.yaml"
    (task,) = load_tasks(run_config(None, {"tasks": (toy,)}, ()), plugins)
    split = next(s for s in task.data.evaluation if s.name == "id")
    file = tmp_path / "ours.csv"
    file.write_text("id,label\n" + "".join(f"{i},positive\n" for i in split.ids))
    score = ["score", "--tasks", toy, "--predictions", str(file), "--sets", "id", "--log_samples"]
    assert main([*score, "--output_path", str(tmp_path / "out")]) == 0
    submit = [
        "submit",
        str(tmp_path / "out"),
        "--output_path",
        str(tmp_path / "b"),
        "--allow_embedded",
    ]
    assert main(submit) == 0
    record = verify(tmp_path / "b", plugins, allow_embedded=True).records["toy"]
    assert any(n.startswith("student predicts positive for every row of id") for n in record.notes)
    models = json.loads((tmp_path / "b" / "models.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert [model["files"] for model in models] == [{"ours.csv": digest}]


def test_what_cannot_be_submitted_is_said(answered_run, bundle, tmp_path, capsys, finished_run):
    def error_of(*words) -> str:
        assert submit(*words) == 2
        return capsys.readouterr().err

    assert "there is no such folder" in error_of(tmp_path / "none", tmp_path / "b")
    assert "no transfer_*.json" in error_of(tmp_path, tmp_path / "b")
    assert f"{bundle} exists already" in error_of(answered_run, bundle)
    assert "unknown run in" in error_of(answered_run, tmp_path / "b", "--started", "yesterday")
    assert "expected 1 to 100 printable" in error_of(answered_run, tmp_path / "b", "--name", "a\nb")
    assert "expected 1 to 100 printable" in error_of(
        answered_run, tmp_path / "b", "--name", "a" * 101
    )
    several = finished_run(tmp_path / "several", {"student": 0.5})
    finished_run(several, {"student": 0.5}, started=60.0)
    assert "take one with --started 1970-01-01T00-01-00.000000" in error_of(several, tmp_path / "b")
    assert submit(several, tmp_path / "b", "--started", "1970-01-01T00-00-00.000000") == 0
    (several / "checkpoint-student-0" / "model.safetensors").unlink()
    one = ("--started", "1970-01-01T00-01-00.000000")
    assert "the weights of made-student-seed0 are gone from" in error_of(
        several, tmp_path / "c", *one
    )
    for file in several.glob("predictions_*"):
        file.unlink()
    (several / "checkpoint-student-0" / "model.safetensors").touch()
    assert "run with --log_samples" in error_of(several, tmp_path / "c", *one)
    (several / "transfer_made_1970-01-01T00-01-00.000000.json").write_text("{}")
    assert "was it written by another version?" in error_of(several, tmp_path / "c", *one)
