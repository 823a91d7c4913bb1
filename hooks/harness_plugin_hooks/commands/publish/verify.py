"""`harness verify`: does everything in a bundle follow from its parts?"""

from __future__ import annotations

import sys
from pathlib import Path

from harness_plugin.cli.parser import Parser
from harness_plugin.cli.startup import installed_plugins

SHOWN = 20


def parser() -> Parser:
    """Every option of `harness verify`."""
    out = Parser(
        "harness verify",
        description="Compute every number of bundles again from their predictions. Exit status: 0 "
        "all hold, 1 one does not, 2 bad input.",
    )
    out.add_argument(
        "bundles",
        nargs="+",
        type=Path,
        metavar="BUNDLE",
        help="a folder or .zip file, or the folder of a certificate",
    )
    add_trust_flags(out)
    return out


def add_trust_flags(out: Parser) -> None:
    """The flags of every command that reads bundles: which data it takes for the right ones."""
    out.add_argument(
        "--reference",
        action="append",
        default=[],
        type=Path,
        metavar="BUNDLE",
        help="a bundle of your own, whose ids, labels and groups are the right ones",
    )
    out.add_argument(
        "--allow_embedded", action="store_true", help="a demonstration, on generated data"
    )


def main(words: list[str]) -> int:
    """Check every bundle; name each part that does not hold, what was expected and found."""
    args = parser().parse_args(words)

    from harness_plugin_hooks.leaderboard.bundle import Refused
    from harness_plugin_hooks.leaderboard.reference import references, verify_against
    from harness_plugin_hooks.leaderboard.verify import summary

    plugins, status = installed_plugins(), 0
    embedded = args.allow_embedded
    trusted = references(args.reference, plugins, allow_embedded=embedded)
    for bundle in args.bundles:
        if (bundle / "certificate.json").is_file():
            status = max(status, certificate(bundle))
            continue
        try:
            verified = verify_against(bundle, plugins, trusted, allow_embedded=embedded)
            print(f"{bundle}: {summary(verified)}")
        except Refused as refused:
            status = 1
            print(f"{bundle}: REFUSED", file=sys.stderr)
            for problem in refused.problems[:SHOWN]:
                print(f"  {problem}", file=sys.stderr)
            if (more := len(refused.problems) - SHOWN) > 0:
                print(f"  and {more:,} more", file=sys.stderr)
    return status


def certificate(folder: Path) -> int:
    """Check a certificate of `harness remedy --certify`; 1 where it does not follow."""
    from harness_plugin_hooks.remedies.certify.certificate import verified

    record, problems = verified(folder)
    for problem in problems[:SHOWN]:
        print(f"{folder}: REFUSED\n  {problem}", file=sys.stderr)
    if not problems:
        what = f"{record.certified} is certified" if record.certified else "nothing is certified"
        print(f"{folder}: {what}, as its {len(record.seeds)} seeds and {record.rows:,} rows say")
    return int(bool(problems))
