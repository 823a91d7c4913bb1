"""Progress bars: one program, one set."""

from __future__ import annotations


def quiet_libraries() -> None:
    """One program, one set of progress bars: ours. Warnings still come through."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
