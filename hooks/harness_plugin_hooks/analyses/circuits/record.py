"""Result of the circuits analysis as JSON, as rows of a table, and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult
from harness_plugin.analysis.loaded_models import FinishedTask, LoadedModel
from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints
from harness_plugin.pipeline.roles.context import is_quiet
from harness_plugin.records import Floats, Ints, predictions_of
from harness_plugin_hooks.analyses.circuits.circuit import Circuit
from harness_plugin_hooks.analyses.circuits.comparison import Comparison, comparisons, gini
from harness_plugin_hooks.analyses.circuits.compute import explore
from harness_plugin_hooks.analyses.circuits.families import graph_of
from harness_plugin_hooks.analyses.circuits.options import CircuitOptions
from harness_plugin_hooks.analyses.circuits.pairs import Pairs, find_pairs

STRONGEST, SHOWN = 200, 8
"""Edges of a model that the JSON holds (the table has all), and that the terminal shows."""

ROUGH = 0.2
"""A larger gap between attributed and actual effect, as a share of it, is noted."""

CONVENTION = (
    "corrupted - clean: a score approximates the change of the metric when the edge alone carries "
    "what its source says in the corrupted run; metric = logit of the gold class minus that of the "
    "strongest wrong one, both classes as of the clean run"
)


def analyse(sample: AnalysisInput, options: CircuitOptions) -> AnalysisResult:
    """Find, test and compare the circuits of all models."""
    notes: list[str] = []
    chosen = [i for i, subject in enumerate(sample.models) if has_graph(subject, notes)]
    if not chosen:
        return AnalysisResult(
            as_record([], [], None, options, notes), [], ["circuits: " + "; ".join(notes)]
        )
    pairs = find_pairs(sample, options.corruption, options.pairs, options.seed)
    notes += pairs.notes
    circuits = [
        explore(
            sample.models[i],
            pairs,
            sample.encoded[i],
            None if pairs.twins is None else pairs.twins[i],
            targets_of(sample.task, sample.models[i], sample.split),
            sample.split.label[pairs.rows],
            options,
            device=sample.device,
            quiet=is_quiet(sample.task.ctx),
        )
        for i in chosen
    ]
    for circuit in circuits:
        notes += notes_of(circuit)
    compared = list(comparisons(circuits))
    return AnalysisResult(
        as_record(circuits, compared, pairs, options, notes),
        list(as_rows(circuits)),
        list(as_tables(circuits, compared, pairs, notes)),
    )


def has_graph(subject: LoadedModel, notes: list[str]) -> bool:
    """Whether there are circuits in such a model; a note where there are none."""
    try:
        graph_of(subject.model)
    except HarnessError as error:
        notes.append(f"{subject.role} seed {subject.seed} is left out: {error}")
        return False
    return True


def notes_of(circuit: Circuit) -> Iterator[str]:
    """Notes for a reader of this circuit."""
    who = f"{circuit.role} seed {circuit.seed}"
    if circuit.reason:
        yield f"{who}: faithfulness {circuit.reason}"
    elif circuit.no_interval:
        yield f"{who}: {circuit.no_interval}"
    attributed, real = float(circuit.attributed.mean()), float(circuit.actual.mean())
    if abs(attributed - real) > ROUGH * abs(real):
        yield (
            f"{who}: gradients put the whole effect at {attributed:+.3f}, a forward at "
            f"{real:+.3f}; more --ig_steps come closer"
        )


def targets_of(task: FinishedTask, subject: LoadedModel, split: Split) -> Ints:
    """(C,) the label of the set that each of the model's classes is; -1 = none."""
    record = next(m for m in task.models if (m["role"], m["seed"]) == (subject.role, subject.seed))
    recorded = record["settings"].get("labels")
    labels = tuple(recorded) if recorded else checkpoints.checkpoint_labels(str(subject.path))
    nothing = np.empty((0, len(labels)), np.float32)
    return predictions_of(
        split,
        nothing,
        task=task.ctx.task.task,
        role=subject.role,
        model=subject.role,
        seed=subject.seed,
        model_labels=labels,
    ).targets


