"""Progress bars: one program, one set."""

from __future__ import annotations


def quiet_libraries() -> None:
    """One program, one set of progress bars: ours. Warnings still come through."""
    quiet_datasets()
    from transformers.utils import logging

    logging.disable_progress_bar()


def quiet_datasets() -> None:
    """The same where no model is loaded."""
    import datasets

    datasets.disable_progress_bars()
