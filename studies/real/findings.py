"""Fill the tables of docs/findings_real.md from counts of right answers.

    python studies/real/findings.py

The counts are in the files beside this one that `collect.py` writes: pretrained_nli.json of a GPU,
the three of the examples' small.yaml of two CPU cores. The page says which tables it wants, between
markers; what stands outside of them is written by hand and kept. `--check` changes nothing and
fails where the page is not what the counts say.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "findings_real.md"
MARKED = re.compile(r"(<!-- counts: (?P<name>\w+) -->\n).*?(?=<!-- end of counts -->)", re.S)
SETS = ("id", "conjnli", "negation_nli", "med", "breaking_nli")
ROLES = {
    "student": "pure distillation, first layers",
    "student_even": "pure distillation, teacher's layers",
    "student_half": "half labels, first layers",
    "student_half_even": "half labels, teacher's layers",
    "student_both": "method on both terms, first layers",
    "student_both_even": "method on both terms, teacher's layers",
    "student_int8": "the teacher in 8 bits",
    "student_int4": "the teacher in 4 bits",
    "student_pruned": "half of the teacher's weights",
    "control": "method, no teacher",
    "control_even": "method, no teacher, ERM's layers",
    "erm_student": "ERM, no teacher",
}
SMALL = {
    "erm_teacher": "teacher by ERM, without the rows",
    "teacher": "teacher, with the rows",
    "student": "`student`: pure distillation",
    "student_half": "`student_half`: half labels",
    "student_ce": "`student_ce`: half labels",
    "student_rows": "`student_rows`: pure distillation, with the rows",
    "student_int8": "`student_int8`: the teacher in 8 bits",
    "student_int4": "`student_int4`: the teacher in 4 bits",
    "student_pruned": "`student_pruned`: half of the teacher's weights",
    "control": "control: labels and the rows, from the student's own start",
    "control_even": "control: labels and the rows, the teacher's layers",
    "erm_student": "ERM, no teacher",
    "erm_student_even": "ERM, the ERM teacher's layers",
}


class Sides(NamedTuple):
    """The groups of a test set that a bias favours and those that it harms, as columns."""

    name: str
    favoured: str
    harmed: str
    favours: Callable[[str], bool]


HANS = Sides("hans", "HANS E", "HANS N", lambda group: group.endswith("/entailment"))
FACES = Sides("balanced", "aligned", "conflicting", lambda g: g in ("young/Female", "old/Male"))
HATECHECK = Sides(
    "hatecheck",
    "HateCheck aligned",
    "conflicting",
    lambda group: group.startswith("toxic/") or group == "nontoxic/none",
)


class Counts:
    """Right answers by arm, role, seed and set."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.groups: dict[tuple[str, str, str], dict[int, Mapping[str, Sequence[int]]]] = {}
        for row in rows:
            key = row["arm"], row["role"], row["set"]
            self.groups.setdefault(key, {})[row["seed"]] = row["groups"]

    def share(
        self, arm: str, role: str, name: str, inside: Callable[[str], bool] = bool
    ) -> float | None:
        """Mean over seeds: share of right answers in the groups whose names are inside."""
        shares = []
        for groups in self.groups.get((arm, role, name), {}).values():
            chosen = [counts for group, counts in groups.items() if inside(group)]
            shares.append(sum(right for right, _ in chosen) / sum(n for _, n in chosen))
        return statistics.fmean(shares) if shares else None

    def seeds(self, arm: str, role: str, sides: Sides = HANS) -> int:
        """How many seeds there are of a model."""
        return len(self.groups.get((arm, role, sides.name), {}))

    def cells(self, arm: str, role: str, sets: Sequence[str], sides: Sides = HANS) -> list[str]:
        """In percent: `sets`, then both sides of the test set and their gap; then the seeds."""
        shares = [self.share(arm, role, name) for name in sets]
        favoured = self.share(arm, role, sides.name, sides.favours)
        harmed = self.share(arm, role, sides.name, lambda group: not sides.favours(group))
        gap = None if favoured is None or harmed is None else favoured - harmed
        values = [*shares, favoured, harmed, gap]
        return [
            *("" if v is None else f"{100 * v:.1f}" for v in values),
            str(self.seeds(arm, role, sides)),
        ]


