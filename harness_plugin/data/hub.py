"""Real data sets through `datasets`: pinned, never with remote code, and quick to say "offline".

`datasets` retries an unreachable hub for more than 20 seconds a repository. One short probe a
process comes first, so that a machine without network gets its error, not a wait.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants

from harness_plugin.errors import HarnessError

if TYPE_CHECKING:  # imported where the hub, or a copy of a hub's data set, is asked for
    import datasets

PROBE_SECONDS = 5.0
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"(\w+)-\d{5}-of-\d{5}\.parquet")
ALTERNATIVES = "Use --data PATH with a copy of the release, or --data embedded."


def load_hub(repo: str, name: str | None = None, *, revision: str) -> datasets.DatasetDict:
    """All splits of the hub repository `repo`, configuration `name`, at `revision`.

    A local directory given as `repo` is read without asking the hub (see `load_local`). With
    HF_HUB_OFFLINE=1 an earlier download is used, if it is of that very commit.

    Raises HarnessError when the hub cannot be reached, when the repository, revision or
    configuration does not exist or is gated, and when only a script of its own could load it.
    """
    if Path(repo).is_dir():
        return load_local(Path(repo), name)
    import datasets
    from datasets.exceptions import DatasetsError

    where = f"data set {repo!r} (revision {revision})"
    # the library serves its own cache when it is offline, so it is asked even then
    if not constants.HF_HUB_OFFLINE and (reason := unreachable()):
        raise offline(where, reason)
    try:
        loaded = datasets.load_dataset(repo, name, revision=revision)
    except ConnectionError as error:
        raise offline(where, first_line(error)) from error
    except (DatasetsError, RuntimeError, ValueError, OSError) as error:
        raise HarnessError(
            f"{where} cannot be loaded: {first_line(error)} {ALTERNATIVES}"
        ) from error
    return several(checked_commit(loaded, revision, where), where)


def hub_file(repo: str, file: str, *, revision: str) -> Path:
    """One file of the hub repository `repo` at `revision`, in the hub's cache.

    With HF_HUB_OFFLINE=1 an earlier download of that very revision is used.

    Raises HarnessError when the hub cannot be reached, and when there is no such file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    where = f"file {file!r} of data set {repo!r} (revision {revision})"
    if not constants.HF_HUB_OFFLINE and (reason := unreachable()):
        raise offline(where, reason)
    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    except (LocalEntryNotFoundError, ConnectionError) as error:
        raise offline(where, first_line(error)) from error
    except (HfHubHTTPError, OSError) as error:
        raise HarnessError(
            f"{where} cannot be loaded: {first_line(error)} {ALTERNATIVES}"
        ) from error


def load_local(folder: Path, name: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set in a local directory: `save_to_disk`, or data files (parquet, …).

    `name` chooses a configuration if the directory's card declares it, as a snapshot of a hub
    repository does; a plain directory of data files has none, and is read whole.

    Raises HarnessError naming the directory when it cannot be read.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return several(datasets.load_from_disk(str(folder)), str(folder))
        path = str(folder.resolve())
        known = datasets.get_dataset_config_names(path) if name else []
        loaded = datasets.load_dataset(
            path, name if name in known else None, data_files=shards(folder)
        )
    except (DatasetsError, RuntimeError, ValueError, OSError) as error:
        raise HarnessError(
            f"{folder}: cannot be read as a data set: {first_line(error)}"
        ) from error
    return several(loaded, str(folder))


def shards(folder: Path) -> dict[str, list[str]] | None:
    """The parquet files of each split by the names the hub gives them; None if there is a card.

    Without a card `datasets` guesses splits from words in the names, and reads
    validation_matched-… and validation_mismatched-… as one split.
    """
    files = sorted(folder.rglob("*.parquet"))
    names = [SHARD.fullmatch(file.name) for file in files]
    if (folder / "README.md").is_file() or not files or not all(names):
        return None
    by_split: dict[str, list[str]] = {}
    for file, name in zip(files, names, strict=True):
        by_split.setdefault(name[1] if name else "", []).append(str(file.relative_to(folder)))
    # `datasets` keeps this name for the union of all splits
    return None if "all" in by_split else by_split


def offline(where: str, reason: str) -> HarnessError:
    """The error for a data set that only the hub has."""
    return HarnessError(
        f"the Hugging Face hub cannot be reached ({reason}): {where} was not loaded. {ALTERNATIVES}"
    )


def unreachable() -> str:
    """Why the hub cannot be reached, "" when it can. The network is asked once a process."""
    # the library reads the variable when it is imported; it may have been set since
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES:
        return "HF_HUB_OFFLINE is set"
    return probe(constants.ENDPOINT)


@lru_cache
def probe(endpoint: str) -> str:
    """ "" when `endpoint` answers at all within PROBE_SECONDS, else the reason it does not."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=PROBE_SECONDS)
    except Exception as error:  # which class depends on the HTTP client the hub library uses
        return f"{endpoint}: {first_line(error) or type(error).__name__}"
    return ""


def checked_commit(loaded: datasets.DatasetDict, revision: str, where: str) -> datasets.DatasetDict:
    """`loaded`, unless the library's cache answered offline with another commit than asked for."""
    if constants.HF_HUB_OFFLINE and COMMIT.fullmatch(revision):
        for split in loaded.values():
            for file in split.cache_files:
                if (commit := Path(file["filename"]).parent.name) != revision:
                    raise HarnessError(
                        f"{where}: HF_HUB_OFFLINE is set and the cached copy is of revision "
                        f"{commit}. Load it once with network. {ALTERNATIVES}"
                    )
    return loaded


def several(loaded: object, where: str) -> datasets.DatasetDict:
    """`loaded`, if it has named splits."""
    import datasets

    if not isinstance(loaded, datasets.DatasetDict):
        raise HarnessError(f"{where}: holds one unnamed split; expected named splits (train, …).")
    return loaded


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).splitlines()), "")
