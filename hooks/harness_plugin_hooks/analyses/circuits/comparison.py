"""Two circuits side by side: by depth, by matched components, by edges where graphs are one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr, wasserstein_distance

from harness_plugin.records import Floats, Ints
from harness_plugin_hooks.analyses.circuits.circuit import Circuit

TOP = 0.1
"""Share of the edges whose overlap is counted."""

FEWEST_MATCHED = 4
"""Matched components below which no correlation is formed."""


@dataclass(frozen=True)
class Match:
    """A component of the second model, the first's most like it, and their correlation."""

    second: str
    first: str
    correlation: float


@dataclass(frozen=True)
class Comparison:
    """Two circuits, found from the same pairs; nan where undefined, `reasons` say why."""

    first: str
    second: str
    seeds: tuple[int, int]
    jaccard: float
    jaccard_chance: float
    profile_distance: float
    spearman: float
    matched: tuple[Match, ...]
    reasons: dict[str, str]


def compare(first: Circuit, second: Circuit) -> Comparison:
    """How alike two circuits are."""
    reasons: dict[str, str] = {}
    jaccard, chance = np.nan, np.nan
    if first.graph.same_as(second.graph):
        jaccard, chance = overlap(first, second)
    else:
        reasons["jaccard"] = (
            f"the graphs differ: {first.graph.family}, {len(first.graph.edges)} edges, and "
            f"{second.graph.family}, {len(second.graph.edges)} edges"
        )
    (at, share), (other_at, other_share) = first.profile, second.profile
    distance = np.nan
    if np.isnan([share.sum(), other_share.sum()]).any():
        reasons["profile_distance"] = "no component of one model matters at all"
    else:
        distance = float(wasserstein_distance(at, other_at, share, other_share))
    matched = matched_components(first, second)
    masses = np.array([[first.mass[0, a], second.mass[0, b]] for a, b, _ in matched])
    rank = np.nan
    if len(matched) < FEWEST_MATCHED:
        reasons["head_spearman"] = f"{len(matched)} matched components, {FEWEST_MATCHED} are needed"
    elif (np.ptp(masses, axis=0) == 0).any():
        reasons["head_spearman"] = "all matched components of one model matter alike"
    else:
        rank = float(spearmanr(masses[:, 0], masses[:, 1]).statistic)

    return Comparison(
        first.role,
        second.role,
        (first.seed, second.seed),
        jaccard,
        chance,
        distance,
        rank,
        tuple(Match(name(second, b), name(first, a), value) for a, b, value in matched),
        reasons,
    )


def name(circuit: Circuit, speaking: int) -> str:
    """A speaking node's name."""
    node: int = circuit.speaking[speaking]
    return circuit.graph.nodes[node].id


def overlap(first: Circuit, second: Circuit) -> tuple[float, float]:
    """Jaccard index of the strongest tenth of both models' edges, and its value for random tenths.

    For two random sets of k among n edges: that of the expected intersection, k^2 / n.
    """
    edges = len(first.graph.edges)
    top = max(1, round(TOP * edges))
    both = len(np.intersect1d(first.order[:top], second.order[:top]))
    expected = top * top / edges
    return both / (2 * top - both), expected / (2 * top - expected)


def matched_components(first: Circuit, second: Circuit) -> list[tuple[int, int, float]]:
    """Heads (groups of channels) of both models, matched one to one, layer by layer.

    A layer of the second goes with the first's at the nearest depth; inside, the Hungarian method
    takes the pairing with the largest sum of |correlation| over pairs of what components
    contribute (the sum of scores from each). Gives (index in the first's speaking nodes, in the
    second's, correlation).
    """
    ours, theirs = layers(first), layers(second)
    if not ours or not theirs:
        return []
    depths = np.array(list(ours))
    effects, other_effects = standardised(first), standardised(second)
    out = []
    for depth, members in theirs.items():
        partners = ours[float(depths[np.abs(depths - depth).argmin()])]
        alike = effects[:, partners].T @ other_effects[:, members]
        for a, b in zip(*linear_sum_assignment(-np.abs(alike)), strict=True):
            out.append((int(partners[a]), int(members[b]), float(alike[a, b])))
    return out


def layers(circuit: Circuit) -> dict[float, Ints]:
    """Depth → the speaking nodes that are heads or groups of channels there."""
    nodes = [circuit.graph.nodes[node] for node in circuit.speaking]
    units = [(i, node.depth) for i, node in enumerate(nodes) if node.kind in ("head", "block")]
    return {
        depth: np.array([i for i, other in units if other == depth])
        for depth in sorted({depth for _, depth in units})
    }


def standardised(circuit: Circuit) -> Floats:
    """(N, U) what every speaking node contributes to each pair, mean 0 and length 1 over pairs."""
    effects = circuit.scores @ circuit.owner
    effects -= effects.mean(axis=0)
    size = np.linalg.norm(effects, axis=0)
    out: Floats = effects / np.where(size > 0, size, 1)
    return out


def gini(masses: Floats) -> float:
    """Gini coefficient of (K,) masses: 0 all alike, near 1 one alone; nan without any."""
    total, n = masses.sum(), len(masses)
    if not total > 0:
        return float("nan")
    rank = np.arange(1, n + 1)
    return float((2 * rank - n - 1) @ np.sort(masses) / (n * total))


def comparisons(circuits: list[Circuit]) -> Iterator[Comparison]:
    """Every two roles of a seed; then every two seeds of a role, which is how alike two get."""
    for first, second in combinations(circuits, 2):
        if first.seed == second.seed:
            yield compare(first, second)
    for first, second in combinations(circuits, 2):
        if first.role == second.role:
            yield compare(first, second)
