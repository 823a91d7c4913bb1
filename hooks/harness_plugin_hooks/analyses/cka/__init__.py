"""Similarity of all layers of all models (CKA), with a null and a ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_plugin.analysis.contract import Analysis
from harness_plugin_hooks.analyses.cka.options import CKAOptions

if TYPE_CHECKING:
    from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult


def analyse(inputs: AnalysisInput, options: CKAOptions) -> AnalysisResult:
    """Import what computes it, and torch with it, and do it."""
    from harness_plugin_hooks.analyses.cka import record

    return record.analyse(inputs, options)


CKA = Analysis(analyse, CKAOptions)
