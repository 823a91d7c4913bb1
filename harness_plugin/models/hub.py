"""The model hub: which names are ids of it, whether it answers, how it is read without noise."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers.utils import logging as transformers_logging

from harness_plugin.errors import HarnessError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ANSWERS_WITHIN = 3.0
"""Seconds that the hub has to answer before it counts as out of reach."""


def is_hub_id(name: str) -> bool:
    """Whether `name` is owner/name, and not a path: its first part is no folder that exists."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).parent.exists()


def options_of(checkpoint: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` besides a name, so that nothing waits for a missing network.

    Raises HarnessError for an id of the hub that is neither in reach nor in the local cache.
    """
    if Path(checkpoint).is_dir():
        return {}
    offline = constants.HF_HUB_OFFLINE or bool(os.environ.get("TRANSFORMERS_OFFLINE"))
    if not offline and answers(constants.ENDPOINT):
        return {}
    try:
        cached = try_to_load_from_cache(checkpoint, "config.json")
    except HFValidationError:
        raise HarnessError(
            f"model {checkpoint!r} cannot be loaded: it is no folder here, and no name that the "
            f"hub could have."
        ) from None
    if isinstance(cached, str):
        return {"local_files_only": True}
    why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} does not answer"
    raise HarnessError(
        f"model {checkpoint!r}: {why}, and the cache {constants.HF_HUB_CACHE} has no copy. Without "
        f"a network, name a local folder saved with save_pretrained, or use a preset with "
        f"init=scratch."
    )


@cache
def answers(endpoint: str) -> bool:
    """Whether the hub answers, with whatever status; asked once a process."""
    try:
        get_session().head(endpoint, timeout=ANSWERS_WITHIN)
    except Exception:  # the errors are those of whichever HTTP library the hub's client uses
        return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, nobody warns: what libraries log and warn of here is advice to programmers, load
    reports and retries. Errors are logged and raised as ever."""
    disabled = logging.root.manager.disable
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(max(logging.WARNING, disabled))
        try:
            yield
        finally:
            logging.disable(disabled)
            if bars:
                transformers_logging.enable_progress_bar()


@contextmanager
def reading(checkpoint: str) -> Iterator[None]:
    """Inside, a library reads a checkpoint: advice stays inside, its errors become one line.

    Whatever a foreign file makes a library raise is the file's fault: all of it is reported so.
    """
    try:
        with quiet():
            yield
    except HarnessError:
        raise
    except Exception as error:
        raise cannot_load(checkpoint, error) from error


def cannot_load(checkpoint: str, error: Exception) -> HarnessError:
    """One line for the many ways in which a checkpoint can fail to load."""
    whole = " ".join(str(error).split())
    reason = whole[:300].rstrip(".") or type(error).__name__
    if "trust_remote_code" in whole:
        return HarnessError(
            f"model {checkpoint!r} brings Python code of its own, which is not run unless you say "
            f"so: read it, then pass --trust_remote_code."
        )
    if re.search("does not recognize this architecture|Unrecognized model", whole):
        return HarnessError(
            f"model {checkpoint!r}: this version of transformers does not know its model type; "
            f"update transformers, or take another model."
        )
    if "Unrecognized configuration class" in whole:
        kind = re.search(r"configuration class <class '[\w.]*?(\w+)'>", whole)
        return HarnessError(
            f"model {checkpoint!r}: transformers has no classifier for its architecture"
            f"{f' ({kind[1]})' if kind else ''}; docs/models.md lists what loads."
        )
    return HarnessError(
        f"model {checkpoint!r} cannot be loaded: {reason}. Save it again with save_pretrained, or "
        f"name another one."
    )
