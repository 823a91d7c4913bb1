"""`harness lm-eval`, lm_eval's own command line, and two processes; what is written is strict."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip(
    "lm_eval", reason="lm_eval is not installed: pip install 'debias-transfer[lm-eval]'"
)

from lm_eval.api.filter import Filter
from lm_eval.api.model import LM
from lm_eval.api.registry import get_filter, get_model
from lm_eval.loggers import EvaluationTracker
from strict_json import lines, read

from harness_plugin import HarnessError
from harness_plugin._version import DISTRIBUTION
from harness_plugin.cli import main as cli
from harness_plugin_hooks.adapters import lm_eval_run
from harness_plugin_hooks.adapters.lm_eval_tasks import folder
from harness_plugin_hooks.commands.harnesses import lm_eval as command

pytestmark = pytest.mark.usefixtures("quiet_lm_eval")

TOY = Path(__file__).parents[1] / "toy" / "toy.yaml"


@pytest.fixture(autouse=True)
def _no_logging(monkeypatch):
    monkeypatch.setattr("lm_eval.utils.setup_logging", lambda *_: None)


@pytest.fixture(scope="module")
def toy_tasks(tmp_path_factory):
    """The toy task's two evaluation sets as files for lm_eval."""
    target = tmp_path_factory.mktemp("toy_tasks")
    for name in ("id", "swapped"):
        (target / f"toy_{name}.yaml").write_text(
            "class: !function harness_plugin_hooks.adapters.lm_eval_task.TextTask\n"
            f"task: toy_{name}\n"
            f"dataset_kwargs: {{task: {TOY}, set: {name}}}\n"
        )
    return target


def words(toy_run, *more, tasks="toy_swapped"):
    """A command line without the program's name."""
    values = ["run", "--model", "seqcls", "--tasks", tasks, "--device", "cpu", "--batch_size", "32"]
    return [
        *values,
        "--model_args",
        f"pretrained={toy_run.checkpoint('teacher')}",
        *map(str, more),
    ]


def results(out):
    (file,) = Path(out).glob("*/results_*.json")
    return read(file)


def test_results_are_those_of_a_run_in_strict_json(toy_run, toy_tasks, tmp_path, capsys):
    more = ("--include_path", toy_tasks, "--output_path", tmp_path, "--log_samples")
    assert cli.main(["lm-eval", *words(toy_run, *more, "--metadata", "resamples=50")]) == 0
    assert "worst_group_acc" in capsys.readouterr().out
    result = results(tmp_path)
    row = result["results"]["toy_swapped"]
    (numbers,) = [
        s["metrics"]
        for s in toy_run.record()["scores"]
        if (s["role"], s["split"]) == ("teacher", "swapped")
    ]
    for name in ("acc", "f1", "worst_group_acc", "gap_avg_worst", "gap_aligned_conflicting"):
        assert row[f"{name},none"] == numbers[name]["value"]
    assert row["worst_group_acc_stderr,none"] == "N/A"  # its own table cannot print null
    assert 0 <= row["acc,none"] <= 1
    assert list(row)[:4] == ["name", "alias", "sample_len", "acc,none"]
    (samples,) = tmp_path.glob("*/samples_toy_swapped_*.jsonl")
    rows = lines(samples)
    assert len(rows) == 100
    assert all(len(response) == 1 for row in rows for response in row["resps"])
    assert rows[0]["doc"]["id"].startswith("swapped")


def test_an_undefined_number_is_null_with_a_reason(toy_run, toy_tasks, tmp_path):
    more = ("--include_path", toy_tasks, "--output_path", tmp_path, "--limit", "2")
    assert cli.main(["lm-eval", *words(toy_run, *more)]) == 0
    result = results(tmp_path)
    assert result["results"]["toy_swapped"]["worst_group_acc,none"] is None
    assert (
        "no group has rows enough"
        in (result["configs"]["toy_swapped"]["metadata"]["undefined"]["worst_group_acc"])
    )


