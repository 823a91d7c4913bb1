"""Remedies that give the student further rows, at the same number of updates."""

from harness_plugin.plugins.remedies import Remedy
from harness_plugin_hooks.remedies.changes import further_rows

UPSAMPLE = Remedy("upsample", "rows of small groups again", further_rows("upsample"), order=130)
COUNTERFACTUAL = Remedy(
    "counterfactual", "rows with another attribute", further_rows("counterfactual"), order=140
)
SWAP_ARGUMENTS = Remedy(
    "swap_arguments", "pairs with two words exchanged", further_rows("swap_arguments"), order=150
)
OTHER_PREMISE = Remedy(
    "other_premise", "hypotheses with another premise", further_rows("other_premise"), order=160
)
NEGATION = Remedy("negation", "negated hypotheses", further_rows("negation"), order=170)
