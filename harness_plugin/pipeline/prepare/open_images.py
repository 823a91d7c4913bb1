"""Every image of a task's data opened once, so that a damaged one is found before a training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness_plugin.data.dataset import TaskData
from harness_plugin.data.split import Split, is_image
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import Work
from harness_plugin.training.inputs.pixels import as_rgb, available_cores

CHUNK = 512
SHOWN = 3
"""Damaged images that the error names."""


def check_images(data: TaskData, column: str, *, quiet: bool = False) -> int:
    """Decode every stored image of every split, in as many threads as there are cores.

    Returns how many there are; 0 for splits that hold arrays. Raises HarnessError with their number
    and the file, split and id of the first that cannot be read.
    """
    bad: list[str] = []
    splits = [s for s in data.splits.values() if is_image(s.rows.features[column])]
    total = sum(map(len, splits))
    work = Work("opening images", total, unit="image", quiet=quiet)
    for split in splits:
        for start in range(0, len(split), CHUNK):
            bad += damaged(split, column, start)
            work.update(min(CHUNK, len(split) - start))
    work.close()
    if bad:
        more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
        raise HarnessError(
            f"task {data.task}: {len(bad):,} of {total:,} images cannot be read: "
            f"{'; '.join(bad[:SHOWN])}{more}."
        )
    return total


def damaged(split: Split, column: str, start: int) -> list[str]:
    """The faults of the images of a chunk that cannot be read."""
    images = split.stored([column], start, start + CHUNK).column(column).to_pylist()
    ids = split.texts("id").slice(start, CHUNK).to_pylist()
    decode = split.rows.features[column].decode_example

    def problem(of: tuple[dict[str, Any], str]) -> str:
        image, name = of
        try:
            as_rgb(decode(image))
        except Exception as error:  # whatever a damaged file makes a decoder raise
            place = image["path"] or "an image without a file"
            return f"{place} ({split.name}, id {name}): {' '.join(str(error).split())}"
        return ""

    with ThreadPoolExecutor(available_cores()) as pool:
        problems = pool.map(problem, zip(images, ids, strict=True))
        return [each for each in problems if each]
