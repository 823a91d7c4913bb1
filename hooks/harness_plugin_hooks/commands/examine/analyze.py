"""`harness analyze`: what happens inside the models of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, comma_list, seed_list
from harness_plugin.cli.startup import installed_plugins, is_main_process
from harness_plugin.errors import HarnessError
from harness_plugin.machine.process_state import importing
from harness_plugin.machine.progress import quiet_libraries

if TYPE_CHECKING:
    from harness_plugin.plugins.registry import Plugins

EXAMPLES = """\
examples:
  harness analyze results
  harness analyze results --cka --groups aligned,conflicting --split hans
  harness analyze results --attention --matched 256
  harness analyze results --cka --pool cls --rbf 0.5 --examples 1000
  harness analyze results --circuits --corruption swap --pairs 200

Checkpoints that were made elsewhere: `harness --eval_only … --output_path DIR` first, then
`harness analyze DIR`.
"""


def parser(plugins: Plugins | None = None) -> Parser:
    """Every option of `harness analyze`: its own, and those of each analysis in `plugins`."""
    from harness_plugin_hooks.commands.examine.analysis_flags import add_flags, option_classes

    plugins = plugins or installed_plugins()
    out = Parser(
        "harness analyze",
        description="Compare the insides of the teacher, student and control of a finished run.",
        epilog=EXAMPLES,
    )
    out.add_argument("run", type=Path, metavar="RUN", help="the --output_path of a run")
    which = out.add_argument_group("analyses (default: all)")
    for offer in plugins["analysis"]:
        which.add_argument(f"--{offer.name}", action="store_true", help=offer.summary)
    rows = out.add_argument_group("models and rows")
    rows.add_argument("--tasks", type=comma_list, default=(), metavar="A,B", help="of the run")
    rows.add_argument("--started", metavar="TIME", help="which run, where RUN holds several")
    rows.add_argument(
        "--roles", type=comma_list, default=(), metavar="A,B", help="default: the three of a run"
    )
    rows.add_argument("--seeds", type=seed_list, default=(), metavar="0,1", help="default: all")
    rows.add_argument("--split", metavar="SET", help="default: the last with both kinds of rows")
    rows.add_argument(
        "--groups",
        type=comma_list,
        metavar="A,B",
        help="aligned, conflicting, all, or the set's own groups; equally many rows of each "
        "(default: aligned and conflicting, all where a set says not which are)",
    )
    rows.add_argument(
        "--examples", type=int, default=2000, metavar="N", help="at most, of each group (2000)"
    )
    out.add_argument("--resamples", type=int, default=1000, metavar="N", help="of intervals (1000)")
    out.add_argument(
        "--data_seed", type=int, default=0, metavar="N", help="of rows and resamples (0)"
    )
    out.add_argument("--output_path", type=Path, metavar="DIR", help="default: RUN")
    out.add_argument("--device", metavar="NAME", help="default: that of the run")
    out.add_argument("--threads", type=int, metavar="N", help="default: those of the run")
    add_flags(out, option_classes(plugins["analysis"]))
    return out


def main(words: list[str]) -> int:
    """Analyse every task of the run, show tables, write the files."""
    plugins = installed_plugins()
    from harness_plugin_hooks.commands.examine.analysis_flags import option_classes, options_of

    flags = parser(plugins)
    args = vars(flags.parse_args(words))
    check(args)
    options = options_of(flags, option_classes(plugins["analysis"]), args)
    with importing():
        from harness_plugin.analysis.open_run import open_run
        from harness_plugin.analysis.run_analyses import (
            AnalysisRequest,
            chosen_analyses,
            make,
            show,
            write,
        )
    from harness_plugin.pipeline.outputs import check_writable
    from harness_plugin.records.run_folder import run_folder

    folder: Path = args["output_path"] or run_folder(args["run"])
    quiet_libraries()
    tasks = open_run(
        args["run"],
        plugins,
        started=args["started"],
        tasks=args["tasks"],
        machine={"device": args["device"], "threads": args["threads"]},
    )
    check_writable(folder)
    names = chosen_analyses([o.name for o in plugins["analysis"] if args[o.name]], plugins)
    request = AnalysisRequest(
        roles=args["roles"],
        seeds=args["seeds"],
        split=args["split"],
        groups=args["groups"] or (),
        examples=args["examples"],
        seed=args["data_seed"],
        options=options,
    )
    for task in tasks:
        made = make(task, names, request)
        if is_main_process():
            show(made.findings)
            for file in write(made, folder):
                print(f"  {file}")
    return 0


def check(args: dict[str, Any]) -> None:
    """Refuse numbers that mean nothing, before anything is loaded."""
    for name, fewest in {"examples": 4, "resamples": 100, "threads": 1}.items():
        if args[name] is not None and args[name] < fewest:
            raise HarnessError(f"--{name} {args[name]}: expected at least {fewest}.")
    if args["groups"] == ():
        raise HarnessError("--groups: name at least one group.")
