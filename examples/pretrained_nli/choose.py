"""Take the arms of the plan from the search, by a rule that looks at validation rows alone.

    python examples/pretrained_nli/choose.py results/search

The rule: among arms whose mean in-domain accuracy is at most 10 points below ERM's, those with the
highest mean accuracy on HANS-like validation rows, one arm a method, two of them, and one of those
that also train on rows of the test's generator (`rows_…`); `erm` is always there. Accuracy, not the
gap: a gap also closes when answers are flipped. Writes the plan (in place, or to --output) and
prints the search as a table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

STATED = "rows_"
"""What the names of the arms begin with that see rows of the test's generator."""

ALLOWED = 0.1
"""How much in-domain accuracy an arm may cost, a fraction."""

COLUMNS = {("id", "acc"): "id", ("hans", "acc"): "hans", ("hans", "gap_entailment"): "gap"}


def arms_of(results: Path) -> pd.DataFrame:
    """Mean over seeds, arm by arm: in-domain accuracy, HANS-like accuracy and its gap."""
    (file,) = results.glob("numbers_*.parquet")
    rows = pd.read_parquet(file)
    rows = rows[(rows.role == "teacher") & (rows.measure == "score") & (rows.subset == "")]
    keys = list(zip(rows.split, rows.metric, strict=True))
    rows = rows.assign(column=[COLUMNS.get(key) for key in keys]).dropna(subset=["column"])
    table = rows.pivot_table(index="factor_arm", columns="column", values="value", aggfunc="mean")
    return table.assign(seeds=rows.groupby("factor_arm").seed.nunique())


def chosen(arms: pd.DataFrame, methods: Mapping[str, str], take: int = 2) -> list[str]:
    """The arms of the plan in their order: ERM, those that the rule takes, the stated one."""
    floor = arms.loc["erm", "id"] - ALLOWED
    fit = arms[(arms["id"] >= floor) & (arms.index != "erm")].dropna(subset=["hans"])
    names = [str(name) for name in fit.sort_values("hans", ascending=False).index]
    taken: list[str] = []
    for arm in names:
        if not arm.startswith(STATED) and methods[arm] not in [methods[t] for t in taken]:
            taken.append(arm)
    return ["erm", *taken[:take], *[arm for arm in names if arm.startswith(STATED)][:1]]


def table(arms: pd.DataFrame, taken: Sequence[str]) -> str:
    """The search as a Markdown table, percent."""
    lines = [
        "| arm | in domain | HANS-like | `gap_entailment` | seeds | taken |",
        "|---|--:|--:|--:|--:|:-:|",
    ]
    for arm, row in arms.sort_values("hans", ascending=False).iterrows():
        values = " | ".join(f"{100 * row[key]:.1f}" for key in ("id", "hans", "gap"))
        lines.append(f"| `{arm}` | {values} | {row.seeds:.0f} | {'yes' if arm in taken else ''} |")
    return "\n".join(lines)


def write_plan(plan: Path, search: Path, taken: Sequence[str], output: Path) -> dict[str, Any]:
    """`plan` with the arms `taken` of `search`, its comments above the first key kept."""
    text = plan.read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    given, searched = yaml.safe_load(text), yaml.safe_load(search.read_text(encoding="utf-8"))
    levels = {arm: searched["factors"]["arm"][arm] for arm in taken}
    # what learns with the method of an ERM teacher is the student with half labels
    both = {"student_both": False, "student_both_even": False}
    levels["erm"]["nli_challenge"] = {"students": both}
    given["factors"]["arm"] = levels
    body = yaml.safe_dump(given, sort_keys=False, width=100)
    output.write_text(comment + body, encoding="utf-8")
    return dict(given)


def main() -> None:
    """Read the search, apply the rule, write the plan."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="results folder of the search")
    parser.add_argument("--search", type=Path, default=here / "search.yaml")
    parser.add_argument("--plan", type=Path, default=here / "transfer.yaml")
    parser.add_argument("--output", type=Path, help="the plan (default: in place)")
    args = parser.parse_args()
    levels = yaml.safe_load(args.search.read_text(encoding="utf-8"))["factors"]["arm"]
    arms = arms_of(args.results)
    taken = chosen(arms, {arm: level["method"] for arm, level in levels.items()})
    print(table(arms, taken))
    write_plan(args.plan, args.search, taken, args.output or args.plan)


if __name__ == "__main__":
    main()
