"""What classes need, known without them: our own file, a plugin's class, files that are wrong."""

import json
import sys
from pathlib import Path

import pytest

import harness_plugin_hooks
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.needs import FILE, main, needs_in, needs_of
from harness_plugin.plugins.registry import Offer, load_plugins

OURS = Path(harness_plugin_hooks.__file__).parent


def test_our_file_is_what_our_classes_say():
    assert json.loads((OURS / FILE).read_text()) == needs_in("harness_plugin_hooks", load_plugins())


def offer_of(tmp_path, monkeypatch, name, text=None, stated='frozenset({"groups"})'):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "losses.py").write_text(f"class Mine:\n    needs = {stated}\n")
    if text is not None:
        (tmp_path / name / FILE).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Offer("method", "mine", f"{name}.losses:Mine", "", "theirs")


def test_a_plugin_without_the_file_has_its_own_class_imported(tmp_path, monkeypatch):
    offer = offer_of(tmp_path, monkeypatch, "needs_of_nobody")
    assert needs_of(offer) == {"groups"}
    assert "needs_of_nobody.losses" in sys.modules


def test_a_plugin_with_the_file_has_no_class_imported(tmp_path, monkeypatch):
    text = '{"needs_of_theirs.losses:Mine": ["environments"]}'
    offer = offer_of(tmp_path, monkeypatch, "needs_of_theirs", text)
    assert needs_of(offer) == {"environments"}
    assert "needs_of_theirs.losses" not in sys.modules


def test_the_file_is_written_a_class_a_line(tmp_path, monkeypatch):
    from harness_plugin.plugins import needs

    offer = offer_of(tmp_path, monkeypatch, "needs_written")
    plugins = {kind: [offer] if kind == "method" else [] for kind in needs.KINDS}
    monkeypatch.setattr(needs, "load_plugins", lambda: plugins)
    __import__("needs_written")
    monkeypatch.setattr("sys.argv", ["needs", "needs_written"])
    main()
    written = (tmp_path / "needs_written" / FILE).read_text()
    assert written == '{\n "needs_written.losses:Mine": ["groups"]\n}\n'


def test_a_package_that_offers_nothing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["needs", "nobody"])
    with pytest.raises(SystemExit):
        main()
    assert "offers a class of a package 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "stated", "message"),
    [
        ("needs_broken", "{", "", "needs_broken/needs.json: "),
        ("needs_texts", '{"needs_texts.losses:Mine": "groups"}', "", "Write it again: python -m"),
        ("needs_none", None, "3", "method 'mine' of plugin 'theirs': .* expected a class with"),
    ],
)
def test_what_says_no_needs_is_one_line(tmp_path, monkeypatch, name, text, stated, message):
    offer = offer_of(tmp_path, monkeypatch, name, text, stated or "frozenset()")
    with pytest.raises(HarnessError, match=message) as caught:
        needs_of(offer)
    assert "\n" not in str(caught.value)
