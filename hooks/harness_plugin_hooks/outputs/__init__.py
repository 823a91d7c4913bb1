"""Result files: one writer a module, each a function (report, folder) -> files."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

OUTPUTS = {
    "eval_results": "hub_*/MODEL/.eval_results/*.yaml: numbers on data sets of the hub",
    "evaluate": "evaluate_*/MODEL/result-*.json, as evaluate.save writes them",
    "every_eval_ever": "every_eval_ever_*/data/…: records of Every Eval Ever 0.3.0 (and samples)",
    "lm_eval": "models/MODEL/results_*.json (and samples_*.jsonl) as lm-evaluation-harness 0.4.13 "
    "writes them",
    "model_card": "hub_*/MODEL/README.md: a model card with a model-index",
    "open_llm": "open_llm_*/MODEL/results_*.json alone, for leaderboards that scan folders",
    "predictions": "predictions_*.csv: every model's answers on one set (--log_samples)",
    "table": "scores_*.csv and .parquet: all numbers of a run in one table",
    "trackers": "in the tracker of --log_with: a run a role and seed, with all its numbers",
    "transfer": "transfer_*.json: all roles compared, with intervals (docs/transfer.schema.json)",
}

ALWAYS = ("transfer", "table", "lm_eval", "predictions", "trackers")
"""Outputs of every run; predictions and samples where `--log_samples` is set."""


@hookimpl
def register_outputs(register: Register) -> None:
    """Offer the built-in writers."""
    for name, summary in OUTPUTS.items():
        module = "evaluate_save" if name == "evaluate" else name  # not to hide the library
        target = f"harness_plugin_hooks.outputs.{module}:write"
        register(name, target, summary=summary, by_name_only=name not in ALWAYS)
