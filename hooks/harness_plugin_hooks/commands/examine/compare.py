"""`harness compare`: has a candidate become worse than a baseline? A gate for CI."""

from __future__ import annotations

import os
from pathlib import Path

from harness_plugin.cli.parser import Parser, comma_list, seed_list
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError

EXIT = {"pass": 0, "regressed": 1, "undecided": 3}
SUMMARY = "GITHUB_STEP_SUMMARY"


def parser() -> Parser:
    """Every option of `harness compare`."""
    out = Parser(
        "harness compare",
        description="Compare two results example by example; has the candidate become worse?",
        epilog="Exit status: 0 pass, 1 regressed, 3 undecided (too few seeds or examples), "
        "2 bad input.",
    )
    for side in ("baseline", "candidate"):
        out.add_argument(
            side,
            type=Path,
            metavar=side.upper(),
            help="results folder of a run or of `harness score`, or one transfer_*.json in it",
        )
    out.add_argument("--tasks", type=comma_list, default=(), metavar="NAME[,NAME]")
    out.add_argument("--seeds", type=seed_list, default=(), metavar="N[,N]", help="default: all")
    out.add_argument("--role", default="student", metavar="ROLE", help="compared (student)")
    out.add_argument("--baseline_role", metavar="ROLE", help="of the baseline, if another one")
    limits = out.add_argument_group("limits")
    limits.add_argument("--thresholds", type=Path, metavar="FILE", help="YAML file of gates")
    limits.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="with a limit, besides the primary gaps (acc and worst_group_acc; repeatable)",
    )
    limits.add_argument(
        "--max_drop", type=float, metavar="X", help="of a performance, a fraction (0.02)"
    )
    limits.add_argument(
        "--max_gap_increase", type=float, metavar="X", help="of a gap or an error (0.02)"
    )
    limits.add_argument(
        "--margin", type=float, metavar="X", help="both at once, as of a run's verdict (0.02)"
    )
    limits.add_argument("--min_seeds", type=int, metavar="N", help="of a verdict (3)")
    limits.add_argument(
        "--min_group", type=int, metavar="N", help="rows of a group that may be the worst (30)"
    )
    limits.add_argument("--resamples", type=int, metavar="N", help="bootstrap resamples (2000)")
    reports = out.add_argument_group("reports")
    reports.add_argument(
        "--output_path", type=Path, metavar="DIR", help="write Markdown, JUnit and benchmark files"
    )
    reports.add_argument(
        "--step_summary", action="store_true", help=f"append the Markdown to ${SUMMARY}"
    )
    return out


def main(words: list[str]) -> int:
    """Compare, show, write; the exit status is the verdict."""
    args = parser().parse_args(words)
    summary = step_summary() if args.step_summary else None
    from rich.console import Console

    from harness_plugin.pipeline.outputs import check_writable
    from harness_plugin.scoring.files.finished_runs import Selected, compare_outputs
    from harness_plugin.scoring.gate import thresholds_from
    from harness_plugin.scoring.metrics import Metric
    from harness_plugin_hooks.regression import reports
    from harness_plugin_hooks.render.terminal import COLOURS

    if args.output_path:
        check_writable(args.output_path)
    plugins = installed_plugins()
    selected = Selected(
        args.baseline,
        args.candidate,
        args.role,
        args.baseline_role,
        args.tasks,
        args.seeds,
    )
    thresholds = thresholds_from(
        args.thresholds,
        {
            name: getattr(args, name)
            for name in ("metric", "max_drop", "max_gap_increase", "margin")
        },
        {name: getattr(args, name) for name in ("min_seeds", "min_group", "resamples")},
        plugins["metric"].instances(Metric),
    )
    result = compare_outputs(selected, thresholds, plugins)
    state = reports.verdict_of(result)
    console = Console(width=None if os.isatty(1) else 140)
    for comparison in result:
        for part in reports.on_terminal(comparison):
            console.print(part)
    console.print(f"\n[bold {COLOURS[state]}]{state.upper()}[/]")
    if args.output_path:
        files = reports.write_reports(result, args.output_path)
        print(f"{len(files)} files in {args.output_path}: {', '.join(f.name for f in files)}")
    if summary:
        append(summary, reports.markdown(result))
    return EXIT[state]


def step_summary() -> Path:
    """The file that GitHub shows; HarnessError outside a GitHub workflow."""
    if not (file := os.environ.get(SUMMARY)):
        raise HarnessError(f"--step_summary: ${SUMMARY} is not set; is this a GitHub workflow?")
    return Path(file)


def append(file: Path, text: str) -> None:
    """Add `text` to what other steps have written; HarnessError when that fails."""
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise HarnessError(f"--step_summary: {file}: {error.strerror}.") from None
