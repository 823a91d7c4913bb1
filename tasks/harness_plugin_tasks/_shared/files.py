"""Released files and hub copies in a folder that a user gives, and the rows they should have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow.parquet as pq

from harness_plugin.data.dataset import DataRequest, Ints
from harness_plugin.data.hub import load_local
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    import datasets

T = TypeVar("T")


def data_folder(request: DataRequest) -> Path:
    """The folder of the source `path`, or HarnessError."""
    if request.path is None or not request.path.is_dir():
        task = request.task.task
        raise HarnessError(f"{task}: {request.path} is not a directory; give --data PATH.")
    return request.path


def find(root: Path, names: Iterable[str]) -> Path | None:
    """The file of the first of `names` that is in `root` or in a direct subfolder.

    Raises HarnessError when it is in two places.
    """
    for name in names:
        files = [file for file in (root / name, *sorted(root.glob(f"*/{name}"))) if file.is_file()]
        if len(files) > 1:
            raise HarnessError(f"{root}: {name} is there twice, {files[0]} and {files[1]}.")
        if files:
            return files[0]
    return None


def require_splits(loaded: Collection[str], names: Iterable[str], where: str) -> None:
    """Refuse a data set of the hub without one of the splits `names`."""
    if absent := sorted(set(names) - set(loaded)):
        raise HarnessError(f"{where}: no split {', '.join(absent)} (found {', '.join(loaded)}).")


def hub_copies(root: Path, accepts: Callable[[set[str]], bool]) -> list[Path]:
    """The direct subfolders of `root` that hold a data set that `accepts` takes, else `root`."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    matches = [folder for folder in folders if accepts(column_names(folder))]
    whole = (root / "dataset_dict.json").is_file() or any(root.glob("*.parquet"))
    return matches or ([root] if whole and accepts(column_names(root)) else [])


def the_one(root: Path, copies: Sequence[Path]) -> Path | None:
    """The only one of `copies`, None without any; HarnessError when there are two."""
    if len(copies) > 1:
        raise HarnessError(f"{root}: hub copies in both {copies[0].name}/ and {copies[1].name}/.")
    return copies[0] if copies else None


def hub_copy(root: Path, accepts: Callable[[set[str]], bool]) -> Path | None:
    """The one folder of `hub_copies`, None without any; HarnessError when there are two."""
    return the_one(root, hub_copies(root, accepts))


def column_names(folder: Path) -> set[str]:
    """The columns of the data set saved in `folder`; none if there is no such thing."""
    if (folder / "dataset_dict.json").is_file():
        return set(next(iter(load_local(folder).values())).column_names)
    file = next(folder.rglob("*.parquet"), None)
    return set(pq.read_schema(file).names) if file else set()


def require(root: Path, names: Sequence[str], otherwise: str = "") -> Path:
    """The file that `find` gives, or the error `missing`."""
    if file := find(root, names):
        return file
    raise missing(root, names, otherwise)


def missing(root: Path, names: Sequence[str], otherwise: str = "") -> HarnessError:
    """The error for files that are nowhere; `otherwise` ends its sentence."""
    return HarnessError(
        f"{root}: found none of {', '.join(names)} (looked in it and in its direct subfolders)"
        f"{otherwise}."
    )


def is_hub_copy(folder: Path) -> bool:
    """Whether `folder` itself, or its data/, holds parquet files, or it was saved to disk."""
    return (folder / "dataset_dict.json").is_file() or any(
        next(folder.glob(pattern), None) for pattern in ("*.parquet", "data/*.parquet")
    )


def read_layout(
    folders: Sequence[Path],
    is_release: Callable[[Path], bool],
    from_release: Callable[[Path], T],
    from_hub: Callable[[datasets.DatasetDict, str], T],
    release: str,
) -> T:
    """The data of the first of `folders` that holds a release, else of the first copy of the hub's.

    Raises HarnessError where none holds either; `release` are the words for what was looked for.
    """
    for folder in folders:
        if is_release(folder):
            return from_release(folder)
    for folder in folders:
        if is_hub_copy(folder):
            return from_hub(load_local(folder), str(folder))
    raise HarnessError(
        f"{folders[0]}: found neither {release} nor a copy of a hub repository (*.parquet, "
        "dataset_dict.json)."
    )


def row_variant(where: object, rows: int, expected: int) -> Iterator[str]:
    """A note if `where`, a file or a hub split, has another number of rows than released."""
    if rows != expected:
        yield f"variant: {where} has {rows:,} rows, expected {expected:,}"


def count_variants(
    name: str, counts: Sequence[int] | Ints, expected: Sequence[int], names: Sequence[str]
) -> Iterator[str]:
    """A note for every one of `names` whose count in split `name` is not the release's."""
    for what, n, released in zip(names, counts, expected, strict=True):
        if n != released:
            yield f"variant: {name} has {n:,} rows of {what}, expected {released:,}"
