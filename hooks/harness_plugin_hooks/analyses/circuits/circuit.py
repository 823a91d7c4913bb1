"""The circuit of a model: the scores of all edges, and what circuits of the strongest keep."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import t as student_t

from harness_plugin.records import Floats, Ints
from harness_plugin.scoring.statistics.intervals import MIN_GROUP, bounds, components, ratio
from harness_plugin_hooks.analyses.circuits.graphs import Graph

SHARES = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1)
"""Circuits hold so many of the edges."""

ENOUGH = 0.9
NEGLIGIBLE = 1e-3
"""Of the mean size of the metric: a change below it is none."""

COMPONENTS = ("head", "mlp", "block")


@dataclass(frozen=True)
class Circuit:
    """Circuit of one model, from N pairs.

    `scores` (N, E), corrupted - clean. The metric of every pair: `full` and `empty` (N,), `kept`
    (S, N) with only the circuit of k edges, `removed` (S, N) without it. `random_kept` (D, S, N):
    circuits that grow alike, by random scores; `random_removed` (D, S, N): without k edges at
    random. `sizes` (S,) are the k. `attributed` and `actual` (N,): the whole effect at the input,
    from gradients and from a forward.
    """

    role: str
    seed: int
    graph: Graph
    group: NDArray[np.str_]
    scores: Floats
    sizes: Ints
    full: Floats
    empty: Floats
    kept: Floats
    removed: Floats
    random_kept: Floats
    random_removed: Floats
    attributed: Floats
    actual: Floats
    counts: Floats
    """(1 + R, N) how often a pair counts: once, then in every resample."""

    @cached_property
    def score(self) -> Floats:
        """(E,) mean over pairs."""
        mean: Floats = self.scores.mean(axis=0)
        return mean

    @cached_property
    def order(self) -> Ints:
        """(E,) edges, the strongest first."""
        return strongest_first(self.score)

    @property
    def reason(self) -> str:
        """Why faithfulness is undefined, "" where it is defined.

        It divides by the corruption's mean effect, which has to be told from 0: both by the noise
        over pairs (a t-interval of 95%) and as a share of the metric.
        """
        change = self.full - self.empty
        pairs, effect = len(change), abs(float(change.mean()))
        noise = float(change.std(ddof=1)) / math.sqrt(pairs) if pairs > 1 else math.inf
        half = float(student_t.ppf(0.975, self.df)) * noise if pairs > 1 else math.inf
        if effect > max(half, NEGLIGIBLE * float(np.abs(self.full).mean())):
            return ""
        by = f"{effect:.2g} only" if effect >= half else f"{effect:.2g} ± {half:.2g}"
        return (
            f"undefined: clean and corrupted inputs hardly differ: over {pairs} pairs the "
            f"corruption changes the metric by {by}"
        )

    def faithfulness(self, values: Floats) -> Floats:
        """(1 + R, …) of metrics (…, N), on all pairs and in every resample; nan where undefined."""
        if self.reason:
            return np.full((len(self.counts), *values.shape[:-1]), np.nan)
        effects = np.moveaxis((values - self.empty) @ self.counts.T, -1, 0)
        whole = (self.full - self.empty) @ self.counts.T
        with np.errstate(divide="ignore", invalid="ignore"):
            out: Floats = effects / whole.reshape(-1, *[1] * (values.ndim - 1))
        return out

    @property
    def no_interval(self) -> str:
        """Why there are no intervals, "" where there are some."""
        pairs = len(self.full)
        return "" if pairs >= MIN_GROUP else f"no interval: {pairs} pairs, it takes {MIN_GROUP}"

    def faithfulness_bounds(self, values: Floats) -> tuple[Floats, Floats]:
        """95% bounds over pairs of the faithfulness of metrics (S, N): (S,) each, by Fieller.

        nan where faithfulness is undefined, there are too few pairs, or the corruption's effect is
        not shown to differ from 0.
        """
        nothing = np.full(len(values), np.nan)
        if self.reason or self.no_interval:
            return nothing, nothing
        change = self.full - self.empty
        sign = np.sign(change.mean())
        whole = sign * (change @ self.counts.T) / len(change)
        part = sign * ((values - self.empty) @ self.counts.T) / len(change)
        _, low, high = ratio(part[:, None], np.broadcast_to(whole, part[:, None].shape), self.df)
        return low, high

    @property
    def df(self) -> float:
        """Degrees of freedom of a variance over pairs."""
        return float(len(self.full) - 1)

    @cached_property
    def mass_bounds(self) -> tuple[Floats, Floats]:
        """95% bounds over pairs of the mass of every speaking node: (U,) each."""
        if self.no_interval:
            return np.full(len(self.speaking), np.nan), np.full(len(self.speaking), np.nan)
        _, low, high = bounds(components(self.mass.T[:, None], self.df))
        return np.maximum(low, 0), high

    def area(self, values: Floats) -> float:
        """Area below the faithfulness of metrics (S, N) over the share of edges, or nan."""
        shares = self.sizes / self.sizes[-1]
        return float(trapezoid(self.faithfulness(values)[0], shares))

    @property
    def size_90(self) -> int | None:
        """The smallest circuit of the curve with 90% faithfulness; None where it is undefined."""
        enough = np.flatnonzero(self.faithfulness(self.kept)[0] >= ENOUGH)
        return None if self.reason else int(self.sizes[enough[0]])

    @cached_property
    def speaking(self) -> Ints:
        """Nodes that say something: all but the output and, in a ResNet, what only reads."""
        return np.unique([edge.source for edge in self.graph.edges])

    @cached_property
    def owner(self) -> Floats:
        """(E, U) 1 where an edge is from that one of `speaking`."""
        column = np.searchsorted(self.speaking, [edge.source for edge in self.graph.edges])
        out: Floats = np.eye(len(self.speaking))[column]
        return out

    def masses(self, scores: Floats) -> Floats:
        """(…, U) sum of |score| over the edges from every speaking node; `scores` (…, E)."""
        out: Floats = np.abs(scores) @ self.owner
        return out

    @cached_property
    def mass(self) -> Floats:
        """(1 + R, U) of the mean scores, on all pairs and in every resample."""
        weights = self.counts / self.counts.sum(axis=1, keepdims=True)
        return np.concatenate(
            [self.masses(part @ self.scores) for part in np.array_split(weights, 8)]
        )

    @property
    def components(self) -> Ints:
        """(K,) which of `speaking` are components: heads, feed-forwards, groups of channels."""
        kinds = [self.graph.nodes[node].kind in COMPONENTS for node in self.speaking]
        return np.flatnonzero(kinds)

    @property
    def profile(self) -> tuple[Floats, Floats]:
        """(K,) depths and (K,) shares of the components' mass."""
        mass = self.mass[0, self.components]
        depths = np.array([self.graph.nodes[self.speaking[k]].depth for k in self.components])
        total = mass.sum()
        return depths, mass / total if total > 0 else np.full(len(mass), np.nan)


