"""`harness report`: a run becomes one page to look at, and its figures files."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.cli.parser import Parser, comma_list
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import quiet_datasets

EXAMPLES = """\
examples:
  harness report results
  harness report results --output_path site --examples 100
  harness report results --tasks hans --examples 0

The insides of models are shown where they were analysed: `harness analyze RUN`, or a run with
--analyze.
"""


def parser() -> Parser:
    """Every option of `harness report`."""
    out = Parser(
        "harness report",
        description="Write one HTML page of a run, which works offline, and its figures as PNG and "
        "SVG.",
        epilog=EXAMPLES,
    )
    out.add_argument("run", type=Path, metavar="RUN", help="the --output_path of a run")
    out.add_argument("--output_path", type=Path, metavar="DIR", help="the page's folder (RUN)")
    out.add_argument("--started", metavar="TIME", help="which run, where RUN holds several")
    out.add_argument("--tasks", type=comma_list, default=(), metavar="A,B", help="of the run")
    out.add_argument(
        "--examples",
        type=int,
        default=24,
        metavar="N",
        help="rows on which teacher and student disagree, of each student and set (24); 0: none, "
        "and neither data nor predictions are opened",
    )
    return out


def main(words: list[str]) -> int:
    """Read the run, draw, write."""
    args = parser().parse_args(words)
    if args.examples < 0:
        raise HarnessError(f"--examples {args.examples}: expected 0 or more.")
    plugins = installed_plugins()
    from harness_plugin.pipeline.outputs import check_writable
    from harness_plugin.records.run_folder import run_folder
    from harness_plugin_hooks.report.making import write
    from harness_plugin_hooks.report.reading import read_run

    folder: Path = args.output_path or run_folder(args.run)
    if folder.suffix == ".html":
        raise HarnessError(
            f"--output_path {folder}: expected a folder; the page is called report_*.html."
        )
    check_writable(folder)
    quiet_datasets()
    run = read_run(
        args.run,
        plugins,
        started=args.started,
        tasks=args.tasks,
        examples=args.examples,
    )
    page, *figures = write(run, plugins, folder)
    for task in run.tasks:
        if task.without_examples and args.examples:
            print(f"{task.record.task}: no examples. {task.without_examples}")
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    if figures:
        print(f"{figures[0].parent}: {len(figures)} figures as PNG and SVG")
    return 0
