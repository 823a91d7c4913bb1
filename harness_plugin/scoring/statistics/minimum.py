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

ONE_SEED = 1 + 0.5**0.5
"""The c of a single seed: half-way between the bootstrap's 1 (Efron 1979) and 1 / (sqrt 2 - 1), the
one that is exact for equal groups (SIMEX, Cook and Stefanski 1994; see `correction`)."""
SPREAD = 0.3
"""Adds to the weight of the worst group where it is uncertain which one it is."""
DOUBT = 1.3
"""Deviation of the correction's own error, in units of h1 - h2."""


def minimum(groups: Floats, seed: int) -> Floats:
    """Replicates (S, 1 + B) of the corrected lowest of G groups, from those of each (S, 1 + B, G).

    Groups' numbers are shares in [0, 1], and so are the estimates (column 0).

    Estimates the mean over seeds of each model's own lowest group. Doubling the noise, by adding
    the resamples' deviations, shows how much of the minimum is noise:

        T = h1 + c (h1 - h2),   h1 = min_g p_g,   h2 = mean_b min_g (p_g + deviation_bg)

    With several seeds each one's profile of groups is first pulled towards the common profile, as
    far as the seed x group spread is noise of rows. What is left of that spread is true, so that
    the noise which is doubled is that of the common profile alone, and c is what it must be for
    equal groups whose seeds differ so much (`correction`). Columns 1 … B are linear: the deviation
    of the worst group, with more weight where it is uncertain which one that is, and a draw of what
    the correction itself may be wrong by, common to the seeds and decided by `seed` and the
    answers.
    """
    plain = groups[..., 0, :]
    noise = groups[..., 1:, :] - groups[..., 1:, :].mean(axis=-2, keepdims=True)
    if plain.shape[-1] == 1:
        only: Floats = groups[..., 0]
        return only
    pulled, pulled_noise, c = pull(plain, noise)
    h1 = pulled.min(axis=-1)
    noisy = pulled[..., None, :] + pulled_noise
    h2 = noisy.min(axis=-1).mean(axis=-1)
    corrected = h1 + c * (h1 - h2)
    size = plain.shape[-1]
    lowest = np.eye(size)[pulled.argmin(axis=-1)]
    which = noisy.argmin(axis=-1)
    chance = np.stack([(which == group).mean(axis=-1) for group in range(size)], axis=-1)
    weights = lowest + SPREAD * c[..., None] * (lowest - chance)
    spread = corrected + (weights * (plain - pulled)).sum(axis=-1)
    spread = spread + (corrected - spread).mean(axis=-1, keepdims=True)
    spread = np.clip(spread, 0.0, 1.0)  # near 1 the correction may step over what can be
    linear = np.einsum("...bg,...g->...b", noise, weights)
    doubt = DOUBT * (h1 - h2).mean(axis=-1)[..., None, None]
    # models that answer alike draw alike, so that their difference is 0; others independently
    rng = np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(plain).tobytes())])
    linear = linear + doubt * rng.standard_normal((*linear.shape[:-2], 1, linear.shape[-1]))
    return np.concatenate([spread[..., None], spread[..., None] + linear], axis=-1)


def pull(plain: Floats, noise: Floats) -> tuple[Floats, Floats, Floats]:
    """Seeds' profiles (..., S, G) with the seed x group part shrunk, what noise is left, and c.

    Shrinking preserves the true variance, positive part (Louis, JASA 79, 1984). The noise (..., S,
    B, G) is that of the common profile and of each seed's mean; c (..., S) is the same for all.
    """
    seeds, size = plain.shape[-2:]
    if seeds == 1:
        return plain, noise, np.full(plain.shape[:-1], ONE_SEED)
    freedom = (seeds - 1) * (size - 1)
    additive, rest = split(plain)
    noise_additive, noise_rest = split(np.moveaxis(noise, -2, -3))
    seen = (rest**2).sum(axis=(-1, -2)) / freedom
    rows = (noise_rest**2).sum(axis=(-1, -2)).mean(axis=-1) / freedom
    true = np.maximum(seen - rows, 0.0)
    profile = noise_additive.mean(axis=-2)
    profile = profile - profile.mean(axis=-1, keepdims=True)
    common = (profile**2).sum(axis=-1).mean(axis=-1) / (size - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.sqrt(np.where(seen > rows, true / seen, 0.0))
    c = np.broadcast_to(correction(true, common)[..., None], plain.shape[:-1])
    return additive + share[..., None, None] * rest, np.moveaxis(noise_additive, -3, -2), c


def correction(true: Floats, noise: Floats) -> Floats:
    """c for equal groups whose numbers have a true variance and one of noise.

    Their minimum lies below by a x deviation, a x sqrt(true + noise) as measured and a x sqrt(true
    + 2 noise) with the noise doubled, so that a x sqrt(true) is got back by

        c = (sqrt(true + noise) - sqrt(true)) / (sqrt(true + 2 noise) - sqrt(true + noise))

    1 / (sqrt 2 - 1) = 2.41 where all is noise, and 1, the bootstrap's, where hardly anything is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.where(noise > 0, true / noise, np.inf)
        once = np.sqrt(k + 1) - np.sqrt(k)
        c: Floats = np.where(k < 1e6, once / (np.sqrt(k + 2) - np.sqrt(k + 1)), 1.0)
    return c


def split(profiles: Floats) -> tuple[Floats, NDArray[np.float64]]:
    """The additive part (seed + group) and the seed x group rest of (..., S, G)."""
    group, seed = profiles.mean(axis=-2, keepdims=True), profiles.mean(axis=-1, keepdims=True)
    additive = group + seed - seed.mean(axis=-2, keepdims=True)
    return additive, profiles - additive