def test_a_path_that_cannot_be_written_is_refused_before_anything_runs(toy_run, tmp_path, capsys):
    (tmp_path / "file").touch()
    more = ("--output_path", tmp_path / "file" / "below")
    assert cli.main(["lm-eval", *words(toy_run, *more, tasks="hans")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_failure_to_write_is_not_exit_status_0(toy_run, toy_tasks, tmp_path, capsys):
    name = str(toy_run.checkpoint("teacher")).replace("/", "__")
    (tmp_path / name).touch()  # a file where the folder should be
    more = ("--include_path", toy_tasks, "--output_path", tmp_path, "--limit", "8")
    assert cli.main(["lm-eval", *words(toy_run, *more)]) == 2
    assert "results were not written" in capsys.readouterr().err


def test_nothing_written_at_all_is_an_error(toy_run, tmp_path, monkeypatch):
    monkeypatch.setattr(lm_eval_run, "execute", lambda values: None)
    monkeypatch.setattr(lm_eval_run.StrictTracker, "written", [])
    with pytest.raises(HarnessError, match="lm_eval has written no results"):
        command.main(words(toy_run, "--output_path", tmp_path))


def tracker(kind, path):
    out = kind(output_path=str(path))
    out.general_config_tracker.log_experiment_args("seqcls", {"pretrained": "m"}, None, None, False)
    return out


def test_their_writer_lets_nan_and_failures_through_and_ours_does_not(tmp_path):
    bad = {"results": {"t": {"acc,none": float("nan"), "acc_stderr,none": "N/A"}}, "configs": {}}
    tracker(EvaluationTracker, tmp_path / "theirs").save_results_aggregated(dict(bad))
    (theirs,) = (tmp_path / "theirs").glob("m/*.json")
    assert "NaN" in theirs.read_text()
    out = tracker(lm_eval_run.StrictTracker, tmp_path / "ours")
    out.save_results_aggregated(bad)
    result = results(tmp_path / "ours")["results"]["t"]
    assert result == {"acc,none": None, "acc_stderr,none": "N/A"}
    sample = {"arguments": [("a", "b")], "resps": [[1]], "filtered_resps": [1], "target": "x"}
    out.save_results_samples("t", [{**sample, "acc": float("nan")}])
    (file,) = (tmp_path / "ours").glob("m/samples_t_*.jsonl")
    assert read(file)["acc"] is None
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "m").touch()
    tracker(EvaluationTracker, tmp_path / "full").save_results_aggregated(dict(bad))  # no error
    with pytest.raises(HarnessError, match="results were not written"):
        tracker(lm_eval_run.StrictTracker, tmp_path / "full").save_results_aggregated(bad)
    as_file = tracker(lm_eval_run.StrictTracker, tmp_path / "name.json")
    as_file.save_results_aggregated(bad)
    assert len(list(tmp_path.glob("name_*.json"))) == 1


def test_tasks_of_theirs_are_looked_up_only_where_they_are_asked_for():
    ours = [str(folder())]
    assert lm_eval_run.local_only(["hans,debias_anli_sets"], ours)
    assert lm_eval_run.local_only(["cad_*", "some/file.yaml"], ours)
    assert not lm_eval_run.local_only(["hans", "hellaswag"], ours)
    assert not lm_eval_run.local_only([], ours)


def test_their_classes_are_put_back():
    import lm_eval.loggers

    with pytest.raises(RuntimeError), lm_eval_run.replaced(lm_eval.loggers, "EvaluationTracker", 1):
        raise RuntimeError
    assert lm_eval.loggers.EvaluationTracker is EvaluationTracker


def test_without_lm_eval_the_pip_command_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["lm-eval", "run", "--tasks", "hans"]) == 2
    assert "pip install 'debias-transfer[lm-eval]'" in capsys.readouterr().err


def test_an_unknown_task_has_near_matches(toy_run, monkeypatch, capsys):
    monkeypatch.setattr(lm_eval_run, "local_only", lambda tasks, paths: True)  # not their 14,000
    assert cli.main(["lm-eval", *words(toy_run, tasks="hanss")]) == 2
    assert "unknown lm_eval task 'hanss'. Did you mean hans" in capsys.readouterr().err


