"""A bundle: the parts of one submission in a folder or a zip file, with a manifest of their hashes.

    manifest.json                          name, versions, SHA-256 and size of every other part
    config.json                            the resolved configuration of the run
    environment.json                       versions and hardware
    models.json                            SHA-256 of every model's files
    tasks/TASK/results.json                transfer_*.json of the task
    tasks/TASK/predictions_SET.csv         every model's answers on one evaluation set

Bundles come from strangers. Nothing is unpacked; a name that is not in this layout, a link and a
part beyond the limits are refused before they are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness_plugin.errors import HarnessError

MANIFEST = "manifest.json"
LAYOUT = re.compile(
    r"(manifest|config|environment|models)\.json"
    r"|tasks/[a-z0-9][a-z0-9_]*/(results\.json|predictions_[A-Za-z0-9][A-Za-z0-9._-]*\.csv)"
)
FOLDER = re.compile(r"tasks(/[a-z0-9][a-z0-9_]*)?")
MAX_PARTS = 1000
MAX_ZIP = 128 << 20
MAX_PART = 256 << 20
MAX_BUNDLE = 1 << 30
"""Bytes: of a zip file; of one part and of all parts together, unpacked."""
RATIO, SMALL = 20, 4 << 20
"""A zip file unpacks to at most so many times its size, a small one to so many bytes: numbers and
hashes are packed to a third, text to a tenth; what is packed to less was made to fill memory."""
VALUES_A_BYTE, FEW_VALUES = 0.5, 200_000
"""Values (of JSON) and cells (of CSV) that a byte of a bundle, as it is sent, may stand for, and
how many a small bundle may hold: each takes some 60 bytes of memory, 300 in a record's models."""


@dataclass(frozen=True)
class Problem:
    """Something about a bundle that does not hold."""

    part: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.part}: expected {self.expected}, found {self.actual}"


class Refused(HarnessError):
    """A bundle that cannot be trusted, and why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A part in the manifest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sha256: Sha256
    bytes: int = Field(ge=0)


class Manifest(BaseModel):
    """manifest.json"""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["harness-plugin-bundle"] = "harness-plugin-bundle"
    format_version: Literal["1"] = "1"
    name: str = Field(min_length=1, max_length=100, description="what the leaderboard calls it")
    harness_plugin_version: str = Field(max_length=50)
    parts: dict[str, Part]


def manifest_of(name: str, version: str, parts: Mapping[str, bytes]) -> Manifest:
    """The manifest of `parts`.

    Raises HarnessError for a name that a leaderboard cannot show, Refused for a part beyond limits.
    """
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise HarnessError(f"--name {name!r}: expected 1 to 100 printable characters.")
    for key, content in parts.items():
        check_part(key, len(content))
    hashes = {key: Part(sha256=sha256(parts[key]), bytes=len(parts[key])) for key in sorted(parts)}
    return Manifest(name=name, harness_plugin_version=version, parts=hashes)


def write_bundle(manifest: Manifest, parts: Mapping[str, bytes], target: Path) -> None:
    """Write a bundle as the folder or .zip file `target`, whole or not at all.

    The same parts give the same bytes. Raises HarnessError for a target that exists.
    """
    if target.exists() or target.is_symlink():
        raise HarnessError(f"{target} exists already; a bundle is never overwritten.")
    text = json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False)
    whole = {MANIFEST: f"{text}\n".encode(), **{key: parts[key] for key in sorted(parts)}}
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".zip":
            write_zip(whole, partial)
        else:
            for key, content in whole.items():
                (partial / key).parent.mkdir(parents=True, exist_ok=True)
                (partial / key).write_bytes(content)
        os.replace(partial, target)
    except OSError as error:
        raise HarnessError(f"{target} cannot be written: {error.strerror}.") from None
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        elif partial.exists():
            partial.unlink()


def write_zip(parts: Mapping[str, bytes], file: Path) -> None:
    """A zip file without times, so that equal parts are equal files."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in parts.items():
            member = zipfile.ZipInfo(key)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)


