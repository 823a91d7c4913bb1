"""`harness lm-eval`: lm-evaluation-harness with our tasks and model type, and strict results."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from harness_plugin._version import install_command
from harness_plugin.cli.startup import is_main_process
from harness_plugin.errors import HarnessError
from harness_plugin.machine.process_state import importing
from harness_plugin.pipeline.outputs import check_writable


def parser() -> argparse.ArgumentParser:
    """lm_eval's own parser; HarnessError where lm_eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise HarnessError(f"lm-evaluation-harness is not installed: {install_command('lm-eval')}")
    from lm_eval._cli import HarnessCLI

    out: argparse.ArgumentParser = HarnessCLI()._parser
    out.prog = "harness lm-eval"
    return out


def main(words: list[str]) -> int:
    """Run lm_eval; unlike its own, the exit status is not 0 when results were not written."""
    if words[:1] and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words = ["run", *words]  # as lm_eval itself does
    args: Any = parser().parse_args(words)
    output = getattr(args, "output_path", None)
    if output and is_main_process():
        path = Path(output)
        check_writable(path.parent if path.suffix == ".json" else path)
    with importing():
        from harness_plugin_hooks.adapters.lm_eval_run import (
            StrictTracker,
            execute,
            leave_processes,
        )

    execute(args)
    leave_processes()
    if output and is_main_process() and not StrictTracker.written:
        raise HarnessError(f"--output_path {output}: lm_eval has written no results.")
    return 0
