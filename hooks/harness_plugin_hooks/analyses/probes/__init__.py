"""Label and attribute, read off every layer of every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_plugin.analysis.contract import Analysis
from harness_plugin_hooks.analyses.probes.options import ProbeOptions

if TYPE_CHECKING:
    from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult


def analyse(inputs: AnalysisInput, options: ProbeOptions) -> AnalysisResult:
    """Import what computes it, and torch with it, and do it."""
    from harness_plugin_hooks.analyses.probes import record

    return record.analyse(inputs, options)


PROBES = Analysis(analyse, ProbeOptions)
