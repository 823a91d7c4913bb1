"""Bundles: what holds is accepted, whatever does not follow from its parts is refused by name."""

import hashlib
import json
import subprocess
import sys

import pytest
from bundles import ANSWERS, RESULTS, RIGHT, edited, refused

from harness_plugin.cli.main import main
from harness_plugin_hooks.leaderboard import bundle as b
from harness_plugin_hooks.leaderboard.reference import other_data
from harness_plugin_hooks.leaderboard.verify import verify


@pytest.fixture
def pack(tmp_path, bundle_parts):
    """A folder with some parts changed, and a manifest that fits them unless told otherwise."""

    def packed(changed: dict[str, bytes | None], *, manifest: bool = True):
        whole = {key: value for key, value in (bundle_parts | changed).items() if value is not None}
        if manifest:
            listed = json.loads(whole[b.MANIFEST])
            listed["parts"] = {
                key: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                for key, content in whole.items()
                if key != b.MANIFEST
            }
            whole[b.MANIFEST] = json.dumps(listed).encode()
        folder = tmp_path / "bundle"
        for key, content in whole.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(content)
        return folder

    return packed


@pytest.fixture(scope="module")
def verified_record(bundle, plugins):
    return verify(bundle, plugins).records["made"]


def scores_at(role, split):
    roles = list(RIGHT)
    return ["id", "swapped"].index(split) * len(roles) + roles.index(role)


NUMBERS = [
    (("metrics", "acc", "value"), 0.99),
    (("metrics", "acc", "low"), 0.01),
    (("metrics", "acc", "seeds", 1), 0.99),
    (("metrics", "worst_group_acc", "high"), 0.99),
    (("metrics", "gap_avg_worst", "value"), 0.0),
    (("metrics", "ece", "sd"), 0.0),
    (("metrics", "acc", "n"), 161),
    (("metrics", "acc", "reason"), "a better one"),
    (("groups", "b/y", "value"), 0.99),
    (("groups", "b/y", "n"), 50),
    (("breakdowns", "cue", "x", "acc", "value"), 0.99),
]


@pytest.mark.parametrize(("path", "value"), NUMBERS, ids=lambda v: str(v)[:40])
def test_a_number_that_does_not_follow_is_named(pack, plugins, bundle_parts, path, value):
    place = ("scores", scores_at("student", "swapped"), *path)
    (problem,) = refused(
        plugins, pack({RESULTS: edited(bundle_parts[RESULTS], *place, value=value)})
    )
    where = ".".join(map(str, path)).replace(".1", "[1]")
    assert problem.startswith(f"{RESULTS}, scores[student/swapped].{where}: expected ")
    assert problem.endswith(f", found {json.dumps(value)}")


def test_a_note_before_those_of_the_answers_is_what_its_author_says(pack, plugins, bundle_parts):
    _, *of_answers = json.loads(bundle_parts[RESULTS])["notes"]
    value = ["made up", "peer reviewed", *of_answers]
    bundle = pack({RESULTS: edited(bundle_parts[RESULTS], "notes", value=value)})
    assert verify(bundle, plugins).records["made"].notes == value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("verdicts", 0, "state"), "kept", "verdicts[student/id].state: expected "),
        (("verdicts", 0, "gap"), "acc", "verdicts[student/id]"),
        (("transfer", 0, "number", "value"), 0.5, "transfer[student/id/"),
        (("transfer",), [], "transfer: expected "),
        (("sets", 0, "rows"), 150, "predictions_id.csv: expected 150 rows, found 160"),
        (("sets", 0, "rows_sha256"), "0" * 64, "sets[in_domain/id].rows_sha256: expected "),
        (("sets", 0, "purpose"), "ood", "metrics.gap_id_ood: expected one, found none"),
        (("sets", 0, "train_groups"), {"a/x": 1}, "the sets name different training sets"),
        (("sets", 0, "groups"), ["a/x"], "group is 'a/y', expected one of '', 'a/x'"),
        (("sets", 0, "labels"), ["a", "c"], "label is 'b', expected one of 'a', 'c'"),
        (("sets", 0, "collapse_rule"), "best", "sets.0.collapse_rule: expected "),
        (("sets", 0, "name"), "../id", "expected a part, found none"),
        (("sets", 0, "answers"), [], "expected answers of control seed 0, control seed 1"),
        (("sets",), [], "sets: expected an evaluation set, found none"),
        (("seeds",), [0, 1], "seeds: expected 3 entries, found 2"),
        (("notes",), ["made up"], "notes: expected 2 entries, found 1"),
        (("task",), "other", "task: expected made, found other"),
        (("fingerprint",), 5, "fingerprint: expected input should be a valid string, found 5"),
        (("score",), 1.0, "score: expected extra inputs are not permitted, found 1.0"),
        (("source",), "embedded", "source: expected real data"),
        (("config", "resamples"), 101, "config.json: expected the config in"),
        (("environment",), {}, "environment.json: expected the environment in"),
        (("models", 0, "seed"), 7, "models.json: expected made/control/0"),
        (("models", 1, "seed"), 0, "models.json: expected made/control/0"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_claim_that_does_not_follow_is_refused(pack, plugins, bundle_parts, path, value, message):
    bundle = pack({RESULTS: edited(bundle_parts[RESULTS], *path, value=value)})
    problems = refused(plugins, bundle)
    assert message in problems[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("resamples", 10**9, "config.resamples: expected 2 to 10,000, found 1000000000"),
        ("resamples", 1, "config.resamples: expected 2 to 10,000, found 1"),
        ("resamples", "many", "config.resamples: expected 2 to 10,000, found 'many'"),
        ("data_seed", -1, "config.data_seed: expected the bootstrap's seed, found -1"),
    ],
)
def test_a_bootstrap_that_cannot_be_repeated_is_refused(
    pack, plugins, bundle_parts, name, value, message
):
    changed = {RESULTS: edited(bundle_parts[RESULTS], "config", name, value=value)}
    changed["config.json"] = edited(bundle_parts["config.json"], name, value=value)
    assert refused(plugins, pack(changed)) == [f"{RESULTS}, {message}"]


