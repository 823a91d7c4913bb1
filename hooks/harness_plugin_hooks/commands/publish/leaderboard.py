"""`harness leaderboard`: a folder of bundles becomes a static page, and the same as data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, add_run_options
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError
from harness_plugin_hooks.commands.publish.verify import add_trust_flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_plugin.plugins.registry import Plugins
    from harness_plugin.scoring.files.transfer_record import TransferRecord
    from harness_plugin_hooks.leaderboard.bundle import Problem
    from harness_plugin_hooks.leaderboard.verify import Verified


def parser() -> Parser:
    """Every option of `harness leaderboard`."""
    out = Parser(
        "harness leaderboard",
        description="Check every bundle of a folder and rank them on a static page. Exit status: 0 "
        "done, 1 a bundle is refused (nothing is written), 2 bad input.",
    )
    out.add_argument("bundles", type=Path, metavar="DIR", help="a folder of bundles")
    out.add_argument(
        "--output_path", type=Path, required=True, metavar="SITE", help="the page's folder"
    )
    out.add_argument("--metric", default="worst_group_acc", help="what the rank is about")
    add_run_options(
        out,
        "margin",
        "min_seeds",
        margin="of all verdicts, whatever the bundles were made with: how much wider a gap, or "
        "lower a worst group, is not called lost (0.02)",
        min_seeds="seeds that a rank and a verdict need (3)",
    )
    out.add_argument("--title", default="Debiasing transfer", help="the page's heading")
    add_trust_flags(out)
    out.add_argument(
        "--skip_refused", action="store_true", help="list refused bundles on the page and go on"
    )
    return out


def main(words: list[str]) -> int:
    """Check, rank, write; without `--skip_refused` one refused bundle stops it."""
    args = parser().parse_args(words)

    from harness_plugin.config.merge import run_config
    from harness_plugin.pipeline.outputs import check_writable
    from harness_plugin.scoring.metrics import Metric
    from harness_plugin.store.files import write_json, write_text
    from harness_plugin_hooks.leaderboard.board import boards_of
    from harness_plugin_hooks.leaderboard.document import leaderboard
    from harness_plugin_hooks.leaderboard.reference import references
    from harness_plugin_hooks.leaderboard.tables import as_csv, as_json
    from harness_plugin_hooks.render.html import page

    plugins = installed_plugins()
    metric = plugins["metric"].offer(args.metric).instance(Metric)
    if metric.kind == "gap":
        raise HarnessError(
            f"--metric {args.metric}: a gap is signed, the lowest is not the best; rank by "
            f"worst_group_acc, for one."
        )
    # in the bounds of a run's options; no task is opened here
    of_run = {"tasks": ("leaderboard",), "margin": args.margin, "min_seeds": args.min_seeds}
    rule = run_config(None, of_run, ()).rule
    out: Path = args.output_path
    check_writable(out)
    paths = bundles_in(args.bundles, out)
    trusted = references(args.reference, plugins, allow_embedded=args.allow_embedded)
    verified, refused = checked(paths, plugins, trusted, args.allow_embedded)
    for file, problems in refused.items():
        print(f"{file}: REFUSED: {problems[0]}", file=sys.stderr)
    if refused and not args.skip_refused:
        print("nothing is written; --skip_refused goes on without them", file=sys.stderr)
        return 1
    boards = boards_of(
        verified,
        metric=args.metric,
        higher_is_better=metric.higher_is_better,
        rule=rule,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "index.html", page(leaderboard(boards, refused, args.title, rule)))
    write_json(out / "leaderboard.json", as_json(boards, refused, args.title))
    write_text(out / "leaderboard.csv", as_csv(boards))
    students = sum(len(board.rows) for board in boards)
    print(f"{out / 'index.html'}: {len(boards)} boards, {students} rows, {len(refused)} refused")
    return 0


def bundles_in(folder: Path, out: Path) -> list[Path]:
    """Every folder and .zip file of `folder`; other files are named and left alone."""
    if not folder.is_dir():
        raise HarnessError(f"{folder}: expected a folder of bundles, there is none.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise HarnessError(
            f"--output_path {out} lies among the bundles in {folder}; name another folder."
        )
    paths = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.suffix == ".zip":
            paths.append(path)
        else:
            print(f"{path}: neither a folder nor a .zip file, not a bundle")
    if not paths:
        raise HarnessError(f"{folder} holds no bundle; make one with harness submit.")
    return paths


def checked(
    paths: Sequence[Path],
    plugins: Plugins,
    trusted: Mapping[str, TransferRecord],
    allow_embedded: bool,
) -> tuple[Mapping[str, Verified], Mapping[str, Sequence[Problem]]]:
    """The bundles that hold and the problems of those that do not, by file name."""
    from harness_plugin_hooks.leaderboard.bundle import Problem, Refused
    from harness_plugin_hooks.leaderboard.reference import verify_against

    verified: dict[str, Any] = {}
    refused: dict[str, Sequence[Problem]] = {}
    first: dict[str, str] = {}
    for path in paths:
        try:
            bundle = verify_against(path, plugins, trusted, allow_embedded=allow_embedded)
        except Refused as error:
            refused[path.name] = error.problems
            continue
        if bundle.digest in first:
            problem = Problem(path.name, "results of its own", f"those of {first[bundle.digest]}")
            refused[path.name] = [problem]
        else:
            first[bundle.digest] = path.name
            verified[path.name] = bundle
    return verified, refused
