"""The built-in remedies of a student that lost its teacher's debiasing, by what they change.

Their order is that of the evidence in the literature: nearly pure distillation first (labels bring
the bias back), then the method's weights on the distillation term, the last layer, the teacher's
targets, more teachers, more data, features, repeated distillation; and last the teacher itself made
smaller, which distils nothing.
"""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register


@hookimpl
def register_remedies(register: Register) -> None:
    """Offer every remedy that is a constant of one of the modules."""
    from harness_plugin.plugins.remedies import Remedy  # `harness --help` needs none of them
    from harness_plugin_hooks.remedies import (
        augmentations,
        compression,
        distillation,
        features,
        teachers,
    )

    for module in (distillation, teachers, augmentations, features, compression):
        for constant, remedy in vars(module).items():
            if isinstance(remedy, Remedy):
                register(remedy.name, f"{module.__name__}:{constant}", summary=remedy.summary)
