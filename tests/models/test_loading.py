"""What people see while a checkpoint is loaded: nothing, or one line; and how long it takes."""

import logging
import re
import subprocess
import sys

import pytest
import sentencepiece
from logged import logged
from tiny_checkpoints import LABELS, edit_json, edit_weights, tiny

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.config.settings import RoleSettings
from harness_plugin.machine import process_state
from harness_plugin.models import classifiers, hub, processors
from harness_plugin.models.checkpoints import Source, check_settings, locate


@pytest.fixture
def online(monkeypatch):
    """As if nobody had said that there is no network; the hub is a port where nobody listens."""
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    answers = hub.answers
    answers.cache_clear()
    yield
    answers.cache_clear()


def settings(model):
    return RoleSettings(model=model)


def test_a_hub_out_of_reach_is_one_line_at_once(plugins, online, capfd):
    unreachable = r"'org/absent': http.* does not answer, and the cache"
    with logged() as messages, pytest.raises(HarnessError, match=unreachable):
        check_settings(settings("org/absent"), "text", plugins, False)
    assert hub.answers.cache_info().misses == 1  # asked once, and not again
    assert capfd.readouterr().err == ""
    assert messages == []


def test_a_copy_in_the_cache_is_used_without_the_hub(online, monkeypatch, tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: str(file))
    assert hub.options_of("org/cached") == {"local_files_only": True}
    monkeypatch.setattr(hub, "answers", lambda _: True)
    assert hub.options_of("org/cached") == {}
    assert hub.options_of(str(tmp_path)) == {}


@pytest.mark.parametrize(
    "name", ["results/models/teacher", "runs/teacher", "./teacher", "~/teacher", "/a/b", "a\\b/c"]
)
def test_a_mistyped_folder_is_no_id_of_the_hub(plugins, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(HarnessError, match=r"no such folder .an id of the hub is owner/name"):
        locate(settings(name), "text", plugins)
    assert locate(settings("owner/name"), "text", plugins).checkpoint == "owner/name"


# ---- what reaches the terminal


def test_a_new_head_and_a_dropped_one_go_without_a_report(tmp_path, capfd):
    folder = tiny(
        "RoBERTa", tmp_path / "body"
    )  # its pooler has no place, its head none in the file
    capfd.readouterr()
    with logged() as messages:
        model = classifiers.build_model(
            Source("x", checkpoint=str(folder)),
            settings(str(folder)),
            modality="text",
            labels=LABELS,
            processor=processors.load_processor(str(folder), "text"),
            attention="sdpa",
            seed=0,
        )
    assert model.config.num_labels == 2
    assert "".join(capfd.readouterr()) == ""
    assert messages == []


def test_levels_and_bars_are_as_they_were_before(tmp_path):
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    bars = transformers_logging.is_progress_bar_enabled()
    assert logger.isEnabledFor(logging.WARNING)
    with hub.quiet():
        assert not logger.isEnabledFor(logging.WARNING)
        assert not transformers_logging.is_progress_bar_enabled()
        assert logger.isEnabledFor(logging.ERROR)
    assert logger.isEnabledFor(logging.WARNING)
    assert transformers_logging.is_progress_bar_enabled() == bars
    refused = pytest.raises(HarnessError, match=r"^model 'x' cannot be loaded: no reason\. Save it")
    with refused, hub.reading("x"):
        raise TypeError("no reason.")
    assert logger.isEnabledFor(logging.WARNING)
    with process_state.logs():
        logging.disable(logging.ERROR)  # by a caller who wants no errors either
        with hub.quiet():
            assert not logger.isEnabledFor(logging.ERROR)
        assert logging.root.manager.disable == logging.ERROR


def test_missing_weights_are_loud(toy_run, tmp_path, capfd):
    import shutil

    folder = shutil.copytree(toy_run.checkpoint("student"), tmp_path / "student")
    edit_weights(folder, lambda w: {k: v for k, v in w.items() if k != "classifier.bias"})
    command = ["--tasks", "tests/toy/toy.yaml", "--eval_only", "--device", "cpu", "--threads", "1"]
    command += ["--precision", "no", "--attention", "sdpa"]
    command += ["--teacher", str(toy_run.checkpoint("teacher")), "--student", str(folder)]
    assert main([*command, "--output_path", str(tmp_path)]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search("student: checkpoint .*weights are missing.*classifier.bias", lines[0])


RUN = """
import sys
from harness_plugin.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_on_checkpoints_says_nothing_but_its_own_lines(tmp_path):
    folder = tiny("GPT-2", tmp_path / "gpt2")
    words = [sys.executable, "-c", RUN, "--tasks", "tests/toy/toy.yaml", "--seeds", "0"]
    words += ["--device", "cpu", "--threads", "1", "--output_path", str(tmp_path / "out")]
    words += ["--precision", "no", "--attention", "sdpa"]
    words += ["--use_cache", str(tmp_path / "store"), "--resamples", "100"]
    for role in ("teacher", "student"):
        for setting in (f"model={folder}", "init=pretrained", "config={}", "epochs=0.2"):
            words += ["--set", f"{role}.{setting}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "[transformers]" not in done.stdout
    assert "note: its tokenizer has no padding token" in done.stdout


# ---- vocabularies of sentencepiece


SPM = {
    "DeBERTa-v2": ("spm.model", "DebertaV2Tokenizer", ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]),
    "ALBERT": ("spiece.model", "AlbertTokenizer", ["<pad>", "[CLS]", "[SEP]", "<unk>"]),
    "T5": ("spiece.model", "T5Tokenizer", ["<pad>", "", "</s>", "<unk>"]),
}


@pytest.mark.parametrize("name", SPM)
def test_checkpoints_with_a_sentencepiece_model_alone_load(name, tmp_path):
    file, kind, (pad, begin, end, unknown) = SPM[name]
    texts = tmp_path / "texts"
    texts.write_text("\n".join(["the cat sat on a mat", "dogs bark at cats in the yard"] * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts),
        model_prefix=str(tmp_path / "made"),
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        bos_id=1 if begin else -1,
        eos_id=2 if begin else 1,
        unk_id=3 if begin else 2,
        pad_piece=pad,
        bos_piece=begin or "<s>",
        eos_piece=end,
        unk_piece=unknown,
        minloglevel=9,
    )
    folder = tiny(name, tmp_path / name)
    for other in folder.glob("tokenizer*"):
        other.unlink()
    (tmp_path / "made.model").rename(folder / file)
    (folder / "tokenizer_config.json").write_text("{}")
    edit_json(folder / "tokenizer_config.json", tokenizer_class=kind)
    tokenizer = processors.load_processor(str(folder), "text")
    assert tokenizer.is_fast
    row = tokenizer("the cat", "dogs")["input_ids"]
    assert tokenizer.unk_token_id not in row
    assert tokenizer.convert_ids_to_tokens(row)[-1] == end