def test_another_bootstrap_seed_gives_other_intervals(pack, plugins, bundle_parts):
    changed = {RESULTS: edited(bundle_parts[RESULTS], "config", "data_seed", value=1)}
    changed["config.json"] = edited(bundle_parts["config.json"], "data_seed", value=1)
    problems = refused(plugins, pack(changed))
    assert any(".acc.low" in problem for problem in problems)
    assert not any(".acc.value" in problem for problem in problems)


def test_a_changed_answer_changes_what_follows(pack, plugins, bundle_parts):
    lines = bundle_parts[ANSWERS].decode().splitlines()
    cells = lines[1].split(",")
    cells[5], cells[6] = cells[6], cells[5]
    lines[1] = ",".join(cells)
    problems = refused(plugins, pack({ANSWERS: "\n".join(lines).encode()}))
    assert any("scores[teacher/id].metrics.acc" in problem for problem in problems)


def cell(bundle_parts, row, column, value) -> bytes:
    lines = bundle_parts[ANSWERS].decode().splitlines()
    cells = lines[row].split(",")
    cells[column] = value
    lines[row] = ",".join(cells)
    return "\n".join(lines).encode()


def test_answers_that_are_none_are_refused(pack, plugins, bundle_parts):
    for row, column, value, message in (
        (1, 6, "nan", "1 rows hold what is no logit"),
        (2, 0, "id0", "1 ids are doubled"),
        (0, 0, "key", "expected the columns id, label"),
    ):
        problems = refused(plugins, pack({ANSWERS: cell(bundle_parts, row, column, value)}))
        assert len(problems) == 1
        assert problems[0].startswith(f"{ANSWERS}: expected one row an example, found {ANSWERS}: ")
        assert message in problems[0]


def test_a_swapped_gold_label_is_seen(pack, plugins, bundle_parts):
    problems = refused(plugins, pack({ANSWERS: cell(bundle_parts, 1, 1, "b")}))
    assert any("rows_sha256" in problem for problem in problems)


def test_parts_and_manifest_must_agree(pack, plugins, bundle_parts):
    changed = bundle_parts[ANSWERS] + b" "
    result, listed = (hashlib.sha256(part).hexdigest() for part in (changed, bundle_parts[ANSWERS]))
    assert refused(plugins, pack({ANSWERS: changed}, manifest=False)) == [
        f"{ANSWERS}: expected SHA-256 {listed}, found {result}"
    ]


