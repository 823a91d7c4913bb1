"""Why debiasing is lost: what happens inside the models. One folder an analysis."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

ANALYSES = {
    "cka": "similarity of all layers (CKA), with a null and a ceiling",
    "attention": "what heads attend to, how far models differ in it, heads matched",
    "circuits": "which parts carry the answer (edge attribution), tested against random parts",
    "probes": "where label and spurious attribute can be read off (linear probes)",
}


@hookimpl
def register_analyses(register: Register) -> None:
    """Offer the built-in analyses."""
    for name, summary in ANALYSES.items():
        register(name, f"harness_plugin_hooks.analyses.{name}:{name.upper()}", summary=summary)
