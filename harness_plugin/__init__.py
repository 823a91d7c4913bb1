"""Debiasing transfer as harness tasks and metrics: does debiasing survive distillation?"""

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.hookspecs import hookimpl

__version__ = "0.1.0"
__all__ = ["HarnessError", "__version__", "hookimpl"]
