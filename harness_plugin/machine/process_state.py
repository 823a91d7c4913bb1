"""Process-wide state (threads, seeds, environment, loggers, memory) restored after a call."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

ACCELERATE = ("PartialState", "AcceleratorState", "GradientState")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's names of what `mallopt` sets: bytes free at the heap's end, bytes of an array."""


@contextmanager
def restored(environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Put back, also after an error, what was there before.

    That is: environment variables; the global random states of Python, NumPy and torch (also of a
    GPU that was in use); torch's threads and default dtype; warnings filters; logging levels;
    progress bars of transformers and datasets; Accelerate's state; whether objects are frozen
    (objects that were frozen before stay so). `environment`: the variables to go back to, where
    they were kept before anything was imported.
    """
    environment = dict(os.environ) if environment is None else environment
    try:
        with ExitStack() as stack:
            # first what needs no import: importing a library changes some of it already
            stack.enter_context(warnings.catch_warnings())
            for part in (logs, frozen, numbers, accelerate_state, libraries):
                stack.enter_context(part())
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextmanager
def numbers() -> Iterator[None]:
    """Random states, threads, default dtype."""
    python = random.getstate()
    import numpy as np
    import torch

    legacy, cpu = np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if cuda_in_use() else None
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def cuda_in_use() -> bool:
    """Whether this process has used a GPU; asking its random state would start one."""
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def logs() -> Iterator[None]:
    """The level of every logger, and the level below which nothing is logged at all."""
    manager = logging.root.manager
    loggers = [logging.root, *manager.loggerDict.values()]
    levels = [(known, known.level) for known in loggers if isinstance(known, logging.Logger)]
    disabled = manager.disable
    try:
        yield
    finally:
        for logger, level in levels:
            if logger.level != level:
                logger.setLevel(level)
        logging.disable(disabled)


@contextmanager
def libraries() -> Iterator[None]:
    """No progress bars of transformers and datasets inside; those of this package remain."""
    import datasets
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    hidden = datasets.utils.are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
        if not hidden:
            datasets.enable_progress_bars()


@contextmanager
def accelerate_state() -> Iterator[None]:
    """The states that all Accelerators of a process share."""
    from accelerate import state

    shared: list[dict[str, Any]] = [getattr(state, name)._shared_state for name in ACCELERATE]
    before = [dict(one) for one in shared]
    try:
        yield
    finally:
        for one, values in zip(shared, before, strict=True):
            one.clear()
            one.update(values)


def freeze() -> None:
    """Collect garbage and freeze what is left.

    Every training begins and ends with a collection, which need not walk through all that was
    imported: 100 ms each time.
    """
    gc.collect()
    gc.freeze()


def anything_frozen() -> bool:
    """Whether any objects are frozen; Python counts them all, 60 ms for a run's million."""
    return gc.get_freeze_count() > 0


@contextmanager
def importing() -> Iterator[None]:
    """Import libraries inside: no garbage is looked for, and in a fresh process they are frozen.

    A run imports a million objects, all of which stay; to look through them takes .3 CPU seconds.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not anything_frozen():
            gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def memory_kept(most: int = 1 << 30) -> Iterator[None]:
    """Inside, up to `most` bytes that were freed stay this process's: the next update needs them.

    glibc gives arrays above 32 MiB back to the system at once, such as a vocabulary's gradient, and
    every update of a training pays for new pages. Afterwards thresholds are the largest that glibc
    chooses by itself, and what is free goes back. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, most)
    library.mallopt(TRIM_THRESHOLD, most)
    try:
        yield
    finally:
        library.mallopt(MMAP_THRESHOLD, 32 << 20)
        library.mallopt(TRIM_THRESHOLD, 64 << 20)
        library.malloc_trim(0)


@contextmanager
def frozen() -> Iterator[None]:
    """A run freezes what it has imported; where nothing was frozen before, nothing is after."""
    before = anything_frozen()
    try:
        yield
    finally:
        if not before:
            gc.unfreeze()
