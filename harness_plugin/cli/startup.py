"""Shared start of all commands: plugins, and the main process of several."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from harness_plugin.plugins.registry import Plugins

COMMANDS = ("run", "ls", "show", "validate", "launch")
KINDS = {
    "tasks": "task",
    "methods": "method",
    "bias_models": "bias_model",
    "group_inferences": "group_inference",
    "distillers": "distiller",
    "augmentations": "augmentation",
    "compressors": "compressor",
    "remedies": "remedy",
    "backbones": "backbone",
    "metrics": "metric",
    "analyses": "analysis",
    "outputs": "output",
    "commands": "command",
}
"""Argument of `harness ls` -> kind that plugins register."""


def is_main_process() -> bool:
    """Whether this process speaks for all (launchers set RANK)."""
    return os.environ.get("RANK", "0") == "0"


def installed_plugins(commands_only: bool = False) -> Plugins:
    """The installed plugins; broken ones are reported once, by the main process.

    `commands_only`: what they offer besides is not asked for.
    Raises HarnessError for a plugin that offers a command by the name of a built-in one.
    """
    from harness_plugin.plugins import registry

    load = registry.load_plugins
    plugins = load(("command",)) if commands_only else load()
    for offer in plugins["command"]:
        if offer.name in COMMANDS:
            raise HarnessError(
                f"plugin {offer.plugin!r} offers command {offer.name!r}, which is built in; "
                f"block it with {registry.BLOCK}={offer.plugin}."
            )
    if is_main_process():
        for broken in plugins.broken:
            print(f"harness: {broken}", file=sys.stderr)
    return plugins
