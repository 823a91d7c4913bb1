"""`harness score`: predictions that were made elsewhere become the outputs of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness_plugin.cli.parser import Parser, add_file_options, add_run_options, comma_list
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.machine.progress import quiet_datasets

SCORING = ("resamples", "margin", "min_seeds", "min_group")
"""Options of a run that say how it is scored."""


def parser() -> Parser:
    """Every option of `harness score`."""
    out = Parser(
        "harness score",
        description="Score files of predictions, whatever made them; writes what a run writes.",
    )
    out.add_argument("--tasks", required=True, metavar="NAME|FILE.yaml", help="the task")
    add_run_options(out, "data")
    out.add_argument(
        "--predictions",
        required=True,
        action="append",
        type=Path,
        metavar="FILE",
        help="csv, tsv, txt, jsonl or parquet with ids and labels, probabilities or logits "
        "(repeatable: one file a seed)",
    )
    for role in ("teacher", "control"):
        out.add_argument(
            f"--{role}_predictions",
            action="append",
            type=Path,
            metavar="FILE",
            help=f"of the {role} it is compared with, one file a seed",
        )
    out.add_argument("--model_name", metavar="NAME", help="default: the file's name")
    out.add_argument(
        "--kind",
        choices=("label", "probabilities", "logits"),
        help="which columns count; needed where the file's column names do not say",
    )
    out.add_argument(
        "--labels", type=comma_list, metavar="A,B,C", help="names of a list column's entries"
    )
    add_file_options(out)
    add_run_options(
        out,
        "include_path",
        "sets",
        "limit",
        "output_path",
        "outputs",
        "log_samples",
        *SCORING,
        limit="as of the run it is compared with",
    )
    return out


def main(words: list[str]) -> int:
    """Score the files that `words` name and write every registered output."""
    args = vars(parser().parse_args(words))
    from harness_plugin.config.merge import run_config
    from harness_plugin.data.task import find_task
    from harness_plugin.pipeline.outputs import (
        check_writable,
        chosen_outputs,
        in_own_folder,
        write_outputs,
    )
    from harness_plugin.pipeline.score_predictions import ROLES, option_of, score_predictions

    plugins = installed_plugins()
    task = find_task(args["tasks"], plugins["task"], args["include_path"] or ())
    quiet_datasets()
    files = {role: args[option_of(role)] or [] for role in ROLES}
    flags: dict[str, Any] = {
        name: args[name]
        for name in ("data", "sets", "limit", "outputs", "log_samples", *SCORING, "output_path")
    }
    flags |= {"tasks": (task.task,), "seeds": tuple(range(len(files["student"])))}
    config = in_own_folder(run_config(args["config"], flags, args["set"]), time.time())
    chosen_outputs(config, plugins)  # a name that does not exist is refused before any work
    check_writable(Path(config.output_path))
    report = score_predictions(
        config,
        plugins,
        task,
        files,
        **{name: args[name] for name in ("kind", "labels", "model_name")},
    )
    written = write_outputs(report, config, plugins)
    print(f"\n{len(written)} files in {config.output_path}:", *written, sep="\n  ")
    return 0
