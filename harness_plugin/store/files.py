"""Files written whole or not at all, values as strict JSON has them, and the time in file names.

A file that is complete survives a power cut: bytes are on the disk before they get their name, and
the name is on the disk before the writer goes on.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.errors import DiskError, HarnessError

if TYPE_CHECKING:
    import pyarrow as pa

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk."""
BROKEN = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Error numbers of an unusable disk or folder; a wrong path is another thing."""
NUMBER = re.compile(r"\b(?:os error|errno) (\d+)", re.IGNORECASE)
"""How libraries that are not written in Python quote the system."""
SHORT = re.compile(r"\d+ requested and \d+ written")
"""NumPy's message where the system took less than it was given."""


def timestamp(seconds: float) -> str:
    """The moment a run started, as it stands in file names."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H-%M-%S.%f")


def strict(value: Any) -> Any:
    """`value` as JSON knows it: no NaN (null instead), no tuples, no NumPy scalars."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:  # nearly every value there is
        return value
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems know no fsync of folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


AT_ONCE = 16
"""Files that are synced at a time: a file system writes its journal once for all that wait."""


def sync_all(paths: Iterable[Path]) -> None:
    """`sync` files or folders, in any order."""
    from concurrent.futures import ThreadPoolExecutor  # with `logging`; not for `--help`

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(sync, paths))


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below `folder`, and itself; what lies in a folder before it."""
    every = list(folder.rglob("*"))
    folders = {path for path in every if path.is_dir()}
    sync_all(path for path in every if path not in folders)
    for depth in sorted({len(path.parts) for path in folders}, reverse=True):
        sync_all(path for path in folders if len(path.parts) == depth)
    sync(folder)


def rename(old: Path, new: Path) -> None:
    """Give a file or folder that is on the disk its name; the name is on the disk as well."""
    os.replace(old, new)
    sync(new.parent)


_LATER = ContextVar("_LATER", default=False)


@contextmanager
def synced_together(folder: Path) -> Iterator[None]:
    """Context in which files written below `folder` are synced at the end, not one by one."""
    token = _LATER.set(True)
    try:
        yield
    finally:
        _LATER.reset(token)
    sync_tree(folder)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to be written beside `path`: it takes its place at the end, and is gone on failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if _LATER.get():
            os.replace(temporary, path)
        else:
            sync(temporary)
            rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def disk_error(folder: Path, error: BaseException | None) -> DiskError | None:
    """The one line for a disk that `error` comes from; None where it is of another kind.

    `folder` is where something was being written, unless the error says where. Libraries wrap the
    system's errors in their own, and torch says no more than that writing failed: then a disk
    without space is why.
    """
    number, cause = None, error
    while cause is not None and number is None:
        quoted = NUMBER.search(str(cause))
        if isinstance(cause, OSError) and cause.errno in BROKEN:
            number, folder = cause.errno, Path(cause.filename or folder)
        elif quoted and int(quoted[1]) in BROKEN:
            number = int(quoted[1])
        elif SHORT.search(str(cause)):
            number = errno.ENOSPC
        cause = cause.__cause__ or cause.__context__
    above = (folder.absolute(), *folder.absolute().parents)
    place = next(each for each in above if os.path.exists(each))
    free = shutil.disk_usage(place).free
    if number is None and free < 1 << 16 and isinstance(error, RuntimeError):
        number = errno.ENOSPC
    if number is None:
        return None
    message = os.strerror(number)
    if number not in FULL:
        return DiskError(f"{folder}: cannot be used: {message}.")
    while not os.path.ismount(place):
        place = place.parent
    return DiskError(
        f"{folder}: cannot be written: {message}; {free / 1e6:,.1f} MB are free on the disk at "
        f"{place}. Make space there: what is finished is kept, and the same command continues."
    )


def path_error(error: Exception) -> HarnessError | None:
    """The one line for a path that does not work; None where `error` is about something else."""
    if isinstance(error, OSError) and error.filename is not None:
        return HarnessError(f"{str(error.filename)[:200]}: {message_of(error)}.")
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return HarnessError("a path holds a NUL character, which no file's name has.")
    return None


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the disk of `folder` inside into a DiskError."""
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        if (named := disk_error(folder, error)) is not None:
            raise named from error
        raise


RUN = "{run}/"
"""Begins a path that is relative to the folder of the file it stands in."""
USER = "{user}"
"""Stands for the user's name, as the last part of the home folder has it."""
HOMES = re.compile(r"/(home|Users)/[^/]+|/root")
"""Folders whose names say who somebody is."""


