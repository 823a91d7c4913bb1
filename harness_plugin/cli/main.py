"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness_plugin.errors import HarnessError, unknown

if TYPE_CHECKING:
    from harness_plugin.plugins.registry import Plugins

COMMANDS = ("run", "ls", "validate", "launch")
KINDS = {
    "tasks": "task",
    "methods": "method",
    "bias_models": "bias_model",
    "group_inferences": "group_inference",
    "distillers": "distiller",
    "augmentations": "augmentation",
    "remedies": "remedy",
    "backbones": "backbone",
    "metrics": "metric",
    "analyses": "analysis",
    "outputs": "output",
    "commands": "command",
}
EXAMPLES = """\
examples:
  accelerate launch harness --tasks hans,celeba_bias
  harness --tasks hans --data ../data --config examples/real_nli.yaml
  harness --tasks hans --set method=poe --set student.epochs=6 --seeds 0,1,2,3,4
  harness --tasks hans --eval_only --teacher big/ --student small/ --data ../data
  harness launch --num_processes 2 --tasks celeba_bias
  harness ls methods
  harness validate my_task.yaml --data ../data

`harness --tasks …` means `harness run --tasks …`, and `harness COMMAND --help` shows a command's
options. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted (the same command continues).
"""


class Parser(argparse.ArgumentParser):
    """argparse with our error sentence: near matches, exit status 2, no usage block."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing: `main` prints one line."""
        raise HarnessError(f"{message} (see `harness {self.command} --help`)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, with near matches for an option that does not exist."""
        given, rest = self.parse_known_args(args, namespace)
        if rest and rest[0].startswith("--"):
            raise unknown("option", rest[0].partition("=")[0], self._option_string_actions)
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return given

    @property
    def command(self) -> str:
        """The sub-command this parser is for."""
        return self.prog.partition(" ")[2] or "run"


def main(argv: list[str] | None = None) -> int:
    """Run one command; the return value is the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return dispatch(argv)
    except HarnessError as error:
        if is_main_process():
            print(f"harness: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads us, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if is_main_process():
            print(
                "harness: interrupted; finished stages and checkpoints are kept, "
                "the same command continues.",
                file=sys.stderr,
            )
        return 130


def is_main_process() -> bool:
    """Whether this process speaks for all (launchers set RANK)."""
    return os.environ.get("RANK", "0") == "0"


def dispatch(argv: list[str]) -> int:
    """Find the command and run it."""
    if argv[:1] in (["-h"], ["--help"]):
        print(top_parser().format_help())
        return 0
    if argv[:1] == ["--version"]:
        from harness_plugin import __version__

        print(__version__)
        return 0
    if not argv:
        print(top_parser().format_help())
        return 2
    command, rest = ("run", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    if command in COMMANDS:
        return {"run": run, "ls": ls, "validate": validate, "launch": launch}[command](rest)
    offered = installed_plugins()["command"]
    if command not in offered:
        raise unknown("command", command, [*COMMANDS, *offered.offers])
    return int(offered.get(command)(rest))


def top_parser() -> argparse.ArgumentParser:
    """What `harness --help` shows: the commands, then every option of `run`."""
    parser = run_parser()
    parser.prog = "harness"
    parser.usage = "harness [run] --tasks NAME[,NAME] [options]\n" + "".join(
        f"       harness {line}\n"
        for line in (
            f"ls {'|'.join(KINDS)}|plugins",
            "validate TASK|FILE.yaml [--data SOURCE]",
            "launch [--num_processes N] [run options]",
            *(f"{offer.name:<10} {offer.summary}" for offer in installed_plugins()["command"]),
        )
    )
    parser.description = (
        "Does debiasing survive distillation? Trains a debiased teacher, distils it into a "
        "student, trains the student's twin without a teacher, and reports what is kept."
    )
    return parser


def comma_list(text: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def seed_list(text: str) -> tuple[int, ...]:
    """`0,1,2` as (0, 1, 2)."""
    try:
        return tuple(int(part) for part in comma_list(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, e.g. 0,1,2") from None


def int_or_auto(text: str) -> int | str:
    """A positive number, or "auto"."""
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number or auto")
    return int(text)


def run_parser() -> Parser:
    """Every option of `harness run`. An option that is not given is None: the file decides."""
    parser = Parser(
        prog="harness run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--tasks", type=comma_list, metavar="NAME[,NAME]", help="tasks to run")
    what.add_argument(
        "--data",
        metavar="embedded|hub|DIR",
        help="embedded: generated (default where there is one); hub: the real sets; DIR: your copy",
    )
    what.add_argument("--seeds", "--seed", type=seed_list, metavar="N[,N]", help="default 0,1,2")
    what.add_argument("--limit", type=int, metavar="N", help="rows a split, stratified by group")
    what.add_argument(
        "--include_path",
        action="append",
        metavar="DIR",
        help="folder with more task YAML files (repeatable)",
    )
    models = parser.add_argument_group("models and methods")
    models.add_argument("--teacher", metavar="MODEL", help="preset, checkpoint folder or hub id")
    models.add_argument("--student", metavar="MODEL", help="preset, checkpoint folder or hub id")
    models.add_argument("--control", metavar="MODEL", help="with --eval_only: the student's twin")
    models.add_argument(
        "--init", choices=("scratch", "pretrained"), help="random weights or the hub's, for presets"
    )
    models.add_argument("--method", metavar="NAME", help="debiasing method (harness ls methods)")
    models.add_argument(
        "--bias_model", metavar="NAME", help="of methods that need one (harness ls bias_models)"
    )
    models.add_argument(
        "--group_inference",
        metavar="NAME",
        help="find training groups instead of reading them (harness ls group_inferences)",
    )
    models.add_argument(
        "--select",
        choices=("none", "average", "worst_group"),
        help="which epoch's weights count: the last (default), or the best on the validation split",
    )
    models.add_argument(
        "--eval_only", action="store_true", default=None, help="score checkpoints, train nothing"
    )
    models.add_argument(
        "--config", type=Path, metavar="FILE", help="run file; a run writes its own beside results"
    )
    models.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting, for all tasks or one: teacher.epochs=3, hans.collapse=sum (repeatable)",
    )
    models.add_argument(
        "--trust_remote_code",
        action="store_true",
        default=None,
        help="run Python code that a hub checkpoint brings (off)",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, xpu; default: the best")
    machine.add_argument("--threads", type=int_or_auto, metavar="N|auto", help="CPU threads")
    machine.add_argument(
        "--precision", "--mixed_precision", choices=("auto", "no", "bf16", "fp16"), help="auto"
    )
    machine.add_argument("--attention", choices=("auto", "eager", "sdpa"), help="auto")
    machine.add_argument("--compile", action="store_true", default=None, help="use torch.compile")
    machine.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="examples in a prediction batch, default 64 (training: --set teacher.batch_size=N)",
    )
    machine.add_argument(
        "--checkpoint_steps", type=int, metavar="N", help="updates between checkpoints (500)"
    )
    out = parser.add_argument_group("results")
    out.add_argument("--output_path", metavar="DIR", help="results folder (default: results)")
    out.add_argument(
        "--log_samples", action="store_true", default=None, help="write every prediction as well"
    )
    out.add_argument(
        "--outputs",
        type=comma_list,
        metavar="NAME[,NAME]",
        help="which result files to write (harness ls outputs); default: all",
    )
    out.add_argument(
        "--analyze",
        nargs="?",
        type=comma_list,
        const=("all",),
        metavar="NAME[,NAME]",
        help="then look inside the models (harness ls analyses); without a name: all analyses",
    )
    out.add_argument(
        "--use_cache",
        metavar="DIR",
        help="stage store (default: $HARNESS_PLUGIN_CACHE or ~/.cache/harness_plugin)",
    )
    out.add_argument("--log_with", metavar="TRACKER", help="wandb, tensorboard, … (Accelerate)")
    out.add_argument("--resamples", type=int, metavar="N", help="bootstrap resamples (1000)")
    return parser


def run(argv: list[str]) -> int:
    """`harness run`."""
    given = vars(run_parser().parse_args(argv))
    sets, file = given.pop("set"), given.pop("config")
    given["eval_batch_size"] = given.pop("batch_size")
    shortcuts = model_flags(given)
    from harness_plugin.config.settings import run_config

    config = run_config(file, given, [*shortcuts, *sets])
    plugins = installed_plugins()
    quiet_libraries()
    from harness_plugin.run import run as run_tasks

    run_tasks(config, plugins)
    return 0


def model_flags(given: dict[str, Any]) -> list[str]:
    """The model and method flags as the settings they stand for."""
    import json

    init = given.pop("init")
    names = {"teacher": "teacher.model", "student": "student.model"}
    names |= {
        name: name for name in ("method", "bias_model", "group_inference", "select", "control")
    }
    values = {names[flag]: given.pop(flag) for flag in names}
    values |= {"teacher.init": init, "student.init": init}
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]


def quiet_libraries() -> None:
    """One program, one set of progress bars: ours. Warnings still come through."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()


def installed_plugins() -> Plugins:
    """The installed plugins; broken ones are reported once, by the main process.

    Raises HarnessError for a plugin that offers a command by the name of a built-in one.
    """
    from harness_plugin.plugins.registry import BLOCK, load_plugins

    plugins = load_plugins()
    for offer in plugins["command"]:
        if offer.name in COMMANDS:
            raise HarnessError(
                f"plugin {offer.plugin!r} offers command {offer.name!r}, which is built in; "
                f"block it with {BLOCK}={offer.plugin}."
            )
    if is_main_process():
        for broken in plugins.broken:
            print(f"harness: {broken}", file=sys.stderr)
    return plugins


def ls(argv: list[str]) -> int:
    """`harness ls`: names and one line of help each."""
    parser = Parser(prog="harness ls", description="List what is installed.", allow_abbrev=False)
    parser.add_argument("kind", metavar="|".join([*KINDS, "plugins"]))
    parser.add_argument("--include_path", action="append", default=[], metavar="DIR")
    given = parser.parse_args(argv)
    if given.kind not in [*KINDS, "plugins"]:
        raise unknown("kind of thing to list", given.kind, [*KINDS, "plugins"])
    plugins = installed_plugins()
    if given.kind == "plugins":
        rows = [
            (name, "blocked" if plugin is None else str(getattr(plugin, "__name__", plugin)))
            for name, plugin in sorted(plugins.manager.list_name_plugin())
        ]
        rows += [(broken.name, f"BROKEN: {broken.reason}") for broken in plugins.broken]
    else:
        rows = [(offer.name, offer.summary) for offer in plugins[KINDS[given.kind]]]
    if given.include_path and given.kind == "tasks":
        from harness_plugin.data.task import read_task, task_files

        found = [read_task(p, plugins["task"]) for p in task_files(given.include_path)]
        rows = sorted(rows + [(task.task, task.summary) for task in found])
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}")
    return 0


def validate(argv: list[str]) -> int:
    """`harness validate`: read a task, load its data, check both, show the group table."""
    parser = Parser(
        prog="harness validate",
        description="Read a task, load its data and check both; prints the group table.",
        allow_abbrev=False,
    )
    parser.add_argument("task", metavar="TASK|FILE.yaml")
    parser.add_argument(
        "--data",
        metavar="embedded|hub|DIR",
        help="default: embedded, or the table of a task of your own",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="run file with data, options")
    parser.add_argument("--include_path", action="append", default=[], metavar="DIR")
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(argv)
    from harness_plugin.data.task import find_task

    plugins = installed_plugins()
    find_task(given.task, plugins["task"], given.include_path)  # a bad file needs no heavy import
    quiet_libraries()
    from harness_plugin.pipeline.validate import validate as validate_task

    validate_task(
        given.task,
        {"data": given.data, "limit": given.limit},
        plugins,
        given.include_path,
        given.config,
        given.set,
    )
    return 0


def launch(argv: list[str]) -> int:
    """`harness launch`: start N processes that are checked to be N."""
    from harness_plugin.cli.launch import launch as start

    return start(argv)


if __name__ == "__main__":
    sys.exit(main())