def as_record(
    circuits: Sequence[Circuit],
    compared: Sequence[Comparison],
    pairs: Pairs | None,
    options: CircuitOptions,
    notes: Sequence[str],
) -> dict[str, Any]:
    """The JSON part; nan where a number is undefined, with a reason."""
    return {
        "measure": f"EAP-IG, {options.ig_steps} midpoints" if options.ig_steps else "EAP",
        "convention": CONVENTION,
        "corruption": None if pairs is None else pairs.kind,
        "pairs": 0 if pairs is None else len(pairs),
        "left_out": {} if pairs is None else pairs.left_out,
        "random_circuits": options.random_circuits,
        "resamples": options.resamples,
        "interval_of": "pairs",
        "seed": options.seed,
        "models": [model_record(circuit) for circuit in circuits],
        "comparisons": [comparison_record(c) for c in compared if c.first != c.second],
        "ceiling": [comparison_record(c) for c in compared if c.first == c.second],
        "notes": list(notes),
    }


def model_record(circuit: Circuit) -> dict[str, Any]:
    """One model's circuit."""
    low, high = circuit.faithfulness_bounds(circuit.kept)
    kept, removed = circuit.faithfulness(circuit.kept), circuit.faithfulness(circuit.removed)
    by_chance = mean_of(circuit, circuit.random_kept)
    depths, shares = circuit.profile
    strongest = [(int(edge), circuit.graph.names[edge]) for edge in circuit.order[:STRONGEST]]
    return {
        "role": circuit.role,
        "seed": circuit.seed,
        "family": circuit.graph.family,
        "pairs": len(circuit.full),
        "metric_full": float(circuit.full.mean()),
        "metric_empty": float(circuit.empty.mean()),
        "by_group": {
            group: {
                "pairs": int((circuit.group == group).sum()),
                "metric_full": float(circuit.full[circuit.group == group].mean()),
                "metric_empty": float(circuit.empty[circuit.group == group].mean()),
            }
            for group in dict.fromkeys(sorted(circuit.group.tolist()))
        },
        "n_edges": len(circuit.graph.edges),
        "nodes": node_records(circuit),
        "edges": [
            {"from": source, "to": target, "score": float(circuit.score[edge])}
            for edge, (source, target) in strongest
        ],
        "faithfulness": {
            "sizes": circuit.sizes.tolist(),
            "values": kept[0].tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "random": by_chance.tolist(),
            "removed": removed[0].tolist(),
            "random_removed": mean_of(circuit, circuit.random_removed).tolist(),
            "reason": circuit.reason or circuit.no_interval,
        },
        "area": circuit.area(circuit.kept),
        "area_random": float(np.mean([circuit.area(each) for each in circuit.random_kept]))
        if len(circuit.random_kept)
        else math.nan,
        "size_90": circuit.size_90,
        "gini": gini(circuit.mass[0, circuit.components]),
        "profile": profile_records(depths, shares),
        "completeness": {
            "attributed": float(circuit.attributed.mean()),
            "actual": float(circuit.actual.mean()),
        },
    }


def mean_of(circuit: Circuit, metrics: Floats) -> Floats:
    """(S,) mean faithfulness over draws (D, S, N); nan without draws."""
    if not len(metrics):
        return np.full(len(circuit.sizes), np.nan)
    mean: Floats = circuit.faithfulness(metrics)[0].mean(axis=0)
    return mean


def node_records(circuit: Circuit) -> list[dict[str, Any]]:
    """Every node; `mass` of those that say something, with 95% bounds over pairs."""
    low, high = (bound.tolist() for bound in circuit.mass_bounds)
    place = {int(node): i for i, node in enumerate(circuit.speaking)}
    groups = {
        group: circuit.masses(circuit.scores[circuit.group == group].mean(axis=0))
        for group in sorted(set(circuit.group.tolist()))
    }
    out = []
    for number, node in enumerate(circuit.graph.nodes):
        entry: dict[str, Any] = {
            "id": node.id,
            "kind": node.kind,
            "layer": node.layer,
            "head": node.head,
            "depth": node.depth,
        }
        if number in place:
            at = place[number]
            entry |= {"mass": float(circuit.mass[0, at]), "low": low[at], "high": high[at]}
            entry["by_group"] = {group: float(mass[at]) for group, mass in groups.items()}
        out.append(entry)
    return out


def profile_records(depths: Floats, shares: Floats) -> list[dict[str, float]]:
    """The components' share of the mass at every depth."""
    return [
        {"depth": float(depth), "mass": float(shares[depths == depth].sum())}
        for depth in np.unique(depths)
    ]


