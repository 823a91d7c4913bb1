"""Which rows come in which update."""

import json
import re

import numpy as np
import pytest

from harness_plugin.training.inputs import batching

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


def drawn(weights, columns, batch_size, lengths=None, seed=0, epochs=1):
    """The batches of some epochs, as many rows an epoch as there are weights."""
    weighted = batching.WeightedRows.of(np.asarray(weights, float), columns, batch_size)
    return [
        batch
        for number in range(epochs)
        for batch in batching.epoch(
            len(weights), batch_size, seed=seed, number=number, lengths=lengths, weighted=weighted
        )
    ]


def independent(weights, batch_size, seed=0):
    """Batches of independent draws, as PyTorch's WeightedRandomSampler makes them."""
    share = np.asarray(weights, float) / np.sum(weights)
    order = np.random.default_rng(seed).choice(len(share), size=len(share), p=share)
    return np.array_split(order, batching.updates_per_epoch(len(share), batch_size))


def counts_of(plan, group):
    """(K, G) rows of every group in every batch."""
    return np.array([np.bincount(group[batch], minlength=group.max() + 1) for batch in plan])


def copies_in(plan):
    """Rows that are in their batch already."""
    return sum(len(batch) - len(np.unique(batch)) for batch in plan)


def padded(plan, lengths):
    """Tokens of batches that are padded to their longest row."""
    return sum(int(lengths[batch].max()) * len(batch) for batch in plan)


