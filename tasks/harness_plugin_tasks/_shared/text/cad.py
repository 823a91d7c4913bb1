"""The files of the release: one folder a version, `train.tsv`, `dev.tsv` and `test.tsv` in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.data.dataset import DataRequest, Purpose, Split, make_split
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, row_variant
from harness_plugin_tasks._shared.quoted import read_quoted


@dataclass(frozen=True)
class Part:
    """The rows of one file: `version` says whether they are as written or how they were revised."""

    version: str
    where: str
    columns: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(self.columns["label"])


@dataclass(frozen=True)
class Layout:
    """How one of the two data sets is stored.

    `columns`: our name -> that of the file. `rows`: expected rows by folder, then by file.
    """

    folder: str
    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, int]]
    labels: tuple[str, ...]

    def root(self, request: DataRequest) -> Path:
        """The folder of the data set in `request.path` or in a direct subfolder of it.

        Raises HarnessError when it is in neither, or in two places.
        """
        path = data_folder(request)
        places = (path / self.folder, *sorted(path.glob(f"*/{self.folder}")))
        found = [place for place in places if place.is_dir()]
        if len(found) != 1:
            several = " and ".join(map(str, found)) or "nowhere"
            raise HarnessError(
                f"{path}: the folder {self.folder}/ of the release must be in it or in one direct "
                f"subfolder; it is {several}."
            )
        return found[0]

    def read(self, root: Path, folder: str, file: str, version: str) -> Part:
        """`root`/`folder`/`file`.tsv. Raises HarnessError naming the file and line."""
        path = root / folder / f"{file}.tsv"
        read = read_quoted(path, tuple(self.columns.values()))
        return Part(version, str(path), {our: read[name] for our, name in self.columns.items()})

    def variant(self, part: Part) -> Iterator[str]:
        """A note if `part` has not as many rows as the release."""
        path = Path(part.where)
        return row_variant(path, len(part), self.rows[path.parent.name][path.stem])

    def split(
        self, name: str, purpose: Purpose, parts: Sequence[Part], revisions: int = 0
    ) -> Split:
        """One split of the rows of `parts`: attribute = version, groups = label/version.

        `revisions`: so many rows after each other are revisions of one original, a cluster; 0 for
        independent rows. Which cue a row holds is not annotated, so that `aligned` is undefined.
        Raises HarnessError as `make_split` does.
        """

        def column(key: str) -> list[str]:
            return [value for part in parts for value in part.columns[key]]

        versions = [part.version for part in parts for _ in range(len(part))]
        labels = column("label")
        return make_split(
            name,
            purpose=purpose,
            inputs={key: column(key) for key in self.columns if key != "label"},
            ids=[f"{part.version}:{name}:{i:06d}" for part in parts for i in range(len(part))],
            label_texts=labels,
            labels=self.labels,
            attributes=versions,
            group_texts=[
                f"{label}/{version}" for label, version in zip(labels, versions, strict=True)
            ],
            groups=tuple(
                f"{label}/{version}"
                for label in self.labels
                for version in dict.fromkeys(part.version for part in parts)
            ),
            clusters=[str(row // revisions) for row in range(len(labels))] if revisions else None,
            where=", ".join(part.where for part in parts),
        )