def comparison_record(one: Comparison) -> dict[str, Any]:
    """Two circuits."""
    return {
        "first": one.first,
        "second": one.second,
        "seed": one.seeds[0],
        "seeds": list(one.seeds),
        "jaccard": one.jaccard,
        "jaccard_chance": one.jaccard_chance,
        "reason": one.reasons.get("jaccard", ""),
        "profile_distance": one.profile_distance,
        "head_spearman": one.spearman,
        "matched": [
            {"second": m.second, "first": m.first, "correlation": m.correlation}
            for m in one.matched
        ],
        "reasons": one.reasons,
    }


def as_rows(circuits: Sequence[Circuit]) -> Iterator[dict[str, Any]]:
    """One row an edge of a model."""
    for circuit in circuits:
        rank = np.empty(len(circuit.order), np.int64)
        rank[circuit.order] = np.arange(1, len(rank) + 1)
        groups = {
            group: circuit.scores[circuit.group == group].mean(axis=0)
            for group in sorted(set(circuit.group.tolist()))
        }
        for edge, score in enumerate(circuit.score.tolist()):
            source, target = circuit.graph.names[edge]
            yield {
                "role": circuit.role,
                "seed": circuit.seed,
                "from": source,
                "to": target,
                "score": score,
                "rank": int(rank[edge]),
                **{f"score_{group}": float(scores[edge]) for group, scores in groups.items()},
            }


def as_tables(
    circuits: Sequence[Circuit],
    compared: Sequence[Comparison],
    pairs: Pairs,
    notes: Sequence[str],
) -> Iterator[RenderableType]:
    """Circuits model by model; the strongest edges; how the models compare; the notes."""
    table = Table(
        title=f"circuits, {len(pairs):,} pairs of kind {pairs.kind}", title_justify="left"
    )
    table.add_column("model")
    for head in (
        "metric clean",
        "corrupted",
        "edges",
        "90% faithful",
        "area",
        "area, random",
        "10% removed",
        "random 10%",
    ):
        table.add_column(head, justify="right")
    for circuit in circuits:
        table.add_row(f"{circuit.role} {circuit.seed}", *cells(circuit))
    yield table
    yield strongest_edges(circuits)
    if compared:
        yield comparison_table(compared)
    for note in notes:
        yield f"note: {note}"


def cells(circuit: Circuit) -> Iterator[str]:
    """A model's row."""
    tenth = int(np.flatnonzero(circuit.sizes >= 0.1 * circuit.sizes[-1])[0])
    yield f"{circuit.full.mean():.2f}"
    yield f"{circuit.empty.mean():.2f}"
    yield f"{len(circuit.graph.edges):,}"
    size = circuit.size_90
    yield "n/a" if size is None else f"{size:,} ({size / circuit.sizes[-1]:.0%})"
    yield number(circuit.area(circuit.kept))
    areas = [circuit.area(each) for each in circuit.random_kept]
    yield number(float(np.mean(areas)) if areas else math.nan)
    yield number(float(circuit.faithfulness(circuit.removed)[0, tenth]))
    yield number(float(mean_of(circuit, circuit.random_removed)[tenth]))


def strongest_edges(circuits: Sequence[Circuit]) -> Table:
    """The strongest edges of the first seed's models, side by side."""
    first = [circuit for circuit in circuits if circuit.seed == circuits[0].seed]
    title = f"strongest edges, seed {first[0].seed} (score: corrupted - clean)"
    table = Table(title=title, title_justify="left")
    for circuit in first:
        table.add_column(circuit.role)
        table.add_column("score", justify="right")
    for place in range(SHOWN):
        row: list[str] = []
        for circuit in first:
            if place < len(circuit.order):
                edge = int(circuit.order[place])
                row += [" → ".join(circuit.graph.names[edge]), f"{circuit.score[edge]:+.3f}"]
            else:
                row += ["", ""]
        table.add_row(*row)
    return table


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """Every two models."""
    table = Table(title="circuits compared", title_justify="left")
    table.add_column("models")
    for head in ("overlap of edges", "by chance", "distance of profiles", "rank correlation"):
        table.add_column(head, justify="right")
    for one in compared:
        table.add_row(
            f"{one.first} {one.seeds[0]}, {one.second} {one.seeds[1]}",
            number(one.jaccard),
            number(one.jaccard_chance),
            number(one.profile_distance),
            number(one.spearman),
        )
    return table


def number(value: float) -> str:
    """`0.91`, or n/a."""
    return "n/a" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")
