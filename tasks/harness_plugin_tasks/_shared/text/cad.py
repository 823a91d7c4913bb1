"""The files of the release: one folder a version, `train.tsv`, `dev.tsv` and `test.tsv` in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData, make_split
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, row_variant
from harness_plugin_tasks._shared.quoted import read_quoted

FILES = ("train", "dev", "test")
ORIGINAL = "original"


@dataclass(frozen=True)
class Part:
    """The rows of one file: `version` says whether they are as written or how they were revised."""

    version: str
    where: str
    columns: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(self.columns["label"])


@dataclass(frozen=True)
class Release:
    """One of the two data sets: where its files lie and how many rows they have.

    `columns`: our name -> that of the file. `folders` by version, ORIGINAL and the revisions.
    `rows`: expected rows of train, dev and test by version. `tests`: the revisions that are test
    sets, with the rows after each other that are revisions of one original, a cluster (0: rows are
    independent). `combined`: the version that joins the originals in training.
    """

    task: str
    folder: str
    columns: Mapping[str, str]
    folders: Mapping[str, str]
    rows: Mapping[str, tuple[int, int, int]]
    tests: Mapping[str, int]
    combined: str
    labels: tuple[str, ...]

    def load(self, request: DataRequest) -> TaskData:
        """Splits `train`, `validation`, `id` (original rows) and one for each of `tests`.

        Groups are label/version. With the option train=combined the revised training and
        development rows join the original ones, which is the remedy of Kaushik et al. 2020. Where
        nothing is trained, the files of the test sets alone are read.

        Raises HarnessError naming the file and line for anything missing or malformed.
        """
        root = self.root(request)
        joined = (self.combined,) if request.options["train"] == "combined" else ()
        sets: list[tuple[str, Purpose, str, tuple[str, ...]]] = []
        if request.trains:
            sets.append(("train", "train", "train", (ORIGINAL, *joined)))
            sets.append(("validation", "validation", "dev", (ORIGINAL, *joined)))
        sets.append(("id", "in_domain", "test", (ORIGINAL,)))
        sets += [(name, "ood", "test", (name,)) for name in self.tests]
        splits: dict[str, Split] = {}
        notes: list[str] = []
        for name, purpose, file, versions in sets:
            parts = [self.read(root, version, file) for version in versions]
            splits[name] = self.split(name, purpose, parts)
            for part in parts:
                expected = self.rows[part.version][FILES.index(file)]
                notes += row_variant(part.where, len(part), expected)
        return TaskData(self.task, request.source, splits, tuple(notes))

    def root(self, request: DataRequest) -> Path:
        """The folder of the data set in `request.path` or in a direct subfolder of it.

        Raises HarnessError when it is in neither, or in two places.
        """
        path = data_folder(request)
        places = (path / self.folder, *sorted(path.glob(f"*/{self.folder}")))
        roots = [place for place in places if place.is_dir()]
        if len(roots) != 1:
            several = " and ".join(map(str, roots)) or "nowhere"
            raise HarnessError(
                f"{path}: the folder {self.folder}/ of the release must be in it or in one direct "
                f"subfolder; it is {several}."
            )
        return roots[0]

    def read(self, root: Path, version: str, file: str) -> Part:
        """`file`.tsv of a version. Raises HarnessError naming the file and line."""
        path = root / self.folders[version] / f"{file}.tsv"
        read = read_quoted(path, tuple(self.columns.values()))
        return Part(version, str(path), {our: read[name] for our, name in self.columns.items()})

    def split(self, name: str, purpose: Purpose, parts: Sequence[Part]) -> Split:
        """One split of the rows of `parts`: attribute = version, groups = label/version.

        Which cue a row holds is not annotated, so that `aligned` is undefined.
        Raises HarnessError as `make_split` does.
        """

        def column(key: str) -> list[str]:
            return [value for part in parts for value in part.columns[key]]

        versions = [part.version for part in parts for _ in range(len(part))]
        labels = column("label")
        revisions = self.tests.get(name, 0)
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
