"""Find, test and compare the circuits of all models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_plugin.analysis.contract import Analysis
from harness_plugin_hooks.analyses.circuits.options import CircuitOptions

if TYPE_CHECKING:
    from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult


def analyse(inputs: AnalysisInput, options: CircuitOptions) -> AnalysisResult:
    """Import what computes it, and torch with it, and do it."""
    from harness_plugin_hooks.analyses.circuits import record

    return record.analyse(inputs, options)


CIRCUITS = Analysis(analyse, CircuitOptions)
