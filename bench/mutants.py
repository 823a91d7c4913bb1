"""Do the tests notice? 200 small changes of what makes numbers, each run against its tests.

A mutant is one change of one expression: `<` for `<=`, `+` for `-`, `and` for `or`, a number and
twice that number (or one more), True for False, a `not` or a minus left out. Which ones are tried
is drawn with a seed, a fixed number for each area. A mutant is killed when a test fails, and when
its tests do not end in time.

No file is changed: each mutant runs in a fork of one process that has imported torch, and the
module is compiled from its changed tree there. mutmut and cosmic-ray rewrite the sources, which
are part of the keys of all stages, and start Python anew for each mutant.

    python bench/mutants.py --output FILE.jsonl            # goes on where it was interrupted
    python bench/mutants.py --output FILE.jsonl --seed 1 --share .3    # about 60 others
    python bench/mutants.py --output FILE.jsonl --again    # those that survived, and no others
    python bench/mutants.py --output FILE.jsonl --only survivors  # those of the table in README.md
    python bench/mutants.py --output FILE.jsonl --table    # only the tables
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutant_areas import AREAS, Area

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "bench" / "README.md"


COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """The change of the `number`-th place of a file; `before` and `after` are its source."""

    area: str
    file: str
    number: int
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """Its identity: as long as its expression stands, wherever that moves."""
        words = f"{self.file} {self.number} {self.before} {self.after}"
        return hashlib.sha256(words.encode()).hexdigest()[:12]


def places(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that may be changed: no annotations, decorators, messages or docstrings."""
    left_out: list[ast.AST | None] = []
    if isinstance(tree, ast.FunctionDef | ast.ClassDef):
        left_out += tree.decorator_list
    if isinstance(tree, ast.FunctionDef):
        left_out.append(tree.returns)
    for node in ast.iter_child_nodes(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.arguments):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.AnnAssign):
            yield from places(ast.Expression(node.value)) if node.value else ()
            continue
        if isinstance(node, ast.expr) and changed(node) is not None:
            yield node
        yield from places(node)


def changed(node: ast.expr) -> ast.expr | None:
    """The expression with its one change; None where there is none for it."""
    new: ast.expr | None = None
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        operators = [COMPARISONS[type(node.ops[0])](), *node.ops[1:]]
        new = ast.Compare(node.left, operators, node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        new = ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        new = ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        new = node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        new = ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        new = ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        new = ast.Constant(node.value * 2 or 1.0)
    return None if new is None else ast.copy_location(new, node)


def mutants_of(area: str, file: str) -> list[Mutant]:
    """Every mutant of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [
        Mutant(area, file, number, node.lineno, ast.unparse(node), ast.unparse(changed(node)))
        for number, node in enumerate(places(tree))
    ]


def chosen(seed: int, share: float = 1.0) -> list[Mutant]:
    """The mutants that are tried, the areas in turn: `share` of each area's number, at least 1."""
    out = []
    for name, area in AREAS.items():
        every = [mutant for file in area.files for mutant in mutants_of(name, file)]
        drawn = random.Random(f"{seed} {name}").sample(every, min(area.mutants, len(every)))
        out += drawn[: max(1, round(share * area.mutants))]
    return out


def survivors(page: Path) -> list[Mutant]:
    """The mutants in a page's table of survivors, wherever their lines are now.

    One whose expression is gone is left out, with a word.
    """
    every: dict[tuple[str, ...], list[Mutant]] = {}
    for name, area in AREAS.items():
        for mutant in (each for file in area.files for each in mutants_of(name, file)):
            every.setdefault(shown(mutant)[1:], []).append(mutant)
    out = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if result := re.match(r"\| (harness_plugin\S+):(\d+) \| `(.*?)` \| `(.*?)` \|", line):
            file, number, *change = result.groups()
            if alike := every.get((file, *change)):
                nearest = min(alike, key=lambda each: abs(each.line - int(number)))
                alike.remove(nearest)
                out.append(nearest)
            else:
                print(f"gone: {file}:{number} {change[0]}")
    return out


def shown(mutant: Mutant) -> tuple[int, str, str, str]:
    """Line, file and both expressions as the table of survivors has them."""
    before, after = (text.replace(" | ", " or ") for text in (mutant.before, mutant.after))
    return mutant.line, mutant.file.removeprefix("hooks/"), before, after


class Swap(ast.NodeTransformer):
    """Puts one node in another's place."""

    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


class MutantFinder(importlib.abc.MetaPathFinder):
    """Imports one module with its change, and all others as they are."""

    def __init__(self, mutant: Mutant) -> None:
        self.path = ROOT / mutant.file
        parts = Path(mutant.file).with_suffix("").parts
        self.module = ".".join(parts[1:] if parts[0] == "hooks" else parts)
        whole = ast.parse(self.path.read_text(encoding="utf-8"))
        place = next(node for n, node in enumerate(places(whole)) if n == mutant.number)
        new = changed(place)
        assert new is not None
        self.code = compile(
            ast.fix_missing_locations(Swap(place, new).visit(whole)), str(self.path), "exec"
        )

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.module:
            return None
        loader = importlib.machinery.SourceFileLoader(name, str(self.path))
        loader.get_code = lambda _: self.code  # type: ignore[method-assign]
        return importlib.machinery.ModuleSpec(name, loader, origin=str(self.path))


def run_tests(area: Area) -> int:
    """pytest's exit status of an area's tests, the first failure ends it."""
    import pytest

    tests = [str(ROOT / test) for test in area.tests]
    choose = ["-k", area.choose] if area.choose else []
    # pytest warns of what is imported already; and its own import of the package that is its plugin
    # would come before the changed one
    plain = ["--assert=plain", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *plain, *choose, *tests]))


