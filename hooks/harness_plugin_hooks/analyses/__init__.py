"""Why debiasing is lost: what happens inside the models. One module an analysis."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register


@hookimpl
def register_analyses(register: Register) -> None:
    """Offer the built-in analyses."""
    here = "harness_plugin_hooks.analyses"
    register(
        "cka",
        f"{here}.similarity_record:analyse",
        summary="similarity of all layers (CKA), with a null and a ceiling",
    )
    register(
        "attention",
        f"{here}.attention_record:analyse",
        summary="what heads attend to, how far models differ in it, heads matched",
    )
    register(
        "circuits",
        f"{here}.circuit_record:analyse",
        summary="which parts carry the answer (edge attribution), tested against random parts",
    )
    register(
        "probes",
        f"{here}.probes_record:analyse",
        summary="where label and spurious attribute can be read off (linear probes)",
    )
