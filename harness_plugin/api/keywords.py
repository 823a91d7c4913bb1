"""Shared by the functions of the Python API: keywords to settings, and the frame of a call."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from harness_plugin.api.results import RunResult
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.records import RunReport

if TYPE_CHECKING:
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.plugins.registry import Plugins

PathLike: TypeAlias = str | os.PathLike[str]
Files: TypeAlias = PathLike | Sequence[PathLike]
P = ParamSpec("P")
R = TypeVar("R")


def leaves_no_trace(function: Callable[P, R]) -> Callable[P, R]:
    """Put back what a call changes in its process, and nothing before it is called."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        environment = dict(os.environ)
        with warnings.catch_warnings():  # importing what puts them back changes both already
            from harness_plugin.machine.process_state import restored

            with restored(environment):
                return function(*args, **kwargs)

    return inside


def configured(
    tasks: str | Iterable[str],
    options: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    file: PathLike | None,
    output_path: PathLike | None,
) -> RunConfig:
    """The configuration that keyword arguments stand for; None = not given.

    Raises HarnessError with near matches for a keyword that is no field of `RunConfig` or
    `TaskSettings`, and for a value that does not fit.
    """
    from harness_plugin.config.merge import run_config
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.config.settings import TaskSettings
    from harness_plugin.data.yaml_files import merge

    known = set(RunConfig.model_fields) | set(TaskSettings.model_fields)
    for name in options:
        if name not in known:
            raise unknown("keyword", name, known)
    options = {name: value for name, value in options.items() if value is not None}
    flags = {name: options[name] for name in options if name in RunConfig.model_fields}
    own = {name: options[name] for name in options if name not in flags}
    for role in ("teacher", "student"):
        if isinstance(own.get(role), str):
            own[role] = {"model": own[role]}
    for name in ("data", "use_cache"):
        if name in flags:
            flags[name] = os.fspath(flags[name])
    for name in ("include_path", "outputs", "analyze"):
        if name in flags:
            flags[name] = texts(flags[name])
    if "seeds" in flags:
        flags["seeds"] = whole_numbers(flags["seeds"])
    flags |= {
        "tasks": texts(tasks) or None,
        "output_path": None if output_path is None else os.fspath(output_path),
    }
    if file is None and flags["tasks"] is None:
        raise HarnessError('no task given: tasks=["hans"] (see `harness ls tasks`).')
    where = None if file is None else Path(file)
    return run_config(where, flags, merge(dict(settings or {}), own), where="keywords")


def texts(value: PathLike | Iterable[PathLike]) -> tuple[str, ...]:
    """One text or path, or several, as a tuple of texts."""
    several = (value,) if isinstance(value, (str, os.PathLike)) else value
    return tuple(os.fspath(one) for one in several)


def paths(value: Files) -> list[Path]:
    """One path or several, as a list."""
    return [Path(one) for one in texts(value)]


def whole_numbers(value: int | Iterable[int]) -> tuple[int, ...]:
    """One number or several, as a tuple."""
    return (value,) if isinstance(value, int) else tuple(value)


def plugins_for(verbose: bool) -> Plugins:
    """The installed plugins; a quiet call goes without the console. Broken ones are warned of."""
    from harness_plugin.plugins.registry import load_plugins

    plugins = load_plugins()
    for broken in plugins.broken:
        warnings.warn(f"harness: {broken}", stacklevel=2)
    if not verbose and plugins.manager.has_plugin("console"):
        plugins.manager.unregister(name="console")
    return plugins


@contextlib.contextmanager
def folder_for(config: RunConfig, output_path: PathLike | None) -> Iterator[RunConfig]:
    """The configuration with a folder to write to: where none is named, one that is gone after."""
    if output_path is not None:
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="harness_plugin_") as folder:
        yield config.model_copy(update={"output_path": folder, "outputs": ()})


@contextlib.contextmanager
def silent(quiet: bool) -> Iterator[None]:
    """Keep what analyses print off stdout."""
    if not quiet:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def result_of(report: RunReport, output_path: PathLike | None) -> RunResult:
    """A report as a result; what was written to a folder that is gone is not listed."""
    if output_path is not None:
        return RunResult(report, Path(output_path))
    from harness_plugin.config.run_config import RunConfig

    defaults = {name: RunConfig.model_fields[name].default for name in ("output_path", "outputs")}
    return RunResult(replace(report, config={**report.config, **defaults}, files=()))
