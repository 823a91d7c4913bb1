"""The lowest of several groups, corrected for having been looked for.

The minimum of noisy accuracies lies below the accuracy of any group: by about 4 points for four
equal groups of 100 rows. No unbiased estimator exists (Blumenthal and Cohen, JASA 63, 1968, of the
larger of two normal means); every rule trades equal groups against one that is a little lower. This
one was chosen by simulation over both (docs/verdicts.md).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from harness_plugin.records import Floats

CORRECTION = 1 + 0.5**0.5
"""Half-way between the bootstrap's 1 (Efron 1979) and 1 / (sqrt 2 - 1), which is exact for equal
groups (extrapolates a bias that grows as the noise's deviation: SIMEX, Cook and Stefanski 1994)."""
SPREAD = 0.3
"""Adds to the weight of the worst group where it is uncertain which one it is."""
DOUBT = 0.8
"""Deviation of the correction's own error, in units of h1 - h2."""


def minimum(groups: Floats, seed: int) -> Floats:
    """Replicates (S, 1 + B) of the corrected lowest of G groups, from those of each (S, 1 + B, G).

    Groups' numbers are shares in [0, 1], and so are the estimates (column 0).

    Estimates the mean over seeds of each model's own lowest group. Doubling the noise, by adding
    the resamples' deviations, shows how much of the minimum is noise:

        T = h1 + CORRECTION (h1 - h2),   h1 = min_g p_g,   h2 = mean_b min_g (p_g + deviation_bg)

    With several seeds each one's profile of groups is first pulled towards the common profile, as
    far as the seed x group spread is noise of rows. Columns 1 … B are linear: the deviation of the
    worst group, with more weight where it is uncertain which one that is, and a draw of what the
    correction itself may be wrong by, common to the seeds and decided by `seed` and the answers.
    """
    plain = groups[..., 0, :]
    noise = groups[..., 1:, :] - groups[..., 1:, :].mean(axis=-2, keepdims=True)
    if plain.shape[-1] == 1:
        only: Floats = groups[..., 0]
        return only
    pulled, pulled_noise = pull(plain, noise)
    h1 = pulled.min(axis=-1)
    noisy = pulled[..., None, :] + pulled_noise
    h2 = noisy.min(axis=-1).mean(axis=-1)
    corrected = h1 + CORRECTION * (h1 - h2)
    size = plain.shape[-1]
    lowest = np.eye(size)[pulled.argmin(axis=-1)]
    which = noisy.argmin(axis=-1)
    chance = np.stack([(which == group).mean(axis=-1) for group in range(size)], axis=-1)
    weights = lowest + SPREAD * CORRECTION * (lowest - chance)
    spread = corrected + (weights * (plain - pulled)).sum(axis=-1)
    spread = spread + (corrected - spread).mean(axis=-1, keepdims=True)
    spread = np.clip(spread, 0.0, 1.0)  # near 1 the correction may step over what can be
    linear = np.einsum("...bg,...g->...b", noise, weights)
    doubt = DOUBT * (h1 - h2).mean(axis=-1)[..., None, None]
    # models that answer alike draw alike, so that their difference is 0; others independently
    rng = np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(plain).tobytes())])
    linear = linear + doubt * rng.standard_normal((*linear.shape[:-2], 1, linear.shape[-1]))
    return np.concatenate([spread[..., None], spread[..., None] + linear], axis=-1)


def pull(plain: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Seeds' profiles (..., S, G) and noise (..., S, B, G) with the seed x group part shrunk.

    Variance-preserving, positive part (Louis, JASA 79, 1984).
    """
    seeds, size = plain.shape[-2:]
    if seeds == 1:
        return plain, noise
    freedom = (seeds - 1) * (size - 1)
    additive, rest = split(plain)
    noise_additive, noise_rest = split(np.moveaxis(noise, -2, -3))
    seen = (rest**2).sum(axis=(-1, -2)) / freedom
    rows = (noise_rest**2).sum(axis=(-1, -2)).mean(axis=-1) / freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.sqrt(np.where(seen > rows, 1 - rows / seen, 0.0))
    mixed = noise_additive + share[..., None, None, None] * noise_rest
    return additive + share[..., None, None] * rest, np.moveaxis(mixed, -3, -2)


def split(profiles: Floats) -> tuple[Floats, NDArray[np.float64]]:
    """The additive part (seed + group) and the seed x group rest of (..., S, G)."""
    group, seed = profiles.mean(axis=-2, keepdims=True), profiles.mean(axis=-1, keepdims=True)
    additive = group + seed - seed.mean(axis=-2, keepdims=True)
    return additive, profiles - additive
