"""Result files: one writer a module, each a function (report, folder) -> files."""

from harness_plugin import hookimpl
from harness_plugin.hookspecs import Register


@hookimpl
def register_outputs(register: Register) -> None:
    """Offer the built-in writers."""
    here = "harness_plugin_hooks.outputs"
    register(
        "lm_eval",
        f"{here}.lm_eval:write",
        summary="results_*.json (and samples_*.jsonl) as lm-evaluation-harness 0.4.13 writes them",
    )
    register(
        "predictions",
        f"{here}.predictions:write",
        summary="predictions_*.csv: every model's answers on one set (--log_samples)",
    )
    register(
        "transfer",
        f"{here}.transfer:write",
        summary="transfer_*.json: all roles compared, with intervals (docs/transfer.schema.json)",
    )