def read_bundle(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and all other parts, which are what it says.

    Raises HarnessError where there is no bundle, Refused for one that is not what it should be.
    """
    if path.is_symlink():
        raise Refused(Problem(path.name, "a folder or a zip file", "a symbolic link"))
    if not path.exists():
        raise HarnessError(f"there is no bundle {path}.")
    parts: dict[str, bytes] = {}
    total = values = 0
    sent = None if path.is_dir() else path.stat().st_size
    for key, content in from_folder(path) if path.is_dir() else from_zip(path):
        if len(parts) == MAX_PARTS:
            raise Refused(Problem(path.name, f"at most {MAX_PARTS:,} parts", "more"))
        parts[key] = content
        total += len(content)
        if total > MAX_BUNDLE:
            raise Refused(Problem(path.name, f"at most {MAX_BUNDLE:,} bytes", f"{total:,} or more"))
        values += values_in(key, content)
        if values > (most := int(VALUES_A_BYTE * (total if sent is None else sent)) + FEW_VALUES):
            raise Refused(Problem(key, f"at most {most:,} values up to here", f"{values:,}"))
        check_lines(key, content)
    if MANIFEST not in parts:
        raise Refused(Problem(MANIFEST, "the list of all parts", "no such part"))
    manifest = parsed(Manifest, parts.pop(MANIFEST), MANIFEST)
    if problems := [*differing(manifest, parts)]:
        raise Refused(*problems)
    return manifest, parts


def values_in(key: str, content: bytes) -> int:
    """At most so many values does a JSON or CSV part hold, counted without reading it."""
    marks = (b",", b"\n") if key.endswith(".csv") else (b",", b"[", b"{")
    return sum(map(content.count, marks))


def check_lines(key: str, content: bytes) -> None:
    """Refuse a table with a line far longer than the others: a column is as wide as its widest."""
    if not key.endswith(".csv"):
        return
    longest = max(map(len, content.split(b"\n")))
    wide, most = longest * content.count(b"\n"), 4 * len(content) + SMALL
    if wide > most:
        expected = f"lines of about one length (all as the longest: at most {most:,} bytes)"
        raise Refused(Problem(key, expected, f"{wide:,}"))


def differing(manifest: Manifest, parts: Mapping[str, bytes]) -> Iterator[Problem]:
    """Parts that are missing, unlisted or changed."""
    for key in sorted(manifest.parts.keys() | parts.keys()):
        if key not in parts:
            yield Problem(shown(key), "a part, as the manifest lists it", "none")
        elif key not in manifest.parts:
            yield Problem(key, "no part that the manifest does not list", "one")
        elif (digest := sha256(parts[key])) != manifest.parts[key].sha256:
            yield Problem(key, f"SHA-256 {manifest.parts[key].sha256}", digest)
        elif len(parts[key]) != manifest.parts[key].bytes:
            yield Problem(key, f"{manifest.parts[key].bytes:,} bytes", f"{len(parts[key]):,}")


def from_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder that holds nothing else; links are not followed."""
    pending = [folder]
    while pending:
        for entry in sorted(os.scandir(pending.pop()), key=lambda entry: entry.name):
            key = Path(entry.path).relative_to(folder).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if not FOLDER.fullmatch(key):
                    raise Refused(Problem(shown(key), "a folder of the layout", "another"))
                pending.append(Path(entry.path))
                continue
            if not entry.is_file(follow_symlinks=False):
                raise Refused(Problem(shown(key), "a regular file", "a link or a device"))
            check_part(key, entry.stat(follow_symlinks=False).st_size)
            yield key, Path(entry.path).read_bytes()


def from_zip(file: Path) -> Iterator[tuple[str, bytes]]:
    """Every member of a zip file."""
    if (size := file.stat().st_size) > MAX_ZIP:  # every entry of its directory takes memory
        raise Refused(Problem(file.name, f"at most {MAX_ZIP:,} bytes", f"{size:,}"))
    try:
        with zipfile.ZipFile(file) as archive:
            seen, unpacked, most = set(), 0, RATIO * size + SMALL
            for member in archive.infolist():
                name = shown(member.filename)
                if member.is_dir() and FOLDER.fullmatch(member.filename[:-1]):
                    continue
                if member.filename in seen:
                    raise Refused(Problem(name, "one part", "two of this name"))
                seen.add(member.filename)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise Refused(Problem(name, "a regular file", "a link or a device"))
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise Refused(Problem(name, "a member stored or deflated", "another way"))
                check_part(member.filename, member.file_size)
                if (unpacked := unpacked + member.file_size) > most:
                    expected = f"a zip file that unpacks to at most {most:,} bytes"
                    raise Refused(Problem(file.name, expected, f"{unpacked:,} or more"))
                with archive.open(member) as stream:
                    # what a header says of its size may be a lie
                    content = stream.read(member.file_size + 1)
                check_part(member.filename, len(content))
                yield member.filename, content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise Refused(Problem(file.name, "a zip file that can be read", str(error))) from None
    except OSError as error:
        raise HarnessError(f"{file} cannot be read: {error.strerror or error}.") from None


def check_part(key: str, size: int) -> None:
    """Refuse what is not in the layout, and what is too large."""
    if not LAYOUT.fullmatch(key):
        raise Refused(Problem(shown(key), "a part of the layout", "another name"))
    if size > MAX_PART:
        raise Refused(Problem(key, f"at most {MAX_PART:,} bytes", f"{size:,}"))


def shown(name: str) -> str:
    """A stranger's text for a terminal: printable, not too long."""
    short = name if len(name) <= 200 else name[:200] + "…"
    return short if short.isprintable() else repr(short)


def sha256(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def parsed(model: type[Any], content: bytes, part: str) -> Any:
    """A part as its pydantic model; Refused where it is none."""
    strict_json(content, part)
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise Refused(
            *(
                Problem(
                    f"{part}, {shown('.'.join(map(str, e['loc'])))}",
                    e["msg"][:1].lower() + e["msg"][1:],
                    shown(repr(e["input"])),
                )
                for e in error.errors()[:10]
            )
        ) from None


def strict_json(content: bytes, part: str) -> Any:
    """The value of a JSON part; Refused for NaN, infinity, doubled keys and what is no JSON."""
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=no_constant,
            parse_float=finite,
            object_pairs_hook=unique_keys,
        )
    except (ValueError, RecursionError) as error:
        raise Refused(Problem(part, "strict JSON", shown(str(error)))) from None


def no_constant(name: str) -> None:
    """NaN and Infinity are not JSON."""
    raise ValueError(f"{name}, which is not JSON")


def finite(text: str) -> float:
    """A float that exists."""
    if (value := float(text)) in (float("inf"), float("-inf")):
        raise ValueError(f"{text}, which is no float")
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; two readers may take different ones of a doubled key."""
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"key {key!r} twice")
        record[key] = value
    return record
