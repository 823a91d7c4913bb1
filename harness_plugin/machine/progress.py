"""Progress bars: one program, one set."""

from __future__ import annotations

import os
import sys


def quiet_libraries() -> None:
    """One program, one set of progress bars: ours. Warnings still come through."""
    quiet_datasets()
    from transformers.utils import logging

    logging.disable_progress_bar()


def quiet_datasets() -> None:
    """The same where no model is loaded."""
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    else:  # a second of imports, for a library that may not be needed
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
