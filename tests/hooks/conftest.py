"""Fixtures that several test files of the hooks share."""

import hashlib
import pickle
from dataclasses import replace
from unittest import mock

import bundles
import finished_reports
import pytest
from planted import EVEN, results

from harness_plugin.cli.main import main
from harness_plugin.pipeline.outputs import write_outputs
from harness_plugin_hooks.leaderboard import verify as verify_module

SAME = (EVEN, (91, 79, 80, 90), (90, 81, 79, 91))
WORSE = ((90, 50, 80, 90), (91, 49, 80, 90), (90, 51, 79, 91))
UNSURE = ((90, 70, 80, 90), (91, 79, 80, 90), (90, 84, 79, 91))


@pytest.fixture
def run_folder(toy_run, tmp_path):
    """The run's files in a folder of a test's own."""
    toy_run.copied(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def compared_runs(tmp_path_factory):
    """Results of a baseline and of candidates that pass, regress and are undecided."""
    root = tmp_path_factory.mktemp("results")
    for name, seeds in {"base": SAME, "same": SAME, "worse": WORSE, "unsure": UNSURE}.items():
        results(root / name, *seeds)
    return root


@pytest.fixture(scope="session")
def answered_run(tmp_path_factory, finished_run):
    """A finished run of the roles and accuracies of `bundles.RIGHT`."""
    return finished_run(tmp_path_factory.mktemp("run"), bundles.RIGHT)


@pytest.fixture(scope="session")
def bundle(answered_run):
    """A bundle that holds."""
    file = answered_run.parent / "whole.zip"
    assert main(["submit", str(answered_run), "--output_path", str(file), "--name", "Ours"]) == 0
    return file


@pytest.fixture(scope="session")
def bundle_parts(bundle) -> dict[str, bytes]:
    """Its parts by name."""
    return bundles.parts_of(bundle)


@pytest.fixture(scope="module")
def scored_once():
    """For `verify` the scores of the same answers, sets and bootstrap are computed once."""
    real, seen = verify_module.score_task, {}

    def scored(predictions, **how):
        about = {name: how.pop(name) for name in ("models", "source", "fingerprint")}
        starts = [(model.role, model.seed, model.start) for model in about["models"]]
        key = pickle.dumps((predictions, {**how, "metrics": sorted(how["metrics"])}, starts))
        key = hashlib.sha256(key).digest()
        if key not in seen:
            seen[key] = real(predictions, **how, **about)
        return replace(seen[key], **about)

    with mock.patch.object(verify_module, "score_task", scored):
        yield


@pytest.fixture(scope="session")
def submissions(tmp_path_factory, finished_run):
    """Bundles of one data set, one of them with two students: `bundles.SUBMISSIONS`."""
    folder = tmp_path_factory.mktemp("bundles")
    runs = tmp_path_factory.mktemp("runs")
    for file, (name, right, seeds) in bundles.SUBMISSIONS.items():
        model = "bert" if name != bundles.HOSTILE else "<b>bold</b>"
        run = finished_run(runs / file, right, name=model, seeds=seeds)
        assert main(["submit", str(run), "--output_path", str(folder / file), "--name", name]) == 0
    return folder


@pytest.fixture(scope="session")
def board_site(submissions):
    """The leaderboard of `submissions`."""
    out = submissions.parent / f"{submissions.name}-site"
    words = ["leaderboard", str(submissions), "--output_path", str(out)]
    assert main([*words, "--title", "Ours & <theirs>"]) == 0
    return out


@pytest.fixture(scope="session")
def embedded_report(finished_report, tmp_path_factory):
    """A report on generated data."""
    folder = tmp_path_factory.mktemp("embedded")
    return finished_report(folder, finished_reports.RIGHT, source="embedded")


@pytest.fixture(scope="session")
def hub_report(finished_report, tmp_path_factory):
    """The same answers, on two splits of a hub data set."""
    report = finished_report(tmp_path_factory.mktemp("hub"), finished_reports.RIGHT, source="hub")
    tasks = tuple(replace(scores, hub_sets=finished_reports.HUB) for scores in report.tasks)
    return replace(report, tasks=tasks)


@pytest.fixture(scope="session")
def written_files(embedded_report, plugins, tmp_path_factory):
    """Everything that a run writes."""
    folder = tmp_path_factory.mktemp("all")
    config = finished_reports.config(folder, log_samples=True, outputs=("all",))
    files = write_outputs(embedded_report, config, plugins)
    assert sorted(files) == sorted(path for path in folder.rglob("*") if path.is_file())
    return folder


@pytest.fixture(scope="session")
def lm_eval_store(tmp_path_factory):
    """A store in which our files for that harness are kept from one test to the next."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def lm_eval_files(lm_eval_store, monkeypatch):
    """Those files are made once."""
    monkeypatch.setenv("HARNESS_PLUGIN_CACHE", str(lm_eval_store))


@pytest.fixture
def quiet_lm_eval(lm_eval_files, monkeypatch):
    """That harness asks pip and git about the machine after each evaluation, which takes long."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


@pytest.fixture(scope="session")
def hans():
    """HANS-like rows, few of them, as a run loads them."""
    from lm_eval_runs import few_rows

    return few_rows()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, hans):
    """Two classifiers of two labels, one of three."""
    from lm_eval_runs import built

    return built(tmp_path_factory.mktemp("checkpoints"), hans)
