"""Remedies that distil what the teacher computes before its logits."""

from harness_plugin.plugins.remedies import Remedy
from harness_plugin_hooks.remedies.changes import setting

HINTS = Remedy(
    "hints",
    "the teacher's last features",
    setting(distiller="hints", distiller_options={}),
    order=180,
)
SUBSPACE = Remedy(
    "subspace",
    "the teacher's last features in the directions that its answers depend on",
    setting(distiller="subspace", distiller_options={}),
    order=240,
)
MINILM = Remedy(
    "minilm",
    "relations among tokens",
    setting(distiller="minilm", distiller_options={}),
    order=190,
)
