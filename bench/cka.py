"""CKA of all layers of two models: ours, torch_cka, ckatorch, and a float64 reference.

Both peers and ours are handed the same features, 24 and 12 layers of width 768 on 2,000 examples in
batches of 250 and of 64, so that no model's forward pass is timed: both peers run their own loop on
modules that give stored features, ckatorch for one epoch (its default is ten). They are left out
without `--peers DIR`, a folder where `pip install --no-deps --target DIR torch_cka
ckatorch matplotlib contourpy cycler fonttools kiwisolver pyparsing seaborn` has put them. The error
is the largest difference from HSIC_1 in float64, pair by pair. The last table is the forward pass.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from workload import LONG, Size, attention_for, bert, prepare_device
from workload import text as random_text

from harness_plugin.analysis.loaded_models import inputs_of
from harness_plugin_hooks.analyses.cka.compute import WINDOW
from harness_plugin_hooks.analyses.cka.streaming import StreamingCKA
from harness_plugin_hooks.analyses.reading import BATCH, Reader

BATCHES = (250, 64)
OURS, OURS64 = "harness-plugin, float32 Grams", "harness-plugin, float64 Grams"


def features(layers: int, rows: int, width: int, seed: int) -> list[Tensor]:
    """Layers that have something in common: a shared part and noise."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(rows, width, generator=torch.Generator().manual_seed(99))
    return [
        common * (1 - layer / layers) + torch.randn(rows, width, generator=generator)
        for layer in range(layers)
    ]


