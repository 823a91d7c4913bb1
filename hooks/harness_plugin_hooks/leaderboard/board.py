"""Verified bundles → one board an evaluation set, with ranks that respect the intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness_plugin.records import DEFAULT_RULE, VerdictRule
from harness_plugin.scoring.files.finished_runs import evidence_from
from harness_plugin.scoring.files.prediction_tables import EvaluationSet
from harness_plugin.scoring.files.transfer_record import Model, Number, TransferRecord
from harness_plugin.scoring.verdict import State, verdict
from harness_plugin_hooks.leaderboard.verify import Verified

Rank = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One student of one submission on one evaluation set."""

    submission: str
    file: str
    digest: str
    student: str
    model: Model
    """Its first seed."""
    distiller: str
    seeds: int
    """Different models: seeds that answer alike are one."""
    numbers: Mapping[str, Number]
    """By column: metrics and measures; absent where the bundle has none or it is undefined."""
    verdict: State | None
    """By the board's rule; None without a teacher."""
    sentence: str
    notes: tuple[str, ...] = ()
    """Of the verdict: reversed, no_reference, one_class."""
    rank: Rank | None = None
    unranked: str = ""
    """Why there is no rank."""


@dataclass(frozen=True)
class Board:
    """All students that answered the same rows."""

    record: TransferRecord
    """Of the first submission: task, source and fingerprint are the same in all."""
    known: EvaluationSet
    metric: str
    gap: str
    rule: VerdictRule
    """Of every verdict on the board, whatever margin a submission was made with."""
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """Task and evaluation set."""
        return f"{self.record.task}, {self.known.name}"


def boards_of(
    bundles: Mapping[str, Verified],
    *,
    metric: str = "worst_group_acc",
    higher_is_better: bool = True,
    rule: VerdictRule = DEFAULT_RULE,
) -> tuple[Board, ...]:
    """Every board of the bundles, which are keyed by file; best ranks first.

    Students meet on one board only where fingerprint, rows, labels, collapse rule and the smallest
    group that may be the worst are the same. Verdicts are given anew, with the margin and seeds of
    `rule`, from what the bundles' own rest on; a rank needs as many seeds.
    """
    meeting: dict[tuple[str, ...], list[tuple[str, Verified, TransferRecord, EvaluationSet]]]
    meeting = defaultdict(list)
    for file, bundle in sorted(bundles.items()):
        for record in bundle.records.values():
            for known in record.sets:
                key: tuple[str, ...] = (
                    record.task,
                    # out-of-distribution sets first: they are what is asked about
                    "01"[known.purpose == "in_domain"],
                    known.name,
                    record.source,
                    record.fingerprint,
                    known.rows_sha256,
                    record.collapse_rule,
                    f"{record.rule.min_group:09}",
                )
                meeting[key].append((file, bundle, record, known))
    boards = []
    for key in sorted(meeting):
        entries = meeting[key]
        _, _, record, known = entries[0]
        gaps = Counter(r.primary[known.name] for _, _, r, _ in entries if known.name in r.primary)
        gap = min(gaps, key=lambda name: (-gaps[name], name), default="")
        of_board = replace(rule, min_group=record.rule.min_group)
        rows = [
            row
            for file, bundle, record_of_file, _ in entries
            for row in rows_of(file, bundle, record_of_file, known.name, metric, gap, of_board)
        ]
        in_order = ranked(rows, metric, higher_is_better, rule.min_seeds)
        boards.append(Board(record, known, metric, gap, of_board, in_order))
    return tuple(boards)


def rows_of(
    file: str,
    bundle: Verified,
    record: TransferRecord,
    split: str,
    metric: str,
    gap: str,
    rule: VerdictRule,
) -> list[Row]:
    """One row for each student of a bundle."""
    rows = []
    scores = {s.role: s for s in record.scores if s.split == split}
    for student in sorted(role for role in scores if role.startswith("student")):
        own = scores[student].metrics
        teacher = scores["teacher"].metrics if "teacher" in scores else {}
        measures = {
            (m.metric, m.measure): m.number
            for m in record.transfer
            if (m.student, m.split, m.subset) == (student, split, "")
        }
        numbers = {
            metric: own.get(metric),
            "acc": own.get("acc"),
            gap: own.get(gap),
            f"teacher_{metric}": teacher.get(metric),
            "distillability": measures.get((metric, "distillability")),
            "contribution": measures.get((metric, "contribution")),
            "retention": measures.get((metric, "retention")),
            "gap_size_change": measures.get((gap, "gap_size_change")),
        }
        model = next(m for m in record.models if m.role == student)
        given = next((v for v in record.verdicts if (v.student, v.split) == (student, split)), None)
        judged = verdict(record.task, evidence_from(given), rule) if given else None
        rows.append(
            Row(
                submission=bundle.name,
                file=file,
                digest=bundle.digest,
                student=student,
                model=model,
                distiller=str((model.settings.get("distillation") or {}).get("distiller", "")),
                seeds=scores[student].distinct_seeds,
                numbers={k: n for k, n in numbers.items() if n and n.value is not None},
                verdict=judged.state if judged else None,
                sentence=judged.sentence if judged else "submitted without its teacher",
                notes=judged.notes if judged else (),
            )
        )
    return rows


def ranked(
    rows: Sequence[Row], metric: str, higher_is_better: bool, min_seeds: int
) -> tuple[Row, ...]:
    """The rows with their ranks, best first; those without a rank last."""
    sign = 1 if higher_is_better else -1
    placed, rest = [], []
    for row in rows:
        number = row.numbers.get(metric)
        if number is None or number.low is None or number.high is None:
            rest.append(replace(row, unranked=f"no interval of {metric}"))
        elif row.seeds < min_seeds:
            reason = f"{row.seeds} seed{'s' * (row.seeds > 1)}, a rank needs {min_seeds}"
            rest.append(replace(row, unranked=reason))
        else:
            ends = sorted((sign * number.low, sign * number.high))
            placed.append((row, (ends[0], ends[1])))
    ranks = rank_ranges([ends for _, ends in placed])
    rows_ranked = [replace(row, rank=rank) for (row, _), rank in zip(placed, ranks, strict=True)]

    def order(row: Row) -> tuple[Rank, float, str, str]:
        number = row.numbers.get(metric)
        value = float("inf") if number is None or number.value is None else -sign * number.value
        return row.rank or (0, 0), value, row.file, row.student

    return (*sorted(rows_ranked, key=order), *sorted(rest, key=order))


def rank_ranges(intervals: Sequence[tuple[float, float]]) -> list[Rank]:
    """The ranks that each (low, high) may have, higher is better.

    One is above another only if its whole interval is: those that overlap share their ranks.
    """
    return [
        (
            1 + sum(other_low > high for other_low, _ in intervals),
            len(intervals) - sum(other_high < low for _, other_high in intervals),
        )
        for low, high in intervals
    ]
