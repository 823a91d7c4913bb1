"""A training that is interrupted, damaged or out of space gives the bytes of an undisturbed one."""

import errno
import os

import pytest
from accelerate import Accelerator
from damage import flip
from safetensors.torch import load_file

from harness_plugin.errors import DiskError, HarnessError
from harness_plugin.pipeline.roles.trainer import RoleTrainer
from harness_plugin.training import loop

SHORT = ("teacher.epochs=0.6",)  # nine updates of the toy task


@pytest.fixture
def train(open_context):
    """Train the toy teacher in a store; its weights."""

    def trained(store="store", *sets):
        ctx = open_context(*SHORT, *sets, store=store, checkpoint_steps=3)
        path = ctx.trained("teacher", ctx.settings.teacher, "erm", 0).path
        return {k: v.numpy().tobytes() for k, v in load_file(path / "model.safetensors").items()}

    return trained


def stop_at(monkeypatch, update):
    """Ctrl-C in the update; undone by `monkeypatch.undo`."""
    original, count = loop.one_update, iter(range(10**6))

    def stopping(*args):
        if next(count) == update:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(loop, "one_update", stopping)


def test_a_damaged_checkpoint_is_named_and_the_training_begins_again(
    train, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        stop_at(patched, 5)
        with pytest.raises(KeyboardInterrupt):
            train("cut")
    (file,) = tmp_path.glob("cut/model-*.partial/resume/checkpoint-3/optimizer.bin")
    flip(file)
    assert train("cut") == train("whole")
    assert "checkpoint-3: the bytes of optimizer.bin are not those" in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_written_ends_no_training(train, monkeypatch, capsys):
    save, calls = Accelerator.save_state, []

    def full(self, folder):
        calls.append(folder)
        if len(calls) == 1:
            save(self, folder)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{folder}/model.safetensors")
        return save(self, folder)

    expected = train("whole")
    monkeypatch.setattr(Accelerator, "save_state", full)
    assert train("full") == expected
    assert len(calls) == 2  # the next one is tried again
    output = capsys.readouterr().out
    assert "no checkpoint after update 3: " in output
    assert "No space left on device" in output
    assert "MB are free on the disk at" in output


def test_a_model_that_cannot_be_written_keeps_the_checkpoint(train, tmp_path, monkeypatch):
    def full(self, model, processor, folder, record, spec):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "model.safetensors"))

    with monkeypatch.context() as patched:
        patched.setattr(RoleTrainer, "save", full)
        with pytest.raises(DiskError, match=r"model\.safetensors: cannot be written: No space"):
            train("full")
    assert list(tmp_path.glob("full/model-*.partial/resume/checkpoint-6/progress.json"))
    with monkeypatch.context() as patched:
        stop_at(patched, 3)  # three updates are left
        weights = train("full")
    assert weights == train("whole")
    assert not list(tmp_path.glob("full/*.partial"))
    assert not list(tmp_path.glob("full/model-*/resume"))


def test_a_configuration_that_cannot_be_saved_is_refused_before_training(train, monkeypatch):
    monkeypatch.setattr(loop, "fit", lambda *a: pytest.fail("trained"))
    refused = "teacher.config={output_attentions: true}"
    with pytest.raises(HarnessError, match=r"teacher: transformers cannot save .*output_attention"):
        train("refused", refused)
