"""The leaderboard as data: leaderboard.json and leaderboard.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from harness_plugin import __version__
from harness_plugin_hooks.leaderboard.board import Board, Row
from harness_plugin_hooks.leaderboard.bundle import Problem

FACTS = ("submission", "file", "digest", "student", "model", "method", "distiller", "seeds")


def as_json(
    boards: Sequence[Board], refused: Mapping[str, Sequence[Problem]], title: str
) -> dict[str, Any]:
    """Every board with every row, and the bundles that were refused."""
    return {
        "schema_version": "1",
        "harness_plugin_version": __version__,
        "title": title,
        "boards": [
            {
                **about(board),
                "rows": [
                    {
                        **facts(row),
                        "rank": None if row.rank is None else list(row.rank),
                        "unranked": row.unranked,
                        "verdict": row.verdict,
                        "notes": list(row.notes),
                        "sentence": row.sentence,
                        "numbers": {
                            name: number.model_dump() for name, number in row.numbers.items()
                        },
                    }
                    for row in board.rows
                ],
            }
            for board in boards
        ],
        "refused": {
            file: [{"part": p.part, "expected": p.expected, "actual": p.actual} for p in problems]
            for file, problems in refused.items()
        },
    }


def as_csv(boards: Sequence[Board]) -> str:
    """One line a board, student and number."""
    out = io.StringIO()
    head = ("task", "set", "source", "fingerprint", "rows_sha256", "metric")
    numbers = ("number", "value", "low", "high", "sd", "n")
    writer = csv.writer(out, lineterminator="\n")
    judged = ("verdict", "notes", "margin", "min_seeds")
    writer.writerow([*head, *FACTS, "best_rank", "worst_rank", *judged, *numbers])
    for board in boards:
        where = [about(board)[name] for name in head]
        for row in board.rows:
            rule = board.rule.margin, board.rule.min_seeds
            answer = (row.verdict or "", " ".join(row.notes), *rule)
            who = [*facts(row).values(), *(row.rank or ("", "")), *answer]
            for name, n in row.numbers.items():
                line = [*where, *who, name, n.value, n.low, n.high, n.sd, n.n]
                writer.writerow([inert(value) for value in line])
    return out.getvalue()


def about(board: Board) -> dict[str, Any]:
    """Facts that all rows of a board share."""
    return {
        "task": board.record.task,
        "set": board.known.name,
        "purpose": board.known.purpose,
        "source": board.record.source,
        "fingerprint": board.record.fingerprint,
        "rows_sha256": board.known.rows_sha256,
        "collapse_rule": board.record.collapse_rule,
        "examples": board.known.rows,
        "metric": board.metric,
        "gap": board.gap,
        "margin": board.rule.margin,
        "min_seeds": board.rule.min_seeds,
        "min_group": board.rule.min_group,
    }


def facts(row: Row) -> dict[str, Any]:
    """Who a row is about."""
    values = (
        row.submission,
        row.file,
        row.digest,
        row.student,
        row.model.model,
        row.model.method,
        row.distiller,
        row.seeds,
    )
    return dict(zip(FACTS, values, strict=True))


def inert(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such text gets an apostrophe in front."""
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else value