def rare_groups(sizes, seed=0):
    """Groups and lengths of rows; the lengths of every group are its own."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    lengths = np.random.default_rng(seed).lognormal(3, 0.4, len(group)).astype(np.int64)
    return group, lengths + 10 * group


@pytest.mark.parametrize("lengths", [None, LENGTHS[:1000]])
def test_weights_draw_in_proportion(lengths):
    weights = np.where(np.arange(1000) < 10, 99.0, 1.0)  # half the mass on ten rows
    plan = drawn(weights, [np.zeros(1000, np.int64)], 50, lengths, epochs=20)
    assert {len(batch) for batch in plan} == {50}
    times = np.bincount(np.concatenate(plan), minlength=1000)
    assert times[:10].sum() / times.sum() == pytest.approx(0.5, abs=0.01)
    assert times[:10] == pytest.approx(np.full(10, 1000), rel=0.1)
    assert times[10:].mean() == pytest.approx(10, rel=0.02)
    # independent draws have a standard deviation of 3.2
    assert times[10:].std() < 4


def test_a_row_of_weight_0_is_never_drawn_and_unequal_weights_keep_their_shares():
    weights = np.random.default_rng(1).pareto(2, size=300)  # as gradient norms: each its own
    weights[::3] = 0
    label = np.arange(300) % 2
    plan = drawn(weights, [label], 30, LENGTHS[:300], epochs=200)
    times = np.bincount(np.concatenate(plan), minlength=300)
    assert not times[::3].any()
    expected = 60000 * weights / weights.sum()
    often = expected > 100
    assert often.sum() > 30
    assert times[often] == pytest.approx(expected[often], rel=0.25)
    assert np.corrcoef(times, expected)[0, 1] > 0.99


@pytest.mark.parametrize("lengths", [False, True])
def test_every_batch_has_of_every_group_what_independent_draws_give(lengths):
    group, of_rows = rare_groups((3000, 40, 900, 60))
    weights = 1 / np.bincount(group)[group]
    plan = drawn(weights, [group], 32, of_rows if lengths else None, epochs=3)
    counts = counts_of(plan, group)
    # binomial: 32 draws of a quarter each
    assert counts.mean(0) == pytest.approx(np.full(4, 8), abs=0.3)
    assert counts.std(0) == pytest.approx(np.full(4, (32 * 0.25 * 0.75) ** 0.5), abs=0.25)
    assert (counts == 0).any(1).mean() <= 0.01
    assert copies_in(plan) == 0


def test_a_row_comes_twice_only_where_its_group_is_too_small():
    group, lengths = rare_groups((500, 5))
    plan = drawn(1 / np.bincount(group)[group], [group], 20, lengths)
    for batch in plan:
        times = np.bincount(batch, minlength=505)
        assert times[:500].max() <= 1
        of_small = times[500:]
        assert of_small.max() - of_small.min() <= 1  # as few copies as there can be
    assert copies_in(plan) < copies_in(independent(1 / np.bincount(group)[group], 20))


def test_groups_of_one_size_are_told_apart_by_their_label_and_group():
    group, lengths = rare_groups((400, 400))
    counts = counts_of(drawn(np.ones(800), [group], 40, lengths), group)
    assert counts.std(0) == pytest.approx(np.full(2, 10**0.5), abs=0.9)


def test_weighted_batches_are_of_similar_length_and_shuffled():
    group, lengths = rare_groups((3000, 300))
    weights = 1 / np.bincount(group)[group]
    plan, loose = drawn(weights, [group], 32, lengths), independent(weights, 32)
    waste, plain = (
        1 - sum(lengths[b].sum() for b in p) / padded(p, lengths) for p in (plan, loose)
    )
    assert waste < 0.6 * plain
    first_half = np.array([group[batch][:16].mean() for batch in plan])
    assert first_half.mean() == pytest.approx(0.5, abs=0.05)  # groups are mixed within a batch
    longest = [int(lengths[batch].max()) for batch in plan]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_the_scale_of_the_weights_says_nothing():
    group, lengths = rare_groups((300, 30))
    weights = 1 / np.bincount(group)[group]
    one, other = (drawn(scale * weights, [group], 32, lengths) for scale in (1, 1024))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_epoch_passes_evenly_over_the_rows_of_a_stratum():
    plan = drawn(np.ones(50), [np.zeros(50, np.int64)], 1, LENGTHS[:50])
    assert sorted(np.concatenate(plan)) == list(range(50))


def test_weighted_epochs_differ_and_repeat_with_the_seed():
    group, lengths = rare_groups((100, 20))
    weights = 1 / np.bincount(group)[group]
    one, again = (drawn(weights, [group], 16, lengths, epochs=2) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], one[len(one) // 2])
    other = drawn(weights, [group], 16, lengths, seed=1)
    assert not np.array_equal(one[0], other[0])


def balanced_as_independent_draws(lengths, label, group):
    """Hold the batches of two sizes to what independent draws of equal groups give."""
    weights = 1 / np.bincount(group)[group]
    for batch_size in (32, 64):
        plan = drawn(weights, [label, group], batch_size, lengths)
        loose = independent(weights, batch_size)
        ours, theirs = counts_of(plan, group), counts_of(loose, group)
        lacking = (ours == 0).any(1).mean()
        assert lacking <= (theirs == 0).any(1).mean() + 0.01
        assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.15)
        for batch in plan:
            _, times = np.unique(batch, return_counts=True)
            drawn_of, there_are = counts_of([batch], group)[0], np.bincount(group)
            assert times.max() <= (-(-drawn_of // there_are)).max()


def test_group_balanced_batches_of_embedded_hans(open_context):
    train = open_context(task="hans").data.train
    words = [np.char.count(train.column(name), " ") + 1 for name in ("premise", "hypothesis")]
    lengths = sum(words).astype(np.int64)
    assert np.bincount(train.group).min() < 200 < 5000 < np.bincount(train.group).max()
    balanced_as_independent_draws(lengths, train.label, train.group)


def test_group_balanced_batches_of_real_snli(real_data):
    """Label x full word overlap: two groups have 4 and 9 or 10 rows of 20,000."""
    pairs = []
    for name in ("dev", "test"):
        file = real_data / "snli" / f"snli_1.0_{name}.jsonl"
        if not file.exists():
            pytest.skip(f"no real data: {file} does not exist")
        with file.open(encoding="utf-8") as lines:
            pairs += [json.loads(line) for line in lines]
    pairs = [pair for pair in pairs if pair["gold_label"] != "-"]
    words = [
        [re.findall(r"\w+", pair[name].lower()) for pair in pairs]
        for name in ("sentence1", "sentence2")
    ]
    _, label = np.unique([pair["gold_label"] for pair in pairs], return_inverse=True)
    overlap = np.array([set(b) <= set(a) for a, b in zip(*words, strict=True)])
    lengths = np.array([len(a) + len(b) + 3 for a, b in zip(*words, strict=True)])
    assert np.bincount(label * 2 + overlap).min() < 6
    balanced_as_independent_draws(lengths, label, label * 2 + overlap)


def parts_of(lengths):
    """The parts of a whole batch."""
    return batching.parts_by_length(np.asarray(lengths), 0, len(lengths))


def test_a_batch_is_cut_where_short_rows_stand_beside_long_ones():
    assert parts_of([10, 10, 10, 40]) == [slice(0, 3), slice(3, 4)]
    # cutting saves 2 of 48 tokens, then 0: not worth a call of the model
    assert parts_of([10, 12, 12, 12]) == [slice(0, 4)]
    assert parts_of([7]) == [slice(0, 1)]
    assert parts_of([1] * 8 + [10] * 8 + [100]) == [
        slice(0, 8),
        slice(8, 16),
        slice(16, 17),
    ]
    lengths = np.sort(LENGTHS[:64])
    parts = parts_of(lengths)
    tokens = sum((part.stop - part.start) * lengths[part.stop - 1] for part in parts)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert 1 <= len(parts) - 1 <= np.log(64 * lengths[-1] / tokens) / -np.log(1 - batching.SAVING)


def test_a_process_cuts_its_own_rows():
    lengths = np.array([5, 5, 50, 10, 10, 10])
    assert batching.parts_by_length(lengths, 0, 3) == [slice(0, 2), slice(2, 3)]
    assert batching.parts_by_length(lengths, 3, 6) == [slice(3, 6)]
    assert batching.parts_by_length(None, 2, 6) == [slice(2, 6)]
    # 8 of 30 tokens are saved: of the rows from 3 on, not of all
    lengths = np.array([9, 9, 9, 6, 6, 10])
    assert batching.parts_by_length(lengths, 3, 6) == [slice(3, 5), slice(5, 6)]


def test_a_process_keeps_its_rows_when_they_are_sorted():
    rows = np.random.default_rng(0).permutation(50)[:13]
    for processes in (1, 2, 3):
        ordered = batching.shares_by_length(rows, LENGTHS, processes)
        for rank in range(processes):
            share = slice(*batching.bounds(13, rank, processes))
            assert sorted(ordered[share]) == sorted(rows[share])
            assert (np.diff(LENGTHS[ordered[share]]) >= 0).all()
    assert batching.shares_by_length(rows, None, 2) is rows


def test_shares_of_processes_make_the_whole_batch_in_order():
    batch = np.arange(7)
    assert np.array_equal(
        np.concatenate([batch[slice(*batching.bounds(len(batch), r, 3))] for r in range(3)]), batch
    )


def test_evaluation_batches_hold_every_row_once_and_start_with_the_longest():
    plan = batching.evaluation_batches(103, 8, LENGTHS[:103])
    assert sorted(np.concatenate(plan)) == list(range(103))
    assert LENGTHS[plan[0]].max() == LENGTHS[:103].max()
