"""CKA: every reference value of the literature's closed forms, and a float64 reference."""

import numpy as np
import pytest
import torch
from scipy import stats

from harness_plugin import HarnessError
from harness_plugin_hooks.analyses.cka.compute import (
    interval,
    no_interval,
    over_members,
    pseudo_values,
)
from harness_plugin_hooks.analyses.cka.streaming import Kernel, StreamingCKA, resampled_blocks
from harness_plugin_hooks.analyses.cka.views import fitted

X5 = np.array([[1, 0], [0, 1], [1, 1], [2, 0], [0, 3]], float)
Y5 = np.array([[1, 1], [0, 2], [2, 1], [3, 0], [1, 3]], float)
X8 = np.vstack([X5, [[1, 2], [3, 1], [0, 0]]])
Y8 = np.vstack([Y5, [[1, 1], [2, 2], [0, 1]]])


def hsic1(k, l):  # noqa: E741
    """Song et al. 2012, eq. 5, as it is written."""
    n = len(k)
    k, l = k.copy(), l.copy()  # noqa: E741
    np.fill_diagonal(k, 0), np.fill_diagonal(l, 0)
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + middle - 2 / (n - 2) * one @ k @ l @ one) / (n * (n - 3))


def reference(first, second, batch=None, kernel=lambda x: x @ x.T):
    """(A, B) minibatch CKA in float64, pair by pair; `first`, `second` are lists of (n, d)."""
    n = len(first[0])
    batch = batch or n
    out = np.empty((len(first), len(second)))
    starts = range(0, n // batch * batch, batch)
    for i, x in enumerate(first):
        for j, y in enumerate(second):
            grams = [(kernel(x[s : s + batch]), kernel(y[s : s + batch])) for s in starts]
            kl, kk, ll = (
                np.mean([hsic1(*pair) for pair in pairs])
                for pairs in (grams, [(k, k) for k, _ in grams], [(m, m) for _, m in grams])
            )
            out[i, j] = kl / np.sqrt(kk * ll)
    return out


def stream(layers, batch=None, **options):
    """The accumulator after all batches of `layers`, a list of (n, d)."""
    n = len(layers[0])
    made = StreamingCKA(len(layers), **{"dtype": torch.float64, **options})
    for start in range(0, n, batch or n):
        made.update([torch.as_tensor(x[start : start + (batch or n)]) for x in layers])
    return made


def cka(x, y, batch=None, **options):
    return float(stream([x, y], batch, **options).between(slice(0, 1), slice(1, 2)).value[0, 0])


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_small_example_by_hand():
    sums = stream([X5, Y5]).sums[0].numpy()
    assert sums == pytest.approx(np.array([[2.0, 28 / 15], [28 / 15, 3.6]]), abs=1e-12)
    assert cka(X5, Y5) == pytest.approx(0.695666, abs=1e-6)
    assert cka(X8, Y8) == pytest.approx(0.421612, abs=1e-6)


def test_batches_are_summed_before_the_ratio():
    sums = stream([X8, Y8], 4).sums[:2].numpy()
    assert sums[0] == pytest.approx(np.array([[0.5, 0.5], [0.5, 19 / 6]]))
    assert sums[1] == pytest.approx(np.array([[7 / 6, -7 / 6], [-7 / 6, 7 / 6]]))
    assert cka(X8, Y8, 4) == pytest.approx(-0.248069, abs=1e-6)


@pytest.mark.parametrize(("n", "within"), [(32, 0.12), (128, 0.03), (512, 0.008), (2048, 0.0015)])
def test_independent_gaussians_are_not_alike(n, within):
    assert cka(normal(1, n, 768), normal(2, n, 768)) == pytest.approx(0, abs=within)


def test_rotation_scale_and_shift_change_nothing_and_other_maps_do():
    x = normal(0, 2048, 64)
    rotation = np.linalg.qr(normal(1, 64, 64))[0]
    assert cka(x, 3.7 * x @ rotation + 5) == pytest.approx(1, abs=1e-12)
    assert 0.5 < cka(x, x @ normal(2, 64, 64)) < 0.9


@pytest.mark.parametrize("batch", [None, 8, 32, 128, 512])
def test_noise_gives_its_population_value(batch):
    x = normal(0, 2048, 64)
    assert cka(x, x + 0.5 * normal(1, 2048, 64), batch) == pytest.approx(1 / 1.25, abs=0.006)


def test_half_of_the_dimensions_shared_is_half():
    x = normal(0, 2048, 64)
    y = np.hstack([x[:, :32], normal(1, 2048, 32)])
    assert cka(x, y) == pytest.approx(0.5, abs=0.01)


def test_one_outlier_hides_what_is_alike():
    x = normal(0, 2048, 64)
    y = x.copy()
    y[0] *= 100
    assert cka(x, y) == pytest.approx(0.35, abs=0.03)


def test_one_dominant_direction_hides_all_others_until_it_is_removed():
    shared = 30 * normal(0, 2048, 1)
    x = np.hstack([shared, normal(1, 2048, 63)])
    y = np.hstack([shared, normal(2, 2048, 63)])
    assert cka(x, y) > 0.999
    layers = [torch.from_numpy(x), torch.from_numpy(y)]
    maps = fitted(["standardised", "without_top"], [layer[:256] for layer in layers])
    seen = {
        name: cka(
            *[change(layer).numpy() for change, layer in zip(maps[name], layers, strict=True)]
        )
        for name in maps
    }
    assert seen["standardised"] == pytest.approx(1 / 64, abs=0.01)
    assert seen["without_top"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("batch", [None, 50])
def test_all_pairs_agree_with_a_reference_in_float64(dtype, within, batch):
    shared = normal(0, 200, 40)
    first = [shared @ normal(i, 40, 96) + i for i in range(1, 5)]
    second = [np.tanh(shared @ normal(i, 40, 48)) for i in range(5, 8)]
    first, second = ([x.astype(np.float32) for x in side] for side in (first, second))
    made = stream([*first, *second], batch, dtype=dtype)
    expected = reference(*[[x.astype(float) for x in side] for side in (first, second)], batch)
    result = made.between(slice(0, 4), slice(4, 7)).value
    assert result == pytest.approx(expected, abs=within)
    assert made.between(slice(0, 4), slice(0, 4)).value.diagonal() == pytest.approx(1, abs=within)


def test_the_gaussian_kernel_agrees_with_a_reference():
    x, y = normal(0, 60, 5), normal(0, 60, 5) ** 3
    widths = {}

    def kernel(name):
        def gaussian(rows):
            away = ((rows[:, None] - rows[None]) ** 2).sum(-1)
            upper = np.sort(away[np.triu_indices(len(rows), 1)])
            squared = widths.setdefault(name, 0.64 * upper[(len(upper) - 1) // 2])
            return np.exp(-away / (2 * squared))

        return gaussian

    pairs = [(x[:30], y[:30]), (x[30:], y[30:])]
    grams = [(kernel("x")(a), kernel("y")(b)) for a, b in pairs]
    kl, kk, ll = (sum(hsic1(p[i], p[j]) for p in grams) for i, j in ((0, 1), (0, 0), (1, 1)))
    assert cka(x, y, 30, kernel=Kernel(0.8)) == pytest.approx(kl / np.sqrt(kk * ll), abs=1e-10)


@pytest.mark.parametrize("kernel", [Kernel(), Kernel(0.5)])
def test_a_constant_layer_is_undefined_not_noise(kernel):
    constant = np.full((64, 7), 0.1, np.float32)
    x = normal(0, 64, 7).astype(np.float32)
    made = stream([x, constant], 16, dtype=torch.float32, kernel=kernel)
    value = made.between(slice(0, 2), slice(0, 2)).value
    assert value[0, 0] == pytest.approx(1)
    assert np.isnan(value[0, 1])
    assert np.isnan(value[1, 1])


def test_a_common_offset_costs_no_precision():
    x, y = normal(0, 64, 20), normal(1, 64, 20)
    y[:, :10] = x[:, :10]
    far = [(z + 300).astype(np.float32) for z in (x, y)]
    assert cka(*far, dtype=torch.float32) == pytest.approx(cka(x, y), abs=1e-4)


def test_permuted_rows_are_the_null():
    x = normal(0, 512, 16)
    y = x + normal(1, 512, 16)
    null = stream([x, y], 64, permutations=50).between(slice(0, 1), slice(1, 2))
    assert np.abs(null.permuted).max() < 0.1 < null.value[0, 0]
    assert null.permuted.mean() == pytest.approx(0, abs=0.01)
    # a permutation by hand gives one of the values' kind: the same spread as independent data
    spread = np.std([cka(x, np.random.default_rng(s).permutation(y), 64) for s in range(50)])
    assert null.permuted.std() == pytest.approx(spread, rel=0.5)


def test_intervals_of_few_blocks_cover_the_population_value():
    """Percentiles of 8 blocks hold 87% here, and normal quantiles less than Student's."""
    hits = 0
    for seed in range(200):
        x = normal([0, seed], 128, 8)
        similar = stream([x, x + 0.5 * normal([1, seed], 128, 8)], 16)
        counts = resampled_blocks(8, 300, np.random.default_rng(seed))
        replicates = similar.between(slice(0, 1), slice(1, 2)).weighted(counts)
        result = interval(over_members([replicates], np.eye(1)), 8, (0, 1))
        hits += result.low[0, 0] <= 1 / 1.25 <= result.high[0, 0]
    assert 184 <= hits <= 198


def test_seeds_count_by_students_t_and_blocks_once():
    """Four seeds that differ, no noise of blocks: mean -+ t s / sqrt(4). Then blocks alone."""
    seeds = np.array([0.2, 0.5, 0.4, 0.7])
    still = np.tile(seeds[:, None], (1, 201))
    low, high = stats.t.interval(0.95, 3, seeds.mean(), seeds.std(ddof=1) / 2)
    result = interval(still, 20, (0, 1))
    assert (result.low, result.high) == pytest.approx((low, high))
    drawn = 0.01 * normal(0, 200)
    alike = np.hstack([[[0.5]] * 4, 0.5 + np.tile(drawn, (4, 1))])
    half = stats.t.ppf(0.975, 19) * drawn.std(ddof=1) * np.sqrt(20 / 19)
    result = interval(alike, 20, (0, 1))
    assert (result.low, result.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert interval(still, 20, (0.3, 0.6))[1:] == (0.3, 0.6)


@pytest.mark.parametrize(
    ("seeds", "blocks", "message"),
    [(2, 20, "two seeds do not show how seeds differ"), (3, 7, "7 batches, it takes 8")],
)
def test_too_little_gives_no_interval(seeds, blocks, message):
    result = interval(0.5 + 0.1 * normal(0, 4, seeds, 101), blocks, (0, 1))
    assert result.value.shape == (4,)
    assert np.isfinite(result.value).all()
    assert np.isnan([result.low, result.high]).all()
    assert no_interval(blocks, seeds) == f"no interval: {message}"


def test_pairs_of_seeds_count_as_seeds():
    """The jackknife by hand: without each seed in turn; two seeds have one pair for both."""
    pairs = {(0, 1): 0.9, (0, 2): 0.6, (0, 3): 0.8, (1, 2): 0.5, (1, 3): 0.7, (2, 3): 0.2}
    values = np.array([*pairs.values()])
    stands = over_members([np.array([v]) for v in values], pseudo_values(4))[:, 0]
    without = [np.mean([v for pair, v in pairs.items() if seed not in pair]) for seed in range(4)]
    assert stands == pytest.approx(4 * values.mean() - 3 * np.array(without))
    assert stands.mean() == pytest.approx(values.mean())
    # numbers a + b of two seeds: the mean over pairs is twice that of seeds, its variance too
    own = np.array([0.1, 0.4, 0.2, 0.3])
    sums = np.array([own[a] + own[b] for a, b in pairs])
    assert pseudo_values(4) @ sums == pytest.approx(2 * own)
    assert (pseudo_values(2) @ [0.7]).tolist() == [0.7, 0.7]


def test_blocks_wrap_around_and_memory_does_not_grow():
    x, y = normal(0, 400, 4), normal(0, 400, 4) + normal(1, 400, 4)
    few = stream([x, y], 4, blocks=8)
    assert few.sums.shape == (8, 2, 2)
    assert few.batches == 100
    value = few.between(slice(0, 1), slice(1, 2)).value
    assert value == pytest.approx(
        stream([x, y], 4, blocks=200).between(slice(0, 1), slice(1, 2)).value
    )


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([np.ones((3, 2))] * 2, "at least 4 rows"),
        ([np.ones((5, 2)), np.ones((6, 2))], "expected 2 layers of 5 rows"),
        ([np.full((5, 2), np.inf), np.ones((5, 2))], "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(layers, words):
    made = StreamingCKA(2)
    with pytest.raises(HarnessError, match=words):
        made.update([torch.from_numpy(x) for x in layers])


def test_nothing_seen_is_no_value():
    with pytest.raises(HarnessError, match="no batch"):
        StreamingCKA(2).between(slice(0, 1), slice(1, 2))
