"""Remedies that make the teacher smaller instead of training a smaller network."""

from harness_plugin.plugins.remedies import Remedy
from harness_plugin_hooks.remedies.changes import setting

INT8 = Remedy(
    "int8",
    "the teacher itself in 8 bits instead of a smaller network; nothing is trained",
    setting(
        compress={"int8": {}},
        method="erm",
        epochs=None,
        rounds=1,
        from_teacher="none",
        augmentations={},
    ),
    order=250,
)