def outcome(mutant: Mutant | None, area: Area, seconds: float) -> tuple[str, float]:
    """A fork's verdict on a mutant (None = no change), and its seconds."""
    start, child = time.monotonic(), os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.setsid()
        status = 3
        try:
            if mutant is not None:
                sys.meta_path.insert(0, MutantFinder(mutant))
            status = run_tests(area)
        finally:
            os._exit(status)
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - start > seconds:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "killed: out of time", time.monotonic() - start
        time.sleep(0.05)
    survived = os.WIFEXITED(done[1]) and os.WEXITSTATUS(done[1]) == 0
    return "survived" if survived else "killed", time.monotonic() - start


def recorded(file: Path) -> dict[str, dict[str, Any]]:
    """The last outcome of each mutant that was run."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {record["name"]: record for record in map(json.loads, lines)}


def table(mutants: Sequence[Mutant], known: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: what was killed in each area, and every survivor."""
    lines = ["| area | chosen | run | killed | survived |", "|---|--:|--:|--:|--:|"]
    survivors, totals = [], [0, 0, 0, 0]
    for name in AREAS:
        of_area = [mutant for mutant in mutants if mutant.area == name]
        run = [mutant for mutant in of_area if mutant.name in known]
        alive = [mutant for mutant in run if known[mutant.name]["outcome"] == "survived"]
        row = [len(of_area), len(run), len(run) - len(alive), len(alive)]
        totals = [a + b for a, b in zip(totals, row, strict=True)]
        lines.append(f"| {name} | {' | '.join(map(str, row))} |")
        survivors += alive
    share = f" ({totals[2] / totals[1]:.1%})" if totals[1] else ""
    lines.append(f"| all | {totals[0]} | {totals[1]} | {totals[2]}{share} | {totals[3]} |")
    lines += ["", "| survivor | was | became |", "|---|---|---|"]
    for mutant in survivors:
        line, file, before, after = shown(mutant)
        lines.append(f"| {file}:{line} | `{before}` | `{after}` |")
    return "\n".join(lines)


def main() -> None:
    """Run what has not been run, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default 0)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of each area's mutants; .3 are about 60"
    )
    parser.add_argument("--areas", nargs="+", choices=list(AREAS), default=list(AREAS))
    parser.add_argument("--again", action="store_true", help="those that survived, and no others")
    parser.add_argument("--only", choices=["survivors"], help=f"those in the table of {PAGE.name}")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin none after so long")
    args = parser.parse_args()
    mutants = survivors(PAGE) if args.only else chosen(args.seed, args.share)
    known = recorded(args.output)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if not args.table:
        os.environ["HF_HUB_OFFLINE"] = "1"  # as tests/conftest.py has it before datasets is there
        import datasets  # noqa: F401
        import pandas  # noqa: F401
        import pytest  # noqa: F401
        import scipy.stats  # noqa: F401
        import sklearn.linear_model  # noqa: F401
        import torch
        import transformers  # noqa: F401

        torch.set_num_threads(1)
        begin, limits = time.monotonic(), {}
        for mutant in mutants:
            had = known.get(mutant.name)
            expected = (
                had is not None and had["outcome"] == "survived" if args.again else had is None
            )
            over = time.monotonic() - begin > 60 * args.minutes
            if mutant.area not in args.areas or not expected or over:
                continue
            area = AREAS[mutant.area]
            if mutant.area not in limits:
                plain, seconds = outcome(None, area, 3600)
                if plain != "survived":
                    sys.exit(f"the tests of {mutant.area} fail without any change")
                limits[mutant.area] = 60 + 4 * seconds
            what, seconds = outcome(mutant, area, limits[mutant.area])
            known[mutant.name] = {
                "name": mutant.name,
                **asdict(mutant),
                "outcome": what,
                "seconds": round(seconds, 1),
            }
            with args.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[mutant.name]) + "\n")
            print(f"{what:20} {seconds:5.0f} s  {mutant.file}:{mutant.line}", flush=True)
    print(table(mutants, known))


if __name__ == "__main__":
    main()
