"""The one error a user is meant to read, and the sentence for a name nobody knows."""

from collections.abc import Iterable


class HarnessError(ValueError):
    """Bad input. The command line prints the message alone and exits with status 2."""

    status = 2


class DiskError(HarnessError):
    """A disk that is full, read-only or broken; nothing is wrong with the input: status 1."""

    status = 1


def unknown(kind: str, name: str, known: Iterable[str]) -> HarnessError:
    """The error for a `kind` called `name` that is not among `known`: near matches, then all."""
    import difflib  # most commands end without

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return HarnessError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")
