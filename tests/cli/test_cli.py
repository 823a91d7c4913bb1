"""The command line: quick where nothing is computed, one line and status 2 for bad input."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness_plugin import hookimpl
from harness_plugin.cli import main as cli
from harness_plugin.cli.parser import run_parser
from harness_plugin.cli.startup import COMMANDS, KINDS
from harness_plugin.plugins.registry import collect, make_manager

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")
HEAVY = {"torch", "transformers", "datasets", "evaluate", "accelerate", "numpy"}
LISTING = ("--version", "ls methods", "ls plugins", "compare --help", "ls x", "show x")
OPTIONS = ("--help", "run --help", "study --help", "--t x", "", "launch --x", "ls tasks")
LEFT_OUT = {"pydantic", "importlib.metadata", "tqdm", "email", "asyncio", "concurrent.futures"}
"""Of a listing: what of Python and the libraries costs most of a start."""
SETTINGS = ("show hans", "run")
"""What needs the settings' fields, or a task's."""


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        *((line.split(), HEAVY | LEFT_OUT) for line in (*LISTING, *OPTIONS)),
        *((line.split(), HEAVY) for line in SETTINGS),
    ],
)
def test_listing_and_help_import_nothing_heavy(arguments, heavy):
    program = (
        "import sys; from harness_plugin.cli.main import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', sorted({heavy!r} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.splitlines()[-1] == "HEAVY []"


def test_what_reads_results_is_imported_without_what_computes():
    """scipy.special takes half a second to import, and pyarrow.compute a fifth."""
    program = (
        "import sys, harness_plugin_hooks.report.making, harness_plugin_hooks.report.reading\n"
        "import harness_plugin.scoring.verdict, harness_plugin_hooks.leaderboard.submission\n"
        "heavy = {'scipy.special', 'pyarrow.compute', 'pandas', 'torch', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.splitlines() == ["[]"]


def test_help_shows_every_command_and_option(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in [*COMMANDS, *run_parser()._option_string_actions]:
        assert word in shown
    assert "at least 100, at most 1,000,000)" in " ".join(shown.split())
    assert "000.0" not in shown  # a limit against mistyped numbers is nobody's choice


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_listed(kind, capsys, plugins):
    assert cli.main(["ls", kind]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    names = [offer.name for offer in plugins[KINDS[kind]]]
    assert listed == (["task", *names] if kind == "tasks" else names)


def test_tasks_are_listed_with_what_they_are_of_and_asked_on(capsys):
    assert cli.main(["ls", "tasks"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    columns = [head.index(word) for word in ("modality", "sources", "sets", "summary")]
    (hans,) = (row for row in rows if row.startswith("hans "))
    cells = [hans[at:].split()[0] for at in columns[:3]]
    assert cells == ["text", "embedded,hub,path", "id,hans,id_mismatched"]
    assert all(row[columns[3] - 2 : columns[3]] == "  " for row in rows)


class Commands:
    """A plugin with one command, which gives back how many words it got."""

    def __init__(self, name):
        self.name = name

    @hookimpl
    def register_commands(self, register):
        register(self.name, "builtins:len", summary="count the words")


@pytest.fixture
def offering(monkeypatch):
    """Only this plugin is installed."""

    def install(name):
        manager = make_manager()
        manager.register(Commands(name), name="counter")
        monkeypatch.setattr(
            "harness_plugin.plugins.registry.load_plugins",
            lambda *kinds: collect(manager, None, *kinds),
        )

    return install


def test_a_plugin_s_command_gets_its_words_and_gives_the_exit_status(offering, capsys):
    offering("count")
    assert cli.main(["count", "a", "--b", "c"]) == 3
    assert cli.main(["coutn"]) == 2
    assert "unknown command 'coutn'. Did you mean count" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0
    assert "harness count    count the words" in capsys.readouterr().out


def test_a_built_in_command_cannot_be_replaced(offering, capsys):
    offering("run")
    assert cli.main(["ls", "commands"]) == 2
    assert "plugin 'counter' offers command 'run', which is built in" in capsys.readouterr().err


def test_tasks_of_a_folder_are_listed(capsys):
    assert cli.main(["ls", "tasks", "--include_path", str(ROOT / "tests" / "toy")]) == 0
    assert "toy" in [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def written_in(folder):
    """What lies in a folder but the store and what Python itself keeps beside a module."""
    kept = {"cache", "__pycache__"}
    return sorted(path for path in folder.rglob("*") if not kept & {*path.parts})


@pytest.fixture
def refused(tmp_path, capfd, monkeypatch):
    """Run a command that must fail: status 2, one line, no result, no file; the line."""
    monkeypatch.chdir(tmp_path)

    def check(*arguments, out="results"):
        before = written_in(tmp_path)
        assert cli.main(list(arguments)) == 2
        after = written_in(tmp_path)
        shown = capfd.readouterr()
        lines = [line for line in shown.err.splitlines() if line.strip()]
        assert len(lines) == 1, shown.err
        assert shown.out == ""
        assert after == before
        assert not (tmp_path / out).exists()
        assert not list(tmp_path.rglob("model-*"))
        return lines[0].removeprefix("harness: error: ")

    return check


QUICK = ["--threads", "1", "--precision", "no", "--attention", "sdpa"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "celeba_bais"], "unknown task 'celeba_bais'. Did you mean celeba_bias"),
        (["--taks", TOY], "unknown option '--taks'. Did you mean --tasks"),
        (["lst"], "unknown command 'lst'. Did you mean ls"),
        (["ls", "method"], "unknown kind of thing to list 'method'. Did you mean methods"),
        (["run"], "no task given: --tasks NAME"),
        (["--tasks", TOY, "more"], "unexpected argument 'more'"),
        (["--tasks"], "argument --tasks: expected one argument"),
        (["--tasks", TOY, "--outputs", "lm_evla,table"], "output 'lm_evla'. Did you mean lm_eval"),
        (["--tasks", TOY, "--seeds", "a"], "expected numbers, e.g. 0,1,2"),
        (["--tasks", TOY, "--threads", "0"], "expected a positive number or auto"),
        (["--tasks", TOY, "--limit", "0"], "limit: "),
        (["--tasks", TOY, "--method", "grup_dro"], "method 'grup_dro'. Did you mean group_dro"),
        (
            ["--tasks", TOY, "--teacher", "bert-pcio"],
            "backbone 'bert-pcio'. Did you mean bert-pico",
        ),
        (
            ["--tasks", TOY, "--student", "bert-pcio"],
            "backbone 'bert-pcio'. Did you mean bert-pico",
        ),
        (["--tasks", TOY, "--student", "resnet-18"], "reads image, the task is text"),
        (
            ["--tasks", TOY, "--set", "students.student.distiller=kdd"],
            "distiller 'kdd'. Did you mean",
        ),
        (["--tasks", TOY, "--set", "toy.empty_group=true"], "no example of group negative/sun"),
        (
            ["--tasks", TOY, "--set", "toy.annotated=false"],
            "needs group labels on the training rows",
        ),
        (["--tasks", TOY, "--limit", "3"], "3 rows cannot hold each of the 4 groups of split"),
        (["--tasks", TOY, "--data", "hub"], "unknown data source of task toy 'hub'"),
        (["--tasks", "celeba_bias", "--data", "hub"], "the Hugging Face hub cannot be reached"),
        (["--tasks", "celeba_bias", "--data", "nowhere"], "nowhere"),
        (["--tasks", TOY, "--output_path", "x.json"], "expected a folder, this names a file"),
        (["--tasks", TOY, "--use_cache", "/dev/null"], "--use_cache /dev/null: expected a folder"),
        (["--tasks", TOY, "--output_path", "/proc/nowhere"], "cannot be written"),
        (["--tasks", TOY, "--device", "cuda:0"], "use cpu, cuda, mps or xpu"),
        (
            ["--tasks", TOY, "--control", "x"],
            "--control names a checkpoint, which needs --eval_only",
        ),
        (["--tasks", TOY, "--eval_only"], "is a preset with random weights"),
        (["--tasks", TOY, "--config", "none.yaml"], "none.yaml: cannot be read"),
        (["launch", "--num_processes", "0", "--tasks", TOY], "expected 1 or more"),
        (["launch", "--num_processes", "2", "--taks", TOY], "Did you mean --tasks"),
        (["validate", "celeba_bais"], "Did you mean celeba_bias"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(refused, arguments, message):
    if "--tasks" in arguments and arguments[0] != "launch":
        arguments = [*QUICK, *arguments]
    assert message in refused(*arguments)


def test_a_task_file_with_a_mistake_names_the_line(refused, tmp_path):
    text = Path(TOY).read_text().replace("modality: text", "modality: smell")
    (tmp_path / "mine.yaml").write_text(text)
    for command in (["--tasks", "mine.yaml"], ["validate", "mine.yaml"]):
        assert refused(*command).startswith("mine.yaml:4: modality: Input should be")


def test_a_bad_row_is_named(refused, tmp_path):
    shutil.copy(TOY, tmp_path / "toy.yaml")
    loader = (ROOT / "tests" / "toy" / "toy_data.py").read_text()
    bad = loader.replace("label_texts=[LABELS[label[i]] for", "label_texts=['maybe' for")
    (tmp_path / "toy_data.py").write_text(bad)
    message = refused("--tasks", "toy.yaml")
    assert message.startswith(
        "train: row 1: unknown label 'maybe'; expected one of negative, posit"
    )


def test_a_second_task_that_cannot_work_is_refused_before_the_first_is_trained(refused, tmp_path):
    other = Path(TOY).read_text().replace("task: toy", "task: other")
    (tmp_path / "other.yaml").write_text(other)
    shutil.copy(ROOT / "tests" / "toy" / "toy_data.py", tmp_path)
    sets = ["--set", "other.method=no_such_method"]
    assert "unknown method 'no_such_method'" in refused(
        *QUICK, "--tasks", f"{TOY},other.yaml", *sets
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0": "cat", "1": "dog"}, "student predicts label cat, dog, but set 'id' of task"),
        ({"0": "LABEL_0", "1": "LABEL_1"}, "--set student.labels="),
        (None, "no weights (model.safetensors or "),
    ],
)
def test_checkpoints_that_cannot_be_scored_are_refused(toy_run, refused, tmp_path, change, message):
    import json

    teacher = toy_run.checkpoint("teacher")
    student = shutil.copytree(toy_run.checkpoint("student"), tmp_path / "student")
    if change is None:
        (student / "model.safetensors").unlink()
    else:
        config = json.loads((student / "config.json").read_text())
        (student / "config.json").write_text(json.dumps({**config, "id2label": change}))
    models = ["--teacher", str(teacher), "--student", str(student)]
    assert message in refused(*QUICK, "--tasks", TOY, "--eval_only", *models)


def test_an_interruption_is_said_and_has_its_own_status(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", interrupted)
    assert cli.main(["--tasks", TOY]) == 130
    assert "the same command continues" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert cli.main([]) == 130
    assert capsys.readouterr().err == ""


def test_validate_shows_the_groups(capsys):
    assert cli.main(["validate", TOY]) == 0
    shown = capsys.readouterr().out
    assert "positive/sun" in shown
    assert "toy: valid, embedded data" in shown


def test_validate_finds_a_task_by_its_folder_and_takes_options(capsys):
    folder = str(ROOT / "tests" / "toy")
    assert cli.main(["validate", "toy", "--include_path", folder, "--set", "toy.rows=60"]) == 0
    assert "60" in capsys.readouterr().out


def test_the_checkout_s_launcher_and_the_module_are_the_command():
    environment = {**os.environ, "PYTHONPATH": ""}
    for command in (["harness"], ["-m", "harness_plugin"], ["harness_plugin"]):
        out = subprocess.run(
            [sys.executable, *command, "--version"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert out.stdout == "0.1.0\n"
