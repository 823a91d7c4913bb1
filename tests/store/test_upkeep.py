"""`harness cache`: the store is listed, measured, checked, pruned; living runs are spared."""

import os
import time

import pytest
from damage import flip

from harness_plugin.cli.main import main
from harness_plugin.errors import HarnessError
from harness_plugin.store.leases import acquired
from harness_plugin.store.stages import LEASE, Store
from harness_plugin_hooks.commands.train.cache import parser


def write(folder):
    (folder / "weights.bin").write_bytes(bytes(10_000))


@pytest.fixture
def root(tmp_path):
    """Two finished stages, one 40 days old; an interrupted, a broken one, and one being built."""
    store = Store(tmp_path / "store")
    old = store.run("model", {"n": 1}, write).path
    store.run("logits", {"n": 2}, write)
    for name in ("model-cut.partial", "model-bad.broken", "model-busy.partial"):
        (store.root / name).mkdir()
        write(store.root / name)
    (store.root / "machine").mkdir()
    lease = acquired(store.root / "model-busy.lock", LEASE)
    month_ago = time.time() - 40 * 86400
    for folder in (old, *store.root.glob("model-*.*")):
        for path in folder.rglob("*") if folder.is_dir() else ():
            os.utime(path, (month_ago, month_ago))
    yield store.root
    lease.release()


@pytest.fixture
def cache(root, capsys):
    """Run the command; exit status and what it prints."""

    def run(*words):
        status = main(["cache", *words, "--use_cache", str(root)])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    return run


def test_everything_is_listed_and_measured(cache, root):
    status, out = cache("ls")
    assert status == 0
    assert len(out.splitlines()) == 6
    states = {
        line.split()[-1]: line.split()[4] for line in out.splitlines()[:-1] if "(" not in line
    }
    assert states["model-cut.partial"] == "unfinished"
    assert states["model-bad.broken"] == "broken"
    assert [line for line in out.splitlines() if f"process {os.getpid()}" in line]
    status, out = cache("du")
    assert [line.split()[2:] for line in out.splitlines()[:2]] == [["1", "logits"], ["4", "model"]]


def test_damage_is_found(cache, root):
    assert cache("verify") == (0, f"2 stages are whole, 0 damaged, in {root}\n")
    (file,) = root.glob("logits-*/weights.bin")
    flip(file)
    status, out = cache("verify")
    assert status == 1
    assert "the bytes of weights.bin are not those that were written" in out


def test_what_nobody_used_goes_and_what_somebody_builds_stays(cache, root):
    before = sorted(path.name for path in root.iterdir())
    assert cache("prune", "--older", "30d", "--dry_run")[0] == 0
    assert sorted(path.name for path in root.iterdir()) == before
    cache("prune", "--older", "30d", "--unfinished")
    assert not list(root.glob("model-cut*")) + list(root.glob("model-bad*"))
    assert len(list(root.glob("model-*"))) == 3  # the old one; the busy one and its lock
    status, out = cache("prune", "--older", "30d")
    assert status == 0
    assert "kB freed in" in out
    left = {path.name.partition("-")[0] for path in root.iterdir()}
    assert left == {"logits", "machine", "model"}
    assert {path.suffix for path in root.glob("model-*")} == {".partial", ".lock"}


def test_an_age_must_be_said(cache):
    for words, message in ((["prune"], "--older AGE"), (["prune", "--older", "soon"], "e.g. 30d")):
        status, out = cache(*words)
        assert status == 2
        assert message in out
    with pytest.raises(HarnessError, match="invalid choice"):
        parser().parse_args(["empty"])


def test_a_store_that_is_not_there_is_empty(tmp_path, capsys):
    assert main(["cache", "ls", "--use_cache", str(tmp_path / "none")]) == 0
    assert "0 B in 0 stages" in capsys.readouterr().out
