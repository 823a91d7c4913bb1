"""Take the arms of the plan from the search, by a rule that looks at validation rows alone.

    python examples/pretrained_nli/choose.py results/search

The rule: of the debiasing arms without rows of the test's generator, and of those with each number
of them (`rows_N…`), take the one with the highest mean accuracy on HANS-like validation rows among
those whose in-domain accuracy is at most 10 points below that of `erm`.
Accuracy, not the gap: a gap also closes when answers are flipped. An arm that gains less than 5
points has nothing to lose and gets one student. Writes the plan (in place, or to --output) and
prints the search as a table.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROWS = re.compile(r"rows_\d+")
"""What the names of the arms begin with that see rows of the test's generator."""

ALLOWED = 0.1
"""How much in-domain accuracy an arm may cost, a fraction."""

GAIN = 0.05
"""Accuracy on HANS-like rows above ERM's, a fraction, below which one student is enough."""

ONE_STUDENT = "student_even"

COLUMNS = {("id", "acc"): "id", ("hans", "acc"): "hans", ("hans", "gap_entailment"): "gap"}


def arms_of(results: Path) -> pd.DataFrame:
    """Mean over seeds, arm by arm: in-domain accuracy, HANS-like accuracy and its gap."""
    files = list(results.glob("numbers_*.parquet"))
    if len(files) != 1:
        raise SystemExit(f"{results}: one numbers_*.parquet expected, found {len(files)}.")
    rows = pd.read_parquet(files[0])
    rows = rows[(rows.role == "teacher") & (rows.measure == "score") & (rows.subset == "")]
    keys = list(zip(rows.split, rows.metric, strict=True))
    rows = rows.assign(column=[COLUMNS.get(key) for key in keys]).dropna(subset=["column"])
    table = rows.pivot_table(index="factor_arm", columns="column", values="value", aggfunc="mean")
    return table.assign(seeds=rows.groupby("factor_arm").seed.nunique())


def rows_of(arm: str) -> str:
    """`rows_N` of an arm with rows of the test's generator; "" of one without."""
    return match[0] if (match := ROWS.match(arm)) else ""


def chosen(arms: pd.DataFrame) -> dict[str, float]:
    """The best debiasing arm with each number of rows, with its gain over ERM; few rows first."""
    if "erm" not in arms.index:
        return {}
    erm, taken = arms.loc["erm"], dict[str, float]()
    fit = arms.drop("erm")
    fit = fit[fit["id"] >= erm["id"] - ALLOWED].dropna(subset=["hans"])
    groups = fit.groupby([rows_of(str(arm)) for arm in fit.index], sort=False)
    for _, alike in sorted(groups, key=lambda group: (not group[0], len(group[0]), group[0])):
        best = str(alike["hans"].idxmax())
        taken[best] = float(alike.loc[best, "hans"] - erm["hans"])
    return taken


def table(arms: pd.DataFrame, taken: Collection[str]) -> str:
    """The search as a Markdown table, percent."""
    lines = [
        "| arm | in domain | HANS-like | `gap_entailment` | seeds | taken |",
        "|---|--:|--:|--:|--:|:-:|",
    ]
    for arm, row in arms.sort_values("hans", ascending=False).iterrows():
        values = " | ".join(f"{100 * row[key]:.1f}" for key in ("id", "hans", "gap"))
        lines.append(f"| `{arm}` | {values} | {row.seeds:.0f} | {'yes' if arm in taken else ''} |")
    return "\n".join(lines)


def write_plan(
    plan: Path, search: Path, taken: Mapping[str, float], output: Path
) -> dict[str, Any]:
    """`plan` with the arms `taken` of `search`, its comments above the first key kept."""
    text = plan.read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    content, searched = yaml.safe_load(text), yaml.safe_load(search.read_text(encoding="utf-8"))
    (task,) = content["tasks"]
    levels = {arm: dict(searched["factors"]["arm"][arm]) for arm in taken}
    students = content["settings"][task]["students"]
    others = {name: False for name in students if name != ONE_STUDENT}
    for arm, gain in taken.items():
        if gain < GAIN:
            levels[arm][task] = {**levels[arm].get(task, {}), "students": others}
    content["factors"]["arm"] = levels
    body = yaml.safe_dump(content, sort_keys=False, width=100)
    output.write_text(comment + body, encoding="utf-8")
    return dict(content)


def main() -> None:
    """Read the search, apply the rule, write the plan."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="results folder of the search")
    parser.add_argument("--search", type=Path, default=here / "search.yaml")
    parser.add_argument("--plan", type=Path, default=here / "transfer.yaml")
    parser.add_argument("--output", type=Path, help="the plan (default: in place)")
    args = parser.parse_args()
    arms = arms_of(args.results)
    taken = chosen(arms)
    if not taken:
        parser.error(f"{args.results}: no debiasing arm is finished beside ERM")
    print(table(arms, taken))
    write_plan(args.plan, args.search, taken, args.output or args.plan)


if __name__ == "__main__":
    main()