def portable(value: Any, folder: Path) -> Any:
    """A JSON value without absolute paths and user names, that `located` reads in `folder`.

    A path becomes relative to `folder` ("{run}/../store"), or to the home folder ("~/store") where
    only that is shared; in somebody else's home folder its last part is all that stays. It may
    lead out of `folder`: a run must find its store and data again.
    """
    if isinstance(value, Mapping):
        return {key: portable(item, folder) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(item, folder) for item in value]
    if not isinstance(value, str):
        return value
    here, home = os.path.abspath(folder), os.path.expanduser("~")
    if not os.path.isabs(value):
        is_path = value.startswith(("./", "../", "~/"))
        return renamed(value, os.path.basename(home), USER) if is_path else value
    if len(value) < 2:
        return value
    path = os.path.normpath(value)
    below_home = home != "/" and is_below(path, home)
    if below_home and os.path.commonpath([here, path]) in ("/", "//"):
        path = os.path.join("~", os.path.relpath(path, home))
    elif (owner := HOMES.match(path)) and not below_home and not is_below(here, owner[0]):
        return os.path.basename(path)
    else:
        path = RUN + os.path.relpath(path, here)
    return renamed(path, os.path.basename(home), USER)


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it; both are absolute."""
    return os.path.commonpath([path, folder]) == folder


def renamed(path: str, old: str, new: str) -> str:
    """A path with other names for its parts that are called `old`."""
    return "/".join(new if part == old else part for part in path.split("/"))


def named(path: str) -> str:
    """A path as a page says it, which others read: below the working folder, or its last part."""
    if not os.path.isabs(path):
        return path
    below = os.path.commonpath([os.getcwd(), path]) == os.getcwd()
    return os.path.relpath(path) if below else os.path.basename(path.rstrip("/"))


def located(value: Any, folder: Path) -> Any:
    """The inverse of `portable`: paths of this machine again."""
    if isinstance(value, dict):
        return {key: located(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [located(item, folder) for item in value]
    if not isinstance(value, str) or not value.startswith((RUN, "~/", "./", "../")):
        return value
    path = renamed(value, USER, os.path.basename(os.path.expanduser("~")))
    if path.startswith(RUN):
        return os.path.normpath(os.path.join(os.path.abspath(folder), path[len(RUN) :]))
    return os.path.expanduser(path)


def read_json(path: Path) -> Any:
    """The value in a strict JSON file, paths `located`; HarnessError naming the file."""
    text = read_text(path)
    try:
        value = json.loads(text, parse_constant=no_constant)
        if "\\ud" in text.lower():  # half a character can be escaped in JSON, and written nowhere
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return located(value, path.parent)
    except (ValueError, RecursionError) as error:
        problem = "nested too deep" if isinstance(error, RecursionError) else error
        raise HarnessError(f"{path}: is no JSON file ({problem}).") from None


def no_constant(name: str) -> None:
    """NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


def check_is_file(path: Path) -> None:
    """Refuse what is not a plain file: a device never ends, a pipe may never begin.

    Raises HarnessError that says what it is instead.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        name = str(path) if str(path).isprintable() else repr(str(path))
        raise HarnessError(f"{name}: cannot be read: {message_of(error)}.") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise HarnessError(f"{path}: expected a file, this is {kind}.")


def read_text(path: Path) -> str:
    """A UTF-8 file; HarnessError where it cannot be read, naming it."""
    check_is_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path}: cannot be read: {message_of(error)}.") from None


def message_of(error: Exception) -> str:
    """An error's words without the numbers and names that Python puts around them."""
    return getattr(error, "strerror", None) or str(error)


STRICT = json.JSONEncoder(allow_nan=False)
"""One for all lines: `json.dumps` makes an encoder each time."""


def json_line(value: Any) -> str:
    """`value` as one line of strict JSON, with its line end."""
    try:
        return STRICT.encode(value) + "\n"
    except (TypeError, ValueError):  # it holds a NaN, or what is no JSON
        return json.dumps(strict(value), allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically: a reader never sees half a file."""
    write_parts(path, [text])


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write a text that need not fit in memory, atomically."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)
        stream.flush()  # before `whole` waits for the disk


def write_json(path: Path, value: Any) -> None:
    """Write `value` as strict JSON, atomically. Raises ValueError for a nan."""
    text = json.dumps(value, indent=2, allow_nan=False, default=str, ensure_ascii=False)
    write_text(path, text + "\n")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Strict JSON: null for what is undefined."""
    write_text(path, json.dumps(strict(record), indent=1, allow_nan=False) + "\n")


def write_table(
    path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None = None
) -> None:
    """Parquet; null for nan. Without a `schema` the types are those of the values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([strict(row) for row in rows], schema)
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
