"""Paired, group-stratified resamples of three models' answers: intervals of every metric of labels.

Ours draws how often each kind of row (same stratum, same answers of all models) is taken: a few
dozen numbers a resample. Row by row: the same metrics on one count for each row. Plain: one
resample after the other, rows drawn by index, group accuracies by bincount; it computes less.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from common import Goal, Table, environment, interleave, parse, parser, report, timed

from harness_plugin.records import Counts, Floats, Predictions
from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.measure import measure_groups, measure_set
from harness_plugin.scoring.pairing import PairedPredictions, first_of

METRICS = (m.ACC, m.F1, m.WORST_GROUP_ACC, m.GAP_AVG_WORST, m.GAP_ALIGNED_CONFLICTING)
MODELS, GROUPS, LABELS = ("teacher", "student", "control"), 6, ("entailment", "non-entailment")
OURS, ROWS, PLAIN = "harness-plugin", "harness-plugin, row by row", "plain loop, worst group only"


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=3, device=False)
    options.add_argument("--rows", type=int, help="default 30000, quick 300")
    options.add_argument("--resamples", type=int, help="default 10000, quick 20")
    args = parse(options)
    rows = args.rows or (300 if args.quick else 30_000)
    resamples = args.resamples or (20 if args.quick else 10_000)
    paired, tables = answers(rows, args.seed), []
    cells = Bootstrap("bench", resamples, args.seed)
    variants = {
        OURS: partial(timed, partial(measured, cells, paired)),
        ROWS: partial(timed, partial(measured, RowByRow("bench", resamples, args.seed), paired)),
        PLAIN: partial(timed, partial(plain, paired, resamples, args.seed)),
    }

    def run() -> None:
        check_same(paired, args.seed)
        title = f"{resamples} resamples of {rows} rows, {len(MODELS)} models, {GROUPS} groups"
        goals = {OURS: [Goal(PLAIN, 0.1)]}
        tables.append(Table(title, "run", PLAIN, interleave(variants, args.rounds), goals))

    report(args, environment(), tables, timed(run))


def answers(rows: int, seed: int) -> PairedPredictions:
    """Three models that are right on 60 to 95% of the rows of each group."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(rows) % GROUPS
    label = group % 2

    def of(role: str) -> Predictions:
        right = rng.random(rows) < rng.uniform(0.6, 0.95, size=GROUPS)[group]
        return Predictions(
            task="bench",
            split="test",
            role=role,
            model=role,
            seed=0,
            ids=np.array([f"{i:06d}" for i in range(rows)]),
            logits=np.eye(2, dtype=np.float32)[np.where(right, label, 1 - label)],
            model_labels=LABELS,
            label=label,
            labels=LABELS,
            group=group,
            groups=tuple(f"g{i}" for i in range(GROUPS)),
            aligned=1 - label,
        )

    return {role: (of(role),) for role in MODELS}


class RowByRow(Bootstrap):
    """Every row is drawn, as for metrics that need more than labels."""

    def cells(
        self, paired: PairedPredictions, *of: str
    ) -> tuple[PairedPredictions, Iterator[Counts]]:
        return paired, self.rows(paired, *of)


def measured(bootstrap: Bootstrap, paired: PairedPredictions) -> dict[str, Floats]:
    """(S, 1 + B) worst-group accuracy of every model, computed with all the other metrics."""
    return dict(measure_set(paired, METRICS, bootstrap, "test")["worst_group_acc"].values)


def plain(paired: PairedPredictions, resamples: int, seed: int) -> dict[str, Floats]:
    """(B,) worst-group accuracy of every model, one resample after the other."""
    rng, group = np.random.default_rng(seed), first_of(paired).group
    members = [np.flatnonzero(group == g) for g in range(GROUPS)]
    correct = {role: predictions[0].correct for role, predictions in paired.items()}
    lowest = {role: np.empty(resamples) for role in paired}
    for b in range(resamples):
        drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in members])
        sizes = np.bincount(group[drawn], minlength=GROUPS)
        for role, hit in correct.items():
            hits = np.bincount(group[drawn], weights=hit[drawn], minlength=GROUPS)
            lowest[role][b] = (hits / sizes).min()
    return lowest


def check_same(paired: PairedPredictions, seed: int) -> None:
    """Refuse to time things that do not have the same mean and spread."""
    result = measure_groups(paired, Bootstrap("bench", 400, seed)).values()
    groups = [quantities["acc"].values for quantities in result]
    theirs = plain(paired, 400, seed)
    for role in paired:
        mine = np.min([values[role][0, 1:] for values in groups], axis=0)
        other = theirs[role]
        error = other.std() / np.sqrt(len(other))
        if abs(mine.mean() - other.mean()) > 6 * error or not 0.8 < mine.std() / other.std() < 1.25:
            raise SystemExit(f"{role}: the variants draw from different distributions")


if __name__ == "__main__":
    main()
