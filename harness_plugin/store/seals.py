"""Folders that know what was written into them: a record with size and digest of every file.

A seal is written last and says of every file, and of itself, what its bytes are. What a crash, a
failing disk or a hand has changed since is told apart from what was written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from harness_plugin.store.files import sync_tree, write_json

FILES, DIGEST = "files", "digest"
BLOCK = 1 << 20


class DamagedError(Exception):
    """A sealed folder or file whose bytes are not those that were written; says what differs."""


def digest_of(path: Path) -> str:
    """Digest of a file's bytes: XXH3 with 128 bits, which costs less than reading them."""
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def files_of(folder: Path, apart: str) -> Iterator[Path]:
    """Every file below a folder, without `apart` (a file or folder directly in it)."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] != apart:
            yield path


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON reads it back, with its own digest."""
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str, allow_nan=False))
    return {**plain, DIGEST: own_digest(plain)}


def own_digest(record: Mapping[str, Any]) -> str:
    """Digest of a record's values, whatever the order of its keys."""
    return xxhash.xxh3_128_hexdigest(json.dumps(record, sort_keys=True).encode())


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole and on the disk, that `read_sealed` reads."""
    write_json(path, sealed(record))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """A record that `write_sealed` wrote, without its digest; None when there is none.

    Raises DamagedError when it cannot be read or is not what was written.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read: {error.strerror}") from None
    try:
        record = json.loads(text)
        right = record.pop(DIGEST) == own_digest(record)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        right = False
    if not right:
        raise DamagedError(f"{path.name} is not what was written")
    return dict(record)


def seal(folder: Path, name: str, record: Mapping[str, Any], *, apart: str = "") -> None:
    """Write `record` into `folder` as file `name`, after all else there is on the disk.

    It gets the size in bytes and the digest of every file but those in the subfolder `apart`.
    """
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, digest_of(path)]
        for path in files_of(folder, apart)
        if path != folder / name
    }
    sync_tree(folder)
    write_sealed(folder / name, {**record, FILES: files})


def check_seal(folder: Path, name: str) -> dict[str, Any] | None:
    """The record in a sealed folder, after every file was compared; None when it has none.

    Raises DamagedError that names the first file that is missing, unreadable or other bytes.
    """
    record = read_sealed(folder / name)
    for file, (size, digest) in (record or {}).get(FILES, {}).items():
        try:
            bytes_there = (folder / file).stat().st_size
            if bytes_there != size:
                raise DamagedError(f"{file} has {bytes_there:,} bytes, {size:,} were written")
            if digest_of(folder / file) != digest:
                raise DamagedError(f"the bytes of {file} are not those that were written")
        except OSError as error:
            raise DamagedError(f"{file} cannot be read: {error.strerror}") from None
    return record
