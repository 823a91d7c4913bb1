"""`harness lm-eval-path`: the folder that lm_eval's `--include_path` takes."""

from __future__ import annotations

from harness_plugin.cli.parser import Parser


def parser() -> Parser:
    """It has no options."""
    return Parser(
        "harness lm-eval-path",
        description="Print the folder with our text tasks, for lm_eval's --include_path.",
    )


def main(words: list[str]) -> int:
    """Print the folder."""
    parser().parse_args(words)
    from harness_plugin_hooks.adapters.lm_eval_tasks import folder

    print(folder())
    return 0