def strongest_first(score: Floats) -> Ints:
    """(E,) edges by |score|, the strongest first."""
    return np.argsort(-np.abs(score), kind="stable")


def first_of(order: Ints, sizes: Ints) -> NDArray[np.bool_]:
    """(S, E) circuits of the first k edges of `order` (E,), for every k of `sizes` (S,)."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return np.less(place, sizes[:, None])


def grown(graph: Graph, strength: Floats) -> Ints:
    """(E,) edges in the order in which a circuit grows from the output.

    The next edge is the strongest one of all that lead into the circuit (greedily, as the code of
    Hanna et al. 2024, arXiv:2403.17806, does): one that leads nowhere does nothing. `strength` is
    (E,).
    """
    into: dict[int, list[int]] = {}
    for number, edge in enumerate(graph.edges):
        into.setdefault(edge.target, []).append(number)
    end = graph.edges[-1].target
    reached, order = {end}, np.empty(len(graph.edges), np.int64)
    open_edges = [(-float(strength[number]), number) for number in into[end]]
    heapq.heapify(open_edges)
    for place in range(len(order)):
        order[place] = heapq.heappop(open_edges)[1]
        writer = graph.edges[order[place]].source
        source = graph.reads_for.get(writer, writer)
        if source not in reached:
            reached.add(source)
            for number in into.get(source, ()):
                heapq.heappush(open_edges, (-float(strength[number]), number))
    return order


def sizes_of(edges: int) -> Ints:
    """(S,) how many edges the circuits of the curve hold: 0 … all, each once."""
    return np.unique(np.ceil(np.array(SHARES) * edges - 1e-9).astype(np.int64))
