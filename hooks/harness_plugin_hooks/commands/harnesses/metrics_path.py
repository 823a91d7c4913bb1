"""`harness metrics-path`: the folder that `evaluate.load` takes modules from."""

from __future__ import annotations

from harness_plugin.cli.parser import Parser


def main(words: list[str]) -> int:
    """Print the folder."""
    parser = Parser(
        "harness metrics-path",
        description="Print the folder with the modules for evaluate.load(FOLDER/NAME).",
    )
    parser.parse_args(words)
    from harness_plugin_hooks.adapters.evaluate_modules import folder

    print(folder())
    return 0
