"""`harness submit`: a run becomes one bundle that anyone can check."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.cli.parser import Parser
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError


def parser() -> Parser:
    """Every option of `harness submit`."""
    out = Parser(
        "harness submit",
        description="Pack a run (made with --log_samples) into one bundle that can be checked.",
    )
    out.add_argument("run", type=Path, metavar="RUN", help="the --output_path of the run")
    out.add_argument(
        "--output_path",
        type=Path,
        required=True,
        metavar="BUNDLE",
        help="a new folder, or a .zip file",
    )
    out.add_argument("--name", help="what a leaderboard calls it (default: as the bundle's file)")
    out.add_argument("--started", metavar="TIME", help="which run, where the folder holds several")
    out.add_argument(
        "--allow_embedded", action="store_true", help="a demonstration, on generated data"
    )
    return out


def main(words: list[str]) -> int:
    """Build the bundle and check it as anyone would; only one that holds is written."""
    args = parser().parse_args(words)

    from harness_plugin import __version__
    from harness_plugin_hooks.leaderboard.bundle import manifest_of, write_bundle
    from harness_plugin_hooks.leaderboard.submission import parts_of
    from harness_plugin_hooks.leaderboard.verify import summary, verify_parts

    out: Path = args.output_path
    if out.exists():
        raise HarnessError(f"{out} exists already; a bundle is never overwritten.")
    parts = parts_of(args.run, args.started)
    manifest = manifest_of(args.name or out.stem, __version__, parts)
    verified = verify_parts(
        manifest, parts, installed_plugins(), allow_embedded=args.allow_embedded
    )
    write_bundle(manifest, parts, out)
    print(f"{out}: {summary(verified)}")
    return 0
