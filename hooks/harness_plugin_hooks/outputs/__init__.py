"""Result files: one writer a module, each a function (report, folder) -> files."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register


@hookimpl
def register_outputs(register: Register) -> None:
    """Offer the built-in writers."""
    here = "harness_plugin_hooks.outputs"
    register(
        "eval_results",
        f"{here}.eval_results:write",
        summary="hub_*/MODEL/.eval_results/*.yaml: numbers on data sets of the hub",
    )
    register(
        "evaluate",
        f"{here}.evaluate_save:write",
        summary="evaluate_*/MODEL/result-*.json, as evaluate.save writes them",
    )
    register(
        "every_eval_ever",
        f"{here}.every_eval_ever:write",
        summary="every_eval_ever_*/data/…: records of Every Eval Ever 0.3.0 (and samples)",
    )
    register(
        "lm_eval",
        f"{here}.lm_eval:write",
        summary="results_*.json (and samples_*.jsonl) as lm-evaluation-harness 0.4.13 writes them",
    )
    register(
        "model_card",
        f"{here}.model_card:write",
        summary="hub_*/MODEL/README.md: a model card with a model-index",
    )
    register(
        "open_llm",
        f"{here}.open_llm:write",
        summary="open_llm_*/MODEL/results_*.json alone, for leaderboards that scan folders",
    )
    register(
        "predictions",
        f"{here}.predictions:write",
        summary="predictions_*.csv: every model's answers on one set (--log_samples)",
    )
    register(
        "table",
        f"{here}.table:write",
        summary="scores_*.csv and .parquet: all numbers of a run in one table",
    )
    register(
        "transfer",
        f"{here}.transfer:write",
        summary="transfer_*.json: all roles compared, with intervals (docs/transfer.schema.json)",
    )