def teachers(counts: Counts, arms: Sequence[str]) -> list[str]:
    """Six layers, by arm."""
    head = ["teacher", *(f"`{name}`" for name in SETS), "HANS E", "HANS N", "gap", "seeds"]
    lines = row(head) + rule(head)
    for arm in arms:
        for role in ("teacher", "erm_teacher"):
            alone = role == "erm_teacher" and not arm.startswith("rows_")
            if counts.seeds(arm, role) and not alone and (arm, role) != ("erm", "erm_teacher"):
                name = f"`{arm}`" if role == "teacher" else f"ERM on the rows of `{arm}`"
                lines += row([name, *counts.cells(arm, role, SETS)])
    return lines


def students(counts: Counts, arms: Sequence[str]) -> list[str]:
    """Three layers, by arm and kind of student."""
    head = ["arm", "student", "`id`", "HANS E", "HANS N", "gap", "seeds"]
    lines = row(head) + rule(head, texts=2)
    for arm in arms:
        for role, words in ROLES.items():
            # with ERM the method's students are those with half labels
            same = arm == "erm" and role in ("student_both", "student_both_even", "control")
            shared = arm != "erm" and not arm.startswith("rows_") and role == "erm_student"
            if counts.seeds(arm, role) and not same and not shared:
                lines += row([f"`{arm}`", words, *counts.cells(arm, role, ("id",))])
    return lines


def row(cells: Sequence[str]) -> list[str]:
    """A line of a table."""
    return [f"| {' | '.join(cells)} |"]


def rule(head: Sequence[str], texts: int = 1) -> list[str]:
    """The line below a head, numbers to the right."""
    return ["|" + "|".join(["---"] * texts + ["--:"] * (len(head) - texts)) + "|"]


def small(counts: Counts, arms: Sequence[str], sides: Sides) -> list[str]:
    """Every model of the one arm."""
    (arm,) = arms
    head = ["model", "`id`", sides.favoured, sides.harmed, "gap", "seeds"]
    lines = row(head) + rule(head)
    for role, words in SMALL.items():
        if counts.seeds(arm, role, sides):
            lines += row([words, *counts.cells(arm, role, ("id",), sides)])
    return lines


TABLES: dict[str, tuple[str, Callable[[Counts, Sequence[str]], list[str]]]] = {
    "teachers": ("pretrained_nli", teachers),
    "students": ("pretrained_nli", students),
    "small": ("pretrained_nli_small", partial(small, sides=HANS)),
    "faces": ("fairface_small", partial(small, sides=FACES)),
    "hate": ("toxicity_small", partial(small, sides=HATECHECK)),
    "hate_frozen": ("toxicity_frozen", partial(small, sides=HATECHECK)),
}
"""Table of the page -> the file of its counts, and how it is made."""


def filled(page: str, counts: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with its tables, from the counts by file. Raises KeyError for an unknown table."""

    def table(result: re.Match[str]) -> str:
        file, make = TABLES[result["name"]]
        content = counts[file]
        return "\n".join([result[1], *make(Counts(content["rows"]), list(content["arms"])), "\n"])

    return MARKED.sub(table, page)


def read_counts() -> dict[str, dict[str, Any]]:
    """The counts beside this file, by file."""
    return {
        file: json.loads((HERE / f"{file}.json").read_text(encoding="utf-8"))
        for file, _ in TABLES.values()
    }


def main() -> None:
    """Fill the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true", help="change nothing")
    args = parser.parse_args()
    page = args.page.read_text(encoding="utf-8")
    new = filled(page, read_counts())
    if args.check and new != page:
        raise SystemExit(f"{args.page}: not what the counts say; run without --check.")
    if not args.check:
        args.page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