@pytest.mark.parametrize(
    ("changed", "manifest", "message"),
    [
        ({ANSWERS: None}, False, f"{ANSWERS}: expected a part, as the manifest lists it, found"),
        ({ANSWERS: None}, True, f"{ANSWERS}: expected a part, found none"),
        ({"models.json": None}, True, "models.json: expected a part of every bundle, found none"),
        ({b.MANIFEST: None}, False, "manifest.json: expected the list of all parts, found no such"),
        ({RESULTS: None}, True, f"{RESULTS}: expected the results of the task, found none"),
        (
            {"tasks/made/predictions_x.csv": b""},
            False,
            "predictions_x.csv: expected no part that the manifest does not list, found one",
        ),
        (
            {"tasks/made/predictions_x.csv": b""},
            True,
            "predictions_x.csv: expected predictions of a set that the results name, found",
        ),
        ({"README.md": b""}, True, "README.md: expected a part of the layout, found another name"),
        ({"tasks/A/results.json": b""}, True, "tasks/A: expected a folder of the layout"),
        ({"models.json": b"[]"}, True, "models.json: expected made/control/0, made/control/1"),
        ({"models.json": b"["}, True, "models.json: expected strict JSON, found "),
        ({"config.json": b"\xff"}, True, "config.json: expected strict JSON, found 'utf-8'"),
        ({"config.json": b'{"a": 1, "a": 2}'}, True, "found key 'a' twice"),
        ({"config.json": b'{"a": NaN}'}, True, "found NaN, which is not JSON"),
        ({"config.json": b'{"a": 1e999}'}, True, "found 1e999, which is no float"),
        ({"config.json": b"[" * 100_000}, True, "config.json: expected strict JSON, found "),
        ({ANSWERS: b"\xff"}, True, f"{ANSWERS}: expected UTF-8 text, found 'utf-8' codec"),
        ({ANSWERS: b""}, True, f"{ANSWERS}: expected one row an example"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_bundle_with_other_parts_is_refused(pack, plugins, changed, manifest, message):
    assert message in refused(plugins, pack(changed, manifest=manifest))[0]


def test_the_hashes_of_models_must_be_there(pack, plugins, bundle_parts):
    models = bundle_parts["models.json"]
    for path, value, message in (
        ((0, "files"), {}, "models.json, 0.files: expected dictionary should have at least 1"),
        ((0, "files", "x"), "nan", "models.json, 0.files.x: expected string should match pattern"),
        (
            (0, "name"),
            "other",
            'models.json, made-teacher-seed0.name: expected "made-teacher-seed0"',
        ),
        ((0, "seed"), 5, "models.json: expected made/control/0"),
    ):
        problems = refused(plugins, pack({"models.json": edited(models, *path, value=value)}))
        assert message in problems[0]


def test_a_reference_knows_the_data(answered_run, bundle, tmp_path, finished_run, capsys):
    trusted = tmp_path / "trusted.zip"
    mine = finished_run(tmp_path / "mine", {"teacher": 0.5, "student": 0.5}, seeds=1)
    assert main(["submit", str(mine), "--output_path", str(trusted)]) == 0
    check = ["verify", str(bundle), "--reference", str(trusted)]
    assert main(check) == 0

    for name, other, place in (
        ("fingerprint", {"fingerprint": "0" * 64}, "fingerprint"),
        ("source", {"source": "hub"}, "source"),
        ("labels", {"turned": 1}, "sets.swapped.rows_sha256"),
    ):
        theirs = finished_run(tmp_path / name, {"student": 0.5}, **other)
        assert main(["submit", str(theirs), "--output_path", str(tmp_path / f"{name}.zip")]) == 0
        assert main(["verify", str(tmp_path / f"{name}.zip")]) == 0
        capsys.readouterr()
        check = ["verify", str(tmp_path / f"{name}.zip"), "--reference", str(trusted)]
        assert main(check) == 1
        assert f"{RESULTS}, {place}: expected " in capsys.readouterr().err
    check = ["verify", str(bundle), "--reference", str(trusted), "--reference", str(trusted)]
    assert main(check) == 2
    assert "another one is about made already" in capsys.readouterr().err


def test_a_reference_must_know_the_task_and_the_sets(verified_record):
    trusted = verified_record
    (task,) = other_data(trusted, {"other": trusted})
    assert str(task) == f"{RESULTS}: expected a task of the reference (other), found made"
    fewer = trusted.model_copy(update={"sets": trusted.sets[:1]})
    assert list(other_data(fewer, {"made": trusted})) == []
    (sets,) = other_data(trusted, {"made": fewer})
    assert str(sets) == f"{RESULTS}, sets: expected sets of the reference (id), found swapped"
    gaps = {"primary": {**trusted.primary, "id": "gap_id_ood"}}
    (gap,) = other_data(trusted.model_copy(update=gaps), {"made": trusted})
    assert str(gap) == f'{RESULTS}, gaps.id: expected "gap_avg_worst", found "gap_id_ood"'


def test_a_metric_that_nobody_has_is_refused(pack, plugins, bundle_parts):
    results = bundle_parts[RESULTS].replace(b'"ece"', b'"glory"')
    assert "unknown metric 'glory'" in refused(plugins, pack({RESULTS: results}))[0]


def test_the_command_names_what_does_not_hold(pack, bundle_parts, bundle, capsys):
    results = bundle_parts[RESULTS].replace(b'"value": 0.', b'"value": 0.9')
    folder = pack({RESULTS: results})
    assert main(["verify", str(folder), str(bundle)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{bundle}: holds; ")
    lines = err.splitlines()
    assert lines[0] == f"{folder}: REFUSED"
    assert len(lines) == 22
    assert lines[-1].endswith(" more")


def test_another_version_is_mentioned(pack, plugins, bundle_parts):
    results = edited(bundle_parts[RESULTS], "harness_plugin_version", value="0.0.1")
    assert verify(pack({RESULTS: results}), plugins)
    results = edited(results, "seeds", value=[])
    assert (
        "manifest.json: expected results of harness-plugin "
        in refused(plugins, pack({RESULTS: results}))[-1]
    )


def test_nothing_heavy_is_imported(bundle):
    code = (
        "import sys; from harness_plugin.cli.main import main; "
        f"assert main(['verify', {str(bundle)!r}]) == 0; "
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'accelerate'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