def test_the_folder_is_printed(capsys):
    assert cli.main(["lm-eval-path"]) == 0
    assert capsys.readouterr().out.strip() == str(folder())


GROUPS = {"models": (get_model, LM), "filters": (get_filter, Filter)}


@pytest.mark.parametrize("group", GROUPS)
def test_entry_points_name_the_defining_module_and_what_the_group_wants(group):
    mine = [
        entry
        for entry in entry_points(group=f"lm_eval.{group}")
        if entry.dist and entry.dist.name == DISTRIBUTION
    ]
    assert mine
    for entry in mine:
        result = entry.load()
        assert entry.value == f"{result.__module__}:{result.__name__}"
        known, kind = GROUPS[group]
        assert known(entry.name) is result
        assert issubclass(result, kind)


def start(*command, **environment):
    launchers = ("ACCELERATE_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(launchers)}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.slow
def test_two_processes_write_what_one_writes(toy_run, toy_tasks, tmp_path, monkeypatch):
    # 7 documents of one set, an odd number; 1 of the other: the second process has none of it
    chosen = json.dumps({"toy_id": [0, 1, 2, 3, 4, 5, 6], "toy_swapped": [0]})
    tasks = ",".join(str(toy_tasks / f"toy_{name}.yaml") for name in ("id", "swapped"))
    more = ("--log_samples", "--samples", chosen)
    two = start(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("-m", "harness_plugin", "lm-eval"),
        *words(toy_run, *more, "--output_path", tmp_path / "two", tasks=tasks),
        ACCELERATE_USE_CPU="true",
    )
    assert two.returncode == 0, two.stderr
    one = words(toy_run, *more, "--output_path", tmp_path / "one", tasks=tasks)
    assert cli.main(["lm-eval", *one]) == 0
    result = {name: results(tmp_path / name) for name in ("one", "two")}
    assert result["one"]["n-samples"]["toy_id"]["effective"] == 7
    for key in ("results", "task_hashes", "n-samples", "higher_is_better"):
        assert result["two"][key] == result["one"][key], key
    of_process = {}
    for name in result:
        for file in (tmp_path / name).glob("*/samples_*.jsonl"):
            rows = lines(file)
            of_process[name, rows[0]["doc"]["id"][:2]] = rows
    assert len(of_process) == 4
    for rows in of_process.values():
        assert [row["doc_id"] for row in rows] == list(range(len(rows)))
        assert all(len(response) == 1 for row in rows for response in row["resps"])


THEIRS = """
import torch.utils.collect_env
torch.utils.collect_env.get_pretty_env_info = str
from functools import partialmethod
from lm_eval.tasks import TaskManager
TaskManager.__init__ = partialmethod(TaskManager.__init__, include_defaults=False)
from lm_eval.__main__ import cli_evaluate
cli_evaluate()
from lm_eval.api.registry import get_aggregation, get_filter, get_metric, get_model
get_model("dummy"), get_metric("acc"), get_filter("take_first"), get_aggregation("mean")([1])
"""
"""What the console script of lm_eval does; then whether its own names are known.

It registers them when none is registered, and a task given as a file brings ours in before. Its
report on the environment, for which it asks pip, and its own 14,000 tasks are left out.
"""


@pytest.mark.slow
def test_their_own_command_line_takes_our_files_and_model_type(toy_run, toy_tasks, tmp_path):
    more = ("--output_path", tmp_path, "--include_path", folder())
    words_of_command = words(toy_run, *more, tasks=toy_tasks / "toy_swapped.yaml")
    done = start("-c", THEIRS, *words_of_command)
    assert done.returncode == 0, done.stderr
    row = results(tmp_path)["results"]["toy_swapped"]
    (numbers,) = [
        s["metrics"]
        for s in toy_run.record()["scores"]
        if (s["role"], s["split"]) == ("teacher", "swapped")
    ]
    assert row["worst_group_acc,none"] == numbers["worst_group_acc"]["value"]
