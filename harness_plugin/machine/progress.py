"""How far work is: bars on a terminal, a line a minute in a log, a file for `harness watch`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness_plugin.machine.terminal import beside_bars

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
FILE = "progress.json"
"""In the folder of a run, while it runs or when it has failed."""
A_MINUTE = 60.0
A_MOMENT = 1.0
"""Seconds between two lines of a log, and between two writings of the file."""
POINTS = 60
"""Losses of the model at work that the file keeps."""
BAR = "{desc:.40}: {remaining} left |{bar}| {n_fmt}/{total_fmt}{postfix}"
"""Of tqdm: the time left is seen on a terminal of 60 columns, whatever the work is called."""
_LIVE: ContextVar[LiveRun | None] = ContextVar("_LIVE", default=None)

_LINES = ContextVar("_LINES", default=False)


@contextmanager
def lines_of_a_log() -> Iterator[None]:
    """Inside, long work says where it is once a minute where no terminal looks on."""
    token = _LINES.set(True)
    try:
        yield
    finally:
        _LINES.reset(token)


def say(*lines: str) -> None:
    """Print lines as they are, on the main process only; bars make room for them."""
    if os.environ.get("RANK", "0") == "0":
        with beside_bars():
            print(*lines, sep="\n", flush=True)


class NoBar:
    """Where nobody looks on; tqdm's own bar that is switched off costs its import."""

    def update(self, n: float = 1) -> None:
        """Nothing."""

    def set_postfix_str(self, s: str = "") -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def bar_of(name: str, total: int, *, done: int = 0, shown: bool) -> tqdm[Any] | NoBar:
    """A bar that is as wide as the terminal is at every moment, and goes when it is closed."""
    if not shown:
        return NoBar()
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=done,
        desc=name,
        bar_format=BAR,
        dynamic_ncols=True,
        leave=False,
    )


class Work:
    """One long piece of work, such as a training: `name` says which, `total` how many steps."""

    def __init__(
        self, name: str, total: int, *, unit: str = "it", done: int = 0, quiet: bool = False
    ) -> None:
        self.name, self.total, self.unit, self.done, self.quiet = name, total, unit, done, quiet
        self.printed, self.started, self.first = time.monotonic(), time.monotonic(), done
        shown = not quiet and sys.stderr.isatty()
        self.bar = bar_of(name, total, done=done, shown=shown)
        self._write_live(0.0)

    def update(self, steps: int = 1, note: str = "") -> None:
        """So many steps more are done; `note` stands behind the bar."""
        self.done += steps
        self.bar.update(steps)
        if note:
            self.bar.set_postfix_str(note)
        if self.quiet:
            return
        now = time.monotonic()
        if _LINES.get() and now - self.printed >= A_MINUTE and not sys.stderr.isatty():
            left = (now - self.started) / max(self.done - self.first, 1) * (self.total - self.done)
            say(
                f"  {time.strftime('%H:%M:%S')} {self.name}: {self.done:,} of {self.total:,} "
                f"{self.unit}s, {duration(left)} left{f', {note}' if note else ''}"
            )
            self.printed = now
        self._write_live(A_MOMENT)

    def loss(self, value: float) -> None:
        """The mean loss since the last time."""
        self.bar.set_postfix_str(f"loss {value:.3f}")
        live = _LIVE.get()
        if live is not None and not self.quiet:
            live.curve = [*live.curve, value][-POINTS:]

    def close(self) -> None:
        """It is done."""
        self.bar.close()

    def _write_live(self, apart: float) -> None:
        live = _LIVE.get()
        if live is not None and not self.quiet:
            live.at(self.name, self.done, self.total, apart)


def worked(items: Sequence[T], name: str, *, unit: str = "batch", quiet: bool) -> Iterator[T]:
    """The items one after the other, with a `Work` of that name."""
    work = Work(name, len(items), unit=unit, quiet=quiet)
    for item in items:
        yield item
        work.update()
    work.close()


class LiveRun:
    """How far a run is: model k of `total`. Kept in `FILE` of its folder, for `harness watch`."""

    def __init__(self, folder: Path, tasks: Iterable[str], total: int) -> None:
        self.path, self.total = folder / FILE, total
        self.started, self.written = time.time(), 0.0
        self.models: list[dict[str, Any]] = []
        self.curve: list[float] = []
        self.now: dict[str, Any] = {}
        self.tasks, self.state = [*tasks], "running"
        self.bar = bar_of("models", total, shown=sys.stderr.isatty())

    def trained(self, name: str, seconds: float, reused: bool) -> None:
        """One model is done."""
        self.models.append({"name": name, "seconds": seconds, "reused": reused})
        self.curve = []
        self.bar.update()
        self.write()

    def at(self, name: str, done: int, total: int, apart: float) -> None:
        """Set the current work; the file is written at most every `apart` seconds."""
        self.now = {"name": name, "done": done, "total": total}
        if time.time() - self.written >= apart:
            self.write()

    def record(self) -> dict[str, Any]:
        """Content of the file."""
        import socket

        return {
            "tasks": self.tasks,
            "state": self.state,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": self.started,
            "updated": time.time(),
            "total": self.total,
            "models": self.models,
            "now": self.now,
            "curve": self.curve,
        }

    def write(self) -> None:
        """Write the file; a disk that is full ends no run for it."""
        self.written = time.time()
        beside = self.path.with_name(f".{FILE}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.record()), encoding="utf-8")
            os.replace(beside, self.path)
        except OSError:
            remove(beside)


def remove(path: Path) -> None:
    """Remove a file where there is one and it can be done."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def live_run(folder: Path, tasks: Iterable[str], total: int) -> Iterator[None]:
    """Inside, what is trained is shown and kept in `folder`; the file goes when all went well."""
    live = LiveRun(folder, tasks, total)
    token = _LIVE.set(live)
    live.write()
    try:
        yield
        remove(live.path)
    except BaseException as error:
        live.state = f"failed: {type(error).__name__}: {error}".splitlines()[0][:300]
        if isinstance(error, KeyboardInterrupt):
            live.state = "interrupted; the same command continues"
        live.write()
        raise
    finally:
        live.bar.close()
        _LIVE.reset(token)


def model_done(name: str, seconds: float, reused: bool) -> None:
    """Tell the run at work that a model is done; nothing outside of `live_run`."""
    if (live := _LIVE.get()) is not None:
        live.trained(name, seconds, reused)


def place() -> str:
    """Position of the run: `; model 4 of 18, 12 min left`. "" outside of `live_run`."""
    if (live := _LIVE.get()) is None:
        return ""
    left = seconds_left(live.record())
    about = f", {duration(left)} left" if left else ""
    return f"; model {len(live.models)} of {live.total}{about}"


def seconds_left(record: dict[str, Any]) -> float | None:
    """Estimated seconds left, from the mean of the models so far; None before the first."""
    spent: list[float] = [model["seconds"] for model in record["models"] if not model["reused"]]
    left: int = record["total"] - len(record["models"])
    if not spent:
        return None if left else 0.0
    now = record["now"]
    share: float = now["done"] / now["total"] if now.get("total") and left else 0.0
    return sum(spent) / len(spent) * (left - min(share, 1.0))


def duration(seconds: float) -> str:
    """`47 s`, `12 min`, `3.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def quiet_libraries() -> None:
    """One program, one set of progress bars: ours. Warnings still come through."""
    quiet_datasets()
    from transformers.utils import logging

    logging.disable_progress_bar()


def quiet_datasets() -> None:
    """The same where no model is loaded."""
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    else:  # a second of imports, for a library that may not be needed
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
