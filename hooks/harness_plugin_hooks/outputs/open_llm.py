"""open_llm_<time>/<model>/results_<time>.json: results alone, for leaderboards that scan folders.

Readers made for the Open LLM Leaderboard walk a tree of `<model>/results_*.json` and pass over
every folder that holds anything but JSON, so that samples beside the results hide the model. The
files are those of `lm_eval`; `config` has the model_name, model_sha and model_dtype they look for.
"""

from __future__ import annotations

from pathlib import Path

from harness_plugin.records import RunReport
from harness_plugin.store.files import strict, timestamp, write_json
from harness_plugin_hooks.outputs.each_model import each_model
from harness_plugin_hooks.outputs.lm_eval import results


def write(report: RunReport, folder: Path) -> list[Path]:
    """One file a model, and no other file in the tree."""
    stamp = timestamp(report.started)
    files = []
    for evaluated in each_model(report):
        target = folder / f"open_llm_{stamp}" / evaluated.folder
        target.mkdir(parents=True, exist_ok=True)
        file = target / f"results_{stamp}.json"
        write_json(file, strict(results(report, evaluated, {})))
        files.append(file)
    return files