def ours(first: list[Tensor], second: list[Tensor], batch: int, dtype: torch.dtype) -> np.ndarray:
    """(A, B) values."""
    stream = StreamingCKA(len(first) + len(second), dtype=dtype)
    for start in range(0, len(first[0]) // batch * batch, batch):
        stream.update([layer[start : start + batch] for layer in [*first, *second]])
    return stream.between(slice(len(first)), slice(len(first), None)).value


def reference(first: list[Tensor], second: list[Tensor], batch: int) -> np.ndarray:
    """(A, B) by the formula of HSIC_1 (Song et al. 2012, eq. 5), pair by pair, in float64."""
    ends = range(0, len(first[0]) // batch * batch, batch)

    def hsic(a: Tensor, b: Tensor) -> float:
        total = 0.0
        for start in ends:
            x, y = (z[start : start + batch].double() for z in (a, b))
            k, m = ((v @ v.T).fill_diagonal_(0) for v in (x - x.mean(0), y - y.mean(0)))
            n = len(x)
            middle = k.sum() * m.sum() / ((n - 1) * (n - 2))
            whole = (k * m.T).sum() + middle - 2 * (k.sum(0) @ m.sum(1)) / (n - 2)
            total += float(whole) / (n * (n - 3))
        return total

    own = [[hsic(layer, layer) for layer in side] for side in (first, second)]
    return np.array(
        [
            [hsic(a, b) / np.sqrt(own[0][i] * own[1][j]) for j, b in enumerate(second)]
            for i, a in enumerate(first)
        ]
    )


class StoredFeatures(nn.Module):
    """A module that gives one layer's stored features for the rows it is asked for."""

    def __init__(self, layer: Tensor) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, rows: Tensor) -> Tensor:
        """(n, d) of rows (n,)."""
        return self.layer[rows]


class Layers(nn.Module):
    """All layers of a model."""

    def __init__(self, layers: list[Tensor]) -> None:
        super().__init__()
        self.each = nn.ModuleList(StoredFeatures(layer) for layer in layers)

    def forward(self, rows: Tensor) -> Tensor:
        """The last layer's features; hooks see all."""
        return [layer(rows) for layer in self.each][-1]


class Stacked(Layers):
    """The same with a first dimension, which ckatorch wants: one matrix of rows a batch."""

    def forward(self, rows: Tensor) -> Tensor:
        """As `Layers`."""
        return [layer(rows[None]) for layer in self.each][-1]


def torch_cka(first: list[Tensor], second: list[Tensor], batch: int) -> None:
    """Its own loop."""
    names = [[f"each.{i}" for i in range(len(side))] for side in (first, second)]
    rows = TensorDataset(torch.arange(len(first[0]) // batch * batch))
    loader = DataLoader(rows, batch_size=batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        peer = importlib.import_module("torch_cka").CKA(
            Layers(first), Layers(second), "a", "b", *names, device="cpu"
        )
        peer.compare(loader)


def ckatorch(first: list[Tensor], second: list[Tensor], batch: int) -> None:
    """Its own loop, one epoch."""
    names = [[f"each.{i}" for i in range(len(side))] for side in (first, second)]
    rows = TensorDataset(torch.arange(len(first[0]) // batch * batch))
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        peer = importlib.import_module("ckatorch").CKA(Stacked(first), Stacked(second), *names)
        peer(DataLoader(rows, batch_size=batch), epochs=1)


def compared(
    first: list[Tensor], second: list[Tensor], batch: int, args: argparse.Namespace
) -> Table:
    """Ours and the peers on batches of one size."""
    variants: dict[str, Callable[[], Any]] = {
        OURS: lambda: ours(first, second, batch, torch.float32),
        OURS64: lambda: ours(first, second, batch, torch.float64),
    }
    goals: dict[str, list[Goal]] = {}
    if args.peers:
        variants |= {
            "torch_cka": lambda: torch_cka(first, second, batch),
            "ckatorch": lambda: ckatorch(first, second, batch),
        }
        goals = {OURS: [Goal("torch_cka", 1 / 12), Goal("ckatorch", 1 / 40)]}
    timers = {name: (lambda run=run: timed(run)) for name, run in variants.items()}
    rows, width = first[0].shape
    title = (
        f"{len(first)} x {len(second)} layers of width {width}, {rows} examples, batches of {batch}"
    )
    return Table(title, "matrix", OURS, interleave(timers, args.rounds), goals)


def reading(args: argparse.Namespace) -> Table:
    """All layers of random rows, as `harness analyze --cka` reads them and as they come."""
    rows, size = (128, Size(2, 64)) if args.quick else (1024, Size(4, 256))
    encoded, _ = random_text(rows, LONG, args.seed)
    model, device = bert(size, attention_for(args.device), args.seed), torch.device(args.device)
    reader, order = Reader(model.eval().to(device)), np.random.default_rng(0).permutation(rows)

    def cut(number: int) -> list[np.ndarray]:
        return [order[start : start + number] for start in range(0, rows, number)]

    variants: dict[str, Callable[[], Any]] = {
        "rows of about one length together": lambda: [
            reader.of_rows(encoded, some, device) for some in cut(WINDOW)
        ],
        "as they come": lambda: [reader(inputs_of(encoded, some, device)) for some in cut(BATCH)],
    }
    timers = {name: (lambda run=run: timed(run)) for name, run in variants.items()}
    title = f"Layers of BERT {size}, {rows} rows of {LONG.least}-{LONG.most} tokens"
    return Table(title, "pass", "as they come", interleave(timers, args.rounds))


def main() -> None:
    """Print the table and the errors."""
    options = parser(__doc__.splitlines()[0], rounds=3)
    options.add_argument("--peers", type=Path, metavar="DIR", help="folder with the peers")
    args = parse(options)
    prepare_device(args)
    facts = environment()
    a, b, rows, width = (4, 2, 128, 16) if args.quick else (24, 12, 2000, 768)
    if args.peers:
        sys.path.append(str(args.peers))
    first, second = features(a, rows, width, 1), features(b, rows, width, 2)
    batches = [min(batch, rows) for batch in BATCHES]
    tables: list[Table] = []
    taken = timed(lambda: tables.extend(compared(first, second, batch, args) for batch in batches))
    taken += timed(lambda: tables.append(reading(args)))
    report(args, facts, tables, taken)
    for batch in batches:
        expected = reference(first, second, batch)
        for name, dtype in ((OURS, torch.float32), (OURS64, torch.float64)):
            error = np.abs(ours(first, second, batch, dtype) - expected).max()
            print(f"{name}, batches of {batch}: largest error {error:.1e}.")
    if not args.peers:
        print("torch_cka and ckatorch are left out: no --peers.")


if __name__ == "__main__":
    main()
