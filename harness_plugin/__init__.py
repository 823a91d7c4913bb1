"""Debiasing transfer as harness tasks and metrics: does debiasing survive distillation?

    import harness_plugin as hp

    result = hp.run(tasks=["hans"], method="poe", seeds=[0, 1, 2])
    result.verdicts
    result.to_pandas()

Each name is imported when it is first used; `import harness_plugin` alone is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_plugin._version import __version__
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from harness_plugin.api.functions import compare as compare
    from harness_plugin.api.functions import load_task as load_task
    from harness_plugin.api.functions import open_run as open_run
    from harness_plugin.api.functions import remedy as remedy
    from harness_plugin.api.functions import run as run
    from harness_plugin.api.functions import score as score
    from harness_plugin.api.results import ComparisonResult as ComparisonResult
    from harness_plugin.api.results import LoadedTask as LoadedTask
    from harness_plugin.api.results import RunResult as RunResult


API = ("compare", "load_task", "open_run", "remedy", "run", "score")
RESULTS = ("ComparisonResult", "LoadedTask", "RunResult")

__all__ = [*API, *RESULTS, "HarnessError", "__version__", "hookimpl"]


def __getattr__(name: str) -> Any:
    """Import a function of the API, or the class of a result, when it is first asked for."""
    import importlib

    if name in API:
        return getattr(importlib.import_module("harness_plugin.api.functions"), name)
    if name in RESULTS:
        return getattr(importlib.import_module("harness_plugin.api.results"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
