"""EVaLS: rows by hand, the authors' training as reference, and a cue that is unlearnt."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness_plugin import HarnessError
from harness_plugin.training.trainer import StoredOutputs
from harness_plugin_hooks.methods.last_layer import evals
from harness_plugin_hooks.methods.last_layer.evals import (
    EVaLS,
    environment_cells,
    extremes,
    paths,
)
from harness_plugin_hooks.methods.last_layer.refit import Head, Rows, halves

FAST = {"epochs": 6, "batch_size": 8, "learning_rate": 0.05}


def test_the_rows_of_highest_and_lowest_loss_of_each_label():
    loss = np.array([0.1, 3.0, 0.5, 2.0, 0.2, 0.2, 9.0])
    label = np.array([0, 0, 0, 0, 1, 1, 1])
    assert extremes(loss, label, 1).tolist() == [1, 6, 0, 4]
    assert extremes(loss, label, 2).tolist() == [1, 3, 6, 4, 0, 2, 4, 5]  # of equal ones the first
    assert sorted(extremes(loss, label, 50).tolist()) == sorted([*range(7), *range(7)])


def test_both_halves_hold_every_row_once():
    first, second = halves("EVaLS", 101, 3)
    assert (len(first), len(second)) == (50, 51)
    assert sorted([*first, *second]) == list(range(101))
    assert not np.array_equal(first, halves("EVaLS", 101, 4)[0])
    with pytest.raises(HarnessError, match="two halves need validation rows, and there are 3"):
        halves("EVaLS", 3, 0)


def test_a_cell_is_label_and_environment(monkeypatch):
    """Rows that the model gets right and rows that it gets wrong are two environments."""
    monkeypatch.setattr(evals.EIIL, "defaults", {"steps": 3000, "learning_rate": 0.05})
    label = np.array([0] * 30 + [1] * 30)
    answers = np.array([0] * 24 + [1] * 6 + [1] * 20 + [0] * 10)
    cells = environment_cells(4.0 * np.eye(2, dtype=np.float32)[answers], label, 0)
    assert np.array_equal(cells // 2, label)
    for rows in (label == 0, label == 1):
        right, wrong = cells[rows & (answers == label)], cells[rows & (answers != label)]
        assert len(set(right)) == len(set(wrong)) == 1
        assert right[0] != wrong[0]


def test_one_environment_has_no_worst(monkeypatch):
    monkeypatch.setattr(evals, "opposed", lambda g, **_: np.zeros(len(g), np.int64))
    with pytest.raises(HarnessError, match="all 4 validation rows are in one environment"):
        environment_cells(np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], np.array([0, 1, 0, 1]), 0)


def authors_training(features, label, penalty, first, orders):
    """As their train_cnn: the layers after every epoch of one penalty."""
    layer = torch.nn.Linear(features.shape[1], 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(first[:, :-1])
        layer.bias.copy_(first[:, -1])
    x, y = torch.from_numpy(features), torch.nn.functional.one_hot(torch.from_numpy(label), 3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
    criterion, after = torch.nn.CrossEntropyLoss(), []
    for order in orders:
        for rows in order.split(8):
            optimizer.zero_grad()
            loss = criterion(layer(x[rows]), y[rows].double())
            for parameter in layer.parameters():
                loss = loss + penalty * torch.norm(parameter, p=1)
            loss.backward()
            optimizer.step()
        schedule.step()
        after.append(Head(*(p.detach().numpy().copy() for p in (layer.weight, layer.bias))))
    return after


def test_every_path_is_the_authors_training_of_one_penalty():
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=50)
    features = rng.normal(size=(50, 4)) + np.eye(3, 4)[label]
    validation = Rows(rng.normal(size=(60, 4)), rng.integers(3, size=60), rng.integers(4, size=60))
    generator = torch.Generator().manual_seed(7)
    first = evals.start(3, 4, generator)
    orders = [torch.randperm(50, generator=generator) for _ in range(FAST["epochs"])]
    limit = (6 / 7) ** 0.5
    assert float(first[:, :-1].abs().max()) <= limit
    assert not first[:, -1].any()
    best = (None, -1.0)
    for penalty in (0.0, 0.3):
        for head in authors_training(features, label, penalty, first, orders):
            score = validation.worst_group(head)
            best = (head, score) if score > best[1] else best
    result, score = paths(
        features, label, validation, labels=3, penalties=(0.0, 0.3), seed=7, options=FAST
    )
    assert score == pytest.approx(best[1])
    assert result.weight == pytest.approx(best[0].weight, abs=1e-9)
    assert result.bias == pytest.approx(best[0].bias, abs=1e-9)


def planted(rows, rng):
    """Features [signal, cue], the cue right in nine of ten rows and four times as large."""
    label = rng.integers(2, size=rows)
    cue = np.where(rng.random(rows) < 0.9, label, 1 - label)
    both = np.column_stack([2 * label - 1, 4 * (2 * cue - 1)])
    return both + rng.normal(scale=0.4, size=(rows, 2)), label, 2 * label + cue


def test_a_cue_is_unlearnt_without_a_group_label(monkeypatch):
    """A layer that reads the cue alone: 0 in its worst group, above .9 after EVaLS."""
    monkeypatch.setattr(evals.EIIL, "defaults", {"steps": 1500, "learning_rate": 0.01})
    rng = np.random.default_rng(1)
    features, label, _ = planted(800, rng)
    cue_alone = Head(np.array([[0.0, -1.0], [0.0, 1.0]]), np.zeros(2))
    answers = StoredOutputs(
        "", cue_alone.logits(features).astype(np.float32), features.astype(np.float32)
    )
    trainer = SimpleNamespace(validation=Held(label), seed=0, predict=lambda *_: answers)
    options = EVaLS.resolved({"points": 20, "learning_rate": 0.05, "epochs": 40})
    new = EVaLS.refit(trainer, None, cue_alone, options)
    test = Rows(*planted(2000, rng))
    assert test.worst_group(cue_alone) < 0.01
    assert test.worst_group(new) > 0.9


class Held:
    """Validation rows of which nothing but labels is known."""

    def __init__(self, label):
        self.label = label

    def __len__(self):
        return len(self.label)


def test_no_epoch_teaches_nothing():
    assert EVaLS.cannot_learn(EVaLS.resolved({"epochs": 0}), 10)


def test_a_run_without_groups_trains_it(open_context, monkeypatch):
    """No group label of training or validation rows is read, and the record says so."""
    monkeypatch.setattr(evals.EIIL, "defaults", {"steps": 100, "learning_rate": 0.01})
    ctx = open_context(
        "validation_fraction=0.4",
        "method=evals",
        "options.annotated=false",
        "method_options.evals.points=5",
        "method_options.evals.epochs=2",
    )
    model = ctx.trained("teacher", ctx.settings.teacher, "evals", 0)
    assert model.supervision["train_groups"] is False
    assert model.supervision["validation_groups"] is False
    assert model.method == "evals"
