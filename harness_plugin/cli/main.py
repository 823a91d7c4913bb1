"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from harness_plugin._version import EXTRA_OF, install_command
from harness_plugin.cli.parser import (
    Parser,
    add_file_options,
    add_run_options,
    config_from_flags,
    run_parser,
)
from harness_plugin.cli.startup import COMMANDS, KINDS, installed_plugins, is_main_process
from harness_plugin.errors import DiskError, HarnessError, unknown
from harness_plugin.machine.launching import end_with_launcher
from harness_plugin.machine.progress import lines_of_a_log, quiet_libraries
from harness_plugin.store.files import disk_errors, path_error


def main(argv: list[str] | None = None) -> int:
    """Run one command; the return value is the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    end_with_launcher()
    atexit.register(gc.freeze)  # or Python's end looks for garbage once more
    try:
        with disk_errors(Path()), lines_of_a_log():
            return dispatch(argv)
    except HarnessError as error:
        return report_error(error)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_OF:
            raise
        extra = EXTRA_OF[module]
        print(
            f"harness: error: {module} is not installed: this command needs the extra "
            f"`{extra}`: {install_command(extra)}",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # whoever reads us, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if is_main_process():
            below = "\x1b[J" if sys.stderr.isatty() else ""  # what bars have left there
            print(
                f"{below}harness: interrupted; finished stages and checkpoints are kept, "
                "the same command continues.",
                file=sys.stderr,
            )
        return 130
    except (OSError, ValueError) as error:
        if (named := path_error(error)) is None:
            raise
        return report_error(named)


def report_error(error: HarnessError) -> int:
    """Print an error's line, in several processes once; the exit status."""
    if is_main_process() or isinstance(error, DiskError):  # every process may meet its own
        print(f"harness: error: {error}", file=sys.stderr)
    return error.status


def dispatch(argv: list[str]) -> int:
    """Find the command and run it."""
    if argv[:1] in (["-h"], ["--help"]):
        print(top_parser().format_help())
        return 0
    if argv[:1] == ["--version"]:
        from harness_plugin._version import __version__

        print(__version__)
        return 0
    if not argv:
        print(top_parser().format_help())
        return 2
    command, rest = ("run", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    if command in COMMANDS:
        return built_in(command)(rest)
    offered = installed_plugins()["command"]
    if command not in offered:
        raise unknown("command", command, [*COMMANDS, *offered.offers])
    return int(offered.offer(command).function()(rest))


def top_parser() -> argparse.ArgumentParser:
    """The text of `harness --help`: the commands, then every option of `run`."""
    parser = run_parser()
    parser.prog = "harness"
    commands = {
        "ls": f"KIND: {', '.join(KINDS)} or plugins",
        "show": "[KIND] NAME: options, needs, sources of anything that has a name",
        "validate": "TASK|FILE.yaml [--data SOURCE]: read a task and its data, check both",
        "launch": "[--num_processes N] [run options]: a run in several processes",
        **{o.name: o.summary for o in installed_plugins(commands_only=True)["command"]},
    }
    width = max(map(len, commands))
    parser.usage = "\n".join(
        [
            "harness [run] --tasks NAME[,NAME] [options]",
            *(
                textwrap.fill(
                    f"{name:<{width}} {summary}",
                    max(40, shutil.get_terminal_size().columns - 1),
                    initial_indent="       harness ",
                    subsequent_indent=" " * (16 + width),
                )
                for name, summary in commands.items()
            ),
        ]
    )
    parser.description = (
        "Does debiasing survive distillation? Trains a debiased teacher, distils it into a "
        "student, trains the student's twin without a teacher, and reports what is kept."
    )
    return parser


def run(argv: list[str]) -> int:
    """`harness run`."""
    config = config_from_flags(vars(run_parser().parse_args(argv)))

    plugins = installed_plugins()
    if sys.stderr.isatty() and is_main_process():  # it takes seconds in which nothing moves
        print("harness: importing torch and transformers …", file=sys.stderr)
    from harness_plugin.machine.process_state import importing

    with importing():
        quiet_libraries()
        import harness_plugin.run_tasks  # noqa: F401  (with all that a run needs)
        from harness_plugin.study.side_by_side import run as run_tasks

    run_tasks(config, plugins)
    return 0


def validate(argv: list[str]) -> int:
    """`harness validate`: read a task, load its data, check both, show the group table."""
    parser = Parser(
        "harness validate",
        description="Read a task, load its data and check both; prints the group table.",
    )
    parser.add_argument("task", metavar="TASK|FILE.yaml")
    add_run_options(
        parser,
        "data",
        "include_path",
        "limit",
        data="default: embedded, or the table of a task of your own",
    )
    add_file_options(parser)
    args = parser.parse_args(argv)
    from harness_plugin.data.task import find_task

    plugins = installed_plugins()
    folders = args.include_path or []
    find_task(args.task, plugins["task"], folders)  # a bad file needs no heavy import
    quiet_libraries()
    from harness_plugin.cli.validate import validate_task

    validate_task(
        args.task,
        {"data": args.data, "limit": args.limit},
        plugins,
        folders,
        args.config,
        args.set,
    )
    return 0


def built_in(command: str) -> Callable[[list[str]], int]:
    """The function of a built-in command."""
    if command == "ls":
        from harness_plugin.cli.list_names import list_names

        return list_names
    if command == "show":
        from harness_plugin.cli.show import show

        return show
    if command == "launch":
        from harness_plugin.cli.launch import launch

        return launch
    return {"run": run, "validate": validate}[command]


if __name__ == "__main__":
    sys.exit(main())
