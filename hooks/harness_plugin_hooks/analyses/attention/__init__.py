"""Attention of the models, and how far they differ in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_plugin.analysis.contract import Analysis
from harness_plugin_hooks.analyses.attention.options import AttentionOptions

if TYPE_CHECKING:
    from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult


def analyse(inputs: AnalysisInput, options: AttentionOptions) -> AnalysisResult:
    """Import what computes it, and torch with it, and do it."""
    from harness_plugin_hooks.analyses.attention import record

    return record.analyse(inputs, options)


ATTENTION = Analysis(analyse, AttentionOptions)
