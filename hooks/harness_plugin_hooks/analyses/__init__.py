"""Why debiasing is lost: what happens inside the models. One folder an analysis."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register


@hookimpl
def register_analyses(register: Register) -> None:
    """Offer the built-in analyses."""
    here = "harness_plugin_hooks.analyses"
    register(
        "cka",
        f"{here}.cka:CKA",
        summary="similarity of all layers (CKA), with a null and a ceiling",
    )
    register(
        "attention",
        f"{here}.attention:ATTENTION",
        summary="what heads attend to, how far models differ in it, heads matched",
    )
    register(
        "circuits",
        f"{here}.circuits:CIRCUITS",
        summary="which parts carry the answer (edge attribution), tested against random parts",
    )
    register(
        "probes",
        f"{here}.probes:PROBES",
        summary="where label and spurious attribute can be read off (linear probes)",
    )
