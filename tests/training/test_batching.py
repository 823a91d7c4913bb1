"""Which rows come in which update."""

import numpy as np
import pytest

from harness_plugin.training import batching

LENGTHS = np.random.default_rng(0).integers(5, 60, size=1003)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_every_row_comes_once_an_epoch(lengths):
    plan = batching.epoch(1003, 32, seed=1, number=0, lengths=lengths)
    assert sorted(np.concatenate(plan)) == list(range(1003))
    assert len(plan) == batching.updates_per_epoch(1003, 32) == 32
    assert {len(batch) for batch in plan} <= {31, 32}


def test_no_batch_is_larger_than_asked_for():
    for rows in (64, 65, 1599, 1601, 3203):
        plan = batching.epoch(rows, 32, seed=0, number=0, lengths=np.arange(rows))
        assert max(len(batch) for batch in plan) <= 32


def test_bucketing_saves_padding_and_still_shuffles():
    plan = batching.epoch(1003, 32, seed=1, number=0, lengths=LENGTHS)
    plain = batching.epoch(1003, 32, seed=1, number=0)

    def padded(chosen):
        return sum(LENGTHS[batch].max() * len(batch) for batch in chosen)

    assert padded(plan) < 0.65 * padded(plain)
    assert padded(plan) < 1.1 * LENGTHS.sum()
    first = [int(LENGTHS[batch].mean()) for batch in plan]
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


def test_epochs_differ_and_repeat_with_the_seed():
    one = batching.epoch(200, 16, seed=3, number=0, lengths=LENGTHS[:200])
    again = batching.epoch(200, 16, seed=3, number=0, lengths=LENGTHS[:200])
    other = batching.epoch(200, 16, seed=3, number=1, lengths=LENGTHS[:200])
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_weights_draw_in_proportion():
    weights = np.where(np.arange(1000) < 10, 99.0, 1.0)  # half the mass on ten rows
    plan = batching.epoch(1000, 50, seed=0, number=0, weights=weights, lengths=LENGTHS[:1000])
    drawn = np.concatenate(plan)
    assert len(drawn) == 1000
    assert (drawn < 10).mean() == pytest.approx(0.5, abs=0.05)


def test_shares_of_processes_make_the_whole_batch_in_order():
    batch = np.arange(7)
    assert np.array_equal(
        np.concatenate([batch[slice(*batching.bounds(len(batch), r, 3))] for r in range(3)]), batch
    )


def test_evaluation_batches_hold_every_row_once_and_start_with_the_longest():
    plan = batching.evaluation_batches(103, 8, LENGTHS[:103])
    assert sorted(np.concatenate(plan)) == list(range(103))
    assert LENGTHS[plan[0]].max() == LENGTHS[:103].max()
